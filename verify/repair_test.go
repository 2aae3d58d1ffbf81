package verify

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"regsweep/internal/imagetest"
	"regsweep/internal/registrytest"
	"regsweep/inventory"
	"regsweep/mark"
	"regsweep/quarantine"
	"regsweep/storage"
	"regsweep/storage/layout"
	"regsweep/sweep"

	"github.com/opencontainers/go-digest"
)

// repairable is a registry with images of all kinds, before they are damaged.
type repairable struct {
	*imagetest.Tree
	whole map[string]string

	single, child, sibling, index, untagged *imagetest.Manifest
}

func newRepairable(t *testing.T) *repairable {
	t.Helper()
	r := &repairable{Tree: imagetest.NewTree(t, t.TempDir())}
	layer := func(seed uint64) imagetest.Blob { return imagetest.Layer(seed, 100) }
	r.single = imagetest.Image(imagetest.Docker, layer(1), layer(2))
	r.child, r.sibling = imagetest.Image(imagetest.OCI, layer(1), layer(3)), imagetest.Image(imagetest.OCI, layer(4))
	r.index = imagetest.Index(imagetest.OCI, r.child, r.sibling)
	r.untagged = imagetest.Image(imagetest.OCI, layer(5))
	for tag, m := range map[string]*imagetest.Manifest{"single": r.single, "again": r.single, "index": r.index, "": r.untagged} {
		d := r.Manifest("app", m)
		if tag != "" {
			r.Tag("app", tag, d)
			r.TagIndex("app", tag, d)
		}
	}
	r.whole = imagetest.SnapshotT(t, r.Root())
	return r
}

// own is the layer that an image shares with no other.
func own(m *imagetest.Manifest) digest.Digest { return m.Blobs[len(m.Blobs)-1].Digest() }

// check checks a storage, with the content of all blobs if reads is set.
func check(t *testing.T, store storage.Store, reads bool) (*Result, *inventory.Inventory) {
	t.Helper()
	result, inv, err := checkAll(t.Context(), store, reads)
	if err != nil {
		t.Fatal(err)
	}
	return result, inv
}

func checkAll(ctx context.Context, store storage.Store, reads bool) (*Result, *inventory.Inventory, error) {
	began := time.Now()
	inv, err := inventory.Take(ctx, store, inventory.Options{Sizes: true})
	if err != nil {
		return nil, nil, err
	}
	graph, err := mark.Read(ctx, inv, store, mark.ReadOptions{})
	if err != nil {
		return nil, nil, err
	}
	links, err := ReadLinks(ctx, inv, graph, store, 1, nil)
	if err != nil {
		return nil, nil, err
	}
	faults := map[inventory.ID]Fault{}
	if err := CheckFiles(ctx, inv, graph, store, nil, faults, 1); err != nil {
		return nil, nil, err
	}
	if reads {
		if _, err := ReadData(ctx, inv, store, faults, DataOptions{Concurrency: 1, Now: time.Now}); err != nil {
			return nil, nil, err
		}
	}
	result, err := Judge(ctx, Facts{Inventory: inv, Graph: graph, Links: links, Blobs: faults})
	if err == nil {
		err = result.Confirm(ctx, inv, store, began, 1)
	}
	return result, inv, err
}

// repairAll moves wrong blobs away, writes links, and removes the tags that are lost then.
func repairAll(ctx context.Context, store storage.Store) error {
	result, inv, err := checkAll(ctx, store, true)
	if err != nil {
		return err
	}
	plan := &sweep.Given{Storage: store.Identity(), Time: time.Now()}
	wrong := result.Wrong(inv)
	for _, b := range wrong {
		plan.Removals = append(plan.Removals, sweep.Take(b.Digest, b.Bytes, "its content is damaged"))
	}
	taken := func(do func(taker *quarantine.Taker) error) error {
		taker, err := quarantine.Begin(ctx, store, plan, time.Now(), rand.Reader)
		if err != nil {
			return err
		}
		return errors.Join(do(taker), taker.End(ctx))
	}
	err = taken(func(taker *quarantine.Taker) error {
		_, err := MoveWrong(ctx, store, wrong, func(ctx context.Context, d digest.Digest) error {
			return taker.Remove(ctx, []storage.Ref{{Path: layout.BlobPath(d)}})[0].Err
		})
		return err
	})
	if err != nil {
		return err
	}
	if _, err := WriteLinks(ctx, store, result.Links(inv), map[digest.Digest]bool{}); err != nil {
		return err
	}
	if result, inv, err = checkAll(ctx, store, true); err != nil {
		return err
	}
	tags := result.Unpullable()
	plan = Untagging(inv, tags, time.Now())
	return taken(func(taker *quarantine.Taker) error {
		_, err := RemoveTags(ctx, store, plan, tags, taker.Remove)
		return err
	})
}

// withoutOwn returns a snapshot without regsweep's own files.
func withoutOwn(files map[string]string) map[string]string {
	files = maps.Clone(files)
	maps.DeleteFunc(files, func(path, _ string) bool { return strings.Contains(path, storage.OwnDir) })
	return files
}

// TestLinksAreWrittenAgain: every link whose blob is intact, however it is damaged, and no other file.
func TestLinksAreWrittenAgain(t *testing.T) {
	t.Parallel()
	damage := func(r *repairable) {
		layer, revision := func(d digest.Digest) string { return layout.LayerPath("app", d) }, func(m *imagetest.Manifest) string { return layout.RevisionPath("app", m.Digest()) }
		r.Remove(layer(own(r.single)))
		r.Write(layer(own(r.child)), "")
		r.Write(layer(own(r.sibling)), own(r.sibling).String()+"\n")
		r.Remove(revision(r.child))
		r.Write(revision(r.single), r.child.Digest().String())
		r.Write(revision(r.untagged), "\x00\x00\x00")
		r.Write(layout.TagPath("app", "index"), r.index.Digest().String()+"\n")
	}
	for _, into := range []string{"a directory", "a bucket"} {
		t.Run(into, func(t *testing.T) {
			r := newRepairable(t)
			unneeded := r.Blob([]byte("nobody needs it"))
			r.LayerLink("app", unneeded)
			want := imagetest.SnapshotT(t, r.Root())
			r.Write(layout.LayerPath("app", unneeded), "damaged")
			damage(r)
			var store storage.Store
			served := registrytest.Config{Root: r.Root()}
			if into == "a directory" {
				link := r.Path(layout.RevisionPath("app", r.sibling.Digest()))
				if err := errors.Join(os.Remove(link), os.Symlink("nowhere", link)); err != nil {
					t.Fatal(err)
				}
				store = directory(t, r.Root())
			} else {
				store, served = bucket(t, r.Root())
			}
			result, inv := check(t, store, false)
			planned := result.Links(inv)
			if err := CheckLinks(t.Context(), store, planned, map[digest.Digest]bool{}); err != nil {
				t.Fatal(err)
			}
			done, err := WriteLinks(t.Context(), store, result.Links(inv), map[digest.Digest]bool{})
			if err != nil {
				t.Error(err)
			}
			if !slices.Equal(planned, done) || len(done) < 8 {
				t.Errorf("planned %+v, done %+v", planned, done)
			}
			if result, _ := check(t, store, true); len(result.Findings) > 0 {
				for _, f := range result.Findings {
					t.Errorf("left: %+v", f)
				}
			}
			if into == "a directory" {
				if got := withoutOwn(imagetest.SnapshotT(t, r.Root())); !maps.Equal(got, want) {
					t.Errorf("there is %v\nwant %v", got, want)
				}
			}
			if err := registrytest.StartT(t, served).Client().PullAll(t.Context(), "app", "single", "again", "index"); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestNoLinkIsWrittenToADamagedBlob: the plan, once it is checked, says so too.
func TestNoLinkIsWrittenToADamagedBlob(t *testing.T) {
	t.Parallel()
	r := newRepairable(t)
	wrong, missing := own(r.single), own(r.child)
	r.Remove(layout.LayerPath("app", wrong))
	r.Write(layout.BlobPath(wrong), strings.Repeat("x", 100)) // the size is right
	r.Remove(layout.LayerPath("app", missing))
	r.Remove(layout.BlobPath(missing))
	store := directory(t, r.Root())
	before := imagetest.SnapshotT(t, r.Root())
	result, inv := check(t, store, false)
	planned := result.Links(inv)
	if err := CheckLinks(t.Context(), store, planned, map[digest.Digest]bool{}); err != nil {
		t.Fatal(err)
	}
	done, err := WriteLinks(t.Context(), store, result.Links(inv), map[digest.Digest]bool{})
	if err != nil || !slices.Equal(planned, done) || len(done) != 1 || done[0].Digest != wrong || !strings.Contains(done[0].Error, "not intact") {
		t.Errorf("planned %+v, done %+v, %v", planned, done, err)
	}
	if got := imagetest.SnapshotT(t, r.Root()); !maps.Equal(got, before) {
		t.Errorf("there is %v", got)
	}
}

// A file where a directory belongs prevents one link, and no other.
func TestAFileInPlaceOfADirectoryPreventsOneLink(t *testing.T) {
	t.Parallel()
	r := newRepairable(t)
	blocked, free := layout.LayerPath("app", own(r.single)), layout.LayerPath("app", own(r.child))
	for _, link := range []string{blocked, free} {
		r.Remove(link)
		if err := os.Remove(r.Path(path.Dir(link))); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	r.Write(path.Dir(blocked), "stray")
	store := directory(t, r.Root())
	result, inv := check(t, store, false)
	links, err := WriteLinks(t.Context(), store, result.Links(inv), map[digest.Digest]bool{})
	if err != nil || len(links) != 2 || !r.Exists(free) {
		t.Fatalf("%+v, %v", links, err)
	}
	for _, l := range links {
		if (l.Error == "") != (l.Path == free) {
			t.Errorf("%+v", l)
		}
	}
}

// TestSwappedLinksStay: a registry follows a layer link twice, so the images can be pulled as long as both links are wrong.
func TestSwappedLinksStay(t *testing.T) {
	t.Parallel()
	r := newRepairable(t)
	a, b := own(r.single), own(r.child)
	r.Write(layout.LayerPath("app", a), b.String())
	r.Write(layout.LayerPath("app", b), a.String())
	result, inv := check(t, directory(t, r.Root()), false)
	if links := result.Links(inv); len(result.Findings) != 2 || len(result.Broken) != 0 || len(links) != 0 {
		t.Errorf("%d findings, %d broken tags, and these links would be written: %+v", len(result.Findings), len(result.Broken), links)
	}
}

// TestWrittenLinksBelongToTheRegistry: new ones and replaced ones have the owner of their directory.
func TestWrittenLinksBelongToTheRegistry(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("only root can give files away")
	}
	r := newRepairable(t)
	const uid, gid = 1234, 5678
	for name := range imagetest.SnapshotT(t, r.Root()) {
		for ; name != "."; name = path.Dir(name) {
			if err := os.Lchown(path.Join(r.Root(), name), uid, gid); err != nil {
				t.Fatal(err)
			}
		}
	}
	missing, damaged := layout.LayerPath("app", own(r.single)), layout.RevisionPath("app", r.single.Digest())
	if err := errors.Join(os.RemoveAll(path.Dir(r.Path(missing))), os.WriteFile(r.Path(damaged), nil, 0o600), os.Chown(r.Path(damaged), 0, 0)); err != nil {
		t.Fatal(err)
	}
	store := directory(t, r.Root())
	result, inv := check(t, store, false)
	if done, err := WriteLinks(t.Context(), store, result.Links(inv), map[digest.Digest]bool{}); err != nil || len(done) != 2 {
		t.Fatalf("%+v, %v", done, err)
	}
	for _, name := range []string{r.Path(missing), path.Dir(r.Path(missing)), r.Path(damaged)} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if stat := info.Sys().(*syscall.Stat_t); stat.Uid != uid || stat.Gid != gid || info.Mode()&0o044 != 0o044 {
			t.Errorf("%s is %s of %d:%d", name, info.Mode(), stat.Uid, stat.Gid)
		}
	}
}

// unreadable is a fake. It can't read some objects.
type unreadable struct {
	storage.Store
	errs map[string]error
}

// errBadSector is the error of a directory on a disk that fails.
var errBadSector = fmt.Errorf("%w: %w", storage.ErrUnreadable, syscall.EIO)

func (u unreadable) Stream(ctx context.Context, path string, w io.Writer) error {
	if err := u.errs[path]; err != nil {
		return &fs.PathError{Op: "read", Path: path, Err: err}
	}
	return u.Store.Stream(ctx, path, w)
}

// TestOnlyDamagedBlobsAreMoved: what is intact again stays, and so does what others may be able to read. The quarantine
// tells what was moved, and does not put it back.
func TestOnlyDamagedBlobsAreMoved(t *testing.T) {
	t.Parallel()
	for _, into := range []string{"a directory", "a bucket"} {
		t.Run(into, func(t *testing.T) {
			r := newRepairable(t)
			wrong, healed, denied, archived, bad := own(r.single), own(r.child), own(r.sibling), own(r.untagged), r.single.Blobs[1].Digest()
			short := r.sibling.Digest()
			r.Write(layout.BlobPath(wrong), "wrong")
			r.Write(layout.BlobPath(healed), "healed before it is moved")
			r.Write(layout.BlobPath(short), "{}")
			noManifest := r.Blob([]byte("its digest is right, and it is no manifest"))
			r.Revision("app", noManifest)
			store, served := directory(t, r.Root()), registrytest.Config{Root: r.Root()}
			if into == "a bucket" {
				store, served = bucket(t, r.Root())
			}
			failing := unreadable{store, map[string]error{
				layout.BlobPath(denied): syscall.EACCES, layout.BlobPath(archived): storage.ErrUnreadable, layout.BlobPath(bad): errBadSector,
			}}
			want := 3
			if into == "a bucket" { // errors of a filesystem are of this machine there
				delete(failing.errs, layout.BlobPath(denied))
				delete(failing.errs, layout.BlobPath(bad))
				want--
			}
			result, inv := check(t, failing, true)
			found := result.Wrong(inv)
			for _, content := range r.child.Blobs {
				if content.Digest() == healed {
					if err := store.Overwrite(t.Context(), layout.BlobPath(healed), content.Content); err != nil {
						t.Fatal(err)
					}
				}
			}
			planned, err := CheckWrong(t.Context(), failing, found)
			if err != nil {
				t.Fatal(err)
			}
			plan := &sweep.Given{Storage: store.Identity(), Time: time.Now()}
			for _, b := range planned {
				plan.Removals = append(plan.Removals, sweep.Take(b.Digest, b.Bytes, "its content is damaged"))
			}
			taker, err := quarantine.Begin(t.Context(), store, plan, time.Now(), rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			moved, err := MoveWrong(t.Context(), failing, found, func(ctx context.Context, d digest.Digest) error {
				return taker.Remove(ctx, []storage.Ref{{Path: layout.BlobPath(d)}})[0].Err
			})
			if err := errors.Join(err, taker.End(t.Context())); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(planned, moved) {
				t.Errorf("planned %+v, moved %+v", planned, moved)
			}
			stays := map[digest.Digest]bool{archived: true, wrong: false, short: false}
			if into == "a directory" {
				stays[denied], stays[bad] = true, false
			}
			for _, b := range moved {
				if stayed, expected := stays[b.Digest]; !expected || stayed != (b.Error != "") {
					t.Errorf("%+v", b)
				}
				if _, err := store.Stat(t.Context(), layout.BlobPath(b.Digest)); (err == nil) != stays[b.Digest] {
					t.Errorf("%s: %v", b.Digest, err)
				}
			}
			if _, err := store.Stat(t.Context(), layout.BlobPath(healed)); len(moved) != len(stays) || err != nil {
				t.Errorf("%d blobs were moved, %v", len(moved), err)
			}

			var listed []string
			run, err := quarantine.Show(t.Context(), store, taker.Run, func(r sweep.Removal) error {
				listed = append(listed, string(r.Kind)+" "+r.Reason)
				return nil
			})
			if want := slices.Repeat([]string{"blob its content is damaged"}, want); err != nil || !slices.Equal(listed, want) || run.Plan[sweep.Blob].Count != len(stays) {
				t.Errorf("the quarantine lists %q, %+v, %v", listed, run.Plan, err)
			}
			// Its disk can't be read either once it is in the quarantine.
			failing.errs[storage.QuarantineDir+"/"+taker.Run+"/"+layout.BlobPath(bad)] = errBadSector
			restored, err := quarantine.Restore(t.Context(), failing, taker.Run, quarantine.RestoreOptions{})
			if err != nil || restored.LeftCount != want || restored.Back[sweep.Blob].Count != 0 {
				t.Errorf("a restoration: %+v, %v", restored, err)
			}
			for _, left := range restored.Left {
				if left.Why != quarantine.WhyDamaged {
					t.Errorf("left: %+v", left)
				}
			}
			// A push stores the blobs again.
			client := registrytest.StartT(t, served).Client()
			if err := errors.Join(client.Push(t.Context(), "app:single", r.single), client.Push(t.Context(), "app:index", r.index)); err != nil {
				t.Fatal(err)
			}
			if err := client.PullAll(t.Context(), "app", "single", "index"); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestLostTagsAreRemoved: with all that is of them, and a restoration brings back what was whole of them.
func TestLostTagsAreRemoved(t *testing.T) {
	t.Parallel()
	for _, into := range []string{"a directory", "a bucket"} {
		t.Run(into, func(t *testing.T) {
			r := newRepairable(t)
			r.Remove(layout.BlobPath(own(r.single))) // of single and again
			r.Remove(layout.BlobPath(r.sibling.Digest()))
			target := r.index.Digest()
			r.TagIndex("app", "nocurrent", target)
			r.Tag("app", "empty", target)
			r.TagIndex("app", "empty", target)
			r.Write(layout.TagPath("app", "empty"), "")
			r.Write(layout.TagPath("app", "noindex"), "nothing")
			r.Tag("app", "cured", target)
			r.Write(layout.TagPath("app", "cured"), " "+target.String())
			unknown := &imagetest.Manifest{MediaType: "application/vnd.example.unknown", Content: []byte(`{"mediaType":"application/vnd.example.unknown","schemaVersion":9}`)}
			r.Tag("app", "unknown", r.Manifest("app", unknown))
			want := imagetest.SnapshotT(t, r.Root())
			store := directory(t, r.Root())
			if into == "a bucket" {
				store, _ = bucket(t, r.Root())
			}
			result, inv := check(t, store, false)
			tags := result.Unpullable()
			names := func(tags []TagRepair) (names []string) {
				for _, t := range tags {
					names = append(names, t.Tag+t.Error)
				}
				return names
			}
			if got, want := names(tags), []string{"again", "empty", "nocurrent", "noindex", "single"}; !slices.Equal(got, want) {
				t.Fatalf("%v can't be pulled, want %v", got, want)
			}
			// Somebody pushes one of them meanwhile.
			if err := store.Overwrite(t.Context(), layout.TagPath("app", "single"), []byte(target)); err != nil {
				t.Fatal(err)
			}
			plan := Untagging(inv, tags, time.Now())
			taker, err := quarantine.Begin(t.Context(), store, plan, time.Now(), rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			done, err := RemoveTags(t.Context(), store, plan, tags, taker.Remove)
			if err := errors.Join(err, taker.End(t.Context())); err != nil {
				t.Fatal(err)
			}
			if got, want := names(done), []string{"again", "empty", "nocurrent", "noindex", "single" + errPushed.Error()}; !slices.Equal(got, want) {
				t.Errorf("%v were removed, want %v", got, want)
			}
			_, inv = check(t, store, false)
			var left []string
			for _, tag := range inv.Repository("app").Tags {
				left = append(left, tag.Name)
			}
			if want := []string{"cured", "index", "single", "unknown"}; !slices.Equal(left, want) {
				t.Errorf("%v are left, want %v", left, want)
			}
			restored, err := quarantine.Restore(t.Context(), store, taker.Run, quarantine.RestoreOptions{})
			if err != nil || restored.LeftCount != 0 || restored.Back[sweep.Tag].Count != 1 || restored.Back[sweep.TagIndexEntry].Count != 3 || restored.There[sweep.Tag].Count != 1 {
				t.Errorf("a restoration: %+v, %v", restored, err)
			}
			if into == "a directory" {
				got := withoutOwn(imagetest.SnapshotT(t, r.Root()))
				for name, content := range want {
					isGone := strings.Contains(name, "/noindex/") || strings.Contains(name, "/empty/current") || strings.Contains(name, "/single/current")
					if got[name] != content && !isGone {
						t.Errorf("%s has %q, want %q", name, got[name], content)
					}
				}
			}
		})
	}
}

// TestTagsOfUnreadableContentStay: a registry may be able to read it.
func TestTagsOfUnreadableContentStay(t *testing.T) {
	t.Parallel()
	lostTags := func(t *testing.T, store storage.Store) []TagRepair {
		result, _ := check(t, store, true)
		tags, err := result.CheckTags(t.Context(), store, result.Unpullable())
		if err != nil {
			t.Fatal(err)
		}
		return tags
	}
	for cause, kept := range map[error]bool{syscall.EACCES: true, storage.ErrUnreadable: true, errBadSector: false} {
		t.Run(cause.Error(), func(t *testing.T) {
			r := newRepairable(t)
			store := unreadable{directory(t, r.Root()), map[string]error{layout.BlobPath(own(r.single)): cause}}
			if tags := lostTags(t, store); (len(tags) == 0) != kept {
				t.Errorf("%v are lost", tags)
			}
		})
	}
	for name, of := range map[string]func(*repairable) string{
		"a layer":      func(r *repairable) string { return layout.BlobPath(own(r.single)) },
		"a manifest":   func(r *repairable) string { return layout.BlobPath(r.single.Digest()) },
		"a blob":       func(r *repairable) string { return path.Dir(layout.BlobPath(own(r.single))) },
		"a layer link": func(r *repairable) string { return layout.LayerPath("app", own(r.single)) },
		"a revision":   func(r *repairable) string { return layout.RevisionPath("app", r.single.Digest()) },
		"a current":    func(r *repairable) string { return layout.TagPath("app", "single") },
		"a repository": func(*repairable) string { return layout.RepositoryPath("app") },
	} {
		t.Run(name+" behind a link", func(t *testing.T) {
			r := newRepairable(t)
			file, target := r.Path(of(r)), path.Join(t.TempDir(), "data")
			if err := errors.Join(os.Rename(file, target), os.Symlink(target, file)); err != nil {
				t.Fatal(err)
			}
			if err := registrytest.StartT(t, registrytest.Config{Root: r.Root()}).Client().PullAll(t.Context(), "app", "single"); err != nil {
				t.Fatal(err)
			}
			if tags := lostTags(t, directory(t, r.Root())); len(tags) > 0 {
				t.Errorf("%v are lost, and can be pulled", tags)
			}
		})
	}
	for name, of := range map[string]func(*repairable) string{
		"a layer":   func(r *repairable) string { return layout.BlobPath(own(r.single)) },
		"a current": func(r *repairable) string { return layout.TagPath("app", "single") },
	} {
		t.Run("a directory for "+name, func(t *testing.T) {
			r := newRepairable(t)
			if err := errors.Join(os.Remove(r.Path(of(r))), os.Mkdir(r.Path(of(r)), 0o755)); err != nil {
				t.Fatal(err)
			}
			if tags := lostTags(t, directory(t, r.Root())); len(tags) == 0 {
				t.Error("nothing is lost")
			}
		})
	}
	r := newRepairable(t)
	r.Write(layout.BlobPath(own(r.single)), "wrong")
	if tags := lostTags(t, directory(t, r.Root())); len(tags) != 2 {
		t.Errorf("%v are lost, want the two with wrong content", tags)
	}
}

// failing is a fake. One of its calls fails, and all after it if it dies. If it is late, the storage has carried out the
// call that fails.
type failing struct {
	storage.Store
	calls      atomic.Int64
	at         int64
	dies, late bool
}

var errFails = fmt.Errorf("on purpose: %w", syscall.ENETDOWN)

func (f *failing) call(do func() error) error {
	call := f.calls.Add(1)
	if f.at > 0 && call > f.at && f.dies || call == f.at && !f.late {
		return errFails
	}
	if err := do(); err != nil || call != f.at {
		return err
	}
	return errFails
}

func (f *failing) Read(ctx context.Context, path string, limit int64) (content []byte, err error) {
	err = f.call(func() (err error) { content, err = f.Store.Read(ctx, path, limit); return err })
	return content, err
}

func (f *failing) Stream(ctx context.Context, path string, w io.Writer) error {
	return f.call(func() error { return f.Store.Stream(ctx, path, w) })
}

func (f *failing) Put(ctx context.Context, path string, content io.ReadSeeker) error {
	return f.call(func() error { return f.Store.Put(ctx, path, content) })
}

func (f *failing) Overwrite(ctx context.Context, path string, content []byte) error {
	return f.call(func() error { return f.Store.Overwrite(ctx, path, content) })
}

func (f *failing) Move(ctx context.Context, moves []storage.Move) (outcomes []storage.Outcome) {
	err := f.call(func() error { outcomes = f.Store.Move(ctx, moves); return nil })
	if err != nil {
		outcomes = slices.Repeat([]storage.Outcome{{Err: err}}, len(moves))
	}
	return outcomes
}

func (f *failing) Remove(ctx context.Context, refs []storage.Ref) (outcomes []storage.Outcome) {
	err := f.call(func() error { outcomes = f.Store.Remove(ctx, refs); return nil })
	if err != nil {
		outcomes = slices.Repeat([]storage.Outcome{{Err: err}}, len(refs))
	}
	return outcomes
}

func (f *failing) Prune(ctx context.Context, dir string) (gone bool, err error) {
	err = f.call(func() (err error) { gone, err = f.Store.Prune(ctx, dir); return err })
	return gone, err
}

func (f *failing) Sync(ctx context.Context) error {
	return f.call(func() error { return f.Store.Sync(ctx) })
}

func (f *failing) Below(ctx context.Context, dir string, visit func([]storage.Object) error) error {
	return f.call(func() error { return f.Store.Below(ctx, dir, visit) })
}

// TestEachCallOfARepairFails: nothing is worse than before, and a second run completes the repair. Each object is at its path
// or in a quarantine, and no link that keeps something alive is missing at any time.
func TestEachCallOfARepairFails(t *testing.T) {
	t.Parallel()
	prepare := func(t *testing.T) *repairable {
		r := newRepairable(t)
		r.Write(layout.BlobPath(own(r.single)), "wrong")
		r.Remove(layout.LayerPath("app", own(r.child)))
		r.Write(layout.RevisionPath("app", r.untagged.Digest()), "damaged")
		r.Write(layout.RevisionPath("app", r.child.Digest()), "")
		r.Tag("app", "empty", r.index.Digest())
		r.TagIndex("app", "empty", r.index.Digest())
		r.Write(layout.TagPath("app", "empty"), "")
		return r
	}
	undisturbed := prepare(t)
	counted := &failing{Store: directory(t, undisturbed.Root())}
	if err := repairAll(t.Context(), counted); err != nil {
		t.Fatal(err)
	}
	want := withoutOwn(imagetest.SnapshotT(t, undisturbed.Root()))
	if len(want) == 0 || counted.calls.Load() < 30 {
		t.Fatalf("%d files after %d calls", len(want), counted.calls.Load())
	}
	step := int64(1)
	if testing.Short() {
		step = 9
	}
	for at := int64(1); at <= counted.calls.Load(); at += step {
		for _, way := range []*failing{{dies: true}, {late: at%2 == 0}} {
			r := prepare(t)
			before := imagetest.SnapshotT(t, r.Root())
			store := directory(t, r.Root())
			way.Store, way.at = store, at
			what := fmt.Sprintf("call %d, late %t, dies %t", at, way.late, way.dies)
			err := repairAll(t.Context(), way)
			after := imagetest.SnapshotT(t, r.Root())
			// The inventory reads again what it does not find.
			if isDone := err == nil && !way.dies && maps.Equal(withoutOwn(after), want); !isDone && !errors.Is(err, errFails) {
				t.Errorf("%s: it ends with %v", what, err)
			}
			for name, content := range before {
				isKept := after[name] == content || after[name] == r.whole[name] && after[name] != ""
				for moved, found := range after {
					isKept = isKept || strings.Contains(moved, storage.QuarantineDir) && strings.HasSuffix(moved, strings.TrimPrefix(name, storage.Root)) && found == content
				}
				// A current link without a digest has nothing that could be kept.
				if !isKept && !strings.HasSuffix(name, layout.TagPath("app", "empty")) {
					t.Errorf("%s: %s has %q and had %q", what, name, after[name], content)
				}
			}
			if err := repairAll(t.Context(), store); err != nil {
				t.Errorf("%s: the second run ends with %v", what, err)
			}
			if got := withoutOwn(imagetest.SnapshotT(t, r.Root())); !maps.Equal(got, want) {
				t.Errorf("%s: after the second run there is %v\nwant %v", what, slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
			}
		}
	}
}

// TestARepairChecksTheLease: nothing is written or removed once it has ended.
func TestARepairChecksTheLease(t *testing.T) {
	t.Parallel()
	r := newRepairable(t)
	r.Remove(layout.LayerPath("app", own(r.child)))
	r.Write(layout.RevisionPath("app", r.child.Digest()), "")
	r.Write(layout.BlobPath(own(r.single)), "wrong")
	before := imagetest.SnapshotT(t, r.Root())
	store := directory(t, r.Root())
	result, inv := check(t, store, true)
	lost := errors.New("lost")
	ended := storage.WithLease(t.Context(), func(context.Context) error { return lost })
	for _, link := range result.Links(inv) {
		done, err := WriteLinks(ended, store, []LinkRepair{link}, map[digest.Digest]bool{})
		if !errors.Is(err, lost) || done[0].Error == "" {
			t.Errorf("%s: %+v, %v", link.Path, done, err)
		}
	}
	moved, err := MoveWrong(ended, store, result.Wrong(inv), func(ctx context.Context, d digest.Digest) error {
		return store.Move(ctx, []storage.Move{{From: layout.BlobPath(d), To: quarantined(d)}})[0].Err
	})
	if !errors.Is(err, lost) || len(moved) != 0 {
		t.Errorf("%+v, %v", moved, err)
	}
	tags := result.Unpullable()
	done, err := RemoveTags(ended, store, Untagging(inv, tags, time.Now()), tags, store.Remove)
	if !errors.Is(err, lost) || len(done) != 2 || done[0].Error == "" || done[1].Error != ErrNotTried.Error() {
		t.Errorf("%+v, %v", done, err)
	}
	if got := withoutOwn(imagetest.SnapshotT(t, r.Root())); !maps.Equal(got, before) {
		t.Errorf("there is %v", got)
	}
}
