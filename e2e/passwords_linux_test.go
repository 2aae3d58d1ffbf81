package e2e

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// TestPasswordsLeaveOnlyForTheirHost runs commands while something listens at the address in
// config.yml that asks for a password and refers to a token server. The listener is a fake:
// no registry asks for a password in order to steal it.
func TestPasswordsLeaveOnlyForTheirHost(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var stolen []string
	listen := func(challenge string) *httptest.Server {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			if _, password, ok := r.BasicAuth(); ok {
				stolen = append(stolen, password)
			}
			w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
			w.Header().Set("WWW-Authenticate", challenge)
			w.WriteHeader(http.StatusUnauthorized)
		}))
		t.Cleanup(server.Close)
		return server
	}
	basic := listen("Basic realm=x")
	bearer := listen(`Bearer realm="` + basic.URL + `/token",service=registry`)

	registry, root := asksForUsers(t, true)
	home, password := t.TempDir(), filepath.Join(t.TempDir(), "password")
	must(t, os.WriteFile(password, []byte("swordfish\n"), 0o600))
	must(t, os.WriteFile(filepath.Join(home, "config.json"), []byte(fmt.Sprintf(`{"auths":{"registry.example.com":{"auth":"%s"}}}`,
		base64.StdEncoding.EncodeToString([]byte("ann:swordfish")))), 0o600))
	explicit := []string{"--registry", registry.URL(), "--username", "ann", "--password-file", password}
	for name, listener := range map[string]*httptest.Server{"basic": basic, "a token server": bearer} {
		target := filepath.Join(t.TempDir(), "config.yml")
		must(t, os.WriteFile(target, []byte(fmt.Sprintf("version: 0.1\nstorage:\n  filesystem: {rootdirectory: %s}\nhttp:\n  addr: %s\n  host: https://registry.example.com\n",
			root, strings.TrimPrefix(listener.URL, "http://"))), 0o600))
		for _, test := range []struct {
			flags []string
			code  int
			says  string
		}{
			{explicit, 0, "PROVEN"},
			{nil, 3, "asks for a username and password"},
			{[]string{"--registry-stopped"}, 3, "although you say that it is stopped"},
			{append([]string{"--registry-stopped"}, explicit[2:]...), 3, "although you say that it is stopped"},
		} {
			command := program(t, slices.Concat([]string{"check"}, test.flags, []string{target})...)
			command.Env = append(command.Environ(), "DOCKER_CONFIG="+home)
			output, err := command.CombinedOutput()
			if command.ProcessState == nil {
				t.Fatal(err)
			}
			mu.Lock()
			if len(stolen) > 0 {
				t.Errorf("%s, %q: the listener got %q", name, test.flags, stolen)
			}
			stolen = nil
			mu.Unlock()
			if code := command.ProcessState.ExitCode(); code != test.code || !strings.Contains(string(output), test.says) {
				t.Errorf("%s, %q: exit code %d, want %d: %s", name, test.flags, code, test.code, output)
			}
		}
	}

	// A collection repeats the proof while it removes.
	target := filepath.Join(t.TempDir(), "config.yml")
	must(t, os.WriteFile(target, []byte(fmt.Sprintf("version: 0.1\nstorage:\n  filesystem: {rootdirectory: %s}\nhttp: {addr: %s}\n",
		root, strings.TrimPrefix(basic.URL, "http://"))), 0o600))
	command := program(t, slices.Concat([]string{"gc", "-y"}, explicit, []string{target})...)
	if output, err := command.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, output)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(stolen) > 0 {
		t.Errorf("gc: the listener got %q", stolen)
	}
}
