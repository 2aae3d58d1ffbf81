package sweep_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"regsweep/audit"
)

// testExports compares the keepers, and the file for ncdu, with the oracle.
func testExports(t *testing.T, d *disk, o *oracle, facts audit.Facts, bill audit.Bytes) {
	sizes := map[string]int64{}
	for path, f := range o.files {
		if digest, isBlob := storedBlob(path); isBlob {
			sizes[digest] = int64(len(f.content))
		}
	}
	stored := func(digests map[string]bool) []string {
		return slices.DeleteFunc(slices.Sorted(maps.Keys(digests)), func(digest string) bool {
			_, found := sizes[digest]
			return !found
		})
	}
	want := map[string][]string{} // by the path of a keeper: its blobs
	links := map[string]int{}
	for name, r := range o.repos {
		for _, tag := range tagsOf(r) {
			want[name+"/"+tag] = stored(o.reached(r, o.targets(r, tag), true))
		}
		roots := slices.Concat(o.untagged(r), r.pinned)
		if o.alive(r); r.kept {
			roots = append(roots, r.linked()...)
		}
		if blobs := stored(o.reached(r, roots, true)); len(blobs) > 0 {
			want[name+"/(untagged)"] = blobs
		}
	}
	for _, blobs := range want {
		for _, digest := range blobs {
			links[digest]++
		}
	}

	keepers, err := audit.NewKeepers(t.Context(), facts)
	if err != nil {
		t.Fatal(err)
	}
	common, sum := map[string]int64{}, int64(0)
	for digest, size := range sizes {
		switch names := o.keepers(digest); len(names) {
		case 0:
		case 1:
			sum += size
		default:
			common[namespace(names)] += size
		}
	}
	for _, c := range keepers.Common() {
		if common[c.Namespace] != c.Bytes || c.Bytes == 0 {
			t.Errorf("%q has %d common bytes, want %d", c.Namespace, c.Bytes, common[c.Namespace])
		}
		sum += c.Bytes
		delete(common, c.Namespace)
	}
	if len(common) > 0 || sum != bill.Live {
		t.Errorf("without common bytes: %v. The unique and common bytes are %d, and %d are live", common, sum, bill.Live)
	}
	garbageAndUploads := goneBytes(d, rules{uploadAge: uploadAge})
	for i, r := range facts.Inventory.Repositories {
		for at, got := range keepers.Of(i) {
			name := r.Name + "/(untagged)"
			var should audit.Keeper
			if at < len(r.Tags) {
				name = r.Name + "/" + r.Tags[at].Name
				if f, found := o.repos[r.Name].current[r.Tags[at].Name]; found {
					if to, _ := target(f); to != "" {
						for digest := range o.reached(o.repos[r.Name], []string{to}, false) {
							should.Logical += sizes[digest]
						}
					}
				}
			}
			for _, digest := range want[name] {
				should.Bytes += sizes[digest]
				if links[digest] == 1 {
					should.Unique += sizes[digest]
				}
			}
			if got != should {
				t.Errorf("%s: got %+v, want %+v", name, got, should)
			}
			if at == len(r.Tags) || !r.Tags[at].HasTarget || o.repos[r.Name].kept {
				continue // no run removes it
			}
			isRemoved := func(repository, tag int) bool { return repository == i && tag == at }
			without := o.without(facts.Inventory, isRemoved)
			after := newOracle(d, without)
			if after.alive(after.repos[r.Name]); after.repos[r.Name].kept {
				continue // a damaged link that only this tag needs keeps the repository once it would go
			}
			if freed := goneBytes(d, without) - garbageAndUploads; got.Unique != freed {
				t.Errorf("%s is said to have %d unique bytes, and its removal frees %d", name, got.Unique, freed)
			}
		}
	}

	var file strings.Builder
	if err := keepers.WriteNcdu(t.Context(), &file, bill); err != nil {
		t.Fatal(err)
	}
	var parts []any
	if err := json.Unmarshal([]byte(file.String()), &parts); err != nil {
		t.Fatalf("%v in %s", err, &file)
	}
	got, inodes, total := map[string][]string{}, map[float64]bool{}, int64(0)
	garbage := map[string]bool{}
	var walk func(dir []any, path []string)
	walk = func(dir []any, path []string) {
		for _, entry := range dir[1:] {
			if below, isDir := entry.([]any); isDir {
				name := below[0].(map[string]any)["name"].(string)
				walk(below, append(path, strings.TrimPrefix(name, ":")))
				continue
			}
			info := entry.(map[string]any)
			size, digest := int64(info["asize"].(float64)), info["name"].(string)
			inode, isBlob := info["ino"].(float64)
			if !isBlob || !inodes[inode] {
				total += size
			}
			if !isBlob {
				continue
			}
			inodes[inode] = true
			if path[0] == "(garbage)" {
				garbage[digest] = true
				continue
			}
			at := strings.Join(path, "/")
			got[at] = append(got[at], digest)
			if nlink, _ := info["nlink"].(float64); int(max(nlink, 1)) != links[digest] {
				t.Errorf("%s in %s says that it has %v links, and there are %d", digest, at, nlink, links[digest])
			}
			if size != sizes[digest] {
				t.Errorf("%s has %d bytes, want %d", digest, size, sizes[digest])
			}
		}
	}
	walk(parts[3].([]any), nil)
	for at := range want {
		if slices.Sort(got[at]); !slices.Equal(got[at], want[at]) {
			t.Errorf("%s has %v, want %v", at, got[at], want[at])
		}
		delete(got, at)
	}
	for at := range got {
		t.Errorf("there is a directory %s", at)
	}
	for digest := range sizes {
		if garbage[digest] != (links[digest] == 0) {
			t.Errorf("%s is in (garbage): %v, and it has %d links", digest, garbage[digest], links[digest])
		}
	}
	if total != bill.Total {
		t.Errorf("the file for ncdu has a total of %d bytes, want %d", total, bill.Total)
	}
}

// namespace is the longest path that has all names, or is one of them.
func namespace(names []string) string {
	path := names[0]
	for slices.ContainsFunc(names, func(name string) bool { return !strings.HasPrefix(name+"/", path+"/") }) {
		path = path[:max(0, strings.LastIndexByte(path, '/'))]
		if path == "" {
			return ""
		}
	}
	return path
}

func tagsOf(r *repo) []string {
	tags := map[string]bool{}
	for tag := range r.current {
		tags[tag] = true
	}
	for tag := range r.index {
		tags[tag] = true
	}
	return slices.Sorted(maps.Keys(tags))
}
