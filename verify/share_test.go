package verify

import (
	"testing"
	"time"
)

func TestParseShare(t *testing.T) {
	for text, want := range map[string]Share{
		"100%": {}, "5%": {Percent: 5}, "0.5%": {Percent: 0.5}, " 7 % ": {Percent: 7},
		"50GB": {Bytes: 50e9}, "50gib": {Bytes: 50 << 30}, "1.5T": {Bytes: 3 << 39}, "30M": {Bytes: 30 << 20}, "1b": {Bytes: 1},
		"30m": {Time: 30 * time.Minute}, "1h30m": {Time: 90 * time.Minute}, "2d": {Time: 48 * time.Hour}, "90s": {Time: 90 * time.Second},
	} {
		if got, err := ParseShare(text); err != nil || got != want {
			t.Errorf("%q is %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "0", "0%", "0m", "0GB", "0.1b", "101%", "-5%", "-30m", "500", "5%%", "50 XB", "NaN%", "1e3GB", "Inf", "9999999999TB", "all", "%", "m"} {
		if got, err := ParseShare(text); err != errShare {
			t.Errorf("%q is %+v, %v", text, got, err)
		}
	}
}
