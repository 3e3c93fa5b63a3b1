package proc

import (
	"context"
	"errors"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// The cases of NetBSD's tests/rump/rumpkern/t_lwproc.c, with lwps that are
// passed instead of switched to.

func TestNewLwp(t *testing.T) {
	ctx := context.Background()
	tab := table()
	defer tab.Close(ctx)
	l, err := tab.NewLwp(0)
	if err != nil || l.Proc != tab.Proc0 {
		t.Fatalf("an lwp of proc0: %v", err)
	}
	l2, err := tab.NewLwp(0)
	if err != nil || l2 == l || l2.Lid == l.Lid || l.Lid == 0 || l2.Lid == 0 {
		t.Errorf("a second one: lids %d, %d, %v", l.Lid, l2.Lid, err)
	}
	if _, err := tab.NewLwp(37); !errors.Is(err, abi.ESRCH) {
		t.Errorf("no such process: %v", err)
	}
	p, _ := tab.New("p", abi.Root)
	x, _ := p.Enter() // keeps it from ending
	done := make(chan struct{})
	go func() { p.Exit(ctx); close(done) }()
	<-p.Context().Done()
	if _, err := tab.NewLwp(p.Pid); !errors.Is(err, abi.EBUSY) {
		t.Errorf("an exiting process: %v", err)
	}
	x.Leave()
	<-done
	for _, l := range []*Lwp{l, l2} {
		if err := l.Release(ctx); err != nil {
			t.Error(err)
		}
	}
	if err := l.Release(ctx); !errors.Is(err, abi.EBUSY) {
		t.Errorf("released twice: %v", err)
	}
	if err := l.Begin(); !errors.Is(err, abi.EBUSY) {
		t.Errorf("used after its release: %v", err)
	}
}

// TestLwps128 has 128 lwps in one process at the same time.
func TestLwps128(t *testing.T) {
	ctx := context.Background()
	tab := table()
	defer tab.Close(ctx)
	c, err := tab.Proc0.Rfork(0)
	if err != nil {
		t.Fatal(err)
	}
	c.ExitWithLastLwp()
	var ls []*Lwp
	seen := map[int32]bool{}
	for range 128 {
		l, err := c.NewLwp()
		if err != nil || seen[l.Lid] || l.Lid == 0 {
			t.Fatalf("lid %d: %v", l.Lid, err)
		}
		seen[l.Lid] = true
		if err := l.Begin(); err != nil || l.Caller().Pid != c.Pid || l.Caller().Lid != l.Lid {
			t.Errorf("%+v, %v", l.Caller(), err)
		}
		ls = append(ls, l)
	}
	if c.NLwps() != 128 {
		t.Errorf("%d lwps in calls", c.NLwps())
	}
	for i, l := range ls {
		if err := l.Begin(); !errors.Is(err, abi.EBUSY) {
			t.Errorf("a second call of one lwp: %v", err)
		}
		if err := l.Release(ctx); !errors.Is(err, abi.EBUSY) {
			t.Errorf("released in a call: %v", err)
		}
		l.End()
		if _, err := tab.Find(c.Pid); err != nil {
			t.Fatalf("gone after %d of 128", i)
		}
		if err := l.Release(ctx); err != nil {
			t.Error(err)
		}
	}
	if _, err := tab.Find(c.Pid); err != abi.ESRCH {
		t.Errorf("the process outlives its last lwp: %v", err)
	}
}

// TestProcCreds: the lwps of a process share its credentials.
func TestProcCreds(t *testing.T) {
	ctx := context.Background()
	tab := table()
	defer tab.Close(ctx)
	p, _ := tab.New("p", abi.NewCred(22, 22))
	a, _ := p.NewLwp()
	b, _ := p.NewLwp()
	p.SetCred(abi.NewCred(11, 22))
	for _, l := range []*Lwp{a, b} {
		if err := l.Begin(); err != nil || l.Caller().Cred.Euid != 11 || l.Caller().Cred.Egid != 22 {
			t.Errorf("%+v, %v", l.Caller().Cred, err)
		}
		l.End()
	}
}

// TestInherit: a child has its parent's credentials, group, session and limits;
// changing them does not touch the parent.
func TestInherit(t *testing.T) {
	ctx := context.Background()
	tab := table()
	defer tab.Close(ctx)
	p, _ := tab.New("p", abi.NewCred(66, 77))
	if err := p.Setsid(); err != nil {
		t.Fatal(err)
	}
	p.SetLogin("me")
	p.SetRlimit(abi.RLIMIT_FSIZE, Rlimit{5, 10}, nil)
	c, err := p.Rfork(RFFDG)
	if err != nil {
		t.Fatal(err)
	}
	r, _ := c.Rlimit(abi.RLIMIT_FSIZE)
	if c.Ppid() != p.Pid || c.Cred() != p.Cred() || c.Pgid() != p.Pid || c.Sid() != p.Pid || c.Login() != "me" || (r != Rlimit{5, 10}) {
		t.Errorf("ppid %d, cred %+v, pgid %d, sid %d, login %q, limit %v", c.Ppid(), c.Cred(), c.Pgid(), c.Sid(), c.Login(), r)
	}
	l, _ := c.Enter()
	if l.Caller().FsizeOK(6) || !l.Caller().FsizeOK(5) {
		t.Error("the child's limit is not enforced")
	}
	l.Leave()
	c.SetCred(abi.Root)
	if p.Cred().Euid != 66 {
		t.Error("the parent's credentials changed")
	}
	p.Exit(ctx)
	if c.Ppid() != 0 || c.Pgid() != p.Pid {
		t.Errorf("an orphan: ppid %d, pgid %d", c.Ppid(), c.Pgid())
	}
}

// TestRforkFlags: both flags, or unknown ones, are EINVAL.
func TestRforkFlags(t *testing.T) {
	tab := table()
	defer tab.Close(context.Background())
	for _, f := range []int{RFFDG | RFCFDG, 4, -1} {
		if _, err := tab.Proc0.Rfork(f); err != abi.EINVAL {
			t.Errorf("flags %d: %v", f, err)
		}
	}
}

// TestNullSwitch: a context without an lwp has none.
func TestNullSwitch(t *testing.T) {
	tab := table()
	defer tab.Close(context.Background())
	l, _ := tab.NewLwp(0)
	ctx := With(context.Background(), l)
	if Current(ctx) != l || Current(With(ctx, nil)) != nil || Current(context.Background()) != nil {
		t.Error("curlwp")
	}
}

// TestProc0 holds what the seed gives proc0.
func TestProc0(t *testing.T) {
	tab := table()
	defer tab.Close(context.Background())
	p := tab.Proc0
	if p.Pid != 0 || p.Ppid() != 0 || p.Pgid() != 0 || p.Jobc() != 1 || p.Sid() != 0 || p.Login() != "rumphobo" {
		t.Errorf("pid %d ppid %d pgid %d jobc %d sid %d login %q", p.Pid, p.Ppid(), p.Pgid(), p.Jobc(), p.Sid(), p.Login())
	}
	if l, _ := p.NewLwp(); l.Lid != 1 {
		t.Errorf("lwp0 has lid %d", l.Lid)
	}
	for i := range abi.RLIM_NLIMITS {
		want := Rlimit{}
		if i == abi.RLIMIT_FSIZE || i == abi.RLIMIT_NOFILE || i == abi.RLIMIT_SBSIZE {
			want.Cur = abi.RLIM_INFINITY
		}
		if r, err := p.Rlimit(i); r != want || err != nil {
			t.Errorf("limit %d: %v, %v", i, r, err)
		}
	}
}

// TestPgrps is setpgid(2) and setsid(2) with their errors.
func TestPgrps(t *testing.T) {
	tab := table()
	defer tab.Close(context.Background())
	p, _ := tab.New("p", abi.Root)
	c, _ := p.Rfork(0)
	other, _ := tab.New("other", abi.Root)
	if p.Pgid() != 0 || p.Sid() != 0 {
		t.Errorf("a new process: pgid %d, sid %d", p.Pgid(), p.Sid())
	}
	for _, tc := range []struct {
		p         *Proc
		pid, pgid int32
		want      error
	}{
		{p, 0, -1, abi.EINVAL},
		{p, other.Pid, 0, abi.ESRCH}, // no child
		{p, 99, 0, abi.ESRCH},
		{p, 0, 99, abi.EPERM}, // no such group
		{p, 0, 0, nil},
		{p, 0, p.Pid, nil},
		{p, c.Pid, p.Pid, nil},
		{p, c.Pid, c.Pid, nil},
	} {
		if err := tc.p.Setpgid(tc.pid, tc.pgid); err != tc.want {
			t.Errorf("setpgid(%d, %d): %v, not %v", tc.pid, tc.pgid, err, tc.want)
		}
	}
	if p.Pgid() != p.Pid || c.Pgid() != c.Pid {
		t.Errorf("pgids %d, %d", p.Pgid(), c.Pgid())
	}
	if err := p.Setsid(); err != abi.EPERM {
		t.Errorf("setsid of a group leader: %v", err)
	}
	if err := other.Setsid(); err != nil || other.Sid() != other.Pid || other.Pgid() != other.Pid || other.Login() != "rumphobo" {
		t.Errorf("setsid: %v, sid %d", err, other.Sid())
	}
	if err := other.Setpgid(0, 0); err != abi.EPERM {
		t.Errorf("setpgid of a session leader: %v", err)
	}
	if err := c.Setpgid(0, other.Pid); err != abi.EPERM {
		t.Errorf("into another session: %v", err)
	}
	if err := other.SetLogin("12345678901234567"); err != abi.EINVAL {
		t.Errorf("a long login: %v", err)
	}
	if other.SetLogin("x"); other.Login() != "x" || p.Login() != "rumphobo" {
		t.Errorf("logins %q, %q", other.Login(), p.Login())
	}
}
