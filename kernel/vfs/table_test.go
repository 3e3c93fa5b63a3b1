package vfs

import (
	"strings"
	"testing"

	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// tree makes what the table below acts on, as root:
//
//	/d 0755     /d/f 0644 "data"   /d/sub 0755   /d/full/x
//	/l -> d/f   /ld -> d   /dangling -> nowhere   /loop -> loop
//	/priv 0700  /sticky 01777, /sticky/rootf
//	/own 0777   /own/mine, owned by 7     /suid 04755, owned by 7
//	/pipe fifo  /sock socket  /null device
//	/mnt, a mount point
func (k *kern) tree() {
	k.t.Helper()
	for _, d := range []string{"/d", "/d/sub", "/d/full", "/priv", "/sticky", "/own", "/mnt"} {
		k.ok(k.Mkdir(ctx, su(), d, 0o755))
	}
	k.write("/d/f", "data")
	k.write("/d/full/x", "")
	for l, t := range map[string]string{"/l": "d/f", "/ld": "d", "/dangling": "nowhere", "/loop": "loop", "/abs": "/d/f"} {
		k.ok(k.Symlink(ctx, su(), t, l))
	}
	k.write("/priv/f", "secret")
	k.ok(k.Chmod(ctx, su(), "/priv", 0o700, true))
	k.ok(k.Chmod(ctx, su(), "/sticky", 0o1777, true))
	k.write("/sticky/rootf", "")
	k.ok(k.Chmod(ctx, su(), "/own", 0o777, true))
	k.write("/own/mine", "m")
	k.ok(k.Chown(ctx, su(), "/own/mine", 7, 7, true))
	k.write("/suid", "s")
	k.ok(k.Chown(ctx, su(), "/suid", 7, 7, true))
	k.ok(k.Chmod(ctx, su(), "/suid", 0o4755, true))
	k.ok(k.Mkfifo(ctx, su(), "/pipe", 0o666))
	k.ok(k.Mknod(ctx, su(), "/sock", abi.S_IFSOCK|0o666, 0))
	k.ok(k.Mknod(ctx, su(), "/null", abi.S_IFCHR|0o666, abi.Makedev(2, 2)))
	k.mount("/mnt")
}

func TestTable(t *testing.T) {
	long := strings.Repeat("n", 256)
	deep := strings.Repeat("x/", 520)
	u7 := user(7)
	open := func(w Where, p string, fl int) func(k *kern) error {
		return func(k *kern) error {
			f, err := k.Open(ctx, w, p, fl, 0o666)
			if err == nil {
				f.Release(ctx)
			}
			return err
		}
	}
	stat := func(w Where, p string, follow bool) func(k *kern) error {
		return func(k *kern) error { _, err := k.Stat(ctx, w, p, follow); return err }
	}
	mkdir := func(w Where, p string) func(k *kern) error {
		return func(k *kern) error { return k.Mkdir(ctx, w, p, 0o777) }
	}
	unlink := func(w Where, p string) func(k *kern) error {
		return func(k *kern) error { return k.Unlink(ctx, w, p, 0) }
	}
	rmdir := func(w Where, p string) func(k *kern) error {
		return func(k *kern) error { return k.Rmdir(ctx, w, p) }
	}
	rename := func(w Where, a, b string) func(k *kern) error {
		return func(k *kern) error { return k.Rename(ctx, w, a, w, b, 0) }
	}
	link := func(w Where, a, b string) func(k *kern) error {
		return func(k *kern) error { return k.Link(ctx, w, a, w, b, false) }
	}
	const creat = abi.O_CREAT | abi.O_RDWR
	for _, tc := range []struct {
		name string
		op   func(k *kern) error
		want abi.Errno
	}{
		{"stat empty path", stat(su(), "", true), abi.ENOENT},
		{"stat NUL in path", stat(su(), "/d\x00", true), abi.EINVAL},
		{"stat long path", stat(su(), "/"+deep, true), abi.ENAMETOOLONG},
		{"stat long name", stat(su(), "/d/"+long, true), abi.ENAMETOOLONG},
		{"stat long name below nothing", stat(su(), "/nothing/"+long, true), abi.ENOENT},
		{"stat root", stat(su(), "/", true), 0},
		{"stat many slashes", stat(su(), "//d///f", true), 0},
		{"stat .. above root", stat(su(), "/../../d/f", true), 0},
		{"stat file with slash", stat(su(), "/d/f/", true), abi.ENOTDIR},
		{"stat below file", stat(su(), "/d/f/x", true), abi.ENOTDIR},
		{"stat . of file", stat(su(), "/d/f/.", true), abi.ENOTDIR},
		{"stat .. of file", stat(su(), "/d/f/..", true), abi.ENOTDIR},
		{"stat dir with slash", stat(su(), "/d/", true), 0},
		{"stat link", stat(su(), "/l", true), 0},
		{"stat absolute link", stat(su(), "/abs", true), 0},
		{"stat through link", stat(su(), "/ld/sub/../f", true), 0},
		{"stat dangling", stat(su(), "/dangling", true), abi.ENOENT},
		{"lstat dangling", stat(su(), "/dangling", false), 0},
		{"lstat dangling with slash", stat(su(), "/dangling/", false), abi.ENOENT},
		{"lstat link to dir with slash", stat(su(), "/ld/", false), 0},
		{"stat loop", stat(su(), "/loop", true), abi.ELOOP},
		{"stat loop inside", stat(su(), "/loop/x", false), abi.ELOOP},
		{"stat without search permission", stat(u7, "/priv/f", true), abi.EACCES},
		{"stat missing without search permission", stat(u7, "/priv/none", true), abi.EACCES},
		{"stat of the directory itself", stat(u7, "/priv", true), 0},

		{"open missing", open(su(), "/none", abi.O_RDONLY), abi.ENOENT},
		{"open bad mode", open(su(), "/d/f", abi.O_ACCMODE), abi.EINVAL},
		{"open dir for writing", open(su(), "/d", abi.O_RDWR), abi.EISDIR},
		{"open dir", open(su(), "/d", abi.O_RDONLY), 0},
		{"open dir creating", open(su(), "/d", abi.O_CREAT), abi.EISDIR},
		{"open root creating", open(su(), "/", creat), abi.EISDIR},
		{"open directory flag on file", open(su(), "/d/f", abi.O_DIRECTORY), abi.ENOTDIR},
		{"open creat and directory", open(su(), "/new", abi.O_CREAT|abi.O_DIRECTORY), abi.EINVAL},
		{"open nofollow", open(su(), "/l", abi.O_NOFOLLOW), abi.ELOOP},
		{"open regular on dir", open(su(), "/d", abi.O_REGULAR), abi.EFTYPE},
		{"open create", open(su(), "/d/new", creat), 0},
		{"open create in missing", open(su(), "/none/new", creat), abi.ENOENT},
		{"open create with slash", open(su(), "/d/new/", creat), abi.EISDIR},
		{"open create below file", open(su(), "/d/f/new", creat), abi.ENOTDIR},
		{"open create existing with slash", open(su(), "/d/f/", creat), abi.ENOTDIR},
		{"open excl existing", open(su(), "/d/f", creat|abi.O_EXCL), abi.EEXIST},
		{"open excl link", open(su(), "/dangling", creat|abi.O_EXCL), abi.EEXIST},
		{"open create through dangling link", open(su(), "/dangling", creat), 0},
		{"open create through loop", open(su(), "/loop", creat), abi.ELOOP},
		{"open create nofollow link", open(su(), "/l", creat|abi.O_NOFOLLOW), abi.ELOOP},
		{"open create long", open(su(), "/d/"+long, creat), abi.ENAMETOOLONG},
		{"open create denied", open(u7, "/d/new", creat), abi.EACCES},
		{"open write denied", open(u7, "/d/f", abi.O_WRONLY), abi.EACCES},
		{"open trunc denied", open(u7, "/d/f", abi.O_RDONLY|abi.O_TRUNC), abi.EACCES},
		{"open read allowed", open(u7, "/d/f", abi.O_RDONLY), 0},
		{"open own", open(u7, "/own/mine", abi.O_RDWR), 0},
		{"open socket", open(su(), "/sock", abi.O_RDWR), abi.EOPNOTSUPP},
		{"open fifo without a layer", open(su(), "/pipe", abi.O_RDWR), abi.EOPNOTSUPP},
		{"open device without a layer", open(su(), "/null", abi.O_RDWR), abi.ENXIO},
		{"open exec of no x", open(su(), "/d/f", abi.O_EXEC), abi.EACCES},

		{"mkdir", mkdir(su(), "/new"), 0},
		{"mkdir with slash", mkdir(su(), "/new/"), 0},
		{"mkdir existing", mkdir(su(), "/d"), abi.EEXIST},
		{"mkdir existing file", mkdir(su(), "/d/f"), abi.EEXIST},
		{"mkdir over dangling link", mkdir(su(), "/dangling"), abi.EEXIST},
		{"mkdir root", mkdir(su(), "/"), abi.EEXIST},
		{"mkdir .", mkdir(su(), "/d/."), abi.EEXIST},
		{"mkdir denied", mkdir(u7, "/d/new"), abi.EACCES},
		{"mkdir existing denied", mkdir(u7, "/d/sub"), abi.EEXIST},
		{"mkdir in missing", mkdir(su(), "/no/new"), abi.ENOENT},
		{"mkdir below file", mkdir(su(), "/d/f/new"), abi.ENOTDIR},
		{"mkdir long", mkdir(su(), "/"+long), abi.ENAMETOOLONG},

		{"unlink", unlink(su(), "/d/f"), 0},
		{"unlink missing", unlink(su(), "/none"), abi.ENOENT},
		{"unlink directory", unlink(su(), "/d/sub"), abi.EPERM},
		{"unlink .", unlink(su(), "/d/."), abi.EPERM},
		{"unlink root", unlink(su(), "/"), abi.EBUSY},
		{"unlink with slash", unlink(su(), "/d/f/"), abi.ENOTDIR},
		{"unlink link", unlink(su(), "/ld"), 0},
		{"unlink denied", unlink(u7, "/d/f"), abi.EACCES},
		{"unlink in sticky", unlink(u7, "/sticky/rootf"), abi.EPERM},
		{"unlink in sticky as root", unlink(su(), "/sticky/rootf"), 0},
		{"unlink in open directory", unlink(u7, "/own/mine"), 0},
		{"unlink mount point", unlink(su(), "/mnt"), abi.EBUSY},

		{"rmdir", rmdir(su(), "/d/sub"), 0},
		{"rmdir full", rmdir(su(), "/d/full"), abi.ENOTEMPTY},
		{"rmdir file", rmdir(su(), "/d/f"), abi.ENOTDIR},
		{"rmdir link to dir", rmdir(su(), "/ld"), abi.ENOTDIR},
		{"rmdir .", rmdir(su(), "/d/sub/."), abi.EINVAL},
		{"rmdir ..", rmdir(su(), "/d/sub/.."), abi.ENOTEMPTY},
		{"rmdir root", rmdir(su(), "/"), abi.EBUSY},
		{"rmdir mount point", rmdir(su(), "/mnt"), abi.EBUSY},
		{"rmdir missing", rmdir(su(), "/none"), abi.ENOENT},
		{"rmdir denied", rmdir(u7, "/d/sub"), abi.EACCES},

		{"rename", rename(su(), "/d/f", "/g"), 0},
		{"rename over file", rename(su(), "/d/f", "/own/mine"), 0},
		{"rename to itself", rename(su(), "/d/f", "/d/f"), 0},
		{"rename missing", rename(su(), "/none", "/g"), abi.ENOENT},
		{"rename into missing", rename(su(), "/d/f", "/none/g"), abi.ENOENT},
		{"rename dir", rename(su(), "/d", "/e"), 0},
		{"rename dir with slash", rename(su(), "/d/", "/e/"), 0},
		{"rename file with slash", rename(su(), "/d/f", "/g/"), abi.ENOTDIR},
		{"rename dir into itself", rename(su(), "/d", "/d/x"), abi.EINVAL},
		{"rename dir below itself", rename(su(), "/d", "/d/sub/x"), abi.EINVAL},
		{"rename dir over parent", rename(su(), "/d/sub", "/d"), abi.ENOTEMPTY},
		{"rename file over parent", rename(su(), "/d/f", "/d"), abi.EISDIR},
		{"rename dir over empty", rename(su(), "/d/full", "/d/sub"), 0},
		{"rename dir over full", rename(su(), "/d/sub", "/d/full"), abi.ENOTEMPTY},
		{"rename dir over file", rename(su(), "/d/sub", "/d/f"), abi.ENOTDIR},
		{"rename file over dir", rename(su(), "/d/f", "/d/sub"), abi.EISDIR},
		{"rename .", rename(su(), "/d/.", "/e"), abi.EINVAL},
		{"rename to ..", rename(su(), "/d/sub", "/d/.."), abi.EINVAL},
		{"rename over mounts", rename(su(), "/d/f", "/mnt/f"), abi.EXDEV},
		{"rename mount point to another mount", rename(su(), "/mnt", "/mnt/x"), abi.EBUSY},
		{"rename from another mount onto mount point", rename(su(), "/mnt/nothing", "/mnt"), abi.EBUSY},
		{"rename mount point", rename(su(), "/mnt", "/m2"), abi.EBUSY},
		{"rename over mount point", rename(su(), "/d/sub", "/mnt"), abi.EBUSY},
		{"rename denied", rename(u7, "/own/mine", "/d/x"), abi.EACCES},
		{"rename sticky", rename(u7, "/sticky/rootf", "/own/x"), abi.EPERM},
		{"rename own", rename(u7, "/own/mine", "/sticky/x"), 0},
		{"rename noreplace", func(k *kern) error {
			return k.Rename(ctx, su(), "/d/f", su(), "/own/mine", abi.RENAME_NOREPLACE)
		}, abi.EEXIST},
		{"rename exchange", func(k *kern) error {
			return k.Rename(ctx, su(), "/d/f", su(), "/d/sub", abi.RENAME_EXCHANGE)
		}, 0},
		{"rename exchange missing", func(k *kern) error {
			return k.Rename(ctx, su(), "/d/f", su(), "/none", abi.RENAME_EXCHANGE)
		}, abi.ENOENT},
		{"rename exchange with parent", func(k *kern) error {
			return k.Rename(ctx, su(), "/d/sub", su(), "/d", abi.RENAME_EXCHANGE)
		}, abi.EINVAL},
		{"rename bad flags", func(k *kern) error { return k.Rename(ctx, su(), "/d/f", su(), "/g", 8) }, abi.EINVAL},

		{"link", link(su(), "/d/f", "/g"), 0},
		{"link directory", link(su(), "/d", "/g"), abi.EPERM},
		{"link existing", link(su(), "/d/f", "/own/mine"), abi.EEXIST},
		{"link over mounts", link(su(), "/d/f", "/mnt/g"), abi.EXDEV},
		{"link with slash", link(su(), "/d/f", "/g/"), abi.ENOENT},
		{"link denied", link(u7, "/d/f", "/d/g"), abi.EACCES},
		{"link link", link(su(), "/l", "/l2"), 0},

		{"symlink", func(k *kern) error { return k.Symlink(ctx, su(), "t", "/s") }, 0},
		{"symlink empty", func(k *kern) error { return k.Symlink(ctx, su(), "", "/s") }, abi.ENOENT},
		{"symlink long", func(k *kern) error { return k.Symlink(ctx, su(), deep, "/s") }, abi.ENAMETOOLONG},
		{"symlink existing", func(k *kern) error { return k.Symlink(ctx, su(), "t", "/l") }, abi.EEXIST},
		{"symlink denied", func(k *kern) error { return k.Symlink(ctx, u7, "t", "/d/s") }, abi.EACCES},
		{"readlink", func(k *kern) error { _, err := k.Readlink(ctx, su(), "/l"); return err }, 0},
		{"readlink file", func(k *kern) error { _, err := k.Readlink(ctx, su(), "/d/f"); return err }, abi.EINVAL},

		{"mknod device as user", func(k *kern) error { return k.Mknod(ctx, u7, "/own/n", abi.S_IFCHR|0o666, 1) }, abi.EPERM},
		{"mknod fifo as user", func(k *kern) error { return k.Mkfifo(ctx, u7, "/own/n", 0o666) }, 0},
		{"mknod directory", func(k *kern) error { return k.Mknod(ctx, su(), "/own/n", abi.S_IFDIR|0o666, 1) }, abi.EINVAL},

		{"chmod other's", func(k *kern) error { return k.Chmod(ctx, u7, "/d/f", 0o777, true) }, abi.EPERM},
		{"chmod own", func(k *kern) error { return k.Chmod(ctx, u7, "/own/mine", 0o600, true) }, 0},
		{"chmod own sticky", func(k *kern) error { return k.Chmod(ctx, u7, "/own/mine", 0o1600, true) }, abi.EFTYPE},
		{"chown give away", func(k *kern) error { return k.Chown(ctx, u7, "/own/mine", 8, NoID, true) }, abi.EPERM},
		{"chown own group", func(k *kern) error { return k.Chown(ctx, u7, "/own/mine", NoID, 7, true) }, 0},
		{"chown foreign group", func(k *kern) error { return k.Chown(ctx, u7, "/own/mine", NoID, 9, true) }, abi.EPERM},
		{"utimes now other's", func(k *kern) error { return k.Utimens(ctx, u7, "/d/f", nil, true) }, abi.EACCES},
		{"utimes other's", func(k *kern) error { return k.Utimens(ctx, u7, "/d/f", &[2]abi.Timespec{}, true) }, abi.EPERM},
		{"utimes bad", func(k *kern) error {
			return k.Utimens(ctx, su(), "/d/f", &[2]abi.Timespec{{Nsec: -1}}, true)
		}, abi.EINVAL},
		{"truncate negative", func(k *kern) error { return k.Truncate(ctx, su(), "/d/f", -1) }, abi.EINVAL},
		{"truncate dir", func(k *kern) error { return k.Truncate(ctx, su(), "/d", 0) }, abi.EISDIR},
		{"truncate huge", func(k *kern) error { return k.Truncate(ctx, su(), "/d/f", 1<<63-1) }, abi.EFBIG},
		{"truncate denied", func(k *kern) error { return k.Truncate(ctx, u7, "/d/f", 0) }, abi.EACCES},
		{"access read", func(k *kern) error { return k.Access(ctx, u7, "/d/f", abi.R_OK, 0) }, 0},
		{"access write", func(k *kern) error { return k.Access(ctx, u7, "/d/f", abi.W_OK, 0) }, abi.EACCES},
		{"access bad", func(k *kern) error { return k.Access(ctx, u7, "/d/f", 8, 0) }, abi.EINVAL},
		{"access real id", func(k *kern) error {
			c := abi.NewCred(0, 0)
			c.Ruid = 7
			return k.Access(ctx, Where{Caller: &abi.Caller{Cred: c}}, "/priv/f", abi.R_OK, 0)
		}, abi.EACCES},
		{"chdir file", func(k *kern) error {
			w := su()
			w.Cwd = NewCwdinfo()
			return k.Chdir(ctx, w, "/d/f")
		}, abi.ENOTDIR},
		{"chdir denied", func(k *kern) error {
			w := u7
			w.Cwd = NewCwdinfo()
			return k.Chdir(ctx, w, "/priv")
		}, abi.EACCES},
		{"chroot denied", func(k *kern) error { return k.Chroot(ctx, u7, "/d") }, abi.EPERM},
		{"mount denied", func(k *kern) error {
			_, err := k.Mount(ctx, u7, MountArgs{Type: "mem", Dir: "/d"})
			return err
		}, abi.EPERM},
		{"mount unknown type", func(k *kern) error {
			_, err := k.Mount(ctx, su(), MountArgs{Type: "nofs", Dir: "/d"})
			return err
		}, abi.ENODEV},
		{"mount on file", func(k *kern) error {
			_, err := k.Mount(ctx, su(), MountArgs{Type: "mem", Dir: "/d/f"})
			return err
		}, abi.ENOTDIR},
		{"mount bad option", func(k *kern) error {
			_, err := k.Mount(ctx, su(), MountArgs{Type: "mem", Dir: "/d", Options: map[string]string{"what": "1"}})
			return err
		}, abi.EINVAL},
		{"mount bad flag value", func(k *kern) error {
			_, err := k.Mount(ctx, su(), MountArgs{Type: "mem", Dir: "/d", Options: map[string]string{"ro": "maybe"}})
			return err
		}, abi.EINVAL},
		{"unmount no mount point", func(k *kern) error { return k.Unmount(ctx, su(), "/d", 0) }, abi.EINVAL},
		{"unmount root below a mount", func(k *kern) error { return k.Unmount(ctx, su(), "/", 0) }, abi.EBUSY},
	} {
		for _, v := range variants {
			t.Run(tc.name+"/"+v.name, func(t *testing.T) {
				k := newKern(t, v, Options{})
				k.tree()
				if got := abi.ErrnoOf(tc.op(k)); got != tc.want {
					t.Errorf("got %s, want %s", got.Name(), tc.want.Name())
				}
				// What was found once is found again, whatever the caches say.
				got := k.ls("/")
				k.nc.purge()
				for _, d := range got {
					if st := k.stat("/" + d.Name); d.Name != "mnt" && st.Fileid != d.Fileid && d.Name != ".." {
						t.Errorf("%s is %d, listed as %d", d.Name, st.Fileid, d.Fileid)
					}
				}
			})
		}
	}
}

func TestModesAndOwners(t *testing.T) {
	each(t, func(t *testing.T, k *kern) {
		k.tree()
		w := user(7)
		w.Cwd = NewCwdinfo()
		w.Cwd.Umask(0o027)
		k.ok(k.Chown(ctx, su(), "/own", 0, 33, true))
		f, err := k.Open(ctx, w, "/own/n", abi.O_CREAT|abi.O_RDWR, 0o7777)
		k.ok(err)
		f.Release(ctx)
		// The group is the directory's, no set-group-id for a stranger to it,
		// no sticky file, and the umask applies.
		if st := k.stat("/own/n"); st.Uid != 7 || st.Gid != 33 || st.Mode != 0o4750 {
			t.Errorf("created %d:%d %o", st.Uid, st.Gid, st.Mode)
		}
		k.ok(k.Mkdir(ctx, w, "/own/dir", 0o1777))
		if st := k.stat("/own/dir"); st.Mode != 0o750 || st.Gid != 33 || st.Nlink != 2 {
			t.Errorf("made %o, group %d, nlink %d", st.Mode, st.Gid, st.Nlink)
		}
		if st := k.stat("/own"); st.Nlink != 3 {
			t.Errorf("nlink %d of a directory with one below", st.Nlink)
		}
		// Set-id bits go when another writes, and when its owner chowns.
		k.ok(k.Chmod(ctx, su(), "/suid", 0o6777, true))
		f, err = k.Open(ctx, user(8), "/suid", abi.O_WRONLY, 0)
		k.ok(err)
		_, err = f.Ops.Write(ctx, user(8).Caller, f, []byte("x"), 0)
		k.ok(err)
		k.ok(f.Release(ctx))
		if st := k.stat("/suid"); st.Mode != 0o777 {
			t.Errorf("mode %o after a write", st.Mode)
		}
		k.ok(k.Chmod(ctx, su(), "/suid", 0o4755, true))
		k.ok(k.Chown(ctx, user(7), "/suid", 7, 7, true))
		if st := k.stat("/suid"); st.Mode != 0o755 {
			t.Errorf("mode %o after a chown", st.Mode)
		}
		k.ok(k.Chmod(ctx, su(), "/suid", 0o4755, true))
		k.ok(k.Chown(ctx, su(), "/suid", 9, 9, true))
		if st := k.stat("/suid"); st.Mode != 0o4755 || st.Uid != 9 {
			t.Errorf("mode %o, owner %d after a chown by root", st.Mode, st.Uid)
		}
		k.is(k.Chflags(ctx, user(7), "/own/mine", abi.SF_IMMUTABLE, true), abi.EPERM)
		k.ok(k.Chflags(ctx, user(7), "/own/mine", abi.UF_IMMUTABLE, true))
		k.is(k.Unlink(ctx, su(), "/own/mine", 0), abi.EPERM)
		_, err = k.Open(ctx, su(), "/own/mine", abi.O_WRONLY, 0)
		k.is(err, abi.EPERM)
	})
}

func TestUnlinkedOpen(t *testing.T) {
	each(t, func(t *testing.T, k *kern) {
		k.write("/f", "still here")
		f := k.open("/f", abi.O_RDWR)
		k.ok(k.Unlink(ctx, su(), "/f", 0))
		k.write("/f", "another")
		if got := k.readFile(f); got != "still here" {
			t.Errorf("read %q", got)
		}
		_, err := f.Ops.Write(ctx, abi.KernelCaller, f, []byte("!"), 10)
		k.ok(err)
		if st, err := f.Ops.Stat(ctx, abi.KernelCaller, f); err != nil || st.Nlink != 0 || st.Size != 11 {
			t.Errorf("stat %+v, %v", st, err)
		}
		nodes := 0
		if k.fs() != nil {
			nodes = len(k.fs().nodes)
		}
		k.ok(f.Release(ctx))
		for _, m := range k.mounts {
			m.unpinNow() // nobody waits for that
		}
		if k.fs() != nil && len(k.fs().nodes) != nodes-1 {
			t.Error("the node is still there after the last close")
		}
		if got := k.read("/f"); got != "another" {
			t.Errorf("read %q", got)
		}
		// The same when it is replaced.
		k.write("/g", "new")
		f = k.open("/f", abi.O_RDONLY)
		k.ok(k.Rename(ctx, su(), "/g", su(), "/f", 0))
		if got := k.readFile(f); got != "another" {
			t.Errorf("read %q of the replaced file", got)
		}
		k.ok(f.Release(ctx))
		// And a current directory that is removed.
		w := su()
		w.Cwd = NewCwdinfo()
		k.ok(k.Mkdir(ctx, su(), "/d", 0o755))
		k.ok(k.Chdir(ctx, w, "/d"))
		k.ok(k.Rmdir(ctx, su(), "/d"))
		_, err = k.Getcwd(ctx, w)
		k.is(err, abi.ENOENT)
		k.is(k.Mkdir(ctx, w, "x", 0o755), abi.ENOENT)
		_, err = k.Stat(ctx, w, "..", true)
		k.is(err, abi.ENOENT)
		k.ok(k.Chdir(ctx, w, "/"))
		w.Cwd.Release()
	})
}

func TestOffsets(t *testing.T) {
	each(t, func(t *testing.T, k *kern) {
		c := abi.KernelCaller
		f := k.open("/f", abi.O_RDWR|abi.O_CREAT)
		w := func(s string, off int64) {
			t.Helper()
			_, err := f.Ops.Write(ctx, c, f, []byte(s), off)
			k.ok(err)
		}
		w("abc", file.Cur)
		w("def", file.Cur)
		w("X", 1)
		if got := k.readFile(f); got != "aXcdef" {
			t.Fatalf("read %q", got)
		}
		seek := func(off int64, whence int) (int64, error) { return f.Ops.Seek(ctx, c, f, off, whence) }
		if n, err := seek(-2, abi.SEEK_END); n != 4 || err != nil {
			t.Fatalf("seek to the end: %d, %v", n, err)
		}
		b := make([]byte, 10)
		if n, err := f.Ops.Read(ctx, c, f, b, file.Cur); n != 2 || err != nil {
			t.Fatalf("read %d, %v", n, err)
		}
		_, err := seek(-7, abi.SEEK_CUR)
		k.is(err, abi.EINVAL)
		_, err = seek(1<<63-1, abi.SEEK_END)
		k.is(err, abi.EOVERFLOW)
		_, err = seek(0, 9)
		k.is(err, abi.EINVAL)
		// A hole, and what comes back when the file shrinks and grows.
		w("tail", 10000)
		b = make([]byte, 10004)
		if n, err := f.Ops.Read(ctx, c, f, b, 0); n != 10004 || err != nil || b[6] != 0 || b[9999] != 0 || string(b[10000:]) != "tail" {
			t.Fatalf("hole: %d, %v", n, err)
		}
		k.ok(k.Ftruncate(ctx, c, f, 3))
		k.ok(k.Ftruncate(ctx, c, f, 5000))
		if n, err := f.Ops.Read(ctx, c, f, b, 0); n != 5000 || err != nil || string(b[:4]) != "aXc\x00" || b[4097] != 0 {
			t.Fatalf("after truncate: %d, %v, %q", n, err, b[:4])
		}
		k.ok(f.Release(ctx))
		// Appending goes to the end, whatever the offset says.
		f = k.open("/f", abi.O_RDWR|abi.O_APPEND|abi.O_TRUNC)
		w("1", file.Cur)
		w("2", 0)
		if n, _ := seek(0, abi.SEEK_CUR); n != 1 {
			t.Errorf("offset %d", n)
		}
		w("3", file.Cur)
		if got := k.readFile(f); got != "123" {
			t.Errorf("appended %q", got)
		}
		k.ok(f.Release(ctx))
		d := k.open("/", abi.O_RDONLY)
		_, err = d.Ops.Read(ctx, c, d, b, 0)
		k.is(err, abi.EISDIR)
		k.ok(d.Release(ctx))
	})
}
