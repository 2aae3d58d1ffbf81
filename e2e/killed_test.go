package e2e

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// killSignal is what no process hears.
const killSignal = syscall.SIGKILL

func (s *site) removeKey(key string) error {
	_, err := s.s3.Client().DeleteObject(s.Context(), &s3.DeleteObjectInput{Bucket: &s.bucket, Key: &key})
	return err
}

// TestKilledWhileItRemoves: the program itself is killed while it removes, slowly, each time
// after one file more. Every image pulls, and the next run leaves what an undisturbed one
// leaves, files and directories (3).
func TestKilledWhileItRemoves(t *testing.T) {
	t.Parallel()
	g := newGround(t, false)
	args := []string{"gc", g.tree.Root(), "-m", "--prune-empty", "--registry-stopped"}
	g.must(os.RemoveAll(g.tree.Path(".regsweep")))
	if code := start(t, args...).exit(t); code != 0 {
		t.Fatalf("undisturbed it ends with %d", code)
	}
	want := g.inspected("undisturbed")
	var going []string
	for path, content := range g.before {
		if content != aDirectory && want[path] == "" {
			going = append(going, path)
		}
	}
	slices.SortFunc(going, func(a, b string) int { return strings.Compare(kindOfPath(a)+a, kindOfPath(b)+b) })
	killed, tried := 0, 0
	for k := 0; k < len(going); k += apart(2) {
		tried++
		g.restore()
		run := start(t, append(args, "--max-requests=400", "--concurrency=1")...)
		eventually(t, "it removes "+going[k], func() bool {
			_, err := os.Lstat(g.tree.Path(going[k]))
			return errors.Is(err, fs.ErrNotExist)
		})
		if err := run.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if run.exit(t) == -1 {
			killed++
		}
		g.inspected("killed after " + going[k])
		g.unlock()
		if code := start(t, args...).exit(t); code != 0 {
			t.Errorf("the next run ends with %d", code)
		}
		if d := difference(g.shape(), want); d != "" {
			t.Errorf("killed after %s: after the next run:%s", going[k], g.readable(d))
		}
	}
	if killed < tried/4 { // a slow machine kills some too late
		t.Errorf("of %d runs only %d were killed before they ended", tried, killed)
	}
}

// kindOfPath puts paths in the order of their removal.
func kindOfPath(path string) string {
	for i, part := range []string{"/index/", "/revisions/", "/_layers/", "/_uploads/"} {
		if strings.Contains(path, part) {
			return string(rune('a' + i))
		}
	}
	return "z"
}
