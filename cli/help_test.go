package cli

import (
	"strings"
	"testing"
)

// People copy a URL, so it must not be divided.
func TestAURLInHelpIsNotDivided(t *testing.T) {
	const url = "'s3://bucket/prefix?region=eu-west-1'"
	if help := foldHelp("       "+url+"\n", 40); !strings.Contains(help, url) {
		t.Errorf("%q", help)
	}
}
