package guard

import "slices"

// remedy is a way out of a refusal, with what it is about.
type remedy struct {
	kind  remedyKind
	about string
}

type remedyKind int

// In the order in which they are offered.
const (
	giveRoots remedyKind = iota
	giveKeepDigests
	setReadOnly // about config.yml's path, or ""
	restart     // about config.yml's path
	logIn       // about a repository
	trustIt
	nameThis // about a URL
	nameAll  // about the URL in http.host, or ""
	wait     // about a time
	stopIt   // about an address
	removeState
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
		return "let regsweep in, as a user who may push to " + r.about + ": --username NAME with --password-file FILE or --password-stdin, or docker login"
	case trustIt:
		return "trust the registry's certificate: --registry-cacert FILE (or, for any certificate, --registry-insecure)"
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
		return "stop the registry at " + r.about + "; if it is another registry, let the target be the storage itself instead of config.yml"
	case removeState:
		return "if the storage is no longer that of a pull-through cache, remove " + r.about + " from it"
	case sayStopped:
		return "stop the registry, every replica of it, and say so: --registry-stopped"
	}
	return ""
}

// texts orders the remedies and drops what is said twice.
func texts(remedies []remedy) []string {
	slices.SortStableFunc(remedies, func(a, b remedy) int { return int(a.kind - b.kind) })
	found := []string{}
	for _, r := range remedies {
		if text := r.text(); !slices.Contains(found, text) {
			found = append(found, text)
		}
	}
	return found
}
