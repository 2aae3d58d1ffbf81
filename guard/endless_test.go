package guard

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

// endless is a fake server. It answers every connection with a beginning, and then repeats the
// same text until the client closes the connection.
func endless(t *testing.T, begin, again string) (address string, sent *atomic.Int64) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	sent = new(atomic.Int64)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			if err := connection.(*net.TCPConn).SetWriteBuffer(1 << 16); err != nil {
				t.Error(err)
			}
			text := begin
			for err == nil {
				var n int
				n, err = io.WriteString(connection, text)
				sent.Add(int64(n))
				text = again
			}
			if err := connection.Close(); err != nil {
				t.Error(err)
			}
		}
	}()
	t.Cleanup(func() {
		if err := listener.Close(); err != nil {
			t.Error(err)
		}
		<-done
	})
	return listener.Addr().String(), sent
}

// An answer without an end takes little memory, and no more time than the timeout.
func TestAnswersWithoutAnEndAreCutOff(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\nDocker-Distribution-Api-Version: registry/2.0\r\n"
	const most = 6 << 20 // bytes, with those in the kernel's buffers of each connection
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		connection, err := new(net.Dialer).DialContext(ctx, network, address)
		if err == nil {
			err = connection.(*net.TCPConn).SetReadBuffer(1 << 16)
		}
		return connection, err
	}
	much := strings.Repeat("x", 1<<16)
	for name, answer := range map[string]struct{ begin, again string }{
		"no line":          {"", much},
		"a body":           {ok + "\r\n", much},
		"chunks":           {ok + "Transfer-Encoding: chunked\r\n\r\n", "10000\r\n" + much + "\r\n"},
		"a chunk's length": {ok + "Transfer-Encoding: chunked\r\n\r\n5;", much},
		"a header":         {ok + "X-Long: ", much},
		"headers":          {ok, strings.Repeat("X-Header: value\r\n", 1000)},
		"early hints":      {"", strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", 1000)},
		"a refusal":        {"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"", much},
	} {
		t.Run(name, func(t *testing.T) {
			address, sent := endless(t, answer.begin, answer.again)
			if v := prove(t, Options{Endpoints: []string{"http://" + address}, Dial: dial}); v.MayRemove() {
				t.Errorf("proven:\n%s", table(v))
			}
			tokens := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+address+`/token",service="registry"`)
				w.WriteHeader(http.StatusUnauthorized)
			}))
			defer tokens.Close()
			wantRefused(t, prove(t, Options{Endpoints: []string{tokens.URL}, Dial: dial}), ByUnknown, "token server")
			if n := sent.Load(); n > most {
				t.Errorf("%d bytes were taken", n)
			}
		})
	}
}
