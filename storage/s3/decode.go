package s3

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"regsweep/storage"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// withDecoder makes one ListObjectsV2 request decode its answer into l, if it is an
// ordinary answer. The output of the SDK is then empty. The SDK decodes every other
// answer, and errors.
//
// length is the length of the last answer in bytes. S3 does not announce the length of an
// answer, and most answers have the same length.
func withDecoder(l *listAnswer, length *atomic.Int64) func(*s3.Options) {
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
	into *listAnswer

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
	body := bodies.Get().(*bytes.Buffer)
	body.Reset()
	length := response.ContentLength
	if length < 0 {
		length = m.length.Load()
	}
	body.Grow(int(min(max(length, 0), bodyLimit)) + bytes.MinRead)
	_, err = body.ReadFrom(response.Body)
	if closeErr := response.Body.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return out, metadata, fmt.Errorf("read the listing: %w", err)
	}
	m.length.Store(int64(body.Len()))
	if *m.into, ok = decodeListing(body.Bytes()); ok {
		if body.Cap() <= 2*bodyLimit {
			bodies.Put(body)
		}
		out.Result = &s3.ListObjectsV2Output{}
		return out, metadata, nil
	}
	response.Body = io.NopCloser(body)
	return bySDK()
}

// bodies are buffers for the bodies of answers. A decoded listing does not refer to its body.
var bodies = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// bodyLimit is larger than an ordinary answer, in bytes. For a longer answer the buffer grows
// while the answer is read.
const bodyLimit = 4 << 20

// alreadyAnswered is a handler that returns an answer that was already received.
type alreadyAnswered struct {
	out      middleware.DeserializeOutput
	metadata middleware.Metadata
}

func (a alreadyAnswered) HandleDeserialize(context.Context, middleware.DeserializeInput) (middleware.DeserializeOutput, middleware.Metadata, error) {
	return a.out, a.metadata, nil
}

// decodeListing decodes the answer to a ListObjectsV2 request in one pass. On a fast network
// the decoding takes most of the time of a listing, and all answers have the same form.
//
// It returns ok false for every answer that has another form. The SDK then decodes the
// answer. It must decode every other answer exactly as the SDK does. FuzzDecodeListing
// compares the two decoders.
//
// The listing does not refer to body. Its keys and ETags are parts of one string, which is
// less than half as long as body. The Go garbage collector does not scan a string for
// pointers, and most of the memory that a run allocates is pages.
func decodeListing(body []byte) (l listAnswer, ok bool) {
	texts := listingTexts.Get().(*listingText)
	defer listingTexts.Put(texts)
	texts.reset()
	d := listingDecoder{rest: body, texts: texts}
	d.declaration()
	if name, attributes := d.open(); string(name) != "ListBucketResult" || !ordinaryRoot(attributes) {
		return listAnswer{}, false
	}
	for !d.failed && !d.closes("ListBucketResult") {
		name, attributes := d.open()
		if attributes != nil {
			return listAnswer{}, false
		}
		switch string(name) {
		case "Contents":
			d.contents(&l)
		case "Name":
			l.named = true
			d.text(name)
		case "IsTruncated":
			l.truncation = string(d.text(name))
			d.failed = d.failed || l.truncation != "true" && l.truncation != "false"
		case "NextContinuationToken":
			l.token = string(d.text(name))
		case "EncodingType":
			l.encoding = string(d.text(name))
		case "Prefix", "StartAfter", "ContinuationToken", "Delimiter":
			d.text(name)
		case "KeyCount", "MaxKeys":
			d.number(d.text(name))
		default:
			d.failed = true
		}
	}
	d.space()
	if d.failed || len(d.rest) > 0 || l.truncation == "" || (l.encoding != "" && l.encoding != "url") {
		return listAnswer{}, false
	}
	texts.share(l.objects)
	if l.encoding == "url" && !l.unescape() {
		return listAnswer{}, false
	}
	l.decoded = true
	return l, true
}

// listingText collects the keys and ETags of a listing, by object.
type listingText struct {
	text []byte
	ends []int // of each key, and of the ETag after it
}

var listingTexts = sync.Pool{New: func() any { return new(listingText) }}

func (t *listingText) reset() { t.text, t.ends = t.text[:0], t.ends[:0] }

func (t *listingText) add(key, etag []byte) {
	t.text = append(t.text, key...)
	t.ends = append(t.ends, len(t.text))
	t.text = append(t.text, etag...)
	t.ends = append(t.ends, len(t.text))
}

// share sets the path and the ETag of all objects to parts of one string.
func (t *listingText) share(objects []storage.Object) {
	all, from := string(t.text), 0
	for i := range objects {
		key, etag := t.ends[2*i], t.ends[2*i+1]
		objects[i].Path, objects[i].ETag = all[from:key], all[key:etag]
		from = etag
	}
}

// listAnswer is one answer of a listing.
type listAnswer struct {
	decoded    bool // by decodeListing
	named      bool // the answer names its bucket
	truncation string
	token      string
	encoding   string
	objects    []storage.Object // Path is the whole key
}

// unescape reverses the EncodingType url.
func (l *listAnswer) unescape() bool {
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

// ordinaryRoot accepts the namespace that S3 and similar servers declare, or none.
func ordinaryRoot(attributes []byte) bool {
	return attributes == nil || string(attributes) == ` xmlns="http://s3.amazonaws.com/doc/2006-03-01/"`
}

// listingDecoder reads elements from the front of a document. failed is set if the document
// has another form. The results of its methods then mean nothing.
type listingDecoder struct {
	rest   []byte
	texts  *listingText
	failed bool
}

func (d *listingDecoder) space() {
	if len(d.rest) == 0 || d.rest[0] != '<' {
		d.rest = bytes.TrimLeft(d.rest, " \t\r\n")
	}
}

// declaration skips <?xml …?> if it is of the usual form.
func (d *listingDecoder) declaration() {
	d.space()
	if after, found := bytes.CutPrefix(d.rest, []byte(`<?xml version="1.0" encoding="UTF-8"?>`)); found {
		d.rest = after
		d.space()
	}
}

// open reads an opening tag.
func (d *listingDecoder) open() (name, attributes []byte) {
	d.space()
	if d.failed || len(d.rest) < 2 || d.rest[0] != '<' {
		d.failed = true
		return nil, nil
	}
	end := bytes.IndexByte(d.rest, '>')
	if end < 2 || d.rest[end-1] == '/' {
		d.failed = true
		return nil, nil
	}
	name = d.rest[1:end]
	if at := bytes.IndexByte(name, ' '); at >= 0 {
		name, attributes = name[:at], name[at:]
	}
	d.rest = d.rest[end+1:]
	return name, attributes
}

// closes reads a closing tag if it comes next, and reports whether it did.
func (d *listingDecoder) closes(name string) bool {
	d.space()
	n := len(name)
	if len(d.rest) < n+3 || d.rest[0] != '<' || d.rest[1] != '/' || string(d.rest[2:2+n]) != name || d.rest[2+n] != '>' {
		return false
	}
	d.rest = d.rest[n+3:]
	return true
}

// text reads the text of an element without child elements, and its closing tag. It accepts only
// printable ASCII characters. The SDK decodes an answer with an entity, a line end or any other
// character.
func (d *listingDecoder) text(name []byte) []byte {
	if d.failed {
		return nil
	}
	end := bytes.IndexByte(d.rest, '<')
	if end < 0 {
		d.failed = true
		return nil
	}
	text := d.rest[:end]
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || c == '&' || c == '>' {
			d.failed = true
			return nil
		}
	}
	d.close(end, name)
	return text
}

// close reads the closing tag at an offset.
func (d *listingDecoder) close(at int, name []byte) {
	d.rest = d.rest[at:]
	n := len(name)
	if len(d.rest) < n+3 || d.rest[1] != '/' || !bytes.Equal(d.rest[2:2+n], name) || d.rest[2+n] != '>' {
		d.failed = true
		return
	}
	d.rest = d.rest[n+3:]
}

// contents reads one object.
func (d *listingDecoder) contents(l *listAnswer) {
	o := storage.Object{Size: -1}
	var key, etag []byte
	var hasKey, hasSize, hasTime, hasETag bool
	for !d.failed && !d.closes("Contents") {
		name, attributes := d.open()
		if attributes != nil {
			d.failed = true
		}
		switch string(name) {
		case "Key":
			d.failed = d.failed || hasKey
			key, hasKey = d.text(name), true
		case "Size":
			d.failed = d.failed || hasSize
			o.Size, hasSize = d.number(d.text(name)), true
		case "LastModified":
			d.failed = d.failed || hasTime
			o.ModTime, hasTime = d.time(d.text(name)), true
		case "ETag":
			d.failed = d.failed || hasETag
			etag, hasETag = d.etag(name), true
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
		l.objects = *pagePool.Get().(*[]storage.Object)
	}
	l.objects = append(l.objects, o)
	d.texts.add(key, etag)
}

func (d *listingDecoder) owner() {
	for !d.failed && !d.closes("Owner") {
		name, attributes := d.open()
		if string(name) != "ID" && string(name) != "DisplayName" || attributes != nil {
			d.failed = true
		}
		d.text(name)
	}
}

// etag reads an entity tag without its quotes. See quotes for their forms.
func (d *listingDecoder) etag(name []byte) []byte {
	if d.failed {
		return nil
	}
	end := bytes.IndexByte(d.rest, '<')
	if end < 0 {
		d.failed = true
		return nil
	}
	text := d.rest[:end]
	for _, quote := range quotes {
		if inner, found := bytes.CutPrefix(text, quote); found {
			text, found = bytes.CutSuffix(inner, quote)
			d.failed = d.failed || !found
			break
		}
	}
	for i := range len(text) {
		if c := text[i]; c <= ' ' || c > '~' || c == '&' || c == '>' || c == '"' {
			d.failed = true
			return nil
		}
	}
	d.close(end, name)
	return text
}

// quotes are the forms of the quotes around an entity tag.
var quotes = [][]byte{[]byte("&quot;"), []byte("&#34;"), []byte(`"`)}

func (d *listingDecoder) number(text []byte) (n int64) {
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
func (d *listingDecoder) time(text []byte) time.Time {
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
	// Whether a day above 28 exists depends on the month. time.Date would accept it and return
	// a day of the next month.
	if d.failed || year < 1970 || month < 1 || month > 12 || day < 1 || day > 28 && day > daysIn(year, month) || hour > 23 || minute > 59 || second > 59 {
		d.failed = true
		return time.Time{}
	}
	return time.Date(year, time.Month(month), day, hour, minute, second, milli*int(time.Millisecond), time.UTC)
}

func daysIn(year, month int) int {
	return time.Date(year, time.Month(month)+1, 0, 0, 0, 0, 0, time.UTC).Day()
}
