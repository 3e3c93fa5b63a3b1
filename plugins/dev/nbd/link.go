package nbd

import (
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	proto "github.com/rumpus-kernel/rumpus/modapi/nbd"
)

// link is one connection in transmission.
type link struct {
	u  *unit
	nc net.Conn
	x  export
	rx atomic.Int64 // reads that brought something, for the watch

	// Guarded by unit.mu.
	queue   []*req
	writing bool
	seen    int64     // rx when the watch looked last
	alive   time.Time // when rx had changed, or nothing was in flight
	err     error     // why it was given up

	// The writer's.
	heads []byte
	iov   [][]byte
	vec   net.Buffers
	batch []*req

	// The reader's.
	rb   []byte
	r, w int
}

func newLink(u *unit, nc net.Conn, x export) *link {
	if uc, ok := nc.(*net.UnixConn); ok {
		uc.SetWriteBuffer(1 << 20)
	}
	return &link{u: u, nc: nc, x: x, alive: time.Now(), rb: make([]byte, 64<<10)}
}

// fail gives the link up; reader and writer find out.
func (l *link) fail(err error) {
	l.u.mu.Lock()
	if l.err == nil {
		l.err = err
	}
	l.u.mu.Unlock()
	l.nc.Close()
}

// drain writes the queue until it is empty. The caller has set writing.
func (l *link) drain() {
	u := l.u
	for {
		u.mu.Lock()
		l.batch = l.batch[:0]
		for _, r := range l.queue {
			if r.finished {
				continue // given up before it was sent
			}
			r.link = l
			r.busy++
			l.batch = append(l.batch, r)
		}
		clear(l.queue)
		l.queue = l.queue[:0]
		if len(l.batch) == 0 || l.err != nil {
			for _, r := range l.batch {
				u.release(r)
			}
			clear(l.batch)
			l.writing = false
			u.cond.Broadcast()
			u.mu.Unlock()
			return
		}
		u.mu.Unlock()
		err := l.write()
		if err != nil {
			l.fail(err)
		}
		u.mu.Lock()
		for _, r := range l.batch {
			u.release(r)
		}
		u.mu.Unlock()
	}
}

// write writes the batch. A write that does not get on is ended by the watch.
func (l *link) write() error {
	if n := len(l.batch) * proto.RequestSize; cap(l.heads) < n {
		l.heads = make([]byte, n)
	}
	v, h := l.iov[:0], l.heads[:cap(l.heads)]
	for _, r := range l.batch {
		q := proto.Request{Flags: r.flags, Cmd: r.cmd, Cookie: r.cookie, Offset: uint64(r.off), Length: uint32(r.n)}
		q.Put(h)
		v = append(v, h[:proto.RequestSize])
		h = h[proto.RequestSize:]
		if r.cmd == proto.CmdWrite {
			v = append(v, r.data...)
		}
	}
	l.iov, l.vec = v, v
	_, err := l.vec.WriteTo(l.nc)
	clear(v)
	return err
}

// take answers the next n bytes, at most 64 KiB, good until the next call.
func (l *link) take(n int) ([]byte, error) {
	for l.w-l.r < n {
		if l.r == l.w {
			l.r, l.w = 0, 0
		} else if l.r+n > len(l.rb) {
			l.w = copy(l.rb, l.rb[l.r:l.w])
			l.r = 0
		}
		m, err := l.nc.Read(l.rb[l.w:])
		l.w += m
		if m > 0 {
			l.rx.Add(1)
		}
		if err != nil && l.w-l.r < n {
			return nil, err
		}
	}
	p := l.rb[l.r : l.r+n]
	l.r += n
	return p, nil
}

// fill reads into p.
func (l *link) fill(p []byte) error {
	n := copy(p, l.rb[l.r:l.w])
	l.r += n
	for p = p[n:]; len(p) > 0; {
		m, err := l.nc.Read(p)
		p = p[m:]
		if m > 0 {
			l.rx.Add(1)
		}
		if err != nil && len(p) > 0 {
			return err
		}
	}
	return nil
}

// skip drops n bytes.
func (l *link) skip(n int) error {
	for n > 0 {
		m := min(n, len(l.rb))
		if _, err := l.take(m); err != nil {
			return err
		}
		n -= m
	}
	return nil
}

func lie(format string, a ...any) error {
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, a...), proto.ErrProtocol)
}

// read takes replies until the link ends, and says why it does.
func (l *link) read() error {
	for {
		p, err := l.take(4)
		if err != nil {
			return err
		}
		n, err := proto.HeadSize(p)
		if err != nil {
			return err
		}
		l.r -= 4
		if p, err = l.take(n); err != nil {
			return err
		}
		h, err := proto.ParseHead(p)
		if err != nil {
			return err
		}
		r, err := l.claim(h.Chunk.Cookie)
		if err != nil {
			return err
		}
		done, err := l.reply(r, &h)
		l.unclaim(r, done && err == nil)
		if err != nil {
			return err
		}
	}
}

// claim finds the request of a cookie and keeps it from being given up. A
// request whose caller has gone is there still, without its data.
func (l *link) claim(cookie uint64) (*req, error) {
	u := l.u
	u.mu.Lock()
	defer u.mu.Unlock()
	r := u.find(cookie)
	if r == nil || r.link != l {
		return nil, lie("answer to no request (cookie %#x)", cookie)
	}
	r.busy++
	return r, nil
}

// unclaim ends claim; done says that the answer is complete.
func (l *link) unclaim(r *req, done bool) {
	u := l.u
	u.mu.Lock()
	if done {
		r.answered = true
		u.dead = false
		if r.err == nil {
			u.lies = 0
		}
	}
	u.release(r)
	u.mu.Unlock()
}

// reply takes what belongs to a head.
func (l *link) reply(r *req, h *proto.ReplyHead) (done bool, err error) {
	if !h.Structured {
		if r.cmd == proto.CmdRead && l.x.structured {
			return false, lie("simple reply to a read")
		}
		if h.Err != 0 {
			r.err = l.refused(r, h.Err, "")
			return true, nil
		}
		if r.cmd == proto.CmdRead {
			return true, l.data(r, 0, r.n)
		}
		return true, nil
	}
	if !l.x.structured {
		return false, lie("structured reply that was not agreed on")
	}
	c := &h.Chunk
	switch {
	case c.Type == proto.ChunkNone:
	case c.Type.IsErr():
		p, err := l.take(int(c.Len))
		if err != nil {
			return false, err
		}
		e, text, err := proto.ParseError(p)
		if err != nil {
			return false, err
		}
		r.err = l.refused(r, e, text)
	case r.cmd != proto.CmdRead:
		return false, lie("chunk of type %d for a request that reads nothing", c.Type)
	case c.Type == proto.ChunkOffsetData:
		p, err := l.take(proto.DataHeadSize)
		if err != nil {
			return false, err
		}
		at, n := int64(proto.ParseOffset(p))-r.off, int64(c.Len)-proto.DataHeadSize
		if err := r.cover(at, n); err != nil {
			return false, err
		}
		if err := l.data(r, at, n); err != nil {
			return false, err
		}
	case c.Type == proto.ChunkOffsetHole:
		p, err := l.take(int(c.Len))
		if err != nil {
			return false, err
		}
		off, n, err := proto.ParseHole(p)
		if err != nil {
			return false, err
		}
		at := int64(off) - r.off
		if err := r.cover(at, int64(n)); err != nil {
			return false, err
		}
		r.data.Zero(int(at), int(n))
	default:
		return false, lie("chunk of type %d for a read", c.Type)
	}
	if c.Done() && r.err == nil && r.cmd == proto.CmdRead && r.got != r.n {
		return false, lie("%d bytes for a read of %d", r.got, r.n)
	}
	return c.Done(), nil
}

// data takes n bytes for a read, at offset at of it.
func (l *link) data(r *req, at, n int64) error {
	if r.data == nil { // the caller has gone
		return l.skip(int(n))
	}
	for _, p := range r.data {
		if n == 0 {
			break
		}
		if at >= int64(len(p)) {
			at -= int64(len(p))
			continue
		}
		p = p[at:]
		p = p[:min(n, int64(len(p)))]
		if err := l.fill(p); err != nil {
			return err
		}
		at = 0
		n -= int64(len(p))
	}
	return nil
}

// refused is the error that a server answered.
func (l *link) refused(r *req, e proto.Error, text string) error {
	if len(text) > 200 {
		text = text[:200]
	}
	if text != "" && proto.ValidString(text) {
		text = fmt.Sprintf(" (%q)", text)
	} else {
		text = ""
	}
	errno := e.Errno()
	if errno == abi.EOVERFLOW {
		errno = abi.EIO
	}
	return fmt.Errorf("%s: %s of %d bytes at %d: the server says %v%s: %w", l.u.name, cmdName(r.cmd), r.n, r.off, e, text, errno)
}

func cmdName(c proto.Cmd) string {
	switch c {
	case proto.CmdRead:
		return "read"
	case proto.CmdWrite:
		return "write"
	case proto.CmdFlush:
		return "flush"
	case proto.CmdTrim:
		return "trim"
	}
	return "write zeroes"
}

// gone says why a link ended, for people.
func gone(err error) error {
	if err == io.EOF {
		return fmt.Errorf("the server closed the connection: %w", abi.EIO)
	}
	return err
}
