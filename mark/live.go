package mark

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"regsweep/inventory"
	"regsweep/manifest"
	"regsweep/storage"
	"regsweep/storage/layout"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

// Options are the zero value for an ordinary run.
type Options struct {
	// DeleteUntagged makes a revision live only if something else keeps it alive.
	DeleteUntagged bool
	// MayGo, if set, bounds DeleteUntagged to the revisions of which it says so, by their
	// place in the inventory: all others are live as without it. It is called from several
	// goroutines at once.
	MayGo func(repository, revision int) bool
	// DeleteUnlinked lets go what an index reaches by a manifest alone that the repository has
	// no revision link for: one that was deleted through the registry's API.
	DeleteUnlinked bool
	// Roots are roots beside those that the storage has. With OnlyRoots they are the only ones:
	// tags and revisions are none, but for a tag without a target, and one that may not go.
	Roots     []*Roots
	OnlyRoots bool
	// TagMayGo, if set, bounds OnlyRoots as MayGo bounds DeleteUntagged.
	TagMayGo func(repository, tag int) bool
	// Concurrency is how many manifests are read at once; 32 if it is 0.
	Concurrency int
	// Ahead, if set, has read some of the manifests of this inventory.
	Ahead *Ahead
	// OnManifests, if set, is told how many manifests there are to read. OnRead, if
	// set, is told how many more have been, from several goroutines at once.
	OnManifests, OnRead func(n int)
}

// Cause is why something is alive: the first in this order that holds.
type Cause uint8

// The causes. Each but Dead is also a stage of the mark.
const (
	Dead     Cause = iota // nothing keeps it
	Tagged                // a tag reaches it, or a referrer of what a tag reaches
	Recent                // a link that names it is younger than the minimum age
	Unlinked              // an index reaches it by a manifest that was deleted from the repository
	Untagged              // only an untagged revision reaches it
	Damage                // a damaged repository could reach it
	Absent                // a link of which only an empty directory is left
)

// Alive reports whether something is kept for the cause.
func (c Cause) Alive() bool { return c != Dead && c != Absent }

// Live is what is alive in an Inventory. It is not changed once made.
type Live struct {
	// Repositories are in the order of the inventory's.
	Repositories []*Repository
	// Problems were met in manifests; those of the inventory come first.
	Problems []inventory.Problem
	// Manifests is the number of intact manifests that are alive.
	Manifests int

	blobs []Cause // by ID of a stored blob
}

// Blob says why a stored blob is alive, in whatever repository.
func (l *Live) Blob(id inventory.ID) Cause { return l.blobs[id] }

// Repository is what is alive in one repository. A digest that is alive in one need
// not be in another.
type Repository struct {
	// Kept is set where damage keeps all links of the repository.
	Kept bool
	// Revisions and Layers say why the repository's links stay, in their order.
	Revisions, Layers Causes
	// Only has, for the causes Recent, Untagged and Damage, the digests that are
	// alive in this repository for nothing better, if there are any.
	Only map[Cause][]inventory.ID

	// DeadTags are the places of tags that are removed, since their target is not alive. There are
	// some with Options.OnlyRoots alone.
	DeadTags []int
	// Orphans are manifests that are not alive and have no revision link, and whose
	// signature or referrer link is left. They are sorted by digest.
	Orphans []inventory.ID

	// unlinked are the digests in tag indexes that are alive though the
	// repository has no revision link for them.
	unlinked map[inventory.ID]bool
}

// Unlinked reports whether a digest that a tag's index names is alive though the
// repository has no revision link for it.
func (r *Repository) Unlinked(id inventory.ID) bool { return r.unlinked[id] }

// Run marks all repositories.
//
// Without DeleteUntagged every revision is a root; with it, tags are, and referrers of
// what they reach. A storage that fails is an error and nothing is known then. A
// manifest that is damaged keeps, in every repository where it is alive, all that
// the repository's links name: a manifest can only lead to what is linked there.
func Run(ctx context.Context, inv *inventory.Inventory, reader storage.Reader, options Options) (*Live, error) {
	m := &manifests{
		reading: reading{inv, reader, roomForLarge()},
		limit:   cmp.Or(options.Concurrency, 32), onRead: options.OnRead,
	}
	named := m.named()
	if options.OnManifests != nil {
		options.OnManifests(named.len())
	}
	for _, roots := range options.Roots {
		if err := m.readUnlinked(ctx, &named, roots.unlinked); err != nil {
			return nil, fmt.Errorf("mark: %w", err)
		}
	}
	if err := m.load(ctx, named, options.Ahead.take(inv)); err != nil {
		return nil, fmt.Errorf("mark: %w", err)
	}
	live := &Live{
		Repositories: make([]*Repository, len(inv.Repositories)),
		Problems:     slices.Clone(inv.Problems),
		blobs:        make([]Cause, inv.Blobs()),
	}
	problems := make([][]inventory.Problem, len(inv.Repositories))
	intactAlive := map[inventory.ID]struct{}{}
	var mu, large sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, r := range inv.Repositories {
		g.Go(func() error {
			links := len(r.Revisions) + len(r.Layers)
			if links >= largeRepository {
				large.Lock()
				defer large.Unlock()
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			t := &tracer{
				inv: inv, nodes: &m.nodes, r: r, reader: reader, limit: m.limit,
				deleteUntagged: options.DeleteUntagged,
				marks:          newMarks(links, inv.Digests()), named: map[inventory.ID]bool{}, reported: map[inventory.ID]bool{},
			}
			defer t.marks.release()
			var err error
			t.tagMayGo = func(tag int) bool {
				return options.OnlyRoots && r.Tags[tag].HasTarget && (options.TagMayGo == nil || options.TagMayGo(i, tag))
			}
			t.dropUnlinked = options.DeleteUnlinked
			for _, roots := range options.Roots {
				t.roots = append(t.roots, roots.of[i]...)
			}
			mayGo := func(revision int) bool {
				return options.DeleteUntagged && (options.MayGo == nil || options.MayGo(i, revision))
			}
			if live.Repositories[i], err = t.run(ctx, mayGo); err != nil {
				return fmt.Errorf("%s: %w", r.Name, err)
			}
			problems[i] = t.problems
			mu.Lock()
			defer mu.Unlock()
			t.addTo(live, intactAlive)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, fmt.Errorf("mark: %w", err)
	}
	unlinked, err := m.markUnlinked(options.Roots)
	if err != nil {
		return nil, fmt.Errorf("mark: %w", err)
	}
	unlinked.addTo(live, intactAlive)
	for _, p := range problems {
		// Links are read concurrently, and a dry run must read like the real one.
		slices.SortFunc(p, inventory.CompareProblems)
		live.Problems = append(live.Problems, p...)
	}
	for _, id := range m.unlisted {
		live.Problems = append(live.Problems, inventory.UnlistedBlob(inv.Digest(id)))
	}
	live.Manifests = len(intactAlive)
	return live, nil
}

// largeRepository is a number of links from which a repository is marked with no other such
// one beside it: what is in use meanwhile counts among millions.
const largeRepository = 1 << 20

// tracer marks one repository.
type tracer struct {
	inv    *inventory.Inventory
	nodes  *nodes
	r      *inventory.Repository
	reader storage.Reader
	limit  int

	tagMayGo func(tag int) bool
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
}

// stage is what one kind of root has added to those before it.
type stage struct {
	cause     Cause
	added     []vertex       // each digest once, whichever way it was met first
	manifests []inventory.ID // met as manifests: of added, or added as plain content before
}

func (t *tracer) run(ctx context.Context, mayGo func(revision int) bool) (*Repository, error) {
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
		switch n := t.nodes.at(v.id()); {
		case v.isManifest():
			tagged = append(tagged, v.id())
		case n != nil && n.state == intact && !t.r.HasLayer(v.id()): // see RootList.Find
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
		if !mayGo(at) {
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
	if err := t.findAliases(ctx); err != nil {
		return nil, err
	}
	absent, err := t.checkDying(ctx)
	if err != nil {
		return nil, err
	}
	if t.kept {
		t.stage(Damage, t.everything())
		t.nameTags()
	}
	return t.result(absent, dangling, mayGo), nil
}

// addTo adds what is alive in the repository to what is alive in any.
func (t *tracer) addTo(live *Live, intactAlive map[inventory.ID]struct{}) {
	for _, stage := range t.stages {
		for _, v := range stage.added {
			id := v.id()
			if t.inv.Stored(id) && (live.blobs[id] == Dead || stage.cause < live.blobs[id]) {
				live.blobs[id] = stage.cause
			}
		}
		for _, id := range stage.manifests {
			if t.nodes.at(id).state == intact {
				intactAlive[id] = struct{}{}
			}
		}
	}
}

// checkDying reads the layer links that are about to go and were known by their
// directories alone. One that is damaged raises the doubt that keeps a repository;
// one that is not there is none.
func (t *tracer) checkDying(ctx context.Context) (absent map[inventory.ID]bool, err error) {
	absent = map[inventory.ID]bool{}
	if t.kept {
		return absent, nil
	}
	var dying []inventory.ID
	for _, link := range t.r.Layers {
		if !link.Verified() && !t.marks.isAlive(link.ID()) {
			dying = append(dying, link.ID())
		}
	}
	dying, err = inventory.InDoubt(ctx, t.reader, t.inv, t.r.Name, dying, t.limit)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex // guards absent, kept and problems
	err = storage.Each(ctx, len(dying), t.limit, func(ctx context.Context, i int) error {
		path := layout.LayerPath(t.r.Name, t.inv.Digest(dying[i]))
		exists, damage, err := inventory.CheckLink(ctx, t.reader, path)
		if err != nil {
			return err
		}
		if !exists && !t.r.LayerDirs {
			exists, damage = true, "was listed and is not found"
		}
		mu.Lock()
		defer mu.Unlock()
		if !exists {
			absent[dying[i]] = true
		} else if damage != "" {
			t.kept = true
			t.reportPath(inventory.DamagedLink, path, damage, inventory.KeepsRepository)
		}
		return nil
	})
	return absent, err
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
		n := t.nodes.at(id)
		for _, to := range n.edges {
			if n.perhaps[to.id()] && t.nodes.at(to.id()) != nil && t.nodes.at(to.id()).isKnown() {
				to |= asManifest
			}
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
		if n := t.nodes.at(link.ID()); n != nil && n.hasSubject {
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
		n := t.nodes.at(id)
		switch {
		case n.state == damaged:
			t.keep(inventory.ManifestDamaged, id, n.detail)
		case n.state == missing && (t.r.HasRevision(id) || last.cause == Tagged && isRoot().has(id)):
			t.keep(inventory.ManifestMissing, id, n.detail)
		case n.state == intact && n.kind == manifest.Unknown:
			t.report(inventory.ManifestUnknown, id, n.detail, inventory.Note)
		case n.state == intact && n.kind == manifest.Index:
			t.noteSparse(id, n)
		}
	}
}

// noteSparse reports entries of an index that were never pushed to this repository.
func (t *tracer) noteSparse(id inventory.ID, n *node) {
	absent := 0
	for _, v := range n.edges {
		entry := v.id()
		stored := t.inv.Stored(entry)
		if entryNode := t.nodes.at(entry); entryNode != nil && entryNode.state == missing {
			stored = false // of its blob only the directory is there
		}
		if !stored && !t.r.HasRevision(entry) && !t.r.HasLayer(entry) {
			absent++
		}
	}
	if absent > 0 {
		t.report(inventory.SparseIndex, id, fmt.Sprintf("%d of its %d entries were never pushed here", absent, len(n.edges)), inventory.Note)
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

// findAliases looks for the links of live digests of other algorithms than the one that
// blobs are stored by. Where such a link was not listed nothing else leads to its blob, and
// they are few.
func (t *tracer) findAliases(ctx context.Context) error {
	for _, stage := range t.stages {
		for _, v := range stage.added {
			id := v.id()
			if t.inv.Stored(id) || t.r.HasLayer(id) || t.r.HasRevision(id) {
				continue
			}
			if d := t.inv.Digest(id); d.Validate() == nil && d.Algorithm() != digest.SHA256 {
				if err := t.findAlias(ctx, d); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (t *tracer) findAlias(ctx context.Context, d digest.Digest) error {
	path := layout.LayerPath(t.r.Name, d)
	exists, _, err := inventory.CheckLink(ctx, t.reader, path)
	if exists {
		t.kept = true
		t.reportPath(inventory.Unlisted, path, "it is there, and the listing lacks it: the listing is not whole", inventory.KeepsRepository)
	}
	return err
}

// judgeUntagged looks at the revisions that are not alive so far. One whose manifest
// is gone dangles, and can't keep anything. One that is damaged may have been the
// referrer of something alive, which only its content could tell: in doubt the
// repository is kept.
func (t *tracer) judgeUntagged() (dangling map[inventory.ID]bool) {
	dangling = map[inventory.ID]bool{}
	for _, link := range t.r.Revisions {
		id := link.ID()
		n := t.nodes.at(id)
		if t.marks.isAlive(id) || n == nil {
			continue
		}
		switch n.state {
		case damaged:
			t.keep(inventory.ManifestDamaged, id, n.detail)
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

// result says of each link why it stays.
func (t *tracer) result(absent, dangling map[inventory.ID]bool, mayGo func(revision int) bool) *Repository {
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
		if dangling[link.ID()] && !mayGo(i) {
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
