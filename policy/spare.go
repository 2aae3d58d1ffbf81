package policy

import "slices"

// first orders an element before another if isIt is true, and after it otherwise.
func first(isIt bool) int {
	if isIt {
		return -1
	}
	return 1
}

// Spare keeps the newest of the removed tags, as far as enough returns true without them. enough reports
// whether a run with the roots of d frees enough. If it does not even with all tags, all are removed. A
// tag whose time is not known counts as the newest. Tags that an interrupted run has left are removed in any case.
func (d *Decision) Spare(enough func() (bool, error)) error {
	var oldest []int // the removed tags
	for i, tag := range d.Tags {
		if tag.Remove {
			oldest = append(oldest, i)
		}
	}
	slices.SortStableFunc(oldest, func(a, b int) int {
		x, y := d.Tags[a], d.Tags[b]
		switch {
		case x.isLeft != y.isLeft:
			return first(x.isLeft)
		case x.Time.IsZero() != y.Time.IsZero():
			return first(y.Time.IsZero())
		}
		return x.Time.Compare(y.Time)
	})
	left := slices.IndexFunc(oldest, func(i int) bool { return !d.Tags[i].isLeft })
	if left < 0 {
		left = len(oldest)
	}
	remove := func(n int) {
		for i, of := range oldest {
			d.removed[d.Tags[of].Repository][d.Tags[of].Tag] = i < n
		}
	}
	// Each tag more frees at least as much, so halving finds the least number.
	low, high := left, len(oldest)
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
