package main

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

const bucketName = "simulated"

// written is when all objects were, as a listing and as a header have it.
const (
	writtenListed = "2026-01-02T03:04:05.000Z"
	writtenHeader = "Fri, 02 Jan 2026 03:04:05 GMT"
)

// server answers as S3 does, for one bucket that can only be read. It is a fake: it
// stores nothing and checks no signature, and is there for its size. What it has no
// content for it refuses with an error that fails a run.
type server struct {
	space   *space
	listed  atomic.Int64 // keys so far
	cursors sync.Pool
	pages   sync.Pool
}

func newServer(s *space) *server {
	return &server{
		space:   s,
		cursors: sync.Pool{New: func() any { return &cursor{s: s} }},
		pages:   sync.Pool{New: func() any { return new([]byte) }},
	}
}

func (v *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	query := r.URL.Query()
	switch {
	case bucket != bucketName:
		refuse(w, http.StatusNotFound, "NoSuchBucket")
	case r.Method == http.MethodGet && key == "" && query.Has("uploads"):
		fmt.Fprint(w, xmlHead+`<ListMultipartUploadsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Bucket>`+bucketName+
			`</Bucket><IsTruncated>false</IsTruncated></ListMultipartUploadsResult>`)
	case r.Method == http.MethodGet && key == "" && query.Get("list-type") == "2" && !query.Has("delimiter"):
		v.list(w, query)
	case r.Method == http.MethodGet && key != "", r.Method == http.MethodHead && key != "":
		v.object(w, r, key)
	default:
		refuse(w, http.StatusNotImplemented, "NotImplemented")
	}
}

const xmlHead = `<?xml version="1.0" encoding="UTF-8"?>` + "\n"

func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, xmlHead+`<Error><Code>%s</Code></Error>`, code)
}

// list answers ListObjectsV2. Its keys need no escaping, in whatever encoding. The
// answer's length is not announced, since S3 does not either.
func (v *server) list(w http.ResponseWriter, query url.Values) {
	limit := 1000
	if given := query.Get("max-keys"); given != "" {
		n, err := strconv.Atoi(given)
		if err != nil || n < 0 {
			refuse(w, http.StatusBadRequest, "InvalidArgument")
			return
		}
		limit = min(n, limit)
	}
	c := v.cursors.Get().(*cursor)
	defer v.cursors.Put(c)
	prefix := []byte(query.Get("prefix"))
	at := c.from(string(prefix))
	if token := query.Get("continuation-token"); token != "" {
		after, err := hex.DecodeString(token)
		if err != nil {
			refuse(w, http.StatusBadRequest, "InvalidArgument")
			return
		}
		at = max(at, c.upTo(string(after)))
	} else if after := query.Get("start-after"); after != "" {
		at = max(at, c.upTo(after))
	}

	buffer := v.pages.Get().(*[]byte)
	defer v.pages.Put(buffer)
	page := (*buffer)[:0]
	count, last := 0, []byte(nil)
	for ; count < limit && c.read(at) && bytes.HasPrefix(c.object.key, prefix); at++ {
		page = c.object.appendListed(page)
		last = append(last[:0], c.object.key...)
		count++
	}
	truncated := count > 0 && c.read(at) && bytes.HasPrefix(c.object.key, prefix)
	*buffer = page
	v.listed.Add(int64(count))

	head := xmlHead + `<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>` + bucketName + `</Name><Prefix>` + url.QueryEscape(string(prefix)) +
		`</Prefix><KeyCount>` + strconv.Itoa(count) + `</KeyCount><MaxKeys>` + strconv.Itoa(limit) + `</MaxKeys>`
	if query.Get("encoding-type") == "url" {
		head += `<EncodingType>url</EncodingType>`
	}
	head += `<IsTruncated>` + strconv.FormatBool(truncated) + `</IsTruncated>`
	if truncated {
		head += `<NextContinuationToken>` + hex.EncodeToString(last) + `</NextContinuationToken>`
	}
	w.Header().Set("Content-Type", "application/xml")
	for _, part := range [][]byte{[]byte(head), page, []byte(`</ListBucketResult>`)} {
		if _, err := w.Write(part); err != nil {
			return // the client is gone
		}
	}
}

func (o *object) appendListed(page []byte) []byte {
	page = append(page, `<Contents><Key>`...)
	page = append(page, o.key...)
	page = append(page, `</Key><LastModified>`+writtenListed+`</LastModified><ETag>&quot;`...)
	page = hex.AppendEncode(page, o.etag[:])
	page = append(page, `&quot;</ETag><Size>`...)
	page = strconv.AppendInt(page, o.size, 10)
	return append(page, `</Size><StorageClass>STANDARD</StorageClass></Contents>`...)
}

func (v *server) object(w http.ResponseWriter, r *http.Request, key string) {
	c := v.cursors.Get().(*cursor)
	defer v.cursors.Put(c)
	if !c.find(key) {
		refuse(w, http.StatusNotFound, "NoSuchKey")
		return
	}
	o := &c.object
	header := w.Header()
	header.Set("Last-Modified", writtenHeader)
	header.Set("ETag", `"`+hex.EncodeToString(o.etag[:])+`"`)
	header.Set("Content-Length", strconv.FormatInt(o.size, 10))
	header.Set("Content-Type", "application/octet-stream")
	if r.Method == http.MethodHead {
		return
	}
	content := o.content
	if o.image >= 0 {
		content = v.space.appendManifest(nil, o.image/v.space.images, o.image%v.space.images)
	}
	if content == nil {
		header.Del("Content-Length")
		refuse(w, http.StatusNotImplemented, "NotImplemented") // nobody should read a layer
		return
	}
	if _, err := w.Write(content); err != nil {
		return // the client is gone
	}
}
