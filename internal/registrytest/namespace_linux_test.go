package registrytest_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"regsweep/internal/registrytest"
)

// TestNamespaces: a registry is reached on its own loopback address from its namespace
// alone, and over the cable from the namespace at the other end.
func TestNamespaces(t *testing.T) {
	path := registrytest.BinaryT(t)
	here, there := registrytest.NewNamespaceT(t), registrytest.NewNamespaceT(t)
	here.ConnectT(t, "10.77.1.1", there, "10.77.1.2")
	configFile := filepath.Join(t.TempDir(), "config.yml")
	config := strings.Replace(registrytest.FilesystemConfig(t.TempDir(), false), "addr: 127.0.0.1:", "addr: :", 1)
	if err := os.WriteFile(configFile, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	server := there.StartBinaryT(t, path, configFile, 5000)
	app, _ := base()
	if err := server.Client().Push(t.Context(), "app:v1", app); err != nil {
		t.Error(err)
	}
	overTheCable := here.Client(5000)
	overTheCable.Host = "10.77.1.2:5000"
	if err := overTheCable.PullAll(t.Context(), "app", "v1"); err != nil {
		t.Error(err)
	}
	if err := here.Client(5000).Ping(t.Context()); err == nil {
		t.Error("the registry answers in the other namespace, too")
	}
	command := here.Command("ip", "-brief", "address")
	output, err := exec.Command(command[0], command[1:]...).CombinedOutput()
	if err != nil || !strings.Contains(string(output), "10.77.1.1") || strings.Contains(string(output), "10.77.1.2/") {
		t.Errorf("%v: %s", err, output)
	}
}
