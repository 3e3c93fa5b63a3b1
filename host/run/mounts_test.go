package run

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// TestMountFailed: a mount that cannot be made is told on standard error, the
// others are made, in order and with the directories above them.
func TestMountFailed(t *testing.T) {
	h := boot(t, `
components: {vfs: {}}
log: {level: "off"}
mounts:
  - {dir: /, type: tmpfs}
  - {dir: /x, type: nosuchfs}
  - {dir: /y, type: hostfs, source: /nowhere/at/all, options: {ro: true}}
  - {dir: /z, type: tmpfs, options: {size: nonsense}}
  - {dir: /a/b/c, type: tmpfs, options: {nosuid: true, size: 1m}}
  - {dir: /a/b/c/d/e, type: tmpfs}
  - {dir: /later, type: tmpfs, noauto: true}
`)
	said := h.err.String()
	for _, want := range []string{
		"rumpus: mount nosuchfs on /x: file-system type \"nosuchfs\": operation not supported by device: going on without it\n",
		"rumpus: mount hostfs on /y: ",
		"rumpus: mount tmpfs on /z: ",
		"/nowhere/at/all is not granted to this instance",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("it does not say %q:\n%s", want, said)
		}
	}
	if n := strings.Count(said, "\n"); n != 3 {
		t.Errorf("%d lines:\n%s", n, said)
	}
	c := h.client()
	all, err := c.Getvfsstat(limited(t), abi.MNT_NOWAIT)
	c.must(err)
	var dirs []string
	for _, sv := range all {
		dirs = append(dirs, sv.On)
	}
	if got := strings.Join(dirs, " "); got != "/ /a/b/c /a/b/c/d/e" {
		t.Errorf("mounted: %s", got)
	}
	if all[1].Flag&abi.MNT_NOSUID == 0 || all[1].Blocks*all[1].Frsize != 1<<20 {
		t.Errorf("%+v", all[1])
	}
	c.write("/a/b/c/d/e/f", "deep")
}

// TestMountEssential: without its root, or a mount that is essential, the kernel
// does not boot, one line says why, and nothing is left.
func TestMountEssential(t *testing.T) {
	for _, tc := range []struct{ mounts, says string }{
		{"[{dir: /, type: nosuchfs}]", "rumpus: no root file system: mount nosuchfs on /: "},
		{"[{dir: /, type: tmpfs}, {dir: /m, type: nosuchfs, essential: true}]", "rumpus: essential mount is missing: mount nosuchfs on /m: "},
		{"[{dir: /, type: tmpfs}, {dir: /m, type: hostfs, source: /nowhere/at/all, essential: true}]", "is not granted to this instance"},
	} {
		h := start(t, "components: {vfs: {}, dev: {}}\nlog: {level: \"off\"}\nmounts: "+tc.mounts+"\n")
		h.wait(ExitFailed)
		if said := h.err.String(); !strings.Contains(said, tc.says) || strings.Count(said, "\n") != 1 || h.out.String() != "" {
			t.Errorf("%s: it says %q", tc.mounts, said)
		}
	}
}

// TestInstancesApart: while the process of one mount is stopped, killed again
// and again and started anew, the other mount's descriptors go on as if nothing
// was. Mounts can be made in either by name.
func TestInstancesApart(t *testing.T) {
	h := boot(t, `
components:
  vfs: {}
  untrusted: {class: vfs, plugin: vfs, restart: {budget: 100}}
mounts:
  - {dir: /, type: tmpfs}
  - {dir: /img, type: tmpfs, instance: untrusted}
`)
	c := h.client()
	ctx := t.Context()
	c.must(c.Mkdir(ctx, "/more", 0o755))
	c.must(c.Mkdir(ctx, "/less", 0o755))
	c.must(c.Mount(ctx, "tmpfs", "/more", 0, "", map[string]string{"instance": "untrusted", "size": "1m"}))
	c.must(c.Mount(ctx, "tmpfs", "/less", 0, "", map[string]string{"instance": "vfs"}))
	c.refused(c.Mount(ctx, "tmpfs", "/img", 0, "", map[string]string{"instance": "nobody"}), abi.ENODEV, "tmpfs")
	mounts, err := c.Sysctl(ctx, "vfs.generic.mounts")
	c.must(err)
	for _, want := range []string{`"dir":"/more","type":"tmpfs","source":"","instance":"untrusted","options":{"size":"1m"},"up":true`,
		`"dir":"/less","type":"tmpfs","source":"","instance":"vfs"`} {
		if !strings.Contains(mounts, want) {
			t.Errorf("%s is not in %s", want, mounts)
		}
	}
	c.must(c.Unmount(ctx, "/less", 0))

	// One that works on the root file system, and must not notice anything.
	work := h.client()
	stop := make(chan struct{})
	var rounds, failed int
	var why error
	var wg sync.WaitGroup
	var once sync.Once
	end := func() { once.Do(func() { close(stop) }); wg.Wait() }
	defer end()
	fd, err := work.Open(ctx, "/log", abi.O_RDWR|abi.O_CREAT|abi.O_APPEND, 0o644)
	c.must(err)
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			rounds++
			line := fmt.Appendf(nil, "%08d", rounds)
			_, err := work.Write(t.Context(), fd, line)
			p := make([]byte, 8)
			if err == nil {
				_, err = work.Pread(t.Context(), fd, p, int64(rounds-1)*8)
			}
			if err == nil && string(p) != string(line) {
				err = fmt.Errorf("read %q, not %q", p, line)
			}
			if err == nil {
				name := fmt.Sprintf("/f%d", rounds%10)
				if err = work.WriteFile(t.Context(), name, line, 0o644); err == nil {
					err = work.Rename(t.Context(), name, name+"x")
				}
			}
			if err != nil {
				failed++
				why = err
				return
			}
		}
	})

	// Stopped: a call to it waits, until it is found out and there is another
	// process; meanwhile everything else works.
	pids := c.pids()
	kill(t, pids["untrusted"], syscall.SIGSTOP)
	stuck := make(chan error, 1)
	waiter := h.client()
	go func() { stuck <- waiter.WriteFile(limited(t), "/img/stuck", []byte("x"), 0o644) }()
	for i := range 50 {
		c.write(fmt.Sprintf("/while%d", i), "stopped")
	}
	select {
	case err := <-stuck:
		if err != nil && !fair[abi.ErrnoOf(err)] {
			t.Errorf("a call to a stopped component: %v", err)
		}
	case <-time.After(bootTime):
		t.Fatal("nobody finds out that a component is stopped")
	}
	eventually(t, bootTime, "another process of untrusted", func() bool {
		r := c.row("untrusted")
		return r.State == "running" && r.Pid != pids["untrusted"]
	})

	for range 3 {
		pid := c.pids()["untrusted"]
		kill(t, pid, syscall.SIGKILL)
		eventually(t, bootTime, "the return of untrusted", func() bool {
			r := c.row("untrusted")
			return r.State == "running" && r.Pid != pid
		})
		eventually(t, bootTime, "the return of /img", func() bool {
			return c.WriteFile(limited(t), "/img/again", []byte("back"), 0o644) == nil
		})
	}
	end()
	if failed > 0 || rounds < 10 {
		t.Errorf("after %d rounds: %v", rounds, why)
	}
	if got := c.pids()["vfs"]; got != pids["vfs"] {
		t.Errorf("vfs is process %d, was %d", got, pids["vfs"])
	}
	c.write("/more/f", "both of its mounts are back")
}

// TestMountLife: nested mounts, who keeps one busy, -f, and what users of it then
// get; remounts.
func TestMountLife(t *testing.T) {
	h := boot(t, `
components: {vfs: {}}
mounts: [{dir: /, type: tmpfs}, {dir: /m, type: tmpfs, options: {nosuid: true}}, {dir: /m/n, type: tmpfs}]
`)
	c, user := h.client(), h.client()
	ctx := t.Context()
	c.refused(c.Unmount(ctx, "/m", 0), abi.EBUSY, "/m/n is mounted below /m")
	c.refused(c.Unmount(ctx, "/m", abi.MNT_FORCE), abi.EBUSY, "/m/n is mounted below /m")
	c.must(c.Unmount(ctx, "/m/n", 0))
	c.refused(c.Unmount(ctx, "/m/n", 0), abi.EINVAL, "no mount point")
	c.refused(c.Rename(ctx, "/m", "/dir"), abi.EBUSY, "")

	user.must(user.Mkdir(ctx, "/m/d", 0o755))
	user.must(user.Chdir(ctx, "/m/d"))
	fd, err := user.Open(ctx, "f", abi.O_RDWR|abi.O_CREAT, 0o644)
	user.must(err)
	_, err = user.Write(ctx, fd, []byte("contents"))
	user.must(err)
	err = c.Unmount(ctx, "/m", 0)
	c.refused(err, abi.EBUSY, "used by ")
	c.refused(err, abi.EBUSY, fmt.Sprintf(": cwd, fd %d", fd))

	// Read-only while a file is open for writing: refused, unless forced.
	c.refused(c.Mount(ctx, "tmpfs", "/m", abi.MNT_UPDATE|abi.MNT_RDONLY|abi.MNT_NOSUID, "", nil), abi.EBUSY, "open for writing")
	c.refused(c.Mount(ctx, "tmpfs", "/m", abi.MNT_UPDATE, "", map[string]string{"size": "1m"}), abi.EOPNOTSUPP, "size cannot change")
	c.refused(c.Mount(ctx, "tmpfs", "/m/d", abi.MNT_UPDATE, "", nil), abi.EINVAL, "no mount point")
	user.must(user.Close(ctx, fd))
	fd, err = user.Open(ctx, "f", abi.O_RDONLY, 0)
	user.must(err)
	c.must(c.Mount(ctx, "tmpfs", "/m", abi.MNT_UPDATE|abi.MNT_RDONLY|abi.MNT_NOSUID, "", nil))
	c.refused(c.WriteFile(ctx, "/m/d/f", nil, 0o644), abi.EROFS, "")
	c.refused(c.Unlink(ctx, "/m/d/f"), abi.EROFS, "")
	c.refused(c.Mkdir(ctx, "/m/new", 0o755), abi.EROFS, "")
	c.refused(c.Chmod(ctx, "/m/d", 0), abi.EROFS, "")
	sv, err := c.Statvfs(ctx, "/m")
	c.must(err)
	if sv.Flag&(abi.MNT_RDONLY|abi.MNT_NOSUID) != abi.MNT_RDONLY|abi.MNT_NOSUID {
		t.Errorf("flags %#x", sv.Flag)
	}
	c.must(c.Mount(ctx, "tmpfs", "/m", abi.MNT_UPDATE, "", nil))
	c.write("/m/d/g", "again")

	// By force: every later call fails, closing works, the name shows what is below.
	wfd, err := user.Open(ctx, "h", abi.O_RDWR|abi.O_CREAT, 0o644)
	user.must(err)
	c.must(c.Unmount(ctx, "/m", abi.MNT_FORCE))
	gone := map[abi.Errno]bool{abi.EIO: true, abi.ENXIO: true}
	for what, err := range map[string]error{
		"read":     second(user.Pread(ctx, fd, make([]byte, 8), 0)),
		"write":    second(user.Write(ctx, wfd, []byte("x"))),
		"fstat":    second(user.Fstat(ctx, fd)),
		"fsync":    user.Fsync(ctx, wfd),
		"truncate": user.Ftruncate(ctx, wfd, 1),
		"open":     second(user.Open(ctx, "f", abi.O_RDONLY, 0)),
		"mkdir":    user.Mkdir(ctx, "x", 0o755),
		"list":     second(user.ReadDir(ctx, ".")),
	} {
		if !gone[abi.ErrnoOf(err)] {
			t.Errorf("%s after umount -f: %v", what, err)
		}
	}
	user.must(user.Close(ctx, fd))
	if err := user.Close(ctx, wfd); err != nil && !gone[abi.ErrnoOf(err)] {
		t.Errorf("close: %v", err)
	}
	if _, err := c.Stat(ctx, "/m/d"); abi.ErrnoOf(err) != abi.ENOENT {
		t.Errorf("below: %v", err)
	}
	user.must(user.Chdir(ctx, "/"))
	c.must(c.Rename(ctx, "/m", "/dir"))
	c.must(c.Mount(ctx, "tmpfs", "/dir", 0, "", nil))
	c.write("/dir/f", "new")
	c.must(c.Unmount(ctx, "/dir", 0))
}

func second[T any](_ T, err error) error { return err }

// TestMountOptions: what the kernel's own options forbid, with real processes.
func TestMountOptions(t *testing.T) {
	h := boot(t, `
components: {vfs: {}, dev: {}}
mounts:
  - {dir: /, type: tmpfs}
  - {dir: /ro, type: tmpfs, options: {ro: true}}
  - {dir: /nodev, type: tmpfs, options: {nodev: true}}
  - {dir: /noatime, type: tmpfs, options: {noatime: true}}
  - {dir: /small, type: tmpfs, options: {size: 64k}}
  - {dir: /nocache, type: tmpfs, options: {nocache: true}}
  - {dir: /dev, type: devfs}
`)
	c := h.client()
	ctx := t.Context()
	c.refused(c.WriteFile(ctx, "/ro/f", nil, 0o644), abi.EROFS, "")
	null, err := c.Stat(ctx, "/dev/null")
	c.must(err)
	for _, dir := range []string{"", "/nodev"} {
		c.must(c.Mknod(ctx, dir+"/null", abi.S_IFCHR|0o666, null.Rdev))
		_, err := c.Open(ctx, dir+"/null", abi.O_WRONLY, 0)
		if (err == nil) != (dir == "") {
			t.Errorf("a device on %q: %v", dir, err)
		}
	}
	past := abi.Timespec{Sec: 1000}
	for _, dir := range []string{"", "/noatime"} {
		c.write(dir+"/f", "read me")
		c.must(c.Utimensat(ctx, abi.AT_FDCWD, dir+"/f", past, past, 0))
		c.read(dir + "/f")
		st, err := c.Stat(ctx, dir+"/f")
		c.must(err)
		if read := st.Atime != past; read != (dir == "") {
			t.Errorf("atime of %q/f is %v", dir, st.Atime)
		}
	}
	c.refused(c.WriteFile(ctx, "/small/f", make([]byte, 128<<10), 0o644), abi.ENOSPC, "")
	c.write("/nocache/f", "asked for each time")
	c.must(c.Mkdir(context.WithoutCancel(ctx), "/nocache/d", 0o755))
}
