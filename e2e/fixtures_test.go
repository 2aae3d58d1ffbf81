package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"regsweep/cli"
	"regsweep/internal/imagetest"
	"regsweep/internal/miniotest"
	"regsweep/internal/registrytest"
	"regsweep/storage"
	"regsweep/storage/config"
	"regsweep/storage/open"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/opencontainers/go-digest"
)

// The S3 drivers of registries put a bundle of certificates that the environment names
// into the one HTTP transport of the process, or panic over it. No test needs one.
func init() {
	if err := os.Unsetenv("AWS_CA_BUNDLE"); err != nil {
		panic(err)
	}
}

// A story is a registry that somebody made, and what a run must come to there. Each
// is told on every backend, and judged in the same way: see check.
//
// The promises in the comments are those of docs/DESIGN.md:
//
//  1. nothing reachable is removed
//  2. what is not understood is kept, and costs the others nothing
//  3. an interruption leaves every live image whole
//  4. removal needs proof
//  5. a dry run tells the truth
//  6. only what was confirmed is reported
type story struct {
	name string
	// direct pushes through the registry's own S3 driver, where what that writes
	// matters. Otherwise a tree that was pushed to a filesystem is copied into the
	// bucket, file by file.
	direct bool
	only   backend // "" for all
	tell   func(s *fixture) outcome
}

// outcome is what a run must come to.
type outcome struct {
	flags []string
	// goes has a line for each removal: its kind and the path that it removes.
	goes []string
	// alive pulls before the run, and must pull after it.
	alive []image
	// problems has a line for each problem: its kind, repository and path. Notes
	// on stray objects are among them.
	problems []string
	exit     int
	// after, if set, checks the storage after the run.
	after func(s *fixture)
}

// image is what to pull from one repository: tags and digests.
type image struct {
	repository string
	references []string
}

type backend string

const (
	filesystem backend = "filesystem"
	bucket     backend = "s3"
)

// layoutRoot is where the layout lies below a registry's root directory.
const layoutRoot = "docker/registry/v2/"

// s3Root is the rootdirectory of registries in buckets.
const s3Root = "/some/where"

// tellAll tells stories on all backends.
func tellAll(t *testing.T, stories []story) {
	for _, story := range stories {
		onEach(t, story.name, func(t *testing.T, on backend) {
			if story.only != "" && story.only != on {
				t.Skipf("there is no such thing on %s", on)
			}
			if story.direct && on == bucket {
				s := newBucketFixture(t)
				s.check(story.tell(s))
				return
			}
			s := newFixture(t)
			outcome := story.tell(s)
			s.on(on)
			s.check(outcome)
		})
	}
}

// onEach runs a test on all backends. What it makes on a filesystem, s.on moves.
func onEach(t *testing.T, name string, test func(t *testing.T, on backend)) {
	for _, on := range []backend{filesystem, bucket} {
		t.Run(name+"/"+string(on), func(t *testing.T) {
			t.Parallel()
			test(t, on)
		})
	}
}

// on moves what was made on a filesystem to where the test wants it.
func (s *fixture) on(where backend) {
	s.Helper()
	if where == bucket {
		s.moveToBucket()
	}
}

// fixture is a storage on one backend, with a registry that serves it.
type fixture struct {
	*testing.T
	registry *registrytest.Registry
	client   *registrytest.Client
	tree     *imagetest.Tree // nil once it is in a bucket

	s3     *miniotest.S3
	bucket string

	names map[string]string // by digest, for messages
}

// newFixture starts a registry on a filesystem.
func newFixture(t *testing.T) *fixture {
	root := t.TempDir()
	s := &fixture{T: t, tree: imagetest.NewTree(t, root), names: map[string]string{}}
	s.serve(registrytest.Config{Root: root})
	return s
}

// newBucketFixture starts a registry in a bucket of its own.
func newBucketFixture(t *testing.T) *fixture {
	s := &fixture{T: t, names: map[string]string{}}
	s.s3 = miniotest.SharedMinIO(t)
	s.bucket = s.s3.NewBucketT(t)
	s.serve(registrytest.Config{Storage: s.s3.Storage(s.bucket, s3Root)})
	return s
}

// moveToBucket puts the registry of a filesystem into a bucket as it is.
func (s *fixture) moveToBucket() {
	s.Helper()
	s.s3 = miniotest.SharedMinIO(s)
	s.bucket = s.s3.NewBucketT(s.T)
	s.must(miniotest.UploadTree(s.Context(), s.s3, s.bucket, s3Root, s.tree.Root()))
	s.tree = nil
	s.serve(registrytest.Config{Storage: s.s3.Storage(s.bucket, s3Root)})
}

func (s *fixture) serve(config registrytest.Config) {
	s.Helper()
	config.SparseIndexes = true // or a registry refuses BuildKit's caches
	s.registry = registrytest.StartT(s.T, config)
	s.client = s.registry.Client()
}

func (s *fixture) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// push pushes manifests to one reference after the other, and remembers the name of
// all that they hold.
func (s *fixture) push(reference string, m *imagetest.Manifest) {
	s.Helper()
	s.name(reference, m)
	s.must(s.client.Push(s.Context(), reference, m))
}

func (s *fixture) name(reference string, m *imagetest.Manifest) {
	note := func(d digest.Digest, name string) {
		if s.names[d.Encoded()] == "" {
			s.names[d.Encoded()] = "<" + name + " " + d.Encoded()[:8] + ">"
		}
	}
	note(m.Digest(), reference)
	for i, child := range m.Manifests {
		s.name(fmt.Sprintf("%s entry %d", reference, i), child)
	}
	for i, blob := range m.Blobs {
		note(blob.Digest(), fmt.Sprintf("%s blob %d", reference, i))
		note(digest.FromBytes(blob.Content), fmt.Sprintf("%s blob %d", reference, i))
	}
}

// plant stores a manifest by hand, under a tag unless that is "".
func (s *fixture) plant(repository, tag string, m *imagetest.Manifest) digest.Digest {
	s.Helper()
	s.name(repository+":"+tag, m)
	d := s.tree.Manifest(repository, m)
	if tag != "" {
		s.tree.Tag(repository, tag, d)
	}
	return d
}

// delete deletes a tag or a manifest through the registry.
func (s *fixture) delete(repository, tagOrDigest string) {
	s.Helper()
	s.must(s.client.Delete(s.Context(), repository, tagOrDigest))
}

// write writes a file of the layout as it is given.
func (s *fixture) write(path, content string) {
	s.Helper()
	if s.tree != nil {
		s.tree.Write(path, content)
		return
	}
	key := s.key(path)
	_, err := s.s3.Client().PutObject(s.Context(), &s3.PutObjectInput{Bucket: &s.bucket, Key: &key, Body: strings.NewReader(content)})
	s.must(err)
}

func (s *fixture) key(path string) string {
	return strings.TrimPrefix(s3Root, "/") + "/" + layoutRoot + path
}

// files are the sizes of all files below the layout's root, by path. The directory
// of the lock is left out.
func (s *fixture) files() map[string]int64 {
	s.Helper()
	files := map[string]int64{}
	if s.tree != nil {
		root := s.tree.Path("")
		s.must(filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil || entry.IsDir() {
				return err
			}
			info, err := entry.Info()
			if errors.Is(err, fs.ErrNotExist) {
				return nil // a run is removing it just now
			}
			if err != nil {
				return err
			}
			relative, err := filepath.Rel(root, path)
			files[filepath.ToSlash(relative)] = info.Size()
			return err
		}))
	} else {
		prefix := s.key("")
		pages := s3.NewListObjectsV2Paginator(s.s3.Client(), &s3.ListObjectsV2Input{Bucket: &s.bucket, Prefix: &prefix})
		for pages.HasMorePages() {
			page, err := pages.NextPage(s.Context())
			s.must(err)
			for _, object := range page.Contents {
				files[strings.TrimPrefix(*object.Key, prefix)] = *object.Size
			}
		}
	}
	maps.DeleteFunc(files, func(path string, _ int64) bool { return strings.HasPrefix(path, ".regsweep/") })
	return files
}

// multiparts are the keys of the unfinished multipart uploads of the bucket.
func (s *fixture) multiparts() []string {
	s.Helper()
	found, err := s.s3.Client().ListMultipartUploads(s.Context(), &s3.ListMultipartUploadsInput{Bucket: &s.bucket})
	s.must(err)
	var keys []string
	for _, upload := range found.Uploads {
		keys = append(keys, strings.TrimPrefix(*upload.Key, s.key("")))
	}
	slices.Sort(keys)
	return keys
}

// check judges a run, the same for every story:
//
//   - what is said to be alive pulls before, or the story would prove nothing;
//   - a dry run lists exactly the garbage, and changes nothing;
//   - the real run's plan is the same, line for line, its report says the same, and
//     what is gone from the storage is what they list, to the byte;
//   - what is alive pulls from a real registry, of both releases;
//   - a second run finds nothing left to do.
func (s *fixture) check(want outcome) {
	s.Helper()
	s.pull("before the run", s.client, want.alive)
	before := s.files()
	s.must(s.registry.SetReadOnly(true))

	dry := s.gc(append([]string{"--dry-run"}, want.flags...)...)
	s.judge("the dry run", dry, want, before)
	s.same("the files after a dry run", keys(s.files()), keys(before))
	if counts := dry.report.Removed.counts(); len(counts) > 0 {
		s.Errorf("the dry run says that it removed %v", counts)
	}

	real := s.gc(want.flags...)
	s.judge("the run", real, want, before)
	s.same("the run's plan against the dry run's", real.plan, dry.plan)
	if real.report.Removed != real.report.Garbage {
		s.Errorf("removed %+v, of %+v", real.report.Removed, real.report.Garbage)
	}
	after := s.files()
	s.same("the files after the run", keys(after), keys(without(before, want.goes)))
	if want.exit == 0 { // of a damaged manifest the report has the size that it should have
		s.totals(real, after)
	}

	s.pull("after the run", s.client, want.alive)
	s.pullFromRelease2(want.alive)
	if want.after != nil {
		want.after(s)
	}

	again := s.gc(want.flags...)
	if counts := again.report.Garbage.counts(); len(counts) > 0 {
		s.Errorf("a second run finds %v", counts)
	}
}

// judge compares a run's report and plan with what is wanted.
func (s *fixture) judge(what string, got gcRun, want outcome, before map[string]int64) {
	s.Helper()
	if got.code != want.exit || got.report.ExitCode != want.exit {
		s.Errorf("%s ends with %d and reports %d, want %d\n%s", what, got.code, got.report.ExitCode, want.exit, got.stderr)
	}
	s.same(what+"'s plan", got.lines(), slices.Sorted(slices.Values(want.goes)))
	s.same(what+"'s problems", got.problems(), slices.Sorted(slices.Values(want.problems)))
	var counts tallies
	for _, line := range want.goes {
		counts.add(line, before)
	}
	if got.report.Garbage != counts {
		s.Errorf("%s counts %+v, want %+v", what, got.report.Garbage, counts)
	}
	if got.plan == nil {
		s.Fatalf("%s wrote no plan: %s", what, got.report.Error)
	}
	if last := got.plan[len(got.plan)-1]; last != fmt.Sprintf(`{"removals":%d,"bytes":%d}`, len(want.goes), counts.Blobs.Bytes+counts.Uploads.Bytes) {
		s.Errorf("%s's plan ends with %s", what, last)
	}
}

// totals compares the objects that the report counts as kept with those that are there.
func (s *fixture) totals(run gcRun, after map[string]int64) {
	s.Helper()
	var blobs, bytes int64
	for path, size := range after {
		if isBlob(path) {
			blobs++
			bytes += size
		}
	}
	if got := run.report.Mark; got.Blobs != blobs || got.Bytes != bytes {
		s.Errorf("the report has %d blobs of %d bytes alive, there are %d of %d", got.Blobs, got.Bytes, blobs, bytes)
	}
}

// isBlob reports whether a path is that of a blob which a registry could have written.
func isBlob(path string) bool {
	parts := strings.Split(path, "/")
	return len(parts) == 5 && parts[0] == "blobs" && parts[1] == "sha256" && len(parts[3]) == 64 &&
		parts[2] == parts[3][:2] && parts[4] == "data"
}

// without is what remains of files once all that the lines name has gone.
func without(files map[string]int64, lines []string) map[string]int64 {
	rest := maps.Clone(files)
	for _, line := range lines {
		kind, path, _ := strings.Cut(line, " ")
		delete(rest, path)
		switch kind {
		case "upload":
			path += "/"
		case "revision": // its signatures go along
			path = strings.TrimSuffix(path, "link") + "signatures/"
			maps.DeleteFunc(rest, func(file string, _ int64) bool { return isReferrerLink(file, path) })
		default:
			continue
		}
		maps.DeleteFunc(rest, func(file string, _ int64) bool { return strings.HasPrefix(file, path) })
	}
	return rest
}

// pull pulls images, which must be whole.
func (s *fixture) pull(when string, client *registrytest.Client, images []image) {
	s.Helper()
	for _, image := range images {
		if err := client.PullAll(s.Context(), image.repository, image.references...); err != nil {
			s.Errorf("%s: %s", when, s.readable(err.Error()))
		}
	}
}

// pullFromRelease2 pulls images from a registry of the former release, if there is
// one on this machine.
func (s *fixture) pullFromRelease2(images []image) {
	s.Helper()
	if len(images) == 0 || testing.Short() {
		return
	}
	s.Run("pulls from release 2", func(t *testing.T) {
		path, err := registrytest.Binary(t.Context(), registrytest.Release2)
		if errors.Is(err, registrytest.ErrUnavailable) {
			t.Skipf("there is no registry of release 2 here, so that nothing was pulled from one: %v", err)
		}
		if err != nil {
			t.Fatal(err)
		}
		server := registrytest.StartBinaryT(t, path, s.registry.ConfigYAML())
		for _, image := range images {
			if err := server.Client().PullAll(t.Context(), image.repository, image.references...); err != nil {
				t.Error(s.readable(err.Error()))
			}
		}
	})
}

// blobs asks the registry for blobs of a repository, which no manifest leads to that
// it could serve.
func (s *fixture) blobs(repository string, digests ...digest.Digest) {
	s.Helper()
	for _, d := range digests {
		content, err := s.ask(repository + "/blobs/" + d.String())
		if err != nil || d.Algorithm().FromBytes(content) != d {
			s.Errorf("blob %s of %s: %d bytes, %v", s.readable(d.String()), repository, len(content), err)
		}
	}
}

// ask sends the registry a GET.
func (s *fixture) ask(path string) ([]byte, error) {
	request, err := http.NewRequestWithContext(s.Context(), http.MethodGet, s.registry.URL()+"/v2/"+path, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, */*")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s: %s", path, response.Status, content)
	}
	return content, nil
}

// gcRun is a run of gc that is over.
type gcRun struct {
	code   int
	report gcReport
	plan   []string // the lines of its file but the first; nil if it wrote none
	stderr string
}

// gcReport is the part of the report that the tests rely on.
type gcReport struct {
	DryRun bool `json:"dry_run"`
	Mark   struct {
		Blobs int64 `json:"blobs"`
		Bytes int64 `json:"bytes"`
	} `json:"mark"`
	Garbage  tallies       `json:"garbage"`
	Removed  tallies       `json:"removed"`
	Failed   []failedJSON  `json:"failed"`
	Kept     []kept        `json:"kept"`
	Problems []problemJSON `json:"problems"`
	LeftOut  []struct {
		Kind   string `json:"kind"`
		Reason string `json:"reason"`
		Count  int    `json:"count"`
	} `json:"left_out"` // of apply
	Roots, KeepDigests struct {
		Entries   int `json:"entries"`
		Found     int `json:"found"`
		NotStored []struct {
			Line   int    `json:"line"`
			Entry  string `json:"entry"`
			Reason string `json:"reason"`
			Kept   bool   `json:"kept"`
		} `json:"not_stored"`
	}
	Descriptors struct {
		Cache   string `json:"cache"`
		Deleted int64  `json:"deleted"`
		Stale   bool   `json:"stale"`
	} `json:"descriptors"`
	ExitCode int    `json:"exit_code"`
	Error    string `json:"error"`
}

// failedJSON is a removal that did not happen.
type failedJSON struct {
	Kind  string `json:"kind"`
	Bytes int64  `json:"bytes"`
	Error string `json:"error"`
}

type problemJSON struct {
	Kind       string `json:"kind"`
	Repository string `json:"repository"`
	Path       string `json:"path"`
	Detail     string `json:"detail"`
	Tags       []string
}

type kept struct {
	Reason     string `json:"reason"`
	Repository string `json:"repository"`
	Blobs      int    `json:"blobs"`
	Bytes      int64  `json:"bytes"`
	Links      int    `json:"links"`
}

type tally struct {
	Count int   `json:"count"`
	Bytes int64 `json:"bytes"`
}

// tallies are the counts of the report, which gives links no bytes.
type tallies struct {
	Blobs           tally `json:"blobs"`
	Revisions       tally `json:"revisions"`
	LayerLinks      tally `json:"layer_links"`
	TagIndexEntries tally `json:"tag_index_entries"`
	OrphanLinks     tally `json:"orphan_links"`
	EarlierEntries  tally `json:"earlier_entries"`
	Tags            tally `json:"tags"`
	Uploads         tally `json:"uploads"`
	Repositories    tally `json:"repositories"`
}

func (t *tallies) of(kind string) *tally {
	switch kind {
	case "blob":
		return &t.Blobs
	case "revision":
		return &t.Revisions
	case "layer_link":
		return &t.LayerLinks
	case "tag_index_entry":
		return &t.TagIndexEntries
	case "orphan_link":
		return &t.OrphanLinks
	case "earlier_entry":
		return &t.EarlierEntries
	case "tag":
		return &t.Tags
	case "upload":
		return &t.Uploads
	}
	return &t.Repositories
}

// add counts a line of the garbage, with the bytes of its files.
func (t *tallies) add(line string, files map[string]int64) {
	kind, path, _ := strings.Cut(line, " ")
	tally := t.of(kind)
	tally.Count++
	switch kind {
	case "blob":
		tally.Bytes += files[path]
	case "upload":
		for file, size := range files {
			if strings.HasPrefix(file, path+"/") {
				tally.Bytes += size
			}
		}
	}
}

// counts are those that are not zero.
func (t tallies) counts() map[string]int {
	counts := map[string]int{}
	for _, kind := range kinds {
		if n := t.of(kind).Count; n > 0 {
			counts[kind] = n
		}
	}
	return counts
}

// kinds are the kinds of removals in the order of docs/DESIGN.md.
var kinds = []string{"tag_index_entry", "revision", "orphan_link", "earlier_entry", "tag", "layer_link", "upload", "repository", "blob"}

// gc runs `regsweep gc` against the registry, with its config.yml for a target.
func (s *fixture) gc(flags ...string) gcRun {
	s.Helper()
	return s.gcOn(s.config(s.registry.ConfigYAML()), append([]string{"--registry", s.registry.URL()}, flags...)...)
}

// config writes a config.yml.
func (s *fixture) config(yaml string) string {
	s.Helper()
	path := filepath.Join(s.TempDir(), "config.yml")
	s.must(os.WriteFile(path, []byte(yaml), 0o600))
	return path
}

// gcOn runs `regsweep gc` on a target, with its report as JSON and a plan file.
func (s *fixture) gcOn(target string, flags ...string) gcRun {
	s.Helper()
	planFile := filepath.Join(s.TempDir(), "plan")
	run := s.reported(append([]string{"gc", target, "--json", "--plan", planFile}, flags...)...)
	run.plan = s.readPlan(planFile)
	return run
}

// reported runs a command that reports as gc does, with --json among its arguments.
func (s *fixture) reported(args ...string) gcRun {
	s.Helper()
	code, stdout, stderr := regsweep(s, args...)
	run := gcRun{code: code, stderr: stderr}
	decoder := json.NewDecoder(strings.NewReader(stdout))
	if err := decoder.Decode(&run.report); err != nil {
		s.Fatalf("the report: %v\n%s%s", err, stdout, stderr)
	}
	if err := decoder.Decode(new(any)); err != io.EOF {
		s.Errorf("after the report comes more: %v\n%s", err, stdout)
	}
	return run
}

// openStorage opens a storage, behind the faults that are planned for it.
func openStorage(ctx context.Context, config config.Config) (storage.Store, error) {
	if transport, planned := transports.Load(config.Parameters["bucket"]); planned {
		config.Transport = transport.(storage.Transport)
	}
	store, err := open.Store(ctx, config)
	if err == nil {
		if wrap, planned := wrapped.Load(store.Identity().Root); planned {
			store = wrap.(func(storage.Store) storage.Store)(store)
		}
	}
	return store, err
}

// transports has how requests leave for the buckets of the storages to come.
var transports sync.Map

// wrapped has what stands before the storages to come, by root.
var wrapped sync.Map

// regsweep runs one command line in this process.
func regsweep(s *fixture, args ...string) (code int, stdout, stderr string) {
	var out, errs output // a note about a silent storage may come at any time
	code = regsweepWith(s, strings.NewReader(""), &out, &errs, args...)
	return code, out.String(), errs.String()
}

// regsweepWith is regsweep with a standard input, and output that goes elsewhere.
func regsweepWith(s *fixture, in io.Reader, out, errs io.Writer, args ...string) (code int) {
	return regsweepOn(s.Context(), in, out, errs, args...)
}

// regsweepOn is regsweepWith that ctx can interrupt.
func regsweepOn(ctx context.Context, in io.Reader, out, errs io.Writer, args ...string) (code int) {
	return cli.Run(ctx, append([]string{"regsweep"}, args...), cli.Env{
		In: in, Out: out, Err: errs, Now: time.Now, Getenv: func(string) string { return "" }, Open: openStorage,
		Host: "here", User: "tester", ProbeInterval: time.Second, Width: func(io.Writer) int { return 0 },
	})
}

// planSum is the checksum in a plan's last line.
var planSum = regexp.MustCompile(`,"sha256":"[0-9a-f]{64}"}\n$`)

// readPlan reads a plan file but for its header, which has the time in it, and the
// checksum of it all, and sees that the removals are in their order.
func (s *fixture) readPlan(path string) []string {
	s.Helper()
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	s.must(err)
	if !planSum.Match(content) {
		s.Errorf("the plan ends without a checksum")
	}
	lines := strings.Split(planSum.ReplaceAllString(string(content), "}"), "\n")[1:]
	at := 0
	for _, line := range lines[:len(lines)-1] {
		next := slices.Index(kinds, decode[removal](s, line).Kind)
		if next < at {
			s.Errorf("the plan has this after its %ss: %s", kinds[at], line)
		}
		at = max(at, next)
	}
	return lines
}

// removal is the part of a plan's line that the tests compare.
type removal struct {
	Kind string `json:"kind"`
	Path string `json:"path"`
}

func decode[T any](s *fixture, text string) (v T) {
	s.Helper()
	s.must(json.Unmarshal([]byte(text), &v))
	return v
}

// lines are the removals of the plan as stories write them, sorted.
func (run gcRun) lines() []string {
	lines := []string{}
	for _, line := range run.plan {
		var r removal
		if err := json.Unmarshal([]byte(line), &r); err == nil && r.Kind != "" {
			lines = append(lines, r.Kind+" "+strings.TrimPrefix(r.Path, "/"+layoutRoot))
		}
	}
	slices.Sort(lines)
	return lines
}

// problems are the problems of the report as stories write them, sorted.
func (run gcRun) problems() []string {
	var lines []string
	for _, p := range run.report.Problems {
		lines = append(lines, problem(p.Kind, p.Repository, p.Path))
	}
	slices.Sort(lines)
	return lines
}

func problem(kind, repository, path string) string {
	return strings.Join([]string{kind, repository, path}, " ")
}

// same compares lists, and says what is missing and what is too much.
func (s *fixture) same(what string, got, want []string) {
	s.Helper()
	if slices.Equal(got, want) {
		return
	}
	var b strings.Builder
	count := map[string]int{}
	for _, line := range want {
		count[line]++
	}
	for _, line := range got {
		count[line]--
	}
	for _, line := range slices.Sorted(maps.Keys(count)) {
		switch n := count[line]; {
		case n > 0:
			fmt.Fprintf(&b, "\n  missing  %s", line)
		case n < 0:
			fmt.Fprintf(&b, "\n  too much %s", line)
		}
	}
	s.Errorf("%s:%s", what, s.readable(b.String()))
}

// readable puts names for the digests that it knows.
func (s *fixture) readable(text string) string {
	for hex, name := range s.names {
		text = strings.ReplaceAll(text, hex, name)
	}
	return text
}

func keys(files map[string]int64) []string { return slices.Sorted(maps.Keys(files)) }

// The garbage, as lines.

func blobsGo(digests ...digest.Digest) (lines []string) {
	for _, d := range digests {
		lines = append(lines, "blob "+imagetest.BlobPath(d))
	}
	return lines
}

func layersGo(repository string, digests ...digest.Digest) (lines []string) {
	for _, d := range digests {
		lines = append(lines, "layer_link "+imagetest.LayerPath(repository, d))
	}
	return lines
}

func revisionsGo(repository string, manifests ...*imagetest.Manifest) (lines []string) {
	for _, m := range manifests {
		lines = append(lines, "revision "+imagetest.RevisionPath(repository, m.Digest()))
	}
	return lines
}

func tagEntriesGo(repository, tag string, manifests ...*imagetest.Manifest) (lines []string) {
	for _, m := range manifests {
		lines = append(lines, "tag_index_entry "+imagetest.TagIndexPath(repository, tag, m.Digest()))
	}
	return lines
}

func uploadGoes(repository, id string) []string {
	return []string{"upload " + imagetest.UploadPath(repository, id)}
}

func repositoriesGo(repositories ...string) (lines []string) {
	for _, repository := range repositories {
		lines = append(lines, "repository repositories/"+repository)
	}
	return lines
}

// What stories are made of.

// layer is a small layer, another one for each n.
func layer(n int) imagetest.Blob { return imagetest.Layer(uint64(n), 600+n) }

// app is an image of the layers with these numbers.
func app(numbers ...int) *imagetest.Manifest { return formatted(imagetest.OCI, numbers...) }

func formatted(format imagetest.Format, numbers ...int) *imagetest.Manifest {
	layers := make([]imagetest.Blob, len(numbers))
	for i, n := range numbers {
		layers[i] = layer(n)
	}
	return imagetest.Image(format, layers...)
}

// content are the digests of a manifest's config and layers.
func content(m *imagetest.Manifest) (digests []digest.Digest) {
	for _, blob := range m.Blobs {
		digests = append(digests, blob.Digest())
	}
	return digests
}

// config is the digest of an image's config, which no other image shares.
func configOf(m *imagetest.Manifest) digest.Digest { return m.Blobs[len(m.Blobs)-1].Digest() }

func pulls(repository string, references ...any) image {
	i := image{repository: repository}
	for _, reference := range references {
		switch r := reference.(type) {
		case string:
			i.references = append(i.references, r)
		case *imagetest.Manifest:
			i.references = append(i.references, r.Digest().String())
		default:
			panic(fmt.Sprintf("no reference: %v", r))
		}
	}
	return i
}

var everyFault = flag.Bool("every-fault", false, "try all faults of system calls and of requests to S3, for hours, and not a selection")

// stride is how far apart the operations are at which a test lets something happen. With -short it
// is every eleventh: the race detector, with which each try takes several times as long, finds no
// more in the hundredth case than in the tenth.
func stride() int {
	if testing.Short() {
		return 11
	}
	return 1
}

// apart is how far apart operations are that are like each other: with -short one in n strides.
func apart(n int) int {
	if testing.Short() {
		return n * stride()
	}
	return 1
}

// isTried reports whether the k-th of the cases is tried: with -short one in n.
func isTried(k, n int) bool { return !testing.Short() || k%n == 0 }

// some are all cases, or with -short the first n.
func some[C any](cases []C, n int) []C {
	if testing.Short() {
		return cases[:min(n, len(cases))]
	}
	return cases
}

// manyAlike skips a test with -short: its registries differ in their content, and the program
// does the same with each.
func manyAlike(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("many cases that are alike")
	}
}

// checkInterrupted ends the test after an interrupt, so that everything is cleaned up. It also says how
// many faults were tried, since trying all of them takes hours.
func checkInterrupted(t *testing.T, tried, all int) {
	t.Helper()
	switch {
	case !*everyFault:
	case interruption().Err() != nil:
		t.Fatalf("interrupted: %d of %d faults were tried", tried, all)
	case tried%500 == 0:
		t.Logf("%s: %d of %d faults tried", t.Name(), tried, all)
	}
}

// interruption returns a context that ends with an interrupt. From its first call on, an interrupt does
// not end the process.
var interruption = sync.OnceValue(func() context.Context {
	ctx, _ := signal.NotifyContext(context.Background(), os.Interrupt) // until the process ends
	return ctx
})
