package spool

import (
	"os"

	"golang.org/x/sys/unix"
)

// memoryFile makes a file in memory.
func memoryFile() (*os.File, error) {
	fd, err := unix.MemfdCreate("regsweep", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "a file in memory"), nil
}
