package dev

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/kernel/iostat"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

// ram is a block device driver with two units of memory, that can die, and
// that notices writes that overlap.
type ram struct {
	nodes []devops.Node

	mu     sync.Mutex
	geom   devops.Geom
	mem    [2][]byte
	died   bool
	killed bool       // it does nothing more, and answers nothing
	busy   [][2]int64 // writes under way
	hold   chan struct{}
	held   atomic.Int32 // writes that wait for hold
	opens  int
	closes int
	flush  int
	ids    map[abi.BufID]int
	below  devops.BlockIO // if not nil, unit 1 stands on it
}

const ramSize = 1 << 20

func newRAM(mem *[2][]byte) *ram {
	r := &ram{
		geom: devops.Geom{Size: ramSize, Sector: 4096, MaxIO: 64 << 10, Ops: devops.BFlush | devops.BZeroes, Type: "ram", Label: "test"},
		ids:  make(map[abi.BufID]int),
	}
	if mem == nil {
		mem = &[2][]byte{make([]byte, ramSize), make([]byte, ramSize)}
	}
	r.mem = *mem
	r.nodes = []devops.Node{{Name: "ram0", Mode: 0o640}, {Name: "ram1", Unit: 1, Mode: 0o640}}
	return r
}

func (r *ram) Nodes() []devops.Node {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.nodes
}

func (r *ram) check(unit uint32) error {
	switch {
	case r.died:
		return abi.EIO
	case unit > 1:
		return abi.ENXIO
	}
	return nil
}

func (r *ram) Geometry(ctx context.Context, unit uint32) (devops.Geom, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.killed {
		r.mu.Unlock()
		<-ctx.Done()
		r.mu.Lock()
	}
	return r.geom, r.check(unit)
}

func (r *ram) Open(ctx context.Context, unit uint32, _ int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.killed {
		r.mu.Unlock()
		<-ctx.Done()
		r.mu.Lock()
	}
	if err := r.check(unit); err != nil {
		return err
	}
	r.opens++
	return nil
}

func (r *ram) Close(_ context.Context, unit uint32, _ int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closes++
	return r.check(unit)
}

func (r *ram) Strategy(ctx context.Context, b *devops.Buf) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.killed {
		r.mu.Unlock()
		<-ctx.Done()
		r.mu.Lock()
	}
	if err := r.check(b.Dev.Minor()); err != nil {
		return err
	}
	r.ids[b.ID]++
	if b.Op() == devops.BFlush {
		r.flush++
		return nil
	}
	if r.below != nil && b.Dev.Minor() == 1 {
		r.mu.Unlock()
		err := r.below.Strategy(ctx, b)
		r.mu.Lock()
		return err
	}
	lo, hi := b.Off(), b.Off()+b.Bytes
	mem := r.mem[b.Dev.Minor()]
	if b.Op() == devops.BRead {
		b.Data.CopyIn(mem[lo:hi])
		return nil
	}
	for _, w := range r.busy {
		if w[0] < hi && lo < w[1] {
			return fmt.Errorf("writes overlap: %w", abi.EFAULT)
		}
	}
	if hold := r.hold; hold != nil {
		r.busy = append(r.busy, [2]int64{lo, hi})
		r.held.Add(1)
		r.mu.Unlock()
		<-hold
		r.mu.Lock()
		r.busy = r.busy[:0]
		if err := r.check(b.Dev.Minor()); err != nil {
			return err
		}
	}
	if b.Op() == devops.BZeroes {
		clear(mem[lo:hi])
	} else {
		b.Data.CopyOut(mem[lo:hi])
	}
	return nil
}

func (r *ram) Ioctl(_ context.Context, _ uint32, cmd uint32, arg []byte) ([]byte, error) {
	switch cmd {
	case abi.IOWR('x', 1, 4):
		return arg, nil
	case abi.IOR('x', 2, 4):
		return make([]byte, 8), nil
	}
	return nil, abi.ENOTTY
}

func (r *ram) kill() {
	r.mu.Lock()
	r.died, r.killed = true, true
	r.mu.Unlock()
}

func (r *ram) die() {
	r.mu.Lock()
	r.died = true
	r.mu.Unlock()
}

// blkKit is a switch with a ram of instance "dev".
type blkKit struct {
	t *testing.T
	*Switch
	r   *ram
	dev abi.Dev
}

func newBlkKit(t *testing.T, o Options) *blkKit {
	o.RestartWait = 3 * time.Second
	k := &blkKit{t: t, Switch: New(o)}
	k.SetAvailable(true)
	k.boot(newRAM(nil))
	return k
}

func (k *blkKit) boot(r *ram) {
	k.t.Helper()
	k.r = r
	dev, err := k.AttachBlk("dev", "ram", r)
	if err != nil {
		k.t.Fatal(err)
	}
	k.dev = dev
	k.InstanceUp("dev")
}

// restart is a new process with the same memory.
func (k *blkKit) restart() {
	k.t.Helper()
	old := k.r
	k.boot(newRAM(&old.mem))
}

func (k *blkKit) openBlk(unit uint32, flags int) *BlkHandle {
	k.t.Helper()
	h, err := k.OpenBlk(ctxT(k.t), k.dev|abi.Dev(unit), flags)
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(func() { h.Close(context.Background()) })
	return h
}

func (k *blkKit) node(name string, flags int) *file.File {
	k.t.Helper()
	n, ok := k.Lookup(name)
	if !ok {
		k.t.Fatalf("no node %s", name)
	}
	open := k.Open
	if n.Blk {
		open = k.OpenBlkNode
	}
	ops, data, err := open(ctxT(k.t), abi.KernelCaller, n.Dev, flags)
	if err != nil {
		k.t.Fatal(err)
	}
	f, err := files.New(file.TypeVnode, ops, data, flags, abi.Root)
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(func() { f.Release(context.Background()) })
	return f
}

func buf(op devops.BufFlags, off int64, p []byte) *devops.Buf {
	return &devops.Buf{Flags: op, Blkno: off / devops.DevBsize, Bytes: int64(len(p)), Data: abi.IovOf(p)}
}

func TestBlkAttach(t *testing.T) {
	s := New(Options{})
	for _, c := range []struct {
		inst, name string
		major, raw uint32
		e          abi.Errno
	}{
		{"a", "md", 17, 24, 0}, {"a", "mine", 360, 360, 0}, {"b", "cgd", 21, 81, 0},
		{"b", "md", 0, 0, abi.EEXIST}, {"a", "md", 0, 0, abi.EEXIST}, {"a", "", 0, 0, abi.EINVAL}, {"a", "x/y", 0, 0, abi.EINVAL},
	} {
		r := newRAM(nil)
		r.nodes = []devops.Node{{Name: c.name + "0"}}
		d, err := s.AttachBlk(c.inst, c.name, r)
		want(t, c.name, err, c.e)
		if err == nil && d != abi.Makedev(c.major, 0) {
			t.Errorf("%s: %v", c.name, d)
		}
		if n, ok := s.Lookup("r" + c.name + "0"); err == nil && (!ok || n.Dev != abi.Makedev(c.raw, 0) || n.Blk) {
			t.Errorf("%s: raw node %+v", c.name, n)
		}
	}
	_, err := s.AttachChr("a", "md", devops.NoChr{})
	want(t, "character device of that name", err, abi.EEXIST)
	_, err = s.AttachChr("a", "rmine0", devops.NoChr{})
	want(t, "node of a raw device", err, abi.EEXIST)
	r := newRAM(nil)
	r.nodes = []devops.Node{{Name: "x"}, {Name: "rx"}}
	_, err = s.AttachBlk("a", "twice", r)
	want(t, "own raw node", err, abi.EEXIST)
	s.DetachInstance("a")
	if d, err := s.AttachBlk("c", "mine", newRAM(nil)); err != nil || d.Major() != 360 {
		t.Errorf("attach again: %v %v", d, err)
	}
	if n := s.BlkModuleName(21); n != "cgd" {
		t.Errorf("name of 21: %q", n)
	}
}

func TestBlkOpen(t *testing.T) {
	set := iostat.New()
	k := newBlkKit(t, Options{Iostat: set})
	ctx := ctxT(t)
	_, err := k.OpenBlk(ctx, k.dev|7, abi.O_RDONLY)
	want(t, "no unit", err, abi.ENXIO)
	_, err = k.OpenBlk(ctx, abi.Makedev(17, 0), abi.O_RDONLY)
	want(t, "no driver", err, abi.ENXIO)
	_, err = k.OpenBlk(ctx, abi.NoDev, abi.O_RDONLY)
	want(t, "no device", err, abi.ENXIO)
	if k.InUse("dev", "ram") {
		t.Error("in use after failed opens")
	}
	h := k.openBlk(0, abi.O_RDWR|abi.O_EXCL)
	_, err = k.OpenBlk(ctx, k.dev, abi.O_RDWR|abi.O_EXCL)
	want(t, "alone twice", err, abi.EBUSY)
	h2 := k.openBlk(0, abi.O_RDONLY)
	p := bytes.Repeat([]byte("x"), 8192)
	b := buf(devops.BWrite, 4096, p)
	if err := h.Strategy(ctx, b); err != nil || b.ID == 0 || b.Dev != k.dev {
		t.Errorf("write: %v, %+v", err, b)
	}
	q := make([]byte, 8192)
	if err := h2.Strategy(ctx, buf(devops.BRead, 4096, q)); err != nil || !bytes.Equal(p, q) {
		t.Errorf("read: %v", err)
	}
	for what, c := range map[string]struct {
		h *BlkHandle
		b *devops.Buf
		e abi.Errno
	}{
		"read-only open":   {h2, buf(devops.BWrite, 0, p), abi.EBADF},
		"part of a sector": {h, buf(devops.BWrite, 512, p), abi.EINVAL},
		"behind the end":   {h, buf(devops.BRead, ramSize, p), abi.EINVAL},
		"over the end":     {h, buf(devops.BRead, ramSize-4096, p), abi.EINVAL},
		"too much":         {h, buf(devops.BRead, 0, make([]byte, 128<<10)), abi.EINVAL},
		"discard":          {h, &devops.Buf{Flags: devops.BDiscard, Bytes: 4096}, abi.EOPNOTSUPP},
		"no operation":     {h, &devops.Buf{Bytes: 4096}, abi.EINVAL},
		"flush":            {h, &devops.Buf{Flags: devops.BFlush}, 0},
		"fua by a flush":   {h, buf(devops.BWrite|devops.BFua, 0, p), 0},
		"zeroes":           {h, &devops.Buf{Flags: devops.BZeroes, Bytes: ramSize}, 0},
	} {
		want(t, what, c.h.Strategy(ctx, c.b), c.e)
	}
	if k.r.flush != 2 {
		t.Errorf("%d flushes, want 2", k.r.flush)
	}
	rows := set.Rows()
	if len(rows) != 2 || rows[1].Name != "ram1" || rows[0].Name != "ram0" || rows[0].Reads != 1 || rows[0].WBytes != 8192*2+ramSize || rows[0].Type != iostat.Disk {
		t.Errorf("iostat: %+v", rows)
	}
	if i := k.Blks(); len(i) != 2 || i[0].Opens != 2 || !i[0].Busy || i[1].Opens != 0 || i[1].Name != "ram1" {
		t.Errorf("list: %+v", i)
	}
	h.Close(ctx)
	h.Close(ctx)
	k.openBlk(0, abi.O_RDWR|abi.O_EXCL)
	if k.HideChr("dev", "ram") {
		t.Error("hidden while open")
	}
	k.r.mu.Lock()
	k.r.geom.ReadOnly = true
	k.r.mu.Unlock()
	_, err = k.OpenBlk(ctx, k.dev|1, abi.O_RDWR)
	want(t, "write a read-only one", err, abi.EROFS)
	if k.r.opens-k.r.closes != 2 {
		t.Errorf("%d opens, %d closes", k.r.opens, k.r.closes)
	}
	k.DetachInstance("dev")
	want(t, "detached", h2.Strategy(ctx, buf(devops.BRead, 0, q)), abi.ENXIO)
	want(t, "detached", h2.Up(ctx), abi.ENXIO)
	if len(set.Rows()) != 0 {
		t.Error("iostat counts what is gone")
	}
}

func TestBlkBadGeometry(t *testing.T) {
	for what, f := range map[string]func(g *devops.Geom){
		"sector":      func(g *devops.Geom) { g.Sector = 1000 },
		"tiny sector": func(g *devops.Geom) { g.Sector = 256 },
		"size":        func(g *devops.Geom) { g.Size = 4097 },
		"negative":    func(g *devops.Geom) { g.Size = -4096 },
		"most":        func(g *devops.Geom) { g.MaxIO = 2 << 20 },
	} {
		k := newBlkKit(t, Options{})
		f(&k.r.geom)
		_, err := k.OpenBlk(ctxT(t), k.dev, abi.O_RDONLY)
		want(t, what, err, abi.EIO)
	}
}

func TestBlkNodes(t *testing.T) {
	k := newBlkKit(t, Options{})
	ctx := ctxT(t)
	f, raw := k.node("ram0", abi.O_RDWR), k.node("rram0", abi.O_RDWR)
	io := func(f *file.File, p string, off int64) (int, error) {
		return f.Ops.Write(ctx, abi.KernelCaller, f, []byte(p), off)
	}
	rd := func(f *file.File, n int, off int64) (string, error) {
		b := make([]byte, n)
		n, err := f.Ops.Read(ctx, abi.KernelCaller, f, b, off)
		return string(b[:n]), err
	}
	long := strings.Repeat("0123456789", 10000)
	for _, c := range []struct {
		off  int64
		data string
	}{{0, "a"}, {4095, "bc"}, {8190, long}, {ramSize - 5, "final"}, {4096, strings.Repeat("x", 4096)}} {
		if n, err := io(f, c.data, c.off); n != len(c.data) || err != nil {
			t.Errorf("write at %d: %d, %v", c.off, n, err)
		}
		if s, err := rd(f, len(c.data), c.off); s != c.data || err != nil {
			t.Errorf("read at %d: %d bytes, %v", c.off, len(s), err)
		}
	}
	if s, err := rd(f, 10, ramSize-2); s != "al" || err != nil {
		t.Errorf("read over the end: %q %v", s, err)
	}
	if s, err := rd(f, 10, ramSize); s != "" || err != nil {
		t.Errorf("read at the end: %q %v", s, err)
	}
	_, err := rd(f, 10, ramSize+1)
	want(t, "read behind the end", err, abi.EINVAL)
	_, err = io(f, "x", ramSize)
	want(t, "write at the end", err, abi.ENOSPC)
	if n, err := io(f, "abcdef", ramSize-3); n != 3 || err != nil {
		t.Errorf("write over the end: %d %v", n, err)
	}
	_, err = rd(raw, 10, 0)
	want(t, "raw read of a part", err, abi.EINVAL)
	_, err = rd(raw, 4096, 512)
	want(t, "raw read inside", err, abi.EINVAL)
	if s, err := rd(raw, 128<<10, 0); len(s) != 128<<10 || err != nil || s[:1] != "a" {
		t.Errorf("raw read: %d bytes, %v", len(s), err)
	}
	if s, err := rd(raw, 8192, ramSize-4096); len(s) != 4096 || err != nil {
		t.Errorf("raw read over the end: %d bytes, %v", len(s), err)
	}
	if n, err := f.Ops.Seek(ctx, nil, f, -1, abi.SEEK_END); n != ramSize-1 || err != nil {
		t.Errorf("seek: %d %v", n, err)
	}
	if s, err := rd(f, 10, file.Cur); s != "c" || err != nil || f.Offset != ramSize {
		t.Errorf("read at the offset: %q %v, then at %d", s, err, f.Offset)
	}
	ioctl := func(cmd uint32, arg []byte) []byte {
		t.Helper()
		out, err := f.Ops.Ioctl(ctx, abi.KernelCaller, f, cmd, arg)
		if err != nil {
			t.Errorf("ioctl %#x: %v", cmd, err)
		}
		return out
	}
	le := binary.LittleEndian
	if n := le.Uint64(ioctl(abi.DIOCGMEDIASIZE, nil)); n != ramSize {
		t.Errorf("media size %d", n)
	}
	if n := le.Uint32(ioctl(abi.DIOCGSECTORSIZE, nil)); n != 4096 {
		t.Errorf("sector size %d", n)
	}
	if n := le.Uint32(ioctl(abi.DIOCGCACHE, nil)); n != abi.DKCACHE_READ|abi.DKCACHE_WRITE {
		t.Errorf("cache %#x", n)
	}
	w := ioctl(abi.DIOCGWEDGEINFO, nil)
	if !bytes.HasPrefix(w, []byte("ram0\x00")) || string(w[16:20]) != "test" || le.Uint64(w[168:]) != ramSize/4096 || string(w[176:179]) != "ram" {
		t.Errorf("wedge info %q", w)
	}
	ioctl(abi.DIOCCACHESYNC, make([]byte, 4))
	if k.r.flush != 1 || f.Ops.Fsync(ctx, nil, f, false) != nil || k.r.flush != 2 {
		t.Errorf("%d flushes", k.r.flush)
	}
	if out := ioctl(abi.IOWR('x', 1, 4), []byte("12345")); string(out) != "1234" {
		t.Errorf("ioctl of the driver: %q", out)
	}
	_, err = f.Ops.Ioctl(ctx, nil, f, abi.IOR('x', 2, 4), nil)
	want(t, "driver answers too much", err, abi.EIO)
	_, err = f.Ops.Ioctl(ctx, nil, f, abi.TIOCGWINSZ, nil)
	want(t, "unknown", err, abi.ENOTTY)
	if st, err := f.Ops.Stat(ctx, nil, f); err != nil || st.Type != abi.VBLK || st.Size != ramSize || st.Rdev != k.dev {
		t.Errorf("stat: %+v %v", st, err)
	}
	if st, err := raw.Ops.Stat(ctx, nil, raw); err != nil || st.Type != abi.VCHR || st.Rdev == k.dev && st.Rdev.Major() != k.dev.Major() {
		t.Errorf("stat of the raw side: %+v %v", st, err)
	}
	if ev := f.Ops.Poll(ctx, f, abi.POLLIN|abi.POLLOUT); ev != abi.POLLIN|abi.POLLOUT {
		t.Errorf("poll: %v", ev)
	}
}

// TestBlkChanged: units come and go, with their nodes and geometry.
func TestBlkChanged(t *testing.T) {
	k := newBlkKit(t, Options{})
	h := k.openBlk(0, abi.O_RDONLY)
	set := func(nodes ...devops.Node) error {
		k.r.mu.Lock()
		k.r.nodes = nodes
		k.r.geom.Size = ramSize / 2
		k.r.mu.Unlock()
		return k.BlkChanged("dev", k.dev)
	}
	if err := set(devops.Node{Name: "ram7", Unit: 7}); err != nil {
		t.Fatal(err)
	}
	if _, ok := k.Lookup("ram0"); ok {
		t.Error("ram0 is still there")
	}
	if n, ok := k.Lookup("ram7"); !ok || n.Dev != k.dev|7 {
		t.Errorf("ram7: %+v", n)
	}
	if g, err := h.Geometry(ctxT(t)); err != nil || g.Size != ramSize/2 {
		t.Errorf("geometry: %+v %v", g, err)
	}
	want(t, "bad node", set(devops.Node{Name: "a/b"}), abi.EINVAL)
	want(t, "other's device", k.BlkChanged("other", k.dev), abi.ENXIO)
	want(t, "no device", k.BlkChanged("dev", abi.Makedev(99, 0)), abi.ENXIO)
	if _, ok := k.Lookup("ram7"); !ok {
		t.Error("a refused change has had an effect")
	}
}

// TestBlkDeath: a write in flight when the process dies is issued again, with
// its identity; one by Strategy says so instead.
func TestBlkDeath(t *testing.T) { synctest.Test(t, testBlkDeath) }

func testBlkDeath(t *testing.T) {
	k := newBlkKit(t, Options{})
	ctx := ctxT(t)
	h := k.openBlk(0, abi.O_RDWR|abi.O_EXCL)
	hold := make(chan struct{})
	old := k.r
	old.hold = hold
	p := bytes.Repeat([]byte("y"), 4096)
	again, told := buf(devops.BWrite, 0, p), make(chan error, 1)
	done := make(chan error, 1)
	go func() { done <- h.Do(ctx, again) }()
	go func() { told <- h.Strategy(ctx, buf(devops.BWrite, 8192, p)) }()
	synctest.Wait()
	if old.held.Load() != 2 {
		t.Fatalf("%d writes in flight", old.held.Load())
	}
	old.die()
	k.InstanceDown("dev")
	close(hold)
	if err := <-told; !errors.Is(err, ErrDied) || abi.ErrnoOf(err) != abi.EIO {
		t.Errorf("Strategy: %v", err)
	}
	if err := h.Strategy(ctx, buf(devops.BRead, 0, p)); !errors.Is(err, ErrDied) {
		t.Errorf("Strategy meanwhile: %v", err)
	}
	go func() {
		time.Sleep(time.Second)
		k.restart()
	}()
	if err := <-done; err != nil {
		t.Errorf("Do: %v", err)
	}
	if k.r.ids[again.ID] != 1 || old.ids[again.ID] != 1 {
		t.Errorf("buf %d: %d times before, %d after", again.ID, old.ids[again.ID], k.r.ids[again.ID])
	}
	if k.r.opens != 1 {
		t.Errorf("%d opens in the new process", k.r.opens)
	}
	// It stays away.
	k.r.die()
	k.InstanceDown("dev")
	start := time.Now()
	want(t, "Up", h.Up(ctx), abi.EIO)
	want(t, "Do", h.Do(ctx, buf(devops.BRead, 0, p)), abi.EIO)
	if d := time.Since(start); d != 6*time.Second {
		t.Errorf("waited %v, want 3 s twice", d)
	}
	go func() {
		time.Sleep(time.Second)
		k.DetachInstance("dev")
	}()
	want(t, "given up meanwhile", h.Do(ctx, buf(devops.BRead, 0, p)), abi.ENXIO)
}

// TestBlkPoison: a request that kills every process is given up.
func TestBlkPoison(t *testing.T) {
	k := newBlkKit(t, Options{})
	h := k.openBlk(0, abi.O_RDWR)
	lives := 0
	err := h.patiently(ctxT(t), func() error { lives++; return &died{what: "test"} })
	want(t, "poison", err, abi.EIO)
	if errors.Is(err, ErrDied) || lives != maxReissues+1 {
		t.Errorf("%d lives: %v", lives, err)
	}
}

// TestBlkOverlap: writes that overlap are not in flight together, others are.
func TestBlkOverlap(t *testing.T) { synctest.Test(t, testBlkOverlap) }

func testBlkOverlap(t *testing.T) {
	k := newBlkKit(t, Options{})
	ctx := ctxT(t)
	h := k.openBlk(0, abi.O_RDWR)
	hold := make(chan struct{})
	k.r.hold = hold
	res := make(chan error, 4)
	for _, off := range []int64{0, 4096, 65536, 4096} {
		p := make([]byte, 8192)
		go func() { res <- h.Strategy(ctx, buf(devops.BWrite, off, p)) }()
		synctest.Wait()
	}
	if n := k.r.held.Load(); n != 2 {
		t.Errorf("%d writes in flight, want 2", n)
	}
	cctx, cancel := context.WithCancel(ctx)
	cancel()
	want(t, "given up", h.Strategy(cctx, buf(devops.BWrite, 0, make([]byte, 4096))), abi.EINTR)
	k.r.mu.Lock()
	k.r.hold = nil
	k.r.mu.Unlock()
	close(hold)
	for range 4 {
		if err := <-res; err != nil {
			t.Error(err)
		}
	}
}

// TestBlkFail: fault injection, the same with the same seed.
func TestBlkFail(t *testing.T) {
	run := func(seed string) (s string) {
		f, err := ParseFail("2500", seed)
		if err != nil {
			t.Fatal(err)
		}
		k := newBlkKit(t, Options{Fail: f})
		h := k.openBlk(0, abi.O_RDWR)
		for range 200 {
			err := h.Strategy(ctxT(t), buf(devops.BRead, 0, make([]byte, 4096)))
			switch abi.ErrnoOf(err) {
			case 0:
				s += "."
			case abi.EIO:
				s += "x"
			default:
				t.Fatal(err)
			}
		}
		return s
	}
	a, b, c := run("42"), run("42"), run("43")
	if a != b || a == c {
		t.Errorf("%s\n%s\n%s", a, b, c)
	}
	if n := strings.Count(a, "x"); n < 25 || n > 80 {
		t.Errorf("%d of 200 failed, want about 50", n)
	}
	for _, p := range [][2]string{{"x", ""}, {"-1", ""}, {"1", "y"}} {
		if _, err := ParseFail(p[0], p[1]); abi.ErrnoOf(err) != abi.EINVAL {
			t.Errorf("%q: %v", p, err)
		}
	}
	if f, err := ParseFail("", ""); err != nil || f != (Fail{}) {
		t.Errorf("none: %+v %v", f, err)
	}
}
