package quarantine_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"regsweep/internal/imagetest"
	"regsweep/inventory"
	"regsweep/mark"
	"regsweep/quarantine"
	"regsweep/storage"
	"regsweep/storage/config"
	"regsweep/storage/open"
	"regsweep/sweep"

	"github.com/opencontainers/go-digest"
)

// registry is a tree of a registry with a store of it.
type registry struct {
	*imagetest.Tree
	t     *testing.T
	store storage.Store
}

func newRegistry(t *testing.T) *registry {
	t.Helper()
	tree := imagetest.NewTree(t, t.TempDir())
	tree.Mkdir("")
	config, err := config.ParseTarget(tree.Root(), func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	store, err := open.Store(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	return &registry{tree, t, store}
}

// untagged pushes an image whose tag was then deleted.
func (r *registry) untagged(repository string, layers ...imagetest.Blob) *imagetest.Manifest {
	image := imagetest.Image(imagetest.OCI, layers...)
	r.Manifest(repository, image)
	return image
}

// live pushes an image that nothing may touch.
func (r *registry) live(repository string) digest.Digest {
	d := r.Manifest(repository, imagetest.Image(imagetest.OCI, imagetest.Layer(1, 100)))
	r.Tag(repository, "v1", d)
	return d
}

// liveWithoutUntagged is what is alive if untagged revisions are garbage.
func liveWithoutUntagged(ctx context.Context, inv *inventory.Inventory, store storage.Store) (*mark.Live, error) {
	graph, err := mark.Read(ctx, inv, store, mark.ReadOptions{})
	if err != nil {
		return nil, err
	}
	live, err := graph.Live(ctx, mark.Roots{Revision: mark.None})
	if err != nil {
		return nil, err
	}
	return live.CheckLinks(ctx, store, 0)
}

func (r *registry) plan() *sweep.Plan {
	r.t.Helper()
	ctx, now := r.t.Context(), time.Now()
	inventory, err := inventory.Take(ctx, r.store, inventory.Options{})
	if err != nil {
		r.t.Fatal(err)
	}
	live, err := liveWithoutUntagged(ctx, inventory, r.store)
	if err != nil {
		r.t.Fatal(err)
	}
	plan, err := sweep.NewPlan(ctx, inventory, live, r.store, sweep.Options{
		Now: now, UploadAge: time.Hour, DeleteUntagged: true, PruneEmpty: true, Quarantine: true,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return plan
}

// take moves what is garbage into a quarantine and returns its name.
func (r *registry) take() string {
	r.t.Helper()
	plan := r.plan()
	taker, err := quarantine.Begin(r.t.Context(), r.store, plan, time.Now(), rand.Reader)
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := plan.Execute(r.t.Context(), taker, sweep.ExecuteOptions{}); err != nil {
		r.t.Fatal(err)
	}
	if err := taker.End(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	return taker.Run
}

func (r *registry) restore(run string, options quarantine.RestoreOptions) quarantine.Restored {
	r.t.Helper()
	restored, err := quarantine.Restore(r.t.Context(), r.store, run, options)
	if err != nil {
		r.t.Fatal(err)
	}
	return restored
}

// kept is where a run has an object.
func kept(run, path string) string { return quarantine.Dir + "/" + run + "/" + path }

// everything is each file and directory of the layout with its content, permissions and
// owner, but for what is regsweep's own.
func (r *registry) everything() map[string]string {
	r.t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(r.Path(""), func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.Name() == storage.OwnDir {
			return fs.SkipDir
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		owner := info.Sys().(*syscall.Stat_t)
		content := []byte{}
		if info.Mode().IsRegular() {
			if content, err = os.ReadFile(path); err != nil {
				return err
			}
		}
		all[path] = fmt.Sprintf("%v %d:%d %s", info.Mode(), owner.Uid, owner.Gid, content)
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return all
}

func (r *registry) same(before map[string]string, what string) {
	r.t.Helper()
	after := r.everything()
	for _, path := range slices.Sorted(maps.Keys(before)) {
		if got, found := after[path]; !found || got != before[path] {
			r.t.Errorf("%s: %s was %.60q and is %.60q", what, path, before[path], got)
		}
	}
	for path := range after {
		if _, found := before[path]; !found {
			r.t.Errorf("%s: %s is new", what, path)
		}
	}
}

// Everything that a sweep can take comes back as it was: content, owners, permissions,
// empty directories, and links that say something else than they should.
func TestARegistryIsRestoredByteForByte(t *testing.T) {
	r := newRegistry(t)
	r.live("team/app")
	r.untagged("team/app", imagetest.Layer(2, 100))
	r.untagged("gone/with/all", imagetest.Layer(2, 100), imagetest.Layer(3, 0))
	r.Upload("team/app", "old", time.Now().Add(-2*time.Hour), []byte("half a layer"))
	r.Blob([]byte("what a crash left"))
	stale := r.Blob([]byte(`{"schemaVersion":1}`))
	r.TagIndex("team/app", "v1", stale)
	r.Write(imagetest.TagIndexPath("team/app", "v1", digest.FromString("damaged")), "no digest\n")
	r.LayerLink("team/app", digest.FromString("a blob that is missing"))
	r.Revision("team/app", digest.FromString("a manifest that is missing"))
	signed := r.Manifest("team/app", imagetest.Schema1("team/app", "v0", imagetest.Layer(4, 10)))
	signature := r.Blob([]byte("signature"))
	r.Write(imagetest.SignaturePath("team/app", signed, signature), signature.String())
	deleted := digest.FromString("a deleted referrer")
	r.Write(imagetest.SignaturePath("team/app", deleted, signature), signature.String())
	for _, referrer := range []digest.Digest{deleted, signed} {
		r.Write("repositories/team/app/_refs/subjects/sha256/"+stale.Encoded()+"/sha256/"+referrer.Encoded()+"/link", referrer.String())
		r.Write("repositories/team/app/_manifests/revisions/sha256/"+stale.Encoded()+"/_referrers/_text%2Fplain/sha256/"+referrer.Encoded()+"/link", referrer.String())
	}
	r.Mkdir("repositories/empty/_layers/sha256")
	r.Mkdir("repositories/empty/_uploads")
	r.Mkdir("repositories/team/app/_manifests/revisions/sha256/" + digest.FromString("deleted through the API").Encoded())
	if os.Getuid() == 0 {
		r.ownedBy(1234)
	}

	before := r.everything()
	run := r.take()
	if after := r.everything(); len(after) >= len(before) {
		t.Fatalf("of %d files and directories %d are left: nothing was taken", len(before), len(after))
	}
	if n := r.plan().Len(); n != 0 {
		t.Errorf("a second plan takes %d more", n)
	}
	restored := r.restore(run, quarantine.RestoreOptions{})
	if restored.LeftCount != 0 {
		t.Errorf("left: %+v", restored.Left)
	}
	r.same(before, "restored")
	if r.Exists(quarantine.Dir) {
		t.Error("what was restored whole is still in the quarantine")
	}
}

// ownedBy gives all of the tree to a user, as a registry's tree belongs to one.
func (r *registry) ownedBy(uid int) {
	r.t.Helper()
	err := filepath.WalkDir(r.Path(""), func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			err = os.Chmod(path, 0o2750)
		}
		return errors.Join(err, os.Lchown(path, uid, uid))
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

// What is there is never written over (promise 1): whatever was pushed since stays.
func TestARestorationWritesOverNothing(t *testing.T) {
	r := newRegistry(t)
	r.live("app")
	image := r.untagged("app", imagetest.Layer(2, 100))
	run := r.take()

	layer := image.Blobs[len(image.Blobs)-1].Digest()
	r.Write(imagetest.BlobPath(layer), "another content")                  // which nobody should be able to push
	r.Write(imagetest.BlobPath(image.Digest()), string(image.Content))     // pushed again
	r.Write(imagetest.RevisionPath("app", image.Digest()), "another link") // nor this
	r.Write(imagetest.LayerPath("app", layer), layer.String())             // pushed again
	before := r.everything()
	restored := r.restore(run, quarantine.RestoreOptions{})
	after := r.everything()
	for path, content := range before {
		if after[path] != content {
			t.Errorf("%s was %.50q and is %.50q", path, content, after[path])
		}
	}
	why := map[string]quarantine.Why{}
	for _, left := range restored.Left {
		why[strings.TrimPrefix(left.Path, "/docker/registry/v2/")] = left.Why
	}
	want := map[string]quarantine.Why{
		imagetest.BlobPath(layer): quarantine.WhyOccupied, imagetest.RevisionPath("app", image.Digest()): quarantine.WhyOccupied,
	}
	if !maps.Equal(why, want) {
		t.Errorf("left: %v, want %v", why, want)
	}
	if restored.There[sweep.Blob].Count != 1 || restored.There[sweep.LayerLink].Count != 1 {
		t.Errorf("there already: %v", restored.There)
	}
	if !r.Exists(kept(run, imagetest.BlobPath(layer))) || r.Exists(kept(run, imagetest.BlobPath(image.Digest()))) {
		t.Error("the quarantine has not kept what was not restored, or has kept what is not needed")
	}
}

// A blob that has rotted in the quarantine does not get back into the registry, and nothing
// that leads to it does: a registry would serve half an image.
func TestADamagedBlobIsNotRestored(t *testing.T) {
	r := newRegistry(t)
	r.live("app")
	image := r.untagged("app", imagetest.Layer(2, 100))
	layer := image.Blobs[len(image.Blobs)-1].Digest()
	r.LayerLink("app", digest.FromString("a blob that was missing before"))
	before := r.everything()
	run := r.take()
	r.Write(kept(run, imagetest.BlobPath(layer)), "rotten")
	restored := r.restore(run, quarantine.RestoreOptions{})
	why := map[string]quarantine.Why{}
	for _, left := range restored.Left {
		why[strings.TrimPrefix(left.Path, "/docker/registry/v2/")] = left.Why
	}
	want := map[string]quarantine.Why{imagetest.BlobPath(layer): quarantine.WhyDamaged, imagetest.LayerPath("app", layer): quarantine.WhyNoBlob}
	if !maps.Equal(why, want) || r.Exists(imagetest.BlobPath(layer)) || r.Exists(imagetest.LayerPath("app", layer)) {
		t.Errorf("left: %v, want %v", why, want)
	}
	// Once it is mended the rest comes back.
	r.Write(kept(run, imagetest.BlobPath(layer)), string(image.Blobs[len(image.Blobs)-1].Content))
	if restored := r.restore(run, quarantine.RestoreOptions{}); restored.LeftCount != 0 {
		t.Errorf("left: %+v", restored.Left)
	}
	r.same(before, "restored")
}

// By its digest an image comes back whole, in the repositories that lost it, and
// nothing else does.
func TestAnImageIsRestoredByItsDigest(t *testing.T) {
	r := newRegistry(t)
	r.live("app")
	shared, own := imagetest.Layer(2, 100), imagetest.Layer(3, 100)
	a, b := r.untagged("app", shared), r.untagged("app", shared, own)
	r.Manifest("other", b)
	index := imagetest.Index(imagetest.OCI, a)
	r.Manifest("app", index)
	run := r.take()

	r.restore(run, quarantine.RestoreOptions{Digest: b.Digest(), Repository: "other"})
	for path, want := range map[string]bool{
		imagetest.BlobPath(b.Digest()): true, imagetest.BlobPath(shared.Digest()): true, imagetest.BlobPath(own.Digest()): true,
		imagetest.RevisionPath("other", b.Digest()): true, imagetest.LayerPath("other", own.Digest()): true, imagetest.LayerPath("other", shared.Digest()): true,
		imagetest.BlobPath(a.Digest()): false, imagetest.RevisionPath("app", b.Digest()): false, imagetest.LayerPath("app", shared.Digest()): false,
	} {
		if r.Exists(path) != want {
			t.Errorf("%s is there: %v", path, !want)
		}
	}
	r.restore(run, quarantine.RestoreOptions{Digest: index.Digest()})
	for _, path := range []string{
		imagetest.BlobPath(index.Digest()), imagetest.BlobPath(a.Digest()), imagetest.RevisionPath("app", index.Digest()),
		imagetest.RevisionPath("app", a.Digest()), imagetest.LayerPath("app", shared.Digest()),
	} {
		if !r.Exists(path) {
			t.Errorf("%s is not there", path)
		}
	}
	if r.Exists(imagetest.RevisionPath("app", b.Digest())) {
		t.Error("an image came back that nobody asked for")
	}
	_, err := quarantine.Restore(t.Context(), r.store, run, quarantine.RestoreOptions{Digest: digest.FromString("none")})
	if nothing := (*quarantine.NothingError)(nil); !errors.As(err, &nothing) {
		t.Errorf("of a digest that was not taken: %v", err)
	}
}

// Links that went with a plan come back from it, where their blobs are.
func TestLinksAreRestoredFromAPlan(t *testing.T) {
	r := newRegistry(t)
	r.live("app")
	image := r.untagged("app", imagetest.Layer(2, 100))
	alias := digest.SHA512.FromBytes([]byte("under another algorithm"))
	stored := r.Blob([]byte("under another algorithm"))
	r.Write(imagetest.LayerPath("app", alias), stored.String())
	before := r.everything()
	plan := r.plan()
	var file bytes.Buffer
	if _, err := plan.WriteTo(&file); err != nil {
		t.Fatal(err)
	}
	if _, err := plan.Execute(t.Context(), r.store, sweep.ExecuteOptions{}); err != nil {
		t.Fatal(err)
	}
	opened, err := sweep.OpenFile(bytes.NewReader(file.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	restored, err := quarantine.RestoreLinks(t.Context(), r.store, opened, quarantine.RestoreOptions{})
	if err != nil || restored.LeftCount == 0 || restored.Back[sweep.LayerLink].Count != 0 {
		t.Errorf("without blobs: %+v, %v", restored, err)
	}
	for _, blob := range append([]imagetest.Blob{{Content: image.Content}, {Content: []byte("under another algorithm")}}, image.Blobs...) {
		r.Blob(blob.Content)
	}
	restored, err = quarantine.RestoreLinks(t.Context(), r.store, opened, quarantine.RestoreOptions{})
	if err != nil || restored.LeftCount != 0 {
		t.Errorf("with blobs: %+v, %v", restored, err)
	}
	r.same(before, "restored")
}

// A line of a plan can name no path outside of where such things are.
func TestAPlanNamesNothingOutsideItsPlace(t *testing.T) {
	for name, removal := range map[string]sweep.Removal{
		"a repository": {Kind: sweep.LayerLink, Repository: "../blobs", Digest: digest.FromString("x")},
		"a tag":        {Kind: sweep.TagIndexEntry, Repository: "app", Tag: "../..", Digest: digest.FromString("x")},
		"a tag's path": {Kind: sweep.TagIndexEntry, Repository: "app", Tag: "a/b", Digest: digest.FromString("x")},
		"an upload":    {Kind: sweep.Upload, Repository: "app", Upload: ".."},
		"a digest":     {Kind: sweep.LayerLink, Repository: "app", Digest: "sha256:../../../x"},
		"a target":     {Kind: sweep.LayerLink, Repository: "app", Digest: digest.FromString("x"), Target: "x\ny"},
		"a signature":  {Kind: sweep.Revision, Repository: "app", Digest: digest.FromString("x"), SignatureDigests: []digest.Digest{"../.."}},
	} {
		if removal.IsNamed() {
			t.Errorf("%s: %+v is taken for one", name, removal)
		}
	}
	good := sweep.Removal{Kind: sweep.TagIndexEntry, Repository: "a/b", Tag: "v1", Digest: digest.FromString("x")}
	if !good.IsNamed() {
		t.Errorf("%+v is not taken for one", good)
	}
}

// Purged is gone, of this run and of no other; the plan goes last.
func TestAPurgeRemovesOneRun(t *testing.T) {
	r := newRegistry(t)
	r.live("app")
	r.untagged("app", imagetest.Layer(2, 100))
	first := r.take()
	r.Write(kept("20200101T000000Z-00000000", "plan.jsonl"), "no plan")
	r.Mkdir(kept("20200101T000000Z-00000000", "repositories/empty/_layers"))
	before := r.everything()
	runs, err := quarantine.Runs(t.Context(), r.store)
	if err != nil || len(runs) != 2 || runs[0].Damage == "" || runs[1].Name != first || runs[1].Objects.Count == 0 {
		t.Fatalf("the runs are %+v, %v", runs, err)
	}

	if runs[0].IsRemnant() {
		t.Error("a damaged plan, from which somebody may yet restore, is taken for nothing")
	}
	stopped := &failing{Store: r.store, after: 3}
	if _, err := quarantine.Purge(t.Context(), stopped, first); !errors.Is(err, errFails) {
		t.Fatalf("a storage that fails: %v", err)
	}
	if !r.Exists(kept(first, "plan.jsonl")) {
		t.Error("the plan went before what it accounts for")
	}
	freed, err := quarantine.Purge(t.Context(), r.store, first)
	if err != nil || freed.Count != runs[1].Objects.Count-3 {
		t.Errorf("freed %+v of %+v, %v", freed, runs[1].Objects, err)
	}
	if r.Exists(quarantine.Dir+"/"+first) || !r.Exists(kept("20200101T000000Z-00000000", "repositories/empty/_layers")) {
		t.Error("the wrong run went")
	}
	r.same(before, "purged")
	r.Remove(kept("20200101T000000Z-00000000", "plan.jsonl"))
	if runs, err := quarantine.Runs(t.Context(), r.store); err != nil || len(runs) != 1 || !runs[0].IsRemnant() {
		t.Errorf("empty directories are no remnant: %+v, %v", runs, err)
	}
	if _, err := quarantine.Purge(t.Context(), r.store, "20200101T000000Z-00000000"); err != nil || r.Exists(quarantine.Dir) {
		t.Errorf("the last run: %v", err)
	}
}

// What a restoration has left that was cut off once the plan was gone goes with the next,
// and objects that have lost their plan, or have a damaged one, stay.
func TestARestorationIsFinished(t *testing.T) {
	r := newRegistry(t)
	r.live("app")
	r.Mkdir(kept("left", "repositories/app/_layers"))
	r.Write(kept("lost", "blobs/sha256/ab/data"), "what nobody accounts for")
	r.Write(kept("damaged", "plan.jsonl"), "no plan")
	for run, stays := range map[string]bool{"left": false, "lost": true, "damaged": true} {
		_, err := quarantine.Restore(t.Context(), r.store, run, quarantine.RestoreOptions{DryRun: true})
		if err == nil || !r.Exists(quarantine.Dir+"/"+run) {
			t.Errorf("a dry run on %s: %v", run, err)
		}
		_, err = quarantine.Restore(t.Context(), r.store, run, quarantine.RestoreOptions{})
		if none := (*quarantine.NoRunError)(nil); errors.As(err, &none) == stays {
			t.Errorf("restoring %s: %v", run, err)
		}
		if r.Exists(quarantine.Dir+"/"+run) != stays {
			t.Errorf("%s is there: %v", run, !stays)
		}
	}
}

var errFails = errors.New("the storage fails")

// failing is a fake fault: a storage that removes so many objects and then fails.
type failing struct {
	storage.Store
	after int
}

func (f *failing) Remove(ctx context.Context, refs []storage.Ref) []storage.Outcome {
	outcomes := make([]storage.Outcome, len(refs))
	for i := range refs {
		if f.after == 0 {
			outcomes[i].Err = errFails
			continue
		}
		f.after--
		outcomes[i] = f.Store.Remove(ctx, refs[i:i+1])[0]
	}
	return outcomes
}

// A name below which the storage has nothing any more is no run, and no error.
func TestANameWithoutObjectsIsNoRun(t *testing.T) {
	r := newRegistry(t)
	runs, err := quarantine.Runs(t.Context(), naming{r.store, "20260102T030405Z-00000000"})
	if err != nil || len(runs) != 0 {
		t.Errorf("the runs are %+v, %v", runs, err)
	}
}

// naming is a storage that names a directory which is not there, as some S3 servers do.
type naming struct {
	quarantine.Store
	name string
}

func (n naming) Names(context.Context, string) ([]string, error) { return []string{n.name}, nil }

// TestARunThatHasNothingOfARepository: the error names the other runs that have some of it.
func TestARunThatHasNothingOfARepository(t *testing.T) {
	r := newRegistry(t)
	r.live("app")
	r.live("other")
	image := r.untagged("app", imagetest.Layer(2, 100))
	first := r.take()
	r.untagged("other", imagetest.Layer(3, 100))
	second := r.take()
	for _, test := range []struct {
		run     string
		options quarantine.RestoreOptions
		others  []string
	}{
		{second, quarantine.RestoreOptions{Repository: "app"}, []string{first}},
		{first, quarantine.RestoreOptions{Repository: "other"}, []string{second}},
		{second, quarantine.RestoreOptions{Digest: image.Digest()}, []string{first}},
		{second, quarantine.RestoreOptions{Digest: image.Digest(), Repository: "app"}, []string{first}},
		{second, quarantine.RestoreOptions{Repository: "none"}, nil},
	} {
		_, err := quarantine.Restore(t.Context(), r.store, test.run, test.options)
		nothing := (*quarantine.NothingError)(nil)
		if !errors.As(err, &nothing) || nothing.Run != test.run || !slices.Equal(nothing.Others, test.others) {
			t.Errorf("%+v: %v, and the others are %v", test.options, err, nothing)
		}
	}
}
