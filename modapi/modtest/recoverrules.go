package modtest

import (
	"context"
	"fmt"
	"reflect"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// needLife is a mount of a file system that claims to lose nothing.
func needLife(f *fsT) *life {
	f.Helper()
	if !f.has(vfsops.CapCheckpoint) {
		f.Skip("the file system does not have this")
	}
	return newLife(f)
}

// Who claims checkpoints has all that they take.
func ruleCheckpointCaps(f *fsT) {
	f.need(vfsops.CapCheckpoint)
	for what, c := range map[string]vfsops.Caps{
		"CapFixedids": vfsops.CapFixedids, "CapSole": vfsops.CapSole, "vfsops.Checkpointer": vfsops.HasCheckpointer,
	} {
		if !f.has(c) {
			f.Errorf("CapCheckpoint without %s", what)
		}
	}
	if f.has(vfsops.HasRemover) && !f.has(vfsops.HasPinner) {
		f.Error("CapCheckpoint without vfsops.Pinner: what is open and loses its name is lost")
	}
}

// populate makes some of everything, and answers a directory of it.
func (l *life) populate() vfsops.Entry {
	l.Helper()
	d := l.make("mkdir", l.root.Handle, "d")
	for i := range 100 {
		l.make("create", d.Handle, fmt.Sprint("f", i))
	}
	sub := l.make("mkdir", d.Handle, "sub")
	l.make("create", sub.Handle, "deep")
	if l.has(vfsops.HasSymlinker) {
		l.make("symlink", d.Handle, "link")
	}
	if l.has(vfsops.HasMknoder) {
		l.make("mknod", d.Handle, "fifo")
	}
	for i := 0; i < 100; i += 3 {
		name := fmt.Sprint("f", i)
		l.must("remove", l.unlink(d.Handle, name, l.lookup(d.Handle, name), false))
	}
	if l.has(vfsops.HasLinker) {
		e := l.lookup(d.Handle, "f1")
		_, err := l.do("link", func(fs vfsops.FS, op vfsops.Op) (any, error) {
			return fs.(vfsops.Linker).Link(l.ctx, vfsops.LinkReq{Op: op, Node: e.Handle, Dir: l.root.Handle, Name: []byte("second")})
		})
		l.must("link", err)
	}
	if l.has(vfsops.HasSetattrer) {
		e := l.lookup(d.Handle, "f2")
		_, err := l.do("setattr", func(fs vfsops.FS, op vfsops.Op) (any, error) {
			return fs.(vfsops.Setattrer).Setattr(l.ctx, vfsops.SetattrReq{Op: op, Node: e.Handle, Mask: abi.SetMtime, Attr: abi.Vattr{Mtime: abi.Timespec{Sec: 1600000000}}})
		})
		l.must("setattr", err)
	}
	l.setxattr(d.Handle, "user.colour", "red")
	l.fill(l.lookup(d.Handle, "f4").Handle, 5000)
	return d
}

// fill gives a file n bytes, in the way that it takes them.
func (l *life) fill(h abi.Handle, n int64) {
	l.Helper()
	_, err := l.do("fill", l.fills(h, n))
	l.must("fill", err)
}

func (l *life) fills(h abi.Handle, n int64) mutator {
	kpages, pager, writer := l.has(vfsops.CapKpages), l.has(vfsops.HasPager), l.has(vfsops.HasWriter)
	data := func(op vfsops.Op, n int64) abi.Iov {
		p := make([]byte, n)
		for i := range p {
			p[i] = byte(int(op.Seq) + i/7)
		}
		return abi.IovOf(p)
	}
	return func(fs vfsops.FS, op vfsops.Op) (any, error) {
		ctx := context.Background()
		switch {
		case kpages:
			return fs.(vfsops.Setattrer).Setattr(ctx, vfsops.SetattrReq{Op: op, Node: h, Mask: abi.SetSize, Attr: abi.Vattr{Size: n}})
		case pager:
			whole := (n + abi.PageSize - 1) &^ (abi.PageSize - 1)
			return nil, fs.(vfsops.Pager).WritePages(ctx, op, h, 0, data(op, whole), n)
		case writer:
			return fs.(vfsops.Writer).Write(ctx, vfsops.WriteReq{Op: op, Node: h}, data(op, n))
		}
		return nil, nil
	}
}

func (l *life) setxattr(h abi.Handle, name, val string) {
	l.Helper()
	if !l.has(vfsops.HasXattrer | vfsops.CapXattr) {
		return
	}
	_, err := l.do("setxattr", setxattrs(h, name, val))
	l.must("setxattr", err)
}

func setxattrs(h abi.Handle, name, val string) mutator {
	return func(fs vfsops.FS, op vfsops.Op) (any, error) {
		x := fs.(vfsops.Xattrer)
		if val == "" {
			return nil, x.Removexattr(context.Background(), op, h, []byte(name))
		}
		return nil, x.Setxattr(context.Background(), vfsops.SetxattrReq{Op: op, Node: h, Name: []byte(name), Value: []byte(val)})
	}
}

// What a checkpoint covers is there after a death, and what is done on top of it
// too.
func ruleCheckpoint(f *fsT) {
	l := needLife(f)
	d := l.populate()
	want := l.image()
	l.commit()
	if st := l.k.StoreOf(l.id); len(l.layers) == 0 && len(st.Records()) == 0 {
		l.Error("a checkpoint writes nothing")
	}
	l.die()
	l.same("after a checkpoint and a death", l.image(), want)
	// Again, with changes to what has not been looked at.
	l.die()
	e := l.lookup(d.Handle, "f5")
	l.must("remove", l.unlink(d.Handle, "f5", e, false))
	l.make("create", d.Handle, "new")
	l.commit()
	want = l.image()
	l.die()
	l.same("after a second checkpoint", l.image(), want)
	// A checkpoint of nothing.
	l.commit()
	l.die()
	l.same("after an empty checkpoint", l.image(), want)
}

// What is behind the checkpoint comes back by replay, with the same answers,
// however often it is begun, and is there once.
func ruleCheckpointReplay(f *fsT) {
	l := needLife(f)
	l.populate()
	want := l.image()
	l.recover()
	l.same("after replay from the beginning", l.image(), want)
	l.commit()
	d := l.lookup(l.root.Handle, "d")
	for i := range 30 {
		l.make("create", d.Handle, fmt.Sprint("g", i))
	}
	for i := range 10 {
		name := fmt.Sprint("g", 3*i)
		l.must("remove", l.unlink(d.Handle, name, l.lookup(d.Handle, name), false))
	}
	l.setxattr(d.Handle, "user.colour", "green")
	want = l.image()
	l.recover()
	l.same("after replay", l.image(), want)
	l.die()
	l.replay(len(l.log) / 2) // and it dies in the middle of it
	l.recover()
	l.same("after a death during replay", l.image(), want)
	l.die()
	n := len(l.log) / 2
	l.replay(n)
	l.must("checkpoint", l.checkpoint(n, true)) // in the middle of a replay
	l.recover()
	l.same("after a checkpoint during replay", l.image(), want)
	l.recover()
	l.same("after replay once more", l.image(), want)
}

// What is written for a checkpoint that was not committed is not seen.
func ruleCheckpointUncommitted(f *fsT) {
	l := needLife(f)
	l.populate()
	l.commit()
	want := l.image()
	before := l.k.StoreOf(l.id).Records()
	d := l.lookup(l.root.Handle, "d")
	l.make("create", d.Handle, "lost")
	l.must("remove", l.unlink(d.Handle, "f4", l.lookup(d.Handle, "f4"), false))
	tail := l.image()
	l.must("checkpoint", l.checkpoint(len(l.log), false))
	if got := l.k.StoreOf(l.id).Records(); !reflect.DeepEqual(got, before) {
		l.Error("the kit's Store shows what is pending")
	}
	l.die()
	l.same("after a death before the commit", l.image(), want)
	l.recover()
	l.same("after replay", l.image(), tail)
	// An answer without commit must not be taken for one: the next writes it again.
	l.must("checkpoint", l.checkpoint(len(l.log), false))
	l.commit()
	l.die()
	l.same("after a checkpoint asked for twice", l.image(), tail)
}

// Ids are those of the first time, stay in use, and are not given again.
func ruleCheckpointIDs(f *fsT) {
	l := needLife(f)
	a := l.make("create", l.root.Handle, "a")
	b := l.make("create", l.root.Handle, "b")
	l.commit()
	c := l.make("create", l.root.Handle, "c")
	l.must("remove", l.unlink(l.root.Handle, "b", b, false))
	gone := l.make("create", l.root.Handle, "gone")
	l.must("remove", l.unlink(l.root.Handle, "gone", gone, false))
	l.recover()
	for name, e := range map[string]vfsops.Entry{"a": a, "c": c} {
		if got := l.lookup(l.root.Handle, name); got.Handle != e.Handle {
			l.Errorf("%s is %v after a death, it was %v", name, got.Handle, e.Handle)
		}
		if l.getattr(e.Handle) != l.lookup(l.root.Handle, name).Vattr {
			l.Errorf("%s: getattr of its handle differs", name)
		}
	}
	for _, h := range []abi.Handle{b.Handle, gone.Handle} {
		_, err := l.fs.Getattr(l.ctx, h)
		l.want("getattr of what was removed before the death", err, abi.ESTALE)
	}
	for _, used := range []abi.Handle{a.Handle, c.Handle} {
		op := l.op()
		op.Fileid, op.Gen = used.File, used.Gen
		if _, err := makes("create", l.root.Handle, "taken")(l.fs, op); err == nil {
			l.Errorf("a replay was given id %d, which is in use", used.File)
		}
	}
	l.gone(l.root.Handle, "taken")
	seen := map[abi.Handle]bool{a.Handle: true, b.Handle: true, c.Handle: true, gone.Handle: true}
	for i := range 20 {
		if e := l.make("create", l.root.Handle, fmt.Sprint("n", i)); seen[e.Handle] {
			l.Errorf("handle %v was given again", e.Handle)
		}
	}
}

// A node without a name lives on while it is pinned, over any number of deaths,
// and goes with the last pin.
func ruleCheckpointPin(f *fsT) {
	l := needLife(f)
	l.need(vfsops.HasCreator | vfsops.HasRemover | vfsops.HasPinner)
	early := l.make("create", l.root.Handle, "early")
	late := l.make("create", l.root.Handle, "late")
	l.fill(early.Handle, 3000)
	l.must("remove", l.unlink(l.root.Handle, "early", early, true))
	_, err := l.do("pin", pins(early.Handle, true)) // twice
	l.must("pin", err)
	l.commit()
	l.must("remove", l.unlink(l.root.Handle, "late", late, true))
	want := l.image(early.Handle, late.Handle)
	l.recover()
	l.same("nodes without a name", l.image(early.Handle, late.Handle), want)
	l.commit()
	l.die()
	l.same("nodes without a name, from the checkpoint", l.image(early.Handle, late.Handle), want)
	for _, h := range []abi.Handle{early.Handle, late.Handle} {
		_, err := l.do("unpin", pins(h, false))
		l.must("unpin", err)
	}
	l.commit() // the number of pins is part of it
	// A pin, a death, and then the name goes.
	open := l.make("create", l.root.Handle, "open")
	l.commit()
	_, err = l.do("pin", pins(open.Handle, true))
	l.must("pin", err)
	l.commit()
	l.die()
	l.must("remove", l.unlink(l.root.Handle, "open", open, false))
	l.getattr(open.Handle)
	_, err = l.do("unpin", pins(open.Handle, false))
	l.must("unpin", err)
	_, err = l.fs.Getattr(l.ctx, open.Handle)
	l.want("getattr after pin, death, remove and unpin", err, abi.ESTALE)
	l.getattr(early.Handle)
	_, err = l.fs.Getattr(l.ctx, late.Handle)
	l.want("getattr after the last unpin", err, abi.ESTALE)
	l.recover()
	l.getattr(early.Handle)
	_, err = l.fs.Getattr(l.ctx, late.Handle)
	l.want("getattr after the last unpin and a death", err, abi.ESTALE)
	_, err = l.do("unpin", pins(early.Handle, false))
	l.must("unpin", err)
	l.commit()
	l.die()
	_, err = l.fs.Getattr(l.ctx, early.Handle)
	l.want("getattr after the last unpin, a checkpoint and a death", err, abi.ESTALE)
	if got, want := l.image(), (image{}); len(got) != 2 {
		l.same("in the end", got, want)
	}
}

// A directory that is being listed goes on where it was.
func ruleCheckpointReaddir(f *fsT) {
	l := needLife(f)
	l.need(vfsops.HasCreator | vfsops.HasRemover)
	d := l.make("mkdir", l.root.Handle, "d")
	for i := range 200 {
		l.make("create", d.Handle, fmt.Sprintf("name%03d", i))
		if i == 100 {
			l.commit()
		}
	}
	for i := 0; i < 200; i += 4 {
		name := fmt.Sprintf("name%03d", i)
		l.must("remove", l.unlink(d.Handle, name, l.lookup(d.Handle, name), false))
	}
	want := l.list(d.Handle, 700, nil)
	got := l.list(d.Handle, 700, func() {
		if l.deaths < 4 {
			l.recover()
		}
	})
	if !reflect.DeepEqual(got, want) {
		l.Errorf("listed over deaths: %d entries\n%v\nand without\n%v", len(got), got, want)
	}
}

// The kernel's pages are granted again in full, and belong to no checkpoint.
func ruleCheckpointReserve(f *fsT) {
	l := needLife(f)
	l.need(vfsops.HasReserver | vfsops.HasCreator)
	reserve := func(n int64) int64 {
		l.Helper()
		got, err := l.fs.(vfsops.Reserver).Reserve(l.ctx, n)
		if abi.ErrnoOf(err) == abi.ENOSPC {
			return 0
		}
		l.must("reserve", err)
		return got
	}
	l.make("create", l.root.Handle, "f")
	total := int64(0)
	for range 50 {
		n := reserve(1 << 40)
		if n == 0 {
			break
		}
		total += n
	}
	if total >= 1<<44 {
		total = 1000 // without limit
	}
	l.commit()
	want := l.image()
	l.die()
	if got := reserve(total); got != total {
		l.Errorf("%d pages granted after a death, not %d as before", got, total)
	}
	l.same("with all pages granted", l.image(), want)
}
