package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"regsweep/internal/imagetest"
	"regsweep/internal/registrytest"
	"regsweep/storage"
)

// as runs a command as a user, and returns what it writes.
func as(uid uint32, command ...string) (string, error) {
	c := exec.Command(command[0], command[1:]...)
	if uid != 0 {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	}
	out, err := c.CombinedOutput()
	return string(out), err
}

// The scripts that fill a disk. Each fails in the end: there is no room.
const (
	noBlock = `cd "$0" && mkdir fill; dd if=/dev/zero of=fill/large bs=64k; dd if=/dev/zero of=fill/small bs=512
		n=0; while echo x > fill/$n; do n=$((n+1)); done`
	noInode = `cd "$0" && mkdir fill; n=0; while : > fill/$n; do n=$((n+1)); done`
)

// TestAFullDiskIsCollected: there is no room for a lock, no block, no inode or none within a
// quota, and the run removes all garbage and nothing else (1, 4). Its plan goes to another disk.
func TestAFullDiskIsCollected(t *testing.T) {
	t.Parallel()
	tmpfs := func(options string) func(t *testing.T) string {
		return func(t *testing.T) string { return smallDisk(t, options) }
	}
	loop := func(megabytes int64, mkfs ...string) func(t *testing.T) string {
		return func(t *testing.T) string { return loopDisk(t, megabytes, mkfs...) }
	}
	for name, disk := range map[string]struct {
		mount func(t *testing.T) string
		fill  string
	}{
		"ext4, no block":         {loop(16, "mkfs.ext4", "-q"), noBlock},
		"ext4, no reserve":       {loop(16, "mkfs.ext4", "-q", "-m", "0"), noBlock},
		"ext4, no inode":         {loop(16, "mkfs.ext4", "-q", "-N", "1024"), noInode},
		"ext4, neither":          {loop(16, "mkfs.ext4", "-q", "-N", "1024"), noBlock + "\n" + noInode},
		"xfs, no block":          {loop(300, "mkfs.xfs", "-q"), noBlock},
		"xfs, no inode":          {loop(300, "mkfs.xfs", "-q", "-i", "maxpct=1"), noInode},
		"btrfs, no block":        {loop(110, "mkfs.btrfs", "-q"), noBlock},
		"btrfs, no block at all": {loop(64, "mkfs.btrfs", "-q", "-M"), noBlock},
		"tmpfs, no block":        {tmpfs("size=8m"), noBlock},
		"tmpfs, no inode":        {tmpfs("size=64m,nr_inodes=1200"), noInode},
		"btrfs, over quota": {func(t *testing.T) string {
			dir := loopDisk(t, 110, "mkfs.btrfs", "-q")
			for _, command := range [][]string{{"btrfs", "quota", "enable", dir}, {"btrfs", "qgroup", "limit", "16M", dir}} {
				if out, err := as(0, command...); err != nil {
					t.Fatalf("%v: %v: %s", command, err, out)
				}
			}
			return dir
		}, noBlock},
	} {
		if testing.Short() && name != "ext4, no block" && name != "tmpfs, no inode" {
			continue // the program does the same on each disk
		}
		for user, uid := range map[string]uint32{"root": 0, "the registry's user": nobody} {
			t.Run(name+", "+user, func(t *testing.T) {
				root := disk.mount(t)
				s := &fixture{T: t, tree: imagetest.NewTree(t, root), names: map[string]string{}}
				s.serve(registrytest.Config{Root: root})
				s.plant("app", "v1", app(1))
				live := keys(s.files())
				s.plant("app", "", app(2))
				for n := range 100 {
					s.tree.Blob(layer(n + 100).Content)
				}
				give(t, root)
				out, err := as(uid, "sh", "-c", disk.fill, root)
				if !strings.Contains(out, "No space left") && !strings.Contains(out, "quota exceeded") {
					t.Fatalf("the disk is not full: %v, %s", err, out)
				}
				if out, err := as(uid, "sh", "-c", "mkdir \"$0\" && printf %5000d 1 > \"$0/file\"", root+"/test"); err == nil {
					t.Fatalf("there is room: %s", out)
				}
				s.must(os.RemoveAll(root + "/test"))

				plan := filepath.Join(t.TempDir(), "plan.jsonl")
				run := func(args ...string) (code int, stderr string) {
					if uid == 0 {
						code, _, stderr = regsweep(s, args...)
						return code, stderr
					}
					return asNobody(t, args...)
				}
				before := keys(s.files())
				code, stderr := run("gc", "-m", "-q", "--registry-stopped", "--quarantine", root)
				if code != 1 || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "a quarantine take") || !strings.Contains(stderr, "inodes") {
					t.Errorf("a quarantine ends with %d, %s", code, stderr)
				}
				s.same("after the quarantine, the files", keys(s.files()), before)
				give(t, filepath.Dir(plan))
				if code, stderr := run("gc", "-m", "--registry-stopped", "--plan", plan, root); code != 0 {
					t.Errorf("ends with %d, %s", code, stderr)
				}
				s.same("the files", keys(s.files()), live)
				if s.tree.Exists(".regsweep") {
					t.Error("something is left of the lock")
				}
				if _, err := os.Stat(plan); err != nil {
					t.Error(err)
				}
				s.pull("afterwards", s.client, []image{pulls("app", "v1")})
			})
		}
	}
}

// full is a registry on a disk in memory, which fill fills.
func full(t *testing.T) (s *fixture, fill func()) {
	t.Helper()
	disk := smallDisk(t, "size=8m")
	s = &fixture{T: t, tree: imagetest.NewTree(t, disk), names: map[string]string{}}
	s.serve(registrytest.Config{Root: disk})
	s.plant("app", "v1", app(1))
	for n := range 100 {
		s.tree.Blob(layer(n + 100).Content)
	}
	return s, func() {
		t.Helper()
		if out, err := as(0, "sh", "-c", noBlock, disk); !strings.Contains(out, "No space left") {
			t.Fatalf("the disk is not full: %v, %s", err, out)
		}
	}
}

// TestOnAFullDiskTheSecondRunIsKeptAway, as if there were a lock (4).
func TestOnAFullDiskTheSecondRunIsKeptAway(t *testing.T) {
	t.Parallel()
	s, fill := full(t)
	fill()
	held := false
	wrapped.Store(s.tree.Root(), func(store storage.Store) storage.Store {
		return atFirstRemoval{store, sync.OnceFunc(func() {
			held = !s.tree.Exists(".regsweep")
			second := startProgram(t, "regsweep", nil, "gc", "--registry-stopped", "--yes", s.tree.Root())
			if code := second.exit(t); code != 5 || !strings.Contains(second.stderr.String(), "another run holds the lock") {
				t.Errorf("the second run ends with %d: %s", code, &second.stderr)
			}
		})}
	})
	defer wrapped.Delete(s.tree.Root())
	if code, _, stderr := regsweep(s, "gc", "--registry-stopped", "--yes", s.tree.Root()); code != 0 || !held {
		t.Errorf("the first run ends with %d, and has no file for its lock: %t: %s", code, held, stderr)
	}
	s.pull("afterwards", s.client, []image{pulls("app", "v1")})
}

// atFirstRemoval is a storage where something happens before the first removal. It is a fake of
// that moment alone.
type atFirstRemoval struct {
	storage.Store
	happens func()
}

func (s atFirstRemoval) Remove(ctx context.Context, refs []storage.Ref) []storage.Outcome {
	s.happens()
	return s.Store.Remove(ctx, refs)
}

// TestAQuarantineOnAFullDiskIsPurged: that is how the space of a quarantine is freed (4).
func TestAQuarantineOnAFullDiskIsPurged(t *testing.T) {
	t.Parallel()
	s, fill := full(t)
	if code, _, stderr := regsweep(s, "gc", "--registry-stopped", "--yes", "--quarantine", s.tree.Root()); code != 0 {
		t.Fatalf("the quarantine ends with %d: %s", code, stderr)
	}
	fill()
	if code, _, stderr := regsweep(s, "quarantine", "purge", "--older-than", "0h", "--yes", s.tree.Root()); code != 0 {
		t.Errorf("the purge ends with %d: %s", code, stderr)
	}
	if s.tree.Exists(".regsweep") {
		t.Error("something is left of the quarantine, or of the lock")
	}
	s.pull("afterwards", s.client, []image{pulls("app", "v1")})
}

// TestAnEmptyLockOfAnEarlierRunKeepsNobodyAway: a run on a full disk used to leave one.
func TestAnEmptyLockOfAnEarlierRunKeepsNobodyAway(t *testing.T) {
	t.Parallel()
	s, fill := full(t)
	fill()
	s.must(os.MkdirAll(s.tree.Path(".regsweep"), 0o755))
	s.must(os.WriteFile(s.tree.Path(".regsweep/lock"), nil, 0o644))
	code, _, stderr := regsweep(s, "gc", "--registry-stopped", "--yes", s.tree.Root())
	if code != 0 || strings.Contains(stderr, "there is a lock") || s.tree.Exists(".regsweep") {
		t.Errorf("ends with %d: %s", code, stderr)
	}
}
