package main

import (
	"testing"

	"regsweep/build/release"
)

func TestAVersionIsWrittenAsPackagesOrderIt(t *testing.T) {
	for of, want := range map[string]string{
		"v1.2.3":       "1.2.3",
		"v1.2.3-rc.1":  "1.2.3~rc.1",
		"v1.2.3+dirty": "1.2.3+dirty",
		"v0.0.0-20261201042459-d8ec36e0a1b2+dirty": "0.0.0~20261201042459.d8ec36e0a1b2+dirty",
		"(devel)": "0.0.0~devel",
	} {
		if got := version(release.Release{Version: of}); got != want {
			t.Errorf("%s is %s, want %s", of, got, want)
		}
	}
}
