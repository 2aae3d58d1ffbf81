package audit

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"regsweep/inventory"
	"regsweep/storage"

	"github.com/opencontainers/go-digest"
)

// AmbiguousError is returned by Find if a short digest has several meanings.
type AmbiguousError struct {
	Short      string
	Candidates []digest.Digest // sorted; at most mostCandidates
	More       int             // candidates that are not in Candidates
}

// Error implements error.
func (e *AmbiguousError) Error() string {
	names := make([]string, len(e.Candidates))
	for i, d := range e.Candidates {
		names[i] = string(d)
	}
	text := fmt.Sprintf("%s is ambiguous: it may be %s", e.Short, strings.Join(names, " or "))
	if e.More > 0 {
		text += fmt.Sprintf(", or one of %d more", e.More)
	}
	return text
}

// mostCandidates is the number of candidates in an AmbiguousError.
const mostCandidates = 10

// digestPattern matches a digest, or the beginning of one.
var digestPattern = regexp.MustCompile(`^(?:(sha256|sha384|sha512):)?([0-9a-f]*)$`)

// leastHex is the number of hex digits that a short digest must have.
const leastHex = 4

// IsObject returns a usage error if a text is no DIGEST, REPO:TAG or REPO@DIGEST.
func IsObject(text string) error {
	_, of, hasDigest := strings.Cut(text, "@")
	if !hasDigest {
		if repository, _ := splitTag(text); repository != "" && !digestPattern.MatchString(text) {
			return nil
		}
		of = text
	}
	switch parts := digestPattern.FindStringSubmatch(of); {
	case parts == nil:
		return storage.Usagef("want a digest, REPO:TAG or REPO@DIGEST, not %q", text)
	case len(parts[2]) < leastHex:
		return storage.Usagef("%q: a digest needs at least %d hex digits", text, leastHex)
	}
	return nil
}

// splitTag splits REPO:TAG. repository is "" if the text has another form.
func splitTag(text string) (repository, tag string) {
	if at := strings.LastIndexByte(text, ':'); at > strings.LastIndexByte(text, '/') && at < len(text)-1 {
		return text[:max(at, 0)], text[at+1:]
	}
	return "", ""
}

// Find returns the digest that a text means: a digest or the beginning of one, REPO:TAG, or REPO@DIGEST. It
// returns a usage error if there is no such digest.
func (f Facts) Find(text string) (inventory.ID, error) {
	if err := IsObject(text); err != nil {
		return 0, err
	}
	if name, short, hasDigest := strings.Cut(text, "@"); hasDigest {
		i, err := f.FindRepository(name)
		if repository, _ := splitTag(name); err != nil && repository != "" { // with both, clients use the digest
			i, err = f.FindRepository(repository)
		}
		if err != nil {
			return 0, err
		}
		among := append([]inventory.ID{}, f.Graph.View(i).Named()...) // not nil, which means all digests
		return f.choose(short, among, "in "+f.Inventory.Repositories[i].Name)
	}
	if digestPattern.MatchString(text) {
		return f.choose(text, nil, "here")
	}
	name, tag := splitTag(text)
	i, err := f.FindRepository(name)
	if err != nil {
		return 0, err
	}
	at, err := f.FindTag(i, tag)
	if err != nil {
		return 0, err
	}
	if found := f.Inventory.Repositories[i].Tags[at]; found.HasTarget {
		return found.Target, nil
	}
	return 0, storage.Usagef("%s points to no manifest: its current link is missing or damaged", text)
}

// FindRepository returns the index of a repository. The name may begin with the host name of a registry.
func (f Facts) FindRepository(name string) (int, error) {
	if i, found := f.Inventory.FindRepository(name); found {
		return i, nil
	}
	if host, rest, found := strings.Cut(name, "/"); found && (strings.ContainsAny(host, ".:") || host == "localhost") {
		if i, found := f.Inventory.FindRepository(rest); found {
			return i, nil
		}
	}
	return 0, storage.Usagef("there is no repository %q", name)
}

// FindTag returns the index of a tag of a repository.
func (f Facts) FindTag(repository int, tag string) (int, error) {
	r := f.Inventory.Repositories[repository]
	if at, found := r.FindTag(tag); found {
		return at, nil
	}
	return 0, storage.Usagef("%s has no tag %q", r.Name, tag)
}

// choose returns the only digest that a short digest means among some digests, or among all digests if
// among is nil. Without an algorithm it may have any. Stored blobs come before digests that only links or
// manifests name. where is for the error.
func (f Facts) choose(short string, among []inventory.ID, where string) (inventory.ID, error) {
	if among == nil {
		for id := range inventory.ID(f.Inventory.Digests()) {
			among = append(among, id)
		}
	}
	var stored, others []inventory.ID
	for _, id := range among {
		of := string(f.Inventory.Digest(id))
		_, hex, _ := strings.Cut(of, ":")
		switch {
		case !strings.HasPrefix(of, short) && !strings.HasPrefix(hex, short):
		case f.Inventory.Listed(id):
			stored = append(stored, id)
		default:
			others = append(others, id)
		}
	}
	found := stored
	if len(found) == 0 {
		found = others
	}
	slices.SortFunc(found, f.compareDigests)
	found = slices.Compact(found)
	switch len(found) {
	case 0:
		return 0, storage.Usagef("%s is neither stored nor named %s", short, where)
	case 1:
		return f.content(found[0]), nil
	}
	ambiguous := &AmbiguousError{Short: short, More: max(0, len(found)-mostCandidates)}
	for _, id := range found[:min(mostCandidates, len(found))] {
		ambiguous.Candidates = append(ambiguous.Candidates, f.Inventory.Digest(id))
	}
	return 0, storage.Usagef("%w", ambiguous)
}

// content returns the digest under which the content of a digest is stored: another one for sha512, if a
// layer link says so.
func (f Facts) content(id inventory.ID) inventory.ID {
	if f.Inventory.Listed(id) || strings.HasPrefix(string(f.Inventory.Digest(id)), "sha256:") {
		return id
	}
	for _, r := range f.Inventory.Repositories {
		if to, found := r.Aliases[id]; found {
			return to
		}
	}
	return id
}

// findTagged returns the index of a repository that a text names and of its tag, or allTags for REPO.
func (f Facts) findTagged(text string) (repository, tag int, err error) {
	repository, err = f.FindRepository(text)
	name, ofTag := splitTag(text)
	if err == nil || name == "" {
		return repository, allTags, err
	}
	if repository, err = f.FindRepository(name); err != nil {
		return 0, 0, err
	}
	tag, err = f.FindTag(repository, ofTag)
	return repository, tag, err
}
