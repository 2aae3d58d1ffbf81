package storage

import (
	"fmt"
	"net/url"
	"strings"
)

// UsageError is a wrong argument, flag or configuration: one line that says what is
// wrong, where, and what to do. It carries no secret.
type UsageError struct{ err error }

func (e *UsageError) Error() string { return e.err.Error() }
func (e *UsageError) Unwrap() error { return e.err }

// Usagef makes a UsageError as fmt.Errorf would make an error.
func Usagef(format string, args ...any) error {
	return &UsageError{fmt.Errorf(format, args...)}
}

// WithoutUserinfo drops the user and password of a URL, and its query, which may
// be signed. What is no URL stays as it is.
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
