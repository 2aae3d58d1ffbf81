package storage

import (
	"bytes"
	"unsafe"

	"golang.org/x/sys/unix"
)

// glance looks at what lies in the directories of one directory without listing them,
// which spares most of what a scan costs: see walk.revisions and glance.tag. What it looks
// at is given by the parts of a path, which it puts together where the kernel reads it: a
// scan has more paths than all else, and unix.Fstatat would copy each.
type glance struct {
	fd     int // below 0 where the directory can't be opened: then nothing can be told
	device [2]uint32
	path   []byte
	last   unix.Statx_t
	buffer [quickLink + 1]byte // a link is read to it, and one more byte, to see that there is no more

	unnoticed *unnoticed

	stats, reads int64
}

// quickLink is the length of a link to a sha256 digest.
const quickLink = len("sha256:") + 64

func newGlance(path string, u *unnoticed) *glance {
	fd, err := retryInterrupted(func() (int, error) {
		return unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		fd = -1 // and so for every file in it, to those who look with more care
	}
	return &glance{fd: fd, unnoticed: u}
}

func (g *glance) close() {
	if g.fd >= 0 {
		_ = unix.Close(g.fd) // nothing was written through it
	}
}

// join makes a path of its parts, as the kernel takes it.
func (g *glance) join(parts []string) {
	g.path = g.path[:0]
	for i, part := range parts {
		if i > 0 {
			g.path = append(g.path, '/')
		}
		g.path = append(g.path, part...)
	}
	g.path = append(g.path, 0)
}

// stat sets g.last to what the joined path names, or to the directory itself if the path is
// empty and the flag AT_EMPTY_PATH is given.
func (g *glance) stat(flags int) unix.Errno {
	g.stats++
	for {
		_, _, err := unix.Syscall6(unix.SYS_STATX, uintptr(g.fd), uintptr(unsafe.Pointer(&g.path[0])),
			uintptr(flags|unix.AT_SYMLINK_NOFOLLOW), unix.STATX_TYPE|unix.STATX_NLINK, uintptr(unsafe.Pointer(&g.last)), 0)
		if err != unix.EINTR {
			return err
		}
	}
}

// links is how many links the directory that was looked at last has, and on which filesystem
// it lies; ok is false for what is none.
func (g *glance) links() (links uint32, device [2]uint32, ok bool) {
	const known = unix.STATX_TYPE | unix.STATX_NLINK
	s := &g.last
	return s.Nlink, [2]uint32{s.Dev_major, s.Dev_minor}, s.Mask&known == known && s.Mode&unix.S_IFMT == unix.S_IFDIR
}

// isAbsent reports whether it is certain that there is nothing at a path.
func (g *glance) isAbsent(parts ...string) bool {
	g.join(parts)
	return g.stat(0) == unix.ENOENT
}

// countsDirectories reports whether the number of a directory's links tells how many
// directories are in it: on most filesystems it has one for its name, one for its own
// ".", and one for the ".." of each. Some count otherwise: btrfs and merged overlays
// always say 1, some in user space always 2. So the rule must hold here, where a listing
// has found that many directories, and where it is used the filesystem must be the same.
func (g *glance) countsDirectories(listed int) bool {
	g.join(nil)
	if err := g.stat(unix.AT_EMPTY_PATH); err != 0 {
		return false
	}
	links, device, ok := g.links()
	if !ok || listed == 0 || uint64(links) != 2+uint64(listed) {
		return false
	}
	g.device = device
	return true
}

// directories is how many directories the one at a path holds, or -1 where that can't be
// told.
func (g *glance) directories(parts ...string) int {
	g.join(parts)
	if err := g.stat(0); err != 0 {
		return -1
	}
	links, device, ok := g.links()
	if !ok || device != g.device || links < 2 {
		return -1
	}
	return int(links) - 2
}

// link reads a link that says a SHA-256 digest as a registry writes it. It is false for
// anything else, errors among it, which the caller has to look at with more care.
func (g *glance) link(parts ...string) (sum [32]byte, ok bool) {
	g.reads++
	g.join(parts)
	fd, err := g.unnoticed.open(g.open)
	if err != nil {
		return sum, false
	}
	n, err := retryInterrupted(func() (int, error) { return unix.Read(fd, g.buffer[:]) })
	if closeErr := unix.Close(fd); err != nil || closeErr != nil || n != quickLink {
		return sum, false
	}
	hex, found := bytes.CutPrefix(g.buffer[:n], []byte("sha256:"))
	if !found {
		return sum, false
	}
	return ParseSHA256(hex)
}

// open opens the joined path for reading.
func (g *glance) open(flag int) (fd int, err error) {
	// O_NONBLOCK: opening a pipe would wait for its writer for ever.
	const flags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC | unix.O_LARGEFILE
	opened, _, errno := unix.Syscall6(unix.SYS_OPENAT, uintptr(g.fd), uintptr(unsafe.Pointer(&g.path[0])), uintptr(flag|flags), 0, 0, 0)
	if errno != 0 {
		return -1, errno
	}
	return int(opened), nil
}
