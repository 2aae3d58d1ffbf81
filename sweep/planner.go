package sweep

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"regsweep/inventory"
	"regsweep/mark"
	"regsweep/storage"
	"regsweep/storage/layout"
)

// ErrNothingTagged is returned by NewPlan if there are blobs but no tags, and no blob is alive. With
// DeleteUntagged, blobs that are alive only for their age or for damage do not count. Most likely
// the root directory is wrong.
var ErrNothingTagged = errors.New("there are blobs, but no tag in any repository, and nothing else keeps them: most likely this is not the root of the registry; " +
	"if all of it is really garbage, say so with --allow-empty")

var errOtherMark = errors.New("the mark was not run for this selection")

// planner makes a plan. Its steps depend on each other only by their order.
type planner struct {
	*Plan
	reader storage.Reader
	cutoff time.Time // blobs written after it are kept

	keptBlobs  map[Reason]Tally // dead blobs that are kept
	unselected []int            // by repository: dead links that Options.Only does not select
	// absentOrphans has by repository how many links of Live.Orphans are only a directory.
	absentOrphans []int
}

// NewPlan returns the removals of all garbage. It does not change the storage. It stats only the
// candidates that were listed without a size. It returns ErrNothingTagged
// for a registry without tags, and the errors of the reader.
func NewPlan(ctx context.Context, inv *inventory.Inventory, live *mark.Live, reader storage.Reader, options Options) (*Plan, error) {
	if !live.Checked() {
		return nil, errors.New("plan: the links that would go were not checked")
	}
	options.Concurrency = cmp.Or(options.Concurrency, 32)
	p := &planner{
		Plan: &Plan{
			Garbage: map[Kind]Tally{}, Problems: live.Problems, Options: options, inv: inv, live: live,
		},
		reader:        reader,
		cutoff:        options.Now.Add(-options.MinAge),
		keptBlobs:     map[Reason]Tally{},
		unselected:    make([]int, len(inv.Repositories)),
		absentOrphans: make([]int, len(inv.Repositories)),
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
	p.planEmptied()
	if err := p.planBlobs(ctx); err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	p.limit()
	p.planRepositories() // a repository with an upload that is left is not empty
	if err := p.checkUnlisted(ctx); err != nil {
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
			// Of a damaged repository only uploads are removed.
			if isUpload := strings.HasPrefix(dir, layout.UploadPath(r.Name, "")); !live.Kept || isUpload && !r.Misnamed() {
				p.empty = append(p.empty, dir)
			}
		}
		for at, cause := range live.Layers.All() {
			switch id := r.Layers[at].ID(); {
			case cause == mark.Absent:
				p.empty = append(p.empty, dirOf(layout.LayerPath(r.Name, p.inv.Digest(id))))
			case cause == mark.Dead && !p.Options.Only.has(LayerLink, place{repository: i, at: at}):
				p.unselected[i]++
				p.keepTarget(id)
				if to, isAlias := r.Aliases[id]; isAlias {
					p.keepTarget(to)
				}
			}
		}
		for at, cause := range live.Revisions.All() {
			if cause == mark.Dead && p.Options.Only != nil && !p.Options.Only.mayRemove(i, at) {
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

// keepTarget keeps the blob of a digest, because a link to it is kept.
func (p *Plan) keepTarget(id inventory.ID) {
	if p.inv.Stored(id) {
		p.linked.add(int(id))
	}
}

// order sorts the links by digest, so that equal storages have equal plans. The IDs of digests that
// are not stored depend on the order of reading.
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
	slices.SortFunc(p.earlierEntries, p.compareEntries)
}

func (p *Plan) compareEntries(a, b tagEntry) int {
	return cmp.Or(cmp.Compare(a.repository, b.repository), cmp.Compare(a.tag, b.tag), p.compareDigests(a.id, b.id))
}

// compareDigests puts stored blobs first. Their IDs are in the order of their digests.
func (p *Plan) compareDigests(a, b inventory.ID) int {
	if p.inv.Stored(a) || p.inv.Stored(b) {
		return cmp.Compare(a, b)
	}
	return cmp.Compare(p.inv.Digest(a), p.inv.Digest(b))
}

func dirOf(path string) string { return path[:strings.LastIndexByte(path, '/')] }

// planTagIndexes plans the tags that are dead, and the index entries whose revision is dead or does
// not exist. It keeps an entry whose manifest is alive without a revision link: the entry is needed
// to repair the tag.
func (p *planner) planTagIndexes(ctx context.Context) error {
	for i, live := range p.live.Repositories {
		for _, t := range live.DeadTags {
			p.tags = append(p.tags, place{repository: i, at: t})
		}
	}
	entries := p.deadEntries()
	target := func(at place) inventory.Link { return p.inv.Repositories[at.repository].Tags[at.tag].Index[at.at] }
	path := func(i int) string {
		at := entries[i]
		if target(at).Verified() {
			return ""
		}
		r := p.inv.Repositories[at.repository]
		return layout.TagIndexPath(r.Name, r.Tags[at.tag].Name, p.inv.Digest(target(at).ID()))
	}
	stats, err := p.statPaths(ctx, len(entries), path)
	if err != nil {
		return err
	}
	for i, at := range entries {
		id := target(at).ID()
		switch {
		case stats[i].isAbsent:
			p.empty = append(p.empty, dirOf(path(i)))
		case !p.Options.Only.hasEntry(at):
			p.keepTarget(id)
		case p.isEarlier(at):
			p.earlierEntries = append(p.earlierEntries, tagEntry{at.repository, at.tag, id})
		default:
			p.tagEntries = append(p.tagEntries, tagEntry{at.repository, at.tag, id})
		}
	}
	return nil
}

// isEarlier reports whether an index entry is for a manifest that a removed tag does not point at any more.
func (p *planner) isEarlier(at place) bool {
	_, isDead := slices.BinarySearch(p.live.Repositories[at.repository].DeadTags, at.tag)
	tag := p.inv.Repositories[at.repository].Tags[at.tag]
	return p.Options.RemovesTags && isDead && tag.HasTarget && tag.Index[at.at].ID() != tag.Target
}

// deadEntries returns the places of the index entries of dead tags and of dead or deleted revisions.
func (p *planner) deadEntries() (entries []place) {
	for i, live := range p.live.Repositories {
		r := p.inv.Repositories[i]
		for t, tag := range r.Tags {
			_, isDead := slices.BinarySearch(live.DeadTags, t)
			for e, link := range tag.Index {
				isAlive := live.IsAliveEntry(link.ID())
				if at, found := inventory.FindLink(r.Revisions, link.ID()); found {
					isAlive = live.Revisions.At(at) != mark.Dead
				}
				if isDead || !isAlive {
					entries = append(entries, place{repository: i, tag: t, at: e})
				}
			}
		}
	}
	return entries
}

// planOrphans plans the links of signatures and referrers whose manifest was deleted.
func (p *planner) planOrphans(ctx context.Context) error {
	var orphans []orphan
	for i, live := range p.live.Repositories {
		for _, of := range live.Orphans {
			orphans = append(orphans, orphansOf(p.inv, i, of)...)
		}
	}
	path := func(i int) string { return orphans[i].path(p.inv) }
	stats, err := p.statPaths(ctx, len(orphans), path)
	if err != nil {
		return err
	}
	for i, o := range orphans {
		switch {
		case stats[i].isAbsent:
			p.empty = append(p.empty, dirOf(path(i)))
			p.absentOrphans[o.repository]++
		case !p.Options.Only.has(OrphanLink, place{repository: o.repository, orphan: &o}):
			p.keepTarget(o.target())
		default:
			p.orphans = append(p.orphans, o)
		}
	}
	return nil
}

// orphansOf returns the links of one deleted manifest, in a fixed order.
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

// target returns the digest that the link contains.
func (o orphan) target() inventory.ID {
	if o.referrer != nil {
		return o.of
	}
	return o.signature
}

// stat is the result of a stat of one path.
type stat struct {
	isAbsent   bool // see storage.IsAbsent
	bytes      int64
	modTime    time.Time
	hardLinked bool
}

// statPaths stats n paths concurrently. It skips empty paths.
func (p *planner) statPaths(ctx context.Context, n int, path func(i int) string) ([]stat, error) {
	return p.statEach(ctx, n, func(ctx context.Context, i int) (storage.Object, error) {
		path := path(i)
		if path == "" {
			return storage.Object{}, nil
		}
		return p.reader.Stat(ctx, path)
	})
}

// statBlobs stats the stored blobs whose size was not in the listing.
func (p *planner) statBlobs(ctx context.Context, ids []inventory.ID) ([]stat, error) {
	return p.statEach(ctx, len(ids), func(ctx context.Context, i int) (storage.Object, error) {
		if _, exact := p.inv.Size(ids[i]); exact {
			return storage.Object{}, nil
		}
		return p.reader.Stat(ctx, p.inv.BlobPath(ids[i]))
	})
}

func (p *planner) statEach(ctx context.Context, n int, object func(ctx context.Context, i int) (storage.Object, error)) ([]stat, error) {
	stats := make([]stat, n)
	err := storage.Each(ctx, n, p.Options.Concurrency, func(ctx context.Context, i int) error {
		o, err := object(ctx, i)
		if storage.IsAbsent(err) {
			stats[i].isAbsent = true
			return nil
		}
		stats[i].bytes, stats[i].modTime, stats[i].hardLinked = o.Size, o.ModTime, o.HardLinked
		return err
	})
	return stats, err
}

func (p *planner) planUploads() {
	add := func(repository int, uploads []inventory.Upload) {
		for at := range uploads {
			if u := (upload{repository, at}); p.keepsUpload(u) == "" {
				p.uploads = append(p.uploads, u)
			}
		}
	}
	add(-1, p.inv.Uploads)
	for i, r := range p.inv.Repositories {
		add(i, r.Uploads)
	}
}

// keepsUpload returns why an upload is kept, "" if it is garbage.
func (p *Plan) keepsUpload(at upload) Reason {
	u, _ := p.uploadAt(at)
	switch {
	case !p.isOld(at):
		return KeptUpload
	case p.Options.Quarantine && slices.ContainsFunc(u.Objects, func(ref storage.Ref) bool { return ref.Multipart != "" }):
		return KeptMultipart
	case !p.Options.Only.has(Upload, place{repository: at.repository, at: at.at}):
		return KeptUnselected
	case p.leftUploads[at]:
		return KeptLimit
	}
	return ""
}

// isOld reports whether an upload is older than UploadAge.
func (p *Plan) isOld(at upload) bool {
	var r *inventory.Repository
	if at.repository >= 0 {
		r = p.inv.Repositories[at.repository]
	}
	u, _ := p.uploadAt(at)
	return IsOldUpload(r, u, p.Options.Now.Add(-p.Options.UploadAge))
}

// IsOldUpload reports whether an upload was begun before a time. It is false if the start of the upload
// is not known, or if no registry could serve the name of its repository. r is nil for an upload outside
// of repositories.
func IsOldUpload(r *inventory.Repository, u inventory.Upload, before time.Time) bool {
	return (r == nil || !r.Misnamed()) && !u.Started.IsZero() && !u.Started.After(before)
}

// planRepositories plans the repositories whose objects are all removed or absent, with PruneEmpty.
func (p *planner) planRepositories() {
	if !p.Options.PruneEmpty {
		return
	}
	removed := make([]int, len(p.inv.Repositories))
	for _, kind := range table {
		if kind.count != nil && !kind.kind.isEntry() { // an entry is part of its tag
			kind.count(p.Plan, func(repository, n int) { removed[repository] += n })
		}
	}
	for i, r := range p.inv.Repositories {
		absent := p.absentOrphans[i]
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
		if removed[i]+absent == holds && !r.Misnamed() && (p.Options.PruneOnly == nil || p.Options.PruneOnly(r.Name)) && p.Options.Only.has(Repository, place{repository: i}) {
			p.repositories = append(p.repositories, i)
		}
	}
}

// planEmptied plans the empty directories of blobs, which an interrupted removal leaves. With
// PruneEmpty it also plans the empty directories at paths of repositories. These are counted in
// the report, because they may also be mount points.
func (p *planner) planEmptied() {
	p.empty = append(p.empty, p.inv.Emptied...)
	if p.Options.PruneEmpty && p.Options.PruneOnly == nil {
		p.emptyNames = p.inv.EmptiedNames
	}
}

// statBatch is the number of blobs that are statted together. It bounds the results in memory.
const statBatch = 1 << 12

func (p *planner) planBlobs(ctx context.Context) error {
	count, allExact := 0, true
	for id := range inventory.ID(p.inv.Blobs()) {
		if p.live.Blob(id) == mark.Dead {
			count++
			_, exact := p.inv.Size(id)
			allExact = allExact && exact
		}
	}
	p.blobs = make([]inventory.ID, 0, count)
	if !allExact {
		p.blobSizes = make([]int64, 0, count)
	}
	dead := make([]inventory.ID, 0, statBatch)
	for id := range inventory.ID(p.inv.Blobs()) {
		if p.live.Blob(id) == mark.Dead {
			dead = append(dead, id)
		}
		if len(dead) == statBatch {
			if err := p.planDead(ctx, dead); err != nil {
				return err
			}
			dead = dead[:0]
		}
	}
	return p.planDead(ctx, dead)
}

// planDead plans the removal of the dead blobs that exist and that no reason keeps.
func (p *planner) planDead(ctx context.Context, dead []inventory.ID) error {
	stats, err := p.statBlobs(ctx, dead)
	if err != nil {
		return err
	}
	for i, id := range dead {
		bytes, exact := p.inv.Size(id)
		if stats[i].isAbsent {
			p.empty = append(p.empty, dirOf(p.inv.BlobPath(id)))
			continue
		}
		if !exact {
			bytes = stats[i].bytes
		}
		young := p.Options.MinAge > 0 && IsYoungBlob(p.inv, id, stats[i].modTime, p.cutoff)
		if reason := p.keepsBlob(id, young); reason != "" {
			tally := p.keptBlobs[reason]
			tally.Add(1, bytes)
			p.keptBlobs[reason] = tally
			continue
		}
		p.blobs = append(p.blobs, id)
		if (stats[i].hardLinked || p.inv.HardLinked(id)) && bytes > 0 {
			p.hardLinked.add(len(p.blobs) - 1)
		}
		if p.blobSizes != nil {
			p.blobSizes = append(p.blobSizes, bytes)
		}
	}
	return nil
}

// IsYoungBlob reports whether a dead blob was written after a time. modTime is from a stat. It does not count
// if the listing had the size and so the time of the blob, which Options.Since of the inventory recorded.
func IsYoungBlob(inv *inventory.Inventory, id inventory.ID, modTime, after time.Time) bool {
	if _, exact := inv.Size(id); exact {
		return inv.Recent(id)
	}
	return modTime.After(after)
}

// keepsBlob returns why a dead blob is kept, "" if it is garbage.
func (p *planner) keepsBlob(id inventory.ID, young bool) Reason {
	switch {
	case young:
		if p.Options.Only != nil {
			p.young.add(int(id))
		}
		return KeptAge
	case !p.Options.Only.has(Blob, place{repository: -1, at: int(id)}):
		return KeptUnselected
	case p.linked.has(int(id)):
		return KeptLinked
	}
	return ""
}
