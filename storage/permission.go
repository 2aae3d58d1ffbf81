//go:build unix

package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"os/user"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// ownerError says who owns the path that a permission is missing for.
type ownerError struct {
	error
	path, owner string
	isOwner     bool // this process runs as the owner
	mode        fs.FileMode
}

func (e *ownerError) Error() string {
	if e.isOwner {
		return fmt.Sprintf("%v: %s has the permissions %04o, and regsweep runs as its owner, user %s: add the permission (chmod u+rwx), or run regsweep as root (sudo)", e.error, e.path, e.mode.Perm(), e.owner)
	}
	return fmt.Sprintf("%v: %s belongs to user %s: run regsweep as that user, or as root (sudo)", e.error, e.path, e.owner)
}

func (e *ownerError) Unwrap() error { return e.error }

// permissionError adds to an error who may read a path, or which permission its owner lacks, if the
// error is that the permission is missing.
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
		return err // something else is the reason
	}
	return &ownerError{err, path, owner, isOwner, info.Mode()}
}

// ExplainPermission adds to an error of a filesystem who owns the directory that may not be read
// or written, if the error is that a permission is missing.
func ExplainPermission(store Store, err error) error {
	if !isFilesystem(store) || !errors.Is(err, fs.ErrPermission) || errors.As(err, new(*ownerError)) || errors.As(err, new(*UsageError)) {
		return err
	}
	layout := filepath.Join(store.Identity().Root, Root)
	dirs := []string{layout}
	for _, pattern := range []string{OwnDir, BlobsDir, BlobsDir + "/*", BlobsDir + "/*/*", RepositoriesDir, RepositoriesDir + "/*", RepositoriesDir + "/*/*"} {
		found, globErr := filepath.Glob(filepath.Join(layout, pattern))
		if globErr != nil {
			return err
		}
		dirs = append(dirs, found...)
	}
	for _, mode := range []uint32{unix.R_OK | unix.X_OK, unix.W_OK} {
		for _, dir := range dirs {
			if accessError(dir, mode) != nil {
				return permissionError(dir, err)
			}
		}
	}
	return err
}

// RequireWrite fails if this process may not remove objects of a filesystem. It tries one of the
// blobs and one of the repositories: otherwise all links would be removed before the first blob
// is refused.
func RequireWrite(store Store, refs iter.Seq[Ref]) error {
	if !isFilesystem(store) {
		return nil
	}
	checked := map[string]bool{}
	for ref := range refs {
		top, _, _ := strings.Cut(ref.Path, "/")
		if ref.Multipart != "" || checked[top] {
			continue
		}
		checked[top] = true
		dir := filepath.Join(store.Identity().Root, Root, path.Dir(ref.Path))
		if err := accessError(dir, unix.W_OK|unix.X_OK); err != nil {
			return permissionError(dir, err)
		}
		if len(checked) == 2 {
			break
		}
	}
	return nil
}

func isFilesystem(store Store) bool { return store.Identity().Driver == "filesystem" }

// accessError says that this process may not use a directory so, or that its filesystem is
// read-only. A directory that is gone is no obstacle.
func accessError(dir string, mode uint32) error {
	err := unix.Faccessat(unix.AT_FDCWD, dir, mode, 0)
	if err != nil { // this flag knows of no access lists where the kernel lacks faccessat2(2)
		err = unix.Faccessat(unix.AT_FDCWD, dir, mode, unix.AT_EACCESS)
	}
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) {
		verb := "read "
		if mode&unix.W_OK != 0 {
			verb = "remove what is in "
		}
		return fmt.Errorf("%s%s: %w", verb, dir, err)
	}
	return nil
}
