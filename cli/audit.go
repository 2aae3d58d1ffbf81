package cli

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"

	"regsweep/audit"
	"regsweep/internal/human"
	"regsweep/inventory"
	"regsweep/mark"
	"regsweep/storage"

	"github.com/bmatcuk/doublestar/v4"
	urfave "github.com/urfave/cli/v2"
)

const (
	withoutName = "without"
	matchName   = "match"
	sortName    = "sort"
	csvName     = "csv"
)

func auditCommand(r *runner) *urfave.Command {
	flags := []urfave.Flag{
		&urfave.StringSliceFlag{Name: withoutName, Usage: "what removing these tags too would free: `REPO:TAG-GLOB`; all of them together make one set"},
		&urfave.StringFlag{Name: matchName, Usage: "only repositories that match `GLOB`; ** crosses slashes"},
		&urfave.StringFlag{Name: sortName, Value: "bytes", Usage: "order the repositories by `COLUMN`: " + strings.Join(audit.Columns(), ", ")},
		&urfave.GenericFlag{Name: "limit", Value: newNumber(20), Usage: "at most `N` repositories, and N of the largest blobs, in the tables; 0 is no bound"},
		&urfave.StringFlag{Name: compareName, Usage: "say what grew since an older audit, whose JSON report is in `FILE`"},
		toggle(csvName, "print the repositories as CSV on standard output"),
	}
	return &urfave.Command{
		Name:               "audit",
		Usage:              "say what uses the space, and what would free it",
		ArgsUsage:          "TARGET",
		Flags:              slices.Concat(flags, auditFileFlags(), []urfave.Flag{metricsFlag()}, analysisFlags()),
		CustomHelpTemplate: commandHelp,
		OnUsageError:       usageError,
		Action:             r.audit,
		Description: targetHelp + `
   It only reads, and needs neither a lock nor a registry that is read-only. While somebody
   pushes, its figures are those of the moments when it has listed each directory.

EXAMPLES:
   regsweep audit config.yml                        the bill, and the largest repositories
   regsweep audit --sort unique --match 'team/**' config.yml
   regsweep audit --without 'team/app:pr-*' --without 'team/*:nightly-*' config.yml
                                                    what the removal of all these tags would free
   regsweep audit --json config.yml > today.json    everything, for a script
   regsweep audit --compare today.json config.yml   what grew since
   regsweep audit --html audit.html config.yml      a page for a browser
   regsweep audit -q --ncdu - config.yml | ncdu -f -
`,
	}
}

// auditReport is the report of audit.
type auditReport struct {
	analysisReport
	Bytes        audit.Bytes         `json:"bytes"`
	Growth       [audit.Months]int64 `json:"growth"`
	NotCounted   []string            `json:"not_counted,omitempty"` // keys of Bytes that are not known
	Versioning   storage.Versioning  `json:"versioning,omitempty"`  // whether a bucket keeps versions
	Kinds        []audit.KindBytes   `json:"kinds"`
	Repositories []audit.Repository  `json:"repositories"`
	Blobs        []audit.Blob        `json:"blobs"`
	WhatIf       []audit.WhatIf      `json:"what_if"`
	Compare      *audit.Comparison   `json:"compare,omitempty"`
	Match        string              `json:"match,omitempty"` // --match
	analysisEnd

	question auditQuestion
	bill     *audit.Audit // nil until it was added up
	all      int          // the number of repositories, also of those that --match leaves out
}

// auditQuestion is what the flags of audit ask for.
type auditQuestion struct {
	match, sort string
	limit       int
	without     []tagPattern
	compare     string       // the file of old
	old         *auditReport // of --compare, or nil
	toOutput    bool         // a file is standard output
}

func newAuditReport() *auditReport {
	return &auditReport{
		analysisReport: analysisReport{Report: 1, Command: "audit"}, analysisEnd: analysisEnd{Problems: []inventory.Problem{}},
		Kinds: []audit.KindBytes{}, Repositories: []audit.Repository{}, Blobs: []audit.Blob{}, WhatIf: []audit.WhatIf{},
	}
}

// shownBlobs is the number of the largest blobs in a JSON report.
const shownBlobs = 100

func (r *runner) audit(c *urfave.Context) error {
	report, began := newAuditReport(), r.env.Now()
	file, err := r.openMetrics(c, report.Command, c.Args().Slice())
	if err == nil {
		err = r.analyse(c.Context, &report.analysisEnd, func(a *analysis) error { return a.audit(c, report) })
		err = report.endMetrics(r, file, began, err)
	}
	switch {
	case c.Bool(jsonName):
		return r.writeJSON(report, err)
	case err != nil, report.question.toOutput:
		return err
	case c.Bool(csvName):
		return r.writeText(func(w *bytes.Buffer, _ int) { audit.WriteCSV(w, report.Time, report.Repositories, r.env.OutTerminal) }, nil)
	}
	return r.writeText(func(w *bytes.Buffer, width int) { writeAudit(w, report, width) }, nil)
}

// parseAuditFlags checks the flags, and reads the older audit of --compare.
func parseAuditFlags(c *urfave.Context) (q auditQuestion, err error) {
	q = auditQuestion{match: c.String(matchName), sort: c.String(sortName), limit: limitOf(c), compare: c.String(compareName)}
	q.toOutput = c.String(htmlName) == "-" || c.String(ncduName) == "-"
	if q.without, err = parseTagPatterns(withoutName, c.StringSlice(withoutName)); err != nil {
		return q, err
	}
	switch _, found := audit.Orders[q.sort]; {
	case !found:
		err = storage.Usagef("--%s: there is no column %q%s", sortName, q.sort, human.DidYouMean(human.Closest(q.sort, audit.Columns())))
	case !doublestar.ValidatePattern(q.match):
		err = storage.Usagef("--%s: %q is no pattern: a bracket is not closed?", matchName, q.match)
	case c.IsSet(compareName) && (c.Bool(csvName) || q.toOutput):
		err = storage.Usagef("--%s: the table and --%s have the differences, and standard output would have something else", compareName, jsonName)
	case c.Bool(csvName) && c.Bool(jsonName):
		err = storage.Usagef("--%s and --%s contradict each other: both use standard output", csvName, jsonName)
	case c.IsSet(compareName):
		q.old, err = readOldAudit(q.compare)
	}
	return q, err
}

func (a *analysis) audit(c *urfave.Context, report *auditReport) (err error) {
	if report.question, err = parseAuditFlags(c); err != nil {
		return err
	}
	if err := a.openTarget(c, c.Args().Slice(), &report.analysisReport); err != nil {
		return err
	}
	files, err := a.openAuditFiles(c)
	if err != nil {
		return err
	}
	defer files.discard()
	if err := a.read(c.Context, true, &report.analysisEnd); err != nil {
		return err
	}
	if a.facts.Outside, err = a.outside(c.Context); err != nil {
		return err
	}
	phase := a.progress.Begin("adding up", "", 0)
	bill, err := audit.New(c.Context, a.facts, shownBlobs)
	phase.End("")
	if err != nil {
		return err
	}
	report.add(bill, a.facts.Outside)
	if err := report.compare(); err != nil {
		return err
	}
	if report.WhatIf, err = a.whatIf(c.Context, report.question.without); err != nil {
		return err
	}
	return files.save(c.Context, a.facts, bill, report)
}

// add adds the bill. The repositories are those that --match selects, in the order of --sort.
func (r *auditReport) add(bill *audit.Audit, outside audit.Outside) {
	r.bill = bill
	r.Bytes, r.Growth, r.Kinds, r.Blobs = bill.Bytes, bill.Growth, bill.Kinds, bill.Blobs
	r.NotCounted, r.Versioning = outside.NotCounted, outside.Versioning
	r.Match, r.all = r.question.match, len(bill.Repositories)
	r.Repositories = slices.DeleteFunc(slices.Clone(bill.Repositories), func(of audit.Repository) bool {
		return r.Match != "" && !doublestar.MatchUnvalidated(r.Match, of.Name)
	})
	slices.SortStableFunc(r.Repositories, audit.Orders[r.question.sort])
}

// whatIf returns what each choice would free.
func (a *analysis) whatIf(ctx context.Context, without []tagPattern) (choices []audit.WhatIf, err error) {
	hides := audit.HidesWhat(a.facts.Outside.Versioning) != ""
	add := func(choice string, live *mark.Live) {
		choices = append(choices, audit.WhatIf{Choice: choice, Bytes: a.facts.Freed(live), Hides: hides})
	}
	add("gc", a.facts.Live)
	untagged, err := a.live(ctx, mark.Roots{Revision: mark.None})
	if err != nil {
		return choices, err
	}
	add("gc -m", untagged)
	if len(without) == 0 {
		return choices, nil
	}
	isRemoved, count, err := selectTags(a.facts.Inventory, withoutName, without)
	if err != nil {
		return choices, err
	}
	roots := a.facts.Without(isRemoved)
	live, err := a.live(ctx, roots)
	if err != nil {
		return choices, err
	}
	roots.Revision = mark.None
	if untagged, err = a.live(ctx, roots); err != nil {
		return choices, err
	}
	texts := make([]string, len(without))
	for i, p := range without {
		texts[i] = p.text
	}
	tags, keep := "without "+human.Plural(count, "tag"), "they keep"
	if count == 1 {
		keep = "it keeps"
	}
	add(fmt.Sprintf("%s and what only %s: %s", tags, keep, strings.Join(texts, " ")), live)
	add(tags+", and gc -m", untagged)
	return choices, nil
}
