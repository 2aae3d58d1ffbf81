package audit

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"

	"regsweep/inventory"
	"regsweep/mark"
)

// Keepers says how much each tag keeps. The file for ncdu and the page need it.
//
// A keeper is a tag, or the untagged content of a repository: everything that its untagged manifests and
// damage keep. Its tags may keep a part of that too. (A Holder of why holds one object. A Keeper has the sums of
// all objects.) A blob takes 12 bytes, and a keeper 24. No memory grows
// with keepers times blobs.
type Keepers struct {
	facts Facts
	// all has the keepers of each repository in turn: its tags, and then its untagged content. Repositories of
	// a namespace are next to each other.
	all   []Keeper
	order []int           // the repositories in the order of all
	isDir map[string]bool // the repositories, and the namespaces that have any
	begin []int           // by repository: the index in all of its first keeper

	kept []kept // by blob
}

// kept says which keepers a blob has: their number, and the indexes in all of the first and the last one.
type kept struct{ links, first, last uint32 }

// Keeper is the space of a tag, or of the untagged content of a repository, in bytes.
type Keeper struct {
	// Logical is what a pull of the tag fetches. It is 0 for untagged content.
	Logical int64
	// Bytes is everything that the keeper keeps. Unique is the part that has no other keeper.
	Bytes, Unique int64
}

// NewKeepers adds up the keepers. The error is the cause of ctx.
func NewKeepers(ctx context.Context, facts Facts) (*Keepers, error) {
	k := &Keepers{facts: facts, begin: make([]int, len(facts.Inventory.Repositories)), kept: make([]kept, facts.Inventory.Blobs())}
	k.order, k.isDir = directories(facts.Inventory)
	n := 0
	for _, i := range k.order {
		k.begin[i] = n
		n += len(facts.Inventory.Repositories[i].Tags) + 1
	}
	k.all = make([]Keeper, n)
	var mu sync.Mutex // guards kept
	err := facts.Graph.EachRepository(ctx, func(_ context.Context, i int) error {
		view := facts.view(i)
		tags := facts.Inventory.Repositories[i].Tags
		k.each(i, view, func(n int, ids []inventory.ID) {
			keeper := k.begin[i] + n
			mu.Lock()
			for _, id := range ids {
				k.kept[id].add(uint32(keeper))
			}
			mu.Unlock()
			k.all[keeper].Bytes = facts.sum(ids)
			if n < len(tags) && tags[n].HasTarget {
				k.all[keeper].Logical = facts.sum(view.Pulled(tags[n].Target))
			}
		})
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i, bytes := range k.unique(facts.size) {
		k.all[i].Unique = bytes
	}
	return k, nil
}

func (k *kept) add(keeper uint32) {
	if k.links == 0 {
		k.first = keeper
	}
	k.links, k.first, k.last = k.links+1, min(k.first, keeper), max(k.last, keeper)
}

// Common is the space of the blobs that several repositories of a namespace keep, and no repository outside of it.
type Common struct {
	Namespace string `json:"namespace"` // "" has all repositories
	Bytes     int64  `json:"bytes"`
}

// Common returns the blobs that several repositories keep. Each counts for the smallest namespace that has all
// of these repositories. So the sum is Bytes.Live without the unique bytes of the repositories.
func (k *Keepers) Common() []Common {
	list, sums := []Common{}, map[string]int64{}
	for id, of := range k.kept {
		if of.links < 2 {
			continue
		}
		// Repositories are in the order of directories. So the namespace of the first and the last is that of all.
		first, last := k.repository(of.first), k.repository(of.last)
		if first != last {
			sums[namespaceOf(first, last)] += k.facts.size(inventory.ID(id))
		}
	}
	for _, namespace := range slices.Sorted(maps.Keys(sums)) {
		list = append(list, Common{namespace, sums[namespace]})
	}
	return list
}

// repository returns the name of the repository of a keeper.
func (k *Keepers) repository(keeper uint32) string {
	n, isFirst := slices.BinarySearchFunc(k.order, int(keeper), func(repository, keeper int) int {
		return cmp.Compare(k.begin[repository], keeper)
	})
	if !isFirst {
		n--
	}
	return k.facts.Inventory.Repositories[k.order[n]].Name
}

// unique returns Keeper.Unique of all keepers, with other sizes.
func (k *Keepers) unique(size func(inventory.ID) int64) []int64 {
	sums := make([]int64, len(k.all))
	for id, of := range k.kept {
		if of.links == 1 && (k.facts.isKept == nil || !k.facts.isKept(inventory.ID(id))) {
			sums[of.last] += size(inventory.ID(id))
		}
	}
	return sums
}

// Of returns the keepers of a repository: its tags in their order, and then its untagged content.
func (k *Keepers) Of(repository int) []Keeper {
	from := k.begin[repository]
	return k.all[from : from+len(k.facts.Inventory.Repositories[repository].Tags)+1]
}

// each calls visit with the stored blobs of each keeper of a repository, in the order of Of.
func (k *Keepers) each(repository int, view *mark.View, visit func(n int, ids []inventory.ID)) {
	tags := k.facts.Inventory.Repositories[repository].Tags
	isAbsent := func(id inventory.ID) bool { return !k.facts.Inventory.Stored(id) }
	follows := map[int]bool{}
	if k.facts.Followers != nil {
		for _, f := range k.facts.Followers(repository) {
			follows[f.Tag] = true
		}
	}
	for n, tag := range tags {
		if !follows[n] {
			visit(n, slices.DeleteFunc(view.Kept(tag.Roots()...), isAbsent))
		}
	}
	untagged := append(k.facts.keptByDamage(repository, view), k.facts.untagged(repository)...)
	visit(len(tags), slices.DeleteFunc(view.Kept(untagged...), isAbsent))
}
