package stream

import (
	"sync"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

// Call is one request and its reply. Take it with GetCall and give it back
// with Release; the buffers in it are reused.
type Call struct {
	// Header: the caller sets Op, Object, OpSeq and Rank.
	Header wire.Header
	// Args is the coded message, at most wire.MaxArgs bytes.
	Args []byte
	// Payload is sent behind the arguments, at most wire.MaxPayload bytes.
	Payload abi.Iov
	// Dst takes the reply's payload, read straight into it.
	Dst abi.Iov
	// Timeout is how long the call may take: 0 is the deadline of the op's
	// class, negative without limit. A peer that lets the class's deadline
	// pass without any progress has failed (*Hang), even if the caller gave
	// up before; a deadline of the caller's own says nothing about the peer.
	Timeout time.Duration
	// Wait: when ctx ends the peer is told, and its reply still awaited for
	// as long as Options.WriteTimeout. For calls whose effect must not get
	// lost, as bytes that were received, though their waiting can end.
	Wait bool

	// Reply are the arguments of the reply, until Release.
	Reply []byte
	// N is how many bytes went into Dst.
	N int

	done  chan struct{} // one element when the call is complete
	timer *time.Timer
	err   error // result; set before done
	rbuf  []byte
	big   []byte
	one   [1][]byte

	// Slot is for the use of a Fast between its Start and Finish.
	Slot int

	// Of a call that is on its way by the stream.
	limit   time.Duration
	expired <-chan time.Time
	seen    uint64

	// Protected by Conn.mu.
	abandoned bool
	fast      bool // it did not go by the stream
	dstLen    int
}

var calls = sync.Pool{New: func() any {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return &Call{done: make(chan struct{}, 1), timer: t}
}}

// GetCall takes a Call, empty but for its buffers.
func GetCall() *Call { return calls.Get().(*Call) }

// keepBig is the largest scratch buffer that a pooled Call keeps.
const keepBig = 64 << 10

// Release gives k and what its Reply points to back.
func (k *Call) Release() {
	k.Header = wire.Header{}
	k.Args = k.Args[:0]
	k.Payload, k.Dst, k.Reply, k.err = nil, nil, nil, nil
	k.Timeout, k.Wait, k.N = 0, false, 0
	k.one[0], k.fast, k.expired = nil, false, nil
	if cap(k.big) > keepBig {
		k.big = nil
	}
	calls.Put(k)
}

// Scratch makes Dst a buffer of n bytes that belongs to the Call, for replies
// that are to be decoded. The bytes received are Got.
func (k *Call) Scratch(n int) {
	if cap(k.big) < n {
		k.big = make([]byte, n)
	}
	k.big = k.big[:n]
	k.one[0] = k.big
	k.Dst = k.one[:]
}

// Got is what was received into Scratch, until Release.
func (k *Call) Got() []byte { return k.big[:k.N] }

// SetPayload makes p the payload.
func (k *Call) SetPayload(p []byte) {
	k.Payload = abi.Iov{p}
}

// Err is the result of a call of Conn.Batch, until Release.
func (k *Call) Err() error { return k.err }

// complete ends the call. The caller must have taken it out of the table.
func (k *Call) complete(err error) {
	k.err = err
	k.done <- struct{}{}
}
