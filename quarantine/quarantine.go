// Package quarantine keeps what a sweep takes away, and puts it back.
//
// A run's directory, .regsweep/quarantine/<run> below the layout's root, holds the plan
// that the run has carried out, plan.jsonl, and each object that was moved, under its
// own path below that directory. The plan comes first and goes last, so that there is
// nothing without an account of it. Links need not be there as objects: what they said
// is in the plan. Where a bucket keeps versions nothing is moved at all, and beside the plan
// lies versions.jsonl, which says which versions a removal has hidden.
//
// No registry looks into the directory, and no inventory either. Whoever changes a
// quarantine holds the lock of the storage; nothing here takes it.
package quarantine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"regsweep/internal/spool"
	"regsweep/storage"
	"regsweep/sweep"
)

// Dir is where the runs' directories lie, below the layout's root.
const Dir = storage.QuarantineDir

// timeLayout is how the name of a run begins.
const timeLayout = "20060102T150405Z"

// planName is the name of a run's plan in its directory.
const planName = "plan.jsonl"

// Store is what a quarantine needs of a storage.
type Store interface {
	storage.Scanner
	storage.Reader
	storage.Remover
	storage.Mover
	storage.Browser
	Concurrency() int
	Identity() storage.Identity
}

// Run is what a run has taken away and what is left of it in its quarantine.
type Run struct {
	// Name is the name of the run's directory.
	Name string
	// Taken is when the run was made; zero where its plan can't be read.
	Taken time.Time
	// Plan counts what the run was to take, by kind.
	Plan map[sweep.Kind]sweep.Tally
	// Contents counts by kind what is in the quarantine now. It is less than Plan if the run
	// was interrupted, or if something was restored.
	Contents map[sweep.Kind]sweep.Tally
	// Objects counts the objects in the quarantine with their bytes, the plan not
	// among them: what a purge would remove.
	Objects sweep.Tally
	// HardLinkedBytes are those of Objects in files that have other hard links. A purge does not
	// free them.
	HardLinkedBytes int64
	// Hidden counts the versions that the run has hidden instead, or was about to, and
	// StillHidden those of them that have not come back: what a purge would remove.
	Hidden, StillHidden sweep.Tally
	// DataBytes are the bytes of Objects and StillHidden without links, as a sweep counts them.
	// FreeableBytes are those that a purge frees.
	DataBytes, FreeableBytes int64
	// LinksGuessed is set if Contents has all links of the plan, because the storage keeps no
	// copies of links and was not asked for each.
	LinksGuessed bool
	// Unrecorded counts what is hidden in the bucket and what the run's record of versions lacks. A
	// purge leaves these versions in the bucket.
	Unrecorded int
	// Damage says why the plan can't be read, that the record of versions is damaged, or that the
	// run changed while it was listed; "" if none of these. If the plan can't be read, its objects
	// can be restored by hand alone: they lie under their own paths in its directory.
	Damage string

	planless bool // there is no plan, damaged or not
}

// IsRemnant reports whether nothing is left of a run but empty directories, as a purge
// leaves that was interrupted at its very end.
func (r Run) IsRemnant() bool {
	return r.planless && r.Damage == errNoPlan.problem && r.Objects.Count == 0 && r.Hidden.Count == 0
}

// Show visits what is in the quarantine of a run, as its plan has it.
func Show(ctx context.Context, store Store, name string, visit func(sweep.Removal) error) (Run, error) {
	run, err := look(ctx, store, name, visit)
	if err != nil {
		return run, fmt.Errorf("list the quarantine %s: %w", name, err)
	}
	return run, nil
}

// Runs lists all quarantines, the oldest first.
func Runs(ctx context.Context, store Store) ([]Run, error) {
	names, err := store.Names(ctx, Dir)
	if err != nil {
		return nil, fmt.Errorf("list the quarantine: %w", err)
	}
	runs := make([]Run, 0, len(names)) // whose names begin with the time
	for _, name := range names {
		run, err := look(ctx, store, name, nil)
		for tries := 1; tries < 5 && errors.Is(err, storage.ErrGone); tries++ {
			run, err = look(ctx, store, name, nil)
		}
		if errors.Is(err, storage.ErrGone) {
			run, err = Run{Name: name, Damage: "it changes while it is listed: another run restores or purges it, or the storage fails"}, nil
		}
		if none := (*NoRunError)(nil); errors.As(err, &none) {
			continue // purged meanwhile; or a server, as SeaweedFS does, still names what it has no keys of
		}
		if err != nil {
			return nil, fmt.Errorf("list the quarantine %s: %w", name, err)
		}
		runs = append(runs, run)
	}
	return runs, nil
}

// below visits what lies in a run's directory, without its plan and its record.
func below(ctx context.Context, store Store, run string, visit func(storage.Object) error) error {
	return store.Below(ctx, dirOf(run), func(page []storage.Object) error {
		for _, object := range page {
			if object.Path == planOf(run) || object.Path == hiddenOf(run) {
				continue
			}
			if err := visit(object); err != nil {
				return err
			}
		}
		return nil
	})
}

// Made is when the run was made, by its plan or by its name; zero if neither says so.
func (r Run) Made() time.Time {
	if !r.Taken.IsZero() {
		return r.Taken
	}
	at, _, _ := strings.Cut(r.Name, "-")
	made, err := time.Parse(timeLayout, at)
	if err != nil {
		return time.Time{}
	}
	return made
}

// isLink reports whether a path below the layout's root is that of a link.
func isLink(path string) bool {
	return strings.HasPrefix(path, storage.RepositoriesDir+"/") && strings.HasSuffix(path, "/link") && uploadOf(path) == ""
}

func dirOf(run string) string { return Dir + "/" + run }

func planOf(run string) string { return dirOf(run) + "/" + planName }

// Latest names the newest run for Find.
const Latest = "latest"

// Find returns the name of the run that is meant: by its whole name, by the beginning of it if
// no other run's name begins alike, or by Latest. The error is a *NoRunError or an
// *AmbiguousError.
func Find(ctx context.Context, store Store, meant string) (string, error) {
	names, err := store.Names(ctx, Dir)
	if err != nil {
		return "", fmt.Errorf("list the quarantine: %w", err)
	}
	if meant == Latest {
		for _, name := range slices.Backward(names) {
			if !isRunName(name) {
				continue
			}
			_, err := store.Stat(ctx, planOf(name))
			if err == nil || errors.Is(err, storage.ErrNotRegular) {
				return name, nil
			}
			if errors.Is(err, fs.ErrNotExist) {
				_, err = survey(ctx, store, name)
			}
			if err != nil {
				return "", fmt.Errorf("list the quarantine %s: %w", name, err)
			}
		}
		return "", &NoRunError{meant}
	}
	var found []string
	for _, name := range names {
		if name == meant {
			return name, nil
		}
		if meant != "" && strings.HasPrefix(name, meant) {
			found = append(found, name)
		}
	}
	switch len(found) {
	case 0:
		return "", &NoRunError{meant}
	case 1:
		return found[0], nil
	}
	return "", &AmbiguousError{meant, found}
}

// isRunName reports whether Begin makes such names. Others may be in the quarantine too.
func isRunName(name string) bool {
	at, distinct, _ := strings.Cut(name, "-")
	_, err := time.Parse(timeLayout, at)
	return err == nil && len(distinct) == 8
}

// AmbiguousError is returned for the beginning of several runs' names.
type AmbiguousError struct {
	Meant string
	Runs  []string
}

func (e *AmbiguousError) Error() string {
	return fmt.Sprintf("%d runs begin with %s, from %s to %s", len(e.Runs), e.Meant, e.Runs[0], e.Runs[len(e.Runs)-1])
}

// NoRunError is returned for a run that there is not.
type NoRunError struct{ Run string }

func (e *NoRunError) Error() string {
	if e.Run == Latest {
		return "there is no run in the quarantine"
	}
	return "there is no run " + e.Run + " in the quarantine"
}

// damagedError is a run whose plan can't be made out.
type damagedError struct{ problem string }

func (e *damagedError) Error() string { return e.problem }

var (
	errNoPlan      = &damagedError{"its plan is missing"}
	errNoFile      = &damagedError{"its plan is a symbolic link, or no file"}
	errNoDirectory = &damagedError{"it is a symbolic link, which is not followed, or no directory"}
)

// record is a run's plan, copied to where it can be read several times.
type record struct {
	plan *sweep.File
	file *os.File
}

// open reads a run's plan. The error is a *NoRunError where there is nothing of the run,
// and a *damagedError where its plan is missing or damaged.
func open(ctx context.Context, store Store, run string) (*record, error) {
	if run == "" || run != path.Base(run) || run == "." || run == ".." {
		return nil, &NoRunError{run}
	}
	read := func() (*os.File, error) {
		return spool.Write(func(w io.Writer) error { return store.Stream(ctx, planOf(run), w) })
	}
	file, err := read()
	if errors.Is(err, fs.ErrNotExist) {
		var holds bool
		switch holds, err = survey(ctx, store, run); {
		case errors.Is(err, errListed): // a run that begins now may have written it meanwhile
			var again error
			if file, again = read(); !errors.Is(again, fs.ErrNotExist) {
				err = again
			}
		case err != nil:
		case holds:
			err = errNoPlan
		default:
			err = &NoRunError{run}
		}
	}
	if errors.Is(err, storage.ErrNotRegular) {
		err = notRegular(ctx, store, run)
	}
	if err != nil {
		return nil, err
	}
	r := &record{file: file}
	r.plan, err = sweep.OpenFile(file)
	var broken *sweep.FileError
	if errors.As(err, &broken) {
		err = &damagedError{"its plan is damaged: " + broken.Error()}
	}
	if err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

var errListed = errors.New("it is listed, and the storage says that it does not exist: try again")

// survey lists a run whose plan was not found. It reports whether anything is there, and fails if the
// plan is.
func survey(ctx context.Context, store Store, run string) (holds bool, err error) {
	err = store.Below(ctx, dirOf(run), func(page []storage.Object) error {
		for _, object := range page {
			if object.Path == planOf(run) {
				return fmt.Errorf("%s: %w", object.Path, errListed)
			}
			holds = holds || object.Path != hiddenOf(run)
		}
		return nil
	})
	return holds, err
}

// notRegular is the damage of a run whose plan is no regular file.
func notRegular(ctx context.Context, store Store, run string) error {
	err := error(errNoFile)
	listErr := store.Below(ctx, dirOf(run), func(page []storage.Object) error {
		if page[0].Path == dirOf(run) && !page[0].Dir {
			err = errNoDirectory
		}
		return nil
	})
	return cmp.Or(listErr, err)
}

// isDirectory reports whether a run that is listed is a directory. A bucket has nothing else.
func isDirectory(ctx context.Context, store Store, run string) (bool, error) {
	if _, isS3 := store.(versioned); isS3 {
		return true, nil
	}
	_, err := store.Names(ctx, dirOf(run))
	if errors.Is(err, storage.ErrNotRegular) {
		return false, nil
	}
	return err == nil, err
}

func (r *record) close() error { return r.file.Close() }
