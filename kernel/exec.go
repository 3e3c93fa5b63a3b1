package kernel

import (
	"context"
	"fmt"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/proc"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// maxOrphans bounds the processes whose program has gone and whose next one has
// not come.
const maxOrphans = 64

// maxProgName bounds a program's name, in bytes.
const maxProgName = 31

// errGiven is what a client's calls answer once its process is another's.
var errGiven = fmt.Errorf("the process was handed on (lwproc_exec): %w", abi.ESRCH)

// exec is lwproc_exec, the first half of exec(2) for a client: Path[0] is the
// name of the program to come, Out takes the cookie by which it becomes the
// process (lwproc_attach). Until then, and if it does not come in time, the
// process stays the client's; if the client has gone by then, it ends.
func (p *Proc) exec(a *abi.Sysargs) error {
	a.R, a.NO = [2]uint64{}, 0
	k, q := p.k, p.p.Load()
	k.sys.Calls.Inc()
	name := a.Path[0]
	if name == "" || len(name) > maxProgName || len(a.Out) < abi.CookieSize {
		return abi.EINVAL
	}
	for i := range len(name) {
		if name[i] < ' ' || name[i] > '~' {
			return abi.EINVAL
		}
	}
	switch {
	case p.given.Load():
		return errGiven
	case q.Context().Err() != nil:
		return gone(q)
	case q.Fd.Shared():
		return fmt.Errorf("lwproc_exec: process %d shares its descriptors: %w", q.Pid, abi.EBUSY)
	}
	var cookie [abi.CookieSize]byte
	k.hyp.Entropy(cookie[:])
	late := func() { k.execLate(cookie) }
	k.forks.mu.Lock()
	defer k.forks.mu.Unlock()
	if p.pending || p.closed {
		return abi.EBUSY
	}
	p.pending = true
	t := time.AfterFunc(claimTime, late)
	stop := context.AfterFunc(q.Context(), late)
	if k.forks.m == nil {
		k.forks.m = make(map[[abi.CookieSize]byte]*forked)
	}
	k.forks.m[cookie] = &forked{p: q, uid: q.Cred().Ruid, from: p, name: name, stop: func() { t.Stop(); stop() }}
	a.NO = copy(a.Out, cookie[:])
	return nil
}

// execLate is the end of a cookie that nobody has used.
func (k *Kernel) execLate(cookie [abi.CookieSize]byte) {
	k.forks.mu.Lock()
	f := k.forks.m[cookie]
	if f == nil {
		k.forks.mu.Unlock()
		return
	}
	delete(k.forks.m, cookie)
	f.from.pending = false
	closed := f.from.closed
	if closed {
		k.forks.orphans--
	}
	k.forks.mu.Unlock()
	f.stop()
	if closed {
		f.p.Exit(context.Background())
	}
}

// closeForExec notes that the client goes, and reports whether its process is to
// live nevertheless: it is another's, or will be.
func (p *Proc) closeForExec() bool {
	p.k.forks.mu.Lock()
	defer p.k.forks.mu.Unlock()
	first := !p.closed
	p.closed = true
	switch {
	case p.given.Load():
		return true
	case !p.pending:
		return false
	case first && p.k.forks.orphans >= maxOrphans:
		p.closed = false // the cookie is forgotten with the process
		return false
	case first:
		p.k.forks.orphans++
		p.p.Load().SetTell(nil)
	}
	return true
}

// execed is the second half: the process has another program.
func (k *Kernel) execed(ctx context.Context, q *proc.Proc, name string) {
	for _, fd := range q.Fd.CloexecFds() {
		f, err := q.Fd.Get(fd)
		if err != nil {
			continue
		}
		_ = q.Fd.Close(ctx, fd)
		k.VFS.UnlockClosed(q.Pid, f)
		_ = f.Release(ctx)
	}
	q.Execed(name)
}
