package spool

import (
	"errors"
	"io"
	"path/filepath"
	"testing"
)

// TestLargeContentIsOnDisk: it is in $TMPDIR, or else where files are not in memory. A file that can't be made or filled
// is an error.
func TestLargeContentIsOnDisk(t *testing.T) {
	write := func(w io.Writer) error { _, err := io.WriteString(w, "content"); return err }
	dir := t.TempDir()
	for set, want := range map[string]string{dir: dir, "": "/var/tmp"} {
		t.Setenv("TMPDIR", set)
		file, err := OnDisk(write)
		if err != nil {
			t.Fatal(err)
		}
		if got := filepath.Dir(file.Name()); got != want {
			t.Errorf("TMPDIR is %q, and the file is in %s", set, got)
		}
		if err := file.Close(); err != nil {
			t.Error(err)
		}
	}
	broken := errors.New("broken")
	if _, err := OnDisk(func(io.Writer) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("it can't be filled: %v", err)
	}
	t.Setenv("TMPDIR", filepath.Join(dir, "absent"))
	if _, err := OnDisk(write); err == nil {
		t.Error("it can't be made")
	}
}
