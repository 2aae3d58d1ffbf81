// Package registryauth finds the Authorization header that a registry asks for.
//
// A registry that answers 401 names a kind of authentication in WWW-Authenticate: basic
// authentication, or a token server that returns a bearer token. Source:
// the distribution-spec's and Distribution's docs/content/spec/auth/token.md.
package registryauth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// ErrNoCredentials means that the registry requires a username and a password, and the user gave none.
var ErrNoCredentials = errors.New("no username and password given")

// ErrNotAccepted means that the username or the password is wrong.
var ErrNotAccepted = errors.New("were not accepted")

// ErrInClear means that a password would be sent to another host without TLS.
var ErrInClear = errors.New("the password is not sent there in the clear")

// Challenge is one kind of authentication that a registry accepts.
type Challenge struct {
	Scheme string // lower case
	Params map[string]string
}

// Challenges parses WWW-Authenticate headers (RFC 9110, section 11.6.1). A header
// may have several challenges, and a value may be quoted and contain commas.
func Challenges(headers []string) []Challenge {
	var found []Challenge
	for _, header := range headers {
		for _, item := range splitUnquoted(header) {
			scheme, rest, spaced := strings.Cut(item, " ")
			if !strings.Contains(scheme, "=") {
				found = append(found, Challenge{strings.ToLower(scheme), map[string]string{}})
				if item = strings.TrimSpace(rest); !spaced || item == "" {
					continue
				}
			}
			if key, value, ok := strings.Cut(item, "="); ok && len(found) > 0 {
				found[len(found)-1].Params[strings.ToLower(strings.TrimSpace(key))] = unquote(strings.TrimSpace(value))
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

// Account is the account of a user at one registry.
type Account struct {
	// Registry is the address of the registry. Only its scheme and its host are used.
	Registry url.URL
	// Username is "" if the user has no account there. Missing is then the error if one is required.
	Username, Password string
	Missing            error
	// Tokens sends the requests to token servers. It should follow no redirects.
	Tokens    *http.Client
	UserAgent string
	// Timeout bounds a request to a token server.
	Timeout time.Duration
}

// Authorize returns the Authorization header for the second try of a request that was answered with 401. scope
// is for a token server, such as "repository:team/app:pull", or "".
func (a *Account) Authorize(ctx context.Context, challenges []Challenge, scope string) (string, error) {
	basic := false
	for _, c := range challenges {
		switch c.Scheme {
		case "bearer":
			token, err := a.token(ctx, scope, c.Params)
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
	if a.Username == "" {
		return "", a.Missing
	}
	request := http.Request{Header: http.Header{}}
	request.SetBasicAuth(a.Username, a.Password)
	return request.Header.Get("Authorization"), nil
}

// token fetches a token. It sends the credentials if there are any. Otherwise it requests an anonymous token.
func (a *Account) token(ctx context.Context, scope string, params map[string]string) (string, error) {
	realm, err := url.Parse(params["realm"])
	if err != nil || realm.Host == "" || realm.Scheme != "http" && realm.Scheme != "https" {
		return "", errors.New("the registry names no token server that can be asked")
	}
	if a.Username != "" && !a.mayBeSentTo(realm) {
		return "", fmt.Errorf("the registry sends to a token server at http://%s: %w", realm.Host, ErrInClear)
	}
	query := realm.Query()
	if service := params["service"]; service != "" {
		query.Set("service", service)
	}
	if scope != "" {
		query.Set("scope", scope)
	}
	realm.RawQuery = query.Encode()
	ctx, cancel := context.WithTimeout(ctx, a.Timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, realm.String(), nil)
	if err != nil {
		return "", fmt.Errorf("ask token server %s: %w", realm.Host, err)
	}
	request.Header.Set("User-Agent", a.UserAgent)
	if a.Username != "" {
		request.SetBasicAuth(a.Username, a.Password)
	}
	response, err := a.Tokens.Do(request)
	if err != nil {
		return "", fmt.Errorf("ask token server %s: %w", realm.Host, Bare(err))
	}
	content, err := io.ReadAll(io.LimitReader(response.Body, maxTokenAnswer))
	if err = errors.Join(err, response.Body.Close()); err != nil {
		return "", fmt.Errorf("ask token server %s: %w", realm.Host, Bare(err))
	}
	switch {
	case response.StatusCode == http.StatusUnauthorized || response.StatusCode == http.StatusForbidden:
		if a.Username == "" {
			return "", a.Missing
		}
		return "", ErrNotAccepted
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

// mayBeSentTo reports whether the password may be sent to a token server: over TLS, or without TLS on the same
// host if the registry itself has no TLS.
func (a *Account) mayBeSentTo(realm *url.URL) bool {
	from, to := a.Registry.Hostname(), realm.Hostname()
	return realm.Scheme == "https" || a.Registry.Scheme == "http" && (from == to || isLoopback(from) && isLoopback(to))
}

func isLoopback(host string) bool { return host == "localhost" || net.ParseIP(host).IsLoopback() }

// Bare removes the method and the URL that net/http puts before an error. The URL may have a signature.
func Bare(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		return wrapped.Err
	}
	return err
}

// maxTokenAnswer is the largest answer of a token server, in bytes. Real tokens have a few thousand.
const maxTokenAnswer = 1 << 20
