// Package spool makes temporary files that have no name. The kernel removes them when they are
// closed.
package spool

import (
	"errors"
	"fmt"
	"io"
	"os"

	"regsweep/storage"
)

// Write makes a file without a name, and calls write to fill it. The file is in the directory for
// temporary files, or in memory if it can't be written there: a container may have no such
// directory, and the directory may be on the registry's full disk.
func Write(write func(io.Writer) error) (*os.File, error) {
	file, err := temporaryFile()
	if err == nil {
		if err = write(file); err == nil {
			return file, nil
		}
		err = errors.Join(err, file.Close())
		if !storage.IsFull(err) {
			return nil, err
		}
	}
	file, inMemory := memoryFile()
	if inMemory != nil {
		return nil, fmt.Errorf("make a temporary file: %w: set TMPDIR to a directory with free space", err)
	}
	if err := write(file); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// New makes an empty file without a name. It is in memory if no temporary file can be made.
func New() (*os.File, error) {
	file, err := temporaryFile()
	if err == nil {
		return file, nil
	}
	if inMemory, memErr := memoryFile(); memErr == nil {
		return inMemory, nil
	}
	return nil, err
}

// OnDisk is Write for content that may be larger than the memory. The file is in $TMPDIR or, if that is not
// set, in /var/tmp: /tmp may be in memory. If there is no space for the content, the error matches
// storage.IsFull and names the directory.
func OnDisk(write func(io.Writer) error) (*os.File, error) {
	const advice = "set TMPDIR to a directory with free space"
	dir := "/var/tmp"
	if info, err := os.Stat(dir); err != nil || !info.IsDir() || os.Getenv("TMPDIR") != "" {
		dir = os.TempDir()
	}
	file, err := fileIn(dir)
	if err != nil {
		return nil, fmt.Errorf("make a temporary file: %w: %s", err, advice)
	}
	if err = write(file); err == nil {
		return file, nil
	}
	if storage.IsFull(err) {
		err = fmt.Errorf("write a temporary file in %s: %w: %s", dir, err, advice)
	}
	return nil, errors.Join(err, file.Close())
}

func temporaryFile() (*os.File, error) { return fileIn("") }

func fileIn(dir string) (*os.File, error) {
	file, err := os.CreateTemp(dir, "regsweep-*.jsonl")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(file.Name()); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}
