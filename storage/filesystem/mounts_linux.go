package filesystem

import (
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"
)

// mountPoint is a mounted filesystem, or a part of one: what is at root on the device is seen at
// a path.
type mountPoint struct{ device, root, at string }

// checkMounts fails if a directory of the tree has two paths since it is mounted a second time.
// What one of two repositories does not need would be removed although the other needs it. The
// target of a symbolic link is checked by follow; here it counts as a part of the tree.
func (t *tree) checkMounts() error {
	content, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil // without /proc nobody can tell: see "What remains" in docs/safety.md
	}
	fds := []int{t.fd}
	if links := t.links.Load(); links != nil {
		for _, link := range *links {
			fds = append(fds, link.fd)
		}
	}
	var parts []string
	for _, fd := range fds {
		dir, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
		if err != nil {
			return nil
		}
		parts = append(parts, dir)
	}
	return checkMounts(parseMounts(string(content)), parts)
}

// checkMounts checks a tree that consists of some directories and what is mounted in them.
func checkMounts(mounts []mountPoint, parts []string) error {
	var inside []string
	for _, m := range mounts {
		for _, part := range parts {
			if _, isBelow := below(m.at, part); isBelow && m.at != part {
				inside = append(inside, m.at)
				break
			}
		}
	}
	// shows reports whether a path of a part, other than at, leads to the same directory.
	shows := func(part, at string) error {
		whole, what := placeOf(mounts, part), placeOf(mounts, at)
		rest, isBelow := below(what.root, whole.root)
		if whole.device != what.device || !isBelow {
			return nil
		}
		if other := path.Join(part, rest); other != at && placeOf(mounts, other) == what {
			return fmt.Errorf("list repositories: %s and %s are one directory, which is mounted twice: unmount one of them", at, other)
		}
		return nil
	}
	for _, at := range inside {
		for _, part := range append(inside, parts...) {
			if err := shows(part, at); err != nil {
				return err
			}
			if err := shows(at, part); err != nil {
				return err
			}
		}
	}
	return nil
}

// placeOf says what a path leads to. at is left out, since it differs where it is mounted twice.
func placeOf(mounts []mountPoint, name string) (place mountPoint) {
	longest := -1
	for _, m := range mounts {
		if rest, isBelow := below(name, m.at); isBelow && len(m.at) >= longest {
			longest, place = len(m.at), mountPoint{device: m.device, root: path.Join(m.root, rest)}
		}
	}
	return place
}

// below returns the rest of a path that leads to a directory, or to something in it.
func below(name, dir string) (rest string, isBelow bool) {
	rest, isBelow = strings.CutPrefix(name, strings.TrimSuffix(dir, "/"))
	return rest, isBelow && (rest == "" || rest[0] == '/')
}

// parseMounts reads lines of proc_pid_mountinfo(5).
func parseMounts(mountinfo string) (mounts []mountPoint) {
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	for line := range strings.Lines(mountinfo) {
		if fields := strings.Fields(line); len(fields) > 5 {
			mounts = append(mounts, mountPoint{fields[2], unescape.Replace(fields[3]), unescape.Replace(fields[4])})
		}
	}
	return mounts
}
