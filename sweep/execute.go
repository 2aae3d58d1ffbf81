package sweep

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"regsweep/storage"
)

// Result is what was removed: nothing that the storage has not confirmed.
type Result struct {
	// Removed counts by kind. Bytes are those that the storage has given back.
	Removed map[Kind]Tally
	// Hidden counts the bytes of what is only out of sight (storage.Outcome), and still
	// paid for.
	Hidden int64
	// HardLinked counts the blobs and uploads that were removed while their files had other
	// hard links, and the bytes that were not freed for that.
	HardLinked Tally
	// Versions counts the noncurrent versions that went with what was removed.
	Versions Tally
	// Failed are the removals that the storage refused, up to a hundred.
	Failed []Failure
}

// Len is the number of removals that were done, out of Plan.Len.
func (r *Result) Len() int {
	n := 0
	for _, kind := range table {
		n += r.Removed[kind.kind].Count
	}
	return n
}

// Failure is a removal that did not happen, or not wholly.
type Failure struct {
	Removal
	Err error
}

// ExecuteOptions are how a plan is carried out.
type ExecuteOptions struct {
	// Bulk is the size of a batch, and how many are removed at once: the storage's own. What
	// is 0 in it is storage.RemoveBatch or 4.
	Bulk storage.Bulk
	// OnRemoved, if set, is told what was confirmed. It is called serially.
	OnRemoved func(kind Kind, tally Tally)
	// BeforeBlobs, if set, is called before each batch of blobs. Then no other kind of removal is
	// under way. An error of it ends the removal.
	BeforeBlobs func(ctx context.Context) error
}

// ErrExecuted is returned by Execute for a plan that was executed already.
var ErrExecuted = errors.New("the plan was executed already")

// grace is how long a batch that was sent may take to be answered once the run is
// being stopped. Without it an interruption could not tell what it had removed.
const grace = 30 * time.Second

// maxFailures bounds how many failures are kept for the report.
const maxFailures = 100

// Execute removes what the plan lists, kind by kind: all of one kind has been
// confirmed before the next begins. It stops, with an error and a Result of what was
// removed until then, when ctx is done (the error is then ctx's cause) or when the
// storage refuses a removal; then the kinds that follow are not touched, since what
// a link leads to must not go before it. Running again goes on from there.
func (p *Plan) Execute(ctx context.Context, remover storage.Remover, options ExecuteOptions) (Result, error) {
	result := Result{Removed: map[Kind]Tally{}}
	for _, kind := range table {
		result.Removed[kind.kind] = Tally{}
	}
	if p.executed {
		return result, ErrExecuted
	}
	p.executed = true
	options.Bulk.Objects = cmp.Or(options.Bulk.Objects, storage.RemoveBatch)
	options.Bulk.Calls = cmp.Or(options.Bulk.Calls, 4)
	for k := range table {
		kind, remove := &table[k], p.removeKind
		if kind.form == Directories {
			remove = p.prune
		}
		if err := remove(ctx, kind, remover, options, &result); err != nil {
			return result, fmt.Errorf("remove %s: %w", kind.kind, err)
		}
	}
	for _, dirs := range [][]string{p.left(), p.empty} {
		if _, err := tidy(ctx, remover, dirs, options.Bulk.Calls); err != nil {
			return result, err
		}
	}
	gone, err := tidy(ctx, remover, p.emptyNames, options.Bulk.Calls)
	result.Removed[EmptyDirectory] = Tally{Count: gone}
	return result, err
}

// batch is a run of removals of one kind, from first up to but without end, for one call of
// Remove. What one removal takes with it is never divided.
type batch struct {
	first, end int
	refs       []storage.Ref
	counts     []int // refs of each removal
}

// nextBatch takes as many removals from first on as fit in a batch of so many objects.
func (p *Plan) nextBatch(kind *row, first, objects int) batch {
	b := batch{first: first, end: first}
	for b.end < kind.len(p) {
		refs := p.refs(kind, b.end)
		if len(b.refs) > 0 && len(b.refs)+len(refs) > objects {
			break
		}
		b.refs = append(b.refs, refs...)
		b.counts = append(b.counts, len(refs))
		b.end++
	}
	return b
}

// removeKind keeps a bounded number of batches under way and takes their outcomes in
// as they come.
func (p *Plan) removeKind(ctx context.Context, kind *row, remover storage.Remover, options ExecuteOptions, result *Result) error {
	type answer struct {
		batch
		outcomes []storage.Outcome
	}
	answers := make(chan answer)
	underWay, next, failures := 0, 0, 0
	var failed error
	for {
		for failed == nil && ctx.Err() == nil && underWay < options.Bulk.Calls && next < kind.len(p) {
			if kind.form == Content && options.BeforeBlobs != nil {
				if failed = options.BeforeBlobs(ctx); failed != nil {
					break
				}
			}
			b := p.nextBatch(kind, next, options.Bulk.Objects)
			next = b.end
			underWay++
			go func() { answers <- answer{b, p.removeBatch(ctx, kind, remover, b)} }()
		}
		if underWay == 0 {
			break
		}
		a := <-answers
		underWay--
		n, err := p.confirm(kind, a.batch, a.outcomes, options, result)
		failures += n
		if failed == nil {
			failed = err
		}
	}
	if ctx.Err() != nil && (failed != nil || next < kind.len(p)) {
		return context.Cause(ctx)
	}
	if failures > 1 {
		return fmt.Errorf("%w (and %d more)", failed, failures-1)
	}
	return failed
}

// removeBatch waits for the answers to what it has sent, for as long as the grace if ctx is
// done. Whether anything more is sent is up to the lease of ctx, which each removal asks:
// after an interruption the batch goes on to its end, after the loss of the lock or of the
// proof it does not.
func (p *Plan) removeBatch(ctx context.Context, kind *row, remover storage.Remover, b batch) []storage.Outcome {
	sent, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(grace, cancel) })
	defer stop()
	var outcomes []storage.Outcome
	for refs := b.refs; len(refs) > 0; {
		n := min(len(refs), storage.RemoveBatch)
		outcomes = append(outcomes, remover.Remove(sent, refs[:n])...)
		refs = refs[n:]
	}
	if kind.form == Files {
		p.confirmFiles(sent, kind, remover, b, outcomes)
	}
	return outcomes
}

// confirmFiles removes the directories of uploads whose files have gone and that are not empty. A
// directory that can't be removed has a file in it which was not listed: then the upload has not gone.
func (p *Plan) confirmFiles(ctx context.Context, kind *row, remover storage.Remover, b batch, outcomes []storage.Outcome) {
	for i, n := range b.counts {
		of := outcomes[:n]
		outcomes = outcomes[n:]
		removal := kind.removal(p, b.first+i)
		hasFailed := slices.ContainsFunc(of, func(o storage.Outcome) bool { return o.Err != nil })
		if n == 0 || hasFailed || !of[n-1].DirLeft || removal.Repository == "" {
			continue
		}
		gone, err := remover.Prune(ctx, removal.Path)
		switch {
		case errors.Is(err, storage.ErrNotBegun):
			of[n-1].Err = err
		case err != nil:
			of[n-1].Err = fmt.Errorf("%w: %w", errFilesLeft, err)
		case !gone:
			of[n-1].Err = errFilesLeft
		}
	}
}

// errFilesLeft is for an upload of which a file was left. It is no reason to stop: no upload keeps
// anything alive.
var errFilesLeft = errors.New("its directory still holds what was not listed")

// confirm counts what has gone, and what has not with the first reason. A removal has
// gone when all its objects have.
func (p *Plan) confirm(kind *row, b batch, outcomes []storage.Outcome, options ExecuteOptions, result *Result) (failures int, first error) {
	var done Tally
	for i := b.first; i < b.end; i++ {
		n := b.counts[i-b.first]
		hidden, hardLinked := false, int64(0)
		var versions Tally
		var failure error
		for _, outcome := range outcomes[:n] {
			versions.Add(outcome.Versions, outcome.VersionBytes)
			hidden = hidden || outcome.Hidden
			hardLinked += outcome.HardLinkedBytes
			// A refusal says more than a removal that has not begun.
			if outcome.Err != nil && (failure == nil || errors.Is(failure, storage.ErrNotBegun)) {
				failure = outcome.Err
			}
		}
		outcomes = outcomes[n:]
		removal := p.removalOf(kind, i)
		result.Versions.Add(versions.Count, versions.Bytes)
		switch {
		case errors.Is(failure, storage.ErrNotBegun): // the storage has refused nothing
			first = cmp.Or(first, failure)
		case errors.Is(failure, errFilesLeft):
			result.fail(removal, failure)
		case failure != nil:
			failures++
			first = cmp.Or(first, fmt.Errorf("%s: %w", removal.Path, failure))
			result.fail(removal, failure)
		case hidden:
			done.Add(1, 0)
			result.Hidden += removal.Bytes
		default:
			hardLinked = min(hardLinked, removal.Bytes) // 0 for a link
			if done.Add(1, removal.Bytes-hardLinked); hardLinked > 0 {
				result.HardLinked.Add(1, hardLinked)
			}
		}
	}
	result.add(kind.kind, done, options)
	return failures, first
}

// add counts what was confirmed.
func (r *Result) add(kind Kind, done Tally, options ExecuteOptions) {
	tally := r.Removed[kind]
	tally.Add(done.Count, done.Bytes)
	r.Removed[kind] = tally
	if options.OnRemoved != nil {
		options.OnRemoved(kind, done)
	}
}

// fail notes a removal that did not happen.
func (r *Result) fail(removal Removal, err error) {
	if len(r.Failed) < maxFailures {
		r.Failed = append(r.Failed, Failure{removal, err})
	}
}

// errNotEmpty is for a repository of which nothing is left but what a scan does not
// look at, such as a temporary file beside a link. It is no reason to stop.
var errNotEmpty = errors.New("it still holds files or symbolic links that are not part of the layout")

// prune removes the directories of repositories in which nothing is left.
func (p *Plan) prune(ctx context.Context, kind *row, remover storage.Remover, options ExecuteOptions, result *Result) error {
	for i := range kind.len(p) {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		removal := p.removalOf(kind, i)
		gone := true
		for _, dir := range kind.dirs(removal) {
			goes, err := remover.Prune(ctx, dir)
			if err != nil {
				if !errors.Is(err, storage.ErrNotBegun) {
					result.fail(removal, err)
				}
				return err
			}
			gone = gone && goes
		}
		if !gone {
			result.fail(removal, errNotEmpty)
			continue
		}
		result.add(kind.kind, Tally{Count: 1}, options)
	}
	return nil
}

// left are the directories that removals have left.
func (p *Plan) left() []string {
	var dirs []string
	for _, kind := range table {
		if kind.leaves == nil {
			continue
		}
		for i := range kind.len(p) {
			dirs = append(dirs, kind.leaves(p, i))
		}
	}
	return dirs
}

// tidy removes directories if they are empty, and counts those that it removed. An
// interrupted run, or a deletion through the registry's API, leaves such directories.
func tidy(ctx context.Context, remover storage.Remover, dirs []string, atOnce int) (removed int, err error) {
	var gone atomic.Int64
	err = storage.Each(ctx, len(dirs), atOnce, func(ctx context.Context, i int) error {
		isGone, err := remover.Prune(ctx, dirs[i])
		if isGone {
			gone.Add(1)
		}
		return err
	})
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case err != nil:
		err = fmt.Errorf("remove empty directories: %w", err)
	}
	return int(gone.Load()), err
}
