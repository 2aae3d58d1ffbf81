package storage

import (
	fsdriver "github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
	s3driver "github.com/distribution/distribution/v3/registry/storage/driver/s3-aws"

	"fmt"
	"testing"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
)

func overFilesystem(root string) Store {
	return OverDriver(fsdriver.New(fsdriver.DriverParameters{RootDirectory: root, MaxThreads: 64}), root)
}

func overS3(t *testing.T, parameters map[string]any) Store {
	t.Helper()
	d, err := s3driver.FromParameters(t.Context(), parameters)
	if err != nil {
		t.Fatal(err)
	}
	return OverDriver(d, fmt.Sprint(parameters["bucket"]))
}

func putThrough(t *testing.T, d storagedriver.StorageDriver, path, content string) {
	t.Helper()
	if err := d.PutContent(t.Context(), driverPath(path), []byte(content)); err != nil {
		t.Error(err)
	}
}
