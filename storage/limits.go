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

// AtOnce is how many requests may be under way, for a backend with a number of its own.
func (l Limits) AtOnce(own int) int { return cmp.Or(l.Concurrency, own) }
