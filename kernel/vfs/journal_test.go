package vfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/kernel/journal"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/stream"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/tmpfs"
)

// A tmpfs of which the test kills the process: what it answers after that is
// that it is dead, and what it had that no checkpoint kept is gone.

// mortalKernel is what the module in a process sees of the kernel.
type mortalKernel struct {
	modapi.Kernel
	w *mortal
	p *proc
}

func (k mortalKernel) AttachFS(name string, t vfsops.FSType, c vfsops.Caps) error {
	return k.w.fs.AttachFS("vfs", name, mortalType{t, k.p}, c)
}

func (k mortalKernel) Store(id abi.Fsid) modapi.Store { return k.w.fs.Store("vfs", id) }

// proc is a process.
type proc struct {
	mu   sync.RWMutex
	dead bool
	hook atomic.Pointer[func(op string) bool] // by its answer the process dies before it executes op
}

var errProc = &stream.Dead{Cause: errors.New("killed")}

// call executes op in the process, unless it is dead.
func (p *proc) call(op string, fn func() error) error {
	if h := p.hook.Load(); h != nil && (*h)(op) {
		p.kill()
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.dead {
		return fmt.Errorf("%s: %w", op, errProc)
	}
	return fn()
}

func (p *proc) kill() {
	p.mu.Lock()
	p.dead = true
	p.mu.Unlock()
}

func (p *proc) isDead() bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.dead
}

type mortalType struct {
	t vfsops.FSType
	p *proc
}

func (t mortalType) Mount(ctx context.Context, req *vfsops.MountReq) (f vfsops.FS, err error) {
	err = t.p.call("mount", func() error {
		g, err := t.t.Mount(ctx, req)
		f = &mortalFS{g.(tmpFS), t.p}
		return err
	})
	return f, err
}

// tmpFS is what tmpfs has.
type tmpFS interface {
	vfsops.FS
	vfsops.Creator
	vfsops.Mknoder
	vfsops.Symlinker
	vfsops.Linker
	vfsops.Remover
	vfsops.Renamer
	vfsops.Setattrer
	vfsops.Readlinker
	vfsops.Xattrer
	vfsops.Pinner
	vfsops.Reserver
	vfsops.Checkpointer
}

type mortalFS struct {
	tmpFS
	p *proc
}

func via[T any](p *proc, op string, fn func() (T, error)) (t T, err error) {
	err = p.call(op, func() error {
		var err error
		t, err = fn()
		return err
	})
	return t, err
}

func (f *mortalFS) Root(ctx context.Context) (vfsops.Entry, error) {
	return via(f.p, "root", func() (vfsops.Entry, error) { return f.tmpFS.Root(ctx) })
}
func (f *mortalFS) Lookup(ctx context.Context, r vfsops.LookupReq) (vfsops.LookupRes, error) {
	return via(f.p, "lookup", func() (vfsops.LookupRes, error) { return f.tmpFS.Lookup(ctx, r) })
}
func (f *mortalFS) Getattr(ctx context.Context, h abi.Handle) (abi.Vattr, error) {
	return via(f.p, "getattr", func() (abi.Vattr, error) { return f.tmpFS.Getattr(ctx, h) })
}
func (f *mortalFS) Readdir(ctx context.Context, r vfsops.ReaddirReq) (vfsops.ReaddirRes, error) {
	return via(f.p, "readdir", func() (vfsops.ReaddirRes, error) { return f.tmpFS.Readdir(ctx, r) })
}
func (f *mortalFS) Statvfs(ctx context.Context) (abi.Statvfs, error) {
	return via(f.p, "statvfs", func() (abi.Statvfs, error) { return f.tmpFS.Statvfs(ctx) })
}
func (f *mortalFS) Unmount(ctx context.Context) error {
	return f.p.call("unmount", func() error { return f.tmpFS.Unmount(ctx) })
}
func (f *mortalFS) Create(ctx context.Context, r vfsops.CreateReq) (vfsops.Mutated, error) {
	return via(f.p, "create "+string(r.Name), func() (vfsops.Mutated, error) { return f.tmpFS.Create(ctx, r) })
}
func (f *mortalFS) Mkdir(ctx context.Context, r vfsops.CreateReq) (vfsops.Mutated, error) {
	return via(f.p, "mkdir", func() (vfsops.Mutated, error) { return f.tmpFS.Mkdir(ctx, r) })
}
func (f *mortalFS) Mknod(ctx context.Context, r vfsops.MknodReq) (vfsops.Mutated, error) {
	return via(f.p, "mknod", func() (vfsops.Mutated, error) { return f.tmpFS.Mknod(ctx, r) })
}
func (f *mortalFS) Symlink(ctx context.Context, r vfsops.SymlinkReq) (vfsops.Mutated, error) {
	return via(f.p, "symlink", func() (vfsops.Mutated, error) { return f.tmpFS.Symlink(ctx, r) })
}
func (f *mortalFS) Link(ctx context.Context, r vfsops.LinkReq) (vfsops.Mutated, error) {
	return via(f.p, "link", func() (vfsops.Mutated, error) { return f.tmpFS.Link(ctx, r) })
}
func (f *mortalFS) Remove(ctx context.Context, r vfsops.RemoveReq) (vfsops.Mutated, error) {
	return via(f.p, "remove", func() (vfsops.Mutated, error) { return f.tmpFS.Remove(ctx, r) })
}
func (f *mortalFS) Rmdir(ctx context.Context, r vfsops.RemoveReq) (vfsops.Mutated, error) {
	return via(f.p, "rmdir", func() (vfsops.Mutated, error) { return f.tmpFS.Rmdir(ctx, r) })
}
func (f *mortalFS) Rename(ctx context.Context, r vfsops.RenameReq) (vfsops.Mutated, error) {
	return via(f.p, "rename", func() (vfsops.Mutated, error) { return f.tmpFS.Rename(ctx, r) })
}
func (f *mortalFS) Setattr(ctx context.Context, r vfsops.SetattrReq) (abi.Vattr, error) {
	return via(f.p, "setattr", func() (abi.Vattr, error) { return f.tmpFS.Setattr(ctx, r) })
}
func (f *mortalFS) Pin(ctx context.Context, h abi.Handle) error {
	return f.p.call("pin", func() error { return f.tmpFS.Pin(ctx, h) })
}
func (f *mortalFS) Unpin(ctx context.Context, h abi.Handle) error {
	return f.p.call("unpin", func() error { return f.tmpFS.Unpin(ctx, h) })
}
func (f *mortalFS) Reserve(ctx context.Context, n int64) (int64, error) {
	return via(f.p, "reserve", func() (int64, error) { return f.tmpFS.Reserve(ctx, n) })
}
func (f *mortalFS) Checkpoint(ctx context.Context, seq abi.OpSeq) error {
	return f.p.call("checkpoint", func() error { return f.tmpFS.Checkpoint(ctx, seq) })
}

// mortal is a VFS with that tmpfs at /, and a supervisor.
type mortal struct {
	t   testing.TB
	fs  *VFS
	own atomic.Bool // deaths are the process's own fault

	mu    sync.Mutex
	cur   *proc
	died  chan struct{}
	hook  func(op string) bool
	n     int
	stop  chan struct{}
	sup   sync.WaitGroup
	poked []*Poison
}

// newMortal boots; a process that is killed is restarted.
func newMortal(t testing.TB, o Options, opts map[string]string) *mortal {
	t.Helper()
	w := &mortal{t: t, died: make(chan struct{}, 1), stop: make(chan struct{})}
	if o.MemLimit == 0 {
		o.MemLimit = 64 << 20
	}
	o.RestartWait = time.Minute
	o.Poison = func(p *Poison) string { w.mu.Lock(); w.poked = append(w.poked, p); w.mu.Unlock(); return "" }
	w.fs = New(o)
	w.fs.SetAvailable(true)
	w.spawn(modapi.Fresh)
	if _, err := w.fs.Mount(ctx, su(), MountArgs{Type: "tmpfs", Dir: "/", Options: opts}); err != nil {
		t.Fatal(err)
	}
	w.sup.Go(w.supervise)
	t.Cleanup(func() {
		if err := w.fs.UnmountAll(ctx); err != nil {
			t.Error(err)
		}
		close(w.stop)
		w.sup.Wait()
		w.fs.Settle()
	})
	return w
}

func (w *mortal) spawn(r modapi.Reason) *proc {
	p := &proc{}
	if w.hook != nil {
		h := func(op string) bool {
			if !w.hook(op) {
				return false
			}
			w.tell()
			return true
		}
		p.hook.Store(&h)
	}
	if err := tmpfs.New().Init(ctx, mortalKernel{w: w, p: p}, r, nil); err != nil {
		w.t.Error(err)
	}
	w.mu.Lock()
	w.cur = p
	w.mu.Unlock()
	return p
}

func (w *mortal) tell() {
	select {
	case w.died <- struct{}{}:
	default:
	}
}

// kill ends the process.
func (w *mortal) kill() {
	w.mu.Lock()
	p := w.cur
	w.mu.Unlock()
	p.kill()
	w.tell()
}

func (w *mortal) deaths() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.n
}

func (w *mortal) supervise() {
	for {
		select {
		case <-w.died:
		case <-w.stop:
			return
		}
		w.mu.Lock()
		p := w.cur
		w.mu.Unlock()
		if !p.isDead() {
			continue
		}
		w.mu.Lock()
		w.n++
		w.mu.Unlock()
		w.fs.InstanceDown("vfs")
		w.fs.InstanceDied("vfs", w.own.Load())
		w.spawn(modapi.Restart)
		w.fs.Remount(ctx, "vfs")
		w.fs.InstanceUp("vfs")
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestNothingIsLost: what a client has open, where it is and what it has locked
// is there after a death, and so is what it has made.
func TestNothingIsLost(t *testing.T) {
	w := newMortal(t, Options{}, nil)
	fs, c := w.fs, abi.KernelCaller
	must(t, fs.Mkdir(ctx, su(), "/d", 0o755))
	for i := range 100 {
		f, err := fs.Open(ctx, su(), fmt.Sprintf("/d/f%03d", i), abi.O_CREAT|abi.O_RDWR, 0o644)
		must(t, err)
		f.Release(ctx)
	}
	f, err := fs.Open(ctx, su(), "/d/open", abi.O_CREAT|abi.O_RDWR, 0o644)
	must(t, err)
	_, err = f.Ops.Write(ctx, c, f, []byte("hello, "), 0)
	must(t, err)
	gone, err := fs.Open(ctx, su(), "/d/gone", abi.O_CREAT|abi.O_RDWR, 0o644)
	must(t, err)
	_, err = gone.Ops.Write(ctx, c, gone, []byte("nameless"), 0)
	must(t, err)
	must(t, fs.Unlink(ctx, su(), "/d/gone", 0))
	dir, err := fs.Open(ctx, su(), "/d", abi.O_RDONLY, 0)
	must(t, err)
	buf := make([]byte, 600)
	names := map[string]int{}
	read := func() int {
		n, err := fs.Getdents(ctx, c, dir, buf)
		must(t, err)
		for b := buf[:n]; len(b) > 0; {
			var d abi.Dirent
			m, err := abi.ParseDirent(b, &d)
			must(t, err)
			names[d.Name]++
			b = b[m:]
		}
		return n
	}
	read()
	other := &memType{}
	must(t, fs.AttachFS("", "other", memVariant{other, variants[0].wrap}, variants[0].caps))
	must(t, fs.Mkdir(ctx, su(), "/mnt", 0o755))
	_, err = fs.Mount(ctx, su(), MountArgs{Type: "other", Dir: "/mnt"})
	must(t, err)
	must(t, fs.Mkdir(ctx, su(), "/mnt/below", 0o755))

	w.kill()
	_, err = f.Ops.Write(ctx, c, f, []byte("world"), 7)
	must(t, err)
	must(t, fs.Mkdir(ctx, su(), "/d/new", 0o755))
	got := make([]byte, 64)
	n, err := f.Ops.Read(ctx, c, f, got, 0)
	must(t, err)
	if string(got[:n]) != "hello, world" {
		t.Errorf("open file: %q", got[:n])
	}
	n, err = gone.Ops.Read(ctx, c, gone, got, 0)
	must(t, err)
	if string(got[:n]) != "nameless" {
		t.Errorf("file without a name: %q", got[:n])
	}
	st, err := gone.Ops.Stat(ctx, c, gone)
	must(t, err)
	if st.Nlink != 0 || st.Size != 8 {
		t.Errorf("file without a name: %+v", st)
	}
	for read() > 0 {
	}
	for i := range 100 {
		if k := fmt.Sprintf("f%03d", i); names[k] != 1 {
			t.Errorf("%s was listed %d times", k, names[k])
		}
	}
	_, err = fs.Stat(ctx, su(), "/mnt/below", true)
	must(t, err)
	must(t, f.Release(ctx))
	must(t, gone.Release(ctx))
	must(t, dir.Release(ctx))
	w.kill()
	must(t, fs.Mkdir(ctx, su(), "/d/newer", 0o755))
	if d := w.deaths(); d < 2 {
		t.Errorf("%d deaths", d)
	}
	id := fs.Mounts()[0].Fsid
	s, err := fs.JournalStats(id)
	must(t, err)
	if s.Degraded {
		t.Error("degraded")
	}
	must(t, fs.Unmount(ctx, su(), "/mnt", 0))
}

// TestNorecover: with the option it is as it was.
func TestNorecover(t *testing.T) {
	w := newMortal(t, Options{}, map[string]string{"norecover": ""})
	must(t, w.fs.Mkdir(ctx, su(), "/d", 0o755))
	f, err := w.fs.Open(ctx, su(), "/d", abi.O_RDONLY, 0)
	must(t, err)
	if m := w.fs.Mounts()[0]; m.Recovers || m.Options["norecover"] != "" || len(m.Options) != 1 {
		t.Errorf("%+v", m)
	}
	w.kill()
	for w.deaths() == 0 || !w.fs.Mounts()[0].Up {
		time.Sleep(time.Millisecond)
	}
	if _, err := f.Ops.Stat(ctx, abi.KernelCaller, f); !errors.Is(err, abi.ESTALE) {
		t.Errorf("stat of what is gone: %v", err)
	}
	f.Release(ctx)
}

// TestKilledUnderLoad: clients in directories of their own, each with a model of
// what must be there, while the process is killed again and again.
func TestKilledUnderLoad(t *testing.T) {
	for _, o := range []struct {
		name string
		opts map[string]string
		lim  journal.Limits
	}{{name: "plain"}, {name: "small journal", lim: journal.Limits{Entries: 24}}, {name: "nocache", opts: map[string]string{"nocache": ""}}} {
		t.Run(o.name, func(t *testing.T) {
			w := newMortal(t, Options{Journal: o.lim}, o.opts)
			var clients sync.WaitGroup
			var ops atomic.Int64
			for i := range 4 {
				clients.Go(func() {
					c := &client{t: t, fs: w.fs, n: i, rng: rand.New(rand.NewPCG(uint64(i), 7)), kill: w.kill}
					c.run(400, &ops)
				})
			}
			clients.Wait()
			t.Logf("%d operations, %d deaths", ops.Load(), w.deaths())
			if w.deaths() < 3 {
				t.Errorf("%d deaths", w.deaths())
			}
			if s, _ := w.fs.JournalStats(w.fs.Mounts()[0].Fsid); s.Degraded || s.Orphans != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// client changes a directory of its own and knows what has to be there.
type client struct {
	t   *testing.T
	fs  *VFS
	n   int
	rng *rand.Rand

	kill func() // after every 50 operations of all clients together; nil: never
}

func (c *client) run(ops int, count *atomic.Int64) {
	t, fs := c.t, c.fs
	dir := fmt.Sprintf("/c%d", c.n)
	files := map[string][]byte{}
	ok := func(err error, what string, args ...any) bool {
		if err != nil {
			t.Errorf("client %d: %s: %v", c.n, fmt.Sprintf(what, args...), err)
		}
		return err == nil
	}
	if !ok(fs.Mkdir(ctx, su(), dir, 0o755), "mkdir") {
		return
	}
	for i := range ops {
		if t.Failed() {
			return
		}
		name := fmt.Sprintf("f%d", c.rng.IntN(12))
		path := dir + "/" + name
		data, there := files[name]
		switch k := c.rng.IntN(8); {
		case !there:
			f, err := fs.Open(ctx, su(), path, abi.O_CREAT|abi.O_EXCL|abi.O_RDWR, 0o600)
			if ok(err, "create %s", path) {
				files[name] = []byte{}
				f.Release(ctx)
			}
		case k < 3:
			f, err := fs.Open(ctx, su(), path, abi.O_WRONLY|abi.O_APPEND, 0)
			if ok(err, "open %s", path) {
				tag := fmt.Appendf(nil, "<%d.%d>", c.n, i)
				n, err := f.Ops.Write(ctx, abi.KernelCaller, f, tag, file.Cur)
				if ok(err, "write %s", path) {
					files[name] = append(data, tag[:n]...)
				}
				ok(f.Release(ctx), "close %s", path)
			}
		case k == 3:
			if ok(fs.Unlink(ctx, su(), path, 0), "unlink %s", path) {
				delete(files, name)
			}
		case k == 4:
			to := fmt.Sprintf("f%d", c.rng.IntN(12))
			if to != name && ok(fs.Rename(ctx, su(), path, su(), dir+"/"+to, 0), "rename %s to %s", path, to) {
				delete(files, name)
				files[to] = data
			}
		case k == 5:
			size := c.rng.IntN(len(data) + 10)
			if ok(fs.Truncate(ctx, su(), path, int64(size)), "truncate %s", path) {
				files[name] = append(data[:min(size, len(data)):min(size, len(data))], make([]byte, max(0, size-len(data)))...)
			}
		case k == 6:
			ok(fs.Chmod(ctx, su(), path, uint32(0o600+i%64), true), "chmod %s", path)
		default:
			c.check(path, data)
		}
		if count.Add(1)%50 == 0 && c.kill != nil {
			c.kill()
		}
	}
	for name, data := range files {
		c.check(dir+"/"+name, data)
	}
}

func (c *client) check(path string, data []byte) {
	f, err := c.fs.Open(ctx, su(), path, abi.O_RDONLY, 0)
	if err != nil {
		c.t.Errorf("client %d: open %s: %v", c.n, path, err)
		return
	}
	defer f.Release(ctx)
	buf := make([]byte, len(data)+16)
	n, err := f.Ops.Read(ctx, abi.KernelCaller, f, buf, 0)
	if err != nil || !bytes.Equal(buf[:n], data) {
		c.t.Errorf("client %d: %s has %q, not %q: %v", c.n, path, buf[:n], data, err)
	}
}

// TestPoison: a request that kills whoever executes it gets EIO after two
// restarts, and nobody else gets anything.
func TestPoison(t *testing.T) {
	w := newMortal(t, Options{}, nil)
	w.own.Store(true)
	w.hook = func(op string) bool { return op == "create poison" }
	w.kill() // the next process has the hook
	must(t, w.fs.Mkdir(ctx, su(), "/d", 0o755))
	before := w.deaths()
	var others sync.WaitGroup
	var ops atomic.Int64
	for i := range 2 {
		others.Go(func() { (&client{t: t, fs: w.fs, n: i, rng: rand.New(rand.NewPCG(uint64(i), 8))}).run(100, &ops) })
	}
	_, err := w.fs.Open(ctx, su(), "/d/poison", abi.O_CREAT|abi.O_RDWR, 0o644)
	if !errors.Is(err, abi.EIO) {
		t.Errorf("poison: %v", err)
	}
	others.Wait()
	if n := w.deaths() - before; n != 2 {
		t.Errorf("%d restarts", n)
	}
	if _, err := w.fs.Stat(ctx, su(), "/d/poison", true); !errors.Is(err, abi.ENOENT) {
		t.Errorf("poison is there: %v", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.poked) != 1 || string(w.poked[0].Poison.Name) != "poison" || w.poked[0].Req.Type != "tmpfs" {
		t.Errorf("reproducers: %+v", w.poked)
	}
}

// TestUnmountWhileDown: unmount, sync, mount and the last close during a
// recovery end, and what they were asked for is done.
func TestUnmountWhileDown(t *testing.T) {
	for i := range 6 {
		w := newMortal(t, Options{}, nil)
		must(t, w.fs.Mkdir(ctx, su(), "/mnt", 0o755))
		must(t, w.fs.Mkdir(ctx, su(), "/other", 0o755))
		_, err := w.fs.Mount(ctx, su(), MountArgs{Type: "tmpfs", Dir: "/mnt"})
		must(t, err)
		f, err := w.fs.Open(ctx, su(), "/mnt/f", abi.O_CREAT|abi.O_RDWR, 0o644)
		must(t, err)
		must(t, w.fs.Unlink(ctx, su(), "/mnt/f", 0))
		w.kill()
		switch i {
		case 0:
			must(t, f.Release(ctx))
			must(t, w.fs.Unmount(ctx, su(), "/mnt", 0))
		case 1:
			must(t, w.fs.Unmount(ctx, su(), "/mnt", abi.MNT_FORCE))
			f.Release(ctx)
		case 2:
			must(t, w.fs.SyncAll(ctx))
			must(t, f.Release(ctx))
		case 3:
			_, err := w.fs.Mount(ctx, su(), MountArgs{Type: "tmpfs", Dir: "/other"})
			must(t, err)
			must(t, w.fs.Mkdir(ctx, su(), "/other/x", 0o755))
			must(t, f.Release(ctx))
		case 4:
			must(t, w.fs.UnmountAll(ctx))
			f.Release(ctx)
		case 5:
			w.fs.Checkpoint(ctx)
			must(t, f.Release(ctx))
		}
	}
}
