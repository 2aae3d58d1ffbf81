package cli

import (
	"os"
	"regexp"
	"slices"
	"strings"

	"regsweep/internal/human"
	"regsweep/storage"

	urfave "github.com/urfave/cli/v2"
)

// normalizeArgs returns the arguments in the only order that urfave/cli reads: the command, its flags,
// "--", its operands. Operators write other orders, such as `garbage-collect config.yml -dm`.
// urfave/cli would take such a flag for an operand, and a run would remove what the user did not mean.
// An argument that is not understood is a usage error.
func normalizeArgs(app *urfave.App, args []string) ([]string, error) {
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
	name, words := command.Name, 2 // the program and the command
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
		case flag == readDataName: // the only flag that needs no value, and may have one
			flags = append(flags, dashed(flag)+"="+allData)
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

// findCommand returns the command with this name, or nil for a flag that asks for the version.
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
	return nil, storage.Usagef("unknown command %q%s: see regsweep --help", name, human.DidYouMean(human.Closest(name, namesOf(app.Commands))))
}

// isTarget guesses whether a name is a target: a path, a YAML file, or a file that exists.
func isTarget(name string) bool {
	_, err := os.Stat(name)
	return err == nil || strings.Contains(name, "/") || isYAML(name)
}

// isYAML reports whether a name is that of a YAML file.
func isYAML(name string) bool {
	return strings.HasSuffix(name, ".yml") || strings.HasSuffix(name, ".yaml")
}

// findSubcommand returns the subcommand with this name. An unknown name is a usage error.
func findSubcommand(command *urfave.Command, name string) (*urfave.Command, error) {
	for _, sub := range command.Subcommands {
		if sub.HasName(name) {
			return sub, nil
		}
	}
	return nil, storage.Usagef("%s: there is no %q%s: see regsweep %s --help",
		command.Name, name, human.DidYouMean(human.Closest(name, namesOf(command.Subcommands))), command.Name)
}

// namesOf returns the names and aliases of the commands that are not hidden.
func namesOf(commands []*urfave.Command) []string {
	var names []string
	for _, command := range commands {
		if !command.Hidden {
			names = append(names, command.Names()...)
		}
	}
	return names
}

// knownFlags maps the name of each flag of a command to whether the flag takes a value.
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

// has reports whether an argument is one of the flags, with or without a value.
func (k knownFlags) has(arg string) bool {
	if len(arg) < 2 || arg[0] != '-' {
		return false
	}
	name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
	_, found := k[name]
	return found
}

// shortFlags splits "-dm" into "-d" and "-m". It fails unless each letter is a flag without a value.
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
	meant := human.Closest(strings.TrimLeft(flag, "-"), long)
	if meant != "" {
		meant = dashed(meant)
	}
	return storage.Usagef("unknown flag %s%s: see regsweep %s --help", flag, human.DidYouMean(meant), command)
}

func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

// singleDash matches a flag in an error of Go's flag package, which writes it with one dash.
var singleDash = regexp.MustCompile(`( for (?:flag )?)-(\w[\w-]+)`)

// usageError returns an error of urfave/cli about a flag's value, with two dashes before the flag.
func usageError(_ *urfave.Context, err error, _ bool) error {
	return storage.Usagef("%s", singleDash.ReplaceAllString(err.Error(), "$1--$2"))
}
