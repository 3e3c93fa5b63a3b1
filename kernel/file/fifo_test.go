package file

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// fifo is the place where a vnode keeps its pipe.
type fifo struct {
	sync.Mutex
	v  any
	ps *Pipes
}

func (q *fifo) open(ctx context.Context, flags int) (*File, error) {
	ops, data, err := q.ps.OpenFifo(ctx, q, &q.v, flags)
	if err != nil {
		return nil, err
	}
	return q.ps.Files.New(TypeVnode, ops, data, flags, abi.Root)
}

func (q *fifo) must(t *testing.T, flags int) *File {
	t.Helper()
	f, err := q.open(context.Background(), flags)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestFifo(t *testing.T) {
	ctx := context.Background()
	q := &fifo{ps: newPipes(t)}
	buf := make([]byte, 10)
	if _, err := q.open(ctx, abi.O_WRONLY|abi.O_NONBLOCK); err != abi.ENXIO || q.v != nil {
		t.Errorf("a writer without a reader: %v", err)
	}
	r := q.must(t, abi.O_RDONLY|abi.O_NONBLOCK)
	if n, err := rd(r, buf); n != 0 || err != nil {
		t.Errorf("no writer: %d %v", n, err)
	}
	if ev := poll(r); ev != 0 {
		t.Errorf("no writer yet: %v", ev)
	}
	w := q.must(t, abi.O_WRONLY|abi.O_NONBLOCK)
	if _, err := rd(r, buf); err != abi.EAGAIN {
		t.Errorf("a writer: %v", err)
	}
	wr(w, []byte("one"))
	w2 := q.must(t, abi.O_WRONLY)
	w.Release(ctx)
	wr(w2, []byte("two"))
	if n, err := rd(r, buf); err != nil || string(buf[:n]) != "onetwo" {
		t.Errorf("%q %v", buf[:n], err)
	}
	if _, err := rd(r, buf); err != abi.EAGAIN {
		t.Errorf("a writer is left: %v", err)
	}
	w2.Release(ctx)
	if n, err := rd(r, buf); n != 0 || err != nil {
		t.Errorf("the last writer closed: %d %v", n, err)
	}
	if ev := poll(r); ev != abi.POLLIN|abi.POLLHUP {
		t.Errorf("the last writer closed: %v", ev)
	}
	// Again, with the same reader.
	w = q.must(t, abi.O_WRONLY)
	if ev := poll(r); ev != 0 {
		t.Errorf("a new writer: %v", ev)
	}
	r.Release(ctx)
	if _, err := wr(w, buf); err != abi.EPIPE {
		t.Errorf("the last reader closed: %v", err)
	}
	r = q.must(t, abi.O_RDONLY)
	if _, err := wr(w, []byte("x")); err != nil {
		t.Errorf("a new reader: %v", err)
	}
	r.Release(ctx)
	w.Release(ctx)
	if q.v != nil {
		t.Error("the pipe outlived its ends")
	}
	// What was in it is gone with them.
	b := q.must(t, abi.O_RDWR|abi.O_NONBLOCK)
	if _, err := rd(b, buf); err != abi.EAGAIN {
		t.Errorf("left over: %v", err)
	}
	if ev := poll(b); ev != abi.POLLOUT {
		t.Errorf("both: %v", ev)
	}
	wr(b, []byte("self"))
	if n, err := rd(b, buf); err != nil || string(buf[:n]) != "self" {
		t.Errorf("%q %v", buf[:n], err)
	}
	b.Release(ctx)
}

// TestFifoMeet has both sides wait for each other, and one that gives up.
func TestFifoMeet(t *testing.T) {
	ctx := context.Background()
	q := &fifo{ps: newPipes(t)}
	sel := func(w bool) {
		t.Helper()
		for {
			q.Lock()
			p, _ := q.v.(*pipe)
			q.Unlock()
			if p == nil {
				runtime.Gosched()
				continue
			}
			if w {
				asleep(t, &p.wsel)
			} else {
				asleep(t, &p.rsel)
			}
			return
		}
	}
	type opened struct {
		f   *File
		err error
	}
	got := make(chan opened, 1)
	for _, tc := range []struct{ first, second int }{{abi.O_RDONLY, abi.O_WRONLY}, {abi.O_WRONLY, abi.O_RDONLY}, {abi.O_WRONLY, abi.O_RDWR}} {
		c, cancel := context.WithCancel(ctx)
		go func() { f, err := q.open(c, tc.first); got <- opened{f, err} }()
		sel(tc.first == abi.O_WRONLY)
		cancel()
		if o := <-got; !errors.Is(o.err, abi.EINTR) || q.v != nil {
			t.Errorf("gave up: %v", o.err)
		}
		go func() { f, err := q.open(ctx, tc.first); got <- opened{f, err} }()
		sel(tc.first == abi.O_WRONLY)
		f := q.must(t, tc.second)
		f.Release(ctx) // gone before the other may have woken
		o := <-got
		if o.err != nil {
			t.Fatal(o.err)
		}
		o.f.Release(ctx)
	}
}
