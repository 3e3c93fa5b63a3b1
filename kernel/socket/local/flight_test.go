package local

import (
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// pass sends a file and keeps none.
func (k *kit) pass(via, f *file.File) {
	k.Helper()
	k.ok(k.send(via, "x", f))
}

func hold(f *file.File) *file.File { f.Hold(); return f }

func TestRights(t *testing.T) {
	k := newKit(t)
	for _, typ := range []int{abi.SOCK_STREAM, abi.SOCK_SEQPACKET, abi.SOCK_DGRAM} {
		a, b := k.pair(typ)
		x, y := k.pair(abi.SOCK_STREAM)
		k.pass(a, hold(x))
		k.pass(a, x) // the only reference now
		k.ok(k.send(y, "waits"))
		_, r, err := k.recv(b, 10, abi.MSG_PEEK)
		if err != nil || len(r.Files) != 0 {
			t.Errorf("peek: %+v %v", r, err)
		}
		s, r, err := k.recv(b, 10, 0)
		if err != nil || s != "x" || len(r.Files) != 1 || r.Files[0] != x {
			t.Fatalf("type %d: %q %+v %v", typ, s, r, err)
		}
		k.gets(x, "waits")
		k.close(r.Files[0])
		k.polls(y, abi.POLLOUT)
		k.close(a, b) // with a message
		k.polls(y, abi.POLLIN|abi.POLLOUT|abi.POLLHUP)
		k.close(y)
	}
	a, b := k.pair(abi.SOCK_STREAM)
	k.want(k.send(a, "", hold(b)), abi.EINVAL)
	k.close(b)
	k.close(b)
	k.want(k.send(a, "x", hold(a)), abi.EPIPE)
	k.close(a)
	k.close(a)
}

// TestRightsBoundary: a receive stops before files, and they come with their
// first byte.
func TestRightsBoundary(t *testing.T) {
	k := newKit(t)
	a, b := k.pair(abi.SOCK_STREAM)
	x, y := k.pair(abi.SOCK_STREAM)
	k.ok(k.send(a, "plain"))
	k.ok(k.send(a, "first", x))
	k.ok(k.send(a, "second", y))
	k.ok(k.send(a, "tail"))
	for _, want := range []struct {
		n     int
		s     string
		files int
	}{{100, "plain", 0}, {3, "fir", 1}, {100, "st", 0}, {100, "secondtail", 1}} {
		s, r, err := k.recv(b, want.n, abi.MSG_WAITALL)
		if err != nil || s != want.s || len(r.Files) != want.files {
			t.Errorf("%q %+v %v, want %+v", s, r, err, want)
		}
		k.close(r.Files...)
	}
	k.close(a, b)
}

// TestCycles loses sockets in each other, in all ways: nothing may be left,
// which newKit checks.
func TestCycles(t *testing.T) {
	t.Run("itself", func(t *testing.T) {
		k := newKit(t)
		a, b := k.pair(abi.SOCK_STREAM)
		k.pass(a, hold(b)) // b lies in b
		k.close(a, b)
	})
	t.Run("each other", func(t *testing.T) {
		k := newKit(t)
		a, b := k.pair(abi.SOCK_STREAM)
		k.pass(a, hold(a))
		k.pass(b, hold(b))
		k.close(b, a)
	})
	t.Run("sent away", func(t *testing.T) {
		k := newKit(t)
		a, b := k.pair(abi.SOCK_STREAM)
		k.pass(a, hold(b))
		k.pass(a, b) // no reference but in b
		k.close(a)
	})
	t.Run("with a stranger", func(t *testing.T) {
		k := newKit(t)
		a, b := k.pair(abi.SOCK_DGRAM)
		x, y := k.pair(abi.SOCK_STREAM)
		k.pass(a, hold(b))
		k.pass(a, x)
		k.close(a, b)
		k.polls(y, abi.POLLIN|abi.POLLOUT|abi.POLLHUP)
		k.close(y)
	})
	t.Run("in a queue", func(t *testing.T) {
		k := newKit(t)
		l := k.bound(abi.SOCK_STREAM, "/l")
		k.ok(Of(l).Listen(caller, 1))
		c := k.socket(abi.SOCK_STREAM)
		k.ok(Of(c).Connect(k.ctx, caller, abi.SockaddrUnix("/l"), true))
		k.pass(c, hold(l)) // the listener lies in its own queue
		k.close(c, l)
	})
	t.Run("reachable", func(t *testing.T) {
		k := newKit(t)
		a, b := k.pair(abi.SOCK_STREAM)
		c, d := k.pair(abi.SOCK_STREAM)
		k.pass(c, hold(d)) // a cycle
		k.pass(a, hold(d)) // but reached from b
		k.close(c, d)
		_, r, err := k.recv(b, 1, 0)
		if err != nil || len(r.Files) != 1 || r.Files[0] != d {
			t.Fatalf("%+v %v", r, err)
		}
		_, r2, err := k.recv(d, 1, 0)
		if err != nil || len(r2.Files) != 1 || r2.Files[0] != d {
			t.Fatalf("%+v %v", r2, err)
		}
		k.close(r.Files...)
		k.close(r2.Files...)
		k.close(a, b)
	})
	t.Run("ring", func(t *testing.T) {
		k := newKit(t)
		const n = 20
		var a, b [n]*file.File
		for i := range n {
			a[i], b[i] = k.pair(abi.SOCK_STREAM)
		}
		for i := range n {
			k.pass(a[i], hold(b[(i+1)%n]))
		}
		for i := range n {
			k.close(a[i], b[i])
		}
	})
}

func TestTooMany(t *testing.T) {
	k := newKit(t)
	k.d.o.Files.Max.Store(6)
	a, b := k.pair(abi.SOCK_STREAM)
	for range 3 {
		k.pass(a, hold(a))
	}
	k.want(k.send(a, "x", hold(a)), abi.EAGAIN)
	k.close(a)
	q, err := k.d.o.Files.New(file.TypeKqueue, file.NoOps{}, nil, 0, abi.Root)
	k.ok(err)
	k.want(k.send(b, "x", q), abi.EOPNOTSUPP)
	k.close(q, a, b)
}

// TestRightsStorm sends sockets through each other from many sides while they
// are closed, and looks for what is left.
func TestRightsStorm(t *testing.T) {
	k := newKit(t)
	sx, sy := k.pair(abi.SOCK_SEQPACKET) // everybody's
	var wg sync.WaitGroup
	for seed := range 4 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(seed), 1))
			var open []*file.File
			for range 1500 {
				switch i := r.IntN(10); {
				case len(open) < 4 || i == 0 && len(open) < 40:
					a, b := k.pair([]int{abi.SOCK_STREAM, abi.SOCK_SEQPACKET, abi.SOCK_DGRAM}[r.IntN(3)])
					open = append(open, a, b)
				case i < 5:
					via, f := open[r.IntN(len(open))], open[r.IntN(len(open))]
					if i == 1 {
						via = sx
					}
					if k.send(via, "x", hold(f)) != nil {
						k.close(f)
					}
				case i < 8:
					from := open[r.IntN(len(open))]
					if i == 7 {
						from = sy
					}
					_, res, _ := k.recv(from, 10, 0)
					open = append(open, res.Files...)
				default:
					j := r.IntN(len(open))
					k.close(open[j])
					open[j] = open[len(open)-1]
					open = open[:len(open)-1]
				}
			}
			k.close(open...)
		})
	}
	wg.Wait()
	k.close(sx, sy)
}
