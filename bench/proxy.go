package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Requests counts requests by kind.
type Requests struct {
	List   int64
	Get    int64
	Links  int64 // those of Get that read a link
	Head   int64
	Put    int64
	Delete int64
}

// Total is their sum.
func (r Requests) Total() int64 { return r.List + r.Get + r.Head + r.Put + r.Delete }

// proxy stands between a client and an S3 server addressed by path. It holds back
// the beginning of each answer for a while, as a network does, and counts.
type proxy struct {
	url    string
	server *http.Server

	after    func(time.Duration) <-chan time.Time // time.After, but in a test
	mu       sync.Mutex
	delay    time.Duration
	requests Requests
}

// newProxy starts a proxy on a loopback port of its own.
func newProxy(endpoint string) (*proxy, error) {
	to, err := url.Parse(endpoint)
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	p := &proxy{url: "http://" + listener.Addr().String(), after: time.After}
	forward := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Host = r.In.Host // it is signed
		},
		// Its own limits must be nobody's limits.
		Transport: &http.Transport{MaxIdleConns: 0, MaxIdleConnsPerHost: 4096, DisableCompression: true},
		// A client may give a request up. Anything else it will see as a fault of the server.
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() == nil {
				http.Error(w, err.Error(), http.StatusBadGateway)
			}
		},
		ModifyResponse: func(response *http.Response) error { return p.wait(response.Request.Context()) },
	}
	p.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.count(r)
		forward.ServeHTTP(w, r)
	})}
	go func() {
		if err := p.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			panic(err) // it can't listen any more: no figure would be worth anything
		}
	}()
	return p, nil
}

// close cuts all connections.
func (p *proxy) close() error { return p.server.Close() }

// setDelay sets what is added to each answer from now on.
func (p *proxy) setDelay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

// reset counts from zero again. There must be no request under way.
func (p *proxy) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests = Requests{}
}

func (p *proxy) counted() Requests {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.requests
}

func (p *proxy) wait(ctx context.Context) error {
	p.mu.Lock()
	delay := p.delay
	p.mu.Unlock()
	if delay == 0 {
		return nil
	}
	select {
	case <-p.after(delay):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *proxy) count(r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch {
	case r.Method == http.MethodGet && key == "":
		p.requests.List++
	case r.Method == http.MethodGet:
		p.requests.Get++
		if strings.HasSuffix(key, "/link") {
			p.requests.Links++
		}
	case r.Method == http.MethodHead:
		p.requests.Head++
	case r.Method == http.MethodDelete, r.Method == http.MethodPost && r.URL.Query().Has("delete"):
		p.requests.Delete++
	default:
		p.requests.Put++
	}
}
