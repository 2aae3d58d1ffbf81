package storage

import (
	"bytes"

	"golang.org/x/sys/unix"
)

// glance looks at what lies in the directories of one directory without listing them,
// which spares most of what a scan costs: see walk.revisions and glance.tag.
type glance struct {
	fd     int // below 0 where the directory can't be opened: then nothing can be told
	device uint64
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

func (g *glance) stat(name string, stat *unix.Stat_t) error {
	g.stats++
	_, err := retryInterrupted(func() (int, error) {
		return 0, unix.Fstatat(g.fd, name, stat, unix.AT_SYMLINK_NOFOLLOW)
	})
	return err
}

// isAbsent reports whether it is certain that there is nothing of that name.
func (g *glance) isAbsent(name string) bool {
	var stat unix.Stat_t
	return g.stat(name, &stat) == unix.ENOENT
}

// countsDirectories reports whether the number of a directory's links tells how many
// directories are in it: on most filesystems it has one for its name, one for its own
// ".", and one for the ".." of each. Some count otherwise: btrfs and merged overlays
// always say 1, some in user space always 2. So the rule must hold here, where a listing
// has found that many directories, and where it is used the filesystem must be the same.
func (g *glance) countsDirectories(listed int) bool {
	var stat unix.Stat_t
	if err := unix.Fstat(g.fd, &stat); err != nil || listed == 0 || uint64(stat.Nlink) != 2+uint64(listed) {
		return false
	}
	g.device = uint64(stat.Dev)
	return true
}

// directories is how many directories the named one holds, or -1 where that can't be
// told.
func (g *glance) directories(name string) int {
	var stat unix.Stat_t
	if err := g.stat(name, &stat); err != nil || stat.Mode&unix.S_IFMT != unix.S_IFDIR ||
		uint64(stat.Dev) != g.device || stat.Nlink < 2 {
		return -1
	}
	return int(stat.Nlink) - 2
}

// link reads a link that says a SHA-256 digest as a registry writes it. It is false for
// anything else, errors among it, which the caller has to look at with more care.
func (g *glance) link(name string) (sum [32]byte, ok bool) {
	g.reads++
	fd, err := g.unnoticed.open(func(flag int) (int, error) {
		// O_NONBLOCK: opening a pipe would wait for its writer for ever.
		return unix.Openat(g.fd, name, flag|unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	})
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
