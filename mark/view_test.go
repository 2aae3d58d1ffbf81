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

// A pull fetches what a manifest reaches by references, the content of a sha512 digest, and the signatures
// of schema 1. A manifest keeps its referrers alive too.
func TestAViewHasPullsAndReferrers(t *testing.T) {
	r := newRegistry(t, `
		I = image c a b!
		V = schema1 d
		X = index I V
		S = signs I p
		T = signs S q
		app: S
		app: T
		app: signature V s
		app: X
		app: tag v1 X`).readings(t)[0]
	at, _ := r.inv.FindRepository("app")
	view := r.graph.View(at)
	root := r.inv.ID(r.digest("X"))
	if got := r.letters(view.Pulled(root)); got != "I V X a b b! c d s" {
		t.Errorf("a pull fetches %s", got)
	}
	if got := r.letters(view.Kept(root)); got != "I S T V X a b b! c d p q s" {
		t.Errorf("the tag keeps %s", got)
	}
	for letter, want := range map[string]string{
		"X":  "entry I manifest, entry V manifest",
		"I":  "config c, layer a, layer b!, referrer S manifest",
		"V":  "layer d, signature s",
		"b!": "alias b",
		"S":  "config p, referrer T manifest",
		"p":  "",
	} {
		var edges []string
		id := r.inv.ID(r.digest(letter))
		for _, e := range view.Edges(id, view.IsManifest(id)) {
			edge := string(e.Kind) + " " + r.letters([]inventory.ID{e.To})
			if e.IsManifest {
				edge += " manifest"
			}
			edges = append(edges, edge)
		}
		if got := strings.Join(edges, ", "); got != want {
			t.Errorf("%s has the edges %q, want %q", letter, got, want)
		}
	}
}

// A repository keeps stored blobs alive, whether it has links to them or not. Each repository has a blob that two
// repositories keep.
func TestEachKept(t *testing.T) {
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
	err := live.EachKept(t.Context(), r.graph, func(i int, blobs []inventory.ID) {
		mu.Lock()
		defer mu.Unlock()
		got[r.inv.Repositories[i].Name] = r.letters(blobs)
	})
	want := map[string]string{"app": "I J a c d", "other": "J a d", "lone": "K e"}
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
}
