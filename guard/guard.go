// Package guard answers one question: may something be removed now? Prove gathers
// evidence that nobody can write to the registry, Watch repeats that while a sweep
// runs, and Lock keeps a second run away.
//
// It is made to refuse. Whatever is not understood, not answered or contradicted
// counts against removal, since a wrong "no" costs an operator a minute and a
// wrong "yes" costs somebody's image.
package guard

import (
	"context"
	"crypto/tls"
	"net"
	"time"

	"regsweep/storage"
	"regsweep/storage/config"
)

// RecentUpload is how long an upload that was touched is taken for a sign that some
// registry takes pushes.
const RecentUpload = 10 * time.Minute

// Options says what is known of the registry and what the user said of it. The zero
// value knows nothing, and so proves nothing.
type Options struct {
	// Config is the target; its Registry facts are used where it has any.
	Config config.Config
	// Endpoints are the URLs that the user named with --registry: every replica
	// of the registry, as http://host:port or https://host/prefix. Where there
	// are none, the config's own address is asked.
	Endpoints []string
	// Username and Password are for the Endpoints or, if there are none, for the config's
	// own address, and for the token servers to which these refer.
	Username, Password string
	// Credentials finds the username and the password that were saved for a host
	// (host:port), where Username is empty; "" if there are none. nil finds none.
	Credentials func(ctx context.Context, host string) (username, password string, err error)
	// Stopped is the user's word that no registry runs (--registry-stopped).
	Stopped bool
	// RootsGiven is set if a list of the user says what is alive (--roots), and
	// KeepDigestsGiven if one adds to what the storage says (--keep-digests).
	RootsGiven, KeepDigestsGiven bool
	// DeleteUntagged is set if the run removes untagged manifests.
	DeleteUntagged bool
	// Quick repeats a proof that was given a moment ago: each address gets two small
	// requests, and the files of the storage are not read again.
	Quick bool
	// Unsafe skips the proof (--unsafe-online).
	Unsafe bool
	// TLS says whom to trust, nil for the system's roots; see TLSConfig.
	TLS *tls.Config
	// Samples are manifests that the storage holds, by which an endpoint is known
	// to serve this storage; at most MaxSamples are asked for. They must be ones
	// that no removal will touch, such as the targets of tags: Watch asks for
	// them again while the sweep runs. Without any, no endpoint is recognized.
	Samples []Sample
	// Store tells, where an endpoint does not know a sample, whether the storage
	// holds it in full: damage is no sign of another storage. Where it is nil,
	// every unknown sample is. It also has the files by which another source of
	// truth is known.
	Store Store
	// HasRepository reports whether the storage has a repository. Where it is set,
	// an endpoint is asked for its repositories, to compare them.
	HasRepository func(name string) bool
	// HasTag reports whether the storage is known to have a tag. Where it is set, an
	// endpoint is asked for some tags: a pull-through cache lists those of another registry.
	HasTag func(repository, tag string) bool
	// LastUpload is the upload or completed push that was touched last, nil where there
	// is none.
	LastUpload *Upload
	// Now is the clock that LastUpload is judged by; nil means time.Now.
	Now func() time.Time
	// Timeout bounds each request; 0 means 10 s.
	Timeout time.Duration
	// Rounds is how often each address is asked the same, over new connections, so
	// that replicas behind one address are met; 0 means 3.
	Rounds int
	// Dial and Lookup reach the network; nil means the usual way. No HTTP proxy
	// is used: it could not be told which replica to ask.
	Dial   func(ctx context.Context, network, address string) (net.Conn, error)
	Lookup func(ctx context.Context, host string) ([]string, error)
}

// Store is what a proof reads of the storage.
type Store interface {
	storage.Reader
	// Names are the directories right below a directory.
	Names(ctx context.Context, dir string) ([]string, error)
	// Beside reports whether there is a file at a path below the registry's root
	// directory, outside of the layout.
	Beside(ctx context.Context, path string) (bool, error)
}

// MaxSamples is how many of Options.Samples are asked for.
const MaxSamples = 5

// Sample is a manifest that a repository of the storage holds.
type Sample struct {
	Repository string
	Digest     string
}

// Upload is an unfinished upload, or a push that was completed.
type Upload struct {
	Repository string
	ID         string    // "" for a completed push
	Touched    time.Time // the newest time of any of its objects
}

// Where says where it is, for a message. An upload into blobs is in no repository.
func (u *Upload) Where() string {
	if u.Repository == "" {
		return "outside of the repositories"
	}
	return "in " + u.Repository
}

// Later is the one of two that was touched later; nil is never.
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
