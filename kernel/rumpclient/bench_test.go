package rumpclient

import (
	"context"
	"net"
	"path/filepath"
	"testing"

	"github.com/rumpus-kernel/rumpus/kernel/sysproxy"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// BenchmarkCall measures what the client and the way to the kernel cost: the
// kernel itself does nothing.
func BenchmarkCall(b *testing.B) {
	path := filepath.Join(b.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	idle := &fakeIdle{}
	go func() {
		done <- sysproxy.Serve(ctx, l, sysproxy.Options{NewProc: func(context.Context, sysproxy.Peer) (sysproxy.Proc, error) { return idle, nil }})
	}()
	defer func() { cancel(); <-done }()
	remote, err := Open(ctx, path)
	if err != nil {
		b.Fatal(err)
	}
	defer remote.Exit()
	streamed := overStream(b, path)
	defer streamed.Exit()
	for _, c := range []struct {
		name string
		c    *Client
	}{{"embedded", New(idle)}, {"remote", remote}, {"stream", streamed}} {
		b.Run(c.name+"/getpid", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.c.Getpid(ctx)
			}
		})
		b.Run(c.name+"/stat", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.c.Stat(ctx, "/a/path/of/some/length")
			}
		})
		for _, size := range []int{4 << 10, 1 << 20} {
			p := make([]byte, size)
			name := map[int]string{4 << 10: "4K", 1 << 20: "1M"}[size]
			b.Run(c.name+"/pread"+name, func(b *testing.B) {
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					c.c.Pread(ctx, 3, p, 0)
				}
			})
			b.Run(c.name+"/pwrite"+name, func(b *testing.B) {
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					c.c.Pwrite(ctx, 3, p, 0)
				}
			})
		}
	}
}

type fakeIdle struct{}

func (*fakeIdle) Syscall(_ context.Context, num int, a *abi.Sysargs) error {
	a.NO = len(a.Out)
	a.R[0] = uint64(len(a.In))
	return nil
}

func (*fakeIdle) Close() error { return nil }
