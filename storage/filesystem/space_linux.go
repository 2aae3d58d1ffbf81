package filesystem

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path"
	"slices"

	"regsweep/internal/system"
	"regsweep/storage"

	"golang.org/x/sys/unix"
)

// mount is the mount of a directory. A rename between two mounts fails, also if both mount the same
// filesystem. A filesystem may have several devices.
type mount struct {
	device, id uint64
}

// CheckMoves implements storage.MoveChecker. Nearly all objects are alone in their directory. So it
// checks the mount of the parent of that directory, once for all objects below it.
func (f *Store) CheckMoves(ctx context.Context, dir string, bytes int64, refs iter.Seq[storage.Ref]) error {
	t, err := f.tree()
	if t == nil || err != nil {
		return err
	}
	existing, to, free, err := t.nearest(dir)
	if err != nil {
		return fmt.Errorf("check %s: %w", dir, err)
	}
	checked, made := map[string]bool{}, map[string]bool{}
	for ref := range refs {
		from := path.Dir(path.Dir(ref.Path))
		if ref.Multipart != "" || checked[from] {
			continue
		}
		checked[from] = true
		if err := f.begin(ctx); err != nil {
			return err
		}
		at, _, err := t.placeOf(from)
		f.end()
		switch {
		case errors.Is(err, fs.ErrNotExist): // nothing to move
			continue
		case err != nil:
			return fmt.Errorf("check %s: %w", from, err)
		case at != to:
			return storage.Usagef("%s and %s lie on different filesystems or mounts, between which nothing can be renamed: "+
				"run without --quarantine, or have one mount hold both", from, existing)
		}
		for dir := from; dir != "." && !made[dir]; dir = path.Dir(dir) {
			made[dir] = true
		}
	}
	// Each move that is under way needs one more directory.
	directories := int64(len(made) + f.Concurrency() + 2)
	if free.Type == unix.EXT4_SUPER_MAGIC { // each directory of ext4 takes a block
		bytes += directories * int64(free.Bsize)
	}
	blocks := free.Bavail
	if os.Geteuid() == 0 { // root may also use the reserved blocks
		blocks = free.Bfree
	}
	has := int64(blocks) * int64(free.Bsize)
	if has < bytes || free.Files > 0 && int64(free.Ffree) < directories+1 {
		inodes := fmt.Sprintf(" and %d inodes", free.Ffree)
		if free.Files == 0 { // btrfs and others make inodes as they are needed
			inodes = ""
		}
		return fmt.Errorf("%s: %w: a quarantine takes %d KiB and %d inodes for its plan and directories, and there are %d KiB%s: "+
			"free as much, or run without --quarantine, which takes none",
			f.identity.Root, unix.ENOSPC, (bytes+1023)/1024, directories+1, has/1024, inodes)
	}
	return nil
}

// nearest finds the mount of a directory, or of its nearest parent that exists.
func (t *tree) nearest(dir string) (existing string, at mount, free unix.Statfs_t, err error) {
	for ; ; dir = path.Dir(dir) {
		if at, free, err = t.placeOf(dir); dir == "." || !errors.Is(err, fs.ErrNotExist) {
			return dir, at, free, err
		}
	}
}

// placeOf finds the mount of a directory, and the free space there.
func (t *tree) placeOf(dir string) (at mount, free unix.Statfs_t, err error) {
	fd, err := t.openDir(dir)
	if err != nil {
		return at, free, err
	}
	var stat unix.Statx_t
	if err = system.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_TYPE|unix.STATX_MNT_ID, &stat); err == nil {
		at.device = unix.Mkdev(stat.Dev_major, stat.Dev_minor)
		if stat.Mask&unix.STATX_MNT_ID != 0 { // since Linux 5.8
			at.id = stat.Mnt_id
		}
		err = system.Fstatfs(fd, &free)
	}
	return at, free, closeAfter(fd, err)
}

// diskMagic are the types of filesystems on a disk of this machine. Source: statfs(2).
var diskMagic = []int64{
	unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.F2FS_SUPER_MAGIC, unix.TMPFS_MAGIC,
	unix.OVERLAYFS_SUPER_MAGIC, 0x2fc12fc1, // ZFS
}

// isOnDisk reports whether a file lies on a disk of this machine, and not behind a network.
func (f *Store) isOnDisk(name string) bool {
	t, err := f.tree()
	if err != nil || t == nil {
		return false
	}
	for name != "." {
		name = path.Dir(name) // the disk may not read all of them
		if _, of, err := t.placeOf(name); err == nil {
			return slices.Contains(diskMagic, int64(of.Type))
		}
	}
	return false
}
