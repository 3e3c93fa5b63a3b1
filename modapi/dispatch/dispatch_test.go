package dispatch_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	"github.com/rumpus-kernel/rumpus/modapi/dispatch"
	"github.com/rumpus-kernel/rumpus/modapi/sockops"
	"github.com/rumpus-kernel/rumpus/modapi/stream"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// mod is a module that keeps its kernel.
type mod struct {
	k    modapi.Kernel
	init func(k modapi.Kernel) error
}

func (m *mod) Info() modapi.Info {
	return modapi.Info{Name: "m", Class: modapi.ClassMisc, Kern: abi.KernVersionCurrent, Version: "1"}
}

func (m *mod) Init(_ context.Context, k modapi.Kernel, _ modapi.Reason, _ modapi.Props) error {
	m.k = k
	if m.init != nil {
		return m.init(k)
	}
	return nil
}

func (m *mod) Fini(context.Context) error { return nil }

// host is the kernel's end: it keeps the one-way frames and agrees to all.
type host struct {
	*stream.Conn
	mu     sync.Mutex
	frames map[wire.Op][][]byte
	came   chan struct{}
}

func (h *host) Serve(_ context.Context, r *stream.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r.Header.Op.Oneway() {
		h.frames[r.Header.Op] = append(h.frames[r.Header.Op], bytes.Clone(r.Payload))
		select {
		case h.came <- struct{}{}:
		default:
		}
		return
	}
	r.Reply(0, (&wire.NumRes{N: int64(abi.Makedev(9, 0))}).Append(nil), nil)
}

// wait returns when ok says so, asked after each frame.
func (h *host) wait(t *testing.T, ok func(frames map[wire.Op][][]byte) bool) {
	t.Helper()
	deadline := time.After(60 * time.Second)
	for {
		h.mu.Lock()
		done := ok(h.frames)
		h.mu.Unlock()
		if done {
			return
		}
		select {
		case <-h.came:
		case <-deadline:
			t.Fatal("what was to be sent did not come")
		}
	}
}

// serve starts s and the host's end.
func serve(t *testing.T, s *dispatch.Server) *host {
	t.Helper()
	a, b := net.Pipe()
	h := &host{frames: map[wire.Op][][]byte{}, came: make(chan struct{}, 1)}
	h.Conn = stream.New(a, h, stream.Options{Epoch: 4})
	done := make(chan error, 1)
	go func() { done <- s.ServeStream(context.Background(), b) }()
	t.Cleanup(func() {
		h.Close()
		h.Wait()
		if err := <-done; err != io.EOF {
			t.Errorf("ServeStream: %v, want EOF", err)
		}
	})
	return h
}

func life(op wire.Op, obj uint64, args []byte) []byte {
	return wire.AppendFrame(nil, &wire.Header{Op: op, ReqID: 1, Epoch: 4, Object: obj, ReplyLen: 4096}, args, nil)
}

func errno(t *testing.T, s *dispatch.Server, frame []byte) abi.Errno {
	t.Helper()
	b, err := s.Life(t.Context(), frame)
	if err != nil {
		t.Fatal(err)
	}
	h, _, _, err := wire.ParseFrame(b)
	if err != nil || h.Flags != wire.FlagReply || h.Epoch != 4 || h.ReqID != 1 {
		t.Fatalf("%+v, %v", h, err)
	}
	return abi.Errno(h.Errno)
}

var initArgs = (&wire.InitReq{}).Append(nil)

func TestLife(t *testing.T) {
	s := dispatch.New([]modapi.Module{&mod{}}, dispatch.Options{})
	for name, frame := range map[string][]byte{
		"nothing":  nil,
		"cut":      life(wire.OpInfo, 0, nil)[:60],
		"longer":   append(life(wire.OpInfo, 0, nil), 0),
		"no life":  life(wire.OpMount, 0, nil),
		"one-way":  wire.AppendFrame(nil, &wire.Header{Op: wire.OpCancel, Flags: wire.FlagOneway, Epoch: 4}, nil, nil),
		"a reply":  wire.AppendFrame(nil, &wire.Header{Op: wire.OpInfo, Flags: wire.FlagReply, ReqID: 1, Epoch: 4}, nil, nil),
		"no magic": append([]byte("XXXX"), life(wire.OpInfo, 0, nil)[4:]...),
	} {
		if b, err := s.Life(t.Context(), frame); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%s: %x, %v", name, b, err)
		}
	}
	if e := errno(t, s, life(wire.OpInfo, 0, nil)); e != 0 {
		t.Errorf("info: %v", e)
	}
	other := life(wire.OpInfo, 0, nil)
	other[16] = 5
	if _, err := s.Life(t.Context(), other); !errors.Is(err, wire.ErrMalformed) {
		t.Errorf("another epoch: %v", err)
	}
	if e := errno(t, s, life(wire.OpStat, 7, nil)); e != abi.ENOENT {
		t.Errorf("module 7: %v", e)
	}
	if e := errno(t, s, life(wire.OpStat, 0, nil)); e != abi.ENODEV {
		t.Errorf("before Init: %v", e)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	b, err := s.Life(ctx, life(wire.OpInit, 0, initArgs))
	if h, _, _, _ := wire.ParseFrame(b); err != nil || abi.Errno(h.Errno) != abi.ETIMEDOUT {
		t.Errorf("Init without a stream: %v, %v", abi.Errno(h.Errno), err)
	}
	h := serve(t, s)
	if e := errno(t, s, life(wire.OpInit, 0, []byte("garbage"))); e != abi.EINVAL {
		t.Errorf("Init with garbage: %v", e)
	}
	if e := errno(t, s, life(wire.OpInit, 0, initArgs)); e != 0 {
		t.Errorf("Init: %v", e)
	}
	a, z := net.Pipe()
	defer a.Close()
	if err := s.ServeStream(t.Context(), z); !errors.Is(err, abi.EBUSY) {
		t.Errorf("a second stream: %v", err)
	}
	// Operations on what there is not.
	for _, op := range wire.Ops() {
		if op.Oneway() || op.Family() == wire.FamLife {
			continue
		}
		k := stream.GetCall()
		k.Header.Op, k.Header.Object = op, 99
		if err := h.Call(t.Context(), k); err == nil {
			t.Errorf("%s on nothing succeeds", op)
		}
		k.Release()
	}
}

// TestNotes: edges are merged and none is lost, counters and lines come.
func TestNotes(t *testing.T) {
	m := &mod{}
	s := dispatch.New([]modapi.Module{m}, dispatch.Options{EvcntPeriod: 5 * time.Millisecond})
	h := serve(t, s)
	if e := errno(t, s, life(wire.OpInit, 0, initArgs)); e != 0 {
		t.Fatal(e)
	}
	c := m.k.Evcnt("g", "n")
	if m.k.Evcnt("g", "n") != c {
		t.Error("two counters of one name")
	}
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range 500 {
				m.k.Ready(sockops.Ready{Sock: abi.SockID(1 + i%50), Events: 1 << g})
				m.k.DevReady(devops.Ready{Dev: abi.Makedev(9, uint32(i%7)), Events: 1 << g})
				c.Inc()
			}
		}()
	}
	wg.Wait()
	m.k.Log().Warn("a line", "key", 5)
	h.wait(t, func(frames map[wire.Op][][]byte) bool {
		events := map[abi.SockID]abi.PollEvents{}
		for _, p := range frames[wire.OpReady] {
			var r wire.ReadyMsg
			if err := r.Parse(p); err != nil {
				t.Fatal(err)
			}
			for _, e := range r.Edges {
				events[e.Sock] |= e.Events
			}
		}
		devs := map[abi.Dev]abi.PollEvents{}
		for _, p := range frames[wire.OpDevReady] {
			var r wire.DevReadyMsg
			if err := r.Parse(p); err != nil {
				t.Fatal(err)
			}
			for _, e := range r.Edges {
				devs[e.Dev] |= e.Events
			}
		}
		for i := range 50 {
			if events[abi.SockID(i+1)] != 15 || devs[abi.Makedev(9, uint32(i%7))] != 15 {
				return false
			}
		}
		last := uint64(0)
		for i, p := range frames[wire.OpEvcnt] {
			var r wire.EvcntMsg
			if err := r.Parse(p); err != nil || len(r.Vals) != 1 {
				t.Fatal(r, err)
			}
			v := r.Vals[0]
			if (v.Name == "n") != (i == 0) || v.Value < last {
				t.Fatalf("message %d: %+v after %d", i, v, last)
			}
			last = v.Value
		}
		if last != 2000 || len(frames[wire.OpLog]) == 0 {
			return false
		}
		var l wire.LogMsg
		if err := l.Parse(frames[wire.OpLog][0]); err != nil || l.Text != "a line" || l.Level != wire.LogWarn || len(l.KV) != 2 || l.KV[1] != "5" {
			t.Fatalf("%+v, %v", l, err)
		}
		return true
	})
}

// TestGranted: each taker has a descriptor of its own.
func TestGranted(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	m := &mod{}
	s := dispatch.New([]modapi.Module{m}, dispatch.Options{Granted: map[string]*os.File{"host.x": w}})
	serve(t, s)
	if e := errno(t, s, life(wire.OpInit, 0, initArgs)); e != 0 {
		t.Fatal(e)
	}
	if _, err := m.k.Granted("host.y"); !errors.Is(err, abi.ENOENT) {
		t.Errorf("no such grant: %v", err)
	}
	for range 2 {
		f, err := m.k.Granted("host.x")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString("x"); err != nil {
			t.Error(err)
		}
		f.Close()
	}
	w.Close()
	if b, _ := io.ReadAll(r); string(b) != "xx" {
		t.Errorf("%q", b)
	}
}

// TestFailedInit: what was attached by an Init that fails is gone, and a
// second Init attaches it again.
func TestFailedInit(t *testing.T) {
	fail := true
	m := &mod{init: func(k modapi.Kernel) error {
		if err := k.AttachDomain(2, nil); err != nil {
			return err
		}
		if err := k.AttachDomain(2, nil); !errors.Is(err, abi.EEXIST) {
			t.Errorf("attached twice: %v", err)
		}
		if dev, err := k.AttachChr("x", devops.Chr(nil)); err != nil || dev.Major() != 9 {
			t.Errorf("chr: %v, %v", dev, err)
		}
		if fail {
			return abi.ENOMEM
		}
		return nil
	}}
	s := dispatch.New([]modapi.Module{m}, dispatch.Options{})
	serve(t, s)
	if e := errno(t, s, life(wire.OpInit, 0, initArgs)); e != abi.ENOMEM {
		t.Errorf("%v", e)
	}
	fail = false
	if e := errno(t, s, life(wire.OpInit, 0, initArgs)); e != 0 {
		t.Errorf("again: %v", e)
	}
	if e := errno(t, s, life(wire.OpFini, 0, nil)); e != 0 {
		t.Errorf("fini: %v", e)
	}
}

// FuzzLife: no life frame harms the component.
func FuzzLife(f *testing.F) {
	f.Add(life(wire.OpInfo, 0, nil))
	f.Add(life(wire.OpStat, 0, nil))
	f.Add(life(wire.OpFini, 9, []byte("x")))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := dispatch.New([]modapi.Module{&mod{}}, dispatch.Options{})
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // nobody waits for a stream
		r, err := s.Life(ctx, b)
		if err != nil {
			return
		}
		if _, _, _, err := wire.ParseFrame(r); err != nil {
			t.Fatalf("the answer is malformed: %v", err)
		}
	})
}
