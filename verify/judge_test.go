package verify

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"regsweep/internal/imagetest"
	"regsweep/inventory"
	"regsweep/mark"
	"regsweep/storage"
	"regsweep/storage/layout"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// judged is a registry on a filesystem: "app" has the image v1, the index multi of two platforms, and an untagged
// image. "team/other" has v1, too.
type judged struct {
	*testing.T
	tree               *imagetest.Tree
	store              storage.Store
	v1, amd, arm       *imagetest.Manifest
	multi, untagged    *imagetest.Manifest
	began              time.Time
	inv                *inventory.Inventory
	graph              *mark.Graph
	layer, armLayer    digest.Digest
	layerLink, revLink string // of v1
}

func newJudged(t *testing.T) *judged {
	t.Helper()
	root := t.TempDir()
	j := &judged{
		T: t, tree: imagetest.NewTree(t, root), store: directory(t, root),
		v1:       imagetest.Image(imagetest.OCI, imagetest.Layer(1, 10)),
		amd:      imagetest.Image(imagetest.OCI, imagetest.Layer(2, 10)),
		arm:      imagetest.Image(imagetest.OCI, imagetest.Layer(3, 10)),
		untagged: imagetest.Image(imagetest.Docker, imagetest.Layer(4, 10)),
	}
	j.amd.Platform = &ocispec.Platform{OS: "linux", Architecture: "amd64"}
	j.arm.Platform = &ocispec.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}
	j.multi = imagetest.Index(imagetest.OCI, j.amd, j.arm)
	j.add("app", "v1", j.v1)
	j.add("app", "multi", j.multi)
	j.add("app", "", j.untagged)
	j.add("team/other", "v1", j.v1)
	j.layer, j.armLayer = layerOf(j.v1), layerOf(j.arm)
	j.layerLink, j.revLink = layout.LayerPath("app", j.layer), layout.RevisionPath("app", j.v1.Digest())
	return j
}

// layerOf is the only layer of an image.
func layerOf(m *imagetest.Manifest) digest.Digest {
	at := slices.IndexFunc(m.Blobs, func(b imagetest.Blob) bool {
		return strings.Contains(b.MediaType, "layer") || strings.Contains(b.MediaType, "rootfs")
	})
	return m.Blobs[at].Digest()
}

func (j *judged) add(repository, tag string, m *imagetest.Manifest) {
	j.Helper()
	d := j.tree.Manifest(repository, m)
	if tag != "" {
		j.tree.Tag(repository, tag, d)
	}
}

// judge does all steps of a check up to Judge.
func (j *judged) judge() *Result {
	j.Helper()
	must := func(err error) {
		j.Helper()
		if err != nil {
			j.Fatal(err)
		}
	}
	j.began = time.Now()
	j.inv = inventoryOf(j.T, j.store)
	var err error
	j.graph, err = mark.Read(j.Context(), j.inv, j.store, mark.ReadOptions{})
	must(err)
	links, err := ReadLinks(j.Context(), j.inv, j.graph, j.store, 4, nil)
	must(err)
	faults := map[inventory.ID]Fault{}
	must(CheckFiles(j.Context(), j.inv, j.graph, j.store, nil, faults, 4))
	_, err = ReadData(j.Context(), j.inv, j.store, faults, DataOptions{Concurrency: 4, Now: time.Now})
	must(err)
	result, err := Judge(j.Context(), Facts{Inventory: j.inv, Graph: j.graph, Links: links, Blobs: faults})
	must(err)
	return result
}

func (j *judged) confirm(r *Result) {
	j.Helper()
	if err := r.Confirm(j.Context(), j.inv, j.store, j.began, 4); err != nil {
		j.Fatal(err)
	}
}

// lines are findings as "kind path: tags", and the broken tags.
func lines(r *Result) (all []string) {
	for _, f := range r.Findings {
		all = append(all, fmt.Sprintf("%s %s: %s", f.Kind, f.Path, strings.Join(f.Tags, " ")))
	}
	for _, b := range r.Broken {
		if b.Partial {
			b.Tag += " (partial)"
		}
		all = append(all, "broken "+b.Repository+":"+b.Tag)
	}
	slices.Sort(all)
	return all
}

func (j *judged) want(what string, r *Result, want ...string) {
	j.Helper()
	slices.Sort(want)
	if got := lines(r); !slices.Equal(got, want) {
		j.Errorf("%s: found\n  %s\nwant\n  %s", what, strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// Each kind of damage makes the finding with its kind, for the tags whose pull then fails. A second look keeps it.
func TestEachDamageHasItsFinding(t *testing.T) {
	t.Parallel()
	type row struct {
		name   string
		damage func(j *judged)
		want   func(j *judged) []string
	}
	broken := func(tags ...string) (lines []string) {
		for _, tag := range tags {
			lines = append(lines, "broken "+tag)
		}
		return lines
	}
	of := func(kind Kind, path, tags string, more ...string) []string {
		return append([]string{fmt.Sprintf("%s %s: %s", kind, path, tags)}, more...)
	}
	unlike := func(j *judged, old, now string) *imagetest.Manifest {
		m := *j.v1
		m.Content = bytes.Replace(m.Content, []byte(old), []byte(now), 1)
		if bytes.Equal(m.Content, j.v1.Content) {
			j.Fatalf("nothing to replace: %s", m.Content)
		}
		return &m
	}
	refused := func(name, old, now string) row {
		return row{name, func(j *judged) { j.add("app", "odd", unlike(j, old, now)) }, func(j *judged) []string {
			return of(UnknownManifestType, layout.BlobPath(unlike(j, old, now).Digest()), "odd", broken("app:odd")...)
		}}
	}
	const v1, multi = "broken app:v1", "broken app:multi (partial)"
	for _, c := range []row{
		{"nothing", func(*judged) {}, func(*judged) []string { return nil }},
		{"tag: no current link", func(j *judged) { j.tree.Remove(layout.TagPath("app", "v1")) }, func(*judged) []string {
			return of(TagWithoutCurrent, layout.TagPath("app", "v1"), "v1", v1)
		}},
		{"tag: only directories", func(j *judged) { j.tree.Mkdir("repositories/app/_manifests/tags/empty/current") }, func(*judged) []string {
			return of(TagWithoutCurrent, layout.TagPath("app", "empty"), "empty", "broken app:empty")
		}},
		{"tag: a newline", func(j *judged) { j.tree.Write(layout.TagPath("app", "v1"), j.v1.Digest().String()+"\n") }, func(*judged) []string {
			return of(DamagedTagLink, layout.TagPath("app", "v1"), "v1", v1)
		}},
		{"tag: a bad name", func(j *judged) { j.add("app", "-bad", j.v1) }, func(*judged) []string {
			return of(BadTagName, layout.TagPath("app", "-bad"), "-bad", "broken app:-bad")
		}},
		{"repository: a bad name", func(j *judged) { j.add("Foo", "v1", j.v1); j.add("Foo", "v2", j.v1) }, func(*judged) []string {
			return of(BadRepositoryName, "repositories/Foo", "v1 v2", "broken Foo:v1", "broken Foo:v2")
		}},
		{"revision: no link", func(j *judged) { j.tree.Remove(j.revLink) }, func(j *judged) []string {
			return of(MissingRevisionLink, j.revLink, "v1", v1)
		}},
		{"revision: empty", func(j *judged) { j.tree.Write(j.revLink, "") }, func(j *judged) []string {
			return of(DamagedRevisionLink, j.revLink, "v1", v1)
		}},
		{"manifest: no blob", func(j *judged) { j.tree.Remove(layout.BlobPath(j.arm.Digest())) }, func(j *judged) []string {
			return of(MissingManifest, layout.BlobPath(j.arm.Digest()), "multi", multi)
		}},
		{"manifest: a bit", func(j *judged) {
			content := slices.Clone(j.multi.Content)
			content[20] ^= 1
			j.tree.Write(layout.BlobPath(j.multi.Digest()), string(content))
		}, func(j *judged) []string {
			return of(DamagedManifest, layout.BlobPath(j.multi.Digest()), "multi", "broken app:multi")
		}},
		{"manifest: no JSON", func(j *judged) { j.add("app", "odd", &imagetest.Manifest{Content: []byte("no JSON")}) }, func(*judged) []string {
			return of(DamagedManifest, layout.BlobPath(digest.FromString("no JSON")), "odd", "broken app:odd")
		}},
		refused("manifest: an unknown type", "vnd.oci.image.manifest.v1+json", "vnd.example+json"),
		refused("manifest: an artifact manifest", "vnd.oci.image.manifest.v1+json", "vnd.oci.artifact.manifest.v1+json"),
		refused("manifest: schema 1", "vnd.oci.image.manifest.v1+json", "vnd.docker.distribution.manifest.v1+json"),
		refused("manifest: another schema", `"schemaVersion":2`, `"schemaVersion":3`),
		refused("manifest: a text as its schema", `"schemaVersion":2`, `"schemaVersion":"2"`),
		refused("manifest: no schema", `"schemaVersion":2`, `"schema":2`),
		refused("manifest: too large for a registry", `{"schemaVersion":2`, strings.Repeat(" ", 4<<20)+`{"schemaVersion":2`),
		{"an index that nobody pushed whole", func(j *judged) {
			j.add("app", "sparse", imagetest.Index(imagetest.OCI, j.amd, imagetest.Image(imagetest.OCI, imagetest.Layer(9, 10))))
			absent := imagetest.Image(imagetest.OCI, imagetest.Layer(9, 10))
			j.tree.Remove(layout.RevisionPath("app", absent.Digest()))
			j.tree.Remove("blobs/sha256/" + absent.Digest().Encoded()[:2] + "/" + absent.Digest().Encoded())
		}, func(*judged) []string {
			absent := imagetest.Image(imagetest.OCI, imagetest.Layer(9, 10))
			return of(SparseIndex, layout.BlobPath(absent.Digest()), "sparse", "broken app:sparse (partial)")
		}},
		{"layer: no link", func(j *judged) { j.tree.Remove(j.layerLink) }, func(j *judged) []string {
			return of(MissingLayerLink, j.layerLink, "v1", v1)
		}},
		{"layer: no directory of its link", func(j *judged) { j.tree.Remove(path.Dir(j.layerLink)) }, func(j *judged) []string {
			return of(MissingLayerLink, j.layerLink, "v1", v1)
		}},
		{"layer: upper case", func(j *judged) { j.tree.Write(j.layerLink, strings.ToUpper(j.layer.String())) }, func(j *judged) []string {
			return of(DamagedLayerLink, j.layerLink, "v1", v1)
		}},
		{"layer: no blob", func(j *judged) { j.tree.Remove(layout.BlobPath(j.layer)) }, func(j *judged) []string {
			return append(of(MissingBlob, layout.BlobPath(j.layer), "v1", v1), of(MissingBlob, layout.BlobPath(j.layer), "v1", "broken team/other:v1")...)
		}},
		{"layer: other bytes", func(j *judged) {
			j.tree.Write(layout.BlobPath(j.armLayer), strings.Repeat("x", len(j.arm.Blobs[0].Content)))
		}, func(j *judged) []string { return of(DamagedBlob, layout.BlobPath(j.armLayer), "multi", multi) }},
		{"layer of an untagged image: no blob", func(j *judged) { j.tree.Remove(layout.BlobPath(layerOf(j.untagged))) }, func(j *judged) []string {
			return of(MissingBlob, layout.BlobPath(layerOf(j.untagged)), "")
		}},
		{"layer: a wrong size", func(j *judged) {
			j.add("app", "odd", unlike(j, fmt.Sprintf(`"digest":"%s","size":`, j.layer), fmt.Sprintf(`"digest":"%s","size":1`, j.layer)))
		}, func(j *judged) []string { return of(WrongSize, layout.BlobPath(j.layer), "odd", "broken app:odd") }},
		{"sha512 layer: its link names itself", func(j *judged) {
			layer := imagetest.Layer(5, 10)
			layer.Algorithm = digest.SHA512
			j.add("app", "sha512", imagetest.Image(imagetest.OCI, layer))
			j.tree.Write(layout.LayerPath("app", layer.Digest()), layer.Digest().String())
		}, func(*judged) []string {
			layer := imagetest.Layer(5, 10)
			layer.Algorithm = digest.SHA512
			return of(MissingBlob, layout.BlobPath(layer.Digest()), "sha512", "broken app:sha512")
		}},
		{"foreign layer: nowhere, without a link, without a blob", func(j *judged) {
			for i, tag := range []string{"nowhere", "unlinked", "lost"} {
				layer := imagetest.Layer(uint64(20+i), 10)
				layer.URLs = []string{"https://example.com/layer"}
				j.add("app", tag, imagetest.Image(imagetest.Docker, layer))
				switch tag {
				case "unlinked":
					j.add("team/other", "", imagetest.Image(imagetest.Docker, imagetest.Layer(uint64(20+i), 10)))
				case "lost":
					j.tree.LayerLink("app", layer.Digest())
				}
			}
		}, func(*judged) []string {
			return of(DanglingLayerLink, layout.LayerPath("app", imagetest.Layer(22, 10).Digest()), "")
		}},
		{"content that nothing needs", func(j *judged) {
			j.tree.Write(layout.BlobPath(digest.FromString("garbage")), "other")
			j.tree.LayerLink("app", digest.FromString("nowhere"))
		}, func(*judged) []string {
			return append(of(DamagedBlob, layout.BlobPath(digest.FromString("garbage")), ""),
				of(DanglingLayerLink, layout.LayerPath("app", digest.FromString("nowhere")), "")...)
		}},
		{"links that no pull reads", func(j *judged) {
			j.tree.TagIndex("app", "v1", digest.FromString("nowhere"))
			j.tree.Write(layout.TagIndexPath("app", "v1", j.v1.Digest()), "no digest")
			j.tree.Write("repositories/app/_manifests/stray.txt", "")
			j.tree.Write("blobs/stray.txt", "")
		}, func(j *judged) []string {
			return slices.Concat(of(StaleIndexEntry, layout.TagIndexPath("app", "v1", digest.FromString("nowhere")), ""),
				of(DamagedLink, layout.TagIndexPath("app", "v1", j.v1.Digest()), ""),
				of(Stray, "repositories/app/_manifests/stray.txt", ""), of(Stray, "blobs/stray.txt", ""))
		}},
		{"two swapped layer links", func(j *judged) {
			j.tree.Write(j.layerLink, j.armLayer.String())
			j.tree.Write(layout.LayerPath("app", j.armLayer), j.layer.String())
		}, func(j *judged) []string {
			return append(of(DamagedLayerLink, j.layerLink, ""), of(DamagedLayerLink, layout.LayerPath("app", j.armLayer), "")...)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			j := newJudged(t)
			c.damage(j)
			r := j.judge()
			j.want("at first", r, c.want(j)...)
			j.confirm(r)
			j.want("after a second look", r, c.want(j)...)
			for _, f := range r.Findings {
				if f.Detail == "" || f.Tags == nil {
					t.Errorf("a finding without a detail, or with null as its tags: %+v", f)
				}
			}
		})
	}
}
