package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"regsweep/audit"
	"regsweep/internal/imagetest"

	"github.com/opencontainers/go-digest"
)

// explained is a registry with indexes, referrers, shared bases, an untagged manifest and damage:
//
//	base:1           a
//	base:2           a b
//	team/app:v1 → X  amd64: a b c, arm64: d          S is a signature of X
//	team/app:v2 → J  a b c e
//	team/app         K (untagged)                    a f
//	broken:v1        its manifest is spoiled, and leads to g
type explained struct {
	*fixture
	a, b, c, d, e, f, g   imagetest.Blob
	one, two              *imagetest.Manifest // the images of base
	x, amd64, arm64, j, k *imagetest.Manifest
	signature, spoiled    *imagetest.Manifest
}

func newExplained(t *testing.T) *explained {
	s := &explained{fixture: newFixture(t)}
	for i, to := range []*imagetest.Blob{&s.a, &s.b, &s.c, &s.d, &s.e, &s.f, &s.g} {
		*to = imagetest.Layer(uint64(i), 1000*(i+1))
	}
	image := func(layers ...imagetest.Blob) *imagetest.Manifest { return imagetest.Image(imagetest.OCI, layers...) }
	s.one, s.two = image(s.a), image(s.a, s.b)
	s.amd64, s.arm64 = image(s.a, s.b, s.c), image(s.d)
	s.arm64.Platform.Architecture = "arm64"
	s.x = imagetest.Index(imagetest.OCI, s.amd64, s.arm64)
	s.j, s.k = image(s.a, s.b, s.c, s.e), image(s.a, s.f)
	s.signature = imagetest.Referrer(s.x, "application/vnd.dev.cosign.artifact.sig.v1+json", []byte("a signature"))
	s.spoiled = image(s.g)
	s.plant("base", "1", s.one)
	s.plant("base", "2", s.two)
	s.plant("team/app", "v1", s.x)
	s.plant("team/app", "v2", s.j)
	s.plant("team/app", "", s.k)
	s.plant("team/app", "", s.signature)
	s.plant("broken", "v1", s.spoiled)
	s.write(imagetest.BlobPath(s.spoiled.Digest()), "spoiled")
	s.tree.Blob([]byte("garbage"))
	return s
}

// target is the argument that names the registry.
func (s *explained) target() string {
	if s.tree != nil {
		return s.tree.Root()
	}
	return s.config(s.registry.ConfigYAML())
}

// run runs a command that must end with a code.
func (s *explained) run(code int, args ...string) (stdout, stderr string) {
	s.Helper()
	got, stdout, stderr := regsweep(s.fixture, append(args, s.target())...)
	if got != code {
		s.Fatalf("%v ends with %d, want %d: %s%s", args, got, code, stdout, stderr)
	}
	return stdout, stderr
}

// whyDocument is the report of why, as a stranger to the program reads it.
type whyDocument struct {
	Report       int
	Command      string
	Digest       digest.Digest
	Kind         string
	Bytes        int64
	Stored, Kept bool
	NeverRemoved bool   `json:"never_removed"`
	KeptUntil    string `json:"kept_until"`
	RemovedBy    string `json:"removed_by"`
	Chains       [][]struct {
		Kind, Repository, Name string
		Digest                 digest.Digest
	}
	More         int
	Repositories []struct {
		Name      string
		Tags      []string
		Pushed    map[string]string
		Since     string
		Revisions []digest.Digest
		Damage    string
		Until     string `json:"young_until"`
	}
	ToFree      []string `json:"to_free"`
	RemovedWith struct {
		Blobs int
		Bytes int64
	} `json:"removed_with"`
	FreedIfGone int64 `json:"freed_if_gone"`
	Candidates  []digest.Digest
	ExitCode    int `json:"exit_code"`
	Error       string
}

func (s *explained) why(code int, object string, flags ...string) (out whyDocument) {
	s.Helper()
	stdout, _ := s.run(code, append([]string{"why", "--json", object}, flags...)...)
	s.must(json.Unmarshal([]byte(stdout), &out))
	return out
}

// chains are the chains as texts: kind and digest of each element, by the names of the drawing.
func (s *explained) chains(of whyDocument) (texts []string) {
	names := map[digest.Digest]string{
		s.one.Digest(): "one", s.two.Digest(): "two", s.x.Digest(): "X", s.amd64.Digest(): "amd64", s.arm64.Digest(): "arm64",
		s.j.Digest(): "J", s.k.Digest(): "K", s.signature.Digest(): "S", s.spoiled.Digest(): "spoiled",
		s.a.Digest(): "a", s.c.Digest(): "c", s.g.Digest(): "g", digest.FromString("a signature"): "p",
	}
	for _, chain := range of.Chains {
		var parts []string
		for _, link := range chain {
			parts = append(parts, strings.TrimSpace(link.Kind+" "+link.Name)+" "+names[link.Digest])
		}
		texts = append(texts, chain[0].Repository+": "+strings.Join(parts, " > "))
	}
	return texts
}

// Audits explain: why says by which chains an object is kept, who holds it, and what it would free.
func TestWhyExplains(t *testing.T) {
	onEach(t, "why", func(t *testing.T, on backend) {
		s := newExplained(t)
		s.on(on)

		base := s.why(0, s.a.Digest().String(), "--limit", "100")
		s.same("the chains to a shared layer", s.chains(base), []string{
			"base: tag 1 one > manifest one > layer a",
			"base: tag 2 two > manifest two > layer a",
			"team/app: tag v2 J > manifest J > layer a",
			"team/app: revision K > manifest K > layer a",
			"team/app: tag v1 X > index X > manifest amd64 > layer a",
		})
		if base.More != 0 || !base.Kept || !base.Stored || base.Kind != "layer" || base.Bytes != int64(len(s.a.Content)) || base.RemovedBy != "" {
			t.Errorf("%+v", base)
		}
		s.same("what would have to go", base.ToFree, []string{"base:1", "base:2", "team/app:v1", "team/app:v2", "team/app@" + s.k.Digest().String()})
		few := s.why(0, s.a.Digest().String())
		s.same("the shortest chains", s.chains(few), s.chains(base)[:3])
		if few.More != 2 {
			t.Errorf("%d more chains", few.More)
		}
		if all := s.why(0, s.a.Digest().String(), "--limit", "0"); len(all.Chains) != 5 || all.More != 0 {
			t.Errorf("without a limit there are %d chains and %d more", len(all.Chains), all.More)
		}
		app := base.Repositories[1]
		if app.Name != "team/app" || !slices.Equal(app.Tags, []string{"v1", "v2"}) || app.Pushed["v1"] == "" || app.Since == "" {
			t.Errorf("held by %+v", app)
		}

		signed := s.why(0, digest.FromString("a signature").String())
		s.same("the chain through a subject", s.chains(signed), []string{"team/app: tag v1 X > index X > referrer S > layer p"})

		untagged := s.why(0, "team/app@"+s.k.Digest().String())
		if untagged.RemovedBy != "gc -m" || untagged.RemovedWith.Blobs != 2 {
			t.Errorf("of an untagged manifest: %+v", untagged)
		}

		damaged := s.why(0, s.g.Digest().String())
		s.same("what damage keeps", s.chains(damaged), []string{"broken: damage manifest_damaged g > blob g"})

		garbage := s.why(0, digest.FromString("garbage").String())
		if garbage.Kept || garbage.RemovedBy != "gc" || len(garbage.Chains) != 0 || garbage.FreedIfGone != 0 {
			t.Errorf("garbage: %+v", garbage)
		}

		// A tag means its manifest, and a short digest its only meaning.
		for _, object := range []string{"team/app:v1", "registry.example.com/team/app:v1", s.x.Digest().Encoded()[:12], "team/app@" + s.x.Digest().String()[:19], "localhost:5000/team/app:v2@" + s.x.Digest().String()} {
			if got := s.why(0, object); got.Digest != s.x.Digest() || got.Chains[0][0].Name != "v1" {
				t.Errorf("%s is taken for %s", object, got.Digest)
			}
		}
		for object, want := range map[string]string{
			"sha256:" + strings.Repeat("0", 64): "is neither stored nor named here",
			"abc":                               "at least 4 hex digits",
			"team/app":                          "want a digest, REPO:TAG or REPO@DIGEST",
			"team/app:v9":                       `team/app has no tag "v9"`,
			"team/none:v1":                      `there is no repository "team/none"`,
			"base@" + s.c.Digest().String():     "is neither stored nor named in base",
		} {
			if got := s.why(2, object); !strings.Contains(got.Error, want) || got.ExitCode != 2 || got.Stored {
				t.Errorf("%s: %+v", object, got)
			}
		}
	})
}

// With --min-age, what only its age or that of a link keeps is kept, as a gc with this flag keeps it.
func TestWhyKnowsAges(t *testing.T) {
	onEach(t, "why age", func(t *testing.T, on backend) {
		s := newExplained(t)
		linked := imagetest.Layer(90, 300)
		s.tree.Blob(linked.Content)
		s.tree.LayerLink("base", linked.Digest())
		s.on(on)
		for object, want := range map[digest.Digest][]string{
			digest.FromString("garbage"): {": age > blob"},
			linked.Digest():              {": age > blob", "base: age > blob"},
		} {
			got := s.why(0, object.String(), "--min-age", "1h")
			var chains []string
			for _, chain := range got.Chains {
				chains = append(chains, fmt.Sprintf("%s: %s > %s", chain[0].Repository, chain[0].Kind, chain[1].Kind))
			}
			s.same("what keeps "+object.String(), chains, want)
			if got.KeptUntil == "" || !got.Kept || got.RemovedBy != "gc" {
				t.Errorf("%+v", got)
			}
			if got := s.why(0, object.String(), "--min-age", "0"); got.Kept || got.KeptUntil != "" || len(got.Chains) != 0 {
				t.Errorf("without an age: %+v", got)
			}
		}
		if n := s.gc("--dry-run", "--min-age", "1h").report.Garbage.Blobs.Count; n != 0 {
			t.Errorf("gc would remove %d blobs", n)
		}
		if got := s.why(0, s.c.Digest().String(), "--min-age", "1h"); got.KeptUntil != "" || got.FreedIfGone != s.why(0, s.c.Digest().String()).FreedIfGone {
			t.Errorf("what tags keep does not depend on an age: %+v", got)
		}
	})
}

// An old blob is kept by a young link to it, until the link is old too.
func TestWhyKnowsAgesOfLinks(t *testing.T) {
	t.Parallel()
	s := newExplained(t)
	layer := imagetest.Layer(90, 300)
	s.tree.Blob(layer.Content)
	s.tree.LayerLink("base", layer.Digest())
	s.tree.Age(imagetest.BlobPath(layer.Digest()), 48*time.Hour)
	got := s.why(0, layer.Digest().String(), "--min-age", "1d")
	if !got.Kept || len(got.Chains) != 1 || got.Chains[0][0].Repository != "base" || got.Repositories[0].Until != got.KeptUntil {
		t.Errorf("a young link: %+v", got)
	}
	text, _ := s.run(0, "why", "--min-age", "1d", layer.Digest().String())
	for _, want := range []string{"kept only because it is young, until ", "a young link of base → blob ", "young links, until "} {
		if !strings.Contains(text, want) {
			t.Errorf("the text lacks %q:\n%s", want, text)
		}
	}
	s.tree.Age(imagetest.LayerPath("base", layer.Digest()), 48*time.Hour)
	if got := s.why(0, layer.Digest().String(), "--min-age", "1d"); got.Kept || got.RemovedBy != "gc" || len(got.Repositories) != 0 {
		t.Errorf("an old link: %+v", got)
	}
}

// A blob that is stored under sha512 is found by its first digits, and the answer says that gc never removes it.
func TestWhyKnowsOtherAlgorithms(t *testing.T) {
	onEach(t, "why sha512", func(t *testing.T, on backend) {
		s := newExplained(t)
		of := digest.SHA512.FromString("content")
		s.tree.Write(imagetest.BlobPath(of), "content")
		s.on(on)
		for _, object := range []string{of.String(), of.String()[:20], of.Encoded()[:12]} {
			got := s.why(0, object)
			if got.Digest != of || !got.Stored || !got.Kept || !got.NeverRemoved || got.RemovedBy != "" || len(got.ToFree) != 0 {
				t.Errorf("%s: %+v", object, got)
			}
			if on == bucket && got.Bytes != int64(len("content")) {
				t.Errorf("%s has %d bytes", object, got.Bytes)
			}
		}
		if text, _ := s.run(0, "why", of.Encoded()[:12]); !strings.Contains(text, "gc never removes a blob that is stored under sha512") {
			t.Errorf("%s", text)
		}
	})
}

// Chains follow the rules of the mark: a revision without a manifest keeps nothing, not even a signature below
// it, and an index may name the same digest as a layer and as a manifest.
func TestWhyFollowsTheMark(t *testing.T) {
	t.Parallel()
	s := newExplained(t)
	lost, signature := digest.FromString("a lost manifest"), s.tree.Blob([]byte("its signature"))
	s.tree.Revision("old", lost)
	s.tree.Write(imagetest.SignaturePath("old", lost, signature), signature.String())
	if got := s.why(0, signature.String()); got.Kept || len(got.Chains) != 0 || got.RemovedBy != "gc" {
		t.Errorf("the signature of a lost manifest: %+v", got)
	}
	if got := s.why(0, lost.String()); got.Stored || got.Kept || len(got.Chains) != 0 {
		t.Errorf("a lost manifest: %+v", got)
	}
	if text, _ := s.run(0, "why", lost.String()); !strings.Contains(text, "nothing that is kept needs it") || !strings.Contains(text, "an untagged revision whose manifest is gone") {
		t.Errorf("a lost manifest: %s", text)
	}

	child := imagetest.Image(imagetest.OCI, imagetest.Layer(77, 10))
	entry := child.Descriptor()
	asLayer := entry
	asLayer.MediaType = "application/vnd.oci.image.layer.v1.tar+gzip"
	content, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []any{asLayer, entry}})
	s.must(err)
	s.plant("odd", "v1", &imagetest.Manifest{Content: content, Manifests: []*imagetest.Manifest{child}})
	s.tree.Remove(imagetest.RevisionPath("odd", child.Digest()))
	got := s.why(0, imagetest.Layer(77, 10).Digest().String())
	if len(got.Chains) != 1 || len(got.Chains[0]) != 4 || got.RemovedBy != "gc --delete-unlinked-children" {
		t.Errorf("an index with a digest of two kinds: %+v", got)
	}
}

// An ambiguous digest is reported with its candidates.
func TestWhyReportsAmbiguousDigests(t *testing.T) {
	t.Parallel()
	s := newExplained(t)
	byPrefix := map[string][]digest.Digest{}
	for i := 0; len(byPrefix) == 0 || len(byPrefix[slices.MaxFunc(slices.Collect(maps.Keys(byPrefix)), func(a, b string) int { return len(byPrefix[a]) - len(byPrefix[b]) })]) < 2; i++ {
		d := s.tree.Blob(fmt.Appendf(nil, "blob %d", i))
		byPrefix[d.Encoded()[:4]] = append(byPrefix[d.Encoded()[:4]], d)
	}
	for prefix, want := range byPrefix {
		if len(want) < 2 {
			continue
		}
		slices.Sort(want)
		if got := s.why(2, prefix); !slices.Equal(got.Candidates, want) || !strings.Contains(got.Error, "is ambiguous") {
			t.Errorf("%s: %+v", prefix, got)
		}
	}
}

// What why says that an object would free is what a run frees when nothing holds it any more.
func TestFreedIfGoneIsFreed(t *testing.T) {
	onEach(t, "freed", func(t *testing.T, on backend) {
		s := newExplained(t)
		s.must(s.registry.SetReadOnly(true))
		s.on(on)
		s.must(s.registry.SetReadOnly(true))
		today := s.gc("--dry-run").report.Garbage.Blobs.Bytes
		why := s.why(0, s.c.Digest().String())
		s.same("what holds the layer", why.ToFree, []string{"team/app:v1", "team/app:v2"})
		keep := s.list("base:1", "base:2", "broken:v1", "team/app@"+s.k.Digest().String())
		freed := s.gc("--roots", keep).report.Removed.Blobs.Bytes
		if why.FreedIfGone != freed-today || why.FreedIfGone == 0 {
			t.Errorf("freed_if_gone is %d, and a run freed %d, %d of them before", why.FreedIfGone, freed, today)
		}
	})
}

// A tag without a current link keeps what its index names. Without the directory of the tag, a run frees what why
// has said.
func TestFreedIfGoneOfABrokenTag(t *testing.T) {
	t.Parallel()
	s := newExplained(t)
	s.must(s.registry.SetReadOnly(true))
	layer := imagetest.Layer(60, 500)
	image := imagetest.Image(imagetest.OCI, s.a, layer)
	s.plant("torn", "v1", image)
	s.tree.Remove(imagetest.TagPath("torn", "v1"))
	s.tree.Remove(imagetest.RevisionPath("torn", image.Digest()))
	today := s.gc("--dry-run").report.Garbage.Blobs.Bytes
	why := s.why(0, layer.Digest().String())
	s.same("what holds the layer", why.ToFree, []string{"torn:v1"})
	s.tree.Remove("repositories/torn/_manifests/tags/v1")
	if freed := s.gc().report.Removed.Blobs.Bytes - today; freed != why.FreedIfGone || freed <= int64(len(layer.Content)) {
		t.Errorf("a run frees %d bytes, and freed_if_gone is %d", freed, why.FreedIfGone)
	}
}

// graphDocument is the report of graph.
type graphDocument struct {
	Command string
	Nodes   []struct {
		Digest                  digest.Digest
		Kind, Platform, Purpose string
		Bytes, Pulled           int64
		Tags                    []string
		Stored, Untagged        bool
	}
	Edges []struct {
		From, To digest.Digest
		Kind     string
	}
	Bases []struct {
		Image, Base digest.Digest
		Layers      int
		BaseNames   []string `json:"base_names"`
	}
}

// A graph has all that a tag reaches, or all of a repository, and which image is based on which.
func TestGraphShowsImages(t *testing.T) {
	onEach(t, "graph", func(t *testing.T, on backend) {
		s := newExplained(t)
		s.on(on)
		draw := func(images string) (out graphDocument) {
			stdout, _ := s.run(0, "graph", "--format", "json", images)
			s.must(json.Unmarshal([]byte(stdout), &out))
			return out
		}
		digests := func(of graphDocument) (all []string) {
			for _, n := range of.Nodes {
				all = append(all, n.Digest.String())
			}
			slices.Sort(all)
			return all
		}
		reached := func(of ...*imagetest.Manifest) []string {
			all := map[string]bool{}
			for _, m := range of {
				for _, d := range m.Digests() {
					all[d.String()] = true
				}
			}
			return slices.Sorted(maps.Keys(all))
		}
		v1 := draw("team/app:v1")
		s.same("what v1 reaches", digests(v1), reached(s.x, s.signature))
		whole := draw("team/app")
		s.same("the whole repository", digests(whole), reached(s.x, s.signature, s.j, s.k))
		edges := map[string]bool{}
		for _, e := range v1.Edges {
			edges[e.Kind+" "+e.From.String()+" "+e.To.String()] = true
		}
		for _, want := range []string{
			"entry " + s.x.Digest().String() + " " + s.arm64.Digest().String(),
			"layer " + s.amd64.Digest().String() + " " + s.c.Digest().String(),
			"referrer " + s.x.Digest().String() + " " + s.signature.Digest().String(),
		} {
			if !edges[want] {
				t.Errorf("there is no edge %s", want)
			}
		}
		for _, n := range whole.Nodes {
			switch n.Digest {
			case s.arm64.Digest():
				if n.Platform != "linux/arm64" || n.Kind != "manifest" {
					t.Errorf("%+v", n)
				}
			case s.k.Digest():
				if !n.Untagged || n.Pulled <= int64(len(s.a.Content)+len(s.f.Content)) {
					t.Errorf("%+v", n)
				}
			case s.signature.Digest():
				if n.Purpose != "signature" || n.Kind != "referrer" || n.Untagged {
					t.Errorf("%+v", n)
				}
			}
		}
		bases := map[digest.Digest]digest.Digest{}
		for _, b := range whole.Bases {
			bases[b.Image] = b.Base
		}
		want := map[digest.Digest]digest.Digest{
			s.two.Digest(): s.one.Digest(), s.amd64.Digest(): s.two.Digest(), s.j.Digest(): s.amd64.Digest(), s.k.Digest(): s.one.Digest(),
		}
		if !maps.Equal(bases, want) {
			t.Errorf("based on: %v, want %v", bases, want)
		}
		s.same("what an untagged manifest reaches", digests(draw("team/app@"+s.k.Digest().Encoded()[:12])), reached(s.k))
		s.same("what an entry reaches", digests(draw("localhost:5000/team/app:gone@"+s.amd64.Digest().String())), reached(s.amd64))
		derived, _ := s.run(0, "graph", "base")
		based := "\n\nBased on, the base first\n  1 <- 2 <- team/app:v1\n  1 <- team/app@" + audit.Short(s.k.Digest()) + "\n"
		if !strings.HasSuffix(derived, based) {
			t.Errorf("the tree of the base does not end with%s:\n%s", based, derived)
		}
		tree, _ := s.run(0, "graph", "team/app")
		for _, want := range []string{"base:1 <- base:2 <- v1 linux/amd64 <- v2\n", "├─ v1 → index ", "linux/arm64  manifest ", "untagged", "signature referrer"} {
			if !strings.Contains(tree, want) {
				t.Errorf("the tree lacks %q:\n%s", want, tree)
			}
		}
	})
}

// A tree ends with the problems of its repository. Other formats have none.
func TestGraphsShowProblems(t *testing.T) {
	t.Parallel()
	s := newExplained(t)
	tree, _ := s.run(0, "graph", "broken")
	if _, problems, _ := strings.Cut(tree, "\nProblems\n"); strings.Count(problems, "\n") != 1 || !strings.Contains(problems, "(all of this repository is kept)") {
		t.Errorf("the tree of a damaged repository:\n%s", tree)
	}
	for _, args := range [][]string{{"team/app"}, {"broken", "--format", "dot"}, {"broken", "--format", "mermaid"}} {
		if stdout, _ := s.run(0, append([]string{"graph"}, args...)...); strings.Contains(stdout, "Problems") {
			t.Errorf("graph %v has problems:\n%s", args, stdout)
		}
	}
}

// A mistyped name of a repository or a tag is corrected, and a repository that was left out is asked for.
func TestGraphsOfMistypedNames(t *testing.T) {
	t.Parallel()
	s := newExplained(t)
	s.plant("team/app", "v1.0", s.j)
	s.tree.TagIndex("team/app", "old", s.j.Digest())
	for args, want := range map[string]string{
		"graph team/ap":                                `there is no repository "team/ap", did you mean team/app?`,
		"graph taem/app:v1":                            `there is no repository "taem/app", did you mean team/app?`,
		"graph team/ap@" + s.k.Digest().String():       `there is no repository "team/ap", did you mean team/app?`,
		"graph team/app:v1.":                           `team/app has no tag "v1.", did you mean v1.0?`,
		"graph team/app:nothing":                       `team/app has no tag "nothing"` + "\n",
		"graph team/app@0000":                          "0000 is neither stored nor named in team/app\n",
		"why team/ap:v1":                               `there is no repository "team/ap", did you mean team/app?`,
		"why team/app:v1.":                             `team/app has no tag "v1.", did you mean v1.0?`,
		"why team/app:old":                             "its current link is missing or damaged\n",
		"graph team/app:v9@" + strings.Repeat("0", 64): "is neither stored nor named in team/app\n",
		"why 00000000":                                 "00000000 is neither stored nor named here\n",
	} {
		if _, stderr := s.run(2, append(strings.Fields(args), "-q")...); !strings.Contains(stderr, want) {
			t.Errorf("%s: %s, want %q", args, stderr, want)
		}
	}
	for _, target := range []string{"config.yml", s.tree.Root(), "./registry", "s3://bucket"} {
		if _, _, stderr := regsweep(s.fixture, "graph", target); !strings.Contains(stderr, "REPO comes before the target: regsweep graph REPO "+target) {
			t.Errorf("graph %s: %s", target, stderr)
		}
	}
}

// Each of two images with the same layers has the base. What is no image has none, and a manifest that several
// tags lead to is written once.
func TestGraphsOfTwins(t *testing.T) {
	t.Parallel()
	s := newExplained(t)
	layer := imagetest.Layer(50, 10)
	twins := []*imagetest.Manifest{imagetest.Image(imagetest.OCI, s.a, layer), imagetest.Image(imagetest.Docker, s.a, layer)}
	s.plant("twins", "oci", twins[0])
	s.plant("twins", "docker", twins[1])
	s.plant("twins", "both", imagetest.Index(imagetest.OCI, twins...))
	statement := func(layers ...imagetest.Blob) *imagetest.Manifest {
		for i := range layers {
			layers[i].MediaType = "application/vnd.in-toto+json"
		}
		return imagetest.Image(imagetest.OCI, layers...)
	}
	s.plant("twins", "", statement(s.a))
	s.plant("twins", "", statement(s.a, layer, s.b))
	var graph graphDocument
	stdout, _ := s.run(0, "graph", "--json", "twins")
	s.must(json.Unmarshal([]byte(stdout), &graph))
	var based []string
	for _, b := range graph.Bases {
		based = append(based, b.Image.String()+" "+strings.Join(b.BaseNames, " "))
	}
	slices.Sort(based)
	s.same("images with a base", based, slices.Sorted(slices.Values([]string{twins[0].Digest().String() + " base:1", twins[1].Digest().String() + " base:1"})))
	tree, _ := s.run(0, "graph", "twins")
	if n := strings.Count(tree, "(see above)"); n != 2 {
		t.Errorf("%d manifests were written before:\n%s", n, tree)
	}
	// A blob of which only the directory exists is not stored.
	s.tree.Remove(imagetest.BlobPath(layer.Digest()))
	s.tree.Mkdir(strings.TrimSuffix(imagetest.BlobPath(layer.Digest()), "/data"))
	if got := s.why(0, layer.Digest().String()); got.Stored || got.Kept || len(got.Chains) == 0 {
		t.Errorf("of a blob of which only the directory exists: %+v", got)
	}
}

// Graphs for other programs are well-formed, whatever the names are.
func TestGraphsEscapeNames(t *testing.T) {
	t.Parallel()
	s := newExplained(t)
	odd := "x\"];\n<b>&`#\\"
	s.tree.Tag("team/app", odd, s.j.Digest())
	quoted := `"(?:[^"\\\n]|\\.)*"`
	dotLine := regexp.MustCompile(`^(?:digraph ` + quoted + ` \{|  rankdir=LR;|  n\d+ \[shape=\w+, label=` + quoted + `\];|  n\d+ -> n\d+(?: \[label=` + quoted + `(?:, \w+=\w+)*\])?;|\})$`)
	text := `"[^"<>&\x60\\\n]*(?:<br/>[^"<>&\x60\\\n]*)*"`
	mermaidLine := regexp.MustCompile(`^(?:graph LR|  n\d+(?:>` + text + `\]|\[` + text + `\]|\(` + text + `\)|\[\[` + text + `\]\])|  n\d+ -(?:->|\.->)(?:\|[\w ]+\|)? n\d+)$`)
	for format, line := range map[string]*regexp.Regexp{"dot": dotLine, "mermaid": mermaidLine} {
		stdout, _ := s.run(0, "graph", "--format", format, "team/app")
		for text := range strings.Lines(stdout) {
			if !line.MatchString(strings.TrimSuffix(text, "\n")) {
				t.Errorf("%s has the line %q", format, text)
			}
		}
		if n := strings.Count(stdout, "based on"); n != 4 {
			t.Errorf("%s has %d bases:\n%s", format, n, stdout)
		}
	}
	if dot, _ := s.run(0, "graph", "--format", "dot", "base"); !strings.Contains(dot, `label="team/app\n`+audit.Short(s.k.Digest())+`"`) {
		t.Errorf("the untagged image on top of the base has no name:\n%s", dot)
	}
	tree, _ := s.run(0, "graph", "team/app")
	if strings.Contains(tree, odd) || !strings.Contains(tree, `x"];\n<b>`) {
		t.Errorf("the tree has the name as it is:\n%s", tree)
	}
}
