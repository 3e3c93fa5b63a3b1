package fuse

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/rumpus-kernel/rumpus/kernel"
	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/tmpfs"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// rig is a kernel with a tmpfs as its root, a client of it, and a mount.
type rig struct {
	t   *testing.T
	ctx context.Context
	k   *kernel.Kernel
	c   *rumpclient.Client
	s   *Server
	dir string
}

// canMount skips a test where there is no FUSE.
func canMount(t testing.TB) {
	t.Helper()
	if unix.Access("/dev/fuse", unix.R_OK|unix.W_OK) != nil {
		t.Skip("no /dev/fuse")
	}
	if os.Geteuid() != 0 {
		if _, err := exec.LookPath("fusermount3"); err != nil {
			t.Skip("no fusermount3")
		}
	}
}

func newRig(t *testing.T, o Options) *rig {
	t.Helper()
	canMount(t)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	k := kernel.New(kernel.Options{Modules: []modapi.Module{tmpfs.New()}})
	if err := k.Boot(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Reboot(context.Background(), 0) })
	c, err := k.Client("test")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Chmod(ctx, "/", 0o1777); err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, ctx: ctx, k: k, c: c}
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	r.s = r.mount(o)
	r.dir = r.s.Dir()
	return r
}

// mount mounts and has the mount closed when the test ends.
func (r *rig) mount(o Options) *Server {
	r.t.Helper()
	s, err := Mount(r.ctx, r.k.VFS, o)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		if err := s.Close(); err != nil {
			r.t.Error(err)
		}
		if n := s.held(); n != 0 {
			r.t.Errorf("%d vnodes held after the end", n)
		}
	})
	return s
}

// held is how many vnodes and open files a server holds.
func (s *Server) held() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	n := len(s.files)
	for _, x := range s.nodes {
		if x.v != nil {
			n++
		}
	}
	return n
}

// p is a path below the mount.
func (r *rig) p(name string) string { return filepath.Join(r.dir, name) }

func (r *rig) ok(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// run runs a program in the mount. A shell goes there first: what a child of Go
// does before its exec, to change the directory for one, is done while this
// process holds a processor and cannot be stopped for a collection, and so with
// one processor nobody would answer it.
func (r *rig) run(name string, args ...string) string {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.ctx, 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/bin/sh", append([]string{"-c", `cd "$0" && exec "$@"`, r.dir, name}, args...)...)
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// need skips a test of programs that are not installed.
func need(t *testing.T, names ...string) {
	t.Helper()
	for _, n := range names {
		if _, err := exec.LookPath(n); err != nil {
			t.Skipf("%s is not installed", n)
		}
	}
}
