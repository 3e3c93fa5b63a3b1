package probe

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

type mem struct {
	b []byte
	n int
}

func (m *mem) Size() int64   { return int64(len(m.b)) }
func (m *mem) Sector() int64 { return 512 }
func (m *mem) ReadAt(_ context.Context, p []byte, off int64) error {
	if off < 0 || off > int64(len(m.b))-int64(len(p)) {
		return fmt.Errorf("read of %d at %d: %w", len(p), off, abi.EINVAL)
	}
	m.n += len(p)
	copy(p, m.b[off:])
	return nil
}

func tool(name string) string {
	for _, dir := range []string{"", "/usr/sbin/", "/sbin/"} {
		if p, err := exec.LookPath(dir + name); err == nil {
			return p
		}
	}
	return ""
}

// TestLikeBlkid: what Linux's tools make is what blkid says it is.
func TestLikeBlkid(t *testing.T) {
	blkid := tool("blkid")
	if blkid == "" {
		t.Skip("blkid is not installed")
	}
	dir := t.TempDir()
	seen := map[string]bool{}
	for _, c := range []struct {
		mib  int64
		args string // with FILE and DIR
	}{
		{8, "mke2fs -q -F -t ext2 -L two FILE"}, {16, "mke2fs -q -F -t ext3 -L three FILE"}, {16, "mke2fs -q -F -t ext4 -L four FILE"},
		{16, "mke2fs -q -F -t ext4 -O ^has_journal,64bit -b 4096 FILE"}, {8, "mke2fs -q -F -r 1 -t ext4 -O journal_dev FILE"},
		{2, "mkfs.vfat -F 12 -n TWELVE FILE"}, {40, "mkfs.vfat -F 16 -n SIXTEEN FILE"}, {80, "mkfs.vfat -F 32 -i cafe1234 FILE"},
		{4, "mkswap -q -L swapper FILE"}, {32, "cryptsetup --disable-locks luksFormat -q --type luks2 --label secret --pbkdf pbkdf2 --pbkdf-force-iterations 1000 FILE KEY"},
		{8, "cryptsetup --disable-locks luksFormat -q --type luks1 --pbkdf-force-iterations 1000 FILE KEY"},
		{8, "sgdisk -n1:0:0 FILE"}, {8, "sfdisk -q FILE"},
		{0, "mksquashfs DIR FILE -quiet -no-progress"}, {0, "xorriso -as mkisofs -quiet -J -V MYDISC -o FILE DIR"}, {0, "mkfs.erofs FILE DIR"},
		{512, "mkfs.xfs -q -L exfs FILE"}, {128, "mkfs.btrfs -q -L butter FILE"}, {64, "mkfs.f2fs -q -l flash FILE"}, {4, "mkfs.ntfs -Q -F -q FILE"}, {4, "mkfs.exfat FILE"},
		{1, "truncate -s 1M FILE"},
	} {
		f := strings.Fields(c.args)
		prog := tool(f[0])
		if prog == "" {
			t.Logf("%s is not installed", f[0])
			continue
		}
		p := filepath.Join(dir, "img")
		os.Remove(p)
		if c.mib > 0 {
			if err := os.WriteFile(p, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(p, c.mib<<20); err != nil {
				t.Fatal(err)
			}
		}
		src := filepath.Join(dir, "src")
		os.MkdirAll(src, 0o755)
		os.WriteFile(filepath.Join(src, "a"), []byte("hello"), 0o644)
		key := filepath.Join(dir, "key")
		os.WriteFile(key, []byte("secret"), 0o600)
		for i, a := range f {
			f[i] = map[string]string{"FILE": p, "DIR": src, "KEY": key}[a]
			if f[i] == "" {
				f[i] = a
			}
		}
		cmd := exec.Command(prog, f[1:]...)
		cmd.Stdin = strings.NewReader("label: dos\ntype=83\n")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", c.args, err, out)
			continue
		}
		want := map[string]string{}
		out, _ := exec.Command(blkid, "-p", "-o", "export", p).Output()
		for l := range strings.Lines(string(out)) {
			k, v, _ := strings.Cut(strings.TrimSpace(l), "=")
			want[k] = strings.ReplaceAll(v, `\ `, " ")
		}
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		d := &mem{b: b}
		r, err := Probe(context.Background(), d)
		if err != nil {
			t.Errorf("%s: %v", c.args, err)
			continue
		}
		typ, id := want["TYPE"], want["UUID"]
		if typ == "" {
			typ, id = want["PTTYPE"], want["PTUUID"]
		}
		if r.Type != typ || !strings.EqualFold(r.UUID, id) && typ != "iso9660" && typ != "jbd" || r.Label != want["LABEL"] {
			t.Errorf("%s: %+v, blkid says %v", c.args, r, want)
		}
		if v := want["VERSION"]; v != "" && r.Version != v {
			t.Errorf("%s: version %q, blkid says %v", c.args, r.Version, want)
		}
		if d.n > 1<<20 {
			t.Errorf("%s: read %d bytes", c.args, d.n)
		}
		if r.Size > int64(len(b)) || typ == "" && r.Kind != Blank {
			t.Errorf("%s: %+v of %d bytes", c.args, r, len(b))
		}
		seen[r.Type] = true
	}
	if len(seen) < 4 {
		t.Errorf("only %v was tried", seen)
	}
}

func TestState(t *testing.T) {
	b := make([]byte, 8192)
	copy(b[1024+56:], "\x53\xef\x01\x00")
	get := func() string {
		r, err := Probe(context.Background(), &mem{b: b})
		if err != nil || r.Type != "ext2" && r.Type != "ext3" {
			t.Fatal(r, err)
		}
		return r.State
	}
	if s := get(); s != "clean" {
		t.Error(s)
	}
	b[1024+58] = 3
	if s := get(); s != "has errors" {
		t.Error(s)
	}
	b[1024+58] = 0
	if s := get(); s != "not cleanly unmounted" {
		t.Error(s)
	}
	b[1024+96] = 4
	if s := get(); s != "needs recovery" {
		t.Error(s)
	}
}

// FuzzProbe: any device is named in a few bounded reads, with a name that can
// be printed.
func FuzzProbe(f *testing.F) {
	for _, m := range []struct {
		at int
		s  string
	}{{0, "LUKS\xba\xbe\x00\x02"}, {0, "XFSB\x00\x00\x10\x00"}, {1024 + 56, "\x53\xef"}, {32769, "CD001"}, {4086, "SWAPSPACE2"}, {0, "hsqs"},
		{0, "QFI\xfb"}, {3, "NTFS    "}, {510, "\x55\xaa"}, {1024, "\x10\x20\xf5\xf2"}, {0x10040, "_BHRfS_M"}, {4096, "\xfc\x4e\x2b\xa9\x01\x00\x00\x00"}} {
		b := make([]byte, headSize)
		copy(b[m.at:], m.s)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d := &mem{b: b}
		r, err := Probe(context.Background(), d)
		if err != nil {
			t.Fatal(err)
		}
		if r.Kind == "" || r.Size < 0 || d.n > 8<<20 || len(r.String()) > 4096 || bytes.ContainsFunc([]byte(r.Label+r.UUID), func(c rune) bool { return c < ' ' }) {
			t.Errorf("%+v after %d bytes", r, d.n)
		}
	})
}
