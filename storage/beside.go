package storage

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"path/filepath"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
)

// Files beside the layout by which other users of a storage are known. Their paths are
// below the registry's root directory.
const (
	// GitLabDatabaseFile is written by GitLab's registry when its metadata database is
	// in use. Source: registry/storage/locker.go of GitLab's container-registry.
	GitLabDatabaseFile = "docker/registry/lockfiles/database-in-use"
	// ProxyStateFile is where a pull-through cache keeps the expiry of what it has
	// cached. Source: registry/proxy/proxyregistry.go of Distribution.
	ProxyStateFile = "scheduler-state.json"
)

// Beside stats a file. It counts as absent only if a listing agrees.
func (f *filesystem) Beside(ctx context.Context, name string) (bool, error) {
	if err := f.begin(ctx); err != nil {
		return false, err
	}
	defer f.end()
	f.head.Add(1)
	dir, err := f.openBelowRoot(path.Dir(name))
	if dir < 0 || err != nil {
		return false, err
	}
	_, err = modeOf(dir, path.Base(name))
	isThere := err == nil
	if isAbsent(err) {
		err = confirmAbsentAt(dir, path.Base(name))
	}
	if err = closeAfter(dir, err); err != nil {
		return false, &fs.PathError{Op: "stat", Path: filepath.Join(f.identity.Root, name), Err: err}
	}
	return isThere, nil
}

// Beside lists: a stat of a key takes a permission on that key, which the policies of
// the README do not give.
func (s *s3Store) Beside(ctx context.Context, path string) (found bool, err error) {
	key := strings.TrimSuffix(s.prefix, Root+"/") + path
	err = s.do(ctx, "list", "s3:ListBucket", path, func() error {
		out, err := s.client.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &s.parameters.bucket, Prefix: &key, MaxKeys: aws.Int32(1)})
		if err == nil {
			found = len(out.Contents) > 0 && aws.ToString(out.Contents[0].Key) == key
		}
		return err
	})
	return found, err
}

// Beside stats a file.
func (o *overDriver) Beside(ctx context.Context, path string) (bool, error) {
	err := o.do(ctx, "stat", path, func() error {
		o.head.Add(1)
		_, err := o.driver.Stat(ctx, "/"+path)
		return err
	})
	var missing storagedriver.PathNotFoundError
	if errors.Is(err, fs.ErrNotExist) || errors.As(err, &missing) {
		return false, nil
	}
	return err == nil, err
}
