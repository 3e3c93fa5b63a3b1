package vfs

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// memType is a file system in memory for tests. It keeps contents as well, for
// the variants whose pages are not the kernel's.
type memType struct {
	mu     sync.Mutex
	mounts []*memFS
	space  int64 // pages to grant; 0 = no limit
	reqs   []vfsops.MountReq
	fail   error
}

type memFS struct {
	mu      sync.Mutex
	fsid    abi.Fsid
	nodes   map[vkey]*memNode
	root    *memNode
	last    abi.Fileid
	space   int64
	limited bool
	dead    error
	ended   bool   // unmounted
	order   string // what came out of order
	calls   map[string]int
	hook    func(op string) error
	late    func() // delays the answer of a Lookup
	freed   []abi.Handle
}

type memNode struct {
	va     abi.Vattr
	ents   map[string]*memNode
	order  []memEnt
	cookie uint64
	target []byte
	data   []byte
	xattr  map[string][]byte
	pins   int
	seq    abi.OpSeq // of the last mutator
}

// seen holds that mutators of a node come in the order of their numbers.
func (f *memFS) seen(op vfsops.Op, ns ...*memNode) {
	for _, n := range ns {
		if n == nil {
			continue
		}
		if op.Seq <= n.seq || op.Caller == nil {
			f.order = fmt.Sprintf("op %d of node %d after %d", op.Seq, n.va.Fileid, n.seq)
		}
		n.seq = op.Seq
	}
}

type memEnt struct {
	name   string
	cookie uint64
}

func (t *memType) Mount(_ context.Context, req *vfsops.MountReq) (vfsops.FS, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fail != nil {
		return nil, t.fail
	}
	for k := range req.Options {
		if k != "size" {
			return nil, abi.EINVAL
		}
	}
	f := &memFS{fsid: req.Fsid, nodes: map[vkey]*memNode{}, calls: map[string]int{}, space: t.space, limited: t.space > 0}
	f.root = f.node(abi.VDIR, 0o755, 0, 0, req.Op.Now)
	f.root.va.Nlink = 2
	t.mounts = append(t.mounts, f)
	t.reqs = append(t.reqs, *req)
	return f, nil
}

func (f *memFS) node(t abi.VType, mode, uid, gid uint32, now abi.Timespec) *memNode {
	f.last++
	n := &memNode{va: abi.Vattr{Type: t, Mode: mode, Nlink: 1, Uid: uid, Gid: gid, Blksize: 4096, Fileid: f.last, Gen: 1, Atime: now, Mtime: now, Ctime: now, Btime: now}}
	if t == abi.VDIR {
		n.ents = map[string]*memNode{}
	}
	f.nodes[vkey{f.last, 1}] = n
	return n
}

// in locks, counts the call and finds its nodes.
func (f *memFS) in(op string, hs ...abi.Handle) ([]*memNode, error) {
	f.mu.Lock()
	f.calls[op]++
	if f.hook != nil {
		if err := f.hook(op); err != nil {
			return nil, err
		}
	}
	if f.dead != nil {
		return nil, f.dead
	}
	var r []*memNode
	for _, h := range hs {
		n := f.nodes[vkey{h.File, h.Gen}]
		if n == nil || h.FS != f.fsid {
			return nil, abi.ESTALE
		}
		r = append(r, n)
	}
	return r, nil
}

func (f *memFS) entry(n *memNode) vfsops.Entry {
	return vfsops.Entry{Handle: n.va.Handle(f.fsid), Vattr: n.va}
}

func (f *memFS) Root(context.Context) (vfsops.Entry, error) { return f.entry(f.root), nil }

func (f *memFS) Lookup(_ context.Context, req vfsops.LookupReq) (res vfsops.LookupRes, err error) {
	res, err = f.lookup(req)
	f.mu.Lock()
	late := f.late
	f.mu.Unlock()
	if late != nil {
		late()
	}
	return res, err
}

func (f *memFS) lookup(req vfsops.LookupReq) (res vfsops.LookupRes, err error) {
	ns, err := f.in("lookup", req.Start)
	defer f.mu.Unlock()
	if err != nil {
		return res, err
	}
	at := ns[0]
	for _, name := range req.Names {
		if at.ents == nil {
			break
		}
		n := at.ents[string(name)]
		if n == nil {
			res.Err = abi.ENOENT
			break
		}
		res.Trace = append(res.Trace, f.entry(n))
		at = n
	}
	return res, nil
}

func (f *memFS) Getattr(_ context.Context, h abi.Handle) (abi.Vattr, error) {
	ns, err := f.in("getattr", h)
	defer f.mu.Unlock()
	if err != nil {
		return abi.Vattr{}, err
	}
	return ns[0].va, nil
}

func (f *memFS) Readdir(_ context.Context, req vfsops.ReaddirReq) (res vfsops.ReaddirRes, err error) {
	ns, err := f.in("readdir", req.Dir)
	defer f.mu.Unlock()
	if err != nil {
		return res, err
	}
	room := req.Max
	for _, e := range ns[0].order {
		if e.cookie <= req.Cookie {
			continue
		}
		if room -= 24 + len(e.name); room < 0 {
			return res, nil
		}
		n := ns[0].ents[e.name]
		res.Entries = append(res.Entries, abi.Dirent{Fileid: n.va.Fileid, Cookie: e.cookie, Type: n.va.Type, Name: e.name})
	}
	res.EOF = true
	return res, nil
}

func (f *memFS) Read(_ context.Context, h abi.Handle, off int64, dst abi.Iov) (int, error) {
	ns, err := f.in("read", h)
	defer f.mu.Unlock()
	if err != nil {
		return 0, err
	}
	if off >= int64(len(ns[0].data)) {
		return 0, nil
	}
	return dst.CopyIn(ns[0].data[off:]), nil
}

func (f *memFS) Statvfs(context.Context) (abi.Statvfs, error) {
	return abi.Statvfs{Bsize: 4096, Frsize: 4096, Blocks: 100, Bfree: 50, Bavail: 50}, nil
}

// Unmount ends the file system with all that is in it: pins of files that are
// still open go with it, nobody takes them back.
func (f *memFS) Unmount(context.Context) error {
	f.mu.Lock()
	f.ended = true
	f.mu.Unlock()
	return nil
}

func (f *memFS) add(op vfsops.Op, dir *memNode, name []byte, n *memNode) {
	dir.cookie++
	dir.ents[string(name)] = n
	dir.order = append(dir.order, memEnt{string(name), dir.cookie})
	dir.va.Mtime, dir.va.Ctime = op.Now, op.Now
	if n.va.Type == abi.VDIR {
		dir.va.Nlink++
	}
}

func (f *memFS) del(op vfsops.Op, dir *memNode, name []byte) {
	n := dir.ents[string(name)]
	delete(dir.ents, string(name))
	dir.order = slices.DeleteFunc(dir.order, func(e memEnt) bool { return e.name == string(name) })
	dir.va.Mtime, dir.va.Ctime = op.Now, op.Now
	if n.va.Type == abi.VDIR {
		dir.va.Nlink--
	}
}

func (f *memFS) unref(n *memNode) {
	if n.va.Type == abi.VDIR {
		n.va.Nlink = 0
	} else {
		n.va.Nlink--
	}
	f.collect(n)
}

func (f *memFS) collect(n *memNode) {
	if n.va.Nlink == 0 && n.pins == 0 {
		delete(f.nodes, vkey{n.va.Fileid, n.va.Gen})
	}
}

func (f *memFS) make(name string, req vfsops.CreateReq, t abi.VType, with func(n *memNode)) (m vfsops.Mutated, err error) {
	ns, err := f.in(name, req.Dir)
	defer f.mu.Unlock()
	if err != nil {
		return m, err
	}
	if ns[0].ents[string(req.Name)] != nil {
		return m, abi.EEXIST
	}
	if ns[0].va.Nlink == 0 {
		return m, abi.ENOENT
	}
	f.seen(req.Op, ns[0])
	n := f.node(t, req.Mode, req.Uid, req.Gid, req.Op.Now)
	if t == abi.VDIR {
		n.va.Nlink = 2
	}
	if with != nil {
		with(n)
	}
	f.add(req.Op, ns[0], req.Name, n)
	return vfsops.Mutated{Node: f.entry(n), Dir: ns[0].va}, nil
}

func (f *memFS) Create(_ context.Context, req vfsops.CreateReq) (vfsops.Mutated, error) {
	return f.make("create", req, abi.VREG, nil)
}

func (f *memFS) Mkdir(_ context.Context, req vfsops.CreateReq) (vfsops.Mutated, error) {
	return f.make("mkdir", req, abi.VDIR, nil)
}

func (f *memFS) Mknod(_ context.Context, req vfsops.MknodReq) (vfsops.Mutated, error) {
	return f.make("mknod", req.CreateReq, req.Type, func(n *memNode) { n.va.Rdev = req.Rdev })
}

func (f *memFS) Symlink(_ context.Context, req vfsops.SymlinkReq) (vfsops.Mutated, error) {
	return f.make("symlink", req.CreateReq, abi.VLNK, func(n *memNode) {
		n.target = req.Target
		n.va.Size = int64(len(req.Target))
	})
}

func (f *memFS) Link(_ context.Context, req vfsops.LinkReq) (m vfsops.Mutated, err error) {
	ns, err := f.in("link", req.Node, req.Dir)
	defer f.mu.Unlock()
	if err != nil {
		return m, err
	}
	if ns[1].ents[string(req.Name)] != nil {
		return m, abi.EEXIST
	}
	f.seen(req.Op, ns...)
	ns[0].va.Nlink++
	ns[0].va.Ctime = req.Op.Now
	f.add(req.Op, ns[1], req.Name, ns[0])
	return vfsops.Mutated{Node: f.entry(ns[0]), Dir: ns[1].va}, nil
}

func (f *memFS) Remove(_ context.Context, req vfsops.RemoveReq) (m vfsops.Mutated, err error) {
	return f.rm("remove", req)
}

func (f *memFS) Rmdir(_ context.Context, req vfsops.RemoveReq) (m vfsops.Mutated, err error) {
	return f.rm("rmdir", req)
}

func (f *memFS) rm(op string, req vfsops.RemoveReq) (m vfsops.Mutated, err error) {
	ns, err := f.in(op, req.Dir, req.Victim)
	defer f.mu.Unlock()
	if err != nil {
		return m, err
	}
	dir, n := ns[0], ns[1]
	if dir.ents[string(req.Name)] != n {
		return m, abi.ESTALE
	}
	if len(n.ents) > 0 {
		return m, abi.ENOTEMPTY
	}
	f.del(req.Op, dir, req.Name)
	n.va.Ctime = req.Op.Now
	f.unref(n)
	f.seen(req.Op, ns...)
	return vfsops.Mutated{Dir: dir.va, Victim: n.va}, nil
}

func (f *memFS) Rename(_ context.Context, req vfsops.RenameReq) (m vfsops.Mutated, err error) {
	hs := []abi.Handle{req.FDir, req.From, req.TDir}
	if !req.To.IsZero() {
		hs = append(hs, req.To)
	}
	ns, err := f.in("rename", hs...)
	defer f.mu.Unlock()
	if err != nil {
		return m, err
	}
	fdir, from, tdir := ns[0], ns[1], ns[2]
	var to *memNode
	if len(ns) > 3 {
		to = ns[3]
	}
	if fdir.ents[string(req.FName)] != from || tdir.ents[string(req.TName)] != to {
		return m, abi.ESTALE
	}
	f.seen(req.Op, fdir, from, to)
	if tdir != fdir {
		f.seen(req.Op, tdir)
	}
	if req.Flags&abi.RENAME_EXCHANGE != 0 {
		f.del(req.Op, fdir, req.FName)
		f.del(req.Op, tdir, req.TName)
		f.add(req.Op, fdir, req.FName, to)
		f.add(req.Op, tdir, req.TName, from)
	} else {
		if to != nil && len(to.ents) > 0 {
			return m, abi.ENOTEMPTY
		}
		f.del(req.Op, fdir, req.FName)
		if to != nil {
			f.del(req.Op, tdir, req.TName)
			f.unref(to)
		}
		f.add(req.Op, tdir, req.TName, from)
	}
	m = vfsops.Mutated{Node: f.entry(from), Dir: fdir.va, Dir2: tdir.va}
	if to != nil {
		m.Victim = to.va
	}
	return m, nil
}

func (f *memFS) Setattr(_ context.Context, req vfsops.SetattrReq) (abi.Vattr, error) {
	ns, err := f.in("setattr", req.Node)
	defer f.mu.Unlock()
	if err != nil {
		return abi.Vattr{}, err
	}
	f.seen(req.Op, ns[0])
	va, a := &ns[0].va, &req.Attr
	va.Ctime = req.Op.Now
	set := func(b abi.SetMask, fn func()) {
		if req.Mask&b != 0 {
			fn()
		}
	}
	set(abi.SetMode, func() { va.Mode = a.Mode })
	set(abi.SetUid, func() { va.Uid = a.Uid })
	set(abi.SetGid, func() { va.Gid = a.Gid })
	set(abi.SetSize, func() { va.Size = a.Size })
	set(abi.SetAtime, func() { va.Atime = a.Atime })
	set(abi.SetMtime, func() { va.Mtime = a.Mtime })
	set(abi.SetCtime, func() { va.Ctime = a.Ctime })
	set(abi.SetFlags, func() { va.Flags = a.Flags })
	return *va, nil
}

func (f *memFS) Readlink(_ context.Context, h abi.Handle) ([]byte, error) {
	ns, err := f.in("readlink", h)
	defer f.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return ns[0].target, nil
}

func (f *memFS) Pin(_ context.Context, h abi.Handle) error {
	ns, err := f.in("pin", h)
	defer f.mu.Unlock()
	if err == nil {
		ns[0].pins++
	}
	return err
}

func (f *memFS) Unpin(_ context.Context, h abi.Handle) error {
	ns, err := f.in("unpin", h)
	defer f.mu.Unlock()
	if err == nil {
		ns[0].pins--
		f.collect(ns[0])
	}
	return err
}

func (f *memFS) Getxattr(_ context.Context, h abi.Handle, name []byte) ([]byte, error) {
	ns, err := f.in("getxattr", h)
	defer f.mu.Unlock()
	if err != nil {
		return nil, err
	}
	v, ok := ns[0].xattr[string(name)]
	if !ok {
		return nil, abi.ENODATA
	}
	return v, nil
}

func (f *memFS) Listxattr(_ context.Context, h abi.Handle) (l []byte, err error) {
	ns, err := f.in("listxattr", h)
	defer f.mu.Unlock()
	if err != nil {
		return nil, err
	}
	for k := range ns[0].xattr {
		l = append(append(l, k...), 0)
	}
	return l, nil
}

func (f *memFS) Setxattr(_ context.Context, req vfsops.SetxattrReq) error {
	ns, err := f.in("setxattr", req.Node)
	defer f.mu.Unlock()
	if err != nil {
		return err
	}
	_, ok := ns[0].xattr[string(req.Name)]
	if ok && req.Flags == 1 {
		return abi.EEXIST
	}
	if !ok && req.Flags == 2 {
		return abi.ENODATA
	}
	if ns[0].xattr == nil {
		ns[0].xattr = map[string][]byte{}
	}
	ns[0].xattr[string(req.Name)] = slices.Clone(req.Value)
	return nil
}

func (f *memFS) Removexattr(_ context.Context, _ vfsops.Op, h abi.Handle, name []byte) error {
	ns, err := f.in("removexattr", h)
	defer f.mu.Unlock()
	if err != nil {
		return err
	}
	if _, ok := ns[0].xattr[string(name)]; !ok {
		return abi.ENODATA
	}
	delete(ns[0].xattr, string(name))
	return nil
}

// memKpages adds what a kpages file system has.
type memKpages struct{ *memFS }

func (f memKpages) Reserve(_ context.Context, n int64) (int64, error) {
	_, err := f.in("reserve")
	defer f.mu.Unlock()
	if err != nil || !f.limited {
		return n, err
	}
	if n > f.space {
		n = f.space
	}
	f.space -= n
	if n == 0 {
		return 0, abi.ENOSPC
	}
	return n, nil
}

// memData adds contents of its own.
type memData struct{ *memFS }

func (f memData) Write(_ context.Context, req vfsops.WriteReq, src abi.Iov) (res vfsops.WriteRes, err error) {
	ns, err := f.in("write", req.Node)
	defer f.mu.Unlock()
	if err != nil {
		return res, err
	}
	f.seen(req.Op, ns[0])
	n := ns[0]
	if req.Append {
		req.Off = n.va.Size
	}
	if req.Off+int64(src.Len()) > 1<<26 {
		return res, abi.EFBIG
	}
	n.resize(max(n.va.Size, req.Off+int64(src.Len())))
	res.N = src.CopyOut(n.data[req.Off:])
	n.va.Mtime, n.va.Ctime = req.Op.Now, req.Op.Now
	res.Off, res.Vattr = req.Off, n.va
	return res, nil
}

func (n *memNode) resize(size int64) {
	if size > int64(len(n.data)) {
		n.data = append(n.data, make([]byte, size-int64(len(n.data)))...)
	}
	n.data = n.data[:size]
	n.va.Size = size
}

func (f memData) Truncate(_ context.Context, op vfsops.Op, h abi.Handle, size int64) (abi.Vattr, error) {
	ns, err := f.in("truncate", h)
	defer f.mu.Unlock()
	if err != nil {
		return abi.Vattr{}, err
	}
	if size > 1<<26 {
		return abi.Vattr{}, abi.EFBIG
	}
	f.seen(op, ns[0])
	ns[0].resize(size)
	ns[0].va.Mtime, ns[0].va.Ctime = op.Now, op.Now
	return ns[0].va, nil
}

func (f memData) Reclaim(_ context.Context, hs []abi.Handle) error {
	_, err := f.in("reclaim")
	defer f.mu.Unlock()
	f.freed = append(f.freed, hs...)
	return err
}

// memVariant wraps a memType so that its mounts are of one kind.
type memVariant struct {
	*memType
	wrap func(*memFS) vfsops.FS
}

func (v memVariant) Mount(ctx context.Context, req *vfsops.MountReq) (vfsops.FS, error) {
	f, err := v.memType.Mount(ctx, req)
	if err != nil {
		return nil, err
	}
	return v.wrap(f.(*memFS)), nil
}

// memPager is a sole file system whose pages the kernel caches.
type memPager struct{ memData }

func (f memPager) ReadPages(_ context.Context, h abi.Handle, off int64, dst abi.Iov) error {
	ns, err := f.in("readpages", h)
	defer f.mu.Unlock()
	if err != nil {
		return err
	}
	if off < int64(len(ns[0].data)) {
		dst.CopyIn(ns[0].data[off:])
	}
	return nil
}

func (f memPager) WritePages(_ context.Context, op vfsops.Op, h abi.Handle, off int64, src abi.Iov, size int64) error {
	ns, err := f.in("writepages", h)
	defer f.mu.Unlock()
	if err != nil {
		return err
	}
	if size > 1<<26 {
		return abi.EFBIG
	}
	f.seen(op, ns[0])
	ns[0].resize(max(size, ns[0].va.Size))
	src.CopyOut(ns[0].data[off:])
	return nil
}
