package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

const (
	// busy is how many tasks are at work at once. On a warm cache as many as there are
	// processors would do; a disk wants more to choose from.
	busy = 16
	// batch is how many links a task reads.
	batch = 128
	// tooLarge is more than a registry takes for a manifest.
	tooLarge = 4 << 20
)

// tree is a registry on a filesystem.
type tree struct {
	root  string
	group errgroup.Group
	slots chan struct{}

	blobs, layers, tags atomic.Int64
	manifests           set
}

// walk reads a registry. Each directory is a task, and so is each batch of links.
func walk(root string) (found, error) {
	// As regsweep does, so that calls which wait for a disk don't wait for one another.
	processors := runtime.GOMAXPROCS(0)
	runtime.GOMAXPROCS(max(processors, min(busy, 4*processors)))
	t := &tree{root: filepath.Join(root, layout), slots: make(chan struct{}, busy)}
	t.do(t.listBlobs)
	t.do(func() error { return t.repository(filepath.Join(t.root, "repositories")) })
	if err := t.group.Wait(); err != nil {
		return found{}, err
	}
	return found{int(t.blobs.Load()), int(t.layers.Load()), int(t.tags.Load()), t.manifests.len()}, nil
}

// do does a task once there is a slot for it. Tasks start others and do not wait for
// them, so slots can't run out for good.
func (t *tree) do(task func() error) {
	t.group.Go(func() error {
		t.slots <- struct{}{}
		defer func() { <-t.slots }()
		return task()
	})
}

// listBlobs counts the names below blobs/sha256/xx: a blob is its directory's name.
func (t *tree) listBlobs() error {
	dir := filepath.Join(t.root, "blobs/sha256")
	prefixes, err := names(dir)
	if err != nil {
		return err
	}
	for _, prefix := range prefixes {
		t.do(func() error { return count(filepath.Join(dir, prefix), &t.blobs) })
	}
	return nil
}

// repository lists a directory that is a repository, holds some, or both.
func (t *tree) repository(dir string) error {
	entries, err := names(dir)
	if err != nil {
		return err
	}
	for _, name := range entries {
		path := filepath.Join(dir, name)
		switch name {
		case "_layers":
			t.do(func() error { return count(filepath.Join(path, "sha256"), &t.layers) })
		case "_manifests":
			t.do(func() error { return t.each(filepath.Join(path, "revisions/sha256"), t.revision) })
			t.do(func() error { return t.each(filepath.Join(path, "tags"), t.tag) })
		case "_uploads":
		default:
			t.do(func() error { return t.repository(path) })
		}
	}
	return nil
}

// each calls read for all names of a directory, in batches, with its descriptor and a
// buffer that is read's own.
func (t *tree) each(dir string, read func(at int, name string, buffer []byte) error) error {
	entries, err := names(dir)
	if err != nil {
		return err
	}
	for some := range slices.Chunk(entries, batch) {
		t.do(func() error {
			at, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			if err != nil {
				return &os.PathError{Op: "open", Path: dir, Err: err}
			}
			defer unix.Close(at)
			buffer := make([]byte, 64<<10)
			for _, name := range some {
				if err := read(at, name, buffer); err != nil {
					return fmt.Errorf("%s: %w", dir, err)
				}
			}
			return nil
		})
	}
	return nil
}

// revision reads a revision's link and, if it is the first to name it, its manifest.
// The directory of one that was deleted through the API is empty.
func (t *tree) revision(at int, name string, buffer []byte) error {
	link, err := read(at, name+"/link", buffer)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	return t.manifest(link, buffer)
}

// tag reads a tag's current link.
func (t *tree) tag(at int, name string, buffer []byte) error {
	link, err := read(at, name+"/current/link", buffer)
	if err != nil {
		return err
	}
	t.tags.Add(1)
	return t.manifest(link, buffer)
}

func (t *tree) manifest(link, buffer []byte) error {
	hexadecimal, err := digestOf(link)
	if err != nil || !t.manifests.add(hexadecimal) {
		return err
	}
	content, err := read(unix.AT_FDCWD, filepath.Join(t.root, "blobs/sha256", hexadecimal[:2], hexadecimal, "data"), buffer)
	if err != nil {
		return err
	}
	return verify(hexadecimal, content)
}

// digestOf is the hexadecimal part of what a link says.
func digestOf(link []byte) (string, error) {
	const algorithm = "sha256:"
	if len(link) != len(algorithm)+2*sha256.Size || string(link[:len(algorithm)]) != algorithm {
		return "", fmt.Errorf("a link says %q", link)
	}
	return string(link[len(algorithm):]), nil
}

func verify(hexadecimal string, content []byte) error {
	if sum := sha256.Sum256(content); hex.EncodeToString(sum[:]) != hexadecimal {
		return fmt.Errorf("manifest %s has another digest", hexadecimal)
	}
	return nil
}

// count adds the number of a directory's names.
func count(dir string, to *atomic.Int64) error {
	entries, err := names(dir)
	to.Add(int64(len(entries)))
	return err
}

// names are a directory's, read with nothing but open, getdents and close. A directory
// that does not exist has none, as that of a repository without tags.
func names(dir string) (entries []string, err error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(fd)
	buffer := make([]byte, 32<<10)
	for {
		n, err := unix.ReadDirent(fd, buffer)
		if err != nil {
			return nil, &os.PathError{Op: "getdents", Path: dir, Err: err}
		}
		if n == 0 {
			return entries, nil
		}
		_, _, entries = unix.ParseDirent(buffer[:n], -1, entries)
	}
}

// read reads a file with nothing but open, read and close into buffer, which is large
// enough for most.
func read(at int, path string, buffer []byte) ([]byte, error) {
	fd, err := unix.Openat(at, path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	for have := 0; ; {
		n, err := unix.Read(fd, buffer[have:])
		if err != nil {
			return nil, &os.PathError{Op: "read", Path: path, Err: err}
		}
		have += n
		if have < len(buffer) {
			// Less than was asked for is the end: these are regular files.
			return buffer[:have], nil
		}
		if have > tooLarge {
			return nil, &os.PathError{Op: "read", Path: path, Err: unix.EFBIG}
		}
		buffer = append(buffer, make([]byte, len(buffer))...)
	}
}
