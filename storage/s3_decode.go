package storage

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// withDecoder makes one ListObjectsV2 request put its answer into l, if it is an
// ordinary one, and leave the SDK's output empty. Every other answer, errors among
// them, is the SDK's to read.
//
// length is that of the last answer: S3 does not say how long the next one is, which
// most often is as long.
func withDecoder(l *s3Listing, length *atomic.Int64) func(*s3.Options) {
	return func(o *s3.Options) {
		o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
			decoder := &listingMiddleware{into: l, length: length}
			sdk, err := stack.Deserialize.Swap("OperationDeserializer", decoder)
			if err != nil {
				return fmt.Errorf("prepare a listing: %w", err)
			}
			decoder.sdk = sdk
			return nil
		})
	}
}

type listingMiddleware struct {
	sdk  middleware.DeserializeMiddleware
	into *s3Listing

	length *atomic.Int64 // of the last answer, in bytes
}

func (m *listingMiddleware) ID() string { return m.sdk.ID() }

func (m *listingMiddleware) HandleDeserialize(ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler) (
	middleware.DeserializeOutput, middleware.Metadata, error,
) {
	out, metadata, err := next.HandleDeserialize(ctx, in)
	if err != nil {
		return out, metadata, err
	}
	bySDK := func() (middleware.DeserializeOutput, middleware.Metadata, error) {
		return m.sdk.HandleDeserialize(ctx, in, alreadyAnswered{out, metadata})
	}
	response, ok := out.RawResponse.(*smithyhttp.Response)
	if !ok || response.StatusCode != http.StatusOK {
		return bySDK()
	}
	var body strings.Builder
	length := response.ContentLength
	if length < 0 {
		length = m.length.Load()
	}
	body.Grow(int(min(max(length, 0), 4<<20)))
	_, err = io.Copy(&body, response.Body)
	if closeErr := response.Body.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return out, metadata, fmt.Errorf("read the listing: %w", err)
	}
	m.length.Store(int64(body.Len()))
	if *m.into, ok = decodeListing(body.String()); ok {
		out.Result = &s3.ListObjectsV2Output{}
		return out, metadata, nil
	}
	response.Body = io.NopCloser(strings.NewReader(body.String()))
	return bySDK()
}

// alreadyAnswered is a handler that has its answer already.
type alreadyAnswered struct {
	out      middleware.DeserializeOutput
	metadata middleware.Metadata
}

func (a alreadyAnswered) HandleDeserialize(context.Context, middleware.DeserializeInput) (middleware.DeserializeOutput, middleware.Metadata, error) {
	return a.out, a.metadata, nil
}

// decodeListing reads the answer to a ListObjectsV2 request in one pass. Decoding is
// what a listing costs on a fast network, and this document is always the same.
//
// It gives up, with ok false, on everything out of the ordinary: then the SDK's
// decoder decides. What it does accept it must read exactly as that would;
// FuzzDecodeListing holds the two against each other. The strings of the listing are
// parts of body.
func decodeListing(body string) (l s3Listing, ok bool) {
	d := listingDecoder{rest: body}
	d.declaration()
	if name, attributes := d.open(); name != "ListBucketResult" || !ordinaryRoot(attributes) {
		return s3Listing{}, false
	}
	for !d.failed && !d.closes("ListBucketResult") {
		name, attributes := d.open()
		if attributes != "" {
			return s3Listing{}, false
		}
		switch name {
		case "Contents":
			d.contents(&l)
		case "Name":
			l.named = true
			d.text(name)
		case "IsTruncated":
			l.truncation = d.text(name)
			d.failed = d.failed || l.truncation != "true" && l.truncation != "false"
		case "NextContinuationToken":
			l.token = d.text(name)
		case "EncodingType":
			l.encoding = d.text(name)
		case "Prefix", "StartAfter", "ContinuationToken", "Delimiter":
			d.text(name)
		case "KeyCount", "MaxKeys":
			d.number(d.text(name))
		default:
			d.failed = true
		}
	}
	d.space()
	if d.failed || d.rest != "" || l.truncation == "" || (l.encoding != "" && l.encoding != "url") {
		return s3Listing{}, false
	}
	if l.encoding == "url" && !l.unescape() {
		return s3Listing{}, false
	}
	l.decoded = true
	return l, true
}

// s3Listing is what one answer of a listing says.
type s3Listing struct {
	decoded    bool // it was an ordinary answer
	named      bool // it says which bucket it lists
	truncation string
	token      string
	encoding   string
	objects    []Object // Path is the whole key
}

// unescape undoes EncodingType url.
func (l *s3Listing) unescape() bool {
	for i := range l.objects {
		key := l.objects[i].Path
		if strings.IndexByte(key, '%') < 0 && strings.IndexByte(key, '+') < 0 {
			continue
		}
		decoded, err := url.QueryUnescape(key)
		if err != nil {
			return false
		}
		l.objects[i].Path = decoded
	}
	return true
}

// ordinaryRoot accepts the namespace that S3 and its like declare, or none.
func ordinaryRoot(attributes string) bool {
	return attributes == "" || attributes == ` xmlns="http://s3.amazonaws.com/doc/2006-03-01/"`
}

// listingDecoder reads elements from the front of a document. Once something is not
// as it should be, failed is set and all else it returns means nothing.
type listingDecoder struct {
	rest   string
	failed bool
}

func (d *listingDecoder) space() {
	if d.rest == "" || d.rest[0] != '<' {
		d.rest = strings.TrimLeft(d.rest, " \t\r\n")
	}
}

// declaration skips <?xml …?> if it is of the usual form.
func (d *listingDecoder) declaration() {
	d.space()
	if after, found := strings.CutPrefix(d.rest, `<?xml version="1.0" encoding="UTF-8"?>`); found {
		d.rest = after
		d.space()
	}
}

// open reads an opening tag.
func (d *listingDecoder) open() (name, attributes string) {
	d.space()
	if d.failed || len(d.rest) < 2 || d.rest[0] != '<' {
		d.failed = true
		return "", ""
	}
	end := strings.IndexByte(d.rest, '>')
	if end < 2 || d.rest[end-1] == '/' {
		d.failed = true
		return "", ""
	}
	name = d.rest[1:end]
	if at := strings.IndexByte(name, ' '); at >= 0 {
		name, attributes = name[:at], name[at:]
	}
	d.rest = d.rest[end+1:]
	return name, attributes
}

// closes reads a closing tag if it comes next.
func (d *listingDecoder) closes(name string) bool {
	d.space()
	n := len(name)
	if len(d.rest) < n+3 || d.rest[0] != '<' || d.rest[1] != '/' || d.rest[2:2+n] != name || d.rest[2+n] != '>' {
		return false
	}
	d.rest = d.rest[n+3:]
	return true
}

// text reads the text of an element that holds nothing else, and its closing tag.
// Only plain characters are ordinary: an entity, a line end or a character that XML
// has rules for is for the other decoder.
func (d *listingDecoder) text(name string) string {
	if d.failed {
		return ""
	}
	end := strings.IndexByte(d.rest, '<')
	if end < 0 {
		d.failed = true
		return ""
	}
	text := d.rest[:end]
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || c == '&' || c == '>' {
			d.failed = true
			return ""
		}
	}
	d.close(end, name)
	return text
}

// close expects a closing tag at a place.
func (d *listingDecoder) close(at int, name string) {
	d.rest = d.rest[at:]
	n := len(name)
	if len(d.rest) < n+3 || d.rest[1] != '/' || d.rest[2:2+n] != name || d.rest[2+n] != '>' {
		d.failed = true
		return
	}
	d.rest = d.rest[n+3:]
}

// contents reads one object.
func (d *listingDecoder) contents(l *s3Listing) {
	o := Object{Size: -1}
	var hasKey, hasSize, hasTime, hasETag bool
	for !d.failed && !d.closes("Contents") {
		name, attributes := d.open()
		if attributes != "" {
			d.failed = true
		}
		switch name {
		case "Key":
			d.failed = d.failed || hasKey
			o.Path, hasKey = d.text(name), true
		case "Size":
			d.failed = d.failed || hasSize
			o.Size, hasSize = d.number(d.text(name)), true
		case "LastModified":
			d.failed = d.failed || hasTime
			o.ModTime, hasTime = d.time(d.text(name)), true
		case "ETag":
			d.failed = d.failed || hasETag
			o.ETag, hasETag = d.etag(), true
		case "StorageClass":
			d.text(name)
		case "ChecksumAlgorithm", "ChecksumType":
			d.text(name)
		case "Owner":
			d.owner()
		default:
			d.failed = true
		}
	}
	if !hasKey || !hasSize {
		d.failed = true
	}
	if l.objects == nil {
		l.objects = make([]Object, 0, s3PageLength)
	}
	l.objects = append(l.objects, o)
}

func (d *listingDecoder) owner() {
	for !d.failed && !d.closes("Owner") {
		name, attributes := d.open()
		if name != "ID" && name != "DisplayName" || attributes != "" {
			d.failed = true
		}
		d.text(name)
	}
}

// etag reads an entity tag, whose quotes come as an entity, of either kind, or as
// they are.
func (d *listingDecoder) etag() string {
	if d.failed {
		return ""
	}
	end := strings.IndexByte(d.rest, '<')
	if end < 0 {
		d.failed = true
		return ""
	}
	text := d.rest[:end]
	for _, quote := range []string{"&quot;", "&#34;", `"`} {
		if inner, found := strings.CutPrefix(text, quote); found {
			text, found = strings.CutSuffix(inner, quote)
			d.failed = d.failed || !found
			break
		}
	}
	for i := range len(text) {
		if c := text[i]; c <= ' ' || c > '~' || c == '&' || c == '>' || c == '"' {
			d.failed = true
			return ""
		}
	}
	d.close(end, "ETag")
	return text
}

func (d *listingDecoder) number(text string) (n int64) {
	if len(text) == 0 || len(text) > 18 {
		d.failed = true
		return 0
	}
	for i := range len(text) {
		digit := text[i] - '0'
		if digit > 9 {
			d.failed = true
			return 0
		}
		n = n*10 + int64(digit)
	}
	return n
}

// time reads "2006-01-02T15:04:05.000Z", with or without the fraction.
func (d *listingDecoder) time(text string) time.Time {
	if len(text) != len("2006-01-02T15:04:05.000Z") && len(text) != len("2006-01-02T15:04:05Z") {
		d.failed = true
		return time.Time{}
	}
	if text[4] != '-' || text[7] != '-' || text[10] != 'T' || text[13] != ':' || text[16] != ':' || text[len(text)-1] != 'Z' {
		d.failed = true
		return time.Time{}
	}
	part := func(from, to int) int { return int(d.number(text[from:to])) }
	year, month, day := part(0, 4), part(5, 7), part(8, 10)
	hour, minute, second, milli := part(11, 13), part(14, 16), part(17, 19), 0
	if len(text) == 24 {
		if text[19] != '.' {
			d.failed = true
		}
		milli = part(20, 23)
	}
	// Days above 28 depend on the month, and time.Date would carry them over.
	if d.failed || year < 1970 || month < 1 || month > 12 || day < 1 || day > 28 && day > daysIn(year, month) || hour > 23 || minute > 59 || second > 59 {
		d.failed = true
		return time.Time{}
	}
	return time.Date(year, time.Month(month), day, hour, minute, second, milli*int(time.Millisecond), time.UTC)
}

func daysIn(year, month int) int {
	return time.Date(year, time.Month(month)+1, 0, 0, 0, 0, 0, time.UTC).Day()
}
