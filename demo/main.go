// Command demo makes a registry and collects it before your eyes: a real one, of
// Distribution, that runs in this process on a directory, and the regsweep program
// as an operator runs it. It checks everything that it tells, and leaves nothing
// behind, unless -keep is given.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"regsweep/internal/human"
	"regsweep/internal/imagetest"
	"regsweep/internal/registrytest"

	"github.com/opencontainers/go-digest"
)

func main() {
	// A reader that goes away is a reason to end too, but not without clearing up.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGPIPE)
	defer stop()
	keep := flag.Bool("keep", false, "keep the registry's directory, to try commands on")
	flag.Parse()
	if err := run(ctx, newScreen(os.Stdout), *keep); err != nil {
		fmt.Fprintf(os.Stderr, "demo: %s\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out *screen, keep bool) (err error) {
	dir, err := os.MkdirTemp("", "regsweep-demo-")
	if err != nil {
		return err
	}
	defer func() {
		if !keep || err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	out.say("Building regsweep …")
	if err := build(ctx, dir); err != nil {
		return err
	}
	start := time.Now()
	registry, err := registrytest.Start(ctx, registrytest.Config{Root: filepath.Join(dir, "registry")})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, registry.Stop()) }()

	s := newStory(out, dir, registry)
	steps := []func(context.Context) error{s.pushImages, s.explainImages, s.deleteVersion1, s.collectWhileWritable, s.collectReadOnly, s.pullAgain}
	if keep {
		steps = append(steps, s.keepRegistry)
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
	}
	out.say("")
	out.done("Everything was as told, in %s.", time.Since(start).Round(100*time.Millisecond))
	return out.err
}

func program(dir string) string { return filepath.Join(dir, "regsweep") }

// build builds the program that is shown. Its version is not, so that no version
// control needs to be there.
func build(ctx context.Context, dir string) error {
	command := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-o", program(dir), "regsweep")
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("build regsweep: %w\n%s", err, output)
	}
	return nil
}

const repository = "shop/app"

// story is what has happened so far, for the next step to build on.
type story struct {
	out      *screen
	dir      string // holds the program, config.yml and the registry's directory
	registry *registrytest.Registry
	client   *registrytest.Client

	layers                     []layer
	version1, version2, branch *imagetest.Manifest
	names                      map[digest.Digest]string // what this demo calls a blob
}

type layer struct {
	name string
	blob imagetest.Blob
}

func newStory(out *screen, dir string, registry *registrytest.Registry) *story {
	s := &story{out: out, dir: dir, registry: registry, client: registry.Client(), names: map[digest.Digest]string{}}
	blobs := map[string]imagetest.Blob{}
	for i, l := range []struct {
		name     string
		mebibyte int
	}{{"A", 8}, {"B", 4}, {"C", 2}, {"D", 1}, {"E", 6}} {
		blob := imagetest.Layer(uint64(i), l.mebibyte<<20)
		blobs[l.name] = blob
		s.layers = append(s.layers, layer{l.name, blob})
		s.names[blob.Digest()] = "layer " + l.name
	}
	s.version1 = s.image("version1", blobs["A"], blobs["B"], blobs["C"])
	s.version2 = s.image("version2", blobs["A"], blobs["B"], blobs["C"], blobs["D"])
	s.branch = s.image("branch", blobs["A"], blobs["B"], blobs["E"])
	return s
}

// image is an image of these layers, with names for what else it brings.
func (s *story) image(name string, layers ...imagetest.Blob) *imagetest.Manifest {
	image := imagetest.Image(imagetest.OCI, layers...)
	s.names[image.Digest()] = name + "'s manifest"
	for _, blob := range image.Blobs {
		if s.names[blob.Digest()] == "" {
			s.names[blob.Digest()] = name + "'s config"
		}
	}
	return image
}

// own are the digests that only these images have: their manifests and configs.
func (s *story) own(images ...*imagetest.Manifest) []digest.Digest {
	var own []digest.Digest
	for _, image := range images {
		own = append(own, image.Digest())
		for _, blob := range image.Blobs {
			if blob.MediaType != s.layers[0].blob.MediaType {
				own = append(own, blob.Digest())
			}
		}
	}
	return own
}

func (s *story) pushImages(ctx context.Context) error {
	s.out.step("Push: three images that share ancestry")
	s.out.say("A Distribution registry runs in this process, on a directory. It is pushed:")
	s.out.say("")
	sizes := ""
	for _, l := range s.layers {
		sizes += fmt.Sprintf("   %s %s", l.name, human.Size(int64(len(l.blob.Content))))
	}
	s.out.figure("A ── B ── C ── D        %s", sizes[3:])
	s.out.figure("     │    │    └─ version2, latest")
	s.out.figure("     │    └────── version1")
	s.out.figure("     └─ E")
	s.out.figure("        └──────── branch")
	for _, push := range []struct {
		tag   string
		image *imagetest.Manifest
	}{{"version1", s.version1}, {"version2", s.version2}, {"latest", s.version2}, {"branch", s.branch}} {
		if err := s.client.Push(ctx, repository+":"+push.tag, push.image); err != nil {
			return err
		}
	}
	tree, err := measure(s.root())
	if err != nil {
		return err
	}
	s.out.say("")
	s.out.say("Ancestors are stored once: four tags take %s.", human.Size(tree.bytes()))
	return nil
}

func (s *story) explainImages(ctx context.Context) error {
	s.out.step("Ask what there is, and why layer C is kept")
	printed, err := s.regsweep(ctx, exitDone, "graph", "-q", repository, "config.yml")
	if err != nil {
		return err
	}
	if based := "version1 <- latest"; !bytes.Contains(printed, []byte(based)) {
		return fmt.Errorf("the graph does not say %q", based)
	}
	c := s.layers[2].blob.Digest()
	printed, err = s.regsweep(ctx, exitDone, "why", "-q", c.Encoded()[:12], "config.yml")
	if err != nil {
		return err
	}
	for _, tag := range []string{"latest", "version1", "version2"} {
		if !bytes.Contains(printed, []byte(repository+":"+tag+" → manifest ")) {
			return fmt.Errorf("regsweep does not say that %s needs layer C", tag)
		}
	}
	s.out.check("Version1 and version2 share layer C: three tags lead to it, and it goes with the last one.")
	return nil
}

func (s *story) deleteVersion1(ctx context.Context) error {
	s.out.step("Delete version1: no layer can go")
	s.out.say("The API deletes it by digest. That gives no disk back; regsweep would. A dry run may")
	s.out.say("look at a registry in use, since it removes nothing:")
	if err := s.client.Delete(ctx, repository, s.version1.Digest().String()); err != nil {
		return err
	}
	before, err := measure(s.root())
	if err != nil {
		return err
	}
	if _, err := s.regsweep(ctx, exitDone, "gc", "--dry-run", "--plan", planFile, "config.yml"); err != nil {
		return err
	}
	if err := s.unchanged(before); err != nil {
		return err
	}
	plan, err := readPlan(filepath.Join(s.dir, planFile))
	if err != nil {
		return err
	}
	s.showPlan(plan)
	if err := plan.wantBlobs(s.names, s.own(s.version1)...); err != nil {
		return err
	}
	s.out.check("No layer goes: A, B and C are D's ancestry. What only version1 had is %s.", human.Size(plan.bytes()))
	return nil
}

func (s *story) collectWhileWritable(ctx context.Context) error {
	s.out.step("Delete branch, and collect while the registry takes pushes: refused")
	s.out.say("Somebody could push an image just now that needs what is about to go.")
	if err := s.client.Delete(ctx, repository, s.branch.Digest().String()); err != nil {
		return err
	}
	before, err := measure(s.root())
	if err != nil {
		return err
	}
	if _, err := s.regsweep(ctx, exitRefused, "gc", "config.yml"); err != nil {
		return err
	}
	if err := s.unchanged(before); err != nil {
		return err
	}
	s.out.check("Exit code %d, and not a byte was touched.", exitRefused)
	return nil
}

func (s *story) collectReadOnly(ctx context.Context) error {
	s.out.step("Make the registry read-only, and collect: E goes")
	s.out.say("The registry restarts with the lines above. Now it shows that it takes no pushes:")
	if err := s.registry.SetReadOnly(true); err != nil {
		return err
	}
	before, err := measure(s.root())
	if err != nil {
		return err
	}
	printed, err := s.regsweep(ctx, exitDone, "gc", "--plan", planFile, "config.yml")
	if err != nil {
		return err
	}
	after, err := measure(s.root())
	if err != nil {
		return err
	}
	plan, err := readPlan(filepath.Join(s.dir, planFile))
	if err != nil {
		return err
	}
	s.showPlan(plan)
	e := s.layers[4].blob.Digest()
	if err := plan.wantBlobs(s.names, append(s.own(s.version1, s.branch), e)...); err != nil {
		return err
	}
	if err := plan.wantRemoved(before, after); err != nil {
		return err
	}
	links := before.bytes() - after.bytes() - plan.bytes()
	s.out.figure("on disk before  %11s bytes", human.Count(before.bytes()))
	s.out.figure("on disk after   %11s bytes", human.Count(after.bytes()))
	s.out.figure("difference      %11s bytes: %s in blobs, %s in links",
		human.Count(before.bytes()-after.bytes()), human.Count(plan.bytes()), human.Count(links))
	s.out.say("")
	// What it says that it freed, to the digits that it says it with.
	if freed := human.Size(plan.bytes()) + " freed"; !bytes.Contains(printed, []byte(freed)) {
		return fmt.Errorf("the disk has %q, which regsweep does not say", freed)
	}
	s.out.check("What has gone from the disk is what the plan lists: those files and no other.")
	return nil
}

func (s *story) pullAgain(ctx context.Context) error {
	s.out.step("Pull what is tagged")
	if err := s.client.PullAll(ctx, repository, "version2", "latest"); err != nil {
		return err
	}
	s.out.check("version2 and latest pull: manifest, config and layers A, B, C, D, every byte hashed.")
	return nil
}

// keepRegistry leaves version2 without a tag, so that there is something to try.
func (s *story) keepRegistry(ctx context.Context) error {
	s.out.step("Keep the registry: version1 takes the tags of version2")
	if err := s.registry.SetReadOnly(false); err != nil {
		return err
	}
	for _, tag := range []string{"version2", "latest"} {
		if err := s.client.Push(ctx, repository+":"+tag, s.version1); err != nil {
			return err
		}
	}
	s.out.say("Version2 has no tag now, and the registry stops. Remove its directory when you are done.")
	s.out.say("")
	s.out.figure("cd %s", s.dir)
	for _, command := range []string{"gc -d", "gc -dm", "audit", "graph shop/app", "why shop/app:latest", "check", "gc -m --quarantine --registry-stopped", "quarantine list"} {
		s.out.figure("./regsweep %s config.yml", command)
	}
	return s.writeConfig()
}

func (s *story) root() string { return filepath.Join(s.dir, "registry") }

func (s *story) unchanged(before tree) error {
	after, err := measure(s.root())
	if err != nil {
		return err
	}
	return plan{}.wantRemoved(before, after)
}

// showPlan prints the plan's removals by this demo's own names.
func (s *story) showPlan(p plan) {
	s.out.say("The plan, line by line, in this demo's names:")
	s.out.say("")
	for _, r := range p {
		name := s.names[r.Digest]
		if name == "" {
			name = r.Digest.String()
		}
		if r.Repository != "" {
			s.out.figure("%-10s  %s → %s", noun(r.Kind), r.Repository, name)
		} else {
			s.out.figure("%-10s  %-20s %9s", noun(r.Kind), name, human.Size(r.Bytes))
		}
	}
	s.out.say("")
}

// The exit codes that this story meets.
const (
	exitDone    = 0
	exitRefused = 3
)

const planFile = "plan.jsonl"

// regsweep runs the program as an operator would, beside the registry's config.yml,
// and returns what it printed.
func (s *story) regsweep(ctx context.Context, want int, args ...string) ([]byte, error) {
	if err := s.writeConfig(); err != nil {
		return nil, err
	}
	s.out.say("")
	s.out.command("regsweep", args...)
	command := exec.CommandContext(ctx, program(s.dir), args...)
	command.Dir = s.dir
	printed, err := command.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return nil, fmt.Errorf("run regsweep: %w", err)
	}
	s.out.output(withoutEvidence(printed))
	s.out.say("")
	if code := command.ProcessState.ExitCode(); code != want {
		return nil, fmt.Errorf("regsweep exited with code %d, not %d", code, want)
	}
	return printed, nil
}

func (s *story) writeConfig() error {
	return os.WriteFile(filepath.Join(s.dir, "config.yml"), []byte(s.registry.ConfigYAML()), 0o644)
}

// withoutEvidence leaves out of a refusal the table of what was seen, which is wider
// than a page. What is no refusal stays as it is.
func withoutEvidence(printed []byte) []byte {
	const remedies = "\nTo go on"
	verdict, rest, refused := bytes.Cut(printed, []byte("\n\n"))
	_, rest, remedied := bytes.Cut(rest, []byte(remedies))
	if !refused || !remedied {
		return printed
	}
	return slices.Concat(verdict, []byte("\n\n  [what was seen; regsweep check prints it too]\n"), []byte(remedies), rest)
}
