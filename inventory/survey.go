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
	var mu sync.Mutex // guards survey, isTagged and revisions
	survey := Survey{Repositories: map[string]time.Time{}}
	isTagged := map[string]bool{}
	var revisions []TaggedManifest // the first 4*n
	err := store.Scan(ctx, storage.RepositoriesDir, func(objects []storage.Object) error {
		page := surveyPage(objects, 4*n)
		mu.Lock()
		survey.add(page)
		revisions = append(revisions, page.revisions[:min(len(page.revisions), 4*n-len(revisions))]...)
		mu.Unlock()
		for _, tag := range page.tags {
			repository := layout.Parse(tag.Path).Repository
			mu.Lock()
			wanted := len(survey.Tagged) < n && (quick || !isTagged[repository])
			mu.Unlock()
			if !wanted {
				continue
			}
			target, err := intactTarget(ctx, store, tag, repository)
			if err != nil {
				return err
			}
			if target == "" {
				continue
			}
			mu.Lock()
			if quick || !isTagged[repository] {
				repository := strings.Clone(repository)
				isTagged[repository] = true
				survey.Tagged = append(survey.Tagged, TaggedManifest{repository, target})
			}
			enough := quick && len(survey.Tagged) >= n
			mu.Unlock()
			if enough {
				return errEnough
			}
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return Survey{}, err
	}
	survey.Tagged = survey.Tagged[:min(n, len(survey.Tagged))]
	if len(survey.Tagged) == 0 {
		if survey.Untagged, err = firstIntact(ctx, store, revisions, n); err != nil {
			return Survey{}, err
		}
	}
	if quick {
		survey.LastUpload = nil
	}
	return survey, nil
}

// surveyedPage has the facts of one page of the listing. Its names may be parts of the page, so they are
// cloned before the survey keeps them.
type surveyedPage struct {
	links      []repositoryLinks // in the order of the page; a repository may have several
	lastUpload *LastUpload
	revisions  []TaggedManifest
	tags       []storage.Object // current links
}

// repositoryLinks has the newest time of some links of a repository.
type repositoryLinks struct {
	repository string
	newest     time.Time
}

// surveyPage returns the facts of a page, with at most maxRevisions revisions.
func surveyPage(objects []storage.Object, maxRevisions int) (page surveyedPage) {
	links := repositoryLinks{}
	for _, object := range objects {
		e := layout.Parse(object.Path)
		if e.Repository != links.repository {
			page.links = append(page.links, links)
			links = repositoryLinks{repository: e.Repository}
		}
		if isPushed(e) && object.ModTime.After(links.newest) {
			links.newest = object.ModTime
		}
		switch {
		case object.Dir && object.Err != nil: // an upload that can't be read
			if e := layout.Parse(object.Path + "/" + layout.StartedAt); e.Kind == layout.Upload {
				page.touch(e, object.ModTime)
			}
		case object.Dir: // a removal has changed its time
		case e.Kind == layout.Upload:
			page.touch(e, object.ModTime)
		case e.Kind == layout.Revision && !object.Named && layout.ValidRepository(e.Repository):
			if len(page.revisions) < maxRevisions {
				page.revisions = append(page.revisions, TaggedManifest{strings.Clone(e.Repository), e.Digest.Digest()})
			}
		case e.Kind == layout.Tag && layout.ValidRepository(e.Repository):
			page.tags = append(page.tags, object)
		}
	}
	page.links = append(page.links, links)
	return page
}

func (p *surveyedPage) touch(e layout.Entry, touched time.Time) {
	if p.lastUpload == nil || touched.After(p.lastUpload.Touched) {
		p.lastUpload = &LastUpload{Repository: e.Repository, ID: e.Upload, Touched: touched}
	}
}

// add adds the times of a page to the survey.
func (s *Survey) add(page surveyedPage) {
	for _, links := range page.links {
		if before, known := s.Repositories[links.repository]; links.repository != "" && (!known || links.newest.After(before)) {
			s.Repositories[strings.Clone(links.repository)] = links.newest
		}
	}
	if last := page.lastUpload; last != nil && (s.LastUpload == nil || last.Touched.After(s.LastUpload.Touched)) {
		s.LastUpload = &LastUpload{Repository: strings.Clone(last.Repository), ID: strings.Clone(last.ID), Touched: last.Touched}
	}
}

// firstIntact returns up to n intact manifests.
func firstIntact(ctx context.Context, store storage.Store, manifests []TaggedManifest, n int) (intact []TaggedManifest, err error) {
	for _, m := range manifests {
		if len(intact) == n {
			break
		}
		target, err := intactManifest(ctx, store, m.Repository, m.Digest)
		if err != nil {
			return nil, err
		}
		if target != "" {
			intact = append(intact, m)
		}
	}
	return intact, nil
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
