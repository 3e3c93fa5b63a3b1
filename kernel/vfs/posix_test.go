package vfs

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/tmpfs"
)

var ctx = context.Background()

// kern is a VFS with a root file system, for tests.
type kern struct {
	t *testing.T
	*VFS
	mt   *memType
	opts map[string]string // of mounts
}

type variant struct {
	name string
	caps vfsops.Caps
	wrap func(*memFS) vfsops.FS
}

var variants = []variant{
	{"kpages", vfsops.CapSole | vfsops.CapKpages | vfsops.CapXattr, func(f *memFS) vfsops.FS { return memKpages{f} }},
	{"sole", vfsops.CapSole, func(f *memFS) vfsops.FS { return memData{f} }},
	{"pager", vfsops.CapSole, func(f *memFS) vfsops.FS { return memPager{memData{f}} }},
	{"shared", 0, func(f *memFS) vfsops.FS { return memData{f} }},
	{"kpages nocache", vfsops.CapSole | vfsops.CapKpages | vfsops.CapXattr, func(f *memFS) vfsops.FS { return memKpages{f} }},
	{"pager nocache", vfsops.CapSole, func(f *memFS) vfsops.FS { return memPager{memData{f}} }},
	{"pages only nocache", vfsops.CapSole, func(f *memFS) vfsops.FS { return memPagesOnly{f} }},
	{"tmpfs", vfsops.CapSole | vfsops.CapKpages | vfsops.CapXattr | vfsops.CapFixedids, nil},
}

func newKern(t *testing.T, v variant, o Options) *kern {
	t.Helper()
	if o.MemLimit == 0 {
		o.MemLimit = 64 << 20
	}
	k := &kern{t: t, VFS: New(o), mt: &memType{}}
	if v.nocache() {
		k.opts = map[string]string{"nocache": ""}
	}
	k.SetAvailable(true)
	k.ok(k.AttachFS("vfs", "mem", v.fsType(k.mt), v.caps))
	k.mount("/")
	t.Cleanup(func() {
		k.UnmountAll(ctx)
		if n := k.PageBytes(); n != 0 {
			t.Errorf("%d bytes of pages left after unmount", n)
		}
	})
	return k
}

// nocache says that the variant is mounted with the option.
func (v variant) nocache() bool { return strings.HasSuffix(v.name, "nocache") }

// fsType is the file-system type of a variant: tmpfs, or mt.
func (v variant) fsType(mt *memType) vfsops.FSType {
	if v.wrap == nil {
		return tmpfs.New()
	}
	return memVariant{mt, v.wrap}
}

func each(t *testing.T, fn func(t *testing.T, k *kern)) {
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) { fn(t, newKern(t, v, Options{})) })
	}
}

func su() Where { return Where{Caller: abi.KernelCaller} }
func user(uid uint32) Where {
	return Where{Caller: &abi.Caller{Cred: abi.NewCred(uid, uid), Pid: 2, Lid: 1}}
}

// fs is the root file system, if it is one of ours.
func (k *kern) fs() *memFS {
	if len(k.mt.mounts) == 0 {
		return nil
	}
	return k.mt.mounts[0]
}

func (k *kern) ok(err error) {
	k.t.Helper()
	if err != nil {
		k.t.Fatal(err)
	}
}

func (k *kern) is(err error, want abi.Errno) {
	k.t.Helper()
	if abi.ErrnoOf(err) != want {
		k.t.Fatalf("got %v, want %v", err, want.Name())
	}
}

func (k *kern) mount(dir string) abi.Fsid {
	k.t.Helper()
	id, err := k.Mount(ctx, su(), MountArgs{Type: "mem", Dir: dir, Options: k.opts})
	k.ok(err)
	return id
}

func (k *kern) open(path string, flags int) *file.File {
	k.t.Helper()
	f, err := k.Open(ctx, su(), path, flags, 0o644)
	if err != nil {
		k.t.Fatalf("open %s: %v", path, err)
	}
	return f
}

func (k *kern) write(path, data string) {
	k.t.Helper()
	f := k.open(path, abi.O_WRONLY|abi.O_CREAT|abi.O_TRUNC)
	n, err := f.Ops.Write(ctx, abi.KernelCaller, f, []byte(data), file.Cur)
	k.ok(err)
	if n != len(data) {
		k.t.Fatalf("wrote %d of %d", n, len(data))
	}
	k.ok(f.Release(ctx))
}

func (k *kern) read(path string) string {
	k.t.Helper()
	f := k.open(path, abi.O_RDONLY)
	defer f.Release(ctx)
	return k.readFile(f)
}

func (k *kern) readFile(f *file.File) string {
	k.t.Helper()
	var b []byte
	buf := make([]byte, 1000)
	for off := int64(0); ; {
		n, err := f.Ops.Read(ctx, abi.KernelCaller, f, buf, off)
		k.ok(err)
		if n == 0 {
			return string(b)
		}
		b = append(b, buf[:n]...)
		off += int64(n)
	}
}

func (k *kern) ls(path string) []abi.Dirent {
	k.t.Helper()
	f := k.open(path, abi.O_RDONLY|abi.O_DIRECTORY)
	defer f.Release(ctx)
	var all []abi.Dirent
	buf := make([]byte, 600)
	for {
		n, err := k.Getdents(ctx, abi.KernelCaller, f, buf)
		k.ok(err)
		if n == 0 {
			return all
		}
		d, err := abi.ParseDirents(buf[:n])
		k.ok(err)
		all = append(all, d...)
	}
}

func (k *kern) stat(path string) abi.Stat {
	k.t.Helper()
	st, err := k.Stat(ctx, su(), path, false)
	if err != nil {
		k.t.Fatalf("stat %s: %v", path, err)
	}
	return st
}

func TestSmoke(t *testing.T) {
	each(t, func(t *testing.T, k *kern) {
		k.ok(k.Mkdir(ctx, su(), "/a", 0o755))
		k.ok(k.Mkdir(ctx, su(), "/a/b", 0o755))
		k.write("/a/b/f", "hello, world")
		if got := k.read("/a/b/../b/./f"); got != "hello, world" {
			t.Fatalf("read %q", got)
		}
		if st := k.stat("/a/b/f"); st.Size != 12 || st.Type != abi.VREG || st.Mode != 0o644 {
			t.Fatalf("stat %+v", st)
		}
		k.ok(k.Symlink(ctx, su(), "b/f", "/a/l"))
		if got := k.read("/a/l"); got != "hello, world" {
			t.Fatalf("read through link %q", got)
		}
		if d := k.ls("/a"); len(d) != 4 || d[0].Name != "." || d[1].Name != ".." {
			t.Fatalf("ls %v", d)
		}
		k.ok(k.Rename(ctx, su(), "/a/b/f", su(), "/a/g", 0))
		k.is(func() error { _, err := k.Stat(ctx, su(), "/a/b/f", true); return err }(), abi.ENOENT)
		k.ok(k.Rmdir(ctx, su(), "/a/b"))
		k.ok(k.Unlink(ctx, su(), "/a/g", 0))
		k.ok(k.Unlink(ctx, su(), "/a/l", 0))
		k.ok(k.Rmdir(ctx, su(), "/a"))
		if k.stat("/").Nlink != 2 {
			t.Fatal("nlink of the root")
		}
		if errors.Is(k.SyncAll(ctx), abi.EIO) {
			t.Fatal("sync")
		}
	})
}
