package cli

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

// age is the value of a flag: a duration in Go's format, or a whole number of days, such as 7d.
type age struct{ time.Duration }

var errAge = errors.New("want an age such as 90m, 36h or 7d")

// Set implements urfave.Generic.
func (a *age) Set(text string) error {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.Atoi(days)
		if err != nil || n < 0 || n > 36500 {
			return errAge
		}
		a.Duration = time.Duration(n) * 24 * time.Hour
		return nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return errAge
	}
	a.Duration = d
	return nil
}

// String returns the age in the format that Set reads. It leaves out the zeros that Go adds: 36h for
// 36h0m0s.
func (a *age) String() string {
	if a == nil || a.Duration == 0 {
		return "0"
	}
	text := a.Duration.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
