package policy

import (
	"cmp"
	"slices"
)

// ByFree is the Verdict.Rule of a tag that Spare keeps.
const ByFree = "free"

// Spare keeps the newest of the removed tags, as far as enough returns true without them. enough reports
// whether a run with the roots of d frees enough. If it does not even with all tags, all are removed. A
// tag whose time is not known counts as the newest.
func (d *Decision) Spare(enough func() (bool, error)) error {
	var oldest []int // the removed tags
	for i, tag := range d.Tags {
		if tag.Remove {
			oldest = append(oldest, i)
		}
	}
	slices.SortStableFunc(oldest, func(a, b int) int {
		x, y := d.Tags[a].Time, d.Tags[b].Time
		if x.IsZero() != y.IsZero() {
			return -cmp.Compare(x.Unix(), y.Unix()) // the zero time is before all others
		}
		return x.Compare(y)
	})
	remove := func(n int) {
		for i, of := range oldest {
			d.removed[d.Tags[of].Repository][d.Tags[of].Tag] = i < n
		}
	}
	// Each tag more frees at least as much, so halving finds the least number.
	low, high := 0, len(oldest)
	for low < high {
		middle := (low + high) / 2
		remove(middle)
		isEnough, err := enough()
		switch {
		case err != nil:
			return err
		case isEnough:
			high = middle
		default:
			low = middle + 1
		}
	}
	remove(low)
	for _, of := range oldest[low:] {
		d.Tags[of].Verdict = Verdict{Selected: true, Rule: ByFree, Reason: "spared"}
	}
	return nil
}
