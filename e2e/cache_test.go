package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"regsweep/internal/imagetest"
)

// cachedRun is what a dry run in a process of its own has told.
type cachedRun struct {
	code     int
	stderr   string
	plan     []string
	requests struct{ List, Get, Head, Put, Delete int }
	cache    *struct{ Hits, Reads int }
	problems []string       // of the cache, their kinds
	rest     map[string]any // of the report: what a cache has nothing to do with
}

// cachedSite is a registry in a bucket that has what must be read to know what lives.
func cachedSite(t *testing.T) (s *site, config string, app *faultyApp) {
	t.Helper()
	s = newSite(t)
	_, app = faulty(s)
	s.moveToBucket()
	return s, s.config(s.registry.ConfigYAML()), app
}

// dryRun starts a dry run that has the user's cache directory from where, and returns
// what waits for it.
func (s *site) dryRun(where string, args ...string) (wait func() cachedRun) {
	s.Helper()
	planFile := filepath.Join(s.TempDir(), "plan")
	process := startIn(s.T, []string{"XDG_CACHE_HOME=" + where, "HOME=" + where},
		append([]string{"gc", "-d", "-m", "--json", "--plan", planFile}, args...)...)
	return func() cachedRun {
		s.Helper()
		run := cachedRun{code: process.exit(s.T), stderr: process.stderr.String()}
		output := []byte(process.stdout.String())
		var known struct {
			Requests *struct{ List, Get, Head, Put, Delete int }
			Cache    **struct{ Hits, Reads int }
		}
		known.Requests, known.Cache = &run.requests, &run.cache
		if err := json.Unmarshal(output, &known); err != nil {
			s.Fatalf("%v\n%s\n%s", err, output, run.stderr)
		}
		s.must(json.Unmarshal(output, &run.rest))
		for _, key := range []string{"requests", "cache", "seconds"} {
			delete(run.rest, key)
		}
		var problems []any
		for _, p := range run.rest["problems"].([]any) {
			kind := p.(map[string]any)["kind"].(string)
			if !strings.HasPrefix(kind, "cache_") {
				problems = append(problems, p)
				continue
			}
			run.problems = append(run.problems, kind)
			if effect := p.(map[string]any)["effect"]; effect != "note" {
				s.Errorf("%s has the effect %v", kind, effect)
			}
		}
		run.rest["problems"] = problems
		run.plan = s.readPlan(planFile)
		return run
	}
}

// A run that finds all manifests in the cache lists the bucket, asks nothing else, and
// finds the same. A cache that somebody has poisoned costs a read and is reported.
func TestCacheSparesAllButTheListing(t *testing.T) {
	t.Parallel()
	s, config, app := cachedSite(t)
	dir := t.TempDir()
	without := s.dryRun(dir, "--no-cache", config)()
	if without.cache != nil || without.requests.Get == 0 || len(without.plan) < 3 {
		t.Fatalf("without a cache: %+v", without)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) > 0 {
		t.Errorf("--no-cache has left %v, %v", files, err)
	}
	same := func(what string, run cachedRun) {
		t.Helper()
		if run.code != without.code || !reflect.DeepEqual(run.rest, without.rest) || !slices.Equal(run.plan, without.plan) {
			t.Errorf("%s: another result than without a cache:\n%+v\n%+v", what, run, without)
		}
		if run.requests.Put+run.requests.Delete > 0 {
			t.Errorf("%s: it wrote to the storage: %+v", what, run.requests)
		}
	}
	gets := without.requests.Get
	check := func(what string, run cachedRun, hits, reads int, problems ...string) {
		t.Helper()
		same(what, run)
		if run.cache == nil || run.cache.Hits != hits || run.cache.Reads != reads || run.requests.Get != reads || run.requests.Head != 0 {
			t.Errorf("%s: %+v %+v, want %d hits and %d reads", what, run.cache, run.requests, hits, reads)
		}
		if !slices.Equal(run.problems, problems) || strings.Count(run.stderr, "warning") != len(problems) {
			t.Errorf("%s: %v, want %v, and said\n%s", what, run.problems, problems, run.stderr)
		}
	}
	check("the first run", s.dryRun(dir, config)(), 0, gets)
	check("the second", s.dryRun(dir, config)(), gets, 0)

	file := filepath.Join(dir, "regsweep")
	files, err := os.ReadDir(file)
	if err != nil || len(files) != 1 {
		t.Fatalf("the cache is %v, %v", files, err)
	}
	file = filepath.Join(file, files[0].Name())
	whole, err := os.ReadFile(file)
	s.must(err)
	flipped := bytes.Clone(whole)
	flipped[len(flipped)-1] ^= 1
	s.must(os.WriteFile(file, flipped, 0o600))
	check("poisoned", s.dryRun(dir, config)(), gets-1, 1, "cache_damaged")
	check("after that", s.dryRun(dir, config)(), gets, 0)
	s.must(os.WriteFile(file, whole[:len(whole)/2], 0o600))
	if run := s.dryRun(dir, config)(); len(run.problems) != 1 || run.cache.Hits == 0 || run.cache.Reads == 0 {
		t.Errorf("cut in half: %+v %v", run.cache, run.problems)
	}
	s.must(os.WriteFile(file, flipped, 0o600))
	if run := s.dryRun(dir, "-q", config)(); !strings.HasPrefix(run.stderr, "regsweep: warning: ") || strings.Count(run.stderr, "\n") != 1 {
		t.Errorf("poisoned, -q: %q", run.stderr)
	}

	// Damage to the storage shows, of the size that it was: as without a cache.
	content := bytes.Clone(app.arm.Content)
	content[len(content)/2] ^= 1
	s.write(imagetest.BlobPath(app.arm.Digest()), string(content))
	without = s.dryRun(dir, "--no-cache", config)()
	if without.code != 4 {
		t.Fatalf("a damaged manifest: %+v", without)
	}
	check("damaged in the bucket", s.dryRun(dir, config)(), gets-1, 1)
}

// Processes at the same time share a cache without waiting for each other.
func TestCacheIsSharedByProcesses(t *testing.T) {
	t.Parallel()
	s, config, _ := cachedSite(t)
	other, otherConfig, _ := cachedSite(t)
	dir := filepath.Join(t.TempDir(), "cache")
	gets := s.dryRun(dir, "--no-cache", config)().requests.Get
	var waits []func() cachedRun
	for range 3 {
		waits = append(waits, s.dryRun(dir, "--cache", dir, config), other.dryRun(dir, "--cache", dir, otherConfig))
	}
	for _, wait := range waits {
		if run := wait(); run.code != 0 || len(run.problems) > 0 || run.cache.Hits+run.cache.Reads != gets {
			t.Errorf("ends with %d, %v, %+v\n%s", run.code, run.problems, run.cache, run.stderr)
		}
	}
	for _, wait := range []func() cachedRun{s.dryRun(dir, "--cache", dir, config), other.dryRun(dir, "--cache", dir, otherConfig)} {
		if run := wait(); run.requests.Get != 0 || run.cache.Hits != gets {
			t.Errorf("afterwards: %+v", run)
		}
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 2 {
		t.Errorf("the cache is %v, %v, not a file for each registry", files, err)
	}
}

// A default that can't be had is no reason to stop; what somebody asked for is.
func TestCacheDirectoryThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	s, config, _ := cachedSite(t)
	gets := s.dryRun(t.TempDir(), "--no-cache", config)().requests.Get

	homeless := s.dryRun("", config)()
	if homeless.code != 0 || homeless.cache != nil || homeless.requests.Get != gets || strings.Contains(homeless.stderr, "warning") {
		t.Errorf("without a home: %+v", homeless)
	}
	file := filepath.Join(t.TempDir(), "file")
	s.must(os.WriteFile(file, nil, 0o600))
	run := s.dryRun(file, config)()
	if run.code != 0 || run.cache != nil || run.requests.Get != gets || !slices.Equal(run.problems, []string{"cache_unusable"}) ||
		strings.Count(run.stderr, "warning: ") != 1 || !strings.Contains(run.stderr, "not a directory") {
		t.Errorf("a file in the place of the directory: %+v", run)
	}
	for _, dir := range []string{file, filepath.Join(file, "below")} {
		planFile := filepath.Join(t.TempDir(), "plan")
		refused := startIn(t, nil, "gc", "-d", "--plan", planFile, "--cache", dir, config)
		if code := refused.exit(t); code != 2 || refused.stderr.String() != "regsweep: --cache: "+dir+" can't be written: not a directory\n" {
			t.Errorf("--cache %s ends with %d: %s", dir, code, &refused.stderr)
		}
		if left, err := filepath.Glob(planFile + "*"); err != nil || len(left) > 0 {
			t.Errorf("it has left %v, %v", left, err)
		}
	}
}
