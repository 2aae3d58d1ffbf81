package generate

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"regsweep/internal/imagetest"
	"regsweep/internal/registrytest"
)

func TestTheSameSeedMakesTheSameRegistry(t *testing.T) {
	sum := func(seed uint64) string {
		hash := sha256.New()
		for path, content := range New(seed, Neglected(5)).Files() {
			fmt.Fprintf(hash, "%s %d %s\n", path, len(content), content)
		}
		return fmt.Sprintf("%x", hash.Sum(nil))
	}
	if again := sum(1); again != sum(1) {
		t.Error("one seed makes two registries")
	}
	if sum(1) == sum(2) {
		t.Error("two seeds make one registry")
	}
}

func TestBlobsHaveTheirDigestsAndLinksNameThem(t *testing.T) {
	registry := New(1, Many(6))
	stored := map[string]bool{}
	links := 0
	for path, content := range registry.Files() {
		path = strings.TrimPrefix(path, layoutRoot)
		if !strings.HasPrefix(path, "blobs/") {
			links++
			// All blobs come before the first link.
			if !stored[string(content)] {
				t.Fatalf("%s names %s, which is not stored", path, content)
			}
			continue
		}
		d := digest.FromBytes(content)
		if path != imagetest.BlobPath(d) || stored[d.String()] {
			t.Fatalf("%s is at %s", d, path)
		}
		stored[d.String()] = true
	}
	if len(stored) == 0 || links == 0 {
		t.Errorf("%d blobs and %d links", len(stored), links)
	}
}

func TestARegistryServesWhatIsGenerated(t *testing.T) {
	registry := New(1, Many(2))
	root := t.TempDir()
	if err := registry.WriteTree(t.Context(), root); err != nil {
		t.Fatal(err)
	}
	client := registrytest.StartT(t, registrytest.Config{Root: root}).Client()
	for _, repo := range registry.repositories {
		for _, tag := range repo.tags {
			if err := client.PullAll(t.Context(), repo.name, tag.name, tag.current.digest.String()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// The shapes are what the report says that they are.
func TestShapesHaveTheirSizes(t *testing.T) {
	about := func(what string, got, want int) {
		t.Helper()
		if got < want*95/100 || got > want*105/100 {
			t.Errorf("%s: %d, want about %d", what, got, want)
		}
	}
	many := New(1, Many(200)).Size()
	about("blobs of many repositories", many.Blobs, 90_000)
	about("manifests of many repositories", many.Manifests, 23_000)
	about("files of many repositories", many.Files, 216_000)

	deep := New(1, Deep(25)).Size()
	about("objects on S3", deep.Files, 23_000)
	about("manifests on S3", deep.Manifests, 1_600)

	about("blobs to remove", New(1, Neglected(200)).Garbage(false).Blobs, 25_000)

	one := NewRepository(1, 3000, 1000)
	if size := one.Size(); size.Tags != 3000 || size.Manifests != 4000 || size.Repositories != 1 {
		t.Errorf("one repository has %+v", size)
	}
	if got := one.Garbage(true).Revisions; got != 1000 {
		t.Errorf("of one repository %d revisions can go", got)
	}
}
