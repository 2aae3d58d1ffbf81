package storage

import (
	"context"
	"math"
	"sort"
	"sync"

	"golang.org/x/sync/errgroup"
)

// Scan lists the keys below dir, flat, and beside them the multipart uploads that
// nobody has completed. A listing of more than a few pages divides itself into ranges
// of keys, which are listed concurrently; see s3Division.
func (s *s3Store) Scan(ctx context.Context, dir string, visit func([]Object) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.scanUploads(ctx, dir, visit) })
	newDivision(s.prefix, dir, s.Concurrency(), g, visit, func(ctx context.Context, after, token string) (s3Page, error) {
		return s.page(ctx, dir, after, token)
	}).start(ctx, &s3Range{})
	return g.Wait()
}

// s3Division is one listing that divides itself as it goes.
//
// Every page tells how densely keys lie where it was read (see s3Span), and with that
// where a number of pages ahead may end. After each page ranges are cut there, the
// widest first, as long as there is room under listers and it pays: a cut may cost
// part of a request, for a last page that is not full or a range that turns out to be
// empty, and all together may cost a few percent of the pages that are expected. What
// they really have cost is known as the pages come.
//
// A range is only ever cut short ahead of where its reader is: what a page brings from
// beyond the cut is dropped, since the range that begins there brings it too. So a
// wrong guess costs time and never a key.
type s3Division struct {
	prefix  string // of all keys; a page's paths go without
	stem    string // prefix and the directory that is listed
	listers int    // bounds the requests under way
	group   *errgroup.Group
	visit   func([]Object) error
	page    func(ctx context.Context, after, token string) (s3Page, error)

	mu     sync.Mutex
	active map[*s3Range]bool
	spans  map[string]*s3Span // by prefix and alphabet
	pages  float64            // so far
	listed float64            // keys so far
}

// s3Range is the keys above after, up to and including upTo. What may change is
// guarded by the division's mutex.
type s3Range struct {
	after string
	token string // continues a listing that has come to after; "" starts one
	upTo  string // "" is the end of the listing

	span  *s3Span // where after lies; nil if nothing is known
	ahead float64 // keys that may be left in the span
	fresh bool    // no page of its own yet
	cost  float64 // requests that it may take beyond its keys
}

// What cuts may cost together: a share of the pages expected, and a few in any case.
const (
	costShare = 0.04
	costFree  = 6
)

// chunk is the least number of pages that a range of names is cut to. Names lie as
// they please, so that on average half a page is lost at each end.
const chunk = 10

func newDivision(prefix, dir string, listers int, group *errgroup.Group, visit func([]Object) error,
	page func(ctx context.Context, after, token string) (s3Page, error),
) *s3Division {
	return &s3Division{
		prefix: prefix, stem: prefix + dir + "/", listers: listers, group: group, visit: visit, page: page,
		active: map[*s3Range]bool{}, spans: map[string]*s3Span{},
	}
}

func (l *s3Division) start(ctx context.Context, r *s3Range) {
	l.mu.Lock()
	l.active[r] = true
	l.mu.Unlock()
	l.group.Go(func() error { return l.list(ctx, r) })
}

// list lists one range page by page.
func (l *s3Division) list(ctx context.Context, r *s3Range) error {
	for {
		page, err := l.page(ctx, r.after, r.token)
		if err != nil {
			return err
		}
		objects, more := l.take(r, page)
		for _, next := range l.divide() {
			l.group.Go(func() error { return l.list(ctx, next) })
		}
		if err := visitPage(objects, l.visit); err != nil {
			return err
		}
		if !more {
			return nil
		}
	}
}

// take moves a range on past a page, and returns what of the page belongs to it.
func (l *s3Division) take(r *s3Range, page s3Page) (objects []Object, more bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	objects, more = page.objects, page.token != ""
	if r.upTo != "" && page.last >= r.upTo {
		upTo := r.upTo[len(l.prefix):]
		objects = objects[:sort.Search(len(objects), func(i int) bool { return objects[i].Path > upTo })]
		more = false
	}
	l.pages++
	l.listed += float64(len(objects))
	if !more {
		delete(l.active, r)
		return objects, false
	}
	r.after, r.token, r.fresh, r.span, r.ahead = page.last, page.token, false, nil, 0
	if len(page.objects) > 0 {
		l.measure(r, l.prefix+page.objects[0].Path, float64(len(page.objects)))
	}
	return objects, true
}

// measure notes how densely the keys of a range's last page lie.
func (l *s3Division) measure(r *s3Range, first string, keys float64) {
	found := spanOf(l.stem, first, r.after)
	if found == nil {
		return
	}
	name := found.prefix + "\x00" + found.alphabet
	span := l.spans[name]
	if span == nil {
		span = found
		l.spans[name] = span
	}
	from, to := span.position(first), span.position(r.after)
	if to <= from {
		return
	}
	if !span.even {
		span.keys, span.width = 0, 0 // what holds for some names does not for the next
	}
	span.keys += keys
	span.width += to - from
	r.span = span
	r.ahead = span.density() * (r.end() - to)
}

// end is where the range ends within its span, from 0 to 1.
func (r *s3Range) end() float64 {
	if r.goesOn() {
		return 1
	}
	return r.span.position(r.upTo)
}

// goesOn reports whether the range goes on behind its span.
func (r *s3Range) goesOn() bool { return r.upTo == "" || !r.span.holds(r.upTo) }

// divide cuts ranges as long as it pays, and returns the new ones.
func (l *s3Division) divide() (cut []*s3Range) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.active) < l.listers {
		spent, allowed := l.spent()
		r := l.widest()
		if r == nil {
			break
		}
		next := r.cut(l.pagesFor(r))
		if next == nil {
			r.ahead = 0 // it can't be cut: look at it again after its next page
			continue
		}
		if spent+next.cost > allowed {
			r.upTo = next.upTo
			break
		}
		l.active[next] = true
		cut = append(cut, next)
	}
	return cut
}

// spent is what all cuts have cost and may yet cost, in requests, and what they may.
func (l *s3Division) spent() (spent, allowed float64) {
	keys := l.listed
	spent = l.pages - l.listed/s3PageLength
	for r := range l.active {
		spent += r.cost
		if r.span != nil && r.span.even {
			keys += r.ahead // of names, one can't tell
		}
	}
	return spent, max(costFree, costShare*keys/s3PageLength)
}

// widest is the range that has most ahead of it, and at least two pages.
func (l *s3Division) widest() *s3Range {
	var widest *s3Range
	for r := range l.active {
		if r.span != nil && r.ahead >= 2*s3PageLength && (widest == nil || r.ahead > widest.ahead) {
			widest = r
		}
	}
	return widest
}

// pagesFor is the number of pages that a range should keep: its share among the
// listers that are free, where what lies ahead can be told, and a chunk where it can't.
func (l *s3Division) pagesFor(r *s3Range) float64 {
	if r.span.even {
		return max(2, math.Ceil(r.ahead/s3PageLength/float64(l.listers-len(l.active)+1)))
	}
	return max(chunk, math.Ceil(l.listed/s3PageLength/float64(l.listers)))
}

// cut lets a range keep a number of pages, and returns the rest of it.
func (r *s3Range) cut(pages float64) *s3Range {
	keys := pages * s3PageLength
	cost := 0.5
	if r.span.even {
		// A little less than whole pages: a page too many costs a request, one that
		// is not quite full next to nothing. How much less depends on how evenly
		// digests lie and on how well their density is known.
		doubt := math.Sqrt(keys + keys*keys/r.span.keys)
		keys -= 1.6 * doubt
		cost = min(0.5, 0.1+1.6*doubt/s3PageLength)
	}
	at := r.span.position(r.after) + keys/r.span.density()
	bound := r.span.key(at)
	next := &s3Range{upTo: r.upTo, span: r.span, fresh: true, cost: cost}
	if at >= r.end() || r.upTo != "" && bound >= r.upTo {
		// What is expected in the span is not worth a cut, but what lies behind it is.
		if !r.goesOn() {
			return nil
		}
		// No character that names are made of comes after a tilde. Should there be
		// one, it lies behind.
		bound, next.span = r.span.prefix+"~", nil
		next.cost = 0.8
	} else if next.span != nil && !next.span.even {
		next.span = nil // what comes will tell
	}
	if bound <= r.after || r.upTo != "" && bound >= r.upTo {
		return nil
	}
	next.after, r.upTo = bound, bound
	if next.span != nil {
		next.ahead = next.span.density() * (next.end() - at)
	}
	r.ahead = r.span.density() * (r.end() - r.span.position(r.after))
	return next
}

func visitPage(page []Object, visit func([]Object) error) error {
	if len(page) == 0 {
		return nil
	}
	return visit(page)
}
