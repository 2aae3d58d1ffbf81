package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"regsweep/internal/imagetest"
	"regsweep/internal/registrytest"
	"regsweep/storage"
)

// ontoDisk moves a directory of a registry to a disk of its own.
func ontoDisk(t *testing.T, dir string) {
	t.Helper()
	other := dir + ".other"
	if err := os.Rename(dir, other); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	mount(t, "tmpfs", dir, "tmpfs", 0, "size=16m")
	if output, err := exec.Command("cp", "-a", other+"/.", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	if err := os.RemoveAll(other); err != nil {
		t.Fatal(err)
	}
}

// TestAQuarantineStaysOnOneMount: where something would have to be moved to another filesystem, or
// through another mount of the same one, nothing is moved, and one line says what to do. Without
// --quarantine it is removed.
func TestAQuarantineStaysOnOneMount(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		dir     string
		bind    bool
		refused bool
	}{
		"blobs on another disk":              {dir: "blobs", refused: true},
		"blobs through another mount":        {dir: "blobs", bind: true, refused: true},
		"repositories on another disk":       {dir: "repositories", refused: true},
		"one repository on another disk":     {dir: "repositories/team/app", refused: true},
		"a repository that loses nothing":    {dir: "repositories/sound"},
		"all of the layout on another disk":  {dir: ""},
		"the quarantine on a disk of itself": {dir: storage.QuarantineDir, refused: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newFixture(t)
			s.plant("sound", "v1", app(1))
			s.plant("team/app", "v1", app(1, 2))
			s.plant("team/app", "", app(1, 3))
			s.tree.Mkdir(storage.QuarantineDir)
			dir := filepath.Clean(s.tree.Path(test.dir))
			if test.bind {
				mount(t, dir, dir, "", syscall.MS_BIND, "")
			} else {
				ontoDisk(t, dir)
			}
			before := s.shape()
			for _, flag := range []string{"--dry-run", "--registry-stopped"} {
				code, _, stderr := regsweep(s, "gc", "-m", "--quarantine", flag, s.tree.Root())
				if !test.refused {
					if code != 0 {
						t.Errorf("with %s it ends with %d: %s", flag, code, stderr)
					}
					continue
				}
				if code != 2 || strings.Count(stderr, "--quarantine: ") != 1 || !strings.Contains(stderr, "run without --quarantine") {
					t.Errorf("with %s it ends with %d: %s", flag, code, stderr)
				}
				now := s.shape()
				if now[storage.OwnDir] == aDirectory {
					now[storage.QuarantineDir] = aDirectory // the lock was in the directory around it
				}
				if d := difference(now, before); d != "" {
					t.Errorf("with %s:%s", flag, d)
				}
			}
			if test.refused {
				if code, _, stderr := regsweep(s, "gc", "-m", "--registry-stopped", s.tree.Root()); code != 0 {
					t.Errorf("without --quarantine it ends with %d: %s", code, stderr)
				}
			} else {
				s.restoreAll("restored")
				if now := s.shape(); difference(registryAlone(now), registryAlone(before)) != "" {
					t.Errorf("restored:%s", difference(now, before))
				}
			}
			s.pull("at the end", s.client, []image{pulls("sound", "v1"), pulls("team/app", "v1")})
		})
	}
}

// TestAQuarantineSeesLinksToOtherDisks: what a symbolic link leads to is where a move begins. A link
// to a directory of the same filesystem is no obstacle, and one to another filesystem is.
func TestAQuarantineSeesLinksToOtherDisks(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{"blobs", "repositories", "repositories/team"} {
		t.Run(strings.ReplaceAll(dir, "/", "|"), func(t *testing.T) {
			t.Parallel()
			s := newFixture(t)
			untagged := app(1, 3)
			s.plant("team/app", "v1", app(1, 2))
			s.plant("team/app", "", untagged)
			at, disk := s.tree.Path(dir), filepath.Join(smallDisk(t, "size=16m"), "part")
			if output, err := exec.Command("cp", "-a", at, disk).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, output)
			}
			s.must(os.RemoveAll(at))
			s.must(os.Symlink(disk, at))
			before := owned(t, disk)
			for _, flag := range []string{"--dry-run", "--registry-stopped"} {
				code, _, stderr := regsweep(s, "gc", "-m", "--quarantine", flag, s.tree.Root())
				if code != 2 || !strings.Contains(stderr, "--quarantine: "+dir) {
					t.Errorf("with %s it ends with %d: %s", flag, code, stderr)
				}
			}
			if d := difference(owned(t, disk), before); d != "" {
				t.Errorf("on the disk:%s", d)
			}
			s.pull("refused", s.client, []image{pulls("team/app", "v1", untagged)})
			if code, _, stderr := regsweep(s, "gc", "-m", "--registry-stopped", s.tree.Root()); code != 0 {
				t.Errorf("without --quarantine it ends with %d: %s", code, stderr)
			}
			s.pull("at the end", s.client, []image{pulls("team/app", "v1")})
		})
	}
}

// TestAFullDiskSaysWhatAQuarantineTakes: without space, or without inodes, nothing is moved, and one
// line says what a quarantine takes. A removal takes nothing and makes the room.
func TestAFullDiskSaysWhatAQuarantineTakes(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		options string
		size    int // of the files that fill the disk
	}{
		"no space":  {"size=4m", 4 << 10},
		"no inodes": {"size=64m,nr_inodes=3000", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			disk := smallDisk(t, test.options)
			s := &fixture{T: t, tree: imagetest.NewTree(t, disk), names: map[string]string{}}
			s.serve(registrytest.Config{Root: disk})
			s.plant("app", "v1", app(1))
			for n := range 200 {
				s.tree.Blob(layer(n + 100).Content)
			}
			filler := filepath.Join(disk, "filler")
			s.must(os.Mkdir(filler, 0o755))
			n := 0
			for ; ; n++ {
				if os.WriteFile(filepath.Join(filler, string(rune('a'+n%26))+strings.Repeat("x", n/26)), make([]byte, test.size), 0o644) != nil {
					break
				}
				if n > 100_000 {
					t.Fatal("the disk does not fill")
				}
			}
			if n < 100 {
				t.Fatalf("only %d files fit", n)
			}
			// Some are freed: a lock needs a little.
			for i := range 4 {
				s.must(os.Remove(filepath.Join(filler, string(rune('a'+i)))))
			}
			before := s.shape()
			code, _, stderr := regsweep(s, "gc", "-m", "--quarantine", "--registry-stopped", disk)
			if code != 1 || !strings.Contains(stderr, "no space left") || !strings.Contains(stderr, "run without --quarantine") || strings.Contains(stderr, "\n\n") {
				t.Errorf("ends with %d, %q", code, stderr)
			}
			if d := difference(s.shape(), before); d != "" {
				t.Errorf("on a full disk:%s", d)
			}
			if code, _, stderr := regsweep(s, "gc", "-m", "--registry-stopped", disk); code != 0 {
				t.Errorf("a removal ends with %d, %q", code, stderr)
			}
			s.pull("at the end", s.client, []image{pulls("app", "v1")})
		})
	}
}

// TestNoDirectoryForTemporaryFiles: a quarantine is made, listed, shown, restored and purged where
// there is no directory for temporary files, or one that cannot be written to or is full.
func TestNoDirectoryForTemporaryFiles(t *testing.T) {
	t.Parallel()
	full := smallDisk(t, "size=4k,nr_inodes=10")
	if err := os.WriteFile(filepath.Join(full, "filler"), make([]byte, 4<<10), 0o644); err != nil {
		t.Fatal(err)
	}
	readOnly := smallDisk(t, "size=4k")
	if err := syscall.Mount("", readOnly, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	for name, dir := range map[string]string{"none": "/nonexistent/tmp", "read-only": readOnly, "full": full} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newFixture(t)
			s.plant("app", "v1", app(1, 2))
			s.plant("app", "", app(1, 3))
			root := s.tree.Root()
			before := s.shape()
			for _, args := range [][]string{
				{"gc", "-m", "--quarantine", "--registry-stopped", root},
				{"quarantine", "list", root},
				{"quarantine", "show", "latest", root},
				{"quarantine", "restore", "latest", root},
				{"gc", "-m", "--quarantine", "--registry-stopped", root},
				{"quarantine", "purge", "--yes", "--run", "latest", root},
			} {
				run := startIn(t, []string{"TMPDIR=" + dir}, args...)
				if code := run.exit(t); code != 0 {
					t.Fatalf("%v ends with %d: %s", args, code, &run.stderr)
				}
				if args[1] == "restore" {
					if d := difference(s.shape(), before); d != "" {
						t.Errorf("restored:%s", d)
					}
				}
			}
			s.pull("at the end", s.client, []image{pulls("app", "v1")})
		})
	}
}
