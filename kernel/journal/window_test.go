package journal_test

import (
	"context"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/journal"
	"github.com/rumpus-kernel/rumpus/kernel/journal/journalsim"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// next is a Remount with that process.
func next(p vfsops.FS) journal.Remount {
	return func(context.Context, abi.OpSeq) (vfsops.FS, error) { return p, nil }
}

// TestWindowShrinks: deaths that follow each other make the window smaller, so
// that a replay ends before the next one; it grows again when they are rare.
func TestWindowShrinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, s, p := rig(journal.Options{Wait: time.Hour})
		defer f.Close()
		if w := f.Stats().Window; w != 10*time.Millisecond {
			t.Errorf("%v at first", w)
		}
		for range 10 {
			p.Kill()
			f.Down()
			p = journalsim.NewProc(s)
			wants(t, "recover", f.Recover(bg, next(p)), 0)
			time.Sleep(20 * time.Millisecond)
		}
		if w := f.Stats().Window; w > 20*time.Millisecond/8 {
			t.Errorf("%v after deaths every 20 ms", w)
		}
		time.Sleep(3 * time.Second)
		if w := f.Stats().Window; w != 10*time.Millisecond {
			t.Errorf("%v when all is quiet", w)
		}
	})
}

// TestReplayLongerThanLife: each process is killed 20 ms after its start, and
// to replay all takes four times as long. Checkpoints during the replay bring it
// to an end.
func TestReplayLongerThanLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, s, p := rig(journal.Options{Wait: time.Hour})
		defer f.Close()
		const files = 80
		for i := range files {
			wants(t, "create", create(bg, f, strconv.Itoa(i)), 0)
		}
		if st := f.Stats(); st.Entries != files {
			t.Fatalf("%+v", st)
		}
		n := 0
		for err := error(nil); n == 0 || err != nil; n++ {
			if n == 40 {
				t.Fatalf("no end: %+v", f.Stats())
			}
			p.Kill()
			f.Down()
			p = journalsim.NewProc(s)
			p.Around = func(op string, after bool, _ string) bool {
				if op == "create" && !after {
					time.Sleep(time.Millisecond)
				}
				return false
			}
			kill := time.AfterFunc(20*time.Millisecond, p.Kill)
			if err = f.Recover(bg, next(p)); err != nil && !journal.Died(err) {
				t.Fatal(err)
			}
			kill.Stop()
		}
		if n < 2 || p.Nodes() != files+1 {
			t.Errorf("%d restarts, %d files", n, p.Nodes()-1)
		}
	})
}

// TestDivergence: a replay that answers something else than the first time is
// noticed, and ends all changes.
func TestDivergence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cheat := true
		f, s, p := rig(journal.Options{Wait: time.Hour, Fault: func(at journal.Fault, e *journal.Entry) {
			if at == journal.FaultReplay && cheat {
				e.Op.Now.Sec += 5
			}
		}})
		defer f.Close()
		wants(t, "create", create(bg, f, "a"), 0)
		p.Kill()
		f.Down()
		p = journalsim.NewProc(s)
		wants(t, "recover", f.Recover(bg, next(p)), 0)
		if !f.Stats().Degraded {
			t.Error("nobody noticed")
		}
		wants(t, "create", create(bg, f, "b"), abi.EIO)
		wants(t, "checkpoint", f.Checkpoint(bg), abi.EIO)
		_, err := f.Getattr(bg, journalsim.Handle(1))
		wants(t, "getattr", err, 0)
		f.Degrade(false)
		wants(t, "create", create(bg, f, "b"), abi.EIO)
	})
}

// other is a process that is not what the first one was.
type other struct {
	*journalsim.Proc
	caps vfsops.Caps
	root abi.Fileid
}

func (o other) Caps() vfsops.Caps { return o.Proc.Caps() &^ o.caps }

func (o other) Root(ctx context.Context) (vfsops.Entry, error) {
	e, err := o.Proc.Root(ctx)
	e.Handle.File += o.root
	return e, err
}

// TestOtherProcess: a process that can do something else, or has another root,
// is refused.
func TestOtherProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, s, p := rig(journal.Options{Wait: time.Hour})
		defer f.Close()
		p.Kill()
		f.Down()
		wants(t, "other capabilities", f.Recover(bg, next(other{Proc: journalsim.NewProc(s), caps: vfsops.CapFixedids})), abi.EPROGMISMATCH)
		wants(t, "other root", f.Recover(bg, next(other{Proc: journalsim.NewProc(s), root: 1})), abi.EIO)
		if f.Up() {
			t.Error("it is up")
		}
		wants(t, "recover", f.Recover(bg, next(other{Proc: journalsim.NewProc(s)})), 0)
	})
}

// TestDownDuring: a process that is said to be dead while Recover is at work is
// not let in.
func TestDownDuring(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f *journal.FS
		again := true
		f, s, p := rig(journal.Options{Wait: time.Hour, Fault: func(at journal.Fault, _ *journal.Entry) {
			if at == journal.FaultOpen && again {
				again = false
				f.Down()
			}
		}})
		defer f.Close()
		p.Kill()
		f.Down()
		if err := f.Recover(bg, next(journalsim.NewProc(s))); !journal.Died(err) || f.Up() {
			t.Errorf("recover: %v, up %v", err, f.Up())
		}
		wants(t, "recover", f.Recover(bg, next(journalsim.NewProc(s))), 0)
	})
}

// TestFullBytes: the journal is bounded in bytes, too.
func TestFullBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, s, _ := rig(journal.Options{Limits: journal.Limits{Bytes: 8 << 10}})
		defer f.Close()
		s.Fail(abi.ENOMEM)
		var err error
		n := 0
		for ; err == nil && n < 100; n++ {
			err = create(bg, f, strconv.Itoa(n))
		}
		wants(t, "create", err, abi.ENOMEM)
		if st := f.Stats(); n > 20 || st.Bytes > 9<<10 {
			t.Errorf("%d creates, %+v", n, st)
		}
	})
}

// syncing is a Store that has to survive the host.
type syncing struct {
	*journalsim.Store
	synced abi.OpSeq
}

func (s *syncing) Sync(context.Context) error {
	s.synced = s.Seq()
	return nil
}

// TestSyncs: fsync is a checkpoint, which is then on stable storage; so is an
// unmount.
func TestSyncs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &syncing{Store: &journalsim.Store{}}
		f := journal.New(journalsim.NewProc(s.Store), journal.Options{Backing: s, Seq: 1, Root: journalsim.Handle(1)})
		defer f.Close()
		wants(t, "create", create(bg, f, "a"), 0)
		wants(t, "sync", f.Sync(bg, journalsim.Handle(1), false), 0)
		if at := f.Stats().Seq; s.synced != at || at < 2 || !f.Syncs() {
			t.Errorf("synced %d of %d", s.synced, at)
		}
		if p := journalsim.NewProc(s.Store); p.Named("a") == 0 {
			t.Errorf("%s", p.Dump())
		}
	})
}

// TestContentsAreKept: what was written is replayed as it was, whatever the
// caller has done with his memory since.
func TestContentsAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, s, p := rig(journal.Options{Wait: time.Hour})
		defer f.Close()
		m, err := f.Create(bg, vfsops.CreateReq{Op: vfsops.Op{Caller: abi.KernelCaller}, Dir: journalsim.Handle(1), Name: []byte("a")})
		wants(t, "create", err, 0)
		buf := []byte("what was written")
		_, err = f.Write(bg, vfsops.WriteReq{Op: vfsops.Op{Caller: abi.KernelCaller}, Node: m.Node.Handle}, abi.IovOf(buf))
		wants(t, "write", err, 0)
		clear(buf)
		p.Kill()
		f.Down()
		wants(t, "recover", f.Recover(bg, next(journalsim.NewProc(s))), 0)
		n, err := f.Read(bg, m.Node.Handle, 0, abi.IovOf(buf))
		wants(t, "read", err, 0)
		if string(buf[:n]) != "what was written" {
			t.Errorf("%q", buf[:n])
		}
	})
}

// numbered notes with which number a file was made.
type numbered struct {
	*journalsim.Proc
	seq map[string]abi.OpSeq
}

func (n numbered) Create(ctx context.Context, req vfsops.CreateReq) (vfsops.Mutated, error) {
	n.seq[string(req.Name)] = req.Op.Seq
	return n.Proc.Create(ctx, req)
}

// TestOrphanNumber: what was in flight at a death is done after all that was
// answered, and has a number behind theirs: a checkpoint during the replay covers
// its first one.
func TestOrphanNumber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, s, p := rig(journal.Options{Wait: time.Hour})
		defer f.Close()
		hold := make(chan struct{})
		p.Around = func(_ string, after bool, name string) bool {
			if name == "late" && !after {
				<-hold
			}
			return false
		}
		late := make(chan error, 1)
		go func() { late <- create(bg, f, "late") }()
		synctest.Wait()
		for i := range 80 {
			wants(t, "create", create(bg, f, strconv.Itoa(i)), 0)
		}
		p.Kill()
		close(hold)
		synctest.Wait()
		f.Down()
		n := numbered{journalsim.NewProc(s), map[string]abi.OpSeq{}}
		n.Around = func(op string, after bool, _ string) bool {
			if op == "create" && !after {
				time.Sleep(time.Millisecond)
			}
			return false
		}
		wants(t, "recover", f.Recover(bg, next(n)), 0)
		wants(t, "the late one", <-late, 0)
		if s.Seq() == 0 {
			t.Error("no checkpoint during the replay")
		}
		if n.seq["late"] <= n.seq["79"] {
			t.Errorf("number %d after %d", n.seq["late"], n.seq["79"])
		}
	})
}
