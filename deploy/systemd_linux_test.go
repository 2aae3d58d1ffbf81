package deploy

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"regsweep/internal/imagetest"
	"regsweep/internal/registrytest"
	"regsweep/internal/servertest"
)

// TestAWindowInSystemd holds windows with a real systemd, which is not the one of this machine: a manager
// of a user. Root needs no more for that than its own /run/systemd.
func TestAWindowInSystemd(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds the program")
	}
	if os.Getuid() != 0 {
		servertest.Lacks(t, "only root may mount")
	}
	for _, program := range []string{"/lib/systemd/systemd", "systemctl", "unshare", "curl"} {
		if _, err := exec.LookPath(program); err != nil {
			servertest.Lacks(t, "%v", err)
		}
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "regsweep")
	if output, err := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", program, "..").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, output)
	}

	// The registry has an image without a tag. BEFORE and AFTER are requests for a restart.
	root := filepath.Join(dir, "storage")
	registry := registrytest.StartT(t, registrytest.Config{Root: root})
	m := imagetest.Image(imagetest.OCI, imagetest.Layer(1, 1000))
	garbage := imagetest.Image(imagetest.OCI, imagetest.Layer(2, 1000))
	for _, image := range []*imagetest.Manifest{garbage, m} {
		if err := registry.Client().Push(t.Context(), "team/app:v1", image); err != nil {
			t.Fatal(err)
		}
	}
	var mu sync.Mutex
	var calls []string
	waiting, goOn := make(chan bool, 9), make(chan bool, 9)
	control := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		calls = append(calls, r.URL.Path)
		mu.Unlock()
		if strings.HasPrefix(r.URL.Path, "/slow") {
			waiting <- true
			select {
			case <-goOn:
			case <-r.Context().Done(): // curl was killed
			}
		}
		if err := registry.SetReadOnly(strings.HasSuffix(r.URL.Path, "before")); err != nil {
			t.Error(err)
		}
	}))
	defer control.Close()
	settings := filepath.Join(dir, "window.env")
	settle := func(before, after string) {
		t.Helper()
		content := fmt.Sprintf("TARGET=%s\nBEFORE=curl -fsS '%s/%s'\nAFTER=curl -fsS %s/%s\nFLAGS=--registry %s --for 2h -m\n", root, control.URL, before, control.URL, after, registry.URL())
		if err := os.WriteFile(settings, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		imagetest.NewTree(t, root).Age(".", time.Hour) // a window waits if somebody has just pushed
	}

	units := filepath.Join(dir, "config/systemd/user")
	if err := os.MkdirAll(units, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"regsweep-window.service", "regsweep-window.timer", "regsweep-recover.service"} {
		content, err := os.ReadFile(filepath.Join("systemd", name))
		if err != nil {
			t.Fatal(err)
		}
		// The program and the storage of this test are in /tmp. A container does not let systemd hide parts of /proc.
		unit := strings.NewReplacer("/usr/bin/regsweep", program, "/etc/regsweep/window.env", settings,
			"PrivateTmp=yes\n", "", "ProtectKernelLogs=yes\n", "", "ProtectKernelTunables=yes\n", "").Replace(string(content))
		if err := os.WriteFile(filepath.Join(units, name), []byte(unit), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	env := []string{"XDG_CONFIG_HOME=" + filepath.Join(dir, "config"), "XDG_RUNTIME_DIR=" + filepath.Join(dir, "run"), "XDG_STATE_HOME=" + filepath.Join(dir, "state"), "XDG_CACHE_HOME=" + filepath.Join(dir, "cache"), "HOME=" + dir}
	if err := os.Mkdir(filepath.Join(dir, "run"), 0o700); err != nil {
		t.Fatal(err)
	}
	systemctl := func(ctx context.Context, args ...string) (string, error) {
		command := exec.CommandContext(ctx, "systemctl", append([]string{"--user"}, args...)...)
		command.Env = append(os.Environ(), env...)
		output, err := command.CombinedOutput()
		return string(output), err
	}
	manager, err := servertest.Start(t.Context(), env, func(ctx context.Context) error {
		_, err := systemctl(ctx, "list-units")
		return err
	}, "unshare", "--mount", "sh", "-c",
		"mkdir -p /run/systemd && mount -t tmpfs none /run/systemd && mkdir /run/systemd/system && exec /lib/systemd/systemd --user --log-target=console")
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Stop()
	run := func(args ...string) {
		t.Helper()
		if output, err := systemctl(t.Context(), args...); err != nil {
			status, _ := systemctl(t.Context(), "status", "regsweep-window.service")
			t.Fatalf("systemctl %q: %v\n%s%s", args, err, output, status)
		}
	}
	closed := func(want ...string) {
		t.Helper()
		mu.Lock()
		defer mu.Unlock()
		if got := strings.Join(calls, " "); got != strings.Join(want, " ") {
			t.Errorf("the registry got %s, want %q", got, want)
		}
		if calls = nil; registry.Client().Push(t.Context(), "team/app:v2", m) != nil {
			t.Error("the registry is not writable")
		}
	}

	settle("before", "after")
	run("start", "regsweep-window.service") // it returns when the window is closed
	closed("/before", "/after")
	if path := filepath.Join(root, imagetest.BlobPath(garbage.Digest())); !isGone(t, path) {
		t.Errorf("%s was not removed", path)
	}
	run("start", "regsweep-recover.service") // no window is open
	closed()

	settle("slow-before", "after")
	for _, end := range [][]string{{"stop", "regsweep-window.service"}, {"kill", "--signal=KILL", "regsweep-window.service"}} {
		run("start", "--no-block", "regsweep-window.service")
		<-waiting
		run(end...)
		run("stop", "regsweep-window.service") // it returns when ExecStopPost has ended
		closed("/slow-before", "/after")
	}

	// AFTER is not interrupted, and so it is not tried again.
	settle("before", "slow-after")
	run("start", "--no-block", "regsweep-window.service")
	<-waiting
	run("stop", "--no-block", "regsweep-window.service")
	for state := ""; state != "deactivating\n"; {
		state, _ = systemctl(t.Context(), "show", "--property=ActiveState", "--value", "regsweep-window.service")
	}
	goOn <- true
	run("stop", "regsweep-window.service")
	closed("/before", "/slow-after")
	run("start", "regsweep-window.timer")
}

func isGone(t *testing.T, path string) bool {
	t.Helper()
	_, err := os.Stat(path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return err != nil
}
