package dev

import (
	"bytes"
	"context"
	"os"
	"testing"

	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/kernel/modproxy"
	"github.com/rumpus-kernel/rumpus/kernel/modproxy/modproxytest"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	"github.com/rumpus-kernel/rumpus/modapi/dispatch"
	"github.com/rumpus-kernel/rumpus/modapi/sockops"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
	"github.com/rumpus-kernel/rumpus/plugins/dev/mem"
	"github.com/rumpus-kernel/rumpus/plugins/dev/rnd"
)

// devKernel binds driver modules to a Switch.
type devKernel struct{ s *Switch }

func (k devKernel) AttachFS(string, vfsops.FSType, vfsops.Caps) error { return abi.EPERM }
func (k devKernel) AttachChr(name string, d devops.Chr) (abi.Dev, error) {
	return k.s.AttachChr("dev", name, d)
}
func (k devKernel) AttachBlk(name string, d devops.Blk) (abi.Dev, error) {
	return k.s.AttachBlk("dev", name, d)
}
func (k devKernel) BlkChanged(d abi.Dev) error { return k.s.BlkChanged("dev", d) }
func (k devKernel) Block(d, user abi.Dev) (devops.BlockIO, error) {
	return k.s.Block(context.Background(), "dev", "dev/mod", d, user)
}
func (k devKernel) Store(abi.Fsid) modapi.Store            { return modapi.NoStore{} }
func (k devKernel) AttachDomain(int, sockops.Domain) error { return abi.EPERM }
func (k devKernel) AttachIf(string, sockops.IfClass) error { return abi.EPERM }
func (k devKernel) Sysctl(modapi.SysctlNode) error         { return nil }
func (k devKernel) Evcnt(string, string) *modapi.Counter   { return new(modapi.Counter) }
func (k devKernel) Syscall(int, modapi.SyscallFn) error    { return abi.EPERM }
func (k devKernel) Ready(sockops.Ready)                    {}
func (k devKernel) DevReady(r devops.Ready)                { k.s.DevReady(r) }
func (k devKernel) Granted(string) (*os.File, error)       { return nil, abi.ENOENT }
func (k devKernel) Log() modapi.Logger                     { return quiet{} }

type quiet struct{}

func (quiet) Debug(string, ...any) {}
func (quiet) Info(string, ...any)  {}
func (quiet) Warn(string, ...any)  {}
func (quiet) Error(string, ...any) {}

// TestPlugins: the drivers of the dev component behind a stream, which is cut
// in the middle; open devices go on.
func TestPlugins(t *testing.T) {
	ctx := ctxT(t)
	s := New(Options{})
	s.SetAvailable(true)
	var link *modproxy.Link
	start := func(r modapi.Reason) {
		t.Helper()
		link = modproxytest.Open(t, dispatch.New([]modapi.Module{mem.New(), rnd.New()}, dispatch.Options{}), nil)
		for _, m := range link.Modules() {
			if err := m.Init(ctx, devKernel{s}, r, nil); err != nil {
				t.Fatalf("init: %v", err)
			}
		}
		s.InstanceUp("dev")
	}
	start(modapi.Fresh)
	open := func(name string) *file.File {
		t.Helper()
		n, ok := s.Lookup(name)
		if !ok {
			t.Fatalf("no node %s", name)
		}
		ops, data, err := s.Open(ctx, abi.KernelCaller, n.Dev, abi.O_RDWR)
		if err != nil {
			t.Fatalf("open %s: %v", name, err)
		}
		f, err := files.New(file.TypeVnode, ops, data, abi.O_RDWR, abi.Root)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Release(context.Background()) })
		return f
	}
	null, zero, full, urandom := open("null"), open("zero"), open("full"), open("urandom")
	if n, _ := s.Lookup("urandom"); n.Dev != abi.Makedev(46, 1) || n.Mode != 0o644 {
		t.Errorf("urandom: %+v", n)
	}
	for round := 0; round < 3; round++ {
		if b, err := read(ctx, null, 10); len(b) != 0 || err != nil {
			t.Errorf("null: %v %v", b, err)
		}
		if n, err := write(ctx, null, "abc"); n != 3 || err != nil {
			t.Errorf("null: %d %v", n, err)
		}
		if b, err := read(ctx, zero, 3<<20); len(b) != 3<<20 || err != nil || bytes.Count(b, []byte{0}) != len(b) {
			t.Errorf("zero: %d %v", len(b), err)
		}
		_, err := write(ctx, full, "x")
		want(t, "full", err, abi.ENOSPC)
		a, err := read(ctx, urandom, 16)
		b, err2 := read(ctx, urandom, 16)
		if len(a) != 16 || err != nil || err2 != nil || bytes.Equal(a, b) {
			t.Errorf("urandom: %x %x %v %v", a, b, err, err2)
		}
		if ev := urandom.Ops.Poll(ctx, urandom, abi.POLLIN); ev != abi.POLLIN {
			t.Errorf("poll: %v", ev)
		}
		link.Close()
		_, err = read(ctx, urandom, 1)
		want(t, "read over a broken link", err, abi.EIO)
		s.InstanceDown("dev")
		start(modapi.Restart)
	}
}
