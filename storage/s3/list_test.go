package s3

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"regsweep/storage"
)

// bucketOfKeys is a fake S3 server that can only list: keys by the hundred thousand,
// which a real one would take minutes to be given. It counts what it is asked.
type bucketOfKeys struct {
	keys     []string // sorted
	wait     time.Duration
	flat     bool // it does not group keys by a delimiter
	requests atomic.Int64
	tokens   atomic.Int64 // requests that went on by one
	underWay atomic.Int64
	mu       sync.Mutex
	busy     []int64 // how many were under way at each request
}

func (b *bucketOfKeys) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	if query.Has("uploads") {
		fmt.Fprint(w, `<ListMultipartUploadsResult><Bucket>b</Bucket><IsTruncated>false</IsTruncated></ListMultipartUploadsResult>`)
		return
	}
	b.requests.Add(1)
	under := b.underWay.Add(1)
	defer b.underWay.Add(-1)
	b.mu.Lock()
	b.busy = append(b.busy, under)
	b.mu.Unlock()
	time.Sleep(b.wait)
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
	for query.Get("delimiter") == "/" && !b.flat && at < len(b.keys) && n < pageLength && strings.HasPrefix(b.keys[at], prefix) {
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

// shapes are registries' keys below repositories, of about n keys each.
func shapes(n int) map[string][]string {
	link := func(repository, kind string, i int) string {
		return storage.Root + "/repositories/" + repository + "/" + kind + "/sha256/" + seededHex(i) + "/link"
	}
	huge, many, some, tags := []string{}, []string{}, []string{}, []string{}
	for i := range n {
		switch {
		case i%8 < 6:
			huge = append(huge, link("big", "_layers", i))
		case i%8 == 6:
			huge = append(huge, link("big", "_manifests/revisions", i))
		default:
			huge = append(huge, storage.Root+"/repositories/big/_manifests/tags/v"+strconv.Itoa(i)+"/current/link")
		}
		many = append(many, link(fmt.Sprintf("team%02d/app%05d", (i/60)%17, i/60), "_layers", i))
		some = append(some, link(fmt.Sprintf("library/%s", []string{"alpine", "debian", "golang", "node", "python", "redis", "ubuntu"}[i%7]), "_layers", i))
		tags = append(tags, fmt.Sprintf("%s/repositories/ci/_manifests/tags/2026-%02d-%02d-build-%d/current/link", storage.Root, i%12+1, i%28+1, i))
	}
	return map[string][]string{"one huge repository": huge, "many small repositories": many, "seven large repositories": some, "one repository of tags": tags}
}

// A listing of any shape brings every key once, at the cost of a few requests more
// than its pages, and with many under way.
func TestListingDividesItself(t *testing.T) {
	const n = 60_000
	all := shapes(n)
	blobs := []string{}
	for i := range n {
		hex := seededHex(i)
		blobs = append(blobs, storage.Root+"/blobs/sha256/"+hex[:2]+"/"+hex+"/data")
	}
	all["blobs"] = blobs
	all["many small repositories, not grouped"] = all["many small repositories"]
	for name, keys := range all {
		t.Run(name, func(t *testing.T) {
			dir := storage.RepositoriesDir
			if name == "blobs" {
				dir = storage.BlobsDir
			}
			slices.Sort(keys)
			keys = slices.Compact(keys)
			bucket := &bucketOfKeys{keys: keys, wait: 5 * time.Millisecond}
			if strings.Contains(name, "not grouped") {
				// Few are under way there, so that each has to last longer than a page takes to be
				// taken apart.
				bucket.flat, bucket.wait = true, 80*time.Millisecond
			}
			store := bucket.open(t)
			listsAll(t, store, dir, keys)
			pages := (len(keys) + pageLength - 1) / pageLength
			requests, busiest := int(bucket.requests.Load()), slices.Max(bucket.busy)
			t.Logf("%d requests for %d pages, %d under way at most", requests, pages, busiest)
			// As many more as s3Division.free allows, and some that were cut in vain.
			if most := pages + 28; requests > most {
				t.Errorf("%d requests, want at most %d", requests, most)
			}
			if busiest < 3 {
				t.Errorf("%d requests under way at most: the listing did not divide itself", busiest)
			}
		})
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

// A listing that has divided itself goes on by its last keys, and not by tokens with which
// a server makes ready to list all that follows; but for keys that not all servers might
// understand alike.
func TestRangesGoOnByTheirKeys(t *testing.T) {
	for name, c := range map[string]struct {
		keys      int
		file      string
		hasTokens bool
	}{
		"divided":               {20_000, "data", false},
		"one range":             {1_500, "data", true},
		"keys that are escaped": {20_000, "data+%20 ü", true},
	} {
		t.Run(name, func(t *testing.T) {
			keys := make([]string, c.keys)
			for i := range keys {
				hex := seededHex(i)
				keys[i] = storage.Root + "/blobs/sha256/" + hex[:2] + "/" + hex + "/" + c.file
			}
			slices.Sort(keys)
			bucket := &bucketOfKeys{keys: keys}
			listsAll(t, bucket.open(t), storage.BlobsDir, keys)
			if n := bucket.tokens.Load(); n > 0 != c.hasTokens {
				t.Errorf("%d requests of %d go on by a token", n, bucket.requests.Load())
			}
		})
	}
}
