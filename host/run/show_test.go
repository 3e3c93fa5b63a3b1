package run

import (
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// longTests is set for the runs that take their time.
var longTests = os.Getenv("RUMPUS_LONG") != ""

// treeSum is a hash over the names, modes and contents of a tree.
func treeSum(t *testing.T, fsys fs.FS) string {
	t.Helper()
	sum := sha256.New()
	err := fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(sum, "%s %v\n", p, fi.Mode())
		if !fi.Mode().IsRegular() {
			return nil
		}
		f, err := fsys.Open(p)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(sum, f)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sum.Sum(nil))
}

// copyTree copies a tree of the host into the kernel.
func (c *client) copyTree(from fs.FS, to string) {
	c.t.Helper()
	ctx := limited(c.t)
	err := fs.WalkDir(from, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		dst, mode := path.Join(to, p), uint32(fi.Mode().Perm())
		if d.IsDir() {
			if err := c.Mkdir(ctx, dst, mode); err != nil {
				return err
			}
			return c.Chmod(ctx, dst, mode)
		}
		b, err := fs.ReadFile(from, p)
		if err != nil {
			return err
		}
		if err := c.WriteFile(ctx, dst, b, mode); err != nil {
			return err
		}
		return c.Chmod(ctx, dst, mode)
	})
	c.must(err)
}

// TestShow is the main job: trees, host directories, devices and connections,
// all through the socket.
func TestShow(t *testing.T) {
	dir := shortDir(t)
	for _, d := range []string{"ro", "rw"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, d, "secret"), []byte("of the host's user"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ro, rw := filepath.Join(dir, "ro"), filepath.Join(dir, "rw")
	h := boot(t, `
components:
  vfs: {grant: ["host.dir:`+ro+`:ro", "host.dir:`+rw+`:rw"]}
  net: {}
  dev: {}
mounts:
  - {dir: /, type: tmpfs}
  - {dir: /dev, type: devfs}
  - {dir: /host/ro, type: hostfs, source: "`+ro+`", options: {ro: true}}
  - {dir: /host/rw, type: hostfs, source: "`+rw+`"}
`)
	c := h.client()
	ctx := limited(t)
	t.Run("tree", func(t *testing.T) {
		src := os.DirFS("../../modapi")
		c.copyTree(src, "/src")
		sub, err := fs.Sub(c.FS(), "src")
		c.must(err)
		if got, want := treeSum(t, sub), treeSum(t, src); got != want {
			t.Errorf("the copy has the hash %s, not %s", got, want)
		}
	})
	t.Run("hostfs", func(t *testing.T) {
		if got := c.read("/host/ro/secret"); got != "of the host's user" {
			t.Errorf("read %q", got)
		}
		c.refused(c.WriteFile(ctx, "/host/ro/new", nil, 0o600), abi.EROFS, "")
		c.refused(c.Unlink(ctx, "/host/ro/secret"), abi.EROFS, "")
		c.write("/host/rw/new", "from the kernel")
		c.write("/host/rw/secret", "changed")
		for name, want := range map[string]string{"new": "from the kernel", "secret": "changed"} {
			b, err := os.ReadFile(filepath.Join(rw, name))
			if err != nil || string(b) != want {
				t.Errorf("on the host %s has %q, %v", name, b, err)
			}
			if fi, err := os.Stat(filepath.Join(rw, name)); err != nil || owner(fi) != os.Getuid() {
				t.Errorf("%s belongs to %v, %v", name, owner(fi), err)
			}
		}
		if err := os.WriteFile(filepath.Join(rw, "late"), []byte("from the host"), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := c.read("/host/rw/late"); got != "from the host" {
			t.Errorf("read %q", got)
		}
	})
	t.Run("urandom", func(t *testing.T) {
		a, b := make([]byte, 16), make([]byte, 16)
		for _, p := range [][]byte{a, b} {
			f, err := c.OpenFile(ctx, "/dev/urandom", abi.O_RDONLY, 0)
			c.must(err)
			_, err = io.ReadFull(f, p)
			c.must(err)
			c.must(f.Close())
		}
		if string(a) == string(b) || string(a) == string(make([]byte, 16)) {
			t.Errorf("%x and %x", a, b)
		}
	})
	t.Run("tcp", func(t *testing.T) { transferTCP(t, h) })
}

// transferTCP sends bytes from one client to another over the kernel's TCP.
func transferTCP(t *testing.T, h *host0) {
	size := int64(20 << 20)
	if longTests {
		size = 100 << 20
	}
	server, c := h.client(), h.client()
	ctx := limited(t)
	l, err := server.Listen(ctx, "tcp", "127.0.0.1:8080")
	c.must(err)
	defer l.Close()
	received := make(chan string, 1)
	go func() {
		sum := sha256.New()
		nc, err := l.Accept()
		if err == nil {
			_, err = io.Copy(sum, nc)
			nc.Close()
		}
		if err != nil {
			received <- err.Error()
			return
		}
		received <- fmt.Sprintf("%x", sum.Sum(nil))
	}()
	nc, err := c.Dial(ctx, "tcp", "127.0.0.1:8080")
	c.must(err)
	sum := sha256.New()
	src := io.LimitReader(rand.NewChaCha8([32]byte{1}), size)
	_, err = io.CopyBuffer(io.MultiWriter(nc, sum), src, make([]byte, 256<<10))
	c.must(err)
	c.must(nc.Close())
	if got, want := <-received, fmt.Sprintf("%x", sum.Sum(nil)); got != want {
		t.Errorf("received %s, sent %s", got, want)
	}
}

// TestAbsent: what needs a component that is not there says so, and everything
// else works.
func TestAbsent(t *testing.T) {
	for _, tc := range []struct{ name, components string }{
		{"net", "{vfs: {}, dev: {}}"},
		{"vfs", "{net: {}, dev: {}}"},
		{"dev", "{vfs: {}, net: {}}"},
		{"all", "{}"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := boot(t, "components: "+tc.components)
			c := h.client()
			ctx := limited(t)
			absent := func(name string) bool { return tc.name == name || tc.name == "all" }
			_, err := c.Socket(ctx, abi.AF_INET, abi.SOCK_STREAM, 0)
			if absent("net") {
				c.refused(err, abi.EOPNOTSUPP, "net component not available")
				_, err := c.Dial(ctx, "tcp", "127.0.0.1:80")
				c.refused(err, abi.EOPNOTSUPP, "net component not available")
			} else {
				c.must(err)
			}
			if absent("vfs") {
				_, err := c.Open(ctx, "/x", abi.O_RDWR|abi.O_CREAT, 0o600)
				c.refused(err, abi.EOPNOTSUPP, "vfs component not available")
				_, err = c.ReadDir(ctx, "/")
				c.refused(err, abi.EOPNOTSUPP, "vfs component not available")
				c.refused(c.Mount(ctx, "tmpfs", "/", 0, "", nil), abi.EOPNOTSUPP, "vfs component not available")
			} else {
				c.write("/x", "file")
			}
			if absent("dev") && !absent("vfs") {
				ents, err := c.ReadDir(ctx, "/dev")
				c.must(err)
				names := []string{}
				for _, e := range ents {
					names = append(names, e.Name)
				}
				if slices.Sort(names); !slices.Equal(names, []string{"klog", "ksyms"}) { // the kernel's own
					t.Errorf("/dev has %v", names)
				}
				_, err = c.Modstat(ctx)
				c.must(err)
			} else if !absent("vfs") {
				if _, err := c.Stat(ctx, "/dev/zero"); err != nil {
					t.Error(err)
				}
			}
			// Administration needs no component.
			if v, err := c.Sysctl(ctx, "kern.ostype"); err != nil || v != "rumpus" {
				t.Errorf("sysctl: %q, %v", v, err)
			}
			c.must(c.SysctlSet(ctx, "kern.hostname", "here"))
			c.dmesg()
			c.must(c.Reboot(ctx, abi.RB_AUTOBOOT))
			h.wait(ExitOK)
		})
	}
}
