package rumpclient_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/net/nettest"

	"github.com/rumpus-kernel/rumpus/kernel"
	"github.com/rumpus-kernel/rumpus/kernel/proc"
	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/kernel/sysproxy"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/plugins/net/inet"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/tmpfs"
)

// boot makes a kernel with files and a network in this process, until the test
// ends.
func boot(t testing.TB) *kernel.Kernel {
	t.Helper()
	k := kernel.New(kernel.Options{Hostname: "rump", Modules: []modapi.Module{tmpfs.New(), inet.New()}})
	if err := k.Boot(context.Background()); err != nil {
		t.Fatal(err)
	}
	k.Msg.Printf("booted for %s", t.Name())
	t.Cleanup(func() { k.Reboot(context.Background(), 0) })
	return k
}

// onBoth runs a test on a kernel's embedded client and on one over a socket.
func onBoth(t *testing.T, test func(t *testing.T, c *rumpclient.Client)) {
	t.Run("embedded", func(t *testing.T) {
		c, err := boot(t).Client("test")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Exit()
		test(t, c)
	})
	t.Run("remote", func(t *testing.T) {
		c, err := rumpclient.Open(context.Background(), "unix://"+proxy(t, boot(t)))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Exit()
		test(t, c)
	})
	t.Run("stream", func(t *testing.T) {
		nc, err := net.Dial("unix", proxy(t, boot(t)))
		if err != nil {
			t.Fatal(err)
		}
		r, err := rumpclient.NewRemote(context.Background(), struct{ net.Conn }{nc}) // can take no descriptor, so no ring
		if err != nil {
			t.Fatal(err)
		}
		c := rumpclient.New(r)
		defer c.Exit()
		test(t, c)
	})
}

// proxy serves a kernel on a socket.
func proxy(t testing.TB, k *kernel.Kernel) (path string) {
	t.Helper()
	path, _ = proxyStop(t, k)
	return path
}

// proxyStop is proxy with a way to end the server, which waits until nothing
// of its clients is left.
func proxyStop(t testing.TB, k *kernel.Kernel) (path string, stop func()) {
	t.Helper()
	dir, err := os.MkdirTemp("", "rump") // t.TempDir may be longer than a sun_path
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, "s")
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
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
		os.RemoveAll(dir)
	})
	t.Cleanup(stop)
	return path, stop
}

func TestFS(t *testing.T) {
	ctx := context.Background()
	onBoth(t, func(t *testing.T, c *rumpclient.Client) {
		must(t, c.MkdirAll(ctx, "/t/d/e", 0o755))
		must(t, c.MkdirAll(ctx, "/t/empty", 0o755))
		want := []string{"t/a", "t/d/big", "t/d/e/f", "t/none"}
		must(t, c.WriteFile(ctx, "/t/a", []byte("hello"), 0o644))
		must(t, c.WriteFile(ctx, "/t/d/big", bytes.Repeat([]byte("0123456789abcdef"), 600), 0o600))
		must(t, c.WriteFile(ctx, "/t/d/e/f", []byte("f"), 0o444))
		must(t, c.WriteFile(ctx, "/t/none", nil, 0o644))
		must(t, c.Symlink(ctx, "a", "/t/link"))
		for i := range 60 {
			name := fmt.Sprintf("d/e/%03d", i)
			must(t, c.WriteFile(ctx, "/t/"+name, []byte(name), 0o644))
			want = append(want, "t/"+name)
		}
		sub, err := fs.Sub(c.FS(), "t")
		if err != nil {
			t.Fatal(err)
		}
		for i := range want {
			want[i] = strings.TrimPrefix(want[i], "t/")
		}
		if err := fstest.TestFS(sub, want...); err != nil {
			t.Error(err)
		}
		_, err = fs.Stat(c.FS(), "t/missing")
		if !errors.Is(err, fs.ErrNotExist) || err.Error() != "stat t/missing: no such file or directory" {
			t.Errorf("%v", err)
		}
		// A whole tree away, and again.
		must(t, c.RemoveAll(ctx, "/t"))
		must(t, c.RemoveAll(ctx, "/t"))
		if _, err := c.Stat(ctx, "/t"); !errors.Is(err, abi.ENOENT) {
			t.Errorf("after RemoveAll: %v", err)
		}
	})
}

func TestFile(t *testing.T) {
	ctx := context.Background()
	onBoth(t, func(t *testing.T, c *rumpclient.Client) {
		f, err := c.OpenFile(ctx, "/f", abi.O_RDWR|abi.O_CREAT, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		p := make([]byte, 3*abi.MaxTransfer+77)
		for i := range p {
			p[i] = byte(i * 7)
		}
		if n, err := f.Write(p); n != len(p) || err != nil {
			t.Fatal(n, err)
		}
		if n, err := f.WriteAt([]byte("tail"), int64(len(p))); n != 4 || err != nil {
			t.Fatal(n, err)
		}
		if off, err := f.Seek(0, io.SeekStart); off != 0 || err != nil {
			t.Fatal(off, err)
		}
		got, err := io.ReadAll(f)
		if err != nil || sha256.Sum256(got) != sha256.Sum256(append(p, "tail"...)) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		if n, err := f.ReadAt(make([]byte, 10), int64(len(p))); n != 4 || err != io.EOF {
			t.Errorf("at the end: %d, %v", n, err)
		}
		must(t, f.Truncate(3))
		must(t, f.Sync())
		st, err := c.Fstat(ctx, f.Fd())
		if err != nil || st.Size != 3 {
			t.Errorf("size %d, %v", st.Size, err)
		}
		must(t, f.Close())
		if err := f.Close(); !errors.Is(err, abi.EBADF) {
			t.Errorf("closed twice: %v", err)
		}
	})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestNettest(t *testing.T) {
	onBoth(t, func(t *testing.T, c *rumpclient.Client) {
		for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
			t.Run(addr, func(t *testing.T) {
				nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
					ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
					defer cancel()
					l, err := c.Listen(ctx, "tcp", addr)
					if err != nil {
						return nil, nil, nil, err
					}
					defer l.Close()
					if c1, err = c.Dial(ctx, "tcp", l.Addr().String()); err != nil {
						return nil, nil, nil, err
					}
					if c2, err = l.Accept(); err != nil {
						c1.Close()
						return nil, nil, nil, err
					}
					return c1, c2, func() { c1.Close(); c2.Close() }, nil
				})
			})
		}
	})
}

func TestHTTP(t *testing.T) {
	onBoth(t, func(t *testing.T, c *rumpclient.Client) {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		l, err := c.Listen(ctx, "tcp", ":0")
		if err != nil {
			t.Fatal(err)
		}
		body := bytes.Repeat([]byte("rumpus "), 1<<17)
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Write(body)
		})}
		done := make(chan error, 1)
		go func() { done <- srv.Serve(l) }()
		tr := &http.Transport{DialContext: c.Dial}
		_, port, _ := net.SplitHostPort(l.Addr().String())
		var wg sync.WaitGroup
		for _, host := range []string{"127.0.0.1", "[::1]", "127.0.0.1", "localhost"} {
			wg.Go(func() {
				res, err := (&http.Client{Transport: tr}).Get("http://" + host + ":" + port + "/")
				if err != nil {
					t.Error(err)
					return
				}
				defer res.Body.Close()
				if got, err := io.ReadAll(res.Body); err != nil || !bytes.Equal(got, body) {
					t.Errorf("%s: %d bytes, %v", host, len(got), err)
				}
			})
		}
		wg.Wait()
		tr.CloseIdleConnections()
		must(t, srv.Shutdown(ctx))
		if err := <-done; err != http.ErrServerClosed {
			t.Error(err)
		}
	})
}

func TestPacket(t *testing.T) {
	onBoth(t, func(t *testing.T, c *rumpclient.Client) {
		ctx := context.Background()
		a, err := c.ListenPacket(ctx, "udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		b, err := c.Dial(ctx, "udp", a.LocalAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		if _, err := b.Write([]byte("ping")); err != nil {
			t.Fatal(err)
		}
		p := make([]byte, 100)
		a.SetReadDeadline(time.Now().Add(60 * time.Second))
		n, from, err := a.ReadFrom(p)
		if err != nil || string(p[:n]) != "ping" || from.String() != b.LocalAddr().String() {
			t.Fatalf("%q from %v, %v", p[:n], from, err)
		}
		if _, err := a.WriteTo([]byte("pong"), from); err != nil {
			t.Fatal(err)
		}
		b.SetReadDeadline(time.Now().Add(60 * time.Second))
		if n, err := b.Read(p); err != nil || string(p[:n]) != "pong" {
			t.Fatalf("%q, %v", p[:n], err)
		}
		a.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if _, _, err := a.ReadFrom(p); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("past the deadline: %v", err)
		}
	})
}

// TestCloseUnblocks closes under calls that wait.
func TestCloseUnblocks(t *testing.T) {
	onBoth(t, func(t *testing.T, c *rumpclient.Client) {
		ctx := context.Background()
		l, err := c.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		pc, err := c.ListenPacket(ctx, "udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		errs := make(chan error, 2)
		begun := make(chan struct{}, 2)
		go func() { begun <- struct{}{}; _, err := l.Accept(); errs <- err }()
		go func() { begun <- struct{}{}; _, _, err := pc.ReadFrom(make([]byte, 1)); errs <- err }()
		<-begun
		<-begun
		must(t, l.Close())
		must(t, pc.Close())
		for range 2 {
			select {
			case err := <-errs:
				if !errors.Is(err, net.ErrClosed) {
					t.Errorf("%v", err)
				}
			case <-time.After(60 * time.Second):
				t.Fatal("still waiting")
			}
		}
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("closed twice: %v", err)
		}
		// The address is free again.
		l2, err := c.Listen(ctx, "tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		l2.Close()
		_, err = c.Dial(ctx, "tcp", l.Addr().String())
		if !errors.Is(err, abi.ECONNREFUSED) || !strings.HasPrefix(err.Error(), "dial tcp "+l.Addr().String()+": ") {
			t.Errorf("nobody listens: %v", err)
		}
	})
}

func TestAdmin(t *testing.T) {
	onBoth(t, func(t *testing.T, c *rumpclient.Client) {
		ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
		defer cancel()
		mods, err := c.Modstat(ctx)
		if err != nil {
			t.Fatal(err)
		}
		names := make(map[string]bool)
		for _, m := range mods {
			names[m.Name] = true
		}
		if !names["tmpfs"] || !names["inet"] {
			t.Errorf("modules %v", mods)
		}
		if ok, err := c.Modexists(ctx, "tmpfs"); !ok || err != nil {
			t.Errorf("tmpfs exists: %v, %v", ok, err)
		}
		if ok, err := c.Modexists(ctx, "nosuch"); ok || err != nil {
			t.Errorf("nosuch exists: %v, %v", ok, err)
		}
		if err := c.Modunload(ctx, "nosuch", 0); !errors.Is(err, abi.ENOENT) {
			t.Errorf("unload: %v", err)
		}
		if s, err := c.Sysctl(ctx, "kern.hostname"); s != "rump" || err != nil {
			t.Errorf("hostname %q, %v", s, err)
		}
		must(t, c.SysctlSet(ctx, "kern.hostname", "rumpelstilz"))
		u, err := c.Uname(ctx)
		if err != nil || u.Nodename != "rumpelstilz" || u.Sysname == "" || u.Release == "" || u.Machine == "" {
			t.Errorf("uname %+v, %v", u, err)
		}
		all, err := c.SysctlList(ctx, "kern")
		if err != nil || len(all) < 3 {
			t.Errorf("kern has %d nodes, %v", len(all), err)
		}
		if _, err := c.Sysctl(ctx, "kern.nosuch"); !errors.Is(err, abi.ENOENT) {
			t.Errorf("%v", err)
		}
		ifs, err := c.Ifstat(ctx)
		if err != nil || len(ifs) != 1 || ifs[0].Name != "lo0" || len(ifs[0].Addrs) != 2 {
			t.Errorf("interfaces %+v, %v", ifs, err)
		}
		p := make([]byte, 64<<10)
		n, next, err := c.Msgbuf(ctx, 0, false, p)
		if err != nil || !strings.Contains(string(p[:n]), "booted for "+t.Name()) || next == 0 {
			t.Errorf("dmesg: %d bytes, next %d, %v", n, next, err)
		}
		short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		defer cancel()
		if _, _, err := c.Msgbuf(short, next, true, p); !errors.Is(err, abi.ETIMEDOUT) {
			t.Errorf("dmesg -f: %v", err)
		}
		r := make([]byte, 3000)
		must(t, c.Getrandom(ctx, r))
		if bytes.Count(r, []byte{0}) > 300 {
			t.Error("that is not random")
		}
		if pid, err := c.Getpid(ctx); err != nil || pid < 2 {
			t.Errorf("pid %d, %v", pid, err)
		}
		mounts, err := c.Getvfsstat(ctx, abi.MNT_NOWAIT)
		if err != nil || len(mounts) == 0 || mounts[0].On != "/" || mounts[0].FSType != "tmpfs" {
			t.Errorf("mounts %+v, %v", mounts, err)
		}
		must(t, c.Mkdir(ctx, "/m", 0o755))
		must(t, c.Mount(ctx, "tmpfs", "/m", abi.MNT_RDONLY, "", map[string]string{"size": "1m"}))
		sv, err := c.Statvfs(ctx, "/m")
		if err != nil || sv.On != "/m" || sv.Flag&abi.MNT_RDONLY == 0 {
			t.Errorf("statvfs %+v, %v", sv, err)
		}
		if err := c.Mkdir(ctx, "/m/x", 0o755); !errors.Is(err, abi.EROFS) {
			t.Errorf("mkdir on a read-only mount: %v", err)
		}
		must(t, c.Unmount(ctx, "/m", 0))
		if err := c.Mount(ctx, "nosuchfs", "/m", 0, "", nil); err == nil || !strings.HasPrefix(err.Error(), "mount /m: ") {
			t.Errorf("mount of no type: %v", err)
		}
	})
}

// TestNothingLeft has clients vanish with files, sockets and waiting calls.
func TestNothingLeft(t *testing.T) {
	ctx := context.Background()
	k := boot(t)
	count := func() (n int) {
		k.Procs.Each(func(*proc.Proc) { n++ })
		return n
	}
	procs, files := count(), k.Files.Count()
	path, stop := proxyStop(t, k)
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			c, err := rumpclient.Open(ctx, path)
			if err != nil {
				t.Error(err)
				return
			}
			for range 5 {
				if _, err := c.Open(ctx, fmt.Sprintf("/f%d", i%7), abi.O_RDWR|abi.O_CREAT, 0o600); err != nil {
					t.Error(err)
				}
			}
			l, err := c.Listen(ctx, "tcp", "127.0.0.1:0")
			if err != nil {
				t.Error(err)
				return
			}
			done := make(chan struct{})
			go func() { defer close(done); l.Accept() }()
			nc, err := c.Dial(ctx, "tcp", l.Addr().String())
			if err != nil {
				t.Error(err)
				return
			}
			begun := make(chan struct{})
			done2 := make(chan struct{})
			go func() { defer close(done2); close(begun); nc.Read(make([]byte, 1)) }()
			<-begun
			c.Exit() // as a kill: nothing is closed before
			<-done
			<-done2
		})
	}
	wg.Wait()
	stop()
	if n := count(); n != procs {
		t.Errorf("%d processes, %d before", n, procs)
	}
	if n := k.Files.Count(); n != files {
		t.Errorf("%d open files, %d before", n, files)
	}
}

// BenchmarkTCP is what a connection within the kernel carries.
func BenchmarkTCP(b *testing.B) {
	ctx := context.Background()
	k := boot(b)
	embedded, err := k.Client("bench")
	must(b, err)
	defer embedded.Exit()
	path := proxy(b, k)
	remote, err := rumpclient.Open(ctx, path)
	must(b, err)
	defer remote.Exit()
	for name, c := range map[string]*rumpclient.Client{"embedded": embedded, "remote": remote} {
		for _, size := range []int{32 << 10, 256 << 10} {
			b.Run(fmt.Sprintf("%s/%dK", name, size>>10), func(b *testing.B) {
				l, err := c.Listen(ctx, "tcp", "127.0.0.1:0")
				must(b, err)
				defer l.Close()
				w, err := c.Dial(ctx, "tcp", l.Addr().String())
				must(b, err)
				defer w.Close()
				r, err := l.Accept()
				must(b, err)
				defer r.Close()
				b.SetBytes(int64(size))
				done := make(chan int64, 1)
				go func() {
					n, _ := io.CopyBuffer(struct{ io.Writer }{io.Discard}, r, make([]byte, size))
					done <- n
				}()
				p := make([]byte, size)
				n := int64(0)
				for b.Loop() {
					m, err := w.Write(p)
					must(b, err)
					n += int64(m)
				}
				w.Close()
				if got := <-done; got != n {
					b.Errorf("%d of %d bytes arrived", got, n)
				}
			})
		}
	}
}

// TestEmptySlots has a kernel without components say which one is missing.
func TestEmptySlots(t *testing.T) {
	k := kernel.New(kernel.Options{})
	must(t, k.Boot(context.Background()))
	defer k.Reboot(context.Background(), 0)
	path := proxy(t, k)
	c, err := rumpclient.Open(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Exit()
	ctx := context.Background()
	if _, err := c.Open(ctx, "/a", 0, 0); !errors.Is(err, abi.EOPNOTSUPP) || !strings.Contains(err.Error(), "vfs component not available") {
		t.Errorf("open: %v", err)
	}
	if _, err := c.Dial(ctx, "tcp", "127.0.0.1:1"); !errors.Is(err, abi.EOPNOTSUPP) || !strings.Contains(err.Error(), "net component not available") {
		t.Errorf("dial: %v", err)
	}
}
