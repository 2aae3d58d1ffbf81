// Package open opens the storage that a configuration names. It is the only package that knows
// every backend.
package open

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strconv"

	_ "regsweep/internal/system" // does not compile on systems that regsweep does not support
	"regsweep/storage"
	"regsweep/storage/config"
	"regsweep/storage/driver"
	"regsweep/storage/filesystem"
	"regsweep/storage/s3"
)

// Store opens the storage that c names. "filesystem" and "s3" have backends of their
// own. driver.Open opens the storage of any other driver. If there is no such driver, the error
// is a *storage.UsageError.
func Store(ctx context.Context, c config.Config) (storage.Store, error) {
	switch c.Driver {
	case "filesystem":
		root, err := c.Root()
		if err != nil {
			return nil, err
		}
		// This program does not use maxthreads. But a registry does not start if it is no number.
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
		return s3.Open(ctx, c.Parameters, s3.Options{Limits: c.Limits, Transport: c.Transport, OnSilence: c.OnSilence})
	}
	store, err := driver.Open(ctx, c.Driver, c.Parameters, c.Limits)
	if errors.Is(err, driver.ErrUnknown) {
		return nil, storage.Usagef("%s: storage driver %q: regsweep works on filesystem and s3 only", c.Target, c.Driver)
	}
	return store, err
}

// isThreadLimit reports whether Distribution's filesystem driver accepts a value of maxthreads.
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
