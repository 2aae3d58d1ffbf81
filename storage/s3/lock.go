package s3

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"slices"

	"regsweep/storage"
	"regsweep/storage/pace"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// lockConflicts is how often the removal of a lock's versions is retried after the status 409:
// another operation on them is in progress.
const lockConflicts = 3

// writerKey is the user metadata that lets a writer recognize its own write.
const writerKey = "regsweep-write"

// Create writes with If-None-Match, so only one of several writers succeeds.
//
// Some servers ignore that header. Reading the object before and after the write makes
// the race on those servers as short as possible. It costs two requests per run.
func (s *Store) Create(ctx context.Context, path string, content []byte) (string, error) {
	ctx = pace.Urgent(ctx)
	switch _, err := s.Stat(ctx, path); {
	case err == nil:
		return "", fmt.Errorf("create %s: %w", path, fs.ErrExist)
	case !errors.Is(err, fs.ErrNotExist):
		return "", err
	}
	all := "*"
	return s.write(ctx, "create", path, content, func(input *s3.PutObjectInput) { input.IfNoneMatch = &all }, fs.ErrExist)
}

// Version reads an object. The version is its entity tag.
func (s *Store) Version(ctx context.Context, path string) (content []byte, version string, err error) {
	got, err := s.get(pace.Urgent(ctx), path, storage.LockLimit)
	return got.content, got.etag, err
}

// Replace writes with If-Match, and reads the object before and after the write as Create does. An
// entity tag is a hash of the content, so two writes of the same content have the same version.
func (s *Store) Replace(ctx context.Context, path string, content []byte, version string) (string, error) {
	ctx = pace.Urgent(ctx)
	switch object, err := s.Stat(ctx, path); {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("replace %s: %w", path, storage.ErrLost)
	case err != nil:
		return "", err
	case object.ETag != version:
		return "", fmt.Errorf("replace %s: %w", path, storage.ErrLost)
	}
	quoted := `"` + version + `"`
	return s.write(ctx, "replace", path, content, func(input *s3.PutObjectInput) { input.IfMatch = &quoted }, storage.ErrLost)
}

// Delete removes with If-Match, and reads the object before, since some servers ignore that header.
//
// In a bucket that keeps versions, each refresh of a lock has left a version. Delete lists the
// versions, checks that the current one is the caller's, and removes them by their version ids, the
// current one last. So none of them can be another writer's. If the server refuses that (a
// permission is missing, Object Lock retains them), they are only hidden by a delete marker.
func (s *Store) Delete(ctx context.Context, path, version string) error {
	ctx = pace.Urgent(ctx)
	got, err := s.get(ctx, path, storage.LockLimit)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && got.etag != version:
		return fmt.Errorf("remove %s: %w", path, storage.ErrLost)
	case err != nil:
		return err
	}
	if got.version != "" {
		err := s.deleteAll(ctx, path, got.version)
		for try := 1; try <= lockConflicts && pace.ErrorStatus(err) == http.StatusConflict; try++ {
			if err := s.retries.Wait(ctx, try); err != nil {
				return err
			}
			err = s.deleteAll(ctx, path, got.version)
		}
		status, refused := pace.ErrorStatus(err), pace.ErrorCode(err) != ""
		if status == 0 && !refused || status >= 500 && status != http.StatusNotImplemented {
			return err
		}
	}
	quoted := `"` + version + `"`
	remove := func(condition *string) error {
		return s.do(ctx, "remove", "s3:DeleteObject", path, func() error {
			if err := storage.MayRemove(ctx); err != nil {
				return pace.Final(err)
			}
			input := &s3.DeleteObjectInput{Bucket: &s.parameters.bucket, Key: s.key(path), IfMatch: condition}
			_, err := s.client.DeleteObject(ctx, input)
			if isRefusal(err) {
				return pace.Final(errRefused)
			}
			return err
		})
	}
	err = remove(&quoted)
	if status := pace.ErrorStatus(err); status == http.StatusNotImplemented || status == http.StatusBadRequest { // a server that knows no conditions
		err = remove(nil)
	}
	if !errors.Is(err, errRefused) {
		return err
	}
	// The first try may have removed the object, and its answer was lost. The retry is then
	// refused.
	switch _, err := s.Stat(ctx, path); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	}
	return fmt.Errorf("remove %s: %w", path, storage.ErrLost)
}

// deleteAll removes all versions of an object and its delete markers, if current is the
// current one.
func (s *Store) deleteAll(ctx context.Context, path, current string) error {
	var older []objectVersion
	isCurrent := false
	err := s.listVersions(ctx, path, func(at string, v version) {
		switch {
		case at != path: // another key that begins with path
		case v.latest:
			isCurrent = v.id == current
		default:
			older = append(older, objectVersion{*s.key(path), v.id})
		}
	})
	if err != nil {
		return err
	}
	if !isCurrent {
		return fmt.Errorf("remove %s: %w", path, storage.ErrLost)
	}
	for _, versions := range [][]objectVersion{older, {{*s.key(path), current}}} {
		for batch := range slices.Chunk(versions, storage.RemoveBatch) {
			for _, o := range s.removeVersions(ctx, batch) {
				if err := gone(path, o); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// errRefused is the error of a write whose condition did not hold.
var errRefused = errors.New("the condition of the write does not hold")

// write puts an object if a condition holds, and then reads it to check that no other
// writer has replaced it. refused is the error if the condition does not hold.
//
// The first try may have written the object, and its answer was lost. The retry is then
// refused. So write also reads the object after a refusal.
func (s *Store) write(ctx context.Context, op, path string, content []byte, condition func(*s3.PutObjectInput), refused error) (string, error) {
	writer := rand.Text()
	put := func(condition func(*s3.PutObjectInput)) error {
		return s.do(ctx, op, "s3:PutObject", path, func() error {
			input := &s3.PutObjectInput{
				Bucket:   &s.parameters.bucket,
				Key:      s.key(path),
				Body:     bytes.NewReader(content),
				Metadata: map[string]string{writerKey: writer},
				ACL:      types.ObjectCannedACL(s.parameters.acl),
			}
			input.ServerSideEncryption, input.SSEKMSKeyId = s.encryption()
			condition(input)
			_, err := s.client.PutObject(ctx, input)
			if isRefusal(err) {
				return pace.Final(errRefused)
			}
			return err
		})
	}
	err := put(condition)
	if pace.ErrorStatus(err) == http.StatusNotImplemented { // a server that knows no conditions
		err = put(func(*s3.PutObjectInput) {})
	}
	if err != nil && !errors.Is(err, errRefused) {
		return "", err
	}
	got, err := s.get(ctx, path, storage.LockLimit)
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

// isRefusal reports whether an answer says that somebody else has written the
// object, is writing it, or has removed it. A missing bucket says nothing of an object.
func isRefusal(err error) bool {
	switch pace.ErrorStatus(err) {
	case http.StatusPreconditionFailed, http.StatusConflict:
		return true
	case http.StatusNotFound:
		return pace.ErrorCode(err) != "NoSuchBucket"
	}
	return false
}

// encryption is the encryption that the registry would request.
func (s *Store) encryption() (types.ServerSideEncryption, *string) {
	switch {
	case !s.parameters.encrypt:
		return "", nil
	case s.parameters.keyID == "":
		return types.ServerSideEncryptionAes256, nil
	}
	return types.ServerSideEncryptionAwsKms, &s.parameters.keyID
}
