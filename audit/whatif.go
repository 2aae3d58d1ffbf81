package audit

import (
	"regsweep/inventory"
	"regsweep/mark"
	"regsweep/storage"
	"regsweep/sweep"
)

// WhatIf has the bytes that a choice would free, with the garbage of today.
type WhatIf struct {
	Choice string `json:"choice"`
	Bytes  int64  `json:"bytes"`
	// Hides is set if a run without --purge-versions hides these bytes, or may hide them: see HidesWhat.
	Hides bool `json:"hides,omitempty"`
}

// HidesWhat says what a removal hides in a bucket that keeps versions, instead of freeing it. It is "" if
// a removal frees everything.
func HidesWhat(bucket storage.Versioning) string {
	switch bucket {
	case storage.VersionsKept:
		return "with --purge-versions; otherwise only hidden"
	case storage.VersionsSuspended:
		return "with --purge-versions; otherwise some is only hidden"
	case storage.VersionsUnknown:
		return "unless the bucket keeps versions, which is not known"
	}
	return ""
}

// Freed returns the bytes that a run frees if it keeps what is alive in live: those of garbage blobs and of
// old uploads. A file with other hard links frees nothing. Blobs that were written after Options.Since of the
// inventory are kept.
func (f Facts) Freed(live *mark.Live) (sum int64) {
	for id := range inventory.ID(f.Inventory.Blobs()) {
		if !live.Blob(id).Alive() && !f.Inventory.Recent(id) && !f.Inventory.HardLinked(id) {
			sum += f.size(id)
		}
	}
	for _, r := range f.Inventory.Repositories {
		for _, u := range r.Uploads {
			if sweep.IsOldUpload(r, u, f.Now.Add(-f.UploadAge)) {
				sum += u.Bytes - u.HardLinkedBytes
			}
		}
	}
	return sum
}

// Without returns the roots of a run that removes a set of tags, and the manifests that only these tags
// reach. It keeps manifests that were untagged before.
func (f Facts) Without(isRemoved func(repository, tag int) bool) mark.Roots {
	return mark.Roots{
		WhatIf: true,
		Tag:    func(repository, tag int) bool { return !isRemoved(repository, tag) },
		Revision: func(repository, revision int) bool {
			cause := f.Live.Repositories[repository].Revisions.At(revision)
			return cause != mark.Tagged && cause != mark.UnlinkedChild // a tag reaches that, too
		},
	}
}
