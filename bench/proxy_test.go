package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestTheProxyCountsByKindAndKeepsWhatIsSigned(t *testing.T) {
	var host string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host = r.Host
		if _, err := io.WriteString(w, r.Method+" "+r.URL.RequestURI()); err != nil {
			t.Error(err)
		}
	}))
	defer server.Close()
	p := startProxy(t, server.URL)
	for _, request := range []string{
		"GET /bucket?list-type=2", "GET /bucket/?uploads",
		"GET /bucket/blobs/data", "GET /bucket/a%2Fb/current/link", "HEAD /bucket/x", "PUT /bucket/x",
		"POST /bucket?delete", "DELETE /bucket/x",
	} {
		method, path, _ := strings.Cut(request, " ")
		if got := send(t, method, p.url+path); method != http.MethodHead && got != request {
			t.Errorf("%s arrived as %s", request, got)
		}
		if "http://"+host != p.url {
			t.Errorf("%s arrived at %s, and was signed for %s", request, host, p.url)
		}
	}
	want := Requests{List: 2, Get: 2, Links: 1, Head: 1, Put: 1, Delete: 2}
	if got := p.counted(); got != want {
		t.Errorf("counted %+v, want %+v", got, want)
	}
	if p.reset(); p.counted() != (Requests{}) {
		t.Errorf("after a reset: %+v", p.counted())
	}
}

func TestTheProxyDelaysEachAnswerAndNotOneAfterTheOther(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	p := startProxy(t, server.URL)
	const delay, together = 50 * time.Millisecond, 8
	p.setDelay(delay)
	waiting, over := make(chan time.Duration), make(chan time.Time)
	p.after = func(d time.Duration) <-chan time.Time { waiting <- d; return over }
	var answered atomic.Int32
	var all sync.WaitGroup
	for range together {
		all.Go(func() {
			send(t, http.MethodGet, p.url+"/bucket/x")
			answered.Add(1)
		})
	}
	for range together { // all of them wait at the same time
		if d := <-waiting; d != delay || answered.Load() > 0 {
			t.Errorf("a delay of %s, after %d answers", d, answered.Load())
		}
	}
	close(over)
	all.Wait()
}

func startProxy(t *testing.T, endpoint string) *proxy {
	t.Helper()
	p, err := newProxy(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func send(t *testing.T, method, url string) string {
	request, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Error(err)
		return ""
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Error(err)
		return ""
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Error(err)
	}
	if err := response.Body.Close(); err != nil {
		t.Error(err)
	}
	return string(body)
}
