package registrytest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"regsweep/internal/servertest"
)

// Namespace is a network namespace. Its processes share the files of this machine and
// nothing of its network, as containers or machines with a common volume do.
type Namespace struct {
	name      string
	transport *http.Transport
}

var namespaces atomic.Int64

// NewNamespaceT makes a network namespace that lives as long as the test. It needs root and
// iproute2: see servertest.Lacks.
func NewNamespaceT(t testing.TB) *Namespace {
	t.Helper()
	if _, err := exec.LookPath("ip"); err != nil || os.Getuid() != 0 {
		servertest.Lacks(t, "network namespaces need root and the program ip of iproute2")
	}
	n := &Namespace{name: fmt.Sprintf("regsweep-%d-%d", os.Getpid(), namespaces.Add(1))}
	n.transport = &http.Transport{DialContext: n.dial}
	ipT(t, "netns", "add", n.name)
	t.Cleanup(func() {
		n.transport.CloseIdleConnections()
		n.killT(t)
		ipT(t, "netns", "del", n.name)
	})
	ipT(t, "-n", n.name, "link", "set", "lo", "up")
	return n
}

// killT kills all processes in the namespace but this one, and waits for their end.
func (n *Namespace) killT(t testing.TB) {
	t.Helper()
	for {
		output, err := exec.Command("ip", "netns", "pids", n.name).Output()
		if err != nil {
			t.Fatal(err)
		}
		ours := strconv.Itoa(os.Getpid()) // a thread of it may have dialed there
		pids := slices.DeleteFunc(strings.Fields(string(output)), func(pid string) bool { return pid == ours })
		if len(pids) == 0 {
			return
		}
		_ = exec.Command("kill", append([]string{"-KILL"}, pids...)...).Run() // one may have ended
		time.Sleep(10 * time.Millisecond)
	}
}

// Name is the name by which ip knows the namespace.
func (n *Namespace) Name() string { return n.name }

// ConnectT puts a cable between two namespaces, with an IPv4 address at each end.
func (n *Namespace) ConnectT(t testing.TB, address string, other *Namespace, otherAddress string) {
	t.Helper()
	// The name of an interface has at most 15 characters.
	ours, theirs := "to-"+otherAddress, "to-"+address
	ipT(t, "-n", n.name, "link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", other.name)
	for _, end := range []struct{ namespace, device, address string }{{n.name, ours, address}, {other.name, theirs, otherAddress}} {
		ipT(t, "-n", end.namespace, "address", "add", end.address+"/24", "dev", end.device)
		ipT(t, "-n", end.namespace, "link", "set", end.device, "up")
	}
}

// Command is the command line that runs a command in the namespace. The process keeps the
// id of the one that is started.
func (n *Namespace) Command(command ...string) []string {
	return append([]string{"ip", "netns", "exec", n.name}, command...)
}

// Client is a client in the namespace for a registry on its loopback address.
func (n *Namespace) Client(port int) *Client {
	return &Client{Host: fmt.Sprintf("127.0.0.1:%d", port), Transport: n.transport}
}

// StartBinary starts a registry's program in the namespace. It listens where its config.yml
// says, on all addresses or on the loopback one, and port is that port.
func (n *Namespace) StartBinary(ctx context.Context, path, configFile string, port int, env ...string) (*Server, error) {
	s := &Server{ConfigFile: configFile, host: fmt.Sprintf("127.0.0.1:%d", port), transport: n.transport}
	ready := func(ctx context.Context) error {
		return answers(ctx, &http.Client{Transport: n.transport}, s.URL()+"/v2/")
	}
	command := n.Command(path, "serve", configFile)
	env = append([]string{"OTEL_TRACES_EXPORTER=none"}, env...)
	var err error
	s.process, err = servertest.Start(ctx, env, ready, command[0], command[1:]...)
	return s, err
}

// StartBinaryT starts a registry's program that lives as long as the test.
func (n *Namespace) StartBinaryT(t testing.TB, path, configFile string, port int, env ...string) *Server {
	t.Helper()
	s, err := n.StartBinary(t.Context(), path, configFile, port, env...)
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

// dial connects from within the namespace.
func (n *Namespace) dial(ctx context.Context, network, address string) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		// A thread that has entered the namespace ends with this goroutine, since it is
		// never unlocked.
		runtime.LockOSThread()
		file, err := os.Open(filepath.Join("/run/netns", n.name))
		if err != nil {
			done <- result{err: err}
			return
		}
		err = errors.Join(unix.Setns(int(file.Fd()), unix.CLONE_NEWNET), file.Close())
		if err != nil {
			done <- result{err: fmt.Errorf("enter the namespace %s: %w", n.name, err)}
			return
		}
		// The address is numeric, so that this thread makes the socket.
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		done <- result{conn, err}
	}()
	r := <-done
	return r.conn, r.err
}

func ipT(t testing.TB, args ...string) {
	t.Helper()
	if output, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v\n%s", strings.Join(args, " "), err, output)
	}
}
