package e2e

import (
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"regsweep/internal/miniotest"
	"regsweep/storage"

	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// bucketHold is a registry in a bucket of which something is in a quarantine, or comes
// there.
type bucketHold struct {
	*site
	before string            // a directory with all that a command begins with
	first  map[string]string // all objects before anything was moved
	needed map[string]string // those that every command leaves alone
	alive  []image
}

func newBucketHold(t *testing.T) *bucketHold {
	b := &bucketHold{site: newSite(t)}
	b.plant("app", "v1", app(1, 2))
	b.plant("app", "moved", app(1, 3))
	b.plant("app", "moved", app(1, 4))
	b.before = b.tree.Root()
	b.alive = []image{pulls("app", "v1", "moved")}
	b.moveToBucket()
	b.must(b.registry.SetReadOnly(true))
	b.first = b.objects()
	return b
}

// objects are those of the layout, by path, with their digests.
func (b *bucketHold) objects() map[string]string {
	b.Helper()
	files, err := b.s3.Snapshot(b.Context(), b.bucket, s3Root)
	b.must(err)
	objects := map[string]string{}
	for name, content := range files {
		objects[strings.TrimPrefix(name, layoutRoot)] = content
	}
	return objects
}

// remember makes what there is now what reset puts back.
func (b *bucketHold) remember() {
	b.Helper()
	b.before = b.TempDir()
	for name := range b.objects() {
		key := b.key(name)
		object, err := b.s3.Client().GetObject(b.Context(), &s3.GetObjectInput{Bucket: &b.bucket, Key: &key})
		b.must(err)
		to := filepath.Join(b.before, layoutRoot, name)
		b.must(os.MkdirAll(filepath.Dir(to), 0o700))
		file, err := os.Create(to)
		b.must(err)
		_, err = file.ReadFrom(object.Body)
		b.must(err)
		b.must(file.Close())
		b.must(object.Body.Close())
	}
}

func (b *bucketHold) reset() {
	b.Helper()
	for name := range b.objects() {
		if _, err := os.Lstat(filepath.Join(b.before, layoutRoot, name)); err != nil {
			b.must(b.removeKey(b.key(name)))
		}
	}
	b.must(miniotest.UploadTree(b.Context(), b.s3, b.bucket, s3Root, b.before))
}

// command is a command on the bucket, at an endpoint.
func (b *bucketHold) command(name, endpoint string) []string {
	b.Helper()
	args := []string{"gc", "-m", "--quarantine", "--no-cache", "--registry-stopped"}
	switch name {
	case "restore":
		args = []string{"quarantine", "restore", b.run()}
	case "purge":
		args = []string{"quarantine", "purge", "--older-than", "0h", "--yes"}
	}
	return append(args, b.target(endpoint), "--json", oneByOne)
}

func (b *bucketHold) target(endpoint string) string {
	b.Helper()
	return b.config(strings.ReplaceAll(b.registry.ConfigYAML(), b.s3.Endpoint, endpoint))
}

// run is the name of the first quarantine, or of none.
func (b *bucketHold) run() string {
	b.Helper()
	return slices.Min(append(slices.Collect(maps.Keys(runsIn(b.objects()))), "none"))
}

// again runs a command that was cut off or stopped, to its end.
func (b *bucketHold) again(what, name string, want map[string]string) {
	b.Helper()
	b.must(b.removeKey(b.key(".regsweep/lock")))
	now := b.objects()
	for object, content := range b.needed {
		if now[object] != content {
			b.Errorf("%s: %s is gone", what, b.readable(object))
		}
	}
	for object := range now {
		if match := linked.FindStringSubmatch(object); match != nil && !strings.HasPrefix(object, storage.OwnDir) {
			if now[path.Join("blobs/sha256", match[1][:2], match[1], "data")] == "" {
				b.Errorf("%s: there is %s, and its blob is not", what, b.readable(object))
			}
		}
		if match := inRun.FindStringSubmatch(object); match != nil && now[storage.QuarantineDir+"/"+match[1]+"/plan.jsonl"] == "" {
			b.Errorf("%s: %s is there without a plan", what, object)
		}
	}
	if run := b.run(); name != "restore" || run != "none" {
		if next := b.reported(b.command(name, b.s3.Endpoint)...); next.code != 0 {
			b.Errorf("%s: the next run ends with %d: %s", what, next.code, next.report.Error)
		}
	}
	if name != "gc" {
		if d := difference(b.objects(), want); d != "" {
			b.Errorf("%s: at the end:%s", what, b.readable(d))
		}
		return
	}
	if d := difference(united(b.objects()), united(want)); d != "" {
		b.Errorf("%s: at the end:%s", what, b.readable(d))
	}
	for _, mayLack := range []bool{true, false} {
		for run := range runsIn(b.objects()) {
			if restored := b.reported("quarantine", "restore", run, b.target(b.s3.Endpoint), "--json"); restored.code != 0 && !(mayLack && restored.code == 4) {
				b.Errorf("%s: restoring %s ends with %d: %s", what, run, restored.code, restored.report.Error)
			}
		}
	}
	if d := difference(b.objects(), b.first); d != "" {
		b.Errorf("%s: restored:%s", what, b.readable(d))
	}
}

// TestQuarantineOnS3IsCutOffAtEachWrite: the program is killed when a request of its that
// changes something comes to the server, or when the answer would come to it: nothing is lost,
// and the next run ends as an undisturbed one (1, 3).
func TestQuarantineOnS3IsCutOffAtEachWrite(t *testing.T) {
	t.Parallel()
	b := newBucketHold(t)
	for _, name := range []string{"gc", "restore", "purge"} {
		count := &spoiledFront{at: -1, met: 1, matches: isWrite}
		count.start(t, b.s3.Endpoint)
		if name == "purge" { // what was restored is moved once more
			if run := b.reported(b.command("gc", b.s3.Endpoint)...); run.code != 0 {
				t.Fatalf("nothing to purge: it ends with %d", run.code)
			}
			b.remember()
		}
		if run := b.reported(b.command(name, count.URL)...); run.code != 0 {
			t.Fatalf("%s: undisturbed it ends with %d, %s", name, run.code, run.report.Error)
		}
		want := b.objects()
		if name == "gc" {
			b.needed = maps.Clone(want)
			maps.DeleteFunc(b.needed, func(object, _ string) bool { return strings.HasPrefix(object, storage.OwnDir) })
		}
		writes := count.counted
		if writes < 4 {
			t.Fatalf("%s: only %d requests change something", name, writes)
		}
		b.pull(name, b.client, b.alive)
		for k := 1; k <= writes; k += apart(1) {
			b.reset()
			what := fmt.Sprintf("%s, killed at write %d of %d, which arrives: %t", name, k, writes, k%2 == 0)
			b.killed(what, name, k, k%2 == 0)
			b.again(what, name, want)
		}
		b.pull(name, b.client, b.alive)
		b.reset()
		if name == "gc" { // what it leaves is what a restoration begins with
			if run := b.reported(b.command("gc", b.s3.Endpoint)...); run.code != 0 {
				t.Fatalf("nothing to restore: it ends with %d", run.code)
			}
			b.remember()
		}
	}
}

// killed kills a command at a write.
func (b *bucketHold) killed(what, name string, k int, arrives bool) {
	b.Helper()
	code := killedAt(b.T, b.s3.Endpoint, isWrite, k, arrives, func(endpoint string) []string { return b.command(name, endpoint) })
	if code != -1 {
		b.Errorf("%s: it ends with %d", what, code)
	}
}
