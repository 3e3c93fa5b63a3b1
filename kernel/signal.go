package kernel

import (
	"github.com/rumpus-kernel/rumpus/kernel/proc"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// SetSigmodel says what becomes of signals for which a process has set nothing
// (rump_boot_setsigmodel), before Boot or after it. Without it embedded clients
// have proc.SigIgnore, and clients elsewhere proc.SigRaise.
func (k *Kernel) SetSigmodel(m proc.Sigmodel) {
	k.sigmodel.Store(&m)
	if k.State() != Cold {
		k.Procs.SetSigmodel(m)
	}
}

// SetSigmodel gives the process a model of its own.
func (p *Proc) SetSigmodel(m proc.Sigmodel) { p.p.Load().SetSigmodel(m) }

// OnSignal says whom to tell of signals that the process handles, and of its end
// by a signal (ended). fn must not wait.
func (p *Proc) OnSignal(fn func(si abi.Siginfo, ended bool)) {
	p.tell.Store(&fn)
	p.p.Load().SetTell(fn)
}

// Attend is OnSignal for a client in another process, whose signals have their
// default effect.
func (p *Proc) Attend(fn func(si abi.Siginfo, ended bool)) {
	p.OnSignal(fn)
	p.p.Load().SetRemote()
}
