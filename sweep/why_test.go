package sweep_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"regsweep/audit"
	"regsweep/internal/audittest"
	"regsweep/inventory"
	"regsweep/manifest"
	"regsweep/mark"
	"regsweep/storage"

	"github.com/opencontainers/go-digest"
)

// In registries of all sorts, the chains of each blob are all the paths that the oracle finds from tags and
// untagged manifests, the shortest first, and what the blob would free is the size of the files that go.
func TestWhyOfRandomRegistries(t *testing.T) {
	for seed := *seedFlag; seed < *seedFlag+uint64(seeds()); seed++ {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			d := generate(seed, seed%3 == 0, seed%2 == 0)
			testWhy(t, d, d.put(t))
			if t.Failed() {
				t.Logf("again: go test ./sweep -run TestWhyOfRandomRegistries -seed %d -seeds 1", seed)
			}
		})
	}
}

// factsOf reads a registry as audit, why and graph do at the time of these tests.
func factsOf(t *testing.T, root string, options inventory.Options) (audit.Facts, storage.Store) {
	t.Helper()
	facts, store := audittest.Read(t, root, options)
	facts.Now, facts.UploadAge = now, uploadAge
	return facts, store
}

// whyAge is a --min-age that some files of a registry are younger than.
const whyAge = 24 * time.Hour

func testWhy(t *testing.T, d *disk, root string) {
	facts, store := factsOf(t, root, inventory.Options{})
	inv := facts.Inventory
	asking := audit.WhyOptions{Limit: 100_000, Reader: store, Concurrency: 4}
	askingFew := asking
	askingFew.Limit = 2
	aged, _ := factsOf(t, root, inventory.Options{Since: now.Add(-whyAge)})
	askingAged := asking
	askingAged.MinAge = whyAge
	o := newOracle(d, rules{})
	_, goneAged := judge(d, rules{minAge: whyAge})
	_, goneToday := judge(d, rules{})
	_, goneUntagged := judge(d, rules{deleteUntagged: true})
	_, goneUnlinked := judge(d, rules{deleteUnlinkedChildren: true})
	_, goneBoth := judge(d, rules{deleteUntagged: true, deleteUnlinkedChildren: true})
	for path := range d.files {
		of, isBlob := storedBlob(path)
		if !isBlob {
			continue
		}
		id, _ := inv.Find(digest.Digest(of))
		why, err := facts.Explain(t.Context(), id, asking)
		if err != nil {
			t.Fatal(err)
		}
		want := o.chains(of)
		got := chainTexts(why.Chains)
		if slices.Sort(got); !slices.Equal(got, want) || why.More != 0 {
			t.Errorf("%s: %d more; chains\n%s\nwant\n%s", of, why.More, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if !slices.IsSortedFunc(why.Chains, func(a, b []audit.Link) int { return len(a) - len(b) }) {
			t.Errorf("%s: a longer chain comes before a shorter one", of)
		}
		for _, h := range why.Repositories {
			if h.Damage != "" && h.Damage != firstDamage(facts.Live.Problems, h.Name) {
				t.Errorf("%s: %s keeps it because of %s, want the first problem", of, h.Name, h.Damage)
			}
		}
		if few, err := facts.Explain(t.Context(), id, askingFew); err != nil || int(few.More)+len(few.Chains) != len(want) ||
			!slices.Equal(chainTexts(few.Chains), chainTexts(why.Chains[:len(few.Chains)])) {
			t.Errorf("%s: with a limit there are %d chains and %d more, want %d in all (%v)", of, len(few.Chains), few.More, len(want), err)
		}
		if why.Kept == goneToday[path] || why.Kept != (len(want) > 0) {
			t.Errorf("%s: kept %v, and gc removes it %v, with %d chains", of, why.Kept, goneToday[path], len(want))
		}
		removedBy := ""
		switch {
		case goneToday[path]:
			removedBy = "gc"
		case goneUntagged[path]:
			removedBy = "gc -m"
		case goneUnlinked[path]:
			removedBy = "gc --delete-unlinked-children"
		case goneBoth[path]:
			removedBy = "gc -m --delete-unlinked-children"
		}
		if why.RemovedBy != removedBy {
			t.Errorf("%s: removed by %q, want %q", of, why.RemovedBy, removedBy)
		}
		id, _ = aged.Inventory.Find(digest.Digest(of))
		young, err := aged.Explain(t.Context(), id, askingAged)
		if err != nil {
			t.Fatal(err)
		}
		switch byAge := goneToday[path] && !goneAged[path]; {
		case !byAge && (young.Kept != why.Kept || len(young.Chains) != len(why.Chains) || !young.KeptUntil.IsZero()):
			t.Errorf("%s: with --min-age kept %v until %v, with %d chains", of, young.Kept, young.KeptUntil, len(young.Chains))
		case byAge && (!young.Kept || young.RemovedBy != "gc" || len(young.Chains) == 0 || young.Chains[0][0].Kind != audit.AgeLink):
			t.Errorf("%s: its age keeps it, and not %+v", of, young)
		case byAge:
			// It is kept until then, and not longer.
			for left, want := range map[time.Duration]bool{time.Nanosecond: true, 0: false} {
				_, goneThen := judge(d, rules{minAge: whyAge - young.KeptUntil.Sub(now) + left})
				if goneThen[path] == want {
					t.Errorf("%s: kept until %v, which is not when it gets old", of, young.KeptUntil)
				}
			}
		}
		if got, want := why.FreedIfGone, o.freedWithout(d, inv, why, path); why.Kept && got != want {
			t.Errorf("%s: frees %d bytes, want %d", of, got, want)
		}
	}
}

// firstDamage is the kind of the first problem that keeps a repository. In other repositories, damage keeps only
// what a link of an unknown algorithm names.
func firstDamage(problems []inventory.Problem, repository string) inventory.ProblemKind {
	for _, p := range problems {
		if p.Repository == repository && p.Effect == inventory.KeepsRepository {
			return p.Kind
		}
	}
	return inventory.UnknownLinkAlgorithm
}

// In registries of all sorts, the graph of a tag has what the oracle reaches from it, the graph of a
// repository also what untagged manifests reach, and the base of an image is the image with the most
// layers that are its first ones.
func TestGraphsOfRandomRegistries(t *testing.T) {
	bases, derived := 0, 0
	for seed := *seedFlag; seed < *seedFlag+uint64(seeds()); seed++ {
		d := generate(seed, seed%3 == 0, false)
		b, on := testGraphs(t, d, d.put(t))
		bases, derived = bases+b, derived+on
		if t.Failed() {
			t.Fatalf("again: go test ./sweep -run TestGraphsOfRandomRegistries -seed %d -seeds 1", seed)
		}
	}
	if seeds() > 20 && (bases == 0 || derived == 0) {
		t.Errorf("%d images had a base, and %d others were based on one", bases, derived)
	}
}

// testGraphs returns the number of images that have a base, and of images of other repositories whose base is
// in the picture.
func testGraphs(t *testing.T, d *disk, root string) (bases, derived int) {
	facts, store := factsOf(t, root, inventory.Options{})
	o := newOracle(d, rules{})
	draw := func(images string) *audit.Picture {
		p, err := facts.Draw(t.Context(), images, store, 1)
		if err != nil {
			t.Fatalf("%q: %v", images, err)
		}
		return p
	}
	layers := map[string][]string{}
	for path, f := range d.files {
		of, isBlob := storedBlob(path)
		id, _ := facts.Inventory.Find(digest.Digest(of))
		if _, wasRead := facts.Graph.Form(id); isBlob && wasRead {
			layers[of] = imageLayers(f.content)
		}
	}
	for _, r := range facts.Inventory.Repositories {
		of := o.repos[r.Name]
		all := o.tagRoots(of)
		for _, tag := range r.Tags {
			o.wantPicture(t, draw(r.Name+":"+tag.Name), of, o.targets(of, tag.Name))
		}
		for revision := range of.revisions {
			all = append(all, revision)
			o.wantPicture(t, draw(r.Name+"@"+revision), of, []string{revision})
		}
		p := draw(r.Name)
		shown := o.wantPicture(t, p, of, all)
		got := map[string][]audit.Base{}
		for _, b := range p.Bases {
			got[b.Image.String()] = append(got[b.Image.String()], b)
		}
		for image, on := range layers {
			most := 0
			for _, other := range layers {
				if len(other) < len(on) && slices.Equal(other, on[:len(other)]) {
					most = max(most, len(other))
				}
			}
			isBase := func(of string) bool { return slices.Equal(layers[of], on[:most]) }
			hasShownBase := most > 0 && slices.ContainsFunc(slices.Collect(maps.Keys(shown)), isBase)
			rows := got[image]
			switch {
			case len(rows) > 1 || most == 0 && len(rows) > 0 || len(rows) == 0 && most > 0 && (shown[image] || hasShownBase):
				t.Errorf("%s: %s has the bases %+v, want an image with %d of its layers", r.Name, image, rows, most)
			case len(rows) == 1 && (rows[0].Layers != most || !isBase(rows[0].Base.String()) || hasShownBase && !shown[rows[0].Base.String()]):
				t.Errorf("%s: %s is based on %+v, want %d layers", r.Name, image, rows[0], most)
			case len(rows) == 1 && shown[image]:
				bases++
			case len(rows) == 1 && hasShownBase:
				derived++
			}
		}
	}
	return bases, derived
}

// wantPicture checks the nodes and the edges of a picture. It returns the digests that are shown.
func (o *oracle) wantPicture(t *testing.T, p *audit.Picture, r *repo, roots []string) map[string]bool {
	t.Helper()
	want := o.reached(r, roots, true)
	got := map[string]bool{}
	for _, n := range p.Nodes {
		got[n.Digest.String()] = true
	}
	if !maps.Equal(got, want) || len(got) != len(p.Nodes) {
		t.Errorf("%s: %d nodes %v, want %v", p.Repository, len(p.Nodes), got, want)
	}
	edges := map[[2]string]mark.EdgeKind{}
	for _, e := range p.Edges {
		edges[[2]string{e.From.Digest.String(), e.To.Digest.String()}] = e.Kind
	}
	if wantEdges := o.edges(r, roots); !maps.Equal(edges, wantEdges) || len(edges) != len(p.Edges) {
		t.Errorf("%s: %d edges %v, want %v", p.Repository, len(p.Edges), edges, wantEdges)
	}
	return want
}

// edges has the kinds of the edges of what roots reach in a repository. Of several edges between two digests it
// has the first that leads to a manifest, or the first.
func (o *oracle) edges(r *repo, roots []string) map[[2]string]mark.EdgeKind {
	kinds, toManifest, followed := map[[2]string]mark.EdgeKind{}, map[[2]string]bool{}, map[string]bool{}
	tagRoots := o.tagRoots(r)
	var follow func(from string, isManifest bool)
	follow = func(from string, isManifest bool) {
		_, hasRevision := r.revisions[from]
		isManifest = isManifest || hasRevision || slices.Contains(tagRoots, from) || slices.Contains(r.suspects, from)
		if key := fmt.Sprint(from, isManifest); followed[key] {
			return
		} else {
			followed[key] = true
		}
		add := func(to string, kind mark.EdgeKind, isManifest bool) {
			edge := [2]string{from, to}
			if _, known := kinds[edge]; !known || isManifest && !toManifest[edge] {
				kinds[edge], toManifest[edge] = kind, isManifest
			}
			follow(to, isManifest)
		}
		if read := o.read(from); isManifest {
			var content struct{ Config, Manifests json.RawMessage }
			_ = json.Unmarshal([]byte(o.files[blobFile(from)].content), &content) // damage has no references
			for i, to := range read.refs {
				kind := mark.LayerEdge
				switch {
				case read.unknown:
				case content.Manifests != nil:
					kind = mark.EntryEdge
				case content.Config != nil && i == 0:
					kind = mark.ConfigEdge
				}
				add(to, kind, o.isEntry(read, to))
			}
		}
		for _, to := range r.signatures[from] {
			add(to, mark.SignatureEdge, false)
		}
		for _, to := range r.aliases(from) {
			if to != from {
				add(to, mark.AliasEdge, false)
			}
		}
		for revision := range r.revisions {
			if o.read(revision).subject == from {
				add(revision, mark.ReferrerEdge, true)
			}
		}
	}
	for _, root := range roots {
		follow(root, false)
	}
	return kinds
}

// imageLayers are the layers of an image, the lowest first, or none.
func imageLayers(content string) (layers []string) {
	m, err := manifest.Parse([]byte(content))
	if err != nil || m.Purpose != manifest.ForImages || m.Kind != manifest.Image && m.Kind != manifest.Schema1 {
		return nil
	}
	for i, r := range m.References {
		if m.Kind == manifest.Schema1 {
			layers = append([]string{string(r.Digest)}, layers...)
		} else if i > 0 {
			layers = append(layers, string(r.Digest))
		}
	}
	return layers
}

// chainTexts are chains as texts: the root, and then the digests. All that damage keeps is the same.
func chainTexts(chains [][]audit.Link) (texts []string) {
	for _, chain := range chains {
		text := fmt.Sprintf("%s %s %s:", chain[0].Repository, chain[0].Kind, chain[0].Name)
		if chain[0].Kind == audit.DamageLink {
			texts = append(texts, chain[0].Repository+" damage")
			continue
		}
		for _, link := range chain[1:] {
			text += " " + string(link.Digest)
		}
		texts = append(texts, text)
	}
	return texts
}

// chains are all the paths without a cycle that lead to a digest, as texts, sorted.
func (o *oracle) chains(target string) (texts []string) {
	for _, r := range o.repos {
		roots := o.tagRoots(r)
		before := len(texts)
		tags := map[string]bool{}
		for tag := range r.current {
			tags[tag] = true
		}
		for tag := range r.index {
			tags[tag] = true
		}
		for tag := range tags {
			for _, root := range slices.Compact(slices.Sorted(slices.Values(o.targets(r, tag)))) {
				texts = append(texts, o.pathsFrom(r, root, target, fmt.Sprintf("%s tag %s:", r.name, tag))...)
			}
		}
		tagged := o.reached(r, slices.Concat(roots, r.pinned), true)
		for revision := range r.revisions {
			if !tagged[revision] && o.read(revision).state != "missing" {
				texts = append(texts, o.pathsFrom(r, revision, target, fmt.Sprintf("%s revision :", r.name))...)
			}
		}
		if alive, _ := o.alive(r); alive[target] && len(texts) == before {
			texts = append(texts, r.name+" damage")
		}
	}
	slices.Sort(texts)
	return texts
}

// pathsFrom are the paths from a digest to a target in a repository, by trying all.
func (o *oracle) pathsFrom(r *repo, from, target, text string) (texts []string) {
	tagRoots := o.tagRoots(r)
	onPath := map[string]bool{}
	var follow func(digest string, isManifest bool, text string)
	follow = func(digest string, isManifest bool, text string) {
		text += " " + digest
		if digest == target {
			texts = append(texts, text)
			return
		}
		_, hasRevision := r.revisions[digest]
		isManifest = isManifest || hasRevision || slices.Contains(tagRoots, digest) || slices.Contains(r.suspects, digest)
		next := map[string]bool{} // whether the digest is reached as a manifest
		if isManifest {
			for _, to := range o.read(digest).refs {
				next[to] = next[to] || o.isEntry(o.read(digest), to)
			}
		}
		for _, to := range slices.Concat(r.aliases(digest), r.signatures[digest]) {
			next[to] = next[to] || false
		}
		for revision := range r.revisions {
			if o.read(revision).subject == digest {
				next[revision] = true
			}
		}
		onPath[digest] = true
		for to, isManifest := range next {
			if !onPath[to] {
				follow(to, isManifest, text)
			}
		}
		delete(onPath, digest)
	}
	follow(from, false, text)
	return texts
}

// freedWithout is the size of the blobs that go without all tags and untagged manifests that hold a digest,
// and that do not go today. The blob itself counts also if damage keeps it.
func (o *oracle) freedWithout(d *disk, inv *inventory.Inventory, why *audit.Why, of string) (sum int64) {
	isRemoved := func(repository, tag int) bool {
		r := inv.Repositories[repository]
		return slices.Contains(why.ToFree, r.Name+":"+r.Tags[tag].Name)
	}
	without := o.without(inv, isRemoved)
	without.roots = slices.DeleteFunc(without.roots, func(root string) bool { return slices.Contains(why.ToFree, root) })
	_, goneToday := judge(d, rules{})
	_, gone := judge(o.withoutBroken(inv, isRemoved), without)
	gone[of] = true
	for path := range gone {
		if _, isBlob := storedBlob(path); isBlob && !goneToday[path] {
			sum += int64(len(d.files[path].content))
		}
	}
	return sum
}
