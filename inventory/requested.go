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

// dateTags dates all tags, with Options.TagTimes.
func (b *builder) dateTags(ctx context.Context) error {
	if !b.options.TagTimes {
		return nil
	}
	var all []TagPlace
	for i, r := range b.inv.Repositories {
		for j := range r.Tags {
			all = append(all, TagPlace{i, j})
		}
	}
	return b.inv.DateTags(ctx, b.store, b.options.Concurrency, all)
}

// TagPlace is the place of a tag: the index of its repository, and its index there.
type TagPlace struct{ Repository, Tag int }

// DateTags makes TagPushed known for some tags. It stats the current links whose time the listing does not
// have. It must not be called concurrently with other methods.
func (inv *Inventory) DateTags(ctx context.Context, reader storage.Reader, concurrency int, tags []TagPlace) error {
	var unknown []TagPlace
	for _, at := range tags {
		r := inv.Repositories[at.Repository]
		if r.tagTimes == nil {
			r.tagTimes = make([]int64, len(r.Tags))
		}
		if r.tagTimes[at.Tag] == 0 && r.Tags[at.Tag].HasTarget {
			unknown = append(unknown, at)
		}
	}
	return storage.Each(ctx, len(unknown), concurrency, func(ctx context.Context, i int) error {
		r, tag := inv.Repositories[unknown[i].Repository], unknown[i].Tag
		object, err := reader.Stat(ctx, layout.TagPath(r.Name, r.Tags[tag].Name))
		switch {
		case storage.IsAbsent(err):
			return nil
		case err != nil:
			return fmt.Errorf("%s: %w", r.Name, err)
		case isPlausible(object.ModTime):
			r.tagTimes[tag] = object.ModTime.UnixNano()
		}
		return nil
	})
}

// Measure makes the sizes of some blobs exact, and HardLinked known for them. It stats those whose size
// the listing does not have. absent are the blobs that only have a directory: they get size 0. It must
// not be called concurrently with other methods.
func (inv *Inventory) Measure(ctx context.Context, reader storage.Reader, concurrency int, blobs []ID) (absent map[ID]bool, err error) {
	absent = map[ID]bool{}
	var mu sync.Mutex
	err = storage.Each(ctx, len(blobs), concurrency, func(ctx context.Context, i int) error {
		id := blobs[i]
		if _, exact := inv.Size(id); exact {
			return nil
		}
		object, err := reader.Stat(ctx, inv.BlobPath(id))
		if err != nil && !storage.IsAbsent(err) {
			return err
		}
		inv.SetSize(id, max(object.Size, 0))
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			absent[id] = true
		}
		if object.HardLinked {
			inv.hardLinked[id] = true
		}
		return nil
	})
	return absent, err
}

// isPlausible reports whether a file may have been written at a time. A file can have any time. One before 1970
// or far in the future says nothing, and some of the formats of a report can't hold it.
func isPlausible(t time.Time) bool { return t.Unix() > 0 && t.Year() < 2200 }
