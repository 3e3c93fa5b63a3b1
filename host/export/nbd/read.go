package nbd

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	proto "github.com/rumpus-kernel/rumpus/modapi/nbd"
)

// errLeft is the end of the stream between two frames.
var errLeft = errors.New("the client has gone")

// limit is which bound the reading has.
type limit int

const (
	noLimit     limit = iota
	inHandshake       // the whole handshake
	inRequest         // the rest of a request
	betweenRequests
)

// limitRead sets the bound, d from now; 0 is none. A bound that holds already is
// left alone, but for the one between requests, which is always new.
func (c *conn) limitRead(l limit, d time.Duration) {
	if l == c.deadline && (l != betweenRequests || d == 0) {
		return
	}
	c.deadline = l
	var t time.Time
	if d > 0 {
		t = time.Now().Add(d)
	}
	c.nc.SetReadDeadline(t)
	if c.closing.Load() { // stop may have come first
		c.nc.SetReadDeadline(time.Unix(1, 0))
	}
}

// readErr says what an error of the socket means.
func (c *conn) readErr(err error, partial bool) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded) && c.closing.Load():
		return errLeft
	case errors.Is(err, os.ErrDeadlineExceeded):
		what := "no request came"
		if c.deadline == inHandshake {
			what = "the handshake took too long"
		} else if partial {
			what = "the rest of a request did not come"
		}
		return fmt.Errorf("%s: %w", what, abi.ETIMEDOUT)
	case errors.Is(err, io.EOF) && partial:
		return fmt.Errorf("gone in the middle of a frame: %w", proto.ErrProtocol)
	case errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed):
		return errLeft
	}
	return err
}

// take answers the next n bytes, at most 64 KiB; they are good until the next
// call. errLeft if there is not one of them.
func (c *conn) take(n int) ([]byte, error) {
	for c.w-c.r < n {
		if c.r == c.w {
			c.r, c.w = 0, 0
		} else if c.r+n > len(c.rb) {
			c.w = copy(c.rb, c.rb[c.r:c.w])
			c.r = 0
		}
		partial := c.w > c.r
		if partial && c.deadline == betweenRequests {
			c.limitRead(inRequest, c.s.opt.Stall)
		}
		m, err := c.nc.Read(c.rb[c.w:])
		c.w += m
		if err != nil && c.w-c.r < n {
			return nil, c.readErr(err, c.w > c.r)
		}
	}
	p := c.rb[c.r : c.r+n]
	c.r += n
	return p, nil
}

// payloadLimit bounds the coming of n bytes of payload: a megabyte a second at
// least.
func (c *conn) payloadLimit(n int) {
	if c.deadline != inHandshake {
		c.deadline = noLimit
		c.limitRead(inRequest, c.s.opt.Stall+time.Duration(n)*time.Microsecond)
	}
}

// payload fills p with the next bytes.
func (c *conn) payload(p []byte) error {
	n := copy(p, c.rb[c.r:c.w])
	c.r += n
	if p = p[n:]; len(p) == 0 {
		return nil
	}
	c.payloadLimit(len(p))
	if _, err := io.ReadFull(c.nc, p); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = io.EOF
		}
		return c.readErr(err, true)
	}
	return nil
}

// skip drops the next n bytes.
func (c *conn) skip(n int) error {
	m := min(n, c.w-c.r)
	c.r += m
	if n -= m; n > 0 {
		c.payloadLimit(n)
	}
	for n > 0 {
		m, err := c.nc.Read(c.rb[:min(n, len(c.rb))])
		if n -= m; err != nil && n > 0 {
			return c.readErr(err, true)
		}
	}
	return nil
}
