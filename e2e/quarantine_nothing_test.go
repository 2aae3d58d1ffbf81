package e2e

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"regsweep/storage"
)

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
	for name, plant := range map[string]func(s *site){
		"an empty directory": func(s *site) { s.must(os.RemoveAll(filepath.Join(s.tree.Root(), "docker"))) },
		"an empty layout":    func(s *site) { s.tree.Mkdir("blobs"); s.tree.Mkdir("repositories") },
		"nothing to remove":  func(s *site) { s.plant("app", "v1", app(1)) },
		"names that are no runs": func(s *site) {
			s.plant("app", "v1", app(1))
			s.tree.Mkdir(storage.QuarantineDir)
			s.write(storage.QuarantineDir+"/a-file", "")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
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
		t.Skip("only root can make something for somebody else")
	}
	s := newSite(t)
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
