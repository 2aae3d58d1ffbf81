package verify

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"regsweep/inventory"
	"regsweep/manifest"
	"regsweep/mark"
	"regsweep/storage/layout"

	"github.com/opencontainers/go-digest"
)

// Facts are all that is known of a storage. Judge reads nothing else.
type Facts struct {
	Inventory *inventory.Inventory // with Options.Sizes
	Graph     *mark.Graph
	Links     *Links
	// Blobs has the faults of blobs, by their ids. A blob under another algorithm than sha256, to
	// which a layer link leads, has the id of the digest in the path of the link if only that digest is
	// wrong.
	Blobs map[inventory.ID]Fault
}

// Result is what Judge has found.
type Result struct {
	// Findings are sorted: those that break most tags come first.
	Findings []*Finding
	// Broken are the tags of which a complete pull fails, sorted by repository and name.
	Broken []BrokenTag
}

// BrokenTag is a tag of which a complete pull fails.
type BrokenTag struct {
	Repository, Tag string
	// Partial is set if the tag leads to an index, and at least one image in it can be pulled.
	Partial bool

	curable bool // an image of it could be pulled once its links were written again

	judge  *judge
	own    []*Finding // of the tag itself
	target inventory.ID
}

// assess sets what the findings that hold say about the tag.
func (b *BrokenTag) assess(holds func(*Finding) bool) {
	canPull := func(prevents func(*Finding) bool) bool {
		counts := func(f *Finding) bool { return holds(f) && prevents(f) }
		return b.judge != nil && !slices.ContainsFunc(b.own, counts) && b.judge.canPull(b.target, counts, map[inventory.ID]bool{})
	}
	b.Partial = canPull((*Finding).breaks) && b.judge.checked[b.target].isIndex
	b.curable = canPull(func(f *Finding) bool { return !f.isOfLink() })
}

// Judge finds what a registry could not serve. It does no I/O. The error is that of ctx.
//
// A pull by a tag needs the current link of the tag. Each manifest needs a revision link, and its blob.
// Everything else that a manifest names needs a layer link, and a blob of the size that the manifest
// says. A link must be exactly its digest. (registry/storage/tagstore.go and linkedblobstore.go of
// Distribution.) A referrer is not part of a pull of its subject.
func Judge(ctx context.Context, facts Facts) (*Result, error) {
	var mu sync.Mutex
	out, named := &Result{}, map[inventory.ID]bool{}
	err := facts.Graph.EachRepository(ctx, func(_ context.Context, i int) error {
		j := &judge{
			Facts: facts, r: facts.Inventory.Repositories[i], links: facts.Links.of[i],
			damaged: map[string]string{}, found: map[findingKey]*Finding{}, checked: map[inventory.ID]*checked{}, plain: map[inventory.ID]bool{},
		}
		j.repository()
		mu.Lock()
		defer mu.Unlock()
		out.Findings = append(out.Findings, j.findings...)
		out.Broken = append(out.Broken, j.broken...)
		for id := range j.faulty {
			named[id] = true
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	out.Findings = append(out.Findings, outside(facts, named)...)
	out.sort()
	return out, nil
}

func (r *Result) sort() {
	for _, f := range r.Findings {
		f.Tags = append([]string{}, f.Tags...) // never null in the report
		slices.SortFunc(f.Images, func(a, b Image) int { return cmp.Compare(a.Digest, b.Digest) })
	}
	slices.SortFunc(r.Findings, func(a, b *Finding) int {
		return cmp.Or(-cmp.Compare(len(a.Tags), len(b.Tags)), cmp.Compare(a.Repository, b.Repository),
			cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Path, b.Path), cmp.Compare(a.Detail, b.Detail))
	})
	slices.SortFunc(r.Broken, func(a, b BrokenTag) int {
		return cmp.Or(cmp.Compare(a.Repository, b.Repository), cmp.Compare(a.Tag, b.Tag))
	})
}

// outside returns the findings outside of repositories, and those about blobs that no repository needs. named
// are the faulty blobs that other findings name.
func outside(facts Facts, named map[inventory.ID]bool) (findings []*Finding) {
	inv := facts.Inventory
	for _, p := range inv.Problems {
		e := layout.Parse(p.Path)
		if p.Kind == inventory.Stray && (e.Kind != layout.Blob || !inv.Listed(inv.ID(e.Digest.Digest()))) {
			findings = append(findings, &Finding{Kind: Stray, Repository: p.Repository, Path: p.Path, Detail: "not part of a registry's layout"})
		}
	}
	for id, fault := range facts.Blobs {
		if d := inv.Digest(id); !named[id] && fault.State != Missing { // only the directory of an unneeded blob exists
			findings = append(findings, &Finding{Kind: DamagedBlob, Path: layout.BlobPath(d), Digest: d, Detail: "nothing that can be pulled needs it: " + fault.Detail, blob: d})
		}
	}
	return findings
}

// judge judges one repository.
type judge struct {
	Facts
	r     *inventory.Repository
	links repositoryLinks

	damaged  map[string]string // the problems of links that the inventory has read, by path
	findings []*Finding
	found    map[findingKey]*Finding
	checked  map[inventory.ID]*checked
	plain    map[inventory.ID]bool // configs and layers that a manifest names
	faulty   map[inventory.ID]bool // the blobs whose faults are in findings
	broken   []BrokenTag
}

// findingKey is what makes two findings of a repository one.
type findingKey struct {
	kind Kind
	of   inventory.ID
}

// checked is a manifest whose findings are known.
type checked struct {
	own, parts []*Finding // of the manifest itself, and of the configs, layers and missing entries that it names
	children   []inventory.ID
	isIndex    bool
	isImage    bool // not an attestation or a signature
}

func (j *judge) repository() {
	for _, p := range j.r.Problems {
		switch p.Kind {
		case inventory.DamagedLink:
			j.damaged[p.Path] = p.Detail
		case inventory.Stray, inventory.UnknownLinkAlgorithm:
			j.findings = append(j.findings, &Finding{Kind: Stray, Repository: j.r.Name, Path: p.Path, Detail: "not part of a registry's layout"})
		}
	}
	j.findings = append(j.findings, j.links.others...)
	var all []inventory.ID
	for _, l := range j.r.Revisions {
		all = append(all, l.ID())
	}
	for _, tag := range j.r.Tags {
		if tag.HasTarget {
			all = append(all, tag.Target)
		}
	}
	for next := 0; next < len(all); next++ { // the children are appended
		if j.checked[all[next]] == nil {
			all = append(all, j.manifest(all[next]).children...)
		}
	}
	j.checkTags()
	j.checkUnneeded()
}

// report adds a finding, or returns the one that is known already.
func (j *judge) report(kind Kind, path string, id inventory.ID, detail string) *Finding {
	key := findingKey{kind, id}
	f := j.found[key]
	if f == nil {
		d := j.Inventory.Digest(id)
		f = &Finding{Kind: kind, Repository: j.r.Name, Path: path, Digest: d, Detail: detail, blob: d}
		j.found[key] = f
		j.findings = append(j.findings, f)
	}
	return f
}

// manifest checks a manifest and what it names.
func (j *judge) manifest(id inventory.ID) *checked {
	c := &checked{}
	j.checked[id] = c
	d := j.Inventory.Digest(id)
	own := func(kind Kind, path, detail string) *Finding {
		f := j.report(kind, path, id, detail)
		f.isManifest, f.Images = true, []Image{{Digest: d}}
		c.own = append(c.own, f)
		return f
	}
	path, blobPath := layout.RevisionPath(j.r.Name, d), layout.BlobPath(d)
	if detail, isDamaged := j.damaged[path]; isDamaged {
		own(DamagedRevisionLink, path, "the link "+detail)
	} else if !j.r.HasRevision(id) {
		own(MissingRevisionLink, path, "the repository has no link to the manifest")
	}
	form, isIntact := j.Graph.Form(id)
	fault, isFaulty := j.Blobs[id]
	detail, isContent, isDamaged := j.Graph.Damage(id)
	switch {
	case isDamaged && isContent:
		own(DamagedManifest, blobPath, detail).isMalformed = true
	case isDamaged:
		j.isFaulty(id)
		own(DamagedManifest, blobPath, cmp.Or(fault.Detail, detail))
	case !isIntact || isFaulty && fault.State == Missing:
		j.isFaulty(id)
		own(MissingManifest, blobPath, "its blob is missing")
	case isFaulty:
		j.isFaulty(id)
		own(DamagedManifest, blobPath, fault.Detail)
	case form.Kind == manifest.Unknown:
		own(UnknownManifestType, blobPath, detailOfUnknown)
		return c // what it needs is not known
	case j.Graph.Refused(id) != "":
		own(UnknownManifestType, blobPath, j.Graph.Refused(id))
	}
	c.isIndex, c.isImage = form.Kind == manifest.Index, form.Purpose == manifest.ForImages
	claims := j.Graph.Claims(id)
	for to, isManifest := range j.Graph.Edges(id) {
		at := slices.IndexFunc(claims, func(c mark.Claim) bool { return c.Of == to })
		switch {
		case isManifest || c.isIndex && (j.Graph.Missing(to) || j.r.HasRevision(to)):
			c.children = append(c.children, to)
			if _, _, isDamaged := j.Graph.Damage(to); at >= 0 && claims[at].Bytes >= 0 && !isDamaged && j.Blobs[to] == (Fault{}) {
				c.parts = append(c.parts, j.wrongSize(id, to, claims[at].Bytes))
			}
		case c.isIndex && !j.r.HasLayer(to) && !j.Inventory.Listed(to):
			f := j.part(c, id, SparseIndex, layout.BlobPath(j.Inventory.Digest(to)), to, "an index names it, and nobody pushed it here")
			f.isManifest = true
		case at >= 0 && claims[at].HasURLs && !(j.r.HasLayer(to) && j.Inventory.Listed(to) && j.Blobs[to].State != Missing):
			// Clients fetch it from a URL if the registry does not have it.
		default:
			claim := int64(0)
			if at >= 0 {
				claim = max(claims[at].Bytes, 0)
			}
			j.content(c, id, to, claim)
			if at >= 0 && claims[at].Bytes >= 0 && j.Blobs[to] == (Fault{}) {
				c.parts = append(c.parts, j.wrongSize(id, to, claims[at].Bytes))
			}
		}
	}
	return c
}

const detailOfUnknown = "its type is not one that registries serve"

// part reports the fault of something that a manifest names.
func (j *judge) part(c *checked, of inventory.ID, kind Kind, path string, id inventory.ID, detail string) *Finding {
	f := j.report(kind, path, id, detail)
	if n := len(f.needers); n == 0 || f.needers[n-1] != of {
		f.needers = append(f.needers, of)
		f.Images = append(f.Images, Image{Digest: j.Inventory.Digest(of)})
	}
	c.parts = append(c.parts, f)
	return f
}

// content checks a config, a layer, or an entry that is no manifest. claim is its size according to the manifest.
func (j *judge) content(c *checked, of, id inventory.ID, claim int64) {
	d := j.Inventory.Digest(id)
	j.layerLink(c, of, id)
	blob, isAlias := j.r.Aliases[id]
	if !isAlias {
		blob = id
		_, isDamaged := j.damaged[layout.LayerPath(j.r.Name, d)]
		if d.Algorithm() != digest.SHA256 && !j.Inventory.Listed(id) && (isDamaged || !j.r.HasLayer(id)) {
			return // only its link could tell which blob it is
		}
	} else if blob != id {
		j.layerLink(c, of, blob) // a registry reads the link to the blob, too
	}
	fault, isFaulty := j.Blobs[blob]
	if !isFaulty {
		fault, isFaulty = j.Blobs[id]
	}
	var f *Finding
	switch blobPath := layout.BlobPath(j.Inventory.Digest(blob)); {
	case !j.Inventory.Listed(blob), isFaulty && fault.State == Missing:
		f = j.part(c, of, MissingBlob, blobPath, id, "its blob is missing")
	case isFaulty:
		f = j.part(c, of, DamagedBlob, blobPath, id, fault.Detail)
	default:
		return
	}
	f.blob, f.bytes = j.Inventory.Digest(blob), max(f.bytes, claim)
	j.isFaulty(blob)
	j.isFaulty(id)
}

// layerLink checks a layer link that a manifest needs.
func (j *judge) layerLink(c *checked, of, id inventory.ID) {
	j.plain[id] = true
	d := j.Inventory.Digest(id)
	path := layout.LayerPath(j.r.Name, d)
	fault, isFaulty := j.links.layers[id]
	if detail, isDamaged := j.damaged[path]; isDamaged {
		fault, isFaulty = linkFault{Fault: Fault{Wrong, "the link " + detail}}, true
	}
	switch {
	case !j.r.HasLayer(id) || isFaulty && fault.State == Missing:
		j.part(c, of, MissingLayerLink, path, id, "the repository has no link to the blob")
	case isFaulty && fault.names != "" && j.links.layers[j.Inventory.ID(fault.names)].names == d:
		// A registry follows a layer link twice. So two links that were swapped do no harm.
		j.report(DamagedLayerLink, path, id, fault.Detail).isSwapped = true
	case isFaulty:
		j.part(c, of, DamagedLayerLink, path, id, fault.Detail)
	}
}

// isFaulty records that a finding names the fault of a blob.
func (j *judge) isFaulty(id inventory.ID) {
	if j.faulty == nil {
		j.faulty = map[inventory.ID]bool{}
	}
	j.faulty[id] = true
}

// wrongSize reports a manifest that gives a wrong size for an intact blob. Nothing but a new push of the image
// cures that.
func (j *judge) wrongSize(of, id inventory.ID, claim int64) *Finding {
	bytes, _ := j.Inventory.Size(id)
	d := j.Inventory.Digest(of)
	f := &Finding{
		Kind: WrongSize, Repository: j.r.Name, Path: layout.BlobPath(j.Inventory.Digest(id)), Digest: j.Inventory.Digest(id),
		Images: []Image{{Digest: d}}, needers: []inventory.ID{of}, blob: j.Inventory.Digest(id),
		Detail: fmt.Sprintf("%s says that it has %d bytes, and it has %d", d, claim, bytes),
	}
	j.findings = append(j.findings, f)
	return f
}

// checkTags finds the tags that each finding breaks.
func (j *judge) checkTags() {
	var unnamed *Finding
	if j.r.Misnamed() {
		unnamed = j.own(BadRepositoryName, layout.RepositoryPath(j.r.Name), "no client can name the repository")
	}
	below := map[inventory.ID][]*Finding{} // by target
	for i, tag := range j.r.Tags {
		var breaking []*Finding
		path := layout.TagPath(j.r.Name, tag.Name)
		if unnamed != nil {
			breaking = append(breaking, unnamed)
		}
		if !layout.ValidTag(tag.Name) {
			breaking = append(breaking, j.own(BadTagName, path, "no client can name the tag"))
		}
		if detail, isDamaged := j.damaged[path]; isDamaged {
			f := j.own(DamagedTagLink, path, "the link "+detail)
			if tag.HasTarget { // there is white space around it
				f.blob = j.Inventory.Digest(tag.Target)
			}
			breaking = append(breaking, f)
		} else if !tag.HasTarget {
			breaking = append(breaking, j.own(TagWithoutCurrent, path, "the tag has an index and no current link"))
		}
		own := breaking
		if tag.HasTarget {
			known, isKnown := below[tag.Target]
			if !isKnown {
				known = j.below(tag.Target)
				below[tag.Target] = known
			}
			breaking = append(breaking, known...)
		}
		for _, f := range breaking {
			f.Tags = append(f.Tags, tag.Name)
		}
		if len(breaking) > 0 {
			broken := BrokenTag{Repository: j.r.Name, Tag: tag.Name, own: own, target: tag.Target}
			if tag.HasTarget {
				broken.judge = j
			}
			broken.assess(func(*Finding) bool { return true })
			j.broken = append(j.broken, broken)
		}
		j.checkIndex(&j.r.Tags[i])
	}
	for _, name := range j.links.emptyTags {
		j.own(TagWithoutCurrent, layout.TagPath(j.r.Name, name), "the tag has a directory and no links").Tags = []string{name}
		j.broken = append(j.broken, BrokenTag{Repository: j.r.Name, Tag: name})
	}
}

// own adds a finding about a tag or a repository, which has no digest.
func (j *judge) own(kind Kind, path, detail string) *Finding {
	f := &Finding{Kind: kind, Repository: j.r.Name, Path: path, Detail: detail}
	j.findings = append(j.findings, f)
	return f
}

// below returns the findings that break a pull of a manifest, each once.
func (j *judge) below(root inventory.ID) (findings []*Finding) {
	seen := map[*Finding]bool{}
	for _, id := range mark.Reach(mark.MapSet[inventory.ID]{}, []inventory.ID{root}, func(id inventory.ID) []inventory.ID { return j.checked[id].children }) {
		for _, f := range slices.Concat(j.checked[id].own, j.checked[id].parts) {
			if !seen[f] {
				seen[f] = true
				findings = append(findings, f)
			}
		}
	}
	return findings
}

// canPull reports whether an image can be pulled, or at least one image of an index. Only the findings that count
// prevent it.
func (j *judge) canPull(id inventory.ID, counts func(*Finding) bool, seen map[inventory.ID]bool) bool {
	c := j.checked[id]
	if seen[id] || slices.ContainsFunc(c.own, counts) {
		return false
	}
	seen[id] = true
	if c.isIndex && len(c.children) > 0 {
		return slices.ContainsFunc(c.children, func(child inventory.ID) bool { return j.canPull(child, counts, seen) })
	}
	return c.isImage && !slices.ContainsFunc(c.parts, counts)
}

// checkIndex reports the entries in the index of a tag that have no revision.
func (j *judge) checkIndex(tag *inventory.Tag) {
	for _, l := range tag.Index {
		if id := l.ID(); !j.r.HasRevision(id) && !(tag.HasTarget && id == tag.Target) {
			d := j.Inventory.Digest(id)
			j.findings = append(j.findings, &Finding{
				Kind: StaleIndexEntry, Repository: j.r.Name, Path: layout.TagIndexPath(j.r.Name, tag.Name, d), Digest: d,
				Detail: "the index of the tag " + tag.Name + " names a manifest that the repository has no link to",
			})
		}
	}
}

// checkUnneeded reports the faults of layer links that no manifest needs.
func (j *judge) checkUnneeded() {
	for _, l := range j.r.Layers {
		id := l.ID()
		fault, isFaulty := j.links.layers[id]
		if j.plain[id] || isFaulty && fault.State == Missing {
			continue
		}
		d := j.Inventory.Digest(id)
		path := layout.LayerPath(j.r.Name, d)
		blob, isAlias := j.r.Aliases[id]
		if !isAlias {
			blob = id
		}
		detail, isDamaged := j.damaged[path]
		switch {
		case isFaulty:
			j.report(DamagedLayerLink, path, id, fault.Detail)
		case isDamaged:
			j.report(DamagedLayerLink, path, id, "the link "+detail)
		case !j.Inventory.Listed(blob) || j.Blobs[blob].State == Missing:
			j.report(DanglingLayerLink, path, id, "no manifest needs it, and its blob is missing")
		}
	}
	for _, path := range slices.Sorted(maps.Keys(j.damaged)) {
		if e := layout.Parse(path); e.Kind != layout.Tag && e.Kind != layout.Revision && e.Kind != layout.Layer {
			j.findings = append(j.findings, &Finding{Kind: DamagedLink, Repository: j.r.Name, Path: path, Detail: j.damaged[path]})
		}
	}
}
