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

	"regsweep/internal/system"
	"regsweep/storage"
	"regsweep/storage/layout"

	"golang.org/x/sync/errgroup"
)

// walk is one scan of a tree. It has a function for each kind of directory of the layout.
//
// A blob, a layer link and a tag index entry are reported by the name of their
// directory, which is not opened. That halves the directory reads of a scan. The directories of
// a revision and of a tag are listed and their link is read: its content matters, an unexpected
// link beside it has to be kept, and the deletion of a manifest through the registry's API leaves
// an empty directory.
type walk struct {
	fs    *Store
	tree  *tree
	base  base
	group *errgroup.Group

	visitObjects func([]storage.Object) error
	visitDigests func(storage.NamedDigests) error
}

// spawn runs f in a new goroutine if the group's limit allows that, and otherwise in this one.
// It never waits for another goroutine, so a recursive walk can't deadlock.
func (w *walk) spawn(f func() error) error {
	if w.group.TryGo(f) {
		return nil
	}
	return f()
}

// inParts divides directories in dir into parts that are walked concurrently. visit gets a walk that
// opens files below dir from there. It must not spawn: the directory is closed after it has returned.
func inParts[N any](ctx context.Context, w *walk, dir string, names []N, visit func(w *walk, part []N) error) error {
	const length = 64 // less than a millisecond of work
	for part := range slices.Chunk(names, length) {
		err := w.spawn(func() error {
			in, err := w.openBase(ctx, dir, len(names))
			if err != nil {
				return err
			}
			defer closeDir(in.base.fd)
			return visit(in, part)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// openBase returns a walk of the same tree that opens files below dir from there. A listing has found
// so many directories in dir.
func (w *walk) openBase(ctx context.Context, dir string, directories int) (*walk, error) {
	if err := w.fs.begin(ctx); err != nil {
		return nil, err
	}
	defer w.fs.end()
	fd, err := w.tree.openDir(dir)
	if err != nil {
		return nil, &callError{fmt.Errorf("list %s: %w", dir, listedError(err))}
	}
	in := *w
	in.base = base{prefix: dir + "/", fd: fd}
	in.base.counted = system.Fstat(fd, &in.base.stat) == nil && uint64(in.base.stat.Nlink) == 2+uint64(directories)
	return &in, nil
}

// open opens a file or a directory to read it.
func (w *walk) open(name string, flags int) (fd int, err error) {
	if below, found := strings.CutPrefix(name, w.base.prefix); found && w.base.prefix != "" {
		return w.fs.noAtime.open(func(flag int) (int, error) { return system.OpenBeneath(w.base.fd, below, flags|flag) })
	}
	return w.tree.openNoAtime(name, flags)
}

// follow is tree.follow.
func (w *walk) follow(ctx context.Context, dir string) error {
	if err := w.fs.begin(ctx); err != nil {
		return err
	}
	defer w.fs.end()
	return w.tree.follow(dir)
}

// eachDir lists a directory and calls visit for each directory in it. visit returns false for a
// directory that the layout has no place for. A symbolic link is followed if operators may have
// made it, and otherwise it is an error.
func (w *walk) eachDir(ctx context.Context, dir string, visit func(name string) (known bool, err error)) error {
	entries, err := w.readDir(ctx, dir)
	if err != nil {
		return err
	}
	var page []storage.Object
	for _, entry := range entries {
		if entry.isSymlink() {
			if err := w.follow(ctx, dir+"/"+entry.name); err != nil {
				return err
			}
			entry.mode = fs.ModeDir
		}
		if entry.isDir() {
			known, err := visit(entry.name)
			if err != nil {
				return err
			}
			if known {
				continue
			}
		}
		if page, err = w.other(ctx, page, dir+"/"+entry.name, entry); err != nil {
			return err
		}
	}
	return w.emit(page)
}

// other appends a file, or reports all files in a directory.
func (w *walk) other(ctx context.Context, page []storage.Object, name string, entry dirEntry) ([]storage.Object, error) {
	if entry.isDir() {
		return page, w.allBelow(ctx, name)
	}
	file, err := w.file(ctx, name)
	return append(page, file), err
}

// blobs lists blobs/<alg>/<first 2>/<hex>.
func (w *walk) blobs(ctx context.Context, dir string) error {
	return w.eachDir(ctx, dir, func(alg string) (bool, error) {
		return true, w.spawn(func() error {
			return w.eachDir(ctx, dir+"/"+alg, func(first string) (bool, error) {
				return true, w.spawn(func() error { return w.blobsIn(ctx, alg, dir+"/"+alg+"/"+first) })
			})
		})
	})
}

// blobsIn lists blobs/<alg>/<first 2>. A symbolic link here is not followed. Its blob is not listed, so
// it is kept.
func (w *walk) blobsIn(ctx context.Context, alg, dir string) error {
	d, err := w.readDigests(ctx, dir, alg)
	if err != nil {
		return err
	}
	defer d.release()
	var page []storage.Object
	first, inPlace := path.Base(dir), d.sums[:0]
	for _, sum := range d.sums {
		var digits [2]byte
		if hex.Encode(digits[:], sum[:1]); string(digits[:]) == first {
			inPlace = append(inPlace, sum)
		} else {
			d.others = append(d.others, dirEntry{layout.HexSHA256(sum), fs.ModeDir})
		}
	}
	for _, entry := range d.others {
		child := dir + "/" + entry.name
		if data := child + "/" + layout.DataFile; entry.isDir() && layout.Parse(data).Kind == layout.Blob {
			page = append(page, storage.Object{Path: data, Size: -1, Named: true})
		} else if page, err = w.other(ctx, page, child, entry); err != nil {
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
	return w.eachDir(ctx, dir, func(name string) (bool, error) {
		child, walk := dir+"/"+name, w.names
		if layout.Parse(child).Kind == layout.Repository {
			if err := w.emit([]storage.Object{{Path: child, Dir: true}}); err != nil {
				return true, err
			}
			switch name {
			case layout.LayersDir:
				walk = w.layers
			case layout.ManifestsDir:
				walk = w.manifests
			default:
				walk = w.uploads
			}
		}
		return true, w.spawn(func() error { return walk(ctx, child) })
	})
}

// layers lists _layers/<alg>/<hex>. It reads only the names of the directories.
func (w *walk) layers(ctx context.Context, dir string) error {
	return w.eachDir(ctx, dir, func(alg string) (bool, error) {
		if alg != "sha256" {
			page, err := w.linksBy(ctx, nil, dir, alg)
			return true, errors.Join(err, w.emit(page))
		}
		d, err := w.readDigests(ctx, dir+"/"+alg, alg)
		if err != nil {
			return true, err
		}
		defer d.release()
		var page []storage.Object
		for _, entry := range d.others {
			child := dir + "/" + alg + "/" + entry.name
			if entry.isSymlink() {
				return true, symlinkError(child)
			}
			if page, err = w.other(ctx, page, child, entry); err != nil {
				return true, err
			}
		}
		if err := w.emit(page); err != nil {
			return true, err
		}
		return true, w.emitDigests(storage.NamedDigests{Dir: dir + "/" + alg, File: layout.LinkFile, Digests: d.sums})
	})
}

// links appends the links <alg>/<hex>/link in a directory. It reads only the names of the
// directories.
func (w *walk) links(ctx context.Context, page []storage.Object, dir string) ([]storage.Object, error) {
	err := w.eachDir(ctx, dir, func(alg string) (_ bool, err error) {
		page, err = w.linksBy(ctx, page, dir, alg)
		return true, err
	})
	return page, err
}

// linksBy is links of one algorithm.
func (w *walk) linksBy(ctx context.Context, page []storage.Object, dir, alg string) ([]storage.Object, error) {
	err := w.eachDir(ctx, dir+"/"+alg, func(hex string) (bool, error) {
		if !(layout.Name{Alg: alg, Hex: hex}).Valid() {
			return false, nil
		}
		page = append(page, storage.Object{Path: dir + "/" + alg + "/" + hex + "/" + layout.LinkFile, Size: -1, Named: true})
		return true, nil
	})
	return page, err
}

// manifests lists _manifests: its revisions and its tags.
func (w *walk) manifests(ctx context.Context, dir string) error {
	return w.eachDir(ctx, dir, func(name string) (bool, error) {
		switch name {
		case "revisions":
			return true, w.revisions(ctx, dir+"/"+name)
		case "tags":
			return true, w.spawn(func() error { return w.tags(ctx, dir+"/"+name) })
		}
		return false, nil
	})
}

// revisions lists _manifests/revisions/<alg>/<hex>.
func (w *walk) revisions(ctx context.Context, dir string) error {
	return w.eachDir(ctx, dir, func(alg string) (bool, error) {
		algDir := dir + "/" + alg
		d, err := w.readDigests(ctx, algDir, alg)
		if err != nil {
			return true, err
		}
		defer d.release()
		err = inParts(ctx, w, algDir, slices.Clone(d.sums), func(in *walk, sums [][32]byte) error {
			return in.someRevisions(ctx, algDir, sums)
		})
		if err != nil {
			return true, err
		}
		var page []storage.Object
		for _, entry := range d.others {
			child := algDir + "/" + entry.name
			switch {
			case entry.isSymlink():
				err = symlinkError(child)
			case entry.isDir() && layout.Name{Alg: alg, Hex: entry.name}.Valid():
				page, err = w.revision(ctx, page, child)
			default:
				page, err = w.other(ctx, page, child, entry)
			}
			if err != nil {
				return true, err
			}
		}
		return true, w.emit(page)
	})
}

// someRevisions lists revisions with SHA-256 digests.
func (w *walk) someRevisions(ctx context.Context, dir string, sums [][32]byte) error {
	ordinary := sums[:0]
	var page []storage.Object
	for _, sum := range sums {
		name := layout.HexSHA256(sum)
		isOrdinary, err := w.isOrdinaryRevision(ctx, name)
		if err == nil && isOrdinary {
			ordinary = append(ordinary, sum)
		} else if err == nil {
			page, err = w.revision(ctx, page, dir+"/"+name)
		}
		if err != nil {
			return err
		}
	}
	if err := w.emit(page); err != nil {
		return err
	}
	return w.emitDigests(storage.NamedDigests{Dir: dir, File: layout.LinkFile, Digests: ordinary, Verified: true})
}

// revision lists the directory of one revision: link and signatures.
func (w *walk) revision(ctx context.Context, page []storage.Object, dir string) ([]storage.Object, error) {
	entries, err := w.readDir(ctx, dir, layout.LinkFile)
	if err != nil || len(entries) == 0 {
		return page, err // readDir has reported an empty directory
	}
	link := storage.Object{Path: dir + "/" + layout.LinkFile, Size: -1, Named: true}
	for _, entry := range entries {
		switch {
		case entry.name == layout.LinkFile: // if it is no regular file, the read fails
			link, err = w.link(ctx, link.Path)
		case entry.name == layout.SignaturesDir && entry.isSymlink():
			err = symlinkError(dir + "/" + entry.name)
		case entry.name == layout.SignaturesDir && entry.isDir():
			page, err = w.links(ctx, page, dir+"/"+entry.name)
		default:
			page, err = w.other(ctx, page, dir+"/"+entry.name, entry)
		}
		if err != nil {
			return nil, err
		}
	}
	return append(page, link), nil
}

// tags lists _manifests/tags.
func (w *walk) tags(ctx context.Context, dir string) error {
	var names []string
	err := w.eachDir(ctx, dir, func(name string) (bool, error) {
		names = append(names, name)
		return true, nil
	})
	if err != nil {
		return err
	}
	return inParts(ctx, w, dir, names, func(in *walk, names []string) (err error) {
		page := make([]storage.Object, 0, 2*len(names))
		for _, name := range names {
			if page, err = in.tag(ctx, page, dir+"/"+name); err != nil {
				return err
			}
		}
		return in.emit(page)
	})
}

// tag lists one tag: current/link and index.
func (w *walk) tag(ctx context.Context, page []storage.Object, dir string) ([]storage.Object, error) {
	if page, ok, err := w.ordinaryTag(ctx, page, dir); ok || err != nil {
		return page, err
	}
	entries, err := w.readDir(ctx, dir)
	if err != nil || len(entries) == 0 {
		return page, err // readDir has reported an empty directory
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
			return append(page, object), nil
		}
	}
	for _, entry := range entries {
		child := dir + "/" + entry.name
		switch {
		case entry.isSymlink():
			err = symlinkError(child)
		case entry.isDir() && entry.name == "index":
			page, err = w.links(ctx, page, child)
		case !entry.isDir() || entry.name != "current":
			page, err = w.other(ctx, page, child, entry)
		}
		if err != nil {
			return nil, err
		}
	}
	for _, entry := range current {
		child := dir + "/current/" + entry.name
		if entry.name == layout.LinkFile {
			var link storage.Object
			link, err = w.link(ctx, child)
			page = append(page, link)
		} else {
			page, err = w.other(ctx, page, child, entry)
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
		if page, err = w.other(ctx, page, child, entry); err == nil {
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

// allBelow lists and stats all files below dir. It is for directories outside of the layout, and
// for uploads, which are small and rare.
func (w *walk) allBelow(ctx context.Context, dir string) error {
	entries, err := w.readDir(ctx, dir)
	if err != nil {
		return err
	}
	var page []storage.Object
	for _, entry := range entries {
		child := dir + "/" + entry.name
		if page, err = w.other(ctx, page, child, entry); err != nil {
			return err
		}
		if entry.name == layout.StartedAt && !entry.isDir() {
			started, err := w.link(ctx, child)
			if err != nil {
				return err
			}
			page[len(page)-1].Content = started.Content
		}
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

// link reads a link or another small file.
func (w *walk) link(ctx context.Context, name string) (storage.Object, error) {
	if err := w.fs.begin(ctx); err != nil {
		return storage.Object{}, err
	}
	defer w.fs.end()
	return w.readLink(name), nil
}

// readLink is link for a call between begin and end. If reading fails, the content is nil. A caller
// that needs the content calls Read, which returns the error.
func (w *walk) readLink(name string) storage.Object {
	link := storage.Object{Path: name, Size: -1}
	w.fs.get.Add(1)
	fd, err := w.open(name, readFlags)
	if err != nil {
		return link
	}
	buffer := readBuffers.Get().(*[16 << 10]byte)
	defer readBuffers.Put(buffer)
	if content, err := readAndClose(buffer[:], fd, layout.LinkLimit); err == nil {
		link.Content, link.Size = append([]byte{}, content...), int64(len(content))
	}
	return link
}

func (w *walk) emit(page []storage.Object) error {
	if len(page) == 0 {
		return nil
	}
	return w.visitObjects(page)
}

func (w *walk) emitDigests(n storage.NamedDigests) error {
	if len(n.Digests) == 0 {
		return nil
	}
	return w.visitDigests(n)
}
