package storage

import (
	"net/http"
	"time"
)

// HTTPClient sends requests.
type HTTPClient interface {
	Do(*http.Request) (*http.Response, error)
}

// Transport changes how requests are sent to an S3 server. The zero value changes nothing.
type Transport struct {
	// Wrap, if set, wraps the HTTP client of the S3 client. Tests make requests fail there.
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

// SilentAfter is how long a server may send nothing, instead of the usual time.
func (t Transport) SilentAfter(usual time.Duration) time.Duration {
	return usual / time.Duration(max(1, t.Silence))
}
