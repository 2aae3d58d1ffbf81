package sweep_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"regsweep/internal/pattern"
	"regsweep/inventory"
	"regsweep/mark"
	"regsweep/policy"
	"regsweep/storage"
	"regsweep/sweep"
)

// A policy removes from registries of all sorts the tags that it says, what follows them, and what only they
// kept. A second run finds nothing, and an interrupted run ends where an uninterrupted one does.
func TestPoliciesOnRandomRegistries(t *testing.T) {
	for seed := *seedFlag; seed < *seedFlag+uint64(seeds()); seed++ {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			testPolicy(t, seed)
			if t.Failed() {
				t.Logf("again: go test ./sweep -run TestPoliciesOnRandomRegistries -seed %d -seeds 1", seed)
			}
		})
	}
}

func testPolicy(t *testing.T, seed uint64) {
	d := generate(seed, seed%3 == 0, false)
	random := rand.New(rand.NewPCG(seed, 5))
	r := rules{uploadAge: uploadAge, deleteUntagged: random.IntN(3) == 0, pruneEmpty: random.IntN(3) == 0, untag: map[string]bool{}}
	d.follow(random, r.deleteUntagged)
	repositories := newOracle(d, rules{}).repos
	for _, name := range slices.Sorted(maps.Keys(repositories)) {
		for _, tag := range slices.Sorted(maps.Keys(repositories[name].tags())) {
			if followerName.FindString(tag) == "" && random.IntN(2) == 0 {
				r.untag[name+":"+tag] = true
			}
		}
	}
	root := d.put(t)
	plan := planFor(t, root, r)
	want, gone := judge(d, r)
	for _, kind := range sweep.Kinds {
		sameNames(t, fmt.Sprintf("%+v: %s", r, kind), paths(plan)[string(kind)], want[string(kind)])
	}
	checkSizes(t, d, plan)
	if t.Failed() {
		return
	}
	result, err := plan.Execute(t.Context(), openStore(t, root), sweep.ExecuteOptions{})
	if err != nil || !maps.Equal(result.Removed, plan.Garbage) {
		t.Fatalf("removed %v of %v: %v", result.Removed, plan.Garbage, err)
	}
	after := readDisk(t, root)
	for path := range d.files {
		if _, isLeft := after.files[path]; isLeft == gone[path] {
			t.Errorf("%s: left %t", path, isLeft)
		}
	}
	if again := planFor(t, root, r); again.Len() > 0 {
		t.Errorf("%+v: a second run removes %v", r, paths(again))
	}
	for _, percent := range []int{100, 90, 50} {
		testSelection(t, d, r, func(sweep.Removal) bool { return random.IntN(100) < percent }, after)
	}
	for _, kind := range sweep.Kinds {
		testSelection(t, d, r, func(removal sweep.Removal) bool { return removal.Kind != kind }, after)
	}
	for range 3 {
		testInterruption(t, d, r, random.IntN(len(gone)+1), random.IntN(2) == 0, after)
	}
}

// follow adds tags for the referrers of some manifests, as clients make them: indexes, also earlier ones, and
// signatures, also of these. Some of their subjects are gone. It skips subjects that several repositories have, and
// circles with deleteUntagged: see docs/decisions/0026-tags-that-are-removed.md.
func (d *disk) follow(random *rand.Rand, deleteUntagged bool) {
	for range 2 {
		for _, path := range d.names() {
			repository, rest, found := strings.Cut(strings.TrimPrefix(path, "repositories/"), "/_manifests/revisions/sha256/")
			hex, isLink := strings.CutSuffix(rest, "/link")
			if found && isLink && len(hex) == 64 && random.IntN(4) == 0 && !d.isShared(hex) {
				d.followOne(random, repository, hex, deleteUntagged)
			}
		}
	}
}

// isShared reports whether several repositories have a manifest.
func (d *disk) isShared(hex string) bool {
	n := 0
	for path := range d.files {
		if strings.HasSuffix(path, "/_manifests/revisions/sha256/"+hex+"/link") {
			n++
		}
	}
	return n > 1
}

func (d *disk) followOne(random *rand.Rand, repository, hex string, deleteUntagged bool) {
	tag := "sha256-" + hex + []string{"", "", ".sig", ".att", ".sbom"}[random.IntN(5)]
	switch n := random.IntN(16); {
	case n == 0: // a mirror tags each image by its digest
		d.tag(repository, tag, "sha256:"+hex)
		return
	case n == 1 && !deleteUntagged: // in a circle
		other := d.image(repository, "signed by "+hex)
		d.revision(repository, other)
		d.tag(repository, tag, other)
		d.tag(repository, "sha256-"+strings.TrimPrefix(other, "sha256:"), "sha256:"+hex)
		return
	case n == 2: // the signatures are in another repository
		repository = "signatures"
	}
	for n := range 1 + random.IntN(2) {
		signature := d.image(repository, fmt.Sprintf("signature %d of %s", n, hex))
		index := json1(map[string]any{"schemaVersion": 2, "mediaType": ociIndex, "manifests": []any{descriptor(ociImage, signature, 1)}})
		digest := d.blob(index)
		d.revision(repository, digest)
		d.tag(repository, tag, digest)
	}
	if random.IntN(6) == 0 {
		delete(d.files, revisionFile(repository, "sha256:"+hex))
	}
}

// untagRoots are the roots of a run with a policy that has a rule for each tag to be removed.
func untagRoots(ctx context.Context, inv *inventory.Inventory, graph *mark.Graph, store storage.Store, r rules) (roots mark.Roots, err error) {
	p := &policy.Policy{Floor: policy.Floor{MaxShare: policy.Whole}}
	for name := range r.untag {
		at := strings.LastIndexByte(name, ':')
		var patterns [2]pattern.Patterns
		for i, text := range []string{name[:at], name[at+1:]} {
			p, err := pattern.New(text)
			if err != nil {
				return roots, err
			}
			patterns[i] = pattern.Patterns{p}
		}
		p.Rules = append(p.Rules, policy.Rule{Name: name, Repositories: patterns[0], Tags: patterns[1]})
	}
	d, err := p.Decide(ctx, policy.Facts{Inventory: inv, Graph: graph, Reader: store, Now: now}, policy.Options{DeleteUntagged: r.deleteUntagged})
	if err != nil {
		return roots, err
	}
	return d.Roots(), nil
}
