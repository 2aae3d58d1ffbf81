package human_test

import (
	"testing"
	"time"
	_ "time/tzdata"

	"regsweep/internal/human"
)

func TestTheNextTimeOfTheDay(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, start, until, want string }{
		{"later today", "2026-12-01T02:00:00+01:00", "06:00", "2026-12-01T06:00:00+01:00"},
		{"tomorrow", "2026-12-01T22:00:00+01:00", "06:00", "2026-12-02T06:00:00+01:00"},
		{"not now", "2026-12-01T06:00:00+01:00", "06:00", "2026-12-02T06:00:00+01:00"},
		{"in a moment", "2026-12-01T05:59:59+01:00", "6:00", "2026-12-01T06:00:00+01:00"},
		{"the end of a year", "2026-12-31T23:00:00+01:00", "00:30", "2027-01-01T00:30:00+01:00"},
		{"the night has 23 hours", "2026-03-28T22:00:00+01:00", "06:00", "2026-03-29T06:00:00+02:00"},
		{"before the clock is set forward", "2026-03-29T01:30:00+01:00", "06:00", "2026-03-29T06:00:00+02:00"},
		{"the night has 25 hours", "2026-10-24T22:00:00+02:00", "06:00", "2026-10-25T06:00:00+01:00"},
		{"twice, the first", "2026-10-25T01:00:00+02:00", "02:30", "2026-10-25T02:30:00+02:00"},
		{"twice, the second", "2026-10-25T02:45:00+02:00", "02:30", "2026-10-25T02:30:00+01:00"},
		{"twice, and both have gone", "2026-10-25T02:45:00+01:00", "02:30", "2026-10-26T02:30:00+01:00"},
		{"a time with its date", "2026-12-01T22:00:00+01:00", "2026-12-24T05:00:00Z", "2026-12-24T06:00:00+01:00"},
	} {
		m, err := human.ParseMoment(test.until)
		if err != nil || m.String() != test.until {
			t.Errorf("%s: %q, %v", test.name, m, err)
		}
		start, want := at(t, test.start).In(berlin), at(t, test.want)
		if got := m.After(start); !got.Equal(want) {
			t.Errorf("%s: %s after %s is %s, want %s", test.name, test.until, start, got, want)
		}
	}
	// The clock skips 02:30 on this day.
	m, err := human.ParseMoment("02:30")
	if err != nil {
		t.Fatal(err)
	}
	start := at(t, "2026-03-29T00:00:00+01:00").In(berlin)
	if got := m.After(start); !got.After(start) || got.Sub(start) > 4*time.Hour {
		t.Errorf("a time that this day does not have is %s", got)
	}
	for _, text := range []string{"", "6", "24:00", "06:60", "6am", "now", "06:00:00", "2026-12-24", "2026-12-24T06:00:00"} {
		if _, err := human.ParseMoment(text); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}

func at(t *testing.T, text string) time.Time {
	t.Helper()
	parsed, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}
