package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"regsweep/internal/drivertest"
	"regsweep/internal/miniotest"
	"regsweep/storage"
	"regsweep/storage/pace"
	"regsweep/storage/storagetest"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	s3driver "github.com/distribution/distribution/v3/registry/storage/driver/s3-aws"
)

// init removes the AWS settings of the machine, which both SDKs read.
func init() {
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "AWS_") {
			if err := os.Unsetenv(name); err != nil {
				panic(err)
			}
		}
	}
}

// eachServer runs a test against two S3 servers of different makes.
func eachServer(t *testing.T, test func(t *testing.T, server *miniotest.S3)) {
	t.Run("MinIO", func(t *testing.T) { t.Parallel(); test(t, miniotest.SharedMinIO(t)) })
	t.Run("versitygw", func(t *testing.T) { t.Parallel(); test(t, miniotest.SharedVersityGW(t)) })
}

// TestS3KeysAreTheRegistrys writes with Distribution's driver and reads with this package, and
// the other way round, for every spelling of a root directory.
func TestS3KeysAreTheRegistrys(t *testing.T) {
	t.Parallel()
	server := miniotest.SharedMinIO(t)
	for _, root := range []string{"", "/", "/a", "a/", "/a/b/", "//a"} {
		t.Run(strings.ReplaceAll(root, "/", "|"), func(t *testing.T) {
			parameters := server.Parameters(server.NewBucketT(t), root)
			d, err := s3driver.FromParameters(t.Context(), parameters)
			if err != nil {
				t.Fatal(err)
			}
			store := storagetest.MustOpen(t)(Open(t.Context(), parameters, Options{}))
			want := storagetest.Fixture()
			storagetest.PlantAll(func(path, content string) { drivertest.Put(t, d, path, content) }, want)
			got := storagetest.KeysOf(storagetest.Scan(t, store, storage.BlobsDir))
			maps.Copy(got, storagetest.KeysOf(storagetest.Scan(t, store, storage.RepositoriesDir)))
			storagetest.SamePaths(t, got, want)
			for path, content := range want {
				if read, err := store.Read(t.Context(), path, 1000); err != nil || string(read) != content {
					t.Errorf("read %s: %q, %v", path, read, err)
				}
			}
			if _, err := store.Create(t.Context(), ".regsweep/lock", []byte("lock")); err != nil {
				t.Fatal(err)
			}
			if lock, err := d.GetContent(t.Context(), "/"+storage.Root+"/.regsweep/lock"); err != nil || string(lock) != "lock" {
				t.Errorf("the driver reads %q, %v", lock, err)
			}
		})
	}
}

// TestS3RootIsNoPrefixOfAnother: "/a" and "/ab" are two registries.
func TestS3RootIsNoPrefixOfAnother(t *testing.T) {
	t.Parallel()
	server := miniotest.SharedMinIO(t)
	bucket := server.NewBucketT(t)
	for _, root := range []string{"a", "ab", "a/b"} {
		server.PutT(t, bucket, root+"/"+storage.Root+"/blobs/in-"+root[len(root)-1:], "x")
		server.PutT(t, bucket, root+"/"+storage.Root+"-old/blobs/beside", "x")
	}
	store := storagetest.MustOpen(t)(Open(t.Context(), server.Parameters(bucket, "/a"), Options{}))
	storagetest.SamePaths(t, storagetest.KeysOf(storagetest.Scan(t, store, storage.BlobsDir)), map[string]string{"blobs/in-a": ""})
}

// TestS3ReportsFolderKeys: some tools make an empty object for a folder.
func TestS3ReportsFolderKeys(t *testing.T) {
	t.Parallel()
	server := miniotest.SharedMinIO(t)
	bucket := server.NewBucketT(t)
	store, plant := openBucket(t, server, bucket)
	want := map[string]string{
		"blobs/":        "",
		"blobs/sha256/": "",
		storagetest.BlobPath("sha256", storagetest.HexOf("b")): "b",
		"repositories/":             "",
		"repositories/app/_layers/": "",
	}
	storagetest.PlantAll(plant, want)
	got := storagetest.KeysOf(storagetest.Scan(t, store, storage.BlobsDir))
	maps.Copy(got, storagetest.KeysOf(storagetest.Scan(t, store, storage.RepositoriesDir)))
	storagetest.SamePaths(t, got, want)
}

// TestS3UnfinishedUploads: they cost money, and no listing of objects shows them.
func TestS3UnfinishedUploads(t *testing.T) {
	t.Parallel()
	eachServer(t, func(t *testing.T, server *miniotest.S3) {
		bucket := server.NewBucketT(t)
		store, _ := openBucket(t, server, bucket)
		begin := func(key string) string {
			out, err := server.Client().CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: &bucket, Key: &key})
			if err != nil {
				t.Fatal(err)
			}
			return *out.UploadId
		}
		prefix := "a/registry/" + storage.Root + "/"
		upload := "repositories/app/_uploads/6fd5a5a8-93d9-4d48-a9a4-5d3e5d4f0001/data"
		blob := storagetest.BlobPath("sha256", storagetest.HexOf("copy"))
		want := map[string]storage.Ref{}
		for _, path := range []string{upload, upload, blob} {
			id := begin(prefix + path)
			want[path+" "+id] = storage.Ref{Path: path, Multipart: id}
		}
		elsewhere := []string{begin("another/registry/" + prefix + upload), begin(prefix + "repositories-old/data")}

		var refs []storage.Ref
		for _, dir := range []string{storage.BlobsDir, storage.RepositoriesDir} {
			for key, object := range storagetest.Scan(t, store, dir) {
				if want[key] != (storage.Ref{Path: object.Path, Multipart: object.Multipart}) || !strings.HasPrefix(object.Path, dir+"/") {
					t.Errorf("scan %s: %+v", dir, object)
				}
				if time.Since(object.ModTime).Abs() > time.Hour || object.Size != -1 {
					t.Errorf("scan %s: %+v", dir, object)
				}
				refs = append(refs, want[key])
			}
		}
		if len(refs) != len(want) {
			t.Fatalf("%d uploads are reported of %d", len(refs), len(want))
		}
		for range 2 { // an absent upload counts as aborted
			for i, outcome := range store.Remove(t.Context(), refs) {
				if outcome.Err != nil {
					t.Errorf("abort %v: %v", refs[i], outcome.Err)
				}
			}
		}
		for _, dir := range []string{storage.BlobsDir, storage.RepositoriesDir} {
			if left := storagetest.Scan(t, store, dir); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		}
		out, err := server.Client().ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: &bucket})
		if err != nil || len(out.Uploads) != len(elsewhere) {
			t.Errorf("elsewhere: %v, %v", out, err)
		}
	})
}

// TestS3VersionedBucketKeepsTheBytes: a removal in such a bucket frees no space, and says so.
func TestS3VersionedBucketKeepsTheBytes(t *testing.T) {
	t.Parallel()
	server := miniotest.SharedMinIO(t)
	bucket := server.NewBucketT(t)
	store, plant := openBucket(t, server, bucket)
	_, err := server.Client().PutBucketVersioning(t.Context(), &s3.PutBucketVersioningInput{
		Bucket: &bucket, VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled},
	})
	if err != nil {
		t.Fatal(err)
	}
	plain, odd := storagetest.BlobPath("sha256", storagetest.HexOf("plain")), "blobs/odd\x7f/data"
	plant(plain, "x")
	plant(odd, "x")
	for i, outcome := range store.Remove(t.Context(), []storage.Ref{{Path: plain}, {Path: odd}}) {
		if outcome.Err != nil || !outcome.Hidden {
			t.Errorf("removal %d: %+v", i, outcome)
		}
	}
	if left := storagetest.Scan(t, store, storage.BlobsDir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestS3RemovesKeysThatXMLCannotHold: DeleteObjects names its keys in XML.
func TestS3RemovesKeysThatXMLCannotHold(t *testing.T) {
	t.Parallel()
	server := miniotest.SharedMinIO(t)
	store, plant := openBucket(t, server, server.NewBucketT(t))
	want := map[string]string{}
	for _, odd := range []string{"\x01", "\x1f", "\t", "\n", "\r", "\x7f", "\u0085", "\uffff", "a\r\nb"} {
		want["blobs/"+odd+"x/data"] = "odd"
	}
	kept := storagetest.BlobPath("sha256", storagetest.HexOf("kept"))
	want[kept] = "kept"
	storagetest.PlantAll(plant, want)
	var refs []storage.Ref
	objects := storagetest.Scan(t, store, storage.BlobsDir)
	storagetest.SamePaths(t, storagetest.KeysOf(objects), want)
	for path := range objects {
		if path != kept {
			refs = append(refs, storage.Ref{Path: path})
		}
	}
	for range 2 {
		for i, outcome := range store.Remove(t.Context(), refs) {
			if outcome.Err != nil {
				t.Errorf("remove %q: %v", refs[i].Path, outcome.Err)
			}
		}
	}
	storagetest.SamePaths(t, storagetest.KeysOf(storagetest.Scan(t, store, storage.BlobsDir)), map[string]string{kept: ""})
}

// TestS3EncryptsWhatItWrites: objects are encrypted as the registry's configuration says.
func TestS3EncryptsWhatItWrites(t *testing.T) {
	t.Parallel()
	server := miniotest.SharedMinIO(t)
	for name, encryption := range map[string]struct {
		keyID string
		want  types.ServerSideEncryption
	}{
		"SSE-S3":  {"", types.ServerSideEncryptionAes256},
		"SSE-KMS": {server.KeyID, types.ServerSideEncryptionAwsKms},
	} {
		t.Run(name, func(t *testing.T) {
			bucket := server.NewBucketT(t)
			parameters := server.Parameters(bucket, "")
			parameters["encrypt"], parameters["keyid"] = "true", encryption.keyID
			store := storagetest.MustOpen(t)(Open(t.Context(), parameters, Options{}))
			version, err := store.Create(t.Context(), ".regsweep/lock", []byte("one"))
			if err != nil {
				t.Fatal(err)
			}
			version, err = store.Replace(t.Context(), ".regsweep/lock", []byte("two"), version)
			if err != nil {
				t.Fatal(err)
			}
			if _, err = store.Replace(t.Context(), ".regsweep/lock", []byte("three"), version+"x"); !errors.Is(err, storage.ErrLost) {
				t.Errorf("replace another version: %v", err)
			}
			head, err := server.Client().HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: &bucket, Key: aws.String(storage.Root + "/.regsweep/lock")})
			if err != nil || head.ServerSideEncryption != encryption.want {
				t.Errorf("encrypted by %v, %v", head.ServerSideEncryption, err)
			}
		})
	}
}

// TestS3SmallRegistryCostsFewRequests: there is no request for each key, and no page is read twice.
func TestS3SmallRegistryCostsFewRequests(t *testing.T) {
	t.Parallel()
	server := miniotest.SharedMinIO(t)
	store, plant := openBucket(t, server, server.NewBucketT(t))
	for i := range 50 {
		plant(storagetest.BlobPath("sha256", storagetest.HexOf(i)), "x")
	}
	storagetest.Scan(t, store, storage.BlobsDir)
	// One page of keys; the uploads with a prefix, and without.
	if got, want := store.Requests(), (storage.Requests{List: 3}); got != want {
		t.Errorf("a scan took %+v, want %+v", got, want)
	}
}

// TestS3ErrorsAreOneLineWithoutSecrets tests the errors for mistakes of users.
func TestS3ErrorsAreOneLineWithoutSecrets(t *testing.T) {
	t.Parallel()
	server := miniotest.SharedMinIO(t)
	bucket := server.NewBucketT(t)
	free := httptest.NewServer(http.NotFoundHandler())
	free.Close() // an address where nothing listens
	for name, test := range map[string]struct {
		change map[string]any
		want   string
	}{
		"bucket that is not there": {map[string]any{"bucket": bucket + "-not"}, "NoSuchBucket"},
		"wrong secret":             {map[string]any{"secretkey": "very-secret-indeed"}, "SignatureDoesNotMatch"},
		"wrong key":                {map[string]any{"accesskey": "very-secret-indeed"}, "InvalidAccessKeyId"},
		"nobody listens":           {map[string]any{"regionendpoint": free.URL}, "connection refused"},
		"https to an http server":  {map[string]any{"regionendpoint": strings.Replace(server.Endpoint, "http:", "https:", 1)}, "HTTP response to HTTPS client"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			parameters := server.Parameters(bucket, "")
			maps.Copy(parameters, test.change)
			store := storagetest.MustOpen(t)(Open(t.Context(), parameters, Options{}))
			err := store.Scan(t.Context(), storage.BlobsDir, func([]storage.Object) error { return nil })
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("scan: %v", err)
			}
			// Stat alone can't tell a missing bucket from a missing object.
			_, readErr := store.Read(t.Context(), "blobs/x", 10)
			if readErr == nil || errors.Is(readErr, fs.ErrNotExist) {
				t.Errorf("read: %v", readErr)
			}
			_, createErr := store.Create(t.Context(), "blobs/x", nil)
			if createErr == nil || errors.Is(createErr, fs.ErrExist) {
				t.Errorf("create: %v", createErr)
			}
			outcome := store.Remove(t.Context(), []storage.Ref{{Path: "blobs/x"}})[0]
			if outcome.Err == nil {
				t.Error("remove: no error")
			}
			for _, err := range []error{err, readErr, createErr, outcome.Err} {
				for _, secret := range []string{server.SecretKey, "very-secret-indeed"} {
					if err != nil && strings.Contains(err.Error(), secret) {
						t.Errorf("the error tells a secret: %v", err)
					}
				}
			}
			if pace.Transient(err) {
				t.Errorf("%v: this would be tried again", err)
			}
		})
	}
}

// TestS3SkipVerify: only with skipverify an unknown certificate is accepted.
func TestS3SkipVerify(t *testing.T) {
	t.Parallel()
	fake := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `<ListBucketResult><Name>b</Name><IsTruncated>false</IsTruncated></ListBucketResult>`)
	}))
	fake.Config.ErrorLog = log.New(io.Discard, "", 0)
	fake.StartTLS()
	t.Cleanup(fake.Close)
	for _, skip := range []any{true, "true", false, nil} {
		parameters := map[string]any{
			"accesskey": "a", "secretkey": "s", "bucket": "b", "forcepathstyle": true,
			"regionendpoint": strings.TrimPrefix(fake.URL, "https://"), "skipverify": skip,
		}
		store := storagetest.MustOpen(t)(Open(t.Context(), parameters, Options{}))
		err := store.Scan(t.Context(), storage.BlobsDir, func([]storage.Object) error { return nil })
		if trusted := skip == true || skip == "true"; trusted != (err == nil) {
			t.Errorf("skipverify %v: %v", skip, err)
		}
	}
}

func TestS3Parameters(t *testing.T) {
	base := func(more map[string]any) map[string]any {
		parameters := map[string]any{"bucket": "b", "region": "eu-central-1", "accesskey": "AK", "secretkey": "SK"}
		maps.Copy(parameters, more)
		return parameters
	}
	for name, test := range map[string]struct {
		give map[string]any
		want func(p settings) bool
		root string // of the identity, where it matters
	}{
		"plain":                {nil, func(p settings) bool { return p.endpoint == "" && !p.pathStyle && !p.plain && p.accessKey == "AK" }, "s3://b?region=eu-central-1"},
		"root directory":       {map[string]any{"rootdirectory": "/a/b/"}, func(p settings) bool { return p.root == "a/b" }, "s3://b/a/b?region=eu-central-1"},
		"root of slashes":      {map[string]any{"rootdirectory": "//"}, func(p settings) bool { return p.root == "" }, "s3://b?region=eu-central-1"},
		"strings for booleans": {map[string]any{"forcepathstyle": "true", "encrypt": "1", "secure": "f"}, func(p settings) bool { return p.pathStyle && p.encrypt && p.plain }, ""},
		"booleans":             {map[string]any{"forcepathstyle": true, "skipverify": true, "accelerate": true, "usedualstack": true, "usefipsendpoint": true}, func(p settings) bool { return p.pathStyle && p.skipVerify && p.accelerate && p.dualStack && p.fips }, ""},
		"endpoint without scheme": {map[string]any{"regionendpoint": "Minio:9000"}, func(p settings) bool { return p.endpoint == "https://Minio:9000" },
			"s3://b?endpoint=https%3A%2F%2Fminio%3A9000"},
		"insecure endpoint without scheme": {map[string]any{"regionendpoint": "minio:9000", "secure": false}, func(p settings) bool { return p.endpoint == "http://minio:9000" && !p.plain },
			"s3://b?endpoint=http%3A%2F%2Fminio%3A9000"},
		"default port and slash":      {map[string]any{"regionendpoint": "HTTP://minio:80/"}, func(settings) bool { return true }, "s3://b?endpoint=http%3A%2F%2Fminio"},
		"IPv6":                        {map[string]any{"regionendpoint": "http://[::1]:80"}, func(settings) bool { return true }, "s3://b?endpoint=http%3A%2F%2F%5B%3A%3A1%5D"},
		"Amazon's own endpoint":       {map[string]any{"regionendpoint": "https://s3.eu-central-1.amazonaws.com"}, func(p settings) bool { return p.endpoint != "" }, "s3://b?region=eu-central-1"},
		"endpoint without region":     {map[string]any{"regionendpoint": "http://minio", "region": nil}, func(p settings) bool { return p.region == "us-east-1" }, "s3://b?endpoint=http%3A%2F%2Fminio"},
		"endpoint with what it can't": {map[string]any{"regionendpoint": "http://minio", "accelerate": true, "usedualstack": true, "usefipsendpoint": true}, func(p settings) bool { return !p.accelerate && !p.dualStack && !p.fips }, ""},
		"a number for a bucket":       {map[string]any{"bucket": 123}, func(p settings) bool { return p.bucket == "123" }, "s3://123?region=eu-central-1"},
		"a key without its secret":    {map[string]any{"secretkey": nil}, func(p settings) bool { return p.accessKey == "" && p.secretKey == "" }, ""},
		"v4auth off elsewhere":        {map[string]any{"regionendpoint": "http://minio", "v4auth": "false"}, func(p settings) bool { return true }, ""},
		"what does not matter here":   {map[string]any{"chunksize": "10485760", "loglevel": false, "storageclass": "ODD", "sessiontoken": "t"}, func(p settings) bool { return true }, ""},
		"a slash after the bucket":    {map[string]any{"bucket": "b/"}, func(p settings) bool { return p.bucket == "b" }, "s3://b?region=eu-central-1"},
		"slashes after the bucket":    {map[string]any{"bucket": "b//", "rootdirectory": "/a"}, func(p settings) bool { return p.bucket == "b" }, "s3://b/a?region=eu-central-1"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := parseParameters(base(test.give))
			if err != nil || !test.want(p) {
				t.Errorf("%+v, %v", p, err)
			}
			if got := p.identity(); test.root != "" && got != (storage.Identity{Driver: "s3", Root: test.root}) {
				t.Errorf("identity %+v, want %s", got, test.root)
			}
			if got := fmt.Sprint(p.identity()); strings.Contains(got, "AK") || strings.Contains(got, "SK") {
				t.Errorf("the identity tells a secret: %s", got)
			}
		})
	}
	for name, test := range map[string]struct {
		give map[string]any
		want string
	}{
		"no bucket":         {map[string]any{"bucket": ""}, "no bucket"},
		"only a slash":      {map[string]any{"bucket": "/"}, "no bucket"},
		"bucket and folder": {map[string]any{"bucket": "registry/folder/"}, "set bucket: registry and rootdirectory: /folder"},
		"chunk size":        {map[string]any{"chunksize": "many"}, "chunksize is not a number"},
		"copies":            {map[string]any{"multipartcopymaxconcurrency": "many"}, "multipartcopymaxconcurrency is not a number"},
		"threshold":         {map[string]any{"multipartcopythresholdsize": []any{1}}, "multipartcopythresholdsize is not a number"},
		"storage class":     {map[string]any{"storageclass": 7}, "storageclass is not a text"},
		"object ACL":        {map[string]any{"objectacl": true}, "objectacl is not a text"},
		"no region":         {map[string]any{"region": nil}, "no region"},
		"bool":              {map[string]any{"secure": "maybe"}, "secure is not a boolean"},
		"bool of a number":  {map[string]any{"encrypt": 1}, "encrypt is not a boolean"},
		"v2 on Amazon":      {map[string]any{"v4auth": false}, "version 4"},
		"endpoint nonsense": {map[string]any{"regionendpoint": "ftp://x:secret@y"}, "regionendpoint"},
		"endpoint broken":   {map[string]any{"regionendpoint": "http://x:secret@y:port%%"}, "regionendpoint"},
		"endpoint password": {map[string]any{"regionendpoint": "http://x:secret@y"}, "user name"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Open(t.Context(), base(test.give), Options{})
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "secret@") || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}

// TestS3CredentialsFromTheEnvironment: the registry uses them too if its configuration has
// none.
func TestS3CredentialsFromTheEnvironment(t *testing.T) {
	server := miniotest.SharedMinIO(t)
	bucket := server.NewBucketT(t)
	t.Setenv("AWS_ACCESS_KEY_ID", server.AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", server.SecretKey)
	t.Setenv("AWS_ENDPOINT_URL", "http://no-such-host.invalid") // which Distribution does not heed
	amazon := storagetest.MustOpen(t)(Open(t.Context(), map[string]any{"bucket": "b", "region": "eu-central-1"}, Options{})).(*Store)
	if endpoint := amazon.client.Options().BaseEndpoint; endpoint != nil {
		t.Errorf("the registry would be collected at %s", *endpoint)
	}
	parameters := server.Parameters(bucket, "")
	delete(parameters, "accesskey")
	delete(parameters, "secretkey")
	store := storagetest.MustOpen(t)(Open(t.Context(), parameters, Options{}))
	storagetest.Scan(t, store, storage.BlobsDir)

	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_CONFIG_FILE", t.TempDir()+"/none")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", t.TempDir()+"/none")
	if _, err := Open(t.Context(), parameters, Options{}); err == nil || !strings.Contains(err.Error(), "no credentials") || strings.Contains(err.Error(), "\n") {
		t.Errorf("open without credentials: %v", err)
	}
}

// TestS3ScanStopsWhenCancelled: a scan stops while the server is slow.
func TestS3ScanStopsWhenCancelled(t *testing.T) {
	t.Parallel()
	var once sync.Once
	asked := make(chan struct{})
	release := make(chan struct{})
	fake := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		once.Do(func() { close(asked) })
		<-release
	}))
	t.Cleanup(fake.Close)
	t.Cleanup(func() { close(release) })
	store := openFake(t, fake)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	began := time.Now()
	if err := store.Scan(ctx, storage.BlobsDir, func([]storage.Object) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("scan: %v", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}
