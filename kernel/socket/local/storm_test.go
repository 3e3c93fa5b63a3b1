package local

import (
	"bytes"
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

func TestOptions(t *testing.T) {
	k := newKit(t)
	a, b := k.pair(abi.SOCK_STREAM)
	for _, tc := range []struct {
		level, name int
		val         []byte
		err         error
	}{
		{abi.SOL_SOCKET, abi.SO_SNDBUF, int32Opt(4096), nil},
		{abi.SOL_SOCKET, abi.SO_RCVBUF, int32Opt(MaxSpace), nil},
		{abi.SOL_SOCKET, abi.SO_RCVBUF, int32Opt(MaxSpace + 1), abi.ENOBUFS},
		{abi.SOL_SOCKET, abi.SO_RCVBUF, int32Opt(-1), abi.EINVAL},
		{abi.SOL_SOCKET, abi.SO_RCVBUF, nil, abi.EINVAL},
		{abi.SOL_SOCKET, abi.SO_LINGER, []byte{1, 0, 0, 0, 9, 0, 0, 0}, nil},
		{abi.SOL_SOCKET, abi.SO_LINGER, int32Opt(1), abi.EINVAL},
		{abi.SOL_SOCKET, abi.SO_KEEPALIVE, int32Opt(1), nil},
		{abi.SOL_SOCKET, abi.SO_TYPE, int32Opt(1), abi.ENOPROTOOPT},
		{abi.SOL_LOCAL, abi.LOCAL_CREDS, int32Opt(1), nil},
		{abi.SOL_LOCAL, abi.LOCAL_CONNWAIT, int32Opt(1), nil},
		{abi.SOL_LOCAL, 99, int32Opt(1), abi.ENOPROTOOPT},
		{abi.IPPROTO_TCP, abi.TCP_NODELAY, int32Opt(1), abi.ENOPROTOOPT},
	} {
		if err := Of(a).Setopt(abi.KernelCaller, tc.level, tc.name, tc.val); err != tc.err {
			t.Errorf("set %#x %#x: %v, want %v", tc.level, tc.name, err, tc.err)
		} else if err == nil {
			if v, err := Of(a).Getopt(tc.level, tc.name); err != nil || !bytes.Equal(v, tc.val) {
				t.Errorf("get %#x %#x: %x %v, want %x", tc.level, tc.name, v, err, tc.val)
			}
		}
	}
	if v, err := Of(a).Getopt(abi.SOL_SOCKET, abi.SO_TYPE); err != nil || !bytes.Equal(v, int32Opt(abi.SOCK_STREAM)) {
		t.Errorf("%x %v", v, err)
	}
	f := k.socket(abi.SOCK_STREAM)
	_, err := Of(f).Getopt(abi.SOL_LOCAL, abi.LOCAL_PEEREID)
	k.want(err, abi.EINVAL)
	_, err = Of(f).Getopt(abi.SOL_LOCAL, 99)
	k.want(err, abi.ENOPROTOOPT)
	k.close(a, b, f)
}

func TestKnotes(t *testing.T) {
	k := newKit(t)
	check := func(f *file.File, filter uint32, data int64, flags uint32, ready bool) {
		t.Helper()
		if d, fl, r := (fileOps{}).PollKnote(k.ctx, f, filter); d != data || fl != flags || r != ready {
			t.Errorf("%d %#x %v, want %d %#x %v", d, fl, r, data, flags, ready)
		}
	}
	l := k.bound(abi.SOCK_STREAM, "/l")
	k.ok(Of(l).Listen(caller, 5))
	check(l, abi.EVFILT_READ, 0, 0, false)
	c := k.socket(abi.SOCK_STREAM)
	check(c, abi.EVFILT_WRITE, 0, 0, false)
	k.ok(Of(c).Connect(k.ctx, caller, abi.SockaddrUnix("/l"), true))
	check(l, abi.EVFILT_READ, 1, 0, true)
	check(c, abi.EVFILT_WRITE, StreamSpace, 0, true)
	check(c, abi.EVFILT_READ, 0, 0, false)
	s, _, err := Of(l).Accept(k.ctx, caller, true, 0)
	k.ok(err)
	k.ok(k.send(c, "hello"))
	check(s, abi.EVFILT_READ, 5, 0, true)
	check(c, abi.EVFILT_WRITE, StreamSpace-5, 0, true)
	k.ok(Of(c).Shutdown(k.ctx, abi.SHUT_WR))
	check(s, abi.EVFILT_READ, 5, abi.EV_EOF, true)
	check(c, abi.EVFILT_WRITE, StreamSpace-5, abi.EV_EOF, true)
	k.close(c, l)
	check(s, abi.EVFILT_WRITE, 0, abi.EV_EOF, true)
	k.close(s)
}

// TestConnectStorm connects to names that come and go, while both ends are
// closed at any moment.
func TestConnectStorm(t *testing.T) {
	k := newKit(t)
	const paths = 3
	var wg sync.WaitGroup
	d := k.d
	names := &names{m: map[string]*name{}}
	d.o.Bind, d.o.Find = names.bind, names.find
	for i := range paths {
		path := "/" + string(rune('a'+i))
		wg.Go(func() {
			for range 60 {
				l := k.bound(abi.SOCK_SEQPACKET, path)
				if err := Of(l).Listen(caller, 3); err != nil {
					t.Error(err)
				}
				ctx, cancel := context.WithTimeout(k.ctx, 3*time.Millisecond)
				for {
					s, _, err := Of(l).Accept(ctx, caller, false, 0)
					if err != nil {
						break
					}
					if k.send(s, "x", hold(s)) != nil {
						k.close(s)
					}
					k.close(s)
				}
				cancel()
				names.mu.Lock()
				delete(names.m, path)
				names.mu.Unlock()
				k.close(l)
			}
		})
	}
	var got atomic.Int64
	for seed := range 3 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(seed), 3))
			for range 1500 {
				c := k.socket(abi.SOCK_SEQPACKET)
				if Of(c).Connect(k.ctx, caller, abi.SockaddrUnix("/"+string(rune('a'+r.IntN(paths)))), false) == nil && r.IntN(2) == 0 {
					ctx, cancel := context.WithTimeout(k.ctx, time.Millisecond)
					res, _ := Of(c).Recv(ctx, abi.IovOf(make([]byte, 10)), 0, false)
					cancel()
					k.close(res.Files...)
					got.Add(int64(len(res.Files)))
				}
				k.close(c)
			}
		})
	}
	wg.Wait()
	if got.Load() == 0 {
		t.Error("nobody got a file")
	}
}
