package inventory

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
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
		if err := b.dateTags(ctx); err != nil {
			return err
		}
	}
	if !b.options.Sizes {
		return nil
	}
	// A plan does not stat a blob whose size is exact. So the inventory records what else that stat would
	// tell: whether the blob is recent, and whether its file has other hard links.
	var mu sync.Mutex
	b.inv.hardLinked = map[ID]bool{}
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
			b.inv.recent[id] = true
		}
		if object.HardLinked {
			mu.Lock()
			b.inv.hardLinked[id] = true
			mu.Unlock()
		}
		b.inv.SetSize(id, object.Size)
		return nil
	})
}

// dateTags stats the current links whose time the listing does not have: those of a filesystem.
func (b *builder) dateTags(ctx context.Context) error {
	type place struct{ repository, tag int }
	var unknown []place
	for i, r := range b.inv.Repositories {
		if r.tagTimes == nil {
			r.tagTimes = make([]int64, len(r.Tags))
		}
		for j, tag := range r.Tags {
			if r.tagTimes[j] == 0 && tag.HasTarget {
				unknown = append(unknown, place{i, j})
			}
		}
	}
	return storage.Each(ctx, len(unknown), b.options.Concurrency, func(ctx context.Context, i int) error {
		r, tag := b.inv.Repositories[unknown[i].repository], unknown[i].tag
		object, err := b.store.Stat(ctx, layout.TagPath(r.Name, r.Tags[tag].Name))
		switch {
		case isAbsent(err):
			return nil
		case err != nil:
			return fmt.Errorf("%s: %w", r.Name, err)
		case !object.ModTime.IsZero():
			r.tagTimes[tag] = object.ModTime.UnixNano()
		}
		return nil
	})
}

// isAbsent reports whether a path has no object that a registry could have written.
func isAbsent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, storage.ErrNotRegular)
}
