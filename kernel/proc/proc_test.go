package proc

import (
	"context"
	"math"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rumpus-kernel/rumpus/kernel/event"
	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/kernel/vfs"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func table() *Table {
	f := &file.Table{}
	f.Max.Store(1000)
	return NewTable(f)
}

func TestPids(t *testing.T) {
	tab := table()
	defer tab.Close(context.Background())
	if p := tab.Proc0; p.Pid != 0 || p.Login() != "rumphobo" || p.Cred() != abi.Root {
		t.Errorf("proc0: pid %d, login %q", p.Pid, p.Login())
	}
	p, err := tab.New("first", abi.NewCred(5, 5))
	if err != nil || p.Pid != 2 {
		t.Fatalf("the first process is pid %d, %v; want 2", p.Pid, err)
	}
	if q, err := tab.Find(2); err != nil || q != p || q.Name() != "first" {
		t.Errorf("find: %v %v", q, err)
	}
	if _, err := tab.Find(99); err != abi.ESRCH {
		t.Errorf("find of none: %v", err)
	}
	tab.mu.Lock()
	tab.next = math.MaxInt32
	tab.mu.Unlock()
	q, err := tab.New("wrapped", abi.Root)
	if err != nil || q.Pid != 3 {
		t.Errorf("after the last pid comes %d, %v; want 3 (2 is in use)", q.Pid, err)
	}
}

func TestLwps(t *testing.T) {
	tab := table()
	defer tab.Close(context.Background())
	p, _ := tab.New("p", abi.Root)
	var ls []*Lwp
	seen := map[int32]bool{}
	for range 128 {
		l, err := p.Enter()
		if err != nil {
			t.Fatal(err)
		}
		if l.Lid == 0 || seen[l.Lid] {
			t.Errorf("lid %d twice or zero", l.Lid)
		}
		seen[l.Lid] = true
		if c := l.Caller(); c.Pid != p.Pid || c.Lid != l.Lid {
			t.Errorf("caller %+v", c)
		}
		ls = append(ls, l)
	}
	if p.NLwps() != 128 {
		t.Errorf("%d lwps", p.NLwps())
	}
	p.SetCred(abi.NewCred(7, 7))
	if ls[0].Caller().Cred.Euid != 0 {
		t.Error("a call in progress changed its credentials")
	}
	for _, l := range ls {
		l.Leave()
	}
	l, _ := p.Enter()
	if l.Caller().Cred.Euid != 7 {
		t.Error("the next call has the old credentials")
	}
	l.Leave()
	for _, last := range []uint32{math.MaxInt32 - 2, math.MaxInt32 - 1, math.MaxInt32, math.MaxUint32} {
		p.lwps = sync.Pool{}
		p.lastID.Store(last)
		if l, _ = p.Enter(); l.Lid <= 0 {
			t.Errorf("lid %d after %d others", l.Lid, last)
		}
		l.Leave()
	}
}

// TestExit ends a process while calls wait in it: they are interrupted, and
// Exit returns when descriptors are closed and hooks have run.
func TestExit(t *testing.T) {
	tab := table()
	released := 0
	tab.SetHooks(Hooks{VFSInit: vfs.NewCwdinfo, VFSRelease: func(c *vfs.Cwdinfo) { released++; c.Release() }})
	p, _ := tab.New("p", abi.Root)
	if p.Cwd() == nil || p.Cwd() != p.Cwd() {
		t.Error("no working directory")
	}
	f, _ := tab.files.New(file.TypeMisc, file.NoOps{}, nil, abi.O_RDWR, abi.Root)
	p.Fd.Alloc(f, 0, false)
	var sel event.Selinfo
	var wg sync.WaitGroup
	started := make(chan struct{}, 8)
	for range 8 {
		wg.Go(func() {
			l, err := p.Enter()
			if err != nil {
				t.Error(err)
				return
			}
			defer l.Leave()
			started <- struct{}{}
			if err := sel.Wait(p.Context(), func() error { return abi.EAGAIN }); err != abi.EINTR {
				t.Errorf("the wait ended with %v", err)
			}
		})
	}
	for range 8 {
		<-started
	}
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	p.Exit(ctx)
	p.Exit(ctx) // again is no harm
	wg.Wait()
	if _, err := p.Enter(); err != abi.ESRCH {
		t.Errorf("a call in a process that is gone: %v", err)
	}
	if _, err := tab.Find(p.Pid); err != abi.ESRCH || tab.files.Count() != 0 || released != 1 {
		t.Errorf("left behind: proc %v, %d files, %d released", err, tab.files.Count(), released)
	}
	tab.Close(ctx)
	if _, err := tab.New("late", abi.Root); err != abi.ESRCH {
		t.Errorf("a process after the table is closed: %v", err)
	}
}

func TestCurrent(t *testing.T) {
	tab := table()
	defer tab.Close(context.Background())
	l, _ := tab.Proc0.Enter()
	defer l.Leave()
	if Current(context.Background()) != nil || Current(With(context.Background(), l)) != l {
		t.Error("curlwp is not what was put in")
	}
}
