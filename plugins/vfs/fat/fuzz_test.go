package fat

import (
	"encoding/binary"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/modtest"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// seedImage is a small file system with something in it.
func seedImage(t testing.TB, o FormatOptions, size int64) []byte {
	t.Helper()
	disk := newDisk(t, size, o)
	r := mountRig(t, disk, nil)
	d := r.mkdir(r.root(), "Directory of some length")
	for i := range 5 {
		r.must(r.put(r.create(d, name(i)), make([]byte, 3000*i)))
		r.must(r.put(r.create(r.root(), "SHORT.TXT"[i%3:]+string(rune('A'+i))), []byte("hello")))
	}
	r.mkdir(d, "sub")
	r.check()
	return disk.Bytes()
}

// use walks a file system of an image that can have anything in it, reads
// everything and changes a lot. It must come to an end, without a panic.
func use(t testing.TB, disk *modtest.RAM) (mounted bool) {
	o, _ := parseOptions(nil)
	seq := abi.OpSeq(0)
	op := func() vfsops.Op {
		seq++
		return vfsops.Op{Seq: seq, Now: abi.Timespec{Sec: 1700000000}, Caller: abi.KernelCaller}
	}
	f, err := open(ctx, disk, o, &vfsops.MountReq{Fsid: 7, Op: op()}, modapi.NoStore{}, nil)
	if err != nil {
		return false
	}
	left := 300 // nodes to look at
	var walk func(h abi.Handle, depth int)
	walk = func(h abi.Handle, depth int) {
		for cookie := uint64(0); left > 0 && depth < 20; {
			res, err := f.Readdir(ctx, vfsops.ReaddirReq{Dir: h, Cookie: cookie, Max: 4096})
			if err != nil {
				return
			}
			for _, e := range res.Entries {
				if e.Cookie <= cookie || !showable(e.Name) {
					t.Fatalf("entry %q, cookie %d after %d", e.Name, e.Cookie, cookie)
				}
				cookie = e.Cookie
				left--
				got, err := f.Lookup(ctx, vfsops.LookupReq{Start: h, Names: [][]byte{[]byte(e.Name)}})
				if err != nil || len(got.Trace) != 1 {
					continue
				}
				n := got.Trace[0]
				if n.Vattr.Type == abi.VDIR {
					walk(n.Handle, depth+1)
					f.Create(ctx, vfsops.CreateReq{Op: op(), Dir: n.Handle, Name: []byte("a new file"), Mode: 0o644})
					f.Rmdir(ctx, vfsops.RemoveReq{Op: op(), Dir: h, Name: []byte(e.Name), Victim: n.Handle})
					continue
				}
				f.Read(ctx, n.Handle, 0, abi.IovOf(make([]byte, 20000)))
				f.WritePages(ctx, op(), n.Handle, 4096, abi.IovOf(make([]byte, 8192)), min(n.Vattr.Size+5000, 200000))
				f.Rename(ctx, vfsops.RenameReq{Op: op(), FDir: h, FName: []byte(e.Name), From: n.Handle, TDir: f.entryRoot(), TName: []byte("moved here")})
				if left%2 == 0 {
					f.Truncate(ctx, op(), n.Handle, 100)
				}
				f.Remove(ctx, vfsops.RemoveReq{Op: op(), Dir: h, Name: []byte(e.Name), Victim: n.Handle})
			}
			if res.EOF {
				return
			}
		}
	}
	walk(f.entryRoot(), 0)
	f.Statvfs(ctx)
	f.Reserve(ctx, 100)
	f.Sync(ctx, abi.Handle{}, false)
	f.Unmount(ctx)
	return true
}

func (f *FS) entryRoot() abi.Handle { return abi.Handle{FS: f.fsid, File: rootID, Gen: 1} }

// TestMutated uses images that were damaged at random, mostly where it hurts:
// 2,000, or RUMPUS_IMAGES, in `make soak`, from RUMPUS_SEED on. What fails is
// run again by its number.
func TestMutated(t *testing.T) {
	total := 2000
	if n, err := strconv.Atoi(os.Getenv("RUMPUS_IMAGES")); err == nil {
		total = n
	}
	first, _ := strconv.Atoi(os.Getenv("RUMPUS_SEED"))
	for _, fm := range []struct {
		name  string
		size  int64
		o     FormatOptions
		share int // of ten
	}{
		{"fat12", 128 << 10, FormatOptions{Bits: 12}, 4},
		{"fat16", 2200 << 10, FormatOptions{Bits: 16, Cluster: 512}, 2},
		{"fat32", 256 << 10, FormatOptions{Bits: 32, Cluster: 512}, 4},
	} {
		t.Run(fm.name, func(t *testing.T) {
			seed := seedImage(t, fm.o, fm.size)
			l, err := parseBPB(seed, fm.size, 512)
			if err != nil {
				t.Fatal(err)
			}
			disk := modtest.NewRAM(fm.size, 512)
			mounted := 0
			for i := range total * fm.share / 10 {
				n := first + i
				copy(disk.Bytes(), seed)
				mutate(rand.New(rand.NewPCG(uint64(n), 9)), disk.Bytes(), &l)
				from := time.Now()
				if use(t, disk) {
					mounted++
				}
				if d := time.Since(from); d > 30*time.Second {
					t.Errorf("image %d took %v", n, d)
				}
				if t.Failed() {
					t.Fatalf("image %d", n)
				}
			}
			if n := total * fm.share / 10; mounted < n/2 {
				t.Errorf("%d of %d images could be mounted at all", mounted, n)
			}
		})
	}
}

// mutate damages an image.
func mutate(rnd *rand.Rand, image []byte, l *layout) {
	boot := rnd.IntN(10) == 0
	if rnd.IntN(3) == 0 {
		image[l.stateByte()] |= 1 // then lost clusters are looked for
	}
	root, rootSize := l.root, l.rootSize
	if rootSize == 0 {
		root, rootSize = l.at(l.rootFirst), l.cluster
	}
	for range 1 + rnd.IntN(20) {
		var at int64
		switch rnd.IntN(5) {
		case 0:
			if !boot {
				continue
			}
			at = 11 + rnd.Int64N(60)
		case 1:
			at = l.fat + rnd.Int64N(min(l.fatSize, 200))
		case 2:
			at = root + rnd.Int64N(rootSize/8+1)
		case 3: // a field of a slot that leads somewhere, of one of the first clusters
			at = root
			if rnd.IntN(2) == 0 {
				at = l.data + rnd.Int64N(8)*l.cluster
			}
			at += rnd.Int64N(16)*slotSize + []int64{0, 11, 20, 26, 28}[rnd.IntN(5)]
			binary.LittleEndian.PutUint16(image[at:], uint16(rnd.IntN(20)))
			continue
		default:
			at = l.data + rnd.Int64N(40000)
		}
		if rnd.IntN(3) == 0 {
			binary.LittleEndian.PutUint32(image[at:], rnd.Uint32())
		} else {
			image[at] = byte(rnd.Uint32())
		}
	}
}

// FuzzImage gives a small image, changed, to everything.
func FuzzImage(f *testing.F) {
	seed := seedImage(f, FormatOptions{Bits: 12}, 64<<10)
	f.Add([]byte{13, 0, 255})
	f.Add([]byte{22, 0, 1, 0, 2, 7})
	f.Fuzz(func(t *testing.T, edits []byte) {
		image := append([]byte(nil), seed...)
		for ; len(edits) >= 3; edits = edits[3:] {
			image[int(edits[0])|int(edits[1])<<8] = edits[2]
		}
		disk := modtest.NewRAM(int64(len(image)), 512)
		copy(disk.Bytes(), image)
		use(t, disk)
	})
}

// FuzzBPB: a boot sector that is accepted describes a device within its bounds.
func FuzzBPB(f *testing.F) {
	for _, fm := range formats {
		f.Add(newDisk(f, fm.size, fm.o).Bytes()[:512], fm.size)
	}
	f.Fuzz(func(t *testing.T, b []byte, size int64) {
		l, err := parseBPB(b, size, 512)
		if err != nil {
			return
		}
		if l.at(l.clusters+1)+l.cluster > size || l.fat+int64(l.fats)*l.fatSize > l.data || l.root+l.rootSize > l.data && l.rootSize > 0 || l.clusters == 0 {
			t.Fatalf("%+v on %d bytes", l, size)
		}
		if off, n := (&table{layout: &l}).entryAt(l.clusters + 1); off+int64(n)-1 >= l.fat+l.fatSize {
			t.Fatalf("the last entry is at %d of a FAT from %d to %d", off, l.fat, l.fat+l.fatSize)
		}
	})
}
