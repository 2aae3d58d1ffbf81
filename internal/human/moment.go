package human

import (
	"errors"
	"time"
)

// Moment is a time of the day, or a time with its date. The zero value is none.
type Moment struct {
	text  string
	time  time.Time
	daily bool // time has only an hour and a minute
}

// ParseMoment parses a time such as 06:00, or a time in RFC 3339.
func ParseMoment(text string) (Moment, error) {
	if at, err := time.Parse("15:04", text); err == nil {
		return Moment{text, at, true}, nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return Moment{}, errors.New("want a time of the day such as 06:00, or a time such as 2026-12-24T06:00:00+01:00")
	}
	return Moment{text, at, false}, nil
}

// String returns the text that was parsed, "" for the zero value.
func (m Moment) String() string { return m.text }

// After returns the first time after start at which it is that time of the day, in the location of start.
// A time with a date is itself.
func (m Moment) After(start time.Time) time.Time {
	for day := 0; m.daily; day++ {
		at := time.Date(start.Year(), start.Month(), start.Day()+day, m.time.Hour(), m.time.Minute(), 0, 0, start.Location())
		// If the clock is set back, a time of the day comes twice. at is one of the two.
		for _, other := range []time.Time{at.Add(-time.Hour), at, at.Add(time.Hour)} {
			if other.After(start) && (other.Equal(at) || other.Format("15:04") == at.Format("15:04")) {
				return other
			}
		}
	}
	return m.time
}
