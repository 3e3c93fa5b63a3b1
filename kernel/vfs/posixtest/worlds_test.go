package posixtest_test

import (
	"context"
	"encoding/binary"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/rumpus-kernel/rumpus/host/export/fuse"
	"github.com/rumpus-kernel/rumpus/kernel"
	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/kernel/sysproxy"
	"github.com/rumpus-kernel/rumpus/kernel/vfs"
	"github.com/rumpus-kernel/rumpus/kernel/vfs/posixtest"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/hostfs"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/tmpfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// boot makes a kernel with a tmpfs as its root, until the test ends.
func boot(t *testing.T, rootOpts map[string]string, more ...modapi.Module) *kernel.Kernel {
	t.Helper()
	k := kernel.New(kernel.Options{
		Modules: append([]modapi.Module{tmpfs.New()}, more...),
		Mounts:  []vfs.MountArgs{{Type: "tmpfs", Dir: "/", Options: rootOpts}},
	})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := k.Boot(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Reboot(context.Background(), 0) })
	return k
}

// kernelWorld is a directory of a kernel, reached as connect says.
func kernelWorld(t *testing.T, name string, connect func() (*rumpclient.Client, error), dir string) posixtest.World {
	t.Helper()
	w := posixtest.World{Name: name, Kind: posixtest.BSD, Dir: dir, Root: true, Lacks: map[string]string{}}
	w.New = func(uid, gid uint32, groups ...uint32) posixtest.Sys {
		t.Helper()
		c, err := connect()
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		p := &kernelProc{c, ctx, cancel}
		a := &abi.Sysargs{}
		for _, g := range groups {
			a.In = binary.LittleEndian.AppendUint32(a.In, g)
		}
		for _, err := range []error{
			c.Syscall(ctx, abi.SYS_setgroups, a), c.Setgid(ctx, int(gid)), c.Setuid(ctx, int(uid)),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		return p
	}
	p := w.New(0, 0).(*kernelProc)
	defer p.Exit()
	p.Mkdirat(abi.AT_FDCWD, "/small", 0o777)
	if err := p.c.Mount(p.ctx, "tmpfs", "/small", 0, "", map[string]string{"size": "2m"}); err != nil {
		t.Fatal(err)
	}
	w.Small = "/small"
	if name != "in-process" {
		w.Lacks["emlink"] = "32767 links take their time"
	}
	if err := p.Mkdirat(abi.AT_FDCWD, dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := p.Fchmodat(abi.AT_FDCWD, dir, 0o777, 0); err != nil {
		t.Fatal(err)
	}
	return w
}

// serve makes a kernel reachable on a socket.
func serve(t *testing.T, k *kernel.Kernel) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "px") // t.TempDir may be longer than a sun_path
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- sysproxy.Serve(ctx, l, sysproxy.Options{NewProc: func(_ context.Context, p sysproxy.Peer) (sysproxy.Proc, error) {
			return k.NewProc(p.Name, abi.Root)
		}})
	}()
	t.Cleanup(sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
		os.RemoveAll(dir)
	}))
	return path
}

func embedded(t *testing.T) posixtest.World {
	k := boot(t, nil)
	return kernelWorld(t, "in-process", func() (*rumpclient.Client, error) { return k.Client("posix") }, "/posix")
}

func nocache(t *testing.T) posixtest.World {
	k := boot(t, map[string]string{"nocache": ""})
	return kernelWorld(t, "nocache", func() (*rumpclient.Client, error) { return k.Client("posix") }, "/posix")
}

func overRing(t *testing.T) posixtest.World {
	at := serve(t, boot(t, nil))
	return kernelWorld(t, "ring", func() (*rumpclient.Client, error) { return rumpclient.Open(context.Background(), "unix://"+at) }, "/posix")
}

func overStream(t *testing.T) posixtest.World {
	at := serve(t, boot(t, nil))
	return kernelWorld(t, "stream", func() (*rumpclient.Client, error) {
		nc, err := net.Dial("unix", at)
		if err != nil {
			return nil, err
		}
		r, err := rumpclient.NewRemote(context.Background(), struct{ net.Conn }{nc}) // can take no descriptor, so no ring
		if err != nil {
			return nil, err
		}
		return rumpclient.New(r), nil
	}, "/posix")
}

// overNull is a nullfs on the tmpfs.
func overNull(t *testing.T) posixtest.World {
	k := boot(t, nil)
	ctx := context.Background()
	c, err := k.Client("posix")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Exit()
	for _, d := range []string{"/below", "/n"} {
		if err := c.Mkdir(ctx, d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Mount(ctx, "nullfs", "/n", 0, "/below", nil); err != nil {
		t.Fatal(err)
	}
	w := kernelWorld(t, "nullfs", func() (*rumpclient.Client, error) { return k.Client("posix") }, "/n/posix")
	w.Lacks["small"] = "it is a tmpfs of its own"
	return w
}

// grantedHost is hostfs with a grant of the test.
type grantedHost struct {
	*hostfs.Module
	dir string
}

func (g grantedHost) Init(ctx context.Context, k modapi.Kernel, r modapi.Reason, p modapi.Props) error {
	return g.Module.Init(ctx, grantKernel{k, g.dir}, r, p)
}

type grantKernel struct {
	modapi.Kernel
	dir string
}

func (k grantKernel) Granted(name string) (*os.File, error) {
	if name != "host.dir:"+k.dir {
		return nil, abi.ENOENT
	}
	return os.Open(k.dir)
}

// shm is a tmpfs of Linux's of its own: the cases fill it, and /dev/shm is memory
// of everybody.
func shm(t *testing.T) string {
	t.Helper()
	if os.Geteuid() == 0 {
		dir := t.TempDir()
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=256m"); err == nil {
			t.Cleanup(func() {
				if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
					t.Error(err)
				}
			})
			os.Chmod(dir, 0o777)
			return open(t, dir)
		}
	}
	t.Skip("no tmpfs of Linux's to be had that may be filled: not the super-user")
	return ""
}

// open lets other users through the directories above dir, which are the test's.
func open(t *testing.T, dir string) string {
	t.Helper()
	for d := filepath.Dir(dir); d != os.TempDir() && len(d) > 1; d = filepath.Dir(d) {
		os.Chmod(d, 0o755)
	}
	return dir
}

func overHostfs(t *testing.T) posixtest.World {
	dir := shm(t)
	if err := os.Mkdir(filepath.Join(dir, "h"), 0o777); err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(dir, "h")
	k := boot(t, nil, grantedHost{hostfs.New(), dir})
	ctx := context.Background()
	c, err := k.Client("posix")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Exit()
	if err := c.Mkdir(ctx, "/h", 0o777); err != nil {
		t.Fatal(err)
	}
	if err := c.Mount(ctx, "hostfs", "/h", 0, dir, map[string]string{"devices": "true", "setid": "true"}); err != nil {
		t.Fatal(err)
	}
	w := kernelWorld(t, "hostfs", func() (*rumpclient.Client, error) { return k.Client("posix") }, "/h/posix")
	w.Lacks["small"] = "it is a tmpfs of its own"
	w.Root = os.Geteuid() == 0 // else its owners are all one
	w.Lacks["chownsetid"] = "the host decides"
	return w
}

func linuxTmpfs(t *testing.T) posixtest.World {
	w := linuxWorld(t, "Linux tmpfs", posixtest.Linux, shm(t))
	if os.Geteuid() == 0 {
		w.Small = t.TempDir()
		if err := unix.Mount("tmpfs", w.Small, "tmpfs", 0, "size=2m"); err != nil {
			w.Lacks["small"] = err.Error()
		} else {
			t.Cleanup(func() { unix.Unmount(w.Small, unix.MNT_DETACH) })
		}
	}
	return w
}

// linuxExt4 is an ext4 of Linux's in an image. Where that cannot be mounted there
// is none: the cases fill the file system, and a real disk is others' too.
func linuxExt4(t *testing.T) posixtest.World {
	dir := open(t, t.TempDir())
	if os.Geteuid() == 0 {
		if mke2fs, err := exec.LookPath("mke2fs"); err == nil {
			if mnt := image(t, mke2fs, filepath.Join(dir, "large"), 64<<20); mnt != "" {
				w := linuxWorld(t, "Linux ext4", posixtest.Linux, mnt)
				w.Lacks["small"] = "ext4 gives space back some time after it was freed"
				return w
			}
		}
	}
	t.Skip("no ext4 of Linux's to be had: not the super-user, no mke2fs or no loop device")
	return posixtest.World{}
}

// image mounts a new ext4 in an image; "" if it cannot be mounted.
func image(t *testing.T, mke2fs, dir string, size int64) string {
	t.Helper()
	img, mnt := dir+".img", dir
	if err := os.WriteFile(img, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(img, size); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(mke2fs, "-q", "-F", "-t", "ext4", "-m", "0", img).CombinedOutput(); err != nil {
		t.Fatalf("mke2fs: %v: %s", err, out)
	}
	if err := os.Mkdir(mnt, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-o", "loop", img, mnt).CombinedOutput(); err != nil {
		t.Logf("no loop mount: %s", out)
		return ""
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "-l", mnt).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	return mnt
}

// overFUSE is the kernel's tmpfs, mounted in Linux.
func overFUSE(t *testing.T) posixtest.World {
	if unix.Access("/dev/fuse", unix.R_OK|unix.W_OK) != nil || os.Geteuid() != 0 {
		t.Skip("no /dev/fuse, or not the super-user")
	}
	k := boot(t, nil)
	dir := open(t, t.TempDir())
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s, err := fuse.Mount(ctx, k.VFS, fuse.Options{Dir: dir, Xattr: true, AllowOther: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	w := linuxWorld(t, "FUSE", posixtest.FUSE, s.Dir())
	p := w.New(0, 0)
	defer p.Exit()
	probe := filepath.Join(w.Dir, "probe")
	fd, err := p.Openat(abi.AT_FDCWD, probe, abi.O_CREAT|abi.O_RDWR, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Fallocate(fd, 0, 1); abi.ErrnoOf(err) == abi.EOPNOTSUPP {
		w.Lacks["fallocate"] = "the export does not answer FALLOCATE"
		w.Lacks["punch"] = w.Lacks["fallocate"]
	}
	if err := p.Unlinkat(abi.AT_FDCWD, probe, 0); err != nil {
		t.Fatal(err)
	}
	return w
}
