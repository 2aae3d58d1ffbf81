package verify

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"regsweep/internal/system"
	"regsweep/internal/system/systemtest"
	"regsweep/inventory"
	"regsweep/storage/layout"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// An error of a filesystem about one file is a fault of its blob. Any other error ends the run, and what was read
// until then is kept.
func TestErrorsOfOneFileAreFaults(t *testing.T) {
	c := newContent(t)
	var digests []digest.Digest
	for i := range 5 {
		digests = append(digests, c.blob(5000-i)) // in the order in which they are read
	}
	bad := digests[2]
	const isError State = 0
	for fault, want := range map[error]State{
		unix.EIO: Unreadable, unix.EBADMSG: Unreadable, unix.EUCLEAN: Unreadable, unix.EACCES: Unreadable, unix.EPERM: Unreadable,
		unix.ELOOP: Unreadable, unix.EISDIR: Unreadable, system.ErrEmpty: Unreadable, unix.ENOENT: Missing,
		unix.ESTALE: isError, unix.EMFILE: isError, unix.ENOMEM: isError, unix.ENODEV: isError, unix.ETIMEDOUT: isError,
	} {
		for _, call := range []string{"openat2", "fstat", "read", "close"} {
			switch {
			case fault == system.ErrEmpty && call != "read": // only a read can end too early
				continue
			case fault == unix.EPERM && call == "openat2": // then it is opened in another way
				continue
			}
			what := fmt.Sprintf("%s of %s", fault, call)
			if err := os.RemoveAll(c.cache); err != nil {
				t.Fatal(err)
			}
			inv := c.inventory()
			record, err := OpenRecord(c.cache, inv, night(0))
			if err != nil {
				t.Fatal(err)
			}
			var failed atomic.Int64
			stop := systemtest.FailBelow(t, c.tree.Path("blobs"), func(op, path string) error {
				if op == call && strings.Contains(path, bad.Encoded()) {
					failed.Add(1)
					return fault
				}
				return nil
			})
			faults := map[inventory.ID]Fault{}
			data, err := ReadData(t.Context(), inv, c.store, faults, DataOptions{Record: record, Concurrency: 1, Now: func() time.Time { return night(0) }})
			stop()
			if failed.Load() == 0 {
				t.Fatalf("%s: it was never made", what)
			}
			got, read := byDigest(inv, faults), 5
			if want == isError {
				if read = 2; err == nil || len(got) > 0 || !strings.Contains(err.Error(), layout.BlobPath(bad)) {
					t.Errorf("%s: %v, %v", what, got, err)
				}
			} else if err != nil || len(got) != 1 || got[bad].State != want {
				t.Errorf("%s: %v, %v", what, got, err)
			}
			if data.Read.Blobs != read {
				t.Errorf("%s: %+v", what, data)
			}
			if record, err = OpenRecord(c.cache, inv, night(1)); err != nil {
				t.Fatal(err)
			}
			for i, d := range digests {
				if isKept := record.at(inv.ID(d)) == hourOf(night(0)); isKept != (d != bad && i < read) {
					t.Errorf("%s: of blob %d it is remembered %v that it is intact", what, i, isKept)
				}
			}
		}
	}
}

// A bucket has no files: there the same errors are of the connection, or of a file with credentials, and end the run.
func TestErrorsOfAConnectionAreNoFaults(t *testing.T) {
	t.Parallel()
	inBucket, _ := bucket(t, newContent(t).tree.Root())
	for _, err := range []error{unix.EIO, unix.EACCES, unix.EPERM, io.ErrUnexpectedEOF} {
		if fault, got := faultIn(inBucket, fmt.Errorf("read: %w", err)); got == nil || fault != (Fault{}) {
			t.Errorf("%v is %+v", err, fault)
		}
	}
}
