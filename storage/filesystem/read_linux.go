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

// readNamed is readTo without a copy of the name. supported is false if no file can have this name,
// and if the tree has symbolic links that are followed.
func (f *Store) readNamed(buffer, name []byte, limit int64) (content []byte, supported bool, err error) {
	t := f.opened.Load()
	if t == nil || bytes.IndexByte(name, 0) >= 0 || t.links.Load() != nil {
		return nil, false, nil
	}
	path := append(name, 0)
	fd, err := t.unnoticed.open(func(flag int) (fd int, err error) {
		return system.OpenBytesBeneath(t.fd, path, flag|unix.O_RDONLY|unix.O_NONBLOCK)
	})
	if err == unix.ELOOP || err == unix.ENOTDIR {
		return nil, false, nil // a parent is a symbolic link
	}
	f.get.Add(1)
	if err != nil {
		return nil, true, err
	}
	n, err := system.Read(fd, buffer)
	if err == nil && n > 0 && n < len(buffer) && int64(n) <= limit {
		content = buffer[:n] // this may not be all; the caller verifies the content and then reads again
	} else {
		content, err = readRest(buffer, n, err, fd, limit)
	}
	return content, true, closeAfter(fd, err)
}

// StatBlob implements storage.BlobStater. ok is false after any error and if the blob is not a
// regular file.
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
	var buffer [128]byte
	path := append(layout.AppendBlobPath(buffer[:0], digest), 0)
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
