package local

import (
	"encoding/binary"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

func int32Opt(v int) []byte { return binary.LittleEndian.AppendUint32(nil, uint32(v)) }

// SetTimeo sets SO_RCVTIMEO or SO_SNDTIMEO; 0 is none.
func (s *Socket) SetTimeo(rcv bool, t time.Duration) {
	if rcv {
		s.rcvTimeo.Store(int64(t))
	} else {
		s.sndTimeo.Store(int64(t))
	}
}

// Timeo is SO_RCVTIMEO or SO_SNDTIMEO.
func (s *Socket) Timeo(rcv bool) time.Duration {
	if rcv {
		return s.timeo(&s.rcvTimeo)
	}
	return s.timeo(&s.sndTimeo)
}

// flagOpts are the SOL_SOCKET options that are remembered and change nothing
// here.
var flagOpts = map[int]bool{
	abi.SO_DEBUG: true, abi.SO_REUSEADDR: true, abi.SO_KEEPALIVE: true, abi.SO_DONTROUTE: true, abi.SO_BROADCAST: true,
	abi.SO_USELOOPBACK: true, abi.SO_OOBINLINE: true, abi.SO_REUSEPORT: true, abi.SO_NOSIGPIPE: true, abi.SO_RERROR: true,
}

// Setopt is setsockopt(2) for all but the time-outs. ENOPROTOOPT, EINVAL,
// ENOBUFS (a buffer too large, or RLIMIT_SBSIZE).
func (s *Socket) Setopt(c *abi.Caller, level, name int, val []byte) error {
	if len(val) < 4 {
		return abi.EINVAL
	}
	v := int(int32(binary.LittleEndian.Uint32(val)))
	switch level {
	case abi.SOL_LOCAL:
		switch name {
		case abi.LOCAL_CREDS:
			s.rcv.mu.Lock()
			s.rcv.creds = v != 0
			s.rcv.mu.Unlock()
			return nil
		case abi.LOCAL_CONNWAIT:
			s.d.mu.Lock()
			s.connwait = v != 0
			s.d.mu.Unlock()
			return nil
		}
	case abi.SOL_SOCKET:
		switch name {
		case abi.SO_SNDBUF, abi.SO_RCVBUF:
			if v <= 0 {
				return abi.EINVAL
			}
			if v > MaxSpace {
				return abi.ENOBUFS
			}
			_, max := s.d.sbsize(c)
			if name == abi.SO_SNDBUF {
				if err := s.sbuf.SetSnd(int64(v), max); err != nil {
					return err
				}
				s.sndSpace.Store(int64(v))
				return nil
			}
			if err := s.sbuf.SetRcv(int64(v), max); err != nil {
				return err
			}
			s.rcv.mu.Lock()
			s.rcv.space = v
			s.rcv.mu.Unlock()
			if p := s.peer.Load(); p != nil {
				p.sel.Notify() // there may be room now
			}
			return nil
		case abi.SO_LINGER: // what is sent has arrived: nothing lingers
			if len(val) < 8 {
				return abi.EINVAL
			}
			s.d.mu.Lock()
			s.linger = [8]byte(val)
			s.d.mu.Unlock()
			return nil
		case abi.SO_ERROR, abi.SO_TYPE, abi.SO_ACCEPTCONN:
			return abi.ENOPROTOOPT
		}
		if flagOpts[name] || name == abi.SO_SNDLOWAT || name == abi.SO_RCVLOWAT {
			s.d.mu.Lock()
			defer s.d.mu.Unlock()
			if s.opts == nil {
				s.opts = map[int]uint32{}
			}
			s.opts[name] = uint32(v)
			return nil
		}
	}
	return abi.ENOPROTOOPT
}

// Getopt is getsockopt(2) for all but the time-outs. ENOPROTOOPT; EINVAL for
// LOCAL_PEEREID without a connection.
func (s *Socket) Getopt(level, name int) ([]byte, error) {
	boolean := func(b bool) ([]byte, error) {
		if b {
			return int32Opt(1), nil
		}
		return int32Opt(0), nil
	}
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	switch level {
	case abi.SOL_LOCAL:
		switch name {
		case abi.LOCAL_PEEREID:
			if s.peerID == nil {
				return nil, abi.EINVAL
			}
			return abi.AppendUnpcbid(nil, *s.peerID), nil
		case abi.LOCAL_CREDS:
			s.rcv.mu.Lock()
			defer s.rcv.mu.Unlock()
			return boolean(s.rcv.creds)
		case abi.LOCAL_CONNWAIT:
			return boolean(s.connwait)
		}
	case abi.SOL_SOCKET:
		switch name {
		case abi.SO_LINGER:
			return append([]byte(nil), s.linger[:]...), nil
		case abi.SO_TYPE:
			return int32Opt(s.typ), nil
		case abi.SO_ERROR:
			return int32Opt(int(s.err.Swap(0))), nil
		case abi.SO_ACCEPTCONN:
			return boolean(s.state() == listening)
		case abi.SO_SNDBUF:
			return int32Opt(int(s.sndSpace.Load())), nil
		case abi.SO_RCVBUF:
			s.rcv.mu.Lock()
			defer s.rcv.mu.Unlock()
			return int32Opt(s.rcv.space), nil
		}
		if flagOpts[name] || name == abi.SO_SNDLOWAT || name == abi.SO_RCVLOWAT {
			return int32Opt(int(s.opts[name])), nil
		}
	}
	return nil, abi.ENOPROTOOPT
}
