package build

import (
	"archive/tar"
	"bytes"
	"crypto/x509"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"regsweep/internal/registrytest"
	"regsweep/internal/servertest"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// imageRegistry is a registry that asks for a password, and the docker login for it. Its storage is
// below the root of the container that the image is run in.
type imageRegistry struct {
	root  string
	host  string
	login string // DOCKER_CONFIG
	auth  authn.Authenticator
}

func newImageRegistry(t *testing.T) *imageRegistry {
	t.Helper()
	root, login := t.TempDir(), t.TempDir()
	server := registrytest.StartT(t, registrytest.Config{Root: filepath.Join(root, "registry"), Username: "ci", Password: "secret"})
	config := fmt.Sprintf(`{"auths": {%q: {"auth": "Y2k6c2VjcmV0"}}}`, server.Host())
	if err := os.WriteFile(filepath.Join(login, "config.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return &imageRegistry{root, server.Host(), login, &authn.Basic{Username: "ci", Password: "secret"}}
}

// make runs make image, and returns what it says.
func (r *imageRegistry) make(t *testing.T, bin string, variables ...string) string {
	t.Helper()
	return run(t, []string{"DOCKER_CONFIG=" + r.login}, "make", append([]string{"-C", "..", "--no-print-directory", "image", "BIN=" + bin}, variables...)...)
}

func (r *imageRegistry) reference(t *testing.T, reference string) name.Reference {
	t.Helper()
	parsed, err := name.ParseReference(r.host + "/" + reference)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// pull returns the image for an architecture.
func (r *imageRegistry) pull(t *testing.T, reference, arch string) (v1.Image, *v1.ConfigFile) {
	t.Helper()
	image, err := remote.Image(r.reference(t, reference), remote.WithAuth(r.auth), remote.WithPlatform(v1.Platform{OS: "linux", Architecture: arch}))
	if err != nil {
		t.Fatal(err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Architecture != arch || config.Config.User != "65532:65532" || !slices.Equal(config.Config.Entrypoint, []string{"/usr/bin/regsweep"}) || len(config.Config.Cmd) > 0 {
		t.Errorf("%s for %s is for %s, of user %q, and runs %q %q", reference, arch, config.Architecture, config.Config.User, config.Config.Entrypoint, config.Config.Cmd)
	}
	return image, config
}

// TestTheImageRunsWhereverItIsPulled makes the image, pushes it to a registry and pulls it from there.
func TestTheImageRunsWhereverItIsPulled(t *testing.T) {
	bin := programs(t)
	registry := newImageRegistry(t)
	said := registry.make(t, bin, "PUSH="+registry.host+"/tools/regsweep:v1")

	reference := registry.reference(t, "tools/regsweep:v1")
	index, err := remote.Index(reference, remote.WithAuth(registry.auth))
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(index); err != nil {
		t.Error(err)
	}
	digest, err := index.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(said, reference.Context().Digest(digest.String()).String()) {
		t.Errorf("it was pushed as %s, and make image says\n%s", digest, said)
	}
	if again := registry.make(t, bin); !strings.Contains(again, digest.String()) {
		t.Errorf("the same program gives another image, not %s:\n%s", digest, again)
	}

	for arch, machine := range map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64} {
		image, config := registry.pull(t, "tools/regsweep:v1", arch)
		if config.Config.Labels["org.opencontainers.image.version"] == "" {
			t.Errorf("labels: %v", config.Config.Labels)
		}
		root := registry.root
		if arch != "amd64" {
			root = t.TempDir()
		}
		unpack(t, image, root)
		isStatic(t, filepath.Join(root, "usr/bin/regsweep"), machine)
	}

	authorities, err := os.ReadFile(filepath.Join(registry.root, "etc/ssl/certs/ca-certificates.crt"))
	if err != nil {
		t.Fatal(err)
	}
	if all := bytes.Count(authorities, []byte("BEGIN CERTIFICATE")); all < 100 || !x509.NewCertPool().AppendCertsFromPEM(authorities) {
		t.Errorf("it has %d authorities", all)
	}

	// The registry holds nothing but this image.
	var report struct {
		Mark struct{ Repositories, Tags, Manifests int }
	}
	if err := json.Unmarshal([]byte(inContainer(t, registry.root, "gc", "-d", "--json", "/registry")), &report); err != nil {
		t.Fatal(err)
	}
	if m := report.Mark; m.Repositories != 1 || m.Tags != 1 || m.Manifests != 3 {
		t.Errorf("regsweep sees %+v of itself", m)
	}
	if said := inContainer(t, registry.root, "--version"); !strings.Contains(said, "regsweep version") {
		t.Errorf("--version: %s", said)
	}
}

// TestSkopeoCopiesTheImage uses the OCI layout as others would, who have no Go.
func TestSkopeoCopiesTheImage(t *testing.T) {
	skopeo, err := exec.LookPath("skopeo")
	if err != nil {
		servertest.Lacks(t, "skopeo is not installed: %v", err)
	}
	bin := programs(t)
	registry := newImageRegistry(t)
	registry.make(t, bin)
	home := []string{"HOME=" + t.TempDir(), "REGISTRY_AUTH_FILE=" + filepath.Join(registry.login, "config.json")}
	copy := []string{"--insecure-policy", "copy", "--all", "--preserve-digests", "--src-tls-verify=false", "--dest-tls-verify=false"}
	pushed, pulled := "docker://"+registry.host+"/regsweep:copy", "oci:"+t.TempDir()+":latest"
	run(t, home, skopeo, append(copy, "oci:"+filepath.Join(bin, "image"), pushed)...)
	run(t, home, skopeo, append(copy, pushed, pulled)...)
	registry.pull(t, "regsweep:copy", "arm64")
}

// TestAnImageOnABaseKeepsTheBase: the image for a window in Kubernetes has a shell and kubectl.
func TestAnImageOnABaseKeepsTheBase(t *testing.T) {
	bin := programs(t)
	registry := newImageRegistry(t)
	var list v1.ImageIndex = mutate.IndexMediaType(empty.Index, types.DockerManifestList)
	bases := map[string]v1.Image{}
	for _, arch := range []string{"amd64", "arm64"} {
		base := baseImage(t, arch)
		bases[arch] = base
		list = mutate.AppendManifests(list, mutate.IndexAddendum{Add: base, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch, Variant: "v8"}}})
	}
	if err := remote.WriteIndex(registry.reference(t, "base:both"), list, remote.WithAuth(registry.auth)); err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(registry.reference(t, "base:one"), bases["amd64"], remote.WithAuth(registry.auth)); err != nil {
		t.Fatal(err)
	}

	registry.make(t, bin, "BASE="+registry.host+"/base:both", "PUSH="+registry.host+"/regsweep:kubectl")
	for arch, base := range bases {
		image, config := registry.pull(t, "regsweep:kubectl", arch)
		if err := validate.Image(image); err != nil {
			t.Error(err)
		}
		layers, err := image.Layers()
		if err != nil {
			t.Fatal(err)
		}
		below, err := base.Layers()
		if err != nil {
			t.Fatal(err)
		}
		if len(layers) != len(below)+1 || digestOf(t, layers[0]) != digestOf(t, below[0]) {
			t.Errorf("%s has %d layers, and the base has %d", arch, len(layers), len(below))
		}
		if want := []string{"PATH=/bin:/usr/bin", "HOME=/var/lib/regsweep", "STATE_DIRECTORY=/var/lib/regsweep"}; !slices.Equal(config.Config.Env, want) {
			t.Errorf("environment %q, want %q", config.Config.Env, want)
		}
		root := t.TempDir()
		unpack(t, image, root)
		for path, want := range map[string]string{"bin/kubectl": "kubectl", "etc/passwd": "of the base"} {
			if content, err := os.ReadFile(filepath.Join(root, path)); err != nil || string(content) != want {
				t.Errorf("%s is %q: %v", path, content, err)
			}
		}
	}

	registry.make(t, bin, "BASE="+registry.host+"/base:one", "ARCH=amd64", "PUSH="+registry.host+"/regsweep:one")
	registry.pull(t, "regsweep:one", "amd64")
	command := exec.CommandContext(t.Context(), "make", "-C", "..", "image", "BIN="+bin, "BASE="+registry.host+"/base:one")
	command.Env = append(os.Environ(), "DOCKER_CONFIG="+registry.login)
	if output, err := command.CombinedOutput(); err == nil || !bytes.Contains(output, []byte("it is an image for linux/amd64 alone")) {
		t.Errorf("a base without arm64 gives %v\n%s", err, output)
	}
}

// baseImage is an image of Docker's, with a user and commands of its own.
func baseImage(t *testing.T, arch string) v1.Image {
	t.Helper()
	var packed bytes.Buffer
	archive := tar.NewWriter(&packed)
	for path, content := range map[string]string{"bin/kubectl": "kubectl", "etc/passwd": "of the base", "etc/apk/arch": arch} {
		if err := archive.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: path, Mode: 0o644, Size: int64(len(content))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(archive, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(packed.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err == nil {
		image, err = mutate.Config(image, v1.Config{User: "root", Cmd: []string{"bash"}, Env: []string{"PATH=/bin:/usr/bin", "HOME=/root"}})
	}
	if err != nil {
		t.Fatal(err)
	}
	config, err := image.ConfigFile()
	if err == nil {
		config = config.DeepCopy()
		config.OS, config.Architecture = "linux", arch
		image, err = mutate.ConfigFile(image, config)
	}
	if err != nil {
		t.Fatal(err)
	}
	return image
}

func digestOf(t *testing.T, layer v1.Layer) v1.Hash {
	t.Helper()
	digest, err := layer.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest
}

// unpack writes the files of an image below root.
func unpack(t *testing.T, image v1.Image, root string) {
	t.Helper()
	content := mutate.Extract(image)
	defer content.Close()
	for archive := tar.NewReader(content); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(root, header.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if header.Typeflag == tar.TypeDir {
			if err := os.MkdirAll(path, 0o755); err != nil {
				t.Fatal(err)
			}
		} else {
			data, err := io.ReadAll(archive)
			if err == nil {
				err = os.WriteFile(path, data, header.FileInfo().Mode().Perm())
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if os.Getuid() == 0 {
			if err := os.Chown(path, header.Uid, header.Gid); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chmod(path, header.FileInfo().Mode()); err != nil {
			t.Fatal(err)
		}
	}
}

// isStatic fails the test unless a program is for the machine and needs no library.
func isStatic(t *testing.T, path string, machine elf.Machine) {
	t.Helper()
	program, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	if program.Machine != machine {
		t.Errorf("%s is for %v, not %v", path, program.Machine, machine)
	}
	for _, segment := range program.Progs {
		if segment.Type == elf.PT_INTERP || segment.Type == elf.PT_DYNAMIC {
			t.Errorf("%s is not static: it has a segment %v", path, segment.Type)
		}
	}
}

// inContainer runs the image's program with nothing but the image's files, as the image's user.
func inContainer(t *testing.T, root string, args ...string) string {
	t.Helper()
	if os.Getuid() != 0 {
		servertest.Lacks(t, "only root may change its root directory")
	}
	command := exec.CommandContext(t.Context(), "/usr/bin/regsweep", args...)
	command.Dir = "/"
	command.Env = []string{"HOME=/var/lib/regsweep", "STATE_DIRECTORY=/var/lib/regsweep", "PATH=/usr/bin"}
	command.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: 65532, Gid: 65532}}
	var failure bytes.Buffer
	command.Stderr = &failure
	output, err := command.Output()
	if err != nil {
		t.Fatalf("regsweep %q: %v\n%s%s", args, err, output, &failure)
	}
	return string(output)
}
