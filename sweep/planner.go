package sweep

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"regsweep/inventory"
	"regsweep/mark"
	"regsweep/storage"
	"regsweep/storage/layout"
)

// ErrNothingTagged is returned by NewPlan where there are blobs but no tag, and no blob is
// alive. With DeleteUntagged, age and damage alone do not count. Most likely the root is wrong.
var ErrNothingTagged = errors.New("there are blobs, but no tag in any repository, and nothing else keeps them: most likely this is not the root of the registry; " +
	"if all of it is really garbage, say so with --allow-empty")

var errOtherMark = errors.New("the mark was not run for this selection")

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
func NewPlan(ctx context.Context, inv *inventory.Inventory, live *mark.Live, reader storage.Reader, options Options) (*Plan, error) {
	if !live.Checked() {
		return nil, errors.New("plan: the links that would go were not checked")
	}
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
	if err := p.planOrphans(ctx); err != nil {
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
	for i, r := range p.inv.Repositories {
		if len(r.Tags) > len(p.live.Repositories[i].DeadTags) {
			return nil
		}
	}
	for id := range inventory.ID(p.inv.Blobs()) {
		cause := p.live.Blob(id)
		if cause == mark.Tagged || cause == mark.Untagged || cause != mark.Dead && !p.Options.DeleteUntagged {
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
			if isUpload := strings.HasPrefix(dir, layout.UploadPath(r.Name, "")); !live.Kept || isUpload && !r.Misnamed() {
				p.empty = append(p.empty, dir)
			}
		}
		for at, cause := range live.Layers.All() {
			switch id := r.Layers[at].ID(); {
			case cause == mark.Absent:
				p.empty = append(p.empty, dirOf(layout.LayerPath(r.Name, p.inv.Digest(id))))
			case cause == mark.Dead && !p.Options.Only.has(LayerLink, place{repository: i, at: at}):
				p.unlisted[i]++
				p.leadsTo(id)
				if to, isAlias := r.Aliases[id]; isAlias {
					p.leadsTo(to)
				}
			}
		}
		for at, cause := range live.Revisions.All() {
			if cause == mark.Dead && p.Options.Only != nil && !p.Options.Only.mayGo(i, at) {
				return errOtherMark
			}
		}
	}
	p.revisions = deadLinks(p.live, func(r *mark.Repository) mark.Causes { return r.Revisions }, func(int, int) bool { return true })
	p.layers = deadLinks(p.live, func(r *mark.Repository) mark.Causes { return r.Layers }, func(r, at int) bool {
		return p.Options.Only.has(LayerLink, place{repository: r, at: at})
	})
	return nil
}

// leadsTo notes that a link stays which leads to a digest: its blob stays too.
func (p *Plan) leadsTo(id inventory.ID) {
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
func (p *Plan) compareDigests(a, b inventory.ID) int {
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
	for i, live := range p.live.Repositories {
		r := p.inv.Repositories[i]
		for _, t := range live.DeadTags {
			p.tags = append(p.tags, place{repository: i, at: t})
		}
		for t, tag := range r.Tags {
			_, goes := slices.BinarySearch(live.DeadTags, t)
			for e, link := range tag.Index {
				at, found := inventory.FindLink(r.Revisions, link.ID())
				stays := live.Unlinked(link.ID())
				if found {
					stays = live.Revisions.At(at) != mark.Dead
				}
				if goes || !stays {
					entries = append(entries, tagEntry{i, t, link.ID()})
					places = append(places, place{repository: i, tag: t, at: e})
				}
			}
		}
	}
	path := func(i int) string {
		r := p.inv.Repositories[places[i].repository]
		tag := r.Tags[places[i].tag]
		if tag.Index[places[i].at].Verified() {
			return ""
		}
		return layout.TagIndexPath(r.Name, tag.Name, p.inv.Digest(entries[i].id))
	}
	looks, err := p.look(ctx, len(entries), path)
	if err != nil {
		return err
	}
	for i, entry := range entries {
		if looks[i].isAbsent {
			p.empty = append(p.empty, dirOf(path(i)))
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

// planOrphans takes the links of signatures and referrers whose manifest was deleted.
func (p *planner) planOrphans(ctx context.Context) error {
	var orphans []orphan
	for i, live := range p.live.Repositories {
		for _, of := range live.Orphans {
			orphans = append(orphans, orphansOf(p.inv, i, of)...)
		}
	}
	path := func(i int) string { return orphans[i].path(p.inv) }
	looks, err := p.look(ctx, len(orphans), path)
	if err != nil {
		return err
	}
	for i, o := range orphans {
		switch {
		case looks[i].isAbsent:
			p.empty = append(p.empty, dirOf(path(i)))
		case !p.Options.Only.has(OrphanLink, place{repository: o.repository, orphan: &o}):
			p.leadsTo(o.leadsTo())
		default:
			p.orphans = append(p.orphans, o)
		}
	}
	return nil
}

// orphansOf are the links of one deleted manifest, in a fixed order.
func orphansOf(inv *inventory.Inventory, repository int, of inventory.ID) []orphan {
	r := inv.Repositories[repository]
	var orphans []orphan
	for _, signature := range r.Signatures[of] {
		orphans = append(orphans, orphan{repository: repository, of: of, signature: signature})
	}
	for i := range r.Referrers[of] {
		orphans = append(orphans, orphan{repository: repository, of: of, referrer: &r.Referrers[of][i]})
	}
	return orphans
}

func (o orphan) path(inv *inventory.Inventory) string {
	name, of := inv.Repositories[o.repository].Name, inv.Digest(o.of)
	if o.referrer != nil {
		return layout.ReferrerPath(name, of, inv.Digest(o.referrer.Subject), o.referrer.Type)
	}
	return layout.SignaturePath(name, of, inv.Digest(o.signature))
}

// leadsTo is the digest that the link says.
func (o orphan) leadsTo() inventory.ID {
	if o.referrer != nil {
		return o.of
	}
	return o.signature
}

// look is what a look at a path tells.
type look struct {
	// isAbsent is set for what is not there, or is not a regular file and so nothing that a
	// registry wrote.
	isAbsent   bool
	bytes      int64
	modTime    time.Time
	hardLinked bool
}

// look looks at n paths, concurrently. An empty one is skipped.
func (p *planner) look(ctx context.Context, n int, path func(i int) string) ([]look, error) {
	return p.lookWith(ctx, n, func(ctx context.Context, i int) (storage.Object, error) {
		path := path(i)
		if path == "" {
			return storage.Object{}, nil
		}
		return p.reader.Stat(ctx, path)
	})
}

// lookAtBlobs looks at those stored blobs whose size the listing has not told.
func (p *planner) lookAtBlobs(ctx context.Context, ids []inventory.ID) ([]look, error) {
	return p.lookWith(ctx, len(ids), func(ctx context.Context, i int) (storage.Object, error) {
		if _, exact := p.inv.Size(ids[i]); exact {
			return storage.Object{}, nil
		}
		return inventory.StatBlob(ctx, p.reader, p.inv, ids[i])
	})
}

func (p *planner) lookWith(ctx context.Context, n int, stat func(ctx context.Context, i int) (storage.Object, error)) ([]look, error) {
	looks := make([]look, n)
	err := storage.Each(ctx, n, p.Options.Concurrency, func(ctx context.Context, i int) error {
		object, err := stat(ctx, i)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, storage.ErrNotRegular) {
			looks[i].isAbsent = true
			return nil
		}
		looks[i].bytes, looks[i].modTime, looks[i].hardLinked = object.Size, object.ModTime, object.HardLinked
		return err
	})
	return looks, err
}

func (p *planner) planUploads() {
	take := func(repository int, uploads []inventory.Upload) {
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
	for _, kind := range table {
		if kind.count != nil && kind.kind != TagIndexEntry { // which is in a tag
			kind.count(p.Plan, func(repository, n int) { going[repository] += n })
		}
	}
	for i, r := range p.inv.Repositories {
		absent := 0
		for _, cause := range p.live.Repositories[i].Layers.All() {
			if cause == mark.Absent {
				absent++
			}
		}
		holds := len(r.Tags) + len(r.Revisions) + len(r.Layers) + len(r.Uploads) + r.Strays
		for of, signatures := range r.Signatures {
			if !r.HasRevision(of) {
				holds += len(signatures)
			}
		}
		for of, links := range r.Referrers {
			if !r.HasRevision(of) {
				holds += len(links)
			}
		}
		if going[i]+absent == holds && !r.Misnamed() && p.Options.Only.has(Repository, place{repository: i}) {
			p.repositories = append(p.repositories, i)
		}
	}
}

// planEmptied takes the directories of blobs that a removal has left which was cut off. With
// PruneEmpty it takes those where a repository could be, too. A removal may have left them, but
// they may also be where a disk is mounted, so that they are counted.
func (p *planner) planEmptied() {
	p.empty = append(p.empty, p.inv.Emptied...)
	if p.Options.PruneEmpty {
		p.emptyNames = p.inv.EmptiedNames
	}
}

// lookedAt is how many blobs are looked at together: of these there may be looks in memory, of
// millions not.
const lookedAt = 1 << 12

func (p *planner) planBlobs(ctx context.Context) error {
	count, listed := 0, true
	for id := range inventory.ID(p.inv.Blobs()) {
		if p.live.Blob(id) == mark.Dead {
			count++
			_, exact := p.inv.Size(id)
			listed = listed && exact
		}
	}
	p.blobs = make([]inventory.ID, 0, count)
	if !listed {
		p.looked = make([]int64, 0, count)
	}
	dead := make([]inventory.ID, 0, lookedAt)
	for id := range inventory.ID(p.inv.Blobs()) {
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
func (p *planner) lookAt(ctx context.Context, dead []inventory.ID) error {
	looks, err := p.lookAtBlobs(ctx, dead)
	if err != nil {
		return err
	}
	for i, id := range dead {
		young := p.Options.MinAge > 0 && p.inv.Recent(id)
		bytes, exact := p.inv.Size(id)
		if looks[i].isAbsent {
			p.empty = append(p.empty, dirOf(p.inv.BlobPath(id)))
			continue
		}
		if !exact {
			bytes = looks[i].bytes
			young = p.Options.MinAge > 0 && looks[i].modTime.After(p.cutoff)
		}
		if reason := p.keepsBlob(id, young); reason != "" {
			tally := p.staying[reason]
			tally.Add(1, bytes)
			p.staying[reason] = tally
			continue
		}
		p.blobs = append(p.blobs, id)
		if looks[i].hardLinked && bytes > 0 {
			p.HardLinked.Add(1, bytes)
		}
		if p.looked != nil {
			p.looked = append(p.looked, bytes)
		}
	}
	return nil
}

// keepsBlob says why a dead blob stays, "" if it does not.
func (p *planner) keepsBlob(id inventory.ID, young bool) Reason {
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
