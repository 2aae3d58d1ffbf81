package sweep

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"regsweep/storage"
)

// FileFormat is the version of the plan file that WriteTo writes.
const FileFormat = 1

// fileHeader is the first line of a plan file.
type fileHeader struct {
	Plan    int              `json:"plan"`
	Storage storage.Identity `json:"storage"`
	Options fileOptions      `json:"options"`
	Time    time.Time        `json:"time"`
}

type fileOptions struct {
	DeleteUntagged bool   `json:"delete_untagged"`
	PruneEmpty     bool   `json:"prune_empty"`
	AllowEmpty     bool   `json:"allow_empty"`
	MinAge         string `json:"min_age"`
	UploadAge      string `json:"upload_age"`
}

// fileEnd is the last line, by which a file that was cut off is noticed.
type fileEnd struct {
	Removals int   `json:"removals"`
	Bytes    int64 `json:"bytes"`
}

// WriteTo writes the plan as JSON lines: a header, a line for each removal in order,
// and a count. It implements io.WriterTo.
func (p *Plan) WriteTo(w io.Writer) (int64, error) {
	counted := &countingWriter{w: w}
	buffered := bufio.NewWriter(counted)
	encoder := json.NewEncoder(buffered)
	encoder.SetEscapeHTML(false)
	write := func(line any) error {
		if err := encoder.Encode(line); err != nil {
			return fmt.Errorf("write plan: %w", err)
		}
		return nil
	}
	err := write(fileHeader{
		Plan: FileFormat, Storage: p.inv.Identity, Time: p.Options.Now.UTC(),
		Options: fileOptions{
			DeleteUntagged: p.Options.DeleteUntagged, PruneEmpty: p.Options.PruneEmpty, AllowEmpty: p.Options.AllowEmpty,
			MinAge: p.Options.MinAge.String(), UploadAge: p.Options.UploadAge.String(),
		},
	})
	end := fileEnd{}
	if err == nil {
		for removal := range p.All() {
			end.Removals++
			end.Bytes += removal.Bytes
			if err = write(removal); err != nil {
				break
			}
		}
	}
	if err == nil {
		err = write(end)
	}
	if flushErr := buffered.Flush(); err == nil && flushErr != nil {
		err = fmt.Errorf("write plan: %w", flushErr)
	}
	return counted.n, err
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
