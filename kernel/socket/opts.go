package socket

import (
	"bytes"
	"context"
	"encoding/binary"
	"slices"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/kernel/socket/local"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/sockops"
)

// MaxOpt bounds the value of an option, in bytes (MCLBYTES).
const MaxOpt = 2048

// maxOpts bounds the options remembered of one socket, so that a program that
// joins group after group cannot fill the kernel. ENOBUFS.
const maxOpts = 256

// option is one setsockopt(2) that the component took.
type option struct {
	level, name int
	val         []byte
}

// TimevalSize is the size of struct timeval, in bytes: seconds (8),
// microseconds (4), padding.
const TimevalSize = 16

// parseTimeval reads the value of SO_RCVTIMEO and SO_SNDTIMEO. EINVAL if it is
// short, EDOM if it is no time.
func parseTimeval(b []byte) (time.Duration, error) {
	if len(b) < TimevalSize {
		return 0, abi.EINVAL
	}
	sec := int64(binary.LittleEndian.Uint64(b))
	usec := int32(binary.LittleEndian.Uint32(b[8:]))
	if sec < 0 || sec > 1<<31 || usec < 0 || usec >= 1e6 {
		return 0, abi.EDOM
	}
	return time.Duration(sec)*time.Second + time.Duration(usec)*time.Microsecond, nil
}

func appendTimeval(d time.Duration) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(d/time.Second))
	b = binary.LittleEndian.AppendUint32(b, uint32(d%time.Second/time.Microsecond))
	return append(b, 0, 0, 0, 0)
}

func int32Opt(v uint32) []byte { return binary.LittleEndian.AppendUint32(nil, v) }

// cumulative tells apart options that add to a set, those that take away from
// it, and all others.
func cumulative(level, name int) (add, drop bool, pair int) {
	switch {
	case level == abi.IPPROTO_IP && name == abi.IP_ADD_MEMBERSHIP:
		return true, false, name
	case level == abi.IPPROTO_IP && name == abi.IP_DROP_MEMBERSHIP:
		return false, true, abi.IP_ADD_MEMBERSHIP
	case level == abi.IPPROTO_IPV6 && name == abi.IPV6_JOIN_GROUP:
		return true, false, name
	case level == abi.IPPROTO_IPV6 && name == abi.IPV6_LEAVE_GROUP:
		return false, true, abi.IPV6_JOIN_GROUP
	}
	return false, false, name
}

// Setsockopt is setsockopt(2); val is in NetBSD's layout. ENOPROTOOPT, EINVAL,
// EDOM (a time that is none), ENOBUFS.
func (l *Layer) Setsockopt(ctx context.Context, c *abi.Caller, f *file.File, level, name int, val []byte) error {
	if u := local.Of(f); u != nil {
		if level == abi.SOL_SOCKET && (name == abi.SO_RCVTIMEO || name == abi.SO_SNDTIMEO) {
			d, err := parseTimeval(val)
			if err == nil {
				u.SetTimeo(name == abi.SO_RCVTIMEO, d)
			}
			return err
		}
		return u.Setopt(c, level, name, val)
	}
	s, err := of(f)
	if err != nil {
		return err
	}
	if len(val) > MaxOpt {
		return abi.EINVAL
	}
	if level == abi.SOL_SOCKET {
		switch name {
		case abi.SO_RCVTIMEO, abi.SO_SNDTIMEO:
			d, err := parseTimeval(val)
			if err != nil {
				return err
			}
			if name == abi.SO_RCVTIMEO {
				s.rcvTimeo.Store(int64(d))
			} else {
				s.sndTimeo.Store(int64(d))
			}
			return nil
		case abi.SO_NOSIGPIPE:
			if len(val) < 4 {
				return abi.EINVAL
			}
			s.mu.Lock()
			if s.flags == nil {
				s.flags = make(map[int]uint32)
			}
			s.flags[name] = binary.LittleEndian.Uint32(val)
			s.mu.Unlock()
			return nil
		case abi.SO_ERROR, abi.SO_TYPE, abi.SO_ACCEPTCONN, abi.SO_OVERFLOWED:
			return abi.ENOPROTOOPT
		}
	}
	val = bytes.Clone(val)
	return s.control(ctx, abi.EINVAL, func(d sockops.Domain) error {
		if add, _, _ := cumulative(level, name); add {
			s.mu.Lock()
			full := len(s.sopts) >= maxOpts
			s.mu.Unlock()
			if full {
				return abi.ENOBUFS
			}
		}
		undo, err := s.resize(c, level, name, val)
		if err != nil {
			return err
		}
		if err := d.Setopt(ctx, s.id, level, name, val); err != nil {
			undo()
			return err
		}
		s.remember(level, name, val)
		return nil
	})
}

// remember keeps an option for the time after a restart.
func (s *Socket) remember(level, name int, val []byte) {
	add, drop, pair := cumulative(level, name)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sopts = slices.DeleteFunc(s.sopts, func(o option) bool {
		if o.level != level || o.name != pair {
			return false
		}
		return !add && !drop || bytes.Equal(o.val, val)
	})
	if !drop {
		s.sopts = append(s.sopts, option{level, name, val})
	}
}

// Getsockopt is getsockopt(2); the answer is in NetBSD's layout. ENOPROTOOPT.
func (l *Layer) Getsockopt(ctx context.Context, c *abi.Caller, f *file.File, level, name int) ([]byte, error) {
	if u := local.Of(f); u != nil {
		if level == abi.SOL_SOCKET && (name == abi.SO_RCVTIMEO || name == abi.SO_SNDTIMEO) {
			return appendTimeval(u.Timeo(name == abi.SO_RCVTIMEO)), nil
		}
		return u.Getopt(level, name)
	}
	s, err := of(f)
	if err != nil {
		return nil, err
	}
	if level == abi.SOL_SOCKET {
		switch name {
		case abi.SO_RCVTIMEO:
			return appendTimeval(s.timeo(&s.rcvTimeo)), nil
		case abi.SO_SNDTIMEO:
			return appendTimeval(s.timeo(&s.sndTimeo)), nil
		case abi.SO_TYPE:
			return int32Opt(uint32(s.typ)), nil
		case abi.SO_ACCEPTCONN:
			if s.getPhase() == listening {
				return int32Opt(abi.SO_ACCEPTCONN), nil
			}
			return int32Opt(0), nil
		case abi.SO_NOSIGPIPE:
			s.mu.Lock()
			defer s.mu.Unlock()
			return int32Opt(s.flags[name]), nil
		case abi.SO_ERROR:
			if e := s.takeError(); e != 0 {
				return int32Opt(uint32(e)), nil
			}
			if s.dead.Load() {
				return int32Opt(0), nil
			}
		}
	}
	var v []byte
	err = s.wait(ctx, waitMode{once: true}, func(g *generation) (err error) {
		v, err = g.d.Getopt(ctx, s.id, level, name)
		if err == nil && len(v) > MaxOpt {
			return errLie
		}
		return err
	})
	if err == errDead {
		err = abi.EINVAL
	}
	if err != nil {
		return nil, err
	}
	if level == abi.SOL_SOCKET && name == abi.SO_ERROR && len(v) >= 4 && s.getPhase() == connecting {
		// The outcome of a connect that nobody waited for.
		if binary.LittleEndian.Uint32(v) != 0 {
			s.setPhase(idle)
		}
	}
	return v, nil
}
