package guard

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"

	"regsweep/internal/registryauth"
)

func entry(r reply, repository string) (meaning string, way remedy) {
	switch {
	case errors.Is(r.denied, registryauth.ErrNoCredentials):
		return "asks for a username and password", remedy{logIn, repository}
	case errors.Is(r.denied, errNotForIt):
		return "asks for a username and password, which go only to an address that --registry names", remedy{nameAll, ""}
	case errors.Is(r.denied, registryauth.ErrNotAccepted):
		return "the username and password " + r.denied.Error(), remedy{logIn, repository}
	case r.denied == nil, errors.Is(r.denied, errNotAllowed):
		return "does not let this user push to " + repository, remedy{logIn, repository}
	}
	if errors.Is(r.denied, registryauth.ErrInClear) {
		return cause(r.denied), remedy{tokenOverTLS, ""}
	}
	return cause(r.denied), remedy{logIn, repository}
}

func status(r reply) string {
	return strings.TrimSpace(fmt.Sprintf("%d %s", r.status, http.StatusText(r.status)))
}

// statusAndCode returns the status of an answer, with the registry's error code if it has one.
func statusAndCode(r reply) (seen, code string) {
	if code = errorCode(r.body); code == "" {
		return status(r), ""
	}
	return status(r) + " " + code, code
}

// cause returns the text of the innermost error, on one line that is short enough for a table.
func cause(err error) string {
	var operation *net.OpError
	if errors.As(err, &operation) {
		err = operation.Err
	}
	text := strings.Join(strings.Fields(err.Error()), " ")
	if runes := []rune(text); len(runes) > 200 {
		text = string(runes[:200]) + "…"
	}
	return text
}

// errorCode returns the first code in an error body of the distribution-spec, or "".
func errorCode(body string) string {
	var parsed struct {
		Errors []struct {
			Code string `json:"code"`
		} `json:"errors"`
	}
	if err := json.Unmarshal([]byte(body), &parsed); err != nil || len(parsed.Errors) == 0 {
		return ""
	}
	code := parsed.Errors[0].Code
	for _, c := range code {
		if (c < 'A' || c > 'Z') && c != '_' {
			return ""
		}
	}
	return code
}

// redirect returns the endpoint in a Location, without the parts that may be secret.
func redirect(from url.URL, location string) string {
	to, err := from.Parse(location)
	if err != nil || location == "" {
		return "nowhere"
	}
	path := strings.TrimRight(strings.TrimSuffix(strings.TrimRight(to.Path, "/"), "/v2"), "/")
	return (&url.URL{Scheme: to.Scheme, Host: to.Host, Path: path}).String()
}
