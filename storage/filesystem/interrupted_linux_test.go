package filesystem

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"regsweep/internal/system/systemtest"
	"regsweep/storage"
	"regsweep/storage/layout"

	"golang.org/x/sys/unix"
)

// A filesystem in user space, or NFS, may interrupt any call. Each interrupted call is repeated.
func TestAnInterruptedCallIsMadeAgain(t *testing.T) {
	tree, store, image := smallRegistry(t)
	var mu sync.Mutex
	interrupted := map[string]int{}
	forever := ""
	systemtest.FailBelow(t, tree.Path(""), func(op, path string) error {
		mu.Lock()
		defer mu.Unlock()
		call := op + " " + path
		if interrupted[call]++; interrupted[call]%2 == 1 || path == forever && op == "unlinkat" {
			return unix.EINTR
		}
		return nil
	})
	inv := takenInventory(t, store)
	if len(inv.Problems) > 0 || len(inv.Repositories) != 1 || len(inv.Repositories[0].Tags) != 1 {
		t.Errorf("the inventory has %+v", inv)
	}
	lock := store.(storage.Locker)
	version, err := lock.Create(t.Context(), ".regsweep/lock", []byte("one"))
	if err == nil {
		version, err = lock.Replace(t.Context(), ".regsweep/lock", []byte("two"), version)
	}
	if err == nil {
		err = lock.Delete(t.Context(), ".regsweep/lock", version)
	}
	if err != nil {
		t.Error(err)
	}
	link, blob := layout.RevisionPath("app", image), layout.BlobPath(image)
	if err := store.Move(t.Context(), []storage.Move{{From: link, To: storage.QuarantineDir + "/run/" + link}})[0].Err; err != nil {
		t.Error(err)
	}
	if err := store.Remove(t.Context(), []storage.Ref{{Path: blob}})[0].Err; err != nil || tree.Exists(blob) || tree.Exists(link) {
		t.Errorf("removed: %v", err)
	}
	mu.Lock()
	for _, op := range []string{"openat", "getdents", "read", "write", "unlinkat", "renameat2", "mkdirat"} {
		met := false
		for call := range interrupted {
			met = met || strings.HasPrefix(call, op+" ")
		}
		if !met {
			t.Errorf("no call of %s was interrupted", op)
		}
	}
	// A call that never ends is an error, and nothing counts as removed.
	forever = layout.TagPath("app", "v1")
	mu.Unlock()
	if err := store.Remove(t.Context(), []storage.Ref{{Path: forever}})[0].Err; !errors.Is(err, unix.EINTR) || !tree.Exists(forever) {
		t.Errorf("removed: %v", err)
	}
}
