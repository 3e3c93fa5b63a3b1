package journal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/stream"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// simState is the state of a small file system: what a checkpoint keeps.
type simState struct {
	nodes map[abi.Fileid]*simNode
	last  abi.Fileid
	seq   abi.OpSeq // the last mutator that was executed
	ops   int       // how many
}

type simNode struct {
	va    abi.Vattr
	ents  map[string]abi.Fileid
	data  []byte
	xattr map[string]string
	pins  int
}

func (s *simState) clone() *simState {
	c := &simState{nodes: map[abi.Fileid]*simNode{}, last: s.last, seq: s.seq, ops: s.ops}
	for k, n := range s.nodes {
		m := *n
		m.ents, m.xattr, m.data = maps.Clone(n.ents), maps.Clone(n.xattr), slices.Clone(n.data)
		c.nodes[k] = &m
	}
	return c
}

// dump describes the state, to compare two.
func (s *simState) dump() string {
	r := ""
	for _, k := range slices.Sorted(maps.Keys(s.nodes)) {
		n := s.nodes[k]
		r += fmt.Sprintf("%d: mode %o nlink %d size %d pins %d data %q", k, n.va.Mode, n.va.Nlink, n.va.Size, n.pins, n.data)
		for _, e := range slices.Sorted(maps.Keys(n.ents)) {
			r += fmt.Sprintf(" %s=%d", e, n.ents[e])
		}
		for _, e := range slices.Sorted(maps.Keys(n.xattr)) {
			r += fmt.Sprintf(" %s:%s", e, n.xattr[e])
		}
		r += "\n"
	}
	return r
}

// simStore is the Backing.
type simStore struct {
	mu        sync.Mutex
	committed *simState
	pending   *simState
	seq       abi.OpSeq
	fail      error
	drops     int
}

func (s *simStore) Commit(_ context.Context, seq abi.OpSeq) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return s.fail
	}
	if s.pending == nil {
		return errors.New("nothing to commit")
	}
	s.committed, s.pending, s.seq = s.pending, nil, seq
	return nil
}

func (s *simStore) Drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending = nil
	s.drops++
}

// simFS is a process that serves the file system.
type simFS struct {
	mu      sync.Mutex
	store   *simStore
	st      *simState
	dead    bool
	granted int64
	limit   int64 // pages, 0 = none

	// around is called before and after a call is executed; by its answer
	// the process dies.
	around func(op string, after bool, name string) bool
}

const simFsid = 7

// newSim makes a process with what the store has.
func newSim(s *simStore) *simFS {
	f := &simFS{store: s}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.committed != nil {
		f.st = s.committed.clone()
		return f
	}
	f.st = &simState{nodes: map[abi.Fileid]*simNode{}, last: 1}
	f.st.nodes[1] = &simNode{va: abi.Vattr{Type: abi.VDIR, Mode: 0o755, Nlink: 2, Fileid: 1, Gen: 1}, ents: map[string]abi.Fileid{}}
	return f
}

func simHandle(id abi.Fileid) abi.Handle { return abi.Handle{FS: simFsid, File: id, Gen: 1} }

func (f *simFS) kill() {
	f.mu.Lock()
	f.dead = true
	f.mu.Unlock()
}

var errSimDead = &stream.Dead{Cause: errors.New("killed")}

// do executes a call.
func (f *simFS) do(op, name string, fn func() error) error {
	if f.around != nil && f.around(op, false, name) {
		f.kill()
	}
	f.mu.Lock()
	if f.dead {
		f.mu.Unlock()
		return fmt.Errorf("%s: %w", op, errSimDead)
	}
	err := fn()
	f.mu.Unlock()
	if f.around != nil && f.around(op, true, name) {
		f.kill()
		return fmt.Errorf("%s: %w", op, errSimDead)
	}
	return err
}

// mut is do for a mutator.
func (f *simFS) mut(op string, seq abi.OpSeq, name string, fn func() error) error {
	return f.do(op, name, func() error {
		if err := fn(); err != nil {
			return err
		}
		f.st.seq = max(f.st.seq, seq)
		f.st.ops++
		return nil
	})
}

func (f *simFS) node(h abi.Handle) (*simNode, error) {
	n := f.st.nodes[h.File]
	if n == nil || h.FS != simFsid || h.Gen != 1 {
		return nil, abi.ESTALE
	}
	return n, nil
}

func (f *simFS) entry(n *simNode) vfsops.Entry {
	return vfsops.Entry{Handle: n.va.Handle(simFsid), Vattr: n.va}
}

func (f *simFS) Caps() vfsops.Caps {
	return vfsops.InterfaceCaps(f) | vfsops.CapSole | vfsops.CapCheckpoint | vfsops.CapFixedids
}

func (f *simFS) Root(context.Context) (e vfsops.Entry, err error) {
	err = f.do("root", "", func() error { e = f.entry(f.st.nodes[1]); return nil })
	return e, err
}

func (f *simFS) Lookup(_ context.Context, req vfsops.LookupReq) (r vfsops.LookupRes, err error) {
	err = f.do("lookup", string(req.Names[0]), func() error {
		d, err := f.node(req.Start)
		if err != nil {
			return err
		}
		id, ok := d.ents[string(req.Names[0])]
		if !ok {
			r.Err = abi.ENOENT
			return nil
		}
		r.Trace = append(r.Trace, f.entry(f.st.nodes[id]))
		return nil
	})
	return r, err
}

func (f *simFS) Getattr(_ context.Context, h abi.Handle) (va abi.Vattr, err error) {
	err = f.do("getattr", "", func() error {
		n, err := f.node(h)
		if err == nil {
			va = n.va
		}
		return err
	})
	return va, err
}

func (f *simFS) Readdir(_ context.Context, req vfsops.ReaddirReq) (r vfsops.ReaddirRes, err error) {
	err = f.do("readdir", "", func() error {
		d, err := f.node(req.Dir)
		if err != nil {
			return err
		}
		for name, id := range d.ents {
			if uint64(id) > req.Cookie {
				r.Entries = append(r.Entries, abi.Dirent{Fileid: id, Cookie: uint64(id), Type: f.st.nodes[id].va.Type, Name: name})
			}
		}
		slices.SortFunc(r.Entries, func(a, b abi.Dirent) int { return cmp.Compare(a.Cookie, b.Cookie) })
		r.EOF = true
		return nil
	})
	return r, err
}

func (f *simFS) Read(_ context.Context, h abi.Handle, off int64, dst abi.Iov) (got int, err error) {
	err = f.do("read", "", func() error {
		n, err := f.node(h)
		if err == nil && off < int64(len(n.data)) {
			got = dst.CopyIn(n.data[off:])
		}
		return err
	})
	return got, err
}

func (f *simFS) Statvfs(context.Context) (abi.Statvfs, error) { return abi.Statvfs{}, nil }
func (f *simFS) Unmount(context.Context) error                { return nil }

func (f *simFS) Checkpoint(_ context.Context, seq abi.OpSeq) error {
	return f.do("checkpoint", "", func() error {
		f.store.mu.Lock()
		defer f.store.mu.Unlock()
		f.store.pending = f.st.clone()
		return nil
	})
}

func (f *simFS) Create(_ context.Context, req vfsops.CreateReq) (vfsops.Mutated, error) {
	return f.create("create", req, abi.VREG)
}

func (f *simFS) Mkdir(_ context.Context, req vfsops.CreateReq) (vfsops.Mutated, error) {
	return f.create("mkdir", req, abi.VDIR)
}

func (f *simFS) create(op string, req vfsops.CreateReq, t abi.VType) (m vfsops.Mutated, err error) {
	err = f.mut(op, req.Op.Seq, string(req.Name), func() error {
		d, err := f.node(req.Dir)
		if err != nil {
			return err
		}
		if _, ok := d.ents[string(req.Name)]; ok {
			return abi.EEXIST
		}
		id := req.Op.Fileid
		if id == 0 {
			id = f.st.last + 1
		}
		if f.st.nodes[id] != nil {
			return abi.EEXIST
		}
		f.st.last = max(f.st.last, id)
		n := &simNode{va: abi.Vattr{Type: t, Mode: req.Mode, Nlink: 1, Fileid: id, Gen: 1, Uid: uint32(req.Op.Seed), Mtime: req.Op.Now, Ctime: req.Op.Now}}
		if t == abi.VDIR {
			n.ents = map[string]abi.Fileid{}
		}
		f.st.nodes[id] = n
		d.ents[string(req.Name)] = id
		d.va.Mtime = req.Op.Now
		m = vfsops.Mutated{Node: f.entry(n), Dir: d.va}
		return nil
	})
	return m, err
}

func (f *simFS) unref(n *simNode) {
	n.va.Nlink--
	f.collect(n)
}

func (f *simFS) collect(n *simNode) {
	if n.va.Nlink == 0 && n.pins == 0 {
		delete(f.st.nodes, n.va.Fileid)
	}
}

func (f *simFS) Remove(_ context.Context, req vfsops.RemoveReq) (m vfsops.Mutated, err error) {
	err = f.mut("remove", req.Op.Seq, string(req.Name), func() error {
		d, err := f.node(req.Dir)
		if err != nil {
			return err
		}
		if d.ents[string(req.Name)] != req.Victim.File {
			return abi.ESTALE
		}
		n := f.st.nodes[req.Victim.File]
		delete(d.ents, string(req.Name))
		d.va.Mtime, n.va.Ctime = req.Op.Now, req.Op.Now
		f.unref(n)
		m = vfsops.Mutated{Dir: d.va, Victim: n.va}
		return nil
	})
	return m, err
}

func (f *simFS) Rmdir(ctx context.Context, req vfsops.RemoveReq) (m vfsops.Mutated, err error) {
	return f.Remove(ctx, req)
}

func (f *simFS) Rename(_ context.Context, req vfsops.RenameReq) (m vfsops.Mutated, err error) {
	err = f.mut("rename", req.Op.Seq, string(req.FName), func() error {
		fd, err := f.node(req.FDir)
		if err != nil {
			return err
		}
		td, err := f.node(req.TDir)
		if err != nil {
			return err
		}
		if fd.ents[string(req.FName)] != req.From.File || td.ents[string(req.TName)] != req.To.File {
			return abi.ESTALE
		}
		if to := f.st.nodes[req.To.File]; to != nil {
			f.unref(to)
			m.Victim = to.va
		}
		delete(fd.ents, string(req.FName))
		td.ents[string(req.TName)] = req.From.File
		fd.va.Mtime, td.va.Mtime = req.Op.Now, req.Op.Now
		m.Node, m.Dir, m.Dir2 = f.entry(f.st.nodes[req.From.File]), fd.va, td.va
		return nil
	})
	return m, err
}

func (f *simFS) Setattr(_ context.Context, req vfsops.SetattrReq) (va abi.Vattr, err error) {
	err = f.mut("setattr", req.Op.Seq, "", func() error {
		n, err := f.node(req.Node)
		if err != nil {
			return err
		}
		n.va.Mode, n.va.Ctime = req.Attr.Mode, req.Op.Now
		va = n.va
		return nil
	})
	return va, err
}

func (f *simFS) Write(_ context.Context, req vfsops.WriteReq, src abi.Iov) (r vfsops.WriteRes, err error) {
	err = f.mut("write", req.Op.Seq, "", func() error {
		n, err := f.node(req.Node)
		if err != nil {
			return err
		}
		if req.Append {
			req.Off = int64(len(n.data))
		}
		if end := req.Off + int64(src.Len()); end > int64(len(n.data)) {
			n.data = append(n.data, make([]byte, end-int64(len(n.data)))...)
		}
		src.CopyOut(n.data[req.Off:])
		n.va.Size, n.va.Mtime = int64(len(n.data)), req.Op.Now
		r = vfsops.WriteRes{N: src.Len(), Off: req.Off, Vattr: n.va}
		return nil
	})
	return r, err
}

func (f *simFS) Getxattr(_ context.Context, h abi.Handle, name []byte) (v []byte, err error) {
	err = f.do("getxattr", string(name), func() error {
		n, err := f.node(h)
		if err != nil {
			return err
		}
		s, ok := n.xattr[string(name)]
		if !ok {
			return abi.ENODATA
		}
		v = []byte(s)
		return nil
	})
	return v, err
}

func (f *simFS) Listxattr(context.Context, abi.Handle) ([]byte, error) { return nil, nil }

func (f *simFS) Setxattr(_ context.Context, req vfsops.SetxattrReq) error {
	return f.mut("setxattr", req.Op.Seq, string(req.Name), func() error {
		n, err := f.node(req.Node)
		if err != nil {
			return err
		}
		if n.xattr == nil {
			n.xattr = map[string]string{}
		}
		n.xattr[string(req.Name)] = string(req.Value)
		return nil
	})
}

func (f *simFS) Removexattr(_ context.Context, op vfsops.Op, h abi.Handle, name []byte) error {
	return f.mut("removexattr", op.Seq, string(name), func() error {
		n, err := f.node(h)
		if err != nil {
			return err
		}
		if _, ok := n.xattr[string(name)]; !ok {
			return abi.ENODATA
		}
		delete(n.xattr, string(name))
		return nil
	})
}

func (f *simFS) Pin(_ context.Context, h abi.Handle) error {
	return f.mut("pin", 0, "", func() error {
		n, err := f.node(h)
		if err == nil {
			n.pins++
		}
		return err
	})
}

func (f *simFS) Unpin(_ context.Context, h abi.Handle) error {
	return f.mut("unpin", 0, "", func() error {
		n, err := f.node(h)
		if err == nil {
			n.pins--
			f.collect(n)
		}
		return err
	})
}

func (f *simFS) Reserve(_ context.Context, pages int64) (got int64, err error) {
	err = f.do("reserve", "", func() error {
		got = pages
		if f.limit > 0 {
			if got = min(pages, f.limit-f.granted); got <= 0 && pages > 0 {
				return abi.ENOSPC
			}
		}
		f.granted += got
		return nil
	})
	return got, err
}
