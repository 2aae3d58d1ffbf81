package guard

import (
	"cmp"
	"slices"
)

// remedy is something that the user can do after a refusal. about is its argument.
type remedy struct {
	kind  remedyKind
	about string
}

type remedyKind int

// The remedies, in the order in which they are reported.
const (
	giveRoots remedyKind = iota
	giveKeepDigests
	setReadOnly // about config.yml's path, or ""
	restart     // about config.yml's path
	logIn       // about a repository
	trustIt
	tokenOverTLS
	nameThis // about a URL
	nameAll  // about the URL in http.host, or ""
	wait     // about a time
	stopIt   // about an address
	removeState
	readIt // about a path in the storage
	sayStopped
)

const readOnlyLines = `storage:
  maintenance:
    readonly:
      enabled: true`

func (r remedy) text() string {
	switch r.kind {
	case giveRoots:
		return "let the database say what is alive: --roots FILE, with a line for each image (repository@digest, repository:tag or a digest)"
	case giveKeepDigests:
		return "say which digests Harbor's database needs: --keep-digests FILE (or --roots FILE), or run without --delete-untagged (-m)"
	case setReadOnly:
		where := "the registry's config.yml"
		if r.about != "" {
			where = r.about
		}
		return "make the registry read-only: start every replica again with the variable\n\n" +
			"REGISTRY_STORAGE_MAINTENANCE_READONLY='{enabled: true}'\n\n" +
			"or after a change of " + where + ": merge these lines into the section storage (a second storage or maintenance makes the file invalid)\n\n" + readOnlyLines
	case restart:
		return "restart the registry, so that it reads the readonly setting of " + r.about
	case logIn:
		return "let regsweep in, as a user who may push to " + r.about + ": --username NAME with --password-file FILE or --password-stdin, or docker login for the same host and port"
	case trustIt:
		return "trust the registry's certificate: --registry-cacert FILE (or, for any certificate, --registry-insecure)"
	case tokenOverTLS:
		return "let the registry name its token server with https:// (auth.token.realm in its config.yml), or with the host that --registry has"
	case nameThis:
		return "name the address itself: --registry " + r.about
	case nameAll:
		example := "https://registry.example.com"
		if r.about != "" {
			example = r.about
		}
		return "name the registry's own address, once for each replica: --registry " + example
	case wait:
		return "wait, and run it again after " + r.about + ", if nobody pushes until then"
	case stopIt:
		return "stop the registry at " + r.about
	case removeState:
		return "if the storage is no longer that of a pull-through cache, remove " + r.about + " from it"
	case readIt:
		return "let regsweep read " + r.about + " in the storage"
	case sayStopped:
		return "stop the registry, every replica of it, and say so: --registry-stopped"
	}
	return ""
}

// texts returns the texts of steps, with the steps that have one remedy first. If a step contains all
// remedies of another step, it is left out: the other step does for both. all are the texts of all
// remedies in the steps, each once.
func texts(steps [][]remedy) (inSteps [][]string, all []string) {
	byKind := func(a, b remedy) int { return int(a.kind - b.kind) }
	for i := range steps {
		slices.SortStableFunc(steps[i], byKind)
		steps[i] = slices.Compact(steps[i])
	}
	slices.SortStableFunc(steps, func(a, b []remedy) int {
		return cmp.Or(cmp.Compare(len(a), len(b)), slices.CompareFunc(a, b, byKind))
	})
	var left [][]remedy
	var remedies []remedy
	for _, step := range steps {
		doesForBoth := func(other []remedy) bool {
			return !slices.ContainsFunc(other, func(r remedy) bool { return !slices.Contains(step, r) })
		}
		if len(step) == 0 || slices.ContainsFunc(left, doesForBoth) {
			continue
		}
		left, remedies = append(left, step), append(remedies, step...)
		words := make([]string, len(step))
		for i, r := range step {
			words[i] = r.text()
		}
		inSteps = append(inSteps, words)
	}
	slices.SortStableFunc(remedies, byKind)
	all = []string{}
	for _, r := range remedies {
		if text := r.text(); !slices.Contains(all, text) {
			all = append(all, text)
		}
	}
	return inSteps, all
}
