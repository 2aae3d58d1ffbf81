package cli

import (
	"bytes"
	"context"
	"io"

	"regsweep/audit"
	"regsweep/storage"

	urfave "github.com/urfave/cli/v2"
)

const (
	ncduName = "ncdu"
	htmlName = "html"
)

// The kinds of files that audit writes. It replaces only its own files. Others may read them, as far as
// the user's umask says so.
var (
	ncduKind = fileKind{"file for ncdu", "a file that --" + ncduName + " wrote", 0o666, func(line []byte) bool {
		return bytes.HasPrefix(line, []byte(audit.NcduStart))
	}}
	htmlKind = fileKind{"page", "a page that --" + htmlName + " wrote", 0o666, func(line []byte) bool {
		return bytes.HasPrefix(line, []byte(audit.PageStart()))
	}}
)

// auditFiles are the files of --ncdu and --html. They are nil without these flags.
type auditFiles struct{ ncdu, html *outputFile }

func auditFileFlags() []urfave.Flag {
	return []urfave.Flag{
		&urfave.StringFlag{Name: htmlName, Usage: "write a page that a browser opens offline to `FILE`; - is standard output"},
		&urfave.StringFlag{Name: ncduName, Usage: "write what ncdu -f reads to `FILE`; - is standard output"},
	}
}

// openAuditFiles makes the temporary files.
func (r *runner) openAuditFiles(c *urfave.Context) (files auditFiles, err error) {
	open := func(name string, kind fileKind) (*outputFile, error) {
		if !c.IsSet(name) {
			return nil, nil
		}
		return r.openOutput("--"+name, c.String(name), kind, c.Bool(jsonName))
	}
	if files.ncdu, err = open(ncduName, ncduKind); err == nil {
		files.html, err = open(htmlName, htmlKind)
	}
	switch {
	case err != nil:
	case files.ncdu.isOutput() && files.html.isOutput():
		err = storage.Usagef("--%s and --%s would both write to standard output: give one of them a file", ncduName, htmlName)
	case files.ncdu.isSame(files.html):
		err = storage.Usagef("--%s and --%s name the same file: %s", ncduName, htmlName, c.String(htmlName))
	case files.isOutput() && c.Bool(csvName):
		err = storage.Usagef("--%s would write to standard output too: give the other flag a file", csvName)
	}
	if err != nil {
		files.discard()
	}
	return files, err
}

// isOutput reports whether one of the files is standard output.
func (f auditFiles) isOutput() bool { return f.ncdu.isOutput() || f.html.isOutput() }

func (f auditFiles) discard() {
	f.ncdu.discard()
	f.html.discard()
}

// save writes the files. Both have all repositories, also with --match.
func (f auditFiles) save(ctx context.Context, facts audit.Facts, bill *audit.Audit, report *auditReport) error {
	if f.ncdu == nil && f.html == nil {
		return nil
	}
	keepers, err := audit.NewKeepers(ctx, facts)
	if err != nil {
		return err
	}
	err = f.ncdu.save(func(w io.Writer) error { return keepers.WriteNcdu(ctx, w, bill.Bytes) })
	if err != nil {
		return err
	}
	return f.html.save(func(w io.Writer) error {
		return keepers.WritePage(w, audit.Page{
			Time: report.Time.UTC(), Bytes: bill.Bytes, Growth: bill.Growth, Ladder: report.Bytes.Ladder(report.NotCounted), Kinds: bill.Kinds, Blobs: bill.Blobs,
			WhatIf: report.WhatIf, Problems: report.Problems, Repositories: bill.Repositories,
		})
	})
}
