package e2e

import (
	"strings"
	"testing"
	"time"

	"regsweep/internal/imagetest"
)

// Your word that the registry is stopped proves, but a push just now speaks against it.
func TestARecentUploadWarnsOfARegistryThatIsNotStopped(t *testing.T) {
	t.Parallel()
	for age, want := range map[time.Duration]bool{time.Minute: true, time.Hour: false} {
		tree := imagetest.NewTree(t, t.TempDir())
		tree.Tag("team/app", "v1", tree.Manifest("team/app", app(1, 2)))
		tree.Upload("team/app", "01234567-89ab-cdef-0123-456789abcdef", time.Now().Add(-age), []byte("half"))
		out, err := program(t, "gc", "--yes", "--registry-stopped", tree.Root()).CombinedOutput()
		if err != nil {
			t.Errorf("%v: %s", err, out)
		}
		if said := strings.Contains(string(out), "warning: an upload in team/app was touched less than 10 minutes ago"); said != want {
			t.Errorf("an upload %s ago: warned: %v\n%s", age, said, out)
		}
	}
}
