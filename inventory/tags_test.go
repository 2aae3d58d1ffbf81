package inventory

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"regsweep/storage/layout"

	"github.com/opencontainers/go-digest"
)

// In any order of a repository's keys the tags are the same. Their indexes are complete, and their
// targets are known from the ETags of the current links, without a read.
func TestTagsAreJoined(t *testing.T) {
	const tags = 30
	named := func(tag, entry int) digest.Digest { return digest.FromString(fmt.Sprint(tag, entry)) }
	store := &keys{}
	for tag := range tags {
		name := fmt.Sprintf("v%02d", tag)
		store.put(layout.TagPath("app", name), string(named(tag, tag%3)), "") // the last entry
		for entry := range tag%3 + 1 {
			store.put(layout.TagIndexPath("app", name, named(tag, entry)), string(named(tag, entry)), "")
		}
	}
	for range 50 {
		rand.Shuffle(len(store.objects), func(i, j int) {
			store.objects[i], store.objects[j] = store.objects[j], store.objects[i]
		})
		inv, err := Take(context.Background(), store, Options{})
		if err != nil || len(store.reads) > 0 {
			t.Fatalf("%v, and of links were read %s", err, store.reads)
		}
		got := inv.Repositories[0].Tags
		if len(got) != tags {
			t.Fatalf("%d tags of %d names", len(got), tags)
		}
		for tag, is := range got {
			var index, want []digest.Digest
			for _, entry := range is.Index {
				index = append(index, inv.Digest(entry.ID()))
			}
			for entry := range tag%3 + 1 {
				want = append(want, named(tag, entry))
			}
			slices.Sort(index)
			slices.Sort(want)
			if is.Name != fmt.Sprintf("v%02d", tag) || !slices.Equal(index, want) || !is.HasTarget || inv.Digest(is.Target) != named(tag, tag%3) {
				t.Fatalf("tag %d is %+v, which names %s", tag, is, index)
			}
		}
	}
}
