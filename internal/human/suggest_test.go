package human

import "testing"

func TestATypoIsRecognized(t *testing.T) {
	names := []string{"dry-run", "delete-untagged", "json", "plan", "min-age", "upload-age", "registry", "registry-stopped"}
	for typed, want := range map[string]string{
		"dryrun": "dry-run", "dry_run": "dry-run", "jsno": "json", "plna": "plan", "registry-stoped": "registry-stopped",
		"delete-untaged": "delete-untagged", "minage": "min-age", "frobnicate": "", "x": "", "": "",
	} {
		if got := Closest(typed, names); got != want {
			t.Errorf("%q is taken for %q, want %q", typed, got, want)
		}
	}
}
