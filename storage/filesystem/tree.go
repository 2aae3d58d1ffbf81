//go:build unix

package filesystem

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"regsweep/internal/system"
	"regsweep/storage"
	"regsweep/storage/layout"

	"golang.org/x/sys/unix"
)

// tree is a directory that was opened once. Every file below it is reached through its
// descriptor. So all calls use the same directory, even if its path names another one later.
//
// Paths follow no symbolic link except the ones that follow has opened.
type tree struct {
	file    *os.File // keeps fd open
	fd      int
	noAtime *noAtime

	// making is held while a directory is made and gets its owner. A directory inside it inherits
	// this owner, so it must be made later.
	making sync.Mutex

	following sync.Mutex
	links     atomic.Pointer[[]linkedDir]
}

// linkedDir is the target of a symbolic link, opened.
type linkedDir struct {
	path string // the path of the link, below the tree
	file *os.File
	fd   int
}

func openedTree(fd int, path string, u *noAtime) *tree {
	return &tree{file: os.NewFile(uintptr(fd), path), fd: fd, noAtime: u}
}

func isAbsent(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// listedError converts the error of a call on a file or directory that was listed.
func listedError(err error) error {
	if isAbsent(err) {
		return storage.ErrGone
	}
	return err
}

// at returns the open directory in which a path begins, and the rest of the path. The directory is
// the tree or the target of a followed symbolic link.
func (t *tree) at(name string) (fd int, below string) {
	links := t.links.Load()
	if links == nil {
		return t.fd, name
	}
	for _, link := range *links {
		if rest, found := strings.CutPrefix(name, link.path); found && (rest == "" || rest[0] == '/') {
			if rest == "" {
				return link.fd, "."
			}
			return link.fd, rest[1:]
		}
	}
	return t.fd, name
}

// open opens a file or directory. If the path has a symbolic link that may be followed, open follows
// the link and tries again.
func (t *tree) open(name string, flags int) (fd int, err error) {
	for {
		known := t.links.Load()
		at, below := t.at(name)
		fd, err := system.OpenBeneath(at, below, flags)
		if err != unix.ELOOP && err != unix.ENOTDIR {
			return fd, err
		}
		followed, followErr := t.followOn(name)
		if followErr != nil {
			return -1, followErr
		}
		if !followed && t.links.Load() == known { // if links changed, another goroutine has followed the link
			return -1, err
		}
	}
}

// openNoAtime is open with O_NOATIME, if the kernel allows that.
func (t *tree) openNoAtime(name string, flags int) (fd int, err error) {
	return t.noAtime.open(func(flag int) (int, error) { return t.open(name, flags|flag) })
}

// openList opens a directory that will be listed.
func (t *tree) openList(dir string) (fd int, err error) {
	return t.openNoAtime(dir, unix.O_RDONLY|unix.O_DIRECTORY)
}

// openDir opens a directory in which other calls open files.
func (t *tree) openDir(dir string) (fd int, err error) {
	return t.open(dir, unix.O_RDONLY|system.PathOnly|unix.O_DIRECTORY)
}

// readFlags open a file to read it. Without O_NONBLOCK opening a pipe would wait for its writer for ever.
const readFlags = unix.O_RDONLY | unix.O_NONBLOCK

// openRead opens a file to read it.
func (t *tree) openRead(name string) (fd int, err error) { return t.openNoAtime(name, readFlags) }

// mayBeLink reports whether a directory may be a symbolic link. Operators make such links for blobs,
// repositories, blobs/<alg>, and for directories of repository names.
func mayBeLink(dir string) bool {
	top, rest, below := strings.Cut(dir, "/")
	switch {
	case top == storage.BlobsDir:
		return !strings.Contains(rest, "/")
	case top != storage.RepositoriesDir:
		return false
	case !below:
		return true
	}
	_, _, _, isInside := layout.SplitRepository(rest)
	first, _, _ := strings.Cut(rest, "/")
	return !isInside && first != layout.LayersDir && first != layout.ManifestsDir && first != layout.UploadsDir
}

// followOn follows the first symbolic link in a path that is not yet followed.
func (t *tree) followOn(name string) (followed bool, err error) {
	for end := 0; end < len(name); {
		next := strings.IndexByte(name[end+1:], '/')
		if end += 1 + next; next < 0 {
			end = len(name)
		}
		dir := name[:end]
		if !mayBeLink(dir) {
			return false, nil
		}
		if _, below := t.at(dir); below == "." {
			continue
		}
		mode, err := t.mode(dir)
		if err != nil {
			return false, nil // the caller already has an error
		}
		if mode == fs.ModeSymlink {
			return true, t.follow(dir)
		}
	}
	return false, nil
}

// follow opens the target of a symbolic link, once. All paths below the link are then opened in
// this directory. A link that leads back into the tree is refused: the files below it would have
// two paths.
func (t *tree) follow(dir string) error {
	if !mayBeLink(dir) {
		return symlinkError(dir)
	}
	t.following.Lock()
	defer t.following.Unlock()
	if _, below := t.at(dir); below == "." {
		return nil // another goroutine was faster
	}
	var fd int
	err := t.inParent(dir, func(parent int, name string) (err error) {
		fd, err = system.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		return err
	})
	switch {
	case isAbsent(err):
		return fmt.Errorf("list %s: it is a symbolic link to a directory that does not exist: is its disk mounted?", dir)
	case err == unix.ELOOP || err == unix.ENOTDIR:
		return symlinkError(dir)
	case err != nil:
		return fmt.Errorf("list %s: follow the symbolic link: %w", dir, err)
	}
	roots := []int{t.fd}
	links := t.links.Load()
	if links != nil {
		for _, link := range *links {
			roots = append(roots, link.fd)
		}
	}
	for _, root := range roots {
		overlap, err := contains(root, fd)
		if err == nil && !overlap {
			overlap, err = contains(fd, root)
		}
		if err == nil && !overlap {
			continue
		}
		closeDir(fd)
		if err != nil {
			return fmt.Errorf("list %s: follow the symbolic link: %w", dir, err)
		}
		return fmt.Errorf("list %s: it is a symbolic link that leads back into the storage: remove it", dir)
	}
	all := []linkedDir{{path: strings.Clone(dir), file: os.NewFile(uintptr(fd), dir), fd: fd}}
	if links != nil {
		all = append(all, *links...)
	}
	// A link in the target of another link must come first.
	slices.SortStableFunc(all, func(a, b linkedDir) int { return len(b.path) - len(a.path) })
	t.links.Store(&all)
	return nil
}

// contains reports whether parent is the same directory as dir, or one of its parents.
func contains(parent, dir int) (bool, error) {
	var want, is unix.Stat_t
	if err := system.Fstat(parent, &want); err != nil {
		return false, err
	}
	at := dir
	defer func() {
		if at != dir {
			closeDir(at)
		}
	}()
	for {
		if err := system.Fstat(at, &is); err != nil {
			return false, err
		}
		if is.Dev == want.Dev && is.Ino == want.Ino {
			return true, nil
		}
		up, err := system.Openat(at, "..", unix.O_RDONLY|system.PathOnly|unix.O_DIRECTORY, 0)
		if err != nil {
			return false, err
		}
		if at != dir {
			closeDir(at)
		}
		device, inode := is.Dev, is.Ino
		at = up
		if err := system.Fstat(at, &is); err != nil {
			return false, err
		}
		if is.Dev == device && is.Ino == inode { // the root directory is its own parent
			return false, nil
		}
	}
}

// inParent calls f with the open directory that holds a name.
func (t *tree) inParent(name string, f func(parent int, name string) error) error {
	dir, base := path.Split(name)
	if dir == "" {
		return f(t.fd, base)
	}
	dir = dir[:len(dir)-1]
	if at, below := t.at(dir); below == "." {
		return f(at, base)
	}
	parent, err := t.openDir(dir)
	if err != nil {
		return err
	}
	defer closeDir(parent)
	return f(parent, base)
}

// closeDir closes a directory that was opened by openDir. Nothing was read or written through it, so
// an error is ignored.
func closeDir(fd int) { _ = system.Close(fd) }

// closeAfter closes a descriptor, and returns the first error.
func closeAfter(fd int, err error) error {
	if closeErr := system.Close(fd); err == nil {
		err = closeErr
	}
	return err
}

// lstat is lstat(2) of a path.
func (t *tree) lstat(name string) (stat unix.Stat_t, err error) {
	err = t.inParent(name, func(parent int, name string) error { return system.Lstatat(parent, name, &stat) })
	return stat, err
}

// mode is the type of the file at a path.
func (t *tree) mode(name string) (mode fs.FileMode, err error) {
	err = t.inParent(name, func(parent int, name string) (err error) {
		mode, err = modeOf(parent, name)
		return err
	})
	return mode, err
}

// modeOf is the type of a file in an open directory.
func modeOf(dir int, name string) (fs.FileMode, error) {
	var stat unix.Stat_t
	if err := system.Lstatat(dir, name, &stat); err != nil {
		return 0, err
	}
	return typeOf(&stat), nil
}

func typeOf(stat *unix.Stat_t) fs.FileMode {
	switch stat.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return 0
	case unix.S_IFDIR:
		return fs.ModeDir
	case unix.S_IFLNK:
		return fs.ModeSymlink
	}
	return fs.ModeIrregular
}

// stat describes a regular file.
func (t *tree) stat(name string) (storage.Object, error) {
	var stat unix.Stat_t
	at, below := t.at(name)
	if err := system.Lstatat(at, below, &stat); err != nil {
		return storage.Object{}, err
	}
	if typeOf(&stat) != 0 {
		return storage.Object{}, storage.ErrNotRegular
	}
	return fileObject(name, &stat), nil
}

func fileObject(name string, stat *unix.Stat_t) storage.Object {
	return storage.Object{Path: name, Size: stat.Size, ModTime: modTime(stat), HardLinked: stat.Nlink > 1}
}

func modTime(stat *unix.Stat_t) time.Time { return time.Unix(stat.Mtim.Unix()) }

// list opens a directory and calls visit for each entry, in no order. If the directory is empty, empty
// is its stat. An empty listing is confirmed by lookups of the expected names.
func list(open func() (fd int, err error), expected []string, visit func(name []byte, mode fs.FileMode)) (empty *unix.Stat_t, err error) {
	for tries := 1; ; tries++ {
		fd, err := open()
		if err != nil {
			return nil, err
		}
		isEmpty, err := eachEntry(fd, visit)
		if err == nil && isEmpty {
			empty, err = confirmEmpty(fd, expected)
		}
		if err = closeAfter(fd, err); err != errNotEmpty || tries == 3 {
			return empty, err
		}
	}
}

// readDir returns the entries of a directory, in no order.
func (t *tree) readDir(dir string) (entries []dirEntry, err error) {
	_, err = list(func() (int, error) { return t.openList(dir) }, layoutNames, func(name []byte, mode fs.FileMode) {
		entries = append(entries, dirEntry{string(name), mode})
	})
	return entries, err
}

var errNotEmpty = errors.New("it is listed as empty and is not: the storage fails")

// layoutNames are names of usual entries of the layout's directories.
var layoutNames = []string{layout.LinkFile, "current", "sha256", "revisions", "tags", layout.ManifestsDir, layout.LayersDir, storage.RepositoriesDir}

// confirmEmpty returns errNotEmpty if an open directory that was listed as empty is not empty. It
// checks the link count, which includes subdirectories, the size on btrfs, and the expected names.
func confirmEmpty(fd int, expected []string) (*unix.Stat_t, error) {
	var dir, entry unix.Stat_t
	if err := system.Fstat(fd, &dir); err != nil {
		return nil, err
	}
	if dir.Nlink > 2 {
		return nil, errNotEmpty
	}
	if sized, err := isSizedByNames(fd, &dir); err != nil || sized && dir.Size > 0 {
		return nil, cmp.Or(err, errNotEmpty)
	}
	for _, name := range expected {
		if err := system.Lstatat(fd, name, &entry); err == nil {
			return nil, errNotEmpty
		} else if !isAbsent(err) {
			return nil, err
		}
	}
	return &dir, nil
}

// confirmAbsent returns nil if a listing of a name's directory does not have the name. It is for a
// name that a call has not found: a failing storage may wrongly report that a name does not exist.
func (t *tree) confirmAbsent(name string) error {
	dir, base := path.Dir(name), path.Base(name)
	fd, err := t.openList(dir)
	if isAbsent(err) && dir != "." {
		return t.confirmAbsent(dir)
	}
	if err != nil {
		return err
	}
	names, err := namesIn(fd)
	err = closeAfter(fd, err)
	switch {
	case isAbsent(err) && dir != ".": // the directory was removed after it was opened
		return t.confirmAbsent(dir)
	case err != nil:
		return err
	case names[base]:
		return storage.ErrGone
	}
	return nil
}

// namesIn are the names in an open directory.
func namesIn(fd int) (map[string]bool, error) {
	names := map[string]bool{}
	err := eachName(fd, func(name []byte) { names[string(name)] = true })
	return names, err
}

// confirmAbsentAt is confirmAbsent of a name in an open directory.
func confirmAbsentAt(dir int, name string) error {
	fd, err := system.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	names, err := namesIn(fd)
	if err := closeAfter(fd, err); err != nil {
		return err
	}
	if names[name] {
		return storage.ErrGone
	}
	return nil
}
