package registrytest_test

import (
	"strings"
	"testing"

	"regsweep/internal/miniotest"
	"regsweep/internal/registrytest"
)

func TestConfigFilesSayWhatTheRegistryServes(t *testing.T) {
	path := registrytest.BinaryT(t)
	app, _ := base()
	server := miniotest.SharedMinIO(t)
	for name, config := range map[string]registrytest.Config{
		"filesystem": {Root: t.TempDir()},
		"s3":         {Storage: server.Storage(server.NewBucketT(t), "/root")},
	} {
		t.Run(name, func(t *testing.T) {
			registry := registrytest.StartT(t, config)
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
			twin := registrytest.StartBinaryT(t, path, text)
			if err := twin.Client().PullAll(t.Context(), "app", "v1"); err != nil {
				t.Error(err)
			}
			if err := twin.Client().Push(t.Context(), "app:v2", app); err == nil {
				t.Error("the config.yml does not say read-only")
			}
		})
	}
}
