package e2e

import (
	"fmt"
	"slices"
	"testing"

	"regsweep/internal/imagetest"
)

// One platform of an index was deleted through the registry's API. Its blobs are kept, since
// the index still has it; the report says so, and --delete-unlinked-children lets them go.
func TestADeletedPlatformOfAnIndex(t *testing.T) {
	t.Parallel()
	make := func(s *site) (live, deleted, index *imagetest.Manifest) {
		live, deleted = app(1, 2), app(1, 3)
		index = imagetest.Index(imagetest.OCI, live, deleted)
		s.push("app:v1", index)
		s.delete("app", deleted.Digest().String())
		return live, deleted, index
	}
	tellAll(t, []story{
		{
			name: "is kept",
			tell: func(s *site) outcome {
				live, deleted, _ := make(s)
				return outcome{
					flags: []string{"-m"},
					alive: []image{pulls("app", live)},
					after: func(s *site) {
						run := s.gc("-m")
						var kept []string
						for _, row := range run.report.Kept {
							kept = append(kept, fmt.Sprint(row.Reason, " ", row.Repository, " ", row.Blobs, " ", row.Links))
						}
						s.same("kept", kept, []string{"unlinked_child app 3 2"})
						for _, row := range run.report.Kept {
							if row.Bytes <= int64(len(deleted.Content)) {
								s.Errorf("%d bytes are kept", row.Bytes)
							}
						}
					},
				}
			},
		},
		{
			name: "goes",
			tell: func(s *site) outcome {
				live, deleted, _ := make(s)
				return outcome{
					flags: []string{"-m", "--delete-unlinked-children"},
					goes: slices.Concat(
						layersGo("app", layer(3).Digest(), configOf(deleted)),
						blobsGo(deleted.Digest(), layer(3).Digest(), configOf(deleted))),
					alive:    []image{pulls("app", live)},
					problems: []string{},
				}
			},
		},
		{
			// What a tag, or a revision in another repository, needs as well is not affected.
			name: "is tagged, or linked elsewhere",
			tell: func(s *site) outcome {
				live, deleted, index := make(s)
				s.push("app:arm", deleted)
				s.push("lib:v1", index)
				return outcome{
					flags: []string{"-m", "--delete-unlinked-children"},
					alive: []image{pulls("app", "v1", "arm", live), pulls("lib", "v1", live, deleted)},
				}
			},
		},
		{
			// The tag is a root though its revision link is missing, and so is what it needs.
			name: "a tag whose revision link is missing",
			tell: func(s *site) outcome {
				live, deleted, _ := make(s)
				s.push("app:arm", deleted)
				s.tree.Remove(imagetest.RevisionPath("app", deleted.Digest()))
				return outcome{
					flags: []string{"-m", "--delete-unlinked-children"},
					alive: []image{pulls("app", live)},
					after: func(s *site) {
						s.write(imagetest.RevisionPath("app", deleted.Digest()), deleted.Digest().String())
						s.pull("once the link is back", s.client, []image{pulls("app", "v1", "arm")})
					},
				}
			},
		},
	})
}
