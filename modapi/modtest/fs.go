package modtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// FSUnderTest is a file system for TestFS: an empty one for each call of the
// function that makes it.
type FSUnderTest struct {
	Mods    []modapi.Module
	Grants  map[string]*os.File
	Props   map[string]modapi.Props
	Type    string // as attached
	Source  string
	Options map[string]string
	// Dev is the device of Disks that Source names, for a type with CapBlock.
	Dev abi.Dev
	// Kept changes attributes to what the format keeps of them, for one that
	// does not keep all: times, modes, owners. Nil: everything is kept.
	Kept func(*abi.Vattr)
	// BadName says which names the format cannot have: EINVAL. Nil: it has all.
	BadName func(name string) bool
	// Refuses are optional interfaces that the file system has in order to
	// answer EOPNOTSUPP.
	Refuses vfsops.Caps
	// Disks are block devices of the kernel that the modules find by Block.
	Disks map[abi.Dev]devops.BlockIO
}

// TestFS checks the rules of package vfsops on the file systems that newFS
// makes, each rule on a fresh one, in every binding. What the file system does
// not claim to have (vfsops.CapsOf) is checked to be refused as the interface
// says, or left out.
func TestFS(t *testing.T, newFS func(t *testing.T) FSUnderTest) {
	for _, r := range fsRules {
		t.Run(r.name, func(t *testing.T) {
			eachBinding(t, func(t *testing.T, b Binding) {
				f := mountFS(t, b, newFS(t))
				f.newFS = newFS
				r.rule(f)
			})
		})
	}
}

// fsRules are the rules, in the order of the interfaces.
var fsRules = []struct {
	name string
	rule func(f *fsT)
}{
	{"caps", ruleCaps},
	{"option", ruleOption},
	{"root", ruleRoot},
	{"statvfs", ruleStatvfs},
	{"lookup", ruleLookup},
	{"lookup-deep", ruleLookupDeep},
	{"lookup-stops", ruleLookupStops},
	{"stale", ruleStale},
	{"create", ruleCreate},
	{"create-in-removed", ruleCreateInRemoved},
	{"mkdir", ruleMkdir},
	{"remove", ruleRemove},
	{"rmdir", ruleRmdir},
	{"generation", ruleGeneration},
	{"link", ruleLink},
	{"rename", ruleRename},
	{"rename-replace", ruleRenameReplace},
	{"rename-dir", ruleRenameDir},
	{"rename-stale", ruleRenameStale},
	{"rename-exchange", ruleRenameExchange},
	{"symlink", ruleSymlink},
	{"mknod", ruleMknod},
	{"setattr", ruleSetattr},
	{"write", ruleWrite},
	{"append", ruleAppend},
	{"truncate", ruleTruncate},
	{"kpages", ruleKpages},
	{"pages", rulePages},
	{"holes", ruleHoles},
	{"readdir", ruleReaddir},
	{"readdir-changing", ruleReaddirChanging},
	{"readdir-types", ruleReaddirTypes},
	{"xattr", ruleXattr},
	{"pin", rulePin},
	{"reserve", ruleReserve},
	{"sync", ruleSync},
	{"fixed-ids", ruleFixedids},
	{"repeatable", ruleRepeatable},
	{"parallel", ruleParallel},
	{"checkpoint-caps", ruleCheckpointCaps},
	{"checkpoint", ruleCheckpoint},
	{"checkpoint-replay", ruleCheckpointReplay},
	{"checkpoint-uncommitted", ruleCheckpointUncommitted},
	{"checkpoint-ids", ruleCheckpointIDs},
	{"checkpoint-pin", ruleCheckpointPin},
	{"checkpoint-readdir", ruleCheckpointReaddir},
	{"checkpoint-reserve", ruleCheckpointReserve},
	{"checkpoint-random", ruleCheckpointRandom},
}

// fsT is a mounted file system in a test.
type fsT struct {
	*testing.T
	ctx  context.Context
	k    *Kernel
	fs   vfsops.FS
	caps vfsops.Caps
	id   abi.Fsid
	root vfsops.Entry
	seq  abi.OpSeq
	ut   FSUnderTest
	b    Binding

	newFS func(t *testing.T) FSUnderTest
}

func eachBinding(t *testing.T, f func(t *testing.T, b Binding)) {
	t.Helper()
	bindingsMu.Lock()
	bs := append([]Binding(nil), bindings...)
	bindingsMu.Unlock()
	for _, b := range bs {
		t.Run(b.Name, func(t *testing.T) { f(t, b) })
	}
}

// load binds and initialises modules; they are finished when the test ends.
func load(t *testing.T, b Binding, mods []modapi.Module, grants map[string]*os.File, props map[string]modapi.Props) *Kernel {
	t.Helper()
	k := NewKernel(t, grants)
	k.load(b, mods, grants, props)
	return k
}

func (k *Kernel) load(b Binding, mods []modapi.Module, grants map[string]*os.File, props map[string]modapi.Props) {
	t := k.tb
	t.Helper()
	for _, m := range b.Bind(t, mods, grants) {
		name := m.Info().Name
		if err := k.Init(m, modapi.Fresh, props[name]); err != nil {
			t.Fatalf("Init of %s: %v", name, err)
		}
		t.Cleanup(func() {
			if err := m.Fini(context.Background()); err != nil {
				t.Errorf("Fini of %s: %v", name, err)
			}
		})
	}
}

// mountReq is the request that mounts it.
func (ut *FSUnderTest) mountReq(id abi.Fsid, options map[string]string, op vfsops.Op) *vfsops.MountReq {
	dev := ut.Dev
	if dev == 0 {
		dev = abi.NoDev
	}
	return &vfsops.MountReq{Fsid: id, Type: ut.Type, Source: ut.Source, Options: options, Op: op, Dev: dev}
}

// kept is what the format keeps of attributes.
func (ut *FSUnderTest) kept(v abi.Vattr) abi.Vattr {
	if ut.Kept != nil {
		ut.Kept(&v)
	}
	return v
}

func mountFS(t *testing.T, b Binding, ut FSUnderTest) *fsT {
	t.Helper()
	k := NewKernel(t, ut.Grants)
	for dev, io := range ut.Disks {
		k.SetDisk(dev, io)
	}
	k.load(b, ut.Mods, ut.Grants, ut.Props)
	f := &fsT{T: t, ctx: t.Context(), k: k, ut: ut, b: b}
	typ, ok := k.FSTypes[ut.Type]
	if !ok {
		t.Fatalf("no file system type %q was attached", ut.Type)
	}
	f.id = k.NewFsid()
	fs, err := typ.Type.Mount(f.ctx, ut.mountReq(f.id, ut.Options, f.op()))
	if err != nil {
		t.Fatalf("Mount: %v", err)
	}
	f.fs, f.caps = fs, typ.Caps|vfsops.CapsOf(fs)
	t.Cleanup(func() {
		if err := fs.Unmount(context.Background()); err != nil {
			t.Errorf("Unmount: %v", err)
		}
	})
	if f.root, err = fs.Root(f.ctx); err != nil {
		t.Fatalf("Root: %v", err)
	}
	return f
}

// op is the next mutator's Op. The time moves on by a second each.
func (f *fsT) op() vfsops.Op {
	f.seq++
	return f.opAt(f.seq)
}

// opAt is the Op of a mutator.
func (f *fsT) opAt(seq abi.OpSeq) vfsops.Op {
	return vfsops.Op{Seq: seq, Now: abi.Timespec{Sec: 1700000000 + int64(seq), Nsec: 5}, Seed: uint64(seq) * 7919, Caller: abi.KernelCaller}
}

func (f *fsT) has(c vfsops.Caps) bool { return f.caps&^f.ut.Refuses&c == c }

// need skips the rule unless the file system has all of c.
func (f *fsT) need(c vfsops.Caps) {
	f.Helper()
	if !f.has(c) {
		f.Skip("the file system does not have this")
	}
}

// want fails the test unless err is one of the errors, 0 being none.
func (f *fsT) want(what string, err error, es ...abi.Errno) {
	f.Helper()
	got := abi.ErrnoOf(err)
	for _, e := range es {
		if got == e {
			return
		}
	}
	f.Errorf("%s: %v (%s), want %v", what, err, got.Name(), names(es))
}

func names(es []abi.Errno) string {
	var s []string
	for _, e := range es {
		s = append(s, e.Name())
	}
	return strings.Join(s, " or ")
}

func (f *fsT) must(what string, err error) {
	f.Helper()
	if err != nil {
		f.Fatalf("%s: %v", what, err)
	}
}

func (f *fsT) createReq(dir abi.Handle, name string) vfsops.CreateReq {
	return vfsops.CreateReq{Op: f.op(), Dir: dir, Name: []byte(name), Mode: 0o640}
}

// create makes a file and spoils the name it passed: nobody may keep it.
func (f *fsT) create(dir abi.Handle, name string) vfsops.Entry {
	f.Helper()
	req := f.createReq(dir, name)
	m, err := f.fs.(vfsops.Creator).Create(f.ctx, req)
	f.must("create "+name, err)
	spoil(req.Name)
	f.checkMade(m, req, abi.VREG)
	return m.Node
}

func (f *fsT) mkdir(dir abi.Handle, name string) vfsops.Entry {
	f.Helper()
	req := f.createReq(dir, name)
	req.Mode = 0o750
	m, err := f.fs.(vfsops.Creator).Mkdir(f.ctx, req)
	f.must("mkdir "+name, err)
	spoil(req.Name)
	f.checkMade(m, req, abi.VDIR)
	return m.Node
}

func spoil(p []byte) {
	for i := range p {
		p[i] = '!'
	}
}

// checkMade checks what every op that makes a node answers.
func (f *fsT) checkMade(m vfsops.Mutated, req vfsops.CreateReq, typ abi.VType) {
	f.Helper()
	v := &m.Node.Vattr
	f.checkEntry("made", m.Node)
	if v.Type != typ {
		f.Errorf("made a %v, want a %v", v.Type, typ)
	}
	want := f.ut.kept(abi.Vattr{Type: typ, Mode: req.Mode, Uid: req.Uid, Gid: req.Gid,
		Atime: req.Op.Now, Mtime: req.Op.Now, Ctime: req.Op.Now, Btime: req.Op.Now})
	if typ != abi.VLNK && v.Mode != want.Mode {
		f.Errorf("mode %o, want %o", v.Mode, want.Mode)
	}
	if v.Uid != want.Uid || v.Gid != want.Gid {
		f.Errorf("owner %d:%d, want %d:%d", v.Uid, v.Gid, want.Uid, want.Gid)
	}
	if typ != abi.VDIR && v.Nlink != 1 {
		f.Errorf("%d links, want 1", v.Nlink)
	}
	if f.has(vfsops.CapSole) {
		for what, ts := range map[string][2]abi.Timespec{"atime": {v.Atime, want.Atime}, "mtime": {v.Mtime, want.Mtime}, "ctime": {v.Ctime, want.Ctime},
			"btime": {v.Btime, want.Btime}, "directory's mtime": {m.Dir.Mtime, want.Mtime}, "directory's ctime": {m.Dir.Ctime, want.Ctime}} {
			if ts[0] != ts[1] {
				f.Errorf("%s %v, want the request's time %v", what, ts[0], ts[1])
			}
		}
	}
	f.checkAttr("made", m.Node.Handle, *v)
	f.checkAttr("directory", req.Dir, m.Dir)
}

// checkEntry checks that handle and attributes agree.
func (f *fsT) checkEntry(what string, e vfsops.Entry) {
	f.Helper()
	if e.Handle != e.Vattr.Handle(f.id) || e.Handle.File == 0 {
		f.Errorf("%s: handle %v, but attributes of file id %d.%d on %d", what, e.Handle, e.Vattr.Fileid, e.Vattr.Gen, f.id)
	}
	v := &e.Vattr
	if v.Type < abi.VREG || v.Type > abi.VFIFO || v.Mode&^0o7777 != 0 || v.Size < 0 || v.Bytes < 0 {
		f.Errorf("%s: type %v, mode %o, size %d, bytes %d", what, v.Type, v.Mode, v.Size, v.Bytes)
	}
}

// checkAttr checks that attributes that a mutator answered are what Getattr
// says. Of a file system that others change, only what we would have changed.
func (f *fsT) checkAttr(what string, h abi.Handle, v abi.Vattr) {
	f.Helper()
	got := f.getattr(h)
	if !f.has(vfsops.CapSole) {
		for _, p := range []*abi.Vattr{&got, &v} {
			p.Atime, p.Bytes = abi.Timespec{}, 0
		}
	}
	if got != v {
		f.Errorf("%s: the mutator answered %+v, Getattr %+v", what, v, got)
	}
}

func (f *fsT) getattr(h abi.Handle) abi.Vattr {
	f.Helper()
	v, err := f.fs.Getattr(f.ctx, h)
	f.must(fmt.Sprintf("getattr %v", h), err)
	return v
}

// lookup walks names that must all be there, and answers the last entry.
func (f *fsT) lookup(start abi.Handle, names ...string) vfsops.Entry {
	f.Helper()
	res, err := f.walk(start, names...)
	f.must("lookup", err)
	if res.Err != 0 || len(res.Trace) != len(names) {
		f.Fatalf("lookup of %q: %d found, errno %v", names, len(res.Trace), res.Err)
	}
	return res.Trace[len(names)-1]
}

func (f *fsT) walk(start abi.Handle, names ...string) (vfsops.LookupRes, error) {
	req := vfsops.LookupReq{Start: start}
	for _, n := range names {
		req.Names = append(req.Names, []byte(n))
	}
	res, err := f.fs.Lookup(f.ctx, req)
	for i, e := range res.Trace {
		f.checkEntry(fmt.Sprintf("lookup of %q", names[i]), e)
	}
	return res, err
}

// gone checks that name is not in dir.
func (f *fsT) gone(dir abi.Handle, name string) {
	f.Helper()
	res, err := f.walk(dir, name)
	f.must("lookup", err)
	if len(res.Trace) != 0 || res.Err != abi.ENOENT {
		f.Errorf("lookup of %q: %d found, errno %v, want ENOENT", name, len(res.Trace), res.Err)
	}
}

func (f *fsT) remove(dir abi.Handle, name string, victim abi.Handle) (vfsops.Mutated, error) {
	return f.fs.(vfsops.Remover).Remove(f.ctx, vfsops.RemoveReq{Op: f.op(), Dir: dir, Name: []byte(name), Victim: victim})
}

func (f *fsT) rmdir(dir abi.Handle, name string, victim abi.Handle) (vfsops.Mutated, error) {
	return f.fs.(vfsops.Remover).Rmdir(f.ctx, vfsops.RemoveReq{Op: f.op(), Dir: dir, Name: []byte(name), Victim: victim})
}

// list reads a whole directory, max bytes a time, and checks the rules of
// Readdir.
func (f *fsT) list(dir abi.Handle, max int, between func()) []abi.Dirent {
	f.Helper()
	var all []abi.Dirent
	cookie := uint64(0)
	for n := 0; n < 100000; n++ {
		res, err := f.fs.Readdir(f.ctx, vfsops.ReaddirReq{Dir: dir, Cookie: cookie, Max: max})
		f.must("readdir", err)
		size := 0
		for _, d := range res.Entries {
			size += 24 + len(d.Name)
			switch {
			case d.Name == "." || d.Name == ".." || d.Name == "" || strings.ContainsAny(d.Name, "/\x00"):
				f.Fatalf("readdir: entry %q", d.Name)
			case d.Cookie <= cookie:
				f.Fatalf("readdir: cookie %d of %q after %d", d.Cookie, d.Name, cookie)
			}
			cookie = d.Cookie
		}
		if size > max {
			f.Fatalf("readdir: %d bytes of entries, at most %d asked", size, max)
		}
		all = append(all, res.Entries...)
		if res.EOF {
			return all
		}
		if len(res.Entries) == 0 {
			f.Fatalf("readdir: no entries in %d bytes and no end", max)
		}
		if between != nil {
			between()
		}
	}
	f.Fatal("readdir does not end")
	return nil
}

func (f *fsT) write(h abi.Handle, off int64, app bool, data ...[]byte) vfsops.WriteRes {
	f.Helper()
	res, err := f.fs.(vfsops.Writer).Write(f.ctx, vfsops.WriteReq{Op: f.op(), Node: h, Off: off, Append: app}, abi.Iov(data))
	f.must("write", err)
	if res.N != abi.Iov(data).Len() {
		f.Fatalf("wrote %d of %d bytes", res.N, abi.Iov(data).Len())
	}
	f.checkAttr("write", h, res.Vattr)
	return res
}

func (f *fsT) read(h abi.Handle, off int64, n int) []byte {
	f.Helper()
	buf := bytes.Repeat([]byte{'?'}, n)
	cut := n / 3
	got, err := f.fs.Read(f.ctx, h, off, abi.Iov{buf[:cut], nil, buf[cut:]})
	f.must("read", err)
	return buf[:got]
}

func notSupported(err error) bool {
	return errors.Is(err, abi.EOPNOTSUPP) || errors.Is(err, abi.ENOTSUP)
}
