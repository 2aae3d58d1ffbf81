package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync/atomic"

	"regsweep/audit"
	"regsweep/inventory"
	"regsweep/storage"
)

// outside adds up everything that the inventory does not have.
func (a *analysis) outside(ctx context.Context) (out audit.Outside, err error) {
	err = a.store.Others(ctx, func(page []storage.Object) error {
		for _, object := range page {
			size := max(object.Size, 0)
			if strings.HasPrefix(object.Path, storage.QuarantineDir+"/") {
				out.Quarantine += size
			} else {
				out.Other += size
			}
		}
		return nil
	})
	if err != nil {
		return out, err
	}
	if err = a.countVersions(ctx, &out); err == nil {
		err = a.countParts(ctx, &out)
	}
	return out, err
}

// countVersions counts the noncurrent versions if the bucket keeps versions, or has kept them.
func (a *analysis) countVersions(ctx context.Context, out *audit.Outside) (err error) {
	versioner, hasVersions := a.store.(storage.Versioner)
	if !hasVersions {
		return nil
	}
	if out.Versioning, err = versioner.Versioning(ctx); err != nil || out.Versioning == storage.VersionsOff {
		return err
	}
	if out.Versioning == storage.VersionsUnknown {
		a.notCounted(out, "versions", errors.New("the server does not say whether the bucket keeps versions (s3:GetBucketVersioning)"))
		return nil
	}
	phase := a.progress.Begin("counting versions", "", 0)
	_, bytes, err := versioner.Noncurrent(ctx)
	phase.End("")
	if errors.Is(err, fs.ErrPermission) {
		a.notCounted(out, "versions", err)
		return nil
	}
	out.Versions = bytes
	return err
}

// countParts counts the parts of multipart uploads.
func (a *analysis) countParts(ctx context.Context, out *audit.Outside) error {
	counter, hasParts := a.store.(storage.PartCounter)
	if !hasParts {
		return nil
	}
	var uploads []storage.Ref
	add := func(all []inventory.Upload) {
		for _, u := range all {
			for _, ref := range u.Objects {
				if ref.Multipart != "" {
					uploads = append(uploads, ref)
				}
			}
		}
	}
	add(a.facts.Inventory.Uploads)
	for _, r := range a.facts.Inventory.Repositories {
		add(r.Uploads)
	}
	var sum atomic.Int64
	err := storage.Each(ctx, len(uploads), a.store.Concurrency(), func(ctx context.Context, i int) error {
		bytes, err := counter.PartBytes(ctx, uploads[i])
		sum.Add(bytes)
		return err
	})
	if errors.Is(err, fs.ErrPermission) {
		a.notCounted(out, "multipart", err)
		return nil
	}
	out.Multipart = sum.Load()
	return err
}

// notCounted warns that a line of the bill is not known.
func (a *analysis) notCounted(out *audit.Outside, line string, why error) {
	out.NotCounted = append(out.NotCounted, line)
	a.say(fmt.Sprintf("warning: %s: not counted: %v", line, why))
}
