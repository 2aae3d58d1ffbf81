package quarantine

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"iter"
	"math"
	"os"
	"path"
	"slices"
	"strings"
	"sync"

	"regsweep/internal/spool"
	"regsweep/storage"
	"regsweep/storage/layout"
	"regsweep/sweep"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

// A bucket that keeps versions has a quarantine without our help: a removal there hides
// the object behind a delete marker, and what it hid can be made current again. So nothing
// is copied. What was hidden is written down before the first object is, in the run's
// directory, and no object is hidden that is not written down.

// hiddenName is the name of that record: a line of JSON for each version. Links of which
// the plan knows what they say are not in it.
const hiddenName = "versions.jsonl"

func hiddenOf(run string) string { return dirOf(run) + "/" + hiddenName }

// versioned is a storage that can keep versions.
type versioned interface {
	storage.Versioner
	storage.Hider
	storage.Forgetter
}

// inState returns the store if its bucket is in one of these states, and nil if not.
func inState(ctx context.Context, store Store, states ...storage.Versioning) (versioned, error) {
	v, is := store.(versioned)
	if !is {
		return nil, nil
	}
	state, err := v.Versioning(ctx)
	if err != nil || !slices.Contains(states, state) {
		return nil, err
	}
	return v, nil
}

// hidden is the record of what a run has hidden, or was about to, in a file that can be
// asked for a path: some 30 bytes of memory for each.
type hidden struct {
	store   versioned
	total   sweep.Tally
	uploads map[string][]storage.HiddenVersion // by the upload's directory

	lenient    bool // pass over lines that can't be read
	unreadable int  // so many were

	file   *os.File
	lineOf map[uint64]int64 // where the line of a path begins, by its hash
	seed   maphash.Seed
}

func newHidden(store versioned) *hidden {
	return &hidden{
		store: store, uploads: map[string][]storage.HiddenVersion{},
		lineOf: map[uint64]int64{}, seed: maphash.MakeSeed(),
	}
}

func (h *hidden) close() error {
	if h == nil {
		return nil
	}
	return h.file.Close()
}

// recordHidden writes down, in a run's directory, the current versions of all objects whose
// content nothing else tells. An object that has none is not there.
func recordHidden(ctx context.Context, store Store, over versioned, run string, refs iter.Seq[storage.Ref]) (*hidden, error) {
	var h *hidden
	file, err := spool.Write(func(w io.Writer) error {
		h = newHidden(over)
		return h.write(ctx, store.Concurrency(), refs, w)
	})
	if err != nil {
		return nil, err
	}
	h.file = file
	if err := store.Put(ctx, hiddenOf(run), file); err != nil {
		return nil, errors.Join(err, h.close())
	}
	return h, nil
}

// write finds the versions, some batches at a time.
func (h *hidden) write(ctx context.Context, concurrency int, refs iter.Seq[storage.Ref], to io.Writer) error {
	var mu sync.Mutex
	end := int64(0)
	w := bufio.NewWriter(to)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(concurrency)
	find := func(paths []string) {
		g.Go(func() error {
			found, err := h.store.Current(ctx, paths)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			for _, v := range found {
				line, err := json.Marshal(v)
				if err != nil {
					return err
				}
				if _, err := w.Write(append(line, '\n')); err != nil {
					return fmt.Errorf("write a temporary file: %w", err)
				}
				h.add(v, end)
				end += int64(len(line)) + 1
			}
			return nil
		})
	}
	var paths []string
	for ref := range refs {
		if ref.Content != "" || ref.Multipart != "" {
			continue
		}
		if paths = append(paths, ref.Path); len(paths) == storage.RemoveBatch {
			find(paths)
			paths = nil
		}
	}
	if len(paths) > 0 {
		find(paths)
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("write a temporary file: %w", err)
	}
	return nil
}

func (h *hidden) add(v storage.HiddenVersion, at int64) {
	h.lineOf[maphash.String(h.seed, v.Path)] = at
	h.total.Add(1, v.Bytes)
	if dir := uploadOf(v.Path); dir != "" {
		h.uploads[dir] = append(h.uploads[dir], v)
	}
}

// uploadOf is the directory of the upload that a path lies in; "" if it lies in none.
func uploadOf(path string) string {
	repository, below, is := strings.Cut(path, "/_uploads/")
	if !is {
		return ""
	}
	id, _, _ := strings.Cut(below, "/")
	return layout.UploadPath(strings.TrimPrefix(repository, storage.RepositoriesDir+"/"), id)
}

// eachHidden visits those versions whose recorded version is not the current one: those that the
// run has hidden and that have not come back. Without the permission to list versions, it
// visits all that are recorded.
func (h *hidden) eachHidden(ctx context.Context, visit func(storage.HiddenVersion)) error {
	var paths []string
	var versions []storage.HiddenVersion
	check := func() error {
		current, err := h.store.Current(ctx, paths)
		if err != nil && !errors.Is(err, fs.ErrPermission) {
			return err
		}
		visible := map[string]string{}
		for _, v := range current {
			visible[v.Path] = v.Version
		}
		for _, v := range versions {
			if visible[v.Path] != v.Version {
				visit(v)
			}
		}
		paths, versions = paths[:0], versions[:0]
		return nil
	}
	err := h.each(func(v storage.HiddenVersion, _ int64) error {
		if paths, versions = append(paths, v.Path), append(versions, v); len(paths) < storage.RemoveBatch {
			return nil
		}
		return check()
	})
	if err != nil {
		return err
	}
	return check()
}

// openHidden reads a run's record. It is nil where the run has none, since it has copied.
// The error is a *damagedError where the record can't be made out.
func openHidden(ctx context.Context, store Store, run string) (*hidden, error) {
	return readRecord(ctx, store, run, false)
}

// readRecord is openHidden. If it is lenient, it passes over the lines that can't be read.
func readRecord(ctx context.Context, store Store, run string, lenient bool) (*hidden, error) {
	over, is := store.(versioned)
	if !is {
		return nil, nil
	}
	file, err := spool.Write(func(w io.Writer) error { return store.Stream(ctx, hiddenOf(run), w) })
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	h := newHidden(over)
	h.file, h.lenient = file, lenient
	err = h.each(func(v storage.HiddenVersion, at int64) error {
		h.add(v, at)
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, h.close())
	}
	return h, nil
}

// each visits all lines, with the places where they begin.
func (h *hidden) each(visit func(v storage.HiddenVersion, at int64) error) error {
	lines := bufio.NewReader(io.NewSectionReader(h.file, 0, math.MaxInt64))
	h.unreadable = 0
	at := int64(0)
	for n := 1; ; n++ {
		line, err := lines.ReadBytes('\n')
		switch {
		case err == io.EOF && len(line) == 0:
			return nil
		case err != nil && err != io.EOF:
			return fmt.Errorf("read a temporary file: %w", err)
		}
		v, err := parseHidden(line)
		switch {
		case err != nil && h.lenient:
			h.unreadable++
		case err != nil:
			return &damagedError{fmt.Sprintf("its record of versions is damaged: line %d", n)}
		default:
			if err := visit(v, at); err != nil {
				return err
			}
		}
		at += int64(len(line))
	}
}

// parseHidden reads a line. What it names lies in the layout: a record can't be made to
// name anything else.
func parseHidden(line []byte) (v storage.HiddenVersion, err error) {
	if !bytes.HasSuffix(line, []byte("\n")) {
		return v, io.ErrUnexpectedEOF
	}
	if err := json.Unmarshal(line, &v); err != nil {
		return v, err
	}
	inLayout := strings.HasPrefix(v.Path, storage.BlobsDir+"/") || strings.HasPrefix(v.Path, storage.RepositoriesDir+"/")
	if !inLayout || v.Version == "" || v.Bytes < 0 {
		return v, errors.New("it names no version")
	}
	return v, nil
}

// find looks a path up.
func (h *hidden) find(path string) (v storage.HiddenVersion, found bool, err error) {
	if h == nil {
		return v, false, nil
	}
	at, found := h.lineOf[maphash.String(h.seed, path)]
	if !found {
		return v, false, nil
	}
	line, err := bufio.NewReader(io.NewSectionReader(h.file, at, math.MaxInt64-at)).ReadBytes('\n')
	if err == nil {
		v, err = parseHidden(line)
	}
	if err != nil {
		return v, false, fmt.Errorf("read a temporary file: %w", err)
	}
	return v, v.Path == path, nil
}

// errUnrecorded is for what came after the versions were listed. It stays.
var errUnrecorded = errors.New("it came while the run went on, and its version is not recorded")

// errNotHidden is for what a removal has not hidden, since the bucket keeps no versions any
// more.
var errNotHidden = errors.New("the bucket has not kept it behind a delete marker")

// hide removes what is recorded, or can be written anew.
func (h *hidden) hide(ctx context.Context, store Store, refs []storage.Ref) []storage.Outcome {
	outcomes := make([]storage.Outcome, len(refs))
	var places []int
	var going []storage.Ref
	for i, ref := range refs {
		_, recorded, err := h.find(ref.Path)
		if err == nil && !recorded && ref.Content == "" {
			_, err = store.Stat(ctx, ref.Path)
			if errors.Is(err, fs.ErrNotExist) { // nobody may take a single answer for it
				_, err = store.Stat(ctx, ref.Path)
			}
			if err == nil {
				err = fmt.Errorf("hide %s: %w", ref.Path, errUnrecorded)
			} else if errors.Is(err, fs.ErrNotExist) {
				continue
			}
		}
		if outcomes[i].Err = err; err == nil {
			places, going = append(places, i), append(going, ref)
		}
	}
	for n, o := range store.Remove(ctx, going) {
		if o.Err == nil && !o.Hidden {
			o.Err = fmt.Errorf("hide %s: %w", going[n].Path, errNotHidden)
		}
		outcomes[places[n]] = o
	}
	return outcomes
}

// Recorded is what the quarantines of a storage record as hidden, so that it can be put back.
type Recorded []*hidden

// ReadRecorded reads the records of all quarantines but that of a run. It is empty for a
// storage that keeps no versions.
func ReadRecorded(ctx context.Context, store Store, but string) (all Recorded, err error) {
	return readRecords(ctx, store, but, false)
}

func readRecords(ctx context.Context, store Store, but string, lenient bool) (all Recorded, err error) {
	var runs []string
	err = store.Below(ctx, Dir, func(page []storage.Object) error {
		for _, object := range page {
			if run := path.Base(path.Dir(object.Path)); run != but && object.Path == hiddenOf(run) && object.Multipart == "" {
				runs = append(runs, run)
			}
		}
		return nil
	})
	for _, run := range runs {
		if err != nil {
			break
		}
		var h *hidden
		h, err = readRecord(ctx, store, run, lenient)
		switch {
		case err != nil:
			err = fmt.Errorf("the quarantine %s: %w", run, err)
		case h == nil:
			err = fmt.Errorf("the quarantine %s: its record of versions was listed, and can't be found", run)
		default:
			all = append(all, h)
		}
	}
	if err != nil {
		return nil, errors.Join(err, all.Close())
	}
	return all, nil
}

// Has reports whether a quarantine records this version of an object.
func (r Recorded) Has(path, version string) (bool, error) {
	for _, h := range r {
		v, found, err := h.find(path)
		if err != nil || found && v.Version == version {
			return true, err
		}
	}
	return false, nil
}

// Close gives up the temporary files.
func (r Recorded) Close() (err error) {
	for _, h := range r {
		err = errors.Join(err, h.close())
	}
	return err
}

// forget removes for good what is still hidden, but for what others record too.
func (h *hidden) forget(ctx context.Context, others Recorded, freed *Freed) (err error) {
	var batch []storage.HiddenVersion
	forget := func() error {
		var first error
		for i, o := range h.store.Forget(ctx, batch) {
			freed.add(batch[i].Path, o.Versions, o.VersionBytes)
			if first == nil {
				first = o.Err
			}
		}
		batch = batch[:0]
		return first
	}
	err = h.each(func(v storage.HiddenVersion, _ int64) error {
		if isRecorded, err := others.Has(v.Path, v.Version); err != nil || isRecorded {
			return err
		}
		if batch = append(batch, v); len(batch) < storage.RemoveBatch {
			return nil
		}
		return forget()
	})
	if err == nil {
		err = forget()
	}
	freed.Unreadable = h.unreadable
	return err
}

// errDamaged is for a version that is not what its path says.
var errDamaged = errors.New("it has another digest")

// unhide makes a version current again if it has a digest; "" is for what has none.
func (r *restorer) unhide(ctx context.Context, v storage.HiddenVersion, d digest.Digest) (verdict, error) {
	if r.options.DryRun {
		return r.wouldUnhide(ctx, v)
	}
	hider := r.store.(versioned) // since there is a record
	return unhidden(hider.Unhide(ctx, v, func() error { return r.verify(ctx, v, d) }))
}

// wouldUnhide is what unhide would do with an intact version. It changes nothing.
func (r *restorer) wouldUnhide(ctx context.Context, v storage.HiddenVersion) (verdict, error) {
	return unhidden(r.store.(versioned).Hides(ctx, v))
}

// unhidden is the verdict that an error stands for.
func unhidden(err error) (verdict, error) {
	switch {
	case err == nil:
		return verdict{back: true}, nil
	case errors.Is(err, fs.ErrExist):
		return verdict{}, nil
	case errors.Is(err, fs.ErrNotExist):
		return verdict{why: WhyGone}, nil
	case errors.Is(err, storage.ErrCovered):
		return verdict{why: WhyCovered}, nil
	case errors.Is(err, errDamaged):
		return verdict{why: WhyDamaged}, nil
	}
	return verdict{}, err
}

// verify reads a version that has to have a digest, before anybody else can.
func (r *restorer) verify(ctx context.Context, v storage.HiddenVersion, d digest.Digest) error {
	if d == "" {
		return nil
	}
	verifier := d.Verifier()
	err := r.store.(versioned).StreamVersion(ctx, v, verifier)
	if errors.Is(err, storage.ErrUnreadable) || err == nil && !verifier.Verified() {
		return errDamaged
	}
	return err
}

// readHidden reads a version that is hidden, or was.
func (r *restorer) readHidden(ctx context.Context, path string, limit int64) ([]byte, error) {
	v, found, err := r.hidden.find(path)
	if err == nil && !found {
		v, found, err = r.findLater(path)
	}
	switch {
	case err != nil:
		return nil, err
	case !found:
		return nil, fs.ErrNotExist
	case v.Bytes > limit:
		return nil, storage.ErrTooLarge
	}
	var content bytes.Buffer
	err = r.store.(versioned).StreamVersion(ctx, v, &content)
	return content.Bytes(), err
}
