package sweep

import (
	"slices"
	"sort"

	"regsweep/inventory"
	"regsweep/mark"
)

// links are the dead links of a plan. There may be millions, so a link takes 4 bytes, and there is
// no slice of all links, which would need contiguous memory.
type links struct {
	of   [][]uint32 // by repository: indexes of its dead links
	upTo []int      // by repository: number of dead links in it and in those before it
}

// link has the index of a repository in the inventory, and the index of the link in the repository.
type link struct{ repository, at int }

// deadLinks returns the dead links for which mayRemove is true. of returns the causes of a
// repository's links, in the order of the links.
func deadLinks(live *mark.Live, of func(*mark.Repository) mark.Causes, mayRemove func(repository, at int) bool) links {
	l := links{of: make([][]uint32, len(live.Repositories)), upTo: make([]int, len(live.Repositories))}
	n := 0
	for i, r := range live.Repositories {
		dead := 0
		for at, cause := range of(r).All() {
			if cause == mark.Dead && mayRemove(i, at) {
				dead++
			}
		}
		l.of[i] = make([]uint32, 0, dead)
		for at, cause := range of(r).All() {
			if cause == mark.Dead && mayRemove(i, at) {
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

// count calls add with the number of links of each repository.
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

// RemovedRevisions returns the revisions that the plan removes from a repository.
func (p *Plan) RemovedRevisions(repository string) map[inventory.ID]bool {
	removed := map[inventory.ID]bool{}
	if i, found := p.inv.FindRepository(repository); found && i < len(p.revisions.of) {
		for _, at := range p.revisions.of[i] {
			removed[p.inv.Repositories[i].Revisions[at].ID()] = true
		}
	}
	return removed
}
