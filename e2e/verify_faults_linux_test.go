package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"regsweep/internal/imagetest"

	"github.com/opencontainers/go-digest"
)

// repairing are the commands that repair, as they are tried with each fault and kill.
var repairing = []struct {
	name string
	args func(mirror string) []string
}{
	{"links and refill", func(mirror string) []string { return []string{"--repair=links", "--refill", mirror} }},
	{"blobs", func(string) []string { return []string{"--repair=blobs"} }},
	{"untag-broken", func(string) []string { return []string{"--repair=untag-broken"} }},
}

// repairFixture is a registry with an example of everything that is repaired, and much that is whole.
type repairFixture struct {
	*randomRegistry
	mirror  *imagetest.Tree
	damaged saved
	tags    []string
	failing []string // of tags, before any repair
}

func newRepairFixture(t *testing.T, size int) *repairFixture {
	t.Helper()
	g := &repairFixture{
		randomRegistry: &randomRegistry{fixture: newFixture(t), Rand: rand.New(rand.NewPCG(21, 21))},
		mirror:         imagetest.NewTree(t, t.TempDir()),
	}
	g.plant("whole", "v1", app(1, 2))
	g.plant("whole", "index", imagetest.Index(imagetest.OCI, app(1, 3), app(1, 4)))
	g.plant("whole/b", "v1", app(5))
	damage := []func(m *imagetest.Manifest, tag string){
		func(m *imagetest.Manifest, _ string) {
			g.tree.Remove(imagetest.LayerPath("broken", m.Blobs[0].Digest()))
		},
		func(m *imagetest.Manifest, _ string) {
			g.tree.Write(imagetest.RevisionPath("broken", m.Digest()), "")
		},
		func(m *imagetest.Manifest, _ string) {
			g.tree.Write(imagetest.LayerPath("broken", m.Blobs[0].Digest()), m.Digest().String())
		},
		func(m *imagetest.Manifest, _ string) {
			content := slices.Clone(m.Blobs[0].Content)
			content[100] ^= 1
			g.tree.Write(imagetest.BlobPath(m.Blobs[0].Digest()), string(content))
		},
		func(m *imagetest.Manifest, _ string) { g.tree.Remove(imagetest.BlobPath(m.Digest())) },
		func(m *imagetest.Manifest, _ string) { g.tree.Write(imagetest.BlobPath(m.Digest()), "") },
		func(m *imagetest.Manifest, _ string) { g.tree.Remove(imagetest.BlobPath(m.Blobs[1].Digest())) },
		func(_ *imagetest.Manifest, tag string) { g.tree.Remove(imagetest.TagPath("broken", tag)) },
		func(m *imagetest.Manifest, tag string) {
			g.tree.Write(imagetest.TagPath("broken", tag), m.Digest().String()+"\n")
		},
	}
	var images []*imagetest.Manifest
	for i := range size {
		m := app(1000+2*i, 1001+2*i)
		images = append(images, m)
		g.plant("broken", "t"+string(rune('a'+i%26))+strings.Repeat("x", i/26), m)
	}
	g.must(os.CopyFS(g.mirror.Root(), os.DirFS(g.tree.Root())))
	for i, m := range images {
		damage[i%len(damage)](m, "t"+string(rune('a'+i%26))+strings.Repeat("x", i/26))
	}
	g.tree.Age("repositories", time.Hour)
	g.damaged = g.save()
	var err error
	g.tags, err = tagsOf(g.tree)
	g.must(err)
	g.failing, _, _ = g.randomRegistry.failing(g.tags)
	if len(g.failing) != size {
		t.Fatalf("only %q fail", g.failing)
	}
	return g
}

// putBack makes the registry damaged again as it was.
func (g *repairFixture) putBack() {
	g.Helper()
	g.restore(g.damaged)
	g.tree.Age("repositories", time.Hour)
}

// outcome is what there is outside of the quarantine, without directories.
func (g *repairFixture) outcome() map[string]string {
	g.Helper()
	shape := withoutDirs(g.shape())
	for path := range shape {
		if strings.HasPrefix(path, ".regsweep/quarantine/") {
			delete(shape, path)
		}
	}
	return shape
}

// changes are the number of files that were written or removed.
func (g *repairFixture) changes() (n int) {
	g.Helper()
	is := map[string]bool{}
	for path, of := range g.save() {
		if strings.HasPrefix(path, g.tree.Path(".regsweep")) || of.info.IsDir() {
			continue
		}
		is[path] = true
		if was, isKnown := g.damaged[path]; !isKnown || !os.SameFile(was.info, of.info) {
			n++
		}
	}
	for path, was := range g.damaged {
		if !is[path] && !was.info.IsDir() {
			n++
		}
	}
	return n
}

// notWorse checks that each tag that was whole is whole.
func (g *repairFixture) notWorse(what string) {
	g.Helper()
	_, _, reasons := g.randomRegistry.failing(g.tags)
	for tag, reason := range reasons {
		if !slices.Contains(g.failing, tag) {
			g.Errorf("%s: %s was whole, and fails: %v", what, g.readable(tag), reason)
		}
	}
}

// kept checks that no blob is gone, nor its content, whether right or wrong: it is in its place or in a quarantine.
func (g *repairFixture) kept(what string) {
	g.Helper()
	there := map[digest.Digest]bool{}
	for _, of := range g.save() {
		there[digest.FromBytes(of.content)] = true
	}
	for path, of := range g.damaged {
		if isBlob(strings.TrimPrefix(path, g.tree.Path("")+"/")) && !there[digest.FromBytes(of.content)] {
			g.Errorf("%s: the content of %s is gone", what, g.readable(path))
		}
	}
}

// again runs the command until its end, which is as that of an undisturbed run.
func (g *repairFixture) again(what string, args []string, want map[string]string) {
	g.Helper()
	if err := os.Remove(g.tree.Path(".regsweep/lock")); err != nil && !os.IsNotExist(err) {
		g.Fatal(err)
	}
	g.verify(args...)
	if d := difference(g.outcome(), want); d != "" {
		g.Errorf("%s: after the next run:%s", what, g.readable(d))
	}
	g.notWorse(what + ", and again")
}

// TestEachSystemCallOfARepairFails: whatever system call of a repair fails, no tag that was whole is broken, no
// content is lost, and the next run ends as an undisturbed one does.
func TestEachSystemCallOfARepairFails(t *testing.T) {
	t.Parallel()
	for _, command := range repairing {
		t.Run(command.name, func(t *testing.T) {
			t.Parallel()
			g := newRepairFixture(t, 9)
			args := append(command.args(g.mirror.Root()), "--read-data", "--registry-stopped", "--yes", "--no-cache", oneByOne, g.tree.Root())
			var want map[string]string
			calls := recordCalls(t, g.tree.Root(), func() {
				g.verify(args...)
				want = g.outcome()
				g.putBack()
			})
			cases := faultedCases()
			if !*everyFault {
				cases = min(12, cases)
			}
			faults := faultsOf(calls, cases)
			for i, f := range faults {
				checkInterrupted(t, i, len(faults))
				met, stop := failCalls(t, g.tree.Root(), f)
				run := g.reported(append([]string{"verify", "--json"}, args...)...)
				if stop(); met() == 0 {
					t.Errorf("%s: the fault was never met", f)
				}
				what := f.String()
				g.notWorse(what)
				g.kept(what)
				if run.code != 0 && run.code != 4 && run.report.Error == "" {
					t.Errorf("%s: it ends with %d and does not say why", what, run.code)
				}
				if f.isBenign() {
					if d := difference(g.outcome(), want); d != "" || run.report.Error != "" {
						t.Errorf("%s: ends with %d, %s%s", what, run.code, run.report.Error, g.readable(d))
					}
				}
				if i%4 == 0 || *everyFault {
					g.again(what, args, want)
				}
				g.putBack()
			}
		})
	}
}

// TestARepairIsKilled at random moments: no tag that was whole is broken, and the next run ends as an undisturbed
// one does.
func TestARepairIsKilled(t *testing.T) {
	t.Parallel()
	for _, command := range repairing {
		t.Run(command.name, func(t *testing.T) {
			t.Parallel()
			g := newRepairFixture(t, 27)
			args := append(command.args(g.mirror.Root()), "--read-data", "--registry-stopped", "--yes", "--no-cache", g.tree.Root())
			g.verify(args...)
			want, all := g.outcome(), g.changes()
			g.putBack()
			for range 3 {
				after := g.IntN(all)
				run := start(t, append([]string{"verify", "--json"}, args...)...)
				eventually(t, "it repairs", func() bool { return g.changes() >= after })
				run.signal(t, killSignal)
				run.exit(t)
				what := fmt.Sprintf("killed after %d of %d changes", after, all)
				g.notWorse(what)
				g.kept(what)
				g.again(what, args, want)
				g.putBack()
			}
		})
	}
}
