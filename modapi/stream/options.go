package stream

import (
	"context"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

// Options of a Conn. The zero value is usable.
type Options struct {
	// Epoch goes into every frame, and every frame received must have it. 0
	// takes over the epoch of the first frame received.
	Epoch abi.Epoch
	// Workers bounds the requests served at a time (64).
	Workers int
	// MaxRequests bounds the requests of the peer that are served or waiting
	// to be (1024). More are a lie, or with Backpressure are not read.
	MaxRequests  int
	Backpressure bool
	// MaxCalls bounds the own calls in flight (1024); more wait.
	MaxCalls int
	// WriteTimeout bounds the writing of a reply (5 s), FrameTimeout the time
	// from the head of a frame to its end (5 s).
	WriteTimeout time.Duration
	FrameTimeout time.Duration
	// Deadline is how long a class may go without progress; nil is the
	// class's own (wire.Class.Deadline).
	Deadline func(wire.Class) time.Duration
	// Base is what the contexts of requests are made from (Background).
	Base context.Context
	// Busy is told, without locks, that calls are in flight which are not
	// answered at once, after Unwatch had answered true or for the first time.
	// It must not wait. nil: nobody watches.
	Busy func()
	// Excuse is asked before a peer is taken to hang because a deadline has
	// passed without progress: true if it could not help it, as it got no
	// processor. The deadline then begins anew, up to a few times.
	Excuse func() bool
}

func (o *Options) defaults() {
	set := func(p *int, v int) {
		if *p <= 0 {
			*p = v
		}
	}
	set(&o.Workers, 64)
	set(&o.MaxRequests, 1024)
	set(&o.MaxCalls, 1024)
	if o.WriteTimeout <= 0 {
		o.WriteTimeout = 5 * time.Second
	}
	if o.FrameTimeout <= 0 {
		o.FrameTimeout = 5 * time.Second
	}
	if o.Deadline == nil {
		o.Deadline = wire.Class.Deadline
	}
}
