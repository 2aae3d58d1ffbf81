package sweep

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"regsweep/storage"
)

// File is a plan file. It may have millions of lines, so it is read line by line each time. It is a
// request, not a decision: Select uses only the names and digests in it, not its paths, sizes and
// reasons.
type File struct {
	// Storage is the storage that the plan was made for.
	Storage storage.Identity
	// Options are the options that the plan was made with. Now is the time of that run.
	Options Options
	// Removals is the number of removals.
	Removals int

	from io.ReadSeeker
	sum  string // SHA-256 of all lines but the last, in hex
}

// FileError says what is wrong with a plan file, in one line.
type FileError struct {
	// Line is the number of the line, from 1 on. It is 0 if the problem is in no single line.
	Line int
	// Changed is set if all lines are valid and only the totals or the checksum in the last line
	// are wrong. Remake corrects them.
	Changed bool
	problem string
}

func (e *FileError) Error() string {
	if e.Line == 0 {
		return e.problem
	}
	return fmt.Sprintf("line %d: %s", e.Line, e.problem)
}

// OpenFile reads a whole plan file and checks it. The error is a *FileError if the file is not valid.
func OpenFile(from io.ReadSeeker) (*File, error) {
	scan, err := scanFile(from, func([]byte, Removal) error { return nil })
	if err != nil {
		return nil, err
	}
	if err := scan.checkEnd(); err != nil {
		return nil, err
	}
	return &File{Storage: scan.header.Storage, Options: scan.options, Removals: scan.seen.Removals, from: from, sum: scan.seen.SHA256}, nil
}

// Remake copies a plan file from which lines were removed. It writes a new last line and leaves the
// other lines as they are. The error is a *FileError if a line is not valid.
func Remake(w io.Writer, from io.ReadSeeker) error {
	file := newFileWriter(w)
	scan, err := scanFile(from, func(line []byte, _ Removal) error {
		file.line(line)
		return file.err
	})
	if err != nil {
		return err
	}
	file.end = scan.seen
	_, err = file.close()
	return err
}

// Each visits the file's removals in their order, until visit returns an error. It returns that
// error. It also returns an error if the file has changed since it was opened: the caller must then
// discard all visited removals.
func (f *File) Each(visit func(Removal) error) error {
	var stopped error
	scan, err := scanFile(f.from, func(_ []byte, removal Removal) error {
		if removal.Kind != "" {
			stopped = visit(removal)
		}
		return stopped
	})
	if stopped != nil {
		return stopped
	}
	var broken *FileError
	if errors.As(err, &broken) || err == nil && scan.seen.SHA256 != f.sum {
		return errors.New("the plan file was changed while it was read")
	}
	return err
}

// fileScan is the result of reading a whole file.
type fileScan struct {
	header   fileHeader
	options  Options
	seen     fileEnd  // totals of the removals that were read
	recorded *fileEnd // totals in the last line; nil if it is missing
}

func (s *fileScan) checkEnd() error {
	changed := func(format string, args ...any) error {
		return &FileError{Changed: true, problem: fmt.Sprintf(format, args...)}
	}
	switch {
	case s.recorded == nil:
		return changed("it is cut off: the last line, with a count, is missing")
	case s.recorded.Removals != s.seen.Removals:
		return changed("its last line counts %d removals, and it has %d", s.recorded.Removals, s.seen.Removals)
	case s.recorded.SHA256 != s.seen.SHA256 || s.recorded.Bytes != s.seen.Bytes:
		return changed("it was edited: the checksum in its last line is that of other lines")
	}
	return nil
}

// fileLine can hold any line of a plan file but the header. Bytes is the size of a removal, or the
// total of the last line.
type fileLine struct {
	Removal
	Plan     *int   `json:"plan"`
	Removals *int   `json:"removals"`
	SHA256   string `json:"sha256"`
}

// maxLine is the maximum length of a line in bytes. The longest path of a storage has 4 KiB, and JSON
// can take six bytes for one.
const maxLine = 1 << 16

// scanFile reads a plan file from its beginning. It visits the header, with the zero Removal, and the
// removals. It returns a *FileError for a line that is not valid. It does not compare the last line
// with the others: checkEnd does.
func scanFile(from io.ReadSeeker, visit func(line []byte, removal Removal) error) (*fileScan, error) {
	if _, err := from.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("read plan: %w", err)
	}
	scan, sum := &fileScan{}, sha256.New()
	lines := bufio.NewScanner(from)
	lines.Buffer(make([]byte, 0, 1<<16), maxLine)
	lines.Split(wholeLines)
	n := 0
	for lines.Scan() {
		n++
		whole := lines.Bytes()
		line, ended := bytes.CutSuffix(whole, []byte("\n"))
		removal, problem := scan.line(n, line)
		switch {
		case problem != "" && !ended:
			return nil, &FileError{Line: n, problem: "the file is cut off in it"}
		case problem != "":
			return nil, &FileError{Line: n, problem: problem}
		}
		if scan.recorded != nil {
			continue
		}
		sum.Write(whole)
		if err := visit(line, removal); err != nil {
			return nil, err
		}
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return nil, &FileError{Line: n + 1, problem: "it is too long for a line of a plan"}
	case err != nil:
		return nil, fmt.Errorf("read plan: %w", err)
	case n == 0:
		return nil, &FileError{problem: "it is empty, and no plan"}
	}
	scan.seen.SHA256 = hex.EncodeToString(sum.Sum(nil))
	return scan, nil
}

// wholeLines is a bufio.SplitFunc. It keeps the newline, which is part of the checksum.
func wholeLines(data []byte, atEOF bool) (advance int, token []byte, err error) {
	if end := bytes.IndexByte(data, '\n'); end >= 0 {
		return end + 1, data[:end+1], nil
	}
	if atEOF && len(data) > 0 {
		return len(data), data, nil
	}
	return 0, nil, nil
}

// line parses the n-th line, from 1 on, and returns its problem, "" if it has none.
func (s *fileScan) line(n int, line []byte) (removal Removal, problem string) {
	if n == 1 {
		return Removal{}, s.readHeader(line)
	}
	var l fileLine
	if err := json.Unmarshal(line, &l); err != nil {
		return Removal{}, "it is not one JSON object with what a removal has (of jq, ask for a line each: jq -c)"
	}
	switch {
	case s.recorded != nil:
		return Removal{}, "it stands behind the count that ends a plan"
	case l.Plan != nil:
		return Removal{}, "it is a second header: this is more than one plan"
	case l.Removals != nil:
		s.recorded = &fileEnd{Removals: *l.Removals, Bytes: l.Bytes, SHA256: l.SHA256}
		return Removal{}, ""
	}
	s.seen.Removals++
	s.seen.Bytes += l.Bytes
	return l.Removal, l.Removal.problem()
}

// readHeader parses the first line and returns its problem, "" if it has none. It checks the version
// first, because the header of a later version may have other fields.
func (s *fileScan) readHeader(line []byte) (problem string) {
	var version struct {
		Plan *int `json:"plan"`
	}
	switch err := json.Unmarshal(line, &version); {
	case len(line) == 1: // "{" or "[" of indented JSON
		return "it is not a whole JSON object (of jq, ask for a line each: jq -c)"
	case err != nil || version.Plan == nil || *version.Plan < 1:
		return "it is not the header of a plan, which has to stay when lines are taken out"
	case *version.Plan > FileFormat:
		return fmt.Sprintf("the plan is of format %d, and this regsweep knows no format above %d: take the one that wrote it, or a newer one", *version.Plan, FileFormat)
	}
	if err := json.Unmarshal(line, &s.header); err != nil {
		return "the header is damaged"
	}
	o := s.header.Options
	s.options = Options{Now: s.header.Time, DeleteUntagged: o.DeleteUntagged, PruneEmpty: o.PruneEmpty, AllowEmpty: o.AllowEmpty, DeleteUnlinkedChildren: o.DeleteUnlinkedChildren, Roots: o.Roots, KeepDigests: o.KeepDigests, RemovesTags: o.RemovesTags}
	for _, age := range []struct {
		name, text string
		to         *time.Duration
	}{{"min_age", o.MinAge, &s.options.MinAge}, {"upload_age", o.UploadAge, &s.options.UploadAge}} {
		var err error
		if *age.to, err = time.ParseDuration(age.text); err != nil || *age.to < 0 {
			return fmt.Sprintf("%s in the header is no age", age.name)
		}
	}
	return ""
}

// problem returns the reason why a line of a plan file is not a valid removal, "" if it is.
func (r Removal) problem() string {
	row := r.Kind.row()
	if row.needs == nil {
		return "its kind is not one of a removal"
	}
	for _, field := range []struct{ name, value string }{
		{"repository", r.Repository}, {"tag", r.Tag}, {"digest", string(r.Digest)}, {"upload", r.Upload},
	} {
		if field.value == "" && row.needsField(field.name) {
			return fmt.Sprintf("it has no %s, which a line of kind %s needs", field.name, r.Kind)
		}
	}
	if row.check != nil {
		if problem := row.check(r); problem != "" {
			return problem
		}
	}
	if r.Digest != "" && r.Digest.Validate() != nil {
		return "its digest is not valid"
	}
	return ""
}
