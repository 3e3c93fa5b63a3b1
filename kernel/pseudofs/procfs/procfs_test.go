package procfs

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/kernel/proc"
	"github.com/rumpus-kernel/rumpus/kernel/pseudofs"
	"github.com/rumpus-kernel/rumpus/kernel/sysctl"
	"github.com/rumpus-kernel/rumpus/kernel/vfs"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/tmpfs"
)

var ctx = context.Background()

type rig struct {
	t *testing.T
	*vfs.VFS
	procs *proc.Table
	blind bool // users see only what is theirs
}

func newRig(t *testing.T, opts map[string]string) *rig {
	t.Helper()
	ft := &file.Table{}
	ft.Max.Store(1000)
	r := &rig{t: t, procs: proc.NewTable(ft)}
	r.VFS = vfs.New(vfs.Options{Files: ft})
	r.SetAvailable(true)
	s := sysctl.New()
	for name, v := range map[string]string{"kern.version": "rumpus 1", "hw.ncpu": "2", "hw.model": "m", "hw.physmem64": "1048576"} {
		if err := s.Create(sysctl.Node{Name: name, Type: sysctl.TypeString, Get: sysctl.Const(v)}); err != nil {
			t.Fatal(err)
		}
	}
	r.procs.SetHooks(proc.Hooks{VFSInit: vfs.NewCwdinfo, VFSRelease: func(c *vfs.Cwdinfo) { c.Release() }})
	r.ok(r.AttachFS("", "procfs", New(Deps{Procs: r.procs, VFS: r.VFS, Sysctl: s, Now: func() time.Time { return time.Unix(1012, 345e6) }, Booted: time.Unix(1000, 0),
		Sees: func(c *abi.Caller, of *proc.Proc) bool {
			return !r.blind || c.Cred.Euid == 0 || c.Cred.Euid == of.Cred().Euid
		}}), pseudofs.Caps))
	r.ok(r.AttachFS("vfs", "tmpfs", tmpfs.New(), vfsCaps()))
	r.mount("tmpfs", "/", nil)
	r.ok(r.Mkdir(ctx, su(), "/proc", 0o755))
	r.ok(r.Mkdir(ctx, su(), "/a dir", 0o755))
	r.mount("procfs", "/proc", opts)
	t.Cleanup(func() {
		r.procs.Close(ctx)
		r.UnmountAll(ctx)
	})
	return r
}

func (r *rig) mount(typ, dir string, opts map[string]string) {
	r.t.Helper()
	_, err := r.Mount(ctx, su(), vfs.MountArgs{Type: typ, Dir: dir, Options: opts})
	r.ok(err)
}

func (r *rig) ok(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func su() vfs.Where { return vfs.Where{Caller: abi.KernelCaller} }

func (r *rig) new(name string, uid uint32) (*proc.Proc, vfs.Where) {
	r.t.Helper()
	p, err := r.procs.New(name, abi.NewCred(uid, uid))
	r.ok(err)
	return p, vfs.Where{Caller: &abi.Caller{Cred: p.Cred(), Pid: p.Pid, Lid: 1}, Cwd: p.Cwd()}
}

func (r *rig) open(w vfs.Where, path string) (*file.File, error) {
	return r.Open(ctx, w, path, abi.O_RDONLY, 0)
}

func (r *rig) read(w vfs.Where, path string) string {
	r.t.Helper()
	f, err := r.open(w, path)
	if err != nil {
		r.t.Fatalf("open %s: %v", path, err)
	}
	defer f.Release(ctx)
	b := make([]byte, 10000)
	n, err := f.Ops.Read(ctx, w.Caller, f, b, 0)
	r.ok(err)
	return string(b[:n])
}

func (r *rig) ls(w vfs.Where, path string) (names []string) {
	r.t.Helper()
	f, err := r.open(w, path)
	if err != nil {
		r.t.Fatalf("open %s: %v", path, err)
	}
	defer f.Release(ctx)
	buf := make([]byte, 600)
	for {
		n, err := r.Getdents(ctx, w.Caller, f, buf)
		r.ok(err)
		if n == 0 {
			return names
		}
		ds, err := abi.ParseDirents(buf[:n])
		r.ok(err)
		for _, d := range ds {
			if d.Name != "." && d.Name != ".." {
				names = append(names, d.Name)
			}
		}
	}
}

func TestProcess(t *testing.T) {
	r := newRig(t, nil)
	p, w := r.new("evil\nname x", 7)
	_, other := r.new("other", 8)
	dir := fmt.Sprintf("/proc/%d", p.Pid)
	r.ok(r.Chdir(ctx, w, "/a dir"))
	f, err := r.Open(ctx, su(), "/a dir/f", abi.O_CREAT|abi.O_RDWR, 0o644)
	r.ok(err)
	f.Name = "/a dir/f"
	if _, err := p.Fd.Alloc(f, 5, false); err != nil {
		t.Fatal(err)
	}
	if got := r.read(other, dir+"/cmdline"); got != "evil\nname x\x00" {
		t.Errorf("cmdline %q", got)
	}
	if got, want := r.read(other, dir+"/status"), fmt.Sprintf("evil?name?x %d 0 0 0 noflags 0,0 0,0 0,0 nochan 7, 7", p.Pid); !strings.HasPrefix(got, want) || strings.Count(got, "\n") != 1 {
		t.Errorf("status %q, want %q", got, want)
	}
	if got := r.read(other, dir+"/limit"); !strings.Contains(got, "descriptors 1024 ") || strings.Count(got, "\n") != abi.RLIM_NLIMITS {
		t.Errorf("limit %q", got)
	}
	if got := r.ls(other, dir); strings.Join(got, " ") != "cmdline cwd limit root status fd" {
		t.Errorf("ls: %v", got)
	}
	if got := r.ls(w, dir+"/fd"); strings.Join(got, " ") != "5" {
		t.Errorf("fd: %v", got)
	}
	for name, want := range map[string]string{"/cwd": "/a dir", "/root": "/", "/fd/5": "/a dir/f"} {
		for _, who := range []vfs.Where{w, su()} {
			if got, err := r.Readlink(ctx, who, dir+name); got != want || err != nil {
				t.Errorf("%s: %q, %v", name, got, err)
			}
		}
		if _, err := r.Readlink(ctx, other, dir+name); abi.ErrnoOf(err) != abi.EACCES {
			t.Errorf("%s by a stranger: %v", name, err)
		}
	}
	if _, err := r.open(other, dir+"/fd"); abi.ErrnoOf(err) != abi.EACCES {
		t.Errorf("fd by a stranger: %v", err)
	}
	// Through the links.
	if st, err := r.Stat(ctx, w, dir+"/cwd/f", true); err != nil || st.Type != abi.VREG {
		t.Errorf("stat through cwd: %v", err)
	}
	for _, l := range []string{"curproc", "self"} {
		if got, err := r.Readlink(ctx, w, "/proc/"+l); got != strconv.Itoa(int(p.Pid)) || err != nil {
			t.Errorf("%s: %q, %v", l, got, err)
		}
		if got := r.read(w, "/proc/"+l+"/cmdline"); got != "evil\nname x\x00" {
			t.Errorf("%s: %q", l, got)
		}
	}
	st, err := r.Stat(ctx, su(), dir, true)
	if err != nil || st.Uid != 7 || st.Mode != 0o555 {
		t.Errorf("stat: %+v, %v", st, err)
	}
	r.ok(p.Fd.Close(ctx, 5))
	if _, err := r.Readlink(ctx, w, dir+"/fd/5"); abi.ErrnoOf(err) != abi.ENOENT {
		t.Errorf("closed descriptor: %v", err)
	}
}

// TestComeAndGo has open files and a current directory of a process that ends.
func TestComeAndGo(t *testing.T) {
	r := newRig(t, nil)
	p, _ := r.new("a", 7)
	dir := fmt.Sprintf("/proc/%d", p.Pid)
	w := su()
	w.Cwd = vfs.NewCwdinfo()
	defer w.Cwd.Release()
	r.ok(r.Chdir(ctx, w, dir))
	f, err := r.open(w, "cmdline")
	r.ok(err)
	defer f.Release(ctx)
	p.Exit(ctx)
	b := make([]byte, 10)
	if n, err := f.Ops.Read(ctx, w.Caller, f, b, 0); n != 2 || err != nil {
		t.Errorf("read of an open file: %d, %v", n, err)
	}
	if _, err := f.Ops.Stat(ctx, w.Caller, f); abi.ErrnoOf(err) != abi.ESTALE {
		t.Errorf("fstat: %v", err)
	}
	if _, err := r.Stat(ctx, w, "cmdline", true); err == nil {
		t.Error("a name below a process that is gone")
	}
	if _, err := r.Stat(ctx, su(), dir, true); abi.ErrnoOf(err) != abi.ENOENT {
		t.Errorf("stat: %v", err)
	}
}

func TestNames(t *testing.T) {
	r := newRig(t, nil)
	for _, name := range []string{"+2", "02", "-1", "2147483648", "99999999999999999999", "0x2", "2 ", "cpuinfo", "1"} {
		if _, err := r.Stat(ctx, su(), "/proc/"+name, false); abi.ErrnoOf(err) != abi.ENOENT {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := r.Stat(ctx, su(), "/proc/0/fd/1048575", false); abi.ErrnoOf(err) != abi.ENOENT {
		t.Errorf("fd: %v", err)
	}
	for what, err := range map[string]error{
		"unlink": r.Unlink(ctx, su(), "/proc/0/cmdline", 0), "rmdir": r.Rmdir(ctx, su(), "/proc/0"),
		"chown": r.Chown(ctx, su(), "/proc/0", 1, 1, true), "mkdir": r.Mkdir(ctx, su(), "/proc/77", 0o755),
	} {
		if abi.ErrnoOf(err) != abi.EROFS {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := r.Open(ctx, su(), "/proc/0/cmdline", abi.O_RDWR, 0); abi.ErrnoOf(err) != abi.EPERM {
		t.Errorf("open for writing: %v", err)
	}
	for _, o := range []map[string]string{{"x": ""}, {"linux": "maybe"}} {
		if _, err := r.Mount(ctx, su(), vfs.MountArgs{Type: "procfs", Dir: "/proc", Options: o}); abi.ErrnoOf(err) != abi.EINVAL {
			t.Errorf("options %v: %v", o, err)
		}
	}
	// Handles that nobody was given.
	fs, err := New(Deps{Procs: r.procs, VFS: r.VFS}).Mount(ctx, mountReq(9))
	r.ok(err)
	for _, h := range []abi.Handle{{}, {FS: 9}, {FS: 9, File: 2, Gen: 2}, {FS: 9, File: 1<<63 + 2, Gen: 1}, {FS: 9, File: ^abi.Fileid(0), Gen: 1},
		{FS: 9, File: number(0, -1, 99), Gen: 1}, {FS: 9, File: number(0, 3, 1), Gen: 1}, {FS: 9, File: 3, Gen: 7}, {FS: 8, File: 2, Gen: 1}} {
		if _, err := fs.Getattr(ctx, h); err != abi.ESTALE {
			t.Errorf("%v: %v", h, err)
		}
	}
}

func TestCurtain(t *testing.T) {
	r := newRig(t, nil)
	p, _ := r.new("a", 7)
	_, w := r.new("b", 8)
	r.blind = true
	own := strconv.Itoa(int(w.Caller.Pid))
	if got := r.ls(w, "/proc"); strings.Join(got, " ") != "curproc self "+own {
		t.Errorf("ls: %v", got)
	}
	if _, err := r.Stat(ctx, w, fmt.Sprintf("/proc/%d/status", p.Pid), true); abi.ErrnoOf(err) != abi.ENOENT {
		t.Errorf("another's: %v", err)
	}
	if got := r.ls(su(), "/proc"); len(got) != 5 {
		t.Errorf("ls as root: %v", got)
	}
}

func TestLinux(t *testing.T) {
	r := newRig(t, map[string]string{"linux": ""})
	p, _ := r.new("a", 7)
	for name, want := range map[string]string{
		"version": "rumpus 1\n", "uptime": "12.34 0.00\n", "mounts": "tmpfs / tmpfs rw 0 0\nprocfs /proc procfs rw 0 0\n",
		"cpuinfo": "processor\t: 0\nmodel name\t: m\n\nprocessor\t: 1\nmodel name\t: m\n\n", "loadavg": fmt.Sprintf("0.00 0.00 0.00 0/2 %d\n", p.Pid),
	} {
		if got := r.read(su(), "/proc/"+name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if got := r.read(su(), "/proc/meminfo"); !strings.HasPrefix(got, "MemTotal:     1024 kB\n") {
		t.Errorf("meminfo %q", got)
	}
	if got := strings.Fields(r.read(su(), fmt.Sprintf("/proc/%d/stat", p.Pid))); len(got) != 44 || got[1] != "(a)" {
		t.Errorf("stat: %d %v", len(got), got)
	}
}

// TestListingUnderChange lists while processes come and go: who stays is there
// once.
func TestListingUnderChange(t *testing.T) {
	r := newRig(t, nil)
	var stay []string
	for range 20 {
		p, _ := r.new("s", 7)
		stay = append(stay, strconv.Itoa(int(p.Pid)))
	}
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Add(1)
	go func() {
		defer wg.Done()
		for {
			select {
			case <-stop:
				return
			default:
			}
			p, err := r.procs.New("c", abi.NewCred(7, 7))
			if err == nil {
				p.Exit(ctx)
			}
		}
	}()
	for range 30 {
		seen := map[string]int{}
		for _, n := range r.ls(su(), "/proc") {
			seen[n]++
		}
		for _, s := range stay {
			if seen[s] != 1 {
				t.Errorf("%s is there %d times", s, seen[s])
			}
		}
	}
	close(stop)
	wg.Wait()
}

func vfsCaps() vfsops.Caps { return vfsops.CapSole | vfsops.CapKpages | vfsops.CapFixedids }

func mountReq(id abi.Fsid) *vfsops.MountReq { return &vfsops.MountReq{Fsid: id} }
