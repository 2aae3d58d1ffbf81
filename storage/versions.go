package storage

import (
	"context"
	"errors"
	"io"
	"iter"
)

// Versioning is the state of a bucket: whether it keeps the versions of removed objects.
type Versioning string

const (
	VersionsOff       Versioning = "off"
	VersionsKept      Versioning = "enabled"
	VersionsSuspended Versioning = "suspended" // earlier versions still exist
	VersionsUnknown   Versioning = "unknown"   // regsweep has no permission to ask
)

// Versioner is a store that may keep versions, such as S3.
type Versioner interface {
	// Versioning asks whether the storage keeps versions. If the request is denied or the server
	// does not know it, Versioning returns VersionsUnknown and no error.
	Versioning(ctx context.Context) (Versioning, error)
	// Noncurrent counts the noncurrent versions of everything below the layout's root, also those
	// of objects that a removal has hidden. Delete markers are not counted.
	Noncurrent(ctx context.Context) (count int, bytes int64, err error)
	// Versions finds all versions of the objects in refs. It leaves out the versions for which
	// recorded returns true: these are kept. It lists the versions of all blobs, or of all
	// objects of the repositories, instead of asking for each object. It holds about 200 bytes
	// in memory for each version that it finds. recorded is not called concurrently.
	Versions(ctx context.Context, refs iter.Seq[Ref], recorded func(path, version string) (bool, error)) (*Versions, error)
}

// PartCounter is a store with multipart uploads, such as S3.
type PartCounter interface {
	// PartBytes returns the size of the parts of a multipart upload. It is 0 if the upload does not
	// exist any more.
	PartBytes(ctx context.Context, upload Ref) (int64, error)
}

// Versions are all versions of the objects that a removal will destroy.
type Versions struct {
	// Count and Bytes count the versions that are not the current one. Delete markers, which
	// have no bytes, are not counted.
	Count int
	Bytes int64
	// NullBytes are the bytes of the versions "null" of blobs and uploads. In a bucket whose
	// versioning is suspended a plain removal destroys the version "null" and hides other
	// versions.
	NullBytes int64
	// Remover removes an object by removing all its versions and delete markers. Nothing is
	// left of the object, and no new marker is made. If an object has a recorded version,
	// Remover hides the object and then removes its other versions. It keeps the object's
	// delete markers, since they hide the recorded version.
	Remover
	// WhileSuspended makes plain removals. Outcome.Hidden is set if the removal hid the object and
	// did not destroy it. Versioning of the bucket must be suspended.
	WhileSuspended Remover
}

// HiddenVersion is the version of an object that a removal has hidden behind a delete
// marker, or is about to.
type HiddenVersion struct {
	Path    string `json:"path"`
	Version string `json:"version"`
	Bytes   int64  `json:"bytes"`
}

// ErrCovered is returned by Hider if a later version would become the current one instead of the
// requested version.
var ErrCovered = errors.New("a later version is above it")

// Hider is a store in which a plain removal hides the object: a bucket of S3 that keeps versions.
// Its methods may be called concurrently.
type Hider interface {
	// Current finds the current versions of at most RemoveBatch objects, in any order. An object
	// that does not exist has none.
	Current(ctx context.Context, paths []string) ([]HiddenVersion, error)
	// HiddenPaths returns the paths of hidden objects among at most RemoveBatch paths, in any
	// order. A hidden object has a version and no current one.
	HiddenPaths(ctx context.Context, paths []string) ([]string, error)
	// Hides returns nil if the object is hidden and this version is the latest one. The error is
	// fs.ErrExist (wrapped) if the object exists, with any current version. It is fs.ErrNotExist
	// if neither the object nor the version exists, and ErrCovered if there is a later version.
	Hides(ctx context.Context, hidden HiddenVersion) error
	// Unhide makes the version the current one again, if Hides and intact return nil.
	Unhide(ctx context.Context, hidden HiddenVersion, intact func() error) error
	// StreamVersion is Browser.Stream of one version.
	StreamVersion(ctx context.Context, hidden HiddenVersion, w io.Writer) error
}

// Forgetter destroys versions that only a listing of versions shows. Its methods may be called
// concurrently.
type Forgetter interface {
	// Forget removes at most RemoveBatch hidden versions and returns an outcome for each, in
	// order. Versions and VersionBytes of the outcome count the removed versions. Forget keeps a
	// version that is the current one, which is no error, and all other versions of that object.
	Forget(ctx context.Context, hidden []HiddenVersion) []Outcome
	// Erase removes all versions and delete markers of all objects whose path begins with
	// prefix, except for the paths in spared. It returns the number of removed versions and
	// their bytes, also if it returns an error.
	Erase(ctx context.Context, prefix string, spared ...string) (count int, bytes int64, err error)
}
