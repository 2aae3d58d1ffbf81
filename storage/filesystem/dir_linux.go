package filesystem

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"regsweep/internal/system"

	"golang.org/x/sys/unix"
)

// direntBuffers are buffers for getdents. One call reads most directories of a registry, and
// many goroutines can have a buffer.
var direntBuffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// eachEntry calls visit for each entry of an open directory, in no order. name is valid until
// visit returns. os.ReadDir would also stat, sort and allocate, for every directory of a scan.
func eachEntry(fd int, visit func(name []byte, mode fs.FileMode)) (isEmpty bool, err error) {
	isEmpty = true
	err = eachBuffer(fd, func(records []byte) error {
		return eachRecord(fd, records, func(name []byte, mode fs.FileMode) {
			isEmpty = false
			visit(name, mode)
		})
	})
	return isEmpty, err
}

// eachName calls visit for each name in an open directory.
func eachName(fd int, visit func(name []byte)) error {
	return eachBuffer(fd, func(records []byte) error {
		for len(records) > 0 {
			name, _, rest, err := cutRecord(records)
			if err != nil {
				return err
			}
			visit(name)
			records = rest
		}
		return nil
	})
}

func eachBuffer(fd int, visit func(records []byte) error) error {
	buffer := direntBuffers.Get().(*[32 << 10]byte)
	defer direntBuffers.Put(buffer)
	for {
		n, err := system.Getdents(fd, buffer[:])
		if err != nil || n == 0 {
			return err
		}
		if err := visit(buffer[:n]); err != nil {
			return err
		}
	}
}

var errDirent = errors.New("the kernel's directory entry is malformed")

// cutRecord cuts off the first struct linux_dirent64: the inode and the offset (8 bytes each), the
// length of the record (2 bytes), the type (1 byte), and the name, which ends with a zero byte.
func cutRecord(records []byte) (name []byte, kind byte, rest []byte, err error) {
	const header = 19
	if len(records) < header {
		return nil, 0, nil, errDirent
	}
	length := int(binary.NativeEndian.Uint16(records[16:]))
	if length < header || length > len(records) {
		return nil, 0, nil, errDirent
	}
	name, _, _ = bytes.Cut(records[header:length], []byte{0})
	return name, records[18], records[length:], nil
}

func eachRecord(fd int, records []byte, visit func(name []byte, mode fs.FileMode)) error {
	for len(records) > 0 {
		name, kind, rest, err := cutRecord(records)
		if err != nil {
			return err
		}
		records = rest
		if string(name) == "." || string(name) == ".." {
			continue
		}
		mode, known := direntMode(kind)
		if !known {
			// Some filesystems do not return the type of an entry.
			if mode, err = modeOf(fd, string(name)); err != nil {
				return fmt.Errorf("stat %s: %w", name, listedError(err))
			}
		}
		visit(name, mode)
	}
	return nil
}

// direntMode converts the type of an entry. known is false if the filesystem has not returned it.
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

// isSizedByNames reports whether an open directory is empty if and only if its size is 0. On btrfs
// its size is twice the length of all names, and its link count is always 1.
func isSizedByNames(fd int, stat *unix.Stat_t) (bool, error) {
	if stat.Nlink != 1 {
		return false, nil
	}
	var of unix.Statfs_t
	err := system.Fstatfs(fd, &of)
	return uint32(of.Type) == unix.BTRFS_SUPER_MAGIC, err
}
