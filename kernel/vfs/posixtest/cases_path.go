package posixtest

import (
	"fmt"
	"strings"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// path is a relative path of n bytes, in names of at most 200 that need not be
// there; "." has no effect.
func dots(n int) string {
	return strings.Repeat("./", (n-1)/2) + strings.Repeat(".", 1+(n-1)%2)
}

var _ = group("path",
	Case{Name: "empty", Run: func(p *P) {
		p.stat("", abi.ENOENT)
		p.open("", rdonly, 0, abi.ENOENT)
		p.open("", creat|rdwr, 0o644, abi.ENOENT)
		p.mkdir("", 0o755, abi.ENOENT)
		p.unlink("", abi.ENOENT)
		p.rmdir("", abi.ENOENT)
		p.rename("", "x", abi.ENOENT)
		p.file("f", "")
		p.rename("f", "", abi.ENOENT)
		p.link("f", "", abi.ENOENT)
		p.symlink("", "l", abi.ENOENT)
		p.symlink("t", "", abi.ENOENT)
		p.chdir("", abi.ENOENT)
	}},
	Case{Name: "slashes count once", Run: func(p *P) {
		p.mkdir("d", 0o755)
		p.file("d/f", "x")
		eq(p, "number", p.stat("d///f").Fileid, p.stat("d/f").Fileid)
		eq(p, "number", p.stat("//"+p.dir+"//d//f").Fileid, p.stat("d/f").Fileid)
	}},
	Case{Name: "dot and dot-dot", Run: func(p *P) {
		p.mkdir("d", 0o755)
		p.mkdir("d/e", 0o755)
		id := p.stat("d").Fileid
		for _, s := range []string{"d/.", "d/e/..", "./d", "d/e/../.", "d/./e/./.."} {
			eq(p, s, p.stat(s).Fileid, id)
		}
	}},
	Case{Name: "dot-dot of the root is the root", Run: func(p *P) {
		eq(p, "number", p.stat("/..").Fileid, p.stat("/").Fileid)
		p.stat("/../../.." + p.dir)
	}},
	Case{Name: "dot-dot of a missing name", Run: func(p *P) { p.stat("none/..", abi.ENOENT) }},
	Case{Name: "dot-dot of a file", Run: func(p *P) {
		p.file("f", "")
		p.stat("f/..", abi.ENOTDIR)
		p.stat("f/.", abi.ENOTDIR)
		p.stat("f/", abi.ENOTDIR)
	}},
	Case{Name: "slash behind a directory", Run: func(p *P) {
		p.mkdir("d", 0o755)
		p.stat("d/")
		p.stat("d//")
		p.lstat("d/")
	}},
	Case{Name: "slash behind a symbolic link follows it", Run: func(p *P) {
		p.mkdir("d", 0o755)
		p.symlink("d", "l")
		eq(p, "type", p.lstat("l").Type, abi.VLNK)
		eq(p, "type", p.lstat("l/").Type, abi.VDIR)
		p.symlink("none", "m")
		p.lstat("m/", abi.ENOENT)
		p.file("f", "")
		p.symlink("f", "k")
		p.lstat("k/", abi.ENOTDIR)
	}},
	Case{Name: "dot-dot behind a symbolic link", Run: func(p *P) {
		p.mkdir("a", 0o755)
		p.mkdir("a/b", 0o755)
		p.symlink("a/b", "l")
		eq(p, "number", p.stat("l/..").Fileid, p.stat("a").Fileid)
	}},
	Case{Name: "absolute symbolic links", Run: func(p *P) {
		p.file("f", "x")
		p.symlink(p.dir+"/f", "l")
		p.holds("l", "x")
	}},
	Case{Name: "relative symbolic links start at their directory", Run: func(p *P) {
		p.mkdir("d", 0o755)
		p.file("d/f", "in d")
		p.file("f", "outside")
		p.symlink("f", "d/l")
		p.holds("d/l", "in d")
	}},
	Case{Name: "links of links", Run: func(p *P) {
		p.file("f", "x")
		last := "f"
		for i := range 10 {
			n := fmt.Sprintf("l%d", i)
			p.symlink(last, n)
			last = n
		}
		p.holds(last, "x")
	}},
	Case{Name: "a link to itself", Run: func(p *P) {
		p.symlink("l", "l")
		p.stat("l", abi.ELOOP)
		p.stat("l/x", abi.ELOOP)
		p.open("l", rdonly, 0, abi.ELOOP)
		p.open("l", creat|rdwr, 0o644, abi.ELOOP)
		p.lstat("l")
		p.chmod("l", 0o644, abi.ELOOP)
		p.truncate("l", 0, abi.ELOOP)
		p.chdir("l", abi.ELOOP)
		p.mkdir("l/x", 0o755, abi.ELOOP)
		p.unlink("l/x", abi.ELOOP)
		p.rename("l/x", "y", abi.ELOOP)
		p.unlink("l")
	}},
	Case{Name: "two links to each other", Run: func(p *P) {
		p.symlink("a", "b")
		p.symlink("b", "a")
		p.stat("a", abi.ELOOP)
		p.unlink("a")
		p.stat("b", abi.ENOENT)
	}},
	Case{Name: "more links than are followed", Run: func(p *P) {
		p.file("f", "")
		last := "f"
		for i := range 60 {
			n := fmt.Sprintf("l%d", i)
			p.symlink(last, n)
			last = n
		}
		p.stat(last, abi.ELOOP)
	}},
	Case{Name: "the longest name", Run: func(p *P) {
		n := strings.Repeat("n", 255)
		p.file(n, "x")
		p.holds(n, "x")
		eq(p, "listed", p.ls(".")[0], n)
		p.rename(n, "short")
		p.rename("short", n)
		p.unlink(n)
	}},
	Case{Name: "a name too long", Run: func(p *P) {
		n := strings.Repeat("n", 256)
		p.file("f", "")
		p.stat(n, abi.ENAMETOOLONG)
		p.open(n, creat|rdwr, 0o644, abi.ENAMETOOLONG)
		p.mkdir(n, 0o755, abi.ENAMETOOLONG)
		p.unlink(n, abi.ENAMETOOLONG)
		p.rmdir(n, abi.ENAMETOOLONG)
		p.rename("f", n, abi.ENAMETOOLONG)
		p.rename(n, "f", abi.ENAMETOOLONG)
		p.link("f", n, abi.ENAMETOOLONG)
		p.symlink("t", n, abi.ENAMETOOLONG)
		p.mkfifo(n, 0o644, abi.ENAMETOOLONG)
		p.chmod(n, 0o644, abi.ENAMETOOLONG)
		p.chdir(n, abi.ENAMETOOLONG)
		p.stat(n+"/x", abi.ENAMETOOLONG)
	}},
	Case{Name: "a path too long", Run: func(p *P) {
		n := dots(5000)
		p.stat(n, abi.ENAMETOOLONG)
		p.open(n, rdonly, 0, abi.ENAMETOOLONG)
		p.mkdir(n, 0o755, abi.ENAMETOOLONG)
		p.unlink(n, abi.ENAMETOOLONG)
		p.chdir(n, abi.ENAMETOOLONG)
		p.rename(n, "f", abi.ENAMETOOLONG)
		p.symlink(n, "l", abi.ENAMETOOLONG)
		p.access(n, abi.F_OK, abi.ENAMETOOLONG)
		p.truncate(n, 0, abi.ENAMETOOLONG)
	}},
	Case{Name: "a path just short enough", Run: func(p *P) {
		p.stat(dots(1023))
	}},
	Case{Name: "deeper than a path is long", Run: func(p *P) {
		n := strings.Repeat("d", 200)
		for range 30 {
			p.mkdir(n, 0o755)
			p.chdir(n)
		}
		p.file("f", "deep")
		p.holds("f", "deep")
		for range 30 {
			p.chdir("..")
		}
		eq(p, "number", p.stat(".").Fileid, p.stat(p.dir).Fileid)
	}},
	Case{Name: "any byte but slash and NUL", Needs: "bytes", Run: func(p *P) {
		for _, n := range []string{"a b", "\x01\x7f", "\xff\xfe", "\n", "...", " ", "-", "é"} {
			p.file(n, n)
			p.holds(n, n)
			eq(p, "listed", p.ls(".")[0], n)
			p.unlink(n)
		}
	}},
	Case{Name: "case matters", Needs: "case", Run: func(p *P) {
		p.file("a", "small")
		p.file("A", "big")
		p.holds("a", "small")
		p.holds("A", "big")
	}},
	Case{Name: "getcwd", Run: func(p *P) {
		p.mkdir("d", 0o755)
		p.chdir("d")
		got, err := p.s.Getcwd()
		p.check("getcwd", err, nil)
		eq(p, "cwd", got, p.dir+"/d")
		p.rename(p.dir+"/d", p.dir+"/e")
		got, err = p.s.Getcwd()
		p.check("getcwd", err, nil)
		eq(p, "cwd", got, p.dir+"/e")
	}},
	Case{Name: "a removed working directory", Run: func(p *P) {
		p.mkdir("d", 0o755)
		p.chdir("d")
		p.rmdir("../d")
		_, err := p.s.Getcwd()
		p.check("getcwd", err, []any{abi.ENOENT})
		p.stat(".")
		p.open("f", creat|rdwr, 0o644, abi.ENOENT)
		p.mkdir("x", 0o755, abi.ENOENT)
		p.chdir(p.dir)
	}},
	Case{Name: "chdir", Run: func(p *P) {
		p.file("f", "")
		p.chdir("f", abi.ENOTDIR)
		p.chdir("none", abi.ENOENT)
		p.mkdir("d", 0o755)
		p.symlink("d", "l")
		p.chdir("l")
		got, err := p.s.Getcwd()
		p.check("getcwd", err, nil)
		eq(p, "cwd", got, p.dir+"/d")
	}},
	Case{Name: "fchdir", Run: func(p *P) {
		p.mkdir("d", 0o755)
		fd := p.dirfd("d")
		p.check("fchdir", p.s.Fchdir(fd), nil)
		p.file("f", "x")
		p.holds("../d/f", "x")
		p.check("fchdir", p.s.Fchdir(p.open("f", rdonly, 0)), []any{abi.ENOTDIR})
		p.check("fchdir", p.s.Fchdir(999), []any{abi.EBADF})
	}},
	Case{Name: "chroot", Root: true, Run: func(p *P) {
		p.mkdir("r", 0o755)
		p.mkdir("r/d", 0o755)
		p.file("r/d/f", "inside")
		p.file("f", "outside")
		p.symlink("/d/f", "r/abs")
		p.symlink("../../../../../../../../../../d/f", "r/d/up")
		q := p.again()
		q.check("chroot", q.s.Chroot("r"), nil)
		q.chdir("/")
		q.holds("/d/f", "inside")
		q.holds("/abs", "inside")
		q.holds("/d/up", "inside")
		q.holds("/../../d/f", "inside")
		q.stat("../f", abi.ENOENT)
		eq(q, "number", q.stat("/..").Fileid, q.stat("/").Fileid)
		got, err := q.s.Getcwd()
		q.check("getcwd", err, nil)
		eq(q, "cwd", got, "/")
		p.holds("f", "outside")
	}},
	Case{Name: "chroot to what is no directory", Root: true, Run: func(p *P) {
		p.file("f", "")
		p.check("chroot", p.s.Chroot("f"), []any{abi.ENOTDIR})
		p.check("chroot", p.s.Chroot("none"), []any{abi.ENOENT})
	}},
	Case{Name: "chroot by a user", Root: true, Run: func(p *P) {
		p.mkdir("d", 0o755)
		q := p.as(7, 7)
		q.check("chroot", q.s.Chroot("d"), []any{abi.EPERM})
	}},
	Case{Name: "names that come and go are not remembered", Run: func(p *P) {
		for i := range 20 {
			p.stat("f", abi.ENOENT)
			p.file("f", fmt.Sprint(i))
			p.holds("f", fmt.Sprint(i))
			p.rename("f", "g")
			p.stat("f", abi.ENOENT)
			p.holds("g", fmt.Sprint(i))
			p.unlink("g")
		}
	}},
	Case{Name: "a moved directory is found in its new place", Run: func(p *P) {
		p.mkdir("a", 0o755)
		p.mkdir("a/b", 0o755)
		p.mkdir("c", 0o755)
		p.file("a/b/f", "x")
		p.rename("a/b", "c/b")
		p.holds("c/b/f", "x")
		p.stat("a/b/f", abi.ENOENT)
		eq(p, "dot-dot", p.stat("c/b/..").Fileid, p.stat("c").Fileid)
	}},
)
