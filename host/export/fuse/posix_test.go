package fuse

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// lockfile opens a file of the mount for locks.
func (r *rig) lockfile(name string) *os.File {
	r.t.Helper()
	f, err := os.OpenFile(r.p(name), os.O_RDWR|os.O_CREATE, 0o666)
	r.ok(err)
	r.t.Cleanup(func() { f.Close() })
	return f
}

// TestLocks: locks of programs on the mount and of the kernel's clients keep
// each other out, whatever call takes them.
func TestLocks(t *testing.T) {
	r := newRig(t, Options{})
	r.ok(os.WriteFile(r.p("l"), make([]byte, 100), 0o666))
	fd, err := r.c.Open(r.ctx, "/l", abi.O_RDWR, 0)
	r.ok(err)
	inside := abi.Flock{Start: 10, Len: 10, Type: abi.F_WRLCK, Whence: abi.SEEK_SET}
	free := inside
	free.Type = abi.F_UNLCK
	for _, how := range []struct {
		name           string
		set, wait, get int
	}{{"fcntl", unix.F_SETLK, unix.F_SETLKW, unix.F_GETLK}, {"open file", unix.F_OFD_SETLK, unix.F_OFD_SETLKW, unix.F_OFD_GETLK}} {
		f := r.lockfile("l")
		lock := func(cmd int, typ int16, start, n int64) error {
			return unix.FcntlFlock(f.Fd(), cmd, &unix.Flock_t{Type: typ, Start: start, Len: n})
		}
		r.ok(r.c.Lock(r.ctx, fd, abi.F_SETLK, inside))
		if err := lock(how.set, unix.F_WRLCK, 19, 1); !errors.Is(err, unix.EAGAIN) {
			t.Errorf("%s: a lock on a locked byte: %v", how.name, err)
		}
		if err := lock(how.set, unix.F_WRLCK, 20, 0); err != nil {
			t.Errorf("%s: a lock behind it: %v", how.name, err)
		}
		got := unix.Flock_t{Type: unix.F_RDLCK, Start: 0, Len: 15}
		if err := unix.FcntlFlock(f.Fd(), how.get, &got); err != nil || got.Type != unix.F_WRLCK || got.Start != 10 || got.Len != 10 {
			t.Errorf("%s: whose lock it is: %+v, %v", how.name, got, err)
		}
		// One that waits gets it when the client lets go.
		done := make(chan error, 1)
		go func() { done <- lock(how.wait, unix.F_RDLCK, 10, 5) }()
		select {
		case err := <-done:
			t.Fatalf("%s: a lock that is held is given away: %v", how.name, err)
		case <-time.After(20 * time.Millisecond):
		}
		r.ok(r.c.Lock(r.ctx, fd, abi.F_SETLK, free))
		r.ok(<-done)
		if err := r.c.Lock(r.ctx, fd, abi.F_SETLK, inside); abi.ErrnoOf(err) != abi.EAGAIN {
			t.Errorf("%s: the client gets what a program has: %v", how.name, err)
		}
		// The close gives all of it back.
		r.ok(f.Close())
		r.ok(r.c.Lock(r.ctx, fd, abi.F_SETLKW, inside))
		r.ok(r.c.Lock(r.ctx, fd, abi.F_SETLK, free))
	}

	f := r.lockfile("l")
	r.ok(r.c.Flock(r.ctx, fd, abi.LOCK_SH))
	r.ok(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB))
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("flock: %v", err)
	}
	done := make(chan error, 1)
	go func() { done <- unix.Flock(int(f.Fd()), unix.LOCK_EX) }()
	r.ok(r.c.Flock(r.ctx, fd, abi.LOCK_UN))
	r.ok(<-done)
	if err := r.c.Flock(r.ctx, fd, abi.LOCK_SH|abi.LOCK_NB); abi.ErrnoOf(err) != abi.EAGAIN {
		t.Errorf("flock by the client: %v", err)
	}
	r.ok(f.Close())
	r.ok(r.c.Flock(r.ctx, fd, abi.LOCK_EX))
	r.ok(r.c.Close(r.ctx, fd))
}

// TestInterrupted: who waits for a lock can be interrupted and can be killed,
// and has no lock then.
func TestInterrupted(t *testing.T) {
	need(t, "flock", "python3")
	r := newRig(t, Options{})
	r.ok(os.WriteFile(r.p("l"), nil, 0o666))
	fd, err := r.c.Open(r.ctx, "/l", abi.O_RDWR, 0)
	r.ok(err)
	r.ok(r.c.Flock(r.ctx, fd, abi.LOCK_EX))

	// Python has signals interrupt system calls; Go and C programs that let them
	// go on have the wait go on.
	if out := r.run("python3", "-c", `import fcntl, signal
def late(*a): raise TimeoutError
signal.signal(signal.SIGALRM, late)
signal.setitimer(signal.ITIMER_REAL, 0.05)
try:
    fcntl.flock(open("l"), fcntl.LOCK_EX)
    print("locked")
except TimeoutError:
    print("interrupted")
`); out != "interrupted\n" {
		t.Errorf("an interrupted wait: %q", out)
	}

	cmd := exec.Command("flock", r.p("l"), "true")
	r.ok(cmd.Start())
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		t.Errorf("flock did not wait: %v", err)
	case <-time.After(20 * time.Millisecond):
		r.ok(cmd.Process.Kill())
		select {
		case <-done:
		case <-time.After(time.Minute):
			t.Fatal("a killed program does not end")
		}
	}
	r.ok(r.c.Flock(r.ctx, fd, abi.LOCK_UN))
	r.ok(r.c.Flock(r.ctx, fd, abi.LOCK_EX)) // nobody else has it
	r.ok(r.c.Close(r.ctx, fd))
}

// TestPeople: other users do what their ids and groups allow, no more.
func TestPeople(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can be others")
	}
	r := newRig(t, Options{})
	r.ok(os.Chmod(filepath.Dir(r.dir), 0o755))
	as := func(uid uint32, groups []uint32, script string) (string, error) {
		cmd := exec.CommandContext(r.ctx, "sh", "-ec", script)
		cmd.Dir = r.dir
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid, Groups: groups}}
		out, err := cmd.CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}
	const one, two, team = 54001, 54002, 54777
	r.ok(os.Mkdir(r.p("team"), 0o755))
	r.ok(os.Chown(r.p("team"), one, team))
	r.ok(os.Chmod(r.p("team"), os.ModeSetgid|0o770))
	for i, c := range []struct {
		uid    uint32
		groups []uint32
		script string
		want   string // "": refused
	}{
		{one, nil, "echo a >team/f && chmod 640 team/f && stat -c '%u %g %a' team/f", "54001 54777 640"},
		{two, nil, "ls team", ""},
		{two, []uint32{1, 2, team}, "cat team/f && ls team", "a\nf"},
		{two, []uint32{team}, "echo b >>team/f", ""},
		{two, []uint32{team}, "mkdir team/d && stat -c '%u %g' team/d", "54002 54777"},
		{two, []uint32{team}, "chmod 666 team/f", ""},
		{two, []uint32{team}, "chown 54002 team/d; chown 54001 team/d", ""},
		{two, []uint32{team}, "mv team/f team/d/g && ls team/d", "g"},
		{one, []uint32{team}, "chgrp 54777 team/d/g && test -r team/d/g && test ! -x team/d/g && test -w team/d/g && echo ok", "ok"},
		{two, []uint32{team}, "test -w team/d/g", ""},
		{two, nil, "touch new && ln -s team/f sym && mkfifo p && stat -c '%u %g %F' p", "54002 0 fifo"}, // BSD: the directory's group
		{one, nil, "rm -f new", ""},                                                                     // sticky
		{one, nil, "mknod dev c 1 3", ""},
	} {
		out, err := as(c.uid, c.groups, c.script)
		if (err == nil) != (c.want != "") || err == nil && out != c.want {
			t.Errorf("%d: %d with %v: %s: %q, %v, wanted %q", i, c.uid, c.groups, c.script, out, err, c.want)
		}
	}
	// A program that is run set-id on a mount is not (nosuid), and what is written
	// to loses the bit.
	for _, name := range []string{"suid", "suid2"} {
		r.ok(os.WriteFile(r.p(name), []byte("x"), 0o755))
		r.ok(os.Chmod(r.p(name), os.ModeSetuid|0o757))
	}
	if out, err := as(one, nil, "echo y >>suid && stat -c %a suid && :>suid2 && stat -c %a suid2"); err != nil || out != "757\n757" {
		t.Errorf("written set-id file: %q, %v", out, err)
	}
}

// TestXattr: extended attributes, with Linux's errors.
func TestXattr(t *testing.T) {
	r := newRig(t, Options{Xattr: true})
	r.ok(os.WriteFile(r.p("f"), nil, 0o644))
	f := r.p("f")
	buf := make([]byte, 256)
	_, err := unix.Getxattr(f, "user.none", buf)
	for _, c := range []struct {
		what string
		got  error
		want error
	}{
		{"get of none", err, unix.ENODATA},
		{"set", unix.Setxattr(f, "user.a", []byte("one"), unix.XATTR_CREATE), nil},
		{"create again", unix.Setxattr(f, "user.a", []byte("x"), unix.XATTR_CREATE), unix.EEXIST},
		{"replace", unix.Setxattr(f, "user.a", []byte("two!"), unix.XATTR_REPLACE), nil},
		{"replace none", unix.Setxattr(f, "user.b", nil, unix.XATTR_REPLACE), unix.ENODATA},
		{"remove none", unix.Removexattr(f, "user.b"), unix.ENODATA},
		{"another name space", unix.Setxattr(f, "system.x", nil, 0), unix.EOPNOTSUPP},
	} {
		if !errors.Is(c.got, c.want) && (c.got != nil || c.want != nil) {
			t.Errorf("%s: %v, wanted %v", c.what, c.got, c.want)
		}
	}
	if n, err := unix.Getxattr(f, "user.a", buf); err != nil || string(buf[:n]) != "two!" {
		t.Errorf("get: %q, %v", buf[:max(n, 0)], err)
	}
	if n, err := unix.Getxattr(f, "user.a", nil); err != nil || n != 4 {
		t.Errorf("size: %d, %v", n, err)
	}
	if _, err := unix.Getxattr(f, "user.a", buf[:2]); !errors.Is(err, unix.ERANGE) {
		t.Errorf("too little room: %v", err)
	}
	if n, err := unix.Listxattr(f, buf); err != nil || string(buf[:n]) != "user.a\x00" {
		t.Errorf("list: %q, %v", buf[:max(n, 0)], err)
	}
	r.ok(unix.Removexattr(f, "user.a"))
	if n, err := unix.Listxattr(f, buf); err != nil || n != 0 {
		t.Errorf("list afterwards: %d, %v", n, err)
	}
}

// TestSpace: fallocate, holes, copies in the kernel, statfs, files without names.
func TestSpace(t *testing.T) {
	r := newRig(t, Options{})
	f := r.lockfile("f")
	fd := int(f.Fd())
	r.ok(unix.Fallocate(fd, 0, 0, 1<<20))
	st, err := f.Stat()
	r.ok(err)
	if st.Size() != 1<<20 || st.Sys().(*syscall.Stat_t).Blocks*512 < 1<<20 {
		t.Errorf("after fallocate: %d bytes, %d blocks", st.Size(), st.Sys().(*syscall.Stat_t).Blocks)
	}
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<12)
	_, err = f.WriteAt(data, 0)
	r.ok(err)
	r.ok(unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 4096, 8192))
	got := make([]byte, len(data))
	_, err = f.ReadAt(got, 0)
	r.ok(err)
	clear(data[4096:12288])
	if !bytes.Equal(got, data) {
		t.Error("a hole that was punched is none, or more than that")
	}
	r.ok(unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, 4096, 4096))
	for _, mode := range []uint32{unix.FALLOC_FL_COLLAPSE_RANGE, unix.FALLOC_FL_INSERT_RANGE} {
		if err := unix.Fallocate(fd, mode, 0, 4096); !errors.Is(err, unix.EOPNOTSUPP) {
			t.Errorf("fallocate %#x: %v", mode, err)
		}
	}
	g := r.lockfile("g")
	for off, at := int64(0), int64(100); ; {
		n, err := unix.CopyFileRange(fd, &off, int(g.Fd()), &at, 1<<30, 0)
		if r.ok(err); n == 0 {
			break
		}
	}
	data = append(append(make([]byte, 100), data...), make([]byte, 1<<20-len(data))...)
	if got, err := os.ReadFile(g.Name()); err != nil || !bytes.Equal(got, data) {
		t.Errorf("copy_file_range: %d bytes, %v", len(got), err)
	}
	if b, err := r.c.ReadFile(r.ctx, "/g"); err != nil || !bytes.Equal(b, data) {
		t.Errorf("copy_file_range: %d bytes for a client, %v", len(b), err)
	}
	ro, err := os.Open(r.p("g"))
	r.ok(err)
	defer ro.Close()
	if _, err := unix.CopyFileRange(fd, nil, int(ro.Fd()), nil, 10, 0); !errors.Is(err, unix.EBADF) {
		t.Errorf("copy_file_range to what is open to be read: %v", err)
	}
	if _, err := unix.Open(r.dir, unix.O_TMPFILE|unix.O_RDWR, 0o600); !errors.Is(err, unix.EOPNOTSUPP) {
		t.Errorf("O_TMPFILE: %v", err)
	}
	var fs unix.Statfs_t
	r.ok(unix.Statfs(r.dir, &fs))
	if fs.Blocks == 0 || fs.Bavail > fs.Blocks || fs.Namelen != 255 || fs.Bsize <= 0 || fs.Files == 0 {
		t.Errorf("statfs: %+v", fs)
	}
}

// TestMmap: what one side writes to a mapping or a file the other sees: a program
// of its own has the file mapped, since a process that serves its own page
// faults can wait for itself.
func TestMmap(t *testing.T) {
	need(t, "python3")
	r := newRig(t, Options{})
	r.ok(r.c.WriteFile(r.ctx, "/m", make([]byte, 8192), 0o666))
	cmd := exec.CommandContext(r.ctx, "python3", "-uc", `import mmap, sys
f = open(sys.argv[1], "r+b")
m = mmap.mmap(f.fileno(), 8192)
m[0:5] = b"first"
m.flush()
print("written")
sys.stdin.readline()
print(m[4096:4102].decode())
m[8190:8192] = b"zz"
m.close(); f.close()
print("closed")
`, r.p("m"))
	in, err := cmd.StdinPipe()
	r.ok(err)
	out, err := cmd.StdoutPipe()
	r.ok(err)
	r.ok(cmd.Start())
	line := func(want string) {
		t.Helper()
		var got string
		if _, err := fmt.Fscanln(out, &got); err != nil || got != want {
			t.Fatalf("the program says %q, %v, wanted %q", got, err, want)
		}
	}
	line("written")
	b, err := r.c.ReadFile(r.ctx, "/m")
	r.ok(err)
	if string(b[:5]) != "first" {
		t.Errorf("the kernel has %q", b[:5])
	}
	fd, err := r.c.Open(r.ctx, "/m", abi.O_WRONLY, 0)
	r.ok(err)
	_, err = r.c.Pwrite(r.ctx, fd, []byte("second"), 4096)
	r.ok(err)
	r.ok(r.c.Close(r.ctx, fd))
	fmt.Fprintln(in)
	line("second")
	line("closed")
	r.ok(cmd.Wait())
	b, err = r.c.ReadFile(r.ctx, "/m")
	r.ok(err)
	if string(b[8190:]) != "zz" || string(b[4096:4102]) != "second" {
		t.Errorf("the kernel has %q and %q", b[4096:4102], b[8190:])
	}
}

// TestLimits: names, depth, times, special files, links that mean who asks.
func TestLimits(t *testing.T) {
	r := newRig(t, Options{})
	long := strings.Repeat("n", 255)
	r.ok(os.WriteFile(r.p(long), []byte("x"), 0o644))
	if err := os.WriteFile(r.p(long+"n"), nil, 0o644); !errors.Is(err, unix.ENAMETOOLONG) {
		t.Errorf("a name of 256 bytes: %v", err)
	}
	r.ok(os.WriteFile(r.p("bytes \xff\x01\n"), nil, 0o644))
	if _, err := os.Stat(r.p("bytes \xff\x01\n")); err != nil {
		t.Error(err)
	}
	// Deeper than a path can be: a step at a time.
	r.run("sh", "-ec", `n=0; while [ $n -lt 60 ]; do mkdir `+strings.Repeat("d", 200)+`; cd -P d*; n=$((n+1)); done; echo deep >f; cat f`)
	r.run("rm", "-rf", strings.Repeat("d", 200))
	for _, at := range []time.Time{time.Unix(1<<33, 987654321), time.Unix(-86400*365, 5), time.Unix(0, 1)} {
		r.ok(os.Chtimes(r.p(long), at, at))
		if st, err := os.Stat(r.p(long)); err != nil || !st.ModTime().Equal(at) {
			t.Errorf("time %v came out as %v, %v", at, st.ModTime(), err)
		}
	}
	r.ok(unix.Mkfifo(r.p("fifo"), 0o644))
	if out := r.run("sh", "-c", "echo through >fifo & cat fifo; wait"); out != "through\n" {
		t.Errorf("a fifo: %q", out)
	}
	waits := exec.Command("cat", r.p("fifo"))
	r.ok(waits.Start())
	r.ok(waits.Process.Kill())
	waits.Wait()
	if os.Geteuid() == 0 {
		r.ok(unix.Mknod(r.p("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
		st, err := os.Stat(r.p("null"))
		r.ok(err)
		if st.Mode()&os.ModeCharDevice == 0 || st.Sys().(*syscall.Stat_t).Rdev != unix.Mkdev(1, 3) {
			t.Errorf("a device: %v, %#x", st.Mode(), st.Sys().(*syscall.Stat_t).Rdev)
		}
		if _, err := os.Open(r.p("null")); !errors.Is(err, unix.EACCES) {
			t.Errorf("open of a device: %v", err)
		}
	}
	r.ok(r.c.Mkdir(r.ctx, "/proc", 0o755))
	r.ok(r.c.Mount(r.ctx, "procfs", "/proc", 0, "", nil))
	if to, err := os.Readlink(r.p("proc/curproc")); err != nil || to == "" {
		t.Errorf("curproc: %q, %v", to, err)
	}
	r.ok(r.c.Unmount(r.ctx, "/proc", 0))
}

// TestReaddirMoves: a directory of many names is listed while others come and
// go: those that stay are there, each once.
func TestReaddirMoves(t *testing.T) {
	r := newRig(t, Options{})
	const stay = 10000
	r.ok(os.Mkdir(r.p("many"), 0o755))
	for i := range stay {
		fd, err := unix.Open(r.p(fmt.Sprintf("many/stay%d", i)), unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
		r.ok(err)
		unix.Close(fd)
	}
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			p := fmt.Sprintf("/many/go%d", i%50)
			if i%2 == 0 {
				r.c.WriteFile(r.ctx, p, nil, 0o644)
				r.c.Rename(r.ctx, p, p+"x")
			} else {
				os.Remove(r.p("many/go" + fmt.Sprint((i-1)%50) + "x"))
			}
		}
	}()
	for range 3 {
		es, err := os.ReadDir(r.p("many"))
		r.ok(err)
		seen := make(map[string]bool, len(es))
		n := 0
		for _, e := range es {
			if seen[e.Name()] {
				t.Errorf("%s is there twice", e.Name())
			}
			seen[e.Name()] = true
			if strings.HasPrefix(e.Name(), "stay") {
				n++
			}
		}
		if n != stay {
			t.Errorf("%d of %d names", n, stay)
		}
	}
	close(stop)
	<-ended
}

// TestForgotten: what Linux has forgotten the mount lets go, and a file that
// takes a dead one's number is another file.
func TestForgotten(t *testing.T) {
	r := newRig(t, Options{})
	before := r.s.held()
	for range 20 {
		r.ok(os.WriteFile(r.p("f"), []byte("x"), 0o644))
		r.ok(os.Remove(r.p("f")))
	}
	for limit := time.Now().Add(time.Minute); r.s.held() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("%d vnodes held, %d before", r.s.held(), before)
		}
	}
	f, err := os.Create(r.p("old"))
	r.ok(err)
	defer f.Close()
	r.ok(os.Remove(r.p("old")))
	r.ok(os.WriteFile(r.p("new"), []byte("another"), 0o644))
	a, err := f.Stat()
	r.ok(err)
	b, err := os.Stat(r.p("new"))
	r.ok(err)
	if os.SameFile(a, b) {
		t.Error("a file that is open has given its number away")
	}
}
