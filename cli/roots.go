package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
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

// rootFlags name lists of images that are in use.
func rootFlags() []urfave.Flag {
	return []urfave.Flag{
		&urfave.StringFlag{Name: keepDigestsName, Usage: "keep also what `FILE` names, a repository@digest, repository:tag or digest a line; - is standard input"},
		&urfave.StringFlag{Name: rootsName, Usage: "keep only what `FILE` names, instead of tags and untagged manifests; - is standard input"},
	}
}

// rootLists are the lists that a run was given; nil for none.
type rootLists struct {
	roots, keepDigests *mark.RootList
}

// errNoRoots refuses a list if nothing on it is stored.
var errNoRoots = errors.New("nothing that it names is stored here: most likely it is the wrong list, or it could not be made")

// errNoLinkedRoots refuses a list if no repository links what it names. Every tag would be removed.
var errNoLinkedRoots = errors.New("blobs of what it names are stored, but no repository that it names links them, so that no image could be pulled afterwards: " +
	"most likely the names of the repositories are wrong")

// hasLinks reports whether any repository links a manifest. The new images of a registry with a
// metadata database have no links.
func hasLinks(inv *inventory.Inventory) bool {
	return slices.ContainsFunc(inv.Repositories, func(r *inventory.Repository) bool { return len(r.Tags)+len(r.Revisions) > 0 })
}

// readRootLists reads the lists at once, before an hour of listing. The path of apply's plan, if
// there is one, may name standard input as well.
func (r *runner) readRootLists(c *urfave.Context, plan string) (lists rootLists, err error) {
	fromInput := 0
	if slices.Contains(standardInput, plan) {
		fromInput++
	}
	for _, name := range []string{rootsName, keepDigestsName} {
		if slices.Contains(standardInput, c.String(name)) {
			fromInput++
		}
	}
	if c.Bool("password-stdin") {
		fromInput++
	}
	if fromInput > 1 {
		return lists, storage.Usagef("only one of --%s -, --%s -, --password-stdin and apply - can read standard input", rootsName, keepDigestsName)
	}
	if lists.roots, err = r.readRootList(c, rootsName); err == nil {
		lists.keepDigests, err = r.readRootList(c, keepDigestsName)
	}
	return lists, err
}

func (r *runner) readRootList(c *urfave.Context, name string) (*mark.RootList, error) {
	if !c.IsSet(name) {
		return nil, nil
	}
	path := c.String(name)
	if path == "" {
		return nil, storage.Usagef("--%s: the name of the file is empty", name)
	}
	shown, open := path, func() (io.ReadCloser, error) { return os.Open(path) }
	if slices.Contains(standardInput, path) {
		shown, open = "standard input", func() (io.ReadCloser, error) { return io.NopCloser(r.env.In), nil }
	}
	var list *mark.RootList
	_, err := await(c.Context, func() (string, error) { // a pipe may have no writer
		from, err := open()
		if err != nil {
			return "", err
		}
		list, err = mark.ReadRoots(shown, from)
		return "", errors.Join(err, from.Close())
	})
	switch {
	case errors.Is(err, ErrInterrupted):
		return nil, err
	case err != nil:
		return nil, storage.Usagef("--%s: %w", name, err)
	}
	return list, nil
}

// agree refuses lists that a plan was not made with, and a plan without its lists. What they
// say may have changed since: a removal has to be in the plan, and garbage by the lists of now.
func (l rootLists) agree(path, planRoots, planKeepDigests string) error {
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

// rootsReport is what became of a list.
type rootsReport struct {
	File      string           `json:"file"`
	Entries   int              `json:"entries"`
	Found     int              `json:"found"`
	NotStored []mark.NotStored `json:"not_stored"`
}

func (l rootLists) checksums() (roots, keepDigests string) {
	if l.roots != nil {
		roots = l.roots.SHA256
	}
	if l.keepDigests != nil {
		keepDigests = l.keepDigests.SHA256
	}
	return roots, keepDigests
}

// findRoots finds what the lists name. A list is refused if nothing on it is stored: it
// would remove everything, or protect nothing.
func (g *gcRun) findRoots(inv *inventory.Inventory) ([]*mark.Roots, error) {
	var all []*mark.Roots
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
		*l.to = &rootsReport{File: l.list.Name, Entries: len(l.list.Entries), Found: found.Found, NotStored: append([]mark.NotStored{}, found.NotStored...)}
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

var notStoredReasons = map[string]string{
	mark.RootNoRepository: "there is no such repository",
	mark.RootNoTag:        "there is no such tag",
	mark.RootNoManifest:   "there is no such manifest",
}

// writeNotStored prints what lists name and is not stored.
func writeNotStored(w *bytes.Buffer, r *report) {
	for _, list := range []*rootsReport{r.Roots, r.KeepDigests} {
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
