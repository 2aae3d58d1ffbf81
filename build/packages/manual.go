package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"regexp"
	"strings"

	"regsweep/build/release"
	"regsweep/cli"
)

// regsweep runs one command line and returns its output, with lines that are not folded.
func regsweep(ctx context.Context, args ...string) (string, error) {
	var output, failure bytes.Buffer
	env := cli.Process()
	env.Out, env.Err, env.Width = &output, &failure, func(io.Writer) int { return 0 }
	if code := cli.Run(ctx, append([]string{"regsweep"}, args...), env); code != 0 {
		return "", fmt.Errorf("regsweep %s: exit code %d: %s", strings.Join(args, " "), code, &failure)
	}
	return output.String(), nil
}

// subcommands are the commands that help explains below a command.
func subcommands(ctx context.Context, command ...string) (names []string, err error) {
	candidates, err := regsweep(ctx, append(append([]string{"__complete", "help"}, command...), "")...)
	for line := range strings.Lines(candidates) {
		if name, _, found := strings.Cut(line, "\t"); found {
			names = append(names, name)
		}
	}
	return names, err
}

// manual returns the manual pages by their names: one of regsweep, and one of each command.
func manual(ctx context.Context, of release.Release) (map[string]string, error) {
	commands := [][]string{{}}
	top, err := subcommands(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range top {
		commands = append(commands, []string{name})
		below, err := subcommands(ctx, name)
		if err != nil {
			return nil, err
		}
		for _, sub := range below {
			commands = append(commands, []string{name, sub})
		}
	}
	pages, others := map[string]string{}, []string{}
	for _, command := range commands {
		others = append(others, strings.Join(append([]string{"regsweep"}, command...), "-"))
	}
	for i, command := range commands {
		help, err := regsweep(ctx, append([]string{"help"}, command...)...)
		if err != nil {
			return nil, err
		}
		related := []string{"regsweep"}
		if i == 0 {
			related = others[1:]
		} else if len(command) == 2 {
			related = append(related, "regsweep-"+command[0])
		} else {
			for _, other := range others {
				if strings.HasPrefix(other, others[i]+"-") {
					related = append(related, other)
				}
			}
		}
		pages[others[i]+".1"] = page(others[i], help, related, of)
	}
	return pages, nil
}

var (
	heading = regexp.MustCompile(`^([A-Z][A-Z :-]*[A-Z…]):\n$`)
	columns = regexp.MustCompile(`^( *\S.*?)(?: {2,}(\S.*))?\n$`)
)

// page makes a manual page of a help text. The text has a first line, and sections whose lines are
// indented. What follows an empty line in a section that is no list is a description.
func page(name, help string, related []string, of release.Release) string {
	first, rest, _ := strings.Cut(help, "\n")
	_, summary, _ := strings.Cut(first, " - ")
	var synopsis, description, options, others, examples strings.Builder
	section, into := "", &description
	described := false
	for line := range strings.Lines(rest) {
		if found := heading.FindStringSubmatch(line); found != nil {
			section, described = found[1], false
			switch section {
			case "USAGE":
				into = &synopsis
			case "FLAGS":
				into = &options
			case "EXAMPLES":
				into = &examples
			default:
				into = &others
				fmt.Fprintf(into, ".SH %s\n", escaped(section))
			}
			continue
		}
		text := strings.TrimPrefix(line, "   ")
		column := columns.FindStringSubmatch(text)
		switch {
		case section == "EXAMPLES":
			into.WriteString(escaped(text))
		case column == nil: // an empty line
			described = section != "COMMANDS"
			if into == &description && into.Len() > 0 {
				into.WriteString(".PP\n")
			}
		case section == "USAGE":
			fmt.Fprintf(into, ".br\n%s\n", escaped(column[0][:len(column[0])-1]))
		case section == "FLAGS", section == "COMMANDS":
			list(into, column)
		case described:
			if into != &description && description.Len() > 0 {
				description.WriteString(".PP\n")
			}
			into = &description
			into.WriteString(escaped(text))
		case section == "EXIT CODES":
			if !strings.HasSuffix(others.String(), section+"\n") {
				into.WriteString(".br\n")
			}
			into.WriteString(escaped(text))
		default:
			into.WriteString(escaped(text))
		}
	}

	var page strings.Builder
	fmt.Fprintf(&page, ".TH %s 1 %s %s\n.nh\n.ad l\n", strings.ToUpper(escaped(name)), of.Time.Format("2006-01-02"), quoted("regsweep "+of.Version))
	fmt.Fprintf(&page, ".SH NAME\n%s \\- %s\n", escaped(name), escaped(summary))
	fmt.Fprintf(&page, ".SH SYNOPSIS\n%s", strings.TrimPrefix(synopsis.String(), ".br\n"))
	if description.Len() > 0 {
		fmt.Fprintf(&page, ".SH DESCRIPTION\n%s", strings.TrimSuffix(description.String(), ".PP\n"))
	}
	if options.Len() > 0 {
		fmt.Fprintf(&page, ".SH OPTIONS\n%s", &options)
	}
	page.WriteString(others.String())
	if text := strings.TrimSpace(examples.String()); text != "" {
		fmt.Fprintf(&page, ".SH EXAMPLES\n.nf\n%s\n.fi\n", text)
	}
	page.WriteString(".SH SEE ALSO\n")
	for i, other := range related {
		fmt.Fprintf(&page, ".BR %s (1)%s\n", escaped(other), map[bool]string{true: ","}[i < len(related)-1])
	}
	return page.String()
}

// list writes an entry of a list in two columns. The second column may be on the next line.
func list(into *strings.Builder, column []string) {
	if strings.HasPrefix(column[1], "  ") {
		fmt.Fprintf(into, "%s\n", escaped(strings.TrimSpace(column[0])))
		return
	}
	fmt.Fprintf(into, ".TP\n.B %s\n", escaped(column[1]))
	if column[2] != "" {
		fmt.Fprintf(into, "%s\n", escaped(column[2]))
	}
}

var escapes = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`, `"`, `\(dq`)

// escaped returns a line as roff prints it literally. It begins no request.
func escaped(line string) string {
	line = escapes.Replace(line)
	if strings.HasPrefix(line, ".") {
		return `\&` + line
	}
	return line
}

func quoted(text string) string { return `"` + escaped(text) + `"` }
