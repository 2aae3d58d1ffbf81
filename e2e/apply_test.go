package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"regsweep/internal/imagetest"
)

// Between a plan and its application the registry took pushes: what is alive again stays
// whole, what is gone already is told, what has become garbage since stays for the next
// plan. Then the rest goes (promises 1 and 5).
func TestApply(t *testing.T) {
	t.Parallel()
	onEach(t, "a plan that has aged", func(t *testing.T, on backend) {
		s := newSite(t)
		current, again, mounted, gone, pulled, late := app(1, 2), app(1, 3), app(1, 4), app(1, 5), app(1, 6), app(1, 7)
		for _, m := range []*imagetest.Manifest{again, mounted, gone, pulled, current} {
			s.push("team/app:latest", m)
		}
		s.on(on)
		planFile, plan := s.savePlan("-m")
		if entries := len(plan.lines()); entries != 4*(1+1+2+3) {
			t.Fatalf("the plan has %d lines: %s", entries, s.readable(strings.Join(plan.lines(), "\n")))
		}

		// One is tagged again, one is deleted through the registry, a layer of one comes
		// into another image, and one has lost its tag only now.
		s.push("team/app:back", again)
		s.delete("team/app", gone.Digest().String())
		other := imagetest.Image(imagetest.OCI, layer(4), layer(8))
		s.push("lib/other:v1", other)
		s.push("team/app:moved", late)
		s.push("team/app:moved", current)
		alive := []image{
			pulls("team/app", "latest", current), pulls("team/app", "back", again), pulls("team/app", "moved", late),
			pulls("lib/other", "v1", other),
		}
		s.pull("before", s.client, alive)
		before := s.files()
		s.must(s.registry.SetReadOnly(true))

		goes := slices.Concat(
			tagEntriesGo("team/app", "latest", mounted, gone, pulled),
			revisionsGo("team/app", mounted, pulled),
			layersGo("team/app", layer(4).Digest(), configOf(mounted), layer(5).Digest(), configOf(gone), layer(6).Digest(), configOf(pulled)),
			blobsGo(mounted.Digest(), configOf(mounted)), blobsGo(gone.Digest(), layer(5).Digest(), configOf(gone)),
			blobsGo(pulled.Digest(), layer(6).Digest(), configOf(pulled)))
		leftOut := []string{
			"blob tagged 4", // three of the one that is back, and the layer of the other image
			"layer_link tagged 2", "revision gone 1", "revision tagged 1", "tag_index_entry tagged 1",
		}
		dry := s.apply(planFile, "--dry-run")
		s.same("what a dry run leaves out", dry.leftOut(), leftOut)
		s.same("the files after a dry run", keys(s.files()), keys(before))

		applied := s.apply(planFile)
		if applied.code != 0 || applied.report.Removed != applied.report.Garbage || applied.report.Garbage != dry.report.Garbage {
			t.Errorf("it ends with %d: removed %+v, of %+v, and a dry run says %+v\n%s",
				applied.code, applied.report.Removed, applied.report.Garbage, dry.report.Garbage, applied.stderr)
		}
		s.same("what is left out", applied.leftOut(), dry.leftOut())
		s.same("the files", keys(s.files()), keys(without(before, goes)))
		s.pull("after it", s.client, alive)
		s.pullFromRelease2(alive)

		// A second time there is nothing left, and a full run takes what came later.
		if counts := s.apply(planFile).report.Garbage.counts(); len(counts) > 0 {
			t.Errorf("applied again it removes %v", counts)
		}
		rest := s.gc("-m")
		s.same("what is left for gc", rest.lines(), slices.Sorted(slices.Values(slices.Concat(
			tagEntriesGo("team/app", "moved", late), revisionsGo("team/app", late),
			layersGo("team/app", layer(7).Digest(), configOf(late)), blobsGo(late.Digest(), layer(7).Digest(), configOf(late))))))
		s.pull("after gc", s.client, []image{pulls("team/app", "latest", current), pulls("team/app", "back", again), pulls("lib/other", "v1", other)})
	})
}

// Whatever line is struck from a plan, what it names stays whole: an image whose manifest
// is not to go pulls (promise 1).
func TestApplyWithoutALine(t *testing.T) {
	t.Parallel()
	onEach(t, "each in turn", func(t *testing.T, on backend) {
		s := newSite(t)
		child, current := app(1, 2), app(1, 3)
		index := imagetest.Index(imagetest.OCI, child, app(4))
		s.push("team/app:latest", index)
		s.push("team/app:latest", current)
		s.on(on)
		planFile, _ := s.savePlan("-m")
		content, err := os.ReadFile(planFile)
		s.must(err)
		s.must(s.registry.SetReadOnly(true))
		lines := strings.SplitAfter(string(content), "\n")
		for at := 1; at < len(lines)-2; at++ {
			s.strike(planFile, lines, func(line string) bool { return line == lines[at] })
			run := s.apply(planFile, "--partial", "--dry-run")
			if run.code != 0 {
				t.Fatalf("without %s%s", lines[at], run.stderr)
			}
			removed := run.report.Garbage.counts()
			// The revision of the index, or the entry that leads to it, keeps all of it.
			keepsAll := strings.Contains(lines[at], index.Digest().Encoded()) && !strings.Contains(lines[at], `"blob"`)
			if keepsAll && len(removed) > 0 {
				t.Errorf("without %s it removes %v", s.readable(lines[at]), removed)
			}
			if !keepsAll && len(removed) == 0 {
				t.Errorf("without %s it removes nothing", s.readable(lines[at]))
			}
		}

		// Without the revision of the index, applied for real, the whole of it pulls.
		alive := []image{pulls("team/app", "latest", current, index)}
		s.strike(planFile, lines, func(line string) bool {
			return strings.Contains(line, `"revision"`) && strings.Contains(line, index.Digest().Encoded())
		})
		if run := s.apply(planFile, "--partial"); run.code != 0 {
			t.Fatalf("%d: %s", run.code, run.stderr)
		}
		s.pull("after it", s.client, alive)
		s.pullFromRelease2(alive)
	})
}

// strike writes a file without some of its lines.
func (s *site) strike(path string, lines []string, struck func(line string) bool) {
	s.Helper()
	left := slices.DeleteFunc(slices.Clone(lines), struck)
	s.must(os.WriteFile(path, []byte(strings.Join(left, "")), 0o600))
}

// savePlan makes a plan, for a later day, of a registry that takes pushes.
func (s *site) savePlan(flags ...string) (path string, run gcRun) {
	s.Helper()
	path = filepath.Join(s.TempDir(), "plan.jsonl")
	args := []string{"gc", "--dry-run", "--json", "--plan", path, s.config(s.registry.ConfigYAML())}
	run = s.reported(append(args, flags...)...)
	if run.code != 0 {
		s.Fatalf("%d: %s", run.code, run.stderr)
	}
	run.plan = s.readPlan(path)
	return path, run
}

// apply runs `regsweep apply` against the registry.
func (s *site) apply(plan string, flags ...string) gcRun {
	s.Helper()
	args := []string{"apply", plan, s.config(s.registry.ConfigYAML()), "--json", "--registry", s.registry.URL()}
	return s.reported(append(args, flags...)...)
}

// leftOut are what was left out of a plan: kind, reason, and how many.
func (run gcRun) leftOut() []string {
	lines := []string{}
	for _, row := range run.report.LeftOut {
		lines = append(lines, fmt.Sprintf("%s %s %d", row.Kind, row.Reason, row.Count))
	}
	slices.Sort(lines)
	return lines
}
