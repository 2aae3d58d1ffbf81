package s3

import (
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"regsweep/storage"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// listingPage is an answer as S3 and MinIO write it.
func listingPage(keys int) string {
	var b strings.Builder
	b.WriteString(`<?xml version="1.0" encoding="UTF-8"?>` + "\n" +
		`<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name><Prefix>docker%2Fregistry</Prefix>` +
		`<KeyCount>1000</KeyCount><MaxKeys>1000</MaxKeys><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>` +
		`<NextContinuationToken>1ueGcxLPRx1Tr/XYExHnhbYLgveDs2J/wm36Hy4vbOwM=</NextContinuationToken>`)
	for i := range keys {
		fmt.Fprintf(&b, `<Contents><Key>docker/registry/v2/blobs/sha256/%[1]s/%[2]s/data</Key><LastModified>2026-02-28T23:59:%02[3]d.000Z</LastModified>`+
			`<ETag>&quot;%[4]s&quot;</ETag><ChecksumAlgorithm>CRC32</ChecksumAlgorithm><ChecksumType>FULL_OBJECT</ChecksumType>`+
			`<Size>%[3]d</Size><Owner><ID>02d6</ID><DisplayName>minio</DisplayName></Owner><StorageClass>STANDARD</StorageClass></Contents>`,
			seededHex(i)[:2], seededHex(i), i%60, seededHex(i)[:32])
	}
	b.WriteString(`</ListBucketResult>`)
	return b.String()
}

// answering is an HTTP client that returns the same answer to every request.
type answering string

func (a answering) Do(*http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: http.StatusOK, Status: "200 OK", Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{},
		ContentLength: int64(len(a)), Body: io.NopCloser(strings.NewReader(string(a))),
	}, nil
}

// sdkListing decodes an answer with the SDK's own decoder.
func sdkListing(t testing.TB, body string) (listAnswer, error) {
	client := s3.New(s3.Options{
		HTTPClient: answering(body), Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider("a", "b", ""),
		Retryer: aws.NopRetryer{}, BaseEndpoint: aws.String("http://127.0.0.1"), UsePathStyle: true,
	})
	out, err := client.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String("b")})
	if err != nil {
		return listAnswer{}, err
	}
	return convertListing(out)
}

// decodedPart removes the fields that only one of the two decoders sets.
func decodedPart(l listAnswer) listAnswer {
	l.decoded, l.encoding = false, ""
	if len(l.objects) == 0 {
		l.objects = nil
	}
	for i := range l.objects {
		l.objects[i].ModTime = l.objects[i].ModTime.UTC()
	}
	return l
}

// decodeListing must accept the answers that servers really send. Otherwise it has no use.
func TestDecodeListingTakesOrdinaryAnswers(t *testing.T) {
	for _, n := range []int{0, 1, 1000} {
		body := listingPage(n)
		got, ok := decodeListing([]byte(body))
		if !ok {
			t.Fatalf("a page of %d keys was left to the SDK", n)
		}
		want, err := sdkListing(t, body)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := decodedPart(got), decodedPart(want); !reflect.DeepEqual(got, want) {
			t.Errorf("page of %d keys:\n got %+v\nwant %+v", n, got, want)
		}
	}
}

// Answers are read into the same buffer one after the other. A listing that is kept must not change.
func TestDecodedListingIsNoPartOfItsAnswer(t *testing.T) {
	text := listingPage(1000)
	answer, next := []byte(text), []byte(strings.ReplaceAll(text, "data", "DATA"))
	got, ok := decodeListing(answer)
	copy(answer, next)
	_, nextOK := decodeListing(answer)
	if !ok || !nextOK {
		t.Fatal("an ordinary answer was left to the SDK")
	}
	want, err := sdkListing(t, text)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(decodedPart(got), decodedPart(want)) {
		t.Error("a listing changed with the memory that its answer was read into")
	}
}

// If decodeListing accepts an answer, it decodes it as the SDK does.
func FuzzDecodeListing(f *testing.F) {
	f.Add(listingPage(2))
	f.Add(`<ListBucketResult><Name>b</Name><IsTruncated>false</IsTruncated><Contents><Key>a%20b+c</Key><Size>0</Size><ETag>"x"</ETag></Contents></ListBucketResult>`)
	f.Add(`<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>false</IsTruncated><Contents><Key>a%20b+c</Key><Size>0</Size><ETag>&#34;x&#34;</ETag><LastModified>2024-02-29T00:00:00Z</LastModified></Contents></ListBucketResult>`)
	f.Add(`<ListBucketResult><KeyCount></KeyCount><MaxKeys>x</MaxKeys><IsTruncated>false</IsTruncated></ListBucketResult>`)
	f.Add(`<ListBucketResult><Prefix>a]]>b</Prefix><IsTruncated>false</IsTruncated></ListBucketResult>`)
	f.Add(`<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>a</Key><Size>0</Size><Owner><ID a">1</ID></Owner></Contents></ListBucketResult>`)
	f.Add(`<ListBucketResult><IsTruncated>maybe</IsTruncated><IsTruncated>true</IsTruncated></ListBucketResult>`)
	f.Add("\n" + listingPage(0))
	f.Fuzz(func(t *testing.T, body string) {
		got, ok := decodeListing([]byte(body))
		if !ok {
			return
		}
		want, err := sdkListing(t, body)
		if err != nil {
			t.Fatalf("the SDK does not read what we do: %v\n%s", err, body)
		}
		if got, want := decodedPart(got), decodedPart(want); !reflect.DeepEqual(got, want) {
			t.Fatalf("%s\n got %+v\nwant %+v", body, got, want)
		}
	})
}

func BenchmarkDecodeListing(b *testing.B) {
	body := listingPage(1000)
	b.Run("ours", func(b *testing.B) {
		answer := []byte(body)
		visit := reusing(func([]storage.Object) error { return nil })
		for b.Loop() {
			l, ok := decodeListing(answer)
			if !ok {
				b.Fatal("not decoded")
			}
			if err := visit(l.objects); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.N)*1000/b.Elapsed().Seconds(), "keys/s")
	})
	b.Run("sdk", func(b *testing.B) {
		for b.Loop() {
			if _, err := sdkListing(b, body); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.N)*1000/b.Elapsed().Seconds(), "keys/s")
	})
}
