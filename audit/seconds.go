package audit

import "time"

// seconds returns a time in seconds since 1970, or 0 if it is not known.
func seconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}
