package hostfs

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rumpus-kernel/rumpus/host/supervise"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// componentUID is the user of the pretended component.
const componentUID = 12345

// TestAsComponent runs TestInComponent as another user, over a directory that
// a root host granted it.
func TestAsComponent(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	dir := t.TempDir()
	_, f, err := supervise.OpenGrant("host.dir:"+dir+":rw", componentUID)
	if e := abi.ErrnoOf(err); e == abi.EPERM || e == abi.EOPNOTSUPP {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := errors.Join(
		os.WriteFile(dir+"/root", []byte("root's"), 0o600),
		os.WriteFile(dir+"/other", []byte("other's"), 0o600), os.Chown(dir+"/other", 777, 777),
	); err != nil {
		t.Fatal(err)
	}
	// The test binary lies in a directory that only we may enter.
	exe := filepath.Join(os.TempDir(), filepath.Base(dir)+"hostfs.test")
	defer os.Remove(exe)
	if err := copyFile(exe, "/proc/self/exe"); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, "-test.run=^TestInComponent$", "-test.v")
	cmd.Env = []string{"HOSTFS_TEST_FD=3"}
	cmd.Dir = "/"
	cmd.ExtraFiles = []*os.File{f}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: componentUID, Gid: componentUID}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var st unix.Stat_t
	for _, name := range []string{"dir", "dir/made", "link"} {
		if err := unix.Lstat(filepath.Join(dir, name), &st); err != nil || st.Uid != 0 || st.Gid != 0 {
			t.Errorf("%s on disk: %d:%d %v", name, st.Uid, st.Gid, err)
		}
	}
	if b, err := os.ReadFile(dir + "/root"); err != nil || string(b) != "ROOT'S" {
		t.Error(string(b), err)
	}
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// TestInComponent is the part of TestAsComponent inside the component.
func TestInComponent(t *testing.T) {
	if os.Getenv("HOSTFS_TEST_FD") == "" {
		t.Skip("only as a part of TestAsComponent")
	}
	f, err := newFS(1, os.NewFile(3, "grant"), options{fds: 16})
	if err != nil {
		t.Fatal(err)
	}
	defer f.closeAll()
	r := &rig{TB: t, FS: f}
	req := func(d abi.Handle, name string) vfsops.CreateReq {
		return vfsops.CreateReq{Op: vfsops.Op{Caller: abi.KernelCaller}, Dir: d, Name: []byte(name), Mode: 0o755}
	}
	root := r.rootH()
	d, err := r.Mkdir(ctx, req(root, "dir"))
	r.ok(err)
	m, err := r.Create(ctx, req(d.Node.Handle, "made"))
	r.ok(err)
	if v := m.Node.Vattr; v.Uid != 0 || v.Gid != 0 || v.Mode != 0o755 {
		t.Errorf("%+v", v)
	}
	_, err = r.Symlink(ctx, vfsops.SymlinkReq{CreateReq: req(root, "link"), Target: []byte("x")})
	r.ok(err)
	h := r.handleOf("root")
	if v, err := r.Getattr(ctx, h); err != nil || v.Uid != 0 || v.Gid != 0 {
		t.Errorf("%+v %v", v, err)
	}
	r.write(h, 0, "ROOT'S")
	_, err = r.Setattr(ctx, vfsops.SetattrReq{Node: h, Mask: abi.SetMode, Attr: abi.Vattr{Mode: 0o640}})
	r.ok(err)
	_, err = r.Link(ctx, vfsops.LinkReq{Node: h, Dir: root, Name: []byte("hard")})
	r.ok(err)
	h = r.handleOf("other")
	if v, err := r.Getattr(ctx, h); err != nil || v.Uid != 777 {
		t.Errorf("%+v %v", v, err)
	}
	_, err = r.Read(ctx, h, 0, abi.IovOf(make([]byte, 1)))
	r.is(err, abi.EACCES)
	other := req(root, "theirs")
	other.Uid = 5
	_, err = r.Create(ctx, other)
	r.is(err, abi.EPERM)
	if _, e := r.lookup(root, "theirs"); e != abi.ENOENT {
		t.Error("a file that could not be given away stays:", e)
	}
}
