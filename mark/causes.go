package mark

import "iter"

// Causes has the cause of each link of a repository. A cause takes half a byte, because there may be
// hundreds of millions of links.
type Causes struct {
	pairs []byte // two causes each, the first in the lower half
	n     int
}

func newCauses(n int) Causes { return Causes{make([]byte, (n+1)/2), n} }

// At returns the cause of the i-th link.
func (c Causes) At(i int) Cause { return Cause(c.pairs[i/2] >> (i % 2 * 4) & 0xf) }

// set sets the cause of the i-th link.
func (c Causes) set(i int, to Cause) {
	shift := i % 2 * 4
	c.pairs[i/2] = c.pairs[i/2]&^(0xf<<shift) | byte(to)<<shift
}

// All yields the index and the cause of each link, in the order of the links.
func (c Causes) All() iter.Seq2[int, Cause] {
	return func(yield func(int, Cause) bool) {
		for i := range c.n {
			if !yield(i, c.At(i)) {
				return
			}
		}
	}
}
