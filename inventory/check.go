package inventory

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"

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

// CheckLink reads a link of which only the directory was listed. damage is the reason why the link is
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

// InDoubt returns the layer links of a repository that CheckLink has to read. All others exist and
// contain the digest in their path. A storage.LinkVerifier finds that out in less time than
// CheckLink. Without one InDoubt returns all links.
func InDoubt(ctx context.Context, reader storage.Reader, inv *Inventory, repository string, layers []ID, limit int) ([]ID, error) {
	verifier, ok := reader.(storage.LinkVerifier)
	if !ok {
		return layers, nil
	}
	const together = 8 // small, so that even a few links are verified in parallel
	var mu sync.Mutex  // guards doubted
	var doubted []ID
	parts := slices.Collect(slices.Chunk(layers, together))
	err := storage.Each(ctx, len(parts), limit, func(ctx context.Context, i int) error {
		some, err := inDoubt(ctx, verifier, inv, layout.RepositoryPath(repository)+"/"+layout.LayersDir+"/sha256", parts[i])
		mu.Lock()
		defer mu.Unlock()
		doubted = append(doubted, some...)
		return err
	})
	return doubted, err
}

// inDoubt is InDoubt of links in one directory.
func inDoubt(ctx context.Context, verifier storage.LinkVerifier, inv *Inventory, dir string, layers []ID) (doubted []ID, err error) {
	var stored []ID
	var sums [][32]byte
	for _, id := range layers {
		if inv.Stored(id) {
			stored, sums = append(stored, id), append(sums, inv.blobs.at(int(id)).sha256)
		} else {
			doubted = append(doubted, id)
		}
	}
	verified, err := verifier.VerifyLinks(ctx, dir, sums)
	if err != nil {
		return nil, err
	}
	for i, id := range stored {
		if !verified[i] {
			doubted = append(doubted, id)
		}
	}
	return doubted, nil
}
