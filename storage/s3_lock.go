package storage

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// lockLimit is the largest object that Version reads, in bytes.
const lockLimit = 1 << 20

// s3WriterKey is the user metadata by which a writer knows its own write again.
const s3WriterKey = "regsweep-write"

// Create writes with If-None-Match, which lets one of several writers through.
//
// Some servers ignore that header. Looking before the write and after it narrows
// the gap on those as far as it can be narrowed, and costs the others two
// requests a run.
func (s *s3Store) Create(ctx context.Context, path string, content []byte) (string, error) {
	ctx = urgent(ctx)
	switch _, err := s.Stat(ctx, path); {
	case err == nil:
		return "", fmt.Errorf("create %s: %w", path, fs.ErrExist)
	case !errors.Is(err, fs.ErrNotExist):
		return "", err
	}
	all := "*"
	return s.write(ctx, "create", path, content, func(input *s3.PutObjectInput) { input.IfNoneMatch = &all }, fs.ErrExist)
}

// Version reads an object; its version is its entity tag.
func (s *s3Store) Version(ctx context.Context, path string) (content []byte, version string, err error) {
	got, err := s.get(urgent(ctx), path, lockLimit)
	return got.content, got.etag, err
}

// Replace writes with If-Match, and looks before and after as Create does. An
// entity tag is a hash of the content, so that two writes of the same content
// have the same version.
func (s *s3Store) Replace(ctx context.Context, path string, content []byte, version string) (string, error) {
	ctx = urgent(ctx)
	switch object, err := s.Stat(ctx, path); {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("replace %s: %w", path, ErrLost)
	case err != nil:
		return "", err
	case object.ETag != version:
		return "", fmt.Errorf("replace %s: %w", path, ErrLost)
	}
	quoted := `"` + version + `"`
	return s.write(ctx, "replace", path, content, func(input *s3.PutObjectInput) { input.IfMatch = &quoted }, ErrLost)
}

// errRefused is a write whose condition did not hold.
var errRefused = errors.New("the condition of the write does not hold")

// write puts an object on a condition and makes sure that it is the one that
// stays. refused is the error for a condition that does not hold.
//
// A retry may find its own first try, whose answer was lost, and be refused for
// it. So a refusal too is judged by what is there.
func (s *s3Store) write(ctx context.Context, op, path string, content []byte, condition func(*s3.PutObjectInput), refused error) (string, error) {
	writer := rand.Text()
	put := func(condition func(*s3.PutObjectInput)) error {
		return s.do(ctx, op, "s3:PutObject", path, func() error {
			input := &s3.PutObjectInput{
				Bucket:   &s.parameters.bucket,
				Key:      s.key(path),
				Body:     bytes.NewReader(content),
				Metadata: map[string]string{s3WriterKey: writer},
				ACL:      types.ObjectCannedACL(s.parameters.acl),
			}
			input.ServerSideEncryption, input.SSEKMSKeyId = s.encryption()
			condition(input)
			_, err := s.client.PutObject(ctx, input)
			if isRefusal(err) {
				return final{errRefused}
			}
			return err
		})
	}
	err := put(condition)
	if errorStatus(err) == http.StatusNotImplemented { // a server that knows no conditions
		err = put(func(*s3.PutObjectInput) {})
	}
	if err != nil && !errors.Is(err, errRefused) {
		return "", err
	}
	got, err := s.get(ctx, path, lockLimit)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("%s %s: %w", op, path, refused)
	case err != nil:
		return "", err
	case got.writer == writer:
		return got.etag, nil
	case got.writer == "" && bytes.Equal(got.content, content): // a server that keeps no metadata
		return got.etag, nil
	}
	return "", fmt.Errorf("%s %s: %w", op, path, refused)
}

// isRefusal tells the answers by which S3 says that somebody else has written the
// object, is writing it, or has removed it.
func isRefusal(err error) bool {
	switch errorStatus(err) {
	case http.StatusPreconditionFailed, http.StatusConflict, http.StatusNotFound:
		return true
	}
	return false
}

// encryption is what the registry would ask for.
func (s *s3Store) encryption() (types.ServerSideEncryption, *string) {
	switch {
	case !s.parameters.encrypt:
		return "", nil
	case s.parameters.keyID == "":
		return types.ServerSideEncryptionAes256, nil
	}
	return types.ServerSideEncryptionAwsKms, &s.parameters.keyID
}
