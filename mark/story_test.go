package mark

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"regsweep/inventory"
	"regsweep/storage"
	"regsweep/storage/layout"

	"github.com/opencontainers/go-digest"
)

// memory is a storage in memory.
type memory struct {
	storage.Store // the rest of the interface, which marking has no business with
	files         map[string]string
	young         map[string]bool
	fails         map[string]error // what reading a path answers

	mu   sync.Mutex
	read map[string]int
}

func (m *memory) Identity() storage.Identity { return storage.Identity{} }

func (m *memory) object(path string) storage.Object {
	age := 48 * time.Hour
	if m.young[path] {
		age = 0
	}
	return storage.Object{Path: path, Size: int64(len(m.files[path])), ModTime: storyTime.Add(-age)}
}

func (m *memory) Scan(_ context.Context, dir string, visit func([]storage.Object) error) error {
	for path := range m.files {
		if strings.HasPrefix(path, dir+"/") {
			if err := visit([]storage.Object{m.object(path)}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *memory) Read(_ context.Context, path string, limit int64) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.read[path]++
	content, found := m.files[path]
	switch {
	case m.fails[path] != nil:
		return nil, m.fails[path]
	case !found:
		return nil, fmt.Errorf("%s: %w", path, fs.ErrNotExist)
	case int64(len(content)) > limit:
		return nil, fmt.Errorf("%s: %w", path, storage.ErrTooLarge)
	}
	return []byte(content), nil
}

func (m *memory) Stat(_ context.Context, path string) (storage.Object, error) {
	if _, found := m.files[path]; !found {
		return storage.Object{}, fmt.Errorf("%s: %w", path, fs.ErrNotExist)
	}
	return m.object(path), nil
}

const (
	ociImage = `application/vnd.oci.image.manifest.v1+json`
	ociIndex = `application/vnd.oci.image.index.v1+json`
)

var storyTime = time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)

// registry is a story in the making. Small letters are blobs, capitals manifests.
type registry struct {
	*memory
	content map[string]string
	reaches map[string][]string
}

// newRegistry makes a storage out of lines of these forms:
//
//	I = image c a b    an image of config c and layers a and b; a! is a under sha512
//	X = index I J      an index; J may be unheard of, or a blob
//	K = cache a I      an index that takes all its entries for blobs
//	L = bare I a       an index that does not say what its entries are
//	S = signs I p      an image with the payload p whose subject is I
//	V = schema1 a b    schema 1
//	U = future a I     a type that nobody knows, which names a and I
//	B = broken a       JSON that is no manifest, which names a
//	app: I             push I to app with all that it reaches; a for a blob
//	app: revision I    its link alone; likewise: layer a, alias a, signature V s
//	app: tag v1 I      point a tag at I; likewise: entry v1 I, for its index alone
//	app: write P text  write any file of the repository
//	unlink app I       remove a revision link, or a layer link
//	lose a             remove a blob; likewise: spoil a, for one that has rotted
//	young app I        a link was written a moment ago
func newRegistry(t *testing.T, story string) *registry {
	t.Helper()
	w := &registry{
		memory:  &memory{files: map[string]string{}, young: map[string]bool{}, fails: map[string]error{}, read: map[string]int{}},
		content: map[string]string{}, reaches: map[string][]string{},
	}
	for line := range strings.Lines(story) {
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		switch {
		case len(words) == 0:
		case len(words) > 1 && words[1] == "=":
			w.define(words[0], words[2], words[3:])
		case strings.HasSuffix(words[0], ":"):
			w.in(strings.TrimSuffix(words[0], ":"), words[1:])
		case words[0] == "lose":
			delete(w.files, layout.BlobPath(w.digest(words[1])))
		case words[0] == "spoil":
			w.files[layout.BlobPath(w.digest(words[1]))] += " "
		case words[0] == "unlink":
			delete(w.files, w.linkPath(words[1], words[2]))
		case words[0] == "young":
			w.young[w.linkPath(words[1], words[2])] = true
		default:
			t.Fatalf("the line %q has no known form", line)
		}
	}
	return w
}

func (w *registry) text(letter string) string {
	if content, defined := w.content[letter]; defined {
		return content
	}
	return letter
}

func (w *registry) digest(letter string) digest.Digest {
	if letter, long := strings.CutSuffix(letter, "!"); long {
		return digest.SHA512.FromString(w.text(letter))
	}
	return digest.FromString(w.text(letter))
}

func isManifest(letter string) bool { return letter >= "A" && letter <= "Z~" }

func (w *registry) linkPath(repository, letter string) string {
	if isManifest(letter) {
		return layout.RevisionPath(repository, w.digest(letter))
	}
	return layout.LayerPath(repository, w.digest(letter))
}

func (w *registry) define(letter, kind string, parts []string) {
	descriptor := func(letter string) map[string]any {
		d := map[string]any{"digest": w.digest(letter), "mediaType": "application/octet-stream", "size": len(w.text(letter))}
		if isManifest(letter) {
			d["mediaType"] = ociImage
		}
		if kind == "future" {
			return map[string]any{"ref": w.digest(letter)}
		}
		return d
	}
	list := []any{}
	for _, part := range parts {
		list = append(list, descriptor(part))
	}
	m := map[string]any{"schemaVersion": 2}
	switch kind {
	case "image":
		m["mediaType"], m["config"], m["layers"] = ociImage, list[0], list[1:]
	case "index":
		m["mediaType"], m["manifests"] = ociIndex, list
	case "cache":
		for _, entry := range list {
			entry.(map[string]any)["mediaType"] = "application/vnd.oci.image.layer.v1.tar+gzip"
		}
		m["mediaType"], m["manifests"] = ociIndex, list
	case "bare":
		for _, entry := range list {
			delete(entry.(map[string]any), "mediaType")
		}
		m["mediaType"], m["manifests"] = ociIndex, list
	case "signs":
		m["mediaType"], m["subject"], m["config"], m["layers"] = ociImage, list[0], list[1], list[2:]
		parts = parts[1:]
	case "schema1":
		sums := []any{}
		for _, part := range parts {
			sums = append(sums, map[string]any{"blobSum": w.digest(part)})
		}
		m["schemaVersion"], m["fsLayers"] = 1, sums
	case "future":
		m["mediaType"], m["things"] = "application/vnd.example.future+json", list
	case "broken":
		m["mediaType"], m["layers"], m["things"] = ociImage, "none", list
	}
	content, err := json.Marshal(m)
	if err != nil {
		panic(err) // maps and strings always encode
	}
	w.content[letter], w.reaches[letter] = string(content), parts
}

func (w *registry) in(repository string, words []string) {
	link := func(path string, to digest.Digest) { w.files[path] = string(to) }
	switch words[0] {
	case "revision":
		link(layout.RevisionPath(repository, w.digest(words[1])), w.digest(words[1]))
	case "layer":
		link(layout.LayerPath(repository, w.digest(words[1])), w.digest(words[1]))
	case "alias":
		link(layout.LayerPath(repository, w.digest(words[1]+"!")), w.digest(words[1]))
	case "signature":
		w.put(words[2])
		link(layout.SignaturePath(repository, w.digest(words[1]), w.digest(words[2])), w.digest(words[2]))
	case "entry":
		link(layout.TagIndexPath(repository, words[1], w.digest(words[2])), w.digest(words[2]))
	case "tag":
		link(layout.TagIndexPath(repository, words[1], w.digest(words[2])), w.digest(words[2]))
		link(layout.TagPath(repository, words[1]), w.digest(words[2]))
	case "write":
		text := strings.Join(words[2:], " ")
		if len(words) == 3 && len(words[2]) == 1 {
			text = string(w.digest(words[2]))
		}
		w.files[layout.RepositoryPath(repository)+"/"+words[1]] = text
	default:
		for _, letter := range words {
			w.push(repository, letter)
		}
	}
}

func (w *registry) put(letter string) {
	w.files[layout.BlobPath(w.digest(strings.TrimSuffix(letter, "!")))] = w.text(strings.TrimSuffix(letter, "!"))
}

func (w *registry) push(repository, letter string) {
	if _, defined := w.content[letter]; isManifest(letter) && !defined {
		return // an index may name what nobody has
	}
	w.put(letter)
	path := w.linkPath(repository, letter)
	w.files[path] = string(w.digest(strings.TrimSuffix(letter, "!")))
	for _, part := range w.reaches[letter] {
		w.push(repository, part)
	}
}

// letter turns a digest of the story back.
func (w *registry) letter(d digest.Digest) string {
	for c := 'A'; c <= 'z'; c++ {
		for _, letter := range []string{string(c), string(c) + "!"} {
			if w.digest(letter) == d {
				return letter
			}
		}
	}
	return "?"
}

// inventory lists the story.
func (w *registry) inventory(t *testing.T) *inventory.Inventory {
	t.Helper()
	inv, err := inventory.Take(t.Context(), w.memory, inventory.Options{Since: storyTime.Add(-time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	return inv
}

// readStory is a story that was listed and whose manifests were read.
type readStory struct {
	*registry
	inv   *inventory.Inventory
	graph *Graph
}

// readings are the story with nothing read ahead, with all that may be, and with a part of it, which
// must come to the same.
func (w *registry) readings(t *testing.T) (all []readStory) {
	t.Helper()
	for _, every := range []int{0, 1, 2} {
		inv := w.inventory(t)
		graph, err := Read(t.Context(), inv, w.memory, ReadOptions{Ahead: w.readAhead(t, inv, every)})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, readStory{w, inv, graph})
	}
	return all
}

// live is what is alive in the story, and its links are checked.
func (r readStory) live(t *testing.T, roots Roots) *Live {
	t.Helper()
	live, err := r.graph.Live(t.Context(), roots)
	if err == nil {
		live, err = live.CheckLinks(t.Context(), r.memory, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	return live
}

// mark reads the story, and finds what is alive.
func (w *registry) mark(t *testing.T, deleteUntagged bool) (*inventory.Inventory, *Live) {
	t.Helper()
	story := w.readings(t)[0]
	return story.inv, story.live(t, rootsWith(deleteUntagged))
}

// run reads the manifests of an inventory, and finds what is alive.
// rootsWith are the roots of a run with or without --delete-untagged.
func rootsWith(deleteUntagged bool) (roots Roots) {
	if deleteUntagged {
		roots.Revision = None
	}
	return roots
}

func run(ctx context.Context, inv *inventory.Inventory, reader storage.Reader, read ReadOptions, roots Roots) (*Live, error) {
	graph, err := Read(ctx, inv, reader, read)
	if err != nil {
		return nil, err
	}
	live, err := graph.Live(ctx, roots)
	if err != nil {
		return nil, err
	}
	return live.CheckLinks(ctx, reader, 0)
}

// readAhead reads the stored blobs that revisions name, of a part of all ids: every one,
// every other, and so on; none for 0.
func (w *registry) readAhead(t *testing.T, inv *inventory.Inventory, every int) *Ahead {
	t.Helper()
	ahead := NewAhead(w.memory)
	for id := range inventory.ID(inv.Blobs()) {
		isRevision := slices.ContainsFunc(inv.Repositories, func(r *inventory.Repository) bool { return r.HasRevision(id) })
		if every == 0 || int(id)%every > 0 || !isRevision {
			continue
		}
		if err := ahead.Read(t.Context(), inv, id); err != nil {
			t.Fatal(err)
		}
	}
	return ahead
}

// garbage says what is dead: links by repository, then blobs.
func (w *registry) garbage(inv *inventory.Inventory, live *Live) string {
	var parts []string
	say := func(who string, letters []string) {
		if slices.Sort(letters); len(letters) > 0 {
			parts = append(parts, who+": "+strings.Join(letters, " "))
		}
	}
	for i, r := range inv.Repositories {
		var dead []string
		for at, link := range r.Revisions {
			if live.Repositories[i].Revisions.At(at) == Dead {
				dead = append(dead, w.letter(inv.Digest(link.ID())))
			}
		}
		for at, link := range r.Layers {
			if live.Repositories[i].Layers.At(at) == Dead {
				dead = append(dead, w.letter(inv.Digest(link.ID())))
			}
		}
		say(r.Name, dead)
	}
	var dead []string
	for id := range inventory.ID(inv.Blobs()) {
		if live.Blob(id) == Dead {
			dead = append(dead, w.letter(inv.Digest(id)))
		}
	}
	say("blobs", dead)
	return strings.Join(parts, "; ")
}

// problemsOf says which problems were found, and where they keep something.
func problemsOf(live *Live) string {
	var parts []string
	for _, p := range live.Problems {
		if p.Kind == inventory.Stray || p.Kind == inventory.NoManifests { // what a scan has noted
			continue
		}
		part := string(p.Kind)
		if p.Effect.Keeps() {
			part += " " + string(p.Effect)
		}
		parts = append(parts, p.Repository+" "+part)
	}
	slices.Sort(parts)
	return strings.Join(slices.Compact(parts), "; ")
}

const nothing = ""

// A whole repository's mark, with and without untagged revisions as roots. The name of each story
// says what it proves; all of them are promise 1, and those with damage promise 2.
func TestStories(t *testing.T) {
	for _, test := range []struct {
		name, story          string
		garbage, garbageWith string // with: with tags alone as roots
		problems             string
	}{
		{
			name: "what a tag reaches is kept, and what nothing reaches is garbage",
			story: `
				I = image c a b
				app: I x          # x was pushed and no manifest followed
				app: tag v1 I`,
			garbage: "app: x; blobs: x", garbageWith: "app: x; blobs: x",
		},
		{
			name: "an untagged image is garbage if it is asked for",
			story: `
				I = image c a b
				J = image d a e
				app: I J
				app: tag v1 I`,
			garbage: nothing, garbageWith: "app: J d e; blobs: J d e",
		},
		{
			name: "a tag that was moved leaves its former target untagged",
			story: `
				I = image c a
				J = image d a
				app: I J
				app: tag v1 I
				app: tag v1 J`,
			garbage: nothing, garbageWith: "app: I c; blobs: I c",
		},
		{
			name: "a repository without tags",
			story: `
				I = image c a
				app: I
				lib: I
				lib: tag v1 I`,
			garbage: nothing, garbageWith: "app: I a c",
		},
		{
			// v1 → Y → X → I
			name: "indexes of indexes are followed to the end",
			story: `
				I = image c a
				J = image d b
				X = index I
				Y = index X J
				app: Y x
				app: tag v1 Y`,
			garbage: "app: x; blobs: x", garbageWith: "app: x; blobs: x",
		},
		{
			name: "an entry of an index is kept without a revision link of its own",
			story: `
				I = image c a
				X = index I
				app: X
				app: tag v1 X
				unlink app I`,
		},
		{
			name: "a BuildKit cache reaches blobs",
			story: `
				K = cache a b
				app: K x
				app: tag cache K`,
			garbage: "app: x; blobs: x", garbageWith: "app: x; blobs: x",
		},
		{
			name: "a sparse index is no reason to keep anything",
			story: `
				I = image c a
				X = index I N     # N was never pushed
				J = image d b
				app: X J x
				app: tag v1 X`,
			garbage: "app: x; blobs: x", garbageWith: "app: J b d x; blobs: J b d x",
			problems: "app sparse_index",
		},
		{
			// v1 → I ← S ← T ← U
			name: "signatures of signatures stay with the image",
			story: `
				I = image c a
				S = signs I p
				T = signs S q
				U = signs T r
				J = image d b
				Z = signs J z
				app: I S T U J Z
				app: tag v1 I`,
			garbage: nothing, garbageWith: "app: J Z b d z; blobs: J Z b d z",
		},
		{
			// v1 → X → I ← S
			name: "the signature of an index's entry stays with the index",
			story: `
				I = image c a
				X = index I
				S = signs I p
				app: X S
				app: tag v1 X`,
		},
		{
			// v1 → I ← X → J ← S
			name: "what an attached index reaches stays, and what is attached to that",
			story: `
				I = image c a
				S = signs I p
				X = index S       # a list of signatures
				T = signs X q
				app: I X T
				app: tag v1 I`,
			garbage: nothing, garbageWith: "app: T X q; blobs: T X q", // X is attached to nothing
		},
		{
			name: "a signature does not keep its image",
			story: `
				I = image c a
				S = signs I p
				app: I S
				app: tag sig S`,
			garbage: nothing, garbageWith: "app: I a c; blobs: I a c",
		},
		{
			name: "a signature of what was never here is untagged like any other",
			story: `
				S = signs N p
				app: S
				app: layer x`,
			garbage: "app: x", garbageWith: "app: S p x; blobs: S p",
		},
		{
			name: "a signature in another repository is none in this one",
			story: `
				I = image c a
				S = signs I p
				app: I
				app: tag v1 I
				lib: S`,
			garbage: nothing, garbageWith: "lib: S p; blobs: S p",
		},
		{
			name: "a layer under sha512 is stored under sha256",
			story: `
				I = image c a!
				app: I x!
				app: tag v1 I`,
			garbage: "app: x!; blobs: x", garbageWith: "app: x!; blobs: x",
		},
		{
			name: "tagged in one repository, untagged in the other",
			story: `
				I = image c a
				J = image d a
				app: I J
				app: tag other J
				lib: I
				lib: tag v1 I`,
			garbage: nothing, garbageWith: "app: I c",
		},
		{
			name: "an untagged revision here does not cost the other its links",
			story: `
				I = image c a
				app: I
				lib: I
				app: tag v1 I`,
			garbage: nothing, garbageWith: "lib: I a c",
		},
		{
			name: "a mounted layer is alive where a manifest needs it",
			story: `
				I = image c a
				app: I
				app: tag v1 I
				lib: layer a`,
			garbage: "lib: a", garbageWith: "lib: a",
		},
		{
			name: "a tag keeps its image though the revision link is lost",
			story: `
				I = image c a
				app: I x
				app: tag v1 I
				unlink app I`,
			garbage: "app: x; blobs: x", garbageWith: "app: x; blobs: x",
		},
		{
			name: "a tag without its current link keeps all that it ever pointed at",
			story: `
				I = image c a
				J = image d b
				K = image e f
				app: I J K
				app: entry v1 I
				app: entry v1 J`,
			garbage: nothing, garbageWith: "app: K e f; blobs: K e f",
			problems: "app tag_without_current keeps_named",
		},
		{
			name: "schema 1 keeps its layers and its signatures",
			story: `
				V = schema1 a b
				W = schema1 d
				app: V W x
				app: signature V s
				app: signature W t
				app: tag v1 V`,
			garbage: "app: x; blobs: x", garbageWith: "app: W d x; blobs: W d t x",
		},
		{
			name: "signatures are kept whatever the manifest turns out to be",
			story: `
				I = image c a
				app: I
				app: signature I s
				app: tag v1 I`,
		},
		{
			name: "of a type that nobody knows, all that it names",
			story: `
				I = image c a
				U = future b I
				app: U x
				app: tag v1 U`,
			garbage: "app: x; blobs: x", garbageWith: "app: x; blobs: x",
			problems: "app manifest_unknown_type",
		},

		{
			name: "what is a manifest to another repository is plain content to one that holds it for that",
			story: `
				I = image c a
				U = future x
				app: U c
				app: layer I      # say, in an archive
				app: tag v1 U
				lib: I
				lib: tag v1 I`,
			garbage: "app: I c", garbageWith: "app: I c",
			problems: "app manifest_unknown_type",
		},
		{
			// v1 → U → I: nobody knows what U means by it
			name: "what a manifest of an unknown type names is a manifest if it reads like one",
			story: `
				I = image c a
				U = future I d    # d reads like nothing
				app: U x
				app: tag v1 U
				unlink app I`,
			garbage: "app: x; blobs: x", garbageWith: "app: x; blobs: x",
			problems: "app manifest_unknown_type",
		},
		{
			name: "nor does what has rotted there cost this one anything",
			story: `
				U = future x
				app: U z
				app: tag v1 U
				lib: q
				lib: write _manifests/revisions/sha256/` + digest.FromString("x").Encoded() + `/link x`,
			garbage: "app: z; blobs: z", garbageWith: "app: z; blobs: z",
			problems: "app manifest_unknown_type; lib manifest_damaged keeps_repository",
		},
		{
			name: "an entry of no type is a manifest if it reads like one",
			story: `
				I = image c a
				B = broken a
				L = bare I B d    # d and B read like nothing
				app: L x
				app: tag v1 L
				unlink app I
				unlink app B`,
			garbage: "app: x; blobs: x", garbageWith: "app: x; blobs: x",
		},
		{
			// v1 → L → M → I, and nobody says what M and I are
			name: "so is an entry of no type of such an entry",
			story: `
				I = image c a
				M = bare I
				L = bare M
				app: L x
				app: tag v1 L
				unlink app I
				unlink app M`,
			garbage: "app: x; blobs: x", garbageWith: "app: x; blobs: x",
		},
		{
			// v1 → K → I as some blob, and Y → I as a manifest
			name: "a digest that is reached both ways is a manifest, and counts once",
			story: `
				I = image c a
				K = cache I a
				Y = index I
				app: K Y x
				app: tag v1 K
				unlink app I`,
			garbage: "app: x; blobs: x", garbageWith: "app: Y c x; blobs: Y c x",
		},

		// --- links written a moment ago
		{
			name: "a young link is a root",
			story: `
				I = image c a
				J = image d b
				app: I J x y
				app: tag v1 I
				young app J
				young app x`,
			garbage: "app: y; blobs: y", garbageWith: "app: y; blobs: y",
		},
		{
			name: "young in one repository is not young in the other",
			story: `
				app: x
				lib: x
				young app x`,
			garbage: "lib: x", garbageWith: "lib: x",
		},

		// --- damage
		{
			name: "a live manifest that has rotted keeps its repository, and no other",
			story: `
				I = image c a
				J = image d b
				app: I J x
				app: tag v1 I
				lib: y
				spoil I`,
			garbage: "lib: y; blobs: y", garbageWith: "lib: y; blobs: y",
			problems: "app manifest_damaged keeps_repository",
		},
		{
			name: "a kept repository keeps what its tags once pointed at",
			story: `
				I = image c a
				J = image d b
				app: I J
				app: tag v1 J
				app: tag v1 I
				unlink app J      # all that is left of it is v1's index
				lib: y
				spoil I`,
			garbage: "lib: y; blobs: y", garbageWith: "lib: y; blobs: y",
			problems: "app manifest_damaged keeps_repository",
		},
		{
			name: "a live manifest that is gone keeps its repository",
			story: `
				I = image c a
				app: I x
				app: tag v1 I
				lose I`,
			garbage: nothing, garbageWith: nothing,
			problems: "app manifest_missing keeps_repository",
		},
		{
			name: "a live manifest that makes no sense keeps its repository",
			story: `
				B = broken a
				app: B x
				app: tag v1 B`,
			garbage: nothing, garbageWith: nothing,
			problems: "app manifest_damaged keeps_repository",
		},
		{
			name: "the entry of a live index is a live manifest",
			story: `
				I = image c a
				J = image d b
				X = index I J
				app: X x
				app: tag v1 X
				lose I`,
			garbage: nothing, garbageWith: nothing,
			problems: "app manifest_missing keeps_repository",
		},
		{
			name: "a rotten entry counts though it has no revision link",
			story: `
				I = image c a
				X = index I
				app: X x
				app: tag v1 X
				unlink app I
				spoil I`,
			garbage: nothing, garbageWith: nothing,
			problems: "app manifest_damaged keeps_repository",
		},
		{
			name: "a rotten manifest costs a repository that shares it nothing more",
			story: `
				I = image c a
				app: I x
				lib: I y
				app: tag v1 I
				lib: tag v1 I
				old: z
				spoil I`,
			garbage: "old: z; blobs: z", garbageWith: "old: z; blobs: z",
			problems: "app manifest_damaged keeps_repository; lib manifest_damaged keeps_repository",
		},
		{
			name: "an untagged manifest that has rotted might be a signature: its repository is kept",
			story: `
				I = image c a
				S = signs I p
				app: I S x
				app: tag v1 I
				spoil S`,
			garbage: nothing, garbageWith: nothing,
			problems: "app manifest_damaged keeps_repository",
		},
		{
			name: "an untagged revision whose manifest is gone dangles, and keeps nothing",
			story: `
				I = image c a
				J = image d b
				app: I J
				app: tag v1 I
				lose J`,
			garbage: "app: b d; blobs: b d", garbageWith: "app: J b d; blobs: b d",
			problems: "app dangling_revision",
		},
		{
			name: "a dangling revision that an untagged index names is a live manifest until the index is garbage",
			story: `
				I = image c a
				X = index I
				app: X x
				lose I`,
			garbage: nothing, garbageWith: "app: I X a c x; blobs: X a c x",
			problems: "app dangling_revision; app manifest_missing keeps_repository",
		},
		{
			name: "a damaged tag keeps its repository, and what it once pointed at",
			story: `
				I = image c a
				app: I x
				app: tag v1 I
				app: write _manifests/tags/v1/current/link garbage
				unlink app I`,
			garbage: nothing, garbageWith: nothing,
			problems: "app damaged_link keeps_repository",
		},
		{
			name: "a revision link that names another manifest keeps both, and the repository",
			story: `
				I = image c a
				J = image d b
				app: I x
				lib: J y
				app: write _manifests/revisions/sha256/` + digest.FromString("?").Encoded() + `/link J`,
			garbage: "lib: y; blobs: y", garbageWith: "lib: J b d y; blobs: y",
			problems: "app damaged_link keeps_repository; app dangling_revision",
		},
		{
			name: "a damaged layer link matters when it would go",
			story: `
				I = image c a
				app: I x y
				app: tag v1 I
				app: write _layers/sha256/` + digest.FromString("y").Encoded() + `/link garbage`,
			garbage: nothing, garbageWith: nothing,
			problems: "app damaged_link keeps_repository",
		},
		{
			name: "a link under sha512 that is alive and leads nowhere may have been spoilt: its repository is kept",
			story: `
				I = image c a!
				app: I b
				app: tag v1 I
				lose a
				lib: d`,
			garbage: "lib: d; blobs: d", garbageWith: "lib: d; blobs: d",
			problems: "app damaged_link keeps_repository",
		},
		{
			name: "a damaged layer link whose blob is alive costs nothing",
			story: `
				I = image c a
				app: I x
				app: tag v1 I
				app: write _layers/sha256/` + digest.FromString("a").Encoded() + `/link garbage`,
			garbage: "app: x; blobs: x", garbageWith: "app: x; blobs: x",
		},
		{
			name: "a repository that nobody could serve is kept",
			story: `
				I = image c a
				Foo: I x
				app: y`,
			garbage: "app: y; blobs: y", garbageWith: "app: y; blobs: y",
			problems: "Foo bad_repository_name keeps_repository",
		},
		{
			name: "so is one in a directory with a name of the layout's kind",
			story: `
				I = image c a
				app/_old: I x
				app/_old: tag v1 I
				app: y`,
			garbage: "app: y; blobs: y", garbageWith: "app: y; blobs: y",
			problems: "app/_old bad_repository_name keeps_repository",
		},

		// --- links whose path is not understood
		{
			name: "a layer link of another algorithm keeps what it names",
			story: `
				app: x y
				app: write _layers/blake3/00ff/link x`,
			garbage: "app: y; blobs: y", garbageWith: "app: y; blobs: y",
			problems: "app unknown_link_algorithm",
		},
		{
			name: "a revision link of another algorithm could lead anywhere: the repository is kept",
			story: `
				I = image c a
				J = image d b
				app: I x
				lib: J y
				app: write _manifests/revisions/blake3/00ff/link J`,
			garbage: "lib: y; blobs: y", garbageWith: "lib: J b d y; blobs: y",
			problems: "app unknown_link_algorithm keeps_repository",
		},
		{
			name: "all the more where it names nothing",
			story: `
				I = image c a
				app: I x
				app: write _manifests/revisions/blake3/00ff/link blake3:00ff`,
			garbage: nothing, garbageWith: nothing,
			problems: "app unknown_link_algorithm keeps_repository",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newRegistry(t, test.story)
			manifests := map[bool]int{}
			for i, story := range w.readings(t) {
				for _, deleteUntagged := range []bool{false, true, false} { // of one graph
					want := test.garbage
					if deleteUntagged {
						want = test.garbageWith
					}
					live := story.live(t, rootsWith(deleteUntagged))
					if got := w.garbage(story.inv, live); got != want {
						t.Errorf("reading %d, without untagged: %t: the garbage is %q, want %q", i, deleteUntagged, got, want)
					}
					// Problems are judged without it: with it, a dead manifest has none.
					if got := problemsOf(live); !deleteUntagged && got != test.problems {
						t.Errorf("reading %d: the problems are %q, want %q", i, got, test.problems)
					}
					if i == 0 {
						manifests[deleteUntagged] = live.Manifests
					}
					if got, want := live.Manifests, manifests[deleteUntagged]; got != want {
						t.Errorf("reading %d, without untagged: %t: %d manifests are alive, want %d", i, deleteUntagged, got, want)
					}
				}
			}
		})
	}
}

// If the storage fails while manifests are read, nothing is known (promise 1).
func TestAFailingStorageEndsTheMark(t *testing.T) {
	const story = `
		I = image c a
		app: I x
		app: tag v1 I`
	failure := errors.New("the disk is on fire")
	w := newRegistry(t, story)
	w.fails[layout.BlobPath(w.digest("I"))] = failure
	inv, err := inventory.Take(t.Context(), w.memory, inventory.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if live, err := run(t.Context(), inv, w.memory, ReadOptions{}, Roots{}); !errors.Is(err, failure) || live != nil {
		t.Errorf("a manifest can't be read: %v, %v", live, err)
	}

	w = newRegistry(t, story)
	w.fails[layout.LayerPath("app", w.digest("x"))] = failure // a link that would go is read
	if inv, err = inventory.Take(t.Context(), w.memory, inventory.Options{}); err != nil {
		t.Fatal(err)
	}
	if live, err := run(t.Context(), inv, w.memory, ReadOptions{}, Roots{}); !errors.Is(err, failure) || live != nil {
		t.Errorf("a link can't be read: %v, %v", live, err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := run(ctx, inv, w.memory, ReadOptions{}, Roots{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// unsized is a storage whose scan knows blobs by the names of their directories alone.
type unsized struct{ *memory }

func (u unsized) Scan(ctx context.Context, dir string, visit func([]storage.Object) error) error {
	return u.memory.Scan(ctx, dir, func(page []storage.Object) error {
		for i := range page {
			page[i].Size = -1
		}
		return visit(page)
	})
}

// Of an untagged revision whose manifest is missing nothing is kept. A storage that says so
// in passing, of a blob that it has listed, is asked once more (promise 1).
func TestANotFoundManifestIsLookedForAgain(t *testing.T) {
	for _, there := range []bool{true, false} {
		w := newRegistry(t, `
			I = image c a
			J = image c b
			app: I J
			app: tag v1 J`)
		path := layout.BlobPath(w.digest("I"))
		w.fails[path] = fs.ErrNotExist
		inv, err := inventory.Take(t.Context(), unsized{w.memory}, inventory.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if !there {
			delete(w.files, path)
		}
		live, err := run(t.Context(), inv, unsized{w.memory}, ReadOptions{}, Roots{})
		if err != nil {
			t.Fatal(err)
		}
		if live.Repositories[0].Kept != there || live.Blob(inv.ID(w.digest("a"))).Alive() != there {
			t.Errorf("it is there: %t, and %+v, %v", there, live.Repositories[0], live.Problems)
		}
	}
}

// A layer link that was not found when it was read, and is there, is no empty directory.
func TestANotFoundLinkIsLookedForAgain(t *testing.T) {
	w := newRegistry(t, `
		I = image c a
		app: I x
		app: tag v1 I`)
	w.fails[layout.LayerPath("app", w.digest("x"))] = fs.ErrNotExist
	_, live := w.mark(t, false)
	r := live.Repositories[0]
	isAbsent := false
	for _, cause := range r.Layers.All() {
		isAbsent = isAbsent || cause == Absent
	}
	if !r.Kept || isAbsent {
		t.Errorf("%+v, %v", r, live.Problems)
	}
}

// A layer link that a listing has and that is not found is damage. Where only its directory was
// listed, there may be none in it.
func TestALayerLinkThatIsListedAndNotFound(t *testing.T) {
	for _, dirs := range []bool{false, true} {
		w := newRegistry(t, `
			I = image c a
			app: I x
			app: tag v1 I`)
		store := unsized{w.memory}
		inv, err := inventory.Take(t.Context(), store, inventory.Options{})
		if err != nil {
			t.Fatal(err)
		}
		inv.Repositories[0].LayerDirs = dirs
		delete(w.files, layout.LayerPath("app", w.digest("x")))
		live, err := run(t.Context(), inv, store, ReadOptions{}, Roots{Revision: None})
		if err != nil {
			t.Fatal(err)
		}
		if r := live.Repositories[0]; r.Kept == dirs || live.Blob(inv.ID(w.digest("x"))).Alive() == dirs {
			t.Errorf("directories alone: %t: %+v, %v", dirs, r, live.Problems)
		}
	}
}

// However many repositories and indexes name a manifest, it is read once, and the
// progress is reported.
func TestManifestsAreReadOnce(t *testing.T) {
	w := newRegistry(t, `
		I = image c a
		X = index I
		Y = index X I
		app: Y
		app: tag v1 Y
		app: tag v2 I
		lib: Y
		lib: tag v1 X
		unlink app X`)
	inv, err := inventory.Take(t.Context(), w.memory, inventory.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	expected, read := 0, 0
	live, err := run(t.Context(), inv, w.memory, ReadOptions{
		Ahead:       w.readAhead(t, inv, 2),
		OnManifests: func(n int) { expected = n },
		OnRead: func(n int) {
			mu.Lock()
			defer mu.Unlock()
			read += n
		},
	}, Roots{})
	if err != nil {
		t.Fatal(err)
	}
	for _, letter := range []string{"I", "X", "Y"} {
		if n := w.read[layout.BlobPath(w.digest(letter))]; n != 1 {
			t.Errorf("%s is read %d times", letter, n)
		}
	}
	if n := w.read[layout.BlobPath(w.digest("a"))]; n != 0 {
		t.Errorf("a layer is read %d times", n)
	}
	if live.Manifests != 3 || expected != 3 || read != 3 {
		t.Errorf("%d manifests are alive, %d were expected, %d were read; want 3", live.Manifests, expected, read)
	}
}

// What is alive for several reasons is so for the best of them: a blob that a tag
// reaches in one repository is not counted as kept by anything else.
func TestCauses(t *testing.T) {
	w := newRegistry(t, `
		I = image c a
		J = image d a
		K = image e b
		B = broken x
		app: I J y
		app: tag v1 I
		app: K
		young app K
		lib: J z
		bad: B a q
		bad: tag v1 B`)
	inv, live := w.mark(t, false)
	got := map[string]Cause{}
	for id := range inventory.ID(inv.Blobs()) {
		got[w.letter(inv.Digest(id))] = live.Blob(id)
	}
	for letters, want := range map[string]Cause{
		"I c a": Tagged, "K e b": Recent, "J d": Untagged, "q": Damage, "y z": Dead, "B": Tagged,
	} {
		for letter := range strings.FieldsSeq(letters) {
			if got[letter] != want {
				t.Errorf("%s is alive for cause %d, want %d", letter, got[letter], want)
			}
		}
	}
	for i, r := range inv.Repositories {
		if kept := live.Repositories[i].Kept; kept != (r.Name == "bad") {
			t.Errorf("%s is kept: %t", r.Name, kept)
		}
	}
}
