package storage

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
)

// answered is an error as the SDK makes it of a server's answer.
func answered(status int, code string) error {
	return &smithy.OperationError{ServiceID: "S3", OperationName: "GetObject", Err: &smithyhttp.ResponseError{
		Response: &smithyhttp.Response{Response: &http.Response{StatusCode: status}},
		Err:      &smithy.GenericAPIError{Code: code},
	}}
}

// sent is an error as the SDK makes it of a request that got no answer.
func sent(err error) error {
	return &smithyhttp.RequestSendError{Err: &url.Error{Op: "Get", URL: "http://server", Err: err}}
}

func TestTransient(t *testing.T) {
	dial := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	for name, test := range map[string]struct {
		err  error
		want bool
	}{
		"SlowDown":                 {answered(503, "SlowDown"), true},
		"500":                      {answered(500, ""), true},
		"502":                      {answered(502, "UnknownError"), true},
		"429":                      {answered(429, "UnknownError"), true},
		"408":                      {answered(408, ""), true},
		"RequestTimeout":           {answered(400, "RequestTimeout"), true},
		"one key of a removal":     {&smithy.GenericAPIError{Code: "InternalError"}, true},
		"reset":                    {sent(dial(os.NewSyscallError("read", syscall.ECONNRESET))), true},
		"refused":                  {sent(dial(os.NewSyscallError("connect", syscall.ECONNREFUSED))), true},
		"timeout":                  {sent(os.ErrDeadlineExceeded), true},
		"DNS server down":          {sent(dial(&net.DNSError{IsTemporary: true})), true},
		"closed before the answer": {sent(io.EOF), true},
		"half a body":              {fmt.Errorf("read: %w", io.ErrUnexpectedEOF), true},
		"half a page":              {answeredBadly(200, &xml.SyntaxError{Msg: "unexpected EOF"}), true},
		"wrapped by a driver":      {storagedriver.Error{Detail: answered(503, "SlowDown")}, true},

		"NoSuchKey":           {answered(404, "NoSuchKey"), false},
		"AccessDenied":        {answered(403, "AccessDenied"), false},
		"denied key":          {&smithy.GenericAPIError{Code: "AccessDenied"}, false},
		"bad request":         {answered(400, "InvalidArgument"), false},
		"NotImplemented":      {answered(501, "NotImplemented"), false},
		"precondition":        {answered(412, "PreconditionFailed"), false},
		"no such host":        {sent(dial(&net.DNSError{IsNotFound: true})), false},
		"untrusted":           {sent(&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}), false},
		"no TLS":              {sent(tls.RecordHeaderError{Msg: "http"}), false},
		"cancelled":           {sent(context.Canceled), false},
		"permission":          {fs.ErrPermission, false},
		"permission, wrapped": {storagedriver.Error{Detail: fs.ErrPermission}, false},
		"too large":           {ErrTooLarge, false},
		"final":               {final{sent(dial(syscall.ECONNREFUSED))}, false},
		"path not found":      {storagedriver.PathNotFoundError{}, false},
		"nobody knows":        {errors.New("odd"), false},
	} {
		if got := transient(test.err); got != test.want {
			t.Errorf("%s (%v): %t", name, test.err, got)
		}
	}
}

func answeredBadly(status int, err error) error {
	return &smithyhttp.ResponseError{
		Response: &smithyhttp.Response{Response: &http.Response{StatusCode: status}},
		Err:      &smithy.DeserializationError{Err: err},
	}
}

// TestDefaultRetriesTakeUpToAMinute and wait longer each time, by a share of chance.
func TestDefaultRetriesTakeUpToAMinute(t *testing.T) {
	for _, chance := range []float64{0, 0.999} {
		r := defaultRetries
		r.random = func() float64 { return chance }
		var total, before time.Duration
		for try := 1; try < r.tries; try++ {
			delay := r.delay(try)
			if delay < before {
				t.Errorf("%v after %v", delay, before)
			}
			before = delay
			total += delay
		}
		if total < 20*time.Second || total > time.Minute {
			t.Errorf("%d tries take %v", r.tries, total)
		}
	}
	r := defaultRetries
	if got := r.delay(1000); got > r.max {
		t.Errorf("the thousandth wait is %v", got)
	}
}
