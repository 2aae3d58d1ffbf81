package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"regsweep/cli"
	"regsweep/internal/imagetest"
	"regsweep/internal/redistest"
	"regsweep/internal/registrytest"
	"regsweep/storage"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/opencontainers/go-digest"
	"github.com/redis/go-redis/v9"
)

// A registry that keeps descriptors in Redis, and the server that has the keys.
type redisFixture struct {
	*fixture
	section string // of a config.yml
	servers []*redis.Client
	gone    *imagetest.Manifest // its tag is deleted
	alias   imagetest.Blob      // of gone, pushed by its SHA-512
	kept    imagetest.Blob      // alias of a layer that another repository keeps
}

// redisServer starts the Redis of a test. It returns what the registry reads of it, and what regsweep reads.
type redisServer func(t *testing.T) (registry configuration.Redis, section string, servers []*redis.Client)

// password is in the configuration of each of these servers that can have one.
const redisPassword = "hunter2"

func plainRedis(t *testing.T) (configuration.Redis, string, []*redis.Client) {
	addr, _ := redistest.StartT(t, "--requirepass", redisPassword)
	return configuration.Redis{Options: configuration.RedisOptions{Addrs: []string{addr}, Password: redisPassword, DB: 3}},
		fmt.Sprintf("{addrs: [%q], password: %s, db: 3}", addr, redisPassword),
		[]*redis.Client{redis.NewClient(&redis.Options{Addr: addr, Password: redisPassword, DB: 3})}
}

// newRedisFixture pushes images through a registry with a cache, and has them pulled.
func newRedisFixture(t *testing.T, start redisServer) *redisFixture {
	root := t.TempDir()
	s := &redisFixture{fixture: &fixture{T: t, tree: imagetest.NewTree(t, root), names: map[string]string{}}}
	var section configuration.Redis
	section, s.section, s.servers = start(t)
	t.Cleanup(func() {
		for _, server := range s.servers {
			_ = server.Close()
		}
	})
	s.serve(registrytest.Config{Root: root, Redis: section})
	live := app(1, 1, 2)
	s.alias, s.kept = layer(4), layer(2)
	s.alias.Algorithm, s.kept.Algorithm = digest.SHA512, digest.SHA512
	s.gone = imagetest.Image(imagetest.OCI, layer(1), layer(3), s.alias, s.kept)
	s.push("team/live:v1", live)
	s.push("team/app:v1", s.gone)
	s.push("team/app:v2", app(1, 1, 5))
	for repository, tag := range map[string]string{"team/live": "v1", "team/app": "v1"} {
		s.must(s.client.PullAll(t.Context(), repository, tag))
	}
	s.delete("team/app", "v1")
	s.must(s.registry.SetReadOnly(true))
	return s
}

// configFile writes the config.yml of the registry, with its cache.
func (s *redisFixture) configFile() string {
	yaml := strings.Replace(s.registry.ConfigYAML(), "storage:\n", "storage:\n  cache:\n    blobdescriptor: redis\n", 1)
	return s.config(yaml + "redis: " + s.section + "\n")
}

func (s *redisFixture) run(flags ...string) gcRun {
	s.Helper()
	return s.gcOn(s.configFile(), append([]string{"-m", "--registry", s.registry.URL()}, flags...)...)
}

// foreign adds keys that look like those of the registry, and are of no removed blob.
func (s *redisFixture) foreign() {
	s.Helper()
	unknown := digest.FromString("of another storage").String()
	for i, key := range []string{"blobs::" + unknown, "repository::team/app::blobs::" + unknown, "sidekiq", "blobs::", "repository::team/app2::blobs::" + s.gone.Digest().String()} {
		s.must(s.servers[i%len(s.servers)].Process(s.Context(), redis.NewStatusCmd(s.Context(), "SET", key, "foreign")))
	}
	s.must(s.servers[0].SAdd(s.Context(), "repository::team/app2::blobs", s.gone.Digest().String()).Err())
}

// without is content without the keys of the files that have gone from the storage.
func (s *redisFixture) without(content map[string]string, before map[string]int64) map[string]string {
	after := s.files()
	hasGone := func(path string) bool {
		_, was := before[path]
		_, is := after[path]
		return was && !is
	}
	rest := maps.Clone(content)
	maps.DeleteFunc(rest, func(key, _ string) bool {
		if d, isBlob := strings.CutPrefix(key, "blobs::"); isBlob && strings.Contains(d, ":") {
			if digest.Digest(d) == s.alias.Digest() {
				d = digest.FromBytes(s.alias.Content).String()
			}
			return digest.Digest(d).Algorithm() == digest.SHA256 && hasGone(imagetest.BlobPath(digest.Digest(d)))
		}
		repository, d, is := strings.Cut(strings.TrimPrefix(key, "repository::"), "::blobs::")
		if !is {
			repository, d, is = strings.Cut(strings.TrimPrefix(key, "repository::"), "::blobs has ")
		}
		return is && (hasGone(imagetest.LayerPath(repository, digest.Digest(d))) || hasGone(imagetest.RevisionPath(repository, digest.Digest(d))))
	})
	return rest
}

func sameKeys(t *testing.T, what string, got, want map[string]string) {
	t.Helper()
	for key := range got {
		if _, wanted := want[key]; !wanted {
			t.Errorf("%s: %s is still there", what, key)
		}
	}
	for key, content := range want {
		if is, found := got[key]; !found || is != content {
			t.Errorf("%s: %s is not as it was", what, key)
		}
	}
}

// TestRemovedBlobsAreForgottenByRedis: without the deletion of the keys a real client is told that a layer
// is there, and nobody can pull what it then pushes. With it the push is whole. No other key changes.
func TestRemovedBlobsAreForgottenByRedis(t *testing.T) {
	t.Parallel()
	servers := map[string]redisServer{
		"password and database": plainRedis,
		"release 2": func(t *testing.T) (configuration.Redis, string, []*redis.Client) {
			addr, _ := redistest.StartT(t, "--requirepass", redisPassword)
			return configuration.Redis{Options: configuration.RedisOptions{Addrs: []string{addr}, Password: redisPassword}},
				fmt.Sprintf("{addr: %q, password: %s, db: 0, dialtimeout: 1ms, readtimeout: 1us, pool: {maxidle: 16}}", addr, redisPassword),
				[]*redis.Client{redis.NewClient(&redis.Options{Addr: addr, Password: redisPassword})}
		},
		"TLS on both sides": func(t *testing.T) (configuration.Redis, string, []*redis.Client) {
			pem, key := certificate(t)
			addr, _ := redistest.StartT(t, "--requirepass", redisPassword, "--port", "0", "--tls-port", "PORT",
				"--tls-cert-file", pem, "--tls-key-file", key, "--tls-ca-cert-file", pem)
			section := configuration.Redis{
				Options: configuration.RedisOptions{Addrs: []string{addr}, Password: redisPassword},
				TLS:     configuration.RedisTLSOptions{Certificate: pem, Key: key, RootCAs: []string{pem}},
			}
			client := redis.NewClient(&redis.Options{Addr: addr, Password: redisPassword, TLSConfig: tlsOf(t, pem, key)})
			return section, fmt.Sprintf("{addrs: [%q], password: %s, tls: {certificate: %s, key: %s, rootcas: [%s]}}", addr, redisPassword, pem, key, pem), []*redis.Client{client}
		},
		"sentinel": func(t *testing.T) (configuration.Redis, string, []*redis.Client) {
			master, _ := redistest.StartT(t)
			sentinel := redistest.StartSentinelT(t, "registry", master)
			return configuration.Redis{Options: configuration.RedisOptions{Addrs: []string{sentinel}, MasterName: "registry"}},
				fmt.Sprintf("{addrs: [%q], mastername: registry}", sentinel), []*redis.Client{redis.NewClient(&redis.Options{Addr: master})}
		},
		"cluster": func(t *testing.T) (configuration.Redis, string, []*redis.Client) {
			addrs := redistest.StartClusterT(t)
			var clients []*redis.Client
			for _, addr := range addrs {
				clients = append(clients, redis.NewClient(&redis.Options{Addr: addr}))
			}
			return configuration.Redis{Options: configuration.RedisOptions{Addrs: addrs}},
				fmt.Sprintf("{addrs: [%q, %q]}", addrs[0], addrs[1]), clients
		},
	}
	for name, start := range servers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newRedisFixture(t, start)
			if len(s.servers) == 1 { // a node of a cluster refuses keys of the other
				s.foreign()
			}
			before, files := redistest.Content(t, s.servers...), s.files()
			for _, d := range []digest.Digest{layer(3).Digest(), s.alias.Digest()} {
				if _, found := before["blobs::"+d.String()]; !found {
					t.Fatalf("the registry has no key for %s", d)
				}
			}
			dry := s.run("--dry-run")
			sameKeys(t, "after a dry run", redistest.Content(t, s.servers...), before)
			run := s.run()
			if dry.code != 0 || run.code != 0 || run.report.Descriptors.Stale || strings.Contains(run.stderr, redisPassword) {
				t.Fatalf("ends with %d and %d, %+v\n%s", dry.code, run.code, run.report.Descriptors, run.stderr)
			}
			after := redistest.Content(t, s.servers...)
			sameKeys(t, "after the run", after, s.without(before, files))
			if gone := int64(len(before) - len(after)); gone < 10 || run.report.Descriptors.Deleted != gone {
				t.Errorf("%d keys have gone, the report says %+v", gone, run.report.Descriptors)
			}
			if _, found := after["blobs::"+s.kept.Digest().String()]; !found {
				t.Errorf("the alias of a live blob is not known any more")
			}
			s.must(s.registry.SetReadOnly(false))
			s.push("team/app:again", s.gone)
			s.must(s.client.PullAll(t.Context(), "team/app", "again", "v2"))
			s.must(s.client.PullAll(t.Context(), "team/live", "v1"))
		})
	}
	t.Run("--leave-cache", func(t *testing.T) {
		t.Parallel()
		s := newRedisFixture(t, plainRedis)
		before := redistest.Content(t, s.servers...)
		run := s.run("--leave-cache")
		if run.code != 0 || !run.report.Descriptors.Stale || !strings.Contains(run.stderr, "flush that database") {
			t.Errorf("ends with %d, %+v\n%s", run.code, run.report.Descriptors, run.stderr)
		}
		sameKeys(t, "after the run", redistest.Content(t, s.servers...), before)
		s.must(s.registry.SetReadOnly(false))
		err := s.client.Push(t.Context(), "team/app:again", s.gone)
		if err == nil {
			err = s.client.PullAll(t.Context(), "team/app", "again")
		}
		if err == nil {
			t.Error("a push after the run is whole, so this test proves nothing")
		}
	})
}

// TestRedisOfRelease2: the released registry 2.8 is told by its own config.yml where Redis is, and so is regsweep.
func TestRedisOfRelease2(t *testing.T) {
	t.Parallel()
	path, err := registrytest.Binary(t.Context(), registrytest.Release2)
	if errors.Is(err, registrytest.ErrUnavailable) {
		t.Skipf("there is no registry of release 2 here: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	addr, _ := redistest.StartT(t, "--requirepass", redisPassword)
	redisClient := redis.NewClient(&redis.Options{Addr: addr, Password: redisPassword, DB: 2})
	t.Cleanup(func() { _ = redisClient.Close() })
	root := t.TempDir()
	s := &redisFixture{fixture: &fixture{T: t, tree: imagetest.NewTree(t, root), names: map[string]string{}}}
	yaml := strings.Replace(registrytest.FilesystemConfig(root, false), "storage:\n", "storage:\n  cache:\n    blobdescriptor: redis\n", 1) +
		fmt.Sprintf("redis: {addr: %q, password: %s, db: 2, pool: {maxidle: 16, maxactive: 64}}\n", addr, redisPassword)
	server, err := registrytest.StartBinary(t.Context(), path, yaml)
	s.must(err)
	gone := app(1, 3)
	for _, image := range []*imagetest.Manifest{gone, app(1, 2)} {
		s.must(server.Client().Push(t.Context(), "team/app:v1", image))
		s.must(server.Client().PullAll(t.Context(), "team/app", "v1"))
	}
	s.must(server.Stop())
	before, files := redistest.Content(t, redisClient), s.files()
	run := s.gcOn(s.config(yaml), "-m", "--registry-stopped")
	after := redistest.Content(t, redisClient)
	if gone := len(before) - len(after); run.code != 0 || gone < 4 || run.report.Descriptors.Deleted != int64(gone) {
		t.Errorf("ends with %d, %d of %d keys have gone, %+v\n%s", run.code, gone, len(before), run.report.Descriptors, run.stderr)
	}
	sameKeys(t, "after the run", after, s.without(before, files))
	server = registrytest.StartBinaryT(t, path, yaml)
	s.must(server.Client().Push(t.Context(), "team/app:again", gone))
	s.must(server.Client().PullAll(t.Context(), "team/app", "again", "v1"))
}

// TestWithoutRedisNothingIsRemoved: the run says what to do, and not the password.
func TestWithoutRedisNothingIsRemoved(t *testing.T) {
	t.Parallel()
	s := newRedisFixture(t, plainRedis)
	before, works := s.files(), s.section
	for _, wrong := range []struct {
		section, says string
		code          int
	}{
		{strings.Replace(works, redisPassword, "hunter3", 1), "WRONGPASS", 1},
		{strings.Replace(works, "["+`"`, "["+`"me:hunter4@`, 1), "has an @", 2},
		{"{}", "no address is set", 2},
		{strings.Replace(works, "{", "{tls: {rootcas: [/nowhere.pem]}, ", 1), "/nowhere.pem", 2},
	} {
		s.section = wrong.section
		run := s.run()
		if run.code != wrong.code || !strings.Contains(run.stderr, wrong.says) || strings.Contains(run.stderr+run.report.Error, "hunter") {
			t.Errorf("%s: ends with %d\n%s", wrong.section, run.code, run.stderr)
		}
	}
	s.section = fmt.Sprintf("{addrs: ['127.0.0.1:1'], password: %s}", redisPassword) // nothing listens there
	run := s.run()
	for _, says := range []string{"nothing was removed", "127.0.0.1:1", "--leave-cache"} {
		if run.code != 1 || !strings.Contains(run.stderr, says) || strings.Contains(run.stderr, redisPassword) {
			t.Errorf("ends with %d and does not say %q\n%s", run.code, says, run.stderr)
		}
	}
	s.same("the files", keys(s.files()), keys(before))
	if run := s.run("--leave-cache"); run.code != 0 || run.report.Removed.Blobs.Count == 0 {
		t.Errorf("with --leave-cache it ends with %d\n%s", run.code, run.stderr)
	}
}

// beforeBlob calls a function before the first removal of a blob. If it returns an error, that removal fails.
type beforeBlob struct {
	storage.Store
	first *atomic.Bool
	do    func() error
}

func (r beforeBlob) Remove(ctx context.Context, refs []storage.Ref) []storage.Outcome {
	if len(refs) > 0 && strings.HasPrefix(refs[0].Path, "blobs/") && !r.first.Swap(true) {
		if err := r.do(); err != nil {
			outcomes := make([]storage.Outcome, len(refs))
			for i := range outcomes {
				outcomes[i].Err = err
			}
			return outcomes
		}
	}
	return r.Store.Remove(ctx, refs)
}

// beforeBlobs plans a call before the first removal of a blob.
func (s *redisFixture) beforeBlobs(do func() error) {
	wrapped.Store(s.tree.Root(), func(store storage.Store) storage.Store { return beforeBlob{store, new(atomic.Bool), do} })
	s.Cleanup(func() { wrapped.Delete(s.tree.Root()) })
}

// TestRedisDiesDuringTheSweep: what was removed is reported, and first of all that pushes are in danger.
func TestRedisDiesDuringTheSweep(t *testing.T) {
	t.Parallel()
	for _, interrupted := range []bool{false, true} {
		t.Run(fmt.Sprintf("interrupted=%t", interrupted), func(t *testing.T) {
			t.Parallel()
			var kill func()
			s := newRedisFixture(t, func(t *testing.T) (configuration.Redis, string, []*redis.Client) {
				addr, stop := redistest.StartT(t)
				kill = stop
				return configuration.Redis{Options: configuration.RedisOptions{Addrs: []string{addr}}}, fmt.Sprintf("{addrs: [%q]}", addr), nil
			})
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			s.beforeBlobs(func() error {
				kill()
				if interrupted {
					cancel(cli.ErrInterrupted)
				}
				return nil
			})
			var out, errs output
			code := regsweepOn(ctx, strings.NewReader(""), &out, &errs, "gc", "-m", "--json", "--registry", s.registry.URL(), s.configFile())
			report := decode[gcReport](s.fixture, out.String())
			if code != 1 || report.ExitCode != 1 || !report.Descriptors.Stale || report.Removed.Blobs.Count == 0 ||
				!strings.HasPrefix(report.Error, "REDIS IS STALE") || strings.Contains(report.Error, "interrupted") != interrupted || !strings.Contains(errs.String(), "FLUSHDB") {
				t.Errorf("ends with %d, %+v\n%s", code, report, &errs)
			}
		})
	}
}

// TestWhatAPullPutsBackIsForgotten: pulls go on while the run removes. Their keys are deleted also if the
// run fails, or is interrupted.
func TestWhatAPullPutsBackIsForgotten(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]struct {
		with func(cancel func()) error
		code int
	}{
		"done":        {func(func()) error { return nil }, 0},
		"interrupted": {func(cancel func()) error { cancel(); return nil }, 130},
		"failed":      {func(func()) error { return syscall.EIO }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newRedisFixture(t, plainRedis)
			before, files := redistest.Content(t, s.servers...), s.files()
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			s.beforeBlobs(func() error {
				// The links are gone, so no pull through this registry could do it any more. It stands
				// in for one that came between the first deletion and the removal of its link.
				d := layer(3).Digest().String()
				s.must(s.servers[0].HSet(t.Context(), "blobs::"+d, "digest", d, "size", 1).Err())
				s.must(s.servers[0].SAdd(t.Context(), "repository::team/app::blobs", d).Err())
				s.must(s.servers[0].HSet(t.Context(), "repository::team/app::blobs::"+d, "mediatype", "").Err())
				return end.with(func() { cancel(cli.ErrInterrupted) })
			})
			var out, errs output
			code := regsweepOn(ctx, strings.NewReader(""), &out, &errs, "gc", "-m", "--yes", "--registry", s.registry.URL(), s.configFile())
			stderr := errs.String()
			if code != end.code {
				t.Errorf("ends with %d\n%s", code, stderr)
			}
			want := s.without(before, files)
			got := redistest.Content(t, s.servers...)
			for key := range want { // what was to be removed, and remains, may be forgotten too
				if _, found := got[key]; !found && name != "done" {
					delete(want, key)
				}
			}
			sameKeys(t, "after the run", got, want)
		})
	}
}

// TestAKilledRunLeavesNoKeyOfARemovedBlob: the keys are deleted before the first removal.
func TestAKilledRunLeavesNoKeyOfARemovedBlob(t *testing.T) {
	t.Parallel()
	addr, _ := redistest.StartT(t)
	client := redis.NewClient(&redis.Options{Addr: addr})
	t.Cleanup(func() { _ = client.Close() })
	root, image := garbageTree(t, 1_100) // more than one chunk
	files, err := filepath.Glob(filepath.Join(root, layoutRoot, "blobs/sha256/*/*/data"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if err := client.HSet(t.Context(), "blobs::sha256:"+filepath.Base(filepath.Dir(file)), "size", 1).Err(); err != nil {
			t.Fatal(err)
		}
	}
	config := filepath.Join(t.TempDir(), "config.yml")
	yaml := strings.Replace(registrytest.FilesystemConfig(root, true), "storage:\n", "storage:\n  cache:\n    blobdescriptor: redis\n", 1)
	if err := os.WriteFile(config, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	first := firstGarbage(t, root, image)
	run := startIn(t, []string{"REGISTRY_REDIS_ADDR=" + addr}, "gc", "--registry-stopped", "--max-requests=1000", config)
	eventually(t, "it removes", func() bool {
		_, err := os.Stat(first)
		return errors.Is(err, os.ErrNotExist)
	})
	run.signal(t, os.Kill)
	if code := run.exit(t); code != -1 {
		t.Fatalf("it exits with %d\n%s", code, &run.stderr)
	}
	gone, known := 0, redistest.Content(t, client)
	for _, file := range files {
		if _, err := os.Stat(file); errors.Is(err, os.ErrNotExist) {
			gone++
			if _, found := known["blobs::sha256:"+filepath.Base(filepath.Dir(file))]; found {
				t.Errorf("Redis knows %s", file)
			}
		}
	}
	if gone == 0 || len(known) == 0 {
		t.Errorf("%d blobs have gone, %d keys are left: this proves nothing", gone, len(known))
	}
}

// certificate makes a certificate for loopback addresses that is its own authority, with its key.
func certificate(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "regsweep test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	for path, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

// tlsOf trusts a certificate, and shows it.
func tlsOf(t *testing.T, certFile, keyFile string) *tls.Config {
	t.Helper()
	own, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(own.Leaf)
	return &tls.Config{Certificates: []tls.Certificate{own}, RootCAs: roots}
}
