package quarantine

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"regsweep/storage"
	"regsweep/storage/layout"
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
	// DryRun says what would be done, and does nothing. It does not compare blobs with their
	// digests, so that a damaged one counts as good.
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
	// Damaged are the runs that RestoreAll left because their plans can't be read.
	Damaged []Damaged
	// NotLinked are manifests that no repository links, so that nobody can pull them, sorted,
	// up to a thousand; NotLinkedCount is how many there are. The registry's API had deleted
	// their links before the run, which put the blobs into the quarantine and no link. With
	// RestoreOptions.Repository they are those that this repository can serve again, and their
	// blobs are still in the quarantine. RestoreOptions.Digest links them.
	NotLinked      []digest.Digest
	NotLinkedCount int
	// NotLinkedUnknown is why the repositories could not be listed for NotLinked, "" if they
	// were. The restoration is done all the same.
	NotLinkedUnknown string
	// Linked are the revision links that were written although no plan lists them: before the
	// run, a deletion through the registry's API had removed them. Only
	// RestoreOptions.Digest asks for them.
	Linked []Linked
	// Unlinked is RestoreOptions.Digest if that is a manifest and no repository links it: it
	// is stored and cannot be pulled.
	Unlinked digest.Digest
}

// Damaged is a run that can't be restored.
type Damaged struct {
	Run     string `json:"run"`
	Problem string `json:"problem"`
}

// Linked is a manifest that a repository links again.
type Linked struct {
	Repository string        `json:"repository"`
	Digest     digest.Digest `json:"digest"`
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
	WhyGone     Why = "gone"     // it is neither in the registry nor in the quarantine
	WhyDamaged  Why = "damaged"  // what is in the quarantine is not what it was
	WhyOccupied Why = "occupied" // there is something else in its place, which nobody writes over
	WhyCovered  Why = "covered"  // a later version of it is hidden as well, by another run or by hand
	// WhyUnrecorded is for what is hidden in the bucket, in a version that no record has.
	WhyUnrecorded Why = "unrecorded"
	WhyNoBlob     Why = "no_blob" // the blob that the link leads to is not there
	WhyUnnamed    Why = "unnamed" // the plan's line names nothing that a registry could hold
)

const maxLeft = 1000

// Restore puts back what a run took. It writes over nothing, and compares each blob with
// its digest before it is back. What it does not need to do, since it is done, counts as
// There, so that it can be run again after any interruption. A quarantine from which all
// was restored is discarded.
//
// It may run beside a registry, though not beside another regsweep. An error of the
// storage stops it; Restored says what was done until then.
func Restore(ctx context.Context, store Store, run string, options RestoreOptions) (Restored, error) {
	s := newRestoration(store, options)
	opened, err := s.restore(ctx, run, true)
	if !opened {
		return Restored{}, err
	}
	return s.finished(), err
}

// RestoreAll restores all runs, the newest first. Where the options ask for a part, runs that
// have nothing of it are left out; the error is a *NothingError if no run has any of it. A
// manifest that is stored can be linked again without a run. Runs with a damaged plan are left
// and reported.
func RestoreAll(ctx context.Context, store Store, options RestoreOptions) (Restored, error) {
	s := newRestoration(store, options)
	names, err := store.Names(ctx, Dir)
	if err != nil {
		return s.finished(), fmt.Errorf("list the quarantine: %w", err)
	}
	if len(names) > 1 {
		s.noted = map[uint64]bool{}
	}
	found := false
	var nothing *NothingError
	for _, name := range slices.Backward(names) {
		_, err := s.restore(ctx, name, false)
		var noRun *NoRunError
		var damaged *damagedError
		switch {
		case errors.As(err, &noRun), errors.As(err, &nothing):
		case errors.As(err, &damaged):
			s.result.Damaged = append(s.result.Damaged, Damaged{name, damaged.Error()})
		case err != nil:
			return s.finished(), err
		default:
			found = true
		}
	}
	r := &restorer{restoration: s}
	if err = r.openLater(ctx, ""); err == nil {
		var isStored bool
		isStored, err = r.conclude(ctx)
		if found = found || isStored; err != nil {
			err = fmt.Errorf("restore: %w", err)
		}
	}
	for _, hidden := range r.laterHidden {
		err = errors.Join(err, hidden.close())
	}
	if err == nil && !found && (nothing != nil || options.Digest != "") && len(s.result.Damaged) == 0 {
		err = &NothingError{Repository: options.Repository, Digest: options.Digest}
	}
	return s.finished(), err
}

// restoration is what the runs that one command restores have in common. mu guards what a
// removal's verdict changes.
type restoration struct {
	store   Store
	options RestoreOptions
	seed    maphash.Seed

	mu     sync.Mutex
	result Restored
	// noted are the removals that were counted, by their hashes; true for those that are left.
	// Several runs can list the same removal. It is nil if there is one run.
	noted map[uint64]bool
	// lost are blobs that are not back: what leads to them stays where it is. For a run it is
	// complete when its first link is come to.
	lost map[digest.Digest]bool
	// lostLinks are the repositories that lost revision or layer links to wanted digests, with
	// these digests. It is for a part alone.
	lostLinks map[string]map[digest.Digest]bool
	// linked are the hashes of the digests to which a revision or a layer link of a plan leads,
	// and unlinked are the blobs of manifests' size that have no such link in their plan.
	linked   map[uint64]struct{}
	unlinked []digest.Digest
	restored bool // all runs are: what does not exist now does not come back
}

func newRestoration(store Store, options RestoreOptions) *restoration {
	return &restoration{
		store: store, options: options, seed: maphash.MakeSeed(), lost: map[digest.Digest]bool{},
		lostLinks: map[string]map[digest.Digest]bool{}, linked: map[uint64]struct{}{},
		result: Restored{Back: map[sweep.Kind]sweep.Tally{}, There: map[sweep.Kind]sweep.Tally{}},
	}
}

// restore restores one run. It is the only one if single is set. opened is false if there is
// nothing to report.
func (s *restoration) restore(ctx context.Context, run string, single bool) (opened bool, err error) {
	record, err := open(ctx, s.store, run)
	if errors.Is(err, errNoPlan) && !s.options.DryRun {
		err = forget(ctx, s.store, run)
	}
	if err != nil {
		return false, fmt.Errorf("restore the quarantine %s: %w", run, err)
	}
	r := &restorer{restoration: s, plan: record.plan, dir: dirOf(run)}
	if r.hidden, err = openHidden(ctx, s.store, run); err == nil {
		err = r.openLater(ctx, run)
	}
	if err == nil {
		err = r.run(ctx)
	}
	if nothing := (*NothingError)(nil); single && errors.As(err, &nothing) {
		nothing.Run = run
		if nothing.Others, err = s.others(ctx, run); err == nil {
			err = nothing
		}
	}
	if err == nil && r.wanted.everything && !s.options.DryRun && r.left.Load() == 0 {
		err = r.discard(ctx, run)
	}
	if err == nil && single {
		_, err = r.conclude(ctx)
	}
	for _, hidden := range append(r.laterHidden, r.hidden) {
		err = errors.Join(err, hidden.close())
	}
	if err = errors.Join(err, record.close()); err != nil {
		err = fmt.Errorf("restore the quarantine %s: %w", run, err)
	}
	return true, err
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
		if isDir, err := isDirectory(ctx, r.store, name); err != nil {
			return err
		} else if !isDir { // nothing is taken through a symbolic link
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
	r := &restorer{restoration: newRestoration(store, options), plan: plan}
	err := r.run(ctx)
	if err == nil {
		_, err = r.conclude(ctx)
	}
	if err != nil {
		err = fmt.Errorf("restore links: %w", err)
	}
	return r.finished(), err
}

// restorer restores one run. Without a plan it concludes a restoration of all runs.
type restorer struct {
	*restoration
	plan   *sweep.File
	dir    string   // of the quarantine; "" where there is none
	later  []string // directories of later runs, see openLater
	hidden *hidden  // nil where the quarantine has hidden nothing
	wanted wanted
	left   atomic.Int64 // removals of this run that were not undone
	// laterHidden are the records of later runs that have hidden versions.
	laterHidden []*hidden
	relink      []Linked // revision links to write that no plan lists, for options.Digest alone
}

func (r *restorer) run(ctx context.Context) error {
	if err := r.want(ctx); err != nil {
		return err
	}
	for _, kind := range sweep.Restored() {
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
	undo := map[sweep.Form]func(context.Context, sweep.Removal) (verdict, error){
		sweep.Content: r.blob, sweep.Files: r.upload, sweep.Links: r.links,
	}[kind.Form()]
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
				if v.why != "" {
					r.left.Add(1)
				}
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

func (s *restoration) note(removal sweep.Removal, v verdict) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.noted != nil {
		hash := maphash.String(s.seed, string(removal.Kind)+" "+removal.Path+" "+string(removal.Digest))
		wasLeft, again := s.noted[hash]
		// In a dry run the version that a newer run would put back still covers an older one.
		wouldBeThere := again && !wasLeft && s.options.DryRun && v.why == WhyCovered
		if wouldBeThere || again && wasLeft == (v.why != "") {
			return
		}
		if again && wasLeft {
			s.result.LeftCount--
			s.result.Left = slices.DeleteFunc(s.result.Left, func(l Left) bool {
				return l.Kind == removal.Kind && l.Path == removal.Path && l.Digest == removal.Digest
			})
		}
		s.noted[hash] = v.why != ""
	}
	if isContent := removal.Kind.Form() == sweep.Content; isContent && v.why == "" {
		delete(s.lost, removal.Digest)
	} else if isContent {
		s.lost[removal.Digest] = true
	}
	to := s.result.There
	switch {
	case v.why != "":
		s.result.LeftCount++
		s.result.Left = append(s.result.Left, Left{removal, v.why})
		if len(s.result.Left) > 2*maxLeft {
			s.result.cut()
		}
		return
	case v.back:
		to = s.result.Back
		if s.options.OnRestored != nil {
			s.options.OnRestored(removal.Kind, sweep.Tally{Count: 1, Bytes: removal.Bytes})
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

func (s *restoration) finished() Restored {
	s.result.cut()
	return s.result
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
	path := layout.BlobPath(removal.Digest)
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
		if err != nil {
			return verdict{}, err
		}
		if !found {
			return r.gone(ctx, path)
		}
		return r.unhide(ctx, hidden, removal.Digest)
	}
	if !r.options.DryRun {
		intact, err := r.intact(ctx, kept, removal.Digest)
		if err == nil && !intact {
			return r.damagedBlob(ctx, kept, path, removal.Digest)
		}
		if err != nil {
			return verdict{}, err
		}
	}
	return r.moveBack(ctx, kept, path, func() (bool, error) { return r.intact(ctx, path, removal.Digest) })
}

// damagedBlob is for a blob whose copy in the quarantine is damaged. If the registry has a good
// one, the copy is not needed.
func (r *restorer) damagedBlob(ctx context.Context, kept, path string, d digest.Digest) (verdict, error) {
	there, err := r.exists(ctx, path)
	if err == nil && there {
		there, err = r.intact(ctx, path, d)
	}
	if err != nil || !there {
		return verdict{why: WhyDamaged}, err
	}
	return verdict{}, r.store.Remove(ctx, []storage.Ref{{Path: kept}})[0].Err
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
	case errors.Is(err, storage.ErrNotRegular): // somebody has put a symbolic link or a pipe there
		return verdict{why: WhyDamaged}, nil
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
	links := removal.Links()
	for n, link := range links {
		// What other links said the run need not have read.
		isRead := n == len(links)-1 && removal.Kind.IsRead()
		v, err := r.link(ctx, link, isRead)
		if err != nil || v.why != "" {
			return v, err
		}
		all.back = all.back || v.back
	}
	return all, nil
}

// link puts a link back. If the run has read it, a copy that says something else than the plan is not
// put back: the link is written anew.
func (r *restorer) link(ctx context.Context, link sweep.Link, isRead bool) (verdict, error) {
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
		intact := !isRead || r.options.DryRun
		if !intact {
			intact, err = r.says(ctx, kept, link.Target)
		}
		if err != nil {
			return verdict{}, err
		}
		if intact {
			return r.moveBack(ctx, kept, link.Path, func() (bool, error) { return r.alike(ctx, kept, link.Path) })
		}
	}
	stored, err := r.exists(ctx, layout.BlobPath(link.Target))
	if !stored && r.options.DryRun && err == nil {
		stored, err = r.comesBack(ctx, layout.BlobPath(link.Target))
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
	isThere := errors.Is(err, fs.ErrExist)
	if err != nil && !isThere {
		return verdict{}, err
	}
	if kept != "" { // a damaged copy
		if good, err := r.says(ctx, link.Path, link.Target); err != nil || !good {
			return verdict{why: WhyOccupied}, err
		}
		err = r.store.Remove(ctx, []storage.Ref{{Path: kept}})[0].Err
		if err != nil && !errors.Is(err, storage.ErrNotRegular) { // else it stays, and the run with it
			return verdict{}, err
		}
	}
	return verdict{back: !isThere}, nil
}

// says reports whether a link says a digest.
func (r *restorer) says(ctx context.Context, path string, target digest.Digest) (bool, error) {
	content, err := r.store.Read(ctx, path, 1<<10)
	if errors.Is(err, storage.ErrNotRegular) || errors.Is(err, storage.ErrTooLarge) || errors.Is(err, storage.ErrUnreadable) {
		return false, nil
	}
	return strings.TrimSpace(string(content)) == string(target), err
}

// comesBack reports whether the quarantine has an object, moved or hidden. It changes nothing.
func (r *restorer) comesBack(ctx context.Context, path string) (bool, error) {
	switch hidden, found, err := r.hidden.find(path); {
	case err != nil:
		return false, err
	case found:
		v, err := r.wouldUnhide(ctx, hidden)
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
	dir := layout.UploadPath(removal.Repository, removal.Upload)
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
		if errors.Is(err, storage.ErrNotRegular) {
			return verdict{why: WhyDamaged}, nil
		}
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
	if !all.back {
		return r.uploadThere(ctx, dir)
	}
	return all, nil
}

// uploadThere is the verdict for an upload that has no file in a quarantine: it is there, or it
// is gone. An empty directory of it counts, and in the run's own directory too, which comes back.
func (r *restorer) uploadThere(ctx context.Context, dir string) (verdict, error) {
	there := false
	for _, at := range append([]string{""}, r.dirs()...) {
		err := r.store.Below(ctx, path.Join(at, dir), func(page []storage.Object) error {
			there = there || len(page) > 0
			return nil
		})
		if err != nil {
			return verdict{}, err
		}
	}
	if !there {
		return r.gone(ctx, dir+"/data")
	}
	return verdict{}, nil
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
	return clearRun(ctx, r.store, run, &Freed{})
}

// forget finishes a restoration that was cut off when all was back and the plan gone. Then
// there is no such run any more, as it says; where objects lie without a plan they stay.
func forget(ctx context.Context, store Store, run string) error {
	empty, err := isEmpty(ctx, store, run)
	if err != nil || !empty {
		return errors.Join(errNoPlan, err)
	}
	if err := clearRun(ctx, store, run, &Freed{}); err != nil {
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
