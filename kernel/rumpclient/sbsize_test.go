package rumpclient_test

import (
	"context"
	"errors"
	"strconv"
	"testing"

	"github.com/rumpus-kernel/rumpus/kernel"
	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// TestSbsize: the buffers of sockets, the kernel's own and a component's, count
// for who makes them, with the sizes that getsockopt says, up to RLIMIT_SBSIZE
// (ENOBUFS), and not longer than the sockets live.
func TestSbsize(t *testing.T) {
	bothKinds(t, func(t *testing.T, k *kernel.Kernel, dial func() *rumpclient.Client) {
		ctx := soon(t)
		c := dial()
		must(t, c.Setuid(ctx, 77))
		count := func() int64 {
			t.Helper()
			s, err := c.Sysctl(ctx, "kern.uidinfo.sbsize")
			must(t, err)
			n, err := strconv.ParseInt(s, 10, 64)
			must(t, err)
			return n
		}
		size := func(fd int) (sum int64) {
			t.Helper()
			for _, name := range []int{abi.SO_SNDBUF, abi.SO_RCVBUF} {
				n, err := c.GetsockoptInt(ctx, fd, abi.SOL_SOCKET, name)
				must(t, err)
				sum += int64(n)
			}
			return sum
		}
		if n := count(); n != 0 {
			t.Fatalf("%d bytes before there is a socket", n)
		}
		for _, tc := range []struct {
			name string
			open func() ([]int, error)
		}{
			{"AF_LOCAL", func() ([]int, error) {
				fd, err := c.Socket(ctx, abi.AF_LOCAL, abi.SOCK_DGRAM, 0)
				return []int{fd}, err
			}},
			{"a pair", func() ([]int, error) {
				a, b, err := c.Socketpair(ctx, abi.AF_LOCAL, abi.SOCK_STREAM, 0)
				return []int{a, b}, err
			}},
			{"AF_INET", func() ([]int, error) {
				fd, err := c.Socket(ctx, abi.AF_INET, abi.SOCK_STREAM, 0)
				return []int{fd}, err
			}},
			{"UDP", func() ([]int, error) { fd, err := c.Socket(ctx, abi.AF_INET, abi.SOCK_DGRAM, 0); return []int{fd}, err }},
		} {
			fds, err := tc.open()
			must(t, err)
			want := int64(0)
			for _, fd := range fds {
				want += size(fd)
			}
			if n := count(); n != want || n == 0 {
				t.Errorf("%s: %d bytes, want %d", tc.name, n, want)
			}
			must(t, c.SetsockoptInt(ctx, fds[0], abi.SOL_SOCKET, abi.SO_RCVBUF, 20000))
			must(t, c.Setrlimit(ctx, abi.RLIMIT_SBSIZE, rumpclient.Rlimit{Cur: count(), Max: abi.RLIM_INFINITY}))
			snd, err := c.GetsockoptInt(ctx, fds[0], abi.SOL_SOCKET, abi.SO_SNDBUF)
			must(t, err)
			for what, err := range map[string]error{
				"another":        func() error { _, err := tc.open(); return err }(),
				"a larger one":   c.SetsockoptInt(ctx, fds[0], abi.SOL_SOCKET, abi.SO_SNDBUF, snd+1000),
				"one of a child": sbchild(ctx, c, dial()),
			} {
				if !errors.Is(err, abi.ENOBUFS) {
					t.Errorf("%s: %s above the limit: %v", tc.name, what, err)
				}
			}
			must(t, c.Setrlimit(ctx, abi.RLIMIT_SBSIZE, rumpclient.Rlimit{Cur: abi.RLIM_INFINITY, Max: abi.RLIM_INFINITY}))
			for _, fd := range fds {
				must(t, c.Close(ctx, fd))
			}
			if n := count(); n != 0 {
				t.Errorf("%s: %d bytes left", tc.name, n)
			}
		}
	})
}

// sbchild makes a socket in a child, which has its parent's limits and user.
func sbchild(ctx context.Context, c, child *rumpclient.Client) error {
	_, cookie, err := c.Rfork(ctx, abi.RUMP_RFCFDG)
	if err != nil {
		return err
	}
	if _, err := child.Attach(ctx, cookie); err != nil {
		return err
	}
	defer child.Exit()
	_, err = child.Socket(ctx, abi.AF_LOCAL, abi.SOCK_STREAM, 0)
	return err
}

// TestSbsizeAccepted: what a listener accepts counts for its maker, and not
// longer than it lives, accepted or not.
func TestSbsizeAccepted(t *testing.T) {
	bothKinds(t, func(t *testing.T, k *kernel.Kernel, dial func() *rumpclient.Client) {
		ctx := soon(t)
		srv, cli := dial(), dial()
		must(t, srv.Chmod(ctx, "/", 0o777))
		must(t, srv.Setuid(ctx, 5))
		must(t, cli.Setuid(ctx, 6))
		of := func(c *rumpclient.Client) string {
			t.Helper()
			s, err := c.Sysctl(ctx, "kern.uidinfo.sbsize")
			must(t, err)
			return s
		}
		l, err := srv.Socket(ctx, abi.AF_LOCAL, abi.SOCK_STREAM, 0)
		must(t, err)
		must(t, srv.Bind(ctx, l, abi.SockaddrUnix("/sock")))
		must(t, srv.Chmod(ctx, "/sock", 0o777))
		must(t, srv.ListenFd(ctx, l, 5))
		one := of(srv)
		var fds []int
		for range 2 {
			fd, err := cli.Socket(ctx, abi.AF_LOCAL, abi.SOCK_STREAM, 0)
			must(t, err)
			must(t, cli.Connect(ctx, fd, abi.SockaddrUnix("/sock")))
			fds = append(fds, fd)
		}
		n, err := strconv.Atoi(one)
		must(t, err)
		if of(srv) != strconv.Itoa(3*n) || of(cli) != strconv.Itoa(2*n) {
			t.Errorf("%s for who listens, %s for who connects, a socket is %s", of(srv), of(cli), one)
		}
		fd, _, err := srv.Accept(ctx, l, 0)
		must(t, err)
		must(t, srv.Close(ctx, fd))
		if of(srv) != strconv.Itoa(2*n) {
			t.Errorf("%s after one was accepted and closed", of(srv))
		}
		must(t, srv.Close(ctx, l))
		for _, fd := range fds {
			must(t, cli.Close(ctx, fd))
		}
		if of(srv) != "0" || of(cli) != "0" {
			t.Errorf("%s and %s are left", of(srv), of(cli))
		}
	})
}
