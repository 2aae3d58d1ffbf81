package s3

import "math"

// What a division may cost, in requests beyond one for each thousand keys: a share of the pages
// that are expected, and so much in any case, which is that share of 100 pages.
const (
	costShare = 0.04
	costFree  = 4
	// A registry of fewer pages than smallPages has more to spend for each that it lacks, as
	// far as there are more than tinyPages to spend it on: a few requests that nobody
	// would miss, and its listing takes half as long.
	smallPages, tinyPages, smallShare = 150, 20, 0.4
	// keysForBlob is how many keys there may be in a registry for each blob, its own and
	// those of links to it.
	keysForBlob = 4
	// Of keys that may be ahead and may not, so many are counted as have been listed, times
	// this: what is spent on keys that turn out not to be there can't be had back.
	unsureListed = 0.15
)

// costMost is what a cut may cost for each page of the range that it ends, but where there is
// plenty to spend and little to spend it on.
const costMost = 0.06

// What a cut costs where nothing tells how much there is: vagueCost on average, since a range ends
// anywhere in a page, and emptyCost where there may be nothing behind the cut.
const vagueCost, emptyCost = 0.5, 1

// spent is what has been and, as far as that is known, will be spent beyond a request for each
// thousand keys, and what may be.
func (l *s3Division) spent(ahead float64) (spent, allowed float64) {
	spent = l.requests + float64(l.scouts) - l.listed/pageLength
	sure := 0.0
	for r := range l.active {
		spent += r.waste()
		sure += r.sure
	}
	unsure := min(max(0, ahead-sure), unsureListed*l.listed)
	keys := max(l.expected, l.listed+sure+unsure)
	return spent, max(l.free(ahead), costShare*keys/pageLength)
}

// free is what may be spent in any case, where so many keys are ahead.
func (l *s3Division) free(ahead float64) float64 {
	here := l.listed + ahead
	all := keysForBlob * here
	if l.names != nil {
		all = max(keysForBlob*l.expected, l.expected+here)
		for _, n := range l.known {
			if n.asked || !n.whole && !n.areDear() { // there may be any number of names
				return costFree
			}
		}
	}
	lacking, beyond := smallPages-all/pageLength, here/pageLength-tinyPages
	return costFree + smallShare*max(0, min(lacking, beyond))
}

// waste is how many requests may yet be made for a range beyond one for each thousand of
// its keys: what its last page lacks, or all of it if there turns out to be nothing.
func (r *s3Range) waste() float64 {
	if r.pages == 0 && r.ahead == 0 {
		return r.cost
	}
	return waste(r.ahead, r.variance)
}

// waste is that of a number of keys, which are spread normally.
func waste(keys, variance float64) float64 {
	if isVague(variance) {
		return vagueCost
	}
	pages, deviation := keys/pageLength, math.Sqrt(max(variance, leastVariance))/pageLength
	full := max(1, math.Floor(pages-4*deviation))
	requests := full
	for further := 1.0; further > 0.001; full++ {
		further = math.Erfc((full-pages)/deviation/math.Sqrt2) / 2 // how likely it takes another
		requests += further
	}
	return requests - pages
}

// leastVariance is that of 15 keys: no number is expected to be truer.
const leastVariance = 15 * 15

// isVague reports whether keys can't be told to half a page.
func isVague(variance float64) bool { return variance >= pageLength*pageLength/4 }

// aligned is the number of keys to wish for a range that is to have some pages. It is left short
// of them by some standard deviations: a page too many costs a request, one that is
// not quite full next to nothing.
func aligned(pages, variance float64) float64 {
	if isVague(variance) {
		return pages * pageLength
	}
	return pages*pageLength - margin*math.Sqrt(max(variance, leastVariance))
}

const margin = 1.4

// alignedCost is what that wastes, if keys come in lots: what is left short, half a lot, and the
// request that it takes now and then after all.
func alignedCost(variance, lot float64) float64 {
	return min(vagueCost, 0.08+(margin*math.Sqrt(variance)+lot/2)/pageLength)
}

// cutCost is what it costs to leave a range a number of pages: what the last of them lacks. What
// begins there ends where the range did.
func (r *s3Range) cutCost(pages float64) float64 {
	keys := pages * pageLength
	if r.span != nil {
		switch {
		case keys >= r.inSpan():
			return vagueCost
		case !r.span.even:
			return emptyCost
		}
		return alignedCost(r.span.variance(keys), 0)
	}
	for _, n := range r.levels {
		if left := n.left(r); left > 0 {
			each := n.each()
			if n.ranks < enoughNames || keys >= each*left {
				break
			}
			return alignedCost(n.variance(keys/each), each)
		}
	}
	return vagueCost
}

// bound is the key at which a range has about a number of pages, and the cost of a cut
// there. It is "" if there is none.
func (r *s3Range) bound(pages float64) (key string, cost float64) {
	cost = r.cutCost(pages)
	keys := pages * pageLength
	if r.span != nil {
		if r.unknownBehind() {
			// What lies behind is not known, and there may be more than here.
			return r.span.behind(), emptyCost
		}
		in := r.inSpan()
		if keys < in {
			wish := aligned(pages, r.span.variance(keys))
			return r.span.key(r.span.position(r.after) + wish/r.span.density()), cost
		}
		keys -= in
	}
	for _, n := range r.levels {
		left, each := n.left(r), n.each()
		switch {
		case left == 0:
			continue
		case n.ranks < enoughNames: // too few to know how much is in one
			return n.following(r, left/firstRanges), vagueCost
		case !n.tell() && r.span == nil: // the next pages tell
			return "", 0
		case keys < each*left:
			if r.span == nil {
				keys = aligned(keys/pageLength, n.variance(keys/each))
			}
			return n.following(r, keys/each-n.rest(r)), cost
		}
		keys -= each * (left + n.rest(r))
	}
	return "", 0
}

// share is the number of pages that a range should keep, so that what lies ahead
// everywhere is shared by as many ranges as there may be, and each is worth its cost.
func (l *s3Division) share(r *s3Range, ahead, left float64) float64 {
	pages, most := 2.0, costMost
	isSmall := l.free(ahead) > costFree
	if isSmall { // requests hardly count
		pages, most = 1, max(costMost, left*pageLength/ahead)
	}
	for _, n := range l.known {
		if len(n.names) > 0 && !n.whole && !n.areDear() {
			most = min(most, n.costMost())
		}
	}
	for {
		cost := r.cutCost(pages)
		ranges := min(float64(l.listers-l.scouts), float64(len(l.active))+max(0, left)/cost)
		isDear, isLittle := cost > most*pages, pages*pageLength*ranges < ahead
		if !isDear && !isLittle {
			break
		}
		pages++
		if isLittle { // there may be millions of pages, as far as that is known
			pages = max(pages, math.Floor(ahead/pageLength/ranges))
		}
	}
	if r.span != nil && r.span.even && !isSmall {
		pages = max(pages, math.Ceil(r.span.density()/pageLength/r.span.ranges()))
	}
	return pages
}
