package guard

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// Prove gathers the evidence and gives the verdict. A refusal is a verdict, not an
// error: errors are of the options (*storage.UsageError) or of ctx. It changes
// nothing, in the registry or in its storage, and may be called again at any time.
//
// The rules, in the order in which they are applied:
//
//   - with Unsafe, nothing is asked;
//   - a registry that serves this storage and takes pushes refuses, whatever else
//     is said: nobody's word outweighs what can be seen;
//   - the user's word that the registry is stopped proves;
//   - a named endpoint that serves another storage refuses;
//   - a pull-through cache refuses unless it is stopped: it writes when somebody
//     pulls, read-only or not;
//   - an upload touched in the last RecentUpload refuses unless the user has named
//     the endpoints: some replica took it;
//   - named endpoints prove when each of their addresses is read-only, or refuses
//     connections;
//   - config.yml's own address proves when it is read-only, or when nothing listens
//     there and config.yml says read-only;
//   - all else refuses.
func Prove(ctx context.Context, o Options) (Verdict, error) {
	if o.Unsafe {
		return Verdict{State: Skipped, By: ByUnsafe, Reason: "the proof is skipped, as --unsafe-online asks",
			Evidence: []Evidence{{"command line", "--unsafe-online", "given", "removes while pushes may run", Note}},
			Remedy:   []string{}}, nil
	}
	var named []endpoint
	for _, text := range o.Endpoints {
		e, err := parseEndpoint(text)
		if err != nil {
			return Verdict{}, err
		}
		named = append(named, e)
	}
	p := &proof{options: o}
	if o.Stopped {
		p.add(OK, "command line", "--registry-stopped", "given", "you say that no registry runs")
	}
	p.askNamed(ctx, named)
	p.askOwn(ctx)
	if err := ctx.Err(); err != nil {
		return Verdict{}, fmt.Errorf("ask the registry: %w", context.Cause(ctx))
	}
	p.readConfig()
	p.readUploads()
	return p.verdict(), nil
}

// proof is the evidence so far, and what the rules need to know of it.
type proof struct {
	options  Options
	evidence []Evidence
	remedies []remedy
	// grounds are reasons to refuse, by ground; the first for each is told.
	grounds map[By]string

	named struct{ proven, readOnly bool }
	own   struct{ readOnly, silent bool }
}

func (p *proof) add(result Result, subject, check, seen, meaning string) {
	p.evidence = append(p.evidence, Evidence{subject, check, seen, meaning, result})
}

func (p *proof) refuse(by By, reason string, remedies ...remedy) {
	if p.grounds == nil {
		p.grounds = map[By]string{}
	}
	if _, known := p.grounds[by]; !known {
		p.grounds[by] = reason
	}
	for _, r := range remedies {
		if r == (remedy{nameAll, ""}) {
			r = p.nameAll()
		}
		p.remedies = append(p.remedies, r)
	}
}

// configPath is the config.yml that the target is, or "".
func (p *proof) configPath() string {
	if p.options.Config.Registry == nil {
		return ""
	}
	return p.options.Config.Target
}

// askNamed asks the endpoints that the user named.
func (p *proof) askNamed(ctx context.Context, named []endpoint) {
	if len(named) == 0 {
		return
	}
	p.named.proven = true
	for _, findings := range askAll(ctx, p.options, named) {
		p.judgeNamed(findings)
	}
}

func (p *proof) judgeNamed(findings []finding) {
	answered := slices.ContainsFunc(findings, func(f finding) bool { return f.state == readOnly || f.state == stopped })
	for i := range findings {
		f := &findings[i]
		subject := f.subject
		if p.options.Stopped && !(f.state == writable && f.ours) {
			f.soften("") // the user's word decides
		}
		switch f.state {
		case readOnly:
			p.named.readOnly = true
		case stopped:
		case noRoute:
			// A dual-stacked host is one host: where its name has answered by the
			// one family, this machine's lack of the other one is no gap.
			if answered {
				f.soften("this machine has no way to such an address; the host's others were asked")
				break
			}
			p.named.proven = false
			p.refuse(ByUnknown, subject+" can't be reached from this machine", f.remedies...)
		case writable:
			p.named.proven = false
			p.judgeWritable(f, subject)
		case foreign:
			p.named.proven = false
			p.refuse(ByOtherStorage, subject+" serves another storage than this one", f.remedies...)
		default:
			p.named.proven = false
			p.refuse(ByUnknown, subject+": "+f.doubt(), f.remedies...)
		}
		p.evidence = append(p.evidence, f.evidence...)
	}
}

// judgeWritable refuses. The user's word that the registry is stopped gives way only
// to a registry that was seen to serve this storage.
func (p *proof) judgeWritable(f *finding, subject string) {
	if p.options.Stopped && !f.ours {
		return
	}
	reason := subject + " takes pushes"
	ways := []remedy{{setReadOnly, p.configPath()}}
	if r := p.options.Config.Registry; r != nil && r.ReadOnly.Enabled {
		ways = []remedy{{restart, p.configPath()}}
		reason += ", although config.yml says read-only"
	}
	if p.options.Stopped {
		reason += ", although you say that it is stopped"
	}
	p.refuse(ByWritable, reason, append(ways, remedy{sayStopped, ""})...)
}

// askOwn asks the address in config.yml. Where the user has named endpoints, or says
// that the registry is stopped, it can only speak against: a slip in a URL must not
// hide the registry that runs next door.
func (p *proof) askOwn(ctx context.Context) {
	r := p.options.Config.Registry
	if r == nil {
		return
	}
	decides := len(p.options.Endpoints) == 0 && !p.options.Stopped
	e, err := ownEndpoint(r.HTTP)
	if err != nil {
		result := Note
		if decides {
			result = Unknown
			p.refuse(ByUnknown, "config.yml does not say where the registry listens", remedy{nameAll, ""}, remedy{sayStopped, ""})
		}
		p.add(result, "config.yml", "http.addr", err.Error(), "the registry's own address is not known")
		return
	}
	findings := askAll(ctx, p.options, []endpoint{e})[0]
	silent := true
	for i := range findings {
		// A family that this machine does not have is one that nothing listens on.
		if f := &findings[i]; f.state == noRoute && f.loopback {
			f.state = stopped
			f.soften("nothing listens there")
		}
		silent = silent && findings[i].state == stopped
	}
	p.own.silent = silent
	if decides && silent {
		p.judgeSilence(findings)
		return
	}
	p.own.readOnly = decides
	for i := range findings {
		p.judgeOwn(&findings[i], decides)
	}
}

func (p *proof) judgeOwn(f *finding, decides bool) {
	subject := f.subject
	switch {
	case f.state == writable && (decides || f.ours):
		p.own.readOnly = false
		p.judgeWritable(f, subject)
	case !decides:
		f.soften("")
	case f.state == stopped:
		f.soften("nothing listens there")
	case f.state == foreign:
		p.own.readOnly = false
		p.refuse(ByOtherStorage, subject+", the address in config.yml, serves another storage", append(f.remedies, remedy{nameAll, ""}, remedy{sayStopped, ""})...)
	case f.state != readOnly:
		p.own.readOnly = false
		p.refuse(ByUnknown, subject+": "+f.doubt(), f.remedies...)
	}
	p.evidence = append(p.evidence, f.evidence...)
}

// judgeSilence weighs that nothing listens at the config's own address, which may
// only mean that the registry runs on another machine.
func (p *proof) judgeSilence(findings []finding) {
	enabled := p.options.Config.Registry.ReadOnly.Enabled
	for i := range findings {
		f := &findings[i]
		if !enabled {
			f.weigh(Unknown, "nothing listens here: stopped, or on another machine")
		}
		p.evidence = append(p.evidence, f.evidence...)
	}
	if !enabled {
		p.refuse(ByUnknown, "nothing listens at the address in config.yml, which may mean that the registry runs elsewhere",
			remedy{setReadOnly, p.configPath()}, remedy{nameAll, ""}, remedy{sayStopped, ""})
	}
}

// nameAll suggests the address that clients use, where config.yml has it.
func (p *proof) nameAll() remedy {
	if r := p.options.Config.Registry; r != nil {
		if u, err := url.Parse(r.HTTP.Host); err == nil && u.Host != "" {
			return remedy{nameAll, u.Scheme + "://" + u.Host + strings.TrimRight(r.HTTP.Prefix, "/")}
		}
	}
	return remedy{nameAll, ""}
}

// readConfig weighs what config.yml says, which alone proves nothing.
func (p *proof) readConfig() {
	r := p.options.Config.Registry
	if r == nil {
		if len(p.options.Endpoints) == 0 && !p.options.Stopped {
			p.add(Unknown, "target", "a registry's address", "a storage only", "says nothing of the registry that uses it")
			p.refuse(ByUnknown, "nothing is known of the registry that uses this storage", remedy{nameAll, ""}, remedy{sayStopped, ""})
		}
		return
	}
	p.readReadOnly()
	if r.ProxyRemote == "" {
		return
	}
	isStopped := p.options.Stopped || p.named.proven && !p.named.readOnly ||
		len(p.options.Endpoints) == 0 && p.own.silent && r.ReadOnly.Enabled
	if isStopped {
		p.add(Note, "config.yml", "proxy.remoteurl", r.ProxyRemote, "a pull-through cache, stopped")
		return
	}
	p.add(Against, "config.yml", "proxy.remoteurl", r.ProxyRemote, "a pull-through cache writes whenever somebody pulls, read-only or not")
	p.refuse(ByProxy, "the registry is a pull-through cache of "+r.ProxyRemote+", which writes whenever somebody pulls", remedy{sayStopped, ""})
}

func (p *proof) readReadOnly() {
	const check = "storage.maintenance.readonly.enabled"
	setting := p.options.Config.Registry.ReadOnly
	_, taken := p.grounds[ByWritable]
	result, seen, meaning := Note, "not set", "a restart makes the registry writable"
	switch {
	case setting.Enabled && taken:
		result, seen, meaning = Against, "true", "the registry that runs does not obey: it was not restarted, or reads another file"
	case setting.Enabled && p.own.silent:
		result, seen, meaning = OK, "true", "a registry that starts with it is read-only"
	case setting.Enabled:
		seen, meaning = "true", "a registry that starts with it is read-only"
	case setting.Set:
		seen = "false"
	}
	if setting.Problem != "" {
		meaning = "it has no effect: " + setting.Problem
	}
	p.add(result, "config.yml", check, seen, meaning)
}

// readUploads weighs the upload that was touched last.
func (p *proof) readUploads() {
	const subject, check = "uploads", "touched last"
	u := p.options.LastUpload
	if u == nil {
		return
	}
	age := p.options.now().Sub(u.Touched)
	seen := fmt.Sprintf("in %s, %s ago", u.Repository, age.Round(time.Second))
	if age < 0 {
		// The storage's clock is ahead of ours: how old it is, nobody knows.
		seen = fmt.Sprintf("in %s, %s in the future", u.Repository, (-age).Round(time.Second))
	}
	switch {
	case age >= RecentUpload:
		p.add(OK, subject, check, seen, "no push under way")
	case p.options.Stopped || len(p.options.Endpoints) > 0:
		p.add(Note, subject, check, seen, "somebody pushed just now; you have answered for every registry")
	default:
		p.add(Against, subject, check, seen, "somebody pushed just now, through a registry that may not have been asked")
		p.refuse(ByRecentUpload, fmt.Sprintf("an upload to %s was touched less than %d minutes ago, perhaps through another replica", u.Repository, int(RecentUpload.Minutes())),
			remedy{nameAll, ""}, remedy{sayStopped, ""})
	}
}

// verdict applies the rules in the order that Prove gives.
func (p *proof) verdict() Verdict {
	v := Verdict{State: Proven, Evidence: append([]Evidence{}, p.evidence...), Remedy: []string{}}
	refusals := []By{ByWritable, ByOtherStorage, ByProxy, ByRecentUpload, ByUnknown}
	if p.options.Stopped {
		refusals = refusals[:1]
	}
	for _, by := range refusals {
		if reason, found := p.grounds[by]; found {
			v.State, v.By, v.Reason, v.Remedy = Refused, by, reason, texts(p.remedies)
			return v
		}
	}
	switch {
	case p.options.Stopped:
		v.By, v.Reason = ByOperator, "you say that the registry is stopped"
	case p.named.proven && p.named.readOnly:
		v.By, v.Reason = ByReadOnly, "every registry that you named is read-only"
	case p.named.proven:
		v.By, v.Reason = ByStopped, "every registry that you named is stopped"
	case p.own.readOnly:
		v.By, v.Reason = ByReadOnly, "the registry is read-only"
	case p.own.silent && p.options.Config.Registry != nil && p.options.Config.Registry.ReadOnly.Enabled:
		v.By, v.Reason = ByConfig, "nothing listens at the registry's address, and config.yml says read-only"
	default:
		// No ground to refuse and none to go on: a gap in the rules, and so a no.
		v.State, v.By, v.Reason = Refused, ByUnknown, "nothing proves that the registry is read-only or stopped"
		v.Remedy = texts([]remedy{{nameAll, ""}, {sayStopped, ""}})
	}
	return v
}

// askAll probes every address of every endpoint, several at once, and returns the
// findings in order.
func askAll(ctx context.Context, o Options, endpoints []endpoint) [][]finding {
	found := make([][]finding, len(endpoints))
	limit := make(chan struct{}, 8)
	var wait sync.WaitGroup
	for i := range endpoints {
		e := &endpoints[i]
		if err := e.resolve(ctx, o); err != nil {
			f := finding{subject: e.url.String()}
			f.add(Unknown, "look up "+e.url.Hostname(), cause(err), "its address is not known, so it can't be asked")
			f.remedies = []remedy{{nameAll, ""}, {sayStopped, ""}}
			found[i] = []finding{f}
			continue
		}
		found[i] = make([]finding, len(e.addresses))
		for j, address := range e.addresses {
			wait.Go(func() {
				limit <- struct{}{}
				defer func() { <-limit }()
				found[i][j] = probe(ctx, o, e, address)
			})
		}
	}
	wait.Wait()
	return found
}

// doubt is the first thing that is not known.
func (f *finding) doubt() string {
	for _, e := range f.evidence {
		if e.Result == Unknown || e.Result == Against {
			return e.Meaning
		}
	}
	return "it is not known whether it takes pushes"
}

// soften takes the weight from a finding's evidence, and gives it another meaning if
// there is one.
func (f *finding) soften(meaning string) { f.weigh(Note, meaning) }

func (f *finding) weigh(result Result, meaning string) {
	for i := range f.evidence {
		f.evidence[i].Result = result
		if meaning != "" {
			f.evidence[i].Meaning = meaning
		}
	}
}
