package cli

import (
	"testing"
	"time"
)

func TestAgesAreDurationsOrDays(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "0s": 0, "90m": 90 * time.Minute, "36h": 36 * time.Hour, "7d": 168 * time.Hour, "0d": 0, "1h30m": 90 * time.Minute,
	} {
		var a age
		if err := a.Set(text); err != nil || a.Duration != want {
			t.Errorf("%q is %s, %v, want %s", text, a.Duration, err, want)
		}
	}
	for _, text := range []string{"", "d", "7", "-1h", "-1d", "1.5d", "7 d", "week", "99999999d", "1y", "+3d\n"} {
		a := age{time.Minute}
		if err := a.Set(text); err == nil {
			t.Errorf("%q is an age of %s", text, a.Duration)
		} else if a.Duration != time.Minute {
			t.Errorf("%q changes the age, although it is none", text)
		}
	}
}

func TestAnAgeReadsBackAsItIsWritten(t *testing.T) {
	for duration, want := range map[time.Duration]string{
		0: "0", 168 * time.Hour: "168h", 90 * time.Minute: "1h30m", 10 * time.Second: "10s",
		36*time.Hour + 10*time.Second: "36h0m10s", 10 * time.Hour: "10h", 10 * time.Minute: "10m",
	} {
		written := (&age{duration}).String()
		if written != want {
			t.Errorf("%s is written %q, want %q", duration, written, want)
		}
		var read age
		if err := read.Set(written); err != nil || read.Duration != duration {
			t.Errorf("%q reads as %s, %v, want %s", written, read.Duration, err, duration)
		}
	}
}
