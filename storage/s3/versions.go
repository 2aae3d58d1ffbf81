package s3

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"

	"regsweep/storage"
	"regsweep/storage/pace"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"
)

// versions are all versions of objects. It is the Remover of storage.Versions.
type versions struct {
	store *Store
	of    map[string][]version // by path, without the kept ones
	kept  map[string]version   // by path: a recorded version
}

// version is one version of an object, or a delete marker.
type version struct {
	id     string
	bytes  int64
	latest bool // the current version, or the marker that hides the object now
	marker bool
}

// counted reports whether storage.Versions counts this version.
func (v version) counted() bool { return !v.latest && !v.marker }

func (v version) isNull() bool { return v.id == "null" && !v.marker }

// suspended is Versions.WhileSuspended.
type suspended struct{ *versions }

// Remove implements Remover.
func (v suspended) Remove(ctx context.Context, refs []storage.Ref) []storage.Outcome {
	outcomes := v.store.Remove(ctx, refs)
	for i, ref := range refs {
		o := &outcomes[i]
		at := slices.IndexFunc(v.of[ref.Path], version.isNull)
		switch {
		case at < 0 || o.Err != nil || !o.Hidden:
		case v.of[ref.Path][at].latest:
			o.Hidden = false
		default:
			o.Versions, o.VersionBytes = 1, v.of[ref.Path][at].bytes
		}
	}
	return outcomes
}

// Versioning implements Versioner.
func (s *Store) Versioning(ctx context.Context) (storage.Versioning, error) {
	var out *s3.GetBucketVersioningOutput
	err := s.retry(ctx, func() (err error) {
		out, err = s.client.GetBucketVersioning(ctx, &s3.GetBucketVersioningInput{Bucket: &s.parameters.bucket})
		return err
	})
	switch {
	case err != nil && (ctx.Err() != nil || pace.Transient(err)):
		return "", s.describe(ctx, "ask for the versioning of", "s3:GetBucketVersioning", "", err)
	case err != nil:
		return storage.VersionsUnknown, nil
	case out.Status == types.BucketVersioningStatusEnabled:
		return storage.VersionsKept, nil
	case out.Status == types.BucketVersioningStatusSuspended:
		return storage.VersionsSuspended, nil
	}
	return storage.VersionsOff, nil
}

// The listing of the blobs' versions is divided by the first two digits of the digest if more than
// versionedBlobs blobs are removed. The repositories are listed one by one if objects are removed
// from at most versionedRepositories of them.
const versionedBlobs, versionedRepositories = 10_000, 1_000

// Versions implements Versioner.
func (s *Store) Versions(ctx context.Context, refs iter.Seq[storage.Ref], recorded func(path, version string) (bool, error)) (*storage.Versions, error) {
	v := &versions{store: s, of: map[string][]version{}, kept: map[string]version{}}
	found := &storage.Versions{Remover: v, WhileSuspended: suspended{v}}
	for ref := range refs {
		if ref.Multipart == "" {
			v.of[ref.Path] = nil
		}
	}
	var mu sync.Mutex
	var failed error // of recorded
	g, listing := errgroup.WithContext(ctx)
	g.SetLimit(s.Concurrency())
	for _, prefix := range versionPrefixes(maps.Keys(v.of)) {
		g.Go(func() error {
			return s.listVersions(listing, prefix, func(path string, next version) {
				mu.Lock()
				defer mu.Unlock()
				have, wanted := v.of[path]
				if !wanted {
					return
				}
				if !next.marker {
					switch isRecorded, err := recorded(path, next.id); {
					case err != nil:
						failed = err
						return
					case isRecorded:
						v.kept[path] = next
						return
					}
				}
				v.of[path] = append(have, next)
				if next.isNull() && (strings.HasPrefix(path, storage.BlobsDir+"/") || strings.Contains(path, "/_uploads/")) {
					found.NullBytes += next.bytes
				}
				if next.counted() {
					found.Count++
					found.Bytes += next.bytes
				}
			})
		})
	}
	if err := errors.Join(g.Wait(), failed); err != nil {
		return nil, err
	}
	return found, v.mayHide(ctx)
}

// Noncurrent implements Versioner. It lists the blobs of each first digit at the same time, and what
// comes before and after them.
func (s *Store) Noncurrent(ctx context.Context) (count int, bytes int64, err error) {
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(s.Concurrency())
	ends := []string{""}
	for _, digit := range "123456789abcdefg" {
		ends = append(ends, storage.BlobsDir+"/sha256/"+string(digit))
	}
	for i, from := range ends {
		to := append(ends, "")[i+1]
		g.Go(func() error {
			return s.listVersionsBetween(ctx, from, to, func(v version) {
				mu.Lock()
				defer mu.Unlock()
				if v.counted() {
					count++
					bytes += v.bytes
				}
			})
		})
	}
	return count, bytes, g.Wait()
}

// listVersionsBetween reports each version and delete marker of the paths after from, up to to. "" is the
// beginning or the end.
func (s *Store) listVersionsBetween(ctx context.Context, from, to string, found func(v version)) error {
	input := s.versionsBelow("")
	if from != "" {
		input.KeyMarker = s.key(from)
	}
	for more, isPast := true, false; more && !isPast; {
		var err error
		more, err = s.versionPage(ctx, input, func(path string, v version) {
			if isPast = isPast || to != "" && path > to; !isPast {
				found(v)
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// versionPrefixes returns prefixes of paths. Their versions are listed at the same time.
func versionPrefixes(paths iter.Seq[string]) (prefixes []string) {
	repositories, blobs := map[string]bool{}, 0
	for path := range paths {
		if strings.HasPrefix(path, storage.BlobsDir+"/") {
			blobs++
		} else if name, _, found := strings.Cut(path, "/_"); found {
			repositories[name+"/_"] = true
		}
	}
	switch {
	case blobs > versionedBlobs:
		for i := range 256 {
			prefixes = append(prefixes, fmt.Sprintf("%s/sha256/%02x/", storage.BlobsDir, i))
		}
	case blobs > 0:
		prefixes = append(prefixes, storage.BlobsDir+"/")
	}
	if len(repositories) > versionedRepositories {
		return append(prefixes, storage.RepositoriesDir+"/")
	}
	return slices.AppendSeq(prefixes, maps.Keys(repositories))
}

// mayHide fails if the removal that should hide a recorded version would destroy it. In a
// bucket whose versioning is suspended, a removal replaces the version "null".
func (v *versions) mayHide(ctx context.Context) error {
	for path, version := range v.kept {
		if version.id != "null" {
			continue
		}
		state, err := v.store.Versioning(ctx)
		if err == nil && state != storage.VersionsKept {
			err = fmt.Errorf("the bucket keeps no versions any more, so that a removal of %s would destroy the version that a quarantine records: restore or purge the quarantine first", path)
		}
		return err
	}
	return nil
}

// listVersions reports each version and delete marker below a prefix.
func (s *Store) listVersions(ctx context.Context, prefix string, found func(path string, v version)) error {
	input := s.versionsBelow(prefix)
	for more := true; more; {
		var err error
		if more, err = s.versionPage(ctx, input, found); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) versionsBelow(prefix string) *s3.ListObjectVersionsInput {
	return &s3.ListObjectVersionsInput{
		Bucket: &s.parameters.bucket, Prefix: s.key(prefix), MaxKeys: aws.Int32(s.versionPageLength), EncodingType: types.EncodingTypeUrl,
	}
}

// versionPage reports the versions and delete markers of one page. For each object the newest comes
// first. If there are more pages, it changes input to request the next one.
func (s *Store) versionPage(ctx context.Context, input *s3.ListObjectVersionsInput, found func(path string, v version)) (more bool, err error) {
	prefix := (*input.Prefix)[len(s.prefix):]
	var out *s3.ListObjectVersionsOutput
	err = s.do(ctx, "list the versions of", "s3:ListBucketVersions", prefix, func() (err error) {
		out, err = s.client.ListObjectVersions(ctx, input)
		return err
	})
	if err != nil {
		return false, err
	}
	report := func(key *string, v version) error {
		decoded, err := decodeKey(key, out.EncodingType)
		if err != nil || !strings.HasPrefix(decoded, *input.Prefix) {
			return errors.Join(err, fmt.Errorf("list the versions of %s: the server answers with %q", prefix, decoded))
		}
		found(decoded[len(s.prefix):], v)
		return nil
	}
	for i := range out.Versions {
		o := &out.Versions[i]
		v := version{id: aws.ToString(o.VersionId), bytes: max(0, sizeOf(o.Size)), latest: aws.ToBool(o.IsLatest)}
		if err := report(o.Key, v); err != nil {
			return false, err
		}
	}
	for i := range out.DeleteMarkers {
		m := &out.DeleteMarkers[i]
		v := version{id: aws.ToString(m.VersionId), latest: aws.ToBool(m.IsLatest), marker: true}
		if err := report(m.Key, v); err != nil {
			return false, err
		}
	}
	if !aws.ToBool(out.IsTruncated) {
		return false, nil
	}
	// The marker may be no key: MinIO appends its own data.
	key, err := decodeKey(out.NextKeyMarker, out.EncodingType)
	id := aws.ToString(out.NextVersionIdMarker)
	if err != nil || key == "" || key == aws.ToString(input.KeyMarker) && id == aws.ToString(input.VersionIdMarker) {
		return false, errors.Join(err, fmt.Errorf("list the versions of %s: the server cuts its listing and does not say how to go on", prefix))
	}
	input.KeyMarker, input.VersionIdMarker = &key, nil
	if id != "" {
		input.VersionIdMarker = &id
	}
	return true, nil
}

// Remove implements Remover. If no version of an object was listed, it makes a plain removal. An
// object counts as removed once all its versions are removed, except for the kept ones.
func (v *versions) Remove(ctx context.Context, refs []storage.Ref) []storage.Outcome {
	if err := storage.MayBegin(ctx); err != nil {
		return slices.Repeat([]storage.Outcome{{Err: err}}, len(refs))
	}
	ctx = storage.Begun(ctx) // no later run would find the versions of an object that is gone
	outcomes := make([]storage.Outcome, len(refs))
	var plain []storage.Ref
	var places []int // in refs, of plain
	for i, ref := range refs {
		if _, isKept := v.kept[ref.Path]; isKept || ref.Multipart != "" || len(v.of[ref.Path]) == 0 {
			plain, places = append(plain, ref), append(places, i)
		}
	}
	for n, o := range v.store.Remove(ctx, plain) {
		if recorded, isKept := v.kept[plain[n].Path]; isKept && o.Err == nil {
			o.Hidden = recorded.latest // if another version was the current one, it is removed below
		}
		outcomes[places[n]] = o
	}
	places = places[:0]
	var all []objectVersion
	for i, ref := range refs {
		if ref.Multipart != "" || outcomes[i].Err != nil {
			continue
		}
		_, isKept := v.kept[ref.Path]
		for _, each := range v.of[ref.Path] {
			if isKept && each.marker {
				continue
			}
			all, places = append(all, objectVersion{*v.store.key(ref.Path), each.id}), append(places, i)
			if each.counted() {
				outcomes[i].Versions++
				outcomes[i].VersionBytes += each.bytes
			}
		}
	}
	for n, o := range v.store.removeEach(ctx, all) {
		if o.Err != nil || o.Hidden { // a server that ignores version ids only hides the object
			outcomes[places[n]] = o
		}
	}
	return outcomes
}

// Prune implements Remover.
func (v *versions) Prune(ctx context.Context, dir string) (bool, error) {
	return v.store.Prune(ctx, dir)
}
