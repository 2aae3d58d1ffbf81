package s3

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"regsweep/storage"
)

// A server that is no S3 server may send answers without an end. They must not fill the memory.
func TestS3AnswersWithoutAnEndAreCutOff(t *testing.T) {
	if testing.Short() {
		t.Skip("the race detector makes much of many bytes, and nothing else is done at the same time")
	}
	much := []byte(strings.Repeat("x", 1<<20))
	for name, status := range map[string]int{"a listing": http.StatusOK, "an error": http.StatusBadRequest, "a busy server": http.StatusServiceUnavailable} {
		t.Run(name, func(t *testing.T) {
			var sent atomic.Int64
			fake := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/xml")
				w.WriteHeader(status)
				for {
					n, err := w.Write(much)
					sent.Add(int64(n))
					if err != nil {
						return
					}
				}
			}))
			defer fake.Close()
			s := openFake(t, fake)
			err := s.Scan(t.Context(), storage.RepositoriesDir, func([]storage.Object) error { return nil })
			if err == nil || !strings.Contains(err.Error(), "it is not that of an S3 server") {
				t.Errorf("got %v", err)
			}
			// Several requests may be under way before the first has failed.
			if n := sent.Load(); n > 8*answerLimit {
				t.Errorf("%d MiB were taken", n>>20)
			}
		})
	}
}
