package registryclient

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"regsweep/internal/imagetest"
	"regsweep/internal/registryauth"
	"regsweep/internal/registrytest"
	"regsweep/storage"

	"github.com/opencontainers/go-digest"
)

// login is the only login of a user. It returns the password for another host too if that host is asked for.
func login(host string) func(context.Context, string) (string, string, error) {
	return func(_ context.Context, asked string) (string, string, error) {
		if asked == host {
			return "ann", "secret", nil
		}
		return "", "", nil
	}
}

// TestFetchFromRealRegistries: without and with authentication.
func TestFetchFromRealRegistries(t *testing.T) {
	layer := imagetest.Layer(1, 2<<20)
	layer.Algorithm = digest.SHA512
	image := imagetest.Image(imagetest.OCI, imagetest.Layer(2, 100), layer)
	index := imagetest.Index(imagetest.Docker, imagetest.Image(imagetest.Docker, imagetest.Layer(3, 100)))
	for name, config := range map[string]registrytest.Config{
		"open": {}, "basic": {Username: "ann", Password: "secret"}, "token": {Username: "ann", Password: "secret", Token: true},
		"token over TLS": {Username: "ann", Password: "secret", Token: true, TLS: true},
	} {
		t.Run(name, func(t *testing.T) {
			config.Root = t.TempDir()
			server := registrytest.StartT(t, config)
			for repository, m := range map[string]*imagetest.Manifest{"team/app:v1": image, "other:v1": index} {
				if err := server.Client().Push(t.Context(), repository, m); err != nil {
					t.Fatal(err)
				}
			}
			o := Options{Transport: storage.Transport{Haste: 100}}
			if config.TLS {
				if _, err := Open(t.Context(), server.URL(), o); err == nil || !strings.Contains(err.Error(), "certificate") {
					t.Errorf("an unknown certificate: %v", err)
				}
				pem, err := os.ReadFile(server.CAFile())
				if err != nil {
					t.Fatal(err)
				}
				o.TLS = &tls.Config{RootCAs: x509.NewCertPool()}
				o.TLS.RootCAs.AppendCertsFromPEM(pem)
			}
			if config.Username != "" {
				r, err := Open(t.Context(), server.URL(), o)
				if err == nil {
					err = r.Fetch(t.Context(), layer.Digest(), []string{"team/app"}, false, new(bytes.Buffer))
				}
				if err == nil || errors.Is(err, fs.ErrNotExist) {
					t.Errorf("without a password: %v", err)
				}
				o.Credentials = func(context.Context, string) (string, string, error) { return "ann", "wrong", nil }
				if _, err := Open(t.Context(), server.URL(), o); !errors.Is(err, registryauth.ErrNotAccepted) {
					t.Errorf("with a wrong password: %v", err)
				}
				o.Credentials = login(server.Host())
			}
			r, err := Open(t.Context(), server.URL()+"/v2/", o)
			if err != nil || r.String() != server.URL() {
				t.Fatal(r, err)
			}
			for _, want := range []struct {
				content    []byte
				digest     digest.Digest
				isManifest bool
			}{
				{image.Content, image.Digest(), true}, {index.Content, index.Digest(), true}, {layer.Content, layer.Digest(), false},
				{image.Blobs[0].Content, image.Blobs[0].Digest(), false},
			} {
				var got bytes.Buffer
				if err := r.Fetch(t.Context(), want.digest, []string{"absent", "team/app", "other"}, want.isManifest, &got); err != nil || !bytes.Equal(got.Bytes(), want.content) {
					t.Errorf("%s: %d bytes of %d: %v", want.digest, got.Len(), len(want.content), err)
				}
			}
			for _, repositories := range [][]string{{"other"}, nil} {
				if err := r.Fetch(t.Context(), layer.Digest(), repositories, false, new(bytes.Buffer)); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("a blob that is not in %v: %v", repositories, err)
				}
			}
		})
	}
}

func TestAddressesThatAreRefused(t *testing.T) {
	for address, want := range map[string]string{
		"localhost:5000": "is a URL", "http://": "is a URL", "https://ann:secret@host": "docker login host", "http://host?x=1": "no ?",
		"ftp://host": "is a URL", "s3://bucket": "is a URL",
	} {
		_, err := Open(t.Context(), address, Options{})
		if !errors.As(err, new(*storage.UsageError)) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", address, err)
		}
	}
	website := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(website.Close)
	if _, err := Open(t.Context(), website.URL, Options{}); !errors.As(err, new(*storage.UsageError)) {
		t.Errorf("a web server: %v", err)
	}
	website.Close()
	if _, err := Open(t.Context(), website.URL, Options{Transport: storage.Transport{Haste: 1000}}); err == nil || errors.As(err, new(*storage.UsageError)) {
		t.Errorf("nobody listens: %v", err)
	}
	for arg, want := range map[string]bool{"http://a": true, "HTTPS://a": true, "s3://a": false, "/srv/http://": false, "http": false} {
		if IsAddress(arg) != want {
			t.Errorf("%s is an address: %t", arg, !want)
		}
	}
}

// content is longer than what counts as progress.
var content = bytes.Repeat([]byte("0123456789abcdef"), (3*progress)/16)

// fake opens a fake registry. It has the path /prefix, and asks answer for each blob.
func fake(t *testing.T, o Options, answer func(n int, w http.ResponseWriter, r *http.Request)) (r *Registry, asked *atomic.Int32) {
	t.Helper()
	asked = new(atomic.Int32)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/prefix/v2/" {
			return
		}
		if r.URL.Path != "/prefix/v2/app/blobs/sha256:x" && r.URL.Path != "/prefix/v2/second/blobs/sha256:x" {
			t.Errorf("it is asked for %s", r.URL)
		}
		answer(int(asked.Add(1)), w, r)
	}))
	t.Cleanup(server.Close)
	o.Transport.Haste = 1000
	r, err := Open(t.Context(), server.URL+"/prefix/", o)
	if err != nil {
		t.Fatal(err)
	}
	return r, asked
}

func fetch(t *testing.T, r *Registry) (string, error) {
	var got bytes.Buffer
	err := r.Fetch(t.Context(), "sha256:x", []string{"app"}, false, &got)
	return got.String(), err
}

func cut(w http.ResponseWriter) {
	w.(http.Flusher).Flush()
	connection, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		err = connection.Close()
	}
	if err != nil {
		panic(err)
	}
}

// TestTransientFailuresAreRetried: the server is a fake that fails before it answers.
func TestTransientFailuresAreRetried(t *testing.T) {
	status := func(code int) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) { w.Header().Set("Retry-After", "30"); w.WriteHeader(code) }
	}
	for name, test := range map[string]struct {
		fails func(w http.ResponseWriter)
		asked int32
	}{
		"500": {status(500), fetchTries}, "503": {status(503), fetchTries}, "429": {status(429), fetchTries}, "408": {status(408), fetchTries},
		"reset": {cut, fetchTries}, "400": {status(400), 1}, "501": {status(501), 1}, "403": {status(403), 1},
	} {
		for failures, ok := range map[int]bool{fetchTries - 1: test.asked > 1, fetchTries: false} {
			r, asked := fake(t, Options{}, func(n int, w http.ResponseWriter, _ *http.Request) {
				if n <= failures {
					test.fails(w)
					return
				}
				w.Write(content)
			})
			got, err := fetch(t, r)
			if (err == nil) != ok || ok && got != string(content) || asked.Load() != test.asked {
				t.Errorf("%s, %d failures: %v after %d requests", name, failures, err, asked.Load())
			}
		}
	}
}

// TestABrokenDownloadContinues: the server is a fake that breaks more connections than there are tries, each after some
// progress. It knows ranges or not.
func TestABrokenDownloadContinues(t *testing.T) {
	const pieces = fetchTries + 2
	content := bytes.Repeat(content, pieces/2)
	for _, ranges := range []bool{true, false} {
		r, asked := fake(t, Options{}, func(n int, w http.ResponseWriter, r *http.Request) {
			from, last := 0, len(content)
			if header := r.Header.Get("Range"); (header == "") != (n == 1) {
				t.Errorf("request %d has the range %q", n, header)
			} else if header != "" {
				fmt.Sscanf(header, "bytes=%d-", &from)
			}
			if n < pieces {
				last = n * len(content) / pieces
			}
			if ranges && from > 0 {
				w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(content)-1, len(content)))
				w.Header().Set("Content-Length", fmt.Sprint(len(content)-from))
				w.WriteHeader(http.StatusPartialContent)
				w.Write(content[from:last])
			} else {
				w.Header().Set("Content-Length", fmt.Sprint(len(content)))
				w.Write(content[:last])
			}
			if n < pieces {
				cut(w)
			}
		})
		if got, err := fetch(t, r); err != nil || got != string(content) || asked.Load() != pieces {
			t.Errorf("ranges %t: %d bytes of %d after %d requests: %v", ranges, len(got), len(content), asked.Load(), err)
		}
	}
	// A server that continues elsewhere would give other content.
	r, _ := fake(t, Options{}, func(n int, w http.ResponseWriter, _ *http.Request) {
		if n == 1 {
			w.Header().Set("Content-Length", "10")
			w.Write([]byte("12345"))
			cut(w)
		}
		w.Header().Set("Content-Range", "bytes 3-9/10")
		w.WriteHeader(http.StatusPartialContent)
	})
	if got, err := fetch(t, r); err == nil {
		t.Errorf("it continued elsewhere: %q", got)
	}
}

// TestASilentRegistryEndsTheFetch: the server is a fake that sends nothing, or a part and then nothing. Once it does not
// answer at all, later fetches fail at once.
func TestASilentRegistryEndsTheFetch(t *testing.T) {
	for name, answers := range map[string]bool{"before the answer": false, "within the answer": true} {
		release := make(chan struct{})
		r, asked := fake(t, Options{Transport: storage.Transport{Silence: 600}}, func(_ int, w http.ResponseWriter, _ *http.Request) {
			if answers {
				w.Header().Set("Content-Length", "10")
				w.Write([]byte("12345"))
				w.(http.Flusher).Flush()
			}
			<-release
		})
		for i := range 2 {
			if _, err := fetch(t, r); !errors.Is(err, errSilent) {
				t.Errorf("%s: %v", name, err)
			}
			want := int32(silentTries)
			if answers {
				want *= int32(i + 1)
			}
			if asked.Load() != want {
				t.Errorf("%s: %d requests, want %d", name, asked.Load(), want)
			}
		}
		cancelled, cancel := context.WithCancel(t.Context())
		cancel()
		if err := r.Fetch(cancelled, "sha256:x", []string{"app"}, false, new(bytes.Buffer)); answers && !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
		close(release)
	}
}

// TestARedirectHasNoPassword: a registry redirects to the server of its bucket, which has another port of the same host. Both
// servers are fakes.
func TestARedirectHasNoPassword(t *testing.T) {
	bucket := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" || r.Header.Get("Referer") != "" || r.URL.RawQuery != "signature=secret" {
			t.Errorf("the bucket is asked for %s with %v", r.URL, r.Header)
			w.WriteHeader(400)
			return
		}
		w.Write(content)
	}))
	t.Cleanup(bucket.Close)
	var passwords atomic.Int32
	o := Options{Credentials: func(context.Context, string) (string, string, error) { return "ann", "secret", nil }}
	r, _ := fake(t, o, func(_ int, w http.ResponseWriter, r *http.Request) {
		if username, password, _ := r.BasicAuth(); username != "ann" || password != "secret" {
			w.Header().Set("WWW-Authenticate", "Basic realm=x")
			w.WriteHeader(401)
			return
		}
		passwords.Add(1)
		http.Redirect(w, r, bucket.URL+"/blob?signature=secret", http.StatusTemporaryRedirect)
	})
	if got, err := fetch(t, r); err != nil || got != string(content) || passwords.Load() != 1 {
		t.Errorf("%d bytes, %d passwords: %v", len(got), passwords.Load(), err)
	}
	bucket.Close()
	if _, err := fetch(t, r); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("the bucket does not answer: %v", err)
	}
}

// TestATokenServerGetsThePasswordOverTLSOnly: the registry and the token server are fakes on different hosts. The token of a
// pull has no more rights than that.
func TestATokenServerGetsThePasswordOverTLSOnly(t *testing.T) {
	o := Options{Credentials: func(context.Context, string) (string, string, error) { return "ann", "secret", nil }}
	r, _ := fake(t, o, func(_ int, w http.ResponseWriter, r *http.Request) {
		w.Header().Set("WWW-Authenticate", `Bearer realm="http://tokens.example.com/token"`)
		w.WriteHeader(401)
	})
	if _, err := fetch(t, r); !errors.Is(err, registryauth.ErrInClear) {
		t.Errorf("a token server in the clear: %v", err)
	}
	var scopes []string
	tokens := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		scopes = append(scopes, r.URL.Query().Get("scope"))
		fmt.Fprintf(w, `{"token": "token%d"}`, len(scopes))
	}))
	t.Cleanup(tokens.Close)
	r, asked := fake(t, o, func(n int, w http.ResponseWriter, r *http.Request) {
		// The first token has expired when it is used again.
		if token := r.Header.Get("Authorization"); n == 2 && token == "Bearer token1" || token == "Bearer token2" {
			w.Write(content)
			return
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf("Bearer realm=%q", tokens.URL))
		w.WriteHeader(401)
	})
	for range 3 {
		if got, err := fetch(t, r); err != nil || got != string(content) {
			t.Errorf("%d bytes: %v", len(got), err)
		}
	}
	if want := "repository:app:pull repository:app:pull"; strings.Join(scopes, " ") != want || asked.Load() != 5 {
		t.Errorf("%d requests with tokens for %q", asked.Load(), scopes)
	}
}

// TestADeniedRepositoryDoesNotEndTheSearch: the registry is a fake. One repository is private, one lacks the blob.
func TestADeniedRepositoryDoesNotEndTheSearch(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch repository, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"), "/"); repository {
		case "private":
			w.WriteHeader(http.StatusForbidden)
		case "lacks":
			w.WriteHeader(http.StatusNotFound)
		default:
			w.Write(content)
		}
	}))
	t.Cleanup(server.Close)
	r, err := Open(t.Context(), server.URL, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for repositories, want := range map[string]string{"private lacks public": "", "private lacks": "private: the registry answers 403", "lacks": fs.ErrNotExist.Error()} {
		err := r.Fetch(t.Context(), "sha256:x", strings.Fields(repositories), false, new(bytes.Buffer))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", repositories, err)
		}
	}
}

// The next repository goes on where one has broken off.
func TestTheNextRepositoryGoesOn(t *testing.T) {
	t.Parallel()
	r, _ := fake(t, Options{}, func(n int, w http.ResponseWriter, r *http.Request) {
		switch {
		case n == 1:
			w.Header().Set("Content-Length", "10")
			w.Write([]byte("01234"))
			cut(w)
		case strings.Contains(r.URL.Path, "/app/"):
			w.WriteHeader(http.StatusForbidden)
		default:
			w.Write([]byte("0123456789"))
		}
	})
	var content bytes.Buffer
	if err := r.Fetch(t.Context(), "sha256:x", []string{"app", "second"}, false, &content); err != nil || content.String() != "0123456789" {
		t.Errorf("%q, %v", &content, err)
	}
}

// A connection that breaks after the last byte has sent all of it.
func TestABreakAfterTheLastByte(t *testing.T) {
	t.Parallel()
	r, _ := fake(t, Options{}, func(_ int, w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Range") != "" {
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			return
		}
		w.Write([]byte("0123456789"))
		w.(http.Flusher).Flush()
		cut(w)
	})
	var content bytes.Buffer
	if err := r.Fetch(t.Context(), "sha256:x", []string{"app"}, false, &content); err != nil || content.String() != "0123456789" {
		t.Errorf("%q, %v", &content, err)
	}
}
