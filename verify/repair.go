package verify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"time"

	"regsweep/inventory"
	"regsweep/storage"
	"regsweep/storage/layout"
	"regsweep/sweep"

	"github.com/opencontainers/go-digest"
)

// Repairs are the repairs of a run: planned or, with an outcome, tried. An Error is "" if the repair was done.
type Repairs struct {
	Links    []LinkRepair `json:"links"`
	Blobs    []BlobRepair `json:"blobs"`    // moved to a quarantine
	Refilled []BlobRepair `json:"refilled"` // fetched from another place
	Tags     []TagRepair  `json:"tags"`     // removed
}

// LinkRepair is a link that is written.
type LinkRepair struct {
	Path   string        `json:"path"`
	Digest digest.Digest `json:"digest"`
	Error  string        `json:"error,omitempty"`

	replaces bool // the damaged link is there
}

// BlobRepair is a blob that is moved away or fetched.
type BlobRepair struct {
	Digest digest.Digest `json:"digest"`
	Bytes  int64         `json:"bytes"`
	Error  string        `json:"error,omitempty"`
}

// TagRepair is a tag that is removed.
type TagRepair struct {
	Repository string `json:"repository"`
	Tag        string `json:"tag"`
	Error      string `json:"error,omitempty"`
}

// Links returns the links that are missing or damaged, layer links first. WriteLinks writes those of them whose blob
// is intact.
func (r *Result) Links() []LinkRepair {
	links := []LinkRepair{}
	for _, kinds := range [][2]Kind{{MissingLayerLink, DamagedLayerLink}, {MissingRevisionLink, DamagedRevisionLink}} {
		for _, f := range r.Findings {
			// A damaged link that no manifest needs is left for gc, which removes it.
			isNeeded := f.isManifest || len(f.needers) > 0
			if slices.Contains(kinds[:], f.Kind) && isNeeded {
				links = append(links, LinkRepair{Path: f.Path, Digest: f.Digest, replaces: f.Kind == kinds[1]})
			}
		}
	}
	return links
}

// WriteLinks writes the links whose blob is stored and intact: it reads each blob. It never writes over an intact
// link. Each outcome is in the returned links. ctx must be a lease. The error is one of the storage that is not about
// one object, or the cause of ctx.
func WriteLinks(ctx context.Context, store storage.Store, links []LinkRepair) ([]LinkRepair, error) {
	links = slices.Clone(links)
	faults := map[digest.Digest]Fault{}
	for i := range links {
		l := &links[i]
		l.Error = ErrNotTried.Error()
		if ctx.Err() != nil {
			return links, context.Cause(ctx)
		}
		fault, known := faults[l.Digest]
		if !known {
			found, err := readBlob(ctx, store, layout.BlobPath(l.Digest), []digest.Digest{l.Digest}, nil)
			if err != nil {
				return links, err
			}
			fault = found[0]
			faults[l.Digest] = fault
		}
		if fault != (Fault{}) {
			l.Error = "its blob is not intact: " + fault.Detail
			continue
		}
		if err := writeLink(ctx, store, l); err != nil {
			l.Error = err.Error()
			if _, err := faultOf(err); err != nil {
				return links, err
			}
			continue
		}
		l.Error = ""
	}
	return links, nil
}

func writeLink(ctx context.Context, store storage.Store, l *LinkRepair) error {
	if l.replaces {
		fault, err := readLink(ctx, store, l.Path, l.Digest)
		if err != nil || fault == (linkFault{}) {
			return err
		}
		ctx = context.WithoutCancel(ctx) // an interruption must not end it between the two
		if err := OrPrune(ctx, store, l.Path, store.Remove(ctx, []storage.Ref{{Path: l.Path}})[0].Err); err != nil {
			return err
		}
	}
	err := store.Put(ctx, l.Path, bytes.NewReader([]byte(l.Digest)))
	if errors.Is(err, fs.ErrExist) { // somebody has pushed
		return nil
	}
	return err
}

// OrPrune returns err, the error of taking an object away. If a directory is in the place of a file, and there are only
// directories in it, it removes that instead.
func OrPrune(ctx context.Context, store storage.Store, path string, err error) error {
	if !errors.Is(err, storage.ErrNotRegular) {
		return err
	}
	if gone, pruneErr := store.Prune(ctx, path); gone || pruneErr != nil {
		return pruneErr
	}
	return err
}

// Wrong returns the blobs of the findings whose content is damaged, each once.
func (r *Result) Wrong(inv *inventory.Inventory) []BlobRepair {
	blobs := []BlobRepair{}
	for _, f := range r.Findings {
		isKnown := slices.ContainsFunc(blobs, func(b BlobRepair) bool { return b.Digest == f.blob })
		if (f.Kind == DamagedBlob || f.Kind == DamagedManifest) && !isKnown {
			bytes, _ := inv.Size(inv.ID(f.blob))
			blobs = append(blobs, BlobRepair{Digest: f.blob, Bytes: max(bytes, 0)})
		}
	}
	return blobs
}

// MoveWrong moves blobs away by take, except those that it finds to be intact when it reads them. Each outcome is in
// the returned blobs: only those that were moved, or could not be. ctx must be a lease.
func MoveWrong(ctx context.Context, store storage.Store, blobs []BlobRepair, take func(context.Context, digest.Digest) error) (moved []BlobRepair, err error) {
	for _, b := range blobs {
		if ctx.Err() != nil {
			return moved, context.Cause(ctx)
		}
		found, err := readBlob(ctx, store, layout.BlobPath(b.Digest), []digest.Digest{b.Digest}, nil)
		if err != nil {
			return moved, err
		}
		if found[0] == (Fault{}) || found[0].State == Missing {
			continue
		}
		if err := take(ctx, b.Digest); err != nil {
			if _, serious := faultOf(err); serious != nil {
				return moved, err
			}
			b.Error = err.Error()
		}
		moved = append(moved, b)
	}
	return moved, nil
}

// Hopeless returns the tags of which no image can be pulled, whatever the platform, and that WriteLinks can't cure. A tag
// is not among them if only entries of an index were never pushed here: what was pushed can be pulled. Nor is one with a
// bad name, or in a repository with one: it may have been renamed by hand.
func (r *Result) Hopeless() []TagRepair {
	isHopeless, isMisnamed := map[TagRepair]bool{}, map[TagRepair]bool{}
	for _, f := range r.Findings {
		for _, tag := range f.Tags {
			of := TagRepair{Repository: f.Repository, Tag: tag}
			switch f.Kind {
			case SparseIndex:
			case BadTagName, BadRepositoryName:
				isMisnamed[of] = true
			default:
				isHopeless[of] = true
			}
		}
	}
	tags := []TagRepair{}
	for _, b := range r.Broken {
		if of := (TagRepair{Repository: b.Repository, Tag: b.Tag}); !b.Partial && !b.curable && isHopeless[of] && !isMisnamed[of] {
			tags = append(tags, of)
		}
	}
	return tags
}

// Untagging returns the plan of the removal of tags. A current link that names no digest is not in it: there is
// nothing to restore.
func Untagging(inv *inventory.Inventory, tags []TagRepair, now time.Time) *sweep.Given {
	plan := &sweep.Given{Storage: inv.Identity, Time: now}
	for _, t := range tags {
		r := inv.Repository(t.Repository)
		var tag inventory.Tag
		if at, found := r.FindTag(t.Tag); found { // otherwise it has no files
			tag = r.Tags[at]
		}
		var index []digest.Digest
		for _, l := range tag.Index {
			index = append(index, inv.Digest(l.ID()))
		}
		target := digest.Digest("")
		if tag.HasTarget {
			target = inv.Digest(tag.Target)
		}
		plan.Removals = append(plan.Removals, sweep.Untag(t.Repository, t.Tag, index, target, "the tag can't be pulled")...)
	}
	return plan
}

// RemoveTags removes tags from a storage: what the plan of Untagging lists by take, then the current link of each tag, and
// last its directories, since a registry lists a tag that has a directory. Each outcome is in the returned tags. ctx must
// be a lease.
func RemoveTags(ctx context.Context, store storage.Store, plan *sweep.Given, tags []TagRepair, take func(context.Context, []storage.Ref) []storage.Outcome) ([]TagRepair, error) {
	tags = slices.Clone(tags)
	for i := range tags {
		t := &tags[i]
		t.Error = ErrNotTried.Error()
		if ctx.Err() != nil {
			return tags, context.Cause(ctx)
		}
		var refs []storage.Ref
		for _, r := range plan.Removals {
			if r.Repository == t.Repository && r.Tag == t.Tag {
				refs = append(refs, storage.Ref{Path: r.Path})
			}
		}
		err := error(nil)
		for _, ref := range refs { // the current link is last
			if err = take(ctx, []storage.Ref{ref})[0].Err; err != nil {
				break
			}
		}
		current := layout.TagPath(t.Repository, t.Tag)
		if err == nil && (len(refs) == 0 || refs[len(refs)-1].Path != current) {
			err = store.Remove(ctx, []storage.Ref{{Path: current}})[0].Err
		}
		if err == nil || errors.Is(err, storage.ErrNotRegular) { // a directory is in its place
			_, pruneErr := store.Prune(ctx, path.Dir(path.Dir(current)))
			err = pruneErr
		}
		if err != nil {
			t.Error = err.Error()
			if _, err := faultOf(err); err != nil {
				return tags, fmt.Errorf("remove the tag %s:%s: %w", t.Repository, t.Tag, err)
			}
			continue
		}
		t.Error = ""
	}
	return tags, nil
}

// Damaged returns the digests of all blobs in the findings that were found to be damaged.
func (r *Result) Damaged() (digests []digest.Digest) {
	for _, f := range r.Findings {
		if f.Kind == DamagedBlob || f.Kind == DamagedManifest {
			digests = append(digests, f.blob)
		}
	}
	return digests
}

// MarkRepaired adds to the result the findings of an earlier one that it does not have, as repaired.
func (r *Result) MarkRepaired(earlier *Result) {
	type key struct {
		kind             Kind
		repository, path string
	}
	still := map[key]bool{}
	for _, f := range r.Findings {
		still[key{f.Kind, f.Repository, f.Path}] = true
	}
	for _, f := range earlier.Findings {
		if !still[key{f.Kind, f.Repository, f.Path}] {
			f.Repaired = true
			r.Findings = append(r.Findings, f)
		}
	}
}
