package guard

import (
	"strings"
	"testing"

	"regsweep/internal/registrytest"
	"regsweep/storage/config"
)

// wantSteps asserts the steps of a verdict, with the first words of each remedy.
func wantSteps(t *testing.T, v Verdict, want ...[]string) {
	t.Helper()
	match := len(v.Steps) == len(want)
	for i := 0; match && i < len(want); i++ {
		match = len(v.Steps[i]) == len(want[i])
		for j := 0; match && j < len(want[i]); j++ {
			match = strings.HasPrefix(v.Steps[i][j], want[i][j])
		}
	}
	if !match {
		t.Errorf("steps %q, want %q", v.Steps, want)
	}
}

const (
	stopAndSay  = "stop the registry, every replica"
	nameAddress = "name the registry's own address"
)

func TestOnlyRemediesThatHelpAreOffered(t *testing.T) {
	root, samples := content(t)
	open := registrytest.StartT(t, registrytest.Config{Root: root})
	gone := config.Registry{HTTP: config.HTTP{Addr: freePort(t)}}

	database, cache := gone, gone
	database.Database = "true"
	cache.ProxyRemote = "https://registry-1.docker.io"
	o := Options{Samples: samples}
	for name, c := range map[string]struct {
		registry *config.Registry
		named    []string
		stopped  bool
		want     [][]string
	}{
		"nothing answers":            {&gone, nil, false, [][]string{{nameAddress, stopAndSay}}},
		"database, nothing answers":  {&database, nil, false, [][]string{{"let the database say"}, {nameAddress, stopAndSay}}},
		"database, stopped":          {&database, nil, true, [][]string{{"let the database say"}}},
		"a cache, nothing answers":   {&cache, nil, false, [][]string{{stopAndSay}}},
		"a cache and a database":     {func() *config.Registry { r := cache; r.Database = "true"; return &r }(), nil, false, [][]string{{"let the database say"}, {stopAndSay}}},
		"takes pushes":               {nil, []string{open.URL()}, false, [][]string{{"make the registry read-only", stopAndSay}}},
		"takes pushes, yet stopped":  {nil, []string{open.URL()}, true, [][]string{{"make the registry read-only", "stop the registry at " + open.URL()}}},
		"one of two takes pushes":    {nil, []string{open.URL(), "http://" + gone.HTTP.Addr}, false, [][]string{{"make the registry read-only", stopAndSay}, {nameAddress, stopAndSay}}},
		"the same address, twice":    {nil, []string{"http://" + gone.HTTP.Addr, "http://" + gone.HTTP.Addr}, false, [][]string{{nameAddress, stopAndSay}}},
		"a storage and nothing else": {nil, nil, false, [][]string{{nameAddress, stopAndSay}}},
	} {
		t.Run(name, func(t *testing.T) {
			o := o
			o.Config.Registry, o.Endpoints, o.Stopped = c.registry, c.named, c.stopped
			v := prove(t, o)
			wantSteps(t, v, c.want...)
		})
	}
}

func TestAWritableConfigIsReported(t *testing.T) {
	for _, maintenance := range []string{saysNothing, "{readonly: {enabled: false}}"} {
		v := prove(t, Options{Config: configured(t, freePort(t), maintenance), Stopped: true})
		wantProven(t, v, ByOperator)
		if words := table(v); !strings.Contains(words, "config.yml does not make the registry read-only") {
			t.Error(words)
		}
	}
}
