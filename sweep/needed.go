package sweep

import (
	"errors"
	"fmt"
	"io"

	"regsweep/storage"
)

var errNeeded = errors.New("needed")

// IsNeeded reports whether a plan file names a link that an inventory lacks. Some run has
// removed that link then, and the file may be all that can put it back. So a damaged file
// counts as needed, and so does the plan of another storage.
func IsNeeded(from io.ReadSeeker, inv *storage.Inventory) (bool, error) {
	file, err := OpenFile(from)
	if broken := (*FileError)(nil); errors.As(err, &broken) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("read the older plan: %w", err)
	}
	if file.Storage != inv.Identity {
		return true, nil
	}
	s := &Selection{inv: inv}
	err = file.Each(func(removal Removal) error {
		switch removal.Kind {
		case Upload, Repository, Blob: // which a plan can't restore
			return nil
		}
		if _, found := s.find(removal); !found {
			return errNeeded
		}
		return nil
	})
	if errors.Is(err, errNeeded) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("read the older plan: %w", err)
	}
	return false, nil
}
