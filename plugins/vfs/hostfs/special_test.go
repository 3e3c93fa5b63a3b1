package hostfs

import (
	"context"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rumpus-kernel/rumpus/kernel"
	"github.com/rumpus-kernel/rumpus/kernel/vfs"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/plugins/dev/mem"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/tmpfs"
)

// granted is the module with a grant of the test.
type granted struct {
	*Module
	dir string
}

type grantKernel struct {
	modapi.Kernel
	dir string
}

func (g granted) Init(ctx context.Context, k modapi.Kernel, r modapi.Reason, p modapi.Props) error {
	return g.Module.Init(ctx, grantKernel{k, g.dir}, r, p)
}

func (k grantKernel) Granted(name string) (*os.File, error) {
	if name != "host.dir:/data" {
		return nil, abi.ENOENT
	}
	return os.Open(k.dir)
}

// TestSpecialFilesOfTheKernel: a fifo, a local socket and a device that a
// program of the kernel makes are the kernel's, on tmpfs and on a directory of
// the host; the host sees nodes and takes no part.
func TestSpecialFilesOfTheKernel(t *testing.T) {
	dir := t.TempDir()
	k := kernel.New(kernel.Options{
		Modules: []modapi.Module{tmpfs.New(), mem.New(), granted{New(), dir}},
		Mounts:  []vfs.MountArgs{{Type: "tmpfs", Dir: "/"}, {Type: "devfs", Dir: "/dev"}, {Type: "hostfs", Source: "/data", Dir: "/h", Options: map[string]string{"devices": ""}}},
	})
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := k.Boot(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Reboot(context.Background(), 0) })
	c, err := k.Client("special")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Exit()
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	null, err := c.Stat(ctx, "/dev/null")
	ok(err)
	for _, root := range []string{"", "/h"} {
		t.Run("on "+root+"/", func(t *testing.T) {
			ok(c.Mkfifo(ctx, root+"/fifo", 0o600))
			r, err := c.Open(ctx, root+"/fifo", abi.O_RDONLY|abi.O_NONBLOCK, 0)
			ok(err)
			w, err := c.Open(ctx, root+"/fifo", abi.O_WRONLY, 0)
			ok(err)
			_, err = c.Write(ctx, w, []byte("through"))
			ok(err)
			buf := make([]byte, 16)
			if n, err := c.Read(ctx, r, buf); err != nil || string(buf[:n]) != "through" {
				t.Errorf("%q %v", buf[:n], err)
			}
			ok(c.Close(ctx, w))
			if n, err := c.Read(ctx, r, buf); n != 0 || err != nil {
				t.Errorf("after the writer: %d %v", n, err)
			}
			ok(c.Close(ctx, r))

			l, err := c.Listen(ctx, "unix", root+"/sock")
			ok(err)
			defer l.Close()
			if st, err := c.Lstat(ctx, root+"/sock"); err != nil || st.Type != abi.VSOCK {
				t.Error(st.Type, err)
			}
			d, err := c.Dial(ctx, "unix", root+"/sock")
			ok(err)
			defer d.Close()
			a, err := l.Accept()
			ok(err)
			defer a.Close()
			_, err = a.Write([]byte("hello"))
			ok(err)
			if n, err := d.Read(buf); err != nil || string(buf[:n]) != "hello" {
				t.Errorf("%q %v", buf[:n], err)
			}
			if _, err := c.Open(ctx, root+"/sock", abi.O_RDWR, 0); abi.ErrnoOf(err) != abi.EOPNOTSUPP && abi.ErrnoOf(err) != abi.ENXIO {
				t.Error("opened a socket:", err)
			}

			ok(c.WriteFile(ctx, root+"/f", nil, 0o600))
			switch err := c.Setxattr(ctx, root+"/f", "user.colour", []byte("red"), 0); abi.ErrnoOf(err) {
			case 0:
				if v, err := c.Getxattr(ctx, root+"/f", "user.colour"); err != nil || string(v) != "red" {
					t.Errorf("attribute %q, %v", v, err)
				}
				if err := c.Setxattr(ctx, root+"/fifo", "user.colour", nil, 0); root != "" && abi.ErrnoOf(err) != abi.EPERM {
					t.Error("an attribute of a fifo of the host:", err)
				}
			case abi.EOPNOTSUPP:
				t.Log("the host's file system has no attributes")
			default:
				t.Error(err)
			}

			if err := c.Mknod(ctx, root+"/null", abi.S_IFCHR|0o666, null.Rdev); root != "" && abi.ErrnoOf(err) == abi.EPERM {
				t.Log("the host makes no devices:", err)
				return
			} else if err != nil {
				t.Fatal(err)
			}
			st, err := c.Stat(ctx, root+"/null")
			ok(err)
			if st.Type != abi.VCHR || st.Rdev != null.Rdev {
				t.Fatalf("%v %v, not %v", st.Type, st.Rdev, null.Rdev)
			}
			fd, err := c.Open(ctx, root+"/null", abi.O_RDWR, 0)
			ok(err)
			if n, err := c.Write(ctx, fd, buf); n != len(buf) || err != nil {
				t.Error(n, err)
			}
			if n, err := c.Read(ctx, fd, buf); n != 0 || err != nil {
				t.Error(n, err)
			}
			ok(c.Close(ctx, fd))
		})
	}
	for name, want := range map[string]uint32{"fifo": unix.S_IFIFO, "sock": unix.S_IFSOCK} {
		var st unix.Stat_t
		if err := unix.Lstat(dir+"/"+name, &st); err != nil || st.Mode&unix.S_IFMT != want {
			t.Errorf("%s on the host: %o %v", name, st.Mode, err)
		}
	}
}
