//go:build !linux

package spool

import (
	"errors"
	"os"
)

// memoryFile is for Linux.
func memoryFile() (*os.File, error) { return nil, errors.ErrUnsupported }
