package main

import (
	"fmt"
	"strings"
)

// markdown is RESULTS.md.
func (r Results) markdown() string {
	var b strings.Builder
	b.WriteString(`# What regsweep takes, and what the others do

Written by ` + "`make bench`" + `; results.json has every single run. All programs of a table ran in
turn, on the same data, on the same machine, and what takes less than two seconds several times
in its turn. Times are medians, with the fastest and the slowest run; memory is the peak of
resident memory. "Least work" is bench/floor, a bare program that lists the names and reads the
links and manifests that a correct mark needs, and does nothing with them.

regsweep's figures are compared with those of the generator in every run, and must be equal.
What the releases of the registry find differs with ` + "`-m`" + `: they remove signatures and other
referrers of tagged images, and 2.8 the entries of indexes too.

## Targets

| Target | Measured | Met |
|---|--:|---|
`)
	for _, v := range r.verdicts() {
		measured, met := "–", "not measured"
		if v.Measured != "" {
			measured, met = v.Measured, "**no**"
			if v.Met {
				met = "yes"
			}
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", v.Target, measured, met)
	}
	return b.String() + r.sections()
}

// sections is what was measured, without the targets: they are set for full sizes.
func (r Results) sections() string {
	var b strings.Builder
	for _, name := range sectionNames {
		if section, found := r.Sections[name]; found {
			section.markdown(&b, name)
		}
	}
	return b.String()
}

func (s Section) markdown(b *strings.Builder, name string) {
	fmt.Fprintf(b, "\n## %s\n\n", s.Title)
	fmt.Fprintf(b, "%s repositories, %s tags, %s blobs, %s distinct manifests among them; %s files or objects.\n",
		number(s.Size.Repositories), number(s.Size.Tags), number(s.Size.Blobs), number(s.Size.Manifests), number(s.Size.Files))
	for _, note := range s.Notes {
		fmt.Fprintf(b, "%s\n", note)
	}
	fmt.Fprintf(b, "\n%s, %s. Again: `%s`\n", s.Date, s.Machine, again(s.Flags, name))
	for _, c := range s.Cases {
		c.markdown(b)
	}
}

// again is the command that measures a section as it was.
func again(flags, section string) string {
	fields := []string{}
	for _, flag := range strings.Fields(flags) {
		if !strings.HasPrefix(flag, "-only=") {
			fields = append(fields, flag)
		}
	}
	for i, flag := range fields {
		if (flag == "-only" || flag == "--only") && i+1 < len(fields) {
			fields = append(fields[:i], fields[i+2:]...)
			break
		}
	}
	return fmt.Sprintf("make bench BENCHFLAGS=%q", strings.Join(append(fields, "-only", section), " "))
}

// String is the machine in a sentence.
func (m Machine) String() string {
	var known []string
	add := func(text string, isKnown bool) {
		if isKnown {
			known = append(known, text)
		}
	}
	add(m.CPU, m.CPU != "")
	add(fmt.Sprintf("%d cores", m.Cores), true)
	add(fmt.Sprintf("%.0f GiB of memory", float64(m.Memory)/(1<<30)), m.Memory > 0)
	add(m.Kernel, m.Kernel != "")
	add(m.Filesystem, m.Filesystem != "")
	add("Go "+m.Go, true)
	return strings.Join(known, ", ")
}

func (c Case) markdown(b *strings.Builder) {
	fmt.Fprintf(b, "\n### %s\n\n", c.Title)
	b.WriteString("| | median | fastest – slowest | runs | against regsweep | processor | peak memory | blobs and manifests to go |\n|---|--:|--:|--:|--:|--:|--:|--:|\n")
	for _, p := range c.Programs {
		if len(p.Runs) == 0 {
			fmt.Fprintf(b, "| %s | %s | | | | | | |\n", p.Name, p.Skipped)
			continue
		}
		against, found := "", fmt.Sprintf("%s, %s", number(p.Found.Blobs), number(p.Found.Manifests))
		if times, known := c.times(p.Name, nameRegsweep); known && p.Name != nameRegsweep {
			against = factor(times)
		}
		if p.Name == nameFloor {
			found = ""
		}
		fmt.Fprintf(b, "| %s | %s | %s – %s | %d | %s | %s | %s | %s |\n", p.Name, duration(p.seconds()),
			duration(p.fastest()), duration(p.slowest()), len(p.Runs), against, duration(p.cpuSeconds()), megabytes(p.peak()), found)
	}
	c.requests(b)
	b.WriteString("\n")
	for _, p := range c.Programs {
		if len(p.Runs) > 0 {
			fmt.Fprintf(b, "%s: `%s`  \n", p.Name, p.Line)
		}
	}
}

// requests tells the requests by kind: those that the proxy counted or, on a
// filesystem, what regsweep counted itself.
func (c Case) requests(b *strings.Builder) {
	const header = "\n| requests | all | list | get | of them links | head | put | delete | most at once |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|\n"
	row := func(name string, r Requests) {
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s | %s | %s | %s |\n", name, number(int(r.Total())), number(int(r.List)),
			number(int(r.Get)), number(int(r.Links)), number(int(r.Head)), number(int(r.Put)), number(int(r.Delete)), number(int(r.AtOnce)))
	}
	told := false
	for _, p := range c.Programs {
		requests, counted := p.requests()
		if !counted {
			continue
		}
		if !told {
			b.WriteString(header)
			told = true
		}
		row(p.Name, requests)
	}
	if p, found := c.program(nameRegsweep); found && !told && p.Found.Requests != nil {
		own := p.Found.Requests
		fmt.Fprintf(b, "\nregsweep read %s directories and %s files, looked at %s and removed %s.\n",
			number(int(own.List)), number(int(own.Get)), number(int(own.Head)), number(int(own.Delete)))
	}
}
