package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strings"

	"regsweep/storage"
	"regsweep/storage/pace"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// Move copies objects within the server and then removes them, since S3 can't rename. A link, whose
// content is known, is removed without a copy. The originals are removed after as many copies as are made
// at the same time: a run that is stopped leaves few copies whose originals are still there.
func (s *Store) Move(ctx context.Context, moves []storage.Move) []storage.Outcome {
	outcomes := make([]storage.Outcome, 0, len(moves))
	for len(moves) > 0 {
		n, copies := 0, 0
		for ; n < len(moves) && copies < s.Concurrency(); n++ {
			if moves[n].Content == "" {
				copies++
			}
		}
		outcomes = append(outcomes, s.moveTogether(ctx, moves[:n])...)
		moves = moves[n:]
	}
	return outcomes
}

// moveTogether makes the copies at the same time. One request removes the originals after all copies are
// confirmed.
func (s *Store) moveTogether(ctx context.Context, moves []storage.Move) []storage.Outcome {
	outcomes := storage.OutcomesOf(len(moves), s.Concurrency(), func(i int) error {
		if err := storage.MayBegin(ctx); err != nil || moves[i].Content != "" {
			return err
		}
		return s.copy(ctx, moves[i])
	})
	var places []int
	var copied []storage.Ref
	for i, m := range moves {
		if outcomes[i].Err == nil {
			places, copied = append(places, i), append(copied, storage.Ref{Path: m.From})
		}
	}
	for n, o := range s.Remove(storage.Begun(ctx), copied) {
		outcomes[places[n]] = o
	}
	return outcomes
}

// copy makes sure that a copy of the object is at To. It never overwrites another object.
func (s *Store) copy(ctx context.Context, m storage.Move) error {
	from, err := s.head(ctx, m.From)
	missing := errors.Is(err, fs.ErrNotExist)
	if missing { // a single answer does not prove absence
		err = s.seenGone(ctx, "move", objectVersion{key: *s.key(m.From)})
	}
	if err != nil {
		return err
	}
	to, err := s.head(ctx, m.To)
	switch {
	case err == nil && missing: // it was moved before
		return nil
	case missing && errors.Is(err, fs.ErrNotExist):
		return storage.NotExist("move", m.From)
	case err == nil && isCopy(from, to):
		return nil
	case err == nil:
		return &fs.PathError{Op: "move", Path: m.From, Err: fs.ErrExist}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	size, etag := sizeOf(from.ContentLength), ""
	if size > s.largestCopy {
		err = s.copyInParts(ctx, m, from)
	} else {
		etag, err = s.copyWhole(ctx, m, from)
	}
	// The original is removed next, so the copy must have the same entity tag or the same size.
	// Entity tags of equal content may differ: they depend on the parts and on the encryption.
	switch {
	case errors.Is(err, fs.ErrNotExist): // the object existed, so it must not count as absent
		return fmt.Errorf("move %s: the server has it and does not find it to copy", m.From)
	case err != nil || etag != "" && etag == cleanETag(from.ETag):
		return err
	}
	to, err = s.head(ctx, m.To)
	switch {
	case err != nil:
		return err
	case sizeOf(to.ContentLength) != size:
		return fmt.Errorf("move %s: its copy has %d bytes of %d", m.From, sizeOf(to.ContentLength), size)
	}
	return nil
}

// isCopy reports whether two objects have the same size and the same entity tag.
func isCopy(a, b *s3.HeadObjectOutput) bool {
	return sizeOf(a.ContentLength) == sizeOf(b.ContentLength) && cleanETag(a.ETag) != "" && cleanETag(a.ETag) == cleanETag(b.ETag)
}

// copyWhole copies an object with one request, with its metadata and storage class. It returns the
// copy's ETag. The copy is made only if the object still has the ETag in from.
func (s *Store) copyWhole(ctx context.Context, m storage.Move, from *s3.HeadObjectOutput) (etag string, err error) {
	err = s.do(ctx, "copy", "s3:PutObject", m.To, func() error {
		input := &s3.CopyObjectInput{
			Bucket: &s.parameters.bucket, Key: s.key(m.To), CopySource: s.copySource(m.From), CopySourceIfMatch: from.ETag,
			StorageClass: from.StorageClass, ACL: types.ObjectCannedACL(s.parameters.acl),
		}
		input.ServerSideEncryption, input.SSEKMSKeyId = s.encryption()
		out, err := s.client.CopyObject(ctx, input)
		if err == nil && out.CopyObjectResult != nil {
			etag = cleanETag(out.CopyObjectResult.ETag)
		}
		return err
	})
	return etag, err
}

// copySource is the value of the x-amz-copy-source header for an object: bucket and key, escaped.
// Some servers read a plus sign there as a space.
func (s *Store) copySource(path string) *string {
	segments := strings.Split(s.parameters.bucket+"/"+s.prefix+path, "/")
	for i, segment := range segments {
		segments[i] = strings.ReplaceAll(url.PathEscape(segment), "+", "%2B")
	}
	return aws.String(strings.Join(segments, "/"))
}

// Put writes with If-None-Match. It first checks that there is no object, since some servers ignore
// that header.
func (s *Store) Put(ctx context.Context, path string, content io.ReadSeeker) error {
	switch _, err := s.Stat(ctx, path); {
	case err == nil:
		return &fs.PathError{Op: "write", Path: path, Err: fs.ErrExist}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	size, err := content.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if whole, ok := content.(io.ReaderAt); ok && size > s.largestPut {
		return s.putInParts(ctx, path, whole, size)
	}
	return s.putWhole(ctx, path, content, true)
}

// Overwrite writes without a condition.
func (s *Store) Overwrite(ctx context.Context, path string, content []byte) error {
	return s.putWhole(ctx, path, bytes.NewReader(content), false)
}

// putWhole writes an object with one request: with If-None-Match if conditional is set.
func (s *Store) putWhole(ctx context.Context, path string, content io.ReadSeeker, conditional bool) error {
	tries := 0
	put := func() error {
		if _, err := content.Seek(0, io.SeekStart); err != nil {
			return pace.Final(err)
		}
		tries++
		input := &s3.PutObjectInput{
			Bucket: &s.parameters.bucket, Key: s.key(path), Body: content, ACL: types.ObjectCannedACL(s.parameters.acl),
		}
		if conditional {
			input.IfNoneMatch = aws.String("*")
		}
		input.ServerSideEncryption, input.SSEKMSKeyId = s.encryption()
		_, err := s.client.PutObject(ctx, input)
		if isRefusal(err) {
			return pace.Final(errRefused)
		}
		return err
	}
	err := s.retryRemoval(ctx, put)
	if pace.ErrorStatus(err) == http.StatusNotImplemented { // a server that knows no conditions
		conditional = false
		err = s.retryRemoval(ctx, put)
	}
	if err != nil {
		err = s.describe(ctx, "write", "s3:PutObject", path, err)
	}
	switch {
	case errors.Is(err, errRefused) && tries > 1:
		return nil // no object existed before, so the first try has written it, and its answer was lost
	case errors.Is(err, errRefused):
		return &fs.PathError{Op: "write", Path: path, Err: fs.ErrExist}
	}
	return err
}

// MakeDir does nothing: there are no directories.
func (s *Store) MakeDir(ctx context.Context, dir string) error { return ctx.Err() }

// Sync does nothing: a write that S3 has confirmed survives a loss of power.
func (s *Store) Sync(ctx context.Context) error { return ctx.Err() }
