package vfs

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/tmpfs"
)

// This file has many files on a tmpfs in the same process. RUMPUS_LONG makes it
// a million of them, and ten million made and removed.

// scaleKernel is what the module sees.
type scaleKernel struct {
	modapi.Kernel
	fs *VFS
}

func (k scaleKernel) AttachFS(name string, t vfsops.FSType, c vfsops.Caps) error {
	return k.fs.AttachFS("vfs", name, t, c)
}

func (k scaleKernel) Store(id abi.Fsid) modapi.Store { return k.fs.Store("vfs", id) }

// scaleRig makes a VFS with a tmpfs that has the options.
func scaleRig(t *testing.T, opts map[string]string) *VFS {
	t.Helper()
	fs := New(Options{MemLimit: 64 << 20})
	fs.SetAvailable(true)
	if err := tmpfs.New().Init(ctx, scaleKernel{fs: fs}, modapi.Fresh, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := fs.Mount(ctx, su(), MountArgs{Type: "tmpfs", Dir: "/", Options: opts}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := fs.UnmountAll(ctx); err != nil {
			t.Error(err)
		}
		fs.Settle()
	})
	return fs
}

// scale is how many files a test makes.
func scale(quick, long int) int {
	switch {
	case os.Getenv("RUMPUS_LONG") != "":
		return long
	case raceEnabled || testing.Short():
		return quick / 5
	}
	return quick
}

// live is how much memory is in use after the collector went round.
func live(fs *VFS) int64 {
	fs.Settle()
	var m runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func touchFile(fs *VFS, path string) error {
	f, err := fs.Open(ctx, su(), path, abi.O_CREAT|abi.O_EXCL|abi.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return f.Release(ctx)
}

// TestScaleFiles: what an empty file takes in the kernel and the file system
// together is bounded, and given back.
func TestScaleFiles(t *testing.T) {
	n := scale(100_000, 1_000_000)
	fs := scaleRig(t, map[string]string{"nodes": fmt.Sprint(n + 10)})
	before := live(fs)
	for i := range n {
		if err := touchFile(fs, fmt.Sprintf("/file%07d", i)); err != nil {
			t.Fatal(i, err)
		}
	}
	full := live(fs)
	each := (full - before) / int64(n)
	t.Logf("%d files, %d bytes each, %d vnodes", n, each, fs.Vnodes())
	if each > 1500 {
		t.Errorf("%d bytes a file", each)
	}
	seen := make([]bool, n)
	if got := listAll(t, fs, 64<<10, func(d *abi.Dirent) {
		var i int
		if k, err := fmt.Sscanf(d.Name, "file%07d", &i); k != 1 || err != nil || i >= n || seen[i] {
			t.Fatalf("name %q, or twice", d.Name)
		}
		seen[i] = true
	}); got != n {
		t.Errorf("%d names of %d", got, n)
	}
	for i := 0; i < n; i += n / 500 {
		if st, err := fs.Stat(ctx, su(), fmt.Sprintf("/file%07d", i), true); err != nil || st.Nlink != 1 {
			t.Fatal(i, st, err)
		}
	}
	for i := range n {
		if err := fs.Unlink(ctx, su(), fmt.Sprintf("/file%07d", i), 0); err != nil {
			t.Fatal(i, err)
		}
	}
	if st, err := fs.Stat(ctx, su(), "/", true); err != nil || st.Size != 0 {
		t.Error(st, err)
	}
	after := live(fs)
	t.Logf("before %d KB, full %d KB, after %d KB", before>>10, full>>10, after>>10)
	if most := before + (full-before)*2/5 + 16<<20; after > most {
		t.Errorf("%d KB in use after all was removed, %d before", after>>10, before>>10)
	}
}

// listAll lists the root by getdents with a buffer of size bytes, and answers
// how many names but "." and ".." there were.
func listAll(t *testing.T, fs *VFS, size int, fn func(d *abi.Dirent)) (n int) {
	t.Helper()
	f, err := fs.Open(ctx, su(), "/", abi.O_RDONLY|abi.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Release(ctx)
	buf := make([]byte, size)
	for {
		got, err := fs.Getdents(ctx, abi.KernelCaller, f, buf)
		if err != nil {
			t.Fatal(err)
		}
		if got == 0 {
			return n
		}
		ds, err := abi.ParseDirents(buf[:got])
		if err != nil {
			t.Fatal(err)
		}
		for i := range ds {
			if ds[i].Name != "." && ds[i].Name != ".." {
				n++
				fn(&ds[i])
			}
		}
	}
}

// TestScaleChurn makes and removes files under the same hundred names.
func TestScaleChurn(t *testing.T) {
	n := scale(100_000, 10_000_000)
	fs := scaleRig(t, nil)
	round := func(i int) {
		path := fmt.Sprintf("/churn%d", i%100)
		if err := touchFile(fs, path); err != nil {
			t.Fatal(i, err)
		}
		if err := fs.Unlink(ctx, su(), path, 0); err != nil {
			t.Fatal(i, err)
		}
	}
	free := func() uint64 {
		st, err := fs.Statvfs(ctx, su(), "/")
		if err != nil {
			t.Fatal(err)
		}
		return st.Ffree
	}
	for i := range n / 20 {
		round(i)
	}
	before, nodes, vnodes := live(fs), free(), fs.Vnodes()
	for i := range n {
		round(i)
	}
	after := live(fs)
	t.Logf("%d rounds: %d KB before, %d KB after", n, before>>10, after>>10)
	if after > before+8<<20 {
		t.Errorf("grown by %d KB in %d rounds", (after-before)>>10, n)
	}
	if got := free(); got != nodes {
		t.Errorf("%d nodes free, %d before", got, nodes)
	}
	if got := fs.Vnodes(); got > vnodes+10 {
		t.Errorf("%d vnodes, %d before", got, vnodes)
	}
}

// TestScaleReaddir lists a large directory with a small buffer while others
// make, remove and rename: what was there all the time is seen once.
func TestScaleReaddir(t *testing.T) {
	n := scale(20_000, 1_000_000)
	fs := scaleRig(t, map[string]string{"nodes": fmt.Sprint(2*n + 10_000)})
	for i := range n {
		if err := touchFile(fs, fmt.Sprintf("/stay%07d", i)); err != nil {
			t.Fatal(err)
		}
		if i%4 == 0 { // between what stays lies what goes
			if err := touchFile(fs, fmt.Sprintf("/go%d", i)); abi.ErrnoOf(err) != 0 && abi.ErrnoOf(err) != abi.ENOSPC {
				t.Fatal(err)
			}
		}
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for w := range 2 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				gone := fmt.Sprintf("/go%d", (i*4+w*n/2)%n/4*4)
				a, b := fmt.Sprintf("/new%d-%d", w, i%500), fmt.Sprintf("/moved%d-%d", w, i%300)
				for _, err := range []error{
					fs.Unlink(ctx, su(), gone, 0), touchFile(fs, a), fs.Rename(ctx, su(), a, su(), b, 0), fs.Unlink(ctx, su(), b, 0),
				} {
					switch abi.ErrnoOf(err) {
					case 0, abi.ENOENT, abi.EEXIST, abi.ENOSPC:
					default:
						t.Error(err)
						return
					}
				}
			}
		})
	}
	for round := range 3 {
		seen := make([]bool, n)
		stayed := 0
		listAll(t, fs, 4096, func(d *abi.Dirent) {
			var i int
			if k, _ := fmt.Sscanf(d.Name, "stay%07d", &i); k == 1 {
				if i >= n || seen[i] {
					t.Errorf("round %d: %q twice", round, d.Name)
					return
				}
				seen[i] = true
				stayed++
			}
		})
		if stayed != n {
			t.Errorf("round %d: %d names of %d that stayed", round, stayed, n)
		}
	}
	close(stop)
	wg.Wait()
}

// TestScaleLimits: size and nodes are exact, and df tells them.
func TestScaleLimits(t *testing.T) {
	const nodes, size = 500, 1 << 20
	fs := scaleRig(t, map[string]string{"nodes": fmt.Sprint(nodes), "size": "1m"})
	df := func() abi.Statvfs {
		t.Helper()
		st, err := fs.Statvfs(ctx, su(), "/")
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	if st := df(); st.Files != nodes || st.Blocks*st.Frsize != size || st.Ffree != nodes-1 || st.Bfree != st.Blocks {
		t.Fatalf("%+v", st)
	}
	made := 0
	var err error
	for ; made < 2*nodes; made++ {
		if err = touchFile(fs, fmt.Sprintf("/f%d", made)); err != nil {
			break
		}
	}
	if made != nodes-1 || abi.ErrnoOf(err) != abi.ENOSPC || df().Ffree != 0 {
		t.Fatalf("%d files, %v, %d free", made, err, df().Ffree)
	}
	for what, err := range map[string]error{
		"mkdir": fs.Mkdir(ctx, su(), "/d", 0o755), "symlink": fs.Symlink(ctx, su(), "f0", "/l"), "mkfifo": fs.Mkfifo(ctx, su(), "/p", 0o600),
	} {
		if abi.ErrnoOf(err) != abi.ENOSPC {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := errors.Join(fs.Unlink(ctx, su(), "/f0", 0), touchFile(fs, "/g")); err != nil {
		t.Error("after one was removed:", err)
	}
	f, err := fs.Open(ctx, su(), "/g", abi.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Release(ctx)
	buf, at := make([]byte, 10_000), int64(0)
	for at < 2*size {
		var k int
		if k, err = f.Ops.Write(ctx, abi.KernelCaller, f, buf, at); err != nil {
			break
		}
		at += int64(k)
	}
	if at != size || abi.ErrnoOf(err) != abi.ENOSPC {
		t.Fatalf("wrote %d, %v", at, err)
	}
	if st := df(); st.Bfree != 0 || st.Bavail != 0 {
		t.Errorf("%d blocks free", st.Bfree)
	}
	if err := fs.Ftruncate(ctx, abi.KernelCaller, f, 0); err != nil {
		t.Fatal(err)
	}
	// What was freed may go back a little later.
	for deadline := time.Now().Add(30 * time.Second); ; {
		if k, err := f.Ops.Write(ctx, abi.KernelCaller, f, buf, 0); k == len(buf) && err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("after truncating: %d, %v", k, err)
		}
		runtime.Gosched()
	}
}

// TestScaleHoles: 16 GiB that are not there.
func TestScaleHoles(t *testing.T) {
	const size, at = 16 << 30, 9 << 30
	fs := scaleRig(t, map[string]string{"size": "1m"})
	f, err := fs.Open(ctx, su(), "/huge", abi.O_CREAT|abi.O_RDWR, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Release(ctx)
	if err := fs.Ftruncate(ctx, abi.KernelCaller, f, size); err != nil {
		t.Fatal(err)
	}
	seek := func(off int64, whence int) int64 {
		t.Helper()
		to, err := f.Ops.Seek(ctx, abi.KernelCaller, f, off, whence)
		if err != nil {
			return -int64(abi.ErrnoOf(err))
		}
		return to
	}
	if got := seek(0, abi.SEEK_DATA); got != -int64(abi.ENXIO) {
		t.Error("data in a hole:", got)
	}
	if got := seek(5, abi.SEEK_HOLE); got != 5 {
		t.Error("a hole from the start:", got)
	}
	if k, err := f.Ops.Write(ctx, abi.KernelCaller, f, []byte("here"), at+10); k != 4 || err != nil {
		t.Fatal(k, err)
	}
	for _, c := range []struct {
		off    int64
		whence int
		want   int64
	}{
		{0, abi.SEEK_DATA, at}, {at + 12, abi.SEEK_DATA, at + 12}, {0, abi.SEEK_HOLE, 0}, {at, abi.SEEK_HOLE, at + pageSize},
		{at + pageSize, abi.SEEK_DATA, -int64(abi.ENXIO)}, {size - 1, abi.SEEK_HOLE, size - 1},
		{size, abi.SEEK_HOLE, -int64(abi.ENXIO)}, {size, abi.SEEK_DATA, -int64(abi.ENXIO)},
	} {
		if got := seek(c.off, c.whence); got != c.want {
			t.Errorf("seek(%d, %d) = %d, not %d", c.off, c.whence, got, c.want)
		}
	}
	buf := make([]byte, 8)
	for _, c := range []struct {
		off  int64
		want string
	}{{at + 8, "\x00\x00here\x00\x00"}, {size - 3, "\x00\x00\x00"}, {size, ""}, {0, "\x00\x00\x00\x00\x00\x00\x00\x00"}} {
		if k, err := f.Ops.Read(ctx, abi.KernelCaller, f, buf, c.off); err != nil || string(buf[:k]) != c.want {
			t.Errorf("read at %d: %q, %v", c.off, buf[:k], err)
		}
	}
	if st := statOf(t, fs, f); st.Size != size || st.Bytes != pageSize {
		t.Errorf("%d bytes long, %d held", st.Size, st.Bytes)
	}
	if err := fs.Fallocate(ctx, abi.KernelCaller, f, at, pageSize, true); err != nil {
		t.Fatal(err)
	}
	if got := seek(0, abi.SEEK_DATA); got != -int64(abi.ENXIO) {
		t.Error("data after the punch:", got)
	}
	if st := statOf(t, fs, f); st.Size != size || st.Bytes != 0 {
		t.Errorf("punched: %d bytes long, %d held", st.Size, st.Bytes)
	}
}

func statOf(t *testing.T, fs *VFS, f *file.File) (st abi.Stat) {
	t.Helper()
	st, err := f.Ops.Stat(ctx, abi.KernelCaller, f)
	if err != nil {
		t.Fatal(err)
	}
	return st
}
