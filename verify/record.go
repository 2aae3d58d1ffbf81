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
	"os"
	"path/filepath"
	"time"

	"regsweep/inventory"
	"regsweep/storage/layout"
)

// Record says when the content of each blob of a storage was last found to be intact. It is a file on this
// machine. A nil Record has nothing and takes nothing. The caller of its methods makes sure that they do not
// run at the same time.
//
// The file has a line that names the storage, an entry of 36 bytes for each blob (its SHA-256, and the hour of
// the check), and the SHA-256 of all that.
type Record struct {
	inv   *inventory.Inventory
	path  string
	hours []hour // by ID
	saved time.Time
}

// hour is a time in hours since 1970. 0 is never.
type hour uint32

func hourOf(at time.Time) hour    { return hour(at.Unix() / 3600) }
func (h hour) time() time.Time    { return time.Unix(int64(h)*3600, 0) }
func (h hour) day() time.Time     { return h.time().UTC().Truncate(24 * time.Hour) }
func (h hour) bytes(to []byte)    { binary.BigEndian.PutUint32(to, uint32(h)) }
func hourFrom(entry []byte) hour  { return hour(binary.BigEndian.Uint32(entry[sha256.Size:])) }
func sumFrom(entry []byte) []byte { return entry[:sha256.Size] }

const entrySize = sha256.Size + 4

// saveEvery is the time between two writes of the record while blobs are read.
const saveEvery = time.Minute

// OpenRecord opens the record of the storage of an inventory in a directory, and makes the directory if it
// does not exist. A record that can't be used is empty, and problem then says why. The error is that the
// directory can't be used.
func OpenRecord(dir string, inv *inventory.Inventory, now time.Time) (record *Record, problem string, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, "", err
	}
	head, err := header(inv)
	if err != nil {
		return nil, "", err
	}
	name := sha256.Sum256(head)
	r := &Record{inv: inv, path: filepath.Join(dir, "checked-"+hex.EncodeToString(name[:8])), hours: make([]hour, inv.Blobs()), saved: now}
	content, err := os.ReadFile(r.path)
	if errors.Is(err, fs.ErrNotExist) {
		return r, "", r.save()
	}
	if err != nil {
		return nil, "", err
	}
	if !r.read(content, head, hourOf(now)) {
		clear(r.hours)
		problem = fmt.Sprintf("%s is damaged: all content counts as never checked", r.path)
	}
	return r, problem, nil
}

func header(inv *inventory.Inventory) ([]byte, error) {
	identity, err := json.Marshal(inv.Identity)
	return append([]byte("regsweep checked 1 "), append(identity, '\n')...), err
}

// read reads the content of the file.
func (r *Record) read(content, head []byte, now hour) bool {
	at := len(content) - sha256.Size
	if at < len(head) || !bytes.HasPrefix(content, head) || (at-len(head))%entrySize != 0 {
		return false
	}
	if sum := sha256.Sum256(content[:at]); !bytes.Equal(sum[:], content[at:]) {
		return false
	}
	for entry := content[len(head):at]; len(entry) > 0; entry = entry[entrySize:] {
		sum := [sha256.Size]byte(sumFrom(entry))
		id, found := r.inv.Find(layout.DigestOf(&sum))
		checked := hourFrom(entry)
		// A blob that was written again later was never checked, and so was one that is checked in the future.
		if found && r.inv.Stored(id) && checked <= now && !r.inv.BlobDay(id).After(checked.day()) {
			r.hours[id] = checked
		}
	}
	return true
}

// at returns when a blob was checked.
func (r *Record) at(id inventory.ID) hour {
	if r == nil || int(id) >= len(r.hours) {
		return 0
	}
	return r.hours[id]
}

// checked records that a blob is intact, and from time to time writes the file.
func (r *Record) checked(id inventory.ID, now time.Time) error {
	if r == nil || int(id) >= len(r.hours) {
		return nil
	}
	r.hours[id] = hourOf(now)
	if now.Sub(r.saved) < saveEvery {
		return nil
	}
	r.saved = now
	return r.save()
}

// save writes the file, all of it or nothing.
func (r *Record) save() (err error) {
	if r == nil {
		return nil
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("keep what was checked: %w", err)
		}
	}()
	file, err := os.CreateTemp(filepath.Dir(r.path), filepath.Base(r.path)+".*")
	if err != nil {
		return err
	}
	err = cmp.Or(r.write(file), file.Sync())
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(file.Name(), r.path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return nil
}

func (r *Record) write(file io.Writer) error {
	head, err := header(r.inv)
	if err != nil {
		return err
	}
	buffered, sum := bufio.NewWriter(file), sha256.New()
	to := io.MultiWriter(buffered, sum)
	if _, err := to.Write(head); err != nil {
		return err
	}
	for id, checked := range r.hours {
		if checked == 0 {
			continue
		}
		var entry [entrySize]byte
		of := layout.DecodeSHA256(r.inv.Digest(inventory.ID(id)).Encoded())
		copy(entry[:], of[:])
		checked.bytes(entry[sha256.Size:])
		if _, err := to.Write(entry[:]); err != nil {
			return err
		}
	}
	if _, err := buffered.Write(sum.Sum(nil)); err != nil {
		return err
	}
	return buffered.Flush()
}
