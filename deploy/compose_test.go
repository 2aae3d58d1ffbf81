package deploy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

// compose loads files as docker compose does.
func compose(t *testing.T, files ...string) *types.Project {
	t.Helper()
	options, err := cli.NewProjectOptions(files)
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return project
}

// TestComposeMakesTheRegistryReadOnly follows the commands of window.env.
func TestComposeMakesTheRegistryReadOnly(t *testing.T) {
	settings, err := os.ReadFile("systemd/window.env")
	if err != nil {
		t.Fatal(err)
	}
	projects := map[string]*types.Project{}
	for line := range strings.Lines(string(settings)) {
		name, command, found := strings.Cut(strings.TrimSpace(line), "=docker compose ")
		if !found {
			continue
		}
		words := strings.Fields(command)
		var files []string
		for i, word := range words {
			if word == "-f" {
				files = append(files, filepath.Join("compose", filepath.Base(words[i+1])))
			}
		}
		projects[name] = compose(t, files...)
		if service := words[len(words)-1]; len(projects[name].Services) != 1 || projects[name].Services[service].HealthCheck == nil {
			t.Errorf("%s waits for a service %q that is not there, or says nothing of its health", name, service)
		}
	}
	const variable = "REGISTRY_STORAGE_MAINTENANCE_READONLY"
	before, after := projects["BEFORE"].Services["registry"], projects["AFTER"].Services["registry"]
	if value := before.Environment[variable]; value == nil || *value != "{enabled: true}" {
		t.Errorf("BEFORE leaves %s as it is", variable)
	}
	if _, found := after.Environment[variable]; found {
		t.Errorf("AFTER leaves %s as it is", variable)
	}
	delete(before.Environment, variable)
	if b, a := asYAML(t, projects["BEFORE"]), asYAML(t, projects["AFTER"]); b != a {
		t.Errorf("BEFORE changes more than the variable:\n%s\nAFTER:\n%s", b, a)
	}
}

func asYAML(t *testing.T, project *types.Project) string {
	t.Helper()
	text, err := project.MarshalYAML()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
