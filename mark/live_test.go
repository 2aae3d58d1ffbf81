package mark

import (
	"slices"
	"strings"
	"testing"

	"regsweep/inventory"
	"regsweep/manifest"

	"github.com/opencontainers/go-digest"
)

// drawn is a graph whose nodes are letters, of which no manifest was read: Live needs none. The
// first lines of a drawing are its manifests, and all others what lists have as in a story:
//
//	X > I J       an index of the manifests I and J
//	I > c a       an image of the blobs c and a
//	S > p : I     an image of the blob p, whose subject is I
//	app: tag v1 X
func drawn(t *testing.T, drawing string) readStory {
	t.Helper()
	var lists []string
	manifests := map[string]string{}
	for line := range strings.Lines(drawing) {
		if letter, rest, found := strings.Cut(line, ">"); found {
			manifests[strings.TrimSpace(letter)] = rest
			continue
		}
		lists = append(lists, line)
	}
	w := newRegistry(t, strings.Join(lists, ""))
	for letter, rest := range manifests {
		for _, other := range append(strings.Fields(strings.ReplaceAll(rest, ":", "")), letter) {
			w.put(other)
		}
	}
	inv := w.inventory(t)
	b := newBuilder(inv)
	id := func(letter string) inventory.ID { return inv.ID(w.digest(letter)) }
	for letter, rest := range manifests {
		to, subject, hasSubject := strings.Cut(rest, ":")
		f := found{id: id(letter), node: node{kind: manifest.Image}}
		if f.node.hasSubject = hasSubject; hasSubject {
			f.node.subject = id(strings.TrimSpace(subject))
		}
		for letter := range strings.FieldsSeq(to) {
			v := plain(id(letter))
			if isManifest(letter) {
				v |= asManifest
				f.node.kind = manifest.Index
			}
			f.edges = append(f.edges, v)
		}
		b.add(f)
	}
	return readStory{w, inv, b.finish()}
}

// keeps are the letters of the blobs that are alive.
func (r readStory) keeps(t *testing.T, roots Roots) string {
	t.Helper()
	live, err := r.graph.Live(t.Context(), roots)
	if err != nil {
		t.Fatal(err)
	}
	var letters []string
	for id := range inventory.ID(r.inv.Blobs()) {
		if live.Blob(id).Alive() {
			letters = append(letters, r.letter(r.inv.Digest(id)))
		}
	}
	slices.Sort(letters)
	return strings.Join(letters, " ")
}

// One graph answers any number of questions, in whatever order, and each answer depends on the
// question alone.
func TestOneGraphAnswersManyQuestions(t *testing.T) {
	// v1 → X → I → c a    v2 → J → d a    K → e (untagged)
	//          ↑
	//          S → p
	r := drawn(t, `
		X > I
		I > c a
		J > d a
		K > e
		S > p : I
		app: revision X
		app: revision I
		app: revision J
		app: revision K
		app: revision S
		app: tag v1 X
		app: tag v2 J
		app: layer x`)
	without := func(tags ...string) Roots {
		return Roots{Revision: None, Tag: func(_, tag int) bool {
			return !slices.Contains(tags, r.inv.Repositories[0].Tags[tag].Name)
		}}
	}
	listed := without("v1", "v2")
	listed.Lists = []*ListRoots{rootsOf(t, r, "app:v1", "app:v2")}
	for range 2 {
		for _, test := range []struct {
			name  string
			roots Roots
			want  string
		}{
			{"as it is", Roots{}, "I J K S X a c d e p"},
			{"without untagged manifests", Roots{Revision: None}, "I J S X a c d p"},
			{"without a tag", without("v1"), "J a d"},
			{"without any tag", without("v1", "v2"), ""},
			{"with a list of both tags instead", listed, "I J S X a c d p"},
			{"with one untagged manifest kept", Roots{Revision: func(_, revision int) bool {
				return r.inv.Repositories[0].Revisions[revision].ID() == r.inv.ID(r.digest("K"))
			}}, "I J K S X a c d e p"},
		} {
			if got := r.keeps(t, test.roots); got != test.want {
				t.Errorf("%s: %q is kept, want %q", test.name, got, test.want)
			}
		}
	}
}

// A tag without a target is a root whatever Roots say: nothing tells which manifest it needs. Only a what-if
// may leave it out, and no plan may be made of that.
func TestTagWithoutTargetIsARoot(t *testing.T) {
	r := drawn(t, `
		I > c a
		J > d a
		app: entry v1 I
		app: tag v2 J`)
	if got := r.keeps(t, Roots{Tag: None, Revision: None}); got != "I a c" {
		t.Errorf("%q is kept", got)
	}
	whatIf := Roots{Tag: None, Revision: None, WhatIf: true}
	if got := r.keeps(t, whatIf); got != "" {
		t.Errorf("without the tags %q is kept", got)
	}
	live, err := r.graph.Live(t.Context(), whatIf)
	if err != nil {
		t.Fatal(err)
	}
	live, err = live.CheckLinks(t.Context(), nil, 0)
	if err != nil || live.Checked() || !slices.Equal(live.Repositories[0].DeadTags, []int{1}) {
		t.Errorf("checked %t, dead tags %v, %v", live.Checked(), live.Repositories[0].DeadTags, err)
	}
}

// A repository that damage keeps has all its tags, and so all that they lead to. No other link leads there.
func TestADamagedRepositoryKeepsWhatItsTagsLeadTo(t *testing.T) {
	const tagged = `
		X > I
		I > c a
		app: write _manifests/tags/v1/current/link X`
	list := Roots{Tag: None, Revision: None}
	for drawing, want := range map[string]string{
		tagged: "",
		tagged + "\n\t\tapp: write _manifests/tags/damaged/current/link no digest": "I X a c",
	} {
		if got := drawn(t, drawing).keeps(t, list); got != want {
			t.Errorf("%q is kept, want %q%s", got, want, drawing)
		}
	}
}

// A tag can be removed although its manifest is alive, and a tag that follows a subject lives and dies with it.
func TestTagsAreRemoved(t *testing.T) {
	// v1 → I → c a ← J ← v2, v3    follows → F, E once → S → p    S and F have no subject
	drawing := `
		I > c a
		J > d a
		S > p
		F > S
		E > S
		app: revision I
		app: revision J
		app: revision S
		app: revision F
		app: revision E
		app: tag follows F
		app: entry follows E
		app: tag v1 I
		app: tag v2 J
		app: tag v3 J`
	for _, test := range []struct {
		name, drawing string
		removed       []string
		subject       string // of the tag "follows", "" if it follows none
		keeps, dead   string
	}{
		{"a tag", drawing, []string{"v1"}, "", "F J S a d p", "v1"},
		{"a tag without a target", drawing + "\n\t\tapp: entry broken I", []string{"v1", "broken"}, "", "F I J S a c d p", "v1"},
		{"the last tag but one", drawing, []string{"v1", "v2"}, "", "F J S a d p", "v1 v2"},
		{"a tag and what follows it", drawing, []string{"v1"}, "I", "J a d", "follows v1"},
		{"a tag that has no followers", drawing, []string{"v2", "v3"}, "I", "E F I S a c p", "v2 v3"},
		{"a tag of a damaged repository", drawing + "\n\t\tapp: write _manifests/tags/bad/current/link no digest", []string{"v1", "v2"}, "I", "E F I J S a c d p", ""},
	} {
		r := drawn(t, test.drawing)
		tags := r.inv.Repositories[0].Tags
		roots := Roots{Revision: None, Removed: func(_, tag int) bool { return slices.Contains(test.removed, tags[tag].Name) }}
		if test.subject != "" {
			at, _ := r.inv.Repositories[0].FindTag("follows")
			roots.Followers = func(int) []Follower {
				return []Follower{{Tag: at, Subject: r.inv.ID(r.digest(test.subject)), Earlier: []inventory.ID{r.inv.ID(r.digest("E"))}}}
			}
		}
		if got := r.keeps(t, roots); got != test.keeps {
			t.Errorf("%s: %q is kept, want %q", test.name, got, test.keeps)
		}
		live, err := r.graph.Live(t.Context(), roots)
		if err != nil {
			t.Fatal(err)
		}
		var dead []string
		for _, tag := range live.Repositories[0].DeadTags {
			dead = append(dead, tags[tag].Name)
		}
		slices.Sort(dead)
		if got := strings.Join(dead, " "); got != test.dead {
			t.Errorf("%s: the tags %q are dead, want %q", test.name, got, test.dead)
		}
	}
}

// A graph tells what each manifest refers to, and whose referrer it is.
func TestGraphHasItsEdges(t *testing.T) {
	r := drawn(t, `
		X > I J
		I > c a
		J > d a
		S > p : I
		app: tag v1 X
		app: tag s S`)
	var edges []string
	for _, letter := range []string{"X", "I", "J", "S", "a"} {
		id := r.inv.ID(r.digest(letter))
		edge := letter + ":"
		for to, isManifest := range r.graph.Edges(id) {
			if edge += " " + r.letter(r.inv.Digest(to)); isManifest {
				edge += "!"
			}
		}
		if subject, found := r.graph.Subject(id); found {
			edge += " of " + r.letter(r.inv.Digest(subject))
		}
		edges = append(edges, edge)
	}
	if got, want := strings.Join(edges, ", "), "X: I! J!, I: c a, J: d a, S: p of I, a:"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	for range r.graph.Edges(r.inv.ID(r.digest("X"))) {
		break // a caller may end it
	}
}

// What is alive is reached from a root, along any path of edges, and through any number of
// referrers. Nothing else is.
func TestLiveIsWhatARootReaches(t *testing.T) {
	for _, test := range []struct{ name, drawing, want string }{
		{"a chain", `
			X > Y
			Y > Z
			Z > I
			I > a
			J > b
			app: tag v1 X`, "I X Y Z a"},
		{"what is shared", `
			X > I J
			I > a b
			J > b c
			K > c d
			app: tag v1 X`, "I J X a b c"},
		{"a cycle", `
			X > Y
			Y > X I
			I > a
			app: tag v1 Y`, "I X Y a"},
		// I ← S ← T ← U
		{"referrers of referrers", `
			I > a
			S > p : I
			T > q : S
			U > r : T
			app: revision S
			app: revision T
			app: revision U
			app: tag v1 I`, "I S T U a p q r"},
		{"a subject is not kept by its referrer", `
			I > a
			S > p : I
			app: tag sig S`, "S p"},
		{"referrers that refer to each other are kept by nobody", `
			S > p : T
			T > q : S
			I > a
			app: revision S
			app: revision T
			app: tag v1 I`, "I a"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := drawn(t, test.drawing).keeps(t, Roots{Revision: None}); got != test.want {
				t.Errorf("%q is kept, want %q", got, test.want)
			}
		})
	}
}

// A list names what no repository has a link to. Live refuses to take for content what Read has not
// read (promise 1).
func TestALiveOfWhatWasNotReadIsAnError(t *testing.T) {
	w := newRegistry(t, `
		I = image c a
		app: I
		app: tag v1 I
		J = image d b
		lib: J
		unlink lib J`)
	inv := w.inventory(t)
	list := rootsOf(t, readStory{registry: w, inv: inv}, string(w.digest("J")))
	for _, isRead := range []bool{false, true} {
		options := ReadOptions{}
		if isRead {
			options.Lists = []*ListRoots{list}
		}
		graph, err := Read(t.Context(), inv, w.memory, options)
		if err != nil {
			t.Fatal(err)
		}
		live, err := graph.Live(t.Context(), Roots{Lists: []*ListRoots{list}})
		if (err == nil) != isRead || isRead && !live.Blob(inv.ID(w.digest("b"))).Alive() {
			t.Errorf("it was read: %t, and %+v, %v", isRead, live, err)
		}
	}
}

// Checking the links makes another Live, and leaves the first as it is.
func TestCheckingLinksChangesNothing(t *testing.T) {
	w := newRegistry(t, `
		I = image c a
		app: I x
		app: tag v1 I
		app: write _layers/sha256/`+digest.FromString("x").Encoded()+`/link garbage
		lib: y`)
	inv, err := inventory.Take(t.Context(), unsized{w.memory}, inventory.Options{})
	if err != nil {
		t.Fatal(err)
	}
	graph, err := Read(t.Context(), inv, w.memory, ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	live, err := graph.Live(t.Context(), Roots{})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // with the same result
		checked, err := live.CheckLinks(t.Context(), w.memory, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := w.garbage(inv, checked), "lib: y; blobs: y"; got != want || !checked.Checked() || problemsOf(checked) != "app damaged_link keeps_repository" {
			t.Errorf("checked: %q is garbage, want %q; %t, %s", got, want, checked.Checked(), problemsOf(checked))
		}
		if got, want := w.garbage(inv, live), "app: x; lib: y; blobs: x y"; got != want || live.Checked() || problemsOf(live) != "" {
			t.Errorf("before that: %q is garbage, want %q; %t, %s", got, want, live.Checked(), problemsOf(live))
		}
	}
}

// Edges are those that were added, however many a manifest has.
func TestEdgesAreFoundAgain(t *testing.T) {
	var all edges
	var spans []span
	counts := []int{0, 1, pageSize - 1, 1, 2, pageSize, 0, pageSize + 1, 3, 5 * pageSize, 7, pageSize - 7, 1}
	for i, count := range counts {
		to := make([]vertex, count)
		for at := range to {
			to[at] = vertex(i*10*pageSize + at)
		}
		spans = append(spans, all.add(to))
	}
	for i, s := range spans {
		got := all.of(s)
		if len(got) != counts[i] {
			t.Fatalf("the %d-th has %d edges, want %d", i, len(got), counts[i])
		}
		for at, v := range got {
			if v != vertex(i*10*pageSize+at) {
				t.Fatalf("edge %d of the %d-th is %d", at, i, v)
			}
		}
	}
}

func rootsOf(t *testing.T, r readStory, lines ...string) *ListRoots {
	t.Helper()
	list, err := ReadRoots("list", strings.NewReader(strings.Join(lines, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	return list.Find(r.inv)
}

// A second mark finds the damage of links that are dead only there, and does not read again those that were
// dead before.
func TestASecondMarkChecksOtherLinks(t *testing.T) {
	w := newRegistry(t, `
		I = image c a
		J = image d b
		app: I
		app: tag v1 I
		app: J
		app: tag v2 J
		app: x
		other: y`)
	damaged, dead := w.linkPath("app", "b"), w.linkPath("app", "x")
	w.files[damaged] = "no digest"
	r := w.readings(t)[0]
	first := r.live(t, Roots{})
	if first.Repositories[0].Kept || w.read[dead] != 1 {
		t.Fatalf("kept %v, and the dead link was read %d times", first.Repositories[0].Kept, w.read[dead])
	}
	without := Roots{Revision: None, Tag: func(_, tag int) bool { return r.inv.Repositories[0].Tags[tag].Name == "v1" }}
	second, err := first.With(t.Context(), r.graph, without)
	if err == nil && second.Checked() {
		t.Error("it is checked before CheckLinks")
	}
	if err == nil {
		second, err = second.CheckLinks(t.Context(), w.memory, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	if !second.Repositories[0].Kept || w.read[damaged] == 0 || w.read[dead] != 1 {
		t.Errorf("kept %v, the damaged link was read %d times, and the dead one %d times", second.Repositories[0].Kept, w.read[damaged], w.read[dead])
	}
}

// A view has what damage would keep, and what a repository names.
func TestAViewHasLinks(t *testing.T) {
	r := drawn(t, `
		I > c a
		S > p : I
		app: revision I
		app: revision S
		app: entry v1 K
		app: layer x`)
	at, _ := r.inv.FindRepository("app")
	view := r.graph.View(at)
	if got := r.letters(view.Linked()); got != "I K S x" {
		t.Errorf("links to %s", got)
	}
	named := view.Named()
	slices.Sort(named)
	if got := r.letters(slices.Compact(named)); got != "I K S a c p x" {
		t.Errorf("names %s", got)
	}
}
