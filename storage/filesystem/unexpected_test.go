package filesystem

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"reflect"
	"slices"
	"strings"
	"testing"

	"regsweep/internal/drivertest"
	"regsweep/internal/imagetest"
	"regsweep/inventory"
	"regsweep/storage"
	"regsweep/storage/driver"
	"regsweep/storage/layout"
	"regsweep/storage/storagetest"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// Unexpected entries in the directories of tags and revisions are found (promise 2). In each case one
// tag or revision among others is unusual. The inventory must be the same as through Distribution's
// driver, which lists everything.
func TestUnexpectedEntriesAreFound(t *testing.T) {
	other := storagetest.HexOf("other")
	const tag = "repositories/app/_manifests/tags/v1/"
	for name, change := range map[string]func(t *testing.T, tree *imagetest.Tree, current string){
		"nothing": func(*testing.T, *imagetest.Tree, string) {},
		"an index under another algorithm": func(_ *testing.T, tree *imagetest.Tree, current string) {
			tree.Write(tag+"index/md5/aa/link", "sha256:"+other)
		},
		"another directory in the tag": func(_ *testing.T, tree *imagetest.Tree, current string) {
			tree.Write(tag+"old/link", "sha256:"+other)
		},
		"a link in the tag": func(_ *testing.T, tree *imagetest.Tree, current string) {
			tree.Write(tag+"link", "blake3:00ff")
		},
		"another directory beside the current link": func(_ *testing.T, tree *imagetest.Tree, current string) {
			tree.Write(tag+"current/old/link", "sha256:"+other)
		},
		"a link in the index": func(_ *testing.T, tree *imagetest.Tree, current string) {
			tree.Write(tag+"index/link", "sha256:"+other)
		},
		"a link among an index's digests": func(_ *testing.T, tree *imagetest.Tree, current string) {
			tree.Write(tag+"index/sha256/link", "sha256:"+other)
		},
		"another directory in a revision": func(_ *testing.T, tree *imagetest.Tree, current string) {
			tree.Write("repositories/app/_manifests/revisions/sha256/"+current+"/old/link", "sha256:"+other)
		},
		"an index with more than the target": func(_ *testing.T, tree *imagetest.Tree, current string) {
			tree.Write(tag+"index/sha256/"+other+"/link", "sha256:"+other)
		},
		"an index of several with a file among them": func(_ *testing.T, tree *imagetest.Tree, current string) {
			tree.Write(tag+"index/sha256/"+other+"/link", "sha256:"+other)
			tree.Write(tag+"index/sha256/link", "sha256:"+other)
		},
		"an index of several with a directory among them": func(_ *testing.T, tree *imagetest.Tree, current string) {
			tree.Write(tag+"index/sha256/"+other+"/link", "sha256:"+other)
			tree.Write(tag+"index/sha256/old/link", "sha256:"+other)
		},
		"an index of several without the target": func(t *testing.T, tree *imagetest.Tree, current string) {
			if err := os.RemoveAll(tree.Path(tag + "index/sha256")); err != nil {
				t.Error(err)
			}
			for _, name := range []string{"other", "another"} {
				tree.Write(tag+"index/sha256/"+storagetest.HexOf(name)+"/link", "sha256:"+storagetest.HexOf(name))
			}
		},
		"a revision that names another": func(_ *testing.T, tree *imagetest.Tree, current string) {
			tree.Write("repositories/app/_manifests/revisions/sha256/"+current+"/link", "sha256:"+other)
		},
		"a referrer of a revision": func(_ *testing.T, tree *imagetest.Tree, current string) {
			tree.Write("repositories/app/_manifests/revisions/sha256/"+current+"/_referrers/_type/sha256/"+other+"/link", "sha256:"+other)
		},
		"a moved tag with a file beside its current link": func(_ *testing.T, tree *imagetest.Tree, current string) {
			tree.Write(tag+"index/sha256/"+other+"/link", "sha256:"+other)
			tree.Write(tag+"current/link.4c1f.tmp", "sha256:"+other)
		},
		"an index with another than the target": func(_ *testing.T, tree *imagetest.Tree, current string) {
			tree.Write(tag+"current/link", "sha256:"+other)
		},
		"a target in upper case": func(_ *testing.T, tree *imagetest.Tree, current string) {
			tree.Write(tag+"current/link", "sha256:"+strings.ToUpper(current))
		},
		"a target of many digits": func(_ *testing.T, tree *imagetest.Tree, current string) {
			tree.Write(tag+"current/link", "sha256:"+current+"0")
		},
		"a link of a sha512 digest": func(_ *testing.T, tree *imagetest.Tree, current string) {
			tree.Write(tag+"current/link", "sha512:"+current+current)
		},
		"a target cut short": func(_ *testing.T, tree *imagetest.Tree, current string) {
			tree.Write(tag+"current/link", "sha256:"+current[:20])
		},
		"a tag without a current link": func(t *testing.T, tree *imagetest.Tree, current string) {
			if err := os.Remove(tree.Path(tag + "current/link")); err != nil {
				t.Error(err)
			}
		},
		"a revision with a signature": func(_ *testing.T, tree *imagetest.Tree, current string) {
			tree.Write("repositories/app/_manifests/revisions/sha256/"+current+"/signatures/sha256/"+other+"/link", "sha256:"+other)
		},
		"a revision that was deleted through the API": func(t *testing.T, tree *imagetest.Tree, current string) {
			if err := os.Remove(tree.Path("repositories/app/_manifests/revisions/sha256/" + current + "/link")); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tree := storagetest.NewTree(t)
			var current string
			for _, tag := range []string{"v0", "v1", "v2"} {
				image := tree.Manifest("app", imagetest.Image(imagetest.OCI, imagetest.Layer(uint64(tag[1]), 10)))
				tree.Tag("app", tag, image)
				current = image.Encoded()
			}
			change(t, tree, current)
			got := takenInventory(t, storagetest.MustOpen(t)(Open(tree.Root(), storage.Limits{})))
			want := takenInventory(t, driver.Over(drivertest.Filesystem(tree.Root()), tree.Root()))
			if got, want := contents(got), contents(want); !reflect.DeepEqual(got, want) {
				t.Errorf("the inventory has\n%s\nand through the driver\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		})
	}
}

// contents returns all that an inventory has of its one repository, except what depends on the backend.
func contents(inv *inventory.Inventory) []string {
	r := inv.Repositories[0]
	var all []string
	add := func(what string, ids ...inventory.ID) {
		for _, id := range ids {
			what += " " + string(inv.Digest(id))
		}
		all = append(all, what)
	}
	for _, tag := range r.Tags {
		if tag.HasTarget {
			add("tag "+tag.Name+" at", tag.Target)
		}
		for _, link := range tag.Index {
			add("tag "+tag.Name+" once at", link.ID())
		}
	}
	for _, link := range r.Revisions {
		add("revision", link.ID())
	}
	for _, of := range slices.Sorted(maps.Keys(r.Signatures)) {
		add("signatures", append([]inventory.ID{of}, r.Signatures[of]...)...)
	}
	for of, links := range r.Referrers {
		for _, link := range links {
			add("referrer and subject", of, link.Subject)
		}
	}
	for _, p := range r.Problems {
		all = append(all, string(p.Kind)+" "+p.Path)
	}
	slices.Sort(all)
	return all
}

// A link that is not a regular file is not read: a pipe would wait for its writer, and a symbolic link
// may lead anywhere. The link is reported, and a later Read of it returns the error.
func TestOnlyRegularLinksAreRead(t *testing.T) {
	for name, replace := range map[string]func(path string) error{
		"symbolic link": func(path string) error { return os.Symlink("elsewhere", path) },
		"pipe":          func(path string) error { return unix.Mkfifo(path, 0o644) },
		"directory":     func(path string) error { return os.Mkdir(path, 0o755) },
	} {
		t.Run(name, func(t *testing.T) {
			tree, store, image := smallRegistry(t)
			tree.Write(path.Dir(layout.TagPath("app", "v1"))+"/elsewhere", image.String())
			tree.Write(path.Dir(layout.RevisionPath("app", image))+"/elsewhere", image.String())
			links := []string{layout.TagPath("app", "v1"), layout.RevisionPath("app", image)}
			for _, link := range links {
				if err := errors.Join(os.Remove(tree.Path(link)), replace(tree.Path(link))); err != nil {
					t.Fatal(err)
				}
			}
			found := 0
			for _, object := range storagetest.Scan(t, store, storage.RepositoriesDir) {
				if slices.Contains(links, object.Path) {
					found++
					if object.Size != -1 || object.Content != nil {
						t.Errorf("%s has %d bytes, %q", object.Path, object.Size, object.Content)
					}
				}
			}
			if found != len(links) {
				t.Errorf("%d of %d links were reported", found, len(links))
			}
			if inv := takenInventory(t, store); !inv.Repositories[0].Kept() {
				t.Error("the repository is not kept")
			}
		})
	}
}

// A scan reports the content of each revision's link, whatever the algorithm of its digest.
func TestTheLinksOfRevisionsAreRead(t *testing.T) {
	tree := storagetest.NewTree(t)
	revisions := []digest.Digest{digest.FromString("manifest"), digest.SHA512.FromString("manifest")}
	for _, d := range revisions {
		tree.Write(layout.RevisionPath("app", d), string(d))
	}
	store := storagetest.MustOpen(t)(Open(tree.Root(), storage.Limits{}))
	objects := storagetest.Scan(t, store, storage.RepositoriesDir)
	for _, d := range revisions {
		if o := objects[layout.RevisionPath("app", d)]; string(o.Content) != string(d) || o.Size != int64(len(d)) || o.Named {
			t.Errorf("%s: %+v", d, o)
		}
	}
}

// Revisions that are walked in several parts are each found once.
func TestManyRevisionsAreAllFound(t *testing.T) {
	const repositories, revisions = 16, 200
	tree := storagetest.NewTree(t)
	name := func(r, i int) string { return storagetest.HexOf(fmt.Sprint(r, " ", i)) }
	for r := range repositories {
		for i := range revisions {
			tree.Write(fmt.Sprintf("repositories/r%d/_manifests/revisions/sha256/%s/link", r, name(r, i)), "sha256:"+name(r, i))
		}
	}
	inv := takenInventory(t, storagetest.MustOpen(t)(Open(tree.Root(), storage.Limits{})))
	for r := range repositories {
		found := inv.Repository(fmt.Sprint("r", r))
		if found == nil || len(found.Revisions) != revisions {
			t.Fatalf("of r%d was found %+v", r, found)
		}
		for i := range revisions {
			if !found.HasRevision(inv.ID(digest.Digest("sha256:" + name(r, i)))) {
				t.Errorf("r%d: revision %d is missing", r, i)
			}
		}
	}
}

// A tag whose name no plan could have is no tag, and what it names is kept.
func TestATagWhoseNameIsNoTextIsKept(t *testing.T) {
	tree := storagetest.NewTree(t)
	// Which is listed first depends on the names, and should be each somewhere.
	for i := range 16 {
		repository := fmt.Sprint("r", i)
		image := tree.Manifest(repository, imagetest.Image(imagetest.OCI, imagetest.Layer(1, 10)))
		tree.Tag(repository, "v1", image)
		tree.Tag(repository, strings.Repeat("x", i)+"\xff", image)
	}
	for _, r := range takenInventory(t, storagetest.MustOpen(t)(Open(tree.Root(), storage.Limits{}))).Repositories {
		if len(r.Tags) != 1 || r.Tags[0].Name != "v1" || !r.Kept() {
			t.Errorf("%s: the tags are %+v, and the repository is kept: %t", r.Name, r.Tags, r.Kept())
		}
	}
}
