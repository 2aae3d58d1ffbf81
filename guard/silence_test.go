package guard

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"regsweep/internal/registrytest"
	"regsweep/storage"
	"regsweep/storage/config"
	"regsweep/storage/open"
)

// In each of these cases a registry may run somewhere else and accept pushes. An address where
// nothing answers says nothing about it.
func TestPromise4SilenceProvesNothing(t *testing.T) {
	_, samples := content(t)
	refused := func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	}
	fails := func(errno syscall.Errno) func(context.Context, string, string) (net.Conn, error) {
		return func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", errno)}
		}
	}
	socket := filepath.Join(t.TempDir(), "registry.sock")
	for name, o := range map[string]Options{
		"config.yml was edited":         {Config: configured(t, ":5000", saysReadOnly), Dial: refused},
		"an address of one interface":   {Config: configured(t, "192.0.2.1:5000", saysReadOnly), Dial: refused},
		"no such interface":             {Config: configured(t, "192.0.2.1:5000", saysReadOnly), Dial: fails(syscall.EADDRNOTAVAIL)},
		"no route":                      {Config: configured(t, "192.0.2.1:5000", saysReadOnly), Dial: fails(syscall.EHOSTUNREACH)},
		"a socket in another container": {Config: configured(t, socket, saysReadOnly, "  net: unix")},
		"a wrong port":                  {Endpoints: []string{"http://" + freePort(t)}},
		"a service between two pods":    {Endpoints: []string{"http://192.0.2.1:5000"}, Dial: refused},
		"a reset connection":            {Endpoints: []string{"http://192.0.2.1:5000"}, Dial: fails(syscall.ECONNRESET)},
		"a name that is not known any more": {Endpoints: []string{"http://registry.example.com"}, Lookup: func(context.Context, string) ([]string, error) {
			return nil, &net.DNSError{Err: "no such host", Name: "registry.example.com", IsNotFound: true}
		}},
		"a name without addresses": {Endpoints: []string{"http://registry.example.com"}, Lookup: func(context.Context, string) ([]string, error) {
			return nil, nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			o.Samples = samples
			wantRefused(t, prove(t, o), ByUnknown, "--registry-stopped")
			o.Quick = true
			wantRefused(t, prove(t, o), ByUnknown)
			o.Quick, o.Stopped = false, true
			wantProven(t, prove(t, o), ByOperator)
		})
	}
}

// An endpoint that answers proves nothing about an endpoint that does not answer: a replica may
// be restarting, and then be writable.
func TestPromise4EveryEndpointMustBeReached(t *testing.T) {
	root, samples := content(t)
	registry := registrytest.StartT(t, registrytest.Config{Root: root, ReadOnly: true})
	gone := "http://" + freePort(t)
	for _, endpoints := range [][]string{{registry.URL(), gone}, {gone, registry.URL()}} {
		wantRefused(t, prove(t, Options{Endpoints: endpoints, Samples: samples}), ByUnknown, "nothing answers at "+gone)
	}
	// config.yml's own address does not replace an endpoint that the user named. It need not
	// answer if the named endpoints do.
	own := configured(t, registry.Host(), saysReadOnly)
	wantRefused(t, prove(t, Options{Endpoints: []string{gone}, Config: own, Samples: samples}), ByUnknown, "nothing answers at "+gone)
	silent := configured(t, freePort(t), saysReadOnly)
	wantProven(t, prove(t, Options{Endpoints: []string{registry.URL()}, Config: silent, Samples: samples}), ByReadOnly)
}

// A machine has two loopback addresses, and registries listen on one of them or both.
func TestTheOtherLoopbackAddressNeedNotAnswer(t *testing.T) {
	root, samples := content(t)
	registry := registrytest.StartT(t, registrytest.Config{Root: root, ReadOnly: true})
	n := network{names: map[string][]string{"localhost": {"127.0.0.1", "::1"}, "pods.example.com": {"127.0.0.1", "192.0.2.1"}},
		servers: map[string]string{"127.0.0.1:5000": registry.Host(), "[::1]:5000": freePort(t), "192.0.2.1:5000": freePort(t)}}
	for _, quick := range []bool{false, true} {
		o := Options{Endpoints: []string{"http://localhost:5000"}, Samples: samples, Lookup: n.lookup, Dial: n.dial, Quick: quick}
		wantProven(t, prove(t, o), ByReadOnly)
		o.Endpoints = []string{"http://pods.example.com:5000"}
		wantRefused(t, prove(t, o), ByUnknown, "at 192.0.2.1")
		o.Endpoints, o.Config = nil, configured(t, ":5000", saysNothing)
		wantProven(t, prove(t, o), ByReadOnly)
	}
}

// The statement of the user that the registry is stopped does not count if a registry answers,
// unless that registry serves another storage or can't write.
func TestPromise4AStoppedRegistryDoesNotAnswer(t *testing.T) {
	root, samples := content(t)
	locked := registrytest.StartT(t, registrytest.Config{Root: root, Username: "ann", Password: "swordfish"})
	v := prove(t, Options{Config: configured(t, locked.Host(), saysNothing), Samples: samples, Stopped: true})
	wantRefused(t, v, ByUnknown, "a registry answers at http://"+locked.Host()+", although you say that it is stopped", "stop the registry at")
	wantRefused(t, prove(t, Options{Endpoints: []string{locked.URL()}, Samples: samples, Stopped: true}), ByUnknown, "although you say", "--username")

	readOnly := registrytest.StartT(t, registrytest.Config{Root: root, ReadOnly: true})
	wantProven(t, prove(t, Options{Config: configured(t, readOnly.Host(), saysNothing), Samples: samples, Stopped: true}), ByOperator)

	balancer := front(t, root, false, func(w http.ResponseWriter, r *http.Request) bool {
		http.Error(w, "no backend", http.StatusServiceUnavailable)
		return true
	})
	wantProven(t, prove(t, Options{Endpoints: []string{balancer.URL()}, Samples: samples, Stopped: true}), ByOperator)
}

// A proof is repeated every few seconds while a sweep runs.
func TestAQuickProofIsTwoRequests(t *testing.T) {
	root, samples := content(t)
	var requests atomic.Int64
	registry := front(t, root, true, func(http.ResponseWriter, *http.Request) bool { requests.Add(1); return false })
	o := Options{Endpoints: []string{registry.URL()}, Samples: samples, Quick: true, Store: opened(t, root)}
	wantProven(t, prove(t, o), ByReadOnly)
	if n := requests.Load(); n != 2 {
		t.Errorf("%d requests", n)
	}
	if err := registry.SetReadOnly(false); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, prove(t, o), ByWritable)
	stranger := registrytest.StartT(t, registrytest.Config{Root: t.TempDir(), ReadOnly: true})
	o.Endpoints = []string{stranger.URL()}
	wantRefused(t, prove(t, o), ByOtherStorage)
}

func opened(t *testing.T, root string) storage.Store {
	t.Helper()
	store, err := open.Store(t.Context(), config.Config{Driver: "filesystem", Parameters: config.Parameters{"rootdirectory": root}})
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// An empty mount point or a mistyped prefix is not the storage of the registry.
func TestPromise4TheRegistryHasMoreThanTheStorage(t *testing.T) {
	root, samples := content(t)
	registry := registrytest.StartT(t, registrytest.Config{Root: root, ReadOnly: true})
	has := func(names ...string) func(string) bool {
		return func(name string) bool { return strings.Contains(" "+strings.Join(names, " ")+" ", " "+name+" ") }
	}
	o := Options{Endpoints: []string{registry.URL()}, Samples: samples, Store: opened(t, root), HasRepository: has("base", "team/app")}
	wantProven(t, prove(t, o), ByReadOnly)
	o.HasRepository = has() // the storage itself is listed too
	wantProven(t, prove(t, o), ByReadOnly)

	empty := t.TempDir()
	o.Store = opened(t, empty)
	wantRefused(t, prove(t, o), ByOtherStorage, "has repositories that this storage lacks", "base, team/app")
	o.Samples = nil
	wantRefused(t, prove(t, o), ByOtherStorage, "has repositories that this storage lacks")
	o.Endpoints, o.Config = nil, configured(t, registry.Host(), saysReadOnly)
	wantRefused(t, prove(t, o), ByOtherStorage, "has repositories that this storage lacks")

	// A part of the storage is missing here.
	if err := os.Rename(filepath.Join(root, storage.Root, "repositories/team/app"), filepath.Join(t.TempDir(), "app")); err != nil {
		t.Fatal(err)
	}
	whole, _ := content(t)
	registry = registrytest.StartT(t, registrytest.Config{Root: whole, ReadOnly: true})
	o = Options{Endpoints: []string{registry.URL()}, Samples: samples[1:], Store: opened(t, root), HasRepository: has("base")}
	wantRefused(t, prove(t, o), ByOtherStorage, "has repositories that this storage lacks", "team/app")

	// A registry may refuse to list its repositories.
	shy := front(t, whole, true, func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/v2/_catalog" {
			return false
		}
		http.Error(w, "no", http.StatusForbidden)
		return true
	})
	o.Endpoints = []string{shy.URL()}
	wantProven(t, prove(t, o), ByReadOnly)
}

// A registry at config.yml's own address may be too busy to serve a manifest, and still show that
// it accepts pushes. The proof then refuses, since the registry may serve this storage.
func TestPromise4ABusyNeighbourThatTakesPushesRefuses(t *testing.T) {
	root, samples := content(t)
	named := registrytest.StartT(t, registrytest.Config{Root: root, ReadOnly: true})
	for name, head := range map[string]func(http.ResponseWriter, *http.Request){
		"503": func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "busy", http.StatusServiceUnavailable)
		},
		"a timeout": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	} {
		for _, readOnly := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, read-only %t", name, readOnly), func(t *testing.T) {
				own := front(t, root, readOnly, func(w http.ResponseWriter, r *http.Request) bool {
					if r.Method == http.MethodHead {
						head(w, r)
					}
					return r.Method == http.MethodHead
				})
				o := Options{Config: configured(t, own.Host(), saysNothing), Samples: samples, Timeout: 300 * time.Millisecond, Endpoints: []string{named.URL()}}
				for _, o.Quick = range []bool{false, true} {
					if v := prove(t, o); !readOnly {
						wantRefused(t, v, ByWritable, own.Host()+" takes pushes")
					} else {
						wantProven(t, v, ByReadOnly)
					}
				}
			})
		}
	}
}
