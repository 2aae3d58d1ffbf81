package s3

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"regsweep/internal/miniotest"
	"regsweep/storage"
	"regsweep/storage/layout"
	"regsweep/storage/storagetest"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/opencontainers/go-digest"
)

func setVersioning(t *testing.T, server *miniotest.S3, bucket string, status types.BucketVersioningStatus) {
	t.Helper()
	_, err := server.Client().PutBucketVersioning(t.Context(), &s3.PutBucketVersioningInput{
		Bucket: &bucket, VersioningConfiguration: &types.VersioningConfiguration{Status: status},
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestS3PurgesVersions: nothing is left of the removed objects, neither earlier versions nor
// markers. All other objects keep all their versions.
func TestS3PurgesVersions(t *testing.T) {
	t.Parallel()
	server := miniotest.SharedMinIO(t)
	bucket := server.NewBucketT(t)
	store, plant := openBucket(t, server, bucket)
	versioner := store.(storage.Versioner)
	expect := func(want storage.Versioning) {
		t.Helper()
		if got, err := versioner.Versioning(t.Context()); err != nil || got != want {
			t.Errorf("versioning %q, %v, want %q", got, err, want)
		}
	}
	expect(storage.VersionsOff)
	before := storagetest.BlobPath("sha256", storagetest.HexOf("before")) // its version is "null"
	plant(before, "before")
	setVersioning(t, server, bucket, types.BucketVersioningStatusEnabled)
	expect(storage.VersionsKept)
	refs := []storage.Ref{{Path: before}}
	former, current := map[string]string{}, map[string]string{}
	for i := range 700 { // with two versions each, more than a page and a batch
		path := storagetest.BlobPath("sha256", storagetest.HexOf(i))
		former[path], current[path] = "12345", "1234567"
		refs = append(refs, storage.Ref{Path: path})
	}
	storagetest.PlantAll(plant, former)
	storagetest.PlantAll(plant, current)
	link := layout.LayerPath("team/app", digest.Digest("sha256:"+storagetest.HexOf("layer")))
	plant(link, "one")
	plant(link, "two")
	nested := layout.LayerPath("team/app/nested", digest.Digest("sha256:"+storagetest.HexOf("layer")))
	plant(nested, "one")
	plant(nested, "two")
	kept := storagetest.BlobPath("sha256", storagetest.HexOf("kept"))
	plant(kept, "one")
	plant(kept, "two")
	hidden := storagetest.BlobPath("sha256", storagetest.HexOf("hidden"))
	plant(hidden, "12345")
	if o := store.Remove(t.Context(), []storage.Ref{{Path: hidden}})[0]; o.Err != nil || !o.Hidden {
		t.Fatalf("%+v", o)
	}
	absent := storagetest.BlobPath("sha256", storagetest.HexOf("absent"))
	refs = append(refs, storage.Ref{Path: link}, storage.Ref{Path: hidden}, storage.Ref{Path: absent})

	counted := store.Requests()
	versions, err := versioner.Versions(t.Context(), slices.Values(refs), noneRecorded)
	if err != nil {
		t.Fatal(err)
	}
	if versions.Count != 700+1+1 || versions.Bytes != 700*5+3+5 {
		t.Errorf("%d noncurrent versions of %d bytes", versions.Count, versions.Bytes)
	}
	if lists := store.Requests().List - counted.List; lists > 4 {
		t.Errorf("%d requests list 1,400 versions", lists)
	}
	count, bytes := 0, int64(0)
	for len(refs) > 0 {
		n := min(len(refs), storage.RemoveBatch)
		for i, o := range versions.Remove(t.Context(), refs[:n]) {
			if o.Err != nil || o.Hidden && refs[i].Path != absent {
				t.Fatalf("%s: %+v", refs[i].Path, o)
			}
			count += o.Versions
			bytes += o.VersionBytes
		}
		refs = refs[n:]
	}
	if count != versions.Count || bytes != versions.Bytes {
		t.Errorf("%d versions of %d bytes were removed", count, bytes)
	}
	if deletes := store.Requests().Delete - counted.Delete; deletes > 3 {
		t.Errorf("%d requests remove 1,406 versions", deletes)
	}
	out, err := server.Client().ListObjectVersions(t.Context(), &s3.ListObjectVersionsInput{Bucket: &bucket})
	if err != nil {
		t.Fatal(err)
	}
	left := map[string]int{}
	for _, v := range out.Versions {
		left[*v.Key]++
	}
	prefix := store.(*Store).prefix
	if len(left) != 2 || left[prefix+kept] != 2 || left[prefix+nested] != 2 {
		t.Errorf("left: %v", left)
	}
	for _, m := range out.DeleteMarkers {
		if *m.Key == prefix+hidden {
			t.Errorf("a marker of %s is left", *m.Key)
		}
	}
	setVersioning(t, server, bucket, types.BucketVersioningStatusSuspended)
	expect(storage.VersionsSuspended)
}

// TestS3VersioningThatMayNotBeAskedFor: without the permission to ask for it, versioning is
// unknown, which is no error. Without the permission to list versions, the run fails before it
// removes anything.
func TestS3VersioningThatMayNotBeAskedFor(t *testing.T) {
	t.Parallel()
	for _, fault := range []struct {
		status int
		code   string
	}{{403, "AccessDenied"}, {501, "NotImplemented"}} {
		store, _ := fakeServer(t, func(_ int, w http.ResponseWriter, r *http.Request) { writeFault(w, fault.status, fault.code) })
		if got, err := store.Versioning(t.Context()); err != nil || got != storage.VersionsUnknown {
			t.Errorf("%s: %q, %v", fault.code, got, err)
		}
		_, err := store.Versions(t.Context(), slices.Values([]storage.Ref{{Path: "blobs/x"}}), noneRecorded)
		if err == nil || fault.status == 403 && !strings.Contains(err.Error(), "s3:ListBucketVersions") {
			t.Errorf("%s: versions: %v", fault.code, err)
		}
	}
}

// TestS3VersionsThatAServerOnlyHides: a version that the server only hides does not count as
// removed, and neither does a version whose removal fails.
func TestS3VersionsThatAServerOnlyHides(t *testing.T) {
	t.Parallel()
	store, _ := fakeServer(t, func(_ int, w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("versions") {
			fmt.Fprint(w, `<ListVersionsResult><Name>bucket</Name><IsTruncated>false</IsTruncated>`)
			for name, version := range map[string]string{"ignored": "null", "denied": "v1", "gone": "v1"} {
				fmt.Fprintf(w, `<Version><Key>%s</Key><VersionId>%s</VersionId><IsLatest>false</IsLatest><Size>3</Size></Version>`, storage.Root+"/blobs/"+name, version)
			}
			fmt.Fprint(w, `</ListVersionsResult>`)
			return
		}
		fmt.Fprintf(w, `<DeleteResult><Deleted><Key>%[1]s/ignored</Key><DeleteMarker>true</DeleteMarker><DeleteMarkerVersionId>m</DeleteMarkerVersionId></Deleted>`+
			`<Error><Key>%[1]s/denied</Key><VersionId>v1</VersionId><Code>AccessDenied</Code></Error>`+
			`<Deleted><Key>%[1]s/gone</Key><VersionId>v1</VersionId></Deleted></DeleteResult>`, storage.Root+"/blobs")
	})
	refs := []storage.Ref{{Path: "blobs/ignored"}, {Path: "blobs/denied"}, {Path: "blobs/gone"}}
	versions, err := store.Versions(t.Context(), slices.Values(refs), noneRecorded)
	if err != nil {
		t.Fatal(err)
	}
	got := versions.Remove(t.Context(), refs)
	if got[0].Err != nil || !got[0].Hidden || got[0].Versions != 0 {
		t.Errorf("ignored: %+v", got[0])
	}
	if got[1].Err == nil || got[1].Versions != 0 || !strings.Contains(got[1].Err.Error(), "s3:DeleteObjectVersion") {
		t.Errorf("denied: %+v", got[1])
	}
	if got[2].Err != nil || got[2].Versions != 1 || got[2].VersionBytes != 3 {
		t.Errorf("gone: %+v", got[2])
	}
}

// TestS3VirtualHosts: without forcepathstyle the bucket is part of the server's name.
func TestS3VirtualHosts(t *testing.T) {
	t.Parallel()
	asked := make(chan string, 100) // a scan lists keys and uploads, at once
	fake := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- strings.TrimSuffix(r.Host+r.URL.Path, "/")
		fmt.Fprint(w, listing(""))
	}))
	t.Cleanup(fake.Close)
	_, port, _ := strings.Cut(strings.TrimPrefix(fake.URL, "http://"), ":")
	for forced, want := range map[bool]string{true: "localhost:" + port + "/bucket", false: "bucket.localhost:" + port} {
		store := storagetest.MustOpen(t)(Open(t.Context(), map[string]any{
			"accesskey": "key", "secretkey": "secret", "bucket": "bucket",
			"regionendpoint": "http://localhost:" + port, "forcepathstyle": forced,
		}, Options{})).(*Store)
		store.requests.client = toServer(fake)
		if err := store.Scan(t.Context(), storage.RepositoriesDir, func([]storage.Object) error { return nil }); err != nil {
			t.Fatal(err)
		}
		if len(asked) == 0 {
			t.Error("nothing was asked")
		}
		for len(asked) > 0 {
			if got := <-asked; got != want {
				t.Errorf("forcepathstyle %t: %q, want %q", forced, got, want)
			}
		}
	}
}

// toServer sends all requests to one server, whatever host they name.
func toServer(server *httptest.Server) storage.HTTPClient {
	return clientFunc(func(r *http.Request) (*http.Response, error) {
		host := r.URL.Host
		r = r.Clone(r.Context())
		r.Host, r.URL.Host = host, strings.TrimPrefix(server.URL, "http://")
		return server.Client().Do(r)
	})
}

type clientFunc func(*http.Request) (*http.Response, error)

func (f clientFunc) Do(r *http.Request) (*http.Response, error) { return f(r) }

// noneRecorded is for a storage without a quarantine.
func noneRecorded(path, version string) (bool, error) { return false, nil }
