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
// failed. Removing a thousand objects takes slow servers tens of seconds. The second such
// request in a row ends the run, if nothing else was answered: see retries.silence.
const silentAfter = 75 * time.Second

// The longest headers and the longest answer, but for the content of an object, in bytes.
// A thousand keys of 1 KiB with every byte escaped are 4 MiB.
const (
	headerLimit = 256 << 10
	answerLimit = 32 << 20
)

// newClient builds the SDK's client. Every try is one request: retries.do does
// the retrying, since it must cover the reading of a body too. A connection is kept for
// each request that may be under way, and a few for the lock's.
func newClient(ctx context.Context, p settings, concurrency int, wires storage.Transport, count *requestCounter) (*s3.Client, error) {
	// A buildable client, and not one of our own, since the SDK adds the
	// certificates of AWS_CA_BUNDLE to it. Proxies come from the environment.
	transport := awshttp.NewBuildableClient().
		WithReadTimeout(wires.SilentAfter(silentAfter)).
		WithTransportOptions(func(t *http.Transport) {
			t.MaxIdleConns = concurrency + 8
			t.MaxIdleConnsPerHost = concurrency + 8
			t.MaxResponseHeaderBytes = headerLimit
			// One config.HTTP/2 connection would carry all requests, and slower.
			t.ForceAttemptHTTP2 = false
			t.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
			if p.skipVerify {
				t.TLSClientConfig.InsecureSkipVerify = true
			}
		})
	options := []func(*config.LoadOptions) error{
		config.WithRegion(p.region),
		config.WithHTTPClient(transport),
		config.WithLogger(logging.Nop{}), // what goes wrong is returned, and not printed
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
		if !strings.Contains(err.Error(), "no EC2 IMDS role found") { // which is the last place, where nobody has put any
			reason = " (" + err.Error() + ")"
		}
		return nil, errors.New("s3: no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile in ~/.aws, or accesskey and secretkey in a config.yml" + reason)
	}
	if count.client = cfg.HTTPClient; wires.Wrap != nil {
		count.client = wires.Wrap(cfg.HTTPClient)
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
		// The registry does not know AWS_ENDPOINT_URL, and must be collected
		// where it stores.
		o.BaseEndpoint = nil
		if p.endpoint != "" {
			o.BaseEndpoint = aws.String(p.endpoint)
			o.EndpointOptions.UseDualStackEndpoint = aws.DualStackEndpointStateDisabled
			o.EndpointOptions.UseFIPSEndpoint = aws.FIPSEndpointStateDisabled
		}
		// Other servers reject the newer checksums; what is read is verified by
		// its digest anyway.
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		o.DisableLogOutputChecksumValidationSkipped = true
		if p.userAgent != "" {
			o.APIOptions = append(o.APIOptions, middleware.AddUserAgentKey(p.userAgent))
		}
	}), nil
}

// requestCounter counts the config.HTTP requests that leave for the bucket, each retry too.
type requestCounter struct {
	client                    s3.HTTPClient
	list, get, head, put, del atomic.Int64
	answered                  atomic.Bool // the server has answered at least once
	pathStyle                 atomic.Bool // see addressing
}

// addressing puts the bucket into the path once its name was found to be no host's. Release 2 of
// the registry always does so beside a regionendpoint, unless forcepathstyle is false.
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

// boundedBody fails once more was read than an answer may have: a server that goes on for
// ever would fill the memory.
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
