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

// admission is what may follow, before anything is listed.
type admission struct {
	proof guard.Options
	// survey is what was seen before the listing.
	survey inventory.Survey
	// mayRemove is false for a dry run and for an empty storage.
	mayRemove bool
	// refused is how a run that removes would end, for a dry run; nil if that is not known.
	refused error
}

// admit proves that nobody writes, or finds out for a dry run how a removal would be refused.
func (g *gcRun) admit(ctx context.Context, proof guard.Options) (admission, error) {
	if g.options.dryRun {
		refused, err := g.foresee(ctx, proof)
		return admission{proof: proof, refused: refused}, err
	}
	// Where nobody has pushed there is nothing to prove, nor to prove it by.
	isEmpty, err := inventory.IsEmpty(ctx, g.store)
	if err == nil && isEmpty {
		if err = g.requireLayout(ctx); err == nil {
			err = g.proveEmpty(ctx, proof)
		}
	}
	if isEmpty || err != nil {
		return admission{proof: proof}, err
	}
	// The registry is asked for some of what is tagged, to know that it serves this storage.
	phase := g.progress.begin("looking for tagged manifests", "", 0)
	survey, err := inventory.TakeSurvey(ctx, g.store, guard.MaxSamples, true)
	phase.end("")
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

// prove asks whether something may be removed now, and notes the verdict.
func (g *gcRun) prove(ctx context.Context, proof guard.Options) error {
	phase := g.progress.begin("asking the registry", "", 0)
	verdict, err := guard.Prove(ctx, proof)
	phase.end("")
	if err != nil {
		return err
	}
	if verdict.State == guard.Skipped {
		verdict.Reason = g.withoutProof()
	}
	g.report.Guard = &verdict
	if !verdict.MayRemove() {
		return &guard.RefusedError{Verdict: verdict}
	}
	return nil
}

// withLastPush adds a recent push to a refusal, as check does, so that a run says all reasons at
// once. A push is known only when all repositories are listed. A listing that fails changes nothing.
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

// withoutProof says what --unsafe-online means for a push.
func (g *gcRun) withoutProof() string {
	text := "the proof that nobody writes is skipped"
	if g.options.dryRun {
		text = "a run that removes would skip the proof that nobody writes"
	}
	return text + " (--unsafe-online): only --min-age " + (&age{g.options.minAge}).String() + " protects a push"
}

func (g *gcRun) warnOfSkipped() {
	if g.report.Guard.State == guard.Skipped {
		g.say("warning: " + g.report.Guard.Reason)
	}
}

// foresee says, in a dry run, how a removal would be refused whatever the registry answers.
// An empty storage has nothing to refuse.
func (g *gcRun) foresee(ctx context.Context, proof guard.Options) (refused, err error) {
	verdict, isRefused := guard.Signs(ctx, proof)
	if !isRefused && g.options.unsafe { // then nobody is asked
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

// proveEmpty refuses if the storage is empty and a registry that can be asked has
// repositories: the target is not what that registry serves.
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

// proveRecent proves before a question is asked if the listing has seen a recent push:
// otherwise the answer could be in vain.
func (g *gcRun) proveRecent(ctx context.Context, proof guard.Options) error {
	last := proof.LastUpload
	if g.options.yes || g.env.Terminal == nil || last == nil || g.env.Now().Sub(last.Touched) >= guard.RecentUpload {
		return nil
	}
	return g.prove(ctx, proof)
}

// withListing adds to the proof what the listing knows: the last upload and the last push, and which
// repositories and tags there are.
func (g *gcRun) withListing(ctx context.Context, proof guard.Options, inv *inventory.Inventory) (guard.Options, error) {
	if inv.Blobs() == 0 && len(inv.Repositories) == 0 && len(inv.Uploads) == 0 {
		if err := g.requireLayout(ctx); err != nil {
			return proof, err
		}
	}
	proof.LastUpload = lastUpload(inv)
	if last := proof.LastUpload; proof.Stopped && last != nil && g.env.Now().Sub(last.Touched) < guard.RecentUpload {
		g.progress.note(fmt.Sprintf("warning: an upload %s was touched less than %d minutes ago: is every registry on this storage stopped?",
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

// withRoots has the registry asked for manifests that stay: with --roots the target of a
// tag may be removed.
func (g *gcRun) withRoots(proof guard.Options, inv *inventory.Inventory, roots []*mark.Roots) guard.Options {
	if g.lists.roots == nil {
		return proof
	}
	var staying []guard.Sample
	for _, list := range roots {
		list.Linked(inv, func(repository, digest string) bool {
			staying = append(staying, guard.Sample{Repository: repository, Digest: digest})
			return len(staying) < guard.MaxSamples
		})
	}
	if len(staying) > 0 {
		proof.Samples = staying[:min(len(staying), guard.MaxSamples)]
	}
	return proof
}
