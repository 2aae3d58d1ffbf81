package guard

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"

	"regsweep/internal/registryauth"
)

const (
	userAgent  = "regsweep-guard"
	apiVersion = "Docker-Distribution-Api-Version"
	// maxAnswer is how much of an answer is read, in bytes. Only its error code is needed.
	maxAnswer = 64 << 10
	// maxHeader is the largest size of all headers of an answer, in bytes.
	maxHeader = 64 << 10
)

// prober sends requests to one address of an endpoint. It is for one goroutine.
type prober struct {
	options  Options
	endpoint *endpoint
	address  string
	client   *http.Client // always dials address, and not the host of the URL
	// authorization is the header that was accepted, by repository.
	authorization map[string]string
	// account is for this address. Its Missing is nil until credentials has found the password.
	account registryauth.Account
	// database and harbor are signs that a database decides what is alive, or "".
	database, harbor string
}

func newProber(o Options, e *endpoint, address string) *prober {
	// Redirects are evidence and are not followed: the target is another server.
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &prober{
		options:  o,
		endpoint: e,
		address:  address,
		client: &http.Client{CheckRedirect: stay, Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return o.dial(ctx, e.network, address)
			},
			TLSClientConfig: e.clientTLS(o.TLS),
			// Each request has a new connection: several replicas may be behind one
			// address, and each may get one of the connections.
			DisableKeepAlives:      true,
			TLSHandshakeTimeout:    o.timeout(),
			MaxResponseHeaderBytes: maxHeader,
		}},
		account: registryauth.Account{
			Registry: e.url, UserAgent: userAgent, Timeout: o.timeout(),
			// Token servers have other addresses.
			Tokens: &http.Client{CheckRedirect: stay, Transport: &http.Transport{
				DialContext:            o.dial,
				TLSClientConfig:        o.TLS.Clone(), // nil stays nil
				DisableKeepAlives:      true,
				TLSHandshakeTimeout:    o.timeout(),
				MaxResponseHeaderBytes: maxHeader,
			}},
		},
		authorization: map[string]string{},
	}
}

// reply is an answer. Its body is cut off at maxAnswer.
type reply struct {
	status int
	header http.Header
	body   string
	// denied is why access was denied (401). It is nil for all other replies.
	denied error
}

// fromRegistry reports whether a registry itself wrote the reply, and not a server in
// front of it. Distribution sets this header on every answer.
func (r reply) fromRegistry() bool { return strings.HasPrefix(r.header.Get(apiVersion), "registry/2") }

// ask sends a request for path, which begins with /v2/ and concerns a repository.
// After a 401 it authenticates and sends the request once more. It then returns the second reply.
func (p *prober) ask(ctx context.Context, method, repository, path string, header http.Header, body string) (reply, error) {
	r, err := p.send(ctx, method, path, header, body, p.authorization[repository])
	if err != nil || r.status != http.StatusUnauthorized {
		return r, err
	}
	authorization, err := p.authorize(ctx, repository, r.header.Values("WWW-Authenticate"))
	if err != nil {
		r.denied = err
		return r, nil
	}
	p.authorization[repository] = authorization
	r, err = p.send(ctx, method, path, header, body, authorization)
	if err == nil && r.status == http.StatusUnauthorized {
		switch {
		case p.account.Username == "":
			r.denied = p.account.Missing
		case strings.HasPrefix(authorization, "Basic "):
			r.denied = registryauth.ErrNotAccepted
		default: // the token server has accepted the password
			r.denied = errNotAllowed
		}
	}
	return r, err
}

func (p *prober) send(ctx context.Context, method, path string, header http.Header, body, authorization string) (reply, error) {
	ctx, cancel := context.WithTimeout(ctx, p.options.timeout())
	defer cancel()
	u := p.endpoint.url
	path, u.RawQuery, _ = strings.Cut(path, "?")
	u.Path += path
	request, err := http.NewRequestWithContext(ctx, method, u.String(), strings.NewReader(body))
	if err != nil {
		return reply{}, err
	}
	for key, values := range header {
		request.Header[key] = values
	}
	request.Header.Set("User-Agent", userAgent)
	if authorization != "" {
		request.Header.Set("Authorization", authorization)
	}
	response, err := p.client.Do(request)
	if err != nil {
		return reply{}, registryauth.Bare(err)
	}
	if value := response.Header.Get(databaseHeader); isEnabled(value) {
		p.database = value
	}
	content, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err = errors.Join(err, response.Body.Close()); err != nil {
		return reply{}, registryauth.Bare(err)
	}
	return reply{status: response.StatusCode, header: response.Header, body: string(content)}, nil
}
