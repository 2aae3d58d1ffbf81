//go:build unix && !linux

package system

import "golang.org/x/sys/unix"

const pathOnly = 0

// PathOnly is O_PATH, where the system has it.
const PathOnly = pathOnly

// OpenBeneath opens what lies below an open directory, and follows no symbolic link.
func OpenBeneath(dir int, name string, flags int) (fd int, err error) {
	return openBeneath(dir, name, flags)
}

// Getdents reads directory entries in the system's own form.
func Getdents(fd int, p []byte) (n int, err error) {
	return transfer("getdents", fd, p, unix.ReadDirent)
}

// RenameNew is missing here.
func RenameNew(int, string, int, string) error { return unix.ENOSYS }

// Syncfs writes all filesystems: no call for one of them is common to all systems.
func Syncfs(int) error {
	unix.Sync()
	return nil
}
