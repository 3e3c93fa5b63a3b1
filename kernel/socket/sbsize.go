package socket

import (
	"context"
	"encoding/binary"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// The buffers of a component's socket count for who made it (kern.uidinfo.sbsize)
// with the sizes that getsockopt(2) says: those that the component gives a new
// socket of the type, and then those that setsockopt(2) asks for. A connection
// that is accepted counts for the listener's maker, with the listener's sizes.

type bufSizes struct{ snd, rcv int64 }

// defaultSizes are NetBSD's (tcp_sendspace, udp_sendspace, ...), for a component
// that does not tell.
func defaultSizes(typ int) bufSizes {
	if typ == abi.SOCK_STREAM {
		return bufSizes{32 << 10, 32 << 10}
	}
	return bufSizes{9 << 10, 40 << 10}
}

// reserve counts the buffers of a new socket. ENOBUFS.
func (s *Socket) reserve(ctx context.Context, c *abi.Caller) error {
	if s.l.opts.Sbsize == nil {
		return nil
	}
	z := s.dom.sizesOf(ctx, s)
	info, max := s.l.opts.Sbsize(c)
	return s.sbuf.Reserve(info, z.snd, z.rcv, max)
}

// sizesOf asks the first socket of each type.
func (dm *domain) sizesOf(ctx context.Context, s *Socket) bufSizes {
	if v, ok := dm.sizes.Load(s.typ); ok {
		return v.(bufSizes)
	}
	z := defaultSizes(s.typ)
	g, st := s.at()
	if st != live {
		return z
	}
	for name, n := range map[int]*int64{abi.SO_SNDBUF: &z.snd, abi.SO_RCVBUF: &z.rcv} {
		v, err := g.d.Getopt(ctx, s.id, abi.SOL_SOCKET, name)
		if err == nil && len(v) == 4 {
			*n = int64(binary.LittleEndian.Uint32(v) & 0x7fffffff)
		}
	}
	dm.sizes.Store(s.typ, z)
	return z
}

// resize counts a new size that setsockopt(2) asks for; undo takes it back.
// ENOBUFS.
func (s *Socket) resize(c *abi.Caller, level, name int, val []byte) (undo func(), err error) {
	none := func() {}
	if s.l.opts.Sbsize == nil || level != abi.SOL_SOCKET || name != abi.SO_SNDBUF && name != abi.SO_RCVBUF || len(val) < 4 {
		return none, nil
	}
	n := int64(int32(binary.LittleEndian.Uint32(val)))
	if n <= 0 {
		return none, nil // the component refuses it
	}
	_, max := s.l.opts.Sbsize(c)
	_, snd, rcv := s.sbuf.Sizes()
	if name == abi.SO_SNDBUF {
		return func() { _ = s.sbuf.SetSnd(snd, abi.RLIM_INFINITY) }, s.sbuf.SetSnd(n, max)
	}
	return func() { _ = s.sbuf.SetRcv(rcv, abi.RLIM_INFINITY) }, s.sbuf.SetRcv(n, max)
}
