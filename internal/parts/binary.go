package parts

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

// ErrUnavailable is returned for a binary that this machine cannot get at all, such
// as a Debian package where there is no Debian.
var ErrUnavailable = errors.New("not available on this machine")

// Release is a release of the Distribution registry.
type Release string

const (
	Release3 Release = "v3.1.2"
	Release2 Release = "v2.8" // as Debian has it
)

// goProgram is a program that is built from its released source, apart from our own module,
// which would have to take on all that the program requires.
type goProgram struct{ name, pkg, version string }

var (
	registry3   = goProgram{"registry", "github.com/distribution/distribution/v3/cmd/registry", string(Release3)}
	conformance = goProgram{"conformance", "github.com/opencontainers/distribution-spec/conformance", "v0.0.0-20260831232431-97274622c111"}
	minio       = goProgram{"minio", "github.com/minio/minio", "v0.0.0-20260212201848-7aac2a2c5b7c"}
	versitygw   = goProgram{"versitygw", "github.com/versity/versitygw/cmd/versitygw", "v1.8.0"}
)

// get is the path of the program, which is built the first time.
func (p goProgram) get(ctx context.Context) (string, error) {
	return cached(ctx, p.name, p.version, func(dir string) error {
		return run(ctx, dir, []string{"GOBIN=" + dir, "GOFLAGS=", "GOWORK=off", "CGO_ENABLED=0"},
			"go", "install", p.pkg+"@"+p.version)
	})
}

// shortNeeds skips a test with -short if the program is not built yet, which takes minutes.
func shortNeeds(t testing.TB, p goProgram) {
	t.Helper()
	if !testing.Short() {
		return
	}
	path, err := cachePath(p.name, p.version)
	if err != nil {
		t.Fatal(err)
	}
	if !exists(path) {
		t.Skipf("with -short %s is not built: make parts does that", p.name)
	}
}

// RegistryBinary is the path of a registry's program, which may take minutes to
// build or fetch the first time.
func RegistryBinary(ctx context.Context, release Release) (string, error) {
	switch release {
	case Release3:
		return registry3.get(ctx)
	case Release2:
		return debianRegistry(ctx)
	}
	return "", fmt.Errorf("registry %s: no such release here", release)
}

// RegistryBinaryT is the path of release 3 for a test.
func RegistryBinaryT(t testing.TB) string {
	t.Helper()
	shortNeeds(t, registry3)
	path, err := RegistryBinary(t.Context(), Release3)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// ConformanceBinary is the path of the conformance tests of the OCI distribution-spec.
func ConformanceBinary(ctx context.Context) (string, error) { return conformance.get(ctx) }

// debianRegistry is an installed release 2, or else Debian's package unpacked. It
// can't be built from source as it was released before modules.
func debianRegistry(ctx context.Context) (string, error) {
	const name = "docker-registry"
	if path, err := exec.LookPath(name); err == nil && isRelease2(ctx, path) == nil {
		return path, nil
	}
	for _, tool := range []string{"apt-get", "dpkg"} {
		if _, err := exec.LookPath(tool); err != nil {
			return "", fmt.Errorf("registry %s: %w: %w", Release2, ErrUnavailable, err)
		}
	}
	path, err := cached(ctx, name, string(Release2), func(dir string) error {
		err := run(ctx, dir, nil, "apt-get", "download", name)
		if err != nil && os.Getuid() == 0 {
			// A machine that has never asked knows no packages.
			if err := run(ctx, dir, nil, "apt-get", "update"); err != nil {
				return err
			}
			err = run(ctx, dir, nil, "apt-get", "download", name)
		}
		if err != nil {
			return err
		}
		packages, err := filepath.Glob(filepath.Join(dir, name+"_*.deb"))
		if err != nil {
			return err
		}
		if len(packages) != 1 {
			return fmt.Errorf("apt-get left %d packages", len(packages))
		}
		if err := run(ctx, dir, nil, "dpkg", "-x", packages[0], dir); err != nil {
			return err
		}
		if err := os.Rename(filepath.Join(dir, "usr", "bin", name), filepath.Join(dir, name)); err != nil {
			return err
		}
		return isRelease2(ctx, filepath.Join(dir, name))
	})
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return path, nil
}

// isRelease2 tells whether a program is the release that its caller means: Debian
// moves on.
func isRelease2(ctx context.Context, path string) error {
	version, err := exec.CommandContext(ctx, path, "--version").CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s --version: %w: %s", path, err, version)
	}
	if !strings.Contains(string(version), "2.8.") {
		return fmt.Errorf("%s is %s", path, version)
	}
	return nil
}

// cached is the path of a program that make puts into a directory under its own
// name. It is made once for all processes and runs: others wait meanwhile, and an
// interruption leaves nothing that would pass for the program.
func cached(ctx context.Context, name, version string, make func(dir string) error) (_ string, err error) {
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

// cachePath is where cached has a program.
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

// run runs a long command without taking the machine from those who work on it.
func run(ctx context.Context, dir string, env []string, command ...string) error {
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
