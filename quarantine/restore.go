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
	// Linked are the revision links that were written although no plan lists them: before the
	// run, a deletion through the registry's API had removed them. Only
	// RestoreOptions.Digest asks for them.
	Linked []Linked
	// Unlinked is RestoreOptions.Digest if that is a manifest and no repository links it: it
	// is stored and cannot be pulled.
	Unlinked digest.Digest
}

// Linked is a manifest that a repository links again.
type Linked struct {
	Repository string        `json:"repository"`
	Digest     digest.Digest `json:"digest"`
}

func newRestored() Restored {
	return Restored{Back: map[sweep.Kind]sweep.Tally{}, There: map[sweep.Kind]sweep.Tally{}}
}

// add adds what became of another run.
func (r *Restored) add(of Restored) {
	for _, sum := range []struct{ to, from map[sweep.Kind]sweep.Tally }{{r.Back, of.Back}, {r.There, of.There}} {
		for kind, tally := range sum.from {
			all := sum.to[kind]
			all.Add(tally.Count, tally.Bytes)
			sum.to[kind] = all
		}
	}
	r.Left = append(r.Left, of.Left...)
	r.LeftCount += of.LeftCount
	r.cut()
	r.Linked = append(r.Linked, of.Linked...)
	if of.Unlinked != "" {
		r.Unlinked = of.Unlinked
	}
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
var restoreOrder = []sweep.Kind{sweep.Blob, sweep.Upload, sweep.LayerLink, sweep.OrphanLink, sweep.Revision, sweep.TagIndexEntry, sweep.Tag}

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
		err = r.openLater(ctx, run)
	}
	if err == nil {
		err = r.run(ctx)
	}
	if err == nil && r.wanted.everything && !options.DryRun && r.result.LeftCount == 0 {
		err = r.discard(ctx, run)
	}
	for _, hidden := range append(r.laterHidden, r.hidden) {
		err = errors.Join(err, hidden.close())
	}
	if err = errors.Join(err, record.close()); err != nil {
		err = fmt.Errorf("restore the quarantine %s: %w", run, err)
	}
	return r.finished(), err
}

// RestoreAll restores all runs, the newest first. Where the options ask for a part, runs that
// have nothing of it are left out; the error is a *NothingError if no run has any of it. A run
// with a damaged plan is an error, and the others are restored nevertheless.
func RestoreAll(ctx context.Context, store Store, options RestoreOptions) (Restored, error) {
	all := newRestored()
	names, err := store.Names(ctx, Dir)
	if err != nil {
		return all, fmt.Errorf("list the quarantine: %w", err)
	}
	found, failed := false, error(nil)
	var nothing *NothingError
	for _, name := range slices.Backward(names) {
		restored, err := Restore(ctx, store, name, options)
		var noRun *NoRunError
		var damaged *damagedError
		switch {
		case errors.As(err, &noRun), errors.As(err, &nothing):
			continue
		case errors.As(err, &damaged):
			failed = errors.Join(failed, err)
			continue
		}
		found = true
		all.add(restored)
		if err != nil {
			return all, errors.Join(failed, err)
		}
	}
	if failed == nil && nothing != nil && !found {
		return all, nothing
	}
	return all, failed
}

// openLater finds the runs that were not made before this one. If this run was interrupted, they
// may hold what its plan lists and what it did not get to. A run's name begins with its time.
func (r *restorer) openLater(ctx context.Context, run string) error {
	names, err := r.store.Names(ctx, Dir)
	if err != nil {
		return fmt.Errorf("list the quarantine: %w", err)
	}
	madeAt, _, _ := strings.Cut(run, "-")
	for _, name := range names {
		if at, _, _ := strings.Cut(name, "-"); name == run || at < madeAt {
			continue
		}
		r.later = append(r.later, dirOf(name))
		hidden, err := openHidden(ctx, r.store, name)
		var damaged *damagedError
		switch {
		case errors.As(err, &damaged): // its own restoration says so
		case err != nil:
			return err
		case hidden != nil:
			r.laterHidden = append(r.laterHidden, hidden)
		}
	}
	return nil
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
	dir     string   // of the quarantine; "" where there is none
	later   []string // directories of later runs, see openLater
	hidden  *hidden  // nil where the quarantine has hidden nothing
	options RestoreOptions
	wanted  wanted
	// laterHidden are the records of later runs that have hidden versions.
	laterHidden []*hidden
	// lostLinks are the repositories that lost revision or layer links to wanted digests, with
	// these digests. relink are the revision links to write that no plan lists. Both are for
	// options.Digest alone.
	lostLinks map[string]map[digest.Digest]bool
	relink    []Linked

	mu     sync.Mutex
	result Restored
	// lost are blobs that are not back: what leads to them stays where it is. It is
	// complete when the first link is come to.
	lost map[digest.Digest]bool
}

func newRestorer(store Store, plan *sweep.File, dir string, options RestoreOptions) *restorer {
	return &restorer{
		store: store, plan: plan, dir: dir, options: options, lost: map[digest.Digest]bool{},
		result: newRestored(),
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
	if r.options.Digest != "" {
		if err := r.linkAgain(ctx); err != nil {
			return err
		}
	}
	return r.directories(ctx)
}

// kind undoes all removals of one kind.
func (r *restorer) kind(ctx context.Context, kind sweep.Kind) error {
	undo := map[sweep.Kind]func(context.Context, sweep.Removal) (verdict, error){
		sweep.Blob: r.blob, sweep.Upload: r.upload, sweep.LayerLink: r.links, sweep.OrphanLink: r.links, sweep.Revision: r.links, sweep.TagIndexEntry: r.links, sweep.Tag: r.links,
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

// dirs are the directories in which moved objects may lie, the run's own first.
func (r *restorer) dirs() []string {
	if r.dir == "" || r.hidden != nil {
		return r.later
	}
	return append([]string{r.dir}, r.later...)
}

// locate finds an object: in the run's own directory, or else at its path (there), or else in
// the directory of a later run. kept is "" if no quarantine has it.
func (r *restorer) locate(ctx context.Context, path string) (kept string, there bool, err error) {
	if r.dir != "" && r.hidden == nil {
		kept = r.dir + "/" + path
		if found, err := r.exists(ctx, kept); err != nil || found {
			return kept, false, err
		}
	}
	if there, err = r.exists(ctx, path); err != nil || there {
		return "", there, err
	}
	for _, dir := range r.later {
		kept = dir + "/" + path
		if found, err := r.exists(ctx, kept); err != nil || found {
			return kept, false, err
		}
	}
	return "", false, nil
}

// exists reports whether there is an object at a path, whatever it is.
func (r *restorer) exists(ctx context.Context, path string) (bool, error) {
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
	kept, there, err := r.locate(ctx, path)
	switch {
	case err != nil || there:
		return verdict{}, err
	case kept == "":
		hidden, found, err := r.findLater(path)
		if err != nil || !found {
			return verdict{why: WhyGone}, err
		}
		return r.unhide(ctx, hidden, removal.Digest)
	}
	if !r.options.DryRun {
		intact, err := r.intact(ctx, kept, removal.Digest)
		if err != nil || !intact {
			return verdict{why: WhyDamaged}, err
		}
	}
	return r.moveBack(ctx, kept, path, func() (bool, error) { return r.intact(ctx, path, removal.Digest) })
}

// intact reports whether an object has a digest.
func (r *restorer) intact(ctx context.Context, path string, d digest.Digest) (bool, error) {
	verifier := d.Verifier()
	err := r.store.Stream(ctx, path, verifier)
	if errors.Is(err, storage.ErrNotRegular) || errors.Is(err, storage.ErrUnreadable) {
		return false, nil
	}
	return err == nil && verifier.Verified(), err
}

// moveBack moves an object from its place in a quarantine to its path. Where there is an
// object already, same says whether it is as good; then the quarantine's is not needed.
func (r *restorer) moveBack(ctx context.Context, kept, path string, same func() (bool, error)) (verdict, error) {
	if r.options.DryRun {
		there, err := r.exists(ctx, path)
		return verdict{back: !there}, err
	}
	err := r.store.Move(ctx, []storage.Move{{From: kept, To: path}})[0].Err
	switch {
	case err == nil:
		return verdict{back: true}, nil
	case !errors.Is(err, fs.ErrExist):
		return verdict{}, err
	}
	if good, err := same(); err != nil || !good {
		return verdict{why: WhyOccupied}, err
	}
	return verdict{}, r.store.Remove(ctx, []storage.Ref{{Path: kept}})[0].Err
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
	kept, there, err := r.locate(ctx, link.Path)
	switch {
	case err != nil || there:
		return verdict{}, err
	case kept != "":
		return r.moveBack(ctx, kept, link.Path, func() (bool, error) { return r.alike(ctx, kept, link.Path) })
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
	kept, _, err := r.locate(ctx, path)
	if err != nil || kept != "" {
		return kept != "", err
	}
	_, found, err := r.findLater(path)
	return found, err
}

// findLater finds a path in the records of later runs.
func (r *restorer) findLater(path string) (v storage.HiddenVersion, found bool, err error) {
	for _, hidden := range r.laterHidden {
		if v, found, err = hidden.find(path); err != nil || found {
			return v, found, err
		}
	}
	return v, false, nil
}

// alike reports whether two objects have the same content.
func (r *restorer) alike(ctx context.Context, one, other string) (bool, error) {
	var sums [2]digest.Digest
	for i, path := range []string{one, other} {
		digester := digest.Canonical.Digester()
		err := r.store.Stream(ctx, path, digester.Hash())
		if errors.Is(err, storage.ErrNotRegular) || errors.Is(err, storage.ErrUnreadable) {
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
	for _, hidden := range append([]*hidden{r.hidden}, r.laterHidden...) {
		if hidden == nil {
			continue
		}
		for _, version := range hidden.uploads[dir] {
			v, err := r.unhide(ctx, version, "")
			if err != nil || v.why != "" {
				return v, err
			}
			all.back = all.back || v.back
		}
	}
	for _, run := range r.dirs() {
		var files []string
		err := r.store.Below(ctx, run+"/"+dir, func(page []storage.Object) error {
			for _, object := range page {
				if !object.Dir && object.Multipart == "" {
					files = append(files, object.Path)
				}
			}
			return nil
		})
		if err != nil {
			return verdict{}, err
		}
		for _, kept := range files {
			path := strings.TrimPrefix(kept, run+"/")
			v, err := r.moveBack(ctx, kept, path, func() (bool, error) { return r.alike(ctx, kept, path) })
			if err != nil || v.why != "" {
				return v, err
			}
			all.back = all.back || v.back
		}
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
