package storage

import "cmp"

// Limits bound the requests to a storage. They count all requests of a run together. The zero
// value needs no tuning on a laptop, on NFS or on S3: package pace finds out what a server accepts.
type Limits struct {
	// Concurrency is the maximum number of concurrent requests. 0 means the backend's default.
	Concurrency int
	// MaxRequests is the maximum number of requests that begin in a second. 0 means no limit.
	MaxRequests int
}

// AtOnce returns the maximum number of concurrent requests. own is the backend's default.
func (l Limits) AtOnce(own int) int { return cmp.Or(l.Concurrency, own) }
