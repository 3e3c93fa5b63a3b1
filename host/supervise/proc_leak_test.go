package supervise

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// census counts what a leak would add to.
type census struct{ fds, goroutines, dirs, children int }

func count(t *testing.T, dirs string) census {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	ents, err := filepath.Glob(dirs)
	if err != nil {
		t.Fatal(err)
	}
	c := census{fds: len(fds), goroutines: runtime.NumGoroutine(), dirs: len(ents)}
	tasks, _ := filepath.Glob("/proc/self/task/*/children")
	for _, f := range tasks {
		b, _ := os.ReadFile(f)
		c.children += len(strings.Fields(string(b)))
	}
	return c
}

// TestNoLeak: a hundred starts and ends of all kinds leave nothing.
func TestNoLeak(t *testing.T) {
	tmp := openDir(t)
	t.Setenv("TMPDIR", tmp)
	t.Setenv("XDG_RUNTIME_DIR", "")
	glob := tmp + "/*"
	cycle := func(i int) {
		role := []string{"echo", "echo", "late3", "garbage", "exit3", "echo", "echo", "echo", "version7", "echo"}[i%10]
		if i == 55 { // takes deathGrace
			role = "nosock"
		}
		p, err := startRole(t, role)
		if (err == nil) != (role == "echo") {
			t.Fatalf("%s: %v", role, err)
		}
		if err != nil {
			return
		}
		switch i % 3 {
		case 0:
			p.Stop(t.Context())
		case 1:
			_, _ = p.Life(t.Context(), []byte("exit 1"))
			<-p.released
		}
		p.Kill()
		if !waitFor(p.released, 60*time.Second) {
			t.Fatal("not released")
		}
	}
	for i := range 10 { // warm up: poller, logger, template thread
		cycle(i)
	}
	before := count(t, glob)
	for i := range 100 {
		cycle(i)
	}
	var after census
	await(t, 60*time.Second, func() bool {
		after = count(t, glob)
		return after.fds <= before.fds && after.goroutines <= before.goroutines && after.dirs <= before.dirs && after.children <= before.children || t.Failed()
	})
	if before.dirs != 0 || after.dirs != 0 {
		t.Errorf("private directories left: %d, %d", before.dirs, after.dirs)
	}
}

// TestHostKilled: kill -9 of the host ends the component, even a stopped one.
func TestHostKilled(t *testing.T) {
	for _, stopped := range []bool{false, true} {
		cmd := exec.Command(os.Args[0])
		cmd.Env = []string{envRole + "=host", "TMPDIR=" + openDir(t)}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var line []byte
		for b := make([]byte, 1); !strings.HasSuffix(string(line), "\n"); line = append(line, b[0]) {
			if _, err := io.ReadFull(out, b); err != nil {
				t.Fatalf("%v after %q", err, line)
			}
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(line)))
		if err != nil || !running(pid) {
			t.Fatalf("host says %q", line)
		}
		if stopped {
			if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
		}
		cmd.Process.Kill()
		cmd.Wait()
		await(t, 60*time.Second, func() bool { return !running(pid) })
	}
}

// TestSweep: directories of dead hosts go, those of live ones stay.
func TestSweep(t *testing.T) {
	base := t.TempDir()
	live, err := os.MkdirTemp(base, dirPrefix)
	if err != nil {
		t.Fatal(err)
	}
	lock, err := lockDir(live)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	dead, err := os.MkdirTemp(base, dirPrefix)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dead+"/plugin1", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	sweep(base, time.Now().Add(-sweepAge))
	if _, err := os.Stat(dead); err != nil {
		t.Errorf("a young directory was swept: %v", err)
	}
	sweep(base, time.Now().Add(time.Hour))
	if _, err := os.Stat(dead); !os.IsNotExist(err) {
		t.Errorf("a dead host's directory stays: %v", err)
	}
	if _, err := os.Stat(live); err != nil {
		t.Errorf("a live host's directory is gone: %v", err)
	}
}

func copyFile(from, to string, mode os.FileMode) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, mode)
}

func runAs(c *syscall.Credential, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/bin:/bin", "TMPDIR=/tmp"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c}
	b, err := cmd.CombinedOutput()
	return string(b), err
}
