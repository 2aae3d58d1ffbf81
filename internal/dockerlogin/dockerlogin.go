// Package dockerlogin finds the logins that docker has saved.
package dockerlogin

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// configFile has the fields of docker's config.json that regsweep reads.
type configFile struct {
	Auths map[string]struct {
		Auth     string `json:"auth"`
		Username string `json:"username"`
		Password string `json:"password"`
	} `json:"auths"`
	CredHelpers map[string]string `json:"credHelpers"`
	CredsStore  string            `json:"credsStore"`
}

// Remembered returns a function that calls Find and remembers the login of a host for a minute, by now.
// A proof is repeated every two seconds, and a helper would be started each time. Passwords of some
// helpers expire, so they are not remembered for a whole run. The function may be called concurrently.
func Remembered(now func() time.Time, getenv func(string) string) func(ctx context.Context, host string) (username, password string, err error) {
	type login struct {
		username, password string
		found              time.Time
	}
	var mu sync.Mutex
	logins := map[string]login{}
	return func(ctx context.Context, host string) (string, string, error) {
		mu.Lock()
		defer mu.Unlock()
		known, has := logins[host]
		if has && now().Sub(known.found) < time.Minute {
			return known.username, known.password, nil
		}
		username, password, err := Find(ctx, getenv, host)
		if err == nil {
			logins[host] = login{username, password, now()}
		}
		return username, password, err
	}
}

// Find returns the username and password of a docker login to a host. It reads config.json in
// $DOCKER_CONFIG or ~/.docker, or calls the credential helper that is named there. It returns "" for a
// host without a login.
func Find(ctx context.Context, getenv func(string) string, host string) (username, password string, err error) {
	dir := getenv("DOCKER_CONFIG")
	if dir == "" {
		home := getenv("HOME")
		if home == "" {
			return "", "", nil
		}
		dir = filepath.Join(home, ".docker")
	}
	path := filepath.Join(dir, "config.json")
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", "", nil
	}
	if err != nil {
		return "", "", err
	}
	var config configFile
	if err := json.Unmarshal(content, &config); err != nil {
		return "", "", fmt.Errorf("%s is not valid JSON", path)
	}
	if helper := config.CredHelpers[host]; helper != "" {
		return helperCredentials(ctx, helper, host)
	}
	keys := slices.DeleteFunc(slices.Sorted(maps.Keys(config.Auths)), func(key string) bool { return registryHost(key) != host })
	if _, exact := config.Auths[host]; exact {
		keys = slices.Insert(keys, 0, host)
	}
	for _, key := range keys {
		entry := config.Auths[key]
		if entry.Auth != "" {
			decoded, err := base64.StdEncoding.DecodeString(entry.Auth)
			if err != nil {
				return "", "", fmt.Errorf("%s: the auth of %s is not valid base64", path, host)
			}
			username, password, _ := strings.Cut(string(decoded), ":")
			return username, strings.TrimRight(password, "\x00"), nil
		}
		if entry.Username != "" {
			return entry.Username, entry.Password, nil
		}
	}
	if config.CredsStore != "" {
		return helperCredentials(ctx, config.CredsStore, host)
	}
	return "", "", nil
}

// registryHost returns the host and port of a key in auths. The key may be a URL.
func registryHost(key string) string {
	if _, rest, found := strings.Cut(key, "://"); found {
		key = rest
	}
	host, _, _ := strings.Cut(key, "/")
	return host
}

const helperTimeout = 30 * time.Second

// helperCredentials runs one of docker's credential helpers, for at most helperTimeout. It returns "" if
// the helper has no password for the host.
func helperCredentials(ctx context.Context, helper, host string) (username, password string, err error) {
	name := "docker-credential-" + helper
	if strings.ContainsRune(helper, filepath.Separator) {
		return "", "", fmt.Errorf("%s is not the name of a program", name)
	}
	ctx, cancel := context.WithTimeout(ctx, helperTimeout)
	defer cancel()
	command := exec.CommandContext(ctx, name, "get")
	command.WaitDelay = time.Second // a helper may leave an agent that keeps its output open
	command.Stdin = strings.NewReader(host)
	out, err := command.Output()
	if errors.Is(err, exec.ErrWaitDelay) { // the helper itself has ended, and has succeeded
		err = nil
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && bytes.Contains(out, []byte("credentials not found")) {
		return "", "", nil
	}
	if err != nil {
		return "", "", fmt.Errorf("%s get: %w", name, err)
	}
	var answer struct{ Username, Secret string }
	if err := json.Unmarshal(out, &answer); err != nil {
		return "", "", fmt.Errorf("%s get: its answer is not valid JSON", name)
	}
	if answer.Username == "<token>" { // an identity token needs another protocol
		return "", "", nil
	}
	return answer.Username, answer.Secret, nil
}
