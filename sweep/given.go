package sweep

import (
	"io"
	"iter"
	"slices"
	"time"

	"regsweep/storage"
	"regsweep/storage/layout"

	"github.com/opencontainers/go-digest"
)

// Given is a plan whose removals were not found by a mark: of blobs with wrong content, and of tags that can't be
// pulled. It is for a quarantine, which needs an account of what it holds. Its paths are below the layout's
// root until they are written.
type Given struct {
	Storage  storage.Identity
	Time     time.Time
	Removals []Removal
}

// Take returns the removal of a blob.
func Take(blob digest.Digest, bytes int64, reason string) Removal {
	return Removal{Kind: Blob, Digest: blob, Bytes: bytes, Path: layout.BlobPath(blob), Reason: reason}
}

// Untag returns the removals of a tag in their order: the entries of its index, and then its current link, if it has
// a target.
func Untag(repository, tag string, index []digest.Digest, target digest.Digest, reason string) (removals []Removal) {
	for _, d := range index {
		removals = append(removals, Removal{Kind: TagIndexEntry, Repository: repository, Tag: tag, Digest: d, Path: layout.TagIndexPath(repository, tag, d), Reason: reason})
	}
	if target != "" {
		removals = append(removals, Removal{Kind: Tag, Repository: repository, Tag: tag, Digest: target, Path: layout.TagPath(repository, tag), Reason: reason})
	}
	return removals
}

// All yields the removals in the order of a plan.
func (g *Given) All() iter.Seq[Removal] {
	return func(yield func(Removal) bool) {
		for _, kind := range Kinds {
			for _, r := range g.Removals {
				if r.Path = "/" + storage.Root + "/" + r.Path; r.Kind == kind && !yield(r) {
					return
				}
			}
		}
	}
}

// Refs yields the objects of all removals.
func (g *Given) Refs() iter.Seq[storage.Ref] {
	return func(yield func(storage.Ref) bool) {
		for _, r := range g.Removals {
			if !yield(storage.Ref{Path: r.Path}) {
				return
			}
		}
	}
}

// Keeps reports false for a blob that is removed.
func (g *Given) Keeps(blob digest.Digest) bool {
	return !slices.ContainsFunc(g.Removals, func(r Removal) bool { return r.Kind == Blob && r.Digest == blob })
}

// WriteTo writes a plan file. It implements io.WriterTo.
func (g *Given) WriteTo(w io.Writer) (int64, error) {
	file := newFileWriter(w)
	file.encode(fileHeader{Plan: FileFormat, Storage: g.Storage, Time: g.Time.UTC(), Options: fileOptions{MinAge: "0s", UploadAge: "0s"}})
	file.removals(g.All())
	return file.close()
}
