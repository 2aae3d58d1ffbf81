// Package s3 is the backend for a bucket of Amazon S3 or of a server that speaks its protocol.
package s3

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"regsweep/storage"
	"regsweep/storage/pace"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// Store is a registry's bucket. S3 has no directories: it reports none, and
// Prune has nothing to do.
type Store struct {
	parameters settings
	client     *s3.Client
	limits     storage.Limits
	requests   requestCounter
	retries    pace.Retries // bounds and retries every request
	prefix     string       // of every key of the layout; ends with a slash

	// largestCopy is the size in bytes above which an object is copied in parts.
	largestCopy int64
	// largestPut is the size in bytes above which an object is sent in parts.
	largestPut int64
	// versionPageLength is how many versions are listed with one request.
	versionPageLength int32

	// contentMD5 is set once the server was found to accept DeleteObjects only with
	// a Content-MD5.
	contentMD5 atomic.Bool
	// single is set once the server was found not to know DeleteObjects.
	single atomic.Bool
	// listingLength is the length in bytes of the last page of a listing.
	listingLength atomic.Int64
}

// defaultConcurrency is how many requests may be under way if Limits does not say. A request to S3
// takes 15 to 30 ms, so this is half of the rate that S3 sustains for one prefix.
const defaultConcurrency = 64

// Options change how requests are sent to a bucket. The zero value is the default.
type Options struct {
	Limits    storage.Limits
	Transport storage.Transport
	// OnSilence, if set, is called when the server has sent nothing for 30 s. It is called again
	// only after the server has answered. It may be called from any goroutine.
	OnSilence func(endpoint string, since time.Time)
}

// Open opens the bucket that the parameters of a registry's s3 section name. It
// sends no request to the bucket.
func Open(ctx context.Context, params map[string]any, o Options) (storage.Store, error) {
	p, err := parseParameters(params)
	if err != nil {
		return nil, err
	}
	s := &Store{
		parameters: p, limits: o.Limits, retries: pace.DefaultRetries.Hasten(o.Transport), prefix: storage.Root + "/",
		largestCopy: largestCopySize, largestPut: largestPutSize, versionPageLength: pageLength,
	}
	s.retries.Pace = pace.New(o.Limits.AtOnce(defaultConcurrency), o.Limits.MaxRequests)
	s.retries.Pace.Hasten(o.Transport)
	if p.root != "" {
		s.prefix = p.root + "/" + s.prefix
	}
	if s.client, err = newClient(ctx, p, o.Limits.AtOnce(defaultConcurrency), o.Transport, &s.requests); err != nil {
		return nil, err
	}
	if o.OnSilence != nil {
		s.retries.Pace.OnSilence = func(since time.Time) { o.OnSilence(s.endpoint(), since) }
	}
	return s, nil
}

// CheckParameters returns an error if Open would reject the parameters of a registry's s3 section.
func CheckParameters(params map[string]any) error {
	_, err := parseParameters(params)
	return err
}

func (s *Store) Identity() storage.Identity { return s.parameters.identity() }

func (s *Store) Requests() storage.Requests { return s.requests.counted() }

func (s *Store) Concurrency() int { return s.limits.AtOnce(defaultConcurrency) }

// Bulk allows as many objects in a call as in one request. S3 counts each object like a request:
// four calls at once reach the 3,500 requests a second that S3 sustains for one prefix.
func (s *Store) Bulk() storage.Bulk {
	return storage.Bulk{Objects: storage.RemoveBatch, Calls: min(4, s.Concurrency())}
}

// Prune does nothing: S3 has no directories.
func (s *Store) Prune(ctx context.Context, dir string) (gone bool, err error) {
	return true, ctx.Err()
}

// Read gets one object with one request.
func (s *Store) Read(ctx context.Context, path string, limit int64) ([]byte, error) {
	got, err := s.get(ctx, path, limit)
	return got.content, err
}

// ReadTagged implements cache.taggedReader.
func (s *Store) ReadTagged(ctx context.Context, path string, limit int64) ([]byte, string, error) {
	got, err := s.get(ctx, path, limit)
	return got.content, got.etag, err
}

// objectContent is an object as it was read.
type objectContent struct {
	content []byte
	etag    string
	writer  string // see writerKey
	version string // "" if the bucket has never kept versions
}

// get reads a whole object. The body is read within the retried operation. A body
// that is shorter than its announced length is an error.
func (s *Store) get(ctx context.Context, path string, limit int64) (got objectContent, err error) {
	err = s.do(ctx, "read", "s3:GetObject", path, func() error {
		out, err := s.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &s.parameters.bucket, Key: s.key(path)})
		if err != nil {
			return err
		}
		got.etag, got.writer, got.version = cleanETag(out.ETag), out.Metadata[writerKey], aws.ToString(out.VersionId)
		got.content, err = storage.ReadBody(out.Body, out.ContentLength, limit)
		return err
	})
	if err != nil {
		return objectContent{}, err
	}
	return got, nil
}

// Stat asks for one object with one request.
func (s *Store) Stat(ctx context.Context, path string) (storage.Object, error) {
	out, err := s.head(ctx, path)
	if err != nil {
		return storage.Object{}, err
	}
	return storage.Object{Path: path, Size: sizeOf(out.ContentLength), ModTime: aws.ToTime(out.LastModified), ETag: cleanETag(out.ETag)}, nil
}

func (s *Store) head(ctx context.Context, path string) (out *s3.HeadObjectOutput, err error) {
	err = s.do(ctx, "stat", "s3:GetObject", path, func() (err error) {
		out, err = s.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &s.parameters.bucket, Key: s.key(path)})
		return err
	})
	return out, err
}

func (s *Store) key(path string) *string { return aws.String(s.prefix + path) }

func sizeOf(length *int64) int64 {
	if length == nil {
		return -1
	}
	return *length
}

func cleanETag(etag *string) string { return strings.Trim(aws.ToString(etag), `"`) }

// do runs one operation on a path, with retries, and describes its error.
func (s *Store) do(ctx context.Context, op, permission, path string, try func() error) error {
	err := s.retry(ctx, try)
	if err == nil {
		return nil
	}
	return s.describe(ctx, op, permission, path, err)
}

// retry is retries.Do with two exceptions. If a connection is refused before the server has ever
// answered, it does not retry: the address is probably mistyped. If there is no host name for the
// bucket, it tries again with the bucket in the path.
func (s *Store) retry(ctx context.Context, try func() error) error {
	return s.retries.Do(ctx, func() error {
		err := try()
		var dns *net.DNSError
		// Meanwhile another request may have set pathStyle and got an answer.
		mayChange := !s.requests.answered.Load() || s.requests.pathStyle.Load()
		if s.parameters.endpoint != "" && mayChange && errors.As(err, &dns) && !s.parameters.pathStyle {
			s.requests.pathStyle.Store(true)
			if err = try(); errors.As(err, &dns) && !s.requests.answered.Load() {
				s.requests.pathStyle.Store(false) // there is no host with the endpoint's name either
			}
		}
		if err != nil && !s.requests.answered.Load() && errors.Is(err, syscall.ECONNREFUSED) {
			return pace.Final(err)
		}
		return withRetryAfter(err)
	})
}

// delayed is an error of a server that says when to try again. Package pace calls RetryAfter.
type delayed struct {
	error
	after string
}

func (e delayed) Unwrap() error      { return e.error }
func (e delayed) RetryAfter() string { return e.after }

func withRetryAfter(err error) error {
	var answered *smithyhttp.ResponseError
	if !errors.As(err, &answered) || answered.Response == nil || answered.Response.Response == nil {
		return err
	}
	if after := answered.Response.Header.Get("Retry-After"); after != "" {
		return delayed{err, after}
	}
	return err
}
