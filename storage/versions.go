package storage

import (
	"context"
	"errors"
	"io"
	"iter"
)

// Versioning says whether a storage keeps what is removed.
type Versioning string

const (
	VersionsOff       Versioning = "off"
	VersionsKept      Versioning = "enabled"
	VersionsSuspended Versioning = "suspended" // earlier versions are still there
	VersionsUnknown   Versioning = "unknown"   // we may not ask
)

// Versioner is a store that may keep versions: S3.
type Versioner interface {
	// Versioning asks whether it does. Where that is denied, or the server does not
	// know the question, the answer is VersionsUnknown and no error.
	Versioning(ctx context.Context) (Versioning, error)
	// Versions finds all versions of the objects named, but for those that recorded
	// reports: these stay. It lists the versions of all blobs, or of the repositories
	// concerned, rather than ask for each object, and keeps some 200 bytes for each
	// version of what is named. recorded is not called concurrently.
	Versions(ctx context.Context, refs iter.Seq[Ref], recorded func(path, version string) (bool, error)) (*Versions, error)
}

// Versions are all versions of objects that are to be removed for good.
type Versions struct {
	// Count and Bytes are those of the versions that are not the current one; delete
	// markers, which have no bytes, are not counted.
	Count int
	Bytes int64
	// NullBytes are those of the blobs' and uploads' versions "null". Where versioning is
	// suspended a plain removal destroys these, and hides other versions.
	NullBytes int64
	// Remover removes an object by removing each of its versions, delete markers too, so that
	// nothing is left of it and no new marker is made. An object with a recorded version is
	// hidden, and then its other versions are removed. Its delete markers stay, since they hide
	// the recorded one.
	Remover
	// WhileSuspended removes plainly, and says of each object whether that destroyed it.
	// Versioning of the bucket must be suspended.
	WhileSuspended Remover
}

// HiddenVersion is the version of an object that a removal has hidden behind a delete
// marker, or is about to.
type HiddenVersion struct {
	Path    string `json:"path"`
	Version string `json:"version"`
	Bytes   int64  `json:"bytes"`
}

// ErrCovered is returned by Hider where another version would come to light before the
// one that was asked for.
var ErrCovered = errors.New("a later version is above it")

// Hider is a store in which a plain removal hides: S3, where the bucket keeps versions.
// Its methods may be called concurrently.
type Hider interface {
	// Current finds the current versions of at most RemoveBatch objects, in any order;
	// none of an object that is not there.
	Current(ctx context.Context, paths []string) ([]HiddenVersion, error)
	// HiddenPaths finds those of at most RemoveBatch objects that have a version and are not there,
	// in any order.
	HiddenPaths(ctx context.Context, paths []string) ([]string, error)
	// Hides returns nil where the object is hidden and this version would come to light.
	// The error is fs.ErrExist (wrapped) where the object is there, whichever version it
	// is, fs.ErrNotExist where neither it nor the version is, and ErrCovered.
	Hides(ctx context.Context, hidden HiddenVersion) error
	// Unhide makes the version the current one again, if Hides returns nil and intact
	// does.
	Unhide(ctx context.Context, hidden HiddenVersion, intact func() error) error
	// StreamVersion is Browser.Stream of one version.
	StreamVersion(ctx context.Context, hidden HiddenVersion, w io.Writer) error
}

// Forgetter removes for good what only a listing of versions shows. Its methods may be
// called concurrently.
type Forgetter interface {
	// Forget removes at most RemoveBatch hidden versions, and returns for each an outcome,
	// in order, whose Versions and VersionBytes say what has gone. A version that is the
	// current one stays, which is no error, and so does every other version of its object.
	Forget(ctx context.Context, hidden []HiddenVersion) []Outcome
	// Erase removes all versions, and delete markers, of all objects of which the path
	// begins with prefix, but for those spared. It returns how many versions have gone,
	// with their bytes, also beside an error.
	Erase(ctx context.Context, prefix string, spared ...string) (count int, bytes int64, err error)
}
