package verify

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
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

// Len returns the number of repairs without an Error.
func (r *Repairs) Len() (n int) {
	for _, l := range r.Links {
		n += ok(l.Error)
	}
	for _, b := range slices.Concat(r.Blobs, r.Refilled) {
		n += ok(b.Error)
	}
	for _, t := range r.Tags {
		n += ok(t.Error)
	}
	return n
}

// ok returns 1 if there is no problem.
func ok(problem string) int {
	if problem == "" {
		return 1
	}
	return 0
}

// LinkRepair is a link that is written.
type LinkRepair struct {
	Path   string        `json:"path"`
	Digest digest.Digest `json:"digest"`
	Error  string        `json:"error,omitempty"`

	rank     int  // in linkKinds
	replaces bool // the damaged link is there
}

// linkKinds are the findings about links that are missing and damaged, with the targets of others first.
var linkKinds = [][2]Kind{{MissingLayerLink, DamagedLayerLink}, {MissingRevisionLink, DamagedRevisionLink}, {"", DamagedTagLink}}

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

// Links returns the links to stored blobs that are missing or damaged, with the targets of others first. WriteLinks writes
// those of them whose blob is intact. A link of a tag is among them if only white space around its digest damages it.
func (r *Result) Links(inv *inventory.Inventory) []LinkRepair {
	links, lost := []LinkRepair{}, map[digest.Digest]bool{}
	for _, f := range r.Findings {
		lost[f.blob] = lost[f.blob] || f.Kind == MissingBlob || f.Kind == MissingManifest
	}
	for rank, kinds := range linkKinds {
		for _, f := range r.Findings {
			if slices.Contains(kinds[:], f.Kind) && f.isOfLink() && !f.isSwapped && inv.Listed(inv.ID(f.blob)) && !lost[f.blob] {
				links = append(links, LinkRepair{Path: f.Path, Digest: f.blob, rank: rank, replaces: f.Kind == kinds[1]})
			}
		}
	}
	return links
}

// CheckLinks reads the blobs of links. A link gets an Error if its blob is not intact. intact has the blobs that were found
// to be intact before. They are not read again, and those that are found now are added. The error is one of the storage that
// is not about one object.
func CheckLinks(ctx context.Context, store storage.Store, links []LinkRepair, intact map[digest.Digest]bool) error {
	var unread []digest.Digest
	at := map[digest.Digest]int{} // in unread
	for _, l := range links {
		if _, known := at[l.Digest]; !known && !intact[l.Digest] {
			at[l.Digest] = len(unread)
			unread = append(unread, l.Digest)
		}
	}
	faults := make([][]Fault, len(unread))
	err := storage.Each(ctx, len(unread), store.Concurrency(), func(ctx context.Context, i int) (err error) {
		faults[i], err = readBlob(ctx, store, layout.BlobPath(unread[i]), unread[i:i+1], nil)
		return err
	})
	if err != nil {
		return err
	}
	for d, i := range at {
		intact[d] = faults[i][0] == (Fault{})
	}
	for i, l := range links {
		if !intact[l.Digest] {
			links[i].Error = "its blob is not intact: " + faults[at[l.Digest]][0].Detail
		}
	}
	return nil
}

// WriteLinks calls CheckLinks, and writes the links whose blob is intact. It never writes over an intact link. Each outcome
// is in the returned links. ctx must be a lease. The error is one of the storage that is not about one object, or the cause
// of ctx. After an error, the links that were not tried have an Error too.
func WriteLinks(ctx context.Context, store storage.Store, links []LinkRepair, intact map[digest.Digest]bool) ([]LinkRepair, error) {
	links = slices.Clone(links)
	err := CheckLinks(ctx, store, links, intact)
	todo := make([][]*LinkRepair, len(linkKinds))
	for i := range links {
		if l := &links[i]; l.Error == "" {
			l.Error = ErrNotTried.Error()
			todo[l.rank] = append(todo[l.rank], l)
		}
	}
	for _, some := range todo {
		if err == nil {
			err = storage.Each(ctx, len(some), store.Concurrency(), func(ctx context.Context, i int) error {
				failed := writeLink(ctx, store, some[i])
				some[i].Error = ""
				if failed != nil {
					some[i].Error = failed.Error()
				}
				return serious(failed)
			})
		}
	}
	if err == nil && ctx.Err() == nil {
		err = store.Sync(ctx)
	}
	return links, cmp.Or(err, context.Cause(ctx))
}

// writeLink writes a link in one step: a damaged link to a manifest keeps its repository from being collected, and a missing
// one would not.
func writeLink(ctx context.Context, store storage.Store, l *LinkRepair) error {
	content := []byte(l.Digest)
	if l.replaces {
		fault, err := readLink(ctx, store, l.Path, l.Digest)
		if err != nil || fault == (linkFault{}) {
			return err
		}
		err = store.Overwrite(ctx, l.Path, content)
		if !errors.Is(err, storage.ErrNotRegular) {
			return err
		}
		if err := OrPrune(ctx, store, l.Path, err); err != nil { // a directory can't be replaced in one step
			return err
		}
		ctx = context.WithoutCancel(ctx)
	}
	err := store.Put(ctx, l.Path, bytes.NewReader(content))
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
	blobs, known := []BlobRepair{}, map[digest.Digest]bool{}
	for _, f := range r.Findings {
		if (f.Kind == DamagedBlob || f.Kind == DamagedManifest) && !f.isMalformed && !known[f.blob] {
			known[f.blob] = true
			bytes, _ := inv.Size(inv.ID(f.blob))
			blobs = append(blobs, BlobRepair{Digest: f.blob, Bytes: max(bytes, 0)})
		}
	}
	return blobs
}

// errUnknown is the outcome for a blob that this process can't read, and others perhaps can.
var errUnknown = errors.New("it is not moved, since it may be intact")

// CheckWrong reads blobs, and returns those that are not intact and exist. A blob gets an Error if a registry may be able
// to read it: a permission is missing, it is archived, or it is a symbolic link. The error is one of the storage that is
// not about one object.
func CheckWrong(ctx context.Context, store storage.Store, blobs []BlobRepair) (wrong []BlobRepair, err error) {
	for _, b := range blobs {
		verifier := b.Digest.Verifier()
		fault, mayBeIntact, err := look(ctx, store, layout.BlobPath(b.Digest), verifier)
		switch {
		case err != nil:
			return wrong, err
		case fault.State == Missing, fault == Fault{} && verifier.Verified():
			continue
		case mayBeIntact:
			b.Error = fmt.Errorf("%w: %s", errUnknown, fault.Detail).Error()
		}
		wrong = append(wrong, b)
	}
	return wrong, nil
}

// look reads an object. mayBeIntact is set if the fault says nothing about what a registry can read. The error is one of
// the storage that is not about one object.
func look(ctx context.Context, store storage.Store, name string, w io.Writer) (fault Fault, mayBeIntact bool, err error) {
	readErr := store.Stream(ctx, name, w)
	if fault, err = faultIn(store, readErr); err != nil || fault == (Fault{}) {
		return fault, false, err
	}
	dirs, isFilesystem := store.(storage.DirTimes)
	if errors.Is(readErr, storage.ErrNotRegular) && isFilesystem { // a registry follows symbolic links
		names, err := dirs.Dirs(ctx, path.Dir(name))
		return fault, !slices.Contains(names, path.Base(name)), storage.IgnoreDamage(err)
	}
	isUnread := errors.Is(readErr, fs.ErrPermission) || errors.Is(readErr, storage.ErrUnreadable)
	return fault, isUnread && !storage.IsOfDisk(readErr), nil
}

// serious returns an error of a change of one object, or nil if it is about that object alone.
func serious(err error) error {
	if errors.Is(err, storage.ErrNotRegular) || errors.Is(err, fs.ErrPermission) {
		return nil
	}
	return err
}

// MoveWrong moves blobs away by take, each after CheckWrong. Each outcome is in the returned blobs: only those that were
// moved, or could not be. ctx must be a lease.
func MoveWrong(ctx context.Context, store storage.Store, blobs []BlobRepair, take func(context.Context, digest.Digest) error) (moved []BlobRepair, err error) {
	for i := range blobs {
		if ctx.Err() != nil {
			return moved, context.Cause(ctx)
		}
		wrong, err := CheckWrong(ctx, store, blobs[i:i+1])
		if err != nil {
			return moved, err
		}
		for _, b := range wrong {
			if b.Error == "" {
				if err := take(ctx, b.Digest); err != nil {
					if serious(err) != nil {
						return moved, err
					}
					b.Error = err.Error()
				}
			}
			moved = append(moved, b)
		}
	}
	return moved, nil
}

// Unpullable returns the tags of which no image can be pulled, whatever the platform, and that WriteLinks can't cure. A tag
// is not among them if only entries of an index were never pushed here: what was pushed can be pulled. Nor is one with a
// bad name, or in a repository with one: it may have been renamed by hand. Nor is one with a manifest of an unknown type:
// another registry may know it.
func (r *Result) Unpullable() []TagRepair {
	isUnpullable, isDoubtful := map[TagRepair]bool{}, map[TagRepair]bool{}
	for _, f := range r.Findings {
		for _, tag := range f.Tags {
			of := TagRepair{Repository: f.Repository, Tag: tag}
			switch f.Kind {
			case SparseIndex:
			case BadTagName, BadRepositoryName, UnknownManifestType:
				isDoubtful[of] = true
			default:
				isUnpullable[of] = true
			}
		}
	}
	tags := []TagRepair{}
	for _, b := range r.Broken {
		if of := (TagRepair{Repository: b.Repository, Tag: b.Tag}); !b.Partial && !b.curable && isUnpullable[of] && !isDoubtful[of] {
			tags = append(tags, of)
		}
	}
	return tags
}

// CheckTags returns those of tags that are lost for certain. A tag is not if something that it needs can't be read by this
// process, and perhaps by a registry: a permission is missing, it is archived, or there is a symbolic link. The error is
// one of the storage that is not about one object.
func (r *Result) CheckTags(ctx context.Context, store storage.Store, tags []TagRepair) ([]TagRepair, error) {
	isCertain := map[TagRepair]bool{}
	for _, t := range tags {
		isCertain[t] = true
	}
	for _, f := range r.Findings {
		var of []TagRepair
		for _, tag := range f.Tags {
			if t := (TagRepair{Repository: f.Repository, Tag: tag}); isCertain[t] {
				of = append(of, t)
			}
		}
		if len(of) == 0 {
			continue
		}
		_, mayBeIntact, err := look(ctx, store, f.Path, io.Discard)
		if err != nil {
			return nil, err
		}
		for _, t := range of {
			isCertain[t] = !mayBeIntact
		}
	}
	return slices.DeleteFunc(slices.Clone(tags), func(t TagRepair) bool { return !isCertain[t] }), nil
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
// last its directories, since a registry lists a tag that has a directory. A tag stays if its current link is another one
// than in the plan: somebody has pushed it. Each outcome is in the returned tags. ctx must
// be a lease.
func RemoveTags(ctx context.Context, store storage.Store, plan *sweep.Given, tags []TagRepair, take func(context.Context, []storage.Ref) []storage.Outcome) ([]TagRepair, error) {
	tags = slices.Clone(tags)
	refs, targets := map[TagRepair][]storage.Ref{}, map[TagRepair]digest.Digest{}
	for _, r := range plan.Removals {
		t := TagRepair{Repository: r.Repository, Tag: r.Tag}
		if refs[t] = append(refs[t], storage.Ref{Path: r.Path}); r.Kind == sweep.Tag {
			targets[t] = r.Digest
		}
	}
	var err error
	for i, t := range tags {
		switch {
		case err == nil && ctx.Err() == nil:
			failed := removeTag(ctx, store, t, refs[t], targets[t], take)
			if failed != nil {
				tags[i].Error = failed.Error()
				if serious(failed) != nil && !errors.Is(failed, errPushed) {
					err = fmt.Errorf("remove the tag %s:%s: %w", t.Repository, t.Tag, failed)
				}
			}
		default:
			tags[i].Error = ErrNotTried.Error()
		}
	}
	return tags, cmp.Or(err, context.Cause(ctx))
}

var errPushed = errors.New("somebody has pushed it meanwhile")

func removeTag(ctx context.Context, store storage.Store, t TagRepair, refs []storage.Ref, target digest.Digest, take func(context.Context, []storage.Ref) []storage.Outcome) error {
	current := layout.TagPath(t.Repository, t.Tag)
	content, err := store.Read(ctx, current, layout.LinkLimit)
	if err := storage.IgnoreDamage(err); err != nil {
		return err
	}
	if now, _, _ := layout.LinkTarget(content); now != target {
		return errPushed
	}
	for _, ref := range refs { // the current link is last
		if err := take(ctx, []storage.Ref{ref})[0].Err; err != nil {
			return err
		}
	}
	if target == "" {
		if err := OrPrune(ctx, store, current, store.Remove(ctx, []storage.Ref{{Path: current}})[0].Err); err != nil {
			return err
		}
	}
	_, err = store.Prune(ctx, path.Dir(path.Dir(current))) // an index may be left, without entries
	return err
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
