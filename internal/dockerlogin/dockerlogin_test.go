package dockerlogin

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// withHelper returns an environment and the directory of its docker config, which names a script as the
// credential helper. The script appends to the file calls.
func withHelper(t *testing.T, script string) (getenv func(string) string, dir string) {
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
	return func(name string) string { return map[string]string{"DOCKER_CONFIG": dir}[name] }, dir
}

const answers = `echo '{"Username":"ann","Secret":"swordfish"}'` + "\n"

// The proof is repeated every two seconds. The helper is not called each time, but its passwords may
// expire.
func TestAHelperIsAskedOncePerMinute(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	getenv, dir := withHelper(t, answers)
	find := Remembered(func() time.Time { return now }, getenv)
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

// A helper may start an agent that keeps its standard output open.
func TestAHelperThatLeavesAnAgentIsNotWaitedFor(t *testing.T) {
	getenv, dir := withHelper(t, "sleep 600 &\necho $! >agent\n"+answers)
	t.Chdir(dir)
	_, password, err := Find(t.Context(), getenv, "a:5000")
	if err != nil || password != "swordfish" {
		t.Errorf("got %q, %v", password, err)
	}
	pid, err := os.ReadFile("agent")
	if err != nil {
		t.Fatal(err)
	}
	var number int
	if _, err := fmt.Sscan(string(pid), &number); err != nil {
		t.Fatal(err)
	}
	agent, err := os.FindProcess(number)
	if err != nil {
		t.Fatal(err)
	}
	if err := agent.Kill(); err != nil {
		t.Errorf("the agent has ended: %v", err)
	}
}

// Docker's config.json may have a host several times, in different forms.
func TestTheExactHostComesFirst(t *testing.T) {
	getenv, dir := withHelper(t, "exit 1\n")
	auth := func(password string) string {
		return base64.StdEncoding.EncodeToString([]byte("ann:" + password))
	}
	config := fmt.Sprintf(`{"auths":{"https://a:5000":{"auth":%q},"a:5000/team":{"auth":%q},"a:5000":{"auth":%q},"http://a:5000/v1/":{"auth":%q},"https://b":{"auth":%q},"http://b":{"auth":%q}}}`,
		auth("url"), auth("path"), auth("exact"), auth("old"), auth("second"), auth("first"))
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]string{"a:5000": "exact", "b": "first"} {
		for range 20 { // the order of a map changes
			if _, password, err := Find(t.Context(), getenv, host); err != nil || password != want {
				t.Fatalf("%s: got %q, %v, want %s", host, password, err, want)
			}
		}
	}
}
