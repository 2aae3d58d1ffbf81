// Package miniotest starts S3 servers: MinIO, and the Versity gateway as one of another make. They are
// the real programs, since a fake would share its author's mistakes.
package miniotest

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/distribution/distribution/v3/configuration"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"regsweep/internal/servertest"
)

var (
	minio     = servertest.Program{Name: "minio", Package: "github.com/minio/minio", Version: "v0.0.0-20260212201848-7aac2a2c5b7c"}
	versitygw = servertest.Program{Name: "versitygw", Package: "github.com/versity/versitygw/cmd/versitygw", Version: "v1.8.0"}
)

// S3 is an S3 server in a process of its own, with nothing in it.
type S3 struct {
	Endpoint  string // http://127.0.0.1:port
	AccessKey string
	SecretKey string
	Region    string
	KeyID     string // a key for SSE-KMS, or "" where the server knows none

	client  *s3.Client
	process *servertest.Process
	scratch *servertest.Scratch
}

// StartMinIO starts MinIO with its data in a directory, by default that for temporary files. It keeps
// the MD5 as ETag, versions, and unfinished multipart uploads as S3 does.
func StartMinIO(ctx context.Context, dir string) (*S3, error) {
	path, err := minio.Get(ctx)
	if err != nil {
		return nil, fmt.Errorf("start minio: %w", err)
	}
	s, err := newS3(dir)
	if err != nil {
		return nil, fmt.Errorf("start minio: %w", err)
	}
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return nil, servertest.JoinCleanup(fmt.Errorf("start minio: %w", err), s.scratch)
	}
	s.KeyID = "parts"
	env := []string{
		"MINIO_ROOT_USER=" + s.AccessKey,
		"MINIO_ROOT_PASSWORD=" + s.SecretKey,
		"MINIO_KMS_SECRET_KEY=" + s.KeyID + ":" + base64.StdEncoding.EncodeToString(key),
		"MINIO_BROWSER=off",
		"MINIO_UPDATE=off",
	}
	return s.start(ctx, env, func(host string) (string, []string) {
		return path, []string{"server", "--quiet", "--certs-dir", filepath.Join(s.scratch.Path, "certs"),
			"--address", host, filepath.Join(s.scratch.Path, "data")}
	})
}

// StartVersityGW starts the Versity gateway, an S3 server of another make that
// serves a directory.
func StartVersityGW(ctx context.Context) (*S3, error) {
	path, err := versitygw.Get(ctx)
	if err != nil {
		return nil, fmt.Errorf("start versitygw: %w", err)
	}
	s, err := newS3("")
	if err != nil {
		return nil, fmt.Errorf("start versitygw: %w", err)
	}
	env := []string{"ROOT_ACCESS_KEY=" + s.AccessKey, "ROOT_SECRET_KEY=" + s.SecretKey}
	return s.start(ctx, env, func(host string) (string, []string) {
		return path, []string{"--port", host, "--region", s.Region, "--quiet", "posix", filepath.Join(s.scratch.Path, "data")}
	})
}

// SharedMinIO is one MinIO for all tests of a process, each of which takes a bucket
// of its own. It ends with the process. No test is about how MinIO writes to a disk, so it waits for none.
func SharedMinIO(t testing.TB) *S3 {
	t.Helper()
	minio.SkipUnbuilt(t)
	s, err := sharedMinIO()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// SharedVersityGW is the same for the Versity gateway.
func SharedVersityGW(t testing.TB) *S3 {
	t.Helper()
	versitygw.SkipUnbuilt(t)
	s, err := sharedVersityGW()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var (
	sharedMinIO     = sync.OnceValues(func() (*S3, error) { return StartMinIO(context.Background(), memory()) })
	sharedVersityGW = sync.OnceValues(func() (*S3, error) { return StartVersityGW(context.Background()) })
)

// memory is a directory in memory, or "" where there is none with room, or where TMPDIR says what to use.
func memory() string {
	const shared, room = "/dev/shm", 2 << 30
	var stat unix.Statfs_t
	if os.Getenv("TMPDIR") != "" || unix.Statfs(shared, &stat) != nil || stat.Bavail*uint64(stat.Bsize) < room {
		return ""
	}
	return shared
}

func newS3(dir string) (*S3, error) {
	scratch, err := servertest.NewScratch(dir, "regsweep-s3-")
	if err != nil {
		return nil, err
	}
	if err := os.Mkdir(filepath.Join(scratch.Path, "data"), 0o755); err != nil {
		return nil, servertest.JoinCleanup(err, scratch)
	}
	return &S3{AccessKey: rand.Text(), SecretKey: rand.Text(), Region: "us-east-1", scratch: scratch}, nil
}

func (s *S3) start(ctx context.Context, env []string, command func(host string) (string, []string)) (*S3, error) {
	process, _, err := servertest.OnFreePort(func(host string) (*servertest.Process, error) {
		s.Endpoint = "http://" + host
		s.client = s3.New(s3.Options{
			BaseEndpoint: aws.String(s.Endpoint),
			Region:       s.Region,
			UsePathStyle: true,
			Credentials:  credentials.NewStaticCredentialsProvider(s.AccessKey, s.SecretKey, ""),
		})
		path, args := command(host)
		return servertest.Start(ctx, env, func(ctx context.Context) error {
			// The client would wait and retry where a plain dial says no at once.
			connection, err := net.Dial("tcp", host)
			if err != nil {
				return err
			}
			if err := connection.Close(); err != nil {
				return err
			}
			_, err = s.client.ListBuckets(ctx, &s3.ListBucketsInput{})
			return err
		}, path, args...)
	})
	if err != nil {
		return nil, servertest.JoinCleanup(err, s.scratch)
	}
	s.process = process
	return s, nil
}

// Stop kills the server and removes all that it held.
func (s *S3) Stop() error {
	s.process.Stop()
	return s.scratch.Remove()
}

// Client is a client of the server, for what has no method here.
func (s *S3) Client() *s3.Client { return s.client }

// NewBucket creates a bucket.
func (s *S3) NewBucket(ctx context.Context, name string) error {
	if _, err := s.client.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &name}); err != nil {
		return fmt.Errorf("create bucket %s: %w", name, err)
	}
	return nil
}

// NewBucketT creates a bucket with a name of its own for a test.
func (s *S3) NewBucketT(t testing.TB) string {
	t.Helper()
	name := "bucket-" + strings.ToLower(rand.Text())
	if err := s.NewBucket(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	return name
}

// PutT writes an object, past all that is tested. It may be called from any goroutine.
func (s *S3) PutT(t testing.TB, bucket, key, content string) {
	t.Helper()
	_, err := s.client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: strings.NewReader(content)})
	if err != nil {
		t.Error(err)
	}
}

// Parameters are what Distribution's s3 driver takes to store in a bucket.
func (s *S3) Parameters(bucket, rootDirectory string) configuration.Parameters {
	return configuration.Parameters{
		"accesskey":      s.AccessKey,
		"secretkey":      s.SecretKey,
		"region":         s.Region,
		"regionendpoint": s.Endpoint,
		"forcepathstyle": true,
		"secure":         false,
		"bucket":         bucket,
		"rootdirectory":  rootDirectory,
	}
}

// Storage is the storage section of a registry in a bucket. The registry hands out
// the blobs itself, so that a pull tells what the registry can read.
func (s *S3) Storage(bucket, rootDirectory string) configuration.Storage {
	return configuration.Storage{
		"s3":       s.Parameters(bucket, rootDirectory),
		"redirect": {"disable": true},
	}
}

// transfers is how many objects are under way at once.
const transfers = 16

// UploadTree copies a registry on a filesystem into a bucket, file by file, so that
// one story can be told on both. rootDirectory is the driver's; directories with
// no file in them have nothing to become there.
func UploadTree(ctx context.Context, s *S3, bucket, rootDirectory, root string) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(transfers)
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		relative, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		group.Go(func() error { return s.upload(ctx, bucket, key(rootDirectory, filepath.ToSlash(relative)), path) })
		return ctx.Err()
	})
	// The group's error comes first: it is what cut the walk short.
	if err := errors.Join(group.Wait(), err); err != nil {
		return fmt.Errorf("upload %s to bucket %s: %w", root, bucket, err)
	}
	return nil
}

func (s *S3) upload(ctx context.Context, bucket, key, path string) (err error) {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	_, err = s.client.PutObject(ctx, &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: file})
	return err
}

// key is where Distribution's s3 driver puts a path below its rootdirectory.
func key(rootDirectory, path string) string {
	return strings.TrimLeft(strings.TrimRight(rootDirectory, "/")+"/"+path, "/")
}

// Snapshot is every object below a rootdirectory of a bucket, by path below it, with
// the digest of its content: equal to the Snapshot of an equal filesystem.
func (s *S3) Snapshot(ctx context.Context, bucket, rootDirectory string) (map[string]string, error) {
	prefix := key(rootDirectory, "")
	files := map[string]string{}
	var mu sync.Mutex
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(transfers)
	pages := s3.NewListObjectsV2Paginator(s.client, &s3.ListObjectsV2Input{Bucket: &bucket, Prefix: &prefix})
	var err error
	for err == nil && pages.HasMorePages() {
		var page *s3.ListObjectsV2Output
		if page, err = pages.NextPage(groupCtx); err != nil {
			break
		}
		for _, object := range page.Contents {
			group.Go(func() error {
				d, err := s.hash(groupCtx, bucket, *object.Key)
				mu.Lock()
				defer mu.Unlock()
				files[strings.TrimPrefix(*object.Key, prefix)] = d.String()
				return err
			})
		}
	}
	if err := errors.Join(group.Wait(), err); err != nil {
		return nil, fmt.Errorf("snapshot of bucket %s: %w", bucket, err)
	}
	return files, nil
}

func (s *S3) hash(ctx context.Context, bucket, key string) (d digest.Digest, err error) {
	object, err := s.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: &key})
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, object.Body.Close()) }()
	digester := digest.Canonical.Digester()
	if _, err := io.Copy(digester.Hash(), object.Body); err != nil {
		return "", err
	}
	return digester.Digest(), nil
}
