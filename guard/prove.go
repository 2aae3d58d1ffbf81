package guard

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"regsweep/inventory"
	"regsweep/storage/layout"
)

// Prove collects the evidence and gives the verdict. A refusal is a verdict and no error.
// Errors are about the options (*storage.UsageError) or from ctx. Prove changes nothing in
// the registry or in its storage. It may be called again at any time.
//
// The endpoints are the ones that the user named or, if there are none, the address in
// config.yml. The rules, in the order in which they are applied:
//
//   - a sign that a database decides what is alive refuses: GitLab's metadata database,
//     unless the user gave a list of the live images (RootsGiven); Harbor, if untagged
//     manifests will be removed and no list protects the manifests that Harbor needs;
//   - with Unsafe, no registry is probed;
//   - a registry that serves this storage and accepts pushes refuses, whatever the user
//     says;
//   - an endpoint that serves another storage refuses, and so does an endpoint with
//     repositories that this storage lacks;
//   - a pull-through cache refuses unless it is stopped: it writes whenever somebody
//     pulls, also in read-only mode;
//   - an upload that was touched or a push that was completed within RecentUpload refuses:
//     it may have gone through a registry that was not probed. It does not refuse if it is
//     older than the config.yml that says read-only, and the registry at the address in
//     config.yml is read-only, or if it is older than Closed: the registry that was asked may
//     have accepted it before;
//   - the statement of the user that the registry is stopped (Stopped) proves, if no
//     registry answers at any address where this registry could be. It overrules a recent
//     upload and the silence of an endpoint;
//   - endpoints prove if each of them was reached, serves this storage and is
//     read-only;
//   - everything else refuses. Silence proves nothing: a registry that does not answer here
//     may run on another host or in another container, or be restarting.
//
// If endpoints are named, or Stopped is set, the address in config.yml is probed too, and can
// only refuse: a mistake in a URL must not hide a registry that runs on this machine.
func Prove(ctx context.Context, o Options) (Verdict, error) {
	var named []endpoint
	for _, text := range o.Endpoints {
		e, err := parseEndpoint(text)
		if err != nil {
			return Verdict{}, err
		}
		named = append(named, e)
	}
	p := &proof{options: o}
	if !o.Quick {
		p.readTruth(ctx)
	}
	if o.Unsafe && len(p.reasons) == 0 {
		return Verdict{State: Skipped, By: ByUnsafe, Reason: "the proof is skipped, as --unsafe-online asks",
			Evidence: append(p.evidence, Evidence{"command line", "--unsafe-online", "given", "removes while pushes may run", Note}),
			Remedy:   []string{}}, nil
	}
	if o.Unsafe {
		return p.verdict(), nil
	}
	if o.Stopped {
		p.add(OK, "command line", "--registry-stopped", "given", "you say that no registry runs")
	}
	p.askNamed(ctx, named)
	p.askOwn(ctx, named)
	if err := ctx.Err(); err != nil {
		return Verdict{}, fmt.Errorf("ask the registry: %w", context.Cause(ctx))
	}
	p.readConfig(ctx)
	p.readUploads()
	return p.verdict(), nil
}

// proof is the evidence so far, and the facts that the rules need.
type proof struct {
	options  Options
	evidence []Evidence
	// steps are the steps that the user has to take. Each step is one of several remedies.
	steps [][]remedy
	// reasons are the reasons to refuse. Only the first reason for each By is reported.
	reasons map[By]string

	// reached counts the endpoints that prove: all their addresses are read-only.
	reached int
	// served is an address at which this storage is served, or "".
	served string
	// obeys is set if config.yml's own address serves this storage and is read-only.
	obeys bool
}

func (p *proof) add(result Result, subject, check, seen, meaning string) {
	p.evidence = append(p.evidence, Evidence{subject, check, seen, meaning, result})
}

func (p *proof) refuse(by By, reason string, remedies ...remedy) {
	if p.reasons == nil {
		p.reasons = map[By]string{}
	}
	if _, known := p.reasons[by]; !known {
		p.reasons[by] = reason
	}
	var step []remedy
	for _, r := range remedies {
		switch {
		case p.options.Stopped && (r.kind == sayStopped || r.kind == nameAll):
			continue // the user has said so, and another address would not change it
		case r == (remedy{nameAll, ""}):
			r = p.nameAll()
		}
		step = append(step, r)
	}
	p.steps = append(p.steps, step)
}

// stop returns the remedy to stop the registry at an address. Without --registry-stopped the remedy also
// asks for this flag.
func (p *proof) stop(address string) remedy {
	if p.options.Stopped {
		return remedy{stopIt, address}
	}
	return remedy{sayStopped, ""}
}

// configPath returns the target if it is a config.yml, otherwise "".
func (p *proof) configPath() string {
	if p.options.Config.Registry == nil {
		return ""
	}
	return p.options.Config.Target
}

// askNamed probes the endpoints that the user named.
func (p *proof) askNamed(ctx context.Context, named []endpoint) {
	for _, findings := range askAll(ctx, p.options, named) {
		p.judge(findings, !p.options.Stopped)
	}
}

// askOwn probes the address in config.yml. The endpoints that the user named must be resolved.
func (p *proof) askOwn(ctx context.Context, named []endpoint) {
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
	for _, n := range named {
		if n.url.Scheme == e.url.Scheme {
			e.alsoNamed = append(e.alsoNamed, n.addresses...)
		}
	}
	findings := askAll(ctx, p.options, []endpoint{e})[0]
	p.obeys = slices.ContainsFunc(findings, func(f finding) bool { return f.state == readOnly })
	p.judge(findings, decides)
}

// judge applies the rules to the addresses of one endpoint. If decides is false, the endpoint can
// only refuse, and proves nothing.
func (p *proof) judge(findings []finding, decides bool) {
	disregard(findings)
	proven := len(findings) > 0
	for i := range findings {
		f := &findings[i]
		if f.ours {
			p.served = f.subject
		}
		switch {
		case f.state == readOnly, f.state == disregarded:
			if !decides {
				f.soften("")
			}
		case decides:
			proven = false
			p.judgeDeciding(f)
		case p.speaksAgainst(f):
			p.judgeAgainst(f)
		default:
			f.soften("")
		}
		p.judgeTruth(f)
		p.evidence = append(p.evidence, f.evidence...)
	}
	if proven && decides {
		p.reached++
	}
}

// disregard marks addresses that do not matter beside the other addresses of their endpoint: the
// other loopback address of this machine, if nothing listens there, and addresses of a family
// (IPv4, IPv6) that this machine does not support.
func disregard(findings []finding) {
	ours := func(matches func(finding) bool) bool {
		return slices.ContainsFunc(findings, func(f finding) bool { return f.ours && matches(f) })
	}
	for i := range findings {
		f := &findings[i]
		switch {
		case f.loopback && (f.state == silent || f.state == noRoute) && ours(func(other finding) bool { return other.loopback }):
			f.soften("nothing listens there; the registry listens on this machine's other loopback address")
		case f.state == noRoute && ours(func(other finding) bool { return other.v6 != f.v6 }) &&
			!slices.ContainsFunc(findings, func(other finding) bool { return other.v6 == f.v6 && other.state != noRoute }):
			f.soften("this machine does not speak this family of addresses; the host's others were asked")
		default:
			continue
		}
		f.state = disregarded
	}
}

// judgeDeciding refuses because of an address that is not read-only.
func (p *proof) judgeDeciding(f *finding) {
	switch f.state {
	case writable:
		p.judgeWritable(f)
	case caching:
		p.refuse(ByProxy, f.subject+" is a pull-through cache, which writes whenever somebody pulls", p.stop(f.subject))
	case foreign:
		p.refuse(ByOtherStorage, f.subject+" serves another storage than this one", append(f.remedies, remedy{sayStopped, ""})...)
	case lacking:
		p.refuse(ByOtherStorage, "the registry at "+f.subject+" has repositories that this storage lacks", f.remedies...)
	case silent:
		p.refuse(ByUnknown, "nothing answers at "+f.subject+", which proves nothing: the registry may run elsewhere, or be restarting", f.remedies...)
	case noRoute:
		p.refuse(ByUnknown, f.subject+" can't be reached from this machine", f.remedies...)
	default:
		p.refuse(ByUnknown, f.subject+": "+f.doubt(), f.remedies...)
	}
}

// speaksAgainst reports whether an address refuses although it can't prove: a registry there may
// write to this storage. A registry that accepts pushes refuses unless it was found to serve
// another storage: it may only be too slow or too busy to show what it serves. If the user says
// that the registry is stopped, any registry that answers refuses.
func (p *proof) speaksAgainst(f *finding) bool {
	if p.options.Stopped {
		return f.answered && f.state != foreign
	}
	return f.state == writable || f.ours && (f.state == caching || f.state == troubled || f.state == lacking)
}

func (p *proof) judgeAgainst(f *finding) {
	if p.options.Stopped {
		f.remedies = append(f.remedies, remedy{stopIt, f.subject})
	}
	switch f.state {
	case writable, caching, troubled, lacking:
		p.judgeDeciding(f)
	default:
		p.refuse(ByUnknown, "a registry answers at "+f.subject+", although you say that it is stopped", f.remedies...)
	}
}

func (p *proof) judgeWritable(f *finding) {
	reason := f.subject + " takes pushes"
	ways := []remedy{{setReadOnly, p.configPath()}}
	if r := p.options.Config.Registry; r != nil && r.ReadOnly.Enabled {
		ways = []remedy{{restart, p.configPath()}}
		reason += ", although config.yml says read-only"
	}
	if p.options.Stopped {
		reason += ", although you say that it is stopped"
	}
	p.refuse(ByWritable, reason, append(ways, p.stop(f.subject))...)
}

// nameAll returns the remedy nameAll, with the address that clients use if config.yml has it.
func (p *proof) nameAll() remedy {
	if r := p.options.Config.Registry; r != nil {
		if u, err := url.Parse(r.HTTP.Host); err == nil && u.Host != "" {
			return remedy{nameAll, u.Scheme + "://" + u.Host + strings.TrimRight(r.HTTP.Prefix, "/")}
		}
	}
	return remedy{nameAll, ""}
}

// readConfig adds the settings in config.yml as evidence, which prove nothing, and the signs of a
// pull-through cache.
func (p *proof) readConfig(ctx context.Context) {
	r := p.options.Config.Registry
	if r == nil {
		if len(p.options.Endpoints) == 0 && !p.options.Stopped {
			p.add(Unknown, "target", "a registry's address", "a storage only", "says nothing of the registry that uses it")
			p.refuse(ByUnknown, "nothing is known of the registry that uses this storage", remedy{nameAll, ""}, remedy{sayStopped, ""})
		}
	} else {
		p.readReadOnly()
		if r.ProxyRemote != "" {
			p.judgeProxy("config.yml", "proxy.remoteurl", r.ProxyRemote, "the registry is a pull-through cache of "+r.ProxyRemote)
		}
	}
	if found, known := p.beside(ctx, layout.ProxyStateFile); known && found {
		p.judgeProxy("storage", layout.ProxyStateFile, "is there", "a pull-through cache uses this storage ("+layout.ProxyStateFile+" is there)",
			remedy{removeState, layout.ProxyStateFile})
	}
}

// judgeProxy refuses because of a sign of a pull-through cache that may run.
func (p *proof) judgeProxy(subject, check, seen, reason string, remedies ...remedy) {
	if p.options.Stopped && p.served == "" {
		p.add(Note, subject, check, seen, "a pull-through cache, which you say is stopped")
		return
	}
	p.add(Against, subject, check, seen, "a pull-through cache writes whenever somebody pulls, read-only or not")
	p.refuse(ByProxy, reason+", which writes whenever somebody pulls", append(remedies, p.stop(p.served))...)
}

// beside checks whether the storage has a file of another program. If that can't be read, it is
// unknown, and the proof refuses.
func (p *proof) beside(ctx context.Context, path string) (found, known bool) {
	if p.options.Store == nil || p.options.Quick {
		return false, false
	}
	found, err := p.options.Store.Beside(ctx, path)
	if err != nil {
		p.add(Unknown, "storage", path, cause(err), "whether it is there is not known")
		p.refuse(ByUnknown, "whether "+path+" is in the storage is not known", remedy{readIt, path})
	}
	return found, err == nil
}

func (p *proof) readReadOnly() {
	const check = "storage.maintenance.readonly.enabled"
	setting := p.options.Config.Registry.ReadOnly
	_, taken := p.reasons[ByWritable]
	result, seen, meaning := Note, "not set", "config.yml does not make the registry read-only"
	switch {
	case setting.Enabled && taken:
		result, seen, meaning = Against, "true", "the registry that runs does not obey: it was not restarted, or reads another file"
	case setting.Enabled:
		seen, meaning = "true", "a registry that starts with it is read-only; one that runs may have started before"
	case setting.Set:
		seen = "false"
	}
	if setting.Problem != "" {
		meaning = "it has no effect: " + setting.Problem
	}
	p.add(result, "config.yml", check, seen, meaning)
}

// readUploads applies the rule for the last upload or push.
func (p *proof) readUploads() {
	u := p.options.LastUpload
	if u == nil {
		return
	}
	subject, check, what := "uploads", "touched last", "an upload "+u.Where()+" was touched"
	if u.ID == "" {
		subject, check, what = "links", "written last", "an image was pushed to "+u.Repository
	}
	age := p.options.now().Sub(u.Touched)
	seen := fmt.Sprintf("%s, %s ago", u.Where(), age.Round(time.Second))
	if age < 0 {
		// The storage's clock is ahead of this machine's clock, so the age is unknown.
		seen = fmt.Sprintf("%s, %s in the future", u.Where(), (-age).Round(time.Second))
	}
	switch {
	case age >= RecentUpload:
		p.add(OK, subject, check, seen, "no push under way")
	case p.options.Stopped:
		p.add(Note, subject, check, seen, "somebody pushed just now; you say that the registry is stopped")
	case p.obeys && p.options.Config.Registry.ReadOnly.Enabled && !u.Touched.After(p.options.Config.Changed.Add(inventory.ClockTick)):
		p.add(Note, subject, check, seen, "before config.yml was changed, which says read-only")
	case !u.Touched.After(p.options.Closed.Add(inventory.ClockTick)):
		p.add(Note, subject, check, seen, "before the registry was made read-only")
	default:
		reason := fmt.Sprintf("%s less than %d minutes ago, perhaps through another replica", what, int(RecentUpload.Minutes()))
		if age < -inventory.ClockTick {
			reason = fmt.Sprintf("%s at %s, which is in the future: a push is under way, or a clock was wrong (then give its files the present time with touch)", what, u.Touched.UTC().Format(time.RFC3339))
		}
		p.add(Against, subject, check, seen, "somebody pushed just now, perhaps through a registry that was not asked")
		p.refuse(ByRecentUpload, reason, remedy{wait, u.Touched.Add(RecentUpload).UTC().Format(time.RFC3339)}, remedy{sayStopped, ""})
	}
}

// verdict applies the rules in the order that Prove gives.
func (p *proof) verdict() Verdict {
	v := Verdict{State: Proven, Evidence: append([]Evidence{}, p.evidence...), Remedy: []string{}}
	for _, by := range []By{ByOtherTruth, ByWritable, ByOtherStorage, ByProxy, ByUnknown, ByRecentUpload} {
		if reason, found := p.reasons[by]; found {
			v.State, v.By, v.Reason = Refused, by, reason
			v.Steps, v.Remedy = texts(p.steps)
			v.proof = p
			return v
		}
	}
	switch {
	case p.options.Stopped:
		v.By, v.Reason = ByOperator, "you say that the registry is stopped"
	case len(p.options.Endpoints) > 0 && p.reached == len(p.options.Endpoints):
		v.By, v.Reason = ByReadOnly, "every registry that you named is read-only"
	case len(p.options.Endpoints) == 0 && p.reached == 1:
		v.By, v.Reason = ByReadOnly, "the registry is read-only"
	default:
		// The rules neither refuse nor prove. Without a proof the verdict is a refusal.
		v.State, v.By, v.Reason = Refused, ByUnknown, "nothing proves that the registry is read-only or stopped"
		v.Steps, v.Remedy = texts([][]remedy{{{nameAll, ""}, {sayStopped, ""}}})
	}
	return v
}

// askAll probes every address of every endpoint, several at once. It returns the findings in
// the order of the endpoints.
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

// doubt is the meaning of the first evidence that is against removal or unknown.
func (f *finding) doubt() string {
	for _, e := range f.evidence {
		if e.Result == Unknown || e.Result == Against {
			return e.Meaning
		}
	}
	return "it is not known whether it takes pushes"
}

// soften turns the evidence of a finding into notes, and replaces its meaning unless meaning
// is "".
func (f *finding) soften(meaning string) { f.weigh(Note, meaning) }

func (f *finding) weigh(result Result, meaning string) {
	for i := range f.evidence {
		f.evidence[i].Result = result
		if meaning != "" {
			f.evidence[i].Meaning = meaning
		}
	}
}
