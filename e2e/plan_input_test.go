//go:build unix

package e2e

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A plan that is read from standard input or from a pipe may never end. One signal ends the run.
func TestASignalEndsTheReadingOfAPlan(t *testing.T) {
	t.Parallel()
	for _, command := range [][]string{{"apply"}, {"quarantine", "restore", "--plan"}} {
		for _, from := range []string{"standard input", "a named pipe"} {
			t.Run(command[0]+" "+from, func(t *testing.T) {
				t.Parallel()
				root, _ := garbageTree(t, 3)
				path, fifo := "-", filepath.Join(t.TempDir(), "plan")
				if from == "a named pipe" {
					path = fifo
				}
				program := exec.Command("regsweep", append(command, path, root)...)
				var said strings.Builder
				program.Stderr = &said
				input, err := program.StdinPipe()
				if err := errors.Join(err, syscall.Mkfifo(fifo, 0o600), program.Start()); err != nil {
					t.Fatal(err)
				}
				defer input.Close()
				writer := io.Writer(input)
				if path == fifo {
					file, err := os.OpenFile(fifo, os.O_WRONLY, 0)
					if err != nil {
						t.Fatal(err)
					}
					defer file.Close()
					writer = file
				}
				// More than a pipe holds: once it is written, most of it was read.
				if _, err := writer.Write(make([]byte, 1<<20)); err != nil {
					t.Fatal(err)
				}
				if err := program.Process.Signal(syscall.SIGTERM); err != nil {
					t.Fatal(err)
				}
				var exit *exec.ExitError
				if err := program.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 130 {
					t.Errorf("ends with %v: %s", err, &said)
				}
			})
		}
	}
}
