package modtest

import (
	"fmt"
	"strings"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// What is claimed is there, and fits together.
func ruleCaps(f *fsT) {
	if f.has(vfsops.CapKpages) && !f.has(vfsops.CapSole) {
		f.Error("kpages without sole")
	}
	if f.has(vfsops.CapKpages) && f.has(vfsops.HasWriter) {
		f.Error("kpages and a Writer that is never asked")
	}
	if f.has(vfsops.CapXattr) != f.has(vfsops.HasXattrer) {
		f.Error("CapXattr and Xattrer do not agree")
	}
	if f.has(vfsops.CapAuthz) != f.has(vfsops.HasAccesser) {
		f.Error("CapAuthz and Accesser do not agree")
	}
	if f.has(vfsops.HasRenamer) && !f.has(vfsops.HasRemover) {
		f.Error("can rename but not remove")
	}
	if declared := f.k.FSTypes[f.ut.Type].Caps; declared >= vfsops.HasCreator {
		f.Errorf("the type declares %#x: bits of interfaces are found, not declared", declared)
	}
}

// Mount answers EINVAL for an option it does not know.
func ruleOption(f *fsT) {
	opts := map[string]string{"no-such-option": "1"}
	for k, v := range f.ut.Options {
		opts[k] = v
	}
	fs, err := f.k.FSTypes[f.ut.Type].Type.Mount(f.ctx, f.ut.mountReq(f.k.NewFsid(), opts, f.op()))
	f.want("mount with an unknown option", err, abi.EINVAL)
	if err == nil {
		fs.Unmount(f.ctx)
	} else if !strings.Contains(err.Error(), "no-such-option") {
		f.Errorf("the error does not name the option: %v", err)
	}
}

// The root is a directory, the same each time.
func ruleRoot(f *fsT) {
	f.checkEntry("root", f.root)
	if f.root.Vattr.Type != abi.VDIR {
		f.Errorf("the root is a %v", f.root.Vattr.Type)
	}
	again, err := f.fs.Root(f.ctx)
	f.must("root", err)
	if again.Handle != f.root.Handle {
		f.Errorf("the root is %v and then %v", f.root.Handle, again.Handle)
	}
	if v := f.getattr(f.root.Handle); v.Handle(f.id) != f.root.Handle {
		f.Errorf("getattr of the root %v answers file id %d.%d", f.root.Handle, v.Fileid, v.Gen)
	}
	if len(f.list(f.root.Handle, 4096, nil)) != 0 {
		f.Error("the file system under test is not empty")
	}
}

// Statvfs adds up.
func ruleStatvfs(f *fsT) {
	st, err := f.fs.Statvfs(f.ctx)
	f.must("statvfs", err)
	if st.Bsize == 0 || st.Frsize == 0 || st.Namemax == 0 || st.Bfree > st.Blocks || st.Bavail > st.Bfree || st.Ffree > st.Files {
		f.Errorf("%+v", st)
	}
}

// A walk answers one entry per name, and ENOENT where it ends.
func ruleLookup(f *fsT) {
	f.gone(f.root.Handle, "nothing")
	f.gone(f.root.Handle, strings.Repeat("n", 255))
	f.need(vfsops.HasCreator)
	a := f.mkdir(f.root.Handle, "a")
	b := f.mkdir(a.Handle, "b")
	c := f.create(b.Handle, "c")
	if e := f.lookup(f.root.Handle, "a", "b", "c"); e.Handle != c.Handle || e.Vattr != f.getattr(c.Handle) {
		f.Errorf("a/b/c is %v, was made as %v", e.Handle, c.Handle)
	}
	if e := f.lookup(a.Handle, "b"); e.Handle != b.Handle {
		f.Errorf("b is %v, was made as %v", e.Handle, b.Handle)
	}
	for n, path := range [][]string{{"x", "b", "c"}, {"a", "x", "c"}, {"a", "b", "x"}, {"a", "b", "x", "y", "z"}} {
		want := min(n, 2)
		res, err := f.walk(f.root.Handle, path...)
		if err != nil || len(res.Trace) != want || res.Err != abi.ENOENT {
			f.Errorf("%q: %d entries, errno %v, %v; want %d and ENOENT", path, len(res.Trace), res.Err, err, want)
		}
	}
	for _, name := range []string{strings.Repeat("m", 255), "\xff\xfe", " ", "...", "-", "ÄÖ"} {
		if f.ut.BadName != nil && f.ut.BadName(name) {
			_, err := f.fs.(vfsops.Creator).Create(f.ctx, f.createReq(f.root.Handle, name))
			f.want(fmt.Sprintf("create %q", name), err, abi.EINVAL)
			continue
		}
		e := f.create(f.root.Handle, name)
		if got := f.lookup(f.root.Handle, name); got.Handle != e.Handle {
			f.Errorf("%q is %v, was made as %v", name, got.Handle, e.Handle)
		}
	}
}

// 64 names go in one walk, however long they are.
func ruleLookupDeep(f *fsT) {
	f.need(vfsops.HasCreator)
	var short, long []string
	for _, names := range []*[]string{&short, &long} {
		dir := f.root.Handle
		for i := range vfsops.MaxNames {
			name := fmt.Sprintf("%d", i)
			if names == &long {
				name = strings.Repeat("l", 200) + name
			}
			*names = append(*names, name)
			if names == &long && !f.has(vfsops.CapSole) && i > 12 {
				break // a host's paths have an end
			}
			dir = f.mkdir(dir, name).Handle
		}
	}
	f.lookup(f.root.Handle, short...)
	res, err := f.walk(f.root.Handle, long...)
	if err != nil || f.has(vfsops.CapSole) && len(res.Trace) != len(long) || len(res.Trace) < 13 {
		f.Errorf("long names: %d of %d, errno %v, %v", len(res.Trace), len(long), res.Err, err)
	}
}

// The walk stops behind a file or a symbolic link, with Err 0.
func ruleLookupStops(f *fsT) {
	f.need(vfsops.HasCreator)
	d := f.mkdir(f.root.Handle, "d")
	f.create(d.Handle, "file")
	stop := []string{"file"}
	if f.has(vfsops.HasSymlinker) {
		req := vfsops.SymlinkReq{CreateReq: f.createReq(d.Handle, "link"), Target: []byte(".")}
		_, err := f.fs.(vfsops.Symlinker).Symlink(f.ctx, req)
		f.must("symlink", err)
		stop = append(stop, "link")
	}
	for _, name := range stop {
		res, err := f.walk(f.root.Handle, "d", name, "more", "names")
		if err != nil || len(res.Trace) != 2 || res.Err != 0 {
			f.Errorf("d/%s/more: %d entries, errno %v, %v; want 2 and no error", name, len(res.Trace), res.Err, err)
		}
	}
	_, err := f.walk(f.lookup(d.Handle, "file").Handle, "x")
	f.want("walk from a file", err, abi.ENOTDIR)
}

// A handle of nobody is ESTALE everywhere.
func ruleStale(f *fsT) {
	h := abi.Handle{FS: f.id, File: 1 << 60, Gen: 77}
	_, err := f.fs.Getattr(f.ctx, h)
	f.want("getattr", err, abi.ESTALE)
	_, err = f.walk(h, "x")
	f.want("lookup", err, abi.ESTALE)
	_, err = f.fs.Readdir(f.ctx, vfsops.ReaddirReq{Dir: h, Max: 1000})
	f.want("readdir", err, abi.ESTALE)
	if f.has(vfsops.HasCreator) {
		_, err = f.fs.(vfsops.Creator).Create(f.ctx, f.createReq(h, "x"))
		f.want("create", err, abi.ESTALE)
	} else if c, ok := f.fs.(vfsops.Creator); ok {
		_, err = c.Create(f.ctx, f.createReq(f.root.Handle, "x"))
		f.want("create without Creator", err, abi.EROFS)
	}
	old := f.root.Handle
	old.Gen++
	_, err = f.fs.Getattr(f.ctx, old)
	f.want("getattr with another generation", err, abi.ESTALE)
}

// Create answers the node, and does not make a name twice.
func ruleCreate(f *fsT) {
	f.need(vfsops.HasCreator)
	e := f.create(f.root.Handle, "file")
	if e.Vattr.Size != 0 {
		f.Errorf("a new file of %d bytes", e.Vattr.Size)
	}
	c := f.fs.(vfsops.Creator)
	before := f.getattr(f.root.Handle)
	_, err := c.Create(f.ctx, f.createReq(f.root.Handle, "file"))
	f.want("create again", err, abi.EEXIST)
	_, err = c.Mkdir(f.ctx, f.createReq(f.root.Handle, "file"))
	f.want("mkdir over a file", err, abi.EEXIST)
	f.mkdir(f.root.Handle, "dir")
	_, err = c.Create(f.ctx, f.createReq(f.root.Handle, "dir"))
	f.want("create over a directory", err, abi.EEXIST)
	_, err = c.Create(f.ctx, f.createReq(e.Handle, "x"))
	f.want("create in a file", err, abi.ENOTDIR)
	if f.has(vfsops.CapSole) && f.getattr(e.Handle).Nlink != 1 {
		f.Error("links of a file changed by creating others")
	}
	if f.has(vfsops.CapSole) && before.Nlink+1 != f.getattr(f.root.Handle).Nlink {
		f.Error("a directory adds one link to its parent, a file and a failure none")
	}
	req := f.createReq(f.root.Handle, "set-id")
	req.Mode = 0o1777
	m, err := c.Mkdir(f.ctx, req)
	f.must("mkdir", err)
	if want := f.ut.kept(abi.Vattr{Type: abi.VDIR, Mode: 0o1777}).Mode; m.Node.Vattr.Mode != want {
		f.Errorf("mode %o, want %o: umask is not for the file system", m.Node.Vattr.Mode, want)
	}
}

// Nothing is made in a directory that has been removed.
func ruleCreateInRemoved(f *fsT) {
	f.need(vfsops.HasCreator | vfsops.HasRemover)
	d := f.mkdir(f.root.Handle, "d")
	if f.has(vfsops.HasPinner) {
		f.must("pin", f.fs.(vfsops.Pinner).Pin(f.ctx, d.Handle))
	}
	_, err := f.rmdir(f.root.Handle, "d", d.Handle)
	f.must("rmdir", err)
	_, err = f.fs.(vfsops.Creator).Create(f.ctx, f.createReq(d.Handle, "x"))
	f.want("create in a removed directory", err, abi.ENOENT, abi.ESTALE)
	_, err = f.fs.(vfsops.Creator).Mkdir(f.ctx, f.createReq(d.Handle, "x"))
	f.want("mkdir in a removed directory", err, abi.ENOENT, abi.ESTALE)
	if f.has(vfsops.HasPinner) {
		f.must("unpin", f.fs.(vfsops.Pinner).Unpin(f.ctx, d.Handle))
	}
}

// A directory has two links and one more for each directory in it.
func ruleMkdir(f *fsT) {
	f.need(vfsops.HasCreator)
	d := f.mkdir(f.root.Handle, "d")
	if len(f.list(d.Handle, 4096, nil)) != 0 {
		f.Error("a new directory has entries")
	}
	f.mkdir(d.Handle, "1")
	f.mkdir(d.Handle, "2")
	f.create(d.Handle, "3")
	if f.has(vfsops.CapSole) {
		if n := f.getattr(d.Handle).Nlink; n != 4 {
			f.Errorf("a directory with two in it has %d links, want 4", n)
		}
	}
}

// Remove takes the name that it is told, if it is still that file's.
func ruleRemove(f *fsT) {
	f.need(vfsops.HasCreator | vfsops.HasRemover)
	e := f.create(f.root.Handle, "file")
	other := f.create(f.root.Handle, "other")
	dir := f.mkdir(f.root.Handle, "dir")
	_, err := f.remove(f.root.Handle, "file", other.Handle)
	f.want("remove with another victim", err, abi.ESTALE)
	_, err = f.remove(f.root.Handle, "nothing", e.Handle)
	f.want("remove of no name", err, abi.ESTALE, abi.ENOENT)
	_, err = f.remove(f.root.Handle, "dir", dir.Handle)
	f.want("remove of a directory", err, abi.EISDIR, abi.EPERM)
	f.lookup(f.root.Handle, "file")

	m, err := f.remove(f.root.Handle, "file", e.Handle)
	f.must("remove", err)
	if m.Victim.Fileid != e.Handle.File || m.Victim.Nlink != 0 {
		f.Errorf("the victim is %+v, want file id %d without links", m.Victim, e.Handle.File)
	}
	f.checkAttr("directory", f.root.Handle, m.Dir)
	f.gone(f.root.Handle, "file")
	_, err = f.fs.Getattr(f.ctx, e.Handle)
	f.want("getattr of what was removed", err, abi.ESTALE)
	f.lookup(f.root.Handle, "other")
}

// Rmdir takes empty directories only.
func ruleRmdir(f *fsT) {
	f.need(vfsops.HasCreator | vfsops.HasRemover)
	d := f.mkdir(f.root.Handle, "d")
	sub := f.mkdir(d.Handle, "sub")
	file := f.create(f.root.Handle, "file")
	_, err := f.rmdir(f.root.Handle, "d", d.Handle)
	f.want("rmdir of a full directory", err, abi.ENOTEMPTY)
	_, err = f.rmdir(f.root.Handle, "file", file.Handle)
	f.want("rmdir of a file", err, abi.ENOTDIR)
	_, err = f.rmdir(f.root.Handle, "d", sub.Handle)
	f.want("rmdir with another victim", err, abi.ESTALE)
	m, err := f.rmdir(d.Handle, "sub", sub.Handle)
	f.must("rmdir", err)
	f.checkAttr("directory", d.Handle, m.Dir)
	if f.has(vfsops.CapSole) && m.Dir.Nlink != 2 {
		f.Errorf("an empty directory has %d links, want 2", m.Dir.Nlink)
	}
	if m.Victim.Fileid != sub.Handle.File || m.Victim.Nlink != 0 {
		f.Errorf("the victim is %+v, want file id %d without links", m.Victim, sub.Handle.File)
	}
	f.gone(d.Handle, "sub")
	_, err = f.rmdir(f.root.Handle, "d", d.Handle)
	f.must("rmdir", err)
}

// A file id that is used again has another generation.
func ruleGeneration(f *fsT) {
	f.need(vfsops.HasCreator | vfsops.HasRemover)
	seen := map[abi.Handle]bool{}
	for range 50 {
		e := f.create(f.root.Handle, "f")
		if seen[e.Handle] {
			f.Fatalf("handle %v was given twice", e.Handle)
		}
		seen[e.Handle] = true
		_, err := f.remove(f.root.Handle, "f", e.Handle)
		f.must("remove", err)
		_, err = f.fs.Getattr(f.ctx, e.Handle)
		f.want("getattr of what was removed", err, abi.ESTALE)
	}
}

// A file may have several names.
func ruleLink(f *fsT) {
	f.need(vfsops.HasCreator | vfsops.HasLinker | vfsops.HasRemover)
	e := f.create(f.root.Handle, "one")
	d := f.mkdir(f.root.Handle, "d")
	l := f.fs.(vfsops.Linker)
	m, err := l.Link(f.ctx, vfsops.LinkReq{Op: f.op(), Node: e.Handle, Dir: d.Handle, Name: []byte("two")})
	f.must("link", err)
	if m.Node.Handle != e.Handle || m.Node.Vattr.Nlink != 2 {
		f.Errorf("link answered %v with %d links, want %v with 2", m.Node.Handle, m.Node.Vattr.Nlink, e.Handle)
	}
	f.checkAttr("link", e.Handle, m.Node.Vattr)
	f.checkAttr("directory", d.Handle, m.Dir)
	if got := f.lookup(f.root.Handle, "d", "two"); got.Handle != e.Handle {
		f.Errorf("two is %v, one %v", got.Handle, e.Handle)
	}
	_, err = l.Link(f.ctx, vfsops.LinkReq{Op: f.op(), Node: e.Handle, Dir: f.root.Handle, Name: []byte("d")})
	f.want("link over a name", err, abi.EEXIST)
	m, err = f.remove(f.root.Handle, "one", e.Handle)
	f.must("remove", err)
	if m.Victim.Nlink != 1 {
		f.Errorf("%d links after one of two was removed", m.Victim.Nlink)
	}
	f.checkAttr("victim", e.Handle, m.Victim)
	_, err = f.remove(d.Handle, "two", e.Handle)
	f.must("remove", err)
	_, err = f.fs.Getattr(f.ctx, e.Handle)
	f.want("getattr without a name", err, abi.ESTALE)
}
