package verify

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"regsweep/inventory"
	"regsweep/storage/layout"

	"github.com/opencontainers/go-digest"
)

// file is the path of the only file in the directory of the record.
func (c *content) file() string {
	c.t.Helper()
	entries, err := os.ReadDir(c.cache)
	if err != nil || len(entries) != 1 {
		c.t.Fatalf("%v, %v", entries, err)
	}
	return filepath.Join(c.cache, entries[0].Name())
}

// known is what the next run knows.
func (c *content) known(now time.Time) (known int, problem error) {
	c.t.Helper()
	inv := c.inventory()
	record, problem := OpenRecord(c.cache, inv, now)
	data, err := ReadData(c.t.Context(), inv, c.store, map[inventory.ID]Fault{}, DataOptions{None: true, Record: record, Now: func() time.Time { return now }})
	if err != nil {
		c.t.Fatal(err)
	}
	return data.Earlier.Blobs, problem
}

func threeBlobs(t *testing.T) (c *content, digests []digest.Digest) {
	c = newContent(t)
	digests = []digest.Digest{c.blob(1000), c.blob(1001), digest.SHA512.FromString("x")}
	c.tree.Write(layout.BlobPath(digests[2]), "x")
	return c, digests
}

// A record that is damaged in any way is reported and not used. The check runs, and then it is whole again.
func TestDamagedRecordIsEmpty(t *testing.T) {
	t.Parallel()
	c, _ := threeBlobs(t)
	c.read(night(0), DataOptions{})
	path := c.file()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	line := bytes.IndexByte(whole, '\n') + 1
	if n := len(whole) - line - sha256.Size; n != 3*36 {
		t.Errorf("3 entries take %d bytes", n)
	}
	inv := c.inventory()
	use := func(content []byte) error {
		t.Helper()
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := OpenRecord(c.cache, inv, night(1))
		if r == nil || (err != nil) != (r.at(0)+r.at(1) == 0) {
			t.Errorf("%v, and it is used", err)
		}
		return err
	}
	if err := use(whole); err != nil {
		t.Error(err)
	}
	for i := range whole {
		flipped := bytes.Clone(whole)
		flipped[i] ^= 1 << (i % 8)
		if use(flipped) == nil {
			t.Errorf("with another bit in byte %d it is used", i)
		}
		if use(whole[:i]) == nil {
			t.Errorf("with its first %d bytes it is used", i)
		}
	}
	sealed := func(content []byte) []byte {
		sum := sha256.Sum256(content)
		return append(bytes.Clone(content), sum[:]...)
	}
	body := whole[:len(whole)-sha256.Size]
	for _, of := range []struct {
		want    string
		content []byte
	}{
		{"is damaged", append(bytes.Clone(whole), '\n')},
		{"is of another release", sealed(bytes.Replace(body, []byte("checked 1 "), []byte("checked 2 "), 1))},
		{"is of another storage", sealed(bytes.Replace(body, []byte(`"filesystem"`), []byte(`"otherwhere"`), 1))},
		{"is of another storage", sealed(body[:len(body)-1])}, // a part of an entry
	} {
		err := use(of.content)
		if err == nil || !strings.Contains(err.Error(), path+" "+of.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", of.want, err)
		}
	}
	r, err := OpenRecord(c.cache, inv, night(1))
	if err == nil {
		t.Fatal("it is used")
	}
	data, err := ReadData(t.Context(), inv, c.store, map[inventory.ID]Fault{}, DataOptions{Record: r, Now: func() time.Time { return night(1) }})
	if err != nil || r.Failure() != nil || data.Read.Blobs != 3 {
		t.Errorf("%+v, %v, %v", data, err, r.Failure())
	}
	if known, problem := c.known(night(2)); known != 3 || problem != nil {
		t.Errorf("%d blobs are known, %v", known, problem)
	}
}

// A check in the future counts as never, and so does one of a blob that was written later. A time of a file
// that is in the future says nothing.
func TestRecordAgainstTheClock(t *testing.T) {
	t.Parallel()
	c, digests := threeBlobs(t)
	c.read(night(10), DataOptions{})
	known := func(now time.Time, want int) {
		t.Helper()
		if got, problem := c.known(now); got != want || problem != nil {
			t.Errorf("%d blobs are known, want %d; %v", got, want, problem)
		}
	}
	known(night(10), 3)
	known(night(9), 0)
	known(night(11), 3)
	path := c.tree.Path(layout.BlobPath(digests[0]))
	for written, want := range map[time.Time]int{night(10).Add(-time.Hour): 3, night(10).Add(time.Hour): 3, night(11): 2, night(12): 2, night(14): 3} {
		if err := os.Chtimes(path, written, written); err != nil {
			t.Fatal(err)
		}
		known(night(12).Add(time.Hour), want)
	}
}

// Only its user can read the record. Blobs that the storage no longer has are dropped from it, and files that a
// killed run has left are removed, but not those of a run that may be under way.
func TestRecordIsPrivateAndTidy(t *testing.T) {
	t.Parallel()
	c, digests := threeBlobs(t)
	c.read(night(0), DataOptions{})
	path := c.file()
	for of, want := range map[string]fs.FileMode{path: 0o600, c.cache: 0o700} {
		if info, err := os.Stat(of); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", of, info.Mode(), err)
		}
	}
	size := func() int64 {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	before := size()
	c.tree.Remove(layout.BlobPath(digests[0]))
	c.tree.Remove(filepath.Dir(layout.BlobPath(digests[0])))
	for name, age := range map[string]time.Duration{path + tempMark + "1": 25 * time.Hour, path + tempMark + "2": 23 * time.Hour, path + ".kept": 48 * time.Hour} {
		at := night(1).Add(-age)
		if err := errors.Join(os.WriteFile(name, nil, 0o600), os.Chtimes(name, at, at)); err != nil {
			t.Fatal(err)
		}
	}
	c.read(night(1), DataOptions{})
	if left := before - size(); left != entrySize {
		t.Errorf("it is %d bytes shorter", left)
	}
	left, err := filepath.Glob(path + ".*")
	if want := []string{path + ".kept", path + tempMark + "2"}; err != nil || !slices.Equal(left, want) {
		t.Errorf("%v, %v", left, err)
	}
}

// While blobs are read the record is written each minute, and a run that only asks what is known writes nothing.
func TestRecordIsWrittenMeanwhile(t *testing.T) {
	t.Parallel()
	c := newContent(t)
	for i := range 10 {
		c.blob(2000 - i)
	}
	if known, _ := c.known(night(0)); known != 0 {
		t.Error(known)
	}
	if entries, err := os.ReadDir(c.cache); err != nil || len(entries) != 0 {
		t.Errorf("%v, %v", entries, err)
	}
	now, blobs, written := night(0), 0, []int{}
	var before fs.FileInfo
	_, _ = c.read(now, DataOptions{Now: func() time.Time { return now }, OnRead: func(n int, _ int64) {
		blobs, now = blobs+n, now.Add(time.Duration(n)*25*time.Second)
		path, err := filepath.Glob(c.cache + "/*.checked")
		if err != nil || len(path) == 0 || n == 0 {
			return
		}
		if info, err := os.Stat(path[0]); err != nil {
			t.Error(err)
		} else if before == nil || !os.SameFile(before, info) {
			before, written = info, append(written, blobs)
		}
	}})
	if want := []int{4, 7, 10}; !slices.Equal(written, want) { // each is seen with the next blob
		t.Errorf("it was written before the blobs %v, want %v", written, want)
	}
	if known, _ := c.known(night(1)); known != 10 {
		t.Errorf("%d are known", known)
	}
}

// Without a directory that can be written, there is a warning and the check runs. So it does if the file can't
// be written at the end.
func TestRecordThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	c, _ := threeBlobs(t)
	if err := errors.Join(os.MkdirAll(filepath.Dir(c.cache), 0o700), os.WriteFile(c.cache, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	record, err := OpenRecord(c.cache, c.inventory(), night(0))
	if record != nil || err == nil || strings.Contains(err.Error(), "\n") {
		t.Errorf("%v, %v", record, err)
	}
	read := func() {
		t.Helper()
		data, err := ReadData(t.Context(), c.inventory(), c.store, map[inventory.ID]Fault{}, DataOptions{Record: record, Now: func() time.Time { return night(0) }})
		if err != nil || data.Read.Blobs != 3 {
			t.Errorf("%+v, %v", data, err)
		}
	}
	read()
	if err := os.Remove(c.cache); err != nil {
		t.Fatal(err)
	}
	if record, err = OpenRecord(c.cache, c.inventory(), night(0)); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(record.path+"/full", 0o700); err != nil {
		t.Fatal(err)
	}
	read()
	if err := record.Failure(); err == nil || strings.Contains(err.Error(), "\n") {
		t.Error(err)
	}
	if _, err := OpenRecord(c.cache, c.inventory(), night(0)); err == nil {
		t.Error("a directory is used as the file")
	}
	c.file() // no other file is left
}

// Runs at the same time leave a record that is whole: that of the run that ended last. Two storages have two.
func TestRunsAtTheSameTime(t *testing.T) {
	t.Parallel()
	c, other := newContent(t), newContent(t)
	other.cache = c.cache
	for i := range 40 {
		c.blob(2000 + i)
		other.blob(5000 + i)
	}
	var all sync.WaitGroup
	for i := range 12 {
		all.Go(func() {
			of := c
			if i%3 == 0 {
				of = other
			}
			var mu sync.Mutex
			now := night(0)
			clock := func() time.Time { // each blob takes a minute
				mu.Lock()
				defer mu.Unlock()
				now = now.Add(20 * time.Second)
				return now
			}
			of.read(now, DataOptions{Now: clock, Concurrency: 3})
		})
	}
	all.Wait()
	for _, of := range []*content{c, other} {
		if known, problem := of.known(night(1)); known != 40 || problem != nil {
			t.Errorf("%d are known, %v", known, problem)
		}
	}
	if entries, err := os.ReadDir(c.cache); err != nil || len(entries) != 2 {
		t.Errorf("%v, %v", entries, err)
	}
}
