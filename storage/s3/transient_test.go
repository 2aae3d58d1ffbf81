package s3

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

	"regsweep/storage"
	"regsweep/storage/pace"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// answeredBySDK is the error that the SDK makes from a server's answer.
func answeredBySDK(status int, code string) error {
	return &smithy.OperationError{ServiceID: "S3", OperationName: "GetObject", Err: &smithyhttp.ResponseError{
		Response: &smithyhttp.Response{Response: &http.Response{StatusCode: status}},
		Err:      &smithy.GenericAPIError{Code: code},
	}}
}

// sent is the error that the SDK makes for a request without an answer.
func sent(err error) error {
	return &smithyhttp.RequestSendError{Err: &url.Error{Op: "Get", URL: "http://server", Err: err}}
}

func TestTransient(t *testing.T) {
	dial := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	for name, test := range map[string]struct {
		err  error
		want bool
	}{
		"SlowDown":                 {answeredBySDK(503, "SlowDown"), true},
		"500":                      {answeredBySDK(500, ""), true},
		"502":                      {answeredBySDK(502, "UnknownError"), true},
		"429":                      {answeredBySDK(429, "UnknownError"), true},
		"408":                      {answeredBySDK(408, ""), true},
		"RequestTimeout":           {answeredBySDK(400, "RequestTimeout"), true},
		"one key of a removal":     {&smithy.GenericAPIError{Code: "InternalError"}, true},
		"reset":                    {sent(dial(os.NewSyscallError("read", syscall.ECONNRESET))), true},
		"refused":                  {sent(dial(os.NewSyscallError("connect", syscall.ECONNREFUSED))), true},
		"timeout":                  {sent(os.ErrDeadlineExceeded), true},
		"DNS server down":          {sent(dial(&net.DNSError{IsTemporary: true})), true},
		"closed before the answer": {sent(io.EOF), true},
		"half a body":              {fmt.Errorf("read: %w", io.ErrUnexpectedEOF), true},
		"half a page":              {answeredBadly(200, &xml.SyntaxError{Msg: "unexpected EOF"}), true},

		"NoSuchKey":      {answeredBySDK(404, "NoSuchKey"), false},
		"AccessDenied":   {answeredBySDK(403, "AccessDenied"), false},
		"denied key":     {&smithy.GenericAPIError{Code: "AccessDenied"}, false},
		"bad request":    {answeredBySDK(400, "InvalidArgument"), false},
		"NotImplemented": {answeredBySDK(501, "NotImplemented"), false},
		"precondition":   {answeredBySDK(412, "PreconditionFailed"), false},
		"no such host":   {sent(dial(&net.DNSError{IsNotFound: true})), false},
		"untrusted":      {sent(&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}), false},
		"no TLS":         {sent(tls.RecordHeaderError{Msg: "http"}), false},
		"cancelled":      {sent(context.Canceled), false},
		"permission":     {fs.ErrPermission, false},
		"too large":      {storage.ErrTooLarge, false},
		"final":          {pace.Final(sent(dial(syscall.ECONNREFUSED))), false},
		"nobody knows":   {errors.New("odd"), false},
	} {
		if got := pace.Transient(test.err); got != test.want {
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

// TestRetryAfterIsKnown: the error of an answer with Retry-After has its value.
func TestRetryAfterIsKnown(t *testing.T) {
	err := answeredBySDK(503, "SlowDown")
	var response *smithyhttp.ResponseError
	if !errors.As(err, &response) || withRetryAfter(err) != err {
		t.Fatalf("%#v", err)
	}
	response.Response.Header = http.Header{"Retry-After": {"30"}}
	var delayed interface{ RetryAfter() string }
	if err := withRetryAfter(err); !errors.As(err, &delayed) || delayed.RetryAfter() != "30" || pace.ErrorStatus(err) != 503 {
		t.Errorf("%#v", err)
	}
}
