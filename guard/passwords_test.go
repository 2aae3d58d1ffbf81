package guard

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"regsweep/internal/registrytest"
)

// listener is a fake registry. It answers each request with the challenge, and records the passwords
// that it gets.
type listener struct {
	*httptest.Server
	mu        sync.Mutex
	challenge string
	// redirect, if it is set, answers a request that has a password.
	redirect string
	got      []string
}

func (l *listener) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, password, ok := r.BasicAuth(); ok {
		if !slices.Contains(l.got, password) {
			l.got = append(l.got, password)
		}
		if l.redirect != "" {
			http.Redirect(w, r, l.redirect, http.StatusTemporaryRedirect)
			return
		}
	}
	w.Header().Set(apiVersion, "registry/2.0")
	w.Header().Set("WWW-Authenticate", l.challenge)
	w.WriteHeader(http.StatusUnauthorized)
}

func listen(t *testing.T, tls bool) *listener {
	l := &listener{challenge: "Basic realm=x"}
	if tls {
		l.Server = httptest.NewTLSServer(l)
	} else {
		l.Server = httptest.NewServer(l)
	}
	t.Cleanup(l.Close)
	return l
}

func (l *listener) host() string { return l.Listener.Addr().String() }

func (l *listener) port() string { return fmt.Sprint(l.Listener.Addr().(*net.TCPAddr).Port) }

// TestAPasswordGoesOnlyToItsHost gives a run passwords. Three listeners ask for them: own at
// config.yml's address, other at an address that the user names, and elsewhere, to which own and
// other can refer.
func TestAPasswordGoesOnlyToItsHost(t *testing.T) {
	const (
		public      = "  host: https://registry.example.com"
		elsewhere   = "http://elsewhere.example.com"
		toElsewhere = `Bearer realm="` + elsewhere + `/token",service=registry`
	)
	type fixture struct {
		o                     Options
		own, other, elsewhere *listener
		// logins are those of docker's config.json, by host.
		logins map[string]string
	}
	explicit := func(f *fixture) { f.o.Username, f.o.Password = "ann", "explicit" }
	for name, test := range map[string]struct {
		challenge string // of own and other, Basic if empty
		tls       bool   // whether own, other and elsewhere speak TLS
		arrange   func(t *testing.T, f *fixture)
		want      string // who gets which password, sorted
	}{
		// A login of docker.
		"the login of http.host":                     {arrange: func(t *testing.T, f *fixture) {}},
		"the login of http.host, referred elsewhere": {challenge: toElsewhere, arrange: func(t *testing.T, f *fixture) {}},
		"the login of http.host, in the clear":       {arrange: func(t *testing.T, f *fixture) { f.o.TLS = nil }},
		"the login of http.host, stopped": {challenge: toElsewhere, arrange: func(t *testing.T, f *fixture) {
			f.o.Stopped = true
		}},
		"the login of http.host, at a socket": {arrange: func(t *testing.T, f *fixture) {
			f.logins["localhost"] = "local"
			f.o.Config = configured(t, filepath.Join(t.TempDir(), "socket"), saysNothing, "  net: unix", public)
		}},
		"the login of http.host, from any certificate": {tls: true, arrange: func(t *testing.T, f *fixture) {
			f.o.Config = configured(t, f.own.host(), saysNothing, public, "  tls: {certificate: /none.pem}")
		}},
		"the login of the own address": {arrange: func(t *testing.T, f *fixture) {
			f.logins[f.own.host()] = "local"
		}, want: "own local"},
		"the login of the own address, referred elsewhere": {challenge: toElsewhere, arrange: func(t *testing.T, f *fixture) {
			f.logins[f.own.host()] = "local"
		}},
		"the login of the own address, stopped": {arrange: func(t *testing.T, f *fixture) {
			f.logins[f.own.host()], f.o.Stopped = "local", true
		}},
		"the login of another port": {arrange: func(t *testing.T, f *fixture) {
			f.logins["127.0.0.1:1"], f.logins["127.0.0.1"] = "local", "local"
		}},
		"each its own login": {arrange: func(t *testing.T, f *fixture) {
			f.logins[f.own.host()], f.logins[f.other.host()] = "local", "other"
			f.o.Endpoints = []string{f.other.URL}
		}, want: "other other, own local"},

		// The password of --username.
		"the own address": {arrange: func(t *testing.T, f *fixture) {
			explicit(f)
		}, want: "own explicit"},
		"the own address, a socket": {arrange: func(t *testing.T, f *fixture) {
			explicit(f)
			f.o.Config = configured(t, filepath.Join(t.TempDir(), "socket"), saysNothing, "  net: unix", public)
		}, want: "own explicit"},
		"the own address, stopped": {arrange: func(t *testing.T, f *fixture) {
			explicit(f)
			f.o.Stopped = true
		}},
		"another one is named": {arrange: func(t *testing.T, f *fixture) {
			explicit(f)
			f.o.Endpoints = []string{f.other.URL}
		}, want: "other explicit"},
		"another one is named over TLS": {tls: true, arrange: func(t *testing.T, f *fixture) {
			explicit(f)
			f.o.Endpoints = []string{f.other.URL}
		}, want: "other explicit"},
		"another one is named, and has a login too": {arrange: func(t *testing.T, f *fixture) {
			explicit(f)
			f.logins[f.other.host()], f.logins[f.own.host()] = "other", "local"
			f.o.Endpoints = []string{f.other.URL}
		}, want: "other explicit"},
		"another one is named, stopped": {arrange: func(t *testing.T, f *fixture) {
			explicit(f)
			f.o.Endpoints, f.o.Stopped = []string{f.other.URL}, true
		}, want: "other explicit"},
		"the own address is named": {arrange: func(t *testing.T, f *fixture) {
			explicit(f)
			f.o.Endpoints = []string{"http://localhost:" + f.own.port()}
		}, want: "own explicit"},
		"the other loopback address is not named": {arrange: func(t *testing.T, f *fixture) {
			explicit(f)
			f.o.Config = configured(t, ":5000", saysNothing)
			f.o.Endpoints = []string{"http://127.0.0.1:5000"}
		}, want: "other explicit"},

		// These refer to elsewhere.
		"elsewhere in the clear": {challenge: toElsewhere, arrange: func(t *testing.T, f *fixture) {
			explicit(f)
			f.o.Endpoints = []string{"http://registry.example.com"}
		}},
		"elsewhere in the clear, from TLS": {challenge: toElsewhere, tls: true, arrange: func(t *testing.T, f *fixture) {
			explicit(f)
			f.o.Endpoints = []string{f.other.URL}
		}},
		"from another host to this machine": {arrange: func(t *testing.T, f *fixture) {
			explicit(f)
			f.o.Endpoints = []string{"http://registry.example.com"}
			f.other.challenge = `Bearer realm="` + f.own.URL + `/token"`
		}},
		"elsewhere over TLS": {tls: true, arrange: func(t *testing.T, f *fixture) {
			explicit(f)
			f.o.Endpoints = []string{f.other.URL}
			f.other.challenge = `Bearer realm="` + f.elsewhere.URL + `/token"`
		}, want: "elsewhere explicit"},
		"another port of the same host": {arrange: func(t *testing.T, f *fixture) {
			explicit(f)
			f.o.Endpoints = []string{"http://registry.example.com"}
			f.other.challenge = `Bearer realm="http://registry.example.com:5001/token"`
		}, want: "elsewhere explicit"},
		"within this machine": {arrange: func(t *testing.T, f *fixture) {
			explicit(f)
			f.own.challenge = `Bearer realm="http://localhost:` + f.elsewhere.port() + `/token"`
		}, want: "elsewhere explicit"},
		"a redirect of the registry": {arrange: func(t *testing.T, f *fixture) {
			explicit(f)
			f.own.redirect = elsewhere
		}, want: "own explicit"},
		"a redirect of the token server": {arrange: func(t *testing.T, f *fixture) {
			explicit(f)
			f.own.challenge, f.other.redirect = `Bearer realm="`+f.other.URL+`/token"`, elsewhere
		}, want: "other explicit"},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fixture{own: listen(t, test.tls), other: listen(t, test.tls), elsewhere: listen(t, test.tls),
				logins: map[string]string{"registry.example.com": "public"}}
			if test.challenge != "" {
				f.own.challenge, f.other.challenge = test.challenge, test.challenge
			}
			trust, err := TLSConfig("", true)
			if err != nil {
				t.Fatal(err)
			}
			n := network{names: map[string][]string{"registry.example.com": {"192.0.2.1"}, "localhost": {"127.0.0.1"}},
				servers: map[string]string{"192.0.2.1:80": f.other.host(), "registry.example.com:5001": f.elsewhere.host(),
					"elsewhere.example.com:80": f.elsewhere.host(), "127.0.0.1:5000": f.other.host(), "[::1]:5000": f.own.host()}}
			f.o = Options{Config: configured(t, f.own.host(), saysNothing, public), TLS: trust, Lookup: n.lookup,
				Samples: []Sample{{"team/app", impossible}},
				Dial: func(ctx context.Context, kind, address string) (net.Conn, error) {
					if _, known := n.servers[address]; known {
						return n.dial(ctx, kind, address)
					}
					if kind == "unix" {
						address = f.own.host()
					}
					return new(net.Dialer).DialContext(ctx, "tcp", address)
				},
				Credentials: func(_ context.Context, host string) (username, password string, err error) {
					if password = f.logins[host]; password != "" {
						username = "ann"
					}
					return username, password, nil
				}}
			test.arrange(t, f)
			var v Verdict
			for _, f.o.Quick = range []bool{false, true} {
				v = prove(t, f.o)
			}
			var got []string
			for who, l := range map[string]*listener{"own": f.own, "other": f.other, "elsewhere": f.elsewhere} {
				l.mu.Lock()
				for _, password := range l.got {
					got = append(got, who+" "+password)
				}
				l.mu.Unlock()
			}
			slices.Sort(got)
			if strings.Join(got, ", ") != test.want {
				t.Errorf("got %q, want %q\n%s", got, test.want, table(v))
			}
			if v.MayRemove() && !f.o.Stopped {
				t.Errorf("proven by a listener:\n%s", table(v))
			}
		})
	}
}

// A real registry accepts the login that docker has saved for it. At config.yml's own address, the
// certificate proves that the registry is the host in http.host.
func TestTheLoginOfAHostOpensIt(t *testing.T) {
	root, samples := content(t)
	const public = "  host: https://registry.example.com"
	for name, test := range map[string]struct {
		tls, token, own bool
		login           string // the registry's own address if empty
	}{
		"named":                         {},
		"named, token":                  {token: true},
		"named, TLS and token":          {tls: true, token: true},
		"own":                           {own: true},
		"own, TLS":                      {own: true, tls: true},
		"own, TLS, login of http.host":  {own: true, tls: true, login: "registry.example.com"},
		"own, token, login of the host": {own: true, tls: true, token: true, login: "registry.example.com"},
	} {
		t.Run(name, func(t *testing.T) {
			registry := registrytest.StartT(t, registrytest.Config{Root: root, ReadOnly: true, Username: "ann", Password: "swordfish", TLS: test.tls, Token: test.token})
			trust, err := TLSConfig(registry.CAFile(), false)
			if err != nil {
				t.Fatal(err)
			}
			logins := map[string]string{registry.Host(): "swordfish"}
			if test.login != "" {
				logins = map[string]string{test.login: "swordfish"}
			}
			o := Options{Endpoints: []string{registry.URL()}, Samples: samples, TLS: trust,
				Credentials: func(_ context.Context, host string) (string, string, error) {
					if logins[host] == "" {
						return "", "", nil
					}
					return "ann", logins[host], nil
				}}
			if test.own {
				o.Endpoints, o.Config = nil, configured(t, registry.Host(), saysNothing, public)
				if test.tls {
					o.Config = configured(t, registry.Host(), saysNothing, public, "  tls: {certificate: "+registry.CAFile()+"}")
				}
			}
			wantProven(t, prove(t, o), ByReadOnly)
			maps.DeleteFunc(logins, func(string, string) bool { return true })
			wantRefused(t, prove(t, o), ByUnknown, "asks for a username and password")
		})
	}
}

// The evidence says why an address got no password.
func TestAPasswordThatIsHeldBackIsReported(t *testing.T) {
	root, samples := content(t)
	locked := registrytest.StartT(t, registrytest.Config{Root: root, ReadOnly: true, Username: "ann", Password: "swordfish"})
	open := registrytest.StartT(t, registrytest.Config{Root: root, ReadOnly: true})
	const said = "asks for a username and password, which go only to an address that --registry names"
	o := Options{Config: configured(t, locked.Host(), saysReadOnly), Samples: samples, Username: "ann", Password: "swordfish", Endpoints: []string{open.URL()}}
	v := prove(t, o)
	wantProven(t, v, ByReadOnly)
	if !strings.Contains(table(v), said) {
		t.Errorf("want %q in\n%s", said, table(v))
	}
	o.Endpoints, o.Stopped = nil, true
	v = prove(t, o)
	wantRefused(t, v, ByUnknown, said, "stop the registry at")
	if text := strings.Join(v.Remedy, "\n"); strings.Contains(text, "--username") {
		t.Errorf("a remedy that changes nothing: %s", text)
	}

	// The address gets the password if a URL of the user leads to it. Then the registry explains
	// a push from before the change of config.yml.
	u, err := url.Parse(locked.URL())
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	o.Endpoints, o.Stopped, o.Now = []string{"http://localhost:" + u.Port()}, false, func() time.Time { return now }
	o.Lookup = network{names: map[string][]string{"localhost": {"127.0.0.1"}}}.lookup
	o.Config.Changed = now.Add(-time.Second)
	o.LastUpload = &Upload{Repository: "team/app", ID: "1", Touched: now.Add(-time.Minute)}
	wantProven(t, prove(t, o), ByReadOnly)
}
