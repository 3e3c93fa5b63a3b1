package fat

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestRandom works at random on every format, against a model, and has fsck look.
func TestRandom(t *testing.T) {
	for _, fm := range formats {
		t.Run(fm.name, func(t *testing.T) {
			for seed := range uint64(2) {
				random(t, fm.size, fm.o, seed)
			}
		})
	}
}

type mnode struct {
	h    abi.Handle
	data []byte
	dir  map[string]*mnode // by folded name
	name string
}

func random(t *testing.T, size int64, o FormatOptions, seed uint64) {
	t.Helper()
	disk := newDisk(t, size, o)
	r := mountRig(t, disk, nil)
	rnd := rand.New(rand.NewPCG(seed, 1))
	root := &mnode{h: r.root(), dir: map[string]*mnode{}}
	dirs := []*mnode{root}
	pick := func(d *mnode) *mnode {
		names := make([]string, 0, len(d.dir))
		for k := range d.dir {
			names = append(names, k)
		}
		if len(names) == 0 {
			return nil
		}
		slices.Sort(names)
		return d.dir[names[rnd.IntN(len(names))]]
	}
	newName := func() string {
		return []string{fmt.Sprintf("f%d", rnd.IntN(30)), fmt.Sprintf("FILE%d.TXT", rnd.IntN(20)), name(rnd.IntN(20)), strings.Repeat("ü", 1+rnd.IntN(20)) + "x"}[rnd.IntN(4)]
	}
	for i := range 600 {
		d := dirs[rnd.IntN(len(dirs))]
		switch rnd.IntN(10) {
		case 0, 1, 2:
			n := newName()
			m, err := r.Create(ctx, vfsops.CreateReq{Op: r.op(), Dir: d.h, Name: []byte(n), Mode: 0o644})
			want := abi.Errno(0)
			if d.dir[fold(n)] != nil {
				want = abi.EEXIST
			}
			if e := abi.ErrnoOf(err); e != want && e != abi.ENOSPC {
				t.Fatalf("%d: create %q: %v, want %v", i, n, err, want)
			}
			if err == nil {
				d.dir[fold(n)] = &mnode{h: m.Node.Handle, name: n}
			}
		case 3:
			if len(dirs) > 12 {
				continue
			}
			n := newName()
			m, err := r.Mkdir(ctx, vfsops.CreateReq{Op: r.op(), Dir: d.h, Name: []byte(n), Mode: 0o755})
			if err == nil {
				x := &mnode{h: m.Node.Handle, name: n, dir: map[string]*mnode{}}
				d.dir[fold(n)] = x
				dirs = append(dirs, x)
			} else if e := abi.ErrnoOf(err); e != abi.ENOSPC && (e != abi.EEXIST || d.dir[fold(n)] == nil) {
				t.Fatalf("%d: mkdir %q: %v", i, n, err)
			}
		case 4, 5, 6:
			x := pick(d)
			if x == nil || x.dir != nil {
				continue
			}
			p := make([]byte, rnd.IntN(60000))
			for i := range p {
				p[i] = byte(rnd.Uint32())
			}
			if err := r.put(x.h, p); errors.Is(err, abi.ENOSPC) {
				x.data = nil
			} else if err != nil {
				t.Fatalf("%d: write: %v", i, err)
			} else {
				x.data = p
			}
		case 7:
			x := pick(d)
			if x == nil {
				continue
			}
			req := vfsops.RemoveReq{Op: r.op(), Dir: d.h, Name: []byte(x.name), Victim: x.h}
			if x.dir == nil {
				_, err := r.Remove(ctx, req)
				r.must(err)
				delete(d.dir, fold(x.name))
				continue
			}
			_, err := r.Rmdir(ctx, req)
			if len(x.dir) > 0 {
				if !errors.Is(err, abi.ENOTEMPTY) {
					t.Fatalf("rmdir: %v", err)
				}
				continue
			}
			r.must(err)
			delete(d.dir, fold(x.name))
			dirs = slices.DeleteFunc(dirs, func(y *mnode) bool { return y == x })
		case 8:
			x := pick(d)
			if x == nil || x.dir != nil {
				continue
			}
			size := int64(rnd.IntN(90000))
			_, err := r.Truncate(ctx, r.op(), x.h, size)
			if errors.Is(err, abi.ENOSPC) {
				continue
			}
			r.must(err)
			x.data = append(x.data, make([]byte, max(size-int64(len(x.data)), 0))...)[:size]
		case 9:
			x := pick(d)
			to := dirs[rnd.IntN(len(dirs))]
			if x == nil || x.dir != nil && len(dirs) > 0 && (to == x || within(x, to)) {
				continue
			}
			n := newName()
			y := to.dir[fold(n)]
			req := vfsops.RenameReq{Op: r.op(), FDir: d.h, FName: []byte(x.name), From: x.h, TDir: to.h, TName: []byte(n)}
			if y != nil && y != x {
				if (x.dir != nil) != (y.dir != nil) || len(y.dir) > 0 {
					continue
				}
				req.To = y.h
				if rnd.IntN(3) == 0 && !within(y, d) {
					req.Flags = abi.RENAME_EXCHANGE
				}
			}
			_, err := r.Rename(ctx, req)
			if errors.Is(err, abi.ENOSPC) {
				continue
			}
			r.must(err)
			if req.Flags != 0 {
				d.dir[fold(x.name)], to.dir[fold(y.name)] = y, x
				x.name, y.name = y.name, x.name
				continue
			}
			if y != nil && y.dir != nil && y != x {
				dirs = slices.DeleteFunc(dirs, func(z *mnode) bool { return z == y })
			}
			delete(d.dir, fold(x.name))
			x.name = n
			to.dir[fold(n)] = x
		}
		if i%100 == 99 {
			r.check()
			compare(r, root)
		}
	}
	r.check()
	compare(r, root)
	// A new mount sees the same, by names.
	r2 := mountRig(t, disk, nil)
	rename(r2, root, r2.root())
	compare(r2, root)
}

func within(x, d *mnode) bool {
	for _, c := range x.dir {
		if c == d || within(c, d) {
			return true
		}
	}
	return false
}

// rename gives a model the handles of another mount.
func rename(r *rig, d *mnode, h abi.Handle) {
	d.h = h
	for _, c := range d.dir {
		res, err := r.Lookup(ctx, vfsops.LookupReq{Start: h, Names: [][]byte{[]byte(c.name)}})
		if err != nil || len(res.Trace) != 1 {
			r.Fatalf("%q is not there: %v, %v", c.name, res.Err, err)
		}
		rename(r, c, res.Trace[0].Handle)
	}
}

func compare(r *rig, d *mnode) {
	r.Helper()
	got := map[string]abi.Fileid{}
	for cookie := uint64(0); ; {
		res, err := r.Readdir(ctx, vfsops.ReaddirReq{Dir: d.h, Cookie: cookie, Max: 2000})
		r.must(err)
		for _, e := range res.Entries {
			got[e.Name], cookie = e.Fileid, e.Cookie
		}
		if res.EOF {
			break
		}
	}
	if len(got) != len(d.dir) {
		r.Fatalf("%d entries, want %d: %v", len(got), len(d.dir), got)
	}
	for _, c := range d.dir {
		if got[c.name] != c.h.File {
			r.Fatalf("%q is file %d, want %d", c.name, got[c.name], c.h.File)
		}
		if c.dir != nil {
			compare(r, c)
		} else if p := r.get(c.h); !bytes.Equal(p, c.data) {
			r.Fatalf("%q: %d bytes are not the %d written", c.name, len(p), len(c.data))
		}
	}
}
