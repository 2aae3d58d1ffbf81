package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// Remove unlinks files one after the other. Sweep runs several batches at once.
func (f *filesystem) Remove(ctx context.Context, refs []Ref) []Outcome {
	outcomes := make([]Outcome, len(refs))
	r := removal{}
	for i, ref := range refs {
		outcomes[i].Err = f.removeFile(ctx, &r, ref)
	}
	r.leave(ctx)
	return outcomes
}

func (f *filesystem) removeFile(ctx context.Context, r *removal, ref Ref) error {
	if err := f.turn(ctx); err != nil {
		return err
	}
	if err := MayRemove(ctx); err != nil {
		return err
	}
	if ref.Multipart != "" { // the path may be that of a file, which nobody asked for
		return fmt.Errorf("abort the upload of %s: a filesystem has none", ref.Path)
	}
	t, err := f.tree()
	if t == nil {
		return err
	}
	r.enter(ctx, t, path.Dir(path.Dir(ref.Path)))
	err = r.removeFile(ref.Path, func(mode fs.FileMode) error { return mayGo(ref.Path, mode) })
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return &fs.PathError{Op: "remove", Path: ref.Path, Err: err}
	}
	if err == nil {
		f.del.Add(1)
	}
	r.removeDir(ctx, path.Dir(ref.Path))
	return nil
}

// mayGo says which files go. A plan names regular ones. Of an upload that nobody will
// finish, and of a quarantine, a pipe or a symbolic link may go too: the link, and not
// what it leads to.
func mayGo(name string, mode fs.FileMode) error {
	if !mode.IsRegular() && (mode.IsDir() || !isBelow(name, QuarantineDir) && parsePath(name).kind != kindUpload) {
		return ErrNotRegular
	}
	return nil
}

func isBelow(name, dir string) bool { return strings.HasPrefix(name, dir+"/") }

// removal is the removal of several files, one after the other. Nearly all lie alone in
// their directory, and these beside each other: the directory around them is opened once,
// and once they have gone, and not after each, it is seen whether that has emptied it.
type removal struct {
	tree   *tree
	around string // "" outside of any
	fd     int    // below 0 where around can't be opened: then every path begins at the tree
}

// enter goes to the directory around that of the next file.
func (r *removal) enter(ctx context.Context, t *tree, around string) {
	if r.tree == t && r.around == around {
		return
	}
	r.leave(ctx)
	r.tree, r.around, r.fd = t, around, t.openDir(around)
}

func (r *removal) leave(ctx context.Context) {
	if r.around == "" {
		return
	}
	closeDir(r.fd)
	r.tree.removeEmptied(ctx, r.around)
	r.around = ""
}

// at is from which directory, and by which path, a name is reached.
func (r *removal) at(name string) (dir int, below string) {
	if below, found := strings.CutPrefix(name, r.around+"/"); found && r.fd >= 0 {
		return r.fd, below
	}
	return int(r.tree.base.Fd()), name
}

// removeFile removes a file whose type may. It follows no symbolic link.
func (r *removal) removeFile(name string, may func(fs.FileMode) error) error {
	dir, below := r.at(name)
	if supported, err := removeBeneath(dir, below, may); supported {
		return err
	}
	info, err := r.tree.root.Lstat(name)
	if err != nil {
		return err
	}
	if err := may(info.Mode()); err != nil {
		return err
	}
	return r.tree.root.Remove(name)
}

// removeDir removes the directory that a file was in, if that has emptied it.
func (r *removal) removeDir(ctx context.Context, name string) {
	if isCeiling(name) || MayRemove(ctx) != nil {
		return
	}
	dir, below := r.at(name)
	if supported, _ := removeDirBeneath(dir, below); !supported {
		_ = r.tree.root.Remove(name) // as in removeEmptied
	}
}

// removeDir removes an empty directory.
func (t *tree) removeDir(name string) error {
	if supported, err := removeDirBeneath(int(t.base.Fd()), name); supported {
		return err
	}
	return t.root.Remove(name)
}

// removeEmptied removes directories that hold nothing, upwards from dir, as far as
// the part of the layout that encloses them. The kernel refuses to remove a
// directory that is not empty, so a file that appears meanwhile is safe, and a
// refusal is where to stop and no failure: an empty directory costs nobody
// anything, and the next run tries again.
func (t *tree) removeEmptied(ctx context.Context, dir string) {
	for ; !isCeiling(dir) && MayRemove(ctx) == nil; dir = path.Dir(dir) {
		if err := t.removeDir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return
		}
	}
}

// isCeiling reports whether an emptied directory stays because a registry expects
// it, or because it is not known to be part of the layout or ours.
func isCeiling(dir string) bool {
	if dir == OwnDir || isBelow(dir, OwnDir) {
		return false // whoever needs it makes it
	}
	top, rest, _ := strings.Cut(dir, "/")
	if top == BlobsDir {
		return strings.Count(rest, "/") < 1 // blobs, blobs/<alg>
	}
	if top != RepositoriesDir {
		return true
	}
	_, part, below, ok := splitRepository(rest)
	if !ok || below == "" {
		return true
	}
	if part == manifestsDir {
		base := path.Base(dir)
		return below == "revisions" || below == "tags" || base == "index" || base == "current"
	}
	return false
}
