package kauth

import (
	"sync/atomic"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Extensions is the security model extensions (secmodel_extensions(9)), of which
// the curtain has a meaning here: with it, who is not the super-user sees no
// processes but those of his own user. It is down until SetCurtain.
//
// usermount and user_set_cpu_affinity, the model's other two, are not here: a
// mount is the super-user's, and lwps have no CPUs.
type Extensions struct{ curtain atomic.Bool }

// Extensions registers the model. It answers how to remove it.
func (a *Auth) Extensions() (e *Extensions, remove func()) {
	e = new(Extensions)
	rm := a.Listen(Process, e.process)
	a.RegisterModel()
	return e, func() {
		rm()
		a.DeregisterModel()
	}
}

// Curtain reports whether the curtain is drawn.
func (e *Extensions) Curtain() bool { return e.curtain.Load() }

// SetCurtain draws it or opens it.
func (e *Extensions) SetCurtain(on bool) { e.curtain.Store(on) }

func (e *Extensions) process(c *abi.Cred, act Action, arg any) Decision {
	target, ok := arg.(*abi.Cred)
	if act != CanSee || !ok || !e.curtain.Load() || c.Euid == 0 || c.Euid == target.Euid || c.Euid == target.Ruid {
		return Defer
	}
	return Deny
}

// seen is what everybody sees unless a model denies it: all processes (NetBSD's
// proc_listener_cb).
func seen(_ *abi.Cred, act Action, _ any) Decision {
	if act == CanSee {
		return Allow
	}
	return Defer
}
