package sweep

import (
	"slices"
	"sort"
	"strings"

	"regsweep/inventory"
	"regsweep/mark"
)

// links are links that go: 4 bytes each, since there may be millions, and no slice of
// all, for which memory would have to be found in one piece.
type links struct {
	of   [][]uint32 // by repository: places among its links
	upTo []int      // by repository: how many there are of it, and of those before it
}

// link is one of them: its repository's place in the inventory, and its own in that.
type link struct{ repository, at int }

// deadLinks are the links that nothing keeps and that may go. of gives the causes of a
// repository's, in the order of the links.
func deadLinks(live *mark.Live, of func(*mark.Repository) mark.Causes, mayGo func(repository, at int) bool) links {
	l := links{of: make([][]uint32, len(live.Repositories)), upTo: make([]int, len(live.Repositories))}
	n := 0
	for i, r := range live.Repositories {
		dead := 0
		for at, cause := range of(r).All() {
			if cause == mark.Dead && mayGo(i, at) {
				dead++
			}
		}
		l.of[i] = make([]uint32, 0, dead)
		for at, cause := range of(r).All() {
			if cause == mark.Dead && mayGo(i, at) {
				l.of[i] = append(l.of[i], uint32(at))
			}
		}
		n += dead
		l.upTo[i] = n
	}
	return l
}

func (l *links) len() int {
	if len(l.upTo) == 0 {
		return 0
	}
	return l.upTo[len(l.upTo)-1]
}

func (l *links) get(i int) link {
	repository := sort.Search(len(l.upTo), func(r int) bool { return l.upTo[r] > i })
	of := l.of[repository]
	return link{repository, int(of[len(of)-(l.upTo[repository]-i)])}
}

// count counts the links by repository.
func (l *links) count(add func(repository, n int)) {
	for repository, of := range l.of {
		add(repository, len(of))
	}
}

// order sorts each repository's links.
func (l *links) order(compare func(repository int, a, b uint32) int) {
	for r, of := range l.of {
		slices.SortFunc(of, func(a, b uint32) int { return compare(r, a, b) })
	}
}

// RemovedRevisions are the revisions that are removed from a repository.
func (p *Plan) RemovedRevisions(repository string) map[inventory.ID]bool {
	removed := map[inventory.ID]bool{}
	i, found := slices.BinarySearchFunc(p.inv.Repositories, repository, func(r *inventory.Repository, name string) int { return strings.Compare(r.Name, name) })
	if found && i < len(p.revisions.of) {
		for _, at := range p.revisions.of[i] {
			removed[p.inv.Repositories[i].Revisions[at].ID()] = true
		}
	}
	return removed
}
