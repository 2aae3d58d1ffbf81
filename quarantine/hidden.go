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

// A bucket that keeps versions needs no copies. A removal there hides the object behind a delete
// marker, and the hidden version can be made current again. Before the run hides the first object,
// it writes a record of all versions that it will hide to its directory. It hides no object that is
// not in the record.

// hiddenName is the file name of the record of versions. It has a line of JSON for each version. It
// does not have the links whose content is known from the plan.
const hiddenName = "versions.jsonl"

func hiddenOf(run string) string { return dirOf(run) + "/" + hiddenName }

// versioned is a storage that can keep versions.
type versioned interface {
	storage.Versioner
	storage.Hider
	storage.Forgetter
}

// inState returns the store if versioning of its bucket is in one of the given states, otherwise nil.
func inState(ctx context.Context, store Store, states ...storage.Versioning) (versioned, error) {
	v, ok := store.(versioned)
	if !ok {
		return nil, nil
	}
	state, err := v.Versioning(ctx)
	if err != nil || !slices.Contains(states, state) {
		return nil, err
	}
	return v, nil
}

// hidden is the record of the versions that a run has hidden or was about to hide. The lines are in a
// temporary file. Memory has only an index of about 30 bytes for each line.
type hidden struct {
	store   versioned
	total   sweep.Tally
	uploads map[string][]storage.HiddenVersion // by the upload's directory

	lenient    bool // skip damaged lines
	unreadable int  // number of skipped lines

	file   *os.File
	lineOf map[uint64]int64 // offset of the line of a path, by the hash of the path
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

// recordHidden writes the record of a run: the current versions of all objects whose content is not
// known from the plan. Objects that do not exist have no line.
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

// write writes a line for each current version of the refs. It requests up to concurrency batches at
// once.
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

// uploadOf returns the directory of the upload that has the path, "" if there is none.
func uploadOf(path string) string {
	repository, below, ok := strings.Cut(path, "/_uploads/")
	if !ok {
		return ""
	}
	id, _, _ := strings.Cut(below, "/")
	return layout.UploadPath(strings.TrimPrefix(repository, storage.RepositoriesDir+"/"), id)
}

// eachHidden visits the recorded versions that are not current: the run has hidden them, and they
// were not restored. Without the permission to list versions it visits all recorded versions.
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

// openHidden reads the record of a run. It returns nil if the run has no record, because it has moved
// the objects. The error is a *damagedError if a line of the record is damaged.
func openHidden(ctx context.Context, store Store, run string) (*hidden, error) {
	return readRecord(ctx, store, run, false)
}

// readRecord is openHidden. If lenient is set, it skips damaged lines.
func readRecord(ctx context.Context, store Store, run string, lenient bool) (*hidden, error) {
	over, ok := store.(versioned)
	if !ok {
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

// each visits all lines, with their offsets.
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

// parseHidden parses a line. It returns an error if the path is outside of the layout, so a changed
// record can't make regsweep touch other objects.
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

// find returns the recorded version of a path. A nil record has none.
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

// errUnrecorded is the error for an object that was written after the versions were recorded. It is
// not removed.
var errUnrecorded = errors.New("it came while the run went on, and its version is not recorded")

// errNotHidden is the error for a removal that has not hidden the object: versioning of the bucket was
// turned off meanwhile.
var errNotHidden = errors.New("the bucket has not kept it behind a delete marker")

// hide removes the objects that are recorded, and links that can be written again from the plan.
func (h *hidden) hide(ctx context.Context, store Store, refs []storage.Ref) []storage.Outcome {
	outcomes := make([]storage.Outcome, len(refs))
	var indexes []int
	var recoverable []storage.Ref
	for i, ref := range refs {
		_, recorded, err := h.find(ref.Path)
		if err == nil && !recorded && ref.Content == "" {
			_, err = store.Stat(ctx, ref.Path)
			if errors.Is(err, fs.ErrNotExist) { // one answer alone is not trusted
				_, err = store.Stat(ctx, ref.Path)
			}
			if err == nil {
				err = fmt.Errorf("hide %s: %w", ref.Path, errUnrecorded)
			} else if errors.Is(err, fs.ErrNotExist) {
				continue
			}
		}
		if outcomes[i].Err = err; err == nil {
			indexes, recoverable = append(indexes, i), append(recoverable, ref)
		}
	}
	for n, o := range store.Remove(ctx, recoverable) {
		if o.Err == nil && !o.Hidden {
			o.Err = fmt.Errorf("hide %s: %w", recoverable[n].Path, errNotHidden)
		}
		outcomes[indexes[n]] = o
	}
	return outcomes
}

// Recorded has the records of versions of several quarantines. These versions can be restored.
type Recorded []*hidden

// ReadRecorded reads the records of all quarantines except for one run. It returns an empty value for
// a storage that keeps no versions. The caller must call Close.
func ReadRecorded(ctx context.Context, store Store, except string) (all Recorded, err error) {
	return readRecords(ctx, store, except, false)
}

func readRecords(ctx context.Context, store Store, except string, lenient bool) (all Recorded, err error) {
	var runs []string
	err = store.Below(ctx, Dir, func(page []storage.Object) error {
		for _, object := range page {
			if run := path.Base(path.Dir(object.Path)); run != except && object.Path == hiddenOf(run) && object.Multipart == "" {
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

// Close closes the temporary files, which removes them.
func (r Recorded) Close() (err error) {
	for _, h := range r {
		err = errors.Join(err, h.close())
	}
	return err
}

// forget destroys the recorded versions that are still hidden, except for the versions that others
// record too.
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

// errDamaged is the error for a version whose content does not match the digest in its path.
var errDamaged = errors.New("it has another digest")

// unhide makes a version current again if its content has the digest. An empty digest is not checked.
func (r *restorer) unhide(ctx context.Context, v storage.HiddenVersion, d digest.Digest) (verdict, error) {
	if r.options.DryRun {
		return r.wouldUnhide(ctx, v)
	}
	hider := r.store.(versioned) // only a versioned store has a record
	return unhideVerdict(hider.Unhide(ctx, v, func() error { return r.verify(ctx, v, d) }))
}

// wouldUnhide returns the verdict of unhide for an intact version. It changes nothing.
func (r *restorer) wouldUnhide(ctx context.Context, v storage.HiddenVersion) (verdict, error) {
	return unhideVerdict(r.store.(versioned).Hides(ctx, v))
}

// unhideVerdict returns the verdict for an error of Unhide or Hides. It returns all other errors.
func unhideVerdict(err error) (verdict, error) {
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

// verify reads a hidden version, and returns errDamaged if its content does not have the digest.
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

// readHidden reads the recorded version of a path, from the record of this run or of a later one. The
// errors are those of storage.Reader.Read.
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
