package inet

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// option is a socket option in one place: how its value is read and set. A nil
// get or set is ENOPROTOOPT.
type option struct {
	typ int // abi.SOCK_* that has it, 0 for any
	get func(s *sock) ([]byte, error)
	set func(s *sock, val []byte) error
}

// optKey is level and name.
type optKey struct{ level, name int }

// int32Val is an int as setsockopt(2) has it.
func int32Val(v int) []byte { return binary.LittleEndian.AppendUint32(nil, uint32(v)) }

func boolVal(v bool) []byte {
	if v {
		return int32Val(1)
	}
	return int32Val(0)
}

// getInt reads an int value. EINVAL unless it is 4 bytes long, as NetBSD's
// sockopt_getint.
func getInt(val []byte) (int, error) {
	if len(val) != 4 {
		return 0, fmt.Errorf("value of %d bytes, not 4: %w", len(val), abi.EINVAL)
	}
	return int(int32(binary.LittleEndian.Uint32(val))), nil
}

// getByteOrInt reads a u_char or an int, as NetBSD's ip_getoptval.
func getByteOrInt(val []byte) (int, error) {
	if len(val) == 1 {
		return int(val[0]), nil
	}
	return getInt(val)
}

// flag is an on/off option in netstack's SocketOptions.
func flag(typ int, get func(*tcpip.SocketOptions) bool, set func(*tcpip.SocketOptions, bool)) option {
	return option{
		typ: typ,
		get: func(s *sock) ([]byte, error) { return boolVal(get(s.ep.SocketOptions())), nil },
		set: func(s *sock, val []byte) error {
			v, err := getInt(val)
			if err != nil {
				return err
			}
			set(s.ep.SocketOptions(), v != 0)
			return nil
		},
	}
}

// ranged is an int option of the endpoint with the values lo to hi; others
// are EINVAL.
func ranged(typ int, o tcpip.SockOptInt, lo, hi int, read func([]byte) (int, error)) option {
	return option{
		typ: typ,
		get: func(s *sock) ([]byte, error) {
			v, err := s.ep.GetSockOptInt(o)
			return int32Val(v), wrap("getsockopt", err)
		},
		set: func(s *sock, val []byte) error {
			v, err := read(val)
			if err != nil {
				return err
			}
			if v < lo || v > hi {
				return fmt.Errorf("value %d is not between %d and %d: %w", v, lo, hi, abi.EINVAL)
			}
			return wrap("setsockopt", s.ep.SetSockOptInt(o, v))
		},
	}
}

// readOnly is an option that cannot be set.
func readOnly(get func(s *sock) ([]byte, error)) option { return option{get: get} }

// bufFactor is how much larger netstack's buffers are than SO_SNDBUF and
// SO_RCVBUF say. netstack counts the overhead of segments as data and offers
// half of a receive buffer as window; with a window below one segment the
// sender waits for a timer, 200 ms at least.
const bufFactor = 2

// bufSize is SO_SNDBUF or SO_RCVBUF: EINVAL unless positive, ENOBUFS beyond
// the maximum, and raised to the minimum.
func bufSize(get func(*tcpip.SocketOptions) int64, limits func(*tcpip.SocketOptions) (int64, int64), set func(*tcpip.SocketOptions, int64)) option {
	return option{
		get: func(s *sock) ([]byte, error) { return int32Val(int(get(s.ep.SocketOptions()) / bufFactor)), nil },
		set: func(s *sock, val []byte) error {
			v, err := getInt(val)
			if err != nil {
				return err
			}
			so := s.ep.SocketOptions()
			lo, hi := limits(so)
			lo, hi = lo/bufFactor, hi/bufFactor
			switch {
			case v <= 0:
				return fmt.Errorf("buffer of %d bytes: %w", v, abi.EINVAL)
			case int64(v) > hi:
				return fmt.Errorf("buffer of %d bytes, at most %d: %w", v, hi, abi.ENOBUFS)
			}
			set(so, max(int64(v), lo)*bufFactor)
			return nil
		},
	}
}

// seconds is a TCP timer option, in seconds from 1.
func seconds(get func(s *sock) (time.Duration, tcpip.Error), set func(s *sock, d time.Duration) tcpip.Error) option {
	return option{
		typ: abi.SOCK_STREAM,
		get: func(s *sock) ([]byte, error) {
			d, err := get(s)
			return int32Val(int(d / time.Second)), wrap("getsockopt", err)
		},
		set: func(s *sock, val []byte) error {
			v, err := getInt(val)
			if err != nil {
				return err
			}
			if v <= 0 {
				return fmt.Errorf("%d seconds: %w", v, abi.EINVAL)
			}
			return wrap("setsockopt", set(s, time.Duration(v)*time.Second))
		},
	}
}

// lingerMax bounds the time of SO_LINGER, in seconds, as NetBSD's SHRT_MAX/hz
// ticks do in kind: beyond it is EDOM.
const lingerMax = math.MaxInt16

// linger is struct linger: int l_onoff, int l_linger in seconds.
var linger = option{
	get: func(s *sock) ([]byte, error) {
		l := s.ep.SocketOptions().GetLinger()
		sec := int(s.lingerSec.Load())
		return append(boolVal(l.Enabled), int32Val(sec)...), nil
	},
	set: func(s *sock, val []byte) error {
		if len(val) != 8 {
			return fmt.Errorf("struct linger of %d bytes: %w", len(val), abi.EINVAL)
		}
		on, _ := getInt(val[:4])
		sec, _ := getInt(val[4:])
		if sec < 0 || sec > lingerMax {
			return fmt.Errorf("linger for %d seconds: %w", sec, abi.EDOM)
		}
		s.lingerSec.Store(int32(sec))
		s.ep.SocketOptions().SetLinger(tcpip.LingerOption{
			Enabled: on != 0, Timeout: time.Duration(sec) * time.Second,
		})
		return nil
	},
}

// congctl is TCP_CONGCTL: a string, NetBSD's name of a congestion control.
// netstack's "reno" is NewReno, so both names mean it. ENOENT for others.
var congctl = option{
	typ: abi.SOCK_STREAM,
	get: func(s *sock) ([]byte, error) {
		var cc tcpip.CongestionControlOption
		if err := s.ep.GetSockOpt(&cc); err != nil {
			return nil, wrap("getsockopt", err)
		}
		name := string(cc)
		if name == "reno" {
			name = "newreno"
		}
		return append([]byte(name), 0), nil
	},
	set: func(s *sock, val []byte) error {
		if len(val) > 64 {
			return fmt.Errorf("name of %d bytes: %w", len(val), abi.EINVAL)
		}
		name, _, _ := strings.Cut(string(val), "\x00")
		if name == "newreno" {
			name = "reno"
		}
		cc := tcpip.CongestionControlOption(name)
		return wrap("setsockopt", s.ep.SetSockOpt(&cc))
	},
}

// options is the table of everything this module knows, but for the options
// at IPPROTO_IP and IPPROTO_IPV6, which are in ipOptions.
var options = map[optKey]option{
	{abi.SOL_SOCKET, abi.SO_DEBUG}: {
		get: func(s *sock) ([]byte, error) { return boolVal(s.debug.Load()), nil },
		set: func(s *sock, val []byte) error {
			v, err := getInt(val)
			if err == nil {
				s.debug.Store(v != 0)
			}
			return err
		},
	},
	{abi.SOL_SOCKET, abi.SO_ACCEPTCONN}: readOnly(func(s *sock) ([]byte, error) {
		return boolVal(s.typ == abi.SOCK_STREAM && s.state() == tcp.StateListen), nil
	}),
	{abi.SOL_SOCKET, abi.SO_REUSEADDR}: flag(0, (*tcpip.SocketOptions).GetReuseAddress, (*tcpip.SocketOptions).SetReuseAddress),
	{abi.SOL_SOCKET, abi.SO_REUSEPORT}: flag(0, (*tcpip.SocketOptions).GetReusePort, (*tcpip.SocketOptions).SetReusePort),
	{abi.SOL_SOCKET, abi.SO_KEEPALIVE}: flag(0, (*tcpip.SocketOptions).GetKeepAlive, (*tcpip.SocketOptions).SetKeepAlive),
	{abi.SOL_SOCKET, abi.SO_BROADCAST}: flag(0, (*tcpip.SocketOptions).GetBroadcast, (*tcpip.SocketOptions).SetBroadcast),
	{abi.SOL_SOCKET, abi.SO_LINGER}:    linger,
	// There is no urgent data, so it is in line whatever is asked; a
	// program that asks for it to be out of line is told so.
	{abi.SOL_SOCKET, abi.SO_OOBINLINE}: {
		get: func(*sock) ([]byte, error) { return boolVal(true), nil },
		set: func(_ *sock, val []byte) error {
			v, err := getInt(val)
			if err == nil && v == 0 {
				err = fmt.Errorf("urgent data out of line: %w", abi.EOPNOTSUPP)
			}
			return err
		},
	},
	{abi.SOL_SOCKET, abi.SO_SNDBUF}: bufSize((*tcpip.SocketOptions).GetSendBufferSize, (*tcpip.SocketOptions).SendBufferLimits,
		func(so *tcpip.SocketOptions, v int64) { so.SetSendBufferSize(v, true) }),
	{abi.SOL_SOCKET, abi.SO_RCVBUF}: bufSize((*tcpip.SocketOptions).GetReceiveBufferSize, (*tcpip.SocketOptions).ReceiveBufferLimits,
		func(so *tcpip.SocketOptions, v int64) { so.SetReceiveBufferSize(v, true) }),
	{abi.SOL_SOCKET, abi.SO_RCVLOWAT}: readOnly(func(*sock) ([]byte, error) { return int32Val(1), nil }),
	{abi.SOL_SOCKET, abi.SO_SNDLOWAT}: readOnly(func(*sock) ([]byte, error) { return int32Val(1), nil }),
	{abi.SOL_SOCKET, abi.SO_ERROR}:    readOnly(func(s *sock) ([]byte, error) { return int32Val(int(s.takeError())), nil }),
	{abi.SOL_SOCKET, abi.SO_TYPE}:     readOnly(func(s *sock) ([]byte, error) { return int32Val(s.typ), nil }),

	{abi.IPPROTO_TCP, abi.TCP_NODELAY}: flag(abi.SOCK_STREAM,
		func(so *tcpip.SocketOptions) bool { return !so.GetDelayOption() },
		func(so *tcpip.SocketOptions, v bool) { so.SetDelayOption(!v) }),
	{abi.IPPROTO_TCP, abi.TCP_MAXSEG}: ranged(abi.SOCK_STREAM, tcpip.MaxSegOption, 88, math.MaxInt16, getInt),
	{abi.IPPROTO_TCP, abi.TCP_KEEPIDLE}: seconds(
		func(s *sock) (time.Duration, tcpip.Error) {
			var v tcpip.KeepaliveIdleOption
			err := s.ep.GetSockOpt(&v)
			return time.Duration(v), err
		},
		func(s *sock, d time.Duration) tcpip.Error {
			v := tcpip.KeepaliveIdleOption(d)
			return s.ep.SetSockOpt(&v)
		}),
	{abi.IPPROTO_TCP, abi.TCP_KEEPINTVL}: seconds(
		func(s *sock) (time.Duration, tcpip.Error) {
			var v tcpip.KeepaliveIntervalOption
			err := s.ep.GetSockOpt(&v)
			return time.Duration(v), err
		},
		func(s *sock, d time.Duration) tcpip.Error {
			v := tcpip.KeepaliveIntervalOption(d)
			return s.ep.SetSockOpt(&v)
		}),
	{abi.IPPROTO_TCP, abi.TCP_KEEPCNT}: ranged(abi.SOCK_STREAM, tcpip.KeepaliveCountOption, 1, math.MaxInt16, getInt),
	{abi.IPPROTO_TCP, abi.TCP_CONGCTL}: congctl,
}

// option finds an option of the socket. ENOPROTOOPT if it has none of that
// level and name.
func (s *sock) option(level, name int) (option, error) {
	k := optKey{level, name}
	o, ok := options[k]
	if !ok {
		// A socket has the options of its own IP version only.
		if own := (level == abi.IPPROTO_IPV6) == (s.af == abi.AF_INET6); own {
			o, ok = ipOptions[k]
		}
	}
	if !ok || o.typ != 0 && o.typ != s.typ {
		return option{}, fmt.Errorf("level %#x: %w", level, abi.ENOPROTOOPT)
	}
	return o, nil
}

// Setopt sets an option. ENOPROTOOPT for one that is unknown or read-only,
// EINVAL for a value of the wrong length or range, EDOM and ENOBUFS as
// setsockopt(2) has them.
func (d *Domain) Setopt(_ context.Context, id abi.SockID, level, name int, val []byte) error {
	s, err := d.sock(id)
	if err != nil {
		return err
	}
	o, err := s.option(level, name)
	if err == nil && o.set == nil {
		err = fmt.Errorf("read-only: %w", abi.ENOPROTOOPT)
	}
	if err == nil {
		err = o.set(s, val)
	}
	if err == nil {
		s.optSet.Store(true)
	}
	if err != nil {
		return fmt.Errorf("set option %#x: %w", name, err)
	}
	return nil
}

// Getopt answers an option's value. ENOPROTOOPT.
func (d *Domain) Getopt(_ context.Context, id abi.SockID, level, name int) ([]byte, error) {
	s, err := d.sock(id)
	if err != nil {
		return nil, err
	}
	o, err := s.option(level, name)
	if err == nil && o.get == nil {
		err = fmt.Errorf("write-only: %w", abi.ENOPROTOOPT)
	}
	if err != nil {
		return nil, fmt.Errorf("get option %#x: %w", name, err)
	}
	return o.get(s)
}

// inherited are the options that an accepted connection has from its listener,
// as NetBSD's sonewconn and syn_cache_get copy them. netstack itself passes on
// the receive buffer as it was at Listen, TCP_MAXSEG and the port flags.
var inherited = []optKey{
	{abi.SOL_SOCKET, abi.SO_DEBUG}, {abi.SOL_SOCKET, abi.SO_KEEPALIVE},
	{abi.SOL_SOCKET, abi.SO_REUSEADDR}, {abi.SOL_SOCKET, abi.SO_REUSEPORT},
	{abi.SOL_SOCKET, abi.SO_LINGER}, {abi.SOL_SOCKET, abi.SO_SNDBUF},
	{abi.IPPROTO_TCP, abi.TCP_NODELAY}, {abi.IPPROTO_TCP, abi.TCP_KEEPIDLE},
	{abi.IPPROTO_TCP, abi.TCP_KEEPINTVL}, {abi.IPPROTO_TCP, abi.TCP_KEEPCNT},
	{abi.IPPROTO_TCP, abi.TCP_CONGCTL},
	{abi.IPPROTO_IP, abi.IP_TTL}, {abi.IPPROTO_IP, abi.IP_TOS},
	{abi.IPPROTO_IPV6, abi.IPV6_UNICAST_HOPS}, {abi.IPPROTO_IPV6, abi.IPV6_TCLASS},
}

// inherit gives s the options of the listener that differ from its own. An
// option that cannot be set any more stays as it is.
func (s *sock) inherit(ls *sock) {
	if !ls.optSet.Load() {
		return
	}
	for _, k := range inherited {
		o, err := s.option(k.level, k.name)
		if err != nil {
			continue
		}
		want, err := o.get(ls)
		if err != nil {
			continue
		}
		if have, err := o.get(s); err == nil && !bytes.Equal(have, want) {
			_ = o.set(s, want)
		}
	}
	s.optSet.Store(true)
}
