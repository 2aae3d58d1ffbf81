package audit_test

import (
	"testing"
	"time"

	"regsweep/audit"
)

// A comparison has what grew, what shrank, what came and what went, and nothing else.
func TestCompare(t *testing.T) {
	before := []audit.Repository{{Name: "gone", Bytes: 5}, {Name: "same", Bytes: 7, Tags: 1}, {Name: "shrunk", Bytes: 9, Unique: 9}}
	after := []audit.Repository{{Name: "new", Bytes: 4, Tags: 2}, {Name: "same", Bytes: 7, Tags: 1}, {Name: "shrunk", Bytes: 8, Unique: 8}}
	since := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	got := audit.Compare(since, audit.Bytes{Total: 21, Garbage: 3}, audit.Bytes{Total: 19, Garbage: 4}, before, after)
	want := []audit.Change{
		{Name: "new", Tags: 2, Bytes: 4, Is: "new"}, {Name: "shrunk", Bytes: -1, Unique: -1}, {Name: "gone", Bytes: -5, Is: "gone"},
	}
	if len(got.Repositories) != len(want) || got.Bytes != (audit.Bytes{Total: -2, Garbage: 1}) {
		t.Fatalf("%+v", got)
	}
	for i := range want {
		if got.Repositories[i] != want[i] {
			t.Errorf("got %+v, want %+v", got.Repositories[i], want[i])
		}
	}
}
