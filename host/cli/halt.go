package cli

import (
	"context"
	"net"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
)

// haltTick is how often halt looks whether the kernel has ended.
const haltTick = 10 * time.Millisecond

// awaitGone waits until the kernel has ended the connection and takes no new
// one.
func (c *call) awaitGone(ctx context.Context) error {
	tick := time.NewTicker(haltTick)
	defer tick.Stop()
	for {
		if c.client != nil {
			if _, err := c.client.Getpid(ctx); err != nil {
				c.client.Exit()
				c.client = nil
			}
		} else if k, err := rumpclient.Open(ctx, c.serverURL()); err == nil {
			k.Exit()
		} else if ctx.Err() == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// process is a process of the host by its pidfd, or -1 if it cannot be seen.
type process int

// hostProcess is the process behind a kernel's socket.
func hostProcess(url string) process {
	nc, err := net.DialTimeout("unix", strings.TrimPrefix(url, "unix://"), time.Second)
	if err != nil {
		return -1
	}
	defer nc.Close()
	raw, err := nc.(*net.UnixConn).SyscallConn()
	if err != nil {
		return -1
	}
	p := process(-1)
	raw.Control(func(fd uintptr) {
		cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil || cred.Pid <= 0 {
			return
		}
		if pfd, err := unix.PidfdOpen(int(cred.Pid), 0); err == nil {
			p = process(pfd)
		}
	})
	return p
}

// await waits until the process has ended.
func (p process) await(ctx context.Context) error {
	if p < 0 {
		return nil
	}
	fds := []unix.PollFd{{Fd: int32(p), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, int(haltTick/time.Millisecond))
		if n > 0 || err != nil && err != unix.EINTR {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

func (p process) close() {
	if p >= 0 {
		unix.Close(int(p))
	}
}
