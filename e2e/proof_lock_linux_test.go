package e2e

import (
	"strings"
	"testing"

	"regsweep/internal/system/systemtest"

	"golang.org/x/sys/unix"
)

// A lock that could not be removed makes the next run wait, so it is named, also if the
// work has failed. The work decides how the run ends.
func TestALockThatStaysIsNamed(t *testing.T) {
	for name, fails := range map[string]bool{"the work succeeds": false, "the work fails": true} {
		t.Run(name, func(t *testing.T) {
			s := newFixture(t)
			s.plant("app", "v1", app(1))
			s.plant("app", "", app(2))
			stop := systemtest.FailBelow(t, s.tree.Path(""), func(op, path string) error {
				if isLock := path == ".regsweep/lock"; op == "unlinkat" && (isLock || fails && strings.HasSuffix(path, "/data")) {
					if isLock {
						return unix.EPERM
					}
					return unix.EIO
				}
				return nil
			})
			code, stdout, stderr := regsweep(s, "gc", "-m", "--registry-stopped", s.tree.Root())
			stop()
			if code != 1 || !strings.Contains(stderr, "release the lock") || fails != strings.Contains(stderr, "input/output error") {
				t.Errorf("ends with %d, %s", code, stderr)
			}
			if fails != strings.Contains(stdout, "Stopped before the end") {
				t.Errorf("the report says:\n%s", stdout)
			}
		})
	}
}
