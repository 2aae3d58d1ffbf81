package cli

import (
	"bytes"
	"strings"
	"testing"

	"regsweep/audit"
)

// --limit is only recommended if it can show more chains.
func TestChainsThatAreNotListed(t *testing.T) {
	for _, of := range []struct {
		more int64
		want string
	}{
		{0, ""},
		{7, "and 7 other chains: --limit 0 shows more"},
		{audit.Most, "and too many other chains to count: --limit 0 shows more"},
	} {
		report := newWhyReport()
		report.Chains, report.More, report.limit = make([][]audit.Link, 3), of.more, 3
		var w bytes.Buffer
		if writeChains(&w, report); !strings.HasSuffix(strings.TrimSpace(w.String()), of.want) || of.want == "" && strings.Contains(w.String(), "and") {
			t.Errorf("%d more: %s", of.more, w.String())
		}
		w.Reset()
		report.limit = 4
		if writeChains(&w, report); strings.Contains(w.String(), "--limit") {
			t.Errorf("%d more, and the limit is not reached: %s", of.more, w.String())
		}
	}
}
