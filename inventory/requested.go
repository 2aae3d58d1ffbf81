package inventory

import (
	"context"
	"fmt"
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

// dateTags stats the current links whose time the listing does not have, with Options.TagTimes.
func (b *builder) dateTags(ctx context.Context) error {
	if !b.options.TagTimes {
		return nil
	}
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
