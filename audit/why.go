package audit

import (
	"cmp"
	"context"
	"runtime"
	"slices"
	"time"

	"regsweep/inventory"
	"regsweep/manifest"
	"regsweep/mark"
	"regsweep/storage"

	"github.com/opencontainers/go-digest"
)

// Why says why a digest is kept, or by which flags it would be removed.
type Why struct {
	Digest digest.Digest `json:"digest"`
	Kind   Kind          `json:"kind,omitempty"` // of a stored blob
	Bytes  int64         `json:"bytes"`
	Stored bool          `json:"stored"`
	// Kept is set if a gc without flags keeps it.
	Kept bool `json:"kept"`
	// RemovedBy is the command that would remove it as things are, "" if there is none.
	RemovedBy string `json:"removed_by,omitempty"`
	// Chains are the shortest ways from a root to the digest. More is the number of all others. It is
	// Most if there are at least so many, or if cycles of referrers make them too many to count.
	Chains [][]Link `json:"chains"`
	More   int64    `json:"more"`
	// Repositories are the repositories with a chain, sorted by name.
	Repositories []Holder `json:"repositories"`
	// ToFree are the tags and untagged manifests that would have to be removed to free it.
	ToFree []string `json:"to_free"`
	// RemovedWith are the blobs that would be removed together with it.
	RemovedWith RemovedWith `json:"removed_with"`
	// FreedIfGone are the bytes that would be freed if nothing held it any more, without the
	// garbage of today.
	FreedIfGone int64 `json:"freed_if_gone"`

	id   inventory.ID
	gone []inventory.ID // stored blobs that would be removed with it, itself included
}

// Link is one element of a chain. The first is a root: a tag, an untagged revision, or damage. Its digest
// is that of the second. The last element is the digest that was asked for.
type Link struct {
	Kind       LinkKind      `json:"kind"`
	Repository string        `json:"repository"`
	Name       string        `json:"name"` // of a tag; of damage, the kind of the problem
	Digest     digest.Digest `json:"digest"`
}

// LinkKind is the kind of an element.
type LinkKind string

// The kinds of elements. The first three are roots.
const (
	TagLink       LinkKind = "tag"
	RevisionLink  LinkKind = "revision"
	DamageLink    LinkKind = "damage"
	IndexLink     LinkKind = "index"
	ManifestLink  LinkKind = "manifest"
	ConfigLink    LinkKind = "config"
	LayerLink     LinkKind = "layer"
	ReferrerLink  LinkKind = "referrer" // the element before it is its subject
	SignatureLink LinkKind = "signature"
	BlobLink      LinkKind = "blob" // plain content that is neither a config nor a layer
)

// Holder is a repository that keeps a digest.
type Holder struct {
	Name string `json:"name"`
	// Tags reach the digest, sorted. Pushed has the times at which they were pushed, as far as known.
	Tags   []string             `json:"tags"`
	Pushed map[string]time.Time `json:"pushed"`
	// Since is the earliest of these times.
	Since time.Time `json:"since,omitzero"`
	// Revisions are the untagged manifests that reach it.
	Revisions []digest.Digest `json:"revisions"`
	// Damage is the kind of the problem that keeps all of the repository, "" if there is none.
	Damage inventory.ProblemKind `json:"damage,omitempty"`

	repository int                   // in the inventory
	tags       []int                 // indexes in the repository
	removed    map[inventory.ID]bool // Revisions
	chains     [][]Link
	count      int64
}

// RemovedWith are blobs that would be removed together with another.
type RemovedWith struct {
	Blobs   int         `json:"blobs"`
	Bytes   int64       `json:"bytes"`
	Largest []SizedBlob `json:"largest"`
}

// SizedBlob is a blob with its use and its size.
type SizedBlob struct {
	Digest digest.Digest `json:"digest"`
	Kind   Kind          `json:"kind"`
	Bytes  int64         `json:"bytes"`
}

// NewWhy returns an answer without any chains.
func NewWhy(of digest.Digest) Why {
	return Why{
		Digest: of, Chains: [][]Link{}, Repositories: []Holder{}, ToFree: []string{},
		RemovedWith: RemovedWith{Largest: []SizedBlob{}},
	}
}

// Marker marks again, with other roots.
type Marker func(ctx context.Context, roots mark.Roots) (*mark.Live, error)

// Explain says why a digest is kept, with at most limit chains. Blobs and Tags of the result say which
// sizes and times Sum needs.
func (f Facts) Explain(ctx context.Context, id inventory.ID, limit int, marker Marker) (*Why, error) {
	answer := NewWhy(f.Inventory.Digest(id))
	w := &answer
	w.id, w.Stored = id, f.Inventory.Listed(id)
	w.Kept = w.Stored && (!f.Inventory.Stored(id) || f.Live.Blob(id).Alive())
	if err := f.findHolders(ctx, w, limit); err != nil {
		return nil, err
	}
	if !f.Inventory.Stored(id) {
		return w, nil
	}
	w.Kind = Kinds[kindsOf(f.Inventory, f.Graph)[id]]
	if !w.Kept {
		w.RemovedBy, w.gone = "gc", f.deadBelow(id)
		return w, nil
	}
	if err := f.findRemovedBy(ctx, w, marker); err != nil {
		return nil, err
	}
	after, err := marker(ctx, f.withoutHolders(w.Repositories))
	if err != nil {
		return nil, err
	}
	for id := range inventory.ID(f.Inventory.Blobs()) {
		if f.Live.Blob(id).Alive() && !after.Blob(id).Alive() {
			w.gone = append(w.gone, id)
		}
	}
	if after.Blob(id).Alive() { // damage keeps it all the same
		w.gone = append(w.gone, id)
	}
	return w, nil
}

// findHolders finds the chains in all repositories.
func (f Facts) findHolders(ctx context.Context, w *Why, limit int) error {
	isAncestor := f.ancestors(w.id)
	holders := make([]*Holder, len(f.Inventory.Repositories))
	err := storage.Each(ctx, len(holders), runtime.GOMAXPROCS(0), func(_ context.Context, i int) error {
		holders[i] = f.findHolder(i, w.id, isAncestor, limit)
		return nil
	})
	if err != nil {
		return err
	}
	for _, h := range holders {
		if h == nil {
			continue
		}
		w.Repositories = append(w.Repositories, *h)
		w.Chains = append(w.Chains, h.chains...)
		w.More = sumCounts(w.More, h.count)
		for _, tag := range h.Tags {
			w.ToFree = append(w.ToFree, h.Name+":"+tag)
		}
		for _, revision := range h.Revisions {
			w.ToFree = append(w.ToFree, h.Name+"@"+string(revision))
		}
	}
	slices.SortStableFunc(w.Chains, func(a, b []Link) int { return cmp.Compare(len(a), len(b)) })
	w.Chains = w.Chains[:min(limit, len(w.Chains))]
	if w.More < Most {
		w.More -= int64(len(w.Chains))
	}
	return nil
}

// root is the beginning of chains.
type root struct {
	kind LinkKind
	tag  int
	id   inventory.ID
}

// findHolder finds the chains in one repository. It returns nil if there are none.
func (f Facts) findHolder(i int, target inventory.ID, isAncestor []bool, limit int) *Holder {
	r := f.Inventory.Repositories[i]
	var roots []root
	for tag := range r.Tags {
		for _, id := range r.Tags[tag].Roots() {
			if isAncestor[id] {
				roots = append(roots, root{TagLink, tag, id})
			}
		}
	}
	tags := len(roots)
	for at, link := range r.Revisions {
		// A revision without a manifest keeps nothing.
		if isAncestor[link.ID()] && f.Live.Repositories[i].Revisions.At(at) == mark.Untagged && !f.Graph.Missing(link.ID()) {
			roots = append(roots, root{kind: RevisionLink, id: link.ID()})
		}
	}
	slices.SortFunc(roots[tags:], func(a, b root) int { return f.compareDigests(a.id, b.id) })
	isKept := f.Live.Repositories[i].Kept
	if len(roots) == 0 && !isKept && len(r.Pinned)+len(r.Doubted) == 0 {
		return nil
	}
	view := f.Graph.View(i)
	h := f.newHolder(i, view, roots, target, isAncestor, limit)
	isDamage := h.count == 0 // nothing else is left as a reason
	if isDamage {
		h = f.newHolder(i, view, f.damageRoots(i, view, isAncestor), target, isAncestor, min(1, limit))
		h.count = min(1, h.count)
	}
	if h.count == 0 {
		return nil
	}
	if isDamage || isKept || f.isPinned(i, target, view) {
		h.Damage = f.damageOf(i)
	}
	for _, chain := range h.chains {
		if chain[0].Kind == DamageLink {
			chain[0].Name = string(h.Damage)
		}
	}
	return h
}

// damageRoots returns the digests that damage keeps in a repository.
func (f Facts) damageRoots(i int, view *mark.View, isAncestor []bool) (roots []root) {
	ids := slices.Concat(f.Inventory.Repositories[i].Pinned, f.Inventory.Repositories[i].Doubted)
	if f.Live.Repositories[i].Kept {
		ids = append(ids, view.Linked()...)
	}
	slices.SortFunc(ids, f.compareDigests)
	for _, id := range slices.Compact(ids) {
		if isAncestor[id] {
			roots = append(roots, root{kind: DamageLink, id: id})
		}
	}
	return roots
}

// isPinned reports whether a link whose path is not understood leads to a digest.
func (f Facts) isPinned(i int, target inventory.ID, view *mark.View) bool {
	r := f.Inventory.Repositories[i]
	if len(r.Pinned)+len(r.Doubted) == 0 {
		return false
	}
	_, found := slices.BinarySearch(view.Kept(slices.Concat(r.Pinned, r.Doubted)...), target)
	return found
}

// damageOf returns the kind of the problem that keeps digests in a repository: one that keeps all of it,
// or else a link whose path is not understood.
func (f Facts) damageOf(i int) inventory.ProblemKind {
	for _, p := range f.Live.Problems {
		if p.Repository == f.Inventory.Repositories[i].Name && p.Effect == inventory.KeepsRepository {
			return p.Kind
		}
	}
	return inventory.UnknownLinkAlgorithm
}

// newHolder finds the chains from some roots of a repository.
func (f Facts) newHolder(i int, view *mark.View, roots []root, target inventory.ID, isAncestor []bool, limit int) *Holder {
	r := f.Inventory.Repositories[i]
	h := &Holder{
		Name: r.Name, Tags: []string{}, Pushed: map[string]time.Time{}, Revisions: []digest.Digest{},
		repository: i, removed: map[inventory.ID]bool{},
	}
	ids := make([]inventory.ID, len(roots))
	for i, root := range roots {
		ids[i] = root.id
	}
	p, found := f.findPaths(view, ids, target, isAncestor)
	roots = slices.DeleteFunc(roots, func(of root) bool { _, leads := found[of.id]; return !leads })
	from := make([]int, len(roots))
	for i, root := range roots {
		from[i] = found[root.id]
		h.count = sumCounts(h.count, p.count(from[i]))
		switch root.kind {
		case TagLink:
			if n := len(h.tags); n == 0 || h.tags[n-1] != root.tag {
				h.tags, h.Tags = append(h.tags, root.tag), append(h.Tags, r.Tags[root.tag].Name)
			}
		case RevisionLink:
			h.removed[root.id] = true
			h.Revisions = append(h.Revisions, f.Inventory.Digest(root.id))
		}
	}
	for _, path := range p.shortest(from, limit) {
		h.chains = append(h.chains, f.chain(r, roots[path.root], p, path))
	}
	return h
}

// chain returns the elements of a path.
func (f Facts) chain(r *inventory.Repository, root root, p *paths, path path) []Link {
	link := func(kind LinkKind, id inventory.ID) Link {
		return Link{Kind: kind, Repository: r.Name, Digest: f.Inventory.Digest(id)}
	}
	first := p.vertices[path.first]
	chain := []Link{link(root.kind, root.id), link(f.kindReached(first, mark.EntryEdge), first.id)}
	if root.kind == TagLink {
		chain[0].Name = r.Tags[root.tag].Name
	}
	for _, a := range path.arcs {
		chain = append(chain, link(f.kindReached(p.vertices[a.to], a.kind), p.vertices[a.to].id))
	}
	return chain
}

// kindReached returns the kind of the element for a digest that an edge has reached.
func (f Facts) kindReached(v vertex, by mark.EdgeKind) LinkKind {
	form, _ := f.Graph.Form(v.id)
	switch {
	case by == mark.ReferrerEdge:
		return ReferrerLink
	case by == mark.SignatureEdge:
		return SignatureLink
	case by == mark.ConfigEdge && !v.isManifest:
		return ConfigLink
	case by == mark.LayerEdge && !v.isManifest:
		return LayerLink
	case !v.isManifest:
		return BlobLink
	case form.Kind == manifest.Index:
		return IndexLink
	}
	return ManifestLink
}

// withoutHolders returns the roots of a run that removes all tags and untagged manifests that hold a
// digest, and the manifests that only these tags reach.
func (f Facts) withoutHolders(holders []Holder) mark.Roots {
	byRepository := map[int]Holder{}
	for _, h := range holders {
		byRepository[h.repository] = h
	}
	roots := f.Without(func(repository, tag int) bool {
		_, holds := slices.BinarySearch(byRepository[repository].tags, tag)
		return holds
	})
	isRoot := roots.Revision
	roots.Revision = func(repository, revision int) bool {
		id := f.Inventory.Repositories[repository].Revisions[revision].ID()
		return isRoot(repository, revision) && !byRepository[repository].removed[id]
	}
	return roots
}

// findRemovedBy finds the flags of gc by which a blob that is alive would be removed.
func (f Facts) findRemovedBy(ctx context.Context, w *Why, marker Marker) error {
	if f.Live.Blob(w.id) == mark.Tagged {
		return nil
	}
	for _, choice := range []struct { // also for what damage keeps: the damage may be that of an untagged manifest
		command string
		roots   mark.Roots
	}{
		{"gc -m", mark.Roots{Revision: mark.None}},
		{"gc --delete-unlinked-children", mark.Roots{DeleteUnlinkedChildren: true}},
		{"gc -m --delete-unlinked-children", mark.Roots{Revision: mark.None, DeleteUnlinkedChildren: true}},
	} {
		live, err := marker(ctx, choice.roots)
		if err != nil {
			return err
		}
		if !live.Blob(w.id).Alive() {
			w.RemovedBy = choice.command
			return nil
		}
	}
	return nil
}

// deadBelow returns a blob and the stored blobs that only garbage refers to and that it reaches.
func (f Facts) deadBelow(id inventory.ID) []inventory.ID {
	return mark.Reach(mark.MapSet[inventory.ID]{}, []inventory.ID{id}, func(id inventory.ID) (below []inventory.ID) {
		for to := range f.Graph.Edges(id) {
			if f.Inventory.Stored(to) && !f.Live.Blob(to).Alive() {
				below = append(below, to)
			}
		}
		return below
	})
}

// Blobs returns the blobs whose sizes Sum needs.
func (w *Why) Blobs(f Facts) []inventory.ID {
	if !f.Inventory.Stored(w.id) {
		return w.gone
	}
	return append(slices.Clip(w.gone), w.id)
}

// Tags returns the tags whose times Sum needs.
func (w *Why) Tags() (tags []inventory.TagPlace) {
	for _, h := range w.Repositories {
		for _, tag := range h.tags {
			tags = append(tags, inventory.TagPlace{Repository: h.repository, Tag: tag})
		}
	}
	return tags
}

// Sum adds the sizes and times. absent has the blobs that Inventory.Measure has not found.
func (w *Why) Sum(f Facts, absent map[inventory.ID]bool) {
	if f.Inventory.Stored(w.id) {
		w.Bytes = f.size(w.id)
	}
	if absent[w.id] {
		w.Stored, w.Kept, w.RemovedBy, w.Kind = false, false, "", ""
	}
	w.gone = slices.DeleteFunc(w.gone, func(id inventory.ID) bool { return absent[id] })
	kinds := kindsOf(f.Inventory, f.Graph)
	for _, id := range w.gone {
		size := f.size(id)
		if w.Kept && !f.Inventory.HardLinked(id) {
			w.FreedIfGone += size
		}
		if id != w.id {
			w.RemovedWith.Blobs++
			w.RemovedWith.Bytes += size
			w.RemovedWith.Largest = append(w.RemovedWith.Largest, SizedBlob{f.Inventory.Digest(id), Kinds[kinds[id]], size})
		}
	}
	slices.SortFunc(w.RemovedWith.Largest, func(a, b SizedBlob) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Digest, b.Digest))
	})
	w.RemovedWith.Largest = w.RemovedWith.Largest[:min(mostRemovedWith, len(w.RemovedWith.Largest))]
	for i := range w.Repositories {
		w.Repositories[i].date(f.Inventory.Repositories[w.Repositories[i].repository])
	}
}

// mostRemovedWith is the number of blobs in RemovedWith.Largest.
const mostRemovedWith = 100

// date adds the times of the tags.
func (h *Holder) date(r *inventory.Repository) {
	for _, tag := range h.tags {
		pushed := r.TagPushed(tag)
		if pushed.IsZero() {
			continue
		}
		h.Pushed[r.Tags[tag].Name] = pushed.UTC()
		if h.Since.IsZero() || pushed.Before(h.Since) {
			h.Since = pushed.UTC()
		}
	}
}
