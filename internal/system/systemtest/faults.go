//go:build linux

// Package systemtest fails system calls below a directory, for tests.
package systemtest

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"regsweep/internal/system"

	"golang.org/x/sys/unix"
)

var (
	mu    sync.RWMutex
	roots = map[string]func(op, path string) error{}
)

// FailBelow has f called before each system call that package system makes at root or below it, until
// the test ends or stop is called. path is relative to root. An error of f is the call's.
func FailBelow(t testing.TB, root string, f func(op, path string) error) (stop func()) {
	t.Helper()
	root, err := filepath.EvalSymlinks(root)
	if err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	roots[root] = f
	system.SetFault(dispatch)
	stop = sync.OnceFunc(func() {
		mu.Lock()
		defer mu.Unlock()
		if delete(roots, root); len(roots) == 0 {
			system.SetFault(nil)
		}
	})
	t.Cleanup(stop)
	return stop
}

func dispatch(call system.Call) error {
	path := pathOf(call)
	mu.RLock()
	var f func(op, path string) error
	below := ""
	for root, its := range roots {
		if rest, found := strings.CutPrefix(path, root); found && (rest == "" || rest[0] == '/') {
			f, below = its, strings.TrimPrefix(rest, "/")
		}
	}
	mu.RUnlock()
	if f == nil {
		return nil
	}
	return f(call.Op, below)
}

// pathOf is the path that a call is about, as the kernel knows it.
func pathOf(call system.Call) string {
	dir := ""
	if call.Dir != unix.AT_FDCWD {
		link, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(call.Dir))
		if err != nil {
			return ""
		}
		dir = strings.TrimSuffix(link, " (deleted)")
	}
	if call.Name == "" {
		return dir
	}
	return filepath.Join(dir, call.Name)
}
