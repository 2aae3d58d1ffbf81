package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"maps"
	"slices"
	"sync"
	"time"

	"regsweep/inventory"
	"regsweep/mark"
	"regsweep/storage"
	"regsweep/storage/layout"

	"github.com/opencontainers/go-digest"
)

// DataOptions configure ReadData.
type DataOptions struct {
	Share Share
	// None reads nothing: Data then says what is known from earlier runs.
	None   bool
	Record *Record // what was checked before; nil for none
	// MaxAge is the age at which an earlier check does not count any more. 0 means never.
	MaxAge time.Duration
	// Concurrency is the number of blobs that are read at once.
	Concurrency int
	// Streams, if set, is the number of large blobs that are read at once.
	Streams int
	Now     func() time.Time
	// OnExpect, if set, is called once with what will be read, or with 0 if Share is a time. OnRead, if set, is
	// called with what was read since the last call, from several goroutines at once.
	OnExpect, OnRead func(blobs int, bytes int64)
}

// largeBlob is the size in bytes from which on the time for a blob is that for its bytes. Below, a disk waits for
// requests, so more blobs at once are read faster.
const largeBlob = 1 << 20

// Data says how much content is known to be intact.
type Data struct {
	Read    Amount `json:"read"`    // by this run, also if it was found to be wrong
	Earlier Amount `json:"earlier"` // by earlier runs, and not longer ago than MaxAge
	Overdue Amount `json:"overdue"` // never, or too long ago
}

// blob is a blob that can be read.
type blob struct {
	id      inventory.ID
	checked hour
	bytes   int64
}

// order is the place of a blob in a check: those that were wrong, those that were never checked, and the others.
func (b blob) order() hour {
	switch b.checked {
	case wasWrong:
		return 0
	case 0:
		return 1
	}
	return b.checked
}

// ReadData reads blobs and compares them with their digests. It adds the faults to faults, and does not read
// blobs that have one already. It reads garbage too: a registry does not store a pushed blob again if it has
// a file for it.
//
// A part of the content is a rotating sample: blobs that were never checked come first, and then those whose
// check was longest ago. Among equals the largest come first, so that the last goroutine ends with a small one. Blobs
// that were wrong at their last check are read first, and in addition, so that they stay in the report.
//
// Data and faults are valid also with an error, and the record has what was found until then. The error is the cause of
// ctx, or an error of the storage that is not about one object.
func ReadData(ctx context.Context, inv *inventory.Inventory, store storage.Store, faults map[inventory.ID]Fault, options DataOptions) (data Data, err error) {
	for id := range faults {
		options.Record.set(id, 0)
	}
	all := readable(inv, faults, options.Record)
	wrong := 0
	slices.SortFunc(all, func(a, b blob) int {
		return cmp.Or(cmp.Compare(a.order(), b.order()), -cmp.Compare(a.bytes, b.bytes), cmp.Compare(a.id, b.id))
	})
	for wrong < len(all) && all[wrong].checked == wasWrong {
		wrong++
	}
	var chosen []blob
	if !options.None {
		rest, bytes := options.Share.choose(all[wrong:])
		chosen = all[:wrong+len(rest)]
		for _, of := range all[:wrong] {
			bytes += of.bytes
		}
		if options.OnExpect != nil && options.Share.Time == 0 {
			options.OnExpect(len(chosen), bytes)
		} else if options.OnExpect != nil {
			options.OnExpect(0, 0)
		}
	}
	h := &hasher{inv, store, aliases(inv), options.OnRead}
	streams := make(chan struct{}, cmp.Or(options.Streams, max(options.Concurrency, 1)))
	var mu sync.Mutex // guards faults and data
	began := sync.OnceValue(options.Now)
	done := make([]bool, len(chosen))
	err = storage.Each(ctx, len(chosen), options.Concurrency, func(ctx context.Context, i int) error {
		of := chosen[i]
		if of.bytes >= largeBlob {
			select {
			case streams <- struct{}{}:
				defer func() { <-streams }()
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if limit := options.Share.Time; limit > 0 && i >= wrong && options.Now().Sub(began()) >= limit {
			return nil
		}
		found, err := h.check(ctx, of.id)
		if err != nil {
			return err
		}
		checked := wasWrong
		if len(found) == 0 {
			checked = hourOf(options.Now())
		}
		options.Record.set(of.id, checked)
		options.Record.keep(options.Now())
		mu.Lock()
		defer mu.Unlock()
		maps.Copy(faults, found)
		data.Read.add(of.bytes)
		done[i] = true
		return nil
	})
	for i, of := range all {
		switch {
		case i < len(done) && done[i]:
		case of.checked <= wasWrong, options.MaxAge > 0 && options.Now().Sub(of.checked.time()) > options.MaxAge:
			data.Overdue.add(of.bytes)
		default:
			data.Earlier.add(of.bytes)
		}
	}
	if !options.None {
		options.Record.close()
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return data, err
}

// readable returns the blobs that have a file, in any order.
func readable(inv *inventory.Inventory, faults map[inventory.ID]Fault, record *Record) []blob {
	all := make([]blob, 0, inv.Blobs()+len(inv.Others))
	add := func(id inventory.ID, bytes int64) {
		if _, isFaulty := faults[id]; !isFaulty {
			all = append(all, blob{id, record.at(id), max(bytes, 0)})
		}
	}
	for id, bytes := range inv.Sizes() {
		add(id, bytes)
	}
	for d, bytes := range inv.Others {
		if d.Algorithm().Available() {
			add(inv.ID(d), bytes)
		}
	}
	return all
}

// aliases returns the digests under another algorithm than sha256 by which layer links name a blob. A digest that
// has a blob of its own is left out: that blob has the faults of the digest.
func aliases(inv *inventory.Inventory) map[inventory.ID][]inventory.ID {
	all := map[inventory.ID][]inventory.ID{}
	for _, r := range inv.Repositories {
		for from, to := range r.Aliases {
			algorithm := inv.Digest(from).Algorithm()
			if algorithm != digest.SHA256 && algorithm.Available() && !inv.Listed(from) && !slices.Contains(all[to], from) {
				all[to] = append(all[to], from)
			}
		}
	}
	return all
}

// CheckFiles finds blobs without a usable file, and reads the blobs whose size is not the one that a manifest
// says. It also reads the blobs in doubtful. It adds their faults to faults. The error is an error of the storage.
func CheckFiles(ctx context.Context, inv *inventory.Inventory, graph *mark.Graph, store storage.Store, doubtful []digest.Digest, faults map[inventory.ID]Fault, concurrency int) error {
	var mu sync.Mutex // guards faults
	each := func(ids []inventory.ID, check func(context.Context, inventory.ID) (map[inventory.ID]Fault, error)) error {
		return storage.Each(ctx, len(ids), concurrency, func(ctx context.Context, i int) error {
			found, err := check(ctx, ids[i])
			mu.Lock()
			defer mu.Unlock()
			maps.Copy(faults, found)
			return err
		})
	}
	var unsized []inventory.ID
	for id := range inv.Sizes() {
		if _, exact := inv.Size(id); !exact {
			unsized = append(unsized, id)
		}
	}
	h := &hasher{inv, store, aliases(inv), nil}
	err := each(unsized, func(ctx context.Context, id inventory.ID) (map[inventory.ID]Fault, error) {
		object, err := store.Stat(ctx, inv.BlobPath(id))
		fault, err := faultIn(store, err)
		if err == nil && fault == (Fault{}) {
			inv.SetSize(id, object.Size)
			return nil, nil
		}
		return map[inventory.ID]Fault{id: fault}, err
	})
	if err != nil {
		return err
	}
	var doubted []inventory.ID
	for _, d := range doubtful {
		if id := inv.ID(d); inv.Listed(id) && faults[id] == (Fault{}) {
			doubted = append(doubted, id)
		}
	}
	for id := range graph.Manifests() {
		for _, claim := range graph.Claims(id) {
			if _, isFaulty := faults[claim.Of]; claim.Bytes >= 0 && !isFaulty {
				doubted = append(doubted, claim.Of)
			}
		}
	}
	slices.Sort(doubted)
	return each(slices.Compact(doubted), h.check)
}

// hasher compares blobs with their digests. It may be used concurrently.
type hasher struct {
	inv     *inventory.Inventory
	store   storage.Store
	aliases map[inventory.ID][]inventory.ID
	onRead  func(blobs int, bytes int64)
}

// check reads a blob, and returns its fault, and those of the digests by which links name it. The error is one
// of the storage that is not about this blob.
func (h *hasher) check(ctx context.Context, id inventory.ID) (faults map[inventory.ID]Fault, err error) {
	ids := append([]inventory.ID{id}, h.aliases[id]...)
	digests := make([]digest.Digest, len(ids))
	for i, id := range ids {
		digests[i] = h.inv.Digest(id)
	}
	wrong, err := readBlob(ctx, h.store, layout.BlobPath(digests[0]), digests, h.onRead)
	if h.onRead != nil {
		h.onRead(1, 0)
	}
	for i, fault := range wrong {
		if fault == (Fault{}) || i > 0 && wrong[0] != (Fault{}) { // the fault of the blob itself is enough
			continue
		}
		if faults == nil {
			faults = map[inventory.ID]Fault{}
		}
		faults[ids[i]] = fault
	}
	return faults, err
}

// readBlob reads a blob, and returns the fault of each of the digests that it should have.
func readBlob(ctx context.Context, store storage.Store, path string, digests []digest.Digest, onRead func(int, int64)) ([]Fault, error) {
	counter := &counter{onRead: onRead}
	writers, hashes := []io.Writer{counter}, make([]hash.Hash, len(digests))
	for i, d := range digests {
		hashes[i] = d.Algorithm().Hash()
		writers = append(writers, hashes[i])
	}
	faults := make([]Fault, len(digests))
	fault, err := faultIn(store, store.Stream(ctx, path, io.MultiWriter(writers...)))
	if err != nil || fault != (Fault{}) {
		faults[0] = fault
		return faults, err
	}
	for i, d := range digests {
		if got := digest.NewDigest(d.Algorithm(), hashes[i]); got != d {
			faults[i] = Fault{Wrong, fmt.Sprintf("its content, %d bytes, has the digest %s", counter.bytes, got)}
			if counter.bytes == 0 {
				faults[i].Detail = "it is empty"
			}
		}
	}
	return faults, nil
}

// counter counts what is written to it.
type counter struct {
	bytes  int64
	onRead func(blobs int, bytes int64)
}

func (c *counter) Write(p []byte) (int, error) {
	c.bytes += int64(len(p))
	if c.onRead != nil {
		c.onRead(0, int64(len(p)))
	}
	return len(p), nil
}

// faultIn returns the fault that an error of reading one object means. Any other error is returned. In a bucket, the
// errors of a filesystem are of the connection, or of a file with credentials.
func faultIn(store storage.Store, err error) (Fault, error) {
	isOfFile := errors.Is(err, fs.ErrPermission) || errors.Is(err, io.ErrUnexpectedEOF) // it is shorter than its size
	switch {
	case err == nil:
		return Fault{}, nil
	case errors.Is(err, fs.ErrNotExist):
		return Fault{Missing, "there is no file"}, nil
	case storage.IsDamage(err), isOfFile && store.Identity().Driver == "filesystem":
		return Fault{Unreadable, "it " + reason(err)}, nil
	}
	return Fault{}, err
}
