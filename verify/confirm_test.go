package verify

import (
	"slices"
	"testing"
	"time"

	"regsweep/internal/imagetest"
	"regsweep/storage/layout"

	"github.com/opencontainers/go-digest"
)

// What a push or a deletion has changed since the listing is no finding any more. What it has not changed stays.
func TestWhatHasChangedIsNoFinding(t *testing.T) {
	t.Parallel()
	write := func(path, content string) func(*judged) {
		return func(j *judged) { j.tree.Write(path, content) }
	}
	remove := func(path string) func(*judged) { return func(j *judged) { j.tree.Remove(path) } }
	tagPath, nowhere := layout.TagPath("app", "v1"), digest.FromString("nowhere")
	beingWritten := tagPath + ".01a23239-4d3f-7530-9240-24ad6403d961.tmp"
	for _, c := range []struct {
		name           string
		damage, change func(j *judged)
		left           func(j *judged) []string // nil for nothing
	}{
		{"a layer link is written", func(j *judged) { j.tree.Remove(j.layerLink) }, func(j *judged) { j.tree.LayerLink("app", j.layer) }, nil},
		{"a damaged layer link is replaced", func(j *judged) { j.tree.Write(j.layerLink, "") }, func(j *judged) { j.tree.LayerLink("app", j.layer) }, nil},
		{"a revision link is written", func(j *judged) { j.tree.Remove(j.revLink) }, func(j *judged) { j.tree.Revision("app", j.v1.Digest()) }, nil},
		{"a manifest is stored", func(j *judged) { j.tree.Remove(layout.BlobPath(j.v1.Digest())) }, func(j *judged) { j.tree.Blob(j.v1.Content) }, nil},
		{"a layer is stored", func(j *judged) { j.tree.Remove(layout.BlobPath(j.layer)) }, func(j *judged) { j.tree.Blob(j.v1.Blobs[0].Content); j.tree.Blob(j.v1.Blobs[1].Content) }, nil},
		{"an image is pushed that an index names", func(j *judged) {
			j.tree.Remove(layout.RevisionPath("app", j.arm.Digest()))
			j.tree.Remove("blobs/sha256/" + j.arm.Digest().Encoded()[:2])
		}, func(j *judged) { j.tree.Manifest("app", j.arm) }, nil},
		{"a current link is written", remove(tagPath), func(j *judged) { j.tree.Tag("app", "v1", j.v1.Digest()) }, nil},
		{"a damaged current link is replaced", write(tagPath, "sha256:"), func(j *judged) { j.tree.Tag("app", "v1", j.v1.Digest()) }, nil},
		{"a tag without a current link is deleted", remove(tagPath), remove("repositories/app/_manifests/tags/v1"), nil},
		{"a tag with a damaged link is deleted", write(tagPath, ""), remove("repositories/app/_manifests/tags/v1"), nil},
		{"a link is removed that leads nowhere", func(j *judged) { j.tree.LayerLink("app", nowhere) }, remove(layout.LayerPath("app", nowhere)), nil},
		{"the blob of such a link is stored", func(j *judged) { j.tree.LayerLink("app", nowhere) }, func(j *judged) { j.tree.Blob([]byte("nowhere")) }, nil},
		{"an index entry is removed", func(j *judged) { j.tree.TagIndex("app", "v1", nowhere) }, remove(layout.TagIndexPath("app", "v1", nowhere)), nil},
		{"the revision of an index entry is written", func(j *judged) {
			j.tree.TagIndex("app", "v1", j.amd.Digest())
			j.tree.Remove(layout.RevisionPath("app", j.amd.Digest()))
		},
			func(j *judged) { j.tree.Revision("app", j.amd.Digest()) }, nil},
		{"a registry writes a tag", func(j *judged) { j.tree.Remove(tagPath); j.tree.Write(beingWritten, "") }, func(*judged) {}, nil},
		{"a registry died while it wrote a link", func(j *judged) { j.tree.Write("blobs/link.tmp", ""); j.tree.Age("blobs/link.tmp", time.Hour) }, func(*judged) {},
			func(*judged) []string { return []string{"stray blobs/link.tmp: "} }},
		{"a registry writes a link", write("blobs/link.tmp", ""), func(*judged) {}, nil},
		{"a stray is renamed", write("blobs/.tmp", ""), remove("blobs/.tmp"), nil},
		{"the tag and the image are deleted", func(j *judged) { j.tree.Remove(j.layerLink) }, func(j *judged) {
			j.tree.Remove("repositories/app/_manifests/tags/v1")
			j.tree.Remove(j.revLink)
		}, nil},
		{"the tag moves, and the image stays", func(j *judged) { j.tree.Remove(j.layerLink) }, func(j *judged) { j.tree.Tag("app", "v1", j.amd.Digest()) },
			func(j *judged) []string { return []string{"missing_layer_link " + j.layerLink + ": "} }},
		{"one of two tags moves", func(j *judged) {
			j.tree.Tag("app", "v2", j.v1.Digest())
			j.tree.Remove(layout.BlobPath(j.v1.Digest()))
			j.tree.Remove("repositories/team")
		},
			func(j *judged) { j.tree.Tag("app", "v1", j.amd.Digest()) },
			func(j *judged) []string {
				return []string{"broken app:v2", "missing_manifest " + layout.BlobPath(j.v1.Digest()) + ": v2"}
			}},
		{"another image is pushed", func(j *judged) { j.tree.Remove(j.layerLink) }, func(j *judged) { j.add("app", "v2", imagetest.Image(imagetest.OCI, imagetest.Layer(9, 10))) },
			func(j *judged) []string {
				return []string{"broken app:v1", "missing_layer_link " + j.layerLink + ": v1"}
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			j := newJudged(t)
			c.damage(j)
			r := j.judge()
			if len(r.Findings) == 0 {
				t.Fatal("nothing was found at first")
			}
			c.change(j)
			j.confirm(r)
			var left []string
			if c.left != nil {
				left = c.left(j)
			}
			j.want("after the change", r, left...)
		})
	}
}

// A platform that is found to be whole on the second look keeps its tag.
func TestAPlatformThatIsWholeAfterAllKeepsItsTag(t *testing.T) {
	t.Parallel()
	j := newJudged(t)
	amdLayer := layout.BlobPath(layerOf(j.amd))
	right, err := j.store.Read(t.Context(), amdLayer, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	j.tree.Write(amdLayer, "x")
	j.tree.Remove(layout.BlobPath(j.armLayer))
	r := j.judge()
	if got := r.Unpullable(); len(got) != 1 {
		t.Fatalf("%v are lost", got)
	}
	j.tree.Write(amdLayer, string(right))
	j.confirm(r)
	if got := r.Unpullable(); len(got) > 0 || len(r.Broken) != 1 || !r.Broken[0].Partial {
		t.Errorf("%v are lost, broken %+v", got, r.Broken)
	}
}

// The images of a finding have the platforms that an index of their repository gives.
func TestFindingsHavePlatforms(t *testing.T) {
	t.Parallel()
	j := newJudged(t)
	j.tree.Remove(layout.BlobPath(j.armLayer))
	j.tree.Remove(layout.BlobPath(j.amd.Digest()))
	r := j.judge()
	if err := r.AddPlatforms(t.Context(), j.inv, j.graph, j.store, 2); err != nil {
		t.Fatal(err)
	}
	var got []Image
	for _, f := range r.Findings {
		got = append(got, f.Images...)
	}
	want := []Image{{j.amd.Digest(), "linux/amd64"}, {j.arm.Digest(), "linux/arm64/v8"}}
	slices.SortFunc(got, func(a, b Image) int { return len(a.Platform) - len(b.Platform) })
	if !slices.Equal(got, want) {
		t.Errorf("the images are %v, want %v", got, want)
	}
}
