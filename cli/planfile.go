package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"regsweep/storage"
	"regsweep/sweep"
)

const planName = "plan"

// planFile is where a plan, or what became of one, is saved, whole or not at all: it is written under another
// name beside the file, which it replaces once it is on the disk. A nil *planFile is
// one that nobody asked for.
type planFile struct {
	path string
	file *os.File // nil once saved or discarded
}

// newPlanFile begins the file before there is a plan: an hour of listing must not end
// with a directory that does not exist. name is what the user knows it by.
func newPlanFile(name, path string) (*planFile, error) {
	info, err := os.Stat(path)
	switch {
	case path == "":
		return nil, storage.Usagef("%s: the name of the file is empty", name)
	case err == nil && !info.Mode().IsRegular():
		return nil, storage.Usagef("%s: %s is no regular file", name, path)
	case err == nil:
		// What a link leads to is replaced, and not the link.
		if path, err = filepath.EvalSymlinks(path); err != nil {
			return nil, storage.Usagef("%s: %w", name, err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, storage.Usagef("%s: %w", name, err)
	}
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	if err != nil {
		return nil, storage.Usagef("%s: %s can't be written: %w", name, path, errors.Unwrap(err))
	}
	return &planFile{path, file}, nil
}

func (f *planFile) save(write func(io.Writer) error) error {
	if f == nil {
		return nil
	}
	err := write(f.file)
	if err == nil {
		err = f.file.Sync()
	}
	if err == nil {
		err = os.Rename(f.file.Name(), f.path)
	}
	if err != nil {
		return fmt.Errorf("save the plan: %w", err)
	}
	err = f.file.Close()
	f.file = nil
	return err
}

func writesPlan(plan *sweep.Plan) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := plan.WriteTo(w)
		return err
	}
}

// discard takes a file away that was not saved. What is left of it does no harm.
func (f *planFile) discard() {
	if f == nil || f.file == nil {
		return
	}
	if errors.Join(f.file.Close(), os.Remove(f.file.Name())) != nil {
		return
	}
}
