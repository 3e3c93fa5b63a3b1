package vfs

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync"
	"testing"

	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// endless is a file system that takes no memory: every directory has every
// name but those that begin with "no", and lists a million.
type endless struct{ fsid abi.Fsid }

var endlessNames = uint64(1_000_000)

func (e endless) Mount(_ context.Context, req *vfsops.MountReq) (vfsops.FS, error) {
	return endless{req.Fsid}, nil
}

func (e endless) attr(id abi.Fileid) abi.Vattr {
	t := abi.VREG
	if id%2 == 1 {
		t = abi.VDIR
	}
	return abi.Vattr{Type: t, Mode: 0o755, Nlink: 2, Fileid: id, Gen: 1, Blksize: 4096}
}

func (e endless) entry(id abi.Fileid) vfsops.Entry {
	return vfsops.Entry{Handle: abi.Handle{FS: e.fsid, File: id, Gen: 1}, Vattr: e.attr(id)}
}

func (e endless) Root(context.Context) (vfsops.Entry, error) { return e.entry(1), nil }

func (e endless) Lookup(_ context.Context, req vfsops.LookupReq) (res vfsops.LookupRes, err error) {
	at := req.Start.File
	for _, n := range req.Names {
		if len(n) > 1 && n[0] == 'n' && n[1] == 'o' {
			res.Err = abi.ENOENT
			break
		}
		h := fnv.New64a()
		h.Write(binary.LittleEndian.AppendUint64(n, uint64(at)))
		at = abi.Fileid(h.Sum64()|2) &^ 1
		if n[0] == 'd' {
			at |= 1
		}
		res.Trace = append(res.Trace, e.entry(at))
	}
	return res, nil
}

func (e endless) Getattr(_ context.Context, h abi.Handle) (abi.Vattr, error) {
	return e.attr(h.File), nil
}

func (e endless) Readdir(_ context.Context, req vfsops.ReaddirReq) (res vfsops.ReaddirRes, err error) {
	for c := req.Cookie + 1; c <= endlessNames; c++ {
		name := "f" + strconv.FormatUint(c, 10)
		if req.Max -= 24 + len(name); req.Max < 0 {
			return res, nil
		}
		res.Entries = append(res.Entries, abi.Dirent{Fileid: abi.Fileid(c), Cookie: c, Type: abi.VREG, Name: name})
	}
	res.EOF = true
	return res, nil
}

func (e endless) Read(context.Context, abi.Handle, int64, abi.Iov) (int, error) { return 0, nil }
func (e endless) Statvfs(context.Context) (abi.Statvfs, error)                  { return abi.Statvfs{}, nil }
func (e endless) Unmount(context.Context) error                                 { return nil }

// heap is what is alive.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestMemoryLimit looks a million names up, half of them missing, walks into
// many directories, and lists one of a million entries, from several threads:
// what the caches count stays below the limit and their shares all the time,
// and what they take is what they count.
func TestMemoryLimit(t *testing.T) {
	names := 1_000_000
	if raceEnabled || testing.Short() {
		names, endlessNames = 30_000, 100_000
	}
	const limit = 8 << 20
	fs := New(Options{MemLimit: limit, MaxVnodes: 1 << 30, MaxNames: 1 << 30})
	fs.SetAvailable(true)
	if err := fs.AttachFS("", "endless", endless{}, vfsops.CapSole); err != nil {
		t.Fatal(err)
	}
	if _, err := fs.Mount(ctx, su(), MountArgs{Type: "endless", Dir: "/"}); err != nil {
		t.Fatal(err)
	}
	defer fs.UnmountAll(ctx)
	before := heap()
	check := func() {
		m := fs.Memory()
		// A vnode more for each thread, an eighth for the drain.
		if m.Used() > m.Limit || m.Names > m.Limit/memShare || m.Listings > m.Limit/memShare || m.Vnodes > m.Limit/memShare*5/4 {
			t.Errorf("%+v", m)
		}
	}
	var wg sync.WaitGroup
	for id := range 2 {
		wg.Go(func() {
			for i := 0; i < names/2 && !t.Failed(); i++ {
				p := fmt.Sprintf("/d%d/%s%d.%d", i%100, []string{"f", "no", "d"}[i%3], id, i)
				_, err := fs.Stat(ctx, su(), p, true)
				if (abi.ErrnoOf(err) == abi.ENOENT) != (i%3 == 1) || err != nil && i%3 != 1 {
					t.Errorf("%s: %v", p, err)
				}
				if i%1000 == 0 {
					check()
				}
			}
		})
	}
	wg.Go(func() {
		for d := range 3 {
			f, err := fs.Open(ctx, su(), fmt.Sprintf("/d%d", d), abi.O_RDONLY, 0)
			if err != nil {
				t.Error(err)
				return
			}
			if n := count(t, fs, f); n != int(endlessNames)+2 {
				t.Errorf("%d entries", n)
			}
			check()
			f.Release(ctx)
		}
	})
	wg.Wait()
	check()
	for fs.draining.Load() {
		runtime.Gosched()
	}
	m := fs.Memory()
	if got := heap() - before; got > m.Used()*3/2+512<<10 {
		t.Errorf("the heap has grown by %d bytes, counted are %+v", got, m)
	}
	t.Logf("heap %d, %+v, %d vnodes", heap()-before, m, fs.Vnodes())
	if m.Names < m.Limit/memShare/2 || m.Vnodes < m.Limit/memShare/2 || m.Listings == 0 {
		t.Errorf("the caches are nearly empty: %+v", m)
	}
}

// count reads a directory to its end and counts the entries.
func count(t *testing.T, fs *VFS, f *file.File) int {
	buf := make([]byte, 64<<10)
	for total := 0; ; {
		n, err := fs.Getdents(ctx, abi.KernelCaller, f, buf)
		if err != nil || n == 0 {
			if err != nil {
				t.Error(err)
			}
			return total
		}
		for at := 0; at < n; total++ {
			at += int(binary.LittleEndian.Uint16(buf[at+8:]))
		}
	}
}

// TestMemoryPages fills the rest with pages, which get what names and vnodes
// leave, and the listings as well.
func TestMemoryPages(t *testing.T) {
	const limit = 4 << 20
	k := newKern(t, variants[0], Options{MemLimit: limit})
	for i := range 2000 {
		k.ok(k.Mknod(ctx, su(), "/"+strconv.Itoa(i), abi.S_IFREG|0o644, 0))
	}
	k.ls("/")
	if k.Memory().Listings == 0 {
		t.Fatal("no listing")
	}
	f := k.open("/0", abi.O_WRONLY)
	n, err := f.Ops.Write(ctx, abi.KernelCaller, f, make([]byte, 2*limit), 0)
	if err != nil && abi.ErrnoOf(err) != abi.ENOSPC {
		t.Fatal(err)
	}
	k.ok(f.Release(ctx))
	if m := k.Memory(); m.Used() > limit || m.Pages < limit/2 || m.Listings != 0 || m.Pages != int64(n) {
		t.Errorf("wrote %d, %+v", n, m)
	}
}

// TestNameCacheRace reads without locks while names come, go, change and move
// to larger tables: an entry that is found is the one of that name.
func TestNameCacheRace(t *testing.T) {
	const dirs, names = 4, 500
	nc := newNameCache(1<<20, &memory{limit: 1 << 30}, &New(Options{}).cnt)
	d := make([]*Vnode, dirs)
	v := make([][names]*Vnode, dirs)
	for i := range d {
		d[i] = &Vnode{}
		d[i].id.Store(uint64(i + 1))
		for j := range v[i] {
			v[i][j] = &Vnode{}
			v[i][j].id.Store(uint64(1000 + i*names + j))
		}
	}
	stop := make(chan struct{})
	var readers, writers sync.WaitGroup
	for id := range 2 {
		readers.Go(func() {
			r := rand.New(rand.NewPCG(uint64(id), 1))
			for {
				select {
				case <-stop:
					return
				default:
				}
				i, j := r.IntN(dirs), r.IntN(names)
				if got, hit := nc.lookup(d[i], "n"+strconv.Itoa(j)); hit && got != nil && got != v[i][j] {
					t.Errorf("%d/n%d is %d", i, j, got.id.Load())
					return
				}
			}
		})
	}
	for id := range 2 {
		// Each writer has the names of its parity, so that it knows what holds.
		writers.Go(func() {
			r := rand.New(rand.NewPCG(uint64(id), 2))
			for range 20000 {
				i, j := r.IntN(dirs), r.IntN(names/2)*2+id
				n := "n" + strconv.Itoa(j)
				switch r.IntN(4) {
				case 0:
					nc.remove(d[i], n)
					if _, hit := nc.lookup(d[i], n); hit {
						t.Errorf("%d/%s was removed and is there", i, n)
					}
				case 1:
					nc.enter(d[i], n, nil, nil)
					if got, _ := nc.lookup(d[i], n); got != nil {
						t.Errorf("%d/%s is missing and is there", i, n)
					}
				default:
					nc.enter(d[i], n, v[i][j], nil)
					if got, hit := nc.lookup(d[i], n); hit && got != v[i][j] {
						t.Errorf("%d/%s is another", i, n)
					}
				}
			}
		})
	}
	writers.Wait()
	close(stop)
	readers.Wait()
	nc.purge()
	if n := nc.mem.used.Load(); n != 0 {
		t.Errorf("%d bytes counted of nothing", n)
	}
}

func BenchmarkNameLookup(b *testing.B) {
	nc := newNameCache(1<<17, &memory{limit: 1 << 30}, &New(Options{}).cnt)
	d, names := &Vnode{}, make([]string, 1000)
	for i := range names {
		names[i] = "name" + strconv.Itoa(i)
		nc.enter(d, names[i], d, nil)
	}
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			nc.lookup(d, names[i%len(names)])
		}
	})
}
