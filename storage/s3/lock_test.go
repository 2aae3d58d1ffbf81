package s3

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"regsweep/internal/miniotest"
	"regsweep/storage"
	"regsweep/storage/storagetest"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// TestALockLeavesNoVersions: in a bucket that keeps versions each refresh makes one. None is left,
// not even those of a run that was killed or of a run that has left a delete marker.
func TestALockLeavesNoVersions(t *testing.T) {
	t.Parallel()
	b := newVersionedBucket(t)
	b.plant(lockFile+".other", "of somebody") // 11 bytes, which b.want counts too
	lock := func() {
		t.Helper()
		version, err := b.Create(t.Context(), lockFile, []byte("one"))
		if err != nil {
			t.Fatal(err)
		}
		for _, content := range []string{"two", "three", "a taker's", "its refresh"} {
			if version, err = b.Replace(t.Context(), lockFile, []byte(content), version); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.Delete(t.Context(), lockFile, version); err != nil {
			t.Error(err)
		}
	}
	lock()
	b.want(lockFile, "11*")
	b.plant(lockFile, "of an earlier version of regsweep")
	b.hide(lockFile)
	lock()
	b.want(lockFile, "11*")

	// A lock of another writer is kept.
	first, err := b.Create(t.Context(), lockFile, []byte("ours"))
	if err == nil {
		_, err = b.Replace(t.Context(), lockFile, []byte("theirs"), first)
	}
	if err != nil {
		t.Fatal(err)
	}
	before := len(b.versions(lockFile))
	if err := b.Delete(t.Context(), lockFile, first); !errors.Is(err, storage.ErrLost) || len(b.versions(lockFile)) != before {
		t.Errorf("another's lock is removed: %v", err)
	}
	_, version, err := b.Version(t.Context(), lockFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Delete(t.Context(), lockFile, version); err != nil {
		t.Error(err)
	}
	b.want(lockFile, "11*")

	setVersioning(t, b.server, b.bucket, types.BucketVersioningStatusSuspended)
	lock()
	b.want(lockFile, "11* marker*") // the marker is replaced by each run
	if content, _, err := b.Version(t.Context(), lockFile+".other"); err != nil || string(content) != "of somebody" {
		t.Errorf("beside it there is %q, %v", content, err)
	}
}

// TestALockIsReleasedWithoutThePermissionForVersions: its versions are only hidden by a delete
// marker.
func TestALockIsReleasedWithoutThePermissionForVersions(t *testing.T) {
	t.Parallel()
	b := newVersionedBucket(t)
	var asked atomic.Bool
	proxy := spoil(t, b.server, func(r *http.Request) {
		if r.URL.Query().Has("versions") {
			asked.Store(true)
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), "Signature=", "Signature=0", 1))
		}
	}, func(*http.Response) error { return nil })
	parameters := b.server.Parameters(b.bucket, "")
	parameters["regionendpoint"] = proxy.URL
	store := storagetest.MustOpen(t)(Open(t.Context(), parameters, Options{}))
	version, err := store.Create(t.Context(), lockFile, []byte("one"))
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Delete(t.Context(), lockFile, version); err != nil || !asked.Load() {
		t.Errorf("asked for versions: %t, %v", asked.Load(), err)
	}
	if _, _, err := store.Version(t.Context(), lockFile); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is there: %v", err)
	}
}

// TestALockOfWhichAVersionIsInUse: after a 409 the removal is retried, and no version is left.
func TestALockOfWhichAVersionIsInUse(t *testing.T) {
	t.Parallel()
	b := newVersionedBucket(t)
	var refused atomic.Int64
	isRemoval := func(r *http.Request) bool {
		return r.URL.Query().Has("delete") || r.Method == http.MethodDelete && r.URL.Query().Has("versionId")
	}
	proxy := spoil(t, b.server, func(r *http.Request) {
		if isRemoval(r) && refused.Load() < 2 {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), "Signature=", "Signature=0", 1))
		}
	}, func(r *http.Response) error {
		if isRemoval(r.Request) && r.StatusCode == http.StatusForbidden {
			refused.Add(1)
			r.StatusCode, r.Status, r.ContentLength = http.StatusConflict, "409 Conflict", -1
			r.Header.Del("Content-Length")
			r.Body = io.NopCloser(strings.NewReader("<Error><Code>ConcurrentModification</Code></Error>"))
		}
		return nil
	})
	parameters := b.server.Parameters(b.bucket, "")
	parameters["regionendpoint"] = proxy.URL
	store := storagetest.MustOpen(t)(Open(t.Context(), parameters, Options{}))
	version, err := store.Create(t.Context(), lockFile, []byte("one"))
	if err == nil {
		version, err = store.Replace(t.Context(), lockFile, []byte("two"), version)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Delete(t.Context(), lockFile, version); err != nil || refused.Load() != 2 {
		t.Errorf("after %d refusals: %v", refused.Load(), err)
	}
	b.want(lockFile, "")
}

// TestALockIsReleasedWhereObjectLockRetainsIt: its versions are only hidden by a delete marker.
func TestALockIsReleasedWhereObjectLockRetainsIt(t *testing.T) {
	t.Parallel()
	server := miniotest.SharedMinIO(t)
	bucket := strings.ToLower("locked-" + rand.Text())
	locks := true
	if _, err := server.Client().CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &bucket, ObjectLockEnabledForBucket: &locks}); err != nil {
		t.Fatal(err)
	}
	days := int32(1)
	_, err := server.Client().PutObjectLockConfiguration(t.Context(), &s3.PutObjectLockConfigurationInput{
		Bucket: &bucket, ObjectLockConfiguration: &types.ObjectLockConfiguration{
			ObjectLockEnabled: types.ObjectLockEnabledEnabled,
			Rule:              &types.ObjectLockRule{DefaultRetention: &types.DefaultRetention{Mode: types.ObjectLockRetentionModeCompliance, Days: &days}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	store := storagetest.MustOpen(t)(Open(t.Context(), server.Parameters(bucket, ""), Options{}))
	for range 2 {
		version, err := store.Create(t.Context(), lockFile, []byte("one"))
		if err != nil {
			t.Fatal(err)
		}
		if version, err = store.Replace(t.Context(), lockFile, []byte("two"), version); err != nil {
			t.Fatal(err)
		}
		if err := store.Delete(t.Context(), lockFile, version); err != nil {
			t.Error(err)
		}
		if _, _, err := store.Version(t.Context(), lockFile); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("it is there: %v", err)
		}
	}
}

// TestS3RemovesALockOnACondition: the server is a fake, since MinIO ignores the condition.
func TestS3RemovesALockOnACondition(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		heeds    bool // the condition of a removal
		status   int  // of a removal with a condition, if that is an error
		loses    bool // the answer to the first removal
		becomes  string
		want     error
		removals int32
	}{
		"heeds it":                          {heeds: true, removals: 1},
		"heeds it, and another was faster":  {heeds: true, becomes: "theirs", want: storage.ErrLost, removals: 1},
		"loses the answer":                  {heeds: true, loses: true, removals: 1},
		"does not know it":                  {status: http.StatusNotImplemented, removals: 2},
		"ignores it":                        {removals: 1},
		"another's lock was read":           {becomes: "read", want: storage.ErrLost},
		"the lease ended while it was read": {becomes: "leaseless", want: context.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			content := "ours"
			if test.becomes == "read" {
				content = "theirs"
			}
			var removals atomic.Int32
			store, _ := fakeServer(t, func(_ int, w http.ResponseWriter, r *http.Request) {
				if content == "" {
					writeFault(w, 404, "NoSuchKey")
					return
				}
				etag := `"` + content + `"`
				if r.Method != http.MethodDelete {
					w.Header().Set("ETag", etag)
					w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
					if r.Method == http.MethodGet {
						w.Write([]byte(content))
						if test.becomes == "theirs" {
							content = test.becomes
						}
					}
					return
				}
				n := removals.Add(1)
				condition := r.Header.Get("If-Match")
				switch {
				case test.status != 0 && condition != "":
					writeFault(w, test.status, "NotImplemented")
				case test.heeds && condition != etag:
					writeFault(w, http.StatusPreconditionFailed, "PreconditionFailed")
				default:
					content = ""
					if test.loses && n == 1 {
						reset(w)
						return
					}
					w.WriteHeader(http.StatusNoContent)
				}
			})
			ctx := t.Context()
			if test.becomes == "leaseless" {
				ctx = storage.WithLease(ctx, func(context.Context) error { return context.DeadlineExceeded })
			}
			if err := store.Delete(ctx, lockFile, "ours"); !errors.Is(err, test.want) || removals.Load() != test.removals {
				t.Errorf("%v after %d removals, want %v after %d", err, removals.Load(), test.want, test.removals)
			}
			if gone := content == ""; gone != (test.want == nil) {
				t.Errorf("it is gone: %t", gone)
			}
		})
	}
}

const lockFile = storage.OwnDir + "/lock"
