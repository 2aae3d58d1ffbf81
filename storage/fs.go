package storage

import (
	"bytes"
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

	"golang.org/x/sync/errgroup"
)

// filesystem is a registry's tree in a directory.
//
// Symbolic links below the layout's root are never followed: reads and removals
// go through an os.Root and refuse them, and the scan stops at one where it
// would have to look behind it, since what lies there could be all that keeps
// an image alive.
type filesystem struct {
	identity Identity
	limits   Limits
	pace     *pace  // nil if requests are not bounded
	dir      string // <rootdirectory>/docker/registry/v2, symbolic links resolved
	opening  sync.Mutex
	opened   atomic.Pointer[tree]
	standIn  atomic.Pointer[os.File] // the layout's directory, where its lock stands for a file: see Create

	unnoticed unnoticed

	list, get, head, put, del atomic.Int64
}

// openFilesystem opens the tree of a registry whose rootdirectory is root. The
// directory must exist; the layout below it need not, as in a registry that was
// never pushed to.
func openFilesystem(root string, limits Limits) (Store, error) {
	absolute, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("open storage %s: %w", root, err)
	}
	resolved, err := filepath.EvalSymlinks(absolute)
	if err != nil {
		return nil, fmt.Errorf("open storage: %w", err)
	}
	if info, err := os.Stat(resolved); err != nil {
		return nil, fmt.Errorf("open storage: %w", err)
	} else if !info.IsDir() {
		return nil, fmt.Errorf("open storage: %s is not a directory", absolute)
	}
	f := &filesystem{identity: Identity{Driver: "filesystem", Root: resolved}, limits: limits}
	if limits.MaxRequests > 0 {
		f.pace = newPace(f.Concurrency(), limits.MaxRequests)
	}
	f.dir, err = filepath.EvalSymlinks(filepath.Join(resolved, Root))
	if errors.Is(err, fs.ErrNotExist) {
		f.dir = filepath.Join(resolved, Root)
		return f, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open storage: %w", err)
	}
	if _, err := f.tree(); err != nil {
		return nil, err
	}
	return f, nil
}

// tree is the layout's root, opened.
type tree struct {
	root *os.Root
	base *os.File // the same, for readBeneath

	unnoticed *unnoticed

	// making is held while a directory is made: one that is made in it takes after it, and must
	// not find it without its owner.
	making sync.Mutex
}

// tree returns nil where there is no layout yet. It may come later: a lock is the
// first thing that is written to some registries.
func (f *filesystem) tree() (*tree, error) {
	if t := f.opened.Load(); t != nil {
		return t, nil
	}
	f.opening.Lock()
	defer f.opening.Unlock()
	if t := f.opened.Load(); t != nil {
		return t, nil
	}
	root, err := os.OpenRoot(f.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open storage: %w", err)
	}
	base, err := os.Open(f.dir)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open storage: %w", err), root.Close())
	}
	t := &tree{root: root, base: base, unnoticed: &f.unnoticed}
	f.opened.Store(t)
	return t, nil
}

// dirEntry is a name in a directory and the type bits of what it names.
type dirEntry struct {
	name string
	mode fs.FileMode
}

func (e dirEntry) isDir() bool     { return e.mode == fs.ModeDir }
func (e dirEntry) isSymlink() bool { return e.mode == fs.ModeSymlink }

func (f *filesystem) Identity() Identity { return f.identity }

func (f *filesystem) Concurrency() int { return f.limits.concurrency(filesystemConcurrency) }

// Bulk divides finely: a call removes one file after the other, and a disk that is told of
// each block that has become free answers many in the time of one.
func (f *filesystem) Bulk() Bulk { return Bulk{Objects: 64, Calls: f.Concurrency()} }

func (f *filesystem) Requests() Requests {
	return Requests{
		List: f.list.Load(), Get: f.get.Load(), Head: f.head.Load(),
		Put: f.put.Load(), Delete: f.del.Load(),
	}
}

// turn waits until one more request may begin, where Limits say how many may. What is
// under way is bounded by those who ask.
func (f *filesystem) turn(ctx context.Context) error {
	if err := ctx.Err(); err != nil || f.pace == nil {
		return err
	}
	return f.pace.wait(ctx)
}

// Scan reads directories and nothing else, but for the links that its contract
// wants read: see walk.
func (f *filesystem) Scan(ctx context.Context, dir string, visit func([]Object) error) error {
	return f.scanNames(ctx, dir, nameVisitor{
		objects: visit,
		digests: func(n namedDigests) error { return visit(n.objects()) },
		tags:    func(n namedTags) error { return visit(n.objects()) },
	})
}

func (f *filesystem) scanNames(ctx context.Context, dir string, visit nameVisitor) error {
	if t, err := f.tree(); t == nil {
		return errors.Join(err, ctx.Err())
	}
	info, err := os.Lstat(filepath.Join(f.dir, dir))
	if errors.Is(err, fs.ErrNotExist) {
		return ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("list %s: %w", dir, err)
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		return symlinkError(dir)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(f.Concurrency())
	w := &walk{fs: f, group: g, visit: visit}
	g.Go(func() error {
		if dir == BlobsDir {
			return w.blobs(ctx, dir, 0)
		}
		return w.names(ctx, dir)
	})
	return g.Wait()
}

// Read returns the content of one file.
func (f *filesystem) Read(ctx context.Context, name string, limit int64) ([]byte, error) {
	if err := f.turn(ctx); err != nil {
		return nil, err
	}
	content, err := f.read(name, limit)
	if err != nil {
		return nil, readError(name, err)
	}
	return content, nil
}

func (f *filesystem) readInto(ctx context.Context, room, name []byte, limit int64) ([]byte, error) {
	if err := f.turn(ctx); err != nil {
		return nil, err
	}
	content, supported, err := f.readNamed(room, name, limit)
	if !supported {
		content, err = f.readTo(room, string(name), limit)
	}
	if err != nil {
		return nil, readError(string(name), err)
	}
	return content, nil
}

// readRooms are larger than all links and nearly all manifests.
var readRooms = sync.Pool{New: func() any { return new([16 << 10]byte) }}

func (f *filesystem) read(name string, limit int64) ([]byte, error) {
	room := readRooms.Get().(*[16 << 10]byte)
	defer readRooms.Put(room)
	content, err := f.readTo(room[:], name, limit)
	if len(content) < len(room) {
		content = bytes.Clone(content)
	}
	return content, err
}

// readTo reads a file into room if that is larger than the file.
func (f *filesystem) readTo(room []byte, name string, limit int64) ([]byte, error) {
	t, err := f.tree()
	if err != nil {
		return nil, err
	}
	if t == nil {
		return nil, notExist("read", name)
	}
	f.get.Add(1)
	if content, supported, err := t.readBeneath(room, name, limit); supported {
		return content, err
	}
	// O_NONBLOCK: opening a pipe would wait for its writer for ever.
	file, err := t.root.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	content, err := readRegular(file, limit)
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	return content, err
}

// readRegular reads a file that must be a regular one of at most limit bytes.
func readRegular(file *os.File, limit int64) ([]byte, error) {
	info, err := file.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, ErrNotRegular
	case info.Size() > limit:
		return nil, ErrTooLarge
	}
	content := make([]byte, info.Size())
	n, err := io.ReadFull(file, content)
	if err == io.ErrUnexpectedEOF || err == io.EOF {
		err = nil // it has shrunk meanwhile: what is there is its content
	}
	return content[:n], err
}

// readError names the path, and tells a symbolic link apart from a failure of the
// disk: the first is one damaged file, the second a reason to stop.
func readError(name string, err error) error {
	if errors.Is(err, syscall.ELOOP) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.EISDIR) ||
		errors.Is(err, syscall.ENXIO) || errors.Is(err, syscall.EXDEV) || strings.Contains(err.Error(), "path escapes from parent") {
		err = ErrNotRegular
	}
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		err = pathErr.Err
	}
	return &fs.PathError{Op: "read", Path: name, Err: err}
}

// Stat returns a regular file's size and time.
func (f *filesystem) Stat(ctx context.Context, name string) (Object, error) {
	if err := f.turn(ctx); err != nil {
		return Object{}, err
	}
	t, err := f.tree()
	if err != nil {
		return Object{}, err
	}
	if t == nil {
		return Object{}, notExist("stat", name)
	}
	f.head.Add(1)
	object, err := t.stat(name)
	if errors.Is(err, syscall.ENOTDIR) {
		return Object{}, notExist("stat", name)
	}
	if err != nil {
		return Object{}, fmt.Errorf("stat %s: %w", name, err)
	}
	return object, nil
}

// Prune removes dir and what is below it, if that is directories alone.
func (f *filesystem) Prune(ctx context.Context, dir string) (gone bool, err error) {
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
	if _, isName, _ := emptied(dir); !isName && parsePath(dir).kind != kindRepository {
		t.removeEmptied(ctx, path.Dir(dir))
		return true, nil
	}
	for dir = path.Dir(dir); dir != "." && dir != RepositoriesDir; dir = path.Dir(dir) {
		if gone, _, err := f.removeEmpty(ctx, t, dir); !gone || err != nil {
			if err != nil {
				err = fmt.Errorf("prune %s: %w", dir, err)
			}
			return true, err
		}
	}
	return true, nil
}

// pruneTree removes directories that hold nothing but directories, from the bottom up, and
// reports whether dir is gone. Nearly all are empty, so that it begins with the removal.
func (f *filesystem) pruneTree(ctx context.Context, t *tree, dir string) (gone bool, err error) {
	if gone, holds, err := f.removeEmpty(ctx, t, dir); !holds {
		return gone, err
	}
	entries, err := fs.ReadDir(t.root.FS(), dir)
	if err != nil {
		return false, err
	}
	for _, entry := range entries {
		if !entry.IsDir() {
			return false, nil
		}
		if gone, err := f.pruneTree(ctx, t, dir+"/"+entry.Name()); !gone || err != nil {
			return false, err
		}
	}
	gone, _, err = f.removeEmpty(ctx, t, dir)
	return gone, err
}

// removeEmpty removes a directory that is empty. holds is set where it is not; what is no
// directory is left.
func (f *filesystem) removeEmpty(ctx context.Context, t *tree, dir string) (gone, holds bool, err error) {
	if err := f.turn(ctx); err != nil {
		return false, false, err
	}
	if err := MayRemove(ctx); err != nil {
		return false, false, err
	}
	err = t.removeDir(dir)
	switch {
	case err == nil:
		f.del.Add(1)
		return true, false, nil
	case errors.Is(err, fs.ErrNotExist):
		return true, false, nil
	case isNotEmpty(err):
		return false, true, nil
	case errors.Is(err, syscall.ENOTDIR):
		return false, false, nil
	}
	return false, false, err
}

func isNotEmpty(err error) bool {
	return errors.Is(err, syscall.ENOTEMPTY) || errors.Is(err, syscall.EEXIST)
}

func (f *filesystem) path(name string) string {
	return f.dir + "/" + name
}

func symlinkError(name string) error {
	return fmt.Errorf("list %s: it is a symbolic link, and what lies behind it could keep images alive: "+
		"mount the directory there instead (mount --bind)", name)
}
