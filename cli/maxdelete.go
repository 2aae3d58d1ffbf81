package cli

import (
	"errors"
	"fmt"
	"math"
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

// units has the bytes of each unit. A letter alone is a binary unit, as in rclone.
var units = map[string]float64{
	"b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50,
	"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40, "pib": 1 << 50,
	"kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12, "pb": 1e15,
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
	text = strings.TrimSpace(text)
	digits := strings.TrimRight(text, "%abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
	unit := strings.ToLower(text[len(digits):])
	value, err := strconv.ParseFloat(strings.TrimSpace(digits), 64)
	if err != nil || value < 0 || strings.Trim(digits, "0123456789. ") != "" {
		return errMaxDelete
	}
	next := maxDelete{text: text}
	switch factor, known := units[unit]; {
	case unit == "%" && value <= 100:
		next.unit, next.percent = '%', value
	case unit == "" && value == math.Trunc(value) && value < math.MaxInt32:
		next.unit, next.count = '#', int(value)
	case known && value*factor < math.MaxInt64:
		next.unit, next.bytes = 'B', int64(value*factor)
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
