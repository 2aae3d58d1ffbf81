package inventory

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"regsweep/storage"
	"regsweep/storage/layout"
)

type uploadBuilder struct {
	Upload
	startedat *storage.Object
	failure   error // why the upload can't be read
}

// looseUpload is a multipart upload outside of the repositories' uploads.
func looseUpload(object storage.Object) Upload {
	return Upload{
		ID: object.Multipart, Started: object.ModTime, Touched: object.ModTime,
		Objects: []storage.Ref{{Path: object.Path, Multipart: object.Multipart}},
	}
}

func (rb *repositoryBuilder) upload(id string) *uploadBuilder {
	u := rb.uploads[id]
	if u == nil {
		if rb.uploads == nil {
			rb.uploads = map[string]*uploadBuilder{}
		}
		u = &uploadBuilder{Upload: Upload{ID: strings.Clone(id)}}
		rb.uploads[u.ID] = u
	}
	return u
}

func (rb *repositoryBuilder) addUpload(object storage.Object, e located) {
	u := rb.upload(e.Upload)
	if object.Err != nil {
		u.failure = fmt.Errorf("%s: %w", object.Path, object.Err)
	}
	u.Objects = append(u.Objects, storage.Ref{Path: strings.Clone(object.Path), Multipart: object.Multipart})
	u.Bytes += max(object.Size, 0)
	if object.HardLinked {
		u.HardLinkedBytes += object.Size
	}
	if object.ModTime.After(u.Touched) {
		u.Touched = object.ModTime
	}
	if object.Multipart == "" && strings.HasSuffix(object.Path, "/"+e.Upload+"/"+layout.StartedAt) {
		u.startedat = keptObject(object)
	}
}

// clocksDiffer is how far an upload's startedat may be after its last write. The clocks of the
// registry and of the storage may differ.
const clocksDiffer = 24 * time.Hour

// sealUpload dates an upload by its startedat, as the registry's own purging does
// (registry/storage/purgeuploads.go), or else by its last write. It ignores a startedat in year 1,
// which no registry writes, and a startedat after the last write: such an upload would never be
// old.
func (rb *repositoryBuilder) sealUpload(u *uploadBuilder) Upload {
	// The startedat is removed last. If a run is interrupted, the rest of the upload must not
	// look younger.
	date := layout.RepositoryPath(rb.r.Name) + "/" + layout.UploadsDir + "/" + u.ID + "/" + layout.StartedAt
	isDate := func(r storage.Ref) int {
		if r.Path == date && r.Multipart == "" {
			return 1
		}
		return 0
	}
	slices.SortFunc(u.Objects, func(a, b storage.Ref) int {
		return cmp.Or(cmp.Compare(isDate(a), isDate(b)), cmp.Compare(a.Path, b.Path), cmp.Compare(a.Multipart, b.Multipart))
	})
	if u.failure != nil {
		u.Started = time.Time{} // so that it is kept
		rb.r.Problems = append(rb.r.Problems, Problem{
			Kind: UnreadableUpload, Repository: rb.r.Name, Effect: KeepsNamed,
			Path:   layout.RepositoryPath(rb.r.Name) + "/" + layout.UploadsDir + "/" + u.ID,
			Detail: fmt.Sprintf("the upload can't be read and is kept: %v", u.failure),
		})
		return u.Upload
	}
	detail := "the upload does not say when it began: its last write counts"
	if u.startedat != nil {
		started, err := time.Parse(time.RFC3339, string(u.startedat.Content))
		if err == nil && !started.IsZero() && (u.Touched.IsZero() || !started.After(u.Touched.Add(clocksDiffer))) {
			u.Started = started
			return u.Upload
		}
		if err == nil {
			detail = "the upload says that it began " + started.Format(time.RFC3339) + ", which can't be: its last write counts"
		}
	}
	u.Started = u.Touched
	rb.r.Problems = append(rb.r.Problems, Problem{
		Kind: UndatedUpload, Repository: rb.r.Name, Effect: Note,
		Path:   layout.RepositoryPath(rb.r.Name) + "/" + layout.UploadsDir + "/" + u.ID,
		Detail: detail,
	})
	return u.Upload
}
