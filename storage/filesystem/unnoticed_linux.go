package filesystem

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// unnoticed opens what is only read, and asks the kernel not to note when. Of a registry that
// nobody has read for a day a dry run would else write a new time of access for each link and
// each directory. Only the owner of a file and root may ask for that (O_NOATIME in open(2)), and
// a filesystem in user space need not understand it.
// The zero value is ready, and may be used concurrently.
type unnoticed struct{ denied atomic.Bool }

// open calls open with that flag or, once that was refused, with none.
func (u *unnoticed) open(open func(flag int) (fd int, err error)) (fd int, err error) {
	if !u.denied.Load() {
		fd, err = open(unix.O_NOATIME)
		switch err {
		case unix.EPERM, unix.EINVAL, unix.EOPNOTSUPP:
			u.denied.Store(true)
		default:
			return fd, err
		}
	}
	return open(0)
}
