package e2e

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"regsweep/internal/registrytest"

	"golang.org/x/sys/unix"
)

// asksForUsers is a read-only registry that lets ann in, and nobody else.
func asksForUsers(t *testing.T, token bool) (registry *registrytest.Registry, root string) {
	tree, _ := treeWithGarbage(t)
	tree.Age("", time.Hour)
	return registrytest.StartT(t, registrytest.Config{Root: tree.Root(), ReadOnly: true, Username: "ann", Password: "swordfish", Token: token}), tree.Root()
}

// checked is what a check of it prints, and its exit code.
func checked(t *testing.T, registry *registrytest.Registry, root string, env []string, flags ...string) (code int, output string) {
	t.Helper()
	command := program(t, append([]string{"check", "--registry", registry.URL(), root}, flags...)...)
	command.Env = append(command.Environ(), append([]string{"HOME=" + t.TempDir(), "DOCKER_CONFIG="}, env...)...)
	combined, err := command.CombinedOutput()
	if command.ProcessState == nil {
		t.Fatal(err)
	}
	if strings.Contains(string(combined), "swordfish") || strings.Contains(string(combined), "wrong-word") {
		t.Errorf("it shows a password: %s", combined)
	}
	return command.ProcessState.ExitCode(), string(combined)
}

func TestAWrongPasswordIsReportedAsSuch(t *testing.T) {
	t.Parallel()
	for _, token := range []bool{false, true} {
		registry, root := asksForUsers(t, token)
		file := filepath.Join(t.TempDir(), "password")
		for content, want := range map[string]string{"swordfish": "PROVEN", "swordfish\n": "PROVEN", "swordfish\r\n": "PROVEN", "wrong-word": "the username and password were not accepted"} {
			must(t, os.WriteFile(file, []byte(content), 0o600))
			code, output := checked(t, registry, root, nil, "--username", "ann", "--password-file", file)
			if !strings.Contains(output, want) || (code == 0) != (want == "PROVEN") {
				t.Errorf("token %v, %q: exit code %d: %s", token, content, code, output)
			}
		}
		if code, output := checked(t, registry, root, nil); code != 3 || !strings.Contains(output, "asks for a username and password") {
			t.Errorf("token %v, without any: exit code %d: %s", token, code, output)
		}
	}
}

// waitForSilence waits until what is typed is not shown.
func (s *session) waitForSilence() error {
	silent := false
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		err := s.control(func(fd int) error {
			state, err := unix.IoctlGetTermios(fd, unix.TCGETS)
			silent = err == nil && state.Lflag&unix.ECHO == 0
			return err
		})
		if err != nil || silent {
			return err
		}
	}
	return errors.New("the terminal shows what is typed")
}

// control does something to the terminal.
func (s *session) control(do func(fd int) error) error {
	connection, err := s.master.SyscallConn()
	if err != nil {
		return err
	}
	var doErr error
	err = connection.Control(func(fd uintptr) { doErr = do(int(fd)) })
	return errors.Join(err, doErr)
}

// suspendAndResume does what a shell does for Ctrl-Z and fg: meanwhile the terminal is the
// shell's, which shows what is typed.
func (s *session) suspendAndResume() error {
	if err := s.Process.Signal(unix.SIGSTOP); err != nil {
		return err
	}
	err := s.control(func(fd int) error {
		state, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err != nil {
			return err
		}
		state.Lflag |= unix.ECHO
		return unix.IoctlSetTermios(fd, unix.TCSETS, state)
	})
	return errors.Join(err, s.Process.Signal(unix.SIGCONT))
}

// TestAQuestionIsShownAgainAfterASuspension, and what is typed as a password is still not shown.
func TestAQuestionIsShownAgainAfterASuspension(t *testing.T) {
	t.Parallel()
	registry, root := asksForUsers(t, false)
	s := mustStart(t, program(t, "check", "--registry", registry.URL(), "--username", "ann", root))
	must(t, s.waitFor("Password: "), s.waitForSilence())
	must(t, s.suspendAndResume(), s.waitFor("Password: Password: "), s.waitForSilence(), s.types("swordfish\r"))
	if code, err := s.end(); err != nil || code != 0 || strings.Contains(s.shows(), "swordfish") {
		t.Errorf("exit code %d, %v: %s", code, err, s.shows())
	}

	tree, garbage := treeWithGarbage(t)
	s = mustStart(t, program(t, "gc", "--registry-stopped", tree.Root()))
	must(t, s.waitFor(question), s.suspendAndResume(), s.waitFor(question+strings.TrimPrefix(question, "\n")), s.types("y\r"))
	if code, err := s.end(); err != nil || code != 0 || tree.Exists(garbage) {
		t.Errorf("exit code %d, %v: %s", code, err, s.shows())
	}
}

func TestTheTerminalIsAskedForThePassword(t *testing.T) {
	t.Parallel()
	registry, root := asksForUsers(t, false)
	for typed, want := range map[string]int{"swordfish\r": 0, "wrong-word\r": 3, "\r": 2, "\x04": 2, "sword\x04\x04": 2} {
		s := mustStart(t, program(t, "check", "--registry", registry.URL(), "--username", "ann", root))
		must(t, s.waitFor("Password: "), s.waitForSilence(), s.types(typed))
		code, err := s.end()
		must(t, err)
		if code != want || strings.Contains(s.shows(), strings.Trim(typed, "\r\x04")) && want != 2 {
			t.Errorf("%q: exit code %d: %s", typed, code, s.shows())
		}
	}
	// A dry run asks no registry, and so nobody for a password.
	s := mustStart(t, program(t, "gc", "-d", "--username", "ann", root))
	if code, err := s.end(); err != nil || code != 0 || strings.Contains(s.shows(), "Password: ") {
		t.Errorf("a dry run: exit code %d, %v: %s", code, err, s.shows())
	}
}

func TestDockersLoginsAreUsed(t *testing.T) {
	t.Parallel()
	registry, root := asksForUsers(t, true)
	auth := func(password string) string { return base64.StdEncoding.EncodeToString([]byte("ann:" + password)) }
	// A helper is a program; this one stands for those of docker.
	programs := t.TempDir()
	must(t, os.WriteFile(filepath.Join(programs, "docker-credential-fake"), []byte(fmt.Sprintf(`#!/bin/sh
read host
test "$1 $host" = "get %s" || { echo "credentials not found in native keychain"; exit 1; }
echo '{"ServerURL":"x","Username":"ann","Secret":"swordfish"}'
`, registry.Host())), 0o755))
	for name, test := range map[string]struct {
		config, want string
	}{
		"auths":               {fmt.Sprintf(`{"auths":{"other:5000":{"auth":"%s"},"%s":{"auth":"%s"}}}`, auth("wrong-word"), registry.Host(), auth("swordfish")), "PROVEN"},
		"a URL":               {fmt.Sprintf(`{"auths":{"http://%s/v1/":{"auth":"%s"}}}`, registry.Host(), auth("swordfish")), "PROVEN"},
		"in the clear":        {fmt.Sprintf(`{"auths":{"%s":{"username":"ann","password":"swordfish"}}}`, registry.Host()), "PROVEN"},
		"a helper":            {fmt.Sprintf(`{"credHelpers":{"%s":"fake"}}`, registry.Host()), "PROVEN"},
		"a store":             {fmt.Sprintf(`{"auths":{"%s":{}},"credsStore":"fake"}`, registry.Host()), "PROVEN"},
		"a helper without it": {`{"credHelpers":{"other:5000":"fake"}}`, "asks for a username and password"},
		"a missing helper":    {fmt.Sprintf(`{"credHelpers":{"%s":"nowhere"}}`, registry.Host()), "docker-credential-nowhere"},
		"no helper's name":    {fmt.Sprintf(`{"credHelpers":{"%s":"x/../../fake"}}`, registry.Host()), "is not the name of a program"},
		"a former password":   {fmt.Sprintf(`{"auths":{"%s":{"auth":"%s"}}}`, registry.Host(), auth("wrong-word")), "were not accepted"},
		"another registry":    {fmt.Sprintf(`{"auths":{"other:5000":{"auth":"%s"}}}`, auth("wrong-word")), "asks for a username and password"},
		"no JSON":             {`{`, "config.json is not valid JSON"},
		"no base64":           {fmt.Sprintf(`{"auths":{"%s":{"auth":"*"}}}`, registry.Host()), "is not valid base64"},
	} {
		t.Run(name, func(t *testing.T) {
			home := t.TempDir()
			must(t, os.Mkdir(filepath.Join(home, ".docker"), 0o755), os.WriteFile(filepath.Join(home, ".docker/config.json"), []byte(test.config), 0o600))
			for _, env := range [][]string{{"HOME=" + home}, {"DOCKER_CONFIG=" + filepath.Join(home, ".docker")}} {
				env = append(env, "PATH="+programs+":"+os.Getenv("PATH"))
				code, output := checked(t, registry, root, env)
				if (code == 0) != (test.want == "PROVEN") || !strings.Contains(output, test.want) {
					t.Errorf("%s: exit code %d: %s", env[0], code, output)
				}
			}
		})
	}
}

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
