package stream

import (
	"context"
	"errors"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Lie is a frame that breaks the rules: the peer is broken or hostile.
type Lie struct {
	What string
}

func (l *Lie) Error() string { return "peer lied: " + l.What }

// Hang is a peer that makes no progress.
type Hang struct {
	What string
}

func (h *Hang) Error() string { return "peer hangs: " + h.What }

// Dead is what calls return when the connection has ended: Cause is Conn.Err.
// As a number it is EIO.
type Dead struct {
	Cause error
}

func (d *Dead) Error() string { return "connection ended: " + d.Cause.Error() }

// Unwrap shows both the number and the cause.
func (d *Dead) Unwrap() []error { return []error{abi.EIO, d.Cause} }

// Refusal is an error reply with a text from the peer.
type Refusal struct {
	Errno abi.Errno
	Text  string
}

func (r *Refusal) Error() string { return r.Text }

// Unwrap is the number.
func (r *Refusal) Unwrap() error { return r.Errno }

// gaveUp turns the end of a context into the caller's error.
func gaveUp(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return abi.ETIMEDOUT
	}
	return abi.EINTR
}
