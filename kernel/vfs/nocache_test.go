package vfs

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// memPagesOnly is memPager without a Writer: contents move by pages only.
type memPagesOnly struct{ *memFS }

func (f memPagesOnly) pager() memPager { return memPager{memData{f.memFS}} }

func (f memPagesOnly) ReadPages(ctx context.Context, h abi.Handle, off int64, dst abi.Iov) error {
	return f.pager().ReadPages(ctx, h, off, dst)
}

func (f memPagesOnly) WritePages(ctx context.Context, op vfsops.Op, h abi.Handle, off int64, src abi.Iov, size int64) error {
	return f.pager().WritePages(ctx, op, h, off, src, size)
}

func (f memPagesOnly) Truncate(ctx context.Context, op vfsops.Op, h abi.Handle, size int64) (abi.Vattr, error) {
	return f.pager().Truncate(ctx, op, h, size)
}

// behind changes the file system without the kernel.
func (k *kern) behind(fn func(f *memFS)) {
	f := k.fs()
	f.mu.Lock()
	defer f.mu.Unlock()
	fn(f)
}

// TestNocache changes a file system behind the kernel's back: with nocache the
// kernel sees it at once, whatever the file system has declared, and contents
// that only the kernel has are still there.
func TestNocache(t *testing.T) {
	for _, v := range variants {
		if !v.nocache() {
			continue
		}
		t.Run(v.name, func(t *testing.T) {
			k := newKern(t, v, Options{})
			k.ok(k.Mkdir(ctx, su(), "/a", 0o755))
			k.write("/a/f", "0123456789")
			k.ok(k.Symlink(ctx, su(), "f", "/a/l"))
			g := k.open("/a/f", abi.O_RDWR)
			defer g.Release(ctx)
			for range 2 {
				k.stat("/a/f")
				k.ls("/a")
				_, err := k.Stat(ctx, su(), "/a/none", true)
				k.is(err, abi.ENOENT)
				if got, err := k.Readlink(ctx, su(), "/a/l"); err != nil || got != "f" {
					t.Fatalf("link leads to %q, %v", got, err)
				}
			}
			k.behind(func(f *memFS) {
				dir := f.root.ents["a"]
				n := dir.ents["f"]
				n.va.Mode, n.va.Uid = 0o600, 7
				dir.ents["l"].target = []byte("none")
				op := vfsops.Op{}
				f.add(op, dir, []byte("none"), f.node(abi.VREG, 0o640, 3, 3, op.Now))
			})
			if st := k.stat("/a/f"); st.Mode != 0o600 || st.Uid != 7 || st.Size != 10 {
				t.Errorf("f has mode %o, owner %d, size %d", st.Mode, st.Uid, st.Size)
			}
			if st, err := g.Ops.Stat(ctx, abi.KernelCaller, g); err != nil || st.Uid != 7 {
				t.Errorf("open f has owner %d, %v", st.Uid, err)
			}
			if st := k.stat("/a/none"); st.Mode != 0o640 {
				t.Errorf("none has mode %o", st.Mode)
			}
			if got, err := k.Readlink(ctx, su(), "/a/l"); err != nil || got != "none" {
				t.Errorf("link leads to %q, %v", got, err)
			}
			if n := len(k.ls("/a")); n != 2+3 {
				t.Errorf("%d entries", n)
			}
			k.behind(func(f *memFS) { f.root.ents["a"].va.Mode = 0o700 })
			_, err := k.Stat(ctx, user(5), "/a/f", true)
			k.is(err, abi.EACCES)
			// What is written and not yet written back wins.
			_, err = g.Ops.Write(ctx, abi.KernelCaller, g, []byte(strings.Repeat("x", 5000)), 0)
			k.ok(err)
			if st := k.stat("/a/f"); st.Size != 5000 {
				t.Errorf("size %d", st.Size)
			}
			if got := k.read("/a/f"); got != strings.Repeat("x", 5000) {
				t.Errorf("read %d bytes", len(got))
			}
			if m := k.Memory(); m.Names != 0 || m.Listings != 0 {
				t.Errorf("cached: %+v", m)
			}
		})
	}
}

// TestNocacheContents tells who has the contents: the kernel only what has no
// other place.
func TestNocacheContents(t *testing.T) {
	for _, v := range variants {
		if !v.nocache() {
			continue
		}
		k := newKern(t, v, Options{})
		k.write("/f", "0123456789")
		k.read("/f")
		keeps := v.name != "pager nocache"
		if got := k.PageBytes() > 0; got != keeps {
			t.Errorf("%s: pages kept: %v, want %v", v.name, got, keeps)
		}
		if !keeps {
			k.behind(func(f *memFS) { copy(f.root.ents["f"].data, "abc") })
			if got := k.read("/f"); got != "abc3456789" {
				t.Errorf("read %q", got)
			}
		}
	}
}

func TestNocacheOption(t *testing.T) {
	k := newKern(t, variants[0], Options{})
	k.ok(k.Mkdir(ctx, su(), "/m", 0o755))
	for value, want := range map[string]abi.Errno{"": 0, "true": 0, "false": 0, "maybe": abi.EINVAL} {
		_, err := k.Mount(ctx, su(), MountArgs{Type: "mem", Dir: "/m", Options: map[string]string{"nocache": value, "size": "1"}})
		k.is(err, want)
		if want != 0 {
			continue
		}
		// The file system is not told, whoever lists mounts is.
		req := k.mt.reqs[len(k.mt.reqs)-1]
		if _, told := req.Options["nocache"]; told || req.Options["size"] != "1" {
			t.Errorf("the file system was told %v", req.Options)
		}
		if _, shown := k.Mounts()[1].Options["nocache"]; shown != (value != "false") {
			t.Errorf("nocache=%s: %v", value, k.Mounts()[1].Options)
		}
		k.ok(k.Unmount(ctx, su(), "/m", 0))
	}
	_, err := k.Mount(ctx, su(), MountArgs{Dir: "/", Flags: abi.MNT_UPDATE, Options: map[string]string{"nocache": ""}})
	k.is(err, abi.EINVAL)
}

// TestNocacheSizes appends and truncates under stats: an answer of the file
// system that is overtaken must not become the size that the next append
// begins at.
func TestNocacheSizes(t *testing.T) {
	for _, v := range variants {
		if !v.nocache() {
			continue
		}
		t.Run(v.name, func(t *testing.T) {
			k := newKern(t, v, Options{})
			k.write("/f", "")
			stop, done := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(done)
				for {
					select {
					case <-stop:
						return
					default:
						k.Stat(ctx, su(), "/f", true)
					}
				}
			}()
			for i := 1; i <= 300; i++ {
				f, err := k.Open(ctx, su(), "/f", abi.O_WRONLY|abi.O_APPEND, 0)
				k.ok(err)
				_, err = f.Ops.Write(ctx, abi.KernelCaller, f, []byte{byte(i)}, file.Cur)
				k.ok(err)
				k.ok(f.Release(ctx))
				if st := k.stat("/f"); st.Size != int64(i) {
					t.Fatalf("size %d after %d bytes", st.Size, i)
				}
			}
			close(stop)
			<-done
			for i, c := range []byte(k.read("/f")) {
				if c != byte(i+1) {
					t.Fatalf("byte %d is %d", i, c)
				}
			}
		})
	}
}

// TestOvertaken holds an answer of the file system back until the file has
// grown: it must not become what the kernel knows of the file, nor what somebody
// is told who asked later.
func TestOvertaken(t *testing.T) {
	for _, v := range variants {
		if !v.nocache() && v.name != "shared" {
			continue // what is cached is not asked for
		}
		t.Run(v.name, func(t *testing.T) {
			k := newKern(t, v, Options{})
			k.write("/f", "1")
			vn, err := k.namei(ctx, su(), "/f", followLink)
			k.ok(err)
			defer vn.put()
			answered, goOn, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
			var held atomic.Bool
			k.behind(func(f *memFS) {
				f.late = func() {
					if held.CompareAndSwap(false, true) {
						close(answered)
						<-goOn
					}
				}
			})
			go func() {
				defer close(done)
				k.Stat(ctx, su(), "/f", true)
			}()
			<-answered
			f := k.open("/f", abi.O_WRONLY|abi.O_APPEND)
			_, err = f.Ops.Write(ctx, abi.KernelCaller, f, []byte("23"), file.Cur)
			k.ok(err)
			k.ok(f.Release(ctx))
			if st := k.stat("/f"); st.Size != 3 {
				t.Errorf("size %d after 3 bytes", st.Size)
			}
			close(goOn)
			<-done
			if n := vn.size(); n != 3 {
				t.Errorf("the vnode has size %d", n)
			}
			if st := k.stat("/f"); st.Size != 3 {
				t.Errorf("size %d after 3 bytes", st.Size)
			}
			// Somebody whose answer is older comes back between a walk and its
			// use: who walked has his own.
			var got walked
			w, err := k.nameiAttr(ctx, su(), "/f", followLink, &got)
			k.ok(err)
			defer w.put()
			var va abi.Vattr
			w.amu.Lock()
			was := w.va
			w.va.Mode = 0
			w.amu.Unlock()
			k.ok(w.getattrWalked(ctx, &va, &got))
			if va.Mode != was.Mode {
				t.Errorf("mode %o", va.Mode)
			}
			if !got.ok {
				t.Error("the walk brought no attributes")
			}
			w.amu.Lock()
			w.va = was
			w.amu.Unlock()
		})
	}
}
