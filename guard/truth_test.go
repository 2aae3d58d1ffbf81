package guard

import (
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"regsweep/internal/imagetest"
	"regsweep/internal/registrytest"
	"regsweep/storage"
	"regsweep/storage/layout"
)

// GitLab's registry with its metadata database has images whose links are missing in the storage.
// The storage has only their blobs.
func TestPromise4AMetadataDatabaseRefuses(t *testing.T) {
	root, samples := content(t)
	plain := registrytest.StartT(t, registrytest.Config{Root: root, ReadOnly: true})
	// GitLab's registry is not available here. A header turns Distribution's registry into one.
	database := front(t, root, true, func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set(databaseHeader, "true")
		return false
	})
	marked, _ := content(t)
	file := filepath.Join(marked, layout.GitLabDatabaseFile)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		o      Options
		sign   string
		byFile bool // it is found without a probe
	}{
		"database.enabled: true":     {Options{Config: configured(t, plain.Host(), saysReadOnly, "database: {enabled: true}")}, "database.enabled", true},
		"database.enabled: prefer":   {Options{Config: configured(t, plain.Host(), saysReadOnly, `database: {enabled: "prefer"}`)}, "prefer", true},
		"the file in the storage":    {Options{Endpoints: []string{plain.URL()}, Store: opened(t, marked)}, layout.GitLabDatabaseFile, true},
		"the header of an endpoint":  {Options{Endpoints: []string{database.URL()}}, databaseHeader, false},
		"the header at http.addr":    {Options{Config: configured(t, database.Host(), saysReadOnly)}, databaseHeader, false},
		"the header, and it is said": {Options{Config: configured(t, database.Host(), saysReadOnly), Stopped: true}, databaseHeader, false},
	} {
		t.Run(name, func(t *testing.T) {
			o := test.o
			o.Samples = samples
			wantRefused(t, prove(t, o), ByOtherTruth, test.sign, "--roots FILE")
			o.KeepDigestsGiven = true
			wantRefused(t, prove(t, o), ByOtherTruth)
			if _, refused := Signs(t.Context(), o); refused != test.byFile {
				t.Errorf("without asking: refused %v", refused)
			}
			if test.byFile {
				o.Unsafe = true
				wantRefused(t, prove(t, o), ByOtherTruth, test.sign)
				o.Unsafe, o.Stopped = false, true
				wantRefused(t, prove(t, o), ByOtherTruth, test.sign)
				o.Stopped = test.o.Stopped
			}
			o.RootsGiven = true
			if v := prove(t, o); !v.MayRemove() {
				t.Errorf("with --roots:\n%s", table(v))
			}
			if _, refused := Signs(t.Context(), o); refused {
				t.Error("without asking: refused, with --roots")
			}
		})
	}
	for _, off := range []string{"{enabled: false}", "{enabled: no}", "{}", "{host: db.example.com}"} {
		o := Options{Config: configured(t, plain.Host(), saysReadOnly, "database: "+off), Samples: samples, Store: opened(t, root)}
		wantProven(t, prove(t, o), ByReadOnly)
	}
	t.Setenv("REGISTRY_DATABASE_ENABLED", "prefer")
	wantRefused(t, prove(t, Options{Config: configured(t, plain.Host(), saysReadOnly, "database: {enabled: false}"), Samples: samples}), ByOtherTruth, "prefer")
}

// Harbor has tags in its database that the storage lacks.
func TestPromise4HarborsUntaggedManifestsAreKept(t *testing.T) {
	root, samples := content(t)
	registry := registrytest.StartT(t, registrytest.Config{Root: root, ReadOnly: true})
	// Harbor is not available here. Its challenge turns Distribution's registry into one.
	harbor := front(t, root, true, func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Authorization") != "" {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="`+harborRealm+`"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	for name, o := range map[string]Options{
		"config.yml":    {Config: configured(t, registry.Host(), saysReadOnly, "auth: {htpasswd: {realm: harbor-registry-basic-realm, path: /etc/registry/passwd}}")},
		"its challenge": {Endpoints: []string{harbor.URL()}, Username: "harbor_registry_user", Password: "swordfish"},
	} {
		t.Run(name, func(t *testing.T) {
			o.Samples = samples
			wantProven(t, prove(t, o), ByReadOnly)
			o.DeleteUntagged = true
			wantRefused(t, prove(t, o), ByOtherTruth, harborRealm, "--keep-digests FILE")
			o.KeepDigestsGiven = true
			wantProven(t, prove(t, o), ByReadOnly)
			o.KeepDigestsGiven, o.RootsGiven = false, true
			wantProven(t, prove(t, o), ByReadOnly)
		})
	}
}

func nothingKnown(string, string) bool { return false }

// A pull-through cache also writes in read-only mode. If the target is a directory, there is no
// config.yml that says that it is a cache.
func TestPromise4APullThroughCacheIsRecognized(t *testing.T) {
	upstreamRoot, samples := content(t)
	imagetest.NewTree(t, upstreamRoot).Tag("team/app", "another", imagetest.NewTree(t, upstreamRoot).Manifest("team/app", imagetest.Image(imagetest.OCI, imagetest.Layer(7, 100))))
	upstream := registrytest.StartT(t, registrytest.Config{Root: upstreamRoot, ReadOnly: true})
	cache := func(t *testing.T) (root string, cache *registrytest.Registry) {
		root = t.TempDir()
		cache = registrytest.StartT(t, registrytest.Config{Root: root, ReadOnly: true, ProxyOf: upstream.URL()})
		if err := cache.Client().PullAll(t.Context(), "team/app", "v1"); err != nil {
			t.Fatal(err)
		}
		return root, cache
	}

	t.Run("by the other registry's tags", func(t *testing.T) {
		root, cache := cache(t)
		o := Options{Endpoints: []string{cache.URL()}, Samples: samples[:1], Store: opened(t, root), HasTag: nothingKnown}
		wantRefused(t, prove(t, o), ByProxy, "lists the tag another", "--registry-stopped")
		o.Stopped = true
		wantRefused(t, prove(t, o), ByProxy)
	})
	t.Run("by the answer of another registry that fails", func(t *testing.T) {
		root := upstreamRoot
		gone, err := registrytest.Start(t.Context(), registrytest.Config{Root: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		cache := registrytest.StartT(t, registrytest.Config{Root: root, ReadOnly: true, ProxyOf: gone.URL()})
		if err := gone.Stop(); err != nil {
			t.Fatal(err)
		}
		v := prove(t, Options{Endpoints: []string{cache.URL()}, Samples: samples})
		wantRefused(t, v, ByUnknown, "GET an unknown manifest", "the answer of a registry in trouble, or of a pull-through cache", "--registry-stopped")
		if strings.Contains(v.Reason, "is a pull-through cache") {
			t.Errorf("it is called a cache: %s", v.Reason)
		}
		// At config.yml's own address it refuses too: it may write to this storage.
		o := Options{Config: configured(t, cache.Host(), saysReadOnly), Endpoints: []string{upstream.URL()}, Samples: samples}
		wantRefused(t, prove(t, o), ByUnknown, "the answer of a registry in trouble, or of a pull-through cache")
		o.Stopped = true
		wantRefused(t, prove(t, o), ByUnknown)
	})
	t.Run("not by a registry in trouble", func(t *testing.T) {
		for _, code := range []int{http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusServiceUnavailable} {
			busy := front(t, upstreamRoot, true, func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodGet && strings.Contains(r.URL.Path, impossible) {
					w.Header().Set(apiVersion, "registry/2.0")
					w.WriteHeader(code)
					return true
				}
				return false
			})
			v := prove(t, Options{Endpoints: []string{busy.URL()}, Samples: samples})
			wantRefused(t, v, ByUnknown, strconv.Itoa(code), "the answer of a registry in trouble")
		}
	})
	t.Run("by its file", func(t *testing.T) {
		root, cache := cache(t)
		if err := cache.SetReadOnly(true); err != nil { // the cache writes its state file when it ends
			t.Fatal(err)
		}
		o := Options{Endpoints: []string{upstream.URL()}, Samples: samples, Store: opened(t, root), Now: time.Now}
		wantRefused(t, prove(t, o), ByProxy, layout.ProxyStateFile, "--registry-stopped")
		o.Endpoints, o.Stopped = nil, true
		wantProven(t, prove(t, o), ByOperator)
	})
	t.Run("takes no registry for one", func(t *testing.T) {
		// Registries list a tag whose removal was interrupted, although it has no link.
		root, samples := content(t)
		if err := os.MkdirAll(filepath.Join(root, storage.Root, "repositories/team/app/_manifests/tags/cut"), 0o755); err != nil {
			t.Fatal(err)
		}
		registry := registrytest.StartT(t, registrytest.Config{Root: root, ReadOnly: true})
		wantProven(t, prove(t, Options{Endpoints: []string{registry.URL()}, Samples: samples, Store: opened(t, root), HasTag: nothingKnown}), ByReadOnly)
	})
}
