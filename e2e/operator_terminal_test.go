package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"regsweep/internal/imagetest"
	"regsweep/internal/registrytest"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// session is a program on a terminal of its own.
type session struct {
	*exec.Cmd
	master *os.File
	read   chan error

	mu     sync.Mutex
	screen bytes.Buffer // everything that the terminal was sent
}

// startOnTerminal starts a program whose controlling terminal has so many columns. What
// the command leaves open of standard input, output and error is that terminal.
func startOnTerminal(command *exec.Cmd, columns uint16) (*session, error) {
	master, terminal, err := pty.Open()
	if err != nil {
		return nil, err
	}
	defer terminal.Close()
	if err := pty.Setsize(master, &pty.Winsize{Rows: 50, Cols: columns}); err != nil {
		return nil, errors.Join(err, master.Close())
	}
	// Setsize has made it a file whose Close waits for a Read.
	again, err := unix.FcntlInt(master.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err := errors.Join(err, master.Close()); err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(again, true); err != nil {
		return nil, errors.Join(err, unix.Close(again))
	}
	master = os.NewFile(uintptr(again), "terminal")
	if command.Stdin == nil {
		command.Stdin = terminal
	}
	if command.Stdout == nil {
		command.Stdout = terminal
	}
	if command.Stderr == nil {
		command.Stderr = terminal
	}
	command.ExtraFiles = []*os.File{terminal} // descriptor 3
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 3}
	s := &session{Cmd: command, master: master, read: make(chan error, 1)}
	if err := command.Start(); err != nil {
		return nil, errors.Join(err, master.Close())
	}
	go func() {
		buffer := make([]byte, 4096)
		for {
			n, err := master.Read(buffer)
			s.mu.Lock()
			s.screen.Write(buffer[:n])
			s.mu.Unlock()
			if err != nil { // EIO, once nobody has the terminal open
				s.read <- err
				return
			}
		}
	}()
	return s, nil
}

func (s *session) shows() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.ReplaceAll(s.screen.String(), "\r\n", "\n")
}

// waitFor waits until the screen has a text.
func (s *session) waitFor(text string) error {
	for deadline := time.Now().Add(time.Minute); !strings.Contains(s.shows(), text); time.Sleep(time.Millisecond) {
		select {
		case err := <-s.read:
			s.read <- err
			if strings.Contains(s.shows(), text) {
				return nil
			}
			return fmt.Errorf("it has ended without %q: %q", text, s.shows())
		default:
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("there is no %q: %q", text, s.shows())
		}
	}
	return nil
}

func (s *session) types(keys string) error {
	_, err := io.WriteString(s.master, keys)
	return err
}

// end waits for the program and returns its exit code.
func (s *session) end() (int, error) {
	err := s.Wait()
	closeErr := error(nil)
	if s.master != nil {
		<-s.read
		closeErr = s.master.Close()
	}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return exit.ExitCode(), closeErr
	}
	return 0, errors.Join(err, closeErr)
}

// leaveTerminal takes the terminal that the tests were started from away from this process
// and its children: they must not ask there.
func leaveTerminal() {
	terminal, err := unix.Open("/dev/tty", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return // there is none
	}
	if err := errors.Join(unix.IoctlSetInt(terminal, unix.TIOCNOTTY, 0), unix.Close(terminal)); err != nil {
		fmt.Fprintln(os.Stderr, "leave the terminal:", err)
		os.Exit(1)
	}
}

// treeWithGarbage is a storage with one image and one blob that nothing reaches.
func treeWithGarbage(t *testing.T) (tree *imagetest.Tree, garbage string) {
	tree = imagetest.NewTree(t, t.TempDir())
	tree.Tag("team/app", "v1", tree.Manifest("team/app", imagetest.Image(imagetest.OCI, imagetest.Layer(1, 0))))
	return tree, imagetest.BlobPath(tree.Blob([]byte("what a crash left")))
}

// question is what a run on treeWithGarbage asks.
const question = "\nRemove 1 blob, 17 B? [y/N] "

// program is this test binary as regsweep.
func program(t *testing.T, args ...string) *exec.Cmd {
	command := exec.CommandContext(t.Context(), "regsweep", args...)
	command.Dir = t.TempDir()
	return command
}

func mustStart(t *testing.T, command *exec.Cmd) *session {
	t.Helper()
	s, err := startOnTerminal(command, 80)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// must ends the test on the first error.
func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// A terminal is asked whatever standard input is: a password or another program's output
// is no answer.
func TestTheTerminalIsAskedWhateverStandardInputIs(t *testing.T) {
	pipe := func(t *testing.T, content string) *os.File {
		reader, writer, err := os.Pipe()
		must(t, err)
		_, err = io.WriteString(writer, content)
		must(t, err, writer.Close())
		return reader
	}
	file := func(t *testing.T, content string) *os.File {
		name := filepath.Join(t.TempDir(), "file")
		must(t, os.WriteFile(name, []byte(content), 0o600))
		opened, err := os.Open(name)
		must(t, err)
		return opened
	}
	for _, test := range []struct {
		name  string
		stdin func(*testing.T, string) *os.File
		in    string
		flags []string
	}{
		{"a pipe", pipe, "n\n", nil},
		{"a pipe that says yes", pipe, "y\ny\ny\n", nil},
		{"a file", file, "yes\n", nil},
		{"an empty file", file, "", nil},
		{"a password", file, "secret\ny\n", []string{"--username", "ops", "--password-stdin"}},
		{"the terminal", nil, "", nil},
	} {
		answers := map[string]int{"y\r": 0, "n\r": 130}
		if test.stdin == nil {
			answers = map[string]int{"y\r": 0, "\r": 130, "yess\r": 130, "\x04": 130, "y\x04\x04": 130, "\x03": 130}
		}
		for answer, want := range answers {
			t.Run(fmt.Sprintf("%s, answer %q", test.name, answer), func(t *testing.T) {
				t.Parallel()
				tree, garbage := treeWithGarbage(t)
				command := program(t, append([]string{"gc", "--registry-stopped", tree.Root()}, test.flags...)...)
				if test.stdin != nil {
					stdin := test.stdin(t, test.in)
					defer stdin.Close()
					command.Stdin = stdin
				}
				s := mustStart(t, command)
				must(t, s.waitFor(question))
				if !tree.Exists(garbage) {
					t.Error("it does not wait for the answer")
				}
				must(t, s.types(answer))
				code, err := s.end()
				must(t, err)
				if removed := !tree.Exists(garbage); code != want || removed != (want == 0) {
					t.Errorf("exit code %d, removed: %t: %s", code, removed, s.shows())
				}
				if tree.Exists(".regsweep/lock") {
					t.Error("it leaves its lock")
				}
			})
		}
	}
}

// What was typed before the question was shown does not answer it. The registry does not
// answer before the keys were typed, so that the run can't have asked yet.
func TestAnAnswerBeforeTheQuestionIsDropped(t *testing.T) {
	for _, early := range []string{"y\r", "y", "y\ry\ry\r"} {
		t.Run(fmt.Sprintf("%q", early), func(t *testing.T) {
			t.Parallel()
			tree, garbage := treeWithGarbage(t)
			tree.Age("", time.Hour) // or a push is seen before the question
			begun, answer, asked := make(chan struct{}), make(chan struct{}), sync.Once{}
			registry := registrytest.StartT(t, registrytest.Config{Root: tree.Root(), ReadOnly: true, Wrap: func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					asked.Do(func() { close(begun) })
					<-answer
					next.ServeHTTP(w, r)
				})
			}})
			s := mustStart(t, program(t, "gc", "--registry", registry.URL(), tree.Root()))
			<-begun
			must(t, s.types(early), s.waitFor("y")) // it is in the terminal's queue once it is echoed
			close(answer)
			must(t, s.waitFor(question), s.types("\r"))
			code, err := s.end()
			must(t, err)
			if code != 130 || !tree.Exists(garbage) {
				t.Errorf("exit code %d: %s", code, s.shows())
			}
		})
	}
}

// The terminal goes away while the run waits for an answer.
func TestATerminalThatGoesAwayIsNoAnswer(t *testing.T) {
	t.Parallel()
	tree, garbage := treeWithGarbage(t)
	s := mustStart(t, program(t, "gc", "--registry-stopped", tree.Root()))
	must(t, s.waitFor(question), s.master.Close())
	s.master = nil
	code, err := s.end()
	must(t, err)
	if code != 130 || !tree.Exists(garbage) {
		t.Errorf("exit code %d: %s", code, s.shows())
	}
	if tree.Exists(".regsweep/lock") {
		t.Error("it leaves its lock")
	}
}

// With --yes a terminal is not asked, and neither is anybody for a dry run.
func TestWhatNeedsNoAnswerIsNotAsked(t *testing.T) {
	t.Parallel()
	for flag, removes := range map[string]bool{"--yes": true, "--dry-run": false} {
		tree, garbage := treeWithGarbage(t)
		s := mustStart(t, program(t, "gc", "--registry-stopped", flag, tree.Root()))
		code, err := s.end()
		must(t, err)
		if code != 0 || strings.Contains(s.shows(), "[y/N]") || tree.Exists(garbage) == removes {
			t.Errorf("%s: exit code %d: %s", flag, code, s.shows())
		}
	}
}

// Without a terminal, as from cron, the command line is the answer.
func TestWithoutATerminalNobodyIsAsked(t *testing.T) {
	t.Parallel()
	tree, garbage := treeWithGarbage(t)
	command := program(t, "gc", "--registry-stopped", tree.Root())
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	command.Stdin = strings.NewReader("n\n")
	if output, err := command.CombinedOutput(); err != nil || tree.Exists(garbage) {
		t.Errorf("%v: %s", err, output)
	}
}

// A process in the background would be stopped when it asks. It says so at once.
func TestInTheBackgroundTheRunDoesNotBegin(t *testing.T) {
	t.Parallel()
	tree, garbage := treeWithGarbage(t)
	command := exec.CommandContext(t.Context(), "bash", "-mc", "regsweep gc --registry-stopped "+tree.Root()+" & wait %1")
	command.Dir = t.TempDir()
	s := mustStart(t, command)
	must(t, s.waitFor("regsweep: it runs in the background, where it can't ask"))
	code, err := s.end()
	must(t, err)
	if code != 2 || !tree.Exists(garbage) {
		t.Errorf("exit code %d: %s", code, s.shows())
	}
}

// What is printed on a terminal fits it, and is broken between words. A single word may be
// longer.
func TestOutputFitsTheTerminal(t *testing.T) {
	t.Parallel()
	tree := imagetest.NewTree(t, t.TempDir())
	const long = "platform/infrastructure/observability/grafana-dashboards"
	for i, repository := range []string{"x", "team/app", long} {
		n := uint64(10 * i)
		tree.Tag(repository, "v1", tree.Manifest(repository, imagetest.Image(imagetest.OCI, imagetest.Layer(n+1, 0))))
		tree.Manifest(repository, imagetest.Image(imagetest.OCI, imagetest.Layer(n+2, 0)))
	}
	tree.Write("repositories/"+long+"/_manifests/tags/broken/current/link", "")
	tree.Write("blobs/notes.txt", "hello")
	tree.Blob([]byte("what a crash left"))
	plan := t.TempDir() + "/plan.jsonl"
	if err := program(t, "gc", "-dqm", "--plan", plan, tree.Root()).Run(); err == nil {
		t.Fatal("there is no problem")
	}
	for _, args := range [][]string{
		{"gc", "-d", tree.Root()}, {"gc", "-dm", tree.Root()}, {"apply", "-d", plan, tree.Root()},
		{"gc", "-m", "--registry-stopped", "--quarantine", "--yes", tree.Root()}, {"quarantine", "list", tree.Root()},
		{"check", tree.Root()}, {"gc", tree.Root()}, {"gc", "-d", t.TempDir()}, {"gc", "-d", "--plan", plan, plan},
		{"audit", tree.Root()}, {"help"}, {"gc", "--help"}, {"apply", "--help"}, {"quarantine", "restore", "--help"},
	} {
		for _, columns := range []uint16{200, 80, 50, 0} {
			command := program(t, args...)
			if columns == 0 {
				command.Env = append(os.Environ(), "COLUMNS=60") // for a terminal that does not tell
			}
			s, err := startOnTerminal(command, columns)
			must(t, err)
			if columns == 0 {
				columns = 60
			}
			_, err = s.end()
			must(t, err)
			shown := s.shows()
			for line := range strings.Lines(shown) {
				// On a slow machine the progress is written several times on one line.
				for part := range strings.SplitSeq(strings.TrimRight(line, "\n"), "\r\x1b[K") {
					if utf8.RuneCountInString(part) > int(columns) && strings.Contains(strings.TrimSpace(part), " ") {
						t.Errorf("%s, %d columns: %q", args, columns, part)
					}
				}
			}
		}
	}
}
