package policy

import (
	"os"
	"regexp"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v2"
)

// The JSON Schema accepts what Parse accepts, and refuses unknown keys and values of a wrong form.
func TestTheSchemaAgreesWithTheParser(t *testing.T) {
	schema, err := jsonschema.NewCompiler().Compile("../docs/policy.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	valid := []string{
		example, "version: 1", "version: 1\nrules: [{name: 5, tags: [1.10, true]}, {name: no, tags: [a], untagged: {older-than: 0h}, keep-last: 3}]",
		"version: 1\nprotect: [{digests: 5}]", "version: 1\nrules: [{older-than: '1.5h3.s2µs'}]",
	}
	for _, file := range []string{"policies.md", "policies-from-others.md"} {
		documentation, err := os.ReadFile("../docs/" + file)
		if err != nil {
			t.Fatal(err)
		}
		for _, parts := range regexp.MustCompile("(?ms)^```yaml\n(.*?)^```").FindAllStringSubmatch(string(documentation), -1) {
			valid = append(valid, parts[1])
		}
	}
	if len(valid) < 18 {
		t.Errorf("the documentation has only the policies %q", valid)
	}
	for _, content := range valid {
		if _, err := Parse("policy.yml", []byte(content)); err != nil {
			t.Errorf("%s\n%v", content, err)
		}
		if err := schema.Validate(asJSON(t, content)); err != nil {
			t.Errorf("%s\n%v", content, err)
		}
	}
	for _, content := range []string{
		"version: 2", "rules: []", "version: 1\nrule: []", "version: 1\nrules: [{keep_last: 1}]", "version: 1\nrules: [{tags: latest}]",
		"version: 1\nrules: [{tags: []}]", "version: 1\nrules: [{tags: ['']}]", "version: 1\nrules: [{keep-last: -1}]", "version: 1\nrules: [{older-than: 90}]",
		"version: 1\nrules: [{name: floor}]", "version: 1\nrules: [{name: roots}]", "version: 1\nrules: [{keep-semver: {per: patch}}]", "version: 1\nprotect: [{}]",
		"version: 1\nfloor: {max-share: 50}", "version: 1\ntime: pulled", "version: 1\nrules: [{untagged: {keep-last: 1}}]",
		"version: 1\nrules: [{}]", "version: 1\nrules: [{name: a}]", "version: 1\nrules: [{untagged: {}}]", "version: 1\nrules: [{keep-semver: {per: minor}}]",
		"version: 1\nrules: [{name: orphan, tags: [a]}]", "version: 1\nprotect: [{digests: '-'}]", "version: 1\nfloor: {max-share: 100.5%}",
		"version: '1'", "version: 1\nrules: [{keep-last: '3'}]", "version: 1\nfloor: {keep-newest: '0'}", "version: 1\nrules: [{untagged: {older-than: 1d}, keep-last: 3}]",
		"version: 1\nrules: [{untagged: {older-than: 1d}, older-than: 1d}]", "version: 1\nrules: [{untagged: {older-than: 1d}, keep-semver: {last: 1}}]",
		"version: 1\nrules: [{tags: [a], older-than: 0}]", "version: 1\nrules: [{tags: [a], older-than: '0'}]", "version: 1\nrules: [{older-than: +3h}]", "version: 1\nrules: [{older-than: .5h}]", "version: 1\nrules: [{older-than: '-0'}]",
		"version: 1\nrules: [{name: ''}]", "version: 1\nrules: [{name: [a], tags: [a]}]",
	} {
		if _, err := Parse("policy.yml", []byte(content)); err == nil {
			t.Errorf("the parser accepts %q", content)
		}
		if err := schema.Validate(asJSON(t, content)); err == nil {
			t.Errorf("the schema accepts %q", content)
		}
	}
}

// asJSON returns YAML as the values that encoding/json makes.
func asJSON(t *testing.T, content string) any {
	t.Helper()
	var value any
	if err := yaml.Unmarshal([]byte(content), &value); err != nil {
		t.Fatal(err)
	}
	var convert func(any) any
	convert = func(value any) any {
		switch v := value.(type) {
		case map[any]any:
			object := map[string]any{}
			for key, value := range v {
				object[key.(string)] = convert(value)
			}
			return object
		case []any:
			for i := range v {
				v[i] = convert(v[i])
			}
		case int:
			return float64(v)
		}
		return value
	}
	return convert(value)
}
