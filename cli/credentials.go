package cli

import (
	"fmt"
	"os"
	"strings"

	"regsweep/guard"
	"regsweep/internal/dockerlogin"
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
		options.Credentials = dockerlogin.Remembered(r.env.Now, r.env.Getenv)
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
