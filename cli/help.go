package cli

import (
	"bytes"
	"io"
	"regexp"
	"strings"
	"unicode/utf8"

	"regsweep/internal/human"
)

// helpWriter folds the lines of a help text to the width of a terminal.
type helpWriter struct {
	out   io.Writer
	width int    // in columns; 0 means that lines are not folded
	line  []byte // written without a newline so far
}

// Write implements io.Writer. It writes each line when the line is complete.
func (h *helpWriter) Write(text []byte) (int, error) {
	h.line = append(h.line, text...)
	end := bytes.LastIndexByte(h.line, '\n') + 1
	whole := string(h.line[:end])
	h.line = append([]byte(nil), h.line[end:]...)
	var out strings.Builder
	for line := range strings.Lines(whole) {
		out.WriteString(foldHelp(line, h.width))
	}
	if _, err := io.WriteString(h.out, out.String()); err != nil {
		return 0, err
	}
	return len(text), nil
}

// twoColumns matches a flag or an example, and its explanation.
var twoColumns = regexp.MustCompile(`^( +\S.*? {2,})(\S.*)\n$`)

// foldHelp folds a line of help. The explanation of a flag stays in its column if the column is at
// least human.Readable wide. Otherwise the explanation begins on the next line.
func foldHelp(line string, width int) string {
	columns := twoColumns.FindStringSubmatch(line)
	if width == 0 || columns == nil || utf8.RuneCountInString(line)-1 <= width {
		return human.Fold(line, width)
	}
	left := utf8.RuneCountInString(columns[1])
	out, indent := columns[1], strings.Repeat(" ", left)
	if width-left < human.Readable {
		indent = strings.Repeat(" ", 7)
		out = human.Fold(strings.TrimRight(out, " ")+"\n", width) + indent
	}
	return out + strings.Join(human.Wrap(columns[2], width-len(indent)), "\n"+indent) + "\n"
}
