package ring

import (
	"net"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Passer is a unix stream connection that can carry one descriptor with its
// bytes: how the memory of a ring gets to a client. It is a net.Conn.
type Passer struct {
	*net.UnixConn
	out    atomic.Pointer[os.File]
	expect atomic.Bool
	in     atomic.Pointer[os.File]
}

// NewPasser makes a Passer of nc; nil if that is no unix connection. With
// expect it takes a descriptor that comes, until Received.
func NewPasser(nc net.Conn, expect bool) *Passer {
	uc, ok := nc.(*net.UnixConn)
	if !ok {
		return nil
	}
	p := &Passer{UnixConn: uc}
	p.expect.Store(expect)
	return p
}

// Send has f go with the next bytes that are written. It is closed then.
func (p *Passer) Send(f *os.File) {
	if old := p.out.Swap(f); old != nil {
		old.Close()
	}
}

// Received is the descriptor that came, or nil. No more are taken.
func (p *Passer) Received() *os.File {
	p.expect.Store(false)
	return p.in.Swap(nil)
}

// Write writes b, and the descriptor if there is one to be sent.
func (p *Passer) Write(b []byte) (int, error) {
	f := p.out.Swap(nil)
	if f == nil || len(b) == 0 {
		return p.UnixConn.Write(b)
	}
	defer f.Close()
	n, _, err := p.UnixConn.WriteMsgUnix(b, unix.UnixRights(int(f.Fd())), nil)
	if err != nil || n == len(b) {
		return max(n, 0), err
	}
	m, err := p.UnixConn.Write(b[n:])
	return n + m, err
}

// Read reads, and takes a descriptor if one is expected. Others are closed.
func (p *Passer) Read(b []byte) (int, error) {
	if !p.expect.Load() || len(b) == 0 {
		return p.UnixConn.Read(b)
	}
	oob := make([]byte, unix.CmsgSpace(4*4))
	n, oobn, _, _, err := p.UnixConn.ReadMsgUnix(b, oob)
	if oobn > 0 {
		p.take(oob[:oobn])
	}
	return max(n, 0), err
}

func (p *Passer) take(oob []byte) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return
	}
	for i := range msgs {
		fds, err := unix.ParseUnixRights(&msgs[i])
		if err != nil {
			continue
		}
		for _, fd := range fds {
			f := os.NewFile(uintptr(fd), "ring")
			if !p.expect.Load() || !p.in.CompareAndSwap(nil, f) {
				f.Close()
			}
		}
	}
}

// Close closes the connection and what was to be sent or has come.
func (p *Passer) Close() error {
	for _, q := range []*atomic.Pointer[os.File]{&p.in, &p.out} {
		if f := q.Swap(nil); f != nil {
			f.Close()
		}
	}
	return p.UnixConn.Close()
}
