package quarantine

import (
	"context"
	"errors"
	"hash/maphash"
	"io/fs"
	"strings"

	"regsweep/storage"
	"regsweep/storage/layout"
	"regsweep/sweep"
)

// contents is the set of objects in a run's quarantine. It has the hashes of the paths that the objects
// had in the registry, about 16 bytes for each.
type contents struct {
	store      Store
	run        string
	exact      bool // stat each link that may have been removed
	seed       maphash.Seed
	paths      map[uint64]struct{}
	objects    sweep.Tally
	hardLinked int64 // bytes of the objects that have other hard links
	hidden     sweep.Tally
	data, free int64 // see Run.DataBytes and Run.FreeableBytes
}

// inspect lists one run. visit, if it is not nil, gets each removal of its plan that can be undone now.
func inspect(ctx context.Context, store Store, name string, visit func(sweep.Removal) error) (run Run, err error) {
	run = Run{Name: name, Plan: map[sweep.Kind]sweep.Tally{}, Contents: map[sweep.Kind]sweep.Tally{}}
	record, err := open(ctx, store, name)
	var damaged *damagedError
	switch {
	case errors.As(err, &damaged):
		run.Damage, run.planless = damaged.Error(), errors.Is(err, errNoPlan)
	case err != nil:
		return run, err
	default:
		defer func() { err = errors.Join(err, record.close()) }()
		run.Taken = record.plan.Options.Now
	}
	hidden, err := openHidden(ctx, store, name)
	switch {
	case errors.As(err, &damaged):
		run.Damage = damaged.Error()
	case err != nil:
		return run, err
	case hidden != nil:
		defer func() { err = errors.Join(err, hidden.close()) }()
		run.Hidden = hidden.total
	}
	s := &contents{store: store, run: name, exact: visit != nil, seed: maphash.MakeSeed(), paths: map[uint64]struct{}{}}
	if err := s.list(ctx, hidden); err != nil {
		return run, err
	}
	run.Objects, run.HardLinkedBytes, run.StillHidden = s.objects, s.hardLinked, s.hidden
	run.DataBytes, run.FreeableBytes = s.data, s.free
	if record != nil && run.Damage == "" {
		if run.Unrecorded, err = s.unrecorded(ctx, record.plan, hidden); err != nil {
			return run, err
		}
		if run.Unrecorded > 0 {
			run.Damage = unrecordedDamage(run.Unrecorded)
		}
	}
	if record != nil {
		err = s.compare(ctx, record.plan, &run, visit)
	}
	if errors.Is(err, storage.ErrNotRegular) {
		run.Damage, err = err.Error(), nil
	}
	return run, err
}

// list adds the objects in the run's directory, and the versions that the run has hidden.
func (s *contents) list(ctx context.Context, hidden *hidden) error {
	err := below(ctx, s.store, s.run, func(object storage.Object) error {
		if !object.Dir && object.Multipart == "" {
			path, bytes := strings.TrimPrefix(object.Path, dirOf(s.run)+"/"), max(0, object.Size)
			s.objects.Add(1, bytes)
			if object.HardLinked {
				s.hardLinked += bytes
			}
			s.add(path, bytes, object.HardLinked)
		}
		return nil
	})
	if err != nil || hidden == nil {
		return err
	}
	return hidden.eachHidden(ctx, func(v storage.HiddenVersion) {
		s.hidden.Add(1, v.Bytes)
		s.add(v.Path, v.Bytes, false)
	})
}

func (s *contents) add(path string, bytes int64, hardLinked bool) {
	if !isLink(path) {
		s.data += bytes
		if !hardLinked {
			s.free += bytes
		}
	}
	s.paths[maphash.String(s.seed, path)] = struct{}{}
	if upload := uploadOf(path); upload != "" {
		s.paths[maphash.String(s.seed, upload)] = struct{}{}
	}
}

func (s *contents) has(path string) bool {
	_, found := s.paths[maphash.String(s.seed, path)]
	return found
}

// compare sets run.Plan and run.Contents.
func (s *contents) compare(ctx context.Context, plan *sweep.File, run *Run, visit func(sweep.Removal) error) error {
	add := func(to map[sweep.Kind]sweep.Tally, removal sweep.Removal) {
		tally := to[removal.Kind]
		tally.Add(1, removal.Bytes)
		to[removal.Kind] = tally
	}
	var batch []sweep.Removal
	flush := func() error {
		holds := make([]bool, len(batch))
		err := storage.Each(ctx, len(batch), s.store.Concurrency(), func(ctx context.Context, i int) (err error) {
			holds[i], err = s.holds(ctx, batch[i])
			return err
		})
		for i := 0; i < len(batch) && err == nil; i++ {
			if !holds[i] {
				continue
			}
			run.LinksGuessed = run.LinksGuessed || s.assumesLinks() && len(batch[i].Links()) > 0
			if add(run.Contents, batch[i]); visit != nil {
				err = visit(batch[i])
			}
		}
		batch = batch[:0]
		return err
	}
	err := plan.Each(func(removal sweep.Removal) error {
		add(run.Plan, removal)
		if batch = append(batch, removal); len(batch) < storage.RemoveBatch {
			return nil
		}
		return flush()
	})
	if err != nil {
		return err
	}
	return flush()
}

// holds reports whether a removal can be undone from the quarantine.
func (s *contents) holds(ctx context.Context, removal sweep.Removal) (bool, error) {
	if !removal.IsNamed() {
		return false, nil
	}
	switch removal.Kind.Form() {
	case sweep.Content:
		return s.has(layout.BlobPath(removal.Digest)), nil
	case sweep.Files:
		return s.has(layout.UploadPath(removal.Repository, removal.Upload)), nil
	case sweep.Directories:
		names, err := s.store.Names(ctx, dirOf(s.run)+"/"+layout.RepositoryPath(removal.Repository))
		return len(names) > 0, err
	}
	links := removal.Links()
	for _, link := range links {
		if s.has(link.Path) {
			return true, nil
		}
	}
	// On S3 links have no copies: they are written again from the plan. A run removes all links before
	// the first blob. So a blob in the quarantine shows that the links were removed.
	if _, isS3 := s.store.(versioned); !isS3 || len(links) == 0 {
		return false, nil
	}
	if s.assumesLinks() {
		return true, nil
	}
	_, err := s.store.Stat(ctx, links[len(links)-1].Path)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return false, err
}

// assumesLinks reports whether all links of the plan count as removed, because the quarantine on S3 has
// a blob and the links are not checked. Another object proves nothing: the copy of a signature link is
// made before the layer links are removed.
func (s *contents) assumesLinks() bool {
	_, isS3 := s.store.(versioned)
	return isS3 && s.data > 0 && !s.exact
}
