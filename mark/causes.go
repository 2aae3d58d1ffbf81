package mark

import "iter"

// Causes say why links are kept, in half a byte for each link: there may be hundreds of millions.
type Causes struct {
	pairs []byte // of causes, the first in the lower half
	n     int
}

func newCauses(n int) Causes { return Causes{make([]byte, (n+1)/2), n} }

// At is the cause of one of them.
func (c Causes) At(i int) Cause { return Cause(c.pairs[i/2] >> (i % 2 * 4) & 0xf) }

// set gives a cause to one of them.
func (c Causes) set(i int, to Cause) {
	shift := i % 2 * 4
	c.pairs[i/2] = c.pairs[i/2]&^(0xf<<shift) | byte(to)<<shift
}

// All yields them in their order.
func (c Causes) All() iter.Seq2[int, Cause] {
	return func(yield func(int, Cause) bool) {
		for i := range c.n {
			if !yield(i, c.At(i)) {
				return
			}
		}
	}
}
