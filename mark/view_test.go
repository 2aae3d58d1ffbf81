package mark

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"regsweep/inventory"
)

// letters are the letters of digests, sorted.
func (r readStory) letters(ids []inventory.ID) string {
	var letters []string
	for _, id := range ids {
		letters = append(letters, r.letter(r.inv.Digest(id)))
	}
	slices.Sort(letters)
	return strings.Join(letters, " ")
}

// A pull fetches what a manifest reaches by references. A manifest keeps its referrers alive too.
func TestAViewHasPullsAndReferrers(t *testing.T) {
	r := drawn(t, `
		X > I J
		I > c a
		J > d a
		S > p : I
		T > q : S
		app: revision X
		app: revision I
		app: revision J
		app: revision S
		app: revision T
		app: tag v1 X`)
	at, _ := r.inv.FindRepository("app")
	view := r.graph.View(at)
	root := r.inv.ID(r.digest("X"))
	if got := r.letters(view.Pulled(root)); got != "I J X a c d" {
		t.Errorf("a pull fetches %s", got)
	}
	if got := r.letters(view.Kept(root)); got != "I J S T X a c d p q" {
		t.Errorf("the tag keeps %s", got)
	}
	var edges []string
	for _, e := range view.Edges(r.inv.ID(r.digest("I")), true) {
		edges = append(edges, fmt.Sprint(r.letters([]inventory.ID{e.To}), " ", e.Kind == ConfigEdge, e.Kind == LayerEdge, e.Kind == ReferrerEdge, e.IsManifest))
	}
	if want := []string{"c true false false false", "a false true false false", "S false false true true"}; !slices.Equal(edges, want) {
		t.Errorf("edges %q, want %q", edges, want)
	}
}

// The holdings of a repository are the stored blobs that it keeps alive, whether it has links to them or
// not. A blob that two repositories keep is in the holdings of both.
func TestHoldings(t *testing.T) {
	r := newRegistry(t, `
		I = image c a
		J = image d a
		K = image e
		app: I
		app: tag v1 I
		app: J
		app: layer x
		unlink app c
		other: J
		other: tag v1 J
		lone: K
		unlink lone e
	`).readings(t)[0]
	live := r.live(t, Roots{})
	var mu sync.Mutex
	got := map[string]string{}
	err := live.Holdings(t.Context(), r.graph, func(i int, holdings []Holding) {
		byCause := map[Cause][]inventory.ID{}
		for _, h := range holdings {
			byCause[h.Cause] = append(byCause[h.Cause], h.ID)
		}
		mu.Lock()
		defer mu.Unlock()
		got[r.inv.Repositories[i].Name] = r.letters(byCause[Tagged]) + " | " + r.letters(byCause[Untagged])
	})
	want := map[string]string{"app": "I a c | J d", "other": "J a d | ", "lone": " | K e"}
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
}
