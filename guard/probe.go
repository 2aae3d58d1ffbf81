package guard

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"syscall"

	"regsweep/storage/layout"

	"github.com/opencontainers/go-digest"
)

// state is the result of the probes of one address.
type state int

const (
	unclear     state = iota // no answer, or an answer that is not understood
	readOnly                 // a registry of this storage that accepts no pushes
	writable                 // a registry that accepts pushes
	foreign                  // a registry of another storage
	lacking                  // a registry with repositories that this storage lacks
	caching                  // a pull-through cache that accepts no pushes
	troubled                 // a registry that accepts no pushes, and may be a pull-through cache
	silent                   // nothing listens
	noRoute                  // this machine has no route to the address
	disregarded              // silent or noRoute, and the endpoint's other addresses decide
)

// finding has the results of the probes of one address.
type finding struct {
	state    state
	subject  string
	loopback bool // the address is this machine's own
	v6       bool
	// answered is set once a registry has answered. ours is set once this registry was found to
	// serve this storage.
	answered, ours bool
	// database and harbor are signs in the answers that a database decides what is alive.
	database, harbor string

	evidence []Evidence
	remedies []remedy
}

func (f *finding) add(result Result, check, seen, meaning string) {
	f.evidence = append(f.evidence, Evidence{f.subject, check, seen, meaning, result})
}

// probe finds out whether a registry is at an address, whether it serves this storage, and
// whether it accepts pushes. It changes nothing there.
func probe(ctx context.Context, o Options, e *endpoint, address string) finding {
	p := newProber(o, e, address)
	f := finding{subject: e.subject(address), loopback: e.network == "unix"}
	if host, _, err := net.SplitHostPort(address); err == nil {
		ip := net.ParseIP(host)
		f.loopback, f.v6 = ip.IsLoopback(), ip != nil && ip.To4() == nil
	}
	repository := "regsweep/probe" // the probes create no repository
	if samples := o.samples(); len(samples) > 0 {
		repository = samples[0].Repository
	}
	p.questions(ctx, &f, repository)
	f.database, f.harbor = p.database, p.harbor
	return f
}

func (p *prober) questions(ctx context.Context, f *finding, repository string) {
	if !p.options.Quick && !p.isRegistry(ctx, f, repository) {
		return
	}
	p.servesStorage(ctx, f)
	if !p.options.Quick {
		p.hasMore(ctx, f)
	}
	if f.state == foreign || f.state == silent || f.state == noRoute {
		return // a registry of another storage may accept pushes
	}
	lacks := f.state == lacking
	p.takesPushes(ctx, f, repository)
	if lacks && f.state != writable {
		f.state = lacking
	}
}

// isRegistry requests /v2/. If no registry answers, it adds evidence that says so.
func (p *prober) isRegistry(ctx context.Context, f *finding, repository string) bool {
	const check = "GET /v2/"
	r, err := p.ask(ctx, http.MethodGet, repository, "/v2/", nil, "")
	if err != nil {
		p.unreachable(f, err)
		return false
	}
	f.answered = r.fromRegistry()
	seen := status(r)
	switch {
	case r.denied != nil || r.status == http.StatusForbidden:
		f.refusedEntry(check, r, "", repository)
	case r.status >= 300 && r.status < 400:
		location := redirect(p.endpoint.url, r.header.Get("Location"))
		f.add(Unknown, check, seen+" to "+location, "sends elsewhere, and only the registry's own word counts")
		f.remedies = append(f.remedies, remedy{nameThis, location})
	case r.status == http.StatusOK && r.fromRegistry():
		f.add(OK, check, seen, "a registry answers")
		return true
	case r.status >= 500:
		f.add(Unknown, check, seen, "something answers that has no working registry behind it")
		f.remedies = append(f.remedies, remedy{nameAll, ""}, remedy{sayStopped, ""})
	case r.status == http.StatusBadRequest && strings.Contains(r.body, "HTTPS server"):
		f.add(Unknown, check, seen, "speaks TLS: https:// is wanted")
		f.remedies = append(f.remedies, remedy{nameThis, "https://" + p.endpoint.url.Host + p.endpoint.url.Path})
	default:
		f.add(Unknown, check, seen, "something answers, but it is not a registry (no header "+apiVersion+")")
		f.remedies = append(f.remedies, remedy{nameAll, ""})
	}
	return false
}

// unreachable adds the evidence of a failed connection.
func (p *prober) unreachable(f *finding, err error) {
	const check = "connect"
	var (
		netErr    net.Error
		record    tls.RecordHeaderError
		unknownCA x509.UnknownAuthorityError
		wrongName x509.HostnameError
		invalid   x509.CertificateInvalidError
		failed    *tls.CertificateVerificationError
	)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED),
		p.endpoint.network == "unix" && errors.Is(err, fs.ErrNotExist):
		f.state = silent
		seen := "connection refused"
		if p.endpoint.network == "unix" && errors.Is(err, fs.ErrNotExist) {
			seen = "no such socket"
		}
		f.add(Unknown, check, seen, "silence proves nothing: the registry may run elsewhere, or be restarting")
		f.remedies = append(f.remedies, remedy{nameAll, ""}, remedy{sayStopped, ""})
	case errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EAFNOSUPPORT):
		f.state = noRoute
		f.add(Unknown, check, cause(err), "this machine has no way to such an address")
		f.remedies = append(f.remedies, remedy{nameAll, ""}, remedy{sayStopped, ""})
	case errors.As(err, &unknownCA), errors.As(err, &wrongName), errors.As(err, &invalid), errors.As(err, &failed):
		f.add(Unknown, check, cause(err), "its certificate is not trusted, so it may be anybody")
		f.remedies = append(f.remedies, remedy{trustIt, ""})
	case errors.As(err, &record), strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		f.add(Unknown, check, cause(err), "does not speak TLS: http:// is wanted")
		f.remedies = append(f.remedies, remedy{nameThis, "http://" + p.endpoint.url.Host + p.endpoint.url.Path})
	case strings.Contains(err.Error(), "certificate required"):
		f.add(Unknown, check, cause(err), "wants a client certificate, so it can't be asked")
		f.remedies = append(f.remedies, remedy{sayStopped, ""})
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &netErr) && netErr.Timeout():
		f.add(Unknown, check, "no answer in "+p.options.timeout().String(), "a registry that is slow, or hidden by a firewall, may still take pushes")
		f.remedies = append(f.remedies, remedy{nameAll, ""}, remedy{sayStopped, ""})
	default:
		f.add(Unknown, check, cause(err), "no answer, which proves nothing")
		f.remedies = append(f.remedies, remedy{nameAll, ""}, remedy{sayStopped, ""})
	}
}

// servesStorage requests manifests of the storage.
func (p *prober) servesStorage(ctx context.Context, f *finding) {
	const check = "HEAD manifests that this storage holds"
	samples := p.options.samples()
	if len(samples) == 0 {
		f.add(Unknown, check, "no manifest to ask for", "whether it serves this storage can't be told")
		f.remedies = append(f.remedies, remedy{sayStopped, ""})
		return
	}
	// The manifest has one of these types. If its type is missing here, the answer is 404.
	accept := http.Header{"Accept": {
		"application/vnd.oci.image.index.v1+json", "application/vnd.oci.image.manifest.v1+json",
		"application/vnd.docker.distribution.manifest.list.v2+json", "application/vnd.docker.distribution.manifest.v2+json",
		"application/vnd.docker.distribution.manifest.v1+prettyjws", "application/vnd.docker.distribution.manifest.v1+json",
		"*/*"}}
	found, odd := 0, Evidence{}
	for i, sample := range samples {
		if found > 0 && p.options.Quick {
			break
		}
		name := sample.Repository + "@" + sample.Digest
		path := "/v2/" + sample.Repository + "/manifests/" + sample.Digest
		r, err := p.ask(ctx, http.MethodHead, sample.Repository, path, accept, "")
		f.answered = f.answered || err == nil && r.fromRegistry()
		switch {
		case err != nil && p.options.Quick && i == 0: // the first question
			p.unreachable(f, err)
			return
		case errors.Is(err, context.DeadlineExceeded):
			// The other samples may take as long.
			f.add(Unknown, check, name+": "+cause(err), "no answer")
			f.remedies = append(f.remedies, remedy{nameAll, ""}, remedy{sayStopped, ""})
			return
		case err != nil:
			odd = Evidence{f.subject, check, name + ": " + cause(err), "no answer", Unknown}
		case r.denied != nil || r.status == http.StatusForbidden:
			f.refusedEntry(check, r, name+": ", sample.Repository)
			return
		case r.status == http.StatusOK && r.header.Get("Docker-Content-Digest") == sample.Digest:
			found++
		case r.status == http.StatusNotFound && p.damaged(ctx, sample):
			odd = Evidence{f.subject, check, name + ": " + status(r), "damaged in the storage, which says nothing of the registry", Unknown}
		case r.status == http.StatusNotFound:
			f.state = foreign
			f.add(Against, check, name+": "+status(r), "serves another storage: its word does not count here")
			f.remedies = append(f.remedies, remedy{nameAll, ""})
			return
		default:
			odd = Evidence{f.subject, check, name + ": " + status(r), "can't serve a manifest that this storage holds", Unknown}
		}
	}
	// A damaged manifest does not count as a 404. The other samples decide.
	if found == 0 {
		f.evidence = append(f.evidence, odd)
		f.remedies = append(f.remedies, remedy{nameAll, ""}, remedy{sayStopped, ""})
		return
	}
	f.ours = true
	seen := fmt.Sprintf("%d of %d found", found, len(samples))
	if p.options.Quick {
		seen = "found"
	}
	f.add(OK, check, seen, "serves this storage")
}

// damaged reports whether the storage lacks the link or the blob of a sample: a tag may point at
// a manifest that does not exist. If the storage can't be read, that does not explain the registry's
// answer, and damaged returns false.
func (p *prober) damaged(ctx context.Context, sample Sample) bool {
	if p.options.Store == nil {
		return false
	}
	d := digest.Digest(sample.Digest)
	for _, path := range []string{layout.RevisionPath(sample.Repository, d), layout.BlobPath(d)} {
		if _, err := p.options.Store.Stat(ctx, path); errors.Is(err, fs.ErrNotExist) {
			return true
		}
	}
	return false
}

// hasMore compares the repositories that the registry lists with the storage. A registry may
// refuse to list them.
func (p *prober) hasMore(ctx context.Context, f *finding) {
	const check = "GET /v2/_catalog"
	if p.options.HasRepository == nil || p.options.Store == nil {
		return
	}
	r, err := p.ask(ctx, http.MethodGet, "", "/v2/_catalog", nil, "")
	var catalog struct {
		Repositories []string `json:"repositories"`
	}
	if err != nil || r.status != http.StatusOK || !r.fromRegistry() || json.Unmarshal([]byte(r.body), &catalog) != nil {
		return
	}
	var missing []string
	for _, name := range catalog.Repositories {
		if !layout.ValidRepository(name) || p.options.HasRepository(name) {
			continue
		}
		names, err := p.options.Store.Names(ctx, layout.RepositoryPath(name))
		if err != nil {
			return // the run itself will fail with this error
		}
		if len(names) == 0 {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 {
		return
	}
	if f.state != foreign {
		f.state = lacking
	}
	f.add(Against, check, firstOf(missing, 3), "this storage lacks these repositories of the registry: it may be another one, or a part of it")
	f.remedies = append(f.remedies, remedy{nameAll, ""})
}

// firstOf names the first n of several names.
func firstOf(names []string, n int) string {
	if len(names) <= n {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:n], ", "), len(names)-n)
}

// refusedEntry adds the evidence that the endpoint has denied access.
func (f *finding) refusedEntry(check string, r reply, what, repository string) {
	meaning, way := entry(r, repository)
	f.add(Unknown, check, what+status(r), meaning)
	f.remedies = append(f.remedies, way)
}
