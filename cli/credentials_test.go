package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// withHelper returns a runner and the directory of its docker config, which names a script as the
// credential helper. The script appends to the file calls.
func withHelper(t *testing.T, script string, now *time.Time) (r *runner, dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, content := range map[string]string{
		"docker-credential-fake": "#!/bin/sh\necho x >>" + dir + "/calls\n" + script,
		"config.json":            `{"credsStore":"fake"}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	getenv := func(name string) string { return map[string]string{"DOCKER_CONFIG": dir}[name] }
	return &runner{env: Env{Getenv: getenv, Now: func() time.Time { return *now }}}, dir
}

const answers = `echo '{"Username":"ann","Secret":"swordfish"}'` + "\n"

// The proof is repeated every two seconds. The helper is not called each time, but its passwords may
// expire.
func TestAHelperIsAskedOncePerMinute(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	r, dir := withHelper(t, answers, &now)
	find := r.rememberedCredentials()
	for _, step := range []struct {
		host  string
		pass  time.Duration
		calls int
	}{{"a:5000", 0, 1}, {"a:5000", 59 * time.Second, 1}, {"b:5000", 0, 2}, {"a:5000", 2 * time.Second, 3}, {"a:5000", 0, 3}} {
		now = now.Add(step.pass)
		if _, password, err := find(t.Context(), step.host); err != nil || password != "swordfish" {
			t.Fatalf("got %q, %v", password, err)
		}
		content, err := os.ReadFile(filepath.Join(dir, "calls"))
		if err != nil {
			t.Fatal(err)
		}
		if calls := strings.Count(string(content), "x"); calls != step.calls {
			t.Errorf("%s after %s: %d calls, want %d", step.host, step.pass, calls, step.calls)
		}
	}
}
