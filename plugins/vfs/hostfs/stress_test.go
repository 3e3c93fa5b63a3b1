package hostfs

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// TestStress works on many files with few descriptors, in parallel with a
// stranger. Every file's text is its name, so that a descriptor used after it
// was closed, and perhaps opened for another file, shows.
func TestStress(t *testing.T) {
	before := openDescriptors(t)
	t.Run("run", func(t *testing.T) {
		r := mount(t, "fds", "16")
		r.maxNodes = 100
		root := r.rootH()
		const dirs, files = 5, 30
		for d := range dirs {
			h := r.mkdir(root, fmt.Sprint("d", d))
			for i := range files {
				name := fmt.Sprintf("d%d-f%d", d, i)
				r.file(h, name, name)
			}
		}
		var good atomic.Int64
		var wg sync.WaitGroup
		for w := range 6 {
			wg.Go(func() {
				rnd := rand.New(rand.NewPCG(1, uint64(w)))
				buf := make([]byte, 100)
				for range 1500 {
					d := rnd.IntN(dirs)
					dir, name := fmt.Sprint("d", d), fmt.Sprintf("d%d-f%d", d, rnd.IntN(files))
					res, err := r.Lookup(ctx, vfsops.LookupReq{Start: root, Names: [][]byte{[]byte(dir), []byte(name)}})
					if err != nil {
						t.Error("lookup:", err)
						return
					}
					if len(res.Trace) < 2 {
						continue
					}
					dh, h := res.Trace[0].Handle, res.Trace[1].Handle
					switch rnd.IntN(8) {
					case 0:
						_ = r.Reclaim(ctx, []abi.Handle{h})
					case 1:
						_, _ = r.Remove(ctx, vfsops.RemoveReq{Dir: dh, Name: []byte(name), Victim: h})
						req := r.req(dh, name+"~")
						m, err := r.Create(ctx, req)
						if err != nil {
							continue
						}
						_, _ = r.FS.Write(ctx, vfsops.WriteReq{Node: m.Node.Handle}, abi.IovOf([]byte(name)))
						_, _ = r.Rename(ctx, vfsops.RenameReq{FDir: dh, FName: []byte(name + "~"), From: m.Node.Handle, TDir: dh, TName: []byte(name)})
					case 2:
						if r.Pin(ctx, h) == nil {
							_ = r.Unpin(ctx, h)
						}
					case 3:
						_, _ = r.Setattr(ctx, vfsops.SetattrReq{Node: h, Mask: abi.SetMode, Attr: abi.Vattr{Mode: 0o644}})
					default:
						n, err := r.Read(ctx, h, 0, abi.IovOf(buf))
						if err == nil && n > 0 {
							if got := string(buf[:n]); got != name {
								t.Errorf("%s has the text %q", name, got)
								return
							}
							good.Add(1)
						} else if e := abi.ErrnoOf(err); e != 0 && e != abi.ESTALE {
							t.Errorf("read: %v", err)
							return
						}
					}
				}
			})
		}
		rnd := rand.New(rand.NewPCG(2, 2))
		for range 500 { // the stranger
			d := rnd.IntN(dirs)
			a := r.path(fmt.Sprintf("d%d/d%d-f%d", d, d, rnd.IntN(files)))
			switch rnd.IntN(3) {
			case 0:
				_ = os.Rename(a, a+"-")
				_ = os.Rename(a+"-", a)
			case 1:
				_ = os.WriteFile(a+"+", []byte(a[strings.LastIndexByte(a, '/')+1:]), 0o600)
				_ = os.Rename(a+"+", a)
			case 2:
				_ = os.Rename(r.path(fmt.Sprint("d", d)), r.path("away"))
				_ = os.Rename(r.path("away"), r.path(fmt.Sprint("d", d)))
			}
		}
		wg.Wait()
		if good.Load() == 0 {
			t.Error("nothing was read")
		}
		r.evictAll()
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.fds != 1 || r.open.Len()+r.idle.Len() != len(r.nodes) || len(r.nodes) > 101+dirs {
			t.Errorf("%d descriptors, lists of %d and %d, %d nodes", r.fds, r.open.Len(), r.idle.Len(), len(r.nodes))
		}
		kids := map[*node]int{}
		for _, n := range r.nodes {
			if n.parent != nil {
				kids[n.parent]++
			}
		}
		for _, n := range r.nodes {
			if n.kids != kids[n] || n.refs != 0 && n != r.root || n.pins != 0 {
				t.Errorf("%q: %d kids, want %d; %d refs, %d pins", n.name, n.kids, kids[n], n.refs, n.pins)
			}
		}
	})
	if after := openDescriptors(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

func openDescriptors(t *testing.T) int {
	t.Helper()
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip(err)
	}
	return len(d)
}
