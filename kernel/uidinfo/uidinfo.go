// Package uidinfo counts what each user has of the kernel: processes, lwps,
// record locks and bytes of socket buffers (struct uidinfo). The counts are
// those that RLIMIT_NPROC, RLIMIT_NTHR and RLIMIT_SBSIZE limit, and are read as
// kern.uidinfo.*, each user his own.
//
// A user's record is made when it is first asked for and stays, as NetBSD's
// does; it has no lock, the counts are atomic.
package uidinfo

import (
	"sync"
	"sync/atomic"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Table is the users of one kernel.
type Table struct {
	m sync.Map // uint32 -> *Info
}

// Info is one user's counts.
type Info struct {
	UID uint32

	proccnt, lwpcnt, lockcnt, sbsize atomic.Int64
}

// Find answers the record of a user (uid_find).
func (t *Table) Find(uid uint32) *Info {
	if i, ok := t.m.Load(uid); ok {
		return i.(*Info)
	}
	i, _ := t.m.LoadOrStore(uid, &Info{UID: uid})
	return i.(*Info)
}

// change adds diff to a count: EAGAIN if it would be above max, unless diff
// takes away.
func change(c *atomic.Int64, diff, max int64) error {
	for {
		old := c.Load()
		if diff > 0 && (old > max || diff > max-old) {
			return abi.EAGAIN
		}
		if c.CompareAndSwap(old, old+diff) {
			return nil
		}
	}
}

// Chgproccnt changes the number of processes (chgproccnt). EAGAIN above max
// (RLIMIT_NPROC).
func (i *Info) Chgproccnt(diff int, max int64) error { return change(&i.proccnt, int64(diff), max) }

// Chglwpcnt changes the number of lwps (chglwpcnt). EAGAIN above max
// (RLIMIT_NTHR).
func (i *Info) Chglwpcnt(diff int, max int64) error { return change(&i.lwpcnt, int64(diff), max) }

// Chglockcnt changes the number of record locks. EAGAIN above max.
func (i *Info) Chglockcnt(diff int, max int64) error { return change(&i.lockcnt, int64(diff), max) }

// Chgsbsize changes the bytes of a socket buffer from *hiwat to to, and sets
// *hiwat (chgsbsize). EAGAIN, with nothing changed, above max (RLIMIT_SBSIZE).
func (i *Info) Chgsbsize(hiwat *int64, to, max int64) error {
	if err := change(&i.sbsize, to-*hiwat, max); err != nil {
		return err
	}
	*hiwat = to
	return nil
}

// Counts are the counts now.
type Counts struct{ Procs, Lwps, Locks, Sbsize int64 }

// Counts answers them.
func (i *Info) Counts() Counts {
	return Counts{i.proccnt.Load(), i.lwpcnt.Load(), i.lockcnt.Load(), i.sbsize.Load()}
}
