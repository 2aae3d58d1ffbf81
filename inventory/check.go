package inventory

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"regsweep/storage"
	"regsweep/storage/layout"
)

// IsThere stats an object that a read has not found. A storage that fails for a moment may wrongly
// report "not found".
func IsThere(ctx context.Context, reader storage.Reader, path string) (bool, error) {
	_, err := reader.Stat(ctx, path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil && !errors.Is(err, storage.ErrNotRegular):
		return false, fmt.Errorf("look again: %w", err)
	}
	return true, nil
}

// notFoundOnce is the damage of a link that a read did not find but a stat did.
const notFoundOnce = "is there but was not found when it was read"

// CheckLink reads a link that was listed without its file. damage is the reason why the link is
// damaged, or "". err is an error of the storage.
func CheckLink(ctx context.Context, reader storage.Reader, path string) (exists bool, damage string, err error) {
	content, err := reader.Read(ctx, path, layout.LinkLimit)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if exists, err = IsThere(ctx, reader, path); exists {
			damage = notFoundOnce
		}
		return exists, damage, err
	case storage.IsDamage(err):
		return true, err.Error(), nil
	case err != nil:
		return false, "", err
	}
	if _, ok, detail := layout.LinkTarget(content); !ok {
		return true, detail, nil
	}
	return true, "", nil
}
