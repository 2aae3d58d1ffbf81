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
	// Name is what the user knows the list by.
	Name    string
	Entries []RootEntry
	// SHA256 is of the list as it was read, in hex.
	SHA256 string
}

// RootEntry is one line: repository@digest, repository:tag, or a digest alone.
type RootEntry struct {
	Line int    `json:"line"`
	Text string `json:"entry"`

	repositories []string // what the name may mean: as it is, and without the host name
	tag          string   // "" if there is a digest
	digest       digest.Digest
}

var (
	schemePattern = regexp.MustCompile(`^[a-z][a-z0-9+.-]*://`)
	tagPattern    = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`)
)

// longestRootLine bounds a line, in bytes. An image reference has less than a thousand.
const longestRootLine = 1 << 16

// ReadRoots reads a list. Empty lines and lines that begin with # do not count. Any other line
// that is no entry is an error, which has its number.
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

// parse takes the text apart, or says what is wrong with it.
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
	if hasDigest { // a client that has both takes the digest
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

// Why an entry of a list is not stored as it is named.
const (
	RootNoRepository = "no_repository" // the storage has no repository of that name
	RootNoTag        = "no_tag"        // the repository has no such tag
	RootNoManifest   = "no_manifest"   // no such manifest in the repository or, for a digest alone, in any
)

// NotStored is an entry that is not stored as it is named.
type NotStored struct {
	RootEntry
	Reason string `json:"reason"`
	// Kept is set if there is a blob of that digest, which is kept with all that it reaches.
	Kept bool `json:"kept"`
}

// Listed are the entries of a list that are in an inventory.
type Listed struct {
	NotStored []NotStored
	// Found is how many entries keep something alive.
	Found int

	of       map[int][]vertex // by repository
	unlinked []inventory.ID   // stored, and no repository that was named has a link
}

// Find looks for the entries. A digest alone is a root in every repository that has a link to
// it. A digest that is stored, and that the repository has no link to, is a root all the
// same: a registry may keep its links in a database, and a deletion through the API removes the
// link of a manifest alone. What it reaches is alive in the repository that was named.
func (l *RootList) Find(inv *inventory.Inventory) *Listed {
	f := &Listed{of: map[int][]vertex{}}
	alone := map[inventory.ID]bool{} // whether a manifest link was found for a digest alone
	for _, e := range l.Entries {
		if id, found := inv.Find(e.digest); found && len(e.repositories) == 0 {
			alone[id] = false
		}
	}
	if len(alone) > 0 {
		for i, r := range inv.Repositories {
			f.findAlone(i, r, alone)
		}
	}
	for _, e := range l.Entries {
		reason, kept := f.find(inv, e, alone)
		if reason != "" {
			f.NotStored = append(f.NotStored, NotStored{e, reason, kept})
		}
		if reason == "" || kept {
			f.Found++
		}
	}
	return f
}

// find looks for one entry, in each repository that it may mean.
func (f *Listed) find(inv *inventory.Inventory, e RootEntry, alone map[inventory.ID]bool) (reason string, kept bool) {
	id, isNamed := inv.Find(e.digest)
	isStored := e.tag == "" && isNamed && inv.Stored(id)
	if len(e.repositories) == 0 {
		if isNamed && alone[id] {
			return "", false
		}
		return RootNoManifest, f.keepUnlinked(id, isStored)
	}
	reason = RootNoRepository
	found := false
	for _, name := range e.repositories {
		at, isThere := slices.BinarySearchFunc(inv.Repositories, name, func(r *inventory.Repository, name string) int { return strings.Compare(r.Name, name) })
		if !isThere {
			continue
		}
		r := inv.Repositories[at]
		if e.tag != "" {
			if reason == RootNoRepository {
				reason = RootNoTag
			}
			t, hasTag := slices.BinarySearchFunc(r.Tags, e.tag, func(t inventory.Tag, name string) int { return strings.Compare(t.Name, name) })
			if hasTag {
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
			f.of[at] = append(f.of[at], plain(id))
		}
	}
	if found {
		return "", false
	}
	return reason, f.keepUnlinked(id, isStored)
}

// findAlone looks in one repository for the digests that stand alone.
func (f *Listed) findAlone(at int, r *inventory.Repository, alone map[inventory.ID]bool) {
	note := func(id inventory.ID) {
		if _, isNamed := alone[id]; isNamed {
			alone[id] = true
			f.add(at, id)
		}
	}
	for _, link := range r.Revisions {
		note(link.ID())
	}
	for _, tag := range r.Tags {
		for _, id := range tag.Roots() {
			note(id)
		}
	}
	for _, link := range r.Layers {
		if _, isNamed := alone[link.ID()]; isNamed {
			f.of[at] = append(f.of[at], plain(link.ID()))
		}
	}
}

func pointsAt(r *inventory.Repository, id inventory.ID) bool {
	return slices.ContainsFunc(r.Tags, func(t inventory.Tag) bool { return slices.Contains(t.Roots(), id) })
}

func (f *Listed) add(repository int, id inventory.ID) {
	f.of[repository] = append(f.of[repository], plain(id)|asManifest)
}

func (f *Listed) keepUnlinked(id inventory.ID, isStored bool) (kept bool) {
	if isStored {
		f.unlinked = append(f.unlinked, id)
	}
	return isStored
}

// Linked visits the manifests that a repository has a revision link for, until visit says no.
func (f *Listed) Linked(inv *inventory.Inventory, visit func(repository, digest string) bool) {
	for at, r := range inv.Repositories {
		for _, v := range f.of[at] {
			if v.isManifest() && r.HasRevision(v.id()) && inv.Stored(v.id()) && !visit(r.Name, string(inv.Digest(v.id()))) {
				return
			}
		}
	}
}
