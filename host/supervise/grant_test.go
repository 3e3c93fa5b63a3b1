package supervise

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	modgrant "github.com/rumpus-kernel/rumpus/modapi/grant"
)

func grant(t *testing.T, spec string, uid int) (string, int) {
	t.Helper()
	name, f, err := OpenGrant(spec, uid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return name, int(f.Fd())
}

func TestGrantRefusals(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	fifo := filepath.Join(dir, "fifo")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), unix.Mkfifo(fifo, 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		spec string
		want abi.Errno
		text string
	}{
		{"", abi.EINVAL, "unknown kind"},
		{"host.net:eth0", abi.EINVAL, `unknown kind "host.net"`},
		{"host.dir", abi.EINVAL, "not absolute"},
		{"host.dir:data:rw", abi.EINVAL, `"data" is not absolute`},
		{"host.dir:/a\x00b", abi.EINVAL, "NUL"},
		{"host.dir:" + dir + "/none", abi.ENOENT, "no such file"},
		{"host.dir:" + file, abi.ENOTDIR, "not a directory"},
		{"host.file:" + dir, abi.EFTYPE, "neither"},
		{"host.file:" + fifo, abi.EFTYPE, "neither"},
		{"host.file:" + dir + ":rw", abi.EISDIR, "is a directory"},
		{"host.file:/none", abi.ENOENT, ""},
		{"host.console:1", abi.EINVAL, "takes nothing"},
		{"host.connect", abi.EINVAL, "neither unix"},
		{"host.connect:udp:localhost:1", abi.EINVAL, "neither unix"},
		{"host.connect:unix:sock", abi.EINVAL, "not absolute"},
		{"host.connect:unix:/" + strings.Repeat("x", 107), abi.EINVAL, "longer"},
		{"host.connect:tcp:localhost", abi.EINVAL, "not HOST:PORT"},
		{"host.connect:tcp::80", abi.EINVAL, "not HOST:PORT"},
	} {
		_, f, err := OpenGrant(c.spec, os.Geteuid())
		if f != nil || abi.ErrnoOf(err) != c.want || !strings.Contains(err.Error(), c.text) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v (%s), want %s", c.spec, err, abi.ErrnoOf(err).Name(), c.want.Name())
		}
	}
}

func TestGrantFileAndConsole(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for mode, want := range map[string]int{"": unix.O_RDONLY, ":ro": unix.O_RDONLY, ":rw": unix.O_RDWR} {
		name, fd := grant(t, "host.file:"+file+mode, 12345)
		fl, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		if err != nil || name != "host.file:"+file || fl&unix.O_ACCMODE != want || fl&unix.O_NONBLOCK != 0 {
			t.Errorf("%q: %s %#x %v", mode, name, fl, err)
		}
	}
	name, fd := grant(t, "host.console", 12345)
	if name != "host.console" || fd < 3 {
		t.Error(name, fd)
	}
}

func TestGrantDir(t *testing.T) {
	places := []string{t.TempDir()}
	if d, err := os.MkdirTemp("/dev/shm", "grant"); err == nil {
		defer os.RemoveAll(d)
		places = append(places, d)
	}
	for _, dir := range places {
		name, fd := grant(t, "host.dir:"+dir+"//:rw", os.Geteuid())
		if name != "host.dir:"+dir {
			t.Error(name)
		}
		if err := unix.Mkdirat(fd, "made", 0o755); err != nil {
			t.Error(err)
		}
		name, fd = grant(t, "host.dir:"+dir, os.Geteuid())
		err := unix.Mkdirat(fd, "more", 0o755)
		if enforced := err == unix.EROFS; enforced == strings.HasSuffix(name, ":ro") {
			t.Errorf("%s: %v", name, err)
		}
		var st unix.Stat_t
		if err := unix.Fstatat(fd, "made", &st, 0); err != nil {
			t.Error(err)
		}
	}
}

// needMounts skips where a root host cannot make mounts with mapped ids.
func needMounts(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	_, f, err := OpenGrant("host.dir:"+t.TempDir(), 12345)
	if abi.ErrnoOf(err) == abi.EPERM || abi.ErrnoOf(err) == abi.EOPNOTSUPP {
		t.Skip(err)
	}
	if err == nil {
		f.Close()
	}
}

func TestGrantMapsIDs(t *testing.T) {
	needMounts(t)
	const uid = 12345
	places := []string{t.TempDir()}
	if d, err := os.MkdirTemp("/dev/shm", "grant"); err == nil {
		defer os.RemoveAll(d)
		places = append(places, d)
	}
	for _, dir := range places {
		if err := errors.Join(
			os.WriteFile(dir+"/root", []byte("root's"), 0o600),
			os.WriteFile(dir+"/other", nil, 0o600), os.Chown(dir+"/other", 777, 888),
			os.WriteFile(dir+"/theirs", nil, 0o600), os.Chown(dir+"/theirs", uid, uid),
			os.Symlink("/", dir+"/link"),
		); err != nil {
			t.Fatal(err)
		}
		_, fd := grant(t, "host.dir:"+dir+":rw", uid)
		for name, want := range map[string][2]uint32{"root": {uid, uid}, "other": {777, 888}, "theirs": {0, 0}, "link": {uid, uid}} {
			var st unix.Stat_t
			if err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil || st.Uid != want[0] || st.Gid != want[1] {
				t.Errorf("%s: %d:%d %v", name, st.Uid, st.Gid, err)
			}
		}
		asUser(uid, func() {
			f, err := unix.Openat(fd, "new", unix.O_CREAT|unix.O_RDWR|unix.O_EXCL, 0o600)
			if err != nil {
				t.Error("create as the component:", err)
				return
			}
			unix.Close(f)
			if f, err = unix.Openat(fd, "root", unix.O_RDWR, 0); err != nil {
				t.Error("open root's file as the component:", err)
			} else {
				unix.Close(f)
			}
			if f, err = unix.Openat(fd, "other", unix.O_RDONLY, 0); err != unix.EACCES {
				t.Error("open another user's file:", err)
				unix.Close(f)
			}
		})
		var st unix.Stat_t
		if err := unix.Stat(dir+"/new", &st); err != nil || st.Uid != 0 || st.Gid != 0 {
			t.Errorf("on disk: %d:%d %v", st.Uid, st.Gid, err)
		}
		// Read-only, and no way up: the mount's root has no parent.
		_, fd = grant(t, "host.dir:"+dir+":ro", uid)
		if err := unix.Mkdirat(fd, "d", 0o755); err != unix.EROFS {
			t.Error(err)
		}
		var up unix.Stat_t
		if err := errors.Join(unix.Fstatat(fd, "..", &up, 0), unix.Fstatat(fd, ".", &st, 0)); err != nil || up.Ino != st.Ino {
			t.Error("'..' leads out of the grant", err)
		}
	}
	if _, _, err := OpenGrant("host.dir:/proc", uid); abi.ErrnoOf(err) != abi.EOPNOTSUPP || !strings.Contains(err.Error(), "proc") {
		t.Error(err)
	}
}

// asUser runs fn with the file system ids of a user, on this thread only.
func asUser(uid uintptr, fn func()) {
	onFreshThread(func() { // never the main thread, which would stay like that
		_, _, _ = syscall.RawSyscall(unix.SYS_SETFSGID, uid, 0, 0)
		_, _, _ = syscall.RawSyscall(unix.SYS_SETFSUID, uid, 0, 0)
		fn()
	})
}

func TestSwapMap(t *testing.T) {
	for _, id := range []int{1, 2, 700001, maxID - 1} {
		n := 0
		for _, m := range swapMap(id) {
			if m.Size <= 0 || m.ContainerID+m.Size > maxID || m.HostID+m.Size > maxID {
				t.Errorf("%d: %+v", id, m)
			}
			n += m.Size
		}
		if n != maxID {
			t.Errorf("%d: %d ids", id, n)
		}
	}
}

// TestGrantConnect: every taking is a new connection, by either network, also to
// a server that was not there at first.
func TestGrantConnect(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	tl, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	for spec, listen := range map[string]func() (net.Listener, error){
		"host.connect:unix:/" + path:             func() (net.Listener, error) { return net.Listen("unix", path) },
		"host.connect:tcp:" + tl.Addr().String(): func() (net.Listener, error) { return tl, nil },
	} {
		name, f, err := OpenGrant(spec, 12345)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if strings.Contains(spec, "unix") {
			if _, err := modgrant.Take(name, f); !errors.Is(err, abi.ECONNREFUSED) {
				t.Errorf("%s: nobody listens: %v", spec, err)
			}
		}
		l, err := listen()
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			c, err := modgrant.Take(name, f)
			if err != nil {
				t.Fatal(err)
			}
			s, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			s.Write([]byte("x"))
			var b [1]byte
			if n, err := c.Read(b[:]); n != 1 || err != nil || b[0] != 'x' {
				t.Errorf("%s: %d %q %v", spec, n, b, err)
			}
			s.Close()
			c.Close()
		}
		l.Close()
	}
}
