package storage

import (
	"fmt"
	"net/url"
	"strings"
)

// UsageError is a wrong argument, flag or configuration. Its text is one line that says what is
// wrong, where it is, and what to do. It contains no secret.
type UsageError struct{ err error }

func (e *UsageError) Error() string { return e.err.Error() }
func (e *UsageError) Unwrap() error { return e.err }

// Usagef makes a UsageError as fmt.Errorf would make an error.
func Usagef(format string, args ...any) error {
	return &UsageError{fmt.Errorf(format, args...)}
}

// WithoutUserinfo removes the user, the password and the query of a URL. A query may contain a
// signature. Text without a "@" and a "?" is returned unchanged.
func WithoutUserinfo(s string) string {
	if !strings.Contains(s, "@") && !strings.Contains(s, "?") {
		return s
	}
	u, err := url.Parse(s)
	if err != nil {
		return "(not shown)"
	}
	u.User, u.RawQuery = nil, ""
	return u.String()
}
