package vfs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/bio"
	"github.com/rumpus-kernel/rumpus/kernel/evlog"
	"github.com/rumpus-kernel/rumpus/kernel/journal"
	"github.com/rumpus-kernel/rumpus/kernel/store"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// Mounts of file systems with vfsops.CapRecoverable have a journal.FS between
// the kernel and the file system, which stays when the process dies: the
// binding, the vnodes and all that is cached of such a mount live on, and
// callers wait in the journal for the next process. Recovery takes neither
// VFS.opMu nor a vnode lock, so whoever waits may hold them.

// optNorecover is the option with which a mount has no journal: what its file
// system had in memory is lost when the process dies. It is the kernel's own,
// for comparing.
const optNorecover = "norecover"

// mountStore is the Store of a mount, and what the process that is there has of
// it.
type mountStore struct {
	s        *store.Store
	instance string
	now      *store.Session // protected by VFS.storeMu
}

// Store is what the file system of a mount keeps over the death of its process
// (modapi.Kernel.Store), for the process of an instance that is there now: from
// the call of Mount on until Unmount.
func (fs *VFS) Store(instance string, id abi.Fsid) modapi.Store {
	fs.storeMu.Lock()
	defer fs.storeMu.Unlock()
	if st := fs.stores[id]; st != nil && st.instance == instance && st.now != nil {
		return st.now
	}
	return modapi.NoStore{}
}

// openStore makes the Store of a mount, empty, or with keep gives what is in it
// to another process.
func (fs *VFS) openStore(m *Mount, keep bool) {
	fs.storeMu.Lock()
	defer fs.storeMu.Unlock()
	st := fs.stores[m.fsid]
	if st != nil && !keep {
		st.s.Close()
		st = nil
	}
	if st == nil {
		st = &mountStore{s: store.New(store.Options{Account: fs.storeMemory, Counters: fs.storeCnt}), instance: m.instance}
		fs.stores[m.fsid] = st
	}
	st.now = st.s.Open()
}

func (fs *VFS) closeStore(m *Mount) {
	fs.storeMu.Lock()
	st := fs.stores[m.fsid]
	delete(fs.stores, m.fsid)
	fs.storeMu.Unlock()
	if st != nil {
		st.s.Close()
	}
}

// storeMemory counts the memory of stores.
func (fs *VFS) storeMemory(n int64) error {
	if n > 0 && !fs.mem.try(memStore, n) {
		return abi.ENOMEM
	}
	if n < 0 {
		fs.mem.take(memStore, n)
	}
	return nil
}

// backing is the journal.Backing of a mount: its Store, and what is below it.
type backing struct {
	fs  *VFS
	m   *Mount
	low journal.Backing // nil: there is none
}

// Commit commits both.
func (b *backing) Commit(ctx context.Context, seq abi.OpSeq) error {
	b.fs.storeMu.Lock()
	st := b.fs.stores[b.m.fsid]
	var x *store.Session
	if st != nil {
		x = st.now
	}
	b.fs.storeMu.Unlock()
	if b.low != nil {
		if err := b.low.Commit(ctx, seq); err != nil {
			return err
		}
	}
	if x == nil {
		return nil
	}
	return x.Commit(seq)
}

// Drop drops what is pending in both.
func (b *backing) Drop() {
	b.fs.storeMu.Lock()
	st := b.fs.stores[b.m.fsid]
	if st != nil {
		st.now = nil
	}
	b.fs.storeMu.Unlock()
	if st != nil {
		st.s.Drop()
	}
	if b.low != nil {
		b.low.Drop()
	}
}

// durable is a backing of which something has to survive the host.
type durable struct {
	*backing
	journal.Syncer
}

// journaled puts a journal before f, which has just been mounted with req.
func (m *Mount) journaled(f vfsops.FS, root abi.Handle, req *vfsops.MountReq) *journal.FS {
	fs := m.vfs
	bk := &backing{fs: fs, m: m}
	var b journal.Backing = bk
	bk.low = m.lower()
	if s, ok := bk.low.(journal.Syncer); ok {
		b = durable{bk, s}
	}
	m.mreq = *req
	if req.Op.Caller != nil {
		c := *req.Op.Caller
		m.mreq.Op.Caller = &c
	}
	o := journal.Options{Backing: b, Seq: req.Op.Seq, Root: root, Wait: fs.o.RestartWait, Log: fs.o.Log, Evcnt: fs.o.Evcnt,
		Limits: fs.o.Journal, Fault: fs.o.JournalFault}
	o.Event = func(e evlog.Event) {
		e.Instance, e.Mount = m.instance, m.dir
		fs.o.Events.Emit(e)
	}
	o.Poison = func(r *journal.Repro) {
		text := ""
		if fs.o.Poison != nil {
			text = fs.o.Poison(m.poisoned(r))
		}
		o.Event(evlog.Event{Kind: evlog.Poison, Op: r.Poison.String(), Text: text})
	}
	return journal.New(f, o)
}

// Poison is a request that killed the process of a file system twice, and what
// it takes to do that again: the state of the last checkpoint, all of it in the
// Store, of a device what the process has used.
type Poison struct {
	*journal.Repro
	Mount    MountInfo
	Instance string
	Req      vfsops.MountReq   // with which the file system was mounted first
	Root     abi.Handle        //
	Caps     vfsops.Caps       //
	Store    []modapi.StoreRec // at the checkpoint
	Disk     *DiskState        // at the checkpoint; nil: no device
	Lost     string            // why the state is not there, "" if it is
}

// DiskState is a part of a block device.
type DiskState struct {
	Geom   devops.Geom
	Blocks []bio.TouchedBlock
}

// diskKeeper is a Disk that knows what has been used of it.
type diskKeeper interface {
	// Touched answers that, at most limit bytes. The process is dead.
	Touched(ctx context.Context, limit int64) (*DiskState, error)
}

// Bounds of what is kept of a checkpoint for a Poison, for which the recovery
// has to wait.
const (
	poisonBytes = 64 << 20
	poisonWait  = 2 * time.Second
)

func (m *Mount) poisoned(r *journal.Repro) *Poison {
	p := &Poison{Repro: r, Mount: m.info(), Instance: m.instance, Req: m.mreq, Root: m.root.handle(), Caps: m.j.Caps()}
	if d, ok := m.disk.(diskKeeper); ok {
		ctx, cancel := context.WithTimeout(context.Background(), poisonWait)
		defer cancel()
		var err error
		if p.Disk, err = d.Touched(ctx, poisonBytes); err != nil {
			p.Lost = fmt.Sprintf("the blocks of %s that it used: %v", m.source, err)
			return p
		}
	}
	size := 0
	m.vfs.storeMu.Lock()
	st := m.vfs.stores[m.fsid]
	m.vfs.storeMu.Unlock()
	if st != nil {
		st.s.Drop() // nobody is there who could write
		st.s.Each(func(k string, v []byte) bool {
			p.Store = append(p.Store, modapi.StoreRec{Key: []byte(k), Value: slices.Clone(v)})
			size += len(k) + len(v)
			return size <= poisonBytes
		})
		if size > poisonBytes {
			p.Store, p.Lost = nil, fmt.Sprintf("the checkpoint has more than %d MiB", poisonBytes>>20)
		}
	}
	return p
}

// up reports whether calls to m are answered without waiting for a process.
func (m *Mount) up() bool {
	if j := m.j; j != nil {
		return j.Up()
	}
	return m.b.Load() != nil
}

// recoverAll puts the journaled mounts of an instance back, in order.
func (fs *VFS) recoverAll(ctx context.Context, instance string) error {
	fs.mu.RLock()
	ms := slices.Clone(fs.mounts)
	fs.mu.RUnlock()
	var errs []error
	for _, m := range ms {
		if m.instance != instance || m.j == nil || m.j.Up() {
			continue
		}
		if err := fs.recover(ctx, m); err != nil && !m.gone.Load() {
			errs = append(errs, fmt.Errorf("recover %s on %s: %w", m.typ, m.dir, err))
		}
	}
	return errors.Join(errs...)
}

func (fs *VFS) recover(ctx context.Context, m *Mount) error {
	fs.mu.RLock()
	t := fs.typeLocked(m.instance, m.typ, true)
	fs.mu.RUnlock()
	if t == nil {
		return fmt.Errorf("file-system type %q: %w", m.typ, abi.ENODEV)
	}
	fs.cnt.restarts.Inc()
	return m.j.Recover(ctx, func(ctx context.Context, seq abi.OpSeq) (vfsops.FS, error) {
		fs.openStore(m, seq != 0)
		req := m.mreq
		req.Seq = seq
		f, err := t.t.Mount(ctx, &req)
		if err == nil && f == nil {
			err = abi.EIO
		}
		return f, err
	})
}

// InstanceDied says why the process of an instance died, after InstanceDown and
// before Remount: own, it has itself to blame. Nothing said means that somebody
// outside killed it.
func (fs *VFS) InstanceDied(instance string, own bool) {
	fs.mu.RLock()
	ms := slices.Clone(fs.mounts)
	fs.mu.RUnlock()
	for _, m := range ms {
		if m.instance == instance && m.j != nil {
			m.j.Judge(own)
		}
	}
}

// JournalStats describes the journal of a mount. ENOENT: there is no such
// mount, or it has none.
func (fs *VFS) JournalStats(id abi.Fsid) (journal.Stats, error) {
	fs.mu.RLock()
	defer fs.mu.RUnlock()
	for _, m := range fs.mounts {
		if m.fsid == id && m.j != nil {
			return m.j.Stats(), nil
		}
	}
	return journal.Stats{}, abi.ENOENT
}

// Checkpoint takes a checkpoint of every mount that has a journal, so that
// nothing would have to be replayed. It answers the first error.
func (fs *VFS) Checkpoint(ctx context.Context) error {
	fs.mu.RLock()
	ms := slices.Clone(fs.mounts)
	fs.mu.RUnlock()
	var first error
	for _, m := range ms {
		if m.j == nil {
			continue
		}
		if err := m.j.Checkpoint(ctx); err != nil && first == nil && !m.gone.Load() {
			first = fmt.Errorf("checkpoint of %s: %w", m.dir, err)
		}
	}
	return first
}

// mountAgain reports whether a mount that failed should be tried again: the
// process died over it, and another one is expected. It waits for that.
func (fs *VFS) mountAgain(ctx context.Context, instance string, deaths int, err error) bool {
	if !journal.Died(err) && !errors.Is(err, errMountDied) {
		return false
	}
	until := time.Now().Add(fs.o.RestartWait)
	for {
		fs.mu.RLock()
		c, down, now := fs.instances, fs.down[instance], fs.deaths[instance]
		fs.mu.RUnlock()
		if now != deaths && !down {
			return true
		}
		t := time.NewTimer(time.Until(until))
		select {
		case <-c:
			t.Stop()
		case <-ctx.Done():
			t.Stop()
			return false
		case <-t.C:
			return false
		}
	}
}

var errMountDied = errors.New("its component died")

// instanceLocked notes that an instance went or came. Preconditions: fs.mu is
// held.
func (fs *VFS) instanceLocked(instance string, down bool) {
	fs.down[instance] = down
	close(fs.instances)
	fs.instances = make(chan struct{})
}
