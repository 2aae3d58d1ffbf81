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

// RestoreOptions select the part of a run that is restored. The zero value restores all of it.
type RestoreOptions struct {
	// Repository restores the objects of one repository, and the blobs that its links name.
	Repository string
	// Digest restores one blob. If it is a manifest, all that it reaches is restored too. The links
	// are restored in Repository or, without it, in the repositories that lost a link to Digest.
	Digest digest.Digest
	// DryRun returns the result and changes nothing. It does not compare blobs with their digests,
	// so a damaged blob counts as intact.
	DryRun bool
	// OnRestored, if set, is called for each removal that was undone. The calls are serial.
	OnRestored func(kind sweep.Kind, tally sweep.Tally)
}

// Restored is the result of a restore.
type Restored struct {
	// Back counts the removals of the plan that were undone, with the bytes of blobs and uploads.
	// There counts the removals for which nothing had to be done, because the objects exist.
	Back, There map[sweep.Kind]sweep.Tally
	// Left has the first 1,000 removals by path that were not undone. LeftCount is their number.
	Left      []Left
	LeftCount int
	// Damaged are the runs that RestoreAll skipped because their plans can't be read.
	Damaged []Damaged
	// NotLinked has the first 1,000 manifests, sorted, that no repository links. NotLinkedCount is
	// their number. Nobody can pull them. The registry's API had deleted their links before the
	// run, so the quarantine has only their blobs. With RestoreOptions.Repository they are the
	// manifests that this repository can serve again, and their blobs are still in the
	// quarantine. A restore with RestoreOptions.Digest links them.
	NotLinked      []digest.Digest
	NotLinkedCount int
	// NotLinkedUnknown is the error that left NotLinked unknown, "" if there is none.
	// The restore itself is complete.
	NotLinkedUnknown string
	// Linked are the revision links that were written although no plan lists them. A deletion
	// through the registry's API had removed them before the run. They are only written with
	// RestoreOptions.Digest.
	Linked []Linked
	// Unlinked is RestoreOptions.Digest if it is a manifest that no repository links: it is stored
	// and can't be pulled.
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

// Left is a removal that was not undone, with the reason.
type Left struct {
	sweep.Removal
	Why Why `json:"why"`
}

// Why is the reason why a removal was not undone.
type Why string

// The reasons.
const (
	WhyGone     Why = "gone"     // it is neither in the registry nor in the quarantine
	WhyDamaged  Why = "damaged"  // its copy in the quarantine is damaged
	WhyOccupied Why = "occupied" // another object is at its path, and is not overwritten
	WhyCovered  Why = "covered"  // a later version of it is hidden too, by another run or by hand
	// WhyUnrecorded is the reason for an object with a hidden version that no record has.
	WhyUnrecorded Why = "unrecorded"
	WhyNoBlob     Why = "no_blob" // the blob that the link points to does not exist
	WhyUnnamed    Why = "unnamed" // the line of the plan has names that are not valid in the layout
)

const maxLeft = 1000

// Restore restores the objects of a run. It overwrites nothing, and verifies the digest of each blob
// before it restores the blob. Objects that exist already count as There, so Restore can be run again
// after any interruption. It removes a quarantine from which everything was restored.
//
// A registry may run meanwhile, but no other regsweep. An error of the storage stops the restore.
// Restored then has the results until the error.
func Restore(ctx context.Context, store Store, run string, options RestoreOptions) (Restored, error) {
	s := newRestoration(store, options)
	opened, err := s.restore(ctx, run, true)
	if !opened {
		return Restored{}, err
	}
	return s.finished(), err
}

// RestoreAll restores all runs, the newest first. If the options select a part, it skips runs that have
// nothing of it. The error is a *NothingError if no run has any of it. A manifest that is stored can be
// linked again without a run. Runs with a damaged plan are skipped and reported.
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

// restoration is the state that all runs of one restore share.
type restoration struct {
	store   Store
	options RestoreOptions
	seed    maphash.Seed

	mu     sync.Mutex // guards result, noted and lost
	result Restored
	// noted has the counted removals by their hashes. The value is true for a removal that was not
	// undone. Several runs can list the same removal. It is nil if there is only one run.
	noted map[uint64]bool
	// lost are blobs that were not restored. Links to them are not restored either. All blobs of
	// a run are restored before its first link.
	lost map[digest.Digest]bool
	// lostLinks has the repositories that lost revision or layer links to wanted digests, with
	// these digests. It is empty if everything is restored.
	lostLinks map[string]map[digest.Digest]bool
	// linked has the hashes of the targets of all revision and layer links in the plans. maybeUnlinked
	// has the blobs that could be manifests by their size and have no such link in their plan.
	linked        map[uint64]struct{}
	maybeUnlinked []digest.Digest
	restored      bool // all runs are restored: an object that does not exist now will not exist later
}

func newRestoration(store Store, options RestoreOptions) *restoration {
	return &restoration{
		store: store, options: options, seed: maphash.MakeSeed(), lost: map[digest.Digest]bool{},
		lostLinks: map[string]map[digest.Digest]bool{}, linked: map[uint64]struct{}{},
		result: Restored{Back: map[sweep.Kind]sweep.Tally{}, There: map[sweep.Kind]sweep.Tally{}},
	}
}

// restore restores one run. single is set if it is the only one. opened is false if the plan could not
// be opened.
func (s *restoration) restore(ctx context.Context, run string, single bool) (opened bool, err error) {
	record, err := open(ctx, s.store, run)
	if errors.Is(err, errNoPlan) && !s.options.DryRun {
		err = finishDiscard(ctx, s.store, run)
	}
	if err != nil {
		return false, fmt.Errorf("restore the quarantine %s: %w", run, err)
	}
	r := &restorer{restoration: s, plan: record.plan, dir: dirOf(run)}
	err = r.restoreRun(ctx, run, single)
	for _, hidden := range append(r.laterHidden, r.hidden) {
		err = errors.Join(err, hidden.close())
	}
	if err = errors.Join(err, record.close()); err != nil {
		err = fmt.Errorf("restore the quarantine %s: %w", run, err)
	}
	return true, err
}

// restoreRun restores the run whose plan is open. It removes a quarantine from which everything was
// restored.
func (r *restorer) restoreRun(ctx context.Context, run string, single bool) (err error) {
	if r.hidden, err = openHidden(ctx, r.store, run); err != nil {
		return err
	}
	if err := r.openLater(ctx, run); err != nil {
		return err
	}
	err = r.run(ctx)
	if nothing := (*NothingError)(nil); single && errors.As(err, &nothing) {
		nothing.Run = run
		if nothing.Others, err = r.others(ctx, run); err != nil {
			return err
		}
		return nothing
	}
	if err != nil {
		return err
	}
	if r.wanted.everything && !r.options.DryRun && r.left.Load() == 0 {
		if err := r.discard(ctx, run); err != nil {
			return err
		}
	}
	if single {
		_, err = r.conclude(ctx)
	}
	return err
}

// openLater finds the runs that are not older than this one. If this run was interrupted, they may have
// the objects of its plan that it did not move. A run's name begins with its time.
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
		} else if !isDir { // symbolic links are not followed
			continue
		}
		r.later = append(r.later, dirOf(name))
		hidden, err := openHidden(ctx, r.store, name)
		var damaged *damagedError
		switch {
		case errors.As(err, &damaged): // reported when that run is restored
		case err != nil:
			return err
		case hidden != nil:
			r.laterHidden = append(r.laterHidden, hidden)
		}
	}
	return nil
}

// RestoreLinks restores the links of a plan whose blobs exist. It is for a run that has removed its
// garbage without a quarantine.
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

// restorer restores one run. Without a plan it concludes a restore of all runs.
type restorer struct {
	*restoration
	plan   *sweep.File
	dir    string   // of the quarantine; "" if the run has none
	later  []string // directories of later runs, see openLater
	hidden *hidden  // nil if the run has moved its objects
	wanted wanted
	left   atomic.Int64 // number of removals of this run that were not undone
	// laterHidden are the records of later runs that have hidden versions.
	laterHidden []*hidden
	relink      []Linked // revision links to write that no plan lists; only with options.Digest
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
		// The target of a link must survive a loss of power before the link does.
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

// verdict is the result for one removal. The zero value means that all its objects exist already.
type verdict struct {
	back bool // the removal was undone
	why  Why  // the reason why it was not, or ""
}

func (s *restoration) note(removal sweep.Removal, v verdict) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.noted != nil {
		hash := maphash.String(s.seed, string(removal.Kind)+" "+removal.Path+" "+string(removal.Digest))
		wasLeft, again := s.noted[hash]
		// In a dry run, the version that a newer run would restore still covers an older version.
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
			s.result.truncateLeft()
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

// truncateLeft sorts Left by path and truncates it to maxLeft.
func (r *Restored) truncateLeft() {
	slices.SortFunc(r.Left, func(a, b Left) int { return strings.Compare(a.Path, b.Path) })
	r.Left = r.Left[:min(len(r.Left), maxLeft)]
}

func (s *restoration) finished() Restored {
	s.result.truncateLeft()
	return s.result
}

// dirs returns the directories that may have moved objects, the run's own first.
func (r *restorer) dirs() []string {
	if r.dir == "" || r.hidden != nil {
		return r.later
	}
	return append([]string{r.dir}, r.later...)
}

// locate finds an object: first in the run's own directory, then at its path in the registry (exists is
// true), then in the directories of later runs. kept is its path in a quarantine, or "".
func (r *restorer) locate(ctx context.Context, path string) (kept string, exists bool, err error) {
	if r.dir != "" && r.hidden == nil {
		kept = r.dir + "/" + path
		if found, err := r.exists(ctx, kept); err != nil || found {
			return kept, false, err
		}
	}
	if exists, err = r.exists(ctx, path); err != nil || exists {
		return "", exists, err
	}
	for _, dir := range r.later {
		kept = dir + "/" + path
		if found, err := r.exists(ctx, kept); err != nil || found {
			return kept, false, err
		}
	}
	return "", false, nil
}

// exists reports whether a path exists, also if it is not a regular file.
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

// blob restores a blob if its content matches its digest.
func (r *restorer) blob(ctx context.Context, removal sweep.Removal) (verdict, error) {
	path := layout.BlobPath(removal.Digest)
	switch hidden, found, err := r.hidden.find(path); {
	case err != nil:
		return verdict{}, err
	case found:
		return r.unhide(ctx, hidden, removal.Digest)
	}
	kept, exists, err := r.locate(ctx, path)
	switch {
	case err != nil || exists:
		return verdict{}, err
	case kept == "":
		hidden, found, err := r.findLater(path)
		if err != nil {
			return verdict{}, err
		}
		if !found {
			return r.missing(ctx, path)
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

// damagedBlob returns the verdict for a blob whose copy in the quarantine is damaged. If the registry
// has an intact one, it removes the copy.
func (r *restorer) damagedBlob(ctx context.Context, kept, path string, d digest.Digest) (verdict, error) {
	exists, err := r.exists(ctx, path)
	if err == nil && exists {
		exists, err = r.intact(ctx, path, d)
	}
	if err != nil || !exists {
		return verdict{why: WhyDamaged}, err
	}
	return verdict{}, r.store.Remove(ctx, []storage.Ref{{Path: kept}})[0].Err
}

// intact reports whether the content of an object has the digest.
func (r *restorer) intact(ctx context.Context, path string, d digest.Digest) (bool, error) {
	verifier := d.Verifier()
	err := r.store.Stream(ctx, path, verifier)
	if errors.Is(err, storage.ErrNotRegular) || errors.Is(err, storage.ErrUnreadable) {
		return false, nil
	}
	return err == nil && verifier.Verified(), err
}

// moveBack moves an object from a quarantine to its path. If an object exists there and same reports
// that it is equivalent, moveBack removes the object in the quarantine.
func (r *restorer) moveBack(ctx context.Context, kept, path string, same func() (bool, error)) (verdict, error) {
	if r.options.DryRun {
		exists, err := r.exists(ctx, path)
		return verdict{back: !exists}, err
	}
	err := r.store.Move(ctx, []storage.Move{{From: kept, To: path}})[0].Err
	switch {
	case err == nil:
		return verdict{back: true}, nil
	case errors.Is(err, storage.ErrNotRegular): // a symbolic link or a pipe
		return verdict{why: WhyDamaged}, nil
	case !errors.Is(err, fs.ErrExist):
		return verdict{}, err
	}
	if good, err := same(); err != nil || !good {
		return verdict{why: WhyOccupied}, err
	}
	return verdict{}, r.store.Remove(ctx, []storage.Ref{{Path: kept}})[0].Err
}

// links restores the links of a removal, from the quarantine or from the plan.
func (r *restorer) links(ctx context.Context, removal sweep.Removal) (verdict, error) {
	var all verdict
	links := removal.Links()
	for n, link := range links {
		// The run may not have read the other links, so their copies are not compared with the plan.
		isRead := n == len(links)-1 && removal.Kind.IsRead()
		v, err := r.link(ctx, link, isRead)
		if err != nil || v.why != "" {
			return v, err
		}
		all.back = all.back || v.back
	}
	return all, nil
}

// link restores a link. If the run has read the link, its copy must have the target in the plan.
// Otherwise the copy is damaged, and the link is written again from the plan.
func (r *restorer) link(ctx context.Context, link sweep.Link, isRead bool) (verdict, error) {
	if r.lost[link.Target] {
		exists, err := r.exists(ctx, link.Path)
		if err != nil || !exists {
			return verdict{why: WhyNoBlob}, err
		}
	}
	switch hidden, found, err := r.hidden.find(link.Path); {
	case err != nil:
		return verdict{}, err
	case found:
		return r.unhide(ctx, hidden, "")
	}
	kept, exists, err := r.locate(ctx, link.Path)
	switch {
	case err != nil || exists:
		return verdict{}, err
	case kept != "":
		intact := !isRead || r.options.DryRun
		if !intact {
			intact, err = r.pointsTo(ctx, kept, link.Target)
		}
		if err != nil {
			return verdict{}, err
		}
		if intact {
			return r.moveBack(ctx, kept, link.Path, func() (bool, error) { return r.sameContent(ctx, kept, link.Path) })
		}
	}
	stored, err := r.exists(ctx, layout.BlobPath(link.Target))
	if !stored && r.options.DryRun && err == nil {
		stored, err = r.isRestorable(ctx, layout.BlobPath(link.Target))
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
	existed := errors.Is(err, fs.ErrExist)
	if err != nil && !existed {
		return verdict{}, err
	}
	if kept != "" { // a damaged copy
		if good, err := r.pointsTo(ctx, link.Path, link.Target); err != nil || !good {
			return verdict{why: WhyOccupied}, err
		}
		err = r.store.Remove(ctx, []storage.Ref{{Path: kept}})[0].Err
		if err != nil && !errors.Is(err, storage.ErrNotRegular) { // such a copy is left in the run
			return verdict{}, err
		}
	}
	return verdict{back: !existed}, nil
}

// pointsTo reports whether a link contains the digest.
func (r *restorer) pointsTo(ctx context.Context, path string, target digest.Digest) (bool, error) {
	content, err := r.store.Read(ctx, path, 1<<10)
	if errors.Is(err, storage.ErrNotRegular) || errors.Is(err, storage.ErrTooLarge) || errors.Is(err, storage.ErrUnreadable) {
		return false, nil
	}
	return strings.TrimSpace(string(content)) == string(target), err
}

// isRestorable reports whether a quarantine has an object, moved or hidden. It changes nothing.
func (r *restorer) isRestorable(ctx context.Context, path string) (bool, error) {
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

// findLater returns the version of a path in the records of later runs.
func (r *restorer) findLater(path string) (v storage.HiddenVersion, found bool, err error) {
	for _, hidden := range r.laterHidden {
		if v, found, err = hidden.find(path); err != nil || found {
			return v, found, err
		}
	}
	return v, false, nil
}

// sameContent reports whether two objects have the same content.
func (r *restorer) sameContent(ctx context.Context, one, other string) (bool, error) {
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

// upload restores all files of an upload that a quarantine has.
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
			v, err := r.moveBack(ctx, kept, path, func() (bool, error) { return r.sameContent(ctx, kept, path) })
			if err != nil || v.why != "" {
				return v, err
			}
			all.back = all.back || v.back
		}
	}
	if !all.back {
		return r.uploadWithoutFiles(ctx, dir)
	}
	return all, nil
}

// uploadWithoutFiles returns the verdict for an upload that has no file in a quarantine. The upload
// counts as existing if its directory exists, in the registry or in a quarantine: empty directories
// are restored too.
func (r *restorer) uploadWithoutFiles(ctx context.Context, dir string) (verdict, error) {
	exists := false
	for _, at := range append([]string{""}, r.dirs()...) {
		err := r.store.Below(ctx, path.Join(at, dir), func(page []storage.Object) error {
			exists = exists || len(page) > 0
			return nil
		})
		if err != nil {
			return verdict{}, err
		}
	}
	if !exists {
		return r.missing(ctx, dir+"/data")
	}
	return verdict{}, nil
}

// directories restores the wanted empty directories.
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

// discard removes a quarantine that is empty (isEmpty).
func (r *restorer) discard(ctx context.Context, run string) error {
	empty, err := isEmpty(ctx, r.store, run)
	if err != nil || !empty {
		return err
	}
	return clearRun(ctx, r.store, run, &Freed{})
}

// finishDiscard removes a run without a plan if it is empty: its discard was interrupted. It returns a
// *NoRunError then. If the run has objects, it keeps them and returns errNoPlan.
func finishDiscard(ctx context.Context, store Store, run string) error {
	empty, err := isEmpty(ctx, store, run)
	if err != nil || !empty {
		return errors.Join(errNoPlan, err)
	}
	if err := clearRun(ctx, store, run, &Freed{}); err != nil {
		return err
	}
	return &NoRunError{run}
}

// isEmpty reports whether a run's directory has no objects except for its plan, its record and
// unfinished multipart uploads.
func isEmpty(ctx context.Context, store Store, run string) (bool, error) {
	empty := true
	err := below(ctx, store, run, func(object storage.Object) error {
		empty = empty && (object.Dir || object.Multipart != "")
		return nil
	})
	return empty, err
}
