package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"regsweep/storage"
)

// history has the versions and the delete markers of one object, each list with the newest first.
// The order between a version and a delete marker is unknown, except for the latest of all. Their
// times don't tell it: the time of a multipart upload is when it was begun.
type history struct{ versions, markers []version }

// histories lists the versions of objects. A page of the listing begins at one of the objects and
// may include others. The next page begins at the next object, so all keys between are skipped.
// The number of requests is at most the number of objects, and at most the number of pages.
func (s *Store) histories(ctx context.Context, paths []string) (map[string]history, error) {
	of := make(map[string]history, len(paths))
	for _, path := range paths {
		of[path] = history{}
	}
	wanted, last := slices.Compact(slices.Sorted(slices.Values(paths))), ""
	input := s.versionsBelow("")
	for len(wanted) > 0 {
		// A listing begins after its marker. The marker is the path without its last byte.
		if before := wanted[0][:len(wanted[0])-1]; before > last {
			input.KeyMarker, input.VersionIdMarker = s.key(before), nil
		}
		more, err := s.versionPage(ctx, input, func(path string, v version) {
			last = max(last, path)
			h, isWanted := of[path]
			switch {
			case !isWanted:
				return
			case v.marker:
				h.markers = append(h.markers, v)
			default:
				h.versions = append(h.versions, v)
			}
			of[path] = h
		})
		if err != nil {
			return nil, err
		}
		if !more {
			break
		}
		// The next page may have more versions of the last object of this page.
		seen, _ := slices.BinarySearch(wanted, last)
		wanted = wanted[seen:]
	}
	return of, nil
}

// Current implements Hider.
func (s *Store) Current(ctx context.Context, paths []string) ([]storage.HiddenVersion, error) {
	histories, err := s.histories(ctx, paths)
	if err != nil {
		return nil, err
	}
	var current []storage.HiddenVersion
	for path, h := range histories {
		if len(h.versions) > 0 && h.versions[0].latest {
			current = append(current, storage.HiddenVersion{Path: path, Version: h.versions[0].id, Bytes: h.versions[0].bytes})
		}
	}
	return current, nil
}

// HiddenPaths implements Hider.
func (s *Store) HiddenPaths(ctx context.Context, paths []string) ([]string, error) {
	histories, err := s.histories(ctx, paths)
	if err != nil {
		return nil, err
	}
	var hidden []string
	for path, h := range histories {
		if len(h.versions) > 0 && !h.versions[0].latest {
			hidden = append(hidden, path)
		}
	}
	return hidden, nil
}

// Hides implements Hider.
func (s *Store) Hides(ctx context.Context, hidden storage.HiddenVersion) error {
	_, err := s.hiding(ctx, hidden)
	return err
}

// hiding returns the delete markers of a hidden object, the newest first, if the version is its
// latest one. The markers that hide the version are among them.
func (s *Store) hiding(ctx context.Context, hidden storage.HiddenVersion) ([]version, error) {
	histories, err := s.histories(ctx, []string{hidden.Path})
	if err != nil {
		return nil, err
	}
	h := histories[hidden.Path]
	is := func(v version) bool { return v.id == hidden.Version }
	switch {
	case len(h.versions) > 0 && h.versions[0].latest:
		return nil, &fs.PathError{Op: "unhide", Path: hidden.Path, Err: fs.ErrExist}
	case !slices.ContainsFunc(h.versions, is):
		return nil, storage.NotExist("unhide", hidden.Path)
	case !is(h.versions[0]):
		return nil, &fs.PathError{Op: "unhide", Path: hidden.Path, Err: storage.ErrCovered}
	case len(h.markers) == 0 || !h.markers[0].latest:
		return nil, fmt.Errorf("unhide %s: the server does not say what hides it", hidden.Path)
	}
	return h.markers, nil
}

// Unhide implements Hider. A push while intact runs does no harm: it puts a version above the
// delete marker, and the marker then hides nothing.
func (s *Store) Unhide(ctx context.Context, hidden storage.HiddenVersion, intact func() error) error {
	markers, err := s.hiding(ctx, hidden)
	if err == nil {
		err = intact()
	}
	for err == nil {
		marker := objectVersion{*s.key(hidden.Path), markers[0].id}
		if err = s.removeEach(ctx, []objectVersion{marker})[0].Err; err != nil || len(markers) == 1 {
			return err
		}
		// The remaining markers may hide the version too, or be older than the version.
		markers, err = s.hiding(ctx, hidden)
		if errors.Is(err, fs.ErrExist) {
			return nil
		}
	}
	return err
}

// StreamVersion implements Hider.
func (s *Store) StreamVersion(ctx context.Context, hidden storage.HiddenVersion, w io.Writer) error {
	return s.stream(ctx, "s3:GetObjectVersion", hidden.Path, &hidden.Version, w)
}

// Forget implements Forgetter. It lists the versions immediately before it removes them. It
// removes a version before the markers that hide it, so the version never becomes the current one.
// It removes the markers only if the object has no version left, since they may hide versions that
// are kept. Both steps can be repeated: the next call finds the markers that an interrupted call
// has left.
func (s *Store) Forget(ctx context.Context, hidden []storage.HiddenVersion) []storage.Outcome {
	outcomes := make([]storage.Outcome, len(hidden))
	fail := func(err error) []storage.Outcome {
		for i := range outcomes {
			outcomes[i].Err = err
		}
		return outcomes
	}
	paths := make([]string, len(hidden))
	for i := range hidden {
		paths[i] = hidden[i].Path
	}
	histories, err := s.histories(ctx, paths)
	if err != nil {
		return fail(err)
	}
	var places []int // in hidden, of each of garbage
	var garbage []objectVersion
	for i, v := range hidden {
		at := slices.IndexFunc(histories[v.Path].versions, func(is version) bool { return is.id == v.Version })
		if at >= 0 && !histories[v.Path].versions[at].latest {
			places, garbage = append(places, i), append(garbage, objectVersion{*s.key(v.Path), v.Version})
		}
	}
	for n, o := range s.removeEach(ctx, garbage) {
		v := hidden[places[n]]
		if outcomes[places[n]].Err = gone(v.Path, o); outcomes[places[n]].Err != nil {
			continue
		}
		outcomes[places[n]] = storage.Outcome{Versions: 1, VersionBytes: v.Bytes}
		h := histories[v.Path]
		h.versions = slices.DeleteFunc(h.versions, func(is version) bool { return is.id == v.Version })
		histories[v.Path] = h
	}
	places, garbage = places[:0], garbage[:0]
	for i, v := range hidden {
		if h := histories[v.Path]; len(h.versions) == 0 {
			for _, marker := range h.markers {
				places, garbage = append(places, i), append(garbage, objectVersion{*s.key(v.Path), marker.id})
			}
		}
	}
	for n, o := range s.removeEach(ctx, garbage) {
		if o.Err != nil {
			outcomes[places[n]].Err = o.Err
		}
	}
	return outcomes
}

// Erase implements Forgetter.
func (s *Store) Erase(ctx context.Context, prefix string, spared ...string) (count int, bytes int64, err error) {
	input := s.versionsBelow(prefix)
	for more := true; more; {
		var found []version
		var garbage []objectVersion
		more, err = s.versionPage(ctx, input, func(path string, v version) {
			if !slices.Contains(spared, path) {
				found, garbage = append(found, v), append(garbage, objectVersion{*s.key(path), v.id})
			}
		})
		if err != nil {
			return count, bytes, err
		}
		for i, o := range s.removeEach(ctx, garbage) {
			switch {
			case found[i].marker:
				err = errors.Join(err, o.Err)
			case gone(prefix, o) != nil:
				err = errors.Join(err, gone(prefix, o))
			default:
				count++
				bytes += found[i].bytes
			}
		}
		if err != nil {
			return count, bytes, err
		}
	}
	return count, bytes, nil
}

// gone returns an error if a version still exists. A server that ignores the version id of a
// removal only hides the object once more.
func gone(path string, o storage.Outcome) error {
	if o.Err == nil && o.Hidden {
		return fmt.Errorf("remove a version of %s: the server has only hidden it", path)
	}
	return o.Err
}

// removeEach removes versions. It removes a batch with one request. A key that XML can't express
// takes a request of its own.
func (s *Store) removeEach(ctx context.Context, objects []objectVersion) []storage.Outcome {
	outcomes := make([]storage.Outcome, len(objects))
	var places []int
	var bulk []objectVersion
	for i, object := range objects {
		if expressible(object.key) {
			places, bulk = append(places, i), append(bulk, object)
		} else {
			outcomes[i] = s.removeOne(ctx, object)
		}
	}
	for at := 0; at < len(bulk); at += storage.RemoveBatch {
		for n, o := range s.removeVersions(ctx, bulk[at:min(at+storage.RemoveBatch, len(bulk))]) {
			outcomes[places[at+n]] = o
		}
	}
	return outcomes
}
