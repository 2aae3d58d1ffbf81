package storagetest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"regsweep/storage"
	"regsweep/storage/layout"
)

// Faulty is a way to reach a storage in which each call below the store can fail: a system call, a
// request, a call of a driver.
type Faulty struct {
	// Faults are the names of the ways in which a call fails.
	Faults []string
	// LocksAnyway are faults that do not prevent a lock, which then has no object: see
	// filesystem.Store.Create.
	LocksAnyway []string
	// Open gives an empty storage, a store of it, and a way past the store to put an object there.
	// The store calls strike before each call; it returns the fault that the call has, or "".
	Open func(t *testing.T, strike func() string) (store storage.Store, plant func(path, content string))
}

// striker makes one of the calls that follow fail.
type striker struct {
	mu      sync.Mutex
	counted int
	at      int // the call that fails, counted from 1; 0 is none
	fault   string
}

func (s *striker) strike() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.counted++; s.at > 0 && s.counted == s.at {
		return s.fault
	}
	return ""
}

// arm makes the n-th call from now on fail, or none if n is 0, and returns how many calls there
// were since it was called last.
func (s *striker) arm(n int, fault string) (calls int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	calls, s.counted, s.at, s.fault = s.counted, 0, n, fault
	return calls
}

// operation is something that a store is asked for. judge says what is wrong after it, or "": got
// is what run returned, want what it returned undisturbed, and at what an undisturbed store has
// now, by path.
type operation struct {
	run   func(ctx context.Context, store storage.Store) (string, error)
	judge func(got, want string, err error, at map[string]string) string
}

// TestFaults fails each call of each operation once, in one way after the other. A store may try
// again and succeed, or return an error. It may not return less than there is, take a failure for
// an empty listing, or lose an object. That a single object does not exist it may believe: whoever
// relies on that asks again (inventory.IsThere). A listing may miss a hash state of an upload: a
// filesystem can't confirm that its directory is empty, since no name in it is known. A hash state
// keeps nothing alive, and is removed with its upload.
func TestFaults(t *testing.T, f Faulty) {
	objects := known()
	for name, op := range operations() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want, calls := "", 0
			// try makes the n-th call fail, or none if n is 0. It reports whether there was such a call.
			try := func(n int, fault string) bool {
				s := &striker{}
				store, plant := f.Open(t, s.strike)
				PlantAll(plant, objects)
				s.arm(n, fault)
				got, err := op.run(t.Context(), store)
				counted := s.arm(0, "")
				switch {
				case n == 0 && err != nil:
					t.Fatalf("undisturbed: %v", err)
				case n == 0:
					want, calls = got, counted
				case counted < n:
					return false
				case name == "lock" && slices.Contains(f.LocksAnyway, fault):
					return true
				}
				if wrong := op.judge(got, want, err, contents(t, store)); wrong != "" {
					t.Errorf("%s at call %d of %d: %s (%v)", fault, n, calls, wrong, err)
				}
				return true
			}
			try(0, "")
			step := 1
			if testing.Short() {
				step = 5
			}
			tried := 0
			for n := 1; n <= calls; n += step {
				for range faultsOfCall {
					fault := f.Faults[tried%len(f.Faults)]
					tried++
					// Calls that are made at the same time vary in number: a page may be read before or
					// after another one.
					isMet := false
					for round := 0; round < 3 && !isMet; round++ {
						isMet = try(n, fault)
					}
					if !isMet {
						t.Errorf("%s at call %d of %d was never met", fault, n, calls)
					}
				}
			}
		})
	}
}

// faultsOfCall is how many faults each call has. The next call that is tried has the next faults.
const faultsOfCall = 2

// known are objects that are part of the layout. Others may be missed in a listing: nobody removes
// them.
func known() map[string]string {
	objects := Fixture()
	maps.DeleteFunc(objects, func(path, _ string) bool { return layout.Parse(path).Kind == layout.Stray })
	return objects
}

// contents is what a store has, its own directory too.
func contents(t *testing.T, store storage.Store) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, dir := range []string{storage.BlobsDir, storage.RepositoriesDir, storage.OwnDir} {
		err := store.Below(t.Context(), dir, func(page []storage.Object) error {
			for _, object := range page {
				if object.Dir {
					continue
				}
				content, err := store.Read(t.Context(), object.Path, 1<<20)
				if err != nil {
					return err
				}
				all[object.Path] = string(content)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func operations() map[string]operation {
	blob, link := "", ""
	for _, path := range slices.Sorted(maps.Keys(known())) {
		switch {
		case blob == "" && strings.HasPrefix(path, storage.BlobsDir):
			blob = path
		case link == "" && strings.HasPrefix(path, storage.RepositoriesDir) && strings.HasSuffix(path, "/link"):
			link = path
		}
	}
	// What is read is the same, or there is an error.
	same := func(got, want string, err error, _ map[string]string) string {
		if err == nil && got != want {
			return fmt.Sprintf("%q, and undisturbed %q", got, want)
		}
		return ""
	}
	scan := func(dir string) operation {
		return operation{func(ctx context.Context, store storage.Store) (string, error) {
			var mu sync.Mutex
			var paths []string
			err := store.Scan(ctx, dir, func(page []storage.Object) error {
				mu.Lock()
				defer mu.Unlock()
				for _, object := range page {
					paths = append(paths, object.Path)
					if object.Err != nil { // an upload that can't be read is kept
						paths = append(paths, object.Path+"/")
					}
				}
				return nil
			})
			slices.Sort(paths)
			return strings.Join(paths, " "), err
		}, func(got, want string, err error, _ map[string]string) string {
			found := strings.Fields(got)
			for _, path := range strings.Fields(want) {
				isFound := func(f string) bool { return f == path || strings.HasSuffix(f, "/") && strings.HasPrefix(path, f) }
				if err == nil && !slices.ContainsFunc(found, isFound) && !strings.Contains(path, "/hashstates/") {
					return path + " is missing"
				}
			}
			return ""
		}}
	}
	to := Moved(blob)
	return map[string]operation{
		"scan blobs":        scan(storage.BlobsDir),
		"scan repositories": scan(storage.RepositoriesDir),
		"read": {func(ctx context.Context, store storage.Store) (string, error) {
			content, err := store.Read(ctx, blob, 1<<20)
			return string(content), err
		}, same},
		"stat": {func(ctx context.Context, store storage.Store) (string, error) {
			object, err := store.Stat(ctx, blob)
			return fmt.Sprint(object.Size), err
		}, same},
		"names": {func(ctx context.Context, store storage.Store) (string, error) {
			names, err := store.Names(ctx, storage.RepositoriesDir)
			return strings.Join(names, " "), err
		}, same},
		"stream": {func(ctx context.Context, store storage.Store) (string, error) {
			var content strings.Builder
			err := store.Stream(ctx, blob, &content)
			return content.String(), err
		}, same},
		"remove": {func(ctx context.Context, store storage.Store) (string, error) {
			outcomes := store.Remove(ctx, []storage.Ref{{Path: link}, {Path: blob}})
			return "", errors.Join(outcomes[0].Err, outcomes[1].Err)
		}, func(_, _ string, err error, at map[string]string) string {
			for _, path := range []string{link, blob} {
				if content, isThere := at[path]; isThere && (err == nil || content != known()[path]) {
					return fmt.Sprintf("%s has %q", path, content)
				}
			}
			return ""
		}},
		"move": {func(ctx context.Context, store storage.Store) (string, error) {
			return "", store.Move(ctx, []storage.Move{{From: blob, To: to}})[0].Err
		}, func(_, _ string, err error, at map[string]string) string {
			switch from, isThere := at[blob]; {
			case err == nil && (isThere || at[to] != known()[blob]):
				return fmt.Sprintf("moved, and there is %q at the old path and %q at the new one", from, at[to])
			case from != known()[blob] && at[to] != known()[blob]:
				return "it is at neither path"
			}
			return ""
		}},
		"put": {func(ctx context.Context, store storage.Store) (string, error) {
			return "", store.Put(ctx, to, strings.NewReader("content"))
		}, written(to)},
		"overwrite": {func(ctx context.Context, store storage.Store) (string, error) {
			return "", store.Overwrite(ctx, link, []byte("content"))
		}, func(_, _ string, err error, at map[string]string) string {
			if got := at[link]; got != "content" && (err == nil || got != known()[link]) {
				return fmt.Sprintf("it has %q", got)
			}
			return ""
		}},
		"lock": {func(ctx context.Context, store storage.Store) (string, error) {
			_, err := store.Create(ctx, storage.OwnDir+"/lock", []byte("content"))
			return "", err
		}, written(storage.OwnDir + "/lock")},
	}
}

// written judges a new object: it is there, whole, or there is an error. After an error it may be
// empty.
func written(path string) func(got, want string, err error, at map[string]string) string {
	return func(_, _ string, err error, at map[string]string) string {
		content := at[path]
		switch {
		case content != "content" && (err == nil || content != ""):
			return fmt.Sprintf("it has %q", content)
		case errors.Is(err, fs.ErrExist):
			return "it is said to be of somebody else"
		}
		return ""
	}
}
