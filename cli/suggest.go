package cli

import (
	"strings"

	"regsweep/storage"

	"github.com/xrash/smetrics"
)

// leastSimilarity is the least Jaro-Winkler similarity, from 0 to 1, of a name that is suggested.
const leastSimilarity = 0.85

// closest returns the name that a mistyped one most likely means: the shortest name that begins
// with it, or else the most similar one. It returns "" if no name is similar.
func closest(typed string, names []string) string {
	longer, best, most := "", "", leastSimilarity
	for _, name := range names {
		if strings.HasPrefix(name, typed) && len(typed) > 1 && (longer == "" || len(name) < len(longer)) {
			longer = name
		}
		s := smetrics.JaroWinkler(typed, name, 0.7, 4)
		if len(typed) == 2 && name == typed[1:]+typed[:1] {
			s = 1 // Jaro-Winkler finds nothing in common between cg and gc
		}
		if s > most {
			best, most = name, s
		}
	}
	if longer != "" {
		return longer
	}
	return best
}

// didYouMean returns the end of an error message that suggests a name. It is "" for no name.
func didYouMean(name string) string {
	if name == "" {
		return ""
	}
	return ", did you mean " + name + "?"
}

// suggest adds to an error the repository or the tag that a mistyped one in an object most likely means.
func (a *analysis) suggest(object string, err error) error {
	name, _, hasDigest := strings.Cut(object, "@")
	typed, names := "", []string{}
	if at := strings.LastIndexByte(name, ':'); at > strings.LastIndexByte(name, '/') {
		name, typed = name[:at], name[at+1:]
	}
	repository, notFound := a.facts.FindRepository(name)
	switch {
	case notFound == nil && !hasDigest:
		for _, tag := range a.facts.Inventory.Repositories[repository].Tags {
			names = append(names, tag.Name)
		}
	case notFound != nil:
		typed = name
		for _, r := range a.facts.Inventory.Repositories {
			names = append(names, r.Name)
		}
	}
	if near := closest(typed, names); near != "" && near != typed {
		err = storage.Usagef("%w%s", err, didYouMean(near))
	}
	return err
}
