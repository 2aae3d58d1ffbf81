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

// print writes to standard output at once what text writes, for a terminal of the
// given width (0 if it is none).
func (r *runner) print(text func(w *bytes.Buffer, width int)) error {
	buffer := new(bytes.Buffer)
	text(buffer, r.env.Width(r.env.Out))
	_, err := r.env.Out.Write(buffer.Bytes())
	return written(err)
}

// complain writes to standard error in the same way. Where that fails there is nobody
// left to be told.
func (r *runner) complain(text func(w *bytes.Buffer, width int)) {
	buffer := new(bytes.Buffer)
	text(buffer, r.env.Width(r.env.Err))
	fmt.Fprint(r.env.Err, buffer)
}

// written judges an error of standard output. Who closes the pipe has read enough:
// that is no failure of what was done.
func written(err error) error {
	if err == nil || errors.Is(err, syscall.EPIPE) {
		return nil
	}
	return fmt.Errorf("write the report: %w", err)
}

// document is what a command answers --json with.
type document interface{ conclude(err error) }

// writeJSON writes the one document of a run that ends with err, and returns what it
// ends with then.
func (r *runner) writeJSON(d document, err error) error {
	r.reported = true
	d.conclude(err)
	encoded, encodeErr := json.MarshalIndent(d, "", "  ")
	if encodeErr != nil {
		return fmt.Errorf("write the report: %w", encodeErr)
	}
	if _, writeErr := r.env.Out.Write(append(escapeUnprintable(encoded), '\n')); err == nil {
		err = written(writeErr)
	}
	return err
}

// escapeUnprintable writes the characters of a JSON document that could steer a
// terminal as \u escapes; Go's encoder does so for those of ASCII alone.
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
