package verify

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"path"
	"slices"
	"time"

	"regsweep/inventory"
	"regsweep/manifest"
	"regsweep/mark"
	"regsweep/storage"
	"regsweep/storage/layout"

	"github.com/opencontainers/go-digest"
)

// Confirm looks at each finding again, since pushes and deletions may have changed the storage while it
// was listed: a registry stores a blob before its link, and the listing has the blobs first. It removes the
// findings that do not hold any more, and from the others the tags that point to another manifest now. since
// is when the listing began. The error is an error of the storage.
func (r *Result) Confirm(ctx context.Context, inv *inventory.Inventory, store storage.Store, since time.Time, concurrency int) error {
	c := confirmer{inv, store, since}
	holds := make([]bool, len(r.Findings))
	err := storage.Each(ctx, len(r.Findings), concurrency, func(ctx context.Context, i int) (err error) {
		holds[i], err = c.confirm(ctx, r.Findings[i])
		return err
	})
	if err != nil {
		return err
	}
	kept, gone, broken := []*Finding{}, map[*Finding]bool{}, map[[2]string]bool{}
	for i, f := range r.Findings {
		if !holds[i] {
			gone[f] = true
			continue
		}
		kept = append(kept, f)
		for _, tag := range f.Tags {
			broken[[2]string{f.Repository, tag}] = true
		}
	}
	r.Findings = kept
	r.Broken = slices.DeleteFunc(r.Broken, func(b BrokenTag) bool { return !broken[[2]string{b.Repository, b.Tag}] })
	for i := range r.Broken {
		r.Broken[i].assess(func(f *Finding) bool { return !gone[f] })
	}
	r.sort()
	return nil
}

type confirmer struct {
	inv    *inventory.Inventory
	reader storage.Store
	since  time.Time
}

// confirm reports whether a finding still holds.
func (c confirmer) confirm(ctx context.Context, f *Finding) (holds bool, err error) {
	if holds, err = c.isStill(ctx, f); err != nil || !holds || !f.breaks() || f.Repository == "" {
		return holds, err
	}
	if f.Kind == TagWithoutCurrent || f.Kind == DamagedTagLink {
		return true, nil
	}
	// Whatever needed the object may be gone.
	needed := len(f.Tags) == 0 && len(f.needers) == 0
	var tags []string
	for _, name := range f.Tags {
		same, err := c.pointsAsBefore(ctx, f.Repository, name)
		if err != nil {
			return false, err
		}
		if same {
			tags = append(tags, name)
		}
	}
	f.Tags = tags
	needed = needed || len(tags) > 0
	for _, id := range f.needers {
		if needed {
			break
		}
		needed, err = c.exists(ctx, layout.RevisionPath(f.Repository, c.inv.Digest(id)))
		if err != nil {
			return false, err
		}
	}
	return needed, nil
}

// pointsAsBefore reports whether a tag points to the manifest that the inventory has.
func (c confirmer) pointsAsBefore(ctx context.Context, repository, name string) (bool, error) {
	r := c.inv.Repository(repository)
	at, _ := r.FindTag(name)
	if !r.Tags[at].HasTarget {
		return true, nil // the current link itself is the fault
	}
	content, err := c.reader.Read(ctx, layout.TagPath(repository, name), layout.LinkLimit)
	if err != nil {
		return false, storage.IgnoreDamage(err)
	}
	target, _, _ := layout.LinkTarget(content)
	return target == c.inv.Digest(r.Tags[at].Target), nil
}

// isStill reports whether the object of a finding is as it was.
func (c confirmer) isStill(ctx context.Context, f *Finding) (bool, error) {
	switch f.Kind {
	case MissingRevisionLink, DamagedRevisionLink, MissingLayerLink, DamagedLayerLink:
		fault, err := readLink(ctx, c.reader, f.Path, f.Digest)
		isAlias := f.Digest.Algorithm() != digest.SHA256 && fault.State == Wrong
		if isAlias && f.Kind == MissingLayerLink { // it was written meanwhile, and names the blob
			return false, err
		}
		return fault != (linkFault{}) || isAlias, err
	case MissingManifest, MissingBlob, SparseIndex:
		exists, err := c.exists(ctx, f.Path)
		return !exists, err
	case TagWithoutCurrent, DamagedTagLink:
		content, err := c.reader.Read(ctx, f.Path, layout.LinkLimit)
		if errors.Is(err, fs.ErrNotExist) {
			if isTagged, err := c.isTagged(ctx, f.Path); isTagged || err != nil {
				return false, err
			}
			return c.hasIndex(ctx, f)
		}
		_, ok, _ := layout.LinkTarget(content)
		return err != nil || !ok, storage.IgnoreDamage(err)
	case DanglingLayerLink:
		linked, err := c.exists(ctx, f.Path)
		if err != nil || !linked {
			return false, err
		}
		stored, err := c.exists(ctx, layout.BlobPath(f.blob))
		return !stored, err
	case StaleIndexEntry:
		entry, err := c.exists(ctx, f.Path)
		if err != nil || !entry {
			return false, err
		}
		linked, err := c.exists(ctx, layout.RevisionPath(f.Repository, f.Digest))
		return !linked, err
	case DamagedManifest, DamagedBlob:
		return c.isDamaged(ctx, f)
	case Stray:
		isWritten, err := c.isWritten(ctx, path.Dir(f.Path), f.Path)
		if err != nil || isWritten {
			return false, err
		}
		return c.exists(ctx, f.Path)
	case DamagedLink:
		return c.exists(ctx, f.Path)
	}
	return true, nil
}

// writing is the longest time that a registry writes a link.
const writing = 10 * time.Minute

// isWritten reports whether a directory has a file into which a registry may be writing the content of another one: the
// named file, or any if name is "". On a filesystem a registry writes such a file, with the ending .tmp, and renames it.
// (registry/storage/driver/filesystem/driver.go of Distribution.)
func (c confirmer) isWritten(ctx context.Context, dir, name string) (isWritten bool, err error) {
	if _, isFilesystem := c.reader.(storage.DirTimes); !isFilesystem || name != "" && path.Ext(name) != ".tmp" {
		return false, nil
	}
	err = c.reader.Below(ctx, dir, func(page []storage.Object) error {
		for _, o := range page {
			isNamed := name == "" || o.Path == name
			isWritten = isWritten || isNamed && path.Ext(o.Path) == ".tmp" && o.ModTime.After(c.since.Add(-writing))
		}
		return nil
	})
	if errors.Is(err, storage.ErrGone) { // it was renamed meanwhile
		return true, nil
	}
	return isWritten, storage.IgnoreDamage(err)
}

// isDamaged reads a damaged blob again: a storage that failed once may return it now.
func (c confirmer) isDamaged(ctx context.Context, f *Finding) (bool, error) {
	if f.isMalformed || f.blob.Validate() != nil {
		return true, nil
	}
	digests := []digest.Digest{f.blob}
	if f.Digest != f.blob { // a layer link leads from it to the blob
		digests = append(digests, f.Digest)
	}
	faults, err := readBlob(ctx, c.reader, layout.BlobPath(f.blob), digests, nil)
	return slices.ContainsFunc(faults, func(fault Fault) bool { return fault != Fault{} }), err
}

// isTagged reports whether somebody writes or deletes a tag, or has done so since the listing began. On a filesystem a
// registry makes directories before it writes links, and deletes links before directories.
func (c confirmer) isTagged(ctx context.Context, current string) (bool, error) {
	dirs, isFilesystem := c.reader.(storage.DirTimes)
	if !isFilesystem {
		return false, nil
	}
	tag := path.Dir(path.Dir(current))
	changedAfter := func(after time.Time) (bool, error) {
		for _, dir := range []string{tag, tag + "/current", tag + "/index"} {
			if changed, err := dirs.ChangedAfter(ctx, dir, after); changed || errors.Is(err, storage.ErrGone) {
				return true, nil
			} else if err != nil && storage.IgnoreDamage(err) != nil {
				return false, err
			}
		}
		return false, nil
	}
	if changed, err := changedAfter(c.since); changed || err != nil {
		return changed, err
	}
	if young, err := changedAfter(c.since.Add(-time.Second)); !young || err != nil {
		return false, err
	}
	time.Sleep(200 * time.Millisecond) // a registry writes the link right after
	if exists, err := c.exists(ctx, current); exists || err != nil {
		return exists, err
	}
	return c.isWritten(ctx, tag, "")
}

// hasIndex reports whether a tag without a current link still has an entry in its index. A deletion of the tag
// removes both.
func (c confirmer) hasIndex(ctx context.Context, f *Finding) (bool, error) {
	r := c.inv.Repository(f.Repository)
	for _, name := range f.Tags {
		at, found := r.FindTag(name)
		if !found {
			empty, err := emptyTags(ctx, r, c.reader)
			return slices.Contains(empty, name), err
		}
		for _, l := range r.Tags[at].Index {
			if exists, err := c.exists(ctx, layout.TagIndexPath(r.Name, name, c.inv.Digest(l.ID()))); exists || err != nil {
				return exists, err
			}
		}
		if len(r.Tags[at].Index) == 0 {
			return true, nil
		}
	}
	return false, nil
}

func (c confirmer) exists(ctx context.Context, path string) (bool, error) {
	return inventory.IsThere(ctx, c.reader, path)
}

// AddPlatforms adds to the images of the findings the platforms that the indexes of their repositories give.
// It reads these indexes. The error is an error of the storage.
func (r *Result) AddPlatforms(ctx context.Context, inv *inventory.Inventory, graph *mark.Graph, reader storage.Reader, concurrency int) error {
	findings := map[string][]*Finding{} // by repository
	for _, f := range r.Findings {
		if len(f.Images) > 0 {
			findings[f.Repository] = append(findings[f.Repository], f)
		}
	}
	repositories := slices.Collect(maps.Keys(findings))
	return storage.Each(ctx, len(repositories), concurrency, func(ctx context.Context, at int) error {
		platforms := map[digest.Digest]string{}
		for _, l := range inv.Repository(repositories[at]).Revisions {
			if form, isIntact := graph.Form(l.ID()); !isIntact || form.Kind != manifest.Index {
				continue
			}
			content, err := reader.Read(ctx, layout.BlobPath(inv.Digest(l.ID())), mark.ManifestLimit)
			if err = storage.IgnoreDamage(err); err != nil {
				return err
			}
			maps.Copy(platforms, manifest.Platforms(content))
		}
		for _, f := range findings[repositories[at]] {
			for i := range f.Images {
				f.Images[i].Platform = platforms[f.Images[i].Digest]
			}
		}
		return nil
	})
}
