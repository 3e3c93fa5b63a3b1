package fat_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel"
	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/plugins/dev/md"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/fat"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/tmpfs"
)

type memory []byte

func (m memory) WriteAt(p []byte, off int64) (int, error) { return copy(m[off:], p), nil }

// inKernel is FAT on a memory disk in a kernel of its own, mounted on /fat.
type inKernel struct {
	testing.TB
	*rumpclient.Client
	ctx  context.Context
	size int
}

func newKernel(t testing.TB, size int, o fat.FormatOptions) *inKernel {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	k := kernel.New(kernel.Options{Modules: []modapi.Module{tmpfs.New(), fat.New(), md.New()},
		Props: map[string]modapi.Props{"md": {"md": map[string]any{"md0": fmt.Sprint(size)}}}})
	if err := k.Boot(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Reboot(context.Background(), 0) })
	c, err := k.Client("test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Exit() })
	img := make(memory, size)
	if err := fat.Format(img, int64(size), o); err != nil {
		t.Fatal(err)
	}
	r := &inKernel{t, c, ctx, size}
	r.device(img, true)
	r.must(c.Mkdir(ctx, "/fat", 0o755))
	r.mount()
	return r
}

func (r *inKernel) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

// device reads or writes the whole of the disk.
func (r *inKernel) device(p []byte, write bool) {
	r.Helper()
	fd, err := r.Open(r.ctx, "/dev/rmd0", abi.O_RDWR, 0)
	r.must(err)
	defer r.Close(r.ctx, fd)
	for off := 0; off < len(p); {
		part := p[off:min(off+64<<10, len(p))]
		var n int
		if write {
			n, err = r.Pwrite(r.ctx, fd, part, int64(off))
		} else {
			n, err = r.Pread(r.ctx, fd, part, int64(off))
		}
		r.must(err)
		off += n
	}
}

func (r *inKernel) mount() {
	r.Helper()
	r.must(r.Mount(r.ctx, "msdos", "/fat", 0, "/dev/md0", nil))
}

// fsck unmounts, has fsck.vfat look, and mounts again.
func (r *inKernel) fsck() {
	r.Helper()
	r.must(r.Unmount(r.ctx, "/fat", 0))
	if tool, err := exec.LookPath("fsck.vfat"); err == nil {
		img := make([]byte, r.size)
		r.device(img, false)
		path := filepath.Join(r.TempDir(), "img")
		r.must(os.WriteFile(path, img, 0o600))
		if out, err := exec.Command(tool, "-n", "-V", path).CombinedOutput(); err != nil {
			r.Fatalf("fsck.vfat: %v\n%s", err, out)
		}
	}
	r.mount()
}

// seed is RUMPUS_SEED, or 1.
func seed() uint64 {
	n, err := strconv.ParseUint(os.Getenv("RUMPUS_SEED"), 10, 64)
	if err != nil {
		return 1
	}
	return n
}

// TestSpace fills file systems by writes that stay in the page cache, truncation
// and directories: ENOSPC comes at the call that there is no space for and at no
// other, statvfs says what is left, and what was accepted can be written back.
func TestSpace(t *testing.T) {
	for _, fm := range []struct {
		name  string
		size  int
		o     fat.FormatOptions
		most  int // bytes of a write
		steps int
	}{
		{"tiny", 160 << 10, fat.FormatOptions{Bits: 12, Cluster: 512}, 40000, 300},
		{"small", 1 << 20, fat.FormatOptions{Bits: 12, Cluster: 4096}, 200000, 250},
		{"large clusters", 6 << 20, fat.FormatOptions{Bits: 12, Cluster: 32 << 10}, 1 << 20, 300},
		{"plenty", 48 << 20, fat.FormatOptions{Bits: 32, Cluster: 512}, 6 << 20, 80},
	} {
		t.Run(fm.name, func(t *testing.T) {
			r := newKernel(t, fm.size, fm.o)
			rnd := rand.New(rand.NewPCG(uint64(fm.size), seed()))
			st, err := r.Statvfs(r.ctx, "/fat")
			r.must(err)
			unit := int64(st.Frsize)
			clusters := func(n int64) int64 { return (n + unit - 1) / unit }
			free := int64(st.Bfree)
			files := make([][]byte, 5) // nil: there is none
			name := func(i int) string { return fmt.Sprintf("/fat/F%d", i) }
			fds := map[int]int{} // open, so that pages stay dirty
			shut := func(n int) {
				if fd, ok := fds[n]; ok {
					r.must(r.Close(r.ctx, fd))
					delete(fds, n)
				}
			}
			dirs, full := 0, 0
			enough := func(i int, err error, grow int64, what string) bool {
				t.Helper()
				if grow <= free {
					if err != nil {
						t.Fatalf("step %d: %s of %d clusters, %d are free: %v", i, what, grow, free, err)
					}
					free -= grow
					return true
				}
				if !errors.Is(err, abi.ENOSPC) {
					t.Fatalf("step %d: %s of %d clusters, %d are free: %v", i, what, grow, free, err)
				}
				full++
				return false
			}
			for i := range fm.steps {
				n := rnd.IntN(len(files))
				switch op := rnd.IntN(20); {
				case op < 11: // write
					fd, ok := fds[n]
					if !ok {
						fd, err = r.Open(r.ctx, name(n), abi.O_RDWR|abi.O_CREAT, 0o644)
						r.must(err)
						fds[n] = fd
					}
					old := files[n]
					size := int64(len(old))
					off := size
					if rnd.IntN(3) == 0 {
						off = rnd.Int64N(size + 3*unit)
					}
					p := bytes.Repeat([]byte{byte(i)}, 1+rnd.IntN(fm.most))
					got, err := r.Pwrite(r.ctx, fd, p, off)
					end := max(size, off+int64(len(p)))
					if room := (clusters(size) + free) * unit; end > room && room > off {
						// As much as there is space for.
						if err != nil || int64(got) != room-off {
							t.Fatalf("step %d: wrote %d bytes at %d, there is room to %d: %v", i, got, off, room, err)
						}
						full++
						end = room
					} else if grow := clusters(end) - clusters(size); grow > free {
						enough(i, err, grow, "write")
						end, got = size, 0
					} else if err != nil || got != len(p) {
						t.Fatalf("step %d: wrote %d of %d bytes at %d, %d clusters are free: %v", i, got, len(p), off, free, err)
					}
					free -= clusters(end) - clusters(size)
					if files[n] = append(old, make([]byte, end-size)...); files[n] == nil {
						files[n] = []byte{}
					}
					copy(files[n][min(off, end):], p[:got])
				case op < 14: // truncate
					if files[n] == nil {
						continue
					}
					size := int64(len(files[n]))
					to := rnd.Int64N(size + int64(fm.most))
					err := r.Truncate(r.ctx, name(n), to)
					if enough(i, err, clusters(to)-clusters(size), "truncate") {
						files[n] = append(files[n], make([]byte, max(to-size, 0))...)[:to]
					}
				case op < 16:
					if files[n] != nil {
						shut(n)
						r.must(r.Unlink(r.ctx, name(n)))
						free += clusters(int64(len(files[n])))
						files[n] = nil
					}
				case op == 16:
					if fd, ok := fds[n]; ok && rnd.IntN(2) == 0 {
						r.must(r.Fsync(r.ctx, fd))
					} else {
						shut(n)
					}
				case op == 17:
					r.must(r.Sync(r.ctx))
				case op == 18 && dirs < 8:
					if enough(i, r.Mkdir(r.ctx, fmt.Sprintf("/fat/D%d", dirs), 0o755), 1, "mkdir") {
						dirs++
					}
				case op == 19 && dirs > 0:
					dirs--
					r.must(r.Rmdir(r.ctx, fmt.Sprintf("/fat/D%d", dirs)))
					free++
				}
				// Writing behind goes on meanwhile: what was granted and is not
				// promised any more is on its way back for a moment, the last part
				// of a page until the next is spent.
				for {
					st, err := r.Statvfs(r.ctx, "/fat")
					if less := free - int64(st.Bfree); err == nil && less >= 0 && less*unit < abi.PageSize {
						break
					}
					if err != nil || r.ctx.Err() != nil || int64(st.Bfree) > free {
						t.Fatalf("step %d: %d clusters are free, statvfs says %d, %v", i, free, st.Bfree, err)
					}
				}
			}
			if full == 0 {
				t.Error("it was never full")
			}
			for n := range files {
				shut(n)
			}
			r.fsck()
			for i, want := range files {
				got, err := r.ReadFile(r.ctx, name(i))
				if want == nil {
					if !errors.Is(err, abi.ENOENT) {
						t.Errorf("%s: %v", name(i), err)
					}
				} else if err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s: %d bytes are not the %d written: %v", name(i), len(got), len(want), err)
				}
			}
			if st, err := r.Statvfs(r.ctx, "/fat"); err != nil || int64(st.Bfree) != free {
				t.Errorf("%d clusters are free, the next mount says %d, %v", free, st.Bfree, err)
			}
		})
	}
}

// TestSpelling: in the kernel names are found in any case, whatever it has cached
// of them, and a rename changes the spelling.
func TestSpelling(t *testing.T) {
	r := newKernel(t, 1<<20, fat.FormatOptions{Bits: 12})
	r.must(r.WriteFile(r.ctx, "/fat/Letter.txt", []byte("dear"), 0o644))
	r.must(r.Mkdir(r.ctx, "/fat/Box", 0o755))
	r.must(r.WriteFile(r.ctx, "/fat/box/x", []byte("in it"), 0o644))
	spelt := func(want ...string) {
		t.Helper()
		ents, err := r.ReadDir(r.ctx, "/fat")
		r.must(err)
		var got []string
		for _, e := range ents {
			if n := e.Name; n != "." && n != ".." {
				got = append(got, n)
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("listed %q, want %q", got, want)
		}
	}
	spelt("Box", "Letter.txt")
	for _, n := range []string{"LETTER.TXT", "letter.txt", "Letter.Txt", "lETTER.tXT"} {
		r.must(r.Rename(r.ctx, "/fat/letteR.txt", "/fat/"+n))
		spelt("Box", n)
		for _, m := range []string{"letter.txt", "LETTER.TXT", "Letter.txt"} {
			if got, err := r.ReadFile(r.ctx, "/fat/"+m); err != nil || string(got) != "dear" {
				t.Errorf("%s: %q, %v", m, got, err)
			}
		}
	}
	r.must(r.Rename(r.ctx, "/fat/Box", "/fat/bOX"))
	spelt("bOX", "lETTER.tXT")
	if got, err := r.ReadFile(r.ctx, "/fat/BOX/X"); err != nil || string(got) != "in it" {
		t.Errorf("%q, %v", got, err)
	}
	r.fsck()
	spelt("bOX", "lETTER.tXT")
	r.must(r.Rename(r.ctx, "/fat/LETTER.TXT", "/fat/box/other"))
	for _, n := range []string{"letter.txt", "lETTER.tXT"} {
		if _, err := r.Stat(r.ctx, "/fat/"+n); !errors.Is(err, abi.ENOENT) {
			t.Errorf("%s is still there: %v", n, err)
		}
	}
	// A file may be as long as 4 GiB - 1, whatever space there is.
	fd, err := r.Open(r.ctx, "/fat/long", abi.O_RDWR|abi.O_CREAT, 0o644)
	r.must(err)
	if _, err := r.Pwrite(r.ctx, fd, []byte("x"), 1<<32-1); !errors.Is(err, abi.EFBIG) {
		t.Errorf("a byte at 4 GiB - 1: %v", err)
	}
	if _, err := r.Pwrite(r.ctx, fd, []byte("x"), 1<<32-2); !errors.Is(err, abi.ENOSPC) {
		t.Errorf("a byte at 4 GiB - 2: %v", err)
	}
	if st, err := r.Stat(r.ctx, "/fat/long"); err != nil || st.Size != 0 {
		t.Errorf("%d bytes, %v", st.Size, err)
	}
	r.must(r.Close(r.ctx, fd))
}
