package sweep

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"iter"
	"time"

	"regsweep/storage"
)

// FileFormat is the version of the plan file that WriteTo writes and OpenFile reads.
const FileFormat = 1

// fileHeader is the first line of a plan file.
type fileHeader struct {
	Plan    int              `json:"plan"`
	Storage storage.Identity `json:"storage"`
	Options fileOptions      `json:"options"`
	Time    time.Time        `json:"time"`
}

type fileOptions struct {
	DeleteUntagged         bool   `json:"delete_untagged"`
	PruneEmpty             bool   `json:"prune_empty"`
	AllowEmpty             bool   `json:"allow_empty"`
	MinAge                 string `json:"min_age"`
	UploadAge              string `json:"upload_age"`
	DeleteUnlinkedChildren bool   `json:"delete_unlinked_children,omitempty"`
	RemovesTags            bool   `json:"removes_tags,omitempty"`
	// Checksums of the lists that the plan was made with.
	Roots       string `json:"roots,omitempty"`
	KeepDigests string `json:"keep_digests,omitempty"`
}

// fileEnd is the last line of a plan file. It shows whether the file was cut off or changed.
type fileEnd struct {
	Removals int   `json:"removals"`
	Bytes    int64 `json:"bytes"`
	// SHA256 is of all bytes before this line, in hex.
	SHA256 string `json:"sha256"`
}

// WriteTo writes the plan as JSON lines: a header, one line for each removal in order, and a
// count with a checksum. It implements io.WriterTo.
func (p *Plan) WriteTo(w io.Writer) (int64, error) {
	file := newFileWriter(w)
	file.encode(fileHeader{
		Plan: FileFormat, Storage: p.inv.Identity, Time: p.Options.Now.UTC(),
		Options: fileOptions{
			DeleteUntagged: p.Options.DeleteUntagged, PruneEmpty: p.Options.PruneEmpty, AllowEmpty: p.Options.AllowEmpty,
			MinAge: p.Options.MinAge.String(), UploadAge: p.Options.UploadAge.String(),
			DeleteUnlinkedChildren: p.Options.DeleteUnlinkedChildren, Roots: p.Options.Roots, KeepDigests: p.Options.KeepDigests, RemovesTags: p.Options.RemovesTags,
		},
	})
	file.removals(p.All())
	return file.close()
}

// fileWriter writes a plan file and computes its last line. After the first error it writes nothing.
type fileWriter struct {
	counted  countingWriter
	buffered *bufio.Writer
	sum      hash.Hash
	end      fileEnd // totals of the lines written so far
	err      error
}

func newFileWriter(w io.Writer) *fileWriter {
	f := &fileWriter{counted: countingWriter{w: w}, sum: sha256.New()}
	f.buffered = bufio.NewWriter(&f.counted)
	return f
}

// line writes the bytes of a line and a newline.
func (f *fileWriter) line(line []byte) {
	f.put(io.MultiWriter(f.buffered, f.sum), func(w io.Writer) error {
		if _, err := w.Write(line); err != nil {
			return err
		}
		_, err := io.WriteString(w, "\n")
		return err
	})
}

// removals writes a line for each removal.
func (f *fileWriter) removals(all iter.Seq[Removal]) {
	for removal := range all {
		if f.encode(removal); f.err != nil {
			return
		}
		f.end.Removals++
		f.end.Bytes += removal.Bytes
	}
}

func (f *fileWriter) encode(line any) {
	f.put(io.MultiWriter(f.buffered, f.sum), func(w io.Writer) error { return encodeLine(w, line) })
}

// close writes the last line, and returns the size of the file in bytes.
func (f *fileWriter) close() (int64, error) {
	f.end.SHA256 = hex.EncodeToString(f.sum.Sum(nil))
	f.put(f.buffered, func(w io.Writer) error { return encodeLine(w, f.end) })
	f.put(f.buffered, func(io.Writer) error { return f.buffered.Flush() })
	return f.counted.n, f.err
}

func (f *fileWriter) put(w io.Writer, write func(io.Writer) error) {
	if f.err != nil {
		return
	}
	if err := write(w); err != nil {
		f.err = fmt.Errorf("write plan: %w", err)
	}
}

func encodeLine(w io.Writer, line any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(line)
}

type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
