// Package guard decides whether objects may be removed now. Prove collects evidence that
// nobody can write to the registry. Watch repeats the proof while a sweep runs. Lock
// prevents a second run.
//
// In doubt it refuses. An answer that is missing, not understood or contradicted counts
// against removal: a wrong "no" costs an operator a minute, and a wrong "yes" costs
// somebody's image.
package guard

import (
	"context"
	"crypto/tls"
	"net"
	"time"

	"regsweep/storage"
	"regsweep/storage/config"
)

// RecentUpload is how long a write to an upload counts as a sign that some registry
// accepts pushes.
const RecentUpload = 10 * time.Minute

// Options are the known facts about the registry, and the statements of the user. The zero value
// proves nothing.
type Options struct {
	// Config is the target. If it has a Registry, its settings are used.
	Config config.Config
	// Endpoints are the URLs that the user named with --registry: every replica
	// of the registry, as http://host:port or https://host/prefix. If there are
	// none, the config's own address is probed.
	Endpoints []string
	// Username and Password are for the Endpoints or, if there are none, for the config's
	// own address. They are also for the token servers that these name.
	Username, Password string
	// Credentials finds the username and the password that were saved for a host
	// (host:port), or returns "". It is used if Username is empty. nil finds none.
	Credentials func(ctx context.Context, host string) (username, password string, err error)
	// Stopped is set if the user says that no registry runs (--registry-stopped).
	Stopped bool
	// RootsGiven is set if the user gave a list of all live images (--roots).
	// KeepDigestsGiven is set if the user gave a list of more live digests (--keep-digests).
	RootsGiven, KeepDigestsGiven bool
	// DeleteUntagged is set if the run removes untagged manifests.
	DeleteUntagged bool
	// Quick repeats a recent proof: each address gets two small requests, and the files of
	// the storage are not read again.
	Quick bool
	// Unsafe skips the proof (--unsafe-online).
	Unsafe bool
	// TLS has the trusted certificates. nil means the system's roots. See TLSConfig.
	TLS *tls.Config
	// Samples are manifests in the storage. An endpoint that has them serves this storage. At
	// most MaxSamples are requested. The run must not remove them, so they are targets of
	// tags or similar: Watch requests them again while the sweep runs. Without samples no
	// endpoint is recognized.
	Samples []Sample
	// Store is read if an endpoint does not have a sample: a sample that is damaged in the
	// storage is no sign of another storage. If Store is nil, every missing sample is such a
	// sign. Store also has the files that show that another program decides what is alive.
	Store Store
	// HasRepository reports whether the storage has a repository. If it is set, an endpoint
	// is asked for its repositories, to compare them.
	HasRepository func(name string) bool
	// HasTag reports whether the storage is known to have a tag. If it is set, an endpoint is
	// asked for some tags: a pull-through cache lists the tags of another registry.
	HasTag func(repository, tag string) bool
	// LastUpload is the upload or completed push with the newest time, or nil.
	LastUpload *Upload
	// Closed is when every endpoint was seen to be read-only after the operator had closed the
	// registry; zero if that is not known. A push before that may have gone through an endpoint.
	Closed time.Time
	// Now is the clock for the age of LastUpload. nil means time.Now.
	Now func() time.Time
	// Timeout bounds each request. 0 means 10 s.
	Timeout time.Duration
	// Rounds is how often each address gets the same request, over a new connection each
	// time: several replicas may be behind one address. 0 means 3.
	Rounds int
	// Dial and Lookup replace the network. nil means the network itself. No HTTP proxy is
	// used: a proxy would choose the replica.
	Dial   func(ctx context.Context, network, address string) (net.Conn, error)
	Lookup func(ctx context.Context, host string) ([]string, error)
}

// Store is the part of a storage that a proof reads.
type Store interface {
	storage.Reader
	// Names returns the directories directly in a directory.
	Names(ctx context.Context, dir string) ([]string, error)
	// Beside reports whether there is a file at a path below the registry's root
	// directory, outside of the layout.
	Beside(ctx context.Context, path string) (bool, error)
}

// MaxSamples is the maximum number of Options.Samples that are requested.
const MaxSamples = 5

// Sample is a manifest in a repository of the storage.
type Sample struct {
	Repository string
	Digest     string
}

// Upload is an unfinished upload, or a completed push.
type Upload struct {
	Repository string
	ID         string    // "" for a completed push
	Touched    time.Time // the newest time of any of its objects
}

// Where returns the place of the upload for a message. A multipart upload to a blob is in no repository.
func (u *Upload) Where() string {
	if u.Repository == "" {
		return "outside of the repositories"
	}
	return "in " + u.Repository
}

// Later returns the upload with the later Touched. nil counts as never touched.
func (u *Upload) Later(other *Upload) *Upload {
	if u == nil || other != nil && other.Touched.After(u.Touched) {
		return other
	}
	return u
}

func (o Options) now() time.Time {
	if o.Now == nil {
		return time.Now()
	}
	return o.Now()
}

func (o Options) timeout() time.Duration {
	if o.Timeout <= 0 {
		return 10 * time.Second
	}
	return o.Timeout
}

func (o Options) rounds() int {
	if o.Rounds <= 0 {
		return 3
	}
	return o.Rounds
}

func (o Options) samples() []Sample { return o.Samples[:min(len(o.Samples), MaxSamples)] }

func (o Options) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if o.Dial != nil {
		return o.Dial(ctx, network, address)
	}
	dialer := net.Dialer{Timeout: o.timeout()}
	return dialer.DialContext(ctx, network, address)
}

func (o Options) lookup(ctx context.Context, host string) ([]string, error) {
	if o.Lookup != nil {
		return o.Lookup(ctx, host)
	}
	return net.DefaultResolver.LookupHost(ctx, host)
}
