package cli

import (
	"os"
	"regexp"
	"slices"
	"strings"

	"regsweep/storage"

	urfave "github.com/urfave/cli/v2"
)

// arrange writes a command line the one way that urfave/cli reads: the command, its
// flags, "--", its operands. Operators are used to another, `garbage-collect
// config.yml -dm`, and a flag that was taken for an operand, or an operand for a
// flag's value, must not decide what is removed. What is wrong is a usage error.
func arrange(app *urfave.App, args []string) ([]string, error) {
	if len(args) < 2 {
		return args, nil
	}
	if isHelp(args[1]) {
		return []string{args[0], "help"}, nil
	}
	command, err := findCommand(app, args[1])
	if err != nil || command == nil || command.SkipFlagParsing {
		return args, err
	}
	name, words := command.Name, 2 // the words that name it
	if len(command.Subcommands) > 0 {
		if len(args) == 2 || isHelp(args[2]) {
			return []string{args[0], "help", command.Name}, nil
		}
		if command, err = findSubcommand(command, args[2]); err != nil {
			return nil, err
		}
		name, words = name+" "+command.Name, 3
	}
	rest := args[words:]
	known := flagsOf(command)
	flags, operands := []string{}, []string{}
	for i := 0; i < len(rest); i++ {
		arg := rest[i]
		if arg == "--" {
			operands = append(operands, rest[i+1:]...)
			break
		}
		if len(arg) < 2 || arg[0] != '-' {
			operands = append(operands, arg)
			continue
		}
		if isHelp(arg) {
			return slices.Concat([]string{args[0], "help"}, strings.Fields(name)), nil
		}
		flag, value, joined := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		takesValue, found := known[flag]
		switch {
		case !found:
			letters, err := shortFlags(name, known, arg)
			if err != nil {
				return nil, err
			}
			flags = append(flags, letters...)
		case joined:
			flags = append(flags, dashed(flag)+"="+value)
		case !takesValue:
			flags = append(flags, dashed(flag))
		case i+1 == len(rest):
			return nil, storage.Usagef("%s needs a value: see regsweep %s --help", dashed(flag), name)
		case known.has(rest[i+1]):
			return nil, storage.Usagef("%s needs a value, and %s is a flag: if it is meant, write %s=%s", dashed(flag), rest[i+1], dashed(flag), rest[i+1])
		default:
			i++
			flags = append(flags, dashed(flag)+"="+rest[i])
		}
	}
	out := slices.Concat(args[:words], flags)
	if len(operands) > 0 {
		out = slices.Concat(out, []string{"--"}, operands)
	}
	return out, nil
}

func isHelp(arg string) bool { return arg == "-h" || arg == "--help" }

// findCommand returns nil where the program itself is asked for its version.
func findCommand(app *urfave.App, name string) (*urfave.Command, error) {
	if command := app.Command(name); command != nil {
		return command, nil
	}
	if slices.Contains([]string{"-v", "--version"}, name) {
		return nil, nil
	}
	if strings.HasPrefix(name, "-") {
		return nil, storage.Usagef("%s stands before the command: flags go after it, as in regsweep gc --dry-run", name)
	}
	if isTarget(name) {
		return nil, storage.Usagef("%s is no command: a target goes after one, as in regsweep gc %s", name, name)
	}
	return nil, storage.Usagef("unknown command %q%s: see regsweep --help", name, didYouMean(closest(name, commandNames(app))))
}

// isTarget reports whether a name most likely is a target.
func isTarget(name string) bool {
	if strings.Contains(name, "/") || strings.HasSuffix(name, ".yml") || strings.HasSuffix(name, ".yaml") {
		return true
	}
	_, err := os.Stat(name)
	return err == nil
}

// findSubcommand finds what follows a command that has others below it.
func findSubcommand(command *urfave.Command, name string) (*urfave.Command, error) {
	for _, sub := range command.Subcommands {
		if sub.HasName(name) {
			return sub, nil
		}
	}
	return nil, storage.Usagef("%s: there is no %q%s: see regsweep %s --help",
		command.Name, name, didYouMean(closest(name, namesOf(command.Subcommands))), command.Name)
}

func commandNames(app *urfave.App) []string { return namesOf(app.Commands) }

func namesOf(commands []*urfave.Command) []string {
	var names []string
	for _, command := range commands {
		if !command.Hidden {
			names = append(names, command.Names()...)
		}
	}
	return names
}

// knownFlags has the flags of a command by name, and whether each takes a value.
type knownFlags map[string]bool

func flagsOf(command *urfave.Command) knownFlags {
	known := knownFlags{"help": false, "h": false}
	for _, flag := range command.Flags {
		documented, ok := flag.(urfave.DocGenerationFlag)
		for _, name := range flag.Names() {
			known[name] = ok && documented.TakesValue()
		}
	}
	return known
}

// has reports whether an argument is one of the flags.
func (k knownFlags) has(arg string) bool {
	if len(arg) < 2 || arg[0] != '-' {
		return false
	}
	name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
	_, found := k[name]
	return found
}

// shortFlags splits "-dm" into "-d", "-m" where that is what it must mean.
func shortFlags(command string, known knownFlags, arg string) ([]string, error) {
	letters := []string{}
	for _, letter := range arg[1:] {
		takesValue, found := known[string(letter)]
		if !found || takesValue || strings.HasPrefix(arg, "--") {
			return nil, unknownFlag(command, known, arg)
		}
		letters = append(letters, "-"+string(letter))
	}
	return letters, nil
}

func unknownFlag(command string, known knownFlags, arg string) error {
	var long []string
	for name := range known {
		if len(name) > 1 {
			long = append(long, name)
		}
	}
	slices.Sort(long)
	flag, _, _ := strings.Cut(arg, "=")
	meant := closest(strings.TrimLeft(flag, "-"), long)
	if meant != "" {
		meant = dashed(meant)
	}
	return storage.Usagef("unknown flag %s%s: see regsweep %s --help", flag, didYouMean(meant), command)
}

func didYouMean(name string) string {
	if name == "" {
		return ""
	}
	return ", did you mean " + name + "?"
}

func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

// singleDash is how Go's flag package writes the flags of its errors.
var singleDash = regexp.MustCompile(`( for (?:flag )?)-(\w[\w-]+)`)

// usageError rewrites what urfave/cli says of a flag's value.
func usageError(_ *urfave.Context, err error, _ bool) error {
	return storage.Usagef("%s", singleDash.ReplaceAllString(err.Error(), "$1--$2"))
}
