package rumpclient_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/rumpus-kernel/rumpus/kernel"
	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// TestProcstat lists processes and what they have open.
func TestProcstat(t *testing.T) {
	bothKinds(t, func(t *testing.T, k *kernel.Kernel, dial func() *rumpclient.Client) {
		ctx := soon(t)
		c, other := dial(), dial()
		pid, err := other.Getpid(ctx)
		must(t, err)
		must(t, other.Setgid(ctx, 6))
		must(t, other.WriteFile(ctx, "/f", []byte("abc"), 0o640))
		fd, err := other.Open(ctx, "/f", abi.O_RDONLY, 0)
		must(t, err)
		_, w, err := other.Pipe2(ctx, 0)
		must(t, err)
		s, err := other.Socket(ctx, abi.AF_INET, abi.SOCK_STREAM, 0)
		must(t, err)
		sa, err := abi.ParseSockaddr([]byte{16, abi.AF_INET, 0x1f, 0x91, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0})
		must(t, err)
		must(t, other.Bind(ctx, s, sa))
		must(t, other.ListenFd(ctx, s, 5))
		kq, err := other.Kqueue(ctx)
		must(t, err)
		_, err = other.Kevent(ctx, kq, []abi.Kevent{{Ident: uint64(fd), Filter: abi.EVFILT_VNODE, Flags: abi.EV_ADD}}, nil, 0)
		must(t, err)
		_, err = other.Setsid(ctx)
		must(t, err)

		all, err := c.Procstat(ctx)
		must(t, err)
		if len(all) != 3 || all[0].Pid != 0 || all[0].Name != "kernel" || all[0].Login != "rumphobo" {
			t.Errorf("processes %+v", all)
		}
		for _, p := range all {
			if p.Pid == pid && (p.Ppid != 0 || p.Sid != pid || p.Pgid != pid || p.Uid != 0 || p.Gid != 6 || p.Files != 5) {
				t.Errorf("%+v", p)
			}
		}
		rows, err := c.Filestat(ctx, pid)
		must(t, err)
		seen := map[int]rumpclient.Filestat{}
		for _, r := range rows {
			seen[r.Fd] = r
			if r.Pid != pid {
				t.Errorf("of another: %+v", r)
			}
		}
		if f := seen[fd]; f.Type != "vnode" || f.Access != "r" || f.Mount != "/" || f.Fstype != "tmpfs" || f.Path != "/f" || f.Size != 3 || f.Mode != abi.S_IFREG|0o640 || f.Fileid == 0 {
			t.Errorf("file %+v", f)
		}
		if f := seen[w]; f.Type != "pipe" || f.Access != "w" {
			t.Errorf("pipe %+v", f)
		}
		if f := seen[s]; f.Type != "socket" || f.Local != "127.0.0.1:8081" || f.Peer != "" {
			t.Errorf("socket %+v", f)
		}
		if f := seen[kq]; f.Type != "kqueue" || f.Events != 1 {
			t.Errorf("kqueue %+v", f)
		}
		if every, err := c.Filestat(ctx, -1); len(every) != len(rows) || err != nil {
			t.Errorf("all: %d of %d, %v", len(every), len(rows), err)
		}
		if _, err := c.Filestat(ctx, 9999); !errors.Is(err, abi.ESRCH) {
			t.Errorf("no such process: %v", err)
		}
	})
}

// TestWmesg: ps shows what a process waits for, in NetBSD's words.
func TestWmesg(t *testing.T) {
	bothKinds(t, func(t *testing.T, k *kernel.Kernel, dial func() *rumpclient.Client) {
		ctx := soon(t)
		c, other := dial(), dial()
		pid, err := other.Getpid(ctx)
		must(t, err)
		wmesg := func() string {
			all, err := c.Procstat(ctx)
			must(t, err)
			for _, p := range all {
				if p.Pid == pid {
					return p.Wmesg
				}
			}
			return "gone"
		}
		kq, err := other.Kqueue(ctx)
		must(t, err)
		r, w, err := other.Pipe2(ctx, 0)
		must(t, err)
		s, _, err := other.Socketpair(ctx, abi.AF_LOCAL, abi.SOCK_STREAM, 0)
		must(t, err)
		l, err := other.Socket(ctx, abi.AF_LOCAL, abi.SOCK_STREAM, 0)
		must(t, err)
		must(t, other.Bind(ctx, l, abi.SockaddrUnix("/l")))
		must(t, other.ListenFd(ctx, l, 1))
		must(t, other.Mkfifo(ctx, "/fifo", 0o600))
		locked, err := other.Open(ctx, "/lock", abi.O_RDWR|abi.O_CREAT, 0o600)
		must(t, err)
		mine, err := c.Open(ctx, "/lock", abi.O_RDWR, 0)
		must(t, err)
		must(t, c.Flock(ctx, mine, abi.LOCK_EX))
		for _, tc := range []struct {
			want string
			call func(ctx context.Context)
		}{
			{"kqueue", func(ctx context.Context) { other.Kevent(ctx, kq, nil, make([]abi.Kevent, 1), -1) }},
			{"poll", func(ctx context.Context) { other.Poll(ctx, []abi.Pollfd{{Fd: int32(r), Events: abi.POLLIN}}, -1) }},
			{"pipe_rd", func(ctx context.Context) { other.Read(ctx, r, make([]byte, 1)) }},
			{"pipe_wr", func(ctx context.Context) { other.Write(ctx, w, make([]byte, 1<<20)) }},
			{"netio", func(ctx context.Context) { other.Read(ctx, s, make([]byte, 1)) }},
			{"socket", func(ctx context.Context) { other.Accept(ctx, l, 0) }},
			{"fiford", func(ctx context.Context) { other.Open(ctx, "/fifo", abi.O_RDONLY, 0) }},
			{"fifowr", func(ctx context.Context) { other.Open(ctx, "/fifo", abi.O_WRONLY, 0) }},
			{"lockf", func(ctx context.Context) { other.Flock(ctx, locked, abi.LOCK_EX) }},
		} {
			short, cancel := context.WithCancel(ctx)
			done := make(chan struct{})
			go func() {
				defer close(done)
				tc.call(short)
			}()
			for w := wmesg(); w != tc.want && ctx.Err() == nil; w = wmesg() {
				if w != "" {
					t.Errorf("it waits for %s, want %s", w, tc.want)
					break
				}
			}
			if lwp, err := c.Sysctl(ctx, "kern.lwp"); err != nil || !strings.Contains(lwp, `"wmesg":"`+tc.want+`"`) {
				t.Errorf("kern.lwp: %s, %v", lwp, err)
			}
			cancel()
			<-done
			for wmesg() != "" && ctx.Err() == nil {
			}
		}
		if ctx.Err() != nil {
			t.Error("ps does not tell")
		}
	})
}

// TestKqueueFork: a child has no kqueues of its parent in a copied table, and a
// kqueue in a shared one sees the child close a descriptor.
func TestKqueueFork(t *testing.T) {
	bothKinds(t, func(t *testing.T, k *kernel.Kernel, dial func() *rumpclient.Client) {
		ctx := soon(t)
		c := dial()
		kq, err := c.Kqueue(ctx)
		must(t, err)
		r, w, err := c.Pipe2(ctx, 0)
		must(t, err)
		_, err = c.Kevent(ctx, kq, []abi.Kevent{
			{Ident: uint64(w), Filter: abi.EVFILT_WRITE, Flags: abi.EV_ADD},
			{Ident: uint64(r), Filter: abi.EVFILT_READ, Flags: abi.EV_ADD},
		}, nil, 0)
		must(t, err)
		events := func() int {
			rows, err := c.Filestat(ctx, -1)
			must(t, err)
			for _, f := range rows {
				if f.Fd == kq && f.Type == "kqueue" {
					return f.Events
				}
			}
			t.Fatal("no kqueue")
			return 0
		}
		_, cookie, err := c.Rfork(ctx, abi.RUMP_RFFDG)
		must(t, err)
		child := dial()
		_, err = child.Attach(ctx, cookie)
		must(t, err)
		if _, err := child.Fstat(ctx, kq); !errors.Is(err, abi.EBADF) {
			t.Errorf("the kqueue was inherited: %v", err)
		}
		must(t, child.Close(ctx, w))
		if n := events(); n != 2 {
			t.Errorf("%d events after a close in a copy", n)
		}
		_, cookie, err = c.Rfork(ctx, 0)
		must(t, err)
		child = dial()
		_, err = child.Attach(ctx, cookie)
		must(t, err)
		must(t, child.Close(ctx, w))
		if n := events(); n != 1 {
			t.Errorf("%d events after a close in a shared table", n)
		}
		_, err = c.Dup2(ctx, kq, r) // closes r
		must(t, err)
		if n := events(); n != 0 {
			t.Errorf("%d events after a dup2 over the descriptor", n)
		}
	})
}

// BenchmarkKqueueWake is a round trip between two clients that wait in kevent
// for each other's pipe.
func BenchmarkKqueueWake(b *testing.B) {
	ctx := soon(b)
	k := boot(b)
	c, err := k.Client("bench")
	must(b, err)
	defer c.Exit()
	pair := func() (kq, r, w int) {
		r, w, err := c.Pipe2(ctx, 0)
		must(b, err)
		kq, err = c.Kqueue(ctx)
		must(b, err)
		_, err = c.Kevent(ctx, kq, []abi.Kevent{{Ident: uint64(r), Filter: abi.EVFILT_READ, Flags: abi.EV_ADD}}, nil, 0)
		must(b, err)
		return kq, r, w
	}
	kq1, r1, w1 := pair()
	kq2, r2, w2 := pair()
	turn := func(kq, r, w int) error {
		if _, err := c.Kevent(ctx, kq, nil, make([]abi.Kevent, 1), -1); err != nil {
			return err
		}
		if _, err := c.Read(ctx, r, make([]byte, 1)); err != nil {
			return err
		}
		_, err := c.Write(ctx, w, []byte{1})
		return err
	}
	go func() {
		for turn(kq2, r2, w1) == nil {
		}
	}()
	for b.Loop() {
		_, err := c.Write(ctx, w2, []byte{1})
		must(b, err)
		_, err = c.Kevent(ctx, kq1, nil, make([]abi.Kevent, 1), -1)
		must(b, err)
		_, err = c.Read(ctx, r1, make([]byte, 1))
		must(b, err)
	}
}
