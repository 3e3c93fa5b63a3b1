package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// fuseWorld is where a host of one user mounts: root by mount(2), another by
// fusermount3.
type fuseWorld struct {
	t    *testing.T
	uid  uint32
	exe  string // the host's program, which every user can run
	work string // a directory of the user's
	dir  string // in it, where it is mounted
}

// fuseUser is the ordinary user of these tests.
const fuseUser = 54321

// inFuse runs a test as root and as an ordinary user, as far as the machine
// lets it.
func inFuse(t *testing.T, f func(t *testing.T, w *fuseWorld)) {
	t.Helper()
	if unix.Access("/dev/fuse", unix.R_OK|unix.W_OK) != nil {
		t.Skip("no /dev/fuse")
	}
	run := func(t *testing.T, uid uint32) {
		w := &fuseWorld{t: t, uid: uid, work: shortDir(t)}
		w.exe = filepath.Join(shortDir(t), "host")
		b, err := os.ReadFile(os.Args[0])
		if err == nil {
			err = os.WriteFile(w.exe, b, 0o755)
		}
		w.dir = filepath.Join(w.work, "mnt")
		if err == nil {
			err = os.Mkdir(w.dir, 0o755)
		}
		if err == nil && os.Geteuid() == 0 {
			err = errors.Join(os.Chown(w.work, int(uid), int(uid)), os.Chown(w.dir, int(uid), int(uid)))
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(w.clean)
		f(t, w)
	}
	if os.Geteuid() == 0 {
		t.Run("root", func(t *testing.T) { run(t, 0) })
	}
	t.Run("user", func(t *testing.T) {
		p, err := exec.LookPath("fusermount3")
		if err != nil {
			t.Skip("no fusermount3")
		}
		if fi, err := os.Stat(p); err != nil || fi.Mode()&os.ModeSetuid == 0 {
			t.Skip("fusermount3 is not set-id")
		}
		if fi, err := os.Stat("/dev/fuse"); err != nil || fi.Mode().Perm()&0o006 != 0o006 {
			t.Skip("/dev/fuse is root's alone")
		}
		if b, err := os.ReadFile("/proc/self/status"); err != nil || !strings.Contains(string(b), "\nNoNewPrivs:\t0\n") {
			t.Skip("set-id programs get no privileges here")
		}
		uid := uint32(os.Geteuid())
		if uid == 0 {
			uid = fuseUser
		}
		run(t, uid)
	})
}

// clean takes away what a failed test has left.
func (w *fuseWorld) clean() {
	for range 4 {
		if w.mounts() == 0 || unix.Unmount(w.dir, unix.MNT_DETACH) != nil && exec.Command("fusermount3", "-uz", w.dir).Run() != nil {
			return
		}
	}
}

// mounts is how many mounts are on the directory.
func (w *fuseWorld) mounts() (n int) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		w.t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 4 && f[4] == w.dir {
			n++
		}
	}
	return n
}

// as has a program run as the user.
func (w *fuseWorld) as(c *exec.Cmd) {
	if os.Geteuid() == 0 && w.uid != 0 {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: w.uid, Gid: w.uid}}
	}
}

// boot starts a host of the user's, which mounts if exports says so.
func (w *fuseWorld) boot(exports string) *host0 {
	w.t.Helper()
	sock := filepath.Join(w.work, "s", "k.sock")
	return spawn(w.t, "components: {vfs: {}}\nmounts: [{dir: /, type: tmpfs}]\n"+exports+"\nserver: {socket: "+sock+"}", func(c *exec.Cmd) {
		c.Path, c.Dir = w.exe, "/"
		c.Env = append(c.Env, "PATH="+os.Getenv("PATH"))
		w.as(c)
	})
}

// export is the configuration of a mount.
func (w *fuseWorld) export(more string) string {
	return fmt.Sprintf("exports: {fuse: [{dir: %s%s}]}", w.dir, more)
}

// sh runs a script as the user.
func (w *fuseWorld) sh(script string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), bootTime)
	defer cancel()
	c := exec.CommandContext(ctx, "sh", "-c", script)
	c.Dir = "/"
	c.Env = []string{"PATH=" + os.Getenv("PATH"), "D=" + w.dir}
	w.as(c)
	out, err := c.CombinedOutput()
	return string(out), err
}

func (w *fuseWorld) must(script string) string {
	w.t.Helper()
	out, err := w.sh(script)
	if err != nil {
		w.t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return out
}

// ask mounts or unmounts as `rumpus fuse` does.
func (w *fuseWorld) ask(c *client, e map[string]any) error {
	e["dir"] = w.dir
	b, _ := json.Marshal(e)
	return c.SysctlSet(limited(w.t), "host.fuse.mount", string(b))
}

// TestFuseLife: a mount by the configuration, used by its user, is gone when the
// host has halted, and one that is asked for comes and goes.
func TestFuseLife(t *testing.T) {
	inFuse(t, func(t *testing.T, w *fuseWorld) {
		h := w.boot(w.export(""))
		c := h.client()
		w.must(`cd $D && echo text >f && mkdir d && mv f d/g && ln -s d/g l && test "$(cat l)" = text && chmod 600 d/g && test -O d/g && test -G d/g`)
		if got := c.read("/d/g"); got != "text\n" {
			t.Errorf("the kernel has %q", got)
		}
		c.write("/from", "inside")
		if got := w.must("cat $D/from"); got != "inside" {
			t.Errorf("the mount has %q", got)
		}
		c.refused(w.ask(c, map[string]any{}), abi.EBUSY, "another rumpus")
		c.must(c.SysctlSet(limited(t), "host.fuse.unmount", w.dir))
		if n := w.mounts(); n != 0 {
			t.Fatalf("%d mounts after the unmount", n)
		}
		c.refused(c.SysctlSet(limited(t), "host.fuse.unmount", w.dir), abi.EINVAL, "no mount of this kernel")
		c.must(w.ask(c, map[string]any{"ro": true}))
		if out, err := w.sh("echo x >$D/new"); err == nil || !strings.Contains(out, "Read-only") {
			t.Errorf("writing to a read-only mount: %v, %s", err, out)
		}
		c.must(c.Reboot(limited(t), 0))
		h.wait(ExitOK)
		if n := w.mounts(); n != 0 {
			t.Errorf("%d mounts after the halt", n)
		}
	})
}

// TestFuseOutside: who unmounts from outside ends the export, and nothing of it
// is left in the host.
func TestFuseOutside(t *testing.T) {
	inFuse(t, func(t *testing.T, w *fuseWorld) {
		h := w.boot("")
		c := h.client()
		fds := func() int {
			ents, err := os.ReadDir("/proc/" + itoa(h.cmd.Process.Pid) + "/fd")
			if err != nil {
				t.Fatal(err)
			}
			return len(ents)
		}
		var before int
		for i := range 6 {
			c.must(w.ask(c, map[string]any{}))
			w.must("echo x >$D/f")
			if w.uid == 0 && i%2 == 0 {
				w.must("umount $D")
			} else {
				w.must("fusermount3 -u $D")
			}
			eventually(t, bootTime, "an empty list", func() bool {
				s, err := c.Sysctl(limited(t), "host.fuse.mounts")
				return err == nil && s == "[]"
			})
			if i == 1 {
				before = fds()
			}
		}
		eventually(t, bootTime, "no more descriptors than before", func() bool { return fds() <= before })
		h.end0()
	})
}

// end0 halts a host that is a process.
func (h *host0) end0() {
	h.t.Helper()
	h.cmd.Process.Signal(syscall.SIGTERM)
	h.wait(ExitOK)
}

// TestFuseBusyEnd: a program that has a file open and sits in the mount does not
// keep the host from halting, and what it wrote is there before.
func TestFuseBusyEnd(t *testing.T) {
	inFuse(t, func(t *testing.T, w *fuseWorld) {
		h := w.boot(w.export(""))
		sh := exec.Command("sh", "-c", `cd $D && exec 3>open && echo kept >&3 && echo sits && read x && echo more >&3; ls . 2>&1; true`)
		sh.Env = []string{"PATH=" + os.Getenv("PATH"), "D=" + w.dir}
		w.as(sh)
		in, err := sh.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out := newBuffer()
		sh.Stdout, sh.Stderr = out, out
		if err := sh.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, bootTime, "a program in the mount", func() bool { return strings.Contains(out.String(), "sits") })
		if got := h.client().read("/open"); got != "kept\n" {
			t.Errorf("the kernel has %q", got)
		}
		h.end0()
		if n := w.mounts(); n != 0 {
			t.Errorf("%d mounts after the halt", n)
		}
		if !strings.Contains(h.err.String(), "while in use") {
			t.Errorf("the log does not say that it was in use: %s", h.err)
		}
		io.WriteString(in, "\n")
		in.Close()
		sh.Wait()
		if !strings.Contains(out.String(), "Transport endpoint is not connected") && !strings.Contains(out.String(), "Software caused connection abort") {
			t.Errorf("the program got %s", out)
		}
	})
}

// TestFuseHostKilled: a host that is killed leaves a dead mount, which the next
// one on the directory takes away, whichever way it is asked.
func TestFuseHostKilled(t *testing.T) {
	inFuse(t, func(t *testing.T, w *fuseWorld) {
		for _, how := range []string{"run", "ask", "end"} {
			exports := w.export("")
			if how == "ask" {
				exports = ""
			}
			h := w.boot(exports)
			c := h.client()
			if how == "ask" {
				c.must(w.ask(c, map[string]any{}))
			}
			w.must("echo x >$D/f && cat $D/f")
			if n := w.mounts(); n != 1 {
				t.Fatalf("%s: %d mounts", how, n)
			}
			pids := c.pids()
			if how == "end" {
				h.end0()
				break
			}
			kill(t, h.cmd.Process.Pid, syscall.SIGKILL)
			h.wait(-1)
			allDead(t, pids, bootTime)
			if out, err := w.sh("ls $D"); err == nil || !strings.Contains(out, "not connected") {
				t.Errorf("%s: the dead mount: %v, %s", how, err, out)
			}
		}
		if n := w.mounts(); n != 0 {
			t.Errorf("%d mounts after the end", n)
		}
		w.must("test -d $D && test ! -e $D/f")
	})
}

// TestFuseComponentKilled: the death of the vfs component hangs nobody, and the
// mount goes on.
func TestFuseComponentKilled(t *testing.T) {
	inFuse(t, func(t *testing.T, w *fuseWorld) {
		h := w.boot(w.export(""))
		c := h.client()
		stop := filepath.Join(w.work, "stop")
		worker := exec.Command("sh", "-c", `n=0; while test ! -e $STOP; do mkdir $D/d$n 2>/dev/null; echo $n >$D/d$n/f 2>/dev/null; cat $D/d$n/f >/dev/null 2>&1; ls $D >/dev/null 2>&1; n=$((n+1)); done; echo $n`)
		worker.Env = []string{"PATH=" + os.Getenv("PATH"), "D=" + w.dir, "STOP=" + stop}
		w.as(worker)
		out := newBuffer()
		worker.Stdout = out
		if err := worker.Start(); err != nil {
			t.Fatal(err)
		}
		defer worker.Process.Kill()
		for range 3 {
			was := c.row("vfs")
			kill(t, was.Pid, syscall.SIGKILL)
			eventually(t, bootTime, "the return of vfs", func() bool {
				r := c.row("vfs")
				return r.Restarts > was.Restarts && r.State == "running"
			})
			eventually(t, bootTime, "a mount that works", func() bool {
				_, err := w.sh("echo again >$D/again && test $(cat $D/again) = again")
				return err == nil
			})
		}
		if err := os.WriteFile(stop, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := worker.Wait(); err != nil {
			t.Errorf("who used the mount: %v", err)
		}
		if n := w.mounts(); n != 1 {
			t.Errorf("%d mounts", n)
		}
		h.end0()
	})
}

// TestFuseRefused: what an ordinary user cannot do is refused with what to do.
func TestFuseRefused(t *testing.T) {
	inFuse(t, func(t *testing.T, w *fuseWorld) {
		h := w.boot("")
		c := h.client()
		dir := w.dir
		for path, want := range map[string]abi.Errno{filepath.Join(w.work, "none"): abi.ENOENT, "/etc/passwd": abi.ENOTDIR} {
			w.dir = path
			c.refused(w.ask(c, map[string]any{}), want, path)
		}
		w.dir = dir
		c.refused(w.ask(c, map[string]any{"path": "/none"}), abi.ENOENT, "/none")
		c.refused(w.ask(c, map[string]any{"what": 1}), abi.EINVAL, "exports/fuse")
		if w.uid != 0 {
			w.dir = "/usr"
			c.refused(w.ask(c, map[string]any{}), abi.EACCES, "a directory that he can write")
			w.dir = dir
			conf, _ := os.ReadFile("/etc/fuse.conf")
			err := w.ask(c, map[string]any{"allowother": true})
			if strings.Contains("\n"+string(conf), "\nuser_allow_other") {
				c.must(err)
			} else {
				c.refused(err, abi.EPERM, "user_allow_other in /etc/fuse.conf")
			}
		}
		h.end0()
	})
}

// TestFuseStrangers: with an ordinary user's mount nobody else gets in; root's
// lets everybody do what permissions say.
func TestFuseStrangers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can be two users")
	}
	inFuse(t, func(t *testing.T, w *fuseWorld) {
		h := w.boot(w.export(""))
		c := h.client()
		for _, f := range []struct {
			path string
			mode uint32
		}{{"/open", 0o644}, {"/closed", 0o600}} {
			c.must(c.WriteFile(limited(t), f.path, []byte("x"), f.mode))
		}
		c.must(c.Mkdir(limited(t), "/everybody", 0o755))
		c.must(c.Chmod(limited(t), "/everybody", 0o1777))
		stranger := *w
		stranger.uid = fuseUser + 1
		out, err := stranger.sh("cat $D/open")
		if w.uid != 0 {
			if err == nil || !strings.Contains(out, "ermission denied") {
				t.Errorf("a stranger is in: %v, %s", err, out)
			}
			h.end0()
			return
		}
		if err != nil {
			t.Errorf("a stranger cannot read what all may: %v, %s", err, out)
		}
		if out, err := stranger.sh("cat $D/closed"); err == nil || !strings.Contains(out, "ermission denied") {
			t.Errorf("a stranger reads what only root may: %v, %s", err, out)
		}
		stranger.must("echo mine >$D/everybody/f && test -O $D/everybody/f")
		st, err := c.Stat(limited(t), "/everybody/f")
		if err != nil || st.Uid != stranger.uid {
			t.Errorf("the stranger's file belongs to %d, %v", st.Uid, err)
		}
		third := stranger
		third.uid++
		if out, err := third.sh("rm -f $D/everybody/f"); err == nil {
			t.Errorf("a third one removes it from a sticky directory: %s", out)
		}
		h.end0()
	})
}
