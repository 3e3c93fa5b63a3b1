package part

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// mem is a disk in memory.
type mem struct {
	b   []byte
	sec int64
	n   int // bytes read
}

func (m *mem) Size() int64 { return int64(len(m.b)) }
func (m *mem) Sector() int64 {
	if m.sec == 0 {
		return 512
	}
	return m.sec
}
func (m *mem) ReadAt(_ context.Context, p []byte, off int64) error {
	if off < 0 || off > int64(len(m.b))-int64(len(p)) {
		return fmt.Errorf("read of %d at %d: %w", len(p), off, abi.EINVAL)
	}
	m.n += len(p)
	copy(p, m.b[off:])
	return nil
}

func tool(t *testing.T, name string) string {
	t.Helper()
	for _, dir := range []string{"", "/usr/sbin/", "/sbin/"} {
		if p, err := exec.LookPath(dir + name); err == nil {
			return p
		}
	}
	t.Skipf("%s is not installed", name)
	return ""
}

// made is a disk of size bytes that a script for sfdisk, or arguments for
// sgdisk, has partitioned.
func made(t *testing.T, size int64, script string, sgdisk ...string) (string, *mem) {
	t.Helper()
	p := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(p, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(p, size); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(tool(t, "sfdisk"), "-q", "--no-reread", "--no-tell-kernel", p)
	if sgdisk != nil {
		cmd = exec.Command(tool(t, "sgdisk"), append(sgdisk, p)...)
	}
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
	b, err := os.ReadFile(p)
	if err != nil {
		t.Fatal(err)
	}
	return p, &mem{b: b}
}

// sfdisk is what sfdisk says of an image.
func sfdisk(t *testing.T, path string) (r struct {
	Table struct {
		Label, ID  string
		Sectorsize int64
		Partitions []struct {
			Node                   string
			Start, Size            int64
			Type, UUID, Name, Attr string
			Bootable               bool
		}
	} `json:"partitiontable"`
}) {
	t.Helper()
	out, err := exec.Command(tool(t, "sfdisk"), "--json", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestLikeSfdisk: tables that Linux's tools made read as Linux's tools read them.
func TestLikeSfdisk(t *testing.T) {
	for name, script := range map[string]string{
		"gpt":      "label: gpt\nsize=1MiB, type=U, name=boot\nsize=3MiB, type=L, name=\"root ä\"\ntype=S\n",
		"gpt gaps": "label: gpt\nstart=4096, size=100, type=L\nstart=20000, size=1\nstart=9000, size=50\n",
		"gpt many": "label: gpt\ntable-length: 128\n" + strings.Repeat("size=1, type=L\n", 100),
		"mbr":      "label: dos\nlabel-id: 0x1234abcd\nsize=1MiB, type=c, bootable\nsize=2MiB, type=83\ntype=82\n",
		"logical":  "label: dos\nsize=1MiB, type=83\nsize=12MiB, type=5\nsize=1MiB, type=83\nsize=1MiB, type=82\nsize=512KiB, type=83, bootable\n",
	} {
		t.Run(name, func(t *testing.T) {
			path, d := made(t, 32<<20, script)
			want := sfdisk(t, path).Table
			got, err := Read(context.Background(), d)
			if err != nil {
				t.Fatal(err)
			}
			if len(got.Warnings) > 0 {
				t.Error(got.Warnings)
			}
			if k := map[string]string{"gpt": "gpt", "dos": "mbr"}[want.Label]; k != got.Kind {
				t.Errorf("kind %s, want %s", got.Kind, k)
			}
			if id := strings.TrimPrefix(want.ID, "0x"); !strings.EqualFold(id, got.UUID) {
				t.Errorf("id %s, want %s", got.UUID, id)
			}
			i := 0
			for _, w := range want.Partitions {
				if w.Type == "5" {
					continue
				}
				if i == len(got.Parts) {
					t.Fatalf("%+v is missing", w)
				}
				p := got.Parts[i]
				i++
				if p.Err != "" || p.Start != w.Start*want.Sectorsize || p.Size != w.Size*want.Sectorsize || p.Boot != w.Bootable ||
					!strings.HasSuffix(w.Node, strings.TrimPrefix(p.Suffix, "p")) || p.Name != w.Name {
					t.Errorf("%+v, want %+v", p, w)
				}
				if got.Kind == "gpt" && (p.UUID != w.UUID || p.TypeID != w.Type) || got.Kind == "mbr" && p.TypeID != fmt.Sprintf("0x%02s", w.Type) {
					t.Errorf("%+v, want %+v", p, w)
				}
			}
			if i != len(got.Parts) {
				t.Errorf("%d partitions, want %d", len(got.Parts), i)
			}
		})
	}
}

// TestBackup: the second copy of a GPT is used, and that is said.
func TestBackup(t *testing.T) {
	_, d := made(t, 8<<20, "", "-n1:0:+1M", "-c1:one", "-n2:0:0")
	damage := func(at int) *mem {
		b := bytes.Clone(d.b)
		b[at] ^= 1
		return &mem{b: b}
	}
	last := len(d.b) - 512
	for what, c := range map[string]struct {
		at   int
		warn string
	}{
		"header":         {512 + 30, "first table is damaged"},
		"signature":      {512, "first table is damaged"},
		"entries":        {1024 + 3, "first table is damaged"},
		"backup header":  {last + 60, "backup table is damaged"},
		"backup entries": {last - 32*512 + 5, "backup table is damaged"},
	} {
		tb, err := Read(context.Background(), damage(c.at))
		if err != nil || len(tb.Parts) != 2 || len(tb.Warnings) != 1 || !strings.Contains(tb.Warnings[0], c.warn) {
			t.Errorf("%s: %+v, %v", what, tb, err)
		}
	}
	b := bytes.Clone(d.b)
	b[512+30] ^= 1
	b[last+60] ^= 1
	if _, err := Read(context.Background(), &mem{b: b}); !errors.Is(err, abi.EFTYPE) {
		t.Errorf("both damaged: %v", err)
	}
}

// TestSectors4K: a table with sectors of 4096 bytes, on a device that has them
// and in an image that has none.
func TestSectors4K(t *testing.T) {
	_, d := made(t, 8<<20, "", "-n1:2048:4095", "-c1:one")
	big := make([]byte, 8*len(d.b)) // block i of 512 bytes becomes block i of 4096
	for i := 0; i < len(d.b); i += 512 {
		copy(big[8*i:], d.b[i:i+512])
	}
	// The entries lie together.
	for _, at := range []int{2 * 4096, len(big) - 33*4096} {
		src := 1024
		clear(big[at : at+32*4096])
		if at > 2*4096 {
			src = len(d.b) - 33*512
		}
		copy(big[at:], d.b[src:src+32*512])
	}
	for _, sec := range []int64{512, 4096} {
		tb, err := Read(context.Background(), &mem{b: big, sec: sec})
		if err != nil || len(tb.Parts) != 1 || tb.Sector != 4096 || tb.Parts[0].Start != 2048*4096 || tb.Parts[0].Size != 2048*4096 || len(tb.Warnings) > 0 {
			t.Errorf("sectors of %d: %+v, %v", sec, tb, err)
		}
	}
}

func entry(b []byte, i int, typ byte, start, size uint32) {
	e := b[446+16*i:]
	e[4] = typ
	le.PutUint32(e[8:], start)
	le.PutUint32(e[12:], size)
	b[510], b[511] = 0x55, 0xaa
}

// TestWildMBR: chains in circles, entries over each other and off the disk.
func TestWildMBR(t *testing.T) {
	read := func(d *mem) *Table {
		t.Helper()
		tb, err := Read(context.Background(), d)
		if err != nil {
			t.Fatal(err)
		}
		return tb
	}
	d := &mem{b: make([]byte, 1<<20)}
	entry(d.b, 0, 0x83, 100, 200)
	entry(d.b, 1, 0x83, 299, 10)
	entry(d.b, 2, 0x83, 2000, 49)
	entry(d.b, 3, 0x83, 0xffffffff, 0xffffffff)
	tb := read(d)
	var errs []string
	for _, p := range tb.Parts {
		errs = append(errs, p.Err)
	}
	if len(errs) != 4 || errs[0] != "" || !strings.Contains(errs[1], "overlaps partition 1") || !strings.Contains(errs[2], "behind the end") || errs[3] == "" {
		t.Errorf("%q", errs)
	}

	d = &mem{b: make([]byte, 1<<20)}
	entry(d.b, 0, 0x05, 100, 1000)
	entry(d.b[100*512:], 0, 0x83, 1, 1)
	entry(d.b[100*512:], 1, 0x05, 50, 100)
	entry(d.b[150*512:], 0, 0x83, 1, 5000)
	entry(d.b[150*512:], 1, 0x05, 50, 100) // to itself
	tb = read(d)
	if len(tb.Warnings) != 1 || !strings.Contains(tb.Warnings[0], "circle") || d.n > 200*512 {
		t.Errorf("%v after %d bytes", tb.Warnings, d.n)
	}
	if len(tb.Parts) < 2 || tb.Parts[1].Err == "" {
		t.Errorf("%+v", tb.Parts)
	}
	for what, b := range map[string][]byte{"nothing": make([]byte, 4096), "small": make([]byte, 100), "text": bytes.Repeat([]byte("hello, world\n"), 400)} {
		if _, err := Read(context.Background(), &mem{b: b}); !errors.Is(err, ErrNoTable) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestFATIsNoTable: boot sectors of file systems end like tables.
func TestFATIsNoTable(t *testing.T) {
	for _, bits := range []string{"12", "16", "32"} {
		p := filepath.Join(t.TempDir(), "fat.img")
		if out, err := exec.Command(tool(t, "mkfs.vfat"), "-C", "-F", bits, p, map[string]string{"12": "1440", "16": "20000", "32": "70000"}[bits]).CombinedOutput(); err != nil {
			t.Fatal(err, string(out))
		}
		b, _ := os.ReadFile(p)
		if tb, err := Read(context.Background(), &mem{b: b}); !errors.Is(err, ErrNoTable) {
			t.Errorf("FAT%s: %+v, %v", bits, tb, err)
		}
	}
}

// label writes a disklabel into b, with letters for a, b, ... in sectors.
func label(b []byte, parts ...[3]uint32) {
	le.PutUint32(b, labelMagic)
	copy(b[24:], "fictitious")
	le.PutUint32(b[40:], 512)
	le.PutUint32(b[132:], labelMagic)
	le.PutUint16(b[138:], uint16(len(parts)))
	for i, p := range parts {
		e := b[labelHead+16*i:]
		le.PutUint32(e[4:], p[0])
		le.PutUint32(e, p[1])
		e[12] = byte(p[2])
	}
	sum := uint16(0)
	for i := 0; i < labelHead+16*len(parts); i += 2 {
		sum ^= le.Uint16(b[i:])
	}
	le.PutUint16(b[136:], sum)
}

func TestDisklabel(t *testing.T) {
	d := &mem{b: make([]byte, 1<<20)}
	label(d.b[512:], [3]uint32{63, 1000, 7}, [3]uint32{1063, 100, 1}, [3]uint32{}, [3]uint32{0, 2048, 0}, [3]uint32{2000, 100, 200})
	tb, err := Read(context.Background(), d)
	if err != nil || tb.Kind != "disklabel" || tb.Label != "fictitious" || len(tb.Parts) != 4 {
		t.Fatalf("%+v, %v", tb, err)
	}
	if p := tb.Parts[0]; p.Suffix != "a" || p.Start != 63*512 || p.Size != 1000*512 || p.Type != "4.2BSD" || p.Err != "" {
		t.Errorf("%+v", p)
	}
	if p := tb.Parts[2]; p.Suffix != "d" || p.Err != "" {
		t.Errorf("%+v", p)
	}
	if p := tb.Parts[3]; p.Err == "" || p.Type != "type 200" {
		t.Errorf("%+v", p)
	}
	d.b[512+200] ^= 1
	if _, err := Read(context.Background(), d); !errors.Is(err, abi.EFTYPE) {
		t.Errorf("damaged: %v", err)
	}

	// In a partition, from which it may not reach out.
	d = &mem{b: make([]byte, 1<<20)}
	entry(d.b, 0, 0xa9, 64, 1000)
	label(d.b[65*512:], [3]uint32{64, 500, 7}, [3]uint32{0, 100, 7})
	tb, err = Read(context.Background(), d)
	if err != nil || len(tb.Parts) != 1 || len(tb.Inner) != 2 || tb.Inner[0].Suffix != "p1a" || tb.Inner[0].Err != "" || tb.Inner[1].Err == "" {
		t.Errorf("%+v, %v", tb, err)
	}
}

// FuzzRead: any disk is read in bounded time and space, and what gets a device
// lies on the disk. Checksums are made right, so that what they guard is read.
func FuzzRead(f *testing.F) {
	d := &mem{b: make([]byte, 16<<10)}
	entry(d.b, 0, 0x83, 1, 3)
	entry(d.b, 1, 0x05, 4, 20)
	entry(d.b[4*512:], 0, 0x83, 1, 2)
	f.Add(bytes.Clone(d.b))
	clear(d.b)
	label(d.b[512:], [3]uint32{1, 3, 7})
	f.Add(bytes.Clone(d.b))
	clear(d.b)
	h := d.b[512:]
	copy(h, "EFI PART")
	le.PutUint32(h[8:], 1<<16)
	le.PutUint32(h[12:], 92)
	le.PutUint64(h[24:], 1)
	le.PutUint64(h[32:], 31)
	le.PutUint64(h[40:], 6)
	le.PutUint64(h[48:], 30)
	le.PutUint64(h[72:], 2)
	le.PutUint32(h[80:], 4)
	le.PutUint32(h[84:], 128)
	e := d.b[1024:]
	e[0], e[32], e[40] = 1, 8, 20
	f.Add(bytes.Clone(d.b))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1<<20 {
			return
		}
		b = bytes.Clone(b)
		if len(b) > 1024 && string(b[512:520]) == "EFI PART" {
			h := b[512:]
			at, n := le.Uint64(h[72:]), uint64(le.Uint32(h[80:]))*uint64(le.Uint32(h[84:]))
			if at < uint64(len(b)/512) && n <= uint64(len(b))-at*512 {
				le.PutUint32(h[88:], crc32.ChecksumIEEE(b[at*512:][:n]))
			}
			if n := le.Uint32(h[12:]); n >= 92 && n <= 512 {
				clear(h[16:20])
				le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:n]))
			}
		}
		d := &mem{b: b}
		tb, err := Read(context.Background(), d)
		if d.n > 16<<20 {
			t.Errorf("read %d bytes of a disk of %d", d.n, len(b))
		}
		if err != nil {
			return
		}
		if len(tb.Parts)+len(tb.Inner) > MaxParts {
			t.Errorf("%d partitions", len(tb.Parts)+len(tb.Inner))
		}
		for _, p := range append(tb.Parts, tb.Inner...) {
			if p.Err == "" && (p.Start < 0 || p.Size <= 0 || p.Start+p.Size > d.Size()) {
				t.Errorf("%+v on a disk of %d", p, d.Size())
			}
			if p.Suffix == "" || len(p.Suffix) > 8 {
				t.Errorf("%+v", p)
			}
		}
	})
}
