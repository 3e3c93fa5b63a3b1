package rumpclient_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// kq is a kqueue under test.
type kq struct {
	t   *testing.T
	c   *rumpclient.Client
	fd  int
	ctx context.Context
}

func newKq(t *testing.T, c *rumpclient.Client) *kq {
	ctx := soon(t)
	fd, err := c.Kqueue(ctx)
	must(t, err)
	return &kq{t, c, fd, ctx}
}

// change makes one change.
func (q *kq) change(ev abi.Kevent) error {
	_, err := q.c.Kevent(q.ctx, q.fd, []abi.Kevent{ev}, nil, 0)
	return err
}

func (q *kq) add(ident int, filter, flags, fflags uint32) {
	q.t.Helper()
	must(q.t, q.change(abi.Kevent{Ident: uint64(ident), Filter: filter, Flags: abi.EV_ADD | flags, Fflags: fflags}))
}

// expect fetches what is there now: want are the events as Kevent.String says
// them, in any order.
func (q *kq) expect(want ...string) {
	q.t.Helper()
	evs := make([]abi.Kevent, 16)
	n, err := q.c.Kevent(q.ctx, q.fd, nil, evs, 0)
	must(q.t, err)
	left := map[string]int{}
	for _, w := range want {
		left[w]++
	}
	for _, e := range evs[:n] {
		left[e.String()]--
	}
	for w, n := range left {
		if n > 0 {
			q.t.Errorf("no %q", w)
		} else if n < 0 {
			q.t.Errorf("unexpected %q", w)
		}
	}
}

// wait waits for the next event.
func (q *kq) wait(want string) abi.Kevent {
	q.t.Helper()
	evs := make([]abi.Kevent, 1)
	n, err := q.c.Kevent(q.ctx, q.fd, nil, evs, -1)
	must(q.t, err)
	if n != 1 || !strings.HasPrefix(evs[0].String(), want) {
		q.t.Errorf("%v, not %s", evs[:n], want)
	}
	return evs[0]
}

// TestKqueueVnode is the *_kqueue cases of NetBSD's tests/fs/tmpfs: who watches
// a directory and its files is told what each operation does.
func TestKqueueVnode(t *testing.T) {
	const all = abi.NOTE_DELETE | abi.NOTE_WRITE | abi.NOTE_EXTEND | abi.NOTE_ATTRIB | abi.NOTE_LINK | abi.NOTE_RENAME | abi.NOTE_REVOKE
	ctx := context.Background()
	touch := func(c *rumpclient.Client, p string) error { return c.WriteFile(ctx, p, nil, 0o644) }
	open := func(c *rumpclient.Client, p string, flags int, fn func(fd int) error) error {
		fd, err := c.Open(ctx, p, flags, 0)
		if err != nil {
			return err
		}
		return errors.Join(fn(fd), c.Close(ctx, fd))
	}
	for _, tc := range []struct {
		name  string
		prep  string // paths to make, a slash at the end for directories
		watch string
		do    func(c *rumpclient.Client) error
		want  string // "PATH NOTES;..."
	}{
		{"create", "", ".", func(c *rumpclient.Client) error { return touch(c, "a") }, ". WRITE"},
		{"link", "a", ". a", func(c *rumpclient.Client) error { return c.Link(ctx, "a", "b") }, "a LINK;. WRITE"},
		{"link_remove", "a b=a", ". b", func(c *rumpclient.Client) error { return c.Unlink(ctx, "a") }, "b LINK;. WRITE"},
		{"mkdir", "", ".", func(c *rumpclient.Client) error { return c.Mkdir(ctx, "d", 0o755) }, ". WRITE|LINK"},
		{"mknod", "", ".", func(c *rumpclient.Client) error { return c.Mkfifo(ctx, "f", 0o600) }, ". WRITE"},
		{"symlink", "", ".", func(c *rumpclient.Client) error { return c.Symlink(ctx, "a", "l") }, ". WRITE"},
		{"remove", "a", ". a", func(c *rumpclient.Client) error { return c.Unlink(ctx, "a") }, ". WRITE;a DELETE"},
		{"rmdir", "d/", ". d", func(c *rumpclient.Client) error { return c.Rmdir(ctx, "d") }, ". WRITE|LINK;d DELETE"},
		{"rename", "a", ". a", func(c *rumpclient.Client) error { return c.Rename(ctx, "a", "b") }, "a RENAME;. WRITE"},
		{"rename_over", "a b", ". a b", func(c *rumpclient.Client) error { return c.Rename(ctx, "a", "b") }, "a RENAME;. WRITE;b DELETE"},
		{"rename_dirs", "d/ e/ d/a", "d d/a e", func(c *rumpclient.Client) error { return c.Rename(ctx, "d/a", "e/a") }, "d WRITE;e WRITE;d/a RENAME"},
		{"rename_dirs_over", "d/ e/ d/a e/a", "d d/a e e/a", func(c *rumpclient.Client) error { return c.Rename(ctx, "d/a", "e/a") },
			"d WRITE;e WRITE;d/a RENAME;e/a DELETE"},
		{"rename_dir", "d/", ". d", func(c *rumpclient.Client) error { return c.Rename(ctx, "d", "e") }, ". WRITE;d RENAME"},
		{"rename_dir_dirs", "d/ e/ d/a/", "d d/a e", func(c *rumpclient.Client) error { return c.Rename(ctx, "d/a", "e/a") },
			"d WRITE|LINK;e WRITE|LINK;d/a RENAME"},
		{"chmod", "a", ". a", func(c *rumpclient.Client) error { return c.Chmod(ctx, "a", 0o600) }, "a ATTRIB"},
		{"chown", "a", ". a", func(c *rumpclient.Client) error { return c.Chown(ctx, "a", 7, 7) }, "a ATTRIB"},
		{"fchmod", "a", "a", func(c *rumpclient.Client) error {
			return open(c, "a", abi.O_RDONLY, func(fd int) error { return c.Fchmod(ctx, fd, 0o600) })
		}, "a ATTRIB"},
		{"write", "a", ". a", func(c *rumpclient.Client) error { return c.WriteFile(ctx, "a", []byte("x"), 0) }, "a WRITE|EXTEND|ATTRIB"},
		{"overwrite", "a:abc", "a", func(c *rumpclient.Client) error {
			return open(c, "a", abi.O_RDWR, func(fd int) error { _, err := c.Pwrite(ctx, fd, []byte("x"), 1); return err })
		}, "a WRITE"},
		{"extend", "a:abc", "a", func(c *rumpclient.Client) error {
			return open(c, "a", abi.O_RDWR, func(fd int) error { return c.Ftruncate(ctx, fd, 10) })
		}, "a WRITE|EXTEND|ATTRIB"},
		{"shrink", "a:abc", "a", func(c *rumpclient.Client) error {
			return open(c, "a", abi.O_RDWR, func(fd int) error { return c.Ftruncate(ctx, fd, 1) })
		}, "a WRITE|ATTRIB"},
		{"read", "a:abc", ". a", func(c *rumpclient.Client) error { _, err := c.ReadFile(ctx, "a"); return err }, ""},
		{"failed", "a", ". a", func(c *rumpclient.Client) error { c.Mkdir(ctx, "a", 0); c.Rmdir(ctx, "a"); return nil }, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, err := boot(t).Client("kqueue")
			must(t, err)
			defer c.Exit()
			for _, p := range strings.Fields(tc.prep) {
				if d, ok := strings.CutSuffix(p, "/"); ok {
					must(t, c.Mkdir(ctx, d, 0o755))
				} else if to, from, ok := strings.Cut(p, "="); ok {
					must(t, c.Link(ctx, from, to))
				} else {
					name, text, _ := strings.Cut(p, ":")
					must(t, c.WriteFile(ctx, name, []byte(text), 0o644))
				}
			}
			q := newKq(t, c)
			fds := map[string]int{}
			for _, p := range strings.Fields(tc.watch) {
				fd, err := c.Open(ctx, p, abi.O_RDONLY, 0)
				must(t, err)
				fds[p] = fd
				q.add(fd, abi.EVFILT_VNODE, abi.EV_CLEAR, all)
			}
			must(t, tc.do(c))
			var want []string
			for _, w := range strings.Split(tc.want, ";") {
				if p, notes, ok := strings.Cut(w, " "); ok {
					want = append(want, abi.Kevent{Filter: abi.EVFILT_VNODE, Ident: uint64(fds[p])}.String()+notes)
				}
			}
			q.expect(want...)
			q.expect() // EV_CLEAR: told once
		})
	}
}

// TestKqueueRevoke unmounts a file system with files of it watched.
func TestKqueueRevoke(t *testing.T) {
	ctx := context.Background()
	c, err := boot(t).Client("kqueue")
	must(t, err)
	defer c.Exit()
	must(t, c.Mkdir(ctx, "/m", 0o755))
	must(t, c.Mount(ctx, "tmpfs", "/m", 0, "", nil))
	must(t, c.WriteFile(ctx, "/m/a", nil, 0o644))
	fd, err := c.Open(ctx, "/m/a", abi.O_RDONLY, 0)
	must(t, err)
	q := newKq(t, c)
	q.add(fd, abi.EVFILT_VNODE, abi.EV_CLEAR, abi.NOTE_REVOKE|abi.NOTE_WRITE)
	must(t, c.Unmount(ctx, "/m", abi.MNT_FORCE))
	q.wait("VNODE " + abi.Kevent{Ident: uint64(fd)}.String()[5:6] + " REVOKE")
}

// TestKqueuePipe is READ and WRITE on a pipe: level, EV_CLEAR, EV_ONESHOT,
// EV_DISPATCH, enable and disable, end of file.
func TestKqueuePipe(t *testing.T) {
	onBoth(t, func(t *testing.T, c *rumpclient.Client) {
		q := newKq(t, c)
		ctx := q.ctx
		r, w, err := c.Pipe2(ctx, 0)
		must(t, err)
		put := func(s string) {
			_, err := c.Write(ctx, w, []byte(s))
			must(t, err)
		}
		read := abi.Kevent{Ident: uint64(r), Filter: abi.EVFILT_READ}
		at := func(data int64) string { e := read; e.Data = data; return e.String() }
		drain := func() {
			_, err := c.Read(ctx, r, make([]byte, 100))
			must(t, err)
		}
		q.add(r, abi.EVFILT_READ, 0, 0)
		q.expect()
		put("abc")
		q.expect(at(3)) // level: as long as it is so
		q.expect(at(3))
		put("d")
		q.expect(at(4))
		drain()
		q.expect()

		q.add(r, abi.EVFILT_READ, abi.EV_CLEAR, 0) // edge: each change once
		put("abc")
		q.expect(at(3))
		q.expect()
		put("d")
		q.expect(at(4))
		drain()
		q.expect()

		q.add(r, abi.EVFILT_READ, abi.EV_DISPATCH, 0)
		put("abc")
		q.expect(at(3))
		q.expect()
		e := read
		e.Flags = abi.EV_ENABLE
		must(t, q.change(e))
		q.expect(at(3))

		q.add(r, abi.EVFILT_READ, abi.EV_DISABLE, 0)
		q.expect()
		e.Flags = abi.EV_ENABLE
		must(t, q.change(e))
		q.expect(at(3))
		e.Flags = abi.EV_DISABLE
		must(t, q.change(e))
		q.expect()

		q.add(r, abi.EVFILT_READ, abi.EV_ENABLE|abi.EV_ONESHOT, 0)
		q.expect(at(3))
		q.expect()
		e.Flags = abi.EV_DELETE
		if err := q.change(e); !errors.Is(err, abi.ENOENT) {
			t.Errorf("deleting what was once: %v", err)
		}

		// NOTE_LOWAT
		must(t, q.change(abi.Kevent{Ident: uint64(r), Filter: abi.EVFILT_READ, Flags: abi.EV_ADD, Fflags: abi.NOTE_LOWAT, Data: 5}))
		q.expect()
		put("de")
		q.expect(at(5))

		q.add(w, abi.EVFILT_WRITE, 0, 0)
		evs := make([]abi.Kevent, 4)
		n, err := c.Kevent(ctx, q.fd, nil, evs, 0)
		must(t, err)
		if n != 2 || evs[1].Filter != abi.EVFILT_WRITE || evs[1].Data < abi.PIPE_BUF {
			t.Errorf("%v", evs[:n])
		}
		must(t, c.Close(ctx, w)) // its knote goes, and the other end sees the end
		e = read
		e.Data, e.Flags = 5, abi.EV_EOF
		q.expect(e.String())
		must(t, c.Close(ctx, r))
		q.expect()
	})
}

// TestKqueueWaits is about waiters: an event that comes while somebody waits, a
// time-out, an end by the context, a kqueue that is closed.
func TestKqueueWaits(t *testing.T) {
	onBoth(t, func(t *testing.T, c *rumpclient.Client) {
		q := newKq(t, c)
		r, w, err := c.Pipe2(q.ctx, 0)
		must(t, err)
		q.add(r, abi.EVFILT_READ, abi.EV_CLEAR, 0)
		for i := range 50 {
			done := make(chan error, 1)
			go func() {
				_, err := c.Write(q.ctx, w, []byte{byte(i)})
				done <- err
			}()
			if e := q.wait("READ"); e.Data != 1 {
				t.Fatalf("%v", e)
			}
			must(t, <-done)
			_, err := c.Read(q.ctx, r, make([]byte, 9))
			must(t, err)
		}
		q.expect()
		evs := make([]abi.Kevent, 1)
		if n, err := c.Kevent(q.ctx, q.fd, nil, evs, 5*time.Millisecond); n != 0 || err != nil {
			t.Errorf("time-out: %d, %v", n, err)
		}
		ctx, cancel := context.WithTimeout(q.ctx, 10*time.Millisecond)
		defer cancel()
		if _, err := c.Kevent(ctx, q.fd, nil, evs, -1); !errors.Is(err, abi.ETIMEDOUT) {
			t.Errorf("deadline: %v", err)
		}
	})
}

// TestKqueueSocket is READ and WRITE on TCP sockets: a connection to accept,
// bytes, the end of a stream.
func TestKqueueSocket(t *testing.T) {
	onBoth(t, func(t *testing.T, c *rumpclient.Client) {
		q := newKq(t, c)
		ctx := q.ctx
		lo := []byte{16, abi.AF_INET, 0x1f, 0x90, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}
		sa, err := abi.ParseSockaddr(lo)
		must(t, err)
		ls, err := c.Socket(ctx, abi.AF_INET, abi.SOCK_STREAM, 0)
		must(t, err)
		must(t, c.Bind(ctx, ls, sa))
		must(t, c.ListenFd(ctx, ls, 5))
		q.add(ls, abi.EVFILT_READ, abi.EV_CLEAR, 0)
		q.expect()
		cs, err := c.Socket(ctx, abi.AF_INET, abi.SOCK_STREAM, 0)
		must(t, err)
		must(t, c.Connect(ctx, cs, sa))
		if e := q.wait("READ"); e.Ident != uint64(ls) || e.Data < 1 {
			t.Errorf("accept: %v", e)
		}
		as, _, err := c.Accept(ctx, ls, 0)
		must(t, err)
		q.add(as, abi.EVFILT_READ, 0, 0)
		q.expect()
		_, err = c.Write(ctx, cs, []byte("hello"))
		must(t, err)
		if e := q.wait("READ"); e.Data != 5 || e.Flags&abi.EV_EOF != 0 {
			t.Errorf("bytes: %v", e)
		}
		_, err = c.Read(ctx, as, make([]byte, 10))
		must(t, err)
		q.expect()
		q.add(as, abi.EVFILT_WRITE, abi.EV_ONESHOT, 0)
		if e := q.wait("WRITE"); e.Data == 0 {
			t.Errorf("room: %v", e)
		}
		must(t, c.Shutdown(ctx, cs, abi.SHUT_WR))
		if e := q.wait("READ"); e.Flags&abi.EV_EOF == 0 || e.Data != 0 {
			t.Errorf("end: %v", e)
		}
	})
}

// TestKqueueVnodeRead: a file can be read while the offset is not its end.
func TestKqueueVnodeRead(t *testing.T) {
	onBoth(t, func(t *testing.T, c *rumpclient.Client) {
		q := newKq(t, c)
		must(t, c.WriteFile(q.ctx, "/f", []byte("abcde"), 0o644))
		fd, err := c.Open(q.ctx, "/f", abi.O_RDWR, 0)
		must(t, err)
		q.add(fd, abi.EVFILT_READ, 0, 0)
		if e := q.wait("READ"); e.Data != 5 {
			t.Errorf("%v", e)
		}
		_, err = c.Read(q.ctx, fd, make([]byte, 5))
		must(t, err)
		q.expect()
		_, err = c.Pwrite(q.ctx, fd, []byte("fg"), 5)
		must(t, err)
		if e := q.wait("READ"); e.Data != 2 {
			t.Errorf("%v", e)
		}
		q.add(fd, abi.EVFILT_WRITE, abi.EV_ONESHOT, 0)
		must(t, q.change(abi.Kevent{Ident: uint64(fd), Filter: abi.EVFILT_READ, Flags: abi.EV_DELETE}))
		q.wait("WRITE")
	})
}

// TestKqueueOthers is TIMER, USER and PROC.
func TestKqueueOthers(t *testing.T) {
	onBoth(t, func(t *testing.T, c *rumpclient.Client) {
		q := newKq(t, c)
		must(t, q.change(abi.Kevent{Ident: 1, Filter: abi.EVFILT_TIMER, Flags: abi.EV_ADD, Data: 2}))
		if e := q.wait("TIMER 1"); e.Data < 1 {
			t.Errorf("%v", e)
		}
		q.wait("TIMER 1") // again and again
		must(t, q.change(abi.Kevent{Ident: 1, Filter: abi.EVFILT_TIMER, Flags: abi.EV_DELETE}))
		q.expect()
		must(t, q.change(abi.Kevent{Ident: 2, Filter: abi.EVFILT_TIMER, Flags: abi.EV_ADD | abi.EV_ONESHOT, Fflags: abi.NOTE_USECONDS, Data: 1500}))
		q.wait("TIMER 2 data=1")
		q.expect()
		must(t, q.change(abi.Kevent{Ident: 3, Filter: abi.EVFILT_TIMER, Flags: abi.EV_ADD, Fflags: abi.NOTE_ABSTIME | abi.NOTE_SECONDS, Data: 1}))
		q.wait("TIMER 3 data=1") // long past
		q.expect()
		for _, bad := range []abi.Kevent{{Data: -1}, {Fflags: 9}} {
			bad.Filter, bad.Flags = abi.EVFILT_TIMER, abi.EV_ADD
			if err := q.change(bad); !errors.Is(err, abi.EINVAL) {
				t.Errorf("%+v: %v", bad, err)
			}
		}

		q.add(7, abi.EVFILT_USER, abi.EV_CLEAR, abi.NOTE_FFCOPY|3)
		q.expect()
		must(t, q.change(abi.Kevent{Ident: 7, Filter: abi.EVFILT_USER, Fflags: abi.NOTE_TRIGGER | abi.NOTE_FFOR | 8, Data: 42}))
		if e := q.wait("USER 7 data=42"); e.Fflags != 11 {
			t.Errorf("flags %x", e.Fflags)
		}
		q.expect()
		must(t, q.change(abi.Kevent{Ident: 7, Filter: abi.EVFILT_USER, Fflags: abi.NOTE_TRIGGER | abi.NOTE_FFAND | 9}))
		if e := q.wait("USER 7"); e.Fflags != 9 {
			t.Errorf("flags %x", e.Fflags)
		}

		if err := q.change(abi.Kevent{Ident: 99999, Filter: abi.EVFILT_PROC, Flags: abi.EV_ADD, Fflags: abi.NOTE_EXIT}); !errors.Is(err, abi.ESRCH) {
			t.Errorf("no such process: %v", err)
		}
	})
}

// TestKqueueProc watches a process end.
func TestKqueueProc(t *testing.T) {
	k := boot(t)
	c, err := k.Client("watcher")
	must(t, err)
	defer c.Exit()
	other, err := k.Client("other")
	must(t, err)
	pid, err := other.Getpid(context.Background())
	must(t, err)
	q := newKq(t, c)
	q.add(pid, abi.EVFILT_PROC, 0, abi.NOTE_EXIT)
	q.expect()
	must(t, other.Exit())
	if e := q.wait("PROC"); e.Fflags != abi.NOTE_EXIT || e.Flags&abi.EV_EOF == 0 {
		t.Errorf("%+v", e)
	}
	q.expect() // once
}

// TestKqueueChanges is the list of changes: errors as events or as the answer,
// receipts.
func TestKqueueChanges(t *testing.T) {
	onBoth(t, func(t *testing.T, c *rumpclient.Client) {
		q := newKq(t, c)
		r, _, err := c.Pipe2(q.ctx, 0)
		must(t, err)
		changes := []abi.Kevent{
			{Ident: 99, Filter: abi.EVFILT_READ, Flags: abi.EV_ADD},
			{Ident: uint64(r), Filter: abi.EVFILT_READ, Flags: abi.EV_ADD | abi.EV_RECEIPT},
			{Ident: uint64(r), Filter: abi.EVFILT_WRITE, Flags: abi.EV_DELETE},
			{Ident: uint64(r), Filter: abi.EVFILT_VNODE, Flags: abi.EV_ADD},
			{Ident: uint64(r), Filter: 77, Flags: abi.EV_ADD},
			{Ident: uint64(q.fd), Filter: abi.EVFILT_WRITE, Flags: abi.EV_ADD},
		}
		evs := make([]abi.Kevent, 10)
		n, err := c.Kevent(q.ctx, q.fd, changes, evs, 0)
		must(t, err)
		want := []abi.Errno{abi.EBADF, 0, abi.ENOENT, abi.EOPNOTSUPP, abi.EINVAL, abi.EINVAL}
		for i, e := range want {
			if i >= n || evs[i].Flags&abi.EV_ERROR == 0 || abi.Errno(evs[i].Data) != e {
				t.Errorf("change %d: %v", i, evs[i])
			}
		}
		if _, err := c.Kevent(q.ctx, q.fd, changes[:1], nil, 0); !errors.Is(err, abi.EBADF) {
			t.Errorf("no room for the error: %v", err)
		}
		if _, err := c.Kevent(q.ctx, r, nil, evs, 0); !errors.Is(err, abi.EBADF) {
			t.Errorf("not a kqueue: %v", err)
		}
		a := abi.Sysargs{A: [6]uint64{uint64(q.fd)}, In: make([]byte, 41)}
		if err := c.Syscall(q.ctx, abi.SYS_kevent, &a); abi.ErrnoOf(err) != abi.EINVAL {
			t.Errorf("half a kevent: %v", err)
		}
	})
}

// TestKqueueNested: kqueues can be polled and watched by others, not in circles.
func TestKqueueNested(t *testing.T) {
	onBoth(t, func(t *testing.T, c *rumpclient.Client) {
		in, out := newKq(t, c), newKq(t, c)
		out.add(in.fd, abi.EVFILT_READ, 0, 0)
		for _, q := range []struct {
			q  *kq
			fd int
		}{{in, out.fd}, {in, in.fd}} {
			if err := q.q.change(abi.Kevent{Ident: uint64(q.fd), Filter: abi.EVFILT_READ, Flags: abi.EV_ADD}); !errors.Is(err, abi.ELOOP) {
				t.Errorf("a circle: %v", err)
			}
		}
		poll := func(timeout int) int {
			n, err := c.Poll(in.ctx, []abi.Pollfd{{Fd: int32(out.fd), Events: abi.POLLIN}}, timeout)
			must(t, err)
			return n
		}
		if poll(0) != 0 {
			t.Error("readable before the event")
		}
		in.add(1, abi.EVFILT_USER, 0, 0)
		must(t, in.change(abi.Kevent{Ident: 1, Filter: abi.EVFILT_USER, Fflags: abi.NOTE_TRIGGER}))
		if poll(abi.INFTIM) != 1 {
			t.Error("not readable")
		}
		out.wait("READ")
		must(t, c.Close(in.ctx, in.fd))
		out.expect()
		if poll(0) != 0 {
			t.Error("readable after the inner one is closed")
		}
	})
}

// TestSelect is select(2) in its two forms.
func TestSelect(t *testing.T) {
	onBoth(t, func(t *testing.T, c *rumpclient.Client) {
		ctx := soon(t)
		r, w, err := c.Pipe2(ctx, 0)
		must(t, err)
		nd := max(r, w) + 1
		rs, ws := rumpclient.NewFdSet(nd, r), rumpclient.NewFdSet(nd, w)
		n, err := c.Select(ctx, nd, rs, ws, nil, -1)
		if n != 1 || err != nil || rs.Has(r) || !ws.Has(w) {
			t.Errorf("%d, %v, %v, %v", n, rs, ws, err)
		}
		rs = rumpclient.NewFdSet(nd, r)
		if n, err := c.Select(ctx, nd, rs, nil, nil, time.Millisecond); n != 0 || err != nil {
			t.Errorf("time-out: %d, %v", n, err)
		}
		_, err = c.Write(ctx, w, []byte("x"))
		must(t, err)
		rs, ws = rumpclient.NewFdSet(nd, r), rumpclient.NewFdSet(nd, w)
		if n, err := c.Select(ctx, nd, rs, ws, nil, -1); n != 2 || err != nil || !rs.Has(r) || !ws.Has(w) {
			t.Errorf("%d, %v, %v, %v", n, rs, ws, err)
		}
		if _, err := c.Select(ctx, 100, rumpclient.NewFdSet(100, 99), nil, nil, 0); !errors.Is(err, abi.EBADF) {
			t.Errorf("not open: %v", err)
		}
		if _, err := c.Select(ctx, -1, nil, nil, nil, 0); !errors.Is(err, abi.EINVAL) {
			t.Errorf("negative: %v", err)
		}
		a := abi.Sysargs{A: [6]uint64{uint64(nd), 1}, In: make([]byte, 3*abi.FdSetSize(nd)+16), Out: make([]byte, 3*abi.FdSetSize(nd))}
		a.In[r/8] |= 1 << (r % 8)
		if err := c.Syscall(ctx, abi.SYS_select, &a); err != nil || a.R[0] != 1 {
			t.Errorf("select: %d, %v", a.R[0], err)
		}
	})
}

// TestKqueueLocal is READ and WRITE on AF_LOCAL sockets and a fifo, which are
// the kernel's own.
func TestKqueueLocal(t *testing.T) {
	onBoth(t, func(t *testing.T, c *rumpclient.Client) {
		q := newKq(t, c)
		ctx := q.ctx
		var a abi.Sysargs
		a.A = [6]uint64{abi.AF_LOCAL, abi.SOCK_STREAM, 0}
		must(t, c.Syscall(ctx, abi.SYS_socketpair, &a))
		x, y := int(a.R[0]), int(a.R[1])
		q.add(x, abi.EVFILT_READ, 0, 0)
		q.expect()
		_, err := c.Write(ctx, y, []byte("hello"))
		must(t, err)
		if e := q.wait("READ"); e.Data != 5 || e.Flags&abi.EV_EOF != 0 {
			t.Errorf("bytes: %v", e)
		}
		_, err = c.Read(ctx, x, make([]byte, 10))
		must(t, err)
		q.expect()
		q.add(x, abi.EVFILT_WRITE, abi.EV_ONESHOT, 0)
		if e := q.wait("WRITE"); e.Data == 0 {
			t.Errorf("room: %v", e)
		}
		must(t, c.Close(ctx, y))
		if e := q.wait("READ"); e.Flags&abi.EV_EOF == 0 || e.Data != 0 {
			t.Errorf("end: %v", e)
		}
		must(t, c.Close(ctx, x))

		must(t, c.Mkfifo(ctx, "/fifo", 0o600))
		r, err := c.Open(ctx, "/fifo", abi.O_RDONLY|abi.O_NONBLOCK, 0)
		must(t, err)
		w, err := c.Open(ctx, "/fifo", abi.O_WRONLY, 0)
		must(t, err)
		q.add(r, abi.EVFILT_READ, abi.EV_CLEAR, 0)
		q.add(r, abi.EVFILT_VNODE, abi.EV_CLEAR, abi.NOTE_DELETE)
		q.expect()
		_, err = c.Write(ctx, w, []byte("abc"))
		must(t, err)
		if e := q.wait("READ"); e.Data != 3 {
			t.Errorf("fifo: %v", e)
		}
		must(t, c.Unlink(ctx, "/fifo"))
		q.wait("VNODE")
		must(t, c.Close(ctx, w))
		if e := q.wait("READ"); e.Flags&abi.EV_EOF == 0 {
			t.Errorf("fifo's end: %v", e)
		}
	})
}
