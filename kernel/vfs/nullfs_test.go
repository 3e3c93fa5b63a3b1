package vfs

import (
	"fmt"
	"testing"

	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// nullKern is a kernel with /a shown at /b.
func nullKern(t *testing.T, v variant) *kern {
	t.Helper()
	k := newKern(t, v, Options{})
	k.ok(k.AttachFS("", "nullfs", NullType{}, NullCaps))
	for _, d := range []string{"/a", "/b", "/c"} {
		k.ok(k.Mkdir(ctx, su(), d, 0o777))
		k.ok(k.Chmod(ctx, su(), d, 0o777, true))
	}
	k.null("/a", "/b", nil)
	return k
}

func (k *kern) null(from, to string, opts map[string]string) {
	k.t.Helper()
	_, err := k.Mount(ctx, su(), MountArgs{Type: "nullfs", Source: from, Dir: to, Options: opts})
	k.ok(err)
}

func eachNull(t *testing.T, fn func(t *testing.T, k *kern)) {
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) { fn(t, nullKern(t, v)) })
	}
}

// TestNullBothSides does everything at one place and sees it at the other, at
// once and in both directions.
func TestNullBothSides(t *testing.T) {
	eachNull(t, func(t *testing.T, k *kern) {
		for _, s := range [][2]string{{"/a", "/b"}, {"/b", "/a"}} {
			from, to := s[0], s[1]
			missing := func(p string) {
				t.Helper()
				_, err := k.Stat(ctx, su(), p, false)
				k.is(err, abi.ENOENT)
			}
			missing(to + "/f")
			k.write(from+"/f", "one")
			if got := k.read(to + "/f"); got != "one" {
				t.Fatalf("read %q", got)
			}
			k.write(from+"/f", "longer text")
			st, low := k.stat(to+"/f"), k.stat(from+"/f")
			if st.Size != 11 || st.Fileid != low.Fileid || st.Dev == low.Dev || k.read(to+"/f") != "longer text" {
				t.Fatalf("%+v, %+v", st, low)
			}
			k.ok(k.Truncate(ctx, su(), from+"/f", 4))
			k.ok(k.Chmod(ctx, su(), from+"/f", 0o640, true))
			k.ok(k.Chown(ctx, su(), from+"/f", 7, 8, true))
			k.ok(k.Utimens(ctx, su(), from+"/f", &[2]abi.Timespec{{Sec: 5}, {Sec: 6}}, true))
			if st := k.stat(to + "/f"); st.Size != 4 || st.Mode != 0o640 || st.Uid != 7 || st.Gid != 8 || st.Mtime.Sec != 6 || k.read(to+"/f") != "long" {
				t.Fatalf("after changes: %+v", st)
			}
			k.ok(k.Mkdir(ctx, su(), from+"/d", 0o755))
			k.ok(k.Mkdir(ctx, su(), from+"/d/e", 0o755))
			k.ok(k.Symlink(ctx, su(), "../f", from+"/d/l"))
			if got := k.read(to + "/d/l"); got != "long" {
				t.Fatalf("through a link: %q", got)
			}
			k.ok(k.Link(ctx, su(), from+"/f", su(), from+"/d/hard", false))
			if st := k.stat(to + "/f"); st.Nlink != 2 {
				t.Fatalf("nlink %d", st.Nlink)
			}
			k.ok(k.Rename(ctx, su(), from+"/f", su(), from+"/d/e/g", 0))
			missing(to + "/f")
			if got := k.read(to + "/d/e/g"); got != "long" {
				t.Fatalf("renamed: %q", got)
			}
			if got, want := len(k.ls(to+"/d")), len(k.ls(from+"/d")); got != want || got != 5 {
				t.Fatalf("%d entries, %d", got, want)
			}
			k.is(k.Rmdir(ctx, su(), to+"/d"), abi.ENOTEMPTY)
			k.is(k.Rename(ctx, su(), from+"/d/hard", su(), to+"/x", 0), abi.EXDEV)
			k.is(k.Link(ctx, su(), from+"/d/hard", su(), to+"/x", false), abi.EXDEV)
			k.is(k.Rename(ctx, su(), from+"/d", su(), from+"/d/e/x", 0), abi.EINVAL)
			for _, p := range []string{"/d/l", "/d/hard", "/d/e/g"} {
				k.ok(k.Unlink(ctx, su(), to+p, 0))
				missing(from + p)
			}
			k.ok(k.Rmdir(ctx, su(), to+"/d/e"))
			k.ok(k.Rmdir(ctx, su(), from+"/d"))
			missing(to + "/d")
		}
		k.ok(k.Unmount(ctx, su(), "/b", 0))
	})
}

func TestNullUnlinkedOpen(t *testing.T) {
	eachNull(t, func(t *testing.T, k *kern) {
		for _, s := range [][2]string{{"/a", "/b"}, {"/b", "/a"}, {"/b", "/b"}} {
			k.write("/a/f", "still here")
			f := k.open(s[0]+"/f", abi.O_RDWR)
			k.ok(k.Unlink(ctx, su(), s[1]+"/f", 0))
			k.write("/a/f", "another")
			if got := k.readFile(f); got != "still here" {
				t.Errorf("read %q", got)
			}
			_, err := f.Ops.Write(ctx, abi.KernelCaller, f, []byte("!"), 10)
			k.ok(err)
			if st, err := f.Ops.Stat(ctx, abi.KernelCaller, f); err != nil || st.Size != 11 || st.Nlink != 0 {
				t.Errorf("stat %+v, %v", st, err)
			}
			k.ok(f.Release(ctx))
			if got := k.read("/b/f"); got != "another" {
				t.Errorf("read %q", got)
			}
		}
	})
}

func TestNullLocks(t *testing.T) {
	k := nullKern(t, variants[0])
	k.write("/a/f", "x")
	lo, up := k.open("/a/f", abi.O_RDWR), k.open("/b/f", abi.O_RDWR)
	k.ok(k.Flock(ctx, abi.KernelCaller, lo, abi.LOCK_EX))
	k.is(k.Flock(ctx, abi.KernelCaller, up, abi.LOCK_EX|abi.LOCK_NB), abi.EAGAIN)
	k.ok(lo.Release(ctx))
	k.ok(k.Flock(ctx, abi.KernelCaller, up, abi.LOCK_EX|abi.LOCK_NB))
	k.ok(up.Release(ctx))
	lo = k.open("/a/f", abi.O_RDWR)
	k.ok(k.Flock(ctx, abi.KernelCaller, lo, abi.LOCK_EX|abi.LOCK_NB))
	// Holes are found below.
	k.ok(k.Ftruncate(ctx, abi.KernelCaller, lo, 1<<20))
	up = k.open("/b/f", abi.O_RDONLY)
	if n, err := up.Ops.Seek(ctx, abi.KernelCaller, up, 0, abi.SEEK_HOLE); n != 4096 || err != nil {
		t.Errorf("hole at %d, %v", n, err)
	}
	k.ok(lo.Release(ctx))
	k.ok(up.Release(ctx))
}

func TestNullMounts(t *testing.T) {
	k := nullKern(t, variants[0])
	mount := func(from, to string, opts map[string]string) error {
		_, err := k.Mount(ctx, su(), MountArgs{Type: "nullfs", Source: from, Dir: to, Options: opts})
		return err
	}
	k.write("/a/f", "x")
	k.ok(k.Mkdir(ctx, su(), "/a/sub", 0o755))
	for what, tc := range map[string]struct {
		err  error
		want abi.Errno
	}{
		"itself":          {mount("/c", "/c", nil), abi.EINVAL},
		"onto one below":  {mount("/a", "/a/sub", nil), abi.EINVAL},
		"onto one above":  {mount("/a/sub", "/a", nil), abi.EINVAL},
		"the root":        {mount("/", "/c", nil), abi.EINVAL},
		"a file":          {mount("/a/f", "/c", nil), abi.ENOTDIR},
		"missing":         {mount("/none", "/c", nil), abi.ENOENT},
		"no source":       {mount("", "/c", nil), abi.ENOENT},
		"unknown option":  {mount("/a", "/c", map[string]string{"x": ""}), abi.EINVAL},
		"umount of lower": {k.Unmount(ctx, su(), "/", 0), abi.EBUSY},
	} {
		if abi.ErrnoOf(tc.err) != tc.want {
			t.Errorf("%s: %v, want %s", what, tc.err, tc.want.Name())
		}
	}
	// Read-only above what can be written, and the other way round.
	k.null("/a", "/c", map[string]string{"ro": ""})
	_, err := k.Open(ctx, su(), "/c/f", abi.O_RDWR, 0)
	k.is(err, abi.EROFS)
	k.is(k.Mkdir(ctx, su(), "/c/x", 0o755), abi.EROFS)
	k.is(k.Unlink(ctx, su(), "/c/f", 0), abi.EROFS)
	k.is(k.Chmod(ctx, su(), "/c/f", 0o600, true), abi.EROFS)
	if got := k.read("/c/f"); got != "x" {
		t.Errorf("read %q", got)
	}
	// A lower mount of its own is busy as long as it is shown, and with a
	// writer above it cannot become read-only.
	k.ok(k.Mkdir(ctx, su(), "/own", 0o755))
	k.ok(k.Mkdir(ctx, su(), "/shown", 0o755))
	k.mount("/own")
	k.null("/own", "/shown", nil)
	k.write("/shown/g", "g")
	k.is(k.Unmount(ctx, su(), "/own", 0), abi.EBUSY)
	f := k.open("/shown/g", abi.O_RDWR)
	ro := MountArgs{Type: "mem", Dir: "/own", Flags: abi.MNT_UPDATE | abi.MNT_RDONLY}
	_, err = k.Mount(ctx, su(), ro)
	k.is(err, abi.EBUSY)
	k.is(k.Unmount(ctx, su(), "/shown", 0), abi.EBUSY)
	k.ok(f.Release(ctx))
	_, err = k.Mount(ctx, su(), ro)
	k.ok(err)
	_, err = k.Open(ctx, su(), "/shown/g", abi.O_RDWR, 0)
	k.is(err, abi.EROFS)
	k.is(k.Mkdir(ctx, su(), "/shown/x", 0o755), abi.EROFS)
	k.ok(k.Unmount(ctx, su(), "/shown", 0))
	k.ok(k.Unmount(ctx, su(), "/own", 0))
	// Not without end on one another.
	for i := range maxLayers {
		from, to := fmt.Sprintf("/s%d", i), fmt.Sprintf("/s%d", i+1)
		if i == 0 {
			k.ok(k.Mkdir(ctx, su(), from, 0o755))
		}
		k.ok(k.Mkdir(ctx, su(), to, 0o755))
		k.null(from, to, nil)
	}
	k.write(fmt.Sprintf("/s%d/f", maxLayers), "deep")
	if got := k.read("/s0/f"); got != "deep" {
		t.Errorf("read %q", got)
	}
	k.ok(k.Mkdir(ctx, su(), "/last", 0o755))
	k.is(mount(fmt.Sprintf("/s%d", maxLayers), "/last", nil), abi.ELOOP)
}

// TestNullPermissions asks as somebody who may not: what the lower file system
// says holds above.
func TestNullPermissions(t *testing.T) {
	eachNull(t, func(t *testing.T, k *kern) {
		k.write("/a/secret", "s")
		k.ok(k.Chmod(ctx, su(), "/a/secret", 0o600, true))
		k.ok(k.Chmod(ctx, su(), "/a", 0o1777, true))
		u := user(7)
		_, err := k.Open(ctx, u, "/b/secret", abi.O_RDONLY, 0)
		k.is(err, abi.EACCES)
		k.is(k.Unlink(ctx, u, "/b/secret", 0), abi.EPERM)
		k.is(k.Chmod(ctx, u, "/b/secret", 0o777, true), abi.EPERM)
		f, err := k.Open(ctx, u, "/b/mine", abi.O_CREAT|abi.O_EXCL|abi.O_RDWR, 0o640)
		k.ok(err)
		n, err := f.Ops.Write(ctx, u.Caller, f, []byte("abc"), file.Cur)
		k.ok(err)
		k.ok(f.Release(ctx))
		if st := k.stat("/a/mine"); n != 3 || st.Uid != 7 || st.Mode != 0o640 || st.Size != 3 {
			t.Errorf("made %+v", st)
		}
		k.ok(k.Chmod(ctx, su(), "/a", 0o700, true))
		_, err = k.Stat(ctx, u, "/b/mine", true)
		k.is(err, abi.EACCES)
	})
}
