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

// A registry that answers 401 names, in WWW-Authenticate, a way to be let in: basic
// authentication, or a token server to fetch a bearer token from. Source:
// the distribution-spec's and Distribution's docs/content/spec/auth/token.md.

// errNoCredentials means that a username and password are asked for and not given.
var errNoCredentials = errors.New("no username and password given")

// errNotForIt means that those that were given are not for this address.
var errNotForIt = errors.New("no username and password for this address")

// errNotAccepted means that those that were given are wrong.
var errNotAccepted = errors.New("were not accepted")

// errNotAllowed means that they are right, and that the user may not do what was asked.
var errNotAllowed = errors.New("not allowed")

// errInClear means that a password would go to another host without TLS.
var errInClear = errors.New("the password is not sent there in the clear")

// challenge is one way in.
type challenge struct {
	scheme string // lower case
	params map[string]string
}

// parseChallenges reads WWW-Authenticate headers (RFC 9110, section 11.6.1): a header
// may hold several challenges, and a value may be quoted and hold commas.
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

// authorize answers a 401 for a request that concerns a repository: it returns the
// Authorization header to try again with.
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

// credentials finds the username and password for the endpoint, once. Those of --username
// are for the addresses that the user named, or else for config.yml's own address. If the
// user says that the registry is stopped, config.yml's own address gets no password: whoever
// listens there is not the registry.
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

// token fetches a token to pull from a repository and push to it: with the
// credentials where there are any, as nobody in particular where there are none.
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

// maxTokenAnswer is in bytes; real tokens have a few thousand.
const maxTokenAnswer = 1 << 20
