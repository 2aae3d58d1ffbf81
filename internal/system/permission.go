//go:build unix

package system

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

// OwnerError is an error about a missing permission, with the owner of the path.
type OwnerError struct {
	error
	path, owner string
	isOwner     bool // this process runs as the owner
	mode        fs.FileMode
}

func (e *OwnerError) Error() string {
	if e.isOwner {
		return fmt.Sprintf("%v: %s has the permissions %04o, and regsweep runs as its owner, user %s: add the permission (chmod u+rwx), or run regsweep as root (sudo)", e.error, e.path, e.mode.Perm(), e.owner)
	}
	return fmt.Sprintf("%v: %s belongs to user %s: run regsweep as that user, or as root (sudo)", e.error, e.path, e.owner)
}

func (e *OwnerError) Unwrap() error { return e.error }

// PermissionError adds the owner of a path to an error, if the error is that a permission is
// missing. If this process runs as the owner, it adds the permissions of the path.
func PermissionError(path string, err error) error {
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
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return err
	}
	owner := strconv.FormatUint(uint64(stat.Uid), 10)
	if u, lookupErr := user.LookupId(owner); lookupErr == nil {
		owner = u.Username + " (" + owner + ")"
	}
	isOwner := int(stat.Uid) == os.Geteuid()
	if isOwner && info.Mode()&0o700 == 0o700 {
		return err // the owner has all permissions, so the reason is another one
	}
	return &OwnerError{err, path, owner, isOwner, info.Mode()}
}
