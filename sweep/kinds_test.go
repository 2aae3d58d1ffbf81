package sweep

import (
	"slices"
	"testing"
)

// TestEveryRowIsComplete: a row that lacks something would only fail in the run that needs it.
func TestEveryRowIsComplete(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range append(slices.Clone(table), counted) {
		for of, name := range map[string]string{"plan": string(r.kind), "text": r.noun, "report": r.report} {
			if name == "" || seen[of+name] {
				t.Errorf("%s: the name %q in a %s is empty, or another kind has it", r.kind, name, of)
			}
			seen[of+name] = true
		}
		if r.shown == 0 || r.reported == 0 {
			t.Errorf("%s has no place in the summary or in the report", r.kind)
		}
	}
	for _, r := range table {
		for name, isMissing := range map[string]bool{
			"needs": r.needs == nil, "len": r.len == nil, "removal": r.removal == nil, "find": r.find == nil, "whyNot": r.whyNot == nil,
			"form":    r.form < Links || r.form > Directories,
			"links":   (r.links == nil) == (r.form == Links),
			"count":   r.count == nil && r.form == Links,
			"objects": (r.objects == nil) == r.form.HasBytes(),
			"bytes":   (r.bytes == nil) == r.form.HasBytes(),
			"dirs":    (r.dirs == nil) == (r.form == Directories),
		} {
			if isMissing {
				t.Errorf("%s: %s is missing, or is not for its form", r.kind, name)
			}
		}
	}
}

// TestALinkIsRestoredAfterWhatItLeadsTo: a registry that runs meanwhile never serves half of an image.
func TestALinkIsRestoredAfterWhatItLeadsTo(t *testing.T) {
	want := []Kind{Blob, Upload, LayerLink, EarlierEntry, OrphanLink, Revision, TagIndexEntry, Tag}
	if got := Restored(); !slices.Equal(got, want) {
		t.Errorf("the kinds are restored in the order %v, want %v", got, want)
	}
}
