package registrytest

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"regsweep/internal/servertest"
)

// Server is a released registry in a process of its own, for what depends on the
// release or on how its configuration is read.
type Server struct {
	ConfigFile string

	host      string
	process   *servertest.Process
	scratch   *servertest.Scratch // nil if ConfigFile is the caller's
	transport http.RoundTripper   // nil for one of this process
}

// StartBinary starts a registry's program with a config.yml on a loopback port of
// its own, whatever address the configuration names. Env, such as
// REGISTRY_STORAGE_MAINTENANCE_READONLY={enabled: true}, adds to ours.
func StartBinary(ctx context.Context, path, configYAML string, env ...string) (*Server, error) {
	scratch, err := servertest.NewScratch("", "regsweep-server-")
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", path, err)
	}
	s := &Server{ConfigFile: filepath.Join(scratch.Path, "config.yml"), scratch: scratch}
	err = os.WriteFile(s.ConfigFile, []byte(configYAML), 0o600)
	if err == nil {
		s.process, s.host, err = servertest.OnFreePort(func(host string) (*servertest.Process, error) {
			// Release 3 would look for a collector of traces.
			env := append([]string{"REGISTRY_HTTP_ADDR=" + host, "OTEL_TRACES_EXPORTER=none"}, env...)
			ready := func(ctx context.Context) error { return answers(ctx, http.DefaultClient, "http://"+host+"/v2/") }
			return servertest.Start(ctx, env, ready, path, "serve", s.ConfigFile)
		})
	}
	if err != nil {
		return nil, servertest.JoinCleanup(err, scratch)
	}
	return s, nil
}

// StartBinaryT starts a registry's program that lives as long as the test.
func StartBinaryT(t testing.TB, path, configYAML string, env ...string) *Server {
	t.Helper()
	s, err := StartBinary(t.Context(), path, configYAML, env...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// URL is the registry's address with its scheme and without a trailing slash.
func (s *Server) URL() string { return "http://" + s.host }

// Host is the registry's address and port, as they stand in an image's name.
func (s *Server) Host() string { return s.host }

// Client is a client for it, without a password.
func (s *Server) Client() *Client { return &Client{Host: s.host, Transport: s.transport} }

// Stop kills the registry.
func (s *Server) Stop() error {
	s.process.Stop()
	if s.scratch == nil {
		return nil
	}
	return s.scratch.Remove()
}

// answers asks for any answer at all.
func answers(ctx context.Context, client *http.Client, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	return response.Body.Close()
}
