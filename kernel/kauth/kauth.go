// Package kauth decides who may do what: scopes, listeners and security models
// after kauth(9).
//
// An action is authorised in a scope. Every listener of the scope is asked and
// answers Defer, Allow or Deny. One Deny refuses (EPERM); otherwise one Allow
// is enough; if all defer the answer is EPERM, unless no security model is
// loaded at all, in which case everything is allowed. The vnode scope is
// special in that the caller also brings what the file system's permissions
// say (fs_decision), which stands when nobody decides.
//
// Securelevel registers secmodel_securelevel, which denies even the super-user
// what the level forbids.
//
// The security model suser (secmodel_suser(9)) allows the super-user
// everything. It is registered by Suser; a kernel without any security model
// lets everybody do everything.
//
// Locks: listeners are read through an atomic pointer, so that asking costs
// nothing; registration takes a mutex that is a leaf.
package kauth

import (
	"sync"
	"sync/atomic"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Scope is a family of actions.
type Scope uint8

// The scopes (KAUTH_SCOPE_*).
const (
	Generic Scope = iota
	System
	Process
	Network
	Machdep
	Device
	Cred
	Vnode
	nscopes
)

var scopeNames = [nscopes]string{"generic", "system", "process", "network", "machdep", "device", "cred", "vnode"}

func (s Scope) String() string {
	if s < nscopes {
		return scopeNames[s]
	}
	return "unknown"
}

// Action is what somebody wants to do, by name: "mount", "reboot", "chroot".
type Action string

// The actions that the kernel asks about, in the system scope unless noted.
const (
	Mount        Action = "mount"
	Unmount      Action = "unmount"
	Reboot       Action = "reboot"
	Module       Action = "module"
	Sysctl       Action = "sysctl"
	Chroot       Action = "chroot"
	Mknod        Action = "mknod"
	Msgbuf       Action = "msgbuf"
	Setid        Action = "setid"      // process scope: change own ids
	Rlimit       Action = "rlimit"     // process scope: raise a hard limit
	KeventFilter Action = "kevent"     // process scope: watch another one's process
	Setlogin     Action = "setlogin"   // process scope
	Signal       Action = "signal"     // process scope: send one; SignalArg
	CanSee       Action = "cansee"     // process scope: know of a process; its *abi.Cred
	PrivPort     Action = "privport"   // network scope: bind below 1024
	Ifconfig     Action = "ifconfig"   // network scope
	RawSock      Action = "rawsock"    // network scope
	Access       Action = "access"     // vnode scope
	Autoload     Action = "autoload"   // a module for whoever wants what it has
	Chsysflags   Action = "chsysflags" // change the system flags of files
	Drvctl       Action = "drvctl"     // attach and detach devices, look at what they hold
	RawIO        Action = "rawio"      // device scope: open a device; DevArg
)

// Decision is what a listener answers.
type Decision int

// The decisions (KAUTH_RESULT_*).
const (
	Defer Decision = iota
	Allow
	Deny
)

// Listener is asked about every action of the scope it listens to. arg
// depends on the action (for Access a *VnodeArg) and is valid during the call
// only. It must not wait.
type Listener func(c *abi.Cred, a Action, arg any) Decision

// VnodeArg goes with Access.
type VnodeArg struct {
	Want  abi.AccMode
	Vattr *abi.Vattr
	FSErr error // what the permissions of the file say
}

// SignalArg goes with Signal.
type SignalArg struct {
	Target      *abi.Cred
	Sig         int
	SameSession bool
}

// signals is what everybody may send (NetBSD's signal_listener_cb): signals to
// processes of the same user, and SIGCONT in the own session.
func signals(c *abi.Cred, act Action, arg any) Decision {
	a, ok := arg.(*SignalArg)
	switch {
	case act != Signal || !ok:
	case c.Ruid == a.Target.Ruid, c.Euid == a.Target.Ruid, c.Ruid == a.Target.Euid, c.Euid == a.Target.Euid:
		return Allow
	case a.Sig == abi.SIGCONT && a.SameSession:
		return Allow
	}
	return Defer
}

// Auth is a kernel's set of listeners.
type Auth struct {
	mu        sync.Mutex
	listeners [nscopes]atomic.Pointer[[]*entry]
	models    atomic.Int32
}

type entry struct{ fn Listener }

// New makes an Auth without models. It has three listeners. That of devices: their
// nodes' permissions say who may open them, so it allows (NetBSD's
// rawio_listener_cb). That of signals. And that of seeing processes.
func New() *Auth {
	a := new(Auth)
	a.Listen(Process, signals)
	a.Listen(Process, seen)
	a.Listen(Device, func(_ *abi.Cred, act Action, _ any) Decision {
		if act == RawIO {
			return Allow
		}
		return Defer
	})
	return a
}

// Listen adds a listener (kauth_listen_scope) and answers how to remove it.
func (a *Auth) Listen(s Scope, fn Listener) (remove func()) {
	e := &entry{fn}
	a.mu.Lock()
	defer a.mu.Unlock()
	var l []*entry
	if p := a.listeners[s].Load(); p != nil {
		l = append(l, *p...)
	}
	l = append(l, e)
	a.listeners[s].Store(&l)
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		var n []*entry
		for _, x := range *a.listeners[s].Load() {
			if x != e {
				n = append(n, x)
			}
		}
		a.listeners[s].Store(&n)
	}
}

// RegisterModel counts a security model in (secmodel_register).
func (a *Auth) RegisterModel() { a.models.Add(1) }

// DeregisterModel counts it out.
func (a *Auth) DeregisterModel() { a.models.Add(-1) }

// Authorize asks: nil or EPERM.
func (a *Auth) Authorize(s Scope, c *abi.Cred, act Action, arg any) error {
	switch a.decide(s, c, act, arg) {
	case Allow:
		return nil
	case Deny:
		return abi.EPERM
	}
	if a.models.Load() == 0 {
		return nil
	}
	return abi.EPERM
}

// vnodeArgs are reused: every directory of every path is asked about.
var vnodeArgs = sync.Pool{New: func() any { return new(VnodeArg) }}

// AuthorizeVnode asks in the vnode scope: want on a file with attributes va,
// whose permissions say fsErr. The file system's answer stands if every
// listener defers.
func (a *Auth) AuthorizeVnode(c *abi.Cred, want abi.AccMode, va *abi.Vattr, fsErr error) error {
	if fsErr == nil && a.listeners[Vnode].Load() == nil {
		return nil
	}
	arg := vnodeArgs.Get().(*VnodeArg)
	*arg = VnodeArg{want, va, fsErr}
	d := a.decide(Vnode, c, Access, arg)
	*arg = VnodeArg{}
	vnodeArgs.Put(arg)
	switch d {
	case Allow:
		return nil
	case Deny:
		if fsErr != nil {
			return fsErr
		}
		return abi.EPERM
	}
	return fsErr
}

func (a *Auth) decide(s Scope, c *abi.Cred, act Action, arg any) Decision {
	p := a.listeners[s].Load()
	if p == nil {
		return Defer
	}
	d := Defer
	for _, e := range *p {
		switch e.fn(c, act, arg) {
		case Deny:
			return Deny
		case Allow:
			d = Allow
		}
	}
	return d
}

// Suser registers the security model suser: effective uid 0 may do all, with
// the one exception that executing a file needs an x bit for somebody. What
// everybody may do is allowed to everybody: reading sysctl nodes and the
// message buffer, sockets on unprivileged ports. It answers how to remove the
// model.
func (a *Auth) Suser() (remove func()) {
	root := func(c *abi.Cred, _ Action, _ any) Decision {
		if c.Euid == 0 {
			return Allow
		}
		return Defer
	}
	vnode := func(c *abi.Cred, _ Action, arg any) Decision {
		if c.Euid != 0 {
			return Defer
		}
		v, ok := arg.(*VnodeArg)
		if ok && v.Want&abi.VEXEC != 0 && v.Vattr.Type == abi.VREG && v.Vattr.Mode&0o111 == 0 {
			return Defer
		}
		return Allow
	}
	var rm []func()
	for s := Scope(0); s < nscopes; s++ {
		if s == Vnode {
			rm = append(rm, a.Listen(s, vnode))
		} else {
			rm = append(rm, a.Listen(s, root))
		}
	}
	a.RegisterModel()
	return func() {
		for _, f := range rm {
			f()
		}
		a.DeregisterModel()
	}
}
