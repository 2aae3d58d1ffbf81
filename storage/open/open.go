package open

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regsweep/storage"
	"regsweep/storage/config"
	"regsweep/storage/driver"
	"regsweep/storage/filesystem"
	"regsweep/storage/s3"
	"strconv"

	"github.com/distribution/distribution/v3/registry/storage/driver/factory"
)

// Open opens the storage that c names. "filesystem" and "s3" have backends of their
// own; any other driver is asked of Distribution's factory, in which only a program
// that links the driver has registered it. A driver that is not there is a
// *storage.UsageError.
func Open(ctx context.Context, c config.Config) (storage.Store, error) {
	switch c.Driver {
	case "filesystem":
		root, err := c.Root()
		if err != nil {
			return nil, err
		}
		// This program has threads of its own, but a registry refuses what is no number.
		if !isThreadLimit(c.Parameters["maxthreads"]) {
			return nil, storage.Usagef("%s: storage.filesystem.maxthreads is not a number: %v", c.Target, c.Parameters["maxthreads"])
		}
		if info, err := os.Stat(root); errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
			problem := "does not exist: is its volume mounted here?"
			if err == nil {
				problem = "is no directory"
			}
			if c.RootFrom != "" {
				problem = "(" + c.RootFrom + ") " + problem
			}
			return nil, storage.Usagef("the root directory %s %s", root, problem)
		}
		if err := config.Forbidden(root); err != nil {
			return nil, err
		}
		return filesystem.Open(root, c.Limits)
	case "s3", "s3aws":
		err := s3.CheckParameters(c.Parameters)
		if errors.Is(err, s3.ErrNoRegion) && c.File == "" {
			err = errors.New("no region: add ?region=…, or ?endpoint=… for a server that is not Amazon's")
		}
		if err != nil {
			return nil, storage.Usagef("%s: %w", c.Target, err)
		}
		return s3.Open(ctx, c.Parameters, s3.Options{c.Limits, c.Transport, c.OnSilence})
	}
	d, err := factory.Create(ctx, c.Driver, c.Parameters)
	if unknown := (factory.InvalidStorageDriverError{}); errors.As(err, &unknown) {
		return nil, storage.Usagef("%s: storage driver %q: regsweep works on filesystem and s3 only", c.Target, c.Driver)
	}
	if err != nil {
		return nil, fmt.Errorf("open storage driver %s: %w", c.Driver, err)
	}
	root := ""
	if value, found := c.Parameters["rootdirectory"]; found && value != nil {
		root = fmt.Sprint(value)
	}
	return driver.Open(d, root, c.Limits), nil
}

// isThreadLimit reports whether Distribution's filesystem driver takes a value for maxthreads.
func isThreadLimit(value any) bool {
	switch value := value.(type) {
	case nil, int, int32, int64, uint, uint32, uint64:
		return true
	case string:
		_, err := strconv.ParseUint(value, 0, 64)
		return err == nil
	}
	return false
}
