package storage

import "cmp"

// Limits bound what is asked of a storage at once and in a second, by all that a run
// does together. The zero value needs no tuning on a laptop, on NFS or on S3: what a
// server thinks too much is found out (see pace).
type Limits struct {
	// Concurrency is how many requests may be under way; the backend's own number
	// if it is 0.
	Concurrency int
	// MaxRequests is how many requests may begin in a second; without bound if it
	// is 0.
	MaxRequests int
}

// How many requests are under way where nobody says. At the 15 to 30 ms that S3 takes, 64
// come to half of what it sustains for one prefix. On a filesystem every read under way
// holds a thread.
const (
	s3Concurrency         = 64
	filesystemConcurrency = 32
	driverConcurrency     = 32
)

func (l Limits) concurrency(own int) int { return cmp.Or(l.Concurrency, own) }
