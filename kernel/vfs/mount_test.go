package vfs

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

func TestUnavailable(t *testing.T) {
	k := newKern(t, variants[0], Options{})
	k.SetAvailable(false)
	defer k.SetAvailable(true)
	_, err := k.Open(ctx, su(), "/", abi.O_RDONLY, 0)
	k.is(err, abi.EOPNOTSUPP)
	if !strings.Contains(err.Error(), "vfs component not available") {
		t.Errorf("error is %q", err)
	}
	k.is(k.Mkdir(ctx, su(), "/x", 0), abi.EOPNOTSUPP)
	_, err = k.Getcwd(ctx, su())
	k.is(err, abi.EOPNOTSUPP)
	_, err = k.Mount(ctx, su(), MountArgs{Type: "none", Dir: "/"})
	k.is(err, abi.EOPNOTSUPP)
}

func TestTypes(t *testing.T) {
	fs := New(Options{})
	mt := &memType{}
	for _, tc := range []struct {
		inst, name string
		caps       vfsops.Caps
		want       abi.Errno
	}{
		{"a", "fs", 0, 0},
		{"a", "fs", 0, abi.EEXIST},
		{"b", "fs", 0, 0},
		{"a", "", 0, abi.EINVAL},
		{"a", strings.Repeat("x", 32), 0, abi.EINVAL},
		{"a", "kp", vfsops.CapKpages, abi.EINVAL},
	} {
		if got := abi.ErrnoOf(fs.AttachFS(tc.inst, tc.name, mt, tc.caps)); got != tc.want {
			t.Errorf("attach %s/%s: %v, want %v", tc.inst, tc.name, got, tc.want)
		}
	}
	fs.SetAvailable(true)
	if _, err := fs.Mount(ctx, su(), MountArgs{Type: "fs", Dir: "/x"}); abi.ErrnoOf(err) != abi.ENOENT {
		t.Errorf("a mount that is not the root without a root: %v", err)
	}
	if _, err := fs.Mount(ctx, su(), MountArgs{Type: "fs", Dir: "/", Instance: "b"}); err != nil {
		t.Fatal(err)
	}
	if m := fs.Mounts(); m[0].Instance != "b" {
		t.Errorf("mounted the type of %q", m[0].Instance)
	}
	if err := fs.DetachInstance("b"); abi.ErrnoOf(err) != abi.EBUSY {
		t.Errorf("detach with a mount: %v", err)
	}
	if err := fs.DetachInstance("a"); err != nil || len(fs.Types()) != 1 {
		t.Errorf("detach: %v, left %v", err, fs.Types())
	}
	fs.UnmountAll(ctx)
	if err := fs.DetachInstance("b"); err != nil {
		t.Error(err)
	}
}

func TestAutoload(t *testing.T) {
	var k *kern
	asked := 0
	k = newKern(t, variants[0], Options{Autoload: func(_ context.Context, name string) error {
		if asked++; name == "later" {
			return k.AttachFS("auto", name, memVariant{k.mt, variants[0].wrap}, variants[0].caps)
		}
		return abi.ENOENT
	}})
	k.ok(k.Mkdir(ctx, su(), "/m", 0o755))
	_, err := k.Mount(ctx, su(), MountArgs{Type: "later", Dir: "/m"})
	k.ok(err)
	_, err = k.Mount(ctx, su(), MountArgs{Type: "never", Dir: "/m"})
	k.is(err, abi.ENODEV)
	if asked != 2 {
		t.Errorf("asked %d times", asked)
	}
}

func TestMounts(t *testing.T) {
	each(t, func(t *testing.T, k *kern) {
		k.ok(k.Mkdir(ctx, su(), "/m", 0o755))
		k.write("/m/under", "below")
		id := k.mount("/m")
		_, err := k.Stat(ctx, su(), "/m/under", true)
		k.is(err, abi.ENOENT)
		k.ok(k.Mkdir(ctx, su(), "/m/d", 0o755))
		k.write("/m/f", "above")
		if st := k.stat("/m/f"); st.Dev != id {
			t.Errorf("on %d, want %d", st.Dev, id)
		}
		for _, p := range []string{"/m/..", "/m/d/../..", "/m/d/../../m/.."} {
			if a, b := k.stat(p), k.stat("/"); a.Fileid != b.Fileid || a.Dev != b.Dev {
				t.Errorf("%s is not the root", p)
			}
		}
		if d := k.ls("/m"); d[1].Name != ".." || d[1].Fileid != k.stat("/").Fileid {
			t.Errorf("listed .. as %+v", d[1])
		}
		w := su()
		w.Cwd = NewCwdinfo()
		k.ok(k.Chdir(ctx, w, "/m/d"))
		if p, err := k.Getcwd(ctx, w); err != nil || p != "/m/d" {
			t.Errorf("getcwd %q, %v", p, err)
		}
		k.is(k.Unmount(ctx, su(), "/m", 0), abi.EBUSY)
		if k.read("/m/f") != "above" {
			t.Error("an unmount that failed left a trace")
		}
		k.ok(k.Chdir(ctx, w, "/"))
		f := k.open("/m/f", abi.O_RDWR)
		k.is(k.Unmount(ctx, su(), "/m", 0), abi.EBUSY)
		k.is(func() error {
			_, err := k.Mount(ctx, su(), MountArgs{Dir: "/m", Flags: abi.MNT_UPDATE | abi.MNT_RDONLY})
			return err
		}(), abi.EBUSY)
		k.ok(f.Release(ctx))
		// Read-only and back.
		_, err = k.Mount(ctx, su(), MountArgs{Dir: "/m", Flags: abi.MNT_UPDATE, Options: map[string]string{"ro": ""}})
		k.ok(err)
		k.is(k.Mkdir(ctx, su(), "/m/x", 0o755), abi.EROFS)
		k.is(k.Unlink(ctx, su(), "/m/f", 0), abi.EROFS)
		k.is(k.Chmod(ctx, su(), "/m/f", 0o600, true), abi.EROFS)
		k.is(k.Truncate(ctx, su(), "/m/f", 0), abi.EROFS)
		k.is(k.Rename(ctx, su(), "/m/f", su(), "/m/g", 0), abi.EROFS)
		k.is(k.Access(ctx, su(), "/m/f", abi.W_OK, 0), abi.EROFS)
		_, err = k.Open(ctx, su(), "/m/f", abi.O_RDWR, 0)
		k.is(err, abi.EROFS)
		_, err = k.Open(ctx, su(), "/m/new", abi.O_RDWR|abi.O_CREAT, 0)
		k.is(err, abi.EROFS)
		k.is(k.Mkdir(ctx, su(), "/m/d", 0o755), abi.EEXIST)
		if st, err := k.Statvfs(ctx, su(), "/m"); err != nil || st.Flag&abi.MNT_RDONLY == 0 || st.On != "/m" || st.FSType != "mem" || st.Fsid != id {
			t.Errorf("statvfs %+v, %v", st, err)
		}
		_, err = k.Mount(ctx, su(), MountArgs{Dir: "/m", Flags: abi.MNT_UPDATE, Options: map[string]string{"rw": ""}})
		k.ok(err)
		k.ok(k.Mkdir(ctx, su(), "/m/x", 0o755))
		// Mounted over what is mounted, and taken away again.
		k.mount("/m")
		_, err = k.Stat(ctx, su(), "/m/f", true)
		k.is(err, abi.ENOENT)
		k.ok(k.Unmount(ctx, su(), "/m", 0))
		k.stat("/m/f")
		if n := len(k.StatvfsAll(ctx)); n != 2 {
			t.Errorf("%d mounts", n)
		}
		k.ok(k.Unmount(ctx, su(), "/m", 0))
		if got := k.read("/m/under"); got != "below" {
			t.Errorf("read %q", got)
		}
		// By force, with a file open.
		k.mount("/m")
		f = k.open("/m/f", abi.O_RDWR|abi.O_CREAT)
		_, err = f.Ops.Write(ctx, abi.KernelCaller, f, []byte("x"), 0)
		k.ok(err)
		k.ok(k.Unmount(ctx, su(), "/m", abi.MNT_FORCE))
		_, err = f.Ops.Read(ctx, abi.KernelCaller, f, make([]byte, 1), 0)
		k.is(err, abi.EIO)
		_, err = f.Ops.Write(ctx, abi.KernelCaller, f, make([]byte, 1), 0)
		k.is(err, abi.EIO)
		k.ok(f.Release(ctx))
		w.Cwd.Release()
	})
}

func TestMountFlags(t *testing.T) {
	opened := abi.NoDev
	k := newKern(t, variants[0], Options{OpenDev: func(_ context.Context, _ *abi.Caller, d abi.Dev, blk bool, _ int) (file.Ops, any, error) {
		if blk {
			return nil, nil, abi.ENXIO
		}
		opened = d
		return file.NoOps{}, "data", nil
	}})
	k.ok(k.Mkdir(ctx, su(), "/m", 0o755))
	_, err := k.Mount(ctx, su(), MountArgs{Type: "mem", Dir: "/m", Options: map[string]string{"nodev": "true", "noexec": "", "noatime": "", "nosuid": "false"}})
	k.ok(err)
	if fl := k.Mounts()[1].Flags; fl&(abi.MNT_NODEV|abi.MNT_NOEXEC|abi.MNT_NOATIME|abi.MNT_NOSUID) != abi.MNT_NODEV|abi.MNT_NOEXEC|abi.MNT_NOATIME {
		t.Errorf("flags %#x", fl)
	}
	dev := abi.Makedev(2, 12)
	for _, p := range []string{"/null", "/m/null"} {
		k.ok(k.Mknod(ctx, su(), p, abi.S_IFCHR|0o666, dev))
	}
	_, err = k.Open(ctx, su(), "/m/null", abi.O_RDWR, 0)
	k.is(err, abi.ENXIO)
	f := k.open("/null", abi.O_RDWR)
	if opened != dev || f.Data != "data" {
		t.Errorf("opened %v with %v", opened, f.Data)
	}
	if st, err := f.Ops.Stat(ctx, abi.KernelCaller, f); err != nil || st.Type != abi.VCHR || st.Rdev != dev {
		t.Errorf("stat %+v, %v", st, err)
	}
	k.ok(k.Fchmod(ctx, abi.KernelCaller, f, 0o600))
	k.ok(f.Release(ctx))
	k.write("/m/prog", "")
	k.ok(k.Chmod(ctx, su(), "/m/prog", 0o755, true))
	_, err = k.Open(ctx, su(), "/m/prog", abi.O_EXEC, 0)
	k.is(err, abi.EACCES)
	// Access times: not here, but on the root.
	k.write("/f", "x")
	for _, p := range []string{"/f", "/m/prog"} {
		k.ok(k.Utimens(ctx, su(), p, &[2]abi.Timespec{{Sec: 1}, {Sec: 1}}, true))
		f := k.open(p, abi.O_RDONLY)
		_, err := f.Ops.Read(ctx, abi.KernelCaller, f, make([]byte, 1), 0)
		k.ok(err)
		k.ok(f.Release(ctx))
	}
	if k.stat("/f").Atime.Sec == 1 || k.stat("/m/prog").Atime.Sec != 1 {
		t.Error("access times")
	}
}

func TestChroot(t *testing.T) {
	each(t, func(t *testing.T, k *kern) {
		k.tree()
		w := su()
		w.Cwd = NewCwdinfo()
		defer w.Cwd.Release()
		k.write("/d/sub/inside", "i")
		k.ok(k.Symlink(ctx, su(), "/sub/inside", "/d/link"))
		k.ok(k.Symlink(ctx, su(), "../../../own/mine", "/d/escape"))
		k.ok(k.Chroot(ctx, w, "/d"))
		for p, want := range map[string]abi.Errno{
			"/sub/inside": 0, "/../../sub/inside": 0, "link": 0, "/link": 0, "/escape": abi.ENOENT,
			"/d": abi.ENOENT, "../own": abi.ENOENT, "/own/mine": abi.ENOENT,
		} {
			if _, err := k.Stat(ctx, w, p, true); abi.ErrnoOf(err) != want {
				t.Errorf("%s: %v, want %v", p, err, want)
			}
		}
		if p, err := k.Getcwd(ctx, w); err != nil || p != "/" {
			t.Errorf("getcwd %q, %v", p, err)
		}
		k.ok(k.Chdir(ctx, w, "sub"))
		if p, err := k.Getcwd(ctx, w); err != nil || p != "/sub" {
			t.Errorf("getcwd %q, %v", p, err)
		}
		// The *at calls, and a copy with its own directory.
		dir, err := k.Open(ctx, w, "/", abi.O_RDONLY|abi.O_DIRECTORY, 0)
		k.ok(err)
		at := w
		at.At = dir
		_, err = k.Stat(ctx, at, "sub/inside", true)
		k.ok(err)
		c := w
		c.Cwd = w.Cwd.Copy()
		k.ok(k.Fchdir(ctx, c, dir))
		if p, _ := k.Getcwd(ctx, c); p != "/" {
			t.Errorf("getcwd of the copy %q", p)
		}
		if p, _ := k.Getcwd(ctx, w); p != "/sub" {
			t.Errorf("getcwd of the original %q", p)
		}
		k.ok(dir.Release(ctx))
		f := k.open("/d/f", abi.O_RDONLY)
		at.At = f
		_, err = k.Stat(ctx, at, "x", true)
		k.is(err, abi.ENOTDIR)
		k.is(k.Fchdir(ctx, c, f), abi.ENOTDIR)
		k.ok(f.Release(ctx))
		c.Cwd.Release()
	})
}

func TestXattr(t *testing.T) {
	each(t, func(t *testing.T, k *kern) {
		k.write("/f", "x")
		k.ok(k.Chown(ctx, su(), "/f", 7, 7, true))
		tg := Target{W: su(), Path: "/f", Follow: true}
		_, err := k.Getxattr(ctx, tg, "user.a")
		k.is(err, abi.ENOATTR)
		k.ok(k.Setxattr(ctx, tg, "user.a", []byte("1"), abi.XATTR_CREATE))
		k.is(k.Setxattr(ctx, tg, "user.a", []byte("1"), abi.XATTR_CREATE), abi.EEXIST)
		k.is(k.Setxattr(ctx, tg, "user.b", []byte("1"), abi.XATTR_REPLACE), abi.ENOATTR)
		k.is(k.Setxattr(ctx, tg, "user.b", []byte("1"), 8), abi.EINVAL)
		k.is(k.Setxattr(ctx, tg, "user.b", make([]byte, maxXattr+1), 0), abi.ERANGE)
		k.is(k.Setxattr(ctx, tg, "", nil, 0), abi.EINVAL)
		v, err := k.Getxattr(ctx, tg, "user.a")
		k.ok(err)
		l, err := k.Listxattr(ctx, tg)
		k.ok(err)
		if string(v) != "1" || string(l) != "user.a\x00" {
			t.Errorf("value %q, list %q", v, l)
		}
		f := k.open("/f", abi.O_RDONLY)
		v, err = k.Getxattr(ctx, Target{W: user(7), F: f}, "user.a")
		if err != nil || string(v) != "1" {
			t.Errorf("value %q, %v", v, err)
		}
		k.is(k.Setxattr(ctx, Target{W: user(8), F: f}, "user.a", nil, 0), abi.EACCES)
		k.is(k.Setxattr(ctx, Target{W: user(7), F: f}, "system.a", nil, 0), abi.EPERM)
		k.ok(k.Removexattr(ctx, tg, "user.a"))
		k.is(k.Removexattr(ctx, tg, "user.a"), abi.ENOATTR)
		k.ok(f.Release(ctx))
	})
}

func TestReaddirUnderChange(t *testing.T) {
	each(t, func(t *testing.T, k *kern) {
		want := map[string]bool{}
		for i := range 40 {
			n := strings.Repeat("n", i+1)
			k.write("/"+n, "")
			want[n] = true
		}
		f := k.open("/", abi.O_RDONLY)
		defer f.Release(ctx)
		_, err := k.Getdents(ctx, abi.KernelCaller, f, make([]byte, 8))
		k.is(err, abi.EINVAL)
		seen := map[string]int{}
		buf := make([]byte, 300)
		for i := 0; ; i++ {
			n, err := k.Getdents(ctx, abi.KernelCaller, f, buf)
			k.ok(err)
			if n == 0 {
				break
			}
			ds, err := abi.ParseDirents(buf[:n])
			k.ok(err)
			for _, d := range ds {
				seen[d.Name]++
			}
			k.write("/new"+strings.Repeat("x", i), "")
			k.ok(k.Unlink(ctx, su(), "/new"+strings.Repeat("x", i), 0))
		}
		for n := range want {
			if seen[n] != 1 {
				t.Errorf("%s listed %d times", n, seen[n])
			}
		}
		if _, err := f.Ops.Seek(ctx, abi.KernelCaller, f, 0, abi.SEEK_SET); err != nil {
			t.Fatal(err)
		}
		if n, err := k.Getdents(ctx, abi.KernelCaller, f, buf); n == 0 || err != nil {
			t.Errorf("after a rewind: %d, %v", n, err)
		}
		g := k.open("/n", abi.O_RDONLY)
		_, err = k.Getdents(ctx, abi.KernelCaller, g, buf)
		k.is(err, abi.ENOTDIR)
		g.Release(ctx)
	})
}

func TestSpace(t *testing.T) {
	k := newKern(t, variants[0], Options{})
	k.ok(k.Mkdir(ctx, su(), "/m", 0o755))
	k.mt.space = 300
	k.mount("/m")
	m := k.mt.mounts[1]
	f := k.open("/m/f", abi.O_RDWR|abi.O_CREAT)
	buf := make([]byte, 200*pageSize)
	n, err := f.Ops.Write(ctx, abi.KernelCaller, f, buf, 0)
	if n != len(buf) || err != nil {
		t.Fatalf("wrote %d, %v", n, err)
	}
	if n, err = f.Ops.Write(ctx, abi.KernelCaller, f, buf, int64(len(buf))); n != 100*pageSize || err != nil {
		t.Fatalf("wrote %d pages, %v", n/pageSize, err)
	}
	_, err = f.Ops.Write(ctx, abi.KernelCaller, f, buf, 1<<30)
	k.is(err, abi.ENOSPC)
	if st := k.stat("/m/f"); st.Size != 300*pageSize || st.Bytes != 300*pageSize {
		t.Errorf("size %d, bytes %d", st.Size, st.Bytes)
	}
	if _, err = f.Ops.Write(ctx, abi.KernelCaller, f, buf, 0); err != nil {
		t.Errorf("overwriting: %v", err)
	}
	k.ok(k.Ftruncate(ctx, abi.KernelCaller, f, 0))
	if m.space != 300 {
		t.Errorf("%d pages left after a truncate", m.space)
	}
	if n, err = f.Ops.Write(ctx, abi.KernelCaller, f, buf, 7); n != len(buf) || err != nil {
		t.Errorf("wrote %d, %v", n, err)
	}
	if off, err := f.Ops.Seek(ctx, abi.KernelCaller, f, 0, abi.SEEK_HOLE); err != nil || off != 201*pageSize && off != int64(len(buf))+7 {
		t.Errorf("hole at %d, %v", off, err)
	}
	k.ok(k.Unlink(ctx, su(), "/m/f", 0))
	k.ok(f.Release(ctx))
	if m.space != 300 {
		t.Errorf("%d pages left after the last close", m.space)
	}
	// Holes: a huge file takes nothing.
	f = k.open("/m/g", abi.O_RDWR|abi.O_CREAT)
	k.ok(k.Ftruncate(ctx, abi.KernelCaller, f, 1<<60))
	if _, err := f.Ops.Write(ctx, abi.KernelCaller, f, []byte("x"), 1<<59); err != nil {
		t.Error(err)
	}
	if off, err := f.Ops.Seek(ctx, abi.KernelCaller, f, 5, abi.SEEK_DATA); err != nil || off != 1<<59 {
		t.Errorf("data at %d, %v", off, err)
	}
	if _, err := f.Ops.Seek(ctx, abi.KernelCaller, f, 1<<59+pageSize, abi.SEEK_DATA); !errors.Is(err, abi.ENXIO) {
		t.Errorf("data after the last: %v", err)
	}
	_, err = f.Ops.Write(ctx, abi.KernelCaller, f, []byte("x"), 1<<63-5)
	k.is(err, abi.EFBIG)
	if st := k.stat("/m/g"); st.Bytes != pageSize {
		t.Errorf("bytes %d", st.Bytes)
	}
	k.ok(f.Release(ctx))
	// The size is the file system's after a sync.
	k.ok(k.SyncAll(ctx))
	if n := m.nodes[vkey{k.stat("/m/g").Fileid, 1}]; n.va.Size != 1<<60 {
		t.Errorf("written back as %d", n.va.Size)
	}
}
