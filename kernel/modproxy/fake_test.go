package modproxy_test

import (
	"context"
	"errors"
	"testing"

	"go.uber.org/goleak"

	"github.com/rumpus-kernel/rumpus/kernel/modproxy"
	"github.com/rumpus-kernel/rumpus/kernel/modproxy/modproxytest"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/modtest"
	"github.com/rumpus-kernel/rumpus/modapi/stream"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a component that says whatever a test wants.
type fake struct {
	t     testing.TB
	c     *stream.Conn
	mods  []modapi.Info
	init  func(f *fake) error     // upcalls during Init
	reply func(r *stream.Request) // answers operations
	dev   abi.Dev                 // of the attached driver
	ready chan struct{}
}

// all attaches one of each; the driver's number is kept.
func all(f *fake) error {
	errs := []error{
		f.up(wire.OpAttachFS, (&wire.AttachFSReq{Name: "fakefs", Caps: vfsops.CapSole}).Append(nil), nil),
		f.up(wire.OpAttachDomain, (&wire.AttachDomainReq{AF: abi.AF_INET, Router: true}).Append(nil), nil),
		f.up(wire.OpAttachIf, (&wire.IfName{Class: "fk"}).Append(nil), nil),
		f.up(wire.OpSysctl, (&wire.SysctlReq{Node: 1, Name: "kern.fake", Desc: "x", Writable: true}).Append(nil), nil),
		f.up(wire.OpAddSyscall, (&wire.NumReq{N: 650}).Append(nil), nil),
	}
	var res wire.NumRes
	errs = append(errs, f.up(wire.OpAttachChr, (&wire.AttachChrReq{Name: "fakedev"}).Append(nil), &res))
	f.dev = abi.Dev(res.N)
	return errors.Join(errs...)
}

// up sends an upcall of module 0.
func (f *fake) up(op wire.Op, args []byte, res interface{ Parse([]byte) error }) error {
	k := stream.GetCall()
	defer k.Release()
	k.Header.Op = op
	k.Args = append(k.Args, args...)
	if err := f.c.Call(context.Background(), k); err != nil {
		return err
	}
	if res != nil {
		return res.Parse(k.Reply)
	}
	return nil
}

func (f *fake) Serve(_ context.Context, r *stream.Request) {
	<-f.ready
	switch r.Header.Op {
	case wire.OpInfo:
		r.Reply(0, nil, abi.IovOf((&wire.InfoRes{Mods: f.mods}).Append(nil)))
	case wire.OpInit:
		var err error
		if f.init != nil {
			err = f.init(f)
		}
		r.Reply(abi.ErrnoOf(err), nil, nil)
	case wire.OpMount:
		r.Reply(0, (&wire.MountRes{Caps: ^vfsops.Caps(0)}).Append(nil), nil)
	default:
		if f.reply != nil {
			f.reply(r)
		}
	}
}

// newFake starts one at the other end of a link, initialised with k.
func newFake(t testing.TB, init func(f *fake) error) (*fake, *modproxy.Link, *modtest.Kernel) {
	t.Helper()
	host, comp := modproxytest.Pair(t)
	f := &fake{t: t, init: init, ready: make(chan struct{}),
		mods: []modapi.Info{{Name: "fake", Class: modapi.ClassMisc, Kern: abi.KernVersionCurrent, Version: "0"}}}
	f.c = stream.New(comp, f, stream.Options{Epoch: 1})
	close(f.ready)
	t.Cleanup(func() {
		f.c.Close()
		f.c.Wait()
	})
	l, err := modproxy.Open(t.Context(), host, nil, modproxy.Options{Epoch: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	k := modtest.NewKernel(t, nil)
	if err := k.Init(l.Modules()[0], modapi.Fresh, nil); err != nil && init == nil {
		t.Fatal(err)
	}
	return f, l, k
}

// mounted is a mount of the fake's file system.
func mounted(t testing.TB) (*fake, *modproxy.Link, vfsops.FS, *modtest.Kernel) {
	t.Helper()
	f, l, k := newFake(t, all)
	fs, err := k.FSTypes["fakefs"].Type.Mount(t.Context(), &vfsops.MountReq{Fsid: 3, Op: op})
	if err != nil {
		t.Fatal(err)
	}
	return f, l, fs, k
}

var op = vfsops.Op{Seq: 1, Caller: abi.KernelCaller}

// wantLie checks that the link has failed because of a lie.
func wantLie(t *testing.T, l *modproxy.Link) {
	t.Helper()
	<-l.Done()
	var lie *stream.Lie
	if !errors.As(l.Err(), &lie) {
		t.Errorf("the link ended with %v, want a lie", l.Err())
	}
}
