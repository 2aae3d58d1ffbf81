package sweep_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"regsweep/storage"
	"regsweep/sweep"
)

// steps is a Remover that notes each single step of what it does: a file unlinked, a
// directory removed. A process can be killed between any two of them.
type steps struct {
	storage.Remover
	layout string
	taken  []string
}

func (s *steps) Remove(ctx context.Context, refs []storage.Ref) []storage.Outcome {
	var outcomes []storage.Outcome
	for _, ref := range refs {
		outcomes = append(outcomes, s.Remover.Remove(ctx, []storage.Ref{ref})...)
		s.gone(ref.Path)
	}
	return outcomes
}

func (s *steps) Prune(ctx context.Context, dir string) (bool, error) {
	var below []string
	err := filepath.WalkDir(filepath.Join(s.layout, dir), func(name string, _ fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		below = append(below, name)
		return err
	})
	if err != nil {
		return false, err
	}
	gone, err := s.Remover.Prune(ctx, dir)
	for _, name := range slices.Backward(below) {
		if relative, _ := filepath.Rel(s.layout, name); relative != dir {
			s.note(filepath.ToSlash(relative))
		}
	}
	if len(below) == 0 {
		dir = path.Dir(dir)
	}
	s.gone(dir)
	return gone, err
}

// gone notes a path and the directories above it, as far as they are not there any more.
func (s *steps) gone(name string) {
	for ; s.note(name); name = path.Dir(name) {
	}
}

func (s *steps) note(name string) (gone bool) {
	if _, err := os.Lstat(filepath.Join(s.layout, name)); !errors.Is(err, fs.ErrNotExist) {
		return false
	}
	if !slices.Contains(s.taken, name) {
		s.taken = append(s.taken, name)
	}
	return true
}

// A process that is killed between any two steps of a removal leaves every tag whole, and
// the next run ends with exactly the files and directories that one without the kill ends
// with (promise 3).
func TestKilledBetweenAnyTwoSteps(t *testing.T) {
	d := worn(1)
	d.layer("x/y/z", d.blob("unreferenced, in a nested repository"))
	d.write(layerFile("app", sha512Of("alias")), d.blob("alias"))
	d.tag("app", "gone", d.image("gone", "an image of which only the tag's index is left here"))
	delete(d.files, tagFile("app", "gone"))
	d.tag("app", "gone", d.image("app", "later"))
	d.tag("app", "stale", d.image("app", "of a tag that is removed"))
	d.tag("app", "stale", d.image("app", "of the same tag, later"))
	d.tag("x/y/z", "stale", d.image("x/y/z", "of a tag that is removed with its repository"))
	listed := rules{deleteUntagged: true, roots: []string{"app:latest"}, onlyRoots: true, uploadAge: time.Hour}
	listedAndPruned := listed
	listedAndPruned.pruneEmpty = true
	for name, r := range map[string]rules{
		"thorough": thorough, "plain": {uploadAge: time.Hour}, "listed": listed, "listed and pruned": listedAndPruned,
	} {
		root := d.put(t)
		store := &steps{Remover: openStore(t, root), layout: filepath.Join(root, storage.Root)}
		if _, err := planFor(t, root, r).Execute(t.Context(), store, sweep.ExecuteOptions{Bulk: storage.Bulk{Calls: 1}}); err != nil {
			t.Fatal(err)
		}
		want := readDisk(t, root)
		if len(store.taken) < 20 {
			t.Fatalf("%+v: only %d steps", r, len(store.taken))
		}
		for k := range len(store.taken) + 1 {
			t.Run(fmt.Sprintf("%s, after %d steps", name, k), func(t *testing.T) {
				t.Parallel()
				root := d.put(t)
				for _, name := range store.taken[:k] {
					if err := os.Remove(filepath.Join(root, storage.Root, name)); err != nil {
						t.Fatal(err)
					}
				}
				between := readDisk(t, root)
				for _, path := range whole(d, r) {
					if _, found := between.files[path]; !found {
						t.Errorf("a tag has lost %s", path)
					}
				}
				if _, err := planFor(t, root, r).Execute(t.Context(), openStore(t, root), sweep.ExecuteOptions{}); err != nil {
					t.Fatal(err)
				}
				after := readDisk(t, root)
				sameNames(t, "files", after.names(), want.names())
				sameNames(t, "empty directories", slices.Sorted(maps.Keys(after.dirs)), slices.Sorted(maps.Keys(want.dirs)))
			})
		}
	}
}
