package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"regsweep/internal/servertest"
)

// ncduDir is a directory in a file of ncdu: {"name":…} and then its entries.
type ncduDir struct {
	name string
	dirs []ncduDir
	// sizes are the sizes of the files by name, and links their link counts.
	sizes map[string]int64
	links map[string]int
}

func (d *ncduDir) UnmarshalJSON(text []byte) error {
	var entries []json.RawMessage
	if err := json.Unmarshal(text, &entries); err != nil {
		return err
	}
	d.sizes, d.links = map[string]int64{}, map[string]int{}
	for i, entry := range entries {
		if entry[0] == '[' {
			var dir ncduDir
			if err := json.Unmarshal(entry, &dir); err != nil {
				return err
			}
			d.dirs = append(d.dirs, dir)
			continue
		}
		var info struct {
			Name         string
			Asize, Dsize int64
			Ino          int64
			Hlnkc        bool
			Nlink        int
		}
		if err := json.Unmarshal(entry, &info); err != nil {
			return err
		}
		if i == 0 {
			d.name = info.Name
			continue
		}
		if info.Asize != info.Dsize || info.Hlnkc != (info.Nlink > 1) {
			return fmt.Errorf("%s", entry)
		}
		d.sizes[info.Name], d.links[info.Name] = info.Asize, max(info.Nlink, 1)
	}
	return nil
}

// list writes the directories and their files, with the sizes in MiB.
func (d *ncduDir) list(w io.Writer, indent string, names map[string]string) {
	fmt.Fprintf(w, "%s%s\n", indent, d.name)
	var lines []string
	for name, size := range d.sizes {
		if size < mib {
			continue // manifests, configs and links
		}
		line := fmt.Sprintf("%s  %s %d MiB", indent, names[name], size/mib)
		if d.links[name] > 1 {
			line += fmt.Sprintf(", %d links", d.links[name])
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	for _, line := range lines {
		fmt.Fprintln(w, line)
	}
	for i := range d.dirs {
		d.dirs[i].list(w, indent+"  ", names)
	}
}

// ncduSpace is a storage with shared layers, a repository below another, a tag and a repository of the
// same path, untagged content, garbage and an upload.
func ncduSpace(t *testing.T) (s *space, names map[string]string) {
	s, names = newSpace(t), map[string]string{}
	layer := func(name string, size int64) sized {
		names[s.blob(name, size*mib).String()] = name
		return sized{name, size * mib}
	}
	base, tools := layer("base", 100), layer("tools", 50)
	s.image("team", "v1", day, base, layer("team 1", 3))
	s.image("team", "app", day, base, tools)
	s.image("team/app", "v1", day, base, tools, layer("app 1", 7))
	s.image("team/app", "v2", day, base, layer("app 2", 9))
	s.image("team/app", "", day, base, tools, layer("untagged", 20))
	s.image("team-b", "v1", day, tools)
	layer("garbage", 8)
	s.tree.Upload("team/app", "some-upload", time.Now(), make([]byte, 2*mib))
	names["some-upload"] = "some-upload"
	return s, names
}

func TestNcduFileHasEachBlobOnceForEachHolder(t *testing.T) {
	s, names := ncduSpace(t)
	file := filepath.Join(t.TempDir(), "ncdu.json")
	s.audit("--ncdu", file)
	written, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var parts []json.RawMessage
	var root ncduDir
	if err = json.Unmarshal(written, &parts); err == nil {
		err = json.Unmarshal(parts[3], &root)
	}
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	root.list(&got, "", names)
	want := s.tree.Root() + `
  team
    :app
      base 100 MiB, 5 links
      tools 50 MiB, 4 links
    v1
      base 100 MiB, 5 links
      team 1 3 MiB
    app
      v1
        app 1 7 MiB
        base 100 MiB, 5 links
        tools 50 MiB, 4 links
      v2
        app 2 9 MiB
        base 100 MiB, 5 links
      (untagged)
        base 100 MiB, 5 links
        tools 50 MiB, 4 links
        untagged 20 MiB
  team-b
    v1
      tools 50 MiB, 4 links
  (garbage)
    garbage 8 MiB
  (uploads)
    team
      app
        some-upload 2 MiB
  (quarantine)
  (other)
`
	if got.String() != want {
		t.Errorf("got\n%s\nwant\n%s", got.String(), want)
	}
	if piped := s.audit("--ncdu", "-"); withoutTime(piped) != withoutTime(string(written)) {
		t.Errorf("--ncdu - writes\n%s", piped)
	}
}

func withoutTime(text string) string {
	return regexp.MustCompile(`"timestamp":\d+`).ReplaceAllString(text, "")
}

// The real ncdu counts each blob once in each directory.
// TestNcduReadsOddNamesAndTimes: ncdu refuses a file with a control character or a negative time.
func TestNcduReadsOddNamesAndTimes(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath("ncdu")
	if err != nil {
		servertest.Lacks(t, "%v: the Debian package ncdu has it", err)
	}
	s := newSpace(t)
	s.image("odd\x7f\x01\u009b", "del\x7f", time.Since(time.Unix(-1, 0)), sized{"one", mib})
	file := filepath.Join(t.TempDir(), "ncdu.json")
	s.audit("--ncdu", file)
	output, err := exec.CommandContext(t.Context(), program, "-f", file, "-o", "/dev/null").CombinedOutput()
	if err != nil || len(bytes.TrimSpace(output)) > 0 {
		t.Errorf("ncdu says %v: %q", err, output)
	}
}

func TestNcduShowsTheBill(t *testing.T) {
	program, err := exec.LookPath("ncdu")
	if err != nil {
		servertest.Lacks(t, "%v: the Debian package ncdu has it", err)
	}
	s, _ := ncduSpace(t)
	file := filepath.Join(t.TempDir(), "ncdu.json")
	report := decode[struct{ Bytes struct{ Total int64 } }](&fixture{T: t}, s.audit("--json", "--ncdu", file))

	// In a directory around it the whole is an item, whose size ncdu shows in bytes.
	written, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var parts []any
	if err := json.Unmarshal(written, &parts); err != nil {
		t.Fatal(err)
	}
	parts[3] = []any{map[string]string{"name": "/"}, parts[3]}
	wrapped, err := json.Marshal(parts)
	if err == nil {
		err = os.WriteFile(file, wrapped, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), program, "--color", "off", "-f", file)
	command.Env = append(os.Environ(), "TERM=xterm", "LC_ALL=C")
	ncdu, err := startOnTerminal(command, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		keys  string
		shows []string
	}{
		{"", []string{"199.0 MiB"}}, // 100 + 50 + 3 + 7 + 9 + 20 + 8 + 2
		{"i", []string{"(" + dotted(report.Bytes.Total) + " B)"}},
		{"i\r", []string{"189.0 MiB [#", "/team", "50.0 MiB [#", "/team-b", "8.0 MiB [", "/(garbage)", "2.0 MiB [", "/(uploads)"}},
	} {
		if err := ncdu.types(step.keys); err != nil {
			t.Fatal(err)
		}
		for _, text := range step.shows {
			if err := ncdu.waitFor(text); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := ncdu.types("q"); err != nil {
		t.Fatal(err)
	}
	if code, err := ncdu.end(); code != 0 || err != nil {
		t.Errorf("ncdu: exit code %d, %v", code, err)
	}
}

// dotted writes a number as ncdu does, with a dot before each three digits.
func dotted(n int64) string {
	text := strconv.FormatInt(n, 10)
	for at := len(text) - 3; at > 0; at -= 3 {
		text = text[:at] + "." + text[at:]
	}
	return text
}
