package driver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"

	"regsweep/storage"
	"regsweep/storage/pace"
)

// Move calls the driver's Move. Some drivers copy the object.
func (o *Store) Move(ctx context.Context, moves []storage.Move) []storage.Outcome {
	return storage.OutcomesOf(len(moves), o.Concurrency(), func(i int) error { return o.move(ctx, moves[i]) })
}

// move checks that there is no object at m.To, since a driver would overwrite it. An object that
// is written there after the check is lost: Distribution's drivers have no conditional write.
func (o *Store) move(ctx context.Context, m storage.Move) error {
	if err := storage.MayBegin(ctx); err != nil {
		return err
	}
	there, err := o.exists(ctx, m.To)
	if err != nil {
		return err
	}
	here, err := o.exists(ctx, m.From)
	switch {
	case err != nil:
		return err
	case there && here:
		return &fs.PathError{Op: "move", Path: m.From, Err: fs.ErrExist}
	case there:
		return nil
	case !here:
		return storage.NotExist("move", m.From)
	}
	return o.do(ctx, "move", m.From, func() error {
		if err := storage.MayRemove(ctx); err != nil {
			return pace.Final(err)
		}
		o.put.Add(1)
		return o.driver.Move(ctx, driverPath(m.From), driverPath(m.To))
	})
}

// exists reports whether there is an object at a path. If there is a directory, it returns an
// error.
func (o *Store) exists(ctx context.Context, path string) (bool, error) {
	_, err := o.Stat(ctx, path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Put checks that there is no object, and writes.
func (o *Store) Put(ctx context.Context, path string, content io.ReadSeeker) error {
	there, err := o.exists(ctx, path)
	if err != nil {
		return err
	}
	if there {
		return &fs.PathError{Op: "write", Path: path, Err: fs.ErrExist}
	}
	return o.do(ctx, "write", path, func() (err error) {
		if _, err := content.Seek(0, io.SeekStart); err != nil {
			return err
		}
		if err := storage.MayRemove(ctx); err != nil {
			return pace.Final(err)
		}
		o.put.Add(1)
		w, err := o.driver.Writer(ctx, driverPath(path), false)
		if err != nil {
			return err
		}
		if _, err = io.Copy(w, content); err == nil {
			err = w.Commit(ctx)
		} else {
			err = errors.Join(err, w.Cancel(ctx))
		}
		if closeErr := w.Close(); err == nil {
			err = closeErr
		}
		return err
	})
}

// Overwrite writes. The drivers replace an object as a whole.
func (o *Store) Overwrite(ctx context.Context, path string, content []byte) error {
	if _, err := o.exists(ctx, path); err != nil {
		return err
	}
	return o.do(ctx, "write", path, func() error {
		if err := storage.MayRemove(ctx); err != nil {
			return pace.Final(err)
		}
		o.put.Add(1)
		return o.driver.PutContent(ctx, driverPath(path), content)
	})
}

// MakeDir does nothing: drivers make directories as they need them.
func (o *Store) MakeDir(ctx context.Context, dir string) error { return ctx.Err() }

// Sync does nothing: the drivers have no such call.
func (o *Store) Sync(ctx context.Context) error { return ctx.Err() }

// Names lists the directories in a directory.
func (o *Store) Names(ctx context.Context, dir string) ([]string, error) {
	paths, err := o.listDir(ctx, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, name := range paths {
		_, isDir, err := o.stat(ctx, name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if isDir {
			names = append(names, path.Base(name))
		}
	}
	return slices.Compact(names), nil
}

// Below walks a directory.
func (o *Store) Below(ctx context.Context, dir string, visit func([]storage.Object) error) error {
	paths, err := o.listDir(ctx, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if len(paths) == 0 && o.directories {
		return visit([]storage.Object{{Path: dir, Dir: true}})
	}
	return o.below(ctx, paths, visit)
}

// Others walks the other directories of the layout's root.
func (o *Store) Others(ctx context.Context, visit func([]storage.Object) error) error {
	paths, err := o.listDir(ctx, "")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return o.below(ctx, slices.DeleteFunc(paths, storage.IsTree), visit)
}

func (o *Store) below(ctx context.Context, paths []string, visit func([]storage.Object) error) error {
	var page []storage.Object
	for _, name := range paths {
		object, isDir, err := o.stat(ctx, name)
		switch {
		case errors.Is(err, fs.ErrNotExist): // removed meanwhile
		case err != nil:
			return err
		case !isDir:
			page = append(page, object)
		default:
			if err := o.Below(ctx, name, visit); err != nil {
				return err
			}
		}
	}
	return storage.VisitPage(page, visit)
}

// Stream copies the content from the driver's Reader. It does not open a second Reader after a
// failure: w would get a part of the content twice.
func (o *Store) Stream(ctx context.Context, path string, w io.Writer) error {
	if _, err := o.Stat(ctx, path); err != nil {
		return err
	}
	var body io.ReadCloser
	err := o.do(ctx, "read", path, func() (err error) {
		o.get.Add(1)
		body, err = o.driver.Reader(ctx, driverPath(path), 0)
		return err
	})
	if err != nil {
		return err
	}
	_, err = io.Copy(w, body)
	if closeErr := body.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}
