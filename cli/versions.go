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

// versionsReport is the part of the report about the versions that a bucket keeps.
type versionsReport struct {
	Bucket storage.Versioning `json:"bucket"`
	Purge  bool               `json:"purge"`
	// Garbage counts the noncurrent versions of the garbage, and Removed those that were removed.
	// Both are 0 without --purge-versions.
	Garbage sweep.Tally `json:"garbage"`
	Removed sweep.Tally `json:"removed"`
	// DestroyedBytes counts the bytes that a removal frees if versioning is suspended.
	DestroyedBytes int64 `json:"destroyed_bytes,omitzero"`
}

// hides reports whether a removal hides objects, or may hide them, and so frees nothing.
func (v *versionsReport) hides() bool { return v != nil && v.Bucket != storage.VersionsOff && !v.Purge }

// findVersions asks whether the bucket keeps versions. With --purge-versions it lists the versions of the
// objects in the plan. It returns the remover to use instead of the store, or nil.
func (g *gcRun) findVersions(ctx context.Context, plan *sweep.Plan) (storage.Remover, error) {
	versioner, hasVersions := g.store.(storage.Versioner)
	if !hasVersions || plan.Len() == 0 {
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
	phase := g.progress.Begin("looking for versions", "", 0)
	recorded, err := quarantine.ReadRecorded(ctx, g.store, "")
	if err != nil {
		phase.End("")
		return nil, fmt.Errorf("--purge-versions must know which versions a quarantine records: %w; run without --purge-versions, or purge that quarantine", err)
	}
	versions, err := versioner.Versions(ctx, plan.Refs(), recorded.Has)
	phase.End("")
	if err = errors.Join(err, recorded.Close()); err != nil {
		return nil, fmt.Errorf("--purge-versions: %w", err)
	}
	g.report.Versions.Garbage = sweep.Tally{Count: versions.Count, Bytes: versions.Bytes}
	return versions, nil
}

// findDestroyed finds the versions that a removal destroys if versioning is suspended. They were written
// after the suspension, or before the bucket kept versions. Without the permission to list versions,
// everything counts as hidden.
func (g *gcRun) findDestroyed(ctx context.Context, versioner storage.Versioner, plan *sweep.Plan) (storage.Remover, error) {
	phase := g.progress.Begin("looking for versions", "", 0)
	versions, err := versioner.Versions(ctx, plan.Refs(), func(path, version string) (bool, error) { return false, nil })
	phase.End("")
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, nil
	case err != nil:
		return nil, err
	}
	g.report.Versions.DestroyedBytes = versions.NullBytes
	return versions.WhileSuspended, nil
}
