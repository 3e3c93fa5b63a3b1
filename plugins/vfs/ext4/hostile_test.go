package ext4

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/modtest"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// victim makes a small image with some of everything.
func victim(t testing.TB, args ...string) []byte {
	t.Helper()
	src := tempDir(t)
	os.MkdirAll(filepath.Join(src, "d/e"), 0o755)
	for i := range 120 {
		os.WriteFile(filepath.Join(src, fmt.Sprintf("d/file-%d", i)), bytes.Repeat([]byte{byte(i)}, i*37), 0o644)
	}
	os.WriteFile(filepath.Join(src, "big"), bytes.Repeat([]byte("big"), 100000), 0o644)
	os.Symlink(strings.Repeat("x/", 80), filepath.Join(src, "slow"))
	disk := mkfs(t, 4<<20, append(args, "-d", src)...)
	r := mountRig(t, disk, false)
	big := r.lookup("big").Handle
	for i := range 40 { // an index of extents
		r.must(r.WritePages(ctx, r.op(), big, int64(100+2*i)*abi.PageSize, abi.IovOf(make([]byte, abi.PageSize)), 300*abi.PageSize))
	}
	for i := range 3 {
		r.must(r.Setxattr(ctx, vfsops.SetxattrReq{Op: r.op(), Node: big, Name: []byte(fmt.Sprintf("user.%d", i)), Value: bytes.Repeat([]byte("v"), 100)}))
	}
	r.must(r.Sync(ctx, abi.Handle{}, false))
	return bytes.Clone(disk.Bytes())
}

// TestHostile damages images at random, and works on them: nothing may panic, go
// on for ever, or take much memory. RUMPUS_SOAK multiplies how many.
func TestHostile(t *testing.T) {
	times := 1
	if n, err := strconv.Atoi(os.Getenv("RUMPUS_SOAK")); err == nil && n > 1 {
		times = n
	}
	for _, l := range []struct {
		name string
		args []string
	}{
		{"ext4", []string{"-t", "ext4", "-b", "1024", "-N", "256"}},
		{"nocsum", []string{"-t", "ext4", "-b", "1024", "-N", "256", "-O", "^metadata_csum"}},
		{"ext3", []string{"-t", "ext3", "-b", "1024", "-N", "256", "-I", "128"}},
	} {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			img := victim(t, l.args...)
			s, err := parseSuper(img[superAt:], int64(len(img)))
			if err != nil {
				t.Fatal(err)
			}
			for i := range 100 * times {
				damaged(t, img, s, uint64(i))
			}
		})
	}
}

// blocksOf are the blocks of an image that are metadata, as far as they can be
// known without much: those that say so, and those before the data.
func metaBlocks(img []byte, s *super) []int {
	var out []int
	for b := range int(s.blocks) {
		p := img[b<<s.logBS:][:s.bs]
		if b < 300 && !zero(p) || le.Uint16(p) == exMagic || le.Uint32(p) == xaMagic || be.Uint32(p) == jMagic || le.Uint16(p[4:]) == 12 && p[6] == 1 && p[8] == '.' || bytes.Contains(p, []byte("file-1")) {
			out = append(out, b)
		}
	}
	return out
}

func damaged(t *testing.T, img []byte, s *super, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 3))
	disk := modtest.NewRAM(int64(len(img)), 512)
	p := disk.Bytes()
	copy(p, img)
	meta := metaBlocks(img, s)
	for range 1 + r.IntN(8) {
		b := meta[r.IntN(len(meta))] << s.logBS
		switch r.IntN(5) {
		case 0:
			p[b+r.IntN(int(s.bs))] ^= 1 << r.IntN(8)
		case 1:
			at := b + r.IntN(int(s.bs)/4)*4
			le.PutUint32(p[at:], []uint32{0, 1, 2, 0xffffffff, 0x7fffffff, r.Uint32(), uint32(s.blocks), uint32(s.blocks) - 1, uint32(r.IntN(int(s.blocks)))}[r.IntN(9)])
		case 2:
			le.PutUint16(p[b+r.IntN(int(s.bs)/2)*2:], []uint16{0, 1, 0xffff, 0x8000, uint16(r.Uint32())}[r.IntN(5)])
		case 3:
			from := meta[r.IntN(len(meta))] << s.logBS
			copy(p[b:b+int(s.bs)], img[from:])
		case 4:
			at := b + r.IntN(int(s.bs))
			clear(p[at:min(at+r.IntN(64), b+int(s.bs))])
		}
	}
	// Checksums that hold let the damage through.
	if r.IntN(4) > 0 {
		reseal(p, s)
	}
	began := time.Now()
	for _, ro := range []bool{true, false} {
		f, err := open(ctx, disk, options{}, &vfsops.MountReq{Fsid: 7, Op: vfsops.Op{Now: abi.Timespec{Sec: 1}, Caller: abi.KernelCaller}, ReadOnly: ro}, modapi.NoStore{}, nil)
		if err != nil {
			continue
		}
		work(f, r)
		f.Unmount(ctx)
	}
	if d := time.Since(began); d > 60*time.Second {
		t.Errorf("seed %d took %v", seed, d)
	}
}

// reseal makes the checksums of superblock, descriptors and inodes right.
func reseal(p []byte, s *super) {
	if !s.gdtCsum() {
		return
	}
	for g := range s.groups {
		blk, off := s.descAt(g)
		if at := int(blk)<<s.logBS + off; at+s.descSize <= len(p) {
			raw := p[at : at+s.descSize]
			le.PutUint16(raw[gdCsum:], s.descCsum(g, raw))
			if table := int(le.Uint32(raw[gdInodeTable:])); s.csum() && table > 0 && (table+int(s.itable))<<s.logBS <= len(p) {
				for i := range s.inodesPer {
					at := table<<s.logBS + int(i)*s.inodeSize
					in := &inode{ino: g*s.inodesPer + i + 1, raw: p[at : at+s.inodeSize], s: s}
					if x := int(le.Uint16(in.raw[inExtra:])); x+goodOld > len(in.raw) {
						continue
					}
					c := in.csum()
					le.PutUint16(in.raw[inCsum:], uint16(c))
					if in.fits(inCsumHi, 2) {
						le.PutUint16(in.raw[inCsumHi:], uint16(c>>16))
					}
				}
			}
		}
	}
	if s.csum() {
		le.PutUint32(p[superAt+sbCsum:], crc32c(^uint32(0), p[superAt:superAt+sbCsum]))
	}
}

// work does some of everything with a mount, whatever comes of it.
func work(f *FS, r *rand.Rand) {
	root, err := f.Root(ctx)
	if err != nil {
		return
	}
	seq := abi.OpSeq(0)
	op := func() vfsops.Op {
		seq++
		return vfsops.Op{Seq: seq, Now: abi.Timespec{Sec: 1700000000}, Caller: abi.KernelCaller}
	}
	f.Statvfs(ctx)
	budget := 400
	buf := make([]byte, 16<<10)
	var walk func(h abi.Handle, depth int)
	walk = func(h abi.Handle, depth int) {
		if depth > 6 {
			return
		}
		for cookie := uint64(0); budget > 0; {
			res, err := f.Readdir(ctx, vfsops.ReaddirReq{Dir: h, Cookie: cookie, Max: 4096})
			if err != nil {
				return
			}
			for _, e := range res.Entries {
				cookie = e.Cookie
				if budget--; budget < 0 {
					return
				}
				l, err := f.Lookup(ctx, vfsops.LookupReq{Start: h, Names: [][]byte{[]byte(e.Name)}})
				if err != nil || len(l.Trace) == 0 {
					continue
				}
				n := l.Trace[0]
				f.Listxattr(ctx, n.Handle)
				f.Getxattr(ctx, n.Handle, []byte("user.1"))
				f.Readlink(ctx, n.Handle)
				f.Read(ctx, n.Handle, 0, abi.IovOf(buf))
				f.Seek(ctx, n.Handle, 0, abi.SEEK_HOLE)
				f.Seek(ctx, n.Handle, 5000, abi.SEEK_DATA)
				if n.Vattr.Type == abi.VDIR {
					walk(n.Handle, depth+1)
					f.Create(ctx, vfsops.CreateReq{Op: op(), Dir: n.Handle, Name: []byte(fmt.Sprint("n", budget)), Mode: 0o644})
				}
				switch r.IntN(6) {
				case 0:
					f.Remove(ctx, vfsops.RemoveReq{Op: op(), Dir: h, Name: []byte(e.Name), Victim: n.Handle})
				case 1:
					f.Truncate(ctx, op(), n.Handle, int64(r.IntN(5000)))
				case 2:
					f.WritePages(ctx, op(), n.Handle, int64(r.IntN(50))*abi.PageSize, abi.IovOf(buf), 100000)
				case 3:
					f.Fallocate(ctx, op(), n.Handle, int64(r.IntN(100000)), 50000, r.IntN(2) == 0)
				case 4:
					f.Setxattr(ctx, vfsops.SetxattrReq{Op: op(), Node: n.Handle, Name: []byte("user.z"), Value: buf[:r.IntN(500)]})
				case 5:
					f.Rename(ctx, vfsops.RenameReq{Op: op(), FDir: h, FName: []byte(e.Name), From: n.Handle, TDir: root.Handle, TName: []byte(fmt.Sprint("r", budget))})
				}
			}
			if res.EOF || len(res.Entries) == 0 {
				return
			}
		}
	}
	walk(root.Handle, 0)
	f.Sync(ctx, abi.Handle{}, false)
}

// TestFeatures: what is not known is refused by name, or only read.
func TestFeatures(t *testing.T) {
	img := victim(t, "-t", "ext4", "-b", "1024", "-N", "256", "-O", "^metadata_csum")
	mount := func(at int, bit uint32) (*FS, error) {
		disk := modtest.NewRAM(int64(len(img)), 512)
		copy(disk.Bytes(), img)
		p := disk.Bytes()[superAt+at:]
		le.PutUint32(p, le.Uint32(p)|bit)
		return open(ctx, disk, options{}, &vfsops.MountReq{Fsid: 7, Op: vfsops.Op{Caller: abi.KernelCaller}}, modapi.NoStore{}, nil)
	}
	for bit, name := range map[uint32]string{incompatCompression: "compression", incompatEncrypt: "encrypt", incompatCasefold: "casefold", 1 << 30: "incompat bit 30"} {
		if _, err := mount(sbIncompat, bit); err == nil || !strings.Contains(err.Error(), name) || abi.ErrnoOf(err) != abi.EINVAL {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, bit := range []uint32{roQuota, roVerity, 1 << 30} {
		f, err := mount(sbRoCompat, bit)
		if err != nil {
			t.Errorf("%#x: %v", bit, err)
			continue
		}
		if !f.readOnly {
			t.Errorf("%#x is written to", bit)
		}
		if err := f.Unmount(ctx); err != nil {
			t.Error(err)
		}
	}
}
