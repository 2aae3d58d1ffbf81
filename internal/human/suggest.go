package human

import (
	"strings"

	"github.com/xrash/smetrics"
)

// leastSimilarity is the least Jaro-Winkler similarity, from 0 to 1, of a name that is suggested.
const leastSimilarity = 0.85

// Closest returns the name that a mistyped one most likely means: the shortest name that begins
// with it, or else the most similar one. It returns "" if no name is similar.
func Closest(typed string, names []string) string {
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

// DidYouMean returns the end of an error message that suggests a name. It is "" for no name.
func DidYouMean(name string) string {
	if name == "" {
		return ""
	}
	return ", did you mean " + name + "?"
}
