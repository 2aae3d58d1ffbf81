package cli

import (
	"bytes"
	"context"
	"slices"

	"regsweep/audit"
	"regsweep/inventory"
	"regsweep/storage"

	urfave "github.com/urfave/cli/v2"
)

// graphFormats has the values of --format. JSON is written by itself.
var graphFormats = map[string]func(p *audit.Picture, w *bytes.Buffer){
	"tree": (*audit.Picture).WriteTree, "dot": (*audit.Picture).WriteDot, "mermaid": (*audit.Picture).WriteMermaid, jsonName: nil,
}

const formatName = "format"

func graphCommand(r *runner) *urfave.Command {
	return &urfave.Command{
		Name:               "graph",
		Usage:              "show what a repository or a tag reaches, and which image is based on which",
		ArgsUsage:          "REPO[:TAG] TARGET",
		Flags:              slices.Concat([]urfave.Flag{&urfave.StringFlag{Name: formatName, Value: "tree", Usage: "`FORMAT` of the graph: tree, dot, mermaid or json"}}, analysisFlags()),
		CustomHelpTemplate: commandHelp,
		OnUsageError:       usageError,
		Action:             r.graph,
		Description: targetHelp + `
   REPO has all tags and all untagged manifests, and REPO:TAG what the tag reaches. The size
   of an index or a manifest is that of a pull. It only reads, and needs neither a lock nor a
   registry that is read-only.

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
	report, a := newGraphReport(), &analysis{runner: r}
	err := withCause(c.Context, a.draw(c, report))
	a.end(&report.analysisEnd)
	if a.store != nil {
		err = storage.ExplainPermission(a.store, err)
	}
	write := graphFormats[c.String(formatName)]
	switch {
	case c.Bool(jsonName) || c.String(formatName) == jsonName:
		return r.writeJSON(report, err)
	case err != nil:
		return err
	}
	return r.writeText(func(w *bytes.Buffer, _ int) { write(report.Picture, w) }, nil)
}

func (a *analysis) draw(c *urfave.Context, report *graphReport) error {
	images, target, err := objectAndTarget(c, "REPO or REPO:TAG")
	if err != nil {
		return err
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
	repository, tag, err := a.facts.FindImages(images)
	if err != nil {
		return err
	}
	phase := a.progress.begin("drawing", "", 0)
	defer phase.end("")
	p := a.facts.Draw(repository, tag)
	if err := a.readPlatforms(c.Context, p); err != nil {
		return err
	}
	if err := a.facts.Inventory.DateTags(c.Context, a.reader, a.store.Concurrency(), p.TagPlaces()); err != nil {
		return err
	}
	absent, err := a.facts.Inventory.Measure(c.Context, a.reader, a.store.Concurrency(), p.Blobs(a.facts))
	if err != nil {
		return err
	}
	p.Sum(a.facts, absent)
	report.Picture = p
	report.Problems = slices.DeleteFunc(report.Problems, func(of inventory.Problem) bool { return of.Repository != p.Repository })
	return nil
}

// readPlatforms reads the indexes of the picture again, because the graph does not have the platforms of
// their entries.
func (a *analysis) readPlatforms(ctx context.Context, p *audit.Picture) error {
	ids := p.Indexes(a.facts)
	return storage.Each(ctx, len(ids), a.store.Concurrency(), func(ctx context.Context, i int) error {
		content, err := a.reader.Read(ctx, a.facts.Inventory.BlobPath(ids[i]), largestIndex)
		if err == nil {
			p.SetPlatforms(i, content)
		}
		return err
	})
}

// largestIndex is the size in bytes of the largest manifest that the mark reads.
const largestIndex = 8 << 20
