package e2e

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"regsweep/internal/imagetest"
	"regsweep/storage"
)

// removesTags is a policy for newPolicyFixture. It has no rule about times, because all files have the same one.
const removesTags = `
version: 1
protect: [{tags: [latest, "v*"]}, {repositories: [other]}]
rules:
  - {name: pull requests, tags: ["pr-*"]}
  - {name: old, repositories: [team/old], tags: ["*"]}
` + untaggedRule + `floor: {keep-newest: 0, max-share: 100%}
`

const untaggedRule = "  - {name: untagged, repositories: [\"team/**\"], untagged: {older-than: 1m}}\n"

// newPolicyFixture is a registry for removesTags. It has an example of everything that follows a tag.
func newPolicyFixture(t *testing.T) *variedFixture {
	t.Helper()
	g := &variedFixture{fixture: newFixture(t)}
	tagOf := func(m *imagetest.Manifest, suffix string) string {
		return strings.Replace(string(m.Digest()), ":", "-", 1) + suffix
	}
	attached := func(to *imagetest.Manifest, text string) *imagetest.Manifest {
		return imagetest.Referrer(to, "application/vnd.example.signature", []byte(text))
	}
	// An image with a cosign tag, a fallback tag that was written twice, and referrers.
	withFollowers := func(tag string, m *imagetest.Manifest, n int) (all []*imagetest.Manifest, tags []string) {
		signature, first, second := app(n), attached(m, fmt.Sprint("first of ", n)), attached(m, fmt.Sprint("second of ", n))
		ofSignature := app(n + 1)
		earlier, now := imagetest.Index(imagetest.OCI, first), imagetest.Index(imagetest.OCI, first, second)
		g.plant("team/app", tag, m)
		g.plant("team/app", tagOf(m, ".sig"), signature)
		g.plant("team/app", tagOf(signature, ".sig"), ofSignature)
		g.plant("team/app", tagOf(m, ""), earlier)
		g.plant("team/app", tagOf(m, ""), now)
		return []*imagetest.Manifest{m, signature, ofSignature, now}, []string{tagOf(m, ".sig"), tagOf(signature, ".sig"), tagOf(m, "")}
	}
	kept, gone := imagetest.Index(imagetest.OCI, app(1, 2), app(1, 3)), imagetest.Index(imagetest.OCI, app(1, 2), app(1, 4))
	g.plant("team/app", "pr-moved", app(1, 5))
	g.plant("team/app", "pr-moved", app(1, 6))
	withFollowers("pr-1", gone, 30)
	manifests, tags := withFollowers("latest", kept, 40)
	g.tree.Tag("team/app", "pr-latest", kept.Digest()) // another name of what is kept
	g.plant("team/app", "", app(1, 7))
	g.plant("team/app", tagOf(app(1, 7), ".sig"), app(50)) // of an untagged manifest
	g.plant("team/old", "v1-old", app(60))
	g.plant("team/old", "any", app(1, 61))
	g.plant("team/gone", "pr-1", app(1, 62))
	g.plant("other", "v1", app(1, 8))
	g.plant("other", "", app(1, 9))
	g.tree.LayerLink("team/gone", g.tree.Blob([]byte("an unreferenced layer")))
	g.age()

	g.keep("team/app", "", manifests...)
	for _, tag := range append(tags, "latest") {
		g.needed = append(g.needed, imagetest.TagPath("team/app", tag))
		g.alive = append(g.alive, pulls("team/app", tag))
	}
	g.keep("other", "v1", app(1, 8))
	g.keep("other", "", app(1, 9))
	g.keep("team/old", "v1-old", app(60)) // it is protected
	g.alive = append(g.alive, pulls("team/app", kept, app(1, 2), app(1, 3)), pulls("other", "v1", app(1, 9)), pulls("team/old", "v1-old"))
	g.remember()
	for _, path := range g.needed {
		if g.before[path] == "" {
			t.Fatalf("%s is needed and was never there", path)
		}
	}
	return g
}

// removingTags are the commands that remove tags.
var removingTags = []struct {
	name string
	args func(g *variedFixture, policy string) []string
}{
	{"gc --policy", func(g *variedFixture, policy string) []string {
		return []string{"gc", "--policy", policy, g.tree.Root(), "--prune-empty"}
	}},
	{"gc -m --policy", func(g *variedFixture, policy string) []string {
		return []string{"gc", "-m", "--policy", policy, g.tree.Root()}
	}},
	{"untag", func(g *variedFixture, _ string) []string {
		return []string{"untag", "team/app:pr-*", "team/gone", "team/old:any", g.tree.Root()}
	}},
	{"apply", func(g *variedFixture, policy string) []string {
		plan := filepath.Join(g.TempDir(), "plan.jsonl")
		if code, _, stderr := regsweep(g.fixture, "gc", "-d", "--policy", policy, "--prune-empty", "--plan", plan, g.tree.Root()); code != 0 {
			g.Fatalf("no plan to apply: %s", stderr)
		}
		return []string{"apply", plan, g.tree.Root()}
	}},
}

// TestARunThatRemovesTagsDiesAtEachOperation: a process that removes tags is gone after any operation that changes
// the storage. Each kept tag is whole with its signatures, no tag is half removed, and the next run ends as an
// undisturbed one (1, 3).
func TestARunThatRemovesTagsDiesAtEachOperation(t *testing.T) {
	t.Parallel()
	for i, command := range removingTags {
		t.Run(command.name, func(t *testing.T) {
			t.Parallel()
			g := newPolicyFixture(t)
			policy := g.policyFile(removesTags)
			want, calls := g.undisturbed(append(command.args(g, policy), oneByOne))
			tried := 0
			for k, call := range calls {
				if !changes(call) {
					continue
				}
				if tried++; !isOneOf(tried, []int{5, 13, 13, 13}[i]) { // the commands are alike
					continue
				}
				what := fmt.Sprintf("killed after operation %d, %s", k+1, call)
				args := append(command.args(g, policy), oneByOne) // apply needs a plan with these push times
				g.Run(what, func(t *testing.T) {
					f := &storeFault{at: k + 1, err: errDead, dies: true, late: true}
					f.before(t, g.tree.Root())
					if run := g.run(args...); run.code != 1 && run.code != 5 {
						t.Errorf("it ends with %d", run.code)
					}
				})
				g.inspected(what)
				g.hasWholeTags()
				switch command.name { // a plan and the patterns of untag may name tags that are gone
				case "untag":
					args = []string{"gc", "--policy", g.policyFile(strings.Replace(removesTags, untaggedRule, "", 1)), g.tree.Root(), "--prune-empty"}
				case "apply":
					args = []string{"gc", "--policy", policy, g.tree.Root(), "--prune-empty"}
				}
				g.goesOn(what, args, want)
			}
		})
	}
}

// changes reports whether a call of a storage changes what a registry has.
func changes(call string) bool {
	on, path, _ := strings.Cut(call, " ")
	return slices.Contains([]string{"Remove", "Move", "Prune"}, on) && !strings.HasPrefix(path, storage.OwnDir)
}

// isOneOf reports whether the k-th operation is tried: one of n, fewer with -short, and all with -every-fault.
func isOneOf(k, n int) bool { return *everyFault || k%n == 0 && k%apart(1) == 0 }

// TestAQuarantineOfTagsDiesAtEachOperation: the process that moves tags to a quarantine, or puts them back, is gone
// after any operation. Nothing is lost: a second run and a restore of all runs bring everything back.
func TestAQuarantineOfTagsDiesAtEachOperation(t *testing.T) {
	t.Parallel()
	g := newPolicyFixture(t)
	planted := g.before
	gc := []string{"gc", "--policy", g.policyFile(removesTags), g.tree.Root(), "--prune-empty", "--quarantine", oneByOne}
	want, calls := g.undisturbed(gc)
	tried := 0
	for k, call := range calls {
		if !changes(call) {
			continue
		}
		if tried++; !isOneOf(tried, 9) {
			continue
		}
		times := g.pushTimes()
		what := fmt.Sprintf("killed after operation %d, %s", k+1, call)
		g.Run(what, func(t *testing.T) {
			f := &storeFault{at: k + 1, err: errDead, dies: true, late: true}
			f.before(t, g.tree.Root())
			g.run(gc...)
		})
		g.inspected(what)
		g.hasWholeTags()
		g.unlock()
		if next := g.run(gc...); next.code != 0 {
			t.Errorf("%s: the next run ends with %d: %s", what, next.code, next.report.Error)
		}
		if d := difference(registryAlone(g.shape()), registryAlone(want)); d != "" {
			t.Errorf("%s: after the next run:%s", what, g.readable(d))
		}
		g.restoreAll(what)
		if d := difference(filesOf(g.shape()), filesOf(planted)); d != "" {
			t.Errorf("%s: restored:%s", what, g.readable(d))
		}
		for path, at := range g.pushTimes() {
			if !at.Equal(times[path]) {
				t.Errorf("%s: %s was pushed at %v, and after the restore at %v", what, path, times[path], at)
			}
		}
		g.restore()
	}
	if code := g.run(gc...).code; code != 0 {
		t.Fatalf("it ends with %d", code)
	}
	g.remember()
	name := slices.Sorted(maps.Keys(runsIn(g.before)))[0]
	restore := []string{"quarantine", "restore", name, g.tree.Root(), "--json", oneByOne}
	watch := &storeFault{at: -1}
	g.Run("restore", func(t *testing.T) {
		watch.before(t, g.tree.Root())
		g.reported(restore...)
	})
	for k, call := range watch.seen {
		if on, _, _ := strings.Cut(call, " "); !slices.Contains([]string{"Move", "Put", "Prune", "Remove"}, on) || !isOneOf(k, 5) {
			continue
		}
		g.restore()
		what := fmt.Sprintf("restore killed after operation %d, %s", k+1, call)
		g.Run(what, func(t *testing.T) {
			f := &storeFault{at: k + 1, err: errDead, dies: true, late: true}
			f.before(t, g.tree.Root())
			g.reported(restore...)
		})
		g.unlock()
		g.inspected(what)
		g.restoreAll(what)
		if d := difference(filesOf(g.shape()), filesOf(planted)); d != "" {
			t.Errorf("%s: the next restore:%s", what, g.readable(d))
		}
	}
}

// TestARestoreMeetsDirectoriesThatItMakes: while it looks for a link, another goroutine makes the directories of
// that path. The storage then says that the link was listed and is gone. The restore looks again.
func TestARestoreMeetsDirectoriesThatItMakes(t *testing.T) {
	t.Parallel()
	g := newPolicyFixture(t)
	planted := g.before
	if run := g.run("gc", "--policy", g.policyFile(removesTags), "--prune-empty", "--quarantine", g.tree.Root()); run.code != 0 {
		t.Fatalf("it ends with %d: %s", run.code, run.report.Error)
	}
	for at := range 5 {
		(&storeFault{on: "Stat", path: "/link", at: 1 + 10*at, err: storage.ErrGone, mayMiss: true}).before(t, g.tree.Root())
		code, _, stderr := regsweep(g.fixture, "quarantine", "restore", "latest", "--dry-run", g.tree.Root())
		if code != 0 {
			t.Errorf("it ends with %d: %s", code, stderr)
		}
	}
	g.restoreAll("after faults")
	if d := difference(filesOf(g.shape()), filesOf(planted)); d != "" {
		t.Errorf("restored:%s", g.readable(d))
	}
}

// TestFaultsOfARunThatRemovesTags: any operation fails once, or says that an object does not exist. The run stops, or
// keeps more than it should. The creation times of images are read too.
func TestFaultsOfARunThatRemovesTags(t *testing.T) {
	t.Parallel()
	g := newPolicyFixture(t)
	policy := g.policyFile(strings.Replace(removesTags, "version: 1\n", "version: 1\ntime: created\n", 1))
	args := []string{"gc", "--policy", policy, "--prune-empty", g.tree.Root(), oneByOne}
	want, calls := g.undisturbed(args)
	names := slices.Sorted(maps.Keys(storeErrors))
	for k, call := range calls {
		if !isOneOf(k, 5) {
			continue
		}
		name := names[k/2%len(names)]
		what := fmt.Sprintf("%s at operation %d, %s", name, k+1, call)
		g.Run(what, func(t *testing.T) {
			(&storeFault{at: k + 1, err: storeErrors[name], mayMiss: true}).before(t, g.tree.Root())
			run := g.run(args...)
			g.judgeStop(what, run, want)
			if name != "not found" || run.code != 0 { // a backend checks that with a listing, so it does not say it of an index entry
				g.hasWholeTags()
			}
		})
		g.restore()
	}
}

// registryAlone is a shape without what is regsweep's own.
func registryAlone(shape map[string]string) map[string]string {
	others := map[string]string{}
	for name, content := range shape {
		if !strings.HasPrefix(name, storage.OwnDir) {
			others[name] = content
		}
	}
	return others
}
