package run

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/evlog"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// TestHTTPNetKilled: an HTTP server on the kernel's stack goes on serving while
// the process of the network is killed again and again. A request that had been
// sent may get ECONNRESET; one on a new connection succeeds, and none hangs.
// RUMPUS_LONG is a minute of it with a kill a second.
func TestHTTPNetKilled(t *testing.T) {
	kills, pause := 5, 100*time.Millisecond
	if longTests {
		kills, pause = 60, time.Second
	}
	h := boot(t, "components:\n  vfs: {}\n  net: {restart: {budget: 1000, wait: 60s}}\nmounts:\n  - {dir: /, type: tmpfs}\n")
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	c, asks := h.client(), h.client()
	l, err := c.Listen(ctx, "tcp", "127.0.0.1:8080")
	c.must(err)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/stays" { // an answer that does not end before its connection
			w.(http.Flusher).Flush()
			<-r.Context().Done()
			return
		}
		io.WriteString(w, "hello from "+r.URL.Path)
	})}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	tr := &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return asks.Dial(ctx, network, addr)
		},
		DisableKeepAlives: true,
	}
	hc := &http.Client{Transport: tr}
	get := func(path string) (string, error) {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, "GET", "http://127.0.0.1:8080"+path, nil)
		if err != nil {
			return "", err
		}
		resp, err := hc.Do(req)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		return string(b), err
	}
	// Who asks all the time: a connection that the death cut is told at once.
	stop, done := make(chan struct{}), make(chan struct{})
	var answered, cut atomic.Int64
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			body, err := get("/always")
			switch {
			case err == nil && body == "hello from /always":
				answered.Add(1)
			case abi.ErrnoOf(err) == abi.ECONNRESET || abi.ErrnoOf(err) == abi.EPIPE, errors.Is(err, io.EOF): // EOF: the write before it was told
				cut.Add(1)
			default:
				t.Errorf("a request: %q, %v", body, err)
				return
			}
		}
	}()
	next := c.watchEvents()
	for range kills {
		time.Sleep(pause) // how often, not when
		stays := make(chan error, 1)
		began := make(chan struct{})
		go func() {
			nc, err := asks.Dial(ctx, "tcp", "127.0.0.1:8080")
			if err == nil {
				_, err = nc.Write([]byte("GET /stays HTTP/1.1\r\nHost: x\r\n\r\n"))
			}
			if err != nil {
				close(began)
				stays <- err
				return
			}
			defer nc.Close()
			b := make([]byte, 1000)
			_, err = nc.Read(b)
			close(began)
			for err == nil {
				_, err = nc.Read(b)
			}
			stays <- err
		}()
		<-began
		was := c.running("net")
		kill(t, was.Pid, syscall.SIGKILL)
		next("net", evlog.Recovered)
		if err := within(t, stays, "the reader of a connection that was cut"); abi.ErrnoOf(err) != abi.ECONNRESET {
			t.Errorf("an old connection: %v", err)
		}
		if body, err := get("/after"); err != nil || body != "hello from /after" {
			t.Errorf("a new connection: %q, %v", body, err)
		}
	}
	close(stop)
	<-done
	t.Logf("%d kills: %d requests answered, %d cut", kills, answered.Load(), cut.Load())
	if answered.Load() < int64(kills) {
		t.Errorf("%d requests answered", answered.Load())
	}
	select {
	case err := <-served:
		t.Errorf("the server ended: %v", err)
	default:
	}
	srv.Close()
	tr.CloseIdleConnections()
}
