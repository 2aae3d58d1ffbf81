package sweep

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync/atomic"
	"time"

	"regsweep/storage"
)

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

// Execute removes what the plan lists, kind by kind: all of one kind has been
// confirmed before the next begins. It stops, with an error and a Result of what was
// removed until then, when ctx is done (the error is then ctx's cause) or when the
// storage refuses a removal; then the kinds that follow are not touched, since what
// a link leads to must not go before it. Running again goes on from there.
func (p *Plan) Execute(ctx context.Context, remover storage.Remover, options ExecuteOptions) (Result, error) {
	options.Bulk.Objects = cmp.Or(options.Bulk.Objects, storage.RemoveBatch)
	options.Bulk.Calls = cmp.Or(options.Bulk.Calls, 4)
	e := &execution{plan: p, remover: remover, options: options, result: Result{Removed: map[Kind]Tally{}}}
	for _, kind := range Kinds {
		e.result.Removed[kind] = Tally{}
	}
	if p.executed {
		return e.result, ErrExecuted
	}
	p.executed = true
	for i := range table {
		kind, remove := &table[i], e.remove
		if kind.form == Directories {
			remove = e.removeDirectories
		}
		if err := remove(ctx, kind); err != nil {
			return e.result, fmt.Errorf("remove %s: %w", kind.kind, err)
		}
	}
	for _, dirs := range [][]string{p.left(), p.empty} {
		if _, err := e.removeEmpty(ctx, dirs); err != nil {
			return e.result, err
		}
	}
	gone, err := e.removeEmpty(ctx, p.emptyNames)
	e.result.Removed[EmptyDirectory] = Tally{Count: gone}
	return e.result, err
}

// execution is one execution of a plan.
type execution struct {
	plan    *Plan
	remover storage.Remover
	options ExecuteOptions
	result  Result
}

// remove removes all of one kind. It keeps a bounded number of batches under way, and takes their
// outcomes in as they come.
func (e *execution) remove(ctx context.Context, kind *row) error {
	type answer struct {
		batch
		outcomes []storage.Outcome
	}
	answers := make(chan answer)
	count := kind.len(e.plan)
	underWay, next, failures := 0, 0, 0
	var failed error
	for {
		for failed == nil && ctx.Err() == nil && underWay < e.options.Bulk.Calls && next < count {
			if kind.form == Content && e.options.BeforeBlobs != nil {
				if failed = e.options.BeforeBlobs(ctx); failed != nil {
					break
				}
			}
			b := e.plan.batch(kind, next, e.options.Bulk.Objects)
			next = b.end()
			underWay++
			go func() { answers <- answer{b, e.send(ctx, b)} }()
		}
		if underWay == 0 {
			break
		}
		a := <-answers
		underWay--
		n, err := e.confirm(a.batch, a.outcomes)
		failures += n
		failed = cmp.Or(failed, err)
	}
	if ctx.Err() != nil && (failed != nil || next < count) {
		return context.Cause(ctx)
	}
	if failures > 1 {
		return fmt.Errorf("%w (and %d more)", failed, failures-1)
	}
	return failed
}

// batch is a run of removals of one kind, for one call of Remove. The objects of one removal are never
// divided.
type batch struct {
	kind   *row
	first  int // its place among the removals of the kind
	refs   []storage.Ref
	counts []int // refs of each removal
}

func (b batch) end() int { return b.first + len(b.counts) }

// batch takes as many removals from first on as fit in a batch of so many objects.
func (p *Plan) batch(kind *row, first, objects int) batch {
	b := batch{kind: kind, first: first}
	for b.end() < kind.len(p) {
		refs := p.refs(kind, b.end())
		if len(b.refs) > 0 && len(b.refs)+len(refs) > objects {
			break
		}
		b.refs = append(b.refs, refs...)
		b.counts = append(b.counts, len(refs))
	}
	return b
}

// removals yields the outcomes of each removal, with its place among those of its kind.
func (b batch) removals(outcomes []storage.Outcome) iter.Seq2[int, []storage.Outcome] {
	return func(yield func(int, []storage.Outcome) bool) {
		for i, n := range b.counts {
			if !yield(b.first+i, outcomes[:n]) {
				return
			}
			outcomes = outcomes[n:]
		}
	}
}

// grace is how long a batch that was sent may take to be answered once the run is
// being stopped. Without it an interruption could not tell what it had removed.
const grace = 30 * time.Second

// send removes the objects of a batch. It waits for the answers to what it has sent, for as long as the
// grace if ctx is done. Whether anything more is sent is up to the lease of ctx, which each removal
// asks: after an interruption the batch goes on to its end, after the loss of the lock or of the proof
// it does not.
func (e *execution) send(ctx context.Context, b batch) []storage.Outcome {
	sent, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(grace, cancel) })
	defer stop()
	var outcomes []storage.Outcome
	for refs := range slices.Chunk(b.refs, storage.RemoveBatch) {
		outcomes = append(outcomes, e.remover.Remove(sent, refs)...)
	}
	if b.kind.form == Files {
		e.removeLeft(sent, b, outcomes)
	}
	return outcomes
}

// removeLeft removes the directories of uploads whose files have gone and that are not empty. A
// directory that can't be removed has a file in it which was not listed: then the upload has not gone.
func (e *execution) removeLeft(ctx context.Context, b batch, outcomes []storage.Outcome) {
	for i, of := range b.removals(outcomes) {
		removal, last := b.kind.removal(e.plan, i), len(of)-1
		hasFailed := slices.ContainsFunc(of, func(o storage.Outcome) bool { return o.Err != nil })
		if last < 0 || hasFailed || !of[last].DirLeft || removal.Repository == "" {
			continue
		}
		gone, err := e.remover.Prune(ctx, removal.Path)
		switch {
		case errors.Is(err, storage.ErrNotBegun):
			of[last].Err = err
		case err != nil:
			of[last].Err = fmt.Errorf("%w: %w", errFilesLeft, err)
		case !gone:
			of[last].Err = errFilesLeft
		}
	}
}

// errFilesLeft is for an upload of which a file was left. It is no reason to stop: no upload keeps
// anything alive.
var errFilesLeft = errors.New("its directory still holds what was not listed")

// confirm counts what has gone, and what has not with the first reason. A removal has
// gone when all its objects have.
func (e *execution) confirm(b batch, outcomes []storage.Outcome) (failures int, first error) {
	var done Tally
	for i, of := range b.removals(outcomes) {
		removal, outcome := e.plan.removalOf(b.kind, i), whole(of)
		e.result.Versions.Add(outcome.Versions, outcome.VersionBytes)
		switch err := outcome.Err; {
		case errors.Is(err, storage.ErrNotBegun): // the storage has refused nothing
			first = cmp.Or(first, err)
		case errors.Is(err, errFilesLeft):
			e.result.fail(removal, err)
		case err != nil:
			failures++
			first = cmp.Or(first, fmt.Errorf("%s: %w", removal.Path, err))
			e.result.fail(removal, err)
		case outcome.Hidden:
			done.Add(1, 0)
			e.result.Hidden += removal.Bytes
		default:
			hardLinked := min(outcome.HardLinkedBytes, removal.Bytes) // 0 for a link
			if done.Add(1, removal.Bytes-hardLinked); hardLinked > 0 {
				e.result.HardLinked.Add(1, hardLinked)
			}
		}
	}
	e.confirmed(b.kind.kind, done)
	return failures, first
}

// whole is the outcome of a removal, from those of its objects.
func whole(of []storage.Outcome) (whole storage.Outcome) {
	for _, o := range of {
		whole.Versions += o.Versions
		whole.VersionBytes = addBytes(whole.VersionBytes, o.VersionBytes)
		whole.Hidden = whole.Hidden || o.Hidden
		whole.HardLinkedBytes += o.HardLinkedBytes
		// A refusal says more than a removal that has not begun.
		if o.Err != nil && (whole.Err == nil || errors.Is(whole.Err, storage.ErrNotBegun)) {
			whole.Err = o.Err
		}
	}
	return whole
}

func (e *execution) confirmed(kind Kind, done Tally) {
	tally := e.result.Removed[kind]
	tally.Add(done.Count, done.Bytes)
	e.result.Removed[kind] = tally
	if e.options.OnRemoved != nil {
		e.options.OnRemoved(kind, done)
	}
}

// errNotEmpty is for a repository of which nothing is left but what a scan does not
// look at, such as a temporary file beside a link. It is no reason to stop.
var errNotEmpty = errors.New("it still holds files or symbolic links that are not part of the layout")

// removeDirectories removes all of a kind that has directories alone, such as the repositories in which
// nothing is left.
func (e *execution) removeDirectories(ctx context.Context, kind *row) error {
	for i := range kind.len(e.plan) {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		removal := e.plan.removalOf(kind, i)
		gone := true
		for _, dir := range kind.dirs(removal) {
			goes, err := e.remover.Prune(ctx, dir)
			if err != nil {
				if !errors.Is(err, storage.ErrNotBegun) {
					e.result.fail(removal, err)
				}
				return err
			}
			gone = gone && goes
		}
		if !gone {
			e.result.fail(removal, errNotEmpty)
			continue
		}
		e.confirmed(kind.kind, Tally{Count: 1})
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

// removeEmpty removes directories if they are empty, and counts those that it removed. An
// interrupted run, or a deletion through the registry's API, leaves such directories.
func (e *execution) removeEmpty(ctx context.Context, dirs []string) (removed int, err error) {
	var gone atomic.Int64
	err = storage.Each(ctx, len(dirs), e.options.Bulk.Calls, func(ctx context.Context, i int) error {
		isGone, err := e.remover.Prune(ctx, dirs[i])
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
