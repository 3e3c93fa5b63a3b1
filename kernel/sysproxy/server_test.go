package sysproxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

func TestSyscallRoundTrip(t *testing.T) {
	k := start(t, nil)
	r := k.dial().hello()
	in := bytes.Repeat([]byte("x"), wire.MaxPayload)
	addr := abi.SockaddrUnix("/a").Marshal()
	req := wire.SyscallReq{Num: abi.SYS_sendto, A: [6]uint64{1, 0, 0, 0, 0, 41}, Path: [2]string{"abc", "de"}, Addr: addr}
	r.send(r.frame(wire.OpSyscall, req.Append(nil), in, len(in)))
	h, args, payload, err := r.reply()
	var res wire.SyscallRes
	if err != nil || h.Errno != 0 || res.Parse(args) != nil {
		t.Fatalf("%v, errno %d", err, h.Errno)
	}
	if res.R != [2]uint64{42, 5} || !bytes.Equal(res.Addr, addr) || !bytes.Equal(payload, in) {
		t.Errorf("got %v, address %x, %d bytes", res.R, res.Addr, len(payload))
	}
}

func TestPeerAndRefusal(t *testing.T) {
	k := start(t, nil)
	k.dial().hello()
	p := k.peers[0]
	if int(p.Pid) != os.Getpid() || int(p.Uid) != os.Getuid() || int(p.Gid) != os.Getgid() || p.Name != "raw" {
		t.Errorf("peer %+v", p)
	}
}

func TestErrorReplies(t *testing.T) {
	k := start(t, nil)
	r := k.dial().hello()
	for _, c := range []struct {
		num  int32
		no   abi.Errno
		text string
	}{
		{abi.SYS_open, abi.EOPNOTSUPP, "vfs component not available: " + abi.EOPNOTSUPP.Error()},
		{abi.SYS_unlink, abi.ENOENT, ""},
		{-1, abi.ENOSYS, ""},
		{1 << 30, abi.ENOSYS, ""},
	} {
		r.syscall(c.num, [6]uint64{}, nil, 0)
		h, args, _, err := r.reply()
		if err != nil || h.Errno != int32(c.no) || string(args) != c.text {
			t.Errorf("call %d: %v, errno %d, %q", c.num, err, h.Errno, args)
		}
	}
	// A kernel that claims to have filled more than there is.
	r.syscall(abi.SYS_fsync, [6]uint64{}, nil, 10)
	if h, _, payload, err := r.reply(); err != nil || h.Errno != 0 || len(payload) != 10 {
		t.Errorf("%v, errno %d, %d bytes", err, h.Errno, len(payload))
	}
}

func TestPolicy(t *testing.T) {
	who := Peer{Uid: 4711, Pid: 3}
	k := start(t, func(o *Options) {
		o.Creds = func(net.Conn) (Peer, error) { return who, nil }
	})
	r := k.dial()
	r.send(r.frame(wire.OpHello, (&wire.HelloReq{Name: "eve"}).Append(nil), nil, 0))
	h, args, _, err := r.reply()
	if err != nil || h.Errno != int32(abi.EACCES) || !strings.Contains(string(args), "4711") {
		t.Errorf("%v, errno %d, %q", err, h.Errno, args)
	}
	if _, _, _, err := r.reply(); err != io.EOF {
		t.Errorf("refused, and then: %v", err)
	}
	if n := k.next.Load(); n != 0 {
		t.Errorf("%d processes made", n)
	}
	for uid, want := range map[uint32]bool{uint32(os.Getuid()): true, 0: true, 65534: false} {
		if err := OwnerOnly(Peer{Uid: uid}); (err == nil) != want && uid != uint32(os.Getuid()) {
			t.Errorf("uid %d: %v", uid, err)
		}
	}
}

func TestNotUnix(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if _, err := PeerCred(a); !errors.Is(err, abi.EACCES) {
		t.Errorf("a pipe: %v", err)
	}
}

func TestClientLimit(t *testing.T) {
	k := start(t, func(o *Options) { o.Clients = 3 })
	var in []*raw
	for range 3 {
		in = append(in, k.dial().hello())
	}
	r := k.dial()
	r.send(r.frame(wire.OpHello, (&wire.HelloReq{}).Append(nil), nil, 0))
	if h, _, _, err := r.reply(); err != nil || h.Errno != int32(abi.EAGAIN) {
		t.Errorf("fourth client: %v, errno %d", err, h.Errno)
	}
	in[0].Close()
	within(t, k.ended)
	// The place is free when the process is gone, a moment later at most.
	for deadline := time.Now().Add(limit); ; {
		r := k.dial()
		r.send(r.frame(wire.OpHello, (&wire.HelloReq{}).Append(nil), nil, 0))
		h, _, _, err := r.reply()
		if err == nil && h.Errno == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("no place for a new client: %v, errno %d", err, h.Errno)
		}
	}
}

func TestStrangersLimit(t *testing.T) {
	k := start(t, func(o *Options) { o.Clients = 1 })
	for range maxStrangers + 1 {
		k.dial()
	}
	r := k.dial()
	if _, _, _, err := r.reply(); err == nil {
		t.Error("one more stranger was let in")
	}
}

// TestOutsiders has people who may not come in crowd the door.
func TestOutsiders(t *testing.T) {
	var uid atomic.Uint32
	uid.Store(4711)
	k := start(t, func(o *Options) {
		o.Creds = func(net.Conn) (Peer, error) { return Peer{Uid: uid.Load()}, nil }
		o.Clients = 1
	})
	for range maxOutsiders {
		k.dial()
	}
	r := k.dial()
	if _, _, _, err := r.reply(); err == nil {
		t.Error("one more outsider was heard")
	}
	uid.Store(0)
	k.works()
}

func TestNewProcFails(t *testing.T) {
	k := start(t, func(o *Options) {
		o.NewProc = func(context.Context, Peer) (Proc, error) { return nil, fmt.Errorf("no more: %w", abi.EAGAIN) }
		o.Clients = 1
	})
	for range 3 { // the place is given back each time
		r := k.dial()
		r.send(r.frame(wire.OpHello, (&wire.HelloReq{}).Append(nil), nil, 0))
		if h, args, _, err := r.reply(); err != nil || h.Errno != int32(abi.EAGAIN) || !strings.HasPrefix(string(args), "no more") {
			t.Errorf("%v, errno %d, %q", err, h.Errno, args)
		}
	}
}

// TestCancel gives up on calls that wait: each is answered with what it came
// to, and the connection goes on.
func TestCancel(t *testing.T) {
	k := start(t, nil)
	r := k.dial().hello()
	cancel := func(id uint64) {
		h := wire.Header{Op: wire.OpCancel, Flags: wire.FlagOneway, Object: id}
		r.send(wire.AppendFrame(nil, &h, nil, nil))
	}
	r.syscall(abi.SYS_paccept, [6]uint64{}, nil, 0)
	within(t, k.waiting)
	cancel(r.id)
	if h, _, _, err := r.reply(); err != nil || h.Errno != int32(abi.EINTR) {
		t.Errorf("accept: %v, errno %d", err, h.Errno)
	}
	r.syscall(abi.SYS_recvfrom, [6]uint64{}, nil, 100)
	within(t, k.waiting)
	cancel(r.id)
	if h, _, p, err := r.reply(); err != nil || h.Errno != 0 || string(p) != "late" {
		t.Errorf("recv: %v, errno %d, %q", err, h.Errno, p)
	}
	cancel(12345) // of nobody
	r.syscall(abi.SYS_getpid, [6]uint64{}, nil, 0)
	if h, _, _, err := r.reply(); err != nil || h.Errno != 0 {
		t.Errorf("getpid: %v, errno %d", err, h.Errno)
	}
}

// TestManyWait has as many calls waiting as may, and one that gets through.
func TestManyWait(t *testing.T) {
	k := start(t, nil)
	r := k.dial().hello()
	for range MaxCalls - 1 {
		r.syscall(abi.SYS_paccept, [6]uint64{}, nil, 0)
	}
	for range MaxCalls - 1 {
		within(t, k.waiting)
	}
	r.syscall(abi.SYS_getpid, [6]uint64{}, nil, 0)
	if h, _, _, err := r.reply(); err != nil || h.Errno != 0 {
		t.Errorf("the last place: %v, errno %d", err, h.Errno)
	}
	r.Close()
	p := within(t, k.ended)
	within(t, p.closed)
	if n := k.woken.Load(); n != MaxCalls-1 {
		t.Errorf("%d calls woken", n)
	}
	k.works()
}

func TestCallMemory(t *testing.T) {
	k := start(t, func(o *Options) { o.CallMemory = 3 << 20 })
	r := k.dial().hello()
	for range 3 {
		r.syscall(abi.SYS_recvfrom, [6]uint64{}, nil, 1<<20)
	}
	for range 3 {
		within(t, k.waiting)
	}
	r.syscall(abi.SYS_read, [6]uint64{0, 5, 7}, nil, 1<<20)
	if h, _, _, err := r.reply(); err != nil || h.Errno != int32(abi.ENOBUFS) {
		t.Errorf("beyond: %v, errno %d", err, h.Errno)
	}
	r.syscall(abi.SYS_read, [6]uint64{0, 5, 7}, nil, 4096)
	if h, _, p, err := r.reply(); err != nil || h.Errno != 0 || string(p) != "\a\a\a\a\a" {
		t.Errorf("small: %v, errno %d, %q", err, h.Errno, p)
	}
	k.works() // others have their own
}

// TestKilledInMidCall has a client's process killed while its calls wait: the
// test binary plays the client.
func TestKilledInMidCall(t *testing.T) {
	if path := os.Getenv("SYSPROXY_VICTIM"); path != "" {
		victim(path)
	}
	k := start(t, nil)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p, err := os.StartProcess(exe, []string{exe, "-test.run=^TestKilledInMidCall$"}, &os.ProcAttr{
		Env: append(os.Environ(), "SYSPROXY_VICTIM="+k.path)})
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		within(t, k.waiting)
	}
	p.Signal(syscall.SIGKILL)
	p.Wait()
	within(t, within(t, k.ended).closed)
	if n := k.woken.Load(); n != 5 {
		t.Errorf("%d of 5 calls woken", n)
	}
	if len(k.peers) != 1 || int(k.peers[0].Pid) != p.Pid {
		t.Errorf("peers %v, victim %d", k.peers, p.Pid)
	}
	k.works()
}

func victim(path string) {
	nc, err := net.Dial("unix", path)
	if err != nil {
		os.Exit(1)
	}
	r := &raw{Conn: nc}
	nc.Write(r.frame(wire.OpHello, (&wire.HelloReq{Name: "victim"}).Append(nil), nil, 0))
	if _, _, _, err := r.reply(); err != nil {
		os.Exit(1)
	}
	for range 5 {
		nc.Write(r.frame(wire.OpSyscall, (&wire.SyscallReq{Num: abi.SYS_paccept}).Append(nil), nil, 0))
	}
	io.Copy(io.Discard, nc)
	os.Exit(1)
}

// TestServeEnds ends the server with clients in mid-call.
func TestServeEnds(t *testing.T) {
	k := start(t, nil)
	r := k.dial().hello()
	r.syscall(abi.SYS_paccept, [6]uint64{}, nil, 0)
	within(t, k.waiting)
	k.stop()
	err := within(t, k.done)
	k.done <- err
	if err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("unix", k.path); err == nil {
		t.Error("still listening")
	}
}
