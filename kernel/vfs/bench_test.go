package vfs

import (
	"strconv"
	"testing"

	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

func benchKern(b *testing.B) *VFS {
	b.Helper()
	fs := New(Options{MemLimit: 64 << 20})
	fs.SetAvailable(true)
	v := variants[0]
	if err := fs.AttachFS("vfs", "mem", memVariant{&memType{}, v.wrap}, v.caps); err != nil {
		b.Fatal(err)
	}
	if _, err := fs.Mount(ctx, su(), MountArgs{Type: "mem", Dir: "/"}); err != nil {
		b.Fatal(err)
	}
	for _, d := range []string{"/a", "/a/b", "/a/b/c"} {
		if err := fs.Mkdir(ctx, su(), d, 0o755); err != nil {
			b.Fatal(err)
		}
	}
	return fs
}

func benchFile(b *testing.B, fs *VFS) *file.File {
	b.Helper()
	f, err := fs.Open(ctx, su(), "/a/b/c/f", abi.O_RDWR|abi.O_CREAT, 0o644)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := f.Ops.Write(ctx, abi.KernelCaller, f, make([]byte, 1<<20), 0); err != nil {
		b.Fatal(err)
	}
	return f
}

func BenchmarkStatHit(b *testing.B) {
	fs := benchKern(b)
	benchFile(b, fs).Release(ctx)
	w := su()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := fs.Stat(ctx, w, "/a/b/c/f", true); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkStatMissingHit(b *testing.B) {
	fs := benchKern(b)
	w := su()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := fs.Stat(ctx, w, "/a/b/c/none", true); err == nil {
			b.Fatal("found")
		}
	}
}

func BenchmarkOpenClose(b *testing.B) {
	fs := benchKern(b)
	benchFile(b, fs).Release(ctx)
	w := su()
	b.ReportAllocs()
	for b.Loop() {
		f, err := fs.Open(ctx, w, "/a/b/c/f", abi.O_RDONLY, 0)
		if err != nil {
			b.Fatal(err)
		}
		f.Release(ctx)
	}
}

func BenchmarkReaddir1000(b *testing.B) {
	fs := benchKern(b)
	w := su()
	for i := range 1000 {
		if err := fs.Mknod(ctx, w, "/a/b/f"+strconv.Itoa(i), abi.S_IFREG|0o644, 0); err != nil {
			b.Fatal(err)
		}
	}
	d, err := fs.Open(ctx, w, "/a/b", abi.O_RDONLY, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer d.Release(ctx)
	buf := make([]byte, 64<<10)
	b.ReportAllocs()
	for b.Loop() {
		d.Offset = 0
		for n := 1; n > 0; {
			if n, err = fs.Getdents(ctx, w.Caller, d, buf); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func benchIO(b *testing.B, n int, write bool) {
	fs := benchKern(b)
	f := benchFile(b, fs)
	buf := make([]byte, n)
	b.SetBytes(int64(n))
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if write {
			_, err = f.Ops.Write(ctx, abi.KernelCaller, f, buf, 0)
		} else {
			_, err = f.Ops.Read(ctx, abi.KernelCaller, f, buf, 0)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPread4K(b *testing.B)  { benchIO(b, 4096, false) }
func BenchmarkPread1M(b *testing.B)  { benchIO(b, 1<<20, false) }
func BenchmarkPwrite4K(b *testing.B) { benchIO(b, 4096, true) }
func BenchmarkPwrite1M(b *testing.B) { benchIO(b, 1<<20, true) }

func BenchmarkMemcpy1M(b *testing.B) {
	x, y := make([]byte, 1<<20), make([]byte, 1<<20)
	b.SetBytes(1 << 20)
	for b.Loop() {
		copy(x, y)
	}
}

func BenchmarkCreateUnlink(b *testing.B) {
	fs := benchKern(b)
	w := su()
	b.ReportAllocs()
	for b.Loop() {
		f, err := fs.Open(ctx, w, "/a/b/c/g", abi.O_RDWR|abi.O_CREAT, 0o644)
		if err != nil {
			b.Fatal(err)
		}
		f.Release(ctx)
		if err := fs.Unlink(ctx, w, "/a/b/c/g", 0); err != nil {
			b.Fatal(err)
		}
	}
}

// TestHitsMakeNoGarbage holds the promise of the data plane: what the caches
// have costs no allocation, but for the File of an open.
func TestHitsMakeNoGarbage(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes sync.Pool drop things")
	}
	k := newKern(t, variants[0], Options{})
	k.ok(k.Mkdir(ctx, su(), "/a", 0o755))
	k.write("/a/f", "0123456789")
	f := k.open("/a/f", abi.O_RDWR)
	defer f.Release(ctx)
	d := k.open("/a", abi.O_RDONLY)
	defer d.Release(ctx)
	buf, dents := make([]byte, 10), make([]byte, 1000)
	w, u := su(), user(7)
	for _, tc := range []struct {
		name string
		max  float64
		fn   func() error
	}{
		{"stat", 0, func() error { _, err := k.Stat(ctx, w, "/a/f", true); return err }},
		{"stat as user", 0, func() error { _, err := k.Stat(ctx, u, "/a/f", true); return err }},
		{"read", 0, func() error { _, err := f.Ops.Read(ctx, w.Caller, f, buf, 0); return err }},
		{"write", 0, func() error { _, err := f.Ops.Write(ctx, w.Caller, f, buf, 0); return err }},
		{"fstat", 0, func() error { _, err := f.Ops.Stat(ctx, w.Caller, f); return err }},
		{"list", 0, func() error { d.Offset = 0; _, err := k.Getdents(ctx, w.Caller, d, dents); return err }},
		{"open and close", 1, func() error {
			f, err := k.Open(ctx, w, "/a/f", abi.O_RDONLY, 0)
			if err == nil {
				err = f.Release(ctx)
			}
			return err
		}},
	} {
		n := testing.AllocsPerRun(200, func() {
			if err := tc.fn(); err != nil {
				t.Fatal(err)
			}
		})
		if n > tc.max {
			t.Errorf("%s makes %v allocations", tc.name, n)
		}
	}
}
