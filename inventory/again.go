package inventory

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"regsweep/storage"
	"regsweep/storage/layout"
)

// ErrIncomplete is the error for a listing that lacks an object that exists.
var ErrIncomplete = errors.New("the listing of the storage is not whole: what it lacks could keep images alive")

// errChanged is the error for a link whose content has changed since it was listed.
var errChanged = errors.New("a link has changed since it was listed: somebody writes to this storage")

// ListAgain lists the repositories once more. It fails if it finds a link that the
// inventory lacks, or a tag with another target. A single listing can't show that it lacks
// a key, but two listings rarely lack the same key. ListAgain is for a storage that nobody
// writes to. On any other storage new links are normal.
//
// Blobs are not listed again: a blob that the inventory lacks is never removed.
func ListAgain(ctx context.Context, store storage.Store, inv *Inventory) error {
	var mu sync.Mutex
	var missing, changed []string
	var unread []unreadLink
	err := store.Scan(ctx, storage.RepositoriesDir, func(page []storage.Object) error {
		var r *Repository
		for batch := range slices.Chunk(page, pageBatch) {
			var entries [pageBatch]located
			for i := range batch {
				entries[i] = located{Entry: layout.Parse(batch[i].Path)}
			}
			inv.identify(entries[:len(batch)])
			for i, e := range entries[:len(batch)] {
				if r == nil || r.Name != e.Repository {
					r = inv.Repository(e.Repository)
				}
				result := inv.compare(r, e, batch[i])
				if result == isKnown {
					continue
				}
				path := strings.Clone(batch[i].Path)
				mu.Lock()
				switch result {
				case isMissing:
					missing = append(missing, path)
				case isChanged:
					changed = append(changed, path)
				case isUnread:
					unread = append(unread, unreadLink{r, path, batch[i].Named})
				}
				mu.Unlock()
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = storage.Each(ctx, len(unread), store.Concurrency(), func(ctx context.Context, i int) error {
		link := unread[i]
		content, err := store.Read(ctx, link.path, layout.LinkLimit)
		// For a link that was only named, a listing of its directory has no link either. If the
		// path is damaged, the first read did not find the link, and the repository is kept.
		if errors.Is(err, fs.ErrNotExist) && (link.named || link.repository.isDamagedAt(link.path)) {
			return nil
		}
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("list again %s: %w", link.path, storage.ErrGone)
		}
		if err != nil && !storage.IsDamage(err) {
			return err
		}
		entries := []located{{Entry: layout.Parse(link.path)}}
		inv.identify(entries)
		if !inv.knows(link.repository, entries[0], content) {
			mu.Lock()
			changed = append(changed, link.path)
			mu.Unlock()
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case len(missing) > 0:
		return fmt.Errorf("%w: %s", ErrIncomplete, firstOf(missing))
	case len(changed) > 0:
		return fmt.Errorf("%w: %s", errChanged, firstOf(changed))
	}
	return nil
}

// unreadLink is a link that has to be read before it can be compared.
type unreadLink struct {
	repository *Repository // nil if the inventory lacks it
	path       string
	named      bool // see Object
}

// isDamagedAt reports whether damage at a path keeps the repository.
func (r *Repository) isDamagedAt(path string) bool {
	return r != nil && slices.ContainsFunc(r.Problems, func(p Problem) bool { return p.Path == path && p.Effect == KeepsRepository })
}

// comparison is the result of comparing a link that was listed again with the inventory.
type comparison int

const (
	isKnown   comparison = iota // the inventory has it, or the object is no link
	isMissing                   // the inventory lacks it
	isChanged                   // the inventory has another content
	isUnread                    // the link has to be read
)

// firstOf returns the first of several paths and the number of the others.
func firstOf(paths []string) string {
	first := slices.Min(paths)
	if len(paths) > 1 {
		return fmt.Sprintf("%s and %d more", first, len(paths)-1)
	}
	return first
}

// compare compares an object with the inventory's repository r.
func (inv *Inventory) compare(r *Repository, e located, object storage.Object) comparison {
	isLink := e.Kind != layout.Blob && e.Kind != layout.Upload && e.Kind != layout.Repository
	if e.Kind == layout.Stray {
		isLink = isStrayLink(e, object.Path)
	}
	if !isLink || object.Dir || object.Multipart != "" {
		return isKnown
	}
	if e.Kind == layout.Revision && object.Named && (r == nil || !r.hasEmptied(object.Path)) {
		return isUnread // its directory is empty, or the link has an unusual content
	}
	if r == nil {
		return isMissing
	}
	if object.Named && r.hasEmptied(object.Path) {
		return isKnown
	}
	switch e.Kind {
	case layout.Layer:
		return missingUnless(r.HasLayer(e.id))
	case layout.Revision:
		if !r.HasRevision(e.id) {
			return isMissing
		}
		if object.Content != nil && !e.Digest.IsSaidBy(object.Content) && !inv.knows(r, e, object.Content) {
			return isChanged
		}
	case layout.Signature:
		return missingUnless(slices.Contains(r.Signatures[inv.id(e.Revision)], e.id))
	case layout.Referrer:
		return missingUnless(slices.Contains(r.Referrers[e.id], ReferrerLink{inv.id(e.Revision), e.Artifact}))
	case layout.TagIndex:
		t := r.tag(e.Tag)
		return missingUnless(t != nil && has(t.Index, e.id))
	case layout.Tag:
		t := r.tag(e.Tag)
		switch {
		case t == nil || r.lacksCurrent(e.Tag):
			return isMissing
		case object.Content == nil && t.HasTarget && provesContent(object, inv.name(t.Target)):
		case object.Content == nil:
			return isUnread
		case !inv.knows(r, e, object.Content):
			return isChanged
		}
	case layout.Stray:
		_, found := slices.BinarySearchFunc(r.Problems, object.Path, func(p Problem, path string) int { return strings.Compare(p.Path, path) })
		switch {
		case found:
		case strings.HasPrefix(object.Path, layout.RepositoryPath(r.Name)+"/"+layout.ManifestsDir+"/"):
			return isMissing
		default: // a stray link without a digest has no problem in the inventory
			return isUnread
		}
	}
	return isKnown
}

func missingUnless(found bool) comparison {
	if found {
		return isKnown
	}
	return isMissing
}

// knows reports whether the inventory has the content of a link.
func (inv *Inventory) knows(r *Repository, e located, content []byte) bool {
	target, _, _ := layout.LinkTarget(content)
	if r == nil {
		return target == ""
	}
	id, found := inv.Find(target)
	switch e.Kind {
	case layout.Tag:
		t := r.tag(e.Tag)
		return t != nil && t.HasTarget == (target != "") && (!t.HasTarget || found && id == t.Target)
	case layout.Revision:
		if target == "" {
			return r.Kept()
		}
		return found && (id == e.id && r.HasRevision(id) || slices.Contains(r.Doubted, id))
	}
	return target == "" || found && slices.Contains(r.Pinned, id)
}

func (inv *Inventory) name(id ID) layout.Name {
	n, _ := layout.ParseDigest(string(inv.Digest(id)))
	return n
}

// hasEmptied reports whether the directory of a link was listed without the link.
func (r *Repository) hasEmptied(link string) bool {
	_, found := slices.BinarySearch(r.Emptied, strings.TrimSuffix(link, "/"+layout.LinkFile))
	return found
}

// tag returns the tag with this name, or nil.
func (r *Repository) tag(name string) *Tag {
	at, found := r.FindTag(name)
	if !found {
		return nil
	}
	return &r.Tags[at]
}

// lacksCurrent reports whether no current link of a tag was listed.
func (r *Repository) lacksCurrent(tag string) bool {
	return slices.ContainsFunc(r.Problems, func(p Problem) bool {
		return p.Kind == TagWithoutCurrent && p.Path == layout.TagPath(r.Name, tag)
	})
}

// Lacks returns the path of a manifest that is in the survey and not in a later inventory, or "".
func (s Survey) Lacks(inv *Inventory) string {
	for _, seen := range s.Tagged {
		r := inv.Repository(seen.Repository)
		id, found := inv.Find(seen.Digest)
		if r == nil || !found || !r.HasRevision(id) && !slices.ContainsFunc(r.Tags, func(t Tag) bool { return t.HasTarget && t.Target == id }) {
			return layout.RevisionPath(seen.Repository, seen.Digest)
		}
	}
	return ""
}
