package modproxy_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/modproxy"
	"github.com/rumpus-kernel/rumpus/kernel/modproxy/modproxytest"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/dispatch"
	"github.com/rumpus-kernel/rumpus/modapi/modtest"
	"github.com/rumpus-kernel/rumpus/modapi/stream"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

// script is a module made of functions.
type script struct {
	name string
	init func(k modapi.Kernel, p modapi.Props) error
	fini func() error
	k    modapi.Kernel
}

func (s *script) Info() modapi.Info {
	return modapi.Info{Name: s.name, Class: modapi.ClassMisc, Kern: abi.KernVersionCurrent, Version: "1"}
}

func (s *script) Init(_ context.Context, k modapi.Kernel, _ modapi.Reason, p modapi.Props) error {
	s.k = k
	if s.init == nil {
		return nil
	}
	return s.init(k, p)
}

func (s *script) Fini(context.Context) error {
	if s.fini == nil {
		return nil
	}
	return s.fini()
}

// statter has something to say.
type statter struct{ *script }

func (statter) Stat(context.Context) (string, error) { return "all is well", nil }
func (statter) AutoUnload(context.Context) error     { return abi.EBUSY }

func TestLife(t *testing.T) {
	busy := true
	a := &script{name: "a", fini: func() error {
		if busy {
			return abi.EBUSY
		}
		return nil
	}}
	a.init = func(k modapi.Kernel, p modapi.Props) error {
		if p["fail"] == true {
			return errors.Join(errors.New("a reason to read"), abi.ENOMEM)
		}
		return k.Sysctl(modapi.SysctlNode{Name: "kern.a", Get: func() string { return "1" }})
	}
	b := statter{&script{name: "b"}}
	srv := dispatch.New([]modapi.Module{a, b}, dispatch.Options{})
	for name, ctl := range map[string]modproxy.Control{"stream": nil, "control": srv} {
		t.Run(name, func(t *testing.T) {
			s := srv
			if ctl == nil {
				s = dispatch.New([]modapi.Module{a, b}, dispatch.Options{})
			}
			busy = true
			l := modproxytest.Open(t, s, ctl)
			ms := l.Modules()
			if len(ms) != 2 || ms[0].Info().Name != "a" || ms[1].Info().Name != "b" {
				t.Fatalf("%v", ms)
			}
			ctx := t.Context()
			k := modtest.NewKernel(t, nil)
			if err := ms[0].Fini(ctx); !errors.Is(err, abi.ENODEV) {
				t.Errorf("Fini before Init: %v", err)
			}
			err := k.Init(ms[0], modapi.Fresh, modapi.Props{"fail": true})
			if !errors.Is(err, abi.ENOMEM) || !strings.Contains(err.Error(), "a reason to read") {
				t.Errorf("failing Init: %v", err)
			}
			if err := k.Init(ms[0], modapi.Fresh, modapi.Props{"x": struct{}{}}); !errors.Is(err, abi.EINVAL) {
				t.Errorf("Init with bad properties: %v", err)
			}
			if err := k.Init(ms[0], modapi.Fresh, nil); err != nil {
				t.Fatalf("Init: %v", err)
			}
			if err := k.Init(ms[0], modapi.Fresh, nil); !errors.Is(err, abi.EEXIST) {
				t.Errorf("Init again: %v", err)
			}
			if err := k.Init(ms[1], modapi.Fresh, nil); err != nil {
				t.Fatalf("Init: %v", err)
			}
			if _, err := ms[0].(modapi.Stater).Stat(ctx); !errors.Is(err, abi.ENOTTY) {
				t.Errorf("Stat: %v", err)
			}
			if err := ms[0].(modapi.AutoUnloader).AutoUnload(ctx); !errors.Is(err, abi.ENOTTY) {
				t.Errorf("AutoUnload: %v", err)
			}
			if s, err := ms[1].(modapi.Stater).Stat(ctx); err != nil || s != "all is well" {
				t.Errorf("Stat: %q, %v", s, err)
			}
			if err := ms[1].(modapi.AutoUnloader).AutoUnload(ctx); !errors.Is(err, abi.EBUSY) {
				t.Errorf("AutoUnload: %v", err)
			}
			if err := a.k.Sysctl(modapi.SysctlNode{Name: "kern.late"}); !errors.Is(err, abi.EPERM) {
				t.Errorf("attach outside Init: %v", err)
			}
			if err := ms[0].Fini(ctx); !errors.Is(err, abi.EBUSY) {
				t.Errorf("busy Fini: %v", err)
			}
			get := k.Sysctls["kern.a"].Get
			if get() != "1" {
				t.Error("a busy module has stopped serving")
			}
			busy = false
			if err := ms[0].Fini(ctx); err != nil {
				t.Errorf("Fini: %v", err)
			}
			if get() != "" {
				t.Error("a finished module serves")
			}
		})
	}
}

// controlFunc is a Control by a function.
type controlFunc func(ctx context.Context, frame []byte) ([]byte, error)

func (f controlFunc) Life(ctx context.Context, frame []byte) ([]byte, error) { return f(ctx, frame) }

// TestControlLies: replies by another way are checked as well.
func TestControlLies(t *testing.T) {
	srv := dispatch.New([]modapi.Module{&script{name: "a"}}, dispatch.Options{})
	for name, spoil := range map[string]func(b []byte) []byte{
		"empty":    func(b []byte) []byte { return nil },
		"short":    func(b []byte) []byte { return b[:20] },
		"op":       func(b []byte) []byte { b[4]++; return b },
		"no reply": func(b []byte) []byte { b[6] = 0; return b },
		"id":       func(b []byte) []byte { b[8]++; return b },
		"epoch":    func(b []byte) []byte { b[16]++; return b },
		"object":   func(b []byte) []byte { b[32]++; return b },
		"payload":  func(b []byte) []byte { b[wire.HeaderSize]++; return b },
	} {
		t.Run(name, func(t *testing.T) {
			host, comp := modproxytest.Pair(t)
			defer comp.Close()
			_, err := modproxy.Open(t.Context(), host, controlFunc(func(ctx context.Context, frame []byte) ([]byte, error) {
				b, err := srv.Life(ctx, frame)
				if err != nil {
					return nil, err
				}
				return spoil(b), nil
			}), modproxy.Options{Epoch: 1})
			var lie *stream.Lie
			if !errors.As(err, &lie) {
				t.Errorf("%v", err)
			}
		})
	}
	host, comp := modproxytest.Pair(t)
	defer comp.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err := modproxy.Open(ctx, host, controlFunc(func(ctx context.Context, _ []byte) ([]byte, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}), modproxy.Options{Epoch: 1})
	if !errors.Is(err, abi.ETIMEDOUT) {
		t.Errorf("a control that waits: %v", err)
	}
	host, comp = modproxytest.Pair(t)
	_, err = modproxy.Open(t.Context(), host, controlFunc(func(ctx context.Context, _ []byte) ([]byte, error) {
		comp.Close() // the process ends
		<-ctx.Done()
		return nil, ctx.Err()
	}), modproxy.Options{Epoch: 1})
	if !errors.Is(err, io.EOF) {
		t.Errorf("a process that ends: %v", err)
	}
}

// TestBadInfo: modules that cannot be.
func TestBadInfo(t *testing.T) {
	for name, mods := range map[string][]modapi.Module{
		"none":  {},
		"name":  {&script{name: "Bad Name"}},
		"twice": {&script{name: "a"}, &script{name: "a"}},
	} {
		host, comp := modproxytest.Pair(t)
		done := make(chan struct{})
		go func() {
			defer close(done)
			dispatch.New(mods, dispatch.Options{}).ServeStream(context.Background(), comp)
		}()
		if _, err := modproxy.Open(t.Context(), host, nil, modproxy.Options{}); err == nil {
			t.Errorf("%s: accepted", name)
		}
		<-done
	}
}

// TestDeath: what is asked of a process that has ended, and what was in flight.
func TestDeath(t *testing.T) {
	f, l, fs, k := mounted(t)
	entered := make(chan struct{}, 10)
	hold := make(chan struct{})
	f.reply = func(r *stream.Request) {
		entered <- struct{}{}
		<-hold
	}
	ctx := t.Context()
	d, c := k.Domains[abi.AF_INET], k.Chrs["fakedev"].Ops
	calls := map[string]struct {
		want abi.Errno
		f    func() error
	}{
		"create":  {abi.EIO, func() error { return callCreate(ctx, fs.(full)) }},
		"getattr": {abi.EIO, func() error { return callGetattr(ctx, fs.(full)) }},
		"socket":  {abi.ECONNRESET, func() error { return d.Socket(ctx, 5, abi.SOCK_STREAM, 0) }},
		"poll":    {abi.ECONNRESET, func() error { _, err := d.Poll(ctx, 5); return err }},
		"close":   {abi.ECONNRESET, func() error { return d.Close(ctx, 5) }},
		"open":    {abi.EIO, func() error { return c.Open(ctx, 0, 0) }},
		"sysctl":  {abi.EIO, func() error { return k.Sysctls["kern.fake"].Set("x") }},
	}
	var wg sync.WaitGroup
	for name, tc := range calls {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := tc.f(); abi.ErrnoOf(err) != tc.want {
				t.Errorf("%s in flight: %v, want %v", name, err, tc.want)
			}
		}()
	}
	for range calls {
		<-entered
	}
	f.c.Close()
	wg.Wait()
	close(hold)
	<-l.Done()
	if l.Err() != io.EOF {
		t.Errorf("%v, want EOF", l.Err())
	}
	for name, tc := range calls {
		if err := tc.f(); abi.ErrnoOf(err) != tc.want {
			t.Errorf("%s afterwards: %v, want %v", name, err, tc.want)
		}
	}
	if k.Sysctls["kern.fake"].Get() != "" {
		t.Error("a value from the dead")
	}
}

// TestPanic: a panic ends the process and is never an answer.
func TestPanic(t *testing.T) {
	host, comp := modproxytest.Pair(t)
	code := make(chan int, 1)
	m := &script{name: "a", init: func(k modapi.Kernel, _ modapi.Props) error {
		return k.Syscall(640, func(context.Context, *abi.Caller, [6]uint64, []byte, int) (uint64, []byte, error) {
			panic("on purpose")
		})
	}}
	srv := dispatch.New([]modapi.Module{m}, dispatch.Options{Exit: func(c int) {
		code <- c
		comp.Close()
	}})
	done := make(chan struct{})
	go func() {
		defer close(done)
		srv.ServeStream(context.Background(), comp)
	}()
	l, err := modproxy.Open(t.Context(), host, nil, modproxy.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	k := modtest.NewKernel(t, nil)
	if err := k.Init(l.Modules()[0], modapi.Fresh, nil); err != nil {
		t.Fatal(err)
	}
	if _, _, err := k.Syscalls[640](t.Context(), abi.KernelCaller, [6]uint64{}, nil, 0); abi.ErrnoOf(err) != abi.EIO {
		t.Errorf("%v, want EIO", err)
	}
	if c := <-code; c != 2 {
		t.Errorf("exit %d, want 2", c)
	}
	<-l.Done()
	<-done
}

// TestLarge: what does not fit into one message goes in several.
func TestLarge(t *testing.T) {
	f, _, fs, _ := mounted(t)
	content := make([]byte, 2*wire.MaxPayload+8192)
	for i := range content {
		content[i] = byte(i * 17 >> 4)
	}
	stored := make([]byte, len(content))
	f.reply = func(r *stream.Request) {
		switch r.Header.Op {
		case wire.OpRead, wire.OpReadPages:
			var q wire.IOReq
			q.Parse(r.Args)
			n := min(int(r.Header.ReplyLen), len(content)-int(q.Off))
			r.Reply(0, nil, abi.IovOf(content[q.Off:int(q.Off)+n]))
		case wire.OpWritePages:
			var q wire.WritePagesReq
			q.Parse(r.Args)
			copy(stored[q.Off:], r.Payload)
			r.Reply(0, nil, nil)
		case wire.OpWrite:
			var q wire.WriteReq
			q.Parse(r.Args)
			r.Reply(0, writeArgs(len(r.Payload), q.Off, file.Vattr), nil)
		}
	}
	ctx := t.Context()
	buf := make([]byte, len(content)+100)
	n, err := fs.Read(ctx, file.Handle, 0, abi.Iov{buf[:5], buf[5:]})
	if err != nil || n != len(content) || !bytes.Equal(buf[:n], content) {
		t.Errorf("read %d, %v", n, err)
	}
	p := fs.(vfsops.Pager)
	clear(buf)
	if err := p.ReadPages(ctx, file.Handle, 0, abi.IovOf(buf[:len(content)])); err != nil || !bytes.Equal(buf[:n], content) {
		t.Errorf("read pages: %v", err)
	}
	if err := p.WritePages(ctx, op, file.Handle, 0, abi.Iov{content[:4096], content[4096:]}, int64(len(content))); err != nil || !bytes.Equal(stored, content) {
		t.Errorf("write pages: %v", err)
	}
	res, err := fs.(vfsops.Writer).Write(ctx, vfsops.WriteReq{Op: op, Node: file.Handle}, abi.IovOf(content))
	if err != nil || res.N != wire.MaxPayload {
		t.Errorf("wrote %d, %v", res.N, err)
	}
}

// TestMissing: what the file system lacks is refused here.
func TestMissing(t *testing.T) {
	// The usual fake answers Mount with all capabilities; this one has none.
	host, comp := modproxytest.Pair(t)
	bare := &fake{t: t, init: all, ready: make(chan struct{}), mods: []modapi.Info{{Name: "bare", Class: modapi.ClassVFS, Version: "0"}}}
	bare.c = stream.New(comp, stream.HandlerFunc(func(ctx context.Context, r *stream.Request) {
		<-bare.ready
		if r.Header.Op == wire.OpMount {
			r.Reply(0, (&wire.MountRes{}).Append(nil), nil)
			return
		}
		bare.Serve(ctx, r)
	}), stream.Options{Epoch: 1})
	close(bare.ready)
	defer func() { bare.c.Close(); bare.c.Wait() }()
	l, err := modproxy.Open(t.Context(), host, nil, modproxy.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	k := modtest.NewKernel(t, nil)
	if err := k.Init(l.Modules()[0], modapi.Fresh, nil); err != nil {
		t.Fatal(err)
	}
	fs, err := k.FSTypes["fakefs"].Type.Mount(t.Context(), &vfsops.MountReq{Fsid: 3, Op: op})
	if err != nil {
		t.Fatal(err)
	}
	if c := vfsops.CapsOf(fs); c != 0 {
		t.Errorf("caps %#x, want none", c)
	}
	ctx, x := t.Context(), fs.(full)
	for name, tc := range map[string]struct {
		err  error
		want abi.Errno
	}{
		"create":   {callCreate(ctx, x), abi.EROFS},
		"remove":   {callRemove(ctx, x), abi.EROFS},
		"link":     {callLink(ctx, x), abi.EROFS},
		"write":    {callWrite(ctx, x), abi.EROFS},
		"setxattr": {x.Setxattr(ctx, vfsops.SetxattrReq{Op: op}), abi.EOPNOTSUPP},
		"pin":      {x.Pin(ctx, file.Handle), abi.EBUSY},
		"reclaim":  {x.Reclaim(ctx, nil), 0},
		"sync":     {x.Sync(ctx, file.Handle, true), 0},
		"access":   {x.Access(ctx, file.Handle, abi.KernelCaller, 0), abi.EACCES},
		"pages":    {x.ReadPages(ctx, file.Handle, 0, nil), abi.EOPNOTSUPP},
	} {
		if abi.ErrnoOf(tc.err) != tc.want {
			t.Errorf("%s: %v, want %v", name, tc.err, tc.want)
		}
	}
	if _, err := x.Readlink(ctx, link.Handle); abi.ErrnoOf(err) != abi.EINVAL {
		t.Errorf("readlink: %v", err)
	}
}

// TestGarbage: whatever the component answers, every call returns and nothing
// panics.
func TestGarbage(t *testing.T) {
	for seed := range uint64(40) {
		f, l, fs, k := mounted(t)
		var mu sync.Mutex
		r := rand.New(rand.NewPCG(seed, 9))
		f.reply = func(q *stream.Request) {
			mu.Lock()
			good := [][]byte{entryArgs(dir), attrArgs(file.Vattr), mutArgs(vfsops.Mutated{Node: file}), lookArgs(1, 2), numArgs(3), nil, eof, writeArgs(1, 10, file.Vattr)}
			args := append([]byte(nil), good[r.IntN(len(good))]...)
			if len(args) > 0 && r.IntN(2) == 0 {
				args[r.IntN(len(args))] ^= byte(1 << r.IntN(8))
			}
			p := make([]byte, r.IntN(300))
			for i := range p {
				p[i] = byte(r.Uint32() >> 3)
			}
			mu.Unlock()
			q.Reply(0, args, abi.IovOf(p))
		}
		ctx, x := t.Context(), fs.(full)
		for _, call := range []func(context.Context, full) error{callRoot, callLookup, callGetattr, callReaddir, callCreate, callRemove, callLink, callWrite} {
			call(ctx, x)
		}
		d := k.Domains[abi.AF_INET]
		d.Socket(ctx, 1, 1, 0)
		d.Poll(ctx, 1)
		d.Name(ctx, 1, false)
		k.Chrs["fakedev"].Ops.Ioctl(ctx, 0, 1, nil)
		l.Close()
	}
}

// FuzzComponent: no bytes from a component harm the kernel's end.
func FuzzComponent(f *testing.F) {
	info := (&wire.InfoRes{Mods: []modapi.Info{{Name: "a", Class: modapi.ClassMisc, Version: "1"}}}).Append(nil)
	first := wire.AppendFrame(nil, &wire.Header{Op: wire.OpInfo, Flags: wire.FlagReply, ReqID: 1, Epoch: 1}, nil, info)
	f.Add(first)
	f.Add(append(append([]byte(nil), first...), wire.AppendFrame(nil, &wire.Header{Op: wire.OpReady, Flags: wire.FlagOneway, Epoch: 1}, nil, (&wire.ReadyMsg{}).Append(nil))...))
	f.Add(append(append([]byte(nil), first...), wire.AppendFrame(nil, &wire.Header{Op: wire.OpAttachFS, ReqID: 1, Epoch: 1}, (&wire.AttachFSReq{Name: "x"}).Append(nil), nil)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		host, comp := net.Pipe()
		var wg sync.WaitGroup
		wg.Add(2)
		go func() { defer wg.Done(); io.Copy(io.Discard, comp) }()
		go func() {
			defer wg.Done()
			comp.Write(b)
			comp.Close()
		}()
		l, err := modproxy.Open(context.Background(), host, nil, modproxy.Options{Epoch: 1})
		if err == nil {
			k := modtest.NewKernel(t, nil)
			k.Init(l.Modules()[0], modapi.Fresh, nil)
			l.Close()
		}
		wg.Wait()
	})
}

// TestMany: nodes that are let go or forgotten together go in one batch, each
// message no longer than may be; a refusal of one does not keep the others.
func TestMany(t *testing.T) {
	f, _, fs, _ := mounted(t)
	var mu sync.Mutex
	seen := map[wire.Op]map[abi.Fileid]int{wire.OpUnpin: {}, wire.OpReclaim: {}}
	f.reply = func(r *stream.Request) {
		mu.Lock()
		defer mu.Unlock()
		switch r.Header.Op {
		case wire.OpUnpin:
			var q wire.HandleReq
			if err := q.Parse(r.Args); err != nil {
				t.Error(err)
			}
			seen[r.Header.Op][q.Node.File]++
			if q.Node.File == 5 {
				r.Reply(abi.ESTALE, nil, nil)
				return
			}
		case wire.OpReclaim:
			var q wire.HandlesReq
			if err := q.Parse(r.Args); err != nil {
				t.Error(err)
			}
			for _, h := range q.Nodes {
				seen[r.Header.Op][h.File]++
			}
		}
		r.Reply(0, nil, nil)
	}
	hs := make([]abi.Handle, 2*wire.MaxHandles+10)
	for i := range hs {
		hs[i] = abi.Handle{FS: 3, File: abi.Fileid(i + 1), Gen: 1}
	}
	if err := fs.(vfsops.Reclaimer).Reclaim(t.Context(), hs); err != nil {
		t.Error(err)
	}
	err := fs.(interface {
		UnpinAll(context.Context, []abi.Handle) error
	}).UnpinAll(t.Context(), hs[:100])
	if err != abi.ESTALE {
		t.Errorf("unpin: %v", err)
	}
	for op, n := range map[wire.Op]int{wire.OpUnpin: 100, wire.OpReclaim: len(hs)} {
		if len(seen[op]) != n {
			t.Errorf("%s: %d of %d", op, len(seen[op]), n)
		}
		for id, k := range seen[op] {
			if k != 1 {
				t.Errorf("%s of %d %d times", op, id, k)
			}
		}
	}
}
