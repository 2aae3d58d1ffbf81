//go:build !linux

package spool

import (
	"errors"
	"os"
)

// memoryFile works only on Linux.
func memoryFile() (*os.File, error) { return nil, errors.ErrUnsupported }
