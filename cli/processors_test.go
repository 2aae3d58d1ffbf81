package cli

import (
	"context"
	"io"
	"runtime"
	"testing"
	"time"

	"regsweep/internal/imagetest"
	"regsweep/storage"
	"regsweep/storage/config"
	"regsweep/storage/open"
)

// A run on a filesystem raises GOMAXPROCS, unless the user has set it. A run on a bucket does not.
func TestCallsToAFilesystemWaitTogether(t *testing.T) {
	tree := imagetest.NewTree(t, t.TempDir())
	tree.Tag("app", "v1", tree.Manifest("app", imagetest.Image(imagetest.OCI, imagetest.Layer(1, 0))))
	before := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(before)
	for name, c := range map[string]struct {
		target, procs, concurrency string
		want                       int
	}{
		"by itself":                {tree.Root(), "", "0", 4 * processors},
		"with few calls":           {tree.Root(), "", "2", 2},
		"as the user has it":       {tree.Root(), "1", "0", 1},
		"of an S3 server's bucket": {"s3://bucket", "", "0", 1},
	} {
		runtime.GOMAXPROCS(1)
		env := Env{
			Out: io.Discard, Err: io.Discard, Now: time.Now, Width: func(io.Writer) int { return 0 },
			Getenv: func(name string) string { return map[string]string{"GOMAXPROCS": c.procs}[name] },
			Open: func(ctx context.Context, config config.Config) (storage.Store, error) {
				config.Driver, config.Parameters = "filesystem", map[string]any{"rootdirectory": tree.Root()}
				return open.Store(ctx, config)
			},
		}
		code := Run(t.Context(), []string{"regsweep", "gc", "--dry-run", "--no-cache", "--concurrency", c.concurrency, c.target}, env)
		if got := runtime.GOMAXPROCS(0); code != exitDone || got != min(c.want, 32) {
			t.Errorf("%s: it exits with %d, and %d may wait, want %d", name, code, got, c.want)
		}
	}
}
