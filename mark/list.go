package mark

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"regsweep/inventory"
	"regsweep/storage/layout"

	"github.com/opencontainers/go-digest"
)

// RootList is a list of images that are in use, from another source than the storage.
type RootList struct {
	// Name is the name of the list in messages, such as its file name.
	Name    string
	Entries []RootEntry
	// SHA256 is the checksum of the list as it was read, in hex.
	SHA256 string
}

// RootEntry is one line of a list: repository@digest, repository:tag, or a bare digest.
type RootEntry struct {
	Line int    `json:"line"`
	Text string `json:"entry"`

	repositories []string // the name as it is, and without a host name; none for a bare digest
	tag          string   // "" if the entry has a digest
	digest       digest.Digest
}

var (
	schemePattern = regexp.MustCompile(`^[a-z][a-z0-9+.-]*://`)
	tagPattern    = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`)
)

// longestRootLine is the maximum length of a line in bytes. An image reference has less than a thousand.
const longestRootLine = 1 << 16

// ReadRoots reads a list. It skips empty lines and lines that begin with #. For any other line that is
// not a valid entry it returns an error with the number of the line.
func ReadRoots(name string, from io.Reader) (*RootList, error) {
	list, sum := &RootList{Name: name}, sha256.New()
	lines := bufio.NewScanner(io.TeeReader(from, sum))
	lines.Buffer(nil, longestRootLine)
	n := 0
	for lines.Scan() {
		n++
		text := lines.Text()
		if n == 1 {
			text = strings.TrimPrefix(text, "\ufeff")
		}
		text = strings.TrimSpace(text)
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		entry := RootEntry{Line: n, Text: text}
		if problem := entry.parse(); problem != "" {
			return nil, fmt.Errorf("%s: line %d: %s: %.200q", name, n, problem, text)
		}
		list.Entries = append(list.Entries, entry)
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return nil, fmt.Errorf("%s: line %d: it is too long for an image reference", name, n+1)
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	list.SHA256 = hex.EncodeToString(sum.Sum(nil))
	return list, nil
}

// parse parses Text, and returns its problem, "" if it has none.
func (e *RootEntry) parse() (problem string) {
	text := schemePattern.ReplaceAllString(e.Text, "") // as in docker-pullable://app@sha256:…
	if alg, _, found := strings.Cut(text, ":"); found && digest.Algorithm(alg).Available() {
		e.digest = digest.Digest(text)
		if e.digest.Validate() != nil {
			return "it must be a complete digest: sha256: and 64 lower-case hex digits, for example"
		}
		return ""
	}
	name, of, hasDigest := strings.Cut(text, "@")
	if at := strings.LastIndexByte(name, ':'); at > strings.LastIndexByte(name, '/') {
		name, e.tag = name[:at], name[at+1:]
		if !tagPattern.MatchString(e.tag) {
			return "its tag is not valid"
		}
	}
	if hasDigest { // with both, clients use the digest
		e.tag, e.digest = "", digest.Digest(of)
		if e.digest.Validate() != nil {
			return "its digest must be complete: sha256: and 64 lower-case hex digits, for example"
		}
	}
	if !hasDigest && e.tag == "" {
		return "it has neither a tag nor a digest"
	}
	if layout.ValidRepository(name) {
		e.repositories = append(e.repositories, name)
	}
	host, rest, _ := strings.Cut(name, "/")
	if isHost := strings.ContainsAny(host, ".:") && host[0] != '.' || host == "localhost"; isHost && layout.ValidRepository(rest) {
		e.repositories = append(e.repositories, rest)
	}
	if len(e.repositories) == 0 {
		return "its repository name is not valid"
	}
	return ""
}

// The reasons why an entry of a list is not stored.
const (
	RootNoRepository = "no_repository" // the storage has no repository of that name
	RootNoTag        = "no_tag"        // the repository has no such tag
	RootNoManifest   = "no_manifest"   // no such manifest in the repository or, for a bare digest, in any
)

// NotStored is an entry that the storage does not have under its name.
type NotStored struct {
	RootEntry
	Reason string `json:"reason"`
	// Kept is set if a blob with the digest is stored. It is kept with all that it reaches.
	Kept bool `json:"kept"`
}

// ListRoots has the roots that a list names in an inventory.
type ListRoots struct {
	NotStored []NotStored
	// Found is the number of entries that keep something alive.
	Found int

	roots    map[int][]vertex // by repository
	unlinked []inventory.ID   // stored digests to which no named repository has a link
}

// Find returns the roots that the entries name. A bare digest is a root in every repository that has a
// link to it. A stored digest is also a root in a repository that has no link to it: a registry may
// keep its links in a database, and a deletion through the API removes only the link of a manifest.
// All that it reaches is alive in the named repository.
func (l *RootList) Find(inv *inventory.Inventory) *ListRoots {
	f := &ListRoots{roots: map[int][]vertex{}}
	bare := map[inventory.ID]bool{} // bare digests; true if a link to it as a manifest was found
	for _, e := range l.Entries {
		if id, found := inv.Find(e.digest); found && len(e.repositories) == 0 {
			bare[id] = false
		}
	}
	if len(bare) > 0 {
		for i, r := range inv.Repositories {
			f.findBare(i, r, bare)
		}
	}
	for _, e := range l.Entries {
		reason, kept := f.find(inv, e, bare)
		if reason != "" {
			f.NotStored = append(f.NotStored, NotStored{e, reason, kept})
		}
		if reason == "" || kept {
			f.Found++
		}
	}
	slices.Sort(f.unlinked)
	return f
}

// find adds the roots of one entry, in each repository that its name may mean. reason is "" if there is
// one. kept is NotStored.Kept.
func (f *ListRoots) find(inv *inventory.Inventory, e RootEntry, bare map[inventory.ID]bool) (reason string, kept bool) {
	id, isNamed := inv.Find(e.digest)
	isStored := e.tag == "" && isNamed && inv.Stored(id)
	if len(e.repositories) == 0 {
		if isNamed && bare[id] {
			return "", false
		}
		return RootNoManifest, f.keepUnlinked(id, isStored)
	}
	reason = RootNoRepository
	found := false
	for _, name := range e.repositories {
		at, exists := inv.FindRepository(name)
		if !exists {
			continue
		}
		r := inv.Repositories[at]
		if e.tag != "" {
			if reason == RootNoRepository {
				reason = RootNoTag
			}
			if t, hasTag := r.FindTag(e.tag); hasTag {
				found = true
				for _, id := range r.Tags[t].Roots() {
					f.add(at, id)
				}
			}
			continue
		}
		reason = RootNoManifest
		if isNamed && (r.HasRevision(id) || pointsAt(r, id)) {
			found = true
			f.add(at, id)
		} else if isNamed && (r.HasLayer(id) || inv.Stored(id)) {
			f.roots[at] = append(f.roots[at], plain(id))
		}
	}
	if found {
		return "", false
	}
	return reason, f.keepUnlinked(id, isStored)
}

// findBare adds the bare digests that one repository has links to.
func (f *ListRoots) findBare(at int, r *inventory.Repository, bare map[inventory.ID]bool) {
	addManifest := func(id inventory.ID) {
		if _, isNamed := bare[id]; isNamed {
			bare[id] = true
			f.add(at, id)
		}
	}
	for _, link := range r.Revisions {
		addManifest(link.ID())
	}
	for _, tag := range r.Tags {
		for _, id := range tag.Roots() {
			addManifest(id)
		}
	}
	for _, link := range r.Layers {
		if _, isNamed := bare[link.ID()]; isNamed {
			f.roots[at] = append(f.roots[at], plain(link.ID()))
		}
	}
}

func pointsAt(r *inventory.Repository, id inventory.ID) bool {
	return slices.ContainsFunc(r.Tags, func(t inventory.Tag) bool { return slices.Contains(t.Roots(), id) })
}

func (f *ListRoots) add(repository int, id inventory.ID) {
	f.roots[repository] = append(f.roots[repository], plain(id)|asManifest)
}

func (f *ListRoots) keepUnlinked(id inventory.ID, isStored bool) (kept bool) {
	if isStored {
		f.unlinked = append(f.unlinked, id)
	}
	return isStored
}

// Has returns a function that reports whether the list names a digest in a repository.
func (f *ListRoots) Has(repository int) func(inventory.ID) bool {
	named := map[inventory.ID]bool{}
	for _, v := range f.roots[repository] {
		named[v.id()] = true
	}
	return func(id inventory.ID) bool {
		_, isUnlinked := slices.BinarySearch(f.unlinked, id)
		return isUnlinked || named[id]
	}
}

// Linked visits the stored manifests of the list to which a repository has a revision link, until visit
// returns false.
func (f *ListRoots) Linked(inv *inventory.Inventory, visit func(repository, digest string) bool) {
	for at, r := range inv.Repositories {
		for _, v := range f.roots[at] {
			if v.isManifest() && r.HasRevision(v.id()) && inv.Stored(v.id()) && !visit(r.Name, string(inv.Digest(v.id()))) {
				return
			}
		}
	}
}
