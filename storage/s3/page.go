package s3

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"

	"regsweep/storage"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// pageLength is the largest number of keys that S3 returns in one answer.
const pageLength = 1000

// errNotListing is the error for a page that no S3 server sends. Without it the page of a
// web server at a mistyped endpoint would count as an empty bucket.
var errNotListing = errors.New("the answer is no bucket listing: is this the address of an S3 server?")

// errUnordered is the error for a listing whose keys do not rise. Such a listing can't be
// divided into ranges, and may never end.
var errUnordered = errors.New("the server does not list keys in order")

// keyPage is one answer of a listing.
type keyPage struct {
	objects []storage.Object
	last    string // the last key, with the prefix; "" if there was none
	token   string // asks for the next page; "" after the last
}

// pagePool are pages that are not used any more.
var pagePool = sync.Pool{New: func() any {
	page := make([]storage.Object, 0, pageLength)
	return &page
}}

// reusing calls visit, and afterwards reuses the memory of the page for the next answer.
func reusing(visit func([]storage.Object) error) func([]storage.Object) error {
	return func(page []storage.Object) error {
		err := visit(page)
		page = page[:0]
		clear(page[:cap(page)]) // so that it does not keep the strings of its objects in memory
		pagePool.Put(&page)
		return err
	}
}

// page requests the keys below dir/ that come after a key, or the page of a token. It checks
// that the keys rise and are above after, as S3 promises. Otherwise a server that repeats a page
// would be listed for ever, and a server that goes backwards would have keys reported twice.
func (s *Store) page(ctx context.Context, dir, after, token string) (page keyPage, err error) {
	input := &s3.ListObjectsV2Input{
		Bucket:       &s.parameters.bucket,
		Prefix:       s.key(dir + "/"),
		MaxKeys:      aws.Int32(pageLength),
		EncodingType: types.EncodingTypeUrl, // a key may have bytes that XML can't contain
	}
	switch {
	case token != "":
		input.ContinuationToken = &token
	case after != "":
		input.StartAfter = &after
	}
	err = s.do(ctx, "list", "s3:ListBucket", dir+"/", func() error {
		var l listAnswer
		out, err := s.client.ListObjectsV2(ctx, input, withDecoder(&l, &s.listingLength))
		if err == nil && !l.decoded {
			l, err = convertListing(out)
		}
		if err != nil {
			return err
		}
		page, err = s.readPage(l, *input.Prefix, after)
		if err == nil && page.token != "" && page.token == token {
			return fmt.Errorf("%w: it repeats a continuation token", errUnordered)
		}
		return err
	})
	return page, err
}

// names lists the directories directly below a prefix that come after a key, a thousand at most. The
// result is only a hint: a server that does not group keys returns no names.
func (s *Store) names(ctx context.Context, prefix, after string) (names []string, more bool, err error) {
	input := &s3.ListObjectsV2Input{
		Bucket: &s.parameters.bucket, Prefix: &prefix, Delimiter: aws.String("/"),
		MaxKeys: aws.Int32(pageLength), EncodingType: types.EncodingTypeUrl,
	}
	if after != "" {
		input.StartAfter = &after
	}
	var out *s3.ListObjectsV2Output
	err = s.do(ctx, "list", "s3:ListBucket", strings.TrimPrefix(prefix, s.prefix), func() (err error) {
		out, err = s.client.ListObjectsV2(ctx, input)
		return err
	})
	if err != nil {
		return nil, false, err
	}
	for i := range out.CommonPrefixes {
		name, err := decodeKey(out.CommonPrefixes[i].Prefix, out.EncodingType)
		if err != nil || len(name) <= len(prefix) || !strings.HasPrefix(name, prefix) || name <= after {
			return nil, false, nil
		}
		after = name
		names = append(names, name)
	}
	return names, aws.ToBool(out.IsTruncated) && len(names) > 0, nil
}

// convertListing converts an answer that the SDK has decoded.
func convertListing(out *s3.ListObjectsV2Output) (listAnswer, error) {
	l := listAnswer{named: out.Name != nil, token: aws.ToString(out.NextContinuationToken), objects: make([]storage.Object, len(out.Contents))}
	if out.IsTruncated != nil {
		l.truncation = fmt.Sprint(*out.IsTruncated)
	}
	for i := range out.Contents {
		o := &out.Contents[i]
		key, err := decodeKey(o.Key, out.EncodingType)
		if err != nil {
			return listAnswer{}, err
		}
		l.objects[i] = storage.Object{Path: key, Size: sizeOf(o.Size), ModTime: aws.ToTime(o.LastModified), ETag: cleanETag(o.ETag)}
	}
	return l, nil
}

// readPage checks an answer and removes the store's prefix from its keys.
func (s *Store) readPage(l listAnswer, prefix, after string) (keyPage, error) {
	if !l.named && l.truncation == "" {
		return keyPage{}, errNotListing
	}
	page := keyPage{objects: l.objects, last: after}
	for i := range l.objects {
		key := l.objects[i].Path
		if len(key) < len(prefix) || key[:len(prefix)] != prefix {
			return keyPage{}, fmt.Errorf("the server answers with %q, which lies elsewhere", key)
		}
		if key <= page.last {
			return keyPage{}, fmt.Errorf("%w: %q comes after %q", errUnordered, key, page.last)
		}
		page.last = key
		l.objects[i].Path = key[len(s.prefix):]
	}
	// Without IsTruncated this would be the last page, but a damaged answer has none either.
	if l.truncation == "" {
		return keyPage{}, errors.New("the server does not say whether its listing is cut")
	}
	if l.truncation == "true" {
		if page.token = l.token; page.token == "" {
			return keyPage{}, errors.New("the server cuts its listing and does not say how to go on")
		}
	}
	return page, nil
}

// decodeKey reverses the EncodingType url. A server may ignore that type. A space is encoded as a
// plus sign.
func decodeKey(key *string, encoding types.EncodingType) (string, error) {
	if encoding != types.EncodingTypeUrl {
		return aws.ToString(key), nil
	}
	decoded, err := url.QueryUnescape(aws.ToString(key))
	if err != nil {
		return "", fmt.Errorf("decode the key %q: %w", aws.ToString(key), err)
	}
	return decoded, nil
}
