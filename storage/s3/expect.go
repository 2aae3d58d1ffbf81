package s3

import (
	"math"
	"slices"
)

// expect tells what lies ahead of every range: in its span and, level by level, in the
// names that follow, each of which has as much as those that were come to.
func (l *s3Division) expect() (ahead float64) {
	for r := range l.active {
		r.expectInSpan()
	}
	for n := l.innermost(); n != nil; n = l.innermost() {
		n.counted = true
		n.look(l.active)
		for r := range l.active {
			if r.isIn(n) {
				r.expectNames(n)
			}
		}
	}
	for r := range l.active {
		for _, n := range r.levels {
			n.counted = false
		}
		ahead += r.ahead
	}
	return ahead
}

// innermost is one of the innermost levels of names that were not counted yet: what is
// expected in the outer ones rests on it.
func (l *s3Division) innermost() (next *s3Names) {
	for r := range l.active {
		for _, n := range r.levels {
			if !n.counted && (next == nil || len(n.prefix) > len(next.prefix)) {
				next = n
			}
		}
	}
	return next
}

// expectInSpan begins with what lies in the range's span. More may follow in the directory.
func (r *s3Range) expectInSpan() {
	r.ahead, r.sure, r.variance = r.inSpan(), 0, 0
	if r.span == nil {
		if len(r.levels) == 0 {
			r.variance = math.Inf(1)
		}
		return
	}
	r.variance = r.span.variance(r.ahead)
	if r.span.even {
		r.sure = r.ahead
	}
	if r.goesOn() {
		r.variance = math.Inf(1)
	}
}

// expectNames adds what lies in those of a level's names that follow, and in what is left of
// the one that the range is in.
func (r *s3Range) expectNames(n *s3Names) {
	if names := n.left(r) + n.rest(r); names > 0 {
		keys, variance := n.each()*names, n.variance(names)
		r.ahead += keys
		r.sure += max(0, keys-2*math.Sqrt(variance))
		r.variance += variance
	}
	if !n.whole && (r.upTo == "" || r.upTo > n.last()) && (r.span == nil || r.goesOn()) {
		r.variance = math.Inf(1) // more names follow
	}
}

// inSpan is how many keys a range may have left in its span.
func (r *s3Range) inSpan() float64 {
	if r.span == nil {
		return 0
	}
	return max(0, r.span.density()*(r.end()-r.span.position(r.after)))
}

func (r *s3Range) isIn(n *s3Names) bool { return slices.Contains(r.levels, n) }

// end is where the range ends in its span, from 0 to 1.
func (r *s3Range) end() float64 {
	if r.goesOn() {
		return 1
	}
	return r.span.position(r.upTo)
}

// goesOn reports whether the range goes on behind its span.
func (r *s3Range) goesOn() bool { return r.upTo == "" || !r.span.holds(r.upTo) }

// unknownBehind reports whether a range leads from a long span to what nobody has seen:
// there may be more than here.
func (r *s3Range) unknownBehind() bool {
	if r.span == nil || r.span.doubled || !r.goesOn() {
		return false
	}
	if r.span.even {
		return r.inSpan() >= 8*pageLength
	}
	return r.inSpan() < 2*pageLength && r.pages >= 3
}
