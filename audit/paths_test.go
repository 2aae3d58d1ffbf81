package audit

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"regsweep/inventory"
)

// newPaths makes paths whose vertices are 0 to n-1, and whose target is n-1.
func newPaths(n int, arcs map[int][]int) *paths {
	p := &paths{arcs: make([][]arc, n)}
	for at := range n {
		p.vertices = append(p.vertices, vertex{id: inventory.ID(at)})
		for _, to := range arcs[at] {
			p.arcs[at] = append(p.arcs[at], arc{to: to})
		}
	}
	p.measure(inventory.ID(n - 1))
	return p
}

// hasCycle reports whether a vertex leads back to itself.
func hasCycle(n int, arcs map[int][]int) bool {
	var leads func(from, to, steps int) bool
	leads = func(from, to, steps int) bool {
		return slices.ContainsFunc(arcs[from], func(next int) bool { return next == to || steps > 1 && leads(next, to, steps-1) })
	}
	for at := range n {
		if leads(at, at, n) {
			return true
		}
	}
	return false
}

// allPaths enumerates the paths from a vertex to n-1 in which no vertex occurs twice, as texts.
func allPaths(n int, arcs map[int][]int, at int, before []int) (texts []string) {
	on := append(slices.Clone(before), at)
	if at == n-1 {
		return []string{fmt.Sprint(on)}
	}
	for _, to := range arcs[at] {
		if !slices.Contains(on, to) {
			texts = append(texts, allPaths(n, arcs, to, on)...)
		}
	}
	return texts
}

func textOf(found path) string {
	var on []int
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
			texts := allPaths(n, arcs, at, nil)
			if leads := p.distance[at] >= 0; leads != (len(texts) > 0) {
				t.Fatalf("seed %d: from %d, distance %d, with the paths %q: %v", seed, at, p.distance[at], texts, arcs)
			} else if !leads {
				continue
			}
			from = append(from, at)
			want = append(want, texts...)
			if p.count(at) != int64(len(texts)) {
				t.Fatalf("seed %d: %d paths from %d, want %d: %v", seed, p.count(at), at, len(texts), arcs)
			}
		}
		if hasCycle(n, arcs) {
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
	// 1 → 2 → 4 → 5 → 7 …: at each step there are two ways, and one to a dead end, 0
	//   ↘ 3 ↗   ↘ 6 ↗
	ladder := func(steps int) *paths {
		arcs := map[int][]int{}
		for i := range steps {
			arcs[3*i+1], arcs[3*i+2], arcs[3*i+3] = []int{0, 3*i + 2, 3*i + 3}, []int{3*i + 4}, []int{3*i + 4}
		}
		return newPaths(3*steps+2, arcs)
	}
	if got := ladder(40).count(1); got != 1<<40 {
		t.Errorf("%d paths, want 2^40", got)
	}
	p := ladder(100)
	if got := p.count(1); got != Most {
		t.Errorf("%d paths, want Most", got)
	}
	if found := p.shortest([]int{1}, 5); len(found) != 5 || len(found[4].arcs) != 201 {
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
	p = newPaths(40, arcs)
	if got := p.count(0); got != Most {
		t.Errorf("%d paths, want Most", got)
	}
	if found := p.shortest([]int{0}, 1<<30); len(found) == 0 || p.steps != mostSteps {
		t.Errorf("%d paths in %d steps, want some in mostSteps", len(found), p.steps)
	}

	// The length of a chain does not matter for the count.
	if got := chain(1_200_000).count(0); got != 1 {
		t.Errorf("%d paths, want 1", got)
	}
}

// chain makes the paths of a chain: 0 → 1 → 2 …
func chain(steps int) *paths {
	arcs := map[int][]int{}
	for at := range steps {
		arcs[at] = []int{at + 1}
	}
	return newPaths(steps+1, arcs)
}

// A long chain is listed in as many steps as it has elements. A list that visits all earlier elements in each
// step would need 2*10^10 visits.
func TestALongChainIsListed(t *testing.T) {
	p := chain(200_000)
	if found := p.shortest([]int{0}, 2); len(found) != 1 || len(found[0].arcs) != 200_001 || p.steps != 200_001 {
		t.Errorf("%d paths in %d steps, want 1 in 200,001", len(found), p.steps)
	}
}
