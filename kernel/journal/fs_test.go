package journal_test

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/journal"
	"github.com/rumpus-kernel/rumpus/kernel/journal/journalsim"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

var bg = context.Background()

// rig is an FS over a process that nothing disturbs.
func rig(o journal.Options) (*journal.FS, *journalsim.Store, *journalsim.Proc) {
	s := &journalsim.Store{}
	p := journalsim.NewProc(s)
	o.Backing, o.Seq, o.Root = s, 1, journalsim.Handle(1)
	return journal.New(p, o), s, p
}

func create(ctx context.Context, f *journal.FS, name string) error {
	_, err := f.Create(ctx, vfsops.CreateReq{Op: vfsops.Op{Caller: abi.KernelCaller}, Dir: journalsim.Handle(1), Name: []byte(name)})
	return err
}

func wants(t *testing.T, what string, err error, want abi.Errno) {
	t.Helper()
	if abi.ErrnoOf(err) != want {
		t.Errorf("%s: %v, not %v", what, err, want)
	}
}

// TestFull: when no checkpoint can be taken mutators get its error once the
// journal is full, and work again when one can.
func TestFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, s, _ := rig(journal.Options{Limits: journal.Limits{Entries: 8}})
		defer f.Close()
		s.Fail(abi.ENOMEM)
		var err error
		n := 0
		for ; err == nil && n < 100; n++ {
			err = create(bg, f, strconv.Itoa(n))
		}
		wants(t, "create", err, abi.ENOMEM)
		if n != 9 {
			t.Errorf("%d creates", n)
		}
		wants(t, "checkpoint", f.Checkpoint(bg), abi.ENOMEM)
		s.Fail(nil)
		time.Sleep(2 * journal.RetryAfter)
		wants(t, "create", create(bg, f, "more"), 0)
		wants(t, "checkpoint", f.Checkpoint(bg), 0)
		if st := f.Stats(); st.Entries != 0 || st.Bytes != 0 || st.Checkpoint != st.Seq {
			t.Errorf("%+v", st)
		}
	})
}

// TestNobodyComes: callers wait as long as they were told, or until it is known
// that no process will come, or they give up; and all of it ends with Close.
func TestNobodyComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _, p := rig(journal.Options{Wait: 5 * time.Second})
		wants(t, "create", create(bg, f, "a"), 0)
		p.Kill()
		from := time.Now()
		wants(t, "create", create(bg, f, "b"), abi.EIO)
		if d := time.Since(from); d != 5*time.Second {
			t.Errorf("waited %v", d)
		}
		if st := f.Stats(); st.Orphans != 0 || st.Entries != 1 || st.Up {
			t.Errorf("%+v", st)
		}
		f.Down()
		ctx, cancel := context.WithTimeout(bg, time.Second)
		_, err := f.Getattr(ctx, journalsim.Handle(1))
		cancel()
		wants(t, "getattr", err, abi.ETIMEDOUT)
		done := make(chan error, 2)
		go func() { done <- create(bg, f, "c") }()
		synctest.Wait()
		f.Fail()
		wants(t, "create", <-done, abi.EIO)
		f.Down()
		go func() { done <- create(bg, f, "d") }()
		go func() { done <- f.Checkpoint(bg) }()
		synctest.Wait()
		f.Close()
		wants(t, "create", <-done, abi.EIO)
		wants(t, "checkpoint", <-done, abi.EIO)
	})
}

// TestLateProcess: whoever was given up on is not executed later; what was
// answered is.
func TestLateProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, s, p := rig(journal.Options{Wait: time.Second})
		defer f.Close()
		wants(t, "create", create(bg, f, "a"), 0)
		p.Kill()
		wants(t, "create", create(bg, f, "b"), abi.EIO)
		f.Down()
		next := journalsim.NewProc(s)
		wants(t, "refused", f.Recover(bg, func(context.Context, abi.OpSeq) (vfsops.FS, error) { return nil, abi.EBUSY }), abi.EBUSY)
		wants(t, "recover", f.Recover(bg, func(context.Context, abi.OpSeq) (vfsops.FS, error) { return next, nil }), 0)
		if next.Nodes() != 2 || next.Named("a") == 0 {
			t.Errorf("%s", next.Dump())
		}
		f.Degrade(true)
		wants(t, "create when degraded", create(bg, f, "c"), abi.EIO)
		_, err := f.Getattr(bg, journalsim.Handle(1))
		wants(t, "getattr when degraded", err, 0)
		f.Degrade(false)
		wants(t, "create", create(bg, f, "c"), 0)
	})
}

// TestOutsideKills: a process that somebody else kills while a mutator is alone
// in flight must be killed five times before that counts.
func TestOutsideKills(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, s, p := rig(journal.Options{Wait: time.Hour})
		defer f.Close()
		kill := func(p *journalsim.Proc) {
			p.Around = func(op string, after bool, _ string) bool { return op == "create" && after }
		}
		kill(p)
		done := make(chan error, 1)
		go func() { done <- create(bg, f, "x") }()
		synctest.Wait()
		n := 0
		for ; len(done) == 0 && n < 20; n++ {
			f.Down()
			err := f.Recover(bg, func(context.Context, abi.OpSeq) (vfsops.FS, error) {
				q := journalsim.NewProc(s)
				kill(q)
				return q, nil
			})
			if err != nil && !journal.Died(err) || errors.Is(err, abi.EINTR) {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		wants(t, "create", <-done, abi.EIO)
		if n != journal.OutsideKills+1 {
			t.Errorf("%d restarts", n)
		}
	})
}
