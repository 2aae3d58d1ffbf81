package s3

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
)

// scribe writes documents that are nearly listings. Most of their parts are allowed by XML and by
// servers, and some are not.
type scribe struct{ *rand.Rand }

func (s scribe) of(choices ...string) string { return choices[s.IntN(len(choices))] }

func (s scribe) rarely(usual string, seldom ...string) string {
	if s.IntN(150) > 0 {
		return usual
	}
	return s.of(seldom...)
}

func (s scribe) space() string {
	return s.rarely("", " ", "\n\t", "\r\n", "\v", "\u00a0", "x", "<!-- x -->", "<?x y?>", "<![CDATA[ ]]>", "&#32;", "\x00", "\ufeff")
}

// element is one element. Its tags may be unusual or wrong.
func (s scribe) element(name, content string) string {
	name = s.rarely(name, strings.ToLower(name), name+"s", "x:"+name, "ſ"+name, "")
	start := s.rarely("<"+name+">", "<"+name+" >", "<"+name+"\t>", "<"+name+` a="b">`, "<"+name+` xmlns="x">`, "<"+name+` a>`, "< "+name+">", "<"+name)
	end := s.rarely("</"+name+">", "</"+name+" >", "</ "+name+">", "</"+strings.ToUpper(name)+">", "")
	if s.IntN(500) == 0 {
		return "<" + name + "/>"
	}
	return s.space() + start + content + end + s.space()
}

func (s scribe) text(usual ...string) string {
	return s.rarely(s.of(usual...), "", " ", "a b", "a\nb", "a&amp;b", "&lt;", "&x;", "&", "<", ">", "]]>", "é", "\xff", "\x01", "\x7f", "\u2028", "<a>b</a>", "<!-- -->a", "a<![CDATA[b]]>", "%zz", "%41+b", `"`, "'")
}

func (s scribe) number() string {
	return s.rarely(s.text("0", "1", "1000", "007", "999999999999999999"),
		"9223372036854775807", "9223372036854775808", "-1", "+1", "1.0", "1e3", "0x1", "1_0", " 1")
}

func (s scribe) time() string {
	return s.rarely(s.text("2026-02-28T23:59:59.000Z", "2024-02-29T00:00:00Z", "2026-01-31T01:02:03.456Z"),
		"2023-02-29T00:00:00Z", "2026-04-31T00:00:00Z", "2026-13-01T00:00:00Z", "2026-00-01T00:00:00Z", "2026-01-00T00:00:00Z", "2026-01-01T24:00:00Z",
		"2026-01-01T00:60:00Z", "2016-12-31T23:59:60Z", "1969-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "0000-01-01T00:00:00Z", "2026-01-01T00:00:00.0000Z",
		"2026-01-01T00:00:00,000Z", "2026-01-01t00:00:00z", "2026-01-01T00:00:00+00:00", "2026-01-01 00:00:00Z", "2026-1-01T00:00:00.00Z", "1900-02-29T00:00:00Z", "2100-02-29T00:00:00Z")
}

func (s scribe) etag() string {
	return s.rarely(s.of("&quot;abc&quot;", "&#34;abc-2&#34;", `"abc"`, "abc", ""),
		`"`, `""`, `"""`, `"a"b"`, "&quot;", "&quot;abc", `&quot;abc"`, `"abc&quot;`, "&quot;abc&#34;", "&#x22;abc&#x22;", `&quot;"abc"&quot;`, `W/"abc"`, `" abc "`, `abc"`, "&quot;&amp;&quot;", `""abc""`, s.text("x"))
}

// some writes the parts in random order, each of them mostly once.
func (s scribe) some(parts ...func() string) string {
	var all []string
	for _, part := range parts {
		switch s.IntN(60) {
		case 0:
		case 1:
			all = append(all, part(), part())
		default:
			all = append(all, part())
		}
	}
	if s.IntN(3) == 0 {
		s.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	}
	return strings.Join(all, "")
}

func (s scribe) leaf(name string, text func() string) func() string {
	return func() string { return s.element(name, text()) }
}

func (s scribe) plain(usual ...string) func() string {
	return func() string { return s.text(usual...) }
}

func (s scribe) contents() string {
	parts := []func() string{s.leaf("Key", s.plain("a/b", "docker%2Fregistry", "a+b%20c")), s.leaf("Size", s.number)}
	for _, more := range []func() string{
		s.leaf("LastModified", s.time), s.leaf("ETag", s.etag), s.leaf("StorageClass", s.plain("STANDARD")),
		s.leaf("ChecksumAlgorithm", s.plain("CRC32")), s.leaf("ChecksumType", s.plain("FULL_OBJECT")),
		s.leaf("Owner", func() string {
			return s.some(s.leaf("ID", s.plain("02d6")), s.leaf("DisplayName", s.plain("minio")))
		}),
	} {
		if s.IntN(2) == 0 {
			parts = append(parts, more)
		}
	}
	if s.IntN(40) == 0 {
		parts = append(parts, s.leaf("RestoreStatus", s.plain("x")), s.leaf("Other", s.plain("x")))
	}
	return s.element("Contents", s.some(parts...))
}

func (s scribe) listing() string {
	parts := []func() string{s.leaf("IsTruncated", func() string { return s.rarely(s.of("true", "false"), "1", "t", "TRUE", "maybe", s.text("0")) })}
	for _, more := range []func() string{
		s.leaf("Name", s.plain("b")), s.leaf("Prefix", s.plain("p")), s.leaf("StartAfter", s.plain("a")), s.leaf("ContinuationToken", s.plain("t")),
		s.leaf("Delimiter", s.plain("/")), s.leaf("NextContinuationToken", s.plain("1ueGc/=")), s.leaf("KeyCount", s.number), s.leaf("MaxKeys", s.number),
		s.leaf("EncodingType", func() string { return s.rarely("url", "URL", "x", s.text("url")) }), s.contents, s.contents,
	} {
		if s.IntN(3) > 0 {
			parts = append(parts, more)
		}
	}
	if s.IntN(40) == 0 {
		parts = append(parts, s.leaf("CommonPrefixes", s.leaf("Prefix", s.plain("x"))))
	}
	root := s.rarely("<ListBucketResult>", `<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">`, `<ListBucketResult xmlns='x'>`, `<Error>`, "<ListBucketResult a=\"b\">")
	declaration := s.of("", `<?xml version="1.0" encoding="UTF-8"?>`, s.rarely("", `<?xml version="1.1"?>`, `<?xml version="1.0" encoding="latin1"?>`, "<!DOCTYPE x>"))
	return s.space() + declaration + s.space() + root + s.some(parts...) + s.rarely("</ListBucketResult>", "", "</Error>", "</ListBucketResult>x", "</ListBucketResult><a>") + s.space()
}

// decodeListing must return the same as the SDK's decoder. This test uses documents that a fuzzer
// would hardly find.
func TestDecodeListingAgrees(t *testing.T) {
	t.Parallel()
	s := scribe{rand.New(rand.NewPCG(1, 1))}
	quick, left, documents := 0, 0, 10_000
	if testing.Short() {
		documents = 1_000
	}
	for range documents {
		body := s.listing()
		got, ok := decodeListing([]byte(body))
		if !ok {
			left++ // for the SDK to decide
			continue
		}
		quick++
		want, err := sdkListing(t, body)
		if err != nil {
			t.Fatalf("the SDK does not read what we do: %v\n%s", err, body)
		}
		if got, want := fmt.Sprintf("%+v", decodedPart(got)), fmt.Sprintf("%+v", decodedPart(want)); got != want || !reflect.DeepEqual(got, want) {
			t.Fatalf("%s\n got %s\nwant %s", body, got, want)
		}
	}
	if quick < documents/10 || left < documents/10 {
		t.Errorf("of %d documents %d are ordinary and %d are not: too few to prove anything", documents, quick, left)
	}
}
