package e2e

import (
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"regsweep/internal/imagetest"

	"github.com/opencontainers/go-digest"
)

// referrerLinks are the links by which newer registries find a referrer of a subject, in
// both of the layouts that there are.
func referrerLinks(repository string, subject, referrer digest.Digest) []string {
	tail := "sha256/" + referrer.Encoded() + "/link"
	return []string{
		path.Dir(imagetest.RevisionPath(repository, subject)) + "/_referrers/_application%2Fvnd.example.signature/" + tail,
		"repositories/" + repository + "/_refs/subjects/sha256/" + subject.Encoded() + "/" + tail,
	}
}

// isReferrerLink reports whether a file is a referrer link to the revision whose
// directory is given.
func isReferrerLink(file, revision string) bool {
	repository, hex, _ := strings.Cut(strings.TrimSuffix(revision, "/signatures/"), "/_manifests/revisions/")
	return strings.HasPrefix(file, repository+"/_") && strings.HasSuffix(file, "/"+hex+"/link") &&
		(strings.Contains(file, "/_refs/") || strings.Contains(file, "/_referrers/"))
}

// Referrer links are kept with their referrer, and go with it.
func TestReferrerLinks(t *testing.T) {
	t.Parallel()
	refer := func(s *site, subject, referrer digest.Digest) {
		for _, link := range referrerLinks("app", subject, referrer) {
			s.tree.Write(link, referrer.String())
		}
	}
	orphansGo := func(links ...string) (lines []string) {
		for _, link := range links {
			lines = append(lines, "orphan_link "+link)
		}
		return lines
	}
	tellAll(t, []story{
		{
			name: "of what is alive, and of what is removed",
			tell: func(s *site) outcome {
				current, old := app(1, 2), app(1, 3)
				signature := imagetest.Referrer(current, "application/vnd.example.signature", []byte("signed"))
				gone := imagetest.Referrer(old, "application/vnd.example.signature", []byte("signed long ago"))
				s.push("app:v1", current)
				s.push("app:v0", old)
				s.push("app", signature)
				s.push("app", gone)
				s.delete("app", "v0")
				refer(s, current.Digest(), signature.Digest())
				refer(s, old.Digest(), gone.Digest())
				return outcome{
					flags: []string{"-m"},
					goes: slices.Concat(
						revisionsGo("app", old, gone),
						layersGo("app", layer(3).Digest(), configOf(old), configOf(gone)),
						blobsGo(old.Digest(), gone.Digest(), layer(3).Digest(), configOf(old), configOf(gone))),
					alive: []image{pulls("app", "v1", signature)},
				}
			},
		},
		{
			// The subject is removed. The link lies in its directory, and stays.
			name: "a tagged referrer of what is removed",
			tell: func(s *site) outcome {
				current, old := app(1, 2), app(1, 3)
				signature := imagetest.Referrer(old, "application/vnd.example.signature", []byte("signed"))
				s.push("app:v1", current)
				s.push("app:v0", old)
				s.push("app:signature", signature)
				s.delete("app", "v0")
				refer(s, old.Digest(), signature.Digest())
				return outcome{
					flags: []string{"-m"},
					goes: slices.Concat(
						revisionsGo("app", old), layersGo("app", layer(3).Digest(), configOf(old)),
						blobsGo(old.Digest(), layer(3).Digest(), configOf(old))),
					alive: []image{pulls("app", "v1", "signature")},
				}
			},
		},
		{
			// A deletion through the API removes the revision's link and nothing else.
			name: "of manifests that were deleted",
			tell: func(s *site) outcome {
				current := app(1, 2)
				gone := imagetest.Referrer(current, "application/vnd.example.signature", []byte("signed"))
				s.push("app:v1", current)
				s.push("app", gone)
				refer(s, current.Digest(), gone.Digest())
				s.delete("app", gone.Digest().String())
				old := digest.FromString("a manifest of schema 1 that was deleted")
				signature := s.tree.Blob([]byte("a signature"))
				s.tree.Write(imagetest.SignaturePath("app", old, signature), signature.String())
				return outcome{
					goes: slices.Concat(
						orphansGo(referrerLinks("app", current.Digest(), gone.Digest())...),
						orphansGo(imagetest.SignaturePath("app", old, signature)),
						layersGo("app", content(gone)...),
						blobsGo(append(gone.Digests(), signature)...)),
					alive: []image{pulls("app", "v1", current)},
				}
			},
		},
		{
			// The tag is a root, and so the manifest is alive: nothing of it is an orphan.
			name: "a signature of a tag whose revision link is missing",
			tell: func(s *site) outcome {
				current := app(1, 2)
				s.push("app:v1", app(9))
				s.push("app:v2", current)
				signature := s.tree.Blob([]byte("a signature"))
				s.tree.Write(imagetest.SignaturePath("app", current.Digest(), signature), signature.String())
				s.tree.Remove(imagetest.RevisionPath("app", current.Digest()))
				return outcome{
					alive: []image{pulls("app", "v1")},
					after: func(s *site) {
						s.write(imagetest.RevisionPath("app", current.Digest()), current.Digest().String())
						s.pull("once the link is back", s.client, []image{pulls("app", "v2")})
					},
				}
			},
		},
	})
}

// A line of a plan that is struck stays, and keeps what the link leads to.
func TestAnOrphanLinkIsStruckFromAPlan(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.push("app:v1", app(1, 2))
	old := digest.FromString("a manifest of schema 1 that was deleted")
	var links []string
	for _, text := range []string{"a signature", "another"} {
		signature := s.tree.Blob([]byte(text))
		links = append(links, imagetest.SignaturePath("app", old, signature))
		s.tree.Write(links[len(links)-1], signature.String())
	}
	planFile, run := s.savePlan()
	if got := run.report.Garbage.counts(); got["orphan_link"] != 2 || got["blob"] != 2 {
		t.Fatalf("the plan has %v", got)
	}
	s.must(s.registry.SetReadOnly(true))
	before := s.files()
	content, err := os.ReadFile(planFile)
	s.must(err)
	s.strike(planFile, strings.SplitAfter(string(content), "\n"), func(line string) bool { return strings.Contains(line, links[0]) })
	run = s.apply(planFile, "--partial")
	if run.code != 0 {
		t.Fatalf("%d: %s", run.code, run.stderr)
	}
	gone := []string{"orphan_link " + links[1], "blob " + imagetest.BlobPath(digest.FromString("another"))}
	s.same("the files", keys(s.files()), keys(without(before, gone)))
	s.same("what was left out", run.leftOut(), []string{"blob linked 1"})
}

// The store of another product is named, and nothing of it is removed.
func TestAnotherProductsStoreIsRefused(t *testing.T) {
	t.Parallel()
	link := `{"target":"` + digest.FromString("x").String() + `"}`
	alg := "sha256/" + digest.FromString("x").Encoded() + "/link"
	for name, path := range map[string]string{
		"referrers": "repositories/app/_manifests/referrers/sha256/" + digest.FromString("y").Encoded() + "/" + alg,
		"blobs":     "repositories/team/app/_blobs/" + alg,
		"configs":   "repositories/app/_config/" + alg,
	} {
		onEach(t, name, func(t *testing.T, on backend) {
			s := newSite(t)
			s.push("app:v1", app(1, 2))
			s.tree.Blob([]byte("garbage"))
			s.tree.Write(path, link)
			s.on(on)
			s.must(s.registry.SetReadOnly(true))
			before := s.files()
			for _, flags := range [][]string{{"-m"}, {"-d"}} {
				run := s.gc(flags...)
				if run.code != 3 || !strings.Contains(run.report.Error, "angos") || !strings.Contains(run.report.Error, path) {
					t.Errorf("%v ends with %d: %s", flags, run.code, run.report.Error)
				}
			}
			s.same("the files", keys(s.files()), keys(before))
		})
	}
	// A stray that only looks like one is a stray.
	s := newSite(t)
	s.push("app:v1", app(1, 2))
	s.tree.Write("repositories/app/_config/notes/link", "mine")
	s.must(s.registry.SetReadOnly(true))
	if run := s.gc("-m"); run.code != 0 {
		t.Errorf("a stray: %d, %s", run.code, run.report.Error)
	}
}
