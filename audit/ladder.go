package audit

import "slices"

// Step is a line of the bill, as the table and the page show it.
type Step struct {
	Name  string `json:"name"` // a key of Bytes in JSON
	Depth int    `json:"depth"`
	Bytes int64  `json:"bytes"`
	// NotCounted is set if Bytes is not known.
	NotCounted bool `json:"not_counted,omitempty"`
	// FreedBy is the word for what frees it, and Parts for a sum.
	FreedBy string `json:"freed_by"`
	About   string `json:"about"`
}

// Parts is the Step.FreedBy of a sum: its parts say what frees them.
const Parts = "parts"

// Ladder returns the lines of the bill. It leaves out versions and multipart if there are none.
func (b Bytes) Ladder(notCounted []string) []Step {
	steps := []Step{
		{"logical", 0, b.Logical, false, "untagging", "pulls of all tags"},
		{"stored", 0, b.Stored, false, Parts, "all blobs, each once"},
		{"live", 1, b.Live, false, Parts, "some repository keeps it"},
		{"tagged", 2, b.Tagged, false, "untagging", "a tag reaches it"},
		{"untagged", 2, b.Untagged, false, "gc -m", "no tag reaches it; damage may keep it"},
		{"garbage", 1, b.Garbage, false, "gc", "nothing reaches it"},
		{"uploads", 0, b.Uploads, false, "gc", "unfinished; gc removes the old ones"},
		{"quarantine", 0, b.Quarantine, false, "purge", "regsweep quarantine purge"},
		{"other", 0, b.Other, false, "by hand", "strays, files of regsweep; links: gc"},
		{"total", 0, b.Total, false, Parts, "the sum; each name of a file counts"},
		{"versions", 0, b.Versions, false, "lifecycle", "noncurrent, beside the total"},
		{"multipart", 0, b.Multipart, false, "gc", "parts of uploads, beside the total"},
	}
	for i := range steps {
		steps[i].NotCounted = slices.Contains(notCounted, steps[i].Name)
	}
	return slices.DeleteFunc(steps, func(s Step) bool {
		return (s.Name == "versions" || s.Name == "multipart") && s.Bytes == 0 && !s.NotCounted
	})
}
