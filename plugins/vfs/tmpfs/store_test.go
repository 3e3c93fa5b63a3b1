package tmpfs

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/modtest"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// keeper is the Store of a mount in a test: it counts, and can fail.
type keeper struct {
	*modtest.Store
	k     *keepKernel
	calls atomic.Int64 // Get and Scan
	fail  atomic.Int64 // Writes until one fails; 0: none does
}

// keepKernel is a kernel with one Store.
type keepKernel struct {
	*modtest.Kernel
	s *keeper
}

func (k *keepKernel) Store(abi.Fsid) modapi.Store { return &keepStore{k.s.Store.Store(), k.s} }

type keepStore struct {
	modapi.Store
	s *keeper
}

func (x *keepStore) Get(ctx context.Context, key []byte) ([]byte, error) {
	x.s.calls.Add(1)
	return x.Store.Get(ctx, key)
}

func (x *keepStore) Scan(ctx context.Context, from, to []byte, max int) ([]modapi.StoreRec, error) {
	x.s.calls.Add(1)
	return x.Store.Scan(ctx, from, to, max)
}

func (x *keepStore) Write(ctx context.Context, ops []modapi.StoreOp) error {
	if x.s.fail.Load() > 0 && x.s.fail.Add(-1) == 0 {
		x.Store.Write(ctx, ops[:len(ops)/2])
		return abi.ENOMEM
	}
	return x.Store.Write(ctx, ops)
}

func newKeeper(t testing.TB) *keeper {
	s := &keeper{Store: modtest.NewStore()}
	s.k = &keepKernel{modtest.NewKernel(t, nil), s}
	return s
}

// mount makes a new process, and mounts what the last checkpoint left.
func (s *keeper) mount(t testing.TB, kv ...string) (*kernel, error) {
	t.Helper()
	opts := map[string]string{"size": "1m", "nodes": "2m"}
	for i := 0; i < len(kv); i += 2 {
		opts[kv[i]] = kv[i+1]
	}
	s.Reopen()
	m := New()
	m.k = s.k
	fs, err := m.Mount(ctx, &vfsops.MountReq{Fsid: 7, Type: "tmpfs", Options: opts, Op: vfsops.Op{Now: abi.Timespec{Sec: 1}}, Seq: s.Seq()})
	if err != nil {
		return nil, err
	}
	return &kernel{TB: t, FS: fs.(*FS), seq: int64(s.Seq())}, nil
}

func (s *keeper) must(t testing.TB, kv ...string) *kernel {
	t.Helper()
	k, err := s.mount(t, kv...)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// commit makes a checkpoint.
func (k *kernel) commit(s *keeper) {
	k.Helper()
	k.seq++
	k.ok(k.Checkpoint(ctx, abi.OpSeq(k.seq)))
	s.Commit(abi.OpSeq(k.seq))
}

// fill makes n files in directories of 100, and answers the directories.
func (k *kernel) fill(n int) (dirs []abi.Handle) {
	k.Helper()
	root := k.rootH()
	for i := range n {
		if i%100 == 0 {
			dirs = append(dirs, k.mkdir(root, fmt.Sprint("dir", i/100)))
		}
		k.file(dirs[len(dirs)-1], fmt.Sprint("file", i%100))
	}
	return dirs
}

// A checkpoint writes what has changed and no more.
func TestCheckpointCost(t *testing.T) {
	s := newKeeper(t)
	k := s.must(t)
	dirs := k.fill(3000)
	k.commit(s)
	wrote := func(what string, most int, f func()) {
		t.Helper()
		before := s.Writes()
		f()
		k.commit(s)
		if n := s.Writes() - before; n > most {
			t.Errorf("%s: %d records written, more than %d", what, n, most)
		}
	}
	wrote("nothing", 1, func() {})
	var h abi.Handle
	wrote("create", 4, func() { h = k.file(dirs[3], "new") }) // node, directory, chunk, counters
	wrote("chmod", 2, func() {
		_, err := k.Setattr(ctx, vfsops.SetattrReq{Op: k.op(), Node: h, Mask: abi.SetMode})
		k.ok(err)
	})
	wrote("setxattr", 3, func() {
		k.ok(k.Setxattr(ctx, vfsops.SetxattrReq{Op: k.op(), Node: h, Name: []byte("user.a"), Value: []byte("1")}))
	})
	wrote("chmod after setxattr", 2, func() {
		_, err := k.Setattr(ctx, vfsops.SetattrReq{Op: k.op(), Node: h, Mask: abi.SetMode})
		k.ok(err)
	})
	wrote("remove", 5, func() {
		_, err := k.remove(dirs[3], "new", h)
		k.ok(err)
	})
	wrote("a thousand come and gone", 3+1000>>chunkBits+1, func() {
		for i := range 1000 {
			name := fmt.Sprint("tmp", i)
			_, err := k.remove(dirs[5], name, k.file(dirs[5], name))
			k.ok(err)
		}
		if len(k.dirty) > 300 {
			t.Errorf("%d nodes are noted, of which all but one are gone", len(k.dirty))
		}
	}) // and chunks that are empty
}

// A mount that comes back reads its root; who looks up a name reads one
// directory and some nodes.
func TestLazy(t *testing.T) {
	s := newKeeper(t)
	k := s.must(t)
	k.fill(10000)
	k.commit(s)
	want := k.Statvfs
	before, err := want(ctx)
	k.ok(err)
	s.calls.Store(0)
	k = s.must(t)
	if n, nodes := s.calls.Load(), len(k.nodes); n > 3 || nodes > 100 {
		t.Errorf("mount read %d times, and has %d nodes", n, nodes)
	}
	after, err := k.Statvfs(ctx)
	k.ok(err)
	if before != after {
		t.Errorf("statvfs %+v, it was %+v", after, before)
	}
	tr, e := k.lookup(k.rootH(), "dir40", "file7")
	if e != 0 || len(tr) != 2 {
		t.Fatal(tr, e)
	}
	if n, nodes := s.calls.Load(), len(k.nodes); n > 12 || nodes > 200 {
		t.Errorf("one lookup: read %d times, and has %d nodes", n, nodes)
	}
	for i := range 10000 {
		if tr, e := k.lookup(k.rootH(), fmt.Sprint("dir", i/100), fmt.Sprint("file", i%100)); e != 0 || len(tr) != 2 {
			t.Fatal(i, tr, e)
		}
	}
	// Two for each directory, and the nodes many at a time.
	if n := s.calls.Load(); n > 300 {
		t.Errorf("10000 lookups read %d times", n)
	}
	if text, err := k.mod.Stat(ctx); err != nil || !strings.Contains(text, fmt.Sprint(k.live, " nodes")) || k.live != 10101 || int(k.live) != len(k.nodes) {
		t.Errorf("%q, %v; %d nodes alive, %d here", text, err, k.live, len(k.nodes))
	}
}

// The limits hold for a mount that comes back.
func TestLimitsAfter(t *testing.T) {
	s := newKeeper(t)
	opt := []string{"size", "64k", "nodes", "10"}
	k := s.must(t, opt...)
	root := k.rootH()
	f := k.file(root, "f")
	set := func(name string, n int) error {
		return k.Setxattr(ctx, vfsops.SetxattrReq{Op: k.op(), Node: f, Name: []byte(name), Value: make([]byte, n)})
	}
	k.ok(set("user.a", 60000))
	for i := range 8 {
		k.file(root, fmt.Sprint(i))
	}
	k.commit(s)
	k = s.must(t, opt...)
	_, err := k.Create(ctx, k.create(root, "more"))
	k.is(err, abi.ENOSPC)
	k.is(set("user.b", 10000), abi.ENOSPC)
	k.ok(set("user.a", 50000))
	k.ok(set("user.b", 10000))
	k.commit(s)
	k = s.must(t, opt...)
	tr, _ := k.lookup(root, "f")
	_, err = k.remove(root, "f", tr[0].Handle)
	k.ok(err)
	if k.xbytes != 0 {
		t.Errorf("%d bytes of extended attributes, of nodes that are gone", k.xbytes)
	}
	f = k.file(root, "f")
	k.ok(set("user.a", 60000))
	k.commit(s)
	for key := range s.Records() {
		if key[0] == keyXattr && !strings.HasPrefix(key, string(appendKey(nil, keyXattr, f.File))) {
			t.Errorf("record %q of a node that is gone", key)
		}
	}
}

// The records of a directory that changes a lot are those of what is in it.
func TestChunks(t *testing.T) {
	defer func(n int) { maxChanges = n }(maxChanges)
	maxChanges = 100
	s := newKeeper(t)
	k := s.must(t)
	root := k.rootH()
	d := k.mkdir(root, "d")
	k.file(d, "stays")
	chunks := func() (n int) {
		for key := range s.Records() {
			if key[0] == keyDir {
				n++
			}
		}
		return n
	}
	churn := func(n int) {
		for i := range n {
			name := fmt.Sprint("x", i)
			_, err := k.remove(d, name, k.file(d, name))
			k.ok(err)
		}
	}
	// So many that the chunks are not noted one by one any more.
	churn((2*maxChanges + 200) << chunkBits)
	if c := k.nodes[d.File].dir.changed; !c.all {
		t.Errorf("%d chunks are noted", len(c.list))
	}
	k.commit(s)
	if n := chunks(); n != 2 {
		t.Errorf("%d chunks, want one for each directory", n)
	}
	var hs []abi.Handle
	for i := range 1000 {
		hs = append(hs, k.file(d, fmt.Sprint("f", i)))
	}
	k.commit(s)
	full := chunks()
	k = s.must(t)
	for i := range 900 {
		_, err := k.remove(d, fmt.Sprint("f", i), hs[i])
		k.ok(err)
	}
	churn((2*maxChanges + 200) << chunkBits)
	k.commit(s)
	if n := chunks(); n < 3 || n > full-10 {
		t.Errorf("%d chunks after most entries went, of %d", n, full)
	}
	k = s.must(t)
	if got := k.list(d, 500); len(got) != 101 || got[0] != "stays" || got[100] != "f999" {
		t.Errorf("%d entries: %q", len(got), got)
	}
	// Emptied, checkpointed, filled again: what was there is not there again.
	for _, name := range k.list(d, 500) {
		tr, _ := k.lookup(d, name)
		_, err := k.remove(d, name, tr[0].Handle)
		k.ok(err)
	}
	k.commit(s)
	if n := chunks(); n != 1 {
		t.Errorf("%d chunks of one directory that is not empty", n)
	}
	k = s.must(t)
	k.file(d, "again")
	k.commit(s)
	k = s.must(t)
	if got := k.list(d, 500); len(got) != 1 || got[0] != "again" {
		t.Errorf("%q", got)
	}
	tr, _ := k.lookup(d, "again")
	_, err := k.remove(d, "again", tr[0].Handle)
	k.ok(err)
	_, err = k.remove(root, "d", d)
	k.ok(err)
	k.commit(s)
	if n := len(s.Records()); n != 2 {
		t.Errorf("%d records of an empty mount: %q", n, s.Records())
	}
}

// A checkpoint that fails in the middle leaves all to the next.
func TestCheckpointFails(t *testing.T) {
	s := newKeeper(t)
	k := s.must(t)
	k.fill(20000) // several Writes
	s.fail.Store(2)
	k.is(k.Checkpoint(ctx, 5), abi.ENOMEM)
	k.is(func() error { _, err := k.Getattr(ctx, k.rootH()); return err }(), 0)
	tr, _ := k.lookup(k.rootH(), "dir3", "file4")
	_, err := k.remove(tr[0].Handle, "file4", tr[1].Handle) // of which a record is there, perhaps
	k.ok(err)
	k.commit(s)
	live := k.live
	k = s.must(t)
	n := 0
	for _, d := range k.list(k.rootH(), 4096) {
		tr, _ := k.lookup(k.rootH(), d)
		n += 1 + len(k.list(tr[0].Handle, 4096))
	}
	if int64(n)+1 != live || k.live != live {
		t.Errorf("%d nodes found, %d counted, %d before", n+1, k.live, live)
	}
	for key := range s.Records() {
		if key == string(appendKey(nil, keyNode, tr[1].Handle.File)) {
			t.Error("the record of a node that was removed is there")
		}
	}
}

// A Store that is not what it was is EIO, and nothing worse.
func TestDamage(t *testing.T) {
	good := newKeeper(t)
	k := good.must(t)
	dirs := k.fill(300)
	k.ok(k.Setxattr(ctx, vfsops.SetxattrReq{Op: k.op(), Node: dirs[0], Name: []byte("user.a"), Value: []byte("1")}))
	_, err := k.Symlink(ctx, vfsops.SymlinkReq{CreateReq: k.create(dirs[0], "l"), Target: []byte("x")})
	k.ok(err)
	k.commit(good)
	records := good.Records()
	var keys []string
	for key := range records {
		keys = append(keys, key)
	}
	r := rand.New(rand.NewPCG(1, 2))
	rounds := 100
	if raceEnabled {
		rounds = 30
	}
	for round := range rounds {
		s := newKeeper(t)
		var ops []modapi.StoreOp
		for key, val := range records {
			ops = append(ops, modapi.StoreOp{Key: []byte(key), Value: append([]byte{}, val...)})
		}
		for range 1 + r.IntN(20) {
			o := &ops[r.IntN(len(ops))]
			switch n := len(o.Value); {
			case r.IntN(4) == 0:
				o.Delete = true
			case n > 0 && r.IntN(3) == 0:
				o.Value = o.Value[:r.IntN(n)]
			case n > 0:
				o.Value[r.IntN(n)] ^= byte(1 + r.IntN(255))
			}
		}
		if round == 0 {
			ops = nil // there is nothing
		}
		x := s.Store.Store()
		k.ok(x.Write(ctx, ops))
		s.Commit(good.Seq())
		k, err := s.mount(t)
		if err != nil {
			if e := abi.ErrnoOf(err); e != abi.EIO && e != abi.EPROGMISMATCH {
				t.Fatalf("mount: %v", err)
			}
			continue
		}
		trample(k)
	}
}

// trample uses all of a mount, whatever it answers.
func trample(k *kernel) {
	for _, dir := range []string{"dir0", "dir1", "dir2"} {
		res, err := k.FS.Lookup(ctx, vfsops.LookupReq{Start: abi.Handle{FS: 7, File: k.root.fileid, Gen: k.root.gen}, Names: [][]byte{[]byte(dir)}})
		if err != nil || len(res.Trace) == 0 {
			continue
		}
		d := res.Trace[0].Handle
		k.FS.Readdir(ctx, vfsops.ReaddirReq{Dir: d, Max: 1 << 16})
		k.FS.Listxattr(ctx, d)
		for i := range 100 {
			name := fmt.Append(nil, "file", i)
			res, err := k.FS.Lookup(ctx, vfsops.LookupReq{Start: d, Names: [][]byte{name, []byte("x")}})
			if err == nil && len(res.Trace) > 0 {
				k.FS.Getattr(ctx, res.Trace[0].Handle)
				k.FS.Readlink(ctx, res.Trace[0].Handle)
				k.FS.Setxattr(ctx, vfsops.SetxattrReq{Op: k.op(), Node: res.Trace[0].Handle, Name: []byte("user.b"), Value: name})
				k.FS.Remove(ctx, vfsops.RemoveReq{Op: k.op(), Dir: d, Name: name, Victim: res.Trace[0].Handle})
			}
		}
		k.FS.Create(ctx, k.create(d, "new"))
	}
	k.seq++
	k.FS.Checkpoint(ctx, abi.OpSeq(k.seq))
}

// FuzzRecords: no bytes panic a decoder, and what decodes codes to the same.
func FuzzRecords(f *testing.F) {
	f.Add([]byte{recordVersion, 1, 2, 3, 4, 5, 6})
	f.Add(appendNode(nil, &node{typ: abi.VREG, nlink: 1, size: 5}))
	f.Add(appendNode(nil, &node{typ: abi.VLNK, extra: &extra{target: "abc", xcost: 9}}))
	f.Add(appendNode(nil, &node{typ: abi.VDIR, dir: &dir{last: 7, cold: 3}}))
	f.Add(appendEntry(appendEntry(nil, &dirent{name: "a", id: 3, cookie: 1}), &dirent{name: "b", id: 4, cookie: 2}))
	f.Fuzz(func(t *testing.T, b []byte) {
		var s superblock
		if s.parse(b) == nil {
			var again superblock
			if err := again.parse(s.append(nil)); err != nil || again != s {
				t.Fatalf("%+v, %+v: %v", s, again, err)
			}
		}
		if n, err := parseNode(9, b); err == nil {
			m, err := parseNode(9, appendNode(nil, n))
			if err != nil || m.attr() != n.attr() || m.target() != n.target() {
				t.Fatalf("%+v, %+v: %v", n, m, err)
			}
		}
		if es, err := parseChunk(5, b); err == nil {
			var out []byte
			for i := range es {
				out = appendEntry(out, &es[i])
			}
			again, err := parseChunk(5, out)
			if err != nil || !slices.Equal(es, again) {
				t.Fatalf("%+v, %+v: %v", es, again, err)
			}
		}
	})
}

// BenchmarkCreateRemoveStore is BenchmarkCreateRemove for a mount that keeps
// account of its changes, with a checkpoint every ten thousand.
func BenchmarkCreateRemoveStore(b *testing.B) {
	s := newKeeper(b)
	k := s.must(b)
	root := k.rootH()
	n := 0
	for b.Loop() {
		h := k.file(root, "f")
		if _, err := k.remove(root, "f", h); err != nil {
			b.Fatal(err)
		}
		if n++; n%10000 == 0 {
			k.commit(s)
		}
	}
}

// A mount that comes back is used by many at once, and checkpointed while it is
// read; mutators and checkpoints take turns, as the kernel's do.
func TestParallelAfter(t *testing.T) {
	s := newKeeper(t)
	k := s.must(t)
	dirs := k.fill(2000)
	k.commit(s)
	k = s.must(t)
	var gate sync.RWMutex // mutators shared
	var seq atomic.Int64
	seq.Store(k.seq)
	var wg, readers sync.WaitGroup
	stop := make(chan struct{})
	for g := range 2 {
		readers.Add(1)
		go func() {
			defer readers.Done()
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				d := dirs[(i*7+g)%len(dirs)]
				if _, err := k.FS.Readdir(ctx, vfsops.ReaddirReq{Dir: d, Max: 4096}); err != nil {
					t.Errorf("readdir: %v", err)
					return
				}
				res, err := k.FS.Lookup(ctx, vfsops.LookupReq{Start: d, Names: [][]byte{fmt.Append(nil, "file", 50+i%50)}})
				if err != nil || len(res.Trace) != 1 {
					t.Errorf("lookup: %v, %v", res, err)
					return
				}
				if _, err := k.FS.Getattr(ctx, res.Trace[0].Handle); err != nil {
					t.Errorf("getattr: %v", err)
					return
				}
			}
		}()
	}
	for g := range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range 60 {
				gate.RLock()
				d := dirs[g*5+i%5]
				op := vfsops.Op{Seq: abi.OpSeq(seq.Add(1)), Now: abi.Timespec{Sec: int64(i)}, Caller: abi.KernelCaller}
				name := fmt.Append(nil, "file", i/5)
				res, err := k.FS.Lookup(ctx, vfsops.LookupReq{Start: d, Names: [][]byte{name}})
				if err == nil && len(res.Trace) == 1 {
					_, err = k.FS.Remove(ctx, vfsops.RemoveReq{Op: op, Dir: d, Name: name, Victim: res.Trace[0].Handle})
				}
				if err == nil {
					_, err = k.FS.Create(ctx, vfsops.CreateReq{Op: op, Dir: d, Name: fmt.Append(nil, "new", i)})
				}
				gate.RUnlock()
				if err != nil {
					t.Errorf("%d %d: %v", g, i, err)
					return
				}
			}
		}()
	}
	for range 10 {
		gate.Lock()
		at := abi.OpSeq(seq.Load())
		if err := k.FS.Checkpoint(ctx, at); err != nil {
			t.Error(err)
		}
		s.Commit(at)
		gate.Unlock()
	}
	wg.Wait()
	close(stop)
	readers.Wait()
	k.seq = seq.Load()
	k.commit(s)
	want := map[string][]string{}
	for i, d := range dirs {
		want[fmt.Sprint(i)] = k.list(d, 4096)
	}
	k = s.must(t)
	for i, d := range dirs {
		if got := k.list(d, 4096); !slices.Equal(got, want[fmt.Sprint(i)]) {
			t.Errorf("directory %d: %q, want %q", i, got, want[fmt.Sprint(i)])
		}
	}
	if int(k.live) != 1+len(dirs)+2000 {
		t.Errorf("%d nodes", k.live)
	}
}
