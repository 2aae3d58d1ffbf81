package s3

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"regsweep/storage"
	"regsweep/storage/pace"

	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// describe turns the SDK's error into one line that names the operation, the object, and the
// server's answer.
func (s *Store) describe(ctx context.Context, op, permission, path string, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return err
	}
	if sent := (unconfirmed{}); errors.As(err, &sent) {
		return fmt.Errorf("sent, and not confirmed: %w", s.describe(ctx, op, permission, path, sent.error))
	}
	if isNoSuchKey(err) {
		return storage.NotExist(op, path)
	}
	failed := &requestError{
		op: op, at: "s3://" + s.parameters.bucket + "/" + s.prefix + path, permission: permission,
		endpoint: s.endpoint(), bucket: s.parameters.bucket, err: err,
	}
	if op == "read" && isWithheld(pace.ErrorCode(err)) {
		return fmt.Errorf("%w: %w", storage.ErrUnreadable, failed)
	}
	return failed
}

// endpoint names the server.
func (s *Store) endpoint() string {
	if s.parameters.endpoint == "" {
		return "Amazon S3 in " + s.parameters.region
	}
	return s.parameters.endpoint
}

// isWithheld reports whether a server has an object but does not return its content, for a
// permanent reason that concerns only this object.
// Source: the errors of Decrypt in the KMS API reference. S3 returns them with a prefix.
func isWithheld(code string) bool {
	switch code {
	case "InvalidObjectState", "KMS.AccessDeniedException", "KMS.DisabledException", "KMS.IncorrectKeyException",
		"KMS.InvalidCiphertextException", "KMS.InvalidKeyUsageException", "KMS.InvalidStateException",
		"KMS.KMSInvalidStateException", "KMS.NotFoundException":
		return true
	}
	return false
}

// requestError is the error of a failed request, in one line. It wraps the SDK's error.
type requestError struct {
	op, at, permission, endpoint, bucket string
	err                                  error
}

func (e *requestError) Unwrap() error { return e.err }

// Is lets fs.ErrPermission match an answer that denies access.
func (e *requestError) Is(target error) bool {
	return target == fs.ErrPermission && (pace.ErrorStatus(e.err) == http.StatusForbidden || pace.ErrorCode(e.err) == "AccessDenied")
}

func (e *requestError) Error() string { return e.op + " " + e.at + ": " + e.reason() }

func (e *requestError) reason() string {
	var api interface {
		ErrorCode() string
		ErrorMessage() string
	}
	var sent *url.Error
	var lost *pace.Silence
	status := pace.ErrorStatus(e.err)
	switch {
	case errors.As(e.err, &lost):
		return fmt.Sprintf("no answer from %s for %s: check the endpoint and the firewall", e.endpoint, lost.Lasted.Round(time.Second))
	case pace.TimedOut(e.err) != nil:
		return "no answer from " + e.endpoint + ": " + withoutURL(pace.TimedOut(e.err)).Error()
	case errors.As(e.err, &sent):
		return e.connection(sent)
	case errors.Is(e.err, errNotListing):
		return e.endpoint + " answers, but with no bucket listing: is this the address of an S3 server?"
	case !errors.As(e.err, &api):
		return e.err.Error()
	}
	if page := webPage(e.err); page != "" {
		return fmt.Sprintf("%s answers as a web server does, with %s: is this the address of an S3 server?", e.endpoint, page)
	}
	if e.isForeign(api.ErrorCode(), api.ErrorMessage()) {
		return fmt.Sprintf("%s answers %d without an S3 error: check the endpoint", e.endpoint, status)
	}
	reason := api.ErrorCode()
	if message := api.ErrorMessage(); message != "" && message != reason {
		reason += ": " + strings.TrimSuffix(message, ".")
	}
	if status != 0 {
		reason += fmt.Sprintf(" (status %d)", status)
	}
	if advice := e.advice(api.ErrorCode()); advice != "" {
		reason += "; " + advice
	}
	return reason
}

// isForeign reports whether the SDK has made the error from the status alone, although an S3 server
// always gives a reason with this status. The answer to a HEAD has no body and so no reason.
func (e *requestError) isForeign(code, message string) bool {
	var answered *smithyhttp.ResponseError
	if !errors.As(e.err, &answered) || answered.Response == nil || answered.Response.Response == nil {
		return false
	}
	status, request := answered.HTTPStatusCode(), answered.Response.Request
	switch status {
	case http.StatusUnauthorized, http.StatusNotFound, http.StatusMethodNotAllowed:
		text := http.StatusText(status)
		return code == strings.ReplaceAll(text, " ", "") && message == text && (request == nil || request.Method != http.MethodHead)
	}
	return false
}

// advice says what the user can do about an error code, or returns "".
func (e *requestError) advice(code string) string {
	switch code {
	case "AccessDenied":
		return "it takes the permission " + e.permission
	case "Forbidden": // made by the SDK for a HEAD, whose answer has no body
		return "the server gives no reason; the request may lack the permission " + e.permission
	case "SignatureDoesNotMatch":
		return "the secret key does not belong to the access key, or a proxy has changed the request"
	case "InvalidAccessKeyId":
		return "the server does not know the access key"
	case "RequestTimeTooSkewed", "RequestExpired":
		return "the clock of this machine and that of the server differ: set this machine's clock"
	case "ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired":
		return "the credentials have expired: renew them"
	case "InvalidToken", "InvalidClientTokenId":
		return "the session token is not valid: renew the credentials"
	case "AllAccessDisabled", "AccountProblem", "NotSignedUp":
		return "the provider has disabled this account or bucket"
	case "AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException", "IncorrectEndpoint":
		return "the bucket is in another region or behind another endpoint: check region and regionendpoint"
	case "NoSuchBucket":
		return "check the bucket's name and the endpoint, " + e.endpoint
	case "InvalidObjectState":
		return "the object is archived: restore it at the provider first"
	}
	if isWithheld(code) {
		return "the key that the object is encrypted with can't be used: check it at the provider"
	}
	return ""
}

// connection says why a request got no answer.
func (e *requestError) connection(sent *url.Error) string {
	var dns *net.DNSError
	reason := sent.Err.Error()
	switch {
	case strings.Contains(reason, "server gave HTTP response to HTTPS client"), strings.Contains(reason, "does not look like a TLS handshake"):
		return e.endpoint + " does not speak HTTPS: write the endpoint with http://, or set secure: false (" + reason + ")"
	case errors.As(sent.Err, &dns) && strings.HasSuffix(dns.Name, ".amazonaws.com"):
		return e.endpoint + ": " + reason + "; no endpoint is set, so this is Amazon S3: for another server set regionendpoint (endpoint=… in an s3:// target)"
	case errors.As(sent.Err, &dns) && strings.HasPrefix(dns.Name, e.bucket+"."):
		return fmt.Sprintf("%s: %s; the bucket's name is part of this host name: set forcepathstyle: true if the server does not serve such names", e.endpoint, reason)
	}
	return e.endpoint + ": " + reason
}

// withoutURL removes the URL of the request, which has a long query.
func withoutURL(err error) error {
	if sent, is := err.(*url.Error); is {
		return sent.Err
	}
	return err
}

// webPage describes an answer of a web server that is no S3 server: HTML without an error code. It
// returns "" for any other answer.
func webPage(err error) string {
	var answered *smithyhttp.ResponseError
	if !errors.As(err, &answered) || answered.Response == nil || answered.Response.Response == nil {
		return ""
	}
	status, header := answered.HTTPStatusCode(), answered.Response.Header
	made := strings.ReplaceAll(http.StatusText(status), " ", "") // the code that the SDK makes if the body has none
	isHTML := strings.HasPrefix(header.Get("Content-Type"), "text/html")
	if code := pace.ErrorCode(err); code != "" && code != made && code != "UnknownError" || !isHTML {
		return ""
	}
	page := fmt.Sprintf("a page of HTML (status %d)", status)
	if to := header.Get("Location"); to != "" {
		page = fmt.Sprintf("a redirection to %s (status %d)", storage.WithoutUserinfo(to), status)
	}
	return page
}

// isNoSuchKey reports whether the server said that an object, or the requested version of it, does
// not exist. It returns false for a missing bucket, which says nothing about the objects, and for
// a 404 of a server that is no S3 server. The answer to a HEAD has no body that tells these
// apart. But a run sends a HEAD only after a scan has found the bucket.
func isNoSuchKey(err error) bool {
	var head *types.NotFound
	code := pace.ErrorCode(err)
	return code == "NoSuchKey" || code == "NoSuchVersion" || errors.As(err, &head)
}
