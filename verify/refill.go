package verify

import (
	"cmp"
	"context"
	_ "crypto/sha512" // for digests with SHA-384 and SHA-512
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"slices"

	"regsweep/internal/spool"
	"regsweep/mark"
	"regsweep/storage"
	"regsweep/storage/layout"

	"github.com/opencontainers/go-digest"
)

// ToRefill is a blob that is missing or wrong.
type ToRefill struct {
	// Digest is the digest by which manifests name it.
	Digest digest.Digest
	// Blob is the digest under which it is stored: its SHA-256. It is "" if that is not known because Digest has another
	// algorithm.
	Blob digest.Digest
	// Repositories are those that need it. IsManifest is set if they need it as a manifest.
	Repositories []string
	IsManifest   bool
	// Wrong is set if the storage has other content in its place, or can't read it.
	Wrong bool
	// Bytes is its size according to a manifest, or 0. A source that sends more has other content.
	Bytes int64
}

// Refillable returns the blobs of the findings that another place may have, each once. Once a manifest is there, a new
// check may find that what it names is missing too.
func (r *Result) Refillable() []ToRefill {
	var blobs []ToRefill
	at := map[digest.Digest]int{}
	for _, f := range r.Findings {
		isWrong := f.Kind == DamagedManifest || f.Kind == DamagedBlob
		if !isWrong && f.Kind != MissingManifest && f.Kind != MissingBlob && f.Kind != SparseIndex {
			continue
		}
		b := ToRefill{Digest: f.Digest, Blob: cmp.Or(f.blob, f.Digest), IsManifest: f.isManifest, Wrong: isWrong, Bytes: f.bytes}
		i, known := at[b.Blob]
		if !known {
			i = len(blobs)
			at[b.Blob] = i
			if b.Blob.Algorithm() != digest.Canonical {
				b.Blob = ""
			}
			blobs = append(blobs, b)
		}
		blobs[i].Bytes = max(blobs[i].Bytes, f.bytes)
		if f.Repository != "" && !slices.Contains(blobs[i].Repositories, f.Repository) {
			blobs[i].Repositories = append(blobs[i].Repositories, f.Repository)
		}
	}
	return blobs
}

// Refilled is the outcome for one blob.
type Refilled struct {
	// Blob is the digest under which it is stored. Bytes is its size. They are "" and 0 if it was not fetched.
	Blob  digest.Digest
	Bytes int64
	// Moved is set if the wrong content was moved away, and Written if the right content was written.
	Moved, Written bool
	// Err is nil if the storage has the content, and it was read back.
	Err error
}

// ErrNotTried is the outcome for a blob if the run ended before.
var ErrNotTried = errors.New("not tried")

// RefillOptions configure Refill.
type RefillOptions struct {
	// Concurrency is how many blobs are fetched at the same time. 0 means 4.
	Concurrency int
	// MoveAway moves the wrong content of a blob to where no registry reads it. It is called only after the right content
	// was fetched and verified. An error ends the run. It may be nil if no blob is Wrong.
	MoveAway func(ctx context.Context, blob digest.Digest) error
	// OnFetched, if set, is called with the number of newly fetched bytes, from several goroutines at once.
	OnFetched func(n int)
}

// Refill fetches blobs from a source, verifies them, and puts them into the storage. ctx should be a lease
// (storage.WithLease). Content that is intact is never replaced.
//
// What the source lacks, or has with other content, is an error in the outcome of that blob. An error of the storage
// ends the run, as ctx does. Then the outcomes until then are returned with the error.
func Refill(ctx context.Context, store storage.Store, source Source, blobs []ToRefill, o RefillOptions) ([]Refilled, error) {
	outcomes := make([]Refilled, len(blobs))
	known := map[digest.Digest]bool{}
	for i, b := range blobs {
		outcomes[i].Err = ErrNotTried
		d := cmp.Or(b.Blob, b.Digest)
		if known[d] || b.Wrong && o.MoveAway == nil {
			return outcomes, fmt.Errorf("refill %s: it is named twice, or can't be moved away", d)
		}
		known[d] = true
	}
	r := refill{store, source, o}
	err := storage.Each(ctx, len(blobs), cmp.Or(o.Concurrency, 4), func(ctx context.Context, i int) error {
		return r.one(ctx, blobs[i], &outcomes[i])
	})
	return outcomes, errors.Join(err, store.Sync(context.WithoutCancel(ctx)))
}

type refill struct {
	store   storage.Store
	source  Source
	options RefillOptions
}

// one refills a blob. The error ends the run.
func (r refill) one(ctx context.Context, b ToRefill, o *Refilled) (err error) {
	file, err := r.fetch(ctx, b, o)
	if ctx.Err() != nil {
		err = errors.Join(err, closeFile(file))
		return context.Cause(ctx)
	}
	if err != nil {
		o.Err = err
		return nil
	}
	defer func() { err = errors.Join(err, closeFile(file)) }()
	o.Err, err = r.put(ctx, b, file, o)
	if err != nil {
		o.Err = err
	}
	return err
}

// fetch returns the verified content of a blob, in a file that nobody else sees.
func (r refill) fetch(ctx context.Context, b ToRefill, o *Refilled) (*os.File, error) {
	algorithm := b.Digest.Algorithm()
	if b.Digest.Validate() != nil || !algorithm.Available() {
		return nil, fmt.Errorf("the algorithm of %s is not known here", b.Digest)
	}
	limit := b.Bytes
	if b.IsManifest {
		limit = mark.ManifestLimit
	}
	w := &hashing{canonical: digest.Canonical.Hash(), limit: limit, onWrite: r.options.OnFetched}
	if w.own = w.canonical; algorithm != digest.Canonical {
		w.own = algorithm.Hash()
	}
	file, err := spool.OnDisk(func(file io.Writer) error {
		w.Writer = file
		return r.source.Fetch(ctx, b.Digest, b.Repositories, b.IsManifest, w)
	})
	if err != nil {
		return nil, fmt.Errorf("fetch from %s: %w", r.source, err)
	}
	blob := digest.NewDigest(digest.Canonical, w.canonical)
	switch got := digest.NewDigest(algorithm, w.own); {
	case got != b.Digest:
		err = fmt.Errorf("%s has other content for it: %d bytes with the digest %s", r.source, w.bytes, got)
	case algorithm != digest.Canonical && b.Blob != "" && b.Blob.Algorithm() == digest.Canonical && b.Blob != blob:
		err = fmt.Errorf("its layer link names %s, and its content is %s", b.Blob, blob)
	default:
		o.Blob, o.Bytes = blob, w.bytes
		return file, nil
	}
	return nil, errors.Join(err, file.Close())
}

// put puts verified content in its place. failed is an error about this blob alone.
func (r refill) put(ctx context.Context, b ToRefill, content *os.File, o *Refilled) (failed, err error) {
	if b.Wrong {
		verifier := o.Blob.Verifier()
		switch fault, mayBeIntact, err := look(ctx, r.store, layout.BlobPath(o.Blob), verifier); {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case err != nil:
			return nil, err
		case fault == (Fault{}) && verifier.Verified(): // somebody has pushed it
			return nil, nil
		case fault.State == Missing:
		case mayBeIntact:
			return fmt.Errorf("%w: %s", errUnknown, fault.Detail), nil
		default: // it has other content, or can't be read
			if err := r.options.MoveAway(ctx, o.Blob); err != nil {
				err = fmt.Errorf("move the wrong content of %s away: %w", o.Blob, err)
				if serious(err) == nil {
					return err, nil
				}
				return nil, err
			}
			o.Moved = true
		}
	}
	if o.Moved { // an interruption must not end it here
		ctx = context.WithoutCancel(ctx)
	}
	err = r.store.Put(ctx, layout.BlobPath(o.Blob), content)
	isThere := errors.Is(err, fs.ErrExist)
	if err != nil && !isThere {
		if serious(err) == nil {
			return err, nil
		}
		return nil, err
	}
	switch isIntact, err := r.isIntact(ctx, o.Blob); {
	case err != nil:
		return nil, fmt.Errorf("read it back: %w", err)
	case isIntact:
		o.Written = !isThere
		return nil, nil
	case isThere:
		return fmt.Errorf("the storage has other content for %s", o.Blob), nil
	}
	// A push of the blob would not store it again as long as wrong content is there.
	err = fmt.Errorf("%s was written, and the storage returns other content: it is removed again", layout.BlobPath(o.Blob))
	return nil, errors.Join(err, r.store.Remove(ctx, []storage.Ref{{Path: layout.BlobPath(o.Blob)}})[0].Err)
}

// isIntact reads a blob and reports whether its content has its digest.
func (r refill) isIntact(ctx context.Context, blob digest.Digest) (bool, error) {
	verifier := blob.Verifier()
	err := r.store.Stream(ctx, layout.BlobPath(blob), verifier)
	return err == nil && verifier.Verified(), err
}

func closeFile(file *os.File) error {
	if file == nil {
		return nil
	}
	return file.Close()
}

// hashing computes the digest of what is written.
type hashing struct {
	io.Writer
	own, canonical hash.Hash
	bytes, limit   int64 // a limit of 0 means none
	onWrite        func(n int)
}

func (h *hashing) Write(p []byte) (int, error) {
	if h.limit > 0 && h.bytes+int64(len(p)) > h.limit {
		return 0, fmt.Errorf("it sends more than %d bytes", h.limit)
	}
	n, err := h.Writer.Write(p)
	h.canonical.Write(p[:n])
	if h.own != h.canonical {
		h.own.Write(p[:n])
	}
	h.bytes += int64(n)
	if h.onWrite != nil {
		h.onWrite(n)
	}
	return n, err
}
