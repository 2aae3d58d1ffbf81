package cli

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"regsweep/descriptors"
	"regsweep/guard"
	"regsweep/internal/dockerlogin"
	"regsweep/internal/human"
	"regsweep/internal/registryclient"
	"regsweep/quarantine"
	"regsweep/storage"
	"regsweep/sweep"
	"regsweep/verify"

	"github.com/opencontainers/go-digest"
	urfave "github.com/urfave/cli/v2"
)

const (
	repairName = "repair"
	refillName = "refill"

	repairLinks = "links"
	repairBlobs = "blobs"
	repairUntag = "untag-broken"
)

// mostRounds bounds the repetition of repairs. A fetched index shows which manifests are missing, and these show
// which layers are.
const mostRounds = 8

// repairFlags returns the flags of verify that change the storage, and those that say how to prove that nobody
// writes.
func repairFlags() []urfave.Flag {
	return append([]urfave.Flag{
		&urfave.StringSliceFlag{Name: repairName, Usage: "repair `WHAT`: links, blobs or untag-broken, also several with commas"},
		&urfave.StringFlag{Name: refillName, Usage: "fetch what is missing or wrong from `SOURCE`: a registry's URL, a directory, a bucket or a config.yml"},
		dryRunFlag("say what would be repaired, and change nothing"),
		toggle("yes", "do not ask before repairing", "y"),
	}, guardFlags()...)
}

// repair is a run that repairs. It holds the lock while it works.
type repair struct {
	*analysis
	g *gcRun // has the steps prove, lock and watch; its report has the verdict

	links, blobs, untag bool
	source              verify.Source // nil without --refill
	dryRun              bool
	intact              map[digest.Digest]bool // blobs that this run has read
}

// repairReport is the part of the report about repairs.
type repairReport struct {
	DryRun bool `json:"dry_run"`
	verify.Repairs
	// Quarantines are the runs to which blobs and tags were moved.
	Quarantines []string            `json:"quarantines"`
	Descriptors *descriptors.Report `json:"descriptors,omitempty"`
	Guard       *guard.Verdict      `json:"guard,omitempty"`

	isPlan bool // nothing was tried yet, and the text says what will be
}

// readRepair reads the flags. It returns nil if nothing is to be repaired.
func (a *analysis) readRepair(c *urfave.Context) (*repair, error) {
	r := &repair{analysis: a, dryRun: c.Bool("dry-run"), intact: map[digest.Digest]bool{}}
	for _, kind := range strings.Split(strings.Join(c.StringSlice(repairName), ","), ",") {
		switch strings.TrimSpace(kind) {
		case repairLinks:
			r.links = true
		case repairBlobs:
			r.blobs = true
		case repairUntag:
			r.untag = true
		default:
			if c.IsSet(repairName) {
				return nil, storage.Usagef("--%s: %q can't be repaired, only %s, %s and %s", repairName, kind, repairLinks, repairBlobs, repairUntag)
			}
		}
	}
	if !c.IsSet(repairName) && !c.IsSet(refillName) {
		if r.dryRun {
			return nil, storage.Usagef("--dry-run: verify changes nothing without --%s or --%s", repairName, refillName)
		}
		return nil, nil
	}
	if c.Bool(failedTagsName) {
		return nil, storage.Usagef("--%s prints only tags: leave out --%s and --%s", failedTagsName, repairName, refillName)
	}
	r.g = &gcRun{
		runner: a.runner, report: newReport("verify"), config: a.conf, store: a.store,
		options: gcOptions{dryRun: r.dryRun, yes: c.Bool("yes"), quiet: c.Bool("quiet")},
	}
	r.g.report.Descriptors = descriptors.NewReport(a.conf.Registry)
	var err error
	if address := c.String(refillName); registryclient.IsAddress(address) {
		tls, tlsErr := guard.TLSConfig(c.String("registry-cacert"), false) // a password may be sent to it
		if tlsErr != nil {
			return nil, tlsErr
		}
		r.source, err = verify.FromRegistry(c.Context, address, registryclient.Options{
			Credentials: dockerlogin.Remembered(a.env.Now, a.env.Getenv), TLS: tls,
		})
	} else if c.IsSet(refillName) {
		_, source, openErr := a.target(c, []string{address}, false)
		if openErr != nil {
			return nil, fmt.Errorf("--%s: %w", refillName, openErr)
		}
		r.source, err = verify.FromStorage(source, a.store)
	}
	if err == nil && !r.dryRun && !r.g.options.yes {
		err = a.canAsk() // before the listing, which may take an hour
	}
	return r, err
}

// run does the steps of a repair in their order: prove, lock, check, ask, prove again, repair, check again.
func (r *repair) run(c *urfave.Context, report *verifyReport) (err error) {
	report.Repairs = &repairReport{Repairs: noRepairs(), DryRun: r.dryRun, Quarantines: []string{}, Descriptors: r.g.report.Descriptors}
	defer func() { report.Repairs.Guard = r.g.report.Guard }()
	proof, err := r.guardOptions(c, r.conf, r.store)
	if err != nil {
		return err
	}
	ctx := c.Context
	admitted, err := r.g.admit(ctx, proof)
	if err != nil {
		return err
	}
	var cache *descriptors.Redis
	if admitted.mayRemove {
		var unlock func(error) error
		if ctx, unlock, err = r.g.lockForRun(ctx); err != nil {
			return err
		}
		defer func() { err = unlock(err) }()
		if cache, err = r.g.openDescriptors(ctx); err != nil {
			return err
		}
		defer cache.Close()
	}
	result, err := r.check(ctx, c, report, nil)
	if err != nil {
		return err
	}
	planned, err := r.plan(ctx, result)
	if err != nil {
		return err
	}
	report.Repairs.Repairs = planned
	if !admitted.mayRemove {
		return admitted.refused
	}
	if planned.Len() == 0 {
		return nil
	}
	proof, err = r.confirm(ctx, admitted.proof, report)
	report.Repairs.Repairs = noRepairs() // also if it is refused
	if err != nil {
		return err
	}
	watched, stop := guard.Watch(ctx, proof, r.env.ProbeInterval, nil)
	last, err := r.rounds(watched, c, report, result, cache)
	err = r.g.endWatch(watched, stop, err)
	if last != nil {
		last.MarkRepaired(result)
		report.show(last, r.facts.Inventory)
	}
	return err
}

// confirm proves that nobody writes, also by what was listed, and asks.
func (r *repair) confirm(ctx context.Context, proof guard.Options, report *verifyReport) (guard.Options, error) {
	proof, err := r.g.withListing(ctx, proof, r.facts.Inventory)
	if err != nil {
		return proof, err
	}
	if !r.g.options.yes {
		report.Repairs.isPlan = true
		_, err := r.g.ask(ctx, "Repair that?", func(w *bytes.Buffer, width int) { writeVerify(w, report, width) })
		if report.Repairs.isPlan = false; err != nil {
			return proof, err
		}
	}
	return proof, r.g.prove(ctx, proof)
}

func noRepairs() verify.Repairs {
	return verify.Repairs{Links: []verify.LinkRepair{}, Blobs: []verify.BlobRepair{}, Refilled: []verify.BlobRepair{}, Tags: []verify.TagRepair{}}
}

// plan returns what would be repaired now. What a fetched manifest shows to be missing is not known yet. It reads the blobs
// of the links that would be written, and those that would be moved.
func (r *repair) plan(ctx context.Context, result *verify.Result) (planned verify.Repairs, err error) {
	planned = noRepairs()
	if r.links {
		planned.Links = result.Links(r.facts.Inventory)
		if err := verify.CheckLinks(ctx, r.store, planned.Links, r.intact); err != nil {
			return planned, err
		}
	}
	if r.blobs {
		if planned.Blobs, err = verify.CheckWrong(ctx, r.store, result.Wrong(r.facts.Inventory)); err != nil {
			return planned, err
		}
	}
	if r.source != nil {
		for _, b := range result.Refillable() {
			planned.Refilled = append(planned.Refilled, verify.BlobRepair{Digest: b.Digest, Bytes: b.Bytes})
		}
	}
	if r.untag {
		if planned.Tags, err = result.CheckTags(ctx, r.store, result.Unpullable()); err != nil {
			return planned, err
		}
	}
	return planned, nil
}

// rounds repairs until a round repairs nothing new, and then removes the tags that are still broken. It returns the
// result of the last check.
func (r *repair) rounds(ctx context.Context, c *urfave.Context, report *verifyReport, result *verify.Result, cache *descriptors.Redis) (*verify.Result, error) {
	doubtful := append([]digest.Digest{}, result.Damaged()...) // not nil, or all content is read again
	for range mostRounds {
		repaired, err := r.round(ctx, report.Repairs, result, cache)
		if err != nil {
			return result, err
		}
		if repaired == 0 {
			break
		}
		if result, err = r.check(ctx, c, report, doubtful); err != nil {
			return result, err
		}
	}
	if !r.untag {
		return result, nil
	}
	tags, err := result.CheckTags(ctx, r.store, result.Unpullable())
	if err != nil || len(tags) == 0 {
		return result, err
	}
	plan := verify.Untagging(r.facts.Inventory, tags, r.env.Now())
	take, end, err := r.take(ctx, report.Repairs, plan, nil)
	if err != nil {
		return result, err
	}
	report.Repairs.Tags, err = verify.RemoveTags(ctx, r.store, plan, tags, take)
	if err = errors.Join(err, end()); err != nil {
		return result, err
	}
	return r.check(ctx, c, report, doubtful)
}

// round fetches what is missing, moves what is still wrong away, and writes links. It returns the number of repairs.
func (r *repair) round(ctx context.Context, done *repairReport, result *verify.Result, cache *descriptors.Redis) (repaired int, err error) {
	wrong := result.Wrong(r.facts.Inventory)
	plan := &sweep.Given{Storage: r.store.Identity(), Time: r.env.Now()}
	for _, b := range wrong {
		plan.Removals = append(plan.Removals, sweep.Take(b.Digest, b.Bytes, "its content is damaged"))
	}
	take, end := noTake, func() error { return nil }
	if len(wrong) > 0 && (r.blobs || r.source != nil) {
		if take, end, err = r.take(ctx, done, plan, cache); err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, end()) }()
	}
	moveAway := func(ctx context.Context, blob digest.Digest) error {
		for ref := range plan.Refs() {
			if strings.Contains(ref.Path, blob.Encoded()) {
				return verify.OrPrune(ctx, r.store, ref.Path, take(ctx, []storage.Ref{ref})[0].Err)
			}
		}
		return fmt.Errorf("%s was not found to be damaged", blob)
	}
	if r.source != nil {
		n, err := r.refill(ctx, done, result.Refillable(), moveAway)
		if repaired += n; err != nil {
			return repaired, err
		}
	}
	if r.blobs {
		moved, err := verify.MoveWrong(ctx, r.store, wrong, moveAway)
		for _, b := range moved {
			if b.Error == "" {
				repaired++
			}
		}
		done.Blobs = merged(done.Blobs, moved, byDigest)
		if err != nil {
			return repaired, err
		}
	}
	if r.links {
		links, err := verify.WriteLinks(ctx, r.store, result.Links(r.facts.Inventory), r.intact)
		for _, l := range links {
			if l.Error == "" {
				repaired++
			}
		}
		done.Links = merged(done.Links, links, func(l verify.LinkRepair) string { return l.Path })
		return repaired, err
	}
	return repaired, nil
}

// refill fetches blobs. It returns how many were written.
func (r *repair) refill(ctx context.Context, done *repairReport, blobs []verify.ToRefill, moveAway func(context.Context, digest.Digest) error) (written int, err error) {
	hasFailed := map[digest.Digest]bool{} // in an earlier round
	for _, b := range done.Refilled {
		hasFailed[b.Digest] = b.Error != ""
	}
	blobs = slices.DeleteFunc(blobs, func(b verify.ToRefill) bool { return hasFailed[b.Digest] })
	if len(blobs) == 0 {
		return 0, nil
	}
	phase := r.progress.Begin("fetching", "blob", len(blobs))
	outcomes, err := verify.Refill(ctx, r.store, r.source, blobs, verify.RefillOptions{
		MoveAway: moveAway, OnFetched: func(n int) { phase.AddBytes(0, int64(n)) },
	})
	var refilled []verify.BlobRepair
	for i, o := range outcomes {
		if o.Err == nil {
			phase.Add(1)
		}
		b := verify.BlobRepair{Digest: blobs[i].Digest, Bytes: o.Bytes}
		switch {
		case o.Err != nil:
			b.Error = o.Err.Error()
		case !o.Written:
			continue
		default:
			written++
		}
		refilled = append(refilled, b)
	}
	done.Refilled = merged(done.Refilled, refilled, byDigest)
	phase.EndWith("fetched", err)
	return written, err
}

// merged returns the outcomes of all rounds. A later one takes the place of an earlier one with the same key.
func merged[T any](earlier, later []T, key func(T) string) []T {
	isLater := map[string]bool{}
	for _, outcome := range later {
		isLater[key(outcome)] = true
	}
	return append(slices.DeleteFunc(earlier, func(o T) bool { return isLater[key(o)] }), later...)
}

func byDigest(b verify.BlobRepair) string { return string(b.Digest) }

func noTake(_ context.Context, refs []storage.Ref) []storage.Outcome {
	return make([]storage.Outcome, len(refs))
}

// take begins a quarantine for the objects of a plan. end must be called.
func (r *repair) take(ctx context.Context, done *repairReport, plan *sweep.Given, cache *descriptors.Redis) (take func(context.Context, []storage.Ref) []storage.Outcome, end func() error, err error) {
	if err := cache.Forget(ctx, plan); err != nil {
		return nil, nil, err
	}
	taker, err := quarantine.Begin(ctx, r.store, plan, r.env.Now(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	return taker.Remove, func() error {
		err := taker.End(context.WithoutCancel(ctx))
		if taker.Run != "" {
			done.Quarantines = append(done.Quarantines, taker.Run)
		}
		return errors.Join(err, cache.ForgetAgain(ctx, plan))
	}, nil
}

// writeRepairs prints what was repaired, or what would be, and what failed.
func writeRepairs(w io.Writer, r *repairReport) {
	var failed []string
	fail := func(what, problem string) bool {
		if problem != "" {
			failed = append(failed, human.Printable(what+": "+problem))
		}
		return problem == ""
	}
	links, blobs, refilled, tags, bytes := 0, 0, 0, 0, int64(0)
	for _, l := range r.Links {
		if fail(l.Path, l.Error) {
			links++
		}
	}
	for _, b := range r.Blobs {
		if fail(b.Digest.String(), b.Error) {
			blobs++
		}
	}
	for _, b := range r.Refilled {
		if fail(b.Digest.String(), b.Error) {
			refilled, bytes = refilled+1, bytes+b.Bytes
		}
	}
	for _, t := range r.Tags {
		if fail(t.Repository+":"+t.Tag, t.Error) {
			tags++
		}
	}
	var parts []string
	part := func(n int, before, noun, after string) {
		if n > 0 {
			parts = append(parts, before+human.Plural(n, noun)+after)
		}
	}
	fetched := " fetched"
	if bytes > 0 {
		fetched += ", " + human.Size(bytes)
	}
	part(links, "", "link", " written again")
	part(refilled, "", "blob", fetched)
	part(blobs, "", "damaged blob", " moved to the quarantine")
	part(tags, "", "tag", " removed")
	switch text := strings.Join(parts, "; "); {
	case r.DryRun && text == "":
		fmt.Fprintln(w, "Dry run: there is nothing that these repairs could cure.")
	case r.DryRun:
		fmt.Fprintf(w, "Dry run: nothing was repaired. A run would try this: %s.\n", text)
	case r.isPlan:
		fmt.Fprintf(w, "This will be tried: %s.\n", text)
	case text != "":
		fmt.Fprintf(w, "Repaired: %s.\n", text)
	default:
		fmt.Fprintln(w, "Nothing was repaired.")
	}
	for _, run := range r.Quarantines {
		fmt.Fprintf(w, "The quarantine has what was moved, as %s.\n", run)
	}
	if text := r.Descriptors.Text(); text != "" && !r.DryRun {
		fmt.Fprintln(w, text)
	}
	for i, text := range failed {
		if i == shownFailures {
			fmt.Fprintln(w, "  and more that failed: see --json")
			break
		}
		fmt.Fprintf(w, "  not repaired: %s\n", text)
	}
}
