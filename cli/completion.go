package cli

import (
	"fmt"
	"strings"

	"regsweep/storage"

	urfave "github.com/urfave/cli/v2"
)

var shells = []string{"bash", "zsh", "fish"}

func completionCommand(r *runner) *urfave.Command {
	return &urfave.Command{
		Name:               "completion",
		Usage:              "print a script that completes command lines: bash, zsh or fish",
		ArgsUsage:          "SHELL",
		CustomHelpTemplate: commandHelp,
		OnUsageError:       usageError,
		Description: `EXAMPLES:
   source <(regsweep completion bash)                     in ~/.bashrc
   source <(regsweep completion zsh)                      in ~/.zshrc, after compinit
   regsweep completion fish | source                      in config.fish
`,
		Action: func(c *urfave.Context) error {
			script, known := completionScripts[c.Args().First()]
			if !known || c.NArg() > 1 {
				return storage.Usagef("completion: name one shell: bash, zsh or fish")
			}
			_, err := fmt.Fprint(r.env.Out, script)
			return outputError(err)
		},
	}
}

// The scripts call the program for candidates. Without candidates they offer file names, because a
// target is often a file.
var completionScripts = map[string]string{
	"bash": `# regsweep completion for bash: source <(regsweep completion bash)
_regsweep() {
  local IFS=$'\n'
  COMPREPLY=($("${COMP_WORDS[0]}" ` + completeName + ` "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null | cut -f1))
  if [[ ${COMPREPLY[0]} == : ]]; then
    compopt +o default 2>/dev/null
    COMPREPLY=("${COMPREPLY[@]:1}")
  fi
}
complete -o default -F _regsweep regsweep
`,
	"zsh": `#compdef regsweep
# regsweep completion for zsh: source <(regsweep completion zsh)
_regsweep() {
  local -a lines answers
  lines=("${(@f)$("${words[1]}" ` + completeName + ` "${(@)words[2,CURRENT]}" 2>/dev/null)}")
  if [[ $lines[1] == : ]]; then
    shift lines
    (( $#lines )) || return 1
  elif [[ -z $lines[1] ]]; then
    _files
    return
  fi
  answers=("${(@)${(@)lines//:/\\:}/$'\t'/:}")
  _describe regsweep answers
}
compdef _regsweep regsweep
`,
	"fish": `# regsweep completion for fish: regsweep completion fish | source
function __regsweep
    set -l words (commandline -opc)
    set -l lines ($words[1] ` + completeName + ` $words[2..] (commandline -ct) 2>/dev/null)
    if test "$lines[1]" = :
        set -e lines[1]
    else if test -z "$lines"
        __fish_complete_path (commandline -ct)
    end
    printf '%s\n' $lines
end
complete -c regsweep -f -a '(__regsweep)'
`,
}

// completeCommand is the hidden command that the completion scripts call. Its arguments are the words
// after the program's name. The last word is incomplete. It prints each candidate on a line, with a
// tab and its description. If the first line is ":", the scripts do not offer file names.
func completeCommand(r *runner) *urfave.Command {
	return &urfave.Command{
		Name:            completeName,
		Hidden:          true,
		SkipFlagParsing: true,
		Action: func(c *urfave.Context) error {
			candidates, files := complete(c.App, c.Args().Slice())
			if !files {
				fmt.Fprintln(r.env.Out, ":")
			}
			for _, candidate := range candidates {
				fmt.Fprintf(r.env.Out, "%s\t%s\n", candidate.word, candidate.meaning)
			}
			return nil
		},
	}
}

const completeName = "__complete"

// candidate is a word that can stand in the place of the incomplete word.
type candidate struct{ word, meaning string }

// complete returns the candidates for the last word, and whether a file name may stand there too.
func complete(app *urfave.App, words []string) (candidates []candidate, files bool) {
	offer := func(word, meaning string) {
		if strings.HasPrefix(word, words[len(words)-1]) {
			candidates = append(candidates, candidate{word, meaning})
		}
	}
	switch {
	case len(words) == 0:
	case len(words) == 1:
		for _, command := range app.Commands {
			if command.Hidden {
				continue
			}
			for _, name := range command.Names() {
				offer(name, command.Usage)
			}
		}
		offer("--help", "show help")
		offer("--version", "print the version")
	case words[0] == "help" && len(words) == 2:
		for _, command := range app.Commands {
			if !command.Hidden {
				offer(command.Name, command.Usage)
			}
		}
	case words[0] == "help" && len(words) == 3 && app.Command(words[1]) != nil:
		for _, sub := range app.Command(words[1]).Subcommands {
			offer(sub.Name, sub.Usage)
		}
	case words[0] == "completion" && len(words) == 2:
		for _, shell := range shells {
			offer(shell, "")
		}
	default:
		command, rest := app.Command(words[0]), words[1:]
		if command != nil && len(command.Subcommands) > 0 {
			if len(rest) == 1 {
				for _, sub := range command.Subcommands {
					offer(sub.Name, sub.Usage)
				}
				break
			}
			command, _ = findSubcommand(command, rest[0]) // an unknown one has no candidates
			rest = rest[1:]
		}
		completeFlag(command, rest, offer)
		return candidates, len(candidates) == 0 && command != nil
	}
	return candidates, false
}

func completeFlag(command *urfave.Command, words []string, offer func(word, meaning string)) {
	last := words[len(words)-1]
	if command == nil || !strings.HasPrefix(last, "-") {
		return
	}
	known := flagsOf(command)
	if before := words[:len(words)-1]; len(before) > 0 && known.has(before[len(before)-1]) {
		flag := before[len(before)-1]
		if known[strings.TrimLeft(flag, "-")] {
			return // the last word is the value of the flag before it
		}
	}
	for _, flag := range command.Flags {
		meaning := ""
		if documented, ok := flag.(urfave.DocGenerationFlag); ok {
			meaning = strings.ReplaceAll(documented.GetUsage(), "`", "")
		}
		offer(dashed(flag.Names()[0]), meaning)
	}
	offer("--help", "show help")
}
