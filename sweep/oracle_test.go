package sweep_test

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// The oracle says what has to go, straight from the rules of docs/DESIGN.md. It is
// written for being read: recursive functions over maps of strings, no thought of
// speed, and no code shared with what it judges.

// rules are the options of a run.
type rules struct {
	deleteUntagged, pruneEmpty bool
	deleteUnlinkedChildren     bool
	minAge, uploadAge          time.Duration
	refuseEmpty                bool            // a registry without tags
	roots                      []string        // lines of a list of what is alive
	onlyRoots                  bool            // and nothing else is
	only                       map[string]bool // the paths of the removals that were selected, nil for all
	maxBytes                   int64           // 0 without a limit; the oracle does not know it
	untag                      map[string]bool // repository:tag that a policy removes, nil without a policy
}

func (r rules) selects(path string) bool { return r.only == nil || r.only[path] }

// repo is one repository, as its files say.
type repo struct {
	name       string
	revisions  map[string]file
	layers     map[string]file
	signatures map[string][]string // by the revision that they sign
	referrers  map[string][]string // the paths of their links, by the referrer
	current    map[string]file     // by tag
	index      map[string][]string // by tag
	uploads    map[string][]string // files by upload
	strays     int
	pinned     []string        // what links name whose path is not understood
	doubted    bool            // one of them lies below _manifests, and may lead to manifests
	suspects   []string        // what those name, and what revision links name beside their path
	emptyLinks map[string]bool // digests of layer links whose directory is there without the link
	kept       bool            // damage keeps all of it, as alive has found
}

type oracle struct {
	*disk
	rules
	repos    map[string]*repo
	readings map[string]reading
	follows  map[string]map[string]string // the result of following
}

func newOracle(d *disk, r rules) *oracle {
	o := &oracle{disk: d, rules: r, repos: map[string]*repo{}, readings: map[string]reading{}, follows: map[string]map[string]string{}}
	for path := range d.files {
		o.sort(path)
	}
	for path := range d.dirs {
		o.sortEmpty(path)
	}
	return o
}

var (
	wholeDigest  = regexp.MustCompile(`^(sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128})$`)
	anyDigest    = regexp.MustCompile(`sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}`)
	digestPath   = `((?:sha256/[0-9a-f]{64})|(?:sha384/[0-9a-f]{96})|(?:sha512/[0-9a-f]{128}))`
	layerPath    = regexp.MustCompile(`^_layers/` + digestPath + `/link$`)
	revisionPath = regexp.MustCompile(`^_manifests/revisions/` + digestPath + `/link$`)
	referrerPath = regexp.MustCompile(`^_manifests/revisions/` + digestPath + `/_referrers/_[^/]*/` + digestPath + `/link$`)
	refsPath     = regexp.MustCompile(`^_refs/subjects/` + digestPath + `/` + digestPath + `/link$`)
	signPath     = regexp.MustCompile(`^_manifests/revisions/` + digestPath + `/signatures/` + digestPath + `/link$`)
	currentPath  = regexp.MustCompile(`^_manifests/tags/([^/]+)/current/link$`)
	indexPath    = regexp.MustCompile(`^_manifests/tags/([^/]+)/index/` + digestPath + `/link$`)
	uploadPath   = regexp.MustCompile(`^_uploads/([^/]+)/.+$`)
	repoPath     = regexp.MustCompile(`^repositories/([^/].*?/)((?:_layers|_manifests|_uploads|_refs)(?:/.*)?)$`)
	blobPath     = regexp.MustCompile(`^blobs/sha256/([0-9a-f]{2})/([0-9a-f]{64})/data$`)
	goodName     = regexp.MustCompile(`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$`)
)

const ociArtifact = "application/vnd.oci.artifact.manifest.v1+json"

func digestsIn(text string) []string { return anyDigest.FindAllString(text, -1) }

func coloned(path string) string { return strings.Replace(path, "/", ":", 1) }

// judge returns the paths of the removals, by kind, and of all files that they take.
func judge(d *disk, r rules) (removals map[string][]string, gone map[string]bool) {
	o := newOracle(d, r)
	removals = map[string][]string{}
	gone = map[string]bool{}
	remove := func(kind, path string, files ...string) {
		removals[kind] = append(removals[kind], path)
		for _, file := range files {
			gone[file] = true
		}
	}
	aliveAnywhere := map[string]bool{}
	linked := map[string]bool{} // by a link that would go if it were selected
	for _, line := range r.roots {
		o.reachUnlinked(line, aliveAnywhere)
	}
	for _, r := range o.repos {
		alive, dangling := o.alive(r)
		for digest := range alive {
			aliveAnywhere[digest] = true
		}
		goes := func(revision string) bool {
			return !alive[revision] && (o.mayGo(r, revision) || !dangling[revision])
		}
		left := len(r.current) + len(r.index) + r.strays
		deadTags := map[string]bool{}
		for tag := range r.tags() {
			to, good := target(r.current[tag])
			isDead := good && o.tagMayGo(r, tag) && !alive[to] || o.untags(r, tag)
			if subject := o.subjectOf(r, tag); subject != "" {
				isDead = !alive[subject]
			}
			if !isDead || r.kept {
				continue
			}
			deadTags[tag] = true
			if _, found := r.current[tag]; found {
				remove("tag", tagFile(r.name, tag), tagFile(r.name, tag))
				left--
			}
			if len(r.index[tag]) > 0 {
				left--
			}
		}
		for tag, entries := range r.index {
			for _, entry := range entries {
				path := indexFile(r.name, tag, entry)
				_, hasRevision := r.revisions[entry]
				switch {
				case deadTags[tag]:
					kind := "tag_index_entry"
					if own, _ := target(r.current[tag]); o.untag != nil && entry != own && own != "" {
						kind = "earlier_entry"
					}
					remove(kind, path, path)
				case hasRevision && !goes(entry) || !hasRevision && alive[entry]:
				case o.selects(path):
					remove("tag_index_entry", path, path)
				default:
					linked[entry] = true
				}
			}
		}
		for revision := range r.revisions {
			if !goes(revision) {
				left++
				continue
			}
			path := revisionFile(r.name, revision)
			remove("revision", path, path)
			for _, signature := range r.signatures[revision] {
				gone[signatureFile(r.name, revision, signature)] = true
			}
			for _, path := range r.referrers[revision] {
				gone[path] = true
			}
		}
		// What a deletion leaves of a manifest is removed unless the manifest is alive.
		orphan := func(of, path, leadsTo string) {
			switch _, found := r.revisions[of]; {
			case found:
			case alive[of]:
				left++
			case !o.selects(path):
				left++
				linked[leadsTo] = true
			default:
				remove("orphan_link", path, path)
			}
		}
		for of, signatures := range r.signatures {
			for _, signature := range signatures {
				orphan(of, signatureFile(r.name, of, signature), signature)
			}
		}
		for of, paths := range r.referrers {
			for _, path := range paths {
				orphan(of, path, of)
			}
		}
		for layer := range r.layers {
			if alive[layer] {
				left++
				continue
			}
			path := layerFile(r.name, layer)
			if !o.selects(path) {
				left++
				for _, digest := range append(r.aliases(layer), layer) {
					linked[digest] = true
				}
				continue
			}
			remove("layer_link", path, path)
		}
		for digest := range r.emptyLinks {
			if alive[digest] {
				left++
			}
		}
		for upload, files := range r.uploads {
			path := "repositories/" + r.name + "/_uploads/" + upload
			if o.uploadAgeOf(r, upload) < o.uploadAge || !goodName.MatchString(r.name) || !o.selects(path) {
				left++
				continue
			}
			remove("upload", path, files...)
		}
		if o.pruneEmpty && left == 0 && goodName.MatchString(r.name) && o.selects("repositories/"+r.name) {
			remove("repository", "repositories/"+r.name)
		}
	}
	for path, f := range d.files {
		if digest, ok := storedBlob(path); ok && !aliveAnywhere[digest] && !linked[digest] && o.selects(path) && (o.minAge == 0 || f.age >= o.minAge) {
			remove("blob", path, path)
		}
	}
	return removals, gone
}

func storedBlob(path string) (digest string, ok bool) {
	m := blobPath.FindStringSubmatch(path)
	if m == nil || !strings.HasPrefix(m[2], m[1]) {
		return "", false
	}
	return "sha256:" + m[2], true
}

// repoOf finds the repository that a path lies in, and the path within it.
func (o *oracle) repoOf(path string) (r *repo, below string) {
	m := repoPath.FindStringSubmatch(path)
	if m == nil {
		return nil, ""
	}
	name := strings.TrimSuffix(m[1], "/")
	if o.repos[name] == nil {
		o.repos[name] = &repo{
			name: name, revisions: map[string]file{}, layers: map[string]file{}, signatures: map[string][]string{}, referrers: map[string][]string{},
			current: map[string]file{}, index: map[string][]string{}, uploads: map[string][]string{}, emptyLinks: map[string]bool{},
		}
	}
	return o.repos[name], m[2]
}

// sort puts a file where it belongs.
func (o *oracle) sort(path string) {
	r, below := o.repoOf(path)
	if r == nil {
		return
	}
	f := o.files[path]
	if m := layerPath.FindStringSubmatch(below); m != nil {
		r.layers[coloned(m[1])] = f
	} else if m := revisionPath.FindStringSubmatch(below); m != nil {
		r.revisions[coloned(m[1])] = f
		if other, _ := target(f); other != "" && other != coloned(m[1]) {
			r.pinned = append(r.pinned, other)
			r.suspects = append(r.suspects, other)
		}
	} else if m := signPath.FindStringSubmatch(below); m != nil {
		r.signatures[coloned(m[1])] = append(r.signatures[coloned(m[1])], coloned(m[2]))
	} else if m := referrerPath.FindStringSubmatch(below); m != nil {
		r.referrers[coloned(m[2])] = append(r.referrers[coloned(m[2])], path)
	} else if m := refsPath.FindStringSubmatch(below); m != nil {
		r.referrers[coloned(m[2])] = append(r.referrers[coloned(m[2])], path)
	} else if m := currentPath.FindStringSubmatch(below); m != nil {
		r.current[m[1]] = f
	} else if m := indexPath.FindStringSubmatch(below); m != nil {
		r.index[m[1]] = append(r.index[m[1]], coloned(m[2]))
	} else if m := uploadPath.FindStringSubmatch(below); m != nil {
		r.uploads[m[1]] = append(r.uploads[m[1]], path)
	} else {
		r.strays++
		if strings.HasSuffix(below, "/link") {
			r.doubted = r.doubted || strings.HasPrefix(below, "_manifests/")
			if digest, _ := target(f); digest != "" {
				r.pinned = append(r.pinned, digest)
				if strings.HasPrefix(below, "_manifests/") {
					r.suspects = append(r.suspects, digest)
				}
			}
		}
	}
}

// sortEmpty notes an empty directory: a repository may consist of one, and a layer
// link may have left one.
func (o *oracle) sortEmpty(path string) {
	r, below := o.repoOf(path)
	if r == nil {
		return
	}
	if m := layerPath.FindStringSubmatch(below + "/link"); m != nil && strings.HasPrefix(m[1], "sha256") {
		r.emptyLinks[coloned(m[1])] = true
	}
}

func (o *oracle) uploadAgeOf(r *repo, upload string) time.Duration {
	dir := "repositories/" + r.name + "/_uploads/" + upload + "/"
	if started, err := time.Parse(time.RFC3339, o.files[dir+"startedat"].content); err == nil {
		return now.Sub(started)
	}
	youngest := 1000 * old
	for _, path := range r.uploads[upload] {
		youngest = min(youngest, o.files[path].age)
	}
	return youngest
}

// --- what links say

// target is the digest that a link names, and whether a registry would accept it.
func target(f file) (digest string, good bool) {
	trimmed := strings.TrimSpace(f.content)
	if !wholeDigest.MatchString(trimmed) {
		return "", false
	}
	return trimmed, trimmed == f.content
}

// tagMayGo reports whether a tag is no root: a list says what is, and the tag and its whole
// index are selected. One without a target is damage.
func (o *oracle) tagMayGo(r *repo, tag string) bool {
	for _, entry := range r.index[tag] {
		if !o.selects(indexFile(r.name, tag, entry)) {
			return false
		}
	}
	to, _ := target(r.current[tag])
	return o.onlyRoots && to != "" && o.selects(tagFile(r.name, tag))
}

// listed are the manifests that a list names in a repository, and the content.
func (o *oracle) listed(r *repo) (manifests, content []string) {
	for _, line := range o.roots {
		m, c := o.listedBy(line, r)
		manifests, content = append(manifests, m...), append(content, c...)
	}
	return manifests, content
}

func (o *oracle) listedBy(line string, r *repo) (manifests, content []string) {
	name, digest, hasDigest := strings.Cut(line, "@")
	if wholeDigest.MatchString(line) {
		name, digest, hasDigest = r.name, line, true
	}
	if !hasDigest {
		at := strings.LastIndex(line, ":")
		if tag := line[at+1:]; line[:at] == r.name || strings.HasSuffix(line[:at], ".example:5000/"+r.name) {
			return o.targets(r, tag), nil
		}
		return nil, nil
	}
	if name != r.name && !strings.HasSuffix(name, ".example:5000/"+r.name) {
		return nil, nil
	}
	_, isManifest := r.revisions[digest]
	for tag := range r.current {
		isManifest = isManifest || slices.Contains(o.targets(r, tag), digest)
	}
	for tag := range r.index {
		isManifest = isManifest || slices.Contains(o.targets(r, tag), digest)
	}
	if isManifest {
		manifests = append(manifests, digest)
	}
	if _, isLayer := r.layers[digest]; isLayer || r.emptyLinks[digest] {
		content = append(content, digest)
	}
	return manifests, content
}

// targets are what a tag keeps if it is a root.
func (o *oracle) targets(r *repo, tag string) []string {
	if f, found := r.current[tag]; found {
		if digest, _ := target(f); digest != "" {
			return []string{digest}
		}
	}
	return r.index[tag]
}

// reachUnlinked adds what a line names if no repository has it as a manifest.
func (o *oracle) reachUnlinked(line string, alive map[string]bool) {
	for _, r := range o.repos {
		if manifests, _ := o.listedBy(line, r); len(manifests) > 0 {
			return
		}
	}
	_, digest, found := strings.Cut(line, "@")
	if !found {
		digest = line
	}
	var reach func(digest string)
	reach = func(digest string) {
		if alive[digest] {
			return
		}
		alive[digest] = true
		if o.read(digest).state == "intact" {
			for _, to := range o.read(digest).refs {
				reach(to)
			}
		}
	}
	if wholeDigest.MatchString(digest) {
		reach(digest)
	}
}

// tagRoots is what the tags keep.
func (o *oracle) tagRoots(r *repo) []string {
	var roots []string
	for tag := range r.tags() {
		if !o.tagMayGo(r, tag) && !o.untags(r, tag) && o.subjectOf(r, tag) == "" {
			roots = append(roots, o.targets(r, tag)...)
		}
	}
	return roots
}

// tags are the names of the tags that have any file.
func (r *repo) tags() map[string]bool {
	tags := map[string]bool{}
	for tag := range r.current {
		tags[tag] = true
	}
	for tag := range r.index {
		tags[tag] = true
	}
	return tags
}

// untags reports whether a policy removes a tag. One without a target is damage.
func (o *oracle) untags(r *repo, tag string) bool {
	to, _ := target(r.current[tag])
	return to != "" && o.untag[r.name+":"+tag] && o.isWholeSelected(r, tag)
}

// isWholeSelected reports whether a tag and all entries of its index are selected.
func (o *oracle) isWholeSelected(r *repo, tag string) bool {
	for _, entry := range r.index[tag] {
		if !o.selects(indexFile(r.name, tag, entry)) {
			return false
		}
	}
	return o.selects(tagFile(r.name, tag))
}

// subjectOf is the manifest whose life a tag shares when a policy removes tags, or "gone".
func (o *oracle) subjectOf(r *repo, tag string) string {
	if o.untag == nil || !o.isWholeSelected(r, tag) {
		return ""
	}
	return o.following(r)[tag]
}

// following are the tags of a repository that share the life of the manifest in their name. They are those whose
// subject something else leads to, be it another such tag. A tag whose subject is gone is one only in what
// an interrupted run leaves, or if a reviewed plan removes it.
func (o *oracle) following(r *repo) map[string]string {
	if f, found := o.follows[r.name]; found {
		return f
	}
	f := map[string]string{}
	o.follows[r.name] = f
	plain := *o
	plain.untag = nil
	open, leads := map[string]map[string]bool{}, map[string]bool{}
	var roots []string
	for tag := range r.tags() {
		own, _ := target(r.current[tag])
		kept := plain.reached(r, []string{own}, true)
		if subject := inName(tag); subject == "" || own == "" || kept[subject] {
			roots = append(roots, o.targets(r, tag)...)
			continue
		}
		open[tag] = kept
		maps.Copy(leads, kept)
	}
	for revision := range r.revisions {
		if !leads[revision] && o.read(revision).state != "missing" {
			roots = append(roots, revision)
		}
	}
	known := plain.reached(r, roots, true)
	for n := -1; n != len(open); {
		n = len(open)
		for tag := range open {
			subject := inName(tag)
			switch {
			case known[subject]:
				f[tag] = subject
			case leads[subject]:
				continue
			case o.isGone(r, tag):
				f[tag] = "gone"
			}
			maps.Copy(known, open[tag])
			delete(open, tag)
		}
	}
	for tag := range open { // in a circle
		own, _ := target(r.current[tag])
		_, hasOwn := r.revisions[own]
		_, isHere := r.revisions[inName(tag)]
		_, isStored := o.files[blobFile(inName(tag))]
		if !hasOwn && !isHere && isStored && !slices.Contains(r.index[tag], own) {
			f[tag] = "gone"
		}
	}
	return f
}

// isGone reports whether a tag goes because no manifest in its repository has its name.
func (o *oracle) isGone(r *repo, tag string) bool {
	own, _ := target(r.current[tag])
	isElsewhere := false
	for _, other := range o.repos {
		_, has := other.revisions[inName(tag)]
		isElsewhere = isElsewhere || has
		for _, f := range other.current {
			to, _ := target(f)
			isElsewhere = isElsewhere || to == inName(tag)
		}
	}
	_, isHere := r.revisions[inName(tag)]
	_, hasOwn := r.revisions[own]
	_, isStored := o.files[blobFile(inName(tag))]
	isCut := !slices.Contains(r.index[tag], own) && !isHere && isStored
	return isCut && !hasOwn || !isElsewhere && (isCut || o.only != nil)
}

// inName is the digest in the name of a tag for referrers.
func inName(tag string) string {
	if m := followerName.FindStringSubmatch(tag); m != nil {
		return "sha256:" + m[1]
	}
	return ""
}

// earlier are the manifests that a tag pointed at before, as far as a registry serves them.
func (r *repo) earlier(tag string) (earlier []string) {
	own, _ := target(r.current[tag])
	for _, entry := range r.index[tag] {
		if _, has := r.revisions[entry]; has && entry != own {
			earlier = append(earlier, entry)
		}
	}
	return earlier
}

var followerName = regexp.MustCompile(`^sha256-([0-9a-f]{64})(\.sig|\.att|\.sbom)?$`)

// alias is what a link keeps besides what its path says. The content of a sha256
// layer link can't matter: no client takes other content for a digest.
func (r *repo) aliases(digest string) []string {
	var others []string
	if f, found := r.layers[digest]; found && !strings.HasPrefix(digest, "sha256:") {
		if to, _ := target(f); to != "" {
			others = append(others, to)
		}
	}
	return others
}

// linkDamage reports whether a link that is always read is not as it should be.
func (r *repo) linkDamage() bool {
	for digest, f := range r.revisions {
		if to, good := target(f); !good || to != digest {
			return true
		}
	}
	for digest, f := range r.layers {
		if _, good := target(f); !good && !strings.HasPrefix(digest, "sha256:") {
			return true
		}
	}
	for _, f := range r.current {
		if _, good := target(f); !good {
			return true
		}
	}
	return r.doubted
}

// --- what manifests say

type reading struct {
	state   string // "intact", "missing" or "damaged"
	refs    []string
	entries []string // refs that say that they are manifests
	untyped []string // entries of an index that do not say what they are
	subject string
	unknown bool // of a type that nobody knows
}

// read reads a digest as a manifest.
func (o *oracle) read(digest string) reading {
	if _, found := o.readings[digest]; !found {
		o.readings[digest] = o.readAnew(digest)
	}
	return o.readings[digest]
}

func (o *oracle) readAnew(digest string) reading {
	path := blobFile(digest)
	f, found := o.files[path]
	if !found {
		return reading{state: "missing"}
	}
	if f.content == "" || sha256Of(f.content) != digest && sha512Of(f.content) != digest {
		return reading{state: "damaged"}
	}
	var content any
	if err := json.Unmarshal([]byte(f.content), &content); err != nil {
		return reading{state: "damaged"}
	}
	m, isObject := content.(map[string]any)
	if !isObject {
		return reading{state: "damaged"}
	}
	mediaType, isText := m["mediaType"].(string)
	if !isText && m["mediaType"] != nil {
		return reading{state: "damaged"}
	}
	known := slices.Contains([]string{
		ociImage, ociIndex, dockerImage, dockerList, ociArtifact,
		"application/vnd.docker.distribution.manifest.v1+json", "application/vnd.docker.distribution.manifest.v1+prettyjws",
	}, mediaType)
	if mediaType == "" {
		known = m["schemaVersion"] == 1.0 || m["manifests"] != nil || m["config"] != nil || m["layers"] != nil
	}
	if !known {
		result := reading{state: "intact", refs: digestsIn(f.content), unknown: true}
		if subject, ok := m["subject"].(map[string]any); ok {
			result.subject, _ = subject["digest"].(string)
		}
		return result
	}
	result := reading{state: "intact"}
	good := true
	add := func(entry any, field string) {
		fields, _ := entry.(map[string]any)
		digest, _ := fields[field].(string)
		if !wholeDigest.MatchString(digest) {
			good = false
			return
		}
		result.refs = append(result.refs, digest)
		switch fields["mediaType"] {
		case ociImage, ociIndex, dockerImage, dockerList, "application/vnd.docker.distribution.manifest.v1+prettyjws":
			result.entries = append(result.entries, digest)
		}
	}
	if m["config"] != nil {
		add(m["config"], "digest")
	}
	for list, field := range map[string]string{"layers": "digest", "manifests": "digest", "fsLayers": "blobSum"} {
		entries, isList := m[list].([]any)
		if !isList && m[list] != nil {
			good = false
		}
		for _, entry := range entries {
			add(entry, field)
			if fields, _ := entry.(map[string]any); list == "manifests" && fields["mediaType"] == nil {
				digest, _ := fields["digest"].(string)
				result.untyped = append(result.untyped, digest)
			}
		}
	}
	if blobs, _ := m["blobs"].([]any); mediaType == ociArtifact {
		for _, blob := range blobs {
			add(blob, "digest")
		}
	}
	if m["subject"] != nil {
		subject, _ := m["subject"].(map[string]any)
		result.subject, _ = subject["digest"].(string)
		good = good && wholeDigest.MatchString(result.subject)
	}
	if !good {
		return reading{state: "damaged"}
	}
	return result
}

// isEntry reports whether one manifest leads to another: it says so, or nothing says what the other
// is and the other reads like a manifest.
func (o *oracle) isEntry(of reading, digest string) bool {
	other := o.read(digest)
	readsLikeOne := other.state == "intact" && !other.unknown
	return slices.Contains(of.entries, digest) || readsLikeOne && (of.unknown || slices.Contains(of.untyped, digest))
}

// --- what is alive

// alive is what lives in a repository, and which of its revisions dangle.
func (o *oracle) alive(r *repo) (alive, dangling map[string]bool) {
	alive, dangling = map[string]bool{}, map[string]bool{}
	kept := r.linkDamage() || !goodName.MatchString(r.name)

	tagRoots, listedContent := o.listed(r)
	tagRoots = append(tagRoots, o.tagRoots(r)...)

	// A digest is a manifest to a repository whose links say so, or if a manifest does.
	manifest := map[string]bool{}
	var reach func(digest string, isManifest bool)
	reach = func(digest string, isManifest bool) {
		_, hasRevision := r.revisions[digest]
		isManifest = isManifest || hasRevision || slices.Contains(tagRoots, digest) || slices.Contains(r.suspects, digest)
		if isManifest && !manifest[digest] {
			manifest[digest] = true
			for _, to := range o.read(digest).refs {
				_, isLinked := r.revisions[to]
				isRoot := slices.Contains(tagRoots, to) || slices.Contains(r.suspects, to)
				path := blobFile(to)
				_, isStored := o.files[path]
				isStored = isStored || o.dirs[strings.TrimSuffix(path, "/data")]
				if o.deleteUnlinkedChildren && isStored && !o.read(digest).unknown && o.isEntry(o.read(digest), to) && !isLinked && !isRoot {
					continue // it was deleted, and the index has it still
				}
				reach(to, o.isEntry(o.read(digest), to))
			}
		}
		if alive[digest] {
			return
		}
		alive[digest] = true
		for _, to := range slices.Concat(r.aliases(digest), r.signatures[digest]) {
			reach(to, false)
		}
		for revision := range r.revisions {
			if o.read(revision).subject == digest {
				reach(revision, true)
			}
		}
		for tag := range r.tags() {
			if o.subjectOf(r, tag) == digest {
				for _, to := range o.targets(r, tag) {
					reach(to, true)
				}
				for _, to := range r.earlier(tag) {
					if !o.deleteUntagged && !o.wasTagged(r, to) {
						reach(to, false)
					}
				}
			}
		}
	}

	roots := slices.Concat(tagRoots, listedContent, r.pinned)
	for _, root := range roots {
		reach(root, false)
	}
	for digest := range manifest {
		_, hasRevision := r.revisions[digest]
		switch {
		case o.read(digest).state == "damaged":
			kept = true
		case o.read(digest).state == "missing" && (hasRevision || slices.Contains(tagRoots, digest) || slices.Contains(r.pinned, digest)):
			kept = true
		}
	}
	if o.minAge > 0 {
		for _, links := range []map[string]file{r.revisions, r.layers} {
			for digest, f := range links {
				if f.age < o.minAge {
					reach(digest, false)
				}
			}
		}
		for of, signatures := range r.signatures {
			for _, signature := range signatures {
				if o.files[signatureFile(r.name, of, signature)].age < o.minAge {
					reach(of, false)
					reach(signature, false)
				}
			}
		}
		for of, paths := range r.referrers {
			for _, path := range paths {
				if o.files[path].age < o.minAge {
					reach(of, false)
				}
			}
		}
	}
	untagged := []string{}
	for revision := range r.revisions {
		if !alive[revision] && o.read(revision).state == "missing" {
			dangling[revision] = true
		} else {
			untagged = append(untagged, revision)
			// One that can't be read might be attached to something alive.
			kept = kept || o.read(revision).state == "damaged"
		}
	}
	for _, revision := range untagged {
		if !o.mayGo(r, revision) {
			reach(revision, false)
		}
	}
	for digest := range manifest {
		_, hasRevision := r.revisions[digest]
		if o.read(digest).state == "damaged" || o.read(digest).state == "missing" && hasRevision {
			kept = true
		}
	}
	// Nothing tells which blob a live link led to that names one which is not there.
	for layer, f := range r.layers {
		to, _ := target(f)
		if to == "" || to == layer || !alive[layer] || strings.HasPrefix(layer, "sha256:") {
			continue
		}
		_, isBlob := storedBlob(blobFile(to))
		_, there := o.files[blobFile(to)]
		if _, dirOnly := o.dirs[strings.TrimSuffix(blobFile(to), "/data")]; !isBlob || !there && !dirOnly {
			kept = true
		}
	}
	// A link that would go says nothing of what it was for if it is damaged.
	for layer, f := range r.layers {
		if _, good := target(f); !good && !alive[layer] {
			kept = true
		}
	}
	if r.kept = kept; kept {
		for _, f := range r.current { // the tags stay, too
			if to, _ := target(f); to != "" {
				tagRoots = append(tagRoots, to)
			}
		}
		for _, digest := range r.linked() {
			reach(digest, false)
		}
	}
	return alive, dangling
}

// linked are the digests that links name.
func (r *repo) linked() []string {
	linked := slices.Concat(slices.Collect(maps.Keys(r.revisions)), slices.Collect(maps.Keys(r.layers)),
		slices.Collect(maps.Keys(r.emptyLinks)), slices.Collect(maps.Keys(r.referrers)), slices.Collect(maps.Keys(r.signatures)))
	for _, digests := range []map[string][]string{r.signatures, r.index} {
		for _, named := range digests {
			linked = append(linked, named...)
		}
	}
	for _, f := range r.current {
		if to, _ := target(f); to != "" {
			linked = append(linked, to)
		}
	}
	return linked
}

// untagged are the manifests that no tag reaches, as far as they keep anything.
func (o *oracle) untagged(r *repo) (untagged []string) {
	tagged := o.reached(r, o.tagRoots(r), true)
	for revision := range r.revisions {
		if !tagged[revision] && o.read(revision).state != "missing" {
			untagged = append(untagged, revision)
		}
	}
	return untagged
}

// mayGo reports whether a revision goes if nothing else keeps it: it is selected, and
// all that leads to it.
func (o *oracle) mayGo(r *repo, revision string) bool {
	for tag, entries := range r.index {
		if slices.Contains(entries, revision) && !o.selects(indexFile(r.name, tag, revision)) {
			return false
		}
	}
	return (o.deleteUntagged || o.wasTagged(r, revision) || o.isFollowing(r, revision)) && o.selects(revisionFile(r.name, revision))
}

// wasTagged reports whether a revision that a policy leaves without a tag had one before.
func (o *oracle) wasTagged(r *repo, revision string) bool {
	if o.untag == nil {
		return false
	}
	before := *o
	before.untag = map[string]bool{}
	return before.reached(r, before.tagRoots(r), true)[revision]
}

// isFollowing reports whether a tag that shares the life of another manifest leads to a revision.
func (o *oracle) isFollowing(r *repo, revision string) bool {
	if o.untag == nil {
		return false
	}
	plain := *o
	plain.untag = nil
	for tag := range o.following(r) {
		if slices.Contains(r.earlier(tag), revision) || plain.reached(r, o.targets(r, tag), true)[revision] {
			return true
		}
	}
	return false
}

// whole are the files that each tag needs and has: after whatever interruption they
// must all be there.
func whole(d *disk, rules rules) []string {
	rules.only = nil
	removed, gone := judge(d, rules)
	o := newOracle(d, rules)
	var needed []string
	need := func(path string) {
		if rules.deleteUnlinkedChildren && gone[path] { // of a deleted platform, which a pull of the tag lacks anyway
			return
		}
		if _, found := d.files[path]; found {
			needed = append(needed, path)
		}
	}
	for _, r := range o.repos {
		seen := map[string]bool{}
		var pull func(digest string, isManifest bool)
		pull = func(digest string, isManifest bool) {
			if seen[digest] {
				return
			}
			seen[digest] = true
			need(blobFile(digest))
			need(layerFile(r.name, digest))
			need(revisionFile(r.name, digest))
			for _, path := range r.referrers[digest] {
				need(path)
			}
			if _, hasRevision := r.revisions[digest]; isManifest || hasRevision {
				for _, to := range o.read(digest).refs {
					pull(to, o.isEntry(o.read(digest), to))
				}
			}
			for _, to := range slices.Concat(r.aliases(digest), r.signatures[digest]) {
				pull(to, false)
			}
		}
		for tag, f := range r.current {
			if slices.Contains(removed["tag"], tagFile(r.name, tag)) {
				continue
			}
			need(tagFile(r.name, tag))
			if digest, _ := target(f); digest != "" {
				pull(digest, true)
			}
		}
	}
	return needed
}
