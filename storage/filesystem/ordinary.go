//go:build unix

package filesystem

import (
	"context"
	"io/fs"
	"strings"

	"regsweep/internal/system"
	"regsweep/storage"
	"regsweep/storage/layout"

	"golang.org/x/sys/unix"
)

// Nearly all tags and revisions are as a registry leaves them. The link counts of their directories
// show that without listing them: on most filesystems a directory has one link for its name, one for
// its ".", and one for the ".." of each directory in it.
//
// An ordinary tag or revision has only the directories and the link files of the layout. Another link
// has to be kept (see inventory.builder.pin). Files with other names are not noticed.

// base is an open directory in which many calls open files. Opening a file from there takes less
// time than from the tree. The zero value is no directory.
type base struct {
	prefix string // its path, with a slash at the end
	fd     int
	stat   unix.Stat_t
	// counted is set if the link count of the directory is right. It is not right on every
	// filesystem: btrfs and merged overlays always have 1, some in user space always have 2.
	counted bool
}

// hasDirectories reports whether it is certain that so many directories are in a directory. Its path
// begins at the base.
func (w *walk) hasDirectories(dir string, n int) bool {
	w.fs.head.Add(1)
	var stat unix.Stat_t
	err := system.Lstatat(w.base.fd, dir, &stat)
	return err == nil && typeOf(&stat) == fs.ModeDir && stat.Dev == w.base.stat.Dev && uint64(stat.Nlink) == 2+uint64(n)
}

// isAbsent reports whether it is certain that a file does not exist. Its path begins at the base.
func (w *walk) isAbsent(name string) bool {
	w.fs.head.Add(1)
	var stat unix.Stat_t
	return system.Lstatat(w.base.fd, name, &stat) == unix.ENOENT
}

// readBelow reads a link. Its path begins at the base. The content may be cut short, so it counts only
// if it is a digest.
func (w *walk) readBelow(name string) string {
	w.fs.get.Add(1)
	fd, err := w.fs.noAtime.open(func(flag int) (int, error) {
		return system.OpenBeneath(w.base.fd, name, readFlags|flag)
	})
	if err != nil {
		return ""
	}
	buffer := readBuffers.Get().(*[16 << 10]byte)
	defer readBuffers.Put(buffer)
	n, err := system.Read(fd, buffer[:])
	if closeAfter(fd, err) != nil {
		return ""
	}
	return string(buffer[:n])
}

// isLinkTo reports whether a file of the base was read and is a link to a SHA-256 digest.
func (w *walk) isLinkTo(hex, name string) bool {
	algorithm, digest, _ := strings.Cut(w.readBelow(name), ":")
	return algorithm == "sha256" && digest == hex
}

// isOrdinaryRevision reports whether a revision of the base has a link to the digest in its name, no
// directory and no signatures.
func (w *walk) isOrdinaryRevision(ctx context.Context, hex string) (bool, error) {
	if !w.base.counted {
		return false, nil
	}
	if err := w.fs.begin(ctx); err != nil {
		return false, err
	}
	defer w.fs.end()
	// A symbolic link named signatures is not a directory, and does not count in the link count.
	return w.hasDirectories(hex, 0) && w.isAbsent(hex+"/"+layout.SignaturesDir) &&
		w.isLinkTo(hex, hex+"/"+layout.LinkFile), nil
}

// ordinaryTag appends the links of a tag that has a current link, and an index of the same digest
// alone.
func (w *walk) ordinaryTag(ctx context.Context, page []storage.Object, dir string) (_ []storage.Object, ok bool, err error) {
	if !w.base.counted {
		return page, false, nil
	}
	if err := w.fs.begin(ctx); err != nil {
		return nil, false, err
	}
	defer w.fs.end()
	name := strings.TrimPrefix(dir, w.base.prefix)
	current, index := name+"/current", name+"/index"
	if !w.hasDirectories(name, 2) || !w.isAbsent(name+"/"+layout.LinkFile) ||
		!w.hasDirectories(current, 0) ||
		!w.hasDirectories(index, 1) || !w.isAbsent(index+"/"+layout.LinkFile) ||
		!w.hasDirectories(index+"/sha256", 1) || !w.isAbsent(index+"/sha256/"+layout.LinkFile) {
		return page, false, nil
	}
	content := w.readBelow(current + "/" + layout.LinkFile)
	digest, ok := layout.ParseDigest(content)
	if !ok || digest.Alg != "sha256" || !w.hasDirectories(index+"/sha256/"+digest.Hex, 0) {
		return page, false, nil
	}
	return append(page,
		storage.Object{Path: dir + "/current/" + layout.LinkFile, Size: int64(len(content)), Content: []byte(content)},
		storage.Object{Path: dir + "/index/sha256/" + digest.Hex + "/" + layout.LinkFile, Size: -1, Named: true},
	), true, nil
}
