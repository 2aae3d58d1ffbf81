package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestReadmeShowsWhatIsPrinted: the output of audit, why and graph in README.md is that for the registry that
// the demo keeps, but for the dates and the directory.
func TestReadmeShowsWhatIsPrinted(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it builds the demo")
	}
	temporary := t.TempDir()
	demo := exec.CommandContext(t.Context(), "go", "run", "./demo", "-keep")
	demo.Env = append(os.Environ(), "TMPDIR="+temporary)
	if told, err := demo.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, told)
	}
	kept, err := filepath.Glob(filepath.Join(temporary, "regsweep-demo-*"))
	if err != nil || len(kept) != 1 {
		t.Fatalf("the demo has kept %v, %v", kept, err)
	}
	readme, err := os.ReadFile("README.md")
	must(t, err)
	date := regexp.MustCompile(`\b20\d\d-\d\d-\d\d\b`)
	shown := 0
	for _, block := range regexp.MustCompile(`(?m)^    \$ regsweep ((?:audit|why|graph) .*)\n((?:    .*\n|\n)+)`).FindAllStringSubmatch(string(readme), -1) {
		command := program(t, strings.Fields(block[1])...)
		command.Dir = kept[0]
		output, err := command.Output()
		must(t, err)
		got := strings.TrimSpace(date.ReplaceAllString(strings.ReplaceAll(string(output), kept[0], "/srv"), "DATE"))
		want := strings.TrimSpace(date.ReplaceAllString(regexp.MustCompile(`(?m)^    `).ReplaceAllString(block[2], ""), "DATE"))
		if got != want {
			t.Errorf("%s prints\n%s\nand README.md shows\n%s", block[1], got, want)
		}
		shown++
	}
	if shown != 3 {
		t.Errorf("README.md shows %d of these commands, want 3", shown)
	}
}
