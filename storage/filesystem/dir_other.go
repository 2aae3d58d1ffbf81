//go:build unix && !linux

package filesystem

import (
	"fmt"
	"io/fs"

	"regsweep/internal/system"

	"golang.org/x/sys/unix"
)

// eachEntry calls visit for each entry of an open directory, in no order. name is valid until
// visit returns.
func eachEntry(fd int, visit func(name []byte, mode fs.FileMode)) (isEmpty bool, err error) {
	names, err := namesIn(fd)
	if err != nil {
		return false, err
	}
	for name := range names {
		mode, err := modeOf(fd, name)
		if err != nil {
			return false, fmt.Errorf("stat %s: %w", name, listedError(err))
		}
		visit([]byte(name), mode)
	}
	return len(names) == 0, nil
}

// eachName calls visit for each name in an open directory.
func eachName(fd int, visit func(name []byte)) error {
	buffer := make([]byte, 32<<10)
	for {
		n, err := system.Getdents(fd, buffer)
		if err != nil || n <= 0 {
			return err
		}
		_, _, names := unix.ParseDirent(buffer[:n], -1, nil)
		for _, name := range names {
			visit([]byte(name))
		}
	}
}

// isSizedByNames returns true only on Linux.
func isSizedByNames(int, *unix.Stat_t) (bool, error) { return false, nil }

// noAtime does nothing: only Linux has O_NOATIME.
type noAtime struct{}

func (*noAtime) open(open func(flag int) (fd int, err error)) (fd int, err error) { return open(0) }

// isOnDisk returns true only on Linux.
func (f *Store) isOnDisk(string) bool { return false }
