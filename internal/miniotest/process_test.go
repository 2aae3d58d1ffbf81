package miniotest_test

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"regsweep/internal/miniotest"
)

// killed marks the test process that TestServersDieWithTheTestProcess kills.
const killed = "REGSWEEP_TEST_KILLED"

func TestServersDieWithTheTestProcess(t *testing.T) {
	if os.Getenv(killed) != "" {
		fmt.Println(strings.TrimPrefix(miniotest.SharedMinIO(t).Endpoint, "http://"))
		time.Sleep(time.Minute)
		t.Fatal("nobody has killed us")
	}
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells a child of its parent's death")
	}
	miniotest.SharedMinIO(t) // built by now, if it was not

	scratch := t.TempDir()
	child := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	child.Env = append(os.Environ(), killed+"=1", "TMPDIR="+scratch)
	stdout, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	host, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	host = strings.TrimSpace(host)
	if !listens(t, host) {
		t.Fatalf("nothing listens at %s", host)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := child.Wait(); !errors.As(err, &exit) {
		t.Fatal(err)
	}

	for range 200 {
		left, err := filepath.Glob(filepath.Join(scratch, "regsweep-*"))
		if err != nil {
			t.Fatal(err)
		}
		if len(left) == 0 && !listens(t, host) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Errorf("the server outlives the test process, or its data does")
}

func listens(t *testing.T, host string) bool {
	t.Helper()
	connection, err := net.Dial("tcp", host)
	if err != nil {
		return false
	}
	if err := connection.Close(); err != nil {
		t.Fatal(err)
	}
	return true
}
