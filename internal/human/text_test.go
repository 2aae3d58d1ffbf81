package human

import (
	"slices"
	"testing"
)

// People copy a URL, so it must not be divided. A path may be divided after a slash.
func TestAURLIsNotDivided(t *testing.T) {
	const url = "'s3://bucket/prefix?region=eu-west-1'"
	if got := Wrap("collect "+url+" now", 20); !slices.Equal(got, []string{"collect", url, "now"}) {
		t.Errorf("%q", got)
	}
	if got := Wrap("list repositories/team/app now", 20); !slices.Equal(got, []string{"list", "repositories/team/", "app now"}) {
		t.Errorf("%q", got)
	}
}
