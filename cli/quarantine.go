package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"regsweep/internal/human"
	"regsweep/quarantine"
	"regsweep/storage"
	"regsweep/storage/config"
	"regsweep/sweep"

	urfave "github.com/urfave/cli/v2"
)

const (
	quarantineName = "quarantine"
	repositoryName = "repository"
	digestName     = "digest"
	olderName      = "older-than"
	runName        = "run"
	allName        = "all"
)

func quarantineCommand(r *runner) *urfave.Command {
	sub := func(c *urfave.Command) *urfave.Command {
		c.Flags = slices.Concat(c.Flags, []urfave.Flag{
			toggle("quiet", "print problems and errors alone", "q"), jsonFlag(),
		}, limitFlags())
		c.CustomHelpTemplate, c.OnUsageError = commandHelp, usageError
		return c
	}
	return &urfave.Command{
		Name:               quarantineName,
		Usage:              "list, show, restore or purge what gc --quarantine has moved away",
		ArgsUsage:          "list|show|restore|purge …",
		CustomHelpTemplate: commandHelp,
		Description: `COMMANDS:
   regsweep quarantine list TARGET            the runs, with what is in the quarantine of each
   regsweep quarantine show RUN TARGET        the contents of one run
   regsweep quarantine restore RUN TARGET     put it back, all or of one repository
   regsweep quarantine restore --all TARGET   put back all runs
   regsweep quarantine purge --older-than AGE TARGET
                                              free the space for good

RUN:
   a name from the list, the beginning of it, or latest.

   list and show take no lock and write nothing.

EXAMPLES:
   regsweep gc -m --quarantine config.yml
   regsweep quarantine list config.yml
   regsweep quarantine restore latest --repository team/app config.yml
   regsweep quarantine purge --older-than 7d config.yml
`,
		Subcommands: []*urfave.Command{
			sub(&urfave.Command{
				Name: "list", Usage: "say what is in the quarantine", ArgsUsage: "TARGET",
				Action: r.quarantineList, Description: targetHelp,
			}),
			sub(&urfave.Command{
				Name: "show", Usage: "list the contents of one run", ArgsUsage: "RUN TARGET",
				Action: r.quarantineShow,
				Description: runHelp + targetHelp + `
EXAMPLES:
   regsweep quarantine show latest config.yml
   regsweep quarantine show 20260131 --json config.yml
`,
			}),
			sub(&urfave.Command{
				Name: "restore", Usage: "put back what a run has moved away, or removed", ArgsUsage: "RUN TARGET, or --all TARGET, or --plan FILE TARGET",
				Action: r.quarantineRestore,
				Flags: []urfave.Flag{
					dryRunFlag("say what would be put back, and do nothing"),
					toggle(allName, "all runs, the newest first"),
					&urfave.StringFlag{Name: repositoryName, Usage: "only what went of the repository `NAME`, with the blobs that it named"},
					&urfave.StringFlag{Name: digestName, Usage: "only the image or blob `DIGEST`, with all that it refers to"},
					&urfave.StringFlag{Name: planName, Usage: "put back the links that a plan in `FILE` has removed, as far as their blobs are there"},
				},
				Description: runHelp + targetHelp + `
   Nothing is written over, and no blob is put back that is not what its digest
   says. The registry may run meanwhile. Runs may be restored in any order. Exit
   code 4 says that something could not be put back.
   An image that is restored by --digest is linked again in the repositories that
   have all its layers, so that it can be pulled. --all --digest does so for an
   image that is stored already, too.

EXAMPLES:
   regsweep quarantine restore latest config.yml
   regsweep quarantine restore 20260131T020000Z-5f3a9c1e config.yml
   regsweep quarantine restore --digest sha256:… 20260131T020000Z-5f3a9c1e config.yml
   regsweep quarantine restore --plan plan.jsonl config.yml     after a plain gc
`,
			}),
			sub(&urfave.Command{
				Name: "purge", Usage: "remove runs from the quarantine for good", ArgsUsage: "TARGET",
				Action: r.quarantinePurge,
				Flags: []urfave.Flag{
					&urfave.GenericFlag{Name: olderName, Value: &age{}, DefaultText: "none", Usage: "all runs that were made longer than `AGE` ago, such as 7d"},
					&urfave.StringSliceFlag{Name: runName, Usage: "the run `RUN`, or latest; may be repeated"},
					dryRunFlag("say what would go, and do nothing"),
					toggle("yes", "do not ask before removing", "y"),
				},
				Description: runHelp + targetHelp + `
   On a terminal it asks first. Without one, as from cron, it purges at once.

EXAMPLES:
   regsweep quarantine purge --older-than 7d config.yml
   regsweep quarantine purge --run 20260131T020000Z-5f3a9c1e config.yml
`,
			}),
		},
	}
}

const runHelp = `RUN:
   a name from regsweep quarantine list, the beginning of it, or latest.

`

// quarantineReport is the JSON document of a quarantine command.
type quarantineReport struct {
	Report  int              `json:"report"`
	Command string           `json:"command"`
	DryRun  bool             `json:"dry_run"`
	Storage storage.Identity `json:"storage"`
	// Runs has all runs for list, the one run for show, and the runs to be removed for purge.
	Runs []quarantineRun `json:"runs,omitzero"`
	// PassedOver has the damaged runs that purge --older-than did not remove.
	PassedOver []quarantine.Damaged `json:"passed_over,omitempty"`
	// Contents has the objects in the quarantine of the run, for show.
	Contents []sweep.Removal  `json:"contents,omitzero"`
	Restored *restoreReport   `json:"restored,omitempty"`
	Requests storage.Requests `json:"requests"`
	ending

	total  int  // the number of all runs, for purge
	quiet  bool // only problems are printed
	failed bool // an error stopped the command
}

func newQuarantineReport(command string, dryRun bool) *quarantineReport {
	return &quarantineReport{Report: 1, Command: quarantineName + " " + command, DryRun: dryRun}
}

// quarantineTask is one execution of a quarantine command.
type quarantineTask struct {
	*runner
	report *quarantineReport
	store  storage.Store
}

// runQuarantine opens the target, calls work, and prints the report: as JSON, or as the text that write
// writes.
func (r *runner) runQuarantine(c *urfave.Context, command string, target []string,
	work func(context.Context, *quarantineTask) error, write func(*bytes.Buffer, *quarantineReport, int),
) error {
	q := &quarantineTask{runner: r, report: newQuarantineReport(command, c.Bool("dry-run"))}
	r.startProgress(c.Bool("quiet"))
	conf, store, err := r.target(c, target, false)
	if err == nil {
		err = config.RequireLayout(c.Context, store, conf)
		if errors.As(err, new(*config.AbsentError)) { // the quarantine is empty then
			r.say("warning: " + err.Error())
			err = nil
		}
	}
	if err == nil {
		q.store = store
		q.report.Storage = store.Identity()
		err = storage.ExplainPermission(store, withCause(c.Context, work(c.Context, q)))
		q.report.Requests = store.Requests()
	}
	if errors.Is(err, ErrInterrupted) {
		err = fmt.Errorf("%w: run it again to do the rest", ErrInterrupted)
	}
	if c.Bool(jsonName) {
		return r.writeJSON(q.report, err)
	}
	var usage *storage.UsageError
	if q.store == nil || errors.As(err, &usage) || errors.Is(err, errDeclined) {
		return err
	}
	q.report.conclude(err)
	isReported := errors.As(err, &reportedError{})
	q.report.failed = err != nil && !isReported
	text := human.Folded(func(w *bytes.Buffer, width int) { write(w, q.report, width) })
	if q.report.quiet = c.Bool("quiet"); !q.report.quiet {
		return r.writeText(text, err)
	}
	if isReported || q.report.Restored != nil || len(q.report.PassedOver) > 0 {
		r.printErr(text)
	}
	return err
}

// explainNotFound makes a usage error of an error about a run that does not exist, or that does not have
// the requested objects.
func explainNotFound(err error) error {
	var none *quarantine.NoRunError
	var nothing *quarantine.NothingError
	var several *quarantine.AmbiguousError
	switch {
	case errors.As(err, &none) && none.Run == quarantine.Latest:
		return storage.Usagef("%w", none)
	case errors.As(err, &none):
		return storage.Usagef("%w: regsweep quarantine list says which there are", none)
	case errors.As(err, &several):
		return storage.Usagef("%w: write more of the name", several)
	case errors.As(err, &nothing) && len(nothing.Others) > 0:
		newest := nothing.Others[len(nothing.Others)-1]
		if n := len(nothing.Others); n > 1 {
			return storage.Usagef("%w; %d other runs have some of it, the newest is %s: name one of them, or use --%s", err, n, newest, allName)
		}
		return storage.Usagef("%w; the run %s has some of it: name that run, or use --%s", err, newest, allName)
	case errors.As(err, &nothing):
		return storage.Usagef("%w", err)
	}
	return err
}

// checkRun returns a usage error if run cannot be the beginning of a name of a run. If the user has
// forgotten RUN, the target stands in its place, and the command must not use the default target.
func checkRun(command, run string, target []string) error {
	isTarget := strings.ContainsAny(run, "/:") || isYAML(run)
	if len(target) == 0 && run != quarantine.Latest && !strings.HasPrefix(run, "2") { // names of runs begin with the year
		_, err := os.Stat(run)
		isTarget = isTarget || err == nil
	}
	switch {
	case run == "":
		return storage.Usagef("%s: name the run first, as regsweep quarantine list has it, or latest", command)
	case isTarget:
		return storage.Usagef("%s: %q is a target and no run: name the run before it, as regsweep quarantine list has it, or latest", command, run)
	}
	return nil
}

// checkNoRun returns a usage error if the target is "latest", unless a file has that name.
func checkNoRun(target []string, instead string) error {
	if len(target) == 0 || target[0] != quarantine.Latest {
		return nil
	}
	if _, err := os.Stat(target[0]); err == nil {
		return nil
	}
	return storage.Usagef("latest is a run and no target: say %s", instead)
}
