package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// nobody is who owns nothing. Root heeds no permission.
const nobody = 65534

// asNobody runs the program as somebody whom permissions bind.
func asNobody(t *testing.T, args ...string) (code int, stderr string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can be somebody else")
	}
	program := filepath.Join(t.TempDir(), "regsweep")
	path, err := exec.LookPath("regsweep")
	if err != nil {
		t.Fatal(err)
	}
	// Were it written here, a program that another test starts meanwhile would have it open for
	// writing too, and it could not be run.
	if output, err := exec.Command("cp", path, program).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	for dir := filepath.Dir(program); strings.HasPrefix(dir, os.TempDir()+"/"); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var errs bytes.Buffer
	run := exec.Command(program, args...)
	run.Stderr = &errs
	run.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	run.Env = append(os.Environ(), "XDG_CACHE_HOME="+t.TempDir())
	if err := run.Run(); err != nil && run.ProcessState == nil {
		t.Fatal(err)
	}
	return run.ProcessState.ExitCode(), errs.String()
}

// give lets somebody else own a tree, and reach it.
func give(t *testing.T, root string) {
	t.Helper()
	out, err := exec.Command("chown", "-R", "65534:65534", root).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for dir := root; strings.HasPrefix(dir, os.TempDir()+"/"); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}
