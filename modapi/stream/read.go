package stream

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

// readBuf is the size of the read buffer: small frames come in one system
// call, large payloads go past it.
const readBuf = 16 << 10

// read is the reader goroutine.
func (c *Conn) read() {
	defer c.wg.Done()
	br := bufio.NewReaderSize(c.nc, readBuf)
	var hdr [wire.HeaderSize]byte
	var h wire.Header
	for {
		if _, err := br.Peek(1); err != nil {
			c.fail(c.readErr(err, false))
			return
		}
		slow := br.Buffered() < wire.HeaderSize // a frame has begun, and has to end
		if slow {
			c.nc.SetReadDeadline(time.Now().Add(c.opt.FrameTimeout))
		}
		if _, err := io.ReadFull(br, hdr[:]); err != nil {
			c.fail(c.readErr(err, true))
			return
		}
		if err := h.Parse(hdr[:]); err != nil {
			c.fail(&Lie{What: err.Error()})
			return
		}
		if h.Op != wire.OpLog && h.Op != wire.OpEvcnt {
			c.frames.Add(1)
		}
		if e := c.epoch.Load(); uint32(h.Epoch) != e {
			if e != 0 || !c.epoch.CompareAndSwap(0, uint32(h.Epoch)) {
				c.fail(&Lie{What: fmt.Sprintf("%s of epoch %d, not %d", h.Op, h.Epoch, e)})
				return
			}
		}
		if !slow && br.Buffered() < int(h.ArgsLen)+int(h.PayloadLen) {
			slow = true
			c.nc.SetReadDeadline(time.Now().Add(c.opt.FrameTimeout))
		}
		var err error
		if h.Flags&wire.FlagReply != 0 {
			err = c.readReply(br, &h)
		} else {
			err = c.readRequest(br, &h)
		}
		if err != nil {
			c.fail(c.readErr(err, true))
			return
		}
		if slow {
			var t time.Time
			if c.wbroken.Load() {
				t = time.Now().Add(time.Second)
			}
			c.nc.SetReadDeadline(t)
		}
	}
}

// readErr says what an error of the reader means. body: inside a frame.
func (c *Conn) readErr(err error, body bool) error {
	var lie *Lie
	switch {
	case errors.As(err, &lie):
		return err
	case errors.Is(err, os.ErrDeadlineExceeded):
		if body && !c.wbroken.Load() {
			return &Hang{What: "a frame that it began does not end"}
		}
		return io.EOF
	case errors.Is(err, net.ErrClosed), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.ErrClosedPipe):
		return io.EOF
	}
	return err
}

// readReply reads the rest of a reply into the call that waits for it.
func (c *Conn) readReply(br *bufio.Reader, h *wire.Header) error {
	c.mu.Lock()
	k := c.pending[h.ReqID]
	if k == nil || k.fast {
		ended := c.err != nil
		c.mu.Unlock()
		if ended {
			return net.ErrClosed
		}
		return &Lie{What: fmt.Sprintf("reply %d to %s that nobody waits for", h.ReqID, h.Op)}
	}
	if h.Op != k.Header.Op || int(h.PayloadLen) > k.dstLen || h.Object != k.Header.Object {
		c.mu.Unlock()
		return &Lie{What: fmt.Sprintf("reply to %s for %s with %d bytes of payload, at most %d asked", h.Op, k.Header.Op, h.PayloadLen, k.dstLen)}
	}
	delete(c.pending, h.ReqID) // from here on it is the reader's
	c.mu.Unlock()

	if k.abandoned {
		if k.timer != nil {
			k.timer.Stop()
		}
		<-c.slots
		_, err := br.Discard(int(h.ArgsLen) + int(h.PayloadLen))
		return err
	}
	if cap(k.rbuf) < int(h.ArgsLen) {
		k.rbuf = make([]byte, h.ArgsLen, max(1024, int(h.ArgsLen)))
	}
	k.rbuf = k.rbuf[:h.ArgsLen]
	_, err := io.ReadFull(br, k.rbuf)
	left := int(h.PayloadLen)
	for _, p := range k.Dst {
		if err != nil || left == 0 {
			break
		}
		p = p[:min(len(p), left)]
		_, err = io.ReadFull(br, p)
		left -= len(p)
	}
	if err != nil {
		err = c.readErr(err, true)
		c.fail(err)
		k.complete(&Dead{Cause: c.Err()})
		return err
	}
	k.Reply, k.N = k.rbuf, int(h.PayloadLen)
	switch {
	case h.Errno == 0:
		k.complete(nil)
	case h.ArgsLen == 0:
		k.complete(abi.Errno(h.Errno))
	default:
		k.complete(&Refusal{Errno: abi.Errno(h.Errno), Text: wire.ParseErrText(k.rbuf)})
	}
	return nil
}

// readRequest reads the rest of a request and has it served.
func (c *Conn) readRequest(br *bufio.Reader, h *wire.Header) error {
	oneway := h.Flags&wire.FlagOneway != 0
	if oneway != h.Op.Oneway() {
		return &Lie{What: fmt.Sprintf("%s with flags %#x", h.Op, uint16(h.Flags))}
	}
	r := &Request{Header: *h, c: c}
	if h.ArgsLen > 0 {
		r.Args = make([]byte, h.ArgsLen)
		if _, err := io.ReadFull(br, r.Args); err != nil {
			return err
		}
	}
	if h.PayloadLen > 0 {
		r.buf = GetBuf(int(h.PayloadLen))
		r.Payload = *r.buf
		if _, err := io.ReadFull(br, r.Payload); err != nil {
			return err
		}
	}
	switch {
	case h.Op == wire.OpCancel:
		c.mu.Lock()
		x := c.serving[abi.ReqID(h.Object)]
		c.mu.Unlock()
		if x != nil {
			x.cancel()
		} else if f := c.Fast(); f != nil {
			f.Cancel(abi.ReqID(h.Object))
		}
		r.free()
		return nil
	case oneway:
		c.h.Serve(c.ctx, r)
		r.free()
		return nil
	}
	return c.serve(r)
}

func (r *Request) free() {
	if r.buf != nil {
		PutBuf(r.buf)
		r.buf, r.Payload = nil, nil
	}
}

// serve hands a request to a worker.
func (c *Conn) serve(r *Request) error {
	id := r.Header.ReqID
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.opt.Backpressure {
		for c.err == nil && len(c.serving) >= c.opt.MaxRequests {
			c.room.Wait()
		}
	}
	if c.err != nil {
		return net.ErrClosed
	}
	if len(c.serving) >= c.opt.MaxRequests {
		return &Lie{What: fmt.Sprintf("more than %d requests at a time", c.opt.MaxRequests)}
	}
	if c.serving[id] != nil {
		return &Lie{What: fmt.Sprintf("request id %d used twice", id)}
	}
	r.ctx = &reqCtx{parent: c.ctx}
	c.serving[id] = r.ctx
	switch {
	case c.idle > 0:
		c.idle--
		c.work <- r // has room for every worker
	case c.workers < c.opt.Workers:
		c.workers++
		c.wg.Add(1)
		go c.worker(r)
	default:
		c.queue = append(c.queue, r)
	}
	return nil
}

// unserve forgets a request that is being answered.
func (c *Conn) unserve(id abi.ReqID) {
	c.mu.Lock()
	delete(c.serving, id)
	if c.opt.Backpressure {
		c.room.Signal()
	}
	c.mu.Unlock()
}

func (c *Conn) worker(r *Request) {
	defer c.wg.Done()
	for {
		c.h.Serve(r.ctx, r)
		if !r.replied.Load() {
			r.Reply(abi.EIO, nil, nil)
		}
		r.ctx.cancel() // what the handler left behind ends
		r.free()
		c.mu.Lock()
		if len(c.queue) > 0 {
			r = c.queue[0]
			c.queue = c.queue[1:]
			c.mu.Unlock()
			continue
		}
		c.idle++
		c.mu.Unlock()
		select {
		case r = <-c.work:
		case <-c.done:
			return
		}
	}
}
