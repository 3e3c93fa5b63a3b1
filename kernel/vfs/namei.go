package vfs

import (
	"context"
	"errors"
	"strings"
	"sync"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// How a walk treats the last component.
type walkMode uint8

const (
	followLink walkMode = iota // a symbolic link is followed
	noFollow                   // it is not, unless a slash follows it
	wantParent                 // the walk ends before the last component
)

// walker is one namei in progress. cur is where it is; it has a reference on
// cur only if held. Walkers are pooled, so that a walk in the caches makes no
// garbage.
type walker struct {
	fs   *VFS
	ctx  context.Context
	c    *abi.Caller
	root *Vnode // the process's root directory
	from *Vnode // where the walk began
	cur  *Vnode
	held bool

	links int
	hits  uint64 // names that the cache had
	last  string // wantParent: the last component, "" for the root itself
	slash bool   // wantParent: slashes follow it

	brought bool // the file system has just answered cur's attributes:
	told    abi.Vattr
	asked   nameStamp

	va    abi.Vattr // scratch
	names [vfsops.MaxNames][]byte
	ends  [vfsops.MaxNames]string
}

var walkers = sync.Pool{New: func() any { return new(walker) }}

// errAgain means that a vnode was reclaimed under the walk: start again.
var errAgain = errors.New("vnode reclaimed under a walk")

const walkTries = 100

// namei finds the vnode of a path and answers it with a reference. ENOENT,
// ENOTDIR, EACCES, ELOOP, ENAMETOOLONG.
func (fs *VFS) namei(ctx context.Context, w Where, path string, mode walkMode) (*Vnode, error) {
	v, _, _, err := fs.walk(ctx, &w, path, mode, nil)
	return v, err
}

// walked are attributes that a walk has just brought, though nobody may cache
// them, and when it asked for them.
type walked struct {
	ok    bool
	va    abi.Vattr
	asked nameStamp
}

// nameiAttr is namei for who wants the attributes at once: got are those that
// this walk has brought, if it has.
func (fs *VFS) nameiAttr(ctx context.Context, w Where, path string, mode walkMode, got *walked) (*Vnode, error) {
	v, _, _, err := fs.walk(ctx, &w, path, mode, got)
	return v, err
}

// nameiParent finds the directory of a path's last component.
func (fs *VFS) nameiParent(ctx context.Context, w *Where, path string) (dir *Vnode, last string, slash bool, err error) {
	return fs.walk(ctx, w, path, wantParent, nil)
}

func (fs *VFS) walk(ctx context.Context, w *Where, path string, mode walkMode, got *walked) (v *Vnode, last string, slash bool, err error) {
	if !fs.available.Load() {
		return nil, "", false, errUnavailable
	}
	switch {
	case path == "":
		return nil, "", false, abi.ENOENT
	case len(path) >= abi.PATH_MAX:
		return nil, "", false, abi.ENAMETOOLONG
	case strings.IndexByte(path, 0) >= 0:
		return nil, "", false, abi.EINVAL
	}
	fs.cnt.lookups.Inc()
	wk := walkers.Get().(*walker)
	wk.fs, wk.ctx, wk.c = fs, ctx, w.Caller
	for try := 0; ; try++ {
		err = wk.start(w, path)
		if err == nil {
			err = wk.run(path, mode)
		}
		if err == nil && !wk.held && !wk.hold() {
			err = errAgain
		}
		if err == nil {
			break
		}
		if wk.cur != nil && wk.cur != wk.from && wk.cur.m.gone.Load() && !wk.from.m.gone.Load() {
			err = errAgain // it was unmounted meanwhile
		}
		wk.drop()
		if err != errAgain && !errors.Is(err, abi.ESTALE) {
			break
		}
		if try >= walkTries || err != errAgain && try > 1 {
			if err == errAgain {
				err = abi.ESTALE
			}
			break
		}
		fs.cnt.stale.Inc()
		fs.mu.RLock() // an unmount may be half done
		fs.mu.RUnlock()
	}
	if err == nil {
		v, last, slash = wk.cur, wk.last, wk.slash
		if got != nil {
			if got.ok = wk.brought; got.ok {
				got.va, got.asked = wk.told, wk.asked
			}
		}
	}
	if wk.hits > 0 {
		fs.cnt.ncHits.Add(wk.hits)
		wk.hits = 0
	}
	wk.ctx, wk.c, wk.root, wk.from, wk.cur, wk.held, wk.last, wk.slash = nil, nil, nil, nil, nil, false, "", false
	walkers.Put(wk)
	return v, last, slash, err
}

// start puts the walk where path begins.
func (w *walker) start(at *Where, path string) error {
	cdir, rdir := at.Cwd.dirs()
	if rdir == nil {
		m := w.fs.root.Load()
		if m == nil {
			return abi.ENOENT
		}
		rdir = m.root
	}
	w.root = crossDown(rdir)
	w.links, w.brought = 0, false
	switch {
	case path[0] == '/':
		w.cur = w.root
	case at.Dir != nil:
		if at.Dir.typ != abi.VDIR {
			return abi.ENOTDIR
		}
		w.cur = crossDown(at.Dir)
	case at.At != nil:
		v := vnodeOf(at.At)
		if v == nil || v.typ != abi.VDIR {
			return abi.ENOTDIR
		}
		w.cur = crossDown(v)
	case cdir != nil:
		w.cur = crossDown(cdir)
	default:
		w.cur = w.root
	}
	w.from = w.cur
	return nil
}

// set moves the walk to v; held says that the caller's reference goes along.
func (w *walker) set(v *Vnode, held bool) {
	if w.held {
		w.cur.put()
	}
	w.cur, w.held = v, held
}

func (w *walker) hold() bool {
	if !w.held {
		w.held = w.cur.tryHold()
	}
	return w.held
}

func (w *walker) drop() {
	if w.held {
		w.cur.put()
	}
	w.cur, w.held = nil, false
}

// crossDown is the root of what is mounted on v, and on that; v itself if
// nothing is.
func crossDown(v *Vnode) *Vnode {
	for {
		m := v.mounted.Load()
		if m == nil {
			return v
		}
		v = m.root
	}
}

// crossDownHeld is crossDown for a reference.
func crossDownHeld(v *Vnode) *Vnode {
	n := crossDown(v)
	if n != v && n.tryHold() {
		v.put()
		return n
	}
	return v
}

// nextName splits the first component off a path without leading slashes.
// last: there is none after it.
func nextName(path string) (name, rest string, last bool) {
	i := strings.IndexByte(path, '/')
	if i < 0 {
		return path, "", true
	}
	name = path[:i]
	for rest = path[i:]; rest != "" && rest[0] == '/'; {
		rest = rest[1:]
	}
	return name, path[i:], rest == ""
}

// run walks path from cur on.
func (w *walker) run(path string, mode walkMode) error {
	rest := path
	for {
		slash := rest != "" && rest[0] == '/'
		rest = strings.TrimLeft(rest, "/")
		if rest == "" {
			w.last, w.slash = "", slash
			if w.cur.typ != abi.VDIR {
				if slash {
					return abi.ENOTDIR
				}
				return nil
			}
			return w.cur.err()
		}
		if w.cur.typ != abi.VDIR {
			return abi.ENOTDIR
		}
		w.brought = false
		name, after, last := nextName(rest)
		if last && mode == wantParent { // who asked searches the directory
			w.last, w.slash = name, after != ""
			return legalName(name)
		}
		if err := w.search(name); err != nil {
			return err
		}
		var err error
		switch {
		case name == ".":
			rest = after
			continue
		case name == "..":
			rest = after
			if err = w.dotdot(); err != nil {
				return err
			}
			continue
		case len(name) > abi.NAME_MAX:
			return abi.ENAMETOOLONG
		}
		if w.cur.m.names() {
			if v, hit := w.fs.nc.step(w.cur, name); hit {
				if v == nil {
					return abi.ENOENT
				}
				w.hits++
				if v.typ == abi.VLNK && (after != "" || mode == followLink) {
					if !v.tryHold() {
						return errAgain
					}
					rest, err = w.follow(v, after)
					v.put()
					if err != nil {
						return err
					}
					continue
				}
				w.set(crossDown(v), false)
				rest = after
				continue
			}
		}
		if rest, err = w.ask(rest, mode); err != nil {
			return err
		}
	}
}

// search authorises looking up a name in cur. A directory that was removed has
// none but ".".
func (w *walker) search(name string) error {
	v := w.cur
	va := v.searchable()
	if va == nil {
		if !w.hold() {
			return errAgain
		}
		if err := v.getattr(w.ctx, &w.va); err != nil {
			return err
		}
		va = &w.va
	}
	if v.unlinked.Load() && name != "." {
		return abi.ENOENT
	}
	if err := v.err(); err != nil {
		return err
	}
	return v.access(w.ctx, w.c, abi.VEXEC, va)
}

// dotdot moves to the parent directory, up over mount points, and not above
// the process's root.
func (w *walker) dotdot() error {
	v := w.cur
	for v != w.root && v.isRoot() {
		on := v.m.on.Load()
		if on == nil {
			break
		}
		v = on
	}
	if v == w.root || v.isRoot() {
		w.set(crossDown(v), false)
		return nil
	}
	p := v.parent()
	if p == nil {
		return abi.ENOENT
	}
	w.set(p, true)
	if n := crossDown(p); n != p {
		w.set(n, false)
	}
	return nil
}

// follow reads symbolic link v, found in cur, and answers the path to walk on
// with.
func (w *walker) follow(v *Vnode, after string) (string, error) {
	if w.links++; w.links > abi.MAXSYMLINKS {
		return "", abi.ELOOP
	}
	target, err := v.readlink(v.m.asking(w.ctx, w.c))
	if err != nil {
		return "", err
	}
	if target == "" {
		return "", abi.ENOENT
	}
	if len(target)+len(after) >= abi.PATH_MAX {
		return "", abi.ENAMETOOLONG
	}
	if target[0] == '/' {
		w.set(w.root, false)
	}
	return target + after, nil
}

// gather splits as many names off rest as one Lookup takes: up to ".", "..",
// a name that is too long, and the last one if the parent is wanted.
func (w *walker) gather(rest string, mode walkMode) [][]byte {
	n := 0
	for n < len(w.names) && rest != "" {
		name, after, last := nextName(rest)
		if name == "." || name == ".." || len(name) > abi.NAME_MAX || last && mode == wantParent {
			break
		}
		w.names[n] = append(w.names[n][:0], name...)
		w.ends[n] = after
		n++
		rest = strings.TrimLeft(after, "/")
	}
	return w.names[:n]
}

// ask asks the file system for the names at the start of rest, takes the trace
// as far as no mount point or symbolic link stands in the way, and answers
// what is left of the path.
func (w *walker) ask(rest string, mode walkMode) (string, error) {
	if !w.hold() {
		return "", errAgain
	}
	dir, m := w.cur, w.cur.m
	names := w.gather(rest, mode)
	b, err := dir.bind(w.ctx)
	if err != nil {
		return "", err
	}
	dir.mu.RLock()
	m.reclaimMu.RLock()
	stamp := m.stamp()
	res, err := b.fs.Lookup(m.asking(w.ctx, w.c), vfsops.LookupReq{Start: dir.handle(), Names: names})
	var v *Vnode
	if err == nil && len(res.Trace) > len(names) {
		err = abi.EIO
	}
	if err == nil {
		// What concerns dir itself is right as long as it is locked.
		if len(res.Trace) > 0 {
			v, err = w.enter(b, dir, string(names[0]), &res.Trace[0], stamp, nil)
		} else if res.Err == abi.ENOENT {
			m.cacheName(b, dir, string(names[0]), nil, nil)
		}
	}
	dir.mu.RUnlock()
	still := func() bool { return m.unchanged(stamp) }
	i := 0
	for err == nil && v != nil {
		after := w.ends[i]
		if v.typ == abi.VLNK && (after != "" || mode == followLink) {
			// Reading the link may ask the file system: not with its lock.
			m.reclaimMu.RUnlock()
			rest, err = w.follow(v, after)
			v.put()
			return rest, err
		}
		at := v
		w.set(v, true)
		if n := crossDown(at); n != at {
			m.reclaimMu.RUnlock()
			w.set(n, false)
			return after, nil
		}
		if i++; i == len(names) {
			if w.brought = !b.sole() || m.nocache; w.brought { // else they are cached
				w.told, w.asked = res.Trace[i-1].Vattr, stamp
			}
			m.reclaimMu.RUnlock()
			return after, nil
		}
		if at.typ != abi.VDIR {
			err = abi.ENOTDIR
			break
		}
		if err = w.searchTrace(&res.Trace[i-1].Vattr); err != nil {
			break
		}
		if i == len(res.Trace) {
			break
		}
		if v, err = w.enter(b, at, string(names[i]), &res.Trace[i], stamp, still); err == errOvertaken {
			m.reclaimMu.RUnlock()
			return after, nil // ask at again, with its lock
		}
	}
	m.reclaimMu.RUnlock()
	if err != nil {
		return "", err
	}
	switch res.Err {
	case 0:
		return "", abi.EIO // neither a name nor a reason
	case abi.ENOENT:
		if i > 0 {
			m.cacheName(b, w.cur, string(names[i]), nil, still)
		}
	}
	return "", res.Err
}

// enter makes a vnode of an entry of a trace and puts it into the caches.
func (w *walker) enter(b *binding, dir *Vnode, name string, e *vfsops.Entry, asked nameStamp, still func() bool) (*Vnode, error) {
	m := dir.m
	if e.Handle == m.root.handle() {
		m.vfs.o.Log.Error("file system answered its root as a child", "mount", m.dir, "name", name)
		return nil, abi.EIO
	}
	v, err := m.vget(b, e, asked)
	if err != nil {
		return nil, err
	}
	if v.typ == abi.VDIR {
		if err := v.setLink(dir, name, still); err != nil {
			v.put()
			return nil, err
		}
	}
	m.cacheName(b, dir, name, v, still)
	return v, nil
}

// searchTrace authorises looking up a name in cur, which a trace has just
// brought with attributes va.
func (w *walker) searchTrace(va *abi.Vattr) error {
	if !w.cur.cached(&w.va) {
		w.va = *va
	}
	return w.cur.access(w.ctx, w.c, abi.VEXEC, &w.va)
}

// lookupLocked looks up one name in dir: the vnode with a reference, or nil if
// there is no such name. Preconditions: dir.mu is held.
func (dir *Vnode) lookupLocked(ctx context.Context, b *binding, name string) (*Vnode, error) {
	m := dir.m
	if m.names() {
		if v, hit := m.vfs.nc.lookup(dir, name); hit && (v == nil || v.tryHold()) {
			return v, nil
		}
	}
	m.reclaimMu.RLock()
	defer m.reclaimMu.RUnlock()
	stamp := m.stamp()
	res, err := b.fs.Lookup(ctx, vfsops.LookupReq{Start: dir.handle(), Names: [][]byte{[]byte(name)}})
	switch {
	case err != nil:
		return nil, err
	case len(res.Trace) > 1:
		return nil, abi.EIO
	case len(res.Trace) == 1:
		w := walker{}
		return w.enter(b, dir, name, &res.Trace[0], stamp, nil)
	case res.Err == abi.ENOENT:
		m.cacheName(b, dir, name, nil, nil)
		return nil, nil
	case res.Err == 0:
		return nil, abi.EIO
	}
	return nil, res.Err
}

// readlink answers the text of a symbolic link.
func (v *Vnode) readlink(ctx context.Context) (string, error) {
	if v.typ != abi.VLNK {
		return "", abi.EINVAL
	}
	if err := v.err(); err != nil {
		return "", err
	}
	v.amu.Lock()
	t := v.target
	v.amu.Unlock()
	if t != "" {
		return t, nil
	}
	b, err := v.bind(ctx)
	if err != nil {
		return "", err
	}
	if b.readlinker == nil {
		return "", abi.EINVAL
	}
	v.mu.RLock()
	defer v.mu.RUnlock()
	p, err := b.readlinker.Readlink(ctx, v.handle())
	if err != nil {
		return "", err
	}
	if len(p) >= abi.PATH_MAX {
		return "", abi.EIO
	}
	t = string(p)
	if v.m.names() {
		v.amu.Lock()
		v.target = t
		v.amu.Unlock()
	}
	return t, nil
}
