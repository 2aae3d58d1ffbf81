package mark

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"regsweep/storage"

	"github.com/opencontainers/go-digest"
)

// manifestLimit is the largest manifest that is read, in bytes. Registries refuse
// to take one above 4 MiB (registry/handlers/manifests.go of Distribution).
const manifestLimit = 8 << 20

// largeManifest is a size, in bytes, that hardly any manifest has.
const largeManifest = 1 << 20

// reading reads manifests, each by itself. It may be used concurrently.
type reading struct {
	inv    *storage.Inventory // what it knows of digests is all that is asked of it
	reader storage.Reader
	// large has room for each large manifest that is taken apart. That takes several
	// times its size, and many are read at once.
	large chan struct{}
}

// largeAtOnce is how many large manifests are taken apart at once.
const largeAtOnce = 2

// roomForLarge makes what reading.large is.
func roomForLarge() chan struct{} { return make(chan struct{}, largeAtOnce) }

// found is a manifest that was read and what is stored of what it names: manifests, and
// what may be some though nothing says so.
type found struct {
	id                storage.ID
	node              *node
	children, perhaps []storage.ID
	unlisted          bool // it is there, and the listing of blobs lacks it
}

// read reads one manifest and verifies that it is what its digest says. Its error is
// the storage's: damage is a property of the node.
func (r reading) read(ctx context.Context, id storage.ID) (found, error) {
	content, lost, err := r.verified(ctx, id)
	if err != nil || lost != nil {
		return found{id: id, node: lost}, err
	}
	r.inv.Declare(id, int64(len(content)))
	if len(content) > largeManifest {
		select {
		case r.large <- struct{}{}:
		case <-ctx.Done():
			return found{}, ctx.Err()
		}
		defer func() { <-r.large }()
	}
	f := r.takeApart(content)
	f.id, f.unlisted = id, !r.inv.Stored(id)
	return f, nil
}

// verified reads what has the digest, or says with lost why there is nothing of the kind.
func (r reading) verified(ctx context.Context, id storage.ID) (content []byte, lost *node, err error) {
	damage := func(format string, args ...any) *node {
		return &node{state: damaged, detail: fmt.Sprintf(format, args...)}
	}
	d := r.inv.Digest(id)
	if !r.inv.Stored(id) && d.Validate() != nil {
		// A digest that can't be verified can't be trusted either.
		return nil, damage("its digest is of an unknown algorithm"), nil
	}
	content, err = r.reader.Read(ctx, storage.BlobPath(d), manifestLimit)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !r.wasSeen(id):
		lost, err = r.missing(ctx, id)
		return nil, lost, err
	case errors.Is(err, fs.ErrNotExist):
		return nil, damage("its blob was listed but can't be found"), nil
	case errors.Is(err, storage.ErrTooLarge):
		return nil, damage("it is larger than %d MiB", manifestLimit>>20), nil
	case errors.Is(err, storage.ErrNotRegular):
		return nil, damage("it is not a regular file"), nil
	case err != nil:
		return nil, nil, fmt.Errorf("read manifest %s: %w", d, err)
	case len(content) == 0:
		return nil, damage("it is empty"), nil
	case !matches(d, content):
		return nil, damage("its content does not match its digest"), nil
	}
	return content, nil, nil
}

// takeApart makes a node of a manifest's content.
func (r reading) takeApart(content []byte) found {
	parsed, err := References(content)
	if err != nil {
		return found{node: &node{state: damaged, detail: err.Error()}}
	}
	n := &node{kind: parsed.Kind, edges: make([]vertex, len(parsed.References))}
	if parsed.Kind == Unknown {
		n.detail = fmt.Sprintf("its type is not known (%.80q): all digests in it are taken as references", parsed.MediaType)
	}
	if parsed.Subject != "" {
		n.hasSubject, n.subject = true, r.inv.ID(parsed.Subject)
	}
	f := found{node: n}
	named := make([]digest.Digest, len(parsed.References))
	for i, reference := range parsed.References {
		named[i] = reference.Digest
	}
	ids := r.inv.IDs(named)
	for i, reference := range parsed.References {
		to := ids[i]
		n.edges[i] = plain(to)
		r.inv.Declare(to, reference.Size)
		switch {
		case !r.inv.Stored(to):
		case reference.IsManifest():
			n.edges[i] |= asManifest
			f.children = append(f.children, to)
		case parsed.Kind == Unknown, parsed.Kind == Index && reference.MayBeManifest():
			if n.perhaps == nil {
				n.perhaps = map[storage.ID]bool{}
			}
			n.perhaps[to] = true
			f.perhaps = append(f.perhaps, to)
		}
	}
	return f
}

// wasSeen reports whether the scan saw the blob itself. On a filesystem it only saw the
// blob's directory, which may be empty.
func (r reading) wasSeen(id storage.ID) bool {
	_, exact := r.inv.Size(id)
	return exact
}

// missing is a manifest that a read did not find, and the scan has not seen. Where the scan
// has seen the directory of its blob, one more look has to agree: of a manifest that is
// missing nothing is kept.
func (r reading) missing(ctx context.Context, id storage.ID) (*node, error) {
	gone := &node{state: missing, detail: "its blob is missing"}
	if !r.inv.Stored(id) {
		return gone, nil
	}
	isThere, err := looksAgain(ctx, r.reader, storage.BlobPath(r.inv.Digest(id)))
	if err != nil {
		return nil, err
	}
	if !isThere {
		return gone, nil
	}
	return &node{state: damaged, detail: "its blob is there but was not found when it was read"}, nil
}

// looksAgain reports whether what a read did not find is there after all: a storage that
// fails in passing may say "not found" as well.
func looksAgain(ctx context.Context, reader storage.Reader, path string) (isThere bool, err error) {
	_, err = reader.Stat(ctx, path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil && !errors.Is(err, storage.ErrNotRegular):
		return false, fmt.Errorf("look again: %w", err)
	}
	return true, nil
}

// matches reports whether content is what the digest says.
func matches(d digest.Digest, content []byte) bool {
	if want, found := strings.CutPrefix(string(d), "sha256:"); found {
		sum := sha256.Sum256(content) // the usual way, without go-digest's allocations
		var text [2 * sha256.Size]byte
		hex.Encode(text[:], sum[:])
		return string(text[:]) == want
	}
	return d.Algorithm().FromBytes(content) == d
}
