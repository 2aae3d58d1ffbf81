package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"regsweep/quarantine"
	"regsweep/storage"
	"regsweep/sweep"
)

// versionsReport tells what a bucket keeps of what is removed.
type versionsReport struct {
	Bucket storage.Versioning `json:"bucket"`
	Purge  bool               `json:"purge"`
	// Garbage are the noncurrent versions of what goes, and Removed those that went;
	// without purge neither is looked for.
	Garbage sweep.Tally `json:"garbage"`
	Removed sweep.Tally `json:"removed"`
	// DestroyedBytes are what a removal frees where versioning is suspended.
	DestroyedBytes int64 `json:"destroyed_bytes,omitzero"`
}

// hides reports whether a removal frees nothing, or may not.
func (v *versionsReport) hides() bool { return v != nil && v.Bucket != storage.VersionsOff && !v.Purge }

// findVersions asks whether the bucket keeps versions and, with --purge-versions, finds those of
// what goes. It returns what removes instead of the store, or nil.
func (g *gcRun) findVersions(ctx context.Context, plan *sweep.Plan) (storage.Remover, error) {
	versioner, is := g.store.(storage.Versioner)
	if !is || plan.Len() == 0 {
		return nil, nil
	}
	bucket, err := versioner.Versioning(ctx)
	if err != nil {
		return nil, err
	}
	if g.options.quarantine {
		g.report.Quarantine.Hidden = bucket == storage.VersionsKept
		return nil, nil
	}
	g.report.Versions = &versionsReport{Bucket: bucket, Purge: g.options.purgeVersions && bucket != storage.VersionsOff}
	switch {
	case !g.report.Versions.Purge && bucket == storage.VersionsSuspended:
		return g.findDestroyed(ctx, versioner, plan)
	case !g.report.Versions.Purge:
		return nil, nil
	}
	phase := g.progress.begin("looking for versions", "", 0)
	recorded, err := quarantine.ReadRecorded(ctx, g.store, "")
	if err != nil {
		phase.end("")
		return nil, fmt.Errorf("--purge-versions must know which versions a quarantine records: %w; run without --purge-versions, or purge that quarantine", err)
	}
	versions, err := versioner.Versions(ctx, plan.Refs(), recorded.Has)
	phase.end("")
	if err = errors.Join(err, recorded.Close()); err != nil {
		return nil, fmt.Errorf("--purge-versions: %w", err)
	}
	g.report.Versions.Garbage = sweep.Tally{Count: versions.Count, Bytes: versions.Bytes}
	return versions, nil
}

// findDestroyed finds what a plain removal destroys where versioning is suspended: versions
// that were written since, or before the bucket kept any. Without the permission to list
// versions, everything counts as hidden.
func (g *gcRun) findDestroyed(ctx context.Context, versioner storage.Versioner, plan *sweep.Plan) (storage.Remover, error) {
	phase := g.progress.begin("looking for versions", "", 0)
	versions, err := versioner.Versions(ctx, plan.Refs(), func(path, version string) (bool, error) { return false, nil })
	phase.end("")
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, nil
	case err != nil:
		return nil, err
	}
	g.report.Versions.DestroyedBytes = versions.NullBytes
	return versions.WhileSuspended, nil
}
