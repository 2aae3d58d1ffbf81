package verify

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"

	"regsweep/inventory"
	"regsweep/mark"
	"regsweep/storage"
	"regsweep/storage/layout"

	"github.com/opencontainers/go-digest"
)

// Links are the faults of the links that a listing does not verify, by repository of the inventory.
type Links struct {
	of []repositoryLinks
}

// repositoryLinks are faults of links of one repository.
type repositoryLinks struct {
	// layers has the faults of layer links by the digest in their path. Missing means that only
	// the directory of the link exists.
	layers map[inventory.ID]linkFault
	// others are findings about links that no pull reads.
	others []*Finding
	// emptyTags are the names of tags that have a directory and no files. A registry lists them.
	emptyTags []string
}

// linkFault is the fault of a link. names is the digest in the link if that is another one, and well-formed.
type linkFault struct {
	Fault
	names digest.Digest
}

// ReadLinks reads the links of all repositories that the inventory knows only by their names: layer links,
// entries in the indexes of tags, links of signatures and of referrers. onRead, if set, is called with the
// number of newly read links, from several goroutines at once. The error is an error of the storage.
func ReadLinks(ctx context.Context, inv *inventory.Inventory, graph *mark.Graph, reader storage.Reader, concurrency int, onRead func(n int)) (*Links, error) {
	all := &Links{of: make([]repositoryLinks, len(inv.Repositories))}
	err := graph.EachRepository(ctx, func(ctx context.Context, i int) (err error) {
		if all.of[i].emptyTags, err = emptyTags(ctx, inv.Repositories[i], reader); err != nil {
			return err
		}
		toRead := unread(inv, inv.Repositories[i])
		var mu sync.Mutex
		return storage.Each(ctx, len(toRead), concurrency, func(ctx context.Context, at int) error {
			link := &toRead[at]
			fault, err := readLink(ctx, reader, link.path, link.digest)
			if err != nil {
				return err
			}
			if onRead != nil {
				onRead(1)
			}
			if fault != (linkFault{}) {
				mu.Lock()
				defer mu.Unlock()
				all.of[i].add(inv, inv.Repositories[i], link, fault)
			}
			return nil
		})
	})
	return all, err
}

// emptyTags returns the tags that the inventory can't know, since they have no files. Only a filesystem has them.
func emptyTags(ctx context.Context, r *inventory.Repository, reader storage.Reader) (empty []string, err error) {
	dirs, isFilesystem := reader.(storage.DirTimes)
	if !isFilesystem {
		return nil, nil
	}
	tags := path.Dir(path.Dir(path.Dir(layout.TagPath(r.Name, "any"))))
	names, err := dirs.Dirs(ctx, tags)
	for range 2 {
		if errors.Is(err, storage.ErrGone) { // a tag was deleted meanwhile
			names, err = dirs.Dirs(ctx, tags)
		}
	}
	for _, name := range names {
		if !r.HasTag(name) {
			empty = append(empty, name)
		}
	}
	slices.Sort(empty)
	return empty, storage.IgnoreDamage(err)
}

// link is a link that has to be read. Its content should be digest.
type link struct {
	path    string
	digest  digest.Digest
	isLayer bool
}

// unread returns the links whose content is not known yet.
func unread(inv *inventory.Inventory, r *inventory.Repository) (links []link) {
	for _, l := range r.Layers {
		if d := inv.Digest(l.ID()); !l.Verified() && d.Algorithm() == digest.SHA256 { // others were read
			links = append(links, link{layout.LayerPath(r.Name, d), d, true})
		}
	}
	for _, tag := range r.Tags {
		for _, l := range tag.Index {
			if d := inv.Digest(l.ID()); !l.Verified() {
				links = append(links, link{layout.TagIndexPath(r.Name, tag.Name, d), d, false})
			}
		}
	}
	for of, signatures := range r.Signatures {
		for _, id := range signatures {
			d := inv.Digest(id)
			links = append(links, link{layout.SignaturePath(r.Name, inv.Digest(of), d), d, false})
		}
	}
	for of, referrers := range r.Referrers {
		for _, l := range referrers {
			d := inv.Digest(of)
			links = append(links, link{layout.ReferrerPath(r.Name, d, inv.Digest(l.Subject), l.Type), d, false})
		}
	}
	return links
}

func (l *repositoryLinks) add(inv *inventory.Inventory, r *inventory.Repository, of *link, fault linkFault) {
	switch {
	case of.isLayer:
		if l.layers == nil {
			l.layers = map[inventory.ID]linkFault{}
		}
		l.layers[inv.ID(of.digest)] = fault
	case fault.State != Missing: // otherwise only its directory exists
		l.others = append(l.others, &Finding{Kind: DamagedLink, Repository: r.Name, Path: of.path, Digest: of.digest, Detail: fault.Detail})
	}
}

// readLink reads a link, and returns its fault if its content is not exactly the digest.
func readLink(ctx context.Context, reader storage.Reader, path string, want digest.Digest) (linkFault, error) {
	content, err := reader.Read(ctx, path, layout.LinkLimit)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return linkFault{Fault: Fault{Missing, "it does not exist"}}, nil
	case storage.IsDamage(err):
		return linkFault{Fault: Fault{Unreadable, "the link " + reason(err)}}, nil
	case err != nil:
		return linkFault{}, err
	case bytes.Equal(content, []byte(want)):
		return linkFault{}, nil
	}
	target, ok, detail := layout.LinkTarget(content)
	if ok {
		return linkFault{Fault{Wrong, "the link names " + string(target)}, target}, nil
	}
	return linkFault{Fault: Fault{Wrong, "the link " + detail}}, nil
}

// reason returns why an object is damaged, without its path.
func reason(err error) string {
	switch {
	case errors.Is(err, storage.ErrTooLarge):
		return "is too large"
	case errors.Is(err, storage.ErrNotRegular):
		return "is not a regular file, and links are not followed"
	}
	if ofPath := (*fs.PathError)(nil); errors.As(err, &ofPath) {
		err = ofPath.Err
	}
	return "can't be read: " + strings.TrimPrefix(err.Error(), storage.ErrUnreadable.Error()+": ")
}
