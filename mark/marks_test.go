package mark

import (
	"math/rand/v2"
	"testing"

	"regsweep/inventory"
)

// An array and a map say the same of every digest, also of one that had no id when they
// were made.
func TestMarksInAnArrayAndInAMapAreAlike(t *testing.T) {
	const digests, late = 200, 40
	array, few := newMarks(digests, digests), newMarks(0, digests)
	if array.dense == nil || few.dense != nil {
		t.Fatal("these are not an array and a map")
	}
	random := rand.New(rand.NewPCG(1, 2))
	added, kept := 0, 0
	for range 2000 {
		id := inventory.ID(random.IntN(digests + late))
		v := plain(id)
		if random.IntN(2) == 0 {
			v |= asManifest
		}
		isNew := array.Add(v)
		if few.Add(v) != isNew {
			t.Fatalf("the array says that %x is new: %t, and the map does not", v, isNew)
		}
		if isNew {
			added++
		}
		if random.IntN(4) == 0 {
			cause := Cause(1 + random.IntN(int(Absent)))
			keeps := array.keep(id, cause)
			if few.keep(id, cause) != keeps {
				t.Fatalf("the array says that %x had no cause: %t, and the map does not", v, keeps)
			}
			if keeps && array.cause(id) != cause {
				t.Fatalf("the cause of %x is %d, want %d", id, array.cause(id), cause)
			}
			if keeps {
				kept++
			}
		}
		for id := range inventory.ID(digests + late + 1) {
			if array.isAlive(id) != few.isAlive(id) || array.cause(id) != few.cause(id) {
				t.Fatalf("of %x the array says %t, %d, and the map %t, %d", id,
					array.isAlive(id), array.cause(id), few.isAlive(id), few.cause(id))
			}
		}
	}
	if want := 2 * (digests + late); added > want || added < want*9/10 || kept < digests/2 {
		t.Errorf("%d of %d were new, and %d given a cause", added, want, kept)
	}
}

// An array that another repository has had says nothing of its digests.
func TestMarksOfOneRepositoryAreNotTheNextOnes(t *testing.T) {
	const digests = 1000
	for range 100 { // a pool need not give back what it was given
		m := newMarks(digests/20, digests)
		for id := range inventory.ID(digests + 1) {
			if m.isAlive(id) || m.cause(id) != Dead {
				t.Fatalf("%d is alive (%t) for %d before anything was marked", id, m.isAlive(id), m.cause(id))
			}
			m.Add(plain(id))
			m.keep(id, Tagged)
		}
		m.release()
	}
}
