package pace

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

	"regsweep/storage"
)

// Retries says how often an operation is tried again that failed for a reason
// that passes, and passes every try through the pace of the storage.
//
// An operation that the server refuses as too much is not counted out while the server
// takes others: it fails once nothing at all was taken for as long as patience, or when
// it was refused for the twentieth time while the server took most of what it was asked.
// Then it is not refused for being one too many.
type Retries struct {
	Pace  *Pace // nil: nothing is held back
	Tries int   // at most, the first included, of what is no refusal
	// The wait before the second try is between half of base and base, and each
	// following one twice that, up to max. Half of it is random, so that many
	// goroutines that were told to slow down do not return together.
	Base, Max time.Duration
	random    func() float64 // in [0, 1)
	Patience  time.Duration  // with a server that refuses everything
	silence   time.Duration  // after which an operation is not tried again, if nothing was answered
}

// refusedTries is how often an operation may be refused by a server that takes most.
const refusedTries = 20

// DefaultRetries gives a storage between 22 and 45 seconds to come back, over
// eight tries: as long as a MinIO takes to restart, and S3 to split a partition.
var DefaultRetries = Retries{Tries: 8, Base: 400 * time.Millisecond, Max: 20 * time.Second, random: rand.Float64, Patience: time.Minute, silence: 2 * time.Minute}

// Hasten makes all waits shorter.
func (r Retries) Hasten(t storage.Transport) Retries {
	r.Base, r.Max, r.Patience, r.silence = t.Wait(r.Base), t.Wait(r.Max), t.Wait(r.Patience), t.SilentAfter(r.silence)
	return r
}

// Do calls op until it succeeds, fails for good, or has had its tries, and
// returns its last error. It returns ctx's error as soon as ctx is done.
func (r Retries) Do(ctx context.Context, op func() error) error {
	var before paceTotals
	if r.Pace != nil {
		before = r.Pace.totals()
		if lost := before.gaveUp; lost != nil && before.at.Sub(lost.at) < r.Pace.quiet {
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
		if !Transient(err) {
			return err
		}
		if r.exhausted(try, before, err) {
			return r.explain(before, err)
		}
		if err := r.Wait(ctx, try); err != nil {
			return err
		}
	}
}

func (r Retries) send(ctx context.Context, op func() error) error {
	if r.Pace == nil {
		return op()
	}
	return r.Pace.do(ctx, op)
}

// exhausted reports whether an operation that has failed so often has had its tries.
// before is what the pace knew when it began.
func (r Retries) exhausted(try int, before paceTotals, err error) bool {
	if r.Pace == nil {
		return try >= r.Tries
	}
	now := r.Pace.totals()
	if !busy(err) {
		return try >= r.Tries || now.gaveUp != nil || now.at.Sub(latest(now.heard, before.at)) >= r.silence
	}
	silent := now.at.Sub(latest(now.accepted, before.at))
	return silent >= r.Patience || try >= refusedTries && now.taken-before.taken > now.refused-before.refused
}

// Silence is the error of an operation that ended since the server answered nothing at all.
type Silence struct {
	error
	Lasted time.Duration
	at     time.Time // when it ended
}

func (s *Silence) Unwrap() error { return s.error }

// explain makes the last error a silence, if it is one. What begins in the next half minute
// fails at once with it: otherwise each step of a run would wait for minutes.
func (r Retries) explain(before paceTotals, err error) error {
	if r.Pace == nil || TimedOut(err) == nil {
		return err
	}
	now := r.Pace.totals()
	lasted := now.at.Sub(latest(now.heard, before.at))
	if earlier := now.gaveUp; earlier != nil {
		lasted = earlier.Lasted + now.at.Sub(earlier.at)
	} else if lasted < r.silence {
		return err
	}
	lost := &Silence{err, lasted, now.at}
	r.Pace.giveUp(lost)
	return lost
}

// Wait sleeps after the given failed try.
func (r Retries) Wait(ctx context.Context, try int) error {
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
func (r Retries) delay(try int) time.Duration {
	whole := r.Base
	for i := 1; i < try && whole < r.Max; i++ {
		whole *= 2
	}
	whole = min(whole, r.Max)
	return whole/2 + time.Duration(r.random()*float64(whole/2))
}

// Transient reports whether the same request may well succeed a little later.
// What it does not know is final: a denied access or a wrong name only costs the
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
	if code := ErrorCode(err); code != "" {
		if transientCode(code) {
			return true
		}
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
		TimedOut(err) != nil ||
		errors.As(err, &network) || errors.As(err, &cut)
}

// Final marks an error that is not to be tried again, whatever it looks like.
func Final(err error) error { return final{err} }

type final struct{ error }

func (f final) Unwrap() error { return f.error }

// ErrorCode is the S3 error code in err, or "".
func ErrorCode(err error) string {
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
