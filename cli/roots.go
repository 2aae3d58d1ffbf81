package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	"regsweep/internal/human"
	"regsweep/inventory"
	"regsweep/mark"
	"regsweep/storage"

	urfave "github.com/urfave/cli/v2"
)

const (
	rootsName       = "roots"
	keepDigestsName = "keep-digests"
)

// rootFlags returns the flags that name lists of images in use.
func rootFlags() []urfave.Flag {
	return []urfave.Flag{
		&urfave.StringFlag{Name: keepDigestsName, Usage: "keep also what `FILE` names, a repository@digest, repository:tag or digest a line; - is standard input"},
		&urfave.StringFlag{Name: rootsName, Usage: "keep only what `FILE` names, instead of tags and untagged manifests; - is standard input"},
	}
}

// rootLists has the lists of --roots and --keep-digests. A list is nil if its flag was not given.
type rootLists struct {
	roots, keepDigests *mark.RootList
}

// errNoRoots refuses a list if no image of it is stored.
var errNoRoots = errors.New("nothing that it names is stored here: most likely it is the wrong list, or it could not be made")

// errNoLinkedRoots refuses a list if blobs of its images are stored, but no repository links the
// images. A run would remove every tag.
var errNoLinkedRoots = errors.New("blobs of what it names are stored, but no repository that it names links them, so that no image could be pulled afterwards: " +
	"most likely the names of the repositories are wrong")

// hasLinks reports whether any repository links a manifest. In a registry with a metadata database,
// new images have no links.
func hasLinks(inv *inventory.Inventory) bool {
	return slices.ContainsFunc(inv.Repositories, func(r *inventory.Repository) bool { return len(r.Tags)+len(r.Revisions) > 0 })
}

// readRootLists reads the lists before the listing, which may take an hour. plan is the path of apply's
// plan, or "". Only one of these files may be standard input.
func (r *runner) readRootLists(c *urfave.Context, plan string) (lists rootLists, err error) {
	fromInput := 0
	if slices.Contains(standardInput, plan) {
		fromInput++
	}
	for _, name := range []string{rootsName, keepDigestsName, policyName} {
		if slices.Contains(standardInput, c.String(name)) {
			fromInput++
		}
	}
	if c.Bool("password-stdin") {
		fromInput++
	}
	if fromInput > 1 {
		return lists, storage.Usagef("only one of --%s -, --%s -, --%s -, --password-stdin and apply - can read standard input", policyName, rootsName, keepDigestsName)
	}
	if lists.roots, err = r.readRootList(c, rootsName); err == nil {
		lists.keepDigests, err = r.readRootList(c, keepDigestsName)
	}
	return lists, err
}

// readRootList reads the list of one flag. It returns nil if the flag was not given.
func (r *runner) readRootList(c *urfave.Context, name string) (*mark.RootList, error) {
	if !c.IsSet(name) {
		return nil, nil
	}
	path := c.String(name)
	if path == "" {
		return nil, storage.Usagef("--%s: the name of the file is empty", name)
	}
	shown := path
	if slices.Contains(standardInput, path) {
		shown = "standard input"
	}
	var list *mark.RootList
	err := r.readInput(c.Context, path, func(from io.Reader) (err error) {
		list, err = mark.ReadRoots(shown, from)
		return err
	})
	switch {
	case errors.Is(err, ErrInterrupted):
		return nil, err
	case err != nil:
		return nil, storage.Usagef("--%s: %w", name, err)
	}
	return list, nil
}

// checkPlan returns a usage error if the plan was made with a list that is missing now, or without
// --roots that is given now. The contents of the lists may have changed: a removal must be in the plan,
// and garbage according to the current lists.
func (l rootLists) checkPlan(path, planRoots, planKeepDigests string) error {
	switch {
	case planRoots != "" && l.roots == nil:
		return storage.Usagef("%s was made with --%s: give the list as it is now", path, rootsName)
	case planRoots == "" && l.roots != nil:
		return storage.Usagef("--%s: %s was made without it: make the plan with the list", rootsName, path)
	case planKeepDigests != "" && l.keepDigests == nil:
		return storage.Usagef("%s was made with --%s: give the list as it is now", path, keepDigestsName)
	}
	return nil
}

// rootsReport is the part of the report about one list.
type rootsReport struct {
	File      string           `json:"file"`
	Entries   int              `json:"entries"`
	Found     int              `json:"found"`
	NotStored []mark.NotStored `json:"not_stored"`
}

func newRootsReport(list *mark.RootList, found *mark.ListRoots) *rootsReport {
	return &rootsReport{File: list.Name, Entries: len(list.Entries), Found: found.Found, NotStored: append([]mark.NotStored{}, found.NotStored...)}
}

// checksums returns the SHA-256 sums of the lists, "" for a list that was not given.
func (l rootLists) checksums() (roots, keepDigests string) {
	if l.roots != nil {
		roots = l.roots.SHA256
	}
	if l.keepDigests != nil {
		keepDigests = l.keepDigests.SHA256
	}
	return roots, keepDigests
}

// findListRoots finds the manifests of the lists in the inventory. It refuses a list if no image of it is
// stored: with such a list a run would remove everything, or the list would protect nothing.
func (g *gcRun) findListRoots(inv *inventory.Inventory) ([]*mark.ListRoots, error) {
	var all []*mark.ListRoots
	for _, l := range []struct {
		name string
		list *mark.RootList
		to   **rootsReport
	}{{rootsName, g.lists.roots, &g.report.Roots}, {keepDigestsName, g.lists.keepDigests, &g.report.KeepDigests}} {
		if l.list == nil {
			continue
		}
		found := l.list.Find(inv)
		all = append(all, found)
		*l.to = newRootsReport(l.list, found)
		refused := errNoRoots
		if l.name == rootsName && found.Found > 0 {
			refused = errNoLinkedRoots
		}
		isUseless := found.Found == 0 || l.name == rootsName && len(found.NotStored) == len(l.list.Entries) && hasLinks(inv)
		if isUseless && inv.Blobs() > 0 && !g.options.allowEmpty {
			return nil, fmt.Errorf("--%s: %s has %s: %w; if it is right, say so with --allow-empty",
				l.name, l.list.Name, human.Plural(len(l.list.Entries), "entry"), refused)
		}
	}
	return all, nil
}

// shownNotStored is how many entries that are not stored the summary names.
const shownNotStored = 5

// notStoredReasons explains why an entry of a list is not found.
var notStoredReasons = map[string]string{
	mark.RootNoRepository: "there is no such repository",
	mark.RootNoTag:        "there is no such tag",
	mark.RootNoManifest:   "there is no such manifest",
}

// writeNotStored prints the entries of the lists that are not stored.
func writeNotStored(w *bytes.Buffer, lists ...*rootsReport) {
	for _, list := range lists {
		if list == nil || len(list.NotStored) == 0 {
			continue
		}
		fmt.Fprintf(w, "\nNot found: %s of the %s in %s\n", human.Count(len(list.NotStored)), human.Plural(list.Entries, "entry"), human.Printable(list.File))
		for i, entry := range list.NotStored {
			if i == shownNotStored {
				fmt.Fprintf(w, "  and %s more: see --json\n", human.Count(len(list.NotStored)-i))
				break
			}
			kept := ""
			if entry.Kept {
				kept = "; a blob with this digest is stored, and kept"
			}
			fmt.Fprintf(w, "  line %d: %s: %s%s\n", entry.Line, human.Printable(entry.Text), notStoredReasons[entry.Reason], kept)
		}
	}
}
