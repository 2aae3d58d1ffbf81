//go:build unix

package filesystem

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"regsweep/storage"
	"regsweep/storage/layout"

	"golang.org/x/sync/errgroup"
)

// walk is one scan of a tree.
//
// A blob, a layer link and a tag index entry are reported by the name of their
// directory, which is not opened. That halves the directory reads of a scan. The link
// of a revision and of a tag is read: its content matters, and the deletion of a
// manifest through the registry's API leaves an empty directory. A stat shows whether
// these directories have other entries.
type walk struct {
	fs    *Store
	tree  *tree
	group *errgroup.Group
	visit storage.NameVisitor
}

// spawn runs f in a new goroutine if the group's limit allows that, and otherwise in this one.
// It never waits for another goroutine, so a recursive walk can't deadlock.
func (w *walk) spawn(f func() error) error {
	if w.group.TryGo(f) {
		return nil
	}
	return f()
}

// follow is tree.follow.
func (w *walk) follow(ctx context.Context, dir string) error {
	if err := w.fs.begin(ctx); err != nil {
		return err
	}
	defer w.fs.end()
	return w.tree.follow(dir)
}

// glance opens a directory to stat the directories in it. A listing has found so many.
func (w *walk) glance(ctx context.Context, dir string, directories int) (g *glance, counted bool, err error) {
	if err := w.fs.begin(ctx); err != nil {
		return nil, false, err
	}
	defer w.fs.end()
	g = newGlance(w.tree, dir)
	return g, g.countsDirectories(directories), nil
}

// parallel cuts names into parts that are walked concurrently.
func parallel[N any](w *walk, names []N, part func(names []N) error) error {
	const length = 64 // less than a millisecond of work
	for len(names) > length {
		next := names[:length]
		if err := w.spawn(func() error { return part(next) }); err != nil {
			return err
		}
		names = names[length:]
	}
	return part(names)
}

// blobs lists blobs/<alg>/<first 2>/<hex>. depth is 0 for blobs itself.
func (w *walk) blobs(ctx context.Context, dir string, depth int) error {
	if depth == 2 && strings.HasPrefix(dir, storage.BlobsDir+"/sha256/") {
		return w.sha256Blobs(ctx, dir)
	}
	entries, err := w.readDir(ctx, dir)
	if err != nil {
		return err
	}
	var page []storage.Object
	for _, entry := range entries {
		child := dir + "/" + entry.name
		if entry.isSymlink() && depth < 2 {
			if err := w.follow(ctx, child); err != nil {
				return err
			}
			entry.mode = fs.ModeDir
		}
		switch {
		case !entry.isDir():
			// At worst a symbolic link here hides a blob. A hidden blob is not removed.
			page, err = w.appendFile(ctx, page, child)
		case depth < 2:
			err = w.spawn(func() error { return w.blobs(ctx, child, depth+1) })
		case layout.Parse(child+"/"+layout.DataFile).Kind == layout.Blob:
			page = append(page, storage.Object{Path: child + "/" + layout.DataFile, Size: -1, Named: true})
		default:
			err = w.everything(ctx, child)
		}
		if err != nil {
			return err
		}
	}
	return w.emit(page)
}

// sha256Blobs lists blobs/sha256/<first 2>.
func (w *walk) sha256Blobs(ctx context.Context, dir string) error {
	d, err := w.readDigests(ctx, dir)
	if err != nil {
		return err
	}
	defer d.release()
	first, inPlace := path.Base(dir), d.sums[:0]
	for _, sum := range d.sums {
		var digits [2]byte
		if hex.Encode(digits[:], sum[:1]); string(digits[:]) == first {
			inPlace = append(inPlace, sum)
		} else if err := w.everything(ctx, dir+"/"+layout.HexSHA256(sum)); err != nil {
			return err
		}
	}
	var page []storage.Object
	for _, entry := range d.others {
		child := dir + "/" + entry.name
		if entry.isDir() {
			if err := w.everything(ctx, child); err != nil {
				return err
			}
			continue
		}
		if page, err = w.appendFile(ctx, page, child); err != nil {
			return err
		}
	}
	if err := w.emit(page); err != nil {
		return err
	}
	return w.emitDigests(storage.NamedDigests{Dir: dir, File: layout.DataFile, Digests: inPlace})
}

// names walks the directories that are components of repository names.
func (w *walk) names(ctx context.Context, dir string) error {
	entries, err := w.readDir(ctx, dir)
	if err != nil {
		return err
	}
	var page []storage.Object
	for _, entry := range entries {
		child := dir + "/" + entry.name
		if entry.isSymlink() {
			if err := w.follow(ctx, child); err != nil {
				return err
			}
			entry.mode = fs.ModeDir
		}
		if !entry.isDir() {
			if page, err = w.appendFile(ctx, page, child); err != nil {
				return err
			}
			continue
		}
		if layout.Parse(child).Kind == layout.Repository {
			page = append(page, storage.Object{Path: child, Dir: true})
		}
		err := w.spawn(func() error {
			switch {
			case layout.Parse(child).Kind != layout.Repository:
				return w.names(ctx, child)
			case entry.name == layout.LayersDir:
				return w.links(ctx, child)
			case entry.name == layout.ManifestsDir:
				return w.manifests(ctx, child)
			default:
				return w.uploads(ctx, child)
			}
		})
		if err != nil {
			return err
		}
	}
	return w.emit(page)
}

// links lists a directory of <alg>/<hex>/link. It reads only the names of the directories.
func (w *walk) links(ctx context.Context, dir string) error {
	return w.digests(ctx, dir, func(algorithmDir string, d *digestListing) error {
		return w.emitDigests(storage.NamedDigests{Dir: algorithmDir, File: layout.LinkFile, Digests: d.sums})
	}, func(dir string) ([]storage.Object, error) {
		return []storage.Object{{Path: dir + "/" + layout.LinkFile, Size: -1, Named: true}}, nil
	})
}

// digests lists a directory of <alg>/<hex>. It calls sha256 for the directory <alg> of SHA-256; d
// is valid until sha256 returns. It calls other for each directory <hex> of another algorithm.
func (w *walk) digests(ctx context.Context, dir string, sha256 func(algorithmDir string, d *digestListing) error, other func(dir string) ([]storage.Object, error)) error {
	algorithms, err := w.readDir(ctx, dir)
	if err != nil {
		return err
	}
	var page []storage.Object
	for _, algorithm := range algorithms {
		algorithmDir := dir + "/" + algorithm.name
		switch {
		case algorithm.isSymlink():
			return symlinkError(algorithmDir)
		case !algorithm.isDir():
			page, err = w.appendFile(ctx, page, algorithmDir)
		case algorithm.name == "sha256":
			err = w.sha256Digests(ctx, algorithmDir, sha256)
		default:
			err = w.otherDigests(ctx, algorithmDir, algorithm.name, other)
		}
		if err != nil {
			return err
		}
	}
	return w.emit(page)
}

func (w *walk) sha256Digests(ctx context.Context, dir string, sha256 func(algorithmDir string, d *digestListing) error) error {
	d, err := w.readDigests(ctx, dir)
	if err != nil {
		return err
	}
	defer d.release()
	for _, entry := range d.others {
		if err := w.besideDigests(ctx, dir, entry); err != nil {
			return err
		}
	}
	return sha256(dir, d)
}

func (w *walk) otherDigests(ctx context.Context, dir, algorithm string, other func(dir string) ([]storage.Object, error)) error {
	entries, err := w.readDir(ctx, dir)
	if err != nil {
		return err
	}
	var page []storage.Object
	for _, entry := range entries {
		if !entry.isDir() || !(layout.Name{Alg: algorithm, Hex: entry.name}).Valid() {
			if err := w.besideDigests(ctx, dir, entry); err != nil {
				return err
			}
			continue
		}
		objects, err := other(dir + "/" + entry.name)
		if err != nil {
			return err
		}
		page = append(page, objects...)
	}
	return w.emit(page)
}

// besideDigests reports an entry of a directory of digests that is not the directory of a digest.
func (w *walk) besideDigests(ctx context.Context, dir string, entry dirEntry) error {
	child := dir + "/" + entry.name
	switch {
	case entry.isSymlink():
		return symlinkError(child)
	case entry.isDir():
		return w.everything(ctx, child)
	}
	page, err := w.appendFile(ctx, nil, child)
	if err != nil {
		return err
	}
	return w.emit(page)
}

// manifests lists _manifests: its revisions and its tags.
func (w *walk) manifests(ctx context.Context, dir string) error {
	entries, err := w.readDir(ctx, dir)
	if err != nil {
		return err
	}
	var page []storage.Object
	for _, entry := range entries {
		child := dir + "/" + entry.name
		switch {
		case entry.isSymlink():
			return symlinkError(child)
		case !entry.isDir():
			page, err = w.appendFile(ctx, page, child)
		case entry.name == "revisions":
			err = w.digests(ctx, child, func(algorithmDir string, d *digestListing) error {
				directories := d.directories()
				return parallel(w, slices.Clone(d.sums), func(part [][32]byte) error {
					return w.revisions(ctx, algorithmDir, part, directories)
				})
			}, func(dir string) ([]storage.Object, error) { return w.revision(ctx, dir) })
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
// all that a listing has found there. Nearly all have a link and nothing else. It changes
// sums.
func (w *walk) revisions(ctx context.Context, dir string, sums [][32]byte, directories int) error {
	g, counted, err := w.glance(ctx, dir, directories)
	if err != nil {
		return err
	}
	defer w.fs.endGlance(g)
	linked, emptied := sums[:0], [][32]byte(nil)
	var page []storage.Object
	for _, sum := range sums {
		is := unclear
		if counted {
			if err := w.fs.begin(ctx); err != nil {
				return err
			}
			is = g.revision(&sum)
			w.fs.end()
		}
		if is == ordinary {
			linked = append(linked, sum)
			continue
		}
		name := dir + "/" + layout.HexSHA256(sum)
		if is == absent {
			isEmpty, err := w.isListedEmpty(ctx, name)
			if err != nil {
				return err
			}
			if isEmpty {
				emptied = append(emptied, sum)
				continue
			}
		}
		objects, err := w.revision(ctx, name)
		if err != nil {
			return err
		}
		page = append(page, objects...)
	}
	if err := w.emit(page); err != nil {
		return err
	}
	if err := w.emitDigests(storage.NamedDigests{Dir: dir, File: layout.LinkFile, Digests: emptied, Absent: true}); err != nil {
		return err
	}
	return w.emitDigests(storage.NamedDigests{Dir: dir, File: layout.LinkFile, Digests: linked, Read: true})
}

// revision lists the directory of one revision.
func (w *walk) revision(ctx context.Context, dir string) ([]storage.Object, error) {
	entries, err := w.readDir(ctx, dir)
	if err != nil {
		return nil, err
	}
	page := []storage.Object{{Path: dir + "/" + layout.LinkFile, Size: -1, Named: true}}
	for _, entry := range entries {
		child := dir + "/" + entry.name
		switch {
		case entry.name == layout.LinkFile: // if it is no regular file, the read fails
			page[0], err = w.link(ctx, child)
		case entry.name == layout.SignaturesDir && entry.isDir():
			err = w.links(ctx, child)
		case entry.name == layout.SignaturesDir && entry.isSymlink():
			err = symlinkError(child)
		case entry.isDir():
			err = w.everything(ctx, child)
		default:
			page, err = w.appendFile(ctx, page, child)
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
	var page []storage.Object
	names := make([]string, 0, len(entries))
	for _, entry := range entries {
		switch {
		case entry.isDir():
			names = append(names, entry.name)
		case entry.isSymlink():
			return symlinkError(dir + "/" + entry.name)
		default:
			if page, err = w.appendFile(ctx, page, dir+"/"+entry.name); err != nil {
				return err
			}
		}
	}
	if err := w.emit(page); err != nil {
		return err
	}
	return parallel(w, names, func(part []string) error { return w.someTags(ctx, dir, part, len(names)) })
}

// someTags lists the tags that are named in dir.
func (w *walk) someTags(ctx context.Context, dir string, names []string, directories int) error {
	g, counted, err := w.glance(ctx, dir, directories)
	if err != nil {
		return err
	}
	defer w.fs.endGlance(g)
	ordinary := make([]storage.NamedTag, 0, len(names))
	var page []storage.Object
	for _, name := range names {
		if counted && layout.IsNameable(name) {
			tag, ok, err := w.glanceAtTag(ctx, g, dir, name)
			if err != nil {
				return err
			}
			if ok {
				ordinary = append(ordinary, tag)
				continue
			}
		}
		objects, err := w.tag(ctx, dir+"/"+name)
		if err != nil {
			return err
		}
		page = append(page, objects...)
	}
	if err := w.emit(page); err != nil {
		return err
	}
	return w.emitTags(storage.NamedTags{Dir: dir, Tags: ordinary})
}

// glanceAtTag reports whether a tag is ordinary. Of one that was moved it lists the index, and
// where the current link lies: to move a tag again may have been cut off, which leaves a file
// that has no place there.
func (w *walk) glanceAtTag(ctx context.Context, g *glance, dir, name string) (tag storage.NamedTag, ok bool, err error) {
	if err := w.fs.begin(ctx); err != nil {
		return storage.NamedTag{}, false, err
	}
	target, entries, ok := g.tag(name)
	w.fs.end()
	if !ok || entries == 1 {
		return storage.NamedTag{Name: name, Target: target}, ok, nil
	}
	current, err := w.readDir(ctx, dir+"/"+name+"/current")
	if err != nil {
		return storage.NamedTag{}, false, err
	}
	index, err := w.readDigests(ctx, dir+"/"+name+"/index/sha256")
	if err != nil {
		return storage.NamedTag{}, false, err
	}
	defer index.release()
	ok = len(current) == 1 && len(index.sums) > 0 && len(index.others) == 0
	return storage.NamedTag{Name: name, Target: target, Index: slices.Clone(index.sums)}, ok, nil
}

// tag lists one tag: current/link and index.
func (w *walk) tag(ctx context.Context, dir string) ([]storage.Object, error) {
	entries, err := w.readDir(ctx, dir)
	if err != nil {
		return nil, err
	}
	if len(entries) == 0 {
		return nil, nil // readDir has reported the empty directory
	}
	var current []dirEntry
	if slices.Contains(entries, dirEntry{"current", fs.ModeDir}) {
		if current, err = w.readDir(ctx, dir+"/current"); err != nil {
			return nil, err
		}
	}
	if len(current) == 0 {
		object, isEmptied, err := w.emptiedTag(ctx, dir, entries)
		if err != nil {
			return nil, err
		}
		if isEmptied {
			return []storage.Object{object}, nil
		}
	}
	var page []storage.Object
	for _, entry := range entries {
		child := dir + "/" + entry.name
		switch {
		case entry.isSymlink():
			return nil, symlinkError(child)
		case !entry.isDir():
			page, err = w.appendFile(ctx, page, child)
		case entry.name == "current":
			for _, e := range current {
				switch {
				case e.name == layout.LinkFile:
					var link storage.Object
					link, err = w.link(ctx, child+"/"+layout.LinkFile)
					page = append(page, link)
				case e.isDir():
					err = w.everything(ctx, child+"/"+e.name)
				default:
					page, err = w.appendFile(ctx, page, child+"/"+e.name)
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

// emptiedTag returns the directory of a tag if it has no file: the removal of the tag was
// interrupted. Its time is the newest time of all directories in it, since a push may have just
// made one of them.
func (w *walk) emptiedTag(ctx context.Context, dir string, entries []dirEntry) (object storage.Object, isEmptied bool, err error) {
	stat, err := w.fs.lstat(ctx, w.tree, dir)
	if err != nil {
		return storage.Object{}, false, &callError{fmt.Errorf("stat %s: %w", dir, listedError(err))}
	}
	object = storage.Object{Path: dir, Dir: true, ModTime: modTime(&stat)}
	for _, entry := range entries {
		if !entry.isDir() {
			return storage.Object{}, false, nil
		}
		child := dir + "/" + entry.name
		inside, err := w.fs.readDir(ctx, w.tree, child)
		if err != nil {
			return storage.Object{}, false, &callError{fmt.Errorf("list %s: %w", child, listedError(err))}
		}
		below, isEmptied, err := w.emptiedTag(ctx, child, inside)
		if !isEmptied || err != nil {
			return storage.Object{}, false, err
		}
		if below.ModTime.After(object.ModTime) {
			object.ModTime = below.ModTime
		}
	}
	return object, true, nil
}

// uploads lists _uploads. An upload keeps no blob alive. So an upload that can't be read does not
// end the scan: it is reported and kept.
func (w *walk) uploads(ctx context.Context, dir string) error {
	entries, err := w.readDir(ctx, dir)
	if err != nil {
		return err
	}
	var page []storage.Object
	for _, entry := range entries {
		child := dir + "/" + entry.name
		if !entry.isDir() {
			if page, err = w.appendFile(ctx, page, child); err != nil {
				return err
			}
			continue
		}
		err := w.everything(ctx, child)
		if err == nil {
			continue
		}
		if page, err = w.unreadableUpload(ctx, page, child, err); err != nil {
			return err
		}
	}
	return w.emit(page)
}

// unreadableUpload reports an upload that can't be read, unless it was finished meanwhile.
func (w *walk) unreadableUpload(ctx context.Context, page []storage.Object, dir string, failure error) ([]storage.Object, error) {
	var failed *callError
	if !errors.As(failure, &failed) {
		return nil, failure // an error of visit
	}
	stat, err := w.fs.lstat(ctx, w.tree, dir)
	switch {
	case isAbsent(err):
		return page, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	object := storage.Object{Path: dir, Size: -1, Dir: true, Err: failure}
	if err == nil {
		object.ModTime = modTime(&stat)
	}
	return append(page, object), nil
}

// everything lists and stats all files below dir. It is for directories outside of the layout, and
// for uploads, which are small and rare.
func (w *walk) everything(ctx context.Context, dir string) error {
	entries, err := w.readDir(ctx, dir)
	if err != nil {
		return err
	}
	var page []storage.Object
	for _, entry := range entries {
		child := dir + "/" + entry.name
		if entry.isDir() {
			if err := w.everything(ctx, child); err != nil {
				return err
			}
			continue
		}
		object, err := w.file(ctx, child)
		if err != nil {
			return err
		}
		if entry.name == layout.StartedAt {
			link, err := w.link(ctx, child)
			if err != nil {
				return err
			}
			object.Content = link.Content
		}
		page = append(page, object)
	}
	return w.emit(page)
}

// callError is a failure to list a directory.
type callError struct{ error }

func (c *callError) Unwrap() error { return c.error }

// file stats a file that was listed. If the stat fails, the object has the path and the error of the
// stat. The returned error is the error of ctx.
func (w *walk) file(ctx context.Context, name string) (storage.Object, error) {
	if err := w.fs.begin(ctx); err != nil {
		return storage.Object{}, err
	}
	defer w.fs.end()
	w.fs.head.Add(1)
	stat, err := w.tree.lstat(name)
	if err != nil {
		return storage.Object{Path: name, Size: -1, Err: listedError(err)}, nil
	}
	return fileObject(name, &stat), nil
}

func (w *walk) appendFile(ctx context.Context, page []storage.Object, name string) ([]storage.Object, error) {
	file, err := w.file(ctx, name)
	return append(page, file), err
}

// link reads a link. If that fails, the content is unknown. A caller that needs the content calls
// Read, which returns the error.
func (w *walk) link(ctx context.Context, name string) (storage.Object, error) {
	if err := w.fs.begin(ctx); err != nil {
		return storage.Object{}, err
	}
	defer w.fs.end()
	content, err := w.fs.read(name, layout.LinkLimit)
	if err != nil {
		return storage.Object{Path: name, Size: -1}, nil
	}
	return storage.Object{Path: name, Size: int64(len(content)), Content: content}, nil
}

func (w *walk) emit(page []storage.Object) error {
	if len(page) == 0 {
		return nil
	}
	return w.visit.Objects(page)
}

func (w *walk) emitDigests(n storage.NamedDigests) error {
	if len(n.Digests) == 0 {
		return nil
	}
	return w.visit.Digests(n)
}

func (w *walk) emitTags(n storage.NamedTags) error {
	if len(n.Tags) == 0 {
		return nil
	}
	return w.visit.Tags(n)
}
