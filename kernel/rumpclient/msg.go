package rumpclient

import (
	"context"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Sendmsg is sendmsg(2): data, control messages (abi.AppendRights and
// abi.AppendCmsg make them) and, unless it is the zero address, whom to send
// to. Both together are at most abi.MaxTransfer bytes: EMSGSIZE.
func (c *Client) Sendmsg(ctx context.Context, s int, p, control []byte, to abi.Sockaddr, flags int) (int, error) {
	if len(p)+len(control) > abi.MaxTransfer {
		return 0, fail(abi.SYS_sendmsg, "", abi.EMSGSIZE)
	}
	a := args(s, flags, len(control))
	if !to.IsZero() {
		b, err := to.AppendTo(nil)
		if err != nil {
			free(a)
			return 0, fail(abi.SYS_sendmsg, to.String(), err)
		}
		a.Addr = b
	}
	a.In = p
	if len(control) > 0 {
		a.In = append(append(make([]byte, 0, len(p)+len(control)), p...), control...)
	}
	n, err := c.run(ctx, abi.SYS_sendmsg, "", a)
	return min(max(n, 0), len(p)), err
}

// Msg is what Recvmsg answers beside the bytes.
type Msg struct {
	N     int // bytes received; with MSG_TRUNC of the whole datagram, which may be more than fitted
	Flags int // MSG_TRUNC, MSG_CTRUNC, MSG_EOR
	From  abi.Sockaddr
	Cmsgs []abi.Cmsg // (*abi.Cmsg).Rights has the descriptors of SCM_RIGHTS
}

// Recvmsg is recvmsg(2): it fills p, and takes at most maxControl bytes of
// control messages. What does not fit is lost (MSG_CTRUNC), descriptors are
// closed.
func (c *Client) Recvmsg(ctx context.Context, s int, p []byte, maxControl, flags int) (Msg, error) {
	p = p[:min(len(p), abi.MaxTransfer)]
	maxControl = min(max(maxControl, 0), abi.MaxTransfer-len(p))
	a := args(s, flags, maxControl)
	a.Out = p
	if maxControl > 0 {
		a.Out = make([]byte, len(p)+maxControl)
	}
	out := a.Out
	err := c.k.Syscall(ctx, abi.SYS_recvmsg, a)
	r, no, addr := a.R, min(max(a.NO, 0), len(out)), a.Addr
	free(a)
	if err != nil {
		return Msg{}, fail(abi.SYS_recvmsg, "", err)
	}
	m := Msg{N: int(r[0]), Flags: int(r[1] >> 32)}
	nc := int(uint32(r[1]))
	if data := no - nc; data < 0 || data > len(p) || nc > maxControl || m.N < data {
		return Msg{}, answer(abi.SYS_recvmsg, "", abi.EINVAL)
	}
	if maxControl > 0 {
		copy(p, out[:no-nc])
		if m.Cmsgs, err = abi.ParseCmsgs(out[no-nc : no]); err != nil {
			return Msg{}, answer(abi.SYS_recvmsg, "", err)
		}
	}
	if len(addr) > 0 {
		if m.From, err = abi.ParseSockaddr(addr); err != nil {
			return Msg{}, answer(abi.SYS_recvmsg, "", err)
		}
	}
	return m, nil
}

// Socketpair is socketpair(2): two sockets connected to each other.
func (c *Client) Socketpair(ctx context.Context, domain, typ, proto int) (int, int, error) {
	a := args(domain, typ, proto)
	err := c.k.Syscall(ctx, abi.SYS_socketpair, a)
	x, y := int(a.R[0]), int(a.R[1])
	free(a)
	return x, y, fail(abi.SYS_socketpair, "", err)
}

// Lock is fcntl(2) with F_SETLK or F_SETLKW: a lock of this process on bytes
// of the file, or with F_UNLCK in fl none.
func (c *Client) Lock(ctx context.Context, fd, cmd int, fl abi.Flock) error {
	a := args(fd, cmd)
	a.In = abi.AppendFlock(nil, &fl)
	return c.do(ctx, abi.SYS_fcntl, "", a)
}

// Getlk is fcntl(2) with F_GETLK: a lock that would be in the way of fl, or one
// of type F_UNLCK.
func (c *Client) Getlk(ctx context.Context, fd int, fl abi.Flock) (abi.Flock, error) {
	a := args(fd, abi.F_GETLK)
	a.In = abi.AppendFlock(nil, &fl)
	p := make([]byte, abi.FlockSize)
	n, _, err := c.out(ctx, abi.SYS_fcntl, "", a, p)
	if err != nil {
		return abi.Flock{}, err
	}
	if fl, err = abi.ParseFlock(p[:n]); err != nil {
		return abi.Flock{}, answer(abi.SYS_fcntl, "", err)
	}
	return fl, nil
}
