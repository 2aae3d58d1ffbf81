package policy

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"regsweep/internal/imagetest"
	"regsweep/inventory"
	"regsweep/mark"
	"regsweep/storage"
	"regsweep/storage/filesystem"
)

// fakeReader is no storage: it gives the same answers for every path.
type fakeReader struct {
	content []byte
	object  storage.Object
	err     error
}

func (r fakeReader) Read(context.Context, string, int64) ([]byte, error)  { return r.content, r.err }
func (r fakeReader) Stat(context.Context, string) (storage.Object, error) { return r.object, r.err }

// facts reads the registry without the times of tags. The configs and the times of links come from a fake reader.
func (r *registry) facts(t *testing.T, fake fakeReader) Facts {
	t.Helper()
	store, err := filesystem.Open(r.Root(), storage.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	inv, err := inventory.Take(t.Context(), store, inventory.Options{})
	if err != nil {
		t.Fatal(err)
	}
	graph, err := mark.Read(t.Context(), inv, store, mark.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return Facts{Inventory: inv, Graph: graph, Reader: fake, Now: now}
}

func parsed(t *testing.T, source string) *Policy {
	t.Helper()
	p, err := Parse("test", []byte(source))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

const (
	removesUntagged = "version: 1\nrules: [{untagged: {older-than: 0h}}]"
	removesOld      = "version: 1\ntime: created\nrules: [{older-than: 1d}]\nfloor: {keep-newest: 0}"
)

// A storage that does not answer now is no unknown time: the run ends.
func TestAnErrorOfTheStorageEndsTheDecision(t *testing.T) {
	r := &registry{Tree: imagetest.NewTree(t, t.TempDir())}
	r.push(t, "app", "v1")
	r.push(t, "app", "")
	failed := errors.New("the storage does not answer")
	for _, source := range []string{removesUntagged, removesOld} {
		if _, err := parsed(t, source).Decide(t.Context(), r.facts(t, fakeReader{err: failed}), Options{}); !errors.Is(err, failed) {
			t.Errorf("%s\n%v", source, err)
		}
	}
}

// An untagged manifest is kept if the storage does not say when its link was written.
func TestAnUntaggedManifestWithoutATimeIsKept(t *testing.T) {
	r := &registry{Tree: imagetest.NewTree(t, t.TempDir())}
	r.push(t, "app", "v1")
	r.push(t, "app", "")
	for pushed, want := range map[time.Time]bool{{}: false, now.Add(-time.Hour): true} {
		d, err := parsed(t, removesUntagged).Decide(t.Context(), r.facts(t, fakeReader{object: storage.Object{ModTime: pushed}}), Options{})
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.Contains(d.revisions[0], true); got != want {
			t.Errorf("a link of %v: removed: %t", pushed, got)
		}
	}
}

// A minimum age keeps a tag whose push time is not known.
func TestATagWithoutAPushTimeIsYoung(t *testing.T) {
	r := &registry{Tree: imagetest.NewTree(t, t.TempDir())}
	r.push(t, "app", "v1")
	for age, want := range map[time.Duration]string{0: "rule 1", time.Nanosecond: ByAge} {
		d, err := parsed(t, removesAll).Decide(t.Context(), r.facts(t, fakeReader{}), Options{MinAge: age})
		if err != nil || len(d.Tags) != 1 || d.Tags[0].Rule != want || d.Tags[0].Remove != (age == 0) {
			t.Errorf("a minimum age of %v: %+v, %v", age, d, err)
		}
	}
}

// A config that its digest does not fit says nothing about its image.
func TestTheTimeOfADamagedConfigIsNotUsed(t *testing.T) {
	r := &registry{Tree: imagetest.NewTree(t, t.TempDir())}
	r.push(t, "app", "v1")
	d, err := parsed(t, removesOld).Decide(t.Context(), r.facts(t, fakeReader{content: []byte(`{"created": "2020-01-01T00:00:00Z"}`)}), Options{})
	if err != nil || len(d.Tags) != 1 || !d.Tags[0].Time.IsZero() || d.Tags[0].Reason != "no time" {
		t.Errorf("%+v, %v", d, err)
	}
}

// Lists that were not read must not be taken as lists that name nothing.
func TestADecisionNeedsItsLists(t *testing.T) {
	r := &registry{Tree: imagetest.NewTree(t, t.TempDir())}
	p := parsed(t, "version: 1\nprotect: [{digests: in-use.txt}]")
	if _, err := p.Decide(t.Context(), r.facts(t, fakeReader{}), Options{}); err == nil || !strings.Contains(err.Error(), "were not read") {
		t.Errorf("%v", err)
	}
}

// A tag that a rule removes stays in a repository that damage keeps.
func TestDamageKeepsTags(t *testing.T) {
	r := &registry{Tree: imagetest.NewTree(t, t.TempDir())}
	r.push(t, "app", "v1")
	r.Write(imagetest.BlobPath(r.push(t, "app", "v2")), "{")
	f := r.facts(t, fakeReader{})
	d, err := parsed(t, "version: 1\nrules: [{tags: [v1]}]\nfloor: {keep-newest: 0}").Decide(t.Context(), f, Options{})
	if err != nil {
		t.Fatal(err)
	}
	removed := d.Tags[0].Remove
	live, err := f.Graph.Live(t.Context(), d.Roots())
	if err != nil {
		t.Fatal(err)
	}
	if d.Conclude(f.Inventory, live); !removed || len(d.Tags) != 1 || d.Tags[0].Verdict != (Verdict{Selected: true, Rule: ByDamage}) {
		t.Errorf("%+v", d.Tags)
	}
}

// Of the removed tags those without a time are spared first.
func TestATagWithoutATimeIsSparedFirst(t *testing.T) {
	d := &Decision{removed: [][]bool{{true, true, true, true}}}
	for i, at := range []time.Time{{}, now, now.Add(-time.Hour), {}} {
		d.Tags = append(d.Tags, DecidedTag{TagPlace: inventory.TagPlace{Tag: i}, Verdict: Verdict{Selected: true, Remove: true}, Time: at})
	}
	isEnough := func() (bool, error) { return d.removed[0][1] && d.removed[0][2], nil }
	if err := d.Spare(isEnough); err != nil || !slices.Equal(d.removed[0], []bool{false, true, true, false}) {
		t.Errorf("%v is removed: %v", d.removed, err)
	}
	if d.Tags[0].Remove || d.Tags[0].Rule != ByFree || !d.Tags[1].Remove {
		t.Errorf("%+v", d.Tags)
	}
}
