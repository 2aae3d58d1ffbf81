package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"

	"regsweep/audit"
	"regsweep/internal/human"
	"regsweep/storage"
)

const compareName = "compare"

// readOldAudit reads the JSON report of an older audit.
func readOldAudit(path string) (*auditReport, error) {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() { // a pipe could wait for ever, and a device never end
		err = fmt.Errorf("%s is not a regular file", path)
	}
	if err != nil {
		return nil, storage.Usagef("--%s: %w", compareName, err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, storage.Usagef("--%s: %w", compareName, err)
	}
	old := new(auditReport)
	if err := json.Unmarshal(content, old); err != nil {
		return nil, storage.Usagef("--%s: %s is not the JSON report of an audit: %w", compareName, path, err)
	}
	if old.Command != "audit" || old.Report != 1 || old.Time.IsZero() || old.Repositories == nil || old.ExitCode != exitDone {
		return nil, storage.Usagef("--%s: %s is not the JSON report of an audit that succeeded (regsweep audit --json)", compareName, path)
	}
	return old, nil
}

// compare adds the differences from the older audit of --compare.
func (r *auditReport) compare() error {
	old, path := r.question.old, r.question.compare
	switch {
	case old == nil:
		return nil
	case old.Storage != r.Storage:
		return storage.Usagef("--%s: %s is an audit of another storage: %s %s", compareName, path, old.Storage.Driver, old.Storage.Root)
	case old.Match != r.Match:
		return storage.Usagef("--%s: %s was made with --%s %q, and this audit with %q: their repositories differ", compareName, path, matchName, old.Match, r.Match)
	}
	comparison := audit.Compare(old.Time, old.Bytes, r.Bytes, old.Repositories, r.Repositories)
	r.Compare = &comparison
	return nil
}

// writeComparison prints what grew and what shrank.
func writeComparison(w *bytes.Buffer, c *audit.Comparison, limit, width int) {
	if c == nil {
		return
	}
	t := &human.Table{Columns: []human.Column{human.Left, human.Right, human.Right, human.Right, human.Left}, Omit: []int{1, 3}}
	t.Row("Since "+c.Since.UTC().Format("2006-01-02 15:04 UTC"), "TAGS", "BYTES", "UNIQUE", "")
	t.Row("  all blobs", "", signed(c.Bytes.Stored), "", "")
	t.Row("  garbage", "", signed(c.Bytes.Garbage), "", "")
	t.Row("  total", "", signed(c.Bytes.Total), "", "")
	shown := c.Repositories[:min(limit, len(c.Repositories))]
	for _, change := range shown {
		t.Row("  "+human.Printable(change.Name), fmt.Sprintf("%+d", change.Tags), signed(change.Bytes), signed(change.Unique), change.Is)
	}
	fmt.Fprintln(w)
	t.Write(w, width)
	writeRest(w, len(c.Repositories)-len(shown), "repository")
}

// signed writes a difference of sizes, such as "+1.5 KiB".
func signed(bytes int64) string {
	if bytes < 0 {
		return "-" + human.Size(-bytes)
	}
	return "+" + human.Size(bytes)
}
