package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// ours is what each package of the program may import of the others. Imports point down this list,
// but for open, which knows every backend.
var ours = map[string][]string{
	"regsweep":             {"regsweep/cli"},
	"regsweep/cli":         under("audit", "verify", "policy", "quarantine", "metrics", "descriptors", "sweep", "window", "guard", "mark", "inventory", "storage/open", "storage/config", "storage/cache", "storage/layout", "storage", "internal/spool", "internal/human", "internal/progress", "internal/terminal", "internal/dockerlogin", "internal/registryclient"),
	"regsweep/window":      under("storage", "internal/human", "internal/spool"),
	"regsweep/audit":       under("sweep", "mark", "inventory", "manifest", "storage", "internal/human"),
	"regsweep/verify":      under("sweep", "mark", "manifest", "inventory", "storage/layout", "storage", "internal/human", "internal/spool", "internal/registryclient"),
	"regsweep/policy":      under("mark", "manifest", "inventory", "storage/layout", "storage", "internal/human", "internal/pattern"),
	"regsweep/quarantine":  under("sweep", "mark", "manifest", "storage/layout", "storage", "internal/spool"),
	"regsweep/metrics":     under("audit", "storage"),
	"regsweep/descriptors": under("sweep", "storage/config", "storage", "internal/human"),
	"regsweep/sweep":       under("mark", "inventory", "storage/layout", "storage"),
	"regsweep/guard":       under("inventory", "storage/config", "storage/layout", "storage", "internal/registryauth"),
	"regsweep/mark":        under("manifest", "inventory", "storage/layout", "storage"),
	"regsweep/inventory":   under("storage/layout", "storage"),
	"regsweep/manifest":    under("storage/layout"),

	"regsweep/storage/open":       under("storage/config", "storage/filesystem", "storage/s3", "storage/driver", "storage", "internal/system"),
	"regsweep/storage/cache":      under("storage/layout", "storage"),
	"regsweep/storage/filesystem": under("storage/pace", "storage/layout", "storage", "internal/system"),
	"regsweep/storage/s3":         under("storage/pace", "storage"),
	"regsweep/storage/driver":     under("storage/pace", "storage/layout", "storage"),
	"regsweep/storage/pace":       under("storage"),
	"regsweep/storage/config":     under("storage", "internal/system"),
	"regsweep/storage/layout":     under("storage"),
	"regsweep/storage":            {},

	"regsweep/internal/dockerlogin":    {},
	"regsweep/internal/human":          {},
	"regsweep/internal/pattern":        {},
	"regsweep/internal/progress":       under("internal/human"),
	"regsweep/internal/registryauth":   {},
	"regsweep/internal/registryclient": under("storage/pace", "storage", "internal/registryauth"),
	"regsweep/internal/terminal":       {},
	"regsweep/internal/spool":          under("storage"),
	"regsweep/internal/system":         {},
}

// under are packages of the program.
func under(names ...string) (paths []string) {
	for _, name := range names {
		paths = append(paths, "regsweep/"+name)
	}
	return paths
}

// theirs is who alone may import what others wrote, so that a change of theirs meets
// few packages of ours. Nobody may import what is not listed.
var theirs = map[string][]string{
	"github.com/urfave/cli":          under("cli"),
	"github.com/schollz/progressbar": under("internal/progress"),
	"github.com/dustin/go-humanize":  under("internal/human"),
	"github.com/xrash/smetrics":      under("internal/human"), // as urfave/cli
	"golang.org/x/term":              under("cli"),
	"github.com/bmatcuk/doublestar":  under("cli", "internal/pattern"),
	"github.com/Masterminds/semver":  under("policy"),
	"github.com/prometheus":          under("metrics"),
	"github.com/redis/go-redis":      under("descriptors"),
	"github.com/prometheus/procfs":   under("window"),

	"github.com/aws": under("storage/s3"),
	"github.com/distribution/distribution/v3": under("storage/driver", "storage/config"),
	"github.com/distribution/reference":       under("storage/layout"),
	"github.com/sirupsen/logrus":              under("storage/config"), // what Distribution warns through
	"go.yaml.in/yaml":                         under("storage/config", "policy"),
	"golang.org/x/sys":                        under("internal/terminal", "storage/filesystem", "internal/spool", "internal/system"),

	"github.com/opencontainers/go-digest": under("internal/registryclient", "descriptors", "cli", "audit", "verify", "policy", "quarantine", "sweep", "guard", "mark", "inventory", "manifest", "storage/cache", "storage/layout"),
	"github.com/go-json-experiment/json":  under("manifest"),
	"golang.org/x/time":                   under("storage/pace"),
	"golang.org/x/sync":                   under("quarantine", "mark", "inventory", "storage/filesystem", "storage/s3", "storage/driver"),
}

// built are the modules that the program is built from. A new one is a decision:
// it comes with its licence, its faults and its upkeep.
var built = []string{
	"github.com/Masterminds/semver/v3",
	"github.com/aws/aws-sdk-go-v2",
	"github.com/aws/aws-sdk-go-v2/aws/protocol/eventstream",
	"github.com/aws/aws-sdk-go-v2/config",
	"github.com/aws/aws-sdk-go-v2/credentials",
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds",
	"github.com/aws/aws-sdk-go-v2/internal/configsources",
	"github.com/aws/aws-sdk-go-v2/internal/endpoints/v2",
	"github.com/aws/aws-sdk-go-v2/internal/v4a",
	"github.com/aws/aws-sdk-go-v2/service/internal/accept-encoding",
	"github.com/aws/aws-sdk-go-v2/service/internal/checksum",
	"github.com/aws/aws-sdk-go-v2/service/internal/presigned-url",
	"github.com/aws/aws-sdk-go-v2/service/internal/s3shared",
	"github.com/aws/aws-sdk-go-v2/service/s3",
	"github.com/aws/aws-sdk-go-v2/service/signin",
	"github.com/aws/aws-sdk-go-v2/service/sso",
	"github.com/aws/aws-sdk-go-v2/service/ssooidc",
	"github.com/aws/aws-sdk-go-v2/service/sts",
	"github.com/aws/smithy-go",
	"github.com/beorn7/perks",
	"github.com/bmatcuk/doublestar/v4",
	"github.com/cespare/xxhash/v2",
	"github.com/cpuguy83/go-md2man/v2",
	"github.com/distribution/distribution/v3",
	"github.com/distribution/reference",
	"github.com/dustin/go-humanize",
	"github.com/go-json-experiment/json",
	"github.com/mitchellh/colorstring",
	"github.com/munnerz/goautoneg",
	"github.com/opencontainers/go-digest",
	"github.com/prometheus/client_golang",
	"github.com/prometheus/client_model",
	"github.com/prometheus/common",
	"github.com/prometheus/procfs",
	"github.com/redis/go-redis/v9",
	"github.com/rivo/uniseg",
	"github.com/russross/blackfriday/v2",
	"github.com/schollz/progressbar/v3",
	"github.com/sirupsen/logrus",
	"github.com/urfave/cli/v2",
	"github.com/xrash/smetrics",
	"go.uber.org/atomic",
	"go.yaml.in/yaml/v2",
	"golang.org/x/sync",
	"golang.org/x/sys",
	"golang.org/x/term",
	"golang.org/x/time",
	"google.golang.org/protobuf",
}

// ofDistribution is what the program takes of Distribution, which has a whole
// registry to offer; our tests run that one.
var ofDistribution = []string{
	"github.com/distribution/distribution/v3/configuration",
	"github.com/distribution/distribution/v3/registry/storage/driver",
	"github.com/distribution/distribution/v3/registry/storage/driver/factory",
}

// forTests are the packages that start real servers or make images, for tests.
var forTests = []string{"regsweep/internal/servertest", "regsweep/internal/registrytest", "regsweep/internal/miniotest", "regsweep/internal/redistest", "regsweep/internal/imagetest"}

// workshop are the packages that may import them, besides tests.
var workshop = []string{"regsweep/bench", "regsweep/demo", "regsweep/internal/", "regsweep/storage/storagetest", "regsweep/storage/s3/s3test"}

type goPackage struct {
	Dir        string
	ImportPath string
	GoFiles    []string
	Imports    []string
	Standard   bool
	Module     *struct{ Path string }
}

// goList is what the build takes on Linux, wherever the test runs: other systems add
// packages of their own.
func goList(t *testing.T, args ...string) []goPackage {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", append([]string{"list", "-json=Dir,ImportPath,GoFiles,Imports,Standard,Module"}, args...)...)
	command.Env = append(os.Environ(), "GOOS=linux", "GOARCH=amd64", "CGO_ENABLED=0", "GOFLAGS=")
	var failure bytes.Buffer
	command.Stderr = &failure
	output, err := command.Output()
	if err != nil {
		t.Fatalf("go list: %s\n%s", err, &failure)
	}
	var packages []goPackage
	for decoder := json.NewDecoder(bytes.NewReader(output)); ; {
		var p goPackage
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
		if isOurs(p.ImportPath) {
			noticed(t, p.Dir)
		}
	}
}

// noticed reads a directory, so that go test does not take an earlier result for
// this one: it can't know what another process has read.
func noticed(t *testing.T, dir string) {
	t.Helper()
	if _, err := os.ReadDir(dir); err != nil {
		t.Fatal(err)
	}
}

// within tells whether an import path is a package or lies below it.
func within(path, parent string) bool {
	return path == parent || strings.HasPrefix(path, strings.TrimSuffix(parent, "/")+"/")
}

func isOurs(path string) bool { return within(path, "regsweep") }

func TestImportsPointOneWay(t *testing.T) {
	for _, p := range goList(t, "-deps", ".") {
		if !isOurs(p.ImportPath) {
			continue
		}
		allowed, known := ours[p.ImportPath]
		if !known {
			t.Errorf("%s has no place in the order of packages", p.ImportPath)
			continue
		}
		for _, imported := range p.Imports {
			if isOurs(imported) && !slices.Contains(allowed, imported) {
				t.Errorf("%s must not import %s", p.ImportPath, imported)
			}
		}
	}
}

func TestWhatOthersWroteIsImportedInOnePlace(t *testing.T) {
	standard := map[string]bool{}
	packages := goList(t, "-deps", ".")
	for _, p := range packages {
		standard[p.ImportPath] = p.Standard
	}
	for _, p := range packages {
		if _, known := ours[p.ImportPath]; !known {
			continue
		}
		for _, imported := range p.Imports {
			if isOurs(imported) || standard[imported] {
				continue
			}
			allowed := false
			for name, importers := range theirs {
				allowed = allowed || within(imported, name) && slices.Contains(importers, p.ImportPath)
			}
			if !allowed {
				t.Errorf("%s must not import %s", p.ImportPath, imported)
			}
		}
	}
}

// TestNoPackageIsLargerThanAFifth counts the lines of the program, without its tests.
func TestNoPackageIsLargerThanAFifth(t *testing.T) {
	lines, all := map[string]int{}, 0
	for _, p := range goList(t, "-deps", ".") {
		if !isOurs(p.ImportPath) {
			continue
		}
		for _, name := range p.GoFiles {
			content, err := os.ReadFile(filepath.Join(p.Dir, name))
			if err != nil {
				t.Fatal(err)
			}
			n := bytes.Count(content, []byte("\n"))
			lines[p.ImportPath] += n
			all += n
		}
	}
	for path, n := range lines {
		if 5*n > all {
			t.Errorf("%s has %d of %d lines", path, n, all)
		}
	}
}

// TestTheMarkLinksNoBackend: the packages that decide on liveness and removal are built without AWS
// and without the registry, and so are the tests of mark and sweep.
func TestTheMarkLinksNoBackend(t *testing.T) {
	packages := goList(t, "-deps", "./mark", "./sweep", "./quarantine")
	for _, p := range append(packages, goList(t, "-test", "-deps", "./mark", "./sweep")...) {
		if within(p.ImportPath, "github.com/aws") || within(p.ImportPath, "github.com/distribution/distribution/v3") {
			t.Errorf("%s is linked", p.ImportPath)
		}
	}
}

func TestTheProgramIsBuiltFromNothingElse(t *testing.T) {
	modules, distribution := map[string]bool{}, map[string]bool{}
	for _, p := range goList(t, "-deps", ".") {
		if p.Standard || isOurs(p.ImportPath) {
			continue
		}
		modules[p.Module.Path] = true
		if p.Module.Path == "github.com/distribution/distribution/v3" {
			distribution[p.ImportPath] = true
		}
	}
	same(t, "module", built, modules)
	same(t, "package", ofDistribution, distribution)
}

func same(t *testing.T, kind string, want []string, got map[string]bool) {
	t.Helper()
	for _, path := range slices.Sorted(maps.Keys(got)) {
		if !slices.Contains(want, path) {
			t.Errorf("%s %s got into the program", kind, path)
		}
	}
	for _, path := range want {
		if !got[path] {
			t.Errorf("%s %s is listed here, and no longer in the program", kind, path)
		}
	}
}

func TestServersAreForTestsAndDemonstrations(t *testing.T) {
	for _, p := range goList(t, "./...") {
		if slices.ContainsFunc(workshop, func(name string) bool { return within(p.ImportPath, name) }) {
			continue
		}
		for _, imported := range p.Imports {
			if slices.ContainsFunc(forTests, func(name string) bool { return within(imported, name) }) {
				t.Errorf("%s must not import %s", p.ImportPath, imported)
			}
		}
	}
}

var (
	namedTest   = regexp.MustCompile("`(Test[A-Za-z0-9]+)`")
	definedTest = regexp.MustCompile(`(?m)^func (Test[A-Za-z0-9]+)\(`)
)

// TestSafetyNamesItsTests fails if the docs or the Makefile name a test that does not exist.
func TestSafetyNamesItsTests(t *testing.T) {
	defined := map[string]bool{}
	var pages []byte // docs/safety.md, and all other docs
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		isPage := strings.HasSuffix(path, ".md")
		if err != nil || entry.IsDir() || !isPage && !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		if isPage {
			pages = append(append(pages, source...), '\n')
		}
		for _, found := range definedTest.FindAllSubmatch(source, -1) {
			defined[string(found[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named := namedTest.FindAllSubmatch(pages, -1)
	if len(named) < 50 {
		t.Errorf("they name only %d tests", len(named))
	}
	makefile, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	// go test succeeds if its -run matches nothing.
	named = append(named, regexp.MustCompile(`\b(Test[A-Z][A-Za-z0-9]+)`).FindAllSubmatch(makefile, -1)...)
	for _, found := range named {
		if name := string(found[1]); !defined[name] {
			t.Errorf("there is no %s", name)
		}
	}
}
