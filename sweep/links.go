package sweep

import (
	"slices"
	"sort"

	"regsweep/mark"
)

// links are links that go, by repository: 4 bytes each, since there may be millions.
type links struct {
	at   []uint32 // places among the links of their repository
	upTo []int    // by repository: how many of at are its own, or of those before it
}

// link is one of them: its repository's place in the inventory, and its own in that.
type link struct{ repository, at int }

// deadLinks are the links that nothing keeps. of gives the causes of a repository's, in
// the order of the links.
func deadLinks(live *mark.Live, of func(*mark.Repository) []mark.Cause) links {
	dead := 0
	each := func(visit func(at int), done func()) {
		for _, r := range live.Repositories {
			for at, cause := range of(r) {
				if cause == mark.Dead {
					visit(at)
				}
			}
			done()
		}
	}
	each(func(int) { dead++ }, func() {})
	l := links{at: make([]uint32, 0, dead), upTo: make([]int, 0, len(live.Repositories))}
	each(func(at int) { l.at = append(l.at, uint32(at)) }, func() { l.upTo = append(l.upTo, len(l.at)) })
	return l
}

func (l *links) len() int { return len(l.at) }

func (l *links) get(i int) link {
	repository := sort.Search(len(l.upTo), func(r int) bool { return l.upTo[r] > i })
	return link{repository, int(l.at[i])}
}

// ofRepository are the places of one repository's links.
func (l *links) ofRepository(r int) []uint32 {
	from := 0
	if r > 0 {
		from = l.upTo[r-1]
	}
	return l.at[from:l.upTo[r]]
}

// order sorts each repository's links.
func (l *links) order(compare func(repository int, a, b uint32) int) {
	for r := range l.upTo {
		slices.SortFunc(l.ofRepository(r), func(a, b uint32) int { return compare(r, a, b) })
	}
}
