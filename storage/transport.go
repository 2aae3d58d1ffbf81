package storage

import (
	"net/http"
	"time"
)

// HTTPClient sends requests.
type HTTPClient interface {
	Do(*http.Request) (*http.Response, error)
}

// Transport is how requests leave for an S3 server. The zero value is the usual one.
type Transport struct {
	// Wrap, if set, returns what stands between the S3 client and the network. Tests let
	// requests fail there.
	Wrap func(HTTPClient) HTTPClient
	// Haste divides the times that a storage waits before it asks a server again; 0 is 1.
	Haste int
	// Silence divides the times after which a server that sends nothing counts as silent; 0 is 1.
	Silence int
}

// Wait is how long to wait instead of the usual time.
func (t Transport) Wait(usual time.Duration) time.Duration {
	return usual / time.Duration(max(1, t.Haste))
}

// SilentAfter is when a server counts as silent instead of after the usual time.
func (t Transport) SilentAfter(usual time.Duration) time.Duration {
	return usual / time.Duration(max(1, t.Silence))
}
