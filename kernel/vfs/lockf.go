package vfs

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/rumpus-kernel/rumpus/kernel/event"
	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Advisory locks (kern/vfs_lockf.c). They are the kernel's: no file system
// hears of them, and they outlive its component. Those of fcntl(2) belong to a
// process and go with its first close of the file, those of flock(2) to an open
// file; both kinds exclude each other, as in NetBSD. One lock protects them
// all, which only those take who use them.

// maxLocks is how many locks a user other than the super-user may hold
// (kern.maxlocksperuid); as many again may come of splitting them.
const maxLocks = 1024

// lockOwner is a process or an open file.
type lockOwner struct {
	pid int32
	f   *file.File // nil: the process
}

// lock is one lock on bytes start to end, the last included (struct lockf).
type lock struct {
	start, end int64
	typ        int16
	owner      lockOwner
	uid        uint32
}

func (l *lock) overlaps(start, end int64) bool { return l.start <= end && start <= l.end }

// lockHead has the locks of one file.
type lockHead struct {
	locks []lock // by start; protected by lockTable.mu
	sel   event.Selinfo
}

// lockTable is all locks of a kernel.
type lockTable struct {
	nposix atomic.Int64 // processes' locks, read without mu

	mu    sync.Mutex
	owned map[int32]map[*Vnode]struct{} // where a process has locks
	waits map[int32][]*lockWait         // what a process waits for
	users map[uint32]int                // locks by user
	count func(uid uint32, d int)       // Options.Lockcnt; never changed
}

// lockWait is a process that waits for a lock.
type lockWait struct {
	h  *lockHead
	lk lock
}

// conflictLocked is the first lock that lk has to wait for, nil if there is
// none.
func (h *lockHead) conflictLocked(lk *lock) *lock {
	for i := range h.locks {
		l := &h.locks[i]
		if l.owner != lk.owner && l.overlaps(lk.start, lk.end) && (l.typ == abi.F_WRLCK || lk.typ == abi.F_WRLCK) {
			return l
		}
	}
	return nil
}

// deadlockLocked reports whether a process would wait for itself if it waited
// for lk. Open files do not count: who has them is not known.
func (t *lockTable) deadlockLocked(h *lockHead, lk *lock) bool {
	seen := map[int32]bool{}
	var blocked func(h *lockHead, by *lock) bool
	blocked = func(h *lockHead, by *lock) bool {
		for i := range h.locks {
			l := &h.locks[i]
			if l.owner.f != nil || l.owner == by.owner || !l.overlaps(by.start, by.end) || l.typ != abi.F_WRLCK && by.typ != abi.F_WRLCK {
				continue
			}
			if l.owner == lk.owner {
				return true
			}
			if seen[l.owner.pid] {
				continue
			}
			seen[l.owner.pid] = true
			for _, w := range t.waits[l.owner.pid] {
				if blocked(w.h, &w.lk) {
					return true
				}
			}
		}
		return false
	}
	return lk.owner.f == nil && blocked(h, lk)
}

// setLocked takes lk's bytes out of what its owner has, and puts lk there
// unless it is F_UNLCK. It reports whether somebody may have waited for less.
func (t *lockTable) setLocked(v *Vnode, h *lockHead, lk lock) (freed bool) {
	var rest []lock
	add := lk
	for _, l := range h.locks {
		if l.owner != lk.owner {
			rest = append(rest, l)
			continue
		}
		if l.typ == lk.typ && (l.overlaps(lk.start, lk.end) || l.end < lk.start && l.end+1 == lk.start || lk.end < l.start && lk.end+1 == l.start) {
			add.start, add.end = min(add.start, l.start), max(add.end, l.end)
			t.countLocked(&l, -1)
			continue
		}
		if !l.overlaps(lk.start, lk.end) {
			rest = append(rest, l)
			continue
		}
		freed = true
		t.countLocked(&l, -1)
		if l.start < lk.start {
			left := l
			left.end = lk.start - 1
			rest = append(rest, left)
			t.countLocked(&left, 1)
		}
		if l.end > lk.end {
			right := l
			right.start = lk.end + 1
			rest = append(rest, right)
			t.countLocked(&right, 1)
		}
	}
	if lk.typ != abi.F_UNLCK {
		rest = append(rest, add)
		t.countLocked(&add, 1)
	}
	slices.SortFunc(rest, func(a, b lock) int { return cmp.Compare(a.start, b.start) })
	h.locks = rest
	if lk.owner.f == nil {
		pid := lk.owner.pid
		if slices.ContainsFunc(rest, func(l lock) bool { return l.owner == lk.owner }) {
			if t.owned == nil {
				t.owned = map[int32]map[*Vnode]struct{}{}
			}
			if t.owned[pid] == nil {
				t.owned[pid] = map[*Vnode]struct{}{}
			}
			t.owned[pid][v] = struct{}{}
		} else if delete(t.owned[pid], v); len(t.owned[pid]) == 0 {
			delete(t.owned, pid)
		}
	}
	return freed
}

func (t *lockTable) countLocked(l *lock, d int) {
	if t.users == nil {
		t.users = map[uint32]int{}
	}
	if t.count != nil {
		t.count(l.uid, d)
	}
	if t.users[l.uid] += d; t.users[l.uid] == 0 {
		delete(t.users, l.uid)
	}
	if l.owner.f == nil {
		t.nposix.Add(int64(d))
	}
}

// lockHead is the locks of v, made when first wanted.
func (v *Vnode) lockHead() *lockHead {
	if h := v.locks.Load(); h != nil {
		return h
	}
	v.locks.CompareAndSwap(nil, &lockHead{})
	return v.locks.Load()
}

// advlock sets or takes away a lock (lf_advlock). wait: until nobody is in the
// way; else EAGAIN. EDEADLK, EINTR, ENOLCK.
func (fs *VFS) advlock(ctx context.Context, v *Vnode, lk lock, wait bool) error {
	v = v.base()
	t, h := &fs.lk, v.lockHead()
	t.mu.Lock()
	defer t.mu.Unlock()
	if lk.typ == abi.F_UNLCK {
		if t.setLocked(v, h, lk) {
			h.sel.Notify()
		}
		return nil
	}
	if lk.uid != 0 && t.users[lk.uid] >= maxLocks {
		return fmt.Errorf("uid %d has %d locks: %w", lk.uid, maxLocks, abi.ENOLCK)
	}
	for {
		if h.conflictLocked(&lk) == nil {
			if t.setLocked(v, h, lk) { // it may have become a shared one
				h.sel.Notify()
			}
			return nil
		}
		if !wait {
			return abi.EAGAIN
		}
		if lk.owner.f != nil && lk.typ == abi.F_WRLCK {
			un := lk // whoever wants more than a shared lock gives that up first
			un.typ = abi.F_UNLCK
			if t.setLocked(v, h, un) {
				h.sel.Notify()
			}
		}
		if t.deadlockLocked(h, &lk) {
			return fmt.Errorf("each would wait for the other: %w", abi.EDEADLK)
		}
		if err := t.sleepLocked(ctx, h, lk); err != nil {
			return err
		}
	}
}

// sleepLocked waits for a lock on h to go, with mu let go meanwhile.
func (t *lockTable) sleepLocked(ctx context.Context, h *lockHead, lk lock) error {
	w := event.NewWaiter()
	h.sel.Record(w)
	defer h.sel.Remove(w)
	if lk.owner.f == nil {
		me := &lockWait{h, lk}
		pid := lk.owner.pid
		if t.waits == nil {
			t.waits = map[int32][]*lockWait{}
		}
		t.waits[pid] = append(t.waits[pid], me)
		defer func() {
			t.waits[pid] = slices.DeleteFunc(t.waits[pid], func(o *lockWait) bool { return o == me })
			if len(t.waits[pid]) == 0 {
				delete(t.waits, pid)
			}
		}()
	}
	t.mu.Unlock()
	err := w.Sleep(ctx)
	t.mu.Lock()
	return err
}

// Advlock is fcntl(2) with F_SETLK, F_SETLKW and F_GETLK, which answers in fl
// the first lock in the way, or F_UNLCK as its type. EBADF for a lock that the
// file is not open for; EINVAL for a file that is none of a file system, and for
// bytes before the first; EOVERFLOW; EAGAIN, EDEADLK, EINTR, ENOLCK.
func (fs *VFS) Advlock(ctx context.Context, c *abi.Caller, f *file.File, cmd int, fl *abi.Flock) error {
	v := vnodeOf(f)
	if v == nil {
		return abi.EINVAL
	}
	base := int64(0)
	switch fl.Whence {
	case abi.SEEK_SET:
	case abi.SEEK_CUR:
		f.OffMu.Lock()
		base = f.Offset
		f.OffMu.Unlock()
	case abi.SEEK_END:
		var va abi.Vattr
		if err := v.getattr(ctx, &va); err != nil {
			return err
		}
		base = va.Size
	default:
		return abi.EINVAL
	}
	lk, err := lockRange(base, fl)
	if err != nil {
		return err
	}
	lk.owner.pid, lk.uid = c.Pid, c.Cred.Euid
	if cmd == abi.F_GETLK {
		if fl.Type != abi.F_RDLCK && fl.Type != abi.F_WRLCK {
			return abi.EINVAL
		}
		fs.getlk(v, &lk, fl)
		return nil
	}
	switch fl.Type {
	case abi.F_RDLCK:
		if !f.Readable() {
			return abi.EBADF
		}
	case abi.F_WRLCK:
		if !f.Writable() {
			return abi.EBADF
		}
	case abi.F_UNLCK:
	default:
		return abi.EINVAL
	}
	return fs.advlock(ctx, v, lk, cmd == abi.F_SETLKW)
}

// lockRange makes a lock of a struct flock and what its whence means.
func lockRange(base int64, fl *abi.Flock) (lock, error) {
	if fl.Start > 0 && base > math.MaxInt64-fl.Start {
		return lock{}, abi.EOVERFLOW
	}
	lk := lock{start: base + fl.Start, end: math.MaxInt64, typ: fl.Type}
	switch {
	case fl.Len > 0:
		if lk.start > math.MaxInt64-(fl.Len-1) {
			return lock{}, abi.EOVERFLOW
		}
		lk.end = lk.start + fl.Len - 1
	case fl.Len < 0:
		if fl.Len == math.MinInt64 {
			return lock{}, abi.EINVAL
		}
		lk.end = lk.start - 1
		lk.start += fl.Len
	}
	if lk.start < 0 || lk.end < lk.start {
		return lock{}, abi.EINVAL
	}
	return lk, nil
}

func (fs *VFS) getlk(v *Vnode, lk *lock, fl *abi.Flock) {
	fl.Whence, fl.Start, fl.Len = abi.SEEK_SET, lk.start, 0
	if lk.end != math.MaxInt64 {
		fl.Len = lk.end - lk.start + 1
	}
	fs.lk.mu.Lock()
	defer fs.lk.mu.Unlock()
	var in *lock
	if h := v.base().locks.Load(); h != nil {
		in = h.conflictLocked(lk)
	}
	if in == nil {
		fl.Type = abi.F_UNLCK
		return
	}
	*fl = abi.Flock{Start: in.start, Type: in.typ, Whence: abi.SEEK_SET, Pid: in.owner.pid}
	if in.end != math.MaxInt64 {
		fl.Len = in.end - in.start + 1
	}
	if in.owner.f != nil {
		fl.Pid = -1
	}
}

// Flock is flock(2): a lock on a whole file that belongs to the open file, with
// a LOCK_* operation. EOPNOTSUPP for what is no file of a file system, EINVAL,
// EAGAIN (LOCK_NB), EINTR, ENOLCK.
func (fs *VFS) Flock(ctx context.Context, c *abi.Caller, f *file.File, op int) error {
	v := vnodeOf(f)
	if v == nil {
		return abi.EOPNOTSUPP
	}
	lk := lock{end: math.MaxInt64, owner: lockOwner{f: f}, uid: c.Cred.Euid}
	switch op &^ abi.LOCK_NB {
	case abi.LOCK_SH:
		lk.typ = abi.F_RDLCK
	case abi.LOCK_EX:
		lk.typ = abi.F_WRLCK
	case abi.LOCK_UN:
		lk.typ = abi.F_UNLCK
	default:
		return abi.EINVAL
	}
	return fs.advlock(ctx, v, lk, op&abi.LOCK_NB == 0)
}

// HasLocks reports whether any process holds a lock of fcntl(2): who closes a
// descriptor calls UnlockClosed then.
func (fs *VFS) HasLocks() bool { return fs.lk.nposix.Load() != 0 }

// UnlockClosed takes away the locks that a process has on f's file: it closes
// a descriptor of it.
func (fs *VFS) UnlockClosed(pid int32, f *file.File) {
	if v := vnodeOf(f); v != nil {
		fs.unlock(v, lockOwner{pid: pid})
	}
}

// UnlockAll takes away all locks of a process, which ends.
func (fs *VFS) UnlockAll(pid int32) {
	if !fs.HasLocks() {
		return
	}
	fs.lk.mu.Lock()
	var vs []*Vnode
	for v := range fs.lk.owned[pid] {
		vs = append(vs, v)
	}
	fs.lk.mu.Unlock()
	for _, v := range vs {
		fs.unlock(v, lockOwner{pid: pid})
	}
}

func (fs *VFS) unlock(v *Vnode, o lockOwner) {
	v = v.base()
	if v.locks.Load() == nil {
		return
	}
	fs.advlock(context.Background(), v, lock{end: math.MaxInt64, typ: abi.F_UNLCK, owner: o}, false)
}
