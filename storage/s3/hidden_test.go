package s3

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"regsweep/internal/miniotest"
	"regsweep/storage"
	"regsweep/storage/storagetest"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// versionedBucket is the store of a bucket that keeps versions.
type versionedBucket struct {
	*testing.T
	*Store
	server *miniotest.S3
	bucket string
	plant  func(path, content string)
}

func newVersionedBucket(t *testing.T) *versionedBucket {
	server := miniotest.SharedMinIO(t)
	bucket := server.NewBucketT(t)
	setVersioning(t, server, bucket, types.BucketVersioningStatusEnabled)
	store, plant := openBucket(t, server, bucket)
	return &versionedBucket{t, store.(*Store), server, bucket, plant}
}

// hide removes an object as a sweep does.
func (b *versionedBucket) hide(path string) {
	b.Helper()
	if o := b.Remove(b.Context(), []storage.Ref{{Path: path}})[0]; o.Err != nil || !o.Hidden {
		b.Fatalf("hide %s: %+v", path, o)
	}
}

// current is the current version of an object.
func (b *versionedBucket) current(path string) storage.HiddenVersion {
	b.Helper()
	found, err := b.Current(b.Context(), []string{path})
	if err != nil || len(found) != 1 || found[0].Path != path || found[0].Version == "" {
		b.Fatalf("the current version of %s: %+v, %v", path, found, err)
	}
	return found[0]
}

// left lists the versions of an object: the size or "marker", and an asterisk for the latest.
// Versions come before markers.
func (b *versionedBucket) left(path string) string {
	b.Helper()
	prefix := *b.key(path)
	out, err := b.server.Client().ListObjectVersions(b.Context(), &s3.ListObjectVersionsInput{Bucket: &b.bucket, Prefix: &prefix})
	if err != nil {
		b.Fatal(err)
	}
	var lines []string
	add := func(what string, latest *bool) {
		if *latest {
			what += "*"
		}
		lines = append(lines, what)
	}
	for _, v := range out.Versions {
		add(fmt.Sprint(*v.Size), v.IsLatest)
	}
	for _, m := range out.DeleteMarkers {
		add("marker", m.IsLatest)
	}
	return strings.Join(lines, " ")
}

func (b *versionedBucket) want(path, want string) {
	b.Helper()
	if got := b.left(path); got != want {
		b.Errorf("of %s there is %q, want %q", path, got, want)
	}
}

// forget forgets one version and returns how many were removed.
func (b *versionedBucket) forget(v storage.HiddenVersion) int {
	b.Helper()
	o := b.Forget(b.Context(), []storage.HiddenVersion{v})[0]
	if o.Err != nil || o.VersionBytes != int64(o.Versions)*v.Bytes {
		b.Errorf("forget %s: %+v", v.Path, o)
	}
	return o.Versions
}

func intact() error { return nil }

// TestS3UnhidesWhatWasHidden: Unhide restores the hidden version, unless there is another current
// version.
func TestS3UnhidesWhatWasHidden(t *testing.T) {
	t.Parallel()
	b := newVersionedBucket(t)
	blob := storagetest.BlobPath("sha256", storagetest.HexOf("blob"))
	b.plant(blob, "old")
	b.hide(blob)
	old := storage.HiddenVersion{Path: blob}
	b.plant(blob, "content")
	v := b.current(blob)
	if v.Bytes != 7 {
		t.Errorf("%+v", v)
	}
	if err := b.Hides(t.Context(), v); !errors.Is(err, fs.ErrExist) {
		t.Errorf("what is there: %v", err)
	}
	b.hide(blob)
	b.hide(blob) // with one more marker
	b.want(blob, "7 3 marker* marker marker")
	if found, err := b.Current(t.Context(), []string{blob}); err != nil || len(found) > 0 {
		t.Errorf("what is hidden is current: %v, %v", found, err)
	}
	var content bytes.Buffer
	if err := b.StreamVersion(t.Context(), v, &content); err != nil || content.String() != "content" {
		t.Errorf("its content is %q, %v", &content, err)
	}

	if err := b.Hides(t.Context(), v); err != nil {
		t.Errorf("what is hidden: %v", err)
	}
	old.Version = b.versions(blob)[1]
	if err := b.Unhide(t.Context(), old, intact); !errors.Is(err, storage.ErrCovered) {
		t.Errorf("unhide an older version: %v", err)
	}
	if err := b.Unhide(t.Context(), storage.HiddenVersion{Path: blob, Version: "gone"}, intact); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("unhide what was never there: %v", err)
	}
	damaged := errors.New("damaged")
	if err := b.Unhide(t.Context(), v, func() error { return damaged }); !errors.Is(err, damaged) {
		t.Errorf("unhide what is damaged: %v", err)
	}
	b.want(blob, "7 3 marker* marker marker")

	// Somebody pushes while the version is read.
	err := b.Unhide(t.Context(), v, func() error { b.plant(blob, "pushed"); return nil })
	if err != nil {
		t.Errorf("unhide beside a push: %v", err)
	}
	storagetest.WantContents(t, b.Store, map[string]string{blob: "pushed"})
	if err := b.Unhide(t.Context(), v, intact); !errors.Is(err, fs.ErrExist) {
		t.Errorf("unhide what is there: %v", err)
	}
	if o := b.removeEach(t.Context(), []objectVersion{{*b.key(blob), b.current(blob).Version}})[0]; o.Err != nil {
		t.Fatal(o.Err)
	}
	if err := b.Unhide(t.Context(), v, intact); err != nil {
		t.Errorf("unhide: %v", err)
	}
	if now := b.current(blob); now != v {
		t.Errorf("the current version is %+v, want %+v", now, v)
	}
	b.want(blob, "7* 3 marker")
}

// versions are the ids of an object's versions, the newest first.
func (b *versionedBucket) versions(path string) []string {
	b.Helper()
	h, err := b.histories(b.Context(), []string{path})
	if err != nil {
		b.Fatal(err)
	}
	var ids []string
	for _, v := range h[path].versions {
		ids = append(ids, v.id)
	}
	return ids
}

// TestS3ForgetsNothingCurrent: a hidden version may have become the current one again. Older
// versions of the object must be kept.
func TestS3ForgetsNothingCurrent(t *testing.T) {
	t.Parallel()
	b := newVersionedBucket(t)
	at := func(name string) string { return storagetest.BlobPath("sha256", storagetest.HexOf(name)) }

	b.plant(at("plain"), "1")
	plain := b.current(at("plain"))
	b.hide(plain.Path)
	if b.forget(plain) != 1 {
		t.Error("a hidden version did not go")
	}
	b.want(plain.Path, "")
	if b.forget(plain) != 0 {
		t.Error("what is gone went again")
	}

	b.plant(at("restored"), "22")
	restored := b.current(at("restored"))
	if b.forget(restored) != 0 {
		t.Error("a version that was never hidden went")
	}
	b.want(restored.Path, "2*")

	b.plant(at("pushed again"), "333")
	again := b.current(at("pushed again"))
	b.hide(again.Path)
	b.plant(again.Path, "4444")
	if b.forget(again) != 1 {
		t.Error("a version below another did not go")
	}
	b.want(again.Path, "4* marker")

	// Its removal must not make an older version the current one.
	b.plant(at("written over"), "55555")
	b.plant(at("written over"), "666666")
	over := b.current(at("written over"))
	b.hide(over.Path)
	if b.forget(over) != 1 {
		t.Error("a version above another did not go")
	}
	b.want(over.Path, "5 marker*")

	// A run was killed after it had removed the version and before it removed the marker.
	b.plant(at("killed"), "7777777")
	killed := b.current(at("killed"))
	b.hide(killed.Path)
	if o := b.removeEach(t.Context(), []objectVersion{{*b.key(killed.Path), killed.Version}})[0]; o.Err != nil {
		t.Fatal(o.Err)
	}
	b.want(killed.Path, "marker*")
	if b.forget(killed) != 0 {
		t.Error("what is gone went again")
	}
	b.want(killed.Path, "")
}

// TestS3HistoriesAreFoundAcrossPages: objects between the requested ones are skipped. An object with
// more versions than a page has all of them.
func TestS3HistoriesAreFoundAcrossPages(t *testing.T) {
	t.Parallel()
	b := newVersionedBucket(t)
	b.versionPageLength = 10
	const many, odd = "blobs/m/data", "blobs/a\tb/data"
	for i := range 25 {
		b.plant(many, strings.Repeat("x", i%3))
	}
	contents := map[string]string{odd: "odd"}
	var all []string
	for i := range 60 {
		all = append(all, fmt.Sprintf("blobs/%c/%02d/data", "az"[i/30], i))
		contents[all[i]] = "12345"
	}
	storagetest.PlantAll(b.plant, contents)

	h, lists := b.listed([]string{all[1], many, all[0], "blobs/n/absent", odd, "repositories/x/_uploads/1/data", many})
	if n := len(h[many].versions); n != 25 || !h[many].versions[0].latest || h[many].versions[1].latest {
		t.Errorf("%d versions of 25", n)
	}
	if len(h[all[0]].versions) != 1 || len(h[all[1]].versions) != 1 || len(h[odd].versions) != 1 || len(h["blobs/n/absent"].versions) != 0 {
		t.Errorf("%+v", h)
	}
	if lists > 1+4+1 {
		t.Errorf("%d requests list 6 objects of which one takes 3 pages", lists)
	}
	if h, lists := b.listed(all); len(h) != len(all) || len(h[all[59]].versions) != 1 || lists > 8 {
		t.Errorf("%d requests list %d objects in 9 pages, passing over one of 3", lists, len(h))
	}

	count, size, err := b.Erase(t.Context(), "blobs/", all[7], all[8])
	if err != nil || count != 25+60+1-2 || size != 24+58*5+3 {
		t.Errorf("erased %d versions of %d bytes, %v", count, size, err)
	}
	var left []string
	if err := b.listVersions(t.Context(), "blobs/", func(path string, _ version) { left = append(left, path) }); err != nil {
		t.Fatal(err)
	}
	if want := []string{all[7], all[8]}; !slices.Equal(left, want) {
		t.Errorf("left: %v, want %v", left, want)
	}
}

// listed lists the versions of objects, and counts the requests.
func (b *versionedBucket) listed(paths []string) (map[string]history, int64) {
	b.Helper()
	before := b.Requests().List
	h, err := b.histories(b.Context(), paths)
	if err != nil {
		b.Fatal(err)
	}
	return h, b.Requests().List - before
}
