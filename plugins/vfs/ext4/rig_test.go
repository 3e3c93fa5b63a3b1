package ext4

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	"github.com/rumpus-kernel/rumpus/modapi/modtest"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

var ctx = context.Background()

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tool finds a program of e2fsprogs.
func tool(t testing.TB, name string) string {
	t.Helper()
	for _, dir := range []string{"", "/sbin/", "/usr/sbin/"} {
		if p, err := exec.LookPath(dir + name); err == nil {
			return p
		}
	}
	t.Skipf("no %s (Debian package e2fsprogs)", name)
	return ""
}

// tempDir is a directory for images, in memory if the machine has that: e2fsprogs
// sync what they write.
func tempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "rumpus-ext4-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// mkfs makes an image in memory.
func mkfs(t testing.TB, size int64, args ...string) *modtest.RAM {
	t.Helper()
	path := filepath.Join(tempDir(t), "img")
	f, err := os.Create(path)
	if err == nil {
		err = f.Truncate(size)
		f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	args = append([]string{"-q", "-F", "-U", "6b16ae4e-2ef3-4ae0-a6a5-3a6a2a3b5ce1", "-E", "hash_seed=6b16ae4e-2ef3-4ae0-a6a5-3a6a2a3b5ce1,nodiscard"}, args...)
	if out, err := exec.Command(tool(t, "mke2fs"), append(args, path)...).CombinedOutput(); err != nil {
		t.Fatalf("mke2fs %q: %v\n%s", args, err, out)
	}
	p, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r := modtest.NewRAM(size, 512)
	copy(r.Bytes(), p)
	return r
}

// rig is a mount.
type rig struct {
	testing.TB
	*FS
	dev devops.BlockIO
	seq abi.OpSeq
	rt  abi.Handle
}

type testLog struct{ testing.TB }

func (l testLog) Debug(msg string, kv ...any) {}
func (l testLog) Info(msg string, kv ...any)  {}
func (l testLog) Warn(msg string, kv ...any)  { l.Log(append([]any{msg}, kv...)...) }
func (l testLog) Error(msg string, kv ...any) { l.Log(append([]any{msg}, kv...)...) }

func mountRig(t testing.TB, dev devops.BlockIO, ro bool) *rig {
	t.Helper()
	r := &rig{TB: t, dev: dev}
	var err error
	if r.FS, err = open(ctx, dev, options{}, &vfsops.MountReq{Fsid: 7, Op: r.op(), ReadOnly: ro}, modapi.NoStore{}, testLog{t}); err != nil {
		t.Fatal(err)
	}
	e, err := r.Root(ctx)
	if err != nil {
		t.Fatal(err)
	}
	r.rt = e.Handle
	return r
}

func (r *rig) op() vfsops.Op {
	r.seq++
	return vfsops.Op{Seq: r.seq, Now: abi.Timespec{Sec: 1700000000 + int64(r.seq), Nsec: 120e6}, Caller: abi.KernelCaller}
}

func (r *rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

func (r *rig) get(h abi.Handle) []byte {
	r.Helper()
	v, err := r.Getattr(ctx, h)
	r.must(err)
	p := make([]byte, v.Size)
	for n := 0; n < len(p); {
		k, err := r.Read(ctx, h, int64(n), abi.IovOf(p[n:]))
		r.must(err)
		if k == 0 {
			r.Fatalf("%d bytes of %d", n, len(p))
		}
		n += k
	}
	return p
}

func (r *rig) lookup(path string) vfsops.Entry {
	r.Helper()
	req := vfsops.LookupReq{Start: r.rt}
	for _, n := range strings.Split(path, "/") {
		req.Names = append(req.Names, []byte(n))
	}
	res, err := r.Lookup(ctx, req)
	if err != nil || res.Err != 0 || len(res.Trace) != len(req.Names) {
		r.Fatalf("lookup %q: %d, %v, %v", path, len(res.Trace), res.Err, err)
	}
	return res.Trace[len(req.Names)-1]
}

func (r *rig) names(h abi.Handle) []string {
	r.Helper()
	var ns []string
	for cookie := uint64(0); ; {
		res, err := r.Readdir(ctx, vfsops.ReaddirReq{Dir: h, Cookie: cookie, Max: 2000})
		r.must(err)
		for _, e := range res.Entries {
			ns = append(ns, e.Name)
			if e.Cookie <= cookie {
				r.Fatalf("cookie %d behind %d", e.Cookie, cookie)
			}
			cookie = e.Cookie
		}
		if res.EOF {
			return ns
		}
	}
}

// fsck has e2fsck look at an image, which it must find whole.
func fsck(t testing.TB, image []byte) {
	t.Helper()
	dir := tempDir(t)
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "img")
	if err := os.WriteFile(path, image, 0o600); err != nil {
		t.Fatal(err)
	}
	// The journal first, if there is something in it: -n alone looks past it.
	if out, err := exec.Command(tool(t, "e2fsck"), "-y", "-E", "journal_only", path).CombinedOutput(); err != nil {
		t.Fatalf("e2fsck of the journal: %v\n%s", err, out)
	}
	if out, err := exec.Command(tool(t, "e2fsck"), "-fn", path).CombinedOutput(); err != nil {
		if keep := os.Getenv("EXT4_KEEP"); keep != "" {
			os.WriteFile(keep, image, 0o600)
		}
		t.Fatalf("e2fsck: %v\n%s", err, out)
	}
}

// layouts are what file systems are made with.
var layouts = []struct {
	name    string
	size    int64
	args    []string
	journal bool
}{
	{"ext4", 32 << 20, []string{"-t", "ext4", "-b", "4096"}, true},
	{"ext4-1k", 24 << 20, []string{"-t", "ext4", "-b", "1024", "-J", "size=4"}, true},
	{"ext4-nojournal", 16 << 20, []string{"-t", "ext4", "-b", "1024", "-O", "^has_journal"}, false},
	{"ext4-2k", 24 << 20, []string{"-t", "ext4", "-b", "2048", "-O", "^64bit,^flex_bg"}, true},
	{"uninit_bg", 24 << 20, []string{"-t", "ext4", "-b", "1024", "-O", "^metadata_csum,uninit_bg"}, true},
	{"ext3", 24 << 20, []string{"-t", "ext3", "-b", "1024"}, true},
	{"ext2", 16 << 20, []string{"-t", "ext2", "-b", "1024", "-I", "128", "-O", "^dir_index"}, false},
	{"ext2-4k", 16 << 20, []string{"-t", "ext2", "-b", "4096"}, false},
}

// TestRead reads what mke2fs wrote from a tree.
func TestRead(t *testing.T) {
	src := tempDir(t)
	write := func(name string, p []byte) {
		if err := os.WriteFile(filepath.Join(src, name), p, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	big := bytes.Repeat([]byte("0123456789abcdef\n"), 40000)
	write("big", big)
	write("empty", nil)
	if err := os.MkdirAll(filepath.Join(src, "d/e"), 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range 500 {
		write(fmt.Sprintf("d/e/file-%d", i), []byte(fmt.Sprint(i)))
	}
	os.Symlink("short", filepath.Join(src, "fast"))
	long := strings.Repeat("x/", 100)
	os.Symlink(long, filepath.Join(src, "slow"))
	sparse, err := os.Create(filepath.Join(src, "sparse"))
	if err == nil {
		sparse.WriteAt([]byte("end"), 5<<20)
		sparse.Close()
	}
	for _, l := range layouts {
		t.Run(l.name, func(t *testing.T) {
			disk := mkfs(t, l.size, append(l.args, "-d", src)...)
			r := mountRig(t, disk, true)
			if got := r.get(r.lookup("big").Handle); !bytes.Equal(got, big) {
				t.Errorf("%d bytes are not the %d", len(got), len(big))
			}
			if got := r.get(r.lookup("sparse").Handle); len(got) != 5<<20+3 || string(got[5<<20:]) != "end" || bytes.Count(got, []byte{0}) != 5<<20 {
				t.Error("the sparse file is another")
			}
			for name, want := range map[string]string{"fast": "short", "slow": long} {
				if got, err := r.Readlink(ctx, r.lookup(name).Handle); err != nil || string(got) != want {
					t.Errorf("%s: %q, %v", name, got, err)
				}
			}
			for i := range 500 {
				if got := r.get(r.lookup(fmt.Sprintf("d/e/file-%d", i)).Handle); string(got) != fmt.Sprint(i) {
					t.Errorf("file %d has %q", i, got)
				}
			}
			if n := len(r.names(r.lookup("d/e").Handle)); n != 500 {
				t.Errorf("%d names", n)
			}
			r.must(r.Unmount(ctx))
		})
	}
}
