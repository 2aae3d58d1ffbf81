package pace

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/xml"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"syscall"
	"time"
)

// passing are the S3 error codes, of a request or of one key in a bulk removal, whose reason
// passes. The value says whether the reason is too many requests.
// Source: the list of error codes in the S3 API reference.
var passing = map[string]bool{
	"SlowDown": true, "SlowDownRead": true, "SlowDownWrite": true, "ServiceUnavailable": true,
	"Throttling": true, "ThrottlingException": true, "RequestLimitExceeded": true, "BandwidthLimitExceeded": true,
	"TooManyRequests": true, "KMS.ThrottlingException": true,

	"InternalError": false, "RequestTimeout": false, "RequestTimeoutException": false, "OperationAborted": false,
	"IncompleteBody": false, "KMS.DependencyTimeoutException": false, "KMS.KMSInternalException": false,
	"KMS.KeyUnavailableException": false,
}

// Transient reports whether the same request may well succeed a little later.
// Unknown errors are final: a denied access or a wrong name only costs the
// user a minute when it is tried again.
func Transient(err error) bool {
	var last final
	if errors.As(err, &last) || errors.Is(err, context.Canceled) || neverConnects(err) {
		return false
	}
	// The SDK says so of a request that was signed with a clock that is off; it
	// has learnt the difference by then.
	var said interface{ RetryableError() bool }
	if errors.As(err, &said) {
		return said.RetryableError()
	}
	if _, passes := passing[ErrorCode(err)]; passes {
		return true
	}
	if status := ErrorStatus(err); status != 0 && status != http.StatusOK {
		return transientStatus(status)
	}
	return transientConnection(err)
}

// neverConnects is for connections that fail the same way every time.
func neverConnects(err error) bool {
	var (
		dns         *net.DNSError
		certificate *tls.CertificateVerificationError
		unknown     x509.UnknownAuthorityError
		host        x509.HostnameError
		noTLS       tls.RecordHeaderError
	)
	if errors.As(err, &dns) {
		return dns.IsNotFound
	}
	return errors.As(err, &certificate) || errors.As(err, &unknown) ||
		errors.As(err, &host) || errors.As(err, &noTLS)
}

func transientStatus(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooManyRequests:
		return true
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported:
		return false
	}
	return status >= 500
}

// transientConnection is for errors without an answer from the storage, or with
// half of one.
func transientConnection(err error) bool {
	var network *net.OpError
	var cut *xml.SyntaxError
	return errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		errors.Is(err, net.ErrClosed) ||
		TimedOut(err) != nil ||
		errors.As(err, &network) || errors.As(err, &cut)
}

// Final marks an error that is not to be tried again, whatever it looks like.
func Final(err error) error { return final{err} }

type final struct{ error }

func (f final) Unwrap() error { return f.error }

// judge tells an answer that asks to slow down from one that may or may not: a 5xx now
// and then is an accident, and many are overload. after is what Retry-After says, or 0.
func judge(err error, now time.Time) (refused, fault bool, after time.Duration) {
	if err == nil {
		return false, false, 0
	}
	status := ErrorStatus(err)
	refused = busy(err)
	fault = !refused && (ErrorCode(err) == "InternalError" || transientStatus(status) && status >= 500)
	if refused || fault {
		after = retryAfter(err, now)
	}
	return refused, fault, after
}

// busy reports whether the server refused a request, or one key of a bulk removal,
// because there are too many.
func busy(err error) bool {
	status := ErrorStatus(err)
	return passing[ErrorCode(err)] || status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable
}

// retryAfter reads what an error has of the header of that name, seconds or a date, or returns 0.
func retryAfter(err error, now time.Time) time.Duration {
	var answered interface{ RetryAfter() string }
	if !errors.As(err, &answered) {
		return 0
	}
	value := answered.RetryAfter()
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if date, err := http.ParseTime(value); err == nil {
		return max(0, date.Sub(now))
	}
	return 0
}

// ErrorCode is the S3 error code in err, or "".
func ErrorCode(err error) string {
	var v2 interface{ ErrorCode() string }
	if errors.As(err, &v2) {
		return v2.ErrorCode()
	}
	var v1 interface{ Code() string } // an error of Distribution's S3 driver
	if errors.As(err, &v1) {
		return v1.Code()
	}
	return ""
}

// ErrorStatus is the HTTP status in err, or 0.
func ErrorStatus(err error) int {
	var v2 interface{ HTTPStatusCode() int }
	if errors.As(err, &v2) {
		return v2.HTTPStatusCode()
	}
	var v1 interface{ StatusCode() int }
	if errors.As(err, &v1) {
		return v1.StatusCode()
	}
	return 0
}

// TimedOut returns the error of a server that sent nothing for too long, or nil. The SDK's is
// no net.Error.
func TimedOut(err error) error {
	var timeout interface {
		error
		Timeout() bool
	}
	if errors.As(err, &timeout) && timeout.Timeout() {
		return timeout
	}
	return nil
}
