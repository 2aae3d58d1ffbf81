//go:build unix

// Package filesystem is the backend for a registry's tree in a directory. It makes system calls
// through internal/system, where tests make calls fail.
package filesystem

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"regsweep/internal/system"
	"regsweep/storage"
	"regsweep/storage/layout"
	"regsweep/storage/pace"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Store is a registry's tree in a directory.
//
// Symbolic links that operators use to put a part of the tree on another disk are followed: see
// mayBeLink. Reads and removals refuse all other symbolic links. If the scan would have to list the
// target of one, it returns an error: the only link that keeps an image alive could be there.
type Store struct {
	identity storage.Identity
	limits   storage.Limits
	pace     *pace.Pace // nil if requests are not bounded
	dir      string
	root     *tree // rootdirectory
	opening  sync.Mutex
	opened   atomic.Pointer[tree]
	standIn  atomic.Pointer[os.File] // the layout's directory, if the kernel's lock on it replaces a lock file: see Create
	slots    chan struct{}           // has one entry for each call that is under way

	noAtime noAtime

	staysFull atomic.Bool // see withLease
	sleep     func(ctx context.Context, d time.Duration) error

	list, get, head, put, del atomic.Int64
}

// defaultConcurrency is how many calls may be under way if Limits does not say. Each call that
// waits for the disk needs a thread.
const defaultConcurrency = 32

// Open opens the tree of a registry whose rootdirectory is root. The directory must exist. The
// layout below it may be missing: a registry that nobody has pushed to has none.
func Open(root string, limits storage.Limits) (storage.Store, error) {
	absolute, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("open storage %s: %w", root, err)
	}
	resolved, err := filepath.EvalSymlinks(absolute)
	if err != nil {
		return nil, fmt.Errorf("open storage: %w", system.PermissionError(absolute, err))
	}
	fd, err := system.Open(resolved, unix.O_RDONLY|system.PathOnly|unix.O_DIRECTORY)
	if err == unix.ENOTDIR {
		return nil, fmt.Errorf("open storage: %s is not a directory", absolute)
	}
	if err != nil {
		return nil, fmt.Errorf("open storage: %w", system.PermissionError(resolved, err))
	}
	f := &Store{
		identity: storage.Identity{Driver: "filesystem", Root: resolved}, limits: limits,
		dir: filepath.Join(resolved, storage.Root), sleep: sleep,
	}
	f.root = openedTree(fd, resolved, &f.noAtime)
	f.slots = make(chan struct{}, f.Concurrency())
	if limits.MaxRequests > 0 {
		f.pace = pace.New(f.Concurrency(), limits.MaxRequests)
	}
	if _, err := f.tree(); err != nil {
		return nil, err
	}
	return f, nil
}

// tree returns the opened layout, or nil if there is none yet. The layout may be made later: in
// some registries the lock is the first file that is written.
func (f *Store) tree() (*tree, error) {
	if t := f.opened.Load(); t != nil {
		return t, nil
	}
	f.opening.Lock()
	defer f.opening.Unlock()
	if t := f.opened.Load(); t != nil {
		return t, nil
	}
	fd, err := f.openBelowRoot(storage.Root)
	if fd < 0 || err != nil {
		return nil, err
	}
	t := openedTree(fd, f.dir, &f.noAtime)
	f.opened.Store(t)
	return t, nil
}

// openBelowRoot opens a directory below the root directory. Each directory on the way may be a
// symbolic link. It returns -1 if one of them does not exist.
func (f *Store) openBelowRoot(path string) (fd int, err error) {
	at, dir := f.root.fd, f.identity.Root
	for rest, more := path, true; more; {
		var name string
		name, rest, more = strings.Cut(rest, "/")
		flags := unix.O_RDONLY | unix.O_DIRECTORY
		if more {
			flags |= system.PathOnly
		}
		next, err := system.Openat(at, name, flags, 0)
		if isAbsent(err) {
			next, err = -1, confirmAbsentAt(at, name)
		}
		if at != f.root.fd {
			closeDir(at)
		}
		dir += "/" + name
		if err == storage.ErrGone {
			return -1, fmt.Errorf("open storage: %s: %w (or it is a symbolic link to nothing: is its disk mounted?)", dir, err)
		}
		if err != nil {
			return -1, fmt.Errorf("open storage: %w", system.PermissionError(dir, &fs.PathError{Op: "open", Path: dir, Err: err}))
		}
		if next < 0 {
			return -1, nil
		}
		at = next
	}
	return at, nil
}

// makeLayout makes the directories from the root directory to the layout.
func (f *Store) makeLayout() (*tree, error) {
	t, err := f.tree()
	if t != nil || err != nil {
		return t, err
	}
	if err := f.root.makeDirs(storage.Root); err != nil {
		return nil, err
	}
	if t, err = f.tree(); t == nil && err == nil {
		err = fs.ErrNotExist
	}
	return t, err
}

// dirEntry is an entry of a directory: its name and its type.
type dirEntry struct {
	name string
	mode fs.FileMode
}

func (e dirEntry) isDir() bool     { return e.mode == fs.ModeDir }
func (e dirEntry) isSymlink() bool { return e.mode == fs.ModeSymlink }

func (f *Store) Identity() storage.Identity { return f.identity }

func (f *Store) Concurrency() int { return f.limits.AtOnce(defaultConcurrency) }

// Bulk allows few objects in a call and many calls at once. A call removes one file after the
// other. A disk that is notified of each freed block handles many notifications at once.
func (f *Store) Bulk() storage.Bulk { return storage.Bulk{Objects: 64, Calls: f.Concurrency()} }

func (f *Store) Requests() storage.Requests {
	return storage.Requests{
		List: f.list.Load(), Get: f.get.Load(), Head: f.head.Load(),
		Put: f.put.Load(), Delete: f.del.Load(),
	}
}

// begin waits until Limits allow one more call. After it has returned nil, the caller must call end.
// Between begin and end nobody calls begin again: that could wait for ever.
func (f *Store) begin(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if f.pace != nil {
		if err := f.pace.Wait(ctx); err != nil {
			return err
		}
	}
	select {
	case f.slots <- struct{}{}:
		return nil
	default: // no slot is free
	}
	select {
	case f.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *Store) end() { <-f.slots }

// Scan reads directories, and the links whose content the contract requires: see walk.
func (f *Store) Scan(ctx context.Context, dir string, visit func([]storage.Object) error) error {
	return f.ScanNames(ctx, dir, visit, func(n storage.NamedDigests) error { return visit(n.Objects()) })
}

// ScanNames implements storage.NameScanner.
func (f *Store) ScanNames(ctx context.Context, dir string, objects func([]storage.Object) error, digests func(storage.NamedDigests) error) error {
	t, err := f.tree()
	if t == nil {
		return errors.Join(err, ctx.Err())
	}
	found, err := f.findTop(ctx, t, dir)
	if !found || err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(f.Concurrency())
	w := &walk{fs: f, tree: t, group: g, visitObjects: objects, visitDigests: digests}
	g.Go(func() error {
		if dir == storage.BlobsDir {
			return w.blobs(ctx, dir)
		}
		return w.names(ctx, dir)
	})
	if err := g.Wait(); err != nil {
		return err
	}
	return t.checkMounts() // now all symbolic links were followed
}

// findTop reports whether the directory to scan exists. If it is a symbolic link, findTop follows it.
func (f *Store) findTop(ctx context.Context, t *tree, dir string) (found bool, err error) {
	if err := f.begin(ctx); err != nil {
		return false, err
	}
	defer f.end()
	mode, err := t.mode(dir)
	switch {
	case isAbsent(err):
		if err = t.confirmAbsent(dir); err == nil {
			return false, nil
		}
		return false, fmt.Errorf("list %s: %w", dir, err)
	case err != nil:
		return false, fmt.Errorf("list %s: %w", dir, err)
	case mode == fs.ModeSymlink:
		return true, t.follow(dir)
	}
	return true, nil
}

// Read returns the content of one file.
func (f *Store) Read(ctx context.Context, name string, limit int64) ([]byte, error) {
	if err := f.begin(ctx); err != nil {
		return nil, err
	}
	defer f.end()
	content, err := f.read(name, limit)
	if err != nil {
		return nil, f.readError(name, err)
	}
	return content, nil
}

// ReadInto implements storage.IntoReader.
func (f *Store) ReadInto(ctx context.Context, buffer []byte, name string, limit int64) ([]byte, error) {
	if err := f.begin(ctx); err != nil {
		return nil, err
	}
	defer f.end()
	content, err := f.readTo(buffer, name, limit)
	if err != nil {
		return nil, f.readError(name, err)
	}
	return content, nil
}

// readBuffers are larger than all links and nearly all manifests.
var readBuffers = sync.Pool{New: func() any { return new([16 << 10]byte) }}

func (f *Store) read(name string, limit int64) ([]byte, error) {
	buffer := readBuffers.Get().(*[16 << 10]byte)
	defer readBuffers.Put(buffer)
	content, err := f.readTo(buffer[:], name, limit)
	if len(content) < len(buffer) {
		content = bytes.Clone(content)
	}
	return content, err
}

// readTo reads a file into buffer if the buffer is larger than the file.
func (f *Store) readTo(buffer []byte, name string, limit int64) ([]byte, error) {
	t, err := f.tree()
	if err != nil {
		return nil, err
	}
	if t == nil {
		return nil, storage.NotExist("read", name)
	}
	f.get.Add(1)
	fd, err := t.openRead(name)
	if err != nil {
		return nil, err
	}
	return readAndClose(buffer, fd, limit)
}

func readAndClose(buffer []byte, fd int, limit int64) ([]byte, error) {
	content, err := readDescriptor(buffer, fd, limit)
	return content, closeAfter(fd, err)
}

// readDescriptor reads an open file, which must be a regular file of at most limit bytes. It reads
// into buffer if the buffer is larger than the file.
func readDescriptor(buffer []byte, fd int, limit int64) ([]byte, error) {
	n, readErr := system.Read(fd, buffer)
	var stat unix.Stat_t
	// A read may return less than the file has. Only the size tells.
	if err := system.Fstat(fd, &stat); err != nil {
		return nil, err
	}
	switch {
	case typeOf(&stat) != 0:
		return nil, storage.ErrNotRegular
	case readErr != nil:
		return nil, readErr
	case stat.Size > limit:
		return nil, storage.ErrTooLarge
	case int64(n) == stat.Size && n < len(buffer):
		return buffer[:n], nil
	}
	content := make([]byte, stat.Size)
	for read := copy(content, buffer[:n]); read < len(content); {
		n, err := system.Read(fd, content[read:])
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return nil, errShrunk
		}
		read += n
	}
	return content, nil
}

// errShrunk is the error if a file is shorter than its size. It is no damage of the file: a link or
// a manifest is written once, as a whole.
var errShrunk = fmt.Errorf("reading ends before the end of the file: %w", io.ErrUnexpectedEOF)

// readError adds the path to an error of reading a file. If a disk of this machine can't read it, the error becomes
// ErrUnreadable, which is damage of one file. From a network the same error means that the server is away.
func (f *Store) readError(name string, err error) error {
	if storage.IsOfDisk(err) && f.isOnDisk(name) {
		err = fmt.Errorf("%w: %w", storage.ErrUnreadable, err)
	}
	return readError(name, err)
}

// readError adds the path to an error. The errors for a symbolic link become ErrNotRegular, which
// is damage of one file. All other errors are failures of the storage, which end the run.
func readError(name string, err error) error {
	if errors.Is(err, syscall.ELOOP) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.EISDIR) ||
		errors.Is(err, syscall.ENXIO) || errors.Is(err, syscall.EXDEV) {
		err = storage.ErrNotRegular
	}
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		err = pathErr.Err
	}
	return &fs.PathError{Op: "read", Path: name, Err: err}
}

// Stat returns a regular file's size and time.
func (f *Store) Stat(ctx context.Context, name string) (storage.Object, error) {
	if err := f.begin(ctx); err != nil {
		return storage.Object{}, err
	}
	defer f.end()
	t, err := f.tree()
	if err != nil {
		return storage.Object{}, err
	}
	if t == nil {
		return storage.Object{}, storage.NotExist("stat", name)
	}
	f.head.Add(1)
	object, err := t.stat(name)
	if isAbsent(err) {
		err = cmp.Or(t.confirmAbsent(name), err)
	}
	if errors.Is(err, syscall.ENOTDIR) {
		return storage.Object{}, storage.NotExist("stat", name)
	}
	if isBelow(name, storage.QuarantineDir) && errors.Is(err, syscall.ELOOP) {
		err = storage.ErrNotRegular // a parent is a symbolic link
	}
	if err != nil {
		return storage.Object{}, fmt.Errorf("stat %s: %w", name, err)
	}
	return object, nil
}

// Prune removes dir and the directories below it, if they contain only directories.
func (f *Store) Prune(ctx context.Context, dir string) (gone bool, err error) {
	t, err := f.tree()
	if t == nil {
		return err == nil, err
	}
	if gone, err := f.pruneTree(ctx, t, dir); !gone || err != nil {
		if err != nil {
			err = fmt.Errorf("prune %s: %w", dir, err)
		}
		return false, err
	}
	if isName, _ := layout.Emptied(dir); !isName && layout.Parse(dir).Kind != layout.Repository {
		if f.begin(ctx) == nil {
			defer f.end()
			t.removeEmptied(ctx, path.Dir(dir))
		}
		return true, nil
	}
	for dir = path.Dir(dir); dir != "." && dir != storage.RepositoriesDir; dir = path.Dir(dir) {
		if gone, _, err := f.removeEmpty(ctx, t, dir); !gone || err != nil {
			if err != nil {
				err = fmt.Errorf("prune %s: %w", dir, err)
			}
			return true, err
		}
	}
	return true, nil
}

// pruneTree removes directories that contain only directories, from the bottom up, and reports
// whether dir is gone. Nearly all directories are empty, so it first tries to remove dir.
func (f *Store) pruneTree(ctx context.Context, t *tree, dir string) (gone bool, err error) {
	gone, holds, err := f.removeEmpty(ctx, t, dir)
	if !holds || err != nil {
		return gone, err
	}
	entries, err := f.readDir(ctx, t, dir)
	if isAbsent(err) { // another goroutine has pruned a directory inside, and then this one
		err := t.confirmAbsent(dir)
		return err == nil, err
	}
	if err != nil {
		return false, listedError(err)
	}
	for _, entry := range entries {
		if !entry.isDir() {
			return false, nil
		}
		if gone, err := f.pruneTree(ctx, t, dir+"/"+entry.name); !gone || err != nil {
			return false, err
		}
	}
	gone, _, err = f.removeEmpty(ctx, t, dir)
	return gone, err
}

// removeEmpty removes a directory if it is empty. holds is set if it is not empty. A file is kept.
func (f *Store) removeEmpty(ctx context.Context, t *tree, dir string) (gone, holds bool, err error) {
	if err := f.begin(ctx); err != nil {
		return false, false, err
	}
	defer f.end()
	err = f.withLease(ctx, t, func() error { return t.removeDir(dir) })
	switch {
	case err == nil:
		f.del.Add(1)
		return true, false, nil
	case isAbsent(err):
		err := t.confirmAbsent(dir)
		return err == nil, false, err
	case isNotEmpty(err):
		return false, true, nil
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EBUSY): // a disk is mounted there
		return false, false, nil
	}
	return false, false, err
}

// readDir is tree.readDir, counted and within the limits of the store.
func (f *Store) readDir(ctx context.Context, t *tree, dir string) ([]dirEntry, error) {
	if err := f.begin(ctx); err != nil {
		return nil, err
	}
	defer f.end()
	f.list.Add(1)
	return t.readDir(dir)
}

func isNotEmpty(err error) bool {
	return errors.Is(err, syscall.ENOTEMPTY) || errors.Is(err, syscall.EEXIST)
}

func symlinkError(name string) error {
	return fmt.Errorf("list %s: it is a symbolic link, and what lies behind it could keep images alive: "+
		"mount the directory there instead (mount --bind)", name)
}

// FindLayout implements storage.LayoutFinder.
func (f *Store) FindLayout(context.Context) (found bool, instead []string, err error) {
	t, err := f.tree()
	return t != nil, nil, err
}
