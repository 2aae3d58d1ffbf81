package s3

import (
	"context"
	"crypto/md5"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"regsweep/inventory"
	"regsweep/storage"
	"regsweep/storage/layout"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// cannedPages is an HTTP client that returns the pages of one listing without a network. So a
// listing takes only the time of the code here.
type cannedPages []string

func (c cannedPages) Do(r *http.Request) (*http.Response, error) {
	at := 0
	if token := r.URL.Query().Get("continuation-token"); token != "" {
		var err error
		if at, err = strconv.Atoi(token); err != nil {
			return nil, err
		}
	}
	return &http.Response{
		StatusCode: http.StatusOK, Status: "200 OK", Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{},
		ContentLength: int64(len(c[at])), Body: io.NopCloser(strings.NewReader(c[at])), Request: r,
	}, nil
}

// linkPages returns pages of layer links, and their digests. The ETags are those of the links'
// contents.
func linkPages(pages int) (cannedPages, [][32]byte) {
	var keys []string
	var sums [][32]byte
	for i := range pages * pageLength {
		hex := seededHex(i)
		sums = append(sums, layout.DecodeSHA256(hex))
		keys = append(keys, fmt.Sprintf("%s/repositories/team/app-%02d/_layers/sha256/%s/link", storage.Root, i/5000, hex))
	}
	slices.Sort(keys)
	var canned cannedPages
	for page := range slices.Chunk(keys, pageLength) {
		var b strings.Builder
		last := len(canned) == pages-1
		fmt.Fprintf(&b, `<?xml version="1.0" encoding="UTF-8"?>`+"\n"+`<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name><Prefix></Prefix>`+
			`<KeyCount>%d</KeyCount><MaxKeys>1000</MaxKeys><EncodingType>url</EncodingType><IsTruncated>%t</IsTruncated>`, len(page), !last)
		if !last {
			fmt.Fprintf(&b, `<NextContinuationToken>%d</NextContinuationToken>`, len(canned)+1)
		}
		for _, key := range page {
			digits := key[len(key)-len("/link")-64 : len(key)-len("/link")]
			fmt.Fprintf(&b, `<Contents><Key>%s</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified><ETag>&quot;%x&quot;</ETag>`+
				`<Size>71</Size><StorageClass>STANDARD</StorageClass></Contents>`, key, md5.Sum([]byte("sha256:"+digits)))
		}
		canned = append(canned, b.String()+`</ListBucketResult>`)
	}
	return canned, sums
}

// BenchmarkListingPath measures the time for a listed key, from the server's answer into the
// inventory. This includes the comparison of its ETag and the lookup of its digest. It compares
// that with the SDK's own paginator, which only decodes the answer. Both sign their requests.
func BenchmarkListingPath(b *testing.B) {
	const pages = 40
	canned, sums := linkPages(pages)
	store := (&bucketOfKeys{}).open(b)
	client := s3.NewFromConfig(aws.Config{}, func(o *s3.Options) {
		*o = store.client.Options()
		o.HTTPClient = canned
	})
	store.client = client
	perSecond := func(b *testing.B, list func() (keys int)) {
		before := cpuTime(b)
		for b.Loop() {
			if keys := list(); keys != pages*pageLength {
				b.Fatalf("%d keys", keys)
			}
		}
		b.ReportMetric(float64(b.N)*pages*pageLength/(cpuTime(b)-before).Seconds(), "keys/cpu-s")
	}
	b.Run("ours", func(b *testing.B) {
		perSecond(b, func() (keys int) {
			inv, err := inventory.Take(b.Context(), pagedStore{store, sums}, inventory.Options{})
			if err != nil {
				b.Fatal(err)
			}
			for _, r := range inv.Repositories {
				keys += len(r.Layers)
				if !r.Layers[0].Verified() || !inv.Stored(r.Layers[0].ID()) {
					b.Fatal("a link is not verified")
				}
			}
			return keys
		})
	})
	b.Run("sdk", func(b *testing.B) {
		perSecond(b, func() (keys int) {
			paginator := s3.NewListObjectsV2Paginator(client, &s3.ListObjectsV2Input{
				Bucket: aws.String("b"), Prefix: store.key(storage.RepositoriesDir + "/"),
			})
			for paginator.HasMorePages() {
				page, err := paginator.NextPage(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				keys += len(page.Contents)
			}
			return keys
		})
	})
}

// pagedStore lists blobs without a request, and repositories from pages.
type pagedStore struct {
	*Store
	blobs [][32]byte
}

func (s pagedStore) Scan(ctx context.Context, dir string, visit func([]storage.Object) error) error {
	if dir == storage.BlobsDir {
		var page []storage.Object
		for i := range s.blobs {
			page = append(page, storage.Object{Path: string(layout.AppendBlobPath(nil, &s.blobs[i])), Size: 1})
		}
		return visit(page)
	}
	for after, token := "", ""; ; {
		page, err := s.page(ctx, dir, after, token)
		if err != nil {
			return err
		}
		if err := visit(page.objects); err != nil {
			return err
		}
		if after, token = page.last, page.token; token == "" {
			return nil
		}
	}
}

// cpuTime is the CPU time that this process has used.
func cpuTime(t testing.TB) time.Duration {
	t.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
