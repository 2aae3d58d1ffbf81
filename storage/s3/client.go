package s3

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"regsweep/storage"
	"regsweep/storage/pace"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/middleware"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	smithyendpoints "github.com/aws/smithy-go/endpoints"
	"github.com/aws/smithy-go/logging"
)

// silentAfter is how long a server may send nothing before the request counts as
// failed. A slow server takes tens of seconds to remove a thousand objects. The second silent
// request in a row ends the run, if no other request was answered: see package pace.
const silentAfter = 75 * time.Second

// headerLimit and answerLimit are the largest headers and the largest body of an answer, in
// bytes. The content of an object has no such limit. A listing of a thousand keys of 1 KiB with
// every byte escaped has 4 MiB.
const (
	headerLimit = 256 << 10
	answerLimit = 32 << 20
)

// newClient builds the SDK's client. The SDK does not retry: Store.retry does, since a retry must
// also read the body again. The client keeps a connection for each request that may be under way,
// and a few more for the requests of the lock.
func newClient(ctx context.Context, p settings, concurrency int, transport storage.Transport, count *requestCounter) (*s3.Client, error) {
	// It must be a BuildableClient, since the SDK adds the certificates of AWS_CA_BUNDLE to it.
	// Proxies come from the environment.
	httpClient := awshttp.NewBuildableClient().
		WithReadTimeout(transport.SilentAfter(silentAfter)).
		WithTransportOptions(func(t *http.Transport) {
			t.MaxIdleConns = concurrency + 8
			t.MaxIdleConnsPerHost = concurrency + 8
			t.MaxResponseHeaderBytes = headerLimit
			// With HTTP/2 all requests would share one connection, which is slower.
			t.ForceAttemptHTTP2 = false
			t.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
			if p.skipVerify {
				t.TLSClientConfig.InsecureSkipVerify = true
			}
		})
	options := []func(*config.LoadOptions) error{
		config.WithRegion(p.region),
		config.WithHTTPClient(httpClient),
		config.WithLogger(logging.Nop{}), // errors are returned and not logged
	}
	if p.accessKey != "" {
		options = append(options, config.WithCredentialsProvider(
			credentials.NewStaticCredentialsProvider(p.accessKey, p.secretKey, "")))
	}
	cfg, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("s3: read the AWS configuration: %w", err)
	}
	if _, err := cfg.Credentials.Retrieve(ctx); err != nil {
		reason := ""
		if !strings.Contains(err.Error(), "no EC2 IMDS role found") { // the SDK asks IMDS last, and nobody configured it
			reason = " (" + err.Error() + ")"
		}
		return nil, errors.New("s3: no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile in ~/.aws, or accesskey and secretkey in a config.yml" + reason)
	}
	if count.client = cfg.HTTPClient; transport.Wrap != nil {
		count.client = transport.Wrap(cfg.HTTPClient)
	}
	return s3.NewFromConfig(cfg, func(o *s3.Options) {
		o.HTTPClient = count
		o.Retryer = aws.NopRetryer{}
		o.RetryMaxAttempts = 0
		o.UsePathStyle = p.pathStyle
		o.EndpointResolverV2 = addressing{o.EndpointResolverV2, &count.pathStyle}
		o.UseAccelerate = p.accelerate
		o.EndpointOptions.DisableHTTPS = p.plain
		if p.dualStack {
			o.EndpointOptions.UseDualStackEndpoint = aws.DualStackEndpointStateEnabled
		}
		if p.fips {
			o.EndpointOptions.UseFIPSEndpoint = aws.FIPSEndpointStateEnabled
		}
		// The registry ignores AWS_ENDPOINT_URL. regsweep must use the same endpoint as
		// the registry.
		o.BaseEndpoint = nil
		if p.endpoint != "" {
			o.BaseEndpoint = aws.String(p.endpoint)
			o.EndpointOptions.UseDualStackEndpoint = aws.DualStackEndpointStateDisabled
			o.EndpointOptions.UseFIPSEndpoint = aws.FIPSEndpointStateDisabled
		}
		// Some servers reject the newer checksums. Content is verified by its digest
		// anyway.
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		o.DisableLogOutputChecksumValidationSkipped = true
		if p.userAgent != "" {
			o.APIOptions = append(o.APIOptions, middleware.AddUserAgentKey(p.userAgent))
		}
	}), nil
}

// requestCounter counts the HTTP requests to the bucket. Each retry counts.
type requestCounter struct {
	client                    s3.HTTPClient
	list, get, head, put, del atomic.Int64
	answered                  atomic.Bool // the server has answered at least once
	pathStyle                 atomic.Bool // see addressing
}

// addressing puts the bucket into the path once there was found to be no host name for the bucket.
// Release 2 of the registry always does so with a regionendpoint, unless forcepathstyle is false.
type addressing struct {
	s3.EndpointResolverV2
	pathStyle *atomic.Bool
}

func (a addressing) ResolveEndpoint(ctx context.Context, p s3.EndpointParameters) (smithyendpoints.Endpoint, error) {
	if a.pathStyle.Load() {
		p.ForcePathStyle = aws.Bool(true)
	}
	return a.EndpointResolverV2.ResolveEndpoint(ctx, p)
}

func (c *requestCounter) Do(r *http.Request) (*http.Response, error) {
	isContent := false
	switch r.Method {
	case http.MethodGet:
		query := r.URL.Query()
		if query.Has("list-type") || query.Has("uploads") || query.Has("versions") || query.Has("versioning") {
			c.list.Add(1)
		} else {
			c.get.Add(1)
			isContent = true
		}
	case http.MethodHead:
		c.head.Add(1)
	case http.MethodPut:
		c.put.Add(1)
	case http.MethodPost, http.MethodDelete: // DeleteObjects is a POST
		c.del.Add(1)
	}
	response, err := c.client.Do(r)
	if response != nil {
		c.answered.Store(true)
		if !isContent || response.StatusCode >= 300 {
			response.Body = &boundedBody{response.Body, answerLimit}
		}
	}
	return response, err
}

// boundedBody fails if an answer is longer than its limit: an endless answer would fill the
// memory.
type boundedBody struct {
	io.ReadCloser
	left int64
}

func (b *boundedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return n, pace.Final(fmt.Errorf("the answer has more than %d MiB: it is not that of an S3 server", answerLimit>>20))
	}
	return n, err
}

func (c *requestCounter) counted() storage.Requests {
	return storage.Requests{
		List: c.list.Load(), Get: c.get.Load(), Head: c.head.Load(),
		Put: c.put.Load(), Delete: c.del.Load(),
	}
}
