package quarantine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"regsweep/storage"
	"regsweep/sweep"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

// RestoreOptions say what of a run is restored. The zero value is all of it.
type RestoreOptions struct {
	// Repository restores what went of one repository, and the blobs that it named.
	Repository string
	// Digest restores one blob with all that it refers to, if it is a manifest, and the
	// links to these in the repositories (or the one given) that lost a link to it.
	Digest digest.Digest
	// DryRun says what would be done, and does nothing. It reads no blobs, so that a
	// damaged one counts as good.
	DryRun bool
	// OnRestored, if set, is told of each removal that was undone. It is called serially.
	OnRestored func(kind sweep.Kind, tally sweep.Tally)
}

// Restored is what became of what was asked for.
type Restored struct {
	// Back counts the removals of the plan that were undone, with the bytes of blobs and
	// uploads; There those of which nothing had to be done, as it is all there.
	Back, There map[sweep.Kind]sweep.Tally
	// Left are those that were not undone, sorted, up to a thousand; LeftCount is how many
	// there are.
	Left      []Left
	LeftCount int
}

// Left is something that could not be put back, and why.
type Left struct {
	sweep.Removal
	Why Why `json:"why"`
}

// Why is why something could not be put back.
type Why string

// The reasons.
const (
	WhyGone     Why = "gone"     // the blob is neither in the registry nor in the quarantine
	WhyDamaged  Why = "damaged"  // the blob in the quarantine is not what it was
	WhyOccupied Why = "occupied" // there is something else in its place, which nobody writes over
	WhyCovered  Why = "covered"  // a later version of it is hidden as well, by another run or by hand
	WhyNoBlob   Why = "no_blob"  // the blob that the link leads to is not there
	WhyUnnamed  Why = "unnamed"  // the plan's line names nothing that a registry could hold
)

const maxLeft = 1000

// restoreOrder is that of removal backwards: what a link leads to is back before it is,
// so that a registry that runs meanwhile never serves half of an image.
var restoreOrder = []sweep.Kind{sweep.Blob, sweep.Upload, sweep.LayerLink, sweep.Revision, sweep.TagIndexEntry}

// Restore puts back what a run took. It writes over nothing, and compares each blob with
// its digest before it is back. What it does not need to do, since it is done, counts as
// There, so that it can be run again after any interruption. A quarantine from which all
// was restored is discarded.
//
// It may run beside a registry, though not beside another regsweep. An error of the
// storage stops it; Restored says what was done until then.
func Restore(ctx context.Context, store Store, run string, options RestoreOptions) (Restored, error) {
	record, err := open(ctx, store, run)
	if errors.Is(err, errNoPlan) && !options.DryRun {
		err = forget(ctx, store, run)
	}
	if err != nil {
		return Restored{}, fmt.Errorf("restore the quarantine %s: %w", run, err)
	}
	r := newRestorer(store, record.plan, dirOf(run), options)
	if r.hidden, err = openHidden(ctx, store, run); err == nil {
		err = r.run(ctx)
	}
	if err == nil && r.wanted.everything && !options.DryRun && r.result.LeftCount == 0 {
		err = r.discard(ctx, run)
	}
	if err = errors.Join(err, r.hidden.close(), record.close()); err != nil {
		err = fmt.Errorf("restore the quarantine %s: %w", run, err)
	}
	return r.finished(), err
}

// RestoreLinks puts back the links that a plan names, of which the blobs are there: what
// it can undo of a run that has removed and not moved.
func RestoreLinks(ctx context.Context, store Store, plan *sweep.File, options RestoreOptions) (Restored, error) {
	r := newRestorer(store, plan, "", options)
	if err := r.run(ctx); err != nil {
		return r.finished(), fmt.Errorf("restore links: %w", err)
	}
	return r.finished(), nil
}

// restorer is one restoration. Its result is guarded by mu.
type restorer struct {
	store   Store
	plan    *sweep.File
	dir     string  // of the quarantine; "" where there is none
	hidden  *hidden // nil where the quarantine has hidden nothing
	options RestoreOptions
	wanted  wanted

	mu     sync.Mutex
	result Restored
	// lost are blobs that are not back: what leads to them stays where it is. It is
	// complete when the first link is come to.
	lost map[digest.Digest]bool
}

func newRestorer(store Store, plan *sweep.File, dir string, options RestoreOptions) *restorer {
	return &restorer{
		store: store, plan: plan, dir: dir, options: options, lost: map[digest.Digest]bool{},
		result: Restored{Back: map[sweep.Kind]sweep.Tally{}, There: map[sweep.Kind]sweep.Tally{}},
	}
}

func (r *restorer) run(ctx context.Context) error {
	if err := r.want(ctx); err != nil {
		return err
	}
	for _, kind := range restoreOrder {
		if err := r.kind(ctx, kind); err != nil {
			return err
		}
		if r.options.DryRun {
			continue
		}
		// What a link leads to must not be lost behind it with the power.
		if err := r.store.Sync(ctx); err != nil {
			return err
		}
	}
	return r.directories(ctx)
}

// kind undoes all removals of one kind.
func (r *restorer) kind(ctx context.Context, kind sweep.Kind) error {
	undo := map[sweep.Kind]func(context.Context, sweep.Removal) (verdict, error){
		sweep.Blob: r.blob, sweep.Upload: r.upload, sweep.LayerLink: r.links, sweep.Revision: r.links, sweep.TagIndexEntry: r.links,
	}[kind]
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(r.store.Concurrency())
	err := r.plan.Each(func(removal sweep.Removal) error {
		if removal.Kind != kind || !r.wanted.has(removal) || r.dir == "" && len(removal.Links()) == 0 {
			return nil
		}
		g.Go(func() error {
			v, err := verdict{why: WhyUnnamed}, error(nil)
			if removal.IsNamed() {
				v, err = undo(ctx, removal)
			}
			if err == nil {
				r.note(removal, v)
			}
			return err
		})
		return ctx.Err()
	})
	if failed := g.Wait(); failed != nil {
		return failed
	}
	return err
}

// verdict is what became of a removal: it was undone, or it was not (why), or else all of
// it was there.
type verdict struct {
	back bool
	why  Why
}

func (r *restorer) note(removal sweep.Removal, v verdict) {
	r.mu.Lock()
	defer r.mu.Unlock()
	to := r.result.There
	switch {
	case v.why != "":
		if removal.Kind == sweep.Blob {
			r.lost[removal.Digest] = true
		}
		r.result.LeftCount++
		r.result.Left = append(r.result.Left, Left{removal, v.why})
		if len(r.result.Left) > 2*maxLeft {
			r.result.cut()
		}
		return
	case v.back:
		to = r.result.Back
		if r.options.OnRestored != nil {
			r.options.OnRestored(removal.Kind, sweep.Tally{Count: 1, Bytes: removal.Bytes})
		}
	}
	tally := to[removal.Kind]
	tally.Add(1, removal.Bytes)
	to[removal.Kind] = tally
}

// cut keeps the first by path of those that are left.
func (r *Restored) cut() {
	slices.SortFunc(r.Left, func(a, b Left) int { return strings.Compare(a.Path, b.Path) })
	r.Left = r.Left[:min(len(r.Left), maxLeft)]
}

func (r *restorer) finished() Restored {
	r.result.cut()
	return r.result
}

// kept is where the quarantine has an object; "" where there is no quarantine, or one that
// has moved nothing.
func (r *restorer) kept(path string) string {
	if r.dir == "" || r.hidden != nil {
		return ""
	}
	return r.dir + "/" + path
}

// exists reports whether there is an object at a path, whatever it is; none at "".
func (r *restorer) exists(ctx context.Context, path string) (bool, error) {
	if path == "" {
		return false, nil
	}
	switch _, err := r.store.Stat(ctx, path); {
	case err == nil, errors.Is(err, storage.ErrNotRegular):
		return true, nil
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	default:
		return false, err
	}
}

// blob puts a blob back, if it is what its digest says.
func (r *restorer) blob(ctx context.Context, removal sweep.Removal) (verdict, error) {
	path := storage.BlobPath(removal.Digest)
	switch hidden, found, err := r.hidden.find(path); {
	case err != nil:
		return verdict{}, err
	case found:
		return r.unhide(ctx, hidden, removal.Digest)
	}
	kept := r.kept(path)
	found, err := r.exists(ctx, kept)
	if err != nil {
		return verdict{}, err
	}
	if !found {
		there, err := r.exists(ctx, path)
		if err == nil && !there {
			return verdict{why: WhyGone}, nil
		}
		return verdict{}, err
	}
	if !r.options.DryRun {
		intact, err := r.intact(ctx, kept, removal.Digest)
		if err != nil || !intact {
			return verdict{why: WhyDamaged}, err
		}
	}
	return r.moveBack(ctx, path, func() (bool, error) { return r.intact(ctx, path, removal.Digest) })
}

// intact reports whether an object has a digest.
func (r *restorer) intact(ctx context.Context, path string, d digest.Digest) (bool, error) {
	verifier := d.Verifier()
	err := r.store.Stream(ctx, path, verifier)
	if errors.Is(err, storage.ErrNotRegular) {
		return false, nil
	}
	return err == nil && verifier.Verified(), err
}

// moveBack moves an object from the quarantine to its path. Where there is an object
// already, same says whether it is as good; then the quarantine's is not needed.
func (r *restorer) moveBack(ctx context.Context, path string, same func() (bool, error)) (verdict, error) {
	if r.options.DryRun {
		there, err := r.exists(ctx, path)
		return verdict{back: !there}, err
	}
	err := r.store.Move(ctx, []storage.Move{{From: r.kept(path), To: path}})[0].Err
	switch {
	case err == nil:
		return verdict{back: true}, nil
	case !errors.Is(err, fs.ErrExist):
		return verdict{}, err
	}
	if good, err := same(); err != nil || !good {
		return verdict{why: WhyOccupied}, err
	}
	return verdict{}, r.store.Remove(ctx, []storage.Ref{{Path: r.kept(path)}})[0].Err
}

// links puts the links of a removal back, from the quarantine or as the plan has them.
func (r *restorer) links(ctx context.Context, removal sweep.Removal) (verdict, error) {
	var all verdict
	for _, link := range removal.Links() {
		v, err := r.link(ctx, link)
		if err != nil || v.why != "" {
			return v, err
		}
		all.back = all.back || v.back
	}
	return all, nil
}

func (r *restorer) link(ctx context.Context, link sweep.Link) (verdict, error) {
	if r.lost[link.Target] {
		there, err := r.exists(ctx, link.Path)
		if err != nil || !there {
			return verdict{why: WhyNoBlob}, err
		}
	}
	switch hidden, found, err := r.hidden.find(link.Path); {
	case err != nil:
		return verdict{}, err
	case found:
		return r.unhide(ctx, hidden, "")
	}
	found, err := r.exists(ctx, r.kept(link.Path))
	if err != nil {
		return verdict{}, err
	}
	if found {
		return r.moveBack(ctx, link.Path, func() (bool, error) { return r.alike(ctx, link.Path) })
	}
	there, err := r.exists(ctx, link.Path)
	if err != nil || there {
		return verdict{}, err
	}
	stored, err := r.exists(ctx, storage.BlobPath(link.Target))
	if !stored && r.options.DryRun && err == nil {
		stored, err = r.comesBack(ctx, storage.BlobPath(link.Target))
	}
	switch {
	case err != nil:
		return verdict{}, err
	case !stored:
		return verdict{why: WhyNoBlob}, nil
	case r.options.DryRun:
		return verdict{back: true}, nil
	}
	err = r.store.Put(ctx, link.Path, strings.NewReader(string(link.Target)))
	if errors.Is(err, fs.ErrExist) {
		return verdict{}, nil
	}
	return verdict{back: true}, err
}

// comesBack reports whether the quarantine has an object, moved or hidden.
func (r *restorer) comesBack(ctx context.Context, path string) (bool, error) {
	switch hidden, found, err := r.hidden.find(path); {
	case err != nil:
		return false, err
	case found:
		v, err := r.unhide(ctx, hidden, "")
		return v.back, err
	}
	return r.exists(ctx, r.kept(path))
}

// alike reports whether the object at a path has the content of the quarantine's.
func (r *restorer) alike(ctx context.Context, path string) (bool, error) {
	var sums [2]digest.Digest
	for i, path := range []string{path, r.kept(path)} {
		digester := digest.Canonical.Digester()
		err := r.store.Stream(ctx, path, digester.Hash())
		if errors.Is(err, storage.ErrNotRegular) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		sums[i] = digester.Digest()
	}
	return sums[0] == sums[1], nil
}

// upload puts back what there is of an upload.
func (r *restorer) upload(ctx context.Context, removal sweep.Removal) (verdict, error) {
	dir := storage.UploadPath(removal.Repository, removal.Upload)
	var all verdict
	if r.hidden != nil {
		for _, hidden := range r.hidden.uploads[dir] {
			v, err := r.unhide(ctx, hidden, "")
			if err != nil || v.why != "" {
				return v, err
			}
			all.back = all.back || v.back
		}
		return all, nil
	}
	var paths []string
	err := r.store.Below(ctx, r.kept(dir), func(page []storage.Object) error {
		for _, object := range page {
			if !object.Dir && object.Multipart == "" {
				paths = append(paths, strings.TrimPrefix(object.Path, r.dir+"/"))
			}
		}
		return nil
	})
	if err != nil {
		return verdict{}, err
	}
	for _, path := range paths {
		v, err := r.moveBack(ctx, path, func() (bool, error) { return r.alike(ctx, path) })
		if err != nil || v.why != "" {
			return v, err
		}
		all.back = all.back || v.back
	}
	return all, nil
}

// directories makes the empty directories anew that there were.
func (r *restorer) directories(ctx context.Context) error {
	if r.dir == "" || r.options.DryRun {
		return nil
	}
	return r.store.Below(ctx, r.dir, func(page []storage.Object) error {
		for _, object := range page {
			path := strings.TrimPrefix(object.Path, r.dir+"/")
			if !object.Dir || path == r.dir || !r.wanted.hasDirectory(path) {
				continue
			}
			if err := r.store.MakeDir(ctx, path); err != nil {
				return err
			}
		}
		return nil
	})
}

// discard removes a quarantine of which nothing is left but its plan, and copies that were
// begun and never finished.
func (r *restorer) discard(ctx context.Context, run string) error {
	empty, err := isEmpty(ctx, r.store, run)
	if err != nil || !empty {
		return err
	}
	return clearRun(ctx, r.store, run, &sweep.Tally{})
}

// forget finishes a restoration that was cut off when all was back and the plan gone. Then
// there is no such run any more, as it says; where objects lie without a plan they stay.
func forget(ctx context.Context, store Store, run string) error {
	empty, err := isEmpty(ctx, store, run)
	if err != nil || !empty {
		return errors.Join(errNoPlan, err)
	}
	if err := clearRun(ctx, store, run, &sweep.Tally{}); err != nil {
		return err
	}
	return &NoRunError{run}
}

// isEmpty reports whether there is no object in a run's directory but its plan, and
// perhaps copies that were begun and never finished.
func isEmpty(ctx context.Context, store Store, run string) (bool, error) {
	empty := true
	err := below(ctx, store, run, func(object storage.Object) error {
		empty = empty && (object.Dir || object.Multipart != "")
		return nil
	})
	return empty, err
}
