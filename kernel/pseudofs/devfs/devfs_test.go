package devfs

import (
	"context"
	"testing"

	"github.com/rumpus-kernel/rumpus/kernel/dev"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

var ctx = context.Background()

type mem struct{ devops.NoChr }

func (mem) Nodes() []devops.Node {
	return []devops.Node{{Name: "null", Unit: 2, Mode: 0o666}, {Name: "zero", Unit: 12, Mode: 0o666}}
}

func mount(t *testing.T) (*dev.Switch, vfsops.FS) {
	t.Helper()
	s := dev.New(dev.Options{})
	if _, err := s.AttachChr("dev", "mem", mem{}); err != nil {
		t.Fatal(err)
	}
	s.InstanceUp("dev")
	now := abi.Timespec{Sec: 77}
	fs, err := New(s, nil).Mount(ctx, &vfsops.MountReq{Fsid: 9, Type: "devfs", Op: vfsops.Op{Now: now}})
	if err != nil {
		t.Fatal(err)
	}
	return s, fs
}

func lookup(t *testing.T, fs vfsops.FS, name string) vfsops.LookupRes {
	t.Helper()
	root, err := fs.Root(ctx)
	if err != nil {
		t.Fatal(err)
	}
	r, err := fs.Lookup(ctx, vfsops.LookupReq{Start: root.Handle, Names: [][]byte{[]byte(name), []byte("x")}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestNodes(t *testing.T) {
	s, fs := mount(t)
	r := lookup(t, fs, "null")
	if len(r.Trace) != 1 || r.Err != 0 {
		t.Fatalf("lookup null: %+v", r)
	}
	va := r.Trace[0].Vattr
	if va.Type != abi.VCHR || va.Mode != 0o666 || va.Rdev != abi.Makedev(2, 2) || va.Nlink != 1 || va.Uid != 0 || va.Mtime.Sec != 77 {
		t.Errorf("null: %+v", va)
	}
	null := r.Trace[0].Handle
	if got, err := fs.Getattr(ctx, null); err != nil || got != va {
		t.Errorf("getattr: %+v %v", got, err)
	}
	if r := lookup(t, fs, "nothing"); len(r.Trace) != 0 || r.Err != abi.ENOENT {
		t.Errorf("lookup nothing: %+v", r)
	}
	if _, err := fs.Lookup(ctx, vfsops.LookupReq{Start: null, Names: [][]byte{[]byte("x")}}); err != abi.ENOTDIR {
		t.Errorf("lookup below null: %v", err)
	}
	for _, h := range []abi.Handle{{FS: 8, File: 2, Gen: 1}, {FS: 9, File: 99, Gen: 1}, {FS: 9, File: null.File, Gen: 2}, {}} {
		if _, err := fs.Getattr(ctx, h); err != abi.ESTALE {
			t.Errorf("getattr %v: %v", h, err)
		}
	}

	// A driver goes and comes: the handle is the same.
	s.DetachInstance("dev")
	if _, err := fs.Getattr(ctx, null); err != abi.ESTALE {
		t.Errorf("getattr without driver: %v", err)
	}
	if r := lookup(t, fs, "null"); r.Err != abi.ENOENT {
		t.Errorf("lookup without driver: %+v", r)
	}
	if _, err := s.AttachChr("other", "aaa", devops.NoChr{}); err != nil {
		t.Fatal(err)
	}
	if r := lookup(t, fs, "aaa"); len(r.Trace) != 1 || r.Trace[0].Vattr.Mode != 0o600 || r.Trace[0].Vattr.Rdev.Major() < 360 {
		t.Errorf("lookup aaa: %+v", r)
	}
	if _, err := s.AttachChr("dev", "mem", mem{}); err != nil {
		t.Fatal(err)
	}
	if r := lookup(t, fs, "null"); len(r.Trace) != 1 || r.Trace[0].Handle != null {
		t.Errorf("lookup null again: %+v", r)
	}
	if c := vfsops.InterfaceCaps(fs); c != 0 {
		t.Errorf("optional interfaces %#x: devfs is read-only", c)
	}
	if st, err := fs.Statvfs(ctx); err != nil || st.Files != 4 {
		t.Errorf("statvfs: %+v %v", st, err)
	}
	if _, err := New(s, nil).Mount(ctx, &vfsops.MountReq{Options: map[string]string{"x": ""}}); err != abi.EINVAL {
		t.Errorf("option: %v", err)
	}
}

func TestReaddir(t *testing.T) {
	s, fs := mount(t)
	root, _ := fs.Root(ctx)
	req := vfsops.ReaddirReq{Dir: root.Handle, Max: 24 + 4}
	r, err := fs.Readdir(ctx, req)
	if err != nil || len(r.Entries) != 1 || r.EOF || r.Entries[0].Name != "null" {
		t.Fatalf("first: %+v %v", r, err)
	}
	// A name that sorts before what was read is still listed, once.
	if _, err := s.AttachChr("other", "aaa", devops.NoChr{}); err != nil {
		t.Fatal(err)
	}
	var names []string
	for req.Cookie = r.Entries[0].Cookie; ; {
		r, err := fs.Readdir(ctx, req)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range r.Entries {
			names = append(names, e.Name)
			req.Cookie = e.Cookie
		}
		if r.EOF {
			break
		}
	}
	if len(names) != 2 || names[0] != "zero" || names[1] != "aaa" {
		t.Errorf("rest: %v", names)
	}
	req.Cookie, req.Max = 0, 10
	if _, err := fs.Readdir(ctx, req); err != abi.EINVAL {
		t.Errorf("no room: %v", err)
	}
	if r, err := fs.Readdir(ctx, vfsops.ReaddirReq{Dir: root.Handle, Cookie: 1 << 63, Max: 100}); err != nil || !r.EOF {
		t.Errorf("beyond: %+v %v", r, err)
	}
	null := lookup(t, fs, "null").Trace[0].Handle
	if _, err := fs.Readdir(ctx, vfsops.ReaddirReq{Dir: null, Max: 100}); err != abi.ENOTDIR {
		t.Errorf("of a node: %v", err)
	}
}
