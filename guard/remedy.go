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
	setReadOnly remedyKind = iota // about config.yml's path, or ""
	restart                       // about config.yml's path
	logIn                         // about a repository
	trustIt
	nameThis // about a URL
	nameAll  // about the URL in http.host, or ""
	sayStopped
)

const readOnlyLines = `storage:
  maintenance:
    readonly:
      enabled: true`

func (r remedy) text() string {
	switch r.kind {
	case setReadOnly:
		where := "in the registry's config.yml"
		if r.about != "" {
			where = "in " + r.about
		}
		return "make the registry read-only: set this " + where + " and restart every replica\n" + readOnlyLines +
			"\n\nor start it with the variable\n\nREGISTRY_STORAGE_MAINTENANCE_READONLY='{enabled: true}'"
	case restart:
		return "restart the registry, so that it reads the readonly setting of " + r.about
	case logIn:
		return "let regsweep in, as a user who may push to " + r.about + ": --username NAME --password-stdin"
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
