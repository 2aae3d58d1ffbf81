package storage

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// direntBuffers are for getdents: large enough for most directories of a registry
// at once, small enough for many goroutines.
var direntBuffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// eachEntry calls visit for each entry of a directory, in no order, with a name that is
// valid until visit returns. It spares the stat, the sorting and the allocations of
// os.ReadDir, which a scan would pay for every directory.
func eachEntry(path string, u *unnoticed, visit func(name []byte, mode fs.FileMode)) error {
	fd, err := u.open(func(flag int) (int, error) {
		return unix.Open(path, flag|unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return err
	}
	buffer := direntBuffers.Get().(*[32 << 10]byte)
	defer direntBuffers.Put(buffer)
	for {
		var n int
		n, err = retryInterrupted(func() (int, error) { return unix.Getdents(fd, buffer[:]) })
		if err != nil || n == 0 {
			break
		}
		if err = eachRecord(path, buffer[:n], visit); err != nil {
			break
		}
	}
	if closeErr := unix.Close(fd); err == nil {
		err = closeErr
	}
	return err
}

var errDirent = errors.New("the kernel's directory entry is malformed")

// eachRecord reads struct linux_dirent64: ino and offset of 8 bytes each, the
// record's length of 2, the type of 1, and the name, ended by a zero.
func eachRecord(path string, records []byte, visit func(name []byte, mode fs.FileMode)) error {
	const header = 19
	for rest := records; len(rest) > 0; {
		if len(rest) < header {
			return errDirent
		}
		length := recordLength(rest)
		if length < header || length > len(rest) {
			return errDirent
		}
		name, _, _ := bytes.Cut(rest[header:length], []byte{0})
		mode, known := direntMode(rest[18])
		rest = rest[length:]
		if string(name) == "." || string(name) == ".." {
			continue
		}
		if !known {
			var err error
			if mode, err = typeOf(filepath.Join(path, string(name))); err != nil {
				return err
			}
		}
		visit(name, mode)
	}
	return nil
}

// typeOf is what an entry names whose type the filesystem did not tell. Of what has gone
// meanwhile the name is all there is to report.
func typeOf(path string) (fs.FileMode, error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return info.Mode().Type(), nil
}

func recordLength(record []byte) int { return int(binary.NativeEndian.Uint16(record[16:])) }

// direntMode is false where the filesystem does not tell the type.
func direntMode(kind byte) (mode fs.FileMode, known bool) {
	switch kind {
	case unix.DT_REG:
		return 0, true
	case unix.DT_DIR:
		return fs.ModeDir, true
	case unix.DT_LNK:
		return fs.ModeSymlink, true
	case unix.DT_UNKNOWN:
		return 0, false
	}
	return fs.ModeIrregular, true
}

// readBeneath reads a regular file of at most limit bytes below the layout's root,
// following no symbolic link anywhere on the way: into room and in three system calls if
// there is more room than the file needs.
// supported is false on kernels before 5.6, and in sandboxes, that don't have openat2.
func (t *tree) readBeneath(room []byte, name string, limit int64) (content []byte, supported bool, err error) {
	fd, supported, err := t.openToRead(name)
	if !supported || err != nil {
		return nil, supported, err
	}
	content, err = readAndClose(room, fd, limit)
	return content, true, err
}

// readNamed does what readTo does without a copy of the name. It is not supported where
// readBeneath is not, and for names that no file can have.
func (f *filesystem) readNamed(room, name []byte, limit int64) (content []byte, supported bool, err error) {
	t := f.opened.Load()
	if t == nil || bytes.IndexByte(name, 0) >= 0 {
		return nil, false, nil
	}
	path := append(name, 0)
	fd, err := t.unnoticed.open(func(flag int) (fd int, err error) {
		how := beneath(uint64(flag) | unix.O_RDONLY | unix.O_NONBLOCK)
		fd, supported, err = openAgain(func() (int, error) { return openat2(int(t.base.Fd()), path, &how) })
		return fd, err
	})
	if !supported {
		return nil, false, nil
	}
	f.get.Add(1)
	if err != nil {
		return nil, true, err
	}
	content, err = readAndClose(room, fd, limit)
	return content, true, err
}

func (t *tree) openToRead(name string) (fd int, supported bool, err error) {
	fd, err = t.unnoticed.open(func(flag int) (fd int, err error) {
		// O_NONBLOCK: opening a pipe would wait for its writer for ever.
		fd, supported, err = openBeneath(int(t.base.Fd()), name, uint64(flag)|unix.O_RDONLY|unix.O_NONBLOCK)
		return fd, err
	})
	return fd, supported, err
}

// stat describes a regular file.
func (t *tree) stat(name string) (Object, error) {
	var stat unix.Stat_t
	if _, err := retryInterrupted(func() (int, error) {
		return 0, unix.Fstatat(int(t.base.Fd()), name, &stat, unix.AT_SYMLINK_NOFOLLOW)
	}); err != nil {
		return Object{}, err
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFREG {
		return Object{}, ErrNotRegular
	}
	return Object{Path: name, Size: stat.Size, ModTime: time.Unix(stat.Mtim.Unix())}, nil
}

// openBeneath opens what lies below the open directory, following no symbolic link.
func openBeneath(dir int, name string, flags uint64) (fd int, supported bool, err error) {
	how := beneath(flags)
	return openAgain(func() (int, error) { return unix.Openat2(dir, name, &how) })
}

func beneath(flags uint64) unix.OpenHow {
	return unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS}
}

// openAgain calls openat2(2) until it is not interrupted, and not disturbed by what is renamed
// meanwhile.
func openAgain(open func() (fd int, err error)) (fd int, supported bool, err error) {
	for tries := 0; ; tries++ {
		fd, err = open()
		if err == unix.EINTR || err == unix.EAGAIN && tries < 100 {
			continue
		}
		return fd, err != unix.ENOSYS && err != unix.EPERM, err
	}
}

// removeBeneath removes what is no directory, if its type may, in four system calls: an
// os.Root takes one for each part of the path, and again for each step.
func removeBeneath(dir int, name string, may func(fs.FileMode) error) (supported bool, err error) {
	return inParent(dir, name, func(parent int, name string) error {
		mode, err := modeOf(parent, name)
		if err == nil {
			err = may(mode)
		}
		if err != nil {
			return err
		}
		return unix.Unlinkat(parent, name, 0)
	})
}

// openDir opens a directory to begin paths at, or returns -1 where that can't be done.
func (t *tree) openDir(name string) int {
	fd, _, err := openBeneath(int(t.base.Fd()), name, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return -1 // whoever begins at the tree instead is told why
	}
	return fd
}

func closeDir(fd int) {
	if fd >= 0 {
		_ = unix.Close(fd) // nothing was written through it
	}
}

// removeDirBeneath removes an empty directory.
func removeDirBeneath(dir int, name string) (supported bool, err error) {
	return inParent(dir, name, func(parent int, name string) error {
		return unix.Unlinkat(parent, name, unix.AT_REMOVEDIR)
	})
}

// renameBeneath gives what is no directory a path where there is nothing, if its type
// may.
func renameBeneath(dir int, from, to string, may func(fs.FileMode) error) (supported bool, err error) {
	return inParent(dir, from, func(source int, old string) error {
		mode, err := modeOf(source, old)
		if err == nil {
			err = may(mode)
		}
		if err != nil {
			return err
		}
		_, err = inParent(dir, to, func(target int, name string) error {
			return renameAt(source, old, target, name)
		})
		return err
	})
}

// renameAt renames and replaces nothing. Where the filesystem can't do that in one step
// (NFS), a second name is made, which can't replace anything either; and where it has no
// second names, what is there is looked for before, which is one step short of certain.
func renameAt(source int, old string, target int, name string) error {
	err := unix.Renameat2(source, old, target, name, unix.RENAME_NOREPLACE)
	if err != unix.EINVAL && err != unix.ENOSYS {
		return err
	}
	switch err := unix.Linkat(source, old, target, name, 0); err {
	case nil:
		return unix.Unlinkat(source, old, 0)
	case unix.EPERM, unix.EOPNOTSUPP, unix.ENOSYS:
	default:
		return err
	}
	if _, err := modeOf(target, name); err != unix.ENOENT {
		return cmp.Or(err, error(unix.EEXIST))
	}
	return unix.Renameat(source, old, target, name)
}

// makeDirBeneath makes a directory with the owner and the permissions of the one that
// it is made in.
func makeDirBeneath(dir int, name string) (supported bool, err error) {
	return inParent(dir, name, func(parent int, name string) error {
		if err := unix.Mkdirat(parent, name, 0o777); err != nil {
			return err
		}
		var of, made unix.Stat_t
		if err := unix.Fstatat(parent, ".", &of, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		if err := unix.Fstatat(parent, name, &made, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		if of.Uid != made.Uid || of.Gid != made.Gid {
			// Who may not give things away keeps them.
			if err := unix.Fchownat(parent, name, int(of.Uid), int(of.Gid), unix.AT_SYMLINK_NOFOLLOW); err != nil && err != unix.EPERM {
				return err
			}
		}
		if permissions := of.Mode & 0o2777; made.Mode&0o2777 != permissions {
			return unix.Fchmodat(parent, name, permissions, 0)
		}
		return nil
	})
}

// openFileBeneath opens a file for reading, as readBeneath does.
func (t *tree) openFileBeneath(name string) (file *os.File, supported bool, err error) {
	fd, supported, err := t.openToRead(name)
	if !supported || err != nil {
		return nil, supported, err
	}
	return os.NewFile(uintptr(fd), name), true, nil
}

func syncFilesystem(of *os.File) error { return unix.Syncfs(int(of.Fd())) }

// modeOf is the type of what a name in an open directory names.
func modeOf(dir int, name string) (fs.FileMode, error) {
	var stat unix.Stat_t
	if err := unix.Fstatat(dir, name, &stat, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return 0, err
	}
	switch stat.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return 0, nil
	case unix.S_IFDIR:
		return fs.ModeDir, nil
	}
	return fs.ModeIrregular, nil
}

// inParent calls f with the open directory that holds a name.
func inParent(dir int, name string, f func(parent int, name string) error) (supported bool, err error) {
	if !strings.Contains(name, "/") {
		return true, f(dir, name)
	}
	parent, supported, err := openBeneath(dir, filepath.Dir(name), unix.O_PATH|unix.O_DIRECTORY)
	if !supported || err != nil {
		return supported, err
	}
	err = f(parent, filepath.Base(name))
	if closeErr := unix.Close(parent); err == nil {
		err = closeErr
	}
	return true, err
}

func readAndClose(room []byte, fd int, limit int64) ([]byte, error) {
	content, err := readDescriptor(room, fd, limit)
	if closeErr := unix.Close(fd); err == nil {
		err = closeErr
	}
	return content, err
}

func readDescriptor(room []byte, fd int, limit int64) ([]byte, error) {
	n, err := retryInterrupted(func() (int, error) { return unix.Read(fd, room) })
	// Less than was asked for is all that there is, unless nothing is: then it may be no
	// regular file.
	if err == nil && n > 0 && n < len(room) && int64(n) <= limit {
		return room[:n], nil
	}
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return nil, err
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, ErrNotRegular
	}
	if err != nil {
		return nil, err
	}
	if stat.Size > limit {
		return nil, ErrTooLarge
	}
	content := make([]byte, stat.Size)
	for read := copy(content, room[:n]); read < len(content); {
		n, err := retryInterrupted(func() (int, error) { return unix.Read(fd, content[read:]) })
		if err != nil {
			return nil, err
		}
		if n == 0 { // it has shrunk meanwhile: what is there is its content
			return content[:read], nil
		}
		read += n
	}
	return content, nil
}

func retryInterrupted(call func() (int, error)) (int, error) {
	for {
		if n, err := call(); err != unix.EINTR {
			return n, err
		}
	}
}
