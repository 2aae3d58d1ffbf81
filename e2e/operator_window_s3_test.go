package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"regsweep/window"

	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// TestAWindowOnABucket: the note is in the bucket too, so the loss of the machine leaves it. What was pushed
// just before does not refuse: the times of a bucket are those of its server (3, 4).
func TestAWindowOnABucket(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("waits for half a minute")
	}
	s := newFixture(t)
	goes, alive := s.unrelated()
	s.moveToBucket()
	isNoted := func() bool {
		key := s.key(window.NotePath)
		_, err := s.s3.Client().HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: &s.bucket, Key: &key})
		return err == nil
	}
	config, dir := s.config(s.registry.ConfigYAML()), t.TempDir()
	exists := func(name string) bool {
		_, err := os.Stat(filepath.Join(dir, name))
		return err == nil
	}
	// The commands tell the registry in this process what to do, and wait until it has done so.
	stop := make(chan struct{})
	served := make(chan struct{})
	go func() {
		defer close(served)
		for {
			for _, command := range []string{"close", "open"} {
				if exists(command) {
					s.must(s.registry.SetReadOnly(command == "close"))
					s.must(os.Remove(filepath.Join(dir, command)))
				}
			}
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-served })
	tell := func(command string) string {
		file := filepath.Join(dir, command)
		return "touch " + file + "; while [ -e " + file + " ]; do sleep 0.05; done"
	}
	hold := func(flags ...string) *running {
		return start(t, append([]string{"window", "--state-dir", filepath.Join(dir, "state"), "--before", tell("close"), "--after", tell("open"),
			"--registry", s.registry.URL(), "-m", config}, flags...)...)
	}
	before := s.files()
	killed := hold()
	eventually(t, "it waits", func() bool { return strings.Contains(killed.stderr.String(), "waiting 30s") })
	killed.signal(t, syscall.SIGKILL)
	killed.exit(t)
	if !isNoted() {
		t.Error("the bucket has no note")
	}
	s.must(os.RemoveAll(filepath.Join(dir, "state")))

	next := hold()
	if code := next.exit(t); code != 0 || !strings.Contains(next.stderr.String(), "was not closed") {
		t.Fatalf("the next window ends with %d: %s", code, &next.stderr)
	}
	if isNoted() {
		t.Error("the bucket has the note still")
	}
	after := s.files()
	for _, removal := range goes {
		_, path, _ := strings.Cut(removal, " ") // after its kind
		_, was := before[path]
		if _, is := after[path]; is || !was {
			t.Errorf("%s was there: %t, is there: %t", path, was, is)
		}
	}
	s.push("team/app:afterwards", app(1, 7))
	s.pull("after the window", s.client, []image{alive})
}
