package cli

import (
	"fmt"
	"strings"

	urfave "github.com/urfave/cli/v2"
)

// completeCommand is what the completion scripts ask: its arguments are the words of
// the command line after the program's name, the last of them being typed. It prints
// what that could become, one a line, each with a tab and what it means. A first line ":"
// says that no file name is wanted there.
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

type candidate struct{ word, meaning string }

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
			command, _ = findSubcommand(command, rest[0]) // of none there is nothing to offer
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
			return // the value of the flag before it
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
