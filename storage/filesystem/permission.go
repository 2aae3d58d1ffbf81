//go:build unix

package filesystem

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path"
	"path/filepath"
	"strings"

	"regsweep/internal/system"
	"regsweep/storage"

	"golang.org/x/sys/unix"
)

// ExplainPermission implements storage.PermissionChecker.
func (f *Store) ExplainPermission(err error) error {
	if !errors.Is(err, fs.ErrPermission) || errors.As(err, new(*system.OwnerError)) || errors.As(err, new(*storage.UsageError)) {
		return err
	}
	layout := f.dir
	dirs := []string{layout}
	for _, pattern := range []string{storage.OwnDir, storage.BlobsDir, storage.BlobsDir + "/*", storage.BlobsDir + "/*/*", storage.RepositoriesDir, storage.RepositoriesDir + "/*", storage.RepositoriesDir + "/*/*"} {
		found, globErr := filepath.Glob(filepath.Join(layout, pattern))
		if globErr != nil {
			return err
		}
		dirs = append(dirs, found...)
	}
	for _, mode := range []uint32{unix.R_OK | unix.X_OK, unix.W_OK} {
		for _, dir := range dirs {
			if accessError(dir, mode) != nil {
				return system.PermissionError(dir, err)
			}
		}
	}
	return err
}

// RequireWrite implements storage.PermissionChecker. It checks the directory of one blob and of one
// link. Without this check all links would be removed before the removal of the first blob fails.
func (f *Store) RequireWrite(refs iter.Seq[storage.Ref]) error {
	checked := map[string]bool{}
	for ref := range refs {
		top, _, _ := strings.Cut(ref.Path, "/")
		if ref.Multipart != "" || checked[top] {
			continue
		}
		checked[top] = true
		dir := filepath.Join(f.dir, path.Dir(ref.Path))
		if err := accessError(dir, unix.W_OK|unix.X_OK); err != nil {
			return system.PermissionError(dir, err)
		}
		if len(checked) == 2 {
			break
		}
	}
	return nil
}

// accessError returns an error if this process lacks the access mode to a directory, or if the
// filesystem is read-only. A directory that is gone is no error.
func accessError(dir string, mode uint32) error {
	err := unix.Faccessat(unix.AT_FDCWD, dir, mode, 0)
	if err != nil { // without faccessat2(2) in the kernel, AT_EACCESS ignores access control lists
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
