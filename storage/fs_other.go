//go:build !linux

package storage

import (
	"io/fs"
	"os"
)

func readDirectory(path string) ([]dirEntry, error) {
	dir, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	list, err := dir.ReadDir(-1)
	if closeErr := dir.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return nil, err
	}
	entries := make([]dirEntry, len(list))
	for i, entry := range list {
		entries[i] = dirEntry{entry.Name(), entry.Type()}
	}
	return entries, nil
}

func readBeneath(int, string, int64) (content []byte, supported bool, err error) {
	return nil, false, nil
}

func removeBeneath(int, string, func(fs.FileMode) error) (supported bool, err error) {
	return false, nil
}

func removeDirBeneath(int, string) (supported bool, err error) { return false, nil }

func (t *tree) openDir(string) int { return -1 }

func closeDir(int) {}
