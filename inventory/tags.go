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

// tagsBuilder is a repository's tags in the making. There may be millions, so that they
// lie in one slice and are small: of a current link only what it says is kept, once that
// is known; and no map finds them. The keys of a tag follow one another but where a page
// ends, and what comes in parts is put together once all has come.
type tagsBuilder struct {
	all   []tagBuilder
	names sharedNames
}

// sharedNames copies names, many into one piece of memory: the garbage collector has to
// come to each piece that there is.
type sharedNames struct{ piece strings.Builder }

// What a piece has of bytes: the first one little, since most repositories have few tags.
const firstPiece, lastPiece = 64, 4096

func (s *sharedNames) copy(name string) string {
	if s.piece.Len()+len(name) > s.piece.Cap() {
		next := min(max(firstPiece, 2*s.piece.Cap()), lastPiece)
		s.piece.Reset() // the names in the one before stay what they are
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
	// first is the index's first entry; most have no more.
	first Link
	more  []Link
	// current is the current link, if it is not known yet what it says.
	current *storage.Object
}

// named returns a tag or the latest part of one, which is valid until the next is asked for.
func (t *tagsBuilder) named(name string) *tagBuilder {
	if n := len(t.all); n == 0 || t.all[n-1].name != name {
		t.all = append(t.all, tagBuilder{name: t.names.copy(name)})
	}
	return &t.all[len(t.all)-1]
}

// addIndex adds an entry of a tag's index. It settles what the current link says, if its
// ETag says so.
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

// appendIndex appends the entries of the index, as they came.
func (t *tagBuilder) appendIndex(to []Link) []Link {
	if t.hasFirst {
		to = append(to, t.first)
	}
	return append(to, t.more...)
}

// addCurrent adds a tag's current link. What it says is verified by its ETag, if an entry
// of the tag's index proposes it: one that was listed before, or that comes later.
func (b *builder) addCurrent(rb *repositoryBuilder, t *tagBuilder, object storage.Object) {
	t.hasCurrent = true
	if object.Content != nil {
		b.setTarget(rb, t, object.Content)
		return
	}
	if !b.settleCurrent(t, object) {
		t.current = keptObject(object)
	}
}

// settleCurrent finds out what a current link says, if its ETag is that of an entry of the
// index.
func (b *builder) settleCurrent(t *tagBuilder, current storage.Object) bool {
	for _, link := range t.appendIndex(nil) {
		own, _ := layout.ParseDigest(string(b.inv.Digest(link.ID())))
		if provesContent(current, own) {
			t.target, t.hasTarget, t.current = link.ID(), true, nil
			return true
		}
	}
	return false
}

// joinTags sorts a repository's tags, and makes one of the parts of each.
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

// join adds a part of a tag that came later.
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
		b.settleCurrent(t, *t.current)
	}
}

// setTarget notes what a tag's current link says. The caller holds rb.mu.
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

// sealTags makes the repository's tags of what was collected and joined. All their indexes
// lie in one slice.
func (rb *repositoryBuilder) sealTags() {
	tags, entries := rb.tags.all, 0
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
		rb.r.Tags = append(rb.r.Tags, Tag{Name: t.name, Target: t.target, HasTarget: t.hasTarget, Index: index})
	}
}
