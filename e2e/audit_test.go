package e2e

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"regsweep/audit"
	"regsweep/internal/imagetest"
	"regsweep/storage"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// The tests in this file prove what an audit says: it adds up to the byte, and what it says that a run
// would free is what a run frees.

// auditDocument is the JSON report of audit.
type auditDocument struct {
	Report   int
	Command  string
	Bytes    audit.Bytes
	Kinds    []audit.KindBytes
	Blobs    []audit.Blob
	Requests struct{ List, Get, Head, Put, Delete int }

	NotCounted []string `json:"not_counted"`
	Versioning storage.Versioning

	Compare  *audit.Comparison
	Problems []struct{ Kind string }

	Repositories []audit.Repository
	WhatIf       []audit.WhatIf `json:"what_if"`
	ExitCode     int            `json:"exit_code"`
}

// audit runs regsweep audit on the fixture's registry.
func (s *fixture) audit(flags ...string) (d auditDocument) {
	s.Helper()
	code, stdout, stderr := regsweep(s, append([]string{"audit", "--json", "--no-cache", s.config(s.registry.ConfigYAML())}, flags...)...)
	if code != 0 {
		s.Fatalf("exit code %d: %s", code, stderr)
	}
	s.must(json.Unmarshal([]byte(stdout), &d))
	return d
}

// frees returns the bytes of a what-if.
func (d auditDocument) frees(t testing.TB, choice string) int64 {
	t.Helper()
	for _, w := range d.WhatIf {
		if strings.HasPrefix(w.Choice, choice) {
			return w.Bytes
		}
	}
	t.Fatalf("there is no %q in %+v", choice, d.WhatIf)
	return 0
}

// TestAuditAddsUp: the total is what the files or the keys take, and a run frees what the audit said.
func TestAuditAddsUp(t *testing.T) {
	t.Parallel()
	onEach(t, "audit", func(t *testing.T, on backend) {
		s := withEveryGarbage(t)
		s.tree.Write(".regsweep/notes", "of an earlier run")
		s.tree.Write(".regsweep/quarantine/run/blobs/data", "moved away")
		s.tree.Write("beside", "a file of somebody")
		s.tree.Blob(layer(77).Content) // no repository links it
		s.on(on)
		s.must(s.registry.SetReadOnly(true))
		total := int64(0)
		for _, size := range s.files() {
			total += size
		}
		for _, file := range []string{"of an earlier run", "moved away"} { // files leaves them out
			total += int64(len(file))
		}
		d := s.audit()
		b := d.Bytes
		if b.Total != total || b.Stored != b.Live+b.Garbage || b.Live != b.Tagged+b.Untagged || b.Total != b.Stored+b.Uploads+b.Quarantine+b.Other {
			t.Errorf("the files have %d bytes, and the audit says %+v", total, b)
		}
		if b.Garbage == 0 || b.Untagged == 0 || b.Uploads == 0 || b.Quarantine != int64(len("moved away")) {
			t.Errorf("too little was counted: %+v", b)
		}
		if len(d.Problems) == 0 {
			t.Error("the damaged repository is no problem")
		}
		sum, kinds := 0.0, int64(0)
		for _, r := range d.Repositories {
			sum += r.Fair
		}
		for _, k := range d.Kinds {
			kinds += k.Bytes
		}
		if int64(sum+0.5) != b.Live || kinds != b.Stored {
			t.Errorf("the fair shares are %f of %d bytes, and the kinds %d of %d", sum, b.Live, kinds, b.Stored)
		}

		run := s.gcOn(s.config(s.registry.ConfigYAML()), "--registry", s.registry.URL())
		freed := run.report.Removed.Blobs.Bytes + run.report.Removed.Uploads.Bytes
		if said := d.frees(t, "gc"); said != freed || freed == 0 {
			t.Errorf("the audit said that gc frees %d bytes, and it has freed %d", said, freed)
		}
		if after := s.audit().Bytes; after.Total >= b.Total || after.Garbage != 0 {
			t.Errorf("after the run: %+v", after)
		}
	})
}

// TestAuditOfASetOfTags: what removing several tags at once frees is exact for the set, also if they
// share layers.
func TestAuditOfASetOfTags(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	s.plant("team/app", "v1", app(1, 2))
	s.plant("team/app", "pr-1", app(1, 3, 4))
	s.plant("team/app", "pr-2", app(1, 3, 5))
	s.plant("team/web", "pr-7", app(6, 5))
	s.plant("other", "pr-1", app(7))
	s.must(s.registry.SetReadOnly(true))
	alone := s.audit("--without", "team/app:pr-1")
	set := s.audit("--without", "team/*:pr-*")
	if !strings.HasPrefix(set.WhatIf[2].Choice, "without 3 tags") || set.WhatIf[2].Bytes <= 3*alone.WhatIf[2].Bytes {
		t.Errorf("alone %+v, the set %+v", alone.WhatIf, set.WhatIf)
	}
	untagged := app(8)
	s.plant("team/app", "pr-2", untagged)
	s.plant("team/app", "pr-2", app(1, 3, 5))
	if braces := s.audit("--without", "team/{app,web}:pr-{1,2,7}"); braces.WhatIf[2].Bytes != set.WhatIf[2].Bytes {
		t.Errorf("with braces %+v, the set %+v", braces.WhatIf, set.WhatIf)
	}
	both := s.audit("--without", "team/*:pr-*").WhatIf[2:]
	if both[0] != set.WhatIf[2] || both[1].Choice != "without 3 tags, and gc -m" || both[1].Bytes <= both[0].Bytes {
		t.Errorf("with an untagged manifest %+v, before %+v", both, set.WhatIf)
	}
	for _, tag := range []string{"team/app/_manifests/tags/pr-1", "team/app/_manifests/tags/pr-2", "team/web/_manifests/tags/pr-7"} {
		s.must(os.RemoveAll(s.tree.Path("repositories/" + tag)))
	}
	run := s.gcOn(s.tree.Root(), "-m", "--registry-stopped")
	if freed := run.report.Removed.Blobs.Bytes; freed != both[1].Bytes {
		t.Errorf("the audit said %d bytes, and %d were freed: %s", both[1].Bytes, freed, run.stderr)
	}
}

// TestAuditOnS3 makes no more requests than a dry run, and counts noncurrent versions and parts.
func TestAuditOnS3(t *testing.T) {
	t.Parallel()
	plain := newFixture(t)
	plain.damaged("team/app", 10)
	plain.moveToBucket()
	plain.must(plain.registry.SetReadOnly(true))
	dry, d := plain.run("--dry-run").Requests, plain.audit()
	// Only a bucket that keeps versions, or has unfinished uploads, takes more.
	if d.Requests.List > dry.List || d.Requests.Get > dry.Get || d.Requests.Head > dry.Head || d.Requests.Put+d.Requests.Delete > 0 {
		t.Errorf("a dry run sends %+v, and an audit %+v", dry, d.Requests)
	}

	s, _ := s3Garbage(t)
	if b := s.audit().Bytes; b.Versions != 0 || b.Multipart != 0 {
		t.Errorf("nothing was overwritten: %+v", b)
	}
	client := s.s3.Client()
	s.write("repositories/sound/notes", "the first version")
	s.write("repositories/sound/notes", "the second version, which is the current one")
	key2 := s.key("blobs/sha256/9a/" + strings.Repeat("9a", 32) + "/data")
	s.write("blobs/sha256/9a/"+strings.Repeat("9a", 32)+"/data", "hidden")
	_, err := client.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &s.bucket, Key: &key2})
	s.must(err)
	part := s.key(imagetest.UploadPath("sound", "begun") + "/data")
	begun, err := client.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: &s.bucket, Key: &part})
	s.must(err)
	_, err = client.UploadPart(t.Context(), &s3.UploadPartInput{
		Bucket: &s.bucket, Key: &part, UploadId: begun.UploadId, PartNumber: aws.Int32(1), Body: strings.NewReader("half of it"),
	})
	s.must(err)
	want := int64(0)
	listed, err := client.ListObjectVersions(t.Context(), &s3.ListObjectVersionsInput{Bucket: &s.bucket})
	s.must(err)
	for _, v := range listed.Versions {
		if !aws.ToBool(v.IsLatest) {
			want += aws.ToInt64(v.Size)
		}
	}
	d = s.audit()
	after := d.Bytes
	if after.Versions != want || want != int64(len("the first version")+len("hidden")) {
		t.Errorf("%d bytes are noncurrent, and the audit says %+v", want, after)
	}
	if after.Multipart != int64(len("half of it")) || len(d.NotCounted) > 0 {
		t.Errorf("the parts of an upload: %+v", d)
	}
	if d.Versioning != storage.VersionsKept || !d.WhatIf[0].Hides {
		t.Errorf("a removal would hide: %+v", d)
	}
	_, err = client.PutBucketVersioning(t.Context(), &s3.PutBucketVersioningInput{
		Bucket: &s.bucket, VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusSuspended},
	})
	s.must(err)
	d = s.audit()
	if d.Bytes.Versions != want || d.Versioning != storage.VersionsSuspended || !d.WhatIf[0].Hides {
		t.Errorf("while versioning is suspended: %+v, want %d bytes noncurrent", d, want)
	}
}

// TestAuditSaysWhatItMayNotCount: a figure that needs a permission is missing, and not 0.
func TestAuditSaysWhatItMayNotCount(t *testing.T) {
	t.Parallel()
	s, _ := s3Garbage(t)
	minio, err := url.Parse(s.s3.Endpoint)
	s.must(err)
	for _, test := range []struct {
		denied     []string // parameters of requests
		versioning storage.Versioning
		missing    string
		words      []string
	}{
		{[]string{"versioning", "uploadId"}, storage.VersionsUnknown, "versions multipart", []string{"unless the bucket keeps versions", "versions      not counted", "multipart     not counted"}},
		{[]string{"versions"}, storage.VersionsKept, "versions", []string{"otherwise only hidden", "versions      not counted"}},
		{nil, storage.VersionsKept, "", []string{"otherwise only hidden"}},
	} {
		pass := httputil.NewSingleHostReverseProxy(minio)
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if slices.ContainsFunc(test.denied, r.URL.Query().Has) {
				w.WriteHeader(http.StatusForbidden)
				fmt.Fprint(w, "<Error><Code>AccessDenied</Code></Error>")
				return
			}
			pass.ServeHTTP(w, r)
		}))
		defer server.Close()
		config := s.config(strings.ReplaceAll(s.registry.ConfigYAML(), s.s3.Endpoint, server.URL))
		code, stdout, stderr := regsweep(s, "audit", "--json", "-q", "--no-cache", config)
		var d auditDocument
		s.must(json.Unmarshal([]byte(stdout), &d))
		if code != 0 || d.Versioning != test.versioning || strings.Join(d.NotCounted, " ") != test.missing || !d.WhatIf[0].Hides {
			t.Errorf("%d, %+v", code, d)
		}
		if strings.Count(stderr, "not counted") != len(d.NotCounted) {
			t.Errorf("%v are not counted, and it warns: %s", d.NotCounted, stderr)
		}
		page := filepath.Join(t.TempDir(), "page.html")
		_, text, _ := regsweep(s, "audit", "-q", "--no-cache", "--html", page, config)
		for _, word := range test.words {
			if !strings.Contains(text, word) {
				t.Errorf("there is no %q in\n%s", word, text)
			}
		}
		if test.missing == "" && strings.Contains(text, "not counted") {
			t.Errorf("everything was counted:\n%s", text)
		}
		p := openPage(t, page, 1280, 900)
		p.want(`[...document.querySelectorAll("#ladder .size")].filter(e => e.textContent === "not counted").length`, len(d.NotCounted))
		p.want(`document.querySelector("#headline div:nth-child(3) dt").textContent`,
			map[storage.Versioning]string{storage.VersionsKept: "gc would hide", storage.VersionsUnknown: "gc would free or hide"}[test.versioning])
		p.want(`document.querySelector("#hides").textContent.includes("versions")`, true)
		p.screenshot("versioning " + string(test.versioning))
	}
}

// TestAuditCountsEachNameOfAFile: files may have hard links, in the storage and outside of it.
func TestAuditCountsEachNameOfAFile(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	s.plant("team/app", "v1", app(1, 2))
	garbage := s.tree.Blob(layer(77).Content)
	before := s.audit()
	s.must(os.Link(s.tree.Path(imagetest.BlobPath(garbage)), filepath.Join(t.TempDir(), "backup")))
	after := s.audit()
	if after.Bytes != before.Bytes || before.frees(t, "gc") == 0 || after.frees(t, "gc") != 0 {
		t.Errorf("with a backup by cp -al: %+v, before %+v", after, before)
	}
	link := s.tree.Path(imagetest.TagPath("team/app", "v1"))
	s.must(os.Link(link, s.tree.Path("stray")))
	info, err := os.Stat(link)
	s.must(err)
	if more := s.audit().Bytes.Total - before.Bytes.Total; more != info.Size() {
		t.Errorf("a second name of a file of %d bytes adds %d", info.Size(), more)
	}
}

// TestAuditFormats: the tables on a terminal, CSV, and the comparison with an older audit.
func TestAuditFormats(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	s.plant("team/app", "v1", app(1, 2))
	s.plant("team/web", "v1", app(1, 3))
	s.plant("evil\x1b[31m", "v1", app(1))
	code, old, _ := regsweep(s, "audit", "--json", s.tree.Root())
	oldFile := filepath.Join(t.TempDir(), "old.json")
	s.must(os.WriteFile(oldFile, []byte(old), 0o600))
	if code != 0 {
		t.Fatalf("exit code %d", code)
	}
	s.plant("team/app", "v2", app(1, 2, 4))
	s.must(os.RemoveAll(s.tree.Path("repositories/team/web")))

	_, text, _ := regsweep(s, "audit", "--compare", oldFile, "--sort", "name", s.tree.Root())
	for _, want := range []string{"\ntotal ", "\n  garbage ", `evil\x1b[31m`, "  team/app ", "  gc -m ", "\nSince 20", " UTC ", "gone"} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "\x1b") {
		t.Errorf("the text has an escape sequence: %q", text)
	}
	if code, _, stderr := regsweep(s, "audit", "--compare", oldFile, "--match", "**", s.tree.Root()); code != 2 || !strings.Contains(stderr, "their repositories differ") {
		t.Errorf("compared with another selection: %d, %s", code, stderr)
	}

	_, text, _ = regsweep(s, "audit", "--match", "zzz*", s.tree.Root())
	if want := "\n0 of 2 repositories match zzz*. The bill, the largest blobs and what a run would free are of the whole registry.\n"; !strings.Contains(text, want) {
		t.Errorf("there is no %q in\n%s", want, text)
	}

	s.plant("=HYPERLINK(1)", "v1", app(1))
	_, table, _ := regsweep(s, "audit", "--csv", s.tree.Root())
	rows, err := csv.NewReader(strings.NewReader(table)).ReadAll()
	s.must(err)
	if names := []string{rows[1][0], rows[2][0], rows[3][0]}; !slices.Contains(names, "'=HYPERLINK(1)") || !slices.Contains(names, "evil\x1b[31m") {
		t.Errorf("the names are %q", names)
	}
	_, table, _ = regsweep(s, "audit", "--csv", "--match", "team/*", s.tree.Root())
	rows, err = csv.NewReader(strings.NewReader(table)).ReadAll()
	s.must(err)
	d := s.audit("--match", "team/*")
	if len(rows) != 2 || rows[0][0] != "name" || rows[1][0] != "team/app" || rows[1][4] != strconv.FormatInt(d.Repositories[0].Bytes, 10) {
		t.Errorf("%q, %+v", rows, d.Repositories)
	}
	for i, month := range rows[0][10:] {
		if _, err := time.Parse("2006-01", month); err != nil || rows[1][10+i] != strconv.FormatInt(d.Repositories[0].Growth[i], 10) {
			t.Errorf("%s: %s, %v of %v", month, rows[1][10+i], err, d.Repositories[0].Growth)
		}
	}
	months := rows[1][10:] // the test may begin in one month and end in the next one
	if len(rows[0]) != 10+audit.Months || !slices.Contains(months[audit.Months-2:], rows[1][4]) {
		t.Errorf("%q: all of it was pushed in this month", rows)
	}
}

// TestAuditRefusesWrongUsage with one clear line.
func TestAuditRefusesWrongUsage(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	s.plant("team/app", "v1", imagetest.Image(imagetest.OCI, layer(1)))
	dir := t.TempDir()
	notes, alias := filepath.Join(dir, "notes"), filepath.Join(t.TempDir(), "alias")
	s.must(os.Symlink(dir, alias))
	s.must(os.WriteFile(notes, []byte(`{"command":"gc"}`), 0o600))
	pipe, cut := filepath.Join(t.TempDir(), "pipe"), filepath.Join(t.TempDir(), "cut.json")
	s.must(syscall.Mkfifo(pipe, 0o600))
	s.must(os.WriteFile(cut, []byte(`{"report":1,"command":"audit","time":"2026-01-02T03:04:05Z"}`), 0o600))
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"--sort", "fiar"}, "did you mean fair?"},
		{[]string{"--without", "team/app"}, "want REPO:TAG"},
		{[]string{"--without", "team/app:[a"}, "no pattern"},
		{[]string{"--without", "team/app:v2"}, "no tag matches team/app:v2"},
		{[]string{"--match", "["}, "no pattern"},
		{[]string{"--compare", notes + "2"}, "no such file"},
		{[]string{"--compare", notes}, "not the JSON report of an audit"},
		{[]string{"--compare", pipe}, "not a regular file"},
		{[]string{"--compare", cut}, "not the JSON report of an audit"},
		{[]string{"--without", "team/app:{v1,"}, "no pattern"},
		{[]string{"--csv", "--json"}, "contradict"},
		{[]string{"--csv", "--compare", notes}, "the table and --json have the differences"},
		{[]string{"--html", "-", "--compare", notes}, "the table and --json have the differences"},
		{[]string{"--html", notes + "3", "--ncdu", dir + "/./notes3"}, "name the same file"},
		{[]string{"--html", notes + "3", "--ncdu", alias + "/notes3"}, "name the same file"},
	} {
		code, stdout, stderr := regsweep(s, append([]string{"audit", s.tree.Root()}, test.args...)...)
		if code != 2 || !strings.Contains(stderr, test.want) || strings.Count(strings.TrimSpace(stderr), "\n") > 2 {
			t.Errorf("%q: %d, %q, %q", test.args, code, stdout, stderr)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("beside the notes there is %v, %v", left, err)
	}
}

// TestAuditSortsByTheNewestGrowth: what grew in the last months comes first, and not what is largest.
func TestAuditSortsByTheNewestGrowth(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.image("old", "v1", 40*day, sized{"old", 100 * mib})
	s.image("older", "v1", 200*day, sized{"older", 200 * mib})
	s.image("now", "v1", 0, sized{"now", mib})
	shown := s.audit("--sort", "growth")
	if now, old, older := strings.Index(shown, "\n  now "), strings.Index(shown, "\n  old "), strings.Index(shown, "\n  older "); now < 0 || now > old || old > older {
		t.Errorf("in order of growth:\n%s", shown)
	}
}

// TestAuditOnATerminal: a name can't steer it, and a narrow one shows fewer columns. They are aligned, and names
// are whole.
func TestAuditOnATerminal(t *testing.T) {
	t.Parallel()
	tree := imagetest.NewTree(t, t.TempDir())
	tree.Manifest("evil\x1b[31m", app(1))
	long := imagetest.NewTree(t, t.TempDir())
	long.Manifest("platform/payments/checkout-service1", app(1))
	long.Manifest("web", app(1, 2))
	for _, test := range []struct {
		tree    *imagetest.Tree
		columns uint16
		flag    string
		want    string
	}{
		{tree, 80, "--csv", `evil\x1b[31m,0,1,`},
		{tree, 80, "-q", "TAGS    BYTES   UNIQUE  UNTAGGED   LAST PUSH"},
		{tree, 140, "-q", "TAGS  MANIFESTS  LOGICAL"},
		{tree, 60, "--sort=shared", "BYTES   UNIQUE  SHARED   LAST PUSH"},
		{long, 80, "--sort=growth", `
Repositories                             BYTES   UNIQUE  12 MONTHS
  web                                  5.8 KiB  3.3 KiB  ▁▁▁▁▁▁▁▁▁▁▁█
  platform/payments/checkout-service1  3.1 KiB    565 B  ▁▁▁▁▁▁▁▁▁▁▁█
`},
		{long, 40, "-q", `
Repositories    BYTES
  web         5.8 KiB
  platform/payments/checkout-service1
              3.1 KiB
`},
	} {
		s, err := startOnTerminal(program(t, "audit", "-q", test.flag, test.tree.Root()), test.columns)
		must(t, err)
		code, err := s.end()
		if shown := s.shows(); code != 0 || err != nil || !strings.Contains(shown, test.want) || strings.Contains(shown, "\x1b[31m") {
			t.Errorf("%d, %v: there is no %q in %q", code, err, test.want, shown)
		}
	}
}
