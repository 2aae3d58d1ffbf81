package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"regsweep/internal/imagetest"
	"regsweep/inventory"
	"regsweep/mark"
	"regsweep/storage"
	"regsweep/storage/layout"

	"github.com/opencontainers/go-digest"
)

// content is blobs on a filesystem that were written a year ago, and a directory for the record.
type content struct {
	t     *testing.T
	tree  *imagetest.Tree
	store storage.Store
	cache string
}

func newContent(t *testing.T) *content {
	root := t.TempDir()
	c := &content{t: t, tree: imagetest.NewTree(t, root), cache: filepath.Join(t.TempDir(), "cache", "regsweep")}
	c.tree.Mkdir(storage.BlobsDir + "/sha256")
	c.store = directory(t, root)
	return c
}

// blob stores a blob of a size, and returns its digest.
func (c *content) blob(size int) digest.Digest {
	text := fmt.Sprintf("%d ", size)
	d := c.tree.Blob([]byte(text + strings.Repeat("x", size-len(text))))
	c.tree.Age(layout.BlobPath(d), 365*24*time.Hour)
	return d
}

func (c *content) inventory() *inventory.Inventory { return inventoryOf(c.t, c.store) }

func inventoryOf(t *testing.T, store storage.Store) *inventory.Inventory {
	t.Helper()
	inv, err := inventory.Take(t.Context(), store, inventory.Options{Sizes: true})
	if err != nil {
		t.Fatal(err)
	}
	return inv
}

// read is a run with the record. now is the time of all of it.
func (c *content) read(now time.Time, o DataOptions) (Data, map[digest.Digest]Fault) {
	c.t.Helper()
	data, faults, err := c.run(c.t.Context(), now, o)
	if err != nil {
		c.t.Fatal(err)
	}
	return data, faults
}

func (c *content) run(ctx context.Context, now time.Time, o DataOptions) (Data, map[digest.Digest]Fault, error) {
	c.t.Helper()
	inv := c.inventory()
	record, err := OpenRecord(c.cache, inv, now)
	if err != nil {
		c.t.Error(err)
	}
	o.Record, o.Concurrency = record, max(o.Concurrency, 1)
	if o.Now == nil {
		o.Now = func() time.Time { return now }
	}
	faults := map[inventory.ID]Fault{}
	data, err := ReadData(ctx, inv, c.store, faults, o)
	if failure := record.Failure(); failure != nil {
		c.t.Error(failure)
	}
	return data, byDigest(inv, faults), err
}

func byDigest(inv *inventory.Inventory, faults map[inventory.ID]Fault) map[digest.Digest]Fault {
	all := map[digest.Digest]Fault{}
	for id, fault := range faults {
		all[inv.Digest(id)] = fault
	}
	return all
}

func wantFaults(t *testing.T, got, want map[digest.Digest]Fault) {
	t.Helper()
	for d, fault := range want {
		if got[d] != fault {
			t.Errorf("%s is %+v, want %+v", d, got[d], fault)
		}
	}
	for d, fault := range got {
		if _, isWanted := want[d]; !isWanted {
			t.Errorf("%s is intact, and reported as %+v", d, fault)
		}
	}
}

var aYear = time.Date(2026, 6, 1, 3, 30, 0, 0, time.UTC)

func night(n int) time.Time { return aYear.AddDate(0, 0, n) }

// Each kind of damage is found, and nothing else. Garbage is read, and so are blobs under other algorithms, and
// the digests under other algorithms by which links name a blob.
func TestReadDataFindsEachDamage(t *testing.T) {
	t.Parallel()
	c := newContent(t)
	tree, want := c.tree, map[digest.Digest]Fault{}
	wrong := func(d digest.Digest, content string) {
		tree.Write(layout.BlobPath(d), content)
		want[d] = Fault{Wrong, fmt.Sprintf("its content, %d bytes, has the digest %s", len(content), d.Algorithm().FromString(content))}
	}
	intact := c.blob(1000)
	c.blob(3 << 20)
	wrong(c.blob(1001), strings.Repeat("x", 500))
	flipped := []byte(strings.Repeat("x", 2<<20))
	d := tree.Blob(flipped)
	flipped[1<<20] ^= 1
	wrong(d, string(flipped))
	tree.Write(layout.BlobPath(c.blob(1002)), "")
	want[digest.FromString("1002 "+strings.Repeat("x", 997))] = Fault{Wrong, "it is empty"}

	replaced := func(size int, replace func(path string) error) {
		d := c.blob(size)
		path := tree.Path(layout.BlobPath(d))
		if err := errors.Join(os.Remove(path), replace(path)); err != nil {
			t.Fatal(err)
		}
		want[d] = Fault{Unreadable, "it is not a regular file, and links are not followed"}
	}
	replaced(1003, func(path string) error { return os.Mkdir(path, 0o755) })
	replaced(1004, func(path string) error { return os.Symlink(tree.Path(layout.BlobPath(intact)), path) })
	replaced(1005, func(path string) error { return os.Symlink("nowhere", path) })

	for _, text := range []string{"intact", "wrong"} {
		d := digest.SHA512.FromString(text)
		tree.Write(layout.BlobPath(d), text)
		if text == "wrong" {
			wrong(d, "other content")
		}
	}
	tree.Write("blobs/blake3/ab/"+strings.Repeat("ab", 32)+"/data", "no program here knows this algorithm")
	tree.LayerLink("app", intact)
	text := "1000 " + strings.Repeat("x", 995)
	for _, d := range []digest.Digest{digest.SHA512.FromString(text), digest.SHA512.FromString("wrong"), digest.SHA512.FromString("another"), digest.FromString("a damaged link")} {
		tree.Write(layout.LayerPath("app", d), string(intact))
	}
	want[digest.SHA512.FromString("another")] = Fault{Wrong, fmt.Sprintf("its content, 1000 bytes, has the digest %s", digest.SHA512.FromString(text))}

	removed := c.blob(1006)
	inv := c.inventory()
	tree.Remove(layout.BlobPath(removed))
	want[removed] = Fault{Missing, "there is no file"}
	faults := map[inventory.ID]Fault{}
	var blobs, bytes, expectedBlobs, expectedBytes atomic.Int64
	data, err := ReadData(t.Context(), inv, c.store, faults, DataOptions{Concurrency: 4, Now: time.Now,
		OnExpect: func(n int, size int64) { expectedBlobs.Store(int64(n)); expectedBytes.Store(size) },
		OnRead:   func(n int, size int64) { blobs.Add(int64(n)); bytes.Add(size) }})
	if err != nil {
		t.Fatal(err)
	}
	wantFaults(t, byDigest(inv, faults), want)
	if n := inv.Blobs() + 2; data.Read.Blobs != n || blobs.Load() != int64(n) || expectedBlobs.Load() != int64(n) {
		t.Errorf("%d blobs were read, %d reported and %d expected of %d", data.Read.Blobs, blobs.Load(), expectedBlobs.Load(), n)
	}
	if bytes.Load() > expectedBytes.Load()-1006 || bytes.Load() < 5<<20 || data.Read.Bytes != expectedBytes.Load() {
		t.Errorf("%d bytes were read and %d reported, of %d", data.Read.Bytes, bytes.Load(), expectedBytes.Load())
	}
}

// A blob without a file, one whose size is not what a manifest says, and one that is doubtful are found without
// --read-data.
func TestCheckFilesReadsWhatIsDoubtful(t *testing.T) {
	t.Parallel()
	c := newContent(t)
	layer, other := imagetest.Layer(1, 100), imagetest.Layer(2, 100)
	image := imagetest.Image(imagetest.OCI, layer, other)
	c.tree.Tag("app", "v1", c.tree.Manifest("app", image))
	c.tree.Write(layout.BlobPath(layer.Digest()), "short")
	flipped := slices.Clone(other.Content)
	flipped[50] ^= 1
	c.tree.Write(layout.BlobPath(other.Digest()), string(flipped)) // only its content shows that
	gone, flippedToo := c.blob(500), c.blob(501)
	c.tree.Remove(layout.BlobPath(gone)) // and not its directory
	c.tree.Write(layout.BlobPath(flippedToo), strings.Repeat("y", 501))
	inv := c.inventory()
	graph, err := mark.Read(t.Context(), inv, c.store, mark.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	faults := map[inventory.ID]Fault{}
	if err := CheckFiles(t.Context(), inv, graph, c.store, []digest.Digest{flippedToo}, faults, 2); err != nil {
		t.Fatal(err)
	}
	wantFaults(t, byDigest(inv, faults), map[digest.Digest]Fault{
		gone:           {Missing, "there is no file"},
		flippedToo:     {Wrong, fmt.Sprintf("its content, 501 bytes, has the digest %s", digest.FromString(strings.Repeat("y", 501)))},
		layer.Digest(): {Wrong, fmt.Sprintf("its content, 5 bytes, has the digest %s", digest.FromString("short"))},
	})
}

// In a bucket, keys were overwritten with bytes of the same number or of another, or deleted before or after the
// listing.
func TestReadDataOfABucket(t *testing.T) {
	t.Parallel()
	c := newContent(t)
	digests := []digest.Digest{c.blob(1000), c.blob(6 << 20), c.blob(1002), c.blob(1003), c.blob(1004)}
	store, _ := bucket(t, c.tree.Root())
	overwrite := func(d digest.Digest, content string) {
		t.Helper()
		if err := store.Move(t.Context(), []storage.Move{{From: layout.BlobPath(d), To: storage.QuarantineDir + "/" + d.Encoded()}})[0].Err; err != nil {
			t.Fatal(err)
		}
		if content != "" {
			if err := store.Put(t.Context(), layout.BlobPath(d), strings.NewReader(content)); err != nil {
				t.Fatal(err)
			}
		}
	}
	same, short := strings.Repeat("y", 1002), "short"
	overwrite(digests[2], same)
	inv := inventoryOf(t, store)
	overwrite(digests[3], short)
	overwrite(digests[4], "")
	faults := map[inventory.ID]Fault{}
	data, err := ReadData(t.Context(), inv, store, faults, DataOptions{Concurrency: store.Concurrency(), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	wantFaults(t, byDigest(inv, faults), map[digest.Digest]Fault{
		digests[2]: {Wrong, fmt.Sprintf("its content, 1002 bytes, has the digest %s", digest.FromString(same))},
		digests[3]: {Wrong, fmt.Sprintf("its content, 5 bytes, has the digest %s", digest.FromString(short))},
		digests[4]: {Missing, "there is no file"},
	})
	if data.Read.Blobs != 5 {
		t.Errorf("%+v", data)
	}
}

// A part of the content is another part in each run, until all was read, whatever says how much it is. The
// largest come first. Then it begins again with those whose check is longest ago.
func TestSharesRotate(t *testing.T) {
	t.Parallel()
	for name, share := range map[string]Share{
		"percent": {Percent: 5}, "bytes": {Bytes: 150_000}, "a byte": {Bytes: 1}, "time": {Time: 3 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newContent(t)
			const n = 30
			total := int64(0)
			for i := range n {
				c.blob(10_000 + 6_000*i)
				total += int64(10_000 + 6_000*i)
			}
			c.tree.Write(layout.BlobPath(digest.SHA512.FromString("x")), "x")
			runs := 0
			for left := n + 1; left > 0; runs++ {
				now := night(runs)
				var spent atomic.Int64
				clock := func() time.Time { return now.Add(time.Duration(spent.Add(1)) * 20 * time.Second) }
				data, faults := c.read(now, DataOptions{Share: share, Now: clock})
				if n := min(data.Read.Blobs, left); n == 0 || len(faults) > 0 || data.Overdue.Blobs != left-n {
					t.Fatalf("run %d, with %d blobs that were never read: %+v, %v", runs, left, data, faults)
				}
				all := data.Read.Bytes + data.Earlier.Bytes + data.Overdue.Bytes
				if left = data.Overdue.Blobs; all != total+1 || data.Read.Blobs+data.Earlier.Blobs+left != n+1 {
					t.Errorf("run %d: %+v are not %d bytes in %d blobs", runs, data, total+1, n+1)
				}
			}
			if runs < 8 {
				t.Errorf("%d runs have read all", runs)
			}
			// With an age, what was read in the first three nights is overdue, and is read first.
			data, _ := c.read(night(runs), DataOptions{None: true, MaxAge: time.Duration(runs-3)*24*time.Hour + 12*time.Hour})
			first := data.Overdue
			if first.Blobs == 0 || first.Blobs == n+1 || data.Read.Blobs != 0 || data.Earlier.Blobs != n+1-first.Blobs {
				t.Errorf("overdue is %+v", data)
			}
			data, _ = c.read(night(runs), DataOptions{Share: Share{Bytes: first.Bytes}, MaxAge: time.Duration(runs-3)*24*time.Hour + 12*time.Hour})
			if data.Read != first || data.Overdue.Blobs != 0 {
				t.Errorf("%+v was overdue, and read was %+v", first, data)
			}
		})
	}
}

// A share of the bytes is that share, up to a part of one blob.
func TestSharesAreOfTheBytes(t *testing.T) {
	t.Parallel()
	c := newContent(t)
	for i := range 100 {
		c.blob(1000 + i)
	}
	for want, share := range map[int64]Share{104_950: {}, 5_247: {Percent: 5}, 20_000: {Bytes: 20_000}, 104_949: {Bytes: 104_949}, 1: {Percent: 0.0001}} {
		expected := int64(0)
		data, _ := c.read(night(0), DataOptions{Share: share, OnExpect: func(_ int, bytes int64) { expected = bytes }})
		if got := data.Read.Bytes; got < want || got >= want+1100 || got != expected {
			t.Errorf("%+v of 104,950 bytes are %d, of %d expected", share, got, expected)
		}
		if err := os.RemoveAll(c.cache); err != nil {
			t.Fatal(err)
		}
	}
}

// A faulty blob is read again in the next run, before all others, until it is intact.
func TestFaultyBlobsAreReadAgain(t *testing.T) {
	t.Parallel()
	c := newContent(t)
	for i := range 9 {
		c.blob(2000 + i)
	}
	d := c.blob(1000)
	c.read(night(0), DataOptions{})
	c.tree.Write(layout.BlobPath(d), "wrong")
	c.tree.Age(layout.BlobPath(d), 365*24*time.Hour) // as a disk would damage it
	if data, faults := c.read(night(1), DataOptions{}); len(faults) != 1 || data.Read.Blobs != 10 {
		t.Errorf("%+v, %v", data, faults)
	}
	one := DataOptions{Share: Share{Bytes: 1}}
	for n := range 3 { // the share is for the others
		if data, faults := c.read(night(2+n), one); len(faults) != 1 || data.Read.Blobs != 2 || data.Earlier.Blobs != 8 {
			t.Errorf("%+v, %v", data, faults)
		}
	}
	c.tree.Write(layout.BlobPath(d), "1000 "+strings.Repeat("x", 995))
	c.tree.Age(layout.BlobPath(d), 365*24*time.Hour)
	for n := range 2 {
		if data, faults := c.read(night(5+n), one); len(faults) != 0 || data.Read.Blobs != 2-n {
			t.Errorf("%+v, %v", data, faults)
		}
	}
	// One that is known to be faulty before the run is neither read nor remembered.
	inv := c.inventory()
	record, err := OpenRecord(c.cache, inv, night(7))
	if err != nil {
		t.Fatal(err)
	}
	data, err := ReadData(t.Context(), inv, c.store, map[inventory.ID]Fault{inv.ID(d): {Missing, ""}}, DataOptions{Record: record, Concurrency: 1, Now: time.Now})
	if err != nil || data.Read.Blobs != 9 || record.at(inv.ID(d)) != 0 {
		t.Errorf("%+v, %v", data, err)
	}
}

// Ctrl-C keeps the results so far, and says why it ended.
func TestInterruptedReadKeepsItsResults(t *testing.T) {
	t.Parallel()
	c := newContent(t)
	for i := range 20 {
		c.blob(2000 - i)
	}
	c.tree.Write(layout.BlobPath(digest.FromString("2000 "+strings.Repeat("x", 1995))), strings.Repeat("y", 2000)) // the first that is read
	interrupted := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	blobs := 0
	data, faults, err := c.run(ctx, night(0), DataOptions{OnRead: func(n int, _ int64) {
		if blobs += n; blobs == 7 {
			cancel(interrupted)
		}
	}})
	if err != interrupted || data.Read.Blobs != 7 || data.Overdue.Blobs != 13 || len(faults) != 1 {
		t.Errorf("%+v, %v, %v", data, faults, err)
	}
	if data, _ := c.read(night(1), DataOptions{None: true}); data.Earlier.Blobs != 6 || data.Overdue.Blobs != 14 {
		t.Errorf("the next run knows %+v", data)
	}
	data, faults = c.read(night(1), DataOptions{})
	if data.Read.Blobs != 20 || len(faults) != 1 {
		t.Errorf("%+v, %v", data, faults)
	}
}

// watched is a store that counts the streams that are read at once. It is no fake: all content is that of the
// store below it.
type watched struct {
	storage.Store
	mu        sync.Mutex
	now, most map[bool]int  // by being large
	all       chan struct{} // is closed once as many small ones are read as may be
	atOnce    int
}

func (w *watched) Stream(ctx context.Context, path string, to io.Writer) error {
	object, err := w.Stat(ctx, path)
	if err != nil {
		return err
	}
	large := object.Size >= largeBlob
	w.count(large, 1)
	defer w.count(large, -1)
	if !large {
		select {
		case <-w.all:
		case <-ctx.Done():
		}
	}
	return w.Store.Stream(ctx, path, to)
}

func (w *watched) count(large bool, n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now[large] += n
	w.most[large] = max(w.most[large], w.now[large])
	if !large && n > 0 && w.most[false] == w.atOnce {
		close(w.all)
		w.atOnce = -1
	}
}

// Few large blobs are read at once, and meanwhile many small ones.
func TestFewLargeBlobsAreReadAtOnce(t *testing.T) {
	t.Parallel()
	c := newContent(t)
	for i := range 12 {
		c.blob(largeBlob + i)
		c.blob(100 + i)
	}
	for _, o := range []DataOptions{{Concurrency: 8, Streams: 2}, {Concurrency: 3}} {
		w := &watched{Store: c.store, now: map[bool]int{}, most: map[bool]int{}, all: make(chan struct{}), atOnce: o.Concurrency}
		o.Now = time.Now
		data, err := ReadData(t.Context(), c.inventory(), w, map[inventory.ID]Fault{}, o)
		if err != nil || data.Read.Blobs != 24 || w.most[true] > max(o.Streams, 3) || o.Streams > 0 && w.most[true] > o.Streams || w.most[false] != o.Concurrency {
			t.Errorf("%+v: %+v, %v, %v", o, data, err, w.most)
		}
	}
}
