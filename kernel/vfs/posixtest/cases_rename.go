package posixtest

import "github.com/rumpus-kernel/rumpus/modapi/abi"

const (
	noreplace = abi.RENAME_NOREPLACE
	exchange  = abi.RENAME_EXCHANGE
)

var _ = group("rename",
	Case{Name: "a file", Run: func(p *P) {
		p.file("f", "x")
		id := p.stat("f").Fileid
		p.rename("f", "g")
		p.gone("f")
		p.holds("g", "x")
		eq(p, "number", p.stat("g").Fileid, id)
		p.nlink("g", 1)
	}},
	Case{Name: "over a file", Run: func(p *P) {
		p.file("f", "new")
		p.file("g", "old")
		p.rename("f", "g")
		p.gone("f")
		p.holds("g", "new")
	}},
	Case{Name: "over one of two names", Run: func(p *P) {
		p.file("f", "new")
		p.file("g", "old")
		p.link("g", "h")
		p.rename("f", "g")
		p.holds("h", "old")
		p.nlink("h", 1)
	}},
	Case{Name: "of two names of one file does nothing", Run: func(p *P) {
		p.file("f", "x")
		p.link("f", "g")
		p.rename("f", "g")
		p.nlink("f", 2)
		p.nlink("g", 2)
		p.rename("f", "f")
		p.nlink("f", 2)
	}},
	Case{Name: "a directory", Run: func(p *P) {
		p.mkdir("a", 0o755)
		p.mkdir("b", 0o755)
		p.file("a/f", "x")
		p.rename("a", "b/c")
		p.holds("b/c/f", "x")
		eq(p, "dot-dot", p.stat("b/c/..").Fileid, p.stat("b").Fileid)
	}},
	Case{Name: "a directory over an empty one", Run: func(p *P) {
		p.mkdir("a", 0o755)
		p.file("a/f", "x")
		p.mkdir("b", 0o755)
		p.rename("a", "b")
		p.gone("a")
		p.holds("b/f", "x")
	}},
	Case{Name: "a directory over a full one", Run: func(p *P) {
		p.mkdir("a", 0o755)
		p.mkdir("b", 0o755)
		p.file("b/f", "")
		p.rename("a", "b", either(abi.ENOTEMPTY, abi.EEXIST))
		p.stat("a")
	}},
	Case{Name: "a directory over a file", Run: func(p *P) {
		p.mkdir("a", 0o755)
		p.file("f", "")
		p.symlink("a", "l")
		p.rename("a", "f", abi.ENOTDIR)
		p.rename("a", "l", abi.ENOTDIR)
	}},
	Case{Name: "a file over a directory", Run: func(p *P) {
		p.mkdir("d", 0o755)
		p.file("f", "")
		p.symlink("x", "l")
		p.rename("f", "d", abi.EISDIR)
		p.rename("l", "d", abi.EISDIR)
	}},
	Case{Name: "a directory into itself", Run: func(p *P) {
		p.mkdir("a", 0o755)
		p.mkdir("a/b", 0o755)
		p.rename("a", "a/x", abi.EINVAL)
		p.rename("a", "a/b/x", abi.EINVAL)
		p.rename("a", "a/b", abi.EINVAL)
		p.rename("a/b", "a", either(abi.ENOTEMPTY, abi.EEXIST))
		p.rename("a", "a")
	}},
	Case{Name: "dots", Run: func(p *P) {
		p.mkdir("a", 0o755)
		p.mkdir("b", 0o755)
		bad := either(abi.EINVAL, abi.EBUSY)
		p.rename("a/.", "c", bad)
		p.rename("a/..", "c", bad)
		p.rename("a", "b/.", bad)
		p.rename("a", "b/..", either(abi.EINVAL, abi.EBUSY, abi.ENOTEMPTY, abi.EEXIST))
	}},
	Case{Name: "the root", Run: func(p *P) {
		p.rename("/", "x", either(abi.EBUSY, abi.EXDEV)) // Linux: another file system
		p.mkdir("d", 0o755)
		p.rename("d", "/", either(abi.EBUSY, abi.EINVAL, abi.EXDEV))
	}},
	Case{Name: "what is not there", Run: func(p *P) {
		p.file("f", "")
		p.rename("none", "g", abi.ENOENT)
		p.rename("f", "none/g", abi.ENOENT)
		p.rename("f/x", "g", abi.ENOTDIR)
		p.rename("f", "f/x", abi.ENOTDIR)
		p.rename("none/x", "g", abi.ENOENT)
		p.stat("f")
	}},
	Case{Name: "slashes behind directories", Run: func(p *P) {
		p.mkdir("a", 0o755)
		p.rename("a/", "b/")
		p.stat("b")
		p.rename("b", "c/")
		p.stat("c")
	}},
	Case{Name: "slashes behind files", Run: func(p *P) {
		p.file("f", "")
		p.rename("f/", "g", abi.ENOTDIR)
		p.rename("f", "g/", abi.ENOTDIR)
		p.stat("f")
	}},
	Case{Name: "symbolic links are not followed", Run: func(p *P) {
		p.file("f", "x")
		p.symlink("f", "l")
		p.rename("l", "m")
		eq(p, "text", p.readlink("m"), "f")
		p.file("g", "y")
		p.rename("g", "m")
		p.holds("m", "y")
		p.holds("f", "x")
	}},
	Case{Name: "a dangling link is replaced", Run: func(p *P) {
		p.symlink("none", "l")
		p.file("f", "x")
		p.rename("f", "l")
		eq(p, "type", p.lstat("l").Type, abi.VREG)
	}},
	Case{Name: "fifos", Run: func(p *P) {
		p.mkfifo("p", 0o644)
		p.file("f", "")
		p.rename("p", "f")
		eq(p, "type", p.lstat("f").Type, abi.VFIFO)
	}},
	Case{Name: "many times", Run: func(p *P) {
		p.mkdir("a", 0o755)
		p.mkdir("b", 0o755)
		p.file("a/f", "x")
		for range 100 {
			p.rename("a/f", "b/f")
			p.rename("b/f", "a/f")
		}
		p.holds("a/f", "x")
		eq(p, "left", len(p.ls("b")), 0)
	}},
	Case{Name: "of the working directory", Run: func(p *P) {
		p.mkdir("a", 0o755)
		p.mkdir("b", 0o755)
		p.chdir("a")
		p.rename("../a", "../b/c")
		got, err := p.s.Getcwd()
		p.check("getcwd", err, nil)
		eq(p, "cwd", got, p.dir+"/b/c")
		p.file("f", "x")
		p.holds("../../b/c/f", "x")
	}},
	Case{Name: "needs write permission in both directories", Root: true, Run: func(p *P) {
		p.mkdir("open", 0o755)
		p.chmod("open", 0o777)
		p.mkdir("shut", 0o755)
		p.file("open/f", "")
		p.file("shut/f", "")
		q := p.as(7, 7)
		q.rename("open/f", "shut/g", abi.EACCES)
		q.rename("shut/f", "open/g", abi.EACCES)
		q.rename("open/f", "open/g")
	}},
	Case{Name: "a directory of another's to another parent", Root: true, Run: func(p *P) {
		p.mkdir("a", 0o755)
		p.mkdir("b", 0o755)
		p.chmod("a", 0o777)
		p.chmod("b", 0o777)
		p.mkdir("a/d", 0o755)
		q := p.as(7, 7)
		q.rename("a/d", "a/e")
		q.rename("a/e", "b/e", abi.EACCES)
	}},
	Case{Name: "sticky directories", Root: true, Run: func(p *P) {
		p.mkdir("s", 0o755)
		p.chmod("s", 0o1777)
		p.mkdir("o", 0o755)
		p.chmod("o", 0o777)
		p.file("s/root", "")
		q := p.as(7, 7)
		q.rename("s/root", "o/x", abi.EPERM)
		q.file("s/mine", "m")
		q.rename("s/mine", "s/root", abi.EPERM)
		q.rename("s/mine", "o/mine")
		q.rename("o/mine", "s/mine")
		p.rename("s/mine", "s/root")
		p.holds("s/root", "m")
	}},
	Case{Name: "NOREPLACE", Needs: "rename2", Run: func(p *P) {
		p.file("f", "new")
		p.file("g", "old")
		p.rename2("f", "g", noreplace, abi.EEXIST)
		p.holds("g", "old")
		p.rename2("f", "h", noreplace)
		p.holds("h", "new")
		p.gone("f")
	}},
	Case{Name: "NOREPLACE on itself, directories and links", Needs: "rename2", Run: func(p *P) {
		p.file("f", "")
		p.mkdir("d", 0o755)
		p.mkdir("e", 0o755)
		p.symlink("none", "l")
		p.rename2("f", "f", noreplace, abi.EEXIST)
		p.rename2("d", "e", noreplace, abi.EEXIST)
		p.rename2("f", "l", noreplace, abi.EEXIST)
	}},
	Case{Name: "EXCHANGE of files", Needs: "rename2", Run: func(p *P) {
		p.mkdir("d", 0o755)
		p.file("f", "one")
		p.file("d/g", "two")
		p.rename2("f", "d/g", exchange)
		p.holds("f", "two")
		p.holds("d/g", "one")
	}},
	Case{Name: "EXCHANGE of a file and a directory", Needs: "rename2", Run: func(p *P) {
		p.mkdir("a", 0o755)
		p.mkdir("a/d", 0o755)
		p.file("a/d/x", "in d")
		p.mkdir("b", 0o755)
		p.file("b/f", "file")
		p.rename2("a/d", "b/f", exchange)
		p.holds("a/d", "file")
		p.holds("b/f/x", "in d")
		eq(p, "dot-dot", p.stat("b/f/..").Fileid, p.stat("b").Fileid)
	}},
	Case{Name: "EXCHANGE of full directories", Needs: "rename2", Run: func(p *P) {
		p.mkdir("a", 0o755)
		p.mkdir("b", 0o755)
		p.file("a/f", "a")
		p.file("b/f", "b")
		p.rename2("a", "b", exchange)
		p.holds("a/f", "b")
		p.holds("b/f", "a")
	}},
	Case{Name: "EXCHANGE refused", Needs: "rename2", Run: func(p *P) {
		p.mkdir("a", 0o755)
		p.mkdir("a/b", 0o755)
		p.file("f", "")
		p.rename2("f", "none", exchange, abi.ENOENT)
		p.rename2("none", "f", exchange, abi.ENOENT)
		p.rename2("a", "a/b", exchange, abi.EINVAL)
		p.rename2("a/b", "a", exchange, abi.EINVAL)
		p.rename2("f", "f", exchange)
		p.rename2("f", "a", exchange|noreplace, abi.EINVAL)
		p.rename2("f", "a", 1<<20, abi.EINVAL)
	}},
	Case{Name: "EXCHANGE keeps the links of directories", Needs: "rename2 dirlinks", Run: func(p *P) {
		p.mkdir("a", 0o755)
		p.mkdir("a/d", 0o755)
		p.mkdir("b", 0o755)
		p.file("b/f", "")
		p.rename2("a/d", "b/f", exchange)
		p.nlink("a", 2)
		p.nlink("b", 3)
	}},
	Case{Name: "EXCHANGE in sticky directories", Root: true, Needs: "rename2", Run: func(p *P) {
		p.mkdir("s", 0o755)
		p.chmod("s", 0o1777)
		p.file("s/root", "")
		q := p.as(7, 7)
		q.file("s/mine", "")
		q.rename2("s/mine", "s/root", exchange, abi.EPERM)
	}},
)
