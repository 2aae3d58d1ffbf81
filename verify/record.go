package verify

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"regsweep/inventory"
	"regsweep/storage/layout"
)

// Record says when the content of each blob of a storage was last found to be intact. It is a file on this
// machine. A nil Record has nothing and takes nothing. Its methods may be called concurrently.
//
// The file has a line with its format and the storage, an entry of 36 bytes for each blob, and the SHA-256 of all
// that. An entry is the SHA-256 of the blob and the hour of the check. Entries are sorted. Blobs under other
// algorithms come last, and have the SHA-256 of their digest. If two runs write the file, the last one wins.
type Record struct {
	inv    *inventory.Inventory
	head   []byte // the first line of the file
	path   string
	others map[inventory.ID]int // the place in hours of each blob under another algorithm
	hours  []atomic.Uint32      // by ID, and then by digest

	saving  sync.Mutex // guards all below
	saved   time.Time
	failure error
}

// hour is a time in hours since 1970. 0 is never.
type hour uint32

// wasWrong is the time of the check of a blob that was found to be wrong.
const wasWrong hour = 1

func hourOf(at time.Time) hour { return hour(at.Unix() / 3600) }
func (h hour) time() time.Time { return time.Unix(int64(h)*3600, 0) }
func (h hour) day() time.Time  { return h.time().UTC().Truncate(24 * time.Hour) }

const (
	format    = "regsweep checked "
	version   = format + "1 "
	entrySize = sha256.Size + 4
	// tempMark is in the name of a file that is being written, and leftOver is the age at which it is removed: a
	// killed run leaves such files.
	tempMark = ".tmp-"
	leftOver = 24 * time.Hour
	// saveEvery is the time between two writes of the file while blobs are read.
	saveEvery = time.Minute
)

// OpenRecord opens the record of the storage of an inventory in a directory, and makes the directory if it
// does not exist. An error is a warning in one line. The record is then nil if the directory can't be written,
// and empty if its file can't be used.
func OpenRecord(dir string, inv *inventory.Inventory, now time.Time) (*Record, error) {
	identity, err := json.Marshal(inv.Identity)
	if err != nil {
		return nil, err
	}
	name := sha256.Sum256(identity)
	r := &Record{
		inv: inv, head: slices.Concat([]byte(version), identity, []byte("\n")), saved: now,
		path: filepath.Join(dir, hex.EncodeToString(name[:16])+".checked"), others: map[inventory.ID]int{},
	}
	for i, d := range slices.Sorted(maps.Keys(inv.Others)) {
		r.others[inv.ID(d)] = inv.Blobs() + i
	}
	r.hours = make([]atomic.Uint32, inv.Blobs()+len(r.others))
	if err := r.prepare(now); err != nil {
		return nil, fmt.Errorf("what is checked now is not remembered: %w", err)
	}
	content, err := os.ReadFile(r.path)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err = cmp.Or(err, r.read(content, now)); err != nil {
		err = fmt.Errorf("all content counts as never checked: %w", err)
	}
	return r, err
}

// prepare finds out whether the directory can be written, and removes what killed runs have left.
func (r *Record) prepare(now time.Time) error {
	dir := filepath.Dir(r.path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if info, err := e.Info(); strings.HasPrefix(e.Name(), filepath.Base(r.path)+tempMark) && err == nil && now.Sub(info.ModTime()) > leftOver {
			_ = os.Remove(filepath.Join(dir, e.Name())) // another run may have done it
		}
	}
	file, err := r.create()
	if err != nil {
		return err
	}
	return errors.Join(file.Close(), os.Remove(file.Name()))
}

// create makes a new file beside that of the record.
func (r *Record) create() (*os.File, error) {
	return os.CreateTemp(filepath.Dir(r.path), filepath.Base(r.path)+tempMark+"*")
}

// read reads the content of the file.
func (r *Record) read(content []byte, now time.Time) error {
	at := len(content) - sha256.Size
	switch {
	case bytes.HasPrefix(content, []byte(format)) && !bytes.HasPrefix(content, []byte(version)):
		return fmt.Errorf("%s is of another release of regsweep", r.path)
	case at < 0 || sha256.Sum256(content[:at]) != [sha256.Size]byte(content[at:]):
		return fmt.Errorf("%s is damaged", r.path)
	case !bytes.HasPrefix(content, r.head) || (at-len(r.head))%entrySize != 0:
		return fmt.Errorf("%s is of another storage", r.path)
	}
	others := map[[sha256.Size]byte]inventory.ID{}
	for id := range r.others {
		others[r.key(id)] = id
	}
	for entry := range slices.Chunk(content[len(r.head):at], entrySize) {
		key := [sha256.Size]byte(entry[:sha256.Size])
		id, found := others[key]
		if !found {
			id, found = r.inv.Find(layout.DigestOf(&key))
		}
		checked := hour(binary.BigEndian.Uint32(entry[sha256.Size:]))
		if place, isKnown := r.place(id); found && isKnown && !r.isOld(id, checked, now) {
			r.hours[place].Store(uint32(checked))
		}
	}
	return nil
}

// isOld reports whether a check says nothing: the clock was wrong, or the blob was written on a later day.
func (r *Record) isOld(id inventory.ID, checked hour, now time.Time) bool {
	if checked > hourOf(now) {
		return true
	}
	if !r.inv.Stored(id) || checked == wasWrong {
		return false
	}
	written := r.inv.BlobDay(id)
	return written.After(checked.day()) && !written.After(now) // a day in the future says nothing
}

// place returns the index of a blob in hours.
func (r *Record) place(id inventory.ID) (place int, found bool) {
	if r.inv.Stored(id) {
		return int(id), true
	}
	place, found = r.others[id]
	return place, found
}

// key returns the first part of the entry of a blob.
func (r *Record) key(id inventory.ID) [sha256.Size]byte {
	d := r.inv.Digest(id)
	if r.inv.Stored(id) {
		return layout.DecodeSHA256(d.Encoded())
	}
	return sha256.Sum256([]byte(d))
}

// at returns when a blob was checked.
func (r *Record) at(id inventory.ID) hour {
	if r == nil {
		return 0
	}
	place, found := r.place(id)
	if !found {
		return 0
	}
	return hour(r.hours[place].Load())
}

// set records when a blob was found to be intact, or that it was wrong.
func (r *Record) set(id inventory.ID, checked hour) {
	if r == nil {
		return
	}
	if place, found := r.place(id); found {
		r.hours[place].Store(uint32(checked))
	}
}

// keep writes the file if that was not done for a while, and if no other goroutine does it now.
func (r *Record) keep(now time.Time) {
	if r == nil || !r.saving.TryLock() {
		return
	}
	defer r.saving.Unlock()
	if now.Sub(r.saved) >= saveEvery {
		r.saved, r.failure = now, r.save()
	}
}

// close writes the file. No other method may run at the same time.
func (r *Record) close() {
	if r != nil {
		r.failure = r.save()
	}
}

// Failure returns why the file could not be written at last, or nil. It is a warning in one line.
func (r *Record) Failure() error {
	if r == nil || r.failure == nil {
		return nil
	}
	return fmt.Errorf("what was checked is not remembered: %w", r.failure)
}

// save writes the file, all of it or nothing.
func (r *Record) save() error {
	file, err := r.create()
	if err != nil {
		return err
	}
	err = cmp.Or(r.write(file), file.Sync())
	if err = cmp.Or(err, file.Close()); err == nil {
		err = os.Rename(file.Name(), r.path)
	}
	if err != nil {
		return cmp.Or(err, os.Remove(file.Name()))
	}
	return nil
}

func (r *Record) write(file io.Writer) error {
	buffered, sum := bufio.NewWriterSize(file, 64<<10), sha256.New()
	to := io.MultiWriter(buffered, sum)
	if _, err := to.Write(r.head); err != nil {
		return err
	}
	entry := func(id inventory.ID) error {
		checked := r.at(id)
		if checked == 0 {
			return nil
		}
		key := r.key(id)
		_, err := to.Write(binary.BigEndian.AppendUint32(key[:], uint32(checked)))
		return err
	}
	for id := range r.inv.Sizes() {
		if err := entry(id); err != nil {
			return err
		}
	}
	for _, d := range slices.Sorted(maps.Keys(r.inv.Others)) {
		if err := entry(r.inv.ID(d)); err != nil {
			return err
		}
	}
	if _, err := buffered.Write(sum.Sum(nil)); err != nil {
		return err
	}
	return buffered.Flush()
}
