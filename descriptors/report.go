package descriptors

import (
	"regsweep/internal/human"
	"regsweep/storage/config"
)

// Report is the part of a run's report about the registry's cache of descriptors.
type Report struct {
	Cache   string `json:"cache"`   // "redis" or "inmemory"
	Deleted int64  `json:"deleted"` // keys, and members of sets, in Redis
	// Stale is set if the cache may know something that the run has removed.
	Stale bool `json:"stale"`
}

// NewReport returns nil if no cache of descriptors is known. Then the target may be no config.yml.
func NewReport(registry *config.Registry) *Report {
	if registry == nil || registry.DescriptorCache == "" {
		return nil
	}
	return &Report{Cache: registry.DescriptorCache}
}

// Warning says what must be done before the registry takes pushes, "" if there is nothing.
func (r *Report) Warning() string {
	switch {
	case r == nil || !r.Stale:
		return ""
	case r.Cache == "inmemory":
		return "the registry keeps descriptors in its memory, and answers from there for what was removed: restart it before it takes pushes again"
	}
	return "the registry keeps descriptors in Redis, and answers from there for what was removed: flush that database before the registry takes pushes again"
}

// Text is the line for a report, "" if nothing has to be said.
func (r *Report) Text() string {
	if warning := r.Warning(); warning != "" {
		return "Warning: " + warning + "."
	}
	if r == nil || r.Deleted == 0 {
		return ""
	}
	return "The registry's cache in Redis was cleared of that: " + human.Plural(int(r.Deleted), "entry") + " deleted."
}
