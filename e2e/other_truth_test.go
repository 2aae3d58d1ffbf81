package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"regsweep/internal/imagetest"
	"regsweep/internal/registrytest"
	"regsweep/storage"
	"regsweep/storage/layout"

	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// A registry with GitLab's metadata database: its newer images have blobs and no links, so
// that they look like garbage. Promise 1.
func TestAMetadataDatabaseRefusesEveryRemoval(t *testing.T) {
	t.Parallel()
	onEach(t, "the file in the storage", func(t *testing.T, on backend) {
		s := newSite(t)
		s.unrelated()
		s.on(on)
		s.must(s.registry.SetReadOnly(true))
		if code, stdout, _ := regsweep(s, "gc", "-dm", s.config(s.registry.ConfigYAML())); code != 0 || strings.Contains(stdout, "REFUSED") {
			t.Fatalf("without a sign it ends with %d: %s", code, stdout)
		}
		if on == bucket {
			key := s3Root + "/" + layout.GitLabDatabaseFile
			_, err := s.s3.Client().PutObject(t.Context(), &s3.PutObjectInput{Bucket: &s.bucket, Key: &key, Body: bytes.NewReader(nil)})
			s.must(err)
		} else {
			file := filepath.Join(s.tree.Root(), layout.GitLabDatabaseFile)
			must(t, os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, nil, 0o644))
		}
		s.refusesFor(layout.GitLabDatabaseFile, s.config(s.registry.ConfigYAML()), "other_truth")
	})
	for _, enabled := range []string{"true", `"prefer"`} {
		s := newSite(t)
		s.unrelated()
		s.must(s.registry.SetReadOnly(true))
		s.refusesFor("database.enabled", s.config(s.registry.ConfigYAML()+"database:\n  enabled: "+enabled+"\n"), "other_truth")
	}
}

// With --unsafe-online pushes may run: they are no second reason to refuse.
func TestUnsafeOnlineIsNotRefusedForAPush(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.unrelated()
	s.tree.Upload("sound", "new", time.Now(), []byte("half a layer"))
	code, _, stderr := regsweep(s, "gc", "--unsafe-online", s.config(s.registry.ConfigYAML()+"database:\n  enabled: true\n"))
	if code != 3 || strings.Contains(stderr, "pushed just now") || strings.Contains(stderr, "wait, and run it again") {
		t.Errorf("ends with %d: %s", code, stderr)
	}
}

// refusesFor runs everything that removes, which must end with 3 and name a sign.
func (s *site) refusesFor(sign, target, by string) {
	s.Helper()
	before := s.files()
	for _, args := range [][]string{
		{"gc"}, {"gc", "-m"}, {"gc", "--registry-stopped"}, {"gc", "--unsafe-online"}, {"gc", "--quarantine"},
		{"gc", "--registry", s.registry.URL()}, {"check"}, {"check", "--registry-stopped"},
	} {
		code, stdout, stderr := regsweep(s, append(args, target)...)
		if code != 3 || !strings.Contains(stdout+stderr, sign) || !strings.Contains(stdout+stderr, "--roots FILE") {
			s.Errorf("%v ends with %d: %s%s", args, code, stdout, stderr)
		}
	}
	plan := filepath.Join(s.TempDir(), "plan")
	for _, flags := range [][]string{{"-d"}, {"-dq"}, {"-dm", "--plan", plan}, {"-d", "--json"}} {
		code, stdout, stderr := regsweep(s, append([]string{"gc", target}, flags...)...)
		if code != 3 || !strings.Contains(stdout+stderr, sign) || !strings.Contains(stderr, "regsweep: refused: ") && flags[len(flags)-1] != "--json" ||
			strings.Contains(stdout, "would be freed") {
			s.Errorf("gc %v ends with %d: %s%s", flags, code, stdout, stderr)
		}
		var report struct{ Guard struct{ By string } }
		if flags[len(flags)-1] == "--json" && (json.Unmarshal([]byte(stdout), &report) != nil || report.Guard.By != by) {
			s.Errorf("the report has %q", report.Guard.By)
		}
	}
	if code, stdout, stderr := regsweep(s, "apply", plan, target); code != 3 || !strings.Contains(stdout+stderr, sign) {
		s.Errorf("apply ends with %d: %s%s", code, stdout, stderr)
	}
	s.same("the files", filesAndSizes(s.files()), filesAndSizes(before))
}

func filesAndSizes(files map[string]int64) []string {
	var lines []string
	for name, size := range files {
		lines = append(lines, fmt.Sprint(name, size))
	}
	slices.Sort(lines)
	return lines
}

// Harbor has tags that the storage lacks. Their manifests look untagged.
func TestHarborsUntaggedManifestsAreNotRemoved(t *testing.T) {
	s := newSite(t)
	s.damaged("project/app", 10) // -m removes the untagged half of it
	orphan := s.tree.Blob([]byte("what Harbor has forgotten"))
	s.must(s.registry.SetReadOnly(true))
	target := s.config(s.registry.ConfigYAML() + "auth:\n  htpasswd:\n    realm: harbor-registry-basic-realm\n    path: /etc/registry/passwd\n")
	s.tree.Age("", time.Hour)
	for flag, want := range map[string]int{"--json": 0, "-m": 3, "--delete-untagged": 3} {
		if code, stdout, _ := regsweep(s, "check", flag, target); code != want {
			t.Errorf("check %s ends with %d: %s", flag, code, stdout)
		}
	}
	plan := filepath.Join(t.TempDir(), "plan")
	if code, stdout, _ := regsweep(s, "gc", "-dm", "--plan", plan, target); code != 3 || !strings.Contains(stdout, "REFUSED") || !strings.Contains(stdout, "nothing would be: a run that removes would be refused.\n") {
		t.Errorf("a dry run ends with %d: %s", code, stdout)
	}
	for _, args := range [][]string{{"gc", "-m"}, {"gc", "-m", "--registry-stopped"}, {"gc", "-m", "--unsafe-online"}, {"apply", plan}} {
		code, stdout, stderr := regsweep(s, append(args, target)...)
		if code != 3 || !strings.Contains(stderr, "harbor-registry-basic-realm") || !strings.Contains(stderr, "--keep-digests FILE") {
			t.Errorf("%v ends with %d: %s%s", args, code, stdout, stderr)
		}
	}
	if !s.tree.Exists(imagetest.BlobPath(orphan)) {
		t.Error("a refused run has removed something")
	}
	if run := s.gcOn(target); run.code != 0 || run.report.Removed.Revisions.Count != 0 || s.tree.Exists(imagetest.BlobPath(orphan)) {
		t.Errorf("without -m: ends with %d, and %v is removed: %s", run.code, run.report.Removed.counts(), run.report.Error)
	}
}

// A pull-through cache writes in read-only mode too. A directory as the target does not say that
// the registry is one.
func TestAReadOnlyPullThroughCacheIsRefused(t *testing.T) {
	upstream := newSite(t)
	upstream.push("team/app:v1", app(1, 2))
	upstream.push("team/app:v2", app(1, 3))
	root := t.TempDir()
	s := &site{T: t, tree: imagetest.NewTree(t, root), names: map[string]string{}}
	s.serve(registrytest.Config{Root: root, ReadOnly: true, ProxyOf: upstream.registry.URL()})
	s.must(s.client.PullAll(t.Context(), "team/app", "v1"))
	s.tree.Blob([]byte("garbage"))
	s.tree.Age("", time.Hour)
	before := s.files()
	for _, args := range [][]string{{"check"}, {"gc"}, {"gc", "-m"}, {"gc", "--registry-stopped"}} {
		code, stdout, stderr := regsweep(s, append(args, root, "--registry", s.registry.URL())...)
		if code != 3 || !strings.Contains(stdout+stderr, "is a pull-through cache") || !strings.Contains(stdout+stderr, "lists the tag v2") {
			t.Errorf("%v ends with %d: %s%s", args, code, stdout, stderr)
		}
	}
	s.same("the files", filesAndSizes(s.files()), filesAndSizes(before))
}

// The target is not what the registry serves: an empty volume, a slip in a prefix.
func TestAnEmptyStorageIsNotTheRegistrys(t *testing.T) {
	s := newSite(t)
	s.unrelated()
	s.must(s.registry.SetReadOnly(true))
	empty := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(empty, storage.Root), 0o755))
	target := s.config(strings.ReplaceAll(s.registry.ConfigYAML(), s.tree.Root(), empty))
	for _, args := range [][]string{{"gc", target}, {"check", target}, {"gc", empty, "--registry", s.registry.URL()}} {
		code, stdout, stderr := regsweep(s, args...)
		if code != 3 || !strings.Contains(stdout+stderr, "has repositories that this storage lacks") || !strings.Contains(stdout+stderr, "sound") {
			t.Errorf("%v ends with %d: %s%s", args[0], code, stdout, stderr)
		}
	}
	// A repository is missing here, as if its disk were not mounted.
	s.tree.Remove("repositories/sound")
	whole := newSite(t)
	whole.unrelated()
	whole.plant("kept", "v1", app(1, 77))
	s.plant("kept", "v1", app(1, 77))
	s.tree.Blob([]byte("what a crash left"))
	whole.must(whole.registry.SetReadOnly(true))
	other := s.config(strings.ReplaceAll(s.registry.ConfigYAML(), s.registry.Host(), whole.registry.Host()))
	if run := s.gcOn(other); run.code != 3 || !strings.Contains(run.report.Error, "has repositories that this storage lacks") {
		t.Errorf("a missing repository: ends with %d: %s", run.code, run.report.Error)
	}
}
