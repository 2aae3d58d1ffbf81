package metrics

import (
	"cmp"
	"slices"

	"regsweep/audit"
)

const (
	// maxRepositories is how many repositories have metrics of their own, the largest ones. It bounds
	// what Prometheus has to store.
	maxRepositories = 100
	// otherRepositories stands for all others. No repository can have this name.
	otherRepositories = "(other)"
)

// addBill adds the bill of an audit. notCounted has the keys of bytes that are not known.
func (s *samples) addBill(bytes audit.Bytes, notCounted []string, repositories []audit.Repository) {
	for _, part := range []struct {
		key, name string
		bytes     int64
	}{
		{"logical", "logical", bytes.Logical}, {"stored", "stored", bytes.Stored}, {"live", "live", bytes.Live},
		{"tagged", "tagged", bytes.Tagged}, {"untagged", "untagged", bytes.Untagged}, {"garbage", "garbage", bytes.Garbage},
		{"uploads", "uploads", bytes.Uploads}, {"quarantine", "quarantine", bytes.Quarantine}, {"other", "other", bytes.Other},
		{"total", "total", bytes.Total}, {"versions", "noncurrent_version", bytes.Versions}, {"multipart", "multipart", bytes.Multipart},
	} {
		if !slices.Contains(notCounted, part.key) {
			s.add("regsweep_audit_"+part.name+"_bytes", float64(part.bytes))
		}
	}
	s.add("regsweep_audit_repositories", float64(len(repositories)))
	largest := slices.SortedFunc(slices.Values(repositories), func(a, b audit.Repository) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Name, b.Name))
	})
	if len(largest) > maxRepositories {
		rest := audit.Repository{Name: otherRepositories}
		for _, r := range largest[maxRepositories:] {
			rest.Bytes += r.Bytes
			rest.Fair += r.Fair
		}
		largest = append(largest[:maxRepositories], rest)
	}
	for _, r := range largest {
		s.add("regsweep_repository_bytes", float64(r.Bytes), "repository", r.Name)
		s.add("regsweep_repository_fair_bytes", r.Fair, "repository", r.Name)
	}
}
