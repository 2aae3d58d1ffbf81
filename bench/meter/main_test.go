package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestASmallChildOfALargeParentIsSmall is why this program exists.
func TestASmallChildOfALargeParentIsSmall(t *testing.T) {
	large := make([]byte, 256<<20)
	for i := 0; i < len(large); i += 4096 {
		large[i] = 1
	}
	meter := filepath.Join(t.TempDir(), "meter")
	if output, err := exec.CommandContext(t.Context(), "go", "build", "-o", meter, ".").CombinedOutput(); err != nil {
		t.Fatalf("%s: %s", err, output)
	}
	got := metered(t, meter, 0, "sleep", "0.05")
	if got.PeakBytes < 1<<20 || got.PeakBytes > 32<<20 {
		t.Errorf("sleep takes %d bytes", got.PeakBytes)
	}
	if got.Seconds < 0.05 || got.CPUSeconds > got.Seconds {
		t.Errorf("sleep 0.05 takes %+v", got)
	}
	metered(t, meter, 3, "sh", "-c", "exit 3")
	if large[0] != 1 {
		t.Error("what was large is gone")
	}
}

func metered(t *testing.T, meter string, code int, argv ...string) reading {
	t.Helper()
	file := filepath.Join(t.TempDir(), "reading.json")
	command := exec.CommandContext(t.Context(), meter, append([]string{file}, argv...)...)
	output, err := command.CombinedOutput()
	if command.ProcessState == nil || command.ProcessState.ExitCode() != code {
		t.Fatalf("%q: %v: %s", argv, err, output)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var got reading
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	return got
}
