package mark

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"regsweep/inventory"
	"regsweep/storage"
	"regsweep/storage/layout"
)

// checkedLinks is the result of checking a repository's links.
type checkedLinks struct {
	problems []inventory.Problem   // of damaged links, which keep the repository
	absent   map[inventory.ID]bool // layer links that do not exist: only their directories do
}

// CheckLinks reads the links on which a removal depends and that were not read before: dead layer links
// that were listed without their file, and links that the listing should have had. It returns a new
// Live, in which a repository with a damaged link is kept. concurrency is the number of links that are
// read at once for each repository; 0 means 32. The error is an error of the storage.
func (l *Live) CheckLinks(ctx context.Context, reader storage.Reader, concurrency int) (*Live, error) {
	if l.checked {
		return l, nil
	}
	c := linkCheck{live: l, inv: l.graph.inv, reader: reader, limit: cmp.Or(concurrency, 32)}
	var mu sync.Mutex
	all := map[int]checkedLinks{} // by repository; only repositories with a result
	err := l.graph.EachRepository(ctx, func(ctx context.Context, i int) error {
		checked, err := c.repository(ctx, i)
		if err != nil {
			return fmt.Errorf("%s: %w", c.inv.Repositories[i].Name, err)
		}
		if len(checked.problems)+len(checked.absent) > 0 {
			mu.Lock()
			defer mu.Unlock()
			all[i] = checked
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("mark: %w", err)
	}
	out := *l
	if len(all) > 0 {
		out.Repositories, out.problems = slices.Clone(l.Repositories), slices.Clone(l.problems)
		out.blobs, out.manifests = slices.Clone(l.blobs), slices.Clone(l.manifests)
		for _, i := range slices.Sorted(maps.Keys(all)) {
			out.add(i, out.markRepository(l.graph, i, all[i])) // at least as many digests are alive as before
		}
		out.sum()
	}
	out.checked, out.links = true, all
	out.graph, out.problems, out.manifests, out.before = nil, nil, nil, nil
	return &out, nil
}

// linkCheck reads the links of repositories.
type linkCheck struct {
	live   *Live
	inv    *inventory.Inventory
	reader storage.Reader
	limit  int
}

func (c linkCheck) repository(ctx context.Context, i int) (checked checkedLinks, err error) {
	live := c.live.Repositories[i]
	if before := c.live.before; before != nil {
		checked.absent = maps.Clone(before.links[i].absent)
	}
	if err := c.checkUnlisted(ctx, i, &checked); err != nil {
		return checked, err
	}
	if !live.Kept && len(checked.problems) == 0 {
		err = c.checkDead(ctx, i, &checked)
	}
	return checked, err
}

// checkUnlisted reads the links of live digests whose links were not listed.
func (c linkCheck) checkUnlisted(ctx context.Context, i int, checked *checkedLinks) error {
	r := c.inv.Repositories[i]
	for _, id := range c.live.Repositories[i].unlisted {
		path := layout.LayerPath(r.Name, c.inv.Digest(id))
		exists, _, err := inventory.CheckLink(ctx, c.reader, path)
		if err != nil {
			return err
		}
		if exists {
			checked.keep(inventory.Unlisted, r, path, "it is there, and the listing lacks it: the listing is not whole")
		}
	}
	return nil
}

// checkDead reads the dead layer links that were listed without their file. A damaged link keeps the
// repository. A link that does not exist is absent.
func (c linkCheck) checkDead(ctx context.Context, i int, checked *checkedLinks) error {
	r, causes := c.inv.Repositories[i], c.live.Repositories[i].Layers
	var dead []inventory.ID
	for at, link := range r.Layers {
		if !link.Verified() && causes.At(at) == Dead && !c.wasChecked(i, at) {
			dead = append(dead, link.ID())
		}
	}
	var mu sync.Mutex // guards checked
	return storage.Each(ctx, len(dead), c.limit, func(ctx context.Context, i int) error {
		path := layout.LayerPath(r.Name, c.inv.Digest(dead[i]))
		exists, damage, err := inventory.CheckLink(ctx, c.reader, path)
		if err != nil {
			return err
		}
		if !exists && !r.LayerDirs {
			exists, damage = true, "was listed and is not found"
		}
		mu.Lock()
		defer mu.Unlock()
		if !exists {
			if checked.absent == nil {
				checked.absent = map[inventory.ID]bool{}
			}
			checked.absent[dead[i]] = true
		} else if damage != "" {
			checked.keep(inventory.DamagedLink, r, path, damage)
		}
		return nil
	})
}

// wasChecked reports whether a layer link of a repository was dead in an earlier mark: then it was read, and
// is not damaged.
func (c linkCheck) wasChecked(i, link int) bool {
	before := c.live.before
	return before != nil && !before.Repositories[i].Kept && !before.Repositories[i].Layers.At(link).Alive()
}

// keep adds a problem that keeps the repository.
func (c *checkedLinks) keep(kind inventory.ProblemKind, r *inventory.Repository, path, detail string) {
	c.problems = append(c.problems, inventory.Problem{
		Kind: kind, Repository: r.Name, Path: path, Detail: detail, Effect: inventory.KeepsRepository,
	})
}
