package sweep_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"regsweep/sweep"
)

func write(t *testing.T, plan *sweep.Plan) string {
	t.Helper()
	var file bytes.Buffer
	if _, err := plan.WriteTo(&file); err != nil {
		t.Fatal(err)
	}
	return file.String()
}

// What a plan was made with comes back from its file.
func TestPlanFileIsRead(t *testing.T) {
	root := worn(3).put(t)
	r := thorough
	r.minAge = 36 * time.Hour
	plan := planFor(t, root, r)
	file, err := sweep.OpenFile(strings.NewReader(write(t, plan)))
	if err != nil {
		t.Fatal(err)
	}
	want := sweep.Options{
		Now: now.UTC(), MinAge: 36 * time.Hour, UploadAge: time.Hour, DeleteUntagged: true, PruneEmpty: true, AllowEmpty: true,
	}
	if !reflect.DeepEqual(file.Options, want) || file.Storage != openStore(t, root).Identity() || file.Removals != plan.Len() {
		t.Errorf("%+v", file)
	}
}

// A file that is not what was written is refused, and the error says where it is wrong.
// What only the last line does not fit is said to be that.
func TestPlanFilesThatAreRefused(t *testing.T) {
	good := write(t, planFor(t, worn(1).put(t), thorough))
	lines := strings.SplitAfter(strings.TrimSuffix(good, "\n"), "\n")
	with := func(n int, line string) string {
		changed := append([]string{}, lines...)
		changed[n-1] = line + "\n"
		return strings.Join(changed, "")
	}
	digest := sha256Of("x")
	last := lines[len(lines)-1]
	for name, test := range map[string]struct {
		file, want string
		changed    bool
	}{
		"nothing":                {"", "it is empty, and no plan", false},
		"no end":                 {strings.Join(lines[:len(lines)-1], ""), "it is cut off: the last line, with a count, is missing", true},
		"only a header":          {lines[0], "it is cut off: the last line, with a count, is missing", true},
		"half a line":            {good[:len(lines[0])+40], "line 2: the file is cut off in it", false},
		"half a header":          {good[:40], "line 1: the file is cut off in it", false},
		"a line less":            {strings.Replace(good, lines[2], "", 1), "its last line counts 12 removals, and it has 11", true},
		"a line twice":           {strings.Replace(good, lines[2], lines[2]+lines[2], 1), "its last line counts 12 removals, and it has 13", true},
		"other bytes":            {with(3, strings.Replace(strings.TrimSpace(lines[2]), `"bytes":0`, `"bytes":1`, 1)), "it was edited: the checksum in its last line is that of other lines", true},
		"white space":            {with(3, lines[2][:1]+" "+strings.TrimSpace(lines[2][1:])), "it was edited: the checksum in its last line is that of other lines", true},
		"other options":          {strings.Replace(good, `"min_age":"0s"`, `"min_age":"1s"`, 1), "it was edited: the checksum in its last line is that of other lines", true},
		"other bytes at the end": {strings.TrimSuffix(good, last+"\n") + strings.Replace(last, `"bytes":`, `"bytes":1`, 1) + "\n", "it was edited: the checksum in its last line is that of other lines", true},
		"no checksum":            {strings.TrimSuffix(good, last+"\n") + `{"removals":12,"bytes":0}`, "it was edited: the checksum in its last line is that of other lines", true},
		"the future":             {with(1, `{"plan":2,"storage":[]}`), "line 1: the plan is of format 2, and this regsweep knows no format above 1: take the one that wrote it, or a newer one", false},
		"no header":              {strings.Join(lines[1:], ""), "line 1: it is not the header of a plan, which has to stay when lines are taken out", false},
		"a header over lines":    {"{\n" + good[1:], "line 1: it is not a whole JSON object (of jq, ask for a line each: jq -c)", false},
		"a header of zero":       {with(1, `{"plan":0}`), "line 1: it is not the header of a plan, which has to stay when lines are taken out", false},
		"a damaged header":       {with(1, `{"plan":1,"storage":7}`), "line 1: the header is damaged", false},
		"no age":                 {with(1, `{"plan":1}`), "line 1: min_age in the header is no age", false},
		"a negative age":         {with(1, `{"plan":1,"options":{"min_age":"1s","upload_age":"-1s"}}`), "line 1: upload_age in the header is no age", false},
		"two headers":            {with(3, strings.TrimSpace(lines[0])), "line 3: it is a second header: this is more than one plan", false},
		"more behind the end":    {good + lines[1], "line 15: it stands behind the count that ends a plan", false},
		"garbage":                {with(3, "garbage"), "line 3: it is not one JSON object with what a removal has (of jq, ask for a line each: jq -c)", false},
		"an empty line":          {with(3, ""), "line 3: it is not one JSON object with what a removal has (of jq, ask for a line each: jq -c)", false},
		"two objects":            {with(3, "{} {}"), "line 3: it is not one JSON object with what a removal has (of jq, ask for a line each: jq -c)", false},
		"bytes that are none":    {with(3, `{"kind":"blob","digest":"`+digest+`","bytes":"7"}`), "line 3: it is not one JSON object with what a removal has (of jq, ask for a line each: jq -c)", false},
		"a line without end":     {with(3, `{"kind":"`+strings.Repeat("x", 1<<16)+`"}`), "line 3: it is too long for a line of a plan", false},
		"no kind":                {with(3, `{}`), "line 3: its kind is not one of a removal", false},
		"another kind":           {with(3, `{"kind":"tags","digest":"`+digest+`"}`), "line 3: its kind is not one of a removal", false},
		"no digest":              {with(3, `{"kind":"blob"}`), "line 3: it has no digest, which a line of kind blob needs", false},
		"no repository":          {with(3, `{"kind":"revision","digest":"`+digest+`"}`), "line 3: it has no repository, which a line of kind revision needs", false},
		"no tag":                 {with(3, `{"kind":"tag_index_entry","repository":"app","digest":"`+digest+`"}`), "line 3: it has no tag, which a line of kind tag_index_entry needs", false},
		"no upload":              {with(3, `{"kind":"upload","repository":"app"}`), "line 3: it has no upload, which a line of kind upload needs", false},
		"a wrong digest":         {with(3, `{"kind":"blob","digest":"sha256:../../../x"}`), "line 3: its digest is not valid", false},
	} {
		t.Run(name, func(t *testing.T) {
			if test.file == good {
				t.Fatal("nothing is changed")
			}
			_, err := sweep.OpenFile(strings.NewReader(test.file))
			var broken *sweep.FileError
			if !errors.As(err, &broken) || broken.Error() != test.want || broken.Changed != test.changed {
				t.Fatalf("%v, want %s", err, test.want)
			}
			var remade bytes.Buffer
			if err := sweep.Remake(&remade, strings.NewReader(test.file)); (err == nil) != test.changed {
				t.Errorf("remade: %v", err)
			}
			if _, err := sweep.OpenFile(bytes.NewReader(remade.Bytes())); test.changed && err != nil {
				t.Errorf("what was remade: %v", err)
			}
		})
	}
}

// Remaking changes nothing but the last line, however the others are written, and what
// is whole stays as it is.
func TestRemake(t *testing.T) {
	good := write(t, planFor(t, worn(2).put(t), thorough))
	lines := strings.SplitAfter(good, "\n")
	for name, lines := range map[string][]string{
		"nothing struck": lines, "a line struck": append(append([]string{}, lines[:3]...), lines[4:]...),
		"all struck": lines[:1], "written anew": rewritten(t, lines),
	} {
		t.Run(name, func(t *testing.T) {
			from := strings.Join(lines, "")
			var remade bytes.Buffer
			if err := sweep.Remake(&remade, strings.NewReader(from)); err != nil {
				t.Fatal(err)
			}
			if name == "nothing struck" && remade.String() != good {
				t.Errorf("%s\nbecomes\n%s", good, &remade)
			}
			kept := strings.SplitAfter(remade.String(), "\n")
			if before := strings.Join(kept[:len(kept)-2], ""); !strings.HasPrefix(from, before) {
				t.Errorf("the lines have changed: %s", before)
			}
			file, err := sweep.OpenFile(bytes.NewReader(remade.Bytes()))
			if err != nil || file.Removals != len(kept)-3 {
				t.Errorf("%+v: %v", file, err)
			}
		})
	}
	if err := sweep.Remake(io.Discard, &failing{Reader: iotest.ErrReader(errTorn)}); !errors.Is(err, errTorn) {
		t.Errorf("a disk that fails: %v", err)
	}
	if _, err := sweep.OpenFile(&failing{Reader: iotest.ErrReader(errTorn)}); !errors.Is(err, errTorn) {
		t.Errorf("a disk that fails: %v", err)
	}
}

var errTorn = errors.New("the disk is torn")

type failing struct{ io.Reader }

func (*failing) Seek(int64, int) (int64, error) { return 0, nil }

// rewritten has the fields of each line in another order, and spaces between them.
func rewritten(t *testing.T, lines []string) []string {
	var out []string
	for _, line := range lines[:len(lines)-1] {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatal(err)
		}
		out = append(out, "  "+strings.ReplaceAll(json1(fields), `,"`, ` , "`)+" \r\n")
	}
	return out
}

// A file that changes while it is used selects nothing.
func TestPlanFileThatChanges(t *testing.T) {
	root := worn(1).put(t)
	good := write(t, planFor(t, root, thorough))
	lines := strings.SplitAfter(good, "\n")
	var other bytes.Buffer
	if err := sweep.Remake(&other, strings.NewReader(strings.Join(lines[:3], ""))); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"another plan": other.String(), "cut off": good[:300]} {
		from := strings.NewReader(good)
		file, err := sweep.OpenFile(from)
		if err != nil {
			t.Fatal(err)
		}
		from.Reset(content)
		if plan, err := planOf(t.Context(), openStore(t, root), thorough, file); err == nil || plan != nil {
			t.Errorf("%s: it plans %v", name, plan)
		}
	}
}
