package cli

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"
)

// With much in use the heap stays close to it: the collector is told anew as that grows.
func TestGarbageIsBounded(t *testing.T) {
	t.Setenv("GOGC", "")
	t.Setenv("GOMEMLIMIT", "")
	before := debug.SetGCPercent(100)
	defer debug.SetGCPercent(before)
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(-1))
	boundGarbage()
	const inUse = 512 << 20
	table := make([]byte, inUse)
	goal := func() uint64 {
		sample := []metrics.Sample{{Name: "/gc/heap/goal:bytes"}}
		metrics.Read(sample)
		return sample[0].Value.Uint64()
	}
	for try := 0; ; try++ {
		runtime.GC()
		time.Sleep(10 * time.Millisecond) // the cleanup comes after the collection
		limit := debug.SetMemoryLimit(-1)
		if now := goal(); now > inUse && now < inUse+garbageMiddle+inUse/20 && limit > inUse+garbageMiddle && limit < inUse+garbageMiddle+inUse/4 {
			break
		}
		if try == 100 {
			t.Fatalf("with %d bytes in use the heap may become %d, and all %d", inUse, goal(), limit)
		}
	}
	runtime.KeepAlive(table)
}

func TestGarbagePercent(t *testing.T) {
	const mib = 1 << 20
	for inUse, want := range map[uint64]uint64{0: 64, 1: 64, 4: 64, 32: 64, 96: 64, 192: 64, 240: 80, 288: 96, 700: 96, 1152: 96, 1200: 100, 9600: 800} {
		allowed := max(inUse, 4) * uint64(garbagePercent(inUse*mib, allowedGarbage(inUse*mib))) / 100
		if allowed > want || allowed < want-want/10 {
			t.Errorf("with %d MiB in use %d MiB of garbage are allowed, want %d", inUse, allowed, want)
		}
	}
}
