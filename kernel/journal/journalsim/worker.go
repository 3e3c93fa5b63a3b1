package journalsim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// file is what a worker knows of one of its files.
type file struct {
	id    abi.Fileid
	mode  uint32
	data  []byte
	xattr string
}

type worker struct {
	s     *Sim
	n     int
	rng   *rand.Rand
	dir   abi.Handle
	files map[string]*file
	open  []*file // pinned, without a name
	tag   int
}

func (w *worker) op() vfsops.Op {
	return vfsops.Op{Now: abi.TimespecOf(time.Now()), Seed: w.rng.Uint64() & 0xffff, Caller: abi.KernelCaller}
}

func (w *worker) pick() (string, *file) {
	ks := slices.Sorted(maps.Keys(w.files))
	if len(ks) == 0 {
		return "", nil
	}
	k := ks[w.rng.IntN(len(ks))]
	return k, w.files[k]
}

// run does one operation and checks what it answers.
func (w *worker) run(ctx context.Context) {
	f, s := w.s.f, w.s
	name, x := w.pick()
	ok := func(what string, err error) bool {
		if err != nil {
			s.fail("worker %d: %s %s: %v", w.n, what, name, err)
			return false
		}
		s.mu.Lock()
		s.acked++
		s.mu.Unlock()
		return true
	}
	w.tag++
	k := w.rng.IntN(13)
	if x == nil && k < 10 {
		k = 0
	}
	switch k {
	case 0, 1:
		name = "f" + strconv.Itoa(w.rng.IntN(8))
		m, err := f.Create(ctx, vfsops.CreateReq{Op: w.op(), Dir: w.dir, Name: []byte(name), Mode: uint32(w.tag & 0o777)})
		if w.files[name] != nil {
			if !errors.Is(err, abi.EEXIST) {
				s.fail("worker %d: create of %s, which is there: %v", w.n, name, err)
			}
			return
		}
		if ok("create", err) {
			w.files[name] = &file{id: m.Node.Handle.File, mode: uint32(w.tag & 0o777)}
		}
	case 2, 3:
		tag := fmt.Sprintf("<%d.%d>", w.n, w.tag)
		r, err := f.Write(ctx, vfsops.WriteReq{Op: w.op(), Node: Handle(x.id), Append: true}, abi.IovOf([]byte(tag)))
		if ok("write", err) {
			x.data = append(x.data, tag...)
			if r.Off+int64(r.N) != int64(len(x.data)) || r.Vattr.Size != int64(len(x.data)) {
				s.fail("worker %d: append to %s at %d, size %d, not %d", w.n, name, r.Off, r.Vattr.Size, len(x.data))
			}
		}
	case 4:
		pin := w.rng.IntN(2) == 0
		if pin && !ok("pin", f.Pin(ctx, Handle(x.id))) {
			return
		}
		m, err := f.Remove(ctx, vfsops.RemoveReq{Op: w.op(), Dir: w.dir, Name: []byte(name), Victim: Handle(x.id)})
		if ok("remove", err) {
			if m.Victim.Nlink != 0 || m.Victim.Fileid != x.id {
				s.fail("worker %d: removed %s: %+v", w.n, name, m.Victim)
			}
			delete(w.files, name)
			if pin {
				w.open = append(w.open, x)
			}
		}
	case 5:
		to := "f" + strconv.Itoa(w.rng.IntN(8))
		if to == name {
			return
		}
		req := vfsops.RenameReq{Op: w.op(), FDir: w.dir, FName: []byte(name), From: Handle(x.id), TDir: w.dir, TName: []byte(to)}
		if o := w.files[to]; o != nil {
			req.To = Handle(o.id)
		}
		_, err := f.Rename(ctx, req)
		if ok("rename", err) {
			delete(w.files, name)
			w.files[to] = x
		}
	case 6:
		va, err := f.Setattr(ctx, vfsops.SetattrReq{Op: w.op(), Node: Handle(x.id), Mask: abi.SetMode, Attr: abi.Vattr{Mode: uint32(w.tag)}})
		if ok("setattr", err) {
			x.mode = uint32(w.tag)
			if va.Mode != x.mode || va.Fileid != x.id {
				s.fail("worker %d: setattr of %s: %+v", w.n, name, va)
			}
		}
	case 7:
		v := strconv.Itoa(w.tag)
		if ok("setxattr", f.Setxattr(ctx, vfsops.SetxattrReq{Op: w.op(), Node: Handle(x.id), Name: []byte("user.a"), Value: []byte(v)})) {
			x.xattr = v
		}
	case 8:
		err := f.Removexattr(ctx, w.op(), Handle(x.id), []byte("user.a"))
		if x.xattr == "" {
			if !errors.Is(err, abi.ENODATA) {
				s.fail("worker %d: removexattr of %s: %v", w.n, name, err)
			}
		} else if ok("removexattr", err) {
			x.xattr = ""
		}
	case 9:
		w.check(ctx, name, x)
	case 10:
		if len(w.open) > 0 {
			x := w.open[0]
			w.open = w.open[1:]
			w.check(ctx, "(open)", x)
			ok("unpin", f.Unpin(ctx, Handle(x.id)))
		}
	case 11:
		w.list(ctx)
	case 12:
		if got, err := f.Reserve(ctx, 3); err != nil || got != 3 {
			s.fail("worker %d: reserve: %d, %v", w.n, got, err)
		}
	}
}

// check reads a file.
func (w *worker) check(ctx context.Context, name string, x *file) {
	f, s := w.s.f, w.s
	va, err := f.Getattr(ctx, Handle(x.id))
	if err != nil || va.Mode != x.mode || va.Size != int64(len(x.data)) {
		s.fail("worker %d: getattr of %s: %v, %+v", w.n, name, err, va)
	}
	buf := make([]byte, len(x.data)+8)
	n, err := f.Read(ctx, Handle(x.id), 0, abi.IovOf(buf))
	if err != nil || !bytes.Equal(buf[:n], x.data) {
		s.fail("worker %d: read of %s: %v, %q, not %q", w.n, name, err, buf[:n], x.data)
	}
	v, err := f.Getxattr(ctx, Handle(x.id), []byte("user.a"))
	if string(v) != x.xattr || (err != nil) != (x.xattr == "") {
		s.fail("worker %d: getxattr of %s: %v, %q, not %q", w.n, name, err, v, x.xattr)
	}
}

// list lists the directory and looks every name up.
func (w *worker) list(ctx context.Context) {
	f, s := w.s.f, w.s
	r, err := f.Readdir(ctx, vfsops.ReaddirReq{Dir: w.dir, Max: 1 << 16})
	if err != nil || len(r.Entries) != len(w.files) {
		s.fail("worker %d: readdir: %v, %d entries, not %d", w.n, err, len(r.Entries), len(w.files))
		return
	}
	for _, e := range r.Entries {
		if x := w.files[e.Name]; x == nil || x.id != e.Fileid {
			s.fail("worker %d: readdir: %+v", w.n, e)
		}
		l, err := f.Lookup(ctx, vfsops.LookupReq{Start: w.dir, Names: [][]byte{[]byte(e.Name)}})
		if err != nil || len(l.Trace) != 1 || l.Trace[0].Handle.File != e.Fileid {
			s.fail("worker %d: lookup of %s: %v, %+v", w.n, e.Name, err, l)
		}
	}
}
