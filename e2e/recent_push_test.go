package e2e

import (
	"strings"
	"testing"
	"time"

	"regsweep/internal/registrytest"
)

// A replica that nobody named takes pushes, while the one that was named is read-only. Promise 4.
func TestAPushThroughAnotherReplicaRefuses(t *testing.T) {
	onEach(t, "completed", func(t *testing.T, on backend) {
		s := newSite(t)
		s.unrelated()
		s.on(on)
		s.must(s.registry.SetReadOnly(true))
		target := s.config(s.registry.ConfigYAML())
		shared := registrytest.Config{}
		if on == bucket {
			shared.Storage = s.s3.Storage(s.bucket, s3Root)
		} else {
			shared.Root = s.tree.Root()
		}
		replica := registrytest.StartT(t, shared)
		time.Sleep(1100 * time.Millisecond) // S3 has whole seconds
		if err := replica.Client().Push(t.Context(), "sound:pushed", app(1, 902)); err != nil {
			t.Fatal(err)
		}
		for _, flags := range [][]string{nil, {"--registry", s.registry.URL()}} {
			run := s.gcOn(target, append(flags, "-m")...)
			if run.code != 3 || !strings.Contains(run.report.Error, "an image was pushed to sound less than 10 minutes ago") {
				t.Errorf("gc %v ends with %d: %s", flags, run.code, run.report.Error)
			}
			code, stdout, _ := regsweep(s, append([]string{"check", target}, flags...)...)
			if code != 3 || !strings.Contains(stdout, "an image was pushed to sound less than 10 minutes ago") {
				t.Errorf("check %v ends with %d: %s", flags, code, stdout)
			}
		}
	})
}

// What was pushed before the registry was made read-only is no sign of another one, and
// neither is what a former run has removed.
func TestPushesBeforeTheWindowAreExplained(t *testing.T) {
	t.Parallel()
	onEach(t, "explained", func(t *testing.T, on backend) {
		s := newSite(t)
		s.unrelated()
		s.tree.Upload("sound", "old", time.Now().Add(-1000*time.Hour), []byte("half a layer"))
		s.on(on)
		s.must(s.registry.SetReadOnly(true))
		for range 2 {
			if run := s.gc("-m"); run.code != 0 {
				t.Errorf("ends with %d: %s", run.code, run.report.Error)
			}
		}
	})
	s := newSite(t)
	s.unrelated()
	s.tree.Age("repositories", time.Hour)
	s.tree.Upload("sound", "old", time.Now().Add(-1000*time.Hour), []byte("half a layer"))
	s.must(s.registry.SetReadOnly(true))
	for _, removed := range []int{1, 0} {
		run := s.gcOn(s.tree.Root(), "-m", "--registry", s.registry.URL())
		if run.code != 0 || run.report.Removed.Uploads.Count != removed {
			t.Errorf("a directory: ends with %d, and %d uploads are removed: %s", run.code, run.report.Removed.Uploads.Count, run.report.Error)
		}
	}
}

// A run that will be refused does not ask first.
func TestARecentPushRefusesBeforeTheQuestion(t *testing.T) {
	t.Parallel()
	tree, garbage := treeWithGarbage(t)
	registry := registrytest.StartT(t, registrytest.Config{Root: tree.Root(), ReadOnly: true})
	s := mustStart(t, program(t, "gc", "--registry", registry.URL(), tree.Root()))
	must(t, s.waitFor("REFUSED"))
	code, err := s.end()
	must(t, err)
	if code != 3 || strings.Contains(s.shows(), "[y/N]") || !tree.Exists(garbage) {
		t.Errorf("exit code %d: %s", code, s.shows())
	}
}
