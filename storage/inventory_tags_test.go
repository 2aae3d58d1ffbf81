package storage

import (
	"fmt"
	"testing"
)

// A tag is the same whenever it is asked for, also once there are so many that a map finds
// them.
func TestTagsAreFoundAgain(t *testing.T) {
	var tags tagsBuilder
	const n = 3 * fewTags
	for round := range 3 {
		for i := range n {
			tag := tags.named(fmt.Sprintf("v%d", i))
			if round > 0 && tag.target != ID(i) {
				t.Errorf("v%d is found as another: %+v", i, *tag)
			}
			tag.target = ID(i)
			if again := tags.named("v0"); again.name != "v0" || again.target != 0 {
				t.Errorf("beside %d others v0 is found as another: %+v", i, *again)
			}
		}
		if len(tags.all) != n {
			t.Fatalf("%d tags of %d names", len(tags.all), n)
		}
	}
}
