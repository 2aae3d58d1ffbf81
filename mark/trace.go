package mark

import (
	"cmp"
	"fmt"
	"slices"
	"sync"

	"regsweep/inventory"
	"regsweep/manifest"
	"regsweep/storage/layout"

	"github.com/opencontainers/go-digest"
)

// tracer marks one repository.
type tracer struct {
	inv   *inventory.Inventory
	graph *Graph
	r     *inventory.Repository

	tagMayGo func(tag int) bool
	mayGo    func(revision int) bool
	roots    []vertex // that a list names

	marks     *marks
	named     map[inventory.ID]bool // manifests by other links than a revision's
	referrers map[inventory.ID][]inventory.ID
	stages    []stage
	problems  []inventory.Problem
	reported  map[inventory.ID]bool // damaged manifests, which several stages may meet
	kept      bool

	// broken has, by digest, the place of the problem for which it can't be served.
	broken map[inventory.ID]int

	// deferred are entries of indexes that have no revision link. They are followed after
	// tags, or not at all if dropUnlinked is set.
	deferred              []vertex
	follows, dropUnlinked bool
	deleteUntagged        bool

	room []vertex // for what edges returns

	result *Repository
}

// stage is what one kind of root has added to those before it.
type stage struct {
	cause     Cause
	added     []vertex       // each digest once, whichever way it was met first
	manifests []inventory.ID // met as manifests: of added, or added as plain content before
}

// run marks the repository. Links that were checked may keep all of it.
func (t *tracer) run(checked checkedLinks) {
	t.problems = slices.Clone(t.r.Problems)
	t.kept = t.r.Kept()
	t.findReferrers()

	var tagged, recent, untagged []inventory.ID
	for i, tag := range t.r.Tags {
		if !t.tagMayGo(i) {
			tagged = append(tagged, tagRoots(tag)...)
		}
	}
	for _, v := range t.roots {
		switch n, found := t.graph.manifests.at(v.id()); {
		case v.isManifest():
			tagged = append(tagged, v.id())
		case found && n.state == intact && !t.r.HasLayer(v.id()): // see RootList.Find
			t.named[v.id()] = true
		}
	}
	tagged = append(tagged, t.r.Doubted...)
	for _, id := range tagged {
		t.named[id] = true
	}
	tagged = append(tagged, t.r.Pinned...)
	listed := slices.Clip(tagged) // and what a list names that is content here
	for _, v := range t.roots {
		listed = append(listed, v.id())
	}
	for id := range t.r.Recent {
		recent = append(recent, id)
	}
	for at, link := range t.r.Revisions {
		if !t.mayGo(at) {
			untagged = append(untagged, link.ID())
		}
	}

	t.stage(Tagged, listed)
	t.judge(tagged)
	t.stage(Recent, recent)
	t.judge(recent)
	if t.follows = !t.dropUnlinked; t.follows && len(t.deferred) > 0 {
		t.stageOf(Unlinked, t.deferred)
		t.judge(nil)
	}
	dangling := t.judgeUntagged()
	if len(untagged) > 0 {
		t.stage(Untagged, slices.DeleteFunc(untagged, func(id inventory.ID) bool { return dangling[id] }))
		t.judge(nil)
	}
	t.judgeAliases()
	unlisted := t.unlistedAliases()
	if len(checked.problems) > 0 {
		t.kept = true
		t.problems = append(t.problems, checked.problems...)
	}
	if t.kept {
		t.stage(Damage, t.everything())
		t.nameTags()
	}
	t.result = t.conclude(checked.absent, dangling)
	t.result.unlisted = unlisted
}

// addTo adds what is alive in the repository to what is alive in any.
func (t *tracer) addTo(live *Live) {
	for _, stage := range t.stages {
		for _, v := range stage.added {
			id := v.id()
			if t.inv.Stored(id) && (live.blobs[id] == Dead || stage.cause < live.blobs[id]) {
				live.blobs[id] = stage.cause
			}
		}
		for _, id := range stage.manifests {
			if n, _ := t.graph.manifests.at(id); n.state == intact {
				live.manifests.add(id)
			}
		}
	}
}

// stage reaches what it can from roots. A digest that is met both ways counts once.
func (t *tracer) stage(cause Cause, roots []inventory.ID) {
	seen := make([]vertex, len(roots))
	for i, id := range roots {
		seen[i] = t.see(plain(id))
	}
	t.stageOf(cause, seen)
}

func (t *tracer) stageOf(cause Cause, seen []vertex) {
	reached := Reach(t.marks, seen, t.edges)
	next := stage{cause: cause, added: reached[:0]}
	for _, v := range reached {
		if v.isManifest() {
			next.manifests = append(next.manifests, v.id())
		}
		if t.marks.keep(v.id(), cause) {
			next.added = append(next.added, v)
		}
	}
	t.stages = append(t.stages, next)
}

// edges are what a digest keeps alive in this repository. A blob that is no
// manifest keeps what its link is an alias for, and nothing else. Signature links are
// followed whatever the manifest says of its type: only schema 1 has them. They are valid until
// the next are asked for.
func (t *tracer) edges(v vertex) []vertex {
	id := v.id()
	edges := t.room[:0]
	if v.isManifest() {
		n, _ := t.graph.manifests.at(id)
		for _, to := range t.graph.edgesOf(n) {
			if !t.follows && to.isManifest() && n.kind != manifest.Unknown && !t.r.HasRevision(to.id()) && !t.named[to.id()] {
				t.deferred = append(t.deferred, to)
				continue
			}
			edges = append(edges, t.see(to))
		}
	}
	for _, signature := range t.r.Signatures[id] {
		edges = append(edges, t.see(plain(signature)))
	}
	if to, ok := t.r.Aliases[id]; ok {
		edges = append(edges, t.see(plain(to)))
	}
	for _, referrer := range t.referrers[id] {
		edges = append(edges, t.see(plain(referrer)))
	}
	t.room = edges
	return edges
}

// findReferrers turns subjects round. Following these edges along with the others
// is the fixpoint that the referrers of referrers need.
func (t *tracer) findReferrers() {
	for _, link := range t.r.Revisions {
		if n, found := t.graph.manifests.at(link.ID()); found && n.hasSubject {
			if t.referrers == nil {
				t.referrers = map[inventory.ID][]inventory.ID{}
			}
			t.referrers[n.subject] = append(t.referrers[n.subject], link.ID())
		}
	}
}

// judge looks for damage in what the last stage has added. Roots must be there;
// what an index names need not, if it was never pushed here.
func (t *tracer) judge(roots []inventory.ID) {
	last := t.stages[len(t.stages)-1]
	isRoot := sync.OnceValue(func() idSet {
		var all idSet
		for _, id := range roots {
			all.add(id)
		}
		return all
	})
	for _, id := range last.manifests {
		n, _ := t.graph.manifests.at(id)
		switch {
		case n.state == damaged:
			t.keep(inventory.ManifestDamaged, id, t.graph.detailOf(id, n))
		case n.state == missing && (t.r.HasRevision(id) || last.cause == Tagged && isRoot().has(id)):
			t.keep(inventory.ManifestMissing, id, t.graph.detailOf(id, n))
		case n.state == intact && n.kind == manifest.Unknown:
			t.report(inventory.ManifestUnknown, id, t.graph.detailOf(id, n), inventory.Note)
		case n.state == intact && n.kind == manifest.Index:
			t.noteSparse(id, n)
		}
	}
}

// noteSparse reports entries of an index that were never pushed to this repository.
func (t *tracer) noteSparse(id inventory.ID, n node) {
	absent, entries := 0, t.graph.edgesOf(n)
	for _, v := range entries {
		entry := v.id()
		stored := t.inv.Stored(entry)
		if of, found := t.graph.manifests.at(entry); found && of.state == missing {
			stored = false // of its blob only the directory is there
		}
		if !stored && !t.r.HasRevision(entry) && !t.r.HasLayer(entry) {
			absent++
		}
	}
	if absent > 0 {
		t.report(inventory.SparseIndex, id, fmt.Sprintf("%d of its %d entries were never pushed here", absent, len(entries)), inventory.Note)
	}
}

// judgeAliases looks at the live layer links that name another digest than their path
// does. Where that is not stored the link may have been spoilt, and nothing else tells
// which blob it led to.
func (t *tracer) judgeAliases() {
	for id, to := range t.r.Aliases {
		if t.marks.isAlive(id) && !t.inv.Stored(to) {
			t.kept = true
			t.breaks(id)
			t.reportPath(inventory.DamagedLink, layout.LayerPath(t.r.Name, t.inv.Digest(id)),
				fmt.Sprintf("names %s, which is not stored", t.inv.Digest(to)), inventory.KeepsRepository)
		}
	}
}

// unlistedAliases are live digests of another algorithm than the one that blobs are stored by, if
// their link was not listed. Nothing else leads to its blob, and they are few.
func (t *tracer) unlistedAliases() (unlisted []inventory.ID) {
	for _, stage := range t.stages {
		for _, v := range stage.added {
			id := v.id()
			if t.inv.Stored(id) || t.r.HasLayer(id) || t.r.HasRevision(id) {
				continue
			}
			if d := t.inv.Digest(id); d.Validate() == nil && d.Algorithm() != digest.SHA256 {
				unlisted = append(unlisted, id)
			}
		}
	}
	return unlisted
}

// judgeUntagged looks at the revisions that are not alive so far. One whose manifest
// is gone dangles, and can't keep anything. One that is damaged may have been the
// referrer of something alive, which only its content could tell: in doubt the
// repository is kept.
func (t *tracer) judgeUntagged() (dangling map[inventory.ID]bool) {
	dangling = map[inventory.ID]bool{}
	for _, link := range t.r.Revisions {
		id := link.ID()
		n, found := t.graph.manifests.at(id)
		if t.marks.isAlive(id) || !found {
			continue
		}
		switch n.state {
		case damaged:
			t.keep(inventory.ManifestDamaged, id, t.graph.detailOf(id, n))
		case missing:
			dangling[id] = true
			detail := "an untagged revision whose manifest is gone"
			if !t.deleteUntagged {
				detail += ": its link is removed with --delete-untagged"
			}
			t.reportPath(inventory.DanglingRevision, layout.RevisionPath(t.r.Name, t.inv.Digest(id)), detail, inventory.KeepsNothing)
		}
	}
	return dangling
}

func (t *tracer) keep(kind inventory.ProblemKind, id inventory.ID, detail string) {
	t.kept = true
	if !t.reported[id] {
		t.reported[id] = true
		t.breaks(id)
		t.report(kind, id, detail, inventory.KeepsRepository)
	}
}

// breaks notes that the next problem is that of a digest.
func (t *tracer) breaks(id inventory.ID) {
	if t.broken == nil {
		t.broken = map[inventory.ID]int{}
	}
	t.broken[id] = len(t.problems)
}

func (t *tracer) report(kind inventory.ProblemKind, id inventory.ID, detail string, effect inventory.Effect) {
	t.reportPath(kind, layout.BlobPath(t.inv.Digest(id)), detail, effect)
}

func (t *tracer) reportPath(kind inventory.ProblemKind, path, detail string, effect inventory.Effect) {
	t.problems = append(t.problems, inventory.Problem{
		Kind: kind, Repository: t.r.Name, Path: path, Detail: detail, Effect: effect,
	})
}

// everything is what the repository's links name.
func (t *tracer) everything() []inventory.ID {
	var ids []inventory.ID
	for _, link := range slices.Concat(t.r.Revisions, t.r.Layers) {
		ids = append(ids, link.ID())
	}
	for of, signatures := range t.r.Signatures {
		ids = append(append(ids, of), signatures...)
	}
	for referrer := range t.r.Referrers {
		ids = append(ids, referrer)
	}
	for _, tag := range t.r.Tags {
		for _, link := range tag.Index {
			ids = append(ids, link.ID())
		}
	}
	return ids
}

// conclude says of each link why it stays.
func (t *tracer) conclude(absent, dangling map[inventory.ID]bool) *Repository {
	out := &Repository{Kept: t.kept}
	for _, stage := range t.stages {
		if stage.cause == Tagged || len(stage.added) == 0 {
			continue
		}
		if out.Only == nil {
			out.Only = map[Cause][]inventory.ID{}
		}
		only := make([]inventory.ID, len(stage.added))
		for i, v := range stage.added {
			only[i] = v.id()
		}
		out.Only[stage.cause] = only
	}
	out.Layers = newCauses(len(t.r.Layers))
	for i, link := range t.r.Layers {
		cause := t.marks.cause(link.ID())
		if absent[link.ID()] {
			cause = Absent
		}
		out.Layers.set(i, cause)
	}
	out.Revisions = newCauses(len(t.r.Revisions))
	for i, link := range t.r.Revisions {
		cause := t.marks.cause(link.ID())
		if dangling[link.ID()] && !t.mayGo(i) {
			cause = cmp.Or(cause, Untagged) // it stays, and keeps nothing
		}
		out.Revisions.set(i, cause)
	}
	for _, tag := range t.r.Tags {
		for _, link := range tag.Index {
			if t.marks.isAlive(link.ID()) && !t.r.HasRevision(link.ID()) {
				if out.unlinked == nil {
					out.unlinked = map[inventory.ID]bool{}
				}
				out.unlinked[link.ID()] = true
			}
		}
	}
	for i, tag := range t.r.Tags {
		if t.tagMayGo(i) && !t.kept && !t.marks.isAlive(tag.Target) {
			out.DeadTags = append(out.DeadTags, i)
		}
	}
	out.Orphans = t.orphans()
	return out
}

// orphans are what a deletion through the registry's API leaves: it removes a revision's
// own link alone.
func (t *tracer) orphans() []inventory.ID {
	var orphans []inventory.ID
	add := func(id inventory.ID) {
		if !t.r.HasRevision(id) && !t.marks.isAlive(id) {
			orphans = append(orphans, id)
		}
	}
	for of := range t.r.Signatures {
		add(of)
	}
	for referrer := range t.r.Referrers {
		add(referrer)
	}
	slices.SortFunc(orphans, func(a, b inventory.ID) int { return cmp.Compare(t.inv.Digest(a), t.inv.Digest(b)) })
	return slices.Compact(orphans)
}
