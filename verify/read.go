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
	"sync/atomic"
	"syscall"
	"time"

	"regsweep/inventory"
	"regsweep/mark"
	"regsweep/storage"
	"regsweep/storage/layout"

	"github.com/opencontainers/go-digest"
)

// Share is the part of the content that is read. The zero value is all of it.
type Share struct {
	Percent float64 // of all bytes
	Bytes   int64
	// Time is how long blobs are begun. Those that are being read then are read to their ends.
	Time time.Duration
}

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
	Now         func() time.Time
	// OnExpect, if set, is called once with what will be read. OnRead, if set, is called with what was
	// read since the last call, from several goroutines at once.
	OnExpect, OnRead func(blobs int, bytes int64)
}

// Amount is a number of blobs and their bytes.
type Amount struct {
	Blobs int   `json:"blobs"`
	Bytes int64 `json:"bytes"`
}

func (a *Amount) add(bytes int64) { a.Blobs, a.Bytes = a.Blobs+1, a.Bytes+bytes }

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

// ReadData reads blobs and compares them with their digests. It adds the faults to faults, and does not read
// blobs that have one already. It reads garbage too: a registry does not store a pushed blob again if it has
// a file for it.
//
// A part of the content is a rotating sample: blobs that were never checked come first, and then those whose
// check was longest ago. Data is valid also with an error, and the record then has what was read. The error
// is the cause of ctx, or an error of the storage that is not about one object.
func ReadData(ctx context.Context, inv *inventory.Inventory, store storage.Store, faults map[inventory.ID]Fault, options DataOptions) (data Data, err error) {
	all := readable(inv, faults, options.Record)
	slices.SortFunc(all, func(a, b blob) int {
		return cmp.Or(cmp.Compare(a.checked, b.checked), -cmp.Compare(a.bytes, b.bytes), cmp.Compare(a.id, b.id))
	})
	chosen, bytes := choose(all, options.Share)
	if options.None {
		chosen, bytes = nil, 0
	}
	if options.OnExpect != nil {
		options.OnExpect(len(chosen), bytes)
	}
	h := hasher{inv: inv, store: store, aliases: aliases(inv), onRead: options.OnRead}
	var mu sync.Mutex // guards faults and data
	began := options.Now()
	done := make([]bool, len(chosen))
	err = storage.Each(ctx, len(chosen), options.Concurrency, func(ctx context.Context, i int) error {
		if limit := options.Share.Time; limit > 0 && options.Now().Sub(began) >= limit {
			return nil
		}
		of := chosen[i]
		found, err := h.check(ctx, of.id)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		maps.Copy(faults, found)
		data.Read.add(of.bytes)
		done[i] = true
		if len(found) == 0 {
			return options.Record.checked(of.id, options.Now())
		}
		return nil
	})
	for i, of := range all {
		switch {
		case i < len(done) && done[i]:
		case of.checked == 0, options.MaxAge > 0 && options.Now().Sub(of.checked.time()) > options.MaxAge:
			data.Overdue.add(of.bytes)
		default:
			data.Earlier.add(of.bytes)
		}
	}
	if err == nil || ctx.Err() != nil {
		err = errors.Join(context.Cause(ctx), options.Record.save())
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
		add(inv.ID(d), bytes)
	}
	return all
}

// choose returns the first blobs of a share, at least one, and the sum of their bytes.
func choose(all []blob, share Share) (chosen []blob, bytes int64) {
	limit := share.Bytes
	if share.Percent > 0 {
		total := int64(0)
		for _, of := range all {
			total += of.bytes
		}
		limit = max(1, int64(share.Percent/100*float64(total)))
	}
	for i, of := range all {
		if limit > 0 && bytes >= limit {
			return all[:i], bytes
		}
		bytes += of.bytes
	}
	return all, bytes
}

// aliases returns the digests by which layer links name a blob that is stored under another one.
func aliases(inv *inventory.Inventory) map[inventory.ID][]inventory.ID {
	all := map[inventory.ID][]inventory.ID{}
	for _, r := range inv.Repositories {
		for from, to := range r.Aliases {
			if !slices.Contains(all[to], from) {
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
	err := each(unsized, func(ctx context.Context, id inventory.ID) (map[inventory.ID]Fault, error) {
		object, err := store.Stat(ctx, inv.BlobPath(id))
		fault, err := faultOf(err)
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
	h := hasher{inv: inv, store: store, aliases: aliases(inv)}
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
	fault, err := faultOf(store.Stream(ctx, path, io.MultiWriter(writers...)))
	if err != nil || fault != (Fault{}) {
		faults[0] = fault
		return faults, err
	}
	for i, d := range digests {
		if got := digest.NewDigest(d.Algorithm(), hashes[i]); got != d {
			faults[i] = Fault{Wrong, fmt.Sprintf("its content, %d bytes, has the digest %s", counter.bytes.Load(), got)}
			if counter.bytes.Load() == 0 {
				faults[i].Detail = "it is empty"
			}
		}
	}
	return faults, nil
}

// counter counts what is written to it.
type counter struct {
	bytes  atomic.Int64
	onRead func(blobs int, bytes int64)
}

func (c *counter) Write(p []byte) (int, error) {
	c.bytes.Add(int64(len(p)))
	if c.onRead != nil {
		c.onRead(0, int64(len(p)))
	}
	return len(p), nil
}

// faultOf returns the fault that an error of one object means. Any other error is returned.
func faultOf(err error) (Fault, error) {
	switch {
	case err == nil:
		return Fault{}, nil
	case errors.Is(err, fs.ErrNotExist):
		return Fault{Missing, "there is no file"}, nil
	case storage.IsDamage(err):
		return Fault{Unreadable, "it " + reason(err)}, nil
	}
	for _, bad := range []syscall.Errno{syscall.EIO, syscall.EBADMSG, syscall.EACCES, syscall.EPERM, syscall.ELOOP, syscall.EISDIR} {
		if errors.Is(err, bad) {
			return Fault{Unreadable, "it can't be read: " + bad.Error()}, nil
		}
	}
	return Fault{}, err
}
