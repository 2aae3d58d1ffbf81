package human

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// Wrap breaks text between words into lines of at most width characters. A longer word is broken
// after a slash. A URL stays whole, because people copy it. With a width of 0 there is one line.
func Wrap(text string, width int) []string {
	if width <= 0 {
		return []string{text}
	}
	var lines []string
	line := ""
	for _, word := range words(text, width) {
		if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) <= width {
			line += " " + word
			continue
		}
		if line != "" {
			lines = append(lines, line)
		}
		line = word
	}
	return append(lines, line)
}

// words returns the words of a text. A word that is longer than width is divided after slashes, if
// all parts fit then.
func words(text string, width int) []string {
	var out []string
	for word := range strings.FieldsSeq(text) {
		parts := []string{word}
		for rest := word; utf8.RuneCountInString(rest) > width && !strings.Contains(word, "://"); {
			cut := strings.LastIndexByte(rest[:width], '/') + 1
			if cut < 2 {
				parts = []string{word}
				break
			}
			parts = append(parts[:len(parts)-1], rest[:cut], rest[cut:])
			rest = rest[cut:]
		}
		out = append(out, parts...)
	}
	return out
}

// Fold breaks a line that is longer than width between words. The lines that follow the first are
// indented by two more columns. The line may end with "\n".
func Fold(line string, width int) string {
	content := strings.TrimRight(line, "\n")
	if width == 0 || utf8.RuneCountInString(content) <= width {
		return line
	}
	lead := content[:len(content)-len(strings.TrimLeft(content, " "))]
	first, rest := "", ""
	for i, part := range Wrap(content, width-len(lead)) {
		if i == 0 {
			first = part
			continue
		}
		rest += " " + part
	}
	out := lead + first + line[len(content):]
	if rest == "" {
		return out
	}
	out = lead + first
	for _, part := range Wrap(rest, width-len(lead)-2) {
		out += "\n" + lead + "  " + part
	}
	return out + line[len(content):]
}

// Folded returns a function that writes what text writes, with each line folded.
func Folded(text func(w *bytes.Buffer, width int)) func(*bytes.Buffer, int) {
	return func(w *bytes.Buffer, width int) {
		var whole bytes.Buffer
		text(&whole, width)
		for line := range strings.Lines(whole.String()) {
			w.WriteString(Fold(line, width))
		}
	}
}
