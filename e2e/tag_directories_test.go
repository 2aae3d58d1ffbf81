package e2e

import (
	"encoding/json"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"regsweep/internal/imagetest"
)

// tagDirectories are the directories in those of tags.
func (s *site) tagDirectories() (dirs []string) {
	s.Helper()
	s.must(filepath.WalkDir(s.tree.Path("repositories"), func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && strings.Contains(path, "/_manifests/tags/") {
			_, tag, _ := strings.Cut(path, "/repositories/")
			dirs = append(dirs, tag)
		}
		return err
	}))
	slices.Sort(dirs)
	return dirs
}

// A tag that --roots removes is gone as a whole: a registry lists a tag that is only an empty
// directory. What an older run or a kill has left of a tag is removed too.
func TestARemovedTagLeavesNoDirectory(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	used, stale := app(1, 2), app(1, 3)
	s.push("app:used", used)
	s.push("app:stale", app(1, 4))
	s.push("app:stale", stale)
	s.push("other:stale", stale)
	s.push("other:used", used)
	roots := s.list("app:used", "other:used")
	// An older run has left these.
	s.tree.Mkdir("repositories/app/_manifests/tags/left/current")
	s.tree.Mkdir("repositories/app/_manifests/tags/left/index")
	s.tree.Mkdir("repositories/app/_manifests/tags/cut/index/sha256/" + stale.Digest().Encoded())
	s.tree.Mkdir("repositories/other/_manifests/tags/empty")
	s.must(s.registry.SetReadOnly(true))
	if run := s.gc("--roots", roots); run.code != 0 {
		t.Fatalf("it ends with %d: %s", run.code, run.report.Error)
	}
	hex := used.Digest().Encoded()
	var want []string
	for _, repository := range []string{"app", "other"} {
		for _, dir := range []string{"", "/current", "/index", "/index/sha256", "/index/sha256/" + hex} {
			want = append(want, repository+"/_manifests/tags/used"+dir)
		}
	}
	s.same("the directories of tags", s.tagDirectories(), want)
	for _, repository := range []string{"app", "other"} {
		answer, err := s.ask(repository + "/tags/list")
		s.must(err)
		var listed struct{ Tags []string }
		s.must(json.Unmarshal(answer, &listed))
		s.same("the tags that the registry lists of "+repository, listed.Tags, []string{"used"})
	}
	s.pull("after it", s.client, []image{pulls("app", "used"), pulls("other", "used")})
}

// A tag's directory stays if anything is in it but directories.
func TestATagsDirectoryWithAFileStays(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.push("app:used", app(1, 2))
	s.push("app:stale", app(1, 3))
	damaged := app(1, 4)
	s.push("app:damaged", damaged)
	s.tree.Remove(imagetest.TagPath("app", "damaged"))
	s.tree.Mkdir("repositories/app/_manifests/tags/damaged/current")
	s.tree.Mkdir("repositories/app/_manifests/tags/emptied")
	s.tree.Write("repositories/app/_manifests/tags/stale/note", "somebody's own")
	s.must(s.registry.SetReadOnly(true))
	before := s.tagDirectories()
	if run := s.gc("-m"); run.code != 0 && run.code != 4 {
		t.Fatalf("it ends with %d: %s", run.code, run.report.Error)
	}
	s.same("the directories of tags", s.tagDirectories(), slices.DeleteFunc(before, func(dir string) bool { return strings.HasSuffix(dir, "/emptied") }))
	if run := s.gc("--roots", s.list("app:used", "app@"+damaged.Digest().String())); run.code != 0 && run.code != 4 {
		t.Fatalf("it ends with %d: %s", run.code, run.report.Error)
	}
	if !s.tree.Exists("repositories/app/_manifests/tags/stale/note") || !s.tree.Exists("repositories/app/_manifests/tags/damaged/current") {
		t.Errorf("left: %v", s.tagDirectories())
	}
}
