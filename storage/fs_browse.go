package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"syscall"
)

// Names lists the directories in a directory.
func (f *filesystem) Names(ctx context.Context, dir string) ([]string, error) {
	entries, _, err := f.browse(ctx, dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, entry := range entries {
		if entry.IsDir() {
			names = append(names, entry.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// Below walks a directory.
func (f *filesystem) Below(ctx context.Context, dir string, visit func([]Object) error) error {
	entries, found, err := f.browse(ctx, dir)
	if err != nil {
		return err
	}
	if found && len(entries) == 0 {
		return visit([]Object{{Path: dir, Dir: true}})
	}
	var page []Object
	for _, entry := range entries {
		name := dir + "/" + entry.Name()
		if entry.IsDir() {
			if err := f.Below(ctx, name, visit); err != nil {
				return err
			}
			continue
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // gone meanwhile
		}
		if err != nil {
			return fmt.Errorf("list %s: %w", dir, err)
		}
		page = append(page, Object{Path: name, Size: info.Size(), ModTime: info.ModTime()})
	}
	return visitPage(page, visit)
}

// browse lists a directory, to which no symbolic link may lead: what is found there is
// moved and removed.
func (f *filesystem) browse(ctx context.Context, dir string) (entries []fs.DirEntry, found bool, err error) {
	if err := f.turn(ctx); err != nil {
		return nil, false, err
	}
	t, err := f.tree()
	if t == nil || err != nil {
		return nil, false, err
	}
	for at := dir; at != "."; at = path.Dir(at) {
		info, err := t.root.Lstat(at)
		if errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
			return nil, false, nil
		}
		if err != nil {
			return nil, false, fmt.Errorf("list %s: %w", dir, err)
		}
	}
	f.list.Add(1)
	entries, err = fs.ReadDir(t.root.FS(), dir)
	if err != nil {
		return nil, false, fmt.Errorf("list %s: %w", dir, err)
	}
	return entries, true, nil
}

// Stream copies a file.
func (f *filesystem) Stream(ctx context.Context, name string, w io.Writer) error {
	if err := f.turn(ctx); err != nil {
		return err
	}
	t, err := f.tree()
	if err != nil {
		return err
	}
	if t == nil {
		return notExist("read", name)
	}
	f.get.Add(1)
	if err := t.stream(ctx, name, w); err != nil {
		return readError(name, err)
	}
	return nil
}

func (t *tree) stream(ctx context.Context, name string, w io.Writer) error {
	file, err := t.open(name)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		err = ErrNotRegular
	default:
		_, err = io.Copy(w, &untilDone{ctx, file})
	}
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	return err
}

// open opens a file for reading, and follows no symbolic link.
func (t *tree) open(name string) (*os.File, error) {
	// O_NONBLOCK: opening a pipe would wait for its writer for ever.
	if file, supported, err := t.openFileBeneath(name); supported {
		return file, err
	}
	return t.root.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
}

// untilDone is a reader that ends with its context.
type untilDone struct {
	ctx  context.Context
	from io.Reader
}

func (u *untilDone) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.from.Read(p)
}
