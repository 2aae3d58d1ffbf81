package s3

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"regsweep/storage"
)

// TestS3ServerThatNeverAnswers: it accepts connections, or answers for a while and stops, or
// stops within an answer. The error names the endpoint.
func TestS3ServerThatNeverAnswers(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]func(n int, w http.ResponseWriter, release chan struct{}){
		"from the start": func(_ int, _ http.ResponseWriter, release chan struct{}) { <-release },
		"within a body": func(_ int, w http.ResponseWriter, release chan struct{}) {
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, "<ListBucketResult>")
			w.(http.Flusher).Flush()
			<-release
		},
		"after two answers": func(n int, w http.ResponseWriter, release chan struct{}) {
			if n > 2 {
				<-release
			}
			io.WriteString(w, listing(fmt.Sprint(n), fmt.Sprint("blobs/", n)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			release := make(chan struct{})
			usual, asked := fakeServer(t, func(n int, w http.ResponseWriter, r *http.Request) { answer(n, w, release) })
			t.Cleanup(func() { close(release) }) // before the server closes, which waits for its answers
			var reports atomic.Int32
			opened, err := Open(t.Context(), map[string]any{
				"accesskey": "a", "secretkey": "s", "bucket": "bucket", "regionendpoint": usual.parameters.endpoint, "forcepathstyle": true,
			}, Options{
				Transport: storage.Transport{Haste: 500, Silence: 500},
				OnSilence: func(endpoint string, _ time.Time) {
					if reports.Add(1); endpoint != usual.parameters.endpoint {
						t.Errorf("silent is %s", endpoint)
					}
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			store := opened.(*Store)
			after, token := "", ""
			for err == nil {
				var page keyPage
				page, err = store.page(context.WithoutCancel(t.Context()), storage.BlobsDir, after, token)
				after, token = page.last, page.token
			}
			if !strings.Contains(err.Error(), "no answer from "+usual.parameters.endpoint) {
				t.Error(err)
			}
			if n := asked.Load(); n > 6 || reports.Load() < 1 {
				t.Errorf("%d requests, reported %d times", n, reports.Load())
			}
		})
	}
}
