package modtest

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// life is a mount over several process generations: what kernel/vfs and
// kernel/journal do, as simply as it can be said.
type life struct {
	*fsT
	newFS  func(t *testing.T) FSUnderTest
	mods   []modapi.Module
	layers map[abi.Dev]*layer
	op0    vfsops.Op // of the first Mount
	log    []entry   // behind the last checkpoint committed
	ckpt   abi.OpSeq // of that
	deaths int
}

// entry is a mutator that was answered without an error.
type entry struct {
	what string
	seq  abi.OpSeq
	do   mutator
	got  any
	made abi.Handle // what it made: given back at the replay
}

// mutator does one operation with what it was given, the first time and again.
type mutator func(fs vfsops.FS, op vfsops.Op) (any, error)

// newLife mounts an empty file system, on its own instance of the modules.
func newLife(f *fsT) *life {
	l := &life{fsT: &fsT{T: f.T, ctx: f.ctx, b: f.b, newFS: f.newFS, k: NewKernel(f.T, f.ut.Grants), id: 1}, newFS: f.newFS, layers: map[abi.Dev]*layer{}}
	l.op0 = l.op()
	l.start()
	return l
}

// start makes a process, and mounts in it what the last checkpoint left.
func (l *life) start() {
	l.Helper()
	l.ut = l.newFS(l.T)
	if l.deaths == 0 {
		for dev, io := range l.ut.Disks {
			l.layers[dev] = newLayer(io)
		}
	}
	for dev, y := range l.layers {
		l.k.SetDisk(dev, y.open())
	}
	l.k.Forget()
	reason := modapi.Fresh
	if l.deaths > 0 {
		reason = modapi.Restart
	}
	l.fs, l.mods = nil, l.b.Bind(l.T, l.ut.Mods, l.ut.Grants)
	now := l.deaths
	l.Cleanup(func() {
		if l.deaths == now {
			l.end(true)
		}
	})
	for _, m := range l.mods {
		if err := l.k.Init(m, reason, l.ut.Props[m.Info().Name]); err != nil {
			l.Fatalf("Init of %s: %v", m.Info().Name, err)
		}
	}
	typ := l.k.FSTypes[l.ut.Type]
	if typ.Type == nil {
		l.Fatalf("no file system type %q was attached", l.ut.Type)
	}
	req := l.ut.mountReq(l.id, l.ut.Options, l.op0)
	req.Seq = l.ckpt
	fs, err := typ.Type.Mount(l.ctx, req)
	if err != nil {
		l.Fatalf("Mount, as of mutator %d: %v", l.ckpt, err)
	}
	l.fs, l.caps = fs, typ.Caps|vfsops.CapsOf(fs)
	if l.root, err = fs.Root(l.ctx); err != nil {
		l.Fatalf("Root: %v", err)
	}
}

// end ends the process; one that has been fenced may complain.
func (l *life) end(properly bool) {
	var errs []error
	if l.fs != nil {
		errs = append(errs, l.fs.Unmount(context.Background()))
	}
	for _, m := range slices.Backward(l.mods) {
		errs = append(errs, m.Fini(context.Background()))
	}
	for _, err := range errs {
		if err != nil && properly {
			l.Errorf("end: %v", err)
		}
	}
}

// die is the death of the process: what it has not committed is lost, and what
// it still does has no effect. Another one is mounted as of the last
// checkpoint; nothing has been replayed.
func (l *life) die() {
	l.Helper()
	l.deaths++
	killed := false
	for _, m := range l.mods {
		if k, ok := m.(Killer); ok {
			k.Kill()
			killed = true
		}
	}
	l.k.StoreOf(l.id).Reopen()
	for _, y := range l.layers {
		y.drop()
	}
	if !killed {
		l.end(false)
	}
	l.start()
}

// replay repeats the first n entries behind the checkpoint; each must answer
// what it did.
func (l *life) replay(n int) {
	l.Helper()
	for _, e := range l.log[:n] {
		op := l.opAt(e.seq)
		op.Fileid, op.Gen = e.made.File, e.made.Gen
		got, err := e.do(l.fs, op)
		if err != nil {
			l.Fatalf("replay of %d, %s: %v", e.seq, e.what, err)
		}
		if !reflect.DeepEqual(got, e.got) {
			l.Fatalf("replay of %d, %s, answers\n%+v, the first time it was\n%+v", e.seq, e.what, got, e.got)
		}
	}
}

// recover is death and full replay.
func (l *life) recover() {
	l.Helper()
	l.die()
	l.replay(len(l.log))
}

// checkpoint asks for one and, with commit, makes it valid: what is entered up
// to now, or in a replay up to entry n, is covered.
func (l *life) checkpoint(n int, commit bool) error {
	seq := l.ckpt
	if n > 0 {
		seq = l.log[n-1].seq
	}
	if seq == 0 {
		return nil // nothing has happened
	}
	if err := l.fs.(vfsops.Checkpointer).Checkpoint(l.ctx, seq); err != nil {
		return err
	}
	if commit {
		l.k.StoreOf(l.id).Commit(seq)
		for _, y := range l.layers {
			y.commit()
		}
		l.ckpt, l.log = seq, slices.Clone(l.log[n:])
	}
	return nil
}

// commit is a checkpoint of all.
func (l *life) commit() {
	l.Helper()
	l.must("checkpoint", l.checkpoint(len(l.log), true))
}

// do does a mutator and enters it if it went well.
func (l *life) do(what string, m mutator) (any, error) {
	l.Helper()
	op := l.op()
	got, err := m(l.fs, op)
	if err == nil {
		e := entry{what: what, seq: op.Seq, do: m, got: got}
		if made[what] {
			e.made = got.(vfsops.Mutated).Node.Handle
		}
		l.log = append(l.log, e)
	}
	return got, err
}

// made are the operations that make a node, by what they are called.
var made = map[string]bool{"create": true, "mkdir": true, "symlink": true, "mknod": true}

// make does one of them that must go well.
func (l *life) make(what string, dir abi.Handle, name string) vfsops.Entry {
	l.Helper()
	got, err := l.do(what, makes(what, dir, name))
	l.must(what+" "+name, err)
	return got.(vfsops.Mutated).Node
}

func makes(what string, dir abi.Handle, name string) mutator {
	return func(fs vfsops.FS, op vfsops.Op) (any, error) {
		r := vfsops.CreateReq{Op: op, Dir: dir, Name: []byte(name), Mode: 0o640, Uid: 7, Gid: 8}
		switch what {
		case "mkdir":
			r.Mode = 0o751
			return fs.(vfsops.Creator).Mkdir(context.Background(), r)
		case "symlink":
			return fs.(vfsops.Symlinker).Symlink(context.Background(), vfsops.SymlinkReq{CreateReq: r, Target: []byte("to/" + name)})
		case "mknod":
			return fs.(vfsops.Mknoder).Mknod(context.Background(), vfsops.MknodReq{CreateReq: r, Type: abi.VFIFO})
		}
		return fs.(vfsops.Creator).Create(context.Background(), r)
	}
}

// unlink removes a name; a pin comes before it if somebody has the file open.
func (l *life) unlink(dir abi.Handle, name string, e vfsops.Entry, pin bool) error {
	l.Helper()
	if pin {
		if _, err := l.do("pin", pins(e.Handle, true)); err != nil {
			return err
		}
	}
	_, err := l.do("remove", func(fs vfsops.FS, op vfsops.Op) (any, error) {
		r := vfsops.RemoveReq{Op: op, Dir: dir, Name: []byte(name), Victim: e.Handle}
		if e.Vattr.Type == abi.VDIR {
			return fs.(vfsops.Remover).Rmdir(context.Background(), r)
		}
		return fs.(vfsops.Remover).Remove(context.Background(), r)
	})
	if err != nil && pin {
		_, e2 := l.do("unpin", pins(e.Handle, false))
		l.must("unpin", e2)
	}
	return err
}

func pins(h abi.Handle, pin bool) mutator {
	return func(fs vfsops.FS, _ vfsops.Op) (any, error) {
		if pin {
			return nil, fs.(vfsops.Pinner).Pin(context.Background(), h)
		}
		return nil, fs.(vfsops.Pinner).Unpin(context.Background(), h)
	}
}

// image is all that can be seen of a mount: a line for each thing, by path.
type image map[string]string

// image looks at all of the mount, and at nodes without a name.
func (l *life) image(nameless ...abi.Handle) image {
	l.Helper()
	im := image{}
	l.see(im, "", l.root.Handle)
	for i, h := range nameless {
		l.see(im, fmt.Sprint("nameless ", i), h)
	}
	st, err := l.fs.Statvfs(l.ctx)
	l.must("statvfs", err)
	im["statvfs"] = fmt.Sprintf("%d of %d blocks free, %d of %d files", st.Bfree, st.Blocks, st.Ffree, st.Files)
	return im
}

func (l *life) see(im image, path string, h abi.Handle) {
	l.Helper()
	v, err := l.fs.Getattr(l.ctx, h)
	if err != nil {
		l.Fatalf("getattr of %q: %v", path, err)
	}
	l.checkAttr(path, h, v)
	line := fmt.Sprintf("%+v", v)
	switch {
	case v.Type == abi.VLNK && l.has(vfsops.HasReadlinker):
		t, err := l.fs.(vfsops.Readlinker).Readlink(l.ctx, h)
		l.must("readlink", err)
		line += fmt.Sprintf(" -> %q", t)
	case v.Type == abi.VREG && !l.has(vfsops.CapKpages) && v.Size < 1<<20:
		p := make([]byte, v.Size)
		n, err := l.fs.Read(l.ctx, h, 0, abi.IovOf(p))
		l.must("read", err)
		line += fmt.Sprintf(" %x", p[:n])
	}
	if l.has(vfsops.HasXattrer) {
		x := l.fs.(vfsops.Xattrer)
		names, err := x.Listxattr(l.ctx, h)
		if !notSupported(err) {
			l.must("listxattr", err)
		}
		for _, name := range bytes.Split(names, []byte{0}) {
			if len(name) > 0 {
				val, err := x.Getxattr(l.ctx, h, name)
				l.must("getxattr", err)
				line += fmt.Sprintf(" %q=%q", name, val)
			}
		}
	}
	im[path] = line
	if v.Type != abi.VDIR {
		return
	}
	for _, d := range l.list(h, 1000, nil) {
		p := path + "/" + d.Name
		e := l.lookup(h, d.Name)
		if e.Handle.File != d.Fileid || e.Vattr.Type != d.Type {
			l.Errorf("%s is listed as %+v, and found as %+v", p, d, e)
		}
		l.see(im, p, e.Handle)
		im[p] += fmt.Sprint(" cookie ", d.Cookie)
	}
}

// same fails the test unless two images are.
func (l *life) same(what string, got, want image) {
	l.Helper()
	bad := 0
	all := maps.Clone(want)
	maps.Copy(all, got)
	for _, p := range slices.Sorted(maps.Keys(all)) {
		if got[p] != want[p] {
			if bad++; bad <= 5 {
				l.Errorf("%s: %q is\n  %s\nand was\n  %s", what, p, got[p], want[p])
			}
		}
	}
	if bad > 0 {
		l.Fatalf("%s: %d differences", what, bad)
	}
}

// layer is a disk with what was written since the last checkpoint beside it.
type layer struct {
	mu   sync.Mutex
	base devops.BlockIO
	size int64 // of a sector
	top  map[int64][]byte
	now  *layerIO
}

type layerIO struct{ y *layer }

func newLayer(base devops.BlockIO) *layer {
	y := &layer{base: base}
	g, _ := base.Geometry(context.Background())
	y.size = int64(max(g.Sector, devops.DevBsize))
	return y
}

// open is what the next process has of the disk.
func (y *layer) open() devops.BlockIO {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.now, y.top = &layerIO{y}, map[int64][]byte{}
	return y.now
}

func (y *layer) drop() {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.now, y.top = nil, nil
}

func (y *layer) commit() {
	y.mu.Lock()
	defer y.mu.Unlock()
	for off, p := range y.top {
		if err := y.base.Strategy(context.Background(), &devops.Buf{Blkno: off / devops.DevBsize, Bytes: y.size, Flags: devops.BWrite, Data: abi.IovOf(p)}); err != nil {
			panic(err)
		}
	}
	clear(y.top)
}

func (x *layerIO) Geometry(ctx context.Context) (devops.Geom, error) { return x.y.base.Geometry(ctx) }
func (x *layerIO) Close(context.Context) error                       { return nil }

func (x *layerIO) Strategy(ctx context.Context, b *devops.Buf) error {
	y := x.y
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.now != x {
		return abi.EIO
	}
	g, err := y.base.Geometry(ctx)
	if err == nil {
		err = b.Check(&g)
	}
	if err != nil || b.Op() == devops.BFlush {
		return err
	}
	buf := make([]byte, b.Bytes)
	switch b.Op() {
	case devops.BRead:
		if err := y.base.Strategy(ctx, &devops.Buf{Blkno: b.Blkno, Bytes: b.Bytes, Flags: devops.BRead, Data: abi.IovOf(buf)}); err != nil {
			return err
		}
		for at := int64(0); at < b.Bytes; at += y.size {
			if p := y.top[b.Off()+at]; p != nil {
				copy(buf[at:], p)
			}
		}
		b.Data.CopyIn(buf)
		return nil
	case devops.BWrite:
		b.Data.CopyOut(buf)
	}
	for at := int64(0); at < b.Bytes; at += y.size {
		y.top[b.Off()+at] = buf[at : at+y.size]
	}
	return nil
}
