//go:build unix && !linux

package system

import "golang.org/x/sys/unix"

const pathOnly = 0

// PathOnly is O_PATH, or 0 if the system has no O_PATH.
const PathOnly = pathOnly

// OpenBeneath opens a path below an open directory. It follows no symbolic link.
func OpenBeneath(dir int, name string, flags int) (fd int, err error) {
	return openBeneath(dir, name, flags)
}

// Getdents reads directory entries in the format of the system.
func Getdents(fd int, p []byte) (n int, err error) {
	return transfer("getdents", fd, p, unix.ReadDirent)
}

// RenameNew is not supported.
func RenameNew(int, string, int, string) error { return unix.ENOSYS }

// Syncfs writes all filesystems to the disk. Not all of these systems can write a single one.
func Syncfs(int) error {
	unix.Sync()
	return nil
}

// Sequential does nothing.
func Sequential(int) error { return nil }
