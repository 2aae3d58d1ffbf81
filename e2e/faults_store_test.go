package e2e

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"regsweep/storage"
)

// storeFault is one thing that goes wrong between regsweep and a storage that is as it
// should be. Whoever plans one that is never met has a test that shows nothing, so that is
// a failure of the test.
type storeFault struct {
	// on is the method of storage.Store; "" is any that can return an error.
	on string
	// path is the end of the path that it goes wrong with, "" for any.
	path string
	// at is which of the matching calls it strikes, counted from 1; 0 is all of them. Of a
	// scan each object counts.
	at int

	err error // what the call returns
	// late is set where the call is carried out before it fails, so that its caller can't
	// know. half, if set, is what has happened when a move fails half way.
	late bool
	half func(storage.Store, storage.Move) error
	// spoil, if set, changes what the call would return: the content of an object, in
	// Read as in a scan.
	spoil func(content []byte) []byte
	// drop leaves objects out of a scan, or pages if wholePage is set; twice repeats them.
	drop, twice, wholePage bool
	// scan is which scan of a directory it strikes in, 0 for all: a run's inventory is the
	// second one of both directories, and the third one of the repositories checks it.
	scan int
	// mayMiss is for those who can't know whether it is met.
	mayMiss bool
	// dies is set where nothing more arrives at the storage once it has struck.
	dies bool

	mu    sync.Mutex
	calls int
	met   int
	scans map[string]int
	dead  bool
	seen  []string // what was called, for those who want to strike each in turn
}

// faultyStore is a storage behind a fault.
type faultyStore struct {
	storage.Store
	f *storeFault
}

// before plans a fault for the storages that are opened below a root directory.
func (f *storeFault) before(t testing.TB, root string) {
	t.Helper()
	f.scans = map[string]int{}
	wrapped.Store(root, func(store storage.Store) storage.Store { return faultyStore{store, f} })
	t.Cleanup(func() {
		wrapped.Delete(root)
		if f.met == 0 && f.at >= 0 && !f.mayMiss {
			t.Errorf("the fault on %s %q was never met", f.on, f.path)
		}
	})
}

var errDead = fmt.Errorf("the process was killed: %w", syscall.EIO)

// strikes tells whether a call goes wrong.
func (f *storeFault) strikes(on, path string) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead {
		return true, errDead
	}
	if f.on != "" && f.on != on || !strings.HasSuffix(path, f.path) {
		return false, nil
	}
	f.calls++
	f.seen = append(f.seen, on+" "+path)
	if f.at != 0 && f.at != f.calls {
		return false, nil
	}
	f.met++
	f.dead = f.dies
	return true, f.err
}

func (s faultyStore) Read(ctx context.Context, path string, limit int64) ([]byte, error) {
	struck, err := s.f.strikes("Read", path)
	if err != nil {
		return nil, err
	}
	content, err := s.Store.Read(ctx, path, limit)
	if struck && err == nil && s.f.spoil != nil {
		content = s.f.spoil(slices.Clone(content))
	}
	return content, err
}

func (f *storeFault) timesMet() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.met
}

// call carries out a call, unless it goes wrong before.
func (s faultyStore) call(on, path string, do func() error) error {
	s.f.mu.Lock()
	isLate := s.f.late && !s.f.dead
	s.f.mu.Unlock()
	_, err := s.f.strikes(on, path)
	if err != nil && !isLate {
		return err
	}
	return cmp.Or(do(), err)
}

func (s faultyStore) Stat(ctx context.Context, path string) (object storage.Object, err error) {
	err = s.call("Stat", path, func() (err error) { object, err = s.Store.Stat(ctx, path); return err })
	return object, err
}

func (s faultyStore) Scan(ctx context.Context, dir string, visit func([]storage.Object) error) error {
	if s.f.isIn("Scan") {
		return s.faultyScan(ctx, dir, visit)
	}
	if _, err := s.f.strikes("Scan", dir); err != nil {
		return err
	}
	return s.Store.Scan(ctx, dir, visit)
}

// isIn reports whether the fault strikes within a scan, at single objects or pages.
func (f *storeFault) isIn(on string) bool { return f.on == on && (f.drop || f.twice || f.spoil != nil) }

func (s faultyStore) faultyScan(ctx context.Context, dir string, visit func([]storage.Object) error) error {
	s.f.mu.Lock()
	s.f.scans[dir]++
	isWhole := s.f.scan > 0 && s.f.scans[dir] != s.f.scan
	s.f.mu.Unlock()
	return s.Store.Scan(ctx, dir, func(page []storage.Object) error {
		if isWhole {
			return visit(page)
		}
		var out []storage.Object
		for _, object := range page {
			struck, err := s.f.strikes("Scan", object.Path)
			switch {
			case struck && err != nil:
				return err
			case struck && s.f.wholePage && s.f.drop:
				return nil
			case struck && s.f.drop:
				continue
			case struck && s.f.twice:
				out = append(out, object)
			case struck && object.Content != nil && s.f.spoil != nil:
				object.Content = s.f.spoil(slices.Clone(object.Content))
			}
			out = append(out, object)
		}
		return visit(out)
	})
}

func (s faultyStore) Remove(ctx context.Context, refs []storage.Ref) []storage.Outcome {
	outcomes := make([]storage.Outcome, len(refs))
	for i, ref := range refs {
		err := s.call("Remove", ref.Path, func() error {
			outcomes[i] = s.Store.Remove(ctx, []storage.Ref{ref})[0]
			return outcomes[i].Err
		})
		outcomes[i].Err = err
	}
	return outcomes
}

func (s faultyStore) Move(ctx context.Context, moves []storage.Move) []storage.Outcome {
	outcomes := make([]storage.Outcome, len(moves))
	for i, m := range moves {
		met := s.f.timesMet()
		outcomes[i].Err = s.call("Move", m.From, func() error {
			if s.f.half != nil && s.f.timesMet() > met {
				return s.f.half(s.Store, m)
			}
			outcomes[i] = s.Store.Move(ctx, []storage.Move{m})[0]
			return outcomes[i].Err
		})
	}
	return outcomes
}

func (s faultyStore) Prune(ctx context.Context, dir string) (gone bool, err error) {
	err = s.call("Prune", dir, func() (err error) { gone, err = s.Store.Prune(ctx, dir); return err })
	return gone, err
}

func (s faultyStore) Create(ctx context.Context, path string, content []byte) (version string, err error) {
	err = s.call("Create", path, func() (err error) { version, err = s.Store.Create(ctx, path, content); return err })
	return version, err
}

func (s faultyStore) Version(ctx context.Context, path string) (content []byte, version string, err error) {
	err = s.call("Version", path, func() (err error) { content, version, err = s.Store.Version(ctx, path); return err })
	return content, version, err
}

func (s faultyStore) Replace(ctx context.Context, path string, content []byte, version string) (newVersion string, err error) {
	err = s.call("Replace", path, func() (err error) { newVersion, err = s.Store.Replace(ctx, path, content, version); return err })
	return newVersion, err
}

func (s faultyStore) Delete(ctx context.Context, path, version string) error {
	return s.call("Delete", path, func() error { return s.Store.Delete(ctx, path, version) })
}

func (s faultyStore) Put(ctx context.Context, path string, content io.ReadSeeker) error {
	return s.call("Put", path, func() error { return s.Store.Put(ctx, path, content) })
}

func (s faultyStore) Overwrite(ctx context.Context, path string, content []byte) error {
	return s.call("Overwrite", path, func() error { return s.Store.Overwrite(ctx, path, content) })
}

func (s faultyStore) MakeDir(ctx context.Context, dir string) error {
	return s.call("MakeDir", dir, func() error { return s.Store.MakeDir(ctx, dir) })
}

func (s faultyStore) Sync(ctx context.Context) error {
	return s.call("Sync", "all", func() error { return s.Store.Sync(ctx) })
}

func (s faultyStore) Names(ctx context.Context, dir string) (names []string, err error) {
	err = s.call("Names", dir, func() (err error) { names, err = s.Store.Names(ctx, dir); return err })
	return names, err
}

func (s faultyStore) Below(ctx context.Context, dir string, visit func([]storage.Object) error) error {
	return s.call("Below", dir, func() error { return s.Store.Below(ctx, dir, visit) })
}

func (s faultyStore) Stream(ctx context.Context, path string, w io.Writer) error {
	return s.call("Stream", path, func() error { return s.Store.Stream(ctx, path, w) })
}

// The faults of a storage, as a backend hands them on.
var storeErrors = map[string]error{
	"not found":  &fs.PathError{Op: "read", Path: "on purpose", Err: fs.ErrNotExist},
	"permission": &fs.PathError{Op: "open", Path: "on purpose", Err: syscall.EACCES},
	"disk":       &fs.PathError{Op: "read", Path: "on purpose", Err: syscall.EIO},
	"503":        errUnavailable,
	"timeout":    fmt.Errorf("on purpose: %w", context.DeadlineExceeded),
}
