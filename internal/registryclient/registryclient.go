// Package registryclient fetches content by its digest from a registry.
package registryclient

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"regsweep/internal/registryauth"
	"regsweep/storage"
	"regsweep/storage/pace"

	"github.com/opencontainers/go-digest"
)

// IsAddress reports whether an argument is meant as the URL of a registry.
func IsAddress(arg string) bool {
	scheme, _, found := strings.Cut(strings.ToLower(arg), "://")
	return found && (scheme == "http" || scheme == "https")
}

// Options configure Open.
type Options struct {
	// Credentials finds the username and the password that were saved for a host (host:port), or returns "". They
	// are sent only to that host and its token server. nil finds none.
	Credentials func(ctx context.Context, host string) (username, password string, err error)
	// TLS has the trusted certificates. nil means the system's roots.
	TLS *tls.Config
	// Transport shortens the waits. Its Wrap is not used.
	Transport storage.Transport
}

const (
	// silentFor is how long a registry may send nothing before a request counts as failed.
	silentFor = time.Minute
	// longestRest is the longest wait that a registry may ask for.
	longestRest = time.Minute
	// fetchTries is how often a request is sent without progress, and silentTries how often if the registry sends
	// nothing.
	fetchTries, silentTries = 5, 2
	// progress is how many bytes must arrive for a try not to count.
	progress = 1 << 20
)

// manifestTypes are what a registry is asked for. It answers 404 if the type of the manifest is missing.
var manifestTypes = []string{
	"application/vnd.oci.image.index.v1+json", "application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.artifact.manifest.v1+json",
	"application/vnd.docker.distribution.manifest.list.v2+json", "application/vnd.docker.distribution.manifest.v2+json",
	"application/vnd.docker.distribution.manifest.v1+prettyjws", "application/vnd.docker.distribution.manifest.v1+json", "*/*",
}

// Open returns the registry at http(s)://host:port/prefix. It sends one request, to find out whether a registry
// answers. The error is a *storage.UsageError if the address is not valid, or if what answers is no registry.
func Open(ctx context.Context, address string, o Options) (*Registry, error) {
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Hostname() == "" || !IsAddress(address):
		return nil, storage.Usagef("the address of a registry is a URL: write it as http://host:port or https://host")
	case u.User != nil:
		return nil, storage.Usagef("%s://…@%s: a password does not belong on the command line: use docker login %s", u.Scheme, u.Host, u.Host)
	case u.RawQuery != "" || u.Fragment != "":
		return nil, storage.Usagef("%s://%s: the address of a registry has no ? and no #", u.Scheme, u.Host)
	}
	path := strings.TrimRight(strings.TrimSuffix(strings.TrimRight(u.Path, "/"), "/v2"), "/")
	transport := http.DefaultTransport.(*http.Transport).Clone() // proxies come from the environment
	if transport.TLSClientConfig = (&tls.Config{MinVersion: tls.VersionTLS12}); o.TLS != nil {
		transport.TLSClientConfig = o.TLS.Clone()
	}
	// With HTTP/2 a retry would use the connection that has failed.
	transport.ForceAttemptHTTP2, transport.TLSNextProto = false, map[string]func(string, *tls.Conn) http.RoundTripper{}
	transport.DisableCompression = true // the digest is that of the bytes as they are sent
	transport.MaxResponseHeaderBytes = 64 << 10
	r := &Registry{
		url: url.URL{Scheme: u.Scheme, Host: u.Host, Path: path}, options: o, silence: o.Transport.SilentAfter(silentFor),
		retries:       pace.DefaultRetries.Hasten(o.Transport),
		client:        &http.Client{Transport: transport, CheckRedirect: withoutPassword},
		tokens:        &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
		authorization: map[string]string{},
	}
	err = r.retry(ctx, func() (int64, error) { return r.get(ctx, "", "/v2/", nil, 0, nil) })
	var answered *statusError
	switch errors.As(err, &answered); {
	case err == nil, isDenied(err): // a repository may be public
		return r, nil
	case answered != nil && !pace.Transient(err):
		return nil, storage.Usagef("%s: %w: is a registry at this address?", r, err)
	}
	return nil, fmt.Errorf("%s: %w", r, err)
}

// withoutPassword follows a redirect, for example to the bucket of the registry. The Authorization header goes only to the
// registry itself. Object storage refuses requests that have it.
func withoutPassword(next *http.Request, before []*http.Request) error {
	if len(before) >= 10 {
		return errors.New("ten redirects in a row")
	}
	if first := before[0].URL; next.URL.Scheme != first.Scheme || next.URL.Host != first.Host {
		next.Header.Del("Authorization")
	}
	next.Header.Del("Referer")
	return nil
}

// Registry is a registry from which content is fetched. Its methods may be called concurrently.
type Registry struct {
	url            url.URL
	options        Options
	client, tokens *http.Client
	retries        pace.Retries
	silence        time.Duration
	answers        atomic.Int64
	lost           atomic.Pointer[error] // set once the registry does not answer any more

	mu            sync.Mutex
	authorization map[string]string // the header that was accepted, by repository
}

func (r *Registry) String() string { return r.url.String() }

// Fetch writes the content with a digest to w, and does not verify it. It asks for the content in each of the
// repositories, in order, and continues after a connection has broken. The error is fs.ErrNotExist (wrapped) if none of
// them has it.
func (r *Registry) Fetch(ctx context.Context, d digest.Digest, repositories []string, isManifest bool, w io.Writer) error {
	var denied error
	written := int64(0) // also by repositories that broke off
	for _, repository := range repositories {
		path, accept := "/v2/"+repository+"/blobs/"+string(d), []string(nil)
		if isManifest {
			path, accept = "/v2/"+repository+"/manifests/"+string(d), manifestTypes
		}
		err := r.retry(ctx, func() (int64, error) {
			n, err := r.get(ctx, repository, path, accept, written, w)
			written += n
			return n, err
		})
		var answered *statusError
		switch errors.As(err, &answered); {
		case err == nil:
			return nil
		case isDenied(err): // another repository may be public
			denied = fmt.Errorf("%s: %w", repository, err)
		case answered == nil || answered.status != http.StatusNotFound:
			return fmt.Errorf("%s: %w", repository, err)
		}
	}
	if denied != nil {
		return denied
	}
	return storage.NotExist("fetch", string(d))
}

// isDenied reports whether the registry wants another user.
func isDenied(err error) bool {
	status := pace.ErrorStatus(err)
	return errors.Is(err, registryauth.ErrNoCredentials) || status == http.StatusUnauthorized || status == http.StatusForbidden
}

// retry calls op until it succeeds, fails for good, or has had its tries. op returns how many bytes have arrived. If the
// registry has answered nothing meanwhile, all later calls fail at once: each would wait for minutes.
func (r *Registry) retry(ctx context.Context, op func() (int64, error)) error {
	if lost := r.lost.Load(); lost != nil {
		return *lost
	}
	answers := r.answers.Load()
	for try := 1; ; try++ {
		n, err := op()
		if n >= progress {
			try = 1
		}
		tries := fetchTries
		if pace.TimedOut(err) != nil {
			tries = silentTries
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil || !pace.Transient(err):
			return err
		case try >= tries:
			if r.answers.Load() == answers {
				r.lost.Store(&err)
			}
			return err
		}
		var answered *statusError
		if errors.As(err, &answered) {
			rest := r.options.Transport.Wait(min(answered.after, longestRest))
			select {
			case <-time.After(rest):
			case <-ctx.Done():
			}
		}
		if err := r.retries.Wait(ctx, try); err != nil {
			return err
		}
	}
}

// get requests a path, from a byte on, and writes the answer to w, if w is not nil. It returns how many bytes it has
// written.
func (r *Registry) get(ctx context.Context, repository, path string, accept []string, from int64, w io.Writer) (n int64, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := time.AfterFunc(r.silence, func() { cancel(errSilent) })
	defer timer.Stop()
	defer func() {
		if err != nil && context.Cause(ctx) == errSilent {
			err = errSilent
		}
	}()
	r.mu.Lock()
	authorization := r.authorization[repository]
	r.mu.Unlock()
	response, err := r.send(ctx, path, accept, from, authorization)
	if err == nil && response.StatusCode == http.StatusUnauthorized {
		err = response.Body.Close()
		if err == nil {
			authorization, err = r.authorize(ctx, repository, response.Header.Values("WWW-Authenticate"))
		}
		if err == nil {
			timer.Reset(r.silence)
			response, err = r.send(ctx, path, accept, from, authorization)
		}
		if err == nil && response.StatusCode == http.StatusUnauthorized && strings.HasPrefix(authorization, "Basic ") {
			err = errors.Join(notAccepted(registryauth.ErrNotAccepted), response.Body.Close())
		}
	}
	if err != nil {
		return 0, err
	}
	defer func() {
		if closeErr := response.Body.Close(); err == nil {
			err = closeErr
		}
	}()
	skip := from
	switch response.StatusCode {
	case http.StatusOK:
		if w == nil {
			return 0, nil
		}
	case http.StatusPartialContent:
		if !strings.HasPrefix(response.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", from)) {
			return 0, fmt.Errorf("the registry does not go on at byte %d", from)
		}
		skip = 0
	case http.StatusRequestedRangeNotSatisfiable:
		if from > 0 { // the connection broke after the last byte
			return 0, nil
		}
		fallthrough
	default:
		seconds, _ := strconv.ParseUint(response.Header.Get("Retry-After"), 10, 31) // 0 if it is a date
		return 0, &statusError{response.StatusCode, time.Duration(seconds) * time.Second}
	}
	body := &watched{response.Body, timer, r.silence}
	if _, err := io.CopyN(io.Discard, body, skip); err != nil {
		return 0, err
	}
	return io.Copy(w, body)
}

func (r *Registry) send(ctx context.Context, path string, accept []string, from int64, authorization string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url.String()+path, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("User-Agent", "regsweep")
	if accept != nil {
		request.Header["Accept"] = accept
	}
	if from > 0 {
		request.Header.Set("Range", fmt.Sprintf("bytes=%d-", from))
	}
	if authorization != "" {
		request.Header.Set("Authorization", authorization)
	}
	response, err := r.client.Do(request)
	if err != nil {
		return nil, registryauth.Bare(err) // the URL of a redirect may have a signature
	}
	r.answers.Add(1)
	return response, nil
}

// authorize finds the Authorization header for a repository, and remembers it.
func (r *Registry) authorize(ctx context.Context, repository string, headers []string) (authorization string, err error) {
	account := registryauth.Account{
		Registry: r.url, Missing: registryauth.ErrNoCredentials, Tokens: r.tokens, UserAgent: "regsweep", Timeout: r.silence,
	}
	if r.options.Credentials != nil {
		if account.Username, account.Password, err = r.options.Credentials(ctx, r.url.Host); err != nil {
			return "", err
		}
	}
	scope := ""
	if repository != "" {
		scope = "repository:" + repository + ":pull"
	}
	if authorization, err = account.Authorize(ctx, registryauth.Challenges(headers), scope); err != nil {
		return "", notAccepted(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.authorization[repository] = authorization
	return authorization, nil
}

// notAccepted completes the sentence of an error of registryauth.
func notAccepted(err error) error {
	if errors.Is(err, registryauth.ErrNotAccepted) {
		return fmt.Errorf("the username and password %w", err)
	}
	return err
}

// watched is a body that is read. The timer ends the request if nothing arrives.
type watched struct {
	io.Reader
	timer   *time.Timer
	silence time.Duration
}

func (b *watched) Read(p []byte) (int, error) {
	b.timer.Reset(b.silence)
	defer b.timer.Stop() // the writer may be slow
	return b.Reader.Read(p)
}

// statusError is an answer that has no content.
type statusError struct {
	status int
	after  time.Duration // Retry-After, or 0
}

func (e *statusError) Error() string {
	return fmt.Sprintf("the registry answers %d %s", e.status, http.StatusText(e.status))
}
func (e *statusError) HTTPStatusCode() int { return e.status }

// errSilent is the error of a registry that has sent nothing for silentFor.
var errSilent error = silence{}

type silence struct{}

func (silence) Error() string { return "the registry sends nothing" }
func (silence) Timeout() bool { return true }
