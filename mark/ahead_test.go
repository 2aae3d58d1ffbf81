package mark

import (
	"errors"
	"io/fs"
	"testing"

	"regsweep/storage"
)

// What is not intact when it is read ahead is read again by Run: a manifest may come into
// place, or be found, after all. A storage that fails is an error at once.
func TestWhatIsNotIntactIsNotReadAhead(t *testing.T) {
	w := tell(t, `
		I = image c a
		app: I
		app: tag v1 I`)
	inv, err := storage.TakeInventory(t.Context(), w.memory, storage.InventoryOptions{})
	if err != nil {
		t.Fatal(err)
	}
	id, path := inv.ID(w.digest("I")), storage.BlobPath(w.digest("I"))
	ahead := NewAhead(w.memory)
	content := w.files[path]
	for _, damage := range []string{"", "{", content + " "} {
		w.files[path] = damage
		if err := ahead.Read(t.Context(), inv, id); err != nil {
			t.Fatal(err)
		}
	}
	w.files[path] = content
	w.fails[path] = fs.ErrNotExist
	if err := ahead.Read(t.Context(), inv, id); err != nil {
		t.Fatal(err)
	}
	failure := errors.New("the disk is on fire")
	w.fails[path] = failure
	if err := ahead.Read(t.Context(), inv, id); !errors.Is(err, failure) {
		t.Errorf("%v, want the storage's failure", err)
	}
	delete(w.fails, path)
	live, err := Run(t.Context(), inv, w.memory, Options{Ahead: ahead})
	if err != nil {
		t.Fatal(err)
	}
	if live.Manifests != 1 || len(live.Problems) > 0 || live.Repositories[0].Kept {
		t.Errorf("%d manifests, %v; want the one that is there now", live.Manifests, live.Problems)
	}
}
