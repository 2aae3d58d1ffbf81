package manifest

import (
	"fmt"
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

func BenchmarkParse(b *testing.B) {
	for _, layers := range []int{5, 30} {
		content := ordinary(layers)
		run := func(name string, read func() error) {
			b.Run(fmt.Sprintf("%s/layers=%d", name, layers), func(b *testing.B) {
				b.SetBytes(int64(len(content)))
				b.ReportAllocs()
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
