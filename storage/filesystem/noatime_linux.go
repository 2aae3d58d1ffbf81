package filesystem

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// noAtime opens files and directories for reading with O_NOATIME. Without this flag a dry run
// writes a new access time for each link and each directory that nobody has read for a day. Only
// the owner of a file and root may use the flag (see open(2)). A filesystem in user space may not
// support it. The zero value is ready, and may be used concurrently.
type noAtime struct{ denied atomic.Bool }

// open calls open with O_NOATIME, or without the flag once it was refused.
func (u *noAtime) open(open func(flag int) (fd int, err error)) (fd int, err error) {
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
