// Package spool makes files that nobody else sees and that are gone when they are closed.
package spool

import (
	"errors"
	"fmt"
	"io"
	"os"

	"regsweep/storage"
)

// Write makes a file that nobody else sees and that is gone when it is closed, and has write fill
// it. It lies in the directory for temporary files, or in memory if nothing can be written there:
// a container may have no such directory, and the registry's full disk may be the one that has it.
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

// New makes such a file, as Write does.
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

func temporaryFile() (*os.File, error) {
	file, err := os.CreateTemp("", "regsweep-*.jsonl")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(file.Name()); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}
