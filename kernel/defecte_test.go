package kernel_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/rumpus-kernel/rumpus/kernel"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/plugins/net/inet"
)

// TestDefectE: without a net component the seed's sopoll answered EOPNOTSUPP,
// 45, which who polls reads as POLLIN, POLLOUT and POLLERR besides POLLNVAL. A
// socket whose component is gone answers POLLNVAL alone, whatever is asked of
// it, and calls on it say why.
func TestDefectE(t *testing.T) {
	if abi.EOPNOTSUPP != 45 {
		t.Fatal("the number is another")
	}
	k := booted(t, kernel.Options{Modules: []modapi.Module{misc{name: "extra"}}})
	c, err := k.Client("test")
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if _, err := c.Socket(ctx, abi.AF_INET, abi.SOCK_STREAM, 0); !errors.Is(err, abi.EOPNOTSUPP) || !strings.Contains(err.Error(), "net component not available") {
		t.Errorf("socket: %v", err)
	}
	for _, want := range []abi.PollEvents{0, abi.POLLIN, abi.POLLOUT, abi.POLLIN | abi.POLLOUT | abi.POLLPRI | abi.POLLERR} {
		fds := []abi.Pollfd{{Fd: 7, Events: want}}
		if n, err := c.Poll(ctx, fds, 0); n != 1 || err != nil || fds[0].Revents != abi.POLLNVAL {
			t.Errorf("poll for %#x: %d, %v, %#x", want, n, err, fds[0].Revents)
		}
	}

	// A socket that was there before its component went by force.
	k = booted(t, kernel.Options{Modules: []modapi.Module{inet.New()}})
	if c, err = k.Client("test"); err != nil {
		t.Fatal(err)
	}
	fd, err := c.Socket(ctx, abi.AF_INET, abi.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	k.Socket.DetachInstance("inet")
	k.Socket.SetAvailable(false)
	for _, want := range []abi.PollEvents{0, abi.POLLIN, abi.POLLIN | abi.POLLOUT} {
		fds := []abi.Pollfd{{Fd: int32(fd), Events: want}}
		if n, err := c.Poll(ctx, fds, 0); n != 1 || err != nil || fds[0].Revents != abi.POLLNVAL {
			t.Errorf("poll of the socket for %#x: %d, %v, %#x", want, n, err, fds[0].Revents)
		}
	}
}
