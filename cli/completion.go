package cli

import (
	"fmt"

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
			return written(err)
		},
	}
}

// The scripts ask the program itself, and fall back on file names, since a target
// often is one.
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
