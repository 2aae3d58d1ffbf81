package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"regsweep/internal/imagetest"
	"regsweep/internal/registrytest"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// clientRecord is what clients have done to a registry. What must be alive follows from it,
// by the words of docs/DESIGN.md and without any code of the program's.
type clientRecord struct {
	*fixture
	repositories map[string]*account
}

// account is what clients have put into one repository.
type account struct {
	manifests map[digest.Digest]*imagetest.Manifest // with a revision link
	known     map[digest.Digest]*imagetest.Manifest // ever pushed
	linked    map[digest.Digest]bool                // with a layer link
	tags      map[string]digest.Digest
	history   map[string]map[digest.Digest]bool // tag indexes
}

func newClientRecord(s *fixture) *clientRecord { return &clientRecord{s, map[string]*account{}} }

func (l *clientRecord) account(repository string) *account {
	a := l.repositories[repository]
	if a == nil {
		a = &account{
			manifests: map[digest.Digest]*imagetest.Manifest{}, known: map[digest.Digest]*imagetest.Manifest{},
			linked: map[digest.Digest]bool{}, tags: map[string]digest.Digest{},
			history: map[string]map[digest.Digest]bool{},
		}
		l.repositories[repository] = a
	}
	return a
}

// push pushes a manifest under a tag, or by its digest alone where tag is "".
func (l *clientRecord) push(repository, tag string, m *imagetest.Manifest) {
	l.Helper()
	reference := repository
	if tag != "" {
		reference += ":" + tag
	}
	l.fixture.push(reference, m)
	l.note(repository, tag, m)
}

// note writes down a push.
func (l *clientRecord) note(repository, tag string, m *imagetest.Manifest) {
	a := l.account(repository)
	a.manifests[m.Digest()], a.known[m.Digest()] = m, m
	for _, blob := range m.Blobs {
		if len(blob.URLs) == 0 {
			a.linked[blob.Digest()] = true
		}
	}
	for _, child := range m.Manifests {
		l.note(repository, "", child)
	}
	if tag == "" {
		return
	}
	a.tags[tag] = m.Digest()
	if a.history[tag] == nil {
		a.history[tag] = map[digest.Digest]bool{}
	}
	a.history[tag][m.Digest()] = true
}

// untag deletes a tag.
func (l *clientRecord) untag(repository, tag string) {
	l.Helper()
	l.delete(repository, tag)
	a := l.account(repository)
	delete(a.tags, tag)
	delete(a.history, tag)
}

// deleteManifest deletes a manifest by its digest, and with it the tags that point there.
func (l *clientRecord) deleteManifest(repository string, m *imagetest.Manifest) {
	l.Helper()
	l.delete(repository, m.Digest().String())
	a := l.account(repository)
	delete(a.manifests, m.Digest())
	for tag, target := range a.tags {
		if target == m.Digest() {
			delete(a.tags, tag)
			delete(a.history, tag)
		}
	}
}

func (l *clientRecord) mount(repository, from string, d digest.Digest) {
	l.Helper()
	l.must(l.client.Mount(l.Context(), repository, from, d))
	l.account(repository).linked[d] = true
}

// subject is what a manifest says that it is attached to, or "".
func subject(m *imagetest.Manifest) digest.Digest {
	var attached struct {
		Subject struct {
			Digest digest.Digest `json:"digest"`
		} `json:"subject"`
	}
	if err := json.Unmarshal(m.Content, &attached); err != nil {
		panic(err)
	}
	return attached.Subject.Digest
}

// alive is what a repository keeps: what its tags reach and, unless untagged manifests
// go, what its revisions reach; and what is attached to any of that.
func (a *account) alive(deleteUntagged bool) map[digest.Digest]bool {
	alive := map[digest.Digest]bool{}
	keep := func(m *imagetest.Manifest) {
		for _, d := range m.Digests() {
			alive[d] = true
		}
	}
	for _, target := range a.tags {
		keep(a.known[target])
	}
	if !deleteUntagged {
		for _, m := range a.manifests {
			keep(m)
		}
	}
	for grown := true; grown; {
		before := len(alive)
		for _, m := range a.manifests {
			if to := subject(m); to != "" && alive[to] {
				keep(m)
			}
		}
		grown = len(alive) > before
	}
	return alive
}

// outcome is what a run must come to.
func (l *clientRecord) outcome(deleteUntagged bool) outcome {
	l.Helper()
	var want outcome
	if deleteUntagged {
		want.flags = []string{"-m"}
	}
	stored, anywhere := map[digest.Digest]bool{}, map[digest.Digest]bool{}
	files := map[string]bool{}
	for repository, a := range l.repositories {
		alive := a.alive(deleteUntagged)
		maps.Copy(anywhere, alive)
		image := image{repository: repository, references: slices.Collect(maps.Keys(a.tags))}
		for d, m := range a.known {
			stored[d] = true
			if a.manifests[d] == nil {
				continue
			}
			files[imagetest.RevisionPath(repository, d)] = true
			if alive[d] {
				image.references = append(image.references, d.String())
			} else {
				want.goes = append(want.goes, revisionsGo(repository, m)...)
			}
		}
		want.alive = append(want.alive, image)
		for d := range a.linked {
			stored[d] = true
			files[imagetest.LayerPath(repository, d)] = true
			if !alive[d] {
				want.goes = append(want.goes, layersGo(repository, d)...)
			}
		}
		if len(a.linked) > 0 && len(a.manifests)+len(a.history) == 0 {
			want.problems = append(want.problems, problem("no_manifests", repository, "repositories/"+repository))
		}
		for tag, digests := range a.history {
			files[imagetest.TagPath(repository, tag)] = true
			for d := range digests {
				files[imagetest.TagIndexPath(repository, tag, d)] = true
				if !alive[d] || a.manifests[d] == nil {
					want.goes = append(want.goes, tagEntriesGo(repository, tag, a.known[d])...)
				}
			}
		}
	}
	for d := range stored {
		files[imagetest.BlobPath(d)] = true
		if !anywhere[d] {
			want.goes = append(want.goes, blobsGo(d)...)
		}
	}
	l.same("what clients did, by the record", keys(l.files()), slices.Sorted(maps.Keys(files)))
	return want
}

// TestClients pushes what clients push, deletes what people delete, and collects it with
// and without -m. What remains is what the record says, link by link and blob by blob;
// all of it pulls (1).
func TestClients(t *testing.T) {
	t.Parallel()
	manyAlike(t)
	var stories []story
	for _, client := range []struct {
		name   string
		direct bool
		do     func(l *clientRecord)
	}{
		{name: "images for several platforms", direct: true, do: platforms},
		{name: "build caches", do: buildCaches},
		{name: "signatures", do: signatures},
		{name: "artifacts", do: artifacts},
		{name: "repositories that share", do: sharing},
		{name: "images that are one image in both formats", do: formats},
	} {
		for _, deleteUntagged := range []bool{false, true} {
			name := client.name
			if deleteUntagged {
				name += " with -m"
			}
			stories = append(stories, story{name: name, direct: client.direct && deleteUntagged, tell: func(s *fixture) outcome {
				l := newClientRecord(s)
				client.do(l)
				return l.outcome(deleteUntagged)
			}})
		}
	}
	tellAll(t, stories)
}

// platforms are lists and indexes, also of indexes, that are rebuilt a few times.
func platforms(l *clientRecord) {
	for i, format := range []imagetest.Format{imagetest.Docker, imagetest.OCI} {
		repository := []string{"docker/app", "oci/app"}[i]
		n := 100 * i
		base, amd, arm := formatted(format, n+1), formatted(format, n+1, n+2), formatted(format, n+1, n+3)
		former := formatted(format, n+1, n+4)
		first, second := imagetest.Index(format, amd, former), imagetest.Index(format, amd, arm)
		l.push(repository, "latest", first)
		l.push(repository, "latest", second)
		l.push(repository, "base", base)
		l.push(repository, "one-platform", arm)
		nested := imagetest.Index(format, imagetest.Index(format, formatted(format, n+5)), base)
		l.push(repository, "nested", nested)
		l.push(repository, "nested", imagetest.Index(format, imagetest.Index(format, formatted(format, n+6)), base))
		gone := imagetest.Index(format, formatted(format, n+7), amd)
		l.push(repository, "gone", gone)
		l.deleteManifest(repository, gone)
	}
}

// buildCaches are what BuildKit exports with image-manifest=false: indexes whose entries
// are plain blobs.
func buildCaches(l *clientRecord) {
	l.push("app", "v1", app(1, 2))
	l.push("app", "buildcache", imagetest.BuildKitCache(layer(1), layer(3)))
	l.push("app", "buildcache", imagetest.BuildKitCache(layer(1), layer(4)))
	l.push("cache", "main", imagetest.BuildKitCache(layer(1), layer(5)))
	l.push("cache", "", imagetest.BuildKitCache(layer(6)))
	gone := imagetest.BuildKitCache(layer(7))
	l.push("cache", "branch", gone)
	l.deleteManifest("cache", gone)
}

// signatures are attached in each way that is in use: by a tag that spells the digest,
// by a subject, and by a subject with the tag that stands in for a referrers API.
func signatures(l *clientRecord) {
	current, old, untagged := app(1), app(2), app(3)
	l.push("app", "v1", old)
	l.push("app", "v1", current)
	l.push("app", "", untagged)

	attach := func(to *imagetest.Manifest, what string) *imagetest.Manifest {
		return imagetest.Referrer(to, "application/vnd.example."+what, []byte(what+" of "+to.Digest().String()))
	}
	for _, m := range []*imagetest.Manifest{current, old, untagged} {
		signature := attach(m, "signature")
		l.push("app", "", signature)
		l.push("app", "", attach(signature, "timestamp"))
		l.push("app", "", attach(m, "sbom"))
	}

	// cosign's first way: an image under a tag. Such a tag is a tag, and stays as long
	// as nobody deletes it.
	byTag := func(m *imagetest.Manifest) string { return "sha256-" + m.Digest().Encoded() + ".sig" }
	payload := func(m *imagetest.Manifest) *imagetest.Manifest {
		return imagetest.Image(imagetest.OCI, imagetest.Blob{
			MediaType: "application/vnd.dev.cosign.simplesigning.v1+json",
			Content:   fmt.Appendf(nil, `{"critical":{"image":{"docker-manifest-digest":%q}}}`, m.Digest()),
		})
	}
	l.push("app", byTag(current), payload(current))
	l.push("app", byTag(old), payload(old))
	l.untag("app", byTag(old))

	// A client that finds no referrers API keeps an index of them under a tag.
	l.client.ReferrersTag = true
	defer func() { l.client.ReferrersTag = false }()
	for _, what := range []string{"signature", "sbom"} {
		m := app(11)
		l.push("fallback", "v1", m)
		referrer := attach(m, what)
		l.push("fallback", "", referrer)
		l.noteFallback("fallback", m)
	}
}

// noteFallback writes down the index that a client keeps of what is attached to m.
func (l *clientRecord) noteFallback(repository string, m *imagetest.Manifest) {
	l.Helper()
	tag := "sha256-" + m.Digest().Encoded()
	content, err := l.ask(repository + "/manifests/" + tag)
	l.must(err)
	index := &imagetest.Manifest{MediaType: ocispec.MediaTypeImageIndex, Content: content}
	var entries ocispec.Index
	l.must(json.Unmarshal(content, &entries))
	if len(entries.Manifests) == 0 {
		l.Fatalf("the index of what is attached is empty: %s", content)
	}
	for _, entry := range entries.Manifests {
		index.Manifests = append(index.Manifests, l.account(repository).known[entry.Digest])
	}
	l.name(repository+":"+tag, index)
	l.note(repository, tag, index)
}

// artifacts are what is no image: charts, models and policies, with the empty config
// that all of them share.
func artifacts(l *clientRecord) {
	artifact := func(kind string, files ...string) *imagetest.Manifest {
		m := &imagetest.Manifest{MediaType: ocispec.MediaTypeImageManifest, ArtifactType: "application/vnd.example." + kind}
		var layers []ocispec.Descriptor
		for _, file := range files {
			blob := imagetest.Blob{MediaType: "application/vnd.example." + kind + ".layer", Content: []byte(file)}
			m.Blobs = append(m.Blobs, blob)
			layers = append(layers, blob.Descriptor())
		}
		empty := imagetest.Blob{MediaType: ocispec.MediaTypeEmptyJSON, Content: []byte("{}")}
		if len(files) == 0 {
			layers = []ocispec.Descriptor{empty.Descriptor()}
		}
		m.Blobs = append(m.Blobs, empty)
		content, err := json.Marshal(ocispec.Manifest{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: m.MediaType, ArtifactType: m.ArtifactType,
			Config: empty.Descriptor(), Layers: layers, Annotations: map[string]string{"org.opencontainers.image.title": kind},
		})
		l.must(err)
		m.Content = content
		return m
	}
	l.push("charts", "1.0", artifact("chart", "a chart"))
	l.push("charts", "1.1", artifact("chart", "a chart", "and its provenance"))
	l.push("charts", "1.1", artifact("chart", "another chart"))
	l.push("charts", "marker", artifact("marker"))
	l.push("only/markers", "", artifact("marker"))
	gone := artifact("model", "weights")
	l.push("models", "v1", gone)
	l.deleteManifest("models", gone)
	l.push("models", "v2", artifact("model", "better weights"))
}

// sharing is layers that were mounted, images that two repositories have for reasons of
// their own, and layers that lie elsewhere.
func sharing(l *clientRecord) {
	base, derived := app(1, 2), app(1, 2, 3)
	l.push("base", "v1", base)
	l.mount("team/app", "base", layer(1).Digest())
	l.mount("team/app", "base", layer(2).Digest())
	l.push("team/app", "v1", derived)
	l.push("copies", "v1", derived)
	l.push("copies", "other", app(4))
	l.untag("copies", "v1")
	l.deleteManifest("base", base)

	// Mounted for a push that never came.
	l.mount("abandoned", "team/app", layer(3).Digest())

	foreign := layer(5)
	foreign.MediaType = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
	foreign.URLs = []string{"https://example.com/layer"}
	for _, n := range []int{6, 7} { // by hand: a registry takes such layers once it is told to
		m := imagetest.Image(imagetest.Docker, foreign, layer(n))
		l.plant("windows", "v1", m)
		l.note("windows", "v1", m)
	}
}

// formats are images of which everything but the manifest is the same blob.
func formats(l *clientRecord) {
	l.push("app", "oci", formatted(imagetest.OCI, 1, 2))
	l.push("app", "docker", formatted(imagetest.Docker, 1, 2))
	l.untag("app", "oci")
	l.push("app", "again", formatted(imagetest.OCI, 1, 3))
	l.push("app", "docker2", formatted(imagetest.Docker, 1, 3))
	l.deleteManifest("app", formatted(imagetest.OCI, 1, 3))
	l.push("app", "again", formatted(imagetest.OCI, 1, 3))
}

// TestOtherClients has programs of other makes copy an image within the registry, each
// where it is installed.
func TestOtherClients(t *testing.T) {
	t.Parallel()
	for _, tool := range []struct {
		name string
		copy func(host, from, to string) []string
	}{
		{"skopeo", func(host, from, to string) []string {
			return []string{"--insecure-policy", "copy", "--all", "--preserve-digests", "--src-tls-verify=false", "--dest-tls-verify=false",
				"docker://" + host + "/" + from, "docker://" + host + "/" + to}
		}},
		{"crane", func(host, from, to string) []string {
			return []string{"copy", "--insecure", host + "/" + from, host + "/" + to}
		}},
	} {
		path, err := exec.LookPath(tool.name)
		if err != nil {
			t.Run(tool.name, func(t *testing.T) { t.Skipf("%s is not installed: %v", tool.name, err) })
			continue
		}
		tellAll(t, []story{{
			name: tool.name, direct: true,
			tell: func(s *fixture) outcome {
				l := newClientRecord(s)
				index := imagetest.Index(imagetest.OCI, app(1, 2), app(1, 3))
				single := formatted(imagetest.Docker, 1, 4)
				l.push("from", "index", index)
				l.push("from", "single", single)
				l.push("to", "single", app(5))
				for tag, m := range map[string]*imagetest.Manifest{"index": index, "single": single} {
					command := exec.CommandContext(s.Context(), path, tool.copy(s.registry.Host(), "from:"+tag, "to:"+tag)...)
					command.Env = append(command.Environ(), "HOME="+s.TempDir(), "TMPDIR="+s.TempDir(),
						"REGISTRY_AUTH_FILE="+filepath.Join(s.TempDir(), "none"))
					if output, err := command.CombinedOutput(); err != nil {
						s.Fatalf("%s: %v\n%s", tool.name, err, output)
					}
					l.note("to", tag, m)
				}
				l.deleteManifest("from", single)
				l.untag("from", "index")
				return l.outcome(true)
			},
		}})
	}
}

// conformance is a registry that the conformance tests of the OCI distribution-spec run on.
// Distribution v3.1.2 does not pass all of them.
type conformance struct {
	*fixture
	program string
}

// results are the tests and how each ended.
func (c *conformance) results(env ...string) []string {
	c.Helper()
	dir := c.TempDir()
	command := exec.Command(c.program)
	command.Dir = dir
	command.Env = append(command.Environ(), append([]string{"OCI_RESULTS_DIR=" + dir, "OCI_TLS=disabled",
		"OCI_REGISTRY=" + strings.TrimPrefix(c.registry.URL(), "http://"), "OCI_REPO1=first/one", "OCI_REPO2=second/two",
		// What it pushes stays.
		"OCI_API_BLOBS_DELETE=false", "OCI_API_MANIFESTS_DELETE=false", "OCI_API_TAGS_DELETE=false"}, env...)...)
	output, err := command.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		c.Fatal(err)
	}
	var found []string
	for line := range strings.Lines(string(output)) {
		// The report in XML is not written if nothing was pushed: the program fails before.
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "OCI Conformance Test") {
			found = append(found, line)
		}
	}
	slices.Sort(found)
	return found
}

// TestConformanceIsTheSameAfterACollection: the conformance tests push images, indexes and
// artifacts. A collection changes neither what they find when they pull these, nor what they
// find when they push again (1).
func TestConformanceIsTheSameAfterACollection(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("the conformance tests take half a minute")
	}
	program, err := registrytest.ConformanceBinary(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c := &conformance{newFixture(t), program}
	pushed := c.results()
	passes := func(results []string) int {
		return len(slices.DeleteFunc(slices.Clone(results), func(r string) bool { return !strings.HasSuffix(r, ": Pass") }))
	}
	if n := passes(pushed); n < 100 {
		t.Fatalf("only %d of %d tests pass", n, len(pushed))
	}
	pulls := []string{"OCI_API_PUSH=false",
		"OCI_RO_DATA_TAGS=" + c.names("repositories/first/one/_manifests/tags/*", ""),
		"OCI_RO_DATA_MANIFESTS=" + c.names("repositories/first/one/_manifests/revisions/sha256/*", "sha256:")}
	pulled := c.results(pulls...)
	if n := passes(pulled); n < 10 {
		t.Fatalf("only %d of %d tests pass", n, len(pulled))
	}
	// The tests that pull read no blob, and those that push push it again.
	before := map[string]string{}
	for path := range c.files() {
		content, err := os.ReadFile(c.tree.Path(path))
		c.must(err)
		before[path] = string(content)
	}
	needed := neededByTags(before)
	if len(needed) < 50 {
		t.Fatalf("the oracle finds only %d files", len(needed))
	}
	for _, flags := range [][]string{{}, {"-m"}} {
		run := c.gcOn(c.tree.Root(), append([]string{"--registry-stopped"}, flags...)...)
		if run.code != 0 || run.report.Removed.Blobs.Count == 0 {
			t.Errorf("gc %v ends with %d and removes %+v: %s", flags, run.code, run.report.Removed, run.stderr)
		}
		for _, path := range needed {
			if !c.tree.Exists(path) {
				t.Errorf("after gc %v %s is gone", flags, path)
			}
		}
		if len(flags) == 0 {
			c.same("pulls after a collection", c.results(pulls...), pulled)
		}
	}
	c.same("tests after a collection of untagged manifests", c.results(), pushed)
}

// names are the last parts of paths.
func (c *conformance) names(pattern, prefix string) string {
	c.Helper()
	found, err := filepath.Glob(c.tree.Path(pattern))
	c.must(err)
	if len(found) == 0 {
		c.Fatalf("nothing is %s", pattern)
	}
	for i, path := range found {
		found[i] = prefix + filepath.Base(path)
	}
	return strings.Join(found, " ")
}
