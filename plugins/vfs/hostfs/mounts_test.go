package hostfs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rumpus-kernel/rumpus/host/supervise"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// inNamespaceEnv says to the test binary that it has mounts of its own.
const inNamespaceEnv = "HOSTFS_TEST_MOUNTS"

// TestMountsInside runs TestInNamespace in a process with mounts of its own.
func TestMountsInside(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestInNamespace$", "-test.v", "-test.timeout=120s")
	cmd.Env = append(os.Environ(), inNamespaceEnv+"="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	var ran strings.Builder
	cmd.Stdout, cmd.Stderr = &ran, &ran
	if err := cmd.Start(); err != nil {
		t.Skip("mounts of one's own cannot be had:", err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, ran.String())
	}
	if _, why, skipped := strings.Cut(ran.String(), "--- SKIP"); skipped {
		t.Skip(why)
	}
}

// TestInNamespace is the part of TestMountsInside with mounts of its own.
func TestInNamespace(t *testing.T) {
	work := os.Getenv(inNamespaceEnv)
	if work == "" {
		t.Skip("only as a part of TestMountsInside")
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Skip("mounting is not allowed:", err)
	}
	r := mount(t)
	root := r.rootH()
	other := filepath.Join(work, "other")
	r.ok(os.MkdirAll(filepath.Join(other, "sub"), 0o755))
	r.ok(os.WriteFile(filepath.Join(other, "secret"), []byte("secret"), 0o644))
	d := r.mkdir(root, "d")
	below := r.file(d, "below", "below")
	file := r.file(root, "file", "file")
	same := r.mkdir(root, "same")
	r.mkdir(root, "fuse")
	bind := func(from, to string) {
		t.Helper()
		if err := unix.Mount(from, to, "", unix.MS_BIND, ""); err != nil {
			t.Skip("bind mounts are not allowed:", err)
		}
		t.Cleanup(func() { _ = unix.Unmount(to, unix.MNT_DETACH) })
	}
	// They appear while the file system is in use: a directory, a file, and one
	// of our own directories once more.
	bind(other, r.path("d"))
	bind(filepath.Join(other, "secret"), r.path("file"))
	bind(r.host, r.path("same"))

	t.Run("bind", func(t *testing.T) {
		for _, name := range []string{"d", "file", "same"} {
			for range 2 { // with what is open, and without
				if tr, e := r.lookup(root, name, "secret"); e != abi.EXDEV || len(tr) != 0 {
					t.Errorf("%s: %v %v", name, tr, e)
				}
				r.evictAll()
			}
		}
		if got := r.list(root, 4096); !slices.Contains(got, "d") || !slices.Contains(got, "same") {
			t.Error("the names are not listed:", got)
		}
		for what, err := range map[string]error{
			"rmdir":  second(r.Rmdir(ctx, vfsops.RemoveReq{Dir: root, Name: []byte("d"), Victim: d})),
			"remove": second(r.Remove(ctx, vfsops.RemoveReq{Dir: root, Name: []byte("file"), Victim: file})),
			"rename": second(r.Rename(ctx, vfsops.RenameReq{FDir: root, FName: []byte("d"), From: d, TDir: root, TName: []byte("x")})),
			// What is below the mount cannot be reached by its handle either, once closed.
			"list": second(r.Readdir(ctx, vfsops.ReaddirReq{Dir: d, Max: 4096})),
			"read": second(r.Read(ctx, below, 0, abi.IovOf(make([]byte, 9)))),
		} {
			if e := abi.ErrnoOf(err); e != abi.EXDEV {
				t.Errorf("%s: %v", what, err)
			}
		}
		for _, h := range []abi.Handle{d, same} {
			if _, err := r.Create(ctx, r.req(h, "made")); err == nil {
				t.Error("made a file on another mount")
			}
		}
		if ents, err := os.ReadDir(other); err != nil || len(ents) != 2 {
			t.Error(ents, err)
		}
	})

	// A FUSE mount whose server never answers, as ours would not to a component
	// that it waits for. Who asks it anything hangs.
	t.Run("export", func(t *testing.T) {
		dev, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Skip(err)
		}
		defer unix.Close(dev)
		at := r.path("fuse")
		data := fmt.Sprintf("fd=%d,rootmode=40000,user_id=%d,group_id=%d", dev, os.Getuid(), os.Getgid())
		if err := unix.Mount("rumpus", at, "fuse.rumpus", unix.MS_NOSUID|unix.MS_NODEV, data); err != nil {
			t.Skip("FUSE cannot be mounted:", err)
		}
		defer unix.Unmount(at, unix.MNT_DETACH)
		soon(t, "something of the export", func() {
			for range 2 {
				if tr, e := r.lookup(root, "fuse", "x"); e != abi.EXDEV || len(tr) != 0 {
					t.Error(tr, e)
				}
				r.evictAll()
			}
			if !slices.Contains(r.list(root, 4096), "fuse") {
				t.Error("not listed")
			}
			fd, err := unix.Open(at, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			if err != nil {
				t.Error(err)
				return
			}
			f := os.NewFile(uintptr(fd), at)
			defer f.Close()
			if _, err := newFS(1, f, options{fds: 16}); abi.ErrnoOf(err) != abi.ELOOP {
				t.Error("the export as a source:", err)
			}
			if _, _, err := supervise.OpenGrant("host.dir:"+at, os.Geteuid()); abi.ErrnoOf(err) != abi.ELOOP {
				t.Error("the export as a grant:", err)
			}
		})
	})
}

// TestOwnExport reads mountinfo.
func TestOwnExport(t *testing.T) {
	old := mountinfo
	defer func() { mountinfo = old }()
	dir, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	var st unix.Statx_t
	if err := statFd(int(dir.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	dev := fmt.Sprintf("%d:%d", st.Dev_major, st.Dev_minor)
	for line, want := range map[string]bool{
		"36 35 " + dev + " / /mnt rw,noatime master:1 - fuse.rumpus rumpus rw": true,
		"36 35 " + dev + " / /mnt rw - fuse.rumpus rumpus rw":                  true,
		"36 35 " + dev + " / /mnt rw - ext4 /dev/fuse.rumpus rw":               false,
		"36 35 " + dev + "9 / /mnt rw - fuse.rumpus rumpus rw":                 false,
		"36 35 0:999999 / /mnt rw - fuse.rumpus rumpus rw":                     false,
		"36 35 " + dev + " / /mnt\\040-\\040fuse.rumpus rw - tmpfs rumpus rw":  false,
		"": false, " - ": false, "- fuse.rumpus ": false, "1 2 - fuse.rumpus ": false,
	} {
		mountinfo = filepath.Join(t.TempDir(), "mountinfo")
		if err := os.WriteFile(mountinfo, []byte("1 1 9:9 / / rw - x y z\n"+line+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := ownExport(int(dir.Fd())); got != want {
			t.Errorf("%q: %v", line, got)
		}
	}
	mountinfo = filepath.Join(t.TempDir(), "none")
	if ownExport(int(dir.Fd())) || ownExport(-1) {
		t.Error("nothing known, and yet")
	}
}
