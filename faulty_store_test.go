package main

import (
	"context"
	"fmt"
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

func (s faultyStore) Stat(ctx context.Context, path string) (storage.Object, error) {
	if _, err := s.f.strikes("Stat", path); err != nil {
		return storage.Object{}, err
	}
	return s.Store.Stat(ctx, path)
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
		if _, err := s.f.strikes("Remove", ref.Path); err != nil {
			outcomes[i].Err = err
			continue
		}
		outcomes[i] = s.Store.Remove(ctx, []storage.Ref{ref})[0]
	}
	return outcomes
}

func (s faultyStore) Prune(ctx context.Context, dir string) (bool, error) {
	if _, err := s.f.strikes("Prune", dir); err != nil {
		return false, err
	}
	return s.Store.Prune(ctx, dir)
}

func (s faultyStore) Create(ctx context.Context, path string, content []byte) (string, error) {
	if _, err := s.f.strikes("Create", path); err != nil {
		return "", err
	}
	return s.Store.Create(ctx, path, content)
}

func (s faultyStore) Version(ctx context.Context, path string) ([]byte, string, error) {
	if _, err := s.f.strikes("Version", path); err != nil {
		return nil, "", err
	}
	return s.Store.Version(ctx, path)
}

func (s faultyStore) Replace(ctx context.Context, path string, content []byte, version string) (string, error) {
	if _, err := s.f.strikes("Replace", path); err != nil {
		return "", err
	}
	return s.Store.Replace(ctx, path, content, version)
}

// The faults of a storage, as a backend hands them on.
var storeErrors = map[string]error{
	"not found":  &fs.PathError{Op: "read", Path: "on purpose", Err: fs.ErrNotExist},
	"permission": &fs.PathError{Op: "open", Path: "on purpose", Err: syscall.EACCES},
	"disk":       &fs.PathError{Op: "read", Path: "on purpose", Err: syscall.EIO},
	"503":        errUnavailable,
	"timeout":    fmt.Errorf("on purpose: %w", context.DeadlineExceeded),
}
