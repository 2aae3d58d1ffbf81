package filesystem

import (
	"bytes"
	"encoding/hex"

	"regsweep/internal/system"
	"regsweep/storage/layout"

	"golang.org/x/sys/unix"
)

// glance looks at what lies in the directories of one directory without listing them,
// which spares most of what a scan costs: see walk.revisions and glance.tag. It goes to one of
// them, and then takes names from there, "" being that directory itself.
type glance struct {
	fd     int // below 0 where the directory can't be opened: then nothing can be told
	device [2]uint32
	path   []byte // of where it went to, without a slash at its end
	last   unix.Statx_t
	buffer [quickLink + 1]byte // a link is read to it, and one more byte, to see that there is no more

	unnoticed *unnoticed

	stats, reads int64
}

// quickLink is the length of a link to a sha256 digest.
const quickLink = len("sha256:") + 64

func newGlance(t *tree, dir string) *glance {
	fd, err := t.openDir(dir)
	if err != nil {
		fd = -1 // the calls that list every directory return the error
	}
	return &glance{fd: fd, unnoticed: t.unnoticed}
}

func (g *glance) close() {
	if g.fd >= 0 {
		closeDir(g.fd)
	}
}

// goTo goes to a directory of the one that it began with.
func (g *glance) goTo(name string) { g.path = append(g.path[:0], name...) }

// enter goes to a directory of the one where it is.
func (g *glance) enter(name string) { g.path = append(g.toInside(), name...) }

func (g *glance) enterDigest(sum *[32]byte) { g.path = hex.AppendEncode(g.toInside(), sum[:]) }

// toInside is the path to where it is, to which a name can be added.
func (g *glance) toInside() []byte {
	if len(g.path) == 0 {
		return g.path
	}
	return append(g.path, '/')
}

// to is the path to a name, as the kernel takes it.
func (g *glance) to(name string) []byte {
	path := g.path
	if name != "" {
		path = append(g.toInside(), name...)
	}
	path = append(path, 0)
	g.path = path[:len(g.path)] // with the room that was made
	return path
}

// stat sets g.last to what a name names.
func (g *glance) stat(name string, flags int) error {
	g.stats++
	return system.Statx(g.fd, g.to(name), flags|unix.AT_SYMLINK_NOFOLLOW, unix.STATX_TYPE|unix.STATX_NLINK, &g.last)
}

// links is how many links the directory that was looked at last has, and on which filesystem
// it lies; ok is false for what is none.
func (g *glance) links() (links uint32, device [2]uint32, ok bool) {
	const known = unix.STATX_TYPE | unix.STATX_NLINK
	s := &g.last
	return s.Nlink, [2]uint32{s.Dev_major, s.Dev_minor}, s.Mask&known == known && s.Mode&unix.S_IFMT == unix.S_IFDIR
}

// isAbsent reports whether it is certain that there is nothing of a name.
func (g *glance) isAbsent(name string) bool { return g.stat(name, 0) == unix.ENOENT }

// countsDirectories reports whether the number of a directory's links tells how many
// directories are in it: on most filesystems it has one for its name, one for its own
// ".", and one for the ".." of each. Some count otherwise: btrfs and merged overlays
// always say 1, some in user space always 2. So the rule must hold in the directory that it
// began with, where a listing has found that many, and where it is used the filesystem must
// be the same.
func (g *glance) countsDirectories(listed int) bool {
	g.goTo("")
	if err := g.stat("", unix.AT_EMPTY_PATH); err != nil {
		return false
	}
	links, device, ok := g.links()
	if !ok || listed == 0 || uint64(links) != 2+uint64(listed) {
		return false
	}
	g.device = device
	return true
}

// directories is how many directories the one of a name holds, or -1 where that can't be
// told.
func (g *glance) directories(name string) int {
	if err := g.stat(name, 0); err != nil {
		return -1
	}
	links, device, ok := g.links()
	if !ok || device != g.device || links < 2 {
		return -1
	}
	return int(links) - 2
}

// link reads a link that says a SHA-256 digest as a registry writes it. It is unclear about
// anything else, errors among it, which has to be looked at with more care.
func (g *glance) link(name string) (sum [32]byte, is glanced) {
	g.reads++
	path := g.to(name)
	fd, err := g.unnoticed.open(func(flag int) (int, error) {
		// O_NONBLOCK: opening a pipe would wait for its writer for ever.
		return system.OpenBytesAt(g.fd, path, flag|unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK)
	})
	if err == unix.ENOENT {
		return sum, absent
	}
	if err != nil {
		return sum, unclear
	}
	n, err := system.Read(fd, g.buffer[:])
	if closeErr := system.Close(fd); err != nil || closeErr != nil || n != quickLink {
		return sum, unclear
	}
	hex, found := bytes.CutPrefix(g.buffer[:n], []byte("sha256:"))
	if !found {
		return sum, unclear
	}
	sum, ok := layout.ParseSHA256(hex)
	if !ok {
		return sum, unclear
	}
	return sum, ordinary
}
