package rumpclient

import (
	"context"
	"net"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Dial connects over the kernel's network: "tcp", "udp", with 4 or 6, "unix",
// "unixgram", "unixpacket". The host is an address or localhost. Its signature is
// that of http.Transport's DialContext. Errors are *net.OpError around *Error.
func (c *Client) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	n, to, err := resolve(ctx, network, address, false)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	var first error
	for _, sa := range to {
		s, err := c.connect(ctx, network, n, sa)
		if err == nil {
			return Conn{s}, nil
		}
		if first == nil {
			first = &net.OpError{Op: "dial", Net: network, Addr: netAddr(network, sa), Err: netErr(err)}
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, first
}

func (c *Client) connect(ctx context.Context, name string, n network, to abi.Sockaddr) (*sock, error) {
	af := int(to.Family)
	fd, err := c.Socket(ctx, af, n.typ|abi.SOCK_CLOEXEC|abi.SOCK_NOSIGPIPE, 0)
	if err != nil {
		return nil, err
	}
	var local, remote abi.Sockaddr
	if err = c.Connect(ctx, fd, to); err == nil {
		local, err = c.Getsockname(ctx, fd)
	}
	if err == nil {
		remote, err = c.Getpeername(ctx, fd)
		if err != nil && (af == abi.AF_LOCAL || abi.ErrnoOf(err) == abi.ENOTCONN) {
			remote, err = to, nil // what has been reset since says so when it is read or written
		}
	}
	if err != nil {
		c.Close(context.WithoutCancel(ctx), fd)
		return nil, err
	}
	return newSock(c, fd, af, name, n.stream, local, remote), nil
}

// bound makes a socket with a local address. The wildcard of both families
// becomes one IPv6 socket that takes IPv4 as well, where that works.
func (c *Client) bound(ctx context.Context, name, address string, streams bool) (*sock, error) {
	n, to, err := resolve(ctx, name, address, true)
	if err == nil && n.stream != streams {
		err = net.UnknownNetworkError(name)
	}
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: name, Err: err}
	}
	both := len(to) > 1 && to[0].Family == abi.AF_INET6
	var last error
	for i, sa := range to {
		s, err := c.bindOne(ctx, name, n, sa, both && i == 0)
		if err == nil {
			return s, nil
		}
		last = &net.OpError{Op: "listen", Net: name, Addr: netAddr(name, sa), Err: netErr(err)}
	}
	return nil, last
}

func (c *Client) bindOne(ctx context.Context, name string, n network, sa abi.Sockaddr, both bool) (*sock, error) {
	af := int(sa.Family)
	fd, err := c.Socket(ctx, af, n.typ|abi.SOCK_CLOEXEC|abi.SOCK_NOSIGPIPE, 0)
	if err != nil {
		return nil, err
	}
	if af == abi.AF_INET6 {
		only := 1
		if both {
			only = 0
		}
		if err = c.SetsockoptInt(ctx, fd, abi.IPPROTO_IPV6, abi.IPV6_V6ONLY, only); !both {
			err = nil // it is the default
		}
	}
	if err == nil && n.stream && af != abi.AF_LOCAL {
		err = c.SetsockoptInt(ctx, fd, abi.SOL_SOCKET, abi.SO_REUSEADDR, 1)
	}
	if err == nil {
		err = c.Bind(ctx, fd, sa)
	}
	if err == nil && n.stream {
		err = c.ListenFd(ctx, fd, abi.SOMAXCONN)
	}
	var local abi.Sockaddr
	if err == nil {
		local, err = c.Getsockname(ctx, fd)
	}
	if err != nil {
		c.Close(context.WithoutCancel(ctx), fd)
		return nil, err
	}
	return newSock(c, fd, af, name, n.stream, local, abi.Sockaddr{}), nil
}

// Listen listens on the kernel's network, as net.Listen does on the host's.
func (c *Client) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	s, err := c.bound(ctx, network, address, true)
	if err != nil {
		return nil, err
	}
	s.remote = nil
	return &Listener{s}, nil
}

// ListenPacket is net.ListenPacket on the kernel's network.
func (c *Client) ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error) {
	s, err := c.bound(ctx, network, address, false)
	if err != nil {
		return nil, err
	}
	s.remote = nil
	return PacketConn{s}, nil
}

// Accept waits for a connection.
func (l *Listener) Accept() (net.Conn, error) {
	var fd int
	var from abi.Sockaddr
	err := l.s.call(l.s.rd, func(ctx context.Context) (err error) {
		fd, from, err = l.s.c.Accept(ctx, l.s.fd, abi.SOCK_CLOEXEC|abi.SOCK_NOSIGPIPE)
		return err
	})
	if err != nil {
		return nil, l.s.opErr("accept", err)
	}
	ctx := context.Background()
	local, err := l.s.c.Getsockname(ctx, fd)
	if err != nil { // this one has been reset since: the listener is none the worse
		l.s.c.Close(ctx, fd)
		return l.Accept()
	}
	return Conn{newSock(l.s.c, fd, l.s.af, l.s.net, true, local, from)}, nil
}

// SetDeadline limits how long Accept waits.
func (l *Listener) SetDeadline(t time.Time) error { return l.s.SetReadDeadline(t) }

// Close stops listening; an Accept that waits ends.
func (l *Listener) Close() error { return l.s.Close() }

// Addr is the address that the listener has.
func (l *Listener) Addr() net.Addr { return l.s.local }

// Fd is the descriptor in the kernel.
func (l *Listener) Fd() int { return l.s.fd }
