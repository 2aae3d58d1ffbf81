package system

import (
	"encoding/binary"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// pathOnly is O_PATH. It opens a directory without the permission to read it. Such a directory
// can't be listed.
const pathOnly = unix.O_PATH

// PathOnly is O_PATH, or 0 if the system has no O_PATH.
const PathOnly = pathOnly

// noOpenat2 is set once the kernel was found to be older than 5.6.
var noOpenat2 atomic.Bool

// OpenBeneath opens a path below an open directory. It follows no symbolic link.
func OpenBeneath(dir int, name string, flags int) (fd int, err error) {
	if !noOpenat2.Load() {
		how := unix.OpenHow{Flags: uint64(flags) | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS}
		err := resolve(dir, name, func() (err error) {
			fd, err = unix.Openat2(dir, name, &how)
			return err
		})
		if !unsupported(err, flags) {
			return fd, err
		}
	}
	return openBeneath(dir, name, flags)
}

// resolve repeats openat2(2) if a rename anywhere in the system made it return EAGAIN.
func resolve(dir int, name string, open func() error) (err error) {
	for range 100 {
		if err = again("openat2", dir, name, open); err != unix.EAGAIN {
			break
		}
	}
	return err
}

// unsupported reports whether openat2(2) is missing, in an old kernel or in a sandbox. A sandbox
// returns EPERM. A kernel that refuses O_NOATIME returns EPERM too.
func unsupported(err error, flags int) bool {
	if err == unix.ENOSYS {
		noOpenat2.Store(true)
	}
	return err == unix.ENOSYS || err == unix.EPERM && flags&unix.O_NOATIME == 0
}

// Statx is statx(2).
func Statx(dir int, name string, flags, mask int, stat *unix.Statx_t) error {
	return again("statx", dir, name, func() error { return unix.Statx(dir, name, flags, mask, stat) })
}

// Getdents is getdents64(2).
func Getdents(fd int, p []byte) (n int, err error) {
	n, err = transfer("getdents", fd, p, unix.Getdents)
	if err == ErrUntyped {
		n, err = unix.Getdents(fd, p)
		for at := 0; at < n; at += int(binary.NativeEndian.Uint16(p[at+16:])) {
			p[at+18] = unix.DT_UNKNOWN
		}
	}
	return n, err
}

// RenameNew is renameat2(2). It replaces no file.
func RenameNew(from int, old string, to int, name string) error {
	return again("renameat2", from, old, func() error { return unix.Renameat2(from, old, to, name, unix.RENAME_NOREPLACE) })
}

// Syncfs is syncfs(2).
func Syncfs(fd int) error {
	return again("syncfs", fd, "", func() error { return unix.Syncfs(fd) })
}

// Fstatfs is fstatfs(2).
func Fstatfs(fd int, stat *unix.Statfs_t) error {
	return again("fstatfs", fd, "", func() error { return unix.Fstatfs(fd, stat) })
}

// Sequential tells the kernel that an open file will be read from its beginning to its end. The kernel then
// reads further ahead.
func Sequential(fd int) error {
	return again("fadvise64", fd, "", func() error { return unix.Fadvise(fd, 0, 0, unix.FADV_SEQUENTIAL) })
}
