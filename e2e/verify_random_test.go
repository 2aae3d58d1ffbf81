package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"regsweep/internal/imagetest"
	"regsweep/verify"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

var (
	verifySeeds = flag.Int("verify-seeds", 0, "damage that many random registries, and not only a few")
	verifySeed  = flag.Uint64("verify-seed", 0, "damage the random registry of this seed alone, and say what happened")
)

// verifyReport is the part of the report of verify that the tests rely on.
type verifyReport struct {
	Report  int    `json:"report"`
	Command string `json:"command"`
	Checked struct {
		Manifests int   `json:"manifests"`
		Blobs     int   `json:"blobs"`
		Bytes     int64 `json:"bytes"`
	} `json:"checked"`
	Findings []verifyFinding `json:"findings"`
	Repairs  struct {
		Links []struct {
			Path  string `json:"path"`
			Error string `json:"error"`
		} `json:"links"`
		Blobs, Refilled []struct {
			Digest digest.Digest `json:"digest"`
			Error  string        `json:"error"`
		}
		Tags []struct {
			Repository string `json:"repository"`
			Tag        string `json:"tag"`
			Error      string `json:"error"`
		} `json:"tags"`
	} `json:"repairs"`
	ExitCode int    `json:"exit_code"`
	Error    string `json:"error"`
}

type verifyFinding struct {
	Kind       verify.Kind   `json:"kind"`
	Repository string        `json:"repository"`
	Path       string        `json:"path"`
	Digest     digest.Digest `json:"digest"`
	Tags       []string      `json:"tags"`
	Detail     string        `json:"detail"`
	Repaired   bool          `json:"repaired"`
}

// broken are the tags of the findings that are not repaired, as repository:tag.
func (r verifyReport) broken() (tags []string) {
	for _, f := range r.Findings {
		if f.Repaired {
			continue
		}
		for _, tag := range f.Tags {
			tags = append(tags, f.Repository+":"+tag)
		}
	}
	slices.Sort(tags)
	return slices.Compact(tags)
}

// lines are the findings, for messages.
func (r verifyReport) lines() string {
	var b strings.Builder
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "\n    %s %s %s %q: %s", f.Kind, f.Repository, f.Path, f.Tags, f.Detail)
	}
	return b.String()
}

// verify runs `regsweep verify` with a report, and checks what holds for any report.
func (s *fixture) verify(args ...string) verifyReport {
	s.Helper()
	code, stdout, stderr := regsweep(s, append([]string{"verify", "--json"}, args...)...)
	report := decode[verifyReport](s, stdout)
	want := 0
	if slices.ContainsFunc(report.Findings, func(f verifyFinding) bool { return !f.Repaired }) {
		want = 4
	}
	if code != want || report.ExitCode != code || report.Report != 1 || report.Command != "verify" || report.Error != "" {
		s.Fatalf("verify %q ends with %d, want %d; its report says %d: %s\n%s%s", args, code, want, report.ExitCode, report.Error, stderr, report.lines())
	}
	return report
}

// failedTags runs `regsweep verify --failed-tags`.
func (s *fixture) failedTags(args ...string) (tags []string) {
	s.Helper()
	code, stdout, stderr := regsweep(s, append([]string{"verify", "--failed-tags"}, args...)...)
	if code != 0 && code != 4 {
		s.Fatalf("verify --failed-tags ends with %d: %s", code, stderr)
	}
	tags = strings.FieldsFunc(stdout, func(r rune) bool { return r == '\n' })
	slices.Sort(tags)
	return tags
}

// TestVerifyFindsWhatFailsToPull damages random registries in random ways. verify must find exactly those tags
// of which a complete pull from a real registry fails. Without --read-data it may miss only those whose blobs
// have the right sizes.
func TestVerifyFindsWhatFailsToPull(t *testing.T) {
	t.Parallel()
	seeds := 8
	if testing.Short() {
		seeds = 3
	}
	if *verifySeeds > 0 {
		seeds = *verifySeeds
	}
	each := func(seed uint64) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			r := newRandomRegistry(t, seed)
			// A cheap way to many cases: the registry is damaged, put right again, and damaged in other ways.
			whole := r.save()
			for round, n := range []int{0, 1, 1, 1, 1, 1, 2, 4} {
				if round > 0 {
					r.restore(whole)
				}
				r.compare(fmt.Sprintf("round %d: %s", round, r.damage(n)), round == 0)
			}
		})
	}
	if *verifySeed > 0 {
		each(*verifySeed)
		return
	}
	for seed := range uint64(seeds) {
		each(seed + 1)
	}
}

// compare compares the findings with what the real registry fails to serve.
func (r *randomRegistry) compare(what string, isHealthy bool) {
	r.Helper()
	tags, err := tagsOf(r.tree)
	r.must(err)
	full := r.verify("--read-data", r.tree.Root())
	failing, structural, reasons := r.failing(tags)
	if *verifySeed > 0 {
		r.Logf("%s\n  fails: %v%s", what, reasons, full.lines())
	}
	explain := func(tags []string) (text string) {
		for _, tag := range tags {
			if text += "\n    " + tag; reasons[tag] != nil {
				text += " fails: " + reasons[tag].Error()
			}
		}
		return text
	}
	problem := func(format string, args ...any) {
		r.Errorf("%s\n  %s%s", what, r.readable(fmt.Sprintf(format, args...)), r.readable(full.lines()))
	}
	if missed := minus(failing, full.broken()); len(missed) > 0 {
		problem("missed:%s", explain(missed))
	}
	if wrong := minus(full.broken(), failing); len(wrong) > 0 {
		problem("not broken:%s", explain(wrong))
	}
	if got := r.failedTags("--read-data", r.tree.Root()); !slices.Equal(got, full.broken()) {
		problem("--failed-tags prints %q, and the findings name %q", got, full.broken())
	}
	if isHealthy && len(full.Findings) > 0 {
		problem("findings in a registry that is whole")
	}
	quick := r.verify(r.tree.Root()).broken()
	if missed := minus(structural, quick); len(missed) > 0 {
		problem("missed without --read-data:%s", explain(missed))
	}
	if wrong := minus(quick, failing); len(wrong) > 0 {
		problem("not broken, without --read-data:%s", explain(wrong))
	}
	for _, f := range full.Findings {
		info, err := os.Lstat(r.tree.Path(f.Path))
		isThere := err == nil && info.Mode().IsRegular()
		if isMissing := strings.HasPrefix(string(f.Kind), "missing_"); isMissing && isThere || (f.Path == "" || f.Detail == "") || !isMissing && f.Kind == verify.Stray && err != nil {
			problem("no such finding: %+v (%v)", f, err)
		}
	}
}

// minus are the elements of a that b has not.
func minus(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(x string) bool { return slices.Contains(b, x) })
}

// randomRegistry is a registry with a bit of everything.
type randomRegistry struct {
	*fixture
	*rand.Rand
	tags      map[string]*imagetest.Manifest // all that it was filled with, as repository:tag
	manifests []*imagetest.Manifest
}

func newRandomRegistry(t *testing.T, seed uint64) *randomRegistry {
	t.Helper()
	r := &randomRegistry{fixture: newFixture(t), Rand: rand.New(rand.NewPCG(seed, 21)), tags: map[string]*imagetest.Manifest{}}
	r.fill()
	return r
}

// chance is true once in n times.
func (r *randomRegistry) chance(n int) bool { return r.IntN(n) == 0 }

// fill makes several repositories, nested ones too, that share layers and manifests.
func (r *randomRegistry) fill() {
	r.Helper()
	for _, repository := range []string{"a", "a/b", "c/d/e", "f"}[:2+r.IntN(3)] {
		for n := range 1 + r.IntN(4) {
			m := r.manifest(2)
			r.add(repository, fmt.Sprintf("t%d", n), m)
			if r.chance(4) {
				r.add(repository, fmt.Sprintf("T_%d.x-", n), m)
			}
			if r.chance(4) { // a tag that moved
				r.add(repository, fmt.Sprintf("t%d", n), r.manifest(1))
			}
			if r.chance(3) {
				r.refer(repository, m)
			}
		}
		if r.chance(2) {
			r.add(repository, "", r.manifest(1))
		}
		if r.chance(2) && len(r.manifests) > 0 { // of another repository
			r.add(repository, "shared", r.manifests[r.IntN(len(r.manifests))])
		}
	}
}

func (r *randomRegistry) add(repository, tag string, m *imagetest.Manifest) {
	r.Helper()
	r.plant(repository, tag, m)
	r.manifests = append(r.manifests, m)
	if tag != "" {
		r.tags[repository+":"+tag] = m
	}
}

// refer adds a referrer, under the fallback tag or without a tag.
func (r *randomRegistry) refer(repository string, subject *imagetest.Manifest) {
	r.Helper()
	referrer := imagetest.Referrer(subject, "application/vnd.example.signature", fmt.Appendf(nil, "signature %d", r.IntN(9)))
	if r.chance(2) {
		r.add(repository, "", referrer)
		return
	}
	r.add(repository, strings.Replace(subject.Digest().String(), ":", "-", 1), imagetest.Index(imagetest.OCI, referrer))
}

// manifest makes an image, an index, or a build cache. Depth is how deep indexes may be nested.
func (r *randomRegistry) manifest(depth int) *imagetest.Manifest {
	format := imagetest.Format(r.IntN(2))
	switch kind := r.IntN(10); {
	case kind < 4 || depth == 0:
		return r.image(format)
	case kind == 4:
		return imagetest.BuildKitCache(r.layers(3)...)
	}
	var entries []*imagetest.Manifest
	for range 1 + r.IntN(3) {
		if entry := r.manifest(depth - 1); len(entry.Manifests) == 0 || r.chance(2) {
			entries = append(entries, entry)
			continue
		}
		attestation := r.image(imagetest.OCI)
		attestation.Platform = &ocispec.Platform{OS: "unknown", Architecture: "unknown"}
		entries = append(entries, attestation)
	}
	return r.bare(imagetest.Index(format, entries...))
}

func (r *randomRegistry) image(format imagetest.Format) *imagetest.Manifest {
	layers := r.layers(1 + r.IntN(4))
	if r.chance(4) { // it is nowhere in the registry
		foreign := layer(100 + r.IntN(9))
		foreign.URLs = []string{"https://example.com/layer"}
		layers = append(layers, foreign)
	}
	if r.chance(8) {
		layers = append(layers, imagetest.Blob{MediaType: "application/vnd.example.empty", Content: []byte{}})
	}
	if r.chance(6) && len(layers) > 0 { // twice in one image
		layers = append(layers, layers[0])
	}
	return r.bare(imagetest.Image(format, layers...))
}

// layers are from a small stock, so that images share them.
func (r *randomRegistry) layers(n int) (layers []imagetest.Blob) {
	for range n {
		blob := layer(r.IntN(20))
		if r.chance(8) {
			blob.Algorithm = digest.SHA512
		}
		layers = append(layers, blob)
	}
	return layers
}

// bare leaves the media type out of some OCI manifests, as many clients do.
func (r *randomRegistry) bare(m *imagetest.Manifest) *imagetest.Manifest {
	if r.chance(5) && strings.HasPrefix(m.MediaType, "application/vnd.oci.") {
		m.Content = bytes.Replace(m.Content, []byte(`"mediaType":"`+m.MediaType+`",`), nil, 1)
	}
	return m
}

// saved has the files and directories of a registry, by path.
type saved map[string]savedFile

type savedFile struct {
	info    fs.FileInfo
	content []byte
}

func (r *randomRegistry) save() saved {
	r.Helper()
	all := saved{}
	r.must(filepath.WalkDir(r.tree.Path(""), func(path string, entry fs.DirEntry, err error) error {
		var of savedFile
		if err == nil {
			of.info, err = entry.Info()
		}
		if err == nil && !entry.IsDir() {
			of.content, err = os.ReadFile(path)
		}
		if err == nil {
			all[path] = of
		}
		if errors.Is(err, fs.ErrNotExist) { // a run removes it meanwhile
			return nil
		}
		return err
	}))
	return all
}

// restore puts back what is not as it was saved, with its time.
func (r *randomRegistry) restore(all saved) {
	r.Helper()
	r.must(filepath.WalkDir(r.tree.Path(""), func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		was, isKnown := all[path]
		if err != nil || isKnown && info.IsDir() && was.info.IsDir() || isKnown && info.Mode() == was.info.Mode() && info.Size() == was.info.Size() && info.ModTime().Equal(was.info.ModTime()) {
			return err
		}
		if err := os.RemoveAll(path); err != nil || !info.IsDir() {
			return err
		}
		return fs.SkipDir
	}))
	for _, path := range slices.Sorted(maps.Keys(all)) {
		if _, err := os.Lstat(path); err == nil {
			continue
		}
		if was := all[path]; was.info.IsDir() {
			r.must(os.Mkdir(path, 0o755))
		} else {
			r.must(os.WriteFile(path, was.content, 0o644))
			r.must(os.Chtimes(path, was.info.ModTime(), was.info.ModTime()))
		}
	}
}

// pick is one of the paths of the layout that pass.
func (r *randomRegistry) pick(pass func(path string, isDir bool) bool) string {
	r.Helper()
	var all []string
	top := r.tree.Path("")
	r.must(filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && path != top && pass(path[len(top)+1:], entry.IsDir()) {
			all = append(all, path[len(top)+1:])
		}
		return err
	}))
	if len(all) == 0 {
		return ""
	}
	return all[r.IntN(len(all))]
}

func (r *randomRegistry) file() string {
	return r.pick(func(_ string, isDir bool) bool { return !isDir })
}

func (r *randomRegistry) read(path string) string {
	r.Helper()
	content, err := os.ReadFile(r.tree.Path(path))
	r.must(err)
	return string(content)
}

// damage damages n things, and says which.
func (r *randomRegistry) damage(n int) string {
	r.Helper()
	var done []string
	for range n {
		of := allDamage[r.IntN(len(allDamage))]
		done = append(done, of.name+" "+r.readable(of.do(r)))
	}
	return strings.Join(done, "; ")
}

// onFile is a damage of the content of one file.
func onFile(change func(r *randomRegistry, content string) string) func(r *randomRegistry) string {
	return func(r *randomRegistry) string {
		path := r.file()
		r.tree.Write(path, change(r, r.read(path)))
		return path
	}
}

// ofDir removes a directory, or a file with the same name.
func ofDir(pass func(path string) bool) func(r *randomRegistry) string {
	return func(r *randomRegistry) string {
		path := r.pick(func(path string, _ bool) bool { return pass(path) })
		if path != "" {
			r.tree.Remove(path)
		}
		return path
	}
}

// copies the directory or file at from to another path.
func (r *randomRegistry) copy(from, to string) {
	r.Helper()
	r.must(filepath.WalkDir(r.tree.Path(from), func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			below := to + strings.TrimPrefix(path, r.tree.Path(from))
			if info, statErr := os.Lstat(r.tree.Path(below)); statErr == nil && info.IsDir() {
				return nil
			}
			r.tree.Write(below, r.read(strings.TrimPrefix(path, r.tree.Path("")+"/")))
		}
		return err
	}))
}

// someDigest is that of content that is stored, mostly.
func (r *randomRegistry) someDigest() digest.Digest {
	m := r.manifests[r.IntN(len(r.manifests))]
	all := m.Digests()
	return all[r.IntN(len(all))]
}

var allDamage = []struct {
	name string
	do   func(r *randomRegistry) string // returns the path
}{
	{"removed", func(r *randomRegistry) string { p := r.file(); r.tree.Remove(p); return p }},
	{"removed with its directory", func(r *randomRegistry) string { p := filepath.Dir(r.file()); r.tree.Remove(p); return p }},
	{"emptied", onFile(func(*randomRegistry, string) string { return "" })},
	{"a newline", onFile(func(_ *randomRegistry, content string) string { return content + "\n" })},
	{"white space before it", onFile(func(_ *randomRegistry, content string) string { return " " + content })},
	{"upper case", onFile(func(_ *randomRegistry, content string) string { return strings.ToUpper(content) })},
	{"names another digest", onFile(func(r *randomRegistry, _ string) string { return r.someDigest().String() })},
	{"names nothing", onFile(func(*randomRegistry, string) string { return digest.FromString("nothing").String() })},
	{"names a sha512", onFile(func(*randomRegistry, string) string { return digest.SHA512.FromString("nothing").String() })},
	{"one byte less", onFile(func(_ *randomRegistry, content string) string { return content[:max(0, len(content)-1)] })},
	{"half of it", onFile(func(_ *randomRegistry, content string) string { return content[:len(content)/2] })},
	{"longer", onFile(func(_ *randomRegistry, content string) string { return content + "0" })},
	{"much longer", onFile(func(_ *randomRegistry, content string) string { return content + strings.Repeat("0", 5<<20) })},
	{"zeros", onFile(func(_ *randomRegistry, content string) string { return strings.Repeat("\x00", len(content)) })},
	{"a bit", onFile(func(r *randomRegistry, content string) string {
		changed := []byte(content)
		if len(changed) > 0 {
			changed[r.IntN(len(changed))] ^= 1 << r.IntN(8)
		}
		return string(changed)
	})},
	{"a directory", func(r *randomRegistry) string { p := r.file(); r.tree.Remove(p); r.tree.Mkdir(p); return p }},
	{"swapped", func(r *randomRegistry) string {
		kind := regexp.MustCompile("^blobs|_layers|revisions|current|index|$")
		a := r.file()
		b := r.pick(func(path string, isDir bool) bool { return !isDir && kind.FindString(path) == kind.FindString(a) })
		first, second := r.read(a), r.read(b)
		r.tree.Write(a, second)
		r.tree.Write(b, first)
		return a + " and " + b
	}},
	{"swapped with any file", func(r *randomRegistry) string {
		a, b := r.file(), r.file()
		first, second := r.read(a), r.read(b)
		r.tree.Write(a, second)
		r.tree.Write(b, first)
		return a + " and " + b
	}},
	{"layers removed", ofDir(func(path string) bool { return filepath.Base(path) == "_layers" })},
	{"layers of sha256 removed", ofDir(func(path string) bool { return strings.HasSuffix(path, "_layers/sha256") })},
	{"revisions removed", ofDir(func(path string) bool { return filepath.Base(path) == "revisions" })},
	{"manifests removed", ofDir(func(path string) bool { return filepath.Base(path) == "_manifests" })},
	{"a tag removed", ofDir(func(path string) bool { return filepath.Base(filepath.Dir(path)) == "tags" })},
	{"current removed", ofDir(func(path string) bool { return filepath.Base(path) == "current" })},
	{"an index removed", ofDir(func(path string) bool { return filepath.Base(path) == "index" })},
	{"blobs removed", ofDir(func(path string) bool { ok, _ := filepath.Match("blobs/sha256/??", path); return ok })},
	{"all blobs removed", ofDir(func(path string) bool { return path == "blobs/sha256" })},
	{"a repository removed", ofDir(func(path string) bool {
		return strings.HasPrefix(path, "repositories/") && !strings.Contains(path, "_")
	})},
	{"any directory removed", ofDir(func(path string) bool { return path != "repositories" })},
	{"a tag that no client can name", func(r *randomRegistry) string {
		tag := r.pick(func(path string, isDir bool) bool { return isDir && filepath.Base(filepath.Dir(path)) == "tags" })
		if tag == "" {
			return ""
		}
		to := filepath.Dir(tag) + "/" + []string{"-bad", ".bad", "bad~1", "b+d"}[r.IntN(4)]
		r.copy(tag, to)
		return to
	}},
	{"a repository that no client can name", func(r *randomRegistry) string { r.copy("repositories/a", "repositories/Foo"); return "" }},
	{"a copied repository without some links", func(r *randomRegistry) string {
		for _, part := range []string{"_layers", "_manifests/revisions", "_manifests/tags"} {
			if r.chance(2) {
				r.copy("repositories/a/"+part, "repositories/copied/"+part)
			}
		}
		return ""
	}},
	{"a copied tag", func(r *randomRegistry) string { // the other repository may have no such manifest
		tag := r.pick(func(path string, isDir bool) bool { return isDir && filepath.Base(filepath.Dir(path)) == "tags" })
		if tag == "" {
			return ""
		}
		r.copy(tag, "repositories/f/_manifests/tags/copied")
		return tag
	}},
	{"a tag without files", func(r *randomRegistry) string {
		r.tree.Mkdir("repositories/a/_manifests/tags/" + []string{"empty", "empty/current", "empty/index/sha256"}[r.IntN(3)])
		return ""
	}},
	{"a stray", func(r *randomRegistry) string {
		p := r.pick(func(path string, isDir bool) bool { return isDir && !strings.HasSuffix(path, "/tags") }) + "/stray.tmp"
		r.tree.Write(p, "stray")
		return p
	}},
	{"a size that is wrong", func(r *randomRegistry) string {
		m := r.image(imagetest.OCI)
		r.plant("a", "size", &imagetest.Manifest{Content: bytes.Replace(m.Content, []byte(`"size":`), []byte(`"size":1`), 1), Blobs: m.Blobs})
		return ""
	}},
	{"an unknown type", func(r *randomRegistry) string {
		m := app(r.IntN(20))
		r.plant("a", "unknown", &imagetest.Manifest{Content: bytes.Replace(m.Content, []byte(m.MediaType), []byte("application/vnd.example+json"), 1), Blobs: m.Blobs})
		return ""
	}},
	{"malformed JSON", func(r *randomRegistry) string {
		m := r.image(imagetest.OCI)
		r.plant("a", "malformed", &imagetest.Manifest{Content: m.Content[:r.IntN(len(m.Content))], Blobs: m.Blobs})
		return ""
	}},
	{"a sparse index", func(r *randomRegistry) string {
		entries := []ocispec.Descriptor{r.image(imagetest.OCI).Descriptor(), r.manifests[0].Descriptor()}
		content, err := json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: entries})
		r.must(err)
		r.plant("a", "sparse", &imagetest.Manifest{Content: content})
		return ""
	}},
	{"a child in _layers alone", func(r *randomRegistry) string {
		m := r.image(imagetest.OCI)
		r.plant("a", "child", imagetest.Index(imagetest.OCI, m))
		r.tree.Remove(imagetest.RevisionPath("a", m.Digest()))
		r.tree.LayerLink("a", m.Digest())
		return ""
	}},
	{"a referrer without its subject", func(r *randomRegistry) string {
		r.plant("a", "referrer", imagetest.Referrer(app(77), "application/vnd.example", []byte("x")))
		return ""
	}},
}
