package build

import (
	"debug/elf"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"regsweep/internal/servertest"
)

// need ends the test if the programs of Debian packages are not installed.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			servertest.Lacks(t, "%s is not installed: %v", program, err)
		}
	}
}

// only returns the one file that a pattern matches.
func only(t *testing.T, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) != 1 {
		t.Fatalf("%s matches %q: %v", pattern, found, err)
	}
	return found[0]
}

// TestPackagesInstallAndGo installs and removes the deb with dpkg, in a directory of its own. The rpm
// has the same files.
func TestPackagesInstallAndGo(t *testing.T) {
	need(t, "dpkg", "rpm", "mandoc")
	bin := programs(t)
	run(t, nil, "make", "-C", "..", "packages", "BIN="+bin)

	root := t.TempDir()
	for _, name := range []string{"info", "updates", "triggers", "status"} {
		path := filepath.Join(root, "var/lib/dpkg", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if name == "status" {
			if err := os.WriteFile(path, nil, 0o644); err != nil {
				t.Fatal(err)
			}
		} else if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// The scripts do not change their root, as there is no shell in this one. They leave systemd alone.
	dpkg := func(args ...string) {
		t.Helper()
		run(t, nil, "dpkg", append([]string{"--root=" + root, "--log=" + filepath.Join(root, "log"), "--force-script-chrootless", "--force-not-root"}, args...)...)
	}
	dpkg("--install", only(t, filepath.Join(bin, "packages/*_amd64.deb")))

	installed := filesBelow(t, root)
	for path, mode := range map[string]fs.FileMode{
		"usr/bin/regsweep":                                       0o755,
		"etc/regsweep/window.env":                                0o600,
		"usr/lib/systemd/system/regsweep-window.service":         0o644,
		"usr/lib/systemd/system/regsweep-window.timer":           0o644,
		"usr/lib/systemd/system/regsweep-recover.service":        0o644,
		"usr/share/man/man1/regsweep.1.gz":                       0o644,
		"usr/share/man/man1/regsweep-gc.1.gz":                    0o644,
		"usr/share/man/man1/regsweep-quarantine-purge.1.gz":      0o644,
		"usr/share/bash-completion/completions/regsweep":         0o644,
		"usr/share/zsh/vendor-completions/_regsweep":             0o644,
		"usr/share/fish/vendor_completions.d/regsweep.fish":      0o644,
		"usr/share/doc/regsweep/copyright":                       0o644,
		"usr/share/doc/regsweep/examples/compose/compose.yml":    0o644,
		"usr/share/doc/regsweep/examples/monitoring/rules.yml":   0o644,
		"usr/share/doc/regsweep/examples/kubernetes/access.yaml": 0o644,
	} {
		if got, found := installed[path]; !found || got != mode {
			t.Errorf("%s has mode %v, want %v", path, got, mode)
		}
	}
	for path := range installed {
		if strings.Contains(path, ".wants/") {
			t.Errorf("%s: a unit is enabled", path)
		}
	}
	program := filepath.Join(root, "usr/bin/regsweep")
	isStatic(t, program, elf.EM_X86_64)
	if got, want := run(t, nil, program, "--version"), run(t, nil, filepath.Join(bin, "linux-amd64/regsweep"), "--version"); got != want {
		t.Errorf("it is %q, want %q", got, want)
	}
	checkManual(t, program, filepath.Join(root, "usr/share/man/man1"))
	run(t, nil, "bash", "-n", filepath.Join(root, "usr/share/bash-completion/completions/regsweep"))

	settings := filepath.Join(root, "etc/regsweep/window.env")
	if err := os.WriteFile(settings, []byte("TARGET=/srv\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	dpkg("--install", only(t, filepath.Join(bin, "packages/*_amd64.deb")))
	dpkg("--remove", "regsweep")
	if content, err := os.ReadFile(settings); err != nil || string(content) != "TARGET=/srv\n" {
		t.Errorf("the settings did not survive an upgrade and the removal: %q, %v", content, err)
	}
	dpkg("--purge", "regsweep")
	for path := range filesBelow(t, root) {
		if path != "log" && !strings.HasPrefix(path, "var/lib/dpkg/") {
			t.Errorf("%s is left after the purge", path)
		}
	}

	for arch, name := range map[string]string{"amd64": "x86_64", "arm64": "aarch64"} {
		rpm := only(t, filepath.Join(bin, "packages/*."+name+".rpm"))
		if got := run(t, nil, "rpm", "-qp", "--qf", "%{ARCH} %{LICENSE}", rpm); got != name+" Apache-2.0" {
			t.Errorf("%s is for %s", rpm, got)
		}
		files := strings.Split(run(t, nil, "rpm", "-qp", "--qf", "[%{FILEMODES:perms} %{FILEUSERNAME} %{FILEFLAGS:fflags} %{FILENAMES}\n]", rpm), "\n")
		for _, want := range []string{
			"-rwxr-xr-x root  /usr/bin/regsweep",
			"-rw------- root cn /etc/regsweep/window.env", // c: a file of settings, n: an upgrade leaves it alone
			"-rw-r--r-- root l /usr/share/licenses/regsweep/LICENSE",
			"-rw-r--r-- root  /usr/share/zsh/site-functions/_regsweep",
		} {
			if !slices.Contains(files, want) {
				t.Errorf("%s lacks %q:\n%s", rpm, want, strings.Join(files, "\n"))
			}
		}
		for path := range installed {
			if !slices.ContainsFunc(files, func(file string) bool { return strings.HasSuffix(file, " /"+path) }) &&
				!strings.HasPrefix(path, "var/lib/dpkg/") && path != "log" && !strings.Contains(path, "/zsh/") && !strings.HasSuffix(path, "/copyright") {
				t.Errorf("%s lacks %s, which the deb has", rpm, path)
			}
		}
		unpacked := t.TempDir()
		run(t, nil, "dpkg-deb", "-x", only(t, filepath.Join(bin, "packages/*_"+arch+".deb")), unpacked)
		isStatic(t, filepath.Join(unpacked, "usr/bin/regsweep"), map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[arch])
	}
}

// filesBelow returns the mode of each file.
func filesBelow(t *testing.T, root string) map[string]fs.FileMode {
	t.Helper()
	files := map[string]fs.FileMode{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if info.Mode().Perm()&0o111 == 0 {
				t.Errorf("%s is a directory of mode %v", path, info.Mode())
			}
			return nil
		}
		name, err := filepath.Rel(root, path)
		files[name] = info.Mode()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// checkManual fails the test if a manual page is malformed, or lacks a flag or a command that help has.
func checkManual(t *testing.T, program, dir string) {
	t.Helper()
	pages, err := filepath.Glob(filepath.Join(dir, "*.1.gz"))
	if err != nil || len(pages) < 15 {
		t.Fatalf("%d manual pages: %v", len(pages), err)
	}
	for _, page := range pages {
		run(t, nil, "mandoc", "-T", "lint", "-W", "warning", page)
		command := strings.Split(strings.TrimSuffix(filepath.Base(page), ".1.gz"), "-")[1:]
		text := run(t, nil, "mandoc", "-T", "ascii", "-O", "width=1000", page)
		for strings.Contains(text, "\b") { // bold: each letter is printed twice
			i := strings.Index(text, "\b")
			text = text[:i-1] + text[i+1:]
		}
		text = strings.Join(strings.Fields(text), " ")
		_, help, _ := strings.Cut(run(t, nil, program, append([]string{"help"}, command...)...), "\n") // the first line is the name
		for line := range strings.Lines(help) {
			line = strings.TrimSuffix(strings.Join(strings.Fields(line), " "), ":")
			if line = strings.Replace(line, "USAGE", "SYNOPSIS", 1); line == "FLAGS" {
				line = "OPTIONS"
			}
			if !strings.ContainsFunc(line, func(r rune) bool { return r > 126 }) && !strings.Contains(text, line) {
				t.Errorf("%s lacks %q:\n%s", filepath.Base(page), line, text)
			}
		}
	}
}
