package main

import (
	"fmt"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"
)

// screen is where the story is told. A failure to write stays in err.
type screen struct {
	file    *os.File
	colours bool
	steps   int
	err     error
}

func newScreen(file *os.File) *screen {
	_, plain := os.LookupEnv("NO_COLOR")
	return &screen{
		file:    file,
		colours: !plain && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(file.Fd())),
	}
}

const (
	bold  = "1"
	green = "32"
	cyan  = "36"
)

func (s *screen) line(colour, indent, text string) {
	s.write(indent + s.coloured(colour, strings.TrimRight(text, " ")))
}

func (s *screen) coloured(colour, text string) string {
	if !s.colours || colour == "" || text == "" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

func (s *screen) write(line string) {
	if _, err := fmt.Fprintln(s.file, strings.TrimRight(line, " ")); err != nil && s.err == nil {
		s.err = err
	}
}

// step begins a part of the story.
func (s *screen) step(title string) {
	s.steps++
	s.line("", "", "")
	s.line(bold, "", fmt.Sprintf("%d. %s", s.steps, title))
}

func (s *screen) say(format string, args ...any) { s.line("", "   ", fmt.Sprintf(format, args...)) }

func (s *screen) figure(format string, args ...any) {
	s.line(cyan, "     ", fmt.Sprintf(format, args...))
}

// check says what has been checked, and not merely hoped.
func (s *screen) check(format string, args ...any) {
	s.line(green, "   ", "✓ "+fmt.Sprintf(format, args...))
}

func (s *screen) done(format string, args ...any) { s.line(green, "", fmt.Sprintf(format, args...)) }

func (s *screen) command(name string, args ...string) {
	s.line(bold, "", "$ "+strings.Join(append([]string{name}, args...), " "))
}

// width is how wide a page is.
const width = 100

// output shows what a program printed, from the left margin. A line that is too wide
// for the page goes on below.
func (s *screen) output(printed []byte) {
	for line := range strings.Lines(string(printed)) {
		line = strings.TrimRight(line, " \n")
		for !fits(line) {
			var head string
			head, line = breakLine(line)
			s.write(head)
		}
		s.write(line)
	}
}

func fits(line string) bool { return utf8.RuneCountInString(line) <= width }

// breakLine breaks a line at its last space that fits, or at the width where it has
// none, and indents the rest: below the last column of a table, if there is room for it.
func breakLine(line string) (head, rest string) {
	const room = 24
	text := []rune(line)
	indent := "    "
	if at := strings.LastIndex(string(text[:width]), "  "); at >= 0 {
		if column := utf8.RuneCountInString(line[:at+2]); column > len(indent) && column <= width-room {
			indent = strings.Repeat(" ", column)
		}
	}
	cut := width
	for cut > len(indent) && text[cut] != ' ' {
		cut--
	}
	if cut == len(indent) {
		cut = width
	}
	return string(text[:cut]), indent + strings.TrimLeft(string(text[cut:]), " ")
}
