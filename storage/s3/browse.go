package s3

import (
	"context"
	"fmt"
	"io"
	"strings"

	"regsweep/storage"
	"regsweep/storage/pace"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// Names lists the common prefixes of the keys below dir.
func (s *Store) Names(ctx context.Context, dir string) ([]string, error) {
	var names []string
	prefix, after := *s.key(dir + "/"), ""
	for {
		some, more, err := s.names(ctx, prefix, after)
		if err != nil {
			return nil, err
		}
		for _, name := range some {
			after = name
			names = append(names, strings.TrimSuffix(name[len(prefix):], "/"))
		}
		if !more {
			return names, nil
		}
	}
}

// Below lists the keys below dir, page by page, and the multipart uploads.
func (s *Store) Below(ctx context.Context, dir string, visit func([]storage.Object) error) error {
	if err := s.scanUploads(ctx, dir, visit); err != nil {
		return err
	}
	after, token := "", ""
	for {
		page, err := s.page(ctx, dir, after, token)
		if err != nil {
			return err
		}
		if err := storage.VisitPage(page.objects, visit); err != nil {
			return err
		}
		if page.token == "" {
			return nil
		}
		after, token = page.last, page.token
	}
}

// Others lists the keys of the layout's root, grouped by directory. A server that does not group keys
// returns all of them.
func (s *Store) Others(ctx context.Context, visit func([]storage.Object) error) error {
	input := &s3.ListObjectsV2Input{
		Bucket: &s.parameters.bucket, Prefix: &s.prefix, Delimiter: aws.String("/"), EncodingType: types.EncodingTypeUrl,
	}
	for {
		var out *s3.ListObjectsV2Output
		err := s.do(ctx, "list", "s3:ListBucket", "", func() (err error) {
			out, err = s.client.ListObjectsV2(ctx, input)
			return err
		})
		if err != nil {
			return err
		}
		answer, err := convertListing(out)
		if err != nil {
			return err
		}
		var page []storage.Object
		for _, object := range answer.objects {
			object.Path = strings.TrimPrefix(object.Path, s.prefix)
			if dir, _, _ := strings.Cut(object.Path, "/"); !storage.IsTree(dir) {
				page = append(page, object)
			}
		}
		if err := storage.VisitPage(page, visit); err != nil {
			return err
		}
		for _, group := range out.CommonPrefixes {
			key, err := decodeKey(group.Prefix, out.EncodingType)
			if err != nil {
				return err
			}
			if dir := strings.TrimSuffix(strings.TrimPrefix(key, s.prefix), "/"); !storage.IsTree(dir) {
				if err := s.Below(ctx, dir, visit); err != nil {
					return err
				}
			}
		}
		if answer.token == "" {
			return nil
		}
		input.ContinuationToken = &answer.token
	}
}

// Stream gets an object.
func (s *Store) Stream(ctx context.Context, path string, w io.Writer) error {
	return s.stream(ctx, "s3:GetObject", path, nil, w)
}

// stream writes the content of an object, or of one version of it, to w. If the connection breaks,
// the next try requests the rest of the content. The ETag makes sure that the object is the same.
func (s *Store) stream(ctx context.Context, permission, path string, version *string, w io.Writer) error {
	written, etag := int64(0), (*string)(nil)
	return s.do(ctx, "read", permission, path, func() (err error) {
		input := &s3.GetObjectInput{Bucket: &s.parameters.bucket, Key: s.key(path), VersionId: version, IfMatch: etag}
		if written > 0 {
			input.Range = aws.String(fmt.Sprintf("bytes=%d-", written))
		}
		out, err := s.client.GetObject(ctx, input)
		if err != nil {
			return err
		}
		defer func() {
			if closeErr := out.Body.Close(); err == nil && closeErr != nil {
				err = closeErr
			}
		}()
		if written > 0 && !strings.HasPrefix(aws.ToString(out.ContentRange), fmt.Sprintf("bytes %d-", written)) {
			return pace.Final(fmt.Errorf("the server does not go on at byte %d", written))
		}
		etag = out.ETag
		body := &failingWriter{w: w}
		n, err := io.Copy(body, out.Body)
		written += n
		switch {
		case body.err != nil:
			return pace.Final(body.err)
		case out.ContentLength != nil && n == *out.ContentLength:
			return nil // the content is complete, even if the connection then broke
		case err != nil:
			return err
		case out.ContentLength != nil:
			return fmt.Errorf("%d bytes of %d arrived: %w", n, *out.ContentLength, io.ErrUnexpectedEOF)
		}
		return nil
	})
}

// failingWriter records the error of the writer. A retry can't help against it.
type failingWriter struct {
	w   io.Writer
	err error
}

func (f *failingWriter) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	if err != nil {
		f.err = err
	}
	return n, err
}

// Beside lists the path. A stat needs a permission for that key, which the policies in the README
// do not grant.
func (s *Store) Beside(ctx context.Context, path string) (found bool, err error) {
	key := strings.TrimSuffix(s.prefix, storage.Root+"/") + path
	err = s.do(ctx, "list", "s3:ListBucket", path, func() error {
		out, err := s.client.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &s.parameters.bucket, Prefix: &key, MaxKeys: aws.Int32(1)})
		if err == nil {
			found = len(out.Contents) > 0 && aws.ToString(out.Contents[0].Key) == key
		}
		return err
	})
	return found, err
}

// FindLayout implements storage.LayoutFinder. instead is only a hint, so an error of its listing is
// ignored.
func (s *Store) FindLayout(ctx context.Context) (found bool, instead []string, err error) {
	for _, dir := range []string{storage.BlobsDir, storage.RepositoriesDir, storage.OwnDir} { // a bucket has no empty directories
		names, err := s.Names(ctx, dir)
		if err != nil || len(names) > 0 {
			return true, nil, err
		}
	}
	if names, _, err := s.names(ctx, "", ""); err == nil && len(names) > 0 {
		return false, names, nil
	} else if err == nil {
		return false, []string{}, nil
	}
	return false, nil, nil
}
