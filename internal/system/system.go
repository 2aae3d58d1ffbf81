//go:build unix

// Package system makes all system calls of the filesystem backend. A test can make each of them
// fail (see SetFault). An interrupted call is repeated.
package system

import (
	"errors"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Call is a system call that is about to be made.
type Call struct {
	Op string // the name of the system call, such as "openat"
	// Dir is the directory that Name is relative to. If Name is "", it is the descriptor that
	// the call uses.
	Dir  int
	Name string
}

// These errors of a fault are not returned to the caller. They change the result of the call.
var (
	// ErrShort makes a read or write transfer half of the bytes, but at least one.
	ErrShort = errors.New("a short read or write")
	// ErrEmpty makes a read or a directory listing end at once.
	ErrEmpty = errors.New("nothing is left")
	// ErrUntyped makes a directory listing leave out the types of entries, as some filesystems do.
	ErrUntyped = errors.New("no types")
)

var fault atomic.Pointer[func(Call) error]

// SetFault makes each system call first call f, possibly concurrently. If f returns an error, the
// system call is not made and returns this error. nil removes f. SetFault is for tests.
func SetFault(f func(Call) error) {
	if f == nil {
		fault.Store(nil)
		return
	}
	fault.Store(&f)
}

// faultIn is the fault of a call.
func faultIn(op string, dir int, name string) error {
	f := fault.Load()
	if f == nil {
		return nil
	}
	return (*f)(Call{Op: op, Dir: dir, Name: name})
}

// mostInterruptions is how often an interrupted call is repeated. A broken filesystem may interrupt
// it for ever.
const mostInterruptions = 1000

// again repeats a call until it is not interrupted.
func again(op string, dir int, name string, call func() error) error {
	for tries := 0; ; tries++ {
		err := faultIn(op, dir, name)
		if err == nil {
			err = call()
		}
		if err != unix.EINTR || tries == mostInterruptions {
			return err
		}
	}
}

// Open opens an absolute path.
func Open(path string, flags int) (fd int, err error) {
	return Openat(unix.AT_FDCWD, path, flags, 0)
}

// Openat is openat(2).
func Openat(dir int, name string, flags int, mode uint32) (fd int, err error) {
	err = again("openat", dir, name, func() (err error) {
		fd, err = unix.Openat(dir, name, flags|unix.O_CLOEXEC, mode)
		return err
	})
	if err != nil {
		return -1, err
	}
	return fd, nil
}

// openBeneath opens each directory on the way to name, and then name. It follows no symbolic link.
func openBeneath(dir int, name string, flags int) (fd int, err error) {
	at := dir
	for rest := name; ; {
		component, below, more := cutPath(rest)
		if component == ".." || component == "" {
			err = unix.EXDEV
		} else if more {
			fd, err = Openat(at, component, unix.O_RDONLY|pathOnly|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
		} else {
			fd, err = Openat(at, component, flags|unix.O_NOFOLLOW, 0)
		}
		if at != dir {
			_ = Close(at) // nothing was written through it
		}
		if err != nil || !more {
			return fd, err
		}
		at, rest = fd, below
	}
}

func cutPath(path string) (component, below string, more bool) {
	for i := range len(path) {
		if path[i] == '/' {
			return path[:i], path[i+1:], true
		}
	}
	return path, "", false
}

// Close is close(2). It is not repeated: after an interruption the descriptor is closed, or another
// thread has opened it again.
func Close(fd int) error {
	injected := faultIn("close", fd, "")
	err := unix.Close(fd)
	if injected != nil {
		err = injected
	}
	if err == unix.EINTR {
		return nil
	}
	return err
}

// Read is read(2).
func Read(fd int, p []byte) (n int, err error) {
	return transfer("read", fd, p, unix.Read)
}

// Write is write(2).
func Write(fd int, p []byte) (n int, err error) {
	return transfer("write", fd, p, unix.Write)
}

func transfer(op string, fd int, p []byte, call func(int, []byte) (int, error)) (n int, err error) {
	err = again(op, fd, "", func() (err error) {
		n, err = call(fd, p)
		return err
	})
	switch err {
	case nil:
		return n, nil
	case ErrEmpty:
		return 0, nil
	case ErrShort:
		return call(fd, p[:min(len(p), max(1, len(p)/2))])
	}
	return 0, err
}

// Fsync is fsync(2).
func Fsync(fd int) error {
	return again("fsync", fd, "", func() error { return unix.Fsync(fd) })
}

// Ftruncate is ftruncate(2).
func Ftruncate(fd int, length int64) error {
	return again("ftruncate", fd, "", func() error { return unix.Ftruncate(fd, length) })
}

// Seek is lseek(2) from the beginning.
func Seek(fd int, offset int64) error {
	return again("lseek", fd, "", func() error {
		_, err := unix.Seek(fd, offset, 0)
		return err
	})
}

// Fstat is fstat(2).
func Fstat(fd int, stat *unix.Stat_t) error {
	return again("fstat", fd, "", func() error { return unix.Fstat(fd, stat) })
}

// Lstatat is fstatat(2). It follows no symbolic link at the end of name.
func Lstatat(dir int, name string, stat *unix.Stat_t) error {
	return again("fstatat", dir, name, func() error { return unix.Fstatat(dir, name, stat, unix.AT_SYMLINK_NOFOLLOW) })
}

// Unlinkat is unlinkat(2).
func Unlinkat(dir int, name string, flags int) error {
	return again("unlinkat", dir, name, func() error { return unix.Unlinkat(dir, name, flags) })
}

// Renameat is renameat(2).
func Renameat(from int, old string, to int, name string) error {
	return again("renameat", from, old, func() error { return unix.Renameat(from, old, to, name) })
}

// Linkat is linkat(2).
func Linkat(from int, old string, to int, name string) error {
	return again("linkat", from, old, func() error { return unix.Linkat(from, old, to, name, 0) })
}

// Mkdirat is mkdirat(2).
func Mkdirat(dir int, name string, mode uint32) error {
	return again("mkdirat", dir, name, func() error { return unix.Mkdirat(dir, name, mode) })
}

// Lchownat is fchownat(2). It follows no symbolic link at the end of name.
func Lchownat(dir int, name string, uid, gid int) error {
	return again("fchownat", dir, name, func() error { return unix.Fchownat(dir, name, uid, gid, unix.AT_SYMLINK_NOFOLLOW) })
}

// Fchmodat is fchmodat(2).
func Fchmodat(dir int, name string, mode uint32) error {
	return again("fchmodat", dir, name, func() error { return unix.Fchmodat(dir, name, mode, 0) })
}

// Flock is flock(2).
func Flock(fd, how int) error {
	return again("flock", fd, "", func() error { return unix.Flock(fd, how) })
}
