package cli

import (
	"bytes"
	"errors"

	"regsweep/audit"
	"regsweep/internal/human"
	"regsweep/inventory"
	"regsweep/storage"

	"github.com/opencontainers/go-digest"
	urfave "github.com/urfave/cli/v2"
)

func whyCommand(r *runner) *urfave.Command {
	flags := []urfave.Flag{
		&urfave.GenericFlag{Name: "limit", Value: newNumber(3), Usage: "show at most `N` chains, the shortest first; 0 is all that a bounded search finds"},
		minAgeFlag("say what a gc with the same flag does: it keeps blobs and links younger than `AGE`, such as 36h or 7d"),
	}
	return &urfave.Command{
		Name:               "why",
		Usage:              "say why an object is kept, who holds it, and what would free it",
		ArgsUsage:          "DIGEST|REPO:TAG|REPO@DIGEST TARGET",
		Flags:              append(flags, analysisFlags()...),
		CustomHelpTemplate: commandHelp,
		OnUsageError:       usageError,
		Action:             r.why,
		Description: targetHelp + `
   The beginning of a digest is enough, with at least 4 hex digits. The answer is about all
   repositories, and for a gc without flags. If you run gc with --min-age, pass it here too.
   It only reads, and needs neither a lock nor a registry that is read-only.

EXAMPLES:
   regsweep why sha256:3f2a config.yml              why is this blob kept?
   regsweep why team/app:v1 config.yml              what holds the image, besides this tag?
   regsweep why --limit 100 team/app@3f2a config.yml
   regsweep why --json 3f2a99 config.yml | jq -r '.to_free[]'
                                                    all tags that would have to go
`,
	}
}

// whyReport is the report of why.
type whyReport struct {
	analysisReport
	Asked string `json:"asked"`
	audit.Why
	limit int // the largest number of chains
	// Candidates are the digests that the short digest may mean.
	Candidates []digest.Digest `json:"candidates,omitempty"`
	analysisEnd
}

func newWhyReport() *whyReport {
	return &whyReport{
		analysisReport: analysisReport{Report: 1, Command: "why"}, Why: audit.NewWhy(""),
		analysisEnd: analysisEnd{Problems: []inventory.Problem{}},
	}
}

func (r *runner) why(c *urfave.Context) error {
	report := newWhyReport()
	err := r.analyse(c.Context, &report.analysisEnd, func(a *analysis) error { return a.explain(c, report) })
	var ambiguous *audit.AmbiguousError
	if errors.As(err, &ambiguous) {
		report.Candidates = ambiguous.Candidates
	}
	switch {
	case c.Bool(jsonName):
		return r.writeJSON(report, err)
	case err != nil:
		return err
	}
	return r.writeText(human.Folded(func(w *bytes.Buffer, width int) { writeWhy(w, report, width) }), nil)
}

func (a *analysis) explain(c *urfave.Context, report *whyReport) error {
	object, target, err := objectAndTarget(c, "DIGEST, REPO:TAG or REPO@DIGEST")
	if err == nil {
		report.Asked = object
		err = audit.IsObject(object)
	}
	if of := digest.Digest(object); of.Validate() == nil {
		report.Digest = of // also if it does not exist
	}
	if err != nil {
		return err
	}
	report.limit = limitOf(c)
	a.minAge = c.Generic(minAgeName).(*age).Duration
	if err := a.openTarget(c, target, &report.analysisReport); err != nil {
		return err
	}
	if err := a.read(c.Context, false, &report.analysisEnd); err != nil {
		return err
	}
	id, err := a.facts.Find(object)
	if err != nil {
		return a.suggest(object, err)
	}
	phase := a.progress.Begin("explaining", "", 0)
	defer phase.End("")
	why, err := a.facts.Explain(c.Context, id, audit.WhyOptions{Limit: report.limit, MinAge: a.minAge, Reader: a.reader, Concurrency: a.store.Concurrency()})
	if err != nil {
		return err
	}
	report.Why = *why
	return nil
}

// objectAndTarget returns the first argument, and the others, which may name a target.
func objectAndTarget(c *urfave.Context, want string) (object string, target []string, err error) {
	if c.NArg() == 0 || c.Args().First() == "" {
		return "", nil, storage.Usagef("%s: name a %s: see regsweep %s --help", c.Command.Name, want, c.Command.Name)
	}
	return c.Args().First(), c.Args().Tail(), nil
}
