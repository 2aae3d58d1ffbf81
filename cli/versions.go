package cli

import (
	"context"
	"errors"
	"fmt"

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
	if !g.report.Versions.Purge {
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
