package quarantine

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"strings"

	"regsweep/storage"
	"regsweep/storage/layout"
	"regsweep/sweep"

	"github.com/opencontainers/go-digest"
)

// verdict is the result for one removal. The zero value means that all its objects exist already.
type verdict struct {
	back bool // the removal was undone
	why  Why  // the reason why it was not, or ""
}

// dirs returns the directories that may have moved objects, the run's own first.
func (r *restorer) dirs() []string {
	if r.dir == "" || r.hidden != nil {
		return r.later
	}
	return append([]string{r.dir}, r.later...)
}

// locate finds an object: first in the run's own directory, then at its path in the registry (exists is
// true), then in the directories of later runs. kept is its path in a quarantine, or "".
func (r *restorer) locate(ctx context.Context, path string) (kept string, exists bool, err error) {
	if r.dir != "" && r.hidden == nil {
		kept = r.dir + "/" + path
		if found, err := r.exists(ctx, kept); err != nil || found {
			return kept, false, err
		}
	}
	if exists, err = r.exists(ctx, path); err != nil || exists {
		return "", exists, err
	}
	for _, dir := range r.later {
		kept = dir + "/" + path
		if found, err := r.exists(ctx, kept); err != nil || found {
			return kept, false, err
		}
	}
	return "", false, nil
}

// exists reports whether a path exists, also if it is not a regular file. Other restores make directories
// meanwhile. So a directory may be missing for a stat, and be listed when the storage confirms that: then exists
// tries again, at most once for each directory of a path.
func (r *restorer) exists(ctx context.Context, path string) (bool, error) {
	_, err := r.store.Stat(ctx, path)
	for range strings.Count(path, "/") {
		if !errors.Is(err, storage.ErrGone) {
			break
		}
		_, err = r.store.Stat(ctx, path)
	}
	switch {
	case err == nil, errors.Is(err, storage.ErrNotRegular):
		return true, nil
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	default:
		return false, err
	}
}

// blob restores a blob if its content matches its digest.
func (r *restorer) blob(ctx context.Context, removal sweep.Removal) (verdict, error) {
	path := layout.BlobPath(removal.Digest)
	switch hidden, found, err := r.hidden.find(path); {
	case err != nil:
		return verdict{}, err
	case found:
		return r.unhide(ctx, hidden, removal.Digest)
	}
	kept, exists, err := r.locate(ctx, path)
	switch {
	case err != nil || exists:
		return verdict{}, err
	case kept == "":
		hidden, found, err := r.findLater(path)
		if err != nil {
			return verdict{}, err
		}
		if !found {
			return r.missing(ctx, path)
		}
		return r.unhide(ctx, hidden, removal.Digest)
	}
	if !r.options.DryRun {
		intact, err := r.intact(ctx, kept, removal.Digest)
		if err == nil && !intact {
			return r.damagedBlob(ctx, kept, path, removal.Digest)
		}
		if err != nil {
			return verdict{}, err
		}
	}
	return r.moveBack(ctx, kept, path, func() (bool, error) { return r.intact(ctx, path, removal.Digest) })
}

// damagedBlob returns the verdict for a blob whose copy in the quarantine is damaged. If the registry
// has an intact one, it removes the copy.
func (r *restorer) damagedBlob(ctx context.Context, kept, path string, d digest.Digest) (verdict, error) {
	exists, err := r.exists(ctx, path)
	if err == nil && exists {
		exists, err = r.intact(ctx, path, d)
	}
	if err != nil || !exists {
		return verdict{why: WhyDamaged}, err
	}
	return verdict{}, r.store.Remove(ctx, []storage.Ref{{Path: kept}})[0].Err
}

// intact reports whether the content of an object has the digest.
func (r *restorer) intact(ctx context.Context, path string, d digest.Digest) (bool, error) {
	verifier := d.Verifier()
	err := r.store.Stream(ctx, path, verifier)
	if errors.Is(err, storage.ErrNotRegular) || errors.Is(err, storage.ErrUnreadable) {
		return false, nil
	}
	return err == nil && verifier.Verified(), err
}

// moveBack moves an object from a quarantine to its path. If an object exists there and same reports
// that it is equivalent, moveBack removes the object in the quarantine.
func (r *restorer) moveBack(ctx context.Context, kept, path string, same func() (bool, error)) (verdict, error) {
	if r.options.DryRun {
		exists, err := r.exists(ctx, path)
		return verdict{back: !exists}, err
	}
	err := r.store.Move(ctx, []storage.Move{{From: kept, To: path}})[0].Err
	switch {
	case err == nil:
		return verdict{back: true}, nil
	case errors.Is(err, storage.ErrNotRegular): // a symbolic link or a pipe
		return verdict{why: WhyDamaged}, nil
	case !errors.Is(err, fs.ErrExist):
		return verdict{}, err
	}
	if good, err := same(); err != nil || !good {
		return verdict{why: WhyOccupied}, err
	}
	return verdict{}, r.store.Remove(ctx, []storage.Ref{{Path: kept}})[0].Err
}

// links restores the links of a removal, from the quarantine or from the plan.
func (r *restorer) links(ctx context.Context, removal sweep.Removal) (verdict, error) {
	var all verdict
	links := removal.Links()
	for n, link := range links {
		// The run may not have read the other links, so their copies are not compared with the plan.
		isRead := n == len(links)-1 && removal.Kind.IsRead()
		v, err := r.link(ctx, link, isRead)
		if err != nil || v.why != "" {
			return v, err
		}
		all.back = all.back || v.back
	}
	return all, nil
}

// link restores a link. If the run has read the link, its copy must have the target in the plan.
// Otherwise the copy is damaged, and the link is written again from the plan.
func (r *restorer) link(ctx context.Context, link sweep.Link, isRead bool) (verdict, error) {
	if r.lost[link.Target] {
		exists, err := r.exists(ctx, link.Path)
		if err != nil || !exists {
			return verdict{why: WhyNoBlob}, err
		}
	}
	switch hidden, found, err := r.hidden.find(link.Path); {
	case err != nil:
		return verdict{}, err
	case found:
		return r.unhide(ctx, hidden, "")
	}
	kept, exists, err := r.locate(ctx, link.Path)
	switch {
	case err != nil || exists:
		return verdict{}, err
	case kept != "":
		intact := !isRead || r.options.DryRun
		if !intact {
			intact, err = r.pointsTo(ctx, kept, link.Target)
		}
		if err != nil {
			return verdict{}, err
		}
		if intact {
			return r.moveBack(ctx, kept, link.Path, func() (bool, error) { return r.sameContent(ctx, kept, link.Path) })
		}
	}
	stored, err := r.exists(ctx, layout.BlobPath(link.Target))
	if !stored && r.options.DryRun && err == nil {
		stored, err = r.isRestorable(ctx, layout.BlobPath(link.Target))
	}
	switch {
	case err != nil:
		return verdict{}, err
	case !stored:
		return verdict{why: WhyNoBlob}, nil
	case r.options.DryRun:
		return verdict{back: true}, nil
	}
	err = r.store.Put(ctx, link.Path, strings.NewReader(string(link.Target)))
	existed := errors.Is(err, fs.ErrExist)
	if err != nil && !existed {
		return verdict{}, err
	}
	if kept != "" { // a damaged copy
		if good, err := r.pointsTo(ctx, link.Path, link.Target); err != nil || !good {
			return verdict{why: WhyOccupied}, err
		}
		err = r.store.Remove(ctx, []storage.Ref{{Path: kept}})[0].Err
		if err != nil && !errors.Is(err, storage.ErrNotRegular) { // such a copy is left in the run
			return verdict{}, err
		}
	}
	return verdict{back: !existed}, nil
}

// pointsTo reports whether a link contains the digest.
func (r *restorer) pointsTo(ctx context.Context, path string, target digest.Digest) (bool, error) {
	content, err := r.store.Read(ctx, path, 1<<10)
	if errors.Is(err, storage.ErrNotRegular) || errors.Is(err, storage.ErrTooLarge) || errors.Is(err, storage.ErrUnreadable) {
		return false, nil
	}
	return strings.TrimSpace(string(content)) == string(target), err
}

// isRestorable reports whether a quarantine has an object, moved or hidden. It changes nothing.
func (r *restorer) isRestorable(ctx context.Context, path string) (bool, error) {
	switch hidden, found, err := r.hidden.find(path); {
	case err != nil:
		return false, err
	case found:
		v, err := r.wouldUnhide(ctx, hidden)
		return v.back, err
	}
	kept, _, err := r.locate(ctx, path)
	if err != nil || kept != "" {
		return kept != "", err
	}
	_, found, err := r.findLater(path)
	return found, err
}

// findLater returns the version of a path in the records of later runs.
func (r *restorer) findLater(path string) (v storage.HiddenVersion, found bool, err error) {
	for _, hidden := range r.laterHidden {
		if v, found, err = hidden.find(path); err != nil || found {
			return v, found, err
		}
	}
	return v, false, nil
}

// sameContent reports whether two objects have the same content.
func (r *restorer) sameContent(ctx context.Context, one, other string) (bool, error) {
	var sums [2]digest.Digest
	for i, path := range []string{one, other} {
		digester := digest.Canonical.Digester()
		err := r.store.Stream(ctx, path, digester.Hash())
		if errors.Is(err, storage.ErrNotRegular) || errors.Is(err, storage.ErrUnreadable) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		sums[i] = digester.Digest()
	}
	return sums[0] == sums[1], nil
}

// upload restores all files of an upload that a quarantine has.
func (r *restorer) upload(ctx context.Context, removal sweep.Removal) (verdict, error) {
	dir := layout.UploadPath(removal.Repository, removal.Upload)
	var all verdict
	for _, hidden := range append([]*hidden{r.hidden}, r.laterHidden...) {
		if hidden == nil {
			continue
		}
		for _, version := range hidden.uploads[dir] {
			v, err := r.unhide(ctx, version, "")
			if err != nil || v.why != "" {
				return v, err
			}
			all.back = all.back || v.back
		}
	}
	for _, run := range r.dirs() {
		var files []string
		err := r.store.Below(ctx, run+"/"+dir, func(page []storage.Object) error {
			for _, object := range page {
				if !object.Dir && object.Multipart == "" {
					files = append(files, object.Path)
				}
			}
			return nil
		})
		if errors.Is(err, storage.ErrNotRegular) {
			return verdict{why: WhyDamaged}, nil
		}
		if err != nil {
			return verdict{}, err
		}
		for _, kept := range files {
			path := strings.TrimPrefix(kept, run+"/")
			v, err := r.moveBack(ctx, kept, path, func() (bool, error) { return r.sameContent(ctx, kept, path) })
			if err != nil || v.why != "" {
				return v, err
			}
			all.back = all.back || v.back
		}
	}
	if !all.back {
		return r.uploadWithoutFiles(ctx, dir)
	}
	return all, nil
}

// uploadWithoutFiles returns the verdict for an upload that has no file in a quarantine. The upload
// counts as existing if its directory exists, in the registry or in a quarantine: empty directories
// are restored too.
func (r *restorer) uploadWithoutFiles(ctx context.Context, dir string) (verdict, error) {
	exists := false
	for _, at := range append([]string{""}, r.dirs()...) {
		err := r.store.Below(ctx, path.Join(at, dir), func(page []storage.Object) error {
			exists = exists || len(page) > 0
			return nil
		})
		if err != nil {
			return verdict{}, err
		}
	}
	if !exists {
		return r.missing(ctx, dir+"/data")
	}
	return verdict{}, nil
}
