package cli

import (
	"os"
	"path/filepath"
	"testing"
)

// TestATargetHasOneLabel: Prometheus would take two labels for two targets. A label has no secret.
func TestATargetHasOneLabel(t *testing.T) {
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for target, want := range map[string]string{
		"config.yml":        filepath.Join(here, "config.yml"),
		"./x/../config.yml": filepath.Join(here, "config.yml"),
		"/srv/registry/":    "/srv/registry",
		"s3://bucket/prefix?region=x&secretkey=word": "s3://bucket/prefix",
		"s3://me:word@bucket/prefix?region=x":        "s3://bucket/prefix",
		"":                                           "",
	} {
		if got := targetLabel(target); got != want {
			t.Errorf("%q: %q, want %q", target, got, want)
		}
	}
}
