package fuse

import (
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/rumpus-kernel/rumpus/host/export/linuxabi"
	"github.com/rumpus-kernel/rumpus/kernel/vfs"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// node is a file that Linux knows, by a number that is used once.
type node struct {
	id      uint64
	v       *vfs.Vnode // held and watched; nil once it was let go for an unmount
	lookups uint64     // how often Linux was told of it and has not forgotten
	at      time.Time  // of the last time it was told
}

// rootID is the node that Linux calls the root of the mount.
const rootID = fuse.FUSE_ROOT_ID

// vnode is the vnode of a node, held. ESTALE for one that was let go: Linux
// looks the path up again then.
func (s *Server) vnode(id uint64) (*vfs.Vnode, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	n := s.nodes[id]
	if n == nil || n.v == nil {
		return nil, abi.ESTALE
	}
	n.v.Hold()
	return n.v, nil
}

// enter takes over the caller's reference of v and answers the number under
// which Linux gets to know it once more. It is watched from here on, so that
// attributes read later are never older than what the watcher was told.
func (s *Server) enter(v *vfs.Vnode) uint64 {
	now := time.Now()
	s.mu.Lock()
	n := s.byVnode[v]
	if n != nil {
		n.lookups++
		n.at = now
		s.mu.Unlock()
		v.Rele()
		return n.id
	}
	s.lastID++
	n = &node{id: s.lastID, v: v, lookups: 1, at: now}
	s.nodes[n.id], s.byVnode[v] = n, n
	v.Watch(1)
	s.mu.Unlock()
	return n.id
}

// Forget is FORGET: Linux has forgotten a node so many times.
func (s *Server) Forget(id, lookups uint64) {
	if id == rootID {
		return
	}
	s.mu.Lock()
	n := s.nodes[id]
	if n == nil {
		s.mu.Unlock()
		return
	}
	n.lookups -= min(lookups, n.lookups)
	if n.lookups > 0 {
		s.mu.Unlock()
		return
	}
	delete(s.nodes, id)
	s.unnoted(id)
	v := n.v
	if v != nil {
		delete(s.byVnode, v)
		v.Watch(-1)
	}
	s.mu.Unlock()
	if v != nil {
		v.Rele()
	}
}

// letGo lets all vnodes go for which want is true, or all if it is nil, but the
// root and those that are open.
func (s *Server) letGo(want func(v *vfs.Vnode) bool) {
	var gone []*vfs.Vnode
	s.mu.Lock()
	for _, n := range s.nodes {
		if n.v == nil || want != nil && (n.id == rootID || !want(n.v)) {
			continue
		}
		gone = append(gone, n.v)
		delete(s.byVnode, n.v)
		n.v.Watch(-1)
		n.v = nil
		s.queue(event{id: n.id, off: -1}) // or cached attributes would hide it
	}
	s.mu.Unlock()
	for _, v := range gone {
		v.Rele()
	}
}

// known is the number of a vnode that Linux knows, 0 if it does not.
func (s *Server) known(v *vfs.Vnode) uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if n := s.byVnode[v]; n != nil {
		return n.id
	}
	return 0
}

// fresh reports whether an answer about a node may still be on its way to
// Linux.
func (s *Server) fresh(id uint64) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	n := s.nodes[id]
	return n != nil && time.Since(n.at) < freshFor
}

// freshFor is how long an answer can be on its way.
const freshFor = 100 * time.Millisecond

// cacheFor is how long Linux may keep what we tell it when it is told of.
const cacheFor = time.Hour

// ttl is how long what v says may be kept, in seconds.
func (s *Server) ttl(v *vfs.Vnode) uint64 {
	if s.o.NoCache || !v.Cacheable() {
		return 0
	}
	return uint64(cacheFor / time.Second)
}

// ino is the number of a file as programs see it: those of other mounts than
// the root's are moved out of its range.
func (s *Server) ino(fsid abi.Fsid, id abi.Fileid) uint64 {
	n := uint64(id) ^ uint64(fsid-s.rootFsid)<<48
	if n == 0 {
		n = 1 << 47
	}
	return n
}

// attr puts attributes into Linux's shape.
func (s *Server) attr(st *abi.Stat, a *fuse.Attr) {
	*a = fuse.Attr{
		Ino: s.ino(st.Dev, st.Fileid), Size: uint64(st.Size), Blocks: uint64(st.Bytes+511) / 512,
		Atime: uint64(st.Atime.Sec), Mtime: uint64(st.Mtime.Sec), Ctime: uint64(st.Ctime.Sec),
		Atimensec: uint32(st.Atime.Nsec), Mtimensec: uint32(st.Mtime.Nsec), Ctimensec: uint32(st.Ctime.Nsec),
		Mode: st.Mode&abi.ALLPERMS | abi.TypeMode(st.Type), Nlink: st.Nlink,
		Owner:   fuse.Owner{Uid: s.ids.out(st.Uid, s.ids.uid), Gid: s.ids.out(st.Gid, s.ids.gid)},
		Blksize: st.Blksize,
	}
	if st.Type == abi.VCHR || st.Type == abi.VBLK {
		a.Rdev = linuxabi.FromDev(st.Rdev)
	}
}

// answer enters v, whose reference it takes over, and fills in what Linux
// learns of it as a name in dir, the node that is asked about.
func (s *Server) answer(r *request, dir, v *vfs.Vnode, name string, out *fuse.EntryOut) error {
	v.Hold()
	defer v.Rele()
	id := s.enter(v)
	s.noted(r.h.NodeId, v, id, name)
	st, err := v.Stat(r)
	if err != nil {
		s.Forget(id, 1)
		return err
	}
	out.NodeId, out.Generation = id, 0
	out.EntryValid, out.AttrValid = s.ttl(dir), s.ttl(v)
	s.attr(&st, &out.Attr)
	return nil
}
