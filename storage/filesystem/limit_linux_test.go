package filesystem

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"regsweep/internal/imagetest"
	"regsweep/internal/system/systemtest"
	"regsweep/inventory"
	"regsweep/storage"
	"regsweep/storage/layout"
	"regsweep/storage/storagetest"

	"github.com/opencontainers/go-digest"
)

// Limits.Concurrency bounds all calls of a store together.
func TestConcurrencyBoundsAllCalls(t *testing.T) {
	for _, limit := range []int{1, 3} {
		tree := storagetest.NewTree(t)
		var links []storage.Ref
		var emptied []string
		tree.Write(storage.QuarantineDir+"/file", "keeps this directory while others in it go")
		for i := range 12 {
			name := fmt.Sprintf("app%d", i)
			tree.Tag(name, "v1", tree.Manifest(name, imagetest.Image(imagetest.OCI, imagetest.Layer(uint64(i), 10))))
			garbage := tree.Blob(fmt.Appendf(nil, "garbage %d", i))
			tree.LayerLink(name, garbage)
			links = append(links, storage.Ref{Path: layout.LayerPath(name, garbage)})
			emptied = append(emptied, fmt.Sprintf("%s/emptied/%d", storage.QuarantineDir, i)) // no scan lists it
			tree.Mkdir(emptied[i])
		}
		store := storagetest.MustOpen(t)(Open(tree.Root(), storage.Limits{Concurrency: limit}))
		var under, most atomic.Int64
		systemtest.FailBelow(t, tree.Path(""), func(op, path string) error {
			if op == "close" {
				return nil
			}
			now := under.Add(1)
			for seen := most.Load(); now > seen && !most.CompareAndSwap(seen, now); seen = most.Load() {
			}
			runtime.Gosched()
			under.Add(-1)
			return nil
		})
		var calls sync.WaitGroup
		for i := range 4 {
			calls.Go(func() {
				if _, err := inventory.Take(t.Context(), store, inventory.Options{}); err != nil {
					t.Error(err)
				}
			})
			calls.Go(func() {
				for _, ref := range links {
					if _, err := store.Stat(t.Context(), ref.Path); err != nil {
						return // removed meanwhile
					}
				}
			})
			calls.Go(func() { store.Remove(t.Context(), links[i*3:i*3+3]) })
			calls.Go(func() {
				for _, dir := range emptied[i*3 : i*3+3] {
					if gone, err := store.Prune(t.Context(), dir); !gone || err != nil {
						t.Errorf("prune %s: %t, %v", dir, gone, err)
					}
				}
			})
			calls.Go(func() {
				for n := range 3 {
					from := fmt.Sprintf("%s/put%d/file%d", storage.QuarantineDir, i*3+n, i*3+n)
					if err := store.Put(t.Context(), from, strings.NewReader("content")); err != nil {
						t.Error(err)
					}
					if err := store.Move(t.Context(), []storage.Move{{From: from, To: from + ".moved/file"}})[0].Err; err != nil {
						t.Error(err)
					}
				}
			})
			calls.Go(func() {
				if err := store.Below(t.Context(), storage.BlobsDir, func([]storage.Object) error { return nil }); err != nil {
					t.Error(err)
				}
			})
		}
		calls.Wait()
		if got := most.Load(); got > int64(limit) || limit > 1 && got < 2 {
			t.Errorf("%d calls at once, with a limit of %d", got, limit)
		}
	}
}

// A removal that waits for its lease does not block the calls that renew the lease.
func TestALeaseIsRenewedByCalls(t *testing.T) {
	tree, _, image := smallRegistry(t)
	store := storagetest.MustOpen(t)(Open(tree.Root(), storage.Limits{Concurrency: 1}))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	asked, renewed := make(chan struct{}), make(chan struct{})
	ask := sync.OnceFunc(func() { close(asked) })
	go func() {
		<-asked
		if _, err := store.Stat(ctx, layout.BlobPath(image)); err != nil {
			t.Error(err)
		}
		close(renewed)
	}()
	leased := storage.WithLease(ctx, func(ctx context.Context) error {
		select {
		case <-renewed:
			return nil
		default:
		}
		ask()
		select {
		case <-renewed:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	if err := store.Remove(leased, []storage.Ref{{Path: layout.LayerPath("app", image)}, {Path: layout.RevisionPath("app", image)}})[0].Err; err != nil {
		t.Error(err)
	}
	<-renewed
}

// A large file that is written does not block the calls that refresh a lock.
func TestALockIsRefreshedWhileALargeFileIsWritten(t *testing.T) {
	tree, _, image := smallRegistry(t)
	store := storagetest.MustOpen(t)(Open(tree.Root(), storage.Limits{Concurrency: 1}))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	content := &endless{asked: make(chan struct{}), refreshed: make(chan struct{})}
	go func() {
		<-content.asked
		if _, err := store.Stat(ctx, layout.BlobPath(image)); err != nil {
			t.Error(err)
		}
		close(content.refreshed)
	}()
	if err := store.Put(ctx, layout.BlobPath(digest.FromString("large")), content); err != nil {
		t.Error(err)
	}
	<-content.refreshed
}

// endless has content until another call was made, and fails if that takes too long.
type endless struct {
	asked, refreshed chan struct{}
	read             int
}

func (e *endless) Seek(int64, int) (int64, error) { return 0, nil }

func (e *endless) Read(p []byte) (int, error) {
	if e.read == 0 {
		close(e.asked)
	}
	runtime.Gosched()
	select {
	case <-e.refreshed:
		return 0, io.EOF
	default:
	}
	if e.read += len(p); e.read > 100<<20 {
		return 0, errors.New("the other call waits")
	}
	return len(p), nil
}
