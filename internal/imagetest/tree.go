package imagetest

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// Tree is a registry's storage on a filesystem, written by hand: what a crash, an
// old release or a broken disk leaves, which no client can make. Its methods fail
// the test when the disk does.
type Tree struct {
	t    testing.TB
	root string
}

// NewTree writes below root, which is the driver's rootdirectory and need not be
// empty.
func NewTree(t testing.TB, root string) *Tree { return &Tree{t, root} }

// Root is the rootdirectory.
func (tr *Tree) Root() string { return tr.root }

// Path is where a path of the layout, such as "blobs/sha256/…/data", lies on disk.
func (tr *Tree) Path(path string) string {
	return filepath.Join(tr.root, filepath.FromSlash(layoutRoot), filepath.FromSlash(path))
}

// Write writes a file of the layout as it is given.
func (tr *Tree) Write(path, content string) {
	tr.t.Helper()
	file := tr.Path(path)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		tr.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		tr.t.Fatal(err)
	}
}

// Mkdir makes a directory of the layout, such as an API delete leaves empty.
func (tr *Tree) Mkdir(path string) {
	tr.t.Helper()
	if err := os.MkdirAll(tr.Path(path), 0o755); err != nil {
		tr.t.Fatal(err)
	}
}

// Remove removes a file or a whole directory, which must be there.
func (tr *Tree) Remove(path string) {
	tr.t.Helper()
	if _, err := os.Lstat(tr.Path(path)); err != nil {
		tr.t.Fatal(err)
	}
	if err := os.RemoveAll(tr.Path(path)); err != nil {
		tr.t.Fatal(err)
	}
}

// Exists reports whether a path of the layout is there.
func (tr *Tree) Exists(path string) bool {
	tr.t.Helper()
	_, err := os.Lstat(tr.Path(path))
	if err != nil && !os.IsNotExist(err) {
		tr.t.Fatal(err)
	}
	return err == nil
}

// Age makes a file, or all files and directories below a directory, as old as d.
func (tr *Tree) Age(path string, d time.Duration) {
	tr.t.Helper()
	then := time.Now().Add(-d)
	err := filepath.WalkDir(tr.Path(path), func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chtimes(path, then, then)
	})
	if err != nil {
		tr.t.Fatal(err)
	}
}

// Blob stores content under its SHA-256 digest.
func (tr *Tree) Blob(content []byte) digest.Digest {
	tr.t.Helper()
	d := digest.FromBytes(content)
	tr.Write(BlobPath(d), string(content))
	return d
}

// LayerLink lets a repository serve a blob, whether there is one or not.
func (tr *Tree) LayerLink(repository string, d digest.Digest) {
	tr.t.Helper()
	tr.Write(LayerPath(repository, d), d.String())
}

// Revision lets a repository serve a manifest, whether there is one or not.
func (tr *Tree) Revision(repository string, d digest.Digest) {
	tr.t.Helper()
	tr.Write(RevisionPath(repository, d), d.String())
}

// Tag points a tag at a manifest, and remembers it in the tag's index.
func (tr *Tree) Tag(repository, tag string, d digest.Digest) {
	tr.t.Helper()
	tr.TagIndex(repository, tag, d)
	tr.Write(TagPath(repository, tag), d.String())
}

// TagIndex remembers that a tag once pointed at a manifest.
func (tr *Tree) TagIndex(repository, tag string, d digest.Digest) {
	tr.t.Helper()
	tr.Write(TagIndexPath(repository, tag, d), d.String())
}

// Upload leaves an upload as it is while a client sends it: id is any name, a UUID
// for the registry itself. The files are as old as the upload says that it is.
func (tr *Tree) Upload(repository, id string, startedAt time.Time, data []byte) {
	tr.t.Helper()
	dir := UploadPath(repository, id)
	tr.Write(dir+"/startedat", startedAt.UTC().Format(time.RFC3339))
	tr.Write(dir+"/data", string(data))
	tr.Write(fmt.Sprintf("%s/hashstates/sha256/%d", dir, len(data)), "")
	tr.Age(dir, time.Since(startedAt))
}

// Manifest stores a manifest and all that it reaches as a push does, but for the
// tag, and returns its digest.
func (tr *Tree) Manifest(repository string, m *Manifest) digest.Digest {
	tr.t.Helper()
	for _, blob := range m.Blobs {
		if len(blob.URLs) > 0 {
			continue
		}
		stored := tr.Blob(blob.Content)
		tr.LayerLink(repository, stored)
		// The registry stores one copy, and links other digests to it.
		tr.Write(LayerPath(repository, blob.Digest()), stored.String())
	}
	for _, child := range m.Manifests {
		tr.Manifest(repository, child)
	}
	d := tr.Blob(m.Content)
	tr.Revision(repository, d)
	return d
}

// Snapshot is every file below root, by slash-separated path, with the digest of
// its content; two snapshots are equal where the stores are, directories aside.
func Snapshot(root string) (map[string]string, error) {
	files := map[string]string{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		files[filepath.ToSlash(relative)] = digest.FromBytes(content).String()
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	return files, nil
}

// SnapshotT is Snapshot for a test.
func SnapshotT(t testing.TB, root string) map[string]string {
	t.Helper()
	files, err := Snapshot(root)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// Bytes is what the files below a path of the layout take.
func (tr *Tree) Bytes(path string) int64 {
	tr.t.Helper()
	var total int64
	err := filepath.WalkDir(tr.Path(path), func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		total += info.Size()
		return nil
	})
	if err != nil {
		tr.t.Fatal(err)
	}
	return total
}
