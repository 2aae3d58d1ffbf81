package audit_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"regsweep/audit"
	"regsweep/internal/audittest"
	"regsweep/internal/imagetest"
	"regsweep/storage/storagetest"
)

// full is a disk that has no space left.
type full struct{ error }

func (f full) Write([]byte) (int, error) { return 0, f.error }

// asked counts how often somebody asks whether a context has ended.
type asked struct {
	context.Context
	times int
}

func (a *asked) Err() error { a.times++; return a.Context.Err() }

// If the disk is full, the files are reported as failed, and no further repository is marked for them.
func TestAFullDiskEndsTheFiles(t *testing.T) {
	tree := storagetest.NewTree(t)
	image := tree.Manifest("a", imagetest.Image(imagetest.OCI, imagetest.Layer(1, 10)))
	for i := range 300 { // more than a buffer of output
		tree.Tag("a", fmt.Sprint("v", i), image)
	}
	for _, name := range []string{"b", "c", "d"} {
		tree.Revision(name, image)
	}
	facts, _ := audittest.Read(t, tree.Root(), audittest.Bill)
	keepers, err := audit.NewKeepers(t.Context(), facts)
	if err != nil {
		t.Fatal(err)
	}
	disk, ctx := full{errors.New("no space left")}, &asked{Context: t.Context()}
	if err := keepers.WriteNcdu(ctx, disk, audit.Bytes{}); !errors.Is(err, disk.error) || ctx.times != 2 {
		t.Errorf("%v, after %d repositories", err, ctx.times)
	}
	if err := keepers.WritePage(disk, audit.Page{}); !errors.Is(err, disk.error) {
		t.Errorf("the page: %v", err)
	}
}
