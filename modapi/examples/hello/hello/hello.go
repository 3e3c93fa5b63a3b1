// Package hello is the smallest module that shows something: a sysctl node, a
// system call, an event counter, and the character device "hello".
package hello

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

// Syscall is the number of the module's system call: it answers a greeting of
// the name that it is given.
const Syscall = 640

// Module is the module.
type Module struct {
	greeting atomic.Pointer[string]
	calls    *modapi.Counter
}

// New makes the module.
func New() *Module { return new(Module) }

// Info says what the module is.
func (m *Module) Info() modapi.Info {
	return modapi.Info{Name: "hello", Class: modapi.ClassMisc, Kern: abi.KernVersionCurrent, Version: "1.0.0"}
}

// Init attaches what the module has. The property "greeting" replaces "hello".
func (m *Module) Init(_ context.Context, k modapi.Kernel, r modapi.Reason, p modapi.Props) error {
	greeting := "hello"
	if v, ok := p["greeting"].(string); ok {
		greeting = v
	}
	m.greeting.Store(&greeting)
	m.calls = k.Evcnt("hello", "calls")
	if err := k.Sysctl(modapi.SysctlNode{
		Name: "kern.hello.greeting",
		Desc: "what is said",
		Get:  func() string { return *m.greeting.Load() },
		Set:  m.set,
	}); err != nil {
		return err
	}
	if err := k.Syscall(Syscall, m.greet); err != nil {
		return err
	}
	if _, err := k.AttachChr("hello", &device{m: m}); err != nil {
		return err
	}
	k.Log().Info("hello is here", "reason", r)
	return nil
}

// Fini ends the module.
func (m *Module) Fini(context.Context) error { return nil }

// Stat says how often it was called.
func (m *Module) Stat(context.Context) (string, error) {
	return fmt.Sprintf("%d calls", m.calls.Load()), nil
}

func (m *Module) set(v string) error {
	if v == "" {
		return fmt.Errorf("an empty greeting: %w", abi.EINVAL)
	}
	m.greeting.Store(&v)
	return nil
}

func (m *Module) greet(_ context.Context, c *abi.Caller, a [6]uint64, in []byte, max int) (uint64, []byte, error) {
	m.calls.Inc()
	out := fmt.Appendf(nil, "%s, %s", *m.greeting.Load(), in)
	if len(out) > max {
		return 0, nil, abi.ERANGE
	}
	return uint64(len(out)), out, nil
}

// device reads as the greeting and a newline.
type device struct {
	devops.NoChr
	m *Module
}

// Nodes makes it /dev/hello for everybody.
func (d *device) Nodes() []devops.Node { return []devops.Node{{Name: "hello", Mode: 0o444}} }

// Open knows one unit.
func (d *device) Open(_ context.Context, unit uint32, _ int) error {
	if unit != 0 {
		return abi.ENXIO
	}
	return nil
}

// Read answers the greeting from off on.
func (d *device) Read(_ context.Context, _ uint32, off int64, dst abi.Iov, _ int) (int, error) {
	text := []byte(*d.m.greeting.Load() + "\n")
	if off < 0 || off >= int64(len(text)) {
		return 0, nil
	}
	return dst.CopyIn(text[off:]), nil
}
