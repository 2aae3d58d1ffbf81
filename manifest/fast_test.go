package manifest

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// ordinary is a manifest as clients write them.
func ordinary(layers int) []byte {
	var b strings.Builder
	entry := func(mediaType string, n int) string {
		return fmt.Sprintf(`{"mediaType":%q,"digest":"sha256:%064x","size":%d}`, mediaType, n, n*1000)
	}
	b.WriteString(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":`)
	b.WriteString(entry("application/vnd.oci.image.config.v1+json", 7) + `,"layers":[`)
	for i := range layers {
		if i > 0 {
			b.WriteString(",")
		}
		b.WriteString(entry("application/vnd.oci.image.layer.v1.tar+gzip", 100+i))
	}
	b.WriteString(`],"annotations":{"org.opencontainers.image.created":"2026-01-01T00:00:00Z"}}`)
	return []byte(b.String())
}

// parseFast parses in one pass, or not at all.
func parseFast(content []byte) (m Manifest, ok bool) {
	var p Parser
	ok = p.parseFast(content)
	return p.manifest, ok
}

// Ordinary manifests are parsed in one pass: the fast parser is worth its code for these alone.
func TestParseFastTakesOrdinaryManifests(t *testing.T) {
	for _, content := range []string{
		string(ordinary(0)), string(ordinary(12)),
		`{"schemaVersion":2,"manifests":[]}`,
		"{\n\t\"schemaVersion\": 2,\n\t\"config\": {\"digest\": \"sha256:" + strings.Repeat("a", 64) + "\", \"size\": 0}\n}",
		`{"schemaVersion":1,"name":"a","tag":"b","fsLayers":[{"blobSum":"sha256:` + strings.Repeat("b", 64) + `"}],"history":[{"v1Compatibility":"{\"id\":\"x\"}"}]}`,
	} {
		if _, ok := parseFast([]byte(content)); !ok {
			t.Errorf("not read in one pass: %s", content)
		}
	}
}

// The fast parser reads whatever it accepts as encoding/json does.
func FuzzParseFast(f *testing.F) {
	f.Add(ordinary(3))
	f.Add([]byte(`{"manifests":[{"digest":"sha512:` + strings.Repeat("0", 128) + `","mediaType":"a","size":1}],"subject":{"digest":"sha256:` + strings.Repeat("1", 64) + `"}}`))
	f.Add([]byte(`{"schemaVersion":1,"fsLayers":[{"blobSum":"sha256:` + strings.Repeat("b", 64) + `"}],"x":[null,true,-1,{"y":"\n"}]}`))
	f.Add([]byte(`{"Layers":[],"layers":[{"digest":"sha256:` + strings.Repeat("b", 64) + `"}],"LAYERS":[]}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		got, ok := parseFast(content)
		if !ok {
			return
		}
		want, err := parseJSON(content)
		if len(got.References) == 0 {
			got.References = nil
		}
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%q\nread as %+v\nencoding/json: %+v, %v", content, got, want, err)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	for _, layers := range []int{5, 30} {
		content := ordinary(layers)
		run := func(name string, read func() error) {
			b.Run(fmt.Sprintf("%s/layers=%d", name, layers), func(b *testing.B) {
				b.SetBytes(int64(len(content)))
				for b.Loop() {
					if err := read(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		var p Parser
		run("ours", func() error { _, err := p.Parse(content); return err })
		run("encoding_json", func() error { _, err := parseJSON(content); return err })
	}
}
