package sweep_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"regsweep/audit"
	"regsweep/internal/audittest"
	"regsweep/inventory"
	"regsweep/mark"

	"github.com/opencontainers/go-digest"
)

// An audit of registries of all sorts adds up to what the oracle counts, file by file, and the bytes of
// each what-if are those of the files that go.
func TestAuditOfRandomRegistries(t *testing.T) {
	for seed := *seedFlag; seed < *seedFlag+uint64(seeds()); seed++ {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			d := generate(seed, seed%3 == 0, false)
			testAudit(t, d, d.put(t))
			if t.Failed() {
				t.Logf("again: go test ./sweep -run TestAuditOfRandomRegistries -seed %d -seeds 1", seed)
			}
		})
	}
}

// A tagged referrer is unique to its tag, although its subject has a revision link: the manifest of the
// subject is missing, so it keeps nothing.
func TestAuditOfAReferrerOfAMissingManifest(t *testing.T) {
	d := newDisk()
	gone, config := sha256Of("gone"), d.blob("config")
	d.revision("app", gone)
	d.layer("app", config)
	referrer := d.blob(json1(map[string]any{
		"schemaVersion": 2, "mediaType": ociImage, "config": descriptor(configType, config, len("config")),
		"subject": descriptor(ociImage, gone, len("gone")),
	}))
	d.revision("app", referrer)
	d.tag("app", "v1", referrer)
	testAudit(t, d, d.put(t))
}

// A repository can be a namespace too. Another name may sort between it and its part of the namespace.
func TestAuditOfRepositoriesInRepositories(t *testing.T) {
	d := newDisk()
	tag := func(repository string, layers ...string) {
		config := d.blob("config of " + repository)
		d.layer(repository, config)
		image := map[string]any{"schemaVersion": 2, "mediaType": ociImage, "config": descriptor(configType, config, len("config of "+repository))}
		var list []any
		for _, layer := range layers {
			d.layer(repository, d.blob(layer))
			list = append(list, descriptor(layerType, sha256Of(layer), len(layer)))
		}
		image["layers"] = list
		manifest := d.blob(json1(image))
		d.revision(repository, manifest)
		d.tag(repository, "v1", manifest)
	}
	tag("a", "all", "all a", "inner")
	tag("a-x", "all", "all a")
	tag("a/b", "all", "all a", "inner", "deep")
	tag("a/b/c", "deep")
	tag("b", "all")
	testAudit(t, d, d.put(t))
}

const uploadAge = 7 * 24 * time.Hour

func testAudit(t *testing.T, d *disk, root string) {
	facts, store := factsOf(t, root, audittest.Bill)
	inv := facts.Inventory
	live := func(roots mark.Roots) *mark.Live {
		live, err := facts.Live.With(t.Context(), facts.Graph, roots)
		if err == nil {
			live, err = live.CheckLinks(t.Context(), store, 0)
		}
		if err != nil {
			t.Fatal(err)
		}
		return live
	}
	bill, err := audit.New(t.Context(), facts, inv.Blobs())
	if err != nil {
		t.Fatal(err)
	}

	o := newOracle(d, rules{uploadAge: uploadAge})
	bytes, repositories := o.bill()
	bytes.Logical = 0
	for i := range repositories {
		bytes.Logical += repositories[i].Logical
		got := &bill.Repositories[i]
		if !repositories[i].LastPush.Equal(got.LastPush) {
			t.Errorf("%s: last push %v, want %v", got.Name, got.LastPush, repositories[i].LastPush)
		}
		repositories[i].LastPush = got.LastPush
		if math.Abs(got.Fair-repositories[i].Fair) > 1e-6 {
			t.Errorf("%s: fair share %f, want %f", got.Name, got.Fair, repositories[i].Fair)
		}
		repositories[i].Fair = got.Fair
		if *got != repositories[i] {
			t.Errorf("got  %+v\nwant %+v", *got, repositories[i])
		}
	}
	if want := o.growth(func(digest string) bool { return len(o.keepers(digest)) > 0 }); bill.Growth != want {
		t.Errorf("the growth is %v, want %v", bill.Growth, want)
	}
	if len(repositories) != len(bill.Repositories) || bill.Bytes != bytes {
		t.Errorf("%d repositories, got  %+v\n%d repositories, want %+v", len(bill.Repositories), bill.Bytes, len(repositories), bytes)
	}
	testKinds(t, o, facts, bill)
	testExports(t, d, o, facts, bytes)

	freed := func(name string, got int64, d *disk, r rules) {
		if want := goneBytes(d, r); got != want {
			t.Errorf("%s frees %d bytes, want %d", name, got, want)
		}
	}
	freed("gc", facts.Freed(facts.Live), d, rules{uploadAge: uploadAge})
	freed("gc -m", facts.Freed(live(mark.Roots{Revision: mark.None})), d, rules{uploadAge: uploadAge, deleteUntagged: true})
	isRemoved := func(repository, tag int) bool { return (repository+tag)%2 == 0 }
	roots, without := facts.Without(isRemoved), o.without(inv, isRemoved)
	freed("removing half of the tags", facts.Freed(live(roots)), o.withoutBroken(inv, isRemoved), without)
	roots.Revision = mark.None
	without.roots = slices.DeleteFunc(without.roots, func(root string) bool { return strings.Contains(root, "@") })
	both := facts.Freed(live(roots))
	freed("removing half of the tags, and gc -m", both, o.withoutBroken(inv, isRemoved), without)
	left, untagged := o.withoutTags(inv, isRemoved, false), rules{uploadAge: uploadAge, deleteUntagged: true}
	if !o.isDamaged() && !newOracle(left, untagged).isDamaged() { // damage keeps what only a deleted tag named
		freed("gc -m after the deletion of half of the tags", both, left, untagged)
	}
}

// testKinds compares the kinds of all blobs with the oracle.
func testKinds(t *testing.T, o *oracle, facts audit.Facts, bill *audit.Audit) {
	uses := o.uses(func(of string) bool {
		id, found := facts.Inventory.Find(digest.Digest(of))
		_, wasRead := facts.Graph.Form(id)
		return found && wasRead
	})
	sums := map[audit.Kind]audit.KindBytes{}
	for _, got := range bill.Blobs {
		want := audit.Blob{Digest: got.Digest, Bytes: int64(len(o.files[blobFile(string(got.Digest))].content)), Kind: audit.Unknown, Manifests: len(uses[string(got.Digest)])}
		for _, kind := range slices.Backward(audit.Kinds) {
			for _, given := range uses[string(got.Digest)] {
				if slices.Contains(given, kind) {
					want.Kind = kind
				}
			}
		}
		if _, counted := uses[string(got.Digest)][string(got.Digest)]; counted {
			want.Manifests-- // its kind as a manifest is no reference
		}
		for _, r := range o.repos {
			if alive, _ := o.alive(r); alive[string(got.Digest)] {
				want.Repositories++
			}
		}
		if got.Holders = nil; !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
		sum := sums[want.Kind]
		sum.Kind, sum.Blobs, sum.Bytes = want.Kind, sum.Blobs+1, sum.Bytes+want.Bytes
		if want.Repositories == 0 {
			sum.Garbage += want.Bytes
		}
		sums[want.Kind] = sum
	}
	for _, got := range bill.Kinds {
		if want := sums[got.Kind]; want.Blobs > 0 && got != want || want.Blobs == 0 && got != (audit.KindBytes{Kind: got.Kind}) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
}

// uses are the kinds that manifests give to digests, by the digest and then by the manifest. A manifest gives
// a kind to itself too.
func (o *oracle) uses(wasRead func(digest string) bool) map[string]map[string][]audit.Kind {
	uses := map[string]map[string][]audit.Kind{}
	for path, f := range o.files {
		by, isBlob := storedBlob(path)
		if !isBlob || !wasRead(by) {
			continue
		}
		use := func(of string, kind audit.Kind) {
			if uses[of] == nil {
				uses[of] = map[string][]audit.Kind{}
			}
			uses[of][by] = append(uses[of][by], kind)
		}
		isCache := strings.Contains(f.content, "application/vnd.buildkit.cacheconfig.")
		own := audit.Manifest
		if isCache {
			own = audit.BuildCache
		}
		use(by, own)
		var image struct{ Config struct{ Digest string } }
		_ = json.Unmarshal([]byte(f.content), &image) // other content has no config
		for _, to := range o.read(by).refs {
			kind := audit.Layer
			switch {
			case isCache:
				kind = audit.BuildCache
			case o.isEntry(o.read(by), to) && wasRead(to):
				kind = "" // that of the entry itself
			case o.isEntry(o.read(by), to):
				kind = audit.Manifest
			case to == image.Config.Digest:
				kind = audit.Config
			}
			use(to, kind)
			for _, r := range o.repos {
				for _, content := range r.aliases(to) {
					use(content, kind)
				}
			}
		}
		for _, r := range o.repos {
			for _, signature := range r.signatures[by] {
				use(signature, audit.Signature)
			}
		}
	}
	return uses
}

// without are the rules of a removal of tags, and of the manifests that only these tags reach.
func (o *oracle) without(inv *inventory.Inventory, isRemoved func(repository, tag int) bool) rules {
	without := rules{uploadAge: uploadAge, deleteUntagged: true, onlyRoots: true}
	for i, r := range inv.Repositories {
		for j, tag := range r.Tags {
			if !isRemoved(i, j) {
				without.roots = append(without.roots, r.Name+":"+tag.Name)
			}
		}
		for _, revision := range o.untagged(o.repos[r.Name]) {
			without.roots = append(without.roots, r.Name+"@"+revision)
		}
	}
	return without
}

// isDamaged reports whether damage keeps a repository.
func (o *oracle) isDamaged() bool {
	for _, r := range o.repos {
		if o.alive(r); r.kept {
			return true
		}
	}
	return false
}

// withoutBroken is the disk without the removed tags that have no current link: no list says that they are
// dead.
func (o *oracle) withoutBroken(inv *inventory.Inventory, isRemoved func(repository, tag int) bool) *disk {
	return o.withoutTags(inv, isRemoved, true)
}

// withoutTags is the disk without the removed tags, or only without those that have no current link. A
// repository with damaged links is as it was.
func (o *oracle) withoutTags(inv *inventory.Inventory, isRemoved func(repository, tag int) bool, onlyBroken bool) *disk {
	left := &disk{files: maps.Clone(o.files), dirs: o.dirs}
	for i, r := range inv.Repositories {
		of := o.repos[r.Name]
		for j, tag := range r.Tags {
			if _, hasCurrent := of.current[tag.Name]; hasCurrent && onlyBroken || !isRemoved(i, j) || of.linkDamage() || !goodName.MatchString(r.Name) {
				continue
			}
			maps.DeleteFunc(left.files, func(path string, _ file) bool {
				return strings.HasPrefix(path, "repositories/"+r.Name+"/_manifests/tags/"+tag.Name+"/")
			})
		}
	}
	return left
}

// goneBytes is the size of the blobs and uploads that go.
func goneBytes(d *disk, r rules) (sum int64) {
	_, gone := judge(d, r)
	for path := range gone {
		if _, isBlob := storedBlob(path); isBlob || strings.Contains(path, "/_uploads/") {
			sum += int64(len(d.files[path].content))
		}
	}
	return sum
}

// bill is the bill without Bytes.Logical, and the repositories, sorted.
func (o *oracle) bill() (bytes audit.Bytes, repositories []audit.Repository) {
	holders := map[string]int{}
	tagged := map[string]bool{}
	alive := map[string]map[string]bool{}
	for name, r := range o.repos {
		alive[name], _ = o.alive(r)
		for digest := range alive[name] {
			holders[digest]++
		}
		for digest := range o.reached(r, o.tagRoots(r), true) {
			tagged[digest] = true
		}
	}
	sizes := map[string]int64{} // of stored blobs
	for path, f := range o.files {
		size := int64(len(f.content))
		bytes.Total += size
		digest, isBlob := storedBlob(path)
		switch {
		case !isBlob && uploadPath.MatchString(pathInRepository(path)):
			bytes.Uploads += size
		case !isBlob:
			bytes.Other += size
		default:
			sizes[digest] = size
			bytes.Stored += size
			switch {
			case holders[digest] == 0:
				bytes.Garbage += size
			case tagged[digest]:
				bytes.Tagged += size
			default:
				bytes.Untagged += size
			}
		}
	}
	bytes.Live = bytes.Tagged + bytes.Untagged
	for name, r := range o.repos {
		tags := map[string]bool{}
		out := audit.Repository{Name: name, Manifests: len(r.revisions)}
		for tag, f := range r.current {
			tags[tag] = true
			if to, _ := target(f); to != "" {
				for digest := range o.reached(r, []string{to}, false) {
					out.Logical += sizes[digest]
				}
			}
		}
		for tag := range r.index {
			tags[tag] = true
		}
		out.Tags = len(tags)
		own := o.reached(r, o.tagRoots(r), true)
		for digest := range alive[name] {
			out.Bytes += sizes[digest]
			out.Fair += float64(sizes[digest]) / float64(holders[digest])
			if holders[digest] == 1 {
				out.Unique += sizes[digest]
			}
			if !own[digest] {
				out.Untagged += sizes[digest]
			}
		}
		out.Growth = o.growth(func(digest string) bool { return alive[name][digest] })
		out.Shared = out.Bytes - out.Unique
		for path, f := range o.files {
			if m := repoPath.FindStringSubmatch(path); m != nil && strings.TrimSuffix(m[1], "/") == name && isPushedLink(m[2]) {
				if at := now.Add(-f.age); at.After(out.LastPush) {
					out.LastPush = at
				}
			}
		}
		repositories = append(repositories, out)
	}
	slices.SortFunc(repositories, func(a, b audit.Repository) int { return strings.Compare(a.Name, b.Name) })
	return bytes, repositories
}

// growth is the size of some blobs by the months in which they were written.
func (o *oracle) growth(counts func(digest string) bool) (growth [audit.Months]int64) {
	for path, f := range o.files {
		digest, isBlob := storedBlob(path)
		if !isBlob || !counts(digest) {
			continue
		}
		for month := range audit.Months {
			at := now.UTC().Add(-f.age)
			if first := time.Date(now.UTC().Year(), now.UTC().Month()-time.Month(audit.Months-1-month), 1, 0, 0, 0, 0, time.UTC); !at.Before(first) && at.Before(first.AddDate(0, 1, 0)) {
				growth[month] += int64(len(f.content))
			}
		}
	}
	return growth
}

// keepers are the repositories that keep a digest alive, sorted.
func (o *oracle) keepers(digest string) (names []string) {
	for _, name := range slices.Sorted(maps.Keys(o.repos)) {
		if alive, _ := o.alive(o.repos[name]); alive[digest] {
			names = append(names, name)
		}
	}
	return names
}

func pathInRepository(path string) string {
	if m := repoPath.FindStringSubmatch(path); m != nil {
		return m[2]
	}
	return ""
}

// isPushedLink reports whether only a push writes a file of a repository.
func isPushedLink(below string) bool {
	return layerPath.MatchString(below) || revisionPath.MatchString(below) || currentPath.MatchString(below) || indexPath.MatchString(below)
}

// reached is what roots reach in a repository: what a pull fetches, or all that they keep alive.
func (o *oracle) reached(r *repo, roots []string, keeps bool) map[string]bool {
	reached, manifest := map[string]bool{}, map[string]bool{}
	tagRoots := o.tagRoots(r)
	var reach func(digest string, isManifest bool)
	reach = func(digest string, isManifest bool) {
		_, hasRevision := r.revisions[digest]
		isManifest = isManifest || hasRevision || slices.Contains(tagRoots, digest) || slices.Contains(r.suspects, digest)
		if isManifest && !manifest[digest] {
			manifest[digest] = true
			for _, to := range o.read(digest).refs {
				reach(to, o.isEntry(o.read(digest), to))
			}
		}
		if reached[digest] {
			return
		}
		reached[digest] = true
		for _, to := range slices.Concat(r.aliases(digest), r.signatures[digest]) {
			reach(to, false)
		}
		if !keeps {
			return
		}
		for revision := range r.revisions {
			if o.read(revision).subject == digest {
				reach(revision, true)
			}
		}
		for tag := range r.tags() {
			if o.subjectOf(r, tag) == digest { // with a policy
				for _, to := range o.targets(r, tag) {
					reach(to, true)
				}
			}
		}
	}
	for _, root := range roots {
		reach(root, false)
	}
	return reached
}
