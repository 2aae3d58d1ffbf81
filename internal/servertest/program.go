package servertest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Program is a program that is built from its released source, apart from our own module,
// which would have to take on all that the program requires.
type Program struct{ Name, Package, Version string }

// Get is the path of the program, which is built the first time.
func (p Program) Get(ctx context.Context) (string, error) {
	return Cached(ctx, p.Name, p.Version, func(dir string) error {
		return Run(ctx, dir, []string{"GOBIN=" + dir, "GOFLAGS=", "GOWORK=off", "CGO_ENABLED=0"},
			"go", "install", p.Package+"@"+p.Version)
	})
}

// SkipUnbuilt skips a test with -short if the program is not built yet, which takes minutes.
func (p Program) SkipUnbuilt(t testing.TB) {
	t.Helper()
	if !testing.Short() {
		return
	}
	path, err := cachePath(p.Name, p.Version)
	if err != nil {
		t.Fatal(err)
	}
	if !exists(path) {
		t.Skipf("with -short %s is not built: make servers does that", p.Name)
	}
}

// Cached is the path of a program that make puts into a directory under its own
// name. It is made once for all processes and runs: others wait meanwhile, and an
// interruption leaves nothing that would pass for the program.
func Cached(ctx context.Context, name, version string, make func(dir string) error) (_ string, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("get %s %s: %w", name, version, err)
		}
	}()
	path, err := cachePath(name, version)
	if err != nil {
		return "", err
	}
	if exists(path) {
		return path, nil
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	unlock, err := lock(ctx, filepath.Join(dir, "lock"))
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if exists(path) {
		return path, nil
	}

	work, err := os.MkdirTemp(dir, "work-")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	if err := make(work); err != nil {
		return "", err
	}
	return path, os.Rename(filepath.Join(work, name), path)
}

// cachePath is where Cached has a program.
func cachePath(name, version string) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(cache, "regsweep-parts", name+"@"+version, name), nil
}

func exists(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o100 != 0
}

// lock waits for the lock of a file.
func lock(ctx context.Context, path string) (unlock func() error, err error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	for {
		locked, err := tryLock(file)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), file.Close())
		}
		if locked {
			return file.Close, nil
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, ctx.Err()), file.Close())
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// Run runs a long command without taking the machine from those who work on it.
func Run(ctx context.Context, dir string, env []string, command ...string) error {
	if nice, err := exec.LookPath("nice"); err == nil {
		command = append([]string{nice}, command...)
	}
	c := exec.CommandContext(ctx, command[0], command[1:]...)
	c.Dir = dir
	c.Env = append(os.Environ(), env...)
	output, err := c.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(command, " "), err, output)
	}
	return nil
}
