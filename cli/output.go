package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"syscall"
	"unicode"
	"unicode/utf16"
)

// writeText prints the text of a command that ends with err. It calls text with the width of standard
// output, which is 0 if that is not a terminal. It returns err, or if err is nil the error of the write.
func (r *runner) writeText(text func(w *bytes.Buffer, width int), err error) error {
	buffer := new(bytes.Buffer)
	text(buffer, r.env.Width(r.env.Out))
	if _, writeErr := r.env.Out.Write(buffer.Bytes()); err == nil {
		err = outputError(writeErr)
	}
	return err
}

// printErr prints a text to standard error. It ignores an error, because there is no other place to
// report it.
func (r *runner) printErr(text func(w *bytes.Buffer, width int)) {
	buffer := new(bytes.Buffer)
	text(buffer, r.env.Width(r.env.Err))
	fmt.Fprint(r.env.Err, buffer)
}

// outputError returns the error of a write to standard output, or nil if the reader of a pipe has
// closed it: the command itself did not fail.
func outputError(err error) error {
	if err == nil || errors.Is(err, syscall.EPIPE) {
		return nil
	}
	return fmt.Errorf("write the report: %w", err)
}

// document is a report that --json prints. conclude sets its ending.
type document interface{ conclude(err error) }

// ending is the last part of each report. Error is "" if there is no error, or if the exit code says
// everything.
type ending struct {
	ExitCode int    `json:"exit_code"`
	Error    string `json:"error,omitempty"`
}

func (e *ending) conclude(err error) {
	e.ExitCode = exitCode(err)
	if e.Error = ""; err != nil && e.ExitCode != exitProblems {
		e.Error = err.Error()
	}
}

// writeJSON prints the only document of a run that ends with err. It returns err, or if err is nil the
// error of the write.
func (r *runner) writeJSON(d document, err error) error {
	r.jsonWritten = true
	d.conclude(err)
	encoded, encodeErr := encode(d)
	if encodeErr != nil {
		return encodeErr
	}
	if _, writeErr := r.env.Out.Write(encoded); err == nil {
		err = outputError(writeErr)
	}
	return err
}

// encode returns a document as JSON.
func encode(d document) ([]byte, error) {
	encoded, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write the report: %w", err)
	}
	return append(escapeUnprintable(encoded), '\n'), nil
}

// escapeUnprintable returns a JSON document in which each character that could control a terminal is a
// \u escape. Go's encoder escapes only those in ASCII.
func escapeUnprintable(document []byte) []byte {
	var out bytes.Buffer
	for _, r := range string(document) {
		switch {
		case r == '\n' || unicode.IsPrint(r):
			out.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&out, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&out, `\u%04x`, r)
		}
	}
	return out.Bytes()
}
