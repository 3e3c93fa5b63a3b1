// Package proc has processes and lwps: who owns descriptors, a working
// directory and credentials, and who executes a system call.
//
// A proc owns resources; an lwp is one thread of kernel work in it, passed
// explicitly. proc0 is the kernel itself, with lid 1 of its own; the first
// process made is pid 2, as in the seed, because "the master process pretends
// to be init". A client of sysproxy and an embedder's client are one proc
// each.
//
// proc0 has process group 0 (job-control count 1) in session 0, whose login name
// is "rumphobo", and the limits of the seed. A process of a client is a child of
// proc0 in that group, with limits of its own: RLIMIT_NOFILE (EMFILE; besides
// kern.maxfiles, ENFILE) and RLIMIT_FSIZE (EFBIG) are enforced. Rfork makes a
// child of any process.
//
// The seed binds each lwp to a virtual CPU before it may run, of which there are
// as many as RUMP_NCPU says. Go schedules goroutines onto the host's CPUs
// itself, so a system call takes no CPU and gives none back: that costs nothing
// because it is not done. hw.ncpu shows the configured number.
//
// Life: Table.New makes a proc; Proc.Exit ends it: its context is cancelled, so
// that waits in system calls end with EINTR; when the last call has returned
// its descriptors are closed and it leaves the table. Exit waits for that.
//
// Signals: see Proc.Signal. What a client's handlers would do happens in the
// client; the kernel keeps dispositions, masks and what is pending, and
// interrupts waits.
//
// Lock order: Table.mu before Proc.mu and Proc.sigMu; all are leaves towards
// everything else. Descriptors and the working directory lock for themselves.
// Entering and leaving a call takes no lock.
package proc

import (
	"context"
	"math"
	"sync"
	"sync/atomic"

	"github.com/rumpus-kernel/rumpus/kernel/event"
	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/kernel/uidinfo"
	"github.com/rumpus-kernel/rumpus/kernel/vfs"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// DefaultNofile is the soft limit on descriptors of a process.
const DefaultNofile = 1024

// MaxProcs bounds the table (kern.maxproc).
const MaxProcs = 4096

// Table is all processes of a kernel (allproc).
type Table struct {
	mu     sync.Mutex
	procs  map[int32]*Proc // protected by mu
	pgrps  map[int32]*Pgrp // protected by mu
	next   int32           // last pid given, protected by mu
	Proc0  *Proc
	files  *file.Table
	Uids   *uidinfo.Table
	hooks  Hooks
	closed bool // protected by mu

	sigmodel atomic.Int32 // a Sigmodel, sigUnset until somebody has set it
}

// Hooks are set by the assembly: what the VFS does for processes
// (rump_proc_vfs_init and rump_proc_vfs_release). Nil hooks do nothing.
type Hooks struct {
	VFSInit    func() *vfs.Cwdinfo
	VFSRelease func(*vfs.Cwdinfo)
	Exit       func(pid int32)  // before its descriptors are closed
	Panic      func(why string) // a signal with the model SigPanic
}

// Proc is a process (struct proc).
type Proc struct {
	Pid   int32
	Fd    *file.Filedesc
	Notes event.Klist // EVFILT_PROC

	table  *Table
	ppid   atomic.Int32
	name   atomic.Pointer[string]
	cred   atomic.Pointer[abi.Cred]
	ctx    context.Context
	cancel context.CancelFunc

	state  atomic.Int64  // calls in progress, and exiting
	idle   chan struct{} // closed when the process exits and no call is left
	once   sync.Once     // closes idle
	done   chan struct{}
	lwps   sync.Pool     // lwps between two calls
	lastID atomic.Uint32 // lids given so far

	owned   atomic.Int32  // lwps of NewLwp
	lastLwp atomic.Bool   // ends with the last of them
	fsize   atomic.Uint64 // RLIMIT_FSIZE as abi.Caller has it
	pgrp    *Pgrp         // protected by table.mu; nil when it has left the table

	mu     sync.Mutex // over making and taking away cwd
	limits Limits     // protected by mu

	sigMu    sync.Mutex    // a leaf, but that a parent's is locked before its child's
	sig      sigctx        // protected by sigMu
	sigseq   atomic.Uint64 // signals that hung, see hung
	catches  atomic.Bool   // there has been a handler
	stopped  atomic.Bool   // by a signal
	sigNotes event.Klist   // EVFILT_SIGNAL
	kids     event.Selinfo // wait4

	uid     uint32                      // counted for this user, protected by mu
	counted bool                        // protected by mu
	nthr    int                         // lwps that are counted, protected by mu
	cwd     atomic.Pointer[vfs.Cwdinfo] // made when first wanted
}

// exiting is the bit of Proc.state that lets no new call in. A system call
// costs one atomic addition at each end: callers on other CPUs do not wait for
// each other.
const exiting = 1 << 62

// NewTable makes a table with proc0 in it.
func NewTable(files *file.Table) *Table {
	t := &Table{procs: make(map[int32]*Proc), pgrps: make(map[int32]*Pgrp), next: 1, files: files, Uids: new(uidinfo.Table)}
	t.sigmodel.Store(int32(sigUnset))
	p := t.make(0, "kernel", abi.Root, file.NewFiledesc(math.MaxInt32))
	p.limits = limits0()
	_ = p.bornLocked(&p.limits) // root has no limit
	t.Proc0 = p
	t.procs[0] = p
	t.joinLocked(p, &Pgrp{Jobc: 1, session: &Session{login: "rumphobo"}})
	return t
}

// SetHooks installs the VFS's hooks (the component attaching).
func (t *Table) SetHooks(h Hooks) {
	t.mu.Lock()
	t.hooks = h
	t.mu.Unlock()
}

func (t *Table) make(pid int32, name string, cred *abi.Cred, fd *file.Filedesc) *Proc {
	p := &Proc{Pid: pid, table: t, Fd: fd, idle: make(chan struct{}), done: make(chan struct{})}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.name.Store(&name)
	p.cred.Store(cred)
	p.sig.model = sigUnset
	return p
}

// New makes a process with the next free pid, an empty descriptor table and
// the given credentials. EAGAIN when there are MaxProcs; ESRCH after Close.
func (t *Table) New(name string, cred *abi.Cred) (*Proc, error) {
	return t.add(name, cred, t.Proc0, file.NewFiledesc(DefaultNofile), limitsNew())
}

// add makes a process, a child of parent and in its process group.
func (t *Table) add(name string, cred *abi.Cred, parent *Proc, fd *file.Filedesc, limits Limits) (*Proc, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, abi.ESRCH
	}
	if len(t.procs) > MaxProcs {
		return nil, abi.EAGAIN
	}
	for {
		t.next++
		if t.next <= 1 { // wrapped: 0 and 1 are never given
			t.next = 2
		}
		if t.procs[t.next] == nil {
			break
		}
	}
	p := t.make(t.next, name, cred, fd)
	if err := p.bornLocked(&limits); err != nil {
		p.cancel()
		return nil, err
	}
	p.ppid.Store(parent.Pid)
	p.limits = limits
	if cur := limits[abi.RLIMIT_FSIZE].Cur; cur != abi.RLIM_INFINITY {
		p.fsize.Store(uint64(cur) + 1)
	}
	g := parent.pgrp
	if g == nil { // the parent has just gone
		g = t.Proc0.pgrp
	}
	t.joinLocked(p, g)
	t.procs[p.Pid] = p
	return p, nil
}

// Find looks a process up. ESRCH.
func (t *Table) Find(pid int32) (*Proc, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := t.procs[pid]; p != nil {
		return p, nil
	}
	return nil, abi.ESRCH
}

// Each calls fn for every process, in no order.
func (t *Table) Each(fn func(*Proc)) {
	t.mu.Lock()
	ps := make([]*Proc, 0, len(t.procs))
	for _, p := range t.procs {
		ps = append(ps, p)
	}
	t.mu.Unlock()
	for _, p := range ps {
		fn(p)
	}
}

// Close lets no new process in and ends all but proc0.
func (t *Table) Close(ctx context.Context) {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	var wg sync.WaitGroup
	t.Each(func(p *Proc) {
		if p.Pid != 0 {
			wg.Go(func() { p.Exit(ctx) })
		}
	})
	wg.Wait()
	t.Proc0.Exit(ctx)
}

// Ppid is the parent's pid (getppid); proc0's when that has ended.
func (p *Proc) Ppid() int32 { return p.ppid.Load() }

// Name is the program's name (p_comm).
func (p *Proc) Name() string { return *p.name.Load() }

// Cred is the process's credentials; not to be changed.
func (p *Proc) Cred() *abi.Cred { return p.cred.Load() }

// SetCred replaces the credentials: calls that begin later use them.
func (p *Proc) SetCred(c *abi.Cred) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cred.Store(c)
	p.moveLocked(c.Ruid)
}

// Cwd is the process's working directory, root and umask; nil while the VFS
// has not attached.
func (p *Proc) Cwd() *vfs.Cwdinfo {
	if c := p.cwd.Load(); c != nil {
		return c
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.cwd.Load()
	if c == nil && p.state.Load()&exiting == 0 {
		p.table.mu.Lock()
		init := p.table.hooks.VFSInit
		p.table.mu.Unlock()
		if init != nil {
			c = init()
			p.cwd.Store(c)
		}
	}
	return c
}

// NLwps is how many lwps are at work.
func (p *Proc) NLwps() int { return int(p.state.Load() &^ exiting) }

// Context ends when the process does.
func (p *Proc) Context() context.Context { return p.ctx }

// Enter makes an lwp for one system call. ESRCH when the process is exiting.
func (p *Proc) Enter() (*Lwp, error) {
	if err := p.begin(); err != nil {
		return nil, err
	}
	l, ok := p.lwps.Get().(*Lwp)
	if !ok {
		lid := p.lid()
		l = &Lwp{Lid: lid, Proc: p, caller: abi.Caller{Pid: p.Pid, Lid: lid}}
	}
	l.refresh()
	return l, nil
}

// begin begins a call. ESRCH when the process is exiting.
func (p *Proc) begin() error {
	if p.state.Add(1)&exiting != 0 {
		p.leave()
		return abi.ESRCH
	}
	return nil
}

// leave ends a call, perhaps the last one.
func (p *Proc) leave() {
	if p.state.Add(-1) == exiting {
		p.once.Do(func() { close(p.idle) })
	}
}

// Leave gives the lwp back after the call.
func (l *Lwp) Leave() {
	p := l.Proc
	p.lwps.Put(l)
	p.leave()
}

// Exit ends the process: waits are interrupted, calls in progress awaited,
// descriptors closed. Calling it again waits for the same end, at most as long
// as ctx lasts.
func (p *Proc) Exit(ctx context.Context) {
	p.end()
	select {
	case <-p.done:
	case <-ctx.Done():
	}
}

// end begins the end of the process, and does not wait for it.
func (p *Proc) end() {
	if was := p.state.Or(exiting); was&exiting == 0 {
		if was == 0 {
			p.once.Do(func() { close(p.idle) })
		}
		p.cancel()
		go p.reap(context.Background())
	}
}

func (p *Proc) reap(ctx context.Context) {
	defer close(p.done)
	<-p.idle
	p.table.mu.Lock()
	exit := p.table.hooks.Exit
	p.table.mu.Unlock()
	if exit != nil {
		exit(p.Pid)
	}
	p.Fd.Release(ctx)
	p.mu.Lock()
	cwd := p.cwd.Swap(nil)
	p.mu.Unlock()
	p.table.mu.Lock()
	release := p.table.hooks.VFSRelease
	p.table.mu.Unlock()
	if cwd != nil && release != nil {
		release(cwd)
	}
	p.died()
	p.table.mu.Lock()
	delete(p.table.procs, p.Pid)
	parent := p.buryLocked()
	p.table.leaveLocked(p)
	for _, c := range p.table.procs { // orphans are proc0's
		c.ppid.CompareAndSwap(p.Pid, 0)
	}
	p.table.mu.Unlock()
	p.noteExit()
	p.mourn(parent)
}
