package posixtest

import "github.com/rumpus-kernel/rumpus/modapi/abi"

// dir makes a directory and answers a descriptor of it; the process is
// elsewhere.
func (p *P) dir2(path string) int {
	p.t.Helper()
	p.mkdir(path, 0o755)
	return p.dirfd(path)
}

var _ = group("at",
	Case{Name: "openat", Run: func(p *P) {
		d := p.dir2("d")
		fd := p.openat(d, "f", creat|rdwr, 0o644)
		p.write(fd, "x")
		p.holds("d/f", "x")
		p.openat(d, "none", rdonly, 0, abi.ENOENT)
	}},
	Case{Name: "an absolute path needs no descriptor", Run: func(p *P) {
		p.file("f", "x")
		p.close(p.openat(-1, p.dir+"/f", rdonly, 0))
		p.check("fstatat", second(p.s.Fstatat(999, p.dir+"/f", 0)), nil)
		p.check("mkdirat", p.s.Mkdirat(999, p.dir+"/d", 0o755), nil)
	}},
	Case{Name: "a bad descriptor", Run: func(p *P) {
		p.openat(999, "f", rdonly, 0, abi.EBADF)
		p.openat(-1, "f", creat|rdwr, 0o644, abi.EBADF)
		p.check("mkdirat", p.s.Mkdirat(999, "d", 0o755), []any{abi.EBADF})
		p.check("fstatat", second(p.s.Fstatat(999, "d", 0)), []any{abi.EBADF})
		p.check("unlinkat", p.s.Unlinkat(999, "d", 0), []any{abi.EBADF})
		p.check("renameat", p.s.Renameat(999, "d", cwd, "e", 0), []any{abi.EBADF})
		p.check("linkat", p.s.Linkat(999, "d", cwd, "e", 0), []any{abi.EBADF})
		p.check("symlinkat", p.s.Symlinkat("t", 999, "e"), []any{abi.EBADF})
		p.check("readlinkat", second(p.s.Readlinkat(999, "e")), []any{abi.EBADF})
		p.check("fchmodat", p.s.Fchmodat(999, "e", 0, 0), []any{abi.EBADF})
		p.check("fchownat", p.s.Fchownat(999, "e", 0, 0, 0), []any{abi.EBADF})
		p.check("faccessat", p.s.Faccessat(999, "e", 0, 0), []any{abi.EBADF})
		p.check("utimensat", p.s.Utimensat(999, "e", abi.Timespec{}, abi.Timespec{}, 0), []any{abi.EBADF})
		p.check("mkfifoat", p.s.Mkfifoat(999, "e", 0o644), []any{abi.EBADF})
	}},
	Case{Name: "a descriptor of a file", Run: func(p *P) {
		p.file("f", "")
		fd := p.open("f", rdonly, 0)
		p.openat(fd, "x", rdonly, 0, abi.ENOTDIR)
		p.check("mkdirat", p.s.Mkdirat(fd, "d", 0o755), []any{abi.ENOTDIR})
		p.check("fstatat", second(p.s.Fstatat(fd, "d", 0)), []any{abi.ENOTDIR})
		p.check("unlinkat", p.s.Unlinkat(fd, "d", 0), []any{abi.ENOTDIR})
		p.check("renameat", p.s.Renameat(cwd, "f", fd, "e", 0), []any{abi.ENOTDIR})
		p.check("symlinkat", p.s.Symlinkat("t", fd, "e"), []any{abi.ENOTDIR})
	}},
	Case{Name: "a directory that moves keeps its descriptor", Run: func(p *P) {
		p.mkdir("a", 0o755)
		d := p.dir2("a/b")
		p.rename("a/b", "c")
		p.close(p.openat(d, "f", creat|rdwr, 0o644))
		p.stat("c/f")
		p.close(p.openat(d, "../c/f", rdonly, 0))
	}},
	Case{Name: "dot-dot from a descriptor", Run: func(p *P) {
		d := p.dir2("d")
		p.file("f", "x")
		st, err := p.s.Fstatat(d, "../f", 0)
		p.check("fstatat", err, nil)
		eq(p, "number", st.Fileid, p.stat("f").Fileid)
	}},
	Case{Name: "mkdirat and unlinkat", Run: func(p *P) {
		d := p.dir2("d")
		p.check("mkdirat", p.s.Mkdirat(d, "e", 0o700), nil)
		p.mode("d/e", 0o700)
		p.check("unlinkat", p.s.Unlinkat(d, "e", 0), []any{differ(abi.EPERM, abi.EISDIR, "POSIX has EPERM for unlink of a directory, Linux EISDIR")})
		p.check("unlinkat", p.s.Unlinkat(d, "e", abi.AT_REMOVEDIR), nil)
		p.gone("d/e")
		p.file("d/f", "")
		p.check("unlinkat", p.s.Unlinkat(d, "f", abi.AT_REMOVEDIR), []any{abi.ENOTDIR})
		p.check("unlinkat", p.s.Unlinkat(d, "f", 0), nil)
	}},
	Case{Name: "renameat", Run: func(p *P) {
		a, b := p.dir2("a"), p.dir2("b")
		p.file("a/f", "x")
		p.check("renameat", p.s.Renameat(a, "f", b, "g", 0), nil)
		p.gone("a/f")
		p.holds("b/g", "x")
		p.check("renameat", p.s.Renameat(b, "g", cwd, "h", 0), nil)
		p.holds("h", "x")
	}},
	Case{Name: "linkat", Run: func(p *P) {
		a, b := p.dir2("a"), p.dir2("b")
		p.file("a/f", "x")
		p.check("linkat", p.s.Linkat(a, "f", b, "g", 0), nil)
		eq(p, "number", p.stat("b/g").Fileid, p.stat("a/f").Fileid)
		p.nlink("a/f", 2)
	}},
	Case{Name: "linkat without AT_SYMLINK_FOLLOW links the link", Run: func(p *P) {
		p.file("f", "")
		p.symlink("f", "l")
		p.check("linkat", p.s.Linkat(cwd, "l", cwd, "m", 0), nil)
		eq(p, "type", p.lstat("m").Type, abi.VLNK)
		eq(p, "number", p.lstat("m").Fileid, p.lstat("l").Fileid)
	}},
	Case{Name: "linkat with AT_SYMLINK_FOLLOW", Run: func(p *P) {
		p.file("f", "")
		p.symlink("f", "l")
		p.check("linkat", p.s.Linkat(cwd, "l", cwd, "m", abi.AT_SYMLINK_FOLLOW), nil)
		eq(p, "number", p.lstat("m").Fileid, p.lstat("f").Fileid)
		p.symlink("none", "k")
		p.check("linkat", p.s.Linkat(cwd, "k", cwd, "n", abi.AT_SYMLINK_FOLLOW), []any{abi.ENOENT})
	}},
	Case{Name: "symlinkat and readlinkat", Run: func(p *P) {
		d := p.dir2("d")
		p.check("symlinkat", p.s.Symlinkat("the text", d, "l"), nil)
		s, err := p.s.Readlinkat(d, "l")
		p.check("readlinkat", err, nil)
		eq(p, "text", s, "the text")
	}},
	Case{Name: "mkfifoat", Run: func(p *P) {
		d := p.dir2("d")
		p.check("mkfifoat", p.s.Mkfifoat(d, "p", 0o640), nil)
		eq(p, "type", p.lstat("d/p").Type, abi.VFIFO)
		p.mode("d/p", 0o640)
		p.check("mkfifoat", p.s.Mkfifoat(d, "p", 0o640), []any{abi.EEXIST})
	}},
	Case{Name: "mknodat", Run: func(p *P) {
		d := p.dir2("d")
		p.check("mknodat", p.s.Mknodat(d, "p", abi.S_IFIFO|0o600, 0), nil)
		eq(p, "type", p.lstat("d/p").Type, abi.VFIFO)
	}},
	Case{Name: "mknodat of devices", Root: true, Needs: "devices", Run: func(p *P) {
		d := p.dir2("d")
		for typ, v := range map[uint32]abi.VType{abi.S_IFCHR: abi.VCHR, abi.S_IFBLK: abi.VBLK} {
			p.check("mknodat", p.s.Mknodat(d, "n", typ|0o600, abi.Makedev(7, 300)), nil)
			st := p.lstat("d/n")
			eq(p, "type", st.Type, v)
			eq(p, "device", st.Rdev, abi.Makedev(7, 300))
			p.unlink("d/n")
		}
	}},
	Case{Name: "fchmodat", Run: func(p *P) {
		d := p.dir2("d")
		p.file("d/f", "")
		p.check("fchmodat", p.s.Fchmodat(d, "f", 0o751, 0), nil)
		p.mode("d/f", 0o751)
	}},
	Case{Name: "fchownat", Root: true, Run: func(p *P) {
		d := p.dir2("d")
		p.file("d/f", "")
		p.check("fchownat", p.s.Fchownat(d, "f", 3, 4, 0), nil)
		p.owner("d/f", 3, 4)
		p.symlink("f", "d/l")
		p.check("fchownat", p.s.Fchownat(d, "l", 5, 6, abi.AT_SYMLINK_NOFOLLOW), nil)
		p.owner("d/l", 5, 6)
		p.owner("d/f", 3, 4)
		p.check("fchownat", p.s.Fchownat(d, "l", 7, 8, 0), nil)
		p.owner("d/f", 7, 8)
	}},
	Case{Name: "fstatat", Run: func(p *P) {
		d := p.dir2("d")
		p.file("d/f", "abc")
		p.symlink("f", "d/l")
		st, err := p.s.Fstatat(d, "l", 0)
		p.check("fstatat", err, nil)
		eq(p, "size", st.Size, 3)
		st, err = p.s.Fstatat(d, "l", abi.AT_SYMLINK_NOFOLLOW)
		p.check("fstatat", err, nil)
		eq(p, "type", st.Type, abi.VLNK)
	}},
	Case{Name: "faccessat", Root: true, Run: func(p *P) {
		d := p.dir2("d")
		p.file("d/f", "")
		p.chmod("d/f", 0o444)
		q := p.as(7, 7)
		e := q.dirfd("d")
		q.check("faccessat", q.s.Faccessat(e, "f", abi.R_OK, 0), nil)
		q.check("faccessat", q.s.Faccessat(e, "f", abi.W_OK, 0), []any{abi.EACCES})
		p.check("faccessat", p.s.Faccessat(d, "f", abi.W_OK, 0), nil)
	}},
	Case{Name: "faccessat by real and effective ids", Root: true, Run: func(p *P) {
		p.file("f", "")
		p.chmod("f", 0o600)
		q := p.again()
		q.check("setreuid", q.s.Setreuid(7, 0), nil)
		q.check("faccessat", q.s.Faccessat(cwd, "f", abi.R_OK, 0), []any{abi.EACCES})
		q.check("faccessat", q.s.Faccessat(cwd, "f", abi.R_OK, abi.AT_EACCESS), nil)
		q.close(q.open("f", rdonly, 0))
	}},
	Case{Name: "faccessat of a symbolic link", Run: func(p *P) {
		p.symlink("none", "l")
		p.check("faccessat", p.s.Faccessat(cwd, "l", abi.F_OK, 0), []any{abi.ENOENT})
		p.check("faccessat", p.s.Faccessat(cwd, "l", abi.F_OK, abi.AT_SYMLINK_NOFOLLOW), nil)
	}},
	Case{Name: "utimensat", Run: func(p *P) {
		d := p.dir2("d")
		p.file("d/f", "")
		p.check("utimensat", p.s.Utimensat(d, "f", abi.Timespec{Sec: 10, Nsec: 11}, abi.Timespec{Sec: 20, Nsec: 21}, 0), nil)
		st := p.stat("d/f")
		eq(p, "atime", st.Atime, abi.Timespec{Sec: 10, Nsec: 11})
		eq(p, "mtime", st.Mtime, abi.Timespec{Sec: 20, Nsec: 21})
	}},
	Case{Name: "utimensat of a symbolic link", Run: func(p *P) {
		p.file("f", "")
		p.symlink("f", "l")
		before := p.stat("f").Mtime
		p.check("utimensat", p.s.Utimensat(cwd, "l", abi.Timespec{Sec: 10}, abi.Timespec{Sec: 20}, abi.AT_SYMLINK_NOFOLLOW), nil)
		eq(p, "mtime of the link", p.lstat("l").Mtime, abi.Timespec{Sec: 20})
		eq(p, "mtime of the file", p.stat("f").Mtime, before)
	}},
	Case{Name: "AT_FDCWD is the working directory", Run: func(p *P) {
		p.mkdir("d", 0o755)
		p.chdir("d")
		p.close(p.openat(cwd, "f", creat|rdwr, 0o644))
		p.stat(p.dir + "/d/f")
	}},
	Case{Name: "a descriptor of a directory that cannot be searched any more", Root: true, Run: func(p *P) {
		p.mkdir("d", 0o755)
		p.file("d/f", "")
		q := p.as(7, 7)
		fd := q.dirfd("d")
		p.chmod("d", 0o700)
		q.openat(fd, "f", rdonly, 0, abi.EACCES)
	}},
)
