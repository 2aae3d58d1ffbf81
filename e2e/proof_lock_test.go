package e2e

import (
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"regsweep/cli"
	"regsweep/internal/imagetest"
)

// hasty and patient are the program, but that a lock is refreshed often, and that with the
// first of them it goes stale within seconds. Runs that share a storage have to agree on
// that, so that there is no flag for it.
func hasty()   { withLock(6 * time.Second) }
func patient() { withLock(time.Minute) }

func withLock(stale time.Duration) {
	env := cli.Process()
	env.LockRefresh, env.LockStale = 200*time.Millisecond, stale
	os.Exit(cli.Main(env))
}

// contested is a registry that two processes want to collect at once.
type contested struct {
	*fixture
	target string
	slowly []string // the arguments of a run that does not get to its end
	// midway waits until such a run has removed something, and not all.
	midway func()
	// proceed lets it go on, if it was held up.
	proceed func()
	// sent is how many removals it has asked of the storage, where that can be seen.
	sent    func() int
	garbage map[string]string // content by path
	image   image
}

// contest makes one. It stops the run that comes slowly before its removal of blobs, if
// it is in a bucket; on a filesystem it lets so many requests pass in a second.
func contest(t *testing.T, on backend) *contested {
	s := newFixture(t)
	c := &contested{fixture: s, garbage: map[string]string{}, proceed: func() {}, sent: func() int { return -1 }}
	kept := app(1, 2)
	s.plant("team/app", "v1", kept)
	c.image = pulls("team/app", "v1", kept)
	live := s.files()
	for n := range 60 {
		s.plant("team/app", "", app(10+3*n, 11+3*n))
	}
	for path := range s.files() {
		if _, isLive := live[path]; !isLive {
			content, err := os.ReadFile(s.tree.Path(path))
			s.must(err)
			c.garbage[path] = string(content)
		}
	}
	s.on(on)
	s.must(s.registry.SetReadOnly(true))
	c.target = s.config(s.registry.ConfigYAML())
	if on == filesystem {
		c.slowly = []string{"gc", "-m", "--json", "--registry", s.registry.URL(), "--max-requests", "300", c.target}
		c.midway = func() {
			eventually(t, "it removes", func() bool { return c.left() < len(c.garbage) })
		}
		return c
	}

	reached, released := make(chan struct{}), make(chan struct{})
	c.proceed = sync.OnceFunc(func() { close(released) })
	t.Cleanup(c.proceed)
	var sent atomic.Int64
	reach := sync.OnceFunc(func() { close(reached) })
	front := &faultyFront{status: http.StatusServiceUnavailable, code: "SlowDown"}
	front.matches = func(r *http.Request, body string) bool {
		if r.Method != http.MethodPost || !r.URL.Query().Has("delete") {
			return false
		}
		sent.Add(1)
		if !strings.Contains(body, "/blobs/") {
			return false
		}
		reach()
		<-released
		return true
	}
	c.slowly = []string{"gc", "-m", "--json", "--no-cache", "--registry", s.registry.URL(), s.behindFront(front)}
	c.midway = func() {
		select {
		case <-reached:
		case <-time.After(time.Minute):
			t.Fatal("it does not come to remove blobs")
		}
	}
	c.sent = func() int { return int(sent.Load()) }
	return c
}

// left is how much of the garbage is there.
func (c *contested) left() int {
	c.Helper()
	n := 0
	for path := range c.files() {
		if _, isGarbage := c.garbage[path]; isGarbage {
			n++
		}
	}
	return n
}

// isLocked reports whether there is a lock.
func (c *contested) isLocked() bool {
	c.Helper()
	if c.tree != nil {
		return c.tree.Exists(".regsweep/lock")
	}
	snapshot, err := c.s3.Snapshot(c.Context(), c.bucket, s3Root)
	c.must(err)
	return snapshot[layoutRoot+".regsweep/lock"] != ""
}

// next starts a run that nothing holds up, of either program.
func (c *contested) next(program string) *running {
	c.Helper()
	return startProgram(c.T, program, nil, "gc", "-m", "--json", "--no-cache", "--registry", c.registry.URL(), c.target)
}

// ends waits for a run's exit code, and returns the error that it reports.
func (c *contested) ends(r *running, codes ...int) (told string) {
	c.Helper()
	if got := r.exit(c.T); !slices.Contains(codes, got) {
		c.Errorf("it exits with %d, want %d\n%s", got, codes, &r.stderr)
	}
	var report gcReport
	if err := json.Unmarshal([]byte(r.stdout.String()), &report); err != nil {
		c.Fatalf("the report: %v\n%s", err, &r.stdout)
	}
	return report.Error
}

// onBoth runs a test of two processes on each backend.
func onBoth(t *testing.T, test func(c *contested)) {
	for _, on := range []backend{filesystem, bucket} {
		t.Run(string(on), func(t *testing.T) {
			t.Parallel()
			test(contest(t, on))
		})
	}
}

// TestASecondRunSaysWhoHoldsTheLock, since when and on what host, and removes nothing
// (4). Dry runs and checks go on meanwhile.
func TestASecondRunSaysWhoHoldsTheLock(t *testing.T) {
	t.Parallel()
	onBoth(t, func(c *contested) {
		before := time.Now().Add(-time.Second)
		first := startProgram(c.T, "regsweep-patient", nil, c.slowly...)
		c.midway()
		first.signal(c.T, syscall.SIGSTOP) // so that it does not end before there is another
		second := c.next("regsweep-patient")
		eventually(c.T, "it sees the lock", func() bool { return strings.Contains(second.stderr.String(), "there is a lock") })
		first.signal(c.T, syscall.SIGCONT)
		told := c.ends(second, 5)

		host, err := os.Hostname()
		c.must(err)
		_, since, _ := strings.Cut(told, ", since ")
		started, err := time.Parse(time.RFC3339, since)
		if err != nil || started.Before(before) || started.After(time.Now()) {
			c.Errorf("it says %q, and the first began after %s: %v", told, before, err)
		}
		for _, want := range []string{"another run holds the lock: regsweep gc by ", " on " + host + " ", "(process " + strconv.Itoa(first.Process.Pid) + ")"} {
			if !strings.Contains(told, want) {
				c.Errorf("it says %q, want %q", told, want)
			}
		}
		c.proceed()
		first.signal(c.T, os.Kill)
	})
}

// TestAKilledHolderIsTakenOver: the next run on the same host sees at once that nobody holds
// the lock any more, ends what was begun, and leaves no trace of either (3). Runs on other
// hosts wait: see guard/process_linux_test.go.
func TestAKilledHolderIsTakenOver(t *testing.T) {
	t.Parallel()
	onBoth(t, func(c *contested) {
		first := startProgram(c.T, "regsweep-patient", nil, c.slowly...)
		c.midway()
		first.signal(c.T, os.Kill)
		if code := first.exit(c.T); code != -1 {
			c.Fatalf("it ended by itself, with %d", code)
		}
		c.proceed()
		if left := c.left(); left == 0 || left == len(c.garbage) || !c.isLocked() {
			c.Fatalf("%d of %d are left, and a lock: %t", left, len(c.garbage), c.isLocked())
		}
		c.pull("after the kill", c.client, []image{c.image})

		second := c.next("regsweep-patient")
		if told := c.ends(second, 0); told != "" {
			c.Errorf("it says %q", told)
		}
		if text := second.stderr.String(); strings.Contains(text, "watching") {
			c.Errorf("it waits: %q", text)
		}
		if left := c.left(); left > 0 || c.isLocked() {
			c.Errorf("%d are left, and a lock: %t", left, c.isLocked())
		}
		if c.tree != nil && c.tree.Exists(".regsweep") {
			c.Error("the directory of the lock is left")
		}
		c.pull("after the next run", c.client, []image{c.image})
	})
}

// TestASuspendedHolderRemovesNothingMore: while a run was suspended its lock was taken
// over, the other run ended, and what had been garbage was pushed again. It finds out
// before it does anything else (1, 4).
func TestASuspendedHolderRemovesNothingMore(t *testing.T) {
	t.Parallel()
	onBoth(t, func(c *contested) {
		first := startProgram(c.T, "regsweep-hasty", nil, c.slowly...)
		c.midway()
		first.signal(c.T, syscall.SIGSTOP)
		if left := c.left(); left == 0 {
			c.Fatal("it was done already")
		}
		c.ends(c.next("regsweep-hasty"), 0)
		if left := c.left(); left > 0 || c.isLocked() {
			c.Fatalf("the other run leaves %d, and a lock: %t", left, c.isLocked())
		}
		for path, content := range c.garbage {
			c.write(path, content)
		}
		everything, sent := maps.Clone(c.files()), c.sent()

		first.signal(c.T, syscall.SIGCONT)
		c.proceed()
		if told := c.ends(first, 5); !strings.Contains(told, "the lock is lost") {
			c.Errorf("it says %q", told)
		}
		// On a filesystem each batch under way may have been within a removal, and all that
		// there is fits in four.
		allowed := 0
		if c.tree != nil {
			allowed = 4
		}
		if gone := len(everything) - len(c.files()); gone > allowed {
			c.Errorf("it went on, and removed %d", gone)
		}
		if more := c.sent() - sent; more > 0 {
			c.Errorf("it sent %d more removals", more)
		}
		c.pull("after it all", c.client, []image{c.image})
	})
}

// TestDryRunsTakeNoLock, nor do they wait for one: a lock that nobody refreshes is theirs
// neither to take nor to heed.
func TestDryRunsTakeNoLock(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	s.plant("sound", "v1", app(1))
	s.plant("sound", "", app(2))
	s.must(s.registry.SetReadOnly(true))
	s.tree.Age("", time.Hour) // or it would be a sign that somebody pushes
	s.tree.Write(".regsweep/lock", `{"token":"of a run that was killed"}`)
	root, before := s.tree.Root(), imagetest.SnapshotT(t, s.tree.Root())
	for _, args := range readOnlyCommands(t, root, s.registry.URL()) {
		if code, _, stderr := regsweep(s, args...); code != 0 || strings.Contains(stderr, "lock") {
			t.Errorf("%v ends with %d: %s", args, code, stderr)
		}
	}
	if after := imagetest.SnapshotT(t, root); !maps.Equal(after, before) {
		t.Errorf("there was %v, and now there is %v", before, after)
	}
}

// readOnlyCommands are all that are promised to change nothing, in an order in which
// they can be run. The registry has the tag sound:v1.
func readOnlyCommands(t testing.TB, target, registry string) [][]string {
	plan := t.TempDir() + "/plan"
	return [][]string{
		{"gc", "-d", target},
		{"gc", "--dry-run", "-m", "--prune-empty", "--upload-age", "0s", "--json", "--plan", plan, target},
		{"gc", "-d", "-m", "--unsafe-online", "--registry-stopped", "--registry", registry, target},
		{"apply", "-d", plan, target},
		{"apply", "--dry-run", "--partial", "--json", plan, target},
		{"check", "--registry", registry, target},
		{"check", "--json", "--registry", registry, target},
		{"audit", target},
		{"audit", "--json", target},
		{"why", "sound:v1", target},
		{"why", "--json", "sound:v1", target},
		{"graph", "sound:v1", target},
		{"gc", "-d", "-m", "--quarantine", target},
		{"quarantine", "list", target},
		{"quarantine", "restore", "-d", "--plan", plan, target},
		{"quarantine", "purge", "--dry-run", "--older-than", "0h", target},
	}
}
