//go:build unix

package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// permissionError adds to an error who may read a path, if the error is that the permission is
// missing.
func permissionError(path string, err error) error {
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	info, statErr := os.Stat(path)
	for statErr != nil && path != filepath.Dir(path) {
		path = filepath.Dir(path)
		info, statErr = os.Stat(path)
	}
	if statErr != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return err
	}
	name := strconv.FormatUint(uint64(owner.Uid), 10)
	if u, lookupErr := user.LookupId(name); lookupErr == nil {
		name = u.Username + " (" + name + ")"
	}
	return fmt.Errorf("%w: %s belongs to user %s: run regsweep as that user, or as root (sudo)", err, path, name)
}
