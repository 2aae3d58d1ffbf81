// Package registrytest starts registries, in this process and as released programs, and has a client
// that pushes and pulls images.
//
// There are no fakes here. A collector that is wrong about what a registry writes loses images, and a
// fake would share its author's mistake. The program itself never imports this package.
package registrytest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"os"
	"sync"
	"testing"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	"github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/factory"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem" // served by Config.Root and Storage
	"github.com/distribution/distribution/v3/registry/storage/driver/inmemory"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/s3-aws" // served by Storage
	"github.com/sirupsen/logrus"
)

// Config says what a registry serves and to whom. Exactly one of Root, Storage and
// Driver is set. The zero value of the rest is a writable registry over plain HTTP
// that anybody may push to, pull from and delete from.
type Config struct {
	Root    string                // a filesystem root directory
	Storage configuration.Storage // the storage section of a config.yml; see miniotest.S3
	Driver  driver.StorageDriver  // an open driver, for tests that look into it too

	ReadOnly bool
	NoDelete bool
	// SparseIndexes takes an index whatever its entries are. Without it, release
	// 3 refuses indexes with missing entries, and BuildKit's caches; release 2
	// takes both.
	SparseIndexes bool

	// Username and Password, when set, are asked of every client: in HTTP basic
	// authentication or, with Token, at a token service that the registry's
	// Bearer challenge names.
	Username, Password string
	Token              bool

	// TLS serves https with a certificate of our own; see Registry.CAFile.
	TLS bool

	// ProxyOf makes the registry a pull-through cache of the one at this URL.
	ProxyOf string

	// Redis, when it has addresses, makes the registry keep descriptors there.
	Redis configuration.Redis

	// Wrap, when set, sees every request before the registry does, to record it
	// or to stand in its way.
	Wrap func(http.Handler) http.Handler
}

// Registry is a Distribution registry on a loopback port of this process.
type Registry struct {
	config Config
	server *http.Server
	host   string
	state  string // directory of htpasswd, certificates and the like

	auth   configuration.Auth
	caFile string

	// mu is held for reading by each request, so that a switch of the app comes
	// between requests and never within one.
	mu       sync.RWMutex
	app      *handlers.App
	readOnly bool
}

// Start starts a registry; ctx bounds the start alone.
func Start(ctx context.Context, config Config) (_ *Registry, err error) {
	quiet()
	if config.Storage.Type() == "inmemory" {
		// Each app opens its own driver, and another in-memory one is empty.
		config.Storage, config.Driver = nil, inmemory.New()
	}
	state, err := os.MkdirTemp("", "regsweep-registry-")
	if err != nil {
		return nil, fmt.Errorf("start registry: %w", err)
	}
	r := &Registry{config: config, state: state, readOnly: config.ReadOnly}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(state))
		}
	}()

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start registry: %w", err)
	}
	r.host = listener.Addr().String()
	defer func() {
		if err != nil {
			err = errors.Join(err, listener.Close())
		}
	}()

	served := listener
	if config.TLS {
		certificate, caFile, err := newCertificate(state, "registry")
		if err != nil {
			return nil, fmt.Errorf("start registry: %w", err)
		}
		r.caFile = caFile
		served = tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{certificate}})
	}

	mux := http.NewServeMux()
	mux.HandleFunc("/", r.serve)
	switch {
	case config.Token:
		service, auth, err := newTokenService(state, r.URL()+"/token", config.Username, config.Password)
		if err != nil {
			return nil, fmt.Errorf("start registry: %w", err)
		}
		r.auth = auth
		mux.Handle("/token", service)
	case config.Username != "":
		if r.auth, err = newHtpasswd(state, config.Username, config.Password); err != nil {
			return nil, fmt.Errorf("start registry: %w", err)
		}
	}

	if r.app, err = r.newApp(ctx, config.ReadOnly); err != nil {
		return nil, fmt.Errorf("start registry: %w", err)
	}
	var handler http.Handler = mux
	if config.Wrap != nil {
		handler = config.Wrap(handler)
	}
	r.server = &http.Server{Handler: handler, ErrorLog: log.New(io.Discard, "", 0)}
	go r.server.Serve(served) // ends with Stop, by Close
	return r, nil
}

// StartT starts a registry that lives as long as the test.
func StartT(t testing.TB, config Config) *Registry {
	t.Helper()
	r, err := Start(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Stop(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// URL is the registry's address with its scheme and without a trailing slash.
func (r *Registry) URL() string {
	if r.config.TLS {
		return "https://" + r.host
	}
	return "http://" + r.host
}

// Host is the registry's address and port, as they stand in an image's name.
func (r *Registry) Host() string { return r.host }

// CAFile is the PEM file to trust the registry's certificate by, or "" without TLS.
func (r *Registry) CAFile() string { return r.caFile }

// Client is a client that knows the registry's address, certificate and password.
func (r *Registry) Client() *Client {
	return &Client{Host: r.host, Username: r.config.Username, Password: r.config.Password, CAFile: r.caFile}
}

// SetReadOnly makes the registry read-only or writable, as a restart with another
// configuration would: requests under way are waited for, and once it returns
// none is served in the former mode.
func (r *Registry) SetReadOnly(readOnly bool) error {
	app, err := r.newApp(context.Background(), readOnly)
	if err != nil {
		return fmt.Errorf("restart registry: %w", err)
	}
	r.mu.Lock()
	former := r.app
	r.app, r.readOnly = app, readOnly
	r.mu.Unlock()
	if err := former.Shutdown(); err != nil {
		return fmt.Errorf("restart registry: %w", err)
	}
	return nil
}

// Stop ends the registry: its port refuses connections, and no request touches
// the storage any more.
func (r *Registry) Stop() error {
	err := r.server.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	return errors.Join(err, r.app.Shutdown(), os.RemoveAll(r.state))
}

func (r *Registry) serve(w http.ResponseWriter, request *http.Request) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	r.app.ServeHTTP(w, request)
}

func (r *Registry) newApp(ctx context.Context, readOnly bool) (app *handlers.App, err error) {
	storage, err := r.storage(readOnly)
	if err != nil {
		return nil, err
	}
	config := &configuration.Configuration{Version: configuration.CurrentVersion, Storage: storage, Auth: r.auth, Redis: r.config.Redis}
	if len(config.Redis.Options.Addrs) > 0 {
		storage["cache"] = configuration.Parameters{"blobdescriptor": "redis"}
	}
	config.HTTP.Addr = r.host
	config.Proxy.RemoteURL = r.config.ProxyOf
	config.Catalog.MaxEntries = 1000 // as Distribution's parser sets it
	if r.config.SparseIndexes {
		config.Validation.Manifests.Indexes.Platforms = "none"
	}
	// Uploads begun before a restart go on after it, which takes one secret.
	config.HTTP.Secret = "the same after a restart"

	// NewApp has no other way to report an error.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("configure: %v", p)
		}
	}()
	return handlers.NewApp(context.WithoutCancel(ctx), config), nil
}

// storage is the storage section for one app, which may write into it.
func (r *Registry) storage(readOnly bool) (configuration.Storage, error) {
	storage := configuration.Storage{}
	for section, parameters := range r.config.Storage {
		storage[section] = maps.Clone(parameters)
	}
	if r.config.Root != "" {
		storage["filesystem"] = configuration.Parameters{"rootdirectory": r.config.Root}
	}
	if r.config.Driver != nil {
		storage[openDriver] = configuration.Parameters{openDriver: r.config.Driver}
	}
	sources := 0
	for _, set := range []bool{r.config.Root != "", r.config.Driver != nil, r.config.Storage.Type() != ""} {
		if set {
			sources++
		}
	}
	if sources != 1 {
		return nil, fmt.Errorf("configure: %d storages given, one is wanted", sources)
	}
	if storage["delete"] == nil {
		storage["delete"] = configuration.Parameters{"enabled": !r.config.NoDelete}
	}
	if storage["maintenance"] == nil {
		storage["maintenance"] = configuration.Parameters{
			// The registry's own purger would remove a test's old uploads
			// some time within the hour.
			"uploadpurging": map[any]any{"enabled": false},
		}
	}
	storage["maintenance"]["readonly"] = map[any]any{"enabled": readOnly}
	return storage, nil
}

// openDriver is the name under which an already open driver is configured.
const openDriver = "opendriver"

func init() { factory.Register(openDriver, openDriverFactory{}) }

type openDriverFactory struct{}

func (openDriverFactory) Create(_ context.Context, parameters map[string]any) (driver.StorageDriver, error) {
	d, ok := parameters[openDriver].(driver.StorageDriver)
	if !ok {
		return nil, fmt.Errorf("parameter %s holds no driver", openDriver)
	}
	return d, nil
}

// quiet keeps the registry's log, which knows no logger but the process's, out of
// the tests' output.
var quiet = sync.OnceFunc(func() { logrus.SetOutput(io.Discard) })
