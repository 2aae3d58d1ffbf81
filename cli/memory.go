package cli

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// The memory that garbage may take before it is collected is a twelfth of the memory in use. It is at
// least garbageFloor, and at least a third of the memory in use up to garbageMiddle.
const (
	garbageFloor  = 64 << 20
	garbageMiddle = 96 << 20
)

// boundGarbage limits the heap to little more than the memory in use.
//
// By default Go lets the heap become twice as large as the memory in use, because a collection takes
// time in proportion to that. It does not here: an inventory of millions of blobs is a few arrays
// without pointers, and the collector does not read them. So frequent collections cost little, and the
// peak is a twelfth above the memory in use. A small heap is collected less often than by default.
//
// After each collection the limit is set again. GOGC and GOMEMLIMIT in the environment take precedence.
func boundGarbage() {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	percent := 0
	afterEachCollection(func() {
		inUse := inUse()
		garbage := allowedGarbage(inUse)
		if next := garbagePercent(inUse, garbage); next != percent {
			percent = next
			debug.SetGCPercent(next)
		}
		debug.SetMemoryLimit(int64(inUse + garbage + spare))
	})
}

// spare is the memory in bytes that the program may hold in addition to the heap: stacks, tables of the
// runtime, and free memory between objects. Beyond it the runtime returns free memory to the system
// before it takes more.
const spare = 32 << 20

// allowedGarbage returns how many bytes of garbage are allowed if inUse bytes are in use.
func allowedGarbage(inUse uint64) uint64 {
	return max(garbageFloor, min(inUse/3, garbageMiddle), inUse/12)
}

// garbagePercent returns garbage in percent of the memory in use. Go assumes that this is at least 4 MiB.
func garbagePercent(inUse, garbage uint64) int { return int(100 * garbage / max(inUse, 4<<20)) }

// inUse returns how many bytes were in use after the last collection.
func inUse() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	if sample[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return sample[0].Value.Uint64()
}

// afterEachCollection calls f now and after each collection. The calls are serial. An object that is
// not referenced is cleaned up by the next collection, and its cleanup calls f.
func afterEachCollection(f func()) {
	f()
	runtime.AddCleanup(new([64]byte), afterEachCollection, f)
}
