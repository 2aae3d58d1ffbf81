package s3

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"regsweep/storage"
)

// bucketOfKeys is a fake S3 server that can only list: keys by the hundred thousand,
// which a real one would take minutes to be given.
type bucketOfKeys struct {
	keys   []string     // sorted
	tokens atomic.Int64 // requests that went on by one
}

func (b *bucketOfKeys) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	if query.Has("uploads") {
		fmt.Fprint(w, `<ListMultipartUploadsResult><Bucket>b</Bucket><IsTruncated>false</IsTruncated></ListMultipartUploadsResult>`)
		return
	}
	prefix, after := query.Get("prefix"), query.Get("start-after")
	if token := query.Get("continuation-token"); token != "" {
		after = token
		b.tokens.Add(1)
	}
	at := sort.SearchStrings(b.keys, prefix)
	if after >= prefix {
		at = max(at, sort.Search(len(b.keys), func(i int) bool { return b.keys[i] > after }))
	}
	var page strings.Builder
	n, last := 0, ""
	for query.Get("delimiter") == "/" && at < len(b.keys) && n < pageLength && strings.HasPrefix(b.keys[at], prefix) {
		name, _, _ := strings.Cut(b.keys[at][len(prefix):], "/")
		if group := prefix + name + "/"; group > after {
			page.WriteString(`<CommonPrefixes><Prefix>` + url.QueryEscape(group) + `</Prefix></CommonPrefixes>`)
			n++
		}
		at = sort.SearchStrings(b.keys, prefix+name+"0")
		last = prefix + name + "/~"
	}
	for ; at < len(b.keys) && n < pageLength && strings.HasPrefix(b.keys[at], prefix); at++ {
		last = b.keys[at]
		n++
		page.WriteString(`<Contents><Key>` + url.QueryEscape(last) + `</Key><LastModified>2026-01-02T03:04:05.678Z</LastModified>` +
			`<ETag>&quot;0cc175b9c0f1b6a831c399e269772661&quot;</ETag><Size>71</Size><StorageClass>STANDARD</StorageClass></Contents>`)
	}
	truncated := at < len(b.keys) && strings.HasPrefix(b.keys[at], prefix)
	fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?>`+"\n"+`<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name><Prefix>%s</Prefix>`+
		`<KeyCount>%d</KeyCount><MaxKeys>1000</MaxKeys><EncodingType>url</EncodingType><IsTruncated>%t</IsTruncated>`, url.QueryEscape(prefix), n, truncated)
	if truncated {
		fmt.Fprintf(w, `<NextContinuationToken>%s</NextContinuationToken>`, last)
	}
	fmt.Fprint(w, page.String()+`</ListBucketResult>`)
}

func (b *bucketOfKeys) open(t testing.TB) *Store {
	server := httptest.NewServer(b)
	t.Cleanup(server.Close)
	store, err := Open(context.Background(), map[string]any{
		"bucket": "b", "region": "us-east-1", "regionendpoint": server.URL, "forcepathstyle": true,
		"accesskey": "a", "secretkey": "b",
	}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return store.(*Store)
}

// seededHex is a digest that is as good as random.
func seededHex(n int) string {
	x := uint64(n)*0x9E3779B97F4A7C15 + 0x1234567
	var out [4]uint64
	for i := range out {
		x ^= x >> 30
		x *= 0xBF58476D1CE4E5B9
		x ^= x >> 27
		x *= 0x94D049BB133111EB
		x ^= x >> 31
		out[i] = x
		x += 0x9E3779B97F4A7C15
	}
	return fmt.Sprintf("%016x%016x%016x%016x", out[0], out[1], out[2], out[3])
}

// TestListingOverHTTP lists registries of all shapes through the client.
func TestListingOverHTTP(t *testing.T) {
	t.Parallel()
	n := 20_000
	if testing.Short() {
		n = 4_000
	}
	for _, shape := range simulatedShapes {
		space := shape.keys(n)
		keys := make([]string, space.len())
		for i := range keys {
			keys[i] = space.key(i)
		}
		bucket := &bucketOfKeys{keys: keys}
		listsAll(t, bucket.open(t), shape.dir, keys)
	}
}

// listsAll lists a directory and expects all its keys, which are sorted.
func listsAll(t *testing.T, store *Store, dir string, keys []string) {
	t.Helper()
	var mu sync.Mutex
	got := make([]string, 0, len(keys))
	err := store.Scan(t.Context(), dir, func(page []storage.Object) error {
		mu.Lock()
		defer mu.Unlock()
		for _, object := range page {
			got = append(got, store.prefix+object.Path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(got)
	if !slices.Equal(got, keys) {
		t.Errorf("%d keys listed, of %d", len(got), len(keys))
	}
}

// TestRangesGoOnByTheirKeys: with a token some servers begin to list all that follows. A key that
// has to be escaped is not safe.
func TestRangesGoOnByTheirKeys(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"data", "data+%20 ü"} {
		keys := make([]string, 20_000)
		for i := range keys {
			hex := seededHex(i)
			keys[i] = storage.Root + "/blobs/sha256/" + hex[:2] + "/" + hex + "/" + file
		}
		slices.Sort(keys)
		bucket := &bucketOfKeys{keys: keys}
		listsAll(t, bucket.open(t), storage.BlobsDir, keys)
		if n := bucket.tokens.Load(); n > 0 != (file != "data") {
			t.Errorf("%s: %d requests go on by a token", file, n)
		}
	}
}
