package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"

	"regsweep/storage"
	"regsweep/storage/pace"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"
)

// S3 copies at most 5 GiB with one request, and an object has at most 10,000 parts.
// Source: "Copying objects" and "Multipart upload limits" in the S3 User Guide.
const (
	largestCopySize = 5 << 30
	partLength      = 1 << 30
	maxParts        = 10_000
)

// largestPutSize is the size in bytes above which an object is sent in parts. While a request is sent, nothing
// is answered, and it fails after silentAfter. So it must not take longer, also over a slow line.
const largestPutSize = 16 << 20

// multipart is an object that is made of several parts.
type multipart struct {
	op, path     string
	size, length int64 // of the object, and of each part but the last one
	concurrency  int   // how many parts are made at the same time
	// send makes a part, and returns its ETag.
	send func(ctx context.Context, p part) (etag *string, err error)
	// complete makes the object of the parts.
	complete func(input *s3.CompleteMultipartUploadInput) error
}

type part struct {
	upload        *string
	number        int32
	first, length int64
}

// writeMultipart makes the object. If it fails, it aborts the upload, so no parts are left that cost money.
func (s *Store) writeMultipart(ctx context.Context, m multipart, input *s3.CreateMultipartUploadInput) error {
	input.Bucket, input.Key, input.ACL = &s.parameters.bucket, s.key(m.path), types.ObjectCannedACL(s.parameters.acl)
	input.ServerSideEncryption, input.SSEKMSKeyId = s.encryption()
	var upload *s3.CreateMultipartUploadOutput
	err := s.do(ctx, m.op, "s3:PutObject", m.path, func() (err error) {
		upload, err = s.client.CreateMultipartUpload(ctx, input)
		return err
	})
	if err != nil {
		return err
	}
	if err = s.writeParts(ctx, m, upload.UploadId); err != nil {
		aborted := s.abort(context.WithoutCancel(ctx), storage.Ref{Path: m.path, Multipart: aws.ToString(upload.UploadId)})
		return errors.Join(err, aborted.Err)
	}
	return nil
}

func (s *Store) writeParts(ctx context.Context, m multipart, upload *string) error {
	parts := make([]types.CompletedPart, (m.size+m.length-1)/m.length)
	g, sending := errgroup.WithContext(ctx)
	g.SetLimit(m.concurrency)
	for i := range parts {
		first := int64(i) * m.length
		p := part{upload, int32(i + 1), first, min(m.length, m.size-first)}
		g.Go(func() error {
			return s.do(sending, m.op, "s3:PutObject", m.path, func() error {
				etag, err := m.send(sending, p)
				parts[i] = types.CompletedPart{ETag: etag, PartNumber: &p.number}
				return err
			})
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	tries := 0
	err := s.retryRemoval(ctx, func() error {
		tries++
		err := m.complete(&s3.CompleteMultipartUploadInput{
			Bucket: &s.parameters.bucket, Key: s.key(m.path), UploadId: upload, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
		})
		if tries > 1 && (pace.ErrorCode(err) == "NoSuchUpload" || errors.Is(err, errRefused)) {
			return nil // the first try has completed it, and its answer was lost; the caller checks the object
		}
		return err
	})
	if err != nil {
		err = s.describe(ctx, m.op, "s3:PutObject", m.path, err)
	}
	return err
}

// copyInParts copies an object that is too large for one request.
func (s *Store) copyInParts(ctx context.Context, m storage.Move, from *s3.HeadObjectOutput) error {
	return s.writeMultipart(ctx, multipart{
		op: "copy", path: m.To, size: sizeOf(from.ContentLength), length: min(s.largestCopy, partLength), concurrency: singleRemovals,
		send: func(ctx context.Context, p part) (etag *string, err error) {
			out, err := s.client.UploadPartCopy(ctx, &s3.UploadPartCopyInput{
				Bucket: &s.parameters.bucket, Key: s.key(m.To), UploadId: p.upload, PartNumber: &p.number,
				CopySource: s.copySource(m.From), CopySourceIfMatch: from.ETag,
				CopySourceRange: aws.String(fmt.Sprintf("bytes=%d-%d", p.first, p.first+p.length-1)),
			})
			if err != nil {
				return nil, err
			}
			return out.CopyPartResult.ETag, nil
		},
		complete: func(input *s3.CompleteMultipartUploadInput) error {
			_, err := s.client.CompleteMultipartUpload(ctx, input)
			return err
		},
	}, &s3.CreateMultipartUploadInput{StorageClass: from.StorageClass, ContentType: from.ContentType, Metadata: from.Metadata})
}

// putInParts writes a new object that is too large for one request, one part after the other.
func (s *Store) putInParts(ctx context.Context, path string, content io.ReaderAt, size int64) error {
	conditional := true
	err := s.writeMultipart(ctx, multipart{
		op: "write", path: path, size: size, length: max(s.largestPut, (size+maxParts-1)/maxParts), concurrency: 1,
		send: func(ctx context.Context, p part) (etag *string, err error) {
			out, err := s.client.UploadPart(ctx, &s3.UploadPartInput{
				Bucket: &s.parameters.bucket, Key: s.key(path), UploadId: p.upload, PartNumber: &p.number,
				Body: io.NewSectionReader(content, p.first, p.length),
			})
			if err != nil {
				return nil, err
			}
			return out.ETag, nil
		},
		complete: func(input *s3.CompleteMultipartUploadInput) error {
			if conditional {
				input.IfNoneMatch = aws.String("*")
			}
			_, err := s.client.CompleteMultipartUpload(ctx, input)
			switch status := pace.ErrorStatus(err); {
			case status == http.StatusPreconditionFailed, status == http.StatusConflict:
				return pace.Final(errRefused)
			case status == http.StatusNotImplemented && conditional: // a server that knows no conditions
				conditional, input.IfNoneMatch = false, nil
				_, err = s.client.CompleteMultipartUpload(ctx, input)
			}
			return err
		},
	}, &s3.CreateMultipartUploadInput{})
	switch {
	case errors.Is(err, errRefused):
		return &fs.PathError{Op: "write", Path: path, Err: fs.ErrExist}
	case err != nil:
		return err
	}
	out, err := s.head(ctx, path)
	if err == nil && sizeOf(out.ContentLength) != size {
		err = fmt.Errorf("write %s: it has %d bytes of %d", path, sizeOf(out.ContentLength), size)
	}
	return err
}
