package filesystem

import (
	"bytes"
	"context"
	"time"

	"regsweep/internal/system"
	"regsweep/storage"
	"regsweep/storage/layout"

	"golang.org/x/sys/unix"
)

// readNamed does what readTo does without a copy of the name. It is not supported for names
// that no file can have, and where symbolic links are followed.
func (f *Store) readNamed(room, name []byte, limit int64) (content []byte, supported bool, err error) {
	t := f.opened.Load()
	if t == nil || bytes.IndexByte(name, 0) >= 0 || t.links.Load() != nil {
		return nil, false, nil
	}
	path := append(name, 0)
	fd, err := t.unnoticed.open(func(flag int) (fd int, err error) {
		return system.OpenBytesBeneath(t.fd, path, flag|unix.O_RDONLY|unix.O_NONBLOCK)
	})
	if err == unix.ELOOP || err == unix.ENOTDIR {
		return nil, false, nil // there is a symbolic link on the way
	}
	f.get.Add(1)
	if err != nil {
		return nil, true, err
	}
	n, err := system.Read(fd, room)
	if err == nil && n > 0 && n < len(room) && int64(n) <= limit {
		content = room[:n] // whoever verifies the content reads again if this is not all
	} else {
		content, err = readRest(room, n, err, fd, limit)
	}
	return content, true, closeAfter(fd, err)
}

// StatBlob implements storage.BlobStater. It does not know of what is no regular file, and after an error.
func (f *Store) StatBlob(ctx context.Context, digest *[32]byte) (object storage.Object, ok bool, err error) {
	if err := f.begin(ctx); err != nil {
		return storage.Object{}, false, err
	}
	defer f.end()
	t := f.opened.Load()
	if t == nil || t.links.Load() != nil {
		return storage.Object{}, false, nil
	}
	f.head.Add(1)
	var room [128]byte
	path := append(layout.AppendBlobPath(room[:0], digest), 0)
	const known = unix.STATX_TYPE | unix.STATX_SIZE | unix.STATX_MTIME
	var stat unix.Statx_t
	if err := system.Statx(t.fd, path, unix.AT_SYMLINK_NOFOLLOW, known|unix.STATX_NLINK, &stat); err != nil {
		return storage.Object{}, false, nil
	}
	ok = stat.Mask&known == known && stat.Mode&unix.S_IFMT == unix.S_IFREG
	return storage.Object{
		Size: int64(stat.Size), ModTime: time.Unix(stat.Mtime.Sec, int64(stat.Mtime.Nsec)),
		HardLinked: stat.Mask&unix.STATX_NLINK != 0 && stat.Nlink > 1,
	}, ok, nil
}
