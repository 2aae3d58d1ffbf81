// Package release says which version a program is, as the Go command wrote it into the program.
package release

import (
	"debug/buildinfo"
	"fmt"
	"time"
)

// Release is the version of a program and the commit that it was built from. All of it is from the
// program itself, so an image or a package says the same as regsweep --version.
type Release struct {
	Version  string // such as v1.2.3; "(devel)" if the program was not built in a git checkout
	Revision string // "" in that case
	Time     time.Time
}

// Of reads the release of the program in a file.
func Of(program string) (Release, error) {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return Release{}, fmt.Errorf("read the version of %s: %w", program, err)
	}
	r := Release{Version: info.Main.Version, Time: time.Unix(0, 0).UTC()}
	for _, setting := range info.Settings {
		switch setting.Key {
		case "vcs.revision":
			r.Revision = setting.Value
		case "vcs.time":
			if r.Time, err = time.Parse(time.RFC3339, setting.Value); err != nil {
				return Release{}, fmt.Errorf("read the version of %s: %w", program, err)
			}
		}
	}
	return r, nil
}
