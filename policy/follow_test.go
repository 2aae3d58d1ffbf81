package policy

import (
	"slices"
	"strings"
	"testing"
	"time"

	"regsweep/internal/imagetest"
	"regsweep/inventory"
	"regsweep/mark"
	"regsweep/storage"
	"regsweep/storage/filesystem"

	"github.com/opencontainers/go-digest"
)

// registry is a registry that was written by hand.
type registry struct {
	*imagetest.Tree
	images byte
	list   string // what the entries of protect with digests name
}

// push stores a new image, and points a tag at it. Without a tag it stays untagged.
func (r *registry) push(t *testing.T, repository, tag string) digest.Digest {
	t.Helper()
	r.images++
	d := r.Manifest(repository, imagetest.Image(imagetest.OCI, imagetest.Layer(uint64(r.images), 10)))
	if tag != "" {
		r.Tag(repository, tag, d)
	}
	return d
}

// follower returns the name of a tag for a subject.
func follower(subject digest.Digest, suffix string) string {
	return strings.Replace(subject.String()[:7+64], ":", "-", 1) + suffix
}

// dead decides with a policy, and returns the tags that are removed, and the stored manifests and layers that are
// not alive.
func (r *registry) dead(t *testing.T, source string, options Options) (tags []string, blobs []digest.Digest) {
	t.Helper()
	p, err := Parse("test", []byte(source))
	if err != nil {
		t.Fatal(err)
	}
	store, err := filesystem.Open(r.Root(), storage.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	inv, err := inventory.Take(t.Context(), store, inventory.Options{TagTimes: true})
	if err != nil {
		t.Fatal(err)
	}
	options.Held = make([]*mark.ListRoots, len(p.Protect))
	var lists []*mark.ListRoots
	for i, of := range p.Protect {
		if of.Digests != "" {
			list, err := mark.ReadRoots("list", strings.NewReader(r.list))
			if err != nil {
				t.Fatal(err)
			}
			options.Held[i] = list.Find(inv)
			lists = append(lists, options.Held[i])
		}
	}
	graph, err := mark.Read(t.Context(), inv, store, mark.ReadOptions{Lists: lists})
	if err != nil {
		t.Fatal(err)
	}
	d, err := p.Decide(t.Context(), Facts{Inventory: inv, Graph: graph, Lists: lists, Reader: store, Now: time.Now()}, options)
	if err != nil {
		t.Fatal(err)
	}
	live, err := graph.Live(t.Context(), d.Roots())
	if err != nil {
		t.Fatal(err)
	}
	for i, of := range live.Repositories {
		for _, tag := range of.DeadTags {
			tags = append(tags, inv.Repositories[i].Name+":"+inv.Repositories[i].Tags[tag].Name)
		}
	}
	for id := range inventory.ID(inv.Blobs()) {
		if live.Blob(id) == mark.Dead {
			blobs = append(blobs, inv.Digest(id))
		}
	}
	return tags, blobs
}

const removesAll = "version: 1\nrules: [{tags: ['*']}]\nfloor: {keep-newest: 0}"

// Tags that follow their subject are removed together with it. Others are kept like any other tag.
func TestFollowers(t *testing.T) {
	for _, test := range []struct {
		name string
		// make makes a registry, and returns the tags that are to be removed with the option, and those without it.
		make   func(t *testing.T, r *registry) (removed, removedOrphans []string)
		policy string
	}{
		{"signatures and an index of referrers", func(t *testing.T, r *registry) (removed, orphans []string) {
			d := r.push(t, "app", "v1")
			for _, suffix := range []string{"", ".sig", ".att", ".sbom"} {
				r.push(t, "app", follower(d, suffix))
				removed = append(removed, "app:"+follower(d, suffix))
			}
			return append(removed, "app:v1"), nil
		}, removesAll},
		{"a signature of a signature", func(t *testing.T, r *registry) (removed, orphans []string) {
			d := r.push(t, "app", "v1")
			s := r.push(t, "app", follower(d, ".sig"))
			r.push(t, "app", follower(s, ".sig"))
			return []string{"app:" + follower(d, ".sig"), "app:" + follower(s, ".sig"), "app:v1"}, nil
		}, removesAll},
		{"those of a kept tag", func(t *testing.T, r *registry) (removed, orphans []string) {
			r.push(t, "app", follower(r.push(t, "app", "v1"), ".sig"))
			return nil, nil
		}, "version: 1\nrules: [{tags: ['v2']}]\nfloor: {keep-newest: 0}"},
		{"those of an untagged manifest", func(t *testing.T, r *registry) (removed, orphans []string) {
			r.push(t, "app", follower(r.push(t, "app", ""), ".sig"))
			return nil, nil
		}, removesAll},
		{"a mirror tags each image by its digest", func(t *testing.T, r *registry) (removed, orphans []string) {
			d := r.push(t, "app", "")
			r.Tag("app", follower(d, ""), d)
			return nil, nil
		}, removesAll},
		{"such a mirror with another tag", func(t *testing.T, r *registry) (removed, orphans []string) {
			d := r.push(t, "app", "v1")
			r.Tag("app", follower(d, ""), d)
			return []string{"app:v1"}, nil
		}, removesAll},
		{"a tag leads to its subject", func(t *testing.T, r *registry) (removed, orphans []string) {
			image := imagetest.Image(imagetest.OCI, imagetest.Layer(99, 10))
			index := imagetest.Index(imagetest.OCI, image)
			r.Manifest("app", image)
			r.Tag("app", follower(image.Digest(), ""), r.Manifest("app", index))
			return nil, nil
		}, removesAll},
		{"a circle", func(t *testing.T, r *registry) (removed, orphans []string) {
			d, s := r.push(t, "app", ""), r.push(t, "app", "")
			r.Tag("app", follower(d, ""), s)
			r.Tag("app", follower(s, ".sig"), d)
			return nil, nil
		}, removesAll},
		{"what an interrupted run leaves of a circle", func(t *testing.T, r *registry) (removed, orphans []string) {
			d, s := r.push(t, "app", ""), r.push(t, "app", "")
			tags := map[digest.Digest]string{d: follower(s, ""), s: follower(d, ".sig")}
			for to, tag := range tags {
				r.Tag("app", tag, to)
				r.Remove(strings.TrimSuffix(imagetest.TagIndexPath("app", tag, to), "/link"))
				r.Remove(strings.TrimSuffix(imagetest.RevisionPath("app", to), "/link"))
				removed = append(removed, "app:"+tag)
			}
			return removed, nil
		}, removesAll},
		{"a sha512 subject", func(t *testing.T, r *registry) (removed, orphans []string) {
			content := imagetest.Image(imagetest.OCI, imagetest.Layer(99, 10)).Content
			d := digest.SHA512.FromBytes(content)
			r.Write(imagetest.BlobPath(d), string(content))
			r.Revision("app", d)
			r.Tag("app", "v1", d)
			r.push(t, "app", follower(d, ""))
			return []string{"app:" + follower(d, ""), "app:v1"}, nil
		}, removesAll},
		{"a subject that is gone", func(t *testing.T, r *registry) (removed, orphans []string) {
			tag := follower(digest.FromString("gone"), ".sig")
			r.push(t, "app", tag)
			return nil, []string{"app:" + tag}
		}, removesAll},
		{"a subject that is gone, and an entry of protect", func(t *testing.T, r *registry) (removed, orphans []string) {
			r.push(t, "app", follower(digest.FromString("gone"), ".sig"))
			return nil, nil
		}, removesAll + "\nprotect: [{repositories: [app]}]"},
		{"a list names the signature", func(t *testing.T, r *registry) (removed, orphans []string) {
			r.list = r.push(t, "app", follower(r.push(t, "app", "v1"), ".sig")).String()
			return nil, nil
		}, removesAll + "\nprotect: [{digests: list}]"},
		{"a subject that is gone, and max-share skips the repository", func(t *testing.T, r *registry) (removed, orphans []string) {
			r.push(t, "app", "v1")
			r.push(t, "app", "v2")
			r.push(t, "app", follower(digest.FromString("gone"), ".sig"))
			return nil, nil
		}, "version: 1\nrules: [{tags: [v1]}]\nfloor: {max-share: 10%}"},
		{"a subject in another repository", func(t *testing.T, r *registry) (removed, orphans []string) {
			r.push(t, "signatures", follower(r.push(t, "app", ""), ".sig"))
			return nil, nil
		}, removesAll},
		{"a subject whose manifest is not stored", func(t *testing.T, r *registry) (removed, orphans []string) {
			d := r.push(t, "app", "")
			r.push(t, "app", follower(d, ".sig"))
			r.Remove(imagetest.BlobPath(d))
			return nil, nil
		}, removesAll},
		{"the same, and the tag has no index", func(t *testing.T, r *registry) (removed, orphans []string) {
			d := r.push(t, "app", "")
			tag := follower(d, ".sig")
			s := r.push(t, "app", tag)
			r.Remove(imagetest.BlobPath(d))
			r.Remove(strings.TrimSuffix(imagetest.TagIndexPath("app", tag, s), "/link"))
			r.Remove(strings.TrimSuffix(imagetest.RevisionPath("app", s), "/link"))
			return nil, nil
		}, removesAll},
		{"what an interrupted run leaves", func(t *testing.T, r *registry) (removed, orphans []string) {
			tag := follower(r.Blob([]byte("gone")), ".sig")
			s := r.push(t, "app", tag)
			r.Remove(strings.TrimSuffix(imagetest.TagIndexPath("app", tag, s), "/link"))
			return []string{"app:" + tag}, []string{"app:" + tag}
		}, removesAll},
		{"the same, and the subject is not stored", func(t *testing.T, r *registry) (removed, orphans []string) {
			tag := follower(digest.FromString("gone"), ".sig")
			s := r.push(t, "app", tag)
			r.Remove(strings.TrimSuffix(imagetest.TagIndexPath("app", tag, s), "/link"))
			return nil, []string{"app:" + tag}
		}, removesAll},
		{"the same, and another repository has the subject", func(t *testing.T, r *registry) (removed, orphans []string) {
			tag := follower(r.push(t, "copy", ""), ".sig")
			s := r.push(t, "app", tag)
			r.Remove(strings.TrimSuffix(imagetest.TagIndexPath("app", tag, s), "/link"))
			return nil, nil
		}, removesAll},
		{"the same, and its revision is gone, too", func(t *testing.T, r *registry) (removed, orphans []string) {
			tag := follower(r.push(t, "copy", ""), ".sig")
			s := r.push(t, "app", tag)
			r.Remove(strings.TrimSuffix(imagetest.TagIndexPath("app", tag, s), "/link"))
			r.Remove(strings.TrimSuffix(imagetest.RevisionPath("app", s), "/link"))
			return []string{"app:" + tag}, []string{"app:" + tag}
		}, removesAll},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := &registry{Tree: imagetest.NewTree(t, t.TempDir())}
			r.push(t, "other", "") // so that something is left
			removed, orphans := test.make(t, r)
			slices.Sort(removed)
			for _, option := range []bool{false, true} {
				want := removed
				if option && orphans != nil {
					want = orphans
				}
				if got, _ := r.dead(t, test.policy, Options{OrphanedSignatures: option}); !slices.Equal(got, want) {
					t.Errorf("with orphans %t: %q is removed, want %q", option, got, want)
				}
			}
		})
	}
}

// A young orphan may be a signature whose subject is still to be pushed.
func TestAYoungOrphanIsKept(t *testing.T) {
	r := &registry{Tree: imagetest.NewTree(t, t.TempDir())}
	r.push(t, "app", follower(digest.FromString("later"), ".sig"))
	if got, _ := r.dead(t, removesAll, Options{OrphanedSignatures: true, MinAge: time.Hour}); got != nil {
		t.Errorf("%q is removed", got)
	}
}

// A minimum age keeps a young signature, also if its subject is removed.
func TestAYoungSignatureIsKept(t *testing.T) {
	r := &registry{Tree: imagetest.NewTree(t, t.TempDir())}
	d := r.push(t, "app", "v1")
	r.Age(imagetest.TagPath("app", "v1"), 48*time.Hour)
	r.push(t, "app", follower(d, ".sig"))
	if got, _ := r.dead(t, removesAll, Options{MinAge: 24 * time.Hour}); !slices.Equal(got, []string{"app:v1"}) {
		t.Errorf("%q is removed", got)
	}
}

// The manifest of a removed tag goes with it, also if a signature pointed at it earlier.
func TestAnEarlierManifestGoesWithItsTag(t *testing.T) {
	r := &registry{Tree: imagetest.NewTree(t, t.TempDir())}
	k, m := r.push(t, "app", "latest"), r.push(t, "app", "v1")
	r.Tag("app", follower(k, ".sig"), m)
	r.push(t, "app", follower(k, ".sig"))
	if _, blobs := r.dead(t, "version: 1\nrules: [{tags: [v1]}]\nfloor: {keep-newest: 0}", Options{}); !slices.Contains(blobs, m) {
		t.Errorf("%q is removed, without %s", blobs, m)
	}
}

// Unreliable times do not keep a tag that an interrupted run has left.
func TestUnreliableTimesDoNotKeepWhatIsLeft(t *testing.T) {
	p, err := Parse("test", []byte("version: 1\nrules: [{keep-last: 1}]"))
	if err != nil {
		t.Fatal(err)
	}
	j := p.Judge(Repository{Name: "app", Unreliable: true, Tags: []Tag{
		{Name: "a", Time: now.Add(-3 * time.Hour)}, {Name: "b", Time: now.Add(-2 * time.Hour), IsLeft: true}, {Name: "c", Time: now},
	}}, now)
	if j.Verdicts[0].Remove || !j.Verdicts[1].Remove || j.Verdicts[2].Remove {
		t.Errorf("%+v", j.Verdicts)
	}
	d := &Decision{removed: [][]bool{{true, true}}, Tags: []DecidedTag{
		{inventory.TagPlace{Tag: 0}, Verdict{Remove: true}, now.Add(-time.Hour), false}, {inventory.TagPlace{Tag: 1}, Verdict{Remove: true}, now, true},
	}}
	if err := d.Spare(func() (bool, error) { return true, nil }); err != nil || d.removed[0][0] || !d.removed[0][1] {
		t.Errorf("--free spares %v: %v", d.removed, err)
	}
}

// A signature is read as a manifest also if its own revision is gone. So its layers stay.
func TestTheLayersOfASignatureWithoutARevisionAreKept(t *testing.T) {
	r := &registry{Tree: imagetest.NewTree(t, t.TempDir())}
	s := r.push(t, "app", follower(r.push(t, "app", "v1"), ".sig"))
	r.Remove(strings.TrimSuffix(imagetest.RevisionPath("app", s), "/link"))
	if tags, blobs := r.dead(t, "version: 1\nrules: [{tags: [v2]}]", Options{}); tags != nil || blobs != nil {
		t.Errorf("%q and %q are removed", tags, blobs)
	}
}

// A superseded index of referrers lives as long as its subject, unless untagged manifests are removed.
func TestSupersededManifestsFollow(t *testing.T) {
	r := &registry{Tree: imagetest.NewTree(t, t.TempDir())}
	d := r.push(t, "app", "v1")
	r.push(t, "app", "v2") // so that something is left
	tag := follower(d, "")
	before := r.push(t, "app", tag)
	r.push(t, "app", tag)
	const keepsAll, removesOne = "version: 1", "version: 1\nrules: [{tags: [v1]}]\nfloor: {keep-newest: 0}"
	const untagged = "version: 1\nrules: [{untagged: {older-than: 1h}}]"
	for _, test := range []struct {
		policy  string
		options Options
		age     time.Duration
		gone    bool
		tags    int
	}{
		{policy: keepsAll, gone: false},
		{policy: keepsAll, options: Options{DeleteUntagged: true}, gone: true},
		{policy: removesOne, gone: true, tags: 2},
		{policy: untagged, gone: false},
		{policy: untagged, age: 2 * time.Hour, gone: true},
	} {
		r.Age(imagetest.RevisionPath("app", before), test.age)
		tags, blobs := r.dead(t, test.policy, test.options)
		if gone := slices.Contains(blobs, before); gone != test.gone || len(tags) != test.tags {
			t.Errorf("%+v: removed %t, and the tags %q", test, gone, tags)
		}
	}
}
