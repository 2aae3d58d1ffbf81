package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"regsweep/internal/servertest"
)

// mount mounts something on a directory until the test ends.
func mount(t *testing.T, source, dir, filesystem string, flags uintptr, options string) {
	t.Helper()
	if err := syscall.Mount(source, dir, filesystem, flags, options); err != nil {
		servertest.Lacks(t, "nothing can be mounted here: %v", err)
	}
	unmountAtEnd(t, dir)
}

func unmountAtEnd(t *testing.T, dir string) {
	t.Cleanup(func() {
		// A storage closes its files when it is garbage collected, and so the mount may be in use.
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// smallDisk mounts a disk in memory.
func smallDisk(t *testing.T, options string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	mount(t, "tmpfs", dir, "tmpfs", 0, options)
	return dir
}

// loopDisk makes a filesystem in a file, and mounts it. mkfs is its command without the file.
func loopDisk(t *testing.T, megabytes int64, mkfs ...string) (dir string) {
	t.Helper()
	if os.Getuid() != 0 {
		servertest.Lacks(t, "only root can mount a disk")
	}
	image := filepath.Join(t.TempDir(), "image")
	if err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, megabytes<<20)); err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	for _, command := range [][]string{append(mkfs, image), {"mount", "-o", "loop", image, dir}} {
		if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			servertest.Lacks(t, "%v: %v: %s", command, err, out)
		}
	}
	unmountAtEnd(t, dir)
	return dir
}
