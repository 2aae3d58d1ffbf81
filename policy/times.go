package policy

import (
	"slices"
	"time"
)

// bunch is the length of time in which the tags of a repository are rarely pushed, but copied.
const bunch = time.Hour

// bunched returns the indexes of the tags of the largest group that was pushed within one hour, if it has
// more than half of all tags, and at least two. Otherwise it returns nil. A copy of a registry leaves such
// a group. pushed are the times of all tags. A time that is zero is in no group.
func bunched(pushed []time.Time) (group []int) {
	order := make([]int, 0, len(pushed))
	for i, t := range pushed {
		if !t.IsZero() {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return pushed[a].Compare(pushed[b]) })
	first := 0
	for end := range order {
		for pushed[order[end]].Sub(pushed[order[first]]) > bunch {
			first++
		}
		if n := end + 1 - first; n > len(group) && n > 1 && 2*n > len(pushed) {
			group = order[first : end+1]
		}
	}
	return group
}

// areApart reports whether images of a group were created further apart than one hour. Times that are zero are
// not known.
func areApart(created []time.Time) bool {
	known := slices.DeleteFunc(slices.Clone(created), time.Time.IsZero)
	return len(known) > 1 && slices.MaxFunc(known, time.Time.Compare).Sub(slices.MinFunc(known, time.Time.Compare)) > bunch
}

// firstImage is a time before the first release of Docker. Reproducible builds set such times.
var firstImage = time.Date(2013, 1, 1, 0, 0, 0, 0, time.UTC)
