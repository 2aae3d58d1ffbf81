package guard

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"regsweep/storage/layout"
)

// severity orders the answers to the push probes. The worst answer counts.
var severity = map[state]int{readOnly: 1, troubled: 2, caching: 3, unclear: 4, writable: 5}

// takesPushes finds out whether a registry accepts pushes. It asks which methods the registry
// allows, and pushes an invalid manifest, in several rounds. The worst answer counts. It also
// requests a manifest that no registry has: a pull-through cache then asks another registry.
func (p *prober) takesPushes(ctx context.Context, f *finding, repository string) {
	var options, puts, unknowns tally
	for range p.options.rounds() {
		if p.options.Quick {
			puts.count(p.askInvalidPut(ctx, repository))
			break
		}
		options.count(p.askAllowed(ctx, repository))
		puts.count(p.askInvalidPut(ctx, repository))
		if options.worst.state != readOnly || puts.worst.state != readOnly {
			break // further rounds can't change the result
		}
	}
	if !p.options.Quick && puts.worst.state != writable {
		unknowns.count(p.askUnknown(ctx, repository))
	}
	worst := readOnly
	for _, asked := range []struct {
		check string
		tally tally
	}{
		{"OPTIONS /v2/" + repository + "/blobs/uploads/", options},
		{"PUT an invalid manifest to " + repository, puts},
		{"GET an unknown manifest of " + repository, unknowns},
	} {
		if len(asked.tally.states) == 0 {
			continue
		}
		a := asked.tally.worst
		f.evidence = append(f.evidence, Evidence{f.subject, asked.check, asked.tally.seen(), asked.tally.meaning(), a.result()})
		if a.remedy != nil {
			f.remedies = append(f.remedies, *a.remedy)
		}
		if severity[a.state] > severity[worst] {
			worst = a.state
		}
	}
	if worst == writable || worst == caching || worst == troubled || worst == readOnly && f.ours {
		f.state = worst
	}
}

// answer is one reply to a push probe.
type answer struct {
	state   state // must be in severity
	seen    string
	meaning string
	remedy  *remedy
}

func (a answer) result() Result {
	switch a.state {
	case readOnly:
		return OK
	case writable, caching:
		return Against
	}
	return Unknown
}

// tally counts the answers to one probe over all rounds.
type tally struct {
	worst  answer
	states []state
	texts  []string // distinct
	counts []int
}

func (t *tally) count(a answer) {
	if len(t.states) == 0 || severity[a.state] > severity[t.worst.state] {
		t.worst = a
	}
	t.states = append(t.states, a.state)
	at := slices.Index(t.texts, a.seen)
	if at < 0 {
		at = len(t.texts)
		t.texts, t.counts = append(t.texts, a.seen), append(t.counts, 0)
	}
	t.counts[at]++
}

func (t *tally) seen() string {
	if len(t.texts) == 1 {
		return t.texts[0]
	}
	parts := make([]string, len(t.texts))
	for i, text := range t.texts {
		parts[i] = fmt.Sprintf("%d of %d times %s", t.counts[i], len(t.states), text)
	}
	return strings.Join(parts, "; ")
}

func (t *tally) meaning() string {
	if t.worst.state != readOnly && slices.Contains(t.states, readOnly) {
		return "several registries answer here, and not all alike: " + t.worst.meaning
	}
	return t.worst.meaning
}

// askAllowed asks which methods are allowed for uploads. In read-only mode the answer of
// Distribution has no POST (blobUploadDispatcher in registry/handlers).
func (p *prober) askAllowed(ctx context.Context, repository string) answer {
	r, err := p.ask(ctx, http.MethodOptions, repository, "/v2/"+repository+"/blobs/uploads/", nil, "")
	if a, decided := p.common(r, err, repository); decided {
		return a
	}
	allow := strings.Join(r.header.Values("Allow"), ", ")
	seen := "Allow: " + allow
	methods := strings.FieldsFunc(strings.ToUpper(allow), func(c rune) bool { return c == ',' || c == ' ' })
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE"} {
		if slices.Contains(methods, method) {
			return answer{state: writable, seen: seen, meaning: "takes uploads: writable"}
		}
	}
	switch {
	case allow == "":
		return answer{seen: status(r) + " without Allow", meaning: "does not say what it takes", remedy: &remedy{nameAll, ""}}
	case !r.fromRegistry():
		return notItself(seen)
	case !slices.Contains(methods, "GET"):
		return answer{seen: seen, meaning: "does not say what it takes", remedy: &remedy{nameAll, ""}}
	}
	return answer{state: readOnly, seen: seen, meaning: "takes no uploads: read-only"}
}

// impossible is a digest without any known content. Even a registry that accepts the
// invalid manifest would have to refuse it under this digest.
const impossible = "sha256:0000000000000000000000000000000000000000000000000000000000000000"

// askInvalidPut pushes an invalid manifest and checks why it is refused. A registry in read-only
// mode refuses the method before it reads the content (manifestDispatcher in registry/handlers).
func (p *prober) askInvalidPut(ctx context.Context, repository string) answer {
	header := http.Header{"Content-Type": {"application/vnd.docker.distribution.manifest.v2+json"}}
	r, err := p.ask(ctx, http.MethodPut, repository, "/v2/"+repository+"/manifests/"+impossible, header, "no manifest, a question by regsweep")
	if a, decided := p.common(r, err, repository); decided {
		return a
	}
	seen, code := statusAndCode(r)
	switch {
	case r.status == http.StatusMethodNotAllowed && code == "UNSUPPORTED":
		return answer{seen: seen, meaning: "refuses pushes, but not for being read-only", remedy: &remedy{sayStopped, ""}}
	case r.status == http.StatusMethodNotAllowed && !r.fromRegistry():
		return notItself(seen)
	case r.status == http.StatusMethodNotAllowed:
		return answer{state: readOnly, seen: seen, meaning: "takes no manifests: read-only"}
	case r.status == http.StatusBadRequest && code != "", r.status == http.StatusRequestEntityTooLarge,
		r.status == http.StatusUnsupportedMediaType, r.status == http.StatusUnprocessableEntity,
		r.status >= 200 && r.status < 300:
		return answer{state: writable, seen: seen, meaning: "looks at what is pushed: writable"}
	}
	return answer{seen: seen, meaning: "an answer that read-only registries do not give", remedy: &remedy{nameAll, ""}}
}

// askUnknown requests a manifest that no registry has. A registry that stores images answers that
// it is unknown. A pull-through cache returns the answer of another registry, and lists the tags
// of that registry.
func (p *prober) askUnknown(ctx context.Context, repository string) answer {
	const cache = "answers as a pull-through cache does: for what it lacks it asks another registry"
	r, err := p.ask(ctx, http.MethodGet, repository, "/v2/"+repository+"/manifests/"+impossible, nil, "")
	if a, decided := p.common(r, err, repository); decided {
		return a
	}
	seen, code := statusAndCode(r)
	switch {
	case !r.fromRegistry():
		return notItself(seen)
	case r.status == http.StatusTooManyRequests || r.status >= 500:
		return answer{state: troubled, seen: seen, remedy: &remedy{sayStopped, ""},
			meaning: "the answer of a registry in trouble, or of a pull-through cache that can't ask its other registry"}
	case r.status != http.StatusNotFound || code != "MANIFEST_UNKNOWN" && code != "NAME_UNKNOWN":
		return answer{state: caching, seen: seen, meaning: cache, remedy: &remedy{sayStopped, ""}}
	}
	if tag := p.unknownTag(ctx, repository); tag != "" {
		return answer{state: caching, seen: "lists the tag " + tag, meaning: "this storage lacks that tag: " + cache, remedy: &remedy{sayStopped, ""}}
	}
	return answer{state: readOnly, seen: seen, meaning: "no sign of a pull-through cache"}
}

// unknownTag returns a tag that the registry lists and the storage lacks, or "". It compares
// the first few tags.
func (p *prober) unknownTag(ctx context.Context, repository string) string {
	if p.options.HasTag == nil || p.options.Store == nil {
		return ""
	}
	r, err := p.ask(ctx, http.MethodGet, repository, "/v2/"+repository+"/tags/list?n=5", nil, "")
	var list struct {
		Tags []string `json:"tags"`
	}
	if err != nil || r.status != http.StatusOK || json.Unmarshal([]byte(r.body), &list) != nil {
		return ""
	}
	unknown := slices.DeleteFunc(list.Tags, func(tag string) bool { return p.options.HasTag(repository, tag) })
	if len(unknown) == 0 {
		return ""
	}
	// Registries also list a tag that is only a directory.
	const link = "/t/current/link"
	stored, err := p.options.Store.Names(ctx, strings.TrimSuffix(layout.TagPath(repository, "t"), link))
	unknown = slices.DeleteFunc(unknown, func(tag string) bool { return slices.Contains(stored, tag) })
	if err != nil || len(unknown) == 0 {
		return ""
	}
	return unknown[0]
}

func notItself(seen string) answer {
	return answer{seen: seen + " without " + apiVersion, remedy: &remedy{nameAll, ""},
		meaning: "not the registry's own answer but that of something in front of it"}
}

// common handles the replies that mean the same for every push probe.
func (p *prober) common(r reply, err error, repository string) (a answer, decided bool) {
	switch {
	case err != nil:
		return answer{seen: cause(err), meaning: "no answer", remedy: &remedy{nameAll, ""}}, true
	case r.denied != nil || r.status == http.StatusForbidden:
		meaning, way := entry(r, repository)
		return answer{seen: status(r), meaning: meaning, remedy: &way}, true
	case r.status >= 300 && r.status < 400:
		location := redirect(p.endpoint.url, r.header.Get("Location"))
		return answer{seen: status(r) + " to " + location, remedy: &remedy{nameAll, ""},
			meaning: "sends elsewhere, and only the registry's own word counts"}, true
	}
	return answer{}, false
}
