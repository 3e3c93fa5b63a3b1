package posixtest

import (
	"fmt"
	"sort"
	"strings"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

var errUnlinkDir = differ(abi.EPERM, abi.EISDIR, "POSIX has EPERM for unlink of a directory, Linux EISDIR")

var _ = group("mkdir and rmdir",
	Case{Name: "mkdir", Run: func(p *P) {
		p.mkdir("d", 0o755)
		st := p.stat("d")
		eq(p, "type", st.Type, abi.VDIR)
		p.mode("d", 0o755)
		eq(p, "names", len(p.ls("d")), 0)
	}},
	Case{Name: "mkdir with a slash", Run: func(p *P) {
		p.mkdir("d/", 0o755)
		p.mkdir("e//", 0o755)
		p.stat("d")
		p.stat("e")
	}},
	Case{Name: "mkdir of what is there", Run: func(p *P) {
		p.mkdir("d", 0o755)
		p.file("f", "")
		p.symlink("none", "l")
		for _, n := range []string{"d", "d/", "f", "l", ".", "..", "d/.", "/"} {
			p.mkdir(n, 0o755, abi.EEXIST)
		}
		p.gone("none")
	}},
	Case{Name: "mkdir in what is no directory", Run: func(p *P) {
		p.file("f", "")
		p.mkdir("f/d", 0o755, abi.ENOTDIR)
		p.mkdir("none/d", 0o755, abi.ENOENT)
	}},
	Case{Name: "links of directories", Needs: "dirlinks", Run: func(p *P) {
		p.mkdir("d", 0o755)
		p.nlink("d", 2)
		p.mkdir("d/a", 0o755)
		p.mkdir("d/b", 0o755)
		p.nlink("d", 4)
		p.file("d/f", "")
		p.nlink("d", 4)
		p.rmdir("d/a")
		p.nlink("d", 3)
		p.mkdir("e", 0o755)
		p.rename("d/b", "e/b")
		p.nlink("d", 2)
		p.nlink("e", 3)
	}},
	Case{Name: "rmdir", Run: func(p *P) {
		p.mkdir("d", 0o755)
		p.rmdir("d")
		p.gone("d")
		p.mkdir("d", 0o755)
		p.rmdir("d/")
		p.gone("d")
	}},
	Case{Name: "rmdir of a full directory", Run: func(p *P) {
		p.mkdir("d", 0o755)
		for _, make := range []func(){
			func() { p.file("d/x", "") }, func() { p.symlink("t", "d/x") }, func() { p.mkfifo("d/x", 0o644) },
		} {
			make()
			p.rmdir("d", either(abi.ENOTEMPTY, abi.EEXIST))
			p.unlink("d/x")
		}
		p.mkdir("d/x", 0o755)
		p.rmdir("d", either(abi.ENOTEMPTY, abi.EEXIST))
		p.rmdir("d/x")
		p.rmdir("d")
	}},
	Case{Name: "rmdir of what is no directory", Run: func(p *P) {
		p.file("f", "")
		p.mkdir("d", 0o755)
		p.symlink("d", "l")
		p.mkfifo("p", 0o644)
		p.rmdir("f", abi.ENOTDIR)
		p.rmdir("l", abi.ENOTDIR)
		p.rmdir("p", abi.ENOTDIR)
		p.rmdir("none", abi.ENOENT)
		p.rmdir("f/x", abi.ENOTDIR)
	}},
	Case{Name: "rmdir of a link with a slash", Run: func(p *P) {
		p.mkdir("d", 0o755)
		p.symlink("d", "l")
		p.rmdir("l/", either(abi.ENOTDIR, 0)) // POSIX: the directory goes
	}},
	Case{Name: "rmdir of dots", Run: func(p *P) {
		p.mkdir("d", 0o755)
		p.mkdir("d/e", 0o755)
		p.rmdir("d/e/.", abi.EINVAL)
		p.rmdir("d/e/..", either(abi.ENOTEMPTY, abi.EEXIST, abi.EINVAL))
		p.rmdir(".", abi.EINVAL)
		p.stat("d/e")
	}},
	Case{Name: "rmdir of the root", Run: func(p *P) { p.rmdir("/", abi.EBUSY) }},
	Case{Name: "a directory that is made again is another", Run: func(p *P) {
		p.mkdir("d", 0o755)
		fd := p.dirfd("d")
		p.rmdir("d")
		p.mkdir("d", 0o755)
		p.file("d/f", "")
		p.openat(fd, "f", rdonly, 0, abi.ENOENT)
		p.that("the same number", p.fstat(fd).Fileid != p.stat("d").Fileid)
	}},
)

var _ = group("unlink",
	Case{Name: "a file", Run: func(p *P) {
		p.file("f", "")
		p.unlink("f")
		p.gone("f")
		p.unlink("f", abi.ENOENT)
	}},
	Case{Name: "a directory", Run: func(p *P) {
		p.mkdir("d", 0o755)
		p.unlink("d", errUnlinkDir)
		p.unlink("d/", errUnlinkDir)
		p.stat("d")
	}},
	Case{Name: "a symbolic link, not its target", Run: func(p *P) {
		p.file("f", "")
		p.symlink("f", "l")
		p.unlink("l")
		p.gone("l")
		p.stat("f")
	}},
	Case{Name: "a fifo and a socket", Run: func(p *P) {
		p.mkfifo("p", 0o644)
		p.mknod("s", abi.S_IFSOCK|0o644, 0, nil...)
		p.unlink("p")
		p.unlink("s")
	}},
	Case{Name: "with a slash", Run: func(p *P) {
		p.file("f", "")
		p.unlink("f/", abi.ENOTDIR)
		p.stat("f")
	}},
	Case{Name: "dots", Run: func(p *P) {
		p.unlink(".", either(abi.EPERM, abi.EISDIR, abi.EINVAL))
		p.unlink("..", either(abi.EPERM, abi.EISDIR, abi.EINVAL))
	}},
	Case{Name: "below a file or nothing", Run: func(p *P) {
		p.file("f", "")
		p.unlink("f/x", abi.ENOTDIR)
		p.unlink("none/x", abi.ENOENT)
	}},
	Case{Name: "one of two names", Run: func(p *P) {
		p.file("f", "x")
		p.link("f", "g")
		p.nlink("f", 2)
		p.unlink("f")
		p.nlink("g", 1)
		p.holds("g", "x")
	}},
)

var _ = group("link",
	Case{Name: "a second name", Run: func(p *P) {
		p.file("f", "x")
		p.link("f", "g")
		a, b := p.stat("f"), p.stat("g")
		eq(p, "number", a.Fileid, b.Fileid)
		eq(p, "links", a.Nlink, 2)
		fd := p.open("g", wronly, 0)
		p.write(fd, "y")
		p.holds("f", "y")
		p.chmod("f", 0o600)
		p.mode("g", 0o600)
	}},
	Case{Name: "to what is there", Run: func(p *P) {
		p.file("f", "")
		p.file("g", "keep")
		p.mkdir("d", 0o755)
		p.symlink("none", "l")
		for _, n := range []string{"f", "g", "d", "l", "."} {
			p.link("f", n, abi.EEXIST)
		}
		p.holds("g", "keep")
	}},
	Case{Name: "of a directory", Run: func(p *P) {
		p.mkdir("d", 0o755)
		p.link("d", "e", abi.EPERM)
		p.link(".", "e", abi.EPERM)
	}},
	Case{Name: "of what is not there", Run: func(p *P) {
		p.file("f", "")
		p.link("none", "x", abi.ENOENT)
		p.link("f", "none/x", abi.ENOENT)
		p.link("f/x", "y", abi.ENOTDIR)
		p.link("f", "f/x", abi.ENOTDIR)
	}},
	Case{Name: "with slashes", Run: func(p *P) {
		p.file("f", "")
		p.link("f/", "g", abi.ENOTDIR)
		p.link("f", "g/", either(abi.ENOENT, abi.ENOTDIR))
		p.gone("g")
	}},
	Case{Name: "of a fifo", Run: func(p *P) {
		p.mkfifo("p", 0o644)
		p.link("p", "q")
		eq(p, "number", p.lstat("q").Fileid, p.lstat("p").Fileid)
	}},
	Case{Name: "of a file without a name", Run: func(p *P) {
		p.file("f", "")
		fd := p.open("f", rdwr, 0)
		p.unlink("f")
		p.link("f", "g", abi.ENOENT)
		eq(p, "links", p.fstat(fd).Nlink, 0)
	}},
	Case{Name: "many", Run: func(p *P) {
		p.file("f", "")
		for i := range 100 {
			p.link("f", fmt.Sprint("l", i))
		}
		p.nlink("f", 101)
		for i := range 100 {
			p.unlink(fmt.Sprint("l", i))
		}
		p.nlink("f", 1)
	}},
	Case{Name: "too many", Needs: "emlink", Run: func(p *P) {
		p.file("f", "")
		for i := 1; ; i++ {
			err := p.s.Linkat(cwd, "f", cwd, fmt.Sprint("l", i), 0)
			if abi.ErrnoOf(err) == abi.EMLINK {
				p.nlink("f", uint32(i))
				break
			}
			p.check("link", err, nil)
			if i > 70000 {
				p.t.Fatal("no end of links")
			}
		}
		p.unlink("l1")
		p.link("f", "l1")
	}},
)

var _ = group("symlink",
	Case{Name: "any text", Run: func(p *P) {
		for i, s := range []string{"t", "/", "../..", "a b\n", strings.Repeat("t", 200), "./", "\xff"} {
			n := fmt.Sprint("l", i)
			p.symlink(s, n)
			eq(p, "text", p.readlink(n), s)
			st := p.lstat(n)
			eq(p, "type", st.Type, abi.VLNK)
			eq(p, "size", st.Size, int64(len(s)))
		}
	}},
	Case{Name: "a long text", Run: func(p *P) {
		s := strings.Repeat("0123456/", 127) + "end"
		p.symlink(s, "l")
		eq(p, "text", p.readlink("l"), s)
		eq(p, "size", p.lstat("l").Size, int64(len(s)))
	}},
	Case{Name: "over what is there", Run: func(p *P) {
		p.file("f", "")
		p.mkdir("d", 0o755)
		p.symlink("t", "l")
		for _, n := range []string{"f", "d", "l", "."} {
			p.symlink("x", n, abi.EEXIST)
		}
		eq(p, "text", p.readlink("l"), "t")
	}},
	Case{Name: "with a slash", Run: func(p *P) {
		p.symlink("t", "l/", either(abi.ENOENT, abi.ENOTDIR))
		p.gone("l")
	}},
	Case{Name: "readlink of what is none", Run: func(p *P) {
		p.file("f", "")
		p.readlink("f", abi.EINVAL)
		p.readlink(".", abi.EINVAL)
		p.readlink("none", abi.ENOENT)
		p.readlink("f/x", abi.ENOTDIR)
	}},
	Case{Name: "permissions of a link do not matter", Root: true, Run: func(p *P) {
		p.file("f", "x")
		p.symlink("f", "l")
		p.as(7, 7).holds("l", "x")
	}},
)

var _ = group("mknod",
	Case{Name: "fifo", Run: func(p *P) {
		p.mkfifo("p", 0o640)
		eq(p, "type", p.lstat("p").Type, abi.VFIFO)
		p.mode("p", 0o640)
		p.nlink("p", 1)
	}},
	Case{Name: "fifo over what is there", Run: func(p *P) {
		p.file("f", "")
		p.symlink("none", "l")
		p.mkfifo("f", 0o644, abi.EEXIST)
		p.mkfifo("l", 0o644, abi.EEXIST)
		p.mkfifo(".", 0o644, abi.EEXIST)
		p.mkfifo("f/x", 0o644, abi.ENOTDIR)
		p.mkfifo("none/x", 0o644, abi.ENOENT)
	}},
	Case{Name: "socket in the name space", Run: func(p *P) {
		p.mknod("s", abi.S_IFSOCK|0o600, 0)
		eq(p, "type", p.lstat("s").Type, abi.VSOCK)
		p.open("s", rdwr, 0, differ(abi.EOPNOTSUPP, abi.ENXIO, "POSIX has EOPNOTSUPP, Linux ENXIO"))
	}},
	Case{Name: "bind makes a socket", Run: func(p *P) {
		p.check("bind", p.s.Bind("s"), nil)
		eq(p, "type", p.lstat("s").Type, abi.VSOCK)
		p.check("bind", p.s.Bind("s"), []any{abi.EADDRINUSE})
		p.rename("s", "t")
		p.unlink("t")
		p.gone("t")
		p.check("bind", p.s.Bind("none/s"), []any{abi.ENOENT})
	}},
	Case{Name: "bind obeys the umask", Run: func(p *P) {
		p.check("umask", second(p.s.Umask(0o077)), nil)
		p.check("bind", p.s.Bind("s"), nil)
		p.mode("s", 0o700)
	}},
	Case{Name: "bind needs write permission", Root: true, Run: func(p *P) {
		q := p.as(7, 7)
		q.check("bind", q.s.Bind("s"), []any{abi.EACCES})
	}},
	Case{Name: "devices are the super-user's", Root: true, Run: func(p *P) {
		p.chmod(".", 0o777)
		q := p.as(7, 7)
		q.mknod("c", abi.S_IFCHR|0o666, abi.Makedev(1, 3), abi.EPERM)
		q.mknod("b", abi.S_IFBLK|0o666, abi.Makedev(1, 3), abi.EPERM)
		q.mkfifo("p", 0o666)
	}},
	Case{Name: "a directory", Root: true, Run: func(p *P) {
		p.mknod("d", abi.S_IFDIR|0o755, 0, differ(abi.EINVAL, abi.EPERM, "Linux says EPERM of a directory"))
	}},
)

// names sorts a listing.
func names(ns []string) string {
	sort.Strings(ns)
	return strings.Join(ns, " ")
}

var _ = group("getdents",
	Case{Name: "dot and dot-dot", Run: func(p *P) {
		p.mkdir("d", 0o755)
		fd := p.dirfd("d")
		ds, err := p.s.Getdents(fd, make([]byte, 4096))
		p.check("getdents", err, nil)
		eq(p, "entries", len(ds), 2)
		for _, d := range ds {
			want := p.stat("d").Fileid
			if d.Name == ".." {
				want = p.stat(".").Fileid
			}
			eq(p, "number of "+d.Name, d.Fileid, want)
			eq(p, "type of "+d.Name, d.Type, abi.VDIR)
		}
	}},
	Case{Name: "numbers and types", Run: func(p *P) {
		p.mkdir("d", 0o755)
		p.file("d/f", "")
		p.mkdir("d/d", 0o755)
		p.symlink("x", "d/l")
		p.mkfifo("d/p", 0o644)
		ds, err := p.s.Getdents(p.dirfd("d"), make([]byte, 4096))
		p.check("getdents", err, nil)
		eq(p, "entries", len(ds), 6)
		for _, d := range ds[2:] {
			st := p.lstat("d/" + d.Name)
			eq(p, "number of "+d.Name, d.Fileid, st.Fileid)
			if d.Type != abi.VNON {
				eq(p, "type of "+d.Name, d.Type, st.Type)
			}
		}
	}},
	Case{Name: "a buffer at a time", Run: func(p *P) {
		p.mkdir("d", 0o755)
		var want []string
		for i := range 150 {
			n := fmt.Sprintf("name%03d", i)
			p.file("d/"+n, "")
			want = append(want, n)
		}
		for _, size := range []int{280, 1000, 65536} {
			eq(p, "names", names(p.list(p.dirfd("d"), size)), strings.Join(want, " "))
		}
	}},
	Case{Name: "a buffer too small", Run: func(p *P) {
		p.file("f", "")
		_, err := p.s.Getdents(p.dirfd("."), make([]byte, 8))
		p.check("getdents", err, []any{abi.EINVAL})
	}},
	Case{Name: "of what is no directory", Run: func(p *P) {
		p.file("f", "")
		_, err := p.s.Getdents(p.open("f", rdonly, 0), make([]byte, 1000))
		p.check("getdents", err, []any{either(abi.ENOTDIR, abi.EINVAL)})
		_, err = p.s.Getdents(999, make([]byte, 1000))
		p.check("getdents", err, []any{abi.EBADF})
	}},
	Case{Name: "again from the start", Run: func(p *P) {
		p.mkdir("d", 0o755)
		p.file("d/a", "")
		fd := p.dirfd("d")
		eq(p, "names", names(p.list(fd, 1000)), "a")
		eq(p, "names", names(p.list(fd, 1000)), "")
		p.file("d/b", "")
		p.seek(fd, 0, abi.SEEK_SET)
		eq(p, "names", names(p.list(fd, 1000)), "a b")
	}},
	Case{Name: "back to a place", Run: func(p *P) {
		p.mkdir("d", 0o755)
		for i := range 50 {
			p.file(fmt.Sprintf("d/name%02d", i), "")
		}
		fd := p.dirfd("d")
		buf := make([]byte, 400)
		_, err := p.s.Getdents(fd, buf)
		p.check("getdents", err, nil)
		at := p.seek(fd, 0, abi.SEEK_CUR)
		rest := p.list(fd, 400)
		p.that("nothing after the first", len(rest) > 10)
		p.seek(fd, at, abi.SEEK_SET)
		eq(p, "the rest", strings.Join(p.list(fd, 400), " "), strings.Join(rest, " "))
	}},
	Case{Name: "back to a place after changes", Run: func(p *P) {
		p.mkdir("d", 0o755)
		for i := range 50 {
			p.file(fmt.Sprintf("d/name%02d", i), "")
		}
		fd := p.dirfd("d")
		ds, err := p.s.Getdents(fd, make([]byte, 400))
		p.check("getdents", err, nil)
		at := p.seek(fd, 0, abi.SEEK_CUR)
		rest := p.list(fd, 400)
		for _, d := range ds { // what has been read already goes
			if d.Name != "." && d.Name != ".." {
				p.unlink("d/" + d.Name)
			}
		}
		p.seek(fd, at, abi.SEEK_SET)
		eq(p, "the rest", strings.Join(p.list(fd, 400), " "), strings.Join(rest, " "))
	}},
	Case{Name: "names that stay are listed once, whatever changes", Run: func(p *P) {
		p.mkdir("d", 0o755)
		for i := range 100 {
			p.file(fmt.Sprintf("d/stay%02d", i), "")
			p.file(fmt.Sprintf("d/go%02d", i), "")
		}
		fd := p.dirfd("d")
		seen := map[string]int{}
		buf := make([]byte, 500)
		for i := 0; ; i++ {
			ds, err := p.s.Getdents(fd, buf)
			p.check("getdents", err, nil)
			if len(ds) == 0 {
				break
			}
			for _, d := range ds {
				seen[d.Name]++
			}
			if i < 100 {
				p.unlink(fmt.Sprintf("d/go%02d", 99-i))
				p.file(fmt.Sprintf("d/new%02d", i), "")
			}
		}
		for i := range 100 {
			n := fmt.Sprintf("stay%02d", i)
			eq(p, n, seen[n], 1)
		}
		for n, c := range seen {
			p.that(n+" came twice", c == 1)
		}
	}},
	Case{Name: "remove while reading", Run: func(p *P) {
		p.mkdir("d", 0o755)
		for i := range 200 {
			p.file(fmt.Sprintf("d/%03d", i), "")
		}
		fd := p.dirfd("d")
		buf := make([]byte, 600)
		for {
			ds, err := p.s.Getdents(fd, buf)
			p.check("getdents", err, nil)
			if len(ds) == 0 {
				break
			}
			for _, d := range ds {
				if d.Name[0] != '.' {
					p.unlink("d/" + d.Name)
				}
			}
		}
		p.rmdir("d")
	}},
	Case{Name: "two at a time", Run: func(p *P) {
		p.mkdir("d", 0o755)
		for i := range 40 {
			p.file(fmt.Sprintf("d/%02d", i), "")
		}
		a, b := p.dirfd("d"), p.dirfd("d")
		_, err := p.s.Getdents(a, make([]byte, 300))
		p.check("getdents", err, nil)
		eq(p, "names of the other", len(p.list(b, 300)), 40)
	}},
	Case{Name: "sees a rename", Run: func(p *P) {
		p.mkdir("d", 0o755)
		p.file("d/a", "")
		eq(p, "names", names(p.ls("d")), "a")
		p.rename("d/a", "d/b")
		eq(p, "names", names(p.ls("d")), "b")
		p.rename("d/b", "c")
		eq(p, "names", names(p.ls("d")), "")
	}},
	Case{Name: "needs read permission at the open only", Root: true, Run: func(p *P) {
		p.mkdir("d", 0o755)
		p.file("d/f", "")
		q := p.as(7, 7)
		fd := q.dirfd("d")
		p.chmod("d", 0)
		eq(q, "names", names(q.list(fd, 1000)), "f")
		q.open("d", abi.O_DIRECTORY, 0, abi.EACCES)
	}},
)
