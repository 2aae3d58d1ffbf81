package mark

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestCausesAreThoseThatWereSet(t *testing.T) {
	for n := range 20 {
		causes := newCauses(n)
		want := make([]Cause, n)
		for range 4 * n { // some twice
			i := rand.IntN(n)
			want[i] = Cause(rand.IntN(int(Absent) + 1))
			causes.set(i, want[i])
		}
		var got []Cause
		for i, cause := range causes.All() {
			if i != len(got) || cause != causes.At(i) {
				t.Fatalf("of %d the one at %d is %d, and %d comes after %d others", n, i, causes.At(i), cause, len(got))
			}
			got = append(got, cause)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%d are %v, want %v", n, got, want)
		}
	}
}
