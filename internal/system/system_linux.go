package system

import (
	"encoding/binary"
	"sync/atomic"
	"unsafe"

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
		how := beneath(flags)
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

// OpenBytesBeneath is OpenBeneath of a path that ends with a zero byte. It does not copy the path.
func OpenBytesBeneath(dir int, path []byte, flags int) (fd int, err error) {
	if !noOpenat2.Load() {
		how := beneath(flags)
		err := resolve(dir, path, func() error {
			opened, _, errno := unix.Syscall6(unix.SYS_OPENAT2, uintptr(dir), uintptr(unsafe.Pointer(&path[0])),
				uintptr(unsafe.Pointer(&how)), unsafe.Sizeof(how), 0, 0)
			if fd = int(opened); errno != 0 {
				return errno
			}
			return nil
		})
		if !unsupported(err, flags) {
			return fd, err
		}
	}
	return openBeneath(dir, string(path[:len(path)-1]), flags)
}

func beneath(flags int) unix.OpenHow {
	return unix.OpenHow{Flags: uint64(flags) | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS}
}

// resolve repeats openat2(2) if a rename anywhere in the system made it return EAGAIN.
func resolve[Name string | []byte](dir int, name Name, open func() error) (err error) {
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

// Statx is statx(2) of a path that ends with a zero byte.
func Statx(dir int, path []byte, flags, mask int, stat *unix.Statx_t) error {
	return again("statx", dir, path, func() error {
		_, _, errno := unix.Syscall6(unix.SYS_STATX, uintptr(dir), uintptr(unsafe.Pointer(&path[0])),
			uintptr(flags), uintptr(mask), uintptr(unsafe.Pointer(stat)), 0)
		if errno != 0 {
			return errno
		}
		return nil
	})
}

// OpenBytesAt is openat(2) of a path that ends with a zero byte.
func OpenBytesAt(dir int, path []byte, flags int) (fd int, err error) {
	err = again("openat", dir, path, func() error {
		opened, _, errno := unix.Syscall6(unix.SYS_OPENAT, uintptr(dir), uintptr(unsafe.Pointer(&path[0])),
			uintptr(flags|unix.O_LARGEFILE|unix.O_CLOEXEC), 0, 0, 0)
		if fd = int(opened); errno != 0 {
			return errno
		}
		return nil
	})
	if err != nil {
		return -1, err
	}
	return fd, nil
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
