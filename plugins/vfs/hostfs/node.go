package hostfs

import (
	"container/list"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// maxNodes bounds the node table. Beyond it, nodes without descriptors go,
// the least recently used first; a handle of one is ESTALE.
const maxNodes = 1 << 20

// node is a host file that the kernel knows of.
type node struct {
	key    key
	fileid abi.Fileid
	gen    abi.Gen
	birth  abi.Gen // genOf; gen is higher for a file on an inode that was used before in the same moment
	typ    abi.VType

	openMu sync.Mutex // held while descriptors are opened
	// Descriptors, -1 = none. Set under openMu with the node held, closed
	// under FS.mu's rule with nobody holding it. path is O_PATH (or the
	// descriptor that made the file), rw is for reading and writing, rd for
	// reading where writing is not allowed or not wanted.
	path, rd, rw int

	appendMu sync.Mutex // serialises appending writes

	// FS.mu protects the rest.
	refs    int    // calls that use the node
	pins    int    // Pin
	kids    int    // nodes whose parent this is
	fds     int    // descriptors open
	keep    bool   // descriptors stay up to twice the limit: its name was removed here
	forgot  bool   // goes as soon as nothing needs it
	dead    bool   // another file took its place in the table
	parent  *node  // where it was seen last; nil for the root or if unknown
	name    string // in parent
	elem    *list.Element
	elemLRU *list.List // FS.open or FS.idle: the list that elem is in
}

// Table, all under FS.mu: nodes is the table; open and idle are the LRU lists
// of nodes with and without descriptors, most recent first; fds counts.

// hold finds the node of a handle and keeps it until release. ESTALE.
func (f *FS) hold(h abi.Handle) (*node, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.nodes[h.File]
	if n == nil || n.gen != h.Gen || h.FS != f.fsid {
		return nil, fmt.Errorf("hostfs: %v: %w", h, abi.ESTALE)
	}
	f.useLocked(n)
	return n, nil
}

// holdDir is hold for directories, with the path descriptor. ENOTDIR.
func (f *FS) holdDir(h abi.Handle) (*node, int, error) {
	n, err := f.hold(h)
	if err != nil {
		return nil, -1, err
	}
	if n.typ != abi.VDIR {
		f.release(n)
		return nil, -1, abi.ENOTDIR
	}
	fd, err := f.pathFd(n)
	if err != nil {
		f.release(n)
		return nil, -1, err
	}
	return n, fd, nil
}

func (f *FS) useLocked(n *node) {
	n.refs++
	if n.elem != nil {
		n.elemLRU.MoveToFront(n.elem)
	}
}

// release undoes hold.
func (f *FS) release(n *node) {
	f.mu.Lock()
	n.refs--
	doomed := f.settleLocked(n, nil)
	f.mu.Unlock()
	closeFds(doomed)
}

// settleLocked drops n, and then perhaps its parents, if nothing needs it any
// more, and closes the least recently used descriptors above the limit. It
// adds the descriptors to close to doomed: closing may take time.
func (f *FS) settleLocked(n *node, doomed []int) []int {
	for n != nil && n != f.root && n.refs == 0 && n.pins == 0 && n.kids == 0 && (n.forgot || n.dead) {
		p := n.parent
		doomed = f.dropLocked(n, doomed)
		n = p
	}
	for e := f.open.Back(); e != nil && f.fds > f.opt.fds; {
		v := e.Value.(*node)
		e = e.Prev()
		if v.refs == 0 && v.pins == 0 && (!v.keep || f.fds > 2*f.opt.fds) && v != f.root {
			doomed = f.closeLocked(v, doomed)
		}
	}
	for e := f.idle.Back(); e != nil && len(f.nodes) > f.maxNodes; {
		v := e.Value.(*node)
		e = e.Prev()
		if v.refs == 0 && v.pins == 0 && v.kids == 0 && v != f.root {
			doomed = f.dropLocked(v, doomed)
		}
	}
	return doomed
}

// dropLocked takes n out of the table and off its parent.
func (f *FS) dropLocked(n *node, doomed []int) []int {
	doomed = f.closeLocked(n, doomed)
	f.placeLocked(n, nil)
	if f.nodes[n.fileid] == n {
		delete(f.nodes, n.fileid)
	}
	f.setParentLocked(n, nil, "")
	return doomed
}

// closeLocked takes n's descriptors away.
//
// Preconditions: n.refs is 0.
func (f *FS) closeLocked(n *node, doomed []int) []int {
	for _, fd := range []*int{&n.path, &n.rd, &n.rw} {
		if *fd >= 0 {
			doomed = append(doomed, *fd)
			*fd = -1
		}
	}
	f.fds -= n.fds
	n.fds = 0
	f.placeLocked(n, f.idle)
	return doomed
}

// placeLocked moves n to the front of an LRU list, or out of both.
func (f *FS) placeLocked(n *node, l *list.List) {
	if n.elem != nil {
		n.elemLRU.Remove(n.elem)
		n.elem, n.elemLRU = nil, nil
	}
	if l != nil {
		n.elem, n.elemLRU = l.PushFront(n), l
	}
}

func closeFds(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// setParentLocked notes where n was seen. Strangers can move directories so
// that notes contradict each other; the older note of a cycle is dropped.
func (f *FS) setParentLocked(n, p *node, name string) {
	n.name = name
	if n.parent == p || n == p {
		return
	}
	if n.typ == abi.VDIR {
		for a := p; a != nil; a = a.parent {
			if a.parent == n {
				a.parent = nil
				n.kids--
				break
			}
		}
	}
	if n.parent != nil {
		n.parent.kids--
	}
	if n.parent = p; p != nil {
		p.kids++
	}
}

// adopt gives a held node a descriptor that was just opened, into the field
// that slot points at; one that is there already wins.
//
// Preconditions: n.openMu is held.
func (f *FS) adopt(n *node, slot *int, fd int) {
	if *slot >= 0 {
		unix.Close(fd)
		return
	}
	*slot = fd
	f.mu.Lock()
	n.fds++
	f.fds++
	if n.elemLRU != f.open && !n.dead {
		f.placeLocked(n, f.open)
	}
	doomed := f.settleLocked(nil, nil)
	f.mu.Unlock()
	closeFds(doomed)
}

// intern finds or makes the node of a file that was seen as name in p, and
// holds it. fd is its O_PATH descriptor and becomes the node's, or -1: then
// nil is answered if the table has no node that is surely the same file.
func (f *FS) intern(st *unix.Statx_t, fd int, p *node, name string) (*node, error) {
	k := keyOf(st)
	id, birth := fileidOf(k, f.rootDev), genOf(st)
	var doomed []int
	f.mu.Lock()
	n := f.nodes[id]
	switch {
	case n != nil && n.key != k:
		f.mu.Unlock()
		closeFd(fd)
		return nil, fmt.Errorf("hostfs: two files hash to fileid %d: %w", id, abi.EIO)
	case fd < 0 && (n == nil || n.fds == 0):
		f.mu.Unlock()
		return nil, nil
	case n != nil && n.fds == 0 && n.birth != birth:
		// An open descriptor would have kept the inode: this is a new file.
		n.dead = true
		delete(f.nodes, id)
		doomed = f.settleLocked(n, nil)
		n = nil
	}
	if n == nil {
		n = &node{key: k, fileid: id, gen: f.removed.next(id, birth), birth: birth, typ: abi.ModeType(uint32(st.Mode)), path: -1, rd: -1, rw: -1}
		f.nodes[id] = n
		f.placeLocked(n, f.idle)
	}
	n.forgot = false
	if n != f.root {
		f.setParentLocked(n, p, name)
	}
	f.useLocked(n)
	f.mu.Unlock()
	closeFds(doomed)
	if fd >= 0 {
		n.openMu.Lock()
		f.adopt(n, &n.path, fd)
		n.openMu.Unlock()
	}
	return n, nil
}

func closeFd(fd int) {
	if fd >= 0 {
		unix.Close(fd)
	}
}

// maxDepth bounds how many parents are opened again for one node.
const maxDepth = 1000

// pathFd is the path descriptor of a held node, opened again from the parent
// if it was closed. It stays open while the node is held.
func (f *FS) pathFd(n *node) (int, error) { return f.pathFdDepth(n, 0) }

func (f *FS) pathFdDepth(n *node, depth int) (int, error) {
	n.openMu.Lock()
	fd := n.path
	n.openMu.Unlock()
	if fd >= 0 {
		return fd, nil
	}
	return f.reopen(n, &n.path, unix.O_PATH, depth)
}

// ioFd is a descriptor of a held regular file to read or write with. It stays
// open while the node is held.
func (f *FS) ioFd(n *node, write bool) (int, error) {
	switch {
	case n.typ == abi.VDIR:
		return -1, abi.EISDIR
	case n.typ != abi.VREG:
		return -1, abi.EINVAL
	}
	n.openMu.Lock()
	fd := n.rw
	if fd < 0 && !write {
		fd = n.rd
	}
	n.openMu.Unlock()
	if fd >= 0 {
		return fd, nil
	}
	if write {
		return f.reopen(n, &n.rw, unix.O_RDWR|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	}
	return f.reopen(n, &n.rd, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
}

// reopen opens a held node by its name in its parent into *slot, and makes
// sure that it is still the same file: ESTALE if not. The parent's descriptor
// is found before the node's lock is taken: who is whose parent can change
// meanwhile, so that there is no order between the locks of nodes.
func (f *FS) reopen(n *node, slot *int, flags, depth int) (int, error) {
	f.mu.Lock()
	p, name := n.parent, n.name
	if p != nil {
		f.useLocked(p)
	}
	f.mu.Unlock()
	if p == nil {
		return -1, fmt.Errorf("hostfs: %d has no known name: %w", n.fileid, abi.ESTALE)
	}
	defer f.release(p)
	if depth >= maxDepth {
		return -1, fmt.Errorf("hostfs: %d is too deep: %w", n.fileid, abi.ESTALE)
	}
	dirfd, err := f.pathFdDepth(p, depth+1)
	if err != nil {
		return -1, err
	}
	n.openMu.Lock()
	defer n.openMu.Unlock()
	if *slot >= 0 {
		return *slot, nil // somebody else was faster
	}
	fd, err := f.openAs(n, dirfd, name, flags)
	if abi.ErrnoOf(err) == abi.ESTALE {
		// Perhaps a stranger only gave it another name there.
		other := nameOf(dirfd, n.key.ino)
		if other == "" || other == name {
			return -1, err
		}
		if fd, err = f.openAs(n, dirfd, other, flags); err == nil {
			f.mu.Lock()
			if n.parent == p && n.name == name {
				n.name = other
			}
			f.mu.Unlock()
		}
	}
	if err != nil {
		return -1, err
	}
	f.adopt(n, slot, fd)
	return *slot, nil
}

// openAs opens a name that should lead to n, and makes sure that it does:
// ESTALE if not.
//
// Preconditions: n.openMu is held.
func (f *FS) openAs(n *node, dirfd int, name string, flags int) (int, error) {
	fd, err := openBeneath(dirfd, name, flags, 0)
	switch err {
	case nil:
	case unix.ENOENT, unix.ELOOP, unix.ENXIO, unix.ENOTDIR, unix.EISDIR:
		return -1, fmt.Errorf("hostfs: %d is not at %q any more: %w", n.fileid, name, abi.ESTALE)
	default:
		return -1, translate(err)
	}
	var st unix.Statx_t
	if err := statFd(fd, &st); err != nil {
		unix.Close(fd)
		return -1, translate(err)
	}
	if keyOf(&st) != n.key || n.path < 0 && genOf(&st) != n.birth {
		unix.Close(fd)
		return -1, fmt.Errorf("hostfs: %q is another file than %d: %w", name, n.fileid, abi.ESTALE)
	}
	return fd, nil
}

// stat reads the attributes of a held node.
func (f *FS) stat(n *node) (abi.Vattr, error) {
	fd, err := f.pathFd(n)
	if err != nil {
		return abi.Vattr{}, err
	}
	var st unix.Statx_t
	if err := statFd(fd, &st); err != nil {
		return abi.Vattr{}, translate(err)
	}
	return f.attrOf(n, &st), nil
}

// attrOf is vattr with the generation that n was given, which stays even if
// the host changes the time of birth (overlayfs does on copy-up).
func (f *FS) attrOf(n *node, st *unix.Statx_t) abi.Vattr {
	v := f.vattr(st)
	v.Fileid, v.Gen = n.fileid, n.gen
	return v
}

func (f *FS) handle(n *node) abi.Handle {
	return abi.Handle{FS: f.fsid, File: n.fileid, Gen: n.gen}
}
