package cli

import (
	"slices"

	urfave "github.com/urfave/cli/v2"
)

const (
	partialName = "partial"
	leftOutName = "left-out"
)

func applyCommand(r *runner) *urfave.Command {
	return &urfave.Command{
		Name:      "apply",
		Usage:     "remove what is in a plan that gc wrote, and still garbage",
		ArgsUsage: "PLAN TARGET",
		Flags: slices.Concat([]urfave.Flag{
			dryRunFlag("say what would be removed, and remove nothing"),
			toggle(partialName, "accept a plan from which lines were taken, and make its last line anew"),
			&urfave.StringFlag{Name: leftOutName, Usage: "write what is left out of the plan to `FILE`, a line of JSON for each, with the reason"},
		}, removalFlags()),
		CustomHelpTemplate: commandHelp,
		OnUsageError:       usageError,
		Action:             r.apply,
		Description: `PLAN:
   a file that gc --plan wrote; - is standard input. The plan's own options count: whether untagged
   manifests go, and how old things must be.

` + targetHelp + `
   The registry is listed and marked again. What goes is in the plan and garbage
   now; what is left out of the plan is told, with the reason.

EXAMPLES:
   regsweep gc -dm --plan plan.jsonl config.yml   write a plan, for a review
   regsweep apply -d plan.jsonl config.yml        what of it would be removed now
   regsweep apply plan.jsonl config.yml           remove it, after a question
   jq -c 'select(.plan or .repository == "team/app")' plan.jsonl > app.jsonl
   regsweep apply -d --partial app.jsonl config.yml
`,
	}
}

func (r *runner) apply(c *urfave.Context) error {
	g := &gcRun{options: readRemovalOptions(c), report: newApplyReport(), review: newReview(c)}
	return r.collect(c, g, c.Args().Tail(), nil)
}
