//go:build linux

package ring

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/stream"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

// child is the other process: it echoes until its stdin ends.
func child() {
	nc := conn(nil, 3)
	m, err := Map(os.NewFile(4, "ring"))
	if err != nil {
		panic(err)
	}
	h := stream.HandlerFunc(func(ctx context.Context, r *stream.Request) {
		if r.Header.Op == wire.OpBlkRead {
			nestedHandler(ctx, r)
			return
		}
		benchHandler(ctx, r)
	})
	c := stream.New(nc, h, stream.Options{Epoch: 7})
	if os.Getenv("RING_TEST_CHILD") == "ring" {
		if _, err := Attach(c, m, Options{Second: true, Serve: true}); err != nil {
			panic(err)
		}
	}
	if os.Getenv("RING_TEST_GC") != "" {
		go func() {
			for {
				runtime.GC()
				time.Sleep(time.Millisecond)
			}
		}()
	}
	io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// benchHandler answers as many bytes as are asked for, and none.
var benchHandler = stream.HandlerFunc(func(_ context.Context, r *stream.Request) {
	n := int(r.Header.ReplyLen)
	if r.Header.Op == wire.OpName { // answered, and then an edge
		r.Reply(0, nil, nil)
		if !r.Conn().TrySend(wire.OpReady, 0, nil, abi.IovOf([]byte("edge"))) {
			r.Conn().Send(wire.OpReady, 0, nil, abi.IovOf([]byte("edge")))
		}
		return
	}
	if n == 0 {
		r.Reply(0, nil, nil)
		return
	}
	if b := r.Room(n); b != nil {
		r.Reply(0, nil, abi.IovOf(b))
		return
	}
	b := stream.GetBuf(n)
	r.Reply(0, nil, abi.IovOf(*b))
	stream.PutBuf(b)
})

// other starts the other process.
func other(tb testing.TB, kind string, env ...string) *stream.Conn {
	return otherServed(tb, kind, nil, env...)
}

func otherServed(tb testing.TB, kind string, h stream.Handler, env ...string) *stream.Conn {
	tb.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		tb.Fatal(err)
	}
	f, err := Create(true)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	theirs := os.NewFile(uintptr(fds[1]), "theirs")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), "RING_TEST_CHILD="+kind), env...)
	cmd.ExtraFiles = []*os.File{theirs, f}
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	theirs.Close()
	c := stream.New(conn(tb, fds[0]), h, stream.Options{Epoch: 7})
	tb.Cleanup(func() {
		in.Close()
		cmd.Wait()
		c.Close()
		c.Wait()
	})
	if kind == "ring" {
		attach(tb, c, mapped(tb, f), Options{Serve: true, Counters: NewCounters(nil)})
	}
	return c
}

// callers runs n goroutines that share b.N calls, and reports quantiles.
func callers(b *testing.B, n int, one func()) {
	var left atomic.Int64
	left.Store(int64(b.N))
	all := make([][]time.Duration, n)
	var wg sync.WaitGroup
	b.ResetTimer()
	for g := range n {
		wg.Go(func() {
			d := make([]time.Duration, 0, b.N/n+1000)
			for left.Add(-1) >= 0 {
				t := time.Now()
				one()
				d = append(d, time.Since(t))
			}
			all[g] = d
		})
	}
	wg.Wait()
	b.StopTimer()
	d := slices.Concat(all...)
	slices.Sort(d)
	b.ReportMetric(float64(d[len(d)/2]), "p50-ns")
	b.ReportMetric(float64(d[len(d)*99/100]), "p99-ns")
}

func null(c *stream.Conn, op wire.Op) {
	k := newCall(op)
	if err := c.Call(context.Background(), k); err != nil {
		panic(err)
	}
	k.Release()
}

func threads() int {
	d, _ := os.ReadDir("/proc/self/task")
	return len(d)
}

// BenchmarkEdge is a call and an edge that the peer sends behind its answer.
func BenchmarkEdge(b *testing.B) {
	for _, kind := range []string{"ring", "stream", "ring", "stream"} {
		edges := make(chan struct{}, 100)
		c := otherServed(b, kind, stream.HandlerFunc(func(context.Context, *stream.Request) { edges <- struct{}{} }))
		b.Run(kind, func(b *testing.B) {
			callers(b, 1, func() {
				null(c, wire.OpName)
				<-edges
			})
		})
	}
}

func BenchmarkCall(b *testing.B) {
	for _, kind := range []string{"ring", "stream"} {
		c := other(b, kind)
		for _, op := range []wire.Op{wire.OpRoot, wire.OpGetattr} {
			for _, n := range []int{1, 4, 16, 64} {
				b.Run(fmt.Sprintf("%s/null/class%d/%d", kind, op.Class(), n), func(b *testing.B) {
					callers(b, n, func() { null(c, op) })
					b.ReportMetric(float64(threads()), "threads")
				})
			}
		}
		b.Run(kind+"/wake", func(b *testing.B) {
			d := make([]time.Duration, 0, b.N)
			for range b.N {
				time.Sleep(time.Millisecond)
				t := time.Now()
				null(c, wire.OpGetattr)
				d = append(d, time.Since(t))
			}
			slices.Sort(d)
			b.ReportMetric(float64(d[len(d)/2]), "p50-ns")
			b.ReportMetric(float64(d[len(d)*99/100]), "p99-ns")
		})
		for _, size := range []int{4 << 10, 1 << 20} {
			for _, n := range []int{1, 4} {
				buf := make([][]byte, n)
				var next atomic.Int32
				pool := make(chan []byte, n)
				for i := range buf {
					buf[i] = make([]byte, size)
					pool <- buf[i]
				}
				_ = &next
				b.Run(fmt.Sprintf("%s/read%d/%d", kind, size, n), func(b *testing.B) {
					b.SetBytes(int64(size))
					callers(b, n, func() {
						p := <-pool
						k := newCall(wire.OpRead)
						k.Dst = abi.IovOf(p)
						if err := c.Call(context.Background(), k); err != nil || k.N != size {
							panic(err)
						}
						k.Release()
						pool <- p
					})
				})
				b.Run(fmt.Sprintf("%s/write%d/%d", kind, size, n), func(b *testing.B) {
					b.SetBytes(int64(size))
					callers(b, n, func() {
						p := <-pool
						k := newCall(wire.OpWrite)
						k.SetPayload(p)
						if err := c.Call(context.Background(), k); err != nil {
							panic(err)
						}
						k.Release()
						pool <- p
					})
				})
			}
		}
	}
}
