package filesystem

import (
	"strings"
	"testing"
)

// TestADirectoryThatIsMountedTwice: a bind mount is no second repository.
func TestADirectoryThatIsMountedTwice(t *testing.T) {
	const system = `22 1 8:1 / / rw - ext4 /dev/sda1 rw
23 22 0:5 / /proc rw - proc proc rw
24 22 8:2 / /disk\0402 rw - ext4 /dev/sdb1 rw
`
	for name, test := range map[string]struct {
		mounts string
		parts  []string
		refuse string // the two paths
	}{
		"nothing is mounted":            {parts: []string{"/srv/v2"}},
		"the root of all":               {parts: []string{"/"}, mounts: "30 22 8:3 /x /repositories/x rw - ext4 /dev/sdc1 rw\n"},
		"blobs on another disk":         {parts: []string{"/srv/v2"}, mounts: "30 22 8:2 /blobs /srv/v2/blobs rw - ext4 /dev/sdb1 rw\n"},
		"a directory mounted on itself": {parts: []string{"/srv/v2"}, mounts: "30 22 8:1 /srv/v2/blobs /srv/v2/blobs rw - ext4 /dev/sda1 rw\n"},
		"the layout mounted elsewhere":  {parts: []string{"/srv/v2"}, mounts: "30 22 8:1 /srv/v2 /backup/v2 rw - ext4 /dev/sda1 rw\n"},
		"beside the layout":             {parts: []string{"/srv/v2"}, mounts: "30 22 8:1 /srv/v2/repositories/a /srv/v2x rw - ext4 /dev/sda1 rw\n"},
		"two directories of a disk":     {parts: []string{"/srv/v2"}, mounts: "30 22 8:2 /a /srv/v2/a rw - ext4 x rw\n31 22 8:2 /ab /srv/v2/ab rw - ext4 x rw\n"},
		"what was there is covered":     {parts: []string{"/srv/v2"}, mounts: "30 22 8:2 / /srv/v2/a rw - ext4 x rw\n31 22 8:1 /srv/v2/a /srv/v2/b rw - ext4 x rw\n"},

		"a repository, a second time":     {parts: []string{"/srv/v2"}, mounts: "30 22 8:1 /srv/v2/a/b /srv/v2/a/c rw - ext4 x rw\n", refuse: "/srv/v2/a/c and /srv/v2/a/b "},
		"a part of a repository":          {parts: []string{"/srv/v2"}, mounts: "30 22 8:1 /srv/v2/a/_layers /srv/v2/b/_layers rw - ext4 x rw\n", refuse: "/srv/v2/b/_layers and /srv/v2/a/_layers "},
		"a directory of another disk":     {parts: []string{"/srv/v2"}, mounts: "30 22 8:2 /a /srv/v2/a rw - ext4 x rw\n31 22 8:2 /a/b /srv/v2/b rw - ext4 x rw\n", refuse: "/srv/v2/b and /srv/v2/a/b "},
		"the same, mounted first":         {parts: []string{"/srv/v2"}, mounts: "31 22 8:2 /a/b /srv/v2/b rw - ext4 x rw\n30 22 8:2 /a /srv/v2/a rw - ext4 x rw\n", refuse: "/srv/v2/b and /srv/v2/a/b "},
		"what is around the layout":       {parts: []string{"/srv/v2"}, mounts: "30 22 8:1 /srv /srv/v2/a rw - ext4 x rw\n", refuse: "/srv/v2 and /srv/v2/a/v2 "},
		"a link into what is mounted":     {parts: []string{"/srv/v2", "/disk 2/a/app"}, mounts: "30 22 8:2 /a /srv/v2/a rw - ext4 x rw\n", refuse: "/disk 2/a/app and /srv/v2/a/app "},
		"a mount in the target of a link": {parts: []string{"/srv/v2", "/disk 2/a"}, mounts: "30 24 8:1 /srv/v2/b /disk\\0402/a/b rw - ext4 x rw\n", refuse: "/disk 2/a/b and /srv/v2/b "},
	} {
		err := checkMounts(parseMounts(system+test.mounts), test.parts)
		switch {
		case (err != nil) != (test.refuse != ""):
			t.Errorf("%s: %v", name, err)
		case err != nil && !strings.Contains(err.Error(), test.refuse):
			t.Errorf("%s: %v, want %s", name, err, test.refuse)
		}
	}
}
