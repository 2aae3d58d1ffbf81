package driver

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"testing"

	"regsweep/internal/drivertest"
	"regsweep/storage"
	"regsweep/storage/storagetest"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/inmemory"
)

// TestFaults runs the suite of all storages with failing calls of the driver.
func TestFaults(t *testing.T) {
	storagetest.TestFaults(t, storagetest.Faulty{
		Faults: []string{"fails", "is denied", "is busy"},
		Open: func(t *testing.T, strike func() string) (storage.Store, func(path, content string)) {
			d := inmemory.New()
			store := over(faulty{d, strike}, "", storage.Limits{})
			fast := storage.Transport{Haste: 1000}
			store.retries = store.retries.Hasten(fast)
			store.retries.Pace.Hasten(fast)
			return store, func(path, content string) { drivertest.Put(t, d, path, content) }
		},
	})
}

// faulty is a driver whose calls fail.
type faulty struct {
	storagedriver.StorageDriver
	strike func() string
}

func (f faulty) fault() error {
	return map[string]error{
		"fails": errors.New("it fails"), "is denied": storagedriver.Error{Detail: fs.ErrPermission}, "is busy": storagedriver.Error{Detail: busyServer{}},
	}[f.strike()]
}

func (f faulty) List(ctx context.Context, path string) ([]string, error) {
	if err := f.fault(); err != nil {
		return nil, err
	}
	return f.StorageDriver.List(ctx, path)
}

func (f faulty) Stat(ctx context.Context, path string) (storagedriver.FileInfo, error) {
	if err := f.fault(); err != nil {
		return nil, err
	}
	return f.StorageDriver.Stat(ctx, path)
}

func (f faulty) Reader(ctx context.Context, path string, offset int64) (io.ReadCloser, error) {
	if err := f.fault(); err != nil {
		return nil, err
	}
	return f.StorageDriver.Reader(ctx, path, offset)
}

func (f faulty) Writer(ctx context.Context, path string, appends bool) (storagedriver.FileWriter, error) {
	if err := f.fault(); err != nil {
		return nil, err
	}
	return f.StorageDriver.Writer(ctx, path, appends)
}

func (f faulty) PutContent(ctx context.Context, path string, content []byte) error {
	if err := f.fault(); err != nil {
		return err
	}
	return f.StorageDriver.PutContent(ctx, path, content)
}

func (f faulty) Move(ctx context.Context, from, to string) error {
	if err := f.fault(); err != nil {
		return err
	}
	return f.StorageDriver.Move(ctx, from, to)
}

func (f faulty) Delete(ctx context.Context, path string) error {
	if err := f.fault(); err != nil {
		return err
	}
	return f.StorageDriver.Delete(ctx, path)
}
