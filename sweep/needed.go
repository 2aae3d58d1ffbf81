package sweep

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"regsweep/inventory"
)

// IsNeeded reports whether a plan file may be needed to restore a link: the file names a link that
// the inventory does not have, so a run has removed it. IsNeeded checks the first 1,000 links of each
// kind, because a run removes in the order of its plan. A damaged file counts as needed, and so
// does the plan of another storage. Errors are those of reading.
func IsNeeded(from io.Reader, inv *inventory.Inventory) (bool, error) {
	const first = 1000
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, 1<<20)
	seen, ended := map[Kind]int{}, false
	for n := 0; lines.Scan(); n++ {
		line := lines.Bytes()
		if n == 0 {
			var header fileHeader
			if json.Unmarshal(line, &header) != nil || header.Plan != FileFormat || header.Storage != inv.Identity {
				return true, nil
			}
			continue
		}
		kind, _, _ := bytes.Cut(bytes.TrimPrefix(line, []byte(`{"kind":"`)), []byte(`"`))
		if seen[Kind(kind)]++; seen[Kind(kind)] > first {
			continue
		}
		var read fileLine
		if json.Unmarshal(line, &read) != nil {
			return true, nil
		}
		switch {
		case read.Kind == "" && read.Removals != nil:
			ended = true
			continue
		case !read.Removal.IsNamed():
			return true, nil
		case read.Kind.Form() != Links: // a plan can't restore these
			continue
		}
		if _, found := find(inv, read.Removal); !found {
			return true, nil
		}
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return true, nil
	} else if err != nil {
		return false, fmt.Errorf("read the older plan: %w", err)
	}
	return !ended, nil
}
