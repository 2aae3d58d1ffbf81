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

// ExecuteOptions configure Execute.
type ExecuteOptions struct {
	// Bulk has the number of objects in a batch and the number of concurrent batches that suit
	// the storage. The defaults are storage.RemoveBatch objects and 4 batches.
	Bulk storage.Bulk
	// OnRemoved, if set, is called with the removals that the storage has confirmed. The calls
	// are serial.
	OnRemoved func(kind Kind, tally Tally)
	// BeforeBlobs, if set, is called before each batch of blobs is sent. All other kinds were
	// removed before. If it returns an error, no further batch is sent.
	BeforeBlobs func(ctx context.Context) error
}

// ErrExecuted is returned by Execute for a plan that was executed already.
var ErrExecuted = errors.New("the plan was executed already")

// Execute executes the removals of the plan, kind by kind. It begins a kind after all removals
// of the kind before are confirmed. It removes the largest blobs first: they free the most if the
// run ends early.
//
// It stops when the storage refuses a removal, and does not begin the next kind: a link must be
// removed before its target. It also stops when ctx is done. The error is then ctx's cause. With
// every error the Result has the removals until then. A new run removes the rest.
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
	for _, dirs := range [][]string{p.emptiedDirs(), p.empty} {
		if _, err := e.removeEmpty(ctx, dirs); err != nil {
			return e.result, err
		}
	}
	removed, err := e.removeEmpty(ctx, p.emptyNames)
	e.result.Removed[EmptyDirectory] = Tally{Count: removed}
	return e.result, err
}

type execution struct {
	plan    *Plan
	remover storage.Remover
	options ExecuteOptions
	result  Result
}

// remove executes all removals of one kind. It sends up to Bulk.Calls batches concurrently. Only
// the calling goroutine changes the result.
func (e *execution) remove(ctx context.Context, kind *row) error {
	type answer struct {
		batch
		outcomes []storage.Outcome
	}
	answers := make(chan answer)
	count := kind.len(e.plan)
	underWay, next, failures := 0, 0, 0
	var failed error
	var order []int32
	if kind.form == Content {
		order = largestFirst(count, func(i int) int64 { return kind.bytes(e.plan, i) })
	}
	for {
		for failed == nil && ctx.Err() == nil && underWay < e.options.Bulk.Calls && next < count {
			if kind.form == Content && e.options.BeforeBlobs != nil {
				if failed = e.options.BeforeBlobs(ctx); failed != nil {
					break
				}
			}
			b := e.plan.batch(kind, order, next, e.options.Bulk.Objects)
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

// batch has consecutive removals of one kind. All objects of a removal are in the same batch.
type batch struct {
	kind   *row
	order  []int32 // indexes of the removals of the kind in the order of their removal; nil for the plan's order
	first  int     // position of the first removal in that order
	refs   []storage.Ref
	counts []int // number of refs of each removal
}

func (b batch) end() int { return b.first + len(b.counts) }

// index returns the index among the removals of the kind.
func (b batch) index(position int) int {
	if b.order == nil {
		return position
	}
	return int(b.order[position])
}

// batch returns the removals from position first on, with at most the given number of objects. A
// removal with more objects gets a batch of its own.
func (p *Plan) batch(kind *row, order []int32, first, objects int) batch {
	b := batch{kind: kind, order: order, first: first}
	for b.end() < kind.len(p) {
		refs := p.refs(kind, b.index(b.end()))
		if len(b.refs) > 0 && len(b.refs)+len(refs) > objects {
			break
		}
		b.refs = append(b.refs, refs...)
		b.counts = append(b.counts, len(refs))
	}
	return b
}

// removals yields each removal's index among those of its kind, and the outcomes of its objects.
func (b batch) removals(outcomes []storage.Outcome) iter.Seq2[int, []storage.Outcome] {
	return func(yield func(int, []storage.Outcome) bool) {
		for i, n := range b.counts {
			if !yield(b.index(b.first+i), outcomes[:n]) {
				return
			}
			outcomes = outcomes[n:]
		}
	}
}

// grace is how long an interrupted run waits for the answers to a batch. Without it the run could not
// report which removals were done.
const grace = 30 * time.Second

// send removes the objects of a batch and returns their outcomes. When ctx is done, send waits for the
// answers for up to grace. Each removal checks the lease of ctx before it begins. So the batch is
// completed after an interruption, but not after the loss of the lock or of the proof.
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
		e.removeUploadDirs(sent, b, outcomes)
	}
	return outcomes
}

// removeUploadDirs removes the directories of uploads that were still there after their files were
// removed. If a directory is not empty, it has a file that was not listed. The upload then counts as
// not removed.
func (e *execution) removeUploadDirs(ctx context.Context, b batch, outcomes []storage.Outcome) {
	for i, of := range b.removals(outcomes) {
		removal, last := b.kind.removal(e.plan, i), len(of)-1
		hasFailed := slices.ContainsFunc(of, func(o storage.Outcome) bool { return o.Err != nil })
		if last < 0 || hasFailed || !of[last].DirLeft || removal.Repository == "" {
			continue
		}
		pruned, err := e.remover.Prune(ctx, removal.Path)
		switch {
		case errors.Is(err, storage.ErrNotBegun):
			of[last].Err = err
		case err != nil:
			of[last].Err = fmt.Errorf("%w: %w", errFilesLeft, err)
		case !pruned:
			of[last].Err = errFilesLeft
		}
	}
}

// errFilesLeft is the error of an upload that still has a file. The run goes on: no blob depends on
// an upload.
var errFilesLeft = errors.New("its directory still holds what was not listed")

// confirm adds the outcomes of a batch to the result. A removal is confirmed if all its objects were
// removed. confirm returns the number of refused removals, and the first error that must stop the run.
func (e *execution) confirm(b batch, outcomes []storage.Outcome) (failures int, first error) {
	var done Tally
	for i, of := range b.removals(outcomes) {
		removal, outcome := e.plan.removalOf(b.kind, i), combine(of)
		e.result.Versions.Add(outcome.Versions, outcome.VersionBytes)
		switch err := outcome.Err; {
		case errors.Is(err, storage.ErrNotBegun): // not a refusal of the storage
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

// combine returns the outcome of a removal, given the outcomes of its objects.
func combine(objects []storage.Outcome) (all storage.Outcome) {
	for _, o := range objects {
		all.Versions += o.Versions
		all.VersionBytes = addBytes(all.VersionBytes, o.VersionBytes)
		all.Hidden = all.Hidden || o.Hidden
		all.HardLinkedBytes += o.HardLinkedBytes
		// A refusal takes precedence over ErrNotBegun.
		if o.Err != nil && (all.Err == nil || errors.Is(all.Err, storage.ErrNotBegun)) {
			all.Err = o.Err
		}
	}
	return all
}

func (e *execution) confirmed(kind Kind, done Tally) {
	tally := e.result.Removed[kind]
	tally.Add(done.Count, done.Bytes)
	e.result.Removed[kind] = tally
	if e.options.OnRemoved != nil {
		e.options.OnRemoved(kind, done)
	}
}

// errNotEmpty is the error of a repository whose directory still has objects that are not part of the
// layout, such as a temporary file beside a link. The run goes on.
var errNotEmpty = errors.New("it still holds files or symbolic links that are not part of the layout")

// removeDirectories executes all removals of a kind whose form is Directories.
func (e *execution) removeDirectories(ctx context.Context, kind *row) error {
	for i := range kind.len(e.plan) {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		removal := e.plan.removalOf(kind, i)
		allPruned := true
		for _, dir := range kind.dirs(removal) {
			pruned, err := e.remover.Prune(ctx, dir)
			if err != nil {
				if !errors.Is(err, storage.ErrNotBegun) {
					e.result.fail(removal, err)
				}
				return err
			}
			allPruned = allPruned && pruned
		}
		if !allPruned {
			e.result.fail(removal, errNotEmpty)
			continue
		}
		e.confirmed(kind.kind, Tally{Count: 1})
	}
	return nil
}

// emptiedDirs returns the directories that the removals of the plan make empty.
func (p *Plan) emptiedDirs() []string {
	var dirs []string
	for _, kind := range table {
		if kind.emptiedDir == nil {
			continue
		}
		for i := range kind.len(p) {
			dirs = append(dirs, kind.emptiedDir(p, i))
		}
	}
	return dirs
}

// removeEmpty removes the directories that are empty, and returns their number. An interrupted run,
// or a deletion through the registry's API, leaves empty directories.
func (e *execution) removeEmpty(ctx context.Context, dirs []string) (int, error) {
	var removed atomic.Int64
	err := storage.Each(ctx, len(dirs), e.options.Bulk.Calls, func(ctx context.Context, i int) error {
		pruned, err := e.remover.Prune(ctx, dirs[i])
		if pruned {
			removed.Add(1)
		}
		return err
	})
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case err != nil:
		err = fmt.Errorf("remove empty directories: %w", err)
	}
	return int(removed.Load()), err
}
