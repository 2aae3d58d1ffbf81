package storage

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/xml"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"syscall"
	"time"
)

// retries says how often an operation is tried again that failed for a reason
// that passes, and passes every try through the pace of the storage.
//
// An operation that the server refuses as too much is not counted out while the server
// takes others: it fails once nothing at all was taken for as long as patience, or when
// it was refused for the twentieth time while the server took most of what it was asked.
// Then it is not refused for being one too many.
type retries struct {
	pace  *pace // nil: nothing is held back
	tries int   // at most, the first included, of what is no refusal
	// The wait before the second try is between half of base and base, and each
	// following one twice that, up to max. Half of it is random, so that many
	// goroutines that were told to slow down do not return together.
	base, max time.Duration
	random    func() float64 // in [0, 1)
	patience  time.Duration  // with a server that refuses everything
	silence   time.Duration  // after which an operation is not tried again, if nothing was answered
}

// refusedTries is how often an operation may be refused by a server that takes most.
const refusedTries = 20

// defaultRetries gives a storage between 22 and 45 seconds to come back, over
// eight tries: as long as a MinIO takes to restart, and S3 to split a partition.
var defaultRetries = retries{tries: 8, base: 400 * time.Millisecond, max: 20 * time.Second, random: rand.Float64, patience: time.Minute, silence: 2 * time.Minute}

// hasten makes all waits shorter.
func (r retries) hasten(t Transport) retries {
	r.base, r.max, r.patience, r.silence = t.Wait(r.base), t.Wait(r.max), t.Wait(r.patience), t.SilentAfter(r.silence)
	return r
}

// do calls op until it succeeds, fails for good, or has had its tries, and
// returns its last error. It returns ctx's error as soon as ctx is done.
func (r retries) do(ctx context.Context, op func() error) error {
	var before paceTotals
	if r.pace != nil {
		before = r.pace.totals()
		if lost := before.gaveUp; lost != nil && before.at.Sub(lost.at) < r.pace.quiet {
			return lost
		}
	}
	for try := 1; ; try++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := r.send(ctx, op)
		if err == nil {
			return nil
		}
		if ctxErr := ctx.Err(); ctxErr != nil {
			return ctxErr
		}
		if !transient(err) {
			return err
		}
		if r.exhausted(try, before, err) {
			return r.explain(before, err)
		}
		if err := r.wait(ctx, try); err != nil {
			return err
		}
	}
}

func (r retries) send(ctx context.Context, op func() error) error {
	if r.pace == nil {
		return op()
	}
	return r.pace.do(ctx, op)
}

// exhausted reports whether an operation that has failed so often has had its tries.
// before is what the pace knew when it began.
func (r retries) exhausted(try int, before paceTotals, err error) bool {
	if r.pace == nil {
		return try >= r.tries
	}
	now := r.pace.totals()
	if !busy(err) {
		return try >= r.tries || now.gaveUp != nil || now.at.Sub(latest(now.heard, before.at)) >= r.silence
	}
	silent := now.at.Sub(latest(now.accepted, before.at))
	return silent >= r.patience || try >= refusedTries && now.taken-before.taken > now.refused-before.refused
}

// silence is the error of an operation that ended since the server answered nothing at all.
type silence struct {
	error
	lasted time.Duration
	at     time.Time // when it ended
}

func (s *silence) Unwrap() error { return s.error }

// explain makes the last error a silence, if it is one. What begins in the next half minute
// fails at once with it: otherwise each step of a run would wait for minutes.
func (r retries) explain(before paceTotals, err error) error {
	if r.pace == nil || timedOut(err) == nil {
		return err
	}
	now := r.pace.totals()
	lasted := now.at.Sub(latest(now.heard, before.at))
	if earlier := now.gaveUp; earlier != nil {
		lasted = earlier.lasted + now.at.Sub(earlier.at)
	} else if lasted < r.silence {
		return err
	}
	lost := &silence{err, lasted, now.at}
	r.pace.giveUp(lost)
	return lost
}

// wait sleeps after the given failed try.
func (r retries) wait(ctx context.Context, try int) error {
	timer := time.NewTimer(r.delay(try))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// delay is how long to wait after the given failed try, counted from 1.
func (r retries) delay(try int) time.Duration {
	whole := r.base
	for i := 1; i < try && whole < r.max; i++ {
		whole *= 2
	}
	whole = min(whole, r.max)
	return whole/2 + time.Duration(r.random()*float64(whole/2))
}

// transient reports whether the same request may well succeed a little later.
// What it does not know is final: a denied access or a wrong name only costs the
// user a minute when it is tried again.
func transient(err error) bool {
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
	if code := errorCode(err); code != "" {
		if transientCode(code) {
			return true
		}
	}
	if status := errorStatus(err); status != 0 && status != http.StatusOK {
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

// transientCode reports whether an S3 error code, of a request or of one key in
// a bulk removal, names a reason that passes.
// Source: the list of error codes in the S3 API reference.
func transientCode(code string) bool {
	switch code {
	case "InternalError", "ServiceUnavailable", "SlowDown", "SlowDownRead", "SlowDownWrite",
		"RequestTimeout", "RequestTimeoutException", "RequestLimitExceeded",
		"Throttling", "ThrottlingException", "BandwidthLimitExceeded",
		"TooManyRequests", "OperationAborted", "IncompleteBody", "KMS.ThrottlingException",
		"KMS.DependencyTimeoutException", "KMS.KMSInternalException", "KMS.KeyUnavailableException":
		return true
	}
	return false
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
		timedOut(err) != nil ||
		errors.As(err, &network) || errors.As(err, &cut)
}

// Final marks an error that is not to be tried again, whatever it looks like.
func Final(err error) error { return final{err} }

type final struct{ error }

func (f final) Unwrap() error { return f.error }

// errorCode is the S3 error code in err, or "".
func errorCode(err error) string {
	var v2 interface{ ErrorCode() string }
	if errors.As(err, &v2) {
		return v2.ErrorCode()
	}
	var v1 interface{ Code() string } // what Distribution's S3 driver returns
	if errors.As(err, &v1) {
		return v1.Code()
	}
	return ""
}

// errorStatus is the HTTP status in err, or 0.
func errorStatus(err error) int {
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

// timedOut returns the error of a server that sent nothing for too long, or nil. The SDK's is
// no net.Error.
func timedOut(err error) error {
	var timeout interface {
		error
		Timeout() bool
	}
	if errors.As(err, &timeout) && timeout.Timeout() {
		return timeout
	}
	return nil
}
