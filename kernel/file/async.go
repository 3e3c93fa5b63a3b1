package file

import (
	"sync/atomic"

	"github.com/rumpus-kernel/rumpus/kernel/event"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// async is what O_ASYNC hangs on a file: who wants SIGIO is told when the file
// may have become ready.
type async struct {
	sel  *event.Selinfo
	w    *event.Waiter
	soon atomic.Bool // somebody is about to be told
}

// Owner is who gets SIGIO of the file: a process, minus a process group, 0
// nobody (F_GETOWN).
func (f *File) Owner() int32 { return f.owner.Load() }

// SetOwner says who gets it (F_SETOWN).
func (f *File) SetOwner(pid int32) { f.owner.Store(pid) }

// SetAsync calls fn, in a goroutine of its own, whenever f may have become ready,
// until it is called with nil or the file is closed; several times at once are
// one. O_ASYNC shows it. EINVAL for files that are always ready.
func (f *File) SetAsync(fn func(*File)) error {
	var a *async
	if fn != nil {
		a = &async{sel: f.Ops.Selinfo(f)}
		if a.sel == nil {
			return abi.EINVAL
		}
		a.w = event.NewHook(func() {
			if a.soon.CompareAndSwap(false, true) {
				go func() {
					a.soon.Store(false)
					if f.async.Load() == a {
						fn(f)
					}
				}()
			}
		})
		a.sel.Record(a.w)
	}
	if old := f.async.Swap(a); old != nil {
		old.sel.Remove(old.w)
	}
	if fn != nil {
		f.flags.Or(abi.O_ASYNC)
	} else {
		f.flags.And(^uint32(abi.O_ASYNC))
	}
	return nil
}

// SetNosigpipe says whether who writes to the file gets no SIGPIPE
// (F_SETNOSIGPIPE, SO_NOSIGPIPE).
func (f *File) SetNosigpipe(on bool) {
	if on {
		f.flags.Or(abi.O_NOSIGPIPE)
	} else {
		f.flags.And(^uint32(abi.O_NOSIGPIPE))
	}
}
