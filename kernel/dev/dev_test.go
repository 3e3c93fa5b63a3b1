package dev

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// queue is a driver with one queue of bytes a unit: what is written can be
// read again.
type queue struct {
	ready func(devops.Ready)
	dev   abi.Dev
	size  int

	mu     sync.Mutex
	died   bool
	q      []byte
	opens  int
	closes int
	offs   []int64
}

func (d *queue) dead() error {
	if d.died {
		return abi.EIO
	}
	return nil
}

func (d *queue) Open(_ context.Context, unit uint32, flags int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if unit > 3 {
		return abi.ENXIO
	}
	d.opens++
	return d.dead()
}

func (d *queue) Close(context.Context, uint32, int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closes++
	return nil
}

func (d *queue) edge(unit uint32) { d.ready(devops.Ready{Dev: d.dev | abi.Dev(unit)}) }

func (d *queue) Read(_ context.Context, unit uint32, off int64, dst abi.Iov, _ int) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.dead(); err != nil {
		return 0, err
	}
	if len(d.q) == 0 {
		return 0, abi.EAGAIN
	}
	n := dst.CopyIn(d.q)
	d.q = append([]byte(nil), d.q[n:]...)
	d.offs = append(d.offs, off)
	d.edge(unit)
	return n, nil
}

func (d *queue) Write(_ context.Context, unit uint32, off int64, src abi.Iov, _ int) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.dead(); err != nil {
		return 0, err
	}
	n := min(d.size-len(d.q), src.Len())
	if n <= 0 {
		return 0, abi.EAGAIN
	}
	b := make([]byte, n)
	src.CopyOut(b)
	d.q = append(d.q, b...)
	d.edge(unit)
	return n, nil
}

func (d *queue) Ioctl(_ context.Context, _ uint32, cmd uint32, arg []byte) ([]byte, error) {
	switch cmd {
	case abi.FIONREAD:
		d.mu.Lock()
		defer d.mu.Unlock()
		return binary.LittleEndian.AppendUint32(nil, uint32(len(d.q))), nil
	case abi.IOWR('x', 1, 4):
		return arg, nil
	case abi.IOR('x', 2, 4):
		return make([]byte, 8), nil // more than fits
	}
	return nil, abi.ENOTTY
}

func (d *queue) Poll(context.Context, uint32) (abi.PollEvents, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.dead(); err != nil {
		return 0, err
	}
	ev := abi.PollEvents(0)
	if len(d.q) > 0 {
		ev |= abi.POLLIN
	}
	if len(d.q) < d.size {
		ev |= abi.POLLOUT
	}
	return ev, nil
}

type kit struct {
	t *testing.T
	*Switch
	d *queue
}

func newKit(t *testing.T) *kit {
	k := &kit{t: t, Switch: New(Options{RestartWait: 3 * time.Second})}
	k.SetAvailable(true)
	k.boot()
	return k
}

func (k *kit) boot() {
	k.t.Helper()
	k.d = &queue{ready: k.DevReady, size: 10}
	dev, err := k.AttachChr("dev", "queue", k.d)
	if err != nil {
		k.t.Fatal(err)
	}
	k.d.dev = dev
	k.InstanceUp("dev")
}

func (k *kit) crash() {
	k.d.mu.Lock()
	k.d.died = true
	k.d.mu.Unlock()
	k.InstanceDown("dev")
}

var files = func() *file.Table { t := new(file.Table); t.Max.Store(1000); return t }()

func (k *kit) open(flags int) *file.File {
	k.t.Helper()
	f, err := k.openUnit(ctxT(k.t), 0, flags)
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(func() { f.Release(context.Background()) })
	return f
}

func (k *kit) openUnit(ctx context.Context, unit uint32, flags int) (*file.File, error) {
	ops, data, err := k.Open(ctx, abi.KernelCaller, abi.Makedev(360, unit), flags)
	if err != nil {
		return nil, err
	}
	return files.New(file.TypeVnode, ops, data, flags, abi.Root)
}

func ctxT(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func want(t *testing.T, what string, err error, e abi.Errno) {
	t.Helper()
	if abi.ErrnoOf(err) != e {
		t.Errorf("%s: %v, want %v", what, err, e.Name())
	}
}

func read(ctx context.Context, f *file.File, n int) ([]byte, error) {
	b := make([]byte, n)
	n, err := f.Ops.Read(ctx, abi.KernelCaller, f, b, file.Cur)
	return b[:n], err
}

func write(ctx context.Context, f *file.File, s string) (int, error) {
	return f.Ops.Write(ctx, abi.KernelCaller, f, []byte(s), file.Cur)
}

func TestReadWrite(t *testing.T) {
	k := newKit(t)
	ctx := ctxT(t)
	f := k.open(abi.O_RDWR)
	got := make(chan string, 1)
	go func() {
		var s []byte
		for len(s) < 26 {
			b, err := read(ctx, f, 7)
			if err != nil {
				t.Errorf("read: %v", err)
				break
			}
			s = append(s, b...)
		}
		got <- string(s)
	}()
	const all = "abcdefghijklmnopqrstuvwxyz"
	if n, err := write(ctx, f, all); n != 26 || err != nil {
		t.Errorf("write: %d %v", n, err)
	}
	if s := <-got; s != all {
		t.Errorf("read %q", s)
	}
	if pos, err := f.Ops.Seek(ctx, nil, f, 0, abi.SEEK_CUR); pos != 52 || err != nil {
		t.Errorf("offset: %d %v", pos, err)
	}
	write(ctx, f, "z")
	if n, err := f.Ops.Read(ctx, abi.KernelCaller, f, make([]byte, 1), 42); n != 1 || err != nil {
		t.Errorf("pread: %d %v", n, err)
	}
	if off := k.d.offs[len(k.d.offs)-1]; off != 42 || f.Offset != 53 {
		t.Errorf("pread at %d, file offset %d after it", off, f.Offset)
	}
	_, err := f.Ops.Seek(ctx, nil, f, -1, abi.SEEK_SET)
	want(t, "seek", err, abi.EINVAL)
}

func TestNonblockAndPoll(t *testing.T) {
	k := newKit(t)
	ctx := ctxT(t)
	f := k.open(abi.O_RDWR | abi.O_NONBLOCK)
	_, err := read(ctx, f, 1)
	want(t, "read", err, abi.EAGAIN)
	if n, err := write(ctx, f, "0123456789abc"); n != 10 || err != nil {
		t.Errorf("write: %d %v, want 10", n, err)
	}
	_, err = write(ctx, f, "x")
	want(t, "write", err, abi.EAGAIN)
	if ev := f.Ops.Poll(ctx, f, abi.POLLIN|abi.POLLOUT); ev != abi.POLLIN {
		t.Errorf("poll: %v", ev)
	}
	io := func(cmd uint32, arg []byte) ([]byte, error) {
		return f.Ops.Ioctl(ctx, abi.KernelCaller, f, cmd, arg)
	}
	if out, err := io(abi.FIONREAD, nil); err != nil || len(out) != 4 || out[0] != 10 {
		t.Errorf("FIONREAD: %v %v", out, err)
	}
	if out, err := io(abi.IOWR('x', 1, 4), []byte("12345")); err != nil || string(out) != "1234" {
		t.Errorf("ioctl: %q %v", out, err)
	}
	_, err = io(abi.IOWR('x', 1, 4), []byte("12"))
	want(t, "short argument", err, abi.EINVAL)
	_, err = io(abi.IOR('x', 2, 4), nil)
	want(t, "driver answers too much", err, abi.EIO)
	_, err = io(abi.TIOCGWINSZ, nil)
	want(t, "unknown", err, abi.ENOTTY)
	if _, err = io(abi.FIONBIO, make([]byte, 4)); err != nil || f.Nonblock() {
		t.Errorf("FIONBIO: %v, non-blocking %v", err, f.Nonblock())
	}
	read(ctx, f, 10)
	cctx, cancel := context.WithCancel(ctx)
	cancel()
	_, err = read(cctx, f, 1)
	want(t, "interrupted", err, abi.EINTR)
}

func TestMissing(t *testing.T) {
	s := New(Options{})
	_, _, err := s.Open(ctxT(t), abi.KernelCaller, abi.Makedev(2, 2), abi.O_RDWR)
	want(t, "empty slot", err, abi.ENXIO)
	if err == nil || !strings.Contains(err.Error(), "dev component not available") {
		t.Errorf("text: %v", err)
	}
	k := newKit(t)
	ctx := ctxT(t)
	_, _, err = k.Open(ctx, abi.KernelCaller, abi.Makedev(2, 2), abi.O_RDWR)
	want(t, "no driver", err, abi.ENXIO)
	if strings.Contains(err.Error(), "component") {
		t.Errorf("text: %v", err)
	}
	_, _, err = k.Open(ctx, abi.KernelCaller, abi.NoDev, abi.O_RDWR)
	want(t, "NODEV", err, abi.ENXIO)
	_, err = k.openUnit(ctx, 7, abi.O_RDWR)
	want(t, "no unit", err, abi.ENXIO)
	if k.InUse("dev", "queue") {
		t.Error("in use after a failed open")
	}
	f := k.open(abi.O_RDWR)
	if !k.InUse("dev", "queue") || k.InUse("other", "queue") {
		t.Error("InUse is wrong")
	}
	k.DetachChr("other", "queue")
	if _, ok := k.Lookup("queue"); !ok {
		t.Error("a stranger detached it")
	}
	k.DetachChr("dev", "queue")
	_, err = read(ctx, f, 1)
	want(t, "read", err, abi.ENXIO)
	if ev := f.Ops.Poll(ctx, f, abi.POLLIN); ev != abi.POLLIN|abi.POLLHUP|abi.POLLERR {
		t.Errorf("poll: %v", ev)
	}
	calls := 0
	k.opts.Autoload = func(context.Context, uint32) error { calls++; k.boot(); return nil }
	if g, err := k.openUnit(ctx, 0, abi.O_RDWR); err != nil || calls != 1 {
		t.Errorf("autoload: %v, %d calls", err, calls)
	} else {
		g.Release(ctx)
	}
	_, err = read(ctx, f, 1)
	want(t, "open of the driver that was detached", err, abi.ENXIO)
}

type nodes struct {
	devops.NoChr
	n []devops.Node
}

func (n nodes) Nodes() []devops.Node { return n.n }

func TestAttach(t *testing.T) {
	s := New(Options{})
	attach := func(inst, name string, c devops.Chr) (abi.Dev, error) { return s.AttachChr(inst, name, c) }
	for _, c := range []struct {
		inst, name string
		major      uint32
		e          abi.Errno
	}{
		{"a", "mem", 2, 0}, {"a", "rnd", 46, 0}, {"b", "cons", 0, 0}, {"", "log", 7, 0},
		{"a", "mine", 360, 0}, {"b", "yours", 361, 0},
		{"b", "mem", 0, abi.EEXIST}, {"a", "mem", 0, abi.EEXIST},
		{"a", "", 0, abi.EINVAL}, {"a", "x/y", 0, abi.EINVAL}, {"a", "..", 0, abi.EINVAL},
	} {
		d, err := attach(c.inst, c.name, devops.NoChr{})
		want(t, c.name, err, c.e)
		if err == nil && d != abi.Makedev(c.major, 0) {
			t.Errorf("%s: %v", c.name, d)
		}
	}
	for what, n := range map[string]devops.Node{
		"slash": {Name: "a/b"}, "unit": {Name: "a", Unit: 1 << 20}, "mode": {Name: "a", Mode: 0o4666},
	} {
		_, err := attach("a", "bad", nodes{n: []devops.Node{n}})
		want(t, what, err, abi.EINVAL)
	}
	_, err := attach("a", "thief", nodes{n: []devops.Node{{Name: "mem"}}})
	want(t, "node of another driver", err, abi.EEXIST)
	// The number stays with the name.
	s.DetachInstance("a")
	if d, err := attach("c", "mine", devops.NoChr{}); err != nil || d.Major() != 360 {
		t.Errorf("attach again: %v %v", d, err)
	}
	if n := s.DriverName(360); n != "mine" {
		t.Errorf("name of 360: %q", n)
	}
	var names []string
	for _, n := range s.Nodes() {
		names = append(names, fmt.Sprintf("%s:%v", n.Name, n.Dev))
	}
	if got := strings.Join(names, " "); got != "cons:0,0 log:7,0 mine:360,0 yours:361,0" {
		t.Errorf("nodes: %s", got)
	}
	for i := 0; ; i++ {
		if _, err = attach("many", fmt.Sprint("d", i), devops.NoChr{}); err != nil {
			break
		}
	}
	want(t, "majors used up", err, abi.ENOMEM)
}

// TestRestart: a reader that waits, one that comes meanwhile, and an old
// handle all go on in the new process.
func TestRestart(t *testing.T) { synctest.Test(t, testRestart) }

func testRestart(t *testing.T) {
	k := newKit(t)
	ctx := ctxT(t)
	old, f := k.open(abi.O_RDWR), k.open(abi.O_RDWR)
	type res struct {
		b   []byte
		err error
	}
	got := make(chan res, 2)
	reader := func() {
		b, err := read(ctx, f, 1)
		got <- res{b, err}
	}
	go reader()
	synctest.Wait()
	k.crash()
	go reader()
	synctest.Wait()
	if ev := f.Ops.Poll(ctx, f, abi.POLLIN|abi.POLLOUT); ev != 0 {
		t.Errorf("poll meanwhile: %v", ev)
	}
	f.SetFlags(abi.O_NONBLOCK)
	_, err := read(ctx, f, 1)
	want(t, "non-blocking read meanwhile", err, abi.EAGAIN)
	f.SetFlags(0)
	k.boot()
	if n, err := write(ctx, old, "xy"); n != 2 || err != nil {
		t.Errorf("write to an old handle: %d %v", n, err)
	}
	for i := 0; i < 2; i++ {
		if r := <-got; r.err != nil || len(r.b) != 1 {
			t.Errorf("reader: %q %v", r.b, r.err)
		}
	}
	if k.d.opens != 2 {
		t.Errorf("%d opens in the new process, want 2", k.d.opens)
	}
	f.Ops.Close(ctx, f)
	f.Ops.Close(ctx, f)
	if k.d.closes != 1 {
		t.Errorf("%d closes, want 1", k.d.closes)
	}
	// Opened in the dead process only: nobody to tell of the close.
	g := k.open(abi.O_RDWR)
	k.crash()
	k.boot()
	g.Ops.Close(ctx, g)
	if k.d.closes != 0 {
		t.Errorf("the new process was told of a close it knows nothing of")
	}
}

func TestRestartTooLate(t *testing.T) { synctest.Test(t, testRestartTooLate) }

func testRestartTooLate(t *testing.T) {
	k := newKit(t)
	ctx := ctxT(t)
	f := k.open(abi.O_RDWR)
	k.crash()
	start := time.Now()
	_, err := read(ctx, f, 1)
	want(t, "read", err, abi.EIO)
	_, err = k.openUnit(ctx, 0, abi.O_RDWR)
	want(t, "open", err, abi.EIO)
	if d := time.Since(start); d != 6*time.Second {
		t.Errorf("waited %v, want 3 s twice", d)
	}
	got := make(chan error, 1)
	go func() { _, err := read(ctx, f, 1); got <- err }()
	synctest.Wait()
	k.DetachInstance("dev")
	want(t, "read when given up", <-got, abi.ENXIO)
}

// TestDeathUnderTheCall: the process dies while a call is in the driver.
func TestDeathUnderTheCall(t *testing.T) {
	k := newKit(t)
	ctx := ctxT(t)
	f := k.open(abi.O_RDWR)
	k.d.died = true
	_, err := read(ctx, f, 1)
	want(t, "read", err, abi.EIO)
	k.InstanceDown("dev")
	// An attempt to restart it fails between Init and Up, the next succeeds.
	if _, err := k.AttachChr("dev", "queue", k.d); err != nil {
		t.Errorf("attach: %v", err)
	}
	k.boot()
	if n, err := write(ctx, f, "x"); n != 1 || err != nil {
		t.Errorf("write: %d %v", n, err)
	}
	// A process that does not attach it again.
	k.InstanceDown("dev")
	k.InstanceUp("dev")
	_, err = read(ctx, f, 1)
	want(t, "not attached again", err, abi.ENXIO)
}

// TestEdges moves bytes through a small queue, where a lost edge is a hang.
func TestEdges(t *testing.T) {
	k := newKit(t)
	ctx := ctxT(t)
	k.d.size = 1
	r, w := k.open(abi.O_RDONLY), k.open(abi.O_WRONLY)
	const total = 2000
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		if n, err := write(ctx, w, strings.Repeat("x", total)); n != total || err != nil {
			t.Errorf("write: %d %v", n, err)
		}
	}()
	for got := 0; got < total; {
		err := r.Ops.Selinfo(r).Wait(ctx, func() error {
			if r.Ops.Poll(ctx, r, abi.POLLIN) == 0 {
				return abi.EAGAIN
			}
			return nil
		})
		if err != nil {
			t.Fatalf("poll: %v", err)
		}
		b, err := read(ctx, r, 5)
		if err != nil {
			t.Fatalf("read: %v", err)
		}
		got += len(b)
	}
	wg.Wait()
}
