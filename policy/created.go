package policy

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"regsweep/inventory"
	"regsweep/manifest"
	"regsweep/mark"
	"regsweep/storage"
)

// date sets the times of the tags that the policy asks for, and Unreliable.
func (p *Policy) date(ctx context.Context, f Facts, repositories []repository, trust bool) error {
	groups := map[int][]int{} // by repository: the tags whose images are dated
	for i, r := range repositories {
		times := make([]time.Time, len(r.Tags))
		all := make([]int, len(r.Tags))
		for at, tag := range r.Tags {
			times[at], all[at] = tag.Time, at
		}
		isDated := func(rule Rule) bool { return p.Time == Created || !trust && rule.usesTimes() }
		hasUntagged := p.untaggedRule(r.Name) != nil
		switch {
		case !p.selectsAny(r.Repository, isDated) && !(hasUntagged && !trust && p.Time == Pushed): // no verdict depends on the times of images
		case p.Time == Created:
			groups[i] = all
		default:
			groups[i] = bunched(times)
		}
	}
	configs := map[inventory.ID]time.Time{}
	for i, group := range groups {
		for _, at := range group {
			for _, id := range f.configs(repositories[i].places[at]) {
				configs[id] = time.Time{}
			}
		}
	}
	if err := f.readConfigs(ctx, configs); err != nil {
		return err
	}
	for i, group := range groups {
		created := make([]time.Time, len(group))
		for n, at := range group {
			for _, id := range f.configs(repositories[i].places[at]) {
				if t := configs[id]; t.After(created[n]) {
					created[n] = t
				}
			}
			if p.Time == Created {
				repositories[i].Tags[at].Time = created[n]
			}
		}
		repositories[i].Unreliable = p.Time == Pushed && areApart(created)
	}
	return nil
}

// selectsAny reports whether one of some rules selects any tag of a repository.
func (p *Policy) selectsAny(of Repository, isOne func(Rule) bool) bool {
	return slices.ContainsFunc(p.Rules, func(r Rule) bool {
		return isOne(r) && slices.ContainsFunc(of.Tags, func(t Tag) bool { return r.Selects(of.Name, t.Name) })
	})
}

// configs returns the configs of the images that a tag leads to, directly or by indexes.
func (f Facts) configs(at inventory.TagPlace) (configs []inventory.ID) {
	tag := f.Inventory.Repositories[at.Repository].Tags[at.Tag]
	if !tag.HasTarget {
		return nil
	}
	mark.Reach(mark.MapSet[inventory.ID]{}, []inventory.ID{tag.Target}, func(id inventory.ID) (entries []inventory.ID) {
		form, _ := f.Graph.Form(id)
		for to := range f.Graph.Edges(id) {
			if form.Kind == manifest.Index {
				entries = append(entries, to)
			} else if form.Kind == manifest.Image && f.Inventory.Stored(to) {
				configs = append(configs, to)
				break
			}
		}
		return entries
	})
	return configs
}

// configLimit is the size of the largest config that is read, in bytes.
const configLimit = 8 << 20

// readConfigs sets the time of creation of each config. It stays zero if the config does not have one, or
// one before the first image: reproducible builds set that. The error is one of the storage.
func (f Facts) readConfigs(ctx context.Context, configs map[inventory.ID]time.Time) error {
	ids := make([]inventory.ID, 0, len(configs))
	for id := range configs {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	times := make([]time.Time, len(ids))
	err := storage.Each(ctx, len(ids), f.Concurrency, func(ctx context.Context, i int) error {
		content, err := f.Reader.Read(ctx, f.Inventory.BlobPath(ids[i]), configLimit)
		switch {
		case storage.IsAbsent(err), storage.IsDamage(err):
			return nil
		case err != nil:
			return fmt.Errorf("read config %s: %w", f.Inventory.Digest(ids[i]), err)
		}
		var config struct{ Created time.Time }
		if json.Unmarshal(content, &config) == nil && f.Inventory.IsContent(ids[i], content) && config.Created.After(firstImage) {
			times[i] = config.Created
		}
		return nil
	})
	for i, id := range ids {
		configs[id] = times[i]
	}
	return err
}
