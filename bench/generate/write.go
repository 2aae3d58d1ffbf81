package generate

import (
	"context"
	"fmt"
	"iter"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"regsweep/internal/imagetest"
)

// layoutRoot is where the layout lies below a registry's root directory.
const layoutRoot = "docker/registry/v2/"

// Files are all files of the registry, by slash-separated path below its root
// directory, with their content.
func (r *Registry) Files() iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for _, b := range r.blobs {
			if !yield(layoutRoot+imagetest.BlobPath(b.digest), b.content) {
				return
			}
		}
		for _, repo := range r.repositories {
			for path, content := range repo.links() {
				if !yield(layoutRoot+path, []byte(content)) {
					return
				}
			}
		}
	}
}

func (repo *repository) links() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for _, d := range repo.layers.items {
			if !yield(imagetest.LayerPath(repo.name, d), d.String()) {
				return
			}
		}
		for _, m := range repo.revisions.items {
			if !yield(imagetest.RevisionPath(repo.name, m.digest), m.digest.String()) {
				return
			}
		}
		for _, t := range repo.tags {
			if !yield(imagetest.TagPath(repo.name, t.name), t.current.digest.String()) {
				return
			}
			for _, m := range t.index.items {
				if !yield(imagetest.TagIndexPath(repo.name, t.name, m.digest), m.digest.String()) {
					return
				}
			}
		}
	}
}

// emptyDirs are what deletions through the API leave on a filesystem.
func (r *Registry) emptyDirs() iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, repo := range r.repositories {
			for _, m := range repo.deleted.items {
				if !yield(filepath.Dir(layoutRoot + imagetest.RevisionPath(repo.name, m.digest))) {
					return
				}
			}
		}
	}
}

// writers is how many files are written at once.
const writers = 8

// WriteTree writes the registry to a filesystem, below its root directory.
func (r *Registry) WriteTree(ctx context.Context, root string) error {
	for dir := range r.emptyDirs() {
		if err := os.MkdirAll(filepath.Join(root, filepath.FromSlash(dir)), 0o755); err != nil {
			return fmt.Errorf("generate: %w", err)
		}
	}
	return r.Put(ctx, writers, func(path string, content []byte) error {
		file := filepath.Join(root, filepath.FromSlash(path))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		return os.WriteFile(file, content, 0o644)
	})
}

// Put calls put for every file from so many goroutines, and ends with the first error.
func (r *Registry) Put(ctx context.Context, goroutines int, put func(path string, content []byte) error) error {
	type file struct {
		path    string
		content []byte
	}
	files := make(chan file, goroutines)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(files)
		for path, content := range r.Files() {
			select {
			case files <- file{path, content}:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for range goroutines {
		group.Go(func() error {
			for f := range files {
				if err := put(f.path, f.content); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("generate: %w", err)
	}
	return nil
}
