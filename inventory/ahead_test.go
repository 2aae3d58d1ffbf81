package inventory

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"regsweep/storage"
	"regsweep/storage/layout"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

// slowKeys is a fake storage. Its listing of repositories reports all keys, and then ends only when
// end returns.
type slowKeys struct {
	keys
	end func(context.Context) error
}

func (s *slowKeys) Scan(ctx context.Context, dir string, visit func([]storage.Object) error) error {
	err := s.keys.Scan(ctx, dir, visit)
	if err != nil || dir != storage.RepositoriesDir {
		return err
	}
	return s.end(ctx)
}

// revisions has n blobs. Each of them is a revision in both of two repositories.
func revisions(n int) *slowKeys {
	s := &slowKeys{}
	for i := range n {
		content := fmt.Sprint("manifest ", i)
		d := digest.FromString(content)
		s.put(layout.BlobPath(d), content, "")
		for _, repository := range []string{"app", "lib"} {
			s.put(layout.RevisionPath(repository, d), string(d), "")
		}
	}
	return s
}

// Every stored blob of a revision is visited once during the listing. At most half of
// Options.Concurrency visits run at once.
func TestRevisionsAreVisitedWhileNamesAreListed(t *testing.T) {
	s := revisions(40)
	layer, gone, long := digest.FromString("layer"), digest.FromString("gone"), digest.SHA512.FromString("long")
	s.put(layout.BlobPath(layer), "layer", "")
	s.put(layout.LayerPath("app", layer), string(layer), "")
	s.put(layout.RevisionPath("app", gone), string(gone), "")
	s.put(layout.RevisionPath("app", long), string(long), "")

	var mu sync.Mutex
	visits, underWay, most := map[digest.Digest]int{}, 0, 0
	var enough, done sync.Once
	three, listed, all := make(chan struct{}), make(chan struct{}), make(chan struct{})
	s.end = func(ctx context.Context) error {
		<-three
		time.Sleep(10 * time.Millisecond) // long enough for a fourth visit, if it were allowed
		close(listed)
		select {
		case <-all:
		case <-ctx.Done():
		}
		return ctx.Err()
	}
	_, err := Take(t.Context(), s, Options{
		Concurrency: 6,
		OnRevision: func(_ context.Context, inv *Inventory, id ID) error {
			mu.Lock()
			underWay++
			most = max(most, underWay)
			visits[inv.Digest(id)]++
			if underWay == 3 {
				enough.Do(func() { close(three) })
			}
			mu.Unlock()
			<-listed
			mu.Lock()
			defer mu.Unlock()
			underWay--
			if len(visits) == 40 && underWay == 0 {
				done.Do(func() { close(all) })
			}
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(visits) != 40 || most != 3 {
		t.Errorf("%d are visited, %d at once; want 40, and 3", len(visits), most)
	}
	for d, n := range visits {
		if n != 1 || d == layer || d == gone || d == long {
			t.Errorf("%s is visited %d times", d, n)
		}
	}
}

// An error of the listing ends the visits, and an error of a visit ends the listing. No goroutine
// is left.
func TestVisitsAndListingEndTogether(t *testing.T) {
	failure := errors.New("the disk is on fire")
	for name, test := range map[string]struct {
		visit, end func(context.Context) error
	}{
		"a visit fails": {
			visit: func(context.Context) error { return failure },
			end:   func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
		},
		"the listing fails": {
			visit: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
			end:   func(context.Context) error { return failure },
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := revisions(5)
			s.end = test.end
			var mu sync.Mutex
			underWay := 0
			count := func(by int) {
				mu.Lock()
				defer mu.Unlock()
				underWay += by
			}
			inv, err := Take(t.Context(), s, Options{
				OnRevision: func(ctx context.Context, _ *Inventory, _ ID) error {
					count(1)
					defer count(-1)
					return test.visit(ctx)
				},
			})
			if !errors.Is(err, failure) || inv != nil {
				t.Errorf("%v, %v; want the failure", inv, err)
			}
			if count(0); underWay != 0 {
				t.Errorf("%d visits are under way", underWay)
			}
		})
	}
}

// Once the listing has ended no visit begins.
func TestNoVisitBeginsAfterTheListing(t *testing.T) {
	var visited []ID
	begun, ended := make(chan struct{}), make(chan struct{})
	var group errgroup.Group
	a := &ahead{group: &group, workers: 1, left: 3, claimed: make([]uint64, 1), visit: func(id ID) error {
		visited = append(visited, id)
		close(begun)
		<-ended
		return nil
	}}
	a.add(3)
	<-begun
	a.add(1)
	a.add(2)
	a.add(1)
	a.add(0) // this is above the limit
	if !slices.Equal(a.queue, []ID{1, 2}) {
		t.Errorf("%v wait, want 1 and 2", a.queue)
	}
	a.end()
	close(ended)
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	if len(visited) != 1 || visited[0] != 3 {
		t.Errorf("%v were visited, want 3 alone", visited)
	}
}
