package cli

import (
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"regsweep/guard"
	"regsweep/storage"
)

// TestFormatsNamesEveryKey fails if a report, the lock or a record of versions has a key that
// docs/formats.md does not explain.
func TestFormatsNamesEveryKey(t *testing.T) {
	page, err := os.ReadFile("../docs/formats.md")
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]bool{}
	for _, document := range []any{report{}, checkReport{}, quarantineReport{}, auditReport{}, whyReport{}, graphReport{}, verifyReport{}, policyCheckReport{}, usageReport{}, guard.Holder{}, storage.HiddenVersion{}} {
		addKeys(keys, reflect.TypeOf(document))
	}
	if len(keys) < 80 {
		t.Errorf("only %d keys were found", len(keys))
	}
	for key := range keys {
		if !strings.Contains(string(page), "`"+key+"`") {
			t.Errorf("docs/formats.md does not explain %q", key)
		}
	}
}

// addKeys adds the keys that a type has in JSON, and those of the types in it.
func addKeys(keys map[string]bool, of reflect.Type) {
	switch of.Kind() {
	case reflect.Pointer, reflect.Slice:
		addKeys(keys, of.Elem())
	case reflect.Struct:
		if of == reflect.TypeFor[time.Time]() {
			return
		}
		for i := range of.NumField() {
			field := of.Field(i)
			key, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			if key == "-" || key == "" && !field.Anonymous {
				continue
			}
			if key != "" {
				keys[key] = true
			}
			addKeys(keys, field.Type)
		}
	}
}
