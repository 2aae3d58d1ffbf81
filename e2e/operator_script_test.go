package e2e

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"regsweep/cli"
	"regsweep/guard"
	"regsweep/internal/imagetest"
	"regsweep/internal/registrytest"
	"regsweep/quarantine"
	"regsweep/storage/config"
	"regsweep/storage/open"

	"github.com/rogpeppe/go-internal/testscript"
)

// mainProgram is the main function of main.go.
func mainProgram() { os.Exit(cli.Main(cli.Process())) }

// TestMain makes this test binary the program too: scripts run it as regsweep. Go starts the tests in
// e2e. TestMain changes to the root of the project, because tests read files in deploy and docs.
func TestMain(m *testing.M) {
	if strings.HasSuffix(os.Args[0], ".test") { // and not as a program, which a test may have given a terminal
		if err := os.Chdir(".."); err != nil {
			panic(err)
		}
		leaveTerminal()
	}
	testscript.Main(m, map[string]func(){"regsweep": mainProgram, "regsweep-hasty": hasty, "regsweep-patient": patient})
}

// TestScripts runs testdata/script, which tells a reader what the command line does.
// Beside testscript's own commands there are these:
//
//	registry start NAME       a writable registry on the directory NAME, which may be
//	                          there; $NAME is its URL, and NAME.yml its config.yml
//	registry readonly NAME    or writable, or stop: NAME.yml says so as well
//	push NAME REPO:TAG N...   an image of the layers N, each of some 2 KiB
//	[!] pull NAME REPO TAG... pull whole images, checking every byte
//	delete NAME REPO TAG      through the registry's API
//	tree DIR blob TEXT        store a blob that nothing reaches
//	tree DIR write PATH TEXT  write a file below docker/registry/v2
//	tree DIR upload REPO ID AGE
//	tree DIR age AGE      all that is there was written so long ago
//	blobs DIR N               there are N blobs
//	snapshot DIR; unchanged DIR
//	newest DIR                $RUN is the newest run in its quarantine
//	lock DIR                  another run holds the lock, and lives
//	exits CODE COMMAND...     run it, and look at the exit code
//	terminal ANSWER CODE COMMAND...
//	                          on a terminal of 80 columns, with ANSWER typed once it asks
//	                          ("" is none); what it shows is the file "screen"
//	json FILE KEY VALUE       FILE is one JSON document and has it, as in .garbage.blobs.count 2
//
// With -short it runs some of them: a program with the race detector takes longer to start than to do
// what a script asks for.
func TestScripts(t *testing.T) {
	scripts, err := filepath.Glob("e2e/testdata/script/*.txtar")
	must(t, err)
	var files []string
	for k, file := range scripts {
		if isTried(k, 4) {
			files = append(files, file)
		}
	}
	testscript.Run(t, testscript.Params{
		Files:              files,
		RequireUniqueNames: true,
		Setup: func(env *testscript.Env) error {
			for key := range registryVariables() {
				env.Setenv(key, "")
			}
			s := &script{t: env.T().(testing.TB), registries: map[string]*registrytest.Registry{}, snapshots: map[string]map[string]string{}}
			env.Values[scriptKey{}] = s
			env.Defer(func() {
				for name, registry := range s.registries {
					if err := registry.Stop(); err != nil {
						s.t.Errorf("stop %s: %v", name, err)
					}
				}
			})
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"registry":  command((*script).registry),
			"push":      command((*script).push),
			"pull":      pull,
			"delete":    command((*script).delete),
			"tree":      command((*script).tree),
			"blobs":     command((*script).blobs),
			"snapshot":  command((*script).snapshot),
			"unchanged": command((*script).unchanged),
			"newest":    command((*script).newest),
			"lock":      command((*script).lock),
			"exits":     command((*script).exits),
			"terminal":  command((*script).terminal),
			"json":      command((*script).json),
		},
	})
}

// registryVariables are the environment's that a config.yml would be overridden by.
func registryVariables() map[string]string {
	found := map[string]string{}
	for _, pair := range os.Environ() {
		if key, value, _ := strings.Cut(pair, "="); strings.HasPrefix(key, "REGISTRY_") {
			found[key] = value
		}
	}
	return found
}

type scriptKey struct{}

// script is what one script has made so far.
type script struct {
	t          testing.TB
	registries map[string]*registrytest.Registry
	snapshots  map[string]map[string]string
}

// command is a script's command that must succeed.
func command(run func(s *script, ts *testscript.TestScript, args []string) error) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg {
			ts.Fatalf("! has no meaning here")
		}
		ts.Check(run(ts.Value(scriptKey{}).(*script), ts, args))
	}
}

func (s *script) registry(ts *testscript.TestScript, args []string) error {
	if len(args) != 2 {
		return errors.New("usage: registry start|readonly|writable|stop NAME")
	}
	action, name := args[0], args[1]
	root := ts.MkAbs(name)
	if action == "start" {
		if err := os.MkdirAll(root, 0o755); err != nil {
			return err
		}
		registry, err := registrytest.Start(context.Background(), registrytest.Config{Root: root})
		if err != nil {
			return err
		}
		s.registries[name] = registry
		ts.Setenv(name, registry.URL())
		return os.WriteFile(ts.MkAbs(name+".yml"), []byte(registry.ConfigYAML()), 0o644)
	}
	registry, found := s.registries[name]
	if !found {
		return fmt.Errorf("%s was not started", name)
	}
	switch action {
	case "readonly", "writable":
		if err := registry.SetReadOnly(action == "readonly"); err != nil {
			return err
		}
		return os.WriteFile(ts.MkAbs(name+".yml"), []byte(registry.ConfigYAML()), 0o644)
	case "stop":
		delete(s.registries, name)
		return registry.Stop()
	}
	return fmt.Errorf("%s: unknown", action)
}

func (s *script) client(name string) (*registrytest.Client, error) {
	registry, found := s.registries[name]
	if !found {
		return nil, fmt.Errorf("%s was not started", name)
	}
	return registry.Client(), nil
}

func (s *script) push(_ *testscript.TestScript, args []string) error {
	if len(args) < 3 {
		return errors.New("usage: push NAME REPO:TAG N...")
	}
	client, err := s.client(args[0])
	if err != nil {
		return err
	}
	var layers []imagetest.Blob
	for _, arg := range args[2:] {
		seed, err := strconv.ParseUint(arg, 10, 64)
		if err != nil {
			return err
		}
		layers = append(layers, imagetest.Layer(seed, 0))
	}
	return client.Push(context.Background(), args[1], imagetest.Image(imagetest.OCI, layers...))
}

func (s *script) delete(_ *testscript.TestScript, args []string) error {
	if len(args) != 3 {
		return errors.New("usage: delete NAME REPO TAG")
	}
	client, err := s.client(args[0])
	if err != nil {
		return err
	}
	return client.Delete(context.Background(), args[1], args[2])
}

// pull is the one command that may be expected to fail.
func pull(ts *testscript.TestScript, neg bool, args []string) {
	s := ts.Value(scriptKey{}).(*script)
	if len(args) < 3 {
		ts.Fatalf("usage: pull NAME REPO TAG...")
	}
	client, err := s.client(args[0])
	ts.Check(err)
	err = client.PullAll(context.Background(), args[1], args[2:]...)
	if neg && err == nil {
		ts.Fatalf("%s pulls", args[1:])
	}
	if !neg {
		ts.Check(err)
	}
}

func (s *script) tree(ts *testscript.TestScript, args []string) error {
	const usage = "usage: tree DIR blob TEXT | write PATH TEXT | upload REPO ID AGE"
	if len(args) < 3 {
		return errors.New(usage)
	}
	tree := imagetest.NewTree(s.t, ts.MkAbs(args[0]))
	switch args = args[1:]; {
	case args[0] == "blob" && len(args) == 2:
		tree.Blob([]byte(args[1]))
	case args[0] == "write" && len(args) == 3:
		tree.Write(args[1], args[2])
	case args[0] == "upload" && len(args) == 4:
		age, err := time.ParseDuration(args[3])
		if err != nil {
			return err
		}
		tree.Upload(args[1], args[2], time.Now().Add(-age), []byte("half a layer"))
	case args[0] == "age" && len(args) == 2:
		age, err := time.ParseDuration(args[1])
		if err != nil {
			return err
		}
		tree.Age("", age)
	default:
		return errors.New(usage)
	}
	return nil
}

func (s *script) blobs(ts *testscript.TestScript, args []string) error {
	if len(args) != 2 {
		return errors.New("usage: blobs DIR N")
	}
	files, _, err := blobsIn(ts.MkAbs(args[0]))
	if err == nil && strconv.Itoa(files) != args[1] {
		err = fmt.Errorf("there are %d blobs, and not %s", files, args[1])
	}
	return err
}

// blobsIn counts the blobs below a root directory, and their bytes.
func blobsIn(root string) (files int, bytes int64, err error) {
	err = filepath.WalkDir(filepath.Join(root, layoutRoot, "blobs"), func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.Name() != "data" {
			return ignoreAbsence(err)
		}
		info, err := entry.Info()
		if err != nil {
			return ignoreAbsence(err)
		}
		files++
		bytes += info.Size()
		return nil
	})
	return files, bytes, err
}

// ignoreAbsence is for walking a tree from which another process removes.
func ignoreAbsence(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (s *script) snapshot(ts *testscript.TestScript, args []string) error {
	snapshot, err := imagetest.Snapshot(ts.MkAbs(args[0]))
	s.snapshots[args[0]] = snapshot
	return err
}

func (s *script) unchanged(ts *testscript.TestScript, args []string) error {
	before, found := s.snapshots[args[0]]
	if !found {
		return errors.New("no snapshot to compare with")
	}
	now, err := imagetest.Snapshot(ts.MkAbs(args[0]))
	if err == nil && !maps.Equal(before, now) {
		err = fmt.Errorf("%d files have become %d, or others", len(before), len(now))
	}
	return err
}

func (s *script) newest(ts *testscript.TestScript, args []string) error {
	if len(args) != 1 {
		return errors.New("usage: newest DIR")
	}
	runs, err := os.ReadDir(filepath.Join(ts.MkAbs(args[0]), layoutRoot, quarantine.Dir))
	if err == nil && len(runs) == 0 {
		err = errors.New("there is none")
	}
	if err == nil {
		ts.Setenv("RUN", runs[len(runs)-1].Name())
	}
	return err
}

func (s *script) lock(ts *testscript.TestScript, args []string) error {
	config, err := config.ParseTarget(ts.MkAbs(args[0]), ts.Getenv)
	if err != nil {
		return err
	}
	store, err := open.Store(context.Background(), config)
	if err != nil {
		return err
	}
	_, held, err := guard.Lock(context.Background(), store, guard.LockOptions{
		Host: "elsewhere", PID: 7, User: "somebody", Command: "regsweep gc",
		Now: time.Now, Random: rand.Reader, Refresh: 100 * time.Millisecond,
	})
	if err == nil {
		ts.Defer(func() {
			if err := held.Release(context.Background()); err != nil {
				s.t.Errorf("release the lock: %v", err)
			}
		})
	}
	return err
}

func (s *script) exits(ts *testscript.TestScript, args []string) error {
	if len(args) < 2 {
		return errors.New("usage: exits CODE COMMAND...")
	}
	code := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit := (*exec.ExitError)(nil)
		if !errors.As(err, &exit) {
			return err
		}
		code = exit.ExitCode()
	}
	if strconv.Itoa(code) != args[0] {
		return fmt.Errorf("it exits with %d, and not with %s", code, args[0])
	}
	return nil
}

func (s *script) terminal(ts *testscript.TestScript, args []string) error {
	if len(args) < 3 {
		return errors.New("usage: terminal ANSWER CODE COMMAND...")
	}
	command := exec.Command(args[2], args[3:]...)
	command.Dir = ts.MkAbs(".")
	command.Env = append(os.Environ(), "HOME="+ts.Getenv("HOME"), "WORK="+ts.Getenv("WORK"))
	command.Stdout, command.Stderr = ts.Stdout(), ts.Stderr()
	session, err := startOnTerminal(command, 80)
	if err != nil {
		return err
	}
	if args[0] != "" {
		if err := session.waitFor("[y/N] "); err != nil {
			return err
		}
		if err := session.types(strings.ReplaceAll(args[0], "\\r", "\r")); err != nil {
			return err
		}
	}
	code, err := session.end()
	if err != nil {
		return err
	}
	if err := os.WriteFile(ts.MkAbs("screen"), []byte(session.shows()), 0o600); err != nil {
		return err
	}
	if strconv.Itoa(code) != args[1] {
		return fmt.Errorf("it exits with %d, and not with %s: %s", code, args[1], session.shows())
	}
	return nil
}

func (s *script) json(ts *testscript.TestScript, args []string) error {
	if len(args) != 3 {
		return errors.New("usage: json FILE KEY VALUE")
	}
	var document any
	if err := json.Unmarshal([]byte(ts.ReadFile(args[0])), &document); err != nil {
		return err
	}
	value := document
	for key := range strings.SplitSeq(strings.TrimPrefix(args[1], "."), ".") {
		switch in := value.(type) {
		case map[string]any:
			found := false
			if value, found = in[key]; !found {
				return fmt.Errorf("%s: there is no %s", args[1], key)
			}
		case []any:
			i, err := strconv.Atoi(key)
			if err != nil || i >= len(in) {
				return fmt.Errorf("%s: there is no %s among %d", args[1], key, len(in))
			}
			value = in[i]
		default:
			return fmt.Errorf("%s: there is no %s in a value", args[1], key)
		}
	}
	text, ok := value.(string)
	if !ok {
		encoded, err := json.Marshal(value)
		if err != nil {
			return err
		}
		text = string(encoded)
	}
	if text != args[2] {
		return fmt.Errorf("%s is %s, and not %s", args[1], cmp.Or(text, `""`), args[2])
	}
	return nil
}
