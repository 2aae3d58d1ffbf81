package policy

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"regsweep/internal/imagetest"
	"regsweep/inventory"
	"regsweep/mark"
	"regsweep/storage"
	"regsweep/storage/filesystem"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// world is a registry, and what is true about it.
type world struct {
	*imagetest.Tree
	*rand.Rand
	images       []image
	repositories map[string]*contents
}

// image is a manifest, and when it was created. That is zero if it is not known.
type image struct {
	*imagetest.Manifest
	created time.Time
	linked  []digest.Digest // itself and its entries: the revisions that it leads to
}

type contents struct {
	tags      map[string]int       // the index of an image
	pushed    map[string]time.Time // by tag
	followers map[string]bool      // names of tags that follow a subject
	untagged  map[digest.Digest]time.Time
}

// Random policies on random registries remove the tags and the untagged manifests that an independent evaluation
// removes, and what only they lead to.
func TestDecisionsAreThoseOfAnIndependentEvaluation(t *testing.T) {
	sum := map[string]int{}
	n := fewer(300)
	for seed := range uint64(n) {
		r := rand.New(rand.NewPCG(seed, 3))
		root, err := os.MkdirTemp("/dev/shm", "regsweep-")
		if err != nil {
			root = t.TempDir()
		}
		func() {
			defer os.RemoveAll(root)
			w := &world{imagetest.NewTree(t, root), r, nil, map[string]*contents{}}
			w.fill(t)
			w.decide(t, seed, sum)
		}()
		if t.Failed() {
			return
		}
	}
	for _, what := range []string{"protect", "floor", "min-age", "rule-0", "unreliable", "skipped", "created", "held", "untagged removed", "untagged kept", "follower"} {
		if sum[what] < n/30 {
			t.Errorf("%s: %d only", what, sum[what])
		}
	}
}

// fill makes images, and repositories with tags for them.
func (w *world) fill(t *testing.T) {
	for range 8 {
		w.images = append(w.images, w.image())
	}
	for range 4 {
		w.images = append(w.images, w.index(w.images[w.IntN(8)], w.images[w.IntN(len(w.images))]))
	}
	names := []string{"team/app", "team", "base", "other", "a/b/x"}
	for _, i := range w.Perm(len(names))[:1+w.IntN(4)] {
		name, c := names[i], &contents{map[string]int{}, map[string]time.Time{}, map[string]bool{}, map[digest.Digest]time.Time{}}
		w.repositories[name] = c
		isCopy := w.IntN(3) == 0 // most of its tags were pushed at about the same time
		var at []digest.Digest
		for range 1 + w.IntN(14) {
			tag, image := randomTagName(w.Rand), w.IntN(len(w.images))
			if c.pushed[tag] != (time.Time{}) {
				continue
			}
			pushed := now.Add(-time.Duration(w.IntN(60)) * 11 * time.Hour)
			if isCopy && w.IntN(6) > 0 {
				pushed = now.Add(-100*24*time.Hour - time.Duration(w.IntN(61))*time.Minute)
			}
			at = append(at, w.Manifest(name, w.images[image].Manifest))
			w.Tag(name, tag, w.images[image].Digest())
			c.tags[tag], c.pushed[tag] = image, pushed
			w.date(t, imagetest.TagPath(name, tag), pushed)
		}
		for range w.IntN(4) {
			d, pushed := w.Manifest(name, w.image().Manifest), now.Add(-time.Duration(w.IntN(100))*11*time.Hour)
			c.untagged[d] = pushed
			w.date(t, imagetest.RevisionPath(name, d), pushed)
		}
		if w.IntN(3) == 0 {
			tag := follower(at[w.IntN(len(at))], ".sig")
			w.Tag(name, tag, w.Manifest(name, w.image().Manifest))
			c.followers[tag] = true
		}
	}
}

func (w *world) date(t *testing.T, path string, at time.Time) {
	if err := os.Chtimes(w.Path(path), at, at); err != nil {
		t.Fatal(err)
	}
}

// image returns an image with a time of creation in its config. Some have none, or that of a reproducible build.
func (w *world) image() image {
	created := now.Add(-time.Duration(w.IntN(60)) * 13 * time.Hour).Truncate(time.Second)
	config := map[string]any{"architecture": "amd64", "n": w.Uint64(), "created": created}
	switch w.IntN(8) {
	case 0:
		delete(config, "created")
		created = time.Time{}
	case 1:
		config["created"] = "1970-01-01T00:00:00Z"
		created = time.Time{}
	}
	encode := func(v any) []byte {
		content, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		return content
	}
	blob := imagetest.Blob{MediaType: ocispec.MediaTypeImageConfig, Content: encode(config)}
	m := &imagetest.Manifest{MediaType: ocispec.MediaTypeImageManifest, Blobs: []imagetest.Blob{blob}, Content: encode(map[string]any{
		"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageManifest, "config": blob.Descriptor(), "layers": []any{},
	})}
	return image{m, created, []digest.Digest{m.Digest()}}
}

func (w *world) index(entries ...image) image {
	var manifests []*imagetest.Manifest
	of := image{}
	for _, entry := range entries {
		manifests = append(manifests, entry.Manifest)
		of.linked = append(of.linked, entry.linked...)
		if entry.created.After(of.created) {
			of.created = entry.created
		}
	}
	of.Manifest = imagetest.Index(imagetest.OCI, manifests...)
	of.linked = append(of.linked, of.Digest())
	return of
}

// list returns lines of a list, and which images of which repositories they name.
func (w *world) list() (lines []string, names func(repository string, d digest.Digest) bool) {
	type entry struct {
		repository string // "" for all
		digest     digest.Digest
	}
	var entries []entry
	repositories := slices.Sorted(maps.Keys(w.repositories))
	for _, repository := range repositories {
		c := w.repositories[repository]
		for _, tag := range slices.Sorted(maps.Keys(c.tags)) {
			image := c.tags[tag]
			if w.IntN(8) > 0 {
				continue
			}
			host := []string{"", "docker.io/", "localhost:5000/", "https://registry.example/"}[w.IntN(4)]
			d := w.images[image].linked[w.IntN(len(w.images[image].linked))]
			switch w.IntN(3) {
			case 0:
				lines, entries = append(lines, d.String()), append(entries, entry{"", d})
			case 1:
				lines, entries = append(lines, host+repository+"@"+d.String()), append(entries, entry{repository, d})
			case 2:
				lines, entries = append(lines, host+repository+":"+tag), append(entries, entry{repository, w.images[image].Digest()})
			}
		}
	}
	for _, repository := range repositories {
		for _, d := range slices.Sorted(maps.Keys(w.repositories[repository].untagged)) {
			if w.IntN(8) == 0 {
				lines, entries = append(lines, "docker-pullable://host:1/"+repository+"@"+d.String()), append(entries, entry{repository, d})
			}
		}
	}
	return lines, func(repository string, d digest.Digest) bool {
		return slices.Contains(entries, entry{"", d}) || slices.Contains(entries, entry{repository, d})
	}
}

// decide compares one decision with the evaluation.
func (w *world) decide(t *testing.T, seed uint64, sum map[string]int) {
	spec := randomPolicy(w.Rand)
	spec.created = w.IntN(3) == 0
	options := Options{TrustTimes: w.IntN(3) == 0, OrphanedSignatures: w.IntN(2) == 0, DeleteUntagged: w.IntN(3) == 0}
	if w.IntN(3) == 0 {
		options.MinAge = time.Duration(w.IntN(60)) * 11 * time.Hour
	}
	p, err := Parse("policy.yml", []byte(spec.source()))
	if err != nil {
		t.Fatal(err)
	}
	store, err := filesystem.Open(w.Root(), storage.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	inv, err := inventory.Take(t.Context(), store, inventory.Options{TagTimes: true})
	if err != nil {
		t.Fatal(err)
	}
	var lists []*mark.ListRoots
	named := make([]func(string, digest.Digest) bool, len(spec.protect))
	options.Held = make([]*mark.ListRoots, len(spec.protect))
	for i, entry := range spec.protect {
		if !entry.list {
			continue
		}
		var lines []string
		lines, named[i] = w.list()
		list, err := mark.ReadRoots("list", strings.NewReader(strings.Join(lines, "\n")))
		if err != nil {
			t.Fatal(err)
		}
		options.Held[i] = list.Find(inv)
		lists = append(lists, options.Held[i])
	}
	graph, err := mark.Read(t.Context(), inv, store, mark.ReadOptions{Lists: lists})
	if err != nil {
		t.Fatal(err)
	}
	d, err := p.Decide(t.Context(), Facts{Inventory: inv, Graph: graph, Lists: lists, Reader: store, Now: now}, options)
	if err != nil {
		t.Fatal(err)
	}
	roots := d.Roots()
	roots.Lists = lists
	live, err := graph.Live(t.Context(), roots)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]map[string]string, len(inv.Repositories))
	for _, tag := range d.Tags {
		if got[tag.Repository] == nil {
			got[tag.Repository] = map[string]string{}
		}
		got[tag.Repository][inv.Repositories[tag.Repository].Tags[tag.Tag].Name] = verdictText(tag.Verdict)
	}
	for i, r := range inv.Repositories {
		c := w.repositories[r.Name]
		holds := func(entry int, linked []digest.Digest) bool {
			return named[entry] != nil && slices.ContainsFunc(linked, func(d digest.Digest) bool { return named[entry](r.Name, d) })
		}
		tags, isUnreliable := w.tagsOf(c, spec, options)
		for at := range tags {
			for entry := range spec.protect {
				if tags[at].holds[entry] = holds(entry, w.images[c.tags[tags[at].name]].linked); tags[at].holds[entry] {
					sum["held"]++
				}
			}
		}
		want, isSkipped := spec.evaluate(r.Name, tags, isUnreliable, now)
		where := fmt.Sprintf("seed %d: %s: %+v\n%s", seed, r.Name, options, spec.source())
		for _, tag := range tags {
			if got[i][tag.name] != want[tag.name] {
				t.Errorf("%s%s: %q, want %q", where, tag.name, got[i][tag.name], want[tag.name])
			}
			_, rule, _ := strings.Cut(want[tag.name], " ")
			sum[rule]++
		}
		usesTimes := slices.ContainsFunc(spec.rules, func(of testRule) bool {
			return of.untagged >= 0 && matchesAny(of.repositories, r.Name) ||
				of.usesTimes() && slices.ContainsFunc(tags, func(tag testTag) bool { return of.selects(r.Name, tag.name) })
		})
		if isSkipped {
			sum["skipped"]++
		}
		if isUnreliable && usesTimes {
			sum["unreliable"]++
		}
		isNamed := slices.ContainsFunc(d.Skipped, func(s Skipped) bool { return s.Repository == r.Name })
		if (isSkipped && !isNamed) || (isNamed && !isSkipped && !(isUnreliable && usesTimes)) {
			t.Errorf("%s: skipped %v, want %t", where, d.Skipped, isSkipped)
		}
		if spec.created {
			sum["created"]++
		}
		for tag := range c.followers {
			if sum["follower"]++; got[i][tag] != "" {
				t.Errorf("%s%s follows a subject, and is %s", where, tag, got[i][tag])
			}
		}
		w.compareAlive(t, where, inv, i, live, spec, options, isSkipped || isUnreliable, want, holds, sum)
	}
}

// tagsOf returns the tags of a repository that count, and whether their times are unreliable.
func (w *world) tagsOf(c *contents, spec testPolicy, options Options) (tags []testTag, isUnreliable bool) {
	for name, at := range c.tags {
		tag := testTag{name: name, time: c.pushed[name], holds: map[int]bool{}}
		tag.isYoung = tag.time.Add(options.MinAge).After(now)
		if spec.created {
			tag.time = w.images[at].created
		}
		tags = append(tags, tag)
	}
	if spec.created || options.TrustTimes {
		return tags, false
	}
	for _, first := range tags { // the tags of one hour
		var created []time.Time
		n := 0
		for _, tag := range tags {
			if after := tag.time.Sub(first.time); after < 0 || after > time.Hour {
				continue
			}
			if n++; !w.images[c.tags[tag.name]].created.IsZero() {
				created = append(created, w.images[c.tags[tag.name]].created)
			}
		}
		slices.SortFunc(created, time.Time.Compare)
		if 2*n > len(tags) && len(created) > 1 && created[len(created)-1].Sub(created[0]) > time.Hour {
			isUnreliable = true
		}
	}
	return tags, isUnreliable
}

// compareAlive compares the revisions of a repository that are alive: those to which kept tags, lists and kept
// untagged manifests lead. Those of followers have their own test.
func (w *world) compareAlive(t *testing.T, where string, inv *inventory.Inventory, i int, live *mark.Live, spec testPolicy, options Options, isSkipped bool, want map[string]string, holds func(int, []digest.Digest) bool, sum map[string]int) {
	r := inv.Repositories[i]
	c := w.repositories[r.Name]
	isListed := func(d digest.Digest) bool {
		for entry := range spec.protect {
			if holds(entry, []digest.Digest{d}) {
				return true
			}
		}
		return false
	}
	alive, known := map[digest.Digest]bool{}, map[digest.Digest]bool{}
	for tag, at := range c.tags {
		for _, d := range w.images[at].linked {
			known[d] = true
			alive[d] = alive[d] || !strings.HasPrefix(want[tag], "remove")
		}
	}
	for _, image := range w.images { // a list may name an index or one of its entries
		for _, d := range image.linked {
			alive[d] = alive[d] || known[image.Digest()] && isListed(image.Digest())
		}
	}
	isProtected := slices.ContainsFunc(spec.protect, func(e testEntry) bool { return e.tags == nil && !e.list && matchesAny(e.repositories, r.Name) })
	age, isSelected := time.Duration(0), false
	for _, rule := range spec.rules {
		if rule.untagged >= 0 && matchesAny(rule.repositories, r.Name) && !isSkipped {
			age, isSelected = max(age, rule.untagged), true
		}
	}
	for d, pushed := range c.untagged {
		known[d] = true
		alive[d] = isProtected || isListed(d) || !options.DeleteUntagged && !(isSelected && now.Sub(pushed) >= age)
		sum[map[bool]string{true: "untagged kept", false: "untagged removed"}[alive[d]]]++
	}
	for at, link := range r.Revisions {
		d := inv.Digest(link.ID())
		if isAlive := live.Repositories[i].Revisions.At(at) != mark.Dead; known[d] && isAlive != alive[d] {
			t.Errorf("%s%s is alive: %t, want %t", where, d, isAlive, alive[d])
		}
	}
}
