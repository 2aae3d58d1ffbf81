package cli

import (
	"path/filepath"
	"strings"
	"time"

	"regsweep/metrics"
	"regsweep/storage"
	"regsweep/sweep"

	urfave "github.com/urfave/cli/v2"
)

const metricsName = "metrics"

func metricsFlag() urfave.Flag {
	return &urfave.StringFlag{Name: metricsName, Usage: "write the figures of the run for Prometheus to `FILE`.prom, where node_exporter reads it"}
}

// openMetrics returns the file of --metrics, or nil without it. target has the arguments that name the target.
func (r *runner) openMetrics(c *urfave.Context, command string, target []string) (*metrics.File, error) {
	if !c.IsSet(metricsName) {
		return nil, nil
	}
	if c.Bool("dry-run") {
		return nil, storage.Usagef("--%s and --dry-run contradict each other: the times and results of real runs would be lost. audit --%[1]s says how much garbage there is", metricsName)
	}
	f := &metrics.File{Path: c.String(metricsName), Command: command, Warn: r.say}
	if len(target) == 1 {
		f.Target = targetLabel(target[0])
	}
	if err := f.Check(); err != nil {
		return nil, err
	}
	return f, nil
}

// targetLabel names a target in metrics: always in the same way, also if it can't be opened. It has no
// parameters of a URL, which could be secrets.
func targetLabel(target string) string {
	if strings.Contains(target, "://") {
		target, _, _ = strings.Cut(target, "?")
		return storage.WithoutUserinfo(target)
	}
	if path, err := filepath.Abs(target); err == nil && target != "" {
		return path
	}
	return target
}

// saveMetrics calls save, unless the target is not known. It returns err, the end of the run. If that is nil and
// the metrics can't be saved, it returns the error of that: with exit code 0 nobody would read it.
func (r *runner) saveMetrics(f *metrics.File, target string, err error, save func() error) error {
	if f == nil {
		return err
	}
	if f.Target == "" { // the default config.yml
		f.Target = target
	}
	failed := save()
	if err == nil {
		return failed
	}
	if failed != nil {
		r.say(failed.Error())
	}
	return err
}

// noteMetrics saves metrics before the end of the run. An error is only printed: the end of the run meets it again.
func (g *gcRun) noteMetrics(save func() error) {
	if err := g.saveMetrics(g.metrics, g.config.Target, nil, save); err != nil {
		g.say("warning: " + err.Error())
	}
}

// endMetrics writes how the run ends.
func (g *gcRun) endMetrics(err error) error {
	return g.saveMetrics(g.metrics, g.config.Target, err, func() error {
		run := metrics.Run{Began: g.began, Ended: g.env.Now(), ExitCode: exitCode(err), Problems: g.report.countKeeping()}
		run.Removal = g.report.removal()
		if g.report.plan == nil && err != nil {
			run.Removal.Left = metrics.Unknown
		}
		return g.metrics.Ended(run)
	})
}

// removal returns the bytes of a run, and what it has left.
func (r *report) removal() *metrics.Removal {
	of := &metrics.Removal{Freed: r.Removed.bytes(), Hidden: r.HiddenBytes}
	if r.result != nil {
		of.Freed += r.result.Versions.Bytes
	}
	if r.plan != nil {
		of.Left = r.plan.Rest(r.result).Bytes
	}
	for _, kept := range r.Kept {
		if kept.Reason == sweep.KeptDamage {
			of.Left += kept.Bytes
		}
	}
	return of
}

// endMetrics writes how the audit ends, and its bill if it has one.
func (r *auditReport) endMetrics(of *runner, f *metrics.File, began time.Time, err error) error {
	return of.saveMetrics(f, r.Config, err, func() error {
		run := metrics.Run{Began: began, Ended: of.env.Now(), ExitCode: exitCode(err)}
		for _, problem := range r.Problems {
			if problem.Effect.Keeps() {
				run.Problems++
			}
		}
		if r.bill == nil || err != nil {
			return f.Ended(run)
		}
		return f.Audited(run, r.bill.Bytes, r.NotCounted, r.bill.Repositories)
	})
}
