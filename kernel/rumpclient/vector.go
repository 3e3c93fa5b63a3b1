package rumpclient

import (
	"context"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// vector is how many bytes the pieces of iov are. EINVAL for more than
// abi.IOV_MAX pieces or abi.MaxTransfer bytes, which is all that one call moves.
func vector(num int, iov [][]byte) (int, error) {
	n := 0
	for _, p := range iov {
		if n += len(p); n > abi.MaxTransfer {
			return 0, fail(num, "", abi.EINVAL)
		}
	}
	if len(iov) > abi.IOV_MAX || len(iov) == 0 {
		return 0, fail(num, "", abi.EINVAL)
	}
	return n, nil
}

func (c *Client) readVector(ctx context.Context, num int, iov [][]byte, v ...int) (int, error) {
	n, err := vector(num, iov)
	if err != nil {
		return 0, err
	}
	p := make([]byte, n)
	if n, err = c.readPiece(ctx, num, args(v...), p); err != nil {
		return 0, err
	}
	p = p[:n]
	for _, q := range iov {
		p = p[copy(q, p):]
	}
	return n, nil
}

func (c *Client) writeVector(ctx context.Context, num int, iov [][]byte, v ...int) (int, error) {
	n, err := vector(num, iov)
	if err != nil {
		return 0, err
	}
	p := make([]byte, 0, n)
	for _, q := range iov {
		p = append(p, q...)
	}
	return c.writePiece(ctx, num, args(v...), p)
}

// Readv is readv(2): one read into several pieces. EINVAL for more than
// abi.IOV_MAX pieces, for none, or for more than abi.MaxTransfer bytes.
func (c *Client) Readv(ctx context.Context, fd int, iov [][]byte) (int, error) {
	return c.readVector(ctx, abi.SYS_readv, iov, fd)
}

// Writev is writev(2): one write of several pieces, nothing comes between them.
// Errors as Readv's.
func (c *Client) Writev(ctx context.Context, fd int, iov [][]byte) (int, error) {
	return c.writeVector(ctx, abi.SYS_writev, iov, fd)
}

// Preadv is preadv(2): Readv at off, the descriptor's offset unchanged.
func (c *Client) Preadv(ctx context.Context, fd int, iov [][]byte, off int64) (int, error) {
	return c.readVector(ctx, abi.SYS_preadv, iov, fd, int(off))
}

// Pwritev is pwritev(2): Writev at off, the descriptor's offset unchanged.
func (c *Client) Pwritev(ctx context.Context, fd int, iov [][]byte, off int64) (int, error) {
	return c.writeVector(ctx, abi.SYS_pwritev, iov, fd, int(off))
}

// Fallocate is posix_fallocate(2): a range of the file gets space of its own, so
// that writes to it do not fail for lack of any. ENOSPC, EFBIG, EOPNOTSUPP.
func (c *Client) Fallocate(ctx context.Context, fd int, off, n int64) error {
	return c.do(ctx, abi.SYS_posix_fallocate, "", args(fd, int(off), int(n)))
}

// Fdiscard is fdiscard(2): a range of the file reads as zeroes and has no space.
// EOPNOTSUPP.
func (c *Client) Fdiscard(ctx context.Context, fd int, off, n int64) error {
	return c.do(ctx, abi.SYS_fdiscard, "", args(fd, int(off), int(n)))
}
