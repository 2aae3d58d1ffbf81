// Package cli is the command line: commands and flags, progress, confirmation, and the report as text
// and as JSON. It is the only package that prints.
package cli

import (
	"flag"
	"runtime/debug"
	"strings"

	"regsweep/storage"

	urfave "github.com/urfave/cli/v2"
)

func newApp(r *runner) *urfave.App {
	app := &urfave.App{
		Name:            "regsweep",
		Usage:           "give back the disk space that a container registry no longer needs",
		Version:         version(),
		HideHelpCommand: true, // replaced by helpCommand
		Writer:          &helpWriter{out: r.env.Out, width: r.env.Width(r.env.Out)},
		ErrWriter:       r.env.Err,
		// A comma is a part of a value: --without 'app:{a,b}'.
		DisableSliceFlagSeparator: true,
		CustomAppHelpTemplate:     appHelp,
		ExitErrHandler:            func(*urfave.Context, error) {}, // Run handles all errors
		OnUsageError:              usageError,
		Action:                    urfave.ShowAppHelp,
		Commands: []*urfave.Command{
			gcCommand(r), untagCommand(r), applyCommand(r), windowCommand(r), policyCommand(r), quarantineCommand(r), checkCommand(r), auditCommand(r), verifyCommand(r), whyCommand(r), graphCommand(r), completionCommand(r), completeCommand(r), versionCommand(), helpCommand(),
		},
	}
	for _, command := range app.Commands {
		command.HideHelpCommand = true // urfave/cli shares that command between runs
		for _, sub := range command.Subcommands {
			sub.HideHelpCommand = true
		}
	}
	return app
}

func helpCommand() *urfave.Command {
	return &urfave.Command{
		Name:               "help",
		Usage:              "explain a command",
		ArgsUsage:          "[COMMAND]",
		CustomHelpTemplate: commandHelp,
		Action: func(c *urfave.Context) error {
			name := c.Args().First()
			if name == "" {
				return urfave.ShowAppHelp(c)
			}
			command, err := findCommand(c.App, name)
			if err != nil {
				return err
			}
			if below := c.Args().Get(1); command != nil && len(command.Subcommands) > 0 && below != "" {
				if command, err = findSubcommand(command, below); err != nil {
					return err
				}
				command.HelpName = "regsweep " + name + " " + command.Name
			} else if command == nil || c.NArg() > 1 {
				return storage.Usagef("help explains one command: see regsweep --help")
			}
			urfave.HelpPrinter(c.App.Writer, command.CustomHelpTemplate, command)
			return nil
		},
	}
}

func versionCommand() *urfave.Command {
	return &urfave.Command{
		Name:               "version",
		Usage:              "print the version",
		CustomHelpTemplate: commandHelp,
		OnUsageError:       usageError,
		Action: func(c *urfave.Context) error {
			if c.NArg() > 0 {
				return storage.Usagef("version takes no argument")
			}
			urfave.ShowVersion(c)
			return nil
		},
	}
}

// version returns the version of the module and of Go, and the revision if the module's version does
// not contain it.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	revision, modified := "", ""
	for _, setting := range info.Settings {
		switch {
		case setting.Key == "vcs.revision" && len(setting.Value) >= 12 && !strings.Contains(info.Main.Version, setting.Value[:12]):
			revision = " " + setting.Value[:12]
		case setting.Key == "vcs.modified" && setting.Value == "true" && !strings.HasSuffix(info.Main.Version, "+dirty"):
			modified = "+changes"
		}
	}
	return info.Main.Version + revision + modified + " " + info.GoVersion
}

// urfave/cli has one --help flag and one --version flag for the whole process, and every run writes to
// them. Tests run commands concurrently, so each run needs its own copy.
func init() {
	urfave.HelpFlag = sharedFlag{urfave.HelpFlag.(*urfave.BoolFlag)}
	urfave.VersionFlag = sharedFlag{urfave.VersionFlag.(*urfave.BoolFlag)}
}

// sharedFlag applies a copy of a flag, so that a run does not write to the flag.
type sharedFlag struct{ *urfave.BoolFlag }

// Apply implements urfave.Flag.
func (f sharedFlag) Apply(set *flag.FlagSet) error {
	own := *f.BoolFlag
	return own.Apply(set)
}

const targetHelp = `TARGET:
   a registry's config.yml; a directory that holds docker/registry/v2; or
   s3://bucket/prefix?endpoint=…&region=…
   Left out, it is $REGISTRY_CONFIGURATION_PATH, /etc/distribution/config.yml or
   /etc/docker/registry/config.yml, the first that there is.
`

const exitHelp = `EXIT CODES:
   0 done · 1 failed · 2 wrong usage or config · 3 refused by the safety check
   4 done, with problems that kept something · 5 locked by another run
   6 the registry may still be read-only: a window's --after has failed
   130 interrupted, or not confirmed
`

const appHelp = `{{.Name}} - {{.Usage}}

USAGE:
   {{.Name}} COMMAND [flags] TARGET

COMMANDS:{{range .VisibleCommands}}
   {{join .Names ", "}}{{"\t"}}{{.Usage}}{{end}}

` + targetHelp + `
` + exitHelp + `
EXAMPLES:
   regsweep check config.yml       may something be removed now? why not?
   regsweep gc -d config.yml       what would be removed, what stays, and why
   regsweep gc config.yml          remove it, after a question
   regsweep apply plan.jsonl config.yml
                                   remove what is in a plan that gc wrote before
   regsweep gc --quarantine config.yml
                                   move it away instead, so that it can be undone
   regsweep why team/app:v1 config.yml
                                   why an image is kept, and what would free it
   regsweep help gc                all flags of gc
   regsweep --version
`

const commandHelp = `{{.HelpName}} - {{.Usage}}

USAGE:
   {{.HelpName}}{{if .VisibleFlags}} [flags]{{end}}{{if .ArgsUsage}} {{.ArgsUsage}}{{end}}{{if .Aliases}}
   also: regsweep {{join .Aliases ", "}}{{end}}
{{if .VisibleFlags}}
FLAGS:{{range .VisibleFlags}}
   {{.}}{{end}}
{{end}}{{if .Description}}
{{.Description}}{{end}}`
