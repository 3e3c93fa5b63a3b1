package supervise

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// openDir makes a directory that every uid can search.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "supervise")
	if err == nil {
		t.Cleanup(func() { os.RemoveAll(dir) })
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestStartErrors(t *testing.T) {
	dir := openDir(t)
	file := func(name, content string, mode os.FileMode) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		return p
	}
	self := os.Args[0]
	text := file("text", "just text\n", 0o755)
	plain := file("plain", "just text\n", 0o644)
	empty := file("empty", "", 0o755)
	lost := file("lost", "#!/no/such/interpreter\n", 0o755)
	// Those who run into it have to come as far as that first: on a busy machine
	// they are given more.
	brief := time.Second
	for _, tc := range []struct {
		path, role string
		limit      time.Duration
		want       abi.Errno
		text       string // regular expression behind "component vfs: PATH: "
	}{
		{dir + "/none", "", 0, abi.ENOENT, `no such file or directory`},
		{text + "/x", "", 0, abi.ENOTDIR, `not a directory`},
		{dir, "", 0, abi.EACCES, `is a directory, not a program`},
		{"/dev/null", "", 0, abi.EACCES, `is not a regular file`},
		{plain, "", 0, abi.EACCES, `is not executable`},
		{empty, "", 0, abi.ENOEXEC, `is empty, not a program`},
		{text, "", 0, abi.ENOEXEC, `is not a program for this machine`},
		{lost, "", 0, abi.ENOENT, `cannot be executed: its interpreter or loader is missing`},
		{"/bin/true", "", 0, abi.ENOEXEC, `is not a rumpus component: it ended at once \(exit status 0\)`},
		{"/bin/cat", "", 0, abi.ENOEXEC, `is not a rumpus component: it ended at once \(exit status 0\)`},
		{"/bin/false", "", 0, abi.EIO, `ended at once \(exit status 1\)`},
		{"/bin/pwd", "", 0, abi.ENOEXEC, `is not a rumpus component: it printed "/" instead of a handshake`},
		{self, "garbage", 0, abi.ENOEXEC, `is not a rumpus component: it printed "hello, world" instead of a handshake`},
		{self, "flood", 0, abi.ENOEXEC, `is not a rumpus component: it printed "x+\.\.\." instead of a handshake`},
		{self, "mute", 0, abi.ENOEXEC, `is not a rumpus component: it closed its output without a handshake`},
		{self, "exit3", 0, abi.EIO, `ended at once \(exit status 3\): no such disk\?\[31m`},
		{self, "panic", 0, abi.EIO, `ended at once \(exit status 2\): panic: boom at start`},
		{self, "logexit", 0, abi.EIO, `ended at once \(exit status 4\): cannot go on: no memory`},
		{self, "late3", 0, abi.EIO, `ended right after the handshake \(exit status 3\)`},
		{self, "hang", brief, abi.ETIMEDOUT, `no handshake within [0-9]+s: thinking`},
		{self, "deaf", brief, abi.ETIMEDOUT, `no answer within [0-9]+s`},
		{self, "version7", 0, abi.EPROGMISMATCH, `speaks wire version 7, this host 1 \(EPROGMISMATCH\)`},
		{self, "core2", 0, abi.EPROGMISMATCH, `speaks go-plugin protocol 2, this host 1 \(EPROGMISMATCH\)`},
		{self, "netrpc", 0, abi.ENOEXEC, `is not a rumpus component: it speaks "netrpc", not gRPC`},
		{self, "nosock", 0, abi.EIO, `control plane: .*no control socket in .*`},
	} {
		t.Run(filepath.Base(tc.path)+" "+tc.role, func(t *testing.T) {
			re := regexp.MustCompile(`^component vfs: ` + regexp.QuoteMeta(tc.path) + `: ` + tc.text + `$`)
			var err error
			for {
				_, err = startRole(t, tc.role, func(s *Spec) {
					s.Path = tc.path
					if tc.limit != 0 {
						s.StartTimeout = tc.limit
					}
				})
				if tc.limit == 0 || err == nil || re.MatchString(err.Error()) || tc.limit > time.Minute {
					break
				}
				tc.limit *= 4
			}
			var se *StartError
			if !errors.As(err, &se) || se.Instance != "vfs" || se.Path != tc.path {
				t.Fatalf("%T %v", err, err)
			}
			if got := abi.ErrnoOf(err); got != tc.want {
				t.Errorf("%s, want %s: %v", got.Name(), tc.want.Name(), err)
			}
			if !re.MatchString(err.Error()) {
				t.Errorf("%v\nwant %s", err, re)
			}
		})
	}
}

func TestStartCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Start(ctx, Spec{Instance: "vfs", Path: os.Args[0], Env: []string{envRole + "=hang"}})
	if !errors.Is(err, context.Canceled) || abi.ErrnoOf(err) != abi.EINTR {
		t.Errorf("before the start: %v", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err = Start(ctx, Spec{Instance: "vfs", Path: os.Args[0], Env: []string{envRole + "=hang"}})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("within: %v", err)
	}
	for _, s := range []Spec{{Path: "/x"}, {Instance: "a\nb", Path: "/x"}, {Instance: "a"}, {Instance: "a", Path: "/x", Env: []string{"a\x00"}}} {
		if _, err := Start(t.Context(), s); !errors.Is(err, abi.EINVAL) {
			t.Errorf("%+v: %v", s, err)
		}
	}
}

// TestElsewhere: a component cannot make the host talk to somebody else.
func TestElsewhere(t *testing.T) {
	dir := openDir(t)
	ln, err := net.Listen("unix", dir+"/s")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	os.Chmod(dir+"/s", 0o777)
	_, err = startRole(t, "elsewhere", func(s *Spec) { s.Env = append(s.Env, "RUMPUS_TEST_OTHER="+dir+"/s") })
	if err == nil || !strings.Contains(err.Error(), "no control socket") {
		t.Errorf("start: %v", err)
	}
	ln.(*net.UnixListener).SetDeadline(time.Now())
	if c, err := ln.Accept(); err == nil {
		c.Close()
		t.Error("the host dialled where the handshake line said")
	}
}

// TestUnprivileged runs the tests that matter as an ordinary user.
func TestUnprivileged(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("is unprivileged")
	}
	dir := openDir(t)
	bin := filepath.Join(dir, "supervise.test")
	if err := copyFile(os.Args[0], bin, 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := runAs(&syscall.Credential{Uid: 65534, Gid: 65534}, bin,
		"-test.run=^(TestLifeAndStream|TestEnvironment|TestGrants|TestStopped|TestHostKilled|TestSpawnAsOther)$", "-test.v")
	if err != nil || !strings.Contains(out, "--- PASS: TestHostKilled") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestSpawnAsOther: only root gives uids away.
func TestSpawnAsOther(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("is root")
	}
	_, err := startRole(t, "echo", func(s *Spec) { s.Cred = &syscall.Credential{Uid: 1234, Gid: 1234} })
	if !errors.Is(err, abi.EPERM) {
		t.Errorf("start: %v", err)
	}
}
