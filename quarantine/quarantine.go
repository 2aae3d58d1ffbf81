// Package quarantine keeps the garbage that a sweep moves away, and restores it.
//
// A run's directory is .regsweep/quarantine/<run> below the layout's root. It has the run's plan,
// plan.jsonl, and each moved object under its own path below that directory. The plan is written
// first and removed last, so every object in the directory is explained by a plan. Links need not
// have copies: the plan has their content. If a bucket keeps versions, nothing is moved. Then the
// directory has the plan and versions.jsonl, the record of the versions that the run has hidden.
//
// Neither registries nor the inventory read the directory. A caller that changes a quarantine must
// hold the lock of the storage. This package does not take it.
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

// Dir has the runs' directories. It is below the layout's root.
const Dir = storage.QuarantineDir

// timeLayout is the format of the time at the beginning of a run's name.
const timeLayout = "20060102T150405Z"

// planName is the name of a run's plan in its directory.
const planName = "plan.jsonl"

// Store is the part of storage.Store that a quarantine needs.
type Store interface {
	storage.Scanner
	storage.Reader
	storage.Remover
	storage.Mover
	storage.Browser
	Concurrency() int
	Identity() storage.Identity
}

// Run describes a run's quarantine.
type Run struct {
	// Name is the name of the run's directory.
	Name string
	// Taken is the time of the run. It is zero if the plan can't be read.
	Taken time.Time
	// Plan counts the removals of the plan, by kind.
	Plan map[sweep.Kind]sweep.Tally
	// Contents counts the removals that can be undone now, by kind. They are fewer than in Plan if
	// the run was interrupted or was partly restored.
	Contents map[sweep.Kind]sweep.Tally
	// Objects counts the objects in the quarantine without the plan and the record of versions. A
	// purge removes them.
	Objects sweep.Tally
	// HardLinkedBytes is the part of the bytes of Objects that is in files with other hard links.
	// A purge does not free them.
	HardLinkedBytes int64
	// Hidden counts the versions in the run's record. StillHidden counts the ones that were not
	// restored. A purge removes these.
	Hidden, StillHidden sweep.Tally
	// DataBytes are the bytes of Objects and StillHidden without links, as a sweep counts them.
	// FreeableBytes are the bytes that a purge frees.
	DataBytes, FreeableBytes int64
	// LinksGuessed is set if Contents counts all links of the plan without a check: the storage
	// keeps no copies of links, and checking each link would need a request.
	LinksGuessed bool
	// Unrecorded counts the hidden objects of the plan that are missing in the record of versions.
	// A purge leaves their versions in the bucket.
	Unrecorded int
	// Damage is the problem of the run, "" if there is none: the plan or the record of versions
	// can't be read, or the run changed while it was listed. If the plan can't be read, the objects
	// can only be restored by hand: they are under their own paths in the run's directory.
	Damage string

	planless bool // the plan does not exist
}

// IsRemnant reports whether a run has only empty directories. A purge that was interrupted at its end
// leaves such a run.
func (r Run) IsRemnant() bool {
	return r.planless && r.Damage == errNoPlan.problem && r.Objects.Count == 0 && r.Hidden.Count == 0
}

// Show describes a run and visits each removal of its plan that can be undone now. The error is a
// *NoRunError if there is no such run.
func Show(ctx context.Context, store Store, name string, visit func(sweep.Removal) error) (Run, error) {
	run, err := inspect(ctx, store, name, visit)
	if err != nil {
		return run, fmt.Errorf("list the quarantine %s: %w", name, err)
	}
	return run, nil
}

// Runs describes all runs in the quarantine, the oldest first.
func Runs(ctx context.Context, store Store) ([]Run, error) {
	names, err := store.Names(ctx, Dir)
	if err != nil {
		return nil, fmt.Errorf("list the quarantine: %w", err)
	}
	runs := make([]Run, 0, len(names)) // names begin with the time, and are sorted
	for _, name := range names {
		run, err := inspect(ctx, store, name, nil)
		for tries := 1; tries < 5 && errors.Is(err, storage.ErrGone); tries++ {
			run, err = inspect(ctx, store, name, nil)
		}
		if errors.Is(err, storage.ErrGone) {
			run, err = Run{Name: name, Damage: "it changes while it is listed: another run restores or purges it, or the storage fails"}, nil
		}
		if none := (*NoRunError)(nil); errors.As(err, &none) {
			continue // purged meanwhile, or the server (SeaweedFS) lists a prefix without keys
		}
		if err != nil {
			return nil, fmt.Errorf("list the quarantine %s: %w", name, err)
		}
		runs = append(runs, run)
	}
	return runs, nil
}

// below visits the objects in a run's directory, without its plan and its record.
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

// Made returns the time of the run, from its plan or from its name. It is zero if neither has it.
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

// isLink reports whether a path below the layout's root is the path of a link.
func isLink(path string) bool {
	return strings.HasPrefix(path, storage.RepositoriesDir+"/") && strings.HasSuffix(path, "/link") && uploadOf(path) == ""
}

func dirOf(run string) string { return Dir + "/" + run }

func planOf(run string) string { return dirOf(run) + "/" + planName }

// Latest names the newest run for Find.
const Latest = "latest"

// Find returns the full name of a run. meant is the full name, a prefix that only one run has, or
// Latest. The error is a *NoRunError or an *AmbiguousError.
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

// isRunName reports whether a name has the form of Begin. The directory may have other names too.
func isRunName(name string) bool {
	at, distinct, _ := strings.Cut(name, "-")
	_, err := time.Parse(timeLayout, at)
	return err == nil && len(distinct) == 8
}

// AmbiguousError is returned if several runs' names begin with Meant.
type AmbiguousError struct {
	Meant string
	Runs  []string
}

func (e *AmbiguousError) Error() string {
	return fmt.Sprintf("%d runs begin with %s, from %s to %s", len(e.Runs), e.Meant, e.Runs[0], e.Runs[len(e.Runs)-1])
}

// NoRunError is returned if the run does not exist.
type NoRunError struct{ Run string }

func (e *NoRunError) Error() string {
	if e.Run == Latest {
		return "there is no run in the quarantine"
	}
	return "there is no run " + e.Run + " in the quarantine"
}

// damagedError means that the plan of a run, or its record of versions, can't be read.
type damagedError struct{ problem string }

func (e *damagedError) Error() string { return e.problem }

var (
	errNoPlan      = &damagedError{"its plan is missing"}
	errNoFile      = &damagedError{"its plan is a symbolic link, or no file"}
	errNoDirectory = &damagedError{"it is a symbolic link, which is not followed, or no directory"}
)

// record is a run's plan, copied to a temporary file. It is read several times.
type record struct {
	plan *sweep.File
	file *os.File
}

// open reads a run's plan. The error is a *NoRunError if the run has no objects, and a *damagedError
// if its plan is missing or damaged.
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
		case errors.Is(err, errListed): // a run that just begins may have written it meanwhile
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

// survey lists a run whose plan was not found. It reports whether the run has objects. It returns
// errListed (wrapped) if the plan is listed.
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

// notRegular returns the *damagedError of a run whose plan is not a regular file.
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

// isDirectory reports whether a listed run is a directory, and not a symbolic link. In a bucket all
// listed names count as directories.
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
