package inventory

import (
	"context"
	"fmt"
	"sync"
	"time"

	"regsweep/storage"
	"regsweep/storage/layout"
)

// TagPushed returns when a tag was pushed: the time at which its current link was last written. tag is
// its index in Tags. The time is zero if the tag has no target, and without Options.TagTimes.
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
		object, err := b.store.Stat(ctx, b.inv.BlobPath(id))
		if storage.IsAbsent(err) {
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
		case storage.IsAbsent(err):
			return nil
		case err != nil:
			return fmt.Errorf("%s: %w", r.Name, err)
		case !object.ModTime.IsZero():
			r.tagTimes[tag] = object.ModTime.UnixNano()
		}
		return nil
	})
}
