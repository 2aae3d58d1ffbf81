package sweep_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// generator makes up registries: what years of pushes, deletions and crashes leave
// behind and, where it is told to, damage.
type generator struct {
	*rand.Rand
	*disk
	repositories []string
	layers       []made            // shared by all repositories
	pushed       map[string][]made // manifests, by repository
	everything   []made            // manifests of all repositories
	texts        int
}

// made is content that a manifest can refer to.
type made struct {
	mediaType, digest string
	size              int
}

func (m made) descriptor() map[string]any { return descriptor(m.mediaType, m.digest, m.size) }

const (
	ociImage    = "application/vnd.oci.image.manifest.v1+json"
	ociIndex    = "application/vnd.oci.image.index.v1+json"
	dockerImage = "application/vnd.docker.distribution.manifest.v2+json"
	dockerList  = "application/vnd.docker.distribution.manifest.list.v2+json"
	layerType   = "application/vnd.oci.image.layer.v1.tar+gzip"
	configType  = "application/vnd.oci.image.config.v1+json"
)

// generate makes the registry of a seed.
func generate(seed uint64, damage, young bool) *disk {
	g := &generator{
		Rand: rand.New(rand.NewPCG(seed, 1)), disk: newDisk(), pushed: map[string][]made{},
	}
	names := []string{"app", "app/web", "app/web/deep", "lib", "team/one", "team/two", "z.y-x_1"}
	g.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	g.repositories = names[:1+g.IntN(4)]
	for range 3 + g.IntN(4) {
		content := g.text("shared layer")
		g.layers = append(g.layers, made{layerType, g.blob(content), len(content)})
	}
	for _, repository := range g.repositories {
		for range g.IntN(5) {
			g.tagSometimes(repository, g.push(repository, 3))
		}
	}
	for range g.IntN(8) {
		g.noise()
	}
	if damage {
		for range 1 + g.IntN(3) {
			g.damage()
		}
	}
	if young {
		for _, path := range g.names() {
			if g.chance(5) {
				g.files[path] = file{g.files[path].content, time.Duration(1+g.IntN(12)) * time.Hour}
			}
		}
	}
	return g.disk
}

// chance is true in so many of a hundred cases.
func (g *generator) chance(percent int) bool { return g.IntN(100) < percent }

func pick[T any](g *generator, from []T) T { return from[g.IntN(len(from))] }

func (g *generator) text(what string) string {
	g.texts++
	return fmt.Sprintf("%s %d %s", what, g.texts, strings.Repeat("x", g.IntN(40)))
}

func (g *generator) repository() string { return pick(g, g.repositories) }

// push stores some kind of manifest with what it needs.
func (g *generator) push(repository string, depth int) made {
	switch n := g.IntN(100); {
	case n < 35:
		return g.image(repository, nil)
	case n < 55 && depth > 0:
		return g.index(repository, depth)
	case n < 65:
		return g.buildKit(repository)
	case n < 80:
		return g.referrer(repository)
	case n < 85:
		return g.schema1(repository)
	case n < 88:
		return g.unknown(repository)
	case len(g.everything) > 0:
		return g.again(repository, pick(g, g.everything))
	}
	return g.image(repository, nil)
}

// blobIn stores a blob for a repository, under sha512 now and then.
func (g *generator) blobIn(repository, mediaType, what string) made {
	if mediaType == layerType && g.chance(50) {
		shared := pick(g, g.layers)
		g.layer(repository, shared.digest)
		return shared
	}
	content := g.text(what)
	stored := g.blob(content)
	if mediaType == layerType && g.chance(15) {
		alias := sha512Of(content)
		g.write(layerFile(repository, alias), stored)
		if g.chance(50) {
			g.layer(repository, stored)
		}
		return made{mediaType, alias, len(content)}
	}
	g.layer(repository, stored)
	return made{mediaType, stored, len(content)}
}

func (g *generator) manifest(repository, mediaType string, m map[string]any) made {
	content := json1(m)
	result := made{mediaType, g.blob(content), len(content)}
	g.revision(repository, result.digest)
	g.pushed[repository] = append(g.pushed[repository], result)
	g.everything = append(g.everything, result)
	return result
}

func (g *generator) image(repository string, more map[string]any) made {
	mediaType := pick(g, []string{ociImage, dockerImage})
	layers := []any{}
	for range g.IntN(4) {
		layers = append(layers, g.blobIn(repository, layerType, "layer").descriptor())
	}
	if g.chance(10) {
		foreign := descriptor("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", sha256Of(g.text("elsewhere")), 7)
		foreign["urls"] = []string{"https://example.com/layer"}
		layers = append(layers, foreign)
	}
	m := map[string]any{"schemaVersion": 2, "config": g.blobIn(repository, configType, "config").descriptor(), "layers": layers}
	if mediaType == dockerImage || g.chance(70) {
		m["mediaType"] = mediaType
	}
	maps.Copy(m, more)
	return g.manifest(repository, mediaType, m)
}

func (g *generator) index(repository string, depth int) made {
	entries := []any{}
	for range g.IntN(4) {
		switch g.IntN(10) {
		case 0: // sparse: an entry that was never pushed
			entries = append(entries, descriptor(ociImage, sha256Of(g.text("never pushed")), 100))
		case 1: // a plain blob
			entries = append(entries, g.blobIn(repository, layerType, "blob").descriptor())
		case 2: // a manifest whose revision link was lost
			child := g.image(repository, nil)
			delete(g.files, revisionFile(repository, child.digest))
			entries = append(entries, child.descriptor())
		case 3, 4:
			child := g.push(repository, depth-1)
			if g.chance(20) { // and its revision link was lost
				delete(g.files, revisionFile(repository, child.digest))
			}
			entries = append(entries, child.descriptor())
		case 5: // one that only reads like a manifest, and so does its own entry
			entries = append(entries, g.untyped(repository, g.untyped(repository, g.image(repository, nil).descriptor())))
		default:
			entries = append(entries, g.image(repository, nil).descriptor())
		}
	}
	for _, entry := range entries {
		if entry := entry.(map[string]any); entry["mediaType"] != layerType && g.chance(15) { // it does not say what it is
			delete(entry, "mediaType")
		}
	}
	mediaType := pick(g, []string{ociIndex, dockerList})
	m := map[string]any{"schemaVersion": 2, "manifests": entries}
	if g.chance(70) {
		m["mediaType"] = mediaType
	}
	return g.manifest(repository, mediaType, m)
}

// untyped is an index of one entry, which does not say what it is and has lost its revision link.
func (g *generator) untyped(repository string, entry map[string]any) map[string]any {
	delete(entry, "mediaType")
	delete(g.files, revisionFile(repository, entry["digest"].(string)))
	return g.manifest(repository, ociIndex, map[string]any{"schemaVersion": 2, "mediaType": ociIndex, "manifests": []any{entry}}).descriptor()
}

func (g *generator) buildKit(repository string) made {
	entries := []any{}
	for range g.IntN(3) {
		entries = append(entries, g.blobIn(repository, layerType, "cached layer").descriptor())
	}
	entries = append(entries, g.blobIn(repository, "application/vnd.buildkit.cacheconfig.v0", "cache config").descriptor())
	return g.manifest(repository, ociIndex, map[string]any{"schemaVersion": 2, "mediaType": ociIndex, "manifests": entries})
}

// referrer attaches something to a manifest of this repository, of another one, or
// to none that exists.
func (g *generator) referrer(repository string) made {
	subject := made{ociImage, sha256Of(g.text("no subject")), 9}
	switch {
	case len(g.pushed[repository]) > 0 && g.chance(80):
		subject = pick(g, g.pushed[repository])
	case len(g.everything) > 0 && g.chance(50):
		subject = pick(g, g.everything)
	}
	attached := map[string]any{"subject": subject.descriptor(), "mediaType": ociImage}
	if g.chance(20) {
		attached["mediaType"], attached["manifests"] = ociIndex, []any{}
		return g.manifest(repository, ociIndex, attached)
	}
	return g.image(repository, attached)
}

func (g *generator) schema1(repository string) made {
	layers := []any{}
	for range 1 + g.IntN(2) {
		layers = append(layers, map[string]any{"blobSum": g.blobIn(repository, layerType, "v1 layer").digest})
	}
	m := g.manifest(repository, "application/vnd.docker.distribution.manifest.v1+prettyjws", map[string]any{
		"schemaVersion": 1, "name": repository, "fsLayers": layers,
		"history": []any{map[string]any{"v1Compatibility": "{}"}},
	})
	for range g.IntN(3) {
		signature := g.blob(g.text("signature"))
		g.write(signatureFile(repository, m.digest, signature), signature)
	}
	return m
}

// unknown is of a type of the future: digests are all over it.
func (g *generator) unknown(repository string) made {
	m := map[string]any{
		"mediaType": "application/vnd.example.future+json",
		"blobs":     []any{g.blobIn(repository, layerType, "blob").digest},
		"text":      "see " + g.blobIn(repository, layerType, "blob").digest + " for more",
		"by name":   map[string]any{g.blobIn(repository, layerType, "blob").digest: 1},
	}
	if len(g.pushed[repository]) > 0 && g.chance(50) {
		m["subject"] = pick(g, g.pushed[repository]).descriptor()
	}
	return g.manifest(repository, "application/vnd.example.future+json", m)
}

// again pushes to this repository a manifest of any repository. Its blobs are
// mounted, but for the cases where a client stopped half way.
func (g *generator) again(repository string, m made) made {
	for _, digest := range digestsIn(g.files[blobFile(m.digest)].content) {
		if g.chance(90) {
			g.layer(repository, digest)
		}
	}
	g.revision(repository, m.digest)
	g.pushed[repository] = append(g.pushed[repository], m)
	return m
}

// tagSometimes tags, moving a tag that points elsewhere already.
func (g *generator) tagSometimes(repository string, m made) {
	if g.chance(65) {
		g.tag(repository, pick(g, []string{"latest", "v1", "index", "current"}), m.digest)
	}
}

// noise is what a registry in order has too.
func (g *generator) noise() {
	repository := g.repository()
	switch g.IntN(16) {
	case 0:
		g.blob(g.text("unreferenced"))
	case 1:
		g.layer(repository, g.blob(g.text("unreferenced, linked")))
	case 2:
		g.layer(repository, sha256Of(g.text("a blob that is gone")))
	case 3:
		gone := sha256Of(g.text("a manifest that is gone"))
		g.revision(repository, gone)
	case 4, 5:
		g.upload(repository, fmt.Sprintf("upload-%d", g.IntN(1000)), time.Duration(g.IntN(14*24))*time.Hour, "half a layer")
	case 6: // undated
		g.write("repositories/"+repository+"/_uploads/undated/data", "half a layer")
	case 7: // deleted through the API
		if revisions := g.revisions(); len(revisions) > 0 {
			gone := pick(g, revisions)
			delete(g.files, gone)
			g.dirs[strings.TrimSuffix(gone, "/link")] = true
		}
	case 8:
		g.write(pick(g, []string{
			"blobs/stray", "blobs/sha256/stray", "repositories/stray", "repositories/" + repository + "/stray",
			"repositories/" + repository + "/_layers/sha256/stray", "repositories/" + repository + "/_manifests/stray",
			"blobs/sha512/ab/" + strings.Repeat("ab", 64) + "/data", "blobs/md5/aa/aa/data",
		}), "a stray")
	case 9: // an empty repository
		g.dirs["repositories/"+pick(g, []string{"void", "app/void", repository})+"/"+pick(g, []string{"_layers", "_uploads", "_manifests/tags"})] = true
	case 10: // what an interruption left
		g.dirs[strings.TrimSuffix(layerFile(repository, sha256Of(g.text("gone"))), "/link")] = true
	case 11:
		g.dirs[strings.TrimSuffix(blobFile(sha256Of(g.text("gone"))), "/data")] = true
	case 12: // a tag once pointed at a manifest that was deleted
		if tags := g.matching(repository + "/_manifests/tags/"); len(tags) > 0 {
			tag, _, _ := strings.Cut(pick(g, tags), "/current/")
			tag, _, _ = strings.Cut(tag, "/index/")
			gone := sha256Of(g.text("deleted"))
			g.write(tag+"/index/"+slashed(gone)+"/link", gone)
		}
	case 14: // a referrer's link, or one that a deletion left
		if revisions := g.matching("repositories/" + repository + "/_manifests/revisions/sha256/"); len(revisions) > 0 {
			digestOf := func(path string) string {
				return "sha256:" + strings.Split(strings.SplitAfter(path, "/revisions/sha256/")[1], "/")[0]
			}
			subject, referrer := digestOf(pick(g, revisions)), digestOf(pick(g, revisions))
			if g.chance(30) {
				referrer = sha256Of(g.text("a deleted referrer"))
			}
			if g.chance(20) {
				subject = sha256Of(g.text("a deleted subject"))
			}
			g.write(pick(g, []string{
				"repositories/" + repository + "/_refs/subjects/" + slashed(subject) + "/" + slashed(referrer) + "/link",
				"repositories/" + repository + "/_manifests/revisions/" + slashed(subject) + "/_referrers/_application%2Fx/" + slashed(referrer) + "/link",
			}), referrer)
		}
	case 15: // a signature that a deletion left
		signature := g.blob(g.text("signature"))
		g.write(signatureFile(repository, sha256Of(g.text("a deleted manifest")), signature), signature)
	case 13: // a layer link of another algorithm that nothing names
		g.write(layerFile(repository, sha512Of(g.text("other"))), g.blob(g.text("other")))
	}
}

// matching are the files with part in their path.
func (g *generator) matching(part string) []string {
	return slices.DeleteFunc(g.names(), func(path string) bool { return !strings.Contains(path, part) })
}

// revisions are the revision links of all repositories.
func (g *generator) revisions() []string {
	return slices.DeleteFunc(g.matching("/_manifests/revisions/"), func(path string) bool {
		return strings.Contains(path, "/signatures/") || strings.Contains(path, "/_referrers/")
	})
}

// damage spoils one thing.
func (g *generator) damage() {
	repository := g.repository()
	links := slices.DeleteFunc(g.matching("/link"), func(path string) bool { return !strings.HasPrefix(path, "repositories/") })
	switch g.IntN(13) {
	case 0, 1, 2: // a link
		if len(links) > 0 {
			path := pick(g, links)
			good := g.files[path].content
			g.write(path, pick(g, []string{
				"", good + "\n", " " + good, "garbage", good[:max(0, len(good)-1)], strings.ToUpper(good), "sha256:", "md5:d41d8cd98f00b204e9800998ecf8427e",
				sha256Of("what is not there"), pick(g, g.layers).digest,
			}))
		}
	case 3, 4: // a blob
		if blobs := g.matching("blobs/sha256/"); len(blobs) > 0 {
			path := pick(g, blobs)
			switch g.IntN(4) {
			case 0:
				g.write(path, "")
			case 1:
				g.write(path, g.files[path].content+" ")
			case 2:
				delete(g.files, path)
			case 3: // its directory stays
				delete(g.files, path)
				g.dirs[strings.TrimSuffix(path, "/data")] = true
			}
		}
	case 5: // a tag's current link
		if tags := g.matching("/current/link"); len(tags) > 0 {
			delete(g.files, pick(g, tags))
		}
	case 6: // a revision link, of what a tag points at as likely as not
		if revisions := g.revisions(); len(revisions) > 0 {
			delete(g.files, pick(g, revisions))
		}
	case 7: // a manifest that is what its digest says and makes no sense
		content := pick(g, []string{
			"{", "[]", `"text"`, "null", `{"mediaType":1}`, `{"mediaType":"` + ociImage + `","config":"sha256"}`,
			`{"schemaVersion":2,"config":{"digest":"sha256:short"},"layers":[]}`, `{"manifests":{}}`,
			`{"mediaType":"` + ociIndex + `","manifests":[null]}`, `{"mediaType":"` + ociImage + `","subject":{}}`,
			`{"schemaVersion":1,"fsLayers":[{"blobSum":""}]}`, "{}",
		})
		m := made{ociImage, g.blob(content), len(content)}
		g.revision(repository, m.digest)
		g.tagSometimes(repository, m)
	case 8:
		bad := pick(g, []string{"Foo", "app/Bad", "a..b", "-x", "_trash", "app/_old", "lib/_old/one"})
		g.repositories = append(g.repositories, bad)
		g.tagSometimes(bad, g.push(bad, 2))
		g.upload(bad, "upload", old, "half a layer")
		g.repositories = g.repositories[:len(g.repositories)-1]
	case 9: // links whose path is of an algorithm that nobody knows
		target := g.blob(g.text("linked in a strange way"))
		g.write("repositories/"+repository+"/_layers/blake3/00ff/link", target)
		if g.chance(30) {
			g.write("repositories/"+repository+"/_layers/blake3/00fe/link", "blake3:00fe")
		}
	case 10: // such links to manifests
		strange := "repositories/" + repository + "/_manifests/" + pick(g, []string{"revisions/blake3/00ff/link", "revisions/sha256/00ff/link", "tags/v1/link", "revisions/link"})
		g.write(strange, "blake3:00ff")
		if len(g.everything) > 0 && g.chance(60) {
			g.write(strange, pick(g, g.everything).digest)
		}
	case 11: // a signature where none belongs
		if revisions := g.revisions(); len(revisions) > 0 {
			signature := g.blob(g.text("signature"))
			g.write(strings.TrimSuffix(pick(g, revisions), "link")+"signatures/"+slashed(signature)+"/link", signature)
		}
	case 12: // a client that stopped between the files of an upload
		dir := "repositories/" + repository + "/_uploads/halved/"
		g.files[dir+"startedat"] = file{now.Add(-old).Format(time.RFC3339), old}
		g.files[dir+"zzz"] = file{"sorts behind startedat", time.Hour}
	}
}
