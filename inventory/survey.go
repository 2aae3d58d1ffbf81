package inventory

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"time"

	"regsweep/storage"
	"regsweep/storage/layout"

	// The algorithms that a digest may have.
	_ "crypto/sha256"
	_ "crypto/sha512"

	"github.com/opencontainers/go-digest"
)

// Survey has the facts about a storage that a proof needs before the inventory is taken.
type Survey struct {
	// Tagged are intact manifests that tags point at. A registry is asked for them to find out
	// whether it serves this storage. There is at most one for each repository, unless the
	// survey was quick.
	Tagged []TaggedManifest
	// Untagged are intact manifests. There are some only if no tag points at an intact manifest.
	Untagged []TaggedManifest
	// LastUpload is the unfinished upload that was written to last, or nil if there is none. It
	// is nil after a quick survey.
	LastUpload *LastUpload
	// Repositories has each repository with the newest time of its links. The time is zero if
	// the listing had no times. A quick survey does not have all repositories.
	Repositories map[string]time.Time
}

// TaggedManifest is the target of a tag.
type TaggedManifest struct {
	Repository string
	Digest     digest.Digest
}

// LastUpload is an upload and when it was last written to.
type LastUpload struct {
	Repository, ID string
	Touched        time.Time
}

// errEnough ends a scan that needs no more objects.
var errEnough = errors.New("enough")

// TakeSurvey finds up to n targets of tags. If quick is set, it then stops, usually after a
// page or two. (In a bucket the layers of a large repository come before its tags.)
// Otherwise it lists all repositories and also finds the last upload.
func TakeSurvey(ctx context.Context, store storage.Store, n int, quick bool) (Survey, error) {
	var mu sync.Mutex
	survey := Survey{Repositories: map[string]time.Time{}}
	seen := map[string]bool{}
	var revisions []TaggedManifest // the first few
	err := store.Scan(ctx, storage.RepositoriesDir, func(page []storage.Object) error {
		var pushed time.Time
		last := ""
		record := func() {
			if before, known := survey.Repositories[last]; last != "" && (!known || pushed.After(before)) {
				survey.Repositories[strings.Clone(last)] = pushed
			}
		}
		defer func() {
			mu.Lock()
			defer mu.Unlock()
			record()
		}()
		for _, object := range page {
			e := layout.Parse(object.Path)
			if e.Repository != last {
				mu.Lock()
				record()
				mu.Unlock()
				last, pushed = e.Repository, time.Time{}
			}
			if isPushed(e) && object.ModTime.After(pushed) {
				pushed = object.ModTime
			}
			switch {
			case object.Dir && object.Err != nil: // an upload that can't be read
				if e := layout.Parse(object.Path + "/" + layout.StartedAt); e.Kind == layout.Upload {
					mu.Lock()
					survey.touch(e, object.ModTime)
					mu.Unlock()
				}
			case object.Dir: // a removal has changed its time
			case e.Kind == layout.Upload:
				mu.Lock()
				survey.touch(e, object.ModTime)
				mu.Unlock()
			case e.Kind == layout.Revision && !object.Named && layout.ValidRepository(e.Repository):
				mu.Lock()
				if len(revisions) < 4*n {
					revisions = append(revisions, TaggedManifest{strings.Clone(e.Repository), e.Digest.Digest()})
				}
				mu.Unlock()
			case e.Kind == layout.Tag && layout.ValidRepository(e.Repository):
				mu.Lock()
				wanted := len(survey.Tagged) < n && (quick || !seen[e.Repository])
				mu.Unlock()
				if !wanted {
					continue
				}
				target, err := intactTarget(ctx, store, object, e.Repository)
				if err != nil {
					return err
				}
				if target == "" {
					continue
				}
				mu.Lock()
				if quick || !seen[e.Repository] {
					repository := strings.Clone(e.Repository)
					seen[repository] = true
					survey.Tagged = append(survey.Tagged, TaggedManifest{repository, target})
				}
				enough := quick && len(survey.Tagged) >= n
				mu.Unlock()
				if enough {
					return errEnough
				}
			}
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return Survey{}, err
	}
	survey.Tagged = survey.Tagged[:min(n, len(survey.Tagged))]
	for _, m := range revisions {
		if len(survey.Tagged) > 0 || len(survey.Untagged) == n {
			break
		}
		target, err := intactManifest(ctx, store, m.Repository, m.Digest)
		if err != nil {
			return Survey{}, err
		}
		if target != "" {
			survey.Untagged = append(survey.Untagged, m)
		}
	}
	if quick {
		survey.LastUpload = nil
	}
	return survey, nil
}

// surveyLimit is the largest manifest that a survey reads, in bytes. Registries refuse
// a manifest above 4 MiB (registry/handlers/manifests.go of Distribution).
const surveyLimit = 4 << 20

// intactTarget returns the manifest that a tag points at, or "" if it is damaged. The answer of a registry
// to a request for a damaged manifest does not show whether the registry serves this storage.
func intactTarget(ctx context.Context, store storage.Store, tag storage.Object, repository string) (digest.Digest, error) {
	content := tag.Content
	if content == nil {
		var err error
		if content, err = store.Read(ctx, tag.Path, layout.LinkLimit); err != nil {
			return "", storage.IgnoreDamage(err)
		}
	}
	target, ok, _ := layout.LinkTarget(content)
	if !ok {
		return "", nil
	}
	return intactManifest(ctx, store, repository, target)
}

// intactManifest returns the digest of a manifest, or "" if a registry could not serve it.
func intactManifest(ctx context.Context, store storage.Store, repository string, target digest.Digest) (digest.Digest, error) {
	// A registry follows symbolic links, so it may serve the target of one.
	link, err := store.Read(ctx, layout.RevisionPath(repository, target), layout.LinkLimit)
	if !errors.Is(err, storage.ErrNotRegular) && (err != nil || string(link) != string(target)) {
		return "", storage.IgnoreDamage(err)
	}
	manifest, err := store.Read(ctx, layout.BlobPath(target), surveyLimit)
	if !errors.Is(err, storage.ErrNotRegular) && (err != nil || target.Algorithm().FromBytes(manifest) != target || !json.Valid(manifest)) {
		return "", storage.IgnoreDamage(err)
	}
	return target, nil
}

func (s *Survey) touch(e layout.Entry, touched time.Time) {
	if s.LastUpload == nil || touched.After(s.LastUpload.Touched) {
		s.LastUpload = &LastUpload{Repository: strings.Clone(e.Repository), ID: strings.Clone(e.Upload), Touched: touched}
	}
}

// IsEmpty reports whether the layout has no object and no directory of a repository: nobody
// has pushed to the registry.
func IsEmpty(ctx context.Context, store storage.Scanner) (bool, error) {
	for _, dir := range []string{storage.BlobsDir, storage.RepositoriesDir} {
		err := store.Scan(ctx, dir, func(page []storage.Object) error {
			for _, object := range page {
				if _, isEmptied := layout.Emptied(object.Path); !object.Dir || !isEmptied || object.Err != nil {
					return errEnough
				}
			}
			return nil
		})
		if errors.Is(err, errEnough) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
	return true, nil
}
