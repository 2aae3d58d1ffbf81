package audit

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"regsweep/inventory"
)

// newPaths makes paths whose vertices are 0 to n-1, and whose target is n-1.
func newPaths(n int, arcs map[int][]int) *paths {
	p := &paths{arcs: make([][]arc, n), compare: cmp.Compare[inventory.ID]}
	for at := range n {
		p.vertices = append(p.vertices, vertex{id: inventory.ID(at)})
		for _, to := range arcs[at] {
			p.arcs[at] = append(p.arcs[at], arc{to: to})
		}
	}
	p.measure(inventory.ID(n - 1))
	p.count()
	return p
}

// all enumerates the paths from a vertex in which no vertex occurs twice, as texts.
func (p *paths) all(at int, before []int) (texts []string) {
	on := append(slices.Clone(before), at)
	if at == len(p.vertices)-1 {
		return []string{fmt.Sprint(on)}
	}
	for _, a := range p.arcs[at] {
		if !slices.Contains(on, a.to) {
			texts = append(texts, p.all(a.to, on)...)
		}
	}
	return texts
}

func textOf(found path) string {
	on := []int{found.first}
	for _, a := range found.arcs {
		on = append(on, a.to)
	}
	return fmt.Sprint(on)
}

// The counts and the paths are those of trying all, in graphs with and without cycles.
func TestPathsAreAllPaths(t *testing.T) {
	cyclic := 0
	for seed := range uint64(3000) {
		random := rand.New(rand.NewPCG(seed, 7))
		n := 2 + random.IntN(7)
		arcs := map[int][]int{}
		for at := range n - 1 {
			for to := range n {
				if back := seed%2 == 0; to != at && (to > at || back) && random.IntN(3) == 0 {
					arcs[at] = append(arcs[at], to)
				}
			}
		}
		p := newPaths(n, arcs)
		var want []string
		var from []int
		for at := range n {
			texts := p.all(at, nil)
			if p.distance[at] < 0 {
				continue
			}
			from = append(from, at)
			want = append(want, texts...)
			if p.counts[at] != int64(len(texts)) {
				t.Fatalf("seed %d: %d paths from %d, want %d: %v", seed, p.counts[at], at, len(texts), arcs)
			}
		}
		if len(p.components()) < n {
			cyclic++
		}
		var got []string
		length := 0
		for _, found := range p.shortest(from, 1000) {
			if text := textOf(found); len(found.arcs) < length {
				t.Errorf("seed %d: %s comes after a longer path", seed, text)
			}
			length = len(found.arcs)
			got = append(got, textOf(found))
		}
		few := p.shortest(from, 3)
		for i, found := range few {
			if textOf(found) != got[i] {
				t.Errorf("seed %d: with a limit, path %d is %s, not %s", seed, i, textOf(found), got[i])
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Fatalf("seed %d: %v\n%s\nwant\n%s", seed, arcs, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	if cyclic < 100 {
		t.Errorf("only %d graphs had a cycle", cyclic)
	}
}

// A graph with more paths than can be enumerated is counted all the same, up to Most.
func TestManyPathsAreCounted(t *testing.T) {
	// 0 → 1 → 3 → 4 → 6 …: at each step there are two ways
	//   ↘ 2 ↗   ↘ 5 ↗
	ladder := func(steps int) *paths {
		arcs := map[int][]int{}
		for i := range steps {
			arcs[3*i], arcs[3*i+1], arcs[3*i+2] = []int{3*i + 1, 3*i + 2}, []int{3*i + 3}, []int{3*i + 3}
		}
		return newPaths(3*steps+1, arcs)
	}
	if got := ladder(40).counts[0]; got != 1<<40 {
		t.Errorf("%d paths, want 2^40", got)
	}
	p := ladder(100)
	if got := p.counts[0]; got != Most {
		t.Errorf("%d paths, want Most", got)
	}
	if found := p.shortest([]int{0}, 5); len(found) != 5 || len(found[4].arcs) != 200 {
		t.Errorf("%d paths", len(found))
	}

	// All vertices lead to all others. The paths can't be counted in a reasonable time.
	arcs := map[int][]int{}
	for at := range 39 {
		for to := range 40 {
			if to != at {
				arcs[at] = append(arcs[at], to)
			}
		}
	}
	if got := newPaths(40, arcs).counts[0]; got != Most {
		t.Errorf("%d paths, want Most", got)
	}

	// A long chain needs no deep stack, and no budget.
	long := map[int][]int{}
	for at := range 1_200_000 {
		long[at] = []int{at + 1}
	}
	if got := newPaths(1_200_001, long).counts[0]; got != 1 {
		t.Errorf("%d paths, want 1", got)
	}
}
