package quarantine_test

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"regsweep/internal/imagetest"
	"regsweep/quarantine"
)

// TestALinkThatHasChangedIsWrittenAnew: what a link in the quarantine says is compared with the plan.
func TestALinkThatHasChangedIsWrittenAnew(t *testing.T) {
	for name, spoil := range map[string]func(path string) error{
		"empty":          func(path string) error { return os.WriteFile(path, nil, 0o644) },
		"another digest": func(path string) error { return os.WriteFile(path, []byte("sha256:"+strings.Repeat("0", 64)), 0o644) },
		"a pipe": func(path string) error {
			if err := os.Remove(path); err != nil {
				return err
			}
			return syscall.Mkfifo(path, 0o600)
		},
	} {
		for _, of := range []string{"revision", "layer"} {
			for _, isThere := range []bool{false, true} {
				r := newRegistry(t)
				r.live("app")
				image := r.untagged("app", imagetest.Layer(2, 100))
				path := imagetest.RevisionPath("app", image.Digest())
				if of == "layer" {
					path = imagetest.LayerPath("app", imagetest.Layer(2, 100).Digest())
				}
				before := r.everything()
				content, err := os.ReadFile(r.Path(path))
				if err != nil {
					t.Fatal(err)
				}
				run := r.take()
				if err := spoil(r.Path(kept(run, path))); err != nil {
					t.Fatal(err)
				}
				if isThere {
					r.Write(path, string(content))
				}
				restored := r.restore(run, quarantine.RestoreOptions{})
				if restored.LeftCount > 0 {
					t.Errorf("%s, %s: left %+v", name, of, restored.Left)
				}
				r.same(before, name+", "+of)
				if r.Exists(kept(run, "plan.jsonl")) {
					t.Errorf("%s, %s: the run is still there", name, of)
				}
			}
		}
	}
	// Another link in its place stays.
	r := newRegistry(t)
	r.live("app")
	image := r.untagged("app", imagetest.Layer(2, 100))
	path := imagetest.RevisionPath("app", image.Digest())
	run := r.take()
	r.Write(kept(run, path), "")
	r.Write(path, "another")
	restored := r.restore(run, quarantine.RestoreOptions{})
	if restored.LeftCount != 1 || restored.Left[0].Why != quarantine.WhyOccupied {
		t.Errorf("left %+v", restored.Left)
	}
}
