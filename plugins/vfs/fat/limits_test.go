package fat

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// sizeFor is how large a device must be for a number of clusters.
func sizeFor(t testing.TB, o FormatOptions, clusters int64) int64 {
	t.Helper()
	unit := max(o.Sector, 512)
	size := clusters * o.Cluster / unit * unit
	for range 100000 {
		var boot [512]byte
		s := &sparse{blks: map[int64][]byte{}}
		if Format(s, size, o) == nil {
			s.ReadAt(boot[:], 0)
			l, err := parseBPB(boot[:], size, uint32(unit))
			if err == nil && int64(l.clusters) == clusters {
				return size
			} else if err == nil && int64(l.clusters) > clusters {
				break
			}
		}
		size += o.Cluster
	}
	t.Fatalf("no size for %d clusters of %+v", clusters, o)
	return 0
}

// mostFsck is how large a file may be for fsck.vfat, which counts the bytes of a
// chain in 32 bits.
const mostFsck = 1<<32 - 64<<10

// TestGeometries fills file systems of all sizes of sectors and clusters, and of
// the numbers of clusters where the kinds of FAT end, to the last cluster.
func TestGeometries(t *testing.T) {
	type geometry struct {
		o        FormatOptions
		clusters int64
	}
	var gs []geometry
	for _, c := range [][2]int64{{512, 1024}, {512, 4096}, {512, 64 << 10}, {1024, 1024}, {1024, 64 << 10}, {2048, 2048}, {2048, 32 << 10}, {4096, 4096}, {4096, 64 << 10}} {
		for k, n := range map[int]int64{12: 100, 16: 4100, 32: 3000} {
			gs = append(gs, geometry{FormatOptions{Bits: k, Sector: c[0], Cluster: c[1]}, n})
		}
	}
	for _, n := range []int64{1, 2, 341, 342, 4084} {
		gs = append(gs, geometry{FormatOptions{Bits: 12, Cluster: 512}, n})
	}
	for _, n := range []int64{4085, 65524} {
		gs = append(gs, geometry{FormatOptions{Bits: 16, Cluster: 512}, n})
	}
	for _, n := range []int64{65525} {
		gs = append(gs, geometry{FormatOptions{Bits: 32, Cluster: 512}, n})
	}
	for _, g := range gs {
		t.Run(fmt.Sprintf("FAT%d sector %d cluster %d clusters %d", g.o.Bits, max(g.o.Sector, 512), g.o.Cluster, g.clusters), func(t *testing.T) {
			dev := newSparse(t, sizeFor(t, g.o, g.clusters), g.o)
			r := mountRig(t, dev, nil)
			if r.t.bits != g.o.Bits || int64(r.t.clusters) != g.clusters {
				t.Fatalf("a FAT%d with %d clusters", r.t.bits, r.t.clusters)
			}
			data := bytes.Repeat([]byte("0123456789abcde\n"), 100)
			h := r.create(r.root(), "a file with a long name")
			r.must(r.put(h, data[:min(int64(len(data)), g.o.Cluster)]))
			big := r.create(r.root(), "BIG")
			st, err := r.Statvfs(ctx)
			r.must(err)
			_, err = r.Truncate(ctx, r.op(), big, min(int64(st.Bfree*st.Frsize), mostFsck))
			r.must(err)
			r.must(r.Unmount(ctx))
			dev.fsck(t)
			r = mountRig(t, dev, nil)
			if got := r.get(r.lookup("A FILE with a long name")); !bytes.Equal(got, data[:min(int64(len(data)), g.o.Cluster)]) {
				t.Errorf("%d bytes are not what was written", len(got))
			}
			big = r.lookup("big")
			_, err = r.Remove(ctx, vfsops.RemoveReq{Op: r.op(), Dir: r.root(), Name: []byte("BIG"), Victim: big})
			r.must(err)
			if again, err := r.Statvfs(ctx); err != nil || again.Bfree != st.Bfree {
				t.Errorf("%d clusters are free, not %d: %v", again.Bfree, st.Bfree, err)
			}
			r.must(r.Unmount(ctx))
		})
	}
}

// TestLargest: a file has 4 GiB - 1 bytes at most.
func TestLargest(t *testing.T) {
	o := FormatOptions{Bits: 32, Cluster: 64 << 10}
	dev := newSparse(t, 5<<30, o)
	r := mountRig(t, dev, nil)
	h := r.create(r.root(), "f")
	if _, err := r.Truncate(ctx, r.op(), h, 1<<32); !errors.Is(err, abi.EFBIG) {
		t.Errorf("4 GiB: %v", err)
	}
	va, err := r.Truncate(ctx, r.op(), h, 1<<32-1)
	if err != nil || va.Size != 1<<32-1 {
		t.Fatalf("4 GiB - 1: %d, %v", va.Size, err)
	}
	page := bytes.Repeat([]byte{7}, abi.PageSize)
	last := int64(1<<32 - abi.PageSize)
	if err := r.WritePages(ctx, r.op(), h, last, abi.IovOf(page), 1<<32); !errors.Is(err, abi.EFBIG) {
		t.Errorf("a write of one byte more: %v", err)
	}
	r.must(r.WritePages(ctx, r.op(), h, last, abi.IovOf(page), 1<<32-1))
	r.must(r.Unmount(ctx))
	r = mountRig(t, dev, nil)
	p := make([]byte, 8192)
	n, err := r.Read(ctx, r.lookup("f"), last-2, abi.IovOf(p))
	if want := append([]byte{0, 0}, page[:abi.PageSize-1]...); err != nil || !bytes.Equal(p[:n], want) {
		t.Errorf("the end is %d bytes, %v", n, err)
	}
	_, err = r.Truncate(ctx, r.op(), r.lookup("f"), mostFsck)
	r.must(err)
	r.must(r.Unmount(ctx))
	dev.fsck(t)
}

// TestManyNames: a directory has 65,536 slots at most, names that begin alike get
// short names of their own, and neither takes long.
func TestManyNames(t *testing.T) {
	dev := newSparse(t, 64<<20, FormatOptions{Bits: 32, Cluster: 512})
	r := mountRig(t, dev, nil)
	d := r.mkdir(r.root(), "many")
	made := 0
	for ; ; made++ {
		_, err := r.Create(ctx, vfsops.CreateReq{Op: r.op(), Dir: d, Name: fmt.Appendf(nil, "Alike long name %05d", made), Mode: 0o644})
		if errors.Is(err, abi.ENOSPC) {
			break
		}
		r.must(err)
	}
	// Three slots each, and those of . and ..
	if made != 65534/3 {
		t.Errorf("%d names fitted in", made)
	}
	for i := 1; i <= made; i = i*7 + 3 {
		n := fmt.Sprint(i)
		short := "ALIKELON"[:7-len(n)] + "~" + n
		if a, b := r.lookup("many", short), r.lookup("many", fmt.Sprintf("Alike long name %05d", i-1)); a != b {
			t.Errorf("%s is %v, number %d is %v", short, a, i, b)
		}
	}
	r.must(r.Unmount(ctx)) // fsck.vfat's time grows with the square of the names
}

// TestTails: of the short names that are free the one with the lowest number is
// taken, also after names have gone.
func TestTails(t *testing.T) {
	r := mountRig(t, newDisk(t, 4<<20, FormatOptions{Bits: 12}), nil)
	hs := map[int]abi.Handle{}
	for i := range 120 {
		hs[i] = r.create(r.root(), fmt.Sprintf("long name %d.text", i))
	}
	for _, i := range []int{3, 57, 104} { // ~4, ~58, ~105
		_, err := r.Remove(ctx, vfsops.RemoveReq{Op: r.op(), Dir: r.root(), Name: fmt.Appendf(nil, "long name %d.text", i), Victim: hs[i]})
		r.must(err)
	}
	for _, want := range []string{"LONGNA~4.TEX", "LONGN~58.TEX", "LONG~105.TEX", "LONG~121.TEX"} {
		h := r.create(r.root(), "long name as "+want+".text")
		if got := r.lookup(want); got != h {
			t.Errorf("%s is another file", want)
		}
	}
	r.check()
}

// TestLongNames: all that UTF-16 can say, and how it comes back.
func TestLongNames(t *testing.T) {
	disk := newDisk(t, 4<<20, FormatOptions{Bits: 12})
	r := mountRig(t, disk, nil)
	names := []string{
		"a", strings.Repeat("n", 13), strings.Repeat("n", 14), strings.Repeat("m", 26), strings.Repeat("x", 255),
		"𝄞 clef 🎼", strings.Repeat("😀", 63), "Straße", "ÀÉÎ.õü", ".hidden", "..two", "a+b,c;d=e[f]", " leading", "tab.le.au", "naïve.txt", "日本語.文書",
	}
	for _, n := range names {
		r.create(r.root(), n)
	}
	for _, n := range []string{strings.Repeat("x", 256), strings.Repeat("😀", 64)} {
		if _, err := r.Create(ctx, vfsops.CreateReq{Op: r.op(), Dir: r.root(), Name: []byte(n)}); abi.ErrnoOf(err) != abi.ENAMETOOLONG {
			t.Errorf("%d bytes: %v", len(n), err)
		}
	}
	r.must(r.Unmount(ctx))
	fsck(t, disk.Bytes())
	r = mountRig(t, disk, nil)
	res, err := r.Readdir(ctx, vfsops.ReaddirReq{Dir: r.root(), Max: 1 << 20})
	r.must(err)
	var got []string
	for _, e := range res.Entries {
		got = append(got, e.Name)
	}
	if !slices.Equal(got, names) {
		t.Errorf("listed %q\nwant   %q", got, names)
	}
	// A name that is too long in UTF-8 is shown as its short one.
	long := naming{name: strings.Repeat("日", 255), units: utf16.Encode([]rune(strings.Repeat("日", 255))), sn: [11]byte([]byte("ANOTHER TXT")), slots: 21}
	from, err := r.place(ctx, r.nodes[rootID], long.slots)
	r.must(err)
	e, err := r.insert(ctx, r.nodes[rootID], from, &long, false)
	r.must(err)
	r.must(r.c.write(ctx, (&slot{name: long.sn}).bytes(), e.at))
	r.must(r.Unmount(ctx))
	r = mountRig(t, disk, nil)
	r.lookup("another.txt")
	for _, n := range []string{"STRASSE", "ÀÉÎ.ÕÜ", "àéî.õü", "NAÏVE.TXT"} {
		res, err := r.Lookup(ctx, vfsops.LookupReq{Start: r.root(), Names: [][]byte{[]byte(n)}})
		if found := err == nil && res.Err == 0; found != (n != "STRASSE") {
			t.Errorf("%q found: %v", n, found)
		}
	}
}

// TestCase: names are found in any case, kept as they were given, and a rename
// changes how they are spelt. What Windows NT can say without a long name has none.
func TestCase(t *testing.T) {
	disk := newDisk(t, 4<<20, FormatOptions{Bits: 16, Cluster: 512})
	r := mountRig(t, disk, nil)
	slots := map[string]int{"UPPER.TXT": 1, "lower.txt": 1, "BASE.ext": 1, "bass.EXT": 1, "noext": 1, "123.~1": 1, "Mixed.txt": 2, "lower.Txt": 2, "a b": 2}
	dir := r.nodes[rootID]
	for n, want := range slots {
		if n == "lower.Txt" {
			continue // the same name
		}
		h := r.create(r.root(), n)
		e := dir.d.find([]byte(n))
		if e.index-e.first+1 != want {
			t.Errorf("%q has %d slots, want %d", n, e.index-e.first+1, want)
		}
		if r.lookup(strings.ToUpper(n)) != h || r.lookup(strings.ToLower(n)) != h {
			t.Errorf("%q is not found in another case", n)
		}
	}
	ren := func(from, to string) {
		t.Helper()
		h := r.lookup(from)
		req := vfsops.RenameReq{Op: r.op(), FDir: r.root(), FName: []byte(from), From: h, TDir: r.root(), TName: []byte(to)}
		if e := dir.d.find([]byte(to)); e != nil && e != dir.d.find([]byte(from)) {
			req.To = r.lookup(to)
		}
		if _, err := r.Rename(ctx, req); err != nil {
			t.Errorf("rename %q to %q: %v", from, to, err)
		}
		if e := dir.d.find([]byte(from)); r.lookup(to) != h || e != nil && fold(from) != fold(to) {
			t.Errorf("rename %q to %q: it is not there, or still %v", from, to, e)
		}
	}
	ren("UPPER.TXT", "upper.txt")
	ren("lower.txt", "Lower.Txt")
	ren("Lower.Txt", "LOWER.TXT")
	ren("Mixed.txt", "mIXED.TXT")
	ren("bass.EXT", "plain") // the bits go with the name
	ren("123.~1", "ABC")
	ren("noext", "A B")
	h := r.lookup("upper.txt")
	r.create(r.root(), "OTHER.TXT")
	_, err := r.Rename(ctx, vfsops.RenameReq{Op: r.op(), FDir: r.root(), FName: []byte("upper.txt"), From: h, TDir: r.root(), TName: []byte("OTHER.TXT"), To: r.lookup("OTHER.TXT"), Flags: abi.RENAME_EXCHANGE})
	r.must(err)
	want := []string{"A B", "ABC", "BASE.ext", "LOWER.TXT", "OTHER.TXT", "mIXED.TXT", "plain", "upper.txt"}
	for range 2 {
		res, err := r.Readdir(ctx, vfsops.ReaddirReq{Dir: r.root(), Max: 1 << 16})
		r.must(err)
		var got []string
		for _, e := range res.Entries {
			got = append(got, e.Name)
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("listed %q\nwant   %q", got, want)
		}
		r.must(r.Unmount(ctx))
		fsck(t, disk.Bytes())
		r = mountRig(t, disk, nil)
	}
	if tool, err := exec.LookPath("mdir"); err == nil {
		img := filepath.Join(t.TempDir(), "img")
		r.must(os.WriteFile(img, disk.Bytes(), 0o600))
		out, err := exec.Command(tool, "-b", "-i", img, "::").CombinedOutput()
		for _, n := range want {
			if !strings.Contains(string(out), "/"+n+"\n") {
				t.Errorf("mdir does not show %q (%v):\n%s", n, err, out)
			}
		}
	}
}

// TestFSInfo: what the FSInfo sector says is not believed, and is right after
// the next change.
func TestFSInfo(t *testing.T) {
	for name, edit := range map[string]func(b []byte){
		"free":    func(b []byte) { binary.LittleEndian.PutUint32(b[488:], 7) },
		"more":    func(b []byte) { binary.LittleEndian.PutUint32(b[488:], 1<<30) },
		"unknown": func(b []byte) { binary.LittleEndian.PutUint64(b[488:], math.MaxUint64) },
		"next":    func(b []byte) { binary.LittleEndian.PutUint32(b[492:], 1<<30) },
	} {
		t.Run(name, func(t *testing.T) {
			disk := newDisk(t, 40<<20, FormatOptions{Bits: 32, Cluster: 512})
			want, err := mountRig(t, disk, nil).Statvfs(ctx)
			if err != nil {
				t.Fatal(err)
			}
			edit(disk.Bytes()[512:])
			r := mountRig(t, disk, nil)
			if got, err := r.Statvfs(ctx); err != nil || got.Bfree != want.Bfree {
				t.Errorf("%d clusters are free, want %d: %v", got.Bfree, want.Bfree, err)
			}
			r.must(r.put(r.create(r.root(), "f"), make([]byte, 5000)))
			r.must(r.Unmount(ctx))
			fsck(t, disk.Bytes())
		})
	}
}

// TestActiveFAT: of a FAT32 without mirroring only the copy that counts is read
// and written.
func TestActiveFAT(t *testing.T) {
	disk := newDisk(t, 40<<20, FormatOptions{Bits: 32, Cluster: 512})
	img := disk.Bytes()
	binary.LittleEndian.PutUint16(img[40:], 0x81) // the second, alone
	r := mountRig(t, disk, nil)
	l := r.t.layout
	first := slices.Clone(img[l.fat:][:l.fatSize])
	for i := range first[12:] { // and the first is nonsense
		first[12+i] = byte(i)
	}
	copy(img[l.fat:], first)
	data := bytes.Repeat([]byte("active"), 1000)
	r.must(r.put(r.create(r.root(), "f"), data))
	r.must(r.Unmount(ctx))
	if !bytes.Equal(img[l.fat:][:l.fatSize], first) {
		t.Error("the other copy was written")
	}
	r = mountRig(t, disk, nil)
	if !bytes.Equal(r.get(r.lookup("f")), data) {
		t.Error("the file is not what was written")
	}
}

// TestAttributes: a file that may not be written is one with the read-only bit;
// the other bits stay as they are.
func TestAttributes(t *testing.T) {
	disk := newDisk(t, 2<<20, FormatOptions{Bits: 12})
	r := mountRig(t, disk, map[string]string{"mask": "644", "dirmask": "755", "uid": "5"})
	h := r.create(r.root(), "f")
	n := r.nodes[h.File]
	n.s.attr |= attrHidden | attrSystem
	set := func(mode uint32) abi.Vattr {
		t.Helper()
		va, err := r.Setattr(ctx, vfsops.SetattrReq{Op: r.op(), Node: h, Mask: abi.SetMode, Attr: abi.Vattr{Mode: mode}})
		r.must(err)
		return va
	}
	if va := set(0o444); va.Mode != 0o444 || va.Uid != 5 {
		t.Errorf("%o", va.Mode)
	}
	r.must(r.Unmount(ctx))
	at := n.at + 11
	if got := disk.Bytes()[at]; got != attrReadOnly|attrHidden|attrSystem|attrArchive {
		t.Errorf("attributes %#x on the disk", got)
	}
	r = mountRig(t, disk, nil)
	h = r.lookup("F")
	if va, err := r.Getattr(ctx, h); err != nil || va.Mode != 0o555 {
		t.Errorf("%o, %v", va.Mode, err)
	}
	if va := set(0o200); va.Mode != 0o755 {
		t.Errorf("%o", va.Mode)
	}
	r.must(r.Unmount(ctx))
	if got := disk.Bytes()[at]; got != attrHidden|attrSystem|attrArchive {
		t.Errorf("attributes %#x on the disk", got)
	}
}

// TestInItself: a directory that is in itself, or in two places, is there once;
// everything else can be read.
func TestInItself(t *testing.T) {
	for _, fm := range formats {
		t.Run(fm.name, func(t *testing.T) {
			disk := newDisk(t, fm.size, fm.o)
			r := mountRig(t, disk, nil)
			a := r.mkdir(r.root(), "a")
			b := r.mkdir(a, "b")
			c := r.mkdir(b, "c")
			r.must(r.put(r.create(b, "f"), []byte("whole")))
			for _, first := range []uint32{r.nodes[a.File].ch.first, r.nodes[b.File].ch.first} {
				n := r.nodes[c.File]
				n.ch.first = first
				r.must(r.store(ctx, n))
				r.must(r.Sync(ctx, abi.Handle{}, false))
				x := mountRO(t, disk)
				if got := x.get(x.lookup("a", "b", "f")); string(got) != "whole" {
					t.Errorf("%q", got)
				}
				res, err := x.Lookup(ctx, vfsops.LookupReq{Start: x.root(), Names: [][]byte{[]byte("a"), []byte("b"), []byte("c"), []byte("b")}})
				if err != nil || res.Err != abi.EIO || len(res.Trace) != 2 {
					t.Errorf("%d names, %v, %v", len(res.Trace), res.Err, err)
				}
			}
		})
	}
}
