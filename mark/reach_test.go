package mark

import (
	"slices"
	"strings"
	"testing"
)

// graph reads "a>b c, b>d": a has edges to b and c, b has one to d.
func graph(t *testing.T, text string) func(string) []string {
	t.Helper()
	edges := map[string][]string{}
	for part := range strings.SplitSeq(text, ",") {
		from, to, ok := strings.Cut(strings.TrimSpace(part), ">")
		if !ok && part != "" {
			t.Fatalf("no edge: %q", part)
		}
		edges[from] = append(edges[from], strings.Fields(to)...)
	}
	return func(n string) []string { return edges[n] }
}

func TestReach(t *testing.T) {
	for _, test := range []struct{ name, graph, roots, want string }{
		{"nothing is alive without a root", "a>b", "", ""},
		{"a root is alive without edges", "", "a", "a"},
		// a → b → c
		{"a chain is followed to its end", "a>b, b>c, x>y", "a", "a b c"},
		//   ↗ b ↘
		// a       d    e → d
		//   ↘ c ↗
		{"what is shared is reached once", "a>b c, b>d, c>d, e>d", "a", "a b c d"},
		// a → b → c → a
		{"a cycle ends", "a>b, b>c, c>a", "b", "a b c"},
		{"a node may point at itself", "a>a", "a", "a"},
		{"two roots reach both their parts", "a>b, c>d, e>f", "a c", "a b c d"},
		{"edges to what does not exist are alive too", "a>b", "a", "a b"},
		{"a root named twice counts once", "a>b", "a a", "a b"},
	} {
		t.Run(test.name, func(t *testing.T) {
			alive := MapSet[string]{}
			got := Reach(alive, strings.Fields(test.roots), graph(t, test.graph))
			slices.Sort(got)
			if strings.Join(got, " ") != test.want {
				t.Errorf("reached %q, want %q", got, test.want)
			}
			if len(alive) != len(got) {
				t.Errorf("%d alive, but %d added", len(alive), len(got))
			}
		})
	}
}

// Marking in stages says what the second stage has added to the first.
func TestReachInStages(t *testing.T) {
	// a → b → c ← d → e
	edges := graph(t, "a>b, b>c, d>c e")
	alive := MapSet[string]{}
	if got := Reach(alive, []string{"a"}, edges); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("first stage added %q", got)
	}
	if got := Reach(alive, []string{"d", "a"}, edges); !slices.Equal(got, []string{"d", "e"}) {
		t.Errorf("second stage added %q", got)
	}
}

// A chain of a million nodes needs no stack.
func TestReachLongChain(t *testing.T) {
	const n = 1_000_000
	got := Reach(MapSet[int]{}, []int{0}, func(i int) []int {
		if i == n {
			return nil
		}
		return []int{i + 1}
	})
	if len(got) != n+1 {
		t.Errorf("reached %d nodes, want %d", len(got), n+1)
	}
}
