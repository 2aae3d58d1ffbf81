package cli

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"regsweep/guard"
	"regsweep/inventory"
	"regsweep/storage"
	"regsweep/storage/config"

	urfave "github.com/urfave/cli/v2"
)

func checkCommand(r *runner) *urfave.Command {
	return &urfave.Command{
		Name:               "check",
		Usage:              "say whether something could be removed now, and why",
		ArgsUsage:          "TARGET",
		Flags:              slices.Concat([]urfave.Flag{jsonFlag(), toggle("delete-untagged", "for gc -m: untagged manifests are removed too", "m")}, rootFlags(), limitFlags(), guardFlags()),
		CustomHelpTemplate: commandHelp,
		OnUsageError:       usageError,
		Action:             r.check,
		Description: targetHelp + `
   It changes nothing, neither in the registry nor in its storage. It sends GET, HEAD and
   OPTIONS requests to the registry, and a PUT of a text that is no manifest: a read-only
   registry refuses that for the method, and every other one for the content. Exit code 0 says
   that something could be removed now, and 3 that it could not. For gc with -m, give
   -m to check, too: it may be refused where gc without it is not.

EXAMPLES:
   regsweep check config.yml
   regsweep check --registry https://registry.example.com --username ops \
                  --password-file password.txt /var/lib/registry
   regsweep check --json config.yml | jq -r .guard.verdict
`,
	}
}

// checkReport is the JSON document of check.
type checkReport struct {
	Report  int              `json:"report"`
	Command string           `json:"command"`
	Storage storage.Identity `json:"storage"`
	Config  string           `json:"config,omitempty"` // the config.yml that was read
	Guard   *guard.Verdict   `json:"guard,omitempty"`
	ending

	notRead []string
}

func newCheckReport() *checkReport { return &checkReport{Report: 1, Command: "check"} }

func (r *runner) check(c *urfave.Context) error {
	report := newCheckReport()
	err := withCause(c.Context, r.proveNow(c, report))
	if report.Guard != nil && !report.Guard.MayRemove() {
		// The verdict is the result of check, and is printed to standard output.
		err = reportedError{&guard.RefusedError{Verdict: *report.Guard}}
	}
	if c.Bool(jsonName) {
		return r.writeJSON(report, err)
	}
	if report.Guard == nil {
		return err
	}
	return r.writeText(func(w *bytes.Buffer, width int) {
		writeVerdict(w, verdicts[report.Guard.State], *report.Guard, width)
		if report.Config != "" {
			fmt.Fprintln(w)
			writeConfig(w, report.Config, report.notRead, width)
		}
	}, err)
}

// proveNow stores in the report the verdict that a run would get now. It surveys the storage, and
// takes no inventory.
func (r *runner) proveNow(c *urfave.Context, report *checkReport) error {
	conf, store, err := r.target(c, c.Args().Slice(), false)
	if err != nil {
		return err
	}
	report.Storage, report.Config, report.notRead = store.Identity(), conf.File, conf.NotRead
	lists, err := r.readRootLists(c, "")
	if err != nil {
		return err
	}
	options, err := r.guardOptions(c, conf, store)
	if err != nil {
		return err
	}
	options.DeleteUntagged = c.Bool("delete-untagged")
	options.RootsGiven, options.KeepDigestsGiven = lists.roots != nil, lists.keepDigests != nil
	survey, err := r.survey(c.Context, store)
	if err != nil {
		return storage.ExplainPermission(store, err)
	}
	if len(survey.Tagged)+len(survey.Untagged) == 0 {
		if err := config.RequireLayout(c.Context, store, conf); err != nil {
			return err
		}
	}
	options.Samples = samples(survey, false)
	options.HasTag = func(string, string) bool { return false } // then the storage is read
	options.HasRepository = func(name string) bool { _, has := survey.Repositories[name]; return has }
	if err := r.addSurveyPushes(c.Context, &options, store, survey); err != nil {
		return err
	}
	phase := r.progress.Begin("asking the registry", "", 0)
	verdict, err := guard.Prove(c.Context, options)
	phase.End("")
	if err != nil {
		return err
	}
	report.Guard = &verdict
	return nil
}

// survey lists all repositories, with their last pushes and a few manifests of each kind.
func (r *runner) survey(ctx context.Context, store storage.Store) (inventory.Survey, error) {
	phase := r.progress.Begin("looking for tags and uploads", "", 0)
	defer phase.End("")
	return inventory.TakeSurvey(ctx, store, guard.MaxSamples, false)
}
