package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/spf13/pflag"

	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

type ncFlags struct {
	listen, udp, four, six, verbose bool
	wait                            int // seconds; 0 is no limit
}

var ncVerb = &verb{
	name: "nc", group: groupNet, synopsis: []string{"[-46Nuv] [-w SECONDS] HOST PORT", "-l [-46Nuv] [-w SECONDS] [HOST] PORT"}, min: 1, max: 2,
	short: "carry bytes over the kernel's network",
	long: []string{
		"Connects to PORT of HOST, or with -l waits for one connection, and copies standard input to it and what comes from it to standard output. HOST is an address or localhost: the kernel has no resolver. With -l and without HOST, every address of the kernel is listened on, IPv6 and IPv4.",
		"The end of standard input is passed on (the connection is shut down for writing); nc goes on with the other direction and ends when both have ended. With -l it also ends when the other side has ended and standard input is idle, as on a terminal.",
		"With -u each read of standard input is sent as one datagram; since datagrams have no end, nc -u ends on -w or when it is interrupted. nc -lu talks to whoever sends first.",
	},
	examples: []example{
		{"rumpus nc -l 8080 > copy", "Wait for a connection and keep what it brings."},
		{"rumpus nc 127.0.0.1 8080 < file", "Send a file there."},
	},
	setup: func(fs *pflag.FlagSet) runFunc {
		var f ncFlags
		fs.BoolVarP(&f.four, "ipv4", "4", false, "IPv4 only")
		fs.BoolVarP(&f.six, "ipv6", "6", false, "IPv6 only")
		fs.BoolVarP(&f.listen, "listen", "l", false, "wait for a connection")
		fs.BoolP("shutdown", "N", false, "pass the end of standard input on, which is always done")
		fs.BoolVarP(&f.udp, "udp", "u", false, "UDP instead of TCP")
		fs.BoolVarP(&f.verbose, "verbose", "v", false, "say what happens, on standard error")
		fs.IntVarP(&f.wait, "wait", "w", 0, "give up on a connection that takes or idles `SECONDS`")
		return func(ctx context.Context, c *call, args []string) error { return nc(ctx, c, f, args) }
	},
}

func nc(ctx context.Context, c *call, f ncFlags, args []string) error {
	switch {
	case f.four && f.six:
		return usagef("-4 and -6 do not go together")
	case f.wait < 0:
		return usagef("-w %d is negative", f.wait)
	case !f.listen && len(args) < 2:
		return usagef("HOST and PORT are needed")
	}
	host := ""
	if len(args) == 2 {
		host = args[0]
	}
	port, err := ncPort(args[len(args)-1], f)
	if err != nil {
		return err
	}
	to, err := ncAddrs(host, port, f)
	if err != nil {
		return err
	}
	k, err := c.kernel(ctx)
	if err != nil {
		return err
	}
	var fd int
	var first []byte
	if f.listen {
		fd, first, err = ncListen(ctx, c, k, f, to)
	} else {
		fd, err = ncConnect(ctx, c, k, f, to)
	}
	if err != nil {
		return err
	}
	defer k.Close(context.WithoutCancel(ctx), fd)
	return newNcCopy(c, k, fd, f).run(ctx, first)
}

func ncPort(s string, f ncFlags) (uint16, error) {
	if n, err := strconv.ParseUint(s, 10, 16); err == nil && (n > 0 || f.listen) {
		return uint16(n), nil
	}
	network := "tcp"
	if f.udp {
		network = "udp"
	}
	if n, err := net.LookupPort(network, s); err == nil && n > 0 {
		return uint16(n), nil
	}
	return 0, usagef("there is no port %q", s)
}

// ncAddrs are the addresses to try, in order.
func ncAddrs(host string, port uint16, f ncFlags) ([]abi.Sockaddr, error) {
	var ips []netip.Addr
	switch host {
	case "":
		ips = []netip.Addr{netip.IPv6Unspecified(), netip.IPv4Unspecified()}
	case "localhost":
		ips = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	default:
		ip, err := netip.ParseAddr(host)
		if err != nil {
			return nil, usagef("host %q is neither an address nor localhost", host)
		}
		ips = []netip.Addr{ip}
	}
	var to []abi.Sockaddr
	for _, ip := range ips {
		if f.four && !ip.Is4() || f.six && !ip.Is6() {
			continue
		}
		to = append(to, abi.SockaddrFrom(netip.AddrPortFrom(ip, port)))
	}
	if len(to) == 0 {
		return nil, usagef("host %s is not of the family asked for", host)
	}
	return to, nil
}

func (f ncFlags) typ() int {
	if f.udp {
		return abi.SOCK_DGRAM | abi.SOCK_CLOEXEC
	}
	return abi.SOCK_STREAM | abi.SOCK_CLOEXEC
}

func (f ncFlags) proto() string {
	if f.udp {
		return "udp"
	}
	return "tcp"
}

func (f ncFlags) say(c *call, format string, args ...any) {
	if f.verbose {
		c.mu.Lock()
		defer c.mu.Unlock()
		fmt.Fprintf(c.stderr, format+"\n", args...)
	}
}

// ncConnect connects to the first address that answers.
func ncConnect(ctx context.Context, c *call, k *rumpclient.Client, f ncFlags, to []abi.Sockaddr) (int, error) {
	var first error
	for _, sa := range to {
		fd, err := k.Socket(ctx, int(sa.Family), f.typ(), 0)
		if err == nil {
			if err = ncConnectOne(ctx, k, fd, f, sa); err == nil {
				f.say(c, "Connection to %s %d port [%s] succeeded!", sa.Addr, sa.Port, f.proto())
				return fd, nil
			}
			k.Close(context.WithoutCancel(ctx), fd)
		}
		if first == nil {
			first = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	return -1, first
}

func ncConnectOne(ctx context.Context, k *rumpclient.Client, fd int, f ncFlags, sa abi.Sockaddr) error {
	if f.wait > 0 {
		var cancel func()
		ctx, cancel = context.WithTimeout(ctx, time.Duration(f.wait)*time.Second)
		defer cancel()
	}
	return k.Connect(ctx, fd, sa)
}

// ncListen waits for a peer: a connection, or for UDP the first datagram, which
// is answered as well.
func ncListen(ctx context.Context, c *call, k *rumpclient.Client, f ncFlags, to []abi.Sockaddr) (int, []byte, error) {
	fd, err := ncBind(ctx, k, f, to)
	if err != nil {
		return -1, nil, err
	}
	if !f.udp {
		defer k.Close(context.WithoutCancel(ctx), fd)
		if err := k.ListenFd(ctx, fd, 1); err != nil {
			return -1, nil, err
		}
	}
	if sa, err := k.Getsockname(ctx, fd); err == nil {
		f.say(c, "Listening on %s %d", sa.AddrPort().Addr(), sa.Port)
	}
	if !f.udp {
		conn, from, err := k.Accept(ctx, fd, abi.SOCK_CLOEXEC)
		if err == nil {
			f.say(c, "Connection received on %s %d", from.AddrPort().Addr().Unmap(), from.Port)
		}
		return conn, nil, err
	}
	buf := make([]byte, ncDatagram)
	n, from, err := k.Recvfrom(ctx, fd, buf, 0)
	if err == nil {
		f.say(c, "Connection received on %s %d", from.AddrPort().Addr().Unmap(), from.Port)
		err = k.Connect(ctx, fd, from)
	}
	if err != nil {
		k.Close(context.WithoutCancel(ctx), fd)
		return -1, nil, err
	}
	return fd, buf[:n], nil
}

// ncBind makes a bound socket. Both wildcards are one socket of IPv6 that takes
// IPv4 as well; if the kernel cannot do this, it is one of IPv4.
func ncBind(ctx context.Context, k *rumpclient.Client, f ncFlags, to []abi.Sockaddr) (int, error) {
	both := len(to) == 2 && to[0].Addr == netip.IPv6Unspecified()
	var last error
	for i, sa := range to {
		fd, err := k.Socket(ctx, int(sa.Family), f.typ(), 0)
		if err != nil {
			last = err
			continue
		}
		if both && i == 0 {
			err = k.SetsockoptInt(ctx, fd, abi.IPPROTO_IPV6, abi.IPV6_V6ONLY, 0)
		}
		if err == nil && !f.udp {
			err = k.SetsockoptInt(ctx, fd, abi.SOL_SOCKET, abi.SO_REUSEADDR, 1)
		}
		if err == nil {
			if err = k.Bind(ctx, fd, sa); err == nil {
				return fd, nil
			}
		}
		k.Close(context.WithoutCancel(ctx), fd)
		last = err
		if errors.Is(err, abi.EADDRINUSE) || errors.Is(err, abi.EACCES) {
			break
		}
	}
	return -1, last
}
