package cli

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// How much garbage may lie about before it is collected: a twelfth of what is in use. A
// third of it, up to garbageMiddle, and garbageFloor are allowed in any case.
const (
	garbageFloor  = 64 << 20
	garbageMiddle = 96 << 20
)

// boundGarbage makes the heap grow with what is in use, and hardly beyond.
//
// By default Go lets a heap become twice as large as what is in use, since collecting
// costs time in proportion to that. Of ours it does not: an inventory of millions is a
// few arrays without pointers, which the collector need not look into. So it may
// collect far more often for the same price, and the peak is a twelfth above what is in
// use and not all of it again. Where little is in use it collects less often than usual.
//
// After every collection the target of the next is set anew. Who has set GOGC or
// GOMEMLIMIT knows better.
func boundGarbage() {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	percent := 0
	afterEachCollection(func() {
		inUse := inUse()
		garbage := mayLieAbout(inUse)
		if next := garbagePercent(inUse, garbage); next != percent {
			percent = next
			debug.SetGCPercent(next)
		}
		debug.SetMemoryLimit(int64(inUse + garbage + spare))
	})
}

// spare is what the program may hold beyond what is in use and garbage: stacks, tables of the
// runtime, and free memory between what is in use. Beyond it the runtime gives free memory
// back to the system before it takes more.
const spare = 32 << 20

// mayLieAbout is how many bytes of garbage to allow where so many are in use.
func mayLieAbout(inUse uint64) uint64 {
	return max(garbageFloor, min(inUse/3, garbageMiddle), inUse/12)
}

// garbagePercent is garbage in percent of what is in use. Go takes that for 4 MiB at least.
func garbagePercent(inUse, garbage uint64) int { return int(100 * garbage / max(inUse, 4<<20)) }

// inUse is how many bytes the last collection found in use.
func inUse() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	if sample[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return sample[0].Value.Uint64()
}

// afterEachCollection calls f after each collection of garbage, from one goroutine at a
// time: an object that nothing refers to is cleaned up by the next one.
func afterEachCollection(f func()) {
	f()
	runtime.AddCleanup(new([64]byte), afterEachCollection, f)
}
