package sweep

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"strings"
	"time"

	"regsweep/mark"
	"regsweep/storage"

	"golang.org/x/sync/errgroup"
)

// Options are the zero value for a storage that nobody writes to.
type Options struct {
	// Now is the time of the run, against which ages are reckoned.
	Now time.Time
	// MinAge keeps blobs that were written less than this before Now. Links of
	// that age are the mark's to keep (storage.InventoryOptions.Since).
	MinAge time.Duration
	// UploadAge keeps uploads that were begun less than this before Now.
	UploadAge time.Duration
	// DeleteUntagged must be what the mark was run with. It is recorded.
	DeleteUntagged bool
	// PruneEmpty removes repositories in which nothing is left.
	PruneEmpty bool
	// Quarantine is for a plan whose removals are moved and can be undone: what can't be
	// moved stays.
	Quarantine bool
	// AllowEmpty accepts a registry in which no tag is to be found.
	AllowEmpty bool
	// Concurrency is how many candidates are looked at at once; 32 if it is 0.
	Concurrency int
	// Only, if set, is all that may go of what would go otherwise. The mark must have
	// been run with its MayGo.
	Only *Selection
}

// ErrNothingTagged is returned by NewPlan where there are blobs but no tag, or no
// repository: then everything would go, and most likely the root is wrong.
var ErrNothingTagged = errors.New("there are blobs, but no tag in any repository: most likely this is not the root of the registry; " +
	"if all of it is really garbage, say so with --allow-empty")

var errOtherMark = errors.New("the mark was not run for this selection")

// Plan is what goes, in order. It can be executed once.
type Plan struct {
	// Garbage counts what goes, by kind.
	Garbage map[Kind]Tally
	// Live counts what stays.
	Live Totals
	// Kept says what might have gone, and why it does not.
	Kept []Kept
	// Problems are all that were met.
	Problems []storage.Problem
	// Options are what the plan was made with.
	Options Options

	inv  *storage.Inventory
	live *mark.Live

	tagEntries   []tagEntry
	revisions    links
	layers       links
	uploads      []upload
	repositories []int
	blobs        []storage.ID
	looked       []int64  // their sizes in bytes, where the storage had to be asked for them; or nil
	empty        []string // directories in which a candidate was not to be found
	young        bits     // blobs that stay for their age; filled where Options.Only is set
	linked       bits     // stored blobs that a link leads to which goes but for Options.Only

	executed bool
}

// Totals count what a mark has found alive. A blob counts once however many
// repositories share it.
type Totals struct {
	Repositories int   `json:"repositories"`
	Tags         int   `json:"tags"`
	Manifests    int   `json:"manifests"`
	Blobs        int   `json:"blobs"`
	Bytes        int64 `json:"bytes"`
}

// The plan in memory: ids, not paths, since there may be millions.
type (
	tagEntry struct {
		repository, tag int
		id              storage.ID
	}
	upload struct{ repository, at int } // repository is -1 for one of no repository
)

// planner makes a plan. Its steps are independent of each other but for their order.
type planner struct {
	*Plan
	reader storage.Reader
	cutoff time.Time // blobs written after it stay

	staying  map[Reason]Tally // dead blobs that stay nevertheless
	unlisted []int            // by repository: links that go but for Options.Only
}

// NewPlan decides what goes. It looks at each candidate that the inventory knows by
// the name of its directory alone, and at nothing else.
func NewPlan(ctx context.Context, inv *storage.Inventory, live *mark.Live, reader storage.Reader, options Options) (*Plan, error) {
	options.Concurrency = cmp.Or(options.Concurrency, 32)
	p := &planner{
		Plan: &Plan{
			Garbage: map[Kind]Tally{}, Problems: live.Problems, Options: options, inv: inv, live: live,
		},
		reader:   reader,
		cutoff:   options.Now.Add(-options.MinAge),
		staying:  map[Reason]Tally{},
		unlisted: make([]int, len(inv.Repositories)),
	}
	if err := p.refuseNothingTagged(); err != nil {
		return nil, err
	}
	if err := p.planRevisionsAndLayers(); err != nil {
		return nil, err
	}
	if err := p.planTagIndexes(ctx); err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	p.order()
	p.planUploads()
	p.planRepositories()
	p.planEmptied()
	if err := p.planBlobs(ctx); err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	if err := p.lookForUnlisted(ctx); err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	if err := p.count(ctx); err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	return p.Plan, nil
}

func (p *planner) refuseNothingTagged() error {
	if p.Options.AllowEmpty || p.inv.Blobs() == 0 {
		return nil
	}
	for _, r := range p.inv.Repositories {
		if len(r.Tags) > 0 {
			return nil
		}
	}
	return ErrNothingTagged
}

func (p *planner) planRevisionsAndLayers() error {
	for i, live := range p.live.Repositories {
		r := p.inv.Repositories[i]
		for _, dir := range r.Emptied {
			// Of a repository in doubt uploads go, and nothing else.
			if isUpload := strings.HasPrefix(dir, storage.UploadPath(r.Name, "")); !live.Kept || isUpload && !r.Misnamed() {
				p.empty = append(p.empty, dir)
			}
		}
		for at, cause := range live.Layers {
			switch id := r.Layers[at].ID(); {
			case cause == mark.Absent:
				p.empty = append(p.empty, dirOf(storage.LayerPath(r.Name, p.inv.Digest(id))))
			case cause == mark.Dead && !p.Options.Only.has(LayerLink, place{repository: i, at: at}):
				p.unlisted[i]++
				p.leadsTo(id)
				if to, isAlias := r.Aliases[id]; isAlias {
					p.leadsTo(to)
				}
			}
		}
		for at, cause := range live.Revisions {
			if cause == mark.Dead && p.Options.Only != nil && !p.Options.Only.MayGo(i, at) {
				return errOtherMark
			}
		}
	}
	p.revisions = deadLinks(p.live, func(r *mark.Repository) []mark.Cause { return r.Revisions }, func(int, int) bool { return true })
	p.layers = deadLinks(p.live, func(r *mark.Repository) []mark.Cause { return r.Layers }, func(r, at int) bool {
		return p.Options.Only.has(LayerLink, place{repository: r, at: at})
	})
	return nil
}

// leadsTo notes that a link stays which leads to a digest: its blob stays too.
func (p *Plan) leadsTo(id storage.ID) {
	if p.inv.Stored(id) {
		p.linked.add(int(id))
	}
}

// order puts links in an order that does not depend on when a digest was first met,
// as the ids of digests that are not stored do: a plan reads the same every time.
func (p *planner) order() {
	p.revisions.order(func(r int, a, b uint32) int {
		links := p.inv.Repositories[r].Revisions
		return p.compareDigests(links[a].ID(), links[b].ID())
	})
	p.layers.order(func(r int, a, b uint32) int {
		links := p.inv.Repositories[r].Layers
		return p.compareDigests(links[a].ID(), links[b].ID())
	})
	slices.SortFunc(p.tagEntries, p.compareEntries)
}

func (p *Plan) compareEntries(a, b tagEntry) int {
	return cmp.Or(cmp.Compare(a.repository, b.repository), cmp.Compare(a.tag, b.tag), p.compareDigests(a.id, b.id))
}

// compareDigests has stored blobs first, whose ids are in the order of their digests.
func (p *Plan) compareDigests(a, b storage.ID) int {
	if p.inv.Stored(a) || p.inv.Stored(b) {
		return cmp.Compare(a, b)
	}
	return cmp.Compare(p.inv.Digest(a), p.inv.Digest(b))
}

func dirOf(path string) string { return path[:strings.LastIndexByte(path, '/')] }

// planTagIndexes takes the entries whose revision goes or is gone. An entry for what
// is alive without a revision link stays: it is what is left to repair the tag with.
func (p *planner) planTagIndexes(ctx context.Context) error {
	var entries []tagEntry
	var places []place // of the entries, in the inventory
	var named []string
	for i, live := range p.live.Repositories {
		r := p.inv.Repositories[i]
		for t, tag := range r.Tags {
			for e, link := range tag.Index {
				at, found := storage.FindLink(r.Revisions, link.ID())
				stays := live.Unlinked(link.ID())
				if found {
					stays = live.Revisions[at] != mark.Dead
				}
				if stays {
					continue
				}
				path := ""
				if !link.Settled() {
					path = storage.TagIndexPath(r.Name, tag.Name, p.inv.Digest(link.ID()))
				}
				entries = append(entries, tagEntry{i, t, link.ID()})
				places = append(places, place{i, t, e})
				named = append(named, path)
			}
		}
	}
	found, err := p.stat(ctx, named)
	if err != nil {
		return err
	}
	for i, entry := range entries {
		if named[i] != "" && found[i] == nil {
			p.empty = append(p.empty, dirOf(named[i]))
			continue
		}
		if !p.Options.Only.has(TagIndexEntry, places[i]) {
			p.leadsTo(entry.id)
			continue
		}
		p.tagEntries = append(p.tagEntries, entry)
	}
	return nil
}

// stat looks at the paths, concurrently, and returns nil for what is not there, or
// is not a regular file and so nothing that a registry wrote. An empty path is
// skipped.
func (p *planner) stat(ctx context.Context, paths []string) ([]*storage.Object, error) {
	found := make([]*storage.Object, len(paths))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(p.Options.Concurrency)
	for i, path := range paths {
		if path == "" {
			continue
		}
		g.Go(func() error {
			object, err := p.reader.Stat(ctx, path)
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, storage.ErrNotRegular) {
				return nil
			}
			if err != nil {
				return err
			}
			found[i] = &object
			return nil
		})
	}
	err := g.Wait()
	return found, err
}

func (p *planner) planUploads() {
	take := func(repository int, uploads []storage.Upload) {
		for at := range uploads {
			if u := (upload{repository, at}); p.keepsUpload(u) == "" {
				p.uploads = append(p.uploads, u)
			}
		}
	}
	take(-1, p.inv.Uploads)
	for i, r := range p.inv.Repositories {
		take(i, r.Uploads)
	}
}

// keepsUpload says why an upload stays, "" if it does not.
func (p *Plan) keepsUpload(at upload) Reason {
	u, _ := p.uploadAt(at)
	switch {
	case !p.isOld(at):
		return KeptUpload
	case p.Options.Quarantine && slices.ContainsFunc(u.Objects, func(ref storage.Ref) bool { return ref.Multipart != "" }):
		return KeptMultipart
	case !p.Options.Only.has(Upload, place{repository: at.repository, at: at.at}):
		return KeptUnlisted
	}
	return ""
}

// isOld reports whether an upload is past its age, in a repository that could be served.
func (p *Plan) isOld(at upload) bool {
	if at.repository >= 0 && p.inv.Repositories[at.repository].Misnamed() {
		return false
	}
	u, _ := p.uploadAt(at)
	return !u.Started.IsZero() && !u.Started.After(p.Options.Now.Add(-p.Options.UploadAge))
}

// planRepositories takes the repositories of which nothing is left, if asked.
func (p *planner) planRepositories() {
	if !p.Options.PruneEmpty {
		return
	}
	going := make([]int, len(p.inv.Repositories))
	for i := range going {
		going[i] = len(p.revisions.of[i]) + len(p.layers.of[i])
	}
	for _, gone := range p.uploads {
		if gone.repository >= 0 {
			going[gone.repository]++
		}
	}
	for i, r := range p.inv.Repositories {
		absent := 0
		for _, cause := range p.live.Repositories[i].Layers {
			if cause == mark.Absent {
				absent++
			}
		}
		holds := len(r.Tags) + len(r.Revisions) + len(r.Layers) + len(r.Uploads) + r.Strays
		for signed := range r.Signatures {
			if !r.HasRevision(signed) { // nothing of the plan takes them
				holds++
			}
		}
		if going[i]+absent == holds && !r.Misnamed() && p.Options.Only.has(Repository, place{repository: i}) {
			p.repositories = append(p.repositories, i)
		}
	}
}

// planEmptied takes the directories that a removal has left which was cut off, and that are
// no repository's: they would not be there without it.
func (p *planner) planEmptied() {
	p.empty = append(p.empty, p.inv.Emptied...)
	if p.Options.PruneEmpty {
		p.empty = append(p.empty, p.inv.EmptiedNames...)
	}
}

// lookedAt is how many blobs are looked at together: of these there may be paths, of
// millions not.
const lookedAt = 1 << 12

func (p *planner) planBlobs(ctx context.Context) error {
	count, listed := 0, true
	for id := range storage.ID(p.inv.Blobs()) {
		if p.live.Blob(id) == mark.Dead {
			count++
			_, exact := p.inv.Size(id)
			listed = listed && exact
		}
	}
	p.blobs = make([]storage.ID, 0, count)
	if !listed {
		p.looked = make([]int64, 0, count)
	}
	dead := make([]storage.ID, 0, lookedAt)
	for id := range storage.ID(p.inv.Blobs()) {
		if p.live.Blob(id) == mark.Dead {
			dead = append(dead, id)
		}
		if len(dead) == lookedAt {
			if err := p.lookAt(ctx, dead); err != nil {
				return err
			}
			dead = dead[:0]
		}
	}
	return p.lookAt(ctx, dead)
}

// lookAt plans the removal of dead blobs, if they are there and not young.
func (p *planner) lookAt(ctx context.Context, dead []storage.ID) error {
	named := make([]string, len(dead))
	for i, id := range dead {
		if _, exact := p.inv.Size(id); !exact {
			named[i] = storage.BlobPath(p.inv.Digest(id))
		}
	}
	found, err := p.stat(ctx, named)
	if err != nil {
		return err
	}
	for i, id := range dead {
		young := p.Options.MinAge > 0 && p.inv.Recent(id)
		bytes, _ := p.inv.Size(id)
		if named[i] != "" {
			if found[i] == nil {
				p.empty = append(p.empty, dirOf(named[i]))
				continue
			}
			bytes = found[i].Size
			young = p.Options.MinAge > 0 && found[i].ModTime.After(p.cutoff)
		}
		if reason := p.keepsBlob(id, young); reason != "" {
			tally := p.staying[reason]
			tally.Add(1, bytes)
			p.staying[reason] = tally
			continue
		}
		p.blobs = append(p.blobs, id)
		if p.looked != nil {
			p.looked = append(p.looked, bytes)
		}
	}
	return nil
}

// keepsBlob says why a dead blob stays, "" if it does not.
func (p *planner) keepsBlob(id storage.ID, young bool) Reason {
	switch {
	case young:
		if p.Options.Only != nil {
			p.young.add(int(id))
		}
		return KeptAge
	case !p.Options.Only.has(Blob, place{repository: -1, at: int(id)}):
		return KeptUnlisted
	case p.linked.has(int(id)):
		return KeptLinked
	}
	return ""
}

// blobBytes is the size of the i-th blob that goes.
func (p *Plan) blobBytes(i int) int64 {
	if p.looked != nil {
		return p.looked[i]
	}
	bytes, _ := p.inv.Size(p.blobs[i])
	return bytes
}

// All yields the removals in their order.
func (p *Plan) All() iter.Seq[Removal] {
	return func(yield func(Removal) bool) {
		for _, kind := range Kinds {
			for i := range p.len(kind) {
				if !yield(p.removal(kind, i)) {
					return
				}
			}
		}
	}
}

// Refs yields the objects that the removals consist of.
func (p *Plan) Refs() iter.Seq[storage.Ref] {
	return func(yield func(storage.Ref) bool) {
		for _, kind := range Kinds {
			for i := range p.len(kind) {
				for _, ref := range p.refs(kind, i) {
					if !yield(ref) {
						return
					}
				}
			}
		}
	}
}

// Idle reports whether executing the plan would do nothing at all: there is nothing to
// remove, nor an empty directory to clear up.
func (p *Plan) Idle() bool { return p.Len() == 0 && len(p.empty) == 0 }

// Len is the number of removals.
func (p *Plan) Len() int {
	n := 0
	for _, kind := range Kinds {
		n += p.len(kind)
	}
	return n
}

func (p *Plan) len(kind Kind) int {
	switch kind {
	case TagIndexEntry:
		return len(p.tagEntries)
	case Revision:
		return p.revisions.len()
	case LayerLink:
		return p.layers.len()
	case Upload:
		return len(p.uploads)
	case Repository:
		return len(p.repositories)
	default:
		return len(p.blobs)
	}
}

// removal writes out the i-th removal of a kind.
func (p *Plan) removal(kind Kind, i int) Removal {
	removal := Removal{Kind: kind}
	switch kind {
	case TagIndexEntry:
		entry := p.tagEntries[i]
		r := p.inv.Repositories[entry.repository]
		removal.Repository, removal.Tag, removal.Digest = r.Name, r.Tags[entry.tag].Name, p.inv.Digest(entry.id)
		removal.Path = storage.TagIndexPath(r.Name, removal.Tag, removal.Digest)
		removal.Reason = "its revision is gone"
		if r.HasRevision(entry.id) {
			removal.Reason = "its revision goes"
		}
	case Revision:
		link := p.revisions.get(i)
		r := p.inv.Repositories[link.repository]
		id := r.Revisions[link.at].ID()
		removal.Repository, removal.Digest, removal.Signatures = r.Name, p.inv.Digest(id), len(r.Signatures[id])
		for _, signature := range r.Signatures[id] {
			removal.SignatureDigests = append(removal.SignatureDigests, p.inv.Digest(signature))
		}
		removal.Path = storage.RevisionPath(r.Name, removal.Digest)
		removal.Reason = "untagged"
	case LayerLink:
		link := p.layers.get(i)
		r := p.inv.Repositories[link.repository]
		id := r.Layers[link.at].ID()
		removal.Repository, removal.Digest = r.Name, p.inv.Digest(id)
		removal.Path = storage.LayerPath(r.Name, removal.Digest)
		removal.Reason = "no live manifest of the repository reaches it"
		if to, alias := r.Aliases[id]; alias {
			removal.Target = p.inv.Digest(to)
		} else if !p.inv.Stored(id) {
			removal.Reason = "no live manifest of the repository reaches it, and its blob is missing"
		}
	case Upload:
		u, repository := p.upload(i)
		removal.Repository, removal.Upload, removal.Bytes = repository, u.ID, u.Bytes
		removal.Path = u.Objects[0].Path
		if repository != "" {
			removal.Path = storage.UploadPath(repository, u.ID)
		}
		removal.Reason = "begun " + u.Started.UTC().Format(time.RFC3339)
	case Repository:
		r := p.inv.Repositories[p.repositories[i]]
		removal.Repository, removal.Path = r.Name, storage.RepositoryPath(r.Name)
		removal.Reason = "nothing is left in it"
	case Blob:
		removal.Digest, removal.Bytes = p.inv.Digest(p.blobs[i]), p.blobBytes(i)
		removal.Path = storage.BlobPath(removal.Digest)
		removal.Reason = "no live manifest of any repository reaches it"
	}
	removal.Path = "/" + storage.Root + "/" + removal.Path
	return removal
}

func (p *Plan) upload(i int) (u storage.Upload, repository string) { return p.uploadAt(p.uploads[i]) }

func (p *Plan) uploadAt(at upload) (u storage.Upload, repository string) {
	if at.repository < 0 {
		return p.inv.Uploads[at.at], ""
	}
	r := p.inv.Repositories[at.repository]
	return r.Uploads[at.at], r.Name
}

// refs are the objects that the i-th removal of a kind consists of.
func (p *Plan) refs(kind Kind, i int) []storage.Ref {
	switch kind {
	case Upload:
		u, _ := p.upload(i)
		return u.Objects
	case Repository:
		return nil
	case Blob:
		return []storage.Ref{{Path: storage.BlobPath(p.inv.Digest(p.blobs[i]))}}
	}
	links := p.removal(kind, i).Links()
	refs := make([]storage.Ref, len(links))
	for n, link := range links {
		refs[n].Path = link.Path
	}
	if last := len(links) - 1; p.isKnown(kind, i) {
		refs[last].Content = string(links[last].Target)
	}
	return refs
}

// isKnown reports whether the i-th link of a kind is known to say what its removal has
// as its target, and leads to a blob. The mark has read the links of layers and
// revisions that go, unless they were settled.
func (p *Plan) isKnown(kind Kind, i int) bool {
	switch kind {
	case TagIndexEntry:
		entry := p.tagEntries[i]
		index := p.inv.Repositories[entry.repository].Tags[entry.tag].Index
		at, found := storage.FindLink(index, entry.id)
		return found && index[at].Settled() && p.inv.Stored(entry.id)
	case Revision:
		link := p.revisions.get(i)
		return p.inv.Stored(p.inv.Repositories[link.repository].Revisions[link.at].ID())
	}
	link := p.layers.get(i)
	r := p.inv.Repositories[link.repository]
	id := r.Layers[link.at].ID()
	if to, isAlias := r.Aliases[id]; isAlias {
		id = to
	}
	return p.inv.Stored(id)
}
