package inventory

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"io/fs"
	"strings"

	"regsweep/storage"
	"regsweep/storage/layout"

	"golang.org/x/sync/errgroup"
)

// pendingLink is a link that has to be read, or needs a stat, after the scan.
type pendingLink struct {
	object      storage.Object
	entry       located
	needContent bool
	needTime    bool
}

// keptObject is a copy of an object that does not keep its page in memory.
func keptObject(o storage.Object) *storage.Object {
	o.Path, o.ETag = strings.Clone(o.Path), strings.Clone(o.ETag)
	return &o
}

// postpone records a link that has to be read, or needs a stat, after the scan.
func (rb *repositoryBuilder) postpone(object storage.Object, e located, needContent, needTime bool) {
	kept := keptObject(object)
	rb.pending = append(rb.pending, pendingLink{
		object: *kept, entry: located{layout.Parse(kept.Path), e.id}, needContent: needContent, needTime: needTime,
	})
}

// provesContent reports whether the ETag in a listing proves that a link contains the digest in
// its path. For an object that was put with one request, without encryption or with SSE-S3, the
// ETag of S3 is the MD5 of the content. Any other ETag can't be equal to this MD5 by accident.
func provesContent(object storage.Object, own layout.Name) bool {
	if object.ETag == "" {
		return false
	}
	if object.Size != int64(len(own.Alg)+1+len(own.Hex)) || len(object.ETag) != 2*md5.Size {
		return false
	}
	var buffer [len("sha512:") + 128]byte
	content := append(append(append(buffer[:0], own.Alg...), ':'), own.Hex...)
	sum := md5.Sum(content)
	var etag [2 * md5.Size]byte
	hex.Encode(etag[:], sum[:])
	return object.ETag == string(etag[:])
}

// readLinks reads the links and the startedat files whose content the scan did not return.
func (b *builder) readLinks(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(b.options.Concurrency)
	for _, rb := range b.repositories {
		for _, p := range rb.pending {
			g.Go(func() error { return b.readPending(ctx, rb, p) })
		}
		rb.pending = nil
		b.joinTags(&rb.tags)
		for i := range rb.tags.all {
			if t := &rb.tags.all[i]; t.current != nil {
				g.Go(func() error { return b.readTag(ctx, rb, t) })
			}
		}
		for _, u := range rb.uploads {
			if u.startedat != nil && u.startedat.Content == nil {
				g.Go(func() error {
					content, err := b.store.Read(ctx, u.startedat.Path, layout.LinkLimit)
					if err = storage.IgnoreDamage(err); err == nil {
						u.startedat.Content = content
					} else if pathErr := (*fs.PathError)(nil); errors.As(err, &pathErr) {
						u.failure, err = err, nil // only this file can't be read
					}
					return err
				})
			}
		}
	}
	return g.Wait()
}

func (b *builder) readPending(ctx context.Context, rb *repositoryBuilder, p pendingLink) error {
	if p.needContent {
		content, err := b.store.Read(ctx, p.object.Path, layout.LinkLimit)
		if errors.Is(err, fs.ErrNotExist) && p.object.Named { // perhaps only the directory exists
			isThere, statErr := IsThere(ctx, b.store, p.object.Path)
			if statErr != nil {
				return statErr
			}
			if !isThere {
				rb.mu.Lock()
				rb.r.Emptied = append(rb.r.Emptied, strings.TrimSuffix(p.object.Path, "/"+layout.LinkFile))
				rb.mu.Unlock()
				return nil
			}
		}
		switch {
		case errors.Is(err, fs.ErrNotExist), storage.IsDamage(err):
			// Nobody deletes from a read-only registry. So if a listed link is not found,
			// the storage fails, and the link may exist.
			rb.mu.Lock()
			rb.damaged(p.object.Path, err.Error())
			rb.mu.Unlock()
		case err != nil:
			return err
		}
		p.object.Content = content
	}
	if p.needTime {
		object, err := b.store.Stat(ctx, p.object.Path)
		isLost := errors.Is(err, fs.ErrNotExist) || storage.IsDamage(err)
		if isLost && p.object.Named && !p.needContent { // perhaps only the directory exists
			exists, _, readErr := CheckLink(ctx, b.store, p.object.Path)
			if readErr != nil {
				return readErr
			}
			if !exists {
				return nil
			}
		}
		switch {
		case isLost:
			// The link was listed or read, and its time is unknown. It may be recent.
			rb.mu.Lock()
			rb.damaged(p.object.Path, err.Error())
			rb.mu.Unlock()
		case err != nil:
			return err
		}
		p.object.ModTime = object.ModTime
	}
	rb.mu.Lock()
	defer rb.mu.Unlock()
	switch {
	case p.entry.Kind == layout.Stray:
		b.pin(rb, p.object)
	case p.needContent || p.entry.Kind == layout.Revision:
		b.addKnown(rb, p.object, p.entry, !p.needContent || p.object.Content != nil)
	default:
		b.noteRecent(rb, p.entry, p.object)
	}
	return nil
}
