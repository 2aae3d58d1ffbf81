package window

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"regsweep/internal/human"
	"regsweep/storage"
)

// NotePath is the note in the storage, below the layout's root. Distribution reads only blobs and
// repositories there.
const NotePath = storage.OwnDir + "/window"

// noteLimit is the largest note that is read, in bytes.
const noteLimit = 1 << 20

// Note says that a window is open. It is written before the registry is made read-only, and removed
// when the registry is writable again.
type Note struct {
	Format  int              `json:"window"` // 1
	Storage storage.Identity `json:"storage"`
	Target  string           `json:"target"` // as the user named it; a path is absolute
	After   string           `json:"after"`
	Dir     string           `json:"dir"` // the working directory of After
	Host    string           `json:"host"`
	PID     int              `json:"pid"`
	Process string           `json:"process,omitempty"` // guard.ThisProcess of the window
	User    string           `json:"user"`
	Opened  time.Time        `json:"opened"`
}

func (n *Note) String() string {
	return human.Printable(fmt.Sprintf("a window of %s on %s (process %d), open since %s", n.User, n.Host, n.PID, n.Opened.UTC().Format(time.RFC3339)))
}

// Notes are the two places of a note: a directory of this user, and the storage itself. The note in the
// directory survives a storage that can't be reached. The note in the storage survives the loss of the
// machine.
//
// A note has a command. Whoever can write to the storage can write a note there, and the registry itself
// can. So only a command from the directory is ever run.
type Notes struct {
	Dir    string        // only this user may write there; "" if there is none
	Store  storage.Store // nil if it can't be opened
	Target string        // as in Note.Target
}

// name is the file of the note in the directory.
func (n Notes) name(of storage.Identity) string {
	sum := sha256.Sum256([]byte(of.Driver + "\n" + of.Root))
	return filepath.Join(n.Dir, hex.EncodeToString(sum[:16])+".json")
}

// write writes the note to both places. It returns the error of each place that has no note.
func (n Notes) write(ctx context.Context, note Note) (own, stored error) {
	note.Format = 1
	content, err := json.MarshalIndent(note, "", "  ")
	if err != nil {
		return fmt.Errorf("write the note of the window: %w", err), nil
	}
	content = append(content, '\n')
	if own = errors.New("this user has no directory for it"); n.Dir != "" {
		own = writeFile(n.name(note.Storage), content)
	}
	stored = n.Store.Put(ctx, NotePath, bytes.NewReader(content))
	if errors.Is(stored, fs.ErrExist) { // a recovery could not remove it
		if stored = n.removeStored(ctx); stored == nil {
			stored = n.Store.Put(ctx, NotePath, bytes.NewReader(content))
		}
	}
	return own, stored
}

// find returns the note in the directory and the note in the storage. A note is nil if there is none. problem is why the
// note in the directory, which then is nil, can't be used: it says that a window is open, and not how to close it.
func (n Notes) find(ctx context.Context) (own, stored *Note, problem, err error) {
	if own, problem, err = n.findOwn(); n.Store == nil || err != nil {
		return own, nil, problem, err
	}
	content, err := n.Store.Read(ctx, NotePath, noteLimit)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return own, nil, problem, nil
	case err != nil && !storage.IsDamage(err):
		return own, nil, problem, fmt.Errorf("read the note of a window in the storage: %w", err)
	}
	stored = &Note{}
	if err != nil || json.Unmarshal(content, stored) != nil { // it still says that a window is open
		stored = unknown()
	}
	return own, stored, problem, nil
}

// unknown is a note of a window of which only its existence is known.
func unknown() *Note { return &Note{User: "somebody", Host: "an unknown host"} }

// findOwn returns the note in the directory. err is that the directory itself can't be used.
func (n Notes) findOwn() (own *Note, problem, err error) {
	if n.Dir == "" {
		return nil, nil, nil
	}
	if err := requireOwn(n.Dir); errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	} else if err != nil {
		return nil, nil, err
	}
	if n.Store != nil {
		own, problem = readFile(n.name(n.Store.Identity()))
		return own, problem, nil
	}
	names, err := filepath.Glob(filepath.Join(n.Dir, "*.json"))
	if err != nil {
		return nil, nil, err
	}
	for _, name := range names { // without the storage only the target identifies it
		note, err := readFile(name)
		if note != nil && note.Target == n.Target {
			return note, nil, nil
		}
		problem = errors.Join(problem, err) // it may be that of another registry
	}
	return nil, problem, nil
}

// remove removes the note of a window that is closed from both places. own is the note in the directory, or
// nil if it has none: a note in the storage may name another storage.
func (n Notes) remove(ctx context.Context, own *Note) error {
	var err error
	of := storage.Identity{}
	if n.Store != nil {
		of = n.Store.Identity()
	} else if own != nil {
		of = own.Storage
	}
	if n.Dir != "" && of != (storage.Identity{}) {
		if err = os.Remove(n.name(of)); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	if n.Store != nil {
		err = errors.Join(err, n.removeStored(ctx))
	}
	return err
}

func (n Notes) removeStored(ctx context.Context) error {
	return n.Store.Remove(ctx, []storage.Ref{{Path: NotePath}})[0].Err
}

// requireOwn returns an error unless a file or a directory is this user's, and nobody else may write to it.
func requireOwn(name string) error {
	info, err := os.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err != nil {
		return fmt.Errorf("%w: choose another --state-dir", err)
	}
	owner, known := info.Sys().(*syscall.Stat_t)
	if known && int(owner.Uid) != os.Geteuid() || info.Mode().Perm()&0o022 != 0 || !info.Mode().IsRegular() && !info.IsDir() {
		return fmt.Errorf("%s: other users may write to it, or it is no file, and its command would be run: remove it, or choose another --state-dir", name)
	}
	return nil
}

// readFile returns nil if there is no such note.
func readFile(name string) (*Note, error) {
	err := requireOwn(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var content []byte
	if err == nil {
		content, err = os.ReadFile(name)
	}
	note := &Note{}
	if err == nil {
		err = json.Unmarshal(content, note)
	}
	if err == nil && (note.Format != 1 || note.After == "") {
		err = errors.New("this version of regsweep did not write it")
	}
	if err != nil {
		return nil, fmt.Errorf("read the note of a window: %s: %w", name, err)
	}
	return note, nil
}

// writeFile writes a file that a loss of power does not take away.
func writeFile(name string, content []byte) (err error) {
	dir := filepath.Dir(name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := requireOwn(dir); err != nil {
		return err
	}
	file, err := os.OpenFile(name+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(file.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	parent, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(parent.Sync(), parent.Close())
}
