// Package storage is the contract between a registry's storage and everything that reads it or
// removes from it: Store, and the optional interfaces of what a backend can do faster.
//
// Paths are below the layout's root, <rootdirectory>/docker/registry/v2: slash-separated, without
// a leading slash, such as "blobs/sha256/ab/ab12…/data". The backends, the grammar of the paths and
// the configuration are in packages below this one, which needs none of them.
package storage

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"syscall"
	"time"
)

// Root is where the layout lies below a registry's root directory.
const Root = "docker/registry/v2"

// The two trees of the layout, as Scan takes them.
const (
	BlobsDir        = "blobs"
	RepositoriesDir = "repositories"
)

// OwnDir is regsweep's own directory, below the layout's root. Distribution looks at
// blobs and repositories there, and at nothing else.
const OwnDir = ".regsweep"

// QuarantineDir is where what was taken away lies, below a directory for each run.
const QuarantineDir = OwnDir + "/quarantine"

// ErrTooLarge is returned by Reader.Read for an object above its limit.
var ErrTooLarge = errors.New("larger than the limit")

// ErrNotRegular is returned by Reader.Read and Reader.Stat for what is no regular
// file: a symbolic link, a directory, a pipe.
var ErrNotRegular = errors.New("not a regular file")

// ErrUnreadable is returned by Reader.Read for an object that is there, and whose content the
// storage does not hand out: it is archived, or the key that it was encrypted with is disabled.
var ErrUnreadable = errors.New("its content can't be read")

// ErrLost is returned by a Locker when somebody else has written, or removed, the object
// meanwhile.
var ErrLost = errors.New("changed by somebody else")

// Identity says which storage this is. It carries no secret, and is the same for
// every way of opening the same storage.
type Identity struct {
	Driver string `json:"driver"` // "filesystem", "s3", or a Distribution driver's name
	Root   string `json:"root"`   // an absolute path, or "s3://bucket/prefix?endpoint=…"
}

// Object is one stored object, as a scan or a stat names it.
type Object struct {
	Path string
	// Size is in bytes, or -1 where it was not learnt.
	Size int64
	// ModTime is when the object was last written; zero where it was not learnt.
	ModTime time.Time
	// ETag is the storage's entity tag without its quotes, or "". Whether it is
	// the MD5 of the content is for the reader to find out.
	ETag string
	// Content is the whole content of a link that says something which its path
	// does not (a revision's, a tag's, an upload's startedat), where the scan had
	// it at hand; nil where it has to be read.
	Content []byte
	// Named is set where only the directory of the object was seen: a blob's
	// data and a link are the names of their directories, and looking inside
	// each would double a scan's cost. Stat tells whether the object is there.
	Named bool
	// Dir marks an existing directory, its path without a trailing slash: a
	// repository's _layers, _manifests or _uploads, or one that is empty and that a
	// removal has left (emptied). Storages without directories never report one.
	Dir bool
	// Multipart is the upload id of an S3 multipart upload that was begun for
	// this path and neither completed nor aborted; ModTime is when it began.
	Multipart string
	// HardLinked is set for a file on a filesystem that has other hard links. Its removal
	// frees no space.
	HardLinked bool
	// Err is why nothing more is known of a file of an upload or, with Dir set, of the directory
	// of an upload.
	Err error
}

// Ref names one thing that Remove can remove: an object or, with Multipart set, an
// unfinished multipart upload.
type Ref struct {
	Path      string
	Multipart string
	// Content is all that the object is known to contain, of a link that was read or whose
	// ETag has proved it; "" where that is not known. Remove does not look at it.
	Content string
}

// Outcome is what became of one Ref.
type Outcome struct {
	// Err is nil once the storage has confirmed that the object is gone.
	Err error
	// Hidden is set where the object is only out of sight and its bytes are still paid
	// for: behind a delete marker in a bucket that keeps versions, or in a quarantine.
	Hidden bool
	// HardLinkedBytes is the size of a file that was removed while it had other hard links.
	// They keep its space.
	HardLinkedBytes int64
	// DirLeft is set on a filesystem where the directory that the object was in is not empty. Of an
	// object deep in an upload it is always set: the upload's own directory may not be empty.
	DirLeft bool
	// Versions and VersionBytes are what Versions.Remove has removed beside the
	// object itself.
	Versions     int
	VersionBytes int64
}

// Scanner lists what is stored.
type Scanner interface {
	// Scan reports every object below dir (BlobsDir or RepositoriesDir) once, in
	// pages of any length and in no order. It calls visit from several goroutines
	// at once. Once visit has returned the page is filled anew; what its objects
	// hold may be kept. A dir that does not exist is empty.
	// Scan returns the first error, of the storage or of visit, after all calls
	// of visit have returned. A directory that can't be listed is an error that
	// names it: a listing with a hole is never passed off as a whole one.
	Scan(ctx context.Context, dir string, visit func(page []Object) error) error
}

// Reader reads objects. Its methods may be called concurrently.
type Reader interface {
	// Read returns the whole content. The error is fs.ErrNotExist (wrapped) where
	// there is no such object, ErrTooLarge (wrapped) above limit bytes, and ErrUnreadable.
	// Transient failures have been retried already: any other error means that
	// the storage can't be trusted to answer now.
	Read(ctx context.Context, path string, limit int64) ([]byte, error)
	// Stat returns size and time, or fs.ErrNotExist (wrapped).
	Stat(ctx context.Context, path string) (Object, error)
}

// IntoReader is a reader that reads into a buffer of the caller.
type IntoReader interface {
	// ReadInto is Reader.Read for a caller who reads many objects, one after the other: the
	// content is in buffer if that is larger than the content. A filesystem that returns less
	// than there is may cut it short: it is for content that is verified.
	ReadInto(ctx context.Context, buffer, path []byte, limit int64) ([]byte, error)
}

// ReadInto is IntoReader.ReadInto, or Reader.Read where the reader has none.
func ReadInto(ctx context.Context, reader Reader, buffer, path []byte, limit int64) ([]byte, error) {
	if r, ok := reader.(IntoReader); ok {
		return r.ReadInto(ctx, buffer, path, limit)
	}
	return reader.Read(ctx, string(path), limit)
}

// BlobStater is a reader that stats blobs without the copies that their paths take.
type BlobStater interface {
	// StatBlob is Reader.Stat of the blob with a SHA-256 digest, and leaves the object's path
	// empty. ok is false where it does not know: then Stat tells.
	StatBlob(ctx context.Context, digest *[32]byte) (object Object, ok bool, err error)
}

// LinkVerifier is a reader that verifies many links in less time than it takes to read each.
type LinkVerifier interface {
	// VerifyLinks reports for each digest whether dir/<hex>/link exists and says that digest.
	// Where it reports false the link may do so all the same: reading it tells.
	VerifyLinks(ctx context.Context, dir string, digests [][32]byte) (verified []bool, err error)
}

// DirTimes is a store with directories. Their times tell where something was written.
type DirTimes interface {
	// ChangedAfter reports whether a directory exists and was changed after a time.
	ChangedAfter(ctx context.Context, dir string, after time.Time) (bool, error)
	// LinkedAfter finds a link that was written after a time, dir/<name>/<below>/link, for those
	// names that may have one, and returns its time. It returns the zero time if there is none.
	LinkedAfter(ctx context.Context, dir, below string, after time.Time, may func(name string) bool) (time.Time, error)
}

// PermissionChecker is a store that knows which permissions this process has in it.
type PermissionChecker interface {
	// ExplainPermission adds to an error who owns the directory that may not be read or written,
	// if the error is that a permission is missing.
	ExplainPermission(err error) error
	// RequireWrite fails if this process may not remove objects.
	RequireWrite(refs iter.Seq[Ref]) error
}

// ExplainPermission is PermissionChecker.ExplainPermission, where the store has it.
func ExplainPermission(store Store, err error) error {
	if c, ok := store.(PermissionChecker); ok {
		return c.ExplainPermission(err)
	}
	return err
}

// RequireWrite is PermissionChecker.RequireWrite, where the store has it.
func RequireWrite(store Store, refs iter.Seq[Ref]) error {
	if c, ok := store.(PermissionChecker); ok {
		return c.RequireWrite(refs)
	}
	return nil
}

// LayoutFinder finds the layout without listing all of it.
type LayoutFinder interface {
	// FindLayout reports whether there is a docker/registry/v2. instead are the names of what
	// there is beside it, if the storage is asked for them and says so; nil otherwise.
	FindLayout(ctx context.Context) (found bool, instead []string, err error)
}

// Remover removes objects. Its methods may be called concurrently.
type Remover interface {
	// Remove removes at most RemoveBatch objects and returns an outcome for
	// each, in order. An object that is absent counts as removed. Directories
	// that the removal has emptied go too, up to the enclosing _layers,
	// revisions, index, _uploads or blobs/<algorithm>. Once ctx is done, what
	// has not been removed gets ctx's error as its outcome.
	Remove(ctx context.Context, refs []Ref) []Outcome
	// Prune removes dir and the directories below it, provided that they hold
	// nothing but directories, then parents that this has emptied: of a
	// repository's _manifests, _layers or _uploads up to repositories, of any
	// other as far as Remove goes. It never removes a file, and a directory that
	// is not empty is no error. Where there are no directories it does nothing.
	//
	// gone is false where something is left of dir, which is then not empty, or a
	// directory that this storage can't remove.
	Prune(ctx context.Context, dir string) (gone bool, err error)
}

// RemoveBatch is the largest number of objects in one call of Remover.Remove: as
// many as S3 takes in one DeleteObjects request.
const RemoveBatch = 1000

// Locker writes small objects conditionally, which is all that a lock needs.
type Locker interface {
	// Create writes a new object and returns its version. The error is
	// fs.ErrExist (wrapped) where there is one already, and ErrLost (wrapped) where
	// another process has kept this one from finding out.
	Create(ctx context.Context, path string, content []byte) (version string, err error)
	// Version returns an object's content and version, or fs.ErrNotExist (wrapped).
	Version(ctx context.Context, path string) (content []byte, version string, err error)
	// Replace overwrites the object if it still has the version given. The error
	// is ErrLost (wrapped) where it does not.
	Replace(ctx context.Context, path string, content []byte, version string) (newVersion string, err error)
	// Delete removes the object if it still has the version given, and what a storage that
	// keeps versions has kept of it. The error is ErrLost (wrapped) where it does not, or
	// where there is no object. Where the server does not heed the condition, the
	// object is read right before, and the lease of ctx asked after that.
	Delete(ctx context.Context, path, version string) error
}

// Move takes one object from a path to another.
type Move struct {
	From, To string
	// Content is what Ref.Content is. A storage where a move costs as much as a copy
	// need not keep an object of which it is known: it may remove it, for whoever
	// wants it back to write it anew.
	Content string
}

// Mover takes objects out of a registry's sight and puts them back. Its methods may be
// called concurrently.
type Mover interface {
	// Move moves at most RemoveBatch objects and returns an outcome for each, in order:
	// nil once the object is at To, whole, and no longer at From. It writes over
	// nothing: the error is fs.ErrExist (wrapped) where both paths have an object, but
	// for a copy that an interrupted move has left at To, with which it goes on. An
	// object that is at To alone has been moved; the error is fs.ErrNotExist (wrapped)
	// where there is none at either. Directories are emptied and removed as by Remove,
	// and made as they are needed, with the owner and the permissions of those that
	// they are made in.
	Move(ctx context.Context, moves []Move) []Outcome
	// Put writes a new object, whole or not at all. The error is fs.ErrExist (wrapped)
	// where there is one.
	Put(ctx context.Context, path string, content io.ReadSeeker) error
	// MakeDir makes a directory, and those that it lies in, if the storage has
	// directories.
	MakeDir(ctx context.Context, dir string) error
	// Sync returns once everything that was moved, put or removed outlives a loss of
	// power.
	Sync(ctx context.Context) error
}

// MoveChecker is a store that knows before a move that it will fail.
type MoveChecker interface {
	// CheckMoves says why a file of so many bytes cannot be written to dir, or objects not be
	// moved to below it: they lie on another filesystem (then the error is a *UsageError), or
	// there is no room (see IsFull). It changes nothing. dir need not exist.
	CheckMoves(ctx context.Context, dir string, bytes int64, refs iter.Seq[Ref]) error
}

// Browser looks at what is no part of the layout, such as OwnDir. Its methods may be
// called concurrently.
type Browser interface {
	// Names are the directories right below dir, sorted; none where it does not exist. A symbolic
	// link counts, since somebody may have moved the directory. Where dir is no directory the error
	// is ErrNotRegular (wrapped).
	Names(ctx context.Context, dir string) ([]string, error)
	// Below reports every object below dir, in pages and in no order, and with Dir set
	// each directory that holds nothing. It calls visit serially. A dir that does not
	// exist is empty; symbolic links are reported and not followed, also in the place of dir. Where
	// a directory that dir lies in is none the error is ErrNotRegular (wrapped).
	Below(ctx context.Context, dir string, visit func(page []Object) error) error
	// Stream writes the content of an object of any size to w. The error is
	// fs.ErrNotExist (wrapped) where there is no such object, and ErrNotRegular where
	// it is no regular file. After an error w has got a part of it, or all.
	Stream(ctx context.Context, path string, w io.Writer) error
	// Beside reports whether there is a file at a path below the registry's root
	// directory, outside of the layout.
	Beside(ctx context.Context, path string) (bool, error)
}

// Requests counts the calls that the storage was asked, by kind. On a filesystem a
// list is a directory read, a get a file read, a head a stat.
type Requests struct {
	List   int64 `json:"list"`
	Get    int64 `json:"get"`
	Head   int64 `json:"head"`
	Put    int64 `json:"put"`
	Delete int64 `json:"delete"`
}

// Store is a registry's storage, opened. Its methods may be called concurrently.
type Store interface {
	Scanner
	Reader
	Remover
	Locker
	Mover
	Browser
	LayoutFinder
	Identity() Identity
	Requests() Requests
	// Concurrency is how many calls are worth having under way at once. More of them
	// wait for each other, so that a caller need not know what the storage stands.
	Concurrency() int
	// Bulk is how removals and moves of many objects are best divided.
	Bulk() Bulk
}

// Bulk divides many objects into calls of Remover.Remove or Mover.Move.
type Bulk struct {
	// Objects is how many one call should have, at most RemoveBatch.
	Objects int
	// Calls is how many of them are worth having under way at once.
	Calls int
}

// ErrGone is the error for what was listed and is not found. It is no fs.ErrNotExist: nobody may
// take it for absence.
var ErrGone = errors.New("it was listed, and now the storage says that it does not exist: " +
	"the storage fails, or somebody writes to it")

// NotExist gives err the path and makes it match fs.ErrNotExist.
func NotExist(op, path string) error {
	return &fs.PathError{Op: op, Path: path, Err: fs.ErrNotExist}
}

// IsDamage tells an object that is not what it should be from a storage that fails.
func IsDamage(err error) bool {
	return errors.Is(err, ErrTooLarge) || errors.Is(err, ErrNotRegular) || errors.Is(err, ErrUnreadable)
}

// IgnoreDamage drops the error of an object that is damaged or not there.
func IgnoreDamage(err error) error {
	if IsDamage(err) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// IsFull reports whether there was no room: no block, no inode, or none within a quota.
func IsFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }
