package inventory

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"

	"regsweep/storage"
	"regsweep/storage/layout"
)

// tagsBuilder collects the tags of a repository. There may be millions of tags. So they are small
// and in one slice, without a map: of a current link only its target is kept once it is known.
// The objects of a tag follow one another unless a page ends between them. Such a tag is in several
// parts, and joinTags joins them at the end.
type tagsBuilder struct {
	all   []tagBuilder
	names sharedNames
	times map[string]int64 // by tag; nil unless Options.TagTimes is set and the listing has times
}

// sharedNames copies many names into one piece of memory: fewer pieces are less work for Go's
// garbage collector.
type sharedNames struct{ piece strings.Builder }

// firstPiece and lastPiece are the smallest and the largest size of a piece, in bytes. The first
// piece is small, since most repositories have few tags.
const firstPiece, lastPiece = 64, 4096

func (s *sharedNames) copy(name string) string {
	if s.piece.Len()+len(name) > s.piece.Cap() {
		next := min(max(firstPiece, 2*s.piece.Cap()), lastPiece)
		s.piece.Reset() // the names keep the old piece in memory
		s.piece.Grow(max(next, len(name)))
	}
	from := s.piece.Len()
	s.piece.WriteString(name)
	return s.piece.String()[from:]
}

type tagBuilder struct {
	name       string
	target     ID
	hasTarget  bool
	hasCurrent bool
	hasFirst   bool
	// first is the first entry of the index. Most indexes have no more.
	first Link
	more  []Link
	// current is the current link while its target is unknown.
	current *storage.Object
}

// named returns a tag, or the latest part of it. The pointer is valid until the next call.
func (t *tagsBuilder) named(name string) *tagBuilder {
	if n := len(t.all); n == 0 || t.all[n-1].name != name {
		t.all = append(t.all, tagBuilder{name: t.names.copy(name)})
	}
	return &t.all[len(t.all)-1]
}

// addIndex adds an entry of a tag's index. If the ETag of the current link proves that it contains
// this digest, the digest is the target.
func (t *tagBuilder) addIndex(e located, object storage.Object) {
	t.addEntry(newLink(e.id, provesContent(object, e.Digest)))
	if t.current != nil && provesContent(*t.current, e.Digest) {
		t.target, t.hasTarget, t.current = e.id, true, nil
	}
}

func (t *tagBuilder) addEntry(link Link) {
	if t.hasFirst {
		t.more = append(t.more, link)
	} else {
		t.first, t.hasFirst = link, true
	}
}

// appendIndex appends the entries of the index, in the order in which they were added.
func (t *tagBuilder) appendIndex(to []Link) []Link {
	if t.hasFirst {
		to = append(to, t.first)
	}
	return append(to, t.more...)
}

// addCurrent adds a tag's current link. Its target is nearly always in the tag's index. So the
// link's ETag is compared with the entries of the index, also with those that are listed later.
func (b *builder) addCurrent(rb *repositoryBuilder, t *tagBuilder, object storage.Object) {
	t.hasCurrent = true
	if b.options.TagTimes && isPlausible(object.ModTime) {
		if rb.tags.times == nil {
			rb.tags.times = map[string]int64{}
		}
		rb.tags.times[t.name] = object.ModTime.UnixNano()
	}
	if object.Content != nil {
		b.setTarget(rb, t, object.Content)
		return
	}
	if !b.findTarget(t, object) {
		t.current = keptObject(object)
	}
}

// findTarget sets the target of a tag if the current link's ETag proves that the link contains a
// digest of the index.
func (b *builder) findTarget(t *tagBuilder, current storage.Object) bool {
	for _, link := range t.appendIndex(nil) {
		own, _ := layout.ParseDigest(string(b.inv.Digest(link.ID())))
		if provesContent(current, own) {
			t.target, t.hasTarget, t.current = link.ID(), true, nil
			return true
		}
	}
	return false
}

// joinTags sorts a repository's tags, and joins the parts of each tag.
func (b *builder) joinTags(tags *tagsBuilder) {
	slices.SortStableFunc(tags.all, func(a, b tagBuilder) int { return cmp.Compare(a.name, b.name) })
	joined := tags.all[:0]
	for _, part := range tags.all {
		if n := len(joined); n > 0 && joined[n-1].name == part.name {
			b.join(&joined[n-1], part)
		} else {
			joined = append(joined, part)
		}
	}
	clear(tags.all[len(joined):])
	tags.all = joined
}

// join adds a later part of a tag.
func (b *builder) join(t *tagBuilder, later tagBuilder) {
	if later.hasCurrent {
		t.hasCurrent, t.current = true, later.current
	}
	if later.hasTarget {
		t.target, t.hasTarget = later.target, true
	}
	for _, link := range later.appendIndex(nil) {
		t.addEntry(link)
	}
	if t.current != nil {
		b.findTarget(t, *t.current)
	}
}

// setTarget parses the content of a tag's current link. The caller holds rb.mu.
func (b *builder) setTarget(rb *repositoryBuilder, t *tagBuilder, content []byte) {
	target, ok, detail := layout.LinkTarget(content)
	if !ok {
		rb.damaged(layout.TagPath(rb.r.Name, t.name), detail)
	}
	if target != "" {
		t.target, t.hasTarget = b.inv.ID(target), true
	}
	t.current = nil
}

func (b *builder) readTag(ctx context.Context, rb *repositoryBuilder, t *tagBuilder) error {
	content, err := b.store.Read(ctx, t.current.Path, layout.LinkLimit)
	isLost := errors.Is(err, fs.ErrNotExist) || storage.IsDamage(err)
	if err != nil && !isLost {
		return err
	}
	rb.mu.Lock()
	defer rb.mu.Unlock()
	if isLost {
		rb.damaged(t.current.Path, err.Error())
	} else {
		b.setTarget(rb, t, content)
	}
	return nil
}

// sealTags makes the repository's tags from the joined parts. All indexes are in one slice.
func (rb *repositoryBuilder) sealTags() {
	tags, entries := rb.tags.all, 0
	if rb.tags.times != nil {
		rb.r.tagTimes = make([]int64, len(tags))
	}
	for i := range tags {
		entries += 1 + len(tags[i].more)
	}
	rb.r.Tags = make([]Tag, 0, len(tags))
	indexes := make([]Link, 0, entries)
	for i := range tags {
		t, from := &tags[i], len(indexes)
		indexes = t.appendIndex(indexes)
		index := sealLinks(indexes[from:len(indexes):len(indexes)])
		if !t.hasCurrent {
			rb.r.Problems = append(rb.r.Problems, Problem{
				Kind: TagWithoutCurrent, Repository: rb.r.Name, Path: layout.TagPath(rb.r.Name, t.name), Effect: KeepsNamed,
				Detail: "the tag has an index but no current link: all that its index names is kept",
			})
		}
		if rb.r.tagTimes != nil {
			rb.r.tagTimes[i] = rb.tags.times[t.name]
		}
		rb.r.Tags = append(rb.r.Tags, Tag{Name: t.name, Target: t.target, HasTarget: t.hasTarget, Index: index})
	}
}
