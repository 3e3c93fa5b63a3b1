package rumpclient

import (
	"context"
	"encoding/binary"
	"encoding/hex"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Cookie is what Rfork answers and Attach takes.
type Cookie [abi.CookieSize]byte

// Rfork makes a child of the client's process (rump_lwproc_rfork): its
// descriptors are the same table (0), a copy (abi.RUMP_RFFDG) or none
// (abi.RUMP_RFCFDG). Another client becomes the child by Attach with the
// cookie; the child ends if nobody does within 30 s.
func (c *Client) Rfork(ctx context.Context, flags int) (pid int, k Cookie, err error) {
	a := args(flags)
	n, r, err := c.out(ctx, abi.SYS_lwproc_rfork, "", a, k[:])
	if err == nil && n != len(k) {
		err = answer(abi.SYS_lwproc_rfork, "", abi.EINVAL)
	}
	return int(r), k, err
}

// Attach makes the client the process of a cookie; the process that it was
// ends. EPERM for a cookie that is not valid.
func (c *Client) Attach(ctx context.Context, k Cookie) (pid int, err error) {
	a := args()
	a.In = k[:]
	return c.run(ctx, abi.SYS_lwproc_attach, "", a)
}

// Exec begins what exec(2) does: another program of the same user, or this one
// after execve on the host, takes over the client's process by Attach with the
// cookie, under the name given, within 30 s. The process then is no longer this
// client's, whose connection may have ended meanwhile. Descriptors with
// FD_CLOEXEC are closed and handlers of signals are gone. EBUSY for a process
// that shares its descriptors, or while a cookie is valid; EINVAL for a bad name.
func (c *Client) Exec(ctx context.Context, name string) (k Cookie, err error) {
	n, _, err := c.out(ctx, abi.SYS_lwproc_exec, name, argsPath(name), k[:])
	if err == nil && n != len(k) {
		err = answer(abi.SYS_lwproc_exec, name, abi.EINVAL)
	}
	return k, err
}

// String is the cookie as text, for an environment variable: whoever reads it
// can become the process.
func (k Cookie) String() string { return hex.EncodeToString(k[:]) }

// ParseCookie reads what String wrote. EINVAL.
func ParseCookie(s string) (k Cookie, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(k) {
		return k, abi.EINVAL
	}
	return Cookie(b), nil
}

// Rlimit is struct rlimit; abi.RLIM_INFINITY is no limit.
type Rlimit struct{ Cur, Max int64 }

// Getrlimit is getrlimit(2).
func (c *Client) Getrlimit(ctx context.Context, which int) (r Rlimit, err error) {
	var p [16]byte
	n, _, err := c.out(ctx, abi.SYS_getrlimit, "", args(which), p[:])
	if err == nil && n != len(p) {
		err = answer(abi.SYS_getrlimit, "", abi.EINVAL)
	}
	return Rlimit{int64(binary.LittleEndian.Uint64(p[:])), int64(binary.LittleEndian.Uint64(p[8:]))}, err
}

// Setrlimit is setrlimit(2).
func (c *Client) Setrlimit(ctx context.Context, which int, r Rlimit) error {
	a := args(which)
	a.In = binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, uint64(r.Cur)), uint64(r.Max))
	return c.do(ctx, abi.SYS_setrlimit, "", a)
}

// Getpgrp is getpgrp(2).
func (c *Client) Getpgrp(ctx context.Context) (int, error) { return c.id(ctx, abi.SYS_getpgrp) }

// Getpgid is getpgid(2).
func (c *Client) Getpgid(ctx context.Context, pid int) (int, error) {
	return c.run(ctx, abi.SYS_getpgid, "", args(pid))
}

// Setpgid is setpgid(2).
func (c *Client) Setpgid(ctx context.Context, pid, pgid int) error {
	return c.do(ctx, abi.SYS_setpgid, "", args(pid, pgid))
}

// Setsid is setsid(2).
func (c *Client) Setsid(ctx context.Context) (int, error) { return c.id(ctx, abi.SYS_setsid) }

// Getsid is getsid(2).
func (c *Client) Getsid(ctx context.Context, pid int) (int, error) {
	return c.run(ctx, abi.SYS_getsid, "", args(pid))
}

// Getlogin is getlogin(2).
func (c *Client) Getlogin(ctx context.Context) (string, error) {
	b, err := c.text(ctx, abi.SYS___getlogin, "", func() *abi.Sysargs { return args() })
	return string(b), err
}

// Setlogin is setlogin(2).
func (c *Client) Setlogin(ctx context.Context, name string) error {
	return c.do(ctx, abi.SYS___setlogin, name, argsPath(name))
}

// Setuid is setuid(2), Setgid setgid(2); -1 leaves an id of the pairs below.
func (c *Client) Setuid(ctx context.Context, uid int) error {
	return c.do(ctx, abi.SYS_setuid, "", args(uid))
}

// Setgid is setgid(2).
func (c *Client) Setgid(ctx context.Context, gid int) error {
	return c.do(ctx, abi.SYS_setgid, "", args(gid))
}

// Seteuid is seteuid(2).
func (c *Client) Seteuid(ctx context.Context, uid int) error {
	return c.do(ctx, abi.SYS_seteuid, "", args(uid))
}

// Setegid is setegid(2).
func (c *Client) Setegid(ctx context.Context, gid int) error {
	return c.do(ctx, abi.SYS_setegid, "", args(gid))
}

// Setreuid is setreuid(2).
func (c *Client) Setreuid(ctx context.Context, ruid, euid int) error {
	return c.do(ctx, abi.SYS_setreuid, "", args(ruid, euid))
}

// Setregid is setregid(2).
func (c *Client) Setregid(ctx context.Context, rgid, egid int) error {
	return c.do(ctx, abi.SYS_setregid, "", args(rgid, egid))
}
