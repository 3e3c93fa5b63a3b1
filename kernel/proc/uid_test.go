package proc

import (
	"context"
	"testing"

	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/kernel/uidinfo"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// TestUidinfoCounts: processes and lwps count for their real user, move with
// him, are limited, and all counts are 0 in the end.
func TestUidinfoCounts(t *testing.T) {
	ctx := context.Background()
	files := &file.Table{}
	files.Max.Store(100)
	tb := NewTable(files)
	counts := func(uid uint32) uidinfo.Counts { return tb.Uids.Find(uid).Counts() }
	p, err := tb.New("a", abi.NewCred(7, 7))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.SetRlimit(abi.RLIMIT_NPROC, Rlimit{2, 2}, nil); err != nil {
		t.Fatal(err)
	}
	if err := p.SetRlimit(abi.RLIMIT_NTHR, Rlimit{1, 1}, nil); err != nil {
		t.Fatal(err)
	}
	q, err := p.Rfork(RFCFDG)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Rfork(RFCFDG); abi.ErrnoOf(err) != abi.EAGAIN {
		t.Errorf("a third process: %v", err)
	}
	l, err := p.NewLwp()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.NewLwp(); abi.ErrnoOf(err) != abi.EAGAIN {
		t.Errorf("a second lwp: %v", err)
	}
	if c := counts(7); c != (uidinfo.Counts{Procs: 2, Lwps: 1}) {
		t.Errorf("7: %+v", c)
	}
	p.SetCred(abi.NewCred(8, 8))
	if c := counts(8); c != (uidinfo.Counts{Procs: 1, Lwps: 1}) {
		t.Errorf("8: %+v", c)
	}
	if c := counts(7); c != (uidinfo.Counts{Procs: 1}) {
		t.Errorf("7: %+v", c)
	}
	if err := l.Release(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := p.NewLwp(); err != nil { // never released
		t.Errorf("an lwp after one was released: %v", err)
	}
	p.Exit(ctx)
	q.Exit(ctx)
	for _, uid := range []uint32{7, 8} {
		if c := counts(uid); c != (uidinfo.Counts{}) {
			t.Errorf("%d in the end: %+v", uid, c)
		}
	}
	if n := counts(0).Procs; n != 1 {
		t.Errorf("root has %d processes, proc0 being one", n)
	}
	tb.Close(ctx)
}
