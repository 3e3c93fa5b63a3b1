package rumpclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rumpus-kernel/rumpus/kernel/sysproxy"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/ring"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const limit = 60 * time.Second

// fake is a process whose system calls note what came and answer what a test
// has laid down for them.
type fake struct {
	mu      sync.Mutex
	got     abi.Sysargs // protected by mu: of the last call, buffers copied
	num     int         // protected by mu
	on      func(ctx context.Context, num int, a *abi.Sysargs) error
	waiting chan struct{}
	closed  atomic.Int32
}

func (f *fake) Syscall(ctx context.Context, num int, a *abi.Sysargs) error {
	f.mu.Lock()
	f.num, f.got = num, *a
	f.got.In = append([]byte(nil), a.In...)
	f.got.Addr = append([]byte(nil), a.Addr...)
	f.got.Out = make([]byte, len(a.Out))
	on := f.on
	f.mu.Unlock()
	if on == nil {
		return nil
	}
	return on(ctx, num, a)
}

func (f *fake) Close() error { f.closed.Add(1); return nil }

func (f *fake) set(on func(ctx context.Context, num int, a *abi.Sysargs) error) {
	f.mu.Lock()
	f.on = on
	f.mu.Unlock()
}

// both runs a test with an embedded client and a remote one of the same fake.
func both(t *testing.T, test func(t *testing.T, f *fake, c *Client)) {
	t.Run("embedded", func(t *testing.T) {
		f := &fake{waiting: make(chan struct{}, 4096)}
		c := New(f)
		test(t, f, c)
		c.Exit()
		if f.closed.Load() != 1 {
			t.Error("the process has not ended")
		}
	})
	t.Run("remote", func(t *testing.T) {
		f := &fake{waiting: make(chan struct{}, 4096)}
		path, _ := serve(t, f)
		c, err := Open(context.Background(), "unix://"+path)
		if err != nil {
			t.Fatal(err)
		}
		if r := c.k.(*remote); ring.Enabled() != (r.conn.Fast() != nil) {
			t.Error("no ring")
		}
		test(t, f, c)
		c.Exit()
	})
	t.Run("stream", func(t *testing.T) {
		f := &fake{waiting: make(chan struct{}, 4096)}
		path, _ := serve(t, f)
		c := overStream(t, path)
		if c.k.(*remote).conn.Fast() != nil {
			t.Error("it has a ring")
		}
		test(t, f, c)
		c.Exit()
	})
}

// overStream is Open for a client that gets no ring: it can take no descriptor.
func overStream(t testing.TB, path string) *Client {
	t.Helper()
	nc, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	k, err := NewRemote(context.Background(), struct{ net.Conn }{nc})
	if err != nil {
		t.Fatal(err)
	}
	return New(k)
}

// serve serves f until the test ends or stop is called.
func serve(t *testing.T, f *fake) (path string, stop func()) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- sysproxy.Serve(ctx, l, sysproxy.Options{NewProc: func(context.Context, sysproxy.Peer) (sysproxy.Proc, error) {
			return f, nil
		}})
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(stop)
	return path, stop
}

// TestArguments holds the convention of abi.Sysargs for every method.
func TestArguments(t *testing.T) {
	ctx := context.Background()
	st := abi.Stat{Vattr: abi.Vattr{Type: abi.VREG, Size: 5, Fileid: 9}, Dev: 3}
	in4 := abi.SockaddrUnix("/sock")
	minus := ^uint64(0)
	ts := abi.Timespec{Sec: 1, Nsec: 2}
	cases := []struct {
		call  func(c *Client) error
		num   int
		a     []uint64
		paths [2]string
		in    string
		addr  string
		out   int
	}{
		{func(c *Client) error { _, e := c.Open(ctx, "/a", 2, 0o644); return e }, abi.SYS_open, []uint64{2, 0o644}, [2]string{"/a"}, "", "", 0},
		{func(c *Client) error { _, e := c.Openat(ctx, abi.AT_FDCWD, "a", 2, 1); return e }, abi.SYS_openat, []uint64{minus - 99, 2, 1}, [2]string{"a"}, "", "", 0},
		{func(c *Client) error { return c.Close(ctx, 7) }, abi.SYS_close, []uint64{7}, [2]string{}, "", "", 0},
		{func(c *Client) error { _, e := c.Read(ctx, 7, make([]byte, 9)); return e }, abi.SYS_read, []uint64{7}, [2]string{}, "", "", 9},
		{func(c *Client) error { _, e := c.Pread(ctx, 7, make([]byte, 9), 11); return e }, abi.SYS_pread, []uint64{7, 11}, [2]string{}, "", "", 9},
		{func(c *Client) error { _, e := c.Write(ctx, 7, []byte("xy")); return e }, abi.SYS_write, []uint64{7}, [2]string{}, "xy", "", 0},
		{func(c *Client) error { _, e := c.Pwrite(ctx, 7, []byte("xy"), 3); return e }, abi.SYS_pwrite, []uint64{7, 3}, [2]string{}, "xy", "", 0},
		{func(c *Client) error { _, e := c.Lseek(ctx, 7, -1, 2); return e }, abi.SYS_lseek, []uint64{7, minus, 2}, [2]string{}, "", "", 0},
		{func(c *Client) error { _, e := c.Stat(ctx, "s"); return e }, abi.SYS_stat, nil, [2]string{"s"}, "", "", abi.StatSize},
		{func(c *Client) error { _, e := c.Lstat(ctx, "s"); return e }, abi.SYS_lstat, nil, [2]string{"s"}, "", "", abi.StatSize},
		{func(c *Client) error { _, e := c.Fstat(ctx, 4); return e }, abi.SYS_fstat, []uint64{4}, [2]string{}, "", "", abi.StatSize},
		{func(c *Client) error { _, e := c.Fstatat(ctx, 4, "s", 0x200); return e }, abi.SYS_fstatat, []uint64{4, 0x200}, [2]string{"s"}, "", "", abi.StatSize},
		{func(c *Client) error { return c.Mkdir(ctx, "d", 0o755) }, abi.SYS_mkdir, []uint64{0o755}, [2]string{"d"}, "", "", 0},
		{func(c *Client) error { return c.Mkdirat(ctx, 3, "d", 0o755) }, abi.SYS_mkdirat, []uint64{3, 0o755}, [2]string{"d"}, "", "", 0},
		{func(c *Client) error { return c.Rmdir(ctx, "d") }, abi.SYS_rmdir, nil, [2]string{"d"}, "", "", 0},
		{func(c *Client) error { return c.Unlink(ctx, "d") }, abi.SYS_unlink, nil, [2]string{"d"}, "", "", 0},
		{func(c *Client) error { return c.Unlinkat(ctx, 3, "d", 0x800) }, abi.SYS_unlinkat, []uint64{3, 0x800}, [2]string{"d"}, "", "", 0},
		{func(c *Client) error { return c.Rename(ctx, "a", "b") }, abi.SYS_rename, nil, [2]string{"a", "b"}, "", "", 0},
		{func(c *Client) error { return c.Renameat(ctx, 3, "a", 4, "b") }, abi.SYS_renameat, []uint64{3, 4}, [2]string{"a", "b"}, "", "", 0},
		{func(c *Client) error { return c.Renameat2(ctx, 3, "a", 4, "b", 1) }, abi.SYS_renameat2, []uint64{3, 4, 1}, [2]string{"a", "b"}, "", "", 0},
		{func(c *Client) error { return c.Link(ctx, "a", "b") }, abi.SYS_link, nil, [2]string{"a", "b"}, "", "", 0},
		{func(c *Client) error { return c.Linkat(ctx, 3, "a", 4, "b", 0x400) }, abi.SYS_linkat, []uint64{3, 4, 0x400}, [2]string{"a", "b"}, "", "", 0},
		{func(c *Client) error { return c.Symlink(ctx, "to", "l") }, abi.SYS_symlink, nil, [2]string{"to", "l"}, "", "", 0},
		{func(c *Client) error { return c.Symlinkat(ctx, "to", 3, "l") }, abi.SYS_symlinkat, []uint64{3}, [2]string{"to", "l"}, "", "", 0},
		{func(c *Client) error { _, e := c.Readlink(ctx, "l"); return e }, abi.SYS_readlink, nil, [2]string{"l"}, "", "", 1024},
		{func(c *Client) error { _, e := c.Readlinkat(ctx, 3, "l"); return e }, abi.SYS_readlinkat, []uint64{3}, [2]string{"l"}, "", "", 1024},
		{func(c *Client) error { return c.Mknod(ctx, "n", 0o20600, 258) }, abi.SYS_mknod, []uint64{0o20600, 258}, [2]string{"n"}, "", "", 0},
		{func(c *Client) error { return c.Mkfifo(ctx, "n", 0o600) }, abi.SYS_mkfifo, []uint64{0o600}, [2]string{"n"}, "", "", 0},
		{func(c *Client) error { return c.Chmod(ctx, "n", 0o600) }, abi.SYS_chmod, []uint64{0o600}, [2]string{"n"}, "", "", 0},
		{func(c *Client) error { return c.Lchmod(ctx, "n", 0o600) }, abi.SYS_lchmod, []uint64{0o600}, [2]string{"n"}, "", "", 0},
		{func(c *Client) error { return c.Fchmod(ctx, 3, 0o600) }, abi.SYS_fchmod, []uint64{3, 0o600}, [2]string{}, "", "", 0},
		{func(c *Client) error { return c.Fchmodat(ctx, 3, "n", 0o600, 0x200) }, abi.SYS_fchmodat, []uint64{3, 0o600, 0x200}, [2]string{"n"}, "", "", 0},
		{func(c *Client) error { return c.Chown(ctx, "n", 1, -1) }, abi.SYS_chown, []uint64{1, minus}, [2]string{"n"}, "", "", 0},
		{func(c *Client) error { return c.Lchown(ctx, "n", 1, -1) }, abi.SYS_lchown, []uint64{1, minus}, [2]string{"n"}, "", "", 0},
		{func(c *Client) error { return c.Fchown(ctx, 3, 1, -1) }, abi.SYS_fchown, []uint64{3, 1, minus}, [2]string{}, "", "", 0},
		{func(c *Client) error { return c.Fchownat(ctx, 3, "n", 1, 2, 0x200) }, abi.SYS_fchownat, []uint64{3, 1, 2, 0x200}, [2]string{"n"}, "", "", 0},
		{func(c *Client) error { return c.Utimensat(ctx, 3, "n", ts, ts, 0x200) }, abi.SYS_utimensat, []uint64{3, 0x200}, [2]string{"n"}, string(times(ts, ts)), "", 0},
		{func(c *Client) error { return c.Futimens(ctx, 3, ts, ts) }, abi.SYS_futimens, []uint64{3}, [2]string{}, string(times(ts, ts)), "", 0},
		{func(c *Client) error { return c.Truncate(ctx, "n", 5) }, abi.SYS_truncate, []uint64{5}, [2]string{"n"}, "", "", 0},
		{func(c *Client) error { return c.Ftruncate(ctx, 3, 5) }, abi.SYS_ftruncate, []uint64{3, 5}, [2]string{}, "", "", 0},
		{func(c *Client) error { return c.Access(ctx, "n", 4) }, abi.SYS_access, []uint64{4}, [2]string{"n"}, "", "", 0},
		{func(c *Client) error { return c.Faccessat(ctx, 3, "n", 4, 0x100) }, abi.SYS_faccessat, []uint64{3, 4, 0x100}, [2]string{"n"}, "", "", 0},
		{func(c *Client) error { return c.Chdir(ctx, "n") }, abi.SYS_chdir, nil, [2]string{"n"}, "", "", 0},
		{func(c *Client) error { return c.Fchdir(ctx, 3) }, abi.SYS_fchdir, []uint64{3}, [2]string{}, "", "", 0},
		{func(c *Client) error { return c.Chroot(ctx, "n") }, abi.SYS_chroot, nil, [2]string{"n"}, "", "", 0},
		{func(c *Client) error { _, e := c.Getcwd(ctx); return e }, abi.SYS___getcwd, nil, [2]string{}, "", "", 1024},
		{func(c *Client) error { _, e := c.Umask(ctx, 0o22); return e }, abi.SYS_umask, []uint64{0o22}, [2]string{}, "", "", 0},
		{func(c *Client) error { _, e := c.Dup(ctx, 3); return e }, abi.SYS_dup, []uint64{3}, [2]string{}, "", "", 0},
		{func(c *Client) error { _, e := c.Dup2(ctx, 3, 4); return e }, abi.SYS_dup2, []uint64{3, 4}, [2]string{}, "", "", 0},
		{func(c *Client) error { _, e := c.Dup3(ctx, 3, 4, 5); return e }, abi.SYS_dup3, []uint64{3, 4, 5}, [2]string{}, "", "", 0},
		{func(c *Client) error { _, e := c.Fcntl(ctx, 3, 4, 5); return e }, abi.SYS_fcntl, []uint64{3, 4, 5}, [2]string{}, "", "", 0},
		{func(c *Client) error { _, e := c.Ioctl(ctx, 3, abi.FIONBIO, []byte{1, 0, 0, 0}); return e }, abi.SYS_ioctl, []uint64{3, abi.FIONBIO}, [2]string{}, "\x01\x00\x00\x00", "", 0},
		{func(c *Client) error { _, e := c.Ioctl(ctx, 3, abi.FIONREAD, make([]byte, 4)); return e }, abi.SYS_ioctl, []uint64{3, abi.FIONREAD}, [2]string{}, "", "", 4},
		{func(c *Client) error { _, e := c.Ioctl(ctx, 3, abi.FIOCLEX, nil); return e }, abi.SYS_ioctl, []uint64{3, abi.FIOCLEX}, [2]string{}, "", "", 0},
		{func(c *Client) error { return c.Fsync(ctx, 3) }, abi.SYS_fsync, []uint64{3}, [2]string{}, "", "", 0},
		{func(c *Client) error { return c.Fdatasync(ctx, 3) }, abi.SYS_fdatasync, []uint64{3}, [2]string{}, "", "", 0},
		{func(c *Client) error { return c.Flock(ctx, 3, 2) }, abi.SYS_flock, []uint64{3, 2}, [2]string{}, "", "", 0},
		{func(c *Client) error { _, _, e := c.Pipe2(ctx, 4); return e }, abi.SYS_pipe2, []uint64{4}, [2]string{}, "", "", 0},
		{func(c *Client) error { return c.Sync(ctx) }, abi.SYS_sync, nil, [2]string{}, "", "", 0},
		{func(c *Client) error { return c.Syncfs(ctx, 3) }, abi.SYS_syncfs, []uint64{3}, [2]string{}, "", "", 0},
		{func(c *Client) error {
			return c.Mount(ctx, "tmpfs", "/t", 1, "src", map[string]string{"size": "1m", "a": "b=c"})
		}, abi.SYS_mountx, []uint64{1}, [2]string{"tmpfs", "/t"}, "src\x00a=b=c\x00size=1m", "", 0},
		{func(c *Client) error { return c.Unmount(ctx, "/t", 0x80000) }, abi.SYS_unmount, []uint64{0x80000}, [2]string{"/t"}, "", "", 0},
		{func(c *Client) error { _, e := c.Socket(ctx, 2, 1, 6); return e }, abi.SYS_socket, []uint64{2, 1, 6}, [2]string{}, "", "", 0},
		{func(c *Client) error { return c.Bind(ctx, 3, in4) }, abi.SYS_bind, []uint64{3}, [2]string{}, "", string(in4.Marshal()), 0},
		{func(c *Client) error { return c.Connect(ctx, 3, in4) }, abi.SYS_connect, []uint64{3}, [2]string{}, "", string(in4.Marshal()), 0},
		{func(c *Client) error { return c.ListenFd(ctx, 3, 5) }, abi.SYS_listen, []uint64{3, 5}, [2]string{}, "", "", 0},
		{func(c *Client) error { _, _, e := c.Accept(ctx, 3, 5); return e }, abi.SYS_paccept, []uint64{3, 5}, [2]string{}, "", "", 0},
		{func(c *Client) error { _, e := c.Sendto(ctx, 3, []byte("m"), 0x400, in4); return e }, abi.SYS_sendto, []uint64{3, 0x400}, [2]string{}, "m", string(in4.Marshal()), 0},
		{func(c *Client) error { _, _, e := c.Recvfrom(ctx, 3, make([]byte, 8), 2); return e }, abi.SYS_recvfrom, []uint64{3, 2}, [2]string{}, "", "", 8},
		{func(c *Client) error { return c.Shutdown(ctx, 3, 1) }, abi.SYS_shutdown, []uint64{3, 1}, [2]string{}, "", "", 0},
		{func(c *Client) error { return c.SetsockoptInt(ctx, 3, 0xffff, 4, 1) }, abi.SYS_setsockopt, []uint64{3, 0xffff, 4}, [2]string{}, "\x01\x00\x00\x00", "", 0},
		{func(c *Client) error { _, e := c.Getsockopt(ctx, 3, 0xffff, 4, make([]byte, 6)); return e }, abi.SYS_getsockopt, []uint64{3, 0xffff, 4}, [2]string{}, "", "", 6},
		{func(c *Client) error { _, e := c.Getsockname(ctx, 3); return e }, abi.SYS_getsockname, []uint64{3}, [2]string{}, "", "", 0},
		{func(c *Client) error { _, e := c.Getpeername(ctx, 3); return e }, abi.SYS_getpeername, []uint64{3}, [2]string{}, "", "", 0},
		{func(c *Client) error { return c.Modload(ctx, "m", 1, map[string]any{"k": 1}) }, abi.SYS_modctl, []uint64{0, 1}, [2]string{"m"}, `{"k":1}`, "", 0},
		{func(c *Client) error { return c.Modunload(ctx, "m", 1) }, abi.SYS_modctl, []uint64{1, 1}, [2]string{"m"}, "", "", 0},
		{func(c *Client) error { _, e := c.Modexists(ctx, "m"); return e }, abi.SYS_modctl, []uint64{3}, [2]string{"m"}, "", "", 0},
		{func(c *Client) error { return c.SysctlSet(ctx, "kern.x", "5") }, abi.SYS_sysctlbyname, []uint64{1}, [2]string{"kern.x"}, "5", "", 0},
		{func(c *Client) error { _, e := c.Sysctl(ctx, "kern.x"); return e }, abi.SYS_sysctlbyname, []uint64{0}, [2]string{"kern.x"}, "", "", 16 << 10},
		{func(c *Client) error { _, e := c.SysctlList(ctx, "kern"); return e }, abi.SYS_sysctlbyname, []uint64{2}, [2]string{"kern"}, "", "", 16 << 10},
		{func(c *Client) error { _, e := c.Modstat(ctx); return e }, abi.SYS_modstat, nil, [2]string{}, "", "", 16 << 10},
		{func(c *Client) error { _, e := c.Ifstat(ctx); return e }, abi.SYS_ifstat, nil, [2]string{}, "", "", 16 << 10},
		{func(c *Client) error { _, _, e := c.Msgbuf(ctx, 9, true, make([]byte, 3)); return e }, abi.SYS_msgbuf, []uint64{9, 1}, [2]string{}, "", "", 3},
		{func(c *Client) error { _, _, e := c.Events(ctx, 9, true); return e }, abi.SYS_events, []uint64{9, 1}, [2]string{}, "", "", eventRoom},
		{func(c *Client) error { return c.Reboot(ctx, 8) }, abi.SYS_reboot, []uint64{8}, [2]string{}, "", "", 0},
		{func(c *Client) error { _, e := c.Getpid(ctx); return e }, abi.SYS_getpid, nil, [2]string{}, "", "", 0},
	}
	both(t, func(t *testing.T, f *fake, c *Client) {
		f.set(func(_ context.Context, num int, a *abi.Sysargs) error {
			switch num {
			case abi.SYS_stat, abi.SYS_lstat, abi.SYS_fstat, abi.SYS_fstatat:
				a.NO = len(abi.AppendStat(a.Out[:0], &st))
			}
			return nil
		})
		for _, tc := range cases {
			if err := tc.call(c); err != nil {
				t.Errorf("%s: %v", abi.SyscallName(tc.num), err)
				continue
			}
			var want [6]uint64
			copy(want[:], tc.a)
			f.mu.Lock()
			if f.num != tc.num || f.got.A != want || f.got.Path != tc.paths || string(f.got.In) != tc.in || string(f.got.Addr) != tc.addr || len(f.got.Out) != tc.out {
				t.Errorf("%s: got %s, %+v", abi.SyscallName(tc.num), abi.SyscallName(f.num), f.got)
			}
			f.mu.Unlock()
		}
	})
}

func TestAnswers(t *testing.T) {
	ctx := context.Background()
	both(t, func(t *testing.T, f *fake, c *Client) {
		put := func(b []byte, r ...uint64) {
			f.set(func(_ context.Context, _ int, a *abi.Sysargs) error {
				copy(a.R[:], r)
				if len(b) > len(a.Out) {
					return abi.ENOMEM
				}
				a.NO = copy(a.Out, b)
				return nil
			})
		}
		put(nil, 7, 8)
		if r, w, err := c.Pipe2(ctx, 0); r != 7 || w != 8 || err != nil {
			t.Error("pipe2:", r, w, err)
		}
		put([]byte("/a/b\x00"), 5)
		if s, err := c.Getcwd(ctx); s != "/a/b" || err != nil {
			t.Error("getcwd:", s, err)
		}
		for _, size := range []int{0, 100, 16 << 10, 16<<10 + 1, 300000, abi.MaxTransfer} {
			long := strings.Repeat("v", size)
			put([]byte(long), uint64(size))
			if s, err := c.Sysctl(ctx, "x"); s != long || err != nil {
				t.Errorf("sysctl of %d bytes: %d, %v", size, len(s), err)
			}
		}
		put(make([]byte, abi.MaxTransfer+1), abi.MaxTransfer+1)
		if _, err := c.Sysctl(ctx, "x"); !errors.Is(err, abi.ENOMEM) {
			t.Errorf("sysctl without end: %v", err)
		}
		rows := []Modstat{{Name: "vfs", Class: "vfs", Requires: []string{}, Pid: 4, Epoch: 2}}
		b, _ := json.Marshal(rows)
		put(b, uint64(len(b)))
		if got, err := c.Modstat(ctx); err != nil || len(got) != 1 || got[0].Name != "vfs" || got[0].Epoch != 2 {
			t.Errorf("modstat: %+v, %v", got, err)
		}
		put([]byte("{"), 1)
		if _, err := c.Modstat(ctx); !errors.Is(err, abi.EIO) {
			t.Errorf("modstat of nonsense: %v", err)
		}
		fds := []abi.Pollfd{{Fd: 3, Events: abi.POLLIN}, {Fd: 4}}
		put(abi.AppendPollfds(nil, []abi.Pollfd{{Fd: 3, Revents: abi.POLLHUP}, {Fd: 4}}), 1)
		if n, err := c.Poll(ctx, fds, 0); n != 1 || err != nil || fds[0].Revents != abi.POLLHUP {
			t.Errorf("poll: %d, %v, %+v", n, err, fds)
		}
		sv := abi.Statvfs{Frsize: 4096, FSType: "tmpfs", On: "/"}
		put(abi.AppendStatvfs(abi.AppendStatvfs(nil, &sv), &sv), 2)
		f.set(func(on func(context.Context, int, *abi.Sysargs) error) func(context.Context, int, *abi.Sysargs) error {
			return func(ctx context.Context, n int, a *abi.Sysargs) error {
				if len(a.Out) == 0 {
					a.R[0] = 2
					return nil
				}
				return on(ctx, n, a)
			}
		}(f.on))
		if all, err := c.Getvfsstat(ctx, abi.MNT_NOWAIT); err != nil || len(all) != 2 || all[1] != sv {
			t.Errorf("getvfsstat: %+v, %v", all, err)
		}
		put([]byte{1, 2, 3})
		if _, err := c.Stat(ctx, "/"); !errors.Is(err, abi.EIO) {
			t.Errorf("stat of nonsense: %v", err)
		}
		if _, err := c.Getdents(ctx, 3, make([]byte, 100)); !errors.Is(err, abi.EIO) {
			t.Errorf("getdents of nonsense: %v", err)
		}
		if _, err := c.Ioctl(ctx, 3, abi.FIONREAD, nil); !errors.Is(err, abi.EINVAL) {
			t.Errorf("ioctl without room: %v", err)
		}
		if _, err := c.Sendto(ctx, 3, make([]byte, abi.MaxTransfer+1), 0, abi.Sockaddr{}); !errors.Is(err, abi.EMSGSIZE) {
			t.Errorf("sendto beyond the limit: %v", err)
		}
	})
}

// TestSplit reads and writes more than one call takes.
func TestSplit(t *testing.T) {
	ctx := context.Background()
	both(t, func(t *testing.T, f *fake, c *Client) {
		size := int64(2*abi.MaxTransfer + 12345) // of the file
		var calls atomic.Int32
		f.set(func(_ context.Context, num int, a *abi.Sysargs) error {
			calls.Add(1)
			off := int64(a.A[1])
			if num == abi.SYS_pwrite {
				if off >= size {
					return abi.ENOSPC
				}
				a.R[0] = uint64(min(size-off, int64(len(a.In))))
				return nil
			}
			a.NO = int(min(max(size-off, 0), int64(len(a.Out))))
			for i := range a.NO {
				a.Out[i] = byte((off + int64(i)) >> 12)
			}
			return nil
		})
		p := make([]byte, size+5)
		n, err := c.Pread(ctx, 3, p, 0)
		if int64(n) != size || err != nil {
			t.Fatalf("read %d, %v", n, err)
		}
		for i, b := range p[:n] {
			if b != byte(i>>12) {
				t.Fatalf("byte %d is %d", i, b)
			}
		}
		if k := calls.Swap(0); k != 3 {
			t.Errorf("%d calls", k)
		}
		if n, err := c.Pwrite(ctx, 3, p, 0); int64(n) != size || err != nil {
			t.Errorf("wrote %d, %v", n, err)
		}
		if n, err := c.Pwrite(ctx, 3, p, size); n != 0 || !errors.Is(err, abi.ENOSPC) {
			t.Errorf("wrote %d, %v", n, err)
		}
	})
}

func TestErrors(t *testing.T) {
	ctx := context.Background()
	both(t, func(t *testing.T, f *fake, c *Client) {
		for _, tc := range []struct {
			err  error
			no   abi.Errno
			want string
		}{
			{abi.ENOENT, abi.ENOENT, "open /a: no such file or directory"},
			{fmt.Errorf("open /a: %w", abi.ENOENT), abi.ENOENT, "open /a: no such file or directory"},
			{fmt.Errorf("open: %w", abi.ENOENT), abi.ENOENT, "open /a: no such file or directory"},
			{fmt.Errorf("vfs component not available: %w", abi.EOPNOTSUPP), abi.EOPNOTSUPP, "open /a: vfs component not available: " + abi.EOPNOTSUPP.Error()},
			{errors.New("strange"), abi.EIO, "open /a: strange"},
		} {
			f.set(func(context.Context, int, *abi.Sysargs) error { return tc.err })
			_, err := c.Open(ctx, "/a", 0, 0)
			var e *Error
			if !errors.As(err, &e) || e.Errno != tc.no || e.Op != "open" || e.Path != "/a" || !errors.Is(err, tc.no) || err.Error() != tc.want {
				t.Errorf("%v: got %#v: %v", tc.err, err, err)
			}
		}
	})
}

// TestGivingUp cancels calls that wait; what they have moved counts.
func TestGivingUp(t *testing.T) {
	both(t, func(t *testing.T, f *fake, c *Client) {
		f.set(func(ctx context.Context, num int, a *abi.Sysargs) error {
			f.waiting <- struct{}{}
			<-ctx.Done()
			if num == abi.SYS_recvfrom {
				a.NO = copy(a.Out, "moved")
				return nil
			}
			return abi.ErrnoOf(ctx.Err())
		})
		ctx, cancel := context.WithCancel(context.Background())
		stop := make(chan struct{})
		go func() { defer close(stop); <-f.waiting; cancel() }()
		if _, _, err := c.Accept(ctx, 3, 0); !errors.Is(err, abi.EINTR) {
			t.Errorf("cancelled: %v", err)
		}
		<-stop
		ctx, cancel = context.WithTimeout(context.Background(), 10*time.Millisecond)
		if _, _, err := c.Accept(ctx, 3, 0); !errors.Is(err, abi.ETIMEDOUT) {
			t.Errorf("past the deadline: %v", err)
		}
		cancel()
		<-f.waiting
		ctx, cancel = context.WithCancel(context.Background())
		stop = make(chan struct{})
		go func() { defer close(stop); <-f.waiting; cancel() }()
		p := make([]byte, 10)
		if n, _, err := c.Recvfrom(ctx, 3, p, 0); err != nil || string(p[:n]) != "moved" {
			t.Errorf("cancelled with something received: %q, %v", p[:n], err)
		}
		<-stop
	})
}

// TestConcurrent has many goroutines call at once, some waiting.
func TestConcurrent(t *testing.T) {
	both(t, func(t *testing.T, f *fake, c *Client) {
		release := make(chan struct{})
		f.set(func(ctx context.Context, num int, a *abi.Sysargs) error {
			if num == abi.SYS_paccept {
				f.waiting <- struct{}{}
				select {
				case <-release:
				case <-ctx.Done():
				}
			}
			a.R[0] = a.A[0] + 1
			return nil
		})
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				if fd, _, err := c.Accept(context.Background(), i, 0); fd != i+1 || err != nil {
					t.Errorf("accept %d: %d, %v", i, fd, err)
				}
			})
		}
		for range 50 {
			<-f.waiting
		}
		for i := range 200 {
			wg.Go(func() {
				if n, err := c.Dup(context.Background(), i); n != i+1 || err != nil {
					t.Errorf("dup %d: %d, %v", i, n, err)
				}
			})
		}
		close(release)
		wg.Wait()
	})
}
