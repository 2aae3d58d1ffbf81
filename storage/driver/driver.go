// Package driver is the backend for the storages of Distribution's own drivers. It is slow, because
// it calls the registry's own code for every object. Tests compare the other backends with it.
package driver

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"regsweep/storage"
	"regsweep/storage/layout"
	"regsweep/storage/pace"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/factory"
	"golang.org/x/sync/errgroup"
)

// Store is a registry's storage behind one of Distribution's own drivers.
type Store struct {
	driver      storagedriver.StorageDriver
	identity    storage.Identity
	directories bool
	limits      storage.Limits
	retries     pace.Retries // bounds and retries every call
	writing     sync.Mutex   // see Create

	list, get, head, put, del atomic.Int64
}

// defaultConcurrency is how many calls may be under way if Limits does not say.
const defaultConcurrency = 32

// Over returns the registry's storage behind any of Distribution's drivers.
// root is used only for its Identity. The driver's own root directory may be another one.
//
// The drivers can do less than the storages behind them. So this store has limits:
//
//   - If a driver refuses a path (Distribution's names have letters, digits, dots, underscores
//     and hyphens), the path is reported with size -1. Objects below it are not reported. It
//     can't be removed.
//   - Empty directories are kept, and Prune does nothing: a driver removes a directory with all
//     its contents. A file that is written after a listing has found the directory empty would
//     be removed too.
//   - Create and Replace are atomic only among the users of one Store.
//   - Unfinished multipart uploads are not reported.
func Over(d storagedriver.StorageDriver, root string) storage.Store {
	return over(d, root, storage.Limits{})
}

// ErrUnknown is the error for a driver that is not linked into this program.
var ErrUnknown = errors.New("unknown storage driver")

// Open opens the registry's storage behind the driver with this name, with the parameters in a
// registry's config.yml. Distribution's factory knows the drivers that are linked.
func Open(ctx context.Context, name string, parameters map[string]any, limits storage.Limits) (storage.Store, error) {
	d, err := factory.Create(ctx, name, parameters)
	if unknown := (factory.InvalidStorageDriverError{}); errors.As(err, &unknown) {
		return nil, ErrUnknown
	}
	if err != nil {
		return nil, fmt.Errorf("open storage driver %s: %w", name, err)
	}
	root := ""
	if value, found := parameters["rootdirectory"]; found && value != nil {
		root = fmt.Sprint(value)
	}
	return over(d, root, limits), nil
}

func over(d storagedriver.StorageDriver, root string, limits storage.Limits) *Store {
	o := &Store{driver: d, identity: storage.Identity{Driver: d.Name(), Root: root}, limits: limits, retries: pace.DefaultRetries}
	o.retries.Pace = pace.New(limits.AtOnce(defaultConcurrency), limits.MaxRequests)
	switch d.Name() {
	case "filesystem", "inmemory":
		o.directories = true
	case "s3aws": // a configuration calls it s3
		o.identity.Driver = "s3"
	}
	return o
}

func (o *Store) Identity() storage.Identity { return o.identity }

func (o *Store) Concurrency() int { return o.limits.AtOnce(defaultConcurrency) }

// Bulk allows few calls, since the storage behind a driver may be S3.
func (o *Store) Bulk() storage.Bulk {
	return storage.Bulk{Objects: storage.RemoveBatch, Calls: min(4, o.Concurrency())}
}

func (o *Store) Requests() storage.Requests {
	return storage.Requests{
		List: o.list.Load(), Get: o.get.Load(), Head: o.head.Load(),
		Put: o.put.Load(), Delete: o.del.Load(),
	}
}

// Scan lists directory after directory and stats every entry.
func (o *Store) Scan(ctx context.Context, dir string, visit func([]storage.Object) error) error {
	g, ctx := errgroup.WithContext(ctx)
	// Each directory has a goroutine of its own, which waits for a slot. So a tree of any
	// shape is walked in parallel, and no goroutine waits for a second slot.
	w := &driverWalk{o: o, group: g, slots: make(chan struct{}, o.Concurrency()), visit: visit}
	g.Go(func() error { return w.directory(ctx, dir, false) })
	return g.Wait()
}

type driverWalk struct {
	o     *Store
	group *errgroup.Group
	slots chan struct{}
	visit func([]storage.Object) error
}

// directory reports the objects directly in dir, and starts a walk of each directory in it.
// listed is set if dir was listed as a directory.
func (w *driverWalk) directory(ctx context.Context, dir string, listed bool) error {
	select {
	case w.slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-w.slots }()

	names, err := w.o.listDir(ctx, dir)
	if errors.Is(err, fs.ErrNotExist) && listed {
		names, err = w.again(ctx, dir)
	}
	if errors.Is(err, fs.ErrNotExist) || isInvalidPath(err) {
		return nil // it never existed, was removed meanwhile, or was reported with size -1
	}
	if err != nil {
		return err
	}
	var page []storage.Object
	if _, ok := layout.Emptied(dir); ok && len(names) == 0 && w.o.directories {
		page = append(page, storage.Object{Path: dir, Dir: true})
	}
	for i, name := range names {
		// A storage without directories can have both an object "a" and an object "a/b". The
		// driver then lists the name "a" twice, and stats the object.
		again := i > 0 && names[i-1] == name
		object, isDir, err := w.o.stat(ctx, name)
		isListed := true
		switch {
		case errors.Is(err, fs.ErrNotExist), isInvalidPath(err):
			// It was listed, so it exists, and it may be a directory.
			object, isListed = storage.Object{Path: name, Size: -1}, false
		case err != nil:
			return err
		}
		if isDir || again || !isListed {
			w.group.Go(func() error { return w.directory(ctx, name, isListed) })
		}
		switch {
		case again:
		case !isDir:
			page = append(page, object)
		case w.o.directories && layout.Parse(name).Kind == layout.Repository:
			page = append(page, storage.Object{Path: name, Dir: true})
		}
	}
	return storage.VisitPage(page, w.visit)
}

// again lists a directory again that was not found although its parent's listing has it. A
// storage over a network may wrongly report absence for a moment, and then a whole repository
// would be missing from the scan. If a stat finds the directory and the list still does not,
// the scan can't be complete. Without directories this is no error: the key may be "a/".
func (w *driverWalk) again(ctx context.Context, dir string) ([]string, error) {
	if _, isDir, err := w.o.stat(ctx, dir); err != nil || !isDir {
		return nil, err
	}
	names, err := w.o.listDir(ctx, dir)
	if errors.Is(err, fs.ErrNotExist) && w.o.directories {
		return nil, fmt.Errorf("list %s: the driver has this directory, and does not find it", dir)
	}
	return names, err
}

// listDir returns the sorted paths of the files and directories directly in dir.
func (o *Store) listDir(ctx context.Context, dir string) (names []string, err error) {
	at := driverPath(dir)
	if dir == "" {
		at = "/" + storage.Root // a driver refuses a slash at the end
	}
	err = o.do(ctx, "list", dir, func() error {
		o.list.Add(1)
		names, err = o.driver.List(ctx, at)
		return err
	})
	if err != nil {
		return nil, err
	}
	for i, name := range names {
		below, ok := strings.CutPrefix(name, driverPath(""))
		if !ok {
			return nil, fmt.Errorf("list %s: the driver answers with %q, which lies elsewhere", dir, name)
		}
		names[i] = below
	}
	slices.Sort(names)
	return names, nil
}

func (o *Store) stat(ctx context.Context, path string) (object storage.Object, isDir bool, err error) {
	err = o.do(ctx, "stat", path, func() error {
		o.head.Add(1)
		info, err := o.driver.Stat(ctx, driverPath(path))
		if err != nil {
			return err
		}
		object = storage.Object{Path: path, Size: info.Size(), ModTime: info.ModTime()}
		isDir = info.IsDir()
		return nil
	})
	return object, isDir, err
}

// Stat asks the driver. In a storage without directories, a directory is only a prefix of keys
// and no object.
func (o *Store) Stat(ctx context.Context, path string) (storage.Object, error) {
	object, isDir, err := o.stat(ctx, path)
	switch {
	case err != nil || !isDir:
		return object, err
	case o.directories:
		return storage.Object{}, fmt.Errorf("stat %s: %w", path, storage.ErrNotRegular)
	}
	return storage.Object{}, storage.NotExist("stat", path)
}

// Read uses the driver's Reader and not its GetContent, which would read content of any length
// into memory.
func (o *Store) Read(ctx context.Context, path string, limit int64) (content []byte, err error) {
	err = o.do(ctx, "read", path, func() error {
		o.get.Add(1)
		body, err := o.driver.Reader(ctx, driverPath(path), 0)
		if err != nil {
			return err
		}
		content, err = storage.ReadBody(body, nil, limit)
		return err
	})
	if err == nil {
		return content, nil
	}
	if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, storage.ErrTooLarge) && ctx.Err() == nil {
		if _, statErr := o.Stat(ctx, path); errors.Is(statErr, storage.ErrNotRegular) {
			return nil, fmt.Errorf("read %s: %w", path, storage.ErrNotRegular)
		}
	}
	return nil, err
}

// Remove stats each object before it removes the object, since a driver removes
// everything below a path.
func (o *Store) Remove(ctx context.Context, refs []storage.Ref) []storage.Outcome {
	return storage.OutcomesOf(len(refs), o.Concurrency(), func(i int) error { return o.remove(ctx, refs[i]) })
}

func (o *Store) remove(ctx context.Context, ref storage.Ref) error {
	if ref.Multipart != "" {
		return fmt.Errorf("abort the upload of %s: Distribution's drivers can't abort one", ref.Path)
	}
	if err := storage.MayBegin(ctx); err != nil {
		return err
	}
	_, isDir, err := o.stat(ctx, ref.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case isDir && o.directories:
		return fmt.Errorf("remove %s: %w", ref.Path, storage.ErrNotRegular)
	}
	if !o.directories {
		// If there is an object "a/b", the removal of "a" would remove it too.
		below, err := o.listDir(ctx, ref.Path)
		switch {
		case err == nil && len(below) > 0:
			return fmt.Errorf("remove %s: the driver would remove what lies below it too", ref.Path)
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return err
		case isDir: // the S3 driver reports a directory "a" if there is only an object "ab"
			return nil
		}
	}
	err = o.do(ctx, "remove", ref.Path, func() error {
		if err := storage.MayRemove(ctx); err != nil {
			return pace.Final(err)
		}
		o.del.Add(1)
		return o.driver.Delete(ctx, driverPath(ref.Path))
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Prune does nothing: see Over.
func (o *Store) Prune(ctx context.Context, dir string) (gone bool, err error) {
	return !o.directories, ctx.Err()
}

// Create stats, writes, and reads the object again. A mutex makes this atomic within one Store.
// But two processes can both find no object and both write. The later write wins, and the
// earlier process notices it only if its read comes after that write. Distribution's drivers have
// no conditional write.
func (o *Store) Create(ctx context.Context, path string, content []byte) (string, error) {
	o.writing.Lock()
	defer o.writing.Unlock()
	switch _, err := o.Stat(ctx, path); {
	case err == nil:
		return "", fmt.Errorf("create %s: %w", path, fs.ErrExist)
	case !errors.Is(err, fs.ErrNotExist):
		return "", err
	}
	return o.write(ctx, "create", path, content, fs.ErrExist)
}

// Version reads an object. The version is a hash of the content.
func (o *Store) Version(ctx context.Context, path string) ([]byte, string, error) {
	content, err := o.Read(ctx, path, storage.LockLimit)
	if err != nil {
		return nil, "", err
	}
	return content, contentVersion(content), nil
}

// Replace compares, writes, and reads the object again. See Create for its limits.
func (o *Store) Replace(ctx context.Context, path string, content []byte, version string) (string, error) {
	o.writing.Lock()
	defer o.writing.Unlock()
	_, current, err := o.Version(ctx, path)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && current != version:
		return "", fmt.Errorf("replace %s: %w", path, storage.ErrLost)
	case err != nil:
		return "", err
	}
	return o.write(ctx, "replace", path, content, storage.ErrLost)
}

// Delete compares and removes. See Create for its limits.
func (o *Store) Delete(ctx context.Context, path, version string) error {
	o.writing.Lock()
	defer o.writing.Unlock()
	_, current, err := o.Version(ctx, path)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && current != version:
		return fmt.Errorf("remove %s: %w", path, storage.ErrLost)
	case err != nil:
		return err
	}
	return o.remove(ctx, storage.Ref{Path: path})
}

func (o *Store) write(ctx context.Context, op, path string, content []byte, refused error) (string, error) {
	err := o.do(ctx, op, path, func() error {
		o.put.Add(1)
		return o.driver.PutContent(ctx, driverPath(path), content)
	})
	if err != nil {
		return "", err
	}
	there, version, err := o.Version(ctx, path)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && !bytes.Equal(there, content):
		return "", fmt.Errorf("%s %s: %w", op, path, refused)
	case err != nil:
		return "", err
	}
	return version, nil
}

func contentVersion(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// detailed is an error of a driver and its reason, which the driver's error does not unwrap.
type detailed struct {
	error
	detail error
}

func (e detailed) Unwrap() []error { return []error{e.error, e.detail} }

// withDetail lets errors.Is and errors.As find the reason of a driver's error.
func withDetail(err error) error {
	var wrapped storagedriver.Error
	if errors.As(err, &wrapped) && wrapped.Detail != nil {
		return detailed{err, withDetail(wrapped.Detail)}
	}
	return err
}

// do calls the driver, with retries. Some drivers retry by themselves, but give up sooner.
func (o *Store) do(ctx context.Context, op, path string, call func() error) error {
	err := o.retries.Do(ctx, func() error { return withDetail(call()) })
	var missing storagedriver.PathNotFoundError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &missing):
		return storage.NotExist(op, path)
	}
	return fmt.Errorf("%s %s: %w", op, path, err)
}

func isInvalidPath(err error) bool {
	var invalid storagedriver.InvalidPathError
	return errors.As(err, &invalid)
}

// driverPath is the driver's path for a path below the layout's root.
func driverPath(path string) string { return "/" + storage.Root + "/" + path }

// Beside stats a file.
func (o *Store) Beside(ctx context.Context, path string) (bool, error) {
	err := o.do(ctx, "stat", path, func() error {
		o.head.Add(1)
		_, err := o.driver.Stat(ctx, "/"+path)
		return err
	})
	var missing storagedriver.PathNotFoundError
	if errors.Is(err, fs.ErrNotExist) || errors.As(err, &missing) {
		return false, nil
	}
	return err == nil, err
}

// FindLayout implements storage.LayoutFinder.
func (o *Store) FindLayout(ctx context.Context) (found bool, instead []string, err error) {
	for _, dir := range []string{storage.BlobsDir, storage.RepositoriesDir, storage.OwnDir} { // S3 has no empty directories
		names, err := o.Names(ctx, dir)
		if err != nil || len(names) > 0 {
			return true, nil, err
		}
	}
	return false, nil, nil
}
