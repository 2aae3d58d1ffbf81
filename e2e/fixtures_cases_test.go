package e2e

import (
	"errors"
	"net/http"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"regsweep/internal/imagetest"
	"regsweep/internal/registrytest"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/opencontainers/go-digest"
)

// TestWhatGarbageCollectGetsWrong has a story for each way in which a registry's own
// garbage-collect removes what is alive, leaves what is not, or gives up.
func TestWhatGarbageCollectGetsWrong(t *testing.T) {
	t.Parallel()
	manyAlike(t)
	tellAll(t, []story{
		{
			// The plainest one, which all others build on (1, 5, 6).
			name: "a tag that moved",
			tell: func(s *fixture) outcome {
				old, current := app(1, 2), app(1, 3)
				s.push("team/app:latest", old)
				s.push("team/app:latest", current)
				return outcome{
					flags: []string{"-m"},
					goes: slices.Concat(
						tagEntriesGo("team/app", "latest", old), revisionsGo("team/app", old),
						layersGo("team/app", layer(2).Digest(), configOf(old)),
						blobsGo(old.Digest(), layer(2).Digest(), configOf(old))),
					alive: []image{pulls("team/app", "latest", current)},
				}
			},
		},
		{
			// Without -m, untagged is alive: people pull by digest (1).
			name: "a tag that moved, without -m",
			tell: func(s *fixture) outcome {
				old, current, deleted := app(1, 2), app(1, 3), app(1, 4)
				s.push("team/app:latest", old)
				s.push("team/app:latest", current)
				s.push("team/app:branch", deleted)
				s.delete("team/app", deleted.Digest().String())
				return outcome{
					goes: slices.Concat(
						layersGo("team/app", layer(4).Digest(), configOf(deleted)),
						blobsGo(deleted.Digest(), layer(4).Digest(), configOf(deleted))),
					alive: []image{pulls("team/app", "latest", current, old)},
				}
			},
		},
		{
			// The registry stores a layer that was pushed under its sha512 by its
			// sha256, and a link is all that knows both. There, the live blob is
			// deleted (1).
			name:   "a layer pushed by its sha512",
			direct: true,
			tell: func(s *fixture) outcome {
				long := func(n int) imagetest.Blob {
					blob := layer(n)
					blob.Algorithm = digest.SHA512
					return blob
				}
				live, dead := imagetest.Image(imagetest.OCI, long(1), layer(2)), imagetest.Image(imagetest.OCI, long(3), layer(2))
				s.push("app:v1", live)
				s.push("app:v2", dead)
				s.delete("app", dead.Digest().String())
				return outcome{
					goes: slices.Concat(
						layersGo("app", long(3).Digest(), layer(3).Digest(), configOf(dead)),
						blobsGo(dead.Digest(), layer(3).Digest(), configOf(dead))),
					alive: []image{pulls("app", "v1", live)},
				}
			},
		},
		{
			// A crash between the writes of a push, or a delete by digest that was cut
			// off, leaves this. Tags are no roots there, and the blobs go; here the
			// link can be put back and all is well (1, 3).
			name: "a tag whose revision link is missing",
			tell: func(s *fixture) outcome {
				broken, whole, old := app(1, 2), app(3), app(4)
				s.push("app:broken", broken)
				s.push("app:whole", whole)
				s.push("app:moved", old)
				s.push("app:moved", whole)
				s.tree.Remove(imagetest.RevisionPath("app", broken.Digest()))
				return outcome{
					flags: []string{"-m"},
					goes: slices.Concat(
						tagEntriesGo("app", "moved", old), revisionsGo("app", old),
						layersGo("app", content(old)...), blobsGo(old.Digests()...)),
					alive: []image{pulls("app", "whole", "moved")},
					after: func(s *fixture) {
						s.write(imagetest.RevisionPath("app", broken.Digest()), broken.Digest().String())
						s.pull("once the link is back", s.client, []image{pulls("app", "broken")})
					},
				}
			},
		},
		{
			// What keeps a link is its own repository's business: there, A's manifest
			// stays and its layer links go, so that A is broken rather than empty (1).
			name: "tagged in B, untagged in A",
			tell: func(s *fixture) outcome {
				shared, other := app(1, 2), app(1, 3)
				s.push("a:v1", shared)
				s.push("a:v2", other)
				s.push("b:v1", shared)
				s.delete("a", "v1")
				return outcome{
					flags: []string{"-m"},
					goes:  slices.Concat(revisionsGo("a", shared), layersGo("a", layer(2).Digest(), configOf(shared))),
					alive: []image{pulls("a", "v2", other), pulls("b", "v1", shared)},
				}
			},
		},
		{
			name: "tagged in B, untagged in A, without -m",
			tell: func(s *fixture) outcome {
				shared, other := app(1, 2), app(1, 3)
				s.push("a:v1", shared)
				s.push("a:v2", other)
				s.push("b:v1", shared)
				s.delete("a", "v1")
				return outcome{alive: []image{pulls("a", "v2", shared), pulls("b", "v1", shared)}}
			},
		},
		{
			// A signature has no tag of its own, and is worth as much as what it signs.
			// The signature of an image that is removed is removed too (1).
			name: "untagged referrers of a tagged image",
			tell: func(s *fixture) outcome {
				current, old := app(1), app(2)
				signature := imagetest.Referrer(current, "application/vnd.example.signature", []byte("signed"))
				timestamp := imagetest.Referrer(signature, "application/vnd.example.timestamp", []byte("at noon"))
				orphan := imagetest.Referrer(old, "application/vnd.example.signature", []byte("signed long ago"))
				s.push("app:v1", old)
				s.push("app:v1", current)
				s.push("app", signature)
				s.push("app", timestamp)
				s.push("app", orphan)
				payload := orphan.Blobs[1].Digest()
				return outcome{
					flags: []string{"-m"},
					goes: slices.Concat(
						tagEntriesGo("app", "v1", old), revisionsGo("app", old, orphan),
						layersGo("app", content(old)...), layersGo("app", payload),
						blobsGo(old.Digests()...), blobsGo(orphan.Digest(), payload)),
					alive: []image{pulls("app", "v1", signature, timestamp)},
				}
			},
		},
		{
			// A signature does not keep what it signs: or nothing signed would ever go.
			name: "a tagged signature of an untagged image",
			tell: func(s *fixture) outcome {
				old := app(2)
				signature := imagetest.Referrer(old, "application/vnd.example.signature", []byte("signed"))
				s.push("app", old)
				s.push("app:signature", signature)
				return outcome{
					flags: []string{"-m"},
					goes:  slices.Concat(revisionsGo("app", old), layersGo("app", content(old)...), blobsGo(old.Digests()...)),
					alive: []image{pulls("app", "signature", signature)},
				}
			},
		},
		{
			// Release 2 deletes the children, which have no tag of their own (1).
			name: "children of a manifest list",
			tell: func(s *fixture) outcome {
				amd, arm, former := formatted(imagetest.Docker, 1, 2), formatted(imagetest.Docker, 1, 3), formatted(imagetest.Docker, 1, 4)
				old, current := imagetest.Index(imagetest.Docker, amd, former), imagetest.Index(imagetest.Docker, amd, arm)
				s.push("app:v1", old)
				s.push("app:v1", current)
				return outcome{
					flags: []string{"-m"},
					goes: slices.Concat(
						tagEntriesGo("app", "v1", old), revisionsGo("app", old, former),
						layersGo("app", layer(4).Digest(), configOf(former)),
						blobsGo(old.Digest(), former.Digest(), layer(4).Digest(), configOf(former))),
					alive: []image{pulls("app", "v1", current, amd, arm)},
				}
			},
		},
		{
			// Nothing in it was ever tagged. There, the blobs go and the links stay.
			name: "a repository without tags, with -m",
			tell: func(s *fixture) outcome {
				untagged, tagged := app(1, 2), app(1, 3)
				s.push("cache", untagged)
				s.push("app:v1", tagged)
				return outcome{
					flags: []string{"-m"},
					goes: slices.Concat(
						revisionsGo("cache", untagged), layersGo("cache", content(untagged)...),
						blobsGo(untagged.Digest(), layer(2).Digest(), configOf(untagged))),
					alive: []image{pulls("app", "v1")},
				}
			},
		},
		{
			name: "a repository without tags",
			tell: func(s *fixture) outcome {
				untagged, tagged := app(1, 2), app(1, 3)
				s.push("cache", untagged)
				s.push("app:v1", tagged)
				return outcome{alive: []image{pulls("app", "v1"), pulls("cache", untagged)}}
			},
		},
		{
			// Full disks leave links empty, and editors end them with a newline. There,
			// the whole run gives up (2). See TestDamagedLinks for all of them.
			name: "links that are empty or end in a newline",
			tell: func(s *fixture) outcome {
				old := map[string]*imagetest.Manifest{}
				for i, repository := range []string{"empty", "newline", "sound"} {
					n := 10 * i
					old[repository] = app(n+1, n+2)
					current := app(n+1, n+3)
					s.push(repository+":v1", old[repository])
					s.push(repository+":v1", current)
					s.push(repository+":v2", current)
				}
				empty, newline := imagetest.TagPath("empty", "v1"), imagetest.TagPath("newline", "v1")
				s.tree.Write(empty, "")
				s.tree.Write(newline, app(11, 13).Digest().String()+"\n")
				gone := old["sound"]
				return outcome{
					flags: []string{"-m"},
					goes: slices.Concat(
						tagEntriesGo("sound", "v1", gone), revisionsGo("sound", gone),
						layersGo("sound", layer(22).Digest(), configOf(gone)),
						blobsGo(gone.Digest(), layer(22).Digest(), configOf(gone))),
					alive: []image{
						pulls("empty", "v2", old["empty"]), pulls("newline", "v2", old["newline"]), pulls("sound", "v1", "v2"),
					},
					problems: []string{problem("damaged_link", "empty", empty), problem("damaged_link", "newline", newline)},
					exit:     4,
				}
			},
		},
		{
			// Images of before 2016, with their signatures as blobs of their own. There,
			// the whole run gives up; no registry of release 3 serves them, and they
			// are all that somebody has (1, 2).
			name: "schema 1 with signatures",
			tell: func(s *fixture) outcome {
				s.push("app:v1", app(9))
				sign := func(m *imagetest.Manifest, text string) digest.Digest {
					signature := s.tree.Blob([]byte(text))
					s.tree.Write(imagetest.SignaturePath("old", m.Digest(), signature), signature.String())
					return signature
				}
				kept, gone := imagetest.Schema1("old", "v1", layer(1), layer(2)), imagetest.Schema1("old", "v0", layer(1), layer(3))
				s.plant("old", "v1", kept)
				s.plant("old", "", gone)
				sign(kept, "a signature")
				signature := sign(gone, "another signature")
				return outcome{
					flags: []string{"-m"},
					goes: slices.Concat(
						revisionsGo("old", gone), layersGo("old", layer(3).Digest()),
						blobsGo(gone.Digest(), layer(3).Digest(), signature)),
					alive: []image{pulls("app", "v1")},
					after: func(s *fixture) { s.blobs("old", layer(1).Digest(), layer(2).Digest()) },
				}
			},
		},
		{
			// Tomorrow's artifacts: every digest in one keeps what it names (2).
			name: "a manifest of an unknown type",
			tell: func(s *fixture) outcome {
				s.push("app:v1", app(9))
				unknown := &imagetest.Manifest{
					MediaType: "application/vnd.example.machine.v7+json",
					Content: []byte(`{"mediaType":"application/vnd.example.machine.v7+json","disk":{"parts":[{"at":"` +
						layer(1).Digest().String() + `"}]},"boot":"from ` + layer(2).Digest().String() + `, if at all"}`),
					Blobs: []imagetest.Blob{layer(1), layer(2)},
				}
				old := app(3)
				s.plant("machines", "m1", unknown)
				s.plant("machines", "", old)
				return outcome{
					flags:    []string{"-m"},
					goes:     slices.Concat(revisionsGo("machines", old), layersGo("machines", content(old)...), blobsGo(old.Digests()...)),
					alive:    []image{pulls("app", "v1")},
					problems: []string{problem("manifest_unknown_type", "machines", imagetest.BlobPath(unknown.Digest()))},
					after:    func(s *fixture) { s.blobs("machines", layer(1).Digest(), layer(2).Digest()) },
				}
			},
		},
		{
			// There, it is a panic (2).
			name: "a manifest that is not JSON",
			tell: func(s *fixture) outcome {
				broken := &imagetest.Manifest{Content: []byte(`{"schemaVersion":2,"layers":[`)}
				beside, gone := app(1), app(2)
				s.plant("broken", "v1", broken)
				s.plant("broken", "", beside)
				s.push("app:v1", gone)
				s.push("app:v1", app(3))
				return outcome{
					flags: []string{"-m"},
					goes: slices.Concat(
						tagEntriesGo("app", "v1", gone), revisionsGo("app", gone),
						layersGo("app", content(gone)...), blobsGo(gone.Digests()...)),
					alive:    []image{pulls("app", "v1"), pulls("broken", beside)},
					problems: []string{problem("manifest_damaged", "broken", imagetest.BlobPath(broken.Digest()))},
					exit:     4,
				}
			},
		},
		{
			// Backups, lost+found, somebody's notes. There, the whole run gives up (2).
			name: "strays",
			tell: func(s *fixture) outcome {
				gone := app(2)
				s.push("app:v1", gone)
				s.push("app:v1", app(3))
				other := digest.SHA512.FromString("x")
				strays := []string{
					"blobs/lost+found/1234",
					"blobs/sha256/notes.txt",
					"blobs/sha256/ab/not-a-digest/data",
					"blobs/sha256/abcd/data",
					imagetest.BlobPath(other),
					"repositories/notes.txt",
					"repositories/app/notes.txt",
					"blobs/md5/aa/aabbccddeeff00112233445566778899/data",
				}
				var problems []string
				for _, path := range strays {
					s.tree.Write(path, "x")
					problems = append(problems, problem("stray", "", path))
				}
				for _, path := range []string{"repositories/app/_manifests/notes.txt", imagetest.TagPath("app", "v1") + ".4c1f.tmp"} {
					s.tree.Write(path, "x")
					problems = append(problems, problem("stray", "app", path))
				}
				s.tree.Mkdir("blobs/sha256/an empty directory")
				return outcome{
					flags: []string{"-m"},
					goes: slices.Concat(
						tagEntriesGo("app", "v1", gone), revisionsGo("app", gone),
						layersGo("app", content(gone)...), blobsGo(gone.Digests()...)),
					alive:    []image{pulls("app", "v1")},
					problems: problems,
				}
			},
		},
		{
			// No registry serves it, so it was put there by hand, and it is for hands to
			// take away. There, the whole run gives up (2).
			name: "a repository named Foo",
			tell: func(s *fixture) outcome {
				tagged, untagged, gone := app(1), app(2), app(3)
				s.plant("Foo", "v1", tagged)
				s.plant("Foo", "", untagged)
				s.tree.LayerLink("Foo", s.tree.Blob([]byte("nobody's")))
				s.tree.Upload("Foo", "an-upload", time.Now().Add(-1000*time.Hour), []byte("half"))
				s.push("app:v1", gone)
				s.push("app:v1", app(4))
				return outcome{
					flags: []string{"-m"},
					goes: slices.Concat(
						tagEntriesGo("app", "v1", gone), revisionsGo("app", gone),
						layersGo("app", content(gone)...), blobsGo(gone.Digests()...)),
					alive:    []image{pulls("app", "v1")},
					problems: []string{problem("bad_repository_name", "Foo", "repositories/Foo")},
					exit:     4,
				}
			},
		},
		{
			// Release 2 finds repositories by _layers, release 3 by _manifests: what
			// has but one of them is still a repository (1).
			name: "a repository without _layers",
			tell: func(s *fixture) outcome {
				lost, old, shared := app(1, 2), app(1, 3), app(2, 4)
				s.push("lost:v1", old)
				s.push("lost:v1", lost)
				s.push("app:v1", shared)
				s.tree.Remove("repositories/lost/_layers")
				return outcome{
					flags: []string{"-m"},
					goes: slices.Concat(
						tagEntriesGo("lost", "v1", old), revisionsGo("lost", old),
						blobsGo(old.Digest(), layer(3).Digest(), configOf(old))),
					alive: []image{pulls("app", "v1")},
					after: func(s *fixture) {
						for _, d := range content(lost) {
							s.write(imagetest.LayerPath("lost", d), d.String())
						}
						s.pull("once the links are back", s.client, []image{pulls("lost", "v1", lost)})
					},
				}
			},
		},
		{
			// An earlier collection took the blobs and left their links for ever. A link
			// that a live manifest needs stays: the blob may yet be pushed again.
			name: "layer links to missing blobs",
			tell: func(s *fixture) outcome {
				whole, half := app(1), app(2, 3)
				s.push("app:v1", whole)
				s.push("app:half", half)
				s.tree.Remove(path.Dir(imagetest.BlobPath(layer(3).Digest())))
				s.tree.LayerLink("app", digest.FromString("long gone"))
				return outcome{
					goes:  layersGo("app", digest.FromString("long gone")),
					alive: []image{pulls("app", "v1")},
				}
			},
		},
		{
			// Deleting by digest leaves the digest in the index of every tag that it
			// ever had, but for those that still point at it.
			name: "a stale tag index",
			tell: func(s *fixture) outcome {
				deleted, untagged, current := app(1), app(2), app(3)
				for _, m := range []*imagetest.Manifest{deleted, untagged, current} {
					s.push("app:latest", m)
				}
				s.delete("app", deleted.Digest().String())
				return outcome{
					goes: slices.Concat(
						tagEntriesGo("app", "latest", deleted),
						layersGo("app", content(deleted)...), blobsGo(deleted.Digests()...)),
					alive: []image{pulls("app", "latest", untagged)},
				}
			},
		},
		{
			// The catalog has names of repositories from which nothing can be pulled. A
			// repository below another one does not depend on it (1).
			name: "empty repositories, nested ones too",
			tell: func(s *fixture) outcome {
				gone := map[string]*imagetest.Manifest{"a": app(1), "x/y/z": app(2), "keep/gone": app(3)}
				for repository, m := range gone {
					s.push(repository+":v1", m)
					s.delete(repository, m.Digest().String())
				}
				s.push("a/b:v1", app(5))
				s.push("keep:v1", app(6))
				goes := repositoriesGo("a", "x/y/z", "keep/gone")
				for repository, m := range gone {
					goes = slices.Concat(goes, layersGo(repository, content(m)...), blobsGo(m.Digests()...))
				}
				return outcome{
					flags: []string{"--prune-empty"},
					goes:  goes,
					alive: []image{pulls("a/b", "v1"), pulls("keep", "v1")},
					problems: []string{
						problem("no_manifests", "a", "repositories/a"), problem("no_manifests", "x/y/z", "repositories/x/y/z"),
						problem("no_manifests", "keep/gone", "repositories/keep/gone"),
					},
					after: func(s *fixture) {
						if s.tree == nil {
							return // where there are no directories, there is nothing left
						}
						for path, want := range map[string]bool{
							"x": false, "keep/gone": false, "keep": true, "a/b": true,
							"a/_manifests": false, "a/_layers": false, "a/_uploads": false,
						} {
							if s.tree.Exists("repositories/"+path) != want {
								s.Errorf("repositories/%s is there: %t", path, !want)
							}
						}
					},
				}
			},
		},
		{
			name: "empty repositories stay unless asked",
			tell: func(s *fixture) outcome {
				gone := app(1)
				s.push("a:v1", gone)
				s.delete("a", gone.Digest().String())
				s.push("b:v1", app(2))
				return outcome{
					goes:     slices.Concat(layersGo("a", content(gone)...), blobsGo(gone.Digests()...)),
					alive:    []image{pulls("b", "v1")},
					problems: []string{problem("no_manifests", "a", "repositories/a")},
					after: func(s *fixture) {
						if s.tree != nil && !s.tree.Exists("repositories/a/_manifests") {
							s.Error("repositories/a is gone")
						}
					},
				}
			},
		},
		{
			// The registry purges them itself, unless it is told not to or is restarted
			// often; a client may still go on with a young one.
			name: "old uploads",
			tell: func(s *fixture) outcome {
				s.push("app:v1", app(1))
				s.tree.Upload("app", "old", time.Now().Add(-169*time.Hour), []byte("half of it"))
				s.tree.Upload("app", "young", time.Now().Add(-167*time.Hour), []byte("half of it"))
				s.tree.Upload("uploads/only", "old", time.Now().Add(-1000*time.Hour), []byte("a quarter"))
				s.tree.Upload("uploads/both", "old", time.Now().Add(-1000*time.Hour), []byte("a quarter"))
				s.tree.Upload("uploads/both", "young", time.Now().Add(-time.Hour), []byte("a half"))
				return outcome{
					flags: []string{"--prune-empty"},
					goes: slices.Concat(uploadGoes("app", "old"), uploadGoes("uploads/only", "old"), uploadGoes("uploads/both", "old"),
						repositoriesGo("uploads/only")),
					alive: []image{pulls("app", "v1")},
				}
			},
		},
		{
			// What a client sent before it went away is no object yet, shows in no
			// listing of them, and costs money until somebody aborts it.
			name:   "old uploads through S3",
			direct: true,
			only:   bucket,
			tell: func(s *fixture) outcome {
				s.push("app:v1", app(1))
				old, err := s.client.LeaveUpload(s.Context(), "app", make([]byte, 6<<20))
				s.must(err)
				young, err := s.client.LeaveUpload(s.Context(), "app", make([]byte, 6<<20))
				s.must(err)
				s.write(imagetest.UploadPath("app", old)+"/startedat", time.Now().Add(-169*time.Hour).UTC().Format(time.RFC3339))
				if got := s.multiparts(); len(got) != 2 {
					s.Fatalf("the story has %v, not two unfinished uploads", got)
				}
				return outcome{
					goes:  uploadGoes("app", old),
					alive: []image{pulls("app", "v1")},
					after: func(s *fixture) {
						s.same("unfinished uploads", s.multiparts(), []string{imagetest.UploadPath("app", young) + "/data"})
					},
				}
			},
		},
		{
			// A copy into its place that was cut off belongs to no upload.
			name:   "unfinished copies in S3",
			direct: true,
			only:   bucket,
			tell: func(s *fixture) outcome {
				s.push("app:v1", app(1))
				path := imagetest.BlobPath(digest.FromString("never finished"))
				key := s.key(path)
				_, err := s.s3.Client().CreateMultipartUpload(s.Context(), &s3.CreateMultipartUploadInput{Bucket: &s.bucket, Key: &key})
				s.must(err)
				return outcome{
					flags: []string{"--upload-age", "0s"},
					goes:  []string{"upload " + path},
					alive: []image{pulls("app", "v1")},
					after: func(s *fixture) { s.same("unfinished uploads", s.multiparts(), nil) },
				}
			},
		},
		{
			// Some tools put an empty object where they want to see a folder.
			name:   "folder keys in S3",
			direct: true,
			only:   bucket,
			tell: func(s *fixture) outcome {
				gone := app(1)
				s.push("app:v1", gone)
				s.delete("app", gone.Digest().String())
				s.push("app:v2", app(2))
				var problems []string
				for path, repository := range map[string]string{
					"blobs/": "", "blobs/sha256/": "", "repositories/": "", "repositories/app/": "",
					"repositories/app/_manifests/tags/": "app", "repositories/app/_layers/sha256/": "app",
				} {
					s.write(path, "")
					problems = append(problems, problem("stray", repository, path))
				}
				return outcome{
					goes:     slices.Concat(layersGo("app", content(gone)...), blobsGo(gone.Digests()...)),
					alive:    []image{pulls("app", "v2")},
					problems: problems,
				}
			},
		},
	})
}

// faulty tells the story that faults strike in: repositories "app", where they do, and
// "sound", each with what must live for every reason there is, and with garbage.
func faulty(s *fixture) (want outcome, app *faultyApp) {
	app = &faultyApp{amd: formatted(imagetest.OCI, 1, 2), arm: formatted(imagetest.OCI, 1, 3), untagged: formatted(imagetest.OCI, 1, 4)}
	app.index = imagetest.Index(imagetest.OCI, app.amd, app.arm)
	app.signature = imagetest.Referrer(app.index, "application/vnd.example.signature", []byte("signed"))
	s.plant("app", "v1", app.index)
	s.plant("app", "", app.signature)
	s.plant("app", "", app.untagged)
	s.plant("sound", "v1", formatted(imagetest.OCI, 1, 9))
	want.alive = []image{pulls("app", "v1", app.amd, app.arm, app.signature, app.untagged), pulls("sound", "v1")}
	for i, repository := range []string{"app", "sound"} {
		gone := formatted(imagetest.OCI, 1, 20+i)
		s.plant(repository, "", gone)
		s.tree.Remove(imagetest.RevisionPath(repository, gone.Digest()))
		links := layersGo(repository, layer(20+i).Digest(), configOf(gone))
		blobs := blobsGo(gone.Digest(), layer(20+i).Digest(), configOf(gone))
		want.goes = slices.Concat(want.goes, links, blobs)
		if repository == "app" {
			app.garbage = slices.Concat(links, blobsGo(layer(20).Digest(), configOf(gone)))
		}
	}
	return want, app
}

type faultyApp struct {
	amd, arm, index, signature, untagged *imagetest.Manifest
	// garbage is the garbage of this repository. It is kept if the repository is in doubt.
	garbage []string
}

// keepsApp is the garbage if the repository "app" is in doubt.
func (o outcome) keepsApp(app *faultyApp, problems ...string) outcome {
	o.goes = slices.DeleteFunc(slices.Clone(o.goes), func(line string) bool { return slices.Contains(app.garbage, line) })
	o.problems, o.exit = problems, 4
	return o
}

// TestFaultsWhileReading: a storage that says "not found" of what it has just listed, or
// "not now", costs a registry's own collection whole repositories. Here the run stops,
// or keeps what it could not read, or asks again; and names it (1, 2).
func TestFaultsWhileReading(t *testing.T) {
	t.Parallel()
	notFound := driver.PathNotFoundError{Path: "on purpose", DriverName: "faulty"}
	stops := func(want outcome, _ *faultyApp) outcome { return outcome{exit: 1, alive: want.alive} }
	for _, test := range []struct {
		name  string
		fault func(app *faultyApp) *fault
		want  func(want outcome, app *faultyApp) outcome
	}{
		{"revisions are not found, once",
			func(*faultyApp) *fault {
				return &fault{on: "List", path: "app/_manifests/revisions", err: notFound, times: 1}
			},
			func(want outcome, _ *faultyApp) outcome { return want }},
		{"revisions are not found",
			func(*faultyApp) *fault { return &fault{on: "List", path: "app/_manifests/revisions", err: notFound} }, stops},
		{"a repository is not found",
			func(*faultyApp) *fault { return &fault{on: "List", path: "repositories/app", err: notFound} }, stops},
		{"one algorithm's revisions are not found",
			func(*faultyApp) *fault {
				return &fault{on: "List", path: "app/_manifests/revisions/sha256", err: notFound}
			}, stops},
		{"tags are not found",
			func(*faultyApp) *fault { return &fault{on: "List", path: "app/_manifests/tags", err: notFound} }, stops},
		{"revisions are neither here nor there",
			func(*faultyApp) *fault { return &fault{on: "Stat", path: "app/_manifests/revisions", err: notFound} },
			func(want outcome, _ *faultyApp) outcome {
				want.problems = []string{problem("stray", "app", "repositories/app/_manifests/revisions")}
				return want
			}},
		{"a revision link is not found",
			func(app *faultyApp) *fault {
				return &fault{on: "Reader", path: imagetest.RevisionPath("app", app.untagged.Digest()), err: notFound}
			},
			func(want outcome, app *faultyApp) outcome {
				return want.keepsApp(app, problem("damaged_link", "app", imagetest.RevisionPath("app", app.untagged.Digest())))
			}},
		{"a tag is not found",
			func(*faultyApp) *fault {
				return &fault{on: "Reader", path: imagetest.TagPath("app", "v1"), err: notFound}
			},
			func(want outcome, app *faultyApp) outcome {
				return want.keepsApp(app, problem("damaged_link", "app", imagetest.TagPath("app", "v1")))
			}},
		{"an index's child is not found",
			func(app *faultyApp) *fault {
				return &fault{on: "Reader", path: imagetest.BlobPath(app.arm.Digest()), err: notFound}
			},
			func(want outcome, app *faultyApp) outcome {
				return want.keepsApp(app, problem("manifest_damaged", "app", imagetest.BlobPath(app.arm.Digest())))
			}},
		{"an index's child is unavailable",
			func(app *faultyApp) *fault {
				return &fault{on: "Reader", path: imagetest.BlobPath(app.arm.Digest()), err: errUnavailable}
			}, stops},
		{"a tag is unavailable",
			func(*faultyApp) *fault {
				return &fault{on: "Reader", path: imagetest.TagPath("app", "v1"), err: errUnavailable}
			}, stops},
		{"a revision link is unavailable",
			func(app *faultyApp) *fault {
				return &fault{on: "Reader", path: imagetest.RevisionPath("app", app.untagged.Digest()), err: errUnavailable}
			}, stops},
		{"a listing is unavailable",
			func(*faultyApp) *fault { return &fault{on: "List", path: "app/_layers", err: errUnavailable} }, stops},
		{"a blob is unavailable",
			func(*faultyApp) *fault {
				return &fault{on: "Stat", path: imagetest.BlobPath(layer(21).Digest()), err: errUnavailable}
			}, stops},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newFixture(t)
			want, app := faulty(s)
			fault := test.fault(app)
			want = test.want(want, app)
			s.must(s.registry.SetReadOnly(true))
			before := s.files()
			run := s.gcOn(s.withFault(fault), "--registry", s.registry.URL())
			if fault.met.Load() == 0 {
				t.Error("the fault was never met")
			}
			s.judgeFault(run, want, before)
		})
	}
}

// judgeFault compares a single run, real as it is, with what is wanted.
func (s *fixture) judgeFault(run gcRun, want outcome, before map[string]int64) {
	s.Helper()
	if want.exit != 1 {
		s.judge("the run", run, want, before)
	} else if run.code != 1 || run.report.Error == "" {
		s.Errorf("ends with %d, %q, want 1 and an error", run.code, run.report.Error)
	}
	s.same("the files after the run", keys(s.files()), keys(without(before, want.goes)))
	s.pull("after the run", s.client, want.alive)
}

// TestFaultsOfS3: a fault that lasts stops the run with what was removed until then, or keeps a
// repository (1). For requests that fail see TestEachRequestToS3Fails.
func TestFaultsOfS3(t *testing.T) {
	t.Parallel()
	reads := func(path func(app *faultyApp) string) func(*faultyApp, *http.Request, string) bool {
		return func(app *faultyApp, r *http.Request, _ string) bool {
			return r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, path(app))
		}
	}
	child := reads(func(app *faultyApp) string { return imagetest.BlobPath(app.arm.Digest()) })
	removal := func(of string) func(*faultyApp, *http.Request, string) bool {
		return func(_ *faultyApp, r *http.Request, body string) bool {
			return r.Method == http.MethodPost && r.URL.Query().Has("delete") && strings.Contains(body, of)
		}
	}
	stops := func(want outcome, _ *faultyApp) outcome { return outcome{exit: 1, alive: want.alive} }
	for _, test := range []struct {
		name   string
		front  *faultyFront
		strike func(*faultyApp, *http.Request, string) bool
		want   func(outcome, *faultyApp) outcome
	}{
		{"an index's child is denied", &faultyFront{status: 403, code: "AccessDenied"}, child, stops},
		{"an index's child is not found", &faultyFront{status: 404, code: "NoSuchKey"}, child,
			func(want outcome, app *faultyApp) outcome {
				return want.keepsApp(app, problem("manifest_damaged", "app", imagetest.BlobPath(app.arm.Digest())))
			}},
		// Links first: what they lead to must not go before them (3, 6).
		{"the removal of links is denied", &faultyFront{status: 403, code: "AccessDenied"}, removal("/_layers/"), stops},
		{"the removal of blobs is denied", &faultyFront{status: 403, code: "AccessDenied"}, removal("/blobs/"),
			func(want outcome, _ *faultyApp) outcome {
				goes := slices.DeleteFunc(slices.Clone(want.goes), func(line string) bool { return strings.HasPrefix(line, "blob ") })
				return outcome{exit: 1, alive: want.alive, goes: goes}
			}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newFixture(t)
			all, app := faulty(s)
			s.moveToBucket()
			s.must(s.registry.SetReadOnly(true))
			before := s.files()
			front := test.front
			front.matches = func(r *http.Request, body string) bool { return test.strike(app, r, body) }
			want := test.want(all, app)
			run := s.gcOn(s.behindFront(front), "--registry", s.registry.URL())
			if front.met.Load() == 0 {
				t.Error("the fault was never met")
			}
			s.judgeFault(run, want, before)
			var removed tallies
			for _, line := range want.goes {
				removed.add(line, before)
			}
			if run.report.Removed != removed {
				t.Errorf("it says that it removed %+v, want %+v", run.report.Removed, removed)
			}

			// Without the fault, the next run ends where this one should have.
			if next := s.gc(); next.code != 0 {
				t.Errorf("the next run ends with %d: %s", next.code, next.report.Error)
			}
			s.same("the files after the next run", keys(s.files()), keys(without(before, all.goes)))
			s.pull("after the next run", s.client, want.alive)
		})
	}
}

// TestWritableRegistryIsRefused: there, whatever is pushed during the run is deleted,
// since nothing asks whether the registry is read-only (4).
func TestWritableRegistryIsRefused(t *testing.T) {
	t.Parallel()
	onEach(t, "writable", func(t *testing.T, on backend) {
		s := newFixture(t)
		goes, sound := s.unrelated()
		s.on(on)
		before := s.files()
		for _, flags := range [][]string{{"-m"}, {"-m", "--yes"}, {"-m", "--registry-stopped"}} {
			run := s.gc(flags...)
			if run.code != 3 || !strings.Contains(run.report.Error, "takes pushes") {
				t.Errorf("%v ends with %d, %q", flags, run.code, run.report.Error)
			}
			if counts := run.report.Removed.counts(); len(counts) > 0 {
				t.Errorf("%v: it says that it removed %v", flags, counts)
			}
			s.same("the files", keys(s.files()), keys(before))
		}
		// Without an address, the one in config.yml is asked.
		if run := s.gcOn(s.config(s.registry.ConfigYAML()), "-m"); run.code != 3 {
			t.Errorf("by config.yml it ends with %d, %q", run.code, run.report.Error)
		}
		// A dry run needs no proof, and says what would go.
		if dry := s.gc("-m", "--dry-run"); dry.code != 0 {
			t.Errorf("the dry run ends with %d, %q", dry.code, dry.report.Error)
		} else {
			s.same("the dry run's plan", dry.lines(), slices.Sorted(slices.Values(goes)))
		}
		s.push("app:new", app(7))
		s.pull("after it all", s.client, []image{sound, pulls("app", "new")})
	})
}

// TestReadOnlyByTheWrongVariable: the variable that people try first does nothing, or
// makes the registry panic, and is not a proof of anything (4).
func TestReadOnlyByTheWrongVariable(t *testing.T) {
	const variable = "REGISTRY_STORAGE_MAINTENANCE_READONLY_ENABLED"
	t.Setenv(variable, "true")
	s := newFixture(t)
	s.unrelated()
	before := s.files()
	config := s.config(s.registry.ConfigYAML())

	run := s.gcOn(config, "-m")
	if run.code != 3 || !strings.Contains(run.report.Error, "takes pushes") {
		t.Errorf("ends with %d, %q", run.code, run.report.Error)
	}
	s.must(s.registry.Stop())
	run = s.gcOn(config, "-m")
	if run.code != 3 {
		t.Errorf("with nothing listening it ends with %d, %q", run.code, run.report.Error)
	}
	if _, verdict, _ := regsweep(s, "check", config, "--json"); !strings.Contains(verdict, "it has no effect: "+variable) {
		t.Errorf("check does not say what became of the variable:\n%s", verdict)
	}
	s.same("the files", keys(s.files()), keys(before))

	if testing.Short() {
		return
	}
	for _, release := range []registrytest.Release{registrytest.Release2, registrytest.Release3} {
		t.Run(string(release), func(t *testing.T) {
			path, err := registrytest.Binary(t.Context(), release)
			if errors.Is(err, registrytest.ErrUnavailable) {
				t.Skipf("there is no registry of this release here: %v", err)
			}
			s.must(err)
			server := registrytest.StartBinaryT(t, path, registrytest.FilesystemConfig(s.tree.Root(), false), variable+"=true")
			run := s.gcOn(s.config(registrytest.FilesystemConfig(s.tree.Root(), false)), "-m", "--registry", server.URL())
			if run.code != 3 || !strings.Contains(run.report.Error, "takes pushes") {
				t.Errorf("ends with %d, %q", run.code, run.report.Error)
			}
			s.same("the files", keys(s.files()), keys(before))
		})
	}
}

// TestARegistryWithACacheInMemoryMustBeRestarted: it answers from there for what is gone, and nobody can
// pull what is then pushed. Without a removal there is nothing to say.
func TestARegistryWithACacheInMemoryMustBeRestarted(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	s.unrelated()
	s.must(s.registry.SetReadOnly(true))
	config := strings.Replace(s.registry.ConfigYAML(), "storage:\n", "storage:\n  cache:\n    blobdescriptor: inmemory\n", 1)
	for _, test := range []struct {
		flag    string
		removes bool
	}{{"--dry-run", false}, {"--yes", true}, {"--yes", false}} {
		run := s.gcOn(s.config(config), "-m", test.flag, "--registry", s.registry.URL())
		if run.code != 0 || strings.Contains(run.stderr, "restart it") != test.removes || run.report.Descriptors.Stale != test.removes {
			t.Errorf("%s ends with %d, %+v\n%s", test.flag, run.code, run.report.Descriptors, run.stderr)
		}
	}
}
