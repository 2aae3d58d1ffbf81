package audit

import (
	"cmp"
	"slices"
	"time"
)

// Comparison has the differences from an older audit, in bytes. They are negative for what became
// smaller.
type Comparison struct {
	Since        time.Time `json:"since"`
	Bytes        Bytes     `json:"bytes"`
	Repositories []Change  `json:"repositories"`
}

// Change has the differences of one repository.
type Change struct {
	Name   string `json:"name"`
	Tags   int    `json:"tags"`
	Bytes  int64  `json:"bytes"`
	Unique int64  `json:"unique"`
	// Is is "new" or "gone" for a repository that only one of the audits has.
	Is string `json:"is,omitempty"`
}

// Compare returns the differences of two audits. It leaves out repositories with the same tags and
// bytes. The repository that grew most comes first.
func Compare(since time.Time, oldBytes, newBytes Bytes, oldRepositories, newRepositories []Repository) Comparison {
	changes := map[string]*Change{}
	for _, r := range newRepositories {
		changes[r.Name] = &Change{Name: r.Name, Tags: r.Tags, Bytes: r.Bytes, Unique: r.Unique, Is: "new"}
	}
	for _, r := range oldRepositories {
		change := changes[r.Name]
		if change == nil {
			change = &Change{Name: r.Name, Is: "gone"}
			changes[r.Name] = change
		} else {
			change.Is = ""
		}
		change.Tags -= r.Tags
		change.Bytes -= r.Bytes
		change.Unique -= r.Unique
	}
	out := Comparison{Since: since, Bytes: newBytes.minus(oldBytes), Repositories: []Change{}}
	for _, change := range changes {
		if change.Is != "" || change.Tags != 0 || change.Bytes != 0 || change.Unique != 0 {
			out.Repositories = append(out.Repositories, *change)
		}
	}
	slices.SortFunc(out.Repositories, func(a, b Change) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Name, b.Name))
	})
	return out
}

func (b Bytes) minus(c Bytes) Bytes {
	return Bytes{
		Logical: b.Logical - c.Logical, Stored: b.Stored - c.Stored, Live: b.Live - c.Live, Tagged: b.Tagged - c.Tagged,
		Untagged: b.Untagged - c.Untagged, Garbage: b.Garbage - c.Garbage, Uploads: b.Uploads - c.Uploads,
		Quarantine: b.Quarantine - c.Quarantine, Other: b.Other - c.Other, Total: b.Total - c.Total,
		Versions: b.Versions - c.Versions, Multipart: b.Multipart - c.Multipart,
	}
}
