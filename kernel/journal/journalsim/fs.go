package journalsim

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

// state is the state of a small file system: what a checkpoint keeps.
type state struct {
	nodes map[abi.Fileid]*node
	last  abi.Fileid
	seq   abi.OpSeq // the last mutator that was executed
	ops   int       // how many
}

type node struct {
	va    abi.Vattr
	ents  map[string]abi.Fileid
	data  []byte
	xattr map[string]string
	pins  int
}

func (s *state) clone() *state {
	c := &state{nodes: map[abi.Fileid]*node{}, last: s.last, seq: s.seq, ops: s.ops}
	for k, n := range s.nodes {
		m := *n
		m.ents, m.xattr, m.data = maps.Clone(n.ents), maps.Clone(n.xattr), slices.Clone(n.data)
		c.nodes[k] = &m
	}
	return c
}

// dump describes the state, to compare two.
func (s *state) dump() string {
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

// Store is the Backing: what the file system has written, and what of it is
// committed. The zero value is ready.
type Store struct {
	mu        sync.Mutex
	committed *state
	pending   *state
	seq       abi.OpSeq
	fail      error
	drops     int
	bad       []string
}

// Fail lets each Commit fail with err from now on; nil: no longer.
func (s *Store) Fail(err error) {
	s.mu.Lock()
	s.fail = err
	s.mu.Unlock()
}

// Commit makes what was written valid.
func (s *Store) Commit(_ context.Context, seq abi.OpSeq) error {
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

// Seq is to which mutator the Store is complete.
func (s *Store) Seq() abi.OpSeq {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seq
}

// Drop forgets what was written and not committed.
func (s *Store) Drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending = nil
	s.drops++
}

// Proc is a process that serves a small file system, the state of which a
// checkpoint writes to a Store. Its operations are those of vfsops.
type Proc struct {
	mu      sync.Mutex
	store   *Store
	st      *state
	dead    bool
	granted int64

	// Around is called before and after a call is executed; by its answer
	// the process dies.
	Around func(op string, after bool, name string) bool
}

const simFsid = 7

// NewProc makes a process with what the store has committed.
func NewProc(s *Store) *Proc {
	f := &Proc{store: s}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pending != nil {
		s.bad = append(s.bad, "a new process finds what the dead one has not committed")
	}
	if s.committed != nil {
		f.st = s.committed.clone()
		return f
	}
	f.st = &state{nodes: map[abi.Fileid]*node{}, last: 1}
	f.st.nodes[1] = &node{va: abi.Vattr{Type: abi.VDIR, Mode: 0o755, Nlink: 2, Fileid: 1, Gen: 1}, ents: map[string]abi.Fileid{}}
	return f
}

// Handle is the file with that number.
func Handle(id abi.Fileid) abi.Handle { return abi.Handle{FS: simFsid, File: id, Gen: 1} }

// Kill ends the process: what it was not asked yet, it never executes.
func (f *Proc) Kill() {
	f.mu.Lock()
	f.dead = true
	f.mu.Unlock()
}

var errSimDead = &stream.Dead{Cause: errors.New("killed")}

// do executes a call.
func (f *Proc) do(op, name string, fn func() error) error {
	if f.Around != nil && f.Around(op, false, name) {
		f.Kill()
	}
	f.mu.Lock()
	if f.dead {
		f.mu.Unlock()
		return fmt.Errorf("%s: %w", op, errSimDead)
	}
	err := fn()
	f.mu.Unlock()
	if f.Around != nil {
		if f.Around(op, true, name) {
			f.Kill()
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.dead { // between doing it and answering
			return fmt.Errorf("%s: %w", op, errSimDead)
		}
	}
	return err
}

// mut is do for a mutator.
func (f *Proc) mut(op string, seq abi.OpSeq, name string, fn func() error) error {
	return f.do(op, name, func() error {
		if err := fn(); err != nil {
			return err
		}
		if at := f.store.Seq(); seq != 0 && seq <= at {
			f.store.wrong("mutator %d is executed after a checkpoint that is complete to %d", seq, at)
		}
		f.st.seq = max(f.st.seq, seq)
		f.st.ops++
		return nil
	})
}

func (f *Proc) node(h abi.Handle) (*node, error) {
	n := f.st.nodes[h.File]
	if n == nil || h.FS != simFsid || h.Gen != 1 {
		return nil, abi.ESTALE
	}
	return n, nil
}

func (f *Proc) entry(n *node) vfsops.Entry {
	return vfsops.Entry{Handle: n.va.Handle(simFsid), Vattr: n.va}
}

// Nodes is how many files and directories there are.
func (f *Proc) Nodes() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.st.nodes)
}

// wrong takes note of what must not be.
func (s *Store) wrong(format string, args ...any) {
	s.mu.Lock()
	s.bad = append(s.bad, fmt.Sprintf(format, args...))
	s.mu.Unlock()
}

// executed is how many mutators have been.
func (f *Proc) executed() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.st.ops
}

// Named answers the file of that name in the root directory, 0 if there is none.
func (f *Proc) Named(name string) abi.Fileid {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.st.nodes[1].ents[name]
}

// Dump describes all that is there, a line a file.
func (f *Proc) Dump() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.st.dump()
}

// Caps is what the file system can do.
func (f *Proc) Caps() vfsops.Caps {
	return vfsops.InterfaceCaps(f) | vfsops.CapSole | vfsops.CapCheckpoint | vfsops.CapFixedids
}

// Root answers the root directory.
func (f *Proc) Root(context.Context) (e vfsops.Entry, err error) {
	err = f.do("root", "", func() error { e = f.entry(f.st.nodes[1]); return nil })
	return e, err
}

// Lookup finds one name.
func (f *Proc) Lookup(_ context.Context, req vfsops.LookupReq) (r vfsops.LookupRes, err error) {
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

// Getattr answers attributes.
func (f *Proc) Getattr(_ context.Context, h abi.Handle) (va abi.Vattr, err error) {
	err = f.do("getattr", "", func() error {
		n, err := f.node(h)
		if err == nil {
			va = n.va
		}
		return err
	})
	return va, err
}

// Readdir lists a directory.
func (f *Proc) Readdir(_ context.Context, req vfsops.ReaddirReq) (r vfsops.ReaddirRes, err error) {
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

// Read reads.
func (f *Proc) Read(_ context.Context, h abi.Handle, off int64, dst abi.Iov) (got int, err error) {
	err = f.do("read", "", func() error {
		n, err := f.node(h)
		if err == nil && off < int64(len(n.data)) {
			got = dst.CopyIn(n.data[off:])
		}
		return err
	})
	return got, err
}

// Statvfs answers nothing.
func (f *Proc) Statvfs(context.Context) (abi.Statvfs, error) { return abi.Statvfs{}, nil }

// Unmount does nothing.
func (f *Proc) Unmount(context.Context) error { return nil }

// Checkpoint writes the state to the Store.
func (f *Proc) Checkpoint(_ context.Context, seq abi.OpSeq) error {
	return f.do("checkpoint", "", func() error {
		f.store.mu.Lock()
		defer f.store.mu.Unlock()
		f.store.pending = f.st.clone()
		return nil
	})
}

// Create makes a file.
func (f *Proc) Create(_ context.Context, req vfsops.CreateReq) (vfsops.Mutated, error) {
	return f.create("create", req, abi.VREG)
}

// Mkdir makes a directory.
func (f *Proc) Mkdir(_ context.Context, req vfsops.CreateReq) (vfsops.Mutated, error) {
	return f.create("mkdir", req, abi.VDIR)
}

func (f *Proc) create(op string, req vfsops.CreateReq, t abi.VType) (m vfsops.Mutated, err error) {
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
		n := &node{va: abi.Vattr{Type: t, Mode: req.Mode, Nlink: 1, Fileid: id, Gen: 1, Uid: uint32(req.Op.Seed), Mtime: req.Op.Now, Ctime: req.Op.Now}}
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

func (f *Proc) unref(n *node) {
	n.va.Nlink--
	f.collect(n)
}

func (f *Proc) collect(n *node) {
	if n.va.Nlink == 0 && n.pins == 0 {
		delete(f.st.nodes, n.va.Fileid)
	}
}

// Remove removes a name.
func (f *Proc) Remove(_ context.Context, req vfsops.RemoveReq) (m vfsops.Mutated, err error) {
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

// Rmdir removes a directory.
func (f *Proc) Rmdir(ctx context.Context, req vfsops.RemoveReq) (m vfsops.Mutated, err error) {
	return f.Remove(ctx, req)
}

// Rename renames.
func (f *Proc) Rename(_ context.Context, req vfsops.RenameReq) (m vfsops.Mutated, err error) {
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

// Setattr changes the mode.
func (f *Proc) Setattr(_ context.Context, req vfsops.SetattrReq) (va abi.Vattr, err error) {
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

// Write writes.
func (f *Proc) Write(_ context.Context, req vfsops.WriteReq, src abi.Iov) (r vfsops.WriteRes, err error) {
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

// Getxattr reads an attribute.
func (f *Proc) Getxattr(_ context.Context, h abi.Handle, name []byte) (v []byte, err error) {
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

// Listxattr answers nothing.
func (f *Proc) Listxattr(context.Context, abi.Handle) ([]byte, error) { return nil, nil }

// Setxattr sets an attribute.
func (f *Proc) Setxattr(_ context.Context, req vfsops.SetxattrReq) error {
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

// Removexattr removes an attribute.
func (f *Proc) Removexattr(_ context.Context, op vfsops.Op, h abi.Handle, name []byte) error {
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

// Pin keeps a file without a name.
func (f *Proc) Pin(_ context.Context, h abi.Handle) error {
	return f.mut("pin", 0, "", func() error {
		n, err := f.node(h)
		if err == nil {
			n.pins++
		}
		return err
	})
}

// Unpin lets it go.
func (f *Proc) Unpin(_ context.Context, h abi.Handle) error {
	return f.mut("unpin", 0, "", func() error {
		n, err := f.node(h)
		if err == nil {
			n.pins--
			f.collect(n)
		}
		return err
	})
}

// Reserve grants all pages.
func (f *Proc) Reserve(_ context.Context, pages int64) (got int64, err error) {
	err = f.do("reserve", "", func() error {
		got = pages
		f.granted += got
		return nil
	})
	return got, err
}
