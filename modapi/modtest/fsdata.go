package modtest

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// A symbolic link keeps its text; nothing else has one.
func ruleSymlink(f *fsT) {
	f.need(vfsops.HasCreator | vfsops.HasSymlinker | vfsops.HasReadlinker)
	for i, target := range []string{"x", "../some/where", strings.Repeat("/long", 200), "\xff"} {
		req := vfsops.SymlinkReq{CreateReq: f.createReq(f.root.Handle, fmt.Sprintf("l%d", i)), Target: []byte(target)}
		req.Mode = 0o777
		m, err := f.fs.(vfsops.Symlinker).Symlink(f.ctx, req)
		f.must("symlink", err)
		spoil(req.Target)
		f.checkMade(m, req.CreateReq, abi.VLNK)
		if m.Node.Vattr.Size != int64(len(target)) {
			f.Errorf("a link of %d bytes, want %d", m.Node.Vattr.Size, len(target))
		}
		got, err := f.fs.(vfsops.Readlinker).Readlink(f.ctx, m.Node.Handle)
		if err != nil || string(got) != target {
			f.Errorf("readlink: %q, %v, want %q", got, err, target)
		}
	}
	_, err := f.fs.(vfsops.Readlinker).Readlink(f.ctx, f.root.Handle)
	f.want("readlink of a directory", err, abi.EINVAL)
}

// Special files have a type and a device.
func ruleMknod(f *fsT) {
	f.need(vfsops.HasMknoder)
	for name, typ := range map[string]abi.VType{"fifo": abi.VFIFO, "sock": abi.VSOCK, "chr": abi.VCHR, "blk": abi.VBLK} {
		req := vfsops.MknodReq{CreateReq: f.createReq(f.root.Handle, name), Type: typ}
		if typ == abi.VCHR || typ == abi.VBLK {
			req.Rdev = abi.Makedev(2, 300)
		}
		m, err := f.fs.(vfsops.Mknoder).Mknod(f.ctx, req)
		if e := abi.ErrnoOf(err); !f.has(vfsops.CapSole) && (e == abi.EPERM || e == abi.EOPNOTSUPP) {
			continue // the host may have its reasons
		}
		f.must("mknod", err)
		f.checkMade(m, req.CreateReq, typ)
		if req.Rdev != 0 && m.Node.Vattr.Rdev != req.Rdev {
			f.Errorf("%s: device %v, want %v", name, m.Node.Vattr.Rdev, req.Rdev)
		}
	}
}

// Setattr changes what is in the mask and nothing else.
func ruleSetattr(f *fsT) {
	f.need(vfsops.HasCreator | vfsops.HasSetattrer)
	e := f.create(f.root.Handle, "f")
	set := func(mask abi.SetMask, v abi.Vattr, want func(*abi.Vattr)) {
		f.Helper()
		before := f.getattr(e.Handle)
		op := f.op()
		got, err := f.fs.(vfsops.Setattrer).Setattr(f.ctx, vfsops.SetattrReq{Op: op, Node: e.Handle, Mask: mask, Attr: v})
		f.must("setattr", err)
		f.checkAttr("setattr", e.Handle, got)
		want(&before)
		if f.has(vfsops.CapSole) {
			before.Ctime = op.Now
		} else {
			got.Ctime = before.Ctime
		}
		before = f.ut.kept(before)
		if got != before {
			f.Errorf("mask %#x: %+v, want %+v", mask, got, before)
		}
	}
	t1, t2 := abi.Timespec{Sec: 1000000000, Nsec: 1000}, abi.Timespec{Sec: 1100000000}
	set(abi.SetMode, abi.Vattr{Mode: 0o604, Uid: 99, Size: 99}, func(v *abi.Vattr) { v.Mode = 0o604 })
	set(abi.SetAtime|abi.SetMtime, abi.Vattr{Atime: t1, Mtime: t2}, func(v *abi.Vattr) { v.Atime, v.Mtime = t1, t2 })
	set(abi.SetMtime, abi.Vattr{Atime: t2, Mtime: t1}, func(v *abi.Vattr) { v.Mtime = t1 })
	if owner := f.ut.kept(abi.Vattr{Uid: 12}); owner.Uid == 12 && (f.has(vfsops.CapSole) || os.Getuid() == 0) {
		set(abi.SetUid|abi.SetGid, abi.Vattr{Uid: 12, Gid: 34}, func(v *abi.Vattr) { v.Uid, v.Gid = 12, 34 })
	}
	_, err := f.fs.(vfsops.Setattrer).Setattr(f.ctx, vfsops.SetattrReq{Op: f.op(), Node: abi.Handle{FS: f.id, File: 1 << 60}, Mask: abi.SetMode})
	f.want("setattr of nobody", err, abi.ESTALE)
}

// What is written is read: across areas, behind the end, over holes.
func ruleWrite(f *fsT) {
	f.need(vfsops.HasCreator | vfsops.HasWriter)
	e := f.create(f.root.Handle, "f")
	if got := f.read(e.Handle, 0, 10); len(got) != 0 {
		f.Errorf("an empty file reads as %q", got)
	}
	res := f.write(e.Handle, 3, false, []byte("hel"), nil, []byte("lo"))
	if res.Off != 3 || res.Vattr.Size != 8 {
		f.Errorf("written at %d, size %d, want 3 and 8", res.Off, res.Vattr.Size)
	}
	if got := f.read(e.Handle, 0, 100); string(got) != "\x00\x00\x00hello" {
		f.Errorf("read %q", got)
	}
	if got := f.read(e.Handle, 7, 100); string(got) != "o" {
		f.Errorf("read at the end %q", got)
	}
	if got := f.read(e.Handle, 8, 100); len(got) != 0 {
		f.Errorf("read behind the end %q", got)
	}
	big := make([]byte, 1<<20)
	for i := range big {
		big[i] = byte(i * 31 >> 3)
	}
	f.write(e.Handle, 5000, false, big)
	got := f.read(e.Handle, 0, 2<<20)
	want := append(append([]byte("\x00\x00\x00hello"), make([]byte, 4992)...), big...)
	if !bytes.Equal(got, want) {
		f.Errorf("%d bytes read back are not the %d written", len(got), len(want))
	}
	_, err := f.fs.Read(f.ctx, f.root.Handle, 0, abi.IovOf(make([]byte, 10)))
	f.want("read of a directory", err, abi.EISDIR, abi.EINVAL)
	_, err = f.fs.(vfsops.Writer).Write(f.ctx, vfsops.WriteReq{Op: f.op(), Node: abi.Handle{FS: f.id, File: 1 << 60}}, abi.IovOf([]byte("x")))
	f.want("write to nobody", err, abi.ESTALE)
}

// Append goes to the end, wherever Off says, and tells where.
func ruleAppend(f *fsT) {
	f.need(vfsops.HasCreator | vfsops.HasWriter)
	e := f.create(f.root.Handle, "f")
	for i, off := range []int64{0, 3, 6} {
		if res := f.write(e.Handle, int64(100*i), true, []byte("abc")); res.Off != off {
			f.Errorf("appended at %d, want %d", res.Off, off)
		}
	}
	if got := f.read(e.Handle, 0, 100); string(got) != "abcabcabc" {
		f.Errorf("read %q", got)
	}
}

// Truncate cuts, and what is added by it is zeros.
func ruleTruncate(f *fsT) {
	f.need(vfsops.HasCreator | vfsops.HasWriter | vfsops.HasTruncater)
	e := f.create(f.root.Handle, "f")
	f.write(e.Handle, 0, false, []byte("hello"))
	for _, size := range []int64{2, 6, 100000, 0} {
		v, err := f.fs.(vfsops.Truncater).Truncate(f.ctx, f.op(), e.Handle, size)
		f.must("truncate", err)
		if v.Size != size {
			f.Errorf("size %d after truncate to %d", v.Size, size)
		}
		f.checkAttr("truncate", e.Handle, v)
		want := append([]byte("he"), make([]byte, max(size-2, 0))...)[:size]
		if got := f.read(e.Handle, 0, int(size)+10); !bytes.Equal(got, want) {
			f.Errorf("%d bytes after truncate to %d are wrong", len(got), size)
		}
	}
}

// A file system whose pages the kernel keeps is told sizes and asked for no
// bytes.
func ruleKpages(f *fsT) {
	f.need(vfsops.CapKpages | vfsops.HasCreator | vfsops.HasSetattrer)
	e := f.create(f.root.Handle, "f")
	_, err := f.fs.Read(f.ctx, e.Handle, 0, abi.IovOf(make([]byte, 10)))
	f.want("read", err, abi.EIO)
	v, err := f.fs.(vfsops.Setattrer).Setattr(f.ctx, vfsops.SetattrReq{Op: f.op(), Node: e.Handle, Mask: abi.SetSize, Attr: abi.Vattr{Size: 12345}})
	f.must("setattr of the size", err)
	if v.Size != 12345 {
		f.Errorf("size %d, want 12345", v.Size)
	}
}

// Pages behind the end read as zeros; what is written behind it is not kept.
func rulePages(f *fsT) {
	f.need(vfsops.HasCreator | vfsops.HasPager)
	e := f.create(f.root.Handle, "f")
	page := bytes.Repeat([]byte("p"), 2*abi.PageSize)
	f.must("write pages", f.fs.(vfsops.Pager).WritePages(f.ctx, f.op(), e.Handle, 0, abi.IovOf(page), 5000))
	got := bytes.Repeat([]byte("?"), 3*abi.PageSize)
	f.must("read pages", f.fs.(vfsops.Pager).ReadPages(f.ctx, e.Handle, 0, abi.IovOf(got)))
	if !bytes.Equal(got[:5000], page[:5000]) || !bytes.Equal(got[5000:], make([]byte, len(got)-5000)) {
		f.Error("pages read back are not what was written")
	}
	if v := f.getattr(e.Handle); v.Size != 5000 {
		f.Errorf("size %d, want 5000", v.Size)
	}
}

// A scan lists every entry once, in portions of any size.
func ruleReaddir(f *fsT) {
	f.need(vfsops.HasCreator)
	want := map[string]abi.Fileid{}
	for i := range 200 {
		name := fmt.Sprintf("entry-%d-%s", i, strings.Repeat("x", i%50))
		want[name] = f.create(f.root.Handle, name).Handle.File
	}
	for _, max := range []int{24 + 255, 1000, 64 << 10} {
		got := map[string]abi.Fileid{}
		for _, d := range f.list(f.root.Handle, max, nil) {
			if _, twice := got[d.Name]; twice {
				f.Fatalf("%s is listed twice", d.Name)
			}
			got[d.Name] = d.Fileid
		}
		if len(got) != len(want) {
			f.Errorf("%d entries in portions of %d, want %d", len(got), max, len(want))
		}
		for n, id := range want {
			if got[n] != id {
				f.Errorf("%s has file id %d, want %d", n, got[n], id)
			}
		}
	}
	_, err := f.fs.Readdir(f.ctx, vfsops.ReaddirReq{Dir: f.lookup(f.root.Handle, "entry-0-").Handle, Max: 1000})
	f.want("readdir of a file", err, abi.ENOTDIR)
}

// What stays is listed exactly once, whatever comes and goes during the scan.
func ruleReaddirChanging(f *fsT) {
	f.need(vfsops.HasCreator | vfsops.HasRemover)
	stay := map[string]int{}
	var leave []string
	for i := range 150 {
		name := fmt.Sprintf("stay%d", i)
		f.create(f.root.Handle, name)
		stay[name] = 0
		name = fmt.Sprintf("leave%d", i)
		f.create(f.root.Handle, name)
		leave = append(leave, name)
	}
	i := 0
	got := f.list(f.root.Handle, 24+255, func() {
		if len(leave) > 0 {
			// One from either end: behind and ahead of the scan.
			name := leave[len(leave)-1]
			leave = leave[:len(leave)-1]
			if i%2 == 0 {
				leave, name = append(leave, name)[1:], leave[0]
			}
			_, err := f.remove(f.root.Handle, name, f.lookup(f.root.Handle, name).Handle)
			f.must("remove", err)
		}
		if i < 100 {
			f.create(f.root.Handle, fmt.Sprintf("new%d", i))
		}
		i++
	})
	for _, d := range got {
		if _, ok := stay[d.Name]; ok {
			stay[d.Name]++
		}
	}
	for name, n := range stay {
		if n != 1 {
			f.Errorf("%s was listed %d times", name, n)
		}
	}
}

// Entries tell the type of what they name.
func ruleReaddirTypes(f *fsT) {
	f.need(vfsops.HasCreator)
	f.create(f.root.Handle, "file")
	f.mkdir(f.root.Handle, "dir")
	if f.has(vfsops.HasSymlinker) {
		_, err := f.fs.(vfsops.Symlinker).Symlink(f.ctx, vfsops.SymlinkReq{CreateReq: f.createReq(f.root.Handle, "link"), Target: []byte("x")})
		f.must("symlink", err)
	}
	for _, d := range f.list(f.root.Handle, 4096, nil) {
		e := f.lookup(f.root.Handle, d.Name)
		if d.Type != abi.VNON && d.Type != e.Vattr.Type || d.Fileid != e.Handle.File {
			f.Errorf("%s is listed as a %v %d, but is a %v %d", d.Name, d.Type, d.Fileid, e.Vattr.Type, e.Handle.File)
		}
	}
}

// Extended attributes are set, replaced, listed and removed.
func ruleXattr(f *fsT) {
	f.need(vfsops.HasCreator | vfsops.HasXattrer)
	x := f.fs.(vfsops.Xattrer)
	e := f.create(f.root.Handle, "f")
	set := func(name, val string, flags uint32) error {
		req := vfsops.SetxattrReq{Op: f.op(), Node: e.Handle, Name: []byte(name), Value: []byte(val), Flags: flags}
		err := x.Setxattr(f.ctx, req)
		spoil(req.Name)
		spoil(req.Value)
		return err
	}
	if err := set("user.one", "1", 0); err != nil {
		if notSupported(err) && !f.has(vfsops.CapSole) {
			f.Skip("the host's file system has none")
		}
		f.Fatalf("setxattr: %v", err)
	}
	f.want("set what must be new", set("user.one", "2", 1), abi.EEXIST)
	f.want("set what must exist", set("user.two", "2", 2), abi.ENODATA, abi.ENOATTR)
	f.must("replace", set("user.one", "", 2))
	f.must("set", set("user.two", strings.Repeat("v", 2000), 1))
	for name, want := range map[string]string{"user.one": "", "user.two": strings.Repeat("v", 2000)} {
		got, err := x.Getxattr(f.ctx, e.Handle, []byte(name))
		if err != nil || string(got) != want {
			f.Errorf("getxattr %s: %d bytes, %v, want %d", name, len(got), err, len(want))
		}
	}
	_, err := x.Getxattr(f.ctx, e.Handle, []byte("user.none"))
	f.want("getxattr of none", err, abi.ENODATA, abi.ENOATTR)
	list, err := x.Listxattr(f.ctx, e.Handle)
	f.must("listxattr", err)
	if s := "\x00" + string(list); strings.Count(s, "\x00user.one\x00") != 1 || strings.Count(s, "\x00user.two\x00") != 1 {
		f.Errorf("listxattr: %q", list)
	}
	f.must("removexattr", x.Removexattr(f.ctx, f.op(), e.Handle, []byte("user.one")))
	f.want("removexattr again", x.Removexattr(f.ctx, f.op(), e.Handle, []byte("user.one")), abi.ENODATA, abi.ENOATTR)
	if list, _ = x.Listxattr(f.ctx, e.Handle); strings.Contains(string(list), "user.one") {
		f.Errorf("listxattr after the removal: %q", list)
	}
}

// A pinned node lives without a name until it is unpinned.
func rulePin(f *fsT) {
	f.need(vfsops.HasCreator | vfsops.HasRemover | vfsops.HasPinner)
	p := f.fs.(vfsops.Pinner)
	e := f.create(f.root.Handle, "f")
	f.must("pin", p.Pin(f.ctx, e.Handle))
	m, err := f.remove(f.root.Handle, "f", e.Handle)
	f.must("remove", err)
	if m.Victim.Nlink != 0 {
		f.Errorf("%d links without a name", m.Victim.Nlink)
	}
	f.gone(f.root.Handle, "f")
	if v := f.getattr(e.Handle); v.Nlink != 0 || v.Fileid != e.Handle.File {
		f.Errorf("the pinned node has %d links, file id %d", v.Nlink, v.Fileid)
	}
	if f.has(vfsops.HasWriter) {
		f.write(e.Handle, 0, false, []byte("still"))
		if got := f.read(e.Handle, 0, 10); string(got) != "still" {
			f.Errorf("the pinned node reads as %q", got)
		}
	}
	again := f.create(f.root.Handle, "f")
	if again.Handle == e.Handle || again.Handle.File == e.Handle.File {
		f.Errorf("the new file has the handle %v of the pinned one %v", again.Handle, e.Handle)
	}
	f.must("unpin", p.Unpin(f.ctx, e.Handle))
	_, err = f.fs.Getattr(f.ctx, e.Handle)
	f.want("getattr after unpin", err, abi.ESTALE)
	f.getattr(again.Handle)

	f.must("pin", p.Pin(f.ctx, again.Handle))
	f.must("unpin", p.Unpin(f.ctx, again.Handle))
	f.getattr(again.Handle) // it has its name
	f.want("pin of nobody", p.Pin(f.ctx, e.Handle), abi.ESTALE)
}

// Reserve grants at most what was asked, and takes it back.
func ruleReserve(f *fsT) {
	f.need(vfsops.HasReserver)
	r := f.fs.(vfsops.Reserver)
	n, err := r.Reserve(f.ctx, 10)
	if err != nil || n != 10 {
		f.Fatalf("reserve 10 pages: %d, %v", n, err)
	}
	_, err = r.Reserve(f.ctx, -10)
	f.must("give back", err)
}

// Sync takes everything or one node.
func ruleSync(f *fsT) {
	f.need(vfsops.HasSyncer)
	s := f.fs.(vfsops.Syncer)
	f.must("sync", s.Sync(f.ctx, abi.Handle{}, false))
	f.must("sync of the root", s.Sync(f.ctx, f.root.Handle, true))
}

// A replay gives the id of the first time.
func ruleFixedids(f *fsT) {
	f.need(vfsops.CapFixedids | vfsops.HasCreator)
	req := f.createReq(f.root.Handle, "f")
	req.Op.Fileid, req.Op.Gen = 4242, 17
	m, err := f.fs.(vfsops.Creator).Create(f.ctx, req)
	f.must("create", err)
	if want := (abi.Handle{FS: f.id, File: 4242, Gen: 17}); m.Node.Handle != want {
		f.Errorf("made as %v, want %v", m.Node.Handle, want)
	}
	if next := f.create(f.root.Handle, "g"); next.Handle.File == 4242 {
		f.Error("the id was given again")
	}
	f.getattr(m.Node.Handle)
}

// The same operations give the same answers on another mount.
func ruleRepeatable(f *fsT) {
	if f.has(vfsops.CapBlock) {
		f.Skip("a device is mounted once; the rules of checkpoints say this too")
	}
	f.need(vfsops.CapSole | vfsops.HasCreator | vfsops.HasRemover)
	script := func(f *fsT) []vfsops.Mutated {
		var got []vfsops.Mutated
		note := func(m vfsops.Mutated, err error) {
			f.Helper()
			f.must("script", err)
			m.Node.Handle.FS = 0
			got = append(got, m)
		}
		c := f.fs.(vfsops.Creator)
		for i := range 20 {
			note(c.Create(f.ctx, f.createReq(f.root.Handle, fmt.Sprint("f", i))))
			note(c.Mkdir(f.ctx, f.createReq(f.root.Handle, fmt.Sprint("d", i))))
			if i%3 == 0 {
				e := f.lookup(f.root.Handle, fmt.Sprint("f", i))
				note(f.remove(f.root.Handle, fmt.Sprint("f", i), e.Handle))
			}
		}
		return got
	}
	other := *f
	other.id = f.k.NewFsid()
	other.seq = 0 // the first operation of f was its mount, too
	var err error
	other.fs, err = f.k.FSTypes[f.ut.Type].Type.Mount(f.ctx, f.ut.mountReq(other.id, f.ut.Options, other.op()))
	f.must("mount another", err)
	defer other.fs.Unmount(f.ctx)
	other.root, err = other.fs.Root(f.ctx)
	f.must("root", err)
	f.seq, other.seq = 100, 100
	a, b := script(f), script(&other)
	for i := range a {
		if a[i] != b[i] {
			f.Fatalf("operation %d: %+v, the second time %+v", i, a[i], b[i])
		}
	}
}

// Different directories are worked in at the same time.
func ruleParallel(f *fsT) {
	f.need(vfsops.HasCreator | vfsops.HasRemover)
	var wg sync.WaitGroup
	for i := range 4 {
		g := *f
		g.seq = abi.OpSeq(10000 * (i + 1))
		d := f.mkdir(f.root.Handle, fmt.Sprint("d", i))
		wg.Add(1)
		go func() {
			defer wg.Done()
			c := g.fs.(vfsops.Creator)
			for j := range 50 {
				name := fmt.Sprint("f", j)
				m, err := c.Create(g.ctx, g.createReq(d.Handle, name))
				if err != nil {
					g.Errorf("create: %v", err)
					return
				}
				if _, err := g.fs.Getattr(g.ctx, m.Node.Handle); err != nil {
					g.Errorf("getattr: %v", err)
				}
				if j%2 == 0 {
					if _, err := g.remove(d.Handle, name, m.Node.Handle); err != nil {
						g.Errorf("remove: %v", err)
					}
				}
			}
			if res, err := g.fs.Readdir(g.ctx, vfsops.ReaddirReq{Dir: d.Handle, Max: 64 << 10}); err != nil || len(res.Entries) != 25 {
				g.Errorf("readdir: %d entries, %v", len(res.Entries), err)
			}
		}()
	}
	wg.Wait()
}
