package kernel

import (
	"github.com/rumpus-kernel/rumpus/kernel/dev/pseudo"
	"github.com/rumpus-kernel/rumpus/kernel/evcnt"
	"github.com/rumpus-kernel/rumpus/kernel/kthread"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

// attachPseudo attaches the kernel's own devices, /dev/klog and /dev/ksyms.
// Who reads klog is told of a message by a soft interrupt, because messages are
// written with any lock held.
func (k *Kernel) attachPseudo() {
	if _, err := k.Dev.AttachChr("", "ksyms", pseudo.NewKsyms(k.Ksyms)); err != nil {
		k.Msg.Printf("ksyms: %v", err)
	}
	log, err := k.Dev.AttachChr("", "log", pseudo.NewKlog(k.Msg))
	if err != nil {
		k.Msg.Printf("klog: %v", err)
		return
	}
	ready := func() { k.Dev.DevReady(devops.Ready{Dev: log, Events: abi.POLLIN | abi.POLLRDNORM}) }
	s, err := k.Threads.Establish(kthread.SoftClock, ready)
	if err != nil {
		k.Msg.Printf("klog: %v", err)
		return
	}
	k.Msg.OnWrite(s.Schedule)
}

// intrCounter makes the event counters of soft interrupts.
func (k *Kernel) intrCounter(group, name string) *modapi.Counter {
	return k.Evcnt.AttachType(evcnt.Intr, group, name)
}

// moduleSymbols keeps the symbol table in step with the modules.
func (k *Kernel) moduleSymbols(mod string, names []string) {
	k.Ksyms.Modunload(mod)
	if names == nil {
		return
	}
	if err := k.Ksyms.Modload(mod, names); err != nil {
		k.Msg.Printf("ksyms: %v", err)
	}
}
