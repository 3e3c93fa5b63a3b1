package nbd

import (
	"context"
	"errors"
	"fmt"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	proto "github.com/rumpus-kernel/rumpus/modapi/nbd"
)

const (
	holeRead   = 64 << 10 // reads from this size on are looked at for holes
	maxExtents = 8192     // of one block status
	zeroStep   = 1 << 20  // zeroes that are written at a time where they must be written
)

// transmission serves requests until the client leaves.
func (c *conn) transmission() error {
	x := c.exp.Load()
	if c.s.lookup(x.Name) != x {
		return fmt.Errorf("export %q was removed: %w", x.Name, abi.ENOENT)
	}
	c.work = make(chan *request)
	err := c.requests()
	close(c.work)
	c.wg.Wait()
	c.out.flush()
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	if c.out.err != nil && !errors.Is(err, errLeft) {
		err = c.out.err
	}
	if errors.Is(err, errLeft) {
		return nil
	}
	return err
}

// requests reads requests and has them served.
func (c *conn) requests() error {
	for {
		if c.w-c.r < proto.RequestSize {
			c.out.flush()
			c.limitRead(betweenRequests, c.s.opt.Idle)
		}
		p, err := c.take(proto.RequestSize)
		if err != nil {
			return err
		}
		q, err := proto.ParseRequest(p)
		if err != nil {
			return err
		}
		if q.Cmd == proto.CmdDisc {
			return nil
		}
		c.s.cnt.requests.Inc()
		r := requests.Get().(*request)
		r.Request, r.c = q, c
		if q.Cmd == proto.CmdWrite && q.Length > proto.MaxPayload {
			r.release()
			return fmt.Errorf("a write of %d bytes: %w", q.Length, proto.ErrProtocol)
		}
		if bad := c.check(&q); bad != 0 {
			if q.Cmd == proto.CmdWrite {
				if err := c.skip(int(q.Length)); err != nil {
					r.release()
					return err
				}
			}
			r.fail(bad, bad.Errno().Error())
			c.out.put(r, false)
			continue
		}
		if err := c.payloadOf(r); err != nil {
			r.release()
			return err
		}
		c.dispatch(r)
	}
}

// check holds a request against the protocol and the device.
func (c *conn) check(q *proto.Request) proto.Error {
	ok := proto.CmdFlags(0)
	if c.flags&proto.SendFUA != 0 {
		ok = proto.FlagFUA
	}
	bounds := proto.EINVAL
	writes := false
	switch q.Cmd {
	case proto.CmdRead:
		if c.structured {
			ok |= proto.FlagDF
		}
	case proto.CmdWrite:
		bounds, writes = proto.ENOSPC, true
	case proto.CmdFlush:
		if q.Offset != 0 || q.Length != 0 || c.flags&proto.SendFlush == 0 {
			return proto.EINVAL
		}
	case proto.CmdTrim:
		writes = true
		if c.flags&(proto.SendTrim|proto.ReadOnly) == 0 {
			return proto.EINVAL
		}
	case proto.CmdCache:
	case proto.CmdWriteZeroes:
		bounds, writes = proto.ENOSPC, true
		ok |= proto.FlagNoHole | proto.FlagFastZero
	case proto.CmdBlockStatus:
		ok |= proto.FlagReqOne
		if !c.meta || q.Length == 0 {
			return proto.EINVAL
		}
	default:
		return proto.EINVAL
	}
	size := uint64(c.info.Size)
	switch {
	case q.Flags&^ok != 0:
		return proto.EINVAL
	case writes && c.info.ReadOnly:
		return proto.EPERM
	case q.Offset > size || uint64(q.Length) > size-q.Offset:
		return bounds
	case (q.Offset|uint64(q.Length))&uint64(c.info.Block-1) != 0:
		return proto.EINVAL
	case q.Cmd == proto.CmdRead && q.Length > proto.MaxPayload:
		if c.structured {
			return proto.EOVERFLOW
		}
		return proto.EINVAL
	}
	return 0
}

// payloadOf gets the memory that r needs, and reads what is to be written.
func (c *conn) payloadOf(r *request) error {
	n := 0
	switch r.Cmd {
	case proto.CmdRead, proto.CmdWrite:
		n = int(r.Length)
	case proto.CmdCache:
		n = int(min(r.Length, zeroStep))
		if c.info.Ops&OpCache == 0 {
			n = 0
		}
	}
	if n == 0 {
		return nil
	}
	if err := c.memoryFor(r, int64(n)); err != nil {
		return err
	}
	r.buf = getBuffer(n)
	r.data = r.buf.b[:n]
	if r.Cmd != proto.CmdWrite {
		return nil
	}
	if c.w-c.r < n {
		c.out.flush() // it may wait
	}
	c.s.cnt.written.Add(uint64(n))
	return c.payload(r.data)
}

// memoryFor takes n bytes: of the connection's own allowance if there is room,
// else of its budget and the server's.
func (c *conn) memoryFor(r *request, n int64) error {
	if c.own.Add(n) <= ownMemory {
		r.mem, r.shared = n, false
		return nil
	}
	c.own.Add(-n)
	if !c.memory.tryTake(n) {
		c.out.flush() // what is answered holds memory
		if err := c.memory.take(c.ctx, n); err != nil {
			return fmt.Errorf("waiting for memory: %w", err)
		}
	}
	if !c.s.memory.tryTake(n) {
		c.out.flush()
		if err := c.s.memory.take(c.ctx, n); err != nil {
			c.memory.give(n)
			return fmt.Errorf("waiting for memory: %w", err)
		}
	}
	r.mem, r.shared = n, true
	return nil
}

// dispatch serves r here, if that takes no time, or has it served.
func (c *conn) dispatch(r *request) {
	if c.info.Ops&OpPrompt != 0 {
		c.serve(r)
		c.out.put(r, false)
		return
	}
	if c.try != nil && r.Cmd == proto.CmdRead && len(r.data) > 0 && c.try.TryRead(r.data, int64(r.Offset)) {
		r.answerRead(nil)
		c.out.put(r, false)
		return
	}
	if c.tryWrite != nil && r.Cmd == proto.CmdWrite && len(r.data) > 0 && r.Flags&proto.FlagFUA == 0 && c.tryWrite.TryWrite(r.data, int64(r.Offset)) {
		r.done(nil)
		c.out.put(r, false)
		return
	}
	select {
	case c.work <- r:
		return
	default:
	}
	if c.workers < c.s.opt.Depth {
		c.workers++
		c.wg.Add(1)
		go c.worker(r)
		return
	}
	c.out.flush()
	c.work <- r
}

// worker serves r and what comes after it.
func (c *conn) worker(r *request) {
	defer c.wg.Done()
	for ok := true; ok; r, ok = <-c.work {
		c.serve(r)
		c.out.put(r, true)
	}
}

// serve does what r asks, and makes its answer.
func (c *conn) serve(r *request) {
	off, n, fua := int64(r.Offset), int64(r.Length), r.Flags&proto.FlagFUA != 0
	if n == 0 && r.Cmd != proto.CmdFlush {
		r.done(nil)
		return
	}
	switch r.Cmd {
	case proto.CmdRead:
		c.read(r, off, n)
	case proto.CmdWrite:
		err := c.be.WriteAt(c.ctx, r.data, off, fua && c.info.Ops&OpFUA != 0)
		r.done(c.settle(err, fua))
	case proto.CmdFlush:
		r.done(c.be.Flush(c.ctx))
	case proto.CmdTrim:
		err := c.be.Trim(c.ctx, off, n)
		if err == nil && fua && c.info.Ops&OpFlush != 0 {
			err = c.be.Flush(c.ctx)
		}
		r.done(err)
	case proto.CmdCache:
		r.done(c.cache(r, off, n))
	case proto.CmdWriteZeroes:
		r.done(c.zeroes(r.Flags, off, n, fua))
	case proto.CmdBlockStatus:
		c.status(r, off, n)
	}
}

// settle flushes after a write with fua that the backend cannot do itself.
func (c *conn) settle(err error, fua bool) error {
	if err != nil || !fua || c.info.Ops&OpFUA != 0 {
		return err
	}
	return c.be.Flush(c.ctx)
}

// extents is what off to off+n consists of: lengths above 0 that add up to n or
// less. One extent of data where the backend does not know.
func (c *conn) extents(ctx context.Context, r *request, off, n int64) ([]Extent, error) {
	if c.info.Ops&OpExtents == 0 {
		r.ext = append(r.ext[:0], Extent{Len: n})
		return r.ext, nil
	}
	l, err := c.be.Extents(ctx, off, n, r.ext[:0])
	if err != nil {
		return nil, err
	}
	r.ext = l
	k := 0
	for _, e := range l {
		if e.Len <= 0 || n == 0 || k == maxExtents {
			break
		}
		e.Len = min(e.Len, n)
		n -= e.Len
		if k > 0 && l[k-1].Hole == e.Hole && l[k-1].Zero == e.Zero {
			l[k-1].Len += e.Len
			continue
		}
		l[k] = e
		k++
	}
	if k == 0 {
		return nil, fmt.Errorf("the device tells no extent at %d: %w", off, abi.EIO)
	}
	return l[:k], nil
}

func (c *conn) read(r *request, off, n int64) {
	if c.structured && n >= holeRead && r.Flags&proto.FlagDF == 0 && c.info.Ops&OpExtents != 0 {
		if l, err := c.extents(c.ctx, r, off, n); err == nil && hasZeroes(l) {
			c.readSparse(r, off, n, l)
			return
		}
	}
	r.answerRead(c.be.ReadAt(c.ctx, r.data, off))
}

// answerRead makes the answer to a read of r.data in one piece.
func (r *request) answerRead(err error) {
	if err != nil {
		r.done(err)
		return
	}
	r.c.s.cnt.read.Add(uint64(len(r.data)))
	if r.c.structured {
		h := r.head(proto.ChunkSize + proto.DataHeadSize)
		proto.PutDataChunk(h, proto.ChunkDone, r.Cookie, r.Offset, r.Length)
		r.send(h)
	} else {
		s := proto.Simple{Cookie: r.Cookie}
		h := r.head(proto.SimpleSize)
		s.Put(h)
		r.send(h)
	}
	r.send(r.data)
}

func hasZeroes(l []Extent) bool {
	for _, e := range l {
		if e.Zero {
			return true
		}
	}
	return false
}

// readSparse answers a read in pieces: data, and holes that are only said.
func (c *conn) readSparse(r *request, off, n int64, l []Extent) {
	heads := r.head((len(l) + 1) * proto.HoleChunkSize)
	flags := func() uint16 {
		if n == 0 {
			return proto.ChunkDone
		}
		return 0
	}
	pos := int64(0)
	piece := func(k int64, zero bool) bool {
		n -= k
		if zero {
			proto.PutHoleChunk(heads, flags(), r.Cookie, uint64(off+pos), uint32(k))
			r.send(heads[:proto.HoleChunkSize])
			heads = heads[proto.HoleChunkSize:]
			pos += k
			return true
		}
		p := r.data[pos : pos+k]
		if err := c.be.ReadAt(c.ctx, p, off+pos); err != nil {
			r.done(err)
			return false
		}
		proto.PutDataChunk(heads, flags(), r.Cookie, uint64(off+pos), uint32(k))
		r.send(heads[:proto.ChunkSize+proto.DataHeadSize])
		heads = heads[proto.ChunkSize+proto.DataHeadSize:]
		r.send(p)
		c.s.cnt.read.Add(uint64(k))
		pos += k
		return true
	}
	for _, e := range l {
		if !piece(e.Len, e.Zero) {
			return
		}
	}
	if n > 0 {
		piece(n, false)
	}
}

// cache reads what the client will want.
func (c *conn) cache(r *request, off, n int64) error {
	if len(r.data) == 0 {
		return nil
	}
	for n = min(n, proto.MaxPayload); n > 0; {
		p := r.data[:min(n, int64(len(r.data)))]
		if err := c.be.ReadAt(c.ctx, p, off); err != nil {
			return err
		}
		off += int64(len(p))
		n -= int64(len(p))
	}
	return nil
}

// zeros is what is written where zeroes must be written.
var zeros [zeroStep]byte

func (c *conn) zeroes(f proto.CmdFlags, off, n int64, fua bool) error {
	if f&proto.FlagFastZero != 0 && c.info.Ops&(OpZeroes|OpFastZeroes) != OpZeroes|OpFastZeroes {
		return abi.EOPNOTSUPP
	}
	if c.info.Ops&OpZeroes != 0 {
		err := c.be.WriteZeroes(c.ctx, off, n, fua && c.info.Ops&OpFUA != 0, f&proto.FlagNoHole == 0)
		if abi.ErrnoOf(err) != abi.EOPNOTSUPP {
			return c.settle(err, fua)
		}
		if f&proto.FlagFastZero != 0 {
			return err
		}
	}
	for n > 0 {
		k := min(n, zeroStep)
		if err := c.be.WriteAt(c.ctx, zeros[:k], off, fua && c.info.Ops&OpFUA != 0); err != nil {
			return err
		}
		off += k
		n -= k
	}
	return c.settle(nil, fua)
}

// status answers which blocks are allocated.
func (c *conn) status(r *request, off, n int64) {
	l, err := c.extents(c.ctx, r, off, n)
	if err != nil {
		r.done(err)
		return
	}
	if r.Flags&proto.FlagReqOne != 0 {
		l = l[:1]
	}
	out := make([]proto.Extent, 0, len(l))
	for _, e := range l {
		f := uint32(0)
		if e.Hole {
			f |= proto.StateHole
		}
		if e.Zero {
			f |= proto.StateZero
		}
		out = append(out, proto.Extent{Len: uint32(e.Len), Flags: f})
	}
	b := proto.AppendBlockStatus(make([]byte, proto.ChunkSize, proto.ChunkSize+4+8*len(out)), metaID, out)
	h := proto.Chunk{Flags: proto.ChunkDone, Type: proto.ChunkBlockStatus, Cookie: r.Cookie, Len: uint32(len(b) - proto.ChunkSize)}
	h.Put(b)
	r.send(b)
}
