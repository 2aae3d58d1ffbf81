package s3

import (
	"cmp"
	"context"
	"math"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"regsweep/storage"
	"regsweep/storage/pace"

	"golang.org/x/sync/errgroup"
)

// Scan lists the keys below dir, flat, and beside them the multipart uploads that
// nobody has completed. A listing of more than a few pages divides itself into ranges
// of keys, which are listed concurrently; see s3Division.
func (s *Store) Scan(ctx context.Context, dir string, visit func([]storage.Object) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.scanUploads(ctx, dir, visit) })
	l := newDivision(s.prefix, dir, s.Concurrency(), g, reusing(visit))
	l.page = func(ctx context.Context, after, token string) (s3Page, error) { return s.page(ctx, dir, after, token) }
	if dir == storage.RepositoriesDir {
		l.names = s.names
		l.expected = float64(s.blobs.Load())
	}
	l.begin(ctx)
	err := g.Wait()
	if err == nil && dir == storage.BlobsDir {
		s.blobs.Store(int64(l.listed))
	}
	return err
}

// s3Division is one listing that divides itself as it goes.
//
// Every page tells how densely keys lie where it was read, among digests (s3Span) and in
// names (s3Names), and with that what may lie ahead. Ranges are cut there, as long as there
// are listers and it pays: a cut may cost part of a request, for a last page that is not
// full or a range that turns out to be empty, and all together may cost a few percent of
// the pages that are expected. What they really have cost is known as the pages come.
// Names of repositories have to be listed first, a thousand with one request, which is paid
// from the same account.
//
// A range is only ever cut short ahead of where its reader is: what a page brings from
// beyond the cut is dropped, since the range that begins there brings it too. So a
// wrong guess costs time and never a key.
type s3Division struct {
	prefix  string // of all keys; a page's paths go without
	stem    string // prefix and the directory that is listed
	listers int    // bounds the requests under way
	group   *errgroup.Group
	visit   func([]storage.Object) error
	page    func(ctx context.Context, after, token string) (s3Page, error)
	// names lists the directories right below a prefix that come after a key; more is
	// set where there are more. It is nil where names are known to be digests.
	names func(ctx context.Context, prefix, after string) (names []string, more bool, err error)
	// expected is the least number of keys that may be expected; 0 if nothing is known.
	expected float64

	mu     sync.Mutex
	active map[*s3Range]bool
	spans  map[string]*s3Span  // by prefix and alphabet
	known  map[string]*s3Names // by prefix
	scouts int                 // listings of names under way
	// divided is set once there was a cut.
	divided bool
	// ungrouped is set when the server was found not to list names: then they are
	// guessed at like those of tags.
	ungrouped bool
	requests  float64 // so far
	listed    float64 // keys so far
}

func newDivision(prefix, dir string, listers int, group *errgroup.Group, visit func([]storage.Object) error) *s3Division {
	return &s3Division{
		prefix: prefix, stem: prefix + dir + "/", listers: listers, group: group, visit: visit,
		active: map[*s3Range]bool{}, spans: map[string]*s3Span{}, known: map[string]*s3Names{},
	}
}

// s3Range is the keys above after, up to and including upTo. What may change is
// guarded by the division's mutex.
type s3Range struct {
	after string
	token string // continues a listing that has come to after; "" if it has not begun
	upTo  string // "" is the end of the listing

	pages  int        // so far
	first  string     // of the last page that was read; "" if none was
	keys   float64    // of that page
	span   *s3Span    // in which the range goes on; nil if it is not known
	levels []*s3Names // that after lies in, the innermost first
	tail   float64    // keys of the name that it is in, so far
	tailIn *s3Names   // the level of that name; nil if not all of them were read

	// See s3Division.expect.
	ahead    float64 // keys that may be left, as far as that can be told
	variance float64 // of ahead; infinite if it is not known
	sure     float64 // keys that will most likely be left

	cost float64 // requests that it may take for nothing, before anything is known of it
}

// firstRanges is how many ranges tell how the keys lie before more are cut: 7 pages of
// digests give their density to 1.2%.
const firstRanges = 7

func (l *s3Division) begin(ctx context.Context) {
	l.mu.Lock()
	l.start(ctx, &s3Range{})
	l.mu.Unlock()
	l.divide(ctx) // names may be worth listing at once
}

// start starts the listing of a range. The caller holds l.mu.
func (l *s3Division) start(ctx context.Context, r *s3Range) {
	l.active[r] = true
	l.group.Go(func() error { return l.list(ctx, r) })
}

// list lists one range page by page.
func (l *s3Division) list(ctx context.Context, r *s3Range) error {
	for {
		token, asked := l.token(r), time.Now()
		page, err := l.page(ctx, r.after, token)
		if err != nil {
			return err
		}
		objects, more := l.take(r, page, token, time.Since(asked))
		l.divide(ctx)
		if err := storage.VisitPage(objects, l.visit); err != nil {
			return err
		}
		if !more {
			return nil
		}
	}
}

// token is what a range goes on with: a token of the server's or, with "", the last key. To
// a server that remembers listings by their tokens, as MinIO does, a token means that all
// up to the listing's end is wanted, and it makes ready for that: much work for a range,
// which ends long before, and as often as there are ranges. A key it looks up, which may be
// dear where very many lie together (see s3Toll). Where a server may understand a key in
// another way than it is meant, a token is safer.
func (l *s3Division) token(r *s3Range) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	divides := l.divided || len(l.known) > 0 && !l.ungrouped // names are listed for nothing else
	if divides && r.keys > 0 && isPlain(r.after) && (r.span == nil || r.span.isOpen()) {
		return ""
	}
	return r.token
}

// isPlain reports whether a key has nothing that needs an escape anywhere.
func isPlain(key string) bool {
	for i := range len(key) {
		if strings.IndexByte(nameAlphabet, key[i]) < 0 {
			return false
		}
	}
	return true
}

// take moves a range on past a page, and returns what of the page belongs to it. token is
// what the page was asked for with, or "", and took is how long it took.
func (l *s3Division) take(r *s3Range, page s3Page, token string, took time.Duration) (objects []storage.Object, more bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	objects, more = page.objects, page.token != ""
	if r.upTo != "" && page.last >= r.upTo {
		upTo := r.upTo[len(l.prefix):]
		objects = objects[:sort.Search(len(objects), func(i int) bool { return objects[i].Path > upTo })]
		more = false
	}
	r.pages++
	l.requests++
	l.listed += float64(len(objects))
	if !more {
		delete(l.active, r)
		return objects, false
	}
	before := r.after
	r.after, r.token, r.first, r.keys = page.last, page.token, "", float64(len(page.objects))
	if len(page.objects) > 0 {
		r.first = l.prefix + page.objects[0].Path
	}
	l.measure(r, before, page.objects)
	if r.span != nil {
		r.span.toll.note(took, token != "")
	}
	return objects, true
}

// measure notes how densely the keys of a range's last page lie, with which it came from
// before, and finds what tells of those ahead.
func (l *s3Division) measure(r *s3Range, before string, objects []storage.Object) {
	r.span = nil
	if r.first == "" {
		return
	}
	l.place(r)
	for _, n := range r.levels {
		n.note(r.keys, n.rank(r.after)-n.rank(r.first))
	}
	if len(r.levels) > 0 {
		r.levels[0].count(r, before, objects, len(l.prefix))
	}
	found := spanOf(l.stem, r.first, r.after, l.ungrouped)
	if found == nil {
		if n := l.known[dirOfNames(l.stem, r.first, r.after)]; n != nil && n.areDear() {
			found = n.spanOf(r.first, r.after)
		}
	}
	if found == nil {
		return
	}
	id := found.prefix + "\x00" + found.alphabet
	span := l.spans[id]
	if span == nil {
		span = found
		l.spans[id] = span
	}
	if width := span.position(r.after) - span.position(r.first); width > 0 {
		span.note(r.keys, width)
		r.span = span
	}
}

// place finds the levels of names that a range has come to, but for dear ones.
func (l *s3Division) place(r *s3Range) {
	r.levels = r.levels[:0]
	for at := len(r.after); at >= len(l.stem); at = 1 + strings.LastIndexByte(r.after[:at-1], '/') {
		if n := l.known[r.after[:at]]; n != nil && !n.areDear() {
			r.levels = append(r.levels, n)
		}
	}
}

// divide lists names and cuts ranges as long as it pays, and starts what comes of it.
func (l *s3Division) divide(ctx context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.active)+l.scouts < l.listers {
		ahead := l.expect()
		spent, allowed := l.spent(ahead)
		if l.scout(ctx, ahead, spent+1 <= allowed) {
			continue
		}
		next := l.cut(ahead, allowed-spent)
		if next == nil {
			return
		}
		l.place(next)
		l.divided = true
		l.start(ctx, next)
	}
}

// cut cuts the range that has most ahead of it, or leads to what nobody has seen, of
// those that have two pages and can pay for it.
func (l *s3Division) cut(ahead, left float64) *s3Range {
	promise := func(r *s3Range) float64 {
		if r.unknownBehind() && left >= 1 {
			return math.Inf(1)
		}
		return r.ahead
	}
	var wide []*s3Range
	for r := range l.active {
		if promise(r) >= 2*pageLength {
			wide = append(wide, r)
		}
	}
	slices.SortFunc(wide, func(a, b *s3Range) int { return cmp.Compare(promise(b), promise(a)) })
	for _, r := range wide {
		pages := l.share(r, ahead, left)
		if half := r.ahead / pageLength / 2; half < pages && !math.IsInf(r.variance, 1) {
			if half < leastPart*pages {
				continue // its end is known, and hardly anything would lie between
			}
			pages = max(1, math.Round(half))
		}
		bound, cost := r.bound(pages)
		if !l.isBound(bound, r) || cost > left || !r.mayEndAt(bound) {
			continue
		}
		next := &s3Range{after: bound, upTo: r.upTo, cost: cost}
		if r.span != nil && r.span.holds(bound) && r.span.even {
			next.span = r.span
		}
		r.upTo = bound
		return next
	}
	return nil
}

// leastPart is the part of what a range should keep that has to be left to another.
const leastPart = 0.7

// isBound reports whether a key lies ahead of a range's reader and in the range, and can't be
// understood in another way than it is meant: where a server begins too late nobody notices.
func (l *s3Division) isBound(key string, r *s3Range) bool {
	return key > r.after && (r.upTo == "" || key < r.upTo) && isPlain(strings.TrimSuffix(key[len(l.stem):], "~"))
}

// mayEndAt reports whether another range may begin at a key: where that is dear, only behind
// the span.
func (r *s3Range) mayEndAt(bound string) bool {
	return r.span == nil || !r.span.holds(bound) || bound == r.span.behind() || r.span.opens()
}

// scout lists names where a range has come to without knowing any, and more of them where
// there is too little ahead.
func (l *s3Division) scout(ctx context.Context, ahead float64, affordable bool) bool {
	if l.names == nil {
		return false
	}
	for r := range l.active {
		dir := l.namesAt(r)
		if dir == "" {
			continue
		}
		// The outermost level first.
		for at := len(l.stem); at < len(dir) && (r.pages < scoutPages || l.known[l.stem] == nil); at += 1 + strings.IndexByte(dir[at:], '/') {
			if l.known[dir[:at]] == nil {
				dir = dir[:at]
			}
		}
		n := l.known[dir]
		switch {
		case n == nil && affordable && (dir == l.stem || r.stays() && l.pays(dir)):
			n = &s3Names{prefix: strings.Clone(dir)}
			l.known[n.prefix] = n
		case n == nil || n.asked || n.whole || n.areDear():
			continue
		case ahead > namesAhead*pageLength*float64(l.listers) && r.after < n.last():
			continue
		case !affordable && (n.each() < namesPay || len(n.names) < manyNames):
			continue
		}
		n.asked = true
		l.scouts++
		l.group.Go(func() error { return l.learn(ctx, n) })
		return true
	}
	return false
}

// pays reports whether so much lies in a directory that a listing of the names in it pays.
func (l *s3Division) pays(dir string) bool {
	at := 1 + strings.LastIndexByte(dir[:len(dir)-1], '/')
	outer := l.known[dir[:at]]
	if outer == nil || len(outer.names) < 2 {
		return true
	}
	return outer.each()*costShare >= pageLength
}

// namesAhead is for how many pages of each lister names are listed ahead. Where names have
// few keys each it takes many of them to see what pays for as many ranges.
const namesAhead = 16

// namesPay is how many keys each of them has where a listing of the next thousand names pays: forty
// pages more than pay for the request. With fewer none are listed (see s3Names.areDear). Where there
// are manyNames already, as many may follow, and they are listed even if all is spent: without
// them nothing would be sure that could pay for anything else.
const namesPay, manyNames = 40, 2000

// scoutPages is how many pages a range reads in one directory before the names there are
// listed, unless it is known to have many: it may end with the next.
const scoutPages = 2

// namesAt is the directory whose names a range runs through, or "". In a registry that is
// small, and has more than a page, that can be told before the first page.
func (l *s3Division) namesAt(r *s3Range) string {
	isSmall := keysForBlob*l.expected < smallPages*pageLength
	if r.first == "" && r.after == "" && isSmall && l.expected >= scoutPages*pageLength {
		return l.stem
	}
	return dirOfNames(l.stem, r.first, r.after)
}

// stays reports whether a range is likely to read more in the directory it has come to.
func (r *s3Range) stays() bool {
	return r.pages >= scoutPages || r.span != nil && r.span.even && r.inSpan() >= 8*pageLength
}

// learn lists a thousand names.
func (l *s3Division) learn(ctx context.Context, n *s3Names) error {
	names, more, err := l.names(ctx, n.prefix, n.last())
	if err != nil && (ctx.Err() != nil || pace.Transient(err)) {
		return err
	}
	// A server that does not list names lists keys: without names there is no more
	// than a slower listing.
	l.mu.Lock()
	l.scouts--
	l.requests++
	isNew := len(n.names) == 0
	n.names = append(n.names, names...)
	n.whole, n.asked = !more, false
	if isNew && len(names) == 0 {
		l.ungrouped = true
	}
	for r := range l.active {
		l.place(r)
		if isNew && r.isIn(n) && r.first != "" {
			n.note(r.keys, max(0, n.rank(r.after)-n.rank(r.first)))
		}
	}
	if isNew {
		n.ranks++
	}
	l.mu.Unlock()
	l.divide(ctx)
	return nil
}
