package cli

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

	"regsweep/guard"
	"regsweep/storage"

	urfave "github.com/urfave/cli/v2"
)

// readCredentials reads the flags for the username and password. It reads the password at once, because
// the next line of standard input may be the answer to a question. Without --username, docker's
// config.json is read when a registry asks for a login.
func (r *runner) readCredentials(c *urfave.Context, options *guard.Options) (err error) {
	file, stdin := c.String("password-file"), c.Bool("password-stdin")
	options.Username = c.String("username")
	switch {
	case c.IsSet("password-file") && stdin:
		return storage.Usagef("--password-file and --password-stdin: one of them is enough")
	case options.Username == "" && stdin:
		return storage.Usagef("--password-stdin: it needs --username")
	case options.Username == "" && c.IsSet("password-file"):
		return storage.Usagef("--password-file: it needs --username")
	case options.Username == "":
		options.Credentials = r.rememberedCredentials()
		return nil
	case c.IsSet("password-file"):
		content, err := os.ReadFile(file)
		if err != nil {
			return storage.Usagef("--password-file: %w", err)
		}
		if options.Password = strings.TrimRight(string(content), "\r\n"); options.Password == "" {
			return storage.Usagef("--password-file: %s is empty", file)
		}
		return nil
	case !stdin && c.Bool("dry-run"): // a dry run asks no registry
		return nil
	case !stdin && r.env.Terminal == nil:
		return storage.Usagef("--username: there is no terminal to ask for the password: use --password-file FILE or --password-stdin")
	}
	if options.Password, err = r.password(c.Context, stdin); err != nil {
		return fmt.Errorf("read the password: %w", err)
	}
	if options.Password == "" && stdin {
		return storage.Usagef("--password-stdin: there is no password on standard input")
	}
	if options.Password == "" {
		return storage.Usagef("--username: no password was given")
	}
	return nil
}

// dockerConfig has the fields of docker's config.json that regsweep reads.
type dockerConfig struct {
	Auths map[string]struct {
		Auth     string `json:"auth"`
		Username string `json:"username"`
		Password string `json:"password"`
	} `json:"auths"`
	CredHelpers map[string]string `json:"credHelpers"`
	CredsStore  string            `json:"credsStore"`
}

// rememberedCredentials returns a function that calls dockerCredentials and remembers the login of a
// host for a minute. The proof is repeated every two seconds, and a helper would be started each time.
// Passwords of some helpers expire, so they are not remembered for the whole run.
func (r *runner) rememberedCredentials() func(ctx context.Context, host string) (username, password string, err error) {
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
		if has && r.env.Now().Sub(known.found) < time.Minute {
			return known.username, known.password, nil
		}
		username, password, err := r.dockerCredentials(ctx, host)
		if err == nil {
			logins[host] = login{username, password, r.env.Now()}
		}
		return username, password, err
	}
}

// dockerCredentials returns the username and password of a docker login to a host. It reads
// config.json in $DOCKER_CONFIG or ~/.docker, or calls the credential helper that is named there. It
// returns "" for a host without a login.
func (r *runner) dockerCredentials(ctx context.Context, host string) (username, password string, err error) {
	dir := r.env.Getenv("DOCKER_CONFIG")
	if dir == "" {
		home := r.env.Getenv("HOME")
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
	var config dockerConfig
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
