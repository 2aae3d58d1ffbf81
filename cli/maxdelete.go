package cli

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"regsweep/internal/human"
	"regsweep/sweep"
)

const maxDeleteName = "max-delete"

var (
	errMaxDelete = errors.New("want a share such as 30%, a number of blobs such as 500, or bytes such as 200GB")
	// errTooMuch refuses a plan that removes more than --max-delete allows.
	errTooMuch = errors.New("more would be removed than --" + maxDeleteName + " allows")
)

// maxDelete is the value of a flag: how many of the stored blobs a run may remove. The zero value
// allows all of them.
type maxDelete struct {
	text    string
	percent float64 // of the number of all blobs, and of their bytes
	count   int
	bytes   int64
	unit    byte // '%' for percent, '#' for count, 'B' for bytes, 0 for no limit
}

// byteSize is the value of a flag: a number of bytes, such as 200GB.
type byteSize struct {
	text  string
	bytes int64
}

// Set implements urfave.Generic.
func (b *byteSize) Set(text string) error {
	var size maxDelete
	if err := size.Set(text); err != nil || size.unit != 'B' || size.bytes == 0 {
		return errors.New("want bytes such as 200GB")
	}
	b.text, b.bytes = size.text, size.bytes
	return nil
}

// String implements urfave.Generic.
func (b *byteSize) String() string { return b.text }

// Set implements urfave.Generic.
func (m *maxDelete) Set(text string) error {
	next := maxDelete{text: strings.TrimSpace(text)}
	value, unit := human.ParseAmount(text)
	switch next.unit = unit; unit {
	case '%':
		next.percent = value
	case '#':
		next.count = int(value)
	case 'B':
		next.bytes = int64(value)
	default:
		return errMaxDelete
	}
	*m = next
	return nil
}

// String returns the text that Set has read, or "" for the default, which allows all.
func (m *maxDelete) String() string {
	if m == nil {
		return ""
	}
	return m.text
}

// check returns an error if the plan removes more than the limit. A limit in percent applies to the
// number of blobs and also to their bytes, because the sizes of live blobs may be claims of manifests.
func (m maxDelete) check(plan *sweep.Plan) error {
	blobs := plan.Garbage[sweep.Blob]
	all := sweep.Tally{Count: plan.Live.Blobs, Bytes: plan.Live.Bytes}
	all.Add(blobs.Count, blobs.Bytes)
	tooMuch := false
	switch m.unit {
	case '%':
		tooMuch = float64(blobs.Count) > m.percent/100*float64(all.Count) || float64(blobs.Bytes) > m.percent/100*float64(all.Bytes)
	case '#':
		tooMuch = blobs.Count > m.count
	case 'B':
		tooMuch = blobs.Bytes > m.bytes
	}
	if !tooMuch {
		return nil
	}
	return fmt.Errorf("%w: %s of %s would be removed, of %s of %s (%s%% of the blobs, %s%% of the bytes), and the limit is %s: nothing was removed",
		errTooMuch, human.Plural(blobs.Count, "blob"), human.Size(blobs.Bytes), human.Count(all.Count), human.Size(all.Bytes),
		share(int64(blobs.Count), int64(all.Count)), share(blobs.Bytes, all.Bytes), m.text)
}

// share returns part/whole in percent, with one decimal.
func share(part, whole int64) string {
	if whole == 0 {
		return "0.0"
	}
	return strconv.FormatFloat(100*float64(part)/float64(whole), 'f', 1, 64)
}
