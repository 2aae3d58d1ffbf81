package storage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"
)

// Move renames, which neither copies anything nor takes space, and is done or not done
// whenever it is interrupted.
func (f *filesystem) Move(ctx context.Context, moves []Move) []Outcome {
	outcomes := make([]Outcome, len(moves))
	for i, m := range moves {
		if err := f.move(ctx, m); err != nil {
			outcomes[i].Err = &fs.PathError{Op: "move", Path: m.From, Err: err}
		}
	}
	return outcomes
}

func (f *filesystem) move(ctx context.Context, m Move) error {
	if err := f.turn(ctx); err != nil {
		return err
	}
	t, err := f.tree()
	if err != nil {
		return err
	}
	if t == nil {
		return fs.ErrNotExist
	}
	if err := MayRemove(ctx); err != nil {
		return err
	}
	f.put.Add(1)
	for tries := 0; ; tries++ {
		err = t.rename(m.From, m.To)
		if !errors.Is(err, fs.ErrNotExist) || tries == 10 {
			break
		}
		// It is the object that is not there, or the directory that it goes to.
		if _, err := t.root.Lstat(m.From); err != nil {
			if !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			t.removeEmptied(ctx, path.Dir(m.From))
			_, err = t.root.Lstat(m.To)
			return err
		}
		if err := t.makeDirs(path.Dir(m.To)); err != nil {
			return err
		}
	}
	if errors.Is(err, fs.ErrExist) && t.isOneFile(m.From, m.To) {
		// Both names, of which an interruption has kept a rename from removing the first.
		err = (&removal{tree: t, fd: -1}).removeFile(m.From, func(mode fs.FileMode) error { return mayGo(m.From, mode) })
	}
	if errors.Is(err, syscall.EXDEV) {
		return fmt.Errorf("%s lies on another filesystem, to which nothing can be renamed: %w", m.To, err)
	}
	if err != nil {
		return err
	}
	t.removeEmptied(ctx, path.Dir(m.From))
	return nil
}

// rename gives a file a path where there is nothing. It follows no symbolic link.
func (t *tree) rename(from, to string) error {
	may := func(mode fs.FileMode) error { return errors.Join(mayGo(from, mode), mayGo(to, mode)) }
	if supported, err := renameBeneath(int(t.base.Fd()), from, to, may); supported {
		return err
	}
	info, err := t.root.Lstat(from)
	if err != nil {
		return err
	}
	if err := may(info.Mode()); err != nil {
		return err
	}
	// A second name can't be made in another's place, as a rename could.
	if err := t.root.Link(from, to); err != nil {
		return err
	}
	return t.root.Remove(from)
}

// isOneFile reports whether two paths are names of the same file.
func (t *tree) isOneFile(a, b string) bool {
	first, err := t.root.Lstat(a)
	if err != nil {
		return false
	}
	second, err := t.root.Lstat(b)
	return err == nil && os.SameFile(first, second)
}

// makeDirs makes a directory and those that it lies in.
func (t *tree) makeDirs(dir string) error {
	err := t.makeDir(dir)
	if errors.Is(err, fs.ErrNotExist) && dir != "." {
		if err := t.makeDirs(path.Dir(dir)); err != nil {
			return err
		}
		err = t.makeDir(dir)
	}
	if errors.Is(err, fs.ErrExist) { // of whatever type: what is made in it will tell
		return nil
	}
	return err
}

// makeDir makes a directory with the owner and the permissions of the one that it is
// made in: a registry that runs as somebody else has to be able to write to it.
func (t *tree) makeDir(dir string) error {
	t.making.Lock()
	defer t.making.Unlock()
	if supported, err := makeDirBeneath(int(t.base.Fd()), dir); supported {
		return err
	}
	if err := t.root.Mkdir(dir, 0o777); err != nil {
		return err
	}
	return t.inherit(dir, path.Dir(dir))
}

// inherit gives a file or directory the owner of a directory and, if it is one itself,
// the permissions. Who may not give things away keeps them.
func (t *tree) inherit(name, from string) error {
	parent, err := t.root.Lstat(from)
	if err != nil {
		return err
	}
	made, err := t.root.Lstat(name)
	if err != nil {
		return err
	}
	if owner, ok := parent.Sys().(*syscall.Stat_t); ok {
		err := t.root.Lchown(name, int(owner.Uid), int(owner.Gid))
		if err != nil && !errors.Is(err, fs.ErrPermission) {
			return err
		}
	}
	if !made.IsDir() {
		return nil
	}
	return t.root.Chmod(name, parent.Mode()&(fs.ModePerm|fs.ModeSetgid))
}

// Put writes a file under another name, in OwnDir, and renames it once it is on the
// disk and has the owner that it should have.
func (f *filesystem) Put(ctx context.Context, name string, content io.ReadSeeker) (err error) {
	defer func() {
		if err != nil {
			err = &fs.PathError{Op: "write", Path: name, Err: err}
		}
	}()
	if err := f.turn(ctx); err != nil {
		return err
	}
	if err := os.MkdirAll(f.dir, 0o777); err != nil { // a registry that nobody has pushed to
		return err
	}
	t, err := f.tree()
	if err != nil {
		return err
	}
	if _, err := t.root.Lstat(name); err == nil {
		return fs.ErrExist
	}
	if err := t.makeDirs(OwnDir); err != nil {
		return err
	}
	f.put.Add(1)
	temporary := temporaryFor(name)
	err = t.write(temporary, content)
	if err == nil {
		err = t.makeDirs(path.Dir(name))
	}
	if err == nil {
		err = t.inherit(temporary, path.Dir(name))
	}
	if err == nil {
		err = t.rename(temporary, name)
	}
	if err != nil {
		return errors.Join(err, ignoreAbsent(t.root.Remove(temporary)))
	}
	return nil
}

// temporaryFor is the name that a file has until it is whole. It follows from the path,
// so that what an interruption has left of it is written over when that is put again. A
// run's directory never comes again, and only the holder of the lock writes there, its
// plan: that has the same name in all of them.
func temporaryFor(name string) string {
	if isBelow(name, QuarantineDir) {
		name = QuarantineDir + "/" + path.Base(name)
	}
	sum := sha256.Sum256([]byte(name))
	return OwnDir + "/" + hex.EncodeToString(sum[:8]) + ".new"
}

func ignoreAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// write makes a file of what content has, and returns once it is on the disk.
func (t *tree) write(name string, content io.ReadSeeker) error {
	if _, err := content.Seek(0, io.SeekStart); err != nil {
		return err
	}
	// What was left there may be a symbolic link, by which O_TRUNC would write elsewhere.
	if err := ignoreAbsent(t.root.Remove(name)); err != nil {
		return err
	}
	file, err := t.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, content)
	if err == nil {
		err = file.Sync()
	}
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	return err
}

// MakeDir makes a directory.
func (f *filesystem) MakeDir(ctx context.Context, dir string) error {
	if err := f.turn(ctx); err != nil {
		return err
	}
	t, err := f.tree()
	if err == nil && t == nil {
		err = fs.ErrNotExist
	}
	if err == nil {
		err = t.makeDirs(dir)
	}
	if err != nil {
		return fmt.Errorf("make the directory %s: %w", dir, err)
	}
	return nil
}

// Sync has the kernel write all of the filesystem that it has not yet written.
func (f *filesystem) Sync(ctx context.Context) error {
	t, err := f.tree()
	if t == nil || err != nil {
		return errors.Join(err, ctx.Err())
	}
	if err := syncFilesystem(t.base); err != nil {
		return fmt.Errorf("sync %s: %w", f.dir, err)
	}
	return ctx.Err()
}
