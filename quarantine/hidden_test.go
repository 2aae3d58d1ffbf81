package quarantine_test

import (
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"iter"
	"slices"
	"strings"
	"testing"

	"regsweep/internal/imagetest"
	"regsweep/quarantine"
	"regsweep/storage"
	"regsweep/storage/layout"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/opencontainers/go-digest"
)

// planOf is a plan of objects, as far as a Taker knows it.
type planOf []storage.Ref

func (p planOf) WriteTo(w io.Writer) (int64, error) { return 0, nil }
func (p planOf) Refs() iter.Seq[storage.Ref]        { return slices.Values(p) }

func (b *bucket) write(path, content string) {
	b.Helper()
	key := storage.Root + "/" + path
	_, err := b.server.Client().PutObject(b.Context(), &s3.PutObjectInput{Bucket: &b.name, Key: &key, Body: strings.NewReader(content)})
	b.must(err)
}

// TestS3HidesNothingThatIsNotRecorded: what came after the record was made could not be
// brought back by it.
func TestS3HidesNothingThatIsNotRecorded(t *testing.T) {
	t.Parallel()
	b := newBucket(t, types.BucketVersioningStatusEnabled)
	path := func(content string) string { return layout.BlobPath(digest.FromString(content)) }
	b.write(path("recorded"), "recorded")
	refs := planOf{{Path: path("recorded")}, {Path: path("late")}, {Path: path("absent")}, {Path: "repositories/app/link", Content: "known"}}
	taker, err := quarantine.Begin(t.Context(), b.store, refs, b.now, rand.Reader)
	b.must(err)
	defer func() { b.must(taker.End(t.Context())) }()
	b.write(path("late"), "late")
	outcomes := taker.Remove(t.Context(), refs)
	if !taker.Hides() || outcomes[0].Err != nil || !outcomes[0].Hidden || outcomes[2].Err != nil || outcomes[2].Hidden || outcomes[3].Err != nil {
		t.Errorf("hides: %t, %+v", taker.Hides(), outcomes)
	}
	if taker.Absent() != 1 {
		t.Errorf("%d objects were absent, want 1", taker.Absent())
	}
	if outcomes[1].Err == nil || outcomes[1].Hidden {
		t.Errorf("what came late: %+v", outcomes[1])
	}
	if content, err := b.store.Read(t.Context(), path("late"), 100); err != nil || string(content) != "late" {
		t.Errorf("what came late is %q, %v", content, err)
	}
	if _, err := b.store.Stat(t.Context(), path("recorded")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what is hidden: %v", err)
	}

	// Without versions a removal would destroy.
	b.write(path("recorded"), "again")
	b.setVersioning(types.BucketVersioningStatusSuspended)
	after, err := quarantine.Begin(t.Context(), b.store, refs, b.now, rand.Reader)
	b.must(err)
	defer func() { b.must(after.End(t.Context())) }()
	if o := after.Remove(t.Context(), refs[:1])[0]; after.Hides() || o.Err != nil {
		t.Errorf("suspended, it hides: %t, %+v", after.Hides(), o)
	}
	if content, err := b.store.Read(t.Context(), quarantine.Dir+"/"+after.Run+"/"+path("recorded"), 100); err != nil || string(content) != "again" {
		t.Errorf("suspended, it has moved %q, %v", content, err)
	}
}

// TestS3RestoresOnlyWhatItsDigestSays, and what another run has hidden since is that run's.
func TestS3RestoresOnlyWhatItsDigestSays(t *testing.T) {
	t.Parallel()
	b := newBucket(t, types.BucketVersioningStatusEnabled)
	damaged := digest.FromString("what it should be")
	b.write(layout.BlobPath(damaged), "what it is")
	again := digest.FromString("pushed again")
	b.write(layout.BlobPath(again), "pushed again")
	first, err := b.take(b.store)
	b.must(err)
	b.write(layout.BlobPath(again), "pushed again")
	second, err := b.take(b.store)
	b.must(err)

	restore := func(run string, digest digest.Digest) quarantine.Restored {
		t.Helper()
		restored, err := quarantine.Restore(t.Context(), b.store, run, quarantine.RestoreOptions{Digest: digest})
		b.must(err)
		return restored
	}
	wantLeft := func(run string, digest digest.Digest, why quarantine.Why) {
		t.Helper()
		restored := restore(run, digest)
		if restored.LeftCount != 1 || restored.Left[0].Why != why {
			t.Errorf("restored %s: %+v, want %s", digest, restored, why)
		}
		if _, err := b.store.Stat(t.Context(), layout.BlobPath(digest)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is there: %v", digest, err)
		}
	}
	wantLeft(first, damaged, quarantine.WhyDamaged)
	wantLeft(first, again, quarantine.WhyCovered)
	// The second run would put it back, so that nothing is left of the first one.
	dry, err := quarantine.RestoreAll(t.Context(), b.store, quarantine.RestoreOptions{DryRun: true})
	if err != nil || dry.LeftCount > 0 {
		t.Errorf("a dry run on all: %+v, %v", dry, err)
	}
	if restored := restore(second, again); restored.LeftCount > 0 || len(restored.Back) != 1 {
		t.Errorf("restored of the second run: %+v", restored)
	}
	// The first run keeps the record of the version that is not back.
	if restored := restore(first, ""); restored.LeftCount != 1 {
		t.Errorf("restored of the first run: %+v", restored)
	}
	// The first run's version lies below one that is alive.
	if _, err := quarantine.Purge(t.Context(), b.store, first); err != nil {
		t.Error(err)
	}
	if _, err := quarantine.Purge(t.Context(), b.store, second); err != nil {
		t.Error(err)
	}
	if content, err := b.store.Read(t.Context(), layout.BlobPath(again), 100); err != nil || string(content) != "pushed again" {
		t.Errorf("after the purge it is %q, %v", content, err)
	}
	if n := b.versions()[storage.Root+"/"+layout.BlobPath(damaged)]; n > 0 {
		t.Errorf("of what was purged there are %d versions", n)
	}
}

// TestS3RestoresAPartAndNothingElse: finding out which repository can serve an image changes
// nothing. A version that is hidden comes back only after it was compared with its digest, and
// only if it was asked for.
func TestS3RestoresAPartAndNothingElse(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]quarantine.RestoreOptions{
		"a digest": {Digest: imagetest.Image(imagetest.OCI, imagetest.Layer(7, 100)).Digest()}, "a repository": {Repository: "other"},
	} {
		b := newBucket(t, types.BucketVersioningStatusEnabled)
		tree, files := imagetest.NewTree(t, t.TempDir()), map[string]string{}
		image := imagetest.Image(imagetest.OCI, imagetest.Layer(7, 100))
		tree.Manifest("team/app", image)
		tree.Remove(imagetest.RevisionPath("team/app", image.Digest())) // as the API does
		tree.LayerLink("other", imagetest.Layer(7, 100).Digest())
		b.read(tree, files)
		config := image.Digests()[len(image.Digests())-1]
		files[storage.Root+"/"+layout.BlobPath(config)] = "rotten"
		for key, content := range files {
			b.write(strings.TrimPrefix(key, storage.Root+"/"), content)
		}
		run, err := b.take(b.store)
		b.must(err)
		restored, err := quarantine.Restore(t.Context(), b.store, run, options)
		b.must(err)
		if isWanted := options.Digest != ""; isWanted != (restored.LeftCount > 0) || isWanted && restored.Left[0].Why != quarantine.WhyDamaged {
			t.Errorf("%s: restored %+v", name, restored)
		}
		if _, err := b.store.Stat(t.Context(), layout.BlobPath(config)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: the damaged config is there: %v", name, err)
		}
	}
}
