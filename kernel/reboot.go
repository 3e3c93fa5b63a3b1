package kernel

import (
	"context"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/evlog"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Bounds of an orderly reboot: what does not end in time is ended by force. A
// step that takes too long takes nothing from those after it.
const (
	bootTime    = 30 * time.Second // for a boot that is cancelled
	exitTimeAll = 5 * time.Second  // for the processes of the kernel
	unmountTime = 10 * time.Second // for writing back and unmounting
	finiTimeAll = 15 * time.Second // for the modules
)

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
	k.Events.Emit(evlog.Event{Kind: evlog.Halt})
	dump := howto&abi.RB_DUMP != 0 || k.panicstr != ""
	k.mu.Unlock()
	<-k.began
	if !dump { // a panic may come out of Boot, which then cannot be waited for
		k.cancelBoot()
		k.awaitBoot()
	}
	<-k.core

	base := context.WithoutCancel(ctx)
	within := func(d time.Duration, f func(context.Context)) {
		ctx, cancel := context.WithTimeout(base, d)
		defer cancel()
		f(ctx)
	}
	if dump {
		k.Msg.Printf("rump kernel dumping: nothing is synced")
		within(finiTimeAll, k.Mod.KillAll)
		within(exitTimeAll, k.endThreads)
		within(exitTimeAll, k.Procs.Close)
		within(exitTimeAll, k.endVnd)
		k.Etfs.CloseAll()
		k.end(Panicked)
		return
	}
	k.Msg.Printf("rump kernel halting...")
	within(exitTimeAll, k.Procs.Close)
	if howto&abi.RB_NOSYNC == 0 {
		within(unmountTime, func(ctx context.Context) { // disks on files first
			if err := k.Bio.Sync(ctx); err != nil {
				k.Msg.Printf("%v", err)
			}
		})
		within(unmountTime, func(ctx context.Context) {
			if err := k.VFS.UnmountAll(ctx); err != nil { // writes back first
				k.Msg.Printf("unmount: %v", err)
			}
			if err := k.Bio.Sync(ctx); err != nil {
				k.Msg.Printf("%v", err)
			}
		})
	}
	k.Bio.End()
	within(unmountTime, k.endVnd)
	within(finiTimeAll, k.Mod.FiniAll)
	k.Etfs.CloseAll()
	k.doShutdownHooks()
	within(exitTimeAll, k.endThreads)
	if howto&abi.RB_HALT != 0 {
		k.Msg.Printf("rump kernel halted (with RB_HALT, not exiting)")
		k.mu.Lock()
		k.state = Halted
		k.mu.Unlock()
		<-ctx.Done()
	}
	k.end(Done)
}

// awaitBoot returns when Boot attaches and mounts nothing more, or has hung for
// bootTime.
func (k *Kernel) awaitBoot() {
	t := time.NewTimer(bootTime)
	defer t.Stop()
	select {
	case <-k.settled:
	case <-t.C:
		k.Msg.Printf("the boot goes on and on: it is not waited for")
	}
}

// endThreads ends the kernel's own threads.
func (k *Kernel) endThreads(ctx context.Context) {
	if err := k.Threads.Close(ctx); err != nil {
		k.Msg.Printf("%v", err)
	}
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
