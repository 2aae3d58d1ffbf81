package guard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// A registry that answers 401 names a kind of authentication in WWW-Authenticate: basic
// authentication, or a token server that returns a bearer token. Source:
// the distribution-spec's and Distribution's docs/content/spec/auth/token.md.

// errNoCredentials means that the registry requires a username and a password, and the user gave none.
var errNoCredentials = errors.New("no username and password given")

// errNotForIt means that the given username and password are not for this address.
var errNotForIt = errors.New("no username and password for this address")

// errNotAccepted means that the username or the password is wrong.
var errNotAccepted = errors.New("were not accepted")

// errNotAllowed means that the password is right, but the user may not push.
var errNotAllowed = errors.New("not allowed")

// errInClear means that a password would be sent to another host without TLS.
var errInClear = errors.New("the password is not sent there in the clear")

// challenge is one kind of authentication that a registry accepts.
type challenge struct {
	scheme string // lower case
	params map[string]string
}

// parseChallenges parses WWW-Authenticate headers (RFC 9110, section 11.6.1). A header
// may have several challenges, and a value may be quoted and contain commas.
func parseChallenges(headers []string) []challenge {
	var found []challenge
	for _, header := range headers {
		for _, item := range splitUnquoted(header) {
			scheme, rest, spaced := strings.Cut(item, " ")
			if !strings.Contains(scheme, "=") {
				found = append(found, challenge{strings.ToLower(scheme), map[string]string{}})
				if item = strings.TrimSpace(rest); !spaced || item == "" {
					continue
				}
			}
			if key, value, ok := strings.Cut(item, "="); ok && len(found) > 0 {
				found[len(found)-1].params[strings.ToLower(strings.TrimSpace(key))] = unquote(strings.TrimSpace(value))
			}
		}
	}
	return found
}

// splitUnquoted splits at the commas that are outside quotes.
func splitUnquoted(s string) []string {
	var items []string
	inQuotes, begin := false, 0
	for i := 0; i <= len(s); i++ {
		switch {
		case i == len(s) || s[i] == ',' && !inQuotes:
			if item := strings.TrimSpace(s[begin:i]); item != "" {
				items = append(items, item)
			}
			begin = i + 1
		case s[i] == '"':
			inQuotes = !inQuotes
		case s[i] == '\\' && inQuotes:
			i++
			if i == len(s) {
				i--
			}
		}
	}
	return items
}

func unquote(s string) string {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return s
	}
	return strings.ReplaceAll(strings.ReplaceAll(s[1:len(s)-1], `\"`, `"`), `\\`, `\`)
}

// authorize returns the Authorization header for the second try of a request that was
// answered with 401. The request concerns a repository.
func (p *prober) authorize(ctx context.Context, repository string, headers []string) (string, error) {
	if err := p.credentials(ctx); err != nil {
		return "", err
	}
	basic := false
	for _, c := range parseChallenges(headers) {
		for key, sign := range map[string]string{"realm": harborRealm, "service": harborService} {
			if c.params[key] == sign {
				p.harbor = key + " " + sign
			}
		}
		switch c.scheme {
		case "bearer":
			token, err := p.token(ctx, repository, c.params)
			if err != nil {
				return "", err
			}
			return "Bearer " + token, nil
		case "basic":
			basic = true
		}
	}
	if !basic {
		return "", errors.New("the registry asks for a kind of authentication that is not known here")
	}
	if p.username == "" {
		return "", p.missing
	}
	request := http.Request{Header: http.Header{}}
	request.SetBasicAuth(p.username, p.password)
	return request.Header.Get("Authorization"), nil
}

// credentials finds the username and password for the endpoint, once. --username is for the
// addresses that the user named or, if there are none, for config.yml's own address. If the
// user says that the registry is stopped, config.yml's own address gets no password: the
// program that listens there is not the registry.
func (p *prober) credentials(ctx context.Context) (err error) {
	if p.missing != nil {
		return nil
	}
	o, e := p.options, p.endpoint
	missing := errNoCredentials
	switch {
	case !e.named && o.Stopped,
		!e.named && o.Username != "" && len(o.Endpoints) > 0 && !slices.Contains(e.alsoNamed, p.address):
		missing = errNotForIt
	case o.Username != "":
		p.username, p.password = o.Username, o.Password
	case o.Credentials != nil:
		for _, host := range e.accounts(o) {
			if p.username, p.password, err = o.Credentials(ctx, host); err != nil {
				return err
			}
			if p.username != "" {
				break
			}
		}
	}
	p.missing = missing
	return nil
}

// token fetches a token to pull from a repository and push to it. It sends the credentials if
// there are any. Otherwise it requests an anonymous token.
func (p *prober) token(ctx context.Context, repository string, params map[string]string) (string, error) {
	realm, err := url.Parse(params["realm"])
	if err != nil || realm.Host == "" || realm.Scheme != "http" && realm.Scheme != "https" {
		return "", errors.New("the registry names no token server that can be asked")
	}
	if p.username != "" && !p.endpoint.takesPassword(realm) {
		return "", fmt.Errorf("the registry sends to a token server at http://%s: %w", realm.Host, errInClear)
	}
	query := realm.Query()
	if service := params["service"]; service != "" {
		query.Set("service", service)
	}
	scope := "repository:" + repository + ":pull,push"
	if repository == "" {
		scope = "registry:catalog:*"
	}
	query.Set("scope", scope)
	realm.RawQuery = query.Encode()
	ctx, cancel := context.WithTimeout(ctx, p.options.timeout())
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, realm.String(), nil)
	if err != nil {
		return "", fmt.Errorf("ask token server %s: %w", realm.Host, err)
	}
	request.Header.Set("User-Agent", userAgent)
	if p.username != "" {
		request.SetBasicAuth(p.username, p.password)
	}
	response, err := p.tokens.Do(request)
	if err != nil {
		return "", fmt.Errorf("ask token server %s: %w", realm.Host, bare(err))
	}
	content, err := io.ReadAll(io.LimitReader(response.Body, maxTokenAnswer))
	if err = errors.Join(err, response.Body.Close()); err != nil {
		return "", fmt.Errorf("ask token server %s: %w", realm.Host, bare(err))
	}
	switch {
	case response.StatusCode == http.StatusUnauthorized || response.StatusCode == http.StatusForbidden:
		if p.username == "" {
			return "", p.missing
		}
		return "", errNotAccepted
	case response.StatusCode != http.StatusOK:
		return "", fmt.Errorf("token server %s answers %s", realm.Host, response.Status)
	}
	var answer struct {
		Token       string `json:"token"`
		AccessToken string `json:"access_token"`
	}
	if err := json.Unmarshal(content, &answer); err != nil || answer.Token == "" && answer.AccessToken == "" {
		return "", fmt.Errorf("token server %s answers without a token", realm.Host)
	}
	if answer.Token == "" {
		return answer.AccessToken, nil
	}
	return answer.Token, nil
}

// maxTokenAnswer is the largest answer of a token server, in bytes. Real tokens have a few thousand.
const maxTokenAnswer = 1 << 20
