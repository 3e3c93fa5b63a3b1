package kernel

import (
	"context"

	"github.com/rumpus-kernel/rumpus/kernel/kthread"
)

// aiodoned is the workqueue on which I/O ends that nobody waits for: the
// callbacks of asynchronous buffers (biodone), pages that are read ahead or
// written behind. The Arg of its work is a func(context.Context).
//
// As in the seed it is made at step 25 and only with threads; before, and
// without, what would be its work is done where it comes up.

// startAiodoned makes the workqueue (step 25). A kernel that cannot make it
// panics, as the seed does.
func (k *Kernel) startAiodoned() {
	q, err := k.Threads.NewWorkqueue("aiodoned", func(ctx context.Context, w *kthread.Work) {
		w.Arg.(func(context.Context))(ctx)
	})
	if err != nil {
		k.Panic("aiodoned: %v", err)
		return
	}
	k.aiodoned.Store(q)
}

// Aiodone has fn run on aiodoned; without it, or when the kernel ends, fn runs
// before Aiodone returns. fn's context ends when the kernel does.
func (k *Kernel) Aiodone(fn func(ctx context.Context)) {
	if q := k.aiodoned.Load(); q != nil && q.Enqueue(&kthread.Work{Arg: fn}) == nil {
		return
	}
	fn(context.Background())
}

// lowMemory makes what the file system calls when memory is short, with locks
// held: autoloaded modules that nobody needs go.
func (k *Kernel) lowMemory() func() {
	s, err := k.Threads.Establish(kthread.SoftClock, func() {
		select {
		case <-k.core: // or there is nothing to unload yet
			k.Mod.LowMemory()
		default:
		}
	})
	if err != nil {
		k.Msg.Printf("%v", err)
		return nil
	}
	return s.Schedule
}

// background is for work that must not be done under the locks of who brings
// it up: a thread's if there are threads (its name is for ps), else done when
// the next system call returns.
func (k *Kernel) background(name string) func(fn func()) {
	if !k.threads() {
		return func(fn func()) {
			s, err := k.Threads.Establish(kthread.SoftBio, fn)
			if err == nil {
				s.Schedule()
			}
		}
	}
	q, err := k.Threads.NewWorkqueue(name, func(_ context.Context, w *kthread.Work) { w.Arg.(func())() })
	if err != nil {
		k.Msg.Printf("%v", err)
		return nil
	}
	return func(fn func()) { _ = q.Enqueue(&kthread.Work{Arg: fn}) }
}
