package mark

import (
	"errors"
	"testing"

	"regsweep/inventory"
	"regsweep/storage/layout"
)

// A manifest that is missing when it is read ahead is read again by Read, and no other. A
// storage that fails is an error at once.
func TestWhatIsMissingIsLeftToRead(t *testing.T) {
	w := newRegistry(t, `
		I = image c a
		J = image c b
		app: I J
		app: tag v1 I`)
	store := unsized{w.memory}
	inv, err := inventory.Take(t.Context(), store, inventory.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ahead := NewAhead(store)
	read := func(letter string) error { return ahead.Read(t.Context(), inv, inv.ID(w.digest(letter))) }

	missing, damaged := layout.BlobPath(w.digest("I")), layout.BlobPath(w.digest("J"))
	failure := errors.New("the disk is on fire")
	w.fails[missing] = failure
	if err := read("I"); !errors.Is(err, failure) {
		t.Errorf("%v, want the storage's failure", err)
	}
	delete(w.fails, missing)

	content := w.files[missing]
	delete(w.files, missing)
	w.files[damaged] = "{"
	for _, letter := range []string{"I", "J"} {
		if err := read(letter); err != nil {
			t.Fatal(err)
		}
	}
	w.files[missing] = content
	live, err := run(t.Context(), inv, store, ReadOptions{Ahead: ahead}, Roots{})
	if err != nil {
		t.Fatal(err)
	}
	if live.Manifests != 1 || len(live.Problems) != 1 || w.read[damaged] != 1 {
		t.Errorf("%d manifests, %v, %d reads of the damaged one; want the one that is there now, and one problem and read",
			live.Manifests, live.Problems, w.read[damaged])
	}
}

// Ids mean something in one inventory alone: what was read for another is not taken.
func TestWhatWasReadForAnotherInventoryIsNotTaken(t *testing.T) {
	w := newRegistry(t, `
		I = image c a
		app: I
		app: tag v1 I`)
	inventory := func() *inventory.Inventory {
		inv, err := inventory.Take(t.Context(), w.memory, inventory.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return inv
	}
	other, inv := inventory(), inventory()
	ahead := w.readAhead(t, other, 1)
	path := layout.BlobPath(w.digest("I"))
	if _, err := Read(t.Context(), inv, w.memory, ReadOptions{Ahead: ahead}); err != nil || w.read[path] != 2 {
		t.Errorf("%v, %d reads; want one for each inventory", err, w.read[path])
	}
	if _, err := Read(t.Context(), other, w.memory, ReadOptions{Ahead: ahead}); err != nil || w.read[path] != 2 {
		t.Errorf("%v, %d reads; want none for what was read ahead", err, w.read[path])
	}
}
