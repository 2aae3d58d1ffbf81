package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// ErrIncomplete is matched by the error for a listing that lacks what is there.
var ErrIncomplete = errors.New("the listing of the storage is not whole: what it lacks could keep images alive")

// ListAgain lists the repositories once more, and fails where there is a link that the
// inventory lacks. A listing that misses a key says nothing of it; two of them seldom
// miss the same one. It is for a storage that nobody writes to: elsewhere new links are
// no fault.
//
// Blobs are not listed again. One that is missing from an inventory is no candidate.
func ListAgain(ctx context.Context, store Scanner, inv *Inventory) error {
	var mu sync.Mutex
	var missing []string
	err := store.Scan(ctx, RepositoriesDir, func(page []Object) error {
		var r *Repository
		for batch := range slices.Chunk(page, pageBatch) {
			var entries [pageBatch]entry
			for i := range batch {
				entries[i] = parsePath(batch[i].Path)
			}
			inv.identify(entries[:len(batch)])
			for i, e := range entries[:len(batch)] {
				if r == nil || r.Name != e.repository {
					r = inv.Repository(e.repository)
				}
				if inv.lacks(r, e, batch[i]) {
					mu.Lock()
					missing = append(missing, strings.Clone(batch[i].Path))
					mu.Unlock()
				}
			}
		}
		return nil
	})
	if err != nil || len(missing) == 0 {
		return err
	}
	return fmt.Errorf("%w: %s", ErrIncomplete, firstOf(missing))
}

// firstOf names the first of several paths, and says how many they are.
func firstOf(paths []string) string {
	first := slices.Min(paths)
	if len(paths) > 1 {
		return fmt.Sprintf("%s and %d more", first, len(paths)-1)
	}
	return first
}

// Repository is the repository of a name, or nil.
func (inv *Inventory) Repository(name string) *Repository {
	at, found := slices.BinarySearchFunc(inv.Repositories, name, func(r *Repository, name string) int { return strings.Compare(r.Name, name) })
	if !found {
		return nil
	}
	return inv.Repositories[at]
}

// lacks reports whether an object is a link that should be in the inventory's repository
// r, and is not.
func (inv *Inventory) lacks(r *Repository, e entry, object Object) bool {
	switch e.kind {
	case kindLayer, kindSignature, kindReferrer, kindTag, kindTagIndex:
	case kindRevision:
		if object.Named { // a directory that a deletion has left
			return false
		}
	default:
		return false
	}
	if object.Dir || object.Multipart != "" {
		return false
	}
	if r == nil {
		return true
	}
	if _, isEmpty := slices.BinarySearch(r.Emptied, strings.TrimSuffix(object.Path, "/"+linkFile)); object.Named && isEmpty {
		return false
	}
	switch e.kind {
	case kindLayer:
		return !r.HasLayer(e.id)
	case kindRevision:
		return !r.HasRevision(e.id)
	case kindSignature:
		return !slices.Contains(r.Signatures[inv.id(e.revision)], e.id)
	case kindReferrer:
		return !slices.Contains(r.Referrers[e.id], ReferrerLink{inv.id(e.revision), e.artifact})
	}
	at, found := slices.BinarySearchFunc(r.Tags, e.tag, func(t Tag, name string) int { return strings.Compare(t.Name, name) })
	switch {
	case !found:
		return true
	case e.kind == kindTag:
		return r.lacksCurrent(e.tag)
	}
	return !has(r.Tags[at].Index, e.id)
}

// lacksCurrent reports whether no current link of a tag was listed.
func (r *Repository) lacksCurrent(tag string) bool {
	return slices.ContainsFunc(r.Problems, func(p Problem) bool {
		return p.Kind == TagWithoutCurrent && p.Path == TagPath(r.Name, tag)
	})
}

// Lacks returns the path of something that the survey has seen and an inventory lacks that
// was taken after it, or "".
func (s Survey) Lacks(inv *Inventory) string {
	for _, seen := range s.Tagged {
		r := inv.Repository(seen.Repository)
		id, found := inv.Find(seen.Digest)
		if r == nil || !found || !r.HasRevision(id) && !slices.ContainsFunc(r.Tags, func(t Tag) bool { return t.HasTarget && t.Target == id }) {
			return RevisionPath(seen.Repository, seen.Digest)
		}
	}
	return ""
}
