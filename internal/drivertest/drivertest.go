// Package drivertest makes Distribution's own drivers, as a registry would use them.
package drivertest

import (
	"testing"

	"regsweep/storage"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	fsdriver "github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
	s3driver "github.com/distribution/distribution/v3/registry/storage/driver/s3-aws"
)

// Filesystem is the driver of a filesystem registry.
func Filesystem(root string) storagedriver.StorageDriver {
	return fsdriver.New(fsdriver.DriverParameters{RootDirectory: root, MaxThreads: 64})
}

// S3 is the driver of a registry in a bucket.
func S3(t *testing.T, parameters map[string]any) storagedriver.StorageDriver {
	t.Helper()
	d, err := s3driver.FromParameters(t.Context(), parameters)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// Put writes an object by its path below the layout's root.
func Put(t *testing.T, d storagedriver.StorageDriver, path, content string) {
	t.Helper()
	if err := d.PutContent(t.Context(), "/"+storage.Root+"/"+path, []byte(content)); err != nil {
		t.Error(err)
	}
}
