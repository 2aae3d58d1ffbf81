package cli

import (
	"io"
	"slices"
	"strings"
	"testing"
)

func TestAFlagIsCompletedAndAFileIsLeftToTheShell(t *testing.T) {
	app := newApp(&runner{env: Env{Width: func(io.Writer) int { return 0 }}})
	for line, want := range map[string]string{
		"":                     "gc garbage-collect untag apply window policy quarantine check audit verify why graph completion version help --help --version",
		"g":                    "gc garbage-collect graph",
		"__":                   "",
		"gc --pl":              "--plan",
		"gc config.yml --pr":   "--prune-empty",
		"gc -d --registry-i":   "--registry-insecure",
		"gc -":                 "--dry-run --delete-untagged --delete-unlinked-children --plan --prune-empty --min-age --upload-age --allow-empty --policy --trust-times --free --orphaned-signatures --quiet --yes --json --metrics --quarantine --purge-versions --max-delete --leave-cache --strict --unsafe-online --until --for --max-bytes --keep-digests --roots --concurrency --max-requests --cache --no-cache --registry --username --password-stdin --password-file --registry-cacert --registry-insecure --registry-stopped --help",
		"gc --plan ":           "",
		"apply plan --pa":      "--partial --password-stdin --password-file",
		"gc --plan -":          "",
		"gc conf":              "",
		"check --j":            "--json",
		"nonsense --j":         "",
		"help g":               "gc graph",
		"help quarantine ":     "list show restore purge",
		"quarantine ":          "list show restore purge",
		"quarantine re":        "restore",
		"quarantine purge --o": "--older-than",
		"quarantine none --o":  "",
		"completion ":          "bash zsh fish",
		"completion bash --h":  "--help",
	} {
		words := strings.Split(line, " ")
		var got []string
		candidates, files := complete(app, words)
		for _, candidate := range candidates {
			got = append(got, candidate.word)
		}
		if wanted := slices.Contains([]string{"gc --plan ", "gc --plan -", "gc conf"}, line); files != wanted {
			t.Errorf("%q wants a file: %t", line, files)
		}
		if !slices.Equal(got, strings.Fields(want)) {
			t.Errorf("%q completes to %q, want %q", line, got, want)
		}
	}
	if got, _ := complete(app, nil); got != nil {
		t.Errorf("no words complete to %v", got)
	}
}
