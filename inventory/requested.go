package inventory

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"regsweep/storage"
	"regsweep/storage/layout"
)

// TagPushed is when a tag of the repository was pushed, by its index: when its current link was last
// written. It is zero if the tag has no target, and without Options.TagTimes.
func (r *Repository) TagPushed(tag int) time.Time {
	if r.tagTimes == nil || r.tagTimes[tag] == 0 {
		return time.Time{}
	}
	return time.Unix(0, r.tagTimes[tag])
}

// request adds to an inventory the data that Options ask for, as far as the listing does not have it.
func (b *builder) request(ctx context.Context) error {
	if b.options.TagTimes {
		for _, r := range b.inv.Repositories {
			if err := b.dateTags(ctx, r); err != nil {
				return fmt.Errorf("%s: %w", r.Name, err)
			}
		}
	}
	if !b.options.Sizes {
		return nil
	}
	return storage.Each(ctx, b.inv.Blobs(), b.options.Concurrency, func(ctx context.Context, i int) error {
		id := ID(i)
		if _, exact := b.inv.Size(id); exact {
			return nil
		}
		object, err := StatBlob(ctx, b.store, b.inv, id)
		if isAbsent(err) {
			return nil
		}
		if err != nil {
			return err
		}
		if b.isRecent(object) {
			b.inv.recent[id] = true // a plan does not stat a blob whose size is exact
		}
		b.inv.SetSize(id, object.Size)
		return nil
	})
}

// dateTags stats the current links whose time the listing does not have: those of a filesystem.
func (b *builder) dateTags(ctx context.Context, r *Repository) error {
	if r.tagTimes == nil {
		r.tagTimes = make([]int64, len(r.Tags))
	}
	return storage.Each(ctx, len(r.Tags), b.options.Concurrency, func(ctx context.Context, i int) error {
		if r.tagTimes[i] != 0 || !r.Tags[i].HasTarget {
			return nil
		}
		object, err := b.store.Stat(ctx, layout.TagPath(r.Name, r.Tags[i].Name))
		if isAbsent(err) {
			return nil
		}
		if err == nil && !object.ModTime.IsZero() {
			r.tagTimes[i] = object.ModTime.UnixNano()
		}
		return err
	})
}

// isAbsent reports whether a path has no object that a registry could have written.
func isAbsent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, storage.ErrNotRegular)
}
