package human

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

var errAge = errors.New("want an age such as 90m, 36h or 7d")

// ParseAge parses an age: a duration in Go's format, or a whole number of days, such as 7d.
func ParseAge(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.Atoi(days)
		if err != nil || n < 0 || n > 36500 {
			return 0, errAge
		}
		return time.Duration(n) * 24 * time.Hour, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, errAge
	}
	return d, nil
}
