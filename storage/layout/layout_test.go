package layout

import (
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

var (
	layoutA    = digest.FromString("a")
	layoutB    = digest.FromString("b")
	layoutLong = digest.SHA512.FromString("a")
	layoutMid  = digest.SHA384.FromString("a")
)

// Parse parses every path that the package builds.
func TestPathsAreTakenApartAsTheyAreBuilt(t *testing.T) {
	for _, d := range []digest.Digest{layoutA, layoutB, layoutLong, layoutMid} {
		for _, repository := range []string{"a", "a/b", "a/b/c", "x.y/z-w"} {
			n, ok := ParseDigest(string(d))
			if !ok {
				t.Fatalf("%s is no digest", d)
			}
			b, _ := ParseDigest(string(layoutB))
			for _, tag := range []string{"v1", "current", "index", "link", "_tag"} {
				wantEntry(t, TagPath(repository, tag), Entry{Kind: Tag, Repository: repository, Tag: tag})
				wantEntry(t, TagIndexPath(repository, tag, d), Entry{Kind: TagIndex, Repository: repository, Tag: tag, Digest: n})
			}
			wantEntry(t, BlobPath(d), Entry{Kind: Blob, Digest: n})
			wantEntry(t, LayerPath(repository, d), Entry{Kind: Layer, Repository: repository, Digest: n})
			wantEntry(t, RevisionPath(repository, d), Entry{Kind: Revision, Repository: repository, Digest: n})
			wantEntry(t, SignaturePath(repository, d, layoutB), Entry{Kind: Signature, Repository: repository, Digest: b, Revision: n})
			wantEntry(t, UploadPath(repository, "id")+"/data", Entry{Kind: Upload, Repository: repository, Upload: "id"})
			wantEntry(t, UploadPath(repository, "id")+"/hashstates/sha256/0", Entry{Kind: Upload, Repository: repository, Upload: "id"})
			for _, dir := range LayoutPaths(repository) {
				wantEntry(t, dir, Entry{Kind: Repository, Repository: repository})
			}
		}
	}
}

func wantEntry(t *testing.T, path string, want Entry) {
	t.Helper()
	if got := Parse(path); got != want {
		t.Errorf("%s is %+v, want %+v", path, got, want)
	}
}

// A path that Distribution could not have written is a Stray, which is never removed (promise 2).
func TestStrays(t *testing.T) {
	hex := layoutA.Encoded()
	for _, path := range []string{
		"", "/", "blobs", "blobs/", "repositories", "repositories/", "elsewhere/data", "/blobs/sha256/" + hex[:2] + "/" + hex + "/data",
		// blobs
		"blobs/sha256/" + hex[:2] + "/" + hex,
		"blobs/sha256/" + hex[:2] + "/" + hex + "/",
		"blobs/sha256/" + hex[:2] + "/" + hex + "/data/",
		"blobs/sha256/" + hex[:2] + "/" + hex + "/data.0000.tmp",
		"blobs/sha256/" + hex[:2] + "/" + hex + "/link",
		"blobs/sha256/" + hex + "/data",
		"blobs/sha256/00/" + hex + "/data",
		"blobs/sha256/" + hex[:3] + "/" + hex + "/data",
		"blobs/sha256/" + hex[:2] + "/" + hex[:63] + "/data",
		"blobs/sha256/" + hex[:2] + "/" + hex + "0/data",
		"blobs/sha256/CA/" + strings.ToUpper(hex) + "/data",
		"blobs/sha512/" + hex[:2] + "/" + hex + "/data",
		"blobs/md5/d4/d41d8cd98f00b204e9800998ecf8427e/data",
		"blobs/tarsum/v1/sha256/" + hex + "/data",
		// outside of a repository
		"repositories/a", "repositories/a/b", "repositories/a/link",
		"repositories/_layers/sha256/" + hex + "/link", "repositories/_manifests/tags/v1/current/link",
		"repositories//_layers", "repositories//_layers/sha256/" + hex + "/link",
		"repositories/_other", "repositories/a/_other/sha256/" + hex + "/link",
		// links
		"repositories/a/_layers/sha256/" + hex,
		"repositories/a/_layers/sha256/" + hex + "/link/",
		"repositories/a/_layers/sha256/" + hex + "/link/link",
		"repositories/a/_layers/sha256/" + hex + "/data",
		"repositories/a/_layers/sha256/" + hex[:2] + "/" + hex + "/link",
		"repositories/a/_layers/" + hex + "/link",
		"repositories/a/_layers/blake3/" + hex + "/link",
		"repositories/a/_layers//" + hex + "/link",
		"repositories/a/_manifests/" + hex + "/link",
		"repositories/a/_manifests/revisions/sha256/" + hex,
		"repositories/a/_manifests/revisions/sha256/" + hex + "/link.0000.tmp",
		"repositories/a/_manifests/revisions/sha256/" + hex + "/signatures/link",
		"repositories/a/_manifests/revisions/sha256/" + hex + "/signatures/sha256/" + hex,
		"repositories/a/_manifests/revisions/sha256/" + hex + "/other/sha256/" + hex + "/link",
		"repositories/a/_manifests/revisions/sha256/00/signatures/sha256/" + hex + "/link",
		"repositories/a/_manifests/tags", "repositories/a/_manifests/tags/v1", "repositories/a/_manifests/tags/v1/link",
		"repositories/a/_manifests/tags/v1/current", "repositories/a/_manifests/tags/v1/current/link/link",
		"repositories/a/_manifests/tags//current/link", "repositories/a/_manifests/tags/v1/w/current/link",
		"repositories/a/_manifests/tags/v1/index/link", "repositories/a/_manifests/tags/v1/index/sha256/" + hex,
		"repositories/a/_manifests/tags//index/sha256/" + hex + "/link",
		// uploads
		"repositories/a/_uploads/id", "repositories/a/_uploads/id/", "repositories/a/_uploads//data",
		// paths that a plan can't contain, or that a server may resolve to another path
		"repositories/a/_uploads/\xff/data", "repositories/a/_uploads/../startedat", "repositories/a/_uploads/./data",
		"repositories/a/_uploads/id/../../_manifests/tags/v1/current/link",
		"repositories/a/_manifests/tags/\xff/current/link", "repositories/a/_manifests/tags/../current/link",
		"repositories/a/_manifests/tags/v\xff/index/sha256/" + hex + "/link",
	} {
		if e := Parse(path); e.Kind != Stray {
			t.Errorf("%q is of kind %d", path, e.Kind)
		}
	}
}

// A repository's name ends at the first component that belongs to the layout.
func TestRepositoriesOfPaths(t *testing.T) {
	for path, want := range map[string]string{
		"repositories/a/_layers":                    "a",
		"repositories/a/b/_layers/sha256/x":         "a/b",
		"repositories/a/_uploads/_layers/x":         "a",
		"repositories/a/_layers/_manifests/_layers": "a",
		"repositories/Foo/_manifests/tags":          "Foo",
		// No registry serves these, but they may contain images.
		"repositories/a/_old/_layers/sha256":      "a/_old",
		"repositories/_trash/a/_manifests/tags/x": "_trash/a",
		"repositories/a/_layers.bak/x":            "",
	} {
		if got := Parse(path).Repository; got != want {
			t.Errorf("%s lies in %q, want %q", path, got, want)
		}
	}
}

// naive parses a path with regular expressions. They follow the comment at the top of
// registry/storage/paths.go of Distribution.
func naive(path string) Entry {
	const link = `((?:sha256/[0-9a-f]{64})|(?:sha384/[0-9a-f]{96})|(?:sha512/[0-9a-f]{128}))`
	const repository = `^repositories/((?s:.+?))/`
	nameOf := func(s string) Name {
		alg, hex, _ := strings.Cut(s, "/")
		return Name{alg, hex}
	}
	if m := naiveMatch(`^blobs/(sha256|sha384|sha512)/([0-9a-f]{2})/([0-9a-f]+)/data$`, path); m != nil {
		if n := (Name{m[1], m[3]}); strings.HasPrefix(m[3], m[2]) && len(m[3]) == map[string]int{"sha256": 64, "sha384": 96, "sha512": 128}[m[1]] {
			return Entry{Kind: Blob, Digest: n}
		}
		return Entry{}
	}
	if naiveMatch(`^repositories/(/_refs|/?(_layers|_manifests|_uploads))(/|$)`, path) != nil {
		return Entry{} // without a name
	}
	m := naiveMatch(repository+`(_layers|_manifests|_uploads|_refs)(?:/((?s:.*)))?$`, path)
	if m == nil {
		return Entry{}
	}
	e, part, below := Entry{Repository: m[1]}, m[2], m[3]
	if below == "" {
		e.Kind = Repository
		return e
	}
	switch part {
	case "_layers":
		if m := naiveMatch(`^`+link+`/link$`, below); m != nil {
			e.Kind, e.Digest = Layer, nameOf(m[1])
		}
	case "_manifests":
		if m := naiveMatch(`^revisions/`+link+`/link$`, below); m != nil {
			e.Kind, e.Digest = Revision, nameOf(m[1])
		} else if m := naiveMatch(`^revisions/`+link+`/signatures/`+link+`/link$`, below); m != nil {
			e.Kind, e.Revision, e.Digest = Signature, nameOf(m[1]), nameOf(m[2])
		} else if isWay(below) {
			break
		} else if m := naiveMatch(`^revisions/`+link+`/_referrers/(_[^/]*)/`+link+`/link$`, below); m != nil {
			e.Kind, e.Revision, e.Artifact, e.Digest = Referrer, nameOf(m[1]), m[2], nameOf(m[3])
		} else if m := naiveMatch(`^tags/([^/]+)/current/link$`, below); m != nil {
			e.Kind, e.Tag = Tag, m[1]
		} else if m := naiveMatch(`^tags/([^/]+)/index/`+link+`/link$`, below); m != nil {
			e.Kind, e.Tag, e.Digest = TagIndex, m[1], nameOf(m[2])
		}
	case "_refs":
		if m := naiveMatch(`^subjects/`+link+`/`+link+`/link$`, below); m != nil {
			e.Kind, e.Revision, e.Digest = Referrer, nameOf(m[1]), nameOf(m[2])
		}
	case "_uploads":
		if m := naiveMatch(`^([^/]+)/(?s:.+)$`, below); m != nil && !isWay(below) {
			e.Kind, e.Upload = Upload, m[1]
		}
	}
	return e
}

// isWay reports whether a server may resolve a path to another path, or JSON can't contain it.
func isWay(path string) bool {
	return naiveMatch(`(^|/)\.\.?(/|$)`, path) != nil || strings.ToValidUTF8(path, "") != path
}

var naiveExpressions = map[string]*regexp.Regexp{}

// naiveMatch is not for concurrent use.
func naiveMatch(expression, text string) []string {
	if naiveExpressions[expression] == nil {
		naiveExpressions[expression] = regexp.MustCompile(expression)
	}
	return naiveExpressions[expression].FindStringSubmatch(text)
}

// rebuild builds the path of an entry, if only one path has this entry.
func rebuild(e Entry) (path string, ok bool) {
	d, revision := e.Digest.Digest(), e.Revision.Digest()
	switch e.Kind {
	case Blob:
		return BlobPath(d), true
	case Layer:
		return LayerPath(e.Repository, d), true
	case Revision:
		return RevisionPath(e.Repository, d), true
	case Signature:
		return SignaturePath(e.Repository, revision, d), true
	case Referrer:
		return ReferrerPath(e.Repository, d, revision, e.Artifact), true
	case Tag:
		return TagPath(e.Repository, e.Tag), true
	case TagIndex:
		return TagIndexPath(e.Repository, e.Tag, d), true
	}
	return "", false
}

// FuzzParsePath compares Parse with slow and obvious expressions, and with the functions that
// build paths. Parse accepts exactly the paths that these functions build, so no other path is
// ever removed (promise 2).
func FuzzParsePath(f *testing.F) {
	for _, path := range []string{
		BlobPath(layoutA), BlobPath(layoutLong), LayerPath("a", layoutA), LayerPath("a/b", layoutMid), RevisionPath("a", layoutA),
		SignaturePath("a", layoutA, layoutB), TagPath("a", "v1"), TagIndexPath("a", "v1", layoutA), UploadPath("a", "id") + "/startedat",
		"repositories/a/_layers", "repositories/a/_layers/", "repositories/_layers/_layers", "repositories//_layers", "repositories/a//_uploads/x/y",
		"repositories/a/_old/_layers", "repositories/a/_uploads/id/..", "repositories/a/_uploads/./x", "repositories/a/_manifests/tags/../current/link",
		"repositories/a/_uploads/\xff/x", "repositories/a/_manifests/tags/\xff/current/link", "repositories/a/_manifests/tags/\n/current/link", "blobs/sha256/ca/\xff/data", "",
	} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		got, want := Parse(path), naive(path)
		if got != want {
			t.Fatalf("%q is %+v, want %+v", path, got, want)
		}
		if built, ok := rebuild(got); ok && built != path {
			t.Errorf("%q is built again as %q", path, built)
		}
	})
}

// Paths made of the layout's own names, which a fuzzer rarely finds.
func TestParsePathOfRandomWords(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	words := []string{
		"a", "b", "a", "", "_layers", "_manifests", "_uploads", "_old", "revisions", "tags", "current", "index", "signatures", "_refs", "_referrers", "_type", "subjects", "link", "link", "data",
		"sha256", "sha256", "sha512", "md5", layoutA.Encoded(), layoutA.Encoded(), layoutA.Encoded()[:2], layoutLong.Encoded(), layoutLong.Encoded()[:2],
	}
	frames := []string{
		"blobs/%", "blobs/%/data", "blobs/sha256/%/" + layoutA.Encoded() + "/data", "repositories/%", "repositories/a/_layers/%", "repositories/a/_layers/%/link",
		"repositories/a/_manifests/%", "repositories/a/_manifests/revisions/%/link", "repositories/a/b/_manifests/tags/%/link",
		"repositories/a/b/_manifests/tags/v1/%/link", "repositories/a/_manifests/tags/v1/index/%/link",
		"repositories/a/_manifests/revisions/sha256/" + layoutA.Encoded() + "/%/link", "repositories/%/link",
		"repositories/a/_manifests/revisions/sha512/" + layoutLong.Encoded() + "/signatures/%/link",
		"repositories/a/_manifests/revisions/sha256/" + layoutA.Encoded() + "/_referrers/%/sha256/" + layoutA.Encoded() + "/link",
		"repositories/a/_refs/subjects/sha256/" + layoutA.Encoded() + "/%/link", "repositories/a/_refs/%/link",
	}
	kinds := map[Kind]int{}
	for range 30_000 {
		parts := []string{}
		for range 1 + random.IntN(5) {
			parts = append(parts, words[random.IntN(len(words))])
		}
		path := strings.Replace(frames[random.IntN(len(frames))], "%", strings.Join(parts, "/"), 1)
		got := Parse(path)
		if want := naive(path); got != want {
			t.Fatalf("%q is %+v, want %+v", path, got, want)
		}
		kinds[got.Kind]++
	}
	for kind := Stray; kind <= Repository; kind++ {
		if kinds[kind] == 0 {
			t.Errorf("no path is of kind %d: %v", kind, kinds)
		}
	}
}

func TestReadLink(t *testing.T) {
	good := string(layoutA)
	for _, test := range []struct {
		name, content string
		target        digest.Digest
		ok            bool
	}{
		{"a digest", good, layoutA, true},
		{"a long one", string(layoutLong), layoutLong, true},
		{"nothing", "", "", false},
		{"a newline behind it", good + "\n", layoutA, false},
		{"Windows' newline", good + "\r\n", layoutA, false},
		{"white space around it", "\t " + good + " ", layoutA, false},
		{"two of them", good + "\n" + good, "", false},
		{"one digit short", good[:len(good)-1], "", false},
		{"one digit long", good + "0", "", false},
		{"capitals", "sha256:" + strings.ToUpper(layoutA.Encoded()), "", false},
		{"no algorithm", layoutA.Encoded(), "", false},
		{"another algorithm", "md5:d41d8cd98f00b204e9800998ecf8427e", "", false},
		{"another algorithm's length", "sha512:" + layoutA.Encoded(), "", false},
		{"zeros, as a disk leaves them", strings.Repeat("\x00", 71), "", false},
		{"a byte order mark", "\ufeff" + good, "", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			target, ok, detail := LinkTarget([]byte(test.content))
			if target != test.target || ok != test.ok || (detail == "") != test.ok {
				t.Errorf("names %q, good: %t, %q", target, ok, detail)
			}
		})
	}
}

// FuzzReadLink: a link is valid if and only if a registry would have accepted it. If an invalid
// link has a target, the target is certain.
func FuzzReadLink(f *testing.F) {
	for _, text := range []string{string(layoutA), string(layoutA) + "\n", "", "sha256:", "garbage", string(layoutLong), " \x00"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		target, ok, detail := LinkTarget(content)
		registry, err := digest.Parse(string(content))
		if ok != (err == nil) {
			t.Errorf("%q is good: %t; to a registry: %v", content, ok, err)
		}
		if ok && target != registry {
			t.Errorf("%q names %s, to a registry %s", content, target, registry)
		}
		if target != "" && (target.Validate() != nil || strings.TrimSpace(string(content)) != string(target)) {
			t.Errorf("%q names %q", content, target)
		}
		if ok != (detail == "") {
			t.Errorf("%q is good: %t, and %q", content, ok, detail)
		}
	})
}
