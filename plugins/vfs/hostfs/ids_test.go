package hostfs

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

func TestOptions(t *testing.T) {
	for _, c := range []struct {
		opts map[string]string
		ok   bool
	}{
		{nil, true},
		{map[string]string{"ro": "", "setid": "true", "exclusive": "", "devices": "false", "fds": "16"}, true},
		{map[string]string{"owner": "5"}, true},
		{map[string]string{"owner": "5:6"}, true},
		{map[string]string{"uidmap": "0:1000"}, true},
		{map[string]string{"uidmap": "0:1000:1/1:100000:65535", "gidmap": "0:0:4294967295"}, true},
		{map[string]string{"uidmap": "0:1000:1,1:100000:65535"}, true},
		{map[string]string{"owner": ""}, false},
		{map[string]string{"owner": "x"}, false},
		{map[string]string{"owner": "1:2:3"}, false},
		{map[string]string{"owner": "4294967295"}, false}, // -1
		{map[string]string{"owner": "1", "uidmap": "0:0"}, false},
		{map[string]string{"gidmap": "0:0"}, false},
		{map[string]string{"uidmap": ""}, false},
		{map[string]string{"uidmap": "0"}, false},
		{map[string]string{"uidmap": "0:1:2:3"}, false},
		{map[string]string{"uidmap": "0:1:0"}, false},
		{map[string]string{"uidmap": "-1:1:1"}, false},
		{map[string]string{"uidmap": "0:4294967295:1"}, false},
		{map[string]string{"uidmap": "1:1:4294967295"}, false},
		{map[string]string{"uidmap": "0:10:5/4:20:5"}, false}, // both have 4
		{map[string]string{"uidmap": "0:10:5/7:14:5"}, false}, // both have the host's 14
		{map[string]string{"setid": "perhaps"}, false},
	} {
		_, err := parseOptions(c.opts)
		if c.ok != (err == nil) || err != nil && abi.ErrnoOf(err) != abi.EINVAL {
			t.Errorf("%v: %v", c.opts, err)
		}
	}
}

func TestIdmap(t *testing.T) {
	const none = -1
	ranges, err := parseRanges("0:1000:1/1:100000:10/500:0:1")
	if err != nil {
		t.Fatal(err)
	}
	mapped, swapped, owned := idmap{ranges: ranges}, idmap{self: 1000}, idmap{self: 1000, owner: true, fixed: 7}
	for _, c := range []struct {
		m        *idmap
		host, in uint32
	}{
		{&mapped, 1000, 0}, {&mapped, 100000, 1}, {&mapped, 100009, 10}, {&mapped, 0, 500},
		{&mapped, 100010, nobody}, {&mapped, 999, nobody}, {&mapped, 1001, nobody},
		{&swapped, 1000, 0}, {&swapped, 0, 1000}, {&swapped, 5, 5},
		{&owned, 0, 7}, {&owned, 1000, 7}, {&owned, 7, 7},
	} {
		if got := c.m.in(c.host); got != c.in {
			t.Errorf("host %d in %+v: %d, not %d", c.host, *c.m, got, c.in)
		}
	}
	for _, c := range []struct {
		m    *idmap
		id   uint32
		out  int
		want abi.Errno
	}{
		{&mapped, 0, 1000, 0}, {&mapped, 10, 100009, 0}, {&mapped, 500, 0, 0},
		{&mapped, 11, none, abi.EPERM}, {&mapped, nobody, none, abi.EPERM}, {&mapped, 1000, none, abi.EPERM},
		{&swapped, 0, 1000, 0}, {&swapped, 1000, 0, 0}, {&swapped, 5, 5, 0},
		{&owned, 7, none, 0}, {&owned, 0, none, abi.EPERM},
	} {
		if got, err := c.m.out(c.id); got != c.out || abi.ErrnoOf(err) != c.want {
			t.Errorf("%d out of %+v: %d, %v", c.id, *c.m, got, err)
		}
	}
}

func FuzzParseRanges(f *testing.F) {
	for _, s := range []string{"", "0:1", "0:1:2/3:4:5", "0:0:4294967295", "1:1:4294967295", ":", "//", "0:0:1/0:0:1"} {
		f.Add(s, uint32(3))
	}
	f.Fuzz(func(t *testing.T, s string, id uint32) {
		rs, err := parseRanges(s)
		if err != nil {
			if abi.ErrnoOf(err) != abi.EINVAL {
				t.Fatal(err)
			}
			return
		}
		// What goes out comes in as it was.
		m := idmap{ranges: rs}
		if h, err := m.out(id); err == nil && m.in(uint32(h)) != id {
			t.Fatalf("%q: %d is %d on the host, which is %d", s, id, h, m.in(uint32(h)))
		}
	})
}

// owners answers whose a file is on the host.
func (r *rig) owners(name string) [2]uint32 {
	r.Helper()
	var st unix.Stat_t
	r.ok(unix.Lstat(r.path(name), &st))
	return [2]uint32{st.Uid, st.Gid}
}

func TestUidmap(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	r := mount(t, "uidmap", "0:0:1/1:100001:99", "gidmap", "0:0:1/1:200001:99")
	root := r.rootH()
	req := r.req(root, "f")
	req.Uid, req.Gid = 5, 6
	m, err := r.Create(ctx, req)
	if abi.ErrnoOf(err) == abi.EPERM {
		t.Skip("this root may not give files away:", err)
	}
	r.ok(err)
	if v := m.Node.Vattr; v.Uid != 5 || v.Gid != 6 || r.owners("f") != [2]uint32{100005, 200006} {
		t.Fatalf("%+v, on the host %v", v, r.owners("f"))
	}
	v, err := r.Setattr(ctx, vfsops.SetattrReq{Node: m.Node.Handle, Mask: abi.SetUid | abi.SetGid, Attr: abi.Vattr{Uid: 99, Gid: 0}})
	r.ok(err)
	if v.Uid != 99 || v.Gid != 0 || r.owners("f") != [2]uint32{100099, 0} {
		t.Fatalf("%+v, on the host %v", v, r.owners("f"))
	}
	_, err = r.Setattr(ctx, vfsops.SetattrReq{Node: m.Node.Handle, Mask: abi.SetUid, Attr: abi.Vattr{Uid: 100}})
	r.is(err, abi.EPERM)
	req = r.req(root, "g")
	req.Uid = 1000
	_, err = r.Create(ctx, req)
	r.is(err, abi.EPERM)
	if _, err := os.Lstat(r.path("g")); err == nil {
		t.Fatal("a file that could not be given away stays")
	}
	r.ok(os.WriteFile(r.path("theirs"), nil, 0o600))
	r.ok(os.Chown(r.path("theirs"), 1234, 1234))
	if v, err := r.Getattr(ctx, r.handleOf("theirs")); err != nil || v.Uid != nobody || v.Gid != nobody {
		t.Fatalf("%+v %v", v, err)
	}
}

func TestOwner(t *testing.T) {
	r := mount(t, "owner", "70:71")
	root := r.rootH()
	if v, err := r.Getattr(ctx, root); err != nil || v.Uid != 70 || v.Gid != 71 {
		t.Fatalf("%+v %v", v, err)
	}
	r.ok(os.WriteFile(r.path("host"), nil, 0o600))
	mine := r.owners("host")
	req := r.req(root, "f")
	req.Uid, req.Gid = 1234, 5678 // of the caller
	m, err := r.Create(ctx, req)
	r.ok(err)
	if v := m.Node.Vattr; v.Uid != 70 || v.Gid != 71 || v.Mode != 0o640 || r.owners("f") != mine {
		t.Fatalf("%+v, on the host %v", v, r.owners("f"))
	}
	set := func(mask abi.SetMask, uid, gid uint32) error {
		_, err := r.Setattr(ctx, vfsops.SetattrReq{Node: m.Node.Handle, Mask: mask, Attr: abi.Vattr{Uid: uid, Gid: gid}})
		return err
	}
	r.ok(set(abi.SetUid|abi.SetGid, 70, 71))
	r.is(set(abi.SetUid, 0, 0), abi.EPERM)
	r.is(set(abi.SetGid, 0, 0), abi.EPERM)
	if r.owners("f") != mine {
		t.Fatal(r.owners("f"))
	}
}

// TestSetid: no set-id bits for files without the option.
func TestSetid(t *testing.T) {
	r := mount(t)
	root := r.rootH()
	req := r.req(root, "f")
	for _, mode := range []uint32{0o4755, 0o2755, 0o6755} {
		req.Mode = mode
		_, err := r.Create(ctx, req)
		r.is(err, abi.EPERM)
		_, err = r.Mknod(ctx, vfsops.MknodReq{CreateReq: req, Type: abi.VFIFO})
		r.is(err, abi.EPERM)
	}
	if got := r.list(root, 4096); len(got) != 0 {
		t.Fatal(got)
	}
	f := r.file(root, "f", "12345")
	chmod := func(h abi.Handle, mode uint32) (abi.Vattr, error) {
		return r.Setattr(ctx, vfsops.SetattrReq{Node: h, Mask: abi.SetMode | abi.SetSize, Attr: abi.Vattr{Mode: mode, Size: 2}})
	}
	_, err := chmod(f, 0o4755)
	r.is(err, abi.EPERM)
	if s := r.read(f); s != "12345" {
		t.Fatal("half of it was done:", s)
	}
	// A file that has them may keep them, and lose them.
	r.ok(os.Chmod(r.path("f"), 0o755|os.ModeSetuid))
	v, err := chmod(f, 0o4711)
	r.ok(err)
	if v.Mode != 0o4711 {
		t.Fatalf("%o", v.Mode)
	}
	_, err = chmod(f, 0o6711)
	r.is(err, abi.EPERM)
	v, err = chmod(f, 0o711)
	r.ok(err)
	if v.Mode != 0o711 {
		t.Fatalf("%o", v.Mode)
	}
	// On directories they say whose group new files have.
	req = r.req(root, "d")
	req.Mode = 0o2750
	m, err := r.Mkdir(ctx, req)
	r.ok(err)
	if m.Node.Vattr.Mode != 0o2750 {
		t.Fatalf("%o", m.Node.Vattr.Mode)
	}
	with := mount(t, "setid", "")
	req = with.req(with.rootH(), "f")
	req.Mode = 0o4755
	m, err = with.Create(ctx, req)
	with.ok(err)
	if m.Node.Vattr.Mode != 0o4755 {
		t.Fatalf("%o", m.Node.Vattr.Mode)
	}
}

func TestExclusive(t *testing.T) {
	dir := t.TempDir()
	open := func(exclusive bool) (*FS, error) {
		d, err := os.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		return newFS(1, d, options{fds: 16, exclusive: exclusive})
	}
	first, err := open(true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := open(true); abi.ErrnoOf(err) != abi.EBUSY {
		t.Fatal("a second one:", err)
	}
	other, err := open(false)
	if err != nil {
		t.Fatal("one without the option:", err)
	}
	other.closeAll()
	first.closeAll()
	again, err := open(true)
	if err != nil {
		t.Fatal("after the unmount:", err)
	}
	again.closeAll()
}

// TestReadOnlyDescriptors: on a mount for reading only there is no descriptor
// that could write.
func TestReadOnlyDescriptors(t *testing.T) {
	r := mount(t, "ro", "")
	r.ok(os.WriteFile(r.path("f"), []byte("x"), 0o600))
	f := r.handleOf("f")
	if r.read(f) != "x" {
		t.Fatal("read")
	}
	r.ok(r.Pin(ctx, f))
	defer func() { r.ok(r.Unpin(ctx, f)) }()
	r.ok(r.Sync(ctx, f, false))
	_, err := r.Listxattr(ctx, f)
	r.ok(err)
	for _, n := range r.nodes {
		if n.rw >= 0 {
			t.Fatal("a descriptor for writing")
		}
		for _, fd := range []int{n.path, n.rd} {
			if fd < 0 {
				continue
			}
			if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err != nil || flags&unix.O_ACCMODE != unix.O_RDONLY {
				t.Fatalf("flags %#x, %v", flags, err)
			}
		}
	}
}
