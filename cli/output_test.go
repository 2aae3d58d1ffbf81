package cli

import (
	"encoding/json"
	"strings"
	"testing"
)

// Escaping does not change the meaning of a document.
func TestAJSONDocumentCannotSteerATerminal(t *testing.T) {
	text := "plain größe \x1b[2J \u009b31m \u202e \u007f \U000e0001 \u2028 end"
	encoded, err := json.MarshalIndent(map[string]string{"path": text}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	escaped := escapeUnprintable(encoded)
	var decoded map[string]string
	if err := json.Unmarshal(escaped, &decoded); err != nil {
		t.Fatalf("%v: %s", err, escaped)
	}
	if decoded["path"] != text {
		t.Errorf("%q has become %q", text, decoded["path"])
	}
	if strings.ContainsAny(string(escaped), "\x1b\u009b\u202e\u007f\U000e0001\u2028") {
		t.Errorf("%q", escaped)
	}
	if !strings.Contains(string(escaped), "größe") {
		t.Errorf("what can be read is escaped: %s", escaped)
	}
}
