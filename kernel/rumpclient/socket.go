package rumpclient

import (
	"context"
	"encoding/binary"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Socket is socket(2): typ may carry SOCK_NONBLOCK and its kin.
func (c *Client) Socket(ctx context.Context, domain, typ, proto int) (int, error) {
	return c.run(ctx, abi.SYS_socket, "", args(domain, typ, proto))
}

// addrCall is a call whose only memory is a socket address.
func (c *Client) addrCall(ctx context.Context, num, s int, addr abi.Sockaddr) error {
	b, err := addr.AppendTo(nil)
	if err != nil {
		return fail(num, addr.String(), err)
	}
	a := args(s)
	a.Addr = b
	return c.do(ctx, num, addr.String(), a)
}

// Bind is bind(2).
func (c *Client) Bind(ctx context.Context, s int, addr abi.Sockaddr) error {
	return c.addrCall(ctx, abi.SYS_bind, s, addr)
}

// Connect is connect(2).
func (c *Client) Connect(ctx context.Context, s int, addr abi.Sockaddr) error {
	return c.addrCall(ctx, abi.SYS_connect, s, addr)
}

// ListenFd is listen(2). (Listen makes a net.Listener.)
func (c *Client) ListenFd(ctx context.Context, s, backlog int) error {
	return c.do(ctx, abi.SYS_listen, "", args(s, backlog))
}

// answered makes a call that answers an address; v is R[0].
func (c *Client) answered(ctx context.Context, num int, a *abi.Sysargs) (v, n int, addr abi.Sockaddr, err error) {
	err = c.k.Syscall(ctx, num, a)
	v, n = int(int64(a.R[0])), min(max(a.NO, 0), len(a.Out))
	b := a.Addr
	free(a)
	if err != nil {
		return 0, 0, addr, fail(num, "", err)
	}
	if len(b) > 0 {
		if addr, err = abi.ParseSockaddr(b); err != nil {
			return 0, 0, addr, answer(num, "", err)
		}
	}
	return v, n, addr, nil
}

// Accept is paccept(2): a connection and who it comes from. flags are
// SOCK_NONBLOCK and its kin.
func (c *Client) Accept(ctx context.Context, s, flags int) (int, abi.Sockaddr, error) {
	fd, _, addr, err := c.answered(ctx, abi.SYS_paccept, args(s, flags))
	return fd, addr, err
}

// Sendto is sendto(2), with MSG_* flags; the zero address is none. It may send
// less than p without an error; p beyond abi.MaxTransfer is EMSGSIZE.
func (c *Client) Sendto(ctx context.Context, s int, p []byte, flags int, to abi.Sockaddr) (int, error) {
	if len(p) > abi.MaxTransfer {
		return 0, fail(abi.SYS_sendto, "", abi.EMSGSIZE)
	}
	a := args(s, flags)
	if !to.IsZero() {
		b, err := to.AppendTo(nil)
		if err != nil {
			free(a)
			return 0, fail(abi.SYS_sendto, to.String(), err)
		}
		a.Addr = b
	}
	return c.writePiece(ctx, abi.SYS_sendto, a, p)
}

// Recvfrom is recvfrom(2), with MSG_* flags. At most abi.MaxTransfer bytes of p
// are filled.
func (c *Client) Recvfrom(ctx context.Context, s int, p []byte, flags int) (int, abi.Sockaddr, error) {
	a := args(s, flags)
	a.Out = p[:min(len(p), abi.MaxTransfer)]
	_, n, addr, err := c.answered(ctx, abi.SYS_recvfrom, a)
	return n, addr, err
}

// Shutdown is shutdown(2), with SHUT_RD, SHUT_WR or SHUT_RDWR.
func (c *Client) Shutdown(ctx context.Context, s, how int) error {
	return c.do(ctx, abi.SYS_shutdown, "", args(s, how))
}

// Setsockopt is setsockopt(2).
func (c *Client) Setsockopt(ctx context.Context, s, level, name int, value []byte) error {
	a := args(s, level, name)
	a.In = value
	return c.do(ctx, abi.SYS_setsockopt, "", a)
}

// SetsockoptInt is Setsockopt for the options that are an int.
func (c *Client) SetsockoptInt(ctx context.Context, s, level, name, value int) error {
	return c.Setsockopt(ctx, s, level, name, binary.LittleEndian.AppendUint32(nil, uint32(value)))
}

// Getsockopt is getsockopt(2): it fills value and answers how much of it.
func (c *Client) Getsockopt(ctx context.Context, s, level, name int, value []byte) (int, error) {
	n, _, err := c.out(ctx, abi.SYS_getsockopt, "", args(s, level, name), value)
	return n, err
}

// GetsockoptInt is Getsockopt for the options that are an int.
func (c *Client) GetsockoptInt(ctx context.Context, s, level, name int) (int, error) {
	var b [4]byte
	if n, err := c.Getsockopt(ctx, s, level, name, b[:]); err != nil {
		return 0, err
	} else if n < len(b) {
		return 0, answer(abi.SYS_getsockopt, "", abi.EINVAL)
	}
	return int(int32(binary.LittleEndian.Uint32(b[:]))), nil
}

// Getsockname is getsockname(2): the socket's own address.
func (c *Client) Getsockname(ctx context.Context, s int) (abi.Sockaddr, error) {
	_, _, addr, err := c.answered(ctx, abi.SYS_getsockname, args(s))
	return addr, err
}

// Getpeername is getpeername(2): the address of the other end.
func (c *Client) Getpeername(ctx context.Context, s int) (abi.Sockaddr, error) {
	_, _, addr, err := c.answered(ctx, abi.SYS_getpeername, args(s))
	return addr, err
}
