package manifest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// writer writes documents that are nearly manifests, with all the liberties that JSON
// leaves and some that it does not.
type writer struct{ *rand.Rand }

func (s writer) of(choices ...string) string { return choices[s.IntN(len(choices))] }

func (s writer) rarely(usual string, seldom ...string) string {
	if s.IntN(12) > 0 {
		return usual
	}
	return s.of(seldom...)
}

func (s writer) space() string { return s.rarely("", " ", "\n\t", "\r", "\v", "\u00a0") }

func (s writer) key(name string) string {
	return s.rarely(`"`+name+`"`, `"`+strings.ToUpper(name)+`"`, `"`+strings.ToUpper(name[:1])+name[1:]+`"`,
		fmt.Sprintf(`"\u%04x%s"`, name[0], name[1:]), `"`+strings.ReplaceAll(name, "s", "ſ")+`"`, `"`+name+` "`, name)
}

func (s writer) digest() string {
	good := written(s.of("@a", "@b", "@c", "@@d"))
	return `"` + s.rarely(good, good[:len(good)-1], good+"0", strings.ToUpper(good), "", " "+good, "md5:00ff", "sha256:"+strings.Repeat("g", 64), `\u0073`+good[1:]) + `"`
}

func (s writer) number() string {
	return s.rarely(s.of("0", "1", "1234567"), "-1", "-5", "01", "1.0", "1e3", "-0", "999999999999999999", "9223372036854775807", "9223372036854775808", "null", `"1"`, "+1", ".5", "1.", "-")
}

func (s writer) mediaType() string {
	return s.rarely(`"`+s.of(ociImage, ociIndex, dockerImage, dockerList, dockerJWS, ociArtifact, "text/plain")+`"`, `""`, "null", "1", `"application\/json"`, `"é"`, "\"\xff\"", `"`+ociImage+` "`)
}

func (s writer) junk(depth int) string {
	if depth == 0 {
		return s.of(`"x"`, "1", "true", "false", "null", `"\n\u00e9"`, `"\x"`, "tru", "-1.5e-7", "\"\xff\"", "\"\x01\"", written(`"@x"`), `"\ud800"`)
	}
	switch s.IntN(3) {
	case 0:
		return "[" + s.list(func() string { return s.junk(depth - 1) }) + "]"
	case 1:
		return s.object(func() string { return s.key(s.of("k", "digest", "")+"k") + ":" + s.junk(depth-1) })
	}
	return s.junk(0)
}

func (s writer) list(element func() string) string {
	var elements []string
	for range s.IntN(4) {
		elements = append(elements, s.space()+element()+s.space())
	}
	return strings.Join(elements, s.rarely(",", ",,", " ")) + s.rarely("", ",")
}

func (s writer) object(member func() string) string {
	return s.rarely("{", "", "{{") + s.list(member) + s.rarely("}", "", "}}")
}

func (s writer) descriptor(digestField string) string {
	fields := []string{s.key(digestField) + s.space() + ":" + s.space() + s.digest()}
	for range s.IntN(3) {
		switch s.IntN(5) {
		case 0:
			fields = append(fields, s.key("size")+":"+s.number())
		case 1:
			fields = append(fields, s.key("mediaType")+":"+s.mediaType())
		case 2:
			fields = append(fields, s.key("annotations")+":"+s.junk(2))
		case 3:
			fields = append(fields, s.key("platform")+":"+s.junk(1))
		case 4:
			fields = append(fields, s.rarely(s.key("urls")+`:["https://example.com"]`, s.key(digestField)+":"+s.digest()))
		}
	}
	s.Shuffle(len(fields), func(i, j int) { fields[i], fields[j] = fields[j], fields[i] })
	return s.rarely("{"+strings.Join(fields, s.space()+",")+s.space()+"}", "null", "{}", "[]", s.digest(), s.junk(1))
}

func (s writer) field() string {
	list := func(digestField string) string {
		return s.rarely("["+s.list(func() string { return s.descriptor(digestField) })+"]", "null", "{}", s.junk(1))
	}
	switch s.IntN(10) {
	case 0:
		return s.key("schemaVersion") + ":" + s.of("1", "2", s.number(), `"2"`)
	case 1, 2:
		return s.key("mediaType") + ":" + s.mediaType()
	case 3:
		return s.key("config") + ":" + s.descriptor("digest")
	case 4:
		return s.key("layers") + ":" + list("digest")
	case 5:
		return s.key("manifests") + ":" + list("digest")
	case 6:
		return s.key("subject") + ":" + s.descriptor("digest")
	case 7:
		return s.key("fsLayers") + ":" + list("blobSum")
	case 8:
		return s.key("blobs") + ":" + list("digest")
	}
	return s.key("annotations") + ":" + s.junk(3)
}

// The parser must not differ from encoding/json in anything. These documents are nearly manifests: a
// fuzzer would not find them in years.
func TestParserAgreesWithJSON(t *testing.T) {
	s := writer{rand.New(rand.NewPCG(1, 1))}
	var p Parser
	good := 0
	for range 20_000 {
		content := []byte(s.space() + s.object(s.field) + s.space())
		want, wantErr := parseJSON(content)
		if got, err := p.Parse(content); !same(got, err, want, wantErr) {
			t.Fatalf("%s\nis read as %+v, %v, and should be %+v, %v", content, got, err, want, wantErr)
		}
		if wantErr == nil {
			good++
		}
	}
	if good < 2000 {
		t.Errorf("of 20000 documents %d make sense: too few to prove anything", good)
	}
}

// same reports whether two ways to parse find the same, or both find content malformed.
func same(a Manifest, aErr error, b Manifest, bErr error) bool {
	return (aErr == nil) == (bErr == nil) && a.Kind == b.Kind && a.MediaType == b.MediaType && bytes.Equal(a.Subject, b.Subject) &&
		slices.EqualFunc(a.References, b.References, func(a, b Reference) bool {
			return bytes.Equal(a.Digest, b.Digest) && bytes.Equal(a.MediaType, b.MediaType) && a.Size == b.Size
		})
}
