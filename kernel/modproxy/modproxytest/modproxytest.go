// Package modproxytest lets tests reach modules as the kernel reaches those of
// another process: through dispatch, a socket pair, and modproxy. Importing it
// adds the bindings "stream" and, where it can be, "ring" to modtest.Bindings:
//
//	import _ "github.com/rumpus-kernel/rumpus/kernel/modproxy/modproxytest"
package modproxytest

import (
	"context"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/modproxy"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/dispatch"
	"github.com/rumpus-kernel/rumpus/modapi/modtest"
	"github.com/rumpus-kernel/rumpus/modapi/ring"
)

func init() {
	modtest.RegisterBinding(modtest.Binding{Name: "stream", Bind: func(tb testing.TB, mods []modapi.Module, grants map[string]*os.File) []modapi.Module {
		return Open(tb, dispatch.New(mods, dispatch.Options{Granted: grants, EvcntPeriod: 10 * time.Millisecond}), nil).Modules()
	}})
	if ring.Supported() {
		modtest.RegisterBinding(modtest.Binding{Name: "ring", Bind: func(tb testing.TB, mods []modapi.Module, grants map[string]*os.File) []modapi.Module {
			return OpenRing(tb, dispatch.New(mods, dispatch.Options{Granted: grants, EvcntPeriod: 10 * time.Millisecond}), nil).Modules()
		}})
	}
}

// Pair makes a connected pair of unix stream sockets.
func Pair(tb testing.TB) (a, b net.Conn) {
	tb.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		tb.Fatal(err)
	}
	syscall.CloseOnExec(fds[0])
	syscall.CloseOnExec(fds[1])
	conn := func(fd int) net.Conn {
		f := os.NewFile(uintptr(fd), "pair")
		defer f.Close()
		c, err := net.FileConn(f)
		if err != nil {
			tb.Fatal(err)
		}
		return c
	}
	return conn(fds[0]), conn(fds[1])
}

// Open serves s at one end of a socket pair and opens a link at the other.
// With ctl, life requests go that way. All of it ends with the test.
func Open(tb testing.TB, s *dispatch.Server, ctl modproxy.Control) *modproxy.Link {
	tb.Helper()
	return open(tb, s, ctl, modproxy.Options{Instance: "test", Epoch: 1})
}

// OpenRing is Open with a ring beside the stream.
func OpenRing(tb testing.TB, s *dispatch.Server, ctl modproxy.Control) *modproxy.Link {
	tb.Helper()
	f, err := ring.Create(true)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	m, err := ring.Map(f)
	if err != nil {
		tb.Fatal(err)
	}
	if err := s.SetRing(f); err != nil {
		tb.Fatal(err)
	}
	l := open(tb, s, ctl, modproxy.Options{Instance: "test", Epoch: 1, Ring: m})
	if l.Ring() != ring.Enabled() {
		tb.Errorf("ring in use: %v", l.Ring())
	}
	return l
}

func open(tb testing.TB, s *dispatch.Server, ctl modproxy.Control, opt modproxy.Options) *modproxy.Link {
	tb.Helper()
	host, comp := Pair(tb)
	served := make(chan struct{})
	go func() {
		defer close(served)
		s.ServeStream(context.Background(), comp)
	}()
	tb.Cleanup(func() {
		comp.Close()
		<-served
	})
	l, err := modproxy.Open(tb.Context(), host, ctl, opt)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(l.Close)
	return l
}
