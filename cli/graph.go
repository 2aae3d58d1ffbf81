package cli

import (
	"bytes"
	"slices"
	"strings"

	"regsweep/audit"
	"regsweep/internal/human"
	"regsweep/inventory"
	"regsweep/storage"

	urfave "github.com/urfave/cli/v2"
)

// graphFormats has the values of --format. JSON is written by itself.
var graphFormats = map[string]func(p *audit.Picture, w *bytes.Buffer){
	treeName: (*audit.Picture).WriteTree, "dot": (*audit.Picture).WriteDot, "mermaid": (*audit.Picture).WriteMermaid, jsonName: nil,
}

const (
	formatName = "format"
	treeName   = "tree"
)

func graphCommand(r *runner) *urfave.Command {
	return &urfave.Command{
		Name:               "graph",
		Usage:              "show what a repository or a tag reaches, and which image is based on which",
		ArgsUsage:          "REPO[:TAG|@DIGEST] TARGET",
		Flags:              slices.Concat([]urfave.Flag{&urfave.StringFlag{Name: formatName, Value: treeName, Usage: "`FORMAT` of the graph: tree, dot, mermaid or json"}}, analysisFlags()),
		CustomHelpTemplate: commandHelp,
		OnUsageError:       usageError,
		Action:             r.graph,
		Description: targetHelp + `
   REPO has all tags and all untagged manifests. REPO:TAG and REPO@DIGEST have what the tag or
   the manifest reaches. An image is based on another, in any repository, if all layers of the
   base are its first ones. The size of an index or a manifest is that of a pull. It only reads,
   and needs neither a lock nor a registry that is read-only.

EXAMPLES:
   regsweep graph team/app config.yml               a tree
   regsweep graph --format dot team/app:v1 config.yml | dot -Tsvg > app.svg
   regsweep graph --format mermaid team/app config.yml
                                                    for a page in Markdown
`,
	}
}

// graphReport is the report of graph.
type graphReport struct {
	analysisReport
	*audit.Picture
	analysisEnd
}

func newGraphReport() *graphReport {
	return &graphReport{
		analysisReport: analysisReport{Report: 1, Command: "graph"}, Picture: audit.NewPicture(""),
		analysisEnd: analysisEnd{Problems: []inventory.Problem{}},
	}
}

func (r *runner) graph(c *urfave.Context) error {
	report := newGraphReport()
	err := r.analyse(c.Context, &report.analysisEnd, func(a *analysis) error { return a.draw(c, report) })
	write := graphFormats[c.String(formatName)]
	switch {
	case c.Bool(jsonName) || c.String(formatName) == jsonName:
		return r.writeJSON(report, err)
	case err != nil:
		return err
	}
	return r.writeText(func(w *bytes.Buffer, width int) {
		write(report.Picture, w)
		if c.String(formatName) == treeName {
			human.Folded(func(w *bytes.Buffer, _ int) { writeProblems(w, report.Problems) })(w, width)
		}
	}, nil)
}

func (a *analysis) draw(c *urfave.Context, report *graphReport) error {
	images, target, err := objectAndTarget(c, "REPO, REPO:TAG or REPO@DIGEST")
	if err != nil {
		return err
	}
	if len(target) == 0 && (isYAML(images) || strings.ContainsAny(images[:1], "./") || strings.Contains(images, "://")) {
		return storage.Usagef("graph: REPO comes before the target: regsweep graph REPO %s", images)
	}
	format := c.String(formatName)
	if _, known := graphFormats[format]; !known {
		return storage.Usagef("--%s: want tree, dot, mermaid or json, not %q", formatName, format)
	}
	if c.Bool(jsonName) && c.IsSet(formatName) && format != jsonName {
		return storage.Usagef("--%s and --%s %s contradict each other", jsonName, formatName, format)
	}
	if err := a.openTarget(c, target, &report.analysisReport); err != nil {
		return err
	}
	if err := a.read(c.Context, false, &report.analysisEnd); err != nil {
		return err
	}
	phase := a.progress.Begin("drawing", "", 0)
	defer phase.End("")
	p, err := a.facts.Draw(c.Context, images, a.reader, a.store.Concurrency())
	if err != nil {
		return a.suggest(images, err)
	}
	report.Picture = p
	report.Problems = slices.DeleteFunc(report.Problems, func(of inventory.Problem) bool { return of.Repository != p.Repository })
	return nil
}
