package fat

import (
	"bytes"
	"errors"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/modtest"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

func TestNames(t *testing.T) {
	for name, want := range map[string]abi.Errno{
		"a": 0, "a b": 0, "ÄÖ ü": 0, ".profile": 0, "a.b.c": 0, "日本語": 0, strings.Repeat("x", 255): 0,
		"a.": abi.EINVAL, "a ": abi.EINVAL, "": abi.EINVAL, "a:b": abi.EINVAL, `a\b`: abi.EINVAL, "a\x01": abi.EINVAL, "\xff": abi.EINVAL,
		"what?": abi.EINVAL, strings.Repeat("日", 85): 0,
	} {
		if _, err := checkName([]byte(name)); abi.ErrnoOf(err) != want {
			t.Errorf("%q: %v, want %v", name, err, want)
		}
	}
	taken, low := map[[11]byte]bool{}, map[tail]int{}
	for range 12 {
		sn, err := makeShort("A long name.text", low, func(s [11]byte) bool { return taken[s] })
		if err != nil || taken[sn] {
			t.Fatal(sn, err)
		}
		taken[sn] = true
	}
	for _, want := range []string{"ALONGN~1TEX", "ALONGN~9TEX", "ALONG~10TEX"} {
		if !taken[[11]byte([]byte(want))] {
			t.Errorf("%s was not made", want)
		}
	}
	for sn, want := range map[string]string{"README  TXT": "README.TXT", "A          ": "A", "\x05BC     D  ": "σBC.D"} {
		if got := shortName([11]byte([]byte(sn)), 0); got != want {
			t.Errorf("%q is %q, want %q", sn, got, want)
		}
	}
	if got := shortName([11]byte([]byte("README  TXT")), ntLowerBase); got != "readme.TXT" {
		t.Errorf("%q", got)
	}
}

func TestTimes(t *testing.T) {
	o := options{gmtoff: 3600}
	for _, sec := range []int64{315532800, 1700000001, 4354815598} {
		ts := abi.Timespec{Sec: sec, Nsec: 120e6}
		if got := o.fromFat(o.toFat(ts)); got != ts {
			t.Errorf("%v comes back as %v", ts, got)
		}
	}
	for ts, want := range map[int64]int64{0: 315532800 - 3600, math.MaxUint32 * 4: 4354819199 - 3600} {
		if got := o.fromFat(o.toFat(abi.Timespec{Sec: ts})); got.Sec != want {
			t.Errorf("%d is kept as %d, want %d", ts, got.Sec, want)
		}
	}
	if got := o.fromFat(fatTime{}); got != (abi.Timespec{}) {
		t.Errorf("no date is %v", got)
	}
}

// TestFull: a disk and a root directory that are full say so and stay whole.
func TestFull(t *testing.T) {
	for _, fm := range formats {
		t.Run(fm.name, func(t *testing.T) {
			r := mountRig(t, newDisk(t, fm.size, fm.o), nil)
			h := r.create(r.root(), "big")
			big := make([]byte, fm.size)
			if err := r.put(h, big); !errors.Is(err, abi.ENOSPC) {
				t.Fatalf("a file as large as the device: %v", err)
			}
			st, err := r.Statvfs(ctx)
			r.must(err)
			_, err = r.Truncate(ctx, r.op(), h, int64(st.Bfree*st.Frsize))
			r.must(err)
			if _, err := r.Truncate(ctx, r.op(), h, int64(st.Bfree*st.Frsize)+1); !errors.Is(err, abi.ENOSPC) {
				t.Fatalf("one byte more: %v", err)
			}
			if _, err := r.Mkdir(ctx, vfsops.CreateReq{Op: r.op(), Dir: r.root(), Name: []byte("d")}); !errors.Is(err, abi.ENOSPC) {
				t.Fatalf("mkdir: %v", err)
			}
			r.check()
			if _, err := r.Truncate(ctx, r.op(), h, 1<<32); !errors.Is(err, abi.EFBIG) {
				t.Fatalf("4 GiB: %v", err)
			}
			_, err = r.Truncate(ctx, r.op(), h, 0)
			r.must(err)
			made := 0
			for i := range 700 {
				_, err := r.Create(ctx, vfsops.CreateReq{Op: r.op(), Dir: r.root(), Name: []byte(name(i)), Mode: 0o644})
				if errors.Is(err, abi.ENOSPC) && fm.o.Bits != 32 {
					break
				}
				r.must(err)
				made++
			}
			if made < 100 {
				t.Errorf("%d files in the root", made)
			}
			r.check()
		})
	}
}

// TestSlack: what was on the disk before is not in a file that grows.
func TestSlack(t *testing.T) {
	disk := newDisk(t, 2<<20, FormatOptions{Bits: 12})
	r := mountRig(t, disk, nil)
	l := r.t
	for i := l.data; i < int64(len(disk.Bytes())); i++ {
		disk.Bytes()[i] = 0xee
	}
	h := r.create(r.root(), "f")
	r.must(r.put(h, []byte("abc")))
	_, err := r.Truncate(ctx, r.op(), h, 20000)
	r.must(err)
	want := append([]byte("abc"), make([]byte, 19997)...)
	if !bytes.Equal(r.get(h), want) {
		t.Error("a file that was made longer is not zeroes")
	}
	r.must(r.Sync(ctx, abi.Handle{}, false))
	r2 := mountRig(t, disk, nil)
	if !bytes.Equal(r2.get(r2.lookup("F")), want) {
		t.Error("nor is it for the next mount")
	}
	page := bytes.Repeat([]byte("p"), 4096)
	r.must(r.WritePages(ctx, r.op(), h, 40960, abi.IovOf(page), 40960+10))
	want = append(append(want, make([]byte, 20960)...), page[:10]...)
	if !bytes.Equal(r.get(h), want) {
		t.Error("nor what is in front of a write behind the end")
	}
}

// TestMtools has the tools of others read what is written here, and the other
// way round.
func TestMtools(t *testing.T) {
	for _, tool := range []string{"mcopy", "mdir", "mkfs.vfat"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("no %s (Debian packages mtools, dosfstools)", tool)
		}
	}
	for _, bits := range []string{"12", "16", "32"} {
		t.Run("FAT"+bits, func(t *testing.T) {
			dir := t.TempDir()
			img := filepath.Join(dir, "img")
			size := map[string]int64{"12": 1440 << 10, "16": 20 << 20, "32": 64 << 20}[bits]
			if err := os.WriteFile(img, make([]byte, size), 0o600); err != nil {
				t.Fatal(err)
			}
			run := func(name string, args ...string) string {
				t.Helper()
				out, err := exec.Command(name, args...).CombinedOutput()
				if err != nil {
					t.Fatalf("%s %q: %v\n%s", name, args, err, out)
				}
				return string(out)
			}
			run("mkfs.vfat", "-F", bits, "-n", "LABEL", img)
			data := bytes.Repeat([]byte("from the host "), 3000)
			src := filepath.Join(dir, "A file of the host.txt")
			if err := os.WriteFile(src, data, 0o600); err != nil {
				t.Fatal(err)
			}
			run("mmd", "-i", img, "::/Some directory")
			run("mcopy", "-i", img, src, "::/Some directory/")
			p, err := os.ReadFile(img)
			if err != nil {
				t.Fatal(err)
			}
			disk := modtest.NewRAM(size, 512)
			copy(disk.Bytes(), p)
			r := mountRig(t, disk, nil)
			if got := r.get(r.lookup("some DIRECTORY", "a file of the host.TXT")); !bytes.Equal(got, data) {
				t.Errorf("%d bytes are not what mcopy wrote", len(got))
			}
			ours := bytes.Repeat([]byte("from the kernel "), 2000)
			r.must(r.put(r.create(r.lookup("Some directory"), "Unser Märchen.txt"), ours))
			r.check()
			if err := os.WriteFile(img, disk.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
			if out := run("mdir", "-i", img, "::/Some directory"); !strings.Contains(out, "A file of the host.txt") {
				t.Errorf("mdir: %s", out)
			}
			to := filepath.Join(dir, "out")
			run("mcopy", "-i", img, "::/Some directory/UNSER*", to)
			if got, err := os.ReadFile(to); err != nil || !bytes.Equal(got, ours) {
				t.Errorf("mcopy: %d bytes, %v", len(got), err)
			}
		})
	}
}
