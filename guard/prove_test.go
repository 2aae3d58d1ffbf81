package guard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"regsweep/internal/imagetest"
	"regsweep/internal/registrytest"
	"regsweep/storage"
	"regsweep/storage/config"
	"regsweep/storage/open"
)

// All of these tests prove promise 4, removal needs proof: nothing is removed until there is a
// proof that the registry is read-only or stopped.

// server is a registry of any release.
type server interface {
	URL() string
	Host() string
	Stop() error
}

// releases start a registry on a root directory. Registries in processes of their own are left
// out with -short: the first of them takes minutes to build.
var releases = map[string]func(t *testing.T, root string, readOnly bool) server{
	"v3 in process": func(t *testing.T, root string, readOnly bool) server {
		return registrytest.StartT(t, registrytest.Config{Root: root, ReadOnly: readOnly})
	},
	"v3.1.2": func(t *testing.T, root string, readOnly bool) server {
		return startRelease(t, registrytest.Release3, root, readOnly)
	},
	"v2.8": func(t *testing.T, root string, readOnly bool) server {
		return startRelease(t, registrytest.Release2, root, readOnly)
	},
}

func startRelease(t *testing.T, release registrytest.Release, root string, readOnly bool) server {
	t.Helper()
	path, err := registrytest.Binary(t.Context(), release)
	if errors.Is(err, registrytest.ErrUnavailable) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	binary, err := registrytest.StartBinary(t.Context(), path, registrytest.FilesystemConfig(root, readOnly))
	if err != nil {
		t.Fatal(err)
	}
	stoppable := stoppedOnce{binary, sync.OnceValue(binary.Stop)}
	t.Cleanup(func() {
		if err := stoppable.Stop(); err != nil {
			t.Error(err)
		}
	})
	return stoppable
}

// stoppedOnce is a server that a test may stop before its cleanup does.
type stoppedOnce struct {
	*registrytest.Server
	stop func() error
}

func (s stoppedOnce) Stop() error { return s.stop() }

func forEachRelease(t *testing.T, test func(t *testing.T, start func(root string, readOnly bool) server)) {
	for _, name := range slices.Sorted(maps.Keys(releases)) {
		t.Run(name, func(t *testing.T) {
			if testing.Short() && name != "v3 in process" {
				t.Skip("builds a registry the first time")
			}
			test(t, func(root string, readOnly bool) server { return releases[name](t, root, readOnly) })
		})
	}
}

// content makes a storage with an image and an index, and returns samples of them.
func content(t *testing.T) (root string, samples []Sample) {
	t.Helper()
	root = t.TempDir()
	tree := imagetest.NewTree(t, root)
	app := imagetest.Image(imagetest.OCI, imagetest.Layer(1, 500))
	tree.Tag("team/app", "v1", tree.Manifest("team/app", app))
	all := imagetest.Index(imagetest.Docker, imagetest.Image(imagetest.Docker, imagetest.Layer(2, 500)))
	tree.Tag("base", "all", tree.Manifest("base", all))
	return root, []Sample{{"team/app", app.Digest().String()}, {"base", all.Digest().String()}}
}

// configured is a config.yml whose registry listens at addr. more are further top-level lines.
func configured(t *testing.T, addr, maintenance string, more ...string) config.Config {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yml")
	text := fmt.Sprintf("version: 0.1\nstorage:\n  filesystem: {rootdirectory: /srv/registry}\n  maintenance: %s\nhttp:\n  addr: %q\n%s\n",
		maintenance, addr, strings.Join(more, "\n"))
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.ParseTarget(path, func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const (
	saysReadOnly = "{readonly: {enabled: true}}"
	saysNothing  = "{}"
)

// freePort is an address of this machine at which nothing listens.
func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	return listener.Addr().String()
}

func prove(t *testing.T, o Options) Verdict {
	t.Helper()
	v, err := Prove(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if v.Evidence == nil || v.Remedy == nil {
		t.Errorf("evidence %v, remedy %v: scripts want lists", v.Evidence, v.Remedy)
	}
	for _, e := range v.Evidence {
		if e.Subject == "" || e.Check == "" || e.Seen == "" || e.Meaning == "" || e.Result == "" || strings.Contains(e.Seen+e.Meaning, "\n") {
			t.Errorf("a row that does not read on its own: %+v", e)
		}
	}
	return v
}

// wantProven asserts that a verdict allows a sweep, and its reason.
func wantProven(t *testing.T, v Verdict, by By) {
	t.Helper()
	if v.State != Proven || v.By != by || !v.MayRemove() || len(v.Remedy) != 0 {
		t.Errorf("want it proven by %s, got\n%s", by, table(v))
	}
}

// wantRefused asserts the reason of a refusal, and that its text contains all words.
func wantRefused(t *testing.T, v Verdict, by By, words ...string) {
	t.Helper()
	if v.State != Refused || v.By != by || v.MayRemove() {
		t.Errorf("want it refused by %s, got\n%s", by, table(v))
		return
	}
	if len(v.Remedy) == 0 {
		t.Errorf("no way out is shown:\n%s", table(v))
	}
	for _, word := range words {
		if !strings.Contains(table(v), word) {
			t.Errorf("want %q in\n%s", word, table(v))
		}
	}
}

// table is a verdict as text for the log of a test.
func table(v Verdict) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s by %s: %s\n", v.State, v.By, v.Reason)
	for _, e := range v.Evidence {
		fmt.Fprintf(&b, "  %-8s %s | %s | %s | %s\n", e.Result, e.Subject, e.Check, e.Seen, e.Meaning)
	}
	for _, r := range v.Remedy {
		fmt.Fprintf(&b, "  > %s\n", strings.ReplaceAll(r, "\n", "\n    "))
	}
	return b.String()
}

func TestPromise4EveryReleaseIsReadRight(t *testing.T) {
	forEachRelease(t, func(t *testing.T, start func(string, bool) server) {
		root, samples := content(t)
		other := t.TempDir()
		open, closed, stranger := start(root, false), start(root, true), start(other, true)
		gone := start(root, false)
		if err := gone.Stop(); err != nil {
			t.Fatal(err)
		}
		named := func(servers ...server) Options {
			o := Options{Samples: samples}
			for _, s := range servers {
				o.Endpoints = append(o.Endpoints, s.URL())
			}
			return o
		}
		own := func(s server, maintenance string) Options {
			return Options{Samples: samples, Config: configured(t, s.Host(), maintenance)}
		}

		t.Run("writable", func(t *testing.T) {
			wantRefused(t, prove(t, named(open)), ByWritable, "POST", "400 Bad Request MANIFEST_INVALID", "readonly:\n", "--registry-stopped")
			wantRefused(t, prove(t, own(open, saysNothing)), ByWritable, open.Host())
		})
		t.Run("read-only", func(t *testing.T) {
			v := prove(t, named(closed))
			wantProven(t, v, ByReadOnly)
			if text := table(v); !strings.Contains(text, "Allow: GET, HEAD |") || !strings.Contains(text, "405 Method Not Allowed |") || !strings.Contains(text, "2 of 2 found") {
				t.Errorf("the evidence lacks the three answers:\n%s", text)
			}
			wantProven(t, prove(t, own(closed, saysReadOnly)), ByReadOnly)
			wantProven(t, prove(t, own(closed, saysNothing)), ByReadOnly)
		})
		t.Run("stopped", func(t *testing.T) {
			wantRefused(t, prove(t, named(gone)), ByUnknown, "silence proves nothing", "--registry-stopped")
			wantRefused(t, prove(t, named(gone, closed)), ByUnknown, "nothing answers at "+gone.URL())
			for _, says := range []string{saysReadOnly, saysNothing} {
				wantRefused(t, prove(t, own(gone, says)), ByUnknown, "silence proves nothing", "--registry-stopped")
			}
			o := own(gone, saysNothing)
			o.Stopped = true
			wantProven(t, prove(t, o), ByOperator)
		})
		t.Run("wrong storage behind the address", func(t *testing.T) {
			wantRefused(t, prove(t, named(stranger)), ByOtherStorage, "serves another storage", "404")
			wantRefused(t, prove(t, named(closed, stranger)), ByOtherStorage)
			wantRefused(t, prove(t, own(stranger, saysReadOnly)), ByOtherStorage)
		})
		t.Run("one of two replicas writable", func(t *testing.T) {
			v := prove(t, named(closed, open))
			wantRefused(t, v, ByWritable, open.Host()+" takes pushes")
			wantRefused(t, prove(t, named(gone, open)), ByWritable)
		})
		t.Run("config says read-only but the server is not", func(t *testing.T) {
			wantRefused(t, prove(t, own(open, saysReadOnly)), ByWritable,
				"although config.yml says read-only", "does not obey", "restart the registry, so that it reads")
		})
	})
}

// Probes change nothing in the storage: no file, no directory, no time.
func TestPromise4AskingChangesNothing(t *testing.T) {
	forEachRelease(t, func(t *testing.T, start func(string, bool) server) {
		root, samples := content(t)
		open := start(root, false)
		before := everything(t, root)
		for range 3 {
			// Without samples the probed repository does not exist.
			for _, samples := range [][]Sample{samples, nil} {
				prove(t, Options{Samples: samples, Endpoints: []string{open.URL()}})
			}
		}
		after := everything(t, root)
		if !maps.Equal(before, after) {
			t.Errorf("the storage was\n%v\nand is\n%v", before, after)
		}
	})
}

// everything is each file and directory below root, with mode, size and time.
func everything(t *testing.T, root string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		found[path] = fmt.Sprint(info.Mode(), info.Size(), info.ModTime())
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestPromise4NothingKnownIsRefused(t *testing.T) {
	for _, config := range []config.Config{{}, {Target: "/srv/registry", Driver: "filesystem"}} {
		wantRefused(t, prove(t, Options{Config: config}), ByUnknown, "--registry https://", "--registry-stopped")
	}
	for _, addr := range []string{"", ":0", "nonsense", "host:"} {
		wantRefused(t, prove(t, Options{Config: configured(t, addr, saysReadOnly)}), ByUnknown, "http.addr", "--registry-stopped")
	}
}

func TestPromise4WithoutASampleNoEndpointIsRecognized(t *testing.T) {
	root, _ := content(t)
	registry := registrytest.StartT(t, registrytest.Config{Root: root, ReadOnly: true})
	wantRefused(t, prove(t, Options{Endpoints: []string{registry.URL()}}), ByUnknown, "can't be told", "--registry-stopped")
}

// A damaged image that the registry can't serve is no sign of another storage. An intact image
// that the registry does not have is such a sign.
func TestPromise4DamageIsNoSignOfAnotherStorage(t *testing.T) {
	root, samples := content(t)
	tree := imagetest.NewTree(t, root)
	gone := imagetest.Image(imagetest.OCI, imagetest.Layer(9, 100))
	tree.Tag("team/broken", "v1", gone.Digest())
	samples = append([]Sample{{"team/broken", gone.Digest().String()}}, samples...)
	registry := registrytest.StartT(t, registrytest.Config{Root: root, ReadOnly: true})

	store, err := open.Store(t.Context(), config.Config{Driver: "filesystem", Parameters: config.Parameters{"rootdirectory": root}})
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Endpoints: []string{registry.URL()}, Samples: samples, Store: store}
	wantProven(t, prove(t, o), ByReadOnly)

	stranger := registrytest.StartT(t, registrytest.Config{Root: t.TempDir(), ReadOnly: true})
	o.Endpoints = []string{stranger.URL()}
	wantRefused(t, prove(t, o), ByOtherStorage)

	o.Samples = samples[:1]
	wantRefused(t, prove(t, o), ByUnknown, "damaged in the storage")

	o.Endpoints, o.Store = []string{registry.URL()}, nil
	wantRefused(t, prove(t, o), ByOtherStorage)
}

func TestPromise4PasswordsAreAskedFor(t *testing.T) {
	root, samples := content(t)
	for name, token := range map[string]bool{"basic": false, "token": true} {
		for _, tls := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, tls %v", name, tls), func(t *testing.T) {
				registry := registrytest.StartT(t, registrytest.Config{
					Root: root, ReadOnly: true, Username: "ann", Password: "swordfish", Token: token, TLS: tls})
				trust, err := TLSConfig(registry.CAFile(), false)
				if err != nil {
					t.Fatal(err)
				}
				o := Options{Endpoints: []string{registry.URL()}, Samples: samples, TLS: trust}

				v := prove(t, o)
				wantRefused(t, v, ByUnknown, "401", "asks for a username and password", "--username NAME with --password-file FILE")

				o.Username, o.Password = "ann", "wrong-word"
				v = prove(t, o)
				wantRefused(t, v, ByUnknown, "401", "the username and password were not accepted", "--username NAME")
				if strings.Contains(table(v), "wrong-word") {
					t.Errorf("shows a password:\n%s", table(v))
				}

				o.Password = "swordfish"
				wantProven(t, prove(t, o), ByReadOnly)

				if err := registry.SetReadOnly(false); err != nil {
					t.Fatal(err)
				}
				wantRefused(t, prove(t, o), ByWritable)
			})
		}
	}
}

func TestPromise4CertificatesAreVerified(t *testing.T) {
	root, samples := content(t)
	registry := registrytest.StartT(t, registrytest.Config{Root: root, ReadOnly: true, TLS: true})
	named := Options{Endpoints: []string{registry.URL()}, Samples: samples}
	wantRefused(t, prove(t, named), ByUnknown, "not trusted", "--registry-cacert FILE")

	for name, arguments := range map[string]struct {
		file     string
		insecure bool
	}{"cacert": {registry.CAFile(), false}, "insecure": {"", true}} {
		t.Run(name, func(t *testing.T) {
			trust, err := TLSConfig(arguments.file, arguments.insecure)
			if err != nil {
				t.Fatal(err)
			}
			named.TLS = trust
			wantProven(t, prove(t, named), ByReadOnly)
		})
	}

	// At the address in config.yml the certificate in config.yml is accepted, for any host name.
	_, port, err := net.SplitHostPort(registry.Host())
	if err != nil {
		t.Fatal(err)
	}
	addr := "127.0.0.1:" + port
	public := "  host: https://registry.example.com"
	own := Options{Samples: samples, Config: configured(t, addr, saysNothing, public, "  tls: {certificate: "+registry.CAFile()+"}")}
	wantProven(t, prove(t, own), ByReadOnly)

	other := registrytest.StartT(t, registrytest.Config{Root: root, ReadOnly: true, TLS: true})
	own.Config = configured(t, addr, saysNothing, public, "  tls: {certificate: "+other.CAFile()+"}")
	wantRefused(t, prove(t, own), ByUnknown, "not trusted")

	// http:// is used instead of https://, and the other way round.
	named.TLS, named.Endpoints = nil, []string{"http://" + registry.Host()}
	wantRefused(t, prove(t, named), ByUnknown, "speaks TLS", "--registry https://"+registry.Host())
	plain := registrytest.StartT(t, registrytest.Config{Root: root, ReadOnly: true})
	named.Endpoints = []string{"https://" + plain.Host()}
	wantRefused(t, prove(t, named), ByUnknown, "does not speak TLS", "--registry http://"+plain.Host())
}

// front is a registry behind a proxy that answers some requests itself, and forwards the others.
func front(t *testing.T, root string, readOnly bool, answers func(http.ResponseWriter, *http.Request) bool) *registrytest.Registry {
	t.Helper()
	return registrytest.StartT(t, registrytest.Config{Root: root, ReadOnly: readOnly, Wrap: func(registry http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !answers(w, r) {
				registry.ServeHTTP(w, r)
			}
		})
	}})
}

func TestPromise4OnlyTheRegistrysOwnWordCounts(t *testing.T) {
	root, samples := content(t)
	for _, test := range []struct {
		name     string
		readOnly bool
		answers  func(http.ResponseWriter, *http.Request) bool
		by       By
		word     string
	}{
		{"a redirect is not followed", true, func(w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, "https://me:swordfish@registry.example.com"+r.URL.Path+"?sig=swordfish", http.StatusMovedPermanently)
			return true
		}, ByUnknown, "--registry https://registry.example.com"},
		{"no registry at all", true, func(w http.ResponseWriter, r *http.Request) bool {
			_, err := io.WriteString(w, "it works")
			return err == nil
		}, ByUnknown, "not a registry"},
		{"no page either", true, func(w http.ResponseWriter, r *http.Request) bool {
			http.NotFound(w, r)
			return true
		}, ByUnknown, "not a registry"},
		{"a balancer without a registry", true, func(w http.ResponseWriter, r *http.Request) bool {
			http.Error(w, "no backend", http.StatusServiceUnavailable)
			return true
		}, ByUnknown, "no working registry behind it"},
		{"a firewall that forbids", true, func(w http.ResponseWriter, r *http.Request) bool {
			http.Error(w, "no", http.StatusForbidden)
			return true
		}, ByUnknown, "403"},
		{"a proxy that lets no push through", false, func(w http.ResponseWriter, r *http.Request) bool {
			switch r.Method {
			case http.MethodOptions:
				w.Header().Set("Allow", "GET, HEAD")
			case http.MethodPut:
				http.Error(w, "no", http.StatusMethodNotAllowed)
			default:
				return false
			}
			return true
		}, ByUnknown, "something in front of it"},
		{"a proxy that answers for uploads", true, func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Allow", "GET, HEAD")
			return r.Method == http.MethodOptions
		}, ByUnknown, "without " + apiVersion},
		{"a proxy that answers for manifests", true, func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPut {
				return false
			}
			http.Error(w, "no", http.StatusMethodNotAllowed)
			return true
		}, ByUnknown, "without " + apiVersion},
		{"OPTIONS says read-only, PUT does not", false, func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodOptions {
				return false
			}
			w.Header().Set(apiVersion, "registry/2.0")
			w.Header().Set("Allow", "GET, HEAD")
			return true
		}, ByWritable, "looks at what is pushed"},
		{"PUT says read-only, OPTIONS does not", false, func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPut {
				return false
			}
			w.Header().Set(apiVersion, "registry/2.0")
			http.Error(w, "no", http.StatusMethodNotAllowed)
			return true
		}, ByWritable, "takes uploads"},
		{"an answer to OPTIONS that says nothing", true, func(w http.ResponseWriter, r *http.Request) bool {
			return r.Method == http.MethodOptions
		}, ByUnknown, "does not say what it takes"},
		{"a push refused for another reason", true, func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPut {
				return false
			}
			w.Header().Set(apiVersion, "registry/2.0")
			w.WriteHeader(http.StatusMethodNotAllowed)
			_, err := io.WriteString(w, `{"errors":[{"code":"UNSUPPORTED"}]}`)
			return err == nil
		}, ByUnknown, "but not for being read-only"},
		{"manifests that can't be served", true, func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodHead {
				return false
			}
			w.WriteHeader(http.StatusInternalServerError)
			return true
		}, ByUnknown, "can't serve a manifest"},
		{"a page for everything", true, func(w http.ResponseWriter, r *http.Request) bool {
			return r.Method == http.MethodHead
		}, ByUnknown, "can't serve a manifest"},
	} {
		t.Run(test.name, func(t *testing.T) {
			registry := front(t, root, test.readOnly, test.answers)
			v := prove(t, Options{Endpoints: []string{registry.URL()}, Samples: samples})
			wantRefused(t, v, test.by, test.word)
			if strings.Contains(table(v), "swordfish") {
				t.Errorf("shows a secret:\n%s", table(v))
			}
		})
	}
}

func TestPromise4NoAnswerIsNoProof(t *testing.T) {
	root, samples := content(t)
	release := make(chan struct{})
	registry := front(t, root, true, func(w http.ResponseWriter, r *http.Request) bool {
		select {
		case <-release:
		case <-r.Context().Done():
		}
		return true
	})
	defer close(release)
	o := Options{Endpoints: []string{registry.URL()}, Samples: samples, Timeout: 100 * time.Millisecond}
	wantRefused(t, prove(t, o), ByUnknown, "no answer in 100ms", "firewall")

	o.Endpoints = []string{"https://registry.example.com"}
	o.Lookup = func(context.Context, string) ([]string, error) {
		return nil, &net.DNSError{Err: "no such host", Name: "registry.example.com", IsNotFound: true}
	}
	wantRefused(t, prove(t, o), ByUnknown, "no such host")
}

// network is a fake network. The test chooses the addresses of names and the servers at addresses.
type network struct {
	names   map[string][]string
	servers map[string]string // the real address of the server at "192.0.2.1:5000"
}

func (n network) lookup(_ context.Context, host string) ([]string, error) { return n.names[host], nil }

func (n network) dial(ctx context.Context, kind, address string) (net.Conn, error) {
	to, known := n.servers[address]
	if !known {
		return nil, errors.New("no such address: " + address)
	}
	return new(net.Dialer).DialContext(ctx, kind, to)
}

func TestPromise4EveryAddressOfANameIsAsked(t *testing.T) {
	root, samples := content(t)
	first := registrytest.StartT(t, registrytest.Config{Root: root, ReadOnly: true})
	second := registrytest.StartT(t, registrytest.Config{Root: root, ReadOnly: true})
	n := network{
		names:   map[string][]string{"registry.example.com": {"192.0.2.1", "192.0.2.2"}},
		servers: map[string]string{"192.0.2.1:5000": first.Host(), "192.0.2.2:5000": second.Host()},
	}
	o := Options{Endpoints: []string{"http://registry.example.com:5000"}, Samples: samples, Lookup: n.lookup, Dial: n.dial}
	v := prove(t, o)
	wantProven(t, v, ByReadOnly)
	for _, address := range n.names["registry.example.com"] {
		if !strings.Contains(table(v), "http://registry.example.com:5000 at "+address) {
			t.Errorf("%s was not asked:\n%s", address, table(v))
		}
	}
	if err := second.SetReadOnly(false); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, prove(t, o), ByWritable, "at 192.0.2.2 takes pushes")

	n.servers["192.0.2.2:5000"] = freePort(t) // a replica that is being restarted
	wantRefused(t, prove(t, o), ByUnknown, "nothing answers at http://registry.example.com:5000 at 192.0.2.2")
	n.servers["192.0.2.1:5000"] = freePort(t)
	wantRefused(t, prove(t, o), ByUnknown, "silence proves nothing")
}

// Many machines support only one family of addresses. If a name also has addresses of the other
// family, these need no proof if an address of the supported family has answered. Otherwise they
// refuse.
func TestPromise4AnAddressFamilyThatIsNotSpoken(t *testing.T) {
	root, samples := content(t)
	registry := registrytest.StartT(t, registrytest.Config{Root: root, ReadOnly: true})
	dial := func(reachable string, errno syscall.Errno) func(context.Context, string, string) (net.Conn, error) {
		return func(ctx context.Context, kind, address string) (net.Conn, error) {
			if strings.HasPrefix(address, "[") {
				return nil, &net.OpError{Op: "dial", Net: kind, Err: os.NewSyscallError("connect", errno)}
			}
			return new(net.Dialer).DialContext(ctx, kind, reachable)
		}
	}
	slow := front(t, root, true, func(w http.ResponseWriter, r *http.Request) bool {
		http.Error(w, "busy", http.StatusServiceUnavailable)
		return true
	})
	named := Options{Endpoints: []string{"http://registry.example.com:5000"}, Samples: samples,
		Lookup: network{names: map[string][]string{"registry.example.com": {"192.0.2.1", "2001:db8::1"}}}.lookup}
	own := Options{Samples: samples, Config: configured(t, ":5000", saysReadOnly)}
	for _, errno := range []syscall.Errno{syscall.ENETUNREACH, syscall.EADDRNOTAVAIL, syscall.EAFNOSUPPORT} {
		named.Dial = dial(registry.Host(), errno)
		wantProven(t, prove(t, named), ByReadOnly)
		named.Dial = dial(freePort(t), errno)
		wantRefused(t, prove(t, named), ByUnknown, "silence proves nothing")
		named.Dial = dial(slow.Host(), errno)
		wantRefused(t, prove(t, named), ByUnknown, "no way to such an address")

		own.Dial = dial(registry.Host(), errno)
		wantProven(t, prove(t, own), ByReadOnly)
		own.Dial = dial(freePort(t), errno)
		wantRefused(t, prove(t, own), ByUnknown, "silence proves nothing")
	}
	named.Lookup = network{names: map[string][]string{"registry.example.com": {"2001:db8::1"}}}.lookup
	named.Dial = dial(registry.Host(), syscall.ENETUNREACH)
	wantRefused(t, prove(t, named), ByUnknown, "can't be reached from this machine")
	named.Lookup = network{names: map[string][]string{"registry.example.com": {"192.0.2.1", "2001:db8::1"}}}.lookup
	// A router without a route says nothing about the registry.
	named.Dial = dial(registry.Host(), syscall.EHOSTUNREACH)
	wantRefused(t, prove(t, named), ByUnknown, "no answer, which proves nothing")

	// If one address of a family was reached, the machine supports this family, even if another
	// network can't be reached.
	named.Lookup = network{names: map[string][]string{"registry.example.com": {"192.0.2.1", "198.51.100.1"}}}.lookup
	named.Dial = func(ctx context.Context, kind, address string) (net.Conn, error) {
		if strings.HasPrefix(address, "198.") {
			return nil, &net.OpError{Op: "dial", Net: kind, Err: os.NewSyscallError("connect", syscall.ENETUNREACH)}
		}
		return new(net.Dialer).DialContext(ctx, kind, registry.Host())
	}
	wantRefused(t, prove(t, named), ByUnknown, "at 198.51.100.1 can't be reached")
}

func TestPromise4ReplicasBehindOneAddressAreMet(t *testing.T) {
	root, samples := content(t)
	hosts := []string{
		registrytest.StartT(t, registrytest.Config{Root: root, ReadOnly: true}).Host(),
		registrytest.StartT(t, registrytest.Config{Root: root}).Host(),
	}
	// A load balancer gives every seventh connection to the writable replica.
	var connections atomic.Int64
	o := Options{Endpoints: []string{"http://192.0.2.1"}, Samples: samples,
		Dial: func(ctx context.Context, kind, _ string) (net.Conn, error) {
			to := hosts[0]
			if connections.Add(1)%7 == 0 {
				to = hosts[1]
			}
			return new(net.Dialer).DialContext(ctx, kind, to)
		}}
	wantRefused(t, prove(t, o), ByWritable, "several registries answer here", "1 of 2 times 405 Method Not Allowed; 1 of 2 times 400")
}

func TestPromise4AllInterfacesMeansBothLoopbacks(t *testing.T) {
	root, samples := content(t)
	registry := registrytest.StartT(t, registrytest.Config{Root: root, ReadOnly: true})
	for _, addr := range []string{":5000", "[::]:5000", "0.0.0.0:5000"} {
		var asked []string
		n := network{servers: map[string]string{"127.0.0.1:5000": registry.Host(), "[::1]:5000": freePort(t)}}
		o := Options{Samples: samples, Config: configured(t, addr, saysNothing), Dial: n.dial}
		v := prove(t, o)
		wantProven(t, v, ByReadOnly)
		for _, e := range v.Evidence {
			if strings.HasPrefix(e.Subject, "http") && !slices.Contains(asked, e.Subject) {
				asked = append(asked, e.Subject)
			}
		}
		want := []string{"http://127.0.0.1:5000", "http://[::1]:5000"}
		if addr == "0.0.0.0:5000" {
			want = want[:1]
		}
		if !slices.Equal(asked, want) {
			t.Errorf("%s: asked %v, want %v", addr, asked, want)
		}
	}
}

func TestPromise4PrefixAndSocketAreFollowed(t *testing.T) {
	root, samples := content(t)
	registry := registrytest.StartT(t, registrytest.Config{Root: root, ReadOnly: true, Wrap: func(registry http.Handler) http.Handler {
		return http.StripPrefix("/images", registry)
	}})
	own := Options{Samples: samples, Config: configured(t, registry.Host(), saysNothing, "  prefix: /images/")}
	wantProven(t, prove(t, own), ByReadOnly)
	for _, path := range []string{"/images", "/images/", "/images/v2/"} {
		wantProven(t, prove(t, Options{Samples: samples, Endpoints: []string{registry.URL() + path}}), ByReadOnly)
	}

	socket := filepath.Join(t.TempDir(), "registry.sock")
	own.Config = configured(t, socket, saysReadOnly, "  net: unix", "  prefix: /images")
	wantRefused(t, prove(t, own), ByUnknown, "no such socket", "silence proves nothing")
	own.Dial = func(ctx context.Context, kind, address string) (net.Conn, error) {
		if kind != "unix" || address != socket {
			return nil, fmt.Errorf("dialled %s %s", kind, address)
		}
		return new(net.Dialer).DialContext(ctx, "tcp", registry.Host())
	}
	wantProven(t, prove(t, own), ByReadOnly)
}

// A registry of another storage gets no push probe, not even with an invalid manifest.
func TestStrangersAreNotProbed(t *testing.T) {
	_, samples := content(t)
	stranger := front(t, t.TempDir(), false, func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			t.Errorf("%s %s", r.Method, r.URL)
		}
		return false
	})
	wantRefused(t, prove(t, Options{Endpoints: []string{stranger.URL()}, Samples: samples}), ByOtherStorage)
}

// A mistake in a URL must not hide a registry that runs on this machine.
func TestPromise4TheRegistryNextDoorIsSeen(t *testing.T) {
	root, samples := content(t)
	registry := registrytest.StartT(t, registrytest.Config{Root: root})
	own := configured(t, registry.Host(), saysNothing)
	slip := []string{"http://" + freePort(t)}
	wantRefused(t, prove(t, Options{Config: own, Samples: samples, Endpoints: slip}), ByWritable, registry.Host()+" takes pushes")
	wantRefused(t, prove(t, Options{Config: own, Samples: samples, Stopped: true}), ByWritable, "although you say that it is stopped")
	wantRefused(t, prove(t, Options{Samples: samples, Stopped: true, Endpoints: []string{registry.URL()}}), ByWritable)

	// A registry that may serve this storage overrules the statement of the user. A registry of
	// another storage does not.
	wantRefused(t, prove(t, Options{Config: own, Stopped: true}), ByWritable, "although you say that it is stopped", "stop the registry at")
	other := registrytest.StartT(t, registrytest.Config{Root: t.TempDir()})
	own = configured(t, other.Host(), saysNothing)
	wantProven(t, prove(t, Options{Config: own, Samples: samples, Stopped: true}), ByOperator)
	wantRefused(t, prove(t, Options{Config: own, Samples: samples, Endpoints: slip}), ByUnknown, "silence proves nothing")
}

func TestPromise4TheUsersWord(t *testing.T) {
	wantProven(t, prove(t, Options{Stopped: true}), ByOperator)
	wantProven(t, prove(t, Options{Stopped: true, Config: configured(t, freePort(t), saysNothing)}), ByOperator)
	v := prove(t, Options{Unsafe: true, Endpoints: []string{"http://" + freePort(t)}})
	if v.State != Skipped || v.By != ByUnsafe || !v.MayRemove() {
		t.Errorf("--unsafe-online: got\n%s", table(v))
	}
}

func TestPromise4APullThroughCacheMustBeStopped(t *testing.T) {
	root, samples := content(t)
	registry := registrytest.StartT(t, registrytest.Config{Root: root, ReadOnly: true})
	const proxy = `proxy: {remoteurl: "https://me:swordfish@registry-1.example.com"}`
	running := configured(t, registry.Host(), saysReadOnly, proxy)
	v := prove(t, Options{Config: running, Samples: samples})
	wantRefused(t, v, ByProxy, "whenever somebody pulls", "--registry-stopped")
	if strings.Contains(table(v), "swordfish") {
		t.Errorf("shows a password:\n%s", table(v))
	}
	wantRefused(t, prove(t, Options{Config: running, Samples: samples, Endpoints: []string{registry.URL()}}), ByProxy)

	wantRefused(t, prove(t, Options{Config: running, Samples: samples, Stopped: true}), ByProxy)

	silent := configured(t, freePort(t), saysReadOnly, proxy)
	wantRefused(t, prove(t, Options{Config: silent, Samples: samples}), ByProxy)
	wantProven(t, prove(t, Options{Config: silent, Samples: samples, Stopped: true}), ByOperator)
}

func TestPromise4ARecentUploadIsASignOfAnotherReplica(t *testing.T) {
	root, samples := content(t)
	registry := registrytest.StartT(t, registrytest.Config{Root: root, ReadOnly: true})
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	options := func(age time.Duration) Options {
		c := configured(t, registry.Host(), saysReadOnly)
		c.Changed = now.Add(-24 * time.Hour)
		return Options{Config: c, Samples: samples,
			Now:        func() time.Time { return now },
			LastUpload: &Upload{Repository: "team/app", ID: "1", Touched: now.Add(-age)}}
	}
	for _, age := range []time.Duration{0, 3 * time.Minute, RecentUpload - 1, -time.Hour} {
		o := options(age)
		wantRefused(t, prove(t, o), ByRecentUpload, "team/app", "run it again after 2026-01-02T", "--registry-stopped")
		o.Endpoints = []string{registry.URL()} // this registry could not accept it
		wantRefused(t, prove(t, o), ByRecentUpload)
		o.Endpoints, o.Config, o.Stopped = nil, config.Config{}, true
		wantProven(t, prove(t, o), ByOperator)

	}
	wantProven(t, prove(t, options(RecentUpload)), ByReadOnly)

	// A push from before config.yml was changed to read-only is no sign of another registry.
	o := options(time.Minute)
	o.Config.Changed = now.Add(-time.Second)
	wantProven(t, prove(t, o), ByReadOnly)
	o.Config.Changed = now.Add(-2 * time.Minute)
	wantRefused(t, prove(t, o), ByRecentUpload)
	o.Config.Changed, o.Config.Registry.ReadOnly.Enabled = now.Add(-time.Second), false
	wantRefused(t, prove(t, o), ByRecentUpload)
	o = options(time.Minute) // the registry of that config.yml is elsewhere
	o.Endpoints, o.Config = []string{registry.URL()}, configured(t, freePort(t), saysReadOnly)
	o.Config.Changed = now.Add(-time.Second)
	wantRefused(t, prove(t, o), ByRecentUpload)
	verdict := prove(t, options(-time.Hour))
	if text := table(verdict); !strings.Contains(text, "1h0m0s in the future") || !strings.Contains(verdict.Reason, "which is in the future: ") {
		t.Errorf("a clock that is ahead is not shown: %s\n%s", verdict.Reason, text)
	}
}

func TestPromise4SettingsThatNoRegistryObeysAreNamed(t *testing.T) {
	c := configured(t, freePort(t), `{readonly: {enabled: "true"}}`)
	wantRefused(t, prove(t, Options{Config: c}), ByUnknown, "without quotes")
}

func TestEndpointsAreURLs(t *testing.T) {
	for text, want := range map[string]string{
		"localhost:5000":            "write it as http://host:port",
		"registry.example.com":      "write it as http://host:port",
		"":                          "write it as http://host:port",
		"ftp://registry":            "--registry ftp://",
		"http://":                   "names no host",
		"http://me:swordfish@host/": "does not belong on the command line",
		"http://host/?a=swordfish":  "no ? and no #",
		"http://ho st":              "takes a URL",
	} {
		_, err := Prove(t.Context(), Options{Endpoints: []string{text}})
		var usage *storage.UsageError
		if !errors.As(err, &usage) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "swordfish") {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}

func TestTrustFilesAreChecked(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{empty, empty + ".not"} {
		var usage *storage.UsageError
		if _, err := TLSConfig(path, false); !errors.As(err, &usage) {
			t.Errorf("%s: got %v", path, err)
		}
	}
}

func TestAnInterruptionIsNoVerdict(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Prove(ctx, Options{Endpoints: []string{"http://" + freePort(t)}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestVerdictIsForScripts(t *testing.T) {
	content, err := json.Marshal(prove(t, Options{}))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`{"verdict":"refused","by":"unknown","reason":"`, `"evidence":[{"subject":"target","check":"`,
		`"seen":"`, `"meaning":"`, `"result":"unknown"}]`, `"remedy":["`} {
		if !strings.Contains(string(content), want) {
			t.Errorf("want %s in %s", want, content)
		}
	}
}

// A registry with TLS refers to a token server without TLS. TestAPasswordGoesOnlyToItsHost has the
// other cases in which a password could be sent to another server.
func TestATokenServerWithoutTLSIsNotAskedForATLSRegistry(t *testing.T) {
	var asked atomic.Int64
	tokens := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer tokens.Close()
	registry := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("WWW-Authenticate", `Bearer realm="`+tokens.URL+`/token",service="registry"`)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	defer registry.Close()
	trust, err := TLSConfig("", true)
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Endpoints: []string{registry.URL}, TLS: trust, Username: "ann", Password: "swordfish"}
	v := prove(t, o)
	wantRefused(t, v, ByUnknown, "not sent there in the clear")
	if !slices.ContainsFunc(v.Remedy, func(text string) bool { return strings.Contains(text, "auth.token.realm") }) {
		t.Errorf("the remedies are %q", v.Remedy)
	}
	if asked.Load() != 0 {
		t.Error("the token server was asked")
	}
}
