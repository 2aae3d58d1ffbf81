package cli

import (
	"errors"
	"io"
	"strings"
	"testing"

	"regsweep/storage"
)

func normalized(line string) ([]string, error) {
	app := newApp(&runner{env: Env{Width: func(io.Writer) int { return 0 }}})
	return normalizeArgs(app, append([]string{"regsweep"}, strings.Fields(line)...))
}

func TestFlagsGoOnEitherSideOfTheTarget(t *testing.T) {
	for line, want := range map[string]string{
		"gc":                                   "gc",
		"gc config.yml":                        "gc -- config.yml",
		"gc -d config.yml":                     "gc -d -- config.yml",
		"gc config.yml -d":                     "gc -d -- config.yml",
		"garbage-collect config.yml -m":        "garbage-collect -m -- config.yml",
		"gc -d config.yml --json":              "gc -d --json -- config.yml",
		"gc config.yml -dm":                    "gc -d -m -- config.yml",
		"gc -dmqy config.yml":                  "gc -d -m -q -y -- config.yml",
		"gc config.yml --plan p":               "gc --plan=p -- config.yml",
		"gc --plan p config.yml":               "gc --plan=p -- config.yml",
		"gc config.yml --plan=p -d":            "gc --plan=p -d -- config.yml",
		"gc --plan=a=b config.yml":             "gc --plan=a=b -- config.yml",
		"gc --plan= config.yml":                "gc --plan= -- config.yml",
		"gc --plan=--json config.yml":          "gc --plan=--json -- config.yml",
		"gc --plan -odd config.yml":            "gc --plan=-odd -- config.yml",
		"gc --plan - config.yml":               "gc --plan=- -- config.yml",
		"gc --dry-run=false config.yml":        "gc --dry-run=false -- config.yml",
		"gc -d=true config.yml":                "gc -d=true -- config.yml",
		"gc -json config.yml":                  "gc --json -- config.yml",
		"gc config.yml -- -d":                  "gc -- config.yml -d",
		"gc -d -- -m":                          "gc -d -- -m",
		"gc --":                                "gc",
		"gc -":                                 "gc -- -",
		"gc a b":                               "gc -- a b",
		"check c --registry u --registry=v":    "check --registry=u --registry=v -- c",
		"gc config.yml -h":                     "help gc",
		"garbage-collect --help":               "help gc",
		"gc -- --help":                         "gc -- --help",
		"help gc":                              "help -- gc",
		"--version":                            "--version",
		"-v":                                   "-v",
		"--help":                               "help",
		"-h gc":                                "help",
		"":                                     "",
		"__complete gc --pl":                   "__complete gc --pl",
		"completion bash":                      "completion -- bash",
		"gc --min-age 7d --upload-age 36h c":   "gc --min-age=7d --upload-age=36h -- c",
		"gc --registry-stopped c --username u": "gc --registry-stopped --username=u -- c",
		"quarantine":                           "help quarantine",
		"quarantine --help":                    "help quarantine",
		"quarantine restore -h":                "help quarantine restore",
		"quarantine list c --json":             "quarantine list --json -- c",
		"quarantine restore r c --digest=d -d": "quarantine restore --digest=d -d -- r c",
		"quarantine purge --older-than 7d c":   "quarantine purge --older-than=7d -- c",
	} {
		got, err := normalized(line)
		if err != nil {
			t.Errorf("%s: %v", line, err)
		} else if joined := strings.Join(got[1:], " "); joined != want {
			t.Errorf("%s: is read as %q, want %q", line, joined, want)
		}
	}
}

func TestAWrongCommandLineSaysWhatWasMeant(t *testing.T) {
	for line, want := range map[string]string{
		"gc --dryrun c":              "unknown flag --dryrun, did you mean --dry-run?: see regsweep gc --help",
		"gc c --jsno":                "unknown flag --jsno, did you mean --json?: see regsweep gc --help",
		"gc --plna=p c":              "unknown flag --plna, did you mean --plan?: see regsweep gc --help",
		"garbage-collect -z c":       "unknown flag -z: see regsweep gc --help",
		"gc -dx c":                   "unknown flag -dx: see regsweep gc --help",
		"gc --dm c":                  "unknown flag --dm: see regsweep gc --help",
		"gc c --frobnicate":          "unknown flag --frobnicate: see regsweep gc --help",
		"check -d c":                 "unknown flag -d: see regsweep check --help",
		"gc c --plan":                "--plan needs a value: see regsweep gc --help",
		"gc --plan --json c":         "--plan needs a value, and --json is a flag: if it is meant, write --plan=--json",
		"gc --plan --help":           "--plan needs a value, and --help is a flag: if it is meant, write --plan=--help",
		"gc --plan -d c":             "--plan needs a value, and -d is a flag: if it is meant, write --plan=-d",
		"cg c":                       `unknown command "cg", did you mean gc?: see regsweep --help`,
		"chekc c":                    `unknown command "chekc", did you mean check?: see regsweep --help`,
		"frobnicate":                 `unknown command "frobnicate": see regsweep --help`,
		"/etc/config.yml":            "/etc/config.yml is no command: a target goes after one, as in regsweep gc /etc/config.yml",
		"quarantine lst c":           `quarantine: there is no "lst", did you mean list?: see regsweep quarantine --help`,
		"quarantine config.yml":      `quarantine: there is no "config.yml": see regsweep quarantine --help`,
		"quarantine purge --older c": "unknown flag --older, did you mean --older-than?: see regsweep quarantine purge --help",
		"quarantine restore --plan":  "--plan needs a value: see regsweep quarantine restore --help",
		"-d gc c":                    "-d stands before the command: flags go after it, as in regsweep gc --dry-run",
	} {
		got, err := normalized(line)
		var usage *storage.UsageError
		switch {
		case !errors.As(err, &usage):
			t.Errorf("%s: is read as %q, %v", line, got, err)
		case err.Error() != want:
			t.Errorf("%s: %q, want %q", line, err, want)
		}
	}
}
