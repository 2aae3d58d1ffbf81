package registrytest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"regsweep/internal/servertest"
)

// ErrUnavailable is returned for a release that this machine cannot get at all, such as a Debian
// package where there is no Debian.
var ErrUnavailable = errors.New("not available on this machine")

// Release is a release of the Distribution registry.
type Release string

const (
	Release3 Release = "v3.1.2"
	Release2 Release = "v2.8" // as Debian has it
)

var (
	registry3   = servertest.Program{Name: "registry", Package: "github.com/distribution/distribution/v3/cmd/registry", Version: string(Release3)}
	conformance = servertest.Program{Name: "conformance", Package: "github.com/opencontainers/distribution-spec/conformance", Version: "v0.0.0-20260831232431-97274622c111"}
)

// Binary is the path of a registry's program, which may take minutes to
// build or fetch the first time.
func Binary(ctx context.Context, release Release) (string, error) {
	switch release {
	case Release3:
		return registry3.Get(ctx)
	case Release2:
		return debianRegistry(ctx)
	}
	return "", fmt.Errorf("registry %s: no such release here", release)
}

// BinaryT is the path of release 3 for a test. With -short it is not built.
func BinaryT(t testing.TB) string {
	t.Helper()
	registry3.SkipUnbuilt(t)
	path, err := Binary(t.Context(), Release3)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// ConformanceBinary is the path of the conformance tests of the OCI distribution-spec.
func ConformanceBinary(ctx context.Context) (string, error) { return conformance.Get(ctx) }

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
	path, err := servertest.Cached(ctx, name, string(Release2), func(dir string) error {
		err := servertest.Run(ctx, dir, nil, "apt-get", "download", name)
		if err != nil && os.Getuid() == 0 {
			// A machine that has never asked knows no packages.
			if err := servertest.Run(ctx, dir, nil, "apt-get", "update"); err != nil {
				return err
			}
			err = servertest.Run(ctx, dir, nil, "apt-get", "download", name)
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
		if err := servertest.Run(ctx, dir, nil, "dpkg", "-x", packages[0], dir); err != nil {
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

// The clients of other projects, for make cosign. cosign's second version is the last one that signs with tags by default.
var (
	Cosign = servertest.Program{Name: "cosign", Package: "github.com/sigstore/cosign/v2/cmd/cosign", Version: "v2.6.5"}
	ORAS   = servertest.Program{Name: "oras", Package: "oras.land/oras/cmd/oras", Version: "v1.3.6"}
)
