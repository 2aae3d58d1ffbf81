package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"golang.org/x/sync/errgroup"
)

// requests is how many are under way at once.
const requests = 64

// bucket is a registry's bucket, addressed by path. It sends bare requests, since what
// an SDK does around them is no part of the least work.
type bucket struct {
	url    string // with the bucket's name and no trailing slash
	client *http.Client
	keys   aws.Credentials
	signer *v4.Signer
	slots  chan struct{}

	blobs, layers, tags atomic.Int64
	manifests           set
}

func newBucket(endpoint, name string) *bucket {
	return &bucket{
		url: endpoint + "/" + name,
		client: &http.Client{Transport: &http.Transport{
			MaxIdleConnsPerHost: requests, MaxConnsPerHost: requests, DisableCompression: true,
		}},
		keys: aws.Credentials{
			AccessKeyID:     os.Getenv("AWS_ACCESS_KEY_ID"),
			SecretAccessKey: os.Getenv("AWS_SECRET_ACCESS_KEY"),
		},
		signer: v4.NewSigner(),
		slots:  make(chan struct{}, requests),
	}
}

// list lists the blobs in sixteen ranges and each repository in one, and reads a
// manifest as soon as it sees the first link to it. A tag's link is not read: on a
// server whose ETags are MD5 sums the listing tells what it says.
func list(ctx context.Context, b *bucket) (found, error) {
	group, ctx := errgroup.WithContext(ctx)
	for _, digit := range "0123456789abcdef" {
		group.Go(func() error {
			return b.keysBelow(ctx, layout+"/blobs/sha256/"+string(digit), func(string) { b.blobs.Add(1) })
		})
	}
	group.Go(func() error {
		repositories, err := b.repositories(ctx)
		for _, prefix := range repositories {
			group.Go(func() error {
				return b.keysBelow(ctx, prefix, func(key string) { b.link(ctx, group, key) })
			})
		}
		return err
	})
	if err := group.Wait(); err != nil {
		return found{}, err
	}
	return found{int(b.blobs.Load()), int(b.layers.Load()), int(b.tags.Load()), b.manifests.len()}, nil
}

// link takes the key of a link, and starts to read the manifest that it is the first to
// name.
func (b *bucket) link(ctx context.Context, group *errgroup.Group, key string) {
	switch {
	case strings.Contains(key, "/_layers/"):
		b.layers.Add(1)
	case strings.HasSuffix(key, "/current/link"):
		b.tags.Add(1)
	case strings.Contains(key, "/_manifests/revisions/sha256/"):
		_, rest, _ := strings.Cut(key, "/_manifests/revisions/sha256/")
		hexadecimal := strings.TrimSuffix(rest, "/link")
		if !b.manifests.add(hexadecimal) {
			return
		}
		group.Go(func() error {
			content, err := b.get(ctx, "/"+layout+"/blobs/sha256/"+hexadecimal[:2]+"/"+hexadecimal+"/data", nil)
			if err != nil {
				return err
			}
			return verify(hexadecimal, content)
		})
	}
}

// repositories are prefixes that have all repositories below them, one for each
// two names deep.
func (b *bucket) repositories(ctx context.Context) ([]string, error) {
	top, err := b.prefixes(ctx, layout+"/repositories/")
	if err != nil {
		return nil, err
	}
	var all []string
	for _, prefix := range top {
		below, err := b.prefixes(ctx, prefix)
		if err != nil {
			return nil, err
		}
		all = append(all, below...)
	}
	return all, nil
}

// prefixes are the first thousand names below a prefix, up to their slash.
func (b *bucket) prefixes(ctx context.Context, below string) ([]string, error) {
	text, err := b.get(ctx, "", url.Values{"list-type": {"2"}, "prefix": {below}, "delimiter": {"/"}})
	if err != nil {
		return nil, err
	}
	var page struct {
		CommonPrefixes []struct{ Prefix string }
	}
	if err := xml.Unmarshal(text, &page); err != nil {
		return nil, fmt.Errorf("list %s: %w", below, err)
	}
	var prefixes []string
	for _, p := range page.CommonPrefixes {
		prefixes = append(prefixes, p.Prefix)
	}
	return prefixes, nil
}

// keysBelow calls visit for each key, page after page. The keys of a generated registry
// have nothing that XML would escape.
func (b *bucket) keysBelow(ctx context.Context, prefix string, visit func(key string)) error {
	query := url.Values{"list-type": {"2"}, "prefix": {prefix}}
	for {
		page, err := b.get(ctx, "", query)
		if err != nil {
			return err
		}
		last := ""
		for rest := page; ; {
			_, after, more := bytes.Cut(rest, []byte("<Key>"))
			if !more {
				break
			}
			key, after, whole := bytes.Cut(after, []byte("</Key>"))
			if !whole {
				return fmt.Errorf("list %s: a page ends in a key", prefix)
			}
			last, rest = string(key), after
			visit(last)
		}
		if !bytes.Contains(page, []byte("<IsTruncated>true</IsTruncated>")) {
			return nil
		}
		query.Set("start-after", last)
	}
}

// emptySHA256 is the digest of a body that is not there.
var emptySHA256 = hex.EncodeToString(sha256.New().Sum(nil))

// get sends one request and returns the whole answer.
func (b *bucket) get(ctx context.Context, path string, query url.Values) (body []byte, err error) {
	b.slots <- struct{}{}
	defer func() { <-b.slots }()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, b.url+path, nil)
	if err != nil {
		return nil, err
	}
	// A signature wants %20 for a blank, and Encode writes +; no name here has one.
	request.URL.RawQuery = query.Encode()
	request.Header.Set("X-Amz-Content-Sha256", emptySHA256)
	if err := b.signer.SignHTTP(ctx, b.keys, request, emptySHA256, "s3", "us-east-1", time.Now()); err != nil {
		return nil, err
	}
	response, err := b.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() {
		if closed := response.Body.Close(); err == nil {
			err = closed
		}
	}()
	body, err = io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("get %s: %s: %s", request.URL, response.Status, body)
	}
	return body, err
}
