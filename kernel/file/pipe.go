package file

import (
	"context"
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/event"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Sizes of a pipe's buffer, in bytes: what it begins with, and what it grows to
// when somebody writes more at once than that holds ("big pipes").
const (
	PipeSize    = 16 << 10
	BigPipeSize = 64 << 10
)

// Pipes makes pipes and fifos and bounds their memory. Who writes to
// a pipe that nobody reads gets EPIPE; SIGPIPE is the system call's affair.
type Pipes struct {
	Files  *Table
	Now    func() time.Time // nil: time.Now
	MaxBig atomic.Int64     // kern.pipe.maxbigpipes: how many may have grown
	MaxKVA atomic.Int64     // kern.pipe.maxkvasz: bytes of buffers, above which none grows

	big atomic.Int64
	kva atomic.Int64
	ids atomic.Uint64
}

// NewPipes makes the pipe subsystem with NetBSD's limits (pipe_init).
func NewPipes(t *Table, now func() time.Time) *Pipes {
	if now == nil {
		now = time.Now
	}
	ps := &Pipes{Files: t, Now: now}
	ps.MaxBig.Store(32)
	ps.MaxKVA.Store(16 << 20)
	return ps
}

// Big is how many pipes have grown (kern.pipe.nbigpipes).
func (ps *Pipes) Big() int64 { return ps.big.Load() }

// KVA is the memory of all buffers, in bytes (kern.pipe.kvasize).
func (ps *Pipes) KVA() int64 { return ps.kva.Load() }

// pipe is the buffer between those who write and those who read (struct pipe),
// for pipe(2) with one end each, for a fifo with any number.
//
// Bytes are copied without mu, so that a reader and a writer copy at the same
// time: rmu lets one reader copy and wmu one writer; what lies between head and
// head+n is the reader's, the rest of the ring the writer's. The ring is
// exchanged only while n is 0, with wmu and mu held, when no reader copies.
//
// Lock order: rmu or wmu before mu; mu is a leaf but for Selinfos.
type pipe struct {
	ps *Pipes
	id uint64

	rmu, wmu sync.Mutex
	rsel     event.Selinfo // who waits for bytes, or for a writer to open
	wsel     event.Selinfo // who waits for room, or for a reader to open

	mu      sync.Mutex
	buf     []byte // protected by mu, see above; nil until first written to
	head, n int    // protected by mu
	readers int    // ends open for reading, protected by mu
	writers int    // protected by mu
	both    int    // of them, ends open for both; protected by mu
	ropened uint64 // how often one was opened for reading, protected by mu
	wopened uint64 // protected by mu
	atime   time.Time
	mtime   time.Time
	btime   time.Time
}

// pipeEnd is the Data of a file that is an end of a pipe.
type pipeEnd struct {
	p    *pipe
	r, w bool
	fifo bool
	seen uint64 // fifo: p.wopened when it was opened
	drop func() // fifo: the pipe has no end any more; called without locks
}

var pipeBufs = sync.Pool{New: func() any { b := make([]byte, PipeSize); return &b }}

func (ps *Pipes) newPipe() *pipe {
	now := ps.Now()
	return &pipe{ps: ps, id: ps.ids.Add(1), atime: now, mtime: now, btime: now}
}

// Pipe is pipe2(2): the end to read from and the end to write to, with the
// O_NONBLOCK and O_NOSIGPIPE of flags. ENFILE.
func (ps *Pipes) Pipe(c *abi.Caller, flags int) (r, w *File, err error) {
	p := ps.newPipe()
	p.readers, p.writers, p.ropened, p.wopened = 1, 1, 1, 1
	flags &= abi.O_NONBLOCK | abi.O_NOSIGPIPE
	if r, err = ps.Files.New(TypePipe, pipeOps{}, &pipeEnd{p: p, r: true}, abi.O_RDONLY|flags, c.Cred); err != nil {
		return nil, nil, err
	}
	if w, err = ps.Files.New(TypePipe, pipeOps{}, &pipeEnd{p: p, w: true}, abi.O_WRONLY|flags, c.Cred); err != nil {
		r.Release(context.Background())
		return nil, nil, err
	}
	return r, w, nil
}

// room makes sure that there is a ring, and a big one if resid bytes are more
// than a small one holds. Preconditions: wmu and mu are held.
func (p *pipe) room(resid int) {
	switch {
	case p.buf == nil && resid <= PipeSize:
		p.buf = *pipeBufs.Get().(*[]byte)
		p.ps.kva.Add(PipeSize)
	case len(p.buf) >= BigPipeSize || p.n != 0 || resid <= PipeSize:
	default:
		if p.ps.big.Add(1) > p.ps.MaxBig.Load() || p.ps.kva.Load()+BigPipeSize > p.ps.MaxKVA.Load() {
			p.ps.big.Add(-1)
			if p.buf == nil {
				p.room(0)
			}
			return
		}
		p.freeBuf()
		p.buf, p.head = make([]byte, BigPipeSize), 0
		p.ps.kva.Add(BigPipeSize)
	}
}

func (p *pipe) freeBuf() {
	switch len(p.buf) {
	case PipeSize:
		b := p.buf
		pipeBufs.Put(&b)
	case BigPipeSize:
		p.ps.big.Add(-1)
	}
	p.ps.kva.Add(-int64(len(p.buf)))
	p.buf, p.head, p.n = nil, 0, 0
}

// read takes what there is: 0 bytes and nil at the end of the data.
func (p *pipe) read(dst []byte) (int, error) {
	p.rmu.Lock()
	p.mu.Lock()
	if p.n == 0 {
		eof := p.writers == 0
		p.mu.Unlock()
		p.rmu.Unlock()
		if eof {
			return 0, nil
		}
		return 0, abi.EAGAIN
	}
	buf, head, n := p.buf, p.head, min(p.n, len(dst))
	p.mu.Unlock()
	if k := copy(dst[:n], buf[head:]); k < n {
		copy(dst[k:n], buf)
	}
	now := p.ps.Now()
	p.mu.Lock()
	p.n -= n
	if p.head += n; p.head >= len(buf) {
		p.head -= len(buf)
	}
	p.atime = now
	wake, both := len(p.buf)-p.n >= abi.PIPE_BUF, p.both > 0
	p.mu.Unlock()
	p.rmu.Unlock()
	if wake {
		p.wsel.Notify()
		if both {
			p.rsel.Notify()
		}
	}
	return n, nil
}

// write puts in what there is room for, if that
// is at least least bytes: all of src, for a write of up to PIPE_BUF bytes.
func (p *pipe) write(src []byte, least int) (int, error) {
	p.wmu.Lock()
	p.mu.Lock()
	if p.readers == 0 {
		p.mu.Unlock()
		p.wmu.Unlock()
		return 0, abi.EPIPE
	}
	p.room(len(src))
	if p.n == 0 {
		p.head = 0 // keeps what few bytes there are in few lines of the cache
	}
	buf := p.buf
	space := len(buf) - p.n
	if space < least {
		p.mu.Unlock()
		p.wmu.Unlock()
		return 0, abi.EAGAIN
	}
	n := min(space, len(src))
	at := p.head + p.n
	if at >= len(buf) {
		at -= len(buf)
	}
	p.mu.Unlock()
	if k := copy(buf[at:], src[:n]); k < n {
		copy(buf, src[k:n])
	}
	now := p.ps.Now()
	p.mu.Lock()
	p.n += n
	p.mtime = now
	both := p.both > 0
	p.mu.Unlock()
	p.wmu.Unlock()
	p.rsel.Notify()
	if both {
		p.wsel.Notify()
	}
	return n, nil
}

// pipeOps are the operations of both ends (struct fileops pipeops).
type pipeOps struct{ NoOps }

var _ Ops = pipeOps{}

// Read waits for at least one byte, or for the last writer to close: then it
// answers 0.
func (pipeOps) Read(ctx context.Context, _ *abi.Caller, f *File, dst []byte, off int64) (int, error) {
	e := f.Data.(*pipeEnd)
	if off != Cur {
		return 0, abi.ESPIPE
	}
	if len(dst) == 0 {
		return 0, nil
	}
	n, err := e.p.read(dst)
	if err == abi.EAGAIN && !f.Nonblock() {
		err = e.p.rsel.Wait(ctx, func() (err error) {
			n, err = e.p.read(dst)
			return err
		})
	}
	return n, err
}

// Write waits until all is written, but for O_NONBLOCK. Up to PIPE_BUF bytes go
// in as one. EPIPE when nobody can read any more, whatever went in before.
func (pipeOps) Write(ctx context.Context, _ *abi.Caller, f *File, src []byte, off int64) (int, error) {
	e := f.Data.(*pipeEnd)
	if off != Cur {
		return 0, abi.ESPIPE
	}
	p := e.p
	if len(src) <= abi.PIPE_BUF {
		n, err := p.write(src, len(src))
		if err == abi.EAGAIN && !f.Nonblock() {
			err = p.wsel.Wait(ctx, func() (err error) {
				n, err = p.write(src, len(src))
				return err
			})
		}
		return n, err
	}
	done := 0
	for done < len(src) {
		rest := src[done:]
		n, err := p.write(rest, 1)
		if err == abi.EAGAIN {
			if f.Nonblock() {
				if done > 0 {
					return done, nil
				}
				return 0, err
			}
			err = p.wsel.Wait(ctx, func() (err error) {
				n, err = p.write(rest, min(len(rest), abi.PIPE_BUF))
				return err
			})
		}
		if err == abi.EPIPE {
			return 0, err
		}
		if err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}

// Stat is fstat(2): a fifo with as many bytes as wait in it.
func (pipeOps) Stat(_ context.Context, _ *abi.Caller, f *File) (abi.Stat, error) {
	p := f.Data.(*pipeEnd).p
	p.mu.Lock()
	defer p.mu.Unlock()
	st := abi.Stat{Vattr: abi.Vattr{Type: abi.VFIFO, Mode: abi.S_IRUSR | abi.S_IWUSR, Nlink: 1, Size: int64(p.n),
		Blksize: uint32(max(len(p.buf), PipeSize)), Fileid: abi.Fileid(p.id),
		Atime: abi.TimespecOf(p.atime), Mtime: abi.TimespecOf(p.mtime), Ctime: abi.TimespecOf(p.btime), Btime: abi.TimespecOf(p.btime)}}
	if p.n > 0 {
		st.Bytes = int64(len(p.buf))
	}
	if f.Cred != nil {
		st.Uid, st.Gid = f.Cred.Euid, f.Cred.Egid
	}
	return st, nil
}

// Ioctl knows FIONREAD, FIONWRITE, FIONSPACE, FIONBIO and FIOASYNC off.
func (pipeOps) Ioctl(_ context.Context, _ *abi.Caller, f *File, cmd uint32, arg []byte) ([]byte, error) {
	p := f.Data.(*pipeEnd).p
	answer := func(n int) ([]byte, error) { return binary.LittleEndian.AppendUint32(nil, uint32(n)), nil }
	p.mu.Lock()
	n, size := p.n, max(len(p.buf), PipeSize)
	p.mu.Unlock()
	switch cmd {
	case abi.FIONREAD, abi.FIONWRITE:
		return answer(n)
	case abi.FIONSPACE:
		return answer(size - n)
	case abi.FIONBIO, abi.FIOASYNC:
		if len(arg) < 4 {
			return nil, abi.EINVAL
		}
		on := binary.LittleEndian.Uint32(arg) != 0
		if cmd == abi.FIOASYNC {
			if on {
				return nil, abi.EOPNOTSUPP // SIGIO is the system call's affair
			}
			return nil, nil
		}
		fl := f.Flags() &^ abi.O_NONBLOCK
		if on {
			fl |= abi.O_NONBLOCK
		}
		f.SetFlags(fl)
		return nil, nil
	}
	return nil, abi.ENOTTY
}

// Poll says POLLIN for bytes or their end, POLLOUT for room for PIPE_BUF bytes
// or when a write would be EPIPE, POLLHUP when the other side is closed. A fifo
// that had no writer since it was opened is not at its end.
func (pipeOps) Poll(_ context.Context, f *File, want abi.PollEvents) abi.PollEvents {
	e := f.Data.(*pipeEnd)
	p := e.p
	p.mu.Lock()
	defer p.mu.Unlock()
	var ev abi.PollEvents
	if e.r {
		eof := p.writers == 0 && (!e.fifo || p.wopened != e.seen)
		if p.n > 0 || eof {
			ev |= abi.POLLIN | abi.POLLRDNORM
		}
		if eof {
			ev |= abi.POLLHUP
		}
	}
	if e.w {
		if p.readers == 0 {
			ev |= abi.POLLHUP | abi.POLLOUT
		}
		if max(len(p.buf), PipeSize)-p.n >= abi.PIPE_BUF {
			ev |= abi.POLLOUT
		}
	}
	return ev & (want | abi.POLLANSWER)
}

// Selinfo is notified of bytes or of room.
func (pipeOps) Selinfo(f *File) *event.Selinfo {
	e := f.Data.(*pipeEnd)
	if e.r {
		return &e.p.rsel
	}
	return &e.p.wsel
}

// Close ends the file's side. Bytes that nobody can read any more are dropped
// with the last end.
func (pipeOps) Close(_ context.Context, f *File) error {
	f.Data.(*pipeEnd).close()
	return nil
}

func (e *pipeEnd) close() {
	p := e.p
	p.wmu.Lock() // nobody copies into the ring that may be freed below
	p.mu.Lock()
	if e.r {
		p.readers--
	}
	if e.w {
		p.writers--
	}
	if e.r && e.w {
		p.both--
	}
	last := p.readers == 0 && p.writers == 0
	if last {
		p.freeBuf() // no reader copies: it would hold its file
	}
	p.mu.Unlock()
	p.wmu.Unlock()
	p.rsel.Notify()
	p.wsel.Notify()
	if last && e.drop != nil {
		e.drop()
	}
}
