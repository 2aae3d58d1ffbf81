package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"regsweep/internal/imagetest"

	"github.com/opencontainers/go-digest"
)

// TestTheLockLeavesNoRegistry: what somebody put in the place of our directory is neither
// followed nor written to, and the run says so (1, 4).
func TestTheLockLeavesNoRegistry(t *testing.T) {
	t.Parallel()
	for at, to := range map[string]string{".regsweep": "", ".regsweep/lock": "/lock"} {
		s := newFixture(t)
		s.unrelated()
		s.must(s.registry.SetReadOnly(true))
		outside := t.TempDir()
		s.must(os.WriteFile(outside+"/lock", []byte("of somebody else"), 0o600))
		s.must(os.MkdirAll(filepath.Dir(s.tree.Path(at)), 0o755))
		s.must(os.Symlink(outside+to, s.tree.Path(at)))
		before, files := everythingAt(t, outside), s.files()
		run := s.gc("-m")
		if run.code != 1 || !strings.Contains(run.report.Error, ".regsweep/lock: ") || strings.Contains(run.report.Error, "\n") {
			t.Errorf("%s: it ends with %d, %q", at, run.code, run.report.Error)
		}
		s.same("the files", keys(s.files()), keys(files))
		if after := everythingAt(t, outside); after != before {
			t.Errorf("%s: outside was\n%s\nand is\n%s", at, before, after)
		}
	}
}

// TestHostileNames: what a plan can't hold is in none, so that no line leads to something
// else; all that it can hold is listed, printed, planned, read back and removed (2, 5).
func TestHostileNames(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	goes, sound := s.unrelated()
	long := strings.Repeat("n", 255)
	deep := strings.TrimSuffix(strings.Repeat(strings.Repeat("d", 99)+"/", 10), "/")
	old := time.Now().Add(-1000 * time.Hour)
	for _, id := range []string{"old\xff", "old\ufffd", "a\nb\x1b[31mc\u202e", long, "\"quoted\" \\ ", "..."} {
		s.tree.Upload("sound", id, old, []byte("half"))
		if id != "old\xff" {
			goes = append(goes, uploadGoes("sound", id)...)
		}
	}
	s.tree.Write(imagetest.UploadPath("sound", long)+"/"+deep, "deep")
	s.tree.Age(imagetest.UploadPath("sound", long), 1000*time.Hour)
	// A tag of that name keeps what it names, and its repository with it.
	kept, untagged := app(31), app(32)
	s.plant("odd", "v\xff", kept)
	s.plant("odd", "v\ufffd", kept)
	s.plant("odd", "", untagged)
	before := s.files()
	s.must(s.registry.SetReadOnly(true))

	dir := t.TempDir()
	plan, config := filepath.Join(dir, "plan"), s.config(s.registry.ConfigYAML())
	target := []string{"--registry", s.registry.URL(), config}
	for _, args := range [][]string{
		{"gc", "-dm", "--plan", plan}, {"gc", "-dm", "--json"}, {"apply", "-d", plan}, {"apply", "-d", "--json", plan}, {"apply", plan},
	} {
		code, stdout, stderr := regsweep(s, append(args, target...)...)
		if code != 4 {
			t.Errorf("%v ends with %d: %s%s", args, code, stdout, stderr)
		}
		if strings.ContainsAny(stdout+stderr, "\x1b\u202e") || strings.Contains(stdout+stderr, "\xff") {
			t.Errorf("%v steers a terminal: %q", args, stdout+stderr)
		}
	}
	s.same("the plan", gcRun{plan: s.readPlan(plan)}.lines(), slices.Sorted(slices.Values(goes)))
	s.same("the files", keys(s.files()), keys(without(before, goes)))
	s.pull("after it all", s.client, []image{sound, pulls("odd", kept, untagged)})
}

// TestHostileManifestsCostLittle: what somebody pushes or writes to wear a run out is read
// once, and costs memory in proportion to what it takes itself at most. All of it is kept.
func TestHostileManifestsCostLittle(t *testing.T) {
	manyAlike(t)
	const indexType = `"application/vnd.oci.image.index.v1+json"`
	entry := func(d digest.Digest) string {
		return fmt.Sprintf(`{"mediaType":%s,"digest":%q,"size":10}`, indexType, d)
	}
	index := func(entries ...string) string {
		return `{"schemaVersion":2,"mediaType":` + indexType + `,"manifests":[` + strings.Join(entries, ",") + `]}`
	}
	times := func(n int, text string) string { return strings.TrimSuffix(strings.Repeat(text+",", n), ",") }
	const nobody = `"sha256:0000000000000000000000000000000000000000000000000000000000000001"`
	for _, test := range []struct {
		name     string
		manifest func(tree *imagetest.Tree) string
		exit     int
		reads    int // of manifests and links
		memory   int // of what is allocated all in all, in MiB
	}{
		{"100 MiB", func(*imagetest.Tree) string { return `{"manifests":[` + strings.Repeat(" ", 100<<20) + "]}" }, 4, 4, 32},
		{"an index of a million entries", func(*imagetest.Tree) string { return index(times(1_000_000, `{"digest":`+nobody+`}`)) }, 4, 4, 32},
		{"nested 10,000 deep", func(*imagetest.Tree) string {
			return `{"a":` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + "}"
		}, 4, 4, 32},
		{"nested 4,000,000 deep", func(*imagetest.Tree) string { return strings.Repeat("[", 4_000_000) + strings.Repeat("]", 4_000_000) }, 4, 4, 96},
		{"nested 10,000,000 deep", func(*imagetest.Tree) string { return strings.Repeat("[", 10_000_000) + strings.Repeat("]", 10_000_000) }, 4, 4, 32},
		{"a field given 400,000 times", func(*imagetest.Tree) string { return "{" + times(400_000, `"manifests":[]`) + "}" }, 0, 4, 300},
		{"a digest given 90,000 times", func(*imagetest.Tree) string { return `{"layers":[{` + times(90_000, `"digest":`+nobody) + "}]}" }, 0, 4, 300},
		{"entries without a digest", func(*imagetest.Tree) string { return `{"manifests":[` + times(1_000_000, "{}") + "]}" }, 4, 4, 600},
		// Indexes of indexes, each with the same child again and again: by the paths that
		// lead there it is 10,000^15 manifests.
		{"a fan of 15 indexes", func(tree *imagetest.Tree) string {
			child := tree.Blob([]byte(index()))
			for range 15 {
				child = tree.Blob([]byte(index(slices.Repeat([]string{entry(child)}, 10_000)...)))
			}
			return index(slices.Repeat([]string{entry(child)}, 10_000)...)
		}, 0, 4 + 16, 300},
	} {
		t.Run(test.name, func(t *testing.T) {
			root := t.TempDir()
			tree := imagetest.NewTree(t, root)
			d := tree.Blob([]byte(test.manifest(tree)))
			tree.Revision("app", d)
			tree.Tag("app", "v1", d)
			s := &fixture{T: t, tree: tree}
			before := s.files()
			runtime.GC()
			var start, end runtime.MemStats
			runtime.ReadMemStats(&start)
			code, stdout, stderr := regsweep(s, "gc", "-m", "--json", "--registry-stopped", root)
			runtime.ReadMemStats(&end)
			report := decode[s3Report](s, stdout)
			if code != test.exit {
				t.Errorf("it ends with %d: %s", code, stderr)
			}
			allocated := int(end.TotalAlloc-start.TotalAlloc) >> 20
			t.Logf("%d reads, %d MiB", report.Requests.Get, allocated)
			// A proof needs a manifest to recognize the storage by. It reads everything once
			// more, and a revision again if no tag leads to an intact manifest.
			if reads := 2*test.reads + 1; report.Requests.Get > reads || allocated > test.memory {
				t.Errorf("%d reads, want at most %d; %d MiB were allocated, want at most %d", report.Requests.Get, reads, allocated, test.memory)
			}
			if after := s.files(); !maps.Equal(after, before) {
				t.Errorf("there was %v, and now there is %v", before, after)
			}
		})
	}
}

// TestSecretsAreToldNowhere: not by a run that succeeds, nor by one that fails, in no
// output and no file that it leaves.
func TestSecretsAreToldNowhere(t *testing.T) {
	const marker = "swordfish"
	for name, value := range map[string]string{
		"REGISTRY_HTTP_SECRET": marker + "1", "REGISTRY_REDIS_PASSWORD": marker + "2", "REGISTRY_STORAGE_CACHE": marker + "3",
		"AWS_SESSION_TOKEN": marker + "4",
	} {
		t.Setenv(name, value)
	}
	s := newFixture(t)
	_, sound := s.unrelated()
	root := s.tree.Root()
	s.must(s.registry.SetReadOnly(true))
	withS3 := func(storage string) string {
		return s.config("version: 0.1\nstorage:\n  s3: {bucket: b, region: x, forcepathstyle: true, " + storage + "}\n" +
			"http: {addr: ':1', secret: " + marker + "5}\nredis: {password: " + marker + "6}\nproxy: {remoteurl: 'https://u:" + marker + "7@127.0.0.1'}\n")
	}
	keys := "accesskey: " + marker + "8, secretkey: " + marker + "9"
	refused := "http://127.0.0.1:1"
	dir := t.TempDir()
	plan := filepath.Join(dir, "plan")
	secretRegistry := strings.Replace(s.registry.URL(), "http://", "http://me:"+marker+"0@", 1)
	for _, args := range [][]string{
		{"gc", "-d", "--plan", plan, root},
		{"gc", "-d", "--registry", secretRegistry, root},
		{"check", "--registry", secretRegistry, root},
		{"check", "--registry", s.registry.URL(), "--username", "me", "--password-stdin", root},
		{"check", "--registry", refused + "/?token=" + marker, root},
		{"apply", "-d", "--left-out", filepath.Join(dir, "left"), plan, root},
		{"gc", "-d", withS3(keys + ", regionendpoint: '" + refused + "'")},
		{"check", withS3(keys + ", regionendpoint: '" + refused + "'")},
		{"gc", "-d", withS3(keys + ", regionendpoint: 'http://me:" + marker + "@127.0.0.1:1'")},
		{"gc", "-d", withS3(keys + ", regionendpoint: ':" + marker + ":'")},
		{"gc", "-d", withS3("accesskey: {a: " + marker + "}, secretkey: [" + marker + "], regionendpoint: '" + refused + "'")},
		{"gc", "-d", s.config("version: 0.1\nstorage: {s3: {secretkey: " + marker + "}\nredis: {db: " + marker + "}\n")},
		{"gc", "-d", s.config("version: 0.1\nstorage: {filesystem: {rootdirectory: " + root + "}}\nredis: {db: " + marker + "}\nhttp: {secret: [" + marker + "]}\n")},
		{"gc", "-d", "s3://me:" + marker + "@b/x"}, {"gc", "-d", "s3://me:" + marker + "/x"},
		{"gc", "-d", "s3://b/x?secretkey=" + marker}, {"gc", "-d", "s3://b/x?accesskey=" + marker + "&region=x"},
		{"gc", "-d", "s3://b/x?region=x&endpoint=http://me:" + marker + "@127.0.0.1:1"},
		{"gc", "-d", "s3://b/x?region=x&endpoint=" + refused + "?sig=" + marker},
		{"gc", "-d", "s3://b/x?region=x&sessiontoken=" + marker},
		{"gc", "-d", "https://me:" + marker + "@registry.example.com"},
		{"audit", "--metrics", filepath.Join(dir, "m.prom"), "s3://me:" + marker + "@b/x"},
		{"audit", "--metrics", filepath.Join(dir, "m.prom"), "s3://b/x?region=x&endpoint=" + refused + "?sig=" + marker},
		{"gc", "--registry", s.registry.URL(), "-m", root},
	} {
		for _, more := range [][]string{nil, {"--json"}} {
			var out, errs bytes.Buffer
			code := regsweepWith(s, strings.NewReader(marker+"\n"), &out, &errs, append(args[:1:1], append(more, args[1:]...)...)...)
			if told := out.String() + errs.String(); strings.Contains(told, marker) {
				t.Errorf("%v %q ends with %d and tells a secret: %s", more, args, code, told)
			}
			if more != nil && !json.Valid(out.Bytes()) {
				t.Errorf("%q answers with no JSON: %s", args, &out)
			}
		}
	}
	for _, at := range []string{dir, root} {
		s.must(filepath.WalkDir(at, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			content, err := os.ReadFile(path)
			if bytes.Contains(content, []byte(marker)) {
				t.Errorf("%s holds a secret", path)
			}
			return err
		}))
	}
	s.pull("after it all", s.client, []image{sound})
}
