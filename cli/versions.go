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

// lookForVersions asks whether the bucket keeps versions and, with --purge-versions, finds
// those of what goes. From then on g.remover is what removes.
func (g *gcRun) lookForVersions(ctx context.Context, plan *sweep.Plan) error {
	g.remover = g.store
	versioner, is := g.store.(storage.Versioner)
	if !is || plan.Len() == 0 {
		return nil
	}
	bucket, err := versioner.Versioning(ctx)
	if err != nil {
		return err
	}
	if g.options.quarantine {
		g.report.Quarantine.Hidden = bucket == storage.VersionsKept
		return nil
	}
	g.report.Versions = &versionsReport{Bucket: bucket, Purge: g.options.purgeVersions && bucket != storage.VersionsOff}
	switch {
	case !g.report.Versions.Purge && bucket == storage.VersionsSuspended:
		return g.findDestroyed(ctx, versioner, plan)
	case !g.report.Versions.Purge:
		return nil
	}
	phase := g.progress.begin("looking for versions", "", 0)
	recorded, err := quarantine.ReadRecorded(ctx, g.store, "")
	if err != nil {
		phase.end("")
		return fmt.Errorf("--purge-versions must know which versions a quarantine records: %w; run without --purge-versions, or purge that quarantine", err)
	}
	versions, err := versioner.Versions(ctx, plan.Refs(), recorded.Has)
	phase.end("")
	if err = errors.Join(err, recorded.Close()); err != nil {
		return fmt.Errorf("--purge-versions: %w", err)
	}
	g.remover = versions
	g.report.Versions.Garbage = sweep.Tally{Count: versions.Count, Bytes: versions.Bytes}
	return nil
}

// findDestroyed finds what a plain removal destroys where versioning is suspended: versions
// that were written since, or before the bucket kept any. Without the permission to list
// versions, everything counts as hidden.
func (g *gcRun) findDestroyed(ctx context.Context, versioner storage.Versioner, plan *sweep.Plan) error {
	phase := g.progress.begin("looking for versions", "", 0)
	versions, err := versioner.Versions(ctx, plan.Refs(), func(path, version string) (bool, error) { return false, nil })
	phase.end("")
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil
	case err != nil:
		return err
	}
	g.remover = versions.WhileSuspended
	g.report.Versions.DestroyedBytes = versions.NullBytes
	return nil
}
