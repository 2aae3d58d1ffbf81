package s3

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"

	"regsweep/storage"
	"regsweep/storage/pace"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// scanUploads reports the multipart uploads below dir that are neither completed nor
// aborted. An interrupted push leaves one below repositories, an interrupted copy below
// blobs.
//
// A server without this listing is treated as if it had no such uploads, since nothing
// else tells their ids. If the listing is denied, scanUploads returns an error.
func (s *Store) scanUploads(ctx context.Context, dir string, visit func([]storage.Object) error) error {
	below := s.prefix + dir + "/"
	found, err := s.listUploads(ctx, dir, below, visit)
	if pace.ErrorStatus(err) == http.StatusNotImplemented || pace.ErrorCode(err) == "NotImplemented" {
		return nil
	}
	if err != nil || found {
		return err
	}
	// MinIO compares the prefix with whole keys and so finds no upload below a directory.
	// Without a prefix it lists all uploads. On other servers this finds no more uploads.
	// If it is denied, the first listing was complete.
	_, err = s.listUploads(ctx, dir, "", visit)
	if status := pace.ErrorStatus(err); status == http.StatusForbidden || status == http.StatusNotImplemented {
		return nil
	}
	return err
}

// listUploads lists the uploads whose keys begin with a prefix, and reports the uploads
// below dir.
func (s *Store) listUploads(ctx context.Context, dir, prefix string, visit func([]storage.Object) error) (found bool, err error) {
	below := s.prefix + dir + "/"
	input := &s3.ListMultipartUploadsInput{
		Bucket:       &s.parameters.bucket,
		MaxUploads:   aws.Int32(pageLength),
		EncodingType: types.EncodingTypeUrl,
	}
	if prefix != "" {
		input.Prefix = &prefix
	}
	// A repeated page can't be found by the order of the keys, which S3 does not promise
	// here. It is found by its marker, which must not come twice.
	markers := map[[2]string]bool{}
	for {
		var out *s3.ListMultipartUploadsOutput
		err := s.do(ctx, "list uploads", "s3:ListBucketMultipartUploads", dir+"/", func() (err error) {
			out, err = s.client.ListMultipartUploads(ctx, input)
			if err == nil && out.Bucket == nil && out.IsTruncated == nil {
				return errNotListing
			}
			return err
		})
		if err != nil {
			return found, err
		}
		var page []storage.Object
		for i := range out.Uploads {
			u := &out.Uploads[i]
			key, err := decodeKey(u.Key, out.EncodingType)
			if err != nil {
				return found, fmt.Errorf("list uploads %s/: %w", dir, err)
			}
			if strings.HasPrefix(key, below) && aws.ToString(u.UploadId) != "" {
				page = append(page, storage.Object{Path: key[len(s.prefix):], Size: -1, ModTime: aws.ToTime(u.Initiated), Multipart: *u.UploadId})
			}
		}
		found = found || len(page) > 0
		if err := storage.VisitPage(page, visit); err != nil {
			return found, err
		}
		if !aws.ToBool(out.IsTruncated) {
			return found, nil
		}
		key, err := decodeKey(out.NextKeyMarker, out.EncodingType)
		if err != nil {
			return found, fmt.Errorf("list uploads %s/: %w", dir, err)
		}
		marker := [2]string{key, aws.ToString(out.NextUploadIdMarker)}
		if key == "" || markers[marker] {
			return found, fmt.Errorf("list uploads %s/: %w", dir, errors.New("the server cuts its listing and does not say how to go on"))
		}
		markers[marker] = true
		input.KeyMarker, input.UploadIdMarker = &marker[0], nil
		if marker[1] != "" {
			input.UploadIdMarker = &marker[1]
		}
	}
}

// PartBytes implements storage.PartCounter.
func (s *Store) PartBytes(ctx context.Context, upload storage.Ref) (sum int64, err error) {
	input := &s3.ListPartsInput{Bucket: &s.parameters.bucket, Key: s.key(upload.Path), UploadId: &upload.Multipart}
	for {
		var out *s3.ListPartsOutput
		err := s.do(ctx, "list the parts of", "s3:ListMultipartUploadParts", upload.Path, func() (err error) {
			out, err = s.client.ListParts(ctx, input)
			return err
		})
		if errors.Is(err, fs.ErrNotExist) || pace.ErrorCode(err) == "NoSuchUpload" {
			return 0, nil
		}
		if err != nil {
			return 0, err
		}
		for _, part := range out.Parts {
			sum += max(0, sizeOf(part.Size))
		}
		next := aws.ToString(out.NextPartNumberMarker)
		if !aws.ToBool(out.IsTruncated) || next == "" || next == aws.ToString(input.PartNumberMarker) {
			return sum, nil
		}
		input.PartNumberMarker = &next
	}
}
