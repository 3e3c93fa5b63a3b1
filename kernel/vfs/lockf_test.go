package vfs

import (
	"context"
	"math"
	"runtime"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

func as(pid int32) *abi.Caller { return &abi.Caller{Cred: abi.Root, Pid: pid, Lid: 1} }

func flock(typ int16, start, n int64) *abi.Flock {
	return &abi.Flock{Type: typ, Start: start, Len: n}
}

func (k *kern) lock(f *file.File, pid int32, typ int16, start, n int64) error {
	return k.Advlock(ctx, as(pid), f, abi.F_SETLK, flock(typ, start, n))
}

// asleep waits until somebody waits for a lock on f.
func (k *kern) asleep(f *file.File, n int) {
	k.t.Helper()
	for end := time.Now().Add(60 * time.Second); vnodeOf(f).lockHead().sel.Waiters() < n; runtime.Gosched() {
		if time.Now().After(end) {
			k.t.Fatal("nobody waits")
		}
	}
}

// none checks that nothing is left of any lock.
func (k *kern) none(f *file.File) {
	k.t.Helper()
	k.lk.mu.Lock()
	defer k.lk.mu.Unlock()
	if h := vnodeOf(f).locks.Load(); h != nil && len(h.locks) != 0 || k.lk.nposix.Load() != 0 || len(k.lk.owned) != 0 || len(k.lk.users) != 0 || len(k.lk.waits) != 0 {
		k.t.Errorf("left: %+v, %d of processes, %v %v %v", h.locks, k.lk.nposix.Load(), k.lk.owned, k.lk.users, k.lk.waits)
	}
}

// TestLockModel compares locks on 40 bytes with a model that has a byte for
// each byte and owner.
func TestLockModel(t *testing.T) {
	k := newKern(t, variants[0], Options{})
	k.write("/f", "x")
	const size, pids = 40, 3
	rapid.Check(t, func(t *rapid.T) {
		f := k.open("/f", abi.O_RDWR)
		defer f.Release(ctx)
		var model [pids][size + 1]int16 // the last byte stands for all behind it
		for range rapid.IntRange(1, 60).Draw(t, "ops") {
			pid := rapid.IntRange(0, pids-1).Draw(t, "pid")
			typ := rapid.SampledFrom([]int16{abi.F_RDLCK, abi.F_WRLCK, abi.F_UNLCK}).Draw(t, "type")
			start := rapid.IntRange(0, size-1).Draw(t, "start")
			n := rapid.IntRange(0, size-start).Draw(t, "len")
			end := start + n
			if n == 0 {
				end = size + 1
			}
			var want error
			for o := range pids {
				for i := start; i < end; i++ {
					if o != pid && typ != abi.F_UNLCK && (model[o][i] == abi.F_WRLCK || model[o][i] == abi.F_RDLCK && typ == abi.F_WRLCK) {
						want = abi.EAGAIN
					}
				}
			}
			q := flock(typ, int64(start), int64(n))
			if typ != abi.F_UNLCK {
				if err := k.Advlock(ctx, as(int32(pid)), f, abi.F_GETLK, q); err != nil || (q.Type == abi.F_UNLCK) != (want == nil) {
					t.Fatalf("F_GETLK: %+v %v, want %v", q, err, want)
				}
				if want != nil && (q.Pid == int32(pid) || model[q.Pid][q.Start] != q.Type) {
					t.Fatalf("F_GETLK names a lock that is none: %+v", q)
				}
			}
			if err := k.lock(f, int32(pid), typ, int64(start), int64(n)); err != want {
				t.Fatalf("F_SETLK: %v, want %v", err, want)
			}
			if want == nil {
				if typ == abi.F_UNLCK {
					typ = 0
				}
				for i := start; i < end; i++ {
					model[pid][i] = typ
				}
			}
			runs := 0
			for o := range pids {
				for i := range model[o] {
					if model[o][i] != 0 && (i == 0 || model[o][i] != model[o][i-1]) {
						runs++
					}
				}
			}
			if h := vnodeOf(f).lockHead(); len(h.locks) != runs || k.lk.users[0] != runs || k.lk.nposix.Load() != int64(runs) {
				t.Fatalf("%d locks, want %d: %+v", len(h.locks), runs, h.locks)
			}
		}
		for pid := range int32(pids) {
			if pid == 0 {
				k.UnlockClosed(pid, f)
			} else {
				k.UnlockAll(pid)
			}
		}
		k.none(f)
	})
}

func TestLockErrors(t *testing.T) {
	each(t, func(t *testing.T, k *kern) {
		k.write("/f", "0123456789")
		r, w := k.open("/f", abi.O_RDONLY), k.open("/f", abi.O_WRONLY)
		defer r.Release(ctx)
		defer w.Release(ctx)
		k.is(k.lock(r, 2, abi.F_WRLCK, 0, 1), abi.EBADF)
		k.is(k.lock(w, 2, abi.F_RDLCK, 0, 1), abi.EBADF)
		k.is(k.lock(w, 2, 7, 0, 1), abi.EINVAL)
		k.is(k.lock(w, 2, abi.F_WRLCK, -1, 1), abi.EINVAL)
		k.is(k.lock(w, 2, abi.F_WRLCK, 0, -1), abi.EINVAL)
		k.is(k.lock(w, 2, abi.F_WRLCK, 0, math.MinInt64), abi.EINVAL)
		k.is(k.lock(w, 2, abi.F_WRLCK, math.MaxInt64, 2), abi.EOVERFLOW)
		k.is(k.Advlock(ctx, as(2), w, abi.F_SETLK, &abi.Flock{Type: abi.F_WRLCK, Whence: 3}), abi.EINVAL)
		k.is(k.Advlock(ctx, as(2), w, abi.F_GETLK, flock(abi.F_UNLCK, 0, 0)), abi.EINVAL)
		k.is(k.Advlock(ctx, as(2), w, abi.F_SETLK, &abi.Flock{Type: abi.F_WRLCK, Whence: abi.SEEK_END, Start: math.MaxInt64}), abi.EOVERFLOW)
		// The last two bytes, from the end; and what a process asks of itself.
		k.ok(k.Advlock(ctx, as(2), w, abi.F_SETLK, &abi.Flock{Type: abi.F_WRLCK, Whence: abi.SEEK_END, Len: -2}))
		q := flock(abi.F_RDLCK, 0, 0)
		k.ok(k.Advlock(ctx, as(3), r, abi.F_GETLK, q))
		if *q != (abi.Flock{Type: abi.F_WRLCK, Start: 8, Len: 2, Pid: 2}) {
			t.Errorf("%+v", q)
		}
		q = flock(abi.F_RDLCK, 0, 0)
		if k.ok(k.Advlock(ctx, as(2), r, abi.F_GETLK, q)); q.Type != abi.F_UNLCK {
			t.Errorf("%+v", q)
		}
		w.OffMu.Lock()
		w.Offset = 8
		w.OffMu.Unlock()
		k.is(k.Advlock(ctx, as(3), r, abi.F_SETLK, &abi.Flock{Type: abi.F_RDLCK, Start: 9}), abi.EAGAIN)
		k.ok(k.Advlock(ctx, as(2), w, abi.F_SETLK, &abi.Flock{Type: abi.F_UNLCK, Whence: abi.SEEK_CUR}))
		k.none(w)
		p, err := k.o.Files.New(file.TypePipe, file.NoOps{}, nil, abi.O_RDWR, abi.Root)
		k.ok(err)
		k.is(k.lock(p, 2, abi.F_WRLCK, 0, 1), abi.EINVAL)
		k.is(k.Flock(ctx, as(2), p, abi.LOCK_EX), abi.EOPNOTSUPP)
		p.Release(ctx)
		c := &abi.Caller{Cred: abi.NewCred(7, 7), Pid: 9}
		for i := range int64(maxLocks) {
			k.ok(k.Advlock(ctx, c, w, abi.F_SETLK, flock(abi.F_WRLCK, 2*i, 1)))
		}
		k.is(k.Advlock(ctx, c, w, abi.F_SETLK, flock(abi.F_WRLCK, 2*maxLocks, 1)), abi.ENOLCK)
		k.UnlockAll(9)
		k.none(w)
	})
}

func TestLockWait(t *testing.T) {
	k := newKern(t, variants[0], Options{})
	k.write("/f", "x")
	f := k.open("/f", abi.O_RDWR)
	defer f.Release(ctx)
	wait := func(ctx context.Context, pid int32, start int64) chan error {
		c := make(chan error, 1)
		go func() { c <- k.Advlock(ctx, as(pid), f, abi.F_SETLKW, flock(abi.F_WRLCK, start, 1)) }()
		return c
	}
	for pid := range int32(3) { // a ring of three, one byte each
		k.ok(k.lock(f, pid, abi.F_WRLCK, int64(pid), 1))
	}
	c0 := wait(ctx, 0, 1)
	k.asleep(f, 1)
	short, cancel := context.WithCancel(ctx)
	c1 := wait(short, 1, 2)
	k.asleep(f, 2)
	k.is(<-wait(ctx, 2, 0), abi.EDEADLK)
	k.is(k.lock(f, 2, abi.F_WRLCK, 0, 1), abi.EAGAIN)
	cancel()
	k.is(<-c1, abi.EINTR)
	c2 := wait(ctx, 2, 0) // now it is none
	k.asleep(f, 2)
	k.UnlockAll(1)
	k.ok(<-c0)
	k.UnlockClosed(0, f)
	k.ok(<-c2)
	k.UnlockAll(2)
	k.none(f)
}

func TestFlock(t *testing.T) {
	k := newKern(t, variants[0], Options{})
	k.write("/f", "x")
	a, b := k.open("/f", abi.O_RDONLY), k.open("/f", abi.O_RDWR)
	nb := func(f *file.File, op int) error { return k.Flock(ctx, as(2), f, op|abi.LOCK_NB) }
	k.is(nb(a, abi.LOCK_SH|abi.LOCK_EX), abi.EINVAL)
	k.is(nb(a, 0), abi.EINVAL)
	k.ok(nb(a, abi.LOCK_SH))
	k.ok(nb(b, abi.LOCK_SH))
	k.is(nb(b, abi.LOCK_EX), abi.EAGAIN) // one process, two files
	k.is(k.lock(b, 2, abi.F_WRLCK, 5, 1), abi.EAGAIN)
	q := flock(abi.F_WRLCK, 5, 1)
	if k.ok(k.Advlock(ctx, as(2), b, abi.F_GETLK, q)); *q != (abi.Flock{Type: abi.F_RDLCK, Pid: -1}) {
		t.Errorf("%+v", q)
	}
	// Two that both want more: each gives up what it has, and both get it.
	var wg sync.WaitGroup
	for _, f := range []*file.File{a, b} {
		wg.Go(func() {
			if err := k.Flock(ctx, as(2), f, abi.LOCK_EX); err != nil {
				t.Error(err)
			}
			k.Flock(ctx, as(2), f, abi.LOCK_UN)
		})
	}
	wg.Wait()
	k.none(a)
	k.ok(nb(a, abi.LOCK_EX))
	done := make(chan error)
	go func() { done <- k.Flock(ctx, as(2), b, abi.LOCK_EX) }()
	k.asleep(b, 1)
	a.Hold()
	a.Release(ctx) // a duplicate is closed
	k.asleep(b, 1)
	a.Release(ctx) // the last one
	k.ok(<-done)
	v := vnodeOf(b)
	b.Release(ctx)
	if n := len(v.lockHead().locks); n != 0 {
		t.Errorf("%d locks of closed files", n)
	}
}

func TestSocketNode(t *testing.T) {
	each(t, func(t *testing.T, k *kern) {
		k.ok(k.Mkdir(ctx, su(), "/d", 0o755))
		k.write("/d/f", "x")
		n, err := k.MakeSocket(ctx, su(), "/d/s")
		k.ok(err)
		if st := k.stat("/d/s"); st.Type != abi.VSOCK {
			t.Errorf("%+v", st)
		}
		for path, want := range map[string]abi.Errno{"/d/s": abi.EADDRINUSE, "/d": abi.EADDRINUSE, "/none/s": abi.ENOENT, "/d/f/s": abi.ENOTDIR} {
			_, err := k.MakeSocket(ctx, su(), path)
			k.is(err, want)
		}
		_, err = k.MakeSocket(ctx, user(7), "/d/u")
		k.is(err, abi.EACCES)
		n.Set("here")
		for path, want := range map[string]abi.Errno{"/d/x": abi.ENOENT, "/d/f": abi.ENOTSOCK, "/d": abi.ENOTSOCK} {
			_, err := k.FindSocket(ctx, su(), path)
			k.is(err, want)
		}
		k.ok(k.Chmod(ctx, su(), "/d/s", 0o755, true))
		_, err = k.FindSocket(ctx, user(7), "/d/s")
		k.is(err, abi.EACCES)
		k.ok(k.Symlink(ctx, su(), "d/s", "/link"))
		m, err := k.FindSocket(ctx, su(), "/link")
		k.ok(err)
		if m.Get() != "here" {
			t.Errorf("%v", m.Get())
		}
		m.Release()
		k.ok(k.Unlink(ctx, su(), "/d/s", 0))
		_, err = k.FindSocket(ctx, su(), "/d/s")
		k.is(err, abi.ENOENT)
		n.Release()
	})
}
