package run

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/evlog"
	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

const survivors = `
components:
  vfs: {restart: {wait: 60s}}
mounts:
  - {dir: /, type: tmpfs}
  - {dir: /m, type: tmpfs}
  - {dir: /m/deep, type: msdos, source: disk0}
devices: {disk0: {etfs: IMAGE}}
`

// dies makes the process of an instance die, or hang until that is found out.
type dies struct {
	name string
	sig  syscall.Signal
}

var bothWays = []dies{{"killed", syscall.SIGKILL}, {"hung", syscall.SIGSTOP}}

// again makes it happen, and returns when a new process has taken over. poke is
// a call that needs the instance, made again and again: without one nobody
// notices that it hangs, and the first may get through before it stops.
func (d dies) again(c *client, next func(string, evlog.Kind) rumpclient.Event, instance string, poke func(ctx context.Context) error) {
	c.t.Helper()
	pid := c.running(instance).Pid
	kill(c.t, pid, d.sig)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	eventually(c.t, patience, "a new process of "+instance, func() bool {
		if err := poke(ctx); err != nil {
			c.t.Fatalf("%s: the call that waits for it: %v", d.name, err)
		}
		return c.row(instance).Pid != pid
	})
	if e := next(instance, evlog.Recovered); e.Pid == pid {
		c.t.Errorf("%s: still process %d", d.name, pid)
	}
}

// TestSurvivesVFS: what a client has in the kernel is there after the death, and
// after the hang, of the process that serves the files: on tmpfs and on FAT.
func TestSurvivesVFS(t *testing.T) {
	image := filepath.Join(shortDir(t), "img")
	fatImage(t, image, 32<<20)
	h := boot(t, strings.Replace(survivors, "IMAGE", image, 1))
	c, other := h.client(), h.client()
	ctx := slowly(t)
	next := c.watchEvents()
	for _, way := range bothWays {
		for _, dir := range []string{"/m", "/m/deep"} {
			t.Run(way.name+strings.ReplaceAll(dir, "/", "_"), func(t *testing.T) {
				survivesVFS(t, ctx, h, c, other, dir, func() {
					n := 0
					way.again(c, next, "vfs", func(ctx context.Context) error {
						n++
						return c.Mkdir(ctx, fmt.Sprintf("%s/made-%s-%d", dir, way.name, n), 0o755)
					})
				})
			})
		}
	}
	for _, m := range []string{"/m/deep", "/m"} {
		c.must(c.Unmount(ctx, m, 0)) // nothing has been left open in it
	}
}

func survivesVFS(t *testing.T, ctx context.Context, h *host0, c, other *client, dir string, again func()) {
	base := dir + "/d"
	must := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	c.must(c.Mkdir(ctx, base, 0o755))

	// Descriptors: an offset, O_APPEND, one without a name, one under locks.
	open := func(k *client, name string, flags int) int {
		t.Helper()
		fd, err := k.Open(ctx, base+"/"+name, flags|abi.O_CREAT|abi.O_RDWR, 0o644)
		k.must(err)
		return fd
	}
	at := open(c, "offset", 0)
	c.must(second(c.Write(ctx, at, []byte("0123456789"))))
	c.must(second(c.Lseek(ctx, at, 4, 0)))
	app := open(c, "append", abi.O_APPEND)
	c.must(second(c.Write(ctx, app, []byte("one "))))
	nameless := open(c, "nameless", 0)
	c.must(second(c.Write(ctx, nameless, []byte("nobody"))))
	c.must(c.Unlink(ctx, base+"/nameless"))
	locked, theirs := open(c, "locked", 0), open(other, "locked", 0)
	c.must(c.Lock(ctx, locked, abi.F_SETLK, abi.Flock{Type: abi.F_WRLCK, Start: 2, Len: 3}))
	flocked, theirsToo := open(c, "flocked", 0), open(other, "flocked", 0)
	c.must(c.Flock(ctx, flocked, abi.LOCK_EX))

	// A directory in the middle of being read.
	c.must(c.Mkdir(ctx, base+"/list", 0o755))
	for i := range 60 {
		c.write(fmt.Sprintf("%s/list/entry-%02d", base, i), "")
	}
	list, err := c.Open(ctx, base+"/list", abi.O_RDONLY, 0)
	c.must(err)
	seen := map[string]int{}
	read := func() int {
		t.Helper()
		buf := make([]byte, 512)
		ents, err := c.Getdents(ctx, list, buf)
		must("getdents", err)
		for _, e := range ents {
			seen[e.Name]++
		}
		return len(ents)
	}
	read()

	// A client that sits in a directory, and one whose root it is.
	sits, jailed := h.client(), h.client()
	c.must(sits.Chdir(ctx, base))
	c.must(jailed.Chroot(ctx, base))

	// Who waits: for a change of a file, for a fifo, for a lock.
	kq, err := c.Kqueue(ctx)
	c.must(err)
	c.must(second(c.Kevent(ctx, kq, []abi.Kevent{{Ident: uint64(at), Filter: abi.EVFILT_VNODE, Flags: abi.EV_ADD | abi.EV_CLEAR, Fflags: abi.NOTE_WRITE | abi.NOTE_DELETE}}, nil, 0)))
	waits := make(chan error, 2)
	waiter := h.client()
	lock, err := waiter.Open(ctx, base+"/flocked", abi.O_RDWR, 0)
	c.must(err)
	go func() { waits <- waiter.Flock(ctx, lock, abi.LOCK_EX) }()
	fifo, polls := -1, h.client()
	if dir == "/m" { // FAT has none
		c.must(c.Mkfifo(ctx, base+"/fifo", 0o600))
		fifo, err = c.Open(ctx, base+"/fifo", abi.O_RDWR, 0)
		c.must(err)
		in, err := polls.Open(ctx, base+"/fifo", abi.O_RDONLY|abi.O_NONBLOCK, 0)
		c.must(err)
		go func() {
			fds := []abi.Pollfd{{Fd: int32(in), Events: abi.POLLIN}}
			n, err := polls.Poll(ctx, fds, -1)
			if err == nil && (n != 1 || fds[0].Revents&abi.POLLIN == 0) {
				err = fmt.Errorf("poll answered %d, %+v", n, fds)
			}
			waits <- err
		}()
	}

	// Calls in flight: each is carried out once.
	inflight := make(chan error, 1)
	writer := h.client()
	wfd, err := writer.Open(ctx, base+"/append", abi.O_WRONLY|abi.O_APPEND, 0)
	c.must(err)
	stop := make(chan struct{})
	n := 0
	go func() {
		for n < 20000 { // a process that hangs may take a while to be found out
			select {
			case <-stop:
				inflight <- nil
				return
			default:
			}
			if _, err := writer.Write(ctx, wfd, fmt.Appendf(nil, "<%06d>", n)); err != nil {
				inflight <- err
				return
			}
			n++
		}
		inflight <- nil
	}()

	again()

	close(stop)
	must("a call in flight", <-inflight)
	got := make([]byte, 64)
	k, err := c.Read(ctx, at, got)
	must("read", err)
	if string(got[:k]) != "456789" {
		t.Errorf("from the offset: %q", got[:k])
	}
	must("append", second(c.Write(ctx, app, []byte("end"))))
	text := c.read(base + "/append")
	want := []byte("one ")
	for i := range n {
		want = fmt.Appendf(want, "<%06d>", i)
	}
	if want = append(want, "end"...); text != string(want) {
		t.Errorf("appended %d times: %d bytes instead of %d", n, len(text), len(want))
	}
	k, err = c.Pread(ctx, nameless, got, 0)
	must("read of what has no name", err)
	if string(got[:k]) != "nobody" {
		t.Errorf("without a name: %q", got[:k])
	}
	must("write of what has no name", second(c.Pwrite(ctx, nameless, []byte("some"), 0)))
	if err := other.Lock(ctx, theirs, abi.F_SETLK, abi.Flock{Type: abi.F_WRLCK, Start: 4, Len: 1}); !errors.Is(err, abi.EAGAIN) {
		t.Errorf("a record that is locked: %v", err)
	}
	must("a record that is not", other.Lock(ctx, theirs, abi.F_SETLK, abi.Flock{Type: abi.F_WRLCK, Start: 5, Len: 1}))
	if err := other.Flock(ctx, theirsToo, abi.LOCK_EX|abi.LOCK_NB); !errors.Is(err, abi.EWOULDBLOCK) {
		t.Errorf("a file under flock: %v", err)
	}
	for read() > 0 {
	}
	for i := range 60 {
		if name := fmt.Sprintf("entry-%02d", i); seen[name] != 1 {
			t.Errorf("%s was listed %d times", name, seen[name])
		}
	}
	cwd, err := sits.Getcwd(ctx)
	must("getcwd", err)
	if cwd != base {
		t.Errorf("working directory %q", cwd)
	}
	must("a relative path", second(sits.Stat(ctx, "list/entry-07")))
	must("a path below the new root", second(jailed.Stat(ctx, "/list/entry-07")))
	if _, err := jailed.Stat(ctx, "/.."+base); !errors.Is(err, abi.ENOENT) {
		t.Errorf("beyond the new root: %v", err)
	}

	// Now what they wait for.
	must("write", second(other.Pwrite(ctx, theirs, []byte("x"), 0)))
	must("write", second(sits.Stat(ctx, "offset")))
	fd, err := other.Open(ctx, base+"/offset", abi.O_WRONLY, 0)
	must("open", err)
	must("write", second(other.Write(ctx, fd, []byte("abc"))))
	evs := make([]abi.Kevent, 4)
	m, err := c.Kevent(ctx, kq, nil, evs, patience)
	must("kevent", err)
	if m != 1 || evs[0].Fflags&abi.NOTE_WRITE == 0 {
		t.Errorf("kevent: %+v", evs[:m])
	}
	pending := 1
	if fifo >= 0 {
		must("write to the fifo", second(c.Write(ctx, fifo, []byte("!"))))
		pending++
	}
	must("unlock", c.Flock(ctx, flocked, abi.LOCK_UN))
	for range pending {
		must("who waited", <-waits)
	}
	for _, k := range []*client{sits, jailed, waiter, writer, polls} {
		k.Exit()
	}
	for _, fd := range []int{at, app, nameless, locked, flocked, list, kq} {
		must("close", c.Close(ctx, fd))
	}
	if fifo >= 0 {
		must("close", c.Close(ctx, fifo))
	}
	for _, fd := range []int{theirs, theirsToo, fd} {
		must("close", other.Close(ctx, fd))
	}
	must("rm -r", c.RemoveAll(ctx, base))
}

// TestDuringRecovery: close, umount, mount, remount, sync and halt while a new
// process is mounting and replaying: none hangs, and none loses anything.
func TestDuringRecovery(t *testing.T) {
	h := boot(t, "components:\n  vfs: {restart: {wait: 60s}}\nmounts:\n  - {dir: /, type: tmpfs}\n  - {dir: /a, type: tmpfs}\n  - {dir: /b, type: tmpfs}\n")
	c := h.client()
	ctx := slowly(t)
	for round, do := range []struct {
		name string
		f    func(k *client) error
	}{
		{"close", func(k *client) error { // the last one of a file without a name
			fd, err := k.Open(ctx, "/a/gone", abi.O_CREAT|abi.O_RDWR, 0o600)
			k.must(err)
			k.must(k.Unlink(ctx, "/a/gone"))
			kill(t, c.running("vfs").Pid, syscall.SIGKILL)
			return k.Close(ctx, fd)
		}},
		{"umount", func(k *client) error { return k.Unmount(ctx, "/b", 0) }},
		{"mount", func(k *client) error { return k.Mount(ctx, "tmpfs", "/b", 0, "", nil) }},
		{"remount", func(k *client) error { return k.Mount(ctx, "tmpfs", "/a", abi.MNT_UPDATE|abi.MNT_RDONLY, "", nil) }},
		{"remount rw", func(k *client) error { return k.Mount(ctx, "tmpfs", "/a", abi.MNT_UPDATE, "", nil) }},
		{"sync", func(k *client) error { return k.Sync(ctx) }},
		{"umount -f", func(k *client) error { return k.Unmount(ctx, "/b", abi.MNT_FORCE) }},
		{"mount again", func(k *client) error { return k.Mount(ctx, "tmpfs", "/b", 0, "", nil) }},
		{"the end of a process", func(k *client) error {
			for i := range 5 {
				k.must(second(k.Open(ctx, fmt.Sprintf("/b/left-%d", i), abi.O_CREAT|abi.O_RDWR, 0o600)))
			}
			kill(t, c.running("vfs").Pid, syscall.SIGKILL)
			return k.Exit()
		}},
	} {
		// Something to replay.
		for i := range 300 {
			c.must(c.Mkdir(ctx, fmt.Sprintf("/a/dir-%d-%d", round, i), 0o755))
			if do.name == "remount" && i == 10 {
				break
			}
		}
		c.write("/kept", fmt.Sprintf("round %d", round))
		before := c.running("vfs")
		kill(t, before.Pid, syscall.SIGKILL)
		k := h.client()
		if err := do.f(k); err != nil {
			t.Errorf("%s: %v", do.name, err)
		}
		if got := c.read("/kept"); got != fmt.Sprintf("round %d", round) {
			t.Errorf("%s: /kept is %q", do.name, got)
		}
		if do.name == "remount" {
			if err := c.Mkdir(ctx, "/a/no", 0o755); !errors.Is(err, abi.EROFS) {
				t.Errorf("mkdir on what is read-only now: %v", err)
			}
			k.must(k.Mount(ctx, "tmpfs", "/a", abi.MNT_UPDATE, "", nil))
		}
		eventually(t, patience, "a new process", func() bool {
			r := c.row("vfs")
			return r.State == "running" && r.Pid != before.Pid
		})
		k.Exit()
	}
	ents, err := c.ReadDir(ctx, "/a")
	c.must(err)
	n := 0
	for _, e := range ents {
		if strings.HasPrefix(e.Name, "dir-") {
			n++
		}
	}
	if n != 8*300+11 {
		t.Errorf("%d directories instead of %d", n, 8*300+11)
	}
	kill(t, c.running("vfs").Pid, syscall.SIGKILL) // and the halt, by the end of the test
}

// TestSurvivesNet: what stands in the kernel's tables is there after the death,
// and the hang, of the process of the network; what was in it alone is told.
func TestSurvivesNet(t *testing.T) {
	h := boot(t, "components:\n  vfs: {}\n  net: {restart: {wait: 60s}}\nmounts:\n  - {dir: /, type: tmpfs}\n")
	c, peer := h.client(), h.client()
	ctx := slowly(t)
	next := c.watchEvents()
	l, err := c.Listen(ctx, "tcp", "127.0.0.1:80")
	c.must(err)
	udp, err := c.ListenPacket(ctx, "udp", "127.0.0.1:53")
	c.must(err)
	before, err := c.Ifstat(ctx)
	c.must(err)
	for _, way := range bothWays {
		old, err := peer.Dial(ctx, "tcp", "127.0.0.1:80")
		c.must(err)
		mine, err := l.Accept()
		c.must(err)
		// Who waits: a reader of a connection, an accept, a datagram's reader.
		lost, accepted, datagram := make(chan error, 1), make(chan error, 1), make(chan error, 1)
		go func() { lost <- second(mine.Read(make([]byte, 10))) }()
		go func() {
			nc, err := l.Accept()
			if err == nil {
				_, err = nc.Write([]byte("hello"))
				nc.Close()
			}
			accepted <- err
		}()
		go func() {
			b := make([]byte, 10)
			n, _, err := udp.ReadFrom(b)
			if err == nil && string(b[:n]) != "late" {
				err = fmt.Errorf("got %q", b[:n])
			}
			datagram <- err
		}()
		way.again(c, next, "net", func(ctx context.Context) error {
			// A socket call: what there is of the interfaces is the kernel's.
			s, err := peer.Socket(ctx, abi.AF_INET, abi.SOCK_DGRAM, 0)
			if err != nil {
				return err
			}
			return peer.Close(ctx, s)
		})
		if err := within(t, lost, "the reader of a connection"); abi.ErrnoOf(err) != abi.ECONNRESET {
			t.Errorf("%s: the reader of a connection: %v", way.name, err)
		}
		if _, err := old.Write([]byte("x")); err == nil {
			if _, err = old.Read(make([]byte, 1)); err == nil {
				t.Errorf("%s: the old connection goes on", way.name)
			}
		}
		old.Close()
		mine.Close()
		fresh, err := peer.Dial(ctx, "tcp", "127.0.0.1:80")
		if err != nil {
			t.Fatalf("%s: a new connection: %v", way.name, err)
		}
		b := make([]byte, 10)
		fresh.SetReadDeadline(time.Now().Add(patience))
		if n, err := fresh.Read(b); !bytes.Equal(b[:n], []byte("hello")) {
			t.Errorf("%s: a new connection: %q, %v", way.name, b[:n], err)
		}
		fresh.Close()
		if err := within(t, accepted, "accept"); err != nil {
			t.Errorf("%s: accept: %v", way.name, err)
		}
		out, err := peer.Dial(ctx, "udp", "127.0.0.1:53")
		c.must(err)
		c.must(second(out.Write([]byte("late"))))
		out.Close()
		if err := within(t, datagram, "the datagram"); err != nil {
			t.Errorf("%s: the datagram: %v", way.name, err)
		}
		after, err := c.Ifstat(ctx)
		c.must(err)
		if len(after) != len(before) || len(after) == 0 || fmt.Sprint(after[0].Addrs) != fmt.Sprint(before[0].Addrs) {
			t.Errorf("%s: interfaces %+v, before %+v", way.name, after, before)
		}
	}
	l.Close()
	udp.Close()
}

// running is what there is to know of an instance once it has a process.
func (c *client) running(instance string) (r rumpclient.Modstat) {
	c.t.Helper()
	eventually(c.t, patience, "a process of "+instance, func() bool {
		r = c.row(instance)
		return r.State == "running" && r.Pid != 0
	})
	return r
}

// slowly is a context for many calls on a busy machine.
func slowly(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// within waits for an answer.
func within(t *testing.T, c <-chan error, what string) error {
	t.Helper()
	select {
	case err := <-c:
		return err
	case <-time.After(patience):
		t.Fatalf("%s: no answer", what)
		return nil
	}
}
