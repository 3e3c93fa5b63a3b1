package etfs

import (
	"bytes"
	"context"
	"errors"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/rumpus-kernel/rumpus/kernel/hyper"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var ctx = context.Background()

func table(t *testing.T) (*Table, *int) {
	changed := new(int)
	tb := New(Options{Open: hyper.Base{}.OpenFile, Changed: func() { *changed++ }})
	t.Cleanup(tb.CloseAll)
	return tb, changed
}

func image(t *testing.T, size int64) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(p, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(p, size); err != nil {
		t.Fatal(err)
	}
	return p
}

func want(t *testing.T, what string, err error, e abi.Errno) {
	t.Helper()
	if e == 0 && err != nil || e != 0 && !errors.Is(err, e) {
		t.Errorf("%s: %v, want %v", what, err, e)
	}
}

// TestKeys is the rules of rump_etfs(3) for keys.
func TestKeys(t *testing.T) {
	tb, changed := table(t)
	img := image(t, 1<<20)
	reg := func(s Spec) error {
		if s.Host == "" {
			s.Host = img
		}
		s.NoLock = true
		return tb.Register(ctx, s)
	}
	for _, c := range []struct {
		what string
		s    Spec
		e    abi.Errno
	}{
		{"no absolute path", Spec{Key: "dev/disk0"}, abi.EINVAL},
		{"empty", Spec{Key: ""}, abi.EINVAL},
		{"not in /dev", Spec{Key: "/disk0"}, abi.EINVAL},
		{"deeper", Spec{Key: "/dev/a/b"}, abi.EINVAL},
		{"/dev itself", Spec{Key: "/dev"}, abi.EINVAL},
		{"upwards", Spec{Key: "/dev/../x"}, abi.EINVAL},
		{"a long name", Spec{Key: "/dev/" + strings.Repeat("x", 255)}, abi.ENAMETOOLONG},
		{"a long path", Spec{Key: "/dev/" + strings.Repeat("x", 2000)}, abi.ENAMETOOLONG},
		{"type", Spec{Key: "/dev/d", Type: "dir"}, abi.EINVAL},
		{"no file", Spec{Key: "/dev/d", Host: img + ".none"}, abi.ENOENT},
		{"a directory", Spec{Key: "/dev/d", Host: filepath.Dir(img), ReadOnly: true}, abi.EFTYPE},
		{"offset", Spec{Key: "/dev/d", Offset: 100}, abi.EINVAL},
		{"negative offset", Spec{Key: "/dev/d", Offset: -512}, abi.EINVAL},
		{"negative size", Spec{Key: "/dev/d", Size: -512}, abi.EINVAL},
		{"size", Spec{Key: "/dev/d", Size: 513}, abi.EINVAL},
		{"behind the end", Spec{Key: "/dev/d", Offset: 1 << 19, Size: 1<<19 + 512}, abi.EINVAL},
		{"far behind", Spec{Key: "/dev/d", Offset: 1 << 62, Size: 1 << 62}, abi.EINVAL},
	} {
		want(t, c.what, reg(c.s), c.e)
	}
	if *changed != 0 || len(tb.List()) != 0 {
		t.Errorf("%d changes, %v", *changed, tb.List())
	}
	want(t, "one", reg(Spec{Key: "//dev///disk0"}), 0)
	want(t, "the same", reg(Spec{Key: "/dev/disk0"}), abi.EEXIST)
	want(t, "its raw side", reg(Spec{Key: "/dev/rdisk0"}), abi.EEXIST)
	want(t, "another", reg(Spec{Key: "/dev/disk1", Offset: 4096, Size: 8192, ReadOnly: true}), 0)
	want(t, "none", tb.Remove("/dev/disk2"), abi.ENOENT)
	want(t, "none", tb.Remove("disk0"), abi.EINVAL)
	want(t, "open", tb.Open(ctx, 0, abi.O_RDWR), 0)
	want(t, "read-only", tb.Open(ctx, 1, abi.O_RDWR), abi.EROFS)
	want(t, "read-only", tb.Open(ctx, 1, abi.O_RDONLY), 0)
	want(t, "no unit", tb.Open(ctx, 2, abi.O_RDONLY), abi.ENXIO)
	want(t, "in use", tb.Remove("/dev/disk0"), abi.EBUSY)
	l := tb.List()
	if len(l) != 2 || l[0].Key != "/dev/disk0" || l[0].Open != 1 || l[1].Geom.Size != 8192 || !l[1].Geom.ReadOnly || l[0].Geom.Size != 1<<20 {
		t.Errorf("%+v", l)
	}
	want(t, "close", tb.Close(ctx, 0, 0), 0)
	want(t, "remove", tb.Remove("/dev//disk0"), 0)
	want(t, "again", tb.Remove("/dev/disk0"), abi.ENOENT)
	_, err := tb.Geometry(ctx, 0)
	want(t, "geometry", err, abi.ENXIO)
	want(t, "unit 0 again", reg(Spec{Key: "/dev/x"}), 0)
	if n := tb.Nodes(); len(n) != 2 || *changed != 4 {
		t.Errorf("%v, %d changes", n, *changed)
	}
}

func buf(unit uint32, f devops.BufFlags, off int64, p []byte) *devops.Buf {
	return &devops.Buf{Dev: abi.Makedev(400, unit), Flags: f, Blkno: off / 512, Bytes: int64(len(p)), Data: abi.Iov{p}}
}

// TestWindow moves random requests through a window, beside a plain file.
func TestWindow(t *testing.T) {
	tb, _ := table(t)
	const size, off = 1 << 20, 8192
	img := image(t, size+777)
	want(t, "register", tb.Register(ctx, Spec{Key: "/dev/d", Host: img, Offset: off}), 0)
	g, _ := tb.Geometry(ctx, 0)
	if g.Size != (size+777)/512*512-off || g.Sector != 512 {
		t.Fatalf("%+v", g)
	}
	model := make([]byte, g.Size)
	r := rand.New(rand.NewSource(2))
	for range 500 {
		at := r.Int63n(g.Size/512) * 512
		p := make([]byte, min((r.Int63n(40)+1)*512, g.Size-at))
		switch r.Intn(5) {
		case 0:
			want(t, "read", tb.Strategy(ctx, buf(0, devops.BRead, at, p)), 0)
			if !bytes.Equal(p, model[at:][:len(p)]) {
				t.Fatalf("read at %d: other bytes", at)
			}
		case 1, 2:
			r.Read(p)
			want(t, "write", tb.Strategy(ctx, buf(0, devops.BWrite|devops.BFua*devops.BufFlags(r.Intn(2)), at, p)), 0)
			copy(model[at:], p)
		case 3:
			b := buf(0, devops.BZeroes, at, p)
			b.Data = nil
			want(t, "zeroes", tb.Strategy(ctx, b), 0)
			clear(model[at:][:len(p)])
		case 4:
			want(t, "flush", tb.Strategy(ctx, &devops.Buf{Dev: abi.Makedev(400, 0), Flags: devops.BFlush}), 0)
		}
	}
	got, err := os.ReadFile(img)
	if err != nil || !bytes.Equal(got[off:][:g.Size], model) || !bytes.Equal(got[:off], make([]byte, off)) {
		t.Error("the file differs, or was written outside the window", err)
	}

	p := make([]byte, 1024)
	for _, c := range []struct {
		what string
		b    *devops.Buf
		e    abi.Errno
	}{
		{"over the end", buf(0, devops.BRead, g.Size-512, p), abi.EINVAL},
		{"behind the end", buf(0, devops.BWrite, g.Size, p), abi.EINVAL},
		{"far away", buf(0, devops.BWrite, 1<<62, p), abi.EINVAL},
		{"before", buf(0, devops.BWrite, -512, p), abi.EINVAL},
		{"half a sector", buf(0, devops.BWrite, 0, p[:100]), abi.EINVAL},
		{"a lie", &devops.Buf{Flags: devops.BWrite, Bytes: 512, Data: abi.Iov{p}}, abi.EINVAL},
		{"nothing asked", buf(0, 0, 0, p), abi.EINVAL},
		{"two things", buf(0, devops.BRead|devops.BWrite, 0, p), abi.EINVAL},
		{"no unit", buf(7, devops.BRead, 0, p), abi.ENXIO},
	} {
		want(t, c.what, tb.Strategy(ctx, c.b), c.e)
	}
	if _, err := tb.Ioctl(ctx, 0, 1, nil); !errors.Is(err, abi.ENOTTY) {
		t.Error(err)
	}
	// Somebody cuts the file.
	if err := os.Truncate(img, off+4096); err != nil {
		t.Fatal(err)
	}
	want(t, "cut", tb.Strategy(ctx, buf(0, devops.BRead, 8192, p)), abi.EIO)
	want(t, "before the cut", tb.Strategy(ctx, buf(0, devops.BRead, 0, p)), 0)
}

// fake is a file of the host that fails.
type fake struct {
	hyper.File
	err   error
	enter chan struct{} // told of each write
	leave chan struct{} // which waits for this
}

func (f *fake) Info() (hyper.FileInfo, error) {
	return hyper.FileInfo{Size: 1 << 20, Sector: 4096}, nil
}
func (f *fake) Close() error               { return nil }
func (f *fake) Zero(int64, int64) error    { return abi.EOPNOTSUPP }
func (f *fake) Discard(int64, int64) error { return abi.EOPNOTSUPP }
func (f *fake) Sync() error                { return f.err }
func (f *fake) WriteAt(v abi.Iov, _ int64, _ bool) (int, error) {
	if f.enter != nil {
		f.enter <- struct{}{}
		<-f.leave
	}
	return v.Len(), f.err
}

// TestErrorsOfTheHost come through as they are, and sectors are the device's.
func TestErrorsOfTheHost(t *testing.T) {
	f := &fake{err: abi.ENOSPC}
	tb := New(Options{Open: func(context.Context, hyper.FileOpen) (hyper.File, error) { return f, nil }})
	want(t, "register", tb.Register(ctx, Spec{Key: "/dev/d", Host: "x"}), 0)
	p := make([]byte, 4096)
	want(t, "full", tb.Strategy(ctx, buf(0, devops.BWrite, 0, p)), abi.ENOSPC)
	want(t, "small", tb.Strategy(ctx, buf(0, devops.BWrite, 0, p[:512])), abi.EINVAL)
	want(t, "between", tb.Strategy(ctx, buf(0, devops.BWrite, 512, p)), abi.EINVAL)
	want(t, "discard", tb.Strategy(ctx, &devops.Buf{Flags: devops.BDiscard, Bytes: 4096}), abi.EOPNOTSUPP)
	want(t, "zeroes", tb.Strategy(ctx, &devops.Buf{Flags: devops.BZeroes, Bytes: 4096}), abi.ENOSPC)
	f.err = nil
	want(t, "zeroes by writing", tb.Strategy(ctx, &devops.Buf{Flags: devops.BZeroes | devops.BFua, Bytes: 1 << 20}), 0)
	f.err = abi.EIO
	want(t, "flush", tb.Strategy(ctx, &devops.Buf{Flags: devops.BFlush}), abi.EIO)
}

// TestStuckHost: a disk that hangs keeps QueueDepth requests, and the next one
// gives up when its caller does; another device goes on.
func TestStuckHost(t *testing.T) {
	stuck := &fake{enter: make(chan struct{}), leave: make(chan struct{})}
	tb := New(Options{Open: func(_ context.Context, o hyper.FileOpen) (hyper.File, error) {
		if o.Path == "stuck" {
			return stuck, nil
		}
		return &fake{}, nil
	}})
	want(t, "register", tb.Register(ctx, Spec{Key: "/dev/a", Host: "stuck"}), 0)
	want(t, "register", tb.Register(ctx, Spec{Key: "/dev/b", Host: "fine"}), 0)
	unit := map[string]uint32{}
	for _, i := range tb.List() {
		unit[i.Node] = i.Unit
	}
	var wg sync.WaitGroup
	p := make([]byte, 4096)
	for range QueueDepth {
		wg.Go(func() { want(t, "late", tb.Strategy(ctx, buf(unit["a"], devops.BWrite, 0, p)), 0) })
	}
	for range QueueDepth {
		<-stuck.enter
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	want(t, "no place", tb.Strategy(gone, buf(unit["a"], devops.BWrite, 0, p)), abi.ETIMEDOUT)
	want(t, "the other", tb.Strategy(ctx, buf(unit["b"], devops.BWrite, 0, p)), 0)
	for range QueueDepth {
		stuck.leave <- struct{}{}
	}
	wg.Wait()
}

// TestEnd: after CloseAll a device that is open is gone.
func TestEnd(t *testing.T) {
	tb, _ := table(t)
	want(t, "register", tb.Register(ctx, Spec{Key: "/dev/d", Host: image(t, 4096)}), 0)
	want(t, "open", tb.Open(ctx, 0, abi.O_RDWR), 0)
	tb.CloseAll()
	want(t, "gone", tb.Strategy(ctx, buf(0, devops.BRead, 0, make([]byte, 512))), abi.ENXIO)
	want(t, "close", tb.Close(ctx, 0, 0), 0)
}
