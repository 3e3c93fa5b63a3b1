package kernfs

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/kernel/pseudofs"
	"github.com/rumpus-kernel/rumpus/kernel/sysctl"
	"github.com/rumpus-kernel/rumpus/kernel/vfs"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

var ctx = context.Background()

type rig struct {
	t *testing.T
	*vfs.VFS
	now  time.Time
	host string
	msg  string
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, now: time.Unix(1000, 5000), host: "box", msg: "hello\n"}
	s := sysctl.New()
	for _, n := range []sysctl.Node{
		{Name: "kern.hostname", Type: sysctl.TypeString, Get: func() string { return r.host }, Set: func(v string) error { r.host = v; return nil }},
		{Name: "kern.msgbuf", Type: sysctl.TypeStruct, Get: func() string { return r.msg }},
		{Name: "kern.version", Type: sysctl.TypeString, Get: sysctl.Const("rumpus 1")},
		{Name: "hw.physmem64", Type: sysctl.TypeQuad, Get: sysctl.Const("8192")},
	} {
		if err := s.Create(n); err != nil {
			t.Fatal(err)
		}
	}
	r.VFS = vfs.New(vfs.Options{})
	r.SetAvailable(true)
	if err := r.AttachFS("", "kernfs", New(Deps{Sysctl: s, Now: func() time.Time { return r.now }, Booted: time.Unix(900, 0)}), pseudofs.Caps); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Mount(ctx, root(), vfs.MountArgs{Type: "kernfs", Dir: "/"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.UnmountAll(ctx) })
	return r
}

func root() vfs.Where { return vfs.Where{Caller: abi.KernelCaller} }
func user() vfs.Where {
	return vfs.Where{Caller: &abi.Caller{Cred: abi.NewCred(7, 7), Pid: 2, Lid: 1}}
}

func (r *rig) read(f *file.File) string {
	r.t.Helper()
	var b []byte
	buf := make([]byte, 3)
	for {
		n, err := f.Ops.Read(ctx, abi.KernelCaller, f, buf, file.Cur)
		if err != nil {
			r.t.Fatal(err)
		}
		if n == 0 {
			return string(b)
		}
		b = append(b, buf[:n]...)
	}
}

func TestFiles(t *testing.T) {
	r := newRig(t)
	for name, want := range map[string]string{
		"boottime": "900\n", "copyright": Copyright, "hostname": "box\n", "hz": "100\n", "msgbuf": "hello\n", "pagesize": "4096\n",
		"physmem": "2\n", "time": "1000 5\n", "uptime": "100\n", "version": "rumpus 1\n",
	} {
		f, err := r.Open(ctx, user(), "/"+name, abi.O_RDONLY, 0)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := r.read(f); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
		st, err := f.Ops.Stat(ctx, abi.KernelCaller, f)
		if err != nil || st.Size != int64(len(want)) || st.Uid != 0 || st.Type != abi.VREG {
			t.Errorf("stat %s: %+v, %v", name, st, err)
		}
		if err := f.Release(ctx); err != nil {
			t.Error(err)
		}
	}
}

// TestSnapshot reads the same state to its end whatever happens meanwhile.
func TestSnapshot(t *testing.T) {
	r := newRig(t)
	f, err := r.Open(ctx, user(), "/msgbuf", abi.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Release(ctx)
	r.msg = "other text\n"
	if got := r.read(f); got != "hello\n" {
		t.Errorf("read %q", got)
	}
	if n, err := f.Ops.Seek(ctx, abi.KernelCaller, f, -2, abi.SEEK_END); n != 4 || err != nil {
		t.Errorf("seek: %d, %v", n, err)
	}
	if got := r.read(f); got != "o\n" {
		t.Errorf("read %q after the seek", got)
	}
	if _, err := f.Ops.Seek(ctx, abi.KernelCaller, f, -7, abi.SEEK_CUR); abi.ErrnoOf(err) != abi.EINVAL {
		t.Errorf("seek before the start: %v", err)
	}
}

func TestHostname(t *testing.T) {
	r := newRig(t)
	f, err := r.Open(ctx, root(), "/hostname", abi.O_WRONLY|abi.O_TRUNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Release(ctx)
	if n, err := f.Ops.Write(ctx, abi.KernelCaller, f, []byte("ship\n"), file.Cur); n != 5 || err != nil || r.host != "ship" {
		t.Errorf("write: %d, %v, %q", n, err, r.host)
	}
	for what, tc := range map[string]struct {
		c    *abi.Caller
		text string
		want abi.Errno
	}{
		"by a user": {user().Caller, "x", abi.EPERM}, "two lines": {abi.KernelCaller, "a\nb", abi.EINVAL},
		"NUL": {abi.KernelCaller, "a\x00", abi.EINVAL}, "long": {abi.KernelCaller, strings.Repeat("x", 5000), abi.EINVAL},
	} {
		if _, err := f.Ops.Write(ctx, tc.c, f, []byte(tc.text), file.Cur); abi.ErrnoOf(err) != tc.want || r.host != "ship" {
			t.Errorf("%s: %v, %q", what, err, r.host)
		}
	}
}

func TestRefusals(t *testing.T) {
	r := newRig(t)
	open := func(w vfs.Where, p string, flags int) error {
		f, err := r.Open(ctx, w, p, flags, 0o644)
		if err == nil {
			f.Release(ctx)
		}
		return err
	}
	for what, tc := range map[string]struct {
		err  error
		want abi.Errno
	}{
		"hostname by a user": {open(user(), "/hostname", abi.O_WRONLY), abi.EACCES},
		"time for writing":   {open(root(), "/time", abi.O_RDWR), abi.EPERM},
		"truncate at open":   {open(root(), "/time", abi.O_RDONLY|abi.O_TRUNC), abi.EPERM},
		"create":             {open(root(), "/new", abi.O_CREAT|abi.O_RDWR), abi.EROFS},
		"mkdir":              {r.Mkdir(ctx, root(), "/new", 0o755), abi.EROFS},
		"unlink":             {r.Unlink(ctx, root(), "/time", 0), abi.EROFS},
		"rename":             {r.Rename(ctx, root(), "/time", root(), "/x", 0), abi.EROFS},
		"chmod":              {r.Chmod(ctx, root(), "/time", 0o777, true), abi.EROFS},
		"truncate":           {r.Truncate(ctx, root(), "/hostname", 0), abi.EROFS},
		"missing":            {open(root(), "/loadavg", abi.O_RDONLY), abi.ENOENT},
		"below a file":       {open(root(), "/time/x", abi.O_RDONLY), abi.ENOTDIR},
		"mount with a option": {func() error {
			_, err := r.Mount(ctx, root(), vfs.MountArgs{Type: "kernfs", Dir: "/", Options: map[string]string{"x": ""}})
			return err
		}(), abi.EINVAL},
	} {
		if abi.ErrnoOf(tc.err) != tc.want {
			t.Errorf("%s: %v, want %s", what, tc.err, tc.want.Name())
		}
	}
}
