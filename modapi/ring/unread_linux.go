package ring

import "math/bits"

// Unread reports whether the peer has answered a parked call, or asked
// something, and nobody has looked at it yet.
func (e *End) Unread() bool {
	if !e.enter() {
		return false
	}
	defer e.leave()
	if e.serves && e.srv.unread() {
		return true
	}
	for j := range e.parked {
		for v := e.parked[j].Load(); v != 0; v &= v - 1 {
			i := j*64 + bits.TrailingZeros64(v)
			if e.out.slot(i).Load()&^waitMask == e.mine[i].gen.Load()<<genShift|complete {
				return true
			}
		}
	}
	return false
}

// unread reports whether there are requests in the ring. It is asked by others
// than the leader, so it looks at all of it.
func (s *server) unread() bool {
	for i := range uint32(slots) {
		if s.h.entry(i).Load() != 0 {
			return true
		}
	}
	return false
}
