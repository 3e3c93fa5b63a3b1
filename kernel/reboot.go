package kernel

import (
	"context"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// haltTime bounds an orderly reboot: what does not end in time is ended by
// force.
const haltTime = 20 * time.Second

// Reboot ends the kernel, as the seed's rump_reboot and NetBSD's cpu_reboot do:
// with RB_DUMP, or after a panic, at once and without a sync; else file systems
// are unmounted unless RB_NOSYNC is set, every module's Fini runs, and the
// processes are stopped. With RB_HALT the kernel then halts for ever: Reboot
// returns only when ctx ends. Calling it again waits for the first to finish.
func (k *Kernel) Reboot(ctx context.Context, howto int) {
	k.mu.Lock()
	switch k.state {
	case Cold:
		k.state = Done
		close(k.done)
		k.mu.Unlock()
		return
	case Done, Halting, Halted, Panicked:
		k.mu.Unlock()
		select {
		case <-k.done:
		case <-ctx.Done():
		}
		return
	}
	k.state = Halting
	dump := howto&abi.RB_DUMP != 0 || k.panicstr != ""
	k.mu.Unlock()

	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), haltTime)
	defer cancel()
	if dump {
		k.Msg.Printf("rump kernel dumping: nothing is synced")
		k.Mod.KillAll(bound)
		k.Procs.Close(bound)
		k.end(Panicked)
		return
	}
	k.Msg.Printf("rump kernel halting...")
	k.Procs.Close(bound)
	if howto&abi.RB_NOSYNC == 0 && k.VFS.Available() {
		if err := k.VFS.SyncAll(bound); err != nil {
			k.Msg.Printf("sync: %v", err)
		}
	}
	k.VFS.UnmountAll(bound)
	k.Mod.FiniAll(bound)
	if howto&abi.RB_HALT != 0 {
		k.Msg.Printf("rump kernel halted (with RB_HALT, not exiting)")
		k.mu.Lock()
		k.state = Halted
		k.mu.Unlock()
		<-ctx.Done()
	}
	k.end(Done)
}

func (k *Kernel) end(s State) {
	k.mu.Lock()
	k.state = s
	k.mu.Unlock()
	close(k.done)
}

// requestReboot is reboot(2): the call returns, and then the kernel ends.
func (k *Kernel) requestReboot(howto int) {
	if k.o.OnReboot != nil {
		k.o.OnReboot(howto)
		return
	}
	go k.Reboot(context.Background(), howto)
}
