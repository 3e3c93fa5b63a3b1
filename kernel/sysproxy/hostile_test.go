package sysproxy

import (
	"bytes"
	"encoding/binary"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

// TestHostile has clients break the rules on the stream: the connection of each
// ends, its process with it, and others are served.
func TestHostile(t *testing.T) {
	hello := (&wire.HelloReq{Name: "h"}).Append(nil)
	header := func(mod func(h *wire.Header)) []byte {
		h := wire.Header{Op: wire.OpSyscall, ReqID: 77, Class: wire.OpSyscall.Class()}
		mod(&h)
		b := make([]byte, wire.HeaderSize)
		h.Put(b)
		return b
	}
	for _, c := range []struct {
		name string
		late bool // ends by a time-out, not at once
		act  func(r *raw)
	}{
		{"garbage instead of HELLO", false, func(r *raw) { r.send(bytes.Repeat([]byte{0xa5}, 4096)) }},
		{"an HTTP request", false, func(r *raw) { r.send([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n" + string(make([]byte, 64)))) }},
		{"silence instead of HELLO", true, func(r *raw) {}},
		{"half a HELLO", true, func(r *raw) { r.send(r.frame(wire.OpHello, hello, nil, 0)[:70]) }},
		{"a system call before HELLO", false, func(r *raw) { r.syscall(abi.SYS_getpid, [6]uint64{}, nil, 0) }},
		{"HELLO twice", false, func(r *raw) { r.hello().send(r.frame(wire.OpHello, hello, nil, 0)) }},
		{"HELLO with nonsense", false, func(r *raw) { r.send(r.frame(wire.OpHello, []byte{9, 9, 9}, nil, 0)) }},
		{"HELLO with a payload", false, func(r *raw) { r.send(r.frame(wire.OpHello, hello, []byte("x"), 0)) }},
		{"an operation of components", false, func(r *raw) { r.hello().send(r.frame(wire.OpMount, nil, nil, 0)) }},
		{"an upcall", false, func(r *raw) { r.hello().send(r.frame(wire.OpAttachFS, nil, nil, 0)) }},
		{"a one-way upcall", false, func(r *raw) {
			h := wire.Header{Op: wire.OpLog, Flags: wire.FlagOneway}
			r.hello().send(wire.AppendFrame(nil, &h, []byte("x"), nil))
		}},
		{"an unknown operation", false, func(r *raw) { r.hello().send(r.frame(0x7777, nil, nil, 0)) }},
		{"a giant length of arguments", false, func(r *raw) {
			r.hello().send(header(func(h *wire.Header) { h.ArgsLen = 1 << 31 }))
		}},
		{"a giant payload", false, func(r *raw) {
			r.hello().send(header(func(h *wire.Header) { h.PayloadLen = wire.MaxPayload + 1 }))
		}},
		{"a giant reply", false, func(r *raw) {
			r.hello().send(header(func(h *wire.Header) { h.ReplyLen = 1<<32 - 1 }))
		}},
		{"arguments of nonsense", false, func(r *raw) { r.hello().send(r.frame(wire.OpSyscall, []byte("nonsense"), nil, 0)) }},
		{"a path longer than a path", false, func(r *raw) {
			b := (&wire.SyscallReq{Num: abi.SYS_open, Path: [2]string{"aaaa", ""}}).Append(nil)
			i := bytes.Index(b, []byte("aaaa"))
			binary.LittleEndian.PutUint32(b[i-4:], 1<<30)
			r.hello().send(r.frame(wire.OpSyscall, b, nil, 0))
		}},
		{"a reply to nobody", false, func(r *raw) {
			r.hello().send(header(func(h *wire.Header) { h.Flags = wire.FlagReply }))
		}},
		{"a request id twice", false, func(r *raw) {
			r.hello().syscall(abi.SYS_paccept, [6]uint64{}, nil, 0)
			r.id--
			r.syscall(abi.SYS_paccept, [6]uint64{}, nil, 0)
		}},
		{"another epoch in mid-stream", false, func(r *raw) {
			r.hello().send(header(func(h *wire.Header) { h.Epoch = 3 }))
			r.send(header(func(h *wire.Header) { h.Epoch = 4; h.ReqID = 78 }))
		}},
		{"half a payload", true, func(r *raw) {
			r.hello().send(header(func(h *wire.Header) { h.PayloadLen = 1000 })[:])
			r.send(make([]byte, 10))
		}},
		{"death in mid-frame", false, func(r *raw) {
			r.hello().send(r.frame(wire.OpSyscall, (&wire.SyscallReq{Num: abi.SYS_write}).Append(nil), make([]byte, 1000), 0)[:500])
			r.Close()
		}},
		{"more calls than may be", false, func(r *raw) {
			r.hello()
			for range MaxCalls + 1 {
				r.syscall(abi.SYS_paccept, [6]uint64{}, nil, 0)
			}
		}},
		{"answers that are never read", true, func(r *raw) {
			r.hello()
			for range 20 {
				r.syscall(abi.SYS_read, [6]uint64{0, 1 << 20, 1}, nil, 1<<20)
			}
		}},
		{"a flood that is never read", true, func(r *raw) {
			r.hello()
			f := r.frame(wire.OpSyscall, (&wire.SyscallReq{Num: abi.SYS_read, A: [6]uint64{0, 1 << 20, 1}}).Append(nil), nil, 1<<20)
			for id := r.id; ; id++ { // until the kernel hangs up
				binary.LittleEndian.PutUint64(f[8:], id)
				if _, err := r.Write(f); err != nil {
					break
				}
			}
		}},
		{"a cancellation of everything", false, func(r *raw) {
			r.hello()
			for id := range uint64(300) { // none of them is a lie; then one is
				h := wire.Header{Op: wire.OpCancel, Flags: wire.FlagOneway, Object: id}
				r.send(wire.AppendFrame(nil, &h, nil, nil))
			}
			r.send(r.frame(0x7777, nil, nil, 0))
		}},
		{"a signal for the kernel", false, func(r *raw) {
			h := wire.Header{Op: wire.OpSignal, Flags: wire.FlagOneway}
			r.hello().send(wire.AppendFrame(nil, &h, make([]byte, 64), nil))
		}},
		{"a one-way system call", false, func(r *raw) {
			h := wire.Header{Op: wire.OpSyscall, Flags: wire.FlagOneway, ReqID: 9}
			r.hello().send(wire.AppendFrame(nil, &h, (&wire.SyscallReq{Num: abi.SYS_getpid}).Append(nil), nil))
		}},
		{"no request id", false, func(r *raw) { r.hello().send(header(func(h *wire.Header) { h.ReqID = 0 })) }},
		{"another class than the call's", false, func(r *raw) {
			r.hello().send(header(func(h *wire.Header) { h.Class, h.ArgsLen = 200, 1<<20 }))
		}},
		{"one byte at a time", true, func(r *raw) {
			r.hello()
			f := r.frame(wire.OpSyscall, (&wire.SyscallReq{Num: abi.SYS_getpid}).Append(nil), nil, 0)
			for _, b := range f[:40] { // never a whole one
				r.send([]byte{b})
			}
		}},
		{"descriptors nobody asked for", false, func(r *raw) {
			f, err := os.Open(os.DevNull)
			if err != nil {
				r.t.Fatal(err)
			}
			defer f.Close()
			r.hello()
			rights := syscall.UnixRights(int(f.Fd()), int(f.Fd()), int(f.Fd()))
			frame := r.frame(wire.OpSyscall, (&wire.SyscallReq{Num: abi.SYS_getpid}).Append(nil), nil, 0)
			if _, _, err := r.Conn.(*net.UnixConn).WriteMsgUnix(frame, rights, nil); err != nil {
				r.t.Fatal(err)
			}
			if _, _, _, err := r.reply(); err != nil { // they are not looked at, and not kept
				r.t.Errorf("the call: %v", err)
			}
			r.send(r.frame(0x7777, nil, nil, 0))
		}},
		{"calls after the end of what it says", false, func(r *raw) {
			r.hello().syscall(abi.SYS_paccept, [6]uint64{}, nil, 0)
			r.Conn.(*net.UnixConn).CloseWrite()
		}},
		{"a thousand connections without a word", false, func(r *raw) {
			for range 1000 {
				nc, err := net.Dial("unix", r.RemoteAddr().String())
				if err == nil {
					nc.Close()
				}
			}
			r.hello().send(r.frame(0x7777, nil, nil, 0))
		}},
		{"every system call there is, with nonsense", false, func(r *raw) {
			r.hello()
			for num := int32(-3); num < abi.SYS_NSYSENT+3; num++ {
				if num == abi.SYS_paccept || num == abi.SYS_recvfrom { // these wait
					continue
				}
				r.syscall(num, [6]uint64{1 << 63, 1<<64 - 1, 1 << 31, 7, 1 << 40, 3}, []byte("x"), 10)
				if _, _, _, err := r.reply(); err != nil {
					r.t.Fatalf("system call %d: %v", num, err)
				}
			}
			r.send(r.frame(0x7777, nil, nil, 0))
		}},
	} {
		hostile(t, c.name, c.late, c.act)
	}
}

// hostile runs one behaviour against a server that also serves somebody who
// behaves, before and after. The time-outs that a late case is to run into are
// short, all others so long that a busy machine does not meet them. Who behaves
// can still come too late for a short one when he greets, and tries again; after
// that nothing hurries him.
func hostile(t *testing.T, name string, late bool, act func(r *raw)) {
	t.Run(name, func(t *testing.T) {
		t.Parallel()
		timeout := limit
		if late {
			timeout = time.Second
		}
		k := start(t, func(o *Options) { o.HelloTimeout, o.IOTimeout = timeout, timeout })
		other := k.bystander()
		defer other.Close()
		r := k.dial()
		act(r)
		if late && r.id > 1 { // it has a process: see it end
			p := within(t, k.ended)
			within(t, p.closed)
		} else {
			drain(r)
		}
		r.Close()
		other.syscall(abi.SYS_getpid, [6]uint64{}, nil, 0)
		h, args, _, err := other.reply()
		var res wire.SyscallRes
		if err != nil || h.Errno != 0 || res.Parse(args) != nil || res.R[0] == 0 {
			t.Fatalf("somebody else's call: %v, errno %d, %+v", err, h.Errno, res)
		}
		if !late {
			k.works()
		}
	})
}

// bystander is a client that has greeted.
func (k *fakeKernel) bystander() *raw {
	k.t.Helper()
	for end := time.Now().Add(limit); ; {
		r := k.dial()
		r.send(r.frame(wire.OpHello, (&wire.HelloReq{Name: "other", Pid: 1}).Append(nil), nil, 0))
		if h, _, _, err := r.reply(); err == nil && h.Errno == 0 {
			return r
		}
		r.Close()
		if time.Now().After(end) {
			k.t.Fatal("nobody gets in")
		}
	}
}

// drain reads until the kernel hangs up, or the deadline of the connection
// makes the test fail.
func drain(r *raw) {
	r.t.Helper()
	b := make([]byte, 1<<16)
	for {
		if _, err := r.Read(b); err != nil {
			if ne, ok := err.(interface{ Timeout() bool }); ok && ne.Timeout() {
				r.t.Error("the kernel does not hang up")
			}
			return
		}
	}
}

// FuzzHostile plays any client: what it sends before and after HELLO. The
// server must live, and be rid of it.
func FuzzHostile(f *testing.F) {
	hello := wire.AppendFrame(nil, &wire.Header{Op: wire.OpHello, ReqID: 1, Class: wire.OpHello.Class()}, (&wire.HelloReq{Name: "f"}).Append(nil), nil)
	call := wire.AppendFrame(nil, &wire.Header{Op: wire.OpSyscall, ReqID: 2, ReplyLen: 100, Class: wire.OpSyscall.Class()},
		(&wire.SyscallReq{Num: abi.SYS_sendto, Path: [2]string{"a", "b"}, Addr: []byte{2, 0}}).Append(nil), []byte("in"))
	cancel := wire.AppendFrame(nil, &wire.Header{Op: wire.OpCancel, Flags: wire.FlagOneway, Object: 2}, nil, nil)
	f.Add([]byte("garbage"), false)
	f.Add(hello, false)
	f.Add(append(append([]byte(nil), hello...), call...), false)
	f.Add(append(append([]byte(nil), call...), cancel...), true)
	f.Add(append(append([]byte(nil), call...), call...), true)
	f.Fuzz(func(t *testing.T, b []byte, in bool) {
		k := start(t, nil)
		r := k.dial()
		r.id = 1 << 40 // apart from what the fuzzer makes
		if in {
			r.hello()
		}
		go func() {
			r.Write(b)
			r.Conn.(interface{ CloseWrite() error }).CloseWrite()
		}()
		drain(r)
		r.Close()
		k.works()
	})
}
