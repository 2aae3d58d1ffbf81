package cli

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"regsweep/audit"
	"regsweep/internal/human"
	"regsweep/inventory"
	"regsweep/storage"
	"regsweep/verify"

	"github.com/opencontainers/go-digest"
	urfave "github.com/urfave/cli/v2"
)

const (
	readDataName   = "read-data"
	maxAgeName     = "max-age"
	failedTagsName = "failed-tags"

	// allData is the value of --read-data without one.
	allData = "100%"
)

func verifyCommand(r *runner) *urfave.Command {
	flags := []urfave.Flag{
		&urfave.GenericFlag{Name: readDataName, Value: &dataShare{}, Usage: "also read the content of blobs: all, or a `SHARE`, another one in each run: =5%, =50GB or =30m"},
		&urfave.GenericFlag{Name: maxAgeName, Value: &age{}, Usage: "say which content was not read for `AGE`, such as 90d"},
		toggle(failedTagsName, "print only the tags that can't be pulled, one REPO:TAG a line"),
	}
	return &urfave.Command{
		Name:               "verify",
		Usage:              "find the images that can't be pulled, and say why",
		ArgsUsage:          "TARGET",
		Flags:              slices.Concat(flags, repairFlags(), analysisFlags()),
		CustomHelpTemplate: commandHelp,
		OnUsageError:       usageError,
		Action:             r.verify,
		Description: targetHelp + `
   Without --read-data it checks that every link, every manifest and every blob is there, that each
   manifest has its digest, and that each blob has the size that its manifests say. It only reads, and
   needs neither a lock nor a registry that is read-only. The exit code is 0 if all is intact, and 4 if
   there is a finding.

   A repair needs the same proof as gc: the registry is read-only, or it is stopped. Each repair is checked
   before and after. Damaged blobs and tags go to a quarantine.
     links         writes missing and damaged links of which the blob is there and intact
     blobs         moves damaged blobs away, so that the next push stores them again
     untag-broken  removes the tags of which nothing can be pulled

EXAMPLES:
   regsweep verify config.yml                       what is missing or damaged?
   regsweep verify --read-data=30m config.yml       each night the next part of the content
   regsweep verify --failed-tags config.yml         for scripts
   regsweep verify --repair=links --refill https://mirror.example.com config.yml
                                                    write links again, fetch what is missing
`,
	}
}

// dataShare is the value of --read-data.
type dataShare struct {
	verify.Share
	text string
}

// Set implements urfave.Generic.
func (s *dataShare) Set(text string) error {
	share, err := verify.ParseShare(text)
	if err == nil {
		*s = dataShare{share, text}
	}
	return err
}

// String implements urfave.Generic.
func (s *dataShare) String() string { return s.text }

// verifyReport is the report of verify.
type verifyReport struct {
	analysisReport
	Checked checkedReport `json:"checked"`
	// Data is nil without --read-data.
	Data     *verify.Data      `json:"data,omitempty"`
	Findings []*verify.Finding `json:"findings"`
	Broken   []brokenTag       `json:"failed_tags"`
	// Repairs is nil without --repair and --refill.
	Repairs *repairReport `json:"repairs,omitempty"`
	analysisEnd

	checked     bool // the findings are those of a check
	tags        int
	failedTags  bool
	interrupted bool // the content was not read to the end
}

// checkedReport counts what was checked.
type checkedReport struct {
	Manifests int   `json:"manifests"`
	Blobs     int   `json:"blobs"`
	Bytes     int64 `json:"bytes"` // of the blobs
}

// brokenTag is a tag that can't be pulled.
type brokenTag struct {
	Repository string `json:"repository"`
	Tag        string `json:"tag"`
	Partial    bool   `json:"partial"` // some of its images can be pulled
}

func newVerifyReport() *verifyReport {
	return &verifyReport{
		analysisReport: analysisReport{Report: 1, Command: "verify"},
		Findings:       []*verify.Finding{}, Broken: []brokenTag{},
		analysisEnd: analysisEnd{Problems: []inventory.Problem{}},
	}
}

func (r *runner) verify(c *urfave.Context) error {
	report := newVerifyReport()
	report.failedTags = c.Bool(failedTagsName)
	err := r.analyse(c.Context, &report.analysisEnd, func(a *analysis) error { return a.verify(c, report) })
	if err == nil && report.left() > 0 {
		err = reportedError{errProblems}
	}
	switch {
	case c.Bool(jsonName):
		return r.writeJSON(report, err)
	case err != nil && !report.checked:
		return err
	}
	return r.writeText(human.Folded(func(w *bytes.Buffer, width int) { writeVerify(w, report, width) }), err)
}

// verify opens the target, and checks it or repairs it.
func (a *analysis) verify(c *urfave.Context, report *verifyReport) error {
	args := c.Args().Slice()
	if len(args) > 1 && (&dataShare{}).Set(args[0]) == nil {
		return storage.Usagef("--%s %s: a share needs the sign =, as in --%s=%s", readDataName, args[0], readDataName, args[0])
	}
	if err := a.openTarget(c, args, &report.analysisReport); err != nil {
		return err
	}
	a.record, a.cache = a.cache, cacheOptions{off: true} // manifests are checked too
	repair, err := a.readRepair(c)
	switch {
	case err != nil:
		return err
	case repair != nil:
		return repair.run(c, report)
	}
	_, err = a.check(c.Context, c, report, nil)
	return err
}

// check does the steps of a check in their order: list, read the manifests, read the links, read the content, judge,
// and look again at what was found. doubtful are blobs that a check before has found to be damaged; the check after
// a repair reads no other content.
func (a *analysis) check(ctx context.Context, c *urfave.Context, report *verifyReport, doubtful []digest.Digest) (*verify.Result, error) {
	began := a.env.Now()
	if err := a.readGraph(ctx, true, &report.analysisEnd); err != nil {
		return nil, err
	}
	inv, graph := a.facts.Inventory, a.facts.Graph
	phase := a.progress.Begin("reading links", "link", 0)
	links, err := verify.ReadLinks(ctx, inv, graph, a.store, a.store.Concurrency(), phase.Add)
	phase.EndWith("read", err)
	if err != nil {
		return nil, err
	}
	faults := map[inventory.ID]verify.Fault{}
	if err := verify.CheckFiles(ctx, inv, graph, a.store, doubtful, faults, a.store.Concurrency()); err != nil {
		return nil, err
	}
	var interrupted error
	if doubtful == nil {
		if interrupted = a.readData(c, report, faults); interrupted != nil && ctx.Err() == nil {
			return nil, interrupted
		}
	}
	if report.interrupted = interrupted != nil; report.interrupted {
		ctx = context.WithoutCancel(ctx) // the results so far are shown
	}
	result, err := verify.Judge(ctx, verify.Facts{Inventory: inv, Graph: graph, Links: links, Blobs: faults})
	if err == nil {
		err = result.Confirm(ctx, inv, a.store, began, a.store.Concurrency())
	}
	if err == nil {
		err = result.AddPlatforms(ctx, inv, graph, a.store, a.store.Concurrency())
	}
	if err != nil {
		return nil, err
	}
	report.show(result, inv)
	report.Checked.Manifests = 0
	for range graph.Manifests() {
		report.Checked.Manifests++
	}
	return result, interrupted
}

// readData reads the content that --read-data names.
func (a *analysis) readData(c *urfave.Context, report *verifyReport, faults map[inventory.ID]verify.Fault) error {
	maxAge := c.Generic(maxAgeName).(*age).Duration
	if !c.IsSet(readDataName) && maxAge == 0 {
		return nil
	}
	options := verify.DataOptions{
		Share: c.Generic(readDataName).(*dataShare).Share, MaxAge: maxAge, None: !c.IsSet(readDataName),
		Concurrency: a.store.Concurrency(), Now: a.env.Now,
	}
	if _, isFilesystem := a.store.(storage.DirTimes); isFilesystem && !c.IsSet("concurrency") {
		options.Streams = runtime.GOMAXPROCS(0) // more would only move the heads of a disk
	}
	if dir := a.cacheDir(a.record); dir != "" {
		var err error
		if options.Record, err = verify.OpenRecord(dir, a.facts.Inventory, a.env.Now()); err != nil {
			a.say("warning: " + err.Error())
		}
	}
	phase := a.progress.Begin("reading", "blob", 0)
	options.OnExpect, options.OnRead = phase.ExpectContent, phase.AddBytes
	data, err := verify.ReadData(c.Context, a.facts.Inventory, a.store, faults, options)
	phase.EndWith("read", err)
	if failure := options.Record.Failure(); failure != nil {
		a.say("warning: " + failure.Error())
	}
	report.Data = &data
	return err
}

// show puts the result into the report.
func (r *verifyReport) show(result *verify.Result, inv *inventory.Inventory) {
	r.checked = true
	r.Findings = append([]*verify.Finding{}, result.Findings...)
	r.Broken, r.Checked, r.tags = []brokenTag{}, checkedReport{Manifests: r.Checked.Manifests}, 0
	for _, b := range result.Broken {
		r.Broken = append(r.Broken, brokenTag{b.Repository, b.Tag, b.Partial})
	}
	r.Checked.Blobs = inv.Blobs()
	for _, bytes := range inv.Sizes() {
		r.Checked.Bytes += max(bytes, 0)
	}
	for _, of := range inv.Repositories {
		r.tags += len(of.Tags)
	}
}

// left counts the findings that were not repaired.
func (r *verifyReport) left() (n int) {
	for _, f := range r.Findings {
		if !f.Repaired {
			n++
		}
	}
	return n
}

// shownFindings is the number of findings in the text. The JSON report has all.
const shownFindings = 50

func writeVerify(w *bytes.Buffer, r *verifyReport, width int) {
	if r.failedTags {
		for _, b := range r.Broken {
			fmt.Fprintf(w, "%s\n", human.Printable(b.Repository+":"+b.Tag))
		}
		return
	}
	writeConfig(w, r.Config, r.notRead, width)
	fmt.Fprintf(w, "Checked %s, %s and %s of %s.\n", human.Plural(r.tags, "tag"), human.Plural(r.Checked.Manifests, "manifest"),
		human.Plural(r.Checked.Blobs, "blob"), human.Size(r.Checked.Bytes))
	if r.Data == nil {
		fmt.Fprintln(w, "The content of layers and configs was not read: --read-data reads it.")
	} else {
		writeData(w, r)
	}
	if r.Repairs != nil {
		writeRepairs(w, r.Repairs)
	}
	left := r.left()
	switch n := len(r.Broken); {
	case left == 0 && r.interrupted:
		fmt.Fprintln(w, "Nothing is wrong so far.")
	case left == 0:
		fmt.Fprintln(w, "All is intact.")
	case n == 0:
		fmt.Fprintf(w, "%s; all tags can be pulled: exit code %d.\n", human.Plural(left, "finding"), exitProblems)
	default:
		fmt.Fprintf(w, "%s CAN'T BE PULLED; %s: exit code %d.\n", strings.ToUpper(human.Plural(n, "tag")), human.Plural(left, "finding"), exitProblems)
	}
	writeFindings(w, r.Findings, width)
}

// writeData prints how much content is known to be intact.
func writeData(w *bytes.Buffer, r *verifyReport) {
	amount := func(a verify.Amount) string {
		return human.Plural(a.Blobs, "blob") + " of " + human.Size(a.Bytes)
	}
	fmt.Fprintf(w, "Read the content of %s", amount(r.Data.Read))
	if r.Data.Earlier.Blobs > 0 {
		fmt.Fprintf(w, "; earlier runs have read %s", amount(r.Data.Earlier))
	}
	if r.Data.Overdue.Blobs > 0 {
		fmt.Fprintf(w, "; not read yet, or too long ago: %s", amount(r.Data.Overdue))
	}
	fmt.Fprintln(w, ".")
}

// writeFindings prints a table, with what breaks a tag first.
func writeFindings(w *bytes.Buffer, findings []*verify.Finding, width int) {
	t := &human.Table{Columns: []human.Column{human.Left, human.Left, human.Left, human.Prose}}
	group := ""
	flush := func() {
		if group != "" {
			fmt.Fprintf(w, "\n%s\n", group)
			t.Write(w, width)
			t = &human.Table{Columns: t.Columns}
		}
	}
	for i, f := range findings {
		if i == shownFindings {
			flush()
			fmt.Fprintf(w, "and %s more: see --json\n", human.Count(len(findings)-i))
			return
		}
		of := "These break no tag"
		switch {
		case f.Repaired:
			of = "These were repaired"
		case len(f.Tags) > 0:
			of = "These break tags"
		}
		if of != group {
			flush()
			group = of
		}
		t.Row("  "+string(f.Kind), human.Printable(f.Repository), human.Printable(broken(f)), human.Printable(aboutFinding(f)))
	}
	flush()
}

// aboutFinding says what is damaged. The report has the whole digests.
func aboutFinding(f *verify.Finding) string {
	text := f.Path + ": " + f.Detail
	if f.Digest != "" {
		text = string(f.Digest) + ": " + f.Detail
	}
	return digest.DigestRegexp.ReplaceAllStringFunc(text, func(d string) string { return audit.Short(digest.Digest(d)) })
}

// broken names the tags that a finding breaks, and the platforms of the images that are not whole.
func broken(f *verify.Finding) string {
	var platforms []string
	for _, image := range f.Images {
		if image.Platform != "" && !slices.Contains(platforms, image.Platform) {
			platforms = append(platforms, image.Platform)
		}
	}
	if len(platforms) == 0 {
		return few(f.Tags)
	}
	return strings.TrimSpace(few(f.Tags) + " (" + few(platforms) + ")")
}

// few names the first of some names.
func few(names []string) string {
	if n := len(names) - shownTags; n > 0 {
		return strings.Join(names[:shownTags], ", ") + " and " + human.Count(n) + " more"
	}
	return strings.Join(names, ", ")
}

// cacheDir returns the directory of the cache, or "" if nothing is to be remembered.
func (r *runner) cacheDir(o cacheOptions) string {
	switch {
	case o.off, !o.given && r.env.CacheDir == "":
		return ""
	case o.given:
		return o.dir
	}
	return filepath.Join(r.env.CacheDir, "regsweep")
}
