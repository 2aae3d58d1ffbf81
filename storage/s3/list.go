package s3

import (
	"context"
	"sort"
	"strings"
	"sync"

	"regsweep/storage"
	"regsweep/storage/pace"

	"golang.org/x/sync/errgroup"
)

// A page of a listing has 1,000 keys, and the next page begins after its last key. So one reader
// of a million keys waits for a thousand answers, one after the other. Many readers share the
// work: each reads a range of keys of its own.
//
// A listing begins as one range. While fewer requests run than may, the range that has the most
// pages left is split in half, and a new reader begins at the split. Where the middle lies is only
// a guess (see split.go). A range is only cut short ahead of its reader. The keys of a page that
// lie beyond the end of its range are dropped, because the reader of the next range gets them too.
// So a bad guess costs a request and never a key. Only the last request of a range can bring less
// than a full page of it. So each range costs at most one request more than its keys need, and
// the number of requests is bounded by a budget for ranges.

// Scan lists the keys below dir, and beside them the multipart uploads that nobody has completed.
func (s *Store) Scan(ctx context.Context, dir string, visit func([]storage.Object) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.scanUploads(ctx, dir, visit) })
	l := newDivision(s.prefix, dir, s.Concurrency(), g, reusing(visit))
	l.page = func(ctx context.Context, after, token string) (keyPage, error) { return s.page(ctx, dir, after, token) }
	if dir == storage.RepositoriesDir {
		l.names = s.names
	}
	l.begin(ctx)
	return g.Wait()
}

// budget is how many requests a listing may make in addition to one for each full page. A short
// listing may make fewer: budgetFirst, and one more for every fourth page that was read.
const budget, budgetFirst = 128, 32

// division is one listing that is divided into ranges.
type division struct {
	prefix  string // of all keys; the paths of a page do not have it
	stem    string // prefix and the directory that is listed
	listers int    // how many requests may run at once
	group   *errgroup.Group
	visit   func([]storage.Object) error
	page    func(ctx context.Context, after, token string) (keyPage, error)
	// names lists the directories directly below a prefix that come after a key. It is nil if
	// the directories have no names worth listing.
	names func(ctx context.Context, prefix, after string) (names []string, more bool, err error)

	mu      sync.Mutex
	ranges  map[*keyRange]bool    // each has a reader
	dirs    map[string]*directory // whose names were listed, by their prefix
	asking  int                   // requests for names that are running
	pages   int                   // that were read
	wasted  float64               // what ended ranges and names have cost of the budget
	isMinIO bool                  // a token of MinIO was seen
}

// keyRange has the keys above after, up to and including upTo. The mutex of its listing guards it.
type keyRange struct {
	after string
	token string // continues the listing of the server after the last page
	upTo  string // "" is the end of the listing

	// The last page, to guess where the middle of the range lies. See split.go.
	first string // key of the page; "" if no page was read
	ruler ruler
	// splitBehind and splitWithin are set once the range was split since the page: behind or within the
	// part of the keys that the page tells about.
	splitBehind, splitWithin bool
	byToken                  bool // the range is in a huge directory of MinIO, and continues with the token
}

func newDivision(prefix, dir string, listers int, group *errgroup.Group, visit func([]storage.Object) error) *division {
	return &division{
		prefix: prefix, stem: prefix + dir + "/", listers: listers, group: group, visit: visit,
		ranges: map[*keyRange]bool{}, dirs: map[string]*directory{},
	}
}

func (l *division) begin(ctx context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.start(ctx, &keyRange{})
}

// start starts the reader of a range. The caller holds l.mu.
func (l *division) start(ctx context.Context, r *keyRange) {
	l.ranges[r] = true
	l.group.Go(func() error { return l.read(ctx, r) })
}

// read reads one range page by page.
func (l *division) read(ctx context.Context, r *keyRange) error {
	for more := true; more; {
		page, err := l.page(ctx, r.after, l.token(r))
		if err != nil {
			return err
		}
		var objects []storage.Object
		objects, more = l.take(r, page)
		l.divide(ctx)
		if err := storage.VisitPage(objects, l.visit); err != nil {
			return err
		}
	}
	return nil
}

// token returns the token that the next page is requested with. If it is "", the page is requested
// by the last key. A token tells MinIO to list everything up to the end of the listing, which is
// far more than a range needs. After a page without keys there is only the token. A key that has to
// be escaped is safer with a token: servers may differ in what they take it for.
func (l *division) token(r *keyRange) string {
	if r.first != "" && isPlain(r.after) && !r.byToken {
		return ""
	}
	return r.token
}

// take moves a range past a page, and returns the objects of the page that belong to the range.
func (l *division) take(r *keyRange, page keyPage) (objects []storage.Object, more bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	objects, more = page.objects, page.token != ""
	if r.upTo != "" && page.last >= r.upTo {
		upTo := r.upTo[len(l.prefix):]
		objects = objects[:sort.Search(len(objects), func(i int) bool { return objects[i].Path > upTo })]
		more = false
	}
	l.pages++
	if !more {
		delete(l.ranges, r)
		l.wasted += max(0, 1-float64(len(objects))/pageLength)
		return objects, false
	}
	r.after, r.token, r.first = page.last, page.token, ""
	if len(objects) > 0 {
		r.first, r.splitBehind, r.splitWithin = l.prefix+objects[0].Path, false, false
		r.ruler = newRuler(l.prefix, l.stem, r.first, r.after, objects)
		l.isMinIO = l.isMinIO || isMinIOToken(page.token)
		r.byToken = l.isMinIO && r.ruler.isHuge(r)
	}
	return objects, true
}

// divide splits ranges while requests may be added, and the budget allows it.
func (l *division) divide(ctx context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.ranges)+l.asking < l.listers && l.spent() < float64(min(budget, budgetFirst+l.pages/4)) {
		var largest *keyRange
		var best split
		for r := range l.ranges {
			if s := l.half(r); s.pages > best.pages && (s.dir != "" || l.isBound(s.bound, r)) {
				largest, best = r, s
			}
		}
		switch {
		case largest == nil:
			return
		case best.dir != "":
			l.ask(ctx, best.dir)
			continue
		case best.behind:
			largest.splitBehind = true
		default:
			largest.splitWithin = true
		}
		next := &keyRange{after: best.bound, upTo: largest.upTo}
		largest.upTo = best.bound
		l.start(ctx, next)
	}
}

// spent is how much of the budget is used if each range turns out to be as bad as it can.
func (l *division) spent() float64 { return l.wasted + float64(len(l.ranges)+l.asking) }

// isBound reports whether a range can end at a key: ahead of its reader, and where all servers
// understand the key in the same way. If a server began after a later key, nobody would notice.
func (l *division) isBound(key string, r *keyRange) bool {
	return key > r.after && (r.upTo == "" || key < r.upTo) && isPlain(strings.TrimSuffix(key[len(l.stem):], "~"))
}

// isPlain reports whether a key has only characters that need no escape anywhere.
func isPlain(key string) bool {
	for i := range len(key) {
		if strings.IndexByte(plainCharacters, key[i]) < 0 {
			return false
		}
	}
	return true
}

const plainCharacters = "-./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"

// ask lists the first names of a directory. The caller holds l.mu.
func (l *division) ask(ctx context.Context, prefix string) {
	d := &directory{}
	l.dirs[strings.Clone(prefix)] = d
	l.asking++
	l.group.Go(func() error {
		names, more, err := l.names(ctx, prefix, "")
		if err != nil && (ctx.Err() != nil || pace.Transient(err)) {
			return err
		}
		// A server that can't list names has none, and the splits are worse.
		l.mu.Lock()
		l.asking--
		l.wasted++
		d.names, d.more = names, more
		l.mu.Unlock()
		l.divide(ctx)
		return nil
	})
}
