package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"regsweep/guard"
	"regsweep/inventory"
	"regsweep/mark"
)

// admission is the result of admit.
type admission struct {
	proof guard.Options
	// survey has the names that were found before the listing.
	survey inventory.Survey
	// mayRemove is false for a dry run and for an empty storage.
	mayRemove bool
	// refused is for a dry run: the error with which a run that removes would end, or nil if that
	// is not known.
	refused error
}

// admit proves before the listing that nobody writes. For a dry run it only finds the refusal that does
// not depend on the answers of the registry.
func (g *gcRun) admit(ctx context.Context, proof guard.Options) (admission, error) {
	if g.options.dryRun {
		refused, err := g.predictRefusal(ctx, proof)
		return admission{proof: proof, refused: refused}, err
	}
	// An empty storage has nothing to remove, and no manifest to ask the registry for.
	isEmpty, err := inventory.IsEmpty(ctx, g.store)
	if err == nil && isEmpty {
		if err = g.requireLayout(ctx); err == nil {
			err = g.proveEmpty(ctx, proof)
		}
	}
	if isEmpty || err != nil {
		return admission{proof: proof}, err
	}
	// The registry is asked for some tagged manifests, which shows that it serves this storage.
	phase := g.progress.Begin("looking for tagged manifests", "", 0)
	survey, err := inventory.TakeSurvey(ctx, g.store, guard.MaxSamples, true)
	phase.End("")
	if err != nil {
		return admission{}, err
	}
	proof.Samples = samples(survey, g.options.deleteUntagged)
	if err := g.prove(ctx, proof); err != nil {
		return admission{}, g.withLastPush(ctx, proof, err)
	}
	g.warnOfSkipped()
	return admission{proof: proof, survey: survey, mayRemove: true}, nil
}

// prove asks the registry, and adds the verdict to the report. It returns a guard.RefusedError if nothing
// may be removed now.
func (g *gcRun) prove(ctx context.Context, proof guard.Options) error {
	phase := g.progress.Begin("asking the registry", "", 0)
	verdict, err := guard.Prove(ctx, proof)
	phase.End("")
	if err != nil {
		return err
	}
	if verdict.State == guard.Skipped {
		verdict.Reason = g.skippedReason()
	}
	g.report.Guard = &verdict
	if !verdict.MayRemove() {
		return &guard.RefusedError{Verdict: verdict}
	}
	return nil
}

// withLastPush adds a recent push to the reasons of a refusal, as check does. So the run prints all
// reasons at once. To find a push, it lists all repositories. If that fails, it returns err unchanged.
func (g *gcRun) withLastPush(ctx context.Context, proof guard.Options, err error) error {
	var refused *guard.RefusedError
	if !errors.As(err, &refused) || proof.Stopped || proof.Unsafe {
		return err
	}
	survey, failed := g.survey(ctx, g.store)
	if failed != nil {
		return err
	}
	if g.addSurveyPushes(ctx, &proof, g.store, survey) != nil {
		return err
	}
	verdict := refused.Verdict.WithLastUpload(proof.LastUpload)
	g.report.Guard = &verdict
	return &guard.RefusedError{Verdict: verdict}
}

// skippedReason returns the reason of the verdict for --unsafe-online: it says what protects a push.
func (g *gcRun) skippedReason() string {
	text := "the proof that nobody writes is skipped"
	if g.options.dryRun {
		text = "a run that removes would skip the proof that nobody writes"
	}
	return text + " (--unsafe-online): only --min-age " + (&age{g.options.minAge}).String() + " protects a push"
}

// warnOfSkipped prints a warning if the proof was skipped.
func (g *gcRun) warnOfSkipped() {
	if g.report.Guard.State == guard.Skipped {
		g.say("warning: " + g.report.Guard.Reason)
	}
}

// predictRefusal returns, for a dry run, the refusal that a run would get whatever the registry answers.
// It returns nil if there is none, or if the storage is empty.
func (g *gcRun) predictRefusal(ctx context.Context, proof guard.Options) (refused, err error) {
	verdict, isRefused := guard.Signs(ctx, proof)
	if !isRefused && g.options.unsafe { // no registry is asked
		if err := g.prove(ctx, proof); err != nil {
			return nil, err
		}
		g.warnOfSkipped()
	}
	if !isRefused {
		return nil, nil
	}
	if empty, err := inventory.IsEmpty(ctx, g.store); err != nil || empty {
		return nil, err
	}
	g.report.Guard = &verdict
	return &guard.RefusedError{Verdict: verdict}, nil
}

// proveEmpty returns an error if the storage is empty and the registry has repositories: then the registry
// serves another storage.
func (g *gcRun) proveEmpty(ctx context.Context, proof guard.Options) error {
	if g.options.unsafe {
		return nil
	}
	proof.HasRepository = func(string) bool { return false }
	err := g.prove(ctx, proof)
	var refused *guard.RefusedError
	if errors.As(err, &refused) && refused.Verdict.By != guard.ByOtherStorage {
		g.report.Guard = nil // there is nothing to remove
		return nil
	}
	return err
}

// proveIfPushed proves again before the question if the listing has found a recent push. A refusal after
// the question would make the answer useless.
func (g *gcRun) proveIfPushed(ctx context.Context, proof guard.Options) error {
	last := proof.LastUpload
	if g.options.yes || g.env.Terminal == nil || last == nil || g.env.Now().Sub(last.Touched) >= guard.RecentUpload {
		return nil
	}
	return g.prove(ctx, proof)
}

// withListing adds to the proof what the listing has found: the last upload, the last push, the
// repositories and the tags.
func (g *gcRun) withListing(ctx context.Context, proof guard.Options, inv *inventory.Inventory) (guard.Options, error) {
	if inv.Blobs() == 0 && len(inv.Repositories) == 0 && len(inv.Uploads) == 0 {
		if err := g.requireLayout(ctx); err != nil {
			return proof, err
		}
	}
	proof.LastUpload = lastUpload(inv)
	if last := proof.LastUpload; proof.Stopped && last != nil && g.env.Now().Sub(last.Touched) < guard.RecentUpload {
		g.say(fmt.Sprintf("warning: an upload %s was touched less than %d minutes ago: is every registry on this storage stopped?",
			last.Where(), int(guard.RecentUpload.Minutes())))
	}
	proof.HasRepository = func(name string) bool { return inv.Repository(name) != nil }
	proof.HasTag = func(repository, tag string) bool {
		r := inv.Repository(repository)
		return r != nil && r.HasTag(tag)
	}
	if g.options.dryRun {
		return proof, nil
	}
	pushed := map[string]time.Time{}
	for _, r := range inv.Repositories {
		pushed[r.Name] = r.Pushed
	}
	err := g.addLastPush(ctx, &proof, g.store, pushed)
	return proof, err
}

// lastUpload returns the upload that was touched last, or nil if there is none.
func lastUpload(inv *inventory.Inventory) *guard.Upload {
	var last *guard.Upload
	note := func(repository string, uploads []inventory.Upload) {
		for _, u := range uploads {
			if last == nil || u.Touched.After(last.Touched) {
				last = &guard.Upload{Repository: repository, ID: u.ID, Touched: u.Touched}
			}
		}
	}
	note("", inv.Uploads)
	for _, r := range inv.Repositories {
		note(r.Name, r.Uploads)
	}
	return last
}

// withKeptSamples replaces the samples of the proof if the run may remove the targets of tags: with --roots the
// registry is asked for manifests of the list, and with a policy for manifests that a remaining tag reaches.
func (g *gcRun) withKeptSamples(proof guard.Options, inv *inventory.Inventory, live *mark.Live, lists []*mark.ListRoots) guard.Options {
	var kept []guard.Sample
	if g.policy != nil || g.review.removesTags() {
		for i, r := range inv.Repositories {
			for at, cause := range live.Repositories[i].Revisions.All() {
				if id := r.Revisions[at].ID(); cause == mark.Tagged && inv.Stored(id) && len(kept) < guard.MaxSamples {
					kept = append(kept, guard.Sample{Repository: r.Name, Digest: string(inv.Digest(id))})
				}
			}
		}
		proof.Samples = kept
		return proof
	}
	if g.lists.roots == nil {
		return proof
	}
	for _, list := range lists {
		list.Linked(inv, func(repository, digest string) bool {
			kept = append(kept, guard.Sample{Repository: repository, Digest: digest})
			return len(kept) < guard.MaxSamples
		})
	}
	if len(kept) > 0 {
		proof.Samples = kept[:min(len(kept), guard.MaxSamples)]
	}
	return proof
}
