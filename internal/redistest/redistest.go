// Package redistest runs Debian's Redis for tests, alone, behind a sentinel, and as a cluster.
package redistest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"regsweep/internal/servertest"

	"github.com/redis/go-redis/v9"
)

// StartT starts a server with more arguments, which lives as long as the test. It returns its address, and
// what kills it at once.
func StartT(t testing.TB, args ...string) (addr string, kill func()) {
	t.Helper()
	return start(t, "", args...)
}

// start starts a server with a config file, if file is not "".
func start(t testing.TB, file string, args ...string) (addr string, kill func()) {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		servertest.Lacks(t, "redis-server is not installed")
	}
	process, addr, err := servertest.OnFreePort(func(host string) (*servertest.Process, error) {
		_, port, _ := net.SplitHostPort(host)
		with := []string{"--bind", "127.0.0.1", "--port", port, "--save", "", "--dir", t.TempDir()}
		if file != "" {
			with = append([]string{file}, with...)
		}
		for _, arg := range args {
			with = append(with, strings.ReplaceAll(arg, "PORT", port))
		}
		return servertest.Start(t.Context(), nil, func(ctx context.Context) error {
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", host)
			if err != nil {
				return err
			}
			return conn.Close()
		}, path, with...)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(process.Stop)
	return addr, process.Stop
}

// StartSentinelT starts a sentinel that knows the server at master by a name.
func StartSentinelT(t testing.TB, name, master string) (addr string) {
	t.Helper()
	host, port, err := net.SplitHostPort(master)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "sentinel.conf")
	if err := os.WriteFile(file, fmt.Appendf(nil, "sentinel monitor %s %s %s 1\n", name, host, port), 0o600); err != nil {
		t.Fatal(err)
	}
	addr, _ = start(t, file, "--sentinel")
	return addr
}

// StartClusterT starts a cluster of two nodes, each with half of the slots.
func StartClusterT(t testing.TB) (addrs []string) {
	t.Helper()
	var nodes []*redis.Client
	for range 2 {
		free, err := net.Listen("tcp", "127.0.0.1:0") // the default, 10000 above the port, may not exist
		if err != nil {
			t.Fatal(err)
		}
		_, bus, _ := net.SplitHostPort(free.Addr().String())
		if err := free.Close(); err != nil {
			t.Fatal(err)
		}
		addr, _ := start(t, "", "--cluster-enabled", "yes", "--cluster-port", bus)
		node := redis.NewClient(&redis.Options{Addr: addr})
		t.Cleanup(func() { _ = node.Close() })
		first := len(nodes) * 8192
		must(t, node.ClusterAddSlotsRange(t.Context(), first, first+8191).Err())
		if addrs, nodes = append(addrs, addr), append(nodes, node); len(nodes) == 2 {
			_, port, _ := net.SplitHostPort(addr)
			must(t, nodes[0].Do(t.Context(), "CLUSTER", "MEET", "127.0.0.1", port, bus).Err())
		}
	}
	for _, node := range nodes {
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
			info, err := node.ClusterInfo(t.Context()).Result()
			must(t, err)
			if strings.Contains(info, "cluster_state:ok") {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("the cluster does not form:\n%s", info)
			}
		}
	}
	return addrs
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Content returns all keys with what they contain, in each server that is given, as lines.
func Content(t testing.TB, clients ...*redis.Client) map[string]string {
	t.Helper()
	content := map[string]string{}
	for _, client := range clients {
		keys, err := client.Keys(t.Context(), "*").Result()
		must(t, err)
		for _, key := range keys {
			dump, err := client.Dump(t.Context(), key).Result()
			must(t, err)
			content[key] = fmt.Sprintf("%x", dump)
			switch kind, err := client.Type(t.Context(), key).Result(); {
			case err != nil:
				t.Fatal(err)
			case kind == "set":
				members, err := client.SMembers(t.Context(), key).Result()
				must(t, err)
				delete(content, key)
				for _, member := range members {
					content[key+" has "+member] = ""
				}
			}
		}
	}
	return content
}
