package config

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"regsweep/internal/system"
	"regsweep/storage"
)

// AbsentError is the error for a root without docker/registry/v2. Most likely it is the wrong
// root, but a registry that nobody has pushed to has no docker/registry/v2 either.
type AbsentError struct{ problem string }

func (e *AbsentError) Error() string { return e.problem }

// RequireLayout fails with an *AbsentError, which is a usage error, if the storage that c
// names has no docker/registry/v2.
func RequireLayout(ctx context.Context, store storage.Store, c Config) error {
	found, instead, err := store.FindLayout(ctx)
	if found || err != nil {
		return err
	}
	root, what := store.Identity().Root, ""
	switch {
	case c.Driver == "filesystem":
		what = describeRoot(root)
	case len(instead) > 0:
		what = "is not among what the bucket holds: " + firstFew(instead)
	case instead != nil:
		what = "is empty, and the bucket has no directory at all"
	}
	return c.absent(root, what)
}

// absent returns an error that says where the root is set, what was found there, and what to do.
func (c Config) absent(root, what string) error {
	problem := root + " holds no " + storage.Root + ": "
	if what != "" {
		what = ". It " + what
	}
	switch {
	case c.Registry == nil && c.Driver == "filesystem":
		problem += "pass the directory that the registry's config.yml calls rootdirectory, or that config.yml itself" + what
	case c.Registry == nil:
		problem += "check the bucket and the prefix" + what
	default:
		problem += "the root is " + c.RootFrom + what + ". If the registry runs with REGISTRY_STORAGE_… variables, set them here too"
	}
	return storage.Usagef("%w", &AbsentError{problem})
}

// firstFew returns the first few names as text.
func firstFew(names []string) string {
	const shown = 5
	text := strings.Join(names[:min(len(names), shown)], ", ")
	if len(names) > shown {
		text += ", …"
	}
	return text
}

// Forbidden is a usage error if permissions hide whether a root holds docker/registry/v2.
func Forbidden(root string) error {
	for _, path := range []string{filepath.Join(root, storage.Root), filepath.Join(root, storage.Root, "blobs")} {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrPermission) {
			return storage.Usagef("%w", system.PermissionError(path, err))
		}
	}
	return nil
}

// describeRoot says what a directory without docker/registry/v2 contains.
func describeRoot(root string) string {
	entries, err := os.ReadDir(root)
	if err != nil {
		return ""
	}
	entries = slices.DeleteFunc(entries, func(e fs.DirEntry) bool { return e.Name() == "lost+found" })
	switch {
	case len(entries) == 0:
		return "is empty (is its volume mounted here?)"
	case isThere(root, "oci-layout"):
		return "is an OCI image layout, which no Distribution registry writes"
	case isThere(root, "images") && isThere(root, "repositories"):
		return "is the store of a version-1 registry (images and repositories), which regsweep does not collect"
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
		if isThere(root, entry.Name(), storage.Root) {
			return "has one in " + filepath.Join(root, entry.Name())
		}
	}
	for above := filepath.Dir(root); ; above = filepath.Dir(above) {
		if isThere(above, storage.Root) {
			return "lies below one, in " + above
		}
		if above == filepath.Dir(above) {
			break
		}
	}
	if layout := ociLayoutBelow(root, 3); layout != "" {
		return "is the store of zot or another OCI registry (" + layout + " is an OCI image layout), which regsweep does not collect"
	}
	return "holds " + firstFew(names)
}

func isThere(path ...string) bool {
	_, err := os.Stat(filepath.Join(path...))
	return err == nil
}

// ociLayoutBelow finds an OCI image layout at most depth directories below dir. It checks only the
// first few entries of each directory.
func ociLayoutBelow(dir string, depth int) string {
	const few = 20
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "" // the result only explains another error
	}
	for i, entry := range entries {
		below := filepath.Join(dir, entry.Name())
		switch {
		case i == few:
			return ""
		case !entry.IsDir():
		case isThere(below, "oci-layout"):
			return below
		case depth > 1:
			if found := ociLayoutBelow(below, depth-1); found != "" {
				return found
			}
		}
	}
	return ""
}
