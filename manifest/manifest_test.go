package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"regsweep/internal/imagetest"

	"github.com/opencontainers/go-digest"
)

// written turns the letters of a story into digests: a token such as @a stands for
// the sha256 digest of "a", and @@a for its sha512 digest.
func written(story string) string {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(story, "@")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		algorithm := digest.SHA256
		if strings.HasPrefix(after, "@") {
			algorithm, after = digest.SHA512, after[1:]
		}
		b.WriteString(algorithm.FromString(after[:1]).String())
		story = after[1:]
	}
}

// letters turns digests back.
func letters(text string) string {
	for c := 'a'; c <= 'z'; c++ {
		text = strings.ReplaceAll(text, digest.FromString(string(c)).String(), "@"+string(c))
		text = strings.ReplaceAll(text, digest.SHA512.FromString(string(c)).String(), "@@"+string(c))
	}
	return text
}

// summary is a manifest in a line: its kind, its references and its subject.
func summary(m Manifest) string {
	var b strings.Builder
	b.WriteString([]string{"unknown", "image", "index", "schema 1", "artifact"}[m.Kind] + ":")
	for _, r := range m.References {
		fmt.Fprintf(&b, " %s", r.Digest)
		if r.IsManifest() {
			b.WriteString("(manifest)")
		}
		if r.Size >= 0 {
			fmt.Fprintf(&b, "(%d)", r.Size)
		}
	}
	if m.Subject != nil {
		fmt.Fprintf(&b, " -> %s", m.Subject)
	}
	return letters(b.String())
}

const (
	ociImage    = `application/vnd.oci.image.manifest.v1+json`
	ociArtifact = `application/vnd.oci.artifact.manifest.v1+json`
	ociIndex    = `application/vnd.oci.image.index.v1+json`
	dockerImage = `application/vnd.docker.distribution.manifest.v2+json`
	dockerList  = `application/vnd.docker.distribution.manifest.list.v2+json`
	dockerV1    = `application/vnd.docker.distribution.manifest.v1+json`
	dockerJWS   = `application/vnd.docker.distribution.manifest.v1+prettyjws`
)

func TestParse(t *testing.T) {
	for _, test := range []struct{ name, content, want string }{
		// --- images
		{
			"Docker schema 2",
			`{"schemaVersion":2,"mediaType":"` + dockerImage + `","config":{"mediaType":"application/vnd.docker.container.image.v1+json","size":7,"digest":"@c"},
			  "layers":[{"mediaType":"application/vnd.docker.image.rootfs.diff.tar.gzip","size":1,"digest":"@a"},{"size":2,"digest":"@b"}]}`,
			"image: @c(7) @a(1) @b(2)",
		},
		{
			"OCI image",
			`{"schemaVersion":2,"mediaType":"` + ociImage + `","config":{"digest":"@c","size":7},"layers":[{"digest":"@a","size":1}],"annotations":{"of":"@x"}}`,
			"image: @c(7) @a(1)",
		},
		{
			"OCI image that does not say its type",
			`{"schemaVersion":2,"config":{"digest":"@c","size":7},"layers":[{"digest":"@a","size":1}]}`,
			"image: @c(7) @a(1)",
		},
		{"layers alone make an image", `{"schemaVersion":2,"layers":[{"digest":"@a"}]}`, "image: @a"},
		{"a config alone makes an image", `{"schemaVersion":2,"config":{"digest":"@c"}}`, "image: @c"},
		{"an image of no layers", `{"mediaType":"` + ociImage + `","config":{"digest":"@c"},"layers":[]}`, "image: @c"},
		{"an image that reaches nothing", `{"mediaType":"` + ociImage + `"}`, "image:"},
		{
			"foreign layers are references too: whether they may be absent is not the manifest's to say",
			`{"mediaType":"` + dockerImage + `","config":{"digest":"@c"},"layers":[{"mediaType":"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip","digest":"@f","size":3,"urls":["https://example.com/@x"]}]}`,
			"image: @c @f(3)",
		},
		{"a layer under sha512", `{"mediaType":"` + ociImage + `","config":{"digest":"@c"},"layers":[{"digest":"@@a"}]}`, "image: @c @@a"},
		{"a layer named twice", `{"mediaType":"` + ociImage + `","layers":[{"digest":"@a"},{"digest":"@a"}]}`, "image: @a @a"},
		{
			"an algorithm that nobody knows is a reference like any other",
			`{"mediaType":"` + ociImage + `","layers":[{"digest":"blake3:00ff"}]}`, "image: blake3:00ff",
		},
		{"a size of less than nothing is none", `{"layers":[{"digest":"@a","size":-1}]}`, "image: @a"},
		{"a size that is null is none", `{"layers":[{"digest":"@a","size":null}]}`, "image: @a"},

		// --- indexes
		{
			"a manifest list",
			`{"schemaVersion":2,"mediaType":"` + dockerList + `","manifests":[{"mediaType":"` + dockerImage + `","digest":"@a","size":1,"platform":{"os":"linux"}},{"mediaType":"` + dockerJWS + `","digest":"@b","size":2}]}`,
			"index: @a(manifest)(1) @b(manifest)(2)",
		},
		{
			"an OCI index of indexes",
			`{"schemaVersion":2,"mediaType":"` + ociIndex + `","manifests":[{"mediaType":"` + ociIndex + `","digest":"@i"},{"mediaType":"` + ociImage + `","digest":"@a"}]}`,
			"index: @i(manifest) @a(manifest)",
		},
		{"an OCI index that does not say its type", `{"schemaVersion":2,"manifests":[{"mediaType":"` + ociImage + `","digest":"@a"}]}`, "index: @a(manifest)"},
		{"an index of nothing", `{"schemaVersion":2,"manifests":[]}`, "index:"},
		{
			"a BuildKit cache: an index whose entries are blobs",
			`{"schemaVersion":2,"mediaType":"` + ociIndex + `","manifests":[{"mediaType":"application/vnd.docker.image.rootfs.diff.tar.gzip","digest":"@a","size":1},{"mediaType":"application/vnd.buildkit.cacheconfig.v0","digest":"@c","size":2}]}`,
			"index: @a(1) @c(2)",
		},

		// --- attached
		{
			"a signature",
			`{"schemaVersion":2,"mediaType":"` + ociImage + `","config":{"digest":"@c"},"layers":[{"digest":"@p"}],"subject":{"mediaType":"` + ociImage + `","digest":"@s","size":9}}`,
			"image: @c @p -> @s",
		},
		{"an index may be attached", `{"mediaType":"` + ociIndex + `","manifests":[],"subject":{"digest":"@s"}}`, "index: -> @s"},

		// --- schema 1
		{
			"schema 1",
			`{"schemaVersion":1,"name":"app","tag":"v1","architecture":"amd64","fsLayers":[{"blobSum":"@b"},{"blobSum":"@a"},{"blobSum":"@a"}],
			  "history":[{"v1Compatibility":"{\"id\":\"@x\",\"parent\":\"@y\"}"}],"signatures":[{"signature":"@z","protected":"e30"}]}`,
			"schema 1: @b @a @a",
		},
		{"schema 1 that says its type", `{"schemaVersion":1,"mediaType":"` + dockerJWS + `","fsLayers":[{"blobSum":"@a"}]}`, "schema 1: @a"},
		{"schema 1 unsigned", `{"schemaVersion":1,"mediaType":"` + dockerV1 + `","fsLayers":[{"blobSum":"@a"}]}`, "schema 1: @a"},

		// --- CVE-2021-41190: read as an image by one client and as an index by another
		{
			"an image with entries",
			`{"schemaVersion":2,"mediaType":"` + ociImage + `","config":{"digest":"@c"},"layers":[{"digest":"@a"}],"manifests":[{"mediaType":"` + ociImage + `","digest":"@m"}]}`,
			"image: @c @a @m(manifest)",
		},
		{
			"an index with layers",
			`{"schemaVersion":2,"mediaType":"` + ociIndex + `","config":{"digest":"@c"},"layers":[{"digest":"@a"}],"manifests":[{"digest":"@m"}]}`,
			"index: @c @a @m",
		},
		{
			"both, and no type",
			`{"schemaVersion":2,"config":{"digest":"@c"},"layers":[{"digest":"@a"}],"manifests":[{"digest":"@m"}]}`,
			"index: @c @a @m",
		},
		{
			"schema 1 with layers of schema 2",
			`{"schemaVersion":1,"fsLayers":[{"blobSum":"@f"}],"layers":[{"digest":"@a"}]}`,
			"schema 1: @a @f",
		},

		// --- fields given twice: one client takes the first, another the last
		{"layers twice", `{"mediaType":"` + ociImage + `","layers":[{"digest":"@a","size":1}],"layers":[{"digest":"@b"}]}`, "image: @a(1) @b"},
		{"layers in other letters", `{"mediaType":"` + ociImage + `","layers":[{"digest":"@a"}],"Layers":[{"digest":"@b"}]}`, "image: @a @b"},
		{"layers taken back", `{"mediaType":"` + ociImage + `","layers":[{"digest":"@a"}],"layers":null}`, "image: @a"},
		{"a config twice", `{"mediaType":"` + ociImage + `","config":{"digest":"@c"},"config":{"digest":"@d"}}`, "image: @c @d"},
		{"a digest twice", `{"mediaType":"` + ociImage + `","config":{"digest":"@c","digest":"@d","size":1}}`, "image: @c(1) @d(1)"},
		{"a sum twice", `{"schemaVersion":1,"fsLayers":[{"blobSum":"@a","blobsum":"@b"}]}`, "schema 1: @a @b"},
		{"the same subject twice", `{"mediaType":"` + ociImage + `","subject":{"digest":"@s"},"subject":{"digest":"@s"}}`, "image: -> @s"},
		{"the same type twice", `{"mediaType":"` + ociImage + `","mediaType":"` + ociImage + `","layers":[{"digest":"@a"}]}`, "image: @a"},
		{"a type taken back", `{"mediaType":"` + ociImage + `","mediaType":null,"layers":[{"digest":"@a"}]}`, "image: @a"},

		// --- null and empty are absent
		{"null fields", `{"mediaType":"` + ociImage + `","config":null,"layers":null,"manifests":null,"subject":null,"fsLayers":null}`, "image:"},
		{"a type that is null", `{"mediaType":null,"config":{"digest":"@c"}}`, "image: @c"},
		{"a type that is empty", `{"mediaType":"","manifests":[{"digest":"@a"}]}`, "index: @a"},
		{"manifests that are null make no index", `{"schemaVersion":2,"manifests":null,"config":{"digest":"@c"}}`, "image: @c"},
		{"escapes", `{"medi\u0061Type":"` + ociImage + `","l\u0061yers":[{"digest":"\u0073` + written("@a")[1:] + `"}]}`, "image: @a"},

		// --- types that nobody knows: every digest counts
		{
			"an artifact manifest",
			`{"mediaType":"application/vnd.oci.artifact.manifest.v1+json","blobs":[{"digest":"@a","size":1}],"subject":{"digest":"@s","size":1}}`,
			"artifact: @a(1) -> @s",
		},
		{
			"an artifact manifest of ORAS, without blobs",
			`{"mediaType":"application/vnd.cncf.oras.artifact.manifest.v1+json","artifactType":"application/vnd.example","subject":{"digest":"@s","size":1}}`,
			"artifact: -> @s",
		},
		{
			"an image's index with a SOCI index in it",
			`{"schemaVersion":2,"mediaType":"` + ociIndex + `","manifests":[{"mediaType":"` + ociImage + `","digest":"@a"},{"mediaType":"` + ociImage + `","digest":"@b","artifactType":"application/vnd.amazon.soci.index.v2+json","annotations":{"com.amazon.soci.image-manifest-digest":"@a"}}]}`,
			"index: @a(manifest) @b(manifest)",
		},
		{
			"digests in keys, in text, in depth, and twice",
			`{"mediaType":"application/vnd.example+json","by":{"@a":[[{"x":"see @b, and @a."}]]},"long":"@@c"}`,
			"unknown: @a @b @@c",
		},
		{
			"known fields of odd forms",
			`{"mediaType":"application/vnd.example+json","config":"@c","layers":{"one":"@a"},"manifests":3,"fsLayers":"@f","subject":["@s"],"schemaVersion":{}}`,
			"unknown: @c @a @f @s",
		},
		{"a subject that is no descriptor", `{"mediaType":"application/vnd.example+json","subject":{"digest":"v1","ref":"@s"}}`, "unknown: @s"},
		{"a subject with an odd size", `{"mediaType":"application/vnd.example+json","subject":{"digest":"@s","size":"1"}}`, "unknown: @s -> @s"},
		{"escaped digests", `{"mediaType":"application/vnd.example+json","x":"sha256\u003a` + written("@a")[7:] + `"}`, "unknown: @a"},
		{"digests run into other text", `{"mediaType":"x","y":"a@sha256:` + written("@a")[7:] + `00 x` + written("@b") + `"}`, "unknown: @a @b"},
		{"upper-case digits make no digest", `{"mediaType":"x","y":"` + strings.ToUpper(written("@a")) + `"}`, "unknown:"},
		{"a type with a parameter is another type", `{"mediaType":"` + ociImage + `; charset=utf-8","layers":[{"digest":"@a"}]}`, "unknown: @a"},
		{"a type in capitals is another type", `{"mediaType":"` + strings.ToUpper(ociImage) + `","layers":[{"digest":"@a"}]}`, "unknown: @a"},
		{"an empty object", `{}`, "unknown:"},
		{"a version of the future without a type", `{"schemaVersion":3,"parts":["@a"]}`, "unknown: @a"},
		{"schemaVersion is a number", `{"schemaVersion":"1","fsLayers":[{"blobSum":"@a"}]}`, "unknown: @a"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m, err := Parse([]byte(strings.ReplaceAll(written(strings.ReplaceAll(test.content, "a@sha256", "a\x00sha256")), "\x00", "@")))
			if err != nil {
				t.Fatal(err)
			}
			if got := summary(m); got != test.want {
				t.Errorf("%s\nwant %s", got, test.want)
			}
		})
	}
}

// What claims a known type and has not its form could lead anywhere (promise 2).
func TestParseRefusesMalformedManifests(t *testing.T) {
	for _, test := range []struct{ name, content string }{
		{"nothing", ""},
		{"white space", " \n"},
		{"cut off", `{"schemaVersion":2,"mediaType":"` + ociImage + `","layers":[{"digest":"@a"}`},
		{"more behind it", `{"mediaType":"` + ociImage + `"} {}`},
		{"no JSON", "\x1f\x8b\x08"},
		{"a byte order mark", "\ufeff{}"},
		{"null", `null`},
		{"a list", `[{"digest":"@a"}]`},
		{"a text", `"@a"`},
		{"a number", `2`},
		{"a type that is a number", `{"mediaType":2,"layers":[{"digest":"@a"}]}`},
		{"a type that is a list", `{"mediaType":["` + ociImage + `"]}`},
		{"two types", `{"mediaType":"` + ociImage + `","mediaType":"` + ociIndex + `"}`},
		{"two types, one of them unknown", `{"mediaType":"x","MediaType":"` + ociImage + `"}`},
		{"two subjects", `{"mediaType":"` + ociImage + `","subject":{"digest":"@a"},"subject":{"digest":"@b"}}`},
		{"a subject of two digests", `{"mediaType":"` + ociImage + `","subject":{"digest":"@a","digest":"@b"}}`},
		{"two subjects in what is unknown", `{"mediaType":"x","subject":{"digest":"@a"},"subject":{"digest":"@b"}}`},
		{"an entry of two types", `{"manifests":[{"digest":"@a","mediaType":"x","mediaType":"` + ociImage + `"}]}`},
		{"a config that is a text", `{"mediaType":"` + ociImage + `","config":"@c"}`},
		{"a config without a digest", `{"mediaType":"` + ociImage + `","config":{}}`},
		{"a config with a digest that is null", `{"mediaType":"` + ociImage + `","config":{"digest":null}}`},
		{"a digest cut short", `{"mediaType":"` + ociImage + `","config":{"digest":"` + written("@c")[:70] + `"}}`},
		{"a digest in capitals", `{"mediaType":"` + ociImage + `","config":{"digest":"sha256:` + strings.ToUpper(written("@c")[7:]) + `"}}`},
		{"a digest with white space", `{"mediaType":"` + ociImage + `","config":{"digest":"@c\n"}}`},
		{"an empty digest", `{"mediaType":"` + ociImage + `","config":{"digest":""}}`},
		{"a digest that is no text", `{"mediaType":"` + ociImage + `","config":{"digest":5}}`},
		{"layers that are no list", `{"mediaType":"` + ociImage + `","layers":{"digest":"@a"}}`},
		{"a layer that is null", `{"mediaType":"` + ociImage + `","layers":[null]}`},
		{"a layer that is a digest", `{"mediaType":"` + ociImage + `","layers":["@a"]}`},
		{"entries that are no list", `{"manifests":{"digest":"@a"}}`},
		{"an entry that is null", `{"mediaType":"` + ociIndex + `","manifests":[null]}`},
		{"an image with malformed entries", `{"mediaType":"` + ociImage + `","layers":[],"manifests":[{}]}`},
		{"a subject without a digest", `{"mediaType":"` + ociImage + `","subject":{}}`},
		{"a subject that is a text", `{"mediaType":"` + ociImage + `","subject":"@s"}`},
		{"schema 1 with an empty sum", `{"schemaVersion":1,"fsLayers":[{"blobSum":""}]}`},
		{"schema 1 with a layer that is null", `{"schemaVersion":1,"fsLayers":[null]}`},
		{"a size that is a text", `{"mediaType":"` + ociImage + `","layers":[{"digest":"@a","size":"1"}]}`},
		{"a size with a fraction", `{"mediaType":"` + ociImage + `","layers":[{"digest":"@a","size":1.5}]}`},
		{"a size beyond all sizes", `{"mediaType":"` + ociImage + `","layers":[{"digest":"@a","size":99999999999999999999}]}`},
		{"deeper than anyone reads", strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000)},
	} {
		t.Run(test.name, func(t *testing.T) {
			if m, err := Parse([]byte(written(test.content))); err == nil {
				t.Errorf("is read as %s", summary(m))
			}
		})
	}
}

// membersOf are the members of a JSON object, and say whether there are any twice.
func membersOf(content []byte) (members []string, plain bool) {
	decoder := json.NewDecoder(bytes.NewReader(content))
	if opening, err := decoder.Token(); err != nil || opening != json.Delim('{') {
		return nil, false
	}
	seen := map[string]bool{}
	for decoder.More() {
		key, err := decoder.Token()
		if err != nil {
			return nil, false
		}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return nil, false
		}
		name, _ := json.Marshal(key)
		if folded := strings.ToLower(key.(string)); seen[folded] {
			return nil, false
		} else {
			seen[folded] = true
		}
		members = append(members, string(name)+":"+string(value))
	}
	return members, true
}

// FuzzParse proves of whatever content there may be that reading it does not
// panic, that encoding/json reads the same, that what comes out are digests, and that
// neither the order of fields nor white space matters.
func FuzzParse(f *testing.F) {
	layers := []imagetest.Blob{imagetest.Layer(1, 10), imagetest.Layer(2, 10)}
	image := imagetest.Image(imagetest.OCI, layers...)
	for _, m := range []*imagetest.Manifest{
		image, imagetest.Image(imagetest.Docker, layers...), imagetest.Index(imagetest.OCI, image), imagetest.Index(imagetest.Docker, image),
		imagetest.BuildKitCache(layers...), imagetest.Referrer(image, "application/vnd.example", []byte("payload")),
	} {
		f.Add(m.Content)
	}
	for _, story := range []string{
		`{"schemaVersion":1,"fsLayers":[{"blobSum":"@a"}],"history":[{"v1Compatibility":"{}"}]}`,
		`{"mediaType":"application/vnd.example+json","@a":["see @b",1.5e3,true,null,"\u0041"]}`,
		`{"mediaType":"` + ociImage + `","layers":[{"digest":"@a","size":1}],"layers":[{"digest":"@b"}]}`,
		`{"mediaType":"` + ociImage + `","config":{"digest":"@a","digest":"@b","size":01}}`,
		`{"manifests":[{"digest":"@a","mediaType":"` + ociImage + `","Size":5}],"subject":{"digest":"@@s"}}`,
		`{"mediaType":"` + ociImage + `","config":{"digest":"@c","x":{"a":[{"b":{}}]},"size":1e2}}`,
		`{"manifests":[{"digest":"@@a","mediaType":"a","size":1}],"subject":{"digest":"@s"}}`,
		`{"schemaVersion":1,"fsLayers":[{"blobSum":"@a"}],"x":[null,true,-1,{"y":"\n"}]}`,
		`{"Layers":[],"layers":[{"digest":"@a"}],"LAYERS":[]}`,
		`{"mediaType":"` + ociArtifact + `","blobs":[{"digest":"@a","size":1},{"digest":1}],"subject":{"digest":"@s"}}`,
		`{"mediaType":"application/vnd.example+json","score":1E+400,"a":"@a"}`,
		`{"mediaType":5}`, `{"fslayers":[{"blobsum":"@a","BLOBSUM":"@b"}],"schemaVersion":1}`, `null`, `[]`, ``, "{\"a\":\"\xff\"}",
	} {
		f.Add([]byte(written(story)))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		m, err := Parse(content)
		if want, wantErr := parseJSON(content); !same(m, err, want, wantErr) {
			t.Fatalf("read as %+v, %v, and by encoding/json as %+v, %v", m, err, want, wantErr)
		}
		if err != nil {
			return
		}
		if !json.Valid(content) {
			t.Fatal("what is no JSON is read")
		}
		for _, r := range m.References {
			if !digest.DigestRegexpAnchored.Match(r.Digest) || r.Size < -1 {
				t.Errorf("the reference %+v is no digest", r)
			}
			if !bytes.Contains(content, []byte(digest.Digest(r.Digest).Encoded())) && !bytes.ContainsRune(content, '\\') {
				t.Errorf("the reference %s comes from nowhere", r.Digest)
			}
		}
		var indented bytes.Buffer
		if err := json.Indent(&indented, content, " ", "\t"); err != nil {
			t.Fatal(err)
		}
		if spaced, err := Parse(indented.Bytes()); err != nil || summary(spaced) != summary(m) {
			t.Errorf("with white space it is %s (%v), without %s", summary(spaced), err, summary(m))
		}
		members, plain := membersOf(content)
		if !plain {
			return
		}
		slices.Reverse(members)
		turned, err := Parse([]byte("{" + strings.Join(members, ",") + "}"))
		if err != nil || turned.Kind != m.Kind || !bytes.Equal(turned.Subject, m.Subject) {
			t.Fatalf("in reverse it is %s (%v), else %s", summary(turned), err, summary(m))
		}
		sorted := func(references []Reference) []string {
			var all []string
			for _, r := range references {
				all = append(all, fmt.Sprintf("%s %s %d", r.Digest, r.MediaType, r.Size))
			}
			slices.Sort(all)
			return all
		}
		if !slices.Equal(sorted(turned.References), sorted(m.References)) {
			t.Errorf("in reverse it reaches %v, else %v", turned.References, m.References)
		}
	})
}
