package cli

import (
	"strings"

	"regsweep/internal/human"
	"regsweep/storage"
)

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
	if near := human.Closest(typed, names); near != "" && near != typed {
		err = storage.Usagef("%w%s", err, human.DidYouMean(near))
	}
	return err
}
