package cli

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"regsweep/storage"
)

// standardOutput has the file names that mean standard output.
var standardOutput = []string{"-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"}

// outputFile is a file that a flag names, such as that of --plan or --html. It is saved completely or not
// at all: a temporary file in the same directory is written and synced, and then renamed. The methods of a
// nil *outputFile do nothing: the user asked for no file.
type outputFile struct {
	flag   string
	path   string
	noun   string      // of its kind, in an error message
	file   *os.File    // the temporary file; nil once saved, and for standard output
	out    io.Writer   // standard output, if the content goes there
	before os.FileInfo // of the file that will be replaced; nil if there is none
}

// newOutputFile makes the temporary file before there is any content. So a directory that does not exist
// is an error before the listing, which may take an hour. A file at path may be replaced if it is empty or
// if its first line shows that it is of the same kind. The new file gets its mode and its owner.
func newOutputFile(flag, path string, kind fileKind) (*outputFile, error) {
	f := &outputFile{flag: flag, path: path, noun: kind.noun}
	info, err := os.Stat(path)
	switch {
	case path == "":
		return nil, storage.Usagef("%s: the name of the file is empty", flag)
	case err == nil && info.IsDir():
		return nil, storage.Usagef("%s: %s is a directory", flag, path)
	case err == nil && !info.Mode().IsRegular():
		return nil, storage.Usagef("%s: %s is no regular file", flag, path)
	case err == nil:
		f.before = info
		// The target of a symbolic link is replaced, and not the link.
		if f.path, err = filepath.EvalSymlinks(path); err != nil {
			return nil, storage.Usagef("%s: %w", flag, err)
		}
		if err := f.checkReplaceable(kind); err != nil {
			return nil, err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, storage.Usagef("%s: %w", flag, err)
	default:
		if _, err := os.Lstat(path); err == nil {
			return nil, storage.Usagef("%s: %s is a symbolic link to a file that does not exist", flag, path)
		}
	}
	if f.file, err = os.OpenFile(f.path+"."+rand.Text()[:10]+".tmp", os.O_RDWR|os.O_CREATE|os.O_EXCL, kind.mode); err != nil {
		return nil, storage.Usagef("%s: %s can't be written: %w", flag, path, errors.Unwrap(err))
	}
	if f.before == nil {
		return f, nil
	}
	if err := f.copyOwnerAndMode(); err != nil {
		f.discard()
		return nil, storage.Usagef("%s: %s belongs to another user, and can't be replaced by a file of the same owner (%w): choose another name", flag, path, err)
	}
	return f, nil
}

// checkReplaceable returns an error if the file is of another kind, or may not be written.
func (f *outputFile) checkReplaceable(kind fileKind) error {
	file, err := os.OpenFile(f.path, os.O_RDWR, 0) // a rename would replace a read-only file too
	if err != nil {
		return storage.Usagef("%s: %s can't be written: %w", f.flag, f.path, errors.Unwrap(err))
	}
	line, readErr := bufio.NewReader(io.LimitReader(file, 1<<20)).ReadBytes('\n')
	if err := file.Close(); err != nil {
		return fmt.Errorf("%s: %w", f.flag, err)
	}
	switch {
	case readErr != nil && !errors.Is(readErr, io.EOF):
		return storage.Usagef("%s: %w", f.flag, readErr)
	case len(line) > 0 && !kind.isFirstLine(line):
		return storage.Usagef("%s: %s is not %s, so it is not replaced: choose another name", f.flag, f.path, kind.name)
	}
	return nil
}

// fileKind is a kind of file that an outputFile can save.
type fileKind struct {
	noun        string      // such as "plan"
	name        string      // in an error message
	mode        os.FileMode // of a new file
	isFirstLine func(line []byte) bool
}

// copyOwnerAndMode gives the new file the owner and the mode of the file that it replaces.
func (f *outputFile) copyOwnerAndMode() error {
	made, err := f.file.Stat()
	if err != nil {
		return err
	}
	uid, gid, known := ownerOf(f.before)
	if ownUID, ownGID, _ := ownerOf(made); known && (uid != ownUID || gid != ownGID) {
		if err := f.file.Chown(uid, gid); err != nil {
			return errors.Unwrap(err)
		}
	}
	return f.file.Chmod(f.before.Mode().Perm())
}

// ownerOf returns the owner of a file. known is false on a system without owners.
func ownerOf(info fs.FileInfo) (uid, gid int, known bool) {
	stat, known := info.Sys().(*syscall.Stat_t)
	if !known {
		return 0, 0, false
	}
	return int(stat.Uid), int(stat.Gid), true
}

// output makes an outputFile for path. If path names standard output, output makes the report go to
// standard error.
func (g *gcRun) output(flag, path string, kind fileKind) (*outputFile, error) {
	f, err := g.openOutput(flag, path, kind, g.options.json)
	if err != nil || !f.isOutput() {
		return f, err
	}
	toErr := *g.runner
	toErr.env.Out, toErr.env.OutTerminal = g.env.Err, g.env.ErrTerminal
	g.runner = &toErr
	return f, nil
}

// openOutput makes an outputFile for path. If path names standard output, the outputFile writes there. It must
// not if --json was given.
func (r *runner) openOutput(flag, path string, kind fileKind, json bool) (*outputFile, error) {
	out, isFile := r.env.Out.(*os.File)
	if !slices.Contains(standardOutput, path) {
		if info, err := os.Stat(path); err == nil && isFile && info.Mode().IsRegular() {
			if other, err := out.Stat(); err == nil && os.SameFile(info, other) {
				return nil, storage.Usagef("%s: %s is where standard output goes: write %s -", flag, path, flag)
			}
		}
		return newOutputFile(flag, path, kind)
	}
	if json {
		return nil, storage.Usagef("%s %s and --%s would both write to standard output: give %s a file", flag, path, jsonName, flag)
	}
	return &outputFile{flag: flag, path: path, noun: kind.noun, out: r.env.Out}, nil
}

// isOutput reports whether the file is standard output.
func (f *outputFile) isOutput() bool { return f != nil && f.out != nil }

// isSame reports whether two files would be saved under the same path.
func (f *outputFile) isSame(other *outputFile) bool {
	if f == nil || other == nil || f.out != nil || other.out != nil || filepath.Base(f.path) != filepath.Base(other.path) {
		return false
	}
	dir, err := os.Stat(filepath.Dir(f.path))
	otherDir, otherErr := os.Stat(filepath.Dir(other.path))
	return err == nil && otherErr == nil && os.SameFile(dir, otherDir)
}

// save calls write to fill the file, syncs it, and renames it to its path.
func (f *outputFile) save(write func(io.Writer) error) error {
	if f == nil {
		return nil
	}
	if f.out != nil {
		return f.wrap(f.saveToOutput(write))
	}
	err := write(f.file)
	if err == nil {
		err = f.file.Sync()
	}
	if err == nil {
		err = f.checkUnchanged()
	}
	if err == nil {
		err = renameDurably(f.file.Name(), f.path)
	}
	if err != nil {
		return f.wrap(err)
	}
	err = f.file.Close()
	f.file = nil
	return f.wrap(err)
}

// wrap returns an *unsavedError for an error.
func (f *outputFile) wrap(err error) error {
	if err != nil {
		err = &unsavedError{f.noun, fmt.Errorf("%s: save the %s as %s: %w", f.flag, f.noun, f.path, err)}
	}
	return err
}

// unsavedError is the error of a file that could not be saved. The same run without the file may
// succeed.
type unsavedError struct {
	noun string
	error
}

func (e *unsavedError) Unwrap() error { return e.error }

func (f *outputFile) saveToOutput(write func(io.Writer) error) error {
	if err := write(f.out); err != nil {
		return err
	}
	file, is := f.out.(*os.File)
	if !is {
		return nil
	}
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return err // a pipe has nothing to sync
	}
	return file.Sync()
}

// checkUnchanged returns an error if somebody has made, changed or replaced the file at path since
// newOutputFile.
func (f *outputFile) checkUnchanged() error {
	now, err := os.Stat(f.path)
	switch {
	case f.before == nil && errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case f.before == nil:
		return errors.New("somebody has made that file meanwhile")
	case !os.SameFile(f.before, now) || f.before.Size() != now.Size() || !f.before.ModTime().Equal(now.ModTime()):
		return errors.New("somebody has changed that file meanwhile")
	}
	return nil
}

// renameDurably renames a file and syncs the directory. So after a loss of power a plan is still there to
// restore the links that the run has removed.
func renameDurably(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(to))
	if err != nil {
		return err
	}
	err = dir.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		err = nil // a filesystem that cannot sync a directory
	}
	return errors.Join(err, dir.Close())
}

// discard removes the temporary file if it was not saved. It ignores errors: a file that remains does no
// harm.
func (f *outputFile) discard() {
	if f == nil || f.file == nil {
		return
	}
	_ = errors.Join(f.file.Close(), os.Remove(f.file.Name()))
}
