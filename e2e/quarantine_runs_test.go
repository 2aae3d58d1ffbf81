package e2e

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"regsweep/internal/imagetest"
	"regsweep/internal/servertest"
	"regsweep/storage"
)

// shown is the report of quarantine list and of quarantine show.
type shown struct {
	Runs []struct {
		Run            string
		Plan, Contents map[string]struct{ Count int }
		Objects        struct{ Count int }
	}
	Contents []struct{ Kind, Repository, Digest, Path string }
	Restored struct {
		From        string
		Back, There map[string]struct{ Count int }
		Linked      []struct{ Repository, Digest string }
		Unlinked    string
		NotLinked   []string               `json:"not_linked"`
		NotRestored []struct{ Run string } `json:"not_restored"`
	}
	Error string
}

// quarantine runs a command of the quarantine and reads its report.
func (s *fixture) quarantine(args ...string) (code int, report shown) {
	s.Helper()
	code, stdout, stderr := regsweep(s, append([]string{"quarantine"}, append(args, "--json")...)...)
	if err := json.Unmarshal([]byte(stdout), &report); err != nil {
		s.Fatalf("%v: %v: %q %q", args, err, stdout, stderr)
	}
	return code, report
}

// interrupted makes a run of gc --quarantine that is gone after so many moves.
func (g *quarantineFixture) interrupted(moves int) {
	g.Helper()
	f := &storeFault{err: errDead, dies: true, late: true}
	watch := &storeFault{at: -1}
	g.Run("undisturbed", func(t *testing.T) {
		watch.before(t, g.tree.Root())
		g.reported(append(g.gc(), "--json", oneByOne)...)
	})
	g.restore()
	for at, call := range watch.seen {
		if strings.HasPrefix(call, "Move ") {
			if moves--; moves == 0 {
				f.at = at + 1
			}
		}
	}
	if f.at == 0 {
		g.Fatal("it does not move so much")
	}
	g.Run("interrupted", func(t *testing.T) {
		f.before(t, g.tree.Root())
		if run := g.reported(append(g.gc(), "--json", oneByOne)...); run.code == 0 {
			t.Error("it was not interrupted")
		}
	})
	g.unlock()
}

// TestRunsAreRestoredInAnyOrder: a run that was interrupted and the run that finished it restore
// the registry whichever is restored first, one after the other or with --all.
func TestRunsAreRestoredInAnyOrder(t *testing.T) {
	t.Parallel()
	for name, orders := range map[string]func(g *quarantineFixture, runs []string) [][]string{
		"as listed":    func(_ *quarantineFixture, runs []string) [][]string { return [][]string{{runs[0]}, {runs[1]}} },
		"newest first": func(_ *quarantineFixture, runs []string) [][]string { return [][]string{{runs[1]}, {runs[0]}} },
		"all":          func(*quarantineFixture, []string) [][]string { return [][]string{{"--all"}} },
		"a repository of the first, then all": func(_ *quarantineFixture, runs []string) [][]string {
			return [][]string{{runs[0], "--repository", "app"}, {"--all"}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, moves := range []int{1, 4, 10} {
				g := &quarantineFixture{variedFixture: newVariedFixture(t, false)}
				g.first = g.before
				g.interrupted(moves)
				if run := g.reported(append(g.gc(), "--json")...); run.code != 0 {
					t.Fatalf("the run that finishes ends with %d: %s", run.code, run.report.Error)
				}
				runs := slices.Sorted(maps.Keys(runsIn(g.shape())))
				if len(runs) != 2 {
					t.Fatalf("after %d moves there are the runs %q", moves, runs)
				}
				for _, args := range orders(g, runs) {
					args = slices.Concat([]string{"restore"}, args, []string{g.tree.Root()})
					if code, report := g.quarantine(args...); code != 0 {
						t.Errorf("after %d moves, %v ends with %d: %s", moves, args, code, report.Error)
					}
				}
				now := g.shape()
				for name := range g.first {
					if now[name] == "" && g.isBare(name) {
						now[name] = aDirectory
					}
				}
				if d := difference(now, g.first); d != "" {
					t.Errorf("after %d moves, restored:%s", moves, g.readable(d))
				}
			}
		})
	}
}

// TestTheListShowsWhatIsInTheQuarantine: of a run that was interrupted, list and show have what
// was moved, and of a run that was restored in part, what is left. They take no lock and
// write nothing.
func TestTheListShowsWhatIsInTheQuarantine(t *testing.T) {
	t.Parallel()
	g := &quarantineFixture{variedFixture: newVariedFixture(t, false)}
	g.first = g.before
	g.interrupted(5)
	inQuarantine := func() (n int) {
		for name, content := range g.shape() {
			if match := inRun.FindStringSubmatch(name); match != nil && content != aDirectory && match[2] != "plan.jsonl" {
				n++
			}
		}
		return n
	}
	holds := inQuarantine()
	// Another run holds the lock, and the storage is not to be written to.
	g.write(storage.OwnDir+"/lock", `{"token":"another","host":"elsewhere"}`)
	before := g.shape()
	code, list := g.quarantine("list", g.tree.Root())
	if code != 0 || len(list.Runs) != 1 {
		t.Fatalf("list ends with %d: %+v", code, list)
	}
	planned, contained := 0, 0
	for _, kind := range list.Runs[0].Plan {
		planned += kind.Count
	}
	for _, kind := range list.Runs[0].Contents {
		contained += kind.Count
	}
	if holds != 5 || contained != holds || planned <= contained {
		t.Errorf("%d objects were moved; the list has %d of %d", holds, contained, planned)
	}
	code, show := g.quarantine("show", "latest", g.tree.Root())
	if code != 0 || len(show.Contents) != holds {
		t.Errorf("show ends with %d, and has %d of %d objects: %+v", code, len(show.Contents), holds, show.Contents)
	}
	for _, entry := range show.Contents {
		path := strings.TrimPrefix(entry.Path, "/docker/registry/v2/")
		if before[storage.QuarantineDir+"/"+list.Runs[0].Run+"/"+path] == "" || before[path] != "" {
			t.Errorf("show has %s, which is not in the quarantine", g.readable(path))
		}
	}
	if _, text, _ := regsweep(g.fixture, "quarantine", "list", g.tree.Root()); !strings.Contains(text, "; the rest of its plan was restored, or never moved") {
		t.Errorf("the list does not say that the run is not whole: %s", text)
	}
	if d := difference(g.shape(), before); d != "" {
		t.Errorf("list and show change:%s", d)
	}
	g.unlock()
	if code, _ := g.quarantine("restore", "latest", "--digest", show.Contents[0].Digest, g.tree.Root()); code != 0 {
		t.Errorf("restoring a part ends with %d", code)
	}
	left := inQuarantine()
	code, list = g.quarantine("list", g.tree.Root())
	contained = 0
	for _, run := range list.Runs {
		for _, kind := range run.Contents {
			contained += kind.Count
		}
	}
	if code != 0 || contained != left || left == 0 || left >= holds {
		t.Errorf("of %d objects %d are left; the list, which ends with %d, has %d", holds, left, code, contained)
	}
	if code, _ := g.quarantine("restore", "latest", g.tree.Root()); code != 0 {
		t.Errorf("restore ends with %d", code)
	}
	if d := difference(g.shape(), g.first); d != "" {
		t.Errorf("restored:%s", g.readable(d))
	}
}

// TestTheNameOfARun: a run is meant by its name, by the beginning of it that no other run has, or
// by latest. A target in its place is refused, and the default target is not used.
func TestTheNameOfARun(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	s.plant("app", "v1", app(1))
	var runs []string
	for n := range 2 {
		s.plant("app", "", app(1, 20+n))
		if code, _, stderr := regsweep(s, "gc", "-m", "--quarantine", "--registry-stopped", s.tree.Root()); code != 0 {
			t.Fatal(stderr)
		}
		runs = slices.Sorted(maps.Keys(runsIn(s.shape())))
		if n == 0 { // the second run's name has to begin otherwise
			s.must(os.Rename(s.tree.Path(storage.QuarantineDir+"/"+runs[0]), s.tree.Path(storage.QuarantineDir+"/20200102T030405Z-aaaaaaaa")))
		}
	}
	s.tree.Mkdir(storage.QuarantineDir + "/zz-somebody-elses")
	root := s.tree.Root()
	for _, test := range []struct {
		args []string
		run  string
	}{
		{[]string{"show", "latest", root}, runs[1]},
		{[]string{"show", "2020", root}, runs[0]},
		{[]string{"show", runs[1][:12], root}, runs[1]},
		{[]string{"purge", "-d", "--run", "latest", root}, runs[1]},
		{[]string{"purge", "-d", "--run", "2020010", root}, runs[0]},
	} {
		if code, report := s.quarantine(test.args...); code != 0 || len(report.Runs) != 1 || report.Runs[0].Run != test.run {
			t.Errorf("%v ends with %d, on %+v: %s", test.args, code, report.Runs, report.Error)
		}
	}
	for _, meant := range []string{"latest", "2020"} {
		want := map[string]string{"latest": runs[1], "2020": runs[0]}[meant]
		if code, report := s.quarantine("restore", "-d", meant, root); code != 0 || report.Restored.From != want {
			t.Errorf("restore %s ends with %d, from %s", meant, code, report.Restored.From)
		}
	}
	before := s.shape()
	for _, args := range [][]string{
		{"restore", s.config("version: 0.1\nstorage: {filesystem: {rootdirectory: " + root + "}}\n")},
		{"restore", "config.yml"}, {"show", "config.yml"}, {"restore", "s3://bucket"}, {"show", root},
		{"restore"}, {"show"}, {"restore", "2", root}, {"show", "19990101", root}, {"purge", "--yes", "--run", "2", root},
		{"restore", "--all", "--plan", "plan.jsonl", root},
	} {
		if code, stdout, stderr := regsweep(s, append([]string{"quarantine"}, args...)...); code != 2 || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%v ends with %d, %q, %q", args, code, stdout, stderr)
		}
	}
	for _, target := range []string{"config.yml", "s3://bucket", root, "docs"} {
		for _, command := range []string{"restore", "show"} {
			if code, _, stderr := regsweep(s, "quarantine", command, target); code != 2 || !strings.Contains(stderr, "is a target and no run") {
				t.Errorf("%s %s ends with %d, %q", command, target, code, stderr)
			}
		}
	}
	if d := difference(s.shape(), before); d != "" {
		t.Errorf("it changes:%s", d)
	}
}

// TestAnImageThatTheAPIDeletedIsRestored: the API removes the revision link of an image and the
// next gc the rest of it. An image that is restored by its digest is linked again where its
// layers are linked, and nowhere else, so that it can be pulled.
func TestAnImageThatTheAPIDeletedIsRestored(t *testing.T) {
	t.Parallel()
	deleted, alive := app(1, 2), app(1, 3)
	first, second := app(4, 5), app(4, 6)
	index := imagetest.Index(imagetest.OCI, first, second)
	gone := func(t *testing.T) *fixture {
		s := newFixture(t)
		s.push("team/app:v1", deleted)
		s.push("team/app:latest", alive)
		s.push("other/app:v1", deleted)
		s.push("third/app:v1", alive)
		s.push("third/app:base", app(2))
		s.push("team/multi:v1", index)
		s.delete("team/app", deleted.Digest().String())
		s.delete("other/app", deleted.Digest().String())
		s.delete("third/app", app(2).Digest().String())
		s.delete("team/multi", index.Digest().String())
		s.delete("team/multi", first.Digest().String())
		if run := s.reported("gc", "-m", "--quarantine", "--registry-stopped", "--json", s.tree.Root()); run.code != 0 {
			t.Fatal(run.report.Error)
		}
		return s
	}
	for name, test := range map[string]struct {
		args   []string
		code   int
		pulls  []image
		linked int
		absent []string
	}{
		"an image, in both repositories": {
			args: []string{"--digest", deleted.Digest().String()}, linked: 2,
			pulls:  []image{pulls("team/app", deleted), pulls("other/app", deleted)},
			absent: []string{"third/app"},
		},
		"an image, in one repository": {
			args: []string{"--digest", deleted.Digest().String(), "--repository", "other/app"}, linked: 1,
			pulls:  []image{pulls("other/app", deleted)},
			absent: []string{"third/app", "team/app"},
		},
		"an index that has a deleted image": {
			args: []string{"--digest", index.Digest().String()}, linked: 2,
			pulls: []image{pulls("team/multi", index, first, second)},
		},
		"a repository that has not all layers": {
			args: []string{"--digest", deleted.Digest().String(), "--repository", "third/app"}, code: 4,
			absent: []string{"third/app", "team/app", "other/app"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := gone(t)
			restore := append([]string{"restore", "latest", s.tree.Root()}, test.args...)
			before := s.shape()
			code, dry := s.quarantine(append(restore, "--dry-run")...)
			if d := difference(s.shape(), before); d != "" || code != test.code {
				t.Errorf("a dry run ends with %d and changes:%s", code, d)
			}
			code, report := s.quarantine(restore...)
			if code != test.code || len(report.Restored.Linked) != test.linked || (report.Restored.Unlinked != "") != (code == 4) {
				t.Errorf("ends with %d: %+v", code, report.Restored)
			}
			if len(dry.Restored.Linked) != test.linked || dry.Restored.Unlinked != report.Restored.Unlinked {
				t.Errorf("the dry run has %+v", dry.Restored)
			}
			s.pull("restored", s.client, test.pulls)
			s.pull("restored", s.client, []image{pulls("team/app", "latest", alive), pulls("third/app", "v1", alive)})
			for _, repository := range test.absent {
				if s.tree.Exists(imagetest.RevisionPath(repository, deleted.Digest())) {
					t.Errorf("it is linked in %s", repository)
				}
			}
			if code, again := s.quarantine(restore...); code != test.code || len(again.Restored.Linked) != 0 {
				t.Errorf("once more it ends with %d: %+v", code, again.Restored)
			}
			if code, _ := s.quarantine("restore", "--all", s.tree.Root()); code != 0 {
				t.Errorf("restoring the rest ends with %d", code)
			}
		})
	}
}

// owned is each file and directory of a tree with its mode and owner.
func owned(t *testing.T, root string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		owner := info.Sys().(*syscall.Stat_t)
		all[path] = fmt.Sprintf("%v %d:%d", info.Mode(), owner.Uid, owner.Gid)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestWhatFindsNothingCreatesNothing: commands that read, and commands that find nothing to do,
// leave a storage as it is, also one that nobody has pushed to.
func TestWhatFindsNothingCreatesNothing(t *testing.T) {
	t.Parallel()
	for name, plant := range map[string]func(s *fixture){
		"an empty directory": func(s *fixture) { s.must(os.RemoveAll(filepath.Join(s.tree.Root(), "docker"))) },
		"an empty layout":    func(s *fixture) { s.tree.Mkdir("blobs"); s.tree.Mkdir("repositories") },
		"nothing to remove":  func(s *fixture) { s.plant("app", "v1", app(1)) },
		"names that are no runs": func(s *fixture) {
			s.plant("app", "v1", app(1))
			s.tree.Mkdir(storage.QuarantineDir)
			s.write(storage.QuarantineDir+"/a-file", "")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newFixture(t)
			plant(s)
			root, plan := s.tree.Root(), filepath.Join(t.TempDir(), "plan.jsonl")
			target := s.config("version: 0.1\nstorage: {filesystem: {rootdirectory: " + root + "}}\n")
			before := owned(t, root)
			for _, test := range []struct {
				args []string
				code string
			}{
				{[]string{"gc", "-d", "--plan", plan}, "0"},
				{[]string{"gc", "-m", "--allow-empty", "--registry-stopped"}, "0"},
				{[]string{"gc", "-m", "--allow-empty", "--quarantine", "--registry-stopped"}, "0"},
				{[]string{"apply", plan, "--registry-stopped"}, "0"},
				{[]string{"check", "--registry-stopped"}, "0"},
				{[]string{"quarantine", "list"}, "0"},
				{[]string{"quarantine", "show", "latest"}, "2"},
				{[]string{"quarantine", "restore", "latest"}, "2"},
				{[]string{"quarantine", "restore", "20260131T020000Z-5f3a9c1e"}, "2"},
				{[]string{"quarantine", "restore", "--all"}, "0"},
				{[]string{"quarantine", "restore", "--plan", plan}, "0"},
				{[]string{"quarantine", "purge", "--older-than", "0h", "--yes"}, "0"},
				{[]string{"quarantine", "purge", "--run", "latest", "--yes"}, "2"},
			} {
				code, _, stderr := regsweep(s, append(test.args, target)...)
				if fmt.Sprint(code) != test.code && (code != 2 || s.tree.Exists("")) { // 2: a root without a registry
					t.Errorf("%v ends with %d: %s", test.args, code, stderr)
				}
				if d := difference(owned(t, root), before); d != "" {
					t.Errorf("%v changes:%s", test.args, d)
				}
			}
		})
	}
}

// TestWhatIsCreatedBelongsToTheRegistry: whatever regsweep makes as root has the owner of the
// directory that it is made in, and its permissions: the registry, which is somebody else, and the
// next run, which may be the registry's user, have to be able to write there.
func TestWhatIsCreatedBelongsToTheRegistry(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		servertest.Lacks(t, "only root can make something for somebody else")
	}
	s := newFixture(t)
	s.plant("app", "v1", app(1, 2))
	for n := range 20 {
		s.plant("app", "", app(1, 30+n))
	}
	root := s.tree.Root()
	give(t, root)
	layout := s.tree.Path("")
	output, err := exec.Command("sh", "-c", `find "$1" -type d -exec chmod 2750 {} + && find "$1" -type f -exec chmod 0640 {} +`, "sh", layout).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	before := owned(t, layout)
	judge := func(when string) {
		t.Helper()
		for path, is := range owned(t, layout) {
			want := "-rw-r----- 65534:65534"
			if before[path] != "" {
				want = before[path]
			} else if strings.HasPrefix(is, "d") {
				want = "dg" + "rwxr-x--- 65534:65534"
			}
			if is != want {
				t.Errorf("%s: %s is %s, want %s", when, strings.TrimPrefix(path, layout), is, want)
			}
		}
	}
	run := startIn(t, nil, "gc", "-m", "--quarantine", "--registry-stopped", "--max-requests=150", root)
	eventually(t, "something is moved", func() bool {
		found, err := filepath.Glob(s.tree.Path(storage.QuarantineDir + "/*/repositories/app/_layers/sha256/*"))
		return err == nil && len(found) > 0
	})
	if err := run.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if !s.tree.Exists(storage.OwnDir + "/lock") {
		t.Error("it moves without a lock")
	}
	judge("in the middle of gc")
	if err := run.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if code := run.exit(t); code != 0 {
		t.Fatalf("gc ends with %d: %s", code, &run.stderr)
	}
	judge("after gc")
	// A link that is written anew has the owner and the permissions too.
	runs := runsIn(s.shape())
	for run, holds := range runs {
		for name := range holds {
			if strings.Contains(name, "_layers") {
				s.must(os.RemoveAll(s.tree.Path(storage.QuarantineDir + "/" + run + "/" + name)))
				break
			}
		}
	}
	if code, _, stderr := regsweep(s, "quarantine", "restore", "latest", root); code != 0 {
		t.Errorf("restore ends with %d: %s", code, stderr)
	}
	judge("after restore")
	if d := difference(owned(t, layout), before); d != "" {
		t.Errorf("restored:%s", d)
	}
	// Nobody but the owner has to be able to do the next.
	if code, stderr := asNobody(t, "gc", "-m", "--quarantine", "--registry-stopped", root); code != 0 {
		t.Errorf("the registry's user: gc ends with %d: %s", code, stderr)
	}
	if code, stderr := asNobody(t, "quarantine", "restore", "latest", root); code != 0 {
		t.Errorf("the registry's user: restore ends with %d: %s", code, stderr)
	}
	s.pull("at the end", s.client, []image{pulls("app", "v1")})
}
