package parts_test

import (
	"strings"
	"testing"

	"regsweep/internal/parts"
)

func TestConfigFilesSayWhatTheRegistryServes(t *testing.T) {
	slow(t)
	path, err := parts.RegistryBinary(t.Context(), parts.Release3)
	if err != nil {
		t.Fatal(err)
	}
	app, _ := base()
	server := parts.SharedMinIO(t)
	for name, config := range map[string]parts.Config{
		"filesystem": {Root: t.TempDir()},
		"s3":         {Storage: server.Storage(server.NewBucketT(t), "/root")},
	} {
		t.Run(name, func(t *testing.T) {
			registry := parts.StartRegistryT(t, config)
			if err := registry.Client().Push(t.Context(), "app:v1", app); err != nil {
				t.Fatal(err)
			}
			if err := registry.SetReadOnly(true); err != nil {
				t.Fatal(err)
			}
			text := registry.ConfigYAML()
			if !strings.Contains(text, registry.Host()) {
				t.Errorf("no %s in\n%s", registry.Host(), text)
			}
			twin := parts.StartBinaryT(t, path, text)
			if err := twin.Client().PullAll(t.Context(), "app", "v1"); err != nil {
				t.Error(err)
			}
			if err := twin.Client().Push(t.Context(), "app:v2", app); err == nil {
				t.Error("the config.yml does not say read-only")
			}
		})
	}
}
