package run

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/rumpus-kernel/rumpus/host/config"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// nobody is the uid of a stranger.
const nobody = 65534

// TestSecondHost: a second host on the same socket says so in one line and
// leaves the first alone, and starts nothing.
func TestSecondHost(t *testing.T) {
	h := boot(t, "")
	c := h.client()
	c.write("/x", "first")
	path, _ := configFile(t, "")
	cfg, err := config.Load(config.Options{Path: path, Environ: []string{}})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Server.Socket = h.sock
	out, said := newBuffer(), newBuffer()
	if code := Run(t.Context(), Options{Config: cfg, Stdout: out, Stderr: said, Environ: []string{}}); code != ExitFailed {
		t.Errorf("exit code %d", code)
	}
	if s := said.String(); strings.Count(s, "\n") != 1 || !strings.Contains(s, "a kernel is running at "+h.sock+" already") || out.String() != "" {
		t.Errorf("the second says\n%s%s", s, out)
	}
	if got := c.read("/x"); got != "first" {
		t.Errorf("the first has %q", got)
	}
	h.client().write("/y", "still lets in")
}

// TestListen: who gets a socket, and how it looks.
func TestListen(t *testing.T) {
	dir := shortDir(t)
	if err := os.WriteFile(filepath.Join(dir, "plain"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	open := filepath.Join(dir, "rumpus")
	if err := os.Mkdir(open, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "plain"):                  "exists and is no socket",
		filepath.Join(dir, "plain", "k.sock"):        "not a directory",
		filepath.Join(open, "k.sock"):                "is not a directory of yours alone",
		filepath.Join(dir, "no", "rumpus", "k.sock"): "no such file or directory",
		filepath.Join(dir, strings.Repeat("x", 108)): "longer than the 107 bytes",
	} {
		l, err := listen(path, 0o700)
		if err == nil {
			l.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, wanted %q", path, err, want)
		}
	}

	path := filepath.Join(dir, "new", "k.sock")
	l, err := listen(path, 0o700)
	if err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]os.FileMode{path: os.ModeSocket | 0o700, filepath.Dir(path): os.ModeDir | 0o700} {
		if fi, err := os.Stat(p); err != nil || fi.Mode() != want {
			t.Errorf("%s is %v, %v", p, fi.Mode(), err)
		}
	}
	if _, err := listen(path, 0o700); err == nil || !strings.Contains(err.Error(), "running at "+path+" already") {
		t.Errorf("second listen: %v", err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // as kill -9 leaves it
	l.Close()

	// Of many that find it one gets it.
	var wg sync.WaitGroup
	got := make(chan net.Listener, 8)
	for range cap(got) {
		wg.Go(func() {
			if l, err := listen(path, 0o700); err == nil {
				got <- l
			}
		})
	}
	wg.Wait()
	if n := len(got); n != 1 {
		t.Fatalf("%d have the socket", n)
	}
	(<-got).Close()
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("closed, and still there: %v", err)
	}
}

// asClient runs the test binary as a client of another uid.
func asClient(t *testing.T, url string, uid uint32, env ...string) (string, int) {
	t.Helper()
	exe := filepath.Join(shortDir(t), "client")
	b, err := os.ReadFile(os.Args[0])
	if err == nil {
		err = os.WriteFile(exe, b, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Dir = "/"
	cmd.Env = append([]string{envClient + "=" + url, "GORACE=atexit_sleep_ms=0"}, env...)
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// TestStranger: the socket and its directory are closed to others, and who
// gets at the socket nevertheless is asked who he is.
func TestStranger(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root for another uid")
	}
	h := boot(t, "")
	for p, want := range map[string]os.FileMode{h.sock: os.ModeSocket | 0o700, filepath.Dir(h.sock): os.ModeDir | 0o700} {
		if fi, err := os.Stat(p); err != nil || fi.Mode() != want {
			t.Errorf("%s is %v, %v", p, fi.Mode(), err)
		}
	}
	if out, code := asClient(t, h.url, nobody); code != 1 || !strings.Contains(out, "permission denied") {
		t.Errorf("a stranger got %d:\n%s", code, out)
	}
	for _, p := range []string{h.sock, filepath.Dir(h.sock)} {
		if err := os.Chmod(p, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	if out, code := asClient(t, h.url, nobody); code != 1 || !strings.Contains(out, "refused: uid 65534 is not the owner of this kernel") {
		t.Errorf("a stranger at the open socket got %d:\n%s", code, out)
	}
	if out, code := asClient(t, h.url, 0); code != 0 || !strings.Contains(out, "uid 0 <nil>") {
		t.Errorf("the owner got %d:\n%s", code, out)
	}
}

// TestGuest: a mode that lets others connect lets them in as themselves.
func TestGuest(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root for another uid")
	}
	h := boot(t, `server: {mode: "0777"}`)
	if err := os.Chmod(filepath.Dir(h.sock), 0o755); err != nil {
		t.Fatal(err)
	}
	if out, code := asClient(t, h.url, nobody); code != 0 || !strings.Contains(out, "uid 65534 <nil>") {
		t.Errorf("a guest got %d:\n%s", code, out)
	}
	if out, code := asClient(t, h.url, nobody, "RUMPUS_TEST_ASK=halt"); code != 0 || !strings.Contains(out, "halt reboot: uid 65534 may not: operation not permitted") {
		t.Errorf("a guest may halt the kernel: %d:\n%s", code, out)
	}
}

// TestUnprivileged: the default configuration needs no root.
func TestUnprivileged(t *testing.T) {
	exe := filepath.Join(shortDir(t), "host")
	b, err := os.ReadFile(os.Args[0])
	if err == nil {
		err = os.WriteFile(exe, b, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	run := shortDir(t)
	uid := os.Getuid()
	if uid == 0 {
		uid = nobody
		if err := os.Chown(run, uid, uid); err != nil {
			t.Fatal(err)
		}
	}
	sock := filepath.Join(run, "rumpus", "default.sock")
	h := spawn(t, "server: {socket: "+sock+"}", func(c *exec.Cmd) {
		c.Path, c.Dir = exe, "/"
		c.Env = append(c.Env, "XDG_RUNTIME_DIR="+run)
		if os.Getuid() == 0 {
			c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
		}
	})
	if h.err.String() != "" {
		t.Errorf("it says\n%s", h.err)
	}
	c := h.client() // root may
	c.write("/x", "well")
	pids := c.pids()
	if len(pids) != 3 {
		t.Errorf("processes %v", pids)
	}
	for name, pid := range pids {
		if fi, err := os.Stat("/proc/" + itoa(pid)); err != nil || owner(fi) != uid && owner(fi) != 0 {
			t.Errorf("%s runs as %d, %v", name, owner(fi), err)
		}
	}
	fd, err := c.Socket(limited(t), abi.AF_INET6, abi.SOCK_STREAM, 0)
	c.must(err)
	c.must(c.Close(context.Background(), fd))
	out, code := asClient(t, h.url, uint32(uid), "RUMPUS_TEST_ASK=halt")
	if code != 0 || !strings.Contains(out, "uid 0 <nil>\nls 2 <nil>\nhalt <nil>") {
		t.Errorf("its own user got %d:\n%s", code, out)
	}
	h.wait(ExitOK)
	allDead(t, pids, 0)
	if left, _ := filepath.Glob(run + "/rumpus/*"); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}
