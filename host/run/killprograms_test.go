package run

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// killPause is how long components live while programs run: a second with
// RUMPUS_LONG, as issue 7 has it, and less in a slice.
func killPause() time.Duration {
	if longTests {
		return time.Second
	}
	return 300 * time.Millisecond
}

// killing kills instances in turn until the function that it answers is called,
// which answers how often it has.
func (c *client) killing(instances ...string) (stop func() int) {
	end, done := make(chan struct{}), make(chan int, 1)
	go func() {
		n := 0
		tick := time.NewTicker(killPause())
		defer tick.Stop()
		for {
			select {
			case <-end:
				done <- n
				return
			case <-tick.C:
			}
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			rows, err := c.Modstat(ctx)
			cancel()
			if err != nil {
				c.t.Errorf("modstat: %v", err)
				continue
			}
			for _, r := range rows {
				if r.Instance == instances[n%len(instances)] && r.State == "running" && r.Pid > 1 {
					syscall.Kill(r.Pid, syscall.SIGKILL)
					n++
					break
				}
			}
		}
	}()
	return func() int { close(end); return <-done }
}

// killedJob is a job of real programs in an empty directory of a mount.
type killedJob struct {
	name   string
	tools  []string
	script string // run by sh -e in the directory; $SRC is a tree with a Makefile
}

// fatRepo says to git what FAT cannot keep.
const fatRepo = "-c core.fileMode=false -c core.symlinks=false"

// killedJobs are those of issue 7. $CP copies as the file system can.
var killedJobs = []killedJob{
	{"tree", []string{"cp", "sha256sum"}, `$CP $SRC copy; cd $SRC; find . -type f -exec sha256sum {} + | sort >$TMP/want; cd - >/dev/null; cd copy; find . -type f -exec sha256sum {} + | sort >$TMP/got; cmp $TMP/want $TMP/got`},
	{"git", []string{"git"}, `git init -q repo; $CP $SRC/. repo; git $GITC -C repo add .; git $GITC -C repo commit -qm one; git $GITC clone -q --no-local repo clone; git $GITC -C clone fsck --full --strict; git $GITC -C repo fsck --full --strict; test -z "$(git $GITC -C clone status --porcelain)"`},
	{"build", []string{"make", "cc"}, `$CP $SRC/proj proj; make -s -C proj -j2; test "$(proj/prog)" = 120; make -C proj | grep -q "up to date"`},
	{"sqlite-wal", []string{"sqlite3"}, sqliteJob("wal")},
	{"sqlite-delete", []string{"sqlite3"}, sqliteJob("delete")},
	{"fio", []string{"fio"}, `fio --name=j --directory=$PWD --aux-path=$TMP --size=4M --rw=randrw --bs=512-64k --verify=crc32c --verify_state_save=0 --ioengine=psync --end_fsync=1 --minimal >$TMP/fio.out`},
}

func sqliteJob(mode string) string {
	return `sqlite3 t.db "pragma journal_mode=` + mode + `; create table t(a integer primary key, b text);" >/dev/null
for i in 1 2 3 4 5 6 7 8; do sqlite3 t.db "with recursive n(i) as (select 1 union all select i+1 from n where i < 100) insert into t(b) select hex(randomblob(50)) from n; begin; delete from t; rollback;"; done
test "$(sqlite3 t.db 'pragma integrity_check; select count(*) from t;' | tr '\n' ' ')" = "ok 800 "`
}

// sourceTree makes a C project of some files, and text to keep.
func sourceTree(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(shortDir(t), "src")
	put := func(name, text string) {
		t.Helper()
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	mk, sum, decl := "prog: main.o", "0", ""
	for i := range 16 {
		put(fmt.Sprintf("proj/f%d.c", i), fmt.Sprintf("int f%d(void) { return %d; }\n", i, i))
		mk += fmt.Sprintf(" f%d.o", i)
		sum += fmt.Sprintf(" + f%d()", i)
		decl += fmt.Sprintf("int f%d(void);\n", i)
	}
	put("proj/Makefile", mk+"\n\t$(CC) -o $@ $^\n%.o: %.c\n\t$(CC) -c -o $@ $<\n")
	put("proj/main.c", "#include <stdio.h>\n"+decl+"int main(void) { printf(\"%d\\n\", "+sum+"); return 0; }\n")
	for i := range 40 {
		put(fmt.Sprintf("text/dir %d/A long name of file %d", i%5, i), strings.Repeat(fmt.Sprintf("line of %d\n", i), 100*i))
	}
	return dir
}

// runPrograms runs them one after the other in dir, each in its own directory.
func runPrograms(t *testing.T, dir string, fat bool) {
	t.Helper()
	src := sourceTree(t)
	for _, p := range killedJobs {
		t.Run(p.name, func(t *testing.T) {
			for _, tool := range p.tools {
				if _, err := exec.LookPath(tool); err != nil {
					t.Skip("no " + tool)
				}
			}
			at, tmp := filepath.Join(dir, p.name), shortDir(t)
			if err := os.Mkdir(at, 0o755); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(context.Background(), 3*patience)
			defer cancel()
			cmd := exec.CommandContext(ctx, "sh", "-ec", p.script)
			cmd.Dir = at
			cmd.WaitDelay = 10 * time.Second
			cp, gitc := "cp -a", ""
			if fat {
				cp, gitc = "cp -r", fatRepo
			}
			cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "SRC=" + src, "TMP=" + tmp, "HOME=" + tmp, "CP=" + cp, "GITC=" + gitc, "LC_ALL=C", "GIT_CONFIG_NOSYSTEM=1",
				"GIT_AUTHOR_NAME=t", "GIT_AUTHOR_EMAIL=t", "GIT_COMMITTER_NAME=t", "GIT_COMMITTER_EMAIL=t"}
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// mountFuse mounts a directory of the kernel for the test, or skips it.
func (c *client) mountFuse(t *testing.T, path string) string {
	t.Helper()
	dir := filepath.Join(shortDir(t), "mnt")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if unix.Unmount(dir, unix.MNT_DETACH) == nil {
			t.Log("the mount was still there")
		}
	})
	c.must(c.SysctlSet(limited(t), "host.fuse.mount", fmt.Sprintf(`{"dir": %q, "path": %q}`, dir, path)))
	return dir
}

// needFuse skips a test where root does not mount.
func needFuse(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	if unix.Access("/dev/fuse", unix.R_OK|unix.W_OK) != nil {
		t.Skip("no /dev/fuse")
	}
}

// TestProgramsKilled: git, a build, sqlite, a copied tree and fio on the FUSE
// mount of a tmpfs, while the process of the file systems is killed again and
// again: no program notices.
func TestProgramsKilled(t *testing.T) {
	needFuse(t)
	h := boot(t, "components:\n  vfs: {restart: {budget: 1000, window: 300ms, wait: 60s}}\nmounts:\n  - {dir: /, type: tmpfs}\n")
	c := h.client()
	dir := c.mountFuse(t, "/")
	stop := c.killing("vfs")
	runPrograms(t, dir, false)
	if n := stop(); n == 0 {
		t.Error("nothing was killed")
	} else {
		t.Logf("%d kills", n)
	}
	c.must(c.SysctlSet(limited(t), "host.fuse.unmount", dir))
}

// TestProgramsOnFatKilled: the same on FAT on an encrypted disk on an image of
// the host, with the processes of the file systems and of the drivers killed in
// turn; then fsck finds nothing. FAT keeps no modes, owners or links: git is told
// so, cp does not try, and postgres, which wants a directory of its own, cannot.
func TestProgramsOnFatKilled(t *testing.T) {
	needFuse(t)
	for _, tool := range []string{"mkfs.vfat", "fsck.vfat"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("no " + tool)
		}
	}
	const size = 64 << 20
	dir := shortDir(t)
	plain, img := filepath.Join(dir, "plain"), filepath.Join(dir, "img")
	for _, p := range []string{plain, img} {
		if err := os.WriteFile(p, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(p, size); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("mkfs.vfat", "-F", "16", "-s", "4", plain).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.vfat: %v\n%s", err, out)
	}
	h := boot(t, `
components:
  vfs: {restart: {budget: 1000, window: 300ms, wait: 60s}}
  dev: {restart: {budget: 1000, window: 300ms, wait: 60s}}
devices:
  disk0: {etfs: "`+img+`"}
`)
	c := h.client()
	ctx := slowly(t)
	names, err := c.AttachDisk(ctx, "cgd", "disk0", bytes.Clone(cgdArg(t)))
	c.must(err)
	b, err := os.ReadFile(plain)
	c.must(err)
	copyDisk(t, ctx, c.Client, names[0], b, true)
	c.must(c.Mkdir(ctx, "/fat", 0o755))
	c.must(c.Mount(ctx, "msdos", "/fat", 0, names[0], nil))
	at := c.mountFuse(t, "/fat")
	stop := c.killing("vfs", "dev")
	runPrograms(t, at, true)
	if n := stop(); n == 0 {
		t.Error("nothing was killed")
	} else {
		t.Logf("%d kills", n)
	}
	c.must(c.SysctlSet(limited(t), "host.fuse.unmount", at))
	c.must(c.Unmount(ctx, "/fat", 0))
	copyDisk(t, ctx, c.Client, names[0], b, false)
	c.must(os.WriteFile(plain, b, 0o600))
	if out, err := exec.Command("fsck.vfat", "-n", "-V", plain).CombinedOutput(); err != nil {
		t.Errorf("fsck.vfat: %v\n%s", err, out)
	}
}

// copyDisk writes all of a disk, or reads it.
func copyDisk(t *testing.T, ctx context.Context, c *rumpclient.Client, name string, b []byte, write bool) {
	t.Helper()
	fd, err := c.Open(ctx, "/dev/"+name, abi.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(ctx, fd)
	for off := 0; off < len(b); {
		p, n := b[off:min(off+1<<20, len(b))], 0
		if write {
			n, err = c.Pwrite(ctx, fd, p, int64(off))
		} else {
			n, err = c.Pread(ctx, fd, p, int64(off))
		}
		if err != nil || n == 0 {
			t.Fatalf("disk %s at %d: %d, %v", name, off, n, err)
		}
		off += n
	}
	if write {
		if err := c.Fsync(ctx, fd); err != nil {
			t.Fatal(err)
		}
	}
}
