package hello_test

import (
	"strings"
	"testing"

	_ "github.com/rumpus-kernel/rumpus/kernel/modproxy/modproxytest"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/examples/hello/hello"
	"github.com/rumpus-kernel/rumpus/modapi/modtest"
)

func mods() []modapi.Module { return []modapi.Module{hello.New()} }

func TestHello(t *testing.T) {
	opt := modtest.Options{Props: map[string]modapi.Props{"hello": {"greeting": "good day"}}}
	modtest.Bindings(t, mods, opt, func(t *testing.T, k *modtest.Kernel) {
		n := k.Sysctls["kern.hello.greeting"]
		if got := n.Get(); got != "good day" {
			t.Errorf("sysctl: %q", got)
		}
		if err := n.Set(""); abi.ErrnoOf(err) != abi.EINVAL || !strings.Contains(err.Error(), abi.EINVAL.Error()) {
			t.Errorf("set to nothing: %v", err)
		}
		if err := n.Set("moin"); err != nil {
			t.Errorf("set: %v", err)
		}
		r, out, err := k.Syscalls[hello.Syscall](t.Context(), abi.KernelCaller, [6]uint64{}, []byte("world"), 100)
		if err != nil || r != 11 || string(out) != "moin, world" {
			t.Errorf("system call: %d, %q, %v", r, out, err)
		}
		if _, _, err := k.Syscalls[hello.Syscall](t.Context(), abi.KernelCaller, [6]uint64{}, []byte("world"), 3); abi.ErrnoOf(err) != abi.ERANGE {
			t.Errorf("system call without room: %v", err)
		}
		buf := make([]byte, 100)
		c := k.Chrs["hello"].Ops
		if n, err := c.Read(t.Context(), 0, 1, abi.IovOf(buf), 0); err != nil || string(buf[:n]) != "oin\n" {
			t.Errorf("read: %q, %v", buf[:n], err)
		}
		modtest.Eventually(t, "two calls counted", func() bool { return k.Evcnt("hello", "calls").Load() == 2 })
	})
}
