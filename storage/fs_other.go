//go:build !linux

package storage

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// unnoticed is for Linux.
type unnoticed struct{}

func eachEntry(path string, _ *unnoticed, visit func(name []byte, mode fs.FileMode)) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	list, err := dir.ReadDir(-1)
	if closeErr := dir.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	for _, entry := range list {
		visit([]byte(entry.Name()), entry.Type())
	}
	return nil
}

func (t *tree) stat(name string) (Object, error) {
	info, err := os.Lstat(filepath.Join(t.base.Name(), filepath.FromSlash(name)))
	if err != nil {
		return Object{}, errors.Unwrap(err)
	}
	if !info.Mode().IsRegular() {
		return Object{}, ErrNotRegular
	}
	return Object{Path: name, Size: info.Size(), ModTime: info.ModTime()}, nil
}

func (t *tree) readBeneath([]byte, string, int64) (content []byte, supported bool, err error) {
	return nil, false, nil
}

func (f *filesystem) readNamed([]byte, []byte, int64) (content []byte, supported bool, err error) {
	return nil, false, nil
}

func removeBeneath(int, string, func(fs.FileMode) error) (supported bool, err error) {
	return false, nil
}

func removeDirBeneath(int, string) (supported bool, err error) { return false, nil }

func renameBeneath(int, string, string, func(fs.FileMode) error) (supported bool, err error) {
	return false, nil
}

func makeDirBeneath(int, string) (supported bool, err error) { return false, nil }

func (t *tree) openFileBeneath(string) (file *os.File, supported bool, err error) {
	return nil, false, nil
}

// syncFilesystem has the kernel write all that it has not yet written, of whatever
// filesystem: no call for one of them is common to all systems.
func syncFilesystem(*os.File) error {
	unix.Sync()
	return nil
}

func (t *tree) openDir(string) int { return -1 }

func closeDir(int) {}
