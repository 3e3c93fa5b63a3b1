package modtest

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

// BlkUnderTest is a block device driver for TestBlk: with fresh contents for
// each call of the function that makes it, of which nothing is expected.
type BlkUnderTest struct {
	Mods    []modapi.Module
	Grants  map[string]*os.File
	Props   map[string]modapi.Props
	Driver  string   // as attached
	Units   []uint32 // that can be opened and have a size
	BadUnit uint32   // that cannot
	// Disks are what Kernel.Block opens.
	Disks map[abi.Dev]devops.BlockIO
	// Setup, if not nil, is called after Init: to configure units.
	Setup func(t *testing.T, k *Kernel, d devops.Blk)
}

// TestBlk checks the rules of devops.Blk in every binding.
func TestBlk(t *testing.T, newBlk func(t *testing.T) BlkUnderTest) {
	eachBinding(t, func(t *testing.T, b Binding) {
		ut := newBlk(t)
		k := NewKernel(t, ut.Grants)
		for dev, io := range ut.Disks {
			k.SetDisk(dev, io)
		}
		k.load(b, ut.Mods, ut.Grants, ut.Props)
		k.mu.Lock() // BlkChanged may come at any time
		at, ok := k.Blks[ut.Driver]
		k.mu.Unlock()
		if !ok {
			t.Fatalf("no block device driver %q was attached", ut.Driver)
		}
		if ut.Setup != nil {
			ut.Setup(t, k, at.Ops)
		}
		t.Run("nodes", func(t *testing.T) { blkNodeRules(t, k, at) })
		t.Run("bad-unit", func(t *testing.T) {
			if _, err := at.Ops.Geometry(t.Context(), ut.BadUnit); abi.ErrnoOf(err) != abi.ENXIO {
				t.Errorf("geometry of unit %d: %v, want ENXIO", ut.BadUnit, err)
			}
			if err := at.Ops.Open(t.Context(), ut.BadUnit, abi.O_RDONLY); abi.ErrnoOf(err) != abi.ENXIO {
				t.Errorf("open of unit %d: %v, want ENXIO", ut.BadUnit, err)
			}
		})
		for _, unit := range ut.Units {
			u := &blkT{T: t, d: at.Ops, dev: at.Dev | abi.Makedev(0, unit), unit: unit}
			u.open()
			for _, r := range blkRules {
				t.Run(r.name, func(t *testing.T) {
					v := *u
					v.T = t
					r.rule(&v)
				})
			}
			u.close()
		}
	})
}

// blkRules are the rules for one unit.
var blkRules = []struct {
	name string
	rule func(u *blkT)
}{
	{"whole-sectors", blkBounds},
	{"operations", blkOps},
	{"read-write", blkReadWrite},
	{"pieces", blkPieces},
	{"caller's", blkCallers},
	{"zeroes", blkZeroes},
	{"discard", blkDiscard},
	{"flush", blkFlush},
	{"concurrent", blkConcurrent},
	{"cancelled", blkCancelled},
	{"ioctl", blkIoctl},
}

// blkT is one unit under test.
type blkT struct {
	*testing.T
	d    devops.Blk
	dev  abi.Dev
	unit uint32
	g    devops.Geom
	rw   int // O_RDWR, or O_RDONLY if that is all there is
}

var bufIDs atomic.Uint64

// blkNodeRules checks what is named for devfs.
func blkNodeRules(t *testing.T, k *Kernel, at Blk) {
	n, ok := at.Ops.(devops.Noder)
	if !ok {
		return
	}
	seen := map[string]bool{}
	for _, n := range n.Nodes() {
		if n.Name == "" || len(n.Name) > 30 || bytes.ContainsAny([]byte(n.Name), "/ \x00") || seen[n.Name] || seen["r"+n.Name] || n.Mode&^0o777 != 0 {
			t.Errorf("node %+v", n)
		}
		seen[n.Name], seen["r"+n.Name] = true, true
	}
}

func (u *blkT) open() {
	ctx := context.WithoutCancel(u.Context())
	var err error
	if u.g, err = u.d.Geometry(ctx, u.unit); err != nil {
		u.Fatalf("geometry of unit %d: %v", u.unit, err)
	}
	g := u.g
	if err := g.Check(); err != nil {
		u.Fatal(err)
	}
	if u.g.Size < 64*int64(u.g.Sector) {
		u.Fatalf("unit %d has %d bytes, too few to test", u.unit, u.g.Size)
	}
	u.g = g
	u.rw = abi.O_RDWR
	if g.ReadOnly {
		if err := u.d.Open(ctx, u.unit, abi.O_RDWR); abi.ErrnoOf(err) != abi.EROFS {
			u.Errorf("open of a read-only unit for writing: %v, want EROFS", err)
		}
		u.rw = abi.O_RDONLY
	}
	for range 2 { // every open counts
		if err := u.d.Open(ctx, u.unit, u.rw); err != nil {
			u.Fatalf("open of unit %d: %v", u.unit, err)
		}
	}
	if err := u.d.Close(ctx, u.unit, u.rw); err != nil {
		u.Errorf("close of unit %d: %v", u.unit, err)
	}
}

func (u *blkT) close() {
	if err := u.d.Close(context.WithoutCancel(u.Context()), u.unit, u.rw); err != nil {
		u.Errorf("close of unit %d: %v", u.unit, err)
	}
}

// buf makes a request.
func (u *blkT) buf(op devops.BufFlags, off, n int64, data ...[]byte) *devops.Buf {
	return &devops.Buf{ID: abi.BufID(bufIDs.Add(1)), Dev: u.dev, Blkno: off / devops.DevBsize, Bytes: n, Flags: op, Data: data}
}

func (u *blkT) do(b *devops.Buf) error { return u.d.Strategy(u.Context(), b) }

// want does a request that must end with an error.
func (u *blkT) want(e abi.Errno, what string, b *devops.Buf) {
	u.Helper()
	if err := u.do(b); abi.ErrnoOf(err) != e {
		u.Errorf("%s: %v, want %v", what, err, e.Name())
	}
}

func (u *blkT) read(off, n int64) []byte {
	u.Helper()
	p := bytes.Repeat([]byte{0x5a}, int(n))
	if err := u.do(u.buf(devops.BRead, off, n, p)); err != nil {
		u.Fatalf("read of %d bytes at %d: %v", n, off, err)
	}
	return p
}

func (u *blkT) write(off int64, p []byte, extra devops.BufFlags) {
	u.Helper()
	if err := u.do(u.buf(devops.BWrite|extra, off, int64(len(p)), p)); err != nil {
		u.Fatalf("write of %d bytes at %d: %v", len(p), off, err)
	}
}

func pattern(seed uint64, n int64) []byte {
	r := rand.New(rand.NewPCG(seed, uint64(n)))
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	return p
}

func blkBounds(u *blkT) {
	s := int64(u.g.Sector)
	p := make([]byte, 2*s)
	bufs := map[string]*devops.Buf{
		"part of a sector": u.buf(devops.BRead, 0, s-1, p[:s-1]),
		"behind the end":   u.buf(devops.BRead, u.g.Size, s, p[:s]),
		"over the end":     u.buf(devops.BRead, u.g.Size-s, 2*s, p),
		"before the start": u.buf(devops.BRead, -s, s, p[:s]),
		"far behind":       u.buf(devops.BRead, 1<<62, s, p[:s]),
		"nothing":          u.buf(devops.BRead, 0, 0),
		"other length":     u.buf(devops.BRead, 0, 2*s, p[:s]),
	}
	if s > devops.DevBsize {
		bufs["inside a sector"] = u.buf(devops.BRead, devops.DevBsize, s, p[:s])
	}
	for what, b := range bufs {
		u.want(abi.EINVAL, what, b)
	}
	if !u.g.ReadOnly {
		u.want(abi.EINVAL, "write behind the end", u.buf(devops.BWrite, u.g.Size, s, p[:s]))
		u.want(abi.EINVAL, "write of part of a sector", u.buf(devops.BWrite, 0, s-1, p[:s-1]))
	}
	last := u.buf(devops.BRead, u.g.Size-s, s, p[:s])
	if err := u.do(last); err != nil {
		u.Errorf("the last sector: %v", err)
	}
}

func blkOps(u *blkT) {
	s := int64(u.g.Sector)
	p := make([]byte, s)
	u.want(abi.EINVAL, "no operation", u.buf(0, 0, s, p))
	u.want(abi.EINVAL, "two operations", u.buf(devops.BRead|devops.BWrite, 0, s, p))
	for op, what := range map[devops.BufFlags]string{devops.BDiscard: "discard", devops.BZeroes: "zeroes", devops.BFlush: "flush"} {
		n := s
		if op == devops.BFlush {
			n = 0
		}
		if u.g.Ops&op == 0 && (!u.g.ReadOnly || op == devops.BFlush) {
			u.want(abi.EOPNOTSUPP, what+" of a device that does not offer it", u.buf(op, 0, n))
		}
	}
	if u.g.ReadOnly {
		u.want(abi.EROFS, "write to a read-only device", u.buf(devops.BWrite, 0, s, p))
	}
}

// writable skips what a read-only device cannot show.
func (u *blkT) writable() {
	if u.g.ReadOnly {
		u.Skip("read-only")
	}
}

func blkReadWrite(u *blkT) {
	u.writable()
	s, most := int64(u.g.Sector), int64(u.g.MaxIO)
	for i, c := range []struct{ off, n int64 }{
		{0, s}, {u.g.Size - s, s}, {u.g.Size / s / 2 * s, 3 * s}, {s, min(most, u.g.Size-s)}, {0, min(most, u.g.Size)},
	} {
		before := u.read(max(0, c.off-s), s)
		p := pattern(uint64(i), c.n)
		u.write(c.off, p, 0)
		if !bytes.Equal(u.read(c.off, c.n), p) {
			u.Errorf("%d bytes at %d are not what was written", c.n, c.off)
		}
		if c.off > 0 && !bytes.Equal(u.read(c.off-s, s), before) {
			u.Errorf("a write of %d bytes at %d has changed the sector before", c.n, c.off)
		}
	}
}

func blkPieces(u *blkT) {
	u.writable()
	s := int64(u.g.Sector)
	p := pattern(7, 4*s)
	// Pieces of odd lengths, and an empty one.
	cut := func(p []byte) [][]byte { return [][]byte{p[:1], nil, p[1 : s+3], p[s+3:]} }
	if err := u.do(u.buf(devops.BWrite, s, 4*s, cut(p)...)); err != nil {
		u.Fatal(err)
	}
	q := make([]byte, 4*s)
	if err := u.do(u.buf(devops.BRead, s, 4*s, cut(q)...)); err != nil {
		u.Fatal(err)
	}
	if !bytes.Equal(p, q) {
		u.Error("what was written in pieces is not read in pieces")
	}
}

// blkCallers: data of a write is the caller's, during and after it.
func blkCallers(u *blkT) {
	u.writable()
	p := pattern(9, int64(u.g.Sector))
	q := bytes.Clone(p)
	u.write(0, q, 0)
	if !bytes.Equal(p, q) {
		u.Error("the data of a write has been changed")
	}
	clear(q)
	if !bytes.Equal(u.read(0, int64(len(p))), p) {
		u.Error("the data of a write is used after it has been answered")
	}
}

func blkZeroes(u *blkT) {
	u.writable()
	if u.g.Ops&devops.BZeroes == 0 {
		u.Skip("not offered")
	}
	s := int64(u.g.Sector)
	for _, n := range []int64{1, 9, 40} {
		u.write(0, pattern(3, 60*s), 0)
		if err := u.do(u.buf(devops.BZeroes, s, n*s)); err != nil {
			u.Fatal(err)
		}
		want := pattern(3, 60*s)
		clear(want[s : s+n*s])
		if !bytes.Equal(u.read(0, 60*s), want) {
			u.Errorf("after zeroes over %d sectors something else is read", n)
		}
	}
	u.want(abi.EINVAL, "zeroes behind the end", u.buf(devops.BZeroes, u.g.Size, s))
}

func blkDiscard(u *blkT) {
	u.writable()
	if u.g.Ops&devops.BDiscard == 0 {
		u.Skip("not offered")
	}
	s := int64(u.g.Sector)
	p := pattern(4, 60*s)
	u.write(0, p, 0)
	if err := u.do(u.buf(devops.BDiscard, 10*s, 30*s)); err != nil {
		u.Fatal(err)
	}
	q := u.read(0, 60*s)
	if !bytes.Equal(q[:10*s], p[:10*s]) || !bytes.Equal(q[40*s:], p[40*s:]) {
		u.Error("a discard has changed what lies beside it")
	}
	u.write(10*s, p[:s], 0)
	if !bytes.Equal(u.read(10*s, s), p[:s]) {
		u.Error("what was discarded cannot be written again")
	}
	u.want(abi.EINVAL, "discard behind the end", u.buf(devops.BDiscard, u.g.Size, s))
}

func blkFlush(u *blkT) {
	if u.g.Ops&devops.BFlush != 0 {
		if err := u.do(u.buf(devops.BFlush, 0, 0)); err != nil {
			u.Errorf("flush: %v", err)
		}
	}
	if u.g.Ops&devops.BFua != 0 && !u.g.ReadOnly {
		p := pattern(5, int64(u.g.Sector))
		u.write(0, p, devops.BFua)
		if !bytes.Equal(u.read(0, int64(len(p))), p) {
			u.Error("a write with BFua is not read again")
		}
	}
}

// blkConcurrent has many bufs in flight that do not overlap: each is answered
// once, and what it says is true.
func blkConcurrent(u *blkT) {
	u.writable()
	const workers, rounds = 16, 20
	s := int64(u.g.Sector)
	share := u.g.Size / s / workers * s
	var answered atomic.Int64
	var wg sync.WaitGroup
	for w := range int64(workers) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			r := rand.New(rand.NewPCG(1, uint64(w)))
			base := w * share
			for i := range rounds {
				n := min(share, s*(1+r.Int64N(16)), int64(u.g.MaxIO))
				off := base + r.Int64N((share-n)/s+1)*s
				p := pattern(uint64(w)<<32|uint64(i), n)
				q := make([]byte, n)
				err := u.do(u.buf(devops.BWrite, off, n, p))
				if err == nil {
					err = u.do(u.buf(devops.BRead, off, n, q))
				}
				if err != nil {
					u.Errorf("%d bytes at %d: %v", n, off, err)
					return
				}
				answered.Add(2)
				if !bytes.Equal(p, q) {
					u.Errorf("%d bytes at %d are not what was written", n, off)
					return
				}
			}
		}()
	}
	wg.Wait()
	if n := answered.Load(); n != 2*workers*rounds && !u.Failed() {
		u.Errorf("%d answers, want %d", n, 2*workers*rounds)
	}
}

// blkCancelled: who gives up is answered soon, and the device goes on.
func blkCancelled(u *blkT) {
	s := int64(u.g.Sector)
	ctx, cancel := context.WithCancel(context.WithoutCancel(u.Context()))
	cancel()
	within(u.T, "a request that nobody waits for", func(context.Context) {
		err := u.d.Strategy(ctx, u.buf(devops.BRead, 0, s, make([]byte, s)))
		if e := abi.ErrnoOf(err); err != nil && e != abi.EINTR && e != abi.ETIMEDOUT {
			u.Errorf("read of one who has gone: %v, want EINTR", err)
		}
	})
	u.read(0, s)
}

func blkIoctl(u *blkT) {
	within(u.T, "Ioctl", func(ctx context.Context) {
		if _, err := u.d.Ioctl(ctx, u.unit, 0x20007f7f, nil); abi.ErrnoOf(err) != abi.ENOTTY {
			u.Errorf("unit %d: unknown ioctl: %v, want ENOTTY", u.unit, err)
		}
	})
}
