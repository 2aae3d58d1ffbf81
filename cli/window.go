package cli

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"regsweep/guard"
	"regsweep/inventory"
	"regsweep/storage"
	"regsweep/window"

	urfave "github.com/urfave/cli/v2"
)

const (
	beforeName          = "before"
	afterName           = "after"
	settleName          = "settle"
	recoverName         = "recover"
	stateDirName        = "state-dir"
	registryCommandName = "registry-command"

	// quietTime is how long nobody may push after the registry was closed, if somebody pushed shortly
	// before. A registry that was not asked has this time to show itself.
	quietTime = 30 * time.Second
	// settlePause is the longest pause between two questions to a registry that is being closed.
	settlePause = 15 * time.Second
)

func windowCommand(r *runner) *urfave.Command {
	return &urfave.Command{
		Name:      "window",
		Usage:     "make the registry read-only, collect, and make it writable again",
		ArgsUsage: "TARGET",
		Flags: slices.Concat([]urfave.Flag{
			&urfave.StringFlag{Name: beforeName, Usage: "`COMMAND` for sh that makes the registry read-only, or stops it (then add --registry-stopped)"},
			&urfave.StringFlag{Name: afterName, Usage: "`COMMAND` for sh that makes the registry writable again; it runs in any case"},
			&urfave.GenericFlag{Name: settleName, Value: &age{5 * time.Minute}, Usage: "wait for `AGE` at most after --before until the registry is seen to be read-only"},
			&urfave.StringFlag{Name: registryCommandName, Usage: "`COMMAND` for sh that prints the URLs of the replicas; it runs after --before, until they are all read-only"},
			toggle(recoverName, "close a window that was left open, and do nothing else"),
			&urfave.StringFlag{Name: stateDirName, Usage: "keep the note of the open window in `DIR` (default: $STATE_DIRECTORY, for root /var/lib/regsweep, or regsweep in the user's directory for state)"},
		}, gcCommand(r).Flags),
		CustomHelpTemplate: commandHelp,
		OnUsageError:       usageError,
		Action:             r.window,
		Description: `COMMAND:
   It runs in sh, with REGSWEEP_TARGET in its environment. --after also has REGSWEEP_RESULT, the exit
   code of the collection, and REGSWEEP_REPORT, a file with its report in JSON.

` + targetHelp + `
   --after runs however the collection ends: done, refused, failed, interrupted, out of time. Only
   SIGKILL and the loss of the machine prevent it. Then the next window runs it first, and
   regsweep window --recover runs nothing else. Both may run --after a second time. If --after
   fails, the exit code is 6. With --dry-run neither command runs.

EXAMPLES:
   regsweep window --for 2h --max-delete 30% \
       --before 'docker compose -f compose.yml -f readonly.yml up -d --wait registry' \
       --after  'docker compose -f compose.yml up -d --wait registry' config.yml
   regsweep window --recover config.yml
`,
	}
}

// heldWindow is the window around a collection.
type heldWindow struct {
	window.Window
	settle          time.Duration
	registryCommand string
}

// writeWindow prints how long the parts of a window took.
func writeWindow(w *bytes.Buffer, report *window.Report) {
	if report == nil || report.Closed.IsZero() {
		return
	}
	seconds := func(s float64) time.Duration {
		return time.Duration(s * float64(time.Second)).Round(100 * time.Millisecond)
	}
	fmt.Fprintf(w, "The window was open for %s: --before took %s, and --after %s.\n",
		seconds(report.Closed.Sub(report.Opened).Seconds()), seconds(report.Before.Seconds), seconds(report.After.Seconds))
}

func (r *runner) window(c *urfave.Context) error {
	g := &gcRun{options: readGCOptions(c), report: newReport("window")}
	g.runner = r
	w := &heldWindow{settle: c.Generic(settleName).(*age).Duration, registryCommand: c.String(registryCommandName)}
	w.Before, w.After, w.Quiet = c.String(beforeName), c.String(afterName), g.options.quiet
	dir, err := os.Getwd()
	if err != nil {
		return fmt.Errorf("find the working directory: %w", err)
	}
	w.Env, w.Say, w.Now, w.Output = os.Environ(), r.say, r.env.Now, r.neverBlock()
	w.Note = window.Note{Dir: dir, Host: r.env.Host, PID: os.Getpid(), Process: guard.ThisProcess(), User: r.env.User}
	w.Runs = func(n *window.Note) bool {
		return n.Host == r.env.Host && n.PID != os.Getpid() && guard.Runs(n.PID, n.Process)
	}
	if state := stateDir(c.String(stateDirName), r.env.Getenv); state != "" {
		w.Notes.Dir = filepath.Join(state, "windows")
	}
	switch {
	case c.Bool(recoverName):
		return r.recover(c, w, g.report)
	case g.options.dryRun:
	case w.Before == "" || w.After == "":
		err = storage.Usagef("window: name the command that makes the registry read-only and the one that makes it writable again: --%s COMMAND --%s COMMAND", beforeName, afterName)
	default:
		g.window = w
	}
	return r.collect(c, g, c.Args().Slice(), err)
}

// neverBlock makes standard error never block until the command ends. See window.Output.
func (r *runner) neverBlock() io.Writer {
	stderr, width := r.env.Err, r.env.Width
	output := window.NewOutput(stderr)
	r.env.Err, r.endOutput = output, output.End
	r.env.Width = func(w io.Writer) int {
		if w == output {
			w = stderr
		}
		return width(w)
	}
	r.startProgress(false)
	return output
}

// stateDir returns the directory for what has to survive a restart, or "" if there is none.
func stateDir(given string, getenv func(string) string) string {
	fromSystemd, _, _ := strings.Cut(getenv("STATE_DIRECTORY"), ":")
	switch dir := cmp.Or(given, fromSystemd); {
	case dir != "":
		return dir
	case getenv("XDG_STATE_HOME") != "":
		return filepath.Join(getenv("XDG_STATE_HOME"), "regsweep")
	case os.Geteuid() == 0:
		return "/var/lib/regsweep"
	case getenv("HOME") != "":
		return filepath.Join(getenv("HOME"), ".local/state/regsweep")
	}
	return ""
}

// setTarget sets the fields that depend on the target. The store is nil if it can't be opened.
func (w *heldWindow) setTarget(target string, store storage.Store) {
	if !strings.Contains(target, "://") {
		if path, err := filepath.Abs(target); err == nil {
			target = path
		}
	}
	w.Note.Target, w.Notes.Target, w.Notes.Store = target, target, store
	if store != nil {
		w.Note.Storage = store.Identity()
	}
}

// hold closes a window that was left open, and then opens one around the run.
func (w *heldWindow) hold(ctx context.Context, g *gcRun, proof guard.Options) (err error) {
	g.report.Window = &window.Report{}
	ctx, endSignals := holdSignals(ctx, g.runner)
	defer endSignals()
	w.setTarget(g.config.Target, g.store)
	ctx, unlock, err := g.lock(ctx, g.store, g.report.Command)
	if err != nil {
		return err
	}
	defer func() {
		if released := unlock(nil); err == nil {
			err = released
		}
	}()
	if _, err := w.Recover(ctx, g.report.Window); err != nil {
		return err
	}
	if verdict, refused := guard.Signs(ctx, proof); refused { // read-only mode would not help
		g.report.Guard = &verdict
		return &guard.RefusedError{Verdict: verdict}
	}
	cache, err := g.openDescriptors(ctx) // before the registry is closed for nothing
	if err != nil {
		return err
	}
	cache.Close()
	g.noteMetrics(func() error { return g.metrics.Opened(g.env.Now()) })
	defer func() {
		if report := g.report.Window; report.Opened.IsZero() || !report.Closed.IsZero() {
			g.noteMetrics(g.metrics.Closed)
		}
	}()
	g.progress.Enter("--before was running")
	return w.Hold(ctx, g.report.Window, func(ctx context.Context) error {
		proof, err := w.settled(ctx, g, proof)
		if err != nil {
			return err
		}
		return g.run(ctx, proof)
	}, func(err error) window.Result {
		err = g.finish(ctx, err)
		encoded, encodeErr := encode(g.report)
		if encodeErr != nil {
			g.say(encodeErr.Error())
		}
		return window.Result{Code: g.report.ExitCode, Report: encoded, Err: err}
	})
}

// settled waits until the proof holds, and returns its options.
func (w *heldWindow) settled(ctx context.Context, g *gcRun, proof guard.Options) (guard.Options, error) {
	isEmpty, err := inventory.IsEmpty(ctx, g.store)
	if err == nil && isEmpty { // the run asks what is left to ask
		proof.Endpoints, err = w.endpoints(ctx, proof.Endpoints)
	}
	if err != nil || isEmpty {
		return proof, err
	}
	survey, err := g.survey(ctx, g.store)
	if err != nil {
		return proof, err
	}
	sampled := proof
	sampled.Samples = samples(survey, proof.DeleteUntagged)
	began := g.env.Now()
	for pause := time.Second; ; pause = min(2*pause, settlePause) {
		bounded, cancel := context.WithTimeoutCause(ctx, max(time.Second, w.settle-g.env.Now().Sub(began)), fmt.Errorf("it did not end within --%s", settleName))
		sampled.Endpoints, err = w.endpoints(bounded, proof.Endpoints)
		cancel()
		if err == nil {
			err = g.prove(ctx, sampled)
		}
		if err == nil {
			break
		}
		if !mayPass(err) || ctx.Err() != nil || g.env.Now().Sub(began) >= w.settle {
			return proof, err
		}
		if unnamed := (*endpointsError)(nil); errors.As(err, &unnamed) {
			g.say(fmt.Sprintf("--%s: %v: it is asked again", registryCommandName, unnamed.err))
		}
		if err := wait(ctx, min(pause, w.settle)); err != nil {
			return proof, err
		}
	}
	// A push before this moment may have gone through the registry that was asked.
	proof.Closed, proof.Endpoints = g.env.Now(), sampled.Endpoints
	if err := g.addSurveyPushes(ctx, &sampled, g.store, survey); err != nil {
		return proof, err
	}
	if last := sampled.LastUpload; !proof.Stopped && last != nil && proof.Closed.Sub(last.Touched) < guard.RecentUpload {
		g.say(fmt.Sprintf("somebody pushed %s shortly before: waiting %s for a registry that was not asked", last.Where(), quietTime))
		return proof, wait(ctx, quietTime)
	}
	return proof, nil
}

// endpoints returns the named endpoints, and those of --registry-command. They change while a registry is being
// closed: a replica that is stopped is listed until it has ended.
func (w *heldWindow) endpoints(ctx context.Context, named []string) ([]string, error) {
	if w.registryCommand == "" {
		return named, nil
	}
	urls, err := w.Command(ctx, w.registryCommand)
	if err == nil && len(urls) == 0 {
		err = errors.New("it printed no URL")
	}
	if bad := guard.CheckEndpoints(urls); err == nil && bad != nil {
		err = errors.New(bad.Error()) // a UsageError would blame the command line
	}
	if err != nil {
		return nil, &endpointsError{err}
	}
	return slices.Concat(named, urls), nil
}

// endpointsError says that --registry-command has not named the replicas.
type endpointsError struct{ err error }

func (e *endpointsError) Error() string {
	return fmt.Sprintf("nothing was removed: --%s: %v", registryCommandName, e.err)
}

func (e *endpointsError) Unwrap() error { return e.err }

// mayPass reports whether it may help to wait and to ask again. A Pod that was just made has no address yet.
func mayPass(err error) bool {
	var refused *guard.RefusedError
	if !errors.As(err, &refused) {
		return errors.As(err, new(*endpointsError))
	}
	by := refused.Verdict.By
	return by != guard.ByOtherTruth && by != guard.ByOtherStorage && by != guard.ByProxy
}

// wait waits for d, or returns the cause of ctx.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// recover closes a window that was left open. Without the storage it uses the note on this machine.
func (r *runner) recover(c *urfave.Context, w *heldWindow, report *report) error {
	report.Window = &window.Report{}
	ctx, endSignals := holdSignals(c.Context, r)
	defer endSignals()
	target := c.Args().Slice()
	file, err := r.openMetrics(c, report.Command, target)
	if err != nil {
		return err
	}
	conf, store, err := r.target(c, target, true)
	tried, found := false, false
	work := func(ctx context.Context) (err error) {
		tried = true
		w.setTarget(cmp.Or(conf.Target, c.Args().First()), store)
		found, err = w.Recover(ctx, report.Window)
		return err
	}
	if err == nil {
		report.Storage, report.Config = store.Identity(), conf.File
		err = r.locked(ctx, store, report.Command, work)
	}
	if !tried && !errors.As(err, new(*guard.HeldError)) && ctx.Err() == nil {
		store = nil // the note on this machine says whether its window still runs
		if failed := work(ctx); found {
			r.say(fmt.Sprintf("warning: the storage could not be used: %v", err))
			err = failed
		}
	}
	if err == nil {
		err = r.saveMetrics(file, conf.Target, err, file.Closed)
	}
	if err == nil && !found && !w.Quiet {
		r.say("no window is open on " + w.Note.Target)
	}
	if c.Bool(jsonName) {
		return r.writeJSON(report, err)
	}
	return err
}

// holdSignals keeps every signal that can be caught from ending the process. The first one cancels the
// context: a second Ctrl-C must not leave the registry read-only.
func holdSignals(ctx context.Context, r *runner) (held context.Context, end func()) {
	held, cancel := context.WithCancelCause(ctx)
	caught := make(chan os.Signal, 1)
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGABRT, syscall.SIGALRM, syscall.SIGUSR1, syscall.SIGUSR2} {
		if !signal.Ignored(s) { // nohup ignores SIGHUP
			signal.Notify(caught, s)
		}
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for range caught {
			cancel(ErrInterrupted)
			r.say("interrupted: the registry is made writable again first")
		}
	}()
	return held, func() {
		signal.Stop(caught)
		close(caught)
		<-ended
		cancel(context.Canceled)
	}
}
