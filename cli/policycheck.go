package cli

import (
	"bytes"
	"fmt"
	"slices"

	"regsweep/internal/human"
	"regsweep/inventory"
	"regsweep/policy"
	"regsweep/storage"

	urfave "github.com/urfave/cli/v2"
)

func policyCommand(r *runner) *urfave.Command {
	return &urfave.Command{
		Name:               "policy",
		Usage:              "check a policy for gc --policy",
		ArgsUsage:          "check …",
		CustomHelpTemplate: commandHelp,
		Description: `COMMANDS:
   regsweep policy check FILE           whether the policy is valid
   regsweep policy check FILE TARGET    how many tags each rule selects and protect matches
`,
		Subcommands: []*urfave.Command{{
			Name:               "check",
			Usage:              "say whether a policy is valid, and how much it selects and protects in a registry",
			ArgsUsage:          "FILE [TARGET]",
			Flags:              slices.Concat([]urfave.Flag{jsonFlag(), toggle("quiet", "print no progress", "q")}, limitFlags()),
			CustomHelpTemplate: commandHelp,
			OnUsageError:       usageError,
			Action:             r.policyCheck,
			Description:        targetHelp + "\n   Without a target only the file is checked. It lists names, and reads and removes nothing.\n",
		}},
	}
}

// policyCheckReport is the report of policy check.
type policyCheckReport struct {
	analysisReport
	File    string             `json:"file"`
	Rules   []policy.RuleCount `json:"rules"`
	Protect []protectionReport `json:"protect"`
	ending

	unused []string
}

type protectionReport struct {
	policy.ProtectionCount
	List *rootsReport `json:"list,omitempty"` // nil without digests
}

func (r *runner) policyCheck(c *urfave.Context) error {
	report := &policyCheckReport{analysisReport: analysisReport{Report: 1, Command: "policy check"}, File: c.Args().First(), Rules: []policy.RuleCount{}, Protect: []protectionReport{}}
	err := withCause(c.Context, r.countRules(c, report))
	if c.Bool(jsonName) {
		return r.writeJSON(report, err)
	}
	if err != nil {
		return err
	}
	return r.writeText(func(w *bytes.Buffer, width int) { writeRules(w, report, c.NArg() > 1, width) }, nil)
}

func (r *runner) countRules(c *urfave.Context, report *policyCheckReport) error {
	if c.NArg() == 0 {
		return storage.Usagef("policy check: name the policy, as in regsweep policy check policy.yml config.yml")
	}
	p, err := r.loadPolicy(c, report.File)
	if err != nil || c.NArg() == 1 {
		return err
	}
	r.startProgress(c.Bool("quiet"))
	conf, store, err := r.target(c, c.Args().Tail(), false)
	if err != nil {
		return err
	}
	report.Storage, report.Config = store.Identity(), conf.File
	inv, err := inventory.Take(c.Context, store, inventory.Options{Concurrency: store.Concurrency()})
	if err != nil {
		return storage.ExplainPermission(store, err)
	}
	report.Rules, report.unused = p.Count(inv), p.Unused(inv)
	for i, count := range p.CountProtected(inv) {
		of := protectionReport{ProtectionCount: count}
		if list := p.lists[i]; list != nil {
			of.List = newRootsReport(list, list.Find(inv))
		}
		report.Protect = append(report.Protect, of)
	}
	return nil
}

// writeRules prints how much each rule selects, and what protect matches.
func writeRules(w *bytes.Buffer, r *policyCheckReport, hasTarget bool, width int) {
	fmt.Fprintf(w, "%s is valid.\n", human.Printable(r.File))
	if !hasTarget {
		return
	}
	t := &human.Table{Columns: []human.Column{human.Left, human.Right, human.Right, human.Right}}
	t.Row("Rule", "TAGS", "REPOSITORIES", "UNTAGGED IN REPOSITORIES")
	for _, rule := range r.Rules {
		t.Row("  "+human.Printable(rule.Rule), human.Count(rule.Tags), human.Count(rule.Repositories), human.Count(rule.Untagged))
	}
	fmt.Fprintln(w)
	t.Write(w, width)
	var lists []*rootsReport
	t = &human.Table{Columns: []human.Column{human.Left, human.Right, human.Right, human.Right}}
	t.Row("Protect", "TAGS", "REPOSITORIES", "ENTRIES FOUND")
	for _, of := range r.Protect {
		if entry := "  " + human.Printable(of.Entry); of.List == nil {
			t.Row(entry, human.Count(of.Tags), human.Count(of.Repositories), "")
		} else { // the names alone do not say which tags the list protects
			lists = append(lists, of.List)
			t.Row(entry, "", "", human.Count(of.List.Found)+" of "+human.Count(of.List.Entries))
		}
	}
	if len(r.Protect) > 0 {
		fmt.Fprintln(w)
		t.Write(w, width)
	}
	writeNotStored(w, lists...)
	for i, text := range r.unused {
		if i == 0 {
			fmt.Fprintln(w)
		}
		for _, line := range human.Wrap("Warning: "+human.Printable(text)+".", width) {
			fmt.Fprintln(w, line)
		}
	}
}
