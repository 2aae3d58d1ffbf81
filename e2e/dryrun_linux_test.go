package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// changed is a file's number and the time of its last change, which nobody can set.
func changed(info fs.FileInfo) string {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	return fmt.Sprint(stat.Ino, stat.Nlink, stat.Uid, stat.Ctim)
}

// TestDryRunsOnAReadOnlyMount: what the kernel would not let them write they do not try to.
func TestDryRunsOnAReadOnlyMount(t *testing.T) {
	s := withEveryGarbage(t)
	mounted := t.TempDir()
	mount(t, s.tree.Root(), mounted, "", syscall.MS_BIND, "")
	s.must(syscall.Mount("", mounted, "", syscall.MS_REMOUNT|syscall.MS_BIND|syscall.MS_RDONLY, ""))
	if err := os.WriteFile(mounted+"/file", nil, 0o600); !errors.Is(err, syscall.EROFS) {
		t.Fatalf("the mount is not read-only: %v", err)
	}
	for _, args := range readOnlyCommands(t, mounted, s.registry.URL()) {
		if code, _, stderr := regsweep(s, args...); code != 0 && code != 4 {
			t.Errorf("%v ends with %d: %s", args, code, stderr)
		}
	}
	// A run that is to remove something says why it can't.
	run := s.gcOn(mounted, "-m", "--registry", s.registry.URL())
	if run.code != 1 || !strings.Contains(run.report.Error, "make the lock docker/registry/v2/.regsweep/lock: ") || !strings.Contains(run.report.Error, "read-only file system") {
		t.Errorf("a run that removes ends with %d, %q", run.code, run.report.Error)
	}
}

// TestDryRunsOfSomebodyWhoMayOnlyRead: another user, or oneself without the permission.
func TestDryRunsOfSomebodyWhoMayOnlyRead(t *testing.T) {
	t.Parallel()
	s := withEveryGarbage(t)
	root := s.tree.Root()
	s.must(filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return os.Chmod(path, 0o555)
		}
		return os.Chmod(path, 0o444)
	}))
	t.Cleanup(func() { // or it could not be removed
		s.must(filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				err = os.Chmod(path, 0o755)
			}
			return err
		}))
	})
	program, err := exec.LookPath("regsweep")
	s.must(err)
	plans := t.TempDir()
	credential := (*syscall.Credential)(nil)
	if os.Getuid() == 0 {
		const nobody = 65534
		credential = &syscall.Credential{Uid: nobody, Gid: nobody}
		// It has to get at the program, at the tree, and at a place for its plan.
		theirs := filepath.Join(t.TempDir(), "regsweep")
		content, err := os.ReadFile(program)
		s.must(errors.Join(err, os.WriteFile(theirs, content, 0o755), os.Chmod(plans, 0o777)))
		program = theirs
		for _, path := range []string{root, program, plans} {
			s.must(os.Chmod(filepath.Dir(filepath.Dir(path)), 0o755))
			s.must(os.Chmod(filepath.Dir(path), 0o755))
		}
	}
	run := func(args ...string) (code int, output string) {
		command := exec.Command(program, args...)
		command.Dir = plans
		command.Env = append(command.Environ(), "XDG_CACHE_HOME="+plans, "HOME="+plans)
		command.SysProcAttr = &syscall.SysProcAttr{Credential: credential}
		combined, err := command.CombinedOutput()
		if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return command.ProcessState.ExitCode(), string(combined)
	}
	before := everythingAt(t, root)
	for _, args := range readOnlyCommands(t, root, s.registry.URL()) {
		for i := range args { // the plan is theirs
			if strings.HasSuffix(args[i], "/plan") {
				args[i] = filepath.Join(plans, "plan")
			}
		}
		if code, output := run(args...); code != 0 && code != 4 {
			t.Errorf("%v ends with %d: %s", args, code, output)
		}
	}
	if code, output := run("gc", "-m", "--registry", s.registry.URL(), root); code != 1 || !strings.Contains(output, "make the lock docker/registry/v2/.regsweep/lock: ") || !strings.Contains(output, "permission denied") {
		t.Errorf("a run that removes ends with %d: %s", code, output)
	}
	if after := everythingAt(t, root); after != before {
		t.Errorf("there was\n%s\nand now there is\n%s", before, after)
	}
}
