package cli

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"regsweep/inventory"
	"regsweep/storage"
	"regsweep/sweep"
)

const planName = "plan"

// standardOutput has the file names that mean standard output.
var standardOutput = []string{"-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"}

// planFile is where a plan, or the list of what was left out of one, is saved, whole or not
// at all. It is written under another name beside the file, which it replaces once it is on
// the disk. A nil *planFile is one that nobody asked for.
type planFile struct {
	flag   string
	path   string
	noun   string      // of what it holds
	file   *os.File    // nil once saved or discarded, and for standard output
	out    io.Writer   // standard output, if the plan goes there
	before os.FileInfo // of the file that is replaced; nil if there is none
}

// newPlanFile begins the file before there is a plan: an hour of listing must not end with a
// directory that does not exist. It replaces only a file of ours, by its first line,
// or an empty one. The file keeps its mode and its owner.
func newPlanFile(flag, path string, ours content) (*planFile, error) {
	f := &planFile{flag: flag, path: path, noun: ours.noun}
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
		// What a link leads to is replaced, and not the link.
		if f.path, err = filepath.EvalSymlinks(path); err != nil {
			return nil, storage.Usagef("%s: %w", flag, err)
		}
		if err := f.mayReplace(ours); err != nil {
			return nil, err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, storage.Usagef("%s: %w", flag, err)
	default:
		if _, err := os.Lstat(path); err == nil {
			return nil, storage.Usagef("%s: %s is a symbolic link to a file that does not exist", flag, path)
		}
	}
	if f.file, err = os.CreateTemp(filepath.Dir(f.path), filepath.Base(f.path)+".*.tmp"); err != nil {
		return nil, storage.Usagef("%s: %s can't be written: %w", flag, path, errors.Unwrap(err))
	}
	if f.before == nil {
		return f, nil
	}
	if err := f.takeAfter(); err != nil {
		f.discard()
		return nil, storage.Usagef("%s: %s belongs to another user, and can't be replaced by a file of the same owner (%w): choose another name", flag, path, err)
	}
	return f, nil
}

// mayReplace refuses to replace a file that is somebody else's.
func (f *planFile) mayReplace(ours content) error {
	file, err := os.OpenFile(f.path, os.O_RDWR, 0) // a file that may not be written may not be replaced
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
	case len(line) > 0 && !ours.begins(line):
		return storage.Usagef("%s: %s is not %s, so it is not replaced: choose another name", f.flag, f.path, ours.whole)
	}
	return nil
}

// content is what a file of ours holds.
type content struct {
	noun   string
	whole  string                 // what its text calls it
	begins func(line []byte) bool // accepts its first line
}

var (
	aPlan = content{"plan", "a plan", func(line []byte) bool {
		var header struct {
			Plan int `json:"plan"`
		}
		return json.Unmarshal(line, &header) == nil && header.Plan > 0
	}}
	aLeftOutList = content{"list", "a list that --" + leftOutName + " wrote", func(line []byte) bool {
		var first struct {
			LeftOut string `json:"left_out"`
		}
		return json.Unmarshal(line, &first) == nil && first.LeftOut != ""
	}}
)

// takeAfter gives the new file the owner and the mode of the one that it replaces.
func (f *planFile) takeAfter() error {
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

// ownerOf is known where files have owners.
func ownerOf(info fs.FileInfo) (uid, gid int, known bool) {
	stat, known := info.Sys().(*syscall.Stat_t)
	if !known {
		return 0, 0, false
	}
	return int(stat.Uid), int(stat.Gid), true
}

// output is a plan file, or standard output if path names that. The report goes to standard
// error then.
func (g *gcRun) output(flag, path string, ours content) (*planFile, error) {
	out, isFile := g.env.Out.(*os.File)
	if !slices.Contains(standardOutput, path) {
		if info, err := os.Stat(path); err == nil && isFile && info.Mode().IsRegular() {
			if other, err := out.Stat(); err == nil && os.SameFile(info, other) {
				return nil, storage.Usagef("%s: %s is where standard output goes: write %s -", flag, path, flag)
			}
		}
		return newPlanFile(flag, path, ours)
	}
	if g.options.json {
		return nil, storage.Usagef("%s %s and --%s would both write to standard output: give %s a file", flag, path, jsonName, flag)
	}
	f := &planFile{flag: flag, path: path, noun: ours.noun, out: g.env.Out}
	toErr := *g.runner
	toErr.env.Out, toErr.env.OutTerminal = g.env.Err, g.env.ErrTerminal
	g.runner = &toErr
	return f, nil
}

// save writes the file and puts it in its place.
func (f *planFile) save(write func(io.Writer) error) error {
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
		err = f.unchanged()
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

func (f *planFile) wrap(err error) error {
	if err != nil {
		err = &unsavedError{f.noun, fmt.Errorf("%s: save the %s as %s: %w", f.flag, f.noun, f.path, err)}
	}
	return err
}

// unsavedError is a file that could not be saved. A run without one may succeed.
type unsavedError struct {
	noun string
	error
}

func (e *unsavedError) Unwrap() error { return e.error }

func (f *planFile) saveToOutput(write func(io.Writer) error) error {
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

// unchanged fails if the path names something else than when the file was begun.
func (f *planFile) unchanged() error {
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

// keepOlder gives another name to a plan that a restore could need: it names a link that is
// not in the inventory any more. It returns the new name, or "".
func (f *planFile) keepOlder(inventory *inventory.Inventory) (name string, err error) {
	if f == nil || f.before == nil || f.before.Size() == 0 {
		return "", nil
	}
	file, err := os.Open(f.path)
	if err != nil {
		return "", f.wrap(err)
	}
	needed, err := sweep.IsNeeded(file, inventory)
	if err = errors.Join(err, file.Close()); err == nil {
		err = f.unchanged()
	}
	if err != nil || !needed {
		return "", f.wrap(err)
	}
	stem := f.path + "." + f.before.ModTime().UTC().Format("20060102T150405Z")
	name = stem
	for n := 2; ; n++ {
		if _, err = os.Lstat(name); err != nil {
			break
		}
		name = fmt.Sprintf("%s-%d", stem, n)
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = renameDurably(f.path, name)
	}
	if err != nil {
		return "", f.wrap(err)
	}
	f.before = nil
	return name, nil
}

// renameDurably renames a file. The new name is on the disk when it returns: links that a run
// removes after that can be put back with the plan, also after a loss of power.
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
	_ = errors.Join(f.file.Close(), os.Remove(f.file.Name()))
}
