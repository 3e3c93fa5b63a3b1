package file

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/event"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

func newPipes(t testing.TB) *Pipes {
	ps := NewPipes(newTable(1000), nil)
	t.Cleanup(func() {
		if n := ps.Files.Count(); n != 0 {
			t.Errorf("%d files are left", n)
		}
		if ps.KVA() != 0 || ps.Big() != 0 {
			t.Errorf("%d bytes and %d big pipes are left", ps.KVA(), ps.Big())
		}
	})
	return ps
}

func makePipe(t testing.TB, ps *Pipes, flags int) (r, w *File) {
	t.Helper()
	r, w, err := ps.Pipe(abi.KernelCaller, flags)
	if err != nil {
		t.Fatal(err)
	}
	return r, w
}

func rd(f *File, p []byte) (int, error) {
	return f.Ops.Read(context.Background(), abi.KernelCaller, f, p, Cur)
}

func wr(f *File, p []byte) (int, error) {
	return f.Ops.Write(context.Background(), abi.KernelCaller, f, p, Cur)
}

func poll(f *File) abi.PollEvents {
	return f.Ops.Poll(context.Background(), f, abi.POLLIN|abi.POLLOUT)
}

// asleep waits until somebody waits on s.
func asleep(t testing.TB, s *event.Selinfo) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); s.Waiters() == 0; {
		if time.Now().After(end) {
			t.Fatal("nobody waits")
		}
		runtime.Gosched()
	}
}

func TestPipe(t *testing.T) {
	ctx := context.Background()
	ps := newPipes(t)
	r, w := makePipe(t, ps, abi.O_NONBLOCK)
	buf := make([]byte, 100)
	if n, err := rd(r, buf); n != 0 || err != abi.EAGAIN {
		t.Errorf("empty: %d %v", n, err)
	}
	if n, err := rd(r, nil); n != 0 || err != nil {
		t.Errorf("no bytes wanted: %d %v", n, err)
	}
	if ev := poll(r); ev != 0 {
		t.Errorf("empty: %v", ev)
	}
	if ev := poll(w); ev != abi.POLLOUT {
		t.Errorf("empty, other end: %v", ev)
	}
	if n, err := wr(w, []byte("hello")); n != 5 || err != nil {
		t.Errorf("%d %v", n, err)
	}
	if ev := poll(r); ev != abi.POLLIN {
		t.Errorf("with bytes: %v", ev)
	}
	for cmd, want := range map[uint32]uint32{abi.FIONREAD: 5, abi.FIONSPACE: PipeSize - 5} {
		if b, err := r.Ops.Ioctl(ctx, abi.KernelCaller, r, cmd, nil); err != nil || binary.LittleEndian.Uint32(b) != want {
			t.Errorf("ioctl %#x: %v %v", cmd, b, err)
		}
	}
	if _, err := r.Ops.Ioctl(ctx, abi.KernelCaller, r, abi.TIOCGETA, nil); err != abi.ENOTTY {
		t.Errorf("a terminal's ioctl: %v", err)
	}
	st, err := w.Ops.Stat(ctx, abi.KernelCaller, w)
	if err != nil || st.Type != abi.VFIFO || st.Size != 5 || st.Mode != 0o600 {
		t.Errorf("stat: %+v %v", st, err)
	}
	if _, err := r.Ops.Seek(ctx, abi.KernelCaller, r, 0, abi.SEEK_SET); err != abi.ESPIPE {
		t.Errorf("seek: %v", err)
	}
	if n, err := rd(r, buf[:2]); n != 2 || err != nil || string(buf[:2]) != "he" {
		t.Errorf("%q %v", buf[:n], err)
	}
	w.Release(ctx)
	if n, err := rd(r, buf); n != 3 || err != nil || string(buf[:3]) != "llo" {
		t.Errorf("what was written before the close: %q %v", buf[:n], err)
	}
	if n, err := rd(r, buf); n != 0 || err != nil {
		t.Errorf("end of file: %d %v", n, err)
	}
	if ev := poll(r); ev != abi.POLLIN|abi.POLLHUP {
		t.Errorf("at the end: %v", ev)
	}
	r.Release(ctx)

	r, w = makePipe(t, ps, 0)
	r.Release(ctx)
	for _, p := range [][]byte{nil, []byte("x"), make([]byte, 100<<10)} {
		if n, err := wr(w, p); n != 0 || err != abi.EPIPE {
			t.Errorf("write of %d bytes without a reader: %d %v", len(p), n, err)
		}
	}
	if ev := poll(w); ev != abi.POLLOUT|abi.POLLHUP {
		t.Errorf("without a reader: %v", ev)
	}
	w.Release(ctx)
}

// TestPipeAtomic fills a pipe but for less than PIPE_BUF bytes: a short write
// goes in whole or not at all, a longer one in part.
func TestPipeAtomic(t *testing.T) {
	ctx := context.Background()
	r, w := makePipe(t, newPipes(t), abi.O_NONBLOCK)
	defer r.Release(ctx)
	defer w.Release(ctx)
	for left := PipeSize - 100; left > 0; {
		n, err := wr(w, make([]byte, min(left, 4000)))
		if err != nil {
			t.Fatal(err)
		}
		left -= n
	}
	if ev := poll(w); ev != 0 {
		t.Errorf("100 bytes are free: %v", ev)
	}
	if n, err := wr(w, make([]byte, abi.PIPE_BUF)); n != 0 || err != abi.EAGAIN {
		t.Errorf("PIPE_BUF into 100: %d %v", n, err)
	}
	if n, err := wr(w, make([]byte, 40)); n != 40 || err != nil {
		t.Errorf("40 into 100: %d %v", n, err)
	}
	if n, err := wr(w, make([]byte, abi.PIPE_BUF+1)); n != 60 || err != nil {
		t.Errorf("more than PIPE_BUF into 60: %d %v", n, err)
	}
	if n, err := wr(w, make([]byte, abi.PIPE_BUF+1)); n != 0 || err != abi.EAGAIN {
		t.Errorf("full: %d %v", n, err)
	}
}

// TestPipeStream sends bytes through in pieces of all sizes, in both senses of
// waiting, with a small and a big buffer.
func TestPipeStream(t *testing.T) {
	ctx := context.Background()
	for _, limit := range []int{900, 200 << 10} {
		ps := newPipes(t)
		r, w := makePipe(t, ps, 0)
		data := make([]byte, 2<<20)
		for i := range data {
			data[i] = byte(i ^ i>>8 ^ i>>16)
		}
		go func() {
			defer w.Release(ctx)
			rnd := rand.New(rand.NewPCG(1, uint64(limit)))
			for p := data; len(p) > 0; {
				n, err := wr(w, p[:min(len(p), 1+rnd.IntN(limit))])
				if err != nil {
					t.Error(err)
					return
				}
				p = p[n:]
			}
		}()
		rnd := rand.New(rand.NewPCG(2, uint64(limit)))
		var got []byte
		buf := make([]byte, limit)
		for {
			n, err := rd(r, buf[:1+rnd.IntN(limit)])
			if err != nil {
				t.Fatal(err)
			}
			if n == 0 {
				break
			}
			got = append(got, buf[:n]...)
		}
		if limit > PipeSize && ps.Big() != 1 {
			t.Errorf("%d big pipes", ps.Big())
		}
		if !bytes.Equal(got, data) {
			t.Errorf("pieces up to %d: %d bytes came, not the same", limit, len(got))
		}
		r.Release(ctx)
	}
}

// TestPipeWriters has many write short records: none is torn.
func TestPipeWriters(t *testing.T) {
	ctx := context.Background()
	r, w := makePipe(t, newPipes(t), 0)
	const each = 300
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			rec := bytes.Repeat([]byte{byte('a' + i)}, abi.PIPE_BUF)
			for range each {
				if n, err := wr(w, rec); n != len(rec) || err != nil {
					t.Error(n, err)
				}
			}
		})
	}
	go func() { wg.Wait(); w.Release(ctx) }()
	src := readerOf(func(p []byte) (int, error) { return rd(r, p) })
	rec := make([]byte, abi.PIPE_BUF)
	for count := 0; ; count++ {
		if _, err := io.ReadFull(src, rec); err == io.EOF {
			if count != 8*each {
				t.Errorf("%d records", count)
			}
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if bytes.Count(rec, rec[:1]) != len(rec) {
			t.Fatalf("a torn record: %q", rec)
		}
	}
	r.Release(ctx)
}

type readerOf func([]byte) (int, error)

func (f readerOf) Read(p []byte) (int, error) {
	n, err := f(p)
	if n == 0 && err == nil {
		err = io.EOF
	}
	return n, err
}

// TestPipeWaits ends waits: by the other end's close, and by the context.
func TestPipeWaits(t *testing.T) {
	ctx := context.Background()
	ps := newPipes(t)
	r, w := makePipe(t, ps, 0)
	p := r.Data.(*pipeEnd).p
	got := make(chan error, 1)
	c, cancel := context.WithCancel(ctx)
	go func() { _, err := r.Ops.Read(c, abi.KernelCaller, r, make([]byte, 1), Cur); got <- err }()
	asleep(t, &p.rsel)
	cancel()
	if err := <-got; !errors.Is(err, abi.EINTR) {
		t.Errorf("cancelled read: %v", err)
	}
	big := make([]byte, 300<<10)
	var done int
	c, cancel = context.WithCancel(ctx)
	go func() {
		var err error
		done, err = w.Ops.Write(c, abi.KernelCaller, w, big, Cur)
		got <- err
	}()
	asleep(t, &p.wsel)
	cancel()
	if err := <-got; !errors.Is(err, abi.EINTR) || done != BigPipeSize {
		t.Errorf("cancelled write: %d, %v", done, err)
	}
	go func() { _, err := wr(w, []byte("x")); got <- err }()
	asleep(t, &p.wsel)
	r.Release(ctx)
	if err := <-got; err != abi.EPIPE {
		t.Errorf("reader closed: %v", err)
	}
	w.Release(ctx)
}

func TestPipeLimits(t *testing.T) {
	ctx := context.Background()
	ps := newPipes(t)
	ps.MaxBig.Store(1)
	var all []*File
	for range 3 {
		r, w := makePipe(t, ps, abi.O_NONBLOCK)
		all = append(all, r, w)
		wr(w, make([]byte, BigPipeSize))
	}
	if ps.Big() != 1 || ps.KVA() != BigPipeSize+2*PipeSize {
		t.Errorf("%d big, %d bytes", ps.Big(), ps.KVA())
	}
	ps.Files.Max.Store(7)
	if _, _, err := ps.Pipe(abi.KernelCaller, 0); err != abi.ENFILE {
		t.Errorf("one file too few: %v", err)
	}
	for _, f := range all {
		f.Release(ctx)
	}
}

func BenchmarkPipe(b *testing.B) {
	ctx := context.Background()
	for _, size := range []int{512, 4096, 64 << 10} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			r, w := makePipe(b, newPipes(b), 0)
			src := make([]byte, size)
			b.SetBytes(int64(size))
			go func() {
				for range b.N {
					wr(w, src)
				}
				w.Release(ctx)
			}()
			dst := make([]byte, size)
			for {
				if n, _ := rd(r, dst); n == 0 {
					break
				}
			}
			r.Release(ctx)
		})
	}
}
