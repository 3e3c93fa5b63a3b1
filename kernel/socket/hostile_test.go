package socket

import (
	"bytes"
	"context"
	"encoding/binary"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/sockops"
)

// liar is a domain that answers what cannot be.
type liar struct {
	*fakeNet
	n   int
	opt []byte
	err error
}

func (l *liar) Send(context.Context, abi.SockID, sockops.SendReq, abi.Iov) (int, error) {
	return l.n, l.err
}

func (l *liar) Recv(context.Context, abi.SockID, sockops.RecvReq, abi.Iov) (sockops.RecvRes, error) {
	return sockops.RecvRes{N: l.n}, l.err
}

func (l *liar) Getopt(context.Context, abi.SockID, int, int) ([]byte, error) { return l.opt, l.err }

func (l *liar) Poll(context.Context, abi.SockID) (abi.PollEvents, error) { return -1, l.err }

func TestHostileDomain(t *testing.T) {
	k := &kit{t: t, Layer: New(Options{})}
	k.SetAvailable(true)
	d := &liar{fakeNet: newFake(k.Ready, 10)}
	if err := k.AttachDomain("net", abi.AF_INET, d); err != nil {
		t.Fatal(err)
	}
	if err := k.InstanceUp(context.Background(), "net"); err != nil {
		t.Fatal(err)
	}
	ctx := ctxT(t)
	st, dg := k.sock(abi.SOCK_STREAM), k.sock(abi.SOCK_DGRAM)
	b := make([]byte, 10)
	for _, n := range []int{-1, 11, 1 << 40} {
		d.n = n
		_, err := k.Send(ctx, root, st, b, 0)
		want(t, "send", err, abi.EIO)
		_, err = k.Send(ctx, root, dg, b, 0)
		want(t, "send", err, abi.EIO)
		_, err = k.Recv(ctx, root, st, b, abi.MSG_WAITALL)
		want(t, "recv", err, abi.EIO)
		_, err = k.Recv(ctx, root, dg, b, 0)
		want(t, "recv", err, abi.EIO)
	}
	d.n = 0 // a stream that takes nothing would be asked for ever
	_, err := k.Send(ctx, root, st, b, 0)
	want(t, "send of nothing", err, abi.EIO)
	d.opt = make([]byte, MaxOpt+1)
	_, err = k.Getsockopt(ctx, root, st, 6, 1)
	want(t, "long option", err, abi.EIO)
	d.opt = nil
	if v, err := k.Getsockopt(ctx, root, st, abi.SOL_SOCKET, abi.SO_ERROR); err != nil || v != nil {
		t.Errorf("empty SO_ERROR: %v %v", v, err)
	}
	if ev := st.Ops.Poll(ctx, st, abi.POLLIN); ev != abi.POLLIN|abi.POLLERR|abi.POLLHUP {
		t.Errorf("poll: %v, want what was asked and answers, without NVAL", ev)
	}
	d.err = abi.Errno(12345)
	_, err = k.Recv(ctx, root, st, b, 0)
	want(t, "errno", err, abi.EIO)
	k.Ready(sockops.Ready{Sock: 1 << 60, Events: -1}) // nobody
}

func FuzzTimeval(f *testing.F) {
	f.Add([]byte{})
	f.Add(make([]byte, TimevalSize))
	f.Add(bytes.Repeat([]byte{0xff}, TimevalSize))
	f.Add(appendTimeval(1<<31*1e9 + 999999e3))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := parseTimeval(b)
		if err != nil {
			if e := abi.ErrnoOf(err); e != abi.EINVAL && e != abi.EDOM {
				t.Errorf("%v", err)
			}
			return
		}
		if d < 0 {
			t.Errorf("%v", d)
		}
		if back := appendTimeval(d); !bytes.Equal(back[:12], b[:12]) {
			t.Errorf("%x became %x", b[:12], back)
		}
	})
}

// TestMemberships: joining adds up, leaving takes away, and the rest is put
// back after a restart.
func TestMemberships(t *testing.T) {
	k := newKit(t, 10)
	ctx := ctxT(t)
	f := k.sock(abi.SOCK_DGRAM)
	group := func(n uint32) []byte { return binary.LittleEndian.AppendUint64(nil, uint64(n)) }
	set := func(name int, v []byte, e abi.Errno) {
		t.Helper()
		want(t, "setsockopt", k.Setsockopt(ctx, root, f, abi.IPPROTO_IP, name, v), e)
	}
	for i := uint32(0); i < maxOpts; i++ {
		set(abi.IP_ADD_MEMBERSHIP, group(i), 0)
	}
	set(abi.IP_ADD_MEMBERSHIP, group(maxOpts), abi.ENOBUFS)
	set(abi.IP_TTL, group(1), 0)
	set(abi.IP_TTL, group(2), 0)
	for i := uint32(2); i < maxOpts; i++ {
		set(abi.IP_DROP_MEMBERSHIP, group(i), 0)
	}
	s := f.Data.(*Socket)
	if len(s.sopts) != 3 {
		t.Fatalf("remembered: %v", s.sopts)
	}
	for i, w := range []option{
		{abi.IPPROTO_IP, abi.IP_ADD_MEMBERSHIP, group(0)}, {abi.IPPROTO_IP, abi.IP_ADD_MEMBERSHIP, group(1)},
		{abi.IPPROTO_IP, abi.IP_TTL, group(2)},
	} {
		if o := s.sopts[i]; o.name != w.name || !bytes.Equal(o.val, w.val) {
			t.Errorf("remembered %d: %v, want %v", i, o, w)
		}
	}
}
