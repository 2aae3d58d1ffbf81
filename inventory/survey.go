package inventory

import (
	"context"
	"encoding/json"
	"errors"
	"regsweep/storage"
	"regsweep/storage/layout"
	"strings"
	"sync"
	"time"

	// The algorithms that a digest may have.
	_ "crypto/sha256"
	_ "crypto/sha512"

	"github.com/opencontainers/go-digest"
)

// Survey is what a proof has to know of a storage before anything is listed in
// earnest.
type Survey struct {
	// Tagged are intact manifests that tags point at, by which a registry can be asked
	// whether it serves this storage; one of a repository, unless the survey was
	// cut short.
	Tagged []TaggedManifest
	// Untagged are intact manifests of a storage in which no tag points at one; none
	// otherwise.
	Untagged []TaggedManifest
	// LastUpload is the unfinished upload that was written to last; nil if there is
	// none. A survey that was cut short does not look for it.
	LastUpload *LastUpload
	// Repositories has each repository with the newest time of its links, as far as the
	// listing had times. A survey that was cut short does not have all.
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

// errEnough ends a scan that has found what it was for.
var errEnough = errors.New("enough")

// TakeSurvey looks for up to n targets of tags. If quick is set it stops there, and
// has usually seen a page or two (a large repository's layers come before its tags in a
// bucket); otherwise it lists all repositories, and knows the
// last upload as well.
func TakeSurvey(ctx context.Context, store storage.Store, n int, quick bool) (Survey, error) {
	var mu sync.Mutex
	survey := Survey{Repositories: map[string]time.Time{}}
	seen := map[string]bool{}
	var revisions []TaggedManifest // the first few
	err := store.Scan(ctx, storage.RepositoriesDir, func(page []storage.Object) error {
		var pushed time.Time
		last := ""
		note := func() {
			if before, known := survey.Repositories[last]; last != "" && (!known || pushed.After(before)) {
				survey.Repositories[strings.Clone(last)] = pushed
			}
		}
		defer func() {
			mu.Lock()
			defer mu.Unlock()
			note()
		}()
		for _, object := range page {
			e := layout.Parse(object.Path)
			if e.Repository != last {
				mu.Lock()
				note()
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
			case object.Dir: // which a removal has written to last
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
// to take one above 4 MiB (registry/handlers/manifests.go of Distribution).
const surveyLimit = 4 << 20

// intactTarget is what a tag points at, or "" where a registry could not serve that:
// what is damaged in the storage says nothing of the registry that is asked for it.
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

// intactManifest returns a manifest's digest, or "" where a registry could not serve it.
func intactManifest(ctx context.Context, store storage.Store, repository string, target digest.Digest) (digest.Digest, error) {
	// A registry follows symbolic links, and may well serve what lies behind one.
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

// IsEmpty reports whether there is nothing at all in the layout, not even a directory
// of a repository: a registry that nobody has pushed to.
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
