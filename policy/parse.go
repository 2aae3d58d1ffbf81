package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"regsweep/internal/human"
	"regsweep/storage/layout"

	"go.yaml.in/yaml/v2"
)

// Parse parses a policy in YAML. An error is one line, with the name of the file and the number of the
// line. An unknown key is an error, and so is a rule that can never select anything.
func Parse(name string, content []byte) (*Policy, error) {
	if at := mergeKey.FindIndex(content); at != nil {
		return nil, fmt.Errorf("%s: line %d: the merge key << is not supported: it hides what a rule has", name, 1+bytes.Count(content[:at[0]], []byte("\n")))
	}
	p, file := &Policy{}, yaml.NewDecoder(bytes.NewReader(content))
	file.SetStrict(true)
	if err := file.Decode(p); err != nil && err != io.EOF {
		return nil, fmt.Errorf("%s: %s", name, oneLine(err))
	}
	if file.Decode(&Policy{}) != io.EOF {
		return nil, fmt.Errorf("%s: it has more than one document: remove the lines from the second --- on", name)
	}
	if p.Version != 1 {
		return nil, fmt.Errorf("%s: want version: 1, not %d", name, p.Version)
	}
	names := map[string]bool{}
	for i := range p.Rules {
		r := &p.Rules[i]
		if r.Name == "" {
			r.Name = fmt.Sprintf("rule %d", i+1)
		}
		if names[r.Name] {
			return nil, fmt.Errorf("%s: line %d: another rule is called %q too", name, r.line, r.Name)
		}
		names[r.Name] = true
	}
	return p, nil
}

// mergeKey matches YAML's merge key.
var mergeKey = regexp.MustCompile(`(?m)(?:^|[\s{,-])<<\s*:`)

// unmarshaler decodes a node of the file.
type unmarshaler = func(to any) error

// decode decodes a node and returns its line. It does not accept a key without a value: the parser would
// ignore it, and a rule whose tags are ignored selects all tags.
func decode(unmarshal unmarshaler, to any) (line int, err error) {
	line = lineOf(unmarshal)
	var pairs yaml.MapSlice
	if err := unmarshal(&pairs); err != nil {
		return line, errorAt(line, "want keys and values")
	}
	for _, pair := range pairs {
		if pair.Value == nil {
			return line, errorAt(line, "%v has no value", pair.Key)
		}
	}
	return line, unmarshal(to)
}

var linePattern = regexp.MustCompile(`^line (\d+): `)

// lineOf returns the line of a node. The parser says it only in its errors. No node is a channel.
func lineOf(unmarshal unmarshaler) (line int) {
	var failed *yaml.TypeError
	var node struct{}
	err := unmarshal(&node)
	if !errors.As(err, &failed) {
		var number int
		err = unmarshal(&number)
	}
	if errors.As(err, &failed) {
		if parts := linePattern.FindStringSubmatch(failed.Errors[0]); parts != nil {
			line, _ = strconv.Atoi(parts[1])
		}
	}
	return line
}

// errorAt returns an error that the parser passes on.
func errorAt(line int, format string, args ...any) error {
	return &yaml.TypeError{Errors: []string{fmt.Sprintf("line %d: ", line) + fmt.Sprintf(format, args...)}}
}

var (
	unknownKey   = regexp.MustCompile(`field (.*) not found in type policy\.\w+`)
	duplicateKey = regexp.MustCompile(`field (.*) already set in type policy\.\w+`)
	wrongValue   = regexp.MustCompile("cannot unmarshal !!\\w+ (?:`(.*)` )?into \\S+")
)

// oneLine returns the first error of the parser, in the words of the file's format.
func oneLine(err error) string {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if failed := (*yaml.TypeError)(nil); errors.As(err, &failed) {
		text = failed.Errors[0]
	}
	if parts := unknownKey.FindStringSubmatch(text); parts != nil && strings.Contains(parts[1], "pull") {
		return unknownKey.ReplaceAllString(text, "there is no key $1: a storage does not say when an image was pulled")
	}
	text = unknownKey.ReplaceAllString(text, "there is no key $1 here")
	text = duplicateKey.ReplaceAllString(text, "the key $1 is there twice")
	text = wrongValue.ReplaceAllString(text, "the value $1 has the wrong form")
	return strings.Join(strings.Fields(text), " ")
}

// UnmarshalYAML implements yaml.Unmarshaler.
func (p *Policy) UnmarshalYAML(unmarshal func(any) error) error {
	type plain Policy
	*p = Policy{Floor: Floor{KeepNewest: 1, MaxShare: 1}, Time: Pushed}
	line, err := decode(unmarshal, (*plain)(p))
	if err != nil {
		return err
	}
	// The parser makes an empty item the zero value: a rule that selects everything.
	var raw map[string]any
	if err := unmarshal(&raw); err != nil {
		return err
	}
	for _, key := range []string{"rules", "protect"} {
		if items, _ := raw[key].([]any); slices.Contains(items, nil) {
			return errorAt(line, "an item of %s is empty", key)
		}
	}
	return nil
}

// UnmarshalYAML implements yaml.Unmarshaler.
func (p *Protection) UnmarshalYAML(unmarshal func(any) error) error {
	type plain Protection
	line, err := decode(unmarshal, (*plain)(p))
	switch {
	case err != nil:
		return err
	case p.Repositories == nil && p.Tags == nil && p.Digests == "":
		return errorAt(line, "an entry of protect needs repositories, tags or digests")
	}
	return canMatch(p.Repositories, p.Tags)
}

// UnmarshalYAML implements yaml.Unmarshaler.
func (r *Rule) UnmarshalYAML(unmarshal func(any) error) (err error) {
	type plain Rule
	r.line, err = decode(unmarshal, (*plain)(r))
	if err == nil {
		err = canMatch(r.Repositories, r.Tags)
	}
	isVersion := func(p Pattern) bool { return p.isOpen() || version(p.text) != nil }
	switch {
	case err != nil:
		return err
	case slices.Contains([]string{ByProtection, ByFloor, ByFree, ByAge, ByDamage}, r.Name):
		return errorAt(r.line, "a rule can't be called %s: the report uses this name for another reason", r.Name)
	case r.KeepSemver != nil && r.Tags != nil && !slices.ContainsFunc(r.Tags, isVersion):
		return errorAt(r.line, "the rule never selects a tag: keep-semver selects only versions such as 1.2.3 and v1.2.3, and no pattern in tags matches one")
	}
	return nil
}

// UnmarshalYAML implements yaml.Unmarshaler.
func (s *Semver) UnmarshalYAML(unmarshal func(any) error) error {
	type plain Semver
	line, err := decode(unmarshal, (*plain)(s))
	if err == nil && s.Per != "" && s.Per != "major" && s.Per != "minor" {
		return errorAt(line, "per is major or minor, not %q", s.Per)
	}
	return err
}

// UnmarshalYAML implements yaml.Unmarshaler.
func (u *Untagged) UnmarshalYAML(unmarshal func(any) error) error {
	type plain Untagged
	_, err := decode(unmarshal, (*plain)(u))
	return err
}

// UnmarshalYAML implements yaml.Unmarshaler.
func (f *Floor) UnmarshalYAML(unmarshal func(any) error) error {
	type plain Floor
	_, err := decode(unmarshal, (*plain)(f))
	return err
}

// UnmarshalYAML implements yaml.Unmarshaler.
func (b *Basis) UnmarshalYAML(unmarshal func(any) error) error {
	err := unmarshal((*string)(b))
	if err == nil && *b != Pushed && *b != Created {
		return errorAt(lineOf(unmarshal), "time is pushed or created, not %q", string(*b))
	}
	return err
}

// UnmarshalYAML implements yaml.Unmarshaler.
func (c *Count) UnmarshalYAML(unmarshal func(any) error) error {
	var text string
	err := unmarshal(&text)
	n, wrong := strconv.Atoi(text)
	if err != nil || wrong != nil || n < 0 || strconv.Itoa(n) != text { // 0.9 and 010 are numbers to YAML
		return errorAt(lineOf(unmarshal), "want a number of tags")
	}
	*c = Count(n)
	return nil
}

// UnmarshalYAML implements yaml.Unmarshaler.
func (s *Share) UnmarshalYAML(unmarshal func(any) error) error {
	var text string
	err := unmarshal(&text)
	number, isPercent := strings.CutSuffix(text, "%")
	percent, wrong := strconv.ParseFloat(number, 64)
	if err != nil || !isPercent || wrong != nil || !(percent >= 0 && percent <= 100) {
		return errorAt(lineOf(unmarshal), "want a share such as 50%%, not %q", text)
	}
	*s = Share(percent / 100)
	return nil
}

// UnmarshalYAML implements yaml.Unmarshaler.
func (a *Age) UnmarshalYAML(unmarshal func(any) error) error {
	var text string
	err := unmarshal(&text)
	d, wrong := human.ParseAge(text)
	if err != nil || wrong != nil {
		return errorAt(lineOf(unmarshal), "want an age such as 36h or 30d, not %q", text)
	}
	*a = Age(d)
	return nil
}

// UnmarshalYAML implements yaml.Unmarshaler.
func (p *Patterns) UnmarshalYAML(unmarshal func(any) error) error {
	if err := unmarshal((*[]Pattern)(p)); err != nil {
		return err
	}
	if len(*p) == 0 {
		return errorAt(lineOf(unmarshal), "an empty list matches nothing")
	}
	return nil
}

// UnmarshalYAML implements yaml.Unmarshaler.
func (p *Pattern) UnmarshalYAML(unmarshal func(any) error) error {
	line, text := lineOf(unmarshal), ""
	err := unmarshal(&text)
	if err != nil {
		return errorAt(line, "want a pattern")
	}
	if *p, err = NewPattern(text); err != nil {
		return errorAt(line, "%q is no pattern: %v", text, err)
	}
	p.line = line
	return nil
}

// tagName matches the names that a tag can have.
// Source: the OCI distribution specification, "Pulling manifests".
var tagName = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)

// canMatch returns an error for a pattern that never matches, because no repository or tag has such a name.
func canMatch(repositories, tags Patterns) error {
	for _, p := range repositories {
		if p.expression == nil && strings.ContainsAny(p.text, ":@ ") || !p.isOpen() && !layout.ValidRepository(p.text) {
			return errorAt(p.line, "%q matches no repository: want a name such as team/app, without a host and without a tag", p.text)
		}
	}
	for _, p := range tags {
		_, follows := Subject(p.text)
		switch {
		case p.expression == nil && strings.ContainsAny(p.text, "/:@ "), !p.isOpen() && !tagName.MatchString(p.text):
			return errorAt(p.line, "%q matches no tag: want a name such as latest or pr-*", p.text)
		case follows:
			return errorAt(p.line, "%q matches no tag: it follows the manifest in its name", p.text)
		}
	}
	return nil
}
