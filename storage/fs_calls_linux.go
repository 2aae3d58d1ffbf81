package storage

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// These are the system calls that a scan makes most of. They take a path where it lies, with a
// zero at its end; golang.org/x/sys/unix takes strings, and copies each of a hundred thousand.

// statx is statx(2), of names relative to an open directory.
func statx(dir int, path []byte, flags, mask int, stat *unix.Statx_t) unix.Errno {
	for {
		_, _, err := unix.Syscall6(unix.SYS_STATX, uintptr(dir), uintptr(unsafe.Pointer(&path[0])),
			uintptr(flags), uintptr(mask), uintptr(unsafe.Pointer(stat)), 0)
		if err != unix.EINTR {
			return err
		}
	}
}

// openat is openat(2).
func openat(dir int, path []byte, flags int) (fd int, err error) {
	opened, _, errno := unix.Syscall6(unix.SYS_OPENAT, uintptr(dir), uintptr(unsafe.Pointer(&path[0])),
		uintptr(flags|unix.O_LARGEFILE), 0, 0, 0)
	if errno != 0 {
		return -1, errno
	}
	return int(opened), nil
}

// openat2 is openat2(2).
func openat2(dir int, path []byte, how *unix.OpenHow) (fd int, err error) {
	opened, _, errno := unix.Syscall6(unix.SYS_OPENAT2, uintptr(dir), uintptr(unsafe.Pointer(&path[0])),
		uintptr(unsafe.Pointer(how)), unsafe.Sizeof(*how), 0, 0)
	if errno != 0 {
		return -1, errno
	}
	return int(opened), nil
}
