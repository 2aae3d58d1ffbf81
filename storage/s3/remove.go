package s3

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"slices"
	"unicode"
	"unicode/utf8"

	"regsweep/storage"
	"regsweep/storage/pace"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"golang.org/x/sync/errgroup"
)

// singleRemovals is how many objects that DeleteObjects can't remove are removed at once.
const singleRemovals = 16

// errUnanswered is the error for a key that the answer to a bulk removal does not mention. The
// object may still exist, so it counts as not removed.
var errUnanswered = errors.New("the server's answer does not mention the object")

// Remove removes all objects with one DeleteObjects request. Each multipart upload, and each
// key that XML can't express, takes a request of its own.
func (s *Store) Remove(ctx context.Context, refs []storage.Ref) []storage.Outcome {
	outcomes := make([]storage.Outcome, len(refs))
	bulk := make([]int, 0, len(refs))
	var g errgroup.Group // of functions that put their error in their outcome
	g.SetLimit(singleRemovals)
	for i, ref := range refs {
		switch {
		case ref.Multipart != "":
			g.Go(func() error { outcomes[i] = s.abort(ctx, ref); return nil })
		case !expressible(s.prefix + ref.Path):
			g.Go(func() error { outcomes[i] = s.removeOne(ctx, objectVersion{key: s.prefix + ref.Path}); return nil })
		default:
			bulk = append(bulk, i)
		}
	}
	for len(bulk) > 0 {
		n := min(len(bulk), storage.RemoveBatch)
		s.removeBulk(ctx, refs, bulk[:n], outcomes)
		bulk = bulk[n:]
	}
	_ = g.Wait() // no function of the group returns an error
	return outcomes
}

// removeBulk removes the objects at the given places of refs with one request.
func (s *Store) removeBulk(ctx context.Context, refs []storage.Ref, places []int, outcomes []storage.Outcome) {
	objects := make([]objectVersion, len(places))
	for n, i := range places {
		objects[n].key = *s.key(refs[i].Path)
	}
	for n, o := range s.removeVersions(ctx, objects) {
		outcomes[places[n]] = o
	}
}

// objectVersion names one version of an object. If version is "", it names the object: a bucket
// that keeps versions hides the object and keeps its versions.
type objectVersion struct{ key, version string }

// removeVersions sends one bulk removal. An object counts as removed only if the answer lists it
// as deleted. After a transient failure its removal is retried. If the server did not find the
// object or can't remove it in bulk, it is removed with a request of its own.
func (s *Store) removeVersions(ctx context.Context, objects []objectVersion) []storage.Outcome {
	if s.single.Load() {
		return s.removeSingly(ctx, objects)
	}
	if err := storage.MayBegin(ctx); err != nil {
		return slices.Repeat([]storage.Outcome{{Err: err}}, len(objects))
	}
	outcomes := s.removeTogether(ctx, objects)
	var places []int
	var left []objectVersion
	refused, whole := 0, false
	for i, o := range outcomes {
		switch {
		case knowsNoBulk(o.Err):
			refused++
			whole = whole || pace.ErrorStatus(o.Err) != 0 // an answer for a single key has no status
		case !errors.Is(o.Err, fs.ErrNotExist): // for ErrNotExist a single removal finds out more
			continue
		}
		places, left = append(places, i), append(left, objects[i])
	}
	if whole || refused > 1 && refused == len(objects) {
		s.single.Store(true)
	}
	for n, o := range s.removeSingly(storage.Begun(ctx), left) {
		outcomes[places[n]] = o
	}
	return outcomes
}

// knowsNoBulk reports whether a server refuses a bulk removal, or one key of it, although it may
// accept a single removal. The server has then not removed the key.
func knowsNoBulk(err error) bool {
	switch pace.ErrorCode(err) {
	case "NotImplemented", "MethodNotAllowed", "MalformedXML", "InvalidRequest", "InvalidArgument":
		return true
	}
	status := pace.ErrorStatus(err)
	return status == http.StatusNotImplemented || status == http.StatusMethodNotAllowed
}

// removeSingly removes each object, or version, with a request of its own.
func (s *Store) removeSingly(ctx context.Context, objects []objectVersion) []storage.Outcome {
	outcomes := make([]storage.Outcome, len(objects))
	var g errgroup.Group // of functions that put their error in their outcome
	g.SetLimit(singleRemovals)
	for i, object := range objects {
		g.Go(func() error { outcomes[i] = s.removeOne(ctx, object); return nil })
	}
	_ = g.Wait() // no function of the group returns an error
	return outcomes
}

// removeTogether sends one bulk removal.
func (s *Store) removeTogether(ctx context.Context, objects []objectVersion) []storage.Outcome {
	outcomes := make([]storage.Outcome, len(objects))
	pending := make(map[objectVersion][]int, len(objects)) // to places in objects; one may be named twice
	for i, object := range objects {
		pending[object] = append(pending[object], i)
	}
	record := func(object objectVersion, o storage.Outcome) {
		if o.Err != nil {
			o.Err = s.describe(ctx, "remove", object.permission(), object.key[len(s.prefix):], o.Err)
		}
		for _, i := range pending[object] {
			outcomes[i] = o
		}
	}
	err := s.retryRemoval(ctx, func() error {
		answers, err := s.deleteObjects(ctx, pending)
		if err != nil {
			return err
		}
		var transient error
		for object := range pending {
			answer, ok := answers[object]
			if !ok && object.version == "null" { // some servers leave this version id out
				answer, ok = answers[objectVersion{key: object.key}]
			}
			if !ok {
				answer.Err = errUnanswered
			}
			record(object, answer)
			if answer.Err != nil && pace.Transient(answer.Err) {
				transient = oneKeyFailed{answer.Err}
			} else {
				delete(pending, object)
			}
		}
		return transient
	})
	var one oneKeyFailed
	if err == nil || errors.As(err, &one) {
		return outcomes // each object has its own outcome
	}
	for object := range pending {
		record(object, storage.Outcome{Err: err})
	}
	return outcomes
}

// retryRemoval is retry for a request that removes an object, or makes one. Each try checks the lease. A
// request that was sent may have taken effect. So if the lease ends after it, the error does not match
// storage.ErrNotBegun.
func (s *Store) retryRemoval(ctx context.Context, send func() error) error {
	var last error // of a request that was sent
	return s.retry(ctx, func() error {
		err := storage.MayRemove(ctx)
		if err == nil {
			err = send()
		}
		switch {
		case !errors.Is(err, storage.ErrNotBegun):
			last = err
		case last != nil:
			return pace.Final(unconfirmed{last})
		default:
			return pace.Final(err)
		}
		return err
	})
}

// unconfirmed is the last error of a request that was sent and can't be sent again, because its
// lease has ended.
type unconfirmed struct{ error }

func (e unconfirmed) Unwrap() error { return e.error }

func (v objectVersion) permission() string {
	if v.version != "" {
		return "s3:DeleteObjectVersion"
	}
	return "s3:DeleteObject"
}

// oneKeyFailed is a transient error of a key within a successful bulk removal.
type oneKeyFailed struct{ error }

func (e oneKeyFailed) Unwrap() error { return e.error }

// deleteObjects sends one DeleteObjects request and returns its answer for each key. It does not
// use the quiet mode, which leaves out the removed keys and so the proof of their removal.
func (s *Store) deleteObjects(ctx context.Context, named map[objectVersion][]int) (map[objectVersion]storage.Outcome, error) {
	objects := make([]types.ObjectIdentifier, 0, len(named))
	for object := range named {
		identifier := types.ObjectIdentifier{Key: &object.key}
		if object.version != "" {
			identifier.VersionId = &object.version
		}
		objects = append(objects, identifier)
	}
	out, err := s.sendDelete(ctx, objects)
	if err != nil {
		return nil, err
	}
	answers := make(map[objectVersion]storage.Outcome, len(named))
	for i := range out.Deleted {
		gone := &out.Deleted[i]
		object := objectVersion{aws.ToString(gone.Key), aws.ToString(gone.VersionId)}
		if _, asked := named[object]; !asked { // for an object without a version, some servers name the version that they hid
			object.version = ""
		}
		// If a version was named, the answer is about the removal of a delete marker.
		answers[object] = storage.Outcome{Hidden: aws.ToBool(gone.DeleteMarker) && object.version == ""}
	}
	for i := range out.Errors {
		failed := &out.Errors[i]
		object := objectVersion{aws.ToString(failed.Key), aws.ToString(failed.VersionId)}
		if _, asked := named[object]; !asked {
			object.version = ""
		}
		err := &smithy.GenericAPIError{Code: aws.ToString(failed.Code), Message: aws.ToString(failed.Message)}
		answers[object] = storage.Outcome{Err: err}
	}
	return answers, nil
}

// sendDelete sends the SDK's request, with its CRC32. If a server rejects that request as
// malformed, it has removed nothing. sendDelete then sends the older form with a Content-MD5. If
// the server accepts that form, it is used from then on.
func (s *Store) sendDelete(ctx context.Context, objects []types.ObjectIdentifier) (*s3.DeleteObjectsOutput, error) {
	input := &s3.DeleteObjectsInput{
		Bucket: &s.parameters.bucket,
		Delete: &types.Delete{Objects: objects, Quiet: aws.Bool(false)},
	}
	if s.contentMD5.Load() {
		return s.client.DeleteObjects(ctx, input, withContentMD5)
	}
	out, err := s.client.DeleteObjects(ctx, input)
	if status := pace.ErrorStatus(err); status != http.StatusBadRequest && status != http.StatusNotImplemented || pace.Transient(err) {
		return out, err
	}
	if err := storage.MayRemove(ctx); err != nil {
		return nil, pace.Final(err)
	}
	older, olderErr := s.client.DeleteObjects(ctx, input, withContentMD5)
	if olderErr != nil {
		return nil, err
	}
	s.contentMD5.Store(true)
	return older, nil
}

// withContentMD5 replaces the SDK's checksum of a request's body by a Content-MD5.
func withContentMD5(o *s3.Options) {
	o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
		// Without this middleware the one that computes the checksum does nothing.
		if _, err := stack.Initialize.Remove("AWSChecksum:SetupInputContext"); err != nil {
			return fmt.Errorf("prepare a request with Content-MD5: %w", err)
		}
		return smithyhttp.AddContentChecksumMiddleware(stack)
	})
}

// removeOne removes an object, or one version of it, with a request of its own.
func (s *Store) removeOne(ctx context.Context, object objectVersion) (o storage.Outcome) {
	if err := storage.MayBegin(ctx); err != nil {
		return storage.Outcome{Err: err}
	}
	path := object.key[len(s.prefix):]
	err := s.retryRemoval(ctx, func() error {
		input := &s3.DeleteObjectInput{Bucket: &s.parameters.bucket, Key: &object.key}
		if object.version != "" {
			input.VersionId = &object.version
		}
		out, err := s.client.DeleteObject(ctx, input)
		if err == nil {
			o.Hidden = aws.ToBool(out.DeleteMarker) && object.version == ""
		}
		return err
	})
	if err != nil {
		o.Err = s.describe(ctx, "remove", object.permission(), path, err)
	}
	if errors.Is(o.Err, fs.ErrNotExist) {
		o.Err = s.seenGone(ctx, "remove", object)
	}
	return o
}

// seenGone checks with a HEAD that an object or version does not exist. It is for an object that
// the server has listed and then did not find.
func (s *Store) seenGone(ctx context.Context, op string, object objectVersion) error {
	path := object.key[len(s.prefix):]
	input := &s3.HeadObjectInput{Bucket: &s.parameters.bucket, Key: &object.key}
	if object.version != "" {
		input.VersionId = &object.version
	}
	err := s.do(ctx, "stat", "s3:GetObject", path, func() error {
		_, err := s.client.HeadObject(ctx, input)
		return err
	})
	switch {
	case err == nil:
		return fmt.Errorf("%s %s: the server says that it is not there, and it is", op, path)
	case errors.Is(err, fs.ErrNotExist):
		return nil
	}
	return err
}

// abort aborts an unfinished multipart upload. The server then removes its parts.
func (s *Store) abort(ctx context.Context, ref storage.Ref) (o storage.Outcome) {
	if err := storage.MayBegin(ctx); err != nil {
		return storage.Outcome{Err: err}
	}
	err := s.retryRemoval(ctx, func() error {
		_, err := s.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{
			Bucket: &s.parameters.bucket, Key: s.key(ref.Path), UploadId: &ref.Multipart,
		})
		return err
	})
	switch {
	case pace.ErrorCode(err) == "NoSuchUpload":
		o.Err = s.seenAborted(ctx, ref)
	case err != nil:
		o.Err = s.describe(ctx, "abort the upload of", "s3:AbortMultipartUpload", ref.Path, err)
	}
	return o
}

// seenAborted checks with a listing that an upload does not exist. It is for an upload that the
// server has listed and then did not find.
func (s *Store) seenAborted(ctx context.Context, ref storage.Ref) error {
	listed := false
	_, err := s.listUploads(ctx, path.Dir(ref.Path), *s.key(ref.Path), func(page []storage.Object) error {
		for _, object := range page {
			listed = listed || object.Path == ref.Path && object.Multipart == ref.Multipart
		}
		return nil
	})
	if err == nil && listed {
		err = fmt.Errorf("abort the upload of %s: the server says that it is not there, and lists it", ref.Path)
	}
	return err
}

// expressible reports whether the XML of DeleteObjects can contain a key unchanged.
// XML 1.0 has no control characters, and its parsers turn carriage returns into
// newlines.
func expressible(key string) bool {
	if !utf8.ValidString(key) {
		return false
	}
	for _, r := range key {
		if unicode.IsControl(r) || r == 0xFFFE || r == 0xFFFF {
			return false
		}
	}
	return true
}
