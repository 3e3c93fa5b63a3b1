package dispatch

import (
	"fmt"
	"os"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	"github.com/rumpus-kernel/rumpus/modapi/grant"
	"github.com/rumpus-kernel/rumpus/modapi/sockops"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

// kernel is the modapi.Kernel that a module gets.
type kernel struct {
	m *mod
}

var _ modapi.Kernel = (*kernel)(nil)

// attach runs an attach upcall, if it is the time for it, and keeps what was
// attached by store, which runs under Server.mu. It is kept first, because the
// kernel may use it at once, and forgotten if the kernel refuses.
func (k *kernel) attach(op wire.Op, args []byte, store, forget func()) error {
	s := k.m.s
	s.mu.Lock()
	if k.m.state != starting {
		s.mu.Unlock()
		return fmt.Errorf("%s outside Init: %w", op, abi.EPERM)
	}
	store()
	s.mu.Unlock()
	err := s.upcall(op, uint64(k.m.index), args, nil)
	if err != nil {
		s.mu.Lock()
		forget()
		s.mu.Unlock()
	}
	return err
}

// taken reports a name that the process itself has given away.
func taken(what string, name any) error {
	return fmt.Errorf("%s %v: %w", what, name, abi.EEXIST)
}

func (k *kernel) AttachFS(name string, t vfsops.FSType, c vfsops.Caps) error {
	s := k.m.s
	s.mu.RLock()
	_, dup := s.fstypes[name]
	s.mu.RUnlock()
	if dup {
		return taken("file system", name)
	}
	req := wire.AttachFSReq{Name: name, Caps: c}
	return k.attach(wire.OpAttachFS, req.Append(nil),
		func() { s.fstypes[name] = fstype{k.m, t, c} },
		func() { delete(s.fstypes, name) })
}

func (k *kernel) AttachChr(name string, d devops.Chr) (abi.Dev, error) {
	s := k.m.s
	if k.m.getState() != starting {
		return 0, fmt.Errorf("attach-chr outside Init: %w", abi.EPERM)
	}
	req := wire.AttachChrReq{Name: name}
	if n, ok := d.(devops.Noder); ok {
		req.HasNodes, req.Nodes = true, n.Nodes()
	}
	var res wire.NumRes
	if err := s.upcall(wire.OpAttachChr, uint64(k.m.index), req.Append(nil), &res); err != nil {
		return 0, err
	}
	dev := abi.Dev(res.N)
	s.mu.Lock()
	s.chrs[dev.Major()] = chr{k.m, d}
	s.mu.Unlock()
	return dev, nil
}

func (k *kernel) AttachDomain(af int, d sockops.Domain) error {
	s := k.m.s
	s.mu.RLock()
	_, dup := s.domains[af]
	s.mu.RUnlock()
	if dup {
		return taken("protocol family", af)
	}
	_, router := d.(sockops.Router)
	req := wire.AttachDomainReq{AF: int32(af), Router: router}
	return k.attach(wire.OpAttachDomain, req.Append(nil),
		func() { s.domains[af] = domain{k.m, d} },
		func() { delete(s.domains, af) })
}

func (k *kernel) AttachIf(class string, c sockops.IfClass) error {
	s := k.m.s
	s.mu.RLock()
	_, dup := s.ifs[class]
	s.mu.RUnlock()
	if dup {
		return taken("interface class", class)
	}
	req := wire.IfName{Class: class}
	return k.attach(wire.OpAttachIf, req.Append(nil),
		func() { s.ifs[class] = ifclass{k.m, c} },
		func() { delete(s.ifs, class) })
}

func (k *kernel) Sysctl(n modapi.SysctlNode) error {
	s := k.m.s
	s.mu.Lock()
	s.nextNode++
	id := s.nextNode
	s.mu.Unlock()
	req := wire.SysctlReq{Node: id, Name: n.Name, Desc: n.Desc, Writable: n.Set != nil}
	return k.attach(wire.OpSysctl, req.Append(nil),
		func() { s.sysctls[id] = sysctl{k.m, n} },
		func() { delete(s.sysctls, id) })
}

func (k *kernel) Syscall(num int, fn modapi.SyscallFn) error {
	s := k.m.s
	s.mu.RLock()
	_, dup := s.syscalls[num]
	s.mu.RUnlock()
	if dup {
		return taken("system call", num)
	}
	req := wire.NumReq{N: int64(num)}
	return k.attach(wire.OpAddSyscall, req.Append(nil),
		func() { s.syscalls[num] = syscallFn{k.m, fn} },
		func() { delete(s.syscalls, num) })
}

func (k *kernel) Evcnt(group, name string) *modapi.Counter {
	return k.m.s.notes.counter(k.m.index, group, name)
}

func (k *kernel) Ready(r sockops.Ready)   { k.m.s.notes.ready(r) }
func (k *kernel) DevReady(r devops.Ready) { k.m.s.notes.devReady(r) }

func (k *kernel) Granted(name string) (*os.File, error) {
	f := k.m.s.opt.Granted[name]
	if f == nil {
		return nil, fmt.Errorf("granted %q: %w", name, abi.ENOENT)
	}
	return grant.Take(name, f)
}

func (k *kernel) Log() modapi.Logger {
	if l := k.m.s.opt.Log; l != nil {
		return l
	}
	return logger{k.m}
}

// logger sends a module's log lines to the kernel.
type logger struct {
	m *mod
}

func (l logger) Debug(msg string, kv ...any) { l.log(wire.LogDebug, msg, kv) }
func (l logger) Info(msg string, kv ...any)  { l.log(wire.LogInfo, msg, kv) }
func (l logger) Warn(msg string, kv ...any)  { l.log(wire.LogWarn, msg, kv) }
func (l logger) Error(msg string, kv ...any) { l.log(wire.LogError, msg, kv) }

func (l logger) log(level uint8, msg string, kv []any) {
	r := wire.LogMsg{Level: level, Text: clip(msg)}
	for _, v := range kv[:min(len(kv), 64)] {
		r.KV = append(r.KV, clip(fmt.Sprint(v)))
	}
	l.m.s.notes.log(l.m.index, r.Append(nil))
}

// clip bounds a string in a log line.
func clip(s string) string {
	if len(s) > 4000 {
		return s[:4000] + "..."
	}
	return s
}
