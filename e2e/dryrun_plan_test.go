package e2e

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"regsweep/internal/imagetest"
	"regsweep/internal/servertest"
)

// Between a plan and its application the registry took pushes: what is alive again stays
// whole, what is gone already is told, what has become garbage since stays for the next
// plan. Then the rest goes (promises 1 and 5).
func TestApply(t *testing.T) {
	t.Parallel()
	onEach(t, "a plan that has aged", func(t *testing.T, on backend) {
		s := newFixture(t)
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
		s := newFixture(t)
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
func (s *fixture) strike(path string, lines []string, struck func(line string) bool) {
	s.Helper()
	left := slices.DeleteFunc(slices.Clone(lines), struck)
	s.must(os.WriteFile(path, []byte(strings.Join(left, "")), 0o600))
}

// savePlan makes a plan, for a later day, of a registry that takes pushes.
func (s *fixture) savePlan(flags ...string) (path string, run gcRun) {
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
func (s *fixture) apply(plan string, flags ...string) gcRun {
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

// A plan file that is replaced keeps its owner and its mode. Where that can't be done it is
// not replaced.
func TestAPlanFileKeepsItsOwner(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		servertest.Lacks(t, "only root can give files away")
	}
	for _, test := range []struct {
		name             string
		uid, gid, runsAs int
		mode             os.FileMode
		code             int
		says             string
	}{
		{"another user's, by root", 1234, 4321, 0, 0o640, 0, ""},
		{"its own", nobody, nobody, nobody, 0o600, 0, ""},
		{"another user's", 1234, nobody, nobody, 0o666, 2, "plan.jsonl belongs to another user"},
		{"another group's", nobody, 4321, nobody, 0o666, 2, "plan.jsonl belongs to another user"},
		{"one that may not be written", nobody, nobody, nobody, 0o444, 2, "plan.jsonl can't be written: permission denied"},
	} {
		t.Run(test.name, func(t *testing.T) {
			tree, _ := treeWithGarbage(t)
			dir := t.TempDir()
			path := filepath.Join(dir, "plan.jsonl")
			for _, reach := range []string{dir, tree.Root()} { // which are root's alone
				for ; strings.HasPrefix(reach, os.TempDir()+"/"); reach = filepath.Dir(reach) {
					must(t, os.Chmod(reach, 0o755))
				}
			}
			must(t, os.Chmod(dir, 0o777))
			args := []string{"gc", "-d", "--plan", path, tree.Root()}
			run := func(uid int) (int, string) {
				if uid == nobody {
					return asNobody(t, args...)
				}
				command := program(t, args...)
				output, err := command.CombinedOutput()
				if command.ProcessState == nil {
					t.Fatal(err)
				}
				return command.ProcessState.ExitCode(), string(output)
			}
			if code, said := run(0); code != 0 {
				t.Fatalf("exit code %d: %s", code, said)
			}
			must(t, os.Chown(path, test.uid, test.gid), os.Chmod(path, test.mode))
			before, err := os.Stat(path)
			must(t, err)
			code, said := run(test.runsAs)
			if code != test.code || !strings.Contains(said, test.says) {
				t.Errorf("exit code %d: %s", code, said)
			}
			after, err := os.Stat(path)
			must(t, err)
			owner := after.Sys().(*syscall.Stat_t)
			if got, want := fmt.Sprint(owner.Uid, owner.Gid, after.Mode()), fmt.Sprint(test.uid, test.gid, test.mode); got != want {
				t.Errorf("owner and mode are %s, want %s", got, want)
			}
			if replaced := !os.SameFile(before, after); replaced != (test.code == 0) {
				t.Errorf("replaced: %t", replaced)
			}
			if left, err := filepath.Glob(path + "?*"); err != nil || len(left) > 0 {
				t.Errorf("it leaves %q, %v", left, err)
			}
		})
	}
}

// A plan that is read from standard input or from a pipe may never end. One signal ends the run.
func TestASignalEndsTheReadingOfAPlan(t *testing.T) {
	t.Parallel()
	for _, command := range [][]string{{"apply"}, {"quarantine", "restore", "--plan"}} {
		for _, from := range []string{"standard input", "a named pipe"} {
			t.Run(command[0]+" "+from, func(t *testing.T) {
				t.Parallel()
				root, _ := garbageTree(t, 3)
				path, fifo := "-", filepath.Join(t.TempDir(), "plan")
				if from == "a named pipe" {
					path = fifo
				}
				program := exec.Command("regsweep", append(command, path, root)...)
				var said strings.Builder
				program.Stderr = &said
				input, err := program.StdinPipe()
				if err := errors.Join(err, syscall.Mkfifo(fifo, 0o600), program.Start()); err != nil {
					t.Fatal(err)
				}
				defer input.Close()
				writer := io.Writer(input)
				if path == fifo {
					file, err := os.OpenFile(fifo, os.O_WRONLY, 0)
					if err != nil {
						t.Fatal(err)
					}
					defer file.Close()
					writer = file
				}
				// More than a pipe holds: once it is written, most of it was read.
				if _, err := writer.Write(make([]byte, 1<<20)); err != nil {
					t.Fatal(err)
				}
				if err := program.Process.Signal(syscall.SIGTERM); err != nil {
					t.Fatal(err)
				}
				var exit *exec.ExitError
				if err := program.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 130 {
					t.Errorf("ends with %v: %s", err, &said)
				}
			})
		}
	}
}
