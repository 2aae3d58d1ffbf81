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
	// Haste divides the waiting times between retries. 0 means 1.
	Haste int
	// Silence divides the timeouts for servers that send nothing. 0 means 1.
	Silence int
}

// Wait returns the waiting time before a retry, given the usual one.
func (t Transport) Wait(usual time.Duration) time.Duration {
	return usual / time.Duration(max(1, t.Haste))
}

// SilentAfter returns the timeout for a server that sends nothing, given the usual one.
func (t Transport) SilentAfter(usual time.Duration) time.Duration {
	return usual / time.Duration(max(1, t.Silence))
}
