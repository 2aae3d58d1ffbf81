package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"regsweep/internal/imagetest"
	"regsweep/internal/registrytest"
	"regsweep/verify"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// repairRounds is the damage of each round of the tests below.
var repairRounds = []int{1, 1, 2, 5}

func repairSeeds() uint64 {
	if testing.Short() {
		return 1
	}
	return uint64(max(3, *verifySeeds))
}

// TestVerifyRepairsWhatHasItsBytes: after links were repaired, and blobs were fetched from a registry or a
// directory, each tag pulls whose bytes are anywhere. Content that was intact is not touched. A dry run changes
// nothing, and names what is repaired.
func TestVerifyRepairsWhatHasItsBytes(t *testing.T) {
	t.Parallel()
	for seed := range repairSeeds() {
		if *verifySeed > 0 {
			seed = *verifySeed - 1
		}
		t.Run(fmt.Sprint(seed+1), func(t *testing.T) {
			t.Parallel()
			r := newRandomRegistry(t, 1000+seed)
			mirror := imagetest.NewTree(t, t.TempDir())
			r.must(os.CopyFS(mirror.Root(), os.DirFS(r.tree.Root())))
			whole := r.save()
			for round, n := range repairRounds {
				r.restore(whole)
				source := mirror.Root()
				if round%2 == 1 {
					source = registrytest.StartT(t, registrytest.Config{Root: source, ReadOnly: true}).URL()
				}
				what := fmt.Sprintf("round %d: %s", round, r.damage(n))
				r.repair(what, source, mirror)
			}
		})
	}
}

// repair repairs and refills from source, whose content is that of mirror.
func (r *randomRegistry) repair(what, source string, mirror *imagetest.Tree) {
	r.Helper()
	tags, err := tagsOf(r.tree)
	r.must(err)
	damaged := r.save()
	failing, _, _ := r.failing(tags)
	args := []string{"--read-data", "--repair=links", "--refill", source, "--registry-stopped", "--yes", r.tree.Root()}
	planned := r.verify(append(args, "--dry-run")...)
	if d := r.touched(damaged, func(string, savedFile) bool { return true }); d != "" {
		r.Errorf("%s: a dry run has changed:%s", what, r.readable(d))
	}
	if !slices.Equal(planned.broken(), failing) {
		r.Errorf("%s: a dry run finds %q, and %q fail", what, planned.broken(), failing)
	}
	var expected []string
	for _, tag := range tags {
		if r.canBeWhole(tag, strings.Contains(source, "://"), mirror) {
			expected = append(expected, tag)
		}
	}

	report := r.verify(args...)
	after, _, reasons := r.failing(tags)
	for _, tag := range tags {
		switch fails := reasons[tag]; {
		case fails != nil && slices.Contains(expected, tag):
			r.Errorf("%s: all bytes of %s are there, and it fails: %v%s", what, r.readable(tag), fails, r.readable(report.lines()))
		case fails != nil && !slices.Contains(failing, tag):
			r.Errorf("%s: %s was whole, and fails: %v%s", what, r.readable(tag), fails, r.readable(report.lines()))
		}
	}
	if !slices.Equal(report.broken(), after) {
		r.Errorf("%s: it reports that %q are broken, and %q fail", what, report.broken(), after)
	}
	if d := r.touched(damaged, isIntact); d != "" {
		r.Errorf("%s: intact content was changed:%s", what, r.readable(d))
	}
	r.onlyRight(what, damaged)
	refilled := map[digest.Digest]bool{}
	for _, b := range planned.Repairs.Refilled {
		refilled[b.Digest] = true
	}
	fetchedManifest := false
	for _, b := range report.Repairs.Refilled {
		var m struct{ Config, Layers, Manifests any }
		content, err := os.ReadFile(mirror.Path(imagetest.BlobPath(b.Digest)))
		fetchedManifest = fetchedManifest || err == nil && json.Unmarshal(content, &m) == nil && (m.Layers != nil || m.Manifests != nil)
	}
	if !fetchedManifest { // otherwise more is found to be missing
		for _, b := range report.Repairs.Refilled {
			if !refilled[b.Digest] {
				r.Errorf("%s: it fetches %s, and the dry run did not say so", what, b.Digest)
			}
		}
		if len(report.Repairs.Links) > len(planned.Repairs.Links) {
			r.Errorf("%s: it writes %d links, and the dry run named %d", what, len(report.Repairs.Links), len(planned.Repairs.Links))
		}
	}
	if again := r.verify(args...); len(again.Repairs.Links)+len(again.Repairs.Refilled) > 0 {
		for _, b := range again.Repairs.Refilled {
			if b.Error == "" {
				r.Errorf("%s: a second run fetches %s", what, b.Digest)
			}
		}
		for _, l := range again.Repairs.Links {
			if l.Error == "" {
				r.Errorf("%s: a second run writes %s", what, r.readable(l.Path))
			}
		}
	}
}

// touched lists what differs from what was saved, of the files that count: its content, its time, or that it is
// another file.
func (r *randomRegistry) touched(before saved, counts func(path string, of savedFile) bool) (lines string) {
	r.Helper()
	for path, was := range before {
		relative := strings.TrimPrefix(path, r.tree.Path("")+"/")
		if was.info.IsDir() || !counts(relative, was) {
			continue
		}
		info, err := os.Lstat(path)
		if err != nil {
			lines += "\n  gone " + relative
			continue
		}
		content, err := os.ReadFile(path)
		if err != nil || !os.SameFile(info, was.info) || !info.ModTime().Equal(was.info.ModTime()) || !bytes.Equal(content, was.content) {
			lines += "\n  changed " + relative
		}
	}
	return lines
}

// isIntact reports whether a repair must not touch a file: all but wrong blobs, and wrong layer and revision links.
func isIntact(path string, of savedFile) bool {
	d := digestOf(path)
	switch {
	case strings.HasPrefix(path, ".regsweep/"):
		return false
	case d == "" || strings.Contains(path, "/tags/"):
		return true
	case strings.HasPrefix(path, "blobs/"):
		return d.Algorithm().FromBytes(of.content) == d
	}
	return string(of.content) == d.String()
}

// digestOf is the digest in the path of a blob or a link, and "" for other files.
func digestOf(path string) digest.Digest {
	parts := strings.Split(path, "/")
	n := len(parts)
	if n < 4 || parts[n-1] != "data" && parts[n-1] != "link" {
		return ""
	}
	algorithm := parts[n-3]
	if parts[n-1] == "data" {
		algorithm = parts[n-4]
	}
	d := digest.Digest(algorithm + ":" + parts[n-2])
	if d.Validate() != nil {
		return ""
	}
	return d
}

// onlyRight checks that whatever was written is right.
func (r *randomRegistry) onlyRight(what string, before saved) {
	r.Helper()
	for path, is := range r.save() {
		was, isKnown := before[path]
		relative := strings.TrimPrefix(path, r.tree.Path("")+"/")
		if is.info.IsDir() || strings.HasPrefix(relative, ".regsweep") || isKnown && bytes.Equal(was.content, is.content) && !was.info.IsDir() {
			continue
		}
		if !isIntact(relative, is) || digestOf(relative) == "" || strings.Contains(relative, "/tags/") {
			r.Errorf("%s: it wrote %s: %.100q", what, r.readable(relative), is.content)
		}
	}
	entries, err := os.ReadDir(r.tree.Path(".regsweep"))
	if err == nil {
		for _, entry := range entries {
			if entry.Name() != "quarantine" {
				r.Errorf("%s: it leaves .regsweep/%s", what, entry.Name())
			}
		}
	}
}

// canBeWhole reports whether a tag leads to a manifest, and all that it needs is stored or in the mirror. A
// registry as the source has only what the same repository links there.
func (r *randomRegistry) canBeWhole(tag string, isRegistry bool, mirror *imagetest.Tree) bool {
	r.Helper()
	repository, name, _ := strings.Cut(tag, ":")
	target, err := os.ReadFile(r.tree.Path(imagetest.TagPath(repository, name)))
	if err != nil || strings.Contains(tag, "Foo") || strings.Trim(name[:1], "-.") == "" || strings.ContainsAny(name, "~+") {
		return false
	}
	content := func(d digest.Digest) []byte {
		stored := d
		if d.Algorithm() != digest.SHA256 {
			link, err := os.ReadFile(r.tree.Path(imagetest.LayerPath(repository, d))) // nothing else says which blob it is
			if stored = digest.Digest(link); err != nil || stored.Validate() != nil {
				return nil
			}
		}
		for _, tree := range []*imagetest.Tree{r.tree, mirror} {
			if tree == mirror && isRegistry && !mirror.Exists(imagetest.LayerPath(repository, stored)) && !mirror.Exists(imagetest.RevisionPath(repository, stored)) {
				continue
			}
			if found, err := os.ReadFile(tree.Path(imagetest.BlobPath(stored))); err == nil && d.Algorithm().FromBytes(found) == d {
				return found
			}
		}
		return nil
	}
	var isWhole func(of ocispec.Descriptor, isManifest bool) bool
	isWhole = func(of ocispec.Descriptor, isManifest bool) bool {
		if of.Digest.Validate() != nil {
			return false
		}
		found := content(of.Digest)
		if found == nil || of.Size >= 0 && of.Size != int64(len(found)) {
			return false
		}
		if !isManifest {
			return true
		}
		var m struct {
			SchemaVersion int
			MediaType     string
			Config        *ocispec.Descriptor
			Layers        []ocispec.Descriptor
			Manifests     []ocispec.Descriptor
		}
		if json.Unmarshal(found, &m) != nil || m.SchemaVersion != 2 || strings.Contains(m.MediaType, "example") {
			return false
		}
		if m.Config != nil {
			m.Layers = append(m.Layers, *m.Config)
		}
		return !slices.ContainsFunc(m.Manifests, func(of ocispec.Descriptor) bool {
			return !isWhole(of, strings.Contains(of.MediaType, "manifest") || strings.Contains(of.MediaType, "index"))
		}) && !slices.ContainsFunc(m.Layers, func(of ocispec.Descriptor) bool { return len(of.URLs) == 0 && !isWhole(of, false) })
	}
	return isWhole(ocispec.Descriptor{Digest: digest.Digest(target), Size: -1}, true)
}

// TestVerifyMakesRoomForPushes: after `--repair=blobs` the next push stores the blobs again whose content was
// damaged, and all tags pull.
func TestVerifyMakesRoomForPushes(t *testing.T) {
	t.Parallel()
	for seed := range repairSeeds() {
		t.Run(fmt.Sprint(seed+1), func(t *testing.T) {
			t.Parallel()
			r := newRandomRegistry(t, 2000+seed)
			var damaged []string
			for range 1 + r.IntN(5) {
				path := r.pick(func(path string, isDir bool) bool { return !isDir && strings.HasPrefix(path, "blobs/") })
				content := r.read(path)
				r.tree.Write(path, []string{"", content + "\n", strings.Repeat("\x00", len(content)) + "\x00", digest.FromString("x").String()}[r.IntN(4)])
				damaged = append(damaged, path)
			}
			before := r.save()
			args := []string{"--read-data", "--repair=blobs", "--registry-stopped", "--yes", r.tree.Root()}
			planned := r.verify(append(args, "--dry-run")...)
			if d := r.touched(before, func(string, savedFile) bool { return true }); d != "" {
				t.Errorf("a dry run has changed:%s", r.readable(d))
			}
			report := r.verify(args...)
			if fmt.Sprint(planned.Repairs.Blobs) != fmt.Sprint(report.Repairs.Blobs) {
				t.Errorf("it moves %v, and the dry run named %v", report.Repairs.Blobs, planned.Repairs.Blobs)
			}
			for _, path := range damaged {
				if r.tree.Exists(path) {
					t.Errorf("%s is still there%s", r.readable(path), r.readable(report.lines()))
				}
			}
			if d := r.touched(before, isIntact); d != "" {
				t.Errorf("intact content was changed:%s", r.readable(d))
			}
			for tag, m := range r.tags {
				if isForeign(m) {
					continue // this registry takes none
				}
				if err := r.client.Push(t.Context(), tag, m); err != nil {
					t.Errorf("push %s: %v", r.readable(tag), err)
				}
			}
			for _, tag := range slices.Sorted(maps.Keys(r.tags)) {
				if failed, _, reasons := r.failing([]string{tag}); len(failed) > 0 && !isForeign(r.tags[tag]) {
					t.Errorf("after the push: %v", reasons)
				}
			}
		})
	}
}

// isForeign reports whether a manifest names a foreign layer.
func isForeign(m *imagetest.Manifest) bool {
	return slices.ContainsFunc(m.Manifests, isForeign) || slices.ContainsFunc(m.Blobs, func(b imagetest.Blob) bool { return len(b.URLs) > 0 })
}

// TestVerifyUntagsWhatIsLost: `--repair=untag-broken` removes the tags of which no image can be pulled, and no
// others.
func TestVerifyUntagsWhatIsLost(t *testing.T) {
	t.Parallel()
	for seed := range repairSeeds() {
		t.Run(fmt.Sprint(seed+1), func(t *testing.T) {
			t.Parallel()
			r := newRandomRegistry(t, 3000+seed)
			whole := r.save()
			for _, n := range repairRounds {
				r.restore(whole)
				r.untag(r.damage(n))
			}
		})
	}
}

func (r *randomRegistry) untag(what string) {
	r.Helper()
	tags, err := tagsOf(r.tree)
	r.must(err)
	before := r.save()
	failing, _, _ := r.failing(tags)
	some := map[string]bool{} // tags of which some image can be pulled
	for _, tag := range failing {
		some[tag] = r.pullsAnImage(tag)
	}
	args := []string{"--read-data", "--repair=untag-broken", "--registry-stopped", "--yes", r.tree.Root()}
	planned := r.verify(append(args, "--dry-run")...)
	if d := r.touched(before, func(string, savedFile) bool { return true }); d != "" {
		r.Errorf("%s: a dry run has changed:%s", what, r.readable(d))
	}
	report := r.verify(args...)
	if fmt.Sprint(planned.Repairs.Tags) != fmt.Sprint(report.Repairs.Tags) {
		r.Errorf("%s: it removes %v, and the dry run named %v", what, report.Repairs.Tags, planned.Repairs.Tags)
	}
	after, err := tagsOf(r.tree)
	r.must(err)
	for _, tag := range minus(tags, after) {
		if !slices.Contains(failing, tag) {
			r.Errorf("%s: it removes %s, which can be pulled", what, r.readable(tag))
		} else if some[tag] {
			r.Errorf("%s: it removes %s, of which an image can be pulled", what, r.readable(tag))
		}
	}
	for _, tag := range failing {
		// A link may cure it, somebody may have renamed it, and of a sparse index all may be there that was pushed.
		mayStay := slices.ContainsFunc(report.Findings, func(f verifyFinding) bool {
			switch f.Kind {
			case verify.SparseIndex, verify.BadTagName, verify.BadRepositoryName, verify.UnknownManifestType,
				verify.MissingLayerLink, verify.DamagedLayerLink, verify.MissingRevisionLink, verify.DamagedRevisionLink:
				return f.Repository+":" == tag[:len(tag)-len(name(tag))] && slices.Contains(f.Tags, name(tag))
			}
			return false
		})
		if slices.Contains(after, tag) && !some[tag] && !mayStay {
			r.Errorf("%s: %s can't be pulled, and is still there%s", what, r.readable(tag), r.readable(report.lines()))
		}
	}
	if d := r.touched(before, func(path string, _ savedFile) bool { return !strings.Contains(path, "/tags/") }); d != "" {
		r.Errorf("%s: it changes more than tags:%s", what, r.readable(d))
	}
	for tag, reason := range func() map[string]error { _, _, reasons := r.failing(after); return reasons }() {
		if !slices.Contains(failing, tag) {
			r.Errorf("%s: %s was whole, and fails: %v", what, r.readable(tag), reason)
		}
	}
}

// name is the name of a tag.
func name(tag string) string {
	_, name, _ := strings.Cut(tag, ":")
	return name
}

// pullsAnImage reports whether an image can be pulled by a tag: the one that it names, or one of an index.
func (r *randomRegistry) pullsAnImage(tag string) bool {
	r.Helper()
	repository, name, _ := strings.Cut(tag, ":")
	client := &strictClient{host: r.registry.Host(), fetched: map[string]fetched{}}
	var pulls func(of ocispec.Descriptor) bool
	pulls = func(of ocispec.Descriptor) bool {
		content, _, err := client.get(r.Context(), repository, "manifests/"+of.Digest.String())
		var m ocispec.Index
		if err != nil || matches(of, content) != nil || json.Unmarshal(content, &m) != nil {
			return false
		}
		if len(m.Manifests) > 0 {
			return slices.ContainsFunc(m.Manifests, func(of ocispec.Descriptor) bool {
				return (strings.Contains(of.MediaType, "manifest") || strings.Contains(of.MediaType, "index")) && pulls(of)
			})
		}
		return m.ArtifactType == "" && client.manifest(r.Context(), repository, of) == nil
	}
	content, header, err := client.get(r.Context(), repository, "manifests/"+name)
	return err == nil && pulls(ocispec.Descriptor{Digest: digest.Digest(header.Get("Docker-Content-Digest")), Size: int64(len(content))})
}

// TestARefusedRepairReportsNoRepair: an image was pushed a moment ago, so somebody may push.
func TestARefusedRepairReportsNoRepair(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	args := []string{"verify", "--repair=links", s.config(s.registry.ConfigYAML())}
	s.plant("app", "v1", app(1, 2))
	s.tree.Remove(imagetest.LayerPath("app", layer(1).Digest()))
	s.must(s.registry.SetReadOnly(true))
	before := s.shape()
	code, stdout, stderr := regsweep(s, append(args, "--json")...)
	if report := decode[verifyReport](s, stdout); code != 3 || len(report.Repairs.Links) > 0 || len(report.Findings) != 1 {
		t.Errorf("ends with %d: %s%s", code, stdout, stderr)
	}
	if code, stdout, _ := regsweep(s, args...); code != 3 || strings.Contains(stdout, "written") {
		t.Errorf("ends with %d: %s", code, stdout)
	}
	if d := difference(s.shape(), before); d != "" {
		t.Errorf("it has changed:%s", d)
	}
}
