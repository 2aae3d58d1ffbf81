// Package storage is the contract between a registry's storage and everything that reads it or
// removes from it. The contract is Store and some optional interfaces. A backend implements an
// optional interface if it can do that task faster.
//
// Paths are relative to the layout's root, <rootdirectory>/docker/registry/v2. They are separated
// by slashes and have no leading slash, such as "blobs/sha256/ab/ab12…/data". The backends, the
// grammar of the paths and the configuration are in packages below this one. This package imports
// none of them.
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

// Root is the path of the layout below a registry's root directory.
const Root = "docker/registry/v2"

// BlobsDir and RepositoriesDir are the two trees of the layout. Scan takes either of them.
const (
	BlobsDir        = "blobs"
	RepositoriesDir = "repositories"
)

// IsTree reports whether a directory of the layout's root is one of the two trees.
func IsTree(dir string) bool { return dir == BlobsDir || dir == RepositoriesDir }

// OwnDir is regsweep's own directory, below the layout's root. Distribution reads only blobs
// and repositories there.
const OwnDir = ".regsweep"

// QuarantineDir holds one directory for each run, with the objects that the run moved away.
const QuarantineDir = OwnDir + "/quarantine"

// ErrTooLarge is returned by Reader.Read for an object above its limit.
var ErrTooLarge = errors.New("larger than the limit")

// ErrNotRegular is returned by Reader.Read and Reader.Stat if the path is not a regular file but
// a symbolic link, a directory or a pipe.
var ErrNotRegular = errors.New("not a regular file")

// ErrUnreadable is returned by Reader.Read for an object that exists but whose content the
// storage does not return: a sector is bad, the object is archived, or its encryption key is disabled.
var ErrUnreadable = errors.New("its content can't be read")

// ErrLost is returned by a Locker if somebody else has written or removed the object meanwhile.
var ErrLost = errors.New("changed by somebody else")

// Identity identifies a storage. It contains no secret. It is the same for every way of opening the same
// storage.
type Identity struct {
	Driver string `json:"driver"` // "filesystem", "s3", or a Distribution driver's name
	Root   string `json:"root"`   // an absolute path, or "s3://bucket/prefix?endpoint=…"
}

// Object is one stored object, as a scan or a stat reports it.
type Object struct {
	Path string
	// Size is in bytes. It is -1 if it is unknown.
	Size int64
	// ModTime is when the object was last written. It is zero if it is unknown.
	ModTime time.Time
	// ETag is the storage's entity tag without its quotes, or "". It need not be the MD5 of the
	// content. The reader has to find that out.
	ETag string
	// Content is the whole content of a revision's link, of a tag's link or of an upload's
	// startedat, if the scan has read it. Otherwise it is nil. The content of other files is known
	// from their path.
	Content []byte
	// Named is set if only the directory of the object was listed. The name of the directory has
	// the digest of the blob or link, and listing each directory would double the cost of a scan.
	// Stat finds out whether the object exists.
	Named bool
	// Dir is set for a directory that exists: a repository's _layers, _manifests or _uploads,
	// or an empty directory that a removal has left (see layout.Emptied). Its path has no
	// trailing slash. Storages without directories never report one.
	Dir bool
	// Multipart is the upload id of an S3 multipart upload that was begun for
	// this path and neither completed nor aborted; ModTime is when it began.
	Multipart string
	// HardLinked is set for a file on a filesystem that has other hard links. Its removal
	// frees no space.
	HardLinked bool
	// Err is why an upload's file, or an upload's directory if Dir is set, could not be read.
	Err error
}

// Ref names one thing that Remove can remove: an object or, if Multipart is set, an
// unfinished multipart upload.
type Ref struct {
	Path      string
	Multipart string
	// Content is the whole content of a link that was read or that its ETag has verified. It is
	// "" if the content is unknown. Remove ignores it.
	Content string
}

// Outcome is the result of the removal of one Ref.
type Outcome struct {
	// Err is nil if the storage has confirmed that the object does not exist any more.
	Err error
	// Hidden is set if the object is only hidden and its bytes still cost money: behind a
	// delete marker in a bucket that keeps versions, or in a quarantine.
	Hidden bool
	// HardLinkedBytes is the size of a file that was removed while it had other hard links.
	// They keep its space.
	HardLinkedBytes int64
	// DirLeft is set on a filesystem if the object's directory is not empty after the removal.
	// It is always set for an object deep in an upload: the upload's own directory may not be
	// empty.
	DirLeft bool
	// Versions and VersionBytes count the versions that Versions.Remove has removed in addition
	// to the object itself.
	Versions     int
	VersionBytes int64
}

// Scanner lists the stored objects.
type Scanner interface {
	// Scan reports every object below dir (BlobsDir or RepositoriesDir) once, in
	// pages of any length and in no order. It calls visit from several goroutines
	// at once. After visit has returned, Scan reuses the page. The strings and slices
	// in its objects are not reused. A dir that does not exist is empty.
	// Scan returns the first error, of the storage or of visit, after all calls
	// of visit have returned. A directory that can't be listed is an error that
	// names it: Scan never reports an incomplete listing as complete.
	Scan(ctx context.Context, dir string, visit func(page []Object) error) error
}

// SizedScanner is a Scanner whose Scan does not report the size and the time of every object, because
// each takes a stat.
type SizedScanner interface {
	// ScanSized is Scan with the size and the time of every regular file. A file that does not exist
	// any more is reported as Scan reports it.
	ScanSized(ctx context.Context, dir string, visit func(page []Object) error) error
}

// Reader reads objects. Its methods may be called concurrently.
type Reader interface {
	// Read returns the whole content. The error is fs.ErrNotExist (wrapped) if there is no such
	// object, ErrTooLarge (wrapped) if it has more than limit bytes, and ErrUnreadable (wrapped).
	// Transient failures have been retried already: any other error means that
	// the storage can't be trusted to answer now.
	Read(ctx context.Context, path string, limit int64) ([]byte, error)
	// Stat returns size and time. The error is fs.ErrNotExist (wrapped) if there is no such
	// object.
	Stat(ctx context.Context, path string) (Object, error)
}

// IntoReader is a reader that reads into a buffer of the caller.
type IntoReader interface {
	// ReadInto is Reader.Read for a caller who reads many objects, one after the other. The
	// content is in buffer if the buffer is larger than the content.
	ReadInto(ctx context.Context, buffer []byte, path string, limit int64) ([]byte, error)
}

// ReadInto is IntoReader.ReadInto, or Reader.Read if the reader is no IntoReader.
func ReadInto(ctx context.Context, reader Reader, buffer []byte, path string, limit int64) ([]byte, error) {
	if r, ok := reader.(IntoReader); ok {
		return r.ReadInto(ctx, buffer, path, limit)
	}
	return reader.Read(ctx, path, limit)
}

// DirTimes is a store with directories. The time of a directory is the time of the last change of its
// entries.
type DirTimes interface {
	// ChangedAfter reports whether a directory exists and was changed after a time.
	ChangedAfter(ctx context.Context, dir string, after time.Time) (bool, error)
	// Dirs returns the names of the directories directly in dir, in no order, without symbolic links.
	Dirs(ctx context.Context, dir string) ([]string, error)
	// LinkedAfter finds a link dir/<name>/<below>/link that was written after a time, and returns
	// its time. It checks only the names for which may returns true. It returns the zero time if
	// there is no such link.
	LinkedAfter(ctx context.Context, dir, below string, after time.Time, may func(name string) bool) (time.Time, error)
}

// PermissionChecker is a store that knows which permissions this process has in it.
type PermissionChecker interface {
	// ExplainPermission adds the owner of the directory that can't be read or written to an error,
	// if the error is that a permission is missing.
	ExplainPermission(err error) error
	// RequireWrite fails if this process may not remove objects.
	RequireWrite(refs iter.Seq[Ref]) error
}

// ExplainPermission is PermissionChecker.ExplainPermission, if the store has it.
func ExplainPermission(store Store, err error) error {
	if c, ok := store.(PermissionChecker); ok {
		return c.ExplainPermission(err)
	}
	return err
}

// RequireWrite is PermissionChecker.RequireWrite, if the store has it.
func RequireWrite(store Store, refs iter.Seq[Ref]) error {
	if c, ok := store.(PermissionChecker); ok {
		return c.RequireWrite(refs)
	}
	return nil
}

// LayoutFinder finds the layout without listing all of it.
type LayoutFinder interface {
	// FindLayout reports whether there is a docker/registry/v2. If there is none, instead may
	// have the names that exist in its place. It is nil if the storage has not listed them.
	FindLayout(ctx context.Context) (found bool, instead []string, err error)
}

// Remover removes objects. Its methods may be called concurrently.
type Remover interface {
	// Remove removes at most RemoveBatch objects and returns an outcome for
	// each, in order. An object that is absent counts as removed. Remove also removes
	// the directories that are then empty, up to the enclosing _layers, revisions,
	// index, _uploads or blobs/<algorithm>. Once ctx is done, every object that is
	// not yet removed gets ctx's error as its outcome.
	Remove(ctx context.Context, refs []Ref) []Outcome
	// Prune removes dir and the directories below it, if they contain only directories.
	// Then it removes the parents that are now empty. If dir is a repository's _manifests,
	// _layers or _uploads, it removes parents up to repositories. Otherwise it removes the
	// same parents as Remove. It never removes a file. A directory that is not empty is no
	// error. On a storage without directories Prune does nothing.
	//
	// gone is false if dir still exists: it is not empty, or this storage can't remove it.
	Prune(ctx context.Context, dir string) (gone bool, err error)
}

// RemoveBatch is the largest number of objects in one call of Remover.Remove. It is also the
// limit of a DeleteObjects request of S3.
const RemoveBatch = 1000

// Locker writes small objects conditionally. A lock needs nothing else.
type Locker interface {
	// Create writes a new object and returns its version. The error is fs.ErrExist (wrapped) if
	// the object exists already. It is ErrLost (wrapped) if another process keeps this one from
	// finding out whether the object exists.
	Create(ctx context.Context, path string, content []byte) (version string, err error)
	// Version returns an object's content and version, or fs.ErrNotExist (wrapped).
	Version(ctx context.Context, path string) (content []byte, version string, err error)
	// Replace overwrites the object if it still has this version. Otherwise the error is
	// ErrLost (wrapped).
	Replace(ctx context.Context, path string, content []byte, version string) (newVersion string, err error)
	// Delete removes the object if it still has this version. On a storage that keeps versions
	// it also removes the older versions of the object. The error is ErrLost (wrapped) if the
	// object has another version or does not exist. If the server ignores the condition, Delete
	// first reads the object and then checks the lease of ctx.
	Delete(ctx context.Context, path, version string) error
}

// Move takes one object from a path to another.
type Move struct {
	From, To string
	// Content is Ref.Content. On a storage where a move is a copy, a Mover may remove an object
	// whose Content is known instead of moving it. A restore writes the object again.
	Content string
}

// Mover moves objects to paths that the registry does not read, and moves them back. Its methods
// may be called concurrently.
type Mover interface {
	// Move moves at most RemoveBatch objects and returns an outcome for each, in order. The
	// error is nil once the whole object is at To and no longer at From. It is also nil if the
	// object is only at To: it was moved before. It is fs.ErrNotExist (wrapped) if neither path
	// has an object, and fs.ErrExist (wrapped) if both have one. Move never overwrites an
	// object. Only a copy that an interrupted move has left at To is completed. Move removes
	// empty directories as Remove does. It makes the directories that it needs, with the owner
	// and the permissions of their parent.
	Move(ctx context.Context, moves []Move) []Outcome
	// Put writes a new object of any size, all of it or nothing. The error is fs.ErrExist (wrapped)
	// if the object exists. Put checks the lease of ctx immediately before the call that makes the
	// object. If the lease has ended, the error matches ErrNotBegun.
	Put(ctx context.Context, path string, content io.ReadSeeker) error
	// Overwrite is Put for a small object that may exist, and whose content is known to be damaged. A
	// reader gets the old content or the new one. A symbolic link is replaced, and its target stays. The
	// error is ErrNotRegular (wrapped) if path is a directory.
	Overwrite(ctx context.Context, path string, content []byte) error
	// MakeDir makes a directory and its parents, if the storage has directories.
	MakeDir(ctx context.Context, dir string) error
	// Sync returns once everything that was moved, put or removed survives a loss of power.
	Sync(ctx context.Context) error
}

// MoveChecker is a store that can find out before a move that the move will fail.
type MoveChecker interface {
	// CheckMoves returns an error if a file of this many bytes can't be written to dir, or if
	// the objects can't be moved below dir. The error is a *UsageError if they are on another
	// filesystem. IsFull matches it if there is no space. CheckMoves changes nothing. dir need
	// not exist.
	CheckMoves(ctx context.Context, dir string, bytes int64, refs iter.Seq[Ref]) error
}

// Browser reads files and directories outside of the layout, such as OwnDir. Its methods may be
// called concurrently.
type Browser interface {
	// Names returns the directories directly in dir, sorted. It returns none if dir does not
	// exist. Symbolic links are included, since somebody may have moved the directory. The error
	// is ErrNotRegular (wrapped) if dir is not a directory.
	Names(ctx context.Context, dir string) ([]string, error)
	// Below reports every object below dir, in pages and in no order. It also reports each empty
	// directory, with Dir set. It calls visit serially. A dir that does not exist is empty.
	// Symbolic links are reported and not followed, also if dir is one. The error is
	// ErrNotRegular (wrapped) if a parent of dir is not a directory.
	Below(ctx context.Context, dir string, visit func(page []Object) error) error
	// Others is Below of everything below the layout's root that is in neither BlobsDir nor
	// RepositoriesDir.
	Others(ctx context.Context, visit func(page []Object) error) error
	// Stream writes the content of an object of any size to w. The error is
	// fs.ErrNotExist (wrapped) if there is no such object, and ErrNotRegular if it is not a
	// regular file. After an error w may have got a part of the content, or all.
	Stream(ctx context.Context, path string, w io.Writer) error
	// Beside reports whether there is a file at a path below the registry's root
	// directory, outside of the layout.
	Beside(ctx context.Context, path string) (bool, error)
}

// Requests counts the requests to the storage, by kind. On a filesystem a list is a directory
// read, a get is a file read, and a head is a stat.
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
	// Concurrency is how many calls at once make sense. More calls wait for each other, so a
	// caller need not know the limits of the storage.
	Concurrency() int
	// Bulk returns the sizes of the calls that suit the storage.
	Bulk() Bulk
}

// Bulk divides many objects into calls of Remover.Remove or Mover.Move.
type Bulk struct {
	// Objects is the best number of objects in one call, at most RemoveBatch.
	Objects int
	// Calls is the best number of concurrent calls.
	Calls int
}

// ErrGone is the error if an object was listed and is not found. It does not match
// fs.ErrNotExist: nobody may conclude that the object is absent.
var ErrGone = errors.New("it was listed, and now the storage says that it does not exist: " +
	"the storage fails, or somebody writes to it")

// NotExist returns an error with the path that matches fs.ErrNotExist.
func NotExist(op, path string) error {
	return &fs.PathError{Op: op, Path: path, Err: fs.ErrNotExist}
}

// IsDamage reports whether an error is about one damaged object. Other errors mean that the
// storage fails.
func IsDamage(err error) bool {
	return errors.Is(err, ErrTooLarge) || errors.Is(err, ErrNotRegular) || errors.Is(err, ErrUnreadable)
}

// IsAbsent reports whether an error means that a path has no regular file. A registry writes only
// regular files.
func IsAbsent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrNotRegular)
}

// IgnoreDamage returns nil for the error of an object that is damaged or does not exist.
func IgnoreDamage(err error) error {
	if IsDamage(err) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// IsOfDisk reports whether an error means a bad sector, or damaged metadata of a file.
func IsOfDisk(err error) bool {
	const damagedMetadata = syscall.Errno(117) // EUCLEAN of Linux
	return errors.Is(err, syscall.EIO) || errors.Is(err, syscall.EBADMSG) || errors.Is(err, damagedMetadata)
}

// IsFull reports whether the filesystem or a quota has no free block or no free inode.
func IsFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }
