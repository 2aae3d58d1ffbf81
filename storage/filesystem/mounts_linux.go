package filesystem

import (
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"
)

// mountPoint is a mounted filesystem, or a part of one: the directory root of the device is mounted
// at the path at.
type mountPoint struct{ device, root, at string }

// checkMounts fails if a directory of the tree has two paths because it is mounted a second time.
// Such a directory would count as two repositories, and a file that one of them does not need would
// be removed although the other needs it. The target of a symbolic link is checked by follow. Here
// it counts as a part of the tree.
func (t *tree) checkMounts() error {
	content, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil // without /proc the mounts are unknown: see "What remains" in docs/safety.md
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

// checkMounts checks a tree that consists of the directories in parts and of the mounts in them.
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
	// checkPart returns an error if another path in a part leads to the same directory as at.
	checkPart := func(part, at string) error {
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
			if err := checkPart(part, at); err != nil {
				return err
			}
			if err := checkPart(at, part); err != nil {
				return err
			}
		}
	}
	return nil
}

// placeOf returns the device and the directory that a path leads to. It leaves the field at empty,
// so that two paths of one directory have equal places.
func placeOf(mounts []mountPoint, name string) (place mountPoint) {
	longest := -1
	for _, m := range mounts {
		if rest, isBelow := below(name, m.at); isBelow && len(m.at) >= longest {
			longest, place = len(m.at), mountPoint{device: m.device, root: path.Join(m.root, rest)}
		}
	}
	return place
}

// below reports whether a path is dir or below dir, and returns the rest of the path.
func below(name, dir string) (rest string, isBelow bool) {
	rest, isBelow = strings.CutPrefix(name, strings.TrimSuffix(dir, "/"))
	return rest, isBelow && (rest == "" || rest[0] == '/')
}

// parseMounts parses lines of proc_pid_mountinfo(5).
func parseMounts(mountinfo string) (mounts []mountPoint) {
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	for line := range strings.Lines(mountinfo) {
		if fields := strings.Fields(line); len(fields) > 5 {
			mounts = append(mounts, mountPoint{fields[2], unescape.Replace(fields[3]), unescape.Replace(fields[4])})
		}
	}
	return mounts
}
