package inventory

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"regsweep/internal/imagetest"
	"regsweep/storage"
	"regsweep/storage/filesystem"
	"regsweep/storage/layout"
	"regsweep/storage/storagetest"

	"github.com/opencontainers/go-digest"
)

// keys is a fake storage without directories, like S3. Its listing has sizes, times and ETags.
type keys struct {
	storage.Store
	objects []storage.Object
	content map[string]string
	reads   []string
	fails   error
}

func (f *keys) Identity() storage.Identity { return storage.Identity{} }

func (f *keys) Scan(_ context.Context, dir string, visit func([]storage.Object) error) error {
	page := make([]storage.Object, 1) // it is reused, as Scan may do
	for _, object := range f.objects {
		if strings.HasPrefix(object.Path, dir+"/") {
			page[0] = object
			if err := visit(page); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *keys) Read(_ context.Context, path string, _ int64) ([]byte, error) {
	f.reads = append(f.reads, path)
	content, found := f.content[path]
	switch {
	case f.fails != nil:
		return nil, f.fails
	case !found:
		return nil, fmt.Errorf("%s: %w", path, fs.ErrNotExist)
	}
	return []byte(content), nil
}

// put stores an object. If etag is "", the ETag is the MD5 of the content.
func (f *keys) put(path, content, etag string) {
	if f.content == nil {
		f.content = map[string]string{}
	}
	if etag == "" {
		sum := md5.Sum([]byte(content))
		etag = hex.EncodeToString(sum[:])
	}
	f.content[path] = content
	f.objects = append(f.objects, storage.Object{Path: path, Size: int64(len(content)), ETag: etag, ModTime: storagetest.UploadStart})
}

// If the ETag of a link is the MD5 of the digest in its path, or of a digest in its tag's index,
// the link is not read. Otherwise it is read.
func TestETagsSpareReads(t *testing.T) {
	a, b, long := digest.FromString("a"), digest.FromString("b"), digest.SHA512.FromString("a")
	f := &keys{}
	f.put(layout.RevisionPath("app", a), string(a), "")
	f.put(layout.LayerPath("app", b), string(b), "")
	f.put(layout.TagPath("app", "v1"), string(a), "")
	f.put(layout.TagIndexPath("app", "v1", a), string(a), "")
	f.put(layout.TagIndexPath("app", "v1", b), string(b), "")
	f.put(layout.TagPath("app", "v3"), string(a), "")
	f.put(layout.TagIndexPath("app", "v3", a), string(a), "")
	// Pages come in any order, so a tag's index may come before its current link.
	f.put(layout.TagIndexPath("app", "v2", a), string(a), "")
	f.put(layout.TagIndexPath("app", "v2", b), string(b), "")
	f.put(layout.TagPath("app", "v2"), string(b), "")
	inv, err := Take(t.Context(), f, Options{Concurrency: 1})
	if err != nil {
		t.Fatal(err)
	}
	r := inv.Repositories[0]
	if len(r.Tags) != 3 || r.Tags[0].Name != "v1" || r.Tags[2].Name != "v3" || !r.Tags[1].HasTarget || inv.Digest(r.Tags[1].Target) != b {
		t.Errorf("%+v", r.Tags)
	}
	if len(f.reads) > 0 || !r.Tags[0].HasTarget || inv.Digest(r.Tags[0].Target) != a || !r.Revisions[0].Verified() || r.Kept() {
		t.Errorf("after reading %q: %+v", f.reads, r)
	}

	for name, etag := range map[string]string{"encrypted": "0123456789abcdef0123456789abcdef", "in parts": "0123456789abcdef0123456789abcdef-2", "none": "-"} {
		t.Run(name, func(t *testing.T) {
			f := &keys{}
			f.put(layout.RevisionPath("app", a), string(a), etag)
			f.put(layout.LayerPath("app", b), string(b), etag)
			f.put(layout.LayerPath("app", long), string(a), etag)
			f.put(layout.TagPath("app", "v1"), string(b), etag)
			f.put(layout.TagIndexPath("app", "v1", a), string(a), etag)
			inv, err := Take(t.Context(), f, Options{Concurrency: 1})
			if err != nil {
				t.Fatal(err)
			}
			slices.Sort(f.reads)
			// The sha256 links of layers and of a tag's index are not read.
			want := []string{layout.LayerPath("app", long), layout.RevisionPath("app", a), layout.TagPath("app", "v1")}
			slices.Sort(want)
			if !slices.Equal(f.reads, want) {
				t.Errorf("read %q, want %q", f.reads, want)
			}
			r := inv.Repositories[0]
			if inv.Digest(r.Tags[0].Target) != b || inv.Digest(r.Aliases[inv.ID(long)]) != a || r.Kept() {
				t.Errorf("%+v", r)
			}
		})
	}
}

// If the storage fails, Take fails: no link is skipped (promise 1).
func TestInventoryEndsWithAFailure(t *testing.T) {
	a := digest.FromString("a")
	for _, path := range []string{
		layout.RevisionPath("app", a), layout.TagPath("app", "v1"), layout.LayerPath("app", digest.SHA512.FromString("a")),
		layout.UploadPath("app", "id") + "/startedat", "repositories/app/_layers/blake3/00/link",
	} {
		f := &keys{fails: errors.New("the network is down")}
		f.put(path, string(a), "-")
		if _, err := Take(t.Context(), f, Options{}); !errors.Is(err, f.fails) {
			t.Errorf("%s can't be read: %v", path, err)
		}
	}
}

// A storage without directories has objects that a filesystem can't have.
func TestInventoryOfFlatKeys(t *testing.T) {
	a := digest.FromString("a")
	f := &keys{}
	f.put("repositories/folder/", "", "")
	f.put("repositories/folder/_layers/", "", "")
	f.put("blobs/", "", "")
	f.put(layout.BlobPath(a), "a", "")
	f.put(layout.BlobPath(a)+"/", "", "")
	for _, path := range []string{layout.BlobPath(digest.FromString("copied")), layout.LayerPath("app", a), layout.UploadPath("app", "id") + "/data", "repositories/copied"} {
		f.objects = append(f.objects, storage.Object{Path: path, Size: -1, ModTime: storagetest.UploadStart, Multipart: "part of " + path})
	}
	inv, err := Take(t.Context(), f, Options{})
	if err != nil {
		t.Fatal(err)
	}
	// No registry begins an upload to a link, or to a path outside of the layout.
	if inv.Blobs() != 1 || inv.Strays.Count != 4+2 {
		t.Errorf("%d blobs, %d strays", inv.Blobs(), inv.Strays.Count)
	}
	if len(inv.Uploads) != 1 || inv.Uploads[0].Objects[0].Path != layout.BlobPath(digest.FromString("copied")) {
		t.Errorf("uploads of no repository: %+v", inv.Uploads)
	}
	app := inv.Repositories[0]
	if app.Name != "app" || len(app.Layers) != 0 || app.Strays != 1 || len(app.Uploads) != 1 || app.Uploads[0].Started != storagetest.UploadStart || app.Uploads[0].Objects[0].Multipart == "" {
		t.Errorf("%+v", app)
	}
}

// This tree has every unusual object that was found on a disk. The test says how each of them is in
// the inventory.
func TestInventoryOddities(t *testing.T) {
	a, b, gone := digest.FromString("a"), digest.FromString("b"), digest.FromString("gone")
	type oddity struct {
		name  string
		make  func(tree *imagetest.Tree)
		check func(t *testing.T, inv *Inventory, r *Repository)
		met   string // problems of app, but for strays
	}
	undated := func(name, startedAt string) oddity {
		return oddity{
			name: name,
			make: func(tree *imagetest.Tree) {
				tree.Upload("app", "id", storagetest.UploadStart, []byte("half"))
				tree.Write(layout.UploadPath("app", "id")+"/startedat", startedAt)
			},
			check: func(t *testing.T, _ *Inventory, r *Repository) {
				want(t, "counts from now", time.Since(r.Uploads[0].Started) < time.Hour, true)
			},
			met: "undated_upload",
		}
	}
	for _, test := range []oddity{
		{
			name: "an empty revision directory, as the API leaves it, is no revision",
			make: func(tree *imagetest.Tree) { tree.Mkdir("repositories/app/_manifests/revisions/sha256/" + a.Encoded()) },
			check: func(t *testing.T, _ *Inventory, r *Repository) {
				want(t, "revisions", len(r.Revisions), 0)
				want(t, "emptied", strings.Join(r.Emptied, " "), "repositories/app/_manifests/revisions/sha256/"+a.Encoded())
			},
		},
		{
			name:  "a tag directory with nothing in it is no tag",
			make:  func(tree *imagetest.Tree) { tree.Mkdir("repositories/app/_manifests/tags/v1/index/sha256") },
			check: func(t *testing.T, _ *Inventory, r *Repository) { want(t, "tags", len(r.Tags), 0) },
		},
		{
			name: "a tag without a current link",
			make: func(tree *imagetest.Tree) { tree.TagIndex("app", "v1", a); tree.TagIndex("app", "v1", b) },
			check: func(t *testing.T, _ *Inventory, r *Repository) {
				want(t, "targets", r.Tags[0].HasTarget, false)
				want(t, "entries", len(r.Tags[0].Index), 2)
			},
			met: "tag_without_current",
		},
		{
			name: "a tag without an index",
			make: func(tree *imagetest.Tree) { tree.Write(layout.TagPath("app", "v1"), string(a)) },
			check: func(t *testing.T, inv *Inventory, r *Repository) {
				want(t, "target", inv.Digest(r.Tags[0].Target), a)
			},
		},
		{
			name: "a tag that ends in a newline still has its target",
			make: func(tree *imagetest.Tree) { tree.Write(layout.TagPath("app", "v1"), string(a)+"\n") },
			check: func(t *testing.T, inv *Inventory, r *Repository) {
				want(t, "target", inv.Digest(r.Tags[0].Target), a)
				want(t, "kept", r.Kept(), true)
			},
			met: "damaged_link",
		},
		{
			name: "a tag of zeros has none",
			make: func(tree *imagetest.Tree) { tree.Write(layout.TagPath("app", "v1"), strings.Repeat("\x00", 71)) },
			check: func(t *testing.T, _ *Inventory, r *Repository) {
				want(t, "has a target", r.Tags[0].HasTarget, false)
				want(t, "kept", r.Kept(), true)
			},
			met: "damaged_link",
		},
		{
			name: "a link larger than any",
			make: func(tree *imagetest.Tree) {
				tree.Write(layout.RevisionPath("app", a), strings.Repeat("x", layout.LinkLimit+1))
			},
			check: func(t *testing.T, inv *Inventory, r *Repository) {
				want(t, "has the revision of its path", r.HasRevision(inv.ID(a)), true)
				want(t, "kept", r.Kept(), true)
			},
			met: "damaged_link",
		},
		{
			name: "an empty revision link has the digest of its path",
			make: func(tree *imagetest.Tree) { tree.Write(layout.RevisionPath("app", a), "") },
			check: func(t *testing.T, inv *Inventory, r *Repository) {
				want(t, "has the revision of its path", r.HasRevision(inv.ID(a)), true)
			},
			met: "damaged_link",
		},
		{
			name: "a revision link that names another",
			make: func(tree *imagetest.Tree) { tree.Write(layout.RevisionPath("app", a), string(b)) },
			check: func(t *testing.T, inv *Inventory, r *Repository) {
				want(t, "has the revision of its path", r.HasRevision(inv.ID(a)), true)
				want(t, "doubted", fmt.Sprint(r.Doubted), fmt.Sprint([]ID{inv.ID(b)}))
			},
			met: "damaged_link",
		},
		{
			name: "a layer link of sha512 is an alias",
			make: func(tree *imagetest.Tree) { tree.Write(layout.LayerPath("app", longDigest), string(a)) },
			check: func(t *testing.T, inv *Inventory, r *Repository) {
				want(t, "has the layer of its path", r.HasLayer(inv.ID(longDigest)), true)
				want(t, "alias", inv.Digest(r.Aliases[inv.ID(longDigest)]), a)
			},
			met: "no_manifests",
		},
		{
			name: "links of an algorithm that nobody knows",
			make: func(tree *imagetest.Tree) {
				tree.Write("repositories/app/_layers/blake3/00/link", string(a))
				tree.Write("repositories/app/_layers/blake3/01/link", "blake3:01")
			},
			check: func(t *testing.T, inv *Inventory, r *Repository) {
				want(t, "pinned", fmt.Sprint(r.Pinned), fmt.Sprint([]ID{inv.ID(a)}))
				want(t, "strays", r.Strays, 2)
				want(t, "kept", r.Kept(), false)
			},
			met: "unknown_link_algorithm",
		},
		{
			name: "such a link to a manifest",
			make: func(tree *imagetest.Tree) {
				tree.Write("repositories/app/_manifests/revisions/blake3/00/link", "blake3:00")
			},
			check: func(t *testing.T, _ *Inventory, r *Repository) { want(t, "kept", r.Kept(), true) },
			met:   "unknown_link_algorithm",
		},
		{
			name: "a link in an upload is none",
			make: func(tree *imagetest.Tree) { tree.Write(layout.UploadPath("app", "id")+"/link", string(a)) },
			check: func(t *testing.T, _ *Inventory, r *Repository) {
				want(t, "pinned", len(r.Pinned)+len(r.Doubted)+r.Strays, 0)
				want(t, "uploads", len(r.Uploads), 1)
			},
			met: "undated_upload",
		},
		undated("an upload that does not say when it began", "yesterday"),
		undated("an upload that began in year 1", "0001-01-01T00:00:00Z"),
		undated("an upload that began long after its last write", time.Now().Add(365*24*time.Hour).Format(time.RFC3339)),
		{
			name: "an upload is dated by its startedat, which is removed last",
			make: func(tree *imagetest.Tree) {
				tree.Upload("app", "id", storagetest.UploadStart, []byte("half"))
				tree.Write(layout.UploadPath("app", "id")+"/zzz", "written today")
			},
			check: func(t *testing.T, _ *Inventory, r *Repository) {
				u := r.Uploads[0]
				want(t, "started", u.Started.Equal(storagetest.UploadStart), true)
				want(t, "touched today", time.Since(u.Touched) < time.Hour, true)
				want(t, "objects", len(u.Objects), 4)
				want(t, "the last", u.Objects[3].Path, layout.UploadPath("app", "id")+"/startedat")
				want(t, "bytes", u.Bytes, int64(len("half")+len("written today")+len(time.RFC3339)-len("07:00")))
			},
		},
		{
			name: "a file where an upload should be",
			make: func(tree *imagetest.Tree) { tree.Write("repositories/app/_uploads/file", "x") },
			check: func(t *testing.T, _ *Inventory, r *Repository) {
				want(t, "uploads", len(r.Uploads), 0)
				want(t, "strays", r.Strays, 1)
			},
		},
		{
			name: "temporary files of a driver that crashed",
			make: func(tree *imagetest.Tree) {
				tree.Write("repositories/app/_manifests/revisions/sha256/"+a.Encoded()+"/link.00.tmp", string(a))
				tree.Write("repositories/app/_manifests/tags/v1/current/link.00.tmp", string(a))
			},
			check: func(t *testing.T, _ *Inventory, r *Repository) {
				want(t, "revisions and tags", len(r.Revisions)+len(r.Tags), 0)
				want(t, "strays", r.Strays, 2)
			},
		},
		{
			name: "a link that is a directory is damaged where it is read",
			make: func(tree *imagetest.Tree) { tree.Mkdir(layout.LayerPath("app", longDigest)) },
			check: func(t *testing.T, inv *Inventory, r *Repository) {
				want(t, "has the layer of its path", r.HasLayer(inv.ID(longDigest)), true)
			},
			met: "damaged_link",
		},
		{
			name: "signatures of a manifest without a revision link",
			make: func(tree *imagetest.Tree) { tree.Write(layout.SignaturePath("app", gone, a), string(a)) },
			check: func(t *testing.T, inv *Inventory, r *Repository) {
				want(t, "signatures", fmt.Sprint(r.Signatures[inv.ID(gone)]), fmt.Sprint([]ID{inv.ID(a)}))
				want(t, "revisions", len(r.Revisions), 0)
			},
		},
		{
			name: "blobs that are none",
			make: func(tree *imagetest.Tree) {
				tree.Write("blobs/sha256/00/"+a.Encoded()+"/data", "in the wrong place")
				tree.Write(layout.BlobPath(longDigest), "of another algorithm")
				tree.Write("blobs/sha256/file", "x")
				tree.Write("blobs/sha256/ab/file", "x")
			},
			check: func(t *testing.T, inv *Inventory, _ *Repository) {
				want(t, "blobs", inv.Blobs(), 1)
				// The sizes of strays that are only named are not looked up.
				want(t, "strays", inv.Strays, Strays{4, int64(len("in the wrong place") + 2)})
				want(t, "named strays", len(inv.Problems), 4)
			},
		},
		{
			name: "repositories of names that nobody may have",
			make: func(tree *imagetest.Tree) {
				for _, name := range []string{"app/UPPER", "app/_old", "app/a..b", strings.Repeat("long/", 60) + "name"} {
					tree.LayerLink(name, a)
				}
			},
			check: func(t *testing.T, inv *Inventory, _ *Repository) {
				want(t, "repositories", len(inv.Repositories), 5)
				for _, r := range inv.Repositories {
					want(t, r.Name+" is misnamed", r.Misnamed(), r.Name != "app")
					want(t, r.Name+" is kept", r.Kept(), r.Name != "app")
				}
			},
		},
		{
			name: "a repository in another's parts is none",
			make: func(tree *imagetest.Tree) {
				tree.Write("repositories/app/_uploads/x/_layers/sha256/"+a.Encoded()+"/link", string(a))
			},
			check: func(t *testing.T, inv *Inventory, r *Repository) {
				want(t, "repositories", len(inv.Repositories), 1)
				want(t, "uploads", len(r.Uploads), 1)
			},
			met: "undated_upload",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			tree := storagetest.NewTree(t)
			tree.Blob([]byte("any"))
			tree.Mkdir("repositories/app/_layers")
			test.make(tree)
			inv := inventoryOf(t, storagetest.MustOpen(t)(filesystem.Open(tree.Root(), storage.Limits{})))
			var app *Repository
			for _, r := range inv.Repositories {
				if r.Name == "app" {
					app = r
				}
			}
			if app == nil {
				t.Fatalf("app is not there: %+v", inv.Repositories)
			}
			var met []string
			for _, p := range app.Problems {
				met = append(met, string(p.Kind))
			}
			if got := strings.Join(met, " "); got != test.met {
				t.Errorf("met %q, want %q", got, test.met)
			}
			test.check(t, inv, app)
		})
	}
}

func want[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// Recently written blobs and links are marked as recent, by digest and by repository.
func TestInventoryOfRecentThings(t *testing.T) {
	tree := storagetest.NewTree(t)
	young, aged := tree.Blob([]byte("young")), tree.Blob([]byte("aged"))
	long := digest.SHA512.FromString("aged")
	for _, repository := range []string{"young", "aged"} {
		for _, d := range []digest.Digest{young, aged} {
			tree.LayerLink(repository, d)
			tree.Revision(repository, d)
		}
		tree.Write(layout.LayerPath(repository, long), string(aged))
	}
	tree.Age("repositories/aged", 48*time.Hour)
	store := storagetest.MustOpen(t)(filesystem.Open(tree.Root(), storage.Limits{}))
	since := Options{Since: time.Now().Add(-24 * time.Hour)}
	inv, err := Take(t.Context(), store, since)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range inv.Repositories {
		for _, d := range []digest.Digest{young, aged, long} {
			want(t, fmt.Sprintf("%s in %s is recent", d, r.Name), !r.Recent[inv.ID(d)].IsZero(), r.Name == "young")
		}
	}
	if r := inventoryOf(t, store).Repositories[1]; r.Recent != nil {
		t.Errorf("nobody asked, and %v are recent", r.Recent)
	}

	// A link that is removed meanwhile is not recent, and is no error.
	if err := os.Remove(tree.Path(layout.LayerPath("young", young))); err != nil {
		t.Fatal(err)
	}
	if inv, err = Take(t.Context(), store, since); err != nil {
		t.Fatal(err)
	}
	if r := inv.Repositories[1]; r.Recent[inv.ID(young)].IsZero() { // its revision is still recent
		t.Error("a revision is not recent")
	}
}

// Names that share memory do not change when more names are added, long and short ones.
func TestSharedNamesStay(t *testing.T) {
	var shared sharedNames
	var got, want []string
	for i := range 3000 {
		name := strings.Repeat(string(rune('a'+i%26)), i*7%133)
		if i%500 == 0 {
			name = strings.Repeat("long", lastPiece)
		}
		got, want = append(got, shared.copy(name)), append(want, name)
	}
	if !slices.Equal(got, want) {
		t.Error("names are not what they were")
	}
}

// inventoryOf takes the inventory and fails the test if that fails.
func inventoryOf(t *testing.T, store storage.Store) *Inventory {
	t.Helper()
	inv, err := Take(t.Context(), store, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return inv
}

// longDigest is a SHA-512 digest.
var longDigest = digest.SHA512.FromString("a")
