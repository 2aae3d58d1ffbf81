package sweep_test

import (
	"strings"
	"testing"

	"regsweep/inventory"
	"regsweep/sweep"
)

// A line of an older plan may say anything: somebody may have edited the file. A line that is not
// one of a plan makes the plan count as needed.
func TestADamagedOlderPlanIsNeeded(t *testing.T) {
	d := worn(1)
	root := d.put(t)
	inv, err := inventory.Take(t.Context(), openStore(t, root), inventory.Options{})
	if err != nil {
		t.Fatal(err)
	}
	stored := ""
	for path := range d.files {
		if hex, isBlob := strings.CutSuffix(path, "/data"); isBlob && strings.HasPrefix(path, "blobs/sha256/") {
			stored = `"digest":"sha256:` + hex[strings.LastIndex(hex, "/")+1:] + `"`
			break
		}
	}
	lines := strings.SplitAfter(write(t, planFor(t, root, thorough)), "\n")
	plan := func(line string) string {
		return lines[0] + line + strings.Join(lines[1:], "")
	}
	for name, test := range map[string]struct {
		line string
		want bool
	}{
		"a good plan":                       {"", false},
		"a blob":                            {`{"kind":"blob",` + stored + "}\n", false},
		"no repository":                     {`{"kind":"revision",` + stored + "}\n", true},
		"a layer link of no repository":     {`{"kind":"layer_link",` + stored + "}\n", true},
		"a tag of no repository":            {`{"kind":"tag","tag":"v1",` + stored + "}\n", true},
		"an index entry of no repository":   {`{"kind":"tag_index_entry","tag":"v1",` + stored + "}\n", true},
		"an orphan link of no repository":   {`{"kind":"orphan_link","signature_digests":["` + sha256Of("x") + `"],` + stored + "}\n", true},
		"an orphan link that is no link":    {`{"kind":"orphan_link","repository":"app",` + stored + "}\n", true},
		"an orphan link that is two links":  {`{"kind":"orphan_link","repository":"app","referrers":[{},{}],` + stored + "}\n", true},
		"a digest that is none":             {`{"kind":"revision","repository":"app","digest":"sha256:x"}` + "\n", true},
		"a repository outside of the place": {`{"kind":"revision","repository":"../app",` + stored + "}\n", true},
		"a kind that is none":               {`{"kind":"else","repository":"app",` + stored + "}\n", true},
		"an empty object":                   {"{}\n", true},
	} {
		t.Run(name, func(t *testing.T) {
			needed, err := sweep.IsNeeded(strings.NewReader(plan(test.line)), inv)
			if err != nil || needed != test.want {
				t.Errorf("it is needed: %t, %v; want %t", needed, err, test.want)
			}
		})
	}
}
