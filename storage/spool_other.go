//go:build !linux

package storage

import (
	"errors"
	"os"
)

// memoryFile is for Linux.
func memoryFile() (*os.File, error) { return nil, errors.ErrUnsupported }
