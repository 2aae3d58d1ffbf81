package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sync/errgroup"
)

// walk is one scan of a tree.
//
// A blob, a layer link and a tag index entry are known by the name of their
// directory, which is not opened: that halves the directory reads of a scan. A
// revision's and a tag's own link is read, since what it says counts and since deleting
// a manifest through the registry's API leaves the revision's directory behind empty;
// what else could lie in these directories is seen at a glance.
type walk struct {
	fs         *filesystem
	group      *errgroup.Group
	visit      func([]Object) error
	visitNamed func(named) error
}

// spawn runs f in a goroutine of its own if one is free, else at once. Never
// waiting for a free one, a bounded group can recurse without a deadlock.
func (w *walk) spawn(f func() error) error {
	if w.group.TryGo(f) {
		return nil
	}
	return f()
}

// parallel cuts names into parts that are walked concurrently.
func (w *walk) parallel(names []string, part func(names []string) error) error {
	const length = 64 // a fraction of a millisecond's work
	for len(names) > length {
		next := names[:length]
		if err := w.spawn(func() error { return part(next) }); err != nil {
			return err
		}
		names = names[length:]
	}
	return part(names)
}

// glanceInto opens dir for glances, of which it counts what they ask of the filesystem.
func (w *walk) glanceInto(dir string) *glance { return newGlance(w.fs.path(dir), &w.fs.unnoticed) }

func (w *walk) endGlance(g *glance) {
	w.fs.head.Add(g.stats)
	w.fs.get.Add(g.reads)
	g.close()
}

// readDir returns the entries of a directory, in no order. A directory that has gone
// meanwhile is empty; any other failure would be a hole in the listing.
func (w *walk) readDir(ctx context.Context, dir string) ([]dirEntry, error) {
	if err := w.fs.turn(ctx); err != nil {
		return nil, err
	}
	w.fs.list.Add(1)
	entries, err := readDirectory(w.fs.path(dir), &w.fs.unnoticed)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		err = pathErr.Err
	}
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", dir, err)
	}
	if len(entries) == 0 {
		return nil, w.reportEmptied(dir)
	}
	return entries, nil
}

// reportEmptied reports a directory that a removal has left which was cut off.
func (w *walk) reportEmptied(dir string) error {
	if _, _, ok := emptied(dir); !ok {
		return nil
	}
	return w.emit([]Object{{Path: dir, Dir: true, ModTime: w.file(dir).ModTime}})
}

// blobs lists blobs/<alg>/<first 2>/<hex>; depth is 0 for blobs itself.
func (w *walk) blobs(ctx context.Context, dir string, depth int) error {
	entries, err := w.readDir(ctx, dir)
	if err != nil {
		return err
	}
	var page []Object
	leaves := make([]string, 0, len(entries))
	for _, entry := range entries {
		if depth == 2 && entry.isDir() && isBlobDir(dir, entry.name) {
			leaves = append(leaves, entry.name)
			continue
		}
		child := dir + "/" + entry.name
		switch {
		case !entry.isDir():
			// A link here can at worst hide a blob, which is then no candidate.
			page = append(page, w.file(child))
		case depth < 2:
			err = w.spawn(func() error { return w.blobs(ctx, child, depth+1) })
		default:
			err = w.everything(ctx, child)
		}
		if err != nil {
			return err
		}
	}
	if err := w.emit(page); err != nil {
		return err
	}
	return w.emitNamed(named{dir, dataFile, leaves})
}

// isBlobDir reports whether a directory in dir, which is blobs/<alg>/<first 2>, is that
// of a blob.
func isBlobDir(dir, hex string) bool {
	alg, first, _ := strings.Cut(strings.TrimPrefix(dir, BlobsDir+"/"), "/")
	return len(first) == 2 && strings.HasPrefix(hex, first) && (name{alg, hex}).valid()
}

// names descends through the components of repository names.
func (w *walk) names(ctx context.Context, dir string) error {
	entries, err := w.readDir(ctx, dir)
	if err != nil {
		return err
	}
	var page []Object
	for _, entry := range entries {
		child := dir + "/" + entry.name
		if entry.isSymlink() {
			return symlinkError(child)
		}
		if !entry.isDir() {
			page = append(page, w.file(child))
			continue
		}
		if parsePath(child).kind == kindRepository {
			page = append(page, Object{Path: child, Dir: true})
		}
		err := w.spawn(func() error {
			switch {
			case parsePath(child).kind != kindRepository:
				return w.names(ctx, child)
			case entry.name == layersDir:
				return w.links(ctx, child)
			case entry.name == manifestsDir:
				return w.manifests(ctx, child)
			default:
				return w.everything(ctx, child)
			}
		})
		if err != nil {
			return err
		}
	}
	return w.emit(page)
}

// links lists a directory of <alg>/<hex>/link by the names alone.
func (w *walk) links(ctx context.Context, dir string) error {
	return w.digests(ctx, dir, func(algorithmDir string, hex []string, _ int) error {
		return w.emitNamed(named{algorithmDir, linkFile, hex})
	})
}

// digests lists a directory of <alg>/<hex> and calls leaf with the <hex> of each
// algorithm and the number of all directories beside them.
func (w *walk) digests(ctx context.Context, dir string, leaf func(algorithmDir string, hex []string, directories int) error) error {
	algorithms, err := w.readDir(ctx, dir)
	if err != nil {
		return err
	}
	var page []Object
	for _, algorithm := range algorithms {
		algorithmDir := dir + "/" + algorithm.name
		if algorithm.isSymlink() {
			return symlinkError(algorithmDir)
		}
		if !algorithm.isDir() {
			page = append(page, w.file(algorithmDir))
			continue
		}
		entries, err := w.readDir(ctx, algorithmDir)
		if err != nil {
			return err
		}
		hex := make([]string, 0, len(entries))
		directories := 0
		for _, entry := range entries {
			if entry.isDir() {
				directories++
				if (name{algorithm.name, entry.name}).valid() {
					hex = append(hex, entry.name)
					continue
				}
			}
			child := algorithmDir + "/" + entry.name
			switch {
			case entry.isSymlink():
				return symlinkError(child)
			case !entry.isDir():
				page = append(page, w.file(child))
			default:
				if err := w.everything(ctx, child); err != nil {
					return err
				}
			}
		}
		if err := leaf(algorithmDir, hex, directories); err != nil {
			return err
		}
	}
	return w.emit(page)
}

// manifests lists _manifests: its revisions and its tags.
func (w *walk) manifests(ctx context.Context, dir string) error {
	entries, err := w.readDir(ctx, dir)
	if err != nil {
		return err
	}
	var page []Object
	for _, entry := range entries {
		child := dir + "/" + entry.name
		switch {
		case entry.isSymlink():
			return symlinkError(child)
		case !entry.isDir():
			page = append(page, w.file(child))
		case entry.name == "revisions":
			err = w.digests(ctx, child, func(algorithmDir string, hex []string, directories int) error {
				return w.parallel(hex, func(part []string) error { return w.revisions(ctx, algorithmDir, part, directories) })
			})
		case entry.name == "tags":
			err = w.spawn(func() error { return w.tags(ctx, child) })
		default:
			err = w.everything(ctx, child)
		}
		if err != nil {
			return err
		}
	}
	return w.emit(page)
}

// revisions looks into the directories of revisions, which are those named in dir, of
// all that a listing has found there. Nearly all have a link and nothing else.
func (w *walk) revisions(ctx context.Context, dir string, hex []string, directories int) error {
	g := w.glanceInto(dir)
	defer w.endGlance(g)
	counted := g.countsDirectories(directories)
	page := make([]Object, 0, len(hex))
	for _, path := range (named{dir, linkFile, hex}).paths() {
		if err := w.fs.turn(ctx); err != nil {
			return err
		}
		below := path[len(dir)+1:]
		if counted {
			if content := g.revision(strings.TrimSuffix(below, "/"+linkFile), below); content != nil {
				page = append(page, Object{Path: path, Size: int64(len(content)), Content: content})
				continue
			}
		}
		objects, err := w.revision(ctx, strings.TrimSuffix(path, "/"+linkFile))
		if err != nil {
			return err
		}
		page = append(page, objects...)
	}
	return w.emit(page)
}

// revision looks into one revision's directory.
func (w *walk) revision(ctx context.Context, dir string) ([]Object, error) {
	entries, err := w.readDir(ctx, dir)
	if err != nil {
		return nil, err
	}
	page := []Object{{Path: dir + "/" + linkFile, Size: -1, Named: true}}
	for _, entry := range entries {
		child := dir + "/" + entry.name
		switch {
		case entry.name == linkFile: // of whatever type: reading it will tell
			page[0] = w.link(child)
		case entry.name == signaturesDir && entry.isDir():
			err = w.links(ctx, child)
		case entry.name == signaturesDir && entry.isSymlink():
			err = symlinkError(child)
		case entry.isDir():
			err = w.everything(ctx, child)
		default:
			page = append(page, w.file(child))
		}
		if err != nil {
			return nil, err
		}
	}
	return page, nil
}

// tags lists _manifests/tags.
func (w *walk) tags(ctx context.Context, dir string) error {
	entries, err := w.readDir(ctx, dir)
	if err != nil {
		return err
	}
	var page []Object
	names := make([]string, 0, len(entries))
	for _, entry := range entries {
		switch {
		case entry.isDir():
			names = append(names, entry.name)
		case entry.isSymlink():
			return symlinkError(dir + "/" + entry.name)
		default:
			page = append(page, w.file(dir+"/"+entry.name))
		}
	}
	if err := w.emit(page); err != nil {
		return err
	}
	return w.parallel(names, func(part []string) error { return w.someTags(ctx, dir, part, len(names)) })
}

// someTags lists the tags that are named in dir.
func (w *walk) someTags(ctx context.Context, dir string, names []string, directories int) error {
	g := w.glanceInto(dir)
	defer w.endGlance(g)
	counted := g.countsDirectories(directories)
	page := make([]Object, 0, 2*len(names))
	for _, name := range names {
		if err := w.fs.turn(ctx); err != nil {
			return err
		}
		if counted {
			if current, entry, ok := g.tag(name); ok {
				at := dir + "/" + name
				page = append(page, Object{Path: at + "/current/" + linkFile, Size: int64(len(current)), Content: current},
					Object{Path: at + "/index/sha256/" + entry + "/" + linkFile, Size: -1, Named: true})
				continue
			}
		}
		objects, err := w.tag(ctx, dir+"/"+name)
		if err != nil {
			return err
		}
		page = append(page, objects...)
	}
	return w.emit(page)
}

// tag lists one tag: current/link and index.
func (w *walk) tag(ctx context.Context, dir string) ([]Object, error) {
	entries, err := w.readDir(ctx, dir)
	if err != nil {
		return nil, err
	}
	var page []Object
	for _, entry := range entries {
		child := dir + "/" + entry.name
		switch {
		case entry.isSymlink():
			return nil, symlinkError(child)
		case !entry.isDir():
			page = append(page, w.file(child))
		case entry.name == "current":
			inside, err := w.readDir(ctx, child)
			if err != nil {
				return nil, err
			}
			for _, e := range inside {
				switch {
				case e.name == linkFile:
					page = append(page, w.link(child+"/"+linkFile))
				case e.isDir():
					err = w.everything(ctx, child+"/"+e.name)
				default:
					page = append(page, w.file(child+"/"+e.name))
				}
				if err != nil {
					return nil, err
				}
			}
		case entry.name == "index":
			err = w.links(ctx, child)
		default:
			err = w.everything(ctx, child)
		}
		if err != nil {
			return nil, err
		}
	}
	return page, nil
}

// everything lists all files below dir, which is not part of the layout or, as
// uploads are, small and rare.
func (w *walk) everything(ctx context.Context, dir string) error {
	entries, err := w.readDir(ctx, dir)
	if err != nil {
		return err
	}
	var page []Object
	for _, entry := range entries {
		child := dir + "/" + entry.name
		if entry.isDir() {
			if err := w.everything(ctx, child); err != nil {
				return err
			}
			continue
		}
		object := w.file(child)
		if entry.name == startedAt {
			object.Content = w.link(child).Content
		}
		page = append(page, object)
	}
	return w.emit(page)
}

// file describes a file by a stat; what has gone meanwhile keeps its name.
func (w *walk) file(name string) Object {
	w.fs.head.Add(1)
	info, err := os.Lstat(w.fs.path(name))
	if err != nil {
		return Object{Path: name, Size: -1}
	}
	return Object{Path: name, Size: info.Size(), ModTime: info.ModTime()}
}

// link reads a link. Where that fails the content stays unknown, and whoever needs
// it reads it again through Read, which says why.
func (w *walk) link(name string) Object {
	content, err := w.fs.read(name, linkLimit)
	if err != nil {
		return Object{Path: name, Size: -1}
	}
	return Object{Path: name, Size: int64(len(content)), Content: content}
}

func (w *walk) emit(page []Object) error {
	if len(page) == 0 {
		return nil
	}
	return w.visit(page)
}

func (w *walk) emitNamed(files named) error {
	if len(files.names) == 0 {
		return nil
	}
	return w.visitNamed(files)
}
