package cli

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

const (
	ncBuffers  = 4         // buffers in each direction, so that both ends are busy
	ncBuffer   = 256 << 10 // bytes of one, for TCP
	ncDatagram = 65535     // the longest datagram that can come
	ncSend     = 16 << 10  // the longest that is sent
	// ncIdle is how long standard input of nc -l must say nothing after the
	// other side has ended.
	ncIdle = 250 * time.Millisecond
	// ncLinger is how long nc goes on to receive after sending has failed.
	ncLinger = time.Second
)

// ncCopy copies between a socket and the standard streams, both ways at once.
type ncCopy struct {
	c       *call
	k       *rumpclient.Client
	fd      int
	f       ncFlags
	pending atomic.Int64 // bytes of stdin that are not sent yet
	moved   atomic.Int64 // times that something moved
}

func newNcCopy(c *call, k *rumpclient.Client, fd int, f ncFlags) *ncCopy {
	return &ncCopy{c: c, k: k, fd: fd, f: f}
}

// pump moves what read gives to write, with reading and writing beside each
// other. It returns at the end (io.EOF) of read or the first error; after an
// error of write, read may still be waiting, and what it then gives is dropped.
func pump(size int, read func([]byte) (int, error), write func([]byte) error) error {
	full, free := make(chan []byte, ncBuffers), make(chan []byte, ncBuffers)
	for range ncBuffers {
		free <- make([]byte, size)
	}
	stop := make(chan struct{})
	defer close(stop)
	ended := make(chan error, 1)
	go func() {
		defer close(full)
		for {
			var b []byte
			select {
			case b = <-free:
			case <-stop:
				return
			}
			n, err := read(b[:size])
			if n > 0 {
				full <- b[:n] // never waits: there are no more buffers than room
			}
			if err != nil {
				ended <- err
				return
			}
		}
	}()
	for b := range full {
		if err := write(b); err != nil {
			return err
		}
		free <- b[:size]
	}
	if err := <-ended; err != io.EOF {
		return err
	}
	return nil
}

// send copies standard input to the socket and passes its end on.
func (n *ncCopy) send(ctx context.Context) error {
	size := ncBuffer
	if n.f.udp {
		size = ncSend
	}
	err := pump(size, func(b []byte) (int, error) {
		m, err := n.c.stdin.Read(b)
		n.pending.Add(int64(m))
		if err != nil && err != io.EOF {
			err = fmt.Errorf("standard input: %w", err)
		}
		return m, err
	}, func(b []byte) error {
		for all := len(b); len(b) > 0; {
			m, err := n.k.Write(ctx, n.fd, b)
			if err != nil {
				return err
			}
			if n.f.udp {
				m = len(b)
			}
			if b = b[m:]; len(b) == 0 {
				n.pending.Add(-int64(all))
			}
			n.moved.Add(1)
		}
		return nil
	})
	if err == nil && !n.f.udp {
		err = n.k.Shutdown(ctx, n.fd, abi.SHUT_WR)
	}
	return err
}

// receive copies the socket to standard output.
func (n *ncCopy) receive(ctx context.Context) error {
	size := ncBuffer
	if n.f.udp {
		size = ncDatagram
	}
	return pump(size, func(b []byte) (int, error) {
		m, err := n.k.Read(ctx, n.fd, b)
		n.moved.Add(1)
		if m == 0 && err == nil && !n.f.udp {
			err = io.EOF
		}
		return m, err
	}, n.print)
}

func (n *ncCopy) print(b []byte) error {
	if _, err := n.c.stdout.Write(b); err != nil {
		return fmt.Errorf("standard output: %w", err)
	}
	return nil
}

// run copies until both directions have ended; first is written to standard
// output before anything else.
func (n *ncCopy) run(ctx context.Context, first []byte) error {
	if err := n.print(first); err != nil {
		return err
	}
	work, cancel := context.WithCancel(ctx)
	defer cancel()
	sent, received := make(chan error, 1), make(chan error, 1)
	go func() { sent <- n.send(work) }()
	go func() { received <- n.receive(work) }()
	tick := time.NewTicker(ncIdle)
	defer tick.Stop()
	var (
		sendDone, recvDone bool
		sendErr            error
		linger             <-chan time.Time
		last, lastAt       = int64(-1), time.Now()
	)
	for !sendDone || !recvDone {
		select {
		case err := <-sent:
			sendDone = true
			if sendErr = err; err != nil {
				linger = time.After(ncLinger)
			}
		case err := <-received:
			if err != nil {
				if sendErr != nil {
					return sendErr
				}
				return err
			}
			recvDone = true
			last = -1
		case <-linger:
			return sendErr
		case <-ctx.Done():
			return context.Cause(ctx)
		case now := <-tick.C:
			if m := n.moved.Load(); m != last {
				last, lastAt = m, now
				continue
			}
			if recvDone && n.f.listen && n.pending.Load() == 0 {
				return sendErr
			}
			if n.f.wait > 0 && now.Sub(lastAt) >= time.Duration(n.f.wait)*time.Second {
				return sendErr
			}
		}
	}
	return sendErr
}
