package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A plan file that is replaced keeps its owner and its mode. Where that can't be done it is
// not replaced.
func TestAPlanFileKeepsItsOwner(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("only root can give files away")
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
