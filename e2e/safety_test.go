package e2e

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	namedTest   = regexp.MustCompile("`(Test[A-Za-z0-9]+)`")
	definedTest = regexp.MustCompile(`(?m)^func (Test[A-Za-z0-9]+)\(`)
)

// TestSafetyNamesItsTests fails if the docs name a test that does not exist.
func TestSafetyNamesItsTests(t *testing.T) {
	defined := map[string]bool{}
	var pages []byte // docs/safety.md, and all other docs
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		isPage := strings.HasSuffix(path, ".md")
		if err != nil || entry.IsDir() || !isPage && !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		if isPage {
			pages = append(append(pages, source...), '\n')
		}
		for _, found := range definedTest.FindAllSubmatch(source, -1) {
			defined[string(found[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named := namedTest.FindAllSubmatch(pages, -1)
	if len(named) < 50 {
		t.Errorf("they name only %d tests", len(named))
	}
	for _, found := range named {
		if name := string(found[1]); !defined[name] {
			t.Errorf("there is no %s", name)
		}
	}
}
