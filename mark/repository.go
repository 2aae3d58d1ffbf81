package mark

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"

	"regsweep/inventory"
	"regsweep/manifest"
	"regsweep/storage/layout"

	"github.com/opencontainers/go-digest"
)

// marker marks one repository.
type marker struct {
	inv   *inventory.Inventory
	graph *Graph
	r     *inventory.Repository

	isRemoved    func(tag int) bool
	mayRemoveTag func(tag int) bool
	mayRemove    func(revision int) bool
	followers    []Follower // sorted by tag
	roots        []vertex   // from lists
	recent       map[inventory.ID]time.Time

	marks     *marks
	named     map[inventory.ID]bool           // manifests that a tag or a list names
	referrers map[inventory.ID][]inventory.ID // by subject
	stages    []stage
	problems  []inventory.Problem
	reported  map[inventory.ID]bool // damaged manifests with a problem: several stages may reach one
	kept      bool

	// broken has, for each digest that can't be served, the index of its problem.
	broken map[inventory.ID]int

	// deferred are index entries without a revision link. They are followed in the stage UnlinkedChild,
	// or not at all if dropUnlinkedChildren is set.
	deferred                      []vertex
	follows, dropUnlinkedChildren bool
	deleteUntagged                bool

	buffer []vertex // for the result of edges

	result *Repository
}

// stage has the digests that the roots of one cause keep alive, without those of the stages before.
type stage struct {
	cause     Cause
	added     []vertex       // each digest once, as it was reached first
	manifests []inventory.ID // manifests of added, and those that earlier stages reached as plain content
}

// run marks the repository. A problem of the checked links keeps all of it.
func (m *marker) run(checked checkedLinks) {
	m.problems = slices.Clone(m.r.Problems)
	m.kept = m.r.Kept()
	m.findReferrers()

	var tagged, recent, untagged []inventory.ID
	for i, tag := range m.r.Tags {
		if _, follows := m.follower(i); !follows && !m.isRemoved(i) && !m.mayRemoveTag(i) {
			tagged = append(tagged, tag.Roots()...)
		}
	}
	for _, v := range m.roots {
		switch n, found := m.graph.manifests.at(v.id()); {
		case v.isManifest():
			tagged = append(tagged, v.id())
		case found && n.state == intact && !m.r.HasLayer(v.id()): // see RootList.Find
			m.named[v.id()] = true
		}
	}
	tagged = append(tagged, m.r.Doubted...)
	for _, id := range tagged {
		m.named[id] = true
	}
	tagged = append(tagged, m.r.Pinned...)
	listed := slices.Clip(tagged) // with the roots from lists, also those that are plain content here
	for _, v := range m.roots {
		listed = append(listed, v.id())
	}
	for id := range m.recent {
		recent = append(recent, id)
	}
	for at, link := range m.r.Revisions {
		if !m.mayRemove(at) {
			untagged = append(untagged, link.ID())
		}
	}

	m.stage(Tagged, listed)
	m.checkManifests(tagged)
	m.stage(Recent, recent)
	m.checkManifests(recent)
	if m.follows = !m.dropUnlinkedChildren; m.follows && len(m.deferred) > 0 {
		m.stageOf(UnlinkedChild, m.deferred)
		m.checkManifests(nil)
	}
	dangling := m.checkUntagged()
	if len(untagged) > 0 {
		m.stage(Untagged, slices.DeleteFunc(untagged, func(id inventory.ID) bool { return dangling[id] }))
		m.checkManifests(nil)
	}
	m.checkAliases()
	unlisted := m.unlistedAliases()
	if len(checked.problems) > 0 {
		m.kept = true
		m.problems = append(m.problems, checked.problems...)
	}
	if m.kept { // its tags stay, too
		for _, tag := range m.r.Tags {
			if tag.HasTarget {
				m.named[tag.Target] = true
			}
		}
		m.stage(Damage, m.allLinked())
		m.nameTags()
	}
	m.result = m.conclude(checked.absent, dangling)
	m.result.unlisted = unlisted
}

// addTo adds the live blobs and manifests of the repository to live.
func (m *marker) addTo(live *Live) {
	for _, stage := range m.stages {
		for _, v := range stage.added {
			id := v.id()
			if m.inv.Stored(id) && (live.blobs[id] == Dead || stage.cause < live.blobs[id]) {
				live.blobs[id] = stage.cause
			}
		}
		for _, id := range stage.manifests {
			if n, _ := m.graph.manifests.at(id); n.state == intact {
				live.manifests.add(id)
			}
		}
	}
}

// stage marks all digests that the roots reach. A digest that is reached both as a manifest and as
// content counts once.
func (m *marker) stage(cause Cause, roots []inventory.ID) {
	seen := make([]vertex, len(roots))
	for i, id := range roots {
		seen[i] = m.asReached(plain(id))
	}
	m.stageOf(cause, seen)
}

func (m *marker) stageOf(cause Cause, seen []vertex) {
	reached := Reach(m.marks, seen, m.edges)
	next := stage{cause: cause, added: reached[:0]}
	for _, v := range reached {
		if v.isManifest() {
			next.manifests = append(next.manifests, v.id())
		}
		if m.marks.keep(v.id(), cause) {
			next.added = append(next.added, v)
		}
	}
	m.stages = append(m.stages, next)
}

// edges returns the digests that a digest keeps alive in this repository: the references of a manifest,
// its signatures, the digest in an alias link, and last the referrers. Signature links are followed for
// all types of manifests; only schema 1 has them. The result is valid until the next call.
func (m *marker) edges(v vertex) []vertex {
	id := v.id()
	edges := m.buffer[:0]
	if v.isManifest() {
		n, _ := m.graph.manifests.at(id)
		for _, to := range m.graph.edgesOf(n) {
			if !m.follows && to.isManifest() && n.kind != manifest.Unknown && !m.r.HasRevision(to.id()) && !m.named[to.id()] {
				m.deferred = append(m.deferred, to)
				continue
			}
			edges = append(edges, m.asReached(to))
		}
	}
	for _, signature := range m.r.Signatures[id] {
		edges = append(edges, m.asReached(plain(signature)))
	}
	if to, ok := m.r.Aliases[id]; ok {
		edges = append(edges, m.asReached(plain(to)))
	}
	for _, referrer := range m.referrers[id] {
		edges = append(edges, m.asReached(plain(referrer)))
	}
	m.buffer = edges
	return edges
}

// follow sets followers.
func (m *marker) follow(all []Follower) {
	m.followers = all
	for _, f := range all {
		m.named[m.r.Tags[f.Tag].Target] = true // also if its own revision is gone
	}
}

// follower returns what a tag follows.
func (m *marker) follower(tag int) (f Follower, follows bool) {
	at, follows := slices.BinarySearchFunc(m.followers, tag, func(f Follower, tag int) int { return cmp.Compare(f.Tag, tag) })
	if follows {
		f = m.followers[at]
	}
	return f, follows
}

// findReferrers sets referrers: the manifests with a subject, and those of tags that follow one. They are
// followed like all other edges, so referrers of referrers are reached too.
func (m *marker) findReferrers() {
	add := func(subject, referrer inventory.ID) {
		if m.referrers == nil {
			m.referrers = map[inventory.ID][]inventory.ID{}
		}
		m.referrers[subject] = append(m.referrers[subject], referrer)
	}
	for _, link := range m.r.Revisions {
		if n, found := m.graph.manifests.at(link.ID()); found && n.hasSubject {
			add(n.subject, link.ID())
		}
	}
	for _, f := range m.followers {
		if f.IsGone {
			continue
		}
		add(f.Subject, m.r.Tags[f.Tag].Target)
		for _, id := range f.Earlier {
			add(f.Subject, id)
		}
	}
}

// checkManifests reports damaged and missing manifests of the last stage. A root must be stored. An
// index entry need not be stored if it has no revision link.
func (m *marker) checkManifests(roots []inventory.ID) {
	last := m.stages[len(m.stages)-1]
	isRoot := sync.OnceValue(func() idSet {
		var all idSet
		for _, id := range roots {
			all.add(id)
		}
		return all
	})
	for _, id := range last.manifests {
		n, _ := m.graph.manifests.at(id)
		switch {
		case n.isDamaged():
			m.keep(inventory.ManifestDamaged, id, m.graph.detailOf(id, n))
		case n.state == missing && (m.r.HasRevision(id) || last.cause == Tagged && isRoot().has(id)):
			m.keep(inventory.ManifestMissing, id, m.graph.detailOf(id, n))
		case n.state == intact && n.kind == manifest.Unknown:
			m.report(inventory.ManifestUnknown, id, m.graph.detailOf(id, n), inventory.Note)
		case n.state == intact && n.kind == manifest.Index:
			m.noteSparse(id, n)
		}
	}
}

// noteSparse reports entries of an index that were never pushed to this repository.
func (m *marker) noteSparse(id inventory.ID, n node) {
	absent, entries := 0, m.graph.edgesOf(n)
	for _, v := range entries {
		entry := v.id()
		stored := m.inv.Stored(entry)
		if of, found := m.graph.manifests.at(entry); found && of.state == missing {
			stored = false // only the directory of its blob exists
		}
		if !stored && !m.r.HasRevision(entry) && !m.r.HasLayer(entry) {
			absent++
		}
	}
	if absent > 0 {
		m.report(inventory.SparseIndex, id, fmt.Sprintf("%d of its %d entries were never pushed here", absent, len(entries)), inventory.Note)
	}
}

// checkAliases checks the live layer links that contain another digest than their path has. If that
// digest is not stored, the link may be damaged. The blob that it named is then unknown, so the
// repository is kept.
func (m *marker) checkAliases() {
	for id, to := range m.r.Aliases {
		if m.marks.isAlive(id) && !m.inv.Stored(to) {
			m.kept = true
			m.noteBroken(id)
			m.reportPath(inventory.DamagedLink, layout.LayerPath(m.r.Name, m.inv.Digest(id)),
				fmt.Sprintf("names %s, which is not stored", m.inv.Digest(to)), inventory.KeepsRepository)
		}
	}
}

// unlistedAliases returns the live digests of other algorithms than SHA-256 whose link was not listed.
// Only this link leads to their blobs. There are few of them.
func (m *marker) unlistedAliases() (unlisted []inventory.ID) {
	for _, stage := range m.stages {
		for _, v := range stage.added {
			id := v.id()
			if m.inv.Stored(id) || m.r.HasLayer(id) || m.r.HasRevision(id) {
				continue
			}
			if d := m.inv.Digest(id); d.Validate() == nil && d.Algorithm() != digest.SHA256 {
				unlisted = append(unlisted, id)
			}
		}
	}
	return unlisted
}

// checkUntagged checks the revisions that no stage has reached so far. It returns the ones whose
// manifest is missing: they keep nothing. If a manifest is damaged, the repository is kept, because the
// manifest could be a referrer of a live one.
func (m *marker) checkUntagged() (dangling map[inventory.ID]bool) {
	dangling = map[inventory.ID]bool{}
	for _, link := range m.r.Revisions {
		id := link.ID()
		n, found := m.graph.manifests.at(id)
		if m.marks.isAlive(id) || !found {
			continue
		}
		switch n.state {
		case damaged, malformed:
			m.keep(inventory.ManifestDamaged, id, m.graph.detailOf(id, n))
		case missing:
			dangling[id] = true
			detail := "an untagged revision whose manifest is gone"
			if !m.deleteUntagged {
				detail += ": its link is removed with --delete-untagged"
			}
			m.reportPath(inventory.DanglingRevision, layout.RevisionPath(m.r.Name, m.inv.Digest(id)), detail, inventory.KeepsNothing)
		}
	}
	return dangling
}

func (m *marker) keep(kind inventory.ProblemKind, id inventory.ID, detail string) {
	m.kept = true
	if !m.reported[id] {
		m.reported[id] = true
		m.noteBroken(id)
		m.report(kind, id, detail, inventory.KeepsRepository)
	}
}

// noteBroken records that the digest can't be served because of the next problem.
func (m *marker) noteBroken(id inventory.ID) {
	if m.broken == nil {
		m.broken = map[inventory.ID]int{}
	}
	m.broken[id] = len(m.problems)
}

func (m *marker) report(kind inventory.ProblemKind, id inventory.ID, detail string, effect inventory.Effect) {
	m.reportPath(kind, layout.BlobPath(m.inv.Digest(id)), detail, effect)
}

func (m *marker) reportPath(kind inventory.ProblemKind, path, detail string, effect inventory.Effect) {
	m.problems = append(m.problems, inventory.Problem{
		Kind: kind, Repository: m.r.Name, Path: path, Detail: detail, Effect: effect,
	})
}

// allLinked returns the digests that the repository's links name.
func (m *marker) allLinked() []inventory.ID {
	var ids []inventory.ID
	for _, link := range slices.Concat(m.r.Revisions, m.r.Layers) {
		ids = append(ids, link.ID())
	}
	for of, signatures := range m.r.Signatures {
		ids = append(append(ids, of), signatures...)
	}
	for referrer := range m.r.Referrers {
		ids = append(ids, referrer)
	}
	for at, tag := range m.r.Tags {
		if !tag.HasTarget && m.mayRemoveTag != nil && m.mayRemoveTag(at) {
			continue // a what-if without the tag
		}
		if tag.HasTarget {
			ids = append(ids, tag.Target)
		}
		for _, link := range tag.Index {
			ids = append(ids, link.ID())
		}
	}
	return ids
}

// conclude returns the result of the mark. absent are the layer links that do not exist, and dangling
// are the revisions without a manifest.
func (m *marker) conclude(absent, dangling map[inventory.ID]bool) *Repository {
	out := &Repository{Kept: m.kept}
	for _, stage := range m.stages {
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
	out.Layers = newCauses(len(m.r.Layers))
	for i, link := range m.r.Layers {
		cause := m.marks.cause(link.ID())
		if absent[link.ID()] {
			cause = Absent
		}
		out.Layers.set(i, cause)
	}
	out.Revisions = newCauses(len(m.r.Revisions))
	for i, link := range m.r.Revisions {
		cause := m.marks.cause(link.ID())
		if dangling[link.ID()] && !m.mayRemove(i) {
			cause = cmp.Or(cause, Untagged) // only the link is kept
		}
		out.Revisions.set(i, cause)
	}
	for _, tag := range m.r.Tags {
		for _, link := range tag.Index {
			if m.marks.isAlive(link.ID()) && !m.r.HasRevision(link.ID()) {
				if out.aliveEntries == nil {
					out.aliveEntries = map[inventory.ID]bool{}
				}
				out.aliveEntries[link.ID()] = true
			}
		}
	}
	for i, tag := range m.r.Tags {
		isDead := m.isRemoved(i) || m.mayRemoveTag(i) && tag.HasTarget && !m.marks.isAlive(tag.Target)
		if f, follows := m.follower(i); follows {
			isDead = f.IsGone || !m.marks.isAlive(f.Subject)
		}
		if isDead && !m.kept {
			out.DeadTags = append(out.DeadTags, i)
		}
	}
	out.Orphans = m.orphans()
	return out
}

// orphans returns Repository.Orphans. A deletion through the registry's API leaves them: it removes
// only the revision's own link.
func (m *marker) orphans() []inventory.ID {
	var orphans []inventory.ID
	add := func(id inventory.ID) {
		if !m.r.HasRevision(id) && !m.marks.isAlive(id) {
			orphans = append(orphans, id)
		}
	}
	for of := range m.r.Signatures {
		add(of)
	}
	for referrer := range m.r.Referrers {
		add(referrer)
	}
	slices.SortFunc(orphans, func(a, b inventory.ID) int { return cmp.Compare(m.inv.Digest(a), m.inv.Digest(b)) })
	return slices.Compact(orphans)
}
